//! Detection post-processing of SSD models: box decoding and non-maximum suppression in f32.
//!
//! The rules, ties between boxes included, are those of the custom operator TFLite_Detection_PostProcess
//! (tensorflow/lite/kernels/detection_postprocess.cc), with two exceptions. Where that operator stops with an error,
//! on a box that is inside out, this one goes on: such a box overlaps as its signed area says. And where several
//! classes of one anchor score the same, the lower index comes first, an order that the reference leaves open.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

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

/// Memory for [`detection_post_process`], made once for a number of anchors.
#[derive(Debug)]
pub struct PostProcessScratch {
    anchors: usize,
    candidates: BinaryHeap<Candidate>,
    kept: Vec<(Candidate, [f32; 4])>,
    merged: Vec<(Candidate, [f32; 4])>,
    classes: Vec<u32>,
}

/// A box that may be kept; the greatest is the best. Of equal scores the anchor with the lower index is better.
/// The score is not NaN.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    score: f32,
    anchor: u32,
    class: u32,
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_score = self.score.partial_cmp(&other.score);
        by_score
            .unwrap_or(Ordering::Equal)
            .then(other.anchor.cmp(&self.anchor))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Candidate {}

impl PostProcessScratch {
    /// Enough for `anchors` anchors: no later call with these options allocates.
    pub fn new(options: &PostProcessOptions, anchors: usize) -> Self {
        let every_box = anchors.saturating_mul(options.num_classes);
        let (kept, merged) = match options.use_regular_nms {
            true => (options.detections_per_class, options.max_detections),
            false => (options.max_detections, 0),
        };
        let classes = options.max_classes_per_detection.min(options.num_classes);
        Self {
            anchors,
            candidates: BinaryHeap::with_capacity(anchors),
            kept: Vec::with_capacity(kept.min(anchors)),
            merged: Vec::with_capacity(merged.min(every_box)),
            classes: Vec::with_capacity(classes),
        }
    }
}

/// Turns box encodings and class scores into detections, best first.
///
/// `encodings` is `[anchors, e]` with `e >= 4` (y, x, height, width, then anything), `scores` is
/// `[anchors, classes]` with or without a background class in front, `anchors` is `[anchors, 4]` (y, x, height,
/// width). Any values are allowed; a score that is NaN counts as the lowest.
///
/// # Panics
/// If the lengths do not fit the number of anchors that `scratch` was made for, or the outputs do not fit
/// [`PostProcessOptions::rows`].
pub fn detection_post_process(
    options: &PostProcessOptions,
    encodings: &[f32],
    scores: &[f32],
    anchors: &[f32],
    scratch: &mut PostProcessScratch,
    out: PostProcessOutputs<'_>,
) {
    let count = scratch.anchors;
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
        return;
    }
    let stride = encodings.len() / count;
    let columns = scores.len() / count;
    assert!(
        stride >= 4 && stride * count == encodings.len(),
        "box encodings"
    );
    assert!(
        columns >= options.num_classes && columns * count == scores.len(),
        "scores"
    );
    let scores = Scores {
        data: scores,
        columns,
        offset: columns - options.num_classes,
    };
    let boxes = Boxes {
        encodings,
        stride,
        anchors,
        scale: options.scale,
    };
    match options.use_regular_nms {
        true => regular_nms(options, boxes, scores, scratch, out),
        false => fast_nms(options, boxes, scores, scratch, out),
    }
}

/// Boxes that are decoded when they are looked at.
#[derive(Clone, Copy)]
struct Boxes<'a> {
    encodings: &'a [f32],
    stride: usize,
    anchors: &'a [f32],
    scale: [f32; 4],
}

impl Boxes<'_> {
    fn of_anchor(&self, anchor: u32) -> [f32; 4] {
        let four = |data: &[f32], at: usize| [data[at], data[at + 1], data[at + 2], data[at + 3]];
        let anchor = anchor as usize;
        let encoding = four(self.encodings, anchor * self.stride);
        decode(encoding, four(self.anchors, anchor * 4), self.scale)
    }
}

/// Class scores without the background column.
#[derive(Clone, Copy)]
struct Scores<'a> {
    data: &'a [f32],
    columns: usize,
    offset: usize,
}

impl<'a> Scores<'a> {
    fn of_anchor(&self, anchor: usize) -> &'a [f32] {
        &self.data[anchor * self.columns + self.offset..(anchor + 1) * self.columns]
    }
}

