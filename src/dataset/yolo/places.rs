//! Where the pictures of a YOLO data set are.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use super::classes::Names;
use crate::dataset::data_error;
use crate::dataset::find::{Query, yolo_yaml};
use crate::dataset::folders::{
    MAX_SMALL_FILE, ending, entries, files_below, is_picture, name_below, read_text,
};
use crate::error::Result;

/// Parts of a data set that `data.yaml` may name.
const SPLITS: [&str; 3] = ["train", "val", "test"];

/// What is read of `data.yaml`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Yaml {
    path: Option<PathBuf>,
    train: Option<Places>,
    val: Option<Places>,
    test: Option<Places>,
    pub names: Option<Names>,
}

/// Folders, or text files that list pictures.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Places {
    One(PathBuf),
    Many(Vec<PathBuf>),
}

/// A picture and the name by which the data set knows it.
pub(super) struct Entry {
    pub path: PathBuf,
    pub file: String,
    pub split: Option<String>,
}

/// The folder of a data set, and what its YAML file says: nothing if there is none.
pub(super) fn root_and_yaml(path: &Path) -> Result<(PathBuf, Yaml)> {
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
pub(super) fn find_pictures(query: &Query<'_>, root: &Path, yaml: &Yaml) -> Result<Vec<Entry>> {
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
