//! From Pascal VOC XML.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use super::xml::{Record, parse};
use crate::dataset::find::{Query, voc_folder};
use crate::dataset::folders::{
    MAX_SMALL_FILE, ending, files, files_below, is_picture, name_below, read_text,
};
use crate::dataset::notes::Notes;
use crate::dataset::{Class, Dataset, Form, Image, data_error, relative_name};
use crate::error::{Error, Result};
use crate::source::picture_size;

/// Reads a data set: the pictures that have a file of annotations.
pub fn read(query: &Query<'_>, notes: &mut Notes) -> Result<Dataset> {
    let path = query.path;
    let Some(folder) = voc_folder(path) else {
        return Err(data_error(
            path,
            "no VOC .xml files are here, nor in Annotations",
        ));
    };
    let splits = Splits::read(query)?;
    let pictures = Folders::new(query, &folder);
    let mut names: Vec<String> = label_map(path)?;
    let listed = names.len();
    let mut known: HashMap<String, usize> = names.iter().cloned().zip(0..).collect();
    let mut images = Vec::new();
    for xml in files_below(&folder, |path| ending(path) == "xml") {
        let stem = name_below(&xml.with_extension(""), &folder);
        let Some(split) = splits.of(&stem) else {
            continue;
        };
        let record = parse(&xml)?;
        let file = file_name(&record, &stem, &xml)?;
        let (file, picture) = pictures.find(file, &stem);
        let size = match (record.size, &picture) {
            (Some(size), _) => size,
            (None, Some(picture)) => picture_size(picture)?,
            (None, None) => {
                let reason = "no size, and its picture is not there; add <size>, or name the pictures by --images DIR";
                return Err(data_error(&xml, reason));
            }
        };
        let objects = record.objects.into_iter().map(|(name, mut object)| {
            object.class = *known.entry(name).or_insert_with_key(|name| {
                names.push(name.clone());
                names.len() - 1
            });
            object
        });
        images.push(Image {
            id: images.len() as u64 + 1,
            objects: objects.collect(),
            file,
            path: picture,
            size,
            split: split.map(str::to_owned),
            coco: None,
        });
        if record.parts {
            notes.add(
                "files describe parts of objects, which are not read",
                || stem.clone(),
            );
        }
    }
    let mut dataset = Dataset {
        name: path.display().to_string(),
        form: Form::Voc,
        classes: named_classes(names),
        images,
        coco: Vec::new(),
    };
    sort_classes(&mut dataset, listed);
    Ok(dataset)
}

/// The classes that `labelmap.txt` names.
pub fn read_classes(folder: &Path) -> Result<Vec<Class>> {
    Ok(named_classes(label_map(folder)?))
}

fn named_classes(names: Vec<String>) -> Vec<Class> {
    let class = |(name, id)| Class {
        id,
        name,
        coco: None,
    };
    names.into_iter().zip(1..).map(class).collect()
}

/// Puts the classes from `listed` on, which came as they occurred, into the order of their names.
fn sort_classes(dataset: &mut Dataset, listed: usize) {
    let mut order: Vec<usize> = (0..dataset.classes.len()).collect();
    order[listed..].sort_by(|&a, &b| dataset.classes[a].name.cmp(&dataset.classes[b].name));
    let mut place = vec![0; order.len()];
    for (new, &old) in order.iter().enumerate() {
        place[old] = new;
    }
    let names = order.iter().map(|&old| dataset.classes[old].name.clone());
    dataset.classes = named_classes(names.collect());
    for object in dataset
        .images
        .iter_mut()
        .flat_map(|image| &mut image.objects)
    {
        object.class = place[object.class];
    }
}

/// The classes in `labelmap.txt`, as CVAT writes it: `name:color:parts:actions`.
fn label_map(path: &Path) -> Result<Vec<String>> {
    let file = path.join("labelmap.txt");
    if !file.is_file() {
        return Ok(Vec::new());
    }
    let text = read_text(&file, MAX_SMALL_FILE)?;
    let lines = text.lines().map(str::trim);
    let names = lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.split(':').next().unwrap_or(line).trim());
    let mut seen = BTreeSet::new();
    let names = names.filter(|name| *name != "background" && seen.insert(*name));
    Ok(names.map(str::to_owned).collect())
}

