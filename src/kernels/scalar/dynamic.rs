//! Quantization of real values on the fly, for layers of 8-bit weights between real activations ("dynamic range").
//!
//! LiteRT's default path has two rules. Matrix products follow XNNPACK (src/microparams-init, `xnn_qd8_quantization_params`
//! and the `f32-qs8-vcvt` kernels): one scale and zero point a row. Depthwise convolutions follow TFLite
//! (tensorflow/lite/kernels/internal/reference/portable_tensor_utils.cc, `PortableAsymmetricQuantizeFloats`): one a
//! picture.

use super::Bounds;
use crate::kernels::requant::round_half_even;

/// Smallest and largest of the elements and 0. NaN is passed over.
pub fn range(elements: &[f32]) -> [f32; 2] {
    const LANES: usize = 16;
    let (mut least, mut most) = ([0f32; LANES], [0f32; LANES]);
    let mut chunks = elements.chunks_exact(LANES);
    let mut take = |lanes: &[f32]| {
        for ((least, most), &x) in least.iter_mut().zip(&mut most).zip(lanes) {
            *least = if x < *least { x } else { *least };
            *most = if x > *most { x } else { *most };
        }
    };
    chunks.by_ref().for_each(&mut take);
    take(chunks.remainder());
    [
        least.into_iter().fold(0.0, f32::min),
        most.into_iter().fold(0.0, f32::max),
    ]
}

/// How one row was quantized: `code = clamp(round_half_even(x * inverse) + zero_point)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C)]
pub struct RowQuant {
    inverse: f32,
    zero_point: i32,
}

impl RowQuant {
    /// For elements of a [`range`]. The zero point is the one that the end with the smaller rounding error gives.
    pub fn new([least, most]: [f32; 2]) -> Self {
        let inverse = match least == most {
            true => 1.0,
            false => 255.0 / (most - least),
        };
        let (low, high) = (-128.0 - least * inverse, 127.0 - most * inverse);
        let error = (-128.0 + least * inverse) + (127.0 + most * inverse);
        let nudged: f32 = if error > 0.0 { low } else { high };
        Self {
            inverse,
            zero_point: nudged.clamp(-128.0, 127.0).round_ties_even() as i32,
        }
    }

    /// Quantizes elements.
    pub fn quantize(self, elements: &[f32], codes: &mut [i8]) {
        let low = (-128 - self.zero_point) as f32;
        let high = (127 - self.zero_point) as f32;
        for (code, &x) in codes.iter_mut().zip(elements) {
            let scaled = (x * self.inverse).max(low).min(high);
            *code = (round_half_even(scaled) + self.zero_point) as i8;
        }
    }
}

/// The layer behind a matrix product of quantized rows.
pub struct RowsToReal<'a> {
    /// `sum_k w[n][k]` of each channel.
    pub weight_sums: &'a [i32],
    /// Scale of each channel's weights.
    pub scales: &'a [f32],
    pub bias: &'a [f32],
    pub bounds: Bounds,
}

impl RowsToReal<'_> {
    /// `out[m][n] = clamp((sums[m][n] - zero_point[m] * weight_sums[n]) * (1 / inverse[m]) * scales[n] + bias[n])`, the
    /// last product and sum in one rounding. Rows are as long as there are channels.
    #[inline(always)]
    pub fn rows_rule(&self, sums: &[i32], quants: &[RowQuant], out: &mut [f32]) {
        let channels = self.bias.len();
        let rows = sums
            .chunks_exact(channels)
            .zip(out.chunks_exact_mut(channels));
        for (quant, (sums, out)) in quants.iter().zip(rows) {
            let scale = 1.0 / quant.inverse;
            let layer = self.weight_sums.iter().zip(self.scales).zip(self.bias);
            let outputs = out.iter_mut().zip(sums);
            for ((out, &sum), ((&weights, &weight_scale), &bias)) in outputs.zip(layer) {
                let centred = sum.wrapping_sub(quant.zero_point.wrapping_mul(weights));
                let real = (centred as f32 * scale).mul_add(weight_scale, bias);
                *out = self.bounds.clamp(real);
            }
        }
    }
}

/// How a whole picture was quantized: `code = clamp(round(x * inverse) + zero_point)`, halves away from zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PictureQuant {
    /// Real value of one step.
    pub scale: f32,
    inverse: f32,
    zero_point: f32,
}

