//! The matrix product for Armv8.0.
//!
//! A lane of int16 sums the products of two depths, or of four where the packer has proved that they fit ([`Step`]):
//! `SMULL`, then `SMLAL`. `SADALP` adds two neighbouring lanes to int32. Every accumulator belongs to one row and one
//! channel and holds four partial sums; `ADDP` adds them up at the end.

use std::arch::aarch64::{float32x4_t, int32x4_t};
use std::ops::Range;

use super::output::{CodesStage, load_f32, load_i32, needs_clamp, store_4, store_some, store_sums};
use super::registers::*;
use super::tile::{ROW_OVERREAD, multiply_1_row, multiply_4_rows};
use crate::kernels::gemm::{GEMM_OVERREAD, Gemm, GemmKernel, Output};
use crate::kernels::pack::{LONG_GROUP, PackedWeights, Step, Tile, WEIGHTS_PADDING};
use crate::kernels::requant::OutputStage;

const MR: usize = 4;
const NR: usize = 4;

pub const GEMMS: [GemmKernel; 1] = [GemmKernel {
    name: "i8_gemm_4x4c32_neon",
    tile: Tile {
        mr: MR,
        nr: NR,
        kr: LONG_GROUP,
        offset: 0,
    },
    scratch_per_depth: 0,
    needs_no_minimum: false,
    run: gemm_4x4c32,
}];

fn gemm_4x4c32(gemm: Gemm<'_>) {
    const { assert!(GEMM_OVERREAD >= LONG_GROUP / 2 + ROW_OVERREAD) };
    let depth = gemm.weights.depth() + GEMM_OVERREAD;
    assert!(gemm.a.len() >= (gemm.rows - 1) * gemm.a_stride + depth);
    let product = Product {
        a: gemm.a,
        a_stride: gemm.a_stride,
        rows: gemm.rows,
        weights: gemm.weights,
        out_stride: gemm.out_stride,
    };
    match gemm.out {
        Output::Codes {
            out,
            row_terms,
            stage,
        } => match needs_clamp(stage) {
            true => product.codes::<true>(gemm.blocks, out, row_terms, stage),
            false => product.codes::<false>(gemm.blocks, out, row_terms, stage),
        },
        Output::Sums(out) => product.sums(gemm.blocks, out),
    }
}

/// A [`Gemm`] without its output. Whoever makes one asserts that the depth and [`GEMM_OVERREAD`] bytes are readable in
/// every row of `a`.
struct Product<'a> {
    a: &'a [i8],
    a_stride: usize,
    rows: usize,
    weights: &'a PackedWeights,
    out_stride: usize,
}

impl Product<'_> {
    fn codes<const CLAMP: bool>(
        &self,
        blocks: Range<usize>,
        out: &mut [i8],
        row_terms: &[i32],
        stage: OutputStage,
    ) {
        for (at, block) in blocks.enumerate() {
            let channels = self.weights.channels_of(block..block + 1);
            let mut to = Codes {
                bias: load_i32(self.weights.bias(block), 0),
                scales: load_f32(self.weights.scales(block), 0),
                stage: CodesStage::<CLAMP>::new(stage),
                row_terms: match self.weights.has_row_term(block) {
                    true => row_terms,
                    false => &[],
                },
                out: &mut out[at * NR..],
                stride: self.out_stride,
                channels,
            };
            assert!(to.out.len() >= (self.rows - 1) * self.out_stride + channels);
            let block = Block::new(self.weights, block);
            let mut first = 0;
            // SAFETY: whoever made the product asserted that its rows are long enough; the assert above is about the
            // output.
            unsafe {
                while first + MR <= self.rows {
                    to.tile(first, block.multiply_4(self.row(first), self.a_stride));
                    first += MR;
                }
                while first < self.rows {
                    to.tile(first, block.multiply_1(self.row(first)));
                    first += 1;
                }
            }
        }
    }

    fn sums(&self, blocks: Range<usize>, out: &mut [i32]) {
        for (at, block) in blocks.enumerate() {
            let channels = self.weights.channels_of(block..block + 1);
            let bias = load_i32(self.weights.bias(block), 0);
            let block = Block::new(self.weights, block);
            for row in 0..self.rows {
                // SAFETY: whoever made the product asserted that its rows are long enough.
                let [sums] = unsafe { block.multiply_1(self.row(row)) };
                let out = &mut out[row * self.out_stride + at * NR..][..channels];
                store_sums(vaddq_s32(sums, bias), out);
            }
        }
    }

    fn row(&self, row: usize) -> *const i8 {
        self.a[row * self.a_stride..].as_ptr()
    }
}

