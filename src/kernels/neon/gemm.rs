//! The matrix product for Armv8.0.
//!
//! A lane of int16 sums the products of two depths, or of four where the packer has proved that they fit ([`Step`]):
//! `SMULL`, then `SMLAL`. `SADALP` adds two neighbouring lanes to int32. Every accumulator belongs to one row and one
//! channel and holds four partial sums; `ADDP` adds them up at the end.

use std::arch::aarch64::int32x4_t;
use std::ops::Range;

use super::output::{CodesStage, Path, load_f32, load_i32, store_codes, store_sums};
use super::registers::*;
use super::shallow::{self, Depth};
use super::tile::{self, Tiles, ToCodes, multiply_1_row};
use crate::kernels::gemm::{GEMM_OVERREAD, Gemm, GemmKernel, Output};
use crate::kernels::pack::{LONG_GROUP, PackedWeights, Step, Tile};
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
    const { assert!(GEMM_OVERREAD >= LONG_GROUP / 2) };
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
        } => product.codes(gemm.blocks, out, row_terms, stage),
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
    fn codes(&self, blocks: Range<usize>, out: &mut [i8], row_terms: &[i32], stage: OutputStage) {
        let mut to = ToCodes::new(stage);
        let mut block = blocks.start;
        while block < blocks.end {
            let out = &mut out[(block - blocks.start) * NR..];
            match self.shallow_depth(block..blocks.end) {
                Some(depth) => {
                    self.shallow(block, depth, out, stage);
                    block += 2;
                }
                None => {
                    self.codes_of_block(block, out, row_terms, stage, &mut to);
                    block += 1;
                }
            }
        }
    }

    /// How to sum the first two blocks together, if they are shallow.
    fn shallow_depth(&self, blocks: Range<usize>) -> Option<Depth> {
        let depth = self.weights.depth();
        let (first, second) = (blocks.start, blocks.start + 1);
        let is_for_two =
            second < blocks.end && self.weights.channels_of(first..second + 1) == 2 * NR;
        let is_plain = |block| !self.weights.has_row_term(block);
        if depth > LONG_GROUP || !is_for_two || !is_plain(first) || !is_plain(second) {
            return None;
        }
        let is_four = match (
            self.weights.steps(first)?[0],
            self.weights.steps(second)?[0],
        ) {
            (Step::Half, Step::Half) => return Some(Depth::Half),
            (first, second) => first == Step::Four && second == Step::Four,
        };
        Some(match (depth <= 24, is_four) {
            (true, true) => Depth::Three,
            (true, false) => Depth::TwoAndOne,
            (false, true) => Depth::Four,
            (false, false) => Depth::Pairs,
        })
    }

    /// Makes two blocks that [`Product::shallow_depth`] has found shallow.
    fn shallow(&self, block: usize, depth: Depth, out: &mut [i8], stage: OutputStage) {
        assert!(out.len() >= (self.rows - 1) * self.out_stride + 2 * NR);
        let is_small = |block| self.weights.furthest_sum(block) < u32::MAX;
        let path = Path::of(stage, is_small(block) && is_small(block + 1));
        let blocks = [0, 1].map(|at| Block::new(self.weights, block + at));
        let rows = shallow::Rows {
            a: self.a.as_ptr(),
            a_stride: self.a_stride,
            count: self.rows,
            weights: blocks[0].weights,
            to: shallow::ToCodes {
                bias: std::array::from_fn(|n| blocks[n / NR].bias[n % NR]),
                scales: std::array::from_fn(|n| blocks[n / NR].scales[n % NR]),
                addend: [path.addend(stage); 4],
                min: [stage.min; 8],
                max: [stage.max; 8],
            },
            out: out.as_mut_ptr(),
            out_stride: self.out_stride,
        };
        // SAFETY: whoever made the product asserted that 64 codes are readable behind the depth; the assert above is
        // about the output; blocks lie one behind the other.
        unsafe { shallow::make(rows, depth, path) }
    }

    fn codes_of_block(
        &self,
        block: usize,
        out: &mut [i8],
        row_terms: &[i32],
        stage: OutputStage,
        to: &mut ToCodes,
    ) {
        let block = Block::new(self.weights, block);
        to.bias.copy_from_slice(block.bias);
        to.scales.copy_from_slice(block.scales);
        let path = match block.has_row_term {
            false => Path::of(stage, block.has_small_results),
            true => Path::Any,
        };
        let (row_terms, make) = match (block.has_row_term, path) {
            (false, Path::Even) => (None, tile::codes_even as MakeTiles<i8>),
            (false, Path::Relu) => (None, tile::codes_relu as MakeTiles<i8>),
            (false, Path::EvenBounded) => (None, tile::codes_even_bounded as MakeTiles<i8>),
            (false, Path::Any) => (None, tile::codes_any as MakeTiles<i8>),
            (true, _) => (Some(row_terms), tile::codes_any_with_terms as MakeTiles<i8>),
        };
        to.addend = [path.addend(stage); 4];
        let first = self.whole_tiles(&block, to, row_terms, make, out);
        for row in first..self.rows {
            let term = row_terms.map_or(0, |terms| terms[row]);
            let sums = vaddq_s32(self.sums_of_row(&block, row), vdupq_n_s32(term));
            let scales = load_f32(block.scales, 0);
            let codes = CodesStage::new(stage).codes_of_8([sums; 2], [scales; 2]);
            store_codes(codes, &mut out[row * self.out_stride..][..block.channels]);
        }
    }

    fn sums(&self, blocks: Range<usize>, out: &mut [i32]) {
        let mut to = ToCodes::new(OutputStage::full_range(0));
        for (at, block) in blocks.enumerate() {
            let block = Block::new(self.weights, block);
            to.bias.copy_from_slice(block.bias);
            let out = &mut out[at * NR..];
            let first = self.whole_tiles(&block, &to, None, tile::sums, out);
            for row in first..self.rows {
                let sums = self.sums_of_row(&block, row);
                store_sums(sums, &mut out[row * self.out_stride..][..block.channels]);
            }
        }
    }

    /// Makes whole tiles of 4 rows, if the block has 4 channels and steps; returns the number of rows made.
    fn whole_tiles<T>(
        &self,
        block: &Block<'_>,
        to: &ToCodes,
        row_terms: Option<&[i32]>,
        make: MakeTiles<T>,
        out: &mut [T],
    ) -> usize {
        let rows = self.rows / MR * MR;
        let (Some(steps), NR, 1..) = (block.steps, block.channels, rows) else {
            return 0;
        };
        assert!(out.len() >= (rows - 1) * self.out_stride + NR);
        assert!(row_terms.is_none_or(|terms| terms.len() >= rows));
        let tiles = Tiles {
            a: self.a.as_ptr(),
            a_stride: self.a_stride,
            count: rows / MR,
            weights: block.weights,
            steps,
            to,
            row_terms: row_terms.map_or(std::ptr::null(), <[i32]>::as_ptr),
        };
        // SAFETY: whoever made the product asserted that its rows are long enough; the asserts above prove the rest.
        unsafe { make(tiles, out.as_mut_ptr(), self.out_stride) }
        rows
    }

    /// The sums of one row with the bias.
    fn sums_of_row(&self, block: &Block<'_>, row: usize) -> int32x4_t {
        let depth = block.weights.len() / NR;
        let a = &self.a[row * self.a_stride..][..depth];
        let sums = match block.steps {
            // SAFETY: `a` has the depth; weights and steps are those of a block.
            Some(steps) => unsafe { multiply_1_row(a.as_ptr(), block.weights, steps) },
            None => block.multiply_wide(a),
        };
        vaddq_s32(sums, load_i32(block.bias, 0))
    }
}

