//! Checks every kernel of a table against the scalar reference, bit for bit. `doctor` and the tests run it.
//!
//! Sizes lie around the edges of the tiles and on real MobileNet layers; fills are random, all minimum, all maximum and
//! alternating; guard bytes round the output show a write outside it.

use super::pack::{PackedWeights, WeightsSource, row_terms};
use super::requant::OutputStage;
use super::{
    Depthwise, DepthwiseKernel, DepthwiseWeights, GEMM_OVERREAD, Gemm, GemmKernel, Kernels, Output,
    scalar,
};

/// `[rows, depth, channels]` of the products checked.
const GEMM_SIZES: [[usize; 3]; 22] = [
    [1, 1, 1],
    [1, 2, 7],
    [2, 3, 8],
    [3, 7, 9],
    [4, 8, 15],
    [5, 9, 16],
    [6, 15, 17],
    [7, 16, 31],
    [8, 17, 32],
    [9, 31, 33],
    [3, 32, 16],
    [5, 33, 24],
    [13, 27, 32],
    [7, 96, 24],
    [6, 144, 32],
    [9, 192, 64],
    [4, 384, 96],
    [49, 160, 97],
    [3, 960, 320],
    [2, 1280, 546],
    [1, 1024, 1001],
    [2, 4608, 12],
];

/// `[output pixels, channels, kernel, stride, dilation]` of the depthwise rows checked.
const DEPTHWISE_SIZES: [[usize; 5]; 14] = [
    [1, 1, 3, 1, 1],
    [2, 3, 3, 1, 1],
    [3, 7, 3, 2, 1],
    [5, 8, 3, 1, 1],
    [4, 9, 3, 2, 1],
    [7, 15, 5, 1, 1],
    [6, 16, 3, 1, 2],
    [3, 17, 5, 2, 1],
    [8, 24, 3, 1, 1],
    [9, 31, 3, 2, 1],
    [5, 32, 2, 1, 1],
    [10, 96, 3, 1, 1],
    [3, 144, 3, 2, 1],
    [2, 960, 3, 1, 1],
];

const GUARD: i8 = 0x5a;

/// A place where a kernel differs from the reference.
#[derive(Clone, Debug)]
pub struct Mismatch {
    /// The kernel and the case.
    pub case: String,
    /// Index into the guarded output.
    pub at: usize,
    pub expected: i8,
    pub got: i8,
}

/// What a check covered.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub cases: usize,
    /// At most one for each case.
    pub mismatches: Vec<Mismatch>,
}

/// Checks every kernel of the table.
pub fn check(kernels: &Kernels) -> Report {
    let mut report = Report::default();
    for kernel in kernels.gemms() {
        check_gemm(kernel, &mut report);
    }
    check_depthwise(&kernels.depthwise, &mut report);
    report
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fill {
    Random,
    Minimum,
    Maximum,
    Alternating,
}

const FILLS: [Fill; 4] = [
    Fill::Random,
    Fill::Minimum,
    Fill::Maximum,
    Fill::Alternating,
];

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// `count` codes, none below `minimum`.
    fn codes(&mut self, fill: Fill, count: usize, minimum: i8) -> Vec<i8> {
        (0..count)
            .map(|at| match fill {
                Fill::Random => (self.next() as i8).max(minimum),
                Fill::Minimum => minimum,
                Fill::Maximum => i8::MAX,
                Fill::Alternating if at % 2 == 0 => minimum,
                Fill::Alternating => i8::MAX,
            })
            .collect()
    }

    fn scales(&mut self, depth: usize, count: usize) -> Vec<f32> {
        let middle = 1.0 / (depth as f32).sqrt() / 64.0;
        (0..count)
            .map(|_| middle * (0.25 + (self.next() % 1000) as f32 / 500.0))
            .collect()
    }
}

/// Zero points of the output and its bounds.
const STAGES: [OutputStage; 3] = [
    OutputStage {
        zero_point: -128,
        min: -128,
        max: 127,
    },
    OutputStage {
        zero_point: 0,
        min: 0,
        max: 100,
    },
    OutputStage {
        zero_point: 127,
        min: -128,
        max: 127,
    },
];

fn check_gemm(kernel: &GemmKernel, report: &mut Report) {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let minimum = if kernel.needs_no_minimum { -127 } else { -128 };
    for [rows, depth, channels] in GEMM_SIZES {
        for (fill, zero_point) in FILLS.into_iter().zip([-128, 0, 127, 3]) {
            let weights = random.codes(fill, channels * depth, minimum);
            let a = random.codes(fill, rows * depth + GEMM_OVERREAD, i8::MIN);
            let bias: Vec<i32> = (0..channels).map(|_| random.next() as i16 as i32).collect();
            let scales = random.scales(depth, channels);
            let source = WeightsSource {
                weights: &weights,
                weight_zero_point: zero_point,
                input_zero_point: -zero_point.min(127),
                bias: &bias,
                scales: &scales,
            };
            let sums = |kernel: &GemmKernel| sums_case(kernel, source, &a, rows);
            let case = || format!("{} sums {rows}x{depth}x{channels} {fill:?}", kernel.name);
            compare(&sums(&scalar::GEMMS[0]), &sums(kernel), case, report);
            for stage in STAGES {
                let run = |kernel: &GemmKernel| gemm_case(kernel, source, &a, rows, stage);
                let case = || {
                    format!(
                        "{} {rows}x{depth}x{channels} {fill:?} {zero_point} {stage:?}",
                        kernel.name
                    )
                };
                compare(&run(&scalar::GEMMS[0]), &run(kernel), case, report);
            }
        }
    }
}

