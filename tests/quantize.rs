//! `eyas quantize`, the real binary, on a small float detector of our own (`tests/quantize/make_float.py`), and on the
//! same network in ONNX (`tests/quantize/make_float_onnx.py`).

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use eyas::graph::Op;
use eyas::model::Program;
use eyas::tensor::DType;
use serde_json::Value;

fn tests(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(name)
}

/// Runs `eyas quantize` on the float detector and the pictures that it is made for.
fn quantize(folder: &Path, more: &[&str]) -> Output {
    run(
        folder,
        &tests("quantize/colours_float.tflite"),
        &tests("demo/scene"),
        more,
    )
}

fn run(folder: &Path, model: &Path, pictures: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_eyas"))
        .current_dir(folder)
        .arg("quantize")
        .arg(model)
        .arg("--calibrate")
        .arg(pictures)
        .args(more)
        .stdin(Stdio::null())
        .output()
        .expect("the binary starts")
}

#[track_caller]
fn report(output: &Output) -> Value {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    serde_json::from_slice(&output.stdout).expect("a report")
}

#[track_caller]
fn refusal(output: &Output) -> String {
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn load(path: &Path) -> eyas::graph::Graph {
    match eyas::model::load_file(path).unwrap().program {
        Program::Graph(graph) => graph,
        Program::Onnx(_) => panic!("not a .tflite file"),
    }
}

#[test]
fn an_int8_model_finds_what_the_float_model_finds() {
    let folder = tempfile::tempdir().unwrap();
    let flags = [
        "-o", "q.tflite", "--json", "--report", "r.html", "--report", "r.json",
    ];
    let report = report(&quantize(folder.path(), &flags));
    assert_eq!(report["agreement"]["measure"], "detections");
    assert!(
        report["agreement"]["score"].as_f64().unwrap() > 0.99,
        "{}",
        report["verdict"]
    );
    assert!(report["is_measured"].as_bool().unwrap());
    let file = folder.path().join("q.tflite");
    assert_eq!(
        std::fs::metadata(&file).unwrap().len(),
        report["quantized_bytes"].as_u64().unwrap()
    );

    let graph = load(&file);
    assert_eq!(graph.dtype(graph.inputs[0]), DType::U8);
    let weighted = graph.nodes.iter().filter(|node| node.op.has_weights());
    for node in weighted {
        let types: Vec<DType> = node.inputs.iter().map(|id| graph.dtype(*id)).collect();
        assert_eq!(types, [DType::I8, DType::I8, DType::I32]);
        let channels = graph.shape(node.outputs[0]).channels();
        assert_eq!(graph.quant(node.inputs[1]).unwrap().scales.len(), channels);
    }
    let sigmoid = graph
        .nodes
        .iter()
        .find(|node| node.op == Op::Logistic)
        .unwrap();
    let quant = graph.quant(sigmoid.outputs[0]).unwrap();
    assert_eq!((quant.scale(), quant.zero_point()), (1.0 / 256.0, -128));

    let page = std::fs::read_to_string(folder.path().join("r.html")).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.contains("<svg") && !page.contains("http"));
    let written: Value =
        serde_json::from_slice(&std::fs::read(folder.path().join("r.json")).unwrap()).unwrap();
    assert_eq!(written["quantized_bytes"], report["quantized_bytes"]);
}

#[test]
fn the_same_run_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = |name: &str| {
        assert!(
            quantize(folder.path(), &["-o", name, "--pictures", "3"])
                .status
                .success()
        );
        std::fs::read(folder.path().join(name)).unwrap()
    };
    assert!(bytes("a.tflite") == bytes("b.tflite"));
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let result = |threads: &str, name: &str| {
        let flags = [
            "-o",
            name,
            "--pictures",
            "7",
            "--threads",
            threads,
            "--rank",
            "--method",
            "mse",
            "--json",
        ];
        let mut report = report(&quantize(folder.path(), &flags));
        let object = report.as_object_mut().unwrap();
        // Times differ, and the verdict tells them.
        object.remove("speed");
        object.remove("verdict");
        (std::fs::read(folder.path().join(name)).unwrap(), report)
    };
    assert!(result("1", "a.tflite") == result("3", "b.tflite"));
}

