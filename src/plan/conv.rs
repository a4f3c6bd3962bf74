//! Convolutions as matrix products and depthwise rows, shared out to threads by rows of the result.

use super::geometry::{Geometry, MAX_KERNEL_ROWS};
use super::pool::Pool;
use crate::kernels::pack::{PackedWeights, row_terms};
use crate::kernels::requant::OutputStage;
use crate::kernels::{
    Depthwise, DepthwiseKernel, DepthwiseWeights, GEMM_OVERREAD, Gemm, GemmKernel, Output,
};

/// Bytes of patches that one product reads: they stay in the first-level cache.
const PATCH_BYTES: usize = 16 * 1024;

/// A convolution or fully connected layer.
pub(super) struct Conv {
    pub kernel: &'static GemmKernel,
    pub weights: PackedWeights,
    pub weight_zero_point: i32,
    /// What padding holds.
    pub input_zero_point: i8,
    pub geometry: Geometry,
    pub stage: OutputStage,
}

/// A cut of a job's scratch memory.
struct ConvScratch<'a> {
    product: &'a mut [i8],
    terms: &'a mut [i32],
    patches: &'a mut [i8],
}

impl Conv {
    fn depth(&self) -> usize {
        self.weights.depth()
    }

    fn tile_rows(&self) -> usize {
        let rows = (PATCH_BYTES / self.depth()).clamp(1, 256);
        rows.next_multiple_of(self.kernel.tile.mr)
    }

    /// Bytes of scratch for one thread.
    pub fn job_scratch(&self) -> usize {
        let patches = match self.geometry.is_pointwise() {
            true => 0,
            false => self.tile_rows() * self.depth() + GEMM_OVERREAD,
        };
        (self.product_scratch() + 4 * self.tile_rows() + patches).next_multiple_of(64)
    }

    fn product_scratch(&self) -> usize {
        self.kernel.scratch_bytes(self.depth()).next_multiple_of(64)
    }

    fn cut<'a>(&self, scratch: &'a mut [i8]) -> ConvScratch<'a> {
        let (product, rest) = scratch.split_at_mut(self.product_scratch());
        let (terms, patches) = rest.split_at_mut(4 * self.tile_rows());
        ConvScratch {
            product,
            terms: bytemuck::cast_slice_mut(terms),
            patches,
        }
    }

    /// `input` holds whole pictures and [`GEMM_OVERREAD`] bytes behind them; `out` their results.
    pub fn run(&self, input: &[i8], out: &mut [i8], scratch: &mut [i8], pool: &Pool) {
        let channels = self.weights.channels();
        let rows = pool.rows_per_job(out.len() / channels, self.kernel.tile.mr);
        let jobs = out
            .chunks_mut(rows * channels)
            .zip(scratch.chunks_mut(self.job_scratch()))
            .enumerate();
        pool.share(jobs, &|(job, (out, scratch))| {
            self.run_rows(*job * rows, input, out, self.cut(scratch));
        });
    }

    fn run_rows(&self, first: usize, input: &[i8], out: &mut [i8], scratch: ConvScratch<'_>) {
        let (depth, channels) = (self.depth(), self.weights.channels());
        let tile_rows = self.tile_rows();
        for (tile, out) in out.chunks_mut(tile_rows * channels).enumerate() {
            let start = first + tile * tile_rows;
            let rows = out.len() / channels;
            let a = if self.geometry.is_pointwise() {
                &input[start * depth..]
            } else {
                let fill = self.input_zero_point;
                self.geometry
                    .gather(start, rows, input, scratch.patches, fill);
                &*scratch.patches
            };
            let terms = &mut scratch.terms[..rows];
            let terms = match self.weight_zero_point {
                0 => &[],
                zero_point => {
                    row_terms(a, depth, depth, zero_point, terms);
                    &*terms
                }
            };
            self.kernel.run(Gemm {
                a,
                a_stride: depth,
                rows,
                weights: &self.weights,
                out: Output::Codes {
                    out,
                    row_terms: terms,
                    stage: self.stage,
                },
                out_stride: channels,
                scratch: scratch.product,
            });
        }
    }
}

/// A depthwise convolution.
pub(super) struct DepthwiseConv {
    pub kernel: DepthwiseKernel,
    pub weights: DepthwiseWeights,
    /// Output channels that read one input channel.
    pub multiplier: usize,
    pub input_zero_point: i8,
    pub geometry: Geometry,
    pub stage: OutputStage,
}

impl DepthwiseConv {
    /// Whether rows can be read where they lie.
    fn is_direct(&self) -> bool {
        let g = &self.geometry;
        let below = (g.out[0] - 1) * g.stride[0] + self.geometry.reach();
        self.multiplier == 1
            && g.padding == [0, 0]
            && self.geometry.padded_width() <= g.input[1]
            && below <= g.input[0]
    }

    fn row_bytes(&self) -> usize {
        (self.geometry.padded_width() * self.weights.channels).next_multiple_of(16)
    }

    /// Bytes of scratch for one thread: a ring of padded rows.
    pub fn job_scratch(&self) -> usize {
        match self.is_direct() {
            true => 64,
            false => (self.geometry.reach() * self.row_bytes()).next_multiple_of(64),
        }
    }

    /// `input` holds whole pictures, `out` their results.
    pub fn run(&self, input: &[i8], out: &mut [i8], scratch: &mut [i8], pool: &Pool) {
        let line = self.geometry.out[1] * self.weights.channels;
        let rows = pool.rows_per_job(out.len() / line, 1);
        let jobs = out
            .chunks_mut(rows * line)
            .zip(scratch.chunks_mut(self.job_scratch()))
            .enumerate();
        pool.share(jobs, &|(job, (out, scratch))| {
            for (at, out) in out.chunks_exact_mut(line).enumerate() {
                let row = *job * rows + at;
                let (image, y) = (row / self.geometry.out[0], row % self.geometry.out[0]);
                let input = &input[image * self.geometry.image()..][..self.geometry.image()];
                if self.is_direct() {
                    self.run_direct(y, input, out);
                } else {
                    self.run_padded(y, at == 0 || y == 0, input, out, scratch);
                }
            }
        });
    }

    fn row<'a>(&'a self, rows: &'a [&'a [i8]], out: &'a mut [i8]) -> Depthwise<'a> {
        Depthwise {
            rows: &rows[..self.geometry.window[0]],
            weights: &self.weights,
            stride: self.geometry.stride[1],
            dilation: self.geometry.dilation[1],
            stage: self.stage,
            out,
        }
    }

    fn run_direct(&self, y: usize, input: &[i8], out: &mut [i8]) {
        let g = &self.geometry;
        let line = g.input[1] * g.channels;
        let mut rows: [&[i8]; MAX_KERNEL_ROWS] = [&[]; MAX_KERNEL_ROWS];
        for (i, row) in rows.iter_mut().take(g.window[0]).enumerate() {
            *row = &input[(y * g.stride[0] + i * g.dilation[0]) * line..][..line];
        }
        self.kernel.run(self.row(&rows, out));
    }

    fn run_padded(&self, y: usize, is_first: bool, input: &[i8], out: &mut [i8], ring: &mut [i8]) {
        let g = &self.geometry;
        let fill = self.input_zero_point;
        g.fill_ring(y, is_first, ring, self.row_bytes(), |source, row| {
            g.pad_row(source, self.multiplier, input, row, fill, |code| code);
        });
        let rows = g.ring_rows(y, ring, self.row_bytes());
        self.kernel.run(self.row(&rows, out));
    }
}
