//! Armv8.0 Advanced SIMD (Cortex-A53, A72), which every aarch64 target has.
#![allow(unsafe_code)]

mod gemm;
mod output;
mod registers;
mod tile;

use std::arch::aarch64::*;

use super::depthwise::{Depthwise, DepthwiseKernel, PackedTaps};
use super::requant::OutputStage;
use super::scalar;

pub use gemm::GEMMS;

/// 3x3 and 5x5 over at least 8 channels; what else there is goes to the reference.
pub const DEPTHWISE: DepthwiseKernel = DepthwiseKernel {
    name: "i8_depthwise_8c_neon",
    block: LANES,
    pack: |_| PackedTaps::default(),
    run: |row| {
        let taps = row.weights.kernel[0] * row.weights.kernel[1];
        match taps {
            _ if row.channels < LANES => scalar::DEPTHWISE.run(row),
            9 => depthwise::<9>(row),
            25 => depthwise::<25>(row),
            _ => scalar::DEPTHWISE.run(row),
        }
    },
};

/// Adds the bias of 8 channels.
#[inline]
pub(super) fn add_bias(acc: [int32x4_t; 2], bias: &[i32]) -> [int32x4_t; 2] {
    assert!(bias.len() >= 8);
    // SAFETY: NEON is part of aarch64; the assert leaves 8 readable elements.
    unsafe {
        [0, 1].map(|half: usize| vaddq_s32(acc[half], vld1q_s32(bias.as_ptr().add(4 * half))))
    }
}

/// The rule of `requant.rs` for 8 channels.
#[inline]
pub(super) fn requantize(
    acc: [int32x4_t; 2],
    term: i32,
    scales: &[f32],
    stage: OutputStage,
) -> int8x8_t {
    assert!(scales.len() >= LANES);
    let (low, high) = stage.bounds();
    // SAFETY: NEON is part of aarch64; the assert leaves 8 readable scales.
    unsafe {
        let words = [0, 1].map(|half: usize| {
            let sum = vaddq_s32(acc[half], vdupq_n_s32(term));
            let scaled = vmulq_f32(vcvtq_f32_s32(sum), vld1q_f32(scales.as_ptr().add(4 * half)));
            let clamped = vminq_f32(vmaxq_f32(scaled, vdupq_n_f32(low)), vdupq_n_f32(high));
            vqmovn_s32(vcvtnq_s32_f32(clamped))
        });
        let words = vcombine_s16(words[0], words[1]);
        vqmovn_s16(vaddq_s16(words, vdupq_n_s16(stage.zero_point as i16)))
    }
}

/// Channels that the depthwise kernel makes at a time.
const LANES: usize = 8;

/// Blocks of 8 channels, in each all pixels of the row; the last block overlaps the one before. Codes are widened to
/// int16 and multiplied into two accumulators of four int32 lanes; the weights of a block stay in registers.
fn depthwise<const TAPS: usize>(row: Depthwise<'_>) {
    let channels = row.weights.channels;
    let columns = row.weights.kernel[1];
    let fill = [row.fill; LANES];
    for block in 0..row.channels.div_ceil(LANES) {
        let first = (block * LANES).min(row.channels - LANES);
        let channel = row.first_channel + first;
        let weights: [&[i16]; TAPS] =
            std::array::from_fn(|tap| &row.weights.taps[tap * channels + channel..][..LANES]);
        // SAFETY: NEON is part of aarch64; every slice of weights is 8 long.
        let weights = weights.map(|taps| unsafe { vld1q_s16(taps.as_ptr()) });
        let scales = &row.weights.scales[channel..];
        let bias = &row.weights.bias[channel..];
        for x in 0..row.pixels {
            // SAFETY: NEON is part of aarch64; every slice of codes is 8 long.
            let acc = unsafe {
                let mut acc = [vdupq_n_s32(0); 2];
                for tap in 0..TAPS {
                    let column = x * row.stride + tap % columns * row.dilation;
                    let column = column.wrapping_sub(row.padding);
                    let codes = match column < row.width {
                        true => &row.rows[tap / columns][column * row.input_stride + first..],
                        false => &fill[..],
                    };
                    let codes = vmovl_s8(vld1_s8(codes[..LANES].as_ptr()));
                    let (low, high) = (vget_low_s16(codes), vget_high_s16(codes));
                    acc[0] = vmlal_s16(acc[0], low, vget_low_s16(weights[tap]));
                    acc[1] = vmlal_s16(acc[1], high, vget_high_s16(weights[tap]));
                }
                acc
            };
            let codes = requantize(add_bias(acc, bias), 0, scales, row.stage);
            store(codes, &mut row.out[x * row.out_stride + first..][..LANES]);
        }
    }
}

/// Stores as many codes as `out` is long, at most 8.
#[inline]
pub(super) fn store(codes: int8x8_t, out: &mut [i8]) {
    if out.len() >= LANES {
        // SAFETY: the condition leaves 8 writable bytes.
        unsafe { vst1_s8(out.as_mut_ptr(), codes) }
    } else {
        let mut whole = [0i8; LANES];
        // SAFETY: `whole` has 8 bytes.
        unsafe { vst1_s8(whole.as_mut_ptr(), codes) }
        out.copy_from_slice(&whole[..out.len()]);
    }
}

/// Stores as many sums as `out` is long, at most 8.
#[inline]
pub(super) fn store_sums(sums: [int32x4_t; 2], out: &mut [i32]) {
    let mut whole = [0i32; LANES];
    let is_whole = out.len() >= LANES;
    let to = if is_whole { &mut *out } else { &mut whole };
    // SAFETY: NEON is part of aarch64; either slice has 8 elements.
    unsafe {
        vst1q_s32(to.as_mut_ptr(), sums[0]);
        vst1q_s32(to.as_mut_ptr().add(4), sums[1]);
    }
    if !is_whole {
        out.copy_from_slice(&whole[..out.len()]);
    }
}
