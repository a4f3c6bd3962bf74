//! Shifts of a layer's mean that its bias takes back.

use super::codes::Weights;
use crate::graph::Op;
use crate::tensor::Shape;

/// A layer's weights, before and after quantization, and how they lie.
pub(super) struct Layer<'a> {
    pub op: &'a Op,
    pub shape: &'a Shape,
    pub real: &'a [f32],
    pub weights: &'a Weights,
}

impl Layer<'_> {
    /// Bias correction (Nagel et al., arXiv:1906.04721, section 4.2, with means that calibration measured): takes
    /// `sum_i (w'[o][i] - w[o][i]) * mean[i]` off the bias of each output channel `o`, where `w'` are the real values
    /// of the codes and `mean[i]` is the mean of input channel `i`. Padding counts as if it were picture.
    pub fn correct_weights(&self, bias: &mut [f32], means: &[f32]) {
        self.take_off(bias, means, |real, quantized| quantized - real);
    }

    /// Takes `sum_i w'[o][i] * shift[i]` off the bias of each output channel, where the codes of input channel `i`
    /// stand for `shift[i]` too much. Padding, which is exact, counts as if it were picture.
    pub fn correct_input(&self, bias: &mut [f32], shift: &[f32]) {
        self.take_off(bias, shift, |_, quantized| quantized);
    }

    /// Takes `sum_i factor(w[o][i], w'[o][i]) * of_input[i]` off the bias of each output channel. A layer without a
    /// bias stays as it is.
    fn take_off(&self, bias: &mut [f32], of_input: &[f32], factor: impl Fn(f64, f64) -> f64) {
        let Some(outputs) = std::num::NonZero::new(bias.len()) else {
            return;
        };
        let is_depthwise = matches!(self.op, Op::DepthwiseConv2d(_));
        let depth = self.real.len() / outputs;
        let inputs = of_input.len();
        let scales = &self.weights.quant.scales;
        let mut shifts = vec![0f64; bias.len()];
        for (index, (&real, &code)) in self.real.iter().zip(&self.weights.codes).enumerate() {
            // Depthwise: taps of all channels interleaved, channel `o` reads input `o / multiplier`.
            // Else `[out][...][in]`.
            let (output, input) = match is_depthwise {
                true => (index % outputs, index % outputs * inputs / outputs),
                false => (index / depth.max(1), index % self.shape.channels() % inputs),
            };
            let quantized = f32::from(code) * scales[output.min(scales.len() - 1)];
            let factor = factor(f64::from(real), f64::from(quantized));
            shifts[output] += factor * f64::from(of_input[input]);
        }
        for (bias, shift) in bias.iter_mut().zip(shifts) {
            *bias -= shift as f32;
        }
    }
}
