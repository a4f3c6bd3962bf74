//! Into COCO JSON.

use std::collections::HashSet;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::dataset::notes::Notes;
use crate::dataset::write::{create, splits};
use crate::dataset::{Class, Dataset, Image, Object};
use crate::error::{Error, Result};

/// Where a picture goes, below the folder of the data set.
pub fn picture(image: &Image) -> String {
    match &image.split {
        Some(split) => format!("images/{split}/{}", image.file),
        None => format!("images/{}", image.file),
    }
}

/// Writes `annotations/instances_SPLIT.json` for each split, `instances_default.json` for what is in none. Nothing is
/// lost.
pub fn write_labels(dataset: &Dataset, folder: &Path, _: &mut Notes) -> Result<()> {
    for split in splits(dataset) {
        let name = split.unwrap_or("default");
        let path = folder.join(format!("annotations/instances_{name}.json"));
        let of_split = |image: &&Image| image.split.as_deref() == split;
        write_file(dataset, dataset.images.iter().filter(of_split), &path)?;
    }
    Ok(())
}

/// Writes one file with some of the data set's pictures.
pub fn write_file<'a>(
    dataset: &Dataset,
    images: impl Iterator<Item = &'a Image> + Clone,
    path: &Path,
) -> Result<()> {
    let mut out = BufWriter::new(create(path)?);
    write_json(dataset, images, &mut out)
        .and_then(|()| out.flush())
        .and_then(|()| out.get_ref().sync_all())
        .map_err(Error::io(format!("write {}", path.display())))
}

fn write_json<'a>(
    dataset: &Dataset,
    images: impl Iterator<Item = &'a Image> + Clone,
    out: &mut impl Write,
) -> io::Result<()> {
    out.write_all(b"{")?;
    for (key, value) in &dataset.coco {
        writeln!(out, "\"{key}\":{},", value.get())?;
    }
    out.write_all(b"\"images\":[")?;
    records(images.clone().map(image_record), out)?;
    out.write_all(b"],\n\"annotations\":[")?;
    let objects = images.flat_map(|image| image.objects.iter().map(move |object| (image, object)));
    let keeps_ids = has_distinct_ids(objects.clone().map(|(_, object)| object));
    let numbered = objects.zip(1..).map(|((image, object), number)| {
        let id = object.id.filter(|_| keeps_ids).unwrap_or(number);
        object_record(dataset, image, object, id)
    });
    records(numbered, out)?;
    out.write_all(b"],\n\"categories\":[")?;
    records(dataset.classes.iter().map(class_record), out)?;
    out.write_all(b"]}\n")
}

/// One record a line.
fn records(
    records: impl Iterator<Item = Map<String, Value>>,
    out: &mut impl Write,
) -> io::Result<()> {
    for (index, record) in records.enumerate() {
        out.write_all(if index == 0 { b"\n" } else { b",\n" })?;
        serde_json::to_writer(&mut *out, &record)?;
    }
    Ok(())
}

/// What a record said in the COCO file that it comes from.
fn origin(raw: Option<&RawValue>) -> Map<String, Value> {
    raw.and_then(|raw| serde_json::from_str(raw.get()).ok())
        .unwrap_or_default()
}

fn class_record(class: &Class) -> Map<String, Value> {
    let mut record = origin(class.coco.as_deref());
    record.insert("id".into(), class.id.into());
    record.insert("name".into(), class.name.as_str().into());
    record
}

fn image_record(image: &Image) -> Map<String, Value> {
    let mut record = origin(image.coco.as_deref());
    let [width, height] = image.size;
    record.insert("id".into(), image.id.into());
    record.insert("file_name".into(), image.file.as_str().into());
    record.insert("width".into(), width.into());
    record.insert("height".into(), height.into());
    record
}

fn has_distinct_ids<'a>(mut objects: impl Iterator<Item = &'a Object>) -> bool {
    let mut seen = HashSet::new();
    objects.all(|object| object.id.is_some_and(|id| seen.insert(id)))
}

fn object_record(dataset: &Dataset, image: &Image, object: &Object, id: u64) -> Map<String, Value> {
    let rect = object.rect;
    let mut record = origin(object.coco.as_deref());
    record.insert("id".into(), id.into());
    record.entry("segmentation").or_insert(json!([]));
    record.insert("image_id".into(), image.id.into());
    record.insert(
        "category_id".into(),
        dataset.classes[object.class].id.into(),
    );
    record.insert(
        "bbox".into(),
        json!([rect.x, rect.y, rect.width, rect.height]),
    );
    record.insert(
        "area".into(),
        object.area.unwrap_or_else(|| rect.area()).into(),
    );
    record.insert("iscrowd".into(), u8::from(object.traits.crowd).into());
    let traits = [
        ("difficult", object.traits.difficult),
        ("truncated", object.traits.truncated),
        ("occluded", object.traits.occluded),
    ];
    let said = traits.into_iter().filter(|(_, is)| *is);
    let mut said: Map<String, Value> = said.map(|(key, is)| (key.into(), is.into())).collect();
    if let Some(pose) = &object.pose {
        said.insert("pose".into(), pose.as_str().into());
    }
    if !said.is_empty()
        && let Value::Object(attributes) = record.entry("attributes").or_insert(json!({}))
    {
        attributes.extend(said);
    }
    record
}
