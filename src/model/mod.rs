//! A file becomes a [`Graph`], with what the file says about its labels and its input.

mod anchors;
mod content;
pub mod hub;
pub mod labels;
mod near;
#[cfg(not(feature = "tract"))]
#[path = "no_onnx.rs"]
mod onnx;
#[cfg(feature = "tract")]
mod onnx;
mod raw_head;
mod tflite;

pub use anchors::Anchors;
#[cfg(feature = "tract")]
pub(crate) use onnx::properties;
pub use onnx::{OnnxFile, OnnxHead};
pub use raw_head::{Decoding, RawHead, ScoreActivation};

use crate::error::Result;
use crate::graph::Graph;

/// A model file, parsed and checked.
#[derive(Clone, Debug)]
pub struct Model {
    /// The file as the user named it, for messages.
    pub name: String,
    /// The format and how the file is quantized, in words.
    pub format: String,
    pub program: Program,
    /// Inputs, by position, that the file has as `[batch, channels, height, width]` and engines take as
    /// `[batch, height, width, channels]`.
    pub nchw_inputs: Vec<usize>,
    /// The post-processing that [`Model::attach`] has put after the outputs, in words.
    pub head: Option<String>,
    pub metadata: Metadata,
}

impl Model {
    /// A model that comes from no file: a graph, whose inputs are as engines take them.
    pub fn of_graph(name: &str, graph: Graph, metadata: Metadata) -> Self {
        Self {
            name: name.into(),
            format: "a graph".into(),
            program: Program::Graph(graph),
            nchw_inputs: Vec::new(),
            head: None,
            metadata,
        }
    }
}

/// What there is to run.
#[derive(Clone, Debug)]
pub enum Program {
    /// From a `.tflite` file or a quantized `.onnx` file, or from a float one that is to be quantized.
    Graph(Graph),
    /// A float `.onnx` file.
    Onnx(OnnxFile),
}

/// What a file says beside its operators.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    /// Text of the label file packed into the model, or of the one that belongs to the model of this name.
    pub labels: Option<String>,
    /// How pixels of 0 to 255 become the model's real-valued input.
    pub normalization: Option<Normalization>,
    /// What makes probabilities of the scores that the model gives out; `None` if its operators tell.
    pub scores: Option<ScoreActivation>,
    /// The anchors of boxes that the model gives out raw.
    pub anchors: Option<Anchors>,
    /// The author's description.
    pub description: Option<String>,
    /// Of boxes of several classes at one place only the most confident is an object.
    pub agnostic_nms: bool,
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

/// As [`load`], but a quantized model becomes a float one: its weights dequantized, its codes real values.
pub fn load_dequantized(bytes: &[u8], name: &str) -> Result<Model> {
    match content::format(bytes, name)? {
        content::Format::Tflite => tflite::load_dequantized(bytes, name),
        content::Format::Onnx => onnx::load_dequantized(bytes, name),
    }
}

/// As [`load`], but a float `.onnx` file becomes a graph too, as quantization needs it.
///
/// # Errors
/// As of [`load`]; an operator that a graph has no word for.
pub fn load_graph(bytes: &[u8], name: &str) -> Result<Model> {
    match content::format(bytes, name)? {
        content::Format::Tflite => tflite::load(bytes, name),
        content::Format::Onnx => onnx::load_graph(bytes, name),
    }
}

/// Reads and parses a model file.
pub fn load_file(path: &std::path::Path) -> Result<Model> {
    let name = path.display().to_string();
    let bytes = std::fs::read(path).map_err(crate::Error::io(format!("read {name}")))?;
    load(&bytes, &name)
}
