//! Passes: each takes a valid graph and leaves a valid graph that computes the same outputs.

use super::{Graph, ValueId};
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
    use crate::graph::{Activation, Node, Op, Value};
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
