//! A quantized model as a float graph that rounds as it does.

use super::lower::{Constant, Element, Lowered, Tensor};
use crate::graph::{Activation, FakeQuantize, Graph, Node, Op, Value, ValueId};
use crate::tensor::{DType, QuantParams, Shape, TensorData, TensorInfo};

/// The float graph that computes with the codes' real values: weights are what their codes stand for, and every
/// activation of codes is rounded to its grid. Real kernels differ by the rounding of intermediate sums alone.
/// Activations that are quantized on the fly stay real.
pub fn simulate(lowered: &Lowered) -> Graph {
    let mut graph = Graph {
        values: lowered.tensors.iter().map(value).collect(),
        ..Graph::default()
    };
    for &input in &lowered.inputs {
        let id = match grid(&lowered.tensors[input]) {
            None => ValueId(input),
            Some(grid) => {
                let real = twin(&mut graph, input, "unrounded");
                let shifted = shifted(&mut graph, real, &lowered.input_shift);
                let code = vec![ValueId(input)];
                push(&mut graph, Op::FakeQuantize(grid), vec![shifted], code);
                real
            }
        };
        graph.inputs.push(id);
    }
    for operator in &lowered.operators {
        let inputs: Vec<ValueId> = operator.inputs.iter().copied().map(ValueId).collect();
        let grids = operator
            .outputs
            .iter()
            .map(|&output| grid(&lowered.tensors[output]));
        let grids: Vec<Option<FakeQuantize>> = grids.collect();
        match (&operator.op, grids.as_slice()) {
            (Op::Quantize, &[Some(grid)]) => {
                let outputs = vec![ValueId(operator.outputs[0])];
                push(&mut graph, Op::FakeQuantize(grid), inputs, outputs);
            }
            (Op::Dequantize, _) => dequantize(&mut graph, inputs[0], operator.outputs[0]),
            (op, grids) => {
                let rounds = !only_moves(op);
                let mut outputs = Vec::new();
                let mut roundings = Vec::new();
                for (&output, grid) in operator.outputs.iter().zip(grids) {
                    match grid {
                        Some(grid) if rounds => {
                            let raw = twin(&mut graph, output, "unrounded");
                            roundings.push((*grid, raw, ValueId(output)));
                            outputs.push(raw);
                        }
                        _ => outputs.push(ValueId(output)),
                    }
                }
                push(&mut graph, op.clone(), inputs, outputs);
                for (grid, raw, output) in roundings {
                    push(&mut graph, Op::FakeQuantize(grid), vec![raw], vec![output]);
                }
            }
        }
    }
    graph.outputs = lowered.outputs.iter().copied().map(ValueId).collect();
    graph
}

/// Real values stay as they are; those of a constant become a constant.
fn dequantize(graph: &mut Graph, input: ValueId, output: usize) {
    match graph.constant(input).cloned() {
        Some(data) => graph.values[output].data = Some(data),
        None => push(
            graph,
            Op::Activation(Activation::None),
            vec![input],
            vec![ValueId(output)],
        ),
    }
}

/// Whether every result is one of the inputs, and so on the grid already.
pub(super) fn only_moves(op: &Op) -> bool {
    matches!(
        op,
        Op::Concat { .. }
            | Op::Reshape
            | Op::Pad { .. }
            | Op::MaxPool2d(_)
            | Op::ResizeNearest(_)
            | Op::Pack { .. }
            | Op::Split { .. }
            | Op::StridedSlice { .. }
            | Op::Transpose(_)
            | Op::SpaceToBatch { .. }
            | Op::BatchToSpace { .. }
    )
}

fn push(graph: &mut Graph, op: Op, inputs: Vec<ValueId>, outputs: Vec<ValueId>) {
    let index = graph.nodes.len();
    graph.nodes.push(Node {
        op,
        inputs,
        outputs,
        index,
    });
}

/// A value of the same shape under another name.
fn twin(graph: &mut Graph, of: usize, suffix: &str) -> ValueId {
    let mut value = graph.values[of].clone();
    value.info.name = format!("{}/{suffix}", value.info.name);
    graph.values.push(value);
    ValueId(graph.values.len() - 1)
}

