//! Cross-layer equalization: the channels between two layers are scaled so that the weights on both sides use their
//! ranges alike (Nagel et al., arXiv:1906.04721, section 4.1). The function stays the same.

use super::calibrate::Statistics;
use super::prepare::replace_constant;
use crate::graph::{Activation, Graph, Op};
use crate::tensor::TensorData;

/// Passes over all pairs; factors have converged long before.
const ROUNDS: usize = 20;

/// A change of scale below this counts as none.
const SETTLED: f32 = 1e-3;

/// Two weighted nodes of which the second alone reads what the first makes.
struct Pair {
    first: usize,
    second: usize,
    /// The most that each channel between them may be multiplied by before ReLU6 would cut it off; `None` where nothing
    /// is cut off.
    headroom: Option<Vec<f32>>,
}

/// Equalizes every pair of layers with nothing but a ReLU, or ReLU6 that no picture reached, between them. Channels that
/// reached ReLU6's 6 in calibration keep their scale. Nodes and values keep their positions.
pub fn equalize(graph: &Graph, statistics: &Statistics) -> Graph {
    let mut graph = graph.clone();
    let mut pairs = pairs(&graph, statistics);
    for _ in 0..ROUNDS {
        let changes = pairs.iter_mut().map(|pair| pair.equalize(&mut graph));
        if changes.fold(0.0, f32::max) < SETTLED {
            break;
        }
    }
    graph
}

fn pairs(graph: &Graph, statistics: &Statistics) -> Vec<Pair> {
    let mut readers = vec![0usize; graph.values.len()];
    let ids = graph.nodes.iter().flat_map(|node| &node.inputs);
    ids.chain(&graph.outputs).for_each(|id| readers[id.0] += 1);
    let pair = |(second, node): (usize, &crate::graph::Node)| {
        let between = *node.inputs.first()?;
        let first = graph.nodes[..second]
            .iter()
            .position(|node| node.outputs == [between])?;
        let channels = graph.shape(between).channels();
        let fits =
            node.op.has_weights() && graph.nodes[first].op.has_weights() && readers[between.0] == 1;
        let reads_channels = input_channels(graph, second) == channels;
        let headroom = match activation(&graph.nodes[first].op)? {
            Activation::None | Activation::Relu => None,
            Activation::Relu6 => {
                let maxima = statistics.of(between)?.maxima.iter();
                Some(maxima.map(|max| 6.0 / max.max(f32::MIN_POSITIVE)).collect())
            }
            Activation::ReluN1To1 => return None,
        };
        (fits && reads_channels).then_some(Pair {
            first,
            second,
            headroom,
        })
    };
    graph.nodes.iter().enumerate().filter_map(pair).collect()
}

fn activation(op: &Op) -> Option<Activation> {
    match op {
        Op::Conv2d(conv) | Op::DepthwiseConv2d(conv) => Some(conv.activation),
        Op::FullyConnected(activation) => Some(*activation),
        _ => None,
    }
}

fn weights(graph: &Graph, node: usize) -> (&[f32], &[usize]) {
    let Some(&id) = graph.nodes[node].inputs.get(1) else {
        return (&[], &[]);
    };
    match graph.constant(id) {
        Some(TensorData::F32(data)) => (data, graph.shape(id).dims()),
        _ => (&[], &[]),
    }
}

fn input_channels(graph: &Graph, node: usize) -> usize {
    let (_, dims) = weights(graph, node);
    let multiplier = |outputs: usize| {
        let inputs = graph.shape(graph.nodes[node].inputs[0]).channels();
        outputs / inputs.max(1)
    };
    match (&graph.nodes[node].op, dims) {
        (Op::DepthwiseConv2d(_), &[.., outputs]) if multiplier(outputs) == 1 => outputs,
        (Op::DepthwiseConv2d(_), _) => 0,
        (_, &[.., inputs]) => inputs,
        _ => 0,
    }
}

/// The output channel and the input channel of each weight, in their order.
fn channels_of(op: &Op, dims: &[usize]) -> impl Iterator<Item = (usize, usize)> {
    let last = dims.last().copied().unwrap_or(1);
    let inner: usize = dims.iter().skip(1).product();
    let is_depthwise = matches!(op, Op::DepthwiseConv2d(_));
    (0..).map(move |index: usize| match is_depthwise {
        true => (index % last, index % last),
        false => (index / inner, index % last),
    })
}

