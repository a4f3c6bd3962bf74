//! From a graph to steps with memory: each operator becomes drafts, values that can share bytes are merged, the rest is
//! placed in the arena.

mod block;
mod conv;
mod float;
mod memory;
mod operators;
mod post_process;

use std::borrow::Cow;

use super::step::{Kind, Step};
use super::{CompileOptions, Plan, Port};
use crate::error::{Error, Result};
use crate::graph::{Activation, Graph, Node, ValueId, passes};
use crate::kernels::Kernels;
use crate::kernels::requant::OutputStage;
use crate::tensor::{DType, TensorData, TensorInfo};
use memory::Memory;

/// A step without its memory.
struct Draft {
    /// Position of the operator in the model file.
    index: usize,
    op: String,
    macs: u64,
    weight_bytes: usize,
    kind: Kind,
    inputs: Vec<ValueId>,
    outputs: Vec<ValueId>,
    scratch: usize,
}

/// What the lowering of one operator may look at and add to.
struct Lowering<'a> {
    graph: &'a Graph,
    /// The graph's nodes, less those folded into others.
    nodes: &'a [Node],
    model: &'a str,
    kernels: &'a Kernels,
    options: CompileOptions,
    drafts: Vec<Draft>,
    memory: Memory,
}

pub(super) fn compile(
    graph: &Graph,
    model: &str,
    kernels: &Kernels,
    options: CompileOptions,
) -> Result<Plan> {
    let nodes = match options.keep_intermediates {
        true => Cow::Borrowed(&graph.nodes),
        false => Cow::Owned(passes::fold_pads(graph)),
    };
    let mut lowering = Lowering {
        graph,
        nodes: &nodes,
        model,
        kernels,
        options,
        drafts: Vec::with_capacity(nodes.len()),
        memory: Memory::new(graph, options.keep_intermediates),
    };
    let roles = match options.keep_intermediates {
        true => vec![block::Role::Alone; nodes.len()],
        false => block::find(graph, &nodes),
    };
    for (node, role) in nodes.iter().zip(roles) {
        match role {
            block::Role::Alone => operators::lower(&mut lowering, node)?,
            block::Role::Inside => {}
            block::Role::Ends(group) => block::lower(&mut lowering, &group)?,
        }
    }
    lowering.finish()
}

