//! From the bytes of a file to a model.

use std::collections::{HashMap, HashSet};

use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, TensorProto};

use super::import::Importer;
use super::site::Site;
use super::{OnnxFile, dequantize, expand, inputs, operators, properties, proto};
use crate::error::{Error, Result};
use crate::graph::passes;
use crate::model::{Metadata, Model, Program};

/// Bytes of constants that all operators together may read: each reading is a copy.
const MAX_BYTES_READ: usize = 2 << 30;

/// Bytes of a tensor's data, at least.
fn size(tensor: &TensorProto) -> usize {
    tensor.raw_data.len()
        + 4 * (tensor.float_data.len() + tensor.int32_data.len())
        + 8 * (tensor.int64_data.len() + tensor.double_data.len())
}

/// How a file is quantized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Float,
    /// DequantizeLinear of weights only.
    Stored,
    /// DequantizeLinear and QuantizeLinear around operators on real values.
    Qdq,
    /// Operators on codes, such as QLinearConv.
    QOperator,
    /// Codes made on the fly, such as for ConvInteger.
    Dynamic,
}

impl Style {
    fn of(file: &GraphProto) -> Self {
        let initializers = file.initializer.iter().map(|tensor| tensor.name.as_str());
        let initializers: HashSet<&str> = initializers.collect();
        let reads_constant = |node: &NodeProto| {
            let name = node.input.first();
            name.is_some_and(|name| initializers.contains(name.as_str()))
        };
        let style = |node: &NodeProto| match node.op_type.as_str() {
            "ConvInteger" | "MatMulInteger" | "DynamicQuantizeLinear" => Self::Dynamic,
            "DequantizeLinear" if reads_constant(node) => Self::Stored,
            "QuantizeLinear" | "DequantizeLinear" => Self::Qdq,
            op if op.starts_with("QLinear")
                || op.starts_with("QGemm")
                || op.starts_with("QAttention") =>
            {
                Self::QOperator
            }
            _ => Self::Float,
        };
        let styles = file.node.iter().map(style);
        styles.fold(Self::Float, |most, style| match (most, style) {
            (Self::Dynamic, _) | (_, Self::Dynamic) => Self::Dynamic,
            (Self::QOperator, _) | (_, Self::QOperator) => Self::QOperator,
            (Self::Qdq, _) | (_, Self::Qdq) => Self::Qdq,
            (Self::Stored, _) | (_, Self::Stored) => Self::Stored,
            _ => Self::Float,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Float => "float",
            Self::Stored => "weights quantized",
            Self::Qdq => "quantized: QDQ",
            Self::QOperator => "quantized: operators on codes",
            Self::Dynamic => "weights quantized: dynamic",
        }
    }
}

/// A file, decoded and looked through.
struct File {
    proto: ModelProto,
    opset: i64,
    style: Style,
}

impl File {
    fn new(proto: ModelProto, name: &str) -> Result<Self> {
        let graph = proto.graph.as_ref();
        let graph = graph.filter(|graph| !graph.node.is_empty() && !graph.output.is_empty());
        let Some(graph) = graph else {
            return Err(Error::model(
                name,
                "the file has no operators or no outputs",
            ));
        };
        let style = Style::of(graph);
        let standard = proto
            .opset_import
            .iter()
            .find(|set| matches!(set.domain.as_str(), "" | "ai.onnx"));
        let opset = standard.map_or(1, |set| set.version);
        Ok(Self {
            opset,
            style,
            proto,
        })
    }

    fn graph(&self) -> &GraphProto {
        self.proto
            .graph
            .as_ref()
            .expect("`new` has refused files without a graph")
    }

    /// The model that `program` makes of the file.
    fn model(
        self,
        name: &str,
        nchw_inputs: Vec<usize>,
        program: impl FnOnce(ModelProto) -> Program,
    ) -> Model {
        let text = self.proto.doc_string.trim().to_owned();
        let style = self.style.name();
        let properties = properties::read(&self.proto.metadata_props);
        Model {
            name: name.into(),
            format: format!("ONNX, operator set {}, {style}", self.opset),
            program: program(self.proto),
            nchw_inputs,
            head: None,
            metadata: Metadata {
                description: Some(text).filter(|text| !text.is_empty()),
                ..properties
            },
        }
    }