impl PictureQuant {
    /// For elements of a [`range`].
    pub fn new([least, most]: [f32; 2]) -> Self {
        if least == most {
            return Self {
                scale: 1.0,
                inverse: 1.0,
                zero_point: 0.0,
            };
        }
        let (least, most) = (f64::from(least), f64::from(most));
        let scale = (most - least) / 255.0;
        let (below, above) = (least / scale, most / scale);
        let nudged = match 128.0 + below.abs() < 127.0 + above.abs() {
            true => -128.0 - below,
            false => 127.0 - above,
        };
        Self {
            scale: scale as f32,
            inverse: 1.0 / scale as f32,
            zero_point: nudged.clamp(-128.0, 127.0).round() as f32,
        }
    }

    /// `code - zero_point`, an integer within `-255..=255`.
    #[inline(always)]
    pub fn centred(self, x: f32) -> f32 {
        /// Adding and subtracting it rounds to an integer, halves to even.
        const MAGIC: f32 = 12_582_912.0;
        let low = -128.0 - self.zero_point;
        let scaled = (x * self.inverse).max(low).min(low + 255.0);
        let even = (scaled + MAGIC) - MAGIC;
        let rest = scaled - even;
        let up = if rest == 0.5 && scaled > 0.0 {
            1.0
        } else {
            0.0
        };
        let down = if rest == -0.5 && scaled < 0.0 {
            1.0
        } else {
            0.0
        };
        even + up - down
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_always_holds_zero() {
        assert_eq!(range(&[3.0, 5.0]), [0.0, 5.0]);
        assert_eq!(range(&[-3.0; 40]), [-3.0, 0.0]);
        let mut elements = [1.0; 40];
        (elements[17], elements[39]) = (-2.0, 7.0);
        assert_eq!(range(&elements), [-2.0, 7.0]);
        assert_eq!(range(&[f32::NAN, 1.0]), [0.0, 1.0]);
    }

    #[test]
    fn rows_use_every_code() {
        let quant = RowQuant::new([0.0, 6.0]);
        assert_eq!(quant.zero_point, -128);
        let mut codes = [0; 4];
        quant.quantize(&[0.0, 6.0, 3.0, 6.0 / 255.0], &mut codes);
        assert_eq!(codes, [-128, 127, 0, -127]);
        let quant = RowQuant::new([-1.0, 254.0]);
        assert_eq!((quant.inverse, quant.zero_point), (1.0, -127));
        quant.quantize(&[-1.0, 0.5, 1.5, 300.0], &mut codes);
        assert_eq!(codes, [-128, -127, -125, 127]);
        assert_eq!(RowQuant::new([0.0, 0.0]).inverse, 1.0);
    }

    #[test]
    fn sums_become_real_values_again() {
        // x = [-1, 254] quantized to [-128, 127] with zero point -127; w = [3, 2].
        let layer = RowsToReal {
            weight_sums: &[5],
            scales: &[0.5],
            bias: &[10.0],
            bounds: Bounds {
                low: 0.0,
                high: 1000.0,
            },
        };
        let mut out = [0.0];
        let quant = RowQuant::new([-1.0, 254.0]);
        layer.rows_rule(&[-128 * 3 + 127 * 2], &[quant], &mut out);
        assert_eq!(out, [(-3.0 + 508.0) * 0.5 + 10.0]);
    }

    #[test]
    fn pictures_round_halves_away_from_zero() {
        let quant = PictureQuant::new([-1.0, 254.0]);
        assert_eq!((quant.scale, quant.zero_point), (1.0, -127.0));
        let codes = [-0.5, 0.0, 0.5, 1.5, 2.5, 300.0].map(|x| quant.centred(x));
        assert_eq!(codes, [-1.0, 0.0, 1.0, 2.0, 3.0, 254.0]);
        let quant = PictureQuant::new([-254.0, 1.0]);
        assert_eq!(quant.zero_point, 126.0);
        let codes = [-0.5, -1.5, -2.6, -900.0, 2.0].map(|x| quant.centred(x));
        assert_eq!(codes, [-1.0, -2.0, -3.0, -254.0, 1.0]);
    }
}
