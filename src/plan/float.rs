//! Steps on real values.

use super::geometry::Geometry;
use super::pool::Pool;
use crate::kernels::fused;
use crate::kernels::scalar::dynamic::{PictureQuant, range};
use crate::kernels::scalar::float::{self, BinaryOp, FloatDepthwise, FloatWeights, MatrixProduct};
use crate::kernels::scalar::{self, Bounds};

/// Elements of the windows that one product reads: they stay in the first-level cache.
const PATCH_ELEMENTS: usize = 4 * 1024;

/// A convolution or fully connected layer with real weights.
pub(super) struct FloatConv {
    pub weights: FloatWeights,
    pub bias: Vec<f32>,
    pub geometry: Geometry,
    pub bounds: Bounds,
}

impl FloatConv {
    fn tile_rows(&self) -> usize {
        (PATCH_ELEMENTS / self.weights.depth()).clamp(1, 256)
    }

    /// Bytes of scratch for one thread.
    pub fn job_scratch(&self) -> usize {
        match self.geometry.is_pointwise() {
            true => 64,
            false => (4 * self.tile_rows() * self.weights.depth()).next_multiple_of(64),
        }
    }

    /// `input` holds whole pictures, `out` their results.
    pub fn run(&self, input: &[f32], out: &mut [f32], scratch: &mut [i8], pool: &Pool) {
        let (depth, channels) = (self.weights.depth(), self.weights.channels());
        let tile_rows = self.tile_rows();
        let rows = pool.rows_per_job(out.len() / channels, 1);
        let jobs = out
            .chunks_mut(rows * channels)
            .zip(scratch.chunks_mut(self.job_scratch()))
            .enumerate();
        pool.share(jobs, &|(job, (out, scratch))| {
            let patches: &mut [f32] = bytemuck::cast_slice_mut(scratch);
            for (tile, out) in out.chunks_mut(tile_rows * channels).enumerate() {
                let first = *job * rows + tile * tile_rows;
                let rows = out.len() / channels;
                let a = if self.geometry.is_pointwise() {
                    &input[first * depth..][..rows * depth]
                } else {
                    let pixels = first..first + rows;
                    self.geometry.gather(pixels, input, patches, depth, 0.0);
                    &patches[..rows * depth]
                };
                let product = MatrixProduct {
                    a,
                    weights: &self.weights,
                    bias: &self.bias,
                    bounds: self.bounds,
                };
                fused::matrix_product(&product, out);
            }
        });
    }
}

/// Whether a depthwise convolution's weights are real values or codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taps {
    Real,
    /// Codes less their zero point: the input is quantized on the fly, picture by picture, as TFLite does.
    Codes,
}

/// A depthwise convolution of real activations.
pub(super) struct FloatDepthwiseConv {
    pub taps: Vec<f32>,
    pub kind: Taps,
    /// Scale of each channel's taps; not read if they are real.
    pub scales: Vec<f32>,
    pub bias: Vec<f32>,
    /// Output channels that read one input channel.
    pub multiplier: usize,
    pub geometry: Geometry,
    pub bounds: Bounds,
}

impl FloatDepthwiseConv {
    fn row_elements(&self) -> usize {
        (self.geometry.padded_width() * self.bias.len()).next_multiple_of(16)
    }

    /// Bytes of scratch for one thread: a ring of padded rows.
    pub fn job_scratch(&self) -> usize {
        4 * self.geometry.reach() * self.row_elements()
    }

    /// `input` holds whole pictures, `out` their results.
    pub fn run(&self, input: &[f32], out: &mut [f32], scratch: &mut [i8], pool: &Pool) {
        let g = &self.geometry;
        let line = g.out[1] * self.bias.len();
        let images = input.chunks_exact(g.image());
        for (input, out) in images.zip(out.chunks_exact_mut(g.out[0] * line)) {
            let quant = match self.kind {
                Taps::Real => None,
                Taps::Codes => Some(PictureQuant::new(range(input))),
            };
            let rows = pool.rows_per_job(g.out[0], 1);
            let jobs = out
                .chunks_mut(rows * line)
                .zip(scratch.chunks_mut(self.job_scratch()))
                .enumerate();
            pool.share(jobs, &|(job, (out, scratch))| {
                let ring: &mut [f32] = bytemuck::cast_slice_mut(scratch);
                for (at, out) in out.chunks_exact_mut(line).enumerate() {
                    self.fill_ring(*job * rows + at, at == 0, input, ring, quant);
                    self.run_row(*job * rows + at, ring, quant, out);
                }
            });
        }
    }