/// Which picture belongs to which split.
struct Splits {
    /// By the name of the picture without ending.
    of: HashMap<String, String>,
    /// Only pictures of a split are wanted.
    only: bool,
}

impl Splits {
    /// Reads `ImageSets/Main`. The lists of single classes (`cat_train.txt`) and `trainval` count only if they are asked
    /// for.
    fn read(query: &Query<'_>) -> Result<Self> {
        let mut lists: BTreeMap<String, PathBuf> = files(&query.path.join("ImageSets/Main"))
            .into_iter()
            .filter(|path| ending(path) == "txt")
            .filter_map(|path| Some((path.file_stem()?.to_string_lossy().into_owned(), path)))
            .collect();
        if let Some(split) = query.split {
            if !lists.contains_key(split) {
                let names: Vec<String> = lists.into_keys().collect();
                return Err(Error::Usage(format!(
                    "{}: there is no split {split}; ImageSets/Main has {}",
                    query.path.display(),
                    if names.is_empty() {
                        "none".into()
                    } else {
                        names.join(", ")
                    }
                )));
            }
            lists.retain(|name, _| name == split);
        } else {
            let of_class = |name: &str| {
                ["_train", "_val", "_trainval", "_test"]
                    .iter()
                    .any(|end| name.ends_with(end))
            };
            lists.retain(|name, _| name != "trainval" && name != "default" && !of_class(name));
        }
        let mut of = HashMap::new();
        for (name, path) in lists {
            let text = read_text(&path, MAX_SMALL_FILE * 16)?;
            let stems = text
                .lines()
                .filter_map(|line| line.split_whitespace().next());
            for stem in stems {
                of.entry(stem.to_owned()).or_insert_with(|| name.clone());
            }
        }
        Ok(Self {
            of,
            only: query.split.is_some(),
        })
    }

    /// The split of a picture, if it has one; `None` if it is not wanted.
    fn of(&self, stem: &str) -> Option<Option<&str>> {
        match self.of.get(stem) {
            Some(split) => Some(Some(split)),
            None => (!self.only).then_some(None),
        }
    }
}

/// Where pictures may be.
struct Folders(Vec<PathBuf>);

impl Folders {
    fn new(query: &Query<'_>, annotations: &Path) -> Self {
        Self(match query.images {
            Some(folder) => vec![folder.into()],
            None => vec![
                query.path.join("JPEGImages"),
                query.path.join("images"),
                annotations.into(),
                query.path.into(),
            ],
        })
    }

    /// The picture called so, else one called as the file of annotations is; with the name that it was found by.
    fn find(&self, file: String, stem: &str) -> (String, Option<PathBuf>) {
        let (below, _) = stem.rsplit_once('/').unwrap_or_default();
        let beside = if below.is_empty() {
            file.clone()
        } else {
            format!("{below}/{file}")
        };
        let mut names = vec![beside.clone(), file];
        for ending in ["jpg", "jpeg", "png", "bmp", "JPG", "JPEG", "PNG"] {
            names.push(format!("{stem}.{ending}"));
        }
        for folder in &self.0 {
            for name in &names {
                let path = folder.join(name);
                if path.is_file() && is_picture(&path) {
                    return (name.clone(), Some(path));
                }
            }
        }
        (beside, None)
    }
}

/// The picture's name as the file says it, without folders; else the file's own name as that of a JPEG.
fn file_name(record: &Record, stem: &str, xml: &Path) -> Result<String> {
    let said = record.file.as_deref().unwrap_or(stem);
    let name = relative_name(said).ok_or_else(|| {
        data_error(
            xml,
            format!("the file name {said:?} leaves the folder of pictures"),
        )
    })?;
    let name = name.rsplit('/').next().unwrap_or_default();
    Ok(if is_picture(Path::new(name)) {
        name.into()
    } else {
        format!("{name}.jpg")
    })
}
