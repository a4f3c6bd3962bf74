//! Into Pascal VOC XML.

use std::fmt::Write as _;
use std::path::Path;

use crate::dataset::folders::{ending, files_below, name_below};
use crate::dataset::notes::Notes;
use crate::dataset::write::{replace, splits, write_text};
use crate::dataset::{Class, Dataset, Image};
use crate::error::Result;

/// Where a picture goes, below the folder of the data set.
pub fn picture(image: &Image) -> String {
    format!("JPEGImages/{}", image.file)
}

/// Writes a file of annotations for each picture, the lists of the splits (`default` for what is in none) and
/// `labelmap.txt`, by which CVAT knows the classes.
pub fn write_labels(dataset: &Dataset, folder: &Path, notes: &mut Notes) -> Result<()> {
    write_label_map(&dataset.classes, folder)?;
    for image in &dataset.images {
        let path = folder
            .join("Annotations")
            .join(&image.file)
            .with_extension("xml");
        write_text(&path, &annotation(image, &dataset.classes, notes))?;
    }
    for split in splits(dataset) {
        let of_split = dataset
            .images
            .iter()
            .filter(|image| image.split.as_deref() == split);
        let stems: String = of_split
            .map(|image| stem(image).to_owned() + "\n")
            .collect();
        let name = split.unwrap_or("default");
        write_text(&folder.join(format!("ImageSets/Main/{name}.txt")), &stems)?;
    }
    Ok(())
}

/// Writes the list of all pictures that have annotations, for programs that read no others.
pub fn write_list(folder: &Path) -> Result<()> {
    let annotations = folder.join("Annotations");
    let files = files_below(&annotations, |path| ending(path) == "xml");
    let stems = files
        .iter()
        .map(|path| name_below(&path.with_extension(""), &annotations) + "\n");
    let text: String = stems.collect();
    replace(&folder.join("ImageSets/Main/default.txt"), text.as_bytes())
}

/// A picture's name without its ending.
fn stem(image: &Image) -> &str {
    image
        .file
        .rsplit_once('.')
        .map_or(&image.file, |(stem, _)| stem)
}

/// Writes `labelmap.txt`.
pub fn write_label_map(classes: &[Class], folder: &Path) -> Result<()> {
    let mut text = String::from("# label:color_rgb:parts:actions\nbackground:0,0,0::\n");
    for class in classes {
        // Its fields end at a colon or a line's end.
        let name = class.name.replace([':', '\n', '\r'], " ");
        text += &format!("{name}:::\n");
    }
    write_text(&folder.join("labelmap.txt"), &text)
}

/// The XML of a picture, as LabelImg writes it. Crowds become difficult objects.
pub fn annotation(image: &Image, classes: &[Class], notes: &mut Notes) -> String {
    let (below, name) = match image.file.rsplit_once('/') {
        Some((below, name)) => (format!("JPEGImages/{below}"), name),
        None => ("JPEGImages".into(), image.file.as_str()),
    };
    let [width, height] = image.size;
    let mut text = format!(
        "<annotation>\n\t<folder>{}</folder>\n\t<filename>{}</filename>\n\t<path>{}</path>\n\
         \t<source>\n\t\t<database>Unknown</database>\n\t</source>\n\
         \t<size>\n\t\t<width>{width}</width>\n\t\t<height>{height}</height>\n\t\t<depth>3</depth>\n\t</size>\n\
         \t<segmented>0</segmented>\n",
        escaped(&below),
        escaped(name),
        escaped(&picture(image))
    );
    for (index, object) in image.objects.iter().enumerate() {
        let place = || format!("{}, object {}", image.file, index + 1);
        if object.traits.crowd {
            notes.add(
                "crowds become difficult objects: VOC knows no crowds",
                place,
            );
        }
        if object.coco.is_some() {
            notes.add(
                "objects lose what only COCO holds (area, segmentation ...)",
                place,
            );
        }
        let rect = object.rect;
        let traits = object.traits;
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "\t<object>\n\t\t<name>{}</name>\n\t\t<pose>{}</pose>\n\t\t<truncated>{}</truncated>\n\
             \t\t<occluded>{}</occluded>\n\t\t<difficult>{}</difficult>\n\
             \t\t<bndbox>\n\t\t\t<xmin>{}</xmin>\n\t\t\t<ymin>{}</ymin>\n\t\t\t<xmax>{}</xmax>\n\t\t\t<ymax>{}</ymax>\n\
             \t\t</bndbox>\n\t</object>\n",
            escaped(&classes[object.class].name),
            escaped(object.pose.as_deref().unwrap_or("Unspecified")),
            u8::from(traits.truncated),
            u8::from(traits.occluded),
            u8::from(traits.difficult || traits.crowd),
            pixels(rect.x),
            pixels(rect.y),
            pixels(rect.x + rect.width),
            pixels(rect.y + rect.height),
        );
    }
    text += "</annotation>\n";
    text
}

/// A whole number where it is one, else hundredths of a pixel.
fn pixels(value: f64) -> String {
    let rounded = (value * 100.0).round() / 100.0;
    // Not -0.
    (rounded + 0.0).to_string()
}

/// Text as XML. Characters that XML cannot hold are left out.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '\t' | '\n' | '\r' | ' '.. => escaped.push(c),
            _ => {}
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_and_numbers_short() {
        assert_eq!(escaped("a<b>&\u{1}c"), "a&lt;b&gt;&amp;c");
        assert_eq!(
            ["12", "0.5", "0"],
            [12.0, 0.5, -0.0].map(pixels).each_ref().map(|s| s.as_str())
        );
        assert_eq!(pixels(1.0 / 3.0), "0.33");
    }
}
