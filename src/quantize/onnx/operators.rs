//! One arm for each operator: how ONNX says it.

use super::proto;
use super::writer::{NCHW, View, Writer};
use crate::error::{Error, Result};
use crate::graph::{Activation, Conv2d, Op, Padding2d, Pool2d, ResizeMode};
use crate::quantize::lower::Operator;

/// The operator set from which on ReduceMean takes its axes as an input.
const AXES_AS_INPUT: i64 = 18;

/// Refuses an operator that ONNX has no twin of. `model` is for messages.
pub(super) fn check(op: &Op, model: &str) -> Result<()> {
    let advice = match op {
        Op::DetectionPostProcess(_) => {
            "write a .tflite file, or pass a model that ends in raw boxes and scores"
        }
        Op::SpaceToBatch { .. } | Op::BatchToSpace { .. } | Op::FakeQuantize(_) => {
            "write a .tflite file"
        }
        Op::Softmax { beta } if *beta != 1.0 => "write a .tflite file",
        _ => return Ok(()),
    };
    Err(Error::Unsupported {
        model: model.into(),
        feature: format!("{} in an .onnx file", op.name()),
        advice: advice.into(),
    })
}

/// Writes one operator. `model` is for messages.
pub(super) fn write(writer: &mut Writer, operator: &Operator, model: &str) -> Result<()> {
    check(&operator.op, model)?;
    let (x, y) = (operator.inputs[0], operator.outputs[0]);
    let none = Activation::None;
    match &operator.op {
        Op::Quantize => {
            let View { name, axes } = writer.any(x);
            writer.made(y, name, axes);
        }
        Op::Dequantize | Op::Activation(Activation::None) => writer.alias(y, x),
        Op::Activation(activation) => {
            let View { name, axes } = writer.any(x);
            writer.clamped(name, *activation, (y, axes));
        }
        Op::Conv2d(conv) => convolution(writer, operator, conv, [0, 3, 1, 2], 1),
        Op::DepthwiseConv2d(conv) => {
            let groups = writer.tensors[x].shape.channels();
            convolution(writer, operator, conv, [3, 0, 1, 2], groups);
        }
        Op::FullyConnected(activation) => fully_connected(writer, operator, *activation),
        Op::Add(activation) => binary(writer, operator, "Add", *activation),
        Op::Sub(activation) => binary(writer, operator, "Sub", *activation),
        Op::Mul(activation) => binary(writer, operator, "Mul", *activation),
        Op::Concat { axis } => concat(writer, operator, *axis),
        Op::Reshape => reshape(writer, x, y),
        Op::Pad { pads } => {
            let View { name, axes } = writer.any(x);
            let ends = [0, 1].map(|end| axes.iter().map(move |&axis| pads[axis][end] as i64));
            let pads = writer.list("pads", ends.into_iter().flatten().collect());
            writer.emit("Pad", vec![name, pads], vec![], none, (y, axes));
        }
        Op::AvgPool2d(pool) => pool_2d(writer, "AveragePool", pool, x, y),
        Op::MaxPool2d(pool) => pool_2d(writer, "MaxPool", pool, x, y),
        Op::Mean { axes } => mean(writer, axes, x, y),
        Op::Softmax { .. } => {
            let View { name, axes } = writer.any(x);
            let axis = vec![proto::int("axis", place(&axes, axes.len() - 1))];
            writer.emit("Softmax", vec![name], axis, none, (y, axes));
        }
        Op::Logistic => unary(writer, "Sigmoid", x, y),
        Op::HardSwish => unary(writer, "HardSwish", x, y),
        Op::ResizeNearest(mode) => resize(writer, "nearest", *mode, x, y),
        Op::ResizeBilinear(mode) => resize(writer, "linear", *mode, x, y),
        Op::Pack { axis } => pack(writer, operator, *axis),
        Op::Split { axis } => split(writer, operator, *axis),
        Op::StridedSlice { begin, end, stride } => {
            strided_slice(writer, [begin, end, stride], x, y);
        }
        Op::Transpose(order) => writer.transposed(y, x, &order.0),
        Op::ArgMax { axis } => arg_max(writer, *axis, x, y),
        Op::SpaceToBatch { .. }
        | Op::BatchToSpace { .. }
        | Op::FakeQuantize(_)
        | Op::DetectionPostProcess(_) => {}
    }
    Ok(())
}

/// Where an axis of the model lies in the file.
fn place(axes: &[usize], axis: usize) -> usize {
    axes.iter().position(|&own| own == axis).unwrap_or(axis)
}

/// The axes that are left when some are dropped, counted anew.
fn without(axes: &[usize], dropped: &[usize]) -> Vec<usize> {
    let kept = axes.iter().filter(|axis| !dropped.contains(axis));
    kept.map(|&axis| axis - dropped.iter().filter(|&&gone| gone < axis).count())
        .collect()
}

fn unary(writer: &mut Writer, op: &str, x: usize, y: usize) {
    let View { name, axes } = writer.any(x);
    writer.emit(op, vec![name], vec![], Activation::None, (y, axes));
}

