//! The flags that name a model, and the way from them to a [`Detector`].

use std::path::{Path, PathBuf};

use super::models;
use super::reading::ReadingArgs;
use crate::detect::{Detector, Threshold};
use crate::engine::{self, Engine, Options};
use crate::error::{Error, Result};
use crate::graph::Op;
use crate::kernels::Isa;
use crate::model::hub::{BuiltIn, Existing, Hub, Named};
use crate::model::labels::{LabelFile, Labels};
use crate::model::{self, Model, Program};

/// Confidence threshold when neither flag nor file sets one.
pub const DEFAULT_CONFIDENCE: f32 = 0.4;

/// Flags of every command that detects.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ModelArgs {
    /// Model file (.tflite, .onnx), or a name from `eyas models list` [default: codes, the built-in model]
    #[arg(short, long, value_name = "FILE|NAME")]
    pub model: Option<PathBuf>,
    /// Label file [default: the labels that come with the model]
    #[arg(short, long, value_name = "FILE")]
    pub labels: Option<PathBuf>,
    /// Confidence threshold, 0 to 1 [default: 0.4]
    #[arg(short, long, value_name = "0..1", value_parser = parse_confidence)]
    pub confidence: Option<f32>,
    /// Threads that one inference may use [default: the CPU's cores, at most 4; `run` leaves one of four or more to
    /// the camera and the viewers]
    #[arg(long, value_name = "N", value_parser = parse_threads)]
    pub threads: Option<usize>,
    /// Instruction set to use at most: scalar, neon, neon_dot, avx2, avx512_vnni
    #[arg(long, value_name = "NAME", value_parser = parse_isa)]
    pub isa: Option<Isa>,
    /// Run a quantized model with float weights, slowly, if it has operators without an integer kernel
    #[arg(long)]
    pub allow_float: bool,
    /// Of boxes at one place keep the most confident, also if they are of several classes; the built-in model always does
    #[arg(long)]
    pub agnostic_nms: bool,
    #[command(flatten)]
    pub reading: ReadingArgs,
}

impl ModelArgs {
    /// How the engine is to be loaded.
    pub fn engine_options(&self, work: Work) -> Options {
        Options {
            threads: self.threads.unwrap_or_else(|| work.default_threads()),
            isa: self.isa,
            keep_intermediates: false,
        }
    }

    /// [`load_model`] of `-m`, its labels and its engine.
    pub fn load(&self, work: Work) -> Result<LoadedModel> {
        let options = self.engine_options(work);
        let mut labels = None;
        let (model, engine) =
            load_engine(self.model.as_deref(), self.allow_float, options, |model| {
                let file = label_file(self.labels.as_deref(), model)?;
                let read = self
                    .reading
                    .apply(model, file.as_ref().map(|(file, _)| file));
                labels = Some(resolve_labels(file, model));
                read
            })?;
        let (labels, labels_summary) = labels.unwrap_or_default();
        Ok(LoadedModel {
            model,
            labels,
            labels_summary,
            engine,
        })
    }

    /// The threshold that the flags ask for.
    pub fn threshold(&self) -> Threshold {
        Threshold::new(self.confidence.unwrap_or(DEFAULT_CONFIDENCE))
    }
}

/// The labels of a model and where they are from: the file that `-l` names, else its own.
fn label_file(stated: Option<&Path>, model: &Model) -> Result<Option<(LabelFile, String)>> {
    match (stated, &model.metadata.labels) {
        (Some(path), _) => {
            let name = path.display().to_string();
            let bytes = std::fs::read(path).map_err(Error::io(format!("read {name}")))?;
            Ok(Some((LabelFile::from_bytes(&bytes, &name)?, name)))
        }
        (None, Some(text)) => {
            let file = LabelFile::parse(text, &model.name)?;
            Ok(Some((file, model.name.clone())))
        }
        (None, None) => Ok(None),
    }
}

/// The labels of a model in memory: of the file that `-l` names, else its own.
pub fn labels(stated: Option<&Path>, model: &Model) -> Result<Labels> {
    let (labels, _) = resolve_labels(label_file(stated, model)?, model);
    Ok(labels)
}

