//! Convolutions as matrix products and depthwise rows, shared out to threads by rows of the result.

use std::ops::Range;

use super::geometry::{Geometry, MAX_KERNEL_ROWS, PATCH_ALIGNMENT};
use super::pool::Pool;
use crate::kernels::pack::PackedWeights;
use crate::kernels::requant::OutputStage;
use crate::kernels::{
    Depthwise, DepthwiseKernel, DepthwiseWeights, GEMM_OVERREAD, Gemm, GemmKernel, Output,
};

/// Bytes of activations that one product reads: they stay in the first-level cache while every block of weights passes.
const PANEL_BYTES: usize = 16 * 1024;

/// A convolution or fully connected layer.
pub(super) struct Conv {
    pub kernel: &'static GemmKernel,
    pub weights: PackedWeights,
    pub weight_zero_point: i32,
    pub row_terms: RowTerms,
    /// What padding holds.
    pub input_zero_point: i8,
    pub geometry: Geometry,
    pub stage: OutputStage,
}

/// [`crate::kernels::Elementwise::row_terms`].
pub(super) type RowTerms = fn(&[i8], usize, usize, i32, &mut [i32]);

/// Where results go: element 0 is the first channel made of the first pixel, pixels lie `stride` apart.
pub(super) struct Target<'a> {
    pub out: &'a mut [i8],
    pub stride: usize,
}

impl Conv {
    /// Output channels.
    pub fn channels(&self) -> usize {
        self.weights.channels()
    }

    /// Every block of output channels.
    pub fn all_blocks(&self) -> Range<usize> {
        0..self.weights.blocks()
    }

    fn panel_rows(&self) -> usize {
        let rows = (PANEL_BYTES / self.row_stride()).clamp(1, 1024);
        rows.next_multiple_of(self.kernel.tile.mr)
    }

    /// From one row of activations to the next: patches begin on whole vectors.
    fn row_stride(&self) -> usize {
        let depth = self.weights.depth();
        match self.geometry.is_pointwise() {
            true => depth,
            false => depth.next_multiple_of(PATCH_ALIGNMENT),
        }
    }

    /// Bytes of the scratch of a thread: the kernel's own, the rows' terms, patches.
    fn parts(&self) -> [usize; 3] {
        let product = self.kernel.scratch_bytes(self.weights.depth());
        let rows = self.panel_rows();
        let patches = match self.geometry.is_pointwise() {
            true => 0,
            false => rows * self.row_stride() + GEMM_OVERREAD,
        };
        [product, 4 * rows, patches].map(|bytes| bytes.next_multiple_of(64))
    }

    /// Bytes of scratch for one thread.
    pub fn job_scratch(&self) -> usize {
        self.parts().iter().sum()
    }

    /// `input` holds whole pictures and [`GEMM_OVERREAD`] bytes behind them; `out` their results.
    pub fn run(&self, input: &[i8], out: &mut [i8], scratch: &mut [i8], pool: &Pool) {
        let channels = self.channels();
        let rows = out.len() / channels;
        if rows == 1 {
            return self.run_single_row(input, out, scratch, pool);
        }
        let job_rows = pool.rows_per_job(rows, self.kernel.tile.mr);
        let jobs = out
            .chunks_mut(job_rows * channels)
            .zip(scratch.chunks_mut(self.job_scratch()))
            .enumerate();
        pool.share(jobs, &|(job, (out, scratch))| {
            let first = *job * job_rows;
            let stride = channels;
            let pixels = first..first + out.len() / channels;
            self.run_pixels(
                pixels,
                self.all_blocks(),
                input,
                Target { out, stride },
                scratch,
            );
        });
    }

    /// One pixel, its channels shared out.
    fn run_single_row(&self, input: &[i8], out: &mut [i8], scratch: &mut [i8], pool: &Pool) {
        let blocks = pool.rows_per_job(self.weights.blocks(), 1);
        let jobs = out
            .chunks_mut(blocks * self.weights.tile().nr)
            .zip(scratch.chunks_mut(self.job_scratch()))
            .enumerate();
        pool.share(jobs, &|(job, (out, scratch))| {
            let first = *job * blocks;
            let stride = out.len();
            let blocks = first..(first + blocks).min(self.weights.blocks());
            self.run_pixels(0..1, blocks, input, Target { out, stride }, scratch);
        });
    }

