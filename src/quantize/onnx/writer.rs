//! The file as it grows: which tensors of it stand for which of the quantized model, and with which axes.

use std::collections::{BTreeMap, BTreeSet};

use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto, TensorProto, ValueInfoProto};

use super::{Interface, proto};
use crate::graph::Activation;
use crate::quantize::lower::{Constant, Element, Lowered, Tensor};
use crate::tensor::{QuantParams, Shape};

/// Where the axes of an NCHW feature map lie in an NHWC value.
pub(super) const NCHW: [usize; 4] = [0, 3, 1, 2];

/// A real tensor of the file that stands for one of the quantized model. Its axis `k` is axis `axes[k]` of that.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct View {
    pub name: String,
    pub axes: Vec<usize>,
}

pub(super) struct Writer {
    pub opset: i64,
    /// Those of the quantized model, and shapes between.
    pub tensors: Vec<Tensor>,
    /// What each is called, and whether a tensor of the file has that name already.
    labels: Vec<(String, bool)>,
    taken: BTreeSet<String>,
    pub views: Vec<Vec<View>>,
    /// Tensors that are others in another form.
    aliases: BTreeMap<usize, usize>,
    inputs: Vec<ValueInfoProto>,
    nodes: Vec<NodeProto>,
    pub initializers: Vec<TensorProto>,
    /// Names of small constants, by type, dimensions and bytes.
    pub known: BTreeMap<(i32, Vec<usize>, Vec<u8>), String>,
}

impl Writer {
    pub fn new(lowered: &Lowered, interface: &Interface, opset: i64) -> Self {
        let mut writer = Self {
            opset,
            tensors: Vec::new(),
            labels: Vec::new(),
            taken: interface.outputs.iter().cloned().collect(),
            views: Vec::new(),
            aliases: BTreeMap::new(),
            inputs: Vec::new(),
            nodes: Vec::new(),
            initializers: Vec::new(),
            known: BTreeMap::new(),
        };
        for tensor in &lowered.tensors {
            writer.add(tensor.clone());
        }
        writer
    }

    fn add(&mut self, tensor: Tensor) -> usize {
        let label = self.fresh(&tensor.name.clone());
        self.labels.push((label, false));
        self.tensors.push(tensor);
        self.views.push(Vec::new());
        self.tensors.len() - 1
    }

    /// A tensor like another, of other dimensions.
    pub fn like(&mut self, tensor: usize, dims: Vec<usize>) -> usize {
        let like = self.tensors[self.source(tensor)].clone();
        self.add(Tensor {
            name: format!("{}/as {dims:?}", like.name),
            shape: Shape::checked(dims).unwrap_or_default(),
            ..like
        })
    }

    pub fn dims(&self, tensor: usize) -> Vec<usize> {
        self.tensors[tensor].shape.dims().to_vec()
    }

    pub fn rank(&self, tensor: usize) -> usize {
        self.tensors[tensor].shape.rank()
    }

    pub fn is_constant(&self, tensor: usize) -> bool {
        self.tensors[self.source(tensor)].data.is_some()
    }

    /// A name that no tensor of the file has yet.
    pub fn fresh(&mut self, stem: &str) -> String {
        let mut name = stem.to_owned();
        let mut serial = 1;
        while !self.taken.insert(name.clone()) {
            serial += 1;
            name = format!("{stem}/{serial}");
        }
        name
    }

    /// The name of a tensor if it is free, else one that follows from it.
    pub fn claim(&mut self, tensor: usize) -> String {
        let (label, used) = self.labels[tensor].clone();
        self.labels[tensor].1 = true;
        match used {
            false => label,
            true => self.fresh(&label),
        }
    }

    fn derived(&mut self, tensor: usize, role: &str) -> String {
        let stem = format!("{}/{role}", self.labels[tensor].0);
        self.fresh(&stem)
    }

    fn source(&self, tensor: usize) -> usize {
        self.aliases.get(&tensor).copied().unwrap_or(tensor)
    }

    /// `tensor` is `source` in another form: real values of codes, or unchanged.
    pub fn alias(&mut self, tensor: usize, source: usize) {
        self.aliases.insert(tensor, self.source(source));
    }

