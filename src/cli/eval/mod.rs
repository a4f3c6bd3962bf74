//! `eyas eval`: how good models are on labelled pictures.

mod boxes;
mod folders;
pub(super) mod pair;
mod results;
mod text;

use std::path::{Path, PathBuf};

use super::dataset::DatasetArgs;
use super::load::{self, ModelArgs};
use super::reading::ReadingArgs;
use crate::dataset::{Contents, Keep, look};
use crate::error::{Error, Result};
use crate::eval::classes::Renames;
use crate::kernels::Isa;

/// Detections below this confidence are left out: those above it are what average precision asks for, and there
/// are few enough.
const CONFIDENCE: f32 = 0.001;

/// Measures how good a model is on a labelled data set, or compares two
///
/// Detectors: COCO mAP on a COCO, YOLO or VOC data set, as pycocotools computes it. Classifiers: top-1 and top-5 on a
/// folder with a folder of pictures for each class.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    dataset: DatasetArgs,
    /// Model file, or a name from `eyas models list`; twice to compare two [default: codes, the built-in model]
    #[arg(short, long, value_name = "FILE|NAME")]
    model: Vec<PathBuf>,
    /// Label file of the model, one for each if there are two [default: the labels that come with the model]
    #[arg(short, long, value_name = "FILE")]
    labels: Vec<PathBuf>,
    /// Evaluate the detections in this COCO results file, as any program writes it, in place of a model
    #[arg(long, value_name = "FILE", conflicts_with = "model")]
    detections: Option<PathBuf>,
    /// Write what the model finds as a COCO results file
    #[arg(long, value_name = "FILE", conflicts_with = "detections")]
    save_detections: Option<PathBuf>,
    /// Lines `model name = dataset name` for classes that are called otherwise
    #[arg(long, value_name = "FILE")]
    class_map: Option<PathBuf>,
    /// Leave out detections below this confidence [default: 0.001]
    #[arg(short, long, value_name = "0..1", value_parser = load::parse_confidence)]
    confidence: Option<f32>,
    /// Only the first N pictures
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Also the mAP of Pascal VOC at this IoU [default: 0.5]
    #[arg(long, value_name = "IOU", num_args = 0..=1, require_equals = true, default_missing_value = "0.5", value_parser = parse_iou)]
    voc: Option<f64>,
    /// A table of all classes
    #[arg(long)]
    per_class: bool,
    /// Print one object of JSON
    #[arg(long)]
    json: bool,
    /// Threads that one inference may use [default: the CPU's cores, at most 4]
    #[arg(long, value_name = "N", value_parser = load::parse_threads)]
    threads: Option<usize>,
    /// Instruction set to use at most: scalar, neon, neon_dot, avx2, avx512_vnni
    #[arg(long, value_name = "NAME", value_parser = load::parse_isa)]
    isa: Option<Isa>,
    /// Run a quantized model with float weights, slowly, if it has operators without an integer kernel
    #[arg(long)]
    allow_float: bool,
    #[command(flatten)]
    reading: ReadingArgs,
}

/// Runs the command.
pub(super) fn run(args: &Args) -> Result<()> {
    let models = models(args)?;
    match look(&args.dataset.query(Keep::Boxes))? {
        Contents::Boxes => boxes::run(args, &models),
        Contents::ClassFolders(folders) => folders::run(args, &models, folders),
    }
}

/// The flags of each model: none if detections are read from a file.
fn models(args: &Args) -> Result<Vec<ModelArgs>> {
    let names = match (&args.model[..], &args.detections) {
        (_, Some(_)) => Vec::new(),
        ([], None) => vec![None],
        (names @ ([_] | [_, _]), None) => names.iter().cloned().map(Some).collect(),
        _ => return Err(Error::Usage("-m: at most two models are compared".into())),
    };
    if args.labels.len() > names.len() {
        return Err(Error::Usage(format!(
            "-l was given {} times for {} models",
            args.labels.len(),
            names.len()
        )));
    }
    if names.len() == 2 && args.save_detections.is_some() {
        return Err(Error::Usage("--save-detections is for one model".into()));
    }
    let model = |(index, model)| ModelArgs {
        model,
        labels: args.labels.get(index).cloned(),
        confidence: Some(args.confidence.unwrap_or(CONFIDENCE)),
        threads: args.threads,
        isa: args.isa,
        allow_float: args.allow_float,
        agnostic_nms: false,
        reading: args.reading.clone(),
    };
    Ok(names.into_iter().enumerate().map(model).collect())
}

fn renames(class_map: Option<&Path>) -> Result<Renames> {
    let Some(path) = class_map else {
        return Ok(Renames::default());
    };
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(Error::io(format!("read {name}")))?;
    Renames::parse(&text, &name)
}

/// Above 0, at most 1.
fn parse_iou(text: &str) -> std::result::Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value <= 1.0 => Ok(value),
        _ => Err("not a number above 0, up to 1".into()),
    }
}
