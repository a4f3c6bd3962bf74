//! Pixels of a frame as RGB, a row at a time.

use super::{Frame, PixelFormat, YuvRange};

/// Factors of BT.601 in 1/65536: `luma` scales Y less `black`, the others U - 128 and V - 128.
struct Matrix {
    black: i32,
    luma: i32,
    v_to_red: i32,
    u_to_green: i32,
    v_to_green: i32,
    u_to_blue: i32,
}

/// ITU-R BT.601 with Y of 16 to 235 and chroma of 16 to 240: the factors of full range times 255/219 and 255/224.
const LIMITED: Matrix = Matrix {
    black: 16,
    luma: 76_309,
    v_to_red: 104_597,
    u_to_green: 25_675,
    v_to_green: 53_279,
    u_to_blue: 132_201,
};

/// ITU-R BT.601 with 0 to 255 for all, as JFIF writes it: 1.402, 0.344136, 0.714136, 1.772.
const FULL: Matrix = Matrix {
    black: 0,
    luma: 65_536,
    v_to_red: 91_881,
    u_to_green: 22_554,
    v_to_green: 46_802,
    u_to_blue: 116_130,
};

impl Matrix {
    fn of(range: YuvRange) -> &'static Self {
        match range {
            YuvRange::Limited => &LIMITED,
            YuvRange::Full => &FULL,
        }
    }

    /// What U and V add to red, green and blue, with the half that makes the shift round.
    #[inline(always)]
    fn chroma(&self, u: u8, v: u8) -> [i32; 3] {
        let (u, v) = (i32::from(u) - 128, i32::from(v) - 128);
        [
            self.v_to_red * v + 32_768,
            32_768 - self.u_to_green * u - self.v_to_green * v,
            self.u_to_blue * u + 32_768,
        ]
    }

    #[inline(always)]
    fn pixel(&self, y: u8, chroma: [i32; 3]) -> [u8; 3] {
        let luma = (i32::from(y) - self.black) * self.luma;
        chroma.map(|c| ((luma + c) >> 16).clamp(0, 255) as u8)
    }
}

impl Frame {
    /// Writes row `y` as packed RGB; `out` holds `3 * width` bytes. YUV by BT.601 in integers of 16 fractional bits,
    /// rounded to nearest: within 1 of the real-valued formula. A pixel takes the chroma of its own block.
    ///
    /// # Panics
    /// If `y` is not below the height or `out` is of another length.
    pub fn rgb_row(&self, y: usize, out: &mut [u8]) {
        let (width, height) = (self.width, self.height);
        assert!(y < height && out.len() == 3 * width, "row {y} of {height}");
        let data = &self.data[..];
        let matrix = Matrix::of(self.range);
        match self.format {
            PixelFormat::Rgb => out.copy_from_slice(&data[y * width * 3..][..width * 3]),
            PixelFormat::Grey => {
                let row = &data[y * width..][..width];
                for (pixel, &grey) in out.as_chunks_mut::<3>().0.iter_mut().zip(row) {
                    *pixel = [grey; 3];
                }
            }
            PixelFormat::Yuyv => {
                let row = data[y * width * 2..][..width * 2].as_chunks::<4>().0;
                for (pair, &[y0, u, y1, v]) in out.as_chunks_mut::<6>().0.iter_mut().zip(row) {
                    *pair = two_pixels(matrix, [y0, y1], u, v);
                }
            }
            PixelFormat::Nv12 => {
                let luma = data[y * width..][..width].as_chunks::<2>().0;
                let chroma = &data[width * height + y / 2 * width..][..width];
                let chroma = chroma.as_chunks::<2>().0;
                let pairs = out.as_chunks_mut::<6>().0.iter_mut();
                for (pair, (&luma, &[u, v])) in pairs.zip(luma.iter().zip(chroma)) {
                    *pair = two_pixels(matrix, luma, u, v);
                }
            }
            PixelFormat::I420 => {
                let half = width / 2;
                let luma = data[y * width..][..width].as_chunks::<2>().0;
                let plane = width * height;
                let us = &data[plane + y / 2 * half..][..half];
                let vs = &data[plane + plane / 4 + y / 2 * half..][..half];
                let pairs = out.as_chunks_mut::<6>().0.iter_mut();
                for (pair, (&luma, (&u, &v))) in pairs.zip(luma.iter().zip(us.iter().zip(vs))) {
                    *pair = two_pixels(matrix, luma, u, v);
                }
            }
        }
    }
}

#[inline(always)]
fn two_pixels(matrix: &Matrix, luma: [u8; 2], u: u8, v: u8) -> [u8; 6] {
    let chroma = matrix.chroma(u, v);
    let [r0, g0, b0] = matrix.pixel(luma[0], chroma);
    let [r1, g1, b1] = matrix.pixel(luma[1], chroma);
    [r0, g0, b0, r1, g1, b1]
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
            let matrix = Matrix::of(range);
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
                        let ours = matrix.pixel(y, matrix.chroma(u, v));
                        for (real, ours) in real.into_iter().zip(ours) {
                            let real = real.clamp(0.0, 255.0);
                            assert!(
                                (real - f64::from(ours)).abs() <= 0.52,
                                "{y} {u} {v}: {real} {ours}"
                            );
                        }
                    }
                }
            }
        }
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
