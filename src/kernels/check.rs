//! Checks every kernel of a table against the scalar reference, bit for bit. `doctor` and the tests run it.
//!
//! Sizes lie around the edges of the tiles and on real MobileNet layers; fills are random, all minimum, all maximum and
//! alternating; guard bytes round the output show a write outside it.

use super::depthwise::PackedTaps;
use super::pack::{PackedWeights, WeightsSource, row_terms};
use super::requant::OutputStage;
use super::scalar::{self, AddParams, MeanParams, MulParams};
use super::{
    Depthwise, DepthwiseKernel, DepthwiseWeights, Elementwise, GEMM_OVERREAD, Gemm, GemmKernel,
    Kernels, Output, elementwise,
};

/// `[rows, depth, channels]` of the products checked.
const GEMM_SIZES: [[usize; 3]; 26] = [
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
    [29, 40, 16],
    [19, 24, 48],
    [12, 20, 33],
    [66, 8, 112],
];

/// `[output pixels, channels, kernel, stride, dilation]` of the depthwise rows checked.
const DEPTHWISE_SIZES: [[usize; 5]; 17] = [
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
    [9, 64, 3, 2, 1],
    [11, 80, 3, 1, 1],
    [6, 100, 5, 2, 1],
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
    check_elementwise(kernels, &mut report);
    report
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fill {
    Random,
    Minimum,
    Maximum,
    Alternating,
    /// Random and near 0, as most weights are.
    Small,
    /// As `Small`, with scales so large that most results leave the range of codes, and of int16.
    Coarse,
    /// Weights of which four, times -128, just fit int16.
    Quarter,
    /// Weights of which four, times -128, just do not fit.
    MinusQuarter,
    /// Weights of which nine, times -128, just fit.
    Ninth,
}

impl Fill {
    /// How activations are filled where weights are filled so.
    fn of_activations(self) -> Self {
        match self {
            Self::Quarter | Self::MinusQuarter | Self::Ninth => Self::Minimum,
            fill => fill,
        }
    }
}

const FILLS: [Fill; 9] = [
    Fill::Random,
    Fill::Minimum,
    Fill::Maximum,
    Fill::Alternating,
    Fill::Small,
    Fill::Coarse,
    Fill::Quarter,
    Fill::MinusQuarter,
    Fill::Ninth,
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
                Fill::Small | Fill::Coarse => (self.next() % 81) as i8 - 40,
                Fill::Quarter => 64,
                Fill::MinusQuarter => -64,
                Fill::Ninth => 28,
            })
            .collect()
    }

    fn scales(&mut self, fill: Fill, depth: usize, count: usize) -> Vec<f32> {
        let factor = if fill == Fill::Coarse { 200.0 } else { 1.0 };
        let middle = factor / (depth as f32).sqrt() / 64.0;
        let scale = |at: usize| {
            let scale = middle * (0.25 + (self.next() % 1000) as f32 / 500.0);
            match at % 4 {
                // A power of two: many results lie halfway between two codes.
                3 => f32::from_bits(scale.to_bits() & 0xff80_0000),
                // Results far beyond all codes.
                1 if at / 16 % 3 == 2 => scale * 256.0,
                _ => scale,
            }
        };
        (0..count).map(scale).collect()
    }
}

/// Zero points of the output and its bounds.
const STAGES: [OutputStage; 4] = [
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
    OutputStage {
        zero_point: 6,
        min: -128,
        max: 127,
    },
];

fn check_gemm(kernel: &GemmKernel, report: &mut Report) {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let minimum = if kernel.needs_no_minimum { -127 } else { -128 };
    for [rows, depth, channels] in GEMM_SIZES {
        for (fill, zero_point) in FILLS.into_iter().zip([-128, 0, 127, 3, 5, 0, 0, 0, 0]) {
            let weights = random.codes(fill, channels * depth, minimum);
            let a_stride = depth + (zero_point == 5) as usize * 5;
            let fill_of_a = fill.of_activations();
            let a = random.codes(fill_of_a, rows * a_stride + GEMM_OVERREAD, i8::MIN);
            let bias: Vec<i32> = (0..channels).map(|_| random.next() as i16 as i32).collect();
            let scales = random.scales(fill, depth, channels);
            let source = WeightsSource {
                weights: &weights,
                weight_zero_point: zero_point,
                input_zero_point: -zero_point.min(127),
                bias: &bias,
                scales: &scales,
            };
            if kernel.needs_no_minimum && source.has_minimum(kernel.tile.nr) {
                continue;
            }
            let reference = PackedWeights::new(source, scalar::GEMMS[0].tile);
            let weights = PackedWeights::new(source, kernel.tile);
            let mut terms = vec![0; rows];
            row_terms(&a, a_stride, depth, zero_point, &mut terms);
            let mut check = |first_channel: usize, stage: Option<OutputStage>| {
                let run = |kernel: &GemmKernel, weights: &PackedWeights| {
                    let case = GemmCase {
                        a: &a,
                        a_stride,
                        row_terms: &terms,
                        stage,
                    };
                    case.run(kernel, weights, first_channel)
                };
                let case = || {
                    let size = format!("{rows}x{depth}x{first_channel}..{channels}");
                    format!("{} {size} {fill:?} {zero_point} {stage:?}", kernel.name)
                };
                let expected = run(&scalar::GEMMS[0], &reference);
                compare(&expected, &run(kernel, &weights), case, report);
            };
            check(0, None);
            for stage in STAGES {
                check(0, Some(stage));
            }
            // A later block on its own, if the reference has a block that begins there too.
            let second = kernel.tile.nr.next_multiple_of(scalar::GEMMS[0].tile.nr);
            if second < channels {
                check(second, Some(STAGES[1]));
            }
        }
    }
}