    /// An input of the file.
    pub fn input(&mut self, tensor: usize, is_nchw: bool) {
        let axes = match is_nchw && self.rank(tensor) == 4 {
            true => NCHW.to_vec(),
            false => (0..self.rank(tensor)).collect(),
        };
        let dims = self.dims(tensor);
        let dims: Vec<usize> = axes.iter().map(|&axis| dims[axis]).collect();
        let name = self.claim(tensor);
        let kind = data_type(self.tensors[tensor].element);
        self.inputs.push(proto::value(&name, kind, &dims));
        let name = match self.tensors[tensor].quant.clone() {
            Some(quant) => self.dequantized(tensor, name, &quant, &axes),
            None => name,
        };
        self.views[tensor].push(View { name, axes });
    }

    /// The tensor with its axes in whatever order is at hand.
    pub fn any(&mut self, tensor: usize) -> View {
        let source = self.source(tensor);
        match self.views[source].first() {
            Some(view) => view.clone(),
            None => {
                let axes: Vec<usize> = (0..self.rank(source)).collect();
                let name = self.constant(source, &axes);
                View { name, axes }
            }
        }
    }

    /// The name of the tensor with its axes in this order.
    pub fn view(&mut self, tensor: usize, axes: &[usize]) -> String {
        let source = self.source(tensor);
        let known = self.views[source].iter().find(|view| view.axes == axes);
        if let Some(view) = known {
            return view.name.clone();
        }
        if self.tensors[source].data.is_some() {
            return self.constant(source, axes);
        }
        let View { name, axes: own } = self.any(source);
        let place = |axis: &usize| own.iter().position(|own| own == axis).unwrap_or(*axis);
        let order: Vec<usize> = axes.iter().map(place).collect();
        let moved = self.derived(source, "transposed");
        let order = vec![proto::ints("perm", &order)];
        self.node("Transpose", vec![name], vec![moved.clone()], order);
        self.made(source, moved, axes.to_vec())
    }

    /// The name of the tensor with its axes in the model's order.
    pub fn plain(&mut self, tensor: usize) -> String {
        let axes: Vec<usize> = (0..self.rank(tensor)).collect();
        self.view(tensor, &axes)
    }

    /// Says that `tensor` is `source` with its axes in another order: its axis `i` is axis `order[i]`.
    pub fn transposed(&mut self, tensor: usize, source: usize, order: &[usize]) {
        let source = self.source(source);
        self.any(source);
        let place = |axis: &usize| order.iter().position(|own| own == axis).unwrap_or(*axis);
        let views = self.views[source].iter().map(|view| View {
            name: view.name.clone(),
            axes: view.axes.iter().map(place).collect(),
        });
        self.views[tensor] = views.collect();
    }

    pub fn node(
        &mut self,
        op: &str,
        inputs: Vec<String>,
        outputs: Vec<String>,
        attributes: Vec<AttributeProto>,
    ) {
        let serial = self.nodes.len();
        self.nodes
            .push(proto::node(op, serial, inputs, outputs, attributes));
    }

    /// Adds the operator that makes `output`, what clamps its result, and what makes codes of it.
    pub fn emit(
        &mut self,
        op: &str,
        inputs: Vec<String>,
        attributes: Vec<AttributeProto>,
        activation: Activation,
        (output, axes): (usize, Vec<usize>),
    ) {
        let is_last = !self.needs(activation, output);
        let raw = self.result(output, is_last);
        self.node(op, inputs, vec![raw.clone()], attributes);
        self.clamped(raw, activation, (output, axes));
    }

    /// What a tensor is after a clamp on `raw`.
    pub fn clamped(
        &mut self,
        raw: String,
        activation: Activation,
        (output, axes): (usize, Vec<usize>),
    ) {
        let mut name = raw;
        if self.needs(activation, output) {
            let (op, bounds) = match activation {
                Activation::Relu6 => ("Clip", vec![0.0, 6.0]),
                Activation::ReluN1To1 => ("Clip", vec![-1.0, 1.0]),
                Activation::Relu | Activation::None => ("Relu", vec![]),
            };
            let mut inputs = vec![name];
            for bound in bounds {
                inputs.push(self.small("bound", Element::F32, vec![], Constant::Real(vec![bound])));
            }
            name = self.result(output, true);
            self.node(op, inputs, vec![name.clone()], vec![]);
        }
        self.made(output, name, axes);
    }

