//! The tiny ONNX models of `tests/golden_onnx` give ONNX Runtime's answers, in integers and, if asked to, in float.
//!
//! `tests/golden_onnx/make_onnx.py` makes the models and stores the answers with the step of each output's codes.
#![cfg(feature = "tract")]

use std::path::{Path, PathBuf};

use eyas::engine::{self, Options};
use eyas::graph::Op;
use eyas::model::{self, Anchors, Decoding, Model, Program, ScoreActivation};
use eyas::tensor::{TensorData, TensorView};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    inputs: Vec<Tensor>,
    outputs: Vec<Tensor>,
}

#[derive(Deserialize)]
struct Tensor {
    name: String,
    shape: Vec<usize>,
    values: Vec<f32>,
    /// The real value of one code of an output.
    #[serde(default)]
    step: f32,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden_onnx")
}

/// The files that run in integers, and ONNX Runtime's answers.
fn models() -> Vec<(String, Vec<u8>, Golden)> {
    let mut all = all_models();
    all.retain(|(name, ..)| !name.starts_with("refused"));
    all
}

fn all_models() -> Vec<(String, Vec<u8>, Golden)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|end| end == "onnx") {
            let text = std::fs::read_to_string(path.with_extension("json")).unwrap();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let golden = serde_json::from_str(&text).unwrap();
            found.push((name, std::fs::read(&path).unwrap(), golden));
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(found.len() > 15);
    found
}

fn answers(model: &Model, golden: &Golden, options: Options) -> Vec<TensorData> {
    let mut engine = engine::load(model, options).unwrap();
    for _ in 0..2 {
        for (index, input) in golden.inputs.iter().enumerate() {
            assert_eq!(engine.inputs()[index].shape.dims(), input.shape);
            engine
                .set_input(index, TensorView::F32(&input.values))
                .unwrap();
        }
        engine.run().unwrap();
    }
    let outputs = engine.outputs().iter().zip(&golden.outputs);
    for (found, expected) in outputs {
        assert_eq!(
            (&found.name, found.shape.dims()),
            (&expected.name, &expected.shape[..])
        );
    }
    (0..golden.outputs.len())
        .map(|index| engine.output(index).to_data())
        .collect()
}

/// The largest difference between answers and ONNX Runtime's, in steps of the output's codes.
fn distance(answers: &[TensorData], golden: &Golden) -> f32 {
    let mut largest = 0f32;
    for (found, expected) in answers.iter().zip(&golden.outputs) {
        let TensorData::F32(found) = found else {
            panic!("{} is not real", expected.name);
        };
        assert_eq!(found.len(), expected.values.len());
        for (a, b) in found.iter().zip(&expected.values) {
            assert!(a.is_finite());
            largest = largest.max((a - b).abs() / expected.step);
        }
    }
    largest
}

