//! 3x3 depthwise convolutions of 16 channels at a time.
//!
//! A column of the kernel, its three codes of one channel, lies in the four bytes of an int32 lane and meets the three
//! taps there; a fourth tap of 0 meets a code that is another channel's. From three rows `r`, `s`, `t` of 16 codes come
//! four such registers:
//!
//! ```text
//! even = TRN1(r, s)    r0 s0 r2 s2 ..    ZIP1, ZIP2(even, t)    r0 s0 t0 t1   r2 s2 t2 t3 ..   taps w0 w1 w2 0
//! odd  = TRN2(r, s)    r1 s1 r3 s3 ..    ZIP1, ZIP2(odd, t)     r1 s1 t0 t1   r3 s3 t2 t3 ..   taps w0 w1 0 w2
//! ```
//!
//! so sums, biases and scales are in the order of [`CHANNELS`].
#![allow(unsafe_code)]

use std::arch::aarch64::*;

use super::output::{ANY, EVEN, EVEN_ODD, Path, RELU, SMALL, relu_offset, requantize};
use super::vector::{dot, load_16, load_16_sums};
use crate::kernels::depthwise::{Depthwise, DepthwiseWeights, PackedTaps};
use crate::kernels::requant::OutputStage;
use crate::kernels::{neon, scalar};

/// Channels of a block.
pub(super) const LANES: usize = 16;

/// Bytes of one int8 part of the taps of a block: 3 columns, 16 channels, 4 taps.
const PART: usize = 3 * LANES * 4;

/// int8 parts that are packed of every tap: the first is the tap itself where it fits, then the second is 0.
const PARTS: usize = 2;

/// In place of the columns with second parts: there are taps of which two parts are not enough.
const NOT_PACKED: u8 = 0x80;

/// The channel of each lane of a block's four registers.
const CHANNELS: [usize; LANES] = [0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15];

/// Whether the packed form below is made, or that of the kernel without dot products.
fn is_packed(weights: &DepthwiseWeights) -> bool {
    weights.kernel == [3, 3] && weights.channels >= LANES
}

/// Where block `block` begins: the last one overlaps the one before.
fn first_channel(block: usize, channels: usize) -> usize {
    (block * LANES).min(channels - LANES)
}

pub(super) fn pack(weights: &DepthwiseWeights) -> PackedTaps {
    if !is_packed(weights) {
        return (neon::DEPTHWISE.pack)(weights);
    }
    let mut packed = PackedTaps::default();
    for block in 0..weights.channels.div_ceil(LANES) {
        let first = first_channel(block, weights.channels);
        let channels = CHANNELS.map(|channel| first + channel);
        let is_small = channels.iter().all(|&channel| is_small(weights, channel));
        for path in [Path::Relu, Path::Small] {
            let start = if is_small { path } else { Path::Any }.start();
            let start = channels.map(|channel| weights.bias[channel].wrapping_add(start));
            packed.bias.extend(start);
        }
        let scales = channels.map(|channel| weights.scales[channel]);
        packed.scales.extend(scales);
        packed.scales.extend(scales.map(relu_offset));
        let wide = pack_block(weights, first, &mut packed.data);
        packed.wide.push(wide);
        packed.usable.push(is_small);
        packed.data.resize((block + 1) * PARTS * PART, 0);
    }
    packed
}

/// Packs the taps of a block; a bit for each column that needs second parts, or [`NOT_PACKED`].
fn pack_block(weights: &DepthwiseWeights, first_channel: usize, data: &mut Vec<i8>) -> u8 {
    let mut parts = [[0i8; PART]; PARTS];
    let mut wide = 0;
    for (lane, channel) in CHANNELS.into_iter().enumerate() {
        for tap in 0..9 {
            let byte = match tap / 3 {
                2 => 2 + channel % 2,
                row => row,
            };
            let at = (tap % 3 * LANES + lane) * 4 + byte;
            let tap = weights.taps[tap * weights.channels + first_channel + channel];
            let first = tap.clamp(-128, 127) as i8;
            let Ok(second) = i8::try_from(tap - i16::from(first)) else {
                return NOT_PACKED;
            };
            parts[0][at] = first;
            parts[1][at] = second;
            wide |= u8::from(second != 0) << (at / (4 * LANES));
        }
    }
    data.extend(parts.as_flattened());
    wide
}

