//! The scores of a classifier as its best classes.

use std::sync::Arc;

use crate::engine::Engine;
use crate::model::labels::Labels;
use crate::model::{Model, ScoreActivation};
use crate::tensor::{TensorInfo, TensorView};

/// Classes that are told of a picture.
const TOP: usize = 5;

/// A class that a whole picture may be of.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Classification {
    pub label: Arc<str>,
    /// Position in the model's output.
    pub class_id: usize,
    /// In `[0, 1]`.
    pub confidence: f32,
}

/// The only output of a classifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ClassHead {
    pub count: usize,
    pub activation: ScoreActivation,
}

impl ClassHead {
    /// The head of a model whose only output is a list of scores.
    pub fn find(model: &Model) -> Option<Self> {
        let activation = model.metadata.scores.or(model.probabilities(0));
        Some(Self {
            count: model.class_scores()?,
            activation: activation.unwrap_or(ScoreActivation::Softmax),
        })
    }

    /// The best classes of an engine's last run, best first.
    pub fn read(&self, engine: &dyn Engine, labels: &Labels) -> Vec<Classification> {
        let mut scores = reals(&engine.outputs()[0], engine.output(0));
        self.activate(&mut scores);
        let mut order: Vec<usize> = (0..scores.len())
            .filter(|&id| !scores[id].is_nan())
            .collect();
        let best_first = |&a: &usize, &b: &usize| scores[b].total_cmp(&scores[a]).then(a.cmp(&b));
        let top = TOP.min(order.len());
        if top < order.len() {
            order.select_nth_unstable_by(top, best_first);
        }
        order.truncate(top);
        order.sort_by(best_first);
        let class = |class_id: usize| Classification {
            label: labels.name(class_id),
            class_id,
            confidence: scores[class_id].clamp(0.0, 1.0),
        };
        order.into_iter().map(class).collect()
    }

    fn activate(&self, scores: &mut [f32]) {
        match self.activation {
            ScoreActivation::None => {}
            ScoreActivation::Sigmoid => {
                scores
                    .iter_mut()
                    .for_each(|score| *score = 1.0 / (1.0 + (-*score).exp()));
            }
            ScoreActivation::Softmax => {
                let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                scores
                    .iter_mut()
                    .for_each(|score| *score = (*score - largest).exp());
                let sum: f32 = scores.iter().sum();
                scores.iter_mut().for_each(|score| *score /= sum);
            }
        }
    }
}

/// Codes as the real values that they stand for.
fn reals(info: &TensorInfo, values: TensorView<'_>) -> Vec<f32> {
    let (scale, zero) = match &info.quant {
        Some(quant) => (quant.scale(), quant.zero_point()),
        None => (1.0, 0),
    };
    let real = |code: i32| (code - zero) as f32 * scale;
    match values {
        TensorView::F32(values) => values.to_vec(),
        TensorView::U8(codes) => codes.iter().map(|&code| real(code.into())).collect(),
        TensorView::I8(codes) => codes.iter().map(|&code| real(code.into())).collect(),
        TensorView::I32(values) => values.iter().map(|&value| value as f32).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::{DType, QuantParams, Shape};

    #[test]
    fn codes_are_real_values() {
        let info = TensorInfo {
            name: "p".into(),
            shape: Shape::from([1, 2]),
            dtype: DType::U8,
            quant: Some(QuantParams::per_tensor(0.5, 2)),
        };
        assert_eq!(reals(&info, TensorView::U8(&[2, 4])), [0.0, 1.0]);
    }

    #[test]
    fn activations_make_probabilities() {
        let made = |activation| {
            let mut scores = [0.0, 3f32.ln()];
            ClassHead {
                count: 2,
                activation,
            }
            .activate(&mut scores);
            scores.map(|score| (score * 1e4).round() / 1e4)
        };
        assert_eq!(made(ScoreActivation::Softmax), [0.25, 0.75]);
        assert_eq!(made(ScoreActivation::Sigmoid), [0.5, 0.75]);
    }
}
