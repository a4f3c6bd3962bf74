//! The importer's state: which tensors of the file have become values of the graph.

use std::collections::HashMap;

use tract_tflite::tflite::{BuiltinOperator, Model, Operator, SubGraph, Tensor};

use super::{constants, fold, operators, refusal};
use crate::error::{Error, Result};
use crate::graph::{Graph, MAX_BYTES, Node, Op, Value, ValueId, passes, shape};
use crate::tensor::{DType, Shape, TensorData, TensorInfo};

/// One operator of the file.
pub(super) struct Site<'a> {
    pub model: &'a str,
    pub index: usize,
    pub builtin: BuiltinOperator,
    pub name: String,
    pub operator: Operator<'a>,
    /// Tensor indices; `None` for an input left out.
    pub inputs: Vec<Option<usize>>,
    pub outputs: Vec<usize>,
}

impl Site<'_> {
    /// The operator contradicts itself.
    pub fn damaged(&self, reason: impl std::fmt::Display) -> Error {
        Error::model(
            self.model,
            format!("operator {} ({}): {reason}", self.index, self.name),
        )
    }

    /// The operator asks for something that eyas does not do. `what` follows its name.
    pub fn unsupported(&self, what: impl std::fmt::Display, advice: impl Into<String>) -> Error {
        Error::Unsupported {
            model: self.model.into(),
            feature: format!("operator {} ({}) {what}", self.index, self.name),
            advice: advice.into(),
        }
    }
}

pub(super) struct Importer<'a> {
    name: &'a str,
    file: Model<'a>,
    subgraph: SubGraph<'a>,
    tensors: Vec<Tensor<'a>>,
    /// By tensor.
    values: Vec<Option<ValueId>>,
    dequantized: HashMap<ValueId, ValueId>,
    graph: Graph,
    bytes: usize,
}

impl<'a> Importer<'a> {
    pub fn new(name: &'a str, file: Model<'a>, subgraph: SubGraph<'a>) -> Result<Self> {
        let tensors: Vec<Tensor<'a>> = subgraph.tensors().into_iter().flatten().collect();
        if let Some(tensor) = tensors.iter().find(|tensor| tensor.is_variable()) {
            return Err(Error::Unsupported {
                model: name.into(),
                feature: format!("variable tensor `{:.120}`", tensor_name(*tensor)),
                advice: "use a model that keeps no state between pictures".into(),
            });
        }
        Ok(Self {
            name,
            file,
            subgraph,
            values: vec![None; tensors.len()],
            tensors,
            dequantized: HashMap::new(),
            graph: Graph::default(),
            bytes: 0,
        })
    }

    /// Imports the whole subgraph. The result is not validated yet.
    pub fn run(mut self) -> Result<Graph> {
        for tensor in self.subgraph.inputs().into_iter().flatten() {
            let id = self.graph_input(tensor)?;
            self.graph.inputs.push(id);
        }
        for (index, operator) in self.subgraph.operators().into_iter().flatten().enumerate() {
            let site = self.site(index, operator)?;
            if !fold::fold(&mut self, &site)? {
                operators::import(&mut self, &site)?;
            }
        }
        for tensor in self.subgraph.outputs().into_iter().flatten() {
            let index = self.tensor_index(tensor)?;
            let id = self.values[index].ok_or_else(|| {
                Error::model(
                    self.name,
                    format!(
                        "no operator makes output `{:.120}`",
                        tensor_name(self.tensors[index])
                    ),
                )
            })?;
            self.graph.outputs.push(id);
        }
        Ok(self.graph)
    }

    fn tensor_index(&self, index: i32) -> Result<usize> {
        usize::try_from(index)
            .ok()
            .filter(|&index| index < self.tensors.len())
            .ok_or_else(|| {
                Error::model(
                    self.name,
                    format!("tensor {index} does not exist; the file is damaged"),
                )
            })
    }

