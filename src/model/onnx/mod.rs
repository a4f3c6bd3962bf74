//! The ONNX front end: quantized files become a [`Graph`](crate::graph::Graph), float files go to tract as they are, or
//! become a graph that is then quantized.
//!
//! [`load`] decodes a file, [`expand`] writes operators on codes out, [`import`] makes the graph of the rest.

mod constant;
mod dequantize;
mod expand;
mod file;
mod fold;
mod import;
mod inputs;
mod load;
mod moves;
mod normalization;
mod operators;
mod products;
pub mod properties;
mod proto;
mod quantize;
mod site;
#[cfg(test)]
mod tests;
mod windows;

pub use file::{OnnxFile, OnnxHead};
pub(super) use load::{load, load_dequantized, load_graph};

/// What to do about an operator that has no integer kernel.
const FLOAT_ADVICE: &str =
    "pass --allow-float to run the model with float weights, or use a model without it";

/// What to do about an operator of a float model that the graph has no word for.
const EXPORT_ADVICE: &str = "export the model without it; what comes after the network, such as the decoding of boxes, is \
     better left out";
