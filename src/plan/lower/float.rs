//! Operators on real activations: wholly real, or with 8-bit weights.

use super::{Lowering, conv, operators};
use crate::error::Result;
use crate::graph::{Activation, Conv2d, Node, Op, ValueId};
use crate::kernels::pack::{PackedWeights, WeightsSource};
use crate::kernels::scalar::Bounds;
use crate::kernels::scalar::float::{BinaryOp, FloatWeights};
use crate::plan::float::{FloatBinary, FloatConv, FloatDepthwiseConv, FloatUnary, Taps};
use crate::plan::geometry::Geometry;
use crate::plan::hybrid::HybridConv;
use crate::plan::step::Kind;
use crate::tensor::{DType, TensorData};

const ADVICE: &str = "convert the model with full integer quantization";

/// Lowers an operator that computes with real activations. `false` if it is not one: it works on codes, turns one into
/// the other, or only moves elements.
pub(super) fn lower(lowering: &mut Lowering<'_>, node: &Node) -> Result<bool> {
    let is_real = |id: &ValueId| lowering.info(*id).dtype == DType::F32;
    if !(node.inputs.first().is_some_and(is_real) && node.outputs.first().is_some_and(is_real)) {
        return Ok(false);
    }
    match &node.op {
        Op::Conv2d(op) => {
            let (geometry, channels) = conv::conv_geometry(lowering, node, op)?;
            product(lowering, node, geometry, channels, op.activation)?;
        }
        Op::FullyConnected(activation) => {
            let (geometry, channels) = conv::fully_connected_geometry(lowering, node);
            product(lowering, node, geometry, channels, *activation)?;
        }
        Op::DepthwiseConv2d(op) => depthwise(lowering, node, op)?,
        Op::Add(activation) => binary(lowering, node, [BinaryOp::Add; 2], *activation)?,
        Op::Sub(activation) => {
            let ops = [BinaryOp::Sub, BinaryOp::SubFrom];
            binary(lowering, node, ops, *activation)?;
        }
        Op::Mul(activation) => binary(lowering, node, [BinaryOp::Mul; 2], *activation)?,
        Op::ResizeBilinear(_) => {
            return Err(lowering.unsupported(node, "on real values", ADVICE));
        }
        op => match unary(lowering, node, op)? {
            Some(kind) => {
                operators::unary(lowering, node, Kind::Float(kind));
            }
            None => return Ok(false),
        },
    }
    Ok(true)
}

fn unary(lowering: &Lowering<'_>, node: &Node, op: &Op) -> Result<Option<FloatUnary>> {
    let input = lowering.dims(node.inputs[0]);
    let out_height = lowering.dims(node.outputs[0]).get(1).copied().unwrap_or(1);
    Ok(Some(match op {
        Op::AvgPool2d(op) => FloatUnary::AveragePool {
            pool: operators::pool_geometry(lowering, node, op),
            out_height,
            bounds: bounds(op.activation),
        },
        Op::MaxPool2d(op) => FloatUnary::MaxPool {
            pool: operators::pool_geometry(lowering, node, op),
            out_height,
            bounds: bounds(op.activation),
        },
        Op::Mean { axes } => {
            let [rows, channels] = operators::mean_extent(lowering, node, axes)?;
            FloatUnary::Mean { rows, channels }
        }
        Op::Softmax { beta } if *beta > 0.0 => FloatUnary::Softmax {
            beta: *beta,
            depth: input.last().copied().unwrap_or(1),
        },
        Op::Softmax { .. } => return Err(lowering.unsupported(node, "of a beta below 0", ADVICE)),
        Op::Logistic => FloatUnary::Logistic,
        Op::Activation(activation) => FloatUnary::Clamp(bounds(*activation)),
        Op::HardSwish => FloatUnary::HardSwish,
        _ => return Ok(None),
    }))
}

fn bounds(activation: Activation) -> Bounds {
    let (low, high) = match activation {
        Activation::None => (f32::NEG_INFINITY, f32::INFINITY),
        Activation::Relu => (0.0, f32::INFINITY),
        Activation::Relu6 => (0.0, 6.0),
        Activation::ReluN1To1 => (-1.0, 1.0),
    };
    Bounds { low, high }
}

fn bias(lowering: &Lowering<'_>, node: &Node, channels: usize) -> Result<Vec<f32>> {
    match node.inputs.get(2).map(|&id| lowering.graph.constant(id)) {
        None => Ok(vec![0.0; channels]),
        Some(Some(TensorData::F32(bias))) => Ok(bias.clone()),
        Some(_) => Err(lowering.unsupported(node, "whose bias is not constant float32", ADVICE)),
    }
}

/// Scale of each channel of int8 weights.
fn scales(lowering: &Lowering<'_>, node: &Node, channels: usize) -> Result<Vec<f32>> {
    match &lowering.info(node.inputs[1]).quant {
        Some(quant) => {
            let last = quant.scales.len() - 1;
            Ok((0..channels).map(|at| quant.scales[at.min(last)]).collect())
        }
        None => Err(lowering.unsupported(node, "whose weights have no scale", ADVICE)),
    }
}

