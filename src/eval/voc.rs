//! Average precision by the rules of the Pascal VOC challenges (Everingham et al., "The PASCAL Visual Object Classes
//! Challenge: A Retrospective", IJCV 2015; `VOCevaldet.m` of the development kit).
//!
//! Boxes count their pixels: one from 3 to 5 is three wide. A detection claims the object that it overlaps most, even
//! one that is claimed already.

use super::{ByImage, Counts, Found, Truth, mean, sort_by_score};
use crate::dataset::Rect;

/// Averages over the classes that have objects; `None` where no class has any.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Metrics {
    /// IoU that a detection needs at least.
    pub iou: f64,
    /// The area under the curve of precision over recall, as from 2010 on.
    pub map: Option<f64>,
    /// The mean precision at recall 0.0, 0.1 ... 1.0, as up to 2009.
    pub map_11_point: Option<f64>,
}

/// The figures over `classes` at one IoU. Objects that are optional or crowds need not be found.
pub fn evaluate(classes: usize, truths: &[Truth], found: &[Found], iou: f64) -> Metrics {
    let curves: Vec<Vec<(f64, f64)>> = (0..classes)
        .filter_map(|class| curve(&ByImage::of_class(class, truths, found), iou))
        .collect();
    Metrics {
        iou,
        map: mean(curves.iter().map(|curve| area_under(curve))),
        map_11_point: mean(curves.iter().map(|curve| eleven_point(curve))),
    }
}

/// Recall and the highest precision at or beyond it, after each detection. `None` if the class has no objects.
fn curve(class: &ByImage<'_>, iou: f64) -> Option<Vec<(f64, f64)>> {
    let positives = class
        .truths
        .iter()
        .filter(|truth| truth.counts == Counts::Yes)
        .count();
    if positives == 0 {
        return None;
    }
    let mut judged = Vec::new();
    for (truths, found) in class.images() {
        judge(truths, found, iou, &mut judged);
    }
    sort_by_score(&mut judged, |&(score, _)| score);
    let (mut hits, mut misses) = (0.0, 0.0);
    let mut curve: Vec<(f64, f64)> = Vec::with_capacity(judged.len());
    for (_, is_hit) in judged {
        if is_hit {
            hits += 1.0;
        } else {
            misses += 1.0;
        }
        curve.push((hits / positives as f64, hits / (hits + misses)));
    }
    let mut highest = 0.0;
    for (_, precision) in curve.iter_mut().rev() {
        highest = precision.max(highest);
        *precision = highest;
    }
    Some(curve)
}

/// Adds the score of each detection of a picture that counts, and whether it is a hit.
fn judge(truths: &[&Truth], found: &[&Found], iou: f64, judged: &mut Vec<(f64, bool)>) {
    let mut found = found.to_vec();
    sort_by_score(&mut found, |found| found.score);
    let mut claimed = vec![false; truths.len()];
    for one in found {
        let mut best = (0.0, None);
        for (at, truth) in truths.iter().enumerate() {
            let overlap = overlap(&one.rect, &truth.rect);
            if overlap > best.0 {
                best = (overlap, Some(at));
            }
        }
        match best {
            (overlap, Some(at)) if overlap >= iou => {
                if truths[at].counts == Counts::Yes {
                    let is_hit = !std::mem::replace(&mut claimed[at], true);
                    judged.push((one.score, is_hit));
                }
            }
            _ => judged.push((one.score, false)),
        }
    }
}

/// Intersection over union of boxes whose last pixel belongs to them.
fn overlap(a: &Rect, b: &Rect) -> f64 {
    let width = (a.x + a.width).min(b.x + b.width) - a.x.max(b.x) + 1.0;
    let height = (a.y + a.height).min(b.y + b.height) - a.y.max(b.y) + 1.0;
    if width <= 0.0 || height <= 0.0 {
        return 0.0;
    }
    let area = |rect: &Rect| (rect.width + 1.0) * (rect.height + 1.0);
    width * height / (area(a) + area(b) - width * height)
}

fn area_under(curve: &[(f64, f64)]) -> f64 {
    let mut reached = 0.0;
    curve
        .iter()
        .map(|&(recall, precision)| {
            let step = recall - reached;
            reached = recall;
            step * precision
        })
        .sum()
}

fn eleven_point(curve: &[(f64, f64)]) -> f64 {
    let at = |tenths: u32| {
        let recall = f64::from(tenths) / 10.0;
        let reached = curve.partition_point(|&(reached, _)| reached < recall);
        curve.get(reached).map_or(0.0, |&(_, precision)| precision)
    };
    (0..=10).map(at).sum::<f64>() / 11.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rect(x: f64) -> Rect {
        Rect {
            x,
            y: 0.0,
            width: 9.0,
            height: 9.0,
        }
    }

    fn truth(x: f64, counts: Counts) -> Truth {
        Truth {
            image: 0,
            class: 0,
            rect: rect(x),
            area: 81.0,
            counts,
        }
    }

    fn found(x: f64, score: f64) -> Found {
        Found {
            image: 0,
            class: 0,
            rect: rect(x),
            score,
        }
    }

    #[test]
    fn the_last_pixel_belongs_to_a_box() {
        // 10 pixels each, 5 in common: 50 / 150.
        assert!((overlap(&rect(0.0), &rect(5.0)) - 1.0 / 3.0).abs() < 1e-12);
        assert_eq!(overlap(&rect(0.0), &rect(10.0)), 0.0);
    }

    #[test]
    fn a_second_claim_is_wrong_and_a_difficult_object_is_neither() {
        let truths = [
            truth(0.0, Counts::Yes),
            truth(100.0, Counts::Optional),
            truth(200.0, Counts::Yes),
        ];
        let detections = [found(0.0, 0.9), found(1.0, 0.8), found(100.0, 0.7)];
        let metrics = evaluate(1, &truths, &detections, 0.5);
        assert_eq!(metrics.map, Some(0.5));
        // Recall 0.0 to 0.5 are six points of precision 1.
        assert!((metrics.map_11_point.unwrap() - 6.0 / 11.0).abs() < 1e-12);
    }

    #[test]
    fn without_objects_there_is_no_figure() {
        let metrics = evaluate(1, &[truth(0.0, Counts::Optional)], &[found(0.0, 0.9)], 0.5);
        assert_eq!((metrics.map, metrics.map_11_point), (None, None));
    }
}
