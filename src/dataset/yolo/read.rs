//! From YOLO folders.

use std::collections::{BTreeMap, HashMap};
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use crate::dataset::find::{Query, yolo_yaml};
use crate::dataset::folders::{
    MAX_SMALL_FILE, ending, entries, files_below, is_picture, name_below, read_text,
};
use crate::dataset::notes::Notes;
use crate::dataset::{Class, Dataset, Form, Image, Object, Rect, data_error};
use crate::error::{Error, Result};
use crate::source::picture_size;

/// The largest class id that a label may have.
const MAX_CLASS: usize = 100_000;

/// Parts of a data set that `data.yaml` may name.
const SPLITS: [&str; 3] = ["train", "val", "test"];

/// Values farther from the picture than this, in its sides, are no shares of it.
const MAX_SHARE: f64 = 2.0;

/// What is read of `data.yaml`.
#[derive(Debug, Default, Deserialize)]
struct Yaml {
    path: Option<PathBuf>,
    train: Option<Places>,
    val: Option<Places>,
    test: Option<Places>,
    names: Option<Names>,
}

/// Folders, or text files that list pictures.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Places {
    One(PathBuf),
    Many(Vec<PathBuf>),
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Names {
    List(Vec<String>),
    Map(BTreeMap<usize, String>),
}

/// A picture and the name by which the data set knows it.
struct Entry {
    path: PathBuf,
    file: String,
    split: Option<String>,
}

/// Reads a data set. A picture without a file of labels has no objects.
pub fn read(query: &Query<'_>, notes: &mut Notes) -> Result<Dataset> {
    let (root, yaml) = root_and_yaml(query.path)?;
    let mut entries = find_pictures(query, &root, &yaml)?;
    if let Some(split) = query.split {
        entries.retain(|entry| entry.split.as_deref() == Some(split));
        if entries.is_empty() {
            return Err(Error::Usage(format!(
                "{}: there is no split {split}, or it holds no pictures",
                query.path.display()
            )));
        }
    }
    let names = class_names(query, &root, yaml.names)?;
    let mut images = Vec::with_capacity(entries.len());
    let mut highest = 0;
    for (entry, id) in entries.into_iter().zip(1..) {
        let size = picture_size(&entry.path)?;
        let objects = read_labels(&label_path(&entry.path), size, notes)?;
        highest = objects
            .iter()
            .map(|object| object.class + 1)
            .fold(highest, usize::max);
        images.push(Image {
            id,
            file: entry.file,
            path: Some(entry.path),
            size,
            split: entry.split,
            objects,
            coco: None,
        });
    }
    Ok(Dataset {
        name: query.path.display().to_string(),
        form: Form::Yolo,
        classes: classes(names, highest, query.path)?,
        images,
        coco: Vec::new(),
    })
}

/// The classes that have names, without a look at any picture.
pub fn read_classes(query: &Query<'_>) -> Result<Vec<Class>> {
    let (root, yaml) = root_and_yaml(query.path)?;
    classes(class_names(query, &root, yaml.names)?, 0, query.path)
}

/// The folder of a data set, and what its YAML file says: nothing if there is none.
fn root_and_yaml(path: &Path) -> Result<(PathBuf, Yaml)> {
    if path.is_file() {
        let folder = path.parent().unwrap_or(Path::new(""));
        return Ok((folder.into(), read_yaml(path)?));
    }
    let yaml = yolo_yaml(path).map(|path| read_yaml(&path)).transpose()?;
    Ok((path.into(), yaml.unwrap_or_default()))
}

fn read_yaml(path: &Path) -> Result<Yaml> {
    let text = read_text(path, MAX_SMALL_FILE)?;
    serde_saphyr::from_str(&text)
        .map_err(|error| data_error(path, format!("not the YAML of a YOLO data set: {error}")))
}

