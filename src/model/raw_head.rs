//! SSD heads that end in raw boxes and scores: which outputs they are, and the post-processing that is put after them.

use super::{Anchors, Model, Program};
use crate::error::{Error, Result};
use crate::graph::{DetectionPostProcess, Graph, Node, Op, Value, ValueId};
use crate::tensor::{DType, QuantParams, Shape, TensorData, TensorInfo};

/// Boxes that a head gives in all, and of one class.
const MAX_DETECTIONS: usize = 100;

/// Scores below it never become boxes, whatever the threshold.
const LEAST_SCORE: f32 = 0.01;

/// A box of the same class that overlaps a better one by more is dropped.
const MAX_IOU: f32 = 0.5;

/// Operators that are looked through for what made scores.
const MAX_STEPS: usize = 32;

/// What makes probabilities of a model's scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScoreActivation {
    /// They are probabilities.
    None,
    Sigmoid,
    /// Over the classes of a box.
    Softmax,
}

impl std::str::FromStr for ScoreActivation {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            "sigmoid" => Ok(Self::Sigmoid),
            "softmax" => Ok(Self::Softmax),
            _ => Err("not one of sigmoid, softmax, none".into()),
        }
    }
}

/// A head without post-processing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawHead {
    /// Position of the output `[1, anchors, 4]`.
    pub boxes: usize,
    /// Position of the output `[1, anchors, columns]`.
    pub scores: usize,
    pub anchors: usize,
    /// Scores of a box, with the background if there is one.
    pub columns: usize,
    /// What the model itself makes of its scores; `None` if they are not made probabilities in it.
    pub known: Option<ScoreActivation>,
}

/// How a [`RawHead`] becomes boxes.
#[derive(Clone, Debug)]
pub struct Decoding {
    pub anchors: Anchors,
    /// What is done to the scores.
    pub activation: ScoreActivation,
    /// Column 0 of the scores is the background.
    pub has_background: bool,
}

impl Model {
    /// Names and shapes of the outputs; those that an ONNX file does not tell are left out.
    pub fn outputs(&self) -> Vec<(String, Vec<usize>)> {
        match &self.program {
            Program::Graph(graph) => graph
                .outputs
                .iter()
                .map(|&id| (graph.info(id).name.clone(), graph.shape(id).dims().to_vec()))
                .collect(),
            Program::Onnx(file) => file.outputs(),
        }
    }

    /// The outputs in words.
    pub fn describe_outputs(&self) -> String {
        let outputs = self.outputs();
        let describe = |(name, dims): &(String, Vec<usize>)| format!("\"{name:.80}\" {dims:?}");
        outputs
            .iter()
            .take(8)
            .map(describe)
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// How many classes the model's only output scores; `None` if it does something else.
    pub fn class_scores(&self) -> Option<usize> {
        match &self.outputs()[..] {
            [(_, dims)] => {
                let count = dims.iter().product::<usize>();
                (count > 1 && dims.contains(&count)).then_some(count)
            }
            _ => None,
        }
    }

    /// The raw boxes and scores that the model ends in, if its two outputs are such.
    pub fn raw_head(&self) -> Option<RawHead> {
        let outputs = self.outputs();
        let [first, second] = &outputs[..] else {
            return None;
        };
        let rows = |dims: &[usize], columns: usize| {
            let (&last, rest) = dims.split_last()?;
            let count = rest.iter().product::<usize>();
            // The rest is ones and the number of boxes.
            let is_list = rest.last() == Some(&count);
            (is_list && last == columns && count > 1).then_some(count)
        };
        let pair = |boxes: &[usize], scores: &[usize]| {
            let columns = *scores.last()?;
            let anchors = rows(boxes, 4)?;
            (rows(scores, columns)? == anchors && columns > 0).then_some((anchors, columns))
        };
        let looks_like_scores = |name: &str| {
            ["score", "class", "conf"]
                .iter()
                .any(|word| name.to_lowercase().contains(word))
        };
        let forwards = pair(&first.1, &second.1).map(|found| (0, 1, found));
        let backwards = pair(&second.1, &first.1).map(|found| (1, 0, found));
        let (boxes, scores, (anchors, columns)) = match looks_like_scores(&first.0) {
            true => backwards.or(forwards)?,
            false => forwards.or(backwards)?,
        };
        Some(RawHead {
            boxes,
            scores,
            anchors,
            columns,
            known: self.probabilities(scores),
        })
    }

    /// [`ScoreActivation::None`] if an output is made of probabilities, by the operators that it comes from.
    pub fn probabilities(&self, output: usize) -> Option<ScoreActivation> {
        let is_made = match &self.program {
            Program::Graph(graph) => ends_in_probabilities(graph, *graph.outputs.get(output)?),
            Program::Onnx(file) => file.ends_in_probabilities(output),
        };
        is_made.then_some(ScoreActivation::None)
    }

    /// Puts post-processing after a raw head: the outputs become those of TFLite_Detection_PostProcess.
    pub fn attach(&mut self, head: &RawHead, decoding: Decoding) -> Result<()> {
        let names = self.outputs();
        let Decoding {
            anchors,
            activation,
            has_background,
        } = decoding;
        if anchors.boxes.len() != head.anchors {
            return Err(Error::model(
                &self.name,
                format!(
                    "it has {} boxes, the anchors are {}; pass the anchors that belong to the model",
                    head.anchors,
                    anchors.boxes.len()
                ),
            ));
        }
        let options = DetectionPostProcess {
            max_detections: MAX_DETECTIONS.min(head.anchors),
            max_classes_per_detection: 1,
            detections_per_class: MAX_DETECTIONS,
            use_regular_nms: true,
            nms_score_threshold: LEAST_SCORE,
            nms_iou_threshold: MAX_IOU,
            num_classes: (head.columns - usize::from(has_background)).max(1),
            scale: anchors.scale,
        };
        let scores = match activation {
            ScoreActivation::None => "as they are",
            ScoreActivation::Sigmoid => "by sigmoid",
            ScoreActivation::Softmax => "by softmax",
        };
        self.head = Some(format!(
            "boxes: output {} \"{}\", scores: output {} \"{}\" {scores}{}\ndecoded here with {} anchors, divisors {:?}",
            head.boxes,
            names[head.boxes].0,
            head.scores,
            names[head.scores].0,
            if has_background {
                ", column 0 is the background"
            } else {
                ""
            },
            head.anchors,
            anchors.scale,
        ));
        match &mut self.program {
            Program::Graph(graph) => {
                attach_to_graph(graph, head, activation, &anchors, options);
                graph.validate(&self.name)
            }
            Program::Onnx(file) => {
                file.attach(head, activation, anchors, options);
                Ok(())
            }
        }
    }
}

fn ends_in_probabilities(graph: &Graph, output: ValueId) -> bool {
    let mut id = output;
    for _ in 0..MAX_STEPS {
        let Some(node) = graph.nodes.iter().find(|node| node.outputs.contains(&id)) else {
            return false;
        };
        match node.op {
            Op::Logistic | Op::Softmax { .. } => return true,
            Op::Reshape
            | Op::Quantize
            | Op::Dequantize
            | Op::Transpose(_)
            | Op::StridedSlice { .. }
            | Op::Concat { .. } => id = node.inputs[0],
            _ => return false,
        }
    }
    false
}

/// Adds nodes to the end of a graph.
struct Tail<'a> {
    graph: &'a mut Graph,
    index: usize,
}

