//! Whether a picture shows something else than another.

use crate::source::Frame;

/// The finest grid: columns and rows.
const GRID: [usize; 2] = [32, 24];
/// Rows of a cell that are looked at, about.
const CELL_ROWS: usize = 4;
/// Grey levels by which a cell differs that has changed.
const LEVELS: f32 = 12.0;

/// The grey levels of a picture in a grid of cells, as they were when it was last kept.
#[derive(Clone, Debug, Default)]
pub(super) struct Changes {
    kept: Vec<f32>,
}

impl Changes {
    /// The share of the picture that differs from the picture last kept: 1 if there is none, or one of another size. A
    /// change of brightness all over is none.
    pub fn share(&self, cells: &[f32]) -> f64 {
        if self.kept.len() != cells.len() {
            return 1.0;
        }
        let brighter =
            (cells.iter().sum::<f32>() - self.kept.iter().sum::<f32>()) / cells.len() as f32;
        let differs = |(now, then): &(&f32, &f32)| (**now - **then - brighter).abs() > LEVELS;
        let changed = cells.iter().zip(&self.kept).filter(differs).count();
        changed as f64 / cells.len() as f64
    }

    /// Later pictures are compared with this one.
    pub fn keep(&mut self, cells: Vec<f32>) {
        self.kept = cells;
    }
}

/// Mean grey level of each cell.
pub(super) fn cells(frame: &Frame) -> Vec<f32> {
    let [columns, rows] = [GRID[0].min(frame.width), GRID[1].min(frame.height)];
    let mut sums = vec![0_u32; columns * rows];
    let mut counts = vec![0_u32; columns * rows];
    let mut row = vec![0; frame.width * 3];
    let step = (frame.height / (rows * CELL_ROWS)).max(1);
    for y in (0..frame.height).step_by(step) {
        frame.rgb_row(y, &mut row);
        let first = y * rows / frame.height * columns;
        for (x, pixel) in row.chunks_exact(3).enumerate() {
            let cell = first + x * columns / frame.width;
            sums[cell] += u32::from(pixel[0]) + 2 * u32::from(pixel[1]) + u32::from(pixel[2]);
            counts[cell] += 4;
        }
    }
    let cells = sums.iter().zip(&counts);
    cells
        .map(|(sum, count)| *sum as f32 / *count as f32)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::{Instant, SystemTime};

    use super::*;
    use crate::source::{PixelFormat, YuvRange};

    fn frame(level: u8, square: Option<u8>) -> Frame {
        let (width, height) = (64, 48);
        let mut data = vec![level; width * height];
        for y in 0..24 {
            data[y * width..][..32].fill(square.unwrap_or(level));
        }
        Frame {
            width,
            height,
            format: PixelFormat::Grey,
            range: YuvRange::Full,
            data,
            index: 0,
            captured: Instant::now(),
            timestamp: SystemTime::now(),
            source: "test".into(),
        }
    }

    #[test]
    fn a_change_is_one_of_content_not_of_light() {
        let mut changes = Changes::default();
        let plain = cells(&frame(100, None));
        assert_eq!(changes.share(&plain), 1.0);
        changes.keep(plain);
        assert_eq!(changes.share(&cells(&frame(100, None))), 0.0);
        assert_eq!(changes.share(&cells(&frame(140, None))), 0.0);
        let share = changes.share(&cells(&frame(100, Some(160))));
        assert!(share > 0.2, "{share}");
    }

    #[test]
    fn pictures_smaller_than_the_grid_are_no_trouble() {
        let mut small = frame(9, None);
        (small.width, small.height) = (3, 2);
        small.data.truncate(6);
        assert!(cells(&small).iter().all(|level| level.is_finite()));
    }
}
