//! From int32 sums to int8 codes.
//!
//! Where the packer has proved that sums lie within 2^22 and scaled sums within int16, floats are made and rounded by
//! additions: a sum that starts at the bits of 1.5 * 2^23 is, read as a float, 1.5 * 2^23 more than the sum; and a
//! float to which 1.5 * 2^23 is added ends, halves to even, in the bits of the rounded integer. Both are one
//! instruction of two units, where a conversion is two of one unit.
//!
//! The bounds of a stage are integers, so to round, saturate and then clamp is the same as to clamp and then round.
#![allow(unsafe_code)]

use std::arch::aarch64::*;

use crate::kernels::requant::OutputStage;

/// How sums become codes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Path {
    /// Small results, zero point -128 and no bounds: after a ReLU.
    SmallUnsigned,
    /// Small results, no bounds.
    SmallSigned,
    /// Small results.
    Small,
    /// Any results.
    Any,
    /// Not at all: sums are stored.
    Sums,
}

impl Path {
    /// The shortest way for a stage.
    pub fn of(stage: OutputStage, has_small_results: bool) -> Self {
        let is_bounded = stage.min != i8::MIN || stage.max != i8::MAX;
        match (has_small_results, is_bounded, stage.zero_point) {
            (false, ..) => Self::Any,
            (true, true, _) => Self::Small,
            (true, false, -128) => Self::SmallUnsigned,
            (true, false, _) => Self::SmallSigned,
        }
    }

    /// What sums that go this way start at.
    pub fn start(self) -> i32 {
        match self {
            Self::Any | Self::Sums => 0,
            Self::SmallUnsigned | Self::SmallSigned | Self::Small => MAGIC.to_bits() as i32,
        }
    }
}

/// Const parameters that stand for the paths.
pub(super) const SMALL_UNSIGNED: u8 = Path::SmallUnsigned as u8;
pub(super) const SMALL_SIGNED: u8 = Path::SmallSigned as u8;
pub(super) const SMALL: u8 = Path::Small as u8;
pub(super) const ANY: u8 = Path::Any as u8;
pub(super) const SUMS: u8 = Path::Sums as u8;

/// The float whose lowest mantissa bit is worth 1, with room below it for negative numbers.
const MAGIC: f32 = 12_582_912.0;

/// Which channels lie in a pair of registers: the first four in the one and the next four in the other.
pub(super) const IN_TURN: u8 = 0;
/// Of eight channels the even ones in the one and the odd ones in the other.
pub(super) const EVEN_ODD: u8 = 1;

/// The rule of `requant.rs` for 16 channels, in two pairs of registers whose order `ORDER` tells.
#[target_feature(enable = "neon")]
#[inline]
pub(super) fn requantize<const PATH: u8, const ORDER: u8>(
    acc: [int32x4_t; 4],
    scales: [float32x4_t; 4],
    stage: OutputStage,
) -> int8x16_t {
    let words = match PATH {
        ANY => [
            saturate::<ORDER>([acc[0], acc[1]], [scales[0], scales[1]]),
            saturate::<ORDER>([acc[2], acc[3]], [scales[2], scales[3]]),
        ],
        _ => [
            round::<ORDER>([acc[0], acc[1]], [scales[0], scales[1]]),
            round::<ORDER>([acc[2], acc[3]], [scales[2], scales[3]]),
        ],
    };
    if PATH == SMALL_UNSIGNED {
        let codes = vqmovun_high_s16(vqmovun_s16(words[0]), words[1]);
        return vreinterpretq_s8_u8(veorq_u8(codes, vdupq_n_u8(0x80)));
    }
    let zero_point = vdupq_n_s16(stage.zero_point as i16);
    let low = vqaddq_s16(words[0], zero_point);
    let high = vqaddq_s16(words[1], zero_point);
    let codes = vqmovn_high_s16(vqmovn_s16(low), high);
    if PATH == SMALL_SIGNED {
        return codes;
    }
    vminq_s8(
        vmaxq_s8(codes, vdupq_n_s8(stage.min)),
        vdupq_n_s8(stage.max),
    )
}

/// 8 rounded results that fit int16, of sums that start at the bits of [`MAGIC`].
#[target_feature(enable = "neon")]
#[inline]
fn round<const ORDER: u8>(acc: [int32x4_t; 2], scales: [float32x4_t; 2]) -> int16x8_t {
    let magic = vdupq_n_f32(MAGIC);
    let [a, b] = acc;
    let a = vmulq_f32(vsubq_f32(vreinterpretq_f32_s32(a), magic), scales[0]);
    let b = vmulq_f32(vsubq_f32(vreinterpretq_f32_s32(b), magic), scales[1]);
    let a = vreinterpretq_s16_f32(vaddq_f32(a, magic));
    let b = vreinterpretq_s16_f32(vaddq_f32(b, magic));
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
