//! The matrix product for Armv8.0.
//!
//! A lane of int16 sums the products of two depths, or of four where [`PackedWeights::chains`] allows it: `SMULL`, then
//! `SMLAL`. `SADALP` adds two neighbouring lanes to int32. Every accumulator belongs to one row and one channel and holds
//! four partial sums; `ADDP` adds them up at the end.

use std::arch::aarch64::{float32x4_t, int8x16_t, int16x8_t, int32x4_t};
use std::ops::Range;

use super::output::{
    CodesStage, load, load_2, load_f32, load_i32, needs_clamp, store_4, store_some, store_sums,
};
use super::registers::*;
use crate::kernels::gemm::{Gemm, GemmKernel, Output};
use crate::kernels::pack::{Chain, LONG_GROUP, PackedWeights, Tile};
use crate::kernels::requant::OutputStage;

const MR: usize = 4;
const NR: usize = 4;
/// Depths of half a group.
const HALF: usize = LONG_GROUP / 2;

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
    let depth = gemm.weights.depth().next_multiple_of(HALF);
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

/// A [`Gemm`] without its output. Whoever makes one asserts that the depth, rounded up to [`HALF`], is readable in every
/// row of `a`.
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
                    to.tile(first, block.multiply::<MR>(self.row(first), self.a_stride));
                    first += MR;
                }
                match self.rows - first {
                    3 => to.tile(first, block.multiply::<3>(self.row(first), self.a_stride)),
                    2 => to.tile(first, block.multiply::<2>(self.row(first), self.a_stride)),
                    1 => to.tile(first, block.multiply::<1>(self.row(first), self.a_stride)),
                    _ => {}
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
                let [sums] = unsafe { block.multiply::<1>(self.row(row), self.a_stride) };
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
    weights: &'a [i8],
    /// Of each whole group.
    whole: &'a [Chain],
    /// Of the half group behind the whole ones.
    half: Option<Chain>,
}

/// The four partial sums of each row and channel.
type Partial<const ROWS: usize> = [[int32x4_t; NR]; ROWS];

impl<'a> Block<'a> {
    fn new(weights: &'a PackedWeights, block: usize) -> Self {
        let chains = weights.chains(block);
        let weights = weights.block(block);
        let (whole, half) = chains.split_at(weights.len() / (NR * LONG_GROUP));
        let depth = whole.len() * LONG_GROUP + half.len() * HALF;
        assert!(half.len() <= 1 && weights.len() == NR * depth);
        Self {
            weights,
            whole,
            half: half.first().copied(),
        }
    }

    /// The sums of some rows without the bias.
    ///
    /// # Safety
    /// The depth, rounded up to [`HALF`], is readable in each row; the first is at `a`.
    #[inline(always)]
    unsafe fn multiply<const ROWS: usize>(
        &self,
        a: *const i8,
        a_stride: usize,
    ) -> [int32x4_t; ROWS] {
        let mut acc = [[vdupq_n_s32(0); NR]; ROWS];
        let mut rows = [a; ROWS];
        let mut w = self.weights.as_ptr();
        // SAFETY: the caller's contract for `a`; `Block::new` asserts the length of the weights.
        unsafe {
            for row in 1..ROWS {
                rows[row] = rows[row - 1].add(a_stride);
            }
            // The first group on its own, so that it sets the accumulators in place of adding to 0.
            if let Some((&first, rest)) = self.whole.split_first() {
                group(&mut acc, &mut rows, &mut w, first);
                for &chain in rest {
                    group(&mut acc, &mut rows, &mut w, chain);
                }
            }
            if let Some(chain) = self.half {
                half_group(&mut acc, &rows, w, chain);
            }
        }
        let mut sums = [acc[0][0]; ROWS];
        for row in 0..ROWS {
            let [a, b, c, d] = acc[row];
            sums[row] = vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d));
        }
        sums
    }
}

/// Adds the products of a whole group and moves on behind it.
///
/// # Safety
/// [`LONG_GROUP`] codes are readable at each of `a`, and for each channel at `w`.
#[inline(always)]
unsafe fn group<const ROWS: usize>(
    acc: &mut Partial<ROWS>,
    a: &mut [*const i8; ROWS],
    w: &mut *const i8,
    chain: Chain,
) {
    let mut x = [[vdupq_n_s8(0); 2]; ROWS];
    // SAFETY: the caller's contract.
    unsafe {
        for row in 0..ROWS {
            x[row] = load_2(a[row]);
            a[row] = a[row].add(LONG_GROUP);
        }
    }
    for n in 0..NR {
        // SAFETY: the caller's contract.
        let w = unsafe { load_2(w.add(n * LONG_GROUP)) };
        for row in 0..ROWS {
            let (acc, x) = (&mut acc[row][n], x[row]);
            match chain {
                Chain::Four => {
                    let three = vmlal_s8(pair(x[0], w[0]), vget_low_s8(x[1]), vget_low_s8(w[1]));
                    *acc = vpadalq_s16(*acc, vmlal_high_s8(three, x[1], w[1]));
                }
                _ => {
                    *acc = add_16(*acc, x[0], w[0], chain);
                    *acc = add_16(*acc, x[1], w[1], chain);
                }
            }
        }
    }
    // SAFETY: the caller's contract.
    *w = unsafe { w.add(NR * LONG_GROUP) };
}

/// Adds the products of half a group.
///
/// # Safety
/// [`HALF`] codes are readable at each of `a`, and for each channel at `w`.
#[inline(always)]
unsafe fn half_group<const ROWS: usize>(
    acc: &mut Partial<ROWS>,
    a: &[*const i8; ROWS],
    w: *const i8,
    chain: Chain,
) {
    let mut x = [vdupq_n_s8(0); ROWS];
    for row in 0..ROWS {
        // SAFETY: the caller's contract.
        x[row] = unsafe { load(a[row]) };
    }
    for n in 0..NR {
        // SAFETY: the caller's contract.
        let w = unsafe { load(w.add(n * HALF)) };
        for row in 0..ROWS {
            acc[row][n] = add_16(acc[row][n], x[row], w, chain);
        }
    }
}

/// Adds 16 products.
#[inline(always)]
fn add_16(acc: int32x4_t, x: int8x16_t, w: int8x16_t, chain: Chain) -> int32x4_t {
    match chain {
        Chain::One => {
            let acc = vpadalq_s16(acc, vmull_s8(vget_low_s8(x), vget_low_s8(w)));
            vpadalq_s16(acc, vmull_high_s8(x, w))
        }
        _ => vpadalq_s16(acc, pair(x, w)),
    }
}

/// Two products in each lane.
#[inline(always)]
fn pair(x: int8x16_t, w: int8x16_t) -> int16x8_t {
    vmlal_high_s8(vmull_s8(vget_low_s8(x), vget_low_s8(w)), x, w)
}
