//! The TFLite front end: a FlatBuffer file becomes a [`Graph`](crate::graph::Graph).
//!
//! Every index and size of the file is checked before use; what eyas cannot compute is refused by operator and index.

mod constants;
mod fold;
mod import;
mod map;
mod metadata;
mod operators;
mod options;
mod refusal;
mod slices;
mod windows;

use flatbuffers::VerifierOptions;
use tract_tflite::tflite;

use super::{Model, Normalization, Program};
use crate::error::{Error, Result};
use crate::graph::{Graph, Node, ValueId, passes};
use crate::tensor::DType;
use import::Importer;

/// Bytes 4 to 8 of every `.tflite` file.
pub(super) const IDENTIFIER: &[u8] = b"TFL3";

/// The newest version of the schema that is read.
const SCHEMA_VERSION: u32 = 3;

/// Parses a `.tflite` file. All integer arithmetic on shapes is done here. int8 weights under float activations
/// ("dynamic range" files) stay int8.
pub(super) fn load(bytes: &[u8], name: &str) -> Result<Model> {
    let damaged = |reason: &str| {
        Error::model(
            name,
            format!("the file is damaged or cut short ({reason}); download or copy it again"),
        )
    };
    let limits = VerifierOptions {
        max_depth: 16,
        max_tables: 1_000_000,
        max_apparent_size: bytes.len().saturating_mul(4).saturating_add(1 << 20),
        ignore_missing_null_terminator: false,
    };
    let file = tflite::root_as_model_with_opts(&limits, bytes)
        .map_err(|error| damaged(error.to_string().lines().next().unwrap_or_default()))?;
    if file.version() != SCHEMA_VERSION {
        return Err(Error::model(
            name,
            format!("its schema version is {}, not 3", file.version()),
        ));
    }
    let subgraphs = file.subgraphs().ok_or_else(|| damaged("no subgraphs"))?;
    if subgraphs.len() > 1 {
        return Err(refusal::several_subgraphs(name, file, subgraphs.get(0)));
    }
    if subgraphs.is_empty() {
        return Err(damaged("no subgraphs"));
    }
    let mut graph = Importer::new(name, file, subgraphs.get(0))?.run()?;
    passes::remove_dead(&mut graph);
    graph.validate(name)?;
    Ok(Model {
        name: name.into(),
        format: format!("TensorFlow Lite, {}", style(&graph)),
        program: Program::Graph(graph),
        nchw_inputs: Vec::new(),
        head: None,
        metadata: metadata::read(bytes, file),
    })
}

/// How a graph is quantized, in words.
fn style(graph: &Graph) -> &'static str {
    let is_code = |id: &ValueId| matches!(graph.dtype(*id), DType::U8 | DType::I8);
    let made = |node: &Node| node.outputs.iter().any(is_code);
    if graph.is_float() {
        "float"
    } else if graph.nodes.iter().any(made) {
        "quantized"
    } else {
        "weights quantized"
    }
}

/// As [`load`], all codes made real. Pictures are normalized as the codes of the input were.
pub(super) fn load_dequantized(bytes: &[u8], name: &str) -> Result<Model> {
    let mut model = load(bytes, name)?;
    if let Program::Graph(graph) = &mut model.program {
        if let (&[input], None) = (graph.inputs.as_slice(), &model.metadata.normalization)
            && let Some(quant) = graph.quant(input)
        {
            let shift = if graph.dtype(input) == DType::I8 {
                128
            } else {
                0
            };
            model.metadata.normalization = Some(Normalization {
                mean: vec![(quant.zero_point() + shift) as f32],
                std: vec![1.0 / quant.scale()],
            });
        }
        passes::dequantize_all(graph);
        graph.validate(name)?;
    }
    Ok(model)
}

#[cfg(test)]
mod tests {
    use flatbuffers::FlatBufferBuilder;
    use tract_tflite::tflite::{self, BuiltinOperator, TensorType};

    /// A file of one operator from tensor 0 to tensor 1, both `[1, size]`.
    struct Sample {
        builtin: BuiltinOperator,
        custom: &'static str,
        kind: TensorType,
        size: i32,
        variable: bool,
        subgraphs: usize,
    }

    const RELU: Sample = Sample {
        builtin: BuiltinOperator::RELU,
        custom: "",
        kind: TensorType::FLOAT32,
        size: 3,
        variable: false,
        subgraphs: 1,
    };

