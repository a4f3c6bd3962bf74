//! Which nodes compute with codes, and the range of every activation.

use std::collections::BTreeSet;

use super::calibrate::Statistics;
use super::codes::{Activations, WeightFormat};
use super::histogram::Range;
use super::method::Method;
use super::simulate::only_moves;
use crate::graph::{Activation, Graph, Node, Op, ValueId};
use crate::tensor::{QuantParams, TensorData};

/// What is quantized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Weights and activations; ranges come from calibration.
    Static(Activations),
    /// Weights; activations are real and quantized on the fly, product by product ("dynamic range").
    Dynamic,
    /// Weights as they are stored; they are made real before use.
    Weights,
}

/// How nodes that are kept out of quantization compute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeptAs {
    #[default]
    Float,
    /// With 16-bit activations.
    Int16,
}

/// What a float graph is made into.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub mode: Mode,
    pub weights: WeightFormat,
    /// Positions of nodes that are kept at a higher precision.
    pub kept: BTreeSet<usize>,
    pub kept_as: KeptAs,
    /// Take the mean error that quantized weights make off the biases (Nagel et al., arXiv:1906.04721, section 4.2).
    pub bias_correction: bool,
}

/// How a node computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    Float,
    /// Real activations, weights of codes.
    Dynamic,
    /// Real activations, weights stored as codes.
    Stored,
    Integer(Activations),
}

impl Settings {
    /// How the node at a position computes.
    pub fn arithmetic(&self, position: usize, node: &Node) -> Arithmetic {
        let is_weighted = node.op.has_weights();
        let kept = self.kept.contains(&position);
        match self.mode {
            Mode::Dynamic if is_weighted && !kept => Arithmetic::Dynamic,
            Mode::Weights if is_weighted && !kept => Arithmetic::Stored,
            Mode::Dynamic | Mode::Weights => Arithmetic::Float,
            Mode::Static(activations) => {
                let activations = match (kept, self.kept_as) {
                    (false, _) => activations,
                    (true, KeptAs::Int16) => Activations::Int16,
                    (true, KeptAs::Float) => return Arithmetic::Float,
                };
                match can_be_integer(&node.op, activations) {
                    true => Arithmetic::Integer(activations),
                    false => Arithmetic::Float,
                }
            }
        }
    }
}

/// Whether LiteRT computes the operator with such activations.
fn can_be_integer(op: &Op, activations: Activations) -> bool {
    match op {
        Op::DetectionPostProcess(_) | Op::Quantize | Op::Dequantize | Op::FakeQuantize(_) => false,
        Op::HardSwish | Op::ArgMax { .. } | Op::SpaceToBatch { .. } | Op::BatchToSpace { .. } => {
            activations == Activations::Int8
        }
        Op::Activation(Activation::ReluN1To1) => activations == Activations::Int8,
        _ => true,
    }
}

/// Whether the operator needs one scale for all that it reads and makes (TFLite's 8-bit quantization specification).
pub fn is_same_scale(op: &Op) -> bool {
    matches!(
        op,
        Op::Concat { .. }
            | Op::Reshape
            | Op::Pad { .. }
            | Op::AvgPool2d(_)
            | Op::MaxPool2d(_)
            | Op::ResizeNearest(_)
            | Op::ResizeBilinear(_)
            | Op::Pack { .. }
            | Op::Split { .. }
            | Op::StridedSlice { .. }
            | Op::Transpose(_)
            | Op::SpaceToBatch { .. }
            | Op::BatchToSpace { .. }
            | Op::Activation(Activation::None)
    )
}

/// Whether the operator's result has the scale that the specification fixes for values from 0 to 1.
fn has_fixed_range(op: &Op) -> bool {
    matches!(op, Op::Logistic | Op::Softmax { .. })
}

/// No limit.
const EVERYTHING: Range = Range {
    min: f32::NEG_INFINITY,
    max: f32::INFINITY,
};

/// The part of a value's range that makes a difference to the 8-bit nodes that read it; empty for what only moving nodes
/// read, which have the same scale as what they make.
///
/// Below `-ln 511` a sigmoid is less than half a code, 1/512, and above `ln 511` more than 1 less that; a hard swish is 0
/// below -3. Of the boxes that detection post-processing reads the far ends, where anchors see nothing, are given up for
/// finer steps: theirs is the range of least squared error.
fn limit(graph: &Graph, statistics: &Statistics, nodes: &[Arithmetic], id: ValueId) -> Range {
    let is_int8 = |arithmetic: &Arithmetic| *arithmetic == Arithmetic::Integer(Activations::Int8);
    let mut pairs = graph.nodes.iter().zip(nodes);
    let is_made_in_int8 = pairs
        .clone()
        .any(|(node, arithmetic)| node.outputs.contains(&id) && is_int8(arithmetic));
    let readers = pairs.clone().filter(|(node, _)| node.inputs.contains(&id));
    let is_read = pairs.any(|(node, _)| node.inputs.contains(&id));
    if !is_read || graph.outputs.contains(&id) {
        return EVERYTHING;
    }
    let matters = |(node, arithmetic): (&Node, &Arithmetic)| match &node.op {
        Op::Logistic if is_int8(arithmetic) => Range {
            min: -(511f32.ln()),
            max: 511f32.ln(),
        },
        Op::HardSwish if is_int8(arithmetic) => Range {
            min: -3.0,
            ..EVERYTHING
        },
        Op::DetectionPostProcess(_) if is_made_in_int8 && node.inputs[0] == id => {
            let seen = statistics.of(id);
            seen.map_or(EVERYTHING, |seen| Method::Mse.range(&seen.histogram))
        }
        op if is_int8(arithmetic) && only_moves(op) => Range::default(),
        _ => EVERYTHING,
    };
    readers.map(matters).fold(Range::default(), Range::union)
}