    fn fill_ring(
        &self,
        y: usize,
        is_first: bool,
        input: &[f32],
        ring: &mut [f32],
        quant: Option<PictureQuant>,
    ) {
        let g = &self.geometry;
        let times = self.multiplier;
        g.fill_ring(
            y,
            is_first,
            ring,
            self.row_elements(),
            |source, row| match quant {
                None => g.pad_row(source, times, input, row, 0.0, |x| x),
                Some(quant) => g.pad_row(source, times, input, row, 0.0, |x| quant.centred(x)),
            },
        );
    }

    fn run_row(&self, y: usize, ring: &[f32], quant: Option<PictureQuant>, out: &mut [f32]) {
        let g = &self.geometry;
        let rows = g.ring_rows(y, ring, self.row_elements());
        let row = FloatDepthwise {
            rows: &rows[..g.window[0]],
            taps: &self.taps,
            columns: g.window[1],
            stride: g.stride[1],
            dilation: g.dilation[1],
            scales: quant.map(|quant| (self.scales.as_slice(), quant.scale)),
            bias: &self.bias,
            bounds: self.bounds,
        };
        fused::depthwise_row(&row, out);
    }
}

/// Two operands, the second repeating along the first.
#[derive(Clone, Copy, Debug)]
pub(super) struct FloatBinary {
    pub op: BinaryOp,
    pub bounds: Bounds,
}

impl FloatBinary {
    /// Bytes of f32.
    pub fn run(&self, a: &[i8], b: &[i8], out: &mut [i8]) {
        let (a, b) = (bytemuck::cast_slice(a), bytemuck::cast_slice(b));
        float::binary(self.op, self.bounds, a, b, bytemuck::cast_slice_mut(out));
    }
}

/// An operator on one value.
#[derive(Clone, Copy, Debug)]
pub(super) enum FloatUnary {
    Clamp(Bounds),
    Logistic,
    HardSwish,
    Softmax {
        beta: f32,
        depth: usize,
    },
    MaxPool {
        pool: scalar::Pool,
        out_height: usize,
        bounds: Bounds,
    },
    AveragePool {
        pool: scalar::Pool,
        out_height: usize,
        bounds: Bounds,
    },
    Mean {
        rows: usize,
        channels: usize,
    },
}

impl FloatUnary {
    /// `input` and `out` are whole values.
    pub fn run(&self, input: &[f32], out: &mut [f32], pool: &Pool) {
        match *self {
            Self::Clamp(bounds) => float::clamp(bounds, input, out),
            Self::Logistic => {
                let part = pool.rows_per_job(out.len(), 64);
                let jobs = input.chunks(part).zip(out.chunks_mut(part));
                pool.share(jobs, &|(input, out)| float::logistic(input, out));
            }
            Self::HardSwish => float::hard_swish(input, out),
            Self::Softmax { beta, depth } => float::softmax(beta, depth, input, out),
            Self::MaxPool {
                pool,
                out_height,
                bounds,
            } => each_picture(&pool, out_height, input, out, |input, out| {
                float::max_pool(&pool, bounds, input, out);
            }),
            Self::AveragePool {
                pool,
                out_height,
                bounds,
            } => each_picture(&pool, out_height, input, out, |input, out| {
                float::average_pool(&pool, bounds, input, out);
            }),
            Self::Mean { rows, channels } => float::mean(rows, channels, input, out),
        }
    }

    /// Name of the kernel that does the work.
    pub fn kernel_name(&self) -> &'static str {
        match self {
            Self::Clamp(_) => "f32_clamp_scalar",
            Self::Logistic => "f32_logistic_scalar",
            Self::HardSwish => "f32_hard_swish_scalar",
            Self::Softmax { .. } => "f32_softmax_scalar",
            Self::MaxPool { .. } => "f32_max_pool_scalar",
            Self::AveragePool { .. } => "f32_average_pool_scalar",
            Self::Mean { .. } => "f32_mean_scalar",
        }
    }
}

fn each_picture(
    pool: &scalar::Pool,
    out_height: usize,
    input: &[f32],
    out: &mut [f32],
    run: impl Fn(&[f32], &mut [f32]),
) {
    let image = pool.input[0] * pool.input[1] * pool.channels;
    let result = out_height * pool.out_width * pool.channels;
    for (input, out) in input.chunks_exact(image).zip(out.chunks_exact_mut(result)) {
        run(input, out);
    }
}
