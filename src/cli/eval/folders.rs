//! Classifiers on a folder with a folder for each class.

use std::path::PathBuf;

use serde::Serialize;

use super::boxes::label_names;
use super::{Args, text};
use crate::cli::load::{ModelArgs, Work};
use crate::cli::print;
use crate::cli::progress::Progress;
use crate::error::{Error, Result};
use crate::eval::classes::{ClassMap, Renames};
use crate::eval::top_k::{Accuracy, Classifier};
use crate::model::labels::Labels;
use crate::source::read_picture;

/// A model, and the places of the right classes.
pub(super) struct Run {
    name: String,
    classifier: Classifier,
    classes: ClassMap,
    places: Vec<usize>,
}

impl Run {
    /// A model that has classified nothing yet; `names` are the classes of the data set.
    pub fn new(
        name: String,
        classifier: Classifier,
        labels: &Labels,
        (names, renames): (&[String], &Renames),
    ) -> Result<Self> {
        let labels = label_names(labels, classifier.classes());
        let classes = ClassMap::new(&labels, names, renames)?;
        for warning in classes.warnings() {
            log::warn!("{name}: {warning}");
        }
        Ok(Self {
            name,
            classifier,
            classes,
            places: Vec::new(),
        })
    }

    /// How often it was right.
    pub fn accuracy(&self) -> Accuracy {
        Accuracy::of(&self.places, self.classifier.classes())
    }
}

#[derive(Serialize)]
struct Report<'a> {
    model: &'a str,
    #[serde(flatten)]
    accuracy: Accuracy,
}

pub(super) fn run(
    args: &Args,
    models: &[ModelArgs],
    folders: Vec<(String, Vec<PathBuf>)>,
) -> Result<()> {
    if args.detections.is_some() || args.save_detections.is_some() || args.voc.is_some() {
        return Err(Error::Usage(format!(
            "{}: a folder for each class is for classifiers, which detect nothing",
            args.dataset.path.display()
        )));
    }
    let (names, pictures) = listed(folders, args.limit);
    let renames = super::renames(args.class_map.as_deref())?;
    let load = |flags: &ModelArgs| -> Result<Run> {
        let loaded = flags.load(Work::Stills)?;
        let model = loaded.model;
        let classifier = Classifier::new(loaded.engine, &model)?;
        Run::new(model.name, classifier, &loaded.labels, (&names, &renames))
    };
    let mut runs: Vec<Run> = models.iter().map(load).collect::<Result<_>>()?;
    classify(&mut runs, &pictures)?;
    let rows: Vec<(String, Accuracy)> = runs
        .into_iter()
        .map(|run| (run.name.clone(), run.accuracy()))
        .collect();
    print(&if args.json {
        to_json(&rows)?
    } else {
        text::accuracies(&args.dataset.path.display().to_string(), &rows)
    })
}

/// Runs every model on every picture, which is read once.
pub(super) fn classify(runs: &mut [Run], pictures: &[(PathBuf, usize)]) -> Result<()> {
    let mut progress = Progress::new("classifying picture", pictures.len());
    for (path, class) in pictures {
        let frame = read_picture(path)?;
        for run in &mut *runs {
            let place = run.classifier.place(&frame, *class, &run.classes)?;
            run.places.push(place);
        }
        progress.step();
    }
    Ok(())
}

/// Names of the classes, and the pictures each with the position of its class; of the pictures at most `limit`, as
/// many of each class as of any other while there are.
pub(super) fn listed(
    folders: Vec<(String, Vec<PathBuf>)>,
    limit: Option<u64>,
) -> (Vec<String>, Vec<(PathBuf, usize)>) {
    let (names, paths): (Vec<String>, Vec<Vec<PathBuf>>) = folders.into_iter().unzip();
    let by_class = paths.into_iter().enumerate();
    let mut pictures: Vec<(usize, usize, PathBuf)> = by_class
        .flat_map(|(class, paths)| {
            let numbered = paths.into_iter().enumerate();
            numbered.map(move |(number, path)| (number, class, path))
        })
        .collect();
    pictures.sort();
    if let Some(limit) = limit {
        pictures.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    }
    let pictures = pictures.into_iter().map(|(_, class, path)| (path, class));
    (names, pictures.collect())
}

/// A line: one object, or the list of two.
fn to_json(rows: &[(String, Accuracy)]) -> Result<String> {
    let report =
        |(model, accuracy): &'_ (String, Accuracy)| -> serde_json::Result<serde_json::Value> {
            serde_json::to_value(Report {
                model,
                accuracy: *accuracy,
            })
        };
    let reports: serde_json::Result<Vec<_>> = rows.iter().map(report).collect();
    let mut reports = reports.map_err(|error| Error::Internal(format!("JSON: {error}")))?;
    let value = match reports.len() {
        1 => reports.remove(0),
        _ => serde_json::json!({ "runs": reports }),
    };
    Ok(value.to_string() + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_takes_from_all_classes() {
        let folder = |name: &str, count: usize| {
            let paths = (0..count).map(|n| PathBuf::from(format!("{name}{n}")));
            (name.to_owned(), paths.collect())
        };
        let (names, pictures) = listed(vec![folder("a", 3), folder("b", 1)], Some(3));
        assert_eq!(names, ["a", "b"]);
        let taken: Vec<_> = pictures
            .iter()
            .map(|(path, class)| (path.to_str().unwrap(), *class))
            .collect();
        assert_eq!(taken, [("a0", 0), ("b0", 1), ("a1", 0)]);
    }
}
