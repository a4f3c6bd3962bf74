//! Matrix product and depthwise convolution.

use crate::kernels::depthwise::{Depthwise, DepthwiseKernel, PackedTaps};
use crate::kernels::gemm::{Gemm, GemmKernel, Output};
use crate::kernels::pack::Tile;

const NR: usize = 16;

/// The reference product.
pub const GEMMS: [GemmKernel; 1] = [GemmKernel {
    name: "i8_gemm_1x16_scalar",
    tile: Tile {
        mr: 1,
        nr: NR,
        kr: 1,
        offset: 0,
    },
    scratch_per_depth: 0,
    needs_no_minimum: false,
    run: gemm,
}];

/// The reference depthwise convolution.
pub const DEPTHWISE: DepthwiseKernel = DepthwiseKernel {
    name: "i8_depthwise_scalar",
    block: 1,
    pack: |_| PackedTaps::default(),
    run: depthwise,
};

fn gemm(mut gemm: Gemm<'_>) {
    let weights = gemm.weights;
    let depth = weights.depth();
    for row in 0..gemm.rows {
        let a = &gemm.a[row * gemm.a_stride..][..depth];
        for (at, block) in gemm.blocks.clone().enumerate() {
            let mut acc = [0i32; NR];
            acc.copy_from_slice(weights.bias(block));
            for (&a, w) in a.iter().zip(weights.block(block).chunks_exact(NR)) {
                for (acc, &w) in acc.iter_mut().zip(w) {
                    *acc = acc.wrapping_add(i32::from(a) * i32::from(w));
                }
            }
            let at = row * gemm.out_stride + at * NR;
            let lanes = weights.channels_of(block..block + 1);
            match &mut gemm.out {
                Output::Codes {
                    out,
                    row_terms,
                    stage,
                } => {
                    let term = match weights.has_row_term(block) {
                        true => row_terms[row],
                        false => 0,
                    };
                    let scales = weights.scales(block);
                    for (n, out) in out[at..][..lanes].iter_mut().enumerate() {
                        *out = stage.requantize(acc[n].wrapping_add(term), scales[n]);
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
    let columns = weights.kernel[1];
    for x in 0..row.pixels {
        for first in (0..row.channels).step_by(LANES) {
            let lanes = LANES.min(row.channels - first);
            let channel = row.first_channel + first;
            let mut acc = [0i32; LANES];
            acc[..lanes].copy_from_slice(&weights.bias[channel..channel + lanes]);
            for (i, input) in row.rows.iter().enumerate() {
                for j in 0..columns {
                    let taps = &weights.taps[(i * columns + j) * weights.channels + channel..];
                    let column = (x * row.stride + j * row.dilation).checked_sub(row.padding);
                    let codes = match column.filter(|&column| column < row.width) {
                        Some(column) => &input[column * row.input_stride + first..][..lanes],
                        None => &[row.fill; LANES][..lanes],
                    };
                    for ((acc, &code), &tap) in acc.iter_mut().zip(codes).zip(taps) {
                        *acc = acc.wrapping_add(i32::from(code) * i32::from(tap));
                    }
                }
            }
            let out = &mut row.out[x * row.out_stride + first..][..lanes];
            let scales = &weights.scales[channel..channel + lanes];
            for ((out, &acc), &scale) in out.iter_mut().zip(&acc).zip(scales) {
                *out = row.stage.requantize(acc, scale);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::depthwise::{DepthwiseWeights, PackedTaps};
    use crate::kernels::gemm::GEMM_OVERREAD;
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
        a.resize(6 + GEMM_OVERREAD, 0);
        let mut out = [0; 4];
        GEMMS[0].run(Gemm {
            a: &a,
            a_stride: 3,
            rows: 2,
            weights: &weights,
            blocks: 0..1,
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
            blocks: 0..1,
            out: Output::Sums(&mut sums),
            out_stride: 2,
            scratch: &mut [],
        });
        // The zero point of the activations, 1, took 6 and 0 off the bias.
        assert_eq!(sums, [94 + 10 + 40 + 90, -100 + 20, 94 + 6, -100]);
    }

    #[test]
    fn a_depthwise_row_by_hand() {
        let weights = DepthwiseWeights {
            kernel: [1, 2],
            channels: 2,
            taps: vec![1, 10, 2, 20],
            bias: vec![0, 1],
            scales: vec![1.0, 0.1],
            packed: PackedTaps::default(),
        };
        let input: [i8; 8] = [1, 1, 2, 2, 3, 3, 4, 4];
        let mut out = [0; 4];
        DEPTHWISE.run(Depthwise {
            rows: &[&input],
            input_stride: 2,
            width: 4,
            padding: 0,
            fill: 0,
            weights: &weights,
            first_channel: 0,
            channels: 2,
            stride: 2,
            dilation: 1,
            stage: OutputStage::full_range(0),
            out: &mut out,
            out_stride: 2,
            pixels: 2,
        });
        // x = 0: 1 + 2*2 = 5; (10 + 40 + 1) / 10 = 5.1. x = 1 reads pixels 2 and 3: 3 + 8 = 11; (30 + 80 + 1) / 10.
        assert_eq!(out, [5, 5, 11, 11]);
    }

    #[test]
    fn outside_the_row_lies_the_fill_and_channels_can_be_made_apart() {
        let weights = DepthwiseWeights {
            kernel: [1, 3],
            channels: 2,
            taps: vec![1, 10, 2, 20, 3, 30],
            bias: vec![0, 1],
            scales: vec![1.0, 0.1],
            packed: PackedTaps::default(),
        };
        let mut out = [0; 4];
        DEPTHWISE.run(Depthwise {
            rows: &[&[1, 2]],
            input_stride: 1,
            width: 2,
            padding: 1,
            fill: 5,
            weights: &weights,
            first_channel: 1,
            channels: 1,
            stride: 1,
            dilation: 1,
            stage: OutputStage::full_range(0),
            out: &mut out,
            out_stride: 3,
            pixels: 2,
        });
        // x = 0: (50 + 20 + 60 + 1) / 10; x = 1: (10 + 40 + 150 + 1) / 10.
        assert_eq!(out, [13, 0, 0, 20]);
    }
}
