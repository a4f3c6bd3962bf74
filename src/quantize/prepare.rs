//! A float graph is brought into the form that is quantized: every value has a name of its own, batch normalization is
//! folded into the convolution before it, and so are activations that stand alone; a dilated convolution is one operator.

use std::collections::BTreeSet;

use crate::error::{Error, Result};
use crate::graph::{Activation, Graph, Node, Op, Value, ValueId, passes};
use crate::model::{Model, Program};
use crate::tensor::{DType, TensorData};

/// The graph of a float model, ready to be calibrated. Weights of 8 bits between float activations become float again.
///
/// # Errors
/// The model is quantized already, or not a graph.
pub fn prepare(model: &Model) -> Result<Graph> {
    let Program::Graph(graph) = &model.program else {
        return Err(Error::Unsupported {
            model: model.name.clone(),
            feature: "quantizing what is not a graph".into(),
            advice: "load the model with `load_graph`".into(),
        });
    };
    let mut graph = graph.clone();
    if !graph.is_float() {
        passes::dequantize_weights(&mut graph);
        if !graph.is_float() {
            return Err(Error::model(
                &model.name,
                "the model is quantized already; pass the float model that it was made from",
            ));
        }
        log::warn!(
            "{}: the weights are quantized already; they are quantized a second time",
            model.name
        );
    }
    super::dilate::dilate(&mut graph);
    while fold_once(&mut graph) {}
    give_biases(&mut graph);
    passes::remove_dead(&mut graph);
    name_values(&mut graph);
    graph.validate(&model.name)?;
    Ok(graph)
}

/// Gives a bias of zeros to every layer that has none.
fn give_biases(graph: &mut Graph) {
    for at in 0..graph.nodes.len() {
        if graph.nodes[at].op.has_weights() {
            let channels = graph.shape(graph.nodes[at].outputs[0]).channels();
            shift(graph, at, &vec![0.0; channels]);
        }
    }
}

/// Gives every value a name that no other has.
fn name_values(graph: &mut Graph) {
    let mut taken = BTreeSet::new();
    for (index, value) in graph.values.iter_mut().enumerate() {
        let name = &mut value.info.name;
        if name.is_empty() {
            *name = format!("value_{index}");
        }
        let stem = name.clone();
        let mut serial = 1;
        while !taken.insert(name.clone()) {
            *name = format!("{stem}_{serial}");
            serial += 1;
        }
    }
}

/// What a node does to each channel of a convolution's result.
enum Affine {
    /// Multiplies it.
    Scale(Vec<f32>),
    /// Is added to it.
    Shift(Vec<f32>),
    Nothing,
}

/// Folds one node into the convolution or fully connected layer that it alone reads. `false` if there is none.
fn fold_once(graph: &mut Graph) -> bool {
    let mut readers = vec![0usize; graph.values.len()];
    let ids = graph.nodes.iter().flat_map(|node| &node.inputs);
    ids.chain(&graph.outputs).for_each(|id| readers[id.0] += 1);
    for at in 0..graph.nodes.len() {
        let node = &graph.nodes[at];
        let Some((affine, activation)) = affine(graph, node) else {
            continue;
        };
        let x = node.inputs[0];
        let maker = graph.nodes[..at]
            .iter()
            .position(|maker| maker.outputs.contains(&x));
        let Some(maker) = maker.filter(|&maker| readers[x.0] == 1 && is_open(&graph.nodes[maker]))
        else {
            continue;
        };
        let removed = graph.nodes.remove(at);
        graph.nodes[maker].outputs = removed.outputs;
        set_activation(&mut graph.nodes[maker].op, activation);
        match affine {
            Affine::Scale(factors) => scale(graph, maker, &factors),
            Affine::Shift(terms) => shift(graph, maker, &terms),
            Affine::Nothing => {}
        }
        return true;
    }
    false
}

