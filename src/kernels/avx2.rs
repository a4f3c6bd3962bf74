//! x86-64 with AVX2.
//!
//! `vpmaddwd` on codes widened to int16 is exact: no pair of products overflows int32. (`vpmaddubsw` would saturate.)
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::depthwise::{Depthwise, DepthwiseKernel, PackedTaps};
use super::gemm::{GEMM_OVERREAD, Gemm, GemmKernel, Output};
use super::pack::Tile;
use super::requant::OutputStage;
use super::scalar;

const MR: usize = 4;
const NR: usize = 16;

pub const GEMMS: [GemmKernel; 1] = [GemmKernel {
    name: "i8_gemm_4x16c2_avx2",
    tile: Tile {
        mr: MR,
        nr: NR,
        kr: 2,
        offset: 0,
    },
    scratch_per_depth: 2 * MR,
    needs_no_minimum: false,
    run: |gemm| {
        assert!(is_x86_feature_detected!("avx2"));
        // SAFETY: the assert above proves the feature.
        unsafe { gemm_4x16c2(gemm) }
    },
}];

/// 3x3 and 5x5 over at least 16 channels; what else there is goes to the reference.
pub const DEPTHWISE: DepthwiseKernel = DepthwiseKernel {
    name: "i8_depthwise_16c_avx2",
    block: LANES,
    pack: |_| PackedTaps::default(),
    run: |row| {
        assert!(is_x86_feature_detected!("avx2"));
        let taps = row.weights.kernel[0] * row.weights.kernel[1];
        match taps {
            _ if row.channels < LANES => scalar::DEPTHWISE.run(row),
            // SAFETY: the assert above proves the feature.
            9 => unsafe { depthwise::<9, 5>(row) },
            // SAFETY: the assert above proves the feature.
            25 => unsafe { depthwise::<25, 13>(row) },
            _ => scalar::DEPTHWISE.run(row),
        }
    },
};

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
            let source =
                &gemm.a[(first + row.min(rows - 1)) * gemm.a_stride..][..depth + GEMM_OVERREAD];
            let target = &mut gemm.scratch[row * row_bytes..][..row_bytes];
            widen_row(source, depth, target);
        }
        let pair_rows: [&[i8]; MR] =
            std::array::from_fn(|row| &gemm.scratch[row * row_bytes..][..4 * pairs]);
        for (at, block) in gemm.blocks.clone().enumerate() {
            let acc = multiply(pair_rows, weights.block(block), weights.bias(block), pairs);
            let channels = weights.channels_of(block..block + 1);
            for (row, &sums) in acc.iter().enumerate().take(rows) {
                let at = (first + row) * gemm.out_stride + at * NR;
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

/// Writes `depth` codes as int16 into `target`; the rest of the last 16 elements becomes 0.
#[target_feature(enable = "avx2")]
fn widen_row(source: &[i8], depth: usize, target: &mut [i8]) {
    for (group, target) in target.chunks_exact_mut(32).enumerate() {
        let wide = _mm256_cvtepi8_epi16(load128(&source[group * 16..]));
        store256(target, wide);
    }
    target[2 * depth..].fill(0);
}

/// Adds to the bias the products of 4 rows and 16 channels over all pairs of the depth.
#[target_feature(enable = "avx2")]
#[inline]
fn multiply(rows: [&[i8]; MR], block: &[i8], bias: &[i32], pairs: usize) -> [[__m256i; 2]; MR] {
    assert!(block.len() >= pairs * 2 * NR && rows.iter().all(|row| row.len() >= 4 * pairs));
    let mut acc = [[load_i32(bias), load_i32(&bias[8..])]; MR];
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
fn requantize(acc: [__m256i; 2], term: i32, scales: &[f32], stage: OutputStage) -> __m128i {
    let term = _mm256_set1_epi32(term);
    let rounded = [0, 1].map(|half: usize| {
        let sum = _mm256_add_epi32(acc[half], term);
        round(sum, load_f32(&scales[8 * half..]), stage)
    });
    // Packing gives channels 0..3, 8..11, 4..7, 12..15.
    let words = _mm256_packs_epi32(rounded[0], rounded[1]);
    pack(_mm256_permute4x64_epi64::<0b11_01_10_00>(words), stage)
}

/// Channels that the depthwise kernel makes at a time.
const LANES: usize = 16;

/// Blocks of 16 channels, in each all pixels of the row; the last block overlaps the one before.
///
/// Two taps make a pair: their codes, interleaved, meet their weights, interleaved, in one `vpmaddwd`. Interleaving
/// leaves channels 0..3 and 8..11 in one accumulator, 4..7 and 12..15 in the other; packing puts them in order again.
#[target_feature(enable = "avx2")]
fn depthwise<const TAPS: usize, const PAIRS: usize>(row: Depthwise<'_>) {
    let channels = row.weights.channels;
    let columns = row.weights.kernel[1];
    let fill = [row.fill; LANES];
    for block in 0..row.channels.div_ceil(LANES) {
        let first = (block * LANES).min(row.channels - LANES);
        let channel = row.first_channel + first;
        let weights = interleave::<TAPS, PAIRS>(&row.weights.taps[channel..], channels);
        let bias = crossed_i32(&row.weights.bias[channel..]);
        let scales = crossed_f32(&row.weights.scales[channel..]);
        for x in 0..row.pixels {
            let codes: [__m256i; TAPS] = std::array::from_fn(|tap| {
                let column =
                    (x * row.stride + tap % columns * row.dilation).wrapping_sub(row.padding);
                match column < row.width {
                    true => widen(&row.rows[tap / columns][column * row.input_stride + first..]),
                    false => widen(&fill),
                }
            });
            let mut acc = bias;
            for pair in 0..PAIRS {
                let a = codes[2 * pair];
                let b = match codes.get(2 * pair + 1) {
                    Some(&b) => b,
                    None => _mm256_setzero_si256(),
                };
                let low = _mm256_madd_epi16(_mm256_unpacklo_epi16(a, b), weights[pair][0]);
                let high = _mm256_madd_epi16(_mm256_unpackhi_epi16(a, b), weights[pair][1]);
                acc = [
                    _mm256_add_epi32(acc[0], low),
                    _mm256_add_epi32(acc[1], high),
                ];
            }
            let rounded = [0, 1].map(|half: usize| round(acc[half], scales[half], row.stage));
            let words = _mm256_packs_epi32(rounded[0], rounded[1]);
            store(
                pack(words, row.stage),
                &mut row.out[x * row.out_stride + first..][..LANES],
            );
        }
    }
}

/// Reads 16 codes as int16.
#[target_feature(enable = "avx2")]
#[inline]
fn widen(codes: &[i8]) -> __m256i {
    _mm256_cvtepi8_epi16(load128(codes))
}

/// Weights of 16 channels for each pair of taps, in the order that unpacking gives codes.
#[target_feature(enable = "avx2")]
fn interleave<const TAPS: usize, const PAIRS: usize>(
    taps: &[i16],
    channels: usize,
) -> [[__m256i; 2]; PAIRS] {
    std::array::from_fn(|pair| {
        let a = load_i16(&taps[2 * pair * channels..]);
        let b = match 2 * pair + 1 < TAPS {
            true => load_i16(&taps[(2 * pair + 1) * channels..]),
            false => _mm256_setzero_si256(),
        };
        [_mm256_unpacklo_epi16(a, b), _mm256_unpackhi_epi16(a, b)]
    })
}

/// Elements 0..3 and 8..11, and 4..7 and 12..15.
#[target_feature(enable = "avx2")]
fn crossed_i32(values: &[i32]) -> [__m256i; 2] {
    let (a, b) = (load_i32(values), load_i32(&values[8..]));
    [
        _mm256_permute2x128_si256::<0x20>(a, b),
        _mm256_permute2x128_si256::<0x31>(a, b),
    ]
}

/// Elements 0..3 and 8..11, and 4..7 and 12..15.
#[target_feature(enable = "avx2")]
fn crossed_f32(values: &[f32]) -> [__m256; 2] {
    let (a, b) = (load_f32(values), load_f32(&values[8..]));
    [
        _mm256_permute2f128_ps::<0x20>(a, b),
        _mm256_permute2f128_ps::<0x31>(a, b),
    ]
}

/// Scales, clamps and rounds 8 sums, by the rule of `requant.rs` but for the zero point.
#[target_feature(enable = "avx2")]
#[inline]
fn round(sum: __m256i, scales: __m256, stage: OutputStage) -> __m256i {
    let (low, high) = stage.bounds();
    let scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), scales);
    let clamped = _mm256_min_ps(
        _mm256_max_ps(scaled, _mm256_set1_ps(low)),
        _mm256_set1_ps(high),
    );
    _mm256_cvtps_epi32(clamped)
}

/// Adds the zero point to 16 ordered words and narrows them to codes.
#[target_feature(enable = "avx2")]
#[inline]
fn pack(words: __m256i, stage: OutputStage) -> __m128i {
    let words = _mm256_add_epi16(words, _mm256_set1_epi16(stage.zero_point as i16));
    _mm_packs_epi16(
        _mm256_castsi256_si128(words),
        _mm256_extracti128_si256::<1>(words),
    )
}

#[target_feature(enable = "avx2")]
#[inline]
fn load_i16(values: &[i16]) -> __m256i {
    assert!(values.len() >= 16);
    // SAFETY: the assert leaves 32 readable bytes.
    unsafe { _mm256_loadu_si256(values.as_ptr().cast()) }
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
