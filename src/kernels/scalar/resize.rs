//! Resizing of `[height][width][channels]` codes. Scale and zero point stay.

/// Copies, for each output pixel, the input pixel at `rows[y]`, `columns[x]`.
pub fn resize_nearest(
    input: &[i8],
    width: usize,
    channels: usize,
    rows: &[usize],
    columns: &[usize],
    out: &mut [i8],
) {
    let mut out = out.chunks_exact_mut(channels);
    for &row in rows {
        for &column in columns {
            let pixel = &input[(row * width + column) * channels..][..channels];
            if let Some(out) = out.next() {
                out.copy_from_slice(pixel);
            }
        }
    }
}

/// For one output coordinate: the two input coordinates between which it lies and the weight of the second, in 1/2048.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BilinearAxis {
    pub low: usize,
    pub high: usize,
    pub weight: i32,
}

impl BilinearAxis {
    /// From a real source coordinate (may be negative) and the size of the input along the axis.
    pub fn new(coordinate: f32, size: usize) -> Self {
        let coordinate = coordinate.max(0.0);
        let low = (coordinate as usize).min(size - 1);
        Self {
            low,
            high: (low + 1).min(size - 1),
            weight: ((coordinate - low as f32) * 2048.0).round_ties_even() as i32,
        }
    }
}

/// Bilinear interpolation in 11-bit fixed point, halves up: XNNPACK's `s8_ibilinear`.
pub fn resize_bilinear(
    input: &[i8],
    width: usize,
    channels: usize,
    rows: &[BilinearAxis],
    columns: &[BilinearAxis],
    out: &mut [i8],
) {
    let pixel = |row: usize, column: usize| &input[(row * width + column) * channels..][..channels];
    let mut out = out.chunks_exact_mut(channels);
    for row in rows {
        for column in columns {
            let Some(out) = out.next() else { return };
            let top = pixel(row.low, column.low)
                .iter()
                .zip(pixel(row.low, column.high));
            let bottom = pixel(row.high, column.low)
                .iter()
                .zip(pixel(row.high, column.high));
            for ((out, (&tl, &tr)), (&bl, &br)) in out.iter_mut().zip(top).zip(bottom) {
                let top = blend(i32::from(tl), i32::from(tr), column.weight);
                let bottom = blend(i32::from(bl), i32::from(br), column.weight);
                let sum = (top << 11) + (bottom - top) * row.weight;
                *out = ((sum + (1 << 21)) >> 22) as i8;
            }
        }
    }
}

fn blend(a: i32, b: i32, weight: i32) -> i32 {
    (a << 11) + (b - a) * weight
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_copies_pixels() {
        let mut out = [0; 6];
        resize_nearest(&[1, 2, 3, 4], 2, 1, &[0, 1], &[0, 0, 1], &mut out);
        assert_eq!(out, [1, 1, 2, 3, 3, 4]);
    }

    #[test]
    fn bilinear_meets_in_the_middle() {
        let axis = [
            BilinearAxis::new(-0.25, 2),
            BilinearAxis::new(0.5, 2),
            BilinearAxis::new(1.25, 2),
        ];
        assert_eq!(
            axis[0],
            BilinearAxis {
                low: 0,
                high: 1,
                weight: 0
            }
        );
        let mut out = [0; 9];
        resize_bilinear(&[-100, 100, 100, -101], 2, 1, &axis, &axis, &mut out);
        assert_eq!(out, [-100, 0, 100, 0, 0, 0, 100, 0, -101]);
    }
}
