//! TFLite's fixed-point multiplication, for the operators that its built-in kernels compute with it
//! (tensorflow/lite/kernels/internal/common.h and quantization_util.cc; hard_swish.h).

/// A real number in `[0, 2^30)` as `multiplier / 2^31 * 2^exponent`, the multiplier in `[2^30, 2^31)` or 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuantizedMultiplier {
    multiplier: i32,
    exponent: i32,
}

impl QuantizedMultiplier {
    /// The nearest to `real`, which is finite and not negative.
    pub fn new(real: f64) -> Self {
        if real == 0.0 {
            return Self {
                multiplier: 0,
                exponent: 0,
            };
        }
        let mut exponent = 0;
        let mut fraction = real;
        while fraction >= 1.0 {
            fraction /= 2.0;
            exponent += 1;
        }
        while fraction < 0.5 {
            fraction *= 2.0;
            exponent -= 1;
        }
        let mut multiplier = (fraction * f64::from(1u32 << 31)).round() as i64;
        if multiplier == 1 << 31 {
            multiplier /= 2;
            exponent += 1;
        }
        if exponent < -31 {
            return Self {
                multiplier: 0,
                exponent: 0,
            };
        }
        Self {
            multiplier: multiplier as i32,
            exponent: exponent.min(30),
        }
    }

    /// `x * real`, rounded first at 31 bits and then at the shift, halves away from zero the second time.
    pub fn multiply(self, x: i32) -> i32 {
        let left = i64::from(x) << self.exponent.max(0);
        let left = left.clamp(i64::from(i32::MIN), i64::from(i32::MAX));
        let product = left * i64::from(self.multiplier);
        let nudge = if product >= 0 { 1 << 30 } else { 1 - (1 << 30) };
        let high = (product + nudge) / (1 << 31);
        divide_by_power_of_two(high, (-self.exponent).max(0))
    }

    /// `x * real` as TFLite's vectorized requantization rounds it: halves up both times.
    pub fn multiply_rounding_up(self, x: i32) -> i32 {
        let left = i64::from(x) << self.exponent.max(0);
        let high = (left * i64::from(self.multiplier) + (1 << 30)) >> 31;
        let shift = (-self.exponent).max(0);
        let rounding = if shift > 0 { 1i64 << (shift - 1) } else { 0 };
        ((high + rounding) >> shift) as i32
    }

    /// The multiplier in 16 bits.
    fn multiplier_16(self) -> i64 {
        if self.multiplier >= 0x7fff_8000 {
            return 32767;
        }
        (i64::from(self.multiplier) + (1 << 15)) >> 16
    }
}

/// Divides by `2^exponent`, halves away from zero.
fn divide_by_power_of_two(x: i64, exponent: i32) -> i32 {
    let mask = (1i64 << exponent) - 1;
    let threshold = (mask >> 1) + i64::from(x < 0);
    ((x >> exponent) + i64::from((x & mask) > threshold)) as i32
}

/// Hard swish of one code, `x * relu6(x + 3) / 6`, in TFLite's 16-bit fixed point. Quantizations are
/// `(scale, zero point)`.
pub fn hard_swish(code: i8, input: (f32, i32), out: (f32, i32)) -> i8 {
    let fine = input.0 / 128.0;
    let to_out = QuantizedMultiplier::new(f64::from(fine / out.0));
    let to_relu = QuantizedMultiplier::new(f64::from(fine / (3.0f32 / 32768.0)));
    let value = i64::from((i32::from(code) - input.1) * 128);
    let scaled = doubling_high_multiply(value, to_out.multiplier_16());
    let mut gate = value;
    if to_relu.exponent > 0 {
        gate = saturate_16(gate << (to_relu.exponent - 1));
    }
    gate = doubling_high_multiply(gate, to_relu.multiplier_16());
    if to_relu.exponent > 0 {
        gate = saturate_16(gate << 1);
    }
    if to_relu.exponent < 0 {
        gate = i64::from(divide_by_power_of_two(gate, -to_relu.exponent));
    }
    gate = (gate + 32768) >> 1;
    let product = gate * scaled / (1 << 15);
    let product = match to_out.exponent {
        exponent if exponent > 0 => saturate_16(product << exponent) as i32,
        exponent => divide_by_power_of_two(product, -exponent),
    };
    (product + out.1).clamp(-128, 127) as i8
}

fn saturate_16(x: i64) -> i64 {
    x.clamp(-32768, 32767)
}

/// `a * b / 2^15`, halves away from zero.
fn doubling_high_multiply(a: i64, b: i64) -> i64 {
    let product = a * b;
    let nudge = if product >= 0 { 1 << 14 } else { 1 - (1 << 14) };
    saturate_16((product + nudge) / (1 << 15))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multipliers_are_normalized() {
        let half = QuantizedMultiplier::new(0.5);
        assert_eq!((half.multiplier, half.exponent), (1 << 30, 0));
        let three = QuantizedMultiplier::new(3.0);
        assert_eq!((three.multiplier, three.exponent), (3 << 29, 2));
        assert_eq!(three.multiply(7), 21);
        assert_eq!(half.multiply(-3), -1, "the high product rounds -1.5 up");
        assert_eq!(half.multiply(3), 2);
        assert_eq!(QuantizedMultiplier::new(0.25).multiply(-3), -1);
        assert_eq!(half.multiply_rounding_up(-3), -1);
        assert_eq!(QuantizedMultiplier::new(0.0).multiply(9), 0);
    }

    #[test]
    fn hard_swish_follows_the_real_function() {
        let input = (0.05, 3);
        let out = (0.04, -110);
        for code in i8::MIN..=i8::MAX {
            let x = (f32::from(code) - 3.0) * 0.05;
            let real = x * (x + 3.0).clamp(0.0, 6.0) / 6.0;
            let expected = (real / 0.04 - 110.0).clamp(-128.0, 127.0);
            let got = f32::from(hard_swish(code, input, out));
            assert!((got - expected).abs() <= 1.01, "{code}: {got} {expected}");
        }
    }
}