/// The pictures, in the order of their paths within each split.
fn find_pictures(query: &Query<'_>, root: &Path, yaml: &Yaml) -> Result<Vec<Entry>> {
    if let Some(folder) = query.images {
        return Ok(pictures_below(folder, None));
    }
    let places = [&yaml.train, &yaml.val, &yaml.test];
    if places.iter().all(|places| places.is_none()) {
        let images = root.join("images");
        return Ok(if images.is_dir() {
            pictures_by_split(&images)
        } else {
            pictures_below(root, None)
        });
    }
    let mut found: Vec<Entry> = Vec::new();
    let mut positions: HashMap<PathBuf, usize> = HashMap::new();
    for (split, places) in SPLITS.into_iter().zip(places) {
        let places = match places.clone() {
            None => continue,
            Some(Places::One(place)) => vec![place],
            Some(Places::Many(places)) => places,
        };
        for place in places {
            let place = resolve(query.path, root, yaml.path.as_deref(), &place)?;
            for entry in pictures_at(&place, split)? {
                match positions.get(&entry.path) {
                    // A picture that is in two splits is in none.
                    Some(&at) if found[at].split.as_deref() != Some(split) => {
                        found[at].split = None;
                    }
                    Some(_) => {}
                    None => {
                        positions.insert(entry.path.clone(), found.len());
                        found.push(entry);
                    }
                }
            }
        }
    }
    Ok(found)
}

/// A place that `data.yaml` names: below its `path`, else beside it; `../` at its beginning is dropped if nothing is
/// there, as trainers do.
fn resolve(name: &Path, root: &Path, base: Option<&Path>, place: &Path) -> Result<PathBuf> {
    let plain: PathBuf = place
        .components()
        .skip_while(|part| *part == Component::ParentDir)
        .collect();
    let candidates = [
        base.map(|base| root.join(base).join(place)),
        Some(root.join(place)),
        Some(root.join(plain)),
    ];
    let there = candidates.into_iter().flatten().find(|path| path.exists());
    there.ok_or_else(|| {
        data_error(
            name,
            format!(
                "{} is not there; correct it, or name the pictures by --images DIR",
                place.display()
            ),
        )
    })
}

/// The pictures of a folder, or of a text file that lists them.
fn pictures_at(place: &Path, split: &str) -> Result<Vec<Entry>> {
    if place.is_dir() {
        return Ok(pictures_below(place, Some(split)));
    }
    if ending(place) != "txt" {
        return Err(data_error(
            place,
            "neither a folder nor a .txt file that lists pictures",
        ));
    }
    let folder = place.parent().unwrap_or(place);
    let text = read_text(place, MAX_SMALL_FILE * 16)?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let path = folder.join(line.trim_start_matches("./"));
            if !path.is_file() {
                return Err(data_error(
                    place,
                    format!("the picture {line} is not there"),
                ));
            }
            Ok(Entry {
                file: name_below(&path, &images_folder(&path)),
                path,
                split: Some(split.into()),
            })
        })
        .collect()
}

/// The folder called `images` that a picture lies in, else the one right above it.
fn images_folder(path: &Path) -> PathBuf {
    let above = || path.ancestors().skip(1);
    let named = above().find(|folder| folder.file_name().is_some_and(|name| name == "images"));
    named.or_else(|| above().next()).unwrap_or(path).into()
}

fn pictures_below(folder: &Path, split: Option<&str>) -> Vec<Entry> {
    files_below(folder, is_picture)
        .into_iter()
        .map(|path| Entry {
            file: name_below(&path, folder),
            path,
            split: split.map(str::to_owned),
        })
        .collect()
}

/// The folders in `images` are splits, if no picture lies beside them.
fn pictures_by_split(images: &Path) -> Vec<Entry> {
    let inside = entries(images);
    if inside.iter().any(|path| is_picture(path)) {
        return pictures_below(images, None);
    }
    let folders = inside.iter().filter(|path| path.is_dir());
    folders
        .flat_map(|folder| {
            let split = folder.file_name().unwrap_or_default().to_string_lossy();
            pictures_below(folder, Some(&split))
        })
        .collect()
}

