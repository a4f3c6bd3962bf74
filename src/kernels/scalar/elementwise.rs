//! Operators that look at one element at a time.

use crate::kernels::requant::{OutputStage, round_half_even};

/// Integer parameters of a quantized addition: XNNPACK's `qs8_vadd_minmax` (src/microparams-init.c).
///
/// `out = clamp(zo + ((a - za) * ma + (b - zb) * mb + 2^(shift-1)) >> shift)`, the larger multiplier in
/// `[2^20, 2^21]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddParams {
    pub(in crate::kernels) a_multiplier: i32,
    pub(in crate::kernels) b_multiplier: i32,
    /// Zero points and rounding in one addend.
    pub(in crate::kernels) bias: i32,
    pub(in crate::kernels) shift: u32,
    pub(in crate::kernels) stage: OutputStage,
}

impl AddParams {
    /// `None` if a ratio of scales lies outside `[2^-10, 2^8)`, where XNNPACK declines too.
    ///
    /// Inputs are `(scale, zero point)`; `subtract` negates b.
    pub fn new(
        a: (f32, i32),
        b: (f32, i32),
        subtract: bool,
        out_scale: f32,
        stage: OutputStage,
    ) -> Option<Self> {
        let ratios = [a.0 / out_scale, b.0 / out_scale];
        let largest = ratios[0].max(ratios[1]);
        if !(ratios.iter().all(|&ratio| ratio >= 1.0 / 1024.0) && largest < 256.0) {
            return None;
        }
        let exponent = (largest.to_bits() >> 23) as i32 - 127;
        let shift = (20 - exponent) as u32;
        let multiplier = |ratio: f32| {
            let scaled = f64::from(ratio) * f64::from(1u32 << shift.min(31));
            scaled.round_ties_even() as i32
        };
        let a_multiplier = multiplier(ratios[0]);
        let b_multiplier = if subtract {
            -multiplier(ratios[1])
        } else {
            multiplier(ratios[1])
        };
        let bias = (1i32 << (shift - 1))
            .wrapping_sub(a_multiplier.wrapping_mul(a.1))
            .wrapping_sub(b_multiplier.wrapping_mul(b.1));
        Some(Self {
            a_multiplier,
            b_multiplier,
            bias,
            shift,
            stage,
        })
    }
}

/// Quantized addition. `b` repeats along `a`; its length divides that of `a`, which is that of `out`.
#[inline]
pub fn add(params: &AddParams, a: &[i8], b: &[i8], out: &mut [i8]) {
    let low = i32::from(params.stage.min);
    let high = i32::from(params.stage.max);
    for (a, out) in a.chunks_exact(b.len()).zip(out.chunks_exact_mut(b.len())) {
        for ((&a, &b), out) in a.iter().zip(b).zip(out) {
            let acc = params
                .bias
                .wrapping_add(i32::from(a) * params.a_multiplier)
                .wrapping_add(i32::from(b) * params.b_multiplier);
            let code = (acc >> params.shift) + params.stage.zero_point;
            *out = code.clamp(low, high) as i8;
        }
    }
}

/// Parameters of a quantized product: XNNPACK's `qs8_vmul_minmax_fp32`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MulParams {
    pub a_zero_point: i32,
    pub b_zero_point: i32,
    /// `a scale * b scale / output scale`, in f32 and in this order.
    pub scale: f32,
    pub stage: OutputStage,
}

/// Quantized product, `stage((a - za) * (b - zb) * scale)`. `b` repeats as in [`add`].
#[inline]
pub fn mul(params: &MulParams, a: &[i8], b: &[i8], out: &mut [i8]) {
    for (a, out) in a.chunks_exact(b.len()).zip(out.chunks_exact_mut(b.len())) {
        for ((&a, &b), out) in a.iter().zip(b).zip(out) {
            let product =
                (i32::from(a) - params.a_zero_point) * (i32::from(b) - params.b_zero_point);
            *out = params.stage.requantize(product, params.scale);
        }
    }
}

/// The 256 results of an operator of one code; entry `code + 128`.
pub fn table(rule: impl Fn(i8) -> i8) -> Box<[i8; 256]> {
    let mut entries = Box::new([0; 256]);
    for (entry, code) in entries.iter_mut().zip(i8::MIN..=i8::MAX) {
        *entry = rule(code);
    }
    entries
}

/// Looks every code up.
pub fn apply_table(table: &[i8; 256], input: &[i8], out: &mut [i8]) {
    for (out, &code) in out.iter_mut().zip(input) {
        *out = table[usize::from((code as u8) ^ 0x80)];
    }
}

/// Real values to codes: `stage(x * (1 / scale))`, halves to even; NaN becomes the lowest code.
#[inline]
pub fn quantize(input: &[f32], out: &mut [i8], scale: f32, stage: OutputStage) {
    let reciprocal = 1.0 / scale;
    let (low, high) = stage.bounds();
    for (out, &x) in out.iter_mut().zip(input) {
        let clamped = (x * reciprocal).max(low).min(high);
        *out = (round_half_even(clamped) + stage.zero_point) as i8;
    }
}

/// Codes to real values: `(code - zero_point) * scale`.
#[inline]
pub fn dequantize(input: &[i8], out: &mut [f32], scale: f32, zero_point: i32) {
    for (out, &code) in out.iter_mut().zip(input) {
        *out = (i32::from(code) - zero_point) as f32 * scale;
    }
}

