//! Which operators suffer most from quantization: each is quantized alone, and the noise at the outputs measured.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;

use serde::Serialize;

use super::calibrate::{Statistics, made, model_of};
use super::judge::{Noise, Record, Runner};
use super::lower::{InputType, lower};
use super::pictures::Pictures;
use super::scheme::{Arithmetic, KeptAs, Settings, is_same_scale};
use super::share::share;
use super::simulate::simulate;
use super::{Progress, heads};
use crate::engine::{self, Engine};
use crate::error::Result;
use crate::graph::{Graph, Op, ValueId};
use crate::model::Model;
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
        let real = each(&graph, name, pictures, |_, outputs| outputs)?;
        Ok(Self { heads, real })
    }

    /// The mean ratio over the outputs when the graph is quantized so; the pictures are those of [`Self::new`].
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
        let noise_of = |index: usize, quantized: Vec<TensorData>| -> Vec<Noise> {
            let pairs = self.real[index].iter().zip(&quantized);
            pairs
                .map(|(real, quantized)| noise(real, quantized))
                .collect()
        };
        let noises = each(&simulate(&lowered), name, pictures, noise_of)?;
        let total = vec![Noise::default(); self.heads.len()];
        let total = noises.into_iter().fold(total, merged);
        let measured: Vec<f64> = total.iter().filter_map(Noise::decibels).collect();
        Ok(measured.iter().sum::<f64>() / measured.len().max(1) as f64)
    }
}

fn noise(real: &TensorData, quantized: &TensorData) -> Noise {
    let mut noise = Noise::default();
    if let (TensorData::F32(real), TensorData::F32(quantized)) = (real, quantized) {
        noise.add(real, quantized);
    }
    noise
}

/// The sums of both, value by value.
fn merged(all: Vec<Noise>, next: Vec<Noise>) -> Vec<Noise> {
    let pairs = all.into_iter().zip(next);
    pairs.map(|(a, b)| a.merged(b)).collect()
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

/// What `read` makes of the outputs on each picture.
fn each<T: Send>(
    graph: &Graph,
    name: &str,
    pictures: &Pictures,
    read: impl Fn(usize, Vec<TensorData>) -> T + Sync,
) -> Result<Vec<T>> {
    let model = model_of(graph, name);
    let mut quiet = |_: &str, _: usize, _: usize| {};
    let shared = share(
        (pictures.threads(), pictures.len()),
        || engine::load(&model, engine::Options::default()),
        |engine, index| {
            engine.set_input(0, pictures.input(index).view())?;
            engine.run()?;
            let outputs = 0..engine.outputs().len();
            let outputs = outputs.map(|output| engine.output(output).to_data());
            Ok(read(index, outputs.collect()))
        },
        ("simulating", &mut Progress(&mut quiet)),
    )?;
    Ok(shared.results)
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
    let alone = pictures.clone().with_threads(NonZeroUsize::MIN);
    let measure = |(): &mut (), at: usize| {
        let node = candidates[at];
        let mut kept = all.clone();
        kept.remove(&node);
        let only = Settings {
            kept,
            kept_as: KeptAs::Float,
            ..settings.clone()
        };
        let made = &graph.nodes[node];
        Ok(Sensitivity {
            node,
            operator: made.index,
            op: made.op.name(),
            name: graph.info(made.outputs[0]).name.clone(),
            decibels: outputs.decibels(graph, statistics, &only, name, &alone)?,
        })
    };
    let ranked = share(
        (pictures.threads(), candidates.len()),
        || Ok(()),
        measure,
        ("measuring sensitivity", progress),
    )?;
    let mut ranked = ranked.results;
    ranked.sort_by(|a, b| a.decibels.total_cmp(&b.decibels));
    Ok(ranked)
}

/// Noise of every value that both graphs make under one name.
pub(super) fn layer_noise(
    graph: &Graph,
    name: &str,
    quantized: &Model,
    pictures: &Pictures,
    progress: &mut Progress<'_>,
) -> Result<Vec<Noise>> {
    let float = model_of(graph, name);
    let start = || -> Result<(Box<dyn Engine>, Runner)> {
        let options = engine::Options {
            keep_intermediates: true,
            ..engine::Options::default()
        };
        let engine = engine::load(&float, options)?;
        Ok((engine, Runner::new(quantized, Record::Everything)?))
    };
    let compare = |(engine, quantized): &mut (Box<dyn Engine>, Runner), index: usize| {
        engine.set_input(0, pictures.input(index).view())?;
        engine.run()?;
        quantized.run(pictures.frame(index))?;
        let values = quantized.intermediates();
        let mut noises = vec![Noise::default(); graph.values.len()];
        for (id, (info, real)) in made(graph).zip(engine.intermediates()) {
            if let (TensorData::F32(real), Some(quantized)) = (&real, values.get(&info.name)) {
                noises[id.0].add(real, quantized);
            }
        }
        Ok(noises)
    };
    let noises = share(
        (pictures.threads(), pictures.len()),
        start,
        compare,
        ("comparing layers", progress),
    )?;
    let total = vec![Noise::default(); graph.values.len()];
    Ok(noises.results.into_iter().fold(total, merged))
}
