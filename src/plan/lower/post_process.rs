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
    Codes(Box<[i8; 256]>),
    Real(Box<[f32; 256]>),
}

impl Values {
    fn codes() -> Self {
        Self::Codes(scalar::table(|code| code))
    }

    /// The values after a step; `None` if it does not work on single elements of this kind.
    fn after(&self, kind: &Kind) -> Option<Self> {
        let (mut codes, mut real) = (Box::new([0; 256]), Box::new([0.0; 256]));
        match (self, kind) {
            (Self::Codes(input), Kind::Table(table)) => {
                scalar::apply_table(table, &input[..], &mut codes[..]);
                return Some(Self::Codes(codes));
            }
            (Self::Codes(input), &Kind::Dequantize { scale, zero_point }) => {
                scalar::dequantize(&input[..], &mut real[..], scale, zero_point);
            }
            (Self::Real(input), &Kind::Quantize { scale, stage }) => {
                scalar::quantize(&input[..], &mut codes[..], scale, stage);
                return Some(Self::Codes(codes));
            }
            (Self::Real(input), Kind::Float(FloatUnary::Logistic)) => {
                float::logistic(&input[..], &mut real[..]);
            }
            (Self::Real(input), &Kind::Float(FloatUnary::Clamp(bounds))) => {
                float::clamp(bounds, &input[..], &mut real[..]);
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
        Values::Real(real) => *real,
        Values::Codes(codes) => {
            let (scale, zero_point) = lowering.quant(node, id)?;
            let mut real = [0.0; 256];
            scalar::dequantize(&codes[..], &mut real, scale, zero_point);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Activation, Graph, Value};
    use crate::kernels::Kernels;
    use crate::plan::{CompileOptions, Plan, Pool};
    use crate::tensor::{QuantParams, Shape, TensorInfo, TensorView};

    const ANCHORS: usize = 40;
    const CLASSES: usize = 6;

    const OPTIONS: DetectionPostProcess = DetectionPostProcess {
        max_detections: 8,
        max_classes_per_detection: 2,
        detections_per_class: 4,
        use_regular_nms: false,
        nms_score_threshold: 0.3,
        nms_iou_threshold: 0.5,
        num_classes: CLASSES - 1,
        scale: [10.0, 10.0, 5.0, 5.0],
    };

    /// A graph of box encodings and scores that end in detections.
    struct Builder(Graph);

    impl Builder {
        fn new() -> Self {
            let mut builder = Self(Graph::default());
            let encodings = builder.codes(&[1, ANCHORS, 4], DType::I8, (0.1, -4));
            let scores = builder.codes(&[1, ANCHORS * CLASSES, 1], DType::U8, (0.06, 140));
            builder.0.inputs = vec![encodings, scores];
            builder
        }

        fn value(&mut self, dims: &[usize], dtype: DType, quant: Option<(f32, i32)>) -> ValueId {
            self.0.values.push(Value {
                info: TensorInfo {
                    name: format!("value {}", self.0.values.len()),
                    shape: Shape::checked(dims.to_vec()).unwrap(),
                    dtype,
                    quant: quant.map(|(scale, zero)| QuantParams::per_tensor(scale, zero)),
                },
                data: None,
            });
            ValueId(self.0.values.len() - 1)
        }

        fn codes(&mut self, dims: &[usize], dtype: DType, quant: (f32, i32)) -> ValueId {
            self.value(dims, dtype, Some(quant))
        }

        fn node(&mut self, op: Op, inputs: &[ValueId], outputs: &[ValueId]) {
            self.0.nodes.push(Node {
                op,
                inputs: inputs.to_vec(),
                outputs: outputs.to_vec(),
                index: self.0.nodes.len(),
            });
        }

        /// RESHAPE, LOGISTIC and QUANTIZE on uint8 and int8 codes, DEQUANTIZE, and `op` on real values.
        fn scores(&mut self, op: Op) -> ValueId {
            let dims = [1, ANCHORS, CLASSES];
            let reshaped = self.codes(&dims, DType::U8, (0.06, 140));
            let sigmoid = self.codes(&dims, DType::U8, (1.0 / 256.0, 0));
            let coarse = self.codes(&dims, DType::I8, (1.0 / 50.0, -20));
            let real = self.value(&dims, DType::F32, None);
            let last = self.value(&dims, DType::F32, None);
            self.node(Op::Reshape, &[ValueId(1)], &[reshaped]);
            self.node(Op::Logistic, &[reshaped], &[sigmoid]);
            self.node(Op::Quantize, &[sigmoid], &[coarse]);
            self.node(Op::Dequantize, &[coarse], &[real]);
            self.node(op, &[real], &[last]);
            last
        }

        fn detect(&mut self, scores: ValueId, options: DetectionPostProcess) {
            let encodings = self.value(&[1, ANCHORS, 4], DType::F32, None);
            self.node(Op::Dequantize, &[ValueId(0)], &[encodings]);
            let anchors = self.value(&[ANCHORS, 4], DType::F32, None);
            let boxes = (0..ANCHORS * 4).map(|at| (at * 7 % 10) as f32 / 10.0 + 0.1);
            self.0.values[anchors.0].data = Some(TensorData::F32(boxes.collect()));
            let rows = options.max_detections * options.max_classes_per_detection;
            let outputs = [&[1, rows, 4][..], &[1, rows], &[1, rows], &[1]]
                .map(|dims| self.value(dims, DType::F32, None));
            let op = Op::DetectionPostProcess(options);
            self.node(op, &[encodings, scores, anchors], &outputs);
            self.0.outputs.extend(outputs);
        }

        /// The outputs, and the kernels of the steps.
        fn run(&self, keep_intermediates: bool) -> (Vec<TensorData>, Vec<String>) {
            self.0.validate("test").unwrap();
            let kernels = Kernels::best(None).unwrap();
            let options = CompileOptions {
                threads: 1,
                keep_intermediates,
            };
            let plan = Plan::compile(&self.0, "test", &kernels, options).unwrap();
            let mut arena = plan.arena();
            let noise = |count: usize| (0..count).map(|at| (at * at * 31 + at * 97) >> 2);
            let encodings: Vec<i8> = noise(ANCHORS * 4).map(|code| code as i8 / 4).collect();
            let scores: Vec<u8> = noise(ANCHORS * CLASSES).map(|code| code as u8).collect();
            plan.set_input(&mut arena, 0, TensorView::I8(&encodings));
            plan.set_input(&mut arena, 1, TensorView::U8(&scores));
            plan.run(&mut arena, &Pool::new(1).unwrap());
            let outputs = 0..plan.outputs().len();
            let outputs = outputs.map(|at| plan.output(&arena, at).to_data());
            let steps = plan.steps().map(|step| step.kernel.to_string());
            (outputs.collect(), steps.collect())
        }

        /// Checks the outputs against those of every operator run; the kernels of the steps are expected.
        #[track_caller]
        fn check(&self, kernels: &[&str]) {
            let (expected, all) = self.run(true);
            let (got, steps) = self.run(false);
            assert!(all.iter().any(|kernel| kernel.starts_with("i8_dequantize")));
            assert_eq!(steps, kernels);
            assert_eq!(got, expected);
            let Some(TensorData::F32(count)) = got.iter().find(|data| data.view().len() == 1)
            else {
                panic!("a count")
            };
            assert!(count[0] > 1.0);
        }
    }

    #[test]
    fn operators_between_codes_and_detections_disappear() {
        for use_regular_nms in [false, true] {
            let mut builder = Builder::new();
            let scores = builder.scores(Op::Logistic);
            let options = DetectionPostProcess {
                use_regular_nms,
                ..OPTIONS
            };
            builder.detect(scores, options);
            builder.check(&["i8_post_process"]);
        }
    }

    #[test]
    fn a_value_that_others_read_is_made() {
        let mut builder = Builder::new();
        let scores = builder.scores(Op::Activation(Activation::Relu6));
        builder.detect(scores, OPTIONS);
        builder.0.outputs.push(ValueId(4));
        builder.check(&["i8_table_scalar", "i8_table_scalar", "i8_post_process"]);
    }

    #[test]
    fn scores_that_do_not_ascend_with_the_codes_are_made_one_by_one() {
        let mut builder = Builder::new();
        let scores = builder.codes(&[1, ANCHORS, CLASSES], DType::U8, (0.06, 140));
        let curved = builder.codes(&[1, ANCHORS, CLASSES], DType::U8, (0.04, 20));
        builder.node(Op::Reshape, &[ValueId(1)], &[scores]);
        builder.node(Op::HardSwish, &[scores], &[curved]);
        builder.detect(curved, OPTIONS);
        builder.check(&["f32_post_process"]);
    }
}
