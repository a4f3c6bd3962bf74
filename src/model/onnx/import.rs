//! The importer's state: which tensors of the file are known, and as what.
//!
//! Feature maps are NCHW in the file and NHWC in the graph. A [`View`] says for each axis of the file where it lies in
//! the graph, so a transposition of the file only changes a view; elements move where an operator needs its axes in
//! another order than they lie in.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use tract_onnx::pb::{GraphProto, TensorProto};

use super::constant::{self, Constant, Elements};
use super::site::{Site, printable};
use super::{inputs, operators};
use crate::error::{Error, Result};
use crate::graph::{Graph, MAX_BYTES, Node, Op, TransposedAxes, Value, ValueId, passes, shape};
use crate::tensor::{DType, QuantParams, Shape, TensorData, TensorInfo};

/// Axis `k` of the file is axis `[k]` of the stored value.
pub(super) type Axes = Vec<usize>;

/// Where the axes of an NCHW feature map lie in an NHWC value.
pub(super) const NCHW: [usize; 4] = [0, 3, 1, 2];

/// A computed tensor of the file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct View {
    pub id: ValueId,
    pub axes: Axes,
    /// The tensor is real. If the value holds codes, they stand for it.
    pub is_real: bool,
}

/// A tensor of the file.
#[derive(Clone, Debug)]
pub(super) enum Operand {
    Constant(Rc<Constant>),
    Value(View),
}

/// What the elements of a value are. Codes are int8.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Form {
    Real,
    Codes(QuantParams),
}

pub(super) struct Importer<'a> {
    pub model: &'a str,
    pub opset: i64,
    /// The file is a float model, which becomes a float graph.
    pub is_float: bool,
    pub sites: &'a [Site],
    pub graph: Graph,
    /// Inputs, by position, that the file has as NCHW and the graph as NHWC.
    pub nchw_inputs: Vec<usize>,
    /// Clamps that are part of the operator before them.
    pub absorbed: HashSet<usize>,
    file: &'a GraphProto,
    initializers: HashMap<&'a str, &'a TensorProto>,
    readers: HashMap<&'a str, Vec<usize>>,
    outputs: HashSet<&'a str>,
    operands: HashMap<String, Operand>,
    moved: HashMap<(ValueId, Axes), ValueId>,
    real: HashMap<ValueId, ValueId>,
    bytes: usize,
}

impl<'a> Importer<'a> {
    pub fn new(model: &'a str, opset: i64, file: &'a GraphProto, sites: &'a [Site]) -> Self {
        let mut readers: HashMap<&str, Vec<usize>> = HashMap::new();
        for (at, site) in sites.iter().enumerate() {
            for name in site.node.input.iter().filter(|name| !name.is_empty()) {
                readers.entry(name).or_default().push(at);
            }
        }
        Self {
            model,
            opset,
            is_float: false,
            sites,
            graph: Graph::default(),
            nchw_inputs: Vec::new(),
            absorbed: HashSet::new(),
            file,
            initializers: file
                .initializer
                .iter()
                .map(|t| (t.name.as_str(), t))
                .collect(),
            readers,
            outputs: file
                .output
                .iter()
                .map(|output| output.name.as_str())
                .collect(),
            operands: HashMap::new(),
            moved: HashMap::new(),
            real: HashMap::new(),
            bytes: 0,
        }
    }

    /// Imports the whole graph. The result is not validated yet.
    pub fn run(mut self) -> Result<(Graph, Vec<usize>)> {
        let sites = self.sites;
        // Scales are asked for before the operators that make them come up.
        for site in sites.iter().filter(|site| site.op() == "Constant") {
            operators::import(&mut self, site)?;
        }
        let file = self.file;
        for input in &file.input {
            if !self.initializers.contains_key(input.name.as_str()) {
                inputs::input(&mut self, input)?;
            }
        }
        for (at, site) in sites.iter().enumerate() {
            if self.absorbed.contains(&at) {
                let x = self.view(site, 0)?;
                self.set(site, x)?;
            } else if site.op() != "Constant" {
                operators::import(&mut self, site)?;
            }
        }
        for output in &file.output {
            inputs::output(&mut self, output)?;
        }
        Ok((self.graph, self.nchw_inputs))
    }

