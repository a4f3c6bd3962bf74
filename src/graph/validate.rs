//! The checks that let everything after the front ends index without looking.

use super::{Graph, Node, Op, ValueId, shape};
use crate::error::{Error, Result};
use crate::tensor::{DType, QuantParams, Shape, TensorInfo};

/// Bytes that the constants and the values of a graph may take together.
pub const MAX_BYTES: usize = 512 << 20;

impl Graph {
    /// Checks what the planner relies on. `model` is what messages call the file.
    ///
    /// - Indices are valid; every value is a constant, an input, or made once, before its first use; outputs are not
    ///   constants; weights, biases and anchors are constants; every node reads at least one value that is none.
    /// - Shapes are positive and are those of the shape rules; constants have their elements.
    /// - Element types fit the operator; weights are codes under codes, and real or int8 under real activations. 8-bit
    ///   values carry quantization parameters: finite scales above 0, zero points within the type; per channel only on
    ///   weights and biases, one for each output channel. Zero points are 0 of int8 weights under real activations
    ///   and of weights with a scale for each channel.
    /// - All values together take no more than [`MAX_BYTES`].
    pub fn validate(&self, model: &str) -> Result<()> {
        let made = self.check_structure(model)?;
        let mut bytes = 0usize;
        for (index, value) in self.values.iter().enumerate() {
            let fail = |reason: String| {
                Error::model(
                    model,
                    format!("tensor `{:.120}`: {reason}", value.info.name),
                )
            };
            check_info(&value.info).map_err(fail)?;
            match &value.data {
                Some(data)
                    if data.view().len() != value.info.shape.elements()
                        || data.view().dtype() != value.info.dtype =>
                {
                    return Err(fail("its data do not fit its shape and type".into()));
                }
                None if !made[index] => return Err(fail("nothing makes it".into())),
                _ => {}
            }
            bytes = bytes.saturating_add(value.info.shape.elements() * value.info.dtype.size());
        }
        if bytes > MAX_BYTES {
            return Err(Error::model(
                model,
                format!(
                    "its tensors take {} MiB, more than the {} MiB allowed; use a smaller model",
                    bytes >> 20,
                    MAX_BYTES >> 20
                ),
            ));
        }
        self.nodes
            .iter()
            .try_for_each(|node| self.check_node(node, model))
    }

    /// Which values an input or a node makes.
    fn check_structure(&self, model: &str) -> Result<Vec<bool>> {
        let fail = |reason: String| Error::model(model, reason);
        let count = self.values.len();
        let mut made = vec![false; count];
        let constant = |id: ValueId| self.values[id.0].data.is_some();
        for id in &self.inputs {
            if id.0 >= count || made[id.0] || constant(*id) {
                return Err(fail("an input is repeated, constant or absent".into()));
            }
            made[id.0] = true;
        }
        let fed = made.clone();
        for node in &self.nodes {
            let name = || format!("operator {} ({})", node.index, node.op.name());
            for id in &node.inputs {
                if id.0 >= count || !(made[id.0] || constant(*id)) {
                    return Err(fail(format!("{}: an input is not made before it", name())));
                }
            }
            if node.inputs.iter().all(|id| constant(*id)) {
                return Err(fail(format!("{}: all its inputs are constants", name())));
            }
            for id in &node.outputs {
                if id.0 >= count || made[id.0] || constant(*id) {
                    return Err(fail(format!("{}: an output is made twice", name())));
                }
                made[id.0] = true;
            }
        }
        if self.inputs.is_empty() || self.outputs.is_empty() || self.nodes.is_empty() {
            return Err(fail("it has no inputs, no operators or no outputs".into()));
        }
        if let Some(id) = self
            .outputs
            .iter()
            .find(|id| id.0 >= count || !made[id.0] || fed[id.0])
        {
            let name = self.values.get(id.0).map_or("", |v| v.info.name.as_str());
            return Err(fail(format!("no operator makes output `{name:.120}`")));
        }
        Ok(made)
    }

    fn check_node(&self, node: &Node, model: &str) -> Result<()> {
        let place = format!("operator {} ({})", node.index, node.op.name());
        self.check_types(node).map_err(|types| Error::Unsupported {
            model: model.into(),
            feature: format!("{place} {types}"),
            advice: "convert the model to float32, or to int8 with uint8, int8 or float32 inputs and outputs"
                .into(),
        })?;
        self.check_constants(node)
            .and_then(|()| self.check_quantization(node))
            .and_then(|()| self.check_shapes(node))
            .map_err(|reason| Error::model(model, format!("{place}: {reason}")))
    }

