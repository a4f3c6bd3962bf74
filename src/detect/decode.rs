//! Which output of a model is which, and its tensors as boxes.

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::graph::{Graph, Node, Op};
use crate::model::{Model, Program};
use crate::tensor::{DType, TensorView};

/// Positions of a detection head's tensors among the model's outputs.
///
/// They follow from the outputs of the TFLite_Detection_PostProcess operator, which are always boxes, classes, scores
/// and count; the order of the model's own outputs differs from file to file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Position of the operator in the model file.
    pub operator: usize,
    /// `[1, n, 4]`: ymin, xmin, ymax, xmax in parts of the input picture.
    pub boxes: usize,
    /// `[1, n]`: counted from 0 without the background.
    pub classes: usize,
    /// `[1, n]`
    pub scores: usize,
    /// `[1]`: how many of the n hold; all if the model does not give it out.
    pub count: Option<usize>,
}

/// A box as the model gives it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RawBox {
    /// ymin, xmin, ymax, xmax in parts of the model's input; may leave `[0, 1]`.
    pub corners: [f32; 4],
    pub class_id: usize,
    pub score: f32,
}

const NO_HEAD_ADVICE: &str = "use a detector that ends in TFLite_Detection_PostProcess, or in raw boxes [1, n, 4] and \
                              scores [1, n, classes] with --anchors, or a classifier with one list of scores; `eyas \
                              infer` runs this one and writes its tensors";

fn no_head(model: &Model) -> String {
    format!("detection with the outputs {}", model.describe_outputs())
}

impl Heads {
    /// Finds the head of a model; an error if it has none.
    pub fn find(model: &Model) -> Result<Self> {
        let unsupported = |feature: &str, advice: &str| Error::Unsupported {
            model: model.name.clone(),
            feature: feature.into(),
            advice: advice.into(),
        };
        if model.head.is_none()
            && let Some(head) = model.raw_head()
        {
            let feature = format!("detection with {} raw boxes and no anchors", head.anchors);
            let advice = "pass the anchors that belong to the model: --anchors FILE";
            return Err(unsupported(&feature, advice));
        }
        let is_head = |node: &&Node| matches!(node.op, Op::DetectionPostProcess(_));
        match &model.program {
            Program::Graph(graph) => match graph.nodes.iter().find(is_head) {
                Some(node) => Self::of_node(graph, node).ok_or_else(|| {
                    let feature = "a detection head whose tensors are not the model's outputs";
                    unsupported(
                        feature,
                        "export the model with boxes, classes and scores as outputs",
                    )
                }),
                None => Err(unsupported(&no_head(model), NO_HEAD_ADVICE)),
            },
            // The order in which `Model::attach` puts them.
            Program::Onnx(file) if file.head().is_some() => Ok(Self {
                operator: file.operators().count(),
                boxes: 0,
                classes: 1,
                scores: 2,
                count: Some(3),
            }),
            Program::Onnx(_) => Err(unsupported(&no_head(model), NO_HEAD_ADVICE)),
        }
    }

    fn of_node(graph: &Graph, node: &Node) -> Option<Self> {
        let position = |index: usize| {
            let value = node.outputs.get(index)?;
            graph.outputs.iter().position(|output| output == value)
        };
        Some(Self {
            operator: node.index,
            boxes: position(0)?,
            classes: position(1)?,
            scores: position(2)?,
            count: position(3),
        })
    }

    /// Checks that an engine's outputs have the types and sizes of a detection head.
    pub fn check(&self, engine: &dyn Engine, model: &str) -> Result<()> {
        let outputs = engine.outputs();
        let float = |index: usize| outputs.get(index).filter(|info| info.dtype == DType::F32);
        let elements = |index: usize| float(index).map(|info| info.shape.elements());
        let boxes = elements(self.scores);
        let fits = boxes.is_some()
            && elements(self.boxes) == boxes.map(|n| 4 * n)
            && elements(self.classes) == boxes
            && self.count.is_none_or(|count| elements(count) == Some(1));
        fits.then_some(()).ok_or_else(|| {
            Error::model(
                model,
                "the outputs of its detection head do not fit each other; the file is damaged",
            )
        })
    }

    /// The boxes of an engine's last run, best first as the model orders them. Entries that are no box (not finite,
    /// a negative class) are left out.
    pub fn read<'a>(&self, engine: &'a dyn Engine) -> impl Iterator<Item = RawBox> + use<'a> {
        let boxes = floats(engine, self.boxes).as_chunks::<4>().0;
        let classes = floats(engine, self.classes);
        let scores = floats(engine, self.scores);
        let count = self
            .count
            .and_then(|count| floats(engine, count).first().copied())
            .map_or(scores.len(), |count| count as usize);
        let entries = boxes.iter().zip(classes).zip(scores).take(count);
        entries.filter_map(|((&corners, &class), &score)| {
            let sound = class >= 0.0 && class.is_finite() && score.is_finite();
            sound.then_some(RawBox {
                corners,
                class_id: class as usize,
                score,
            })
        })
    }
}

/// A float output; empty if it is of another type, which [`Heads::check`] has excluded.
fn floats(engine: &dyn Engine, index: usize) -> &[f32] {
    match engine.output(index) {
        TensorView::F32(values) => values,
        _ => &[],
    }
}