    /// The name of what an operator makes for a tensor; the last is the tensor itself unless codes are to come.
    pub fn result(&mut self, output: usize, is_last: bool) -> String {
        match is_last && self.tensors[output].quant.is_none() {
            true => self.claim(output),
            false => self.derived(output, "unrounded"),
        }
    }

    /// Whether a clamp does something that the ends of the codes do not do already.
    fn needs(&self, activation: Activation, output: usize) -> bool {
        let (low, high) = match activation {
            Activation::None => return false,
            Activation::Relu => (0.0, None),
            Activation::Relu6 => (0.0, Some(6.0)),
            Activation::ReluN1To1 => (-1.0, Some(1.0)),
        };
        let Tensor { quant, element, .. } = &self.tensors[output];
        let (Some(quant), Some([lowest, highest])) = (quant, element.codes()) else {
            return true;
        };
        let code = |value: f32| {
            (value / quant.scale()).round_ties_even() as i64 + i64::from(quant.zero_point())
        };
        let cuts_above = high.is_some_and(|high| code(high) < i64::from(highest));
        code(low) > i64::from(lowest) || cuts_above
    }

    /// `raw` is what an operator made for a tensor. If that holds codes, they are made and read. Returns the name of
    /// the real values.
    pub fn made(&mut self, tensor: usize, raw: String, axes: Vec<usize>) -> String {
        let name = match self.tensors[tensor].quant.clone() {
            None => raw,
            Some(quant) => {
                let codes = self.claim(tensor);
                let mut inputs = vec![raw];
                inputs.extend(self.parameters(tensor, &quant));
                self.node("QuantizeLinear", inputs, vec![codes.clone()], vec![]);
                self.dequantized(tensor, codes, &quant, &axes)
            }
        };
        let view = View {
            name: name.clone(),
            axes,
        };
        self.views[tensor].push(view);
        name
    }

    /// Adds a DequantizeLinear after codes.
    pub fn dequantized(
        &mut self,
        tensor: usize,
        codes: String,
        quant: &QuantParams,
        axes: &[usize],
    ) -> String {
        let mut inputs = vec![codes];
        inputs.extend(self.parameters(tensor, quant));
        let axis = axes.iter().position(|&axis| axis == quant.axis);
        let axis = axis.filter(|_| quant.is_per_channel());
        let attributes = axis.map(|axis| proto::int("axis", axis));
        let real = self.derived(tensor, "real");
        self.node(
            "DequantizeLinear",
            inputs,
            vec![real.clone()],
            attributes.into_iter().collect(),
        );
        real
    }

    /// The whole graph. Outputs get their names.
    pub fn finish(mut self, lowered: &Lowered, interface: &Interface) -> GraphProto {
        let mut outputs = Vec::new();
        let mut renamed = BTreeMap::new();
        for (&tensor, wanted) in lowered.outputs.iter().zip(&interface.outputs) {
            let found = self.plain(tensor);
            let is_free = self.nodes.iter().any(|node| node.output.contains(&found))
                && !renamed.contains_key(&found);
            match is_free {
                true => {
                    renamed.insert(found, wanted.clone());
                }
                false => self.node("Identity", vec![found], vec![wanted.clone()], vec![]),
            }
            // An index has 64 bits in ONNX.
            let kind = match self.tensors[tensor].element {
                Element::I32 => DataType::Int64,
                element => data_type(element),
            };
            outputs.push(proto::value(wanted, kind, &self.dims(tensor)));
        }
        for node in &mut self.nodes {
            for name in node.input.iter_mut().chain(&mut node.output) {
                if let Some(new) = renamed.get(name) {
                    name.clone_from(new);
                }
            }
        }
        GraphProto {
            name: "main".into(),
            node: self.nodes,
            initializer: self.initializers,
            input: self.inputs,
            output: outputs,
            ..Default::default()
        }
    }
}

pub(super) fn data_type(element: Element) -> DataType {
    match element {
        Element::F32 => DataType::Float,
        Element::U8 => DataType::Uint8,
        Element::I8 => DataType::Int8,
        Element::I16 => DataType::Int16,
        Element::I32 => DataType::Int32,
        Element::I64 => DataType::Int64,
    }
}