/// A COCO data set of the demo's pictures whose objects are what the float detector finds.
fn labelled(folder: &Path) -> PathBuf {
    let set = folder.join("set");
    std::fs::create_dir(&set).unwrap();
    let copied = |index: usize| {
        let name = format!("{index:02}.jpg");
        std::fs::copy(tests(&format!("demo/scene/{name}")), set.join(&name)).unwrap();
        set.join(name)
    };
    let pictures: Vec<PathBuf> = (0..6).map(copied).collect();
    let found = Command::new(env!("CARGO_BIN_EXE_eyas"))
        .args(["detect", "--json", "-m"])
        .arg(tests("quantize/colours_float.tflite"))
        .args(&pictures)
        .output()
        .expect("the binary starts");
    let (mut images, mut objects) = (Vec::new(), Vec::new());
    let lines = std::str::from_utf8(&found.stdout).unwrap().lines();
    for (id, (line, picture)) in lines.zip(&pictures).enumerate() {
        let (width, height) = image::image_dimensions(picture).unwrap();
        images.push(serde_json::json!({
            "id": id, "width": width, "height": height, "file_name": picture.file_name().unwrap().to_str(),
        }));
        let line: Value = serde_json::from_str(line).unwrap();
        for object in line["detections"].as_array().unwrap() {
            let side = |name: &str| object["box"][name].as_f64().unwrap();
            let [x, y] = ["x_min", "y_min"].map(side);
            let size = [side("x_max") - x, side("y_max") - y];
            objects.push(serde_json::json!({
                "id": objects.len() + 1, "image_id": id, "iscrowd": 0, "bbox": [x, y, size[0], size[1]],
                "category_id": object["class_id"].as_u64().unwrap() + 1, "area": size[0] * size[1],
            }));
        }
    }
    let categories = ["red", "green", "blue"].iter().zip(1..);
    let categories: Vec<Value> = categories
        .map(|(name, id)| serde_json::json!({ "id": id, "name": name }))
        .collect();
    let data =
        serde_json::json!({ "images": images, "annotations": objects, "categories": categories });
    let file = set.join("labelled.json");
    std::fs::write(&file, data.to_string()).unwrap();
    file
}

#[test]
fn a_labelled_set_judges_the_loss() {
    let folder = tempfile::tempdir().unwrap();
    let data = labelled(folder.path());
    let labels = tests("demo/colours.txt");
    let known = [
        "--eval",
        data.to_str().unwrap(),
        "--labels",
        labels.to_str().unwrap(),
    ];
    let flags = [
        &known[..],
        &["--json", "--report", "r.html", "--max-drop", "0.2"],
    ]
    .concat();
    let report = report(&quantize(folder.path(), &flags));
    let map = |model: &str| report["labelled"][model]["map"].as_f64().unwrap();
    assert!(map("float") > 0.9 && map("quantized") > 0.8, "{report}");
    assert_eq!(report["labelled"]["pictures"], 6);
    let verdict = report["verdict"].as_str().unwrap();
    assert!(verdict.starts_with("mAP .50:.95 "), "{verdict}");
    let page = std::fs::read_to_string(folder.path().join("r.html")).unwrap();
    assert!(page.contains("6 labelled pictures"));

    let ruined = [
        "--method",
        "percentile",
        "--percentile",
        "51",
        "-o",
        "q.tflite",
        "--max-drop",
        "0.2",
    ];
    let message = refusal(&quantize(folder.path(), &[&known[..], &ruined].concat()));
    assert!(
        message.contains("mAP on the labelled pictures"),
        "{message}"
    );
    assert!(!folder.path().join("q.tflite").exists());
    let message = refusal(&quantize(folder.path(), &["--eval", "no/such/set"]));
    assert!(message.contains("no/such/set"), "{message}");
}

