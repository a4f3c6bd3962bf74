//! In place of the ONNX front end, in builds without the feature `tract`.

use std::sync::Arc;

use super::{Anchors, Model, RawHead, ScoreActivation};
use crate::error::{Error, Result};
use crate::graph::DetectionPostProcess;

/// A float ONNX file; this build reads none.
#[derive(Clone, Debug)]
pub enum OnnxFile {}

impl OnnxFile {
    /// The names of its operators, in the file's order.
    pub fn operators(&self) -> impl Iterator<Item = &str> {
        std::iter::empty()
    }

    pub(super) fn outputs(&self) -> Vec<(String, Vec<usize>)> {
        match *self {}
    }

    pub(super) fn ends_in_probabilities(&self, _output: usize) -> bool {
        match *self {}
    }

    pub(crate) fn head(&self) -> Option<&Arc<OnnxHead>> {
        match *self {}
    }

    pub(super) fn attach(
        &mut self,
        _head: &RawHead,
        _activation: ScoreActivation,
        _anchors: Anchors,
        _options: DetectionPostProcess,
    ) {
        match *self {}
    }
}

/// Post-processing after a file; this build has none.
#[derive(Debug)]
pub struct OnnxHead {
    pub options: DetectionPostProcess,
}

pub(super) fn load(_bytes: &[u8], name: &str) -> Result<Model> {
    Err(Error::Unsupported {
        model: name.into(),
        feature: "an ONNX file in this build".into(),
        advice: "build eyas with the feature `tract`, or use a quantized .tflite".into(),
    })
}

pub(super) fn load_graph(bytes: &[u8], name: &str) -> Result<Model> {
    load(bytes, name)
}

pub(super) fn load_dequantized(bytes: &[u8], name: &str) -> Result<Model> {
    load(bytes, name)
}
