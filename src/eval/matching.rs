//! Which detection finds which object on one picture, by the rules of the COCO evaluation (`cocoeval.py` of
//! pycocotools: `computeIoU` and `evaluateImg`; `maskApi.c`: `bbIou`).

use super::{Counts, Found, Truth, sort_by_score};
use crate::dataset::Rect;

/// The most detections of one class on one picture that count, best first.
pub const MAX_DETECTIONS: usize = 100;

/// Number of IoU thresholds.
pub const THRESHOLDS: usize = 10;

/// IoU that a detection and an object need at least: 0.50, 0.55 ... 0.95.
pub fn iou_thresholds() -> [f64; THRESHOLDS] {
    let step = (0.95 - 0.5) / 9.0;
    std::array::from_fn(|index| match index {
        9 => 0.95,
        _ => index as f64 * step + 0.5,
    })
}

/// Objects of other sizes need not be found: bounds of the area in square pixels, both inclusive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AreaRange(pub f64, pub f64);

impl AreaRange {
    pub const ALL: Self = Self(0.0, 1e10);
    pub const SMALL: Self = Self(0.0, 32.0 * 32.0);
    pub const MEDIUM: Self = Self(32.0 * 32.0, 96.0 * 96.0);
    pub const LARGE: Self = Self(96.0 * 96.0, 1e10);

    fn holds(self, area: f64) -> bool {
        (self.0..=self.1).contains(&area)
    }
}

/// What becomes of a detection at one IoU threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It found an object that has to be found.
    Hit,
    /// It found nothing.
    Miss,
    /// It found what need not be found, or nothing and is of a size that is not asked for.
    Ignored,
}

/// Detections and objects of one class on one picture, with the overlap of each pair.
pub struct Picture<'a> {
    truths: &'a [&'a Truth],
    /// Best first, at most [`MAX_DETECTIONS`].
    found: Vec<&'a Found>,
    /// `[found][truths]`
    overlaps: Vec<f64>,
}

/// A detection judged at each threshold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judged {
    pub score: f64,
    /// Position among the detections of its class on its picture, best first.
    pub rank: usize,
    pub outcomes: [Outcome; THRESHOLDS],
}

impl<'a> Picture<'a> {
    pub fn new(truths: &'a [&'a Truth], found: &[&'a Found]) -> Self {
        let mut found = found.to_vec();
        sort_by_score(&mut found, |found| found.score);
        found.truncate(MAX_DETECTIONS);
        let pairs = found
            .iter()
            .flat_map(|found| truths.iter().map(move |truth| overlap(found, truth)));
        let overlaps = pairs.collect();
        Self {
            truths,
            found,
            overlaps,
        }
    }

    /// How many objects of these sizes have to be found, and each detection's outcome, best first.
    pub fn judge(&self, range: AreaRange) -> (usize, Vec<Judged>) {
        let ignored = |truth: &Truth| truth.counts != Counts::Yes || !range.holds(truth.area);
        // Objects that count are tried before those that do not.
        let mut order: Vec<usize> = (0..self.truths.len()).collect();
        order.sort_by_key(|&at| ignored(self.truths[at]));
        let positives = order.partition_point(|&at| !ignored(self.truths[at]));
        let mut judged: Vec<Judged> = (self.found.iter().enumerate())
            .map(|(rank, found)| Judged {
                score: found.score,
                rank,
                outcomes: [Outcome::Miss; THRESHOLDS],
            })
            .collect();
        for (at, threshold) in iou_thresholds().into_iter().enumerate() {
            let mut taken = vec![false; order.len()];
            for (judged, found) in judged.iter_mut().zip(&self.found) {
                judged.outcomes[at] =
                    match self.best_match(judged.rank, threshold, (&order, positives), &taken) {
                        Some(place) => {
                            taken[place] = true;
                            if place < positives {
                                Outcome::Hit
                            } else {
                                Outcome::Ignored
                            }
                        }
                        None if range.holds(found.rect.area()) => Outcome::Miss,
                        None => Outcome::Ignored,
                    };
            }
        }
        (positives, judged)
    }

    /// The place in `order` of the object that a detection finds: the free one that it overlaps most, the last of
    /// equals; one of those from `positives` on only if none before them will do. A crowd is always free.
    fn best_match(
        &self,
        rank: usize,
        threshold: f64,
        (order, positives): (&[usize], usize),
        taken: &[bool],
    ) -> Option<usize> {
        let overlaps = &self.overlaps[rank * self.truths.len()..][..self.truths.len()];
        let mut least = threshold.min(1.0 - 1e-10);
        let mut best = None;
        for (place, &at) in order.iter().enumerate() {
            if place == positives && best.is_some() {
                break;
            }
            let is_free = !taken[place] || self.truths[at].counts == Counts::Crowd;
            if is_free && overlaps[at] >= least {
                least = overlaps[at];
                best = Some(place);
            }
        }
        best
    }
}

