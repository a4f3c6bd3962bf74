//! Detection post-processing, and the operators on single codes before it that it makes needless.

use super::{Draft, Lowering};
use crate::error::Result;
use crate::graph::{DetectionPostProcess, Node, Op, ValueId};
use crate::kernels::postprocess::{PostProcessOptions, ScoreTable};
use crate::kernels::scalar::{self, float};
use crate::plan::float::FloatUnary;
use crate::plan::post_process::{PostProcess, ScoreInput};
use crate::plan::step::Kind;
use crate::tensor::{DType, TensorData};

pub(super) fn lower(
    lowering: &mut Lowering<'_>,
    node: &Node,
    options: &DetectionPostProcess,
) -> Result<()> {
    let anchors = anchors(lowering, node)?;
    let (encodings, table_of_encodings) = take_source(lowering, node, node.inputs[0])?;
    let (scores, table_of_scores) = take_source(lowering, node, node.inputs[1])?;
    let post = PostProcess {
        options: PostProcessOptions {
            max_detections: options.max_detections,
            max_classes_per_detection: options.max_classes_per_detection,
            detections_per_class: options.detections_per_class,
            use_regular_nms: options.use_regular_nms,
            nms_score_threshold: options.nms_score_threshold,
            nms_iou_threshold: options.nms_iou_threshold,
            num_classes: options.num_classes,
            scale: options.scale,
        },
        anchors,
        encodings: table_of_encodings.map(Box::new),
        scores: match table_of_scores {
            None => ScoreInput::Real,
            Some(table) => match ScoreTable::new(table) {
                Some(table) => ScoreInput::Ascending(Box::new(table)),
                None => ScoreInput::Tabulated(Box::new(table)),
            },
        },
        row_maxima: lowering.kernels.elementwise.row_maxima,
        state: 0,
    };
    let scratch = post.scratch_bytes(lowering.info(scores).shape.elements());
    let kind = Kind::PostProcess(Box::new(post));
    let draft = lowering.push(node, kind, &[encodings, scores], &node.outputs);
    draft.scratch = scratch;
    Ok(())
}

fn anchors(lowering: &Lowering<'_>, node: &Node) -> Result<Vec<f32>> {
    match lowering.graph.constant(node.inputs[2]) {
        Some(TensorData::F32(anchors)) => Ok(anchors.clone()),
        Some(TensorData::U8(_) | TensorData::I8(_)) => {
            let (scale, zero_point) = lowering.quant(node, node.inputs[2])?;
            let codes = lowering.codes(node, node.inputs[2])?;
            let mut anchors = vec![0.0; codes.len()];
            scalar::dequantize(&codes, &mut anchors, scale, zero_point);
            Ok(anchors)
        }
        _ => {
            let advice = "export the model with constant anchors";
            Err(lowering.unsupported(node, "whose anchors are not constant", advice))
        }
    }
}

/// What an operator on single elements makes of each code; entry `code + 128`.
enum Values {
    Codes([i8; 256]),
    Real([f32; 256]),
}

impl Values {
    fn codes() -> Self {
        Self::Codes(std::array::from_fn(|at| (at as u8 ^ 0x80) as i8))
    }

    /// The values after a step; `None` if it does not work on single elements of this kind.
    fn after(&self, kind: &Kind) -> Option<Self> {
        let (mut codes, mut real) = ([0; 256], [0.0; 256]);
        match (self, kind) {
            (Self::Codes(input), Kind::Table(table)) => {
                scalar::apply_table(table, input, &mut codes);
                return Some(Self::Codes(codes));
            }
            (Self::Codes(input), &Kind::Dequantize { scale, zero_point }) => {
                scalar::dequantize(input, &mut real, scale, zero_point);
            }
            (Self::Real(input), &Kind::Quantize { scale, stage }) => {
                scalar::quantize(input, &mut codes, scale, stage);
                return Some(Self::Codes(codes));
            }
            (Self::Real(input), Kind::Float(FloatUnary::Logistic)) => {
                float::logistic(input, &mut real);
            }
            (Self::Real(input), &Kind::Float(FloatUnary::Clamp(bounds))) => {
                float::clamp(bounds, input, &mut real);
            }
            _ => return None,
        }
        Some(Self::Real(real))
    }
}

/// The most operators between codes and post-processing that are looked through.
const MAX_STEPS: usize = 16;

/// How a value follows from codes, element by element.
struct Trace {
    source: ValueId,
    /// What each code of the source becomes.
    values: Values,
    /// The drafts that do it, in order.
    steps: Vec<usize>,
}

/// The value to read in place of `id`, and the real value of each of its codes, entry `code + 128`; `None` for real
/// values. Steps that only lead from its codes to `id` are taken back.
fn take_source(
    lowering: &mut Lowering<'_>,
    node: &Node,
    id: ValueId,
) -> Result<(ValueId, Option<[f32; 256]>)> {
    let Some(trace) = trace(lowering, id, MAX_STEPS) else {
        return Ok((id, None));
    };
    let real = match trace.values {
        Values::Real(real) => real,
        Values::Codes(codes) => {
            let (scale, zero_point) = lowering.quant(node, id)?;
            let mut real = [0.0; 256];
            scalar::dequantize(&codes, &mut real, scale, zero_point);
            real
        }
    };
    for &step in trace.steps.iter().rev() {
        lowering.drafts.remove(step);
    }
    Ok((trace.source, Some(real)))
}

/// Follows `id` back to codes through at most `left` operators that nothing else needs. `None` if there are no codes.
fn trace(lowering: &Lowering<'_>, id: ValueId, left: usize) -> Option<Trace> {
    let before = match left {
        0 => None,
        _ => maker(lowering, id),
    };
    if let Some((step, input)) = before
        && let Some(mut trace) = trace(lowering, input, left - 1)
    {
        let Some(step) = step else {
            return Some(trace);
        };
        if let Some(values) = trace.values.after(&lowering.drafts[step].kind) {
            trace.values = values;
            trace.steps.push(step);
            return Some(trace);
        }
    }
    let is_codes = matches!(lowering.info(id).dtype, DType::U8 | DType::I8);
    is_codes.then(|| Trace {
        source: id,
        values: Values::codes(),
        steps: Vec::new(),
    })
}

/// The draft that makes `id`, none if `id` is another name of the same elements, and what it reads. `None` if `id`
/// has other readers or is not made from one value.
fn maker(lowering: &Lowering<'_>, id: ValueId) -> Option<(Option<usize>, ValueId)> {
    let graph = lowering.graph;
    let reads = |node: &Node| node.inputs.iter().filter(|&&input| input == id).count();
    let readers: usize = lowering.nodes.iter().map(reads).sum();
    if lowering.options.keep_intermediates || readers != 1 || graph.outputs.contains(&id) {
        return None;
    }
    let makes = |draft: &Draft| draft.outputs.contains(&id);
    if let Some(at) = lowering.drafts.iter().position(makes) {
        let inputs = &lowering.drafts[at].inputs;
        return (inputs.len() == 1).then(|| (Some(at), inputs[0]));
    }
    let mut nodes = lowering.nodes.iter();
    let node = nodes.find(|node| node.outputs.contains(&id))?;
    let is_alias = matches!(node.op, Op::Reshape | Op::Quantize);
    is_alias.then(|| (None, node.inputs[0]))
}
