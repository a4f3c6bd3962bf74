//! One arm an operator: the step, or the alias, that does it.

use super::{Lowering, conv, float, post_process};
use crate::error::Result;
use crate::graph::{Activation, Node, Op, Pool2d, ResizeMode, ValueId};
use crate::kernels::requant::{OutputStage, round_half_even};
use crate::kernels::scalar::{
    self, AddParams, BilinearAxis, MeanParams, MulParams, QuantizedMultiplier, SoftmaxTable,
};
use crate::plan::movement::{Movement, place_into, take_from, transpose};
use crate::plan::step::{Kind, Mean, Pooling, Resize};
use crate::tensor::DType;

pub(super) fn lower(lowering: &mut Lowering<'_>, node: &Node) -> Result<()> {
    preload_constants(lowering, node);
    if float::lower(lowering, node)? {
        return Ok(());
    }
    match &node.op {
        Op::Conv2d(op) => conv::conv_2d(lowering, node, op),
        Op::DepthwiseConv2d(op) => conv::depthwise_conv_2d(lowering, node, op),
        Op::FullyConnected(activation) => conv::fully_connected(lowering, node, *activation),
        Op::Add(activation) => add(lowering, node, *activation, false),
        Op::Sub(activation) => add(lowering, node, *activation, true),
        Op::Mul(activation) => mul(lowering, node, *activation),
        Op::Concat { axis } => join(lowering, node, *axis, false),
        Op::Pack { axis } => join(lowering, node, *axis, true),
        Op::Reshape => reshape(lowering, node),
        Op::Pad { pads } => pad(lowering, node, pads),
        Op::AvgPool2d(pool) => average_pool(lowering, node, pool),
        Op::MaxPool2d(pool) => max_pool(lowering, node, pool),
        Op::Mean { axes } => mean(lowering, node, axes),
        Op::Softmax { beta } => softmax(lowering, node, *beta),
        Op::Logistic => logistic(lowering, node),
        Op::Activation(activation) => clamp(lowering, node, *activation),
        Op::HardSwish => hard_swish(lowering, node),
        Op::ResizeNearest(mode) => resize_nearest(lowering, node, *mode),
        Op::ResizeBilinear(mode) => resize_bilinear(lowering, node, *mode),
        Op::Quantize => quantize(lowering, node),
        Op::Dequantize => dequantize(lowering, node),
        Op::FakeQuantize(_) => {
            let advice = "quantize the model before it is run";
            Err(lowering.unsupported(node, "among 8-bit codes", advice))
        }
        Op::Split { axis } => split(lowering, node, *axis),
        Op::StridedSlice { begin, stride, .. } => strided_slice(lowering, node, begin, stride),
        Op::Transpose(axes) => {
            let element = lowering.info(node.inputs[0]).dtype.size();
            let copy = transpose(lowering.dims(node.inputs[0]), &axes.0, element);
            move_codes(lowering, node, copy);
            Ok(())
        }
        Op::ArgMax { axis } => arg_max(lowering, node, *axis),
        Op::SpaceToBatch { .. } | Op::BatchToSpace { .. } => Err(lowering.unsupported(
            node,
            "on 8-bit codes",
            "convert the model with dilated convolutions",
        )),
        Op::DetectionPostProcess(options) => post_process::lower(lowering, node, options),
    }
}

/// Constants that steps read as activations lie in the arena; weights, bias and anchors do not.
fn preload_constants(lowering: &mut Lowering<'_>, node: &Node) {
    let activations = match node.op {
        Op::Conv2d(_) | Op::DepthwiseConv2d(_) | Op::FullyConnected(_) => 1,
        Op::DetectionPostProcess(_) => 2,
        _ => node.inputs.len(),
    };
    for &id in node.inputs.iter().take(activations) {
        if let Some(data) = lowering.graph.constant(id) {
            lowering.memory.preload(id, data);
        }
    }
}

