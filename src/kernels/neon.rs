//! Armv8.0 Advanced SIMD (Cortex-A53, A72), which every aarch64 target has.
//!
//! Two int8 products fit into int16 unless both factors of both are -128: with no weight of -128 the largest sum is
//! 2 * 128 * 127 = 32512. `SMULL` and `SMLAL` make it, `SADALP` widens it into int32. Weights with a -128 go through a
//! variant that widens every product.
#![allow(unsafe_code)]

use std::arch::aarch64::*;

use super::depthwise::{Depthwise, DepthwiseKernel, PackedTaps};
use super::gemm::{Gemm, GemmKernel, Output};
use super::pack::Tile;
use super::requant::OutputStage;
use super::scalar;

const MR: usize = 2;
const NR: usize = 8;
const KR: usize = 8;
const TILE: Tile = Tile {
    mr: MR,
    nr: NR,
    kr: KR,
    offset: 0,
};

pub const GEMMS: [GemmKernel; 2] = [
    GemmKernel {
        name: "i8_gemm_2x8c8_neon_mlal",
        tile: TILE,
        scratch_per_depth: 0,
        needs_no_minimum: true,
        run: gemm_2x8c8::<true>,
    },
    GemmKernel {
        name: "i8_gemm_2x8c8_neon_mull",
        tile: TILE,
        scratch_per_depth: 0,
        needs_no_minimum: false,
        run: gemm_2x8c8::<false>,
    },
];

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

/// Registers: v16..v31 accumulate 2 rows x 8 channels, four partial sums each; two hold 8 activations of each row, two
/// more those of the next group; one the weights of a channel; one the int16 products.
fn gemm_2x8c8<const PAIRS: bool>(mut gemm: Gemm<'_>) {
    let weights = gemm.weights;
    let groups = weights.depth().div_ceil(KR);
    for first in (0..gemm.rows).step_by(MR) {
        let rows = MR.min(gemm.rows - first);
        let a: [&[i8]; MR] = std::array::from_fn(|row| {
            let at = (first + row.min(rows - 1)) * gemm.a_stride;
            &gemm.a[at..at + groups * KR]
        });
        for (at, block) in gemm.blocks.clone().enumerate() {
            let acc = multiply::<PAIRS>(a, weights.block(block), groups);
            let channels = weights.channels_of(block..block + 1);
            for (row, &acc) in acc.iter().enumerate().take(rows) {
                let at = (first + row) * gemm.out_stride + at * NR;
                let sums = add_bias(reduce(acc), weights.bias(block));
                match &mut gemm.out {
                    Output::Codes {
                        out,
                        row_terms,
                        stage,
                    } => {
                        let term = match weights.has_row_term(block) {
                            true => row_terms[first + row],
                            false => 0,
                        };
                        let codes = requantize(sums, term, weights.scales(block), *stage);
                        store(codes, &mut out[at..][..channels]);
                    }
                    Output::Sums(out) => store_sums(sums, &mut out[at..][..channels]),
                }
            }
        }
    }
}

/// Adds the bias of 8 channels.
#[inline]
pub(super) fn add_bias(acc: [int32x4_t; 2], bias: &[i32]) -> [int32x4_t; 2] {
    assert!(bias.len() >= 8);
    // SAFETY: NEON is part of aarch64; the assert leaves 8 readable elements.
    unsafe {
        [0, 1].map(|half: usize| vaddq_s32(acc[half], vld1q_s32(bias.as_ptr().add(4 * half))))
    }
}

/// Sums products of 2 rows and 8 channels over all groups of the depth. What `a` holds behind the depth meets weights
/// of 0.
#[inline]
fn multiply<const PAIRS: bool>(
    a: [&[i8]; MR],
    block: &[i8],
    groups: usize,
) -> [[int32x4_t; NR]; MR] {
    assert!(block.len() >= groups * NR * KR && a.iter().all(|row| row.len() >= groups * KR));
    // SAFETY: NEON is part of aarch64; reads stay inside what the assert proves: group `g` reads 8 bytes at `g * 8` of
    // each row and 64 bytes at `g * 64` of the block.
    unsafe {
        let mut acc = [[vdupq_n_s32(0); NR]; MR];
        let mut group = 0;
        while PAIRS && group + 2 <= groups {
            let w = block.as_ptr().add(group * NR * KR);
            let x: [[int8x8_t; 2]; MR] = [
                [
                    vld1_s8(a[0].as_ptr().add(group * KR)),
                    vld1_s8(a[0].as_ptr().add(group * KR + KR)),
                ],
                [
                    vld1_s8(a[1].as_ptr().add(group * KR)),
                    vld1_s8(a[1].as_ptr().add(group * KR + KR)),
                ],
            ];
            for n in 0..NR {
                let first = vld1_s8(w.add(n * KR));
                let second = vld1_s8(w.add((NR + n) * KR));
                for row in 0..MR {
                    let products = vmlal_s8(vmull_s8(x[row][0], first), x[row][1], second);
                    acc[row][n] = vpadalq_s16(acc[row][n], products);
                }
            }
            group += 2;
        }
        while group < groups {
            let w = block.as_ptr().add(group * NR * KR);
            let x = [
                vld1_s8(a[0].as_ptr().add(group * KR)),
                vld1_s8(a[1].as_ptr().add(group * KR)),
            ];
            for n in 0..NR {
                let first = vld1_s8(w.add(n * KR));
                for row in 0..MR {
                    acc[row][n] = vpadalq_s16(acc[row][n], vmull_s8(x[row], first));
                }
            }
            group += 1;
        }
        acc
    }
}

/// Adds up the four partial sums of each channel.
#[inline]
fn reduce(acc: [int32x4_t; NR]) -> [int32x4_t; 2] {
    // SAFETY: NEON is part of aarch64.
    unsafe {
        [0, 4].map(|n: usize| {
            vpaddq_s32(
                vpaddq_s32(acc[n], acc[n + 1]),
                vpaddq_s32(acc[n + 2], acc[n + 3]),
            )
        })
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
    assert!(scales.len() >= NR);
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
    if out.len() >= NR {
        // SAFETY: the condition leaves 8 writable bytes.
        unsafe { vst1_s8(out.as_mut_ptr(), codes) }
    } else {
        let mut whole = [0i8; NR];
        // SAFETY: `whole` has 8 bytes.
        unsafe { vst1_s8(whole.as_mut_ptr(), codes) }
        out.copy_from_slice(&whole[..out.len()]);
    }
}

/// Stores as many sums as `out` is long, at most 8.
#[inline]
pub(super) fn store_sums(sums: [int32x4_t; 2], out: &mut [i32]) {
    let mut whole = [0i32; NR];
    let is_whole = out.len() >= NR;
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
