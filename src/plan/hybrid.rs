//! Matrix products of real activations and 8-bit weights: the activations are quantized on the fly, the sums are exact
//! integers, the results real again.

use super::geometry::Geometry;
use super::pool::Pool;
use crate::kernels::pack::PackedWeights;
use crate::kernels::scalar::Bounds;
use crate::kernels::scalar::dynamic::{RowQuant, RowsToReal, range};
use crate::kernels::{GEMM_OVERREAD, Gemm, GemmKernel, Output, fused};

/// Elements that one product reads or writes: they stay in the second-level cache.
const TILE_ELEMENTS: usize = 16 * 1024;

/// A convolution or fully connected layer. A pointwise one quantizes every pixel on its own, any other every picture,
/// as XNNPACK does.
pub(super) struct HybridConv {
    pub kernel: &'static GemmKernel,
    pub weights: PackedWeights,
    /// `sum_k w[n][k]` of each channel.
    pub weight_sums: Vec<i32>,
    pub scales: Vec<f32>,
    pub bias: Vec<f32>,
    pub geometry: Geometry,
    pub bounds: Bounds,
}

/// A cut of a job's scratch memory.
struct Scratch<'a> {
    product: &'a mut [i8],
    sums: &'a mut [i32],
    quants: &'a mut [RowQuant],
    codes: &'a mut [i8],
    patches: &'a mut [f32],
}

impl HybridConv {
    fn tile_rows(&self) -> usize {
        let widest = self.weights.depth().max(self.weights.channels());
        let rows = (TILE_ELEMENTS / widest).clamp(1, 256);
        rows.next_multiple_of(self.kernel.tile.mr)
    }

    /// Bytes of the parts of a job's scratch.
    fn parts(&self) -> [usize; 5] {
        let (rows, depth) = (self.tile_rows(), self.weights.depth());
        let patches = match self.geometry.is_pointwise() {
            true => 0,
            false => 4 * rows * depth,
        };
        [
            self.kernel.scratch_bytes(depth),
            4 * rows * self.weights.channels(),
            size_of::<RowQuant>() * rows,
            rows * depth + GEMM_OVERREAD,
            patches,
        ]
        .map(|bytes| bytes.next_multiple_of(64))
    }

    /// Bytes of scratch for one thread.
    pub fn job_scratch(&self) -> usize {
        self.parts().iter().sum()
    }

    fn cut<'a>(&self, scratch: &'a mut [i8]) -> Scratch<'a> {
        let [product, sums, quants, codes, _] = self.parts();
        let (product, rest) = scratch.split_at_mut(product);
        let (sums, rest) = rest.split_at_mut(sums);
        let (quants, rest) = rest.split_at_mut(quants);
        let (codes, patches) = rest.split_at_mut(codes);
        Scratch {
            product,
            sums: bytemuck::cast_slice_mut(sums),
            quants: bytemuck::cast_slice_mut(quants),
            codes,
            patches: bytemuck::cast_slice_mut(patches),
        }
    }

    /// `input` holds whole pictures, `out` their results.
    pub fn run(&self, input: &[f32], out: &mut [f32], scratch: &mut [i8], pool: &Pool) {
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

    fn run_rows(&self, first: usize, input: &[f32], out: &mut [f32], scratch: Scratch<'_>) {
        let (depth, channels) = (self.weights.depth(), self.weights.channels());
        let tile_rows = self.tile_rows();
        let Scratch {
            product,
            sums,
            quants,
            codes,
            patches,
        } = scratch;
        let mut picture = None;
        for (tile, out) in out.chunks_mut(tile_rows * channels).enumerate() {
            let start = first + tile * tile_rows;
            let rows = out.len() / channels;
            let quants = &mut quants[..rows];
            let a = if self.geometry.is_pointwise() {
                let a = &input[start * depth..][..rows * depth];
                for (quant, row) in quants.iter_mut().zip(a.chunks_exact(depth)) {
                    *quant = RowQuant::new(range(row));
                }
                a
            } else {
                let pixels = start..start + rows;
                self.geometry.gather(pixels, input, patches, depth, 0.0);
                for (row, quant) in quants.iter_mut().enumerate() {
                    *quant = self.picture_quant(start + row, input, &mut picture);
                }
                &patches[..rows * depth]
            };
            let rows_of_codes = codes.chunks_exact_mut(depth);
            for ((quant, row), codes) in quants.iter().zip(a.chunks_exact(depth)).zip(rows_of_codes)
            {
                quant.quantize(row, codes);
            }
            self.kernel.run(Gemm {
                a: codes,
                a_stride: depth,
                rows,
                weights: &self.weights,
                blocks: 0..self.weights.blocks(),
                out: Output::Sums(sums),
                out_stride: channels,
                scratch: product,
            });
            let layer = RowsToReal {
                weight_sums: &self.weight_sums,
                scales: &self.scales,
                bias: &self.bias,
                bounds: self.bounds,
            };
            fused::rows_to_real(&layer, sums, quants, out);
        }
    }

    /// The quantization of the picture that output pixel `row` belongs to. `known` is that of the row before.
    fn picture_quant(
        &self,
        row: usize,
        input: &[f32],
        known: &mut Option<(usize, RowQuant)>,
    ) -> RowQuant {
        let at = row / (self.geometry.out[0] * self.geometry.out[1]);
        match *known {
            Some((picture, quant)) if picture == at => quant,
            _ => {
                let elements = self.geometry.image();
                let quant = RowQuant::new(range(&input[at * elements..][..elements]));
                *known = Some((at, quant));
                quant
            }
        }
    }
}