impl Tail<'_> {
    fn value(
        &mut self,
        name: &str,
        dims: &[usize],
        dtype: DType,
        quant: Option<QuantParams>,
    ) -> ValueId {
        let info = TensorInfo {
            name: name.into(),
            shape: Shape::checked(dims.to_vec()).unwrap_or_default(),
            dtype,
            quant,
        };
        self.graph.values.push(Value { info, data: None });
        ValueId(self.graph.values.len() - 1)
    }

    fn node(&mut self, op: Op, inputs: Vec<ValueId>, outputs: Vec<ValueId>) {
        let index = self.index;
        self.graph.nodes.push(Node {
            op,
            inputs,
            outputs,
            index,
        });
    }

    /// An output as `[1, rows, columns]`.
    fn table(&mut self, id: ValueId, rows: usize, columns: usize) -> ValueId {
        let dims = [1, rows, columns];
        let info = self.graph.info(id).clone();
        if info.shape.dims() == dims {
            return id;
        }
        let table = self.value(&info.name, &dims, info.dtype, info.quant);
        self.node(Op::Reshape, vec![id], vec![table]);
        table
    }

    /// A real value of the same shape.
    fn real(&mut self, op: Op, id: ValueId) -> ValueId {
        let info = self.graph.info(id).clone();
        let real = self.value(&info.name, info.shape.dims(), DType::F32, None);
        self.node(op, vec![id], vec![real]);
        real
    }
}

fn attach_to_graph(
    graph: &mut Graph,
    head: &RawHead,
    activation: ScoreActivation,
    anchors: &Anchors,
    options: DetectionPostProcess,
) {
    let (boxes, scores) = (graph.outputs[head.boxes], graph.outputs[head.scores]);
    let index = graph.nodes.last().map_or(0, |node| node.index + 1);
    let mut tail = Tail { graph, index };
    let boxes = tail.table(boxes, head.anchors, 4);
    let mut scores = tail.table(scores, head.anchors, head.columns);
    let op = match activation {
        ScoreActivation::None => None,
        ScoreActivation::Sigmoid => Some(Op::Logistic),
        ScoreActivation::Softmax => Some(Op::Softmax { beta: 1.0 }),
    };
    if let Some(op) = op {
        if tail.graph.dtype(scores) != DType::F32 {
            scores = tail.real(Op::Dequantize, scores);
        }
        scores = tail.real(op, scores);
    }
    let table = tail.value("anchors", &[head.anchors, 4], DType::F32, None);
    tail.graph.values[table.0].data = Some(TensorData::F32(anchors.boxes.concat()));
    let rows = options.max_detections;
    let mut output = |name: &str, dims: &[usize]| tail.value(name, dims, DType::F32, None);
    let outputs = [
        output("detection_boxes", &[1, rows, 4]),
        output("detection_classes", &[1, rows]),
        output("detection_scores", &[1, rows]),
        output("num_detections", &[1]),
    ];
    let inputs = vec![boxes, scores, table];
    tail.node(Op::DetectionPostProcess(options), inputs, outputs.to_vec());
    graph.outputs = outputs.to_vec();
}
