//! The loops of preprocessing, compiled for each instruction set.
//!
//! Most are plain loops of [`resize`](super::resize) and of [`Frame::pixel_row`], compiled again under the features of
//! an instruction set: the compiler's vectors give the same bits.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "aarch64")]
mod neon;

use super::resize::{self, BAND_ROWS, Band, RingRows, Taps};
use crate::kernels::Isa;
use crate::source::Frame;

/// Functions over rows of pixels; each has the contract of its namesake.
#[derive(Clone, Copy, Debug)]
pub struct RowLoops {
    /// [`Frame::pixel_row`].
    pub pixel_row: fn(frame: &Frame, y: usize, out: &mut [[u8; 4]]),
    /// [`resize::interleave`].
    pub interleave: fn(rows: &[u32], band: &mut Band),
    /// [`resize::shrink_band`].
    pub shrink_band: fn(columns: &Taps, band: &Band, channels: usize, rows: &mut [u8]),
    /// [`resize::blend_rows`].
    pub blend_rows: fn(rows: RingRows<'_>, weights: &[i32], flip: u8, out: &mut [u8]),
}

impl RowLoops {
    /// The loops for an instruction set. What it has none for runs under the target's own features.
    pub fn of(isa: Isa) -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if isa == Isa::Avx512Vnni && has_avx512() {
                return AVX512;
            }
            if isa >= Isa::Avx2 && is_x86_feature_detected!("avx2") {
                return AVX2;
            }
        }
        #[cfg(target_arch = "aarch64")]
        if isa >= Isa::Neon {
            return NEON;
        }
        let _ = isa;
        BASELINE
    }
}

#[cfg(target_arch = "x86_64")]
fn has_avx512() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq")
}

/// [`Frame::pixel_row`] for pixels of four bytes.
#[inline(always)]
fn pixel_row(frame: &Frame, y: usize, out: &mut [[u8; 4]]) {
    frame.pixel_row(y, out);
}

/// Writes a pixel of four bytes to each of [`BAND_ROWS`] rows, which lie `stride` apart, at `at`.
///
/// # Panics
/// If the rows are not that long.
#[inline(always)]
pub fn store_pixels(rows: &mut [u8], stride: usize, at: usize, pixels: &[u8; 4 * BAND_ROWS]) {
    assert!(stride <= rows.len() / BAND_ROWS && stride >= 4 && at <= stride - 4);
    for (row, &pixel) in pixels.as_chunks::<4>().0.iter().enumerate() {
        // SAFETY: by the assert, `at + 4 <= stride`, and all rows of that length lie within `rows`.
        unsafe {
            let target = rows.as_mut_ptr().add(row * stride + at);
            target.cast::<[u8; 4]>().write(pixel);
        }
    }
}

/// Functions compiled for a set of features.
macro_rules! compiled {
    ($($rule:ident)::+($($argument:ident: $type:ty),*), $features:literal, $has:expr) => {{
        #[target_feature(enable = $features)]
        fn compiled($($argument: $type),*) {
            $($rule)::+($($argument),*);
        }
        |$($argument),*| {
            assert!($has);
            // SAFETY: the assert above proves the features.
            unsafe { compiled($($argument),*) }
        }
    }};
}

/// Under the target's own features.
const BASELINE: RowLoops = RowLoops {
    pixel_row,
    interleave: resize::interleave,
    shrink_band: resize::shrink_band,
    blend_rows: resize::blend_rows,
};

#[cfg(target_arch = "aarch64")]
const NEON: RowLoops = RowLoops {
    pixel_row: compiled!(neon::pixel_row(frame: &Frame, y: usize, out: &mut [[u8; 4]]), "neon", cfg!(target_feature = "neon")),
    ..BASELINE
};

/// A table of the compiled resampling and the conversion of [`avx2`].
#[cfg(target_arch = "x86_64")]
macro_rules! x86_loops {
    ($features:literal, $has:expr) => {
        RowLoops {
            pixel_row: compiled!(avx2::pixel_row(frame: &Frame, y: usize, out: &mut [[u8; 4]]), "avx2", $has),
            interleave: compiled!(avx2::interleave(rows: &[u32], band: &mut Band), "avx2", $has),
            shrink_band: compiled!(resize::shrink_band(columns: &Taps, band: &Band, channels: usize, rows: &mut [u8]), $features, $has),
            blend_rows: compiled!(resize::blend_rows(rows: RingRows<'_>, weights: &[i32], flip: u8, out: &mut [u8]), $features, $has),
        }
    };
}

#[cfg(target_arch = "x86_64")]
const AVX2: RowLoops = x86_loops!("avx2", is_x86_feature_detected!("avx2"));

#[cfg(target_arch = "x86_64")]
const AVX512: RowLoops = x86_loops!("avx2,avx512f,avx512bw,avx512vl,avx512dq", has_avx512());

#[cfg(test)]
mod tests {
    use std::time::{Instant, SystemTime};

    use super::*;
    use crate::source::{PixelFormat, YuvRange};

    fn noise(count: usize) -> Vec<u8> {
        let hash = |i: usize| (i as u32).wrapping_mul(2_654_435_761).to_le_bytes()[3];
        (0..count).map(hash).collect()
    }

    #[test]
    fn every_instruction_set_reads_the_same_pixels() {
        let formats = [
            PixelFormat::Rgb,
            PixelFormat::Grey,
            PixelFormat::Yuyv,
            PixelFormat::Nv12,
            PixelFormat::I420,
        ];
        for width in [2, 8, 10, 14, 16, 18, 30, 34, 62, 100, 322] {
            for (format, range) in formats
                .into_iter()
                .flat_map(|format| [YuvRange::Full, YuvRange::Limited].map(|range| (format, range)))
            {
                let height = 4;
                let frame = Frame {
                    width,
                    height,
                    format,
                    range,
                    data: noise(format.frame_bytes(width, height)),
                    index: 0,
                    captured: Instant::now(),
                    timestamp: SystemTime::now(),
                    source: "noise".into(),
                };
                for y in 0..height {
                    let mut rgb = vec![0; 3 * width];
                    frame.rgb_row(y, &mut rgb);
                    for isa in Isa::ALL {
                        let mut pixels = vec![[1; 4]; width];
                        (RowLoops::of(isa).pixel_row)(&frame, y, &mut pixels);
                        for (pixel, rgb) in pixels.iter().zip(rgb.chunks(3)) {
                            assert_eq!(pixel[..3], *rgb, "{isa} {format:?} {width} {y}");
                            assert_eq!(pixel[3], 0);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn every_instruction_set_turns_the_same_pixels() {
        for width in [1, 3, 7, 8, 9, 17, 40] {
            let rows: Vec<u32> = (0..(width * BAND_ROWS) as u32).collect();
            for isa in Isa::ALL {
                let mut band = vec![[0; BAND_ROWS]; width];
                (RowLoops::of(isa).interleave)(&rows, &mut band);
                for (x, column) in band.iter().enumerate() {
                    for (row, &pixel) in column.iter().enumerate() {
                        assert_eq!(pixel, rows[row * width + x], "{isa} {width}");
                    }
                }
            }
        }
    }
}
