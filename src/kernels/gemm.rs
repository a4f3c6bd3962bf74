//! The contract of a matrix product, and the table entry of a kernel that makes one.

use std::ops::Range;

use super::pack::{PackedWeights, Tile};
use super::requant::OutputStage;

/// One matrix product of some blocks of output channels: `sum_k a[m][k] * w[n][k]`, in wrapping int32, becomes what
/// [`Output`] says.
pub struct Gemm<'a> {
    /// Rows, `a_stride` apart; [`GEMM_OVERREAD`] readable bytes follow the last one's depth.
    pub a: &'a [i8],
    pub a_stride: usize,
    pub rows: usize,
    pub weights: &'a PackedWeights,
    /// Blocks of [`Tile::nr`] channels to make; the first channel of the first block is element 0 of a row of the
    /// output.
    pub blocks: Range<usize>,
    pub out: Output<'a>,
    /// From one row of the output to the next, in elements.
    pub out_stride: usize,
    /// [`GemmKernel::scratch_bytes`] long.
    pub scratch: &'a mut [i8],
}

/// What a matrix product writes.
pub enum Output<'a> {
    /// `stage(bias[n] + sum + row_terms[m])`; the row term is added only in blocks that
    /// [`PackedWeights::has_row_term`].
    Codes {
        out: &'a mut [i8],
        /// As long as there are rows; empty if no block has a row term.
        row_terms: &'a [i32],
        stage: OutputStage,
    },
    /// `bias[n] + sum`: scales and row terms are not applied.
    Sums(&'a mut [i32]),
}

/// Bytes that a GEMM kernel may read behind the last row of `a`; what they hold does not matter.
pub const GEMM_OVERREAD: usize = 64;

impl Gemm<'_> {
    /// Channels of all blocks to make.
    pub fn channels(&self) -> usize {
        self.weights.channels_of(self.blocks.clone())
    }

    /// Asserts every length that the kernels rely on.
    fn assert_lengths(&self, kernel: &GemmKernel) {
        let depth = self.weights.depth();
        assert!(self.rows > 0 && depth > 0);
        assert!(self.blocks.start < self.blocks.end && self.blocks.end <= self.weights.blocks());
        assert_eq!(self.weights.tile(), kernel.tile);
        assert!(self.a.len() >= (self.rows - 1) * self.a_stride + depth + GEMM_OVERREAD);
        let channels = self.channels();
        let needed = (self.rows - 1) * self.out_stride + channels;
        assert!(self.rows == 1 || self.out_stride >= channels);
        match &self.out {
            Output::Codes { out, row_terms, .. } => {
                assert!(out.len() >= needed);
                let are_needed = self.weights.has_row_terms();
                assert!(row_terms.len() == self.rows || (row_terms.is_empty() && !are_needed));
            }
            Output::Sums(sums) => assert!(sums.len() >= needed),
        }
        assert!(self.scratch.len() >= kernel.scratch_bytes(depth));
        assert!(!(kernel.needs_no_minimum && self.weights.has_minimum()));
    }
}

/// A GEMM variant with the packing it reads.
#[derive(Clone, Copy)]
pub struct GemmKernel {
    pub name: &'static str,
    pub tile: Tile,
    /// Scratch bytes for each element of the depth, rounded up to 16 elements.
    pub(super) scratch_per_depth: usize,
    /// Sums two products in int16, so no weight may be -128.
    pub(super) needs_no_minimum: bool,
    pub(super) run: fn(Gemm<'_>),
}

impl GemmKernel {
    /// Bytes of scratch that a product of this depth needs.
    pub fn scratch_bytes(&self, depth: usize) -> usize {
        self.scratch_per_depth * depth.next_multiple_of(16)
    }

    /// Runs the product.
    ///
    /// # Panics
    /// If a length contradicts the contract of [`Gemm`].
    pub fn run(&self, gemm: Gemm<'_>) {
        gemm.assert_lengths(self);
        (self.run)(gemm);
    }
}
