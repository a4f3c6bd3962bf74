//! How close the answers of a quantized model are to those of the float model.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;

use super::Progress;
use super::pictures::Pictures;
use super::share::share;
use crate::detect::{Detection, Detector, Fit, Preprocessor, Threshold};
use crate::engine::{self, Engine};
use crate::error::Result;
use crate::graph::{Graph, passes};
use crate::model::labels::Labels;
use crate::model::{Metadata, Model};
use crate::source::Frame;
use crate::tensor::{TensorData, TensorInfo};

/// Boxes below this confidence are not compared.
pub const CONFIDENCE: f32 = 0.4;

/// Boxes that overlap by this much (IoU) can be the same.
const SAME_BOX: f32 = 0.5;

/// Elements of the float model's outputs that are kept to be compared, over all pictures: a quarter of a gigabyte.
const KEPT_ELEMENTS: usize = 1 << 26;

/// A model made ready to answer on pictures.
pub struct Runner {
    kind: Kind,
}

enum Kind {
    Detects(Box<Detector>),
    Plain(Box<dyn Engine>, Box<Preprocessor>),
}

/// What a model says of a picture.
#[derive(Clone, Debug)]
pub struct Answer {
    /// `None` if the model has no detection head.
    pub detections: Option<Vec<Detection>>,
    /// Real values of the outputs, if the model has no detection head.
    pub outputs: Vec<Vec<f32>>,
    pub inference: Duration,
}

/// Whether every value of a run can be read afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    Outputs,
    Everything,
}

impl Runner {
    /// Loads a model; one with a detection head detects, any other gives its outputs.
    pub fn new(model: &Model, record: Record) -> Result<Self> {
        let options = engine::Options {
            keep_intermediates: record == Record::Everything,
            ..engine::Options::default()
        };
        let engine = engine::load(model, options)?;
        let kind = if detects(model) {
            let threshold = Threshold::new(CONFIDENCE);
            Kind::Detects(Box::new(Detector::new(
                engine,
                model,
                Labels::default(),
                threshold,
            )?))
        } else {
            let normalization = model.metadata.normalization.as_ref();
            let input = &engine.inputs()[0];
            let preprocessor = Preprocessor::new(input, normalization, Fit::Stretch, &model.name)?;
            Kind::Plain(engine, Box::new(preprocessor))
        };
        Ok(Self { kind })
    }

    /// The model of a float graph, with the normalization that its pictures have.
    pub fn model_of(graph: &Graph, name: &str, pictures: &Pictures) -> Model {
        let metadata = Metadata {
            normalization: Some(pictures.normalization().clone()),
            ..Metadata::default()
        };
        Model::of_graph(name, graph.clone(), metadata)
    }

    /// Runs the model on a picture.
    pub fn run(&mut self, frame: &Frame) -> Result<Answer> {
        let (detections, inference) = match &mut self.kind {
            Kind::Detects(detector) => {
                let detected = detector.detect(frame)?;
                (Some(detected.detections), detected.inference)
            }
            Kind::Plain(engine, preprocessor) => {
                engine.set_input(0, preprocessor.run(frame))?;
                let start = std::time::Instant::now();
                engine.run()?;
                (None, start.elapsed())
            }
        };
        let engine = self.engine();
        let outputs = engine.outputs().iter().enumerate();
        let outputs = outputs
            .filter(|_| detections.is_none())
            .map(|(index, info)| real(info, &engine.output(index).to_data()))
            .collect();
        Ok(Answer {
            detections,
            outputs,
            inference,
        })
    }

    /// The engine inside.
    pub fn engine(&self) -> &dyn Engine {
        match &self.kind {
            Kind::Detects(detector) => detector.engine(),
            Kind::Plain(engine, _) => engine.as_ref(),
        }
    }

    /// Real values of everything that the last run made, by name.
    pub fn intermediates(&self) -> BTreeMap<String, Vec<f32>> {
        let made = self.engine().intermediates().into_iter();
        made.map(|(info, data)| (info.name.clone(), real(&info, &data)))
            .collect()
    }
}

