//! 3x3 depthwise convolutions of 16 channels at a time. A column of the kernel, its three codes of one channel, meets
//! its taps in one int32 lane: see [`super::taps`].
#![allow(unsafe_code)]

use std::arch::aarch64::*;

use super::output::{ANY, EVEN, EVEN_ODD, ODD, Path, RELU, SMALL, requantize};
use super::taps::{
    LANES, NOT_PACKED, PART, PARTS, SMALL_RESULTS, WIDE_COLUMNS, first_channel, is_packed,
};
use super::vector::{dot, load_16, load_16_sums};
use crate::kernels::depthwise::{Depthwise, PackedTaps};
use crate::kernels::requant::OutputStage;
use crate::kernels::{neon, scalar};

/// Blocks of channels of one row, side by side, that go the same way.
struct Blocks<'a> {
    /// From the first block's first channel on, at least up to the last block's last one of the last pixel.
    rows: [&'a [i8]; 3],
    input_stride: usize,
    width: usize,
    padding: usize,
    fill: i8,
    /// `[blocks][PARTS][3][LANES][4]`
    taps: &'a [i8],
    /// Of each block.
    plans: &'a [u8],
    /// `[blocks][2][LANES]`: what sums start at on [`Path::Relu`] and on other paths, in the order of [`super::taps::CHANNELS`].
    start: &'a [i32],
    /// `[blocks][2][LANES]`: scales and [`super::output::relu_offset`]s, in the order of [`super::taps::CHANNELS`].
    scales: &'a [f32],
    stride: usize,
    dilation: usize,
    stage: OutputStage,
    out_stride: usize,
    pixels: usize,
}

/// The way that a block goes: the path of its sums, whether it has second parts; or that it is not packed.
fn way(packed: &PackedTaps, stage: OutputStage, block: usize) -> Option<(Path, bool)> {
    let plan = packed.plans[block];
    let furthest_sum = match plan & SMALL_RESULTS {
        0 => u32::MAX,
        _ => 0,
    };
    let is_wide = plan & WIDE_COLUMNS != 0;
    (plan != NOT_PACKED).then_some((Path::of(stage, furthest_sum), is_wide))
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
    let end = (row.first_channel + row.channels).div_ceil(LANES);
    let mut first = row.first_channel / LANES;
    while first < end {
        let way = way(packed, row.stage, first);
        let mut last = first + 1;
        while last < end
            && (last + 1) * LANES <= channels
            && self::way(packed, row.stage, last) == way
        {
            last += 1;
        }
        let offset = first_channel(first, channels) - row.first_channel;
        let rows = [
            &row.rows[0][offset..],
            &row.rows[1][offset..],
            &row.rows[2][offset..],
        ];
        let out = &mut row.out[offset..];
        match way {
            Some((path, is_wide)) => Blocks {
                rows,
                input_stride: row.input_stride,
                width: row.width,
                padding: row.padding,
                fill: row.fill,
                taps: &packed.data[first * PARTS * PART..last * PARTS * PART],
                plans: &packed.plans[first..last],
                start: &packed.bias[first * 2 * LANES..last * 2 * LANES],
                scales: &packed.scales[first * 2 * LANES..last * 2 * LANES],
                stride: row.stride,
                dilation: row.dilation,
                stage: row.stage,
                out_stride: row.out_stride,
                pixels: row.pixels,
            }
            .run(path, is_wide, out),
            None => scalar::DEPTHWISE.run(Depthwise {
                rows: &rows,
                first_channel: row.first_channel + offset,
                channels: (last - first) * LANES,
                out,
                ..row
            }),
        }
        first = last;
    }
}

/// Where a block's data lies.
#[derive(Clone, Copy)]
struct Block {
    rows: [*const i8; 3],
    taps: *const i8,
    plan: u8,
    start: *const i32,
    scales: [float32x4_t; 4],
    /// [`super::output::relu_offset`]s
    offsets: *const f32,
    out: *mut i8,
}

