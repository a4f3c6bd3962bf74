//! Convolutions and matrix products: weights in the graph's order, biases in the accumulator's scale.

use std::rc::Rc;

use super::constant::{Constant, Elements};
use super::import::{Form, Importer, NCHW, View};
use super::quantize::{self, Outcome};
use super::site::Site;
use super::{FLOAT_ADVICE, windows};
use crate::error::Result;
use crate::graph::{Conv2d, Op, TransposedAxes, ValueId};
use crate::tensor::{QuantParams, Shape};

/// Weights that the groups of a convolution may be spread to.
const MAX_SPREAD: usize = 1 << 24;

/// Nodes that are looked at for the flattening before a matrix product.
const MAX_LOOK_BACK: usize = 8;

pub(super) fn conv(importer: &mut Importer<'_>, site: &Site) -> Result<()> {
    let model = importer.model;
    let x = importer.view(site, 0)?;
    let weights = importer.constant(site, 1)?;
    let (&[_, channels, height, width], &[_, _, rows, columns]) =
        (&importer.dims(&x)[..], &weights.dims[..])
    else {
        return Err(site.unsupported(
            model,
            "on other than pictures",
            "use two-dimensional convolutions",
        ));
    };
    let groups = usize::try_from(site.int("group", 1)).unwrap_or(0);
    let (op, weights) = arranged(importer, site, &weights, groups, channels)?;
    let outcome = outcome(importer, site, &x, &weights)?;
    let window = windows::Window::read(importer, site, [height, width], [rows, columns])?;
    let geometry = Conv2d {
        stride: window.stride,
        dilation: window.dilation,
        padding: window.padding,
        activation: outcome.activation,
    };
    let input = importer.nhwc(site, &x)?;
    let bias = importer.optional_constant(site, 2)?;
    let inputs = weighted(importer, site, input, &weights, bias)?;
    importer.finish(
        site,
        op(geometry),
        inputs,
        outcome,
        NCHW.to_vec(),
        &Shape::default(),
    )
}

/// Makes the operator of a convolution.
type MakeOp = fn(Conv2d) -> Op;

/// Weights `[out, in / groups, rows, columns]` in the order of the operator that does the work.
fn arranged(
    importer: &Importer<'_>,
    site: &Site,
    weights: &Constant,
    groups: usize,
    channels: usize,
) -> Result<(MakeOp, Constant)> {
    let (filters, depth) = (weights.dims[0], weights.dims[1]);
    let fits =
        groups > 0 && depth.checked_mul(groups) == Some(channels) && filters.is_multiple_of(groups);
    if !fits {
        let dims = &weights.dims;
        let reason =
            format!("weights of shape {dims:?} in {groups} groups do not fit {channels} channels");
        return Err(site.damaged(importer.model, reason));
    }
    let op: fn(Conv2d) -> Op = match groups == channels && groups > 1 {
        true => Op::DepthwiseConv2d,
        false => Op::Conv2d,
    };
    let weights = match groups {
        1 => weights.permuted(&[0, 2, 3, 1]),
        _ if groups == channels => weights.permuted(&[1, 2, 3, 0]),
        _ => match spread(weights, groups) {
            Some(spread) => spread.permuted(&[0, 2, 3, 1]),
            None => {
                let advice = "export the model without grouped convolutions";
                return Err(site.unsupported(
                    importer.model,
                    "with large groups of channels",
                    advice,
                ));
            }
        },
    };
    Ok((op, weights))
}

/// Weights of groups as weights of all channels: those between groups stand for 0.
fn spread(weights: &Constant, groups: usize) -> Option<Constant> {
    let &[filters, depth, rows, columns] = &weights.dims[..] else {
        return None;
    };
    let (taps, channels) = (rows * columns, depth * groups);
    let length = filters.checked_mul(channels)?.checked_mul(taps)?;
    if length == 0 || length > MAX_SPREAD {
        return None;
    }
    let sizes = [depth * taps, groups, filters / groups];
    let data = match (&weights.data, &weights.quant) {
        (Elements::I8(codes), Some(quant)) if !quant.is_per_channel() || quant.axis == 0 => {
            let last = quant.zero_points.len() - 1;
            let zero = |filter: usize| quant.zero_points[filter.min(last)] as i8;
            Elements::I8(spread_out(codes, sizes, zero))
        }
        (Elements::F32(values), None) => Elements::F32(spread_out(values, sizes, |_| 0.0)),
        _ => return None,
    };
    Some(Constant {
        dims: vec![filters, channels, rows, columns],
        data,
        quant: weights.quant.clone(),
    })
}

