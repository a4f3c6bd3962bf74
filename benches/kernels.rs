//! How fast each kernel is on layers of MobileNetV2 1.0 at 224x224, for every instruction set of this CPU.
//!
//! `cargo bench --bench kernels -- 784x32x192` measures what has this in its name. An element is a multiply-accumulate
//! of products and depthwise convolutions, a code of additions.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use eyas::kernels::depthwise::PackedTaps;
use eyas::kernels::pack::{PackedWeights, WeightsSource};
use eyas::kernels::requant::OutputStage;
use eyas::kernels::scalar::AddParams;
use eyas::kernels::{
    Depthwise, DepthwiseKernel, DepthwiseWeights, GEMM_OVERREAD, Gemm, GemmKernel, Isa, Kernels,
    Output,
};

/// `[rows, depth, channels]`: the first convolution as a product, 1x1 convolutions, the classifier.
const PRODUCTS: [[usize; 3]; 11] = [
    [12544, 27, 32],
    [12544, 32, 16],
    [12544, 16, 96],
    [3136, 144, 24],
    [784, 32, 192],
    [784, 192, 32],
    [196, 64, 384],
    [196, 384, 96],
    [49, 960, 160],
    [49, 320, 1280],
    [1, 1280, 1001],
];

/// `[input width and height, channels, stride]` of 3x3 depthwise convolutions.
const DEPTHWISE: [[usize; 3]; 7] = [
    [112, 32, 1],
    [112, 96, 2],
    [56, 144, 1],
    [28, 192, 2],
    [14, 384, 1],
    [14, 576, 2],
    [7, 960, 1],
];

/// `[pixels, channels]` of residual additions.
const ADDITIONS: [[usize; 2]; 3] = [[3136, 24], [784, 32], [196, 96]];

const STAGE: OutputStage = OutputStage {
    zero_point: -128,
    min: -128,
    max: 127,
};

/// Codes of all sizes, none of them -128: every kernel takes them as weights.
fn codes(count: usize) -> Vec<i8> {
    let code = |at: usize| (at.wrapping_mul(2_654_435_761) >> 24) as u8 as i8;
    (0..count).map(|at| code(at).max(-127)).collect()
}

fn tables() -> impl Iterator<Item = Kernels> {
    Isa::ALL.into_iter().filter_map(Kernels::of)
}

/// Whether an earlier table has the kernel too.
fn is_new(name: &'static str, seen: &mut Vec<&'static str>) -> bool {
    let is_new = !seen.contains(&name);
    seen.push(name);
    is_new
}

fn products(criterion: &mut Criterion) {
    for size @ [rows, depth, channels] in PRODUCTS {
        let mut group = criterion.benchmark_group("product");
        group.throughput(Throughput::Elements((rows * depth * channels) as u64));
        let mut seen = Vec::new();
        let kernels = tables().flat_map(|table| table.gemms());
        for kernel in kernels.filter(|kernel| is_new(kernel.name, &mut seen)) {
            let id = BenchmarkId::new(kernel.name, format!("{rows}x{depth}x{channels}"));
            let mut run = product(kernel, size);
            group.bench_function(id, |bencher| bencher.iter(&mut run));
        }
    }
}

/// One product, ready to run again and again.
fn product(kernel: &'static GemmKernel, [rows, depth, channels]: [usize; 3]) -> impl FnMut() {
    let source = WeightsSource {
        weights: &codes(channels * depth),
        weight_zero_point: 0,
        input_zero_point: -128,
        bias: &vec![0; channels],
        scales: &vec![1e-3; channels],
    };
    let weights = PackedWeights::new(source, kernel.tile);
    let a = codes(rows * depth + GEMM_OVERREAD);
    let mut out = vec![0; rows * channels];
    let mut scratch = vec![0; kernel.scratch_bytes(depth)];
    move || {
        kernel.run(Gemm {
            a: &a,
            a_stride: depth,
            rows,
            weights: &weights,
            blocks: 0..weights.blocks(),
            out: Output::Codes {
                out: &mut out,
                row_terms: &[],
                stage: STAGE,
            },
            out_stride: channels,
            scratch: &mut scratch,
        });
    }
}

fn depthwise(criterion: &mut Criterion) {
    for size @ [side, channels, stride] in DEPTHWISE {
        let mut group = criterion.benchmark_group("depthwise");
        let outputs = (side / stride).pow(2) * channels;
        group.throughput(Throughput::Elements((9 * outputs) as u64));
        let mut seen = Vec::new();
        let kernels = tables().map(|table| table.depthwise);
        for kernel in kernels.filter(|kernel| is_new(kernel.name, &mut seen)) {
            let id = BenchmarkId::new(kernel.name, format!("{side}x{channels} stride {stride}"));
            let mut run = convolution(kernel, size);
            group.bench_function(id, |bencher| bencher.iter(&mut run));
        }
    }
}

/// All rows of a depthwise convolution, ready to run again and again. Padding is TensorFlow's `SAME`.
fn convolution(kernel: DepthwiseKernel, [side, channels, stride]: [usize; 3]) -> impl FnMut() {
    let mut weights = DepthwiseWeights {
        kernel: [3, 3],
        channels,
        taps: codes(9 * channels).into_iter().map(i16::from).collect(),
        bias: vec![0; channels],
        scales: vec![1e-2; channels],
        packed: PackedTaps::default(),
    };
    kernel.pack(&mut weights);
    let pixels = side.div_ceil(stride);
    let padding = ((pixels - 1) * stride + 3 - side) / 2;
    let input = codes(side * side * channels);
    let outside = vec![STAGE.zero_point as i8; side * channels];
    let mut out = vec![0; pixels * pixels * channels];
    move || {
        for (y, out) in out.chunks_exact_mut(pixels * channels).enumerate() {
            let rows = [0, 1, 2].map(|row| match (y * stride + row).checked_sub(padding) {
                Some(y) if y < side => &input[y * side * channels..][..side * channels],
                _ => &outside[..],
            });
            kernel.run(Depthwise {
                rows: &rows,
                input_stride: channels,
                width: side,
                padding,
                fill: outside[0],
                weights: &weights,
                first_channel: 0,
                channels,
                stride,
                dilation: 1,
                stage: STAGE,
                out,
                out_stride: channels,
                pixels,
            });
        }
    }
}

fn additions(criterion: &mut Criterion) {
    let params = AddParams::new((0.05, -7), (0.04, 9), false, 0.06, STAGE)
        .expect("the ratios of these scales are near 1");
    for [pixels, channels] in ADDITIONS {
        let mut group = criterion.benchmark_group("addition");
        let count = pixels * channels;
        group.throughput(Throughput::Elements(count as u64));
        let (a, b, mut out) = (codes(count), codes(count), vec![0; count]);
        let mut seen = Vec::new();
        let kernels = tables().map(|table| table.elementwise);
        for kernel in kernels.filter(|kernel| is_new(kernel.suffix, &mut seen)) {
            let id = BenchmarkId::new(kernel.suffix, format!("{pixels}x{channels}"));
            group.bench_function(id, |bencher| {
                bencher.iter(|| (kernel.add)(&params, &a, &b, &mut out));
            });
        }
    }
}

fn short() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800))
        .sample_size(20)
        .configure_from_args()
}

criterion_group! {
    name = benches;
    config = short();
    targets = products, depthwise, additions
}
criterion_main!(benches);