pub(super) fn unary(lowering: &mut Lowering<'_>, node: &Node, kind: Kind) {
    lowering.push(node, kind, &node.inputs[..1], &node.outputs[..1]);
}

fn move_codes(lowering: &mut Lowering<'_>, node: &Node, copy: scalar::StridedCopy) {
    let movement = Movement {
        copy,
        ..Movement::default()
    };
    unary(lowering, node, Kind::Move(movement));
}

fn same_quant(lowering: &Lowering<'_>, node: &Node, a: ValueId, b: ValueId) -> Result<bool> {
    if lowering.info(a).dtype == DType::F32 && lowering.info(b).dtype == DType::F32 {
        return Ok(true);
    }
    Ok(lowering.quant(node, a)? == lowering.quant(node, b)?)
}

/// The inputs with the one that repeats last, and whether they were exchanged.
pub(super) fn binary_inputs(lowering: &Lowering<'_>, node: &Node) -> Result<([ValueId; 2], bool)> {
    let [a, b] = [node.inputs[0], node.inputs[1]];
    let out = lowering.dims(node.outputs[0]);
    let repeats = |whole: ValueId, part: ValueId| {
        let part = lowering.dims(part);
        let part = &part[part.iter().take_while(|&&dim| dim == 1).count()..];
        lowering.dims(whole) == out && out.ends_with(part)
    };
    if repeats(a, b) {
        Ok(([a, b], false))
    } else if repeats(b, a) {
        Ok(([b, a], true))
    } else {
        let shapes = format!(
            "of shapes {:?} and {:?}",
            lowering.dims(a),
            lowering.dims(b)
        );
        Err(lowering.unsupported(node, &shapes, "give both operands the same shape"))
    }
}

fn add(
    lowering: &mut Lowering<'_>,
    node: &Node,
    activation: Activation,
    subtract: bool,
) -> Result<()> {
    let (inputs, exchanged) = binary_inputs(lowering, node)?;
    if subtract && exchanged {
        let advice = "subtract a value that repeats from a larger one";
        return Err(lowering.unsupported(node, "whose first operand repeats", advice));
    }
    let params = add_params(lowering, node, inputs, activation, subtract)?;
    lowering.push(node, Kind::Add(params), &inputs, &node.outputs[..1]);
    Ok(())
}

/// The numbers of an addition, or of a subtraction of the second input.
pub(super) fn add_params(
    lowering: &Lowering<'_>,
    node: &Node,
    inputs: [ValueId; 2],
    activation: Activation,
    subtract: bool,
) -> Result<AddParams> {
    let out = lowering.quant(node, node.outputs[0])?;
    let [a, b] = [
        lowering.quant(node, inputs[0])?,
        lowering.quant(node, inputs[1])?,
    ];
    let stage = lowering.stage(out, activation);
    AddParams::new(a, b, subtract, out.0, stage).ok_or_else(|| {
        lowering.unsupported(
            node,
            "whose operands differ too much in scale",
            "calibrate the model again with representative pictures",
        )
    })
}

fn mul(lowering: &mut Lowering<'_>, node: &Node, activation: Activation) -> Result<()> {
    let (inputs, _) = binary_inputs(lowering, node)?;
    let out = lowering.quant(node, node.outputs[0])?;
    let [a, b] = [
        lowering.quant(node, inputs[0])?,
        lowering.quant(node, inputs[1])?,
    ];
    let params = MulParams {
        a_zero_point: a.1,
        b_zero_point: b.1,
        scale: a.0 * b.0 / out.0,
        stage: lowering.stage(out, activation),
    };
    lowering.push(node, Kind::Mul(params), &inputs, &node.outputs[..1]);
    Ok(())
}

