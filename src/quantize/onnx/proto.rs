//! Messages of the ONNX format, each made in one call.

use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::{
    AttributeProto, NodeProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto, type_proto,
};

/// The operator at position `serial`.
pub(super) fn node(
    op: &str,
    serial: usize,
    inputs: Vec<String>,
    outputs: Vec<String>,
    attributes: Vec<AttributeProto>,
) -> NodeProto {
    NodeProto {
        name: format!("{op}_{serial}"),
        op_type: op.into(),
        input: inputs,
        output: outputs,
        attribute: attributes,
        ..Default::default()
    }
}

pub(super) fn int(name: &str, value: usize) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: AttributeType::Int.into(),
        i: value as i64,
        ..Default::default()
    }
}

pub(super) fn ints(name: &str, values: &[usize]) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: AttributeType::Ints.into(),
        ints: values.iter().map(|&value| value as i64).collect(),
        ..Default::default()
    }
}

pub(super) fn text(name: &str, value: &str) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: AttributeType::String.into(),
        s: value.into(),
        ..Default::default()
    }
}

pub(super) fn tensor(name: &str, kind: DataType, dims: &[usize], bytes: Vec<u8>) -> TensorProto {
    TensorProto {
        name: name.into(),
        data_type: kind.into(),
        dims: dims.iter().map(|&dim| dim as i64).collect(),
        raw_data: bytes,
        ..Default::default()
    }
}

/// An input or an output.
pub(super) fn value(name: &str, kind: DataType, dims: &[usize]) -> ValueInfoProto {
    let dim = |&size: &usize| Dimension {
        value: Some(dimension::Value::DimValue(size as i64)),
        ..Default::default()
    };
    let tensor = type_proto::Tensor {
        elem_type: kind.into(),
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
