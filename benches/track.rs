//! Times what is done with the detections of a frame, and masks: `cargo bench --bench track`.

use std::hint::black_box;
use std::time::{Duration, Instant, SystemTime};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use eyas::detect::{BoundingBox, Detection};
use eyas::polygon::Polygon;
use eyas::source::{Cover, Frame, Masks, PixelFormat, YuvRange};
use eyas::track::{Rules, SharedRules, Watch, Zone, ZoneKind};

const WIDTH: usize = 640;
const HEIGHT: usize = 480;
const INTERVAL: Duration = Duration::from_millis(66);

fn frame(captured: Instant) -> Frame {
    Frame {
        width: WIDTH,
        height: HEIGHT,
        format: PixelFormat::Yuyv,
        range: YuvRange::Limited,
        data: Vec::new(),
        index: 0,
        captured,
        timestamp: SystemTime::now(),
        source: "bench".into(),
    }
}

/// A circle of 16 corners in the middle of the picture.
fn circle() -> Polygon {
    let corner = |i| {
        let (sine, cosine) = (f64::from(i) / 16.0 * std::f64::consts::TAU).sin_cos();
        [0.5 + 0.3 * cosine, 0.5 + 0.3 * sine]
    };
    Polygon::new((0..16).map(corner).collect()).unwrap()
}

fn rules(zones: usize) -> SharedRules {
    let zone = |i| Zone {
        name: format!("zone {i}").into(),
        kind: ZoneKind::Count,
        polygon: circle(),
        classes: None,
        dwell: Some(Duration::from_secs(5)),
    };
    SharedRules::new(Rules {
        zones: (0..zones).map(zone).collect(),
        ..Rules::default()
    })
}

/// Objects of one class in a grid, close enough that neighbours may be taken for each other.
fn detections(objects: usize, step: usize) -> Vec<Detection> {
    let place = |i: usize| {
        let [x, y] = [40 * (i % 12) + step % 7, 50 * (i / 12)].map(|value| value as f32);
        Detection {
            label: "thing".into(),
            class_id: 0,
            confidence: 0.8,
            bounding_box: BoundingBox {
                x_min: x,
                y_min: y,
                x_max: x + 50.0,
                y_max: y + 60.0,
            },
            track_id: None,
        }
    };
    (0..objects).map(place).collect()
}

fn watch(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("objects, as many faint ones, 4 zones");
    for objects in [0, 5, 20, 100] {
        let mut watch = Watch::following(rules(4));
        let (mut at, mut step) = (Instant::now(), 0);
        group.bench_function(format!("{objects}"), |bencher| {
            let next = || {
                (at, step) = (at + INTERVAL, step + 1);
                (
                    frame(at),
                    detections(objects, step),
                    detections(objects, step + 3),
                )
            };
            bencher.iter_batched(
                next,
                |(frame, strong, faint)| black_box(watch.look(&frame, strong, faint)),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

fn cover(criterion: &mut Criterion) {
    let mut cover = Cover::new(Masks::new(vec![circle()]));
    let mut frame = frame(Instant::now());
    frame.data = vec![99; PixelFormat::Yuyv.frame_bytes(WIDTH, HEIGHT)];
    criterion.bench_function("mask, a round quarter of a YUYV frame", |bencher| {
        bencher.iter(|| cover.apply(black_box(&mut frame)));
    });
}

criterion_group!(benches, watch, cover);
criterion_main!(benches);
