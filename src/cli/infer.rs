//! `eyas infer`: raw tensors in, raw tensors out.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{load, npy};
use crate::engine::{self, Engine};
use crate::error::{Error, Result};
use crate::kernels::Isa;
use crate::model::Model;
use crate::tensor::{Shape, TensorData, TensorInfo, TensorView};

/// Runs a model once on tensors from .npy files and writes what it answers as .npy files.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The model: a .tflite or .onnx file, or a name from `eyas models list` [default: codes, the built-in model]
    #[arg(short, long, value_name = "FILE|NAME")]
    model: Option<PathBuf>,
    /// A .npy file for each input, in the model's order
    #[arg(long, value_name = "X.npy")]
    input: Vec<PathBuf>,
    /// Write every intermediate value too
    #[arg(long)]
    all: bool,
    /// Folder for the .npy files and their index.json; made if it is not there
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Threads of one inference
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: u16,
    /// The instruction set to use at most: scalar, neon, neon_dot, avx2 or avx512_vnni
    #[arg(long, value_name = "NAME")]
    isa: Option<Isa>,
    /// Run a quantized model with float weights if it has operators without an integer kernel
    #[arg(long)]
    allow_float: bool,
}

/// Runs the command.
pub fn run(args: Args) -> Result<()> {
    let options = engine::Options {
        threads: usize::from(args.threads),
        isa: args.isa,
        keep_intermediates: args.all,
    };
    let path = args.model.as_deref();
    let (model, mut engine) = load::load_engine(path, args.allow_float, options, |_| Ok(()))?;
    set_inputs(engine.as_mut(), &args.input, &model)?;
    engine.run()?;
    std::fs::create_dir_all(&args.out)
        .map_err(Error::io(format!("make the folder {}", args.out.display())))?;
    let index = write_tensors(engine.as_ref(), &args.out, args.all)?;
    let path = args.out.join("index.json");
    let text = serde_json::to_string_pretty(&index)
        .map_err(|error| Error::Internal(format!("index.json: {error}")))?;
    std::fs::write(&path, text + "\n").map_err(Error::io(format!("write {}", path.display())))
}

/// Inputs are taken in the file's layout, pictures also as `[batch, height, width, channels]`.
fn set_inputs(engine: &mut dyn Engine, files: &[PathBuf], model: &Model) -> Result<()> {
    let (taken, model_name) = (engine.inputs().to_vec(), &model.name);
    let mut expected = taken.clone();
    for &position in &model.nchw_inputs {
        if let Some([batch, height, width, channels]) = taken[position].shape.nhwc() {
            expected[position].shape = Shape::from([batch, channels, height, width]);
        }
    }
    if files.len() != expected.len() {
        let wanted: Vec<String> = expected.iter().map(describe).collect();
        return Err(Error::Usage(format!(
            "{model_name} has {} inputs, --input was given {} times; give one .npy file for each: {}",
            expected.len(),
            files.len(),
            wanted.join("; ")
        )));
    }
    for (index, (file, info)) in files.iter().zip(&expected).enumerate() {
        let (mut shape, mut data) = read_input(file, info)?;
        if shape == info.shape && shape != taken[index].shape {
            data = interleaved(&data, &shape);
            shape = taken[index].shape.clone();
        }
        if shape != taken[index].shape || data.view().dtype() != info.dtype {
            return Err(Error::Data {
                file: file.display().to_string(),
                reason: format!(
                    "{} {shape} where the model takes {}",
                    data.view().dtype(),
                    describe(info)
                ),
            });
        }
        engine.set_input(index, data.view())?;
    }
    Ok(())
}

/// Elements from `[batch, channels, height, width]` to `[batch, height, width, channels]`.
fn interleaved(data: &TensorData, shape: &Shape) -> TensorData {
    fn permuted<T: Copy>(data: &[T], channels: usize, plane: usize) -> Vec<T> {
        let pictures = data.chunks_exact((channels * plane).max(1));
        let pixels = pictures.flat_map(|picture| (0..plane).map(move |at| &picture[at..]));
        pixels
            .flat_map(|rest| rest.iter().step_by(plane).copied())
            .collect()
    }
    let Some([_, channels, height, width]) = shape.nhwc() else {
        return data.clone();
    };
    let plane = height * width;
    match data {
        TensorData::U8(data) => TensorData::U8(permuted(data, channels, plane)),
        TensorData::I8(data) => TensorData::I8(permuted(data, channels, plane)),
        TensorData::I32(data) => TensorData::I32(permuted(data, channels, plane)),
        TensorData::F32(data) => TensorData::F32(permuted(data, channels, plane)),
    }
}