/// Top, left, bottom, right.
fn pads(padding: &Padding2d) -> [usize; 4] {
    let &Padding2d {
        top,
        bottom,
        left,
        right,
    } = padding;
    [top, left, bottom, right]
}

/// A convolution of NCHW maps. `order` puts the axes of the weights as the file has them: out, in, rows, columns.
fn convolution(
    writer: &mut Writer,
    operator: &Operator,
    conv: &Conv2d,
    order: [usize; 4],
    groups: usize,
) {
    let mut inputs = vec![
        writer.view(operator.inputs[0], &NCHW),
        writer.view(operator.inputs[1], &order),
    ];
    inputs.extend(operator.inputs.get(2).map(|&bias| writer.plain(bias)));
    let kernel = &writer.dims(operator.inputs[1])[1..3];
    let attributes = vec![
        proto::ints("kernel_shape", kernel),
        proto::ints("strides", &conv.stride),
        proto::ints("pads", &pads(&conv.padding)),
        proto::ints("dilations", &conv.dilation),
        proto::int("group", groups),
    ];
    let output = (operator.outputs[0], NCHW.to_vec());
    writer.emit("Conv", inputs, attributes, conv.activation, output);
}

/// Gemm of rows and transposed weights.
fn fully_connected(writer: &mut Writer, operator: &Operator, activation: Activation) {
    let (mut x, weights) = (operator.inputs[0], operator.inputs[1]);
    if writer.rank(x) != 2 {
        let depth = writer.tensors[weights].shape.channels();
        let rows = writer.tensors[x].shape.elements() / depth.max(1);
        let flat = writer.like(x, vec![rows, depth]);
        reshape(writer, x, flat);
        x = flat;
    }
    let mut inputs = vec![writer.plain(x), writer.plain(weights)];
    inputs.extend(operator.inputs.get(2).map(|&bias| writer.plain(bias)));
    let transposed = vec![proto::int("transB", 1)];
    let output = (operator.outputs[0], vec![0, 1]);
    writer.emit("Gemm", inputs, transposed, activation, output);
}

/// An operator of two operands of one rank, whose axes lie as those of the first that is computed and is no smaller
/// than the result.
fn binary(writer: &mut Writer, operator: &Operator, op: &str, activation: Activation) {
    let y = operator.outputs[0];
    let rank = writer.rank(y);
    let operands: Vec<usize> = operator
        .inputs
        .iter()
        .map(|&operand| widened(writer, operand, rank))
        .collect();
    let elements = writer.tensors[y].shape.elements();
    let leader = operands.iter().copied().find(|&operand| {
        !writer.is_constant(operand) && writer.tensors[operand].shape.elements() == elements
    });
    let axes = match leader {
        Some(leader) => writer.any(leader).axes,
        None => (0..rank).collect(),
    };
    let names = operands.iter().map(|&operand| writer.view(operand, &axes));
    let names = names.collect();
    writer.emit(op, names, vec![], activation, (y, axes));
}

/// The tensor with leading dimensions of one element up to a rank.
fn widened(writer: &mut Writer, tensor: usize, rank: usize) -> usize {
    let dims = writer.dims(tensor);
    if dims.len() >= rank {
        return tensor;
    }
    let missing = std::iter::repeat_n(1, rank - dims.len());
    let wide = writer.like(tensor, missing.chain(dims).collect());
    if !writer.is_constant(tensor) {
        reshape(writer, tensor, wide);
    }
    wide
}

fn reshape(writer: &mut Writer, x: usize, y: usize) {
    let dims = writer.dims(y);
    if writer.dims(x) == dims {
        return writer.alias(y, x);
    }
    let shape = dims.iter().map(|&dim| dim as i64).collect();
    let inputs = vec![writer.plain(x), writer.list("shape", shape)];
    let axes = (0..dims.len()).collect();
    writer.emit("Reshape", inputs, vec![], Activation::None, (y, axes));
}

/// Joins values whose axes lie as those of the first that is computed.
fn concat(writer: &mut Writer, operator: &Operator, axis: usize) {
    let mut inputs = operator.inputs.iter().copied();
    let computed = inputs.find(|&input| !writer.is_constant(input));
    let axes = writer.any(computed.unwrap_or(operator.inputs[0])).axes;
    let names = operator
        .inputs
        .iter()
        .map(|&input| writer.view(input, &axes))
        .collect();
    let attributes = vec![proto::int("axis", place(&axes, axis))];
    let output = (operator.outputs[0], axes);
    writer.emit("Concat", names, attributes, Activation::None, output);
}

fn pool_2d(writer: &mut Writer, op: &str, pool: &Pool2d, x: usize, y: usize) {
    let name = writer.view(x, &NCHW);
    let attributes = vec![
        proto::ints("kernel_shape", &pool.window),
        proto::ints("strides", &pool.stride),
        proto::ints("pads", &pads(&pool.padding)),
    ];
    let output = (y, NCHW.to_vec());
    writer.emit(op, vec![name], attributes, pool.activation, output);
}

