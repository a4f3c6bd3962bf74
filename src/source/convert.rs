//! Pixels of a frame as RGB, a row at a time.

use super::{Frame, PixelFormat, YuvRange};

/// Factors of BT.601: of Y less `black` in 1/2^14, of U - 128 and V - 128 in 1/2^13.
#[derive(Clone, Copy, Debug)]
pub struct YuvMatrix {
    pub black: i16,
    pub luma: i16,
    pub v_to_red: i16,
    pub u_to_green: i16,
    pub v_to_green: i16,
    pub u_to_blue: i16,
}

/// ITU-R BT.601 with Y of 16 to 235 and chroma of 16 to 240: the factors of full range times 255/219 and 255/224.
const LIMITED: YuvMatrix = YuvMatrix {
    black: 16,
    luma: 19_077,
    v_to_red: 13_075,
    u_to_green: -3_209,
    v_to_green: -6_660,
    u_to_blue: 16_525,
};

/// ITU-R BT.601 with 0 to 255 for all, as JFIF writes it: 1.402, -0.344136, -0.714136, 1.772.
const FULL: YuvMatrix = YuvMatrix {
    black: 0,
    luma: 16_384,
    v_to_red: 11_485,
    u_to_green: -2_819,
    v_to_green: -5_850,
    u_to_blue: 14_516,
};

/// Pairs of pixels converted at a time.
const PAIRS: usize = 16;

/// `P` pairs of neighbours: the Y of the left and of the right pixels, and the U and V of both.
struct Block<const P: usize> {
    left: [u8; P],
    right: [u8; P],
    u: [u8; P],
    v: [u8; P],
}

/// A row of YUV: of Y U Y V; of Y and of U V; of Y, of U and of V.
#[derive(Clone, Copy, Debug)]
pub enum YuvRow<'a> {
    Yuyv(&'a [u8]),
    Nv12(&'a [u8], &'a [u8]),
    I420(&'a [u8], &'a [u8], &'a [u8]),
}

impl YuvRow<'_> {
    /// The pairs from `first` on.
    #[inline(always)]
    fn block<const P: usize>(&self, first: usize) -> Block<P> {
        let mut block = Block {
            left: [0; P],
            right: [0; P],
            u: [0; P],
            v: [0; P],
        };
        match *self {
            Self::Yuyv(row) => {
                let pairs = &row.as_chunks::<4>().0[first..][..P];
                for (i, &pair) in pairs.iter().enumerate() {
                    let pair = u32::from_le_bytes(pair);
                    (block.left[i], block.u[i]) = (pair as u8, (pair >> 8) as u8);
                    (block.right[i], block.v[i]) = ((pair >> 16) as u8, (pair >> 24) as u8);
                }
            }
            Self::Nv12(luma, chroma) => {
                block.load_luma(luma, first);
                let pairs = &chroma.as_chunks::<2>().0[first..][..P];
                for (i, &[u, v]) in pairs.iter().enumerate() {
                    (block.u[i], block.v[i]) = (u, v);
                }
            }
            Self::I420(luma, us, vs) => {
                block.load_luma(luma, first);
                block.u.copy_from_slice(&us[first..][..P]);
                block.v.copy_from_slice(&vs[first..][..P]);
            }
        }
        block
    }
}

impl<const P: usize> Block<P> {
    #[inline(always)]
    fn load_luma(&mut self, row: &[u8], first: usize) {
        let pairs = &row.as_chunks::<2>().0[first..][..P];
        for (i, &[left, right]) in pairs.iter().enumerate() {
            (self.left[i], self.right[i]) = (left, right);
        }
    }
}

/// The upper half of a product: `a * b / 2^16`, rounded down.
#[inline(always)]
fn high(a: i16, b: i16) -> i16 {
    ((i32::from(a) * i32::from(b)) >> 16) as i16
}