/// The file of labels of a picture: below `labels` in place of the last `images` in its path, else beside it.
fn label_path(picture: &Path) -> PathBuf {
    let parts: Vec<Component<'_>> = picture.components().collect();
    let is_images = |part: &Component<'_>| part.as_os_str() == "images";
    let swapped: PathBuf = match parts.iter().rposition(is_images) {
        Some(at) => (parts.iter().enumerate())
            .map(|(index, part)| {
                if index == at {
                    "labels".as_ref()
                } else {
                    part.as_os_str()
                }
            })
            .collect(),
        None => picture.into(),
    };
    swapped.with_extension("txt")
}

fn read_labels(path: &Path, size: [u32; 2], notes: &mut Notes) -> Result<Vec<Object>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = read_text(path, MAX_SMALL_FILE)?;
    let mut objects = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        if line.trim().is_empty() {
            continue;
        }
        let place = || format!("{} line {number}", path.display());
        let label = parse_line(line)
            .map_err(|reason| data_error(path, format!("line {number}: {reason}")))?;
        if label.is_outline {
            notes.add("labels are outlines, of which the box is taken", place);
        }
        objects.push(Object {
            class: label.class,
            rect: label.rect_in(size),
            ..Object::default()
        });
    }
    Ok(objects)
}

/// One line: corners in shares of the picture's sides.
#[derive(Debug, PartialEq)]
struct Label {
    class: usize,
    /// x_min, y_min, x_max, y_max
    corners: [f64; 4],
    is_outline: bool,
}

impl Label {
    fn rect_in(&self, [width, height]: [u32; 2]) -> Rect {
        let [x_min, y_min, x_max, y_max] = self.corners;
        let (width, height) = (f64::from(width), f64::from(height));
        Rect {
            x: x_min * width,
            y: y_min * height,
            width: (x_max - x_min) * width,
            height: (y_max - y_min) * height,
        }
    }
}

/// `class x_centre y_centre width height`, or `class x1 y1 x2 y2 x3 y3 ...` for an outline.
fn parse_line(line: &str) -> std::result::Result<Label, String> {
    let mut words = line.split_whitespace();
    let class = words.next().unwrap_or_default();
    let class = match class.parse::<usize>() {
        Ok(class) if class <= MAX_CLASS => class,
        _ => return Err(format!("{class:?} is not the id of a class")),
    };
    let mut values = Vec::new();
    for word in words {
        match word.parse::<f64>() {
            Ok(value) if value.abs() <= MAX_SHARE => values.push(value),
            Ok(value) if value.is_finite() => {
                return Err(format!(
                    "{word} is not a share of the picture's side; YOLO labels go from 0 to 1"
                ));
            }
            _ => return Err(format!("{word:?} is not a number")),
        }
    }
    match values[..] {
        [x, y, width, height] if width >= 0.0 && height >= 0.0 => Ok(Label {
            class,
            corners: [
                x - width / 2.0,
                y - height / 2.0,
                x + width / 2.0,
                y + height / 2.0,
            ],
            is_outline: false,
        }),
        [_, _, _, _] => Err("width and height cannot be negative".into()),
        [_, _, _, _, _] => {
            Err("it ends in a confidence, as predictions do; labels have five numbers".into())
        }
        _ if values.len() >= 6 && values.len().is_multiple_of(2) => {
            let points = values.chunks_exact(2);
            let bound = |axis: usize, pick: fn(f64, f64) -> f64| {
                let along = points.clone().map(|point| point[axis]);
                along.reduce(pick).unwrap_or_default()
            };
            Ok(Label {
                class,
                corners: [
                    bound(0, f64::min),
                    bound(1, f64::min),
                    bound(0, f64::max),
                    bound(1, f64::max),
                ],
                is_outline: true,
            })
        }
        _ => Err(format!(
            "{} numbers; a label is `class x_centre y_centre width height`",
            values.len() + 1
        )),
    }
}

