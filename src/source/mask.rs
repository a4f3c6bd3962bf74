//! Privacy masks: parts of a picture that nobody is to see.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Frame, PixelFormat, YuvRange};
use crate::polygon::Polygon;

/// No colour, in either chroma plane.
const NEUTRAL: u8 = 128;

/// The masks that hold now, shared with whoever changes them.
#[derive(Clone, Debug, Default)]
pub struct Masks(Arc<Mutex<Arc<[Polygon]>>>);

impl Masks {
    /// Masks that hold from the beginning.
    pub fn new(polygons: Vec<Polygon>) -> Self {
        let masks = Self::default();
        masks.set(polygons);
        masks
    }

    /// Other masks hold from the next frame on.
    pub fn set(&self, polygons: Vec<Polygon>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = polygons.into();
    }

    fn get(&self) -> Arc<[Polygon]> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Blackens the masked pixels of frames.
#[derive(Debug, Default)]
pub struct Cover {
    masks: Masks,
    /// What the spans below were worked out from.
    polygons: Arc<[Polygon]>,
    size: [usize; 2],
    /// Rows and the pixels in them.
    spans: Vec<(usize, Range<usize>)>,
}

impl Cover {
    /// Covers what `masks` says at each frame.
    pub fn new(masks: Masks) -> Self {
        Self {
            masks,
            ..Self::default()
        }
    }

