//! Files that are refused, each by its fault.

use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TypeProto, ValueInfoProto, type_proto,
};

use super::load::{import, import_dequantized, import_graph};
use crate::model::Program;

fn value(name: &str, dims: &[i64]) -> ValueInfoProto {
    let dim = |&size: &i64| Dimension {
        value: Some(dimension::Value::DimValue(size)),
        ..Default::default()
    };
    let tensor = type_proto::Tensor {
        elem_type: DataType::Float.into(),
        shape: Some(TensorShapeProto {
            dim: dims.iter().map(dim).collect(),
        }),
    };
    ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto {
            value: Some(type_proto::Value::TensorType(tensor)),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn node(op: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        op_type: op.into(),
        input: inputs.iter().map(|&name| name.into()).collect(),
        output: vec![output.into()],
        ..Default::default()
    }
}

fn ints(name: &str, ints: &[i64]) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: AttributeType::Ints.into(),
        ints: ints.to_vec(),
        ..Default::default()
    }
}

fn tensor(name: &str, dims: &[i64], kind: DataType, bytes: Vec<u8>) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: dims.to_vec(),
        data_type: kind.into(),
        raw_data: bytes,
        ..Default::default()
    }
}

fn real(name: &str, values: &[f32]) -> TensorProto {
    let bytes = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    tensor(name, &[values.len() as i64], DataType::Float, bytes)
}

/// x, quantized, through a 1x1 convolution from 3 channels to 2, quantized, dequantized to y.
fn sample() -> ModelProto {
    let zero = || tensor("zero", &[1], DataType::Int8, vec![0]);
    let graph = GraphProto {
        input: vec![value("x", &[1, 3, 8, 8])],
        output: vec![value("y", &[1, 2, 8, 8])],
        node: vec![
            node("QuantizeLinear", &["x", "scale", "zero"], "xq"),
            node("DequantizeLinear", &["xq", "scale", "zero"], "xd"),
            node("DequantizeLinear", &["w", "scale", "zero"], "wd"),
            node("Conv", &["xd", "wd"], "c"),
            node("Relu", &["c"], "r"),
            node("QuantizeLinear", &["r", "scale", "zero"], "rq"),
            node("DequantizeLinear", &["rq", "scale", "zero"], "y"),
        ],
        initializer: vec![
            real("scale", &[0.5]),
            zero(),
            tensor("w", &[2, 3, 1, 1], DataType::Int8, vec![1, 2, 3, 4, 5, 6]),
        ],
        ..Default::default()
    };
    ModelProto {
        graph: Some(graph),
        opset_import: vec![OperatorSetIdProto {
            domain: String::new(),
            version: 13,
        }],
        ..Default::default()
    }
}

#[test]
fn a_convolution_takes_its_clamp_and_its_codes() {
    let model = import(sample(), "m").unwrap();
    assert_eq!(model.nchw_inputs, [0]);
    assert_eq!(model.format, "ONNX, operator set 13, quantized: QDQ");
    let Program::Graph(graph) = model.program else {
        panic!("no graph")
    };
    let names: Vec<&str> = graph.nodes.iter().map(|node| node.op.name()).collect();
    assert_eq!(names, ["QUANTIZE", "CONV_2D", "TRANSPOSE", "DEQUANTIZE"]);
    assert_eq!(graph.shape(graph.inputs[0]).dims(), [1, 8, 8, 3]);
    assert_eq!(graph.shape(graph.outputs[0]).dims(), [1, 2, 8, 8]);
    assert_eq!(graph.nodes[1].index, 3);
}

#[test]
fn faults_are_named() {
    type Fault = fn(&mut GraphProto);
    let faults: [(Fault, &str); 20] = [
        (|g| g.node[0].op_type = "Loop".into(), "operator 0 (Loop)"),
        (
            |g| g.node[3].domain = "my.domain".into(),
            "operator set my.domain",
        ),
        (
            |g| g.initializer.truncate(1),
            "nothing before makes its input `zero`",
        ),
        (|g| g.node.swap(0, 1), "nothing before makes its input `xq`"),
        (
            |g| g.node[3].input[0] = "r".into(),
            "nothing before makes its input `r`",
        ),
        (|g| g.node[1].output[0] = "scale".into(), "made twice"),
        (
            |g| g.initializer[2].dims = vec![i64::MAX, 3, 1, 1],
            "impossible shape",
        ),
        (
            |g| g.initializer[2].dims = vec![-2, 3, 1, 1],
            "impossible shape",
        ),
        (
            |g| g.initializer[2].dims = vec![2, 3, 1, 2],
            "elements of data",
        ),
        (
            |g| g.initializer[2].data_type = DataType::Float16.into(),
            "float16",
        ),
        (|g| g.initializer[2].data_location = Some(1), "another file"),
        (|g| g.initializer[0] = real("scale", &[0.0]), "not positive"),
        (
            |g| g.initializer[0] = real("scale", &[f32::NAN]),
            "not positive",
        ),
        (
            |g| g.input[0] = value("x", &[1, 3, 1 << 40, 8]),
            "without a fixed shape",
        ),
        (
            |g| g.input[0] = value("x", &[1, 3, -1, 8]),
            "without a fixed shape",
        ),
        (
            |g| g.input[0] = value("x", &[1, 5, 8, 8]),
            "do not fit 5 channels",
        ),
        (
            |g| g.node[3].attribute = vec![ints("strides", &[0, 1])],
            "strides",
        ),
        (
            |g| g.node[3].attribute = vec![ints("pads", &[-1, 0, 0, 0])],
            "pads",
        ),
        (|g| g.node.truncate(5), "output `y` does not depend"),
        (
            |g| g.output[0].name = "c".into(),
            "whose result is not quantized",
        ),
    ];
    for (fault, message) in faults {
        let mut file = sample();
        fault(file.graph.as_mut().unwrap());
        let error = import(file.clone(), "m").unwrap_err().to_string();
        assert!(
            error.starts_with("m: ") && error.contains(message),
            "{error} lacks {message}"
        );
        // Must not panic either.
        let _ = import_dequantized(file, "m");
    }
}

