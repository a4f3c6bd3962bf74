//! x86-64 with AVX2.
//!
//! `vpmaddwd` on codes widened to int16 is exact: no pair of products overflows int32. (`vpmaddubsw` would saturate.)
//!
//! Loops over registers count: adapters of iterators are not always inlined, and then registers go through memory.
#![allow(unsafe_code, clippy::needless_range_loop)]

use std::arch::x86_64::*;

use super::depthwise::{Depthwise, DepthwiseKernel, PackedTaps};
use super::gemm::{GEMM_OVERREAD, Gemm, GemmKernel, Output};
use super::pack::Tile;
use super::requant::OutputStage;
use super::scalar;

pub(super) const MR: usize = 6;
pub(super) const NR: usize = 16;
const KR: usize = 2;

pub const GEMMS: [GemmKernel; 1] = [GEMM];

pub(super) const GEMM: GemmKernel = GemmKernel {
    name: "i8_gemm_6x16c2_avx2",
    tile: Tile {
        mr: MR,
        nr: NR,
        kr: KR,
        offset: 0,
    },
    scratch_per_depth: 2 * MR,
    needs_no_minimum: false,
    run: |gemm| {
        assert!(is_x86_feature_detected!("avx2"));
        // SAFETY: the assert above proves the feature.
        unsafe { product(gemm) }
    },
};

/// 3x3 and 5x5 over at least 16 channels; what else there is goes to the reference.
pub const DEPTHWISE: DepthwiseKernel = DepthwiseKernel {
    name: "i8_depthwise_16c_avx2",
    block: LANES,
    pack: |_| PackedTaps::default(),
    run: |row| {
        assert!(is_x86_feature_detected!("avx2"));
        match row.weights.kernel {
            _ if row.channels < LANES => scalar::DEPTHWISE.run(row),
            // SAFETY: the assert above proves the feature.
            [3, 3] => unsafe { depthwise::<3, 9, 5>(row) },
            // SAFETY: the assert above proves the feature.
            [5, 5] => unsafe { depthwise::<5, 25, 13>(row) },
            _ => scalar::DEPTHWISE.run(row),
        }
    },
};

/// Tiles of [`MR`] rows, a smaller one for at most 3 rows that are left. A tile that would end behind the last row ends
/// with it, and makes some rows twice.
#[target_feature(enable = "avx2")]
fn product(mut gemm: Gemm<'_>) {
    const SMALL: usize = 3;
    let rows = gemm.rows;
    let mut row = 0;
    while row < rows {
        row += match rows - row {
            left if left > SMALL && rows >= MR => tile::<MR>(&mut gemm, row.min(rows - MR)),
            _ if rows >= SMALL => tile::<SMALL>(&mut gemm, row.min(rows - SMALL)),
            _ => tile::<1>(&mut gemm, row),
        };
    }
}

/// All channels of `R` rows. Returns `R`.
#[target_feature(enable = "avx2")]
fn tile<const R: usize>(gemm: &mut Gemm<'_>, first: usize) -> usize {
    let weights = gemm.weights;
    let depth = weights.depth();
    let row_bytes = 2 * depth.next_multiple_of(16);
    for row in 0..R {
        let source = &gemm.a[(first + row) * gemm.a_stride..][..depth + GEMM_OVERREAD];
        widen_row(source, &mut gemm.scratch[row * row_bytes..][..row_bytes]);
    }
    for (at, block) in gemm.blocks.clone().enumerate() {
        let start = start(gemm, first, block);
        let pairs = depth.div_ceil(KR);
        let acc = multiply(gemm.scratch, row_bytes, weights.block(block), pairs, start);
        write::<R>(gemm, first, at, block, acc);
    }
    R
}

