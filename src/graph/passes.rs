//! Passes: each takes a valid graph and leaves a valid graph that computes the same outputs.

use super::{Activation, Conv2d, Graph, Node, Op, Padding2d, ValueId};
use crate::tensor::{DType, QuantParams, Shape, TensorData};

/// Drops nodes that no output depends on, and values that no node, input or output names. Values are renumbered.
pub fn remove_dead(graph: &mut Graph) {
    let mut live = vec![false; graph.values.len()];
    for id in &graph.outputs {
        live[id.0] = true;
    }
    let mut kept = Vec::with_capacity(graph.nodes.len());
    for node in graph.nodes.drain(..).rev() {
        if node.outputs.iter().any(|id| live[id.0]) {
            for id in node.inputs.iter().chain(&node.outputs) {
                live[id.0] = true;
            }
            kept.push(node);
        }
    }
    kept.reverse();
    graph.nodes = kept;
    for id in &graph.inputs {
        live[id.0] = true;
    }
    renumber(graph, &live);
}

fn renumber(graph: &mut Graph, live: &[bool]) {
    let mut next = 0;
    let renamed: Vec<ValueId> = live
        .iter()
        .map(|&live| {
            let id = ValueId(next);
            next += usize::from(live);
            id
        })
        .collect();
    let mut position = 0;
    graph.values.retain(|_| {
        position += 1;
        live[position - 1]
    });
    let nodes = graph.nodes.iter_mut();
    let ids = nodes
        .flat_map(|node| node.inputs.iter_mut().chain(&mut node.outputs))
        .chain(&mut graph.inputs)
        .chain(&mut graph.outputs);
    for id in ids {
        *id = renamed[id.0];
    }
}

/// The nodes of a graph, but every PAD of 8-bit codes that a convolution alone reads is part of its padding. Where that
/// would leave the kernel on padding only, the PAD stays. Nodes only: values, large weights among them, are not copied.
pub fn fold_pads(graph: &Graph) -> Vec<Node> {
    let mut readers = vec![0; graph.values.len()];
    let mut makers = vec![None; graph.values.len()];
    for (at, node) in graph.nodes.iter().enumerate() {
        node.inputs.iter().for_each(|id| readers[id.0] += 1);
        node.outputs.iter().for_each(|id| makers[id.0] = Some(at));
    }
    graph.outputs.iter().for_each(|id| readers[id.0] += 1);
    let mut nodes = graph.nodes.clone();
    let mut is_folded = vec![false; nodes.len()];
    for node in &mut nodes {
        let (Op::Conv2d(conv) | Op::DepthwiseConv2d(conv)) = &mut node.op else {
            continue;
        };
        while let Some(maker) = makers[node.inputs[0].0]
            && readers[node.inputs[0].0] == 1
            && let Some(padding) = folded_padding(graph, conv, node.inputs[1], maker)
        {
            conv.padding = padding;
            node.inputs[0] = graph.nodes[maker].inputs[0];
            is_folded[maker] = true;
        }
    }
    let mut position = 0;
    nodes.retain(|_| {
        position += 1;
        !is_folded[position - 1]
    });
    nodes
}

/// The padding of a convolution that does what node `maker`, if it is a PAD of its input, does.
fn folded_padding(
    graph: &Graph,
    conv: &Conv2d,
    weights: ValueId,
    maker: usize,
) -> Option<Padding2d> {
    let node = &graph.nodes[maker];
    let (Op::Pad { pads }, input, output) = (&node.op, node.inputs[0], node.outputs[0]) else {
        return None;
    };
    let &[[0, 0], [top, bottom], [left, right], [0, 0]] = &pads[..] else {
        return None;
    };
    let is_codes = matches!(graph.dtype(output), DType::U8 | DType::I8);
    if !is_codes || graph.quant(input) != graph.quant(output) {
        return None;
    }
    let padding = Padding2d {
        top: top + conv.padding.top,
        bottom: bottom + conv.padding.bottom,
        left: left + conv.padding.left,
        right: right + conv.padding.right,
    };
    let [_, rows, columns, _] = graph.shape(weights).nhwc()?;
    let reach = |kernel: usize, dilation: usize| (kernel - 1) * dilation + 1;
    let (height, width) = (
        reach(rows, conv.dilation[0]),
        reach(columns, conv.dilation[1]),
    );
    let fits = padding.top.max(padding.bottom) < height && padding.left.max(padding.right) < width;
    fits.then_some(padding)
}

/// Makes int8 weights between float activations float, for an engine that has no integer arithmetic.
pub fn dequantize_weights(graph: &mut Graph) {
    let weights = graph.nodes.iter().filter_map(|node| match node.inputs[..] {
        [x, weights, ..] if graph.dtype(x) == DType::F32 => Some(weights),
        _ => None,
    });
    let weights: Vec<ValueId> = weights.collect();
    for id in weights {
        let value = &mut graph.values[id.0];
        let (Some(data), Some(quant)) = (&value.data, &value.info.quant) else {
            continue;
        };
        if let Ok(real) = dequantize(data, &value.info.shape, quant) {
            value.data = Some(TensorData::F32(real));
            value.info.dtype = DType::F32;
            value.info.quant = None;
        }
    }
}

