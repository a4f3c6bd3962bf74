//! Post-processing of scores that are real values.

use std::collections::BinaryHeap;

use super::boxes::{Boxes, Candidate, Encodings, suppress};
use super::{
    Columns, PostProcessOptions, PostProcessOutputs, PostProcessScratch, begin, merge,
    write_anchors, write_boxes,
};

/// Turns box encodings and class scores into detections, best first.
///
/// `scores` is `[anchors, classes]` with or without a background class in front, `anchors` is `[anchors, 4]` (y, x,
/// height, width). Any values are allowed; a score that is NaN counts as the lowest.
///
/// # Panics
/// If the lengths do not fit the number of anchors that `scratch` was made for, or the outputs do not fit
/// [`PostProcessOptions::rows`].
pub fn detection_post_process(
    options: &PostProcessOptions,
    encodings: Encodings<'_>,
    scores: &[f32],
    anchors: &[f32],
    scratch: &mut PostProcessScratch,
    mut out: PostProcessOutputs<'_>,
) {
    let (count, all) = (scratch.anchors, scores.len());
    let Some((boxes, columns)) = begin(options, encodings, all, anchors, count, &mut out) else {
        return;
    };
    let scores = Scores {
        data: scores,
        columns,
    };
    match options.use_regular_nms {
        true => regular_nms(options, boxes, scores, scratch, out),
        false => fast_nms(options, boxes, scores, scratch, out),
    }
}

/// Class scores without the background column.
#[derive(Clone, Copy)]
struct Scores<'a> {
    data: &'a [f32],
    columns: Columns,
}

impl<'a> Scores<'a> {
    fn of_anchor(&self, anchor: usize) -> &'a [f32] {
        &self.data[self.columns.of_anchor(anchor)]
    }
}

/// Makes `heap` hold the anchors that `score_of` puts at the threshold or above, without allocating.
fn collect(
    heap: &mut BinaryHeap<Candidate>,
    anchors: usize,
    class: usize,
    threshold: f32,
    score_of: impl Fn(usize) -> f32,
) {
    let mut list = std::mem::take(heap).into_vec();
    list.clear();
    for anchor in 0..anchors {
        let score = score_of(anchor);
        if score >= threshold {
            list.push(Candidate {
                score,
                anchor: anchor as u32,
                class: class as u32,
            });
        }
    }
    *heap = BinaryHeap::from(list);
}

/// The greatest number; minus infinity if there is none. In lanes, so that the compiler vectorizes it.
fn maximum(scores: &[f32]) -> f32 {
    let greater = |best: f32, score: f32| if score > best { score } else { best };
    let mut lanes = [f32::NEG_INFINITY; 8];
    let (chunks, rest) = scores.as_chunks::<8>();
    for chunk in chunks {
        for (lane, &score) in lanes.iter_mut().zip(chunk) {
            *lane = greater(*lane, score);
        }
    }
    lanes
        .iter()
        .chain(rest)
        .fold(f32::NEG_INFINITY, |best, &score| greater(best, score))
}

/// One pass over the best class of each anchor.
fn fast_nms(
    options: &PostProcessOptions,
    boxes: Boxes<'_>,
    scores: Scores<'_>,
    scratch: &mut PostProcessScratch,
    out: PostProcessOutputs<'_>,
) {
    let threshold = options.nms_score_threshold;
    let best_of = |anchor| maximum(scores.of_anchor(anchor));
    let candidates = &mut scratch.candidates;
    collect(candidates, scratch.anchors, 0, threshold, best_of);
    suppress(
        boxes,
        options.nms_iou_threshold,
        std::iter::from_fn(|| candidates.pop()),
        &mut scratch.kept,
        options.max_detections.min(options.rows()),
    );
    let score_of = |anchor, class: usize| scores.of_anchor(anchor)[class];
    write_anchors(options, &scratch.kept, &mut scratch.classes, score_of, out);
}