/// Each filter's `size` elements at the place of its group, `per_group` filters to each of `groups`, among zeros.
fn spread_out<T: Copy>(
    elements: &[T],
    [size, groups, per_group]: [usize; 3],
    zero: impl Fn(usize) -> T,
) -> Vec<T> {
    let mut data = Vec::with_capacity(elements.len() * groups);
    for (filter, own) in elements.chunks_exact(size).enumerate() {
        let (zero, group) = (zero(filter), filter / per_group);
        data.extend(std::iter::repeat_n(zero, group * size));
        data.extend_from_slice(own);
        data.extend(std::iter::repeat_n(zero, (groups - group - 1) * size));
    }
    data
}

/// What a product of `x` and weights makes. Of a quantized model only products of codes, and those that quantize real
/// values on the fly, run.
fn outcome(
    importer: &mut Importer<'_>,
    site: &Site,
    x: &View,
    weights: &Constant,
) -> Result<Outcome> {
    let model = importer.model;
    let refuse = |what| Err(site.unsupported(model, what, FLOAT_ADVICE));
    if importer.is_float && importer.form(x) == Form::Real {
        if weights.quant.is_none() && !matches!(weights.data, Elements::F32(_)) {
            return Err(site.damaged(model, "its weights are no real values"));
        }
        return quantize::real_outcome(importer, site);
    }
    if !matches!((&weights.data, &weights.quant), (Elements::I8(_), Some(_))) {
        return refuse("with float weights in a quantized model");
    }
    match importer.form(x) {
        Form::Codes(_) => match quantize::codes_outcome(importer, site)? {
            Some(outcome) => Ok(outcome),
            None => refuse("whose result is not quantized"),
        },
        Form::Real if site.is_dynamic => quantize::real_outcome(importer, site),
        Form::Real => refuse("on real values in a quantized model"),
    }
}

/// The inputs of the node: `x`, weights with their output channels along any axis, and the bias.
fn weighted(
    importer: &mut Importer<'_>,
    site: &Site,
    x: ValueId,
    weights: &Constant,
    bias: Option<Rc<Constant>>,
) -> Result<Vec<ValueId>> {
    let name = site.input(1).unwrap_or_default();
    let real = match importer.is_float {
        true => weights.reals().map(Elements::F32),
        false => None,
    };
    let real = real.map(|data| Constant::new(weights.dims.clone(), data));
    let stored = importer.constant_value(site, real.as_ref().unwrap_or(weights), name)?;
    let mut inputs = vec![x, stored];
    if let Some(bias) = bias {
        let bias = match &importer.graph.info(x).quant {
            None => bias.reals().map(Elements::F32),
            Some(quant) => {
                accumulated(&bias, quant.scale(), weights.quant.as_ref()).map(Elements::I32)
            }
        };
        let bias = bias.ok_or_else(|| {
            site.damaged(
                importer.model,
                "its bias does not fit its weights, or is too large for their scales",
            )
        })?;
        let bias = Constant::new(vec![bias.len()], bias);
        let name = site.input(2).unwrap_or_default();
        inputs.push(importer.constant_value(site, &bias, name)?);
    }
    Ok(inputs)
}

/// A bias in the scale of the accumulators, `scale * weights.scales[channel]`. Sums without parameters are in it.
fn accumulated(bias: &Constant, scale: f32, weights: Option<&QuantParams>) -> Option<Vec<i32>> {
    let weights = weights?;
    if let (Elements::I32(sums), None) = (&bias.data, &bias.quant) {
        return Some(sums.clone());
    }
    let step = |channel: usize| scale * weights.scales[channel.min(weights.scales.len() - 1)];
    if let (Elements::I32(sums), Some(quant)) = (&bias.data, &bias.quant) {
        let own = |channel: usize| quant.scales[channel.min(quant.scales.len() - 1)];
        let is_close = |channel| (own(channel) - step(channel)).abs() <= 1e-6 * step(channel);
        if (0..sums.len()).all(is_close) {
            return Some(sums.clone());
        }
    }
    let sums = bias
        .reals()?
        .into_iter()
        .enumerate()
        .map(|(channel, real)| {
            let sum = (f64::from(real) / f64::from(step(channel))).round_ties_even();
            (sum.abs() <= f64::from(i32::MAX)).then_some(sum as i32)
        });
    sums.collect()
}