/// Centre and size relative to an anchor become corners. In f64 and rounded once, as the reference does it.
fn decode(encoding: [f32; 4], anchor: [f32; 4], scale: [f32; 4]) -> [f32; 4] {
    let [y, x, height, width] = encoding.map(f64::from);
    let [anchor_y, anchor_x, anchor_height, anchor_width] = anchor.map(f64::from);
    let [y_scale, x_scale, height_scale, width_scale] = scale.map(f64::from);
    let y_center = (y / y_scale * anchor_height + anchor_y) as f32;
    let x_center = (x / x_scale * anchor_width + anchor_x) as f32;
    let half_height = (0.5 * (height / height_scale).exp() * anchor_height) as f32;
    let half_width = (0.5 * (width / width_scale).exp() * anchor_width) as f32;
    [
        y_center - half_height,
        x_center - half_width,
        y_center + half_height,
        x_center + half_width,
    ]
}

/// Intersection over union; 0 if a box has no area.
fn iou(a: &[f32; 4], b: &[f32; 4]) -> f32 {
    let area = |r: &[f32; 4]| (r[2] - r[0]) * (r[3] - r[1]);
    let (area_a, area_b) = (area(a), area(b));
    if area_a <= 0.0 || area_b <= 0.0 {
        return 0.0;
    }
    let height = (a[2].min(b[2]) - a[0].max(b[0])).max(0.0);
    let width = (a[3].min(b[3]) - a[1].max(b[1])).max(0.0);
    let intersection = height * width;
    intersection / (area_a + area_b - intersection)
}

/// Moves at most `limit` of `candidates` to `kept`, best first, each overlapping no better one too much.
fn suppress(
    boxes: Boxes<'_>,
    iou_threshold: f32,
    candidates: &mut BinaryHeap<Candidate>,
    kept: &mut Vec<(Candidate, [f32; 4])>,
    limit: usize,
) {
    kept.clear();
    while kept.len() < limit
        && let Some(candidate) = candidates.pop()
    {
        let corners = boxes.of_anchor(candidate.anchor);
        let overlaps = |(_, better): &(Candidate, [f32; 4])| iou(better, &corners) > iou_threshold;
        if !kept.iter().any(overlaps) {
            kept.push((candidate, corners));
        }
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
    collect(
        &mut scratch.candidates,
        scratch.anchors,
        0,
        threshold,
        best_of,
    );
    suppress(
        boxes,
        options.nms_iou_threshold,
        &mut scratch.candidates,
        &mut scratch.kept,
        options.max_detections.min(options.rows()),
    );
    let per_anchor = options.max_classes_per_detection;
    let classes = per_anchor.min(options.num_classes);
    for (kept_index, (kept, corners)) in scratch.kept.iter().enumerate() {
        let row = scores.of_anchor(kept.anchor as usize);
        best_classes(row, classes, &mut scratch.classes);
        for (column, &class) in scratch.classes.iter().enumerate() {
            let at = kept_index * per_anchor + column;
            out.boxes[at * 4..][..4].copy_from_slice(corners);
            out.classes[at] = class as f32;
            out.scores[at] = row[class as usize];
        }
    }
    *out.count = scratch.kept.len() as f32;
}

/// The `count` classes of the highest scores, best first, the lower index first among equals.
fn best_classes(scores: &[f32], count: usize, best: &mut Vec<u32>) {
    best.clear();
    let score_of = |class: u32| scores[class as usize].max(f32::NEG_INFINITY);
    for class in 0..scores.len() as u32 {
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
        collect(
            &mut scratch.candidates,
            scratch.anchors,
            class,
            threshold,
            score_of,
        );
        suppress(
            boxes,
            options.nms_iou_threshold,
            &mut scratch.candidates,
            &mut scratch.kept,
            options.detections_per_class,
        );
        for &(kept, corners) in &scratch.kept {
            let merged = &mut scratch.merged;
            let at = merged.partition_point(|(earlier, _)| earlier.score >= kept.score);
            if at < limit {
                merged.truncate(limit - 1);
                merged.insert(at, (kept, corners));
            }
        }
    }
    for (at, (kept, corners)) in scratch.merged.iter().enumerate() {
        out.boxes[at * 4..][..4].copy_from_slice(corners);
        out.classes[at] = kept.class as f32;
        out.scores[at] = kept.score;
    }
    *out.count = scratch.merged.len() as f32;
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
        detection_post_process(options, encodings, scores, &ANCHORS, &mut scratch, out);
        answer
    }

    #[test]
    fn encodings_are_relative_to_the_anchor() {
        let two = 5.0 * 2f32.ln();
        let decoded = decode([10.0, -5.0, two, 0.0], [0.5, 0.25, 0.5, 1.0], OPTIONS.scale);
        assert_eq!(decoded, [0.5, -0.75, 1.5, 0.25]);
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
