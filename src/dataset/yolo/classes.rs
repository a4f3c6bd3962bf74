//! The classes of a YOLO data set.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::places::root_and_yaml;
use crate::dataset::find::Query;
use crate::dataset::folders::{MAX_SMALL_FILE, read_text};
use crate::dataset::{Class, data_error};
use crate::error::Result;

/// The largest class id that a label may have.
pub(super) const MAX_CLASS: usize = 100_000;

/// The names in `data.yaml`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Names {
    List(Vec<String>),
    Map(BTreeMap<usize, String>),
}

/// The classes that have names, without a look at any picture.
pub fn read_classes(query: &Query<'_>) -> Result<Vec<Class>> {
    let (root, yaml) = root_and_yaml(query.path)?;
    classes(class_names(query, &root, yaml.names)?, 0, query.path)
}

/// Names by id: those that the query brings, else of the YAML file, else of `classes.txt`; of the latter also where it
/// goes on after the names of the YAML file, as it does when LabelImg has added a class.
pub(super) fn class_names(
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
pub(super) fn classes(
    names: Vec<Option<String>>,
    highest: usize,
    path: &Path,
) -> Result<Vec<Class>> {
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
