//! What a path holds.

use std::path::{Path, PathBuf};

use super::folders::{ending, entries, files, is_picture};
use super::{Form, data_error};
use crate::error::{Error, Result};

/// Which data set is to be read, and how much of it.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// A folder, a COCO JSON file, or the YAML file of a YOLO data set.
    pub path: &'a Path,
    /// The form; `None`: told by what is there.
    pub form: Option<Form>,
    /// Where the pictures are; `None`: where the form has them.
    pub images: Option<&'a Path>,
    /// Only this part: `val`. `None`: all of it.
    pub split: Option<&'a str>,
    /// Names of the classes of a YOLO data set, by id, where it brings none.
    pub names: Option<&'a [String]>,
    /// Whether to keep what only COCO files hold.
    pub keep: Keep,
}

/// How much of a COCO file is kept in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Boxes and what eyas knows of them.
    Boxes,
    /// Segmentations, licences and all else too.
    Everything,
}

/// What a path holds.
#[derive(Clone, Debug)]
pub enum Contents {
    /// A data set that [`super::read`] reads.
    Boxes,
    /// A folder of pictures for each class, by name: a data set for classifiers.
    ClassFolders(Vec<(String, Vec<PathBuf>)>),
}

/// Tells data sets with boxes from those of classifiers.
///
/// # Errors
/// What is neither, as [`super::read`] says it.
pub fn look(query: &Query<'_>) -> Result<Contents> {
    let Err(error) = form(query) else {
        return Ok(Contents::Boxes);
    };
    let path = query
        .split
        .map_or(query.path.into(), |split| query.path.join(split));
    let folders = class_folders(&path);
    match folders.len() {
        0 => Err(error),
        _ => Ok(Contents::ClassFolders(folders)),
    }
}

/// The form of the data set that a query means.
pub(super) fn form(query: &Query<'_>) -> Result<Form> {
    let path = query.path;
    if !path.exists() {
        return Err(Error::Usage(format!(
            "{}: there is no such data set",
            path.display()
        )));
    }
    if let Some(form) = query.form {
        return Ok(form);
    }
    if path.is_file() {
        return match ending(path).as_str() {
            "json" => Ok(Form::Coco),
            "yaml" | "yml" => Ok(Form::Yolo),
            _ => Err(data_error(
                path,
                "not a data set; pass a folder, a COCO .json file or a YOLO data.yaml",
            )),
        };
    }
    let here = [
        (Form::Coco, !coco_files(path).is_empty()),
        (Form::Yolo, is_yolo(path)),
        (Form::Voc, voc_folder(path).is_some()),
    ];
    let found: Vec<Form> = here
        .into_iter()
        .filter_map(|(form, is)| is.then_some(form))
        .collect();
    match found[..] {
        [form] => Ok(form),
        [] => Err(data_error(
            path,
            "no data set is here: no COCO .json file, no YOLO data.yaml or labels folder, no VOC .xml files",
        )),
        _ => {
            let names: Vec<&str> = found.into_iter().map(Form::name).collect();
            Err(data_error(
                path,
                format!(
                    "looks like more than one form ({}); say which by --form",
                    names.join(", ")
                ),
            ))
        }
    }
}

/// The JSON files of a COCO data set: those in `annotations`, else in the folder itself; of several only those with
/// instances, as COCO names them.
pub(super) fn coco_files(folder: &Path) -> Vec<PathBuf> {
    let json = |folder: &Path| {
        let mut files = files(folder);
        files.retain(|path| ending(path) == "json");
        files
    };
    let mut found = json(&folder.join("annotations"));
    if found.is_empty() {
        found = json(folder);
    }
    let is_instances = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default();
        name.to_string_lossy().starts_with("instances_")
    };
    if found.iter().any(is_instances) {
        found.retain(is_instances);
    }
    found
}

/// The YAML file of a YOLO data set.
pub(super) fn yolo_yaml(folder: &Path) -> Option<PathBuf> {
    let known = ["data.yaml", "data.yml", "dataset.yaml"].map(|name| folder.join(name));
    known.into_iter().find(|path| path.is_file())
}

fn is_yolo(folder: &Path) -> bool {
    yolo_yaml(folder).is_some()
        || folder.join("labels").is_dir()
        || folder.join("classes.txt").is_file()
}

/// The folder with the XML files of a VOC data set.
pub(super) fn voc_folder(folder: &Path) -> Option<PathBuf> {
    let known = ["Annotations", "annotations", ""].map(|name| folder.join(name));
    let has_xml = |folder: &PathBuf| {
        let mut inside = entries(folder).into_iter();
        inside.any(|path| {
            ending(&path) == "xml"
                || path.is_dir() && files(&path).iter().any(|p| ending(p) == "xml")
        })
    };
    let [upper, lower, here] = known;
    let beside = |folder: &PathBuf| files(folder).iter().any(|path| ending(path) == "xml");
    [upper, lower]
        .into_iter()
        .find(has_xml)
        .or_else(|| Some(here).filter(beside))
}

/// The folders in a folder that hold pictures.
fn class_folders(folder: &Path) -> Vec<(String, Vec<PathBuf>)> {
    let folders = entries(folder).into_iter().filter(|path| path.is_dir());
    folders
        .filter_map(|path| {
            let name = path.file_name()?.to_string_lossy().into_owned();
            let mut pictures = files(&path);
            pictures.retain(|path| is_picture(path));
            (!pictures.is_empty()).then_some((name, pictures))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(path: &Path) -> Query<'_> {
        Query {
            path,
            form: None,
            images: None,
            split: None,
            names: None,
            keep: Keep::Boxes,
        }
    }

    fn touch(path: PathBuf) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "x").unwrap();
    }

    #[test]
    fn forms_are_told_by_what_is_there() {
        for (file, expected) in [
            ("annotations/instances_val.json", Form::Coco),
            ("labels.json", Form::Coco),
            ("data.yaml", Form::Yolo),
            ("labels/1.txt", Form::Yolo),
            ("classes.txt", Form::Yolo),
            ("annotations/1.xml", Form::Voc),
            ("Annotations/a/1.xml", Form::Voc),
            ("1.xml", Form::Voc),
        ] {
            let folder = tempfile::tempdir().unwrap();
            touch(folder.path().join(file));
            assert_eq!(form(&query(folder.path())).unwrap(), expected, "{file}");
        }
    }

    #[test]
    fn what_is_none_or_several_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        assert!(
            form(&query(path))
                .unwrap_err()
                .to_string()
                .contains("no data set")
        );
        assert_eq!(form(&query(&path.join("no"))).unwrap_err().exit_code(), 2);
        touch(path.join("data.yaml"));
        touch(path.join("a.json"));
        let error = form(&query(path)).unwrap_err().to_string();
        assert!(
            error.contains("coco, yolo") && error.contains("--form"),
            "{error}"
        );
        let asked = Query {
            form: Some(Form::Yolo),
            ..query(path)
        };
        assert_eq!(form(&asked).unwrap(), Form::Yolo);
    }

    #[test]
    fn of_cocos_own_files_only_those_with_instances_count() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "captions_val.json",
            "instances_val.json",
            "instances_train.json",
        ] {
            touch(folder.path().join("annotations").join(name));
        }
        let names: Vec<_> = coco_files(folder.path())
            .iter()
            .map(|path| path.file_name().unwrap().to_owned())
            .collect();
        assert_eq!(names, ["instances_train.json", "instances_val.json"]);
    }
}
