//! Convolutions as matrix products and depthwise rows, shared out to threads by rows of the result.

use super::pool::Pool;
use crate::kernels::pack::{PackedWeights, row_terms};
use crate::kernels::requant::OutputStage;
use crate::kernels::{
    Depthwise, DepthwiseKernel, DepthwiseWeights, GEMM_OVERREAD, Gemm, GemmKernel,
};

/// Bytes of patches that one product reads: they stay in the first-level cache.
const PATCH_BYTES: usize = 16 * 1024;
/// The most kernel rows of a depthwise convolution.
pub(super) const MAX_KERNEL_ROWS: usize = 16;

/// Where a convolution reads. Sizes are `[rows, columns]`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Geometry {
    pub input: [usize; 2],
    pub channels: usize,
    pub out: [usize; 2],
    pub window: [usize; 2],
    pub stride: [usize; 2],
    pub dilation: [usize; 2],
    /// Rows above, columns to the left.
    pub padding: [usize; 2],
}

impl Geometry {
    /// Whether every output pixel reads exactly the input pixel of the same position.
    fn is_pointwise(&self) -> bool {
        self.window == [1, 1]
            && self.stride == [1, 1]
            && self.padding == [0, 0]
            && self.input == self.out
    }

    fn image(&self) -> usize {
        self.input[0] * self.input[1] * self.channels
    }
}

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
                self.gather(start, rows, input, scratch.patches);
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
                row_terms: terms,
                stage: self.stage,
                out,
                out_stride: channels,
                scratch: scratch.product,
            });
        }
    }

    /// Lays the windows of `rows` output pixels from `first` on side by side.
    fn gather(&self, first: usize, rows: usize, input: &[i8], patches: &mut [i8]) {
        let g = &self.geometry;
        let pixels = g.out[0] * g.out[1];
        for (row, patch) in patches
            .chunks_exact_mut(self.depth())
            .take(rows)
            .enumerate()
        {
            let (image, pixel) = ((first + row) / pixels, (first + row) % pixels);
            let (y, x) = (pixel / g.out[1], pixel % g.out[1]);
            let input = &input[image * g.image()..][..g.image()];
            for (i, line) in patch.chunks_exact_mut(g.window[1] * g.channels).enumerate() {
                let source = (y * g.stride[0] + i * g.dilation[0]).checked_sub(g.padding[0]);
                match source.filter(|&source| source < g.input[0]) {
                    Some(source) => self.gather_line(input, source, x, line),
                    None => line.fill(self.input_zero_point),
                }
            }
        }
    }

    fn gather_line(&self, input: &[i8], row: usize, x: usize, line: &mut [i8]) {
        let g = &self.geometry;
        let width = g.input[1];
        let row = &input[row * width * g.channels..][..width * g.channels];
        let start = (x * g.stride[1]).checked_sub(g.padding[1]);
        if let (1, Some(start)) = (g.dilation[1], start)
            && start + g.window[1] <= width
        {
            line.copy_from_slice(&row[start * g.channels..][..line.len()]);
            return;
        }
        for (j, pixel) in line.chunks_exact_mut(g.channels).enumerate() {
            let column = (x * g.stride[1] + j * g.dilation[1]).checked_sub(g.padding[1]);
            match column.filter(|&column| column < width) {
                Some(column) => pixel.copy_from_slice(&row[column * g.channels..][..g.channels]),
                None => pixel.fill(self.input_zero_point),
            }
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
    /// Pixels of a padded row.
    fn padded_width(&self) -> usize {
        let g = &self.geometry;
        (g.out[1] - 1) * g.stride[1] + (g.window[1] - 1) * g.dilation[1] + 1
    }

    /// Padded rows that one output row reads from, first to last.
    fn reach(&self) -> usize {
        (self.geometry.window[0] - 1) * self.geometry.dilation[0] + 1
    }

    /// Whether rows can be read where they lie.
    fn is_direct(&self) -> bool {
        let g = &self.geometry;
        let below = (g.out[0] - 1) * g.stride[0] + self.reach();
        self.multiplier == 1
            && g.padding == [0, 0]
            && self.padded_width() <= g.input[1]
            && below <= g.input[0]
    }

    fn row_bytes(&self) -> usize {
        (self.padded_width() * self.weights.channels).next_multiple_of(16)
    }

    /// Bytes of scratch for one thread: a ring of padded rows.
    pub fn job_scratch(&self) -> usize {
        match self.is_direct() {
            true => 64,
            false => (self.reach() * self.row_bytes()).next_multiple_of(64),
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

    /// Keeps the padded rows that the next output row needs too: row `p` of the padded picture lies at `p % reach`.
    fn run_padded(&self, y: usize, is_first: bool, input: &[i8], out: &mut [i8], ring: &mut [i8]) {
        let g = &self.geometry;
        let (reach, row_bytes) = (self.reach(), self.row_bytes());
        let top = y * g.stride[0];
        let fresh = match is_first {
            true => reach,
            false => reach.min(g.stride[0]),
        };
        for padded in top + reach - fresh..top + reach {
            let row = &mut ring[padded % reach * row_bytes..][..row_bytes];
            let source = padded.checked_sub(g.padding[0]);
            self.pad_row(source.filter(|&row| row < g.input[0]), input, row);
        }
        let mut rows: [&[i8]; MAX_KERNEL_ROWS] = [&[]; MAX_KERNEL_ROWS];
        for (i, row) in rows.iter_mut().take(g.window[0]).enumerate() {
            let padded = top + i * g.dilation[0];
            *row = &ring[padded % reach * row_bytes..][..row_bytes];
        }
        self.kernel.run(self.row(&rows, out));
    }

    /// Copies one input row between its padding, each channel as often as the multiplier says.
    fn pad_row(&self, source: Option<usize>, input: &[i8], row: &mut [i8]) {
        let g = &self.geometry;
        let channels = self.weights.channels;
        let Some(source) = source else {
            row.fill(self.input_zero_point);
            return;
        };
        let line = &input[source * g.input[1] * g.channels..][..g.input[1] * g.channels];
        let (left, body) = row.split_at_mut(g.padding[1] * channels);
        left.fill(self.input_zero_point);
        let pixels = g.input[1].min(self.padded_width() - g.padding[1]);
        let (body, right) = body.split_at_mut(pixels * channels);
        right.fill(self.input_zero_point);
        if self.multiplier == 1 {
            body.copy_from_slice(&line[..body.len()]);
        } else {
            for (codes, &code) in body.chunks_exact_mut(self.multiplier).zip(line) {
                codes.fill(code);
            }
        }
    }
}
