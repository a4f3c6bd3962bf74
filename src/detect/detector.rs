//! A model, its labels and its threshold put together: frames in, boxes out.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use super::classes::{ClassHead, Classification};
use super::decode::Heads;
use super::preprocess::{Fit, Preprocessor};
use super::{Detection, Threshold};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::model::labels::Labels;
use crate::model::{Model, ScoreActivation};
use crate::source::Frame;

/// What one frame gave, and how long each part took.
#[derive(Clone, Debug, Default)]
pub struct Detected {
    /// The most confident first. None of a classifier.
    pub detections: Vec<Detection>,
    /// What is below the threshold and not below [`Detector::with_faint`]: to follow objects by, not to be told.
    pub faint: Vec<Detection>,
    /// The best classes of the whole picture, the most confident first. None of a detector.
    pub classes: Vec<Classification>,
    pub preprocess: Duration,
    pub inference: Duration,
    pub decode: Duration,
}

/// Boxes that overlap by more than this (IoU) are at one place.
const ONE_PLACE: f32 = 0.5;

/// What the outputs of a model are.
enum Head {
    Boxes(Heads),
    Classes(ClassHead),
}

impl Head {
    fn find(engine: &dyn Engine, model: &Model) -> Result<Self> {
        if let Some(classes) = ClassHead::find(model)
            && engine.outputs()[0].shape.elements() == classes.count
        {
            return Ok(Self::Classes(classes));
        }
        let heads = Heads::find(model)?;
        heads.check(engine, &model.name)?;
        Ok(Self::Boxes(heads))
    }
}

/// A model with a detection head or a list of class scores, its labels and its threshold.
pub struct Detector {
    engine: Box<dyn Engine>,
    head: Head,
    /// How the outputs are read, in words.
    reading: Option<String>,
    preprocessor: Preprocessor,
    labels: Labels,
    threshold: Threshold,
    class_thresholds: BTreeMap<usize, f32>,
    faint: Option<f32>,
    agnostic_nms: bool,
}

impl Detector {
    /// Works out which output is which and how pictures become the input. `engine` must have been made from `model`.
    /// An error if the outputs are neither detections nor class scores, or the model does not take a picture.
    pub fn new(
        engine: Box<dyn Engine>,
        model: &Model,
        labels: Labels,
        threshold: Threshold,
    ) -> Result<Self> {
        let head = Head::find(engine.as_ref(), model)?;
        let [input] = engine.inputs() else {
            return Err(Error::Unsupported {
                model: model.name.clone(),
                feature: format!("detection with {} inputs", engine.inputs().len()),
                advice: "use a model whose only input is a picture".into(),
            });
        };
        let normalization = model.metadata.normalization.as_ref();
        let preprocessor = Preprocessor::new(input, normalization, Fit::Stretch, &model.name)?;
        Ok(Self {
            engine,
            head,
            reading: model.head.clone(),
            preprocessor,
            labels,
            threshold,
            class_thresholds: BTreeMap::new(),
            faint: None,
            agnostic_nms: model.metadata.agnostic_nms,
        })
    }

    /// Whether of boxes at one place only the most confident is told, also if they are of several classes
    /// (class-agnostic non-maximum suppression, at an IoU of 0.5). Without this it is as the model's metadata say.
    pub fn with_agnostic_nms(mut self, is_on: bool) -> Self {
        self.agnostic_nms = is_on;
        self
    }

    /// Thresholds by class id that hold in place of the common one.
    pub fn with_class_thresholds(mut self, thresholds: BTreeMap<usize, f32>) -> Self {
        self.class_thresholds = thresholds;
        self
    }

    /// Finds what is less confident than its threshold too, down to `least`, and keeps it apart.
    pub fn with_faint(mut self, least: f32) -> Self {
        self.faint = Some(least);
        self
    }

    /// The common threshold, shared: changing it changes what the next frame gives.
    pub fn threshold(&self) -> &Threshold {
        &self.threshold
    }

    /// The names of the classes.
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// The engine inside.
    pub fn engine(&self) -> &dyn Engine {
        self.engine.as_ref()
    }

    /// Finds what is on a frame.
    pub fn detect(&mut self, frame: &Frame) -> Result<Detected> {
        let start = Instant::now();
        self.engine.set_input(0, self.preprocessor.run(frame))?;
        let ready = Instant::now();
        self.engine.run()?;
        let done = Instant::now();
        let ((detections, faint), classes) = match &self.head {
            Head::Boxes(heads) => (self.decode(heads), Vec::new()),
            Head::Classes(head) => (
                Default::default(),
                head.read(self.engine.as_ref(), &self.labels),
            ),
        };
        Ok(Detected {
            detections,
            faint,
            classes,
            preprocess: ready - start,
            inference: done - ready,
            decode: done.elapsed(),
        })
    }

