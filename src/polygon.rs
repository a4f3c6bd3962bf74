//! Outlines of places in a picture, in shares of its sides: zones and masks.

use std::ops::Range;

/// So many corners a polygon may have.
pub const MAX_POINTS: usize = 64;
/// In shares of a side: what lies so near to an edge lies on it.
const TOLERANCE: f64 = 1e-9;

/// A polygon that does not cross itself, concave or convex, in shares of the picture's width and height: `[0, 0]` is
/// the upper left corner and `[1, 1]` the lower right one.
#[derive(Clone, Debug, PartialEq)]
pub struct Polygon {
    points: Vec<[f64; 2]>,
}

impl Polygon {
    /// The polygon through the points, closed from the last to the first, in either direction of turning. An error, in
    /// words, if there are fewer than 3 or more than 64 of them, if one lies outside the picture, if edges meet other
    /// than at the corner between them, or if it has no area.
    pub fn new(mut points: Vec<[f64; 2]>) -> Result<Self, String> {
        if points.len() > 3 && points.first() == points.last() {
            points.pop();
        }
        let count = points.len();
        if !(3..=MAX_POINTS).contains(&count) {
            return Err(format!(
                "{count} points; a polygon has from 3 to {MAX_POINTS}"
            ));
        }
        let outside = |point: &[f64; 2]| point.iter().any(|share| !(0.0..=1.0).contains(share));
        if let Some(at) = points.iter().position(outside) {
            let [x, y] = points[at];
            return Err(format!(
                "point {} is [{x}, {y}]; both are shares of the picture's sides, from 0 to 1",
                at + 1
            ));
        }
        let polygon = Self { points };
        if let Some((a, b)) = polygon.crossing() {
            return Err(format!(
                "the edges after points {} and {} meet; list the corners in order round the outline",
                a + 1,
                b + 1
            ));
        }
        if area(&polygon.points) < TOLERANCE {
            return Err("it has no area".into());
        }
        Ok(polygon)
    }

    /// The corners, in order.
    pub fn points(&self) -> &[[f64; 2]] {
        &self.points
    }

    /// Whether a point lies inside or on an edge (even-odd rule).
    pub fn contains(&self, [x, y]: [f64; 2]) -> bool {
        let mut inside = false;
        for [a, b] in self.edges() {
            if distance([x, y], a, b) <= TOLERANCE {
                return true;
            }
            if (a[1] > y) != (b[1] > y) && x < at_height(a, b, y) {
                inside = !inside;
            }
        }
        inside
    }

    /// How much of a rectangle, `x_min`, `y_min`, `x_max`, `y_max` in shares of the sides, lies inside: 0 to 1. 0 for a
    /// rectangle without area.
    pub fn share_of(&self, [x_min, y_min, x_max, y_max]: [f64; 4]) -> f64 {
        let whole = (x_max - x_min) * (y_max - y_min);
        if whole <= 0.0 {
            return 0.0;
        }
        let mut points = self.points.clone();
        for (axis, bound, side) in [
            (0, x_min, 1.0),
            (0, x_max, -1.0),
            (1, y_min, 1.0),
            (1, y_max, -1.0),
        ] {
            points = clip(&points, axis, bound, side);
        }
        (area(&points) / whole).min(1.0)
    }

    /// The pixels of row `y` that the polygon touches, however little, in a picture of `width` times `height`: ranges
    /// in order that do not meet.
    pub fn touched(&self, y: usize, [width, height]: [usize; 2]) -> Vec<Range<usize>> {
        let scale = [width as f64, height as f64];
        let (top, bottom) = (y as f64, y as f64 + 1.0);
        let middle = (top + bottom) / 2.0;
        let (mut spans, mut crossings) = (Vec::new(), Vec::new());
        for edge in self.edges() {
            let [a, b] = edge.map(|[x, y]| [x * scale[0], y * scale[1]]);
            let (low, high) = (a[1].min(b[1]).max(top), a[1].max(b[1]).min(bottom));
            if low > high {
                continue;
            }
            let ends = if a[1] == b[1] {
                [a[0], b[0]]
            } else {
                [at_height(a, b, low), at_height(a, b, high)]
            };
            spans.push(ends);
            if (a[1] > middle) != (b[1] > middle) {
                crossings.push(at_height(a, b, middle));
            }
        }
        crossings.sort_by(f64::total_cmp);
        spans.extend(crossings.as_chunks::<2>().0);
        merged(spans, width)
    }