/// Intersection over union; over the detection's own area if the object is a crowd. 0 without an intersection.
fn overlap(found: &Found, truth: &Truth) -> f64 {
    let (a, b) = (&found.rect, &truth.rect);
    let intersection = intersection(a, b);
    if intersection <= 0.0 {
        return 0.0;
    }
    match truth.counts {
        Counts::Crowd => intersection / a.area(),
        Counts::Yes | Counts::Optional => intersection / (a.area() + b.area() - intersection),
    }
}

fn intersection(a: &Rect, b: &Rect) -> f64 {
    let width = (a.x + a.width).min(b.x + b.width) - a.x.max(b.x);
    let height = (a.y + a.height).min(b.y + b.height) - a.y.max(b.y);
    if width <= 0.0 || height <= 0.0 {
        return 0.0;
    }
    width * height
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rect(x: f64, y: f64, width: f64, height: f64) -> Rect {
        Rect {
            x,
            y,
            width,
            height,
        }
    }

    fn truth(rect: Rect, counts: Counts) -> Truth {
        Truth {
            image: 0,
            class: 0,
            rect,
            area: rect.area(),
            counts,
        }
    }

    fn found(rect: Rect, score: f64) -> Found {
        Found {
            image: 0,
            class: 0,
            rect,
            score,
        }
    }

    /// Objects that count, and the outcomes at IoU 0.5, best detection first.
    fn judge(truths: &[Truth], found: &[Found], range: AreaRange) -> (usize, Vec<Outcome>) {
        let truths: Vec<_> = truths.iter().collect();
        let found: Vec<_> = found.iter().collect();
        let (positives, judged) = Picture::new(&truths, &found).judge(range);
        let outcomes = judged.iter().map(|judged| judged.outcomes[0]).collect();
        (positives, outcomes)
    }

    #[test]
    fn an_object_is_found_once_by_the_best_score() {
        let there = truth(rect(0.0, 0.0, 10.0, 10.0), Counts::Yes);
        let exact = found(rect(0.0, 0.0, 10.0, 10.0), 0.5);
        let near = found(rect(1.0, 0.0, 10.0, 10.0), 0.9);
        assert_eq!(
            judge(&[there], &[exact, near], AreaRange::ALL),
            (1, vec![Outcome::Hit, Outcome::Miss])
        );
    }

    #[test]
    fn a_crowd_is_found_again_and_again_and_what_is_optional_once() {
        let boxes = [found(rect(0.0, 0.0, 5.0, 5.0), 0.9); 2];
        let crowd = truth(rect(0.0, 0.0, 100.0, 100.0), Counts::Crowd);
        assert_eq!(
            judge(&[crowd], &boxes, AreaRange::ALL),
            (0, vec![Outcome::Ignored; 2])
        );
        let optional = truth(rect(0.0, 0.0, 5.0, 5.0), Counts::Optional);
        assert_eq!(
            judge(&[optional], &boxes, AreaRange::ALL),
            (0, vec![Outcome::Ignored, Outcome::Miss])
        );
    }

    #[test]
    fn what_counts_is_found_before_what_does_not_however_much_it_overlaps() {
        let counts = truth(rect(0.0, 0.0, 10.0, 8.0), Counts::Yes);
        let crowd = truth(rect(0.0, 0.0, 10.0, 10.0), Counts::Crowd);
        let one = found(rect(0.0, 0.0, 10.0, 10.0), 0.9);
        assert_eq!(
            judge(&[crowd, counts], &[one], AreaRange::ALL),
            (1, vec![Outcome::Hit])
        );
    }

    #[test]
    fn other_sizes_are_neither_missed_nor_wrong() {
        let small = truth(rect(0.0, 0.0, 10.0, 10.0), Counts::Yes);
        let of_it = found(rect(0.0, 0.0, 10.0, 10.0), 0.9);
        let small_elsewhere = found(rect(50.0, 0.0, 10.0, 10.0), 0.8);
        let large_elsewhere = found(rect(50.0, 0.0, 100.0, 100.0), 0.7);
        assert_eq!(
            judge(
                &[small],
                &[of_it, small_elsewhere, large_elsewhere],
                AreaRange::LARGE
            ),
            (0, vec![Outcome::Ignored, Outcome::Ignored, Outcome::Miss])
        );
    }

    #[test]
    fn empty_boxes_overlap_nothing() {
        let empty = truth(rect(3.0, 3.0, 0.0, 0.0), Counts::Yes);
        let on_it = found(rect(3.0, 3.0, 0.0, 0.0), 0.9);
        assert_eq!(
            judge(&[empty], &[on_it], AreaRange::ALL),
            (1, vec![Outcome::Miss])
        );
    }
}