/// Where the codes of a block go.
struct Codes<'a, const CLAMP: bool> {
    bias: int32x4_t,
    scales: float32x4_t,
    stage: CodesStage<CLAMP>,
    /// Empty if the block needs none.
    row_terms: &'a [i32],
    out: &'a mut [i8],
    stride: usize,
    channels: usize,
}

impl<const CLAMP: bool> Codes<'_, CLAMP> {
    /// Writes the rows from `first` on.
    ///
    /// # Safety
    /// The last of them has as many codes of room as there are channels.
    #[inline(always)]
    unsafe fn tile<const ROWS: usize>(&mut self, first: usize, sums: [int32x4_t; ROWS]) {
        let mut whole = [self.bias; MR];
        for row in 0..ROWS {
            whole[row] = vaddq_s32(whole[row], sums[row]);
        }
        if !self.row_terms.is_empty() {
            let terms = &self.row_terms[first..first + ROWS];
            for row in 0..ROWS {
                whole[row] = vaddq_s32(whole[row], vdupq_n_s32(terms[row]));
            }
        }
        let codes = self.stage.codes(whole, [self.scales; 4]);
        if self.channels == NR {
            // SAFETY: the caller's contract.
            unsafe {
                store_4::<ROWS>(
                    codes,
                    self.out.as_mut_ptr().add(first * self.stride),
                    self.stride,
                )
            }
        } else {
            let out = &mut self.out[first * self.stride..];
            store_some(codes, out, self.stride, ROWS, self.channels);
        }
    }
}

/// Packed weights of 4 channels.
struct Block<'a> {
    /// [`WEIGHTS_PADDING`] bytes follow.
    weights: &'a [i8],
    steps: Option<&'a [Step]>,
}

impl<'a> Block<'a> {
    fn new(weights: &'a PackedWeights, block: usize) -> Self {
        let steps = weights.steps(block);
        assert!(steps.is_none_or(|steps| steps.last() == Some(&Step::End)));
        Self {
            weights: weights.block_and_padding(block),
            steps,
        }
    }

    /// The sums of 4 rows, `a_stride` apart, without the bias.
    ///
    /// # Safety
    /// In each row, the first of which is at `a`, the packed depth and [`ROW_OVERREAD`] bytes are readable.
    #[inline(always)]
    unsafe fn multiply_4(&self, a: *const i8, a_stride: usize) -> [int32x4_t; MR] {
        // SAFETY: the caller's contract; `new` and the packer see to the weights and the steps.
        unsafe {
            match self.steps {
                Some(steps) => multiply_4_rows(a, a_stride, self.weights.as_ptr(), steps),
                None => [0, 1, 2, 3].map(|row: usize| self.multiply_wide(a.add(row * a_stride))),
            }
        }
    }

    /// The sums of 1 row.
    ///
    /// # Safety
    /// As for [`Block::multiply_4`].
    #[inline(always)]
    unsafe fn multiply_1(&self, a: *const i8) -> [int32x4_t; 1] {
        // SAFETY: the caller's contract; `new` and the packer see to the weights and the steps.
        unsafe {
            match self.steps {
                Some(steps) => [multiply_1_row(a, self.weights.as_ptr(), steps)],
                None => [self.multiply_wide(a)],
            }
        }
    }

    /// The sums of 1 row whose products do not fit into int16 in pairs: rare, and so plain.
    ///
    /// # Safety
    /// As for [`Block::multiply_4`].
    #[inline(never)]
    unsafe fn multiply_wide(&self, a: *const i8) -> int32x4_t {
        let depth = (self.weights.len() - WEIGHTS_PADDING) / NR;
        // SAFETY: the caller's contract.
        let a = unsafe { std::slice::from_raw_parts(a, depth) };
        let mut sums = [0; NR];
        for (a, group) in a
            .chunks(LONG_GROUP)
            .zip(self.weights.chunks(NR * LONG_GROUP))
        {
            for (sum, w) in sums.iter_mut().zip(group.chunks_exact(a.len())) {
                *sum += dot(a, w);
            }
        }
        load_i32(&sums, 0)
    }
}

fn dot(a: &[i8], w: &[i8]) -> i32 {
    let products = a.iter().zip(w).map(|(&a, &w)| i32::from(a) * i32::from(w));
    products.sum()
}