/// Makes every value of 8-bit codes real: constants dequantized, biases too, and operators between codes and real values
/// into ones that change nothing.
pub fn dequantize_all(graph: &mut Graph) {
    for at in 0..graph.nodes.len() {
        let node = &graph.nodes[at];
        let (&[x, weights, bias], true) = (node.inputs.as_slice(), node.op.has_weights()) else {
            continue;
        };
        let scales = (graph.quant(x), graph.quant(weights));
        if let ((Some(x), Some(weights)), Some(TensorData::I32(sums))) =
            (scales, graph.constant(bias))
        {
            let scale =
                |channel: usize| x.scale() * weights.scales[channel.min(weights.scales.len() - 1)];
            let real = sums
                .iter()
                .enumerate()
                .map(|(channel, &sum)| sum as f32 * scale(channel));
            let data = TensorData::F32(real.collect());
            let mut value = graph.value(bias).clone();
            value.data = Some(data);
            value.info.dtype = DType::F32;
            value.info.quant = None;
            graph.values.push(value);
            graph.nodes[at].inputs[2] = ValueId(graph.values.len() - 1);
        }
    }
    for value in &mut graph.values {
        let Some(quant) = value.info.quant.take_if(|_| value.info.dtype != DType::I32) else {
            continue;
        };
        value.info.dtype = DType::F32;
        if let Some(data) = &value.data {
            value.data = dequantize(data, &value.info.shape, &quant)
                .map(TensorData::F32)
                .ok();
        }
    }
    for node in &mut graph.nodes {
        if matches!(node.op, Op::Quantize | Op::Dequantize) {
            node.op = Op::Activation(Activation::None);
        }
    }
    remove_dead(graph);
}