    impl Sample {
        fn load(&self) -> crate::Result<crate::model::Model> {
            let mut builder = FlatBufferBuilder::new();
            let custom = builder.create_string(self.custom);
            let code = tflite::OperatorCodeArgs {
                deprecated_builtin_code: self.builtin.0.min(127) as i8,
                custom_code: Some(custom),
                builtin_code: self.builtin,
                ..Default::default()
            };
            let code = tflite::OperatorCode::create(&mut builder, &code);
            let codes = builder.create_vector(&[code]);
            let shape = builder.create_vector(&[1, self.size]);
            let tensors = ["x", "y"].map(|name| {
                let name = builder.create_string(name);
                let tensor = tflite::TensorArgs {
                    shape: Some(shape),
                    type_: self.kind,
                    name: Some(name),
                    is_variable: self.variable,
                    ..Default::default()
                };
                tflite::Tensor::create(&mut builder, &tensor)
            });
            let tensors = builder.create_vector(&tensors);
            let inputs = builder.create_vector(&[0]);
            let outputs = builder.create_vector(&[1]);
            let operator = tflite::OperatorArgs {
                inputs: Some(inputs),
                outputs: Some(outputs),
                ..Default::default()
            };
            let operator = tflite::Operator::create(&mut builder, &operator);
            let operators = builder.create_vector(&[operator]);
            let subgraph = tflite::SubGraphArgs {
                tensors: Some(tensors),
                inputs: Some(inputs),
                outputs: Some(outputs),
                operators: Some(operators),
                name: None,
            };
            let subgraph = tflite::SubGraph::create(&mut builder, &subgraph);
            let subgraphs = builder.create_vector(&vec![subgraph; self.subgraphs]);
            let model = tflite::ModelArgs {
                version: 3,
                operator_codes: Some(codes),
                subgraphs: Some(subgraphs),
                ..Default::default()
            };
            let model = tflite::Model::create(&mut builder, &model);
            tflite::finish_model_buffer(&mut builder, model);
            super::load(builder.finished_data(), "m.tflite")
        }
    }

    #[test]
    fn refusals_name_operator_index_and_a_way_out() {
        RELU.load().unwrap();
        let custom = |custom| Sample {
            builtin: BuiltinOperator::CUSTOM,
            custom,
            ..RELU
        };
        let builtin = |builtin| Sample { builtin, ..RELU };
        let typed = |kind| Sample { kind, ..RELU };
        let cases = [
            (
                custom("edgetpu-custom-op"),
                "operator 0 (edgetpu-custom-op), which only an Edge TPU",
            ),
            (
                custom("FlexConv3D"),
                "operator 0 (FlexConv3D), a TensorFlow operator, is not supported",
            ),
            (custom("MyOp"), "operator 0 (MyOp) is not supported"),
            (
                builtin(BuiltinOperator::WHILE),
                "operator 0 (WHILE), which is control flow",
            ),
            (
                builtin(BuiltinOperator::TANH),
                "operator 0 (TANH) is not supported",
            ),
            (
                builtin(BuiltinOperator(250)),
                "operator 0 (builtin operator 250)",
            ),
            (
                builtin(BuiltinOperator::CONV_2D),
                "operator 0 (CONV_2D): it has no options",
            ),
            (
                typed(TensorType::INT16),
                "input `x` of int16 is not supported",
            ),
            (
                typed(TensorType::INT32),
                "operator 0 (RELU) from int32 to int32 is not supported",
            ),
            (typed(TensorType::INT8), "it has no quantization parameters"),
            (
                Sample { size: -1, ..RELU },
                "input `x` of shape [1, -1] is not supported; convert",
            ),
            (Sample { size: 0, ..RELU }, "input `x` of shape [1, 0]"),
            (
                Sample {
                    size: 1 << 30,
                    ..RELU
                },
                "input `x` of shape [1, 1073741824]",
            ),
            (
                Sample {
                    size: 1 << 27,
                    ..RELU
                },
                "more than 512 MiB",
            ),
            (
                Sample {
                    variable: true,
                    ..RELU
                },
                "variable tensor `x` is not supported",
            ),
            (
                Sample {
                    subgraphs: 2,
                    ..RELU
                },
                "a file of several subgraphs is not supported",
            ),
            (
                Sample {
                    subgraphs: 0,
                    ..RELU
                },
                "no subgraphs",
            ),
        ];
        for (sample, expected) in cases {
            let message = sample.load().unwrap_err().to_string();
            assert!(
                message.starts_with("m.tflite: ") && message.contains(expected),
                "{message} lacks {expected}"
            );
        }
    }
}
