//! From int32 sums to int8 codes.
//!
//! A conversion between int32 and float takes one of the two vector units twice; where the packer has proved that sums
//! are small and scaled sums lie within 32,000, additions do the same:
//!
//! - A sum within 2^22 that starts at the bits of 1.5 * 2^23 is, read as a float, 1.5 * 2^23 more than the sum.
//! - A sum in `0..2^23` that starts at the bits of 2^23 is, read as a float, 2^23 more than the sum, and 2^23 * scale
//!   is exact, so one fused `float * scale - 2^23 * scale` is the scaled sum, rounded once. Of a negative sum it makes
//!   something negative and not further from 0, which a ReLU takes for 0 all the same.
//! - A float to which 1.5 * 2^23 is added ends in the bits of the integer that it rounds to, halves to even. An even
//!   zero point can be added with it.
//!
//! The bounds of a stage are integers, so to round, saturate and then clamp is the same as to clamp and then round.
#![allow(unsafe_code)]

use std::arch::aarch64::*;

use crate::kernels::requant::OutputStage;

/// How sums become codes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Path {
    /// Small results, zero point and lower bound -128, upper bound 127: after a ReLU.
    Relu,
    /// Small results, an even zero point, all codes.
    Even,
    /// Small results, an odd zero point, all codes.
    Odd,
    /// Small results.
    Small,
    /// Any results.
    Any,
    /// Not at all: sums are stored.
    Sums,
}

impl Path {
    /// The shortest way for a stage. `furthest_sum` as of
    /// [`PackedWeights::furthest_sum`](crate::kernels::pack::PackedWeights::furthest_sum).
    pub fn of(stage: OutputStage, furthest_sum: u32) -> Self {
        let has_all_codes = stage.min == i8::MIN && stage.max == i8::MAX;
        match stage.zero_point {
            -128 if has_all_codes && furthest_sum < 1 << 23 => Self::Relu,
            _ if furthest_sum >= 1 << 22 => Self::Any,
            zero_point if has_all_codes && zero_point % 2 == 0 => Self::Even,
            _ if has_all_codes => Self::Odd,
            _ => Self::Small,
        }
    }

    /// The shortest way that blocks of less than 16 channels and those with row terms can go.
    pub fn of_any_block(furthest_sum: u32) -> Self {
        match furthest_sum < 1 << 22 {
            true => Self::Small,
            false => Self::Any,
        }
    }

    /// What sums that go this way start at, beside their bias.
    pub fn start(self) -> i32 {
        match self {
            Self::Any | Self::Sums => 0,
            Self::Relu => RELU_MAGIC.to_bits() as i32,
            Self::Even | Self::Odd | Self::Small => MAGIC.to_bits() as i32,
        }
    }
}

/// What [`requantize`] adds to a float that starts at that of [`Path::Relu`].
pub(super) fn relu_offset(scale: f32) -> f32 {
    -RELU_MAGIC * scale
}

/// Const parameters that stand for the paths.
pub(super) const RELU: u8 = Path::Relu as u8;
pub(super) const EVEN: u8 = Path::Even as u8;
pub(super) const ODD: u8 = Path::Odd as u8;
pub(super) const SMALL: u8 = Path::Small as u8;
pub(super) const ANY: u8 = Path::Any as u8;
pub(super) const SUMS: u8 = Path::Sums as u8;

/// The float whose lowest mantissa bit is worth 1, with room below it for negative numbers.
const MAGIC: f32 = 12_582_912.0;

/// The smallest float whose lowest mantissa bit is worth 1.
const RELU_MAGIC: f32 = 8_388_608.0;

/// Which channels lie in a pair of registers: the first four in the one and the next four in the other.
pub(super) const IN_TURN: u8 = 0;
/// Of eight channels the even ones in the one and the odd ones in the other.
pub(super) const EVEN_ODD: u8 = 1;

