//! Passes: each takes a valid graph and leaves a valid graph that computes the same outputs.

use super::{Graph, ValueId};

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Activation, Node, Op, Value};
    use crate::tensor::{DType, Shape, TensorInfo};

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
}
