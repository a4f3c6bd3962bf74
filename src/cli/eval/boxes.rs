//! Detectors on a data set with boxes.

use std::time::Duration;

use super::results::{self, ClassReport, Report, Unmatched};
use super::{Args, text};
use crate::cli::load::{ModelArgs, Work, load_detector};
use crate::cli::print;
use crate::cli::progress::Progress;
use crate::dataset::{Dataset, Form, Image, Keep, Rect};
use crate::detect::{BoundingBox, Detection, Detector};
use crate::error::{Error, Result};
use crate::eval::classes::{ClassMap, Renames};
use crate::eval::{Counts, Found, Truth, coco, voc};
use crate::model::labels::Labels;
use crate::source::{Frame, read_picture};

/// A model, and what it finds.
pub(super) struct Run {
    name: String,
    detector: Detector,
    classes: ClassMap,
    pub found: Vec<Found>,
    inference: Duration,
}

impl Run {
    /// A model that has found nothing yet; `names` are the classes of the data set.
    pub fn new(
        name: String,
        detector: Detector,
        names: &[String],
        renames: &Renames,
    ) -> Result<Self> {
        let labels = label_names(detector.labels(), names.len());
        let classes = ClassMap::new(&labels, names, renames)?;
        for warning in classes.warnings() {
            log::warn!("{name}: {warning}");
        }
        Ok(Self {
            name,
            detector,
            classes,
            found: Vec::new(),
            inference: Duration::ZERO,
        })
    }
}

/// Names of the classes of a data set.
pub(super) fn class_names(dataset: &Dataset) -> Vec<String> {
    let classes = dataset.classes.iter();
    classes.map(|class| class.name.clone()).collect()
}

pub(super) fn run(args: &Args, models: &[ModelArgs]) -> Result<()> {
    let mut dataset = args.dataset.read(Keep::Boxes)?;
    if args.detections.is_none() {
        dataset.require_pictures(args.dataset.missing())?;
    }
    if let Some(limit) = args.limit {
        dataset
            .images
            .truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    }
    let truths = truths(&dataset);
    let reports = match &args.detections {
        Some(file) => {
            let found = results::read(file, &dataset)?;
            let origin = Origin {
                name: file.display().to_string(),
                model: None,
            };
            vec![report(args, &dataset, &truths, &found, origin)]
        }
        None => {
            let mut runs = load(args, models, &dataset)?;
            detect(&mut runs, &dataset)?;
            if let (Some(file), [run]) = (&args.save_detections, &runs[..]) {
                results::write(file, &dataset, &run.found)?;
            }
            let images = dataset.images.len() as u32;
            let reports = runs.into_iter().map(|run| {
                let confidence = run.detector.threshold().get();
                let origin = Origin {
                    name: run.name,
                    model: Some((confidence, run.classes, run.inference / images)),
                };
                report(args, &dataset, &truths, &run.found, origin)
            });
            reports.collect()
        }
    };
    print(&if args.json {
        results::to_json(&reports)?
    } else {
        text::reports(&dataset, &reports, args.per_class)
    })
}

/// What has to be found. Crowds are COCO's; what is difficult is optional in VOC data sets only, since COCO's own
/// programs know no such thing.
pub(super) fn truths(dataset: &Dataset) -> Vec<Truth> {
    let mut truths = Vec::with_capacity(dataset.object_count());
    for (index, image) in dataset.images.iter().enumerate() {
        truths.extend(image.objects.iter().map(|object| Truth {
            image: index,
            class: object.class,
            rect: object.rect,
            area: object.area.unwrap_or_else(|| object.rect.area()),
            counts: if object.traits.crowd {
                Counts::Crowd
            } else if object.traits.difficult && dataset.form == Form::Voc {
                Counts::Optional
            } else {
                Counts::Yes
            },
        }));
    }
    truths
}

fn load(args: &Args, models: &[ModelArgs], dataset: &Dataset) -> Result<Vec<Run>> {
    let renames = super::renames(args.class_map.as_deref())?;
    let names = class_names(dataset);
    let load = |model: &ModelArgs| -> Result<Run> {
        let loaded = load_detector(model, Work::Stills)?;
        // What the model itself answers is judged.
        let detector = loaded.detector.with_agnostic_nms(false);
        Run::new(loaded.model_name, detector, &names, &renames)
    };
    let runs: Vec<Run> = models.iter().map(load).collect::<Result<_>>()?;
    let threshold = runs.first().map(|run| run.detector.threshold().get());
    log::info!(
        "detections from confidence {} on, as many as the model gives",
        threshold.unwrap_or_default()
    );
    Ok(runs)
}