/// Whether the outputs are read as detections.
fn detects(model: &Model) -> bool {
    crate::detect::Heads::find(model).is_ok()
}

/// The real values of a tensor.
fn real(info: &TensorInfo, data: &TensorData) -> Vec<f32> {
    match (data, &info.quant) {
        (TensorData::F32(data), _) => data.clone(),
        (TensorData::I32(data), _) => data.iter().map(|&value| value as f32).collect(),
        (codes, Some(quant)) => passes::dequantize(codes, &info.shape, quant).unwrap_or_default(),
        (_, None) => Vec::new(),
    }
}

/// Sums from which a signal-to-quantization-noise ratio follows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Noise {
    signal: f64,
    noise: f64,
}

impl Noise {
    /// Takes in real values and what quantization made of them. Values of another count are passed over.
    pub fn add(&mut self, real: &[f32], quantized: &[f32]) {
        if real.len() != quantized.len() {
            return;
        }
        for (&real, &quantized) in real.iter().zip(quantized) {
            self.signal += f64::from(real).powi(2);
            self.noise += (f64::from(real) - f64::from(quantized)).powi(2);
        }
    }

    /// That of both.
    pub fn merged(self, other: Self) -> Self {
        Self {
            signal: self.signal + other.signal,
            noise: self.noise + other.noise,
        }
    }

    /// `10 log10(signal / noise)`, between -100 and 200; `None` if nothing was compared, or all of it was 0.
    pub fn decibels(&self) -> Option<f64> {
        let ratio = 10.0 * (self.signal / self.noise).log10();
        (!ratio.is_nan()).then(|| ratio.clamp(-100.0, 200.0))
    }

    /// `1 - |noise| / |signal|`, at least 0.
    fn likeness(&self) -> f64 {
        match self.signal > 0.0 {
            true => (1.0 - (self.noise / self.signal).sqrt()).max(0.0),
            false => 1.0,
        }
    }
}

/// What the agreement of two models was measured by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Boxes of one class that overlap by an IoU of at least 0.5: `2 same / (all of one + all of the other)`.
    Detections,
    /// Pictures on which the largest output is the same.
    TopClass,
    /// `1 - |difference| / |float|` over all outputs.
    Outputs,
}

/// How far two models agree on some pictures.
#[derive(Clone, Debug, Serialize)]
pub struct Agreement {
    pub measure: Measure,
    /// From 0 to 1.
    pub score: f64,
    pub pictures: usize,
    /// Boxes of the float model, of the other, and those that are the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boxes: Option<[usize; 3]>,
    /// Mean difference in confidence of the boxes that are the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confidence_difference: Option<f64>,
}

/// Gathers what an [`Agreement`] follows from.
#[derive(Default)]
pub struct Tally {
    pictures: usize,
    has_head: bool,
    boxes: [usize; 3],
    differences: f64,
    classifies: bool,
    same_class: usize,
    noise: Noise,
}

impl Tally {
    /// Takes in both models' answers to one picture, the float model's first.
    pub fn add(&mut self, real: &Answer, other: &Answer) {
        self.pictures += 1;
        if let (Some(real), Some(other)) = (&real.detections, &other.detections) {
            self.has_head = true;
            let same = matched(real, other);
            self.differences += same
                .iter()
                .map(|difference| f64::from(*difference))
                .sum::<f64>();
            self.boxes[0] += real.len();
            self.boxes[1] += other.len();
            self.boxes[2] += same.len();
        }
        for (real, other) in real.outputs.iter().zip(&other.outputs) {
            self.noise.add(real, other);
        }
        if let ([real], [other]) = (&real.outputs[..], &other.outputs[..]) {
            self.classifies = (2..10_000).contains(&real.len());
            self.same_class += usize::from(largest(real) == largest(other));
        }
    }

