//! A float ONNX file becomes a tract model.

use tract_onnx::pb::ModelProto;
use tract_onnx::prelude::{Framework, InferenceModel, InferenceModelExt};
use tract_onnx::tract_core::internal::{DatumType, DimLike, SpecialOps, TypedModel};
use tract_onnx::tract_core::ops::cast::cast;
use tract_onnx::tract_hir::infer::{Factoid, InferenceFact};

use super::{PostProcess, Prepared, Slot, refused, zeros};
use crate::engine::StepInfo;
use crate::error::{Error, Result};
use crate::kernels::postprocess::PostProcessScratch;
use crate::model::{OnnxFile, OnnxHead};
use crate::tensor::{DType, Shape, TensorData, TensorInfo};

/// Loads the file with the shapes it declares; a batch dimension that it leaves open is 1. The inputs `nchw_inputs` become slots of `[batch, height, width, channels]`.
pub(super) fn prepare(file: &OnnxFile, nchw_inputs: &[usize], name: &str) -> Result<Prepared> {
    let proto = &file.proto;
    let framework = tract_onnx::onnx()
        .with_ignore_output_shapes(true)
        .with_ignore_output_types(true)
        .with_ignore_value_info(true);
    check_nodes(proto, name)?;
    let names = output_names(proto);
    let model = framework
        .model_for_proto_model(proto)
        .map_err(|error| refused(name, &error))?;
    let (model, mut inputs) = fix_inputs(model, name)?;
    for &position in nchw_inputs {
        let info = inputs.get_mut(position);
        if let Some(info) = info
            && let Some([batch, channels, height, width]) = info.shape.nhwc()
        {
            info.shape = Shape::from([batch, height, width, channels]);
        }
    }
    let mut model = model.into_typed().map_err(|error| refused(name, &error))?;
    check_sizes(&model, name)?;
    let outputs = fix_outputs(&mut model, &names, name)?;
    let (count, fetched) = (inputs.len(), outputs.len());
    let slot = |info: TensorInfo| Slot {
        data: zeros(&info),
        info,
    };
    let mut prepared = Prepared {
        model,
        slots: inputs.into_iter().chain(outputs).map(slot).collect(),
        inputs: (0..count).collect(),
        nchw_inputs: nchw_inputs.to_vec(),
        fetched: (0..fetched)
            .map(|output| (output, count + output))
            .collect(),
        post: Vec::new(),
        outputs: (count..count + fetched).collect(),
        made: (count..count + fetched).collect(),
    };
    if let Some(head) = file.head() {
        attach(&mut prepared, head, name)?;
    }
    Ok(prepared)
}

/// Puts detection post-processing after the outputs, whose place its results take.
fn attach(prepared: &mut Prepared, head: &OnnxHead, name: &str) -> Result<()> {
    let options = super::build::options(&head.options);
    let (anchors, rows) = (head.anchors.len() / 4, options.rows());
    let of_output = |position: usize| prepared.outputs.get(position).copied();
    let (Some(boxes), Some(scores)) = (of_output(head.boxes), of_output(head.scores)) else {
        return Err(Error::Internal(format!("{name}: its head has no outputs")));
    };
    let fits = |slot: usize, columns: &[usize]| {
        let info = &prepared.slots[slot].info;
        let elements = info.shape.elements();
        info.dtype == DType::F32 && columns.iter().any(|columns| elements == anchors * columns)
    };
    let classes = options.num_classes;
    if !fits(boxes, &[4]) || !fits(scores, &[classes, classes + 1]) {
        let reason = "its boxes and scores have not the shapes that the file says";
        return Err(Error::model(name, reason));
    }
    let mut add = |label: &str, shape: Shape, data: Option<Vec<f32>>| {
        let info = TensorInfo {
            name: label.into(),
            shape,
            dtype: DType::F32,
            quant: None,
        };
        let data = data.map_or_else(|| zeros(&info), TensorData::F32);
        prepared.slots.push(Slot { info, data });
        prepared.slots.len() - 1
    };
    let table = add(
        "anchors",
        Shape::from([anchors, 4]),
        Some(head.anchors.clone()),
    );
    let outputs = [
        add("detection_boxes", Shape::from([1, rows, 4]), None),
        add("detection_classes", Shape::from([1, rows]), None),
        add("detection_scores", Shape::from([1, rows]), None),
        add("num_detections", Shape::from([1]), None),
    ];
    let info = &prepared.slots[outputs[0]].info;
    prepared.post.push(PostProcess {
        step: StepInfo {
            index: 0,
            op: "TFLite_Detection_PostProcess".into(),
            output: info.name.clone(),
            shape: info.shape.clone(),
            kernel: "f32".into(),
            macs: 0,
            bytes: 0,
        },
        options,
        inputs: [boxes, scores, table],
        outputs,
        scratch: PostProcessScratch::new(&options, anchors),
    });
    prepared.outputs = outputs.to_vec();
    Ok(())
}