impl YuvMatrix {
    fn of(range: YuvRange) -> &'static Self {
        match range {
            YuvRange::Limited => &LIMITED,
            YuvRange::Full => &FULL,
        }
    }

    /// Writes the pixels of a block. Sums are in 1/32, which 16 bits hold: 7 bits more for luma, 8 for chroma, times
    /// the factors, less 16.
    #[inline(always)]
    fn convert<const P: usize, const N: usize>(&self, block: &Block<P>, out: &mut [[[u8; N]; 2]]) {
        assert_eq!(out.len(), P);
        let luma = |y: u8| high((i16::from(y) - self.black) << 7, self.luma) + 16;
        let byte = |sum: i16| (sum >> 5).clamp(0, 255) as u8;
        for (i, out) in out.iter_mut().enumerate() {
            let (u, v) = (i16::from(block.u[i]) - 128, i16::from(block.v[i]) - 128);
            let (u, v) = (u << 8, v << 8);
            let red = high(v, self.v_to_red);
            let green = high(u, self.u_to_green) + high(v, self.v_to_green);
            let blue = high(u, self.u_to_blue);
            for (out, y) in out.iter_mut().zip([block.left[i], block.right[i]]) {
                let luma = luma(y);
                *out = pixel([byte(luma + red), byte(luma + green), byte(luma + blue)]);
            }
        }
    }

    /// Converts a row from pair `first` on, as many pixels as `out` is long.
    ///
    /// # Panics
    /// If the row is not that long.
    #[inline(always)]
    pub fn convert_row<const N: usize>(&self, row: &YuvRow<'_>, first: usize, out: &mut [[u8; N]]) {
        let (blocks, rest) = out.as_chunks_mut::<2>().0.as_chunks_mut::<PAIRS>();
        let first_of_rest = first + blocks.len() * PAIRS;
        for (index, out) in blocks.iter_mut().enumerate() {
            self.convert(&row.block::<PAIRS>(first + index * PAIRS), out);
        }
        for (index, out) in rest.iter_mut().enumerate() {
            self.convert(
                &row.block::<1>(first_of_rest + index),
                std::slice::from_mut(out),
            );
        }
    }
}

/// RGB in the first three of `N` bytes, zeros behind.
#[inline(always)]
fn pixel<const N: usize>([red, green, blue]: [u8; 3]) -> [u8; N] {
    let mut pixel = [0; N];
    (pixel[0], pixel[1], pixel[2]) = (red, green, blue);
    pixel
}

impl Frame {
    /// Writes row `y` as packed RGB; `out` holds `3 * width` bytes. YUV by BT.601 in 16-bit integers: within 1 of the
    /// real-valued formula. A pixel takes the chroma of its own block.
    ///
    /// # Panics
    /// If `y` is not below the height or `out` is of another length.
    pub fn rgb_row(&self, y: usize, out: &mut [u8]) {
        let (pixels, rest) = out.as_chunks_mut::<3>();
        assert!(rest.is_empty(), "3 bytes a pixel");
        self.pixel_row(y, pixels);
    }

    /// Writes row `y` as [`Frame::rgb_row`] does, RGB in the first three bytes of a pixel of `N` and zeros behind.
    /// Always inlined, so that callers compile it for their own instruction set.
    ///
    /// # Panics
    /// If `y` is not below the height or `out` is not as long as the frame is wide.
    #[inline(always)]
    pub fn pixel_row<const N: usize>(&self, y: usize, out: &mut [[u8; N]]) {
        let (width, height) = (self.width, self.height);
        assert!(y < height && out.len() == width, "row {y} of {height}");
        if let Some((matrix, row)) = self.yuv_row(y) {
            matrix.convert_row(&row, 0, out);
        } else if self.format == PixelFormat::Grey {
            let row = &self.data[y * width..][..width];
            for (out, &grey) in out.iter_mut().zip(row) {
                *out = pixel([grey; 3]);
            }
        } else {
            let row = &self.data[y * width * 3..][..width * 3];
            for (out, &rgb) in out.iter_mut().zip(row.as_chunks::<3>().0) {
                *out = pixel(rgb);
            }
        }
    }

    /// The bytes of row `y` and how to convert them; none if the frame is not YUV.
    ///
    /// # Panics
    /// If `y` is not below the height.
    pub fn yuv_row(&self, y: usize) -> Option<(&'static YuvMatrix, YuvRow<'_>)> {
        let (width, data) = (self.width, &self.data[..]);
        assert!(y < self.height, "row {y} of {}", self.height);
        let luma = || &data[y * width..][..width];
        let plane = width * self.height;
        let row = match self.format {
            PixelFormat::Rgb | PixelFormat::Grey => return None,
            PixelFormat::Yuyv => YuvRow::Yuyv(&data[y * width * 2..][..width * 2]),
            PixelFormat::Nv12 => YuvRow::Nv12(luma(), &data[plane + y / 2 * width..][..width]),
            PixelFormat::I420 => {
                let half = width / 2;
                let us = &data[plane + y / 2 * half..][..half];
                let vs = &data[plane + plane / 4 + y / 2 * half..][..half];
                YuvRow::I420(luma(), us, vs)
            }
        };
        Some((YuvMatrix::of(self.range), row))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Instant, SystemTime};

