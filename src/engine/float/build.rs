//! A [`Graph`] becomes a tract model and the steps after it.

use std::collections::HashMap;

use tract_onnx::tract_core::internal::{DatumType, IntoArcTensor, OutletId, SpecialOps, TypedFact};

use super::ops::Wiring;
use super::{PostProcess, Prepared, Slot, constant, internal, refused, zeros};
use crate::engine::StepInfo;
use crate::error::{Error, Result};
use crate::graph::{DetectionPostProcess, Graph, Node, Op, ValueId};
use crate::kernels::postprocess::{PostProcessOptions, PostProcessScratch};
use crate::tensor::DType;

/// Makes the tract model of every node but detection post-processing, which must come last.
pub(super) fn prepare(graph: &Graph, name: &str, keep_intermediates: bool) -> Result<Prepared> {
    let tail = check_order(graph, name)?;
    let (body, post) = graph.nodes.split_at(tail);
    let mut builder = Builder {
        graph,
        name,
        wiring: Wiring::default(),
        outlets: HashMap::new(),
    };
    builder.sources()?;
    for (position, node) in body.iter().enumerate() {
        builder.node(position, node)?;
    }
    let mut wanted: Vec<ValueId> = Vec::new();
    let body_values = body.iter().flat_map(|node| &node.outputs).copied();
    if keep_intermediates {
        wanted.extend(body_values.clone());
    }
    let needed = graph.outputs.iter().copied();
    let needed = needed.chain(post.iter().flat_map(|node| node.inputs.iter().copied()));
    for id in needed {
        if body_values.clone().any(|made| made == id) && !wanted.contains(&id) {
            wanted.push(id);
        }
    }
    builder.finish(&wanted, post, keep_intermediates)
}

/// Position of the first post-processing node, after which nothing else may come.
fn check_order(graph: &Graph, name: &str) -> Result<usize> {
    let is_post = |node: &Node| matches!(node.op, Op::DetectionPostProcess(_));
    let tail = graph.nodes.iter().position(is_post);
    let tail = tail.unwrap_or(graph.nodes.len());
    match graph.nodes[tail..].iter().find(|node| !is_post(node)) {
        None => Ok(tail),
        Some(node) => Err(Error::Unsupported {
            model: name.to_owned(),
            feature: format!(
                "operator {} ({}) after TFLite_Detection_PostProcess",
                node.index,
                node.op.name()
            ),
            advice: "export the model with TFLite_Detection_PostProcess as its last operator"
                .into(),
        }),
    }
}

struct Builder<'g> {
    graph: &'g Graph,
    name: &'g str,
    wiring: Wiring,
    outlets: HashMap<ValueId, OutletId>,
}

impl Builder<'_> {
    /// Adds the inputs of the graph.
    fn sources(&mut self) -> Result<()> {
        for (position, &id) in self.graph.inputs.iter().enumerate() {
            let info = self.graph.info(id);
            let fact = TypedFact::dt_shape(datum_type(info.dtype), info.shape.dims());
            let source = self
                .wiring
                .model
                .add_source(format!("input{position}"), fact);
            let outlet = source.map_err(|e| internal(self.name, &e))?;
            self.outlets.insert(id, outlet);
        }
        Ok(())
    }

    fn node(&mut self, position: usize, node: &Node) -> Result<()> {
        let mut inputs = Vec::new();
        for &id in &node.inputs {
            inputs.push(self.outlet(id, node)?);
        }
        let shapes: Vec<_> = node
            .outputs
            .iter()
            .map(|&id| self.graph.shape(id))
            .collect();
        self.wiring.prefix = format!("n{position}");
        let made = self.wiring.op(&node.op, &inputs, &shapes);
        let made = made.map_err(|error| {
            let what = format!("operator {} ({})", node.index, node.op.name());
            refused(self.name, &error.context(what))
        })?;
        for (&id, outlet) in node.outputs.iter().zip(made) {
            self.check_shape(node, id, outlet)?;
            self.outlets.insert(id, outlet);
        }
        Ok(())
    }

    fn outlet(&mut self, id: ValueId, node: &Node) -> Result<OutletId> {
        if let Some(&outlet) = self.outlets.get(&id) {
            return Ok(outlet);
        }
        let Some(data) = self.graph.constant(id) else {
            let reason = format!("operator {} reads a value that nothing makes", node.index);
            return Err(Error::model(self.name, reason));
        };
        let outlet = constant(self.graph.shape(id), data.view())
            .and_then(|tensor| {
                let name = format!("const{}", id.0);
                self.wiring.model.add_const(name, tensor.into_arc_tensor())
            })
            .map_err(|error| internal(self.name, &error))?;
        self.outlets.insert(id, outlet);
        Ok(outlet)
    }

    fn check_shape(&self, node: &Node, id: ValueId, outlet: OutletId) -> Result<()> {
        let info = self.graph.info(id);
        let fact = self.wiring.model.outlet_fact(outlet);
        let fact = fact.map_err(|error| internal(self.name, &error))?;
        if fact.shape.as_concrete() == Some(info.shape.dims())
            && fact.datum_type == datum_type(info.dtype)
        {
            return Ok(());
        }
        let reason = format!(
            "operator {} ({}) makes {fact:?}, but the file says {} {}; convert the model again",
            node.index,
            node.op.name(),
            info.dtype,
            info.shape
        );
        Err(Error::model(self.name, reason))
    }

    fn finish(
        mut self,
        wanted: &[ValueId],
        post: &[Node],
        keep_intermediates: bool,
    ) -> Result<Prepared> {
        let mut slots = SlotTable {
            graph: self.graph,
            slots: Vec::new(),
            of: HashMap::new(),
        };
        let ids = |slots: &mut SlotTable<'_>, ids: &[ValueId]| -> Vec<usize> {
            ids.iter().map(|&id| slots.get(id)).collect()
        };
        let inputs = ids(&mut slots, &self.graph.inputs);
        let mut heads: Vec<OutletId> = Vec::new();
        let mut fetched = Vec::new();
        for &id in wanted {
            let outlet = self.outlets[&id];
            let head = heads.iter().position(|&head| head == outlet);
            let head = head.unwrap_or_else(|| {
                heads.push(outlet);
                heads.len() - 1
            });
            fetched.push((head, slots.get(id)));
        }
        let selected = self.wiring.model.select_output_outlets(&heads);
        selected.map_err(|error| internal(self.name, &error))?;
        let mut made = match keep_intermediates {
            true => ids(&mut slots, wanted),
            false => Vec::new(),
        };
        let mut steps = Vec::new();
        for node in post {
            let step = post_process(self.name, node, &mut slots)?;
            made.extend(
                keep_intermediates
                    .then_some(step.outputs)
                    .into_iter()
                    .flatten(),
            );
            steps.push(step);
        }
        let outputs = ids(&mut slots, &self.graph.outputs);
        Ok(Prepared {
            model: self.wiring.model,
            slots: slots.slots,
            inputs,
            nchw_inputs: Vec::new(),
            fetched,
            post: steps,
            outputs,
            made,
        })
    }
}

