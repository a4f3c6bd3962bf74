//! The depthwise convolution.
//!
//! The codes of up to four kernel rows of one input column, interleaved, put a channel's column into one int32 lane, to
//! meet its taps in one instruction. Interleaving acts on each quarter of a register on its own, so that register `q`
//! holds, in quarter `p`, the channels `16 p + 4 q ..` of the block; narrowing the sums to codes restores the order.
//!
//! A block has 64 channels. The last one may have fewer: then half or quarter registers hold its channels of two or four
//! pixels, from as many stretches of the row.

use std::arch::x86_64::*;
use std::ops::Range;

use super::output::Stage;
use super::vector::{LANES, Rows, load_i8, load_some_i32};
use crate::kernels::depthwise::{Depthwise, DepthwiseKernel, DepthwiseWeights, PackedTaps};

/// Channels of a block.
const BLOCK: usize = 4 * LANES;
/// Kernel rows whose codes share a lane.
const GROUP: usize = 4;
/// A register of interleaved codes or taps for each quarter of the channels.
type Quads = [__m512i; 4];

pub const DEPTHWISE: DepthwiseKernel = DepthwiseKernel {
    name: "i8_depthwise_64c_avx512_vnni",
    block: BLOCK,
    pack,
    run: |row| {
        assert!(super::is_available());
        // SAFETY: the assert above proves the features.
        unsafe { depthwise(row) }
    },
};

/// Pixels whose channels share a register.
fn stretches(channels: usize) -> usize {
    match channels {
        0..=16 => 4,
        17..=32 => 2,
        _ => 1,
    }
}

/// Summands of int8 that the taps of a block are split into. A tap is in `-255..=255`.
fn terms(is_narrow: bool) -> usize {
    match is_narrow {
        true => 1,
        false => 3,
    }
}

/// Taps of each block as `[terms][row groups][columns][4 registers][64 lanes][4 rows]`, 0 where there is no row or
/// channel. The bias, one for each channel, less what unsigned codes add to the sum.
fn pack(weights: &DepthwiseWeights) -> PackedTaps {
    let channels = weights.channels;
    let mut packed = PackedTaps {
        bias: weights.bias.clone(),
        ..PackedTaps::default()
    };
    for taps in weights.taps.chunks_exact(channels) {
        for (bias, &tap) in packed.bias.iter_mut().zip(taps) {
            *bias = bias.wrapping_sub(128 * i32::from(tap));
        }
    }
    for first in (0..channels).step_by(BLOCK) {
        let block = first..channels.min(first + BLOCK);
        let mut rows = weights.taps.chunks_exact(channels);
        let is_narrow = rows.all(|taps| {
            taps[block.clone()]
                .iter()
                .all(|&tap| tap as i8 as i16 == tap)
        });
        packed.usable.push(is_narrow);
        for term in 0..terms(is_narrow) {
            pack_block(weights, block.clone(), term, &mut packed.data);
        }
    }
    packed
}

fn pack_block(weights: &DepthwiseWeights, block: Range<usize>, term: usize, data: &mut Vec<i8>) {
    let [rows, columns] = weights.kernel;
    let width = BLOCK / stretches(block.len());
    for first_row in (0..rows).step_by(GROUP) {
        for column in 0..columns {
            for lane in 0..BLOCK {
                let (register, quarter, at) = (lane / 16, lane / 4 % 4, lane % 4);
                let channel = block.start + (16 * quarter + 4 * register + at) % width;
                for row in first_row..first_row + GROUP {
                    let is_tap = row < rows && channel < block.end;
                    let at = (row * columns + column) * weights.channels + channel;
                    data.push(if is_tap {
                        summand(weights.taps[at], term)
                    } else {
                        0
                    });
                }
            }
        }
    }
}

