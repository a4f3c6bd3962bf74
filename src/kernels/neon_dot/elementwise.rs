//! Row terms and additions.
#![allow(unsafe_code)]

use std::arch::aarch64::*;

use super::vector::dot;
use crate::kernels::scalar::{self, AddParams};

const LANES: usize = 16;

/// 16 zeros and 16 ones: the 16 from `n` on take the last `n` of 16 codes.
const LAST: [i8; 2 * LANES] = {
    let mut ones = [0; 2 * LANES];
    let mut at = LANES;
    while at < ones.len() {
        ones[at] = 1;
        at += 1;
    }
    ones
};

/// [`crate::kernels::pack::row_terms`]: products with 1, four rows at a time.
#[target_feature(enable = "neon,dotprod")]
pub(super) fn row_terms(
    a: &[i8],
    stride: usize,
    depth: usize,
    weight_zero_point: i32,
    terms: &mut [i32],
) {
    if depth < LANES {
        return crate::kernels::pack::row_terms(a, stride, depth, weight_zero_point, terms);
    }
    assert!(terms.is_empty() || a.len() >= (terms.len() - 1) * stride + depth);
    let (fours, rest) = terms.as_chunks_mut::<4>();
    let factor = weight_zero_point.wrapping_neg();
    let mut first = a.as_ptr();
    for terms in fours {
        // SAFETY: the assert proves four rows of the depth, which is at least 16; there are four terms.
        unsafe {
            let sums = sums::<4>(first, stride, depth);
            let low = vpaddq_s32(sums[0], sums[1]);
            let sums = vpaddq_s32(low, vpaddq_s32(sums[2], sums[3]));
            vst1q_s32(terms.as_mut_ptr(), vmulq_n_s32(sums, factor));
        }
        first = first.wrapping_add(4 * stride);
    }
    for term in rest {
        // SAFETY: the assert proves another row.
        let [sums] = unsafe { sums::<1>(first, stride, depth) };
        *term = vaddvq_s32(sums).wrapping_mul(factor);
        first = first.wrapping_add(stride);
    }
}

/// The sum of each row, spread over four lanes.
///
/// # Safety
/// `ROWS` rows of `depth` codes, at least 16, can be read from `first` on, `stride` apart.
#[target_feature(enable = "neon,dotprod")]
#[inline]
unsafe fn sums<const ROWS: usize>(
    first: *const i8,
    stride: usize,
    depth: usize,
) -> [int32x4_t; ROWS] {
    let mut sums = [vdupq_n_s32(0); ROWS];
    let ones = vdupq_n_s8(1);
    let rest = depth % LANES;
    // SAFETY: the caller vouches for the rows; `LAST` has 16 more elements than `rest` can be.
    unsafe {
        for at in (0..depth - rest).step_by(LANES) {
            for row in 0..ROWS {
                let codes = vld1q_s8(first.add(row * stride + at));
                sums[row] = dot(sums[row], codes, ones);
            }
        }
        if rest != 0 {
            let ones = vld1q_s8(LAST.as_ptr().add(rest));
            for row in 0..ROWS {
                let codes = vld1q_s8(first.add(row * stride + depth - LANES));
                sums[row] = dot(sums[row], codes, ones);
            }
        }
    }
    sums
}

/// [`scalar::add`]. With a shift of at least 16, the upper halves of the sums are narrowed to int16 first and shifted
/// then: both round down.
#[target_feature(enable = "neon,dotprod")]
pub(super) fn add(params: &AddParams, a: &[i8], b: &[i8], out: &mut [i8]) {
    let Some(bias) = short_bias(params).filter(|_| b.len() >= LANES) else {
        return scalar::add(params, a, b, out);
    };
    for (a, out) in a.chunks_exact(b.len()).zip(out.chunks_exact_mut(b.len())) {
        let (a, a_rest) = a.as_chunks::<LANES>();
        let (b, b_rest) = b.as_chunks::<LANES>();
        let (out, out_rest) = out.as_chunks_mut::<LANES>();
        for ((a, b), out) in a.iter().zip(b).zip(out) {
            // SAFETY: each is 16 long.
            unsafe {
                let codes = add_16(params, bias, vld1q_s8(a.as_ptr()), vld1q_s8(b.as_ptr()));
                vst1q_s8(out.as_mut_ptr(), codes);
            }
        }
        if !b_rest.is_empty() {
            scalar::add(params, a_rest, b_rest, out_rest);
        }
    }
}

/// The addend with the output's zero point; `None` if sums could overflow or the shift is below 16.
fn short_bias(params: &AddParams) -> Option<i32> {
    let reach = [params.a_multiplier, params.b_multiplier].map(|m| i64::from(m).abs() * 128);
    let zero_point = i64::from(params.stage.zero_point) << params.shift;
    let furthest = reach[0] + reach[1] + i64::from(params.bias).abs() + zero_point.abs();
    let bias = i64::from(params.bias) + zero_point;
    (params.shift >= 16 && furthest < 1 << 31).then_some(bias as i32)
}

#[target_feature(enable = "neon,dotprod")]
#[inline]
fn add_16(params: &AddParams, bias: i32, a: int8x16_t, b: int8x16_t) -> int8x16_t {
    let low = add_8(
        params,
        bias,
        vmovl_s8(vget_low_s8(a)),
        vmovl_s8(vget_low_s8(b)),
    );
    let high = add_8(params, bias, vmovl_high_s8(a), vmovl_high_s8(b));
    let codes = vqmovn_high_s16(vqmovn_s16(low), high);
    let codes = vmaxq_s8(codes, vdupq_n_s8(params.stage.min));
    vminq_s8(codes, vdupq_n_s8(params.stage.max))
}

#[target_feature(enable = "neon,dotprod")]
#[inline]
fn add_8(params: &AddParams, bias: i32, a: int16x8_t, b: int16x8_t) -> int16x8_t {
    let bias = vdupq_n_s32(bias);
    let products = vmulq_n_s32(vmovl_s16(vget_low_s16(a)), params.a_multiplier);
    let b_low = vmovl_s16(vget_low_s16(b));
    let low = vmlaq_n_s32(products, b_low, params.b_multiplier);
    let products = vmulq_n_s32(vmovl_high_s16(a), params.a_multiplier);
    let high = vmlaq_n_s32(products, vmovl_high_s16(b), params.b_multiplier);
    let halves = vaddhn_high_s32(vaddhn_s32(low, bias), high, bias);
    vshlq_s16(halves, vdupq_n_s16(16 - params.shift as i16))
}
