//! Models by name: one that is part of the program, and public ones that are pulled once and kept.
//!
//! ```text
//! models.toml -> Registry -> Entry -> fetch (resumed, bounded) -> size and SHA-256 -> rename into the Cache
//! ```
//!
//! ```
//! use eyas::model::hub::{BuiltIn, Registry, Task};
//!
//! assert!(BuiltIn::DEFAULT.load()?.metadata.labels.is_some());
//! let registry = Registry::built_in()?;
//! let entry = registry.find("coco-ssd-mobilenet-v1").unwrap();
//! assert_eq!((entry.task, entry.licence.as_str()), (Task::Detect, "Apache-2.0"));
//! # Ok::<(), eyas::Error>(())
//! ```

mod builtin;
mod cache;
mod digest;
mod fetch;
mod http;
mod part;
mod pull;
mod registry;

use std::path::{Path, PathBuf};

pub use builtin::BuiltIn;
pub use cache::Cache;
pub use digest::Sha256;
pub use http::Patience;
use pull::Wanted;
pub use registry::{Entry, LabelSource, Registry, Remote, Task};

use super::Model;
use crate::error::{Error, Result};

/// The environment variable that names a list of models to use in place of the one that is part of the program.
const LIST_VARIABLE: &str = "EYAS_MODELS";

/// Public models: what there is, and what has been pulled.
#[derive(Clone, Debug)]
pub struct Hub {
    pub registry: Registry,
    pub cache: Cache,
    pub patience: Patience,
}

/// What a name stands for.
#[derive(Clone, Copy, Debug)]
pub enum Named<'a> {
    BuiltIn(&'static BuiltIn),
    Public(&'a Entry),
}

/// What [`Hub::pull`] does about files that are there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Keeps those whose hash is right.
    Check,
    /// Pulls them again.
    Replace,
}

/// How far a download is.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// The model.
    pub name: &'a str,
    pub done: u64,
    /// Bytes in all, where that is known.
    pub total: Option<u64>,
}

impl Hub {
    /// The hub that the environment asks for: `EYAS_MODELS`, [`Cache::from_env`].
    pub fn from_env() -> Result<Self> {
        let registry = match std::env::var_os(LIST_VARIABLE).filter(|value| !value.is_empty()) {
            None => Registry::built_in()?,
            Some(file) => {
                let name = Path::new(&file).display().to_string();
                let action = format!("read {name}, which {LIST_VARIABLE} names");
                let text = std::fs::read_to_string(&file).map_err(Error::io(action))?;
                Registry::parse(&text, &name)?
            }
        };
        Ok(Self {
            registry,
            cache: Cache::from_env()?,
            patience: Patience::default(),
        })
    }

    /// What `name` stands for. An unknown name is wrong usage, with names that are near it.
    pub fn find(&self, name: &str) -> Result<Named<'_>> {
        if let Some(model) = BuiltIn::find(name) {
            return Ok(Named::BuiltIn(model));
        }
        if let Some(entry) = self.registry.find(name) {
            return Ok(Named::Public(entry));
        }
        let near = self.registry.near(name);
        let advice = match near.is_empty() {
            true => String::new(),
            false => format!("did you mean {}? ", near.join(", ")),
        };
        Err(Error::Usage(format!(
            "no model is called {name:?}; {advice}`eyas models list` tells all names"
        )))
    }

    /// Where the file of a model is, if it has been pulled.
    pub fn path(&self, entry: &Entry) -> Option<PathBuf> {
        let files = self.files(entry);
        let complete = files.iter().all(|file| file.path.is_file());
        complete.then(|| self.model_path(entry))
    }

    /// Pulls the files of a model that are not there or are damaged, and says where the model is.
    ///
    /// A file takes its name only when its size and hash are those of the list. What comes before an interruption is
    /// kept, and the next pull goes on from there. Two programs that pull the same file at once take turns.
    pub fn pull(
        &self,
        entry: &Entry,
        existing: Existing,
        mut on_progress: impl FnMut(Progress<'_>),
    ) -> Result<PathBuf> {
        for file in self.files(entry) {
            if existing == Existing::Replace || !file.is_sound()? {
                self.cache.create()?;
                file.pull(&entry.name, self.patience, &mut on_progress)?;
            }
        }
        Ok(self.model_path(entry))
    }

    /// Reads a public model and its labels, which must have been pulled.
    pub fn load(&self, entry: &Entry) -> Result<Model> {
        let bytes = read(&self.model_path(entry))?;
        let mut model = super::load(&bytes, &entry.name)?;
        match &entry.labels {
            LabelSource::Missing | LabelSource::Embedded => {}
            LabelSource::BuiltIn(text) => model.metadata.labels = Some((*text).into()),
            LabelSource::Remote(remote) => {
                let path = self.label_path(entry, remote);
                let text = String::from_utf8(read(&path)?).map_err(|_| Error::Data {
                    file: path.display().to_string(),
                    reason: "the labels are not UTF-8 text".into(),
                })?;
                model.metadata.labels = Some(text);
            }
        }
        Ok(model)
    }

    fn model_path(&self, entry: &Entry) -> PathBuf {
        let extension = entry.extension().unwrap_or("tflite");
        self.cache.path(&entry.name, &entry.model.sha256, extension)
    }

    fn label_path(&self, entry: &Entry, remote: &Remote) -> PathBuf {
        self.cache.path(&entry.name, &remote.sha256, "labels.txt")
    }

    fn files<'a>(&self, entry: &'a Entry) -> Vec<Wanted<'a>> {
        let mut files = vec![Wanted {
            remote: &entry.model,
            member: entry.member.as_deref(),
            path: self.model_path(entry),
        }];
        if let LabelSource::Remote(remote) = &entry.labels {
            files.push(Wanted {
                remote,
                member: None,
                path: self.label_path(entry, remote),
            });
        }
        files
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(Error::io(format!("read {}", path.display())))
}
