//! The shape rules of convolutions and pools.

use super::shape::{Misfit, checked};
use super::{Conv2d, Padding2d, Pool2d};
use crate::tensor::Shape;

pub(super) fn nhwc(shape: &Shape) -> Result<[usize; 4], Misfit> {
    shape
        .nhwc()
        .ok_or_else(|| format!("{shape} is not batch, height, width, channels"))
}

/// Positions of a window of `window` elements, `stride` apart, over `size` elements with `padding` on both sides.
fn window_positions(
    size: usize,
    padding: [usize; 2],
    window: usize,
    stride: usize,
) -> Result<usize, Misfit> {
    if window == 0 || stride == 0 {
        return Err("a window or a stride is 0".into());
    }
    if padding[0] >= window || padding[1] >= window {
        return Err(format!(
            "padding {padding:?} leaves a window of {window} without any picture"
        ));
    }
    let padded = size
        .checked_add(padding[0] + padding[1])
        .ok_or("the padded size overflows")?;
    match padded.checked_sub(window) {
        Some(room) => Ok(room / stride + 1),
        None => Err(format!(
            "a window of {window} does not fit into {padded} rows or columns"
        )),
    }
}

/// Height and width of a windowed operator's output.
fn windowed(
    [height, width]: [usize; 2],
    padding: &Padding2d,
    window: [usize; 2],
    stride: [usize; 2],
) -> Result<[usize; 2], Misfit> {
    Ok([
        window_positions(height, [padding.top, padding.bottom], window[0], stride[0])?,
        window_positions(width, [padding.left, padding.right], window[1], stride[1])?,
    ])
}

fn dilated(kernel: usize, dilation: usize) -> Result<usize, Misfit> {
    if kernel == 0 || dilation == 0 {
        return Err("a kernel dimension or a dilation is 0".into());
    }
    (kernel - 1)
        .checked_mul(dilation)
        .and_then(|extent| extent.checked_add(1))
        .filter(|&extent| extent <= Shape::MAX_ELEMENTS)
        .ok_or_else(|| format!("a dilation of {dilation} is too large"))
}

pub(super) fn check_bias(inputs: &[&Shape], channels: usize) -> Result<(), Misfit> {
    match inputs.get(2) {
        Some(bias) if bias.elements() != channels || bias.channels() != channels => Err(format!(
            "a bias of shape {bias} does not fit {channels} output channels"
        )),
        _ => Ok(()),
    }
}

pub(super) fn conv_2d(conv: &Conv2d, inputs: &[&Shape]) -> Result<Shape, Misfit> {
    let [batch, height, width, channels] = nhwc(inputs[0])?;
    let [filters, rows, columns, depth] = nhwc(inputs[1])?;
    if depth != channels {
        return Err(format!(
            "weights of shape {} do not fit {channels} input channels{}",
            inputs[1],
            if depth > 0 && channels % depth == 0 {
                " (grouped convolutions are not supported)"
            } else {
                ""
            }
        ));
    }
    check_bias(inputs, filters)?;
    let window = [
        dilated(rows, conv.dilation[0])?,
        dilated(columns, conv.dilation[1])?,
    ];
    let [height, width] = windowed([height, width], &conv.padding, window, conv.stride)?;
    checked(vec![batch, height, width, filters])
}

pub(super) fn depthwise_conv_2d(conv: &Conv2d, inputs: &[&Shape]) -> Result<Shape, Misfit> {
    let [batch, height, width, channels] = nhwc(inputs[0])?;
    let [one, rows, columns, filters] = nhwc(inputs[1])?;
    if one != 1 || channels == 0 || filters == 0 || filters % channels != 0 {
        return Err(format!(
            "weights of shape {} do not fit {channels} input channels",
            inputs[1]
        ));
    }
    check_bias(inputs, filters)?;
    let window = [
        dilated(rows, conv.dilation[0])?,
        dilated(columns, conv.dilation[1])?,
    ];
    let [height, width] = windowed([height, width], &conv.padding, window, conv.stride)?;
    checked(vec![batch, height, width, filters])
}

pub(super) fn pool_2d(pool: &Pool2d, x: &Shape) -> Result<Shape, Misfit> {
    let [batch, height, width, channels] = nhwc(x)?;
    let [height, width] = windowed([height, width], &pool.padding, pool.window, pool.stride)?;
    checked(vec![batch, height, width, channels])
}
