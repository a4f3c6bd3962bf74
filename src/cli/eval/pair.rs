//! A float model and what was made of it, on a labelled data set: for `eyas quantize --eval`.

use std::path::PathBuf;

use super::{CONFIDENCE, boxes, folders};
use crate::cli::load;
use crate::dataset::{self, Contents, Dataset, Keep, Missing, Query, look};
use crate::detect::{Detector, Threshold};
use crate::engine::{self, Engine};
use crate::error::{Error, Result};
use crate::eval::classes::Renames;
use crate::eval::coco;
use crate::eval::top_k::Classifier;
use crate::model::Model;
use crate::model::labels::Labels;
use crate::quantize::report::{Labelled, Scores};

/// Flags that name a labelled data set beside a model.
#[derive(Clone, Debug, clap::Args)]
pub(in crate::cli) struct LabelledArgs {
    /// A labelled data set, as `eyas eval` takes it: mAP (or top-1) of both models goes into the report
    #[arg(long, value_name = "DATASET")]
    eval: Option<PathBuf>,
    /// Label file of the model, for --eval [default: the labels that come with the model]
    #[arg(short, long, value_name = "FILE", requires = "eval")]
    labels: Option<PathBuf>,
    /// Label file with the names of the classes of a YOLO data set that brings none, for --eval
    #[arg(long, value_name = "FILE", requires = "eval")]
    names: Option<PathBuf>,
    /// Lines `model name = dataset name` for classes that are called otherwise, for --eval
    #[arg(long, value_name = "FILE", requires = "eval")]
    class_map: Option<PathBuf>,
}

/// A labelled data set that fits a model.
pub(in crate::cli) struct LabelledSet {
    name: String,
    contents: Loaded,
    labels: Labels,
    renames: Renames,
}

enum Loaded {
    Boxes(Dataset),
    Folders(Vec<String>, Vec<(PathBuf, usize)>),
}

impl LabelledArgs {
    /// Reads the data set and checks that the model can be judged by it; `None` if there is none.
    pub fn open(&self, model: &Model) -> Result<Option<LabelledSet>> {
        let Some(path) = &self.eval else {
            return Ok(None);
        };
        let names = self.names.as_deref().map(load::read_names).transpose()?;
        let query = Query {
            path,
            form: None,
            images: None,
            split: None,
            names: names.as_deref(),
            keep: Keep::Boxes,
        };
        let contents = match look(&query)? {
            Contents::Boxes => {
                let mut dataset = dataset::read(&query)?;
                dataset.require_pictures(Missing::Refuse)?;
                Loaded::Boxes(dataset)
            }
            Contents::ClassFolders(folders) => {
                let (names, pictures) = folders::listed(folders, None);
                Loaded::Folders(names, pictures)
            }
        };
        let set = LabelledSet {
            name: path.display().to_string(),
            contents,
            labels: load::labels(self.labels.as_deref(), model)?,
            renames: super::renames(self.class_map.as_deref())?,
        };
        // Refused now, not after the work.
        match &set.contents {
            Loaded::Boxes(dataset) => set.detects(model, dataset).map(drop)?,
            Loaded::Folders(names, _) => set.classifies(model, names).map(drop)?,
        }
        Ok(Some(set))
    }
}

impl LabelledSet {
    /// What a model and the one made of it score.
    pub fn compare(&self, models: [&Model; 2]) -> Result<Labelled> {
        let (pictures, [float, quantized]) = match &self.contents {
            Loaded::Boxes(dataset) => self.detect(models, dataset)?,
            Loaded::Folders(names, pictures) => self.classify(models, names, pictures)?,
        };
        Ok(Labelled {
            data: self.name.clone(),
            pictures,
            float,
            quantized,
        })
    }

    fn detect(&self, models: [&Model; 2], dataset: &Dataset) -> Result<(usize, [Scores; 2])> {
        let [float, quantized] = models;
        let mut runs = [
            self.detects(float, dataset)?,
            self.detects(quantized, dataset)?,
        ];
        boxes::detect(&mut runs, dataset)?;
        let truths = boxes::truths(dataset);
        let [float, quantized] = runs.map(|run| {
            let (metrics, _) = coco::evaluate(dataset.classes.len(), &truths, &run.found);
            metrics.map.zip(metrics.map_50)
        });
        match (float, quantized) {
            (Some((map, map_50)), Some((quantized, quantized_50))) => {
                let scores = [(map, map_50), (quantized, quantized_50)];
                let scores = scores.map(|(map, map_50)| Scores::Detections { map, map_50 });
                Ok((dataset.images.len(), scores))
            }
            _ => Err(self.is_empty("no objects")),
        }
    }

    fn classify(
        &self,
        models: [&Model; 2],
        names: &[String],
        pictures: &[(PathBuf, usize)],
    ) -> Result<(usize, [Scores; 2])> {
        let [float, quantized] = models;
        let mut runs = [
            self.classifies(float, names)?,
            self.classifies(quantized, names)?,
        ];
        folders::classify(&mut runs, pictures)?;
        let [float, quantized] = runs.map(|run| run.accuracy());
        match (float.top_1, quantized.top_1) {
            (Some(top_1), Some(quantized_top_1)) => {
                let scores = [(top_1, float.top_5), (quantized_top_1, quantized.top_5)];
                let scores = scores.map(|(top_1, top_5)| Scores::Classes { top_1, top_5 });
                Ok((pictures.len(), scores))
            }
            _ => Err(self.is_empty("no pictures")),
        }
    }

    fn detects(&self, model: &Model, dataset: &Dataset) -> Result<boxes::Run> {
        let threshold = Threshold::new(CONFIDENCE);
        let detector = Detector::new(engine(model)?, model, self.labels.clone(), threshold)?;
        let names = boxes::class_names(dataset);
        boxes::Run::new(model.name.clone(), detector, &names, &self.renames)
    }

    fn classifies(&self, model: &Model, names: &[String]) -> Result<folders::Run> {
        let classifier = Classifier::new(engine(model)?, model)?;
        let known = (names, &self.renames);
        folders::Run::new(model.name.clone(), classifier, &self.labels, known)
    }

    fn is_empty(&self, what: &str) -> Error {
        Error::Usage(format!("--eval {}: holds {what} to judge by", self.name))
    }
}

fn engine(model: &Model) -> Result<Box<dyn Engine>> {
    let options = engine::Options {
        threads: load::Work::Stills.default_threads(),
        ..engine::Options::default()
    };
    engine::load(model, options)
}