    fn merged(self, next: Self) -> Self {
        let [real, other, same] = self.boxes;
        let [more_real, more_other, more_same] = next.boxes;
        Self {
            pictures: self.pictures + next.pictures,
            has_head: self.has_head || next.has_head,
            boxes: [real + more_real, other + more_other, same + more_same],
            differences: self.differences + next.differences,
            classifies: self.classifies || next.classifies,
            same_class: self.same_class + next.same_class,
            noise: self.noise.merged(next.noise),
        }
    }

    /// The agreement over all pictures.
    pub fn agreement(&self) -> Agreement {
        let of_pictures = |count: usize| count as f64 / self.pictures.max(1) as f64;
        let [real, other, same] = self.boxes;
        let (measure, score) = if self.has_head {
            let all = real + other;
            let score = if all == 0 {
                1.0
            } else {
                2.0 * same as f64 / all as f64
            };
            (Measure::Detections, score)
        } else if self.classifies {
            (Measure::TopClass, of_pictures(self.same_class))
        } else {
            (Measure::Outputs, self.noise.likeness())
        };
        Agreement {
            measure,
            score,
            pictures: self.pictures,
            boxes: self.has_head.then_some(self.boxes),
            confidence_difference: (same > 0).then(|| self.differences / same as f64),
        }
    }
}

fn largest(values: &[f32]) -> Option<usize> {
    let indices = 0..values.len();
    indices.reduce(|best, next| {
        if values[next] > values[best] {
            next
        } else {
            best
        }
    })
}

/// Differences in confidence of the boxes that both have: each of `real`, the most confident first, takes the box of its
/// class that overlaps it most and is not taken.
fn matched(real: &[Detection], other: &[Detection]) -> Vec<f32> {
    let mut taken = vec![false; other.len()];
    let mut differences = Vec::new();
    for wanted in real {
        let candidates = other.iter().enumerate();
        let candidates =
            candidates.filter(|(at, found)| !taken[*at] && found.class_id == wanted.class_id);
        let overlaps =
            candidates.map(|(at, found)| (at, wanted.bounding_box.iou(&found.bounding_box)));
        let best = overlaps
            .filter(|(_, iou)| *iou >= SAME_BOX)
            .max_by(|a, b| a.1.total_cmp(&b.1));
        if let Some((at, _)) = best {
            taken[at] = true;
            differences.push((wanted.confidence - other[at].confidence).abs());
        }
    }
    differences
}

/// The float model's answers to pictures, to compare others with.
#[derive(Clone, Debug)]
pub struct Reference {
    /// By position of the picture, ascending.
    answers: Vec<(usize, Answer)>,
}

impl Reference {
    /// The pictures whose answers are kept: all, unless the outputs of a graph without a detection head would fill too
    /// much memory.
    pub(super) fn chosen(model: &Model, graph: &Graph, pictures: &Pictures) -> BTreeSet<usize> {
        let shapes = graph.outputs.iter().map(|&id| graph.shape(id));
        let elements: usize = shapes.map(|shape| shape.elements()).sum();
        let fits = match detects(model) {
            true => pictures.len(),
            false => KEPT_ELEMENTS / elements.max(1),
        };
        pictures.spread(fits).collect()
    }

    pub(super) fn of(answers: Vec<(usize, Answer)>) -> Self {
        Self { answers }
    }

    /// How far another model agrees on the same pictures.
    pub(super) fn agreement(
        &self,
        other: &Model,
        pictures: &Pictures,
        progress: &mut Progress<'_>,
    ) -> Result<Agreement> {
        let judged = share(
            (pictures.threads(), self.answers.len()),
            || Runner::new(other, Record::Outputs),
            |runner, at| {
                let (index, real) = &self.answers[at];
                let mut tally = Tally::default();
                tally.add(real, &runner.run(pictures.frame(*index))?);
                Ok(tally)
            },
            ("comparing answers", progress),
        )?;
        let tallies = judged.results.into_iter();
        Ok(tallies.fold(Tally::default(), Tally::merged).agreement())
    }
}
