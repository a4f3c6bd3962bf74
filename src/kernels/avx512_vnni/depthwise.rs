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

use super::super::avx2;
use super::output::Stage;
use super::vector::{LANES, Rows, load_f32, load_i8, load_i32};
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
        match row.weights.packed.data.is_empty() {
            true => avx2::DEPTHWISE.run(row),
            // SAFETY: the assert above proves the features.
            false => unsafe { depthwise(row) },
        }
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

/// Of each block its taps, as `[parts][row groups][columns][4 registers][16 lanes][4 rows]` and 0 where there is no row;
/// its bias, less what unsigned codes add to the sums, and its scales, as `[4 registers][16 lanes]`. Nothing
/// if a tap is 255, which is not the sum of two int8: then the kernel without packing takes over.
fn pack(weights: &DepthwiseWeights) -> PackedTaps {
    let channels = weights.channels;
    let mut packed = PackedTaps::default();
    if weights.taps.contains(&255) {
        return packed;
    }
    for first in (0..channels).step_by(BLOCK) {
        let block = first..channels.min(first + BLOCK);
        let wide = wide_columns(weights, &block);
        packed.plans.push(wide);
        for part in 0..parts(wide) {
            pack_taps(weights, &block, part, &mut packed.data);
        }
        for lane in 0..BLOCK {
            let channel = channel_of(lane, &block);
            let taps = weights.taps[channel..].iter().step_by(channels);
            let sum: i32 = taps.map(|&tap| i32::from(tap)).sum();
            packed
                .bias
                .push(weights.bias[channel].wrapping_sub(128 * sum));
            packed.scales.push(weights.scales[channel]);
        }
    }
    packed
}

/// A bit for each column that has taps which do not fit int8; columns from the seventh on share one.
fn wide_columns(weights: &DepthwiseWeights, block: &Range<usize>) -> u8 {
    let rows = weights.taps.chunks_exact(weights.channels).enumerate();
    let is_wide = |taps: &[i16]| taps.iter().any(|&tap| i8::try_from(tap).is_err());
    rows.filter(|(_, taps)| is_wide(&taps[block.clone()]))
        .fold(0, |wide, (at, _)| {
            wide | 1 << (at % weights.kernel[1]).min(6)
        })
}

/// How many int8 numbers each tap of a block is packed as the sum of.
fn parts(wide_columns: u8) -> usize {
    match wide_columns {
        0 => 1,
        _ => 2,
    }
}

/// The channel of lane `lane` of the four registers of a block. Lanes without a channel repeat the last one.
fn channel_of(lane: usize, block: &Range<usize>) -> usize {
    let (register, quarter, at) = (lane / 16, lane / 4 % 4, lane % 4);
    let width = BLOCK / stretches(block.len());
    (block.start + (16 * quarter + 4 * register + at) % width).min(block.end - 1)
}

fn pack_taps(weights: &DepthwiseWeights, block: &Range<usize>, part: usize, data: &mut Vec<i8>) {
    let [rows, columns] = weights.kernel;
    for first_row in (0..rows).step_by(GROUP) {
        for column in 0..columns {
            for lane in 0..BLOCK {
                for row in first_row..first_row + GROUP {
                    let at = (row * columns + column) * weights.channels + channel_of(lane, block);
                    let tap = if row < rows { weights.taps[at] } else { 0 };
                    data.push(part_of(tap, part));
                }
            }
        }
    }
}

/// The parts of a tap add up to it.
fn part_of(tap: i16, part: usize) -> i8 {
    let first = tap.clamp(i8::MIN.into(), i8::MAX.into());
    match part {
        0 => first as i8,
        _ => (tap - first) as i8,
    }
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
    let parts = parts(row.weights.packed.plans[(row.first_channel + channels.start) / BLOCK]);
    match (row.weights.kernel, row.stride, row.dilation, parts) {
        ([3, 3], 1, 1, 1) => Block::<STRETCHES, 1, 1>::new(row, channels).roll(row),
        ([3, 3], 1, 1, _) => Block::<STRETCHES, 1, 2>::new(row, channels).roll(row),
        ([3, 3], 2, 1, 1) => Block::<STRETCHES, 2, 1>::new(row, channels).roll(row),
        ([3, 3], 2, 1, _) => Block::<STRETCHES, 2, 2>::new(row, channels).roll(row),
        (_, _, _, 1) => Block::<STRETCHES, 0, 1>::new(row, channels).each(row),
        (_, _, _, _) => Block::<STRETCHES, 0, 2>::new(row, channels).each(row),
    }
}