    fn check_shapes(&self, node: &Node) -> std::result::Result<(), String> {
        let inputs: Vec<&Shape> = node.inputs.iter().map(|id| self.shape(*id)).collect();
        let declared: Vec<&Shape> = node.outputs.iter().map(|id| self.shape(*id)).collect();
        let first = declared.first().ok_or("it has no outputs")?;
        let shapes = shape::output_shapes(&node.op, &inputs, first, declared.len())?;
        if shapes.iter().eq(declared.iter().copied()) {
            Ok(())
        } else {
            Err(format!(
                "its outputs have shapes {declared:?}, not {shapes:?}"
            ))
        }
    }

    /// The types of a node, in words, if they do not fit the operator.
    fn check_types(&self, node: &Node) -> std::result::Result<(), String> {
        let inputs: Vec<DType> = node.inputs.iter().map(|id| self.dtype(*id)).collect();
        let outputs: Vec<DType> = node.outputs.iter().map(|id| self.dtype(*id)).collect();
        if types_fit(&node.op, &inputs, &outputs) {
            return Ok(());
        }
        let names = |types: &[DType]| {
            let names: Vec<&str> = types.iter().map(|dtype| dtype.name()).collect();
            names.join(", ")
        };
        Err(format!("from {} to {}", names(&inputs), names(&outputs)))
    }

    fn check_constants(&self, node: &Node) -> std::result::Result<(), String> {
        let (variable, constant) = match node.op {
            Op::Conv2d(_) | Op::DepthwiseConv2d(_) | Op::FullyConnected(_) => {
                (1, node.inputs.len())
            }
            Op::DetectionPostProcess(_) => (2, 3),
            _ => return Ok(()),
        };
        for (position, id) in node.inputs.iter().enumerate() {
            let is_constant = self.constant(*id).is_some();
            if position < variable && is_constant {
                return Err(format!("its input {position} is a constant"));
            }
            if (variable..constant).contains(&position) && !is_constant {
                return Err(format!(
                    "its input {position} is computed; it must be a constant"
                ));
            }
        }
        Ok(())
    }