type MakeTiles<T> = unsafe fn(Tiles<'_>, *mut T, usize);

/// What is packed for 4 channels.
struct Block<'a> {
    channels: usize,
    weights: &'a [i8],
    steps: Option<&'a [Step]>,
    bias: &'a [i32],
    scales: &'a [f32],
    has_row_term: bool,
    has_small_results: bool,
}

impl<'a> Block<'a> {
    fn new(weights: &'a PackedWeights, block: usize) -> Self {
        Self {
            channels: weights.channels_of(block..block + 1),
            weights: weights.block(block),
            steps: weights.steps(block),
            bias: weights.bias(block),
            scales: weights.scales(block),
            has_row_term: weights.has_row_term(block),
            has_small_results: weights.furthest_sum(block) < u32::MAX,
        }
    }

    /// The sums of 1 row whose products do not fit into int16 in pairs: rare, and so plain.
    fn multiply_wide(&self, a: &[i8]) -> int32x4_t {
        let mut sums = [0i32; NR];
        let groups = self.weights.chunks(NR * LONG_GROUP);
        for (a, group) in a.chunks(LONG_GROUP).zip(groups) {
            for (sum, w) in sums.iter_mut().zip(group.chunks_exact(a.len())) {
                let products = a.iter().zip(w).map(|(&a, &w)| i32::from(a) * i32::from(w));
                *sum = sum.wrapping_add(products.sum());
            }
        }
        load_i32(&sums, 0)
    }
}
