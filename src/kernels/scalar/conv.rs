//! Matrix product and depthwise convolution.

use crate::kernels::pack::Tile;
use crate::kernels::{Depthwise, DepthwiseKernel, Gemm, GemmKernel, Output};

const NR: usize = 16;

/// The reference product.
pub const GEMMS: [GemmKernel; 1] = [GemmKernel {
    name: "i8_gemm_1x16_scalar",
    tile: Tile {
        mr: 1,
        nr: NR,
        kr: 1,
    },
    scratch_per_depth: 0,
    needs_no_minimum: false,
    run: gemm,
}];

/// The reference depthwise convolution.
pub const DEPTHWISE: DepthwiseKernel = DepthwiseKernel {
    name: "i8_depthwise_scalar",
    run: depthwise,
};

fn gemm(mut gemm: Gemm<'_>) {
    let weights = gemm.weights;
    let (depth, channels) = (weights.depth(), weights.channels());
    for row in 0..gemm.rows {
        let a = &gemm.a[row * gemm.a_stride..][..depth];
        for block in 0..channels.div_ceil(NR) {
            let mut acc = [0i32; NR];
            for (&a, w) in a.iter().zip(weights.block(block).chunks_exact(NR)) {
                for (acc, &w) in acc.iter_mut().zip(w) {
                    *acc = acc.wrapping_add(i32::from(a) * i32::from(w));
                }
            }
            let at = row * gemm.out_stride + block * NR;
            let lanes = NR.min(channels - block * NR);
            match &mut gemm.out {
                Output::Codes {
                    out,
                    row_terms,
                    stage,
                } => {
                    let term = row_terms.get(row).copied().unwrap_or(0);
                    let (bias, scales) = (weights.bias(block), weights.scales(block));
                    for (n, out) in out[at..][..lanes].iter_mut().enumerate() {
                        let sum = acc[n].wrapping_add(bias[n]).wrapping_add(term);
                        *out = stage.requantize(sum, scales[n]);
                    }
                }
                Output::Sums(sums) => sums[at..][..lanes].copy_from_slice(&acc[..lanes]),
            }
        }
    }
}

fn depthwise(row: Depthwise<'_>) {
    const LANES: usize = 16;
    let weights = row.weights;
    let channels = weights.channels;
    let columns = weights.kernel[1];
    for (x, out) in row.out.chunks_exact_mut(channels).enumerate() {
        for (lane, out) in out.chunks_mut(LANES).enumerate() {
            let first = lane * LANES;
            let lanes = out.len();
            let mut acc = [0i32; LANES];
            acc[..lanes].copy_from_slice(&weights.bias[first..first + lanes]);
            for (i, input) in row.rows.iter().enumerate() {
                for j in 0..columns {
                    let pixel = (x * row.stride + j * row.dilation) * channels + first;
                    let tap = (i * columns + j) * channels + first;
                    let codes = &input[pixel..pixel + lanes];
                    let taps = &weights.taps[tap..tap + lanes];
                    for ((acc, &code), &tap) in acc.iter_mut().zip(codes).zip(taps) {
                        *acc = acc.wrapping_add(i32::from(code) * i32::from(tap));
                    }
                }
            }
            let scales = &weights.scales[first..first + lanes];
            for ((out, &acc), &scale) in out.iter_mut().zip(&acc).zip(scales) {
                *out = row.stage.requantize(acc, scale);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::DepthwiseWeights;
    use crate::kernels::pack::{PackedWeights, WeightsSource};
    use crate::kernels::requant::OutputStage;

    #[test]
    fn a_product_by_hand() {
        let weights = PackedWeights::new(
            WeightsSource {
                weights: &[1, 2, 3, -1, 0, 1],
                weight_zero_point: 0,
                input_zero_point: 1,
                bias: &[100, -100],
                scales: &[0.5, 1.0],
            },
            GEMMS[0].tile,
        );
        let mut a = vec![10i8, 20, 30, 1, 1, 1];
        a.resize(6 + 16, 0);
        let mut out = [0; 4];
        GEMMS[0].run(Gemm {
            a: &a,
            a_stride: 3,
            rows: 2,
            weights: &weights,
            out: Output::Codes {
                out: &mut out,
                row_terms: &[],
                stage: OutputStage::full_range(3),
            },
            out_stride: 2,
            scratch: &mut [],
        });
        // Row 0: (9 + 38 + 87 + 100) / 2 = 117, + 3; (-9 + 29 - 100) = -80, + 3. Row 1 is all zero point: the bias.
        assert_eq!(out, [120, -77, 53, -97]);
        let mut sums = [0; 4];
        GEMMS[0].run(Gemm {
            a: &a,
            a_stride: 3,
            rows: 2,
            weights: &weights,
            out: Output::Sums(&mut sums),
            out_stride: 2,
            scratch: &mut [],
        });
        assert_eq!(sums, [10 + 40 + 90, 20, 6, 0]);
    }

    #[test]
    fn a_depthwise_row_by_hand() {
        let weights = DepthwiseWeights {
            kernel: [1, 2],
            channels: 2,
            taps: vec![1, 10, 2, 20],
            bias: vec![0, 1],
            scales: vec![1.0, 0.1],
        };
        let input: [i8; 8] = [1, 1, 2, 2, 3, 3, 4, 4];
        let mut out = [0; 4];
        DEPTHWISE.run(Depthwise {
            rows: &[&input],
            weights: &weights,
            stride: 2,
            dilation: 1,
            stage: OutputStage::full_range(0),
            out: &mut out,
        });
        // x = 0: 1 + 2*2 = 5; (10 + 40 + 1) / 10 = 5.1. x = 1 reads pixels 2 and 3: 3 + 8 = 11; (30 + 80 + 1) / 10.
        assert_eq!(out, [5, 5, 11, 11]);
    }
}
