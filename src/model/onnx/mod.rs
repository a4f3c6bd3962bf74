//! The ONNX front end: quantized files become a [`Graph`](crate::graph::Graph), float files go to tract as they are.
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
mod operators;
mod products;
mod proto;
mod quantize;
mod site;
#[cfg(test)]
mod tests;
mod windows;

pub use file::{OnnxFile, OnnxHead};
pub(super) use load::{load, load_dequantized};

/// What to do about an operator that has no integer kernel.
const FLOAT_ADVICE: &str =
    "pass --allow-float to run the model with float weights, or use a model without it";