    use super::*;

    fn frame(format: PixelFormat, range: YuvRange, size: [usize; 2], data: Vec<u8>) -> Frame {
        assert_eq!(data.len(), format.frame_bytes(size[0], size[1]));
        Frame {
            width: size[0],
            height: size[1],
            format,
            range,
            data,
            index: 0,
            captured: Instant::now(),
            timestamp: SystemTime::now(),
            source: "test".into(),
        }
    }

    fn row(frame: &Frame, y: usize) -> Vec<u8> {
        let mut out = vec![0; frame.width * 3];
        frame.rgb_row(y, &mut out);
        out
    }

    #[test]
    fn yuv_is_within_one_of_the_real_formula() {
        for range in [YuvRange::Limited, YuvRange::Full] {
            let matrix = YuvMatrix::of(range);
            let (black, luma, chroma) = match range {
                YuvRange::Limited => (16.0, 255.0 / 219.0, 255.0 / 224.0),
                YuvRange::Full => (0.0, 1.0, 1.0),
            };
            for y in 0..=255u8 {
                for u in (0..=255u8).step_by(15) {
                    for v in (0..=255u8).step_by(15) {
                        let l = (f64::from(y) - black) * luma;
                        let (cb, cr) = (
                            (f64::from(u) - 128.0) * chroma,
                            (f64::from(v) - 128.0) * chroma,
                        );
                        let real = [
                            l + 1.402 * cr,
                            l - 0.344_136 * cb - 0.714_136 * cr,
                            l + 1.772 * cb,
                        ];
                        let block = Block {
                            left: [y],
                            right: [y],
                            u: [u],
                            v: [v],
                        };
                        let mut out = [[[0u8; 3]; 2]];
                        matrix.convert(&block, &mut out);
                        let ours = out[0][1];
                        for (real, ours) in real.into_iter().zip(ours) {
                            let real = real.clamp(0.0, 255.0);
                            assert!(
                                (real - f64::from(ours)).abs() <= 0.6,
                                "{y} {u} {v}: {real} {ours}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_row_is_its_pairs() {
        let data: Vec<u8> = (0..70 * 2).map(|i| (i * 89 % 256) as u8).collect();
        let pairs = data.chunks(4).flat_map(|pair| {
            let pair = frame(PixelFormat::Yuyv, YuvRange::Full, [2, 1], pair.to_vec());
            row(&pair, 0)
        });
        let pairs: Vec<u8> = pairs.collect();
        let whole = frame(PixelFormat::Yuyv, YuvRange::Full, [70, 1], data);
        assert_eq!(row(&whole, 0), pairs);
    }

    #[test]
    fn every_layout_reads_its_own_bytes() {
        let full = YuvRange::Full;
        // Red block left, grey block right; 4x2 pixels. JFIF red: Y 76, Cb 85, Cr 255.
        let i420 = vec![76, 76, 50, 60, 76, 76, 70, 80, 85, 128, 255, 128];
        let nv12 = vec![76, 76, 50, 60, 76, 76, 70, 80, 85, 255, 128, 128];
        let yuyv = vec![
            76, 85, 76, 255, 50, 128, 60, 128, 76, 85, 76, 255, 70, 128, 80, 128,
        ];
        let top = vec![254, 0, 0, 254, 0, 0, 50, 50, 50, 60, 60, 60];
        let bottom = vec![254, 0, 0, 254, 0, 0, 70, 70, 70, 80, 80, 80];
        for (format, data) in [
            (PixelFormat::I420, i420),
            (PixelFormat::Nv12, nv12),
            (PixelFormat::Yuyv, yuyv),
        ] {
            let frame = frame(format, full, [4, 2], data);
            assert_eq!(row(&frame, 0), top, "{format:?}");
            assert_eq!(row(&frame, 1), bottom, "{format:?}");
        }
        let grey = frame(PixelFormat::Grey, full, [2, 1], vec![7, 9]);
        assert_eq!(row(&grey, 0), [7, 7, 7, 9, 9, 9]);
    }
}
