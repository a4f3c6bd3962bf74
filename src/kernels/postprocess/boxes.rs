//! Boxes, their overlap, and which of them survive.

use std::cmp::Ordering;

/// Box encodings `[anchors, e]` with `e >= 4`: y, x, height, width, then anything.
#[derive(Clone, Copy, Debug)]
pub enum Encodings<'a> {
    Real(&'a [f32]),
    /// Codes, and what each stands for: entry `code + 128`.
    Codes(&'a [i8], &'a [f32; 256]),
}

impl Encodings<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Real(values) => values.len(),
            Self::Codes(codes, _) => codes.len(),
        }
    }

    fn four(&self, at: usize) -> [f32; 4] {
        match self {
            Self::Real(values) => std::array::from_fn(|i| values[at + i]),
            Self::Codes(codes, table) => {
                std::array::from_fn(|i| table[usize::from(codes[at + i] as u8 ^ 0x80)])
            }
        }
    }
}

/// A box that may be kept; the greatest is the best. Of equal scores the anchor with the lower index is better.
/// The score is not NaN.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub score: f32,
    pub anchor: u32,
    pub class: u32,
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

/// A candidate and its corners: ymin, xmin, ymax, xmax.
pub(super) type Kept = (Candidate, [f32; 4]);

/// Boxes that are decoded when they are looked at.
#[derive(Clone, Copy)]
pub(super) struct Boxes<'a> {
    encodings: Encodings<'a>,
    stride: usize,
    anchors: &'a [f32],
    scale: [f32; 4],
}

impl<'a> Boxes<'a> {
    /// `count` boxes, `count` above 0.
    pub fn new(
        encodings: Encodings<'a>,
        anchors: &'a [f32],
        count: usize,
        scale: [f32; 4],
    ) -> Self {
        let stride = encodings.len() / count;
        assert!(
            stride >= 4 && stride * count == encodings.len(),
            "box encodings"
        );
        Self {
            encodings,
            stride,
            anchors,
            scale,
        }
    }

    fn of_anchor(&self, anchor: u32) -> [f32; 4] {
        let anchor = anchor as usize;
        let encoding = self.encodings.four(anchor * self.stride);
        decode(
            encoding,
            Encodings::Real(self.anchors).four(anchor * 4),
            self.scale,
        )
    }
}

/// Centre and size relative to an anchor become corners. In f64 and rounded once, as the reference does it.
pub(super) fn decode(encoding: [f32; 4], anchor: [f32; 4], scale: [f32; 4]) -> [f32; 4] {
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

/// Puts at most `limit` of `candidates`, which come best first, into `kept`, each overlapping no better one too much.
pub(super) fn suppress(
    boxes: Boxes<'_>,
    iou_threshold: f32,
    mut candidates: impl Iterator<Item = Candidate>,
    kept: &mut Vec<Kept>,
    limit: usize,
) {
    kept.clear();
    while kept.len() < limit
        && let Some(candidate) = candidates.next()
    {
        let corners = boxes.of_anchor(candidate.anchor);
        let overlaps = |(_, better): &Kept| iou(better, &corners) > iou_threshold;
        if !kept.iter().any(overlaps) {
            kept.push((candidate, corners));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_are_relative_to_the_anchor() {
        let two = 5.0 * 2f32.ln();
        let scale = [10.0, 10.0, 5.0, 5.0];
        let decoded = decode([10.0, -5.0, two, 0.0], [0.5, 0.25, 0.5, 1.0], scale);
        assert_eq!(decoded, [0.5, -0.75, 1.5, 0.25]);
    }
}