fn product(
    lowering: &mut Lowering<'_>,
    node: &Node,
    geometry: Geometry,
    channels: usize,
    activation: Activation,
) -> Result<()> {
    let bias = bias(lowering, node, channels)?;
    let bounds = bounds(activation);
    let depth = geometry.depth();
    let (kind, (scratch, weight_bytes)) = match lowering.graph.constant(node.inputs[1]) {
        Some(TensorData::F32(weights)) => {
            let conv = FloatConv {
                weights: FloatWeights::new(weights, channels),
                bias,
                geometry,
                bounds,
            };
            let sizes = (conv.job_scratch(), conv.weights.bytes());
            (Kind::FloatConv(Box::new(conv)), sizes)
        }
        Some(TensorData::I8(weights)) if depth <= conv::MAX_DEPTH => {
            let conv = hybrid(lowering, node, weights, bias, geometry, bounds)?;
            let sizes = (conv.job_scratch(), conv.weights.bytes());
            (Kind::HybridConv(Box::new(conv)), sizes)
        }
        _ => return Err(lowering.unsupported(node, "with such weights", ADVICE)),
    };
    let out = lowering.info(node.outputs[0]).shape.elements();
    let threads = lowering.options.threads;
    let draft = lowering.push(node, kind, &node.inputs[..1], &node.outputs[..1]);
    draft.scratch = scratch * threads;
    draft.weight_bytes = weight_bytes;
    draft.macs = (out * depth) as u64;
    Ok(())
}

fn hybrid(
    lowering: &Lowering<'_>,
    node: &Node,
    weights: &[i8],
    bias: Vec<f32>,
    geometry: Geometry,
    bounds: Bounds,
) -> Result<HybridConv> {
    let channels = bias.len();
    let scales = scales(lowering, node, channels)?;
    let source = WeightsSource {
        weights,
        weight_zero_point: 0,
        input_zero_point: 0,
        bias: &vec![0; channels],
        scales: &scales,
    };
    let kernel = lowering.kernels.gemm_for(&source);
    let sum = |row: &[i8]| row.iter().map(|&weight| i32::from(weight)).sum();
    Ok(HybridConv {
        kernel,
        weights: PackedWeights::new(source, kernel.tile),
        weight_sums: weights.chunks_exact(geometry.depth()).map(sum).collect(),
        scales,
        bias,
        geometry,
        bounds,
    })
}

fn depthwise(lowering: &mut Lowering<'_>, node: &Node, op: &Conv2d) -> Result<()> {
    let (geometry, channels) = conv::depthwise_geometry(lowering, node, op)?;
    let taps_in_all = geometry.window[0] * geometry.window[1];
    let (taps, kind, scales) = match lowering.graph.constant(node.inputs[1]) {
        Some(TensorData::F32(taps)) => (taps.clone(), Taps::Real, vec![1.0; channels]),
        Some(TensorData::I8(codes)) if taps_in_all <= MAX_EXACT_TAPS => {
            let taps = codes.iter().map(|&code| f32::from(code)).collect();
            (taps, Taps::Codes, scales(lowering, node, channels)?)
        }
        _ => return Err(lowering.unsupported(node, "with such weights", ADVICE)),
    };
    let conv = FloatDepthwiseConv {
        taps,
        kind,
        scales,
        bias: bias(lowering, node, channels)?,
        multiplier: channels / geometry.channels,
        geometry,
        bounds: bounds(op.activation),
    };
    let weight_bytes = 4 * (conv.taps.len() + 2 * channels);
    let scratch = conv.job_scratch() * lowering.options.threads;
    let out = lowering.info(node.outputs[0]).shape.elements();
    let kind = Kind::FloatDepthwise(Box::new(conv));
    let draft = lowering.push(node, kind, &node.inputs[..1], &node.outputs[..1]);
    draft.scratch = scratch;
    draft.weight_bytes = weight_bytes;
    draft.macs = (out * taps_in_all) as u64;
    Ok(())
}

/// Sums of this many products of `-255..=255` and `-128..=127` are exact in f32.
const MAX_EXACT_TAPS: usize = (1 << 24) / (255 * 128);

/// `ops` are the operator, and the operator for exchanged operands.
fn binary(
    lowering: &mut Lowering<'_>,
    node: &Node,
    ops: [BinaryOp; 2],
    activation: Activation,
) -> Result<()> {
    let (inputs, exchanged) = operators::binary_inputs(lowering, node)?;
    let binary = FloatBinary {
        op: ops[usize::from(exchanged)],
        bounds: bounds(activation),
    };
    let kind = Kind::FloatBinary(binary);
    lowering.push(node, kind, &inputs, &node.outputs[..1]);
    Ok(())
}