    /// Detections and faint ones.
    fn decode(&self, heads: &Heads) -> (Vec<Detection>, Vec<Detection>) {
        let common = self.threshold.get();
        let threshold = |class_id| *self.class_thresholds.get(&class_id).unwrap_or(&common);
        let raw = heads.read(self.engine.as_ref());
        let mut detections: Vec<_> = raw
            .filter(|raw| {
                raw.score
                    >= self
                        .faint
                        .unwrap_or(f32::INFINITY)
                        .min(threshold(raw.class_id))
            })
            .filter_map(|raw| {
                Some(Detection {
                    bounding_box: self.preprocessor.to_source(raw.corners)?,
                    label: self.labels.name(raw.class_id),
                    class_id: raw.class_id,
                    confidence: raw.score.clamp(0.0, 1.0),
                    track_id: None,
                })
            })
            .collect();
        detections.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
        let (told, mut faint): (Vec<_>, Vec<_>) = detections
            .into_iter()
            .partition(|found| found.confidence >= threshold(found.class_id));
        if !self.agnostic_nms {
            return (told, faint);
        }
        let told = one_at_a_place(told);
        faint.retain(|found| !is_taken(&told, found));
        (told, faint)
    }

    /// What goes in, which output is which and why: lines for `inspect`.
    pub fn describe(&self) -> String {
        let [width, height] = self.preprocessor.input_size();
        let input = &self.engine.inputs()[0];
        let name = |index: usize| &self.engine.outputs()[index].name;
        let mut text = format!("picture: stretched to {width}x{height} {}\n", input.dtype);
        let heads = match (&self.head, &self.reading) {
            (Head::Classes(head), _) => {
                let activation = match head.activation {
                    ScoreActivation::None => "as they are",
                    ScoreActivation::Sigmoid => "by sigmoid",
                    ScoreActivation::Softmax => "by softmax",
                };
                let _ = writeln!(
                    text,
                    "{} class scores: output 0 \"{}\" {activation}",
                    head.count,
                    name(0)
                );
                return text;
            }
            (Head::Boxes(_), Some(reading)) => {
                let _ = writeln!(text, "{reading}");
                return text;
            }
            (Head::Boxes(heads), None) => heads,
        };
        let mut line = |role: &str, index: usize| {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{role}: output {index} \"{}\"", name(index));
        };
        line("boxes", heads.boxes);
        line("classes", heads.classes);
        line("scores", heads.scores);
        if let Some(count) = heads.count {
            line("count", count);
        }
        let _ = writeln!(
            text,
            "by the output list of operator {} (TFLite_Detection_PostProcess)",
            heads.operator
        );
        text
    }
}

/// Of detections at one place, the first.
fn one_at_a_place(detections: Vec<Detection>) -> Vec<Detection> {
    let mut kept = Vec::with_capacity(detections.len());
    for found in detections {
        if !is_taken(&kept, &found) {
            kept.push(found);
        }
    }
    kept
}

