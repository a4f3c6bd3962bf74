//! A float model becomes a quantized one: calibration, ranges, codes, and what they cost.
//!
//! ```text
//! Model -> prepare -> Graph -> calibrate -> Statistics -> lower -> Lowered -> tflite or onnx::write -> bytes
//!                                                                     |
//!                                                                 simulate -> Graph
//! ```
//!
//! A [`lower::Lowered`] is the quantized file in our words. It is written, and it is simulated: a float graph that
//! rounds where the file does says what a format costs, also where eyas has no kernels for it.

mod bias;
pub mod calibrate;
pub mod codes;
mod dilate;
mod equalize;
pub mod histogram;
mod judge;
pub mod lower;
pub mod method;
#[cfg(not(feature = "tract"))]
#[path = "no_onnx.rs"]
mod onnx;
#[cfg(feature = "tract")]
mod onnx;
mod pictures;
mod prepare;
pub mod report;
#[cfg(test)]
mod sample;
pub mod scheme;
mod sensitivity;
mod share;
mod simulate;
mod study;
mod tflite;

use std::collections::BTreeSet;

use calibrate::Statistics;
use codes::{Activations, Granularity, WeightFormat, WeightScale};
use judge::Reference;
use lower::{InputType, Lowered};
use method::Method;
pub use pictures::Pictures;
use report::Report;
use scheme::{KeptAs, Mode, Settings};
use sensitivity::{Outputs, Sensitivity};

use crate::error::{Error, Result};
use crate::graph::{Graph, Op, ValueId};
use crate::model::{self, Metadata, Model, Normalization, Program};

/// Pictures that a choice between settings is made on.
const CHOICE_PICTURES: usize = 8;

/// Pictures that each operator's sensitivity is measured on.
const SENSITIVITY_PICTURES: usize = 4;

/// Pictures that layers are compared on.
const LAYER_PICTURES: usize = 16;

/// Whether something is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// Where a simulation on some of the pictures shows less noise at the outputs.
    #[default]
    Auto,
    On,
    Off,
}

/// Operators that stay at a higher precision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    #[default]
    None,
    /// This many, the most sensitive ones.
    MostSensitive(usize),
    /// Those that make the values of these names.
    Named(Vec<String>),
}

/// What file is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    #[default]
    Tflite,
    /// ONNX: float operators between QuantizeLinear and DequantizeLinear.
    Onnx,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Request {
    pub format: Format,
    pub mode: Mode,
    pub granularity: Granularity,
    pub method: Method,
    pub input: InputType,
    pub keep: Keep,
    pub kept_as: KeptAs,
    pub bias_correction: Choice,
    pub equalization: Choice,
    /// Simulate other sizes of codes too.
    pub study: bool,
    /// Rank every operator by its sensitivity.
    pub rank: bool,
}

/// A quantized model and what it costs.
#[derive(Clone, Debug)]
pub struct Quantized {
    /// The file, of the format asked for.
    pub file: Vec<u8>,
    /// The model that the report judges: the file, or a simulation where eyas has no kernels for it.
    pub judged: Model,
    pub report: Report,
}

/// Says how far long work is.
pub struct Progress<'a>(pub &'a mut dyn FnMut(&str, usize, usize));

impl Progress<'_> {
    /// `done` of `all` steps of `work` are done.
    fn step(&mut self, work: &str, done: usize, all: usize) {
        (self.0)(work, done, all);
    }
}

/// The real input of a float model and how bytes become it: as `stated`, else as the file says, else
/// `(byte - 127.5) / 127.5`.
///
/// # Errors
/// The model has not one input.
pub fn input_of(
    model: &Model,
    stated: Option<Normalization>,
) -> Result<(crate::tensor::TensorInfo, Normalization)> {
    let inputs = match &model.program {
        Program::Graph(graph) => &graph.inputs[..],
        Program::Onnx(_) => &[],
    };
    let (Program::Graph(graph), &[input]) = (&model.program, inputs) else {
        return Err(Error::Unsupported {
            model: model.name.clone(),
            feature: match &model.program {
                Program::Onnx(_) => "quantizing what is not a graph".into(),
                Program::Graph(_) => format!("quantizing a model of {} inputs", inputs.len()),
            },
            advice: "pass a float .tflite or .onnx file whose only input is a picture".into(),
        });
    };
    let normalization = stated.or_else(|| model.metadata.normalization.clone());
    let normalization = normalization.unwrap_or_else(|| Normalization {
        mean: vec![127.5],
        std: vec![127.5],
    });
    Ok((graph.info(input).clone(), normalization))
}

