//! `eyas eval` against what pycocotools and others compute.

use std::path::Path;

use serde_json::{Value, json};

use crate::program::{demo, errors, eyas, model_flags, parsed, picture, printed, shared, write};

const NAMES: [&str; 12] = [
    "map",
    "map_50",
    "map_75",
    "map_small",
    "map_medium",
    "map_large",
    "ar_1",
    "ar_10",
    "ar_100",
    "ar_small",
    "ar_medium",
    "ar_large",
];

/// Ours are null where pycocotools says -1.
fn assert_equal(ours: &Value, expected: f64, within: f64, what: &str) {
    let ours = ours.as_f64().unwrap_or(-1.0);
    assert!(
        (ours - expected).abs() <= within,
        "{what}: {ours}, expected {expected}"
    );
}

fn evaluate(data: &Path, detections: &Path, more: &[&str]) -> Value {
    let mut arguments = vec![
        "eval",
        data.to_str().expect("text"),
        "--json",
        "--detections",
    ];
    arguments.push(detections.to_str().expect("text"));
    arguments.extend(more);
    parsed(arguments)
}

#[test]
fn random_cases_give_the_figures_of_pycocotools() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("metrics/cases.json")).expect("JSON");
    assert_eq!(cases.len(), 12);
    let folder = tempfile::tempdir().expect("a folder");
    let (data, detections) = (
        folder.path().join("data.json"),
        folder.path().join("found.json"),
    );
    for (index, case) in cases.iter().enumerate() {
        write(&data, case["data"].to_string());
        write(&detections, case["detections"].to_string());
        let ours = evaluate(&data, &detections, &[]);
        for (name, expected) in NAMES.iter().zip(case["stats"].as_array().expect("a list")) {
            let what = format!("case {index}, {name}");
            assert_equal(
                &ours[name],
                expected.as_f64().expect("a number"),
                1e-9,
                &what,
            );
        }
        let classes = ours["classes"].as_array().expect("a list");
        let expected = case["ap"].as_array().expect("a list");
        assert_eq!(classes.len(), expected.len());
        for (class, expected) in classes.iter().zip(expected) {
            let what = format!("case {index}, {}", class["name"]);
            assert_equal(
                &class["ap"],
                expected.as_f64().expect("a number"),
                1e-9,
                &what,
            );
        }
    }
}

#[test]
fn real_detections_give_the_figures_of_pycocotools() {
    for (data, detections, metrics, key) in [
        (
            "data/coco_mini_val79",
            "detections_ssd_mnv2_fpnlite_320.json",
            "data/coco_mini_val79",
            "ssd_mnv2_fpnlite_320",
        ),
        (
            "data/coco_mini_val79",
            "detections_ssd_mnv1_300.json",
            "data/coco_mini_val79",
            "ssd_mnv1_300",
        ),
        (
            "data/coco_val128/reference/ground_truth_coco_format.json",
            "detections_ssd_mnv2_fpnlite_320.json",
            "data/coco_val128",
            "ssd_mnv2_fpnlite_320",
        ),
        (
            "data/coco_val128/reference/ground_truth_coco_format.json",
            "detections_ssd_mnv1_300.json",
            "data/coco_val128",
            "ssd_mnv1_300",
        ),
        (
            "data/raccoon200/reference/ground_truth_coco_format.json",
            "detections_cat_raccoon_int8.json",
            "data/raccoon200",
            "cat_raccoon_int8",
        ),
    ] {
        let (Some(data), Some(folder)) = (shared(data), shared(metrics)) else {
            return;
        };
        let reference = folder.join("reference");
        let ours = evaluate(&data, &reference.join(detections), &[]);
        let expected = std::fs::read(reference.join("expected_metrics.json")).expect("reads");
        let expected: Value = serde_json::from_slice(&expected).expect("JSON");
        let keys = [
            "AP@[.50:.95]",
            "AP@.50",
            "AP@.75",
            "AP_small",
            "AP_medium",
            "AP_large",
            "AR_1",
            "AR_10",
            "AR_100",
            "AR_small",
            "AR_medium",
            "AR_large",
        ];
        for (name, theirs) in NAMES.iter().zip(keys) {
            let figure = expected[key]["metrics"][theirs].as_f64().expect("a number");
            // The reference is rounded to four digits.
            assert_equal(&ours[name], figure, 5.1e-5, &format!("{key}, {name}"));
        }
    }
}