    /// The model as tract runs it.
    fn float(self, name: &str) -> Model {
        let file = self.graph();
        let initializers = file.initializer.iter().map(|tensor| tensor.name.as_str());
        let initializers: HashSet<&str> = initializers.collect();
        let is_fed = |name: &str| !initializers.contains(name);
        let fed = file.input.iter().filter(|input| is_fed(&input.name));
        let is_picture =
            |dims: Option<Vec<usize>>| dims.is_some_and(|dims| inputs::is_nchw_picture(&dims));
        let nchw_inputs = fed
            .enumerate()
            .filter(|(_, input)| is_picture(inputs::declared_dims(input)))
            .map(|(position, _)| position)
            .collect();
        self.model(name, nchw_inputs, |proto| {
            Program::Onnx(OnnxFile::new(proto))
        })
    }

    /// The model as tract runs it, with weights that stand for their codes.
    fn dequantized(mut self, name: &str) -> Result<Model> {
        let sites = self.sites(name)?;
        let graph = dequantize::graph(name, self.opset, self.graph(), &sites)?;
        self.proto.graph = Some(graph);
        Ok(self.float(name))
    }

    /// The model as a graph.
    fn into_graph(self, name: &str) -> Result<Model> {
        let sites = self.sites(name)?;
        let mut importer = Importer::new(name, self.opset, self.graph(), &sites);
        importer.is_float = matches!(self.style, Style::Float | Style::Stored);
        let (mut graph, nchw_inputs) = importer.run()?;
        passes::remove_dead(&mut graph);
        graph.validate(name)?;
        Ok(self.model(name, nchw_inputs, |_| Program::Graph(graph)))
    }

    fn sites(&self, name: &str) -> Result<Vec<Site>> {
        if self.opset > operators::NEWEST_OPSET {
            return Err(Error::Unsupported {
                model: name.into(),
                feature: format!("operator set {}", self.opset),
                advice: format!(
                    "export the model with operator set {} or older",
                    operators::NEWEST_OPSET
                ),
            });
        }
        let sites = expand::sites(self.graph());
        let sizes = self
            .graph()
            .initializer
            .iter()
            .map(|tensor| (tensor.name.as_str(), size(tensor)));
        let sizes: HashMap<&str, usize> = sizes.collect();
        let inputs = sites.iter().flat_map(|site| &site.node.input);
        let read = inputs.filter_map(|name| sizes.get(name.as_str()));
        if read.fold(0usize, |sum, size| sum.saturating_add(*size)) > MAX_BYTES_READ {
            return Err(Error::model(
                name,
                "its operators read its constants far too often; the file is damaged",
            ));
        }
        Ok(sites)
    }
}

/// Parses an `.onnx` file. Quantized files become a graph; what has no integer kernel is refused by its name.
pub(in crate::model) fn load(bytes: &[u8], name: &str) -> Result<Model> {
    import(proto::decode(bytes, name)?, name)
}

pub(super) fn import(proto: ModelProto, name: &str) -> Result<Model> {
    let file = File::new(proto, name)?;
    match file.style {
        Style::Float => Ok(file.float(name)),
        Style::Stored => file.dequantized(name),
        _ => file.into_graph(name),
    }
}

/// As [`load`], but a float file becomes a graph too.
pub(in crate::model) fn load_graph(bytes: &[u8], name: &str) -> Result<Model> {
    import_graph(proto::decode(bytes, name)?, name)
}

pub(super) fn import_graph(proto: ModelProto, name: &str) -> Result<Model> {
    File::new(proto, name)?.into_graph(name)
}

/// Parses an `.onnx` file; a quantized one becomes a float model with the clamps that its codes stood for.
pub(in crate::model) fn load_dequantized(bytes: &[u8], name: &str) -> Result<Model> {
    import_dequantized(proto::decode(bytes, name)?, name)
}

pub(super) fn import_dequantized(proto: ModelProto, name: &str) -> Result<Model> {
    let file = File::new(proto, name)?;
    match file.style {
        Style::Float => Ok(file.float(name)),
        _ => file.dequantized(name),
    }
}
