//! Damaged, hostile and mistaken model files give an answer or an error, soon.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use eyas::engine::{self, Options};
use eyas::model::{self, Model, Program};
use eyas::tensor::{DType, TensorData};

const SHARED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/models");

/// Truncations and damaged copies tried for each model.
const TRUNCATIONS: usize = 50;
const DAMAGES: usize = 200;

/// The longest that one file may take to load or be refused, and to be compiled and run.
const PATIENCE: Duration = Duration::from_secs(5);
const ENGINE_PATIENCE: Duration = Duration::from_secs(30);

/// Multiply-accumulate operations above which a damaged model is only compiled.
const MOST_MACS: u64 = 1_500_000_000;

/// Of the copies of a large model, one in so many is compiled and run too; of a small one, all. With `EYAS_HOSTILE=full`
/// it is all of all.
const SPARSE: usize = 10;
const SMALL: usize = 300_000;

/// The most memory that this process, which tries several files at a time, may ever have had.
const MEMORY: u64 = 1 << 30;

/// xorshift64: the same damage on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

/// The model files of a folder, sorted; `None`, said aloud, where the folder is missing.
fn files(folder: &str) -> Option<Vec<PathBuf>> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        println!("SKIPPED: ../shared is absent");
        return None;
    };
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|e| e == "tflite" || e == "onnx")
        })
        .collect();
    files.sort();
    assert!(!files.is_empty());
    Some(files)
}

/// The models that are damaged: some of our own, and the real ones where they are.
fn models() -> Vec<PathBuf> {
    let own = [
        "golden/tiny_ssd.tflite",
        "golden_onnx/classifier_qdq.onnx",
        "golden_onnx/classifier_dynamic.onnx",
        "golden_onnx/ssd_head_codes.onnx",
        "golden_onnx/shuffled_groups_qdq.onnx",
        "quantize/colours_float.onnx",
    ];
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let own = own.into_iter().map(|path| tests.join(path));
    let shared = files(SHARED).into_iter().flatten();
    own.chain(shared).filter(|path| is_read(path)).collect()
}

/// Whether this build reads the format of a file.
fn is_read(path: &Path) -> bool {
    cfg!(feature = "tract") || path.extension().is_some_and(|end| end == "tflite")
}

fn name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

/// Whether a copy is compiled and run, not only loaded.
fn is_run(size: usize, round: usize) -> bool {
    let is_small = size < SMALL;
    is_small || round % SPARSE == 1 || std::env::var("EYAS_HOSTILE").is_ok_and(|how| how == "full")
}

/// Loads a file that may be damaged. Whatever loads is a graph that passes its own checks, and if `runs`, compiles and
/// gives an answer, or is refused.
fn attempt(bytes: &[u8], what: &str, runs: bool) {
    let start = Instant::now();
    let loaded = model::load(bytes, "damaged");
    let time = start.elapsed();
    assert!(time < PATIENCE, "{what} took {time:?}");
    match loaded {
        Ok(model) => {
            match &model.program {
                Program::Graph(graph) => graph.validate("damaged").unwrap(),
                Program::Onnx(_) => as_graph(bytes),
            }
            if runs {
                answer(&model, what);
                // Float engines take their time with large models.
                if bytes.len() < SMALL
                    && let Ok(model) = model::load_dequantized(bytes, "damaged")
                {
                    answer(&model, what);
                }
            }
        }
        Err(error) => {
            let message = error.to_string();
            assert!(message.starts_with("damaged: "), "{what}: {message}");
            assert!(message.len() < 4096, "{what}: {message}");
        }
    }
}

/// A float file becomes a graph that passes its own checks, or is refused.
fn as_graph(bytes: &[u8]) {
    match model::load_graph(bytes, "damaged").map(|model| model.program) {
        Ok(Program::Graph(graph)) => graph.validate("damaged").unwrap(),
        Ok(Program::Onnx(_)) => panic!("no graph"),
        Err(error) => assert!(error.to_string().starts_with("damaged: "), "{error}"),
    }
}

/// Compiles a model, and runs it on zeros if that is not too much.
fn answer(model: &Model, what: &str) {
    let start = Instant::now();
    let result = engine::load(model, Options::default()).and_then(|mut engine| {
        let macs: u64 = engine.steps().iter().map(|step| step.macs).sum();
        if macs > MOST_MACS {
            return Ok(());
        }
        let inputs = engine.inputs().to_vec();
        for (index, info) in inputs.iter().enumerate() {
            let elements = info.shape.elements();
            let zeros = match info.dtype {
                DType::U8 => TensorData::U8(vec![0; elements]),
                DType::I8 => TensorData::I8(vec![0; elements]),
                DType::I32 => TensorData::I32(vec![0; elements]),
                DType::F32 => TensorData::F32(vec![0.0; elements]),
            };
            engine.set_input(index, zeros.view())?;
        }
        engine.run()?;
        for (index, info) in engine.outputs().iter().enumerate() {
            assert_eq!(engine.output(index).len(), info.shape.elements(), "{what}");
        }
        Ok(())
    });
    if let Err(error) = result {
        let message = error.to_string();
        assert!(message.contains("damaged: "), "{what}: {message}");
        assert!(message.len() < 4096, "{what}: {message}");
    }
    let time = start.elapsed();
    assert!(time < ENGINE_PATIENCE, "{what} took {time:?} in the engine");
}

