//! From YOLO folders.

use std::path::{Component, Path, PathBuf};

use super::classes::{MAX_CLASS, class_names, classes};
use super::places::{find_pictures, root_and_yaml};
use crate::dataset::find::Query;
use crate::dataset::folders::{MAX_SMALL_FILE, read_text};
use crate::dataset::notes::Notes;
use crate::dataset::{Dataset, Form, Image, Object, Rect, data_error};
use crate::error::{Error, Result};
use crate::source::picture_size;

/// Values farther from the picture than this, in its sides, are no shares of it.
const MAX_SHARE: f64 = 2.0;

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
