//! What a quantization cost: layer by layer, in answers, in bytes and in time.

mod html;

use std::time::Duration;

use serde::Serialize;

use super::histogram::Range;
use super::judge::{Agreement, Measure, Record, Runner, Tally};
use super::lower::{Lowered, Tensor};
use super::method::Method;
use super::scheme::Mode;
use super::sensitivity::{Sensitivity, layer_noise};
use super::study::{Level, study};
use super::{LAYER_PICTURES, Progress, Refinements, Work, activation_bits, judged};
use crate::error::Result;

/// Columns of a plotted histogram.
const COLUMNS: usize = 48;

/// Everything that is known of a quantization.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub model: String,
    /// One line.
    pub verdict: String,
    pub mode: &'static str,
    pub weight_bits: u8,
    /// 32 where activations stay real.
    pub activation_bits: u8,
    pub weights: &'static str,
    pub method: String,
    pub refinements: Refinements,
    /// Names of the operators that were kept at a higher precision.
    pub kept: Vec<String>,
    pub float_bytes: u64,
    pub quantized_bytes: u64,
    pub speed: Speed,
    pub agreement: Agreement,
    /// Whether eyas ran the file itself; else its arithmetic was simulated.
    pub is_measured: bool,
    pub layers: Vec<Layer>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sensitivity: Vec<Sensitivity>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub study: Vec<Level>,
}

/// Median time of one inference on one thread of this machine.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Speed {
    pub float_ms: f64,
    /// `None` if eyas cannot run the file.
    pub quantized_ms: Option<f64>,
}

/// What one operator makes.
#[derive(Clone, Debug, Serialize)]
pub struct Layer {
    /// Position in the model file.
    pub operator: usize,
    pub op: &'static str,
    pub name: String,
    /// What its result is stored as.
    pub dtype: &'static str,
    /// What calibration saw.
    pub observed: Range,
    /// What the codes can say; `None` of a real result.
    pub covered: Option<Range>,
    pub scale: Option<f32>,
    pub zero_point: Option<i32>,
    /// Signal-to-quantization-noise ratio of the result; `None` if it was not compared.
    pub decibels: Option<f64>,
    /// Values seen, over equal parts of the observed range.
    pub histogram: Vec<u64>,
}

/// What a report is made from.
pub(super) struct Inputs<'a, 'w> {
    pub work: &'a Work<'w>,
    pub method: Method,
    pub lowered: &'a Lowered,
    pub file: &'a [u8],
    pub float_size: u64,
    pub ranking: Vec<Sensitivity>,
    pub refinements: Refinements,
    pub study: bool,
}

/// Runs the quantized model beside the float model and reports.
pub(super) fn measure(inputs: Inputs<'_, '_>, progress: &mut Progress<'_>) -> Result<Report> {
    let Inputs {
        work,
        lowered,
        file,
        ..
    } = inputs;
    let (model, is_measured) = judged(work, lowered, file)?;
    let (agreement, speed) = compare(&model, is_measured, work, progress)?;
    let mut keeping = Runner::new(&model, Record::Everything)?;
    let few = work.pictures.sample(LAYER_PICTURES);
    let layers = layers(work, lowered, &mut keeping, &few, progress)?;
    let levels = match inputs.study {
        true => study(
            &work.graph,
            &work.statistics,
            &work.settings,
            work.name,
            work.pictures,
            progress,
        )?,
        false => Vec::new(),
    };
    let settings = &work.settings;
    let kept = settings.kept.iter().map(|&at| {
        let made = work.graph.nodes[at].outputs[0];
        work.graph.info(made).name.clone()
    });
    let mut report = Report {
        model: work.name.into(),
        verdict: String::new(),
        mode: match settings.mode {
            Mode::Static(_) => "static",
            Mode::Dynamic => "dynamic",
            Mode::Weights => "weights",
        },
        weight_bits: settings.weights.bits,
        activation_bits: activation_bits(settings.mode),
        weights: match settings.weights.granularity {
            super::Granularity::PerChannel => "per-channel",
            super::Granularity::PerTensor => "per-tensor",
        },
        method: inputs.method.to_string(),
        refinements: inputs.refinements,
        kept: kept.collect(),
        float_bytes: inputs.float_size,
        quantized_bytes: file.len() as u64,
        speed,
        agreement,
        is_measured,
        layers,
        sensitivity: inputs.ranking,
        study: levels,
    };
    report.verdict = report.verdict();
    Ok(report)
}