    fn site(&self, index: usize, operator: Operator<'a>) -> Result<Site<'a>> {
        let (builtin, custom) = refusal::operator_code(self.file, operator)
            .ok_or_else(|| Error::model(self.name, format!("operator {index} has no code")))?;
        let inputs = operator
            .inputs()
            .into_iter()
            .flatten()
            .map(|tensor| match tensor {
                -1 => Ok(None),
                tensor => self.tensor_index(tensor).map(Some),
            });
        let outputs = operator.outputs().into_iter().flatten();
        Ok(Site {
            model: self.name,
            index,
            builtin,
            name: refusal::operator_name(builtin, custom),
            operator,
            inputs: inputs.collect::<Result<_>>()?,
            outputs: outputs
                .map(|tensor| self.tensor_index(tensor))
                .collect::<Result<_>>()?,
        })
    }

    fn graph_input(&mut self, tensor: i32) -> Result<ValueId> {
        let index = self.tensor_index(tensor)?;
        let tensor = self.tensors[index];
        let name = tensor_name(tensor);
        let refuse = |what: String, advice: &str| Error::Unsupported {
            model: self.name.into(),
            feature: format!("input `{name:.120}` {what}"),
            advice: advice.into(),
        };
        if self.values[index].is_some() {
            return Err(Error::model(
                self.name,
                format!("input `{name:.120}` is listed twice"),
            ));
        }
        let dtype = constants::dtype(tensor, false).ok_or_else(|| {
            refuse(
                format!("of {}", constants::type_name(tensor)),
                "convert the model with uint8, int8 or float32 inputs",
            )
        })?;
        let shape = constants::shape(tensor).ok_or_else(|| {
            let dims: Vec<i32> = tensor.shape().into_iter().flatten().take(9).collect();
            refuse(
                format!("of shape {dims:?}"),
                "convert the model with a fixed input shape, such as [1, 300, 300, 3]",
            )
        })?;
        let info = self.info(index, dtype, shape)?;
        let id = self.add_value(info, None)?;
        self.values[index] = Some(id);
        Ok(id)
    }

    /// A description under the file's name and quantization. Real values carry no quantization.
    fn info(&self, tensor: usize, dtype: DType, shape: Shape) -> Result<TensorInfo> {
        let tensor = self.tensors[tensor];
        let name = tensor_name(tensor);
        let quant = match dtype {
            DType::F32 => None,
            _ => constants::quantization(tensor).map_err(|reason| {
                Error::model(self.name, format!("tensor `{name:.120}`: {reason}"))
            })?,
        };
        Ok(TensorInfo {
            name,
            shape,
            dtype,
            quant,
        })
    }

    /// Counts bytes that are about to be allocated, now or by an engine.
    fn reserve(&mut self, info: &TensorInfo) -> Result<()> {
        let size = info.shape.elements().saturating_mul(info.dtype.size());
        self.bytes = self.bytes.saturating_add(size);
        if self.bytes <= MAX_BYTES {
            return Ok(());
        }
        Err(Error::model(
            self.name,
            format!(
                "its tensors take more than {} MiB; use a smaller model",
                MAX_BYTES >> 20
            ),
        ))
    }

    /// Adds a value that no tensor of the file stands for.
    pub fn add_value(&mut self, info: TensorInfo, data: Option<TensorData>) -> Result<ValueId> {
        self.reserve(&info)?;
        Ok(self.push_value(info, data))
    }

    fn push_value(&mut self, info: TensorInfo, data: Option<TensorData>) -> ValueId {
        self.graph.values.push(Value { info, data });
        ValueId(self.graph.values.len() - 1)
    }

    /// The value of a tensor that an operator reads, imported now if it is a constant not read before.
    fn value(&mut self, site: &Site<'a>, index: usize) -> Result<ValueId> {
        if let Some(id) = self.values[index] {
            return Ok(id);
        }
        let tensor = self.tensors[index];
        let name = tensor_name(tensor);
        let bytes = usize::try_from(tensor.buffer()).ok().and_then(|buffer| {
            let buffers = self.file.buffers()?;
            (buffer < buffers.len()).then(|| buffers.get(buffer).data())?
        });
        let Some(bytes) = bytes
            .map(|bytes| bytes.bytes())
            .filter(|bytes| !bytes.is_empty())
        else {
            return Err(site.damaged(format!(
                "input `{name:.120}` has no data and no operator before makes it"
            )));
        };
        if tensor.sparsity().is_some() {
            return Err(site.unsupported(
                format!("with sparse tensor `{name:.120}`"),
                "convert the model without sparsity",
            ));
        }
        let dtype = constants::dtype(tensor, true).ok_or_else(|| self.wrong_type(site, index))?;
        let shape = constants::shape(tensor).ok_or_else(|| {
            site.damaged(format!("constant `{name:.120}` has an impossible shape"))
        })?;
        let info = self.info(index, dtype, shape)?;
        self.reserve(&info)?;
        let data = constants::data(tensor.type_(), bytes, info.shape.elements())
            .map_err(|reason| site.damaged(format!("constant `{name:.120}`: {reason}")))?;
        let id = self.push_value(info, Some(data));
        self.values[index] = Some(id);
        Ok(id)
    }

    fn wrong_type(&self, site: &Site<'a>, index: usize) -> Error {
        let kind = constants::type_name(self.tensors[index]);
        let advice = match kind.as_str() {
            "int16" => "quantize with 8-bit activations (16x8 models are not run)",
            "float16" => "convert the model with float32 activations",
            _ => {
                "convert the model to float32, or to int8 with uint8, int8 or float32 inputs and outputs"
            }
        };
        site.unsupported(
            format!(
                "with {kind} tensor `{:.120}`",
                tensor_name(self.tensors[index])
            ),
            advice,
        )
    }

    /// The value of input `position`.
    pub fn input(&mut self, site: &Site<'a>, position: usize) -> Result<ValueId> {
        self.optional_input(site, position)?
            .ok_or_else(|| site.damaged(format!("it lacks input {position}")))
    }

    /// The value of input `position`, or `None` if it was left out.
    pub fn optional_input(&mut self, site: &Site<'a>, position: usize) -> Result<Option<ValueId>> {
        match site.inputs.get(position) {
            Some(Some(tensor)) => self.value(site, *tensor).map(Some),
            Some(None) | None => Ok(None),
        }
    }

    /// Every input, none of them left out.
    pub fn inputs(&mut self, site: &Site<'a>) -> Result<Vec<ValueId>> {
        (0..site.inputs.len())
            .map(|position| self.input(site, position))
            .collect()
    }

    /// The integers of a constant input.
    pub fn integers(&mut self, site: &Site<'a>, position: usize) -> Result<Vec<i64>> {
        let id = self.input(site, position)?;
        match self.graph.constant(id) {
            Some(TensorData::I32(data)) => Ok(data.iter().map(|&value| value.into()).collect()),
            Some(_) => Err(site.damaged(format!("input {position} does not hold integers"))),
            None => Err(site.unsupported(
                format!("with a computed input {position}"),
                "convert the model with fixed shapes",
            )),
        }
    }

    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    pub fn shape(&self, id: ValueId) -> &Shape {
        self.graph.shape(id)
    }

    /// Float constants stay, 8-bit constants become float; `None` for values that are not constant.
    pub fn float_constant(&mut self, site: &Site<'a>, id: ValueId) -> Result<Option<ValueId>> {
        let value = self.graph.value(id);
        if value.data.is_none() {
            return Ok(None);
        }
        if value.info.dtype == DType::F32 {
            return Ok(Some(id));
        }
        if let Some(known) = self.dequantized.get(&id) {
            return Ok(Some(*known));
        }
        let mut info = value.info.clone();
        let quant = info
            .quant
            .take()
            .ok_or_else(|| site.damaged(format!("`{:.120}` has no quantization", info.name)))?;
        info.dtype = DType::F32;
        self.reserve(&info)?;
        let data = self.graph.constant(id);
        let real = data
            .ok_or_else(|| String::from("it has no data"))
            .and_then(|data| passes::dequantize(data, &info.shape, &quant))
            .map_err(|reason| site.damaged(format!("constant `{:.120}`: {reason}", info.name)))?;
        let float = self.push_value(info, Some(TensorData::F32(real)));
        self.dequantized.insert(id, float);
        Ok(Some(float))
    }

    /// Gives an output tensor a value that exists already.
    pub fn alias(&mut self, site: &Site<'a>, id: ValueId) -> Result<()> {
        let &[output] = site.outputs.as_slice() else {
            return Err(site.damaged("it has not one output"));
        };
        self.check_unmade(site, output)?;
        self.values[output] = Some(id);
        Ok(())
    }

    /// Gives the only output a constant.
    pub fn make_constant(&mut self, site: &Site<'a>, shape: Shape, data: TensorData) -> Result<()> {
        let &[output] = site.outputs.as_slice() else {
            return Err(site.damaged("it has not one output"));
        };
        let info = self.info(output, data.view().dtype(), shape)?;
        let id = self.add_value(info, Some(data))?;
        self.alias(site, id)
    }

    fn check_unmade(&self, site: &Site<'a>, output: usize) -> Result<()> {
        match self.values[output] {
            None => Ok(()),
            Some(_) => Err(site.damaged(format!(
                "output `{:.120}` exists before it is made",
                tensor_name(self.tensors[output])
            ))),
        }
    }

    /// The one output's tensor index.
    fn only_output(&self, site: &Site<'a>) -> Result<usize> {
        match site.outputs.as_slice() {
            &[output] => Ok(output),
            _ => Err(site.damaged("it has not one output")),
        }
    }

    /// A new value like the only output, of another shape, for a step between.
    pub fn between(&mut self, site: &Site<'a>, shape: Shape) -> Result<ValueId> {
        let output = self.only_output(site)?;
        let dtype = constants::dtype(self.tensors[output], false)
            .ok_or_else(|| self.wrong_type(site, output))?;
        let info = self.info(output, dtype, shape)?;
        self.add_value(info, None)
    }

    /// Adds a node that makes the operator's outputs, whose shapes follow from the shape rule. `declared` is the
    /// shape that the attributes ask for, for the operators whose rule needs it.
    pub fn emit(
        &mut self,
        site: &Site<'a>,
        op: Op,
        inputs: Vec<ValueId>,
        declared: &Shape,
    ) -> Result<()> {
        let shapes: Vec<&Shape> = inputs.iter().map(|id| self.graph.shape(*id)).collect();
        let shapes = shape::output_shapes(&op, &shapes, declared, site.outputs.len())
            .map_err(|reason| site.damaged(reason))?;
        if shapes.len() != site.outputs.len() {
            return Err(site.damaged(format!(
                "it has {} outputs instead of {}",
                site.outputs.len(),
                shapes.len()
            )));
        }
        let mut outputs = Vec::with_capacity(shapes.len());
        for (&output, shape) in site.outputs.iter().zip(shapes) {
            self.check_unmade(site, output)?;
            let dtype = constants::dtype(self.tensors[output], false)
                .ok_or_else(|| self.wrong_type(site, output))?;
            let info = self.info(output, dtype, shape)?;
            let id = self.add_value(info, None)?;
            self.values[output] = Some(id);
            outputs.push(id);
        }
        self.push(site, op, inputs, outputs);
        Ok(())
    }

    /// Adds a node whose outputs exist.
    pub fn push(&mut self, site: &Site<'a>, op: Op, inputs: Vec<ValueId>, outputs: Vec<ValueId>) {
        self.graph.nodes.push(Node {
            op,
            inputs,
            outputs,
            index: site.index,
        });
    }
}

fn tensor_name(tensor: Tensor<'_>) -> String {
    let name = tensor.name().unwrap_or_default();
    name.chars()
        .filter(|c| !c.is_control())
        .take(1 << 16)
        .collect()
}
