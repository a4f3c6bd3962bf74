//! What a quantization cost: layer by layer, in answers, in bytes and in time.

mod html;

use std::time::Duration;

use serde::Serialize;

use super::histogram::Range;
use super::judge::{Agreement, Measure, Record, Runner};
use super::lower::{Lowered, Tensor};
use super::method::Method;
use super::scheme::Mode;
use super::sensitivity::{Sensitivity, layer_noise};
use super::study::{Level, study};
use super::{LAYER_PICTURES, Progress, Refinements, Work, activation_bits};
use crate::error::Result;
use crate::model::Model;

/// Columns of a plotted histogram.
const COLUMNS: usize = 48;

/// Pictures that inferences are timed on.
const TIMED_PICTURES: usize = 20;

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
    /// What both models score on a labelled data set, if one was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labelled: Option<Labelled>,
    /// Whether eyas ran the file itself; else its arithmetic was simulated.
    pub is_measured: bool,
    pub layers: Vec<Layer>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sensitivity: Vec<Sensitivity>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub study: Vec<Level>,
}

/// What two models score on labelled pictures.
#[derive(Clone, Debug, Serialize)]
pub struct Labelled {
    /// The data set, as the user named it.
    pub data: String,
    pub pictures: usize,
    pub float: Scores,
    pub quantized: Scores,
}

/// Figures of one model, 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Scores {
    /// COCO mAP over IoU 0.50 to 0.95, and at 0.50.
    Detections { map: f64, map_50: f64 },
    /// The share of pictures whose right class is the first, or among the first five.
    Classes {
        top_1: f64,
        #[serde(skip_serializing_if = "Option::is_none")]
        top_5: Option<f64>,
    },
}

impl Scores {
    /// The figure that a loss is judged by.
    fn main(self) -> f64 {
        match self {
            Self::Detections { map, .. } => map,
            Self::Classes { top_1, .. } => top_1,
        }
    }
}

impl Labelled {
    /// What changed, in words.
    fn describe(&self) -> String {
        let change = match (self.float, self.quantized) {
            (
                Scores::Detections { map, map_50 },
                Scores::Detections {
                    map: quantized,
                    map_50: quantized_50,
                },
            ) => format!(
                "mAP .50:.95 {map:.4} to {quantized:.4}, .50 {map_50:.4} to {quantized_50:.4}"
            ),
            (float, quantized) => format!("top-1 {:.4} to {:.4}", float.main(), quantized.main()),
        };
        format!("{change} on {} labelled pictures", self.pictures)
    }
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
    pub model: &'a Model,
    /// Whether the model is the file; else it simulates it.
    pub is_measured: bool,
    /// Bytes of the file.
    pub size: u64,
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
        model,
        is_measured,
        ..
    } = inputs;
    let agreement = work.reference.agreement(model, work.pictures, progress)?;
    let speed = time(model, is_measured, work, progress)?;
    let layers = layers(work, lowered, model, progress)?;
    let levels = match inputs.study {
        true => study(work, progress)?,
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
        quantized_bytes: inputs.size,
        speed,
        agreement,
        labelled: None,
        is_measured,
        layers,
        sensitivity: inputs.ranking,
        study: levels,
    };
    report.verdict = report.verdict();
    Ok(report)
}

/// Times of both models on a few pictures, in turn, so that a busy machine slows both alike.
fn time(
    model: &Model,
    is_measured: bool,
    work: &Work<'_>,
    progress: &mut Progress<'_>,
) -> Result<Speed> {
    let few = work.pictures.sample(TIMED_PICTURES);
    let float = Runner::model_of(&work.graph, work.name, work.pictures);
    let mut float = Runner::new(&float, Record::Outputs)?;
    let mut quantized = match is_measured {
        true => Some(Runner::new(model, Record::Outputs)?),
        false => None,
    };
    let (mut float_times, mut times) = (Vec::new(), Vec::new());
    for index in 0..few.len() {
        progress.step("measuring time", index, few.len());
        float_times.push(float.run(few.frame(index))?.inference);
        if let Some(quantized) = &mut quantized {
            times.push(quantized.run(few.frame(index))?.inference);
        }
    }
    Ok(Speed {
        float_ms: median_ms(float_times),
        quantized_ms: is_measured.then(|| median_ms(times)),
    })
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
    quantized: &Model,
    progress: &mut Progress<'_>,
) -> Result<Vec<Layer>> {
    let few = work.pictures.sample(LAYER_PICTURES);
    let noises = layer_noise(&work.graph, work.name, quantized, &few, progress)?;
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
    /// Takes in what both models score on labelled pictures, which a loss is judged by from then on.
    pub fn set_labelled(&mut self, labelled: Labelled) {
        self.labelled = Some(labelled);
        self.verdict = self.verdict();
    }

    /// What was lost: of mAP or top-1 on labelled pictures, else the share of the float model's answers, from 0 to 1.
    pub fn drop(&self) -> f64 {
        match &self.labelled {
            Some(labelled) => labelled.float.main() - labelled.quantized.main(),
            None => 1.0 - self.agreement.score,
        }
    }

    /// What [`Self::drop`] is measured by.
    pub fn dropped(&self) -> &'static str {
        match self.labelled.as_ref().map(|labelled| labelled.float) {
            Some(Scores::Detections { .. }) => "mAP on the labelled pictures",
            Some(Scores::Classes { .. }) => "top-1 on the labelled pictures",
            None => "answers",
        }
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
        let labelled = self.labelled.as_ref().map(Labelled::describe);
        let labelled = labelled.map_or(String::new(), |text| text + "; ");
        format!("{labelled}{agreement} on {pictures} pictures; {smaller:.1} times smaller; {speed}")
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
