//! x86-64 with AVX2 and AVX-VNNI: `vpdpbusd` on 256 bits.
//!
//! It sums four products of an unsigned and a signed code into each int32 lane, exactly. Activations are the unsigned
//! ones: `a ^ 0x80` is `a + 128`, and what that adds to a sum is taken off its bias when the weights are packed.
#![allow(unsafe_code, clippy::needless_range_loop)]

use std::arch::x86_64::*;
use std::hint::black_box;

use super::avx2::{self, MR, NR, start, write};
use super::gemm::{Gemm, GemmKernel};
use super::pack::Tile;

/// Elements of the depth that one instruction sums.
const KR: usize = 4;

pub const GEMMS: [GemmKernel; 2] = [
    GemmKernel {
        name: "i8_gemm_6x16c4_avx_vnni",
        tile: Tile {
            mr: MR,
            nr: NR,
            kr: KR,
            offset: 128,
        },
        scratch_per_depth: 0,
        needs_no_minimum: false,
        run: |gemm| {
            assert!(is_available());
            // SAFETY: the assert above proves the features.
            unsafe { product(gemm) }
        },
    },
    avx2::GEMM,
];

/// Whether this CPU has what the kernels are compiled for.
pub fn is_available() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("avxvnni")
}

/// Tiles of [`MR`] rows, a smaller one for at most 3 rows that are left. A tile that would end behind the last row ends
/// with it, and makes some rows twice.
#[target_feature(enable = "avx2,avxvnni")]
fn product(mut gemm: Gemm<'_>) {
    const SMALL: usize = 3;
    // Were its value known, the compiler would flip signs before it broadcasts, and not broadcast while it loads.
    let sign = black_box(_mm256_set1_epi8(i8::MIN));
    let rows = gemm.rows;
    for (at, block) in gemm.blocks.clone().enumerate() {
        let mut row = 0;
        while row < rows {
            let at = (at, block);
            row += match rows - row {
                left if left > SMALL && rows >= MR => {
                    tile::<MR>(&mut gemm, row.min(rows - MR), at, sign)
                }
                _ if rows >= SMALL => tile::<SMALL>(&mut gemm, row.min(rows - SMALL), at, sign),
                _ => tile::<1>(&mut gemm, row, at, sign),
            };
        }
    }
}

/// `R` rows of a block, given as its position among those to make and its number. Returns `R`.
#[target_feature(enable = "avx2,avxvnni")]
fn tile<const R: usize>(
    gemm: &mut Gemm<'_>,
    first: usize,
    (at, block): (usize, usize),
    sign: __m256i,
) -> usize {
    let rows = &gemm.a[first * gemm.a_stride..];
    let groups = gemm.weights.depth().div_ceil(KR);
    let weights = gemm.weights.block(block);
    let start = start(gemm, first, block);
    let acc = multiply::<R>(rows, gemm.a_stride, weights, groups, start, sign);
    write::<R>(gemm, first, at, block, acc);
    R
}

/// Adds the products of `R` rows, `a_stride` apart, and 16 channels over all groups of the depth.
///
/// Registers: 12 accumulate 6 rows x 16 channels; two hold the weights of a group of 4 depths; one the broadcast group
/// of activations of a row; one what makes these unsigned.
#[target_feature(enable = "avx2,avxvnni")]
#[inline]
fn multiply<const R: usize>(
    a: &[i8],
    a_stride: usize,
    block: &[i8],
    groups: usize,
    mut acc: [[__m256i; 2]; R],
    sign: __m256i,
) -> [[__m256i; 2]; R] {
    assert!(block.len() >= groups * KR * NR && a.len() >= (R - 1) * a_stride + groups * KR);
    let (mut w, mut a) = (block.as_ptr(), a.as_ptr());
    for _ in 0..groups {
        // SAFETY: the assert above leaves `KR * NR` bytes at `w` and `KR` at `a` and each of the `R - 1` rows behind it,
        // for each of `groups` steps.
        unsafe {
            let low = _mm256_loadu_si256(w.cast());
            let high = _mm256_loadu_si256(w.add(KR * NR / 2).cast());
            for row in 0..R {
                let codes = a.add(row * a_stride).cast::<i32>().read_unaligned();
                let codes = _mm256_xor_si256(_mm256_set1_epi32(codes), sign);
                acc[row][0] = _mm256_dpbusd_avx_epi32(acc[row][0], codes, low);
                acc[row][1] = _mm256_dpbusd_avx_epi32(acc[row][1], codes, high);
            }
            w = w.add(KR * NR);
            a = a.add(KR);
        }
    }
    acc
}