/// The summands of a tap add up to it.
fn summand(tap: i16, term: usize) -> i8 {
    let clamp = |rest: i16| rest.clamp(i8::MIN.into(), i8::MAX.into());
    let mut rest = tap;
    for _ in 0..term {
        rest -= clamp(rest);
    }
    clamp(rest) as i8
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn depthwise(mut row: Depthwise<'_>) {
    for first in (0..row.channels).step_by(BLOCK) {
        let channels = first..row.channels.min(first + BLOCK);
        match stretches(channels.len()) {
            1 => block::<1>(&mut row, channels),
            2 => block::<2>(&mut row, channels),
            _ => block::<4>(&mut row, channels),
        }
    }
}

/// Makes a block of channels.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn block<const STRETCHES: usize>(row: &mut Depthwise<'_>, channels: Range<usize>) {
    let is_narrow = row.weights.packed.usable[(row.first_channel + channels.start) / BLOCK];
    match (row.weights.kernel, row.stride, row.dilation) {
        ([3, 3], 1, 1) if is_narrow => Block::<STRETCHES, 1>::new(row, channels).roll(row),
        ([3, 3], 2, 1) if is_narrow => Block::<STRETCHES, 2>::new(row, channels).roll(row),
        _ => Block::<STRETCHES, 0>::new(row, channels).each(row),
    }
}

/// A block of channels, of pixels from `STRETCHES` stretches of the row at a time. A `STRIDE` of 0 stands for any.
struct Block<'a, const STRETCHES: usize, const STRIDE: usize> {
    rows: &'a [&'a [i8]],
    input_stride: usize,
    width: usize,
    /// The first channel in the row.
    first: usize,
    count: usize,
    /// What lies outside the row.
    fill: [i8; BLOCK],
    /// Pixels of each stretch.
    pixels: usize,
    /// The first pixel of each stretch, and the column that its first tap reads.
    starts: [usize; STRETCHES],
    origins: [usize; STRETCHES],
    /// `[terms][row groups][columns][4 registers]`
    taps: &'a [i8],
    bias: Quads,
    scales: [__m512; 4],
    stage: Stage,
}

impl<'a, const STRETCHES: usize, const STRIDE: usize> Block<'a, STRETCHES, STRIDE> {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    fn new(row: &Depthwise<'a>, channels: Range<usize>) -> Self {
        let (first, count) = (channels.start, channels.len());
        assert!(0 < count && count <= BLOCK / STRETCHES);
        let end = (row.width - 1) * row.input_stride + first + count;
        assert!(row.rows.iter().all(|row| row.len() >= end));
        let weights = row.weights;
        let (packed, channel) = (&weights.packed, row.first_channel + first);
        let [kernel_rows, columns] = weights.kernel;
        let size = kernel_rows.div_ceil(GROUP) * columns * GROUP * BLOCK;
        let blocks = packed.usable[..channel / BLOCK].iter();
        let before: usize = blocks.map(|&is_narrow| terms(is_narrow)).sum();
        let channels = channel..channel + count;
        let bias: &[i32] = &packed.bias[channels.clone()];
        let scales: &[f32] = &weights.scales[channels];
        let scales = crossed::<STRETCHES>(bytemuck::cast_slice(scales));
        let pixels = row.pixels.div_ceil(STRETCHES);
        let starts: [usize; STRETCHES] =
            std::array::from_fn(|at| (at * pixels).min(row.pixels - pixels));
        Self {
            rows: row.rows,
            input_stride: row.input_stride,
            width: row.width,
            first,
            count,
            fill: [row.fill; BLOCK],
            pixels,
            starts,
            origins: starts.map(|start| (start * row.stride).wrapping_sub(row.padding)),
            taps: &packed.data[before * size..],
            bias: crossed::<STRETCHES>(bias),
            scales: [0, 1, 2, 3].map(|at: usize| _mm512_castsi512_ps(scales[at])),
            stage: Stage::new(row.stage),
        }
    }