/// What a node does to its first input, if it works channel by channel.
fn affine(graph: &Graph, node: &Node) -> Option<(Affine, Activation)> {
    let channels = graph.shape(*node.inputs.first()?).channels();
    // A constant of one element, or of one element a channel.
    let constant = |position: usize| {
        let id = *node.inputs.get(position)?;
        let TensorData::F32(data) = graph.constant(id)? else {
            return None;
        };
        let fits =
            data.len() == 1 || (data.len() == channels && graph.shape(id).channels() == channels);
        let same_shape = graph.shape(node.inputs[0]) == graph.shape(node.outputs[0]);
        (fits && same_shape).then(|| {
            (0..channels)
                .map(|at| data[at % data.len()])
                .collect::<Vec<f32>>()
        })
    };
    match &node.op {
        Op::Activation(activation) => Some((Affine::Nothing, *activation)),
        Op::Mul(activation) => Some((Affine::Scale(constant(1)?), *activation)),
        Op::Add(activation) => Some((Affine::Shift(constant(1)?), *activation)),
        Op::Sub(activation) => {
            let terms = constant(1)?.into_iter().map(|term| -term);
            Some((Affine::Shift(terms.collect()), *activation))
        }
        _ => None,
    }
}

/// Whether a node is linear and can take over what follows it.
fn is_open(node: &Node) -> bool {
    match &node.op {
        Op::Conv2d(conv) | Op::DepthwiseConv2d(conv) => conv.activation == Activation::None,
        Op::FullyConnected(activation) => *activation == Activation::None,
        _ => false,
    }
}

fn set_activation(op: &mut Op, activation: Activation) {
    match op {
        Op::Conv2d(conv) | Op::DepthwiseConv2d(conv) => conv.activation = activation,
        Op::FullyConnected(own) => *own = activation,
        _ => {}
    }
}

/// Multiplies the output channels of node `maker`.
fn scale(graph: &mut Graph, maker: usize, factors: &[f32]) {
    let is_depthwise = matches!(graph.nodes[maker].op, Op::DepthwiseConv2d(_));
    let weights = graph.nodes[maker].inputs[1];
    let inner = match is_depthwise {
        true => 1,
        false => graph.shape(weights).elements() / factors.len(),
    };
    let by_channel = |data: &mut [f32], inner: usize| {
        for (index, value) in data.iter_mut().enumerate() {
            *value *= factors[index / inner % factors.len()];
        }
    };
    replace_constant(graph, maker, 1, |data| by_channel(data, inner));
    replace_constant(graph, maker, 2, |data| by_channel(data, 1));
}

/// Adds to the bias of node `maker`, which it gets if it has none.
fn shift(graph: &mut Graph, maker: usize, terms: &[f32]) {
    if graph.nodes[maker].inputs.len() < 3 {
        let mut info = graph.info(graph.nodes[maker].outputs[0]).clone();
        info.name += "/bias";
        info.shape = crate::tensor::Shape::checked(vec![terms.len()]).unwrap_or_default();
        info.dtype = DType::F32;
        let data = Some(TensorData::F32(vec![0.0; terms.len()]));
        graph.values.push(Value { info, data });
        let bias = ValueId(graph.values.len() - 1);
        graph.nodes[maker].inputs.push(bias);
    }
    if terms.iter().any(|term| *term != 0.0) {
        replace_constant(graph, maker, 2, |data| {
            data.iter_mut()
                .zip(terms)
                .for_each(|(value, term)| *value += term);
        });
    }
}