/// What a product is checked on; without a stage for its bare sums.
struct GemmCase<'a> {
    a: &'a [i8],
    a_stride: usize,
    row_terms: &'a [i32],
    stage: Option<OutputStage>,
}

impl GemmCase<'_> {
    /// The channels from `first_channel` on, in a guarded output whose rows lie three elements apart.
    fn run(&self, kernel: &GemmKernel, weights: &PackedWeights, first_channel: usize) -> Vec<i8> {
        let rows = self.row_terms.len();
        let out_stride = weights.channels() - first_channel + 3;
        let length = rows * out_stride + 32;
        let (mut codes, mut sums) = (Vec::new(), Vec::new());
        let out = match self.stage {
            Some(stage) => {
                codes.resize(length, GUARD);
                Output::Codes {
                    out: &mut codes[16..length - 16],
                    row_terms: self.row_terms,
                    stage,
                }
            }
            None => {
                sums.resize(length, i32::from_ne_bytes([GUARD as u8; 4]));
                Output::Sums(&mut sums[16..length - 16])
            }
        };
        kernel.run(Gemm {
            a: self.a,
            a_stride: self.a_stride,
            rows,
            weights,
            blocks: first_channel / kernel.tile.nr..weights.blocks(),
            out,
            out_stride,
            scratch: &mut vec![0; kernel.scratch_bytes(weights.depth())],
        });
        match self.stage {
            Some(_) => codes,
            None => bytemuck::cast_slice(&sums).to_vec(),
        }
    }
}

fn check_depthwise(kernel: &DepthwiseKernel, report: &mut Report) {
    let mut random = Random(0xd1b5_4a32_d192_ed03);
    for size in DEPTHWISE_SIZES {
        for (fill, padding) in FILLS.into_iter().zip([1, 0, 0, 2, 1, 0, 1, 1, 1]) {
            let [pixels, channels, kernel_size, stride, dilation] = size;
            let taps = random.codes(fill, kernel_size * kernel_size * channels, i8::MIN);
            let is_wide =
                !matches!(fill, Fill::Small | Fill::Coarse) && fill.of_activations() == fill;
            let widen = |tap: i8| match fill {
                Fill::Maximum => 255,
                _ => i16::from(tap) * 2 - i16::from(tap.signum()),
            };
            let mut weights = DepthwiseWeights {
                kernel: [kernel_size; 2],
                channels,
                taps: taps
                    .into_iter()
                    // Each third channel stays narrow: blocks of both kinds, and mixed ones.
                    .enumerate()
                    .map(|(at, tap)| match is_wide && at % channels / 16 % 3 != 1 {
                        true => widen(tap),
                        false => i16::from(tap),
                    })
                    .collect(),
                bias: (0..channels).map(|_| random.next() as i16 as i32).collect(),
                scales: random.scales(fill, kernel_size * kernel_size * 2, channels),
                packed: PackedTaps::default(),
            };
            kernel.pack(&mut weights);
            let reach = (pixels - 1) * stride + (kernel_size - 1) * dilation + 1;
            let padding = padding.min(kernel_size - 1);
            let case = DepthwiseCase {
                weights: &weights,
                // As much padding to the right as to the left, if the row is that long.
                width: reach.saturating_sub(2 * padding).max(1),
                padding,
                pixels,
                stride,
                dilation,
            };
            let rows: Vec<_> = (0..kernel_size)
                .map(|_| random.codes(fill.of_activations(), case.width * (channels + 3), i8::MIN))
                .collect();
            let rows: Vec<&[i8]> = rows.iter().map(Vec::as_slice).collect();
            let all = 0..channels;
            let parts = [all.clone(), kernel.block..channels, 0..kernel.block, all];
            for (stage, part) in STAGES.into_iter().zip(parts) {
                let part = match part.start < part.end && part.end <= channels {
                    true => part,
                    false => 0..channels,
                };
                let run = |kernel| case.run(kernel, &rows, part.clone(), stage);
                let name = || format!("{} {size:?} {part:?} {fill:?} {stage:?}", kernel.name);
                compare(&run(&scalar::DEPTHWISE), &run(kernel), name, report);
            }
        }
    }
}

