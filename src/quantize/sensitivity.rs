//! Which operators suffer most from quantization: each is quantized alone, and the noise at the outputs measured.

use std::collections::BTreeSet;

use serde::Serialize;

use super::calibrate::{Statistics, load_keeping, model_of};
use super::judge::Noise;
use super::lower::{InputType, lower};
use super::pictures::Pictures;
use super::scheme::{Arithmetic, KeptAs, Settings, is_same_scale};
use super::simulate::simulate;
use super::{Progress, heads};
use crate::engine;
use crate::error::Result;
use crate::graph::{Graph, Op, ValueId};
use crate::tensor::TensorData;

/// What quantizing one operator alone does to the outputs.
#[derive(Clone, Debug, Serialize)]
pub struct Sensitivity {
    /// Position among the graph's nodes.
    #[serde(skip)]
    pub node: usize,
    /// Position of the operator in the model file.
    pub operator: usize,
    pub op: &'static str,
    pub name: String,
    /// Signal-to-quantization-noise ratio at the outputs.
    pub decibels: f64,
}

/// The float outputs of a graph on pictures, to measure noise against.
pub(super) struct Outputs {
    heads: Vec<ValueId>,
    real: Vec<Vec<TensorData>>,
}

impl Outputs {
    /// Runs the float graph up to what the detection post-processing reads, or to its outputs.
    pub fn new(graph: &Graph, name: &str, pictures: &Pictures) -> Result<Self> {
        let heads = heads(graph);
        let graph = up_to(graph, &heads);
        let real = run(&graph, name, pictures)?;
        Ok(Self { heads, real })
    }

    /// The mean ratio over the outputs when the graph is quantized so.
    pub fn decibels(
        &self,
        graph: &Graph,
        statistics: &Statistics,
        settings: &Settings,
        name: &str,
        pictures: &Pictures,
    ) -> Result<f64> {
        let graph = up_to(graph, &self.heads);
        let lowered = lower(
            &graph,
            statistics,
            settings,
            (InputType::Float32, pictures.range()),
        );
        let quantized = run(&simulate(&lowered), name, pictures)?;
        let mut noises = vec![Noise::default(); self.heads.len()];
        for (real, quantized) in self.real.iter().zip(&quantized) {
            for (noise, pair) in noises.iter_mut().zip(real.iter().zip(quantized)) {
                if let (TensorData::F32(real), TensorData::F32(quantized)) = pair {
                    noise.add(real, quantized);
                }
            }
        }
        let measured: Vec<f64> = noises.iter().filter_map(Noise::decibels).collect();
        Ok(measured.iter().sum::<f64>() / measured.len().max(1) as f64)
    }
}

/// The graph without what comes after `outputs`.
fn up_to(graph: &Graph, outputs: &[ValueId]) -> Graph {
    let mut graph = graph.clone();
    graph.outputs = outputs.to_vec();
    graph
        .nodes
        .retain(|node| !matches!(node.op, Op::DetectionPostProcess(_)));
    graph
}

fn run(graph: &Graph, name: &str, pictures: &Pictures) -> Result<Vec<Vec<TensorData>>> {
    let mut engine = engine::load(&model_of(graph, name), engine::Options::default())?;
    let mut answers = Vec::new();
    for index in 0..pictures.len() {
        engine.set_input(0, pictures.input(index).view())?;
        engine.run()?;
        let outputs = 0..engine.outputs().len();
        answers.push(
            outputs
                .map(|output| engine.output(output).to_data())
                .collect(),
        );
    }
    Ok(answers)
}

/// Operators by what quantizing each alone does to the outputs, the most sensitive first. Those that only move codes are
/// left out: they add no noise.
pub fn rank(
    graph: &Graph,
    statistics: &Statistics,
    settings: &Settings,
    name: &str,
    pictures: &Pictures,
    progress: &mut Progress<'_>,
) -> Result<Vec<Sensitivity>> {
    let outputs = Outputs::new(graph, name, pictures)?;
    let all: BTreeSet<usize> = (0..graph.nodes.len()).collect();
    let is_quantized = |node: &usize| {
        let op = &graph.nodes[*node];
        settings.arithmetic(*node, op) != Arithmetic::Float && !is_same_scale(&op.op)
    };
    let candidates: Vec<usize> = all.iter().copied().filter(is_quantized).collect();
    let mut ranked = Vec::new();
    for (done, &node) in candidates.iter().enumerate() {
        progress.step("measuring sensitivity", done, candidates.len());
        let mut kept = all.clone();
        kept.remove(&node);
        let alone = Settings {
            kept,
            kept_as: KeptAs::Float,
            ..settings.clone()
        };
        let made = &graph.nodes[node];
        ranked.push(Sensitivity {
            node,
            operator: made.index,
            op: made.op.name(),
            name: graph.info(made.outputs[0]).name.clone(),
            decibels: outputs.decibels(graph, statistics, &alone, name, pictures)?,
        });
    }
    ranked.sort_by(|a, b| a.decibels.total_cmp(&b.decibels));
    Ok(ranked)
}

/// Noise of every value that both graphs make under one name.
pub(super) fn layer_noise(
    graph: &Graph,
    name: &str,
    quantized: &mut super::judge::Runner,
    pictures: &Pictures,
    progress: &mut Progress<'_>,
) -> Result<Vec<Noise>> {
    let mut engine = load_keeping(graph, name)?;
    let made: Vec<ValueId> = graph
        .nodes
        .iter()
        .flat_map(|node| node.outputs.clone())
        .collect();
    let mut noises = vec![Noise::default(); graph.values.len()];
    for index in 0..pictures.len() {
        progress.step("comparing layers", index, pictures.len());
        engine.set_input(0, pictures.input(index).view())?;
        engine.run()?;
        quantized.run(pictures.frame(index))?;
        let values = quantized.intermediates();
        for (id, (info, real)) in made.iter().zip(engine.intermediates()) {
            if let (TensorData::F32(real), Some(quantized)) = (&real, values.get(&info.name)) {
                noises[id.0].add(real, quantized);
            }
        }
    }
    Ok(noises)
}
