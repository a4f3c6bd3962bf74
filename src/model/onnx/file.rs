//! A float file, which tract runs.

use std::sync::Arc;

use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, NodeProto};

use super::inputs::declared_dims;
use crate::graph::DetectionPostProcess;
use crate::model::{Anchors, RawHead, ScoreActivation};

/// Operators that are looked through for what made an output.
const MAX_STEPS: usize = 32;

/// A float ONNX file.
#[derive(Clone)]
pub struct OnnxFile {
    pub(crate) proto: Arc<ModelProto>,
    head: Option<Arc<OnnxHead>>,
}

/// Detection post-processing after a file.
#[derive(Debug)]
pub struct OnnxHead {
    /// Positions of the outputs `[1, anchors, 4]` and `[1, anchors, columns]`.
    pub boxes: usize,
    pub scores: usize,
    /// `[anchors, 4]`: y, x, height, width.
    pub anchors: Vec<f32>,
    pub options: DetectionPostProcess,
}

impl std::fmt::Debug for OnnxFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OnnxFile of {} operators", self.operators().count())
    }
}

impl OnnxFile {
    pub(super) fn new(proto: ModelProto) -> Self {
        Self {
            proto: Arc::new(proto),
            head: None,
        }
    }

    /// What is put after its outputs.
    pub(crate) fn head(&self) -> Option<&Arc<OnnxHead>> {
        self.head.as_ref()
    }

    fn graph(&self) -> Option<&GraphProto> {
        self.proto.graph.as_ref()
    }

    /// The names of its operators, in the file's order.
    pub fn operators(&self) -> impl Iterator<Item = &str> {
        let nodes = self.graph().into_iter().flat_map(|graph| &graph.node);
        nodes.map(|node| node.op_type.as_str())
    }

    /// Names and shapes of the outputs; those that the file leaves open are empty.
    pub(in crate::model) fn outputs(&self) -> Vec<(String, Vec<usize>)> {
        let outputs = self.graph().into_iter().flat_map(|graph| &graph.output);
        outputs
            .map(|output| {
                (
                    output.name.clone(),
                    declared_dims(output).unwrap_or_default(),
                )
            })
            .collect()
    }

    /// Whether an output comes from Sigmoid or Softmax.
    pub(in crate::model) fn ends_in_probabilities(&self, output: usize) -> bool {
        let Some(graph) = self.graph() else {
            return false;
        };
        let Some(mut name) = graph.output.get(output).map(|output| &output.name) else {
            return false;
        };
        for _ in 0..MAX_STEPS {
            let Some(node) = graph.node.iter().find(|node| node.output.contains(name)) else {
                return false;
            };
            match node.op_type.as_str() {
                "Sigmoid" | "Softmax" => return true,
                "Reshape" | "Transpose" | "Concat" | "Flatten" | "Squeeze" | "Unsqueeze"
                | "Identity" | "Slice" | "Clip" | "Cast"
                    if !node.input.is_empty() =>
                {
                    name = &node.input[0];
                }
                _ => return false,
            }
        }
        false
    }

    /// Puts post-processing after the file, scores made probabilities first.
    pub(in crate::model) fn attach(
        &mut self,
        head: &RawHead,
        activation: ScoreActivation,
        anchors: Anchors,
        options: DetectionPostProcess,
    ) {
        let op = match activation {
            ScoreActivation::None => None,
            ScoreActivation::Sigmoid => Some("Sigmoid"),
            ScoreActivation::Softmax => Some("Softmax"),
        };
        let rank = self.outputs()[head.scores].1.len();
        let proto = Arc::make_mut(&mut self.proto);
        if let (Some(op), Some(graph)) = (op, &mut proto.graph) {
            let last_axis = AttributeProto {
                name: "axis".into(),
                r#type: AttributeType::Int.into(),
                i: rank as i64 - 1,
                ..Default::default()
            };
            let output = &mut graph.output[head.scores].name;
            let raw = std::mem::replace(output, format!("{output}/probabilities"));
            graph.node.push(NodeProto {
                name: output.clone(),
                op_type: op.into(),
                input: vec![raw],
                output: vec![output.clone()],
                attribute: (op == "Softmax").then_some(last_axis).into_iter().collect(),
                ..Default::default()
            });
        }
        self.head = Some(Arc::new(OnnxHead {
            boxes: head.boxes,
            scores: head.scores,
            anchors: anchors.boxes.concat(),
            options,
        }));
    }
}
