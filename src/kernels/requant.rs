//! The one rounding rule: how an int32 accumulator becomes an int8 code.
//!
//! `code = clamp(round_half_even(acc as f32 * scale)) + zero_point`, the clamp in f32 before the zero point is added.
//! It is the rule of XNNPACK's `*_fp32` kernels (src/xnnpack/requantization-stubs.h, `xnn_qs8_requantize_fp32`), with
//! the bounds widened or narrowed by the fused activation.

/// Zero point and bounds of an int8 result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputStage {
    /// In `-128..=127`.
    pub zero_point: i32,
    /// Smallest code; not above `max`.
    pub min: i8,
    /// Largest code.
    pub max: i8,
}

impl OutputStage {
    /// No activation: every code may occur.
    pub fn full_range(zero_point: i32) -> Self {
        Self {
            zero_point,
            min: i8::MIN,
            max: i8::MAX,
        }
    }

    /// The bounds relative to the zero point, as the kernels clamp.
    pub fn bounds(&self) -> (f32, f32) {
        let low = i32::from(self.min) - self.zero_point;
        let high = i32::from(self.max) - self.zero_point;
        (low as f32, high as f32)
    }

    /// Applies the rule to one accumulator. `scale` is finite and above 0.
    #[inline(always)]
    pub fn requantize(&self, acc: i32, scale: f32) -> i8 {
        let (low, high) = self.bounds();
        let clamped = (acc as f32 * scale).max(low).min(high);
        (round_half_even(clamped) + self.zero_point) as i8
    }
}

/// Rounds to the nearest integer, halves to even, for `|x| < 2^22`: adding 1.5 * 2^23 leaves the integer in the low
/// bits of the mantissa. Exact in the default rounding mode, and every compiler vectorizes it.
#[inline(always)]
pub fn round_half_even(x: f32) -> i32 {
    const MAGIC: f32 = 12_582_912.0;
    (x + MAGIC).to_bits().wrapping_sub(MAGIC.to_bits()) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_go_to_even() {
        for (x, expected) in [
            (0.5, 0),
            (1.5, 2),
            (2.5, 2),
            (-0.5, 0),
            (-1.5, -2),
            (-2.5, -2),
            (254.500_02, 255),
            (-0.499, 0),
        ] {
            assert_eq!(round_half_even(x), expected, "{x}");
            assert_eq!(round_half_even(x), x.round_ties_even() as i32, "{x}");
        }
    }

    #[test]
    fn bounds_hold_before_the_zero_point_is_added() {
        let stage = OutputStage {
            zero_point: -10,
            min: -10,
            max: 100,
        };
        assert_eq!(stage.requantize(-1000, 1.0), -10);
        assert_eq!(stage.requantize(i32::MAX, 1.0), 100);
        assert_eq!(stage.requantize(5, 0.5), -8);
        assert_eq!(stage.requantize(7, 0.5), -6);
    }
}
