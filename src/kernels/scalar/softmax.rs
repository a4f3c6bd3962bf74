//! Softmax over codes with a table of exponentials, as TFLite's optimized kernel does it
//! (tensorflow/lite/kernels/internal/optimized/optimized_ops.h, `Softmax` with a 256-entry lookup table).

use crate::kernels::requant::round_half_even;

/// `exp(-beta * scale * distance)` for every distance from the largest code of a row, and the output's quantization.
#[derive(Clone, Debug)]
pub struct SoftmaxTable {
    exponentials: Box<[f32; 256]>,
    out_scale: f32,
    out_zero_point: i32,
}

impl SoftmaxTable {
    /// For an input of `scale` and an output of `(scale, zero point)`.
    pub fn new(beta: f32, scale: f32, out: (f32, i32)) -> Self {
        let mut exponentials = Box::new([0.0; 256]);
        for (distance, entry) in exponentials.iter_mut().enumerate() {
            *entry = (-(scale * beta) * distance as f32).exp();
        }
        Self {
            exponentials,
            out_scale: out.0,
            out_zero_point: out.1,
        }
    }

    /// Normalizes each row of `depth` codes.
    pub fn apply(&self, depth: usize, input: &[i8], out: &mut [i8]) {
        let rows = input.chunks_exact(depth).zip(out.chunks_exact_mut(depth));
        for (codes, out) in rows {
            let largest = codes.iter().copied().max().unwrap_or(i8::MIN);
            let exponential = |code: i8| self.exponentials[usize::from(largest.abs_diff(code))];
            let sum: f32 = codes.iter().map(|&code| exponential(code)).sum();
            let inverse = 1.0 / (sum * self.out_scale);
            for (out, &code) in out.iter_mut().zip(codes) {
                let rounded = round_half_even(exponential(code) * inverse);
                *out = (rounded + self.out_zero_point).clamp(-128, 127) as i8;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_normalized_on_their_own() {
        let softmax = SoftmaxTable::new(1.0, 0.1, (1.0 / 256.0, -128));
        let mut out = [0; 4];
        softmax.apply(2, &[0, 0, 127, -128], &mut out);
        assert_eq!(out, [0, 0, 127, -128]);
        softmax.apply(4, &[10, 0, 0, 0], &mut out);
        // e / (e + 3) = 0.4754; 1 / (e + 3) = 0.1749.
        assert_eq!(out, [-6, -83, -83, -83]);
    }
}