impl<'a> Lowering<'a> {
    fn info(&self, id: ValueId) -> &'a TensorInfo {
        self.graph.info(id)
    }

    fn dims(&self, id: ValueId) -> &'a [usize] {
        self.info(id).shape.dims()
    }

    /// An [`Error::Unsupported`] that names the operator.
    fn unsupported(&self, node: &Node, what: &str, advice: &str) -> Error {
        Error::Unsupported {
            model: self.model.to_owned(),
            feature: format!("operator {} ({}) {what}", node.index, node.op.name()),
            advice: advice.to_owned(),
        }
    }

    /// Scale and zero point of a value of 8-bit codes, as our int8 codes count it.
    fn quant(&self, node: &Node, id: ValueId) -> Result<(f32, i32)> {
        let info = self.info(id);
        let shift = match info.dtype {
            DType::U8 => 128,
            DType::I8 => 0,
            other => {
                let what = format!("with {other} values in a quantized model");
                let advice = "convert the model to int8 as a whole";
                return Err(self.unsupported(node, &what, advice));
            }
        };
        match &info.quant {
            Some(quant) if !quant.is_per_channel() => {
                Ok((quant.scale(), quant.zero_point() - shift))
            }
            _ => Err(self.unsupported(
                node,
                &format!("whose value {} has no scale of its own", info.name),
                "give activations one scale and zero point each",
            )),
        }
    }

    /// Codes of a constant as int8.
    fn codes(&self, node: &Node, id: ValueId) -> Result<Vec<i8>> {
        match self.graph.constant(id) {
            Some(TensorData::I8(codes)) => Ok(codes.clone()),
            Some(TensorData::U8(codes)) => Ok(codes.iter().map(|&c| (c ^ 0x80) as i8).collect()),
            _ => Err(self.unsupported(
                node,
                "whose weights are not constant 8-bit codes",
                "convert the model with constant int8 or uint8 weights",
            )),
        }
    }

    /// The output's zero point, and its bounds under a fused activation: XNNPACK's
    /// `round_half_even(bound / scale + zero_point)` in f32.
    fn stage(&self, quant: (f32, i32), activation: Activation) -> OutputStage {
        let (scale, zero_point) = quant;
        let code = |real: f32| {
            let code = real / scale + zero_point as f32;
            code.clamp(-128.0, 127.0).round_ties_even() as i8
        };
        let full = OutputStage::full_range(zero_point);
        match activation {
            Activation::None => full,
            Activation::Relu => OutputStage {
                min: code(0.0),
                ..full
            },
            Activation::Relu6 => OutputStage {
                min: code(0.0),
                max: code(6.0),
                ..full
            },
            Activation::ReluN1To1 => OutputStage {
                min: code(-1.0),
                max: code(1.0),
                ..full
            },
        }
    }

    /// Adds a step that reads `inputs` and makes `outputs`.
    fn push(
        &mut self,
        node: &Node,
        kind: Kind,
        inputs: &[ValueId],
        outputs: &[ValueId],
    ) -> &mut Draft {
        let at = self.drafts.len();
        self.drafts.push(Draft {
            index: node.index,
            op: node.op.name().to_owned(),
            macs: 0,
            weight_bytes: 0,
            kind,
            inputs: inputs.to_vec(),
            outputs: outputs.to_vec(),
            scratch: 0,
        });
        &mut self.drafts[at]
    }

    fn finish(mut self) -> Result<Plan> {
        let outputs = self.flipped_outputs();
        let layout = self
            .memory
            .layout(&self.drafts, &self.graph.inputs, &outputs);
        let port = |id: ValueId, info: &TensorInfo| Port {
            info: info.clone(),
            slot: layout.slot(id),
        };
        let graph = self.graph;
        let named = |ids: &[ValueId]| -> Vec<Port> {
            ids.iter().map(|&id| port(id, graph.info(id))).collect()
        };
        let output_ports = outputs
            .iter()
            .zip(&graph.outputs)
            .map(|(&id, &named)| port(id, graph.info(named)))
            .collect();
        let made: Vec<ValueId> = graph
            .nodes
            .iter()
            .flat_map(|node| node.outputs.iter().copied())
            .filter(|&id| layout.has(id))
            .collect();
        let preloaded = self
            .memory
            .constants()
            .filter(|&(id, _)| layout.has(id))
            .map(|(id, bytes)| (layout.slot(id), bytes.to_vec()))
            .collect();
        let packed_bytes = self.drafts.iter().map(|draft| draft.weight_bytes).sum();
        let mut states = 0;
        let steps = self
            .drafts
            .into_iter()
            .zip(&layout.scratch)
            .map(|(mut draft, &scratch)| {
                if let Kind::PostProcess(post) = &mut draft.kind {
                    post.state = states;
                    states += 1;
                }
                Step {
                    index: draft.index,
                    op: draft.op,
                    output: self.memory.info(draft.outputs[0]).clone(),
                    macs: draft.macs,
                    weight_bytes: draft.weight_bytes,
                    kind: draft.kind,
                    inputs: draft.inputs.iter().map(|&id| layout.slot(id)).collect(),
                    outputs: draft.outputs.iter().map(|&id| layout.slot(id)).collect(),
                    scratch,
                }
            })
            .collect();
        Ok(Plan {
            steps,
            inputs: named(&graph.inputs),
            outputs: output_ports,
            intermediates: named(&made),
            preloaded,
            arena_bytes: layout.bytes,
            packed_bytes,
            kernels: *self.kernels,
        })
    }

    /// Adds the steps that turn int8 codes into the file's uint8, and returns the values to read outputs from.
    fn flipped_outputs(&mut self) -> Vec<ValueId> {
        let mut outputs = Vec::with_capacity(self.graph.outputs.len());
        for &id in &self.graph.outputs {
            if self.info(id).dtype != DType::U8 {
                outputs.push(id);
                continue;
            }
            let flipped = self.memory.add_value(self.info(id).clone());
            let last = self.graph.nodes.last().map_or(0, |node| node.index);
            self.drafts.push(Draft {
                index: last,
                op: "OUTPUT".to_owned(),
                macs: 0,
                weight_bytes: 0,
                kind: Kind::FlipSign,
                inputs: vec![id],
                outputs: vec![flipped],
                scratch: 0,
            });
            outputs.push(flipped);
        }
        outputs
    }
}
