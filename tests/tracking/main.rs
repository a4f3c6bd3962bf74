//! How well tracks keep to objects whose truth is known: a simulated crowd, and the demo scene.

mod clear_mot;
mod crowd;

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clear_mot::{ClearMot, Object};
use crowd::{Frame, Random, crowd};
use eyas::detect::{BoundingBox, Detection, Detector, Threshold};
use eyas::engine::{self, Options};
use eyas::model::hub::BuiltIn;
use eyas::model::labels::{LabelFile, Labels};
use eyas::source::demo::Scene;
use eyas::source::{self, Next, Pace, SourceOptions};
use eyas::track::{LEAST_CONFIDENCE, Tracker};

const SIZE: [usize; 2] = [640, 480];
/// Frames a second that the demo scene is made for.
const DEMO_RATE: f64 = 15.0;

/// Follows the strong detections of frames, and counts.
fn follow(frames: &mut [Frame]) -> ClearMot {
    let (mut tracker, mut score) = (Tracker::default(), ClearMot::default());
    let start = Instant::now();
    for frame in frames {
        let at = start + Duration::from_secs_f64(frame.second);
        tracker.update(&mut frame.strong, &frame.faint, at);
        score.frame(&frame.truth, &frame.strong);
    }
    score
}

/// With `EYAS_TRACK_OUT`, a folder, writes what `peer.py` reads.
#[test]
fn few_of_a_crowd_are_confused_at_any_rate() {
    for (walkers, rate, most_switches) in [
        (3, 30, 3),
        (3, 10, 5),
        (3, 5, 3),
        (6, 30, 12),
        (6, 10, 8),
        (6, 5, 24),
        (12, 30, 45),
        (12, 10, 33),
        (12, 5, 60),
    ] {
        let (mut objects, mut errors, mut switches) = (0, 0, 0);
        for seed in 0..5 {
            let mut frames = crowd(seed, walkers, rate, 40);
            let score = follow(&mut frames);
            objects += score.objects;
            errors += score.missed + score.wrong + score.switches;
            switches += score.switches;
            if let Some(folder) = std::env::var_os("EYAS_TRACK_OUT") {
                write(
                    &PathBuf::from(folder).join(format!("{walkers}-{rate}-{seed}")),
                    &frames,
                );
            }
        }
        let mota = 1.0 - errors as f64 / objects as f64;
        println!(
            "{walkers} walkers, {rate} frames a second: MOTA {mota:.3}, {switches} switches of {objects}"
        );
        assert!(switches <= most_switches, "{walkers} {rate}: {switches}");
        assert!(mota > 0.85, "{walkers} {rate}: {mota}");
    }
}

/// Truth, detections and tracks, a line each: frame, id, confidence, `x_min`, `y_min`, `x_max`, `y_max`.
fn write(folder: &Path, frames: &[Frame]) {
    std::fs::create_dir_all(folder).expect("makes the folder");
    let mut texts = [String::new(), String::new(), String::new()];
    for (index, frame) in frames.iter().enumerate() {
        let mut line = |text: usize, id: u64, confidence: f32, bounds: &BoundingBox| {
            let BoundingBox {
                x_min,
                y_min,
                x_max,
                y_max,
            } = bounds;
            writeln!(
                texts[text],
                "{index} {id} {confidence} {x_min} {y_min} {x_max} {y_max}"
            )
            .expect("a string");
        };
        for object in &frame.truth {
            line(0, object.id as u64, 1.0, &object.bounds);
        }
        for found in frame.strong.iter().chain(&frame.faint) {
            line(1, 0, found.confidence, &found.bounding_box);
            if let Some(id) = found.track_id {
                line(2, id, found.confidence, &found.bounding_box);
            }
        }
    }
    for (name, text) in ["truth", "detections", "tracks"].iter().zip(texts) {
        std::fs::write(folder.join(format!("{name}.txt")), text).expect("writes");
    }
}

fn demo_truth(scene: &Scene, n: u64) -> Vec<Object> {
    let codes = scene.truth(n).into_iter().enumerate();
    let object = codes.map(|(id, code)| {
        let [x_min, y_min, x_max, y_max] = code.bounds;
        Object {
            id,
            label: code.label,
            bounds: BoundingBox {
                x_min,
                y_min,
                x_max,
                y_max,
            },
        }
    });
    object.collect()
}

