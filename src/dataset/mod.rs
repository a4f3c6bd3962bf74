//! Labelled pictures on disk, in the forms that annotation tools and trainers use: COCO JSON, YOLO folders, Pascal VOC
//! XML. [`read`] reads any of them, [`write`] writes any, [`append::Appender`] adds picture after picture.
//!
//! What each form can hold is described in `docs/datasets.md`.

pub mod append;
mod coco;
mod find;
mod folders;
mod notes;
pub mod split;
pub mod stats;
mod voc;
mod write;
mod yolo;

pub use find::{Contents, Keep, Query, look};
pub use notes::Notes;
pub use write::{Existing, Output, Pictures, replace, write};

use std::path::{Path, PathBuf};

use serde_json::value::RawValue;

use crate::error::{Error, Result};

/// The forms of data sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One JSON file for all pictures.
    Coco,
    /// A text file a picture, numbers relative to its size.
    Yolo,
    /// An XML file a picture.
    Voc,
}

/// Pictures with their objects.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// As the user named it, for messages.
    pub name: String,
    pub form: Form,
    /// In the order of their ids.
    pub classes: Vec<Class>,
    /// In the order of their ids.
    pub images: Vec<Image>,
    /// `info` and `licenses` of a COCO file, as they stand there.
    pub coco: Vec<(&'static str, Box<RawValue>)>,
}

/// A kind of object.
#[derive(Clone, Debug)]
pub struct Class {
    /// The category id of COCO; counted from 1 in other data sets.
    pub id: u64,
    pub name: String,
    /// As it stands in the COCO file that it comes from.
    pub coco: Option<Box<RawValue>>,
}

/// A picture.
#[derive(Clone, Debug)]
pub struct Image {
    /// The image id of COCO; counted from 1 in other data sets.
    pub id: u64,
    /// Its name below the folder of pictures (of its split, where each has one), with `/`. It does not leave the folder.
    pub file: String,
    /// Where the picture is; `None` if it is not there.
    pub path: Option<PathBuf>,
    /// Width and height in pixels, above 0.
    pub size: [u32; 2],
    /// The part of the data set that it belongs to: `train`, `val` ...
    pub split: Option<String>,
    pub objects: Vec<Object>,
    /// As it stands in the COCO file that it comes from.
    pub coco: Option<Box<RawValue>>,
}

/// An object on a picture.
#[derive(Clone, Debug, Default)]
pub struct Object {
    /// Position in [`Dataset::classes`].
    pub class: usize,
    pub rect: Rect,
    /// The annotation id of COCO.
    pub id: Option<u64>,
    /// Square pixels of its outline, where the data set says so.
    pub area: Option<f64>,
    pub traits: Traits,
    /// VOC: the side that it shows.
    pub pose: Option<String>,
    /// As it stands in the COCO file that it comes from.
    pub coco: Option<Box<RawValue>>,
}

/// What is said of an object beside its box.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traits {
    /// COCO: the box holds many of them.
    pub crowd: bool,
    /// VOC: need not be found.
    pub difficult: bool,
    /// Reaches beyond the picture, or is hidden in part: the box is not the whole object.
    pub truncated: bool,
    /// Hidden in part.
    pub occluded: bool,
}

/// A box in pixels, from the upper left corner. Sides are finite and not negative.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rect {
    pub x: f64,
    pub y: f64,
    pub width: f64,
    pub height: f64,
}

impl Rect {
    /// In square pixels.
    pub fn area(&self) -> f64 {
        self.width * self.height
    }

    /// Cut to a picture of this size; empty if it lies beside it.
    pub fn clamped(&self, [width, height]: [u32; 2]) -> Self {
        let side = |start: f64, length: f64, limit: u32| {
            let limit = f64::from(limit);
            let from = start.clamp(0.0, limit);
            (from, (start + length).clamp(0.0, limit) - from)
        };
        let (x, width) = side(self.x, self.width, width);
        let (y, height) = side(self.y, self.height, height);
        Self {
            x,
            y,
            width,
            height,
        }
    }
}

impl Form {
    pub const ALL: [Self; 3] = [Self::Coco, Self::Yolo, Self::Voc];

    /// As users name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Coco => "coco",
            Self::Yolo => "yolo",
            Self::Voc => "voc",
        }
    }
}

impl std::str::FromStr for Form {
    type Err = &'static str;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        let named = Self::ALL.into_iter().find(|form| form.name() == text);
        named.ok_or("not one of coco, yolo, voc")
    }
}

