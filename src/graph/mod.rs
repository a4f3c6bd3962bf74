//! The operators of a model and the values that flow between them.

mod op;
pub mod passes;
mod post_process;
pub mod shape;
mod validate;
mod windowed;

pub use op::{
    Activation, Conv2d, DetectionPostProcess, FakeQuantize, Op, Padding2d, Pool2d, ResizeMode,
    TransposedAxes,
};
pub use validate::MAX_BYTES;

use crate::tensor::{DType, QuantParams, Shape, TensorData, TensorInfo};

/// Index into [`Graph::values`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub usize);

/// A tensor in the graph: constant if it has data, else made by one node or fed from outside.
#[derive(Clone, Debug)]
pub struct Value {
    pub info: TensorInfo,
    /// Present on constants: as many elements as the shape has, of the type that `info` names.
    pub data: Option<TensorData>,
}

/// One operator at work.
#[derive(Clone, Debug)]
pub struct Node {
    pub op: Op,
    pub inputs: Vec<ValueId>,
    pub outputs: Vec<ValueId>,
    /// The operator's position in the model file, for messages.
    pub index: usize,
}

/// A model: nodes in an order in which every value is made before it is used.
///
/// Every shape is known and positive, every index valid, every value made at most once: the front ends in
/// `model` promise it and [`Graph::validate`] checks it.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    pub values: Vec<Value>,
    pub nodes: Vec<Node>,
    pub inputs: Vec<ValueId>,
    pub outputs: Vec<ValueId>,
}

impl Graph {
    /// The value behind an index.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.0]
    }

    /// Name, shape and type of a value.
    pub fn info(&self, id: ValueId) -> &TensorInfo {
        &self.values[id.0].info
    }

    /// Shape of a value.
    pub fn shape(&self, id: ValueId) -> &Shape {
        &self.info(id).shape
    }

    /// Element type of a value.
    pub fn dtype(&self, id: ValueId) -> DType {
        self.info(id).dtype
    }

    /// Quantization of a value.
    pub fn quant(&self, id: ValueId) -> Option<&QuantParams> {
        self.info(id).quant.as_ref()
    }

    /// Constant data of a value.
    pub fn constant(&self, id: ValueId) -> Option<&TensorData> {
        self.value(id).data.as_ref()
    }

    /// Whether no value that a node makes or reads holds 8-bit codes: such a graph runs in float.
    pub fn is_float(&self) -> bool {
        self.values
            .iter()
            .all(|value| !matches!(value.info.dtype, DType::U8 | DType::I8))
    }
}
