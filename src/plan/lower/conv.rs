//! Convolutions and fully connected layers: zero points folded, weights packed.

use super::Lowering;
use crate::error::Result;
use crate::graph::{Activation, Conv2d, Node, Op, ValueId};
use crate::kernels::depthwise::{DepthwiseWeights, PackedTaps};
use crate::kernels::pack::{PackedWeights, WeightsSource};
use crate::plan::conv::{Conv, DepthwiseConv};
use crate::plan::geometry::{Geometry, MAX_KERNEL_ROWS};
use crate::plan::step::Kind;
use crate::tensor::TensorData;

/// Sums of this many products of two 8-bit codes fit into int32.
pub(super) const MAX_DEPTH: usize = 1 << 15;

/// Everything about the numbers of a layer.
struct Layer {
    input_zero_point: i32,
    weights: Vec<i8>,
    weight_zero_point: i32,
    bias: Vec<i32>,
    /// `f32(f32(input scale * weight scale) / output scale)`
    scales: Vec<f32>,
    out: (f32, i32),
}

impl Layer {
    fn read(lowering: &Lowering<'_>, node: &Node, channels: usize) -> Result<Self> {
        let input = lowering.quant(node, node.inputs[0])?;
        let out = lowering.quant(node, node.outputs[0])?;
        let weights = lowering.codes(node, node.inputs[1])?;
        let info = lowering.info(node.inputs[1]);
        let Some(quant) = &info.quant else {
            return Err(lowering.unsupported(
                node,
                "whose weights have no scale",
                "convert the model again with full integer quantization",
            ));
        };
        let shift = if info.dtype == crate::tensor::DType::U8 {
            128
        } else {
            0
        };
        let weight_zero_point = quant.zero_point() - shift;
        if quant
            .zero_points
            .iter()
            .any(|&zp| zp - shift != weight_zero_point)
        {
            return Err(lowering.unsupported(
                node,
                "whose weights have a zero point for each channel",
                "use symmetric per-channel weights",
            ));
        }
        let scales: Vec<f32> = (0..channels)
            .map(|channel| {
                let weight = quant.scales[channel.min(quant.scales.len() - 1)];
                input.0 * weight / out.0
            })
            .collect();
        if !scales.iter().all(|scale| scale.is_finite() && *scale > 0.0) {
            return Err(lowering.unsupported(
                node,
                "whose scales multiply to nothing or to infinity",
                "calibrate the model again with representative pictures",
            ));
        }
        Ok(Self {
            input_zero_point: input.1,
            weights,
            weight_zero_point,
            bias: bias(lowering, node, channels)?,
            scales,
            out,
        })
    }
}

fn bias(lowering: &Lowering<'_>, node: &Node, channels: usize) -> Result<Vec<i32>> {
    match node.inputs.get(2).map(|&id| lowering.graph.constant(id)) {
        None => Ok(vec![0; channels]),
        Some(Some(TensorData::I32(bias))) => Ok(bias.clone()),
        Some(_) => Err(lowering.unsupported(
            node,
            "whose bias is not constant int32",
            "convert the model again with full integer quantization",
        )),
    }
}

fn geometry(
    lowering: &Lowering<'_>,
    node: &Node,
    conv: &Conv2d,
    window: [usize; 2],
) -> Result<Geometry> {
    let input = lowering.dims(node.inputs[0]);
    let out = lowering.dims(node.outputs[0]);
    let padding = [conv.padding.top, conv.padding.left];
    let reach = |axis: usize| (window[axis] - 1) * conv.dilation[axis] + 1;
    if padding[0] >= reach(0) || padding[1] >= reach(1) {
        let advice = "use SAME or VALID padding";
        return Err(lowering.unsupported(node, "whose padding is wider than its kernel", advice));
    }
    Ok(Geometry {
        input: [input[1], input[2]],
        channels: input[3],
        out: [out[1], out[2]],
        window,
        stride: conv.stride,
        dilation: conv.dilation,
        padding,
    })
}

/// Geometry and output channels.
pub(super) fn conv_geometry(
    lowering: &Lowering<'_>,
    node: &Node,
    conv: &Conv2d,
) -> Result<(Geometry, usize)> {
    let weights = lowering.dims(node.inputs[1]);
    let (channels, window) = (weights[0], [weights[1], weights[2]]);
    let geometry = geometry(lowering, node, conv, window)?;
    if weights[3] != geometry.channels {
        let advice = "convert the model without grouped convolutions";
        return Err(lowering.unsupported(node, "with groups of channels", advice));
    }
    Ok((geometry, channels))
}

pub(super) fn conv_2d(lowering: &mut Lowering<'_>, node: &Node, conv: &Conv2d) -> Result<()> {
    let conv = conv_step(lowering, node, conv)?;
    push(lowering, node, conv);
    Ok(())
}

/// A convolution on its own or in a block.
pub(super) fn conv_step(lowering: &Lowering<'_>, node: &Node, conv: &Conv2d) -> Result<Conv> {
    let (geometry, channels) = conv_geometry(lowering, node, conv)?;
    product(lowering, node, geometry, channels, conv.activation)
}

/// Multiply-accumulates of a convolution or fully connected layer, 0 of any other operator.
pub(super) fn macs(lowering: &Lowering<'_>, node: &Node) -> u64 {
    let out = |id: ValueId| lowering.info(id).shape.elements() as u64;
    match &node.op {
        Op::Conv2d(_) | Op::FullyConnected(_) | Op::DepthwiseConv2d(_) => {
            let weights = lowering.dims(node.inputs[1]);
            let depth: usize = match node.op {
                Op::DepthwiseConv2d(_) => weights[1..3].iter().product(),
                _ => weights[1..].iter().product(),
            };
            out(node.outputs[0]) * depth as u64
        }
        _ => 0,
    }
}