/// Reads a data set. What is odd, and taken all the same, is logged, counted by kind.
///
/// # Errors
/// [`Error::Data`] names the file, and the line or id, that cannot be used; [`Error::Usage`] if the query fits no data
/// set.
pub fn read(query: &Query<'_>) -> Result<Dataset> {
    let mut notes = Notes::default();
    let dataset = match find::form(query)? {
        Form::Coco => coco::read(query)?,
        Form::Yolo => yolo::read(query, &mut notes)?,
        Form::Voc => voc::read(query, &mut notes)?,
    };
    if dataset.images.is_empty() {
        return Err(data_error(query.path, "the data set holds no pictures"));
    }
    check_boxes(&dataset, &mut notes)?;
    notes.warn(&dataset.name);
    Ok(dataset)
}

impl Dataset {
    /// Objects on all pictures.
    pub fn object_count(&self) -> usize {
        self.images.iter().map(|image| image.objects.len()).sum()
    }

    /// An error if a picture is not there, unless `missing` says that it may be left out.
    pub fn require_pictures(&mut self, missing: Missing) -> Result<()> {
        let absent = |image: &&Image| image.path.is_none();
        let count = self.images.iter().filter(absent).count();
        let Some(first) = self.images.iter().find(absent) else {
            return Ok(());
        };
        let total = self.images.len();
        let reason = format!(
            "{count} of {total} pictures are not there (first: {})",
            first.file
        );
        if missing == Missing::Refuse || count == total {
            return Err(Error::Data {
                file: self.name.clone(),
                reason: format!(
                    "{reason}; name their folder by --images DIR, or leave them out by --skip-missing"
                ),
            });
        }
        log::warn!("{}: {reason}; left out", self.name);
        self.images.retain(|image| image.path.is_some());
        Ok(())
    }
}

/// What becomes of a picture that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    Refuse,
    Skip,
}

/// No coordinate of a picture that eyas can read is larger.
const MAX_COORDINATE: f64 = 1e6;

/// Refuses boxes that cannot be meant, and notes those that are odd.
fn check_boxes(dataset: &Dataset, notes: &mut Notes) -> Result<()> {
    for image in &dataset.images {
        for (index, object) in image.objects.iter().enumerate() {
            let rect = object.rect;
            let sides = [rect.x, rect.y, rect.width, rect.height];
            let place = || match object.id {
                Some(id) => format!("{}, annotation {id}", image.file),
                None => format!("{}, object {}", image.file, index + 1),
            };
            if sides.iter().any(|side| side.abs() > MAX_COORDINATE)
                || rect.width < 0.0
                || rect.height < 0.0
            {
                let [x, y, width, height] = sides;
                return Err(Error::Data {
                    file: dataset.name.clone(),
                    reason: format!(
                        "{}: a box at {x}, {y} of {width}x{height} pixels cannot be; correct it",
                        place()
                    ),
                });
            }
            if rect.width == 0.0 || rect.height == 0.0 {
                notes.add("boxes are empty and can never be found", place);
            } else if rect.clamped(image.size).area() < 0.99 * rect.area() {
                notes.add(
                    "boxes reach beyond their picture and are taken as written",
                    place,
                );
            }
        }
    }
    Ok(())
}

fn data_error(path: &Path, reason: impl Into<String>) -> Error {
    Error::Data {
        file: path.display().to_string(),
        reason: reason.into(),
    }
}

/// A name below a folder of pictures, with `/`; `None` if it would leave it.
fn relative_name(name: &str) -> Option<String> {
    let name = name.replace('\\', "/");
    let parts: Vec<&str> = name.split('/').filter(|part| *part != ".").collect();
    let is_sound = |part: &&str| !part.is_empty() && *part != ".." && !part.contains(['\0', ':']);
    parts.iter().all(is_sound).then(|| parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_their_folder() {
        assert_eq!(relative_name("./a/b.jpg").as_deref(), Some("a/b.jpg"));
        assert_eq!(relative_name("a\\b.jpg").as_deref(), Some("a/b.jpg"));
        for wrong in ["../a", "/etc/passwd", "a//b", "", "C:\\a", "a/../../b"] {
            assert_eq!(relative_name(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn boxes_are_cut_to_the_picture() {
        let rect = Rect {
            x: -5.0,
            y: 10.0,
            width: 30.0,
            height: 30.0,
        };
        let inside = Rect {
            x: 0.0,
            y: 10.0,
            width: 20.0,
            height: 10.0,
        };
        assert_eq!(rect.clamped([20, 20]), inside);
        assert_eq!(rect.clamped([20, 5]).area(), 0.0);
    }
}
