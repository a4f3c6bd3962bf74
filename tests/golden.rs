//! The tiny models of `tests/golden` give LiteRT's answers, whatever the number of threads and the fusion.
//!
//! `tests/golden/make_golden.py` makes the models and stores the answers; the files say how close ours must be.

use std::path::{Path, PathBuf};

use eyas::engine::{self, Options};
use eyas::model;
use eyas::tensor::TensorData;
use serde::Deserialize;

/// What LiteRT answered to one input.
#[derive(Deserialize)]
struct Golden {
    compare: Compare,
    /// The largest difference allowed; 0: equal.
    tolerance: f64,
    inputs: Vec<Input>,
    outputs: Vec<Output>,
}

#[derive(Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Compare {
    /// Every element.
    Values,
    /// As many leading rows as the output named `count` says.
    Detections,
}

#[derive(Deserialize)]
struct Input {
    shape: Vec<usize>,
    dtype: String,
    values: Vec<f64>,
}

#[derive(Deserialize)]
struct Output {
    name: String,
    shape: Vec<usize>,
    dtype: String,
    /// The answer of LiteRT's default path.
    default: Vec<f64>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// The names of the models, sorted.
fn names() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "tflite"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

fn golden(name: &str) -> Golden {
    let text = std::fs::read_to_string(folder().join(name).with_extension("json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn tensor(input: &Input) -> TensorData {
    let values = &input.values;
    match input.dtype.as_str() {
        "uint8" => TensorData::U8(values.iter().map(|&v| v as u8).collect()),
        "int8" => TensorData::I8(values.iter().map(|&v| v as i8).collect()),
        "int32" => TensorData::I32(values.iter().map(|&v| v as i32).collect()),
        "float32" => TensorData::F32(values.iter().map(|&v| v as f32).collect()),
        other => panic!("no test input has type {other}"),
    }
}

fn numbers(data: &TensorData) -> Vec<f64> {
    match data {
        TensorData::U8(values) => values.iter().map(|&v| f64::from(v)).collect(),
        TensorData::I8(values) => values.iter().map(|&v| f64::from(v)).collect(),
        TensorData::I32(values) => values.iter().map(|&v| f64::from(v)).collect(),
        TensorData::F32(values) => values.iter().map(|&v| f64::from(v)).collect(),
    }
}

/// Runs a model twice on its input (a stale arena would show) and returns the second run's outputs.
fn answers(name: &str, golden: &Golden, options: Options) -> Result<Vec<TensorData>, String> {
    let model = model::load_file(&folder().join(name).with_extension("tflite"))
        .map_err(|error| format!("{name}: load: {error}"))?;
    let mut engine = engine::load(&model, options).map_err(|error| format!("{name}: {error}"))?;
    let (expected, found) = (golden.inputs.len(), engine.inputs().len());
    if expected != found {
        return Err(format!("{name}: {found} inputs instead of {expected}"));
    }
    for (index, input) in golden.inputs.iter().enumerate() {
        let info = &engine.inputs()[index];
        if info.shape.dims() != input.shape || info.dtype.name() != input.dtype {
            return Err(format!(
                "{name}: input {index} is {} {}",
                info.dtype, info.shape
            ));
        }
    }
    for _ in 0..2 {
        for (index, input) in golden.inputs.iter().enumerate() {
            let data = tensor(input);
            engine
                .set_input(index, data.view())
                .map_err(|error| format!("{name}: input {index}: {error}"))?;
        }
        engine
            .run()
            .map_err(|error| format!("{name}: run: {error}"))?;
    }
    let outputs = engine.outputs().iter().enumerate();
    Ok(outputs
        .map(|(index, _)| engine.output(index).to_data())
        .collect())
}

/// How many leading elements of an output are to be compared.
fn compared_elements(golden: &Golden, output: &Output) -> usize {
    let count = golden.outputs.iter().find(|output| output.name == "count");
    match (golden.compare, count) {
        (Compare::Detections, Some(count)) if output.name != "count" => {
            let row: usize = output.shape.iter().skip(2).product();
            count.default[0] as usize * row
        }
        _ => output.default.len(),
    }
}

/// The first thing that is wrong with the outputs, in words.
fn check(name: &str, golden: &Golden, outputs: &[TensorData]) -> Result<(), String> {
    if outputs.len() != golden.outputs.len() {
        return Err(format!("{name}: {} outputs", outputs.len()));
    }
    for (expected, found) in golden.outputs.iter().zip(outputs) {
        let what = format!("{name}: {}", expected.name);
        let dtype = found.view().dtype().name();
        let found = numbers(found);
        if dtype != expected.dtype || found.len() != expected.default.len() {
            return Err(format!("{what}: {} elements of type {dtype}", found.len()));
        }
        let compared = compared_elements(golden, expected);
        let pairs = found.iter().zip(&expected.default).take(compared);
        let wrong: Vec<String> = pairs
            .enumerate()
            .filter(|(_, (a, b))| {
                ((**a as f32 - **b as f32).abs() > golden.tolerance as f32) || a.is_nan()
            })
            .map(|(index, (a, b))| format!("[{index}] {a} instead of {b}"))
            .collect();
        if !wrong.is_empty() {
            let first = wrong.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
            return Err(format!(
                "{what}: {} of {compared} differ: {first}",
                wrong.len()
            ));
        }
    }
    Ok(())
}

/// Whether a complaint only says that this build has no engine for float models.
fn needs_tract(complaint: &str) -> bool {
    let is_missing = !cfg!(feature = "tract") && complaint.contains("without the feature `tract`");
    if is_missing {
        println!("SKIPPED: {complaint}");
    }
    is_missing
}

/// Panics with every complaint of every model.
fn report(mut complaints: Vec<String>) {
    complaints.retain(|complaint| !needs_tract(complaint));
    let count = complaints.len();
    assert!(count == 0, "{count} complaints:\n{}", complaints.join("\n"));
}

#[test]
fn the_models_are_there() {
    assert!(
        names().len() > 100,
        "{} holds few models",
        folder().display()
    );
}

#[test]
fn every_model_gives_the_answers_of_litert() {
    let mut complaints = Vec::new();
    for name in names() {
        let golden = golden(&name);
        let outputs = answers(&name, &golden, Options::default());
        complaints.extend(
            outputs
                .and_then(|outputs| check(&name, &golden, &outputs))
                .err(),
        );
    }
    report(complaints);
}

#[test]
fn threads_and_kept_intermediates_change_no_bit() {
    let mut complaints = Vec::new();
    for name in names() {
        let golden = golden(&name);
        let Ok(once) = answers(&name, &golden, Options::default()) else {
            continue; // the test above complains
        };
        for (threads, keep_intermediates) in [(2, false), (4, false), (1, true), (4, true)] {
            let options = Options {
                threads,
                keep_intermediates,
                ..Options::default()
            };
            match answers(&name, &golden, options) {
                Ok(outputs) if outputs == once => {}
                Ok(_) => complaints.push(format!("{name}: other answers with {options:?}")),
                Err(error) => complaints.push(format!("{options:?}: {error}")),
            }
        }
    }
    report(complaints);
}