/// Refuses what must not reach tract: quantized operators, some of which it answers wrongly, and axes of a
/// transposition that are no permutation, on which it never ends.
fn check_nodes(proto: &ModelProto, name: &str) -> Result<()> {
    let nodes = proto.graph.iter().flat_map(|graph| &graph.node);
    for (index, node) in nodes.enumerate() {
        let op = node.op_type.as_str();
        let is_quantized = op.contains("uantizeLinear")
            || ["QLinear", "QGemm", "QAttention"]
                .iter()
                .any(|start| op.starts_with(start))
            || op.ends_with("Integer");
        if is_quantized {
            return Err(Error::Unsupported {
                model: name.to_owned(),
                feature: format!("operator {index} ({op}) of a quantized ONNX file"),
                advice: "use the float .onnx file, or a quantized .tflite file of the model".into(),
            });
        }
        let mut axes = node.attribute.iter().filter(|list| list.name == "perm");
        if axes.any(|list| !is_permutation(&list.ints)) {
            let reason = format!("operator {index} ({op}) permutes axes that are not there");
            return Err(Error::model(name, reason + "; export the model again"));
        }
    }
    Ok(())
}

/// Whether the list holds each of `0..length` once.
fn is_permutation(axes: &[i64]) -> bool {
    let mut sorted = axes.to_vec();
    sorted.sort_unstable();
    sorted.into_iter().eq(0..axes.len() as i64)
}

/// Refuses values so large that computing them would exhaust the memory of a small machine.
fn check_sizes(model: &TypedModel, name: &str) -> Result<()> {
    const MAX_ELEMENTS: usize = 1 << 26;
    for node in model.nodes() {
        for output in &node.outputs {
            let dims = output.fact.shape.as_concrete();
            let shape = dims.and_then(|dims| Shape::checked(dims.to_vec()));
            if dims.is_some() && shape.is_none_or(|shape| shape.elements() > MAX_ELEMENTS) {
                return Err(Error::Unsupported {
                    model: name.to_owned(),
                    feature: format!("{}, a value of {:?},", node.name, output.fact),
                    advice: "export the model for a smaller picture".into(),
                });
            }
        }
    }
    Ok(())
}

fn output_names(proto: &ModelProto) -> Vec<String> {
    let outputs = proto.graph.iter().flat_map(|graph| &graph.output);
    outputs.map(|output| output.name.clone()).collect()
}

fn fix_inputs(mut model: InferenceModel, name: &str) -> Result<(InferenceModel, Vec<TensorInfo>)> {
    let mut infos = Vec::new();
    let count = model.inputs.len();
    for index in 0..count {
        let fact = model
            .input_fact(index)
            .map_err(|e| refused(name, &e))?
            .clone();
        let outlet = model.inputs[index];
        let label = model.node(outlet.node).name.clone();
        let (dtype, shape) = input_type(&fact, &label, name)?;
        let fixed = InferenceFact::dt_shape(super::build::datum_type(dtype), shape.dims());
        let set = model.set_input_fact(index, fixed);
        set.map_err(|error| refused(name, &error))?;
        infos.push(TensorInfo {
            name: label,
            shape,
            dtype,
            quant: None,
        });
    }
    Ok((model, infos))
}

