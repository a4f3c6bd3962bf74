//! One operator of the file, and what its attributes say.

use tract_onnx::pb::{AttributeProto, NodeProto};

use crate::error::Error;

/// One operator.
#[derive(Clone, Debug)]
pub(super) struct Site {
    /// Position in the file.
    pub index: usize,
    pub node: NodeProto,
    /// The activations are quantized on the way in, by their own range.
    pub is_dynamic: bool,
}

impl Site {
    pub fn new(index: usize, node: NodeProto) -> Self {
        Self {
            index,
            node,
            is_dynamic: false,
        }
    }

    pub fn op(&self) -> &str {
        &self.node.op_type
    }

    /// Name of an input; `None` if it is left out.
    pub fn input(&self, position: usize) -> Option<&str> {
        let name = self.node.input.get(position)?;
        (!name.is_empty()).then_some(name)
    }

    /// Name of the first output; empty if there is none.
    pub fn output(&self) -> &str {
        self.node.output.first().map_or("", String::as_str)
    }

    fn place(&self) -> String {
        format!("operator {} ({:.80})", self.index, printable(self.op()))
    }

    /// The operator contradicts itself.
    pub fn damaged(&self, model: &str, reason: impl std::fmt::Display) -> Error {
        Error::model(model, format!("{}: {reason}", self.place()))
    }

    /// The operator asks for something that the integer plan does not do. `what` follows its name.
    pub fn unsupported(&self, model: &str, what: &str, advice: &str) -> Error {
        let space = if what.is_empty() { "" } else { " " };
        Error::Unsupported {
            model: model.into(),
            feature: format!("{}{space}{what}", self.place()),
            advice: advice.into(),
        }
    }

    fn attribute(&self, name: &str) -> Option<&AttributeProto> {
        self.node.attribute.iter().find(|list| list.name == name)
    }

    pub fn has(&self, name: &str) -> bool {
        self.attribute(name).is_some()
    }

    pub fn int(&self, name: &str, default: i64) -> i64 {
        self.attribute(name).map_or(default, |list| list.i)
    }

    pub fn float(&self, name: &str, default: f32) -> f32 {
        self.attribute(name).map_or(default, |list| list.f)
    }

    pub fn ints(&self, name: &str) -> Option<&[i64]> {
        self.attribute(name).map(|list| list.ints.as_slice())
    }

    pub fn floats(&self, name: &str) -> Option<&[f32]> {
        self.attribute(name).map(|list| list.floats.as_slice())
    }

    pub fn tensor(&self, name: &str) -> Option<&tract_onnx::pb::TensorProto> {
        self.attribute(name)?.t.as_ref()
    }

    /// A text; empty if it is not there.
    pub fn text(&self, name: &str) -> &str {
        let bytes = self.attribute(name).map(|list| list.s.as_slice());
        std::str::from_utf8(bytes.unwrap_or_default()).unwrap_or("?")
    }
}

/// A name of the file without what a terminal would act on.
pub(super) fn printable(name: &str) -> String {
    name.chars()
        .filter(|c| !c.is_control())
        .take(1 << 12)
        .collect()
}