    fn edges(&self) -> impl Iterator<Item = [[f64; 2]; 2]> + '_ {
        let next = self.points.iter().cycle().skip(1);
        self.points.iter().zip(next).map(|(&a, &b)| [a, b])
    }

    /// Two edges that meet other than at the corner between them, if there are such.
    fn crossing(&self) -> Option<(usize, usize)> {
        let edges: Vec<_> = self.edges().collect();
        let count = edges.len();
        for i in 0..count {
            let [a, b] = edges[i];
            let next = edges[(i + 1) % count];
            // Neighbours share a corner; they must not share more, nor be nothing but a corner.
            if distance(next[1], a, b) <= TOLERANCE || distance(a, next[0], next[1]) <= TOLERANCE {
                return Some((i, (i + 1) % count));
            }
            for (j, &[c, d]) in edges.iter().enumerate().skip(i + 2) {
                let neighbours = i == 0 && j == count - 1;
                if !neighbours && meet([a, b], [c, d]) {
                    return Some((i, j));
                }
            }
        }
        None
    }
}

/// Where the line through `a` and `b`, which is not level, has the height `y`.
fn at_height(a: [f64; 2], b: [f64; 2], y: f64) -> f64 {
    a[0] + (y - a[1]) / (b[1] - a[1]) * (b[0] - a[0])
}

/// From a point to the nearest one of a segment.
fn distance(point: [f64; 2], a: [f64; 2], b: [f64; 2]) -> f64 {
    let (along, to) = (less(b, a), less(point, a));
    let length = along[0] * along[0] + along[1] * along[1];
    let share = if length > 0.0 {
        ((to[0] * along[0] + to[1] * along[1]) / length).clamp(0.0, 1.0)
    } else {
        0.0
    };
    (to[0] - share * along[0]).hypot(to[1] - share * along[1])
}

fn less(a: [f64; 2], b: [f64; 2]) -> [f64; 2] {
    [a[0] - b[0], a[1] - b[1]]
}

/// Whether two segments have a point in common.
fn meet([a, b]: [[f64; 2]; 2], [c, d]: [[f64; 2]; 2]) -> bool {
    let side = |from, to, point| {
        let (along, off) = (less(to, from), less(point, from));
        along[0] * off[1] - along[1] * off[0]
    };
    let parted = |p: f64, q: f64| (p > 0.0) != (q > 0.0) && p != 0.0 && q != 0.0;
    let cross = parted(side(a, b, c), side(a, b, d)) && parted(side(c, d, a), side(c, d, b));
    let touch = [(c, a, b), (d, a, b), (a, c, d), (b, c, d)];
    cross
        || touch
            .into_iter()
            .any(|(point, from, to)| distance(point, from, to) <= TOLERANCE)
}

/// The shoelace formula, without regard to the direction of turning.
fn area(points: &[[f64; 2]]) -> f64 {
    let next = points.iter().cycle().skip(1);
    let doubled: f64 = points
        .iter()
        .zip(next)
        .map(|(a, b)| a[0] * b[1] - b[0] * a[1])
        .sum();
    doubled.abs() / 2.0
}

/// What lies where `side * (coordinate - bound) >= 0` (Sutherland and Hodgman 1974). Parts of a concave polygon stay
/// joined along the bound, by edges that have no area.
fn clip(points: &[[f64; 2]], axis: usize, bound: f64, side: f64) -> Vec<[f64; 2]> {
    let inside = |point: &[f64; 2]| side * (point[axis] - bound) >= 0.0;
    let mut kept = Vec::with_capacity(points.len() + 4);
    let next = points.iter().cycle().skip(1);
    for (a, b) in points.iter().zip(next) {
        if inside(a) {
            kept.push(*a);
        }
        if inside(a) != inside(b) {
            let share = (bound - a[axis]) / (b[axis] - a[axis]);
            kept.push([0, 1].map(|i| a[i] + share * (b[i] - a[i])));
        }
    }
    kept
}

