//! From COCO JSON.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::CARRIED;
use crate::dataset::find::{Keep, Query, coco_files};
use crate::dataset::folders::read_text;
use crate::dataset::{
    Class, Dataset, Form, Image, Object, Rect, Traits, data_error, relative_name,
};
use crate::error::{Error, Result};
use crate::source::picture_size;

/// The largest file that is read. COCO's own of 118,000 pictures has 449 MB.
const MAX_BYTES: u64 = 1 << 30;

#[derive(Deserialize)]
struct File<'a> {
    #[serde(borrow)]
    info: Option<&'a RawValue>,
    #[serde(borrow)]
    licenses: Option<&'a RawValue>,
    #[serde(borrow)]
    images: Vec<&'a RawValue>,
    #[serde(borrow)]
    annotations: Vec<&'a RawValue>,
    #[serde(borrow)]
    categories: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct CategoryRecord {
    id: u64,
    name: String,
}

#[derive(Deserialize)]
struct ImageRecord {
    id: u64,
    file_name: String,
    #[serde(default)]
    width: f64,
    #[serde(default)]
    height: f64,
}

#[derive(Deserialize)]
struct AnnotationRecord {
    id: Option<u64>,
    image_id: u64,
    category_id: u64,
    bbox: [f64; 4],
    area: Option<f64>,
    #[serde(default)]
    iscrowd: Flag,
    #[serde(default)]
    attributes: serde_json::Map<String, serde_json::Value>,
}

/// 0 or 1, which some programs write as false or true.
#[derive(Deserialize)]
#[serde(untagged)]
enum Flag {
    Number(u8),
    Truth(bool),
}

impl Default for Flag {
    fn default() -> Self {
        Self::Truth(false)
    }
}

impl Flag {
    fn is_set(&self) -> bool {
        !matches!(self, Self::Number(0) | Self::Truth(false))
    }
}

/// Reads the files of a data set, one for each split.
pub fn read(query: &Query<'_>) -> Result<Dataset> {
    let files = split_files(query)?;
    let mut whole: Option<Dataset> = None;
    for (split, path) in files {
        let part = read_file(query, &path, split)?;
        match &mut whole {
            None => whole = Some(part),
            Some(whole) => join(whole, part, &path)?,
        }
    }
    let mut dataset = whole.ok_or_else(|| data_error(query.path, "no COCO .json file is here"))?;
    number(&mut dataset.images);
    Ok(dataset)
}

/// The files to read, each with the name of its split if it is one of several.
fn split_files(query: &Query<'_>) -> Result<Vec<(Option<String>, PathBuf)>> {
    if query.path.is_file() {
        return match query.split {
            None => Ok(vec![(None, query.path.into())]),
            Some(split) => Err(Error::Usage(format!(
                "{}: one file has no parts; name its folder for --split {split}",
                query.path.display()
            ))),
        };
    }
    let mut files: Vec<(Option<String>, PathBuf)> = coco_files(query.path)
        .into_iter()
        .map(|path| (split_name(&path), path))
        .collect();
    if let Some(wanted) = query.split {
        let names: Vec<String> = files.iter().filter_map(|(name, _)| name.clone()).collect();
        files.retain(|(name, _)| name.as_deref() == Some(wanted));
        if files.is_empty() {
            return Err(Error::Usage(format!(
                "{}: there is no split {wanted}; there is {}",
                query.path.display(),
                names.join(", ")
            )));
        }
    } else if files.len() == 1 {
        files[0].0 = None;
    }
    Ok(files)
}

/// `instances_val.json` holds the split `val`; the split `default` is none.
fn split_name(path: &Path) -> Option<String> {
    let stem = path.file_stem()?.to_string_lossy();
    let name = stem.strip_prefix("instances_").unwrap_or(&stem);
    (name != "default").then(|| name.to_owned())
}

/// Adds the pictures of another split.
fn join(whole: &mut Dataset, part: Dataset, path: &Path) -> Result<()> {
    let keys = |dataset: &Dataset| {
        let key = |class: &Class| (class.id, class.name.clone());
        dataset.classes.iter().map(key).collect::<Vec<_>>()
    };
    if keys(whole) != keys(&part) {
        return Err(data_error(
            path,
            "its categories are not those of the other files; read it alone",
        ));
    }
    whole.images.extend(part.images);
    Ok(())
}

/// Orders pictures by id; gives them new ones if two files use the same.
fn number(images: &mut [Image]) {
    let mut seen = HashSet::new();
    if images.iter().all(|image| seen.insert(image.id)) {
        images.sort_by_key(|image| image.id);
    } else {
        for (index, image) in images.iter_mut().enumerate() {
            image.id = index as u64 + 1;
        }
    }
}

fn read_file(query: &Query<'_>, path: &Path, split: Option<String>) -> Result<Dataset> {
    let text = read_text(path, MAX_BYTES)?;
    let file: File<'_> = serde_json::from_str(&text)
        .map_err(|error| data_error(path, format!("not a COCO data set: {error}")))?;
    let reader = Reader {
        path,
        keep: query.keep,
        folders: picture_folders(query, path, split.as_deref()),
        split,
    };
    let classes = reader.classes(&file.categories)?;
    let mut images = reader.images(&file.images)?;
    reader.objects(&file.annotations, &classes, &mut images)?;
    let carried = CARRIED.into_iter().zip([file.info, file.licenses]);
    let carried = carried.filter_map(|(key, value)| Some((key, reader.kept(value?)?)));
    Ok(Dataset {
        name: query.path.display().to_string(),
        form: Form::Coco,
        coco: carried.collect(),
        classes,
        images,
    })
}

