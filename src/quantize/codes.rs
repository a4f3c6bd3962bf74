//! Real values become codes: scales and zero points of activations, codes of weights and biases.
//!
//! The formulas are those of TFLite's 8-bit quantization specification (ai.google.dev/edge/litert, "8-bit quantization
//! specification"): activations are asymmetric, weights and 16-bit activations symmetric, and the bias has the scale of
//! the products that it is added to.

use super::histogram::Range;
use crate::tensor::{QuantParams, Shape};

/// How an activation is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Activations {
    /// One byte, asymmetric.
    #[default]
    Int8,
    /// Two bytes, symmetric.
    Int16,
}

impl Activations {
    /// The lowest and the highest code.
    pub fn codes(self) -> [i32; 2] {
        match self {
            Self::Int8 => [-128, 127],
            Self::Int16 => [-32_768, 32_767],
        }
    }

    /// Scale and zero point that spread the codes over a range, such that 0 is a code of its own:
    /// `scale = (max - min) / 255` and `zero_point = round(-128 - min / scale)`, or `scale = max(|min|, |max|) / 32767`
    /// and `zero_point = 0`.
    pub fn spread(self, range: Range) -> QuantParams {
        let [lowest, highest] = self.codes();
        match self {
            Self::Int8 => {
                let span = f64::from(range.max) - f64::from(range.min);
                let scale = usable(span / f64::from(highest - lowest));
                let zero =
                    (f64::from(lowest) - f64::from(range.min) / f64::from(scale)).round_ties_even();
                QuantParams::per_tensor(scale, (zero as i32).clamp(lowest, highest))
            }
            Self::Int16 => {
                let scale = f64::from(range.magnitude()) / f64::from(highest);
                QuantParams::per_tensor(usable(scale), 0)
            }
        }
    }
}

/// A scale that is a normal number; 1 for a range without extent.
fn usable(scale: f64) -> f32 {
    let scale = scale as f32;
    if scale.is_normal() { scale } else { 1.0 }
}

/// Codes of a constant, on a grid from `lowest` to `highest`.
pub fn to_codes(values: &[f32], quant: &QuantParams, [lowest, highest]: [i32; 2]) -> Vec<i32> {
    let scale = f64::from(quant.scale());
    let code = |&value: &f32| {
        let code = (f64::from(value) / scale).round_ties_even() + f64::from(quant.zero_point());
        code.clamp(f64::from(lowest), f64::from(highest)) as i32
    };
    values.iter().map(code).collect()
}

/// Whether each output channel of weights has a scale of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Granularity {
    #[default]
    PerChannel,
    PerTensor,
}

/// How the scale of weights is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WeightScale {
    /// The largest weight gets the highest code.
    #[default]
    Largest,
    /// Least squared error.
    LeastError,
}

/// What weights become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeightFormat {
    /// 1, 2, 4, 8 or 16. Codes are symmetric, `-(2^(bits - 1) - 1)` to `2^(bits - 1) - 1`, so that -128 does not occur;
    /// with one bit they are -1 and 1.
    pub bits: u8,
    pub granularity: Granularity,
    pub scale: WeightScale,
}

/// Symmetric codes of weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    pub codes: Vec<i16>,
    /// Zero points are 0; along `axis` one scale a channel, or one in all.
    pub quant: QuantParams,
}

impl Weights {
    /// Quantizes weights whose output channels run along `axis`. `least_scales` are scales of each channel that may not
    /// be undercut, so that a bias fits; empty for none.
    pub fn quantize(
        values: &[f32],
        shape: &Shape,
        axis: usize,
        format: WeightFormat,
        least_scales: &[f32],
    ) -> Self {
        let channels = shape.dims()[axis];
        let inner: usize = shape.dims()[axis + 1..].iter().product();
        let channel_of = |index: usize| index / inner % channels;
        let mut groups = vec![Vec::new(); channels];
        for (index, value) in values.iter().enumerate() {
            groups[channel_of(index)].push(*value);
        }
        let least = |channel: usize| least_scales.get(channel).copied().unwrap_or(0.0);
        let scales: Vec<f32> = match format.granularity {
            Granularity::PerChannel => {
                let channel = |at: usize| f64::from(format.scale_of(&groups[at]).max(least(at)));
                (0..channels).map(channel).map(usable).collect()
            }
            Granularity::PerTensor => {
                let largest = (0..channels).map(least).fold(0.0, f32::max);
                vec![usable(format.scale_of(values).max(largest).into())]
            }
        };
        let scale_of = |index: usize| scales[channel_of(index).min(scales.len() - 1)];
        let codes = values.iter().enumerate();
        Self {
            codes: codes
                .map(|(index, &value)| format.code(value, scale_of(index)))
                .collect(),
            quant: QuantParams {
                zero_points: vec![0; scales.len()],
                axis: if scales.len() > 1 { axis } else { 0 },
                scales,
            },
        }
    }
}

impl WeightFormat {
    fn highest(self) -> f32 {
        match self.bits {
            0 | 1 => 1.0,
            bits => ((1u32 << (bits - 1)) - 1) as f32,
        }
    }

    fn code(self, value: f32, scale: f32) -> i16 {
        if self.bits == 1 {
            return if value < 0.0 { -1 } else { 1 };
        }
        let highest = self.highest();
        (value / scale).round_ties_even().clamp(-highest, highest) as i16
    }

