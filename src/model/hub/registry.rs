//! The list of public models: `models/models.toml`, or another file of its form.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::builtin::{self, BuiltIn};
use super::digest::Sha256;
use super::http;
use crate::error::{Error, Result};
use crate::model::near::near;

/// The largest file that an entry may state.
const MAX_BYTES: u64 = 1 << 28;

/// Public models by name.
#[derive(Clone, Debug)]
pub struct Registry {
    entries: Vec<Entry>,
}

/// A public model.
#[derive(Clone, Debug)]
pub struct Entry {
    pub name: String,
    /// One line.
    pub description: String,
    pub task: Task,
    pub licence: String,
    /// Address of the project that it comes from.
    pub source: String,
    /// The model itself; out of its archive, if it lies in one.
    pub model: Remote,
    /// The model's name in the zip archive that [`Remote::url`] leads to.
    pub member: Option<String>,
    pub labels: LabelSource,
}

/// What a model answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// Boxes.
    Detect,
    /// A score for each class.
    Classify,
}

impl Task {
    pub fn name(self) -> &'static str {
        match self {
            Self::Detect => "detect",
            Self::Classify => "classify",
        }
    }
}

/// A file somewhere else, and what it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    pub url: String,
    pub size: u64,
    pub sha256: Sha256,
}

/// Where the labels of a model are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LabelSource {
    /// Nowhere.
    Missing,
    /// Packed into the model.
    Embedded,
    /// Part of eyas: the text of a file in `labels/`.
    BuiltIn(&'static str),
    Remote(Remote),
}

/// A table of the file, as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    description: String,
    task: Task,
    licence: String,
    source: String,
    url: String,
    member: Option<String>,
    size: u64,
    sha256: String,
    labels: Option<LabelsTable>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum LabelsTable {
    Named(String),
    Remote(RemoteTable),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RemoteTable {
    url: String,
    size: u64,
    sha256: String,
}

impl Registry {
    /// The list that is part of eyas.
    pub fn built_in() -> Result<Self> {
        let text = include_str!("../../../models/models.toml");
        Self::parse(text, "models/models.toml")
    }

    /// Reads a list; `file` is for messages.
    pub fn parse(text: &str, file: &str) -> Result<Self> {
        let fail = |reason: String| Error::Data {
            file: file.into(),
            reason,
        };
        let tables: BTreeMap<String, Table> =
            toml::from_str(text).map_err(|error| fail(error.to_string().trim_end().into()))?;
        let entries = tables.into_iter().map(|(name, table)| {
            entry(&name, table).map_err(|reason| fail(format!("model {name:?}: {reason}")))
        });
        Ok(Self {
            entries: entries.collect::<Result<_>>()?,
        })
    }

    /// All models, by name.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The model of a name.
    pub fn find(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    /// Names of public and built-in models that `name` may have been meant for, the likeliest first.
    pub fn near(&self, name: &str) -> Vec<&str> {
        let names = self.entries.iter().map(|entry| entry.name.as_str());
        near(
            name,
            names.chain(BuiltIn::ALL.iter().map(|built_in| built_in.name)),
        )
    }
}

fn entry(name: &str, table: Table) -> std::result::Result<Entry, String> {
    check_name(name)?;
    let model = remote(table.url, table.size, &table.sha256)?;
    let entry = Entry {
        name: name.into(),
        description: table.description,
        task: table.task,
        licence: table.licence,
        source: table.source,
        model,
        member: table.member,
        labels: labels(table.labels).map_err(|reason| format!("labels: {reason}"))?,
    };
    match entry.extension() {
        Some(_) => Ok(entry),
        None => Err("the file is neither .tflite nor .onnx; name it by `member` if it lies in a zip archive".into()),
    }
}

/// Names are parts of file names, and are told from file names by having no ending.
fn check_name(name: &str) -> std::result::Result<(), String> {
    let sound = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() || name.len() > 64 || !name.chars().all(sound) {
        return Err("a name is at most 64 of the characters a-z, 0-9 and -".into());
    }
    match BuiltIn::find(name) {
        Some(_) => Err("this is the name of a built-in model; use another".into()),
        None => Ok(()),
    }
}

fn remote(url: String, size: u64, sha256: &str) -> std::result::Result<Remote, String> {
    http::check_address(&url)?;
    if !(1..=MAX_BYTES).contains(&size) {
        return Err(format!(
            "size {size} is not a number of bytes from 1 to {MAX_BYTES}"
        ));
    }
    let sha256 = Sha256::parse(sha256).ok_or("sha256 is not 64 hexadecimal digits")?;
    Ok(Remote { url, size, sha256 })
}

fn labels(table: Option<LabelsTable>) -> std::result::Result<LabelSource, String> {
    Ok(match table {
        None => LabelSource::Missing,
        Some(LabelsTable::Remote(table)) => {
            LabelSource::Remote(remote(table.url, table.size, &table.sha256)?)
        }
        Some(LabelsTable::Named(name)) if name == "embedded" => LabelSource::Embedded,
        Some(LabelsTable::Named(name)) => {
            LabelSource::BuiltIn(builtin::labels(&name).ok_or_else(|| {
                format!(
                    "{name:?} is not one of embedded, {}",
                    builtin::LABEL_NAMES.join(", ")
                )
            })?)
        }
    })
}

impl Entry {
    /// The ending of the model's file name: `tflite` or `onnx`.
    pub(super) fn extension(&self) -> Option<&'static str> {
        let file = match &self.member {
            Some(member) => member,
            None => self.model.url.split(['?', '#']).next()?,
        };
        let (_, ending) = file.rsplit_once('.')?;
        ["tflite", "onnx"]
            .into_iter()
            .find(|known| ending.eq_ignore_ascii_case(known))
    }
}
