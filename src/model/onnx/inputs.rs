//! What goes into a graph and what comes out of it.

use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::dimension::Value as Dim;
use tract_onnx::pb::type_proto::Value as Kind;
use tract_onnx::pb::{ValueInfoProto, type_proto};

use super::constant::type_name;
use super::import::{Form, Importer, NCHW, Operand, View};
use super::quantize;
use super::site::printable;
use crate::error::{Error, Result};
use crate::graph::{Op, ValueId};
use crate::tensor::{DType, QuantParams, Shape, TensorInfo};

/// The widest feature map that is taken for a picture.
const MAX_PICTURE_CHANNELS: usize = 4;

/// Whether an input of these dimensions is a picture laid out as `[batch, channels, height, width]`.
pub(super) fn is_nchw_picture(dims: &[usize]) -> bool {
    matches!(*dims, [_, channels, _, width]
        if channels <= MAX_PICTURE_CHANNELS && width > MAX_PICTURE_CHANNELS)
}

fn tensor_type(value: &ValueInfoProto) -> Option<&type_proto::Tensor> {
    let Kind::TensorType(tensor) = value.r#type.as_ref()?.value.as_ref()?;
    Some(tensor)
}

/// The element type that the file declares.
fn data_type(value: &ValueInfoProto) -> DataType {
    let kind = tensor_type(value).map_or(0, |tensor| tensor.elem_type);
    DataType::try_from(kind).unwrap_or(DataType::Undefined)
}

/// The dimensions that the file declares; an open batch is 1. `None` where another dimension is open.
pub(super) fn declared_dims(value: &ValueInfoProto) -> Option<Vec<usize>> {
    let shape = tensor_type(value)?.shape.as_ref()?;
    let dims = shape.dim.iter().take(9).enumerate();
    dims.map(|(axis, dim)| match dim.value {
        Some(Dim::DimValue(size)) if size > 0 => usize::try_from(size).ok(),
        _ => (axis == 0).then_some(1),
    })
    .collect()
}

/// Adds an input of the graph: a picture as NHWC, anything else as the file has it.
pub(super) fn input(importer: &mut Importer<'_>, value: &ValueInfoProto) -> Result<()> {
    let (model, name) = (importer.model, printable(&value.name));
    let refuse = |what: String, advice: &str| Error::Unsupported {
        model: model.into(),
        feature: format!("input `{name:.120}` {what}"),
        advice: advice.into(),
    };
    let shape = declared_dims(value).and_then(Shape::checked);
    let shape = shape.filter(|shape| shape.elements() > 0).ok_or_else(|| {
        refuse(
            "without a fixed shape".into(),
            "export the model with a fixed input shape, such as [1, 3, 320, 320]",
        )
    })?;
    let kind = data_type(value);
    let (dtype, quant) = match kind {
        DataType::Float => (DType::F32, None),
        DataType::Uint8 | DataType::Int8 => {
            let Some(quant) = quantize::after_input(importer, &value.name)? else {
                return Err(refuse(
                    format!("of {} that nothing dequantizes", type_name(kind)),
                    "export the model with a float32 input",
                ));
            };
            match kind {
                DataType::Uint8 => (DType::U8, Some(quant)),
                _ => (DType::I8, Some(quant)),
            }
        }
        other => {
            return Err(refuse(
                format!("of {}", type_name(other)),
                "export the model with a float32, uint8 or int8 input",
            ));
        }
    };
    let dims = shape.dims();
    let axes = match is_nchw_picture(dims) {
        true => NCHW.to_vec(),
        false => (0..dims.len()).collect(),
    };
    let mut stored = vec![0; dims.len()];
    for (&axis, &dim) in axes.iter().zip(dims) {
        stored[axis] = dim;
    }
    if is_nchw_picture(dims) {
        importer.nchw_inputs.push(importer.graph.inputs.len());
    }
    let shape = Shape::checked(stored).unwrap_or_default();
    let info = TensorInfo {
        name,
        shape,
        dtype,
        quant,
    };
    let id = importer.add_value(info, None)?;
    importer.graph.inputs.push(id);
    let view = View {
        id: signed(importer, id)?,
        axes,
        is_real: dtype == DType::F32,
    };
    importer
        .define_name(&value.name, Operand::Value(view))
        .map_err(|reason| Error::model(model, reason))
}

/// uint8 codes as int8 codes.
fn signed(importer: &mut Importer<'_>, id: ValueId) -> Result<ValueId> {
    let info = importer.graph.info(id);
    match (&info.quant, info.dtype) {
        (Some(quant), DType::U8) => {
            let quant = quantize::shifted(quant.clone());
            let name = format!("{}/int8", info.name);
            convert(importer, id, &name, DType::I8, Some(quant), Op::Quantize)
        }
        _ => Ok(id),
    }
}

/// Adds a node between types.
fn convert(
    importer: &mut Importer<'_>,
    from: ValueId,
    name: &str,
    dtype: DType,
    quant: Option<QuantParams>,
    op: Op,
) -> Result<ValueId> {
    let info = TensorInfo {
        name: printable(name),
        shape: importer.graph.shape(from).clone(),
        dtype,
        quant,
    };
    let id = importer.add_value(info, None)?;
    importer.graph.nodes.push(crate::graph::Node {
        op,
        inputs: vec![from],
        outputs: vec![id],
        index: importer.sites.last().map_or(0, |site| site.index),
    });
    Ok(id)
}

/// Adds an output of the graph, in the file's layout and type.
pub(super) fn output(importer: &mut Importer<'_>, value: &ValueInfoProto) -> Result<()> {
    let (model, name) = (importer.model, printable(&value.name));
    let wrong = |reason: &str| Error::model(model, format!("output `{name:.120}` {reason}"));
    let operand = importer.operand(&value.name);
    let Some(Operand::Value(view)) = operand.map_err(|reason| wrong(&reason))? else {
        return Err(wrong("does not depend on the inputs"));
    };
    let last = importer.sites.last();
    let Some(site) = last else {
        return Err(wrong("has no operator"));
    };
    let stored = importer.canonical(site, &view)?;
    let id = match importer.form(&view) {
        Form::Codes(_) if view.is_real => convert(
            importer,
            stored,
            &value.name,
            DType::F32,
            None,
            Op::Dequantize,
        )?,
        Form::Codes(quant) if data_type(value) == DataType::Uint8 => {
            let quant = QuantParams::per_tensor(quant.scale(), quant.zero_point() + 128);
            convert(
                importer,
                stored,
                &value.name,
                DType::U8,
                Some(quant),
                Op::Quantize,
            )?
        }
        _ => stored,
    };
    if !importer.graph.inputs.contains(&id) {
        importer.graph.values[id.0].info.name = name;
    }
    importer.graph.outputs.push(id);
    Ok(())
}