/// Slots, made for a value when it is first asked for.
struct SlotTable<'g> {
    graph: &'g Graph,
    slots: Vec<Slot>,
    of: HashMap<ValueId, usize>,
}

impl SlotTable<'_> {
    fn get(&mut self, id: ValueId) -> usize {
        *self.of.entry(id).or_insert_with(|| {
            let info = self.graph.info(id).clone();
            let data = self.graph.constant(id).cloned();
            let data = data.unwrap_or_else(|| zeros(&info));
            self.slots.push(Slot { info, data });
            self.slots.len() - 1
        })
    }
}

fn post_process(name: &str, node: &Node, slots: &mut SlotTable<'_>) -> Result<PostProcess> {
    let Op::DetectionPostProcess(attributes) = node.op else {
        return Err(Error::Internal("not a post-processing node".into()));
    };
    let options = options(&attributes);
    let wrong = |reason: &str| {
        let at = format!("operator {} ({})", node.index, node.op.name());
        Error::model(name, format!("{at} {reason}; convert the model again"))
    };
    let (&[boxes, scores, anchors], &[_, _, _, _]) =
        (node.inputs.as_slice(), node.outputs.as_slice())
    else {
        return Err(wrong("does not have three inputs and four outputs"));
    };
    let graph = slots.graph;
    let elements = |id: ValueId| graph.shape(id).elements();
    let count = elements(anchors) / 4;
    let rows = options.rows();
    let columns = graph.shape(scores).channels();
    let sizes = [4 * rows, rows, rows, 1];
    let all = node.inputs.iter().chain(&node.outputs);
    if all.into_iter().any(|&id| graph.dtype(id) != DType::F32) {
        return Err(wrong("has a tensor that is not float32"));
    }
    if count == 0
        || elements(anchors) != 4 * count
        || graph.shape(boxes).channels() < 4
        || elements(boxes) != count * graph.shape(boxes).channels()
        || elements(scores) != count * columns
        || !(options.num_classes..=options.num_classes.saturating_add(1)).contains(&columns)
    {
        return Err(wrong(
            "has boxes, scores and anchors that do not fit each other",
        ));
    }
    if node
        .outputs
        .iter()
        .zip(sizes)
        .any(|(&id, size)| elements(id) != size)
    {
        return Err(wrong("has outputs that do not fit its options"));
    }
    let outputs = [0, 1, 2, 3].map(|i| slots.get(node.outputs[i]));
    Ok(PostProcess {
        step: StepInfo {
            index: node.index,
            op: node.op.name().into(),
            output: graph.info(node.outputs[0]).name.clone(),
            shape: graph.shape(node.outputs[0]).clone(),
            kernel: "f32".into(),
            macs: 0,
            bytes: 0,
        },
        options,
        inputs: [boxes, scores, anchors].map(|id| slots.get(id)),
        outputs,
        scratch: PostProcessScratch::new(&options, count),
    })
}

/// The options of a node for the kernel.
pub(super) fn options(op: &DetectionPostProcess) -> PostProcessOptions {
    PostProcessOptions {
        max_detections: op.max_detections,
        max_classes_per_detection: op.max_classes_per_detection,
        detections_per_class: op.detections_per_class,
        use_regular_nms: op.use_regular_nms,
        nms_score_threshold: op.nms_score_threshold,
        nms_iou_threshold: op.nms_iou_threshold,
        num_classes: op.num_classes,
        scale: op.scale,
    }
}

/// tract's name of an element type.
pub(super) fn datum_type(dtype: DType) -> DatumType {
    match dtype {
        DType::U8 => DatumType::U8,
        DType::I8 => DatumType::I8,
        DType::I32 => DatumType::I32,
        DType::F32 => DatumType::F32,
    }
}