/// Names by id: those that the query brings, else of the YAML file, else of `classes.txt`; of the latter also where it
/// goes on after the names of the YAML file, as it does when LabelImg has added a class.
fn class_names(
    query: &Query<'_>,
    root: &Path,
    names: Option<Names>,
) -> Result<Vec<Option<String>>> {
    if let Some(names) = query.names {
        return Ok(names.iter().cloned().map(Some).collect());
    }
    let of_yaml = names.map_or(Ok(Vec::new()), |names| names_by_id(names, query.path))?;
    let of_file = read_class_file(root)?;
    let names = if of_file.starts_with(&of_yaml) {
        of_file
    } else {
        of_yaml
    };
    if names.is_empty() {
        log::warn!(
            "{}: the classes have no names (data.yaml or classes.txt), which --names FILE can give; they are called by number",
            query.path.display()
        );
    }
    Ok(names)
}

fn names_by_id(names: Names, path: &Path) -> Result<Vec<Option<String>>> {
    let names = match names {
        Names::List(names) => return Ok(names.into_iter().map(Some).collect()),
        Names::Map(names) => names,
    };
    let highest = names.last_key_value().map_or(0, |(&id, _)| id);
    if highest > MAX_CLASS {
        let reason = format!("{highest} is too high for a class");
        return Err(data_error(path, reason));
    }
    let mut by_id = vec![None; highest + usize::from(!names.is_empty())];
    for (id, name) in names {
        by_id[id] = Some(name);
    }
    Ok(by_id)
}

/// The lines of `classes.txt`; none if there is no such file.
fn read_class_file(root: &Path) -> Result<Vec<Option<String>>> {
    let files = ["classes.txt", "labels/classes.txt"].map(|name| root.join(name));
    let Some(path) = files.into_iter().find(|path| path.is_file()) else {
        return Ok(Vec::new());
    };
    let text = read_text(&path, MAX_SMALL_FILE)?;
    let lines = text.trim_end().lines();
    Ok(lines.map(|line| Some(line.trim().to_owned())).collect())
}

/// A class for each id that has a name or occurs.
fn classes(names: Vec<Option<String>>, highest: usize, path: &Path) -> Result<Vec<Class>> {
    if !names.is_empty() && highest > names.len() {
        return Err(data_error(
            path,
            format!(
                "labels use the class {}, but only {} classes have names; complete them",
                highest - 1,
                names.len()
            ),
        ));
    }
    let count = names.len().max(highest);
    let mut names = names.into_iter();
    let classes = (0..count).map(|index| Class {
        id: index as u64 + 1,
        name: names
            .next()
            .flatten()
            .unwrap_or_else(|| format!("class {index}")),
        coco: None,
    });
    Ok(classes.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_class_and_a_box_or_an_outline() {
        let label = parse_line("3 0.5 0.5 0.2 0.4").unwrap();
        assert_eq!(label.class, 3);
        let rect = label.rect_in([100, 50]);
        for (side, expected) in [
            (rect.x, 40.0),
            (rect.y, 15.0),
            (rect.width, 20.0),
            (rect.height, 20.0),
        ] {
            assert!((side - expected).abs() < 1e-9, "{rect:?}");
        }
        let outline = parse_line("0 0.1 0.2 0.5 0.1 0.3 0.9").unwrap();
        assert_eq!(outline.corners, [0.1, 0.1, 0.5, 0.9]);
        assert!(outline.is_outline);
    }

    #[test]
    fn what_is_no_label_is_refused() {
        for (line, word) in [
            ("person 0.5 0.5 0.1 0.1", "class"),
            ("-1 0.5 0.5 0.1 0.1", "class"),
            ("0 0.5 0.5 0.1", "4 numbers"),
            ("0 0.5 0.5 0.1 0.1 0.9", "confidence"),
            ("0 320 240 10 10", "share"),
            ("0 nan 0.5 0.1 0.1", "number"),
            ("0 0.5 0.5 -0.1 0.1", "negative"),
        ] {
            let reason = parse_line(line).unwrap_err();
            assert!(reason.contains(word), "{line}: {reason}");
        }
    }

    #[test]
    fn labels_lie_beside_images() {
        for (picture, labels) in [
            ("d/images/train/a.jpg", "d/labels/train/a.txt"),
            ("images/x/images/a.b.png", "images/x/labels/a.b.txt"),
            ("d/a.jpg", "d/a.txt"),
        ] {
            assert_eq!(label_path(Path::new(picture)), Path::new(labels));
        }
    }
}