impl Blocks<'_> {
    #[target_feature(enable = "neon,dotprod")]
    fn run(&self, path: Path, is_wide: bool, out: &mut [i8]) {
        let blocks = self.plans.len();
        let input = (self.width - 1) * self.input_stride + blocks * LANES;
        for row in self.rows {
            assert!(row.len() >= input);
        }
        assert!(out.len() >= (self.pixels - 1) * self.out_stride + blocks * LANES);
        assert_eq!(self.taps.len(), blocks * PARTS * PART);
        assert_eq!(self.start.len(), blocks * 2 * LANES);
        assert_eq!(self.scales.len(), blocks * 2 * LANES);
        let out = out.as_mut_ptr();
        // SAFETY: the asserts above.
        unsafe {
            match (path, is_wide) {
                (Path::Relu, false) => self.run_path::<RELU, false>(out),
                (Path::Relu, true) => self.run_path::<RELU, true>(out),
                (Path::Even, false) => self.run_path::<EVEN, false>(out),
                (Path::Even, true) => self.run_path::<EVEN, true>(out),
                (Path::Odd, false) => self.run_path::<ODD, false>(out),
                (Path::Odd, true) => self.run_path::<ODD, true>(out),
                (Path::Small, false) => self.run_path::<SMALL, false>(out),
                (Path::Small, true) => self.run_path::<SMALL, true>(out),
                (Path::Any | Path::Sums, _) => self.run_path::<ANY, true>(out),
            }
        }
    }

    /// # Safety
    /// What [`Blocks::run`] asserts holds.
    #[target_feature(enable = "neon,dotprod")]
    unsafe fn run_path<const PATH: u8, const WIDE: bool>(&self, out: *mut i8) {
        // SAFETY: the caller vouches for all lengths.
        unsafe {
            match (self.stride, self.dilation) {
                (1, 1) => self.stride_1::<PATH, WIDE>(out),
                (2, 1) => self.stride_2::<PATH, WIDE>(out),
                _ => self.any_stride::<PATH>(out),
            }
        }
    }

    /// # Safety
    /// What [`Blocks::run`] asserts holds; there is such a block.
    #[target_feature(enable = "neon,dotprod")]
    #[inline]
    unsafe fn block<const PATH: u8>(&self, index: usize, out: *mut i8) -> Block {
        let other_path = if PATH == RELU { 0 } else { LANES };
        // SAFETY: the caller vouches for the lengths.
        unsafe {
            Block {
                rows: [
                    self.rows[0].as_ptr().add(index * LANES),
                    self.rows[1].as_ptr().add(index * LANES),
                    self.rows[2].as_ptr().add(index * LANES),
                ],
                taps: self.taps.as_ptr().add(index * PARTS * PART),
                plan: *self.plans.as_ptr().add(index),
                start: self.start.as_ptr().add(index * 2 * LANES + other_path),
                scales: load_16(self.scales.as_ptr().add(index * 2 * LANES)),
                offsets: self.scales.as_ptr().add((index * 2 + 1) * LANES),
                out: out.add(index * LANES),
            }
        }
    }

    /// Each column of the input is read once and meets three pixels: it ends `a`, is the middle of `b`, and begins the
    /// next sums. Columns are counted from the first one of padding.
    ///
    /// Registers: 12 hold the taps, 8 accumulate, 4 hold the column.
    ///
    /// # Safety
    /// What [`Blocks::run`] asserts holds.
    #[target_feature(enable = "neon,dotprod")]
    #[inline(never)]
    unsafe fn stride_1<const PATH: u8, const WIDE: bool>(&self, out: *mut i8) {
        let end = self.pixels + 2;
        let inside = self.padding.max(2)..end.min(self.padding + self.width);
        let pairs = inside.len() / 2;
        let first = (inside.start - self.padding) * self.input_stride;
        for index in 0..self.plans.len() {
            // SAFETY: the columns of the inner loop lie inside the row; of `end` columns all but two end a pixel.
            unsafe {
                let mut block = self.block::<PATH>(index, out);
                let taps = block.taps();
                let column = self.column(&block, 0);
                let mut a = block.add::<0, WIDE>(block.start(), taps, column);
                let column = self.column(&block, 1);
                a = block.add::<1, WIDE>(a, taps, column);
                let mut b = block.add::<0, WIDE>(block.start(), taps, column);
                let mut at = 2;
                while at < end {
                    if at == inside.start {
                        let mut pixel = first;
                        for _ in 0..pairs {
                            let column = block.column(pixel);
                            (b, a) = self.step::<PATH, WIDE>(&mut block, taps, column, [a, b]);
                            let column = block.column(pixel + self.input_stride);
                            (a, b) = self.step::<PATH, WIDE>(&mut block, taps, column, [b, a]);
                            pixel += 2 * self.input_stride;
                        }
                        at += 2 * pairs;
                        if at == end {
                            break;
                        }
                    }
                    let column = self.column(&block, at);
                    (a, b) = self.step::<PATH, WIDE>(&mut block, taps, column, [a, b]);
                    at += 1;
                }
            }
        }
    }

    /// One more column: writes the pixel that it ends, the first one of `sums`; the sums of the one in whose middle it
    /// is, and of the one that it begins.
    ///
    /// # Safety
    /// What [`Blocks::run`] asserts holds; there is another pixel to write.
    #[target_feature(enable = "neon,dotprod")]
    #[inline]
    unsafe fn step<const PATH: u8, const WIDE: bool>(
        &self,
        block: &mut Block,
        taps: [[int8x16_t; 4]; 3],
        column: [int8x16_t; 4],
        sums: [[int32x4_t; 4]; 2],
    ) -> ([int32x4_t; 4], [int32x4_t; 4]) {
        // SAFETY: the caller vouches for the block and for the pixel.
        unsafe {
            let last = block.add::<2, WIDE>(sums[0], taps, column);
            let middle = block.add::<1, WIDE>(sums[1], taps, column);
            self.finish::<PATH>(block, last);
            (middle, block.add::<0, WIDE>(block.start(), taps, column))
        }
    }

    /// The last column of a pixel is the first one of the next.
    ///
    /// # Safety
    /// What [`Blocks::run`] asserts holds.
    #[target_feature(enable = "neon,dotprod")]
    #[inline(never)]
    unsafe fn stride_2<const PATH: u8, const WIDE: bool>(&self, out: *mut i8) {
        // Pixels whose middle and last column lie inside the row.
        let start = self.padding / 2;
        let end = ((self.padding + self.width - 1) / 2).min(self.pixels);
        let inside = end.saturating_sub(start);
        let first = (2 * start + 1 - self.padding.min(2 * start + 1)) * self.input_stride;
        for index in 0..self.plans.len() {
            // SAFETY: columns are read after a check or where they lie inside; each of the pixels is written once.
            unsafe {
                let mut block = self.block::<PATH>(index, out);
                let taps = block.taps();
                let column = self.column(&block, 0);
                let mut acc = block.add::<0, WIDE>(block.start(), taps, column);
                let mut x = 0;
                while x < self.pixels {
                    if x == start {
                        let mut pixel = first;
                        for _ in 0..inside {
                            let middle = block.column(pixel);
                            let last = block.column(pixel + self.input_stride);
                            acc = self.step_2::<PATH, WIDE>(&mut block, taps, [middle, last], acc);
                            pixel += 2 * self.input_stride;
                        }
                        x += inside;
                        if x == self.pixels {
                            break;
                        }
                    }
                    let middle = self.column(&block, 2 * x + 1);
                    let last = self.column(&block, 2 * x + 2);
                    acc = self.step_2::<PATH, WIDE>(&mut block, taps, [middle, last], acc);
                    x += 1;
                }
            }
        }
    }

    /// Two more columns: writes the pixel that they end; the sums of the one that the second of them begins.
    ///
    /// # Safety
    /// What [`Blocks::run`] asserts holds; there is another pixel to write.
    #[target_feature(enable = "neon,dotprod")]
    #[inline]
    unsafe fn step_2<const PATH: u8, const WIDE: bool>(
        &self,
        block: &mut Block,
        taps: [[int8x16_t; 4]; 3],
        columns: [[int8x16_t; 4]; 2],
        acc: [int32x4_t; 4],
    ) -> [int32x4_t; 4] {
        // SAFETY: the caller vouches for the block and for the pixel.
        unsafe {
            let acc = block.add::<1, WIDE>(acc, taps, columns[0]);
            let acc = block.add::<2, WIDE>(acc, taps, columns[1]);
            self.finish::<PATH>(block, acc);
            block.add::<0, WIDE>(block.start(), taps, columns[1])
        }
    }

    /// Any stride and dilation.
    ///
    /// # Safety
    /// What [`Blocks::run`] asserts holds.
    #[target_feature(enable = "neon,dotprod")]
    #[inline(never)]
    unsafe fn any_stride<const PATH: u8>(&self, out: *mut i8) {
        for index in 0..self.plans.len() {
            // SAFETY: each of the pixels is written once.
            unsafe {
                let mut block = self.block::<PATH>(index, out);
                for x in 0..self.pixels {
                    let taps = block.taps();
                    let at = x * self.stride;
                    let mut acc = block.start();
                    acc = block.add::<0, true>(acc, taps, self.column(&block, at));
                    let column = self.column(&block, at + self.dilation);
                    acc = block.add::<1, true>(acc, taps, column);
                    let column = self.column(&block, at + 2 * self.dilation);
                    acc = block.add::<2, true>(acc, taps, column);
                    self.finish::<PATH>(&mut block, acc);
                }
            }
        }
    }

    /// Column `at`, counted from the first one of padding.
    ///
    /// # Safety
    /// What [`Blocks::run`] asserts holds.
    #[target_feature(enable = "neon,dotprod")]
    #[inline]
    unsafe fn column(&self, block: &Block, at: usize) -> [int8x16_t; 4] {
        let at = at.wrapping_sub(self.padding);
        match at < self.width {
            // SAFETY: the pixel exists.
            true => unsafe { block.column(at * self.input_stride) },
            false => [vdupq_n_s8(self.fill); 4],
        }
    }

    /// Writes the 16 codes of a pixel and goes on to the next.
    ///
    /// # Safety
    /// What [`Blocks::run`] asserts holds; there is another pixel to write.
    #[target_feature(enable = "neon,dotprod")]
    #[inline]
    unsafe fn finish<const PATH: u8>(&self, block: &mut Block, acc: [int32x4_t; 4]) {
        // SAFETY: a block has 16 offsets; the caller vouches for the pixel.
        unsafe {
            let mut offsets = [vdupq_n_f32(0.0); 4];
            if PATH == RELU {
                offsets = load_16(block.offsets);
            }
            let codes = requantize::<PATH, EVEN_ODD>(acc, block.scales, offsets, self.stage);
            vst1q_s8(block.out, codes);
        }
        block.out = block.out.wrapping_add(self.out_stride);
    }
}

