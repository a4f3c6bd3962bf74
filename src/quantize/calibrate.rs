//! What the activations of a float graph are like on pictures.

use super::Progress;
use super::histogram::{Histogram, Range};
use super::method::Method;
use super::pictures::Pictures;
use crate::engine::{self, Engine};
use crate::error::{Error, Result};
use crate::graph::{Graph, ValueId};
use crate::model::{Metadata, Model};
use crate::tensor::{DType, TensorData, TensorInfo};

/// What calibration saw of one value.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    pub histogram: Histogram,
    /// What 8-bit codes are to be spread over.
    pub range: Range,
    /// Mean of each channel (the last axis).
    pub means: Vec<f32>,
    /// Largest value of each channel.
    pub maxima: Vec<f32>,
}

/// What calibration saw, by value of the graph. `None` for constants and for what is not real.
#[derive(Clone, Debug)]
pub struct Statistics {
    values: Vec<Option<Observed>>,
}

impl Statistics {
    #[cfg(test)]
    pub(super) fn of_values(values: Vec<Option<Observed>>) -> Self {
        Self { values }
    }

    /// What was seen of a value; `None` for a constant.
    pub fn of(&self, id: ValueId) -> Option<&Observed> {
        self.values[id.0].as_ref()
    }
}

/// A model made of a graph alone, for the float engine.
pub(super) fn model_of(graph: &Graph, name: &str) -> Model {
    Model::of_graph(name, graph.clone(), Metadata::default())
}

/// Runs a float graph on every picture and gathers what its activations are like; `method` chooses their ranges.
///
/// # Errors
/// The float engine lacks an operator, or a value is not finite.
pub fn calibrate(
    graph: &Graph,
    name: &str,
    pictures: &Pictures,
    method: Method,
    progress: &mut Progress<'_>,
) -> Result<Statistics> {
    let mut engine = load_keeping(graph, name)?;
    let made: Vec<ValueId> = graph
        .nodes
        .iter()
        .flat_map(|node| node.outputs.clone())
        .collect();
    let mut values = vec![None; graph.values.len()];
    for index in 0..pictures.len() {
        progress.step("calibrating", index, pictures.len());
        let input = pictures.input(index);
        engine.set_input(0, input.view())?;
        engine.run()?;
        let seen_input = (graph.info(graph.inputs[0]).clone(), input);
        let seen = std::iter::once((graph.inputs[0], seen_input));
        let seen = seen.chain(made.iter().copied().zip(engine.intermediates()));
        for (id, (info, data)) in seen {
            if let TensorData::F32(data) = &data {
                let observed = values[id.0].get_or_insert_with(|| Observed::new(&info));
                if !observed.add(data) {
                    return Err(Error::model(
                        name,
                        format!(
                            "the value `{:.120}` is not finite on {}; the float model itself is broken there",
                            info.name,
                            pictures.name(index)
                        ),
                    ));
                }
            }
        }
    }
    for observed in values.iter_mut().flatten() {
        observed.finish(pictures.len(), method);
    }
    Ok(Statistics { values })
}

/// An engine of a float graph whose every value can be read.
pub(super) fn load_keeping(graph: &Graph, name: &str) -> Result<Box<dyn Engine>> {
    let options = engine::Options {
        keep_intermediates: true,
        ..engine::Options::default()
    };
    engine::load(&model_of(graph, name), options)
}

impl Observed {
    fn new(info: &TensorInfo) -> Self {
        debug_assert_eq!(info.dtype, DType::F32);
        let channels = info.shape.channels();
        Self {
            histogram: Histogram::default(),
            range: Range::default(),
            means: vec![0.0; channels],
            maxima: vec![f32::MIN; channels],
        }
    }

    /// Takes in the values of one picture. `false` if one is not finite.
    fn add(&mut self, data: &[f32]) -> bool {
        let channels = self.means.len();
        let mut sums = vec![0f64; channels];
        for pixel in data.chunks_exact(channels) {
            for ((sum, max), &value) in sums.iter_mut().zip(&mut self.maxima).zip(pixel) {
                *sum += f64::from(value);
                *max = max.max(value);
            }
        }
        let pixels = (data.len() / channels).max(1) as f64;
        for (mean, sum) in self.means.iter_mut().zip(sums) {
            *mean += (sum / pixels) as f32;
        }
        self.histogram.add(data)
    }

    fn finish(&mut self, pictures: usize, method: Method) {
        self.range = method.range(&self.histogram);
        self.means
            .iter_mut()
            .for_each(|mean| *mean /= pictures as f32);
    }
}