fn mean(writer: &mut Writer, over: &[usize], x: usize, y: usize) {
    let none = Activation::None;
    let keeps = writer.rank(x) == writer.rank(y);
    if keeps && over == [1, 2] && writer.rank(x) == 4 {
        let name = writer.view(x, &NCHW);
        let output = (y, NCHW.to_vec());
        return writer.emit("GlobalAveragePool", vec![name], vec![], none, output);
    }
    let View { name, axes } = writer.any(x);
    let places: Vec<usize> = over.iter().map(|&axis| place(&axes, axis)).collect();
    let mut inputs = vec![name];
    let mut attributes = vec![proto::int("keepdims", usize::from(keeps))];
    match writer.opset < AXES_AS_INPUT {
        true => attributes.push(proto::ints("axes", &places)),
        false => {
            let places = places.into_iter().map(|place| place as i64).collect();
            inputs.push(writer.list("axes", places));
        }
    }
    let axes = if keeps { axes } else { without(&axes, over) };
    writer.emit("ReduceMean", inputs, attributes, none, (y, axes));
}

fn resize(writer: &mut Writer, kind: &str, mode: ResizeMode, x: usize, y: usize) {
    let (coordinates, rounding) = match mode {
        ResizeMode::Asymmetric => ("asymmetric", "floor"),
        ResizeMode::AlignCorners => ("align_corners", "round_prefer_ceil"),
        ResizeMode::HalfPixelCenters => ("half_pixel", "round_prefer_ceil"),
    };
    let mut attributes = vec![
        proto::text("mode", kind),
        proto::text("coordinate_transformation_mode", coordinates),
    ];
    if kind == "nearest" {
        attributes.push(proto::text("nearest_mode", rounding));
    }
    let dims = writer.dims(y);
    let sizes = NCHW.map(|axis| dims[axis] as i64);
    let sizes = writer.list("sizes", sizes.to_vec());
    // Neither a region of interest nor scales.
    let inputs = vec![writer.view(x, &NCHW), String::new(), String::new(), sizes];
    let output = (y, NCHW.to_vec());
    writer.emit("Resize", inputs, attributes, Activation::None, output);
}

/// Each input with a new axis, joined along it.
fn pack(writer: &mut Writer, operator: &Operator, axis: usize) {
    let inputs = operator.inputs.iter().map(|&input| {
        let mut dims = writer.dims(input);
        dims.insert(axis, 1);
        let wide = writer.like(input, dims);
        reshape(writer, input, wide);
        wide
    });
    let operator = Operator {
        inputs: inputs.collect(),
        ..operator.clone()
    };
    concat(writer, &operator, axis);
}

fn split(writer: &mut Writer, operator: &Operator, axis: usize) {
    let View { name, axes } = writer.any(operator.inputs[0]);
    let outputs = &operator.outputs;
    let sizes = outputs.iter().map(|&part| writer.dims(part)[axis] as i64);
    let sizes = sizes.collect();
    let inputs = vec![name, writer.list("split", sizes)];
    let parts: Vec<String> = outputs
        .iter()
        .map(|&part| writer.result(part, true))
        .collect();
    let attributes = vec![proto::int("axis", place(&axes, axis))];
    writer.node("Split", inputs, parts.clone(), attributes);
    for (&part, name) in outputs.iter().zip(parts) {
        writer.made(part, name, axes.clone());
    }
}

/// Slice, and Reshape where axes are dropped.
fn strided_slice(writer: &mut Writer, [begin, end, stride]: [&[i64]; 3], x: usize, y: usize) {
    let View { name, axes } = writer.any(x);
    let dims = writer.dims(x);
    let length =
        |axis: usize| crate::graph::shape::slice_length(begin[axis], end[axis], stride[axis]);
    let kept: Vec<usize> = (0..dims.len()).map(length).collect();
    let cut: Vec<usize> = (0..dims.len())
        .filter(|&axis| (begin[axis], kept[axis], stride[axis]) != (0, dims[axis], 1))
        .collect();
    let is_whole = kept == writer.dims(y);
    let whole = if is_whole { y } else { writer.like(y, kept) };
    let mut list = |role: &str, of: &dyn Fn(usize) -> i64| {
        writer.list(role, cut.iter().map(|&axis| of(axis)).collect())
    };
    // An end of -1 is before the first element, where ONNX would count from the last.
    let past = |axis: usize| if end[axis] < 0 { i64::MIN } else { end[axis] };
    let inputs = vec![
        name,
        list("starts", &|axis| begin[axis]),
        list("ends", &past),
        list("axes", &|axis| place(&axes, axis) as i64),
        list("steps", &|axis| stride[axis]),
    ];
    writer.emit("Slice", inputs, vec![], Activation::None, (whole, axes));
    if !is_whole {
        reshape(writer, whole, y);
    }
}

fn arg_max(writer: &mut Writer, axis: usize, x: usize, y: usize) {
    let View { name, axes } = writer.any(x);
    let attributes = vec![
        proto::int("axis", place(&axes, axis)),
        proto::int("keepdims", 0),
    ];
    let output = (y, without(&axes, &[axis]));
    writer.emit("ArgMax", vec![name], attributes, Activation::None, output);
}
