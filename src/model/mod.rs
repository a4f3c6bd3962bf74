//! A file becomes a [`Graph`], with what the file says about its labels and its input.

mod content;
pub mod hub;
pub mod labels;
mod near;
mod onnx;
mod tflite;

use crate::error::Result;
use crate::graph::Graph;

/// A model file, parsed and checked.
#[derive(Clone, Debug)]
pub struct Model {
    /// The file as the user named it, for messages.
    pub name: String,
    pub program: Program,
    pub metadata: Metadata,
}

/// What there is to run.
#[derive(Clone, Debug)]
pub enum Program {
    /// From a `.tflite` file.
    Graph(Graph),
    /// The bytes of a float `.onnx` file, which tract loads itself.
    Onnx(Vec<u8>),
}

/// What a file says beside its operators.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    /// Text of the label file packed into the model, or of the one that belongs to the model of this name.
    pub labels: Option<String>,
    /// How pixels of 0 to 255 become the model's real-valued input.
    pub normalization: Option<Normalization>,
    /// The author's description.
    pub description: Option<String>,
}

/// `real = (pixel - mean) / std`, for each channel, or one value for all.
#[derive(Clone, Debug, PartialEq)]
pub struct Normalization {
    pub mean: Vec<f32>,
    pub std: Vec<f32>,
}

/// Parses a model by its content, not by its name. `name` is what messages call it.
pub fn load(bytes: &[u8], name: &str) -> Result<Model> {
    match content::format(bytes, name)? {
        content::Format::Tflite => tflite::load(bytes, name),
        content::Format::Onnx => onnx::load(bytes, name),
    }
}

/// Reads and parses a model file.
pub fn load_file(path: &std::path::Path) -> Result<Model> {
    let name = path.display().to_string();
    let bytes = std::fs::read(path).map_err(crate::Error::io(format!("read {name}")))?;
    load(&bytes, &name)
}