#[test]
fn every_model_gives_the_answers_of_onnx_runtime() {
    let mut complaints = Vec::new();
    for (name, bytes, golden) in models() {
        let loaded = match model::load(&bytes, &name) {
            Ok(loaded) => loaded,
            Err(error) => {
                complaints.push(error.to_string());
                continue;
            }
        };
        assert!(matches!(loaded.program, Program::Graph(_)), "{name}");
        let once = answers(&loaded, &golden, Options::default());
        let distance = distance(&once, &golden);
        println!("{name}: {distance:.3} codes");
        if distance > 1.01 {
            complaints.push(format!("{name}: {distance:.2} codes away"));
        }
        for (threads, keep_intermediates) in [(2, false), (1, true)] {
            let options = Options {
                threads,
                keep_intermediates,
                ..Options::default()
            };
            if answers(&loaded, &golden, options) != once {
                complaints.push(format!("{name}: other answers with {options:?}"));
            }
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn no_transposition_is_left_where_none_is_meant() {
    for (name, bytes, _) in models() {
        let Program::Graph(graph) = model::load(&bytes, &name).unwrap().program else {
            panic!("{name} is no graph");
        };
        let transpositions = graph
            .nodes
            .iter()
            .filter(|node| matches!(node.op, Op::Transpose(_)))
            .count();
        // A channel shuffle with the file's order before and after it, inputs that are no pictures, and outputs of
        // several rows and channels.
        let allowed = match name.split_once('_').unwrap().0 {
            "shuffled" => 4,
            "residual" | "squeeze" | "resized" | "newest" => 1,
            _ => 0,
        };
        assert!(transpositions <= allowed, "{name}: {transpositions}");
    }
}

#[test]
fn an_operator_without_an_integer_kernel_is_named() {
    let (name, bytes, _) = all_models()
        .into_iter()
        .find(|(name, ..)| name.starts_with("refused"))
        .unwrap();
    let error = model::load(&bytes, &name).unwrap_err().to_string();
    assert!(
        error.contains("(Elu)") || error.contains("(Conv)"),
        "{error}"
    );
    assert!(error.contains("--allow-float"), "{error}");
}

/// The detections in class order, of a model with post-processing put after it, on the golden input.
fn detections(mut model: Model, golden: &Golden, activation: ScoreActivation) -> Vec<Vec<f32>> {
    let head = model.raw_head().unwrap();
    assert_eq!(
        (head.boxes, head.scores, head.anchors, head.columns),
        (0, 1, 160, 3)
    );
    assert_eq!(
        head.known,
        Some(ScoreActivation::None),
        "it ends in a sigmoid"
    );
    let anchor = |at: usize| [(at / 8 % 8) as f32 / 8.0, (at % 8) as f32 / 8.0, 0.3, 0.3];
    let decoding = Decoding {
        anchors: Anchors::new((0..160).map(anchor).collect(), Anchors::DEFAULT_SCALE).unwrap(),
        activation,
        has_background: true,
    };
    model.attach(&head, decoding).unwrap();
    let mut engine = engine::load(&model, Options::default()).unwrap();
    let input = TensorView::F32(&golden.inputs[0].values);
    engine.set_input(0, input).unwrap();
    engine.run().unwrap();
    let outputs = (0..4).map(|index| match engine.output(index) {
        TensorView::F32(values) => values.to_vec(),
        other => panic!("{other:?}"),
    });
    outputs.collect()
}

#[test]
fn raw_heads_find_the_same_in_integers_and_in_float() {
    let (name, bytes, golden) = models()
        .into_iter()
        .find(|(name, ..)| name == "ssd_head_qdq")
        .unwrap();
    for activation in [
        ScoreActivation::None,
        ScoreActivation::Sigmoid,
        ScoreActivation::Softmax,
    ] {
        let load = [model::load, model::load_dequantized];
        let [integer, float] =
            load.map(|load| detections(load(&bytes, &name).unwrap(), &golden, activation));
        let count = integer[3][0];
        assert!(count > 5.0, "{count}");
        // Scores near each other change places, and boxes near the bound of overlap may stay or go.
        assert!(
            (count - float[3][0]).abs() <= 0.2 * count,
            "{activation:?}: {count} {}",
            float[3][0]
        );
        let best = |outputs: &[Vec<f32>]| (outputs[1][0], outputs[2][0]);
        assert!(
            (best(&integer).1 - best(&float).1).abs() < 0.03,
            "{activation:?}"
        );
        assert!(integer[1].iter().all(|&class| class == 0.0 || class == 1.0));
    }
}

#[test]
fn dequantized_models_stay_near() {
    for (name, bytes, golden) in all_models() {
        let loaded = model::load_dequantized(&bytes, &name).unwrap();
        assert!(matches!(loaded.program, Program::Onnx(_)), "{name}");
        let distance = distance(&answers(&loaded, &golden, Options::default()), &golden);
        println!("{name}: {distance:.2} codes");
        assert!(distance < 8.0, "{name}: {distance} codes away");
    }
}

/// Outputs on values spread over -1 to 1.
fn spread_answers(model: &Model) -> Vec<Vec<f32>> {
    let mut engine = engine::load(model, Options::default()).unwrap();
    let elements = engine.inputs()[0].shape.elements();
    let input: Vec<f32> = (0..elements)
        .map(|at| (at * 7919 % 2003) as f32 / 1001.5 - 1.0)
        .collect();
    engine.set_input(0, TensorView::F32(&input)).unwrap();
    engine.run().unwrap();
    let outputs = 0..engine.outputs().len();
    let real = outputs.map(|index| match engine.output(index).to_data() {
        TensorData::F32(values) => values,
        other => panic!("{other:?}"),
    });
    real.collect()
}

#[test]
fn float_models_as_graphs_give_the_answers_of_their_files() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/models");
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/quantize/colours_float.onnx");
    let names = [
        "derived/ssd_mobilenet_v2_fpnlite_320_coco_float_raw.onnx",
        "mobilenet_v2_small_128_float.onnx",
        "ultraface_rfb_320_simplified_float.onnx",
        "fastestdet_352_coco_float.onnx",
    ];
    for path in names.map(|name| shared.join(name)).into_iter().chain([own]) {
        let Ok(bytes) = std::fs::read(&path) else {
            println!("SKIPPED: {} is absent", path.display());
            continue;
        };
        let name = path.display().to_string();
        let file = model::load(&bytes, &name).unwrap();
        assert!(matches!(file.program, Program::Onnx(_)), "{name}");
        let graph = model::load_graph(&bytes, &name).unwrap();
        assert!(matches!(graph.program, Program::Graph(_)), "{name}");
        let (expected, found) = (spread_answers(&file), spread_answers(&graph));
        assert_eq!(expected.len(), found.len(), "{name}");
        let mut largest = 0f32;
        for (expected, found) in expected.iter().zip(&found) {
            assert_eq!(expected.len(), found.len(), "{name}");
            for (a, b) in expected.iter().zip(found) {
                largest = largest.max((a - b).abs());
            }
        }
        println!("{name}: {largest:.2e}");
        assert!(largest <= 1e-3, "{name}: {largest}");
    }
}

#[test]
fn a_float_model_that_decodes_its_boxes_is_refused_by_name() {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/models/ultraface_rfb_320_float.onnx");
    let Ok(bytes) = std::fs::read(&path) else {
        println!("SKIPPED: {} is absent", path.display());
        return;
    };
    let error = model::load_graph(&bytes, "m").unwrap_err().to_string();
    assert!(
        error.contains("(Exp)") && error.contains("boxes"),
        "{error}"
    );
}
