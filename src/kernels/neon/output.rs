//! What both kernels do with their sums: the rule of `requant.rs`, and stores.

use std::arch::aarch64::{
    float32x4_t, int8x8_t, int8x16_t, int16x8_t, int32x4_t, vld1_s8, vld1q_f32, vld1q_s16,
    vld1q_s32, vst1_s8, vst1q_lane_u32, vst1q_s8, vst1q_s32,
};

use super::registers::*;
use crate::kernels::requant::OutputStage;

/// An output stage in registers. `CLAMP`: its bounds are narrower than int8.
///
/// Scaling, rounding, saturating at int16, adding the zero point with saturation and narrowing with saturation gives the
/// codes that the rule gives, whose bounds are integers: clamping commutes with rounding.
#[derive(Clone, Copy)]
pub struct CodesStage<const CLAMP: bool> {
    pub zero_point: int16x8_t,
    pub min: int8x16_t,
    pub max: int8x16_t,
}

impl<const CLAMP: bool> CodesStage<CLAMP> {
    pub fn new(stage: OutputStage) -> Self {
        Self {
            zero_point: vdupq_n_s16(stage.zero_point as i16),
            min: vdupq_n_s8(stage.min),
            max: vdupq_n_s8(stage.max),
        }
    }

    /// The codes of 16 sums.
    #[inline(always)]
    pub fn codes(&self, sums: [int32x4_t; 4], scales: [float32x4_t; 4]) -> int8x16_t {
        let low = self.words([sums[0], sums[1]], [scales[0], scales[1]]);
        let high = self.words([sums[2], sums[3]], [scales[2], scales[3]]);
        let codes = vqmovn_high_s16(vqmovn_s16(low), high);
        match CLAMP {
            true => vminq_s8(vmaxq_s8(codes, self.min), self.max),
            false => codes,
        }
    }

    /// The codes of 8 sums.
    #[inline(always)]
    pub fn codes_of_8(&self, sums: [int32x4_t; 2], scales: [float32x4_t; 2]) -> int8x8_t {
        let codes = vqmovn_s16(self.words(sums, scales));
        match CLAMP {
            true => vmin_s8(vmax_s8(codes, vget_low_s8(self.min)), vget_low_s8(self.max)),
            false => codes,
        }
    }

    #[inline(always)]
    fn words(&self, sums: [int32x4_t; 2], scales: [float32x4_t; 2]) -> int16x8_t {
        let low = vqmovn_s32(round(sums[0], scales[0]));
        let words = vqmovn_high_s32(low, round(sums[1], scales[1]));
        vqaddq_s16(words, self.zero_point)
    }
}

#[inline(always)]
fn round(sum: int32x4_t, scale: float32x4_t) -> int32x4_t {
    vcvtnq_s32_f32(vmulq_f32(vcvtq_f32_s32(sum), scale))
}

/// Whether a stage needs more than the saturation of int8.
pub fn needs_clamp(stage: OutputStage) -> bool {
    stage.min > i8::MIN || stage.max < i8::MAX
}

/// The first 8 codes.
#[inline(always)]
pub fn load_8(codes: &[i8]) -> int8x8_t {
    let codes = &codes[..8];
    // SAFETY: the slice has 8 codes.
    unsafe { vld1_s8(codes.as_ptr()) }
}

/// The first 8 taps.
#[inline(always)]
pub fn load_8_i16(taps: &[i16]) -> int16x8_t {
    let taps = &taps[..8];
    // SAFETY: the slice has 8 taps.
    unsafe { vld1q_s16(taps.as_ptr()) }
}

/// Stores 8 codes.
#[inline(always)]
pub fn store_8(codes: int8x8_t, out: &mut [i8]) {
    let out = &mut out[..8];
    // SAFETY: the slice has 8 codes.
    unsafe { vst1_s8(out.as_mut_ptr(), codes) }
}

/// 4 elements of `values` from `at` on.
#[inline(always)]
pub fn load_i32(values: &[i32], at: usize) -> int32x4_t {
    let values = &values[at..at + 4];
    // SAFETY: the slice has 4 elements.
    unsafe { vld1q_s32(values.as_ptr()) }
}

/// 4 elements of `values` from `at` on.
#[inline(always)]
pub fn load_f32(values: &[f32], at: usize) -> float32x4_t {
    let values = &values[at..at + 4];
    // SAFETY: the slice has 4 elements.
    unsafe { vld1q_f32(values.as_ptr()) }
}

/// Stores 4 codes in each of `ROWS` rows, at most 4, that lie `stride` apart.
///
/// # Safety
/// Each row has room for 4 codes; the first is at `out`.
#[inline(always)]
pub unsafe fn store_4<const ROWS: usize>(codes: int8x16_t, out: *mut i8, stride: usize) {
    let words = vreinterpretq_u32_s8(codes);
    // SAFETY: the caller's contract.
    unsafe {
        vst1q_lane_u32::<0>(out.cast(), words);
        if ROWS > 1 {
            vst1q_lane_u32::<1>(out.add(stride).cast(), words);
        }
        if ROWS > 2 {
            vst1q_lane_u32::<2>(out.add(2 * stride).cast(), words);
        }
        if ROWS > 3 {
            vst1q_lane_u32::<3>(out.add(3 * stride).cast(), words);
        }
    }
}

/// Stores the first `channels` of the 4 codes of each of `rows` rows.
pub fn store_some(codes: int8x16_t, out: &mut [i8], stride: usize, rows: usize, channels: usize) {
    let mut whole = [0i8; 16];
    // SAFETY: `whole` has 16 bytes.
    unsafe { vst1q_s8(whole.as_mut_ptr(), codes) }
    for (row, codes) in whole.chunks_exact(4).enumerate().take(rows) {
        out[row * stride..][..channels].copy_from_slice(&codes[..channels]);
    }
}

/// Stores as many sums as `out` is long, at most 4.
pub fn store_sums(sums: int32x4_t, out: &mut [i32]) {
    let mut whole = [0i32; 4];
    // SAFETY: `whole` has 4 elements.
    unsafe { vst1q_s32(whole.as_mut_ptr(), sums) }
    out.copy_from_slice(&whole[..out.len()]);
}