/// Boxes off by up to a twentieth; one of ten is missed, one of ten faint.
fn blurred(truth: Vec<Object>, random: &mut Random) -> (Vec<Detection>, Vec<Detection>) {
    let (mut strong, mut faint) = (Vec::new(), Vec::new());
    for object in truth {
        let b = object.bounds;
        let [width, height] = [b.x_max - b.x_min, b.y_max - b.y_min];
        let mut off = |value: f32, side: f32| value + side * random.between(-0.05, 0.05) as f32;
        let bounding_box = BoundingBox {
            x_min: off(b.x_min, width),
            y_min: off(b.y_min, height),
            x_max: off(b.x_max, width),
            y_max: off(b.y_max, height),
        };
        let luck = random.share();
        let list = if luck < 0.2 { &mut faint } else { &mut strong };
        if luck >= 0.1 {
            list.push(Detection {
                label: object.label.into(),
                class_id: object.label.len(),
                confidence: luck as f32,
                bounding_box,
                track_id: None,
            });
        }
    }
    (strong, faint)
}

/// Two minutes: every frame, and as slow as a small Pi.
#[test]
fn objects_of_the_demo_scene_keep_their_ids_at_any_rate() {
    let scene = Scene::new(SIZE).expect("draws");
    for every in [1, 3, 5, 8] {
        let mut random = Random(1);
        let frames = (0..1800).step_by(every).map(|n| {
            let truth = demo_truth(&scene, n);
            let (strong, faint) = blurred(truth.clone(), &mut random);
            Frame {
                second: n as f64 / DEMO_RATE,
                truth,
                strong,
                faint,
            }
        });
        let score = follow(&mut frames.collect::<Vec<_>>());
        println!(
            "{:.1} frames a second: MOTA {:.3}, {score:?}",
            DEMO_RATE / every as f64,
            score.mota()
        );
        assert_eq!((score.switches, score.wrong), (0, 0), "{every}");
        // A fifth is missed or faint.
        assert!(score.mota() > 0.75, "{score:?}");
    }
}

fn detector() -> Detector {
    let built_in = BuiltIn::DEFAULT;
    let model = built_in.load().expect("is part of the program");
    let file = LabelFile::parse(built_in.labels, built_in.name).expect("labels");
    let (labels, _) = Labels::resolve(file, None);
    let engine = engine::load(&model, Options::default()).expect("loads");
    let threshold = Threshold::new(eyas::cli::load::DEFAULT_CONFIDENCE);
    let detector = Detector::new(engine, &model, labels, threshold).expect("detects");
    detector.with_faint(LEAST_CONFIDENCE)
}

/// At 5 frames a second, for as many seconds as `EYAS_TRACK_SECONDS` says.
#[test]
fn the_built_in_model_and_the_tracker_together_follow_the_demo_scene() {
    let seconds =
        std::env::var("EYAS_TRACK_SECONDS").map_or(12, |text| text.parse().expect("a number"));
    let options = SourceOptions {
        pace: Pace::Unpaced,
        ..SourceOptions::default()
    };
    let mut source = source::open("demo", options).expect("opens");
    let scene = Scene::new(SIZE).expect("draws");
    let mut detector = detector();
    let mut frames = Vec::new();
    for n in 0..seconds * DEMO_RATE as u64 {
        let Next::Frame(frame) = source.next().expect("no error") else {
            panic!("the scene ended")
        };
        if n % 3 == 0 {
            let found = detector.detect(&frame).expect("detects");
            frames.push(Frame {
                second: n as f64 / DEMO_RATE,
                truth: demo_truth(&scene, n),
                strong: found.detections,
                faint: found.faint,
            });
        }
    }
    let score = follow(&mut frames);
    println!(
        "{seconds} s of the demo scene: MOTA {:.3}, {score:?}",
        score.mota()
    );
    assert_eq!(score.switches, 0, "{score:?}");
    assert!(score.mota() > 0.7, "{score:?}");
}
