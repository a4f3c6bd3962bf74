//! The writer of `.onnx` files: float operators between QuantizeLinear and DequantizeLinear (QDQ), as ONNX Runtime and
//! eyas's own importer take them.
//!
//! Values are NHWC in the quantized model and NCHW in the file. A [`View`](writer::View) of the writer says which axes
//! of a value a tensor of the file has, so that most transpositions are only told, not written.

mod constants;
mod operators;
mod proto;
mod writer;

use prost::Message;
use tract_onnx::pb::{ModelProto, OperatorSetIdProto};

use super::lower::{Element, Lowered};
use super::scheme::Mode;
use crate::error::Result;
use crate::graph::{Graph, Op};
use crate::model::{Metadata, Model, Program, properties};
use writer::Writer;

/// The oldest operator set that has all that is written: QuantizeLinear with `axis`.
const OPSET: i64 = 13;

/// The operator set from which on there is HardSwish.
const HARD_SWISH_OPSET: i64 = 14;

/// The operator set from which on there are codes of 16 bits.
const INT16_OPSET: i64 = 21;

/// What a file's inputs and outputs are called, and how its input is laid out: as in the float model.
pub struct Interface {
    outputs: Vec<String>,
    /// The input is `[batch, channels, height, width]`.
    is_nchw: bool,
}

impl Interface {
    /// That of a float model.
    pub fn of(model: &Model) -> Self {
        let outputs = match &model.program {
            Program::Graph(graph) => {
                let ids = graph.outputs.iter();
                ids.map(|&id| graph.info(id).name.clone()).collect()
            }
            Program::Onnx(_) => Vec::new(),
        };
        Self {
            outputs,
            is_nchw: model.nchw_inputs.contains(&0),
        }
    }
}

/// Refuses what has no twin in ONNX, before long work is lost on it. `model` is for messages.
///
/// # Errors
/// An operator that ONNX lacks; the mode.
pub fn check(graph: &Graph, mode: Mode, model: &str) -> Result<()> {
    if mode == Mode::Dynamic {
        return Err(crate::Error::Unsupported {
            model: model.into(),
            feature: "--mode dynamic in an .onnx file".into(),
            advice: "write a .tflite file, or pass --mode weights or --mode static".into(),
        });
    }
    let mut operators = graph.nodes.iter().map(|node| &node.op);
    operators.try_for_each(|op| operators::check(op, model))
}

/// The bytes of an `.onnx` file. The same model gives the same bytes. `model` is for messages.
///
/// # Errors
/// An operator that ONNX lacks.
pub fn write(
    lowered: &Lowered,
    metadata: &Metadata,
    interface: &Interface,
    model: &str,
) -> Result<Vec<u8>> {
    let opset = opset(lowered);
    let mut writer = Writer::new(lowered, interface, opset);
    for &input in &lowered.inputs {
        writer.input(input, interface.is_nchw);
    }
    for operator in &lowered.operators {
        operators::write(&mut writer, operator, model)?;
    }
    let graph = writer.finish(lowered, interface);
    let file = ModelProto {
        // The versions of the format that came with the operator sets.
        ir_version: if opset < INT16_OPSET { 7 } else { 10 },
        opset_import: vec![OperatorSetIdProto {
            domain: String::new(),
            version: opset,
        }],
        producer_name: env!("CARGO_PKG_NAME").into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        doc_string: metadata.description.clone().unwrap_or_default(),
        graph: Some(graph),
        metadata_props: properties::write(metadata),
        ..Default::default()
    };
    Ok(file.encode_to_vec())
}

/// The oldest operator set that a model needs.
fn opset(lowered: &Lowered) -> i64 {
    let has_int16 = |tensor: &super::lower::Tensor| tensor.element == Element::I16;
    let is_hard_swish = |operator: &super::lower::Operator| operator.op == Op::HardSwish;
    if lowered.tensors.iter().any(has_int16) {
        INT16_OPSET
    } else if lowered.operators.iter().any(is_hard_swish) {
        HARD_SWISH_OPSET
    } else {
        OPSET
    }
}

#[cfg(test)]
mod tests;
