//! In place of the writer of `.onnx` files, in builds without the feature `tract`.

use super::lower::Lowered;
use super::scheme::Mode;
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::model::{Metadata, Model};

/// Nothing; this build writes no ONNX file.
pub struct Interface;

impl Interface {
    pub fn of(_model: &Model) -> Self {
        Self
    }
}

pub fn check(_graph: &Graph, _mode: Mode, model: &str) -> Result<()> {
    Err(Error::Unsupported {
        model: model.into(),
        feature: "writing an ONNX file in this build".into(),
        advice: "build eyas with the feature `tract`, or write a .tflite".into(),
    })
}

pub fn write(
    _lowered: &Lowered,
    _metadata: &Metadata,
    _interface: &Interface,
    model: &str,
) -> Result<Vec<u8>> {
    check(&Graph::default(), Mode::Weights, model).map(|()| Vec::new())
}