/// One product into a guarded output whose rows lie three codes apart.
fn gemm_case(
    kernel: &GemmKernel,
    source: WeightsSource<'_>,
    a: &[i8],
    rows: usize,
    stage: OutputStage,
) -> Vec<i8> {
    let weights = PackedWeights::new(source, kernel.tile);
    let (depth, channels) = (weights.depth(), weights.channels());
    let mut terms = vec![0; rows];
    row_terms(a, depth, depth, source.weight_zero_point, &mut terms);
    let out_stride = channels + 3;
    let mut guarded = vec![GUARD; rows * out_stride + 32];
    let end = guarded.len() - 16;
    kernel.run(Gemm {
        a,
        a_stride: depth,
        rows,
        weights: &weights,
        out: Output::Codes {
            out: &mut guarded[16..end],
            row_terms: &terms,
            stage,
        },
        out_stride,
        scratch: &mut vec![0; kernel.scratch_bytes(depth)],
    });
    guarded
}

/// The bare sums of one product in a guarded output whose rows lie three sums apart.
fn sums_case(kernel: &GemmKernel, source: WeightsSource<'_>, a: &[i8], rows: usize) -> Vec<i8> {
    let weights = PackedWeights::new(source, kernel.tile);
    let (depth, channels) = (weights.depth(), weights.channels());
    let out_stride = channels + 3;
    let mut guarded = vec![i32::from_ne_bytes([GUARD as u8; 4]); rows * out_stride + 32];
    let end = guarded.len() - 16;
    kernel.run(Gemm {
        a,
        a_stride: depth,
        rows,
        weights: &weights,
        out: Output::Sums(&mut guarded[16..end]),
        out_stride,
        scratch: &mut vec![0; kernel.scratch_bytes(depth)],
    });
    bytemuck::cast_slice(&guarded).to_vec()
}

fn check_depthwise(kernel: &DepthwiseKernel, report: &mut Report) {
    let mut random = Random(0xd1b5_4a32_d192_ed03);
    for [pixels, channels, size, stride, dilation] in DEPTHWISE_SIZES {
        for fill in FILLS {
            let taps = size * size * channels;
            let weights = DepthwiseWeights {
                kernel: [size, size],
                channels,
                taps: random
                    .codes(fill, taps, i8::MIN)
                    .into_iter()
                    .map(|tap| i16::from(tap) * 2 - i16::from(tap.signum()))
                    .collect(),
                bias: (0..channels).map(|_| random.next() as i16 as i32).collect(),
                scales: random.scales(size * size * 2, channels),
            };
            let width = (pixels - 1) * stride + (size - 1) * dilation + 1;
            let rows: Vec<_> = (0..size)
                .map(|_| random.codes(fill, width * channels, i8::MIN))
                .collect();
            let rows: Vec<&[i8]> = rows.iter().map(Vec::as_slice).collect();
            for stage in STAGES {
                let run = |kernel: &DepthwiseKernel| {
                    let mut guarded = vec![GUARD; pixels * channels + 32];
                    let end = guarded.len() - 16;
                    kernel.run(Depthwise {
                        rows: &rows,
                        weights: &weights,
                        stride,
                        dilation,
                        stage,
                        out: &mut guarded[16..end],
                    });
                    guarded
                };
                let case = || {
                    let sizes = [pixels, channels, size, stride, dilation];
                    format!("{} {sizes:?} {fill:?} {stage:?}", kernel.name)
                };
                compare(&run(&scalar::DEPTHWISE), &run(kernel), case, report);
            }
        }
    }
}

fn compare(expected: &[i8], got: &[i8], case: impl Fn() -> String, report: &mut Report) {
    report.cases += 1;
    let guards = [&got[..16], &got[got.len() - 16..]].concat();
    let outside = guards.iter().position(|&byte| byte != GUARD);
    let different = expected.iter().zip(got).position(|(a, b)| a != b);
    if let Some(at) = different.or(outside) {
        report.mismatches.push(Mismatch {
            case: case(),
            at,
            expected: expected[at],
            got: got[at],
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Isa;

    #[test]
    fn every_kernel_equals_scalar() {
        for isa in Isa::ALL {
            let Some(kernels) = Kernels::of(isa) else {
                println!("SKIPPED: this CPU has no {isa}");
                continue;
            };
            let report = check(&kernels);
            println!("{isa}: {} cases", report.cases);
            assert!(report.cases > 400);
            assert!(
                report.mismatches.is_empty(),
                "{:#?}",
                report.mismatches.first()
            );
        }
    }

    #[test]
    fn a_wrong_kernel_is_found() {
        let broken = GemmKernel {
            name: "broken",
            run: |gemm| {
                if let Output::Codes { out, stage, .. } = gemm.out {
                    for out in out.iter_mut().step_by(64) {
                        *out = stage.min;
                    }
                }
            },
            ..scalar::GEMMS[0]
        };
        let mut report = Report::default();
        check_gemm(&broken, &mut report);
        assert!(!report.mismatches.is_empty());
    }
}
