//! The depthwise convolution.
//!
//! The codes of up to four kernel rows of one input column, interleaved, put a channel's column into one int32 lane, to
//! meet its taps in one instruction. Interleaving acts on each quarter of a register on its own, so that register `q`
//! holds, in quarter `p`, the channels `16 p + 4 q ..` of the block; narrowing the sums to codes restores the order.
//!
//! A block has 64 channels. The last one may have fewer: then half or quarter registers hold its channels of two or four
//! pixels, from as many stretches of the row.

use std::arch::x86_64::*;

use super::output::Stage;
use super::vector::{LANES, Rows};
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

fn pack_block(
    weights: &DepthwiseWeights,
    block: std::ops::Range<usize>,
    term: usize,
    data: &mut Vec<i8>,
) {
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
        let count = BLOCK.min(row.channels - first);
        match stretches(count) {
            1 => Block::<1>::new(&row, first, count).run(&mut row),
            2 => Block::<2>::new(&row, first, count).run(&mut row),
            _ => Block::<4>::new(&row, first, count).run(&mut row),
        }
    }
}

/// A block of channels, of pixels from `STRETCHES` stretches of the row at a time.
struct Block<'a, const STRETCHES: usize> {
    rows: &'a [&'a [i8]],
    input_stride: usize,
    width: usize,
    /// The first channel in the row.
    first: usize,
    count: usize,
    fill: __m512i,
    /// Pixels of each stretch.
    pixels: usize,
    /// The first pixel of each stretch, and the column that its first tap reads.
    starts: [usize; STRETCHES],
    origins: [usize; STRETCHES],
    /// `[terms][row groups][columns][4 registers]`
    taps: &'a [i8],
    is_narrow: bool,
    bias: Quads,
    scales: [__m512; 4],
}

