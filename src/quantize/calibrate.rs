//! What the activations of a float graph are like on pictures.

use super::Progress;
use super::histogram::{Histogram, Range};
use super::judge::{Record, Reference, Runner};
use super::method::Method;
use super::pictures::Pictures;
use super::share::share;
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
    input_shift: Vec<f32>,
}

impl Statistics {
    #[cfg(test)]
    pub(super) fn of_values(values: Vec<Option<Observed>>, input_shift: Vec<f32>) -> Self {
        Self {
            values,
            input_shift,
        }
    }

    /// What was seen of a value; `None` for a constant.
    pub fn of(&self, id: ValueId) -> Option<&Observed> {
        self.values[id.0].as_ref()
    }

    /// See [`Pictures::input_shift`].
    pub fn input_shift(&self) -> &[f32] {
        &self.input_shift
    }
}

/// A model made of a graph alone, for the float engine.
pub(super) fn model_of(graph: &Graph, name: &str) -> Model {
    Model::of_graph(name, graph.clone(), Metadata::default())
}

/// What a float graph did on the pictures.
#[derive(Clone, Debug)]
pub struct Calibration {
    pub statistics: Statistics,
    /// Its answers, as it gave them on the way.
    pub reference: Reference,
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
) -> Result<Calibration> {
    let made: Vec<ValueId> = made(graph).collect();
    let input = graph.inputs[0];
    let model = Runner::model_of(graph, name, pictures);
    let answered = Reference::chosen(&model, graph, pictures);
    let start = || -> Result<(Runner, Vec<Option<Observed>>)> {
        let runner = Runner::new(&model, Record::Everything)?;
        Ok((runner, vec![None; graph.values.len()]))
    };
    let work = |(runner, values): &mut (Runner, Vec<Option<Observed>>), index: usize| {
        let answer = runner.run(pictures.frame(index))?;
        let seen_input = (graph.info(input).clone(), pictures.input(index));
        let seen = std::iter::once((input, seen_input));
        let seen = seen.chain(made.iter().copied().zip(runner.engine().intermediates()));
        let mut means = Vec::new();
        for (id, (info, data)) in seen {
            if let TensorData::F32(data) = &data {
                let observed = values[id.0].get_or_insert_with(|| Observed::new(&info));
                means.push((
                    id,
                    observed
                        .add(data)
                        .ok_or_else(|| broken(name, &info, &pictures.name(index)))?,
                ));
            }
        }
        Ok((means, answered.contains(&index).then_some(answer)))
    };
    let shared = share(
        (pictures.threads(), pictures.len()),
        start,
        work,
        ("calibrating", progress),
    )?;
    let mut values = vec![None; graph.values.len()];
    for (_, part) in shared.states {
        for (all, part) in values.iter_mut().zip(part) {
            merge(all, part);
        }
    }
    let mut answers = Vec::new();
    for (index, (means, answer)) in shared.results.into_iter().enumerate() {
        for (id, means) in means {
            if let Some(observed) = &mut values[id.0] {
                let sums = observed.means.iter_mut().zip(means);
                sums.for_each(|(sum, mean)| *sum += mean / pictures.len() as f32);
            }
        }
        answers.extend(answer.map(|answer| (index, answer)));
    }
    choose_ranges(&mut values, method, pictures)?;
    Ok(Calibration {
        statistics: Statistics {
            values,
            input_shift: pictures.input_shift(),
        },
        reference: Reference::of(answers),
    })
}

/// Every value that a node makes, in the order in which engines tell them.
pub(super) fn made(graph: &Graph) -> impl Iterator<Item = ValueId> {
    graph
        .nodes
        .iter()
        .flat_map(|node| node.outputs.iter().copied())
}

fn broken(name: &str, info: &TensorInfo, picture: &str) -> Error {
    Error::model(
        name,
        format!(
            "the value `{:.120}` is not finite on {picture}; the float model itself is broken there",
            info.name
        ),
    )
}

/// Joins what two threads saw of a value, but for the means.
fn merge(all: &mut Option<Observed>, part: Option<Observed>) {
    let Some(part) = part else {
        return;
    };
    let Some(all) = all else {
        *all = Some(part);
        return;
    };
    all.histogram.merge(&part.histogram);
    let maxima = all.maxima.iter_mut().zip(part.maxima);
    maxima.for_each(|(max, other)| *max = max.max(other));
}

fn choose_ranges(
    values: &mut [Option<Observed>],
    method: Method,
    pictures: &Pictures,
) -> Result<()> {
    let seen: Vec<&mut Observed> = values.iter_mut().flatten().collect();
    let range = |(): &mut (), index: usize| Ok(method.range(&seen[index].histogram));
    let mut quiet = |_: &str, _: usize, _: usize| {};
    let ranges = share(
        (pictures.threads(), seen.len()),
        || Ok(()),
        range,
        ("choosing ranges", &mut Progress(&mut quiet)),
    )?;
    for (observed, range) in seen.into_iter().zip(ranges.results) {
        observed.range = range;
    }
    Ok(())
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

    /// Takes in the values of one picture and returns the mean of each channel on it; `None` if a value is not finite.
    fn add(&mut self, data: &[f32]) -> Option<Vec<f32>> {
        let channels = self.means.len();
        let mut sums = vec![0f64; channels];
        for pixel in data.chunks_exact(channels) {
            for ((sum, max), &value) in sums.iter_mut().zip(&mut self.maxima).zip(pixel) {
                *sum += f64::from(value);
                *max = max.max(value);
            }
        }
        let pixels = (data.len() / channels).max(1) as f64;
        let means = sums.into_iter().map(|sum| (sum / pixels) as f32);
        self.histogram.add(data).then(|| means.collect())
    }
}