/// The largest magnitude of the weights of each channel that `of` picks.
fn magnitudes(
    graph: &Graph,
    node: usize,
    channels: usize,
    of: fn((usize, usize)) -> usize,
) -> Vec<f32> {
    let (values, dims) = weights(graph, node);
    let mut largest = vec![0f32; channels];
    let channels = channels_of(&graph.nodes[node].op, dims);
    for (value, channel) in values.iter().zip(channels.map(of)) {
        largest[channel] = largest[channel].max(value.abs());
    }
    largest
}

impl Pair {
    /// Scales once. Returns the largest change of a channel, as a logarithm.
    fn equalize(&mut self, graph: &mut Graph) -> f32 {
        let channels = graph.shape(graph.nodes[self.first].outputs[0]).channels();
        let outgoing = magnitudes(graph, self.first, channels, |(output, _)| output);
        let incoming = magnitudes(graph, self.second, channels, |(_, input)| input);
        // The first layer is divided by the factor, the second multiplied.
        let factor = |channel: usize| {
            let (a, b) = (outgoing[channel], incoming[channel]);
            let even = (a / b).sqrt();
            if !even.is_normal() {
                return 1.0;
            }
            match self.headroom.as_ref().map(|headroom| headroom[channel]) {
                Some(room) if room <= 1.0 => 1.0,
                Some(room) => even.max(1.0 / room),
                None => even,
            }
        };
        let factors: Vec<f32> = (0..channels).map(factor).collect();
        self.scale(graph, &factors);
        if let Some(headroom) = &mut self.headroom {
            headroom
                .iter_mut()
                .zip(&factors)
                .for_each(|(room, factor)| *room *= factor);
        }
        let changes = factors.iter().map(|factor| factor.ln().abs());
        changes.fold(0.0, f32::max)
    }

    fn scale(&self, graph: &mut Graph, factors: &[f32]) {
        for (node, is_first) in [(self.first, true), (self.second, false)] {
            let op = graph.nodes[node].op.clone();
            let dims = weights(graph, node).1.to_vec();
            replace_constant(graph, node, 1, |data| {
                for (value, (output, input)) in data.iter_mut().zip(channels_of(&op, &dims)) {
                    match is_first {
                        true => *value /= factors[output],
                        false => *value *= factors[input],
                    }
                }
            });
        }
        replace_constant(graph, self.first, 2, |bias| {
            bias.iter_mut()
                .zip(factors)
                .for_each(|(value, factor)| *value /= factor);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::Sample;
    use super::*;
    use crate::graph::ValueId;

    /// One channel to two to one.
    fn two_layers(activation: Activation) -> (Sample, ValueId) {
        let mut sample = Sample::default();
        let x = sample.input(&[1, 1, 1, 1]);
        let y = sample.conv(x, &[4.0, 0.25], &[2.0, 0.5], activation, "y");
        let z = sample.conv(y, &[1.0, 4.0], &[0.0], Activation::None, "z");
        sample.output(z);
        (sample, y)
    }

    fn weights_and_bias(graph: &Graph, node: usize) -> (Vec<f32>, Vec<f32>) {
        let constant = |position: usize| match graph.constant(graph.nodes[node].inputs[position]) {
            Some(TensorData::F32(data)) => data.clone(),
            _ => panic!(),
        };
        (constant(1), constant(2))
    }

    #[test]
    fn channels_get_equal_ranges_on_both_sides() {
        let (sample, _) = two_layers(Activation::Relu);
        let graph = equalize(&sample.graph, &sample.statistics());
        // Factors sqrt(4 / 1) = 2 and sqrt(0.25 / 4) = 1/4.
        assert_eq!(
            weights_and_bias(&graph, 0),
            (vec![2.0, 1.0], vec![1.0, 2.0])
        );
        assert_eq!(weights_and_bias(&graph, 1).0, [2.0, 1.0]);
    }

    #[test]
    fn relu6_is_respected() {
        let (mut sample, y) = two_layers(Activation::Relu6);
        // The first channel is cut off at 6, the second may grow to four thirds.
        sample.set_maxima(y, &[6.0, 4.5]);
        let graph = equalize(&sample.graph, &sample.statistics());
        let (weights, bias) = weights_and_bias(&graph, 0);
        assert_eq!((weights[0], bias[0]), (4.0, 2.0));
        assert!((weights[1] - 0.25 * 4.0 / 3.0).abs() < 1e-6);
        assert!((weights_and_bias(&graph, 1).0[1] - 3.0).abs() < 1e-6);
    }

    #[test]
    fn values_that_others_read_are_left_alone() {
        let (mut sample, y) = two_layers(Activation::Relu);
        sample.output(y);
        let graph = equalize(&sample.graph, &sample.statistics());
        assert_eq!(weights_and_bias(&graph, 0).0, [4.0, 0.25]);
    }
}
