//! The matrix product.
#![allow(unsafe_code)]

use std::arch::aarch64::*;

use super::output::{
    ANY, EVEN, IN_TURN, ODD, Path, RELU, SMALL, SUMS, relu_offset, requantize, store, store_sums,
};
use super::vector::{dot_lane, load_16, load_16_sums, next, next_2, next_4};
use super::{KR, MR, NR};
use crate::kernels::gemm::{Gemm, Output};
use crate::kernels::requant::OutputStage;

/// A block of channels, to be made on all rows.
struct Block<'a> {
    a: &'a [i8],
    a_stride: usize,
    rows: usize,
    /// `[groups][NR][KR]`
    weights: &'a [i8],
    /// Groups of `KR` elements of the depth.
    groups: usize,
    /// What the sums start at.
    start: [i32; NR],
    scales: &'a [f32],
    /// [`relu_offset`]s
    offsets: [f32; NR],
    /// One for each row, or none.
    row_terms: &'a [i32],
    stage: OutputStage,
    /// Channels that are written.
    channels: usize,
    /// Bytes from one row of the output to the next.
    out_stride: usize,
}

/// Blocks of channels outside, rows inside: the weights of a block are read once, `a` stays in the cache.
#[target_feature(enable = "neon,dotprod")]
pub(super) fn gemm(gemm: Gemm<'_>) {
    let weights = gemm.weights;
    let (out, bytes, terms, stage) = match gemm.out {
        Output::Sums(sums) => (bytemuck::cast_slice_mut(sums), 4, &[][..], None),
        Output::Codes {
            out,
            row_terms,
            stage,
        } => (out, 1, row_terms, Some(stage)),
    };
    for (at, index) in gemm.blocks.enumerate() {
        let channels = weights.channels_of(index..index + 1);
        let row_terms = match weights.has_row_term(index) {
            true => terms,
            false => &[],
        };
        let furthest_sum = weights.furthest_sum(index);
        let path = match stage {
            None => Path::Sums,
            Some(_) if channels < NR || !row_terms.is_empty() => Path::of_any_block(furthest_sum),
            Some(stage) => Path::of(stage, furthest_sum),
        };
        let (mut start, mut offsets) = ([0; NR], [0.0; NR]);
        let (bias, scales) = (&weights.bias(index)[..NR], &weights.scales(index)[..NR]);
        for n in 0..NR {
            start[n] = bias[n].wrapping_add(path.start());
            offsets[n] = relu_offset(scales[n]);
        }
        let block = Block {
            a: gemm.a,
            a_stride: gemm.a_stride,
            rows: gemm.rows,
            weights: weights.block(index),
            groups: weights.depth().div_ceil(KR),
            start,
            scales,
            offsets,
            row_terms,
            stage: stage.unwrap_or(OutputStage::full_range(0)),
            channels,
            out_stride: gemm.out_stride * bytes,
        };
        block.run(path, &mut out[at * NR * bytes..]);
    }
}