impl<'a, const STRETCHES: usize> Block<'a, STRETCHES> {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    #[inline]
    fn new(row: &Depthwise<'a>, first: usize, count: usize) -> Self {
        assert!(0 < count && count <= BLOCK / STRETCHES);
        let end = (row.width - 1) * row.input_stride + first + count;
        assert!(row.rows.iter().all(|row| row.len() >= end));
        let weights = row.weights;
        let (packed, channel) = (&weights.packed, row.first_channel + first);
        let block = channel / BLOCK;
        let before: usize = packed.usable[..block].iter().map(|&b| terms(b)).sum();
        let is_narrow = packed.usable[block];
        let [kernel_rows, columns] = weights.kernel;
        let size = kernel_rows.div_ceil(GROUP) * columns * GROUP * BLOCK;
        let pixels = row.pixels.div_ceil(STRETCHES);
        let starts: [usize; STRETCHES] =
            std::array::from_fn(|at| (at * pixels).min(row.pixels - pixels));
        let channels = channel..channel + count;
        let bias: &[i32] = &packed.bias[channels.clone()];
        let scales: &[f32] = &weights.scales[channels];
        Self {
            rows: row.rows,
            input_stride: row.input_stride,
            width: row.width,
            first,
            count,
            fill: _mm512_set1_epi8(row.fill),
            pixels,
            starts,
            origins: starts.map(|start| (start * row.stride).wrapping_sub(row.padding)),
            taps: &packed.data[before * size..][..terms(is_narrow) * size],
            is_narrow,
            bias: crossed::<STRETCHES>(bytemuck::cast_slice(bias)),
            scales: crossed::<STRETCHES>(bytemuck::cast_slice(scales))
                .map(|bits| _mm512_castsi512_ps(bits)),
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    #[inline]
    fn run(&self, row: &mut Depthwise<'_>) {
        let stage = Stage::new(row.stage);
        let (pixels, stride) = (row.pixels, row.out_stride);
        let out = Rows::new(&mut row.out[self.first..], pixels, stride, self.count);
        match (row.weights.kernel, row.stride, row.dilation) {
            ([3, 3], 1, 1) if self.is_narrow => self.roll::<1>(stage, out),
            ([3, 3], 2, 1) if self.is_narrow => self.roll::<2>(stage, out),
            (kernel, stride, dilation) => self.each(kernel, stride, dilation, stage, out),
        }
    }

    /// 3x3: columns that two neighbouring pixels read are interleaved once.
    ///
    /// Registers: 12 hold three columns, up to 12 their taps, 4 the sums.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    #[inline]
    fn roll<const STRIDE: usize>(&self, stage: Stage, mut out: Rows<'_, i8>) {
        let taps = [0, 1, 2].map(|column| quads(self.taps, column));
        let rows = [self.rows[0], self.rows[1], self.rows[2]];
        let mut columns = [self.bias; 3];
        for (at, column) in columns.iter_mut().take(3 - STRIDE).enumerate() {
            *column = self.column(rows, at);
        }
        for x in 0..self.pixels {
            for at in 3 - STRIDE..3 {
                columns[at] = self.column(rows, x * STRIDE + at);
            }
            let mut sums = self.bias;
            for (column, taps) in columns.iter().zip(&taps) {
                for (sum, (&codes, &taps)) in sums.iter_mut().zip(column.iter().zip(taps)) {
                    *sum = _mm512_dpbusd_epi32(*sum, codes, taps);
                }
            }
            self.write(x, stage.crossed_codes(sums, self.scales), &mut out);
            for at in 0..3 - STRIDE {
                columns[at] = columns[at + STRIDE];
            }
        }
    }

    /// Any kernel, and taps in several terms: every pixel on its own.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    fn each(
        &self,
        kernel: [usize; 2],
        stride: usize,
        dilation: usize,
        stage: Stage,
        mut out: Rows<'_, i8>,
    ) {
        let groups = kernel[0].div_ceil(GROUP);
        for x in 0..self.pixels {
            let mut sums = self.bias;
            for (group, rows) in self.rows.chunks(GROUP).enumerate() {
                for column in 0..kernel[1] {
                    let at = x * stride + column * dilation;
                    let codes = match *rows {
                        [a] => self.column([a], at),
                        [a, b] => self.column([a, b], at),
                        [a, b, c] => self.column([a, b, c], at),
                        [a, b, c, d, ..] => self.column([a, b, c, d], at),
                        [] => self.bias,
                    };
                    for term in 0..terms(self.is_narrow) {
                        let taps = quads(self.taps, (term * groups + group) * kernel[1] + column);
                        for (sum, (&codes, taps)) in sums.iter_mut().zip(codes.iter().zip(taps)) {
                            *sum = _mm512_dpbusd_epi32(*sum, codes, taps);
                        }
                    }
                }
            }
            self.write(x, stage.crossed_codes(sums, self.scales), &mut out);
        }
    }

    /// The interleaved, unsigned codes of some rows, `at` columns behind the origins. What fills up the lanes is without
    /// meaning: their taps are 0.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    #[inline]
    fn column<const R: usize>(&self, rows: [&[i8]; R], at: usize) -> Quads {
        let columns = self.origins.map(|origin| origin.wrapping_add(at));
        let mut codes = [self.fill; R];
        if columns.iter().all(|&column| column < self.width) {
            for (codes, row) in codes.iter_mut().zip(rows) {
                *codes = self.load(row, columns);
            }
        } else if STRETCHES > 1 {
            for (codes, row) in codes.iter_mut().zip(rows) {
                *codes = self.load_or_fill(row, columns);
            }
        }
        let codes = codes.map(|codes| _mm512_xor_si512(codes, _mm512_set1_epi8(i8::MIN)));
        let [a, b, c, d] = [0, 1, 2, 3].map(|row: usize| codes[row.min(R - 1)]);
        let (ab, cd) = (_mm512_unpacklo_epi8(a, b), _mm512_unpacklo_epi8(c, d));
        let (ab_high, cd_high) = (_mm512_unpackhi_epi8(a, b), _mm512_unpackhi_epi8(c, d));
        [
            _mm512_unpacklo_epi16(ab, cd),
            _mm512_unpackhi_epi16(ab, cd),
            _mm512_unpacklo_epi16(ab_high, cd_high),
            _mm512_unpackhi_epi16(ab_high, cd_high),
        ]
    }

    /// The codes of one column of each stretch.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    #[inline]
    fn load(&self, row: &[i8], columns: [usize; STRETCHES]) -> __m512i {
        let mask = u64::MAX >> (BLOCK - self.count);
        let from = |at: usize| {
            assert!(columns[at] < self.width);
            // SAFETY: `new` found the block's channels of every column of `width` in the row.
            unsafe {
                row.as_ptr()
                    .add(columns[at] * self.input_stride + self.first)
            }
        };
        // SAFETY: each of the pointers points to `count` codes, and the mask leaves out what lies behind them.
        unsafe {
            match STRETCHES {
                1 => _mm512_maskz_loadu_epi8(mask, from(0)),
                2 => {
                    let [a, b] = [0, 1].map(|at| _mm256_maskz_loadu_epi8(mask as u32, from(at)));
                    _mm512_inserti64x4::<1>(_mm512_castsi256_si512(a), b)
                }
                _ => {
                    let [a, b, c, d] =
                        [0, 1, 2, 3].map(|at| _mm_maskz_loadu_epi8(mask as u16, from(at)));
                    let ab = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(a), b);
                    let cd = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(c), d);
                    _mm512_inserti64x4::<1>(_mm512_castsi256_si512(ab), cd)
                }
            }
        }
    }

    /// As [`Self::load`], for columns that may lie outside the row.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    #[inline(never)]
    fn load_or_fill(&self, row: &[i8], columns: [usize; STRETCHES]) -> __m512i {
        let inside = columns.map(|column| column.min(self.width - 1));
        let quarters = 4 / STRETCHES;
        let mut outside = 0;
        for quarter in 0..4 {
            if columns[quarter / quarters] >= self.width {
                outside |= 0b11 << (2 * quarter);
            }
        }
        let codes = self.load(row, inside);
        _mm512_mask_blend_epi64(outside, codes, self.fill)
    }

    /// Stores pixel `x` of each stretch.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    #[inline]
    fn write(&self, x: usize, codes: __m512i, out: &mut Rows<'_, i8>) {
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

/// The four registers at `index` of packed taps.
#[target_feature(enable = "avx512f")]
#[inline]
fn quads(taps: &[i8], index: usize) -> Quads {
    let taps = &taps[index * GROUP * BLOCK..][..GROUP * BLOCK];
    // SAFETY: the slice has four times 64 bytes.
    [0, 1, 2, 3].map(|at| unsafe { _mm512_loadu_si512(taps.as_ptr().add(at * BLOCK).cast()) })
}

/// Values of each channel, in the order of interleaved codes and repeated for each stretch.
#[target_feature(enable = "avx512f")]
#[inline]
fn crossed<const STRETCHES: usize>(values: &[i32]) -> Quads {
    let registers = 4 / STRETCHES;
    let [a, b, c, d] = [0, 1, 2, 3].map(|at: usize| {
        let values = values.get(at % registers * LANES..).unwrap_or(&[]);
        let mask = u32::from(u16::MAX) >> (LANES - values.len().min(LANES));
        // SAFETY: the mask leaves out what lies behind the slice.
        unsafe { _mm512_maskz_loadu_epi32(mask as u16, values.as_ptr()) }
    });
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