#[test]
fn new_operator_sets_are_refused() {
    let mut file = sample();
    file.opset_import[0].version = 99;
    let error = import(file, "m").unwrap_err().to_string();
    assert!(error.contains("operator set 99"), "{error}");
}

#[test]
fn cycles_end() {
    let mut file = sample();
    let graph = file.graph.as_mut().unwrap();
    graph.node[3].output[0] = "a".into();
    graph.node.insert(4, node("Identity", &["b"], "c"));
    graph.node.insert(5, node("Identity", &["c"], "b"));
    assert!(import(file, "m").is_err());
}

#[test]
fn float_weights_stay_with_the_clamps_of_the_codes() {
    let mut file = sample();
    file.graph.as_mut().unwrap().node[4].op_type = "Elu".into();
    assert!(import(file.clone(), "m").is_err());
    let model = import_dequantized(file, "m").unwrap();
    let Program::Onnx(file) = &model.program else {
        panic!("a graph")
    };
    let operators: Vec<&str> = file.operators().collect();
    assert_eq!(
        operators,
        ["Clip", "Identity", "Conv", "Elu", "Clip", "Identity"]
    );
}

/// x through a 1x1 convolution from 3 channels to 2, a batch normalization and a clamp, to y.
fn float_sample() -> ModelProto {
    let words = |values: &[f32]| {
        values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect()
    };
    let list = |name: &str, values: [f32; 2]| real(name, &values);
    let graph = GraphProto {
        input: vec![value("x", &[1, 3, 8, 8])],
        output: vec![value("y", &[1, 2, 8, 8])],
        node: vec![
            node("Conv", &["x", "w"], "c"),
            node(
                "BatchNormalization",
                &["c", "scale", "bias", "mean", "variance"],
                "n",
            ),
            node("Relu", &["n"], "y"),
        ],
        initializer: vec![
            tensor(
                "w",
                &[2, 3, 1, 1],
                DataType::Float,
                words(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
            ),
            list("scale", [1.0, 2.0]),
            list("bias", [0.5, 0.0]),
            list("mean", [0.0, 3.0]),
            list("variance", [0.25, 4.0]),
        ],
        ..Default::default()
    };
    ModelProto {
        graph: Some(graph),
        ..sample()
    }
}

#[test]
fn float_files_become_graphs_where_that_is_asked_for() {
    assert!(matches!(
        import(float_sample(), "m").unwrap().program,
        Program::Onnx(_)
    ));
    let model = import_graph(float_sample(), "m").unwrap();
    assert_eq!(model.nchw_inputs, [0]);
    let Program::Graph(graph) = model.program else {
        panic!("no graph")
    };
    assert!(graph.is_float());
    let names: Vec<&str> = graph.nodes.iter().map(|node| node.op.name()).collect();
    assert_eq!(names, ["CONV_2D", "MUL", "ADD", "TRANSPOSE"]);
    let Some(crate::tensor::TensorData::F32(factors)) = graph.constant(graph.nodes[1].inputs[1])
    else {
        panic!("no factors")
    };
    // 1 / sqrt(0.25) and 2 / sqrt(4), but for the epsilon.
    assert!((factors[0] - 2.0).abs() < 1e-3 && (factors[1] - 1.0).abs() < 1e-3);
}

#[test]
fn what_a_float_graph_lacks_is_named() {
    let mut file = float_sample();
    file.graph.as_mut().unwrap().node[2].op_type = "Elu".into();
    let error = import_graph(file, "m").unwrap_err().to_string();
    assert!(
        error.contains("operator 2 (Elu) in a model that is to be quantized"),
        "{error}"
    );
    assert!(!error.contains("--allow-float"), "{error}");
}