fn read_input(file: &Path, info: &TensorInfo) -> Result<(Shape, TensorData)> {
    const PICTURES: [&str; 7] = ["png", "jpg", "jpeg", "bmp", "gif", "webp", "tiff"];
    let extension = file.extension().unwrap_or_default().to_string_lossy();
    if PICTURES.contains(&extension.to_ascii_lowercase().as_str()) {
        return Err(Error::Usage(format!(
            "{}: infer takes raw tensors, not pictures; save the pixels as .npy ({}), or use `eyas detect`",
            file.display(),
            describe(info)
        )));
    }
    npy::read(file)
}

fn describe(info: &TensorInfo) -> String {
    format!("{}: {} {}", info.name, info.dtype, info.shape)
}

/// The contents of `index.json`.
#[derive(Debug, Serialize)]
struct Index {
    outputs: Vec<Entry>,
    intermediates: Vec<Entry>,
}

/// One tensor that was written. `scale` and `zero_point` are null for real values and plain integers, numbers
/// for per-tensor quantization, lists for per-channel quantization.
#[derive(Debug, Serialize)]
struct Entry {
    name: String,
    file: String,
    shape: Vec<usize>,
    dtype: &'static str,
    scale: Option<OneOrMany<f32>>,
    zero_point: Option<OneOrMany<i32>>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T: Copy> OneOrMany<T> {
    fn new(values: &[T]) -> Self {
        match values {
            &[value] => Self::One(value),
            values => Self::Many(values.to_vec()),
        }
    }
}

fn write_tensors(engine: &dyn Engine, out: &Path, all: bool) -> Result<Index> {
    let mut index = Index {
        outputs: Vec::new(),
        intermediates: Vec::new(),
    };
    for (position, info) in engine.outputs().iter().enumerate() {
        let file = file_name("output", position, &info.name);
        let entry = write_tensor(info, engine.output(position), out, file)?;
        index.outputs.push(entry);
    }
    if all {
        for (position, (info, data)) in engine.intermediates().iter().enumerate() {
            let file = file_name("value", position, &info.name);
            let entry = write_tensor(info, data.view(), out, file)?;
            index.intermediates.push(entry);
        }
    }
    Ok(index)
}

fn write_tensor(
    info: &TensorInfo,
    data: TensorView<'_>,
    out: &Path,
    file: String,
) -> Result<Entry> {
    npy::write(&out.join(&file), &info.shape, data)?;
    let quant = info.quant.as_ref();
    Ok(Entry {
        name: info.name.clone(),
        file,
        shape: info.shape.dims().to_vec(),
        dtype: info.dtype.name(),
        scale: quant.map(|quant| OneOrMany::new(&quant.scales)),
        zero_point: quant.map(|quant| OneOrMany::new(&quant.zero_points)),
    })
}

/// `output_000_box_head.npy`: unique by its position, with no character that a file system or shell minds, and
/// not too long for either.
fn file_name(kind: &str, position: usize, name: &str) -> String {
    let safe = |c: char| match c {
        c if c.is_ascii_alphanumeric() || "-_.".contains(c) => c,
        _ => '_',
    };
    let name: String = name.chars().map(safe).take(80).collect();
    format!("{kind}_{position:03}_{name}.npy")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::{DType, QuantParams};

    #[test]
    fn file_names_cannot_leave_the_folder() {
        assert_eq!(file_name("output", 2, "a/b:0"), "output_002_a_b_0.npy");
        assert_eq!(file_name("value", 0, "../../x"), "value_000_.._.._x.npy");
        assert!(file_name("value", 0, &"x".repeat(500)).len() < 100);
    }

    #[test]
    fn planes_become_pixels() {
        let planes = TensorData::U8(vec![1, 2, 3, 10, 20, 30]);
        let pixels = interleaved(&planes, &Shape::from([1, 2, 1, 3]));
        assert_eq!(pixels, TensorData::U8(vec![1, 10, 2, 20, 3, 30]));
    }

    #[test]
    fn pictures_are_refused_with_what_is_wanted() {
        let info = TensorInfo {
            name: "image".into(),
            shape: Shape::from([1, 8, 8, 3]),
            dtype: DType::U8,
            quant: None,
        };
        let message = read_input(Path::new("cat.JPG"), &info).unwrap_err();
        assert!(matches!(message, Error::Usage(_)));
        assert!(
            message.to_string().contains("uint8 [1, 8, 8, 3]"),
            "{message}"
        );
    }

    #[test]
    fn the_index_tells_how_codes_become_real_values() {
        let directory = tempfile::tempdir().unwrap();
        let info = TensorInfo {
            name: "x".into(),
            shape: Shape::from([2]),
            dtype: DType::U8,
            quant: Some(QuantParams::per_tensor(0.5, 128)),
        };
        let entry = write_tensor(
            &info,
            TensorView::U8(&[1, 2]),
            directory.path(),
            "x.npy".into(),
        );
        let json = serde_json::to_string(&entry.unwrap()).unwrap();
        assert_eq!(
            json,
            r#"{"name":"x","file":"x.npy","shape":[2],"dtype":"uint8","scale":0.5,"zero_point":128}"#
        );
    }
}