#[test]
fn every_mode_and_method_agrees_with_float() {
    let folder = tempfile::tempdir().unwrap();
    let cases: [&[&str]; 9] = [
        &["--mode", "dynamic"],
        &["--mode", "weights"],
        &[
            "--weights",
            "per-tensor",
            "--bias-correction",
            "on",
            "--equalize",
            "on",
        ],
        &["--method", "percentile", "--percentile", "99.995"],
        &["--method", "entropy"],
        &["--method", "mse", "--input", "int8"],
        &["--bits", "16"],
        &["--keep-float", "2"],
        &["--keep-int16", "1", "--input", "float32"],
    ];
    for flags in cases {
        let mut all = vec!["--pictures", "4", "--json", "-o", "q.tflite"];
        all.extend(flags);
        let report = report(&quantize(folder.path(), &all));
        let score = report["agreement"]["score"].as_f64().unwrap();
        // The few logits of objects are what entropy cuts off first.
        let least = if flags.contains(&"entropy") {
            0.5
        } else {
            0.95
        };
        assert!(score > least, "{flags:?}: {}", report["verdict"]);
        let is_int16 = flags.contains(&"16") || flags.contains(&"--keep-int16");
        assert_eq!(
            report["is_measured"].as_bool().unwrap(),
            !is_int16,
            "{flags:?}"
        );
    }
}

#[test]
fn a_study_shows_fewer_bits_to_be_worse() {
    let folder = tempfile::tempdir().unwrap();
    let report = report(&quantize(
        folder.path(),
        &["--study", "--rank", "--json", "--pictures", "4"],
    ));
    let levels = report["study"].as_array().unwrap();
    assert_eq!(levels.len(), 10);
    let decibels = |level: &Value| level["decibels"].as_f64().unwrap();
    assert!(
        levels[..5].is_sorted_by(|a, b| decibels(a) > decibels(b)),
        "{levels:?}"
    );
    assert!(decibels(&levels[0]) > decibels(&levels[5]));
    let ranked = report["sensitivity"].as_array().unwrap();
    assert!(ranked.len() > 3 && ranked.is_sorted_by(|a, b| decibels(a) <= decibels(b)));
    assert!(!folder.path().join("q.tflite").exists());
}

#[test]
fn too_large_a_loss_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    // Half of the values cut off: nothing of the model is left.
    let flags = [
        "--method",
        "percentile",
        "--percentile",
        "51",
        "-o",
        "q.tflite",
        "--max-drop",
        "0.1",
    ];
    let message = refusal(&quantize(folder.path(), &flags));
    assert!(message.contains("--max-drop 0.1"), "{message}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn pictures_without_anything_to_find_say_nothing_of_a_loss() {
    let (folder, pictures) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::copy(tests("demo/scene/00.jpg"), pictures.path().join("0.jpg")).unwrap();
    let codes = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/training/codes_float.tflite");
    let flags = ["-o", "q.tflite", "--max-drop", "0.1"];
    let message = refusal(&run(folder.path(), &codes, pictures.path(), &flags));
    assert!(
        message.contains("neither model finds anything"),
        "{message}"
    );
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn what_cannot_be_quantized_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let scene = tests("demo/scene");
    let float = tests("quantize/colours_float.tflite");
    let refused = |model: &Path, pictures: &Path, flags: &[&str]| {
        refusal(&run(folder.path(), model, pictures, flags))
    };
    let message = refused(&tests("demo/colours.tflite"), &scene, &[]);
    assert!(message.contains("quantized already"), "{message}");
    let message = refused(&float, folder.path(), &[]);
    assert!(message.contains("holds no pictures"), "{message}");
    let message = refused(&float, &scene, &["--keep-float", "no_such_value"]);
    assert!(message.contains("`no_such_value`"), "{message}");
    let message = refused(&float, &scene, &["--mean", "0,0", "--std", "1,1"]);
    assert!(message.contains("do not normalize 3 channels"), "{message}");
    let message = refused(&float, &scene, &["--mean", "0", "--std", "0"]);
    assert!(message.contains("do not normalize"), "{message}");
    std::fs::write(
        folder.path().join("cut.tflite"),
        &std::fs::read(&float).unwrap()[..5000],
    )
    .unwrap();
    let message = refused(&folder.path().join("cut.tflite"), &scene, &[]);
    assert!(message.contains("damaged"), "{message}");
}

/// Runs `eyas quantize` on the float network in ONNX.
fn quantize_onnx(folder: &Path, more: &[&str]) -> Output {
    let model = tests("quantize/colours_float.onnx");
    run(folder, &model, &tests("demo/scene"), more)
}