/// Writes the sums of `R` rows from `first` on for block `block`, which is the `at`th to make.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn write<const R: usize>(
    gemm: &mut Gemm<'_>,
    first: usize,
    at: usize,
    block: usize,
    acc: [[__m256i; 2]; R],
) {
    let channels = gemm.weights.channels_of(block..block + 1);
    let (at, stride) = (first * gemm.out_stride + at * NR, gemm.out_stride);
    match &mut gemm.out {
        Output::Codes { out, stage, .. } => {
            let stage = Stage::new(*stage, gemm.weights.scales(block));
            for pair in 0..R.div_ceil(2) {
                let (row, next) = (2 * pair, (2 * pair + 1).min(R - 1));
                let [codes, next_codes] = stage.codes_of_two(acc[row], acc[next]);
                store(codes, &mut out[at + row * stride..][..channels]);
                store(next_codes, &mut out[at + next * stride..][..channels]);
            }
        }
        Output::Sums(out) => {
            for row in 0..R {
                store_sums(acc[row], &mut out[at + row * stride..][..channels]);
            }
        }
    }
}

/// Writes codes as int16 into `target`. Behind the depth lies what is read there: its weights are 0.
#[target_feature(enable = "avx2")]
fn widen_row(source: &[i8], target: &mut [i8]) {
    for group in 0..target.len() / 32 {
        let wide = _mm256_cvtepi8_epi16(load128(&source[group * 16..]));
        store256(&mut target[group * 32..], wide);
    }
}

/// What the sums of `R` rows from `first` on begin with: the bias of a block and the rows' terms.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn start<const R: usize>(
    gemm: &Gemm<'_>,
    first: usize,
    block: usize,
) -> [[__m256i; 2]; R] {
    let bias = gemm.weights.bias(block);
    let mut acc = [[load_i32(bias), load_i32(&bias[8..])]; R];
    if let (Output::Codes { row_terms, .. }, true) = (&gemm.out, gemm.weights.has_row_term(block)) {
        let terms = &row_terms[first..first + R];
        for row in 0..R {
            let term = _mm256_set1_epi32(terms[row]);
            acc[row][0] = _mm256_add_epi32(acc[row][0], term);
            acc[row][1] = _mm256_add_epi32(acc[row][1], term);
        }
    }
    acc
}

/// Adds the products of `R` widened rows, `row_bytes` apart, and 16 channels over all pairs of the depth.
///
/// Registers: 12 accumulate 6 rows x 16 channels; two hold the widened weights of a pair of depths; one the broadcast
/// pair of activations of a row.
#[target_feature(enable = "avx2")]
#[inline]
fn multiply<const R: usize>(
    rows: &[i8],
    row_bytes: usize,
    block: &[i8],
    pairs: usize,
    mut acc: [[__m256i; 2]; R],
) -> [[__m256i; 2]; R] {
    assert!(block.len() >= pairs * KR * NR);
    assert!(rows.len() >= R * row_bytes && row_bytes >= 4 * pairs);
    let (mut w, mut a) = (block.as_ptr(), rows.as_ptr());
    for _ in 0..pairs {
        // SAFETY: the asserts above leave `KR * NR` bytes at `w` and 4 at `a` in each of the rows for each of `pairs`
        // steps.
        unsafe {
            let low = _mm256_cvtepi8_epi16(_mm_loadu_si128(w.cast()));
            let high = _mm256_cvtepi8_epi16(_mm_loadu_si128(w.add(NR).cast()));
            for row in 0..R {
                let pair = a.add(row * row_bytes).cast::<i32>().read_unaligned();
                let pair = _mm256_set1_epi32(pair);
                acc[row][0] = _mm256_add_epi32(acc[row][0], _mm256_madd_epi16(pair, low));
                acc[row][1] = _mm256_add_epi32(acc[row][1], _mm256_madd_epi16(pair, high));
            }
            w = w.add(KR * NR);
            a = a.add(4);
        }
    }
    acc
}

/// The rule of `requant.rs` for 16 channels. The bounds are integers, so clamping commutes with rounding: above, sums
/// are clamped before they are rounded, so that they stay in the range of int32; below, int32 that are too small
/// saturate, and codes are clamped at last.
struct Stage {
    scales: [__m256; 2],
    high: __m256,
    zero_point: __m256i,
    min: __m256i,
}