/// Where the pictures of a file may be.
fn picture_folders(query: &Query<'_>, path: &Path, split: Option<&str>) -> Vec<PathBuf> {
    let below = |base: &Path| {
        let images = base.join("images");
        let of_split = split.map(|split| [images.join(split), base.join(split)]);
        let mut folders: Vec<PathBuf> = of_split.into_iter().flatten().collect();
        folders.extend([images, base.to_owned()]);
        folders
    };
    if let Some(folder) = query.images {
        return split
            .map(|split| folder.join(split))
            .into_iter()
            .chain([folder.to_owned()])
            .collect();
    }
    // The folder of the file, and the one above it: files lie in `annotations`.
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.into());
    absolute
        .ancestors()
        .skip(1)
        .take(2)
        .flat_map(below)
        .collect()
}

struct Reader<'a> {
    path: &'a Path,
    keep: Keep,
    folders: Vec<PathBuf>,
    split: Option<String>,
}

impl Reader<'_> {
    fn error(&self, reason: impl Into<String>) -> Error {
        data_error(self.path, reason)
    }

    /// Parses a record; `kind` and its position name it in errors.
    fn parse<T: for<'de> Deserialize<'de>>(
        &self,
        kind: &str,
        index: usize,
        raw: &RawValue,
    ) -> Result<T> {
        serde_json::from_str(raw.get()).map_err(|error| {
            let start: String = raw.get().chars().take(60).collect();
            self.error(format!("{kind} {index} ({start}...): {error}"))
        })
    }

    fn kept(&self, raw: &RawValue) -> Option<Box<RawValue>> {
        (self.keep == Keep::Everything).then(|| raw.to_owned())
    }

    fn classes(&self, records: &[&RawValue]) -> Result<Vec<Class>> {
        let mut classes = Vec::new();
        for (index, raw) in records.iter().enumerate() {
            let CategoryRecord { id, name } = self.parse("category", index, raw)?;
            let is_twice = |class: &Class| class.id == id || class.name == name;
            if let Some(twin) = classes.iter().find(|class| is_twice(class)) {
                return Err(self.error(format!(
                    "categories {} ({}) and {id} ({name}) share an id or a name",
                    twin.id, twin.name
                )));
            }
            classes.push(Class {
                id,
                name,
                coco: self.kept(raw),
            });
        }
        classes.sort_by_key(|class| class.id);
        Ok(classes)
    }

    fn images(&self, records: &[&RawValue]) -> Result<Vec<Image>> {
        let mut images = Vec::with_capacity(records.len());
        for (index, raw) in records.iter().enumerate() {
            let record: ImageRecord = self.parse("image", index, raw)?;
            let file = relative_name(&record.file_name).ok_or_else(|| {
                self.error(format!(
                    "image {}: the file name {:?} leaves the folder of pictures",
                    record.id, record.file_name
                ))
            })?;
            let mut places = self.folders.iter().map(|folder| folder.join(&file));
            let path = places.find(|path| path.is_file());
            images.push(Image {
                id: record.id,
                size: self.size(&record, path.as_deref())?,
                path,
                file,
                split: self.split.clone(),
                objects: Vec::new(),
                coco: self.kept(raw),
            });
        }
        images.sort_by_key(|image| image.id);
        match images.windows(2).find(|pair| pair[0].id == pair[1].id) {
            Some(pair) => Err(self.error(format!(
                "image {}: two pictures have this id: {} and {}",
                pair[0].id, pair[0].file, pair[1].file
            ))),
            None => Ok(images),
        }
    }

    /// What the file says, else what the picture says.
    fn size(&self, record: &ImageRecord, path: Option<&Path>) -> Result<[u32; 2]> {
        let is_side = |side: f64| (1.0..=1e6).contains(&side) && side.fract() == 0.0;
        if is_side(record.width) && is_side(record.height) {
            return Ok([record.width as u32, record.height as u32]);
        }
        match path {
            Some(path) if record.width == 0.0 || record.height == 0.0 => picture_size(path),
            _ => Err(self.error(format!(
                "image {}: {}x{} pixels cannot be; correct width and height",
                record.id, record.width, record.height
            ))),
        }
    }

    /// Gives the objects to their pictures, which are in the order of their ids.
    fn objects(
        &self,
        records: &[&RawValue],
        classes: &[Class],
        images: &mut [Image],
    ) -> Result<()> {
        let positions: HashMap<u64, usize> = (classes.iter().enumerate())
            .map(|(position, class)| (class.id, position))
            .collect();
        for (index, raw) in records.iter().enumerate() {
            let record: AnnotationRecord = self.parse("annotation", index, raw)?;
            let unknown = |what: &str, id: u64| {
                self.error(format!("annotation {index}: there is no {what} {id}"))
            };
            let class = *positions
                .get(&record.category_id)
                .ok_or_else(|| unknown("category", record.category_id))?;
            let image = images
                .binary_search_by_key(&record.image_id, |image| image.id)
                .map_err(|_| unknown("image", record.image_id))?;
            let [x, y, width, height] = record.bbox;
            let attribute = |key: &str| {
                let value = record.attributes.get(key);
                value.and_then(serde_json::Value::as_bool).unwrap_or(false)
            };
            let pose = record.attributes.get("pose");
            images[image].objects.push(Object {
                class,
                id: record.id,
                rect: Rect {
                    x,
                    y,
                    width,
                    height,
                },
                area: record.area,
                traits: Traits {
                    crowd: record.iscrowd.is_set(),
                    difficult: attribute("difficult"),
                    truncated: attribute("truncated"),
                    occluded: attribute("occluded"),
                },
                pose: pose.and_then(|pose| Some(pose.as_str()?.to_owned())),
                coco: self.kept(raw),
            });
        }
        Ok(())
    }
}