/// The greatest code of each row of `columns` codes, the first `skip` of the row aside; `skip` is below `columns`.
#[inline(always)]
pub fn row_maxima(codes: &[i8], columns: usize, skip: usize, out: &mut [i8]) {
    match (columns, skip) {
        (2, 0) => narrow_row_maxima::<2, 0>(codes, out),
        (2, 1) => narrow_row_maxima::<2, 1>(codes, out),
        (3, 0) => narrow_row_maxima::<3, 0>(codes, out),
        (3, 1) => narrow_row_maxima::<3, 1>(codes, out),
        (4, 0) => narrow_row_maxima::<4, 0>(codes, out),
        (4, 1) => narrow_row_maxima::<4, 1>(codes, out),
        _ => {
            for (row, out) in codes.chunks_exact(columns).zip(out) {
                *out = maximum(&row[skip..]);
            }
        }
    }
}

/// For sizes that the compiler knows, it takes many rows at a time.
#[inline(always)]
fn narrow_row_maxima<const COLUMNS: usize, const SKIP: usize>(codes: &[i8], out: &mut [i8]) {
    for (row, out) in codes.as_chunks::<COLUMNS>().0.iter().zip(out) {
        *out = row[SKIP..]
            .iter()
            .fold(i8::MIN, |best, &code| best.max(code));
    }
}

/// The greatest code, by lanes; the last lanes of a row overlap those before.
#[inline(always)]
fn maximum(codes: &[i8]) -> i8 {
    let Some(mut lanes) = codes.last_chunk::<16>().copied() else {
        return codes.iter().fold(i8::MIN, |best, &code| best.max(code));
    };
    for chunk in codes.as_chunks::<16>().0 {
        for (lane, &code) in lanes.iter_mut().zip(chunk) {
            *lane = code.max(*lane);
        }
    }
    lanes.iter().fold(i8::MIN, |best, &code| best.max(code))
}

/// Index of the largest code along an axis of `axis` elements that lie `inner` apart; the first of equals.
pub fn arg_max(input: &[i8], out: &mut [i32], axis: usize, inner: usize) {
    let groups = input
        .chunks_exact(axis * inner)
        .zip(out.chunks_exact_mut(inner));
    for (codes, out) in groups {
        for (lane, out) in out.iter_mut().enumerate() {
            let mut best = 0;
            for at in 1..axis {
                if codes[at * inner + lane] > codes[best * inner + lane] {
                    best = at;
                }
            }
            *out = best as i32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addition_by_hand() {
        let stage = OutputStage {
            zero_point: 1,
            min: -100,
            max: 100,
        };
        let params = AddParams::new((0.5, 10), (0.25, 0), false, 0.5, stage).expect("in range");
        assert_eq!(
            (params.a_multiplier, params.b_multiplier),
            (1 << 20, 1 << 19)
        );
        let mut out = [0; 4];
        // (20-10)*1 + 3*0.5 = 11.5 -> 12 (half up), + 1; (-128-10) + ... clamps; the second b is 127.
        add(&params, &[20, -128, 10, 127], &[3, 127], &mut out);
        assert_eq!(out, [13, -73, 3, 100]);
        let minus = AddParams::new((0.5, 10), (0.25, 0), true, 0.5, stage).expect("in range");
        add(&minus, &[20, 10, 20, 10], &[4, -4], &mut out);
        assert_eq!(out, [9, 3, 9, 3]);
        assert!(AddParams::new((1e-6, 0), (1.0, 0), false, 1.0, stage).is_none());
    }

    #[test]
    fn product_by_hand() {
        let params = MulParams {
            a_zero_point: 1,
            b_zero_point: 2,
            scale: 0.25,
            stage: OutputStage::full_range(-3),
        };
        let mut out = [0; 3];
        mul(&params, &[3, 5, -128], &[5, 4, 127], &mut out);
        // 6/4 = 1.5 -> 2; 8/4 = 2; saturates.
        assert_eq!(out, [-1, -1, -128]);
    }

    #[test]
    fn quantize_survives_what_is_not_a_number() {
        let mut out = [0; 5];
        let input = [0.75, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.25];
        quantize(&input, &mut out, 0.5, OutputStage::full_range(5));
        assert_eq!(out, [7, -128, 127, -128, 5]);
        let mut back = [0.0; 2];
        dequantize(&[7, 5], &mut back, 0.5, 5);
        assert_eq!(back, [1.0, 0.0]);
    }

    #[test]
    fn arg_max_takes_the_first_of_equals() {
        let mut out = [0; 2];
        arg_max(&[1, 9, 5, -3, 5, 9], &mut out, 3, 2);
        assert_eq!(out, [1, 0]);
    }

    #[test]
    fn maxima_of_rows_skip_the_background() {
        let mut out = [0; 2];
        row_maxima(&[9, -5, 3, 100, -7, -128], 3, 1, &mut out);
        assert_eq!(out, [3, -7]);
        for columns in [2, 3, 4, 5, 16, 17, 40, 91] {
            let mut codes = vec![-100; 2 * columns];
            codes[columns] = 50;
            codes[2 * columns - 1] = 40;
            row_maxima(&codes, columns, 1, &mut out);
            assert_eq!(out, [-100, 40]);
            row_maxima(&codes, columns, 0, &mut out);
            assert_eq!(out, [-100, 50]);
        }
    }

    #[test]
    fn tables_are_indexed_by_code() {
        let negate = table(|code| code.saturating_neg());
        let mut out = [0; 3];
        apply_table(&negate, &[-128, 0, 5], &mut out);
        assert_eq!(out, [127, 0, -5]);
    }
}