#[test]
fn the_voc_figures_are_those_of_object_detection_metrics() {
    let Some(sample) = shared("data/map_check_sample2") else {
        return;
    };
    let numbers = |line: &str| -> Vec<f64> {
        line.split_whitespace()
            .skip(1)
            .map(|word| word.parse().expect("a number"))
            .collect()
    };
    let (mut images, mut annotations, mut detections) = (Vec::new(), Vec::new(), Vec::new());
    for id in 1..=7 {
        let lines = |kind: &str| {
            let path = sample.join(kind).join(format!("{id:05}.txt"));
            std::fs::read_to_string(path).expect("reads")
        };
        images
            .push(json!({"id": id, "file_name": format!("{id}.jpg"), "width": 500, "height": 500}));
        for line in lines("groundtruths")
            .lines()
            .filter(|line| !line.is_empty())
        {
            annotations.push(json!({"image_id": id, "category_id": 1, "bbox": numbers(line)}));
        }
        for line in lines("detections").lines().filter(|line| !line.is_empty()) {
            let numbers = numbers(line);
            let (score, bounds) = (numbers[0], &numbers[1..]);
            detections
                .push(json!({"image_id": id, "category_id": 1, "score": score, "bbox": bounds}));
        }
    }
    let data = json!({
        "images": images, "annotations": annotations, "categories": [{"id": 1, "name": "object"}],
    });
    let folder = tempfile::tempdir().expect("a folder");
    let (truth, found) = (
        folder.path().join("data.json"),
        folder.path().join("found.json"),
    );
    write(&truth, data.to_string());
    write(&found, json!(detections).to_string());
    let voc = &evaluate(&truth, &found, &["--voc=0.3"])["voc"];
    // Two digits of its README, one cut and one rounded: exactly, 0.245687 and 2.952381 / 11.
    assert_equal(&voc["map"], 0.2456, 1e-4, "every point");
    assert_equal(&voc["map_11_point"], 0.2684, 1e-4, "11 points");
}

/// A YOLO data set of the demo's pictures, labelled by the demo's model.
fn labelled_demo(folder: &Path) {
    let mut arguments = vec!["collect".into()];
    arguments.extend(model_flags());
    arguments.extend([
        "--source".into(),
        demo("scene"),
        "--every=1f".into(),
        "--format=yolo".into(),
    ]);
    arguments.extend(["-o".into(), folder.to_owned()]);
    printed(arguments);
}

#[test]
fn a_model_is_right_about_what_it_labelled_itself() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("demo");
    labelled_demo(&data);
    let mut arguments = vec![
        "eval".into(),
        data.clone(),
        "--json".into(),
        "-c".into(),
        "0.4".into(),
    ];
    arguments.extend(model_flags());
    let one = parsed(&arguments);
    assert_eq!(one["images"], 36);
    // The pictures were compressed once more: a detection at the threshold may differ.
    assert!(one["map_50"].as_f64() > Some(0.97), "{one}");
    assert!(one["map"].as_f64().expect("a number") > 0.8, "{one}");
    assert_eq!(one["unmatched"], json!({"model": [], "data": []}));
    // The same model twice differs in nothing.
    arguments.extend(model_flags());
    let both = parsed(&arguments);
    assert_eq!(both["runs"][1]["map"], one["map"]);
    assert_eq!(both["difference"]["map"], 0.0);
    let table = printed(
        arguments
            .iter()
            .filter(|flag| flag.to_str() != Some("--json")),
    );
    assert!(
        table.contains("difference") && table.contains("+0.0000"),
        "{table}"
    );
}

#[test]
fn saved_detections_give_the_same_figures() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, saved) = (folder.path().join("demo"), folder.path().join("found.json"));
    labelled_demo(&data);
    let mut arguments = vec!["eval".into(), data.clone(), "--json".into()];
    arguments.extend(model_flags());
    arguments.extend(["--save-detections".into(), saved.clone()]);
    let live = parsed(arguments);
    let again = evaluate(&data, &saved, &[]);
    for name in NAMES {
        assert_eq!(live[name], again[name], "{name}");
    }
}