impl Block<'_> {
    /// `out` begins at the first channel of the first row. Other paths than
    /// [`Path::Small`], [`Path::Any`] and [`Path::Sums`] take whole blocks without
    /// row terms.
    #[target_feature(enable = "neon,dotprod")]
    fn run(&self, path: Path, out: &mut [i8]) {
        match (path, self.channels) {
            (Path::Sums, _) => self.run_rows::<4, SUMS>(out),
            (Path::Relu, _) => self.run_rows::<4, RELU>(out),
            (Path::Even, _) => self.run_rows::<4, EVEN>(out),
            (Path::Odd, _) => self.run_rows::<4, ODD>(out),
            (Path::Any, 9..) => self.run_rows::<4, ANY>(out),
            (Path::Any, _) => self.run_rows::<2, ANY>(out),
            (Path::Small, 9..) => self.run_rows::<4, SMALL>(out),
            (Path::Small, 5..) => self.run_rows::<2, SMALL>(out),
            (Path::Small, _) => self.run_rows::<1, SMALL>(out),
        }
    }

    /// `4 * QUADS` channels of every row, of which those that there are are written.
    #[target_feature(enable = "neon,dotprod")]
    #[inline(never)]
    fn run_rows<const QUADS: usize, const PATH: u8>(&self, out: &mut [i8]) {
        let bytes = if PATH == SUMS { 4 } else { 1 };
        let last = self.rows - 1;
        assert!(self.a.len() >= last * self.a_stride + self.groups.next_multiple_of(4) * KR);
        assert!(self.weights.len() >= self.groups * NR * KR);
        assert!(self.channels <= 4 * QUADS && self.scales.len() >= NR);
        assert!(out.len() >= last * self.out_stride + self.channels * bytes);
        assert!(self.row_terms.is_empty() || self.row_terms.len() == self.rows);
        let (mut a, mut out) = (self.a.as_ptr(), out.as_mut_ptr());
        let mut terms = self.row_terms.as_ptr();
        // SAFETY: the asserts above, and there are as many rows as a tile has.
        unsafe {
            for _ in 0..self.rows / MR {
                self.tile::<MR, QUADS, PATH>(a, terms, out);
                a = a.wrapping_add(MR * self.a_stride);
                out = out.wrapping_add(MR * self.out_stride);
                terms = terms.wrapping_add(MR);
            }
            if self.rows & 2 != 0 {
                self.tile::<2, QUADS, PATH>(a, terms, out);
                a = a.wrapping_add(2 * self.a_stride);
                out = out.wrapping_add(2 * self.out_stride);
                terms = terms.wrapping_add(2);
            }
            if self.rows & 1 != 0 {
                self.tile::<1, QUADS, PATH>(a, terms, out);
            }
        }
    }

    /// Makes `ROWS` rows: those that begin at `a`, `terms` and `out`.
    ///
    /// # Safety
    /// What [`Block::run_rows`] asserts holds, and the rows exist.
    #[target_feature(enable = "neon,dotprod")]
    #[inline]
    unsafe fn tile<const ROWS: usize, const QUADS: usize, const PATH: u8>(
        &self,
        a: *const i8,
        terms: *const i32,
        out: *mut i8,
    ) {
        // SAFETY: the caller vouches for the rows and their lengths; there are `NR` scales.
        unsafe {
            let acc = self.multiply::<ROWS, QUADS, PATH>(a);
            let mut scales = [vdupq_n_f32(0.0); 4];
            for quad in 0..QUADS {
                scales[quad] = vld1q_f32(self.scales.as_ptr().add(4 * quad));
            }
            for row in 0..ROWS {
                let to = out.add(row * self.out_stride);
                let mut sums = [vdupq_n_s32(0); 4];
                for quad in 0..QUADS {
                    sums[quad] = acc[row][quad];
                    if matches!(PATH, ANY | SMALL) && !self.row_terms.is_empty() {
                        sums[quad] = vaddq_s32(sums[quad], vld1q_dup_s32(terms.add(row)));
                    }
                }
                let channels = match PATH {
                    RELU | EVEN | ODD => NR,
                    _ => self.channels,
                };
                match PATH {
                    SUMS => store_sums(sums, to.cast(), channels),
                    _ => {
                        let mut offsets = scales;
                        if PATH == RELU {
                            offsets = load_16(self.offsets.as_ptr());
                        }
                        let codes = requantize::<PATH, IN_TURN>(sums, scales, offsets, self.stage);
                        store(codes, to, channels);
                    }
                }
            }
        }
    }

    /// Sums of `ROWS` rows and `4 * QUADS` channels over all groups. What `a` holds behind the depth meets weights of
    /// 0.
    ///
    /// Registers of 4 rows and 4 quads: 16 accumulate; 8 hold 32 codes of each row; 4 the weights of a group.
    ///
    /// # Safety
    /// As of [`Block::tile`].
    #[target_feature(enable = "neon,dotprod")]
    #[inline]
    unsafe fn multiply<const ROWS: usize, const QUADS: usize, const PATH: u8>(
        &self,
        first: *const i8,
    ) -> [[int32x4_t; QUADS]; ROWS] {
        // SAFETY: each group reads `NR * KR` bytes of the weights, each four, whole or not, 16 bytes of every row.
        unsafe {
            let mut acc = self.start::<ROWS, QUADS>();
            let mut weights = self.weights.as_ptr();
            let mut a = [std::ptr::null(); ROWS];
            for row in 0..ROWS {
                a[row] = first.add(row * self.a_stride);
            }
            let mut x = [vdupq_n_s8(0); ROWS];
            let mut y = [vdupq_n_s8(0); ROWS];
            for _ in 0..self.groups / 8 {
                for row in 0..ROWS {
                    (x[row], y[row]) = next_2(&mut a[row]);
                }
                four_groups(&mut acc, x, &mut weights);
                four_groups(&mut acc, y, &mut weights);
            }
            if self.groups & 4 != 0 {
                for row in 0..ROWS {
                    x[row] = next(&mut a[row]);
                }
                four_groups(&mut acc, x, &mut weights);
            }
            let rest = self.groups & 3;
            if rest != 0 {
                for row in 0..ROWS {
                    x[row] = next(&mut a[row]);
                }
                group::<0, ROWS, QUADS>(&mut acc, x, &mut weights);
                if rest > 1 {
                    group::<1, ROWS, QUADS>(&mut acc, x, &mut weights);
                }
                if rest > 2 {
                    group::<2, ROWS, QUADS>(&mut acc, x, &mut weights);
                }
            }
            acc
        }
    }

    #[target_feature(enable = "neon,dotprod")]
    #[inline]
    fn start<const ROWS: usize, const QUADS: usize>(&self) -> [[int32x4_t; QUADS]; ROWS] {
        let mut acc = [[vdupq_n_s32(0); QUADS]; ROWS];
        for row in 0..ROWS {
            // SAFETY: `start` has `NR` elements.
            let start = unsafe { load_16_sums(self.start.as_ptr()) };
            for quad in 0..QUADS {
                acc[row][quad] = start[quad];
            }
        }
        acc
    }
}