/// Whether sums of the channel lie within 2^22 and, times the scale, within 32,000, whatever the codes.
fn is_small(weights: &DepthwiseWeights, channel: usize) -> bool {
    let (mut low, mut high) = (weights.bias[channel] as i64, weights.bias[channel] as i64);
    for &tap in weights.taps[channel..].iter().step_by(weights.channels) {
        let ends = [-128 * i64::from(tap), 127 * i64::from(tap)];
        low += ends[0].min(ends[1]);
        high += ends[0].max(ends[1]);
    }
    let furthest = high.max(-low);
    furthest < 1 << 22 && furthest as f64 * f64::from(weights.scales[channel]) < 32_000.0
}

/// A block of channels of one row.
struct Block<'a> {
    /// From the block's first channel on, at least up to its last one of the last pixel.
    rows: [&'a [i8]; 3],
    input_stride: usize,
    width: usize,
    padding: usize,
    fill: i8,
    /// `[PARTS][3][LANES][4]`
    taps: &'a [i8],
    /// A bit for each column that needs second parts.
    wide: u8,
    path: Path,
    /// What the sums start at, in the order of [`CHANNELS`].
    start: &'a [i32],
    /// Scales and [`relu_offset`]s, both in the order of [`CHANNELS`].
    scales: &'a [f32],
    stride: usize,
    dilation: usize,
    stage: OutputStage,
    out_stride: usize,
    pixels: usize,
}

/// Blocks of channels outside, pixels inside.
#[target_feature(enable = "neon,dotprod")]
pub(super) fn depthwise(row: Depthwise<'_>) {
    if !is_packed(row.weights) {
        return neon::DEPTHWISE.run(row);
    }
    if row.channels < LANES {
        return scalar::DEPTHWISE.run(row);
    }
    let channels = row.weights.channels;
    let packed = &row.weights.packed;
    let mut block = Block {
        rows: [&[]; 3],
        input_stride: row.input_stride,
        width: row.width,
        padding: row.padding,
        fill: row.fill,
        taps: &[],
        wide: 0,
        path: Path::Any,
        start: &[],
        scales: &[],
        stride: row.stride,
        dilation: row.dilation,
        stage: row.stage,
        out_stride: row.out_stride,
        pixels: row.pixels,
    };
    let end = row.first_channel + row.channels;
    for index in row.first_channel / LANES..end.div_ceil(LANES) {
        let offset = first_channel(index, channels) - row.first_channel;
        for (to, from) in block.rows.iter_mut().zip(row.rows) {
            *to = &from[offset..];
        }
        let out = &mut row.out[offset..];
        if packed.wide[index] == NOT_PACKED {
            scalar::DEPTHWISE.run(Depthwise {
                rows: &block.rows,
                first_channel: row.first_channel + offset,
                channels: LANES,
                out,
                ..row
            });
            continue;
        }
        let furthest_sum = if packed.usable[index] { 0 } else { u32::MAX };
        block.path = Path::of(row.stage, furthest_sum);
        block.wide = packed.wide[index];
        block.taps = &packed.data[index * PARTS * PART..][..PARTS * PART];
        let start = (2 * index + usize::from(block.path != Path::Relu)) * LANES;
        block.start = &packed.bias[start..][..LANES];
        block.scales = &packed.scales[2 * index * LANES..][..2 * LANES];
        block.run(out);
    }
}