#[test]
fn classes_that_do_not_match_are_told_and_can_be_mapped() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("demo");
    labelled_demo(&data);
    write(
        &data.join("data.yaml"),
        "train: images\nval: images\nnames: [rot, green, blue]\n",
    );
    let mut arguments = vec![
        "eval".into(),
        data.clone(),
        "--json".into(),
        "-c".into(),
        "0.4".into(),
    ];
    arguments.extend(model_flags());
    let output = eyas(&arguments);
    assert!(output.status.success(), "{}", errors(&output));
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(
        report["unmatched"],
        json!({"model": ["red"], "data": ["rot"]})
    );
    assert!(report["map_50"].as_f64().expect("a number") < 0.7);
    let told = errors(&output);
    assert!(
        told.contains("not in the data set") && told.contains("unknown to the model"),
        "{told}"
    );
    let map = folder.path().join("map.txt");
    write(&map, "red = rot\n");
    arguments.extend(["--class-map".into(), map]);
    assert!(parsed(arguments)["map_50"].as_f64() > Some(0.97));
}

#[test]
fn a_picture_of_another_size_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("demo");
    labelled_demo(&data);
    let coco = folder.path().join("coco");
    let convert = [
        "dataset",
        "convert",
        data.to_str().expect("text"),
        "--to",
        "coco",
        "-o",
    ];
    printed(convert.into_iter().chain([coco.to_str().expect("text")]));
    let first = std::fs::read_dir(coco.join("images"))
        .expect("reads")
        .next()
        .expect("one")
        .expect("reads");
    image::RgbImage::new(160, 120)
        .save(first.path())
        .expect("saves");
    let mut arguments = vec!["eval".into(), coco];
    arguments.extend(model_flags());
    let output = eyas(arguments);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        errors(&output).contains("is 160x120, but"),
        "{}",
        errors(&output)
    );
}

#[test]
fn classifiers_are_judged_by_folders() {
    let (Some(model), Some(cat)) = (
        shared("models/mobilenet_v2_1.0_224_quant.tflite"),
        shared("images/cat.bmp"),
    ) else {
        return;
    };
    let bird = shared("images/bird.bmp").expect("lies beside");
    let folder = tempfile::tempdir().expect("a folder");
    for (class, picture) in [
        ("tabby, tabby cat", cat),
        ("chickadee", bird.clone()),
        ("hammer", bird),
    ] {
        let bytes = std::fs::read(picture).expect("reads");
        write(&folder.path().join(class).join("1.bmp"), bytes);
    }
    let path = |path: &Path| path.to_str().expect("text").to_owned();
    let labels = shared("labels/imagenet_labels.txt").expect("lies beside");
    let report = parsed([
        "eval",
        &path(folder.path()),
        "-m",
        &path(&model),
        "-l",
        &path(&labels),
        "--json",
    ]);
    assert_eq!(report["images"], 3);
    let (top_1, top_5) = (report["top_1"].as_f64(), report["top_5"].as_f64());
    assert!(
        (top_5.expect("a number") - 2.0 / 3.0).abs() < 1e-9,
        "{report}"
    );
    assert!(top_1 > Some(0.3), "{report}");
    let wrong = eyas([
        "eval",
        &path(folder.path()),
        "-m",
        &path(&demo("colours.tflite")),
    ]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(
        errors(&wrong).contains("classification"),
        "{}",
        errors(&wrong)
    );
}

#[test]
fn wrong_usage_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_str().expect("text");
    picture(&folder.path().join("x/1.png"), 4, 4);
    for (arguments, code, word) in [
        (
            vec!["eval", "no-such-folder"],
            2,
            "there is no such data set",
        ),
        (
            vec!["eval", path, "-m", "a", "-m", "b", "-m", "c"],
            2,
            "at most two",
        ),
        (
            vec!["eval", path, "--detections", "x", "-m", "y"],
            2,
            "cannot be used with",
        ),
        (vec!["eval", path, "--voc=2"], 2, "not a number above 0"),
        (
            vec!["eval", path, "-l", "x", "-l", "y"],
            2,
            "2 times for 1 models",
        ),
        (
            vec!["eval", path, "--detections", "x"],
            2,
            "for classifiers",
        ),
    ] {
        let output = eyas(&arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        assert!(
            errors(&output).contains(word),
            "{arguments:?}: {}",
            errors(&output)
        );
    }
}