/// Concatenation along an axis, or stacking along a new one.
fn join(lowering: &mut Lowering<'_>, node: &Node, axis: usize, is_new: bool) -> Result<()> {
    let output = node.outputs[0];
    let info = lowering.info(output);
    let (out, element) = (info.shape.dims(), info.dtype.size());
    let outer: usize = out[..axis].iter().product();
    let mut first = vec![0; out.len()];
    let roots = node.inputs.iter().map(|&id| lowering.memory.root(id).0);
    let roots: Vec<ValueId> = roots.collect();
    for (&input, root) in node.inputs.iter().zip(&roots) {
        // Bytes that are joined twice cannot lie in both places.
        let is_once = roots.iter().filter(|other| *other == root).count() == 1;
        let mut dims = lowering.dims(input).to_vec();
        if is_new {
            dims.insert(axis, 1);
        }
        let offset = first[axis] * out[axis + 1..].iter().product::<usize>() * element;
        let same = same_quant(lowering, node, input, output)?;
        let may_lie = same && outer == 1 && is_once;
        if !(may_lie && lowering.memory.make_inside(input, output, offset)) {
            let copy = place_into(&dims, out, &first, element);
            let table = match same {
                true => None,
                false => Some(rescale_table(lowering, node, input, output)?),
            };
            let scratch = match table {
                Some(_) => lowering.info(input).shape.elements(),
                None => 0,
            };
            let movement = Movement {
                fill: None,
                copy,
                table,
            };
            let draft = lowering.push(node, Kind::Move(movement), &[input], &[output]);
            draft.scratch = scratch;
        }
        first[axis] += dims[axis];
    }
    Ok(())
}

/// TFLite's rule for concatenated uint8 inputs of another scale: `round(x * s + b) + zero_point` in f32.
fn rescale_table(
    lowering: &Lowering<'_>,
    node: &Node,
    input: ValueId,
    output: ValueId,
) -> Result<Box<[i8; 256]>> {
    let (input, out) = (lowering.quant(node, input)?, lowering.quant(node, output)?);
    let scale = input.0 * (1.0 / out.0);
    // The file's codes are ours plus 128, and so is its zero point: the bias is made of that one.
    let shift = if lowering.info(output).dtype == DType::U8 {
        128
    } else {
        0
    };
    let bias = -((input.1 + shift) as f32) * scale;
    Ok(scalar::table(|code| {
        let real = (i32::from(code) + shift) as f32 * scale + bias;
        (real.round() as i32 + out.1).clamp(-128, 127) as i8
    }))
}

fn reshape(lowering: &mut Lowering<'_>, node: &Node) -> Result<()> {
    let (input, output) = (node.inputs[0], node.outputs[0]);
    let codes = matches!(lowering.info(input).dtype, DType::U8 | DType::I8);
    if codes && !same_quant(lowering, node, input, output)? {
        let table = rescale_table(lowering, node, input, output)?;
        unary(lowering, node, Kind::Table(table));
    } else {
        lowering.memory.alias(output, input);
    }
    Ok(())
}

fn pad(lowering: &mut Lowering<'_>, node: &Node, pads: &[[usize; 2]]) -> Result<()> {
    let (input, output) = (node.inputs[0], node.outputs[0]);
    let element = lowering.info(input).dtype.size();
    let fill = match lowering.info(input).dtype {
        DType::U8 | DType::I8 => lowering.quant(node, input)?.1 as i8,
        DType::I32 | DType::F32 => 0,
    };
    let first: Vec<usize> = pads.iter().map(|pad| pad[0]).collect();
    let copy = place_into(lowering.dims(input), lowering.dims(output), &first, element);
    let movement = Movement {
        fill: Some(fill),
        copy,
        table: None,
    };
    unary(lowering, node, Kind::Move(movement));
    Ok(())
}

/// Where a pool reads.
pub(super) fn pool_geometry(lowering: &Lowering<'_>, node: &Node, pool: &Pool2d) -> scalar::Pool {
    let input = lowering.dims(node.inputs[0]);
    scalar::Pool {
        input: [input[1], input[2]],
        channels: input[3],
        window: pool.window,
        stride: pool.stride,
        padding: [pool.padding.top, pool.padding.left],
        out_width: lowering.dims(node.outputs[0])[2],
    }
}

