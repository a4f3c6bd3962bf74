//! The table and the light on it.

use super::camera::{Camera, Homography, Rectangle};
use super::texture::smooth;

/// The breadth of a plank.
const PLANK: f64 = 118.0;

/// A wooden table as the camera sees it, RGB, in light of 255 everywhere.
pub(super) fn wood(size: [usize; 2]) -> Vec<u8> {
    let [width, height] = size;
    let to_table = Camera::new(size)
        .view(&Rectangle {
            corner: [0.0; 3],
            across: [1.0, 0.0, 0.0],
            down: [0.0, 1.0, 0.0],
        })
        .inverse();
    let mut pixels = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        for x in 0..width {
            pixels.extend(grain(on_table(&to_table, [x as f64 + 0.5, y as f64 + 0.5])));
        }
    }
    pixels
}

/// What a pixel shows of the table; above the horizon, what lies before it.
fn on_table(to_table: &Homography, [x, y]: [f64; 2]) -> [f64; 2] {
    let [a, b, w] = to_table.0.map(|[a, b, c]| a * x + b * y + c);
    // The middle of the picture is 1 away, the horizon infinitely far.
    let near = to_table.0[2][2].abs() * 1e-3;
    [a / w.max(near), b / w.max(near)]
}

/// The colour of the wood at a place: fibres along `x`, and a seam between planks.
fn grain([x, y]: [f64; 2]) -> [u8; 3] {
    let plank = (y / PLANK).floor();
    let within = y - plank * PLANK;
    let own = 1000.0 * lattice(plank, 7.0);
    let bend = 14.0 * noise(x / 160.0 + own, y / 60.0);
    let rings = noise(x / 420.0 + own, (within + bend) / 7.0);
    let fibres = noise(x / 34.0 + own, y / 1.3);
    let seam = smooth((within.min(PLANK - within) / 1.6).min(1.0));
    let tone = 0.82 + 0.10 * lattice(plank, 3.0) + 0.17 * rings + 0.09 * fibres;
    let level = tone * (0.55 + 0.45 * seam);
    [158.0, 112.0, 76.0].map(|full| (full * level) as u8)
}

/// A lamp beyond the upper left corner: how much light falls on each pixel, 255 for all.
pub(super) fn lamp([width, height]: [usize; 2]) -> Vec<u8> {
    let mut light = Vec::with_capacity(width * height);
    for y in 0..height {
        let down = (y as f64 + 0.5) / height as f64 - 0.22;
        for x in 0..width {
            let across = (x as f64 + 0.5) / width as f64 - 0.34;
            let distance = across * across + 0.8 * down * down;
            light.push((255.0 / (1.0 + 0.65 * distance)) as u8);
        }
    }
    light
}

/// Smooth noise in `[0, 1]` with a knot at every whole number.
fn noise(x: f64, y: f64) -> f64 {
    let (left, top) = (x.floor(), y.floor());
    let (across, down) = (smooth(x - left), smooth(y - top));
    let row = |y: f64| {
        let (a, b) = (lattice(left, y), lattice(left + 1.0, y));
        a + (b - a) * across
    };
    let (upper, lower) = (row(top), row(top + 1.0));
    upper + (lower - upper) * down
}

/// A number in `[0, 1)` for a pair of whole numbers, without visible pattern: a finalizer of hash functions, multiply
/// and shift.
fn lattice(x: f64, y: f64) -> f64 {
    let mut hash =
        (x as i64 as u32).wrapping_mul(0x9E37_79B1) ^ (y as i64 as u32).wrapping_mul(0x85EB_CA77);
    hash = (hash ^ hash >> 15).wrapping_mul(0x2C1B_3C6D);
    hash = (hash ^ hash >> 12).wrapping_mul(0x297A_2D39);
    f64::from(hash ^ hash >> 15) / 4_294_967_296.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_smooth_and_spread() {
        let values: Vec<f64> = (0..4000).map(|i| noise(f64::from(i) * 0.05, 2.5)).collect();
        assert!(
            values
                .windows(2)
                .all(|pair| (pair[0] - pair[1]).abs() < 0.1)
        );
        let mean = values.iter().sum::<f64>() / 4000.0;
        assert!((0.4..0.6).contains(&mean), "{mean}");
        assert!(values.iter().all(|value| (0.0..1.0).contains(value)));
    }

    #[test]
    fn every_size_has_its_table_and_light() {
        for size in [[1, 1], [3, 3000], [3000, 2]] {
            let pixels = size[0] * size[1];
            assert_eq!(wood(size).len(), 3 * pixels);
            assert_eq!(lamp(size).len(), pixels);
            assert!(lamp(size).iter().all(|&light| light > 100));
        }
    }
}
