//! Armv8.2 dot products (Cortex-A76): `SDOT` sums four products of int8 codes into each int32 lane, exactly.
//!
//! The intrinsic is not stable; the instruction is written as assembly.
#![allow(unsafe_code)]

use std::arch::aarch64::*;
use std::arch::{asm, is_aarch64_feature_detected};

use super::gemm::{GEMM_OVERREAD, Gemm, GemmKernel, Output};
use super::neon::{add_bias, requantize, store, store_sums};
use super::pack::{PackedWeights, Tile};

const MR: usize = 4;
const NR: usize = 16;
const KR: usize = 4;
/// Registers that hold 16 channels of a row.
const QUADS: usize = NR / 4;

pub const GEMMS: [GemmKernel; 1] = [GemmKernel {
    name: "i8_gemm_4x16c4_neon_dot",
    tile: Tile {
        mr: MR,
        nr: NR,
        kr: KR,
        offset: 0,
    },
    scratch_per_depth: 0,
    needs_no_minimum: false,
    run: |gemm| {
        assert!(is_aarch64_feature_detected!("dotprod"));
        // SAFETY: the assert above proves the feature.
        unsafe { gemm_4x16c4(gemm) }
    },
}];

/// Registers: 16 accumulate 4 rows x 16 channels; 4 hold 16 activations of each row; 4 the weights of a group of 4
/// depths for 16 channels.
#[target_feature(enable = "neon,dotprod")]
fn gemm_4x16c4(mut gemm: Gemm<'_>) {
    let weights = gemm.weights;
    let groups = weights.depth().div_ceil(KR);
    for first in (0..gemm.rows).step_by(MR) {
        let rows = MR.min(gemm.rows - first);
        let a: [&[i8]; MR] = std::array::from_fn(|row| {
            let at = (first + row.min(rows - 1)) * gemm.a_stride;
            &gemm.a[at..at + weights.depth() + GEMM_OVERREAD]
        });
        for (at, block) in gemm.blocks.clone().enumerate() {
            let acc = multiply(a, weights.block(block), groups);
            let channels = weights.channels_of(block..block + 1);
            for (row, &sums) in acc.iter().enumerate().take(rows) {
                let at = (first + row) * gemm.out_stride + at * NR;
                write(
                    &mut gemm.out,
                    weights,
                    (first + row, block),
                    sums,
                    at..at + channels,
                );
            }
        }
    }
}

/// Writes at most 16 channels of one row, from block `at.1` of the weights, to `range` of the output.
#[target_feature(enable = "neon,dotprod")]
#[inline]
fn write(
    output: &mut Output<'_>,
    weights: &PackedWeights,
    at: (usize, usize),
    sums: [int32x4_t; QUADS],
    range: std::ops::Range<usize>,
) {
    let (row, block) = at;
    for (half, start) in range.clone().step_by(8).enumerate() {
        let range = start..range.end.min(start + 8);
        let sums = [sums[2 * half], sums[2 * half + 1]];
        let sums = add_bias(sums, &weights.bias(block)[8 * half..]);
        match output {
            Output::Codes {
                out,
                row_terms,
                stage,
            } => {
                let term = match weights.has_row_term(block) {
                    true => row_terms[row],
                    false => 0,
                };
                let scales = &weights.scales(block)[8 * half..];
                store(requantize(sums, term, scales, *stage), &mut out[range]);
            }
            Output::Sums(out) => store_sums(sums, &mut out[range]),
        }
    }
}

/// Sums products of 4 rows and 16 channels over all groups of 4 depths. What `a` holds behind the depth meets weights
/// of 0.
#[target_feature(enable = "neon,dotprod")]
#[inline]
fn multiply(a: [&[i8]; MR], block: &[i8], groups: usize) -> [[int32x4_t; QUADS]; MR] {
    let whole = groups / 4;
    assert!(block.len() >= groups * NR * KR);
    assert!(a.iter().all(|row| row.len() >= 16 * groups.div_ceil(4)));
    let mut acc = [[vdupq_n_s32(0); QUADS]; MR];
    for step in 0..whole {
        let x = load_rows(a, step);
        let w = &block[step * 4 * NR * KR..];
        group::<0>(&mut acc, x, w);
        group::<1>(&mut acc, x, &w[NR * KR..]);
        group::<2>(&mut acc, x, &w[2 * NR * KR..]);
        group::<3>(&mut acc, x, &w[3 * NR * KR..]);
    }
    if whole * 4 < groups {
        let x = load_rows(a, whole);
        let w = &block[whole * 4 * NR * KR..];
        group::<0>(&mut acc, x, w);
        if whole * 4 + 1 < groups {
            group::<1>(&mut acc, x, &w[NR * KR..]);
        }
        if whole * 4 + 2 < groups {
            group::<2>(&mut acc, x, &w[2 * NR * KR..]);
        }
    }
    acc
}

/// 16 codes of each row.
#[target_feature(enable = "neon,dotprod")]
#[inline]
fn load_rows(a: [&[i8]; MR], step: usize) -> [int8x16_t; MR] {
    a.map(|row| {
        let codes = &row[16 * step..][..16];
        // SAFETY: `codes` has 16 bytes.
        unsafe { vld1q_s8(codes.as_ptr()) }
    })
}

/// Adds the products of one group of 4 depths: those that `LANE` of the rows' registers holds.
#[target_feature(enable = "neon,dotprod")]
#[inline]
fn group<const LANE: i32>(acc: &mut [[int32x4_t; QUADS]; MR], x: [int8x16_t; MR], w: &[i8]) {
    let w = &w[..NR * KR];
    for quad in 0..QUADS {
        // SAFETY: `w` has 64 bytes.
        let weights = unsafe { vld1q_s8(w.as_ptr().add(16 * quad)) };
        for row in 0..MR {
            acc[row][quad] = dot::<LANE>(acc[row][quad], weights, x[row]);
        }
    }
}

/// `acc[n] + sum_i weights[4 n + i] * x[4 LANE + i]`.
#[target_feature(enable = "neon,dotprod")]
#[inline]
fn dot<const LANE: i32>(acc: int32x4_t, weights: int8x16_t, x: int8x16_t) -> int32x4_t {
    let mut sum = acc;
    // SAFETY: the instruction is part of the enabled feature and touches registers only.
    unsafe {
        asm!(
            "sdot {sum:v}.4s, {weights:v}.16b, {x:v}.4b[{lane}]",
            sum = inout(vreg) sum,
            weights = in(vreg) weights,
            x = in(vreg) x,
            lane = const LANE,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}