    fn check_quantization(&self, node: &Node) -> std::result::Result<(), String> {
        let weights_axis = match node.op {
            Op::Conv2d(_) | Op::FullyConnected(_) => Some(0),
            Op::DepthwiseConv2d(_) => Some(3),
            _ => None,
        };
        let ids = node.inputs.iter().chain(&node.outputs);
        for (position, id) in ids.enumerate() {
            let info = self.info(*id);
            let Some(quant) = &info.quant else {
                continue;
            };
            match (weights_axis, position) {
                (Some(_), 2) if node.inputs.len() == 3 => {}
                (Some(axis), 1) => {
                    let is_hybrid = self.dtype(node.inputs[0]) == DType::F32;
                    check_weights(quant, axis, is_hybrid)?;
                }
                _ if quant.is_per_channel() => {
                    return Err(format!("`{:.120}` is quantized per channel", info.name));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn check_weights(
    quant: &QuantParams,
    axis: usize,
    is_hybrid: bool,
) -> std::result::Result<(), String> {
    if quant.is_per_channel() && quant.axis != axis {
        return Err(format!(
            "its weights are quantized along axis {}, not {axis}",
            quant.axis
        ));
    }
    let is_symmetric = is_hybrid || quant.is_per_channel();
    if is_symmetric && quant.zero_points.iter().any(|&zero| zero != 0) {
        return Err("the zero points of its weights are not 0".into());
    }
    Ok(())
}

fn types_fit(op: &Op, inputs: &[DType], outputs: &[DType]) -> bool {
    use DType::{F32, I8, I32, U8};
    let tensor = |dtype: DType| matches!(dtype, U8 | I8 | F32);
    let quantized = |dtype: DType| matches!(dtype, U8 | I8);
    let (Some(&x), Some(&y)) = (inputs.first(), outputs.first()) else {
        return false;
    };
    match op {
        Op::Conv2d(_) | Op::DepthwiseConv2d(_) | Op::FullyConnected(_) => {
            let bias = if x == F32 { F32 } else { I32 };
            let weights = inputs.get(1).copied();
            tensor(x)
                && y == x
                && weights.is_some_and(|weights| match x {
                    F32 => weights == F32 || weights == I8,
                    _ => quantized(weights),
                })
                && inputs.get(2).is_none_or(|&dtype| dtype == bias)
        }
        Op::Quantize => tensor(x) && quantized(y),
        Op::Dequantize => quantized(x) && y == F32,
        Op::FakeQuantize(_) => x == F32 && y == F32,
        Op::ArgMax { .. } => tensor(x) && y == I32,
        Op::DetectionPostProcess(_) => {
            inputs.iter().all(|&dtype| tensor(dtype)) && outputs == [F32; 4]
        }
        _ => tensor(x) && inputs.iter().chain(outputs).all(|&dtype| dtype == x),
    }
}

fn check_info(info: &TensorInfo) -> std::result::Result<(), String> {
    if info.shape.elements() == 0 {
        return Err(format!("shape {} has no elements", info.shape));
    }
    let (least, most) = match info.dtype {
        DType::U8 => (0, 255),
        DType::I8 => (-128, 127),
        DType::I32 | DType::F32 => (i32::MIN, i32::MAX),
    };
    let Some(quant) = &info.quant else {
        return match info.dtype {
            DType::U8 | DType::I8 => Err("it has no quantization parameters".into()),
            DType::I32 | DType::F32 => Ok(()),
        };
    };
    let count = quant.scales.len();
    if count == 0 || quant.zero_points.len() != count {
        return Err("its scales and zero points are not equally many".into());
    }
    if count > 1 && info.shape.dims().get(quant.axis) != Some(&count) {
        return Err(format!(
            "{count} scales along axis {} do not fit shape {}",
            quant.axis, info.shape
        ));
    }
    if !quant
        .scales
        .iter()
        .all(|scale| scale.is_finite() && *scale > 0.0)
    {
        return Err("a scale is not a positive number".into());
    }
    if !quant
        .zero_points
        .iter()
        .all(|zero| (least..=most).contains(zero))
    {
        return Err(format!("a zero point is outside {}", info.dtype));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Activation, Value};
    use crate::tensor::TensorData;

    fn value(dims: [usize; 2], dtype: DType, quant: Option<QuantParams>) -> Value {
        Value {
            info: TensorInfo {
                name: "t".into(),
                shape: Shape::from(dims),
                dtype,
                quant,
            },
            data: None,
        }
    }

    /// `[1, 2] -> fully connected with [3, 2] int8 weights -> [1, 3]`
    fn graph() -> Graph {
        let quant = |scale| Some(QuantParams::per_tensor(scale, 0));
        let mut weights = value([3, 2], DType::I8, quant(0.5));
        weights.info.quant = Some(QuantParams {
            scales: vec![0.5; 3],
            zero_points: vec![0; 3],
            axis: 0,
        });
        weights.data = Some(TensorData::I8(vec![1; 6]));
        Graph {
            values: vec![
                value([1, 2], DType::I8, quant(1.0)),
                weights,
                value([1, 3], DType::I8, quant(2.0)),
            ],
            nodes: vec![Node {
                op: Op::FullyConnected(Activation::None),
                inputs: vec![ValueId(0), ValueId(1)],
                outputs: vec![ValueId(2)],
                index: 0,
            }],
            inputs: vec![ValueId(0)],
            outputs: vec![ValueId(2)],
        }
    }

    #[test]
    fn a_good_graph_passes_and_each_fault_is_named() {
        graph().validate("m").unwrap();
        type Fault = fn(&mut Graph);
        let faults: [(Fault, &str); 14] = [
            (|g| g.inputs.clear(), "not made before"),
            (|g| g.outputs[0] = ValueId(0), "no operator makes output"),
            (|g| g.outputs[0] = ValueId(9), "no operator makes output"),
            (|g| g.nodes[0].inputs[0] = ValueId(7), "not made before"),
            (|g| g.nodes.push(g.nodes[0].clone()), "made twice"),
            (
                |g| g.values[2].info.shape = Shape::from([1, 4]),
                "have shapes",
            ),
            (
                |g| g.values[1].data = Some(TensorData::I8(vec![])),
                "do not fit its shape",
            ),
            (|g| g.values[0].info.quant = None, "no quantization"),
            (
                |g| g.values[2].info.quant = Some(QuantParams::per_tensor(f32::NAN, 0)),
                "positive number",
            ),
            (
                |g| g.values[2].info.quant = Some(QuantParams::per_tensor(1.0, 128)),
                "zero point",
            ),
            (
                |g| g.values[1].info.quant.as_mut().unwrap().axis = 1,
                "do not fit shape",
            ),
            (
                |g| g.values[1].info.quant.as_mut().unwrap().zero_points[1] = 3,
                "are not 0",
            ),
            (
                |g| g.values[2].info.dtype = DType::U8,
                "from int8, int8 to uint8",
            ),
            (|g| g.nodes[0].op = Op::Logistic, "quantized per channel"),
        ];
        for (fault, message) in faults {
            let mut graph = graph();
            fault(&mut graph);
            let error = graph.validate("m").unwrap_err().to_string();
            assert!(error.contains(message), "{error} lacks {message}");
        }
    }
}