fn pooling(lowering: &Lowering<'_>, node: &Node, pool: &Pool2d) -> Result<Pooling> {
    let quant = lowering.quant(node, node.outputs[0])?;
    if !same_quant(lowering, node, node.inputs[0], node.outputs[0])? {
        let advice = "convert the model again: pools keep their scale";
        return Err(lowering.unsupported(node, "between different scales", advice));
    }
    Ok(Pooling {
        pool: pool_geometry(lowering, node, pool),
        out_height: lowering.dims(node.outputs[0])[1],
        stage: lowering.stage(quant, pool.activation),
    })
}

fn max_pool(lowering: &mut Lowering<'_>, node: &Node, pool: &Pool2d) -> Result<()> {
    let pooling = pooling(lowering, node, pool)?;
    unary(lowering, node, Kind::MaxPool(pooling));
    Ok(())
}

fn average_pool(lowering: &mut Lowering<'_>, node: &Node, pool: &Pool2d) -> Result<()> {
    let pooling = pooling(lowering, node, pool)?;
    let scratch = 4 * pooling.pool.channels;
    let code_offset = match lowering.info(node.inputs[0]).dtype {
        DType::U8 => 128,
        _ => 0,
    };
    let kind = Kind::AveragePool {
        pooling,
        code_offset,
    };
    let draft = lowering.push(node, kind, &node.inputs[..1], &node.outputs[..1]);
    draft.scratch = scratch;
    Ok(())
}

/// Rows that a mean is taken over, and channels of each row.
pub(super) fn mean_extent(
    lowering: &Lowering<'_>,
    node: &Node,
    axes: &[usize],
) -> Result<[usize; 2]> {
    let input = lowering.dims(node.inputs[0]);
    let images = axes.first().copied().unwrap_or(0);
    let consecutive = axes.iter().copied().eq(images..images + axes.len());
    if axes.is_empty() || !consecutive {
        let what = format!("over axes {axes:?}");
        let advice = "take the mean over neighbouring axes, such as height and width";
        return Err(lowering.unsupported(node, &what, advice));
    }
    let rows = input[images..images + axes.len()].iter().product::<usize>();
    let channels = input[images + axes.len()..].iter().product::<usize>();
    if rows > MAX_MEAN_ROWS {
        let what = format!("over {rows} elements, more than {MAX_MEAN_ROWS}");
        return Err(lowering.unsupported(node, &what, "pool in two steps"));
    }
    Ok([rows, channels])
}

fn mean(lowering: &mut Lowering<'_>, node: &Node, axes: &[usize]) -> Result<()> {
    let [rows, channels] = mean_extent(lowering, node, axes)?;
    let (quant, out) = (
        lowering.quant(node, node.inputs[0])?,
        lowering.quant(node, node.outputs[0])?,
    );
    let mean = Mean {
        channels,
        rows,
        params: MeanParams {
            zero_point: quant.1,
            scale: quant.0 / out.0 / rows as f32,
            stage: OutputStage::full_range(out.1),
        },
    };
    let draft = lowering.push(
        node,
        Kind::Mean(mean),
        &node.inputs[..1],
        &node.outputs[..1],
    );
    draft.scratch = 4 * channels;
    Ok(())
}

/// Sums of this many codes fit into int32.
const MAX_MEAN_ROWS: usize = 1 << 22;

fn softmax(lowering: &mut Lowering<'_>, node: &Node, beta: f32) -> Result<()> {
    let input = lowering.quant(node, node.inputs[0])?;
    let out = lowering.quant(node, node.outputs[0])?;
    let depth = lowering.info(node.inputs[0]).shape.channels();
    let table = SoftmaxTable::new(beta, input.0, out);
    unary(lowering, node, Kind::Softmax { table, depth });
    Ok(())
}

