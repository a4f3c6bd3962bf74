//! How well tracks keep to the objects of the demo scene, whose truth is known, by the CLEAR MOT measures (Bernardin and
//! Stiefelhagen 2008).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use eyas::detect::{BoundingBox, Detection, Detector, Threshold};
use eyas::engine::{self, Options};
use eyas::model::hub::BuiltIn;
use eyas::model::labels::{LabelFile, Labels};
use eyas::source::demo::{Code, Scene};
use eyas::source::{self, Next, Pace, SourceOptions};
use eyas::track::{LEAST_CONFIDENCE, Tracker};

const SIZE: [usize; 2] = [640, 480];
/// Frames a second that the scene is made for.
const RATE: f64 = 15.0;
/// A track and an object that overlap less have nothing to do with each other.
const SAME: f32 = 0.5;

/// Misses, false positives and switches of ids over some frames.
#[derive(Debug, Default)]
struct ClearMot {
    objects: usize,
    missed: usize,
    wrong: usize,
    switches: usize,
    /// By the place of an object in the truth, the id that it had last.
    ids: BTreeMap<usize, u64>,
}

impl ClearMot {
    /// Objects of the scene never overlap: each has one track near it at most.
    fn frame(&mut self, truth: &[Code], tracked: &[Detection]) {
        let mut left: Vec<&Detection> = tracked
            .iter()
            .filter(|found| found.track_id.is_some())
            .collect();
        for (object, code) in truth.iter().enumerate() {
            self.objects += 1;
            let is_it = |found: &&Detection| {
                &*found.label == code.label && overlap(&found.bounding_box, code.bounds) >= SAME
            };
            let Some(at) = left.iter().position(is_it) else {
                self.missed += 1;
                continue;
            };
            let id = left
                .swap_remove(at)
                .track_id
                .expect("those without are left out");
            let before = self.ids.insert(object, id);
            self.switches += usize::from(before.is_some_and(|before| before != id));
        }
        self.wrong += left.len();
    }

    /// Multiple object tracking accuracy.
    fn mota(&self) -> f64 {
        1.0 - (self.missed + self.wrong + self.switches) as f64 / self.objects as f64
    }
}

fn overlap(found: &BoundingBox, [x_min, y_min, x_max, y_max]: [f32; 4]) -> f32 {
    let width = (found.x_max.min(x_max) - found.x_min.max(x_min)).max(0.0);
    let height = (found.y_max.min(y_max) - found.y_min.max(y_min)).max(0.0);
    let area = (found.x_max - found.x_min) * (found.y_max - found.y_min);
    let union = area + (x_max - x_min) * (y_max - y_min) - width * height;
    width * height / union
}

/// A number from 0 to 1 that looks random.
fn random(state: &mut u64) -> f32 {
    *state = state
        .wrapping_mul(6364136223846793005)
        .wrapping_add(1442695040888963407);
    (*state >> 40) as f32 / (1 << 24) as f32
}

/// Detections as a mediocre detector would have them: boxes off by up to a twentieth, one of ten missed, one of ten faint.
fn blurred(truth: &[Code], state: &mut u64) -> (Vec<Detection>, Vec<Detection>) {
    let (mut strong, mut faint) = (Vec::new(), Vec::new());
    for code in truth {
        let [x_min, y_min, x_max, y_max] = code.bounds;
        let mut off = |value: f32, side: f32| value + side * 0.1 * (random(state) - 0.5);
        let bounding_box = BoundingBox {
            x_min: off(x_min, x_max - x_min),
            y_min: off(y_min, y_max - y_min),
            x_max: off(x_max, x_max - x_min),
            y_max: off(y_max, y_max - y_min),
        };
        let luck = random(state);
        let list = if luck < 0.2 { &mut faint } else { &mut strong };
        if luck >= 0.1 {
            list.push(Detection {
                label: code.label.into(),
                class_id: code.label.len(),
                confidence: luck,
                bounding_box,
                track_id: None,
            });
        }
    }
    (strong, faint)
}

#[test]
fn objects_of_the_demo_scene_keep_their_ids_at_any_rate() {
    let scene = Scene::new(SIZE).expect("draws");
    // Two minutes: every frame, and as slow as a small Pi.
    for every in [1, 3, 5, 8] {
        let (mut tracker, mut score, mut state) = (Tracker::default(), ClearMot::default(), 1);
        let start = Instant::now();
        let mut ended = 0;
        for n in (0..1800).step_by(every) {
            let truth = scene.truth(n);
            let (mut strong, faint) = blurred(&truth, &mut state);
            let at = start + Duration::from_secs_f64(n as f64 / RATE);
            ended += tracker.update(&mut strong, &faint, at).len();
            score.frame(&truth, &strong);
        }
        println!(
            "{:.1} frames a second: MOTA {:.3}, {score:?}",
            RATE / every as f64,
            score.mota()
        );
        assert_eq!((score.switches, score.wrong, ended), (0, 0, 0), "{every}");
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

/// What the built-in model sees of it, for as many frames as `EYAS_TRACK_FRAMES` says.
#[test]
fn the_built_in_model_and_the_tracker_together_follow_the_demo_scene() {
    let frames =
        std::env::var("EYAS_TRACK_FRAMES").map_or(120, |text| text.parse().expect("a number"));
    let every = 2;
    let options = SourceOptions {
        pace: Pace::Unpaced,
        ..SourceOptions::default()
    };
    let mut source = source::open("demo", options).expect("opens");
    let scene = Scene::new(SIZE).expect("draws");
    let (mut detector, mut tracker, mut score) =
        (detector(), Tracker::default(), ClearMot::default());
    let start = Instant::now();
    for n in 0..frames {
        let Next::Frame(frame) = source.next().expect("no error") else {
            panic!("the scene ended")
        };
        if n % every != 0 {
            continue;
        }
        let mut found = detector.detect(&frame).expect("detects");
        let at = start + Duration::from_secs_f64(n as f64 / RATE);
        tracker.update(&mut found.detections, &found.faint, at);
        score.frame(&scene.truth(n), &found.detections);
    }
    println!(
        "{frames} frames, every {every}nd: MOTA {:.3}, {score:?}",
        score.mota()
    );
    assert_eq!(score.switches, 0, "{score:?}");
    assert!(score.mota() > 0.8, "{score:?}");
}
