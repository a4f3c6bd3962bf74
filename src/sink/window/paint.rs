//! Scenes as the pixels of a window.

use image::RgbImage;

use crate::detect::{BoundingBox, Detection};
use crate::sink::{Scene, draw};
use crate::source::Frame;

/// Fills a window's pixels (`0x00RRGGBB`, row by row): the scene with its boxes, as large as fits, centred on black; over it
/// the lines of the caption.
///
/// # Panics
/// If there are not `width * height` pixels.
pub(super) fn paint(
    pixels: &mut [u32],
    [width, height]: [u32; 2],
    scene: Option<&Scene>,
    caption: Option<&str>,
) {
    let mut image = RgbImage::new(width, height);
    if let Some(scene) = scene {
        let picture = picture(scene, [width, height]);
        let [left, top] = [width - picture.width(), height - picture.height()].map(|gap| gap / 2);
        image::imageops::replace(&mut image, &picture, left.into(), top.into());
    }
    if let Some(caption) = caption {
        draw::caption(&mut image, caption);
    }
    let rgb = image.as_raw().as_chunks::<3>().0;
    assert_eq!(pixels.len(), rgb.len(), "a pixel each");
    for (pixel, &[red, green, blue]) in pixels.iter_mut().zip(rgb) {
        *pixel = u32::from_be_bytes([0, red, green, blue]);
    }
}

/// The largest size of this shape within a window; at least a pixel.
pub(super) fn fitted([width, height]: [u32; 2], [most_wide, most_high]: [u32; 2]) -> [u32; 2] {
    let [w, h, most_w, most_h] = [width, height, most_wide, most_high].map(u64::from);
    let side = |part: u64, whole: u64, times: u64| (part * times / whole.max(1)).max(1) as u32;
    if most_w * h <= most_h * w {
        [most_wide, side(h, w, most_w).min(most_high)]
    } else {
        [side(w, h, most_h).min(most_wide), most_high]
    }
}

/// The scene as large as fits. Boxes are drawn at that size, so that lines and letters stay sharp.
fn picture(scene: &Scene, window: [u32; 2]) -> RgbImage {
    let frame = &scene.frame;
    let [width, height] = fitted([frame.width as u32, frame.height as u32], window);
    let mut picture = scaled(frame, width as usize, height as usize);
    let (x, y) = (
        width as f32 / frame.width as f32,
        height as f32 / frame.height as f32,
    );
    let detections: Vec<Detection> = scene
        .detections
        .iter()
        .map(|detection| Detection {
            bounding_box: stretched(&detection.bounding_box, x, y),
            ..detection.clone()
        })
        .collect();
    draw::outline(&mut picture, &scene.zones);
    draw::annotate(&mut picture, &detections);
    draw::annotate_classes(&mut picture, &scene.classes);
    picture
}

fn stretched(bounds: &BoundingBox, x: f32, y: f32) -> BoundingBox {
    BoundingBox {
        x_min: bounds.x_min * x,
        y_min: bounds.y_min * y,
        x_max: bounds.x_max * x,
        y_max: bounds.y_max * y,
    }
}

/// Two neighbours of a line of pixels and the share of the second, in 1/256.
#[derive(Clone, Copy)]
struct Tap {
    first: usize,
    second: usize,
    share: u32,
}

/// Where each of `target` pixels lies among `source` pixels, centre on centre.
fn taps(source: usize, target: usize) -> Vec<Tap> {
    let step = source as f32 / target as f32;
    let tap = |index: usize| {
        let at = ((index as f32 + 0.5) * step - 0.5).clamp(0.0, (source - 1) as f32);
        Tap {
            first: at as usize,
            second: (at as usize + 1).min(source - 1),
            share: (at.fract() * 256.0) as u32,
        }
    };
    (0..target).map(tap).collect()
}

fn mix(first: u8, second: u8, share: u32) -> u8 {
    ((u32::from(first) * (256 - share) + u32::from(second) * share + 128) >> 8) as u8
}

/// A frame at another size, by bilinear interpolation.
fn scaled(frame: &Frame, width: usize, height: usize) -> RgbImage {
    let mut rows = Rows {
        frame,
        columns: taps(frame.width, width),
        source: vec![0; frame.width * 3],
        kept: [(None, vec![0; width * 3]), (None, vec![0; width * 3])],
    };
    let mut image = RgbImage::new(width as u32, height as u32);
    let taps = taps(frame.height, height);
    for (tap, out) in taps.into_iter().zip(image.chunks_exact_mut(width * 3)) {
        rows.load(tap.first);
        rows.load(tap.second);
        let (first, second) = (rows.row(tap.first), rows.row(tap.second));
        for (out, (first, second)) in out.iter_mut().zip(first.iter().zip(second)) {
            *out = mix(*first, *second, tap.share);
        }
    }
    image
}

/// Rows of a frame at another width. Two neighbours are kept, each in the place of its parity.
struct Rows<'a> {
    frame: &'a Frame,
    columns: Vec<Tap>,
    source: Vec<u8>,
    kept: [(Option<usize>, Vec<u8>); 2],
}

