//! The ONNX front end: float files go to tract as they are.

use super::Model;
use crate::error::{Error, Result};

/// Accepts a float `.onnx` file; one with quantized operators is refused by the first of them.
#[cfg(feature = "tract")]
pub(super) fn load(bytes: &[u8], name: &str) -> Result<Model> {
    use tract_onnx::prelude::Framework;

    let file = tract_onnx::onnx()
        .proto_model_for_read(&mut &bytes[..])
        .map_err(|_| {
            Error::model(
                name,
                "the file is damaged or cut short (it is no ONNX protobuf message); download or copy it again",
            )
        })?;
    let graph = file
        .graph
        .filter(|graph| !graph.node.is_empty() && !graph.output.is_empty())
        .ok_or_else(|| Error::model(name, "the file has no operators or no outputs"))?;
    let quantized = graph
        .node
        .iter()
        .position(|node| is_quantized(&node.op_type));
    if let Some(index) = quantized {
        return Err(Error::Unsupported {
            model: name.into(),
            feature: format!(
                "operator {index} ({}) of a quantized ONNX file",
                graph.node[index].op_type
            ),
            advice: "use the float .onnx file, or a quantized .tflite".into(),
        });
    }
    Ok(Model {
        name: name.into(),
        program: super::Program::Onnx(bytes.to_vec()),
        metadata: super::Metadata {
            labels: None,
            normalization: None,
            description: Some(file.doc_string).filter(|text| !text.is_empty()),
        },
    })
}

/// This build has no engine for ONNX files.
#[cfg(not(feature = "tract"))]
pub(super) fn load(_bytes: &[u8], name: &str) -> Result<Model> {
    Err(Error::Unsupported {
        model: name.into(),
        feature: "an ONNX file in this build".into(),
        advice: "build eyas with the feature `tract`, or use a quantized .tflite".into(),
    })
}

/// Operators on codes, of the standard and of ONNX Runtime's own domain.
#[cfg(feature = "tract")]
fn is_quantized(operator: &str) -> bool {
    operator.starts_with("QLinear")
        || operator.starts_with("QAttention")
        || operator.starts_with("QGemm")
        || matches!(
            operator,
            "QuantizeLinear"
                | "DequantizeLinear"
                | "DynamicQuantizeLinear"
                | "ConvInteger"
                | "MatMulInteger"
        )
}
