//! The figures of the COCO detection challenge (<https://cocodataset.org/#detection-eval>), computed as pycocotools
//! does (`cocoeval.py`: `accumulate` and `summarize`).
//!
//! The only difference: an object whose id is 0 counts as any other, while pycocotools takes the id 0 for "no object".

use super::matching::{AreaRange, Judged, Outcome, Picture, THRESHOLDS};
use super::{ByImage, Found, Truth, mean, sort_by_score};

/// Points on the axis of recall: 0.00, 0.01 ... 1.00.
const RECALL_POINTS: usize = 101;

/// Averages over classes that have objects; `None` (-1 in pycocotools) where no class has any.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Metrics {
    /// Average precision, over IoU 0.50 to 0.95.
    pub map: Option<f64>,
    /// The same at IoU 0.50.
    pub map_50: Option<f64>,
    /// The same at IoU 0.75.
    pub map_75: Option<f64>,
    /// Of objects below 32x32 pixels.
    pub map_small: Option<f64>,
    /// Of objects from 32x32 to 96x96 pixels.
    pub map_medium: Option<f64>,
    /// Of objects above 96x96 pixels.
    pub map_large: Option<f64>,
    /// Highest recall with one detection of each class on each picture, over IoU 0.50 to 0.95.
    pub ar_1: Option<f64>,
    /// The same with 10.
    pub ar_10: Option<f64>,
    /// The same with 100.
    pub ar_100: Option<f64>,
    pub ar_small: Option<f64>,
    pub ar_medium: Option<f64>,
    pub ar_large: Option<f64>,
}

impl Metrics {
    /// All figures with their names, those of precision first.
    pub fn figures(&self) -> [(&'static str, Option<f64>); 12] {
        [
            ("map", self.map),
            ("map_50", self.map_50),
            ("map_75", self.map_75),
            ("map_small", self.map_small),
            ("map_medium", self.map_medium),
            ("map_large", self.map_large),
            ("ar_1", self.ar_1),
            ("ar_10", self.ar_10),
            ("ar_100", self.ar_100),
            ("ar_small", self.ar_small),
            ("ar_medium", self.ar_medium),
            ("ar_large", self.ar_large),
        ]
    }
}

/// The figures of one class.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClassMetrics {
    /// Objects that have to be found.
    pub objects: usize,
    /// Over IoU 0.50 to 0.95; `None` if there are no objects.
    pub ap: Option<f64>,
    pub ap_50: Option<f64>,
    pub ar_100: Option<f64>,
}

/// The figures of all classes and of each of `classes`.
pub fn evaluate(classes: usize, truths: &[Truth], found: &[Found]) -> (Metrics, Vec<ClassMetrics>) {
    let of_classes: Vec<OfClass> = (0..classes)
        .map(|class| OfClass::new(&ByImage::of_class(class, truths, found)))
        .collect();
    let average =
        |figure: &dyn Fn(&OfClass) -> Option<f64>| mean(of_classes.iter().filter_map(figure));
    let metrics = Metrics {
        map: average(&|class| class.all.ap()),
        map_50: average(&|class| class.all.ap_at(0)),
        map_75: average(&|class| class.all.ap_at(5)),
        map_small: average(&|class| class.small.ap()),
        map_medium: average(&|class| class.medium.ap()),
        map_large: average(&|class| class.large.ap()),
        ar_1: average(&|class| class.all.ar(1)),
        ar_10: average(&|class| class.all.ar(10)),
        ar_100: average(&|class| class.all.ar(100)),
        ar_small: average(&|class| class.small.ar(100)),
        ar_medium: average(&|class| class.medium.ar(100)),
        ar_large: average(&|class| class.large.ar(100)),
    };
    let per_class = of_classes.iter().map(|class| ClassMetrics {
        objects: class.all.positives,
        ap: class.all.ap(),
        ap_50: class.all.ap_at(0),
        ar_100: class.all.ar(100),
    });
    (metrics, per_class.collect())
}

/// One class, judged in each range of sizes.
struct OfClass {
    all: Curves,
    small: Curves,
    medium: Curves,
    large: Curves,
}

impl OfClass {
    fn new(class: &ByImage<'_>) -> Self {
        let pictures: Vec<Picture<'_>> = class
            .images()
            .map(|(truths, found)| Picture::new(truths, found))
            .collect();
        Self {
            all: Curves::new(&pictures, AreaRange::ALL),
            small: Curves::new(&pictures, AreaRange::SMALL),
            medium: Curves::new(&pictures, AreaRange::MEDIUM),
            large: Curves::new(&pictures, AreaRange::LARGE),
        }
    }
}

/// The detections of one class in one range of sizes, from which the curves of precision and recall come.
struct Curves {
    positives: usize,
    /// Of all pictures, best first.
    judged: Vec<Judged>,
}