    /// Some blocks of channels of some output pixels, counted over all pictures of `input`, which has
    /// [`GEMM_OVERREAD`] bytes behind them.
    pub fn run_pixels(
        &self,
        pixels: Range<usize>,
        blocks: Range<usize>,
        input: &[i8],
        target: Target<'_>,
        scratch: &mut [i8],
    ) {
        let [product, terms, _] = self.parts();
        let (product, rest) = scratch.split_at_mut(product);
        let (terms, patches) = rest.split_at_mut(terms);
        let terms: &mut [i32] = bytemuck::cast_slice_mut(terms);
        let (depth, a_stride) = (self.weights.depth(), self.row_stride());
        for start in pixels.clone().step_by(self.panel_rows()) {
            let rows = self.panel_rows().min(pixels.end - start);
            let a = if self.geometry.is_pointwise() {
                &input[start * depth..]
            } else {
                let fill = self.input_zero_point;
                self.geometry
                    .gather(start..start + rows, input, patches, a_stride, fill);
                &*patches
            };
            let terms = &mut terms[..rows];
            let row_terms = match self.weights.has_row_terms() {
                false => &[],
                true => {
                    (self.row_terms)(a, a_stride, depth, self.weight_zero_point, terms);
                    &*terms
                }
            };
            self.kernel.run(Gemm {
                a,
                a_stride,
                rows,
                weights: &self.weights,
                blocks: blocks.clone(),
                out: Output::Codes {
                    out: &mut target.out[(start - pixels.start) * target.stride..],
                    row_terms,
                    stage: self.stage,
                },
                out_stride: target.stride,
                scratch: product,
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
    /// What padding holds.
    pub input_zero_point: i8,
    pub geometry: Geometry,
    pub stage: OutputStage,
}

/// Some channels of a depthwise convolution, on pixels that hold these channels only or more.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChannelRange {
    pub first: usize,
    pub count: usize,
    /// From one input pixel to the next.
    pub input_stride: usize,
    /// From one output pixel to the next.
    pub out_stride: usize,
}

impl DepthwiseConv {
    /// Every channel, of pixels that hold no other.
    pub fn all_channels(&self) -> ChannelRange {
        let channels = self.weights.channels;
        ChannelRange {
            first: 0,
            count: channels,
            input_stride: channels,
            out_stride: channels,
        }
    }

    /// Elements of an input row whose channels are repeated as often as they are read.
    pub fn row_elements(&self) -> usize {
        self.geometry.input[1] * self.weights.channels
    }

    /// Bytes of scratch for one thread: a row of padding and, if channels are read more than once, a ring of rows.
    pub fn job_scratch(&self) -> usize {
        let rows = match self.multiplier {
            1 => 1,
            _ => 1 + self.geometry.reach(),
        };
        (rows * self.row_elements()).next_multiple_of(64)
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
            let (padding, ring) = scratch.split_at_mut(self.row_elements());
            padding.fill(self.input_zero_point);
            for (at, out) in out.chunks_exact_mut(line).enumerate() {
                let row = *job * rows + at;
                let (image, y) = (row / self.geometry.out[0], row % self.geometry.out[0]);
                let input = &input[image * self.geometry.image()..][..self.geometry.image()];
                let (padding, part) = (&*padding, self.all_channels());
                if self.multiplier == 1 {
                    let elements = self.row_elements();
                    let read = |source: usize| &input[source * elements..][..elements];
                    self.run_row(y, part, read, padding, out);
                } else {
                    self.repeat_channels(y, at == 0 || y == 0, input, ring);
                    let (ring, elements) = (&*ring, self.row_elements());
                    let read = |source: usize| {
                        let at = source % self.geometry.reach();
                        &ring[at * elements..][..elements]
                    };
                    self.run_row(y, part, read, padding, out);
                }
            }
        });
    }

    /// Some channels of output row `y`. `read` gives a row of the input, `padding` is one of padding.
    pub fn run_row<'a>(
        &self,
        y: usize,
        part: ChannelRange,
        read: impl Fn(usize) -> &'a [i8],
        padding: &'a [i8],
        out: &mut [i8],
    ) {
        let g = &self.geometry;
        let mut rows: [&[i8]; MAX_KERNEL_ROWS] = [&[]; MAX_KERNEL_ROWS];
        for (i, row) in rows.iter_mut().take(g.window[0]).enumerate() {
            let source = (y * g.stride[0] + i * g.dilation[0]).checked_sub(g.padding[0]);
            *row = match source.filter(|&source| source < g.input[0]) {
                Some(source) => read(source),
                None => padding,
            };
        }
        self.kernel.run(Depthwise {
            rows: &rows[..g.window[0]],
            input_stride: part.input_stride,
            width: g.input[1],
            padding: g.padding[1],
            fill: self.input_zero_point,
            weights: &self.weights,
            first_channel: part.first,
            channels: part.count,
            stride: g.stride[1],
            dilation: g.dilation[1],
            stage: self.stage,
            out,
            out_stride: part.out_stride,
            pixels: g.out[1],
        });
    }

    /// Brings into `ring` the input rows that output row `y` needs, but those that the output row before, made just now
    /// unless `is_first`, needed too. Row `r` lies at `r % reach`.
    fn repeat_channels(&self, y: usize, is_first: bool, input: &[i8], ring: &mut [i8]) {
        let g = &self.geometry;
        let elements = self.row_elements();
        let end = (y * g.stride[0] + g.reach()).saturating_sub(g.padding[0]);
        let fresh = match is_first {
            true => g.reach(),
            false => g.reach().min(g.stride[0]),
        };
        let line = g.input[1] * g.channels;
        for source in end.saturating_sub(fresh)..end.min(g.input[0]) {
            let row = &mut ring[source % g.reach() * elements..][..elements];
            let codes = &input[source * line..][..line];
            for (out, &code) in row.chunks_exact_mut(self.multiplier).zip(codes) {
                out.fill(code);
            }
        }
    }
}