fn input_type(fact: &InferenceFact, label: &str, name: &str) -> Result<(DType, Shape)> {
    let unsupported = |what: String, advice: &str| Error::Unsupported {
        model: name.to_owned(),
        feature: format!("input {label} with {what}"),
        advice: advice.into(),
    };
    let dtype = match fact.datum_type.concretize() {
        Some(DatumType::F32) => DType::F32,
        Some(DatumType::U8) => DType::U8,
        Some(DatumType::I8) => DType::I8,
        Some(DatumType::I32) => DType::I32,
        other => {
            let what = format!("element type {other:?}");
            return Err(unsupported(what, "export the model with float32 inputs"));
        }
    };
    let export = "export the model with a fixed input shape";
    let Some(rank) = fact.shape.rank().concretize() else {
        return Err(unsupported("a shape of unknown rank".into(), export));
    };
    let mut dims = Vec::new();
    for axis in 0..rank as usize {
        let dim = fact.shape.dim(axis).and_then(|dim| dim.concretize());
        let known = dim.and_then(|dim| dim.to_usize().ok());
        match known {
            Some(dim) if dim > 0 => dims.push(dim),
            _ if axis == 0 => dims.push(1),
            _ => {
                return Err(unsupported(
                    format!("an open dimension (axis {axis})"),
                    export,
                ));
            }
        }
    }
    let shape = Shape::checked(dims);
    let shape = shape.ok_or_else(|| unsupported("more than 2^28 elements".into(), export))?;
    Ok((dtype, shape))
}

/// Gives every output a type that eyas has; integers and truth values become int32, other floats float32.
fn fix_outputs(model: &mut TypedModel, names: &[String], name: &str) -> Result<Vec<TensorInfo>> {
    let mut outlets = model.outputs.clone();
    let mut infos = Vec::new();
    for (index, outlet) in outlets.iter_mut().enumerate() {
        let fact = model.outlet_fact(*outlet).map_err(|e| refused(name, &e))?;
        let label = names.get(index).cloned().unwrap_or_default();
        let shape = fact.shape.as_concrete().map(<[usize]>::to_vec);
        let Some(shape) = shape.and_then(Shape::checked) else {
            return Err(Error::Unsupported {
                model: name.to_owned(),
                feature: format!("output {label} of a shape that depends on the data ({fact:?})"),
                advice: "export the model without its non-maximum suppression".into(),
            });
        };
        let dtype = match fact.datum_type {
            DatumType::U8 => DType::U8,
            DatumType::I8 => DType::I8,
            found if found.is_float() => DType::F32,
            _ => DType::I32,
        };
        let target = super::build::datum_type(dtype);
        if fact.datum_type != target {
            let cast = model.wire_node(format!("output{index}.cast"), cast(target), &[*outlet]);
            *outlet = cast.map_err(|error| refused(name, &error))?[0];
        }
        infos.push(TensorInfo {
            name: label,
            shape,
            dtype,
            quant: None,
        });
    }
    let selected = model.select_output_outlets(&outlets);
    selected.map_err(|error| refused(name, &error))?;
    Ok(infos)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto};

    fn operator(op: &str, perm: Vec<i64>) -> ModelProto {
        let perm = AttributeProto {
            name: "perm".into(),
            ints: perm,
            ..AttributeProto::default()
        };
        let node = NodeProto {
            op_type: op.into(),
            attribute: vec![perm],
            ..NodeProto::default()
        };
        let graph = GraphProto {
            node: vec![node],
            ..GraphProto::default()
        };
        ModelProto {
            graph: Some(graph),
            ..ModelProto::default()
        }
    }

    #[test]
    fn only_permutations_reach_tract() {
        assert!(check_nodes(&operator("Transpose", vec![0, 2, 3, 1]), "m").is_ok());
        for wrong in [vec![0, 2, 2, 1], vec![0, 4, 3, 1], vec![-1, 0]] {
            assert!(check_nodes(&operator("Transpose", wrong), "m").is_err());
        }
    }

    #[test]
    fn no_quantized_operator_reaches_tract() {
        for op in [
            "QuantizeLinear",
            "DequantizeLinear",
            "DynamicQuantizeLinear",
            "QLinearConv",
            "QGemm",
            "ConvInteger",
        ] {
            let refused = check_nodes(&operator(op, vec![]), "m").unwrap_err();
            assert!(refused.to_string().contains(op), "{refused}");
        }
    }
}