/// Labels fitted to a model, none with a warning if it has none; and, in words, where they come from and how their ids
/// were fitted to the model's.
fn resolve_labels(file: Option<(LabelFile, String)>, model: &Model) -> (Labels, String) {
    let Some((file, name)) = file else {
        log::warn!(
            "{}: holds no labels and no label file was given (-l FILE); classes are shown by number",
            model.name
        );
        return (Labels::default(), "no labels".into());
    };
    let (labels, fitted) = Labels::resolve(file, class_count(model));
    let summary = format!("{name}: {fitted}");
    log::info!("{summary}");
    (labels, summary)
}

/// A model with what belongs to it.
pub struct LoadedModel {
    pub model: Model,
    pub labels: Labels,
    /// Where the labels come from and how they were fitted.
    pub labels_summary: String,
    pub engine: Box<dyn Engine>,
}

/// [`load_model`] and the engine that runs it, after `prepare` has finished the model. With `allow_float` a model file that
/// does not run in integers is loaded again with float weights.
pub fn load_engine(
    value: Option<&Path>,
    allow_float: bool,
    options: Options,
    mut prepare: impl FnMut(&mut Model) -> Result<()>,
) -> Result<(Model, Box<dyn Engine>)> {
    let mut start = |mut model: Model| -> Result<(Model, Box<dyn Engine>)> {
        prepare(&mut model)?;
        let engine = engine::load(&model, options)?;
        Ok((model, engine))
    };
    match (load_model(value).and_then(&mut start), value) {
        (Err(reason @ Error::Unsupported { .. }), Some(path)) if allow_float && path.is_file() => {
            let name = path.display().to_string();
            let bytes = std::fs::read(path).map_err(Error::io(format!("read {name}")))?;
            let loaded = start(model::load_dequantized(&bytes, &name)?)?;
            log::warn!(
                "{reason}. It runs with float weights instead (--allow-float), many times slower"
            );
            Ok(loaded)
        }
        (outcome, _) => outcome,
    }
}

/// Reads the model that `-m` means: an existing file; else, if it does not look like a file's name, the built-in or public
/// model of that name; the built-in one if nothing is given. A public model that is not there yet is pulled.
pub fn load_model(value: Option<&Path>) -> Result<Model> {
    let Some(path) = value else {
        return BuiltIn::DEFAULT.load();
    };
    let is_file = path.exists() && !path.is_dir();
    match path.to_str() {
        Some(name) if !is_file && !looks_like_a_file(name) => load_named(name),
        _ => model::load_file(path),
    }
}

/// Whether a value has the form of a model file's name, be there such a file or not.
fn looks_like_a_file(name: &str) -> bool {
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    let is_model = |known: &&str| ending.eq_ignore_ascii_case(known);
    name.contains(std::path::is_separator) || ["tflite", "onnx"].iter().any(is_model)
}

fn load_named(name: &str) -> Result<Model> {
    if let Some(built_in) = BuiltIn::find(name) {
        return built_in.load();
    }
    let hub = Hub::from_env()?;
    let entry = match hub.find(name)? {
        Named::BuiltIn(built_in) => return built_in.load(),
        Named::Public(entry) => entry,
    };
    if hub.path(entry).is_none() {
        models::pull(&hub, entry, Existing::Check)?;
    }
    hub.load(entry)
}

/// A detector ready to run, with what commands report of it.
pub struct LoadedDetector {
    pub detector: Detector,
    /// Shared with the detector: changing it changes what is found from the next frame on.
    pub threshold: Threshold,
    /// The model file as the user named it.
    pub model_name: String,
    pub labels: Labels,
    /// Where the labels come from and how they were fitted.
    pub labels_summary: String,
    /// [`engine::Engine::summary`] of the engine that runs it.
    pub engine_summary: String,
}

/// Model, labels and engine put together as the flags say.
pub fn load_detector(args: &ModelArgs, work: Work) -> Result<LoadedDetector> {
    load_detector_with(args, work, args.threshold())
}

/// [`load_detector`] with a threshold that others hold already, whatever the flags say of it.
pub fn load_detector_with(
    args: &ModelArgs,
    work: Work,
    threshold: Threshold,
) -> Result<LoadedDetector> {
    let LoadedModel {
        model,
        labels,
        labels_summary,
        engine,
    } = args.load(work)?;
    let engine_summary = engine.summary();
    log::info!("{}: {engine_summary}", model.name);
    let detector = Detector::new(engine, &model, labels.clone(), threshold.clone())?
        .with_agnostic_nms(args.agnostic_nms || model.metadata.agnostic_nms);
    Ok(LoadedDetector {
        detector,
        threshold,
        model_name: model.name,
        labels,
        labels_summary,
        engine_summary,
    })
}