    /// Makes every pixel black that a mask touches. A chroma sample that a masked pixel shares becomes neutral, so that
    /// it tells nothing of it.
    pub fn apply(&mut self, frame: &mut Frame) {
        let (polygons, size) = (self.masks.get(), [frame.width, frame.height]);
        if !Arc::ptr_eq(&polygons, &self.polygons) || size != self.size {
            self.spans = spans(&polygons, size);
            (self.polygons, self.size) = (polygons, size);
        }
        let black = match (frame.format, frame.range) {
            (PixelFormat::Rgb | PixelFormat::Grey, _) | (_, YuvRange::Full) => 0,
            (_, YuvRange::Limited) => 16,
        };
        for (y, xs) in &self.spans {
            blacken(frame, *y, xs, black);
        }
    }
}

fn spans(polygons: &[Polygon], size: [usize; 2]) -> Vec<(usize, Range<usize>)> {
    let rows = polygons.iter().flat_map(|polygon| {
        (0..size[1]).flat_map(move |y| {
            let touched = polygon.touched(y, size).into_iter();
            touched.map(move |xs| (y, xs))
        })
    });
    rows.collect()
}

fn blacken(frame: &mut Frame, y: usize, xs: &Range<usize>, black: u8) {
    let (width, luma_bytes) = (frame.width, frame.width * frame.height);
    let data = &mut frame.data[..];
    let pairs = xs.start / 2..xs.end.div_ceil(2);
    match frame.format {
        PixelFormat::Rgb => data[3 * (y * width + xs.start)..3 * (y * width + xs.end)].fill(black),
        PixelFormat::Grey => data[y * width + xs.start..y * width + xs.end].fill(black),
        PixelFormat::Yuyv => {
            let row = data[2 * y * width..][..2 * width].as_chunks_mut::<2>().0;
            row[xs.clone()].fill([black, NEUTRAL]);
            // U comes with the left pixel of a pair and V with the right one.
            row[2 * pairs.start][1] = NEUTRAL;
            row[2 * pairs.end - 1][1] = NEUTRAL;
        }
        PixelFormat::Nv12 => {
            data[y * width + xs.start..y * width + xs.end].fill(black);
            let row = &mut data[luma_bytes + y / 2 * width..][..width];
            row[2 * pairs.start..2 * pairs.end].fill(NEUTRAL);
        }
        PixelFormat::I420 => {
            data[y * width + xs.start..y * width + xs.end].fill(black);
            for plane in data[luma_bytes..].chunks_exact_mut(luma_bytes / 4) {
                plane[y / 2 * (width / 2)..][pairs.clone()].fill(NEUTRAL);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Instant, SystemTime};

    use super::*;

    const SIZE: [usize; 2] = [16, 10];

    fn frame(format: PixelFormat, range: YuvRange, fill: u8) -> Frame {
        let [width, height] = SIZE;
        Frame {
            width,
            height,
            format,
            range,
            data: vec![fill; format.frame_bytes(width, height)],
            index: 0,
            captured: Instant::now(),
            timestamp: SystemTime::now(),
            source: "test".into(),
        }
    }

    fn pixel(frame: &Frame, x: usize, y: usize) -> [u8; 3] {
        let mut row = vec![0; 3 * frame.width];
        frame.rgb_row(y, &mut row);
        row.as_chunks::<3>().0[x]
    }

    fn rectangle(x: [f64; 2], y: [f64; 2]) -> Polygon {
        Polygon::new(vec![[x[0], y[0]], [x[1], y[0]], [x[1], y[1]], [x[0], y[1]]]).unwrap()
    }

    #[test]
    fn masked_pixels_are_black_whatever_they_were_and_the_others_stay() {
        // Pixels 3 to 8 of rows 3 to 6: odd corners, within samples of chroma.
        let masks = Masks::new(vec![rectangle([3.5 / 16.0, 8.5 / 16.0], [0.35, 0.65])]);
        for (format, range) in [
            (PixelFormat::Rgb, YuvRange::Full),
            (PixelFormat::Grey, YuvRange::Full),
            (PixelFormat::Yuyv, YuvRange::Full),
            (PixelFormat::Yuyv, YuvRange::Limited),
            (PixelFormat::Nv12, YuvRange::Limited),
            (PixelFormat::I420, YuvRange::Full),
            (PixelFormat::I420, YuvRange::Limited),
        ] {
            let mut cover = Cover::new(masks.clone());
            let mut covered = [77, 200].map(|fill| frame(format, range, fill));
            covered.iter_mut().for_each(|frame| cover.apply(frame));
            let plain = frame(format, range, 77);
            for y in 0..SIZE[1] {
                for x in 0..SIZE[0] {
                    let found = pixel(&covered[0], x, y);
                    if (3..9).contains(&x) && (3..7).contains(&y) {
                        assert_eq!(found, [0; 3], "{format:?} {range:?} {x} {y}");
                        assert_eq!(pixel(&covered[1], x, y), [0; 3]);
                    } else if !(2..10).contains(&x) || !(2..8).contains(&y) {
                        assert_eq!(found, pixel(&plain, x, y), "{format:?} {x} {y}");
                    } else {
                        assert_ne!(found, [0; 3], "{format:?} {range:?} {x} {y}");
                    }
                }
            }
        }
    }

    #[test]
    fn masks_follow_changes_and_sizes() {
        let masks = Masks::default();
        let mut cover = Cover::new(masks.clone());
        let mut shown = frame(PixelFormat::Grey, YuvRange::Full, 9);
        cover.apply(&mut shown);
        assert!(shown.data.iter().all(|&value| value == 9));
        masks.set(vec![
            rectangle([0.0, 0.5], [0.0, 1.0]),
            rectangle([0.9, 1.0], [0.0, 0.1]),
        ]);
        cover.apply(&mut shown);
        let black = |frame: &Frame| frame.data.iter().filter(|&&value| value == 0).count();
        // A mask that ends where a pixel begins takes this pixel too.
        assert_eq!(black(&shown), 9 * 10 + 2 * 2);
        let mut small = frame(PixelFormat::Grey, YuvRange::Full, 9);
        (small.width, small.height) = (4, 1);
        small.data.truncate(4);
        cover.apply(&mut small);
        assert_eq!(small.data, [0, 0, 0, 0]);
        masks.set(Vec::new());
        let mut shown = frame(PixelFormat::Grey, YuvRange::Full, 9);
        cover.apply(&mut shown);
        assert_eq!(black(&shown), 0);
    }

    #[test]
    fn the_whole_picture_can_be_masked() {
        let mut cover = Cover::new(Masks::new(vec![rectangle([0.0, 1.0], [0.0, 1.0])]));
        for format in [
            PixelFormat::Rgb,
            PixelFormat::Yuyv,
            PixelFormat::Nv12,
            PixelFormat::I420,
        ] {
            let mut shown = frame(format, YuvRange::Limited, 99);
            cover.apply(&mut shown);
            assert!(!shown.data.contains(&99), "{format:?}");
        }
    }
}