/// The picture as its bytes say it when they are the codes; `shift` is by channel, empty for none.
fn shifted(graph: &mut Graph, picture: ValueId, shift: &[f32]) -> ValueId {
    if shift.is_empty() {
        return picture;
    }
    let result = twin(graph, picture.0, "shifted");
    let mut value = graph.values[result.0].clone();
    value.info.name += "/by";
    value.info.shape = Shape::from([1, 1, 1, shift.len()]);
    value.data = Some(TensorData::F32(shift.to_vec()));
    graph.values.push(value);
    let by = ValueId(graph.values.len() - 1);
    push(
        graph,
        Op::Add(Activation::None),
        vec![picture, by],
        vec![result],
    );
    result
}

/// The grid of an activation of codes.
fn grid(tensor: &Tensor) -> Option<FakeQuantize> {
    let (quant, [lowest, highest]) = (tensor.quant.as_ref()?, tensor.element.codes()?);
    tensor.data.is_none().then(|| FakeQuantize {
        scale: quant.scale(),
        zero_point: quant.zero_point(),
        lowest,
        highest,
    })
}

fn value(tensor: &Tensor) -> Value {
    let is_index = tensor.element == Element::I32 && tensor.quant.is_none();
    let data = tensor
        .data
        .as_ref()
        .map(|data| match (data, &tensor.quant) {
            (Constant::Real(data), _) => TensorData::F32(data.clone()),
            (Constant::Codes(codes), Some(quant)) => {
                TensorData::F32(real_values(codes, quant, tensor))
            }
            (Constant::Codes(codes), None) => {
                TensorData::I32(codes.iter().map(|&code| code as i32).collect())
            }
        });
    Value {
        info: TensorInfo {
            name: tensor.name.clone(),
            shape: tensor.shape.clone(),
            dtype: if is_index { DType::I32 } else { DType::F32 },
            quant: None,
        },
        data,
    }
}

fn real_values(codes: &[i64], quant: &QuantParams, tensor: &Tensor) -> Vec<f32> {
    let channels = quant.scales.len();
    let inner: usize = tensor.shape.dims().iter().skip(quant.axis + 1).product();
    let real = |(index, &code): (usize, &i64)| {
        let channel = index / inner.max(1) % channels;
        (code - i64::from(quant.zero_points[channel])) as f32 * quant.scales[channel]
    };
    codes.iter().enumerate().map(real).collect()
}

#[cfg(test)]
mod tests {
    use super::super::codes::Activations;
    use super::super::lower::InputType;
    use super::super::sample::{Sample, settings};
    use super::super::scheme::Mode;
    use super::*;

    #[test]
    fn bytes_that_are_codes_are_simulated_with_their_shift() {
        let mut sample = Sample::default();
        let x = sample.input(&[1, 1, 1, 1]);
        let y = sample.conv(x, &[1.0], &[0.0], Activation::None, "y");
        sample.observe(y, &[-1.0, 1.0]);
        sample.output(y);
        sample.input_shift = 1.0 / 255.0;
        let lowered = sample.lower(&settings(Mode::Static(Activations::Int8)), InputType::UInt8);
        let graph = simulate(&lowered);
        graph.validate("simulated").unwrap();
        let names: Vec<&str> = graph.nodes.iter().map(|node| node.op.name()).collect();
        assert_eq!(names[..2], ["ADD", "FAKE_QUANT"]);
    }

    #[test]
    fn activations_are_rounded_and_weights_are_their_codes() {
        let mut sample = Sample::default();
        let x = sample.input(&[1, 1, 1, 1]);
        let y = sample.conv(x, &[1.0, 0.255], &[0.0, 0.0], Activation::None, "y");
        let flat = sample.node(Op::Reshape, &[y], &[2], "flat");
        sample.observe(y, &[-2.0, 2.0]);
        sample.observe(flat, &[-2.0, 2.0]);
        sample.output(flat);
        let lowered = sample.lower(&settings(Mode::Static(Activations::Int8)), InputType::Int8);
        let graph = simulate(&lowered);
        graph.validate("simulated").unwrap();
        assert!(graph.is_float());
        let names: Vec<&str> = graph.nodes.iter().map(|node| node.op.name()).collect();
        // Input and result are rounded; what only moves is not.
        assert_eq!(
            names,
            ["FAKE_QUANT", "CONV_2D", "FAKE_QUANT", "RESHAPE", "IDENTITY"]
        );
        let Op::FakeQuantize(grid) = graph.nodes[2].op else {
            panic!()
        };
        assert_eq!(
            (grid.scale, grid.zero_point, grid.lowest, grid.highest),
            (4.0 / 255.0, -1, -128, 127)
        );
    }
}
