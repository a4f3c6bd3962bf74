//! x86-64 with AVX2.
//!
//! `vpmaddwd` on codes widened to int16 is exact: no pair of products overflows int32. (`vpmaddubsw` would saturate.)
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::pack::Tile;
use super::requant::OutputStage;
use super::{Gemm, GemmKernel, Output};

const MR: usize = 4;
const NR: usize = 16;

pub const GEMMS: [GemmKernel; 1] = [GemmKernel {
    name: "i8_gemm_4x16c2_avx2",
    tile: Tile {
        mr: MR,
        nr: NR,
        kr: 2,
    },
    scratch_per_depth: 2 * MR,
    needs_no_minimum: false,
    run: |gemm| {
        assert!(is_x86_feature_detected!("avx2"));
        // SAFETY: the assert above proves the feature.
        unsafe { gemm_4x16c2(gemm) }
    },
}];

/// Registers: ymm0..7 accumulate 4 rows x 16 channels; two hold the widened weights of a pair of depths; one the
/// broadcast pair of activations of a row.
#[target_feature(enable = "avx2")]
fn gemm_4x16c2(mut gemm: Gemm<'_>) {
    let weights = gemm.weights;
    let depth = weights.depth();
    let pairs = depth.div_ceil(2);
    let row_bytes = 2 * depth.next_multiple_of(16);
    for first in (0..gemm.rows).step_by(MR) {
        let rows = MR.min(gemm.rows - first);
        for row in 0..MR {
            let source = &gemm.a[(first + row.min(rows - 1)) * gemm.a_stride..]
                [..depth + super::GEMM_OVERREAD];
            let target = &mut gemm.scratch[row * row_bytes..][..row_bytes];
            widen_row(source, depth, target);
        }
        let pair_rows: [&[i8]; MR] =
            std::array::from_fn(|row| &gemm.scratch[row * row_bytes..][..4 * pairs]);
        for block in 0..weights.channels().div_ceil(NR) {
            let acc = multiply(pair_rows, weights.block(block), pairs);
            let channels = NR.min(weights.channels() - block * NR);
            for (row, &sums) in acc.iter().enumerate().take(rows) {
                let at = (first + row) * gemm.out_stride + block * NR;
                match &mut gemm.out {
                    Output::Codes {
                        out,
                        row_terms,
                        stage,
                    } => {
                        let term = row_terms.get(first + row).copied().unwrap_or(0);
                        let (bias, scales) = (weights.bias(block), weights.scales(block));
                        let codes = requantize(sums, term, bias, scales, *stage);
                        store(codes, &mut out[at..][..channels]);
                    }
                    Output::Sums(out) => store_sums(sums, &mut out[at..][..channels]),
                }
            }
        }
    }
}

/// Writes `depth` codes as int16 into `target`; the rest of the last 16 elements becomes 0.
#[target_feature(enable = "avx2")]
fn widen_row(source: &[i8], depth: usize, target: &mut [i8]) {
    for (group, target) in target.chunks_exact_mut(32).enumerate() {
        let wide = _mm256_cvtepi8_epi16(load128(&source[group * 16..]));
        store256(target, wide);
    }
    target[2 * depth..].fill(0);
}

/// Sums products of 4 rows and 16 channels over all pairs of the depth.
#[target_feature(enable = "avx2")]
#[inline]
fn multiply(rows: [&[i8]; MR], block: &[i8], pairs: usize) -> [[__m256i; 2]; MR] {
    assert!(block.len() >= pairs * 2 * NR && rows.iter().all(|row| row.len() >= 4 * pairs));
    let mut acc = [[_mm256_setzero_si256(); 2]; MR];
    let mut w = block.as_ptr();
    let mut a = rows.map(<[i8]>::as_ptr);
    for _ in 0..pairs {
        // SAFETY: the assert above leaves `2 * NR` bytes at `w` and 4 at each of `a` for each of `pairs` steps.
        unsafe {
            let low = _mm256_cvtepi8_epi16(_mm_loadu_si128(w.cast()));
            let high = _mm256_cvtepi8_epi16(_mm_loadu_si128(w.add(NR).cast()));
            for row in 0..MR {
                let pair = _mm256_set1_epi32(a[row].cast::<i32>().read_unaligned());
                acc[row][0] = _mm256_add_epi32(acc[row][0], _mm256_madd_epi16(pair, low));
                acc[row][1] = _mm256_add_epi32(acc[row][1], _mm256_madd_epi16(pair, high));
                a[row] = a[row].add(4);
            }
            w = w.add(2 * NR);
        }
    }
    acc
}

