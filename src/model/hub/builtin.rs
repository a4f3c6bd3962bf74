//! What is part of the program: the built-in models, and label files that public models share.

use crate::error::Result;
use crate::model::{self, Model};

/// A model that is part of the program.
#[derive(Debug)]
pub struct BuiltIn {
    pub name: &'static str,
    /// One line.
    pub description: &'static str,
    pub licence: &'static str,
    /// The content of a `.tflite` file.
    pub model: &'static [u8],
    /// The content of a label file.
    pub labels: &'static str,
}

/// Finds printed codes.
static CODES: BuiltIn = BuiltIn {
    name: "codes",
    description: "QR codes, Data Matrix, Aztec, PDF417, barcodes and markers",
    licence: "MIT OR Apache-2.0",
    model: include_bytes!("../../../models/codes.tflite"),
    labels: include_str!("../../../labels/codes.txt"),
};

impl BuiltIn {
    /// All of them.
    pub const ALL: [&'static Self; 1] = [&CODES];
    /// The one that runs when no model is named.
    pub const DEFAULT: &'static Self = &CODES;

    /// The built-in model of a name.
    pub fn find(name: &str) -> Option<&'static Self> {
        Self::ALL.into_iter().find(|model| model.name == name)
    }

    /// The model with its labels.
    pub fn load(&self) -> Result<Model> {
        let mut model = model::load(self.model, self.name)?;
        model.metadata.labels = Some(self.labels.into());
        // A printed code is of one kind.
        model.metadata.agnostic_nms = true;
        Ok(model)
    }
}

/// The names of [`labels`].
pub(super) const LABEL_NAMES: [&str; 2] = ["coco", "codes"];

/// The label file of a name.
pub(super) fn labels(name: &str) -> Option<&'static str> {
    match name {
        "coco" => Some(include_str!("../../../labels/coco.txt")),
        "codes" => Some(CODES.labels),
        _ => None,
    }
}