/// Adds the products of four groups: those that `x` holds.
///
/// # Safety
/// `4 * NR * KR` bytes can be read at `weights`.
#[target_feature(enable = "neon,dotprod")]
#[inline]
unsafe fn four_groups<const ROWS: usize, const QUADS: usize>(
    acc: &mut [[int32x4_t; QUADS]; ROWS],
    x: [int8x16_t; ROWS],
    weights: &mut *const i8,
) {
    // SAFETY: the caller vouches for the bytes.
    unsafe {
        group::<0, ROWS, QUADS>(acc, x, weights);
        group::<1, ROWS, QUADS>(acc, x, weights);
        group::<2, ROWS, QUADS>(acc, x, weights);
        group::<3, ROWS, QUADS>(acc, x, weights);
    }
}

/// Adds the products of one group: those that `LANE` of the rows' registers holds.
///
/// # Safety
/// `NR * KR` bytes can be read at `weights`.
#[target_feature(enable = "neon,dotprod")]
#[inline]
unsafe fn group<const LANE: i32, const ROWS: usize, const QUADS: usize>(
    acc: &mut [[int32x4_t; QUADS]; ROWS],
    x: [int8x16_t; ROWS],
    weights: &mut *const i8,
) {
    let mut w = [vdupq_n_s8(0); 4];
    // SAFETY: the caller vouches for the bytes.
    unsafe {
        match QUADS {
            1 => w[0] = vld1q_s8(*weights),
            2 => (w[0], w[1]) = (vld1q_s8(*weights), vld1q_s8(weights.add(16))),
            _ => w = next_4(weights),
        }
    }
    if QUADS < 4 {
        *weights = weights.wrapping_add(NR * KR);
    }
    for quad in 0..QUADS {
        for row in 0..ROWS {
            acc[row][quad] = dot_lane::<LANE>(acc[row][quad], w[quad], x[row]);
        }
    }
}
