//! The real binary on models that end in raw boxes and scores, in class scores, or in something else.
#![cfg(feature = "tract")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn golden(name: &str) -> String {
    format!(
        "{}/tests/golden_onnx/{name}.onnx",
        env!("CARGO_MANIFEST_DIR")
    )
}

/// `eyas COMMAND -m MODEL FLAGS` on a picture.
fn detect(model: &str, flags: &[&str]) -> Output {
    let picture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/demo/scene/00.jpg");
    Command::new(env!("CARGO_BIN_EXE_eyas"))
        .args(["detect", "-m", &golden(model), "--json"])
        .args(flags)
        .arg(picture)
        .env("RUST_LOG", "warn")
        .output()
        .expect("the binary starts")
}

#[track_caller]
fn answer(output: &Output) -> Value {
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{message}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[track_caller]
fn refusal(output: &Output) -> String {
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A file of so many anchors in rows over the picture.
fn anchors(folder: &tempfile::TempDir, count: usize) -> PathBuf {
    let line = |at: usize| {
        format!(
            "{},{},0.2,0.2\n",
            (at / 8 % 8) as f32 / 8.0,
            (at % 8) as f32 / 8.0
        )
    };
    let lines: String = (0..count).map(line).collect();
    let path = folder.path().join("anchors.csv");
    std::fs::write(&path, format!("y_center,x_center,height,width\n{lines}")).unwrap();
    path
}

#[test]
fn a_classifier_tells_its_best_classes() {
    let line = answer(&detect("classifier_qdq", &[]));
    assert_eq!(line["detections"], Value::Array(Vec::new()));
    let classes = line["classes"].as_array().unwrap();
    let confidences: Vec<f64> = classes
        .iter()
        .map(|c| c["confidence"].as_f64().unwrap())
        .collect();
    assert_eq!(confidences.len(), 5);
    assert!(confidences.is_sorted_by(|a, b| a >= b), "{confidences:?}");
    assert!(
        confidences.iter().sum::<f64>() <= 1.001,
        "a softmax: {confidences:?}"
    );
    let raw = answer(&detect("classifier_qdq", &["--scores", "sigmoid"]));
    assert_eq!(raw["classes"][0]["class_id"], classes[0]["class_id"]);
    assert_ne!(raw["classes"][0]["confidence"], classes[0]["confidence"]);
}

#[test]
fn raw_boxes_need_their_anchors() {
    let folder = tempfile::tempdir().unwrap();
    let refused = refusal(&detect("ssd_head_qdq", &[]));
    assert!(
        refused.contains("160 raw boxes") && refused.contains("--anchors"),
        "{refused}"
    );
    let few = anchors(&folder, 159);
    let refused = refusal(&detect(
        "ssd_head_qdq",
        &["--anchors", few.to_str().unwrap()],
    ));
    assert!(
        refused.contains("160 boxes") && refused.contains("159"),
        "{refused}"
    );
    let all = anchors(&folder, 160);
    let flags = ["-c", "0.5", "--anchors", all.to_str().unwrap()];
    let line = answer(&detect("ssd_head_qdq", &flags));
    let found = line["detections"].as_array().unwrap();
    assert!(!found.is_empty());
    for detection in found {
        assert!(detection["confidence"].as_f64().unwrap() >= 0.5);
        assert!(detection["class_id"].as_u64().unwrap() < 3);
    }
    let coarse = [&flags[..], &["--box-scales", "1,1,1,1"]].concat();
    let coarse = answer(&detect("ssd_head_qdq", &coarse));
    assert_ne!(coarse["detections"], line["detections"]);
}

#[test]
fn a_column_more_than_labels_is_the_background() {
    let folder = tempfile::tempdir().unwrap();
    let (anchors, labels) = (anchors(&folder, 160), folder.path().join("labels.txt"));
    std::fs::write(&labels, "cat\ndog\n").unwrap();
    let flags = [
        "-c",
        "0.01",
        "--anchors",
        anchors.to_str().unwrap(),
        "-l",
        labels.to_str().unwrap(),
    ];
    let line = answer(&detect("ssd_head_qdq", &flags));
    let found = line["detections"].as_array().unwrap();
    assert!(!found.is_empty());
    for detection in found {
        let expected = ["cat", "dog"][detection["class_id"].as_u64().unwrap() as usize];
        assert_eq!(detection["label"], expected);
    }
}

#[test]
fn other_outputs_are_listed() {
    let refused = refusal(&detect("residual_qdq", &[]));
    assert!(
        refused.contains("[1, 5, 6, 6]") && refused.contains("eyas infer"),
        "{refused}"
    );
    let wrong = detect("residual_qdq", &["--anchors", "a.csv"]);
    assert!(!wrong.status.success());
}

#[test]
fn float_weights_are_used_only_if_allowed() {
    let refused = refusal(&detect("refused_qdq", &[]));
    assert!(refused.contains("--allow-float"), "{refused}");
    let allowed = detect("refused_qdq", &["--allow-float"]);
    assert_eq!(answer(&allowed)["classes"].as_array().unwrap().len(), 4);
    let said = String::from_utf8_lossy(&allowed.stderr);
    assert!(said.contains("float weights instead"), "{said}");
}
