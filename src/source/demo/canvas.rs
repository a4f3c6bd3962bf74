//! Pixels, and surfaces drawn onto them.

use super::camera::Homography;
use super::texture::{Texture, scale};

/// Pixels in a row between which places in a texture are interpolated linearly.
const RUN: usize = 16;

/// A picture that is being drawn, RGB.
pub(super) struct Canvas<'a> {
    pub size: [usize; 2],
    /// 3 bytes a pixel.
    pub pixels: &'a mut [u8],
    /// How much light falls on each pixel, 255 for all.
    pub light: &'a [u8],
}

impl Canvas<'_> {
    /// Draws a texture where `view` shows the unit square, in light of `shade`, of 256. The square has to lie in front
    /// of the camera.
    pub fn draw(&mut self, texture: &Texture, view: &Homography, shade: u32) {
        let [width, height] = self.size;
        let quad = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]].map(|at| view.map(at));
        let Some(rows) = span(quad.map(|[_, y]| y), height) else {
            return;
        };
        let [texture_width, texture_height] = texture.size().map(|side| side as f64);
        let to_texel = view.inverse().then([texture_width, texture_height], 0.5);
        for y in rows {
            let Some(columns) = crossing(&quad, y, width) else {
                continue;
            };
            let first = y * width + columns.start;
            let pixels = self.pixels[3 * first..][..3 * columns.len()]
                .as_chunks_mut::<3>()
                .0;
            let lights = &self.light[first..][..columns.len()];
            let mut x = columns.start;
            for (pixels, lights) in pixels.chunks_mut(RUN).zip(lights.chunks(RUN)) {
                let [mut at, end] =
                    [x, x + RUN].map(|x| fixed(to_texel.map([x as f64 + 0.5, y as f64 + 0.5])));
                let step: [i32; 2] =
                    std::array::from_fn(|i| end[i].wrapping_sub(at[i]) / RUN as i32);
                for (pixel, &light) in pixels.iter_mut().zip(lights) {
                    if let Some(texel) = texture.sample(at) {
                        cover(pixel, texel, (u32::from(light) * shade) >> 8);
                    }
                    at = std::array::from_fn(|i| at[i].wrapping_add(step[i]));
                }
                x += RUN;
            }
        }
    }
}

/// In 1/65536.
fn fixed(place: [f64; 2]) -> [i32; 2] {
    place.map(|at| (at * 65536.0) as i32)
}

/// The whole numbers below `limit` that the values span, and one beyond either end; none if they are elsewhere.
fn span(values: [f64; 4], limit: usize) -> Option<std::ops::Range<usize>> {
    let least = values.into_iter().fold(f64::INFINITY, f64::min);
    let most = values.into_iter().fold(f64::NEG_INFINITY, f64::max);
    // Casts saturate: what lies left of 0 becomes 0.
    let range = (least - 1.0) as usize..limit.min((most + 2.0) as usize);
    (!range.is_empty()).then_some(range)
}

/// The pixels of row `y` that the quad may touch.
fn crossing(quad: &[[f64; 2]; 4], y: usize, limit: usize) -> Option<std::ops::Range<usize>> {
    let (above, below) = (y as f64 - 0.5, y as f64 + 1.5);
    let mut ends = [f64::INFINITY, f64::NEG_INFINITY];
    for (i, &from) in quad.iter().enumerate() {
        let to = quad[(i + 1) % 4];
        let (upper, lower) = if from[1] <= to[1] {
            (from, to)
        } else {
            (to, from)
        };
        if lower[1] < above || upper[1] > below {
            continue;
        }
        let slope = (lower[0] - upper[0]) / (lower[1] - upper[1]).max(1e-9);
        for edge in [upper[1].max(above), lower[1].min(below)] {
            let x = upper[0] + (edge - upper[1]) * slope;
            ends = [ends[0].min(x), ends[1].max(x)];
        }
    }
    span([ends[0], ends[1], ends[0], ends[1]], limit)
}

/// Lays a texel in light of `light`, of 256, over a pixel.
#[inline(always)]
fn cover(pixel: &mut [u8; 3], texel: u32, light: u32) {
    let clear = 256 - (texel >> 24) - (texel >> 31);
    let [red, green, blue] = *pixel;
    let below = u32::from_le_bytes([red, green, blue, 0]);
    let [red, green, blue, _] = (scale(texel, light) + scale(below, clear)).to_le_bytes();
    *pixel = [red, green, blue];
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::demo::camera::{Camera, Rectangle};

    /// 40x30 black pixels with a white square of 10x10 pixels at the middle, its corner moved by `x` pixels.
    fn drawn(x: f64, shade: u32) -> Vec<u8> {
        let (mut pixels, light) = (vec![0; 3600], vec![255; 1200]);
        let mut canvas = Canvas {
            size: [40, 30],
            pixels: &mut pixels,
            light: &light,
        };
        let camera = Camera {
            scale: 1.0,
            centre: [20.0, 15.0],
        };
        // Upright to the view, so that nothing is foreshortened.
        let view = camera.view(&Rectangle {
            corner: [x, 0.0, 0.0],
            across: [10.0, 0.0, 0.0],
            down: [0.0, 150.0 / 17.0, -80.0 / 17.0],
        });
        canvas.draw(&Texture::plain([255; 3], 10, 10), &view, shade);
        pixels
    }

    #[test]
    fn a_square_lies_where_the_camera_sees_it() {
        let pixels = drawn(0.0, 256);
        for y in 0..30 {
            for x in 0..40 {
                let inside = (20..30).contains(&x) && (15..25).contains(&y);
                let seen = pixels[3 * (40 * y + x)];
                assert!(
                    seen.abs_diff(if inside { 255 } else { 0 }) < 3,
                    "{x} {y}: {seen}"
                );
            }
        }
    }

    #[test]
    fn edges_between_pixels_are_grey_and_shade_darkens() {
        let pixels = drawn(0.5, 128);
        let row: Vec<u8> = (19..32).map(|x| pixels[3 * (40 * 20 + x)]).collect();
        let grey = |seen: u8| (60..=68).contains(&seen);
        assert!(
            row[0] == 0 && grey(row[1]) && grey(row[11]) && row[12] == 0,
            "{row:?}"
        );
        assert!(
            row[2..11].iter().all(|seen| (126..=129).contains(seen)),
            "{row:?}"
        );
    }

    #[test]
    fn what_lies_outside_is_left_out() {
        for x in [-1e6, -25.0, 15.0, 1e6] {
            let pixels = drawn(x, 256);
            let lit = pixels.iter().filter(|&&seen| seen > 9).count();
            assert!(
                lit == if x.abs() < 100.0 { 3 * 50 } else { 0 },
                "{x}: {lit}"
            );
        }
    }
}