impl Block {
    /// The first part of all taps.
    ///
    /// # Safety
    /// The block is one of [`Blocks::block`].
    #[target_feature(enable = "neon,dotprod")]
    #[inline]
    unsafe fn taps(&self) -> [[int8x16_t; 4]; 3] {
        // SAFETY: there are three columns of a first part.
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
    /// The block is one of [`Blocks::block`]; there are [`PARTS`] parts and three columns.
    #[target_feature(enable = "neon,dotprod")]
    #[inline]
    unsafe fn load_taps(&self, part: usize, column: usize) -> [int8x16_t; 4] {
        // SAFETY: the caller vouches for part and column: there are 64 bytes.
        let taps = unsafe {
            let at = part * PART + column * 4 * LANES;
            load_16(self.taps.add(at).cast())
        };
        [
            vreinterpretq_s8_f32(taps[0]),
            vreinterpretq_s8_f32(taps[1]),
            vreinterpretq_s8_f32(taps[2]),
            vreinterpretq_s8_f32(taps[3]),
        ]
    }

    /// What the sums of a pixel start at.
    ///
    /// # Safety
    /// The block is one of [`Blocks::block`].
    #[target_feature(enable = "neon,dotprod")]
    #[inline]
    unsafe fn start(&self) -> [int32x4_t; 4] {
        // SAFETY: a block has 16.
        unsafe { load_16_sums(self.start) }
    }

    /// Adds the products of column `COLUMN` of the kernel; of second parts too if `WIDE` and there are.
    ///
    /// # Safety
    /// The block is one of [`Blocks::block`].
    #[target_feature(enable = "neon,dotprod")]
    #[inline]
    unsafe fn add<const COLUMN: usize, const WIDE: bool>(
        &self,
        acc: [int32x4_t; 4],
        taps: [[int8x16_t; 4]; 3],
        codes: [int8x16_t; 4],
    ) -> [int32x4_t; 4] {
        let acc = multiply(acc, taps[COLUMN], codes);
        if !WIDE || self.plan >> COLUMN & 1 == 0 {
            return acc;
        }
        // SAFETY: every column has second parts.
        multiply(acc, unsafe { self.load_taps(1, COLUMN) }, codes)
    }

    /// The codes of the pixel that begins at `at`, in the order of the taps.
    ///
    /// # Safety
    /// The block is one of [`Blocks::block`]; there is such a pixel.
    #[target_feature(enable = "neon,dotprod")]
    #[inline]
    unsafe fn column(&self, at: usize) -> [int8x16_t; 4] {
        // SAFETY: the pixel's 16 channels can be read in all rows.
        let (r, s, t) = unsafe {
            (
                vld1q_s8(self.rows[0].add(at)),
                vld1q_s8(self.rows[1].add(at)),
                vld1q_s8(self.rows[2].add(at)),
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