/// The values that the detection post-processing reads, or the outputs of a graph without.
fn heads(graph: &Graph) -> Vec<ValueId> {
    let post = graph
        .nodes
        .iter()
        .find(|node| matches!(node.op, Op::DetectionPostProcess(_)));
    match post {
        Some(post) => post.inputs[..2].to_vec(),
        None => graph.outputs.clone(),
    }
}

/// Quantizes a float model by what pictures show of it. `size` is that of its file.
///
/// # Errors
/// The model is not float, has an operator that the float engine or the file's format lacks, or is not finite on a
/// picture; a name in [`Keep::Named`] is unknown.
pub fn quantize(
    model: &Model,
    size: u64,
    pictures: &Pictures,
    request: &Request,
    mut progress: Progress<'_>,
) -> Result<Quantized> {
    let progress = &mut progress;
    let name = model.name.as_str();
    let graph = prepare::prepare(model)?;
    if request.format == Format::Onnx {
        onnx::check(&graph, request.mode, name)?;
    }
    let calibration = calibrate::calibrate(&graph, name, pictures, request.method, progress)?;
    let mut work = Work {
        name,
        pictures,
        settings: request.settings(),
        graph,
        statistics: calibration.statistics,
        reference: calibration.reference,
    };
    let is_ranked = request.rank || matches!(request.keep, Keep::MostSensitive(1..));
    let ranking = match is_ranked {
        true => work.rank(progress)?,
        false => Vec::new(),
    };
    work.settings.kept = request.keep.positions(&work.graph, &ranking, name)?;
    let refinements = work.refine(request, progress)?;
    let lowered = work.lower(request.input);
    let metadata = Metadata {
        normalization: Some(pictures.normalization().clone()),
        ..model.metadata.clone()
    };
    let file = match request.format {
        Format::Tflite => tflite::write(&lowered, &metadata, name)?,
        Format::Onnx => onnx::write(&lowered, &metadata, &onnx::Interface::of(model), name)?,
    };
    let (judged, is_measured) = judged(&work, &lowered, &file)?;
    let report = report::measure(
        report::Inputs {
            work: &work,
            method: request.method,
            lowered: &lowered,
            model: &judged,
            is_measured,
            size: file.len() as u64,
            float_size: size,
            ranking,
            refinements,
            study: request.study,
        },
        progress,
    )?;
    Ok(Quantized {
        file,
        judged,
        report,
    })
}

/// A graph on its way to codes.
struct Work<'a> {
    name: &'a str,
    pictures: &'a Pictures,
    settings: Settings,
    graph: Graph,
    statistics: Statistics,
    reference: Reference,
}

/// What was done to the weights before they were quantized.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Refinements {
    pub equalization: bool,
    pub bias_correction: bool,
}

impl Request {
    fn settings(&self) -> Settings {
        Settings {
            mode: self.mode,
            weights: WeightFormat {
                bits: 8,
                granularity: self.granularity,
                scale: match self.method {
                    Method::Mse => WeightScale::LeastError,
                    _ => WeightScale::Largest,
                },
            },
            kept: BTreeSet::new(),
            kept_as: self.kept_as,
            bias_correction: false,
        }
    }
}

impl Keep {
    fn positions(
        &self,
        graph: &Graph,
        ranking: &[Sensitivity],
        model: &str,
    ) -> Result<BTreeSet<usize>> {
        match self {
            Self::None => Ok(BTreeSet::new()),
            Self::MostSensitive(count) => Ok(ranking
                .iter()
                .take(*count)
                .map(|entry| entry.node)
                .collect()),
            Self::Named(names) => {
                let position = |name: &String| {
                    let makes = |node: &crate::graph::Node| {
                        node.outputs.iter().any(|id| graph.info(*id).name == *name)
                    };
                    graph.nodes.iter().position(makes).ok_or_else(|| {
                        Error::Usage(format!(
                            "no operator of {model} makes a value named `{name}`; the report (--report FILE.json) lists their names"
                        ))
                    })
                };
                names.iter().map(position).collect()
            }
        }
    }
}

