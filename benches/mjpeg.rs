//! Times Motion JPEG on its way to a frame, whole and at a reduced scale: `cargo bench --bench mjpeg`.

use std::path::Path;

use criterion::{Criterion, criterion_group, criterion_main};
use eyas::source::demo::Scene;
use eyas::source::{Next, Pace, SourceOptions, open};
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};

const WIDTH: u16 = 1920;
const HEIGHT: u16 = 1080;
const FRAMES: u64 = 8;

/// Frames of the demo scene, coded as USB cameras do: 4:2:2.
fn write_stream(path: &Path) {
    let scene = Scene::new([WIDTH.into(), HEIGHT.into()]).expect("a size");
    let mut stream = Vec::new();
    for index in 0..FRAMES {
        let mut encoder = Encoder::new(&mut stream, 85);
        encoder.set_sampling_factor(SamplingFactor::F_2_1);
        let picture = scene.draw(index);
        let encoded = encoder.encode(&picture, WIDTH, HEIGHT, ColorType::Rgb);
        encoded.expect("a JPEG");
    }
    let bytes = stream.len() as u64 / FRAMES;
    println!("{WIDTH}x{HEIGHT}, {bytes} bytes a frame");
    std::fs::write(path, stream).expect("writes");
}

fn mjpeg(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("scene.mjpeg");
    write_stream(&path);
    let name = path.to_str().expect("text");
    let mut group = criterion.benchmark_group(format!("{FRAMES} frames of MJPEG {WIDTH}x{HEIGHT}"));
    group.sample_size(10);
    for (scale, divisor) in [("1", 1), ("1/2", 2), ("1/4", 4), ("1/8", 8)] {
        let options = SourceOptions {
            size: Some([WIDTH, HEIGHT].map(|side| usize::from(side) / divisor)),
            pace: Pace::Unpaced,
            repeat: false,
        };
        group.bench_function(scale, |bencher| {
            bencher.iter(|| {
                let mut source = open(name, options).expect("a source");
                while let Ok(Next::Frame(frame)) = source.next() {
                    std::hint::black_box(frame.data.len());
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, mjpeg);
criterion_main!(benches);
