//! A data set is written whole or not at all.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::find::{Keep, Query, form};
use super::{Dataset, Form, Image, Notes, coco, data_error, voc, yolo};
use crate::error::{Error, Result};

/// Where a data set goes, and how.
#[derive(Clone, Copy, Debug)]
pub struct Output<'a> {
    pub folder: &'a Path,
    pub form: Form,
    pub existing: Existing,
    pub pictures: Pictures,
}

/// What becomes of a data set that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    Refuse,
    Replace,
}

/// How pictures come into the new data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pictures {
    Copy,
    /// Hard links: no space is taken; on the same file system only.
    Link,
}

/// Writes a data set whose pictures are all there. Returns what the form cannot hold. `progress` is called after each
/// picture.
///
/// All is written into a folder beside the target, which takes its name at the end.
///
/// # Errors
/// [`Error::Usage`] if the folder is not empty, unless it holds a data set and is to be replaced; [`Error::Data`] if
/// two pictures would get one name; [`Error::Io`]. In each case nothing is left behind.
pub fn write(dataset: &Dataset, output: Output<'_>, progress: impl FnMut()) -> Result<Notes> {
    check_target(dataset, output)?;
    check_names(dataset, output.form)?;
    let staging = Staging::new(output.folder)?;
    let mut notes = Notes::default();
    let labels = match output.form {
        Form::Coco => coco::write_labels,
        Form::Yolo => yolo::write_labels,
        Form::Voc => voc::write_labels,
    };
    labels(dataset, &staging.folder, &mut notes)?;
    place_pictures(dataset, output, &staging.folder, progress)?;
    staging.publish(output.folder)?;
    Ok(notes)
}

/// Where a picture goes, below the folder of the data set.
fn picture(form: Form, image: &Image) -> String {
    match form {
        Form::Coco => coco::picture(image),
        Form::Yolo => yolo::picture(image),
        Form::Voc => voc::picture(image),
    }
}

fn check_target(dataset: &Dataset, output: Output<'_>) -> Result<()> {
    let folder = output.folder;
    let name = folder.display();
    let is_empty = match std::fs::read_dir(folder) {
        Ok(mut entries) => entries.next().is_none(),
        Err(_) if folder.exists() => {
            return Err(Error::Usage(format!("{name} is not a folder")));
        }
        Err(_) => true,
    };
    if is_empty {
        return Ok(());
    }
    if output.existing == Existing::Refuse {
        return Err(Error::Usage(format!(
            "{name} is not empty; name another folder, or replace the data set in it by --force"
        )));
    }
    let query = Query {
        path: folder,
        form: None,
        images: None,
        split: None,
        names: None,
        keep: Keep::Boxes,
    };
    if form(&query).is_err() {
        return Err(Error::Usage(format!(
            "{name} holds something else than one data set; --force does not delete that"
        )));
    }
    let real = |path: &Path| path.canonicalize().ok();
    let target = real(folder);
    let is_inside = |image: &Image| {
        let picture = image.path.as_deref().and_then(real);
        picture
            .zip(target.as_ref())
            .is_some_and(|(picture, target)| picture.starts_with(target))
    };
    if dataset.images.iter().any(is_inside) {
        return Err(Error::Usage(format!(
            "{name} holds the pictures that are read; name another folder"
        )));
    }
    Ok(())
}

/// Refuses two pictures that would share a name, or a file of labels.
fn check_names(dataset: &Dataset, form: Form) -> Result<()> {
    let mut seen = HashSet::new();
    for image in &dataset.images {
        let mut name = PathBuf::from(picture(form, image));
        if form != Form::Coco {
            name.set_extension("");
        }
        if !seen.insert(name) {
            return Err(Error::Data {
                file: dataset.name.clone(),
                reason: format!(
                    "two pictures would be called {} in the form {}; rename one",
                    picture(form, image),
                    form.name()
                ),
            });
        }
    }
    Ok(())
}

