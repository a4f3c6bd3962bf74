//! How often a classifier is right.

use super::classes::ClassMap;
use crate::detect::{Fit, Preprocessor};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::source::Frame;
use crate::tensor::TensorView;

/// A model whose only output has a score for each class.
pub struct Classifier {
    engine: Box<dyn Engine>,
    preprocessor: Preprocessor,
}

impl Classifier {
    /// An error if the model does not take one picture, or does not give one list of scores.
    pub fn new(engine: Box<dyn Engine>, model: &Model) -> Result<Self> {
        let unsupported = |feature: String| {
            Error::Unsupported {
            model: model.name.clone(),
            feature,
            advice: "a folder for each class is for models with one picture as input and one list of scores as output; \
                     detectors are evaluated on COCO, YOLO or VOC data sets"
                .into(),
        }
        };
        let [input] = engine.inputs() else {
            return Err(unsupported(format!(
                "classification with {} inputs",
                engine.inputs().len()
            )));
        };
        let [output] = engine.outputs() else {
            return Err(unsupported(format!(
                "classification with {} outputs",
                engine.outputs().len()
            )));
        };
        if output.shape.elements() != output.shape.channels() {
            return Err(unsupported(format!(
                "classification with an output of shape {}",
                output.shape
            )));
        }
        let normalization = model.metadata.normalization.as_ref();
        let preprocessor = Preprocessor::new(input, normalization, Fit::Stretch, &model.name)?;
        Ok(Self {
            engine,
            preprocessor,
        })
    }

    /// How many classes have a score.
    pub fn classes(&self) -> usize {
        self.engine.outputs()[0].shape.elements()
    }

    /// The place, from 0, of the best of the classes that a picture's own class stands for.
    pub fn place(&mut self, frame: &Frame, class: usize, map: &ClassMap) -> Result<usize> {
        self.engine.set_input(0, self.preprocessor.run(frame))?;
        self.engine.run()?;
        let scores = scores(self.engine.output(0));
        let places = map.to_model(class).filter(|id| *id < scores.len());
        Ok(places
            .map(|id| place_of(&scores, id))
            .min()
            .unwrap_or(scores.len()))
    }
}

/// Codes as they are: what they stand for is in the same order.
fn scores(output: TensorView<'_>) -> Vec<f64> {
    match output {
        TensorView::F32(values) => values.iter().map(|&v| f64::from(v)).collect(),
        TensorView::U8(values) => values.iter().map(|&v| f64::from(v)).collect(),
        TensorView::I8(values) => values.iter().map(|&v| f64::from(v)).collect(),
        TensorView::I32(values) => values.iter().map(|&v| f64::from(v)).collect(),
    }
}

/// How many scores are higher, or equal and of a class before it.
fn place_of(scores: &[f64], id: usize) -> usize {
    let score = scores[id];
    let before = |&(other, value): &(usize, &f64)| *value > score || *value == score && other < id;
    scores.iter().enumerate().filter(before).count()
}

/// Shares of pictures, 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Accuracy {
    pub images: usize,
    /// On which the right class has the highest score.
    pub top_1: Option<f64>,
    /// On which it is among the five highest; `None` if there are no more than five classes.
    pub top_5: Option<f64>,
}

impl Accuracy {
    /// Of the places that the right classes took among so many classes.
    pub fn of(places: &[usize], classes: usize) -> Self {
        let share = |first: usize| {
            let hits = places.iter().filter(|place| **place < first).count();
            (!places.is_empty()).then(|| hits as f64 / places.len() as f64)
        };
        Self {
            images: places.len(),
            top_1: share(1),
            top_5: share(5).filter(|_| classes > 5),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_scores_go_to_the_first_class() {
        let scores = [1.0, 3.0, 3.0, 2.0];
        let places = [0, 1, 2, 3].map(|id| place_of(&scores, id));
        assert_eq!(places, [3, 0, 1, 2]);
    }

    #[test]
    fn five_of_five_say_nothing() {
        let few = Accuracy::of(&[0, 4, 1], 5);
        assert_eq!((few.top_1, few.top_5), (Some(1.0 / 3.0), None));
        let many = Accuracy::of(&[0, 4, 5, 9], 10);
        assert_eq!((many.top_1, many.top_5), (Some(0.25), Some(0.5)));
        assert_eq!(Accuracy::of(&[], 10).top_1, None);
    }
}
