//! Row terms: sums of codes, as products with 1.
#![allow(unsafe_code)]

use std::arch::aarch64::*;

use super::vector::dot;

/// 16 zeros and 16 ones: the 16 from `n` on take the last `n` of 16 codes.
const LAST: [i8; 32] = {
    let mut ones = [0; 32];
    let mut at = 16;
    while at < 32 {
        ones[at] = 1;
        at += 1;
    }
    ones
};

/// [`crate::kernels::pack::row_terms`].
#[target_feature(enable = "neon,dotprod")]
pub(super) fn row_terms(
    a: &[i8],
    stride: usize,
    depth: usize,
    weight_zero_point: i32,
    terms: &mut [i32],
) {
    for (row, term) in terms.iter_mut().enumerate() {
        let sum = sum(&a[row * stride..][..depth]);
        *term = weight_zero_point.wrapping_mul(sum).wrapping_neg();
    }
}

#[target_feature(enable = "neon,dotprod")]
#[inline]
fn sum(codes: &[i8]) -> i32 {
    let ones = vdupq_n_s8(1);
    let mut sums = [vdupq_n_s32(0); 2];
    let (blocks, rest) = codes.as_chunks::<64>();
    for block in blocks {
        let (vectors, _) = block.as_chunks::<16>();
        sums[0] = dot(sums[0], load(&vectors[0]), ones);
        sums[1] = dot(sums[1], load(&vectors[1]), ones);
        sums[0] = dot(sums[0], load(&vectors[2]), ones);
        sums[1] = dot(sums[1], load(&vectors[3]), ones);
    }
    let (vectors, rest) = rest.as_chunks::<16>();
    for vector in vectors {
        sums[0] = dot(sums[0], load(vector), ones);
    }
    let mut sum = 0;
    match codes.last_chunk::<16>() {
        Some(last) if !rest.is_empty() => {
            if let Some(ones) = LAST[rest.len()..].first_chunk::<16>() {
                sums[1] = dot(sums[1], load(last), load(ones));
            }
        }
        _ => {
            for &code in rest {
                sum += i32::from(code);
            }
        }
    }
    sum + vaddvq_s32(vaddq_s32(sums[0], sums[1]))
}

#[target_feature(enable = "neon")]
#[inline]
fn load(codes: &[i8; 16]) -> int8x16_t {
    // SAFETY: there are 16 bytes.
    unsafe { vld1q_s8(codes.as_ptr()) }
}
