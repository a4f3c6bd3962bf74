//! A float graph becomes the operators and tensors of a quantized file.

use std::collections::{BTreeMap, BTreeSet};

use super::bias::Layer;
use super::calibrate::Statistics;
use super::codes::{Activations, Granularity, Weights, to_codes};
use super::histogram::Range;
use super::scheme::{Arithmetic, Mode, Scheme, Settings, is_same_scale};
use crate::graph::{Graph, Node, Op, ValueId};
use crate::tensor::{QuantParams, Shape, TensorData};

/// Type of one element in a quantized file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Element {
    F32,
    U8,
    I8,
    I16,
    I32,
    I64,
}

impl Element {
    /// The name that NumPy gives to it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::U8 => "uint8",
            Self::I8 => "int8",
            Self::I16 => "int16",
            Self::I32 => "int32",
            Self::I64 => "int64",
        }
    }

    /// The lowest and the highest code of an activation; `None` for what holds none.
    pub fn codes(self) -> Option<[i32; 2]> {
        match self {
            Self::U8 => Some([0, 255]),
            Self::I8 => Some(Activations::Int8.codes()),
            Self::I16 => Some(Activations::Int16.codes()),
            Self::F32 | Self::I32 | Self::I64 => None,
        }
    }
}

/// Elements of a constant.
#[derive(Clone, Debug, PartialEq)]
pub enum Constant {
    Real(Vec<f32>),
    Codes(Vec<i64>),
}

impl Constant {
    /// The elements as files have them, little-endian.
    pub fn bytes(&self, element: Element) -> Vec<u8> {
        match self {
            Self::Real(values) => values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect(),
            Self::Codes(codes) => {
                let width = match element {
                    Element::U8 | Element::I8 => 1,
                    Element::I16 => 2,
                    Element::I32 | Element::F32 => 4,
                    Element::I64 => 8,
                };
                let bytes = |code: &i64| code.to_le_bytes().into_iter().take(width);
                codes.iter().flat_map(bytes).collect()
            }
        }
    }
}

/// A tensor of a quantized file.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    pub name: String,
    pub shape: Shape,
    pub element: Element,
    pub quant: Option<QuantParams>,
    pub data: Option<Constant>,
}

/// An operator of a quantized file; inputs and outputs index the tensors.
#[derive(Clone, Debug, PartialEq)]
pub struct Operator {
    pub op: Op,
    pub inputs: Vec<usize>,
    pub outputs: Vec<usize>,
}

/// A quantized model, ready to be written or simulated. The operators are in an order in which every tensor is made
/// before it is read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lowered {
    pub tensors: Vec<Tensor>,
    pub operators: Vec<Operator>,
    pub inputs: Vec<usize>,
    pub outputs: Vec<usize>,
    /// By channel, how much more the input's codes stand for than the pictures' bytes mean; empty for no more.
    pub input_shift: Vec<f32>,
}

/// What the model takes as its input. Outputs are real.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InputType {
    #[default]
    UInt8,
    Int8,
    Float32,
}

/// How a tensor stands for a value.
#[derive(Clone, Debug, PartialEq)]
enum Form {
    Real,
    Codes(Activations, QuantParams),
}

impl Activations {
    fn element(self) -> Element {
        match self {
            Self::Int8 => Element::I8,
            Self::Int16 => Element::I16,
        }
    }
}