    /// What the file is, in words that follow an operator's name.
    pub fn kind(&self) -> &'static str {
        match self.is_float {
            true => "in a model that is to be quantized",
            false => "in a quantized model",
        }
    }

    /// What to do about an operator that cannot be imported.
    pub fn advice(&self) -> &'static str {
        match self.is_float {
            true => super::EXPORT_ADVICE,
            false => super::FLOAT_ADVICE,
        }
    }

    /// Operators that read a tensor, by position; twice if they do so twice.
    pub fn readers(&self, name: &str) -> &[usize] {
        self.readers.get(name).map_or(&[], Vec::as_slice)
    }

    pub fn is_output(&self, name: &str) -> bool {
        self.outputs.contains(name)
    }

    /// A tensor by its name, an initializer read now if it was not before; `None` if nothing has made it yet.
    pub fn operand(&mut self, name: &str) -> std::result::Result<Option<Operand>, String> {
        if let Some(operand) = self.operands.get(name) {
            return Ok(Some(operand.clone()));
        }
        let Some(tensor) = self.initializers.get(name) else {
            return Ok(None);
        };
        let constant = constant::read(tensor)
            .map_err(|reason| format!("constant `{:.120}`: {reason}", printable(name)))?;
        let operand = Operand::Constant(Rc::new(constant));
        self.operands.insert(name.into(), operand.clone());
        Ok(Some(operand))
    }

    /// The input at a position; `None` if it is left out.
    pub fn optional_input(&mut self, site: &Site, position: usize) -> Result<Option<Operand>> {
        let Some(name) = site.input(position) else {
            return Ok(None);
        };
        match self.operand(name) {
            Ok(Some(operand)) => Ok(Some(operand)),
            Ok(None) => Err(site.damaged(
                self.model,
                format!("nothing before makes its input `{:.120}`", printable(name)),
            )),
            Err(reason) => Err(site.damaged(self.model, reason)),
        }
    }

    pub fn input(&mut self, site: &Site, position: usize) -> Result<Operand> {
        self.optional_input(site, position)?
            .ok_or_else(|| site.damaged(self.model, format!("it lacks input {position}")))
    }

    /// A constant input; `None` if it is left out.
    pub fn optional_constant(
        &mut self,
        site: &Site,
        position: usize,
    ) -> Result<Option<Rc<Constant>>> {
        match self.optional_input(site, position)? {
            None => Ok(None),
            Some(Operand::Constant(constant)) => Ok(Some(constant)),
            Some(Operand::Value(_)) => Err(site.unsupported(
                self.model,
                &format!("with a computed input {position}"),
                "export the model with fixed shapes and constant weights",
            )),
        }
    }

    pub fn constant(&mut self, site: &Site, position: usize) -> Result<Rc<Constant>> {
        self.optional_constant(site, position)?
            .ok_or_else(|| site.damaged(self.model, format!("it lacks input {position}")))
    }

    /// The integers of a constant input; `None` if it is left out.
    pub fn integers(&mut self, site: &Site, position: usize) -> Result<Option<Vec<i64>>> {
        let Some(constant) = self.optional_constant(site, position)? else {
            return Ok(None);
        };
        let integers = constant.integers();
        integers
            .map(Some)
            .ok_or_else(|| site.damaged(self.model, format!("input {position} holds no integers")))
    }

    /// The integers of an attribute, of an older version of the operator, or of a constant input, of a newer one.
    pub fn setting(
        &mut self,
        site: &Site,
        name: &str,
        position: usize,
    ) -> Result<Option<Vec<i64>>> {
        match site.ints(name) {
            Some(integers) => Ok(Some(integers.to_vec())),
            None => self.integers(site, position),
        }
    }

    /// The input at a position as a value; a constant becomes one.
    pub fn view(&mut self, site: &Site, position: usize) -> Result<View> {
        match self.input(site, position)? {
            Operand::Value(view) => Ok(view),
            Operand::Constant(constant) => self.constant_view(site, &constant),
        }
    }

    /// A constant as a value, its axes in the file's order.
    pub fn constant_view(&mut self, site: &Site, constant: &Constant) -> Result<View> {
        let name = format!("{}/constant", site.output());
        let id = self.constant_value(site, constant, &name)?;
        Ok(View {
            id,
            axes: (0..constant.dims.len()).collect(),
            is_real: true,
        })
    }

    /// Adds a constant to the graph.
    pub fn constant_value(
        &mut self,
        site: &Site,
        constant: &Constant,
        name: &str,
    ) -> Result<ValueId> {
        let (dtype, data) = match &constant.data {
            Elements::F32(data) => (DType::F32, TensorData::F32(data.clone())),
            Elements::I8(data) => (DType::I8, TensorData::I8(data.clone())),
            Elements::U8(data) => (DType::U8, TensorData::U8(data.clone())),
            Elements::I32(data) => (DType::I32, TensorData::I32(data.clone())),
            Elements::I64(_) => {
                return Err(site.unsupported(
                    self.model,
                    "on 64-bit integers",
                    "export the model with fixed shapes",
                ));
            }
        };
        let shape = self.shape(site, constant.dims.clone())?;
        let quant = match dtype {
            DType::F32 => None,
            _ => constant.quant.clone(),
        };
        let info = TensorInfo {
            name: printable(name),
            shape,
            dtype,
            quant,
        };
        self.add_value(info, Some(data))
    }

    /// A checked shape.
    pub fn shape(&self, site: &Site, dims: Vec<usize>) -> Result<Shape> {
        let text = format!("{:?}", &dims[..dims.len().min(9)]);
        Shape::checked(dims).ok_or_else(|| {
            site.damaged(self.model, format!("a tensor of shape {text} is too large"))
        })
    }

    /// Adds a value to the graph. Counts the bytes that it takes, now or in an engine.
    pub fn add_value(&mut self, info: TensorInfo, data: Option<TensorData>) -> Result<ValueId> {
        self.reserve(info.shape.elements().saturating_mul(info.dtype.size()))?;
        self.graph.values.push(Value { info, data });
        Ok(ValueId(self.graph.values.len() - 1))
    }

    fn reserve(&mut self, bytes: usize) -> Result<()> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes <= MAX_BYTES {
            return Ok(());
        }
        let most = MAX_BYTES >> 20;
        let reason = format!("its tensors take more than {most} MiB; use a smaller model");
        Err(Error::model(self.model, reason))
    }

    /// Names the first output of an operator.
    pub fn set(&mut self, site: &Site, view: View) -> Result<()> {
        self.define(site, 0, Operand::Value(view))
    }

    pub fn set_constant(&mut self, site: &Site, constant: Constant) -> Result<()> {
        self.reserve(constant.data.len())?;
        self.define(site, 0, Operand::Constant(Rc::new(constant)))
    }

    pub fn define(&mut self, site: &Site, output: usize, operand: Operand) -> Result<()> {
        let Some(name) = site.node.output.get(output) else {
            return Err(site.damaged(self.model, format!("it lacks output {output}")));
        };
        self.define_name(name, operand)
            .map_err(|reason| site.damaged(self.model, reason))
    }

    pub fn define_name(&mut self, name: &str, operand: Operand) -> std::result::Result<(), String> {
        let is_new = !self.initializers.contains_key(name) && !self.operands.contains_key(name);
        if !is_new {
            return Err(format!("tensor `{:.120}` is made twice", printable(name)));
        }
        self.operands.insert(name.into(), operand);
        Ok(())
    }

    /// Dimensions of a tensor, in the file's order.
    pub fn dims(&self, view: &View) -> Vec<usize> {
        let stored = self.graph.shape(view.id).dims();
        view.axes.iter().map(|&axis| stored[axis]).collect()
    }

    /// An axis of the file that may count from the end.
    pub fn axis(&self, site: &Site, axis: i64, rank: usize) -> Result<usize> {
        let count = rank as i64;
        let resolved = if axis < 0 {
            axis.saturating_add(count)
        } else {
            axis
        };
        if (0..count).contains(&resolved) {
            return Ok(resolved as usize);
        }
        let reason = format!("axis {axis} is outside a tensor of rank {rank}");
        Err(site.damaged(self.model, reason))
    }

    pub fn form(&self, view: &View) -> Form {
        match &self.graph.info(view.id).quant {
            Some(quant) if self.graph.dtype(view.id) != DType::F32 => Form::Codes(quant.clone()),
            _ => Form::Real,
        }
    }

    /// Adds a node with one output, whose shape follows from the shape rule, and returns that output.
    pub fn emit(
        &mut self,
        site: &Site,
        op: Op,
        inputs: Vec<ValueId>,
        name: &str,
        form: Form,
        declared: &Shape,
    ) -> Result<ValueId> {
        let shapes: Vec<&Shape> = inputs.iter().map(|&id| self.graph.shape(id)).collect();
        let mut shapes = shape::output_shapes(&op, &shapes, declared, 1)
            .map_err(|reason| site.damaged(self.model, reason))?;
        let (dtype, quant) = match form {
            Form::Real => (DType::F32, None),
            Form::Codes(quant) => (DType::I8, Some(quant)),
        };
        let info = TensorInfo {
            name: printable(name),
            shape: shapes.remove(0),
            dtype: if matches!(op, Op::ArgMax { .. }) {
                DType::I32
            } else {
                dtype
            },
            quant,
        };
        let output = self.add_value(info, None)?;
        self.graph.nodes.push(Node {
            op,
            inputs,
            outputs: vec![output],
            index: site.index,
        });
        Ok(output)
    }

    /// The same tensor as real values.
    pub fn as_real(&mut self, site: &Site, view: &View) -> Result<View> {
        if self.form(view) == Form::Real {
            return Ok(view.clone());
        }
        let id = match self.real.get(&view.id) {
            Some(&known) => known,
            None if self.graph.constant(view.id).is_some() => self.real_constant(site, view.id)?,
            None => {
                let name = format!("{}/real", self.graph.info(view.id).name);
                let none = Shape::default();
                let id = self.emit(
                    site,
                    Op::Dequantize,
                    vec![view.id],
                    &name,
                    Form::Real,
                    &none,
                )?;
                self.real.insert(view.id, id);
                id
            }
        };
        Ok(View { id, ..view.clone() })
    }

    fn real_constant(&mut self, site: &Site, id: ValueId) -> Result<ValueId> {
        let info = self.graph.info(id).clone();
        let real = match (self.graph.constant(id), &info.quant) {
            (Some(codes), Some(quant)) => passes::dequantize(codes, &info.shape, quant),
            _ => Err("it has no codes".into()),
        };
        let real =
            real.map_err(|reason| site.damaged(self.model, format!("its constant: {reason}")))?;
        let info = TensorInfo {
            dtype: DType::F32,
            quant: None,
            ..info
        };
        self.add_value(info, Some(TensorData::F32(real)))
    }

    /// The tensor as a value with its axes where `axes` says. Elements move only if an axis of more than one element
    /// must pass another. `axes` has the tensor's rank.
    pub fn stored(&mut self, site: &Site, view: &View, axes: &[usize]) -> Result<ValueId> {
        if view.axes == axes {
            return Ok(view.id);
        }
        let mut order = vec![0; axes.len()];
        for (&from, &to) in view.axes.iter().zip(axes) {
            order[to] = from;
        }
        let key = (view.id, order.clone());
        if let Some(&known) = self.moved.get(&key) {
            return Ok(known);
        }
        let dims = self.graph.shape(view.id).dims();
        let long = order.iter().filter(|&&axis| dims[axis] != 1);
        let declared = self.shape(site, order.iter().map(|&axis| dims[axis]).collect())?;
        let op = match long.is_sorted() {
            true => Op::Reshape,
            false => Op::Transpose(TransposedAxes(order)),
        };
        let name = format!("{}/moved", self.graph.info(view.id).name);
        let id = self.emit(site, op, vec![view.id], &name, self.form(view), &declared)?;
        self.moved.insert(key, id);
        Ok(id)
    }

    /// The tensor as a value with its axes in the file's order.
    pub fn canonical(&mut self, site: &Site, view: &View) -> Result<ValueId> {
        let axes: Axes = (0..view.axes.len()).collect();
        self.stored(site, view, &axes)
    }

    /// A feature map as an NHWC value.
    pub fn nhwc(&mut self, site: &Site, view: &View) -> Result<ValueId> {
        if view.axes.len() != 4 {
            let dims = self.dims(view);
            let what = format!("on a tensor of shape {dims:?}");
            return Err(site.unsupported(
                self.model,
                &what,
                "use pictures: [batch, channels, height, width]",
            ));
        }
        self.stored(site, view, &NCHW)
    }

    /// Adds an operator that moves elements and changes none, and names its output.
    pub fn keep(
        &mut self,
        site: &Site,
        op: Op,
        x: &View,
        id: ValueId,
        axes: Axes,
        declared: &Shape,
    ) -> Result<()> {
        let form = self.form(x);
        let id = self.emit(site, op, vec![id], site.output(), form, declared)?;
        let is_real = x.is_real;
        self.set(site, View { id, axes, is_real })
    }
}