/// The model's classes by id; called by number, at least `unnamed`, where it has no labels.
pub(super) fn label_names(labels: &Labels, unnamed: usize) -> Vec<Option<String>> {
    if labels.is_empty() {
        return (0..unnamed)
            .map(|id| Some(labels.name(id).to_string()))
            .collect();
    }
    let name = |id| (!labels.is_hole(id)).then(|| labels.name(id).to_string());
    (0..labels.len()).map(name).collect()
}

/// Runs every model on every picture, which is read once.
pub(super) fn detect(runs: &mut [Run], dataset: &Dataset) -> Result<()> {
    let mut progress = Progress::new("evaluating picture", dataset.images.len());
    for (index, image) in dataset.images.iter().enumerate() {
        let frame = read(dataset, image)?;
        for run in &mut *runs {
            let detected = run.detector.detect(&frame)?;
            run.inference += detected.inference;
            let found = detected.detections.iter();
            let found = found.filter_map(|detection| found_on(index, detection, &run.classes));
            run.found.extend(found);
        }
        progress.step();
    }
    Ok(())
}

/// The picture of an image, which has to have the size that the data set says: else its boxes would lie elsewhere.
fn read(dataset: &Dataset, image: &Image) -> Result<Frame> {
    let path = image.path.as_deref().unwrap_or(image.file.as_ref());
    let frame = read_picture(path)?;
    let [width, height] = image.size.map(|side| side as usize);
    if (frame.width, frame.height) == (width, height) {
        return Ok(frame);
    }
    let turned = if (frame.width, frame.height) == (height, width) {
        " (upright, by its EXIF orientation)"
    } else {
        ""
    };
    Err(Error::Data {
        file: path.display().to_string(),
        reason: format!(
            "the picture is {}x{}{turned}, but {} says {width}x{height}, so its boxes do not fit; correct the \
             annotation or the picture",
            frame.width, frame.height, dataset.name
        ),
    })
}

/// `None` for a class that the data set has not.
fn found_on(image: usize, detection: &Detection, classes: &ClassMap) -> Option<Found> {
    let BoundingBox {
        x_min,
        y_min,
        x_max,
        y_max,
    } = detection.bounding_box;
    let [x, y, right, bottom] = [x_min, y_min, x_max, y_max].map(f64::from);
    Some(Found {
        image,
        class: classes.to_data(detection.class_id)?,
        rect: Rect {
            x,
            y,
            width: right - x,
            height: bottom - y,
        },
        score: f64::from(detection.confidence),
    })
}

/// What is known of a list of detections beside its figures.
struct Origin {
    name: String,
    /// Of models: confidence, classes, mean time of an inference.
    model: Option<(f32, ClassMap, Duration)>,
}

fn report(
    args: &Args,
    dataset: &Dataset,
    truths: &[Truth],
    found: &[Found],
    origin: Origin,
) -> Report {
    let classes = dataset.classes.len();
    let (metrics, per_class) = coco::evaluate(classes, truths, found);
    let (confidence, map, inference) = match origin.model {
        Some((confidence, map, inference)) => (Some(confidence), Some(map), Some(inference)),
        None => (None, None, None),
    };
    let named = dataset.classes.iter().zip(per_class);
    Report {
        model: origin.name,
        data: dataset.name.clone(),
        metrics,
        images: dataset.images.len(),
        objects: dataset.object_count(),
        voc: args
            .voc
            .map(|iou| voc::evaluate(classes, truths, found, iou)),
        confidence,
        inference_ms: inference.map(|time| (time.as_secs_f64() * 1e6).round() / 1e3),
        unmatched: map.map(|map| Unmatched {
            model: map.only_model,
            data: map.only_data,
        }),
        classes: named
            .map(|(class, figures)| ClassReport {
                name: class.name.clone(),
                objects: figures.objects,
                ap: figures.ap,
                ap_50: figures.ap_50,
                ar_100: figures.ar_100,
            })
            .collect(),
    }
}