/// A table from the input's and the output's quantization.
fn tabulate(
    lowering: &mut Lowering<'_>,
    node: &Node,
    rule: impl Fn(i8, (f32, i32), (f32, i32)) -> i8,
) -> Result<()> {
    let input = lowering.quant(node, node.inputs[0])?;
    let out = lowering.quant(node, node.outputs[0])?;
    let table = scalar::table(|code| rule(code, input, out));
    unary(lowering, node, Kind::Table(table));
    Ok(())
}

fn logistic(lowering: &mut Lowering<'_>, node: &Node) -> Result<()> {
    tabulate(lowering, node, |code, input, out| {
        let real = (i32::from(code) - input.1) as f32 * input.0;
        let sigmoid = 1.0 / (1.0 + (-real).exp());
        let scaled = sigmoid * (1.0 / out.0);
        (round_half_even(scaled.min(1024.0)) + out.1).clamp(-128, 127) as i8
    })
}

fn hard_swish(lowering: &mut Lowering<'_>, node: &Node) -> Result<()> {
    tabulate(lowering, node, scalar::hard_swish)
}

fn clamp(lowering: &mut Lowering<'_>, node: &Node, activation: Activation) -> Result<()> {
    let out = lowering.quant(node, node.outputs[0])?;
    let stage = lowering.stage(out, activation);
    tabulate(lowering, node, |code, input, out| {
        let distance = i32::from(code) - input.1;
        let rescaled = match input.0 == out.0 {
            true => distance,
            false => QuantizedMultiplier::new(f64::from(input.0 / out.0)).multiply(distance),
        };
        let code = rescaled.saturating_add(out.1);
        code.clamp(i32::from(stage.min), i32::from(stage.max)) as i8
    })
}

fn quantize(lowering: &mut Lowering<'_>, node: &Node) -> Result<()> {
    let (input, output) = (node.inputs[0], node.outputs[0]);
    let out = lowering.quant(node, output)?;
    let from = lowering.info(input).dtype;
    if from == DType::F32 {
        let stage = OutputStage::full_range(out.1);
        unary(
            lowering,
            node,
            Kind::Quantize {
                scale: out.0,
                stage,
            },
        );
        return Ok(());
    }
    if lowering.quant(node, input)? == out {
        lowering.memory.alias(output, input);
        return Ok(());
    }
    let same_type = from == lowering.info(output).dtype;
    tabulate(lowering, node, |code, input, out| {
        let distance = i32::from(code) - input.1;
        let code = if same_type {
            let multiplier = (256.0 * (input.0 / out.0)).round_ties_even() as i32;
            (distance.saturating_mul(multiplier)).saturating_add((out.1 << 8) + 128) >> 8
        } else {
            let ratio = f64::from(input.0) / f64::from(out.0);
            QuantizedMultiplier::new(ratio)
                .multiply_rounding_up(distance)
                .saturating_add(out.1)
        };
        code.clamp(-128, 127) as i8
    })
}

fn dequantize(lowering: &mut Lowering<'_>, node: &Node) -> Result<()> {
    let (scale, zero_point) = lowering.quant(node, node.inputs[0])?;
    unary(lowering, node, Kind::Dequantize { scale, zero_point });
    Ok(())
}

fn split(lowering: &mut Lowering<'_>, node: &Node, axis: usize) -> Result<()> {
    let input = lowering.dims(node.inputs[0]);
    let element = lowering.info(node.inputs[0]).dtype.size();
    let mut begin = vec![0; input.len()];
    for &output in &node.outputs {
        let dims = lowering.dims(output);
        let copy = take_from(input, &begin, &vec![1; input.len()], dims, element);
        let movement = Movement {
            copy,
            ..Movement::default()
        };
        lowering.push(node, Kind::Move(movement), &node.inputs[..1], &[output]);
        begin[axis] += dims[axis];
    }
    Ok(())
}