impl Stage {
    #[target_feature(enable = "avx2")]
    #[inline]
    fn new(stage: OutputStage, scales: &[f32]) -> Self {
        Self {
            scales: [load_f32(scales), load_f32(&scales[8..])],
            high: _mm256_set1_ps(stage.bounds().1),
            zero_point: _mm256_set1_epi16(stage.zero_point as i16),
            min: _mm256_set1_epi8(stage.min),
        }
    }

    /// 16 codes as words, in the order 0..3, 8..11, 4..7, 12..15 of sums in order.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn words(&self, sums: [__m256i; 2]) -> __m256i {
        let mut rounded = sums;
        for half in 0..2 {
            let scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(sums[half]), self.scales[half]);
            rounded[half] = _mm256_cvtps_epi32(_mm256_min_ps(scaled, self.high));
        }
        _mm256_adds_epi16(_mm256_packs_epi32(rounded[0], rounded[1]), self.zero_point)
    }

    /// The codes of two rows.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn codes_of_two(&self, a: [__m256i; 2], b: [__m256i; 2]) -> [__m128i; 2] {
        let crossed = _mm256_packs_epi16(self.words(a), self.words(b));
        let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        let codes = _mm256_permutevar8x32_epi32(_mm256_max_epi8(crossed, self.min), order);
        [
            _mm256_castsi256_si128(codes),
            _mm256_extracti128_si256::<1>(codes),
        ]
    }

    /// The codes of a pixel whose sums are crossed as [`Self::words`] crosses them.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn codes_of_crossed(&self, sums: [__m256i; 2]) -> __m128i {
        let words = self.words(sums);
        let high = _mm256_extracti128_si256::<1>(words);
        let codes = _mm_packs_epi16(_mm256_castsi256_si128(words), high);
        _mm_max_epi8(codes, _mm256_castsi256_si128(self.min))
    }
}

/// Channels that the depthwise kernel makes at a time.
const LANES: usize = 16;

/// Blocks of 16 channels, in each all pixels of the row; the last block overlaps the one before.
///
/// Two taps make a pair: their codes, interleaved, meet their weights, interleaved, in one `vpmaddwd`. Interleaving
/// leaves channels 0..3 and 8..11 in one accumulator, 4..7 and 12..15 in the other; packing puts them in order again.
#[target_feature(enable = "avx2")]
fn depthwise<const COLUMNS: usize, const TAPS: usize, const PAIRS: usize>(row: Depthwise<'_>) {
    let channels = row.weights.channels;
    for block in 0..row.channels.div_ceil(LANES) {
        let first = (block * LANES).min(row.channels - LANES);
        let channel = row.first_channel + first;
        let weights = interleave::<TAPS, PAIRS>(&row.weights.taps[channel..], channels);
        let bias = &row.weights.bias[channel..];
        let bias = cross(load_i32(bias), load_i32(&bias[8..]));
        let mut stage = Stage::new(row.stage, &row.weights.scales[channel..]);
        let [low, high] = stage.scales;
        let scales = cross(_mm256_castps_si256(low), _mm256_castps_si256(high));
        stage.scales = [
            _mm256_castsi256_ps(scales[0]),
            _mm256_castsi256_ps(scales[1]),
        ];
        let window = Window::<COLUMNS>::new(&row, first);
        for x in 0..row.pixels {
            let mut acc = bias;
            for pair in 0..PAIRS {
                let a = window.load(x, 2 * pair);
                let mut b = _mm256_setzero_si256();
                if 2 * pair + 1 < TAPS {
                    b = window.load(x, 2 * pair + 1);
                }
                let low = _mm256_madd_epi16(_mm256_unpacklo_epi16(a, b), weights[pair][0]);
                let high = _mm256_madd_epi16(_mm256_unpackhi_epi16(a, b), weights[pair][1]);
                acc[0] = _mm256_add_epi32(acc[0], low);
                acc[1] = _mm256_add_epi32(acc[1], high);
            }
            let out = &mut row.out[x * row.out_stride + first..][..LANES];
            store(stage.codes_of_crossed(acc), out);
        }
    }
}