impl Curves {
    fn new(pictures: &[Picture<'_>], range: AreaRange) -> Self {
        let mut positives = 0;
        let mut judged = Vec::new();
        for picture in pictures {
            let (of_picture, outcomes) = picture.judge(range);
            positives += of_picture;
            judged.extend(outcomes);
        }
        sort_by_score(&mut judged, |judged| judged.score);
        Self { positives, judged }
    }

    /// Average precision over all thresholds; `None` without objects.
    fn ap(&self) -> Option<f64> {
        mean((0..THRESHOLDS).filter_map(|threshold| self.ap_at(threshold)))
    }

    /// Average precision at one threshold: the mean of the highest precision at or beyond each point of recall.
    fn ap_at(&self, threshold: usize) -> Option<f64> {
        if self.positives == 0 {
            return None;
        }
        let mut curve = self.curve(threshold);
        let mut highest = 0.0;
        for (_, precision) in curve.iter_mut().rev() {
            highest = precision.max(highest);
            *precision = highest;
        }
        let at = |point: usize| {
            let recall = recall_point(point);
            let reached = curve.partition_point(|&(reached, _)| reached < recall);
            curve.get(reached).map_or(0.0, |&(_, precision)| precision)
        };
        mean((0..RECALL_POINTS).map(at))
    }

    /// Recall and precision after each detection that counts.
    fn curve(&self, threshold: usize) -> Vec<(f64, f64)> {
        let (mut hits, mut misses) = (0.0, 0.0);
        let after = |judged: &Judged| {
            match judged.outcomes[threshold] {
                Outcome::Hit => hits += 1.0,
                Outcome::Miss => misses += 1.0,
                Outcome::Ignored => {}
            }
            let precision = hits / (hits + misses + f64::EPSILON);
            (hits / self.positives as f64, precision)
        };
        self.judged.iter().map(after).collect()
    }

    /// Highest recall with so many detections on each picture, over all thresholds; `None` without objects.
    fn ar(&self, detections: usize) -> Option<f64> {
        if self.positives == 0 {
            return None;
        }
        let hits = |threshold: usize| {
            let counted = self.judged.iter().filter(|judged| {
                judged.rank < detections && judged.outcomes[threshold] == Outcome::Hit
            });
            counted.count() as f64
        };
        mean((0..THRESHOLDS).map(|threshold| hits(threshold) / self.positives as f64))
    }
}

fn recall_point(point: usize) -> f64 {
    match point {
        100 => 1.0,
        _ => point as f64 * 0.01,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Rect;
    use crate::eval::Counts;

    const BOX: Rect = Rect {
        x: 0.0,
        y: 0.0,
        width: 50.0,
        height: 50.0,
    };

    fn truth(image: usize, class: usize) -> Truth {
        Truth {
            image,
            class,
            rect: BOX,
            area: BOX.area(),
            counts: Counts::Yes,
        }
    }

    fn found(image: usize, class: usize, score: f64) -> Found {
        Found {
            image,
            class,
            rect: BOX,
            score,
        }
    }

    #[test]
    fn nothing_to_find_is_no_figure() {
        let (metrics, classes) = evaluate(1, &[], &[found(0, 0, 0.9)]);
        assert_eq!(metrics, Metrics::default());
        assert_eq!(classes, [ClassMetrics::default()]);
    }

    #[test]
    fn nothing_found_is_zero_and_all_found_is_one() {
        let truths = [truth(0, 0), truth(1, 0)];
        let (metrics, _) = evaluate(1, &truths, &[]);
        assert_eq!((metrics.map, metrics.ar_100), (Some(0.0), Some(0.0)));
        let (metrics, _) = evaluate(1, &truths, &[found(0, 0, 0.1), found(1, 0, 0.9)]);
        assert!((metrics.map.unwrap() - 1.0).abs() < 1e-12);
        assert_eq!(metrics.map_medium, metrics.map);
        assert_eq!((metrics.map_small, metrics.map_large), (None, None));
    }

    #[test]
    fn half_the_objects_give_the_points_up_to_half_the_recall() {
        let truths = [truth(0, 0), truth(1, 0)];
        // A wrong one between: the precision beyond it does not matter, since nothing more is found.
        let (metrics, _) = evaluate(1, &truths, &[found(0, 0, 0.9), found(2, 0, 0.8)]);
        assert!((metrics.map_50.unwrap() - 51.0 / 101.0).abs() < 1e-12);
        assert_eq!(metrics.ar_100, Some(0.5));
    }

    #[test]
    fn classes_without_objects_do_not_count() {
        let truths = [truth(0, 0), truth(0, 1)];
        let detections = [found(0, 0, 0.9), found(0, 2, 0.9)];
        let (metrics, classes) = evaluate(3, &truths, &detections);
        assert!((metrics.map.unwrap() - 0.5).abs() < 1e-12);
        assert_eq!(classes[1].ap, Some(0.0));
        assert_eq!(classes[2].ap, None);
    }
}