/// Answers and times of both models, picture by picture in turn, so that a busy machine slows both alike.
fn compare(
    model: &crate::model::Model,
    is_measured: bool,
    work: &Work<'_>,
    progress: &mut Progress<'_>,
) -> Result<(Agreement, Speed)> {
    let mut float = Runner::of_graph(&work.graph, work.name, work.pictures, Record::Outputs)?;
    let mut quantized = Runner::new(model, Record::Outputs)?;
    let mut tally = Tally::default();
    let (mut float_times, mut times) = (Vec::new(), Vec::new());
    for index in 0..work.pictures.len() {
        progress.step("comparing answers", index, work.pictures.len());
        let real = float.run(work.pictures.frame(index))?;
        let other = quantized.run(work.pictures.frame(index))?;
        tally.add(&real, &other);
        float_times.push(real.inference);
        times.push(other.inference);
    }
    let speed = Speed {
        float_ms: median_ms(float_times),
        quantized_ms: is_measured.then(|| median_ms(times)),
    };
    Ok((tally.agreement(), speed))
}

fn median_ms(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times
        .get(times.len() / 2)
        .map_or(0.0, |time| time.as_secs_f64() * 1e3)
}

fn layers(
    work: &Work<'_>,
    lowered: &Lowered,
    quantized: &mut Runner,
    pictures: &super::Pictures,
    progress: &mut Progress<'_>,
) -> Result<Vec<Layer>> {
    let noises = layer_noise(&work.graph, work.name, quantized, pictures, progress)?;
    let mut layers = Vec::new();
    for node in &work.graph.nodes {
        for &id in &node.outputs {
            let info = work.graph.info(id);
            let (Some(observed), Some(tensor)) = (
                work.statistics.of(id),
                lowered
                    .tensors
                    .iter()
                    .find(|tensor| tensor.name == info.name),
            ) else {
                continue;
            };
            if matches!(node.op, crate::graph::Op::DetectionPostProcess(_)) {
                continue;
            }
            layers.push(Layer {
                operator: node.index,
                op: node.op.name(),
                name: info.name.clone(),
                dtype: tensor.element.name(),
                observed: observed.histogram.range(),
                covered: covered(tensor),
                scale: tensor.quant.as_ref().map(|quant| quant.scale()),
                zero_point: tensor.quant.as_ref().map(|quant| quant.zero_point()),
                decibels: noises[id.0].decibels(),
                histogram: observed.histogram.resampled(COLUMNS),
            });
        }
    }
    Ok(layers)
}

/// The real values of the lowest and the highest code.
fn covered(tensor: &Tensor) -> Option<Range> {
    let (quant, codes) = (tensor.quant.as_ref()?, tensor.element.codes()?);
    let [min, max] = codes.map(|code| (code - quant.zero_point()) as f32 * quant.scale());
    Some(Range { min, max })
}

impl Report {
    /// The share of the float model's answers that was lost, from 0 to 1.
    pub fn drop(&self) -> f64 {
        1.0 - self.agreement.score
    }

    /// Whether the pictures showed nothing that either model finds, so that no answers were compared.
    pub fn compared_nothing(&self) -> bool {
        self.agreement.measure == Measure::Detections
            && matches!(self.agreement.boxes, Some([0, 0, _]))
    }

    fn verdict(&self) -> String {
        let smaller = self.float_bytes as f64 / self.quantized_bytes.max(1) as f64;
        let percent = 100.0 * self.agreement.score;
        let agreement = match (&self.agreement.measure, self.agreement.boxes) {
            (Measure::Detections, Some([0, 0, _])) => {
                "neither model finds anything, so nothing was compared,".into()
            }
            (Measure::Detections, Some([float, quantized, same])) => {
                format!(
                    "{same} boxes agree, of {float} of the float model and {quantized} of the quantized one ({percent:.1} %)"
                )
            }
            (Measure::TopClass, _) => {
                format!("the top class agrees to {percent:.1} %")
            }
            _ => format!("outputs agree to {percent:.1} %"),
        };
        let speed = match self.speed.quantized_ms {
            Some(ms) if ms > 0.0 => {
                format!(
                    "{:.1} times as fast in eyas on this machine",
                    self.speed.float_ms / ms
                )
            }
            _ => "not run by eyas (simulated)".into(),
        };
        let Agreement { pictures, .. } = self.agreement;
        format!("{agreement} on {pictures} pictures; {smaller:.1} times smaller; {speed}")
    }

    /// The report as JSON, pretty.
    pub fn to_json(&self) -> Result<String> {
        let text = serde_json::to_string_pretty(self);
        text.map(|text| text + "\n")
            .map_err(|error| crate::Error::Internal(format!("the report: {error}")))
    }

    /// The report as one self-contained page.
    pub fn to_html(&self) -> String {
        html::page(self)
    }
}