impl Block<'_> {
    #[target_feature(enable = "neon,dotprod")]
    fn run(&self, out: &mut [i8]) {
        let input = (self.width - 1) * self.input_stride + LANES;
        for row in self.rows {
            assert!(row.len() >= input);
        }
        assert!(out.len() >= (self.pixels - 1) * self.out_stride + LANES);
        assert_eq!(self.taps.len(), PARTS * PART);
        assert!(self.start.len() == LANES && self.scales.len() == 2 * LANES);
        let out = out.as_mut_ptr();
        // SAFETY: the asserts above.
        unsafe {
            match self.path {
                Path::Relu => self.run_path::<RELU>(out),
                Path::Even => self.run_path::<EVEN>(out),
                Path::Small => self.run_path::<SMALL>(out),
                Path::Any | Path::Sums => self.run_path::<ANY>(out),
            }
        }
    }

    /// # Safety
    /// What [`Block::run`] asserts holds.
    #[target_feature(enable = "neon,dotprod")]
    unsafe fn run_path<const PATH: u8>(&self, out: *mut i8) {
        // SAFETY: the caller vouches for all lengths.
        unsafe {
            match (self.stride, self.dilation, self.wide) {
                (1, 1, 0) => self.stride_1::<PATH, false>(out),
                (1, 1, _) => self.stride_1::<PATH, true>(out),
                (2, 1, 0) => self.stride_2::<PATH, false>(out),
                (2, 1, _) => self.stride_2::<PATH, true>(out),
                _ => self.any_stride::<PATH>(out),
            }
        }
    }

    /// Each column of the input is read once and meets three pixels: it ends `a`, is the middle of `b`, and begins the
    /// next sums. Columns are counted from the first one of padding.
    ///
    /// Registers: 12 hold the taps, 8 accumulate, 4 hold the column.
    ///
    /// # Safety
    /// As of [`Block::run_path`].
    #[target_feature(enable = "neon,dotprod")]
    #[inline(never)]
    unsafe fn stride_1<const PATH: u8, const WIDE: bool>(&self, mut out: *mut i8) {
        let end = self.pixels + 2;
        let inside = self.padding.max(2)..end.min(self.padding + self.width);
        // SAFETY: the columns of the inner loop lie inside the row; out of `end` columns all but two end a pixel.
        unsafe {
            let taps = self.taps();
            let mut a = self.add::<0, WIDE>(self.start(), taps, self.column_or_fill(0));
            let column = self.column_or_fill(1);
            a = self.add::<1, WIDE>(a, taps, column);
            let mut b = self.add::<0, WIDE>(self.start(), taps, column);
            let mut at = 2;
            while at < end {
                let pairs = match at == inside.start {
                    true => inside.len() / 2,
                    false => 0,
                };
                let mut pixel = at
                    .wrapping_sub(self.padding)
                    .wrapping_mul(self.input_stride);
                for _ in 0..pairs {
                    let column = self.column(pixel);
                    (b, a) = self.step::<PATH, WIDE>(taps, column, a, b, out);
                    out = out.wrapping_add(self.out_stride);
                    let column = self.column(pixel + self.input_stride);
                    (a, b) = self.step::<PATH, WIDE>(taps, column, b, a, out);
                    out = out.wrapping_add(self.out_stride);
                    pixel += 2 * self.input_stride;
                }
                at += 2 * pairs;
                if at < end {
                    let column = self.column_or_fill(at);
                    (a, b) = self.step::<PATH, WIDE>(taps, column, a, b, out);
                    out = out.wrapping_add(self.out_stride);
                    at += 1;
                }
            }
        }
    }

    /// One more column: writes the pixel that it ends; the sums of the one in whose middle it is, and of the one that
    /// it begins.
    ///
    /// # Safety
    /// As of [`Block::run_path`]; 16 bytes can be written at `to`.
    #[target_feature(enable = "neon,dotprod")]
    #[inline]
    unsafe fn step<const PATH: u8, const WIDE: bool>(
        &self,
        taps: [[int8x16_t; 4]; 3],
        column: [int8x16_t; 4],
        last: [int32x4_t; 4],
        middle: [int32x4_t; 4],
        to: *mut i8,
    ) -> ([int32x4_t; 4], [int32x4_t; 4]) {
        // SAFETY: the caller vouches for the block and for the bytes at `to`.
        unsafe {
            let sums = self.add::<2, WIDE>(last, taps, column);
            let middle = self.add::<1, WIDE>(middle, taps, column);
            self.finish::<PATH>(sums, to);
            (middle, self.add::<0, WIDE>(self.start(), taps, column))
        }
    }

    /// The last column of a pixel is the first one of the next.
    ///
    /// # Safety
    /// As of [`Block::run_path`].
    #[target_feature(enable = "neon,dotprod")]
    #[inline(never)]
    unsafe fn stride_2<const PATH: u8, const WIDE: bool>(&self, mut out: *mut i8) {
        // Pixels whose middle and last column lie inside the row.
        let start = (self.padding / 2).min(self.pixels);
        let end = (self.padding + self.width - 1) / 2;
        let end = end.clamp(start, self.pixels);
        // SAFETY: columns are read after a check or where they lie inside; each of the pixels is written once.
        unsafe {
            let taps = self.taps();
            let mut acc = self.add::<0, WIDE>(self.start(), taps, self.column_or_fill(0));
            let mut x = 0;
            while x < self.pixels {
                let mut pixel = (2 * x + 1)
                    .wrapping_sub(self.padding)
                    .wrapping_mul(self.input_stride);
                let inside = if x == start { end - start } else { 0 };
                for _ in 0..inside {
                    let middle = self.column(pixel);
                    let last = self.column(pixel + self.input_stride);
                    acc = self.step_2::<PATH, WIDE>(taps, [middle, last], acc, out);
                    out = out.wrapping_add(self.out_stride);
                    pixel += 2 * self.input_stride;
                }
                x += inside;
                if x < self.pixels {
                    let middle = self.column_or_fill(2 * x + 1);
                    let last = self.column_or_fill(2 * x + 2);
                    acc = self.step_2::<PATH, WIDE>(taps, [middle, last], acc, out);
                    out = out.wrapping_add(self.out_stride);
                    x += 1;
                }
            }
        }
    }

    /// Two more columns: writes the pixel that they end; the sums of the one that the second of them begins.
    ///
    /// # Safety
    /// As of [`Block::run_path`]; 16 bytes can be written at `to`.
    #[target_feature(enable = "neon,dotprod")]
    #[inline]
    unsafe fn step_2<const PATH: u8, const WIDE: bool>(
        &self,
        taps: [[int8x16_t; 4]; 3],
        columns: [[int8x16_t; 4]; 2],
        acc: [int32x4_t; 4],
        to: *mut i8,
    ) -> [int32x4_t; 4] {
        // SAFETY: the caller vouches for the block and for the bytes at `to`.
        unsafe {
            let acc = self.add::<1, WIDE>(acc, taps, columns[0]);
            let acc = self.add::<2, WIDE>(acc, taps, columns[1]);
            self.finish::<PATH>(acc, to);
            self.add::<0, WIDE>(self.start(), taps, columns[1])
        }
    }

    /// Any stride, dilation and number of parts.
    ///
    /// # Safety
    /// As of [`Block::run_path`].
    #[target_feature(enable = "neon,dotprod")]
    #[inline(never)]
    unsafe fn any_stride<const PATH: u8>(&self, mut out: *mut i8) {
        // SAFETY: there are as many taps as parts have; each of the pixels is written once.
        unsafe {
            for x in 0..self.pixels {
                let mut acc = self.start();
                for j in 0..3 {
                    let column = self.column_or_fill(x * self.stride + j * self.dilation);
                    acc = multiply(acc, self.load_taps(0, j), column);
                    if self.wide >> j & 1 != 0 {
                        acc = multiply(acc, self.load_taps(1, j), column);
                    }
                }
                self.finish::<PATH>(acc, out);
                out = out.wrapping_add(self.out_stride);
            }
        }
    }

    /// The first part of all taps.
    ///
    /// # Safety
    /// As of [`Block::run_path`].
    #[target_feature(enable = "neon,dotprod")]
    #[inline]
    unsafe fn taps(&self) -> [[int8x16_t; 4]; 3] {
        // SAFETY: the caller vouches for the block; there are three columns.
        unsafe {
            [
                self.load_taps(0, 0),
                self.load_taps(0, 1),
                self.load_taps(0, 2),
            ]
        }
    }

    /// One part of a column of taps.
    ///
    /// # Safety
    /// As of [`Block::run_path`]; there are [`PARTS`] parts and three columns.
    #[target_feature(enable = "neon,dotprod")]
    #[inline]
    unsafe fn load_taps(&self, part: usize, column: usize) -> [int8x16_t; 4] {
        // SAFETY: the caller vouches for part and column: there are 64 bytes.
        let taps = unsafe {
            let at = part * PART + column * 4 * LANES;
            load_16(self.taps.as_ptr().add(at).cast())
        };
        [
            vreinterpretq_s8_f32(taps[0]),
            vreinterpretq_s8_f32(taps[1]),
            vreinterpretq_s8_f32(taps[2]),
            vreinterpretq_s8_f32(taps[3]),
        ]
    }

    /// Adds the products of column `COLUMN` of the kernel; of both parts if `WIDE`.
    ///
    /// # Safety
    /// As of [`Block::run_path`].
    #[target_feature(enable = "neon,dotprod")]
    #[inline]
    unsafe fn add<const COLUMN: usize, const WIDE: bool>(
        &self,
        acc: [int32x4_t; 4],
        taps: [[int8x16_t; 4]; 3],
        codes: [int8x16_t; 4],
    ) -> [int32x4_t; 4] {
        let acc = multiply(acc, taps[COLUMN], codes);
        if !WIDE || self.wide >> COLUMN & 1 == 0 {
            return acc;
        }
        // SAFETY: every column has second parts.
        multiply(acc, unsafe { self.load_taps(1, COLUMN) }, codes)
    }

    /// What the sums of a pixel start at.
    ///
    /// # Safety
    /// As of [`Block::run_path`].
    #[target_feature(enable = "neon,dotprod")]
    #[inline]
    unsafe fn start(&self) -> [int32x4_t; 4] {
        // SAFETY: the caller vouches for the block: there are 16.
        unsafe { load_16_sums(self.start.as_ptr()) }
    }

    /// The codes of the pixel that begins at `at`, in the order of the taps.
    ///
    /// # Safety
    /// There is such a pixel.
    #[target_feature(enable = "neon,dotprod")]
    #[inline]
    unsafe fn column(&self, at: usize) -> [int8x16_t; 4] {
        // SAFETY: the pixel's 16 channels can be read in all rows.
        let (r, s, t) = unsafe {
            (
                vld1q_s8(self.rows[0].as_ptr().add(at)),
                vld1q_s8(self.rows[1].as_ptr().add(at)),
                vld1q_s8(self.rows[2].as_ptr().add(at)),
            )
        };
        let even = vreinterpretq_s16_s8(vtrn1q_s8(r, s));
        let odd = vreinterpretq_s16_s8(vtrn2q_s8(r, s));
        let t = vreinterpretq_s16_s8(t);
        [
            vreinterpretq_s8_s16(vzip1q_s16(even, t)),
            vreinterpretq_s8_s16(vzip1q_s16(odd, t)),
            vreinterpretq_s8_s16(vzip2q_s16(even, t)),
            vreinterpretq_s8_s16(vzip2q_s16(odd, t)),
        ]
    }

    /// Column `at`, counted from the first one of padding.
    ///
    /// # Safety
    /// As of [`Block::run_path`].
    #[target_feature(enable = "neon,dotprod")]
    #[inline]
    unsafe fn column_or_fill(&self, at: usize) -> [int8x16_t; 4] {
        let at = at.wrapping_sub(self.padding);
        match at < self.width {
            // SAFETY: the pixel exists.
            true => unsafe { self.column(at * self.input_stride) },
            false => [vdupq_n_s8(self.fill); 4],
        }
    }

    /// Writes the 16 codes of a pixel.
    ///
    /// # Safety
    /// As of [`Block::run_path`]; 16 bytes can be written at `to`.
    #[target_feature(enable = "neon,dotprod")]
    #[inline]
    unsafe fn finish<const PATH: u8>(&self, acc: [int32x4_t; 4], to: *mut i8) {
        let scales = self.scales.as_ptr();
        // SAFETY: there are 16 scales and 16 offsets; the caller vouches for `to`.
        unsafe {
            let mut offsets = [vdupq_n_f32(0.0); 4];
            if PATH == RELU {
                offsets = load_16(scales.add(LANES));
            }
            let scales = load_16(scales);
            let codes = requantize::<PATH, EVEN_ODD>(acc, scales, offsets, self.stage);
            vst1q_s8(to, codes);
        }
    }
}

/// Adds the products of a column.
#[target_feature(enable = "neon,dotprod")]
#[inline]
fn multiply(
    mut acc: [int32x4_t; 4],
    taps: [int8x16_t; 4],
    column: [int8x16_t; 4],
) -> [int32x4_t; 4] {
    for quad in 0..4 {
        acc[quad] = dot(acc[quad], taps[quad], column[quad]);
    }
    acc
}
