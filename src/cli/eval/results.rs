//! Detections in files, figures as JSON.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::dataset::{Dataset, Rect};
use crate::error::{Error, Result};
use crate::eval::coco::Metrics;
use crate::eval::{Found, voc};

/// What is said of one model, or of one file of detections.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub model: String,
    pub data: String,
    #[serde(flatten)]
    pub metrics: Metrics,
    pub images: usize,
    pub objects: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub voc: Option<voc::Metrics>,
    /// Detections below it were left out. Of models only, as the next two.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f32>,
    /// Mean time of one inference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inference_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unmatched: Option<Unmatched>,
    pub classes: Vec<ClassReport>,
}

/// Classes that only one side has.
#[derive(Debug, Serialize)]
pub(super) struct Unmatched {
    pub model: Vec<String>,
    pub data: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct ClassReport {
    pub name: String,
    pub objects: usize,
    pub ap: Option<f64>,
    pub ap_50: Option<f64>,
    pub ar_100: Option<f64>,
}

/// A line of JSON: of one report, or of two and what the second has more.
pub(super) fn to_json(reports: &[Report]) -> Result<String> {
    #[derive(Serialize)]
    struct Both<'a> {
        runs: &'a [Report],
        difference: BTreeMap<&'a str, Option<f64>>,
    }
    let text = match reports {
        [one] => serde_json::to_string(one),
        runs => serde_json::to_string(&Both {
            runs,
            difference: differences(runs).collect(),
        }),
    };
    text.map(|text| text + "\n")
        .map_err(|error| Error::Internal(format!("JSON: {error}")))
}

/// By name, what the last report has more than the first; `None` where one has no figure.
pub(super) fn differences(reports: &[Report]) -> impl Iterator<Item = (&'static str, Option<f64>)> {
    let figures = |report: Option<&Report>| report.map(|report| report.metrics.figures());
    let first = figures(reports.first()).into_iter().flatten();
    let last = figures(reports.last()).into_iter().flatten();
    first
        .zip(last)
        .map(|((name, a), (_, b))| (name, a.zip(b).map(|(a, b)| b - a)))
}

/// One detection in a COCO results file (<https://cocodataset.org/#format-results>).
#[derive(Debug, Deserialize, Serialize)]
struct Record {
    image_id: u64,
    category_id: u64,
    bbox: [f64; 4],
    score: f64,
}

/// Reads detections. Those on pictures that are not evaluated are left out; their number is told.
pub(super) fn read(path: &Path, dataset: &Dataset) -> Result<Vec<Found>> {
    let fail = |reason: String| Error::Data {
        file: path.display().to_string(),
        reason,
    };
    let bytes = std::fs::read(path).map_err(Error::io(format!("read {}", path.display())))?;
    let records: Vec<Record> = serde_json::from_slice(&bytes)
        .map_err(|error| fail(format!("not a COCO results file: {error}")))?;
    let images: HashMap<u64, usize> = dataset
        .images
        .iter()
        .map(|image| image.id)
        .zip(0..)
        .collect();
    let classes: HashMap<u64, usize> = dataset
        .classes
        .iter()
        .map(|class| class.id)
        .zip(0..)
        .collect();
    let mut found = Vec::with_capacity(records.len());
    let (mut other_images, mut other_classes) = (0, 0);
    for (index, record) in records.iter().enumerate() {
        let [x, y, width, height] = record.bbox;
        if width < 0.0 || height < 0.0 {
            return Err(fail(format!(
                "detection {index}: a box of {width}x{height} cannot be"
            )));
        }
        let Some(&image) = images.get(&record.image_id) else {
            other_images += 1;
            continue;
        };
        let Some(&class) = classes.get(&record.category_id) else {
            other_classes += 1;
            continue;
        };
        found.push(Found {
            image,
            class,
            rect: Rect {
                x,
                y,
                width,
                height,
            },
            score: record.score,
        });
    }
    for (count, what) in [(other_images, "pictures"), (other_classes, "categories")] {
        if count > 0 {
            log::warn!(
                "{}: {count} detections of {what} that are not evaluated are left out",
                path.display()
            );
        }
    }
    if found.is_empty() && !records.is_empty() {
        return Err(fail(
            "no detection is of a picture and a category of the data set".into(),
        ));
    }
    Ok(found)
}

/// Writes detections with the ids of the data set.
pub(super) fn write(path: &Path, dataset: &Dataset, found: &[Found]) -> Result<()> {
    let record = |found: &Found| Record {
        image_id: dataset.images[found.image].id,
        category_id: dataset.classes[found.class].id,
        bbox: [
            found.rect.x,
            found.rect.y,
            found.rect.width,
            found.rect.height,
        ],
        score: found.score,
    };
    let records: Vec<Record> = found.iter().map(record).collect();
    let bytes = serde_json::to_vec(&records)
        .map_err(|error| Error::Internal(format!("COCO results: {error}")))?;
    crate::dataset::replace(path, &bytes)
}