/// Asserts that the process never had more than [`MEMORY`], where the system tells.
fn assert_little_memory() {
    match eyas::telemetry::system::peak_rss_bytes() {
        Some(peak) => {
            println!("peak memory {} MiB", peak >> 20);
            assert!(peak < MEMORY, "{} MiB", peak >> 20);
        }
        None => println!("SKIPPED: this system does not tell the peak memory"),
    }
}

#[test]
fn truncated_models_are_refused_or_answered() {
    for path in models() {
        let bytes = std::fs::read(&path).unwrap();
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let random = std::iter::repeat_with(|| random.below(bytes.len())).take(TRUNCATIONS);
        for (round, length) in random.chain(0..32).enumerate() {
            let what = format!("{} cut to {length}", name(&path));
            attempt(&bytes[..length], &what, is_run(length, round));
        }
    }
    assert_little_memory();
}

/// A third of the damages falls anywhere, two thirds on the first and last 16 KiB, where most structure lies.
#[test]
fn damaged_models_are_refused_or_answered() {
    for path in models() {
        let mut bytes = std::fs::read(&path).unwrap();
        let mut random = Random(0xd1b5_4a32_d192_ed03);
        for round in 0..DAMAGES {
            let flips = if round % 2 == 0 {
                1
            } else {
                1 + random.below(16)
            };
            let mut damage = Vec::new();
            for _ in 0..flips {
                let edge = bytes.len().min(16 << 10);
                let position = match round % 3 {
                    0 => random.below(bytes.len()),
                    1 => random.below(edge),
                    _ => bytes.len() - 1 - random.below(edge),
                };
                let bit = 1u8 << random.below(8);
                bytes[position] ^= bit;
                damage.push((position, bit));
            }
            let what = format!("{} with flips {damage:?}", name(&path));
            attempt(&bytes, &what, is_run(bytes.len(), round));
            for (position, bit) in damage {
                bytes[position] ^= bit;
            }
        }
    }
    assert_little_memory();
}

/// Extreme words in place of offsets, counts, shapes and options.
#[test]
fn extreme_numbers_are_refused_or_answered() {
    for path in models() {
        let good = std::fs::read(&path).unwrap();
        if good.len() > 400_000 {
            continue;
        }
        let mut bytes = good.clone();
        let mut random = Random(0x2545_f491_4f6c_dd1d);
        for round in 0..DAMAGES {
            let position = random.below(bytes.len() / 4) * 4;
            for word in [0, 1, -1, i32::MAX, i32::MIN, 1 << 16] {
                bytes[position..position + 4].copy_from_slice(&word.to_le_bytes());
                let what = format!("{} with {word} at {position}", name(&path));
                attempt(&bytes, &what, is_run(good.len(), round));
            }
            bytes[position..position + 4].copy_from_slice(&good[position..position + 4]);
        }
    }
    assert_little_memory();
}

#[test]
fn refusals_say_what_to_do() {
    let expected = [
        (
            "invalid/git_lfs_pointer.tflite",
            vec!["Git LFS pointer", "git lfs pull"],
        ),
        (
            "invalid/mobilenet_v1_0.25_128_quant_edgetpu.tflite",
            vec!["operator 0 (edgetpu-custom-op)", "_edgetpu"],
        ),
        (
            "invalid/model_invoking_error.tflite",
            vec!["operator 0 (", "is not supported"],
        ),
    ];
    if files(SHARED).is_none() {
        return;
    }
    for (file, parts) in expected {
        let error = model::load_file(Path::new(&format!("{SHARED}/{file}"))).unwrap_err();
        let message = error.to_string();
        println!("{message}");
        for part in parts {
            assert!(message.contains(part), "{message} lacks {part}");
        }
    }
}

#[test]
fn every_real_model_loads() {
    let derived = format!("{SHARED}/derived");
    let folders = [SHARED, &derived].into_iter().filter_map(files);
    for path in folders.flatten().filter(|path| is_read(path)) {
        let name = name(&path);
        match model::load_file(&path).unwrap().program {
            Program::Graph(graph) => {
                println!("{name}: {} nodes", graph.nodes.len());
                assert!(name.ends_with(".tflite") || name.contains("qdq"), "{name}");
            }
            Program::Onnx(file) => {
                assert!(name.contains("float") && name.ends_with(".onnx"), "{name}");
                assert!(file.operators().count() > 0);
            }
        }
    }
}