fn place_pictures(
    dataset: &Dataset,
    output: Output<'_>,
    folder: &Path,
    mut progress: impl FnMut(),
) -> Result<()> {
    for image in &dataset.images {
        let target = folder.join(picture(output.form, image));
        let Some(source) = &image.path else {
            return Err(data_error(
                Path::new(&image.file),
                "the picture is not there",
            ));
        };
        make_parent(&target)?;
        let action = format!("put {} into {}", source.display(), output.folder.display());
        match output.pictures {
            Pictures::Copy => std::fs::copy(source, &target).map(|_| ()),
            Pictures::Link => {
                // A link to a symbolic link would be as good as its target is near.
                let real = source.canonicalize().map_err(Error::io(action.clone()))?;
                std::fs::hard_link(real, &target)
            }
        }
        .map_err(Error::io(action))?;
        progress();
    }
    Ok(())
}

/// The splits of a data set, in the order in which they first occur; `None` for pictures in none.
pub(super) fn splits(dataset: &Dataset) -> Vec<Option<&str>> {
    let mut splits = Vec::new();
    for image in &dataset.images {
        let split = image.split.as_deref();
        if !splits.contains(&split) {
            splits.push(split);
        }
    }
    splits
}

/// Creates a file, and the folders that it lies in.
pub(super) fn create(path: &Path) -> Result<File> {
    make_parent(path)?;
    File::create(path).map_err(Error::io(format!("write {}", path.display())))
}

/// Writes a small file, and makes the folders that it lies in.
pub(super) fn write_text(path: &Path, text: &str) -> Result<()> {
    make_parent(path)?;
    std::fs::write(path, text).map_err(Error::io(format!("write {}", path.display())))
}

/// Writes a file that is there whole or not at all, also after a loss of power.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut hidden = OsString::from(".");
    hidden.push(path.file_name().unwrap_or_default());
    hidden.push(".part");
    let part = path.with_file_name(hidden);
    let written = create(&part).and_then(|mut file| {
        file.write_all(bytes)
            .and_then(|()| file.sync_all())
            .and_then(|()| std::fs::rename(&part, path))
            .map_err(Error::io(format!("write {}", path.display())))
    });
    written.inspect_err(|_| {
        // It may not even have come to be.
        let _ = std::fs::remove_file(&part);
    })
}

fn make_parent(path: &Path) -> Result<()> {
    let folder = path.parent().unwrap_or(path);
    std::fs::create_dir_all(folder)
        .map_err(Error::io(format!("make the folder {}", folder.display())))
}

/// A folder beside the one that it will become. It is deleted if it does not come to that.
struct Staging {
    folder: PathBuf,
}

impl Staging {
    fn new(target: &Path) -> Result<Self> {
        let staging = Self {
            folder: sibling(target, "part")?,
        };
        remove(&staging.folder)?;
        std::fs::create_dir_all(&staging.folder)
            .map_err(Error::io(format!("make the folder {}", target.display())))?;
        Ok(staging)
    }

    fn publish(self, target: &Path) -> Result<()> {
        let action = || format!("make the folder {}", target.display());
        if !target.exists() {
            return std::fs::rename(&self.folder, target).map_err(Error::io(action()));
        }
        let old = sibling(target, "old")?;
        remove(&old)?;
        std::fs::rename(target, &old).map_err(Error::io(action()))?;
        if let Err(error) = std::fs::rename(&self.folder, target) {
            // The old one comes back; if that fails too, it still is beside.
            let _ = std::fs::rename(&old, target);
            return Err(Error::io(action())(error));
        }
        remove(&old)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // After a failure nothing more can be done than to try.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// `.NAME.ending` beside a folder.
fn sibling(target: &Path, ending: &str) -> Result<PathBuf> {
    let absolute = std::path::absolute(target)
        .map_err(Error::io(format!("find the folder {}", target.display())))?;
    let Some(name) = absolute.file_name() else {
        return Err(Error::Usage(format!(
            "{}: name a folder for the data set",
            target.display()
        )));
    };
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{ending}"));
    Ok(absolute.with_file_name(hidden))
}

/// Deletes what an earlier try left.
fn remove(folder: &Path) -> Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    std::fs::remove_dir_all(folder).map_err(Error::io(format!("delete {}", folder.display())))
}