/// Whether one of the others is at the place of a detection.
fn is_taken(others: &[Detection], found: &Detection) -> bool {
    let is_there = |other: &Detection| other.bounding_box.iou(&found.bounding_box) > ONE_PLACE;
    others.iter().any(is_there)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::detect::BoundingBox;
    use crate::engine::StepInfo;
    use crate::graph::{DetectionPostProcess, Graph, Node, Op, Value, ValueId};
    use crate::model::{Metadata, Program};
    use crate::source::{PixelFormat, YuvRange};
    use crate::tensor::{DType, Shape, TensorData, TensorInfo, TensorView};

    /// Answers with fixed tensors whatever it is shown.
    struct Fake {
        inputs: Vec<TensorInfo>,
        outputs: Vec<TensorInfo>,
        values: Vec<Vec<f32>>,
    }

    impl Engine for Fake {
        fn inputs(&self) -> &[TensorInfo] {
            &self.inputs
        }
        fn outputs(&self) -> &[TensorInfo] {
            &self.outputs
        }
        fn set_input(&mut self, index: usize, data: TensorView<'_>) -> Result<()> {
            assert_eq!((index, data.len()), (0, 12));
            Ok(())
        }
        fn run(&mut self) -> Result<()> {
            Ok(())
        }
        fn output(&self, index: usize) -> TensorView<'_> {
            TensorView::F32(&self.values[index])
        }
        fn intermediates(&self) -> Vec<(TensorInfo, TensorData)> {
            Vec::new()
        }
        fn steps(&self) -> Vec<StepInfo> {
            Vec::new()
        }
        fn run_profiled(&mut self) -> Result<Vec<Duration>> {
            Ok(Vec::new())
        }
        fn summary(&self) -> String {
            "fake".into()
        }
    }

    fn info(name: &str, dims: &[usize], dtype: DType) -> TensorInfo {
        TensorInfo {
            name: name.into(),
            shape: Shape::checked(dims.to_vec()).unwrap(),
            dtype,
            quant: None,
        }
    }

    /// A model and an engine whose outputs come in the order of TF2 files: scores, boxes, count, classes.
    fn tf2(boxes: Vec<f32>, classes: Vec<f32>, scores: Vec<f32>, count: f32) -> (Model, Box<Fake>) {
        let n = scores.len();
        let infos = [
            info("in", &[1, 2, 2, 3], DType::U8),
            info("b", &[1, n, 4], DType::F32),
            info("c", &[1, n], DType::F32),
            info("s", &[1, n], DType::F32),
            info("n", &[1], DType::F32),
        ];
        let op = Op::DetectionPostProcess(DetectionPostProcess {
            max_detections: n,
            max_classes_per_detection: 1,
            detections_per_class: 1,
            use_regular_nms: false,
            nms_score_threshold: 0.0,
            nms_iou_threshold: 0.5,
            num_classes: 2,
            scale: [1.0; 4],
        });
        let order = [3, 1, 4, 2].map(ValueId);
        let graph = Graph {
            values: infos
                .iter()
                .map(|info| Value {
                    info: info.clone(),
                    data: None,
                })
                .collect(),
            nodes: vec![Node {
                op,
                inputs: vec![ValueId(0)],
                outputs: [1, 2, 3, 4].map(ValueId).to_vec(),
                index: 9,
            }],
            inputs: vec![ValueId(0)],
            outputs: order.to_vec(),
        };
        let engine = Fake {
            inputs: vec![infos[0].clone()],
            outputs: order.map(|id| infos[id.0].clone()).to_vec(),
            values: vec![scores, boxes, vec![count], classes],
        };
        let model = Model {
            name: "m.tflite".into(),
            format: String::new(),
            nchw_inputs: Vec::new(),
            head: None,
            program: Program::Graph(graph),
            metadata: Metadata::default(),
        };
        (model, Box::new(engine))
    }

    fn frame() -> Frame {
        Frame {
            width: 100,
            height: 50,
            format: PixelFormat::Grey,
            range: YuvRange::Full,
            data: vec![0; 5000],
            index: 0,
            captured: Instant::now(),
            timestamp: SystemTime::now(),
            source: "test".into(),
        }
    }

    #[test]
    fn outputs_are_found_by_the_operators_own_list() {
        let (model, engine) = tf2(vec![0.25, 0.125, 0.75, 0.5], vec![1.0], vec![0.9], 1.0);
        let mut detector =
            Detector::new(engine, &model, Labels::default(), Threshold::new(0.4)).unwrap();
        let found = detector.detect(&frame()).unwrap().detections;
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].class_id, found[0].confidence), (1, 0.9));
        assert_eq!(&*found[0].label, "class 1");
        let expected = BoundingBox {
            x_min: 12.5,
            y_min: 12.5,
            x_max: 50.0,
            y_max: 37.5,
        };
        assert_eq!(found[0].bounding_box, expected);
        let text = detector.describe();
        assert!(
            text.contains("scores: output 0 \"s\"") && text.contains("operator 9"),
            "{text}"
        );
    }

    #[test]
    fn weak_degenerate_and_uncounted_boxes_are_dropped() {
        let unit = [0.0, 0.0, 1.0, 1.0];
        let flat = [0.5, 0.0, 0.5, 1.0];
        let boxes = [unit, flat, unit, unit, unit, unit].concat();
        let classes = vec![0.0, 0.0, 1.0, 0.0, -1.0, 0.0];
        let scores = vec![0.5, 0.9, 0.35, f32::NAN, 0.9, 0.99];
        let (model, engine) = tf2(boxes, classes, scores, 5.0);
        let threshold = Threshold::new(0.4);
        let thresholds = BTreeMap::from([(1, 0.3)]);
        let mut detector = Detector::new(engine, &model, Labels::default(), threshold.clone())
            .unwrap()
            .with_class_thresholds(thresholds);
        let mut classes = || -> Vec<_> {
            let found = detector.detect(&frame()).unwrap().detections;
            found.iter().map(|d| d.class_id).collect()
        };
        assert_eq!(classes(), [0, 1]);
        threshold.set(0.6);
        assert_eq!(classes(), [1]);
    }

    #[test]
    fn faint_ones_are_kept_apart_if_somebody_wants_them() {
        let unit = [0.0, 0.0, 1.0, 1.0];
        let (classes, scores) = (vec![0.0, 1.0, 2.0, 3.0], vec![0.5, 0.5, 0.2, 0.05]);
        let found = |least: Option<f32>| {
            let (model, engine) = tf2([unit; 4].concat(), classes.clone(), scores.clone(), 4.0);
            let mut detector =
                Detector::new(engine, &model, Labels::default(), Threshold::new(0.4))
                    .unwrap()
                    .with_class_thresholds(BTreeMap::from([(1, 0.6)]));
            if let Some(least) = least {
                detector = detector.with_faint(least);
            }
            let found = detector.detect(&frame()).unwrap();
            [found.detections, found.faint]
                .map(|list| list.iter().map(|one| one.class_id).collect::<Vec<_>>())
        };
        assert_eq!(found(None), [vec![0], vec![]]);
        assert_eq!(found(Some(0.1)), [vec![0], vec![1, 2]]);
        assert_eq!(found(Some(0.45)), [vec![0], vec![1]]);
    }

    #[test]
    fn at_one_place_is_one_object_if_it_is_wanted() {
        let (here, nearly, there) = (
            [0.0, 0.0, 1.0, 1.0],
            [0.0, 0.0, 1.0, 0.9],
            [0.0, 0.0, 0.4, 1.0],
        );
        let found = |is_on: bool, class_thresholds: BTreeMap<usize, f32>| {
            let (model, engine) = tf2(
                [here, nearly, there, here].concat(),
                vec![0.0, 1.0, 2.0, 3.0],
                vec![0.8, 0.7, 0.6, 0.2],
                4.0,
            );
            let mut detector =
                Detector::new(engine, &model, Labels::default(), Threshold::new(0.4))
                    .unwrap()
                    .with_class_thresholds(class_thresholds)
                    .with_faint(0.1)
                    .with_agnostic_nms(is_on);
            let found = detector.detect(&frame()).unwrap();
            [found.detections, found.faint]
                .map(|list| list.iter().map(|one| one.class_id).collect::<Vec<_>>())
        };
        assert_eq!(found(false, BTreeMap::new()), [vec![0, 1, 2], vec![3]]);
        assert_eq!(found(true, BTreeMap::new()), [vec![0, 2], vec![]]);
        // What is not told hides nothing.
        let quiet = BTreeMap::from([(0, 0.9)]);
        assert_eq!(found(true, quiet), [vec![1, 2], vec![]]);
    }

    #[test]
    fn best_comes_first() {
        let unit = [0.0, 0.0, 1.0, 1.0];
        let (model, engine) = tf2(
            [unit; 3].concat(),
            vec![0.0, 1.0, 2.0],
            vec![0.5, 0.7, 0.6],
            3.0,
        );
        let mut detector =
            Detector::new(engine, &model, Labels::default(), Threshold::new(0.0)).unwrap();
        let found = detector.detect(&frame()).unwrap().detections;
        assert_eq!(
            found.iter().map(|d| d.class_id).collect::<Vec<_>>(),
            [1, 2, 0]
        );
    }

    #[test]
    fn models_without_a_head_are_refused_with_the_way_out() {
        let (mut model, engine) = tf2(vec![0.0; 4], vec![0.0], vec![0.0], 0.0);
        let Program::Graph(graph) = &mut model.program else {
            panic!()
        };
        graph.nodes.clear();
        let error = Detector::new(engine, &model, Labels::default(), Threshold::new(0.4))
            .err()
            .unwrap();
        assert!(error.to_string().contains("eyas infer"), "{error}");
    }

    #[test]
    fn heads_of_wrong_sizes_are_refused() {
        let (model, mut engine) = tf2(vec![0.0; 4], vec![0.0], vec![0.0], 0.0);
        engine.outputs[1] = info("b", &[1, 2, 4], DType::F32);
        assert!(Detector::new(engine, &model, Labels::default(), Threshold::new(0.4)).is_err());
    }
}