/// How each node computes and which range the codes of each value are spread over.
#[derive(Clone, Debug)]
pub struct Scheme {
    pub nodes: Vec<Arithmetic>,
    ranges: Vec<Spread>,
}

/// What the codes of a value are spread over.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Spread {
    Range(Range),
    /// From 0 to 1 by the fixed scale.
    Unit,
}

impl Scheme {
    /// Takes the ranges that calibration chose, or for 16-bit activations all that it saw; `input` is the range of the
    /// graph's only input. Values that share a scale get the range that holds all of theirs, as far as it matters.
    pub fn new(graph: &Graph, statistics: &Statistics, settings: &Settings, input: Range) -> Self {
        let nodes: Vec<Arithmetic> = graph
            .nodes
            .iter()
            .enumerate()
            .map(|(position, node)| settings.arithmetic(position, node))
            .collect();
        let range = |id: ValueId| match (graph.constant(id), statistics.of(id)) {
            (Some(TensorData::F32(data)), _) => Range::of(data),
            _ if id == graph.inputs[0] => input,
            (_, Some(observed)) => match settings.mode {
                Mode::Static(Activations::Int8) => observed.range,
                _ => observed.histogram.range(),
            },
            _ => Range::default(),
        };
        let mut groups = Groups::new(graph.values.len());
        let mut is_moved = vec![false; graph.values.len()];
        let mut is_unit = vec![false; graph.values.len()];
        for (node, arithmetic) in graph.nodes.iter().zip(&nodes) {
            let is_integer = matches!(arithmetic, Arithmetic::Integer(_));
            for id in &node.outputs {
                is_moved[id.0] = is_integer && is_same_scale(&node.op);
                is_unit[id.0] = is_integer && has_fixed_range(&node.op);
            }
            if is_integer && is_same_scale(&node.op) {
                let ids = node.inputs.iter().chain(&node.outputs);
                ids.for_each(|id| groups.join(node.inputs[0].0, id.0));
            }
        }
        let roots: Vec<usize> = (0..graph.values.len()).map(|id| groups.root(id)).collect();
        let mut limits = vec![Range::default(); graph.values.len()];
        for (id, &root) in roots.iter().enumerate() {
            let limit = limit(graph, statistics, &nodes, ValueId(id));
            limits[root] = limits[root].union(limit);
        }
        let mut unions = vec![Range::default(); graph.values.len()];
        let mut is_unit_group = vec![true; graph.values.len()];
        for (id, &root) in roots.iter().enumerate() {
            unions[root] = unions[root].union(range(ValueId(id)));
            is_unit_group[root] &= is_moved[id] || is_unit[id];
        }
        let spread = |id: usize| match is_unit[id] || is_unit_group[roots[id]] {
            true => Spread::Unit,
            false => Spread::Range(unions[roots[id]].intersection(limits[roots[id]])),
        };
        Self {
            nodes,
            ranges: (0..graph.values.len()).map(spread).collect(),
        }
    }

    /// Scale and zero point of a value as codes.
    pub fn quant(&self, id: ValueId, activations: Activations) -> QuantParams {
        match (self.ranges[id.0], activations) {
            (Spread::Range(range), _) => activations.spread(range),
            (Spread::Unit, Activations::Int8) => QuantParams::per_tensor(1.0 / 256.0, -128),
            (Spread::Unit, Activations::Int16) => QuantParams::per_tensor(1.0 / 32_768.0, 0),
        }
    }
}

/// Disjoint sets.
struct Groups(Vec<usize>);

impl Groups {
    fn new(count: usize) -> Self {
        Self((0..count).collect())
    }

    fn root(&mut self, mut at: usize) -> usize {
        while self.0[at] != at {
            self.0[at] = self.0[self.0[at]];
            at = self.0[at];
        }
        at
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        self.0[a.max(b)] = a.min(b);
    }
}

#[cfg(test)]
mod tests {
    use super::super::lower::{Element, InputType};
    use super::super::sample::{Sample, settings};
    use super::*;

    /// The scale of the value `y`, a convolution's result from -20 to 2 that `op` reads.
    fn scale_before(op: Op, is_output: bool) -> f32 {
        let mut sample = Sample::default();
        let x = sample.input(&[1, 1, 1, 1]);
        let y = sample.conv(x, &[1.0], &[0.0], Activation::None, "y");
        let flat = sample.node(Op::Reshape, &[y], &[1, 1], "flat");
        let z = sample.node(op, &[flat], &[1, 1], "z");
        for id in [y, flat, z] {
            sample.observe(id, &[-20.0, 2.0]);
        }
        sample.output(z);
        if is_output {
            sample.output(y);
        }
        let lowered = sample.lower(&settings(Mode::Static(Activations::Int8)), InputType::Int8);
        let y = lowered
            .tensors
            .iter()
            .find(|tensor| tensor.name == "y" && tensor.element == Element::I8);
        y.and_then(|tensor| tensor.quant.as_ref()).unwrap().scale()
    }

    #[test]
    fn what_saturates_afterwards_gets_no_codes() {
        let whole = 22.0 / 255.0;
        let near = |a: f32, b: f32| (a - b).abs() < 1e-6;
        assert!(near(
            scale_before(Op::Logistic, false),
            (511f32.ln() + 2.0) / 255.0
        ));
        assert!(near(scale_before(Op::HardSwish, false), 5.0 / 255.0));
        assert!(near(
            scale_before(Op::Activation(Activation::Relu), false),
            whole
        ));
        // Others see it.
        assert!(near(scale_before(Op::Logistic, true), whole));
    }
}