    /// The scale of a group of weights; not a normal number if all are 0. One-bit weights have their mean magnitude as scale, which is the least error
    /// (Rastegari et al., arXiv:1603.05279).
    fn scale_of(self, values: &[f32]) -> f32 {
        if self.bits == 1 {
            let sum: f64 = values.iter().map(|value| f64::from(value.abs())).sum();
            return (sum / values.len().max(1) as f64) as f32;
        }
        let full = Range::of(values).magnitude() / self.highest();
        if self.scale == WeightScale::Largest || !full.is_normal() {
            return full;
        }
        let candidates = (20..=100)
            .rev()
            .map(|percent| full * percent as f32 / 100.0);
        let scored = candidates.map(|scale| (self.error(values, scale), scale));
        let best = scored.reduce(|best, next| if next.0 < best.0 { next } else { best });
        best.map_or(full, |(_, scale)| scale)
    }

    fn error(self, values: &[f32], scale: f32) -> f64 {
        let error =
            |&value: &f32| f64::from(f32::from(self.code(value, scale)) * scale - value).powi(2);
        values.iter().map(error).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(bits: u8, granularity: Granularity, scale: WeightScale) -> WeightFormat {
        WeightFormat {
            bits,
            granularity,
            scale,
        }
    }

    #[test]
    fn activations_by_hand() {
        let spread = |min, max| Activations::Int8.spread(Range { min, max });
        // 2/255 is a little more in f32, so that -128 + 1 / (2/255) is a little below -0.5.
        assert_eq!(spread(-1.0, 1.0), QuantParams::per_tensor(2.0 / 255.0, -1));
        assert_eq!(spread(0.0, 6.0), QuantParams::per_tensor(6.0 / 255.0, -128));
        assert_eq!(spread(-2.55, 0.0), QuantParams::per_tensor(0.01, 127));
        assert_eq!(spread(0.0, 0.0), QuantParams::per_tensor(1.0, -128));
        let wide = Activations::Int16.spread(Range {
            min: -3.2767,
            max: 1.0,
        });
        assert_eq!(wide, QuantParams::per_tensor(1e-4, 0));
    }

    #[test]
    fn constants_get_the_nearest_code() {
        let quant = QuantParams::per_tensor(0.5, 3);
        let codes = to_codes(&[0.0, 0.75, -0.25, 1e9, -1e9], &quant, [-128, 127]);
        // 1.5 and -0.5 go to the even neighbours 2 and 0.
        assert_eq!(codes, [3, 5, 3, 127, -128]);
    }

    #[test]
    fn a_channel_has_its_own_scale() {
        let values = [1.0, -2.54, 0.5, 0.127, 0.001, -0.064];
        let format = format(8, Granularity::PerChannel, WeightScale::Largest);
        let first = Weights::quantize(&values, &Shape::from([2, 3]), 0, format, &[]);
        assert_eq!(first.codes, [50, -127, 25, 127, 1, -64]);
        assert_eq!(first.quant.scales, [0.02, 0.001]);
        let last = Weights::quantize(&values, &Shape::from([2, 3]), 1, format, &[0.0, 1.0, 0.0]);
        assert_eq!(last.quant.scales, [1.0 / 127.0, 1.0, 0.5 / 127.0]);
        assert_eq!(last.quant.axis, 1);
        assert_eq!(last.codes, [127, -3, 127, 16, 0, -16]);
    }

    #[test]
    fn one_scale_for_all() {
        let values = [1.0, -2.54, 0.5, 0.127, 0.0, -0.064];
        let format = format(8, Granularity::PerTensor, WeightScale::Largest);
        let weights = Weights::quantize(&values, &Shape::from([2, 3]), 0, format, &[]);
        assert_eq!(weights.codes, [50, -127, 25, 6, 0, -3]);
        assert_eq!(weights.quant, QuantParams::per_tensor(0.02, 0));
    }

    #[test]
    fn few_bits() {
        let values = [0.9, -0.5, 0.1, -0.3];
        let shape = Shape::from([1, 4]);
        let quantize = |bits, scale| {
            let format = format(bits, Granularity::PerChannel, scale);
            Weights::quantize(&values, &shape, 0, format, &[])
        };
        let one = quantize(1, WeightScale::Largest);
        assert_eq!(
            (one.codes, one.quant.scales),
            (vec![1, -1, 1, -1], vec![0.45])
        );
        let two = quantize(2, WeightScale::LeastError);
        assert_eq!(two.codes, [1, -1, 0, 0]);
        assert!((two.quant.scales[0] - 0.7).abs() < 0.01);
        assert_eq!(quantize(4, WeightScale::Largest).codes, [7, -4, 1, -2]);
        assert_eq!(quantize(16, WeightScale::Largest).codes[0], 32_767);
    }

    #[test]
    fn all_zero_weights_get_a_scale() {
        let format = format(8, Granularity::PerChannel, WeightScale::Largest);
        let weights = Weights::quantize(&[0.0; 4], &Shape::from([2, 2]), 0, format, &[0.25, 0.0]);
        assert_eq!(weights.quant.scales, [0.25, 1.0]);
        assert_eq!(weights.codes, [0; 4]);
    }
}