/// The real values of 8-bit codes.
pub fn dequantize(
    data: &TensorData,
    shape: &Shape,
    quant: &QuantParams,
) -> Result<Vec<f32>, String> {
    let channels = quant.scales.len();
    if channels != quant.zero_points.len()
        || (channels > 1 && shape.dims().get(quant.axis) != Some(&channels))
    {
        return Err("its quantization parameters do not fit its shape".into());
    }
    let inner: usize = shape.dims().iter().skip(quant.axis + 1).product();
    let real = |(index, code): (usize, i32)| {
        let channel = if channels > 1 {
            index / inner.max(1) % channels
        } else {
            0
        };
        quant.scales[channel] * (f64::from(code) - f64::from(quant.zero_points[channel])) as f32
    };
    match data {
        TensorData::U8(codes) => Ok(codes
            .iter()
            .map(|&c| c.into())
            .enumerate()
            .map(real)
            .collect()),
        TensorData::I8(codes) => Ok(codes
            .iter()
            .map(|&c| c.into())
            .enumerate()
            .map(real)
            .collect()),
        TensorData::I32(_) | TensorData::F32(_) => Err("it does not hold 8-bit codes".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Node, Op, Value};
    use crate::tensor::TensorInfo;

    #[test]
    fn what_no_output_needs_disappears() {
        let value = |name: &str| Value {
            info: TensorInfo {
                name: name.into(),
                shape: Shape::from([2]),
                dtype: DType::F32,
                quant: None,
            },
            data: None,
        };
        let node = |input: usize, output: usize| Node {
            op: Op::Activation(Activation::Relu),
            inputs: vec![ValueId(input)],
            outputs: vec![ValueId(output)],
            index: output,
        };
        let mut graph = Graph {
            values: ["dead", "x", "y", "unused", "z"].map(value).into(),
            nodes: vec![node(1, 0), node(1, 2), node(2, 4), node(0, 3)],
            inputs: vec![ValueId(1)],
            outputs: vec![ValueId(4)],
        };
        remove_dead(&mut graph);
        let names: Vec<&str> = graph.values.iter().map(|v| v.info.name.as_str()).collect();
        assert_eq!(names, ["x", "y", "z"]);
        assert_eq!(graph.nodes.len(), 2);
        assert_eq!(graph.nodes[1].inputs, [ValueId(1)]);
        assert_eq!(
            (graph.inputs[0], graph.outputs[0]),
            (ValueId(0), ValueId(2))
        );
        graph.validate("test").unwrap();
    }

    #[test]
    fn per_channel_codes_use_their_channel() {
        let quant = QuantParams {
            scales: vec![1.0, 10.0],
            zero_points: vec![0, 1],
            axis: 1,
        };
        let shape = Shape::from([2, 2, 2]);
        let data = TensorData::I8(vec![1, 2, 3, 4, 5, 6, 7, 8]);
        let real = dequantize(&data, &shape, &quant).unwrap();
        assert_eq!(real, [1.0, 2.0, 20.0, 30.0, 5.0, 6.0, 60.0, 70.0]);
        assert!(dequantize(&data, &Shape::from([2, 4]), &quant).is_err());
    }

    /// A PAD by `pads` and a convolution with a kernel of `kernel` rows and columns, on codes.
    fn padded_convolution(pads: [[usize; 2]; 4], kernel: usize) -> Graph {
        let value = |dims: [usize; 4]| Value {
            info: TensorInfo {
                name: "t".into(),
                shape: Shape::from(dims),
                dtype: DType::U8,
                quant: Some(QuantParams {
                    scales: vec![0.5],
                    zero_points: vec![3],
                    axis: 0,
                }),
            },
            data: None,
        };
        let [batch, rows, columns, channels] =
            [0, 1, 2, 3].map(|axis| [1, 7, 7, 2][axis] + pads[axis][0] + pads[axis][1]);
        let mut weights = value([2, kernel, kernel, channels]);
        weights.data = Some(TensorData::U8(vec![1; 2 * kernel * kernel * channels]));
        let conv = Conv2d {
            stride: [2, 2],
            dilation: [1, 1],
            padding: Padding2d::default(),
            activation: Activation::None,
        };
        let [out_rows, out_columns] = [rows, columns].map(|size| (size - kernel) / 2 + 1);
        let node = |op, inputs: &[usize], output: usize| Node {
            op,
            inputs: inputs.iter().map(|&id| ValueId(id)).collect(),
            outputs: vec![ValueId(output)],
            index: output,
        };
        let graph = Graph {
            values: vec![
                value([1, 7, 7, 2]),
                value([batch, rows, columns, channels]),
                weights,
                value([batch, out_rows, out_columns, 2]),
            ],
            nodes: vec![
                node(Op::Pad { pads: pads.into() }, &[0], 1),
                node(Op::Conv2d(conv), &[1, 2], 3),
            ],
            inputs: vec![ValueId(0)],
            outputs: vec![ValueId(3)],
        };
        graph.validate("test").unwrap();
        graph
    }

    #[test]
    fn a_pad_becomes_padding_of_the_convolution() {
        let mut graph = padded_convolution([[0, 0], [0, 1], [1, 2], [0, 0]], 3);
        graph.nodes = fold_pads(&graph);
        remove_dead(&mut graph);
        graph.validate("test").unwrap();
        let [node] = &graph.nodes[..] else {
            panic!("{:?}", graph.nodes)
        };
        let Op::Conv2d(conv) = node.op else {
            panic!("{node:?}")
        };
        assert_eq!(node.inputs, [ValueId(0), ValueId(1)]);
        let expected = Padding2d {
            top: 0,
            bottom: 1,
            left: 1,
            right: 2,
        };
        assert_eq!(conv.padding, expected);
    }

    #[test]
    fn a_pad_that_is_wider_than_the_kernel_or_needed_elsewhere_stays() {
        let stays = |graph: &Graph| fold_pads(graph).len() == graph.nodes.len();
        assert!(stays(&padded_convolution(
            [[0, 0], [0, 3], [1, 2], [0, 0]],
            3
        )));
        assert!(stays(&padded_convolution(
            [[0, 0], [0, 1], [0, 1], [0, 1]],
            3
        )));
        assert!(stays(&padded_convolution(
            [[0, 1], [0, 1], [0, 1], [0, 0]],
            3
        )));
        let mut graph = padded_convolution([[0, 0], [0, 1], [1, 1], [0, 0]], 3);
        assert!(!stays(&graph));
        graph.outputs.push(ValueId(1));
        assert!(stays(&graph));
        graph.outputs.pop();
        graph.values[1].info.quant = None;
        assert!(stays(&graph));
    }

    #[test]
    fn weights_between_float_activations_become_float() {
        let value = |dtype, dims: [usize; 2]| Value {
            info: TensorInfo {
                name: "t".into(),
                shape: Shape::from(dims),
                dtype,
                quant: None,
            },
            data: None,
        };
        let mut weights = value(DType::I8, [2, 1]);
        weights.data = Some(TensorData::I8(vec![4, -6]));
        weights.info.quant = Some(QuantParams {
            scales: vec![0.5, 2.0],
            zero_points: vec![0, 0],
            axis: 0,
        });
        let mut graph = Graph {
            values: vec![
                value(DType::F32, [1, 1]),
                weights,
                value(DType::F32, [1, 2]),
            ],
            nodes: vec![Node {
                op: Op::FullyConnected(Activation::None),
                inputs: vec![ValueId(0), ValueId(1)],
                outputs: vec![ValueId(2)],
                index: 0,
            }],
            inputs: vec![ValueId(0)],
            outputs: vec![ValueId(2)],
        };
        graph.validate("test").unwrap();
        assert!(!graph.is_float());
        dequantize_weights(&mut graph);
        assert_eq!(
            graph.constant(ValueId(1)),
            Some(&TensorData::F32(vec![2.0, -12.0]))
        );
        assert!(graph.is_float());
        graph.validate("test").unwrap();
    }
}