/// Gemm, `a * b + c`, and MatMul with constant `b`.
pub(super) fn matrix_product(importer: &mut Importer<'_>, site: &Site) -> Result<()> {
    let model = importer.model;
    let is_plain = site.int("transA", 0) == 0
        && site.float("alpha", 1.0) == 1.0
        && site.float("beta", 1.0) == 1.0;
    if !is_plain {
        return Err(site.unsupported(
            model,
            "with a factor or a transposed input",
            "export it as a plain linear layer",
        ));
    }
    let x = importer.view(site, 0)?;
    let weights = importer.constant(site, 1)?;
    if weights.dims.len() != 2 {
        return Err(site.unsupported(
            model,
            "with weights of other than two dimensions",
            "export it as linear layers",
        ));
    }
    let weights = match site.int("transB", 0) {
        0 => weights.permuted(&[1, 0]),
        _ => Constant::clone(&weights),
    };
    let dims = importer.dims(&x);
    if dims.last() != Some(&weights.dims[1]) {
        let reason = format!(
            "weights for {} inputs do not fit a tensor of shape {dims:?}",
            weights.dims[1]
        );
        return Err(site.damaged(model, reason));
    }
    let outcome = outcome(importer, site, &x, &weights)?;
    let units = weights.dims[0];
    let canonical = importer.canonical(site, &x)?;
    let (input, weights) = unflattened(importer, site, canonical, weights)?;
    let bias = match site.op() {
        "Gemm" => importer.optional_constant(site, 2)?.map(|bias| flat(&bias)),
        _ => None,
    };
    let inputs = weighted(importer, site, input, &weights, bias)?;
    let op = Op::FullyConnected(outcome.activation);
    if dims.len() == 2 {
        return importer.finish(site, op, inputs, outcome, vec![0, 1], &Shape::default());
    }
    let name = format!("{}/rows", outcome.name);
    let rows = importer.emit(
        site,
        op,
        inputs,
        &name,
        outcome.form.clone(),
        &Shape::default(),
    )?;
    let axes = (0..dims.len()).collect();
    let out = dims[..dims.len() - 1]
        .iter()
        .copied()
        .chain([units])
        .collect();
    let declared = importer.shape(site, out)?;
    importer.finish(site, Op::Reshape, vec![rows], outcome, axes, &declared)
}

/// A bias without dimensions of one element.
fn flat(bias: &Constant) -> Rc<Constant> {
    let flat = bias.reshaped(vec![bias.data.len()]);
    Rc::new(flat.unwrap_or_else(|| bias.clone()))
}

/// If `x` is a feature map flattened in the order channels, rows, columns: the same map flattened as it lies, and the
/// columns of the weights in that order.
fn unflattened(
    importer: &mut Importer<'_>,
    site: &Site,
    x: ValueId,
    weights: Constant,
) -> Result<(ValueId, Constant)> {
    let maker = |id: ValueId| {
        let nodes = importer.graph.nodes.iter().rev().take(MAX_LOOK_BACK);
        nodes.into_iter().find(|node| node.outputs[0] == id)
    };
    let source = maker(x)
        .filter(|node| node.op == Op::Reshape)
        .and_then(|node| maker(node.inputs[0]))
        .filter(|node| node.op == Op::Transpose(TransposedAxes(NCHW.to_vec())))
        .map(|node| node.inputs[0]);
    let Some(source) = source else {
        return Ok((x, weights));
    };
    let Some([batch, rows, columns, channels]) = importer.graph.shape(source).nhwc() else {
        return Ok((x, weights));
    };
    let flat = importer.graph.shape(x).clone();
    if flat.dims() != [batch, rows * columns * channels] {
        return Ok((x, weights));
    }
    let units = weights.dims[0];
    let arranged = weights
        .reshaped(vec![units, channels, rows, columns])
        .map(|weights| weights.permuted(&[0, 2, 3, 1]))
        .and_then(|weights| weights.reshaped(vec![units, rows * columns * channels]));
    let Some(arranged) = arranged else {
        return Ok((x, weights));
    };
    let form = importer.form(&View {
        id: source,
        axes: Vec::new(),
        is_real: true,
    });
    let name = format!("{}/flat", site.output());
    let x = importer.emit(site, Op::Reshape, vec![source], &name, form, &flat)?;
    Ok((x, arranged))
}