/// Quantizes a graph as the settings say.
pub fn lower(
    graph: &Graph,
    statistics: &Statistics,
    settings: &Settings,
    input: (InputType, Range),
) -> Lowered {
    let scheme = Scheme::new(graph, statistics, settings, input.1);
    let input_quant = scheme.quant(graph.inputs[0], Activations::Int8);
    let takes_codes = matches!(input.0, InputType::UInt8 | InputType::Int8);
    let shift = statistics.input_shift();
    let is_shifted = takes_codes
        && input_quant == Activations::Int8.spread(input.1)
        && shift.iter().any(|&shift| shift != 0.0);
    let mut lowering = Lowering {
        graph,
        statistics,
        settings,
        scheme,
        forms: BTreeMap::new(),
        names: BTreeSet::new(),
        made: Lowered {
            input_shift: if is_shifted {
                shift.to_vec()
            } else {
                Vec::new()
            },
            ..Lowered::default()
        },
    };
    lowering.input(input.0);
    for (position, node) in graph.nodes.iter().enumerate() {
        match lowering.scheme.nodes[position] {
            Arithmetic::Integer(activations) => lowering.integer(node, activations),
            other => lowering.real(node, other),
        }
    }
    let outputs = graph.outputs.iter();
    lowering.made.outputs = outputs.map(|&id| lowering.want(id, Form::Real)).collect();
    lowering.made
}

struct Lowering<'a> {
    graph: &'a Graph,
    statistics: &'a Statistics,
    settings: &'a Settings,
    scheme: Scheme,
    /// Tensors that stand for a value; the first is the one that its maker made.
    forms: BTreeMap<ValueId, Vec<(Form, usize)>>,
    names: BTreeSet<String>,
    made: Lowered,
}

