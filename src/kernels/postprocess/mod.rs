//! Detection post-processing of SSD models: box decoding and non-maximum suppression.
//!
//! [`detection_post_process`] takes scores as real values and is the reference; [`detection_post_process_codes`] takes
//! them as codes, looks at few of them as numbers, and answers the same bit for bit.
//!
//! The rules, ties between boxes included, are those of the custom operator TFLite_Detection_PostProcess
//! (tensorflow/lite/kernels/detection_postprocess.cc), with two exceptions. Where that operator stops with an error,
//! on a box that is inside out, this one goes on: such a box overlaps as its signed area says. And where several
//! classes of one anchor score the same, the lower index comes first, an order that the reference leaves open.

mod boxes;
mod codes;
mod real;

use std::collections::BinaryHeap;

use boxes::{Boxes, Candidate, Kept};

pub use boxes::Encodings;
pub use codes::{CodeScores, ScoreTable, detection_post_process_codes};
pub use real::detection_post_process;

/// Attributes of the operator, as plain numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PostProcessOptions {
    /// Boxes in all.
    pub max_detections: usize,
    /// Fast NMS: classes of one anchor that may each give a box.
    pub max_classes_per_detection: usize,
    /// Regular NMS: boxes of one class.
    pub detections_per_class: usize,
    /// NMS for each class on its own, else one pass over the best class of each anchor.
    pub use_regular_nms: bool,
    /// Scores below it never become boxes.
    pub nms_score_threshold: f32,
    /// A box that overlaps a better one by more than this IoU is dropped.
    pub nms_iou_threshold: f32,
    /// Classes without the background.
    pub num_classes: usize,
    /// Divisors of the box encodings: y, x, height, width.
    pub scale: [f32; 4],
}

impl PostProcessOptions {
    /// Rows of the outputs boxes, classes and scores.
    pub fn rows(&self) -> usize {
        self.max_detections
            .saturating_mul(self.max_classes_per_detection)
    }
}

/// Where the results go. Rows beyond the count are zeros.
#[derive(Debug)]
pub struct PostProcessOutputs<'a> {
    /// `[rows, 4]`: ymin, xmin, ymax, xmax.
    pub boxes: &'a mut [f32],
    /// `[rows]`: class index, the background not counted.
    pub classes: &'a mut [f32],
    /// `[rows]`
    pub scores: &'a mut [f32],
    /// Anchors kept (fast NMS) or boxes kept (regular NMS).
    pub count: &'a mut f32,
}

/// Memory for a run, made once for a number of anchors.
#[derive(Debug)]
pub struct PostProcessScratch {
    anchors: usize,
    candidates: BinaryHeap<Candidate>,
    ranking: codes::Ranking,
    kept: Vec<Kept>,
    merged: Vec<Kept>,
    classes: Vec<u32>,
}

impl PostProcessScratch {
    /// Enough for [`detection_post_process`] on `anchors` anchors: no later call with these options allocates.
    pub fn new(options: &PostProcessOptions, anchors: usize) -> Self {
        Self {
            candidates: BinaryHeap::with_capacity(anchors),
            ..Self::common(options, anchors)
        }
    }

    /// Enough for [`detection_post_process_codes`] on `anchors` anchors: no later call with these options allocates.
    pub fn for_codes(options: &PostProcessOptions, anchors: usize) -> Self {
        Self {
            ranking: codes::Ranking::new(options, anchors),
            ..Self::common(options, anchors)
        }
    }

    fn common(options: &PostProcessOptions, anchors: usize) -> Self {
        let every_box = anchors.saturating_mul(options.num_classes);
        let (kept, merged) = match options.use_regular_nms {
            true => (options.detections_per_class, options.max_detections),
            false => (options.max_detections, 0),
        };
        let classes = options.max_classes_per_detection.min(options.num_classes);
        Self {
            anchors,
            candidates: BinaryHeap::new(),
            ranking: codes::Ranking::default(),
            kept: Vec::with_capacity(kept.min(anchors)),
            merged: Vec::with_capacity(merged.min(every_box)),
            classes: Vec::with_capacity(classes),
        }
    }
}