/// The rule of `requant.rs` for 16 channels, in two pairs of registers whose order `ORDER` tells. `offsets` are
/// [`relu_offset`]s, read on [`Path::Relu`] only.
#[target_feature(enable = "neon")]
#[inline]
pub(super) fn requantize<const PATH: u8, const ORDER: u8>(
    acc: [int32x4_t; 4],
    scales: [float32x4_t; 4],
    offsets: [float32x4_t; 4],
    stage: OutputStage,
) -> int8x16_t {
    if PATH == ANY {
        let low = saturate::<ORDER>([acc[0], acc[1]], [scales[0], scales[1]]);
        let high = saturate::<ORDER>([acc[2], acc[3]], [scales[2], scales[3]]);
        return clamp(low, high, stage);
    }
    let mut reals = offsets;
    for quad in 0..4 {
        let sum = vreinterpretq_f32_s32(acc[quad]);
        reals[quad] = match PATH {
            RELU => vfmaq_f32(offsets[quad], sum, scales[quad]),
            _ => vmulq_f32(vsubq_f32(sum, vdupq_n_f32(MAGIC)), scales[quad]),
        };
    }
    let magic = match PATH {
        RELU => vdupq_n_f32(MAGIC - 128.0),
        EVEN => vdupq_n_f32(MAGIC + stage.zero_point as f32),
        _ => vdupq_n_f32(MAGIC),
    };
    let low = round::<ORDER>([reals[0], reals[1]], magic);
    let high = round::<ORDER>([reals[2], reals[3]], magic);
    match PATH {
        RELU | EVEN => vqmovn_high_s16(vqmovn_s16(low), high),
        ODD => add_zero_point(low, high, stage),
        _ => clamp(low, high, stage),
    }
}

/// Adds the zero point and clamps.
#[target_feature(enable = "neon")]
#[inline]
fn clamp(low: int16x8_t, high: int16x8_t, stage: OutputStage) -> int8x16_t {
    let codes = vmaxq_s8(add_zero_point(low, high, stage), vdupq_n_s8(stage.min));
    vminq_s8(codes, vdupq_n_s8(stage.max))
}

#[target_feature(enable = "neon")]
#[inline]
fn add_zero_point(low: int16x8_t, high: int16x8_t, stage: OutputStage) -> int8x16_t {
    let zero_point = vdupq_n_s16(stage.zero_point as i16);
    let low = vqmovn_s16(vqaddq_s16(low, zero_point));
    vqmovn_high_s16(low, vqaddq_s16(high, zero_point))
}

/// 8 rounded results that fit int16.
#[target_feature(enable = "neon")]
#[inline]
fn round<const ORDER: u8>(reals: [float32x4_t; 2], magic: float32x4_t) -> int16x8_t {
    let a = vreinterpretq_s16_f32(vaddq_f32(reals[0], magic));
    let b = vreinterpretq_s16_f32(vaddq_f32(reals[1], magic));
    match ORDER {
        EVEN_ODD => vtrn1q_s16(a, b),
        _ => vuzp1q_s16(a, b),
    }
}

/// 8 rounded results, saturated to int16.
#[target_feature(enable = "neon")]
#[inline]
fn saturate<const ORDER: u8>(acc: [int32x4_t; 2], scales: [float32x4_t; 2]) -> int16x8_t {
    let [a, b] = acc;
    let a = vcvtnq_s32_f32(vmulq_f32(vcvtq_f32_s32(a), scales[0]));
    let b = vcvtnq_s32_f32(vmulq_f32(vcvtq_f32_s32(b), scales[1]));
    let in_order = vqmovn_high_s32(vqmovn_s32(a), b);
    match ORDER {
        EVEN_ODD => vzip1q_s16(in_order, vextq_s16::<4>(in_order, in_order)),
        _ => in_order,
    }
}

/// Stores the first `count` codes, at most 16.
///
/// # Safety
/// `count` bytes can be written at `to`.
#[target_feature(enable = "neon")]
#[inline]
pub(super) unsafe fn store(codes: int8x16_t, to: *mut i8, count: usize) {
    // SAFETY: the caller vouches for `count` bytes.
    unsafe {
        match count {
            16.. => vst1q_s8(to, codes),
            8 => vst1_s8(to, vget_low_s8(codes)),
            _ => {
                let mut whole = [0i8; 16];
                vst1q_s8(whole.as_mut_ptr(), codes);
                std::ptr::copy_nonoverlapping(whole.as_ptr(), to, count);
            }
        }
    }
}

/// Stores the first `count` sums, at most 16.
///
/// # Safety
/// `count` elements can be written at `to`.
#[target_feature(enable = "neon")]
#[inline]
pub(super) unsafe fn store_sums(sums: [int32x4_t; 4], to: *mut i32, count: usize) {
    let mut whole = [0i32; 16];
    // SAFETY: the caller vouches for `count` elements; `whole` has 16.
    unsafe {
        let at = if count == 16 { to } else { whole.as_mut_ptr() };
        for (quad, &sums) in sums.iter().enumerate() {
            vst1q_s32(at.add(4 * quad), sums);
        }
        if count != 16 {
            std::ptr::copy_nonoverlapping(whole.as_ptr(), to, count);
        }
    }
}
