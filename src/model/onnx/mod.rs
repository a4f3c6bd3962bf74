//! The ONNX front end: quantized files become a [`Graph`](crate::graph::Graph), float files go to tract as they are.

#[cfg(feature = "tract")]
mod constant;
#[cfg(feature = "tract")]
mod dequantize;
#[cfg(feature = "tract")]
mod expand;
#[cfg(feature = "tract")]
mod fold;
#[cfg(feature = "tract")]
mod import;
#[cfg(feature = "tract")]
mod inputs;
#[cfg(feature = "tract")]
mod load;
#[cfg(feature = "tract")]
mod moves;
#[cfg(feature = "tract")]
mod operators;
#[cfg(feature = "tract")]
mod products;
#[cfg(feature = "tract")]
mod proto;
#[cfg(feature = "tract")]
mod quantize;
#[cfg(feature = "tract")]
mod site;
#[cfg(all(test, feature = "tract"))]
mod tests;
#[cfg(feature = "tract")]
mod windows;

#[cfg(feature = "tract")]
pub(super) use load::{load, load_dequantized};

/// What to do about an operator that has no integer kernel.
#[cfg(feature = "tract")]
const FLOAT_ADVICE: &str =
    "pass --allow-float to run the model with float weights, or use a model without it";

/// A float ONNX file, which tract runs.
#[derive(Clone)]
pub struct OnnxFile {
    #[cfg(feature = "tract")]
    pub(crate) proto: std::sync::Arc<tract_onnx::pb::ModelProto>,
}

impl OnnxFile {
    /// The names of its operators, in the file's order.
    pub fn operators(&self) -> impl Iterator<Item = &str> {
        #[cfg(feature = "tract")]
        let nodes = self.proto.graph.iter().flat_map(|graph| &graph.node);
        #[cfg(feature = "tract")]
        let names = nodes.map(|node| node.op_type.as_str());
        #[cfg(not(feature = "tract"))]
        let names = std::iter::empty();
        names
    }
}

impl std::fmt::Debug for OnnxFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OnnxFile of {} operators", self.operators().count())
    }
}

/// This build reads no ONNX files.
#[cfg(not(feature = "tract"))]
pub(super) fn load(_bytes: &[u8], name: &str) -> crate::Result<super::Model> {
    Err(crate::Error::Unsupported {
        model: name.into(),
        feature: "an ONNX file in this build".into(),
        advice: "build eyas with the feature `tract`, or use a quantized .tflite".into(),
    })
}

#[cfg(not(feature = "tract"))]
pub(super) fn load_dequantized(bytes: &[u8], name: &str) -> crate::Result<super::Model> {
    load(bytes, name)
}