/// NMS for each class; the best boxes of all classes survive.
fn regular_nms(
    options: &PostProcessOptions,
    boxes: Boxes<'_>,
    scores: Scores<'_>,
    scratch: &mut PostProcessScratch,
    out: PostProcessOutputs<'_>,
) {
    let limit = options.max_detections.min(options.rows());
    let threshold = options.nms_score_threshold;
    scratch.merged.clear();
    for class in 0..options.num_classes {
        let score_of = |anchor| scores.of_anchor(anchor)[class];
        let candidates = &mut scratch.candidates;
        collect(candidates, scratch.anchors, class, threshold, score_of);
        suppress(
            boxes,
            options.nms_iou_threshold,
            std::iter::from_fn(|| candidates.pop()),
            &mut scratch.kept,
            options.detections_per_class,
        );
        merge(&scratch.kept, &mut scratch.merged, limit);
    }
    write_boxes(&scratch.merged, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: PostProcessOptions = PostProcessOptions {
        max_detections: 3,
        max_classes_per_detection: 1,
        detections_per_class: 2,
        use_regular_nms: false,
        nms_score_threshold: 0.3,
        nms_iou_threshold: 0.5,
        num_classes: 2,
        scale: [10.0, 10.0, 5.0, 5.0],
    };

    /// Three unit anchors: the first two overlap by 9/11, the third stands alone.
    const ANCHORS: [f32; 12] = [0.5, 0.5, 1.0, 1.0, 0.5, 0.6, 1.0, 1.0, 5.0, 5.0, 1.0, 1.0];

    #[derive(Debug, PartialEq)]
    struct Answer {
        boxes: Vec<f32>,
        classes: Vec<f32>,
        scores: Vec<f32>,
        count: f32,
    }

    fn run(options: &PostProcessOptions, encodings: &[f32], scores: &[f32]) -> Answer {
        let rows = options.rows();
        let mut answer = Answer {
            boxes: vec![9.0; rows * 4],
            classes: vec![9.0; rows],
            scores: vec![9.0; rows],
            count: 9.0,
        };
        let mut scratch = PostProcessScratch::new(options, 3);
        let out = PostProcessOutputs {
            boxes: &mut answer.boxes,
            classes: &mut answer.classes,
            scores: &mut answer.scores,
            count: &mut answer.count,
        };
        let encodings = Encodings::Real(encodings);
        detection_post_process(options, encodings, scores, &ANCHORS, &mut scratch, out);
        answer
    }

    #[test]
    fn fast_nms_drops_the_worse_of_two_and_the_background() {
        let scores = [0.9, 0.5, 0.1, 0.9, 0.1, 0.6, 0.9, 0.4, 0.1];
        let answer = run(&OPTIONS, &[0.0; 12], &scores);
        assert_eq!(answer.count, 2.0);
        assert_eq!(answer.classes, [1.0, 0.0, 0.0]);
        assert_eq!(answer.scores, [0.6, 0.4, 0.0]);
        assert_eq!(answer.boxes[4..], [4.5, 4.5, 5.5, 5.5, 0.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn fast_nms_gives_several_classes_for_one_anchor() {
        let options = PostProcessOptions {
            max_classes_per_detection: 2,
            ..OPTIONS
        };
        let scores = [0.1, 0.5, 0.2, 0.2, 0.7, 0.6];
        let answer = run(&options, &[0.0; 12], &scores);
        assert_eq!(answer.count, 2.0);
        assert_eq!(answer.classes, [0.0, 1.0, 1.0, 0.0, 0.0, 0.0]);
        assert_eq!(answer.scores, [0.7, 0.6, 0.5, 0.1, 0.0, 0.0]);
    }

    #[test]
    fn regular_nms_keeps_overlapping_boxes_of_different_classes() {
        let options = PostProcessOptions {
            use_regular_nms: true,
            ..OPTIONS
        };
        let scores = [0.5, 0.1, 0.4, 0.8, 0.31, 0.2];
        let answer = run(&options, &[0.0; 12], &scores);
        assert_eq!(answer.count, 3.0);
        assert_eq!(answer.classes, [1.0, 0.0, 0.0]);
        assert_eq!(answer.scores, [0.8, 0.5, 0.31]);
    }

    #[test]
    fn the_best_boxes_of_all_classes_survive() {
        let options = PostProcessOptions {
            use_regular_nms: true,
            max_detections: 2,
            detections_per_class: 1,
            ..OPTIONS
        };
        let scores = [0.5, 0.9, 0.1, 0.1, 0.6, 0.8];
        let answer = run(&options, &[0.0; 12], &scores);
        assert_eq!((answer.count, answer.classes), (2.0, vec![1.0, 0.0]));
        assert_eq!(answer.scores, [0.9, 0.6]);
    }

    #[test]
    fn equal_scores_keep_the_order_of_the_anchors() {
        let answer = run(&OPTIONS, &[0.0; 12], &[0.5, 0.5, 0.1, 0.1, 0.5, 0.5]);
        assert_eq!(answer.boxes[..8], [0.0, 0.0, 1.0, 1.0, 4.5, 4.5, 5.5, 5.5]);
        assert_eq!(answer.classes, [0.0; 3]);
    }

    #[test]
    fn any_numbers_are_survived() {
        let bad = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30];
        for use_regular_nms in [false, true] {
            let options = PostProcessOptions {
                use_regular_nms,
                max_classes_per_detection: 2,
                nms_score_threshold: f32::NEG_INFINITY,
                scale: [0.0, f32::NAN, 1.0, 1.0],
                ..OPTIONS
            };
            let encodings: Vec<f32> = bad.iter().copied().cycle().take(12).collect();
            let scores: Vec<f32> = bad.iter().copied().cycle().take(9).collect();
            let answer = run(&options, &encodings, &scores);
            assert!(answer.count <= 3.0);
        }
    }
}
