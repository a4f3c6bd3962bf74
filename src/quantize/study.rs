//! The trade-off between sizes of codes: agreement with float at each, simulated before one is chosen.

use serde::Serialize;

use super::codes::{Activations, Granularity, WeightFormat, WeightScale};
use super::judge::{Agreement, Runner};
use super::lower::{InputType, lower};
use super::scheme::{Mode, Settings};
use super::sensitivity::Outputs;
use super::simulate::simulate;
use super::{LAYER_PICTURES, Progress, Work};
use crate::error::Result;
use crate::graph::Graph;

/// Bits of weights that are tried.
const WEIGHT_BITS: [u8; 5] = [16, 8, 4, 2, 1];

/// One pair of sizes.
#[derive(Clone, Debug, Serialize)]
pub struct Level {
    pub weight_bits: u8,
    pub activation_bits: u8,
    /// Bytes that the weights take, biases aside.
    pub weight_bytes: u64,
    /// Signal-to-quantization-noise ratio at the outputs.
    pub decibels: f64,
    pub agreement: Agreement,
}

/// Simulates weights of 16, 8, 4, 2 and 1 bit with activations of 16 and 8 bits. Weights of 4 bits and fewer have the
/// scale of least error. Agreement is over all pictures of the reference, noise over a few.
pub(super) fn study(work: &Work<'_>, progress: &mut Progress<'_>) -> Result<Vec<Level>> {
    let Work {
        graph,
        statistics,
        name,
        pictures,
        ..
    } = work;
    let few = pictures.sample(LAYER_PICTURES);
    let outputs = Outputs::new(graph, name, &few)?;
    let weights = weight_count(graph);
    let mut levels = Vec::new();
    for activations in [Activations::Int16, Activations::Int8] {
        for weight_bits in WEIGHT_BITS {
            progress.step("simulating levels", levels.len(), 2 * WEIGHT_BITS.len());
            let scale = match weight_bits {
                0..=4 => WeightScale::LeastError,
                _ => work.settings.weights.scale,
            };
            let level = Settings {
                mode: Mode::Static(activations),
                weights: WeightFormat {
                    bits: weight_bits,
                    granularity: Granularity::PerChannel,
                    scale,
                },
                ..work.settings.clone()
            };
            let input = (InputType::Float32, pictures.range());
            let simulated = simulate(&lower(graph, statistics, &level, input));
            let model = Runner::model_of(&simulated, name, pictures);
            let mut quiet = |_: &str, _: usize, _: usize| {};
            let mut quiet = Progress(&mut quiet);
            levels.push(Level {
                weight_bits,
                activation_bits: match activations {
                    Activations::Int8 => 8,
                    Activations::Int16 => 16,
                },
                weight_bytes: (weights * u64::from(weight_bits)).div_ceil(8),
                decibels: outputs.decibels(graph, statistics, &level, name, &few)?,
                agreement: work.reference.agreement(&model, pictures, &mut quiet)?,
            });
        }
    }
    Ok(levels)
}

fn weight_count(graph: &Graph) -> u64 {
    let weighted = graph.nodes.iter().filter(|node| node.op.has_weights());
    let mut ids: Vec<_> = weighted.map(|node| node.inputs[1]).collect();
    ids.sort_unstable();
    ids.dedup();
    ids.into_iter()
        .map(|id| graph.shape(id).elements() as u64)
        .sum()
}
