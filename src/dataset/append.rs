//! A data set that grows picture by picture, and is whole after each.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::find::{Keep, Query};
use super::write::replace;
use super::{Class, Dataset, Form, Image, Notes, Object, coco, data_error, find, voc, yolo};
use crate::error::{Error, Result};

/// How long pictures may be missing in a COCO file, which is written anew as a whole.
const FLUSH_INTERVAL: Duration = Duration::from_secs(30);

/// Adds pictures to a data set in a folder.
///
/// VOC and YOLO data sets are complete after each picture; the file of a COCO data set follows at most half a minute
/// later, and in [`Appender::finish`].
pub struct Appender {
    folder: PathBuf,
    /// For VOC and YOLO only the classes; for COCO all of it.
    dataset: Dataset,
    flushed: Instant,
    /// Pictures in the file of a COCO data set.
    flushed_images: usize,
    notes: Notes,
}

/// A picture to add.
pub struct NewImage<'a> {
    /// Its name without ending; a number is added if the name is taken.
    pub stem: &'a str,
    pub jpeg: &'a [u8],
    pub size: [u32; 2],
    /// Of the classes that [`Appender::class`] gave.
    pub objects: Vec<Object>,
}

impl Appender {
    /// Begins a data set in a folder that is empty or not there, or goes on with the one in it, which has to be of the
    /// same form. `classes` are known from the beginning on; others may follow.
    pub fn open(folder: &Path, form: Form, classes: &[String]) -> Result<Self> {
        let mut appender = Self {
            folder: folder.into(),
            dataset: existing(folder, form)?,
            flushed: Instant::now(),
            flushed_images: 0,
            notes: Notes::default(),
        };
        std::fs::create_dir_all(folder)
            .map_err(Error::io(format!("make the folder {}", folder.display())))?;
        for class in classes {
            appender.know(class);
        }
        appender.write_classes()?;
        Ok(appender)
    }

    /// The position of a class, which is added if it is new.
    pub fn class(&mut self, name: &str) -> Result<usize> {
        let count = self.dataset.classes.len();
        let position = self.know(name);
        if position == count {
            self.write_classes()?;
        }
        Ok(position)
    }

    fn know(&mut self, name: &str) -> usize {
        let classes = &mut self.dataset.classes;
        if let Some(position) = classes.iter().position(|class| class.name == name) {
            return position;
        }
        let highest = classes.iter().map(|class| class.id).max().unwrap_or(0);
        classes.push(Class {
            id: highest + 1,
            name: name.into(),
            coco: None,
        });
        classes.len() - 1
    }

    fn write_classes(&mut self) -> Result<()> {
        let classes = &self.dataset.classes;
        match self.dataset.form {
            Form::Coco => self.flush(),
            Form::Yolo => yolo::write_names(classes, &[None], &self.folder),
            Form::Voc => voc::write_label_map(classes, &self.folder),
        }
    }

    /// Adds a picture, and returns the bytes that it takes. After an error nothing of it is left.
    pub fn add(&mut self, new: NewImage<'_>) -> Result<u64> {
        let mut image = Image {
            id: self.dataset.images.last().map_or(1, |image| image.id + 1),
            file: format!("{}.jpg", new.stem),
            path: None,
            size: new.size,
            split: None,
            objects: new.objects,
            coco: None,
        };
        let picture = |image: &Image| match self.dataset.form {
            Form::Coco => self.folder.join(coco::picture(image)),
            Form::Yolo => self.folder.join(yolo::picture(image)),
            Form::Voc => self.folder.join(voc::picture(image)),
        };
        for number in 2.. {
            if !picture(&image).exists() {
                break;
            }
            image.file = format!("{}-{number}.jpg", new.stem);
        }
        let path = picture(&image);
        replace(&path, new.jpeg)?;
        let written = self.add_labels(image).inspect_err(|_| {
            // Where the disk is full, space is all that is wanted.
            let _ = std::fs::remove_file(&path);
        })?;
        Ok(new.jpeg.len() as u64 + written)
    }