fn push(lowering: &mut Lowering<'_>, node: &Node, conv: Conv) {
    let scratch = conv.job_scratch() * lowering.options.threads;
    let weight_bytes = conv.weights.bytes();
    let macs = macs(lowering, node);
    let (input, output) = (node.inputs[0], node.outputs[0]);
    let draft = lowering.push(node, Kind::Conv(Box::new(conv)), &[input], &[output]);
    draft.scratch = scratch;
    draft.macs = macs;
    draft.weight_bytes = weight_bytes;
}

/// Geometry and output channels: every row is a pixel.
pub(super) fn fully_connected_geometry(lowering: &Lowering<'_>, node: &Node) -> (Geometry, usize) {
    let weights = lowering.dims(node.inputs[1]);
    let rows = lowering.info(node.inputs[0]).shape.elements() / weights[1];
    let geometry = Geometry {
        input: [rows, 1],
        channels: weights[1],
        out: [rows, 1],
        window: [1, 1],
        stride: [1, 1],
        dilation: [1, 1],
        padding: [0, 0],
    };
    (geometry, weights[0])
}

pub(super) fn fully_connected(
    lowering: &mut Lowering<'_>,
    node: &Node,
    activation: Activation,
) -> Result<()> {
    let (geometry, channels) = fully_connected_geometry(lowering, node);
    let conv = product(lowering, node, geometry, channels, activation)?;
    push(lowering, node, conv);
    Ok(())
}

fn product(
    lowering: &Lowering<'_>,
    node: &Node,
    geometry: Geometry,
    channels: usize,
    activation: Activation,
) -> Result<Conv> {
    let layer = Layer::read(lowering, node, channels)?;
    let depth = geometry.depth();
    if depth > MAX_DEPTH {
        let what = format!("that sums {depth} products, more than {MAX_DEPTH}");
        return Err(lowering.unsupported(node, &what, "use a narrower layer"));
    }
    let source = WeightsSource {
        weights: &layer.weights,
        weight_zero_point: layer.weight_zero_point,
        input_zero_point: layer.input_zero_point,
        bias: &layer.bias,
        scales: &layer.scales,
    };
    let kernel = lowering.kernels.gemm_for(&source);
    let weights = PackedWeights::new(source, kernel.tile);
    Ok(Conv {
        kernel,
        weights,
        weight_zero_point: layer.weight_zero_point,
        row_terms: lowering.kernels.elementwise.row_terms,
        input_zero_point: layer.input_zero_point as i8,
        geometry,
        stage: lowering.stage(layer.out, activation),
    })
}

/// Geometry and output channels.
pub(super) fn depthwise_geometry(
    lowering: &Lowering<'_>,
    node: &Node,
    conv: &Conv2d,
) -> Result<(Geometry, usize)> {
    let weights: [usize; 4] = match lowering.dims(node.inputs[1]).try_into() {
        Ok(weights) => weights,
        Err(_) => return Err(lowering.unsupported(node, "with weights that are not 4-D", "")),
    };
    let [_, rows, columns, channels] = weights;
    let geometry = geometry(lowering, node, conv, [rows, columns])?;
    if rows > MAX_KERNEL_ROWS {
        let what = format!("with a kernel of {rows} rows, more than {MAX_KERNEL_ROWS}");
        return Err(lowering.unsupported(node, &what, "use a smaller kernel"));
    }
    Ok((geometry, channels))
}

pub(super) fn depthwise_conv_2d(
    lowering: &mut Lowering<'_>,
    node: &Node,
    conv: &Conv2d,
) -> Result<()> {
    let depthwise = depthwise_step(lowering, node, conv)?;
    let scratch = depthwise.job_scratch() * lowering.options.threads;
    let weight_bytes = depthwise.weights.bytes();
    let macs = macs(lowering, node);
    let kind = Kind::Depthwise(Box::new(depthwise));
    let draft = lowering.push(node, kind, &node.inputs[..1], &node.outputs[..1]);
    draft.scratch = scratch;
    draft.macs = macs;
    draft.weight_bytes = weight_bytes;
    Ok(())
}

/// A depthwise convolution on its own or in a block.
pub(super) fn depthwise_step(
    lowering: &Lowering<'_>,
    node: &Node,
    conv: &Conv2d,
) -> Result<DepthwiseConv> {
    let (geometry, channels) = depthwise_geometry(lowering, node, conv)?;
    let layer = Layer::read(lowering, node, channels)?;
    let mut weights = depthwise_weights(&layer, geometry.window, channels);
    let kernel = lowering.kernels.depthwise;
    kernel.pack(&mut weights);
    Ok(DepthwiseConv {
        kernel,
        weights,
        multiplier: channels / geometry.channels,
        input_zero_point: layer.input_zero_point as i8,
        geometry,
        stage: lowering.stage(layer.out, conv.activation),
    })
}

fn depthwise_weights(layer: &Layer, kernel: [usize; 2], channels: usize) -> DepthwiseWeights {
    let taps: Vec<i16> = layer
        .weights
        .iter()
        .map(|&weight| (i32::from(weight) - layer.weight_zero_point) as i16)
        .collect();
    let mut bias = layer.bias.clone();
    for row in taps.chunks_exact(channels) {
        for (bias, &tap) in bias.iter_mut().zip(row) {
            *bias = bias.wrapping_sub(layer.input_zero_point * i32::from(tap));
        }
    }
    DepthwiseWeights {
        kernel,
        channels,
        taps,
        bias,
        scales: layer.scales.clone(),
        packed: PackedTaps::default(),
    }
}
