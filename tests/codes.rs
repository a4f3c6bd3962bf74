//! The built-in model does what it is for: it finds the codes of the demo scene, and those of real photographs.

use std::collections::BTreeMap;
use std::path::Path;

use eyas::detect::{BoundingBox, Detection, Detector, Threshold};
use eyas::engine::{self, Options};
use eyas::model::hub::BuiltIn;
use eyas::model::labels::{LabelFile, Labels};
use eyas::source::demo::Scene;
use eyas::source::{self, Next, Pace, SourceOptions};

const CONFIDENCE: f32 = 0.5;

fn detector() -> Detector {
    let built_in = BuiltIn::DEFAULT;
    let model = built_in.load().unwrap();
    let file = LabelFile::parse(built_in.labels, built_in.name).unwrap();
    let (labels, _) = Labels::resolve(file, None);
    let engine = engine::load(&model, Options::default()).unwrap();
    Detector::new(engine, &model, labels, Threshold::new(CONFIDENCE)).unwrap()
}

fn overlap(found: &BoundingBox, [x_min, y_min, x_max, y_max]: [f32; 4]) -> f32 {
    let width = (found.x_max.min(x_max) - found.x_min.max(x_min)).max(0.0);
    let height = (found.y_max.min(y_max) - found.y_min.max(y_min)).max(0.0);
    let area = |width: f32, height: f32| width * height;
    let union = area(found.x_max - found.x_min, found.y_max - found.y_min)
        + area(x_max - x_min, y_max - y_min)
        - width * height;
    width * height / union
}

#[test]
fn the_codes_of_the_demo_scene_are_found_and_nothing_else() {
    const EVERY: u64 = 25;
    const FRAMES: u64 = 1125;
    let options = SourceOptions {
        pace: Pace::Unpaced,
        ..SourceOptions::default()
    };
    let mut source = source::open("demo", options).unwrap();
    let scene = Scene::new([640, 480]).unwrap();
    let mut detector = detector();
    let (mut codes, mut right, mut wrong) = (0, 0, 0);
    for index in 0..FRAMES {
        let Next::Frame(frame) = source.next().unwrap() else {
            panic!("the scene ended at frame {index}")
        };
        if index % EVERY != 0 {
            continue;
        }
        let mut found = detector.detect(&frame).unwrap().detections;
        for code in scene.truth(index) {
            codes += 1;
            let is_it = |detection: &Detection| {
                &*detection.label == code.label
                    && overlap(&detection.bounding_box, code.bounds) >= 0.5
            };
            if let Some(at) = found.iter().position(is_it) {
                found.swap_remove(at);
                right += 1;
            }
        }
        wrong += found.len();
    }
    println!("demo scene: {right} of {codes} codes found, {wrong} wrong detections");
    assert!(codes > 200);
    assert!(right * 100 >= codes * 95, "{right} of {codes}");
    assert!(wrong * 100 <= codes * 3, "{wrong} wrong beside {codes}");
}

/// The class that the photographs of a folder show, by the beginning of its name.
fn class_of(folder: &str) -> Option<&'static str> {
    [
        ("qrcode", "qr_code"),
        ("datamatrix", "data_matrix"),
        ("aztec", "aztec"),
        ("pdf417", "pdf417"),
        ("ean13", "barcode"),
        ("upca", "barcode"),
    ]
    .into_iter()
    .find_map(|(begin, class)| folder.starts_with(begin).then_some(class))
}

#[test]
fn codes_on_real_photographs_are_found_and_textures_are_not_taken_for_codes() {
    let photographs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/codes_photos");
    if !photographs.exists() {
        eprintln!("SKIPPED: ../shared/data/codes_photos is absent: no real photograph was tried");
        return;
    }
    let mut detector = detector();
    let mut tally: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for folder in photographs.read_dir().unwrap() {
        let folder = folder.unwrap().path();
        let class = class_of(folder.file_name().unwrap().to_str().unwrap());
        for file in folder.read_dir().unwrap() {
            let picture = source::read_picture(&file.unwrap().path()).unwrap();
            let found = detector.detect(&picture).unwrap().detections;
            let (count, hits) = tally.entry(class.unwrap_or("none")).or_default();
            *count += 1;
            *hits += usize::from(match class {
                Some(class) => found.iter().any(|detection| &*detection.label == class),
                None => !found.is_empty(),
            });
        }
    }
    for (class, (count, hits)) in &tally {
        println!("photographs of {class}: {hits} of {count} with a detection");
    }
    let (count, hits) = tally.remove("none").unwrap();
    assert!(hits * 10 <= count, "{hits} of {count} without a code");
    assert_eq!(tally.len(), 5);
    for (class, (count, hits)) in tally {
        assert!(hits * 100 >= count * 85, "{class}: {hits} of {count}");
    }
}