impl Lowering<'_> {
    fn input(&mut self, kind: InputType) {
        let id = self.graph.inputs[0];
        let quant = self.scheme.quant(id, Activations::Int8);
        let tensor = match kind {
            InputType::Float32 => self.make(id, Form::Real),
            InputType::Int8 => self.make(id, Form::Codes(Activations::Int8, quant)),
            InputType::UInt8 => {
                let bytes = QuantParams::per_tensor(quant.scale(), quant.zero_point() + 128);
                let bytes = self.tensor(id, Element::U8, Some(bytes));
                let codes = Form::Codes(Activations::Int8, quant);
                let codes = self.make(id, codes);
                self.emit(Op::Quantize, vec![bytes], vec![codes]);
                bytes
            }
        };
        self.made.inputs.push(tensor);
    }

    /// A node on codes.
    fn integer(&mut self, node: &Node, activations: Activations) {
        let natural = |lowering: &Self, id: ValueId| {
            Form::Codes(activations, lowering.scheme.quant(id, activations))
        };
        let out = natural(self, node.outputs[0]);
        let inputs = if node.op.has_weights() {
            self.weighted(node, activations)
        } else if is_same_scale(&node.op) {
            node.inputs
                .iter()
                .map(|&id| self.want(id, out.clone()))
                .collect()
        } else {
            let wanted = node.inputs.iter();
            wanted.map(|&id| self.want(id, natural(self, id))).collect()
        };
        let is_index = matches!(node.op, Op::ArgMax { .. });
        let outputs = node.outputs.iter();
        let outputs = outputs.map(|&id| match is_index {
            true => self.index(id),
            false if is_same_scale(&node.op) => self.make(id, out.clone()),
            false => self.make(id, natural(self, id)),
        });
        let outputs = outputs.collect();
        self.emit(node.op.clone(), inputs, outputs);
    }

    /// A node on real values.
    fn real(&mut self, node: &Node, arithmetic: Arithmetic) {
        let mut inputs: Vec<usize> = Vec::with_capacity(node.inputs.len());
        for (position, &id) in node.inputs.iter().enumerate() {
            let tensor = match (position, arithmetic) {
                (1, Arithmetic::Dynamic | Arithmetic::Stored) => {
                    let (weights, _) = self.weights(node, &[]);
                    let codes = self.codes_tensor(id, weights);
                    match arithmetic {
                        Arithmetic::Stored => self.made_real(id, codes),
                        _ => codes,
                    }
                }
                (2, Arithmetic::Dynamic | Arithmetic::Stored) => {
                    let (_, bias) = self.weights(node, &[]);
                    self.constant(id, Element::F32, None, Constant::Real(bias))
                }
                _ => self.want(id, Form::Real),
            };
            inputs.push(tensor);
        }
        let is_index = matches!(node.op, Op::ArgMax { .. });
        let outputs = node.outputs.iter();
        let outputs = outputs.map(|&id| match is_index {
            true => self.index(id),
            false => self.make(id, Form::Real),
        });
        let outputs = outputs.collect();
        self.emit(node.op.clone(), inputs, outputs);
    }

    /// Input, weights and bias of a node on codes. The bias has the scale of the products.
    fn weighted(&mut self, node: &Node, activations: Activations) -> Vec<usize> {
        let quant = self.scheme.quant(node.inputs[0], activations);
        let x = self.want(node.inputs[0], Form::Codes(activations, quant.clone()));
        let bias = node.inputs.get(2).and_then(|&id| self.reals(id));
        // A scale of the products below this would push the bias out of its type.
        let least = |bias: &f32| match activations {
            Activations::Int8 => {
                (f64::from(bias.abs()) / f64::from(1 << 30) / f64::from(quant.scale())) as f32
            }
            Activations::Int16 => 0.0,
        };
        let least: Vec<f32> = bias.into_iter().flatten().map(least).collect();
        let (weights, bias) = self.weights(node, &least);
        let scales: Vec<f32> = weights
            .quant
            .scales
            .iter()
            .map(|scale| scale * quant.scale())
            .collect();
        let weights = self.codes_tensor(node.inputs[1], weights);
        let mut inputs = vec![x, weights];
        if let Some(&id) = node.inputs.get(2) {
            let scale = |channel: usize| f64::from(scales[channel.min(scales.len() - 1)]);
            let codes = bias.iter().enumerate();
            let codes = codes.map(|(channel, &bias)| {
                (f64::from(bias) / scale(channel)).round_ties_even() as i64
            });
            let codes = Constant::Codes(codes.collect());
            let element = match activations {
                Activations::Int8 => Element::I32,
                Activations::Int16 => Element::I64,
            };
            let quant = QuantParams {
                zero_points: vec![0; scales.len()],
                scales,
                axis: 0,
            };
            inputs.push(self.constant(id, element, Some(quant), codes));
        }
        inputs
    }

    /// Weights of a node as codes, and its bias, corrected if the settings ask for it.
    fn weights(&self, node: &Node, least_scales: &[f32]) -> (Weights, Vec<f32>) {
        let id = node.inputs[1];
        let axis = match node.op {
            Op::DepthwiseConv2d(_) => 3,
            _ => 0,
        };
        let values = self.reals(id).unwrap_or_default();
        let shape = self.graph.shape(id);
        let mut format = self.settings.weights;
        if self.settings.mode == Mode::Dynamic && matches!(node.op, Op::DepthwiseConv2d(_)) {
            // LiteRT reads a scale for each channel of depthwise weights beside real activations, whatever there is.
            format.granularity = Granularity::PerChannel;
        }
        let weights = Weights::quantize(values, shape, axis, format, least_scales);
        let mut bias = node
            .inputs
            .get(2)
            .and_then(|&id| self.reals(id))
            .unwrap_or_default()
            .to_vec();
        let layer = Layer {
            op: &node.op,
            shape,
            real: values,
            weights: &weights,
        };
        if self.settings.bias_correction
            && let Some(observed) = self.statistics.of(node.inputs[0])
        {
            layer.correct_weights(&mut bias, &observed.means);
        }
        let shift = &self.made.input_shift;
        if !shift.is_empty() && node.inputs[0] == self.graph.inputs[0] {
            layer.correct_input(&mut bias, shift);
        }
        (weights, bias)
    }

    fn reals(&self, id: ValueId) -> Option<&[f32]> {
        match self.graph.constant(id) {
            Some(TensorData::F32(data)) => Some(data),
            _ => None,
        }
    }

    /// The tensor that stands for a value in a form, converted from another if need be.
    fn want(&mut self, id: ValueId, form: Form) -> usize {
        let known = self.forms.get(&id).map_or(&[][..], Vec::as_slice);
        if let Some((_, tensor)) = known.iter().find(|(known, _)| *known == form) {
            return *tensor;
        }
        let Some((from, source)) = known.first().cloned() else {
            return self.constant_in(id, form);
        };
        let tensor = self.make(id, form.clone());
        let op = match form {
            Form::Real => Op::Dequantize,
            Form::Codes(..) => Op::Quantize,
        };
        debug_assert!(from != form);
        self.emit(op, vec![source], vec![tensor]);
        tensor
    }

    /// A constant in a form.
    fn constant_in(&mut self, id: ValueId, form: Form) -> usize {
        let tensor = match self.graph.constant(id) {
            Some(TensorData::F32(data)) => match &form {
                Form::Real => self.constant(id, Element::F32, None, Constant::Real(data.clone())),
                Form::Codes(activations, quant) => {
                    let codes = to_codes(data, quant, activations.codes());
                    let codes = Constant::Codes(codes.into_iter().map(i64::from).collect());
                    self.constant(id, activations.element(), Some(quant.clone()), codes)
                }
            },
            // Integers, such as indices, are what they are.
            Some(TensorData::I32(data)) => {
                let data = Constant::Codes(data.iter().map(|&value| value.into()).collect());
                self.constant(id, Element::I32, None, data)
            }
            _ => self.make(id, form.clone()),
        };
        self.remember(id, form, tensor);
        tensor
    }

    fn constant(
        &mut self,
        id: ValueId,
        element: Element,
        quant: Option<QuantParams>,
        data: Constant,
    ) -> usize {
        let tensor = self.tensor(id, element, quant);
        self.made.tensors[tensor].data = Some(data);
        tensor
    }

    fn codes_tensor(&mut self, id: ValueId, weights: Weights) -> usize {
        let element = match self.settings.weights.bits {
            0..=8 => Element::I8,
            _ => Element::I16,
        };
        let tensor = self.tensor(id, element, Some(weights.quant));
        let codes = weights.codes.into_iter().map(i64::from).collect();
        self.made.tensors[tensor].data = Some(Constant::Codes(codes));
        tensor
    }

    /// Stored weights, made real.
    fn made_real(&mut self, id: ValueId, codes: usize) -> usize {
        let real = self.tensor(id, Element::F32, None);
        self.emit(Op::Dequantize, vec![codes], vec![real]);
        real
    }

    /// A new tensor that stands for a value.
    fn make(&mut self, id: ValueId, form: Form) -> usize {
        let (element, quant) = match &form {
            Form::Real => (Element::F32, None),
            Form::Codes(activations, quant) => (activations.element(), Some(quant.clone())),
        };
        let tensor = self.tensor(id, element, quant);
        self.remember(id, form, tensor);
        tensor
    }

    /// A tensor of indices.
    fn index(&mut self, id: ValueId) -> usize {
        let tensor = self.tensor(id, Element::I32, None);
        self.remember(id, Form::Real, tensor);
        tensor
    }

    fn remember(&mut self, id: ValueId, form: Form, tensor: usize) {
        self.forms.entry(id).or_default().push((form, tensor));
    }

    /// A new tensor of a value's shape, under its name; the type follows if another tensor has that name already.
    fn tensor(&mut self, id: ValueId, element: Element, quant: Option<QuantParams>) -> usize {
        let info = self.graph.info(id);
        let mut name = info.name.clone();
        while !self.names.insert(name.clone()) {
            name = format!("{name}/{}", element.name());
        }
        self.made.tensors.push(Tensor {
            name,
            shape: info.shape.clone(),
            element,
            quant,
            data: None,
        });
        self.made.tensors.len() - 1
    }

    fn emit(&mut self, op: Op, inputs: Vec<usize>, outputs: Vec<usize>) {
        self.made.operators.push(Operator {
            op,
            inputs,
            outputs,
        });
    }
}

#[cfg(test)]
mod tests;