#[test]
fn an_onnx_model_keeps_its_interface_and_runs_in_integers() {
    let folder = tempfile::tempdir().unwrap();
    let flags = [
        "-o", "q.onnx", "--json", "--mean", "127.5", "--std", "127.5",
    ];
    let report = report(&quantize_onnx(folder.path(), &flags));
    assert!(report["is_measured"].as_bool().unwrap());
    assert!(
        report["agreement"]["score"].as_f64().unwrap() > 0.95,
        "{}",
        report["verdict"]
    );
    let layers = report["layers"].as_array().unwrap();
    assert!(layers.len() > 4 && layers.iter().all(|layer| layer["dtype"] == "int8"));
    let model = eyas::model::load_file(&folder.path().join("q.onnx")).unwrap();
    assert!(model.format.contains("QDQ"), "{}", model.format);
    assert_eq!(model.nchw_inputs, [0]);
    assert_eq!(model.metadata.normalization.as_ref().unwrap().std, [127.5]);
    let Program::Graph(graph) = &model.program else {
        panic!("a float model")
    };
    let names = |ids: &[eyas::graph::ValueId]| -> Vec<String> {
        ids.iter().map(|id| graph.info(*id).name.clone()).collect()
    };
    assert_eq!(names(&graph.inputs), ["picture"]);
    assert_eq!(names(&graph.outputs), ["t12", "t17"]);
    assert_eq!(graph.dtype(graph.inputs[0]), DType::F32);
    for node in &graph.nodes {
        let is_end = matches!(node.op, Op::Quantize | Op::Dequantize);
        assert!(
            is_end || graph.dtype(node.outputs[0]) == DType::I8,
            "{node:?}"
        );
        assert!(
            !matches!(node.op, Op::Mul(_)),
            "batch normalization is left"
        );
    }
}

#[test]
fn an_onnx_model_becomes_a_tflite_file_too() {
    let folder = tempfile::tempdir().unwrap();
    let report = report(&quantize_onnx(
        folder.path(),
        &["-o", "q.tflite", "--json", "--pictures", "4"],
    ));
    assert!(report["agreement"]["score"].as_f64().unwrap() > 0.9);
    let graph = load(&folder.path().join("q.tflite"));
    assert_eq!(graph.dtype(graph.inputs[0]), DType::U8);
    assert_eq!(graph.shape(graph.inputs[0]).dims(), [1, 120, 160, 3]);
}

#[test]
fn onnx_files_of_other_modes_agree_with_float() {
    let folder = tempfile::tempdir().unwrap();
    let cases: [(&[&str], bool); 6] = [
        (&["--mode", "weights"], true),
        (&["--weights", "per-tensor", "--method", "mse"], true),
        (&["--input", "uint8"], true),
        (&["--input", "int8"], true),
        (&["--bits", "16"], false),
        (&["--keep-float", "2"], false),
    ];
    for (flags, is_run) in cases {
        let mut all = vec!["--pictures", "4", "--json", "-o", "q.onnx"];
        all.extend(flags);
        let report = report(&quantize_onnx(folder.path(), &all));
        let score = report["agreement"]["score"].as_f64().unwrap();
        assert!(score > 0.9, "{flags:?}: {}", report["verdict"]);
        assert_eq!(
            report["is_measured"].as_bool().unwrap(),
            is_run,
            "{flags:?}"
        );
    }
}

#[test]
fn what_an_onnx_file_cannot_hold_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let message = refusal(&quantize(folder.path(), &["-o", "q.onnx"]));
    assert!(
        message.contains("TFLite_Detection_PostProcess in an .onnx file"),
        "{message}"
    );
    let message = refusal(&quantize_onnx(
        folder.path(),
        &["-o", "q.onnx", "--mode", "dynamic"],
    ));
    assert!(message.contains("--mode dynamic"), "{message}");
    let quantized = tests("golden_onnx/residual_qdq.onnx");
    let message = refusal(&run(folder.path(), &quantized, &tests("demo/scene"), &[]));
    assert!(message.contains("quantized already"), "{message}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