/// Clears the outputs and takes the boxes and `scores`, the number of all scores, in: the boxes, and the columns of a
/// row of scores with those of them that are to be skipped. `None` if nothing can be detected.
fn begin<'a>(
    options: &PostProcessOptions,
    encodings: Encodings<'a>,
    scores: usize,
    anchors: &'a [f32],
    count: usize,
    out: &mut PostProcessOutputs<'_>,
) -> Option<(Boxes<'a>, Columns)> {
    let rows = options.rows();
    assert_eq!(anchors.len(), count * 4, "anchors");
    assert!(
        out.boxes.len() == rows * 4 && out.classes.len() == rows && out.scores.len() == rows,
        "outputs"
    );
    out.boxes.fill(0.0);
    out.classes.fill(0.0);
    out.scores.fill(0.0);
    *out.count = 0.0;
    if count == 0 || options.num_classes == 0 {
        return None;
    }
    let columns = scores / count;
    assert!(
        columns >= options.num_classes && columns * count == scores,
        "scores"
    );
    let columns = Columns {
        all: columns,
        skipped: columns - options.num_classes,
    };
    Some((
        Boxes::new(encodings, anchors, count, options.scale),
        columns,
    ))
}

/// Columns of a row of scores.
#[derive(Clone, Copy, Debug)]
struct Columns {
    all: usize,
    /// Of the background, in front.
    skipped: usize,
}

impl Columns {
    /// Where the scores of an anchor's classes lie.
    fn of_anchor(self, anchor: usize) -> std::ops::Range<usize> {
        anchor * self.all + self.skipped..(anchor + 1) * self.all
    }
}

/// The best classes of each anchor kept become boxes. `score_of` takes an anchor and a class.
fn write_anchors(
    options: &PostProcessOptions,
    kept: &[Kept],
    best: &mut Vec<u32>,
    score_of: impl Fn(usize, usize) -> f32,
    out: PostProcessOutputs<'_>,
) {
    let per_anchor = options.max_classes_per_detection;
    let count = per_anchor.min(options.num_classes);
    for (kept_index, (candidate, corners)) in kept.iter().enumerate() {
        let score_of = |class: u32| score_of(candidate.anchor as usize, class as usize);
        best_classes(options.num_classes, score_of, count, best);
        for (column, &class) in best.iter().enumerate() {
            let at = kept_index * per_anchor + column;
            out.boxes[at * 4..][..4].copy_from_slice(corners);
            out.classes[at] = class as f32;
            out.scores[at] = score_of(class);
        }
    }
    *out.count = kept.len() as f32;
}

/// The `count` classes of the highest scores, best first, the lower index first among equals.
fn best_classes(classes: usize, score_of: impl Fn(u32) -> f32, count: usize, best: &mut Vec<u32>) {
    best.clear();
    let score_of = |class: u32| score_of(class).max(f32::NEG_INFINITY);
    for class in 0..classes as u32 {
        let mut at = best.len();
        while at > 0 && score_of(class) > score_of(best[at - 1]) {
            at -= 1;
        }
        if at < count {
            best.truncate(count - 1);
            best.insert(at, class);
        }
    }
}

/// Sorts the boxes kept of a class in among those of earlier classes; the best `limit` stay.
fn merge(kept: &[Kept], merged: &mut Vec<Kept>, limit: usize) {
    for &(kept, corners) in kept {
        let at = merged.partition_point(|(earlier, _)| earlier.score >= kept.score);
        if at < limit {
            merged.truncate(limit - 1);
            merged.insert(at, (kept, corners));
        }
    }
}

fn write_boxes(merged: &[Kept], out: PostProcessOutputs<'_>) {
    for (at, (kept, corners)) in merged.iter().enumerate() {
        out.boxes[at * 4..][..4].copy_from_slice(corners);
        out.classes[at] = kept.class as f32;
        out.scores[at] = kept.score;
    }
    *out.count = merged.len() as f32;
}