/// The names in a label file, by id from 0; holes are called by number.
pub fn read_names(path: &Path) -> Result<Vec<String>> {
    let name = path.display().to_string();
    let bytes = std::fs::read(path).map_err(Error::io(format!("read {name}")))?;
    let (labels, _) = Labels::resolve(LabelFile::from_bytes(&bytes, &name)?, None);
    Ok((0..labels.len())
        .map(|id| labels.name(id).to_string())
        .collect())
}

/// How many class ids a model's output can take: of its detection head, without the background, else the length of its
/// only output. `None` where neither tells.
pub fn class_count(model: &Model) -> Option<usize> {
    let of_head = match &model.program {
        Program::Graph(graph) => graph.nodes.iter().find_map(|node| match &node.op {
            Op::DetectionPostProcess(options) => Some(options.num_classes),
            _ => None,
        }),
        Program::Onnx(file) => file.head().map(|head| head.options.num_classes),
    };
    of_head.or_else(|| match &model.outputs()[..] {
        [(_, dims)] => model.class_scores().or(dims.last().copied()),
        _ => None,
    })
}

/// What else the CPU does while a model runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Nothing.
    Stills,
    /// It captures frames and encodes pictures for viewers.
    Live,
}

impl Work {
    /// As many as there are cores for it.
    pub fn default_threads(self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        self.threads_of(cores)
    }

    /// Threads on so many cores. Few models gain from more than four.
    fn threads_of(self, cores: usize) -> usize {
        let spare = match self {
            Self::Live if cores >= 4 => 1,
            Self::Live | Self::Stills => 0,
        };
        (cores - spare).min(4)
    }
}

/// A number from 0 to 1.
pub fn parse_confidence(text: &str) -> std::result::Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if (0.0..=1.0).contains(&value) => Ok(value),
        _ => Err("not a number from 0 to 1".into()),
    }
}

/// A count of threads, 1 to 64.
pub fn parse_threads(text: &str) -> std::result::Result<usize, String> {
    match text.parse::<usize>() {
        Ok(threads @ 1..=64) => Ok(threads),
        _ => Err("not a whole number from 1 to 64".into()),
    }
}

/// The name of an instruction set as `EYAS_ISA` writes it.
pub fn parse_isa(text: &str) -> std::result::Result<Isa, String> {
    let unknown = |_| {
        let names = Isa::ALL.map(Isa::name).join(", ");
        format!("not one of {names}")
    };
    text.parse().map_err(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_outside_their_range_are_refused() {
        assert_eq!(parse_confidence("0.25"), Ok(0.25));
        for bad in ["1.5", "-0.1", "NaN", "x"] {
            assert!(parse_confidence(bad).is_err(), "{bad}");
        }
        assert!(parse_threads("0").is_err());
        assert_eq!(parse_isa("avx2"), Ok(Isa::Avx2));
        assert!(parse_isa("sse9").unwrap_err().contains("neon_dot"));
    }

    #[test]
    fn live_work_leaves_a_core_of_four() {
        let threads = |work: Work| [1, 2, 4, 8].map(|cores| work.threads_of(cores));
        assert_eq!(threads(Work::Stills), [1, 2, 4, 4]);
        assert_eq!(threads(Work::Live), [1, 2, 3, 4]);
    }

    #[test]
    fn the_built_in_model_runs_if_none_is_named() {
        for flags in [None, Some("codes".into())] {
            let args = ModelArgs {
                model: flags,
                ..ModelArgs::default()
            };
            let loaded = load_detector(&args, Work::Stills).unwrap();
            assert_eq!(loaded.model_name, "codes");
            assert!(
                loaded.labels_summary.starts_with("codes: "),
                "{}",
                loaded.labels_summary
            );
        }
    }

    #[test]
    fn names_of_files_are_told_from_names_of_models() {
        for file in ["a.tflite", "a.ONNX", "models/a", "./a", "/a", "../a", "a/"] {
            assert!(looks_like_a_file(file), "{file}");
        }
        for name in ["a", "coco-ssd-mobilenet-v1", "a.b", "mobilenet_v1_0.25"] {
            assert!(!looks_like_a_file(name), "{name}");
        }
        let missing = load_model(Some(Path::new("no-such.tflite"))).unwrap_err();
        assert!(
            missing
                .to_string()
                .starts_with("cannot read no-such.tflite"),
            "{missing}"
        );
    }
}
