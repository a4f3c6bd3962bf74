//! What both kernels do with their sums: the rule of `requant.rs`.

use std::arch::aarch64::{
    float32x4_t, int8x8_t, int8x16_t, int16x8_t, int32x4_t, vld1_s8, vld1q_f32, vld1q_s8,
    vld1q_s16, vld1q_s32, vst1_s8, vst1q_s32,
};

use super::registers::*;
use crate::kernels::requant::OutputStage;

/// An output stage in registers.
///
/// Scaling, rounding, saturating at int16, adding the zero point with saturation, narrowing with saturation and clamping
/// gives the codes that the rule gives, whose bounds are integers: to clamp and then round is the same.
#[derive(Clone, Copy)]
pub struct CodesStage {
    pub zero_point: int16x8_t,
    pub min: int8x16_t,
    pub max: int8x16_t,
}

impl CodesStage {
    pub fn new(stage: OutputStage) -> Self {
        Self {
            zero_point: vdupq_n_s16(stage.zero_point as i16),
            min: vdupq_n_s8(stage.min),
            max: vdupq_n_s8(stage.max),
        }
    }

    /// The codes of 8 sums.
    #[inline(always)]
    pub fn codes_of_8(&self, sums: [int32x4_t; 2], scales: [float32x4_t; 2]) -> int8x8_t {
        let low = vqmovn_s32(round(sums[0], scales[0]));
        let words = vqmovn_high_s32(low, round(sums[1], scales[1]));
        let codes = vqmovn_s16(vqaddq_s16(words, self.zero_point));
        let (min, max) = (vget_low_s8(self.min), vget_low_s8(self.max));
        vmin_s8(vmax_s8(codes, min), max)
    }
}

#[inline(always)]
fn round(sum: int32x4_t, scale: float32x4_t) -> int32x4_t {
    vcvtnq_s32_f32(vmulq_f32(vcvtq_f32_s32(sum), scale))
}

/// How assembly makes codes of sums.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// For results that fit int16 and an even zero point: adding 1.5 * 2^23 and the zero point to a float leaves, in its
    /// low bits, the integer that it rounds to, halves to even, and the zero point added. All codes occur.
    Even,
    /// For a zero point of -128, after a ReLU: narrowing to uint8 clamps, and its highest bit is flipped. All codes
    /// occur.
    Relu,
    /// As `Even`, and then clamped.
    EvenBounded,
    /// As [`CodesStage`] does it.
    Any,
}

impl Path {
    /// The shortest way for a stage; `has_small_results`: whether sums times their scales lie within 32,000 of 0.
    pub fn of(stage: OutputStage, has_small_results: bool) -> Self {
        let has_all_codes = stage.min == i8::MIN && stage.max == i8::MAX;
        match has_small_results && stage.zero_point % 2 == 0 {
            true if has_all_codes => Self::Even,
            true => Self::EvenBounded,
            false if has_all_codes && stage.zero_point == -128 => Self::Relu,
            false => Self::Any,
        }
    }

    /// What this way adds to floats, bytes or words, to fill a register with.
    pub fn addend(self, stage: OutputStage) -> u32 {
        let word = u32::from(stage.zero_point as u16);
        match self {
            Self::Even | Self::EvenBounded => (12_582_912.0 + stage.zero_point as f32).to_bits(),
            Self::Relu => 0x8080_8080,
            Self::Any => word << 16 | word,
        }
    }
}

/// The first 16 codes.
#[inline(always)]
pub fn load_16(codes: &[i8]) -> int8x16_t {
    let codes = &codes[..16];
    // SAFETY: the slice has 16 codes.
    unsafe { vld1q_s8(codes.as_ptr()) }
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

/// Stores as many codes as `out` is long, at most 8.
pub fn store_codes(codes: int8x8_t, out: &mut [i8]) {
    let mut whole = [0; 8];
    store_8(codes, &mut whole);
    out.copy_from_slice(&whole[..out.len()]);
}

/// Stores as many sums as `out` is long, at most 4.
pub fn store_sums(sums: int32x4_t, out: &mut [i32]) {
    let mut whole = [0i32; 4];
    // SAFETY: `whole` has 4 elements.
    unsafe { vst1q_s32(whole.as_mut_ptr(), sums) }
    out.copy_from_slice(&whole[..out.len()]);
}