/// The rule of `requant.rs` for 16 channels.
#[target_feature(enable = "avx2")]
#[inline]
fn requantize(
    acc: [__m256i; 2],
    term: i32,
    bias: &[i32],
    scales: &[f32],
    stage: OutputStage,
) -> __m128i {
    let term = _mm256_set1_epi32(term);
    let (low, high) = stage.bounds();
    let (low, high) = (_mm256_set1_ps(low), _mm256_set1_ps(high));
    let rounded = [0, 1].map(|half: usize| {
        let bias = load_i32(&bias[8 * half..]);
        let sum = _mm256_add_epi32(_mm256_add_epi32(acc[half], bias), term);
        let scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), load_f32(&scales[8 * half..]));
        _mm256_cvtps_epi32(_mm256_min_ps(_mm256_max_ps(scaled, low), high))
    });
    // 16 bit lanes come out as 0..3, 8..11, 4..7, 12..15: the permutation puts them right.
    let words =
        _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(rounded[0], rounded[1]));
    let words = _mm256_add_epi16(words, _mm256_set1_epi16(stage.zero_point as i16));
    _mm_packs_epi16(
        _mm256_castsi256_si128(words),
        _mm256_extracti128_si256::<1>(words),
    )
}

#[target_feature(enable = "avx2")]
#[inline]
fn load128(bytes: &[i8]) -> __m128i {
    assert!(bytes.len() >= 16);
    // SAFETY: the assert leaves 16 readable bytes.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
#[inline]
fn load_i32(values: &[i32]) -> __m256i {
    assert!(values.len() >= 8);
    // SAFETY: the assert leaves 32 readable bytes.
    unsafe { _mm256_loadu_si256(values.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
#[inline]
fn load_f32(values: &[f32]) -> __m256 {
    assert!(values.len() >= 8);
    // SAFETY: the assert leaves 32 readable bytes.
    unsafe { _mm256_loadu_ps(values.as_ptr()) }
}

#[target_feature(enable = "avx2")]
#[inline]
fn store256(bytes: &mut [i8], value: __m256i) {
    assert!(bytes.len() >= 32);
    // SAFETY: the assert leaves 32 writable bytes.
    unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), value) }
}

/// Stores as many codes as `out` is long, at most 16.
#[target_feature(enable = "avx2")]
#[inline]
fn store(codes: __m128i, out: &mut [i8]) {
    if out.len() >= 16 {
        // SAFETY: the condition leaves 16 writable bytes.
        unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), codes) }
    } else {
        let mut whole = [0i8; 16];
        // SAFETY: `whole` has 16 bytes.
        unsafe { _mm_storeu_si128(whole.as_mut_ptr().cast(), codes) }
        out.copy_from_slice(&whole[..out.len()]);
    }
}

/// Stores as many sums as `out` is long, at most 16.
#[target_feature(enable = "avx2")]
#[inline]
fn store_sums(sums: [__m256i; 2], out: &mut [i32]) {
    let mut whole = [0i32; NR];
    let is_whole = out.len() >= NR;
    let to = if is_whole { &mut *out } else { &mut whole };
    // SAFETY: either slice has 16 elements.
    unsafe {
        _mm256_storeu_si256(to.as_mut_ptr().cast(), sums[0]);
        _mm256_storeu_si256(to.as_mut_ptr().add(8).cast(), sums[1]);
    }
    if !is_whole {
        out.copy_from_slice(&whole[..out.len()]);
    }
}
