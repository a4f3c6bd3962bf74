//! Into YOLO folders.

use std::fmt::Write as _;
use std::path::Path;

use crate::dataset::notes::Notes;
use crate::dataset::write::{splits, write_text};
use crate::dataset::{Class, Dataset, Image, Object, Traits};
use crate::error::{Error, Result};

/// Where a picture goes, below the folder of the data set.
pub fn picture(image: &Image) -> String {
    below("images", image)
}

/// In `images` or `labels`.
fn below(folder: &str, image: &Image) -> String {
    match &image.split {
        Some(split) => format!("{folder}/{split}/{}", image.file),
        None => format!("{folder}/{}", image.file),
    }
}

/// Writes `data.yaml`, a file of labels for each picture and `classes.txt` beside them, where LabelImg looks for it.
pub fn write_labels(dataset: &Dataset, folder: &Path, notes: &mut Notes) -> Result<()> {
    write_names(&dataset.classes, &splits(dataset), folder)?;
    for image in &dataset.images {
        let lines = label_lines(image, notes);
        let path = folder.join(below("labels", image)).with_extension("txt");
        write_text(&path, &lines)?;
    }
    Ok(())
}

/// Writes `data.yaml` and, for each split, `classes.txt`.
pub fn write_names(classes: &[Class], splits: &[Option<&str>], folder: &Path) -> Result<()> {
    let mut lines = String::new();
    for class in classes {
        if class.name.contains(['\n', '\r']) {
            let reason = format!("the class name {:?} has a line break", class.name);
            return Err(Error::Usage(reason));
        }
        lines.push_str(&class.name);
        lines.push('\n');
    }
    for split in splits {
        let labels = folder.join("labels");
        let labels = split.map_or(labels.clone(), |split| labels.join(split));
        write_text(&labels.join("classes.txt"), &lines)?;
    }
    write_text(&folder.join("data.yaml"), &yaml(classes, splits))
}

/// Trainers ask for `train` and `val`: without splits both are all pictures.
fn yaml(classes: &[Class], splits: &[Option<&str>]) -> String {
    let mut text = String::from("path: .\n");
    let of = |wanted: &str| splits.contains(&Some(wanted));
    for name in ["train", "val"] {
        if !of(name) {
            let instead = splits.first().copied().flatten();
            let folder = instead.map_or("images".into(), |split| format!("images/{split}"));
            text += &format!("{name}: {}\n", quoted(&folder));
        }
    }
    for split in splits.iter().flatten() {
        text += &format!(
            "{}: {}\n",
            quoted(split),
            quoted(&format!("images/{split}"))
        );
    }
    text.push_str("names:\n");
    for (index, class) in classes.iter().enumerate() {
        text += &format!("  {index}: {}\n", quoted(&class.name));
    }
    text
}

/// A string of JSON is one of YAML.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The labels of a picture, a line each. Boxes are cut to the picture.
pub fn label_lines(image: &Image, notes: &mut Notes) -> String {
    let mut lines = String::new();
    let [width, height] = image.size.map(f64::from);
    for (index, object) in image.objects.iter().enumerate() {
        let place = || format!("{}, object {}", image.file, index + 1);
        if object.traits.crowd {
            notes.add("crowds are left out: YOLO labels cannot mark them", place);
            continue;
        }
        let rect = object.rect.clamped(image.size);
        if rect.area() == 0.0 {
            notes.add("boxes without area in the picture are left out", place);
            continue;
        }
        let cut = object.rect.area() - rect.area();
        if cut > 1e-6 * object.rect.area() {
            notes.add("boxes are cut to their picture", place);
        }
        note_losses(object, notes, place);
        let centre = [
            (rect.x + rect.width / 2.0) / width,
            (rect.y + rect.height / 2.0) / height,
        ];
        // Writing to a String cannot fail.
        let _ = writeln!(
            lines,
            "{} {:.8} {:.8} {:.8} {:.8}",
            object.class,
            centre[0],
            centre[1],
            rect.width / width,
            rect.height / height
        );
    }
    lines
}

fn note_losses(object: &Object, notes: &mut Notes, place: impl Fn() -> String) {
    if object.traits != Traits::default() || object.pose.is_some() {
        notes.add(
            "objects lose their marks (difficult, truncated, occluded, pose)",
            &place,
        );
    }
    if object.coco.is_some() {
        notes.add(
            "objects lose what only COCO holds (area, segmentation ...)",
            &place,
        );
    }
}