/// A block of channels, of pixels from `STRETCHES` stretches of the row at a time. A `STRIDE` of 0 stands for any. Its
/// methods are called in one place each, which makes sure that they are inlined.
struct Block<'a, const STRETCHES: usize, const STRIDE: usize, const PARTS: usize> {
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
    /// `[parts][row groups][columns][4 registers]`
    taps: &'a [i8],
    bias: Quads,
    scales: [__m512; 4],
    stage: Stage,
}

impl<'a, const STRETCHES: usize, const STRIDE: usize, const PARTS: usize>
    Block<'a, STRETCHES, STRIDE, PARTS>
{
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    fn new(row: &Depthwise<'a>, channels: Range<usize>) -> Self {
        let (first, count) = (channels.start, channels.len());
        assert!(0 < count && count <= BLOCK / STRETCHES);
        let end = (row.width - 1) * row.input_stride + first + count;
        for row in row.rows {
            assert!(row.len() >= end);
        }
        let weights = row.weights;
        let (packed, block) = (&weights.packed, (row.first_channel + first) / BLOCK);
        let [kernel_rows, columns] = weights.kernel;
        let size = kernel_rows.div_ceil(GROUP) * columns * GROUP * BLOCK;
        let mut before = 0;
        for &wide in &packed.plans[..block] {
            before += parts(wide);
        }
        let (mut bias, mut scales) = ([_mm512_setzero_si512(); 4], [_mm512_setzero_ps(); 4]);
        for at in 0..4 {
            bias[at] = load_i32(&packed.bias[block * BLOCK + at * LANES..]);
            scales[at] = load_f32(&packed.scales[block * BLOCK + at * LANES..]);
        }
        let pixels = row.pixels.div_ceil(STRETCHES);
        let (mut starts, mut origins) = ([0; STRETCHES], [0; STRETCHES]);
        for at in 0..STRETCHES {
            starts[at] = (at * pixels).min(row.pixels - pixels);
            origins[at] = (starts[at] * row.stride).wrapping_sub(row.padding);
        }
        Self {
            rows: row.rows,
            input_stride: row.input_stride,
            width: row.width,
            first,
            count,
            fill: [row.fill; BLOCK],
            pixels,
            starts,
            origins,
            taps: &packed.data[before * size..],
            bias,
            scales,
            stage: Stage::new(row.stage),
        }
    }

    /// 3x3: columns that neighbouring pixels share are interleaved once.
    ///
    /// Registers: 12 hold three columns, up to 12 their taps, 4 the sums.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    fn roll(&self, row: &mut Depthwise<'_>) {
        let mut out = self.out(row);
        let mut taps = [[self.bias; 3]; PARTS];
        for index in 0..PARTS * 3 {
            taps[index / 3][index % 3] = self.taps(index);
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
            for index in 0..PARTS * 3 {
                let (part, at) = (index / 3, index % 3);
                add_products(&mut sums, &columns[at], &taps[part][at]);
            }
            self.write(step - early, sums, &mut out);
        }
    }

    /// Any kernel, and taps in several parts: every pixel on its own.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    fn each(&self, row: &mut Depthwise<'_>) {
        let (stride, dilation) = (row.stride, row.dilation);
        let [rows, columns] = row.weights.kernel;
        let groups = rows.div_ceil(GROUP);
        let mut out = self.out(row);
        for x in 0..self.pixels {
            let mut sums = self.bias;
            for group in 0..groups {
                for column in 0..columns {
                    let codes = self.column::<GROUP>(group, x * stride + column * dilation);
                    for part in 0..PARTS {
                        let taps = self.taps((part * groups + group) * columns + column);
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
        for quad in 0..4 {
            quads[quad] = load_i8(&taps[quad * BLOCK..]);
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
        for stretch in 0..STRETCHES {
            let column = self.origins[stretch].wrapping_add(at);
            if column < self.width {
                let at = column * self.input_stride + self.first;
                // SAFETY: `new` found the channels of every column before `width` in every row.
                from[stretch] = unsafe { row.as_ptr().add(at) };
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
        let starts = &self.starts;
        match STRETCHES {
            1 => out.store_64(starts[0] + x, codes),
            2 => {
                out.store_32(starts[0] + x, _mm512_castsi512_si256(codes));
                out.store_32(starts[1] + x, _mm512_extracti64x4_epi64::<1>(codes));
            }
            _ => {
                out.store_16(starts[0] + x, _mm512_castsi512_si128(codes));
                out.store_16(starts[1] + x, _mm512_extracti32x4_epi32::<1>(codes));
                out.store_16(starts[2] + x, _mm512_extracti32x4_epi32::<2>(codes));
                out.store_16(starts[3] + x, _mm512_extracti32x4_epi32::<3>(codes));
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