/// What a depthwise row is checked on.
struct DepthwiseCase<'a> {
    weights: &'a DepthwiseWeights,
    width: usize,
    padding: usize,
    pixels: usize,
    stride: usize,
    dilation: usize,
}

impl DepthwiseCase<'_> {
    /// Some channels, in a guarded output; pixels lie three codes apart in both rows.
    fn run(
        &self,
        kernel: &DepthwiseKernel,
        rows: &[&[i8]],
        part: std::ops::Range<usize>,
        stage: OutputStage,
    ) -> Vec<i8> {
        let out_stride = self.weights.channels + 3;
        let mut guarded = vec![GUARD; self.pixels * out_stride + 32];
        let end = guarded.len() - 16;
        let rows: Vec<&[i8]> = rows.iter().map(|row| &row[part.start..]).collect();
        kernel.run(Depthwise {
            rows: &rows,
            input_stride: out_stride,
            width: self.width,
            padding: self.padding,
            fill: 77,
            weights: self.weights,
            first_channel: part.start,
            channels: part.len(),
            stride: self.stride,
            dilation: self.dilation,
            stage,
            out: &mut guarded[16..end],
            out_stride,
            pixels: self.pixels,
        });
        guarded
    }
}

/// Lengths around the widths of vectors.
const LENGTHS: [usize; 8] = [1, 7, 16, 31, 32, 64, 100, 1000];

/// Columns of the rows that maxima are taken of, and how many of them are skipped.
const ROWS: [(usize, usize); 7] = [(2, 0), (2, 1), (3, 0), (3, 1), (4, 0), (4, 1), (5, 1)];

fn check_elementwise(kernels: &Kernels, report: &mut Report) {
    let table = kernels.elementwise;
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    for length in LENGTHS {
        for (fill, stage) in FILLS.into_iter().zip(STAGES.into_iter().cycle()) {
            let [a, b] = [0, 1].map(|_| random.codes(fill, 3 * length, i8::MIN));
            let run = |name: &str, run: &dyn Fn(&Elementwise, &mut [i8]), report: &mut Report| {
                let outputs = [&elementwise::BASELINE, &table].map(|table| {
                    let mut guarded = vec![GUARD; 3 * length + 32];
                    let end = guarded.len() - 16;
                    run(table, &mut guarded[16..end]);
                    guarded
                });
                let case = || format!("{name} {} {length} {fill:?}", table.suffix);
                compare(&outputs[0], &outputs[1], case, report);
            };
            let (of_a, of_b) = ((0.05, -7), (0.013, 90));
            if let Some(add) = AddParams::new(of_a, of_b, false, 0.08, stage) {
                let whole = |table: &Elementwise, out: &mut [i8]| (table.add)(&add, &a, &b, out);
                run("add", &whole, report);
                let part = &b[..length];
                let repeated =
                    |table: &Elementwise, out: &mut [i8]| (table.add)(&add, &a, part, out);
                run("add repeated", &repeated, report);
            }
            let mul = MulParams {
                a_zero_point: of_a.1,
                b_zero_point: of_b.1,
                scale: 0.004,
                stage,
            };
            run("mul", &|table, out| (table.mul)(&mul, &a, &b, out), report);
            let reals: Vec<f32> = a.iter().map(|&code| f32::from(code) * 0.37).collect();
            let quantize =
                |table: &Elementwise, out: &mut [i8]| (table.quantize)(&reals, out, 0.3, stage);
            run("quantize", &quantize, report);
            let params = MeanParams {
                zero_point: 3,
                scale: 0.4,
                stage,
            };
            let mean = |table: &Elementwise, out: &mut [i8]| {
                let sums = &mut vec![0; length];
                (table.mean_rows)(&params, &a, &mut out[..length], sums);
            };
            run("mean", &mean, report);
            let terms = |table: &Elementwise, out: &mut [i8]| {
                let mut terms = vec![0; 3];
                (table.row_terms)(&a, length, length, 19, &mut terms);
                let bytes: &[i8] = bytemuck::cast_slice(&terms);
                let count = bytes.len().min(out.len());
                out[..count].copy_from_slice(&bytes[..count]);
            };
            run("row terms", &terms, report);
            for (columns, skip) in ROWS.into_iter().chain([(length, 0), (length, length / 2)]) {
                let maxima = |table: &Elementwise, out: &mut [i8]| {
                    (table.row_maxima)(&a, columns, skip, &mut out[..3 * length / columns]);
                };
                run("row maxima", &maxima, report);
            }
            let back = |table: &Elementwise, out: &mut [i8]| {
                let mut reals = vec![0.0; 3 * length];
                (table.dequantize)(&a, &mut reals, 0.07, 11);
                for (out, real) in out.iter_mut().zip(reals) {
                    *out = (real.to_bits() % 251) as i8;
                }
            };
            run("dequantize", &back, report);
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