fn strided_slice(
    lowering: &mut Lowering<'_>,
    node: &Node,
    begin: &[i64],
    stride: &[i64],
) -> Result<()> {
    let Op::StridedSlice { end, .. } = &node.op else {
        return Ok(());
    };
    let input = lowering.dims(node.inputs[0]);
    let element = lowering.info(node.inputs[0]).dtype.size();
    let dims: Vec<usize> = (0..input.len())
        .map(|axis| {
            (end[axis] - begin[axis])
                .unsigned_abs()
                .div_ceil(stride[axis].unsigned_abs()) as usize
        })
        .collect();
    let begin: Vec<usize> = begin.iter().map(|&at| at as usize).collect();
    let stride: Vec<isize> = stride.iter().map(|&step| step as isize).collect();
    let copy = take_from(input, &begin, &stride, &dims, element);
    move_codes(lowering, node, copy);
    Ok(())
}

fn arg_max(lowering: &mut Lowering<'_>, node: &Node, axis: usize) -> Result<()> {
    lowering.quant(node, node.inputs[0])?;
    let dims = lowering.dims(node.inputs[0]);
    let kind = Kind::ArgMax {
        axis: dims[axis],
        inner: dims[axis + 1..].iter().product(),
    };
    unary(lowering, node, kind);
    Ok(())
}

/// The real source coordinate of each target coordinate.
fn coordinates(mode: ResizeMode, input: usize, out: usize) -> impl Iterator<Item = f32> {
    let aligned = matches!(mode, ResizeMode::AlignCorners) && out > 1;
    let scale = match aligned {
        true => (input - 1) as f32 / (out - 1) as f32,
        false => input as f32 / out as f32,
    };
    (0..out).map(move |at| match mode {
        ResizeMode::HalfPixelCenters => (at as f32 + 0.5) * scale - 0.5,
        ResizeMode::Asymmetric | ResizeMode::AlignCorners => at as f32 * scale,
    })
}

fn resize<Axis>(
    lowering: &Lowering<'_>,
    node: &Node,
    mode: ResizeMode,
    axis: impl Fn(f32, usize) -> Axis,
) -> Result<Resize<Axis>> {
    if !same_quant(lowering, node, node.inputs[0], node.outputs[0])? {
        let advice = "convert the model again: resizing keeps the scale";
        return Err(lowering.unsupported(node, "between different scales", advice));
    }
    let input = lowering.dims(node.inputs[0]);
    let out = lowering.dims(node.outputs[0]);
    let make = |dim: usize| -> Vec<Axis> {
        coordinates(mode, input[dim], out[dim])
            .map(|coordinate| axis(coordinate, input[dim]))
            .collect()
    };
    Ok(Resize {
        input: [input[1], input[2]],
        channels: input[3],
        rows: make(1),
        columns: make(2),
    })
}

fn resize_nearest(lowering: &mut Lowering<'_>, node: &Node, mode: ResizeMode) -> Result<()> {
    let resize = resize(lowering, node, mode, |coordinate, size| {
        // TFLite rounds aligned corners and half pixels (after shifting back), and cuts off otherwise.
        let source = match mode {
            ResizeMode::AlignCorners => coordinate.round(),
            ResizeMode::HalfPixelCenters => (coordinate + 0.5).floor(),
            ResizeMode::Asymmetric => coordinate.floor(),
        };
        (source.max(0.0) as usize).min(size - 1)
    })?;
    let resize = Resize {
        channels: resize.channels * lowering.info(node.inputs[0]).dtype.size(),
        ..resize
    };
    unary(lowering, node, Kind::ResizeNearest(resize));
    Ok(())
}

fn resize_bilinear(lowering: &mut Lowering<'_>, node: &Node, mode: ResizeMode) -> Result<()> {
    let resize = resize(lowering, node, mode, BilinearAxis::new)?;
    unary(lowering, node, Kind::ResizeBilinear(resize));
    Ok(())
}