/// What the taps of a kernel with as many columns as rows read.
struct Window<'a, const COLUMNS: usize> {
    rows: [&'a [i8]; COLUMNS],
    input_stride: usize,
    width: usize,
    /// The first channel in the row.
    first: usize,
    stride: usize,
    dilation: usize,
    padding: usize,
    /// What lies outside the row.
    fill: [i8; LANES],
}

impl<'a, const COLUMNS: usize> Window<'a, COLUMNS> {
    #[inline]
    fn new(row: &Depthwise<'a>, first: usize) -> Self {
        let mut rows = [row.rows[0]; COLUMNS];
        rows.copy_from_slice(row.rows);
        for row_codes in &rows {
            assert!(row_codes.len() >= (row.width - 1) * row.input_stride + first + LANES);
        }
        Self {
            rows,
            input_stride: row.input_stride,
            width: row.width,
            first,
            stride: row.stride,
            dilation: row.dilation,
            padding: row.padding,
            fill: [row.fill; LANES],
        }
    }

    /// The codes that tap `tap` of output pixel `x` reads, as int16.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn load(&self, x: usize, tap: usize) -> __m256i {
        let column = x * self.stride + tap % COLUMNS * self.dilation;
        let column = column.wrapping_sub(self.padding);
        let mut from = self.fill.as_ptr();
        if column < self.width {
            let at = column * self.input_stride + self.first;
            // SAFETY: `new` found 16 codes at every column before `width` of every row.
            from = unsafe { self.rows[tap / COLUMNS].as_ptr().add(at) };
        }
        // SAFETY: 16 codes lie there, or are `fill`.
        unsafe { _mm256_cvtepi8_epi16(_mm_loadu_si128(from.cast())) }
    }
}

/// Weights of 16 channels for each pair of taps, in the order that unpacking gives codes.
#[target_feature(enable = "avx2")]
fn interleave<const TAPS: usize, const PAIRS: usize>(
    taps: &[i16],
    channels: usize,
) -> [[__m256i; 2]; PAIRS] {
    let mut pairs = [[_mm256_setzero_si256(); 2]; PAIRS];
    for pair in 0..PAIRS {
        let a = load_i16(&taps[2 * pair * channels..]);
        let mut b = _mm256_setzero_si256();
        if 2 * pair + 1 < TAPS {
            b = load_i16(&taps[(2 * pair + 1) * channels..]);
        }
        pairs[pair] = [_mm256_unpacklo_epi16(a, b), _mm256_unpackhi_epi16(a, b)];
    }
    pairs
}

/// Elements 0..3 and 8..11, and 4..7 and 12..15.
#[target_feature(enable = "avx2")]
fn cross(low: __m256i, high: __m256i) -> [__m256i; 2] {
    [
        _mm256_permute2x128_si256::<0x20>(low, high),
        _mm256_permute2x128_si256::<0x31>(low, high),
    ]
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
    let to = out.as_mut_ptr();
    match out.len() {
        // SAFETY: the slice has 16 bytes.
        16.. => unsafe { _mm_storeu_si128(to.cast(), codes) },
        8.. => {
            // SAFETY: the slice has 8 bytes.
            unsafe { _mm_storel_epi64(to.cast(), codes) }
            store_few(_mm_unpackhi_epi64(codes, codes), &mut out[8..]);
        }
        _ => store_few(codes, out),
    }
}

/// Stores as many codes as `out` is long, at most 8.
#[target_feature(enable = "avx2")]
#[inline]
fn store_few(codes: __m128i, out: &mut [i8]) {
    let codes = _mm_cvtsi128_si64(codes).to_le_bytes();
    for at in 0..out.len() {
        out[at] = codes[at] as i8;
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