/// Changes the constant that a node reads at `position`, if it reads one. Others that read it keep it as it was.
pub(super) fn replace_constant(
    graph: &mut Graph,
    node: usize,
    position: usize,
    change: impl FnOnce(&mut [f32]),
) {
    let Some(&id) = graph.nodes[node].inputs.get(position) else {
        return;
    };
    let readers = graph.nodes.iter().flat_map(|node| &node.inputs);
    let is_shared = readers.filter(|read| **read == id).count() > 1;
    let mut value = graph.value(id).clone();
    let Some(TensorData::F32(data)) = &mut value.data else {
        return;
    };
    change(data);
    if is_shared {
        value.info.name = format!("{}/{}", value.info.name, graph.nodes[node].index);
        graph.values.push(value);
        graph.nodes[node].inputs[position] = ValueId(graph.values.len() - 1);
    } else {
        graph.values[id.0] = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Conv2d, Padding2d};
    use crate::model::Metadata;
    use crate::tensor::{Shape, TensorInfo};

    fn value(name: &str, dims: &[usize], data: Option<&[f32]>) -> Value {
        Value {
            info: TensorInfo {
                name: name.into(),
                shape: Shape::checked(dims.to_vec()).unwrap(),
                dtype: DType::F32,
                quant: None,
            },
            data: data.map(|data| TensorData::F32(data.to_vec())),
        }
    }

    fn node(op: Op, inputs: &[usize], output: usize) -> Node {
        Node {
            op,
            inputs: inputs.iter().copied().map(ValueId).collect(),
            outputs: vec![ValueId(output)],
            index: output,
        }
    }

    /// A convolution of one channel to two, times (2, 3), plus (5, 7), then ReLU6.
    fn normalized() -> Graph {
        let conv = Conv2d {
            stride: [1, 1],
            dilation: [1, 1],
            padding: Padding2d::default(),
            activation: Activation::None,
        };
        let picture = |name: &str| value(name, &[1, 1, 1, 2], None);
        Graph {
            values: vec![
                value("x", &[1, 1, 1, 1], None),
                value("w", &[2, 1, 1, 1], Some(&[10.0, 100.0])),
                picture("t"),
                value("g", &[2], Some(&[2.0, 3.0])),
                picture("t"),
                value("b", &[1, 1, 1, 2], Some(&[5.0, 7.0])),
                picture(""),
                picture("y"),
            ],
            nodes: vec![
                node(Op::Conv2d(conv), &[0, 1], 2),
                node(Op::Mul(Activation::None), &[2, 3], 4),
                node(Op::Add(Activation::None), &[4, 5], 6),
                node(Op::Activation(Activation::Relu6), &[6], 7),
            ],
            inputs: vec![ValueId(0)],
            outputs: vec![ValueId(7)],
        }
    }

    fn prepared(graph: Graph) -> Graph {
        prepare(&Model::of_graph("m", graph, Metadata::default())).unwrap()
    }

    #[test]
    fn batch_normalization_is_folded() {
        let graph = prepared(normalized());
        let [node] = &graph.nodes[..] else {
            panic!("{:?}", graph.nodes)
        };
        let Op::Conv2d(conv) = node.op else { panic!() };
        assert_eq!(conv.activation, Activation::Relu6);
        let constants = node.inputs[1..]
            .iter()
            .map(|&id| graph.constant(id).unwrap());
        let expected = [vec![20.0, 300.0], vec![5.0, 7.0]].map(TensorData::F32);
        assert!(constants.eq(&expected));
    }

    #[test]
    fn values_get_names_of_their_own() {
        let mut graph = normalized();
        name_values(&mut graph);
        let names: Vec<&str> = graph
            .values
            .iter()
            .map(|value| value.info.name.as_str())
            .collect();
        assert_eq!(names, ["x", "w", "t", "g", "t_1", "b", "value_6", "y"]);
    }

    #[test]
    fn what_others_read_is_not_folded() {
        let mut graph = normalized();
        graph.outputs.push(ValueId(2));
        assert_eq!(prepared(graph).nodes.len(), 4);
    }

    #[test]
    fn quantized_models_are_refused() {
        let model = crate::model::load_file("tests/golden/tiny_ssd.tflite".as_ref()).unwrap();
        let error = prepare(&model).unwrap_err().to_string();
        assert!(error.contains("quantized already"), "{error}");
    }
}
