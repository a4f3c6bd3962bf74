//! The flags that say what a model's file leaves out: what its inputs and outputs mean.

use std::path::PathBuf;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::model::labels::LabelFile;
use crate::model::{Anchors, Decoding, Model, Normalization, ScoreActivation};

/// Columns of COCO models with the background first, where no labels tell.
const COCO_COLUMNS: usize = 91;

/// Flags that are told of a model.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ReadingArgs {
    /// Anchors of a model that ends in raw boxes and scores: CSV, or the JSON that MediaPipe Model Maker writes [default:
    /// those in the model]
    #[arg(long, value_name = "FILE")]
    pub anchors: Option<PathBuf>,
    /// What makes probabilities of raw scores: sigmoid, softmax or none [default: as the model's operators tell]
    #[arg(long, value_name = "NAME")]
    pub scores: Option<ScoreActivation>,
    /// Divisors of raw boxes [default: those beside the anchors, else 10,10,5,5]
    #[arg(long, value_name = "Y,X,H,W")]
    pub box_scales: Option<Numbers>,
    /// Pixels become (pixel - mean) / std: one number, or one a channel [default: as the model's metadata say, else 127.5]
    #[arg(long, value_name = "NUMBERS")]
    pub mean: Option<Numbers>,
    /// See --mean
    #[arg(long, value_name = "NUMBERS")]
    pub std: Option<Numbers>,
}

/// Numbers with commas between.
#[derive(Clone, Debug, PartialEq)]
pub struct Numbers(pub Vec<f32>);

impl FromStr for Numbers {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let number = |field: &str| field.trim().parse::<f32>().ok().filter(|n| n.is_finite());
        let numbers: Option<Vec<f32>> = text.split(',').map(number).collect();
        numbers
            .map(Self)
            .ok_or_else(|| "not numbers with commas between".into())
    }
}

impl ReadingArgs {
    /// Applies the flags to a model, and puts post-processing after raw boxes and scores if their anchors are known.
    /// `labels` tell whether scores have a background.
    pub fn apply(&self, model: &mut Model, labels: Option<&LabelFile>) -> Result<()> {
        self.normalize(model)?;
        if let Some(path) = &self.anchors {
            let name = path.display().to_string();
            let text = std::fs::read_to_string(path).map_err(Error::io(format!("read {name}")))?;
            model.metadata.anchors = Some(Anchors::parse(&text, &name)?);
        }
        if self.scores.is_some() {
            model.metadata.scores = self.scores;
        }
        let Some(head) = model.raw_head() else {
            return match self.anchors {
                None => Ok(()),
                Some(_) => Err(Error::Usage(format!(
                    "--anchors: {} does not end in raw boxes [1, n, 4] and scores [1, n, classes], but in {}",
                    model.name,
                    model.describe_outputs()
                ))),
            };
        };
        let Some(mut anchors) = model.metadata.anchors.take() else {
            return Ok(());
        };
        if let Some(Numbers(scales)) = &self.box_scales {
            let scale = <[f32; 4]>::try_from(scales.as_slice()).ok();
            let known = scale.and_then(|scale| Anchors::new(anchors.boxes, scale));
            anchors = known.ok_or_else(|| {
                Error::Usage(
                    "--box-scales: not four numbers above 0, for y, x, height, width".into(),
                )
            })?;
        }
        let activation = model.metadata.scores.or(head.known).ok_or_else(|| Error::Unsupported {
            model: model.name.clone(),
            feature: "a raw head whose scores are no probabilities".into(),
            advice: "say what makes them so: --scores sigmoid (TensorFlow's detectors) or --scores softmax".into(),
        })?;
        let has_background = match labels {
            Some(labels) => labels.leaves_column_for_background(head.columns),
            None => head.columns == COCO_COLUMNS || activation == ScoreActivation::Softmax,
        };
        let decoding = Decoding {
            anchors,
            activation,
            has_background: has_background && head.columns > 1,
        };
        model.attach(&head, decoding)
    }

    fn normalize(&self, model: &mut Model) -> Result<()> {
        let known = model.metadata.normalization.take();
        let (mean, std) = match (&self.mean, &self.std, known) {
            (None, None, known) => {
                model.metadata.normalization = known;
                return Ok(());
            }
            (mean, std, known) => {
                let part = |flag: &Option<Numbers>, known: Option<&Vec<f32>>| {
                    let flag = flag.as_ref().map(|Numbers(values)| values.clone());
                    flag.or(known.cloned()).unwrap_or_else(|| vec![127.5])
                };
                let mean = part(mean, known.as_ref().map(|known| &known.mean));
                let std = part(std, known.as_ref().map(|known| &known.std));
                (mean, std)
            }
        };
        if std.contains(&0.0) {
            return Err(Error::Usage("--std: pixels cannot be divided by 0".into()));
        }
        model.metadata.normalization = Some(Normalization { mean, std });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_commas_between() {
        assert_eq!(
            "10,10, 5,5".parse(),
            Ok(Numbers(vec![10.0, 10.0, 5.0, 5.0]))
        );
        for bad in ["", "1,,2", "x", "nan"] {
            assert!(bad.parse::<Numbers>().is_err(), "{bad}");
        }
    }
}
