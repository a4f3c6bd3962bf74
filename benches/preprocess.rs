//! Times a camera frame on its way into a model: `cargo bench --bench preprocess`. `EYAS_ISA` chooses the instruction
//! set.

use std::time::{Instant, SystemTime};

use criterion::{Criterion, criterion_group, criterion_main};
use eyas::detect::{Fit, Preprocessor};
use eyas::source::{Frame, PixelFormat, YuvRange};
use eyas::tensor::{DType, QuantParams, Shape, TensorInfo};

const WIDTH: usize = 640;
const HEIGHT: usize = 480;

fn frame(format: PixelFormat) -> Frame {
    let bytes = format.frame_bytes(WIDTH, HEIGHT);
    let noise = (0..bytes).scan(0x9e37_79b9_u32, |state, _| {
        *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        Some((*state >> 24) as u8)
    });
    Frame {
        width: WIDTH,
        height: HEIGHT,
        format,
        range: YuvRange::Limited,
        data: noise.collect(),
        index: 0,
        captured: Instant::now(),
        timestamp: SystemTime::now(),
        source: "noise".into(),
    }
}

fn input(side: usize) -> TensorInfo {
    TensorInfo {
        name: "image".into(),
        shape: Shape::from([1, side, side, 3]),
        dtype: DType::I8,
        quant: Some(QuantParams::per_tensor(1.0 / 128.0, 0)),
    }
}

fn preprocess(criterion: &mut Criterion) {
    let formats = [
        PixelFormat::Yuyv,
        PixelFormat::Nv12,
        PixelFormat::I420,
        PixelFormat::Rgb,
        PixelFormat::Grey,
    ];
    for side in [320, 300] {
        let mut group = criterion.benchmark_group(format!("{WIDTH}x{HEIGHT} to {side}x{side}"));
        for format in formats {
            let frame = frame(format);
            let mut preprocessor =
                Preprocessor::new(&input(side), None, Fit::Stretch, "bench").unwrap();
            group.bench_function(format!("{format:?}"), |bencher| {
                bencher.iter(|| {
                    std::hint::black_box(preprocessor.run(std::hint::black_box(&frame)));
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, preprocess);
criterion_main!(benches);