    /// Writes what is known of a picture; returns its bytes.
    fn add_labels(&mut self, image: Image) -> Result<u64> {
        let (path, text) = match self.dataset.form {
            Form::Coco => {
                self.dataset.images.push(image);
                if self.flushed.elapsed() > FLUSH_INTERVAL
                    && let Err(error) = self.flush()
                {
                    self.dataset.images.pop();
                    return Err(error);
                }
                return Ok(0);
            }
            Form::Yolo => {
                let path = self.folder.join("labels").join(&image.file);
                (
                    path.with_extension("txt"),
                    yolo::label_lines(&image, &mut self.notes),
                )
            }
            Form::Voc => {
                let path = self.folder.join("Annotations").join(&image.file);
                let text = voc::annotation(&image, &self.dataset.classes, &mut self.notes);
                (path.with_extension("xml"), text)
            }
        };
        replace(&path, text.as_bytes())?;
        Ok(text.len() as u64)
    }

    /// Writes the file of a COCO data set.
    fn flush(&mut self) -> Result<()> {
        let path = self.folder.join("annotations/instances_default.json");
        let part = path.with_extension("part");
        coco::write_file(&self.dataset, self.dataset.images.iter(), &part)
            .and_then(|()| {
                std::fs::rename(&part, &path)
                    .map_err(Error::io(format!("write {}", path.display())))
            })
            .inspect_err(|_| {
                let _ = std::fs::remove_file(&part);
            })?;
        self.flushed = Instant::now();
        self.flushed_images = self.dataset.images.len();
        Ok(())
    }

    /// Writes what is not written yet: the file of a COCO data set, the list of pictures of a VOC data set. Where the disk
    /// is full, the newest pictures that a COCO file lacks make room for it.
    pub fn finish(&mut self) -> Result<()> {
        match self.dataset.form {
            Form::Coco if self.is_dirty() => {
                let mut outcome = self.flush();
                while self.is_dirty() && outcome.as_ref().is_err_and(is_full) {
                    if let Some(image) = self.dataset.images.pop() {
                        // If it cannot be deleted, the next one may be.
                        let _ = std::fs::remove_file(self.folder.join(coco::picture(&image)));
                    }
                    outcome = self.flush();
                }
                outcome
            }
            Form::Coco | Form::Yolo => Ok(()),
            Form::Voc => voc::write_list(&self.folder),
        }
    }

    /// Whether the file of a COCO data set lacks pictures.
    fn is_dirty(&self) -> bool {
        self.dataset.images.len() > self.flushed_images
    }
}

/// Whether there is no space on the disk.
fn is_full(error: &Error) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error, Error::Io { error, .. } if [StorageFull, QuotaExceeded].contains(&error.kind()))
}

/// The data set that a folder holds already, with its pictures only where they are needed.
fn existing(folder: &Path, form: Form) -> Result<Dataset> {
    let none = Dataset {
        name: folder.display().to_string(),
        form,
        classes: Vec::new(),
        images: Vec::new(),
        coco: Vec::new(),
    };
    let is_empty = match std::fs::read_dir(folder) {
        Ok(mut entries) => entries.next().is_none(),
        Err(_) => !folder.exists(),
    };
    if is_empty {
        return Ok(none);
    }
    let query = Query {
        path: folder,
        form: None,
        images: None,
        split: None,
        names: None,
        keep: Keep::Everything,
    };
    let is_same = find::form(&query).is_ok_and(|found| found == form);
    if !is_same {
        return Err(data_error(
            folder,
            format!(
                "is not empty, and holds no data set of the form {} to go on with; name another folder",
                form.name()
            ),
        ));
    }
    match form {
        Form::Coco => coco::read(&query),
        Form::Yolo => Ok(Dataset {
            classes: yolo::read_classes(&query)?,
            ..none
        }),
        Form::Voc => Ok(Dataset {
            classes: voc::read_classes(folder)?,
            ..none
        }),
    }
}