impl Work<'_> {
    fn lower(&self, input: InputType) -> Lowered {
        let range = match input {
            InputType::Float32 => self.pictures.input_range(),
            InputType::UInt8 | InputType::Int8 => self.pictures.range(),
        };
        lower::lower(
            &self.graph,
            &self.statistics,
            &self.settings,
            (input, range),
        )
    }

    fn rank(&self, progress: &mut Progress<'_>) -> Result<Vec<Sensitivity>> {
        let few = self.pictures.sample(SENSITIVITY_PICTURES);
        sensitivity::rank(
            &self.graph,
            &self.statistics,
            &self.settings,
            self.name,
            &few,
            progress,
        )
    }

    /// Equalizes and corrects biases as asked, or where it helps. What helps is tried on a few pictures, with ranges
    /// that follow from them alone.
    fn refine(&mut self, request: &Request, progress: &mut Progress<'_>) -> Result<Refinements> {
        let Request {
            equalization,
            bias_correction,
            method,
            ..
        } = *request;
        self.settings.bias_correction = bias_correction == Choice::On;
        let mut refinements = Refinements {
            equalization: equalization == Choice::On,
            bias_correction: bias_correction == Choice::On,
        };
        if equalization == Choice::Auto || bias_correction == Choice::Auto {
            self.choose(request, &mut refinements, progress)?;
        }
        if refinements.equalization {
            self.graph = equalize::equalize(&self.graph, &self.statistics);
            // The answers stay those of the graph as it was.
            let calibration =
                calibrate::calibrate(&self.graph, self.name, self.pictures, method, progress)?;
            self.statistics = calibration.statistics;
        }
        self.settings.bias_correction = refinements.bias_correction;
        Ok(refinements)
    }

    /// Tries what is left to choose.
    fn choose(
        &self,
        request: &Request,
        refinements: &mut Refinements,
        progress: &mut Progress<'_>,
    ) -> Result<()> {
        let few = self.pictures.sample(CHOICE_PICTURES);
        let outputs = Outputs::new(&self.graph, self.name, &few)?;
        let mut settings = self.settings.clone();
        let mut seen = |graph: &Graph| {
            let seen = calibrate::calibrate(graph, self.name, &few, request.method, progress)?;
            Ok(seen.statistics)
        };
        let decibels = |graph: &Graph, seen: &Statistics, settings: &Settings| {
            outputs.decibels(graph, seen, settings, self.name, &few)
        };
        let mut tried = Vec::new();
        for is_equalized in [false, true] {
            let graph = match (is_equalized, request.equalization) {
                (true, Choice::Off) | (false, Choice::On) => continue,
                (true, _) => equalize::equalize(&self.graph, &self.statistics),
                (false, _) => self.graph.clone(),
            };
            let seen = seen(&graph)?;
            let plain = decibels(&graph, &seen, &settings)?;
            tried.push((plain, is_equalized, graph, seen));
        }
        let better = tried
            .into_iter()
            .reduce(|best, next| if next.0 > best.0 { next } else { best });
        let Some((plain, is_equalized, graph, seen)) = better else {
            return Ok(());
        };
        refinements.equalization = is_equalized;
        if request.bias_correction == Choice::Auto {
            settings.bias_correction = true;
            refinements.bias_correction = decibels(&graph, &seen, &settings)? > plain;
        }
        Ok(())
    }
}

/// The model to judge a quantized file by: the file itself, or a simulation where eyas has no kernels for it.
fn judged(work: &Work<'_>, lowered: &Lowered, file: &[u8]) -> Result<(Model, bool)> {
    let uses_int16 = lowered
        .tensors
        .iter()
        .any(|tensor| tensor.element == lower::Element::I16);
    if !uses_int16 {
        match model::load(file, work.name) {
            // Real products between codes are not run from .onnx files.
            Err(Error::Unsupported { feature, .. }) if !work.settings.kept.is_empty() => {
                log::warn!(
                    "{}: eyas does not run {feature}; it is simulated",
                    work.name
                );
            }
            loaded => return Ok((loaded?, true)),
        }
    }
    let simulated = simulate::simulate(lowered);
    let metadata = Metadata {
        normalization: Some(work.pictures.normalization().clone()),
        ..Metadata::default()
    };
    let model = Model::of_graph(work.name, simulated, metadata);
    Ok((model, false))
}

/// Activations of a mode, in bits.
fn activation_bits(mode: Mode) -> u8 {
    match mode {
        Mode::Static(Activations::Int8) => 8,
        Mode::Static(Activations::Int16) => 16,
        Mode::Dynamic | Mode::Weights => 32,
    }
}