    /// 3x3: columns that neighbouring pixels share are interleaved once.
    ///
    /// Registers: 12 hold three columns, up to 12 their taps, 4 the sums.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    fn roll(&self, row: &mut Depthwise<'_>) {
        let mut out = self.out(row);
        let mut taps = [self.bias; 3];
        for (column, taps) in taps.iter_mut().enumerate() {
            *taps = self.taps(column);
        }
        // The first steps only read columns; a column before the first pixel's may be among them, and drops out again.
        let early = 2_usize.div_ceil(STRIDE);
        let mut columns = [self.bias; 3];
        for step in 0..self.pixels + early {
            for at in 0..3 - STRIDE {
                columns[at] = columns[at + STRIDE];
            }
            for at in 3 - STRIDE..3 {
                columns[at] =
                    self.column::<3>(0, (step * STRIDE + at).wrapping_sub(early * STRIDE));
            }
            if step < early {
                continue;
            }
            let mut sums = self.bias;
            for at in 0..3 {
                add_products(&mut sums, &columns[at], &taps[at]);
            }
            self.write(step - early, sums, &mut out);
        }
    }

    /// Any kernel, and taps in several terms: every pixel on its own.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    fn each(&self, row: &mut Depthwise<'_>) {
        let (stride, dilation) = (row.stride, row.dilation);
        let [rows, columns] = row.weights.kernel;
        let groups = rows.div_ceil(GROUP);
        let block = (row.first_channel + self.first) / BLOCK;
        let terms = terms(row.weights.packed.usable[block]);
        let mut out = self.out(row);
        for x in 0..self.pixels {
            let mut sums = self.bias;
            for group in 0..groups {
                for column in 0..columns {
                    let codes = self.column::<GROUP>(group, x * stride + column * dilation);
                    for term in 0..terms {
                        let taps = self.taps((term * groups + group) * columns + column);
                        add_products(&mut sums, &codes, &taps);
                    }
                }
            }
            self.write(x, sums, &mut out);
        }
    }

    /// The four registers of taps at `index`.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn taps(&self, index: usize) -> Quads {
        let taps = &self.taps[index * GROUP * BLOCK..][..GROUP * BLOCK];
        let mut quads = self.bias;
        for (quad, taps) in quads.iter_mut().zip(taps.chunks_exact(BLOCK)) {
            *quad = load_i8(taps);
        }
        quads
    }

    /// The interleaved, unsigned codes of the first `R` rows of a group, `at` columns behind the origins. What fills up
    /// the lanes has no meaning: its taps are 0.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    #[inline]
    fn column<const R: usize>(&self, group: usize, at: usize) -> Quads {
        let rows = &self.rows[group * GROUP..];
        let mut codes = [_mm512_setzero_si512(); GROUP];
        for r in 0..R {
            codes[r] = self.load(rows[r.min(rows.len() - 1)], at);
            codes[r] = _mm512_xor_si512(codes[r], _mm512_set1_epi8(i8::MIN));
        }
        let [a, b, c, d] = codes;
        let (ab, cd) = (_mm512_unpacklo_epi8(a, b), _mm512_unpacklo_epi8(c, d));
        let (ab_high, cd_high) = (_mm512_unpackhi_epi8(a, b), _mm512_unpackhi_epi8(c, d));
        [
            _mm512_unpacklo_epi16(ab, cd),
            _mm512_unpackhi_epi16(ab, cd),
            _mm512_unpacklo_epi16(ab_high, cd_high),
            _mm512_unpackhi_epi16(ab_high, cd_high),
        ]
    }

    /// The codes of a row, `at` columns behind each origin.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    #[inline]
    fn load(&self, row: &[i8], at: usize) -> __m512i {
        let mut from = [self.fill.as_ptr(); STRETCHES];
        for (from, origin) in from.iter_mut().zip(self.origins) {
            let column = origin.wrapping_add(at);
            if column < self.width {
                // SAFETY: `new` found the channels of every column before `width` in every row.
                *from = unsafe { row.as_ptr().add(column * self.input_stride + self.first) };
            }
        }
        let mask = u64::MAX >> (BLOCK - self.count);
        // SAFETY: each pointer points to `count` codes, and the mask leaves out what lies behind them.
        unsafe {
            match STRETCHES {
                1 => _mm512_maskz_loadu_epi8(mask, from[0]),
                2 => {
                    let a = _mm256_maskz_loadu_epi8(mask as u32, from[0]);
                    let b = _mm256_maskz_loadu_epi8(mask as u32, from[1]);
                    _mm512_inserti64x4::<1>(_mm512_castsi256_si512(a), b)
                }
                _ => {
                    let a = _mm_maskz_loadu_epi8(mask as u16, from[0]);
                    let b = _mm_maskz_loadu_epi8(mask as u16, from[1]);
                    let c = _mm_maskz_loadu_epi8(mask as u16, from[2]);
                    let d = _mm_maskz_loadu_epi8(mask as u16, from[3]);
                    let ab = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(a), b);
                    let cd = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(c), d);
                    _mm512_inserti64x4::<1>(_mm512_castsi256_si512(ab), cd)
                }
            }
        }
    }

    /// The pixels of the result.
    #[inline]
    fn out<'b>(&self, row: &'b mut Depthwise<'_>) -> Rows<'b, i8> {
        let (pixels, stride) = (row.pixels, row.out_stride);
        Rows::new(&mut row.out[self.first..], pixels, stride, self.count)
    }

    /// Pixel `x` of each stretch from its sums.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    #[inline]
    fn write(&self, x: usize, sums: Quads, out: &mut Rows<'_, i8>) {
        let codes = self.stage.crossed_codes(sums, self.scales);
        let pixels = self.starts.map(|start| start + x);
        match STRETCHES {
            1 => out.store_64(pixels[0], codes),
            2 => {
                out.store_32(pixels[0], _mm512_castsi512_si256(codes));
                out.store_32(pixels[1], _mm512_extracti64x4_epi64::<1>(codes));
            }
            _ => {
                out.store_16(pixels[0], _mm512_castsi512_si128(codes));
                out.store_16(pixels[1], _mm512_extracti32x4_epi32::<1>(codes));
                out.store_16(pixels[2], _mm512_extracti32x4_epi32::<2>(codes));
                out.store_16(pixels[3], _mm512_extracti32x4_epi32::<3>(codes));
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512vnni")]
#[inline]
fn add_products(sums: &mut Quads, codes: &Quads, taps: &Quads) {
    for at in 0..4 {
        sums[at] = _mm512_dpbusd_epi32(sums[at], codes[at], taps[at]);
    }
}

/// Values of each channel, in the order of interleaved codes and repeated for each stretch.
#[target_feature(enable = "avx512f")]
#[inline]
fn crossed<const STRETCHES: usize>(values: &[i32]) -> Quads {
    let mut parts = [_mm512_setzero_si512(); 4];
    for (at, part) in parts.iter_mut().enumerate() {
        *part = load_some_i32(values.get(at % (4 / STRETCHES) * LANES..).unwrap_or(&[]));
    }
    let [a, b, c, d] = parts;
    let ab = _mm512_shuffle_i32x4::<0b01_00_01_00>(a, b);
    let ab_high = _mm512_shuffle_i32x4::<0b11_10_11_10>(a, b);
    let cd = _mm512_shuffle_i32x4::<0b01_00_01_00>(c, d);
    let cd_high = _mm512_shuffle_i32x4::<0b11_10_11_10>(c, d);
    [
        _mm512_shuffle_i32x4::<0b10_00_10_00>(ab, cd),
        _mm512_shuffle_i32x4::<0b11_01_11_01>(ab, cd),
        _mm512_shuffle_i32x4::<0b10_00_10_00>(ab_high, cd_high),
        _mm512_shuffle_i32x4::<0b11_01_11_01>(ab_high, cd_high),
    ]
}