/// Ranges of whole pixels that hold the spans, which may overlap and may run either way.
fn merged(mut spans: Vec<[f64; 2]>, width: usize) -> Vec<Range<usize>> {
    for span in &mut spans {
        span.sort_by(f64::total_cmp);
    }
    spans.sort_by(|a, b| a[0].total_cmp(&b[0]));
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for [from, to] in spans {
        // A span that ends on the border between two pixels takes both.
        let (start, end) = (
            from.max(0.0) as usize,
            (to.max(0.0) as usize + 1).min(width),
        );
        match ranges.last_mut() {
            Some(last) if start <= last.end => last.end = last.end.max(end),
            _ if start < end => ranges.push(start..end),
            _ => {}
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    fn polygon(points: &[[f64; 2]]) -> Polygon {
        Polygon::new(points.to_vec()).unwrap()
    }

    /// A square with a notch from above down to its middle.
    fn notched() -> Polygon {
        polygon(&[
            [0.0, 0.0],
            [0.25, 0.0],
            [0.5, 0.5],
            [0.75, 0.0],
            [1.0, 0.0],
            [1.0, 1.0],
            [0.0, 1.0],
        ])
    }

    #[test]
    fn edges_and_corners_are_inside_and_notches_outside() {
        let polygon = notched();
        for inside in [
            [0.0, 0.0],
            [1.0, 1.0],
            [0.3, 1.0],
            [0.5, 0.5],
            [0.375, 0.25],
            [0.1, 0.01],
            [0.5, 0.6],
        ] {
            assert!(polygon.contains(inside), "{inside:?}");
        }
        for outside in [
            [0.5, 0.49],
            [0.5, 0.0],
            [1.01, 0.5],
            [0.5, -0.01],
            [0.4, 0.2],
        ] {
            assert!(!polygon.contains(outside), "{outside:?}");
        }
    }

    #[test]
    fn shares_of_rectangles_are_areas() {
        let polygon = notched();
        let share = |bounds| (polygon.share_of(bounds) * 1e9).round() / 1e9;
        assert_eq!(share([0.0, 0.0, 1.0, 1.0]), 0.875);
        assert_eq!(share([0.0, 0.5, 1.0, 1.0]), 1.0);
        assert_eq!(share([0.25, 0.0, 0.75, 0.5]), 0.5);
        assert_eq!(share([0.45, 0.0, 0.55, 0.1]), 0.0);
        assert_eq!(share([0.0, 0.0, 1.0, 0.25]), 1.0 - 0.375);
        assert_eq!(share([0.5, 0.5, 0.5, 0.9]), 0.0);
        let backwards = polygon.points().iter().rev().copied().collect();
        assert_eq!(
            Polygon::new(backwards)
                .unwrap()
                .share_of([0.0, 0.0, 1.0, 1.0]),
            0.875
        );
    }

    /// Against the corners, the middle and many points of each pixel.
    #[test]
    fn every_touched_pixel_is_found() {
        let shapes = [
            notched(),
            polygon(&[[0.13, 0.21], [0.93, 0.34], [0.4, 0.77]]),
            polygon(&[[0.5, 0.5], [0.501, 0.5], [0.5, 0.501]]),
            polygon(&[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]),
            polygon(&[[0.3, 0.0], [0.31, 0.0], [0.31, 1.0], [0.3, 1.0]]),
        ];
        for shape in shapes {
            let size = [17, 11];
            for y in 0..size[1] {
                let ranges = shape.touched(y, size);
                assert!(
                    ranges.windows(2).all(|pair| pair[0].end < pair[1].start),
                    "{ranges:?}"
                );
                for x in 0..size[0] {
                    let found = ranges.iter().any(|range| range.contains(&x));
                    let steps = (1..20).map(|i| f64::from(i) / 20.0);
                    let hit = steps.clone().any(|i| {
                        steps.clone().any(|j| {
                            let at = [(x as f64 + i) / 17.0, (y as f64 + j) / 11.0];
                            shape.contains(at)
                        })
                    });
                    assert!(found || !hit, "{x} {y} {shape:?}");
                    let near = |point: [f64; 2]| {
                        shape.share_of([
                            point[0] - 0.1,
                            point[1] - 0.1,
                            point[0] + 0.1,
                            point[1] + 0.1,
                        ])
                    };
                    let far = near([(x as f64 + 0.5) / 17.0, (y as f64 + 0.5) / 11.0]) == 0.0;
                    assert!(!(found && far), "{x} {y} {shape:?}");
                }
            }
        }
    }

    #[test]
    fn what_is_no_polygon_is_refused_with_the_reason() {
        let reason = |points: &[[f64; 2]]| Polygon::new(points.to_vec()).unwrap_err();
        assert!(reason(&[[0.0, 0.0], [1.0, 1.0]]).starts_with("2 points"));
        let many: Vec<_> = (0..65).map(|i| [f64::from(i) / 65.0, 0.5]).collect();
        assert!(reason(&many).starts_with("65 points"));
        let outside = reason(&[[0.0, 0.0], [1.0, 0.0], [0.5, 1.5]]);
        assert!(outside.starts_with("point 3 is [0.5, 1.5]"), "{outside}");
        assert!(reason(&[[0.0, 0.0], [f64::NAN, 0.0], [0.5, 0.5]]).starts_with("point 2"));
        let bow_tie = reason(&[[0.0, 0.0], [1.0, 1.0], [1.0, 0.0], [0.0, 1.0]]);
        assert!(
            bow_tie.starts_with("the edges after points 1 and 3 meet"),
            "{bow_tie}"
        );
        for flat in [
            &[[0.0, 0.0], [1.0, 0.0], [0.5, 0.0]][..],
            &[[0.0, 0.0], [0.0, 0.0], [0.5, 0.5], [0.0, 1.0]],
            &[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.5, 0.0]],
        ] {
            assert!(reason(flat).contains("meet"), "{flat:?}");
        }
        let closed = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 0.0]];
        assert_eq!(polygon(&closed).points().len(), 3);
    }
}