impl Rows<'_> {
    fn load(&mut self, y: usize) {
        let (kept, row) = &mut self.kept[y % 2];
        if *kept == Some(y) {
            return;
        }
        *kept = Some(y);
        self.frame.rgb_row(y, &mut self.source);
        let source = self.source.as_chunks::<3>().0;
        for (out, tap) in row.as_chunks_mut::<3>().0.iter_mut().zip(&self.columns) {
            let (first, second) = (source[tap.first], source[tap.second]);
            *out = std::array::from_fn(|c| mix(first[c], second[c], tap.share));
        }
    }

    fn row(&self, y: usize) -> &[u8] {
        &self.kept[y % 2].1
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant, SystemTime};

    use super::*;
    use crate::source::{PixelFormat, YuvRange};

    fn scene(width: usize, height: usize, data: Vec<u8>, boxes: &[BoundingBox]) -> Scene {
        let frame = Frame {
            width,
            height,
            format: PixelFormat::Rgb,
            range: YuvRange::Full,
            data,
            index: 0,
            captured: Instant::now(),
            timestamp: SystemTime::now(),
            source: "test".into(),
        };
        let detection = |bounds: &BoundingBox| Detection {
            label: "x".into(),
            class_id: 0,
            confidence: 0.9,
            bounding_box: *bounds,
            track_id: None,
        };
        let detections = boxes.iter().map(detection).collect();
        Scene::new(Arc::new(frame), detections, Duration::ZERO)
    }

    #[test]
    fn shapes_are_kept_within_any_window() {
        assert_eq!(fitted([640, 480], [640, 480]), [640, 480]);
        assert_eq!(fitted([640, 480], [1000, 480]), [640, 480]);
        assert_eq!(fitted([640, 480], [320, 1000]), [320, 240]);
        assert_eq!(fitted([1920, 1080], [1280, 1024]), [1280, 720]);
        assert_eq!(fitted([9000, 10], [20, 20]), [20, 1]);
        assert_eq!(fitted([10, 9000], [20, 20]), [1, 20]);
        assert_eq!(fitted([1, 1], [1, 1]), [1, 1]);
    }

    #[test]
    fn a_picture_of_the_windows_shape_fills_it_and_another_has_bars() {
        let red = scene(4, 2, [200, 10, 30].repeat(8), &[]);
        let mut pixels = vec![7; 8 * 4];
        paint(&mut pixels, [8, 4], Some(&red), None);
        assert!(pixels.iter().all(|&pixel| pixel == 0xC8_0A_1E));
        let mut pixels = vec![7; 8 * 6];
        paint(&mut pixels, [8, 6], Some(&red), None);
        let rows: Vec<bool> = pixels.chunks(8).map(|row| row == [0xC8_0A_1E; 8]).collect();
        assert_eq!(rows, [false, true, true, true, true, false]);
        assert_eq!((pixels[0], pixels[47]), (0, 0));
    }

    #[test]
    fn scaling_keeps_pixels_and_mixes_neighbours() {
        let data: Vec<u8> = (0..5 * 4 * 3).map(|i| (i * 37 % 256) as u8).collect();
        let picture = scene(5, 4, data.clone(), &[]);
        assert_eq!(scaled(&picture.frame, 5, 4).into_raw(), data);
        let ramp = scene(2, 2, [[0; 3], [100; 3], [0; 3], [100; 3]].concat(), &[]);
        let wide = scaled(&ramp.frame, 4, 1).into_raw();
        assert_eq!(wide, [[0; 3], [25; 3], [75; 3], [100; 3]].concat());
        let small = scaled(&ramp.frame, 1, 1).into_raw();
        assert_eq!(small, [50; 3]);
    }

    #[test]
    fn boxes_grow_with_the_picture() {
        let bounds = BoundingBox {
            x_min: 20.0,
            y_min: 50.0,
            x_max: 60.0,
            y_max: 90.0,
        };
        let black = scene(100, 100, vec![0; 30_000], &[bounds]);
        let mut pixels = vec![0; 400 * 400];
        paint(&mut pixels, [400, 400], Some(&black), None);
        let colour = pixels[300 * 400 + 80];
        assert!(colour != 0 && pixels[300 * 400 + 239] == colour);
        assert_eq!(pixels[300 * 400 + 79], 0);
        assert_eq!(pixels[300 * 400 + 160], 0);
    }

    #[test]
    fn captions_are_written_over_a_dimmed_picture_or_none() {
        let white = scene(64, 48, vec![255; 64 * 48 * 3], &[]);
        for scene in [None, Some(&white)] {
            let mut pixels = vec![0; 640 * 480];
            paint(&mut pixels, [640, 480], scene, Some("no signal\nunplugged"));
            let background = pixels[0];
            assert!(background < 0x80_80_80);
            let written = pixels.iter().filter(|&&pixel| pixel > 0xE0_E0_E0).count();
            assert!((100..30_000).contains(&written), "{written}");
        }
        paint(&mut [0], [1, 1], None, Some("no signal"));
    }
}
