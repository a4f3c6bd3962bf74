//! Damaged, hostile and mistaken model files give an answer or an error, soon.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use eyas::model::{self, Program};

const SHARED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/models");

/// Truncations and damaged copies tried for each model.
const TRUNCATIONS: usize = 50;
const DAMAGES: usize = 200;

/// The longest that one file may take to load or be refused.
const PATIENCE: Duration = Duration::from_secs(5);

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

fn name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

/// Loads a file that may be damaged. Whatever loads is a graph that passes its own checks.
fn attempt(bytes: &[u8], what: &str) {
    let start = Instant::now();
    match model::load(bytes, "damaged") {
        Ok(model) => {
            if let Program::Graph(graph) = model.program {
                graph.validate("damaged").unwrap();
            }
        }
        Err(error) => {
            let message = error.to_string();
            assert!(message.starts_with("damaged: "), "{what}: {message}");
            assert!(message.len() < 4096, "{what}: {message}");
        }
    }
    assert!(
        start.elapsed() < PATIENCE,
        "{what} took {:?}",
        start.elapsed()
    );
}

#[test]
fn truncated_models_are_refused_or_answered() {
    for path in files(SHARED).into_iter().flatten() {
        let bytes = std::fs::read(&path).unwrap();
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        for _ in 0..TRUNCATIONS {
            let length = random.below(bytes.len());
            attempt(
                &bytes[..length],
                &format!("{} cut to {length}", name(&path)),
            );
        }
        for length in 0..32 {
            attempt(
                &bytes[..length],
                &format!("{} cut to {length}", name(&path)),
            );
        }
    }
}

/// A third of the damages falls anywhere, two thirds on the first and last 16 KiB, where most structure lies.
#[test]
fn damaged_models_are_refused_or_answered() {
    for path in files(SHARED).into_iter().flatten() {
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
            attempt(&bytes, &format!("{} with flips {damage:?}", name(&path)));
            for (position, bit) in damage {
                bytes[position] ^= bit;
            }
        }
    }
}

/// Extreme words in place of offsets, counts, shapes and options.
#[test]
fn extreme_numbers_are_refused_or_answered() {
    for path in files(SHARED).into_iter().flatten() {
        let good = std::fs::read(&path).unwrap();
        if good.len() > 400_000 {
            continue;
        }
        let mut bytes = good.clone();
        let mut random = Random(0x2545_f491_4f6c_dd1d);
        for _ in 0..DAMAGES {
            let position = random.below(bytes.len() / 4) * 4;
            for word in [0, 1, -1, i32::MAX, i32::MIN, 1 << 16] {
                bytes[position..position + 4].copy_from_slice(&word.to_le_bytes());
                attempt(
                    &bytes,
                    &format!("{} with {word} at {position}", name(&path)),
                );
            }
            bytes[position..position + 4].copy_from_slice(&good[position..position + 4]);
        }
    }
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
        (
            "mobilenet_v2_1.0_224_qdq_int8.onnx",
            vec!["operator 0 (DequantizeLinear)", "quantized .tflite"],
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
fn every_tflite_model_loads() {
    for path in files(SHARED).into_iter().flatten() {
        match model::load_file(&path) {
            Ok(model) => match model.program {
                Program::Graph(graph) => {
                    println!("{}: {} nodes", name(&path), graph.nodes.len());
                    assert!(name(&path).ends_with(".tflite"));
                }
                Program::Onnx(bytes) => {
                    assert!(name(&path).ends_with("_float.onnx") && !bytes.is_empty());
                }
            },
            Err(error) => assert!(name(&path).contains("qdq"), "{error}"),
        }
    }
}
