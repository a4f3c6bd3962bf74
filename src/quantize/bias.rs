//! Bias correction: what quantized weights add to a layer's mean is taken off its bias (Nagel et al., arXiv:1906.04721,
//! section 4.2, with means that calibration measured).

use super::codes::Weights;
use crate::graph::Op;
use crate::tensor::Shape;

/// Takes `sum_i (w'[o][i] - w[o][i]) * mean[i]` off the bias of each output channel `o`, where `w'` are the real values
/// of the codes and `mean[i]` is the mean of input channel `i`. Padding counts as if it were picture. A layer without a
/// bias stays as it is.
pub(super) fn correct(
    bias: &mut [f32],
    op: &Op,
    shape: &Shape,
    real: &[f32],
    weights: &Weights,
    means: &[f32],
) {
    let Some(outputs) = std::num::NonZero::new(bias.len()) else {
        return;
    };
    let is_depthwise = matches!(op, Op::DepthwiseConv2d(_));
    let depth = real.len() / outputs;
    let mut shifts = vec![0f64; bias.len()];
    for (index, (&real, &code)) in real.iter().zip(&weights.codes).enumerate() {
        // Depthwise: taps of all channels interleaved, channel `o` reads input `o / multiplier`. Else `[out][...][in]`.
        let (output, input) = match is_depthwise {
            true => (
                index % bias.len(),
                index % bias.len() * means.len() / bias.len(),
            ),
            false => (index / depth.max(1), index % shape.channels() % means.len()),
        };
        let scales = &weights.quant.scales;
        let error =
            f64::from(f32::from(code) * scales[output.min(scales.len() - 1)]) - f64::from(real);
        shifts[output] += error * f64::from(means[input]);
    }
    for (bias, shift) in bias.iter_mut().zip(shifts) {
        *bias -= shift as f32;
    }
}
