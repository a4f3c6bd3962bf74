//! Pooling and means.

use crate::kernels::requant::{OutputStage, round_half_even};

/// Geometry of a pooling over one `[height][width][channels]` picture.
#[derive(Clone, Copy, Debug)]
pub struct Pool {
    pub input: [usize; 2],
    pub channels: usize,
    pub window: [usize; 2],
    pub stride: [usize; 2],
    /// Rows above and columns to the left of the picture.
    pub padding: [usize; 2],
    /// Width of the output.
    pub out_width: usize,
}

impl Pool {
    /// The part of the window of output pixel `at` that lies inside the picture, along one axis.
    fn span(&self, axis: usize, at: usize) -> std::ops::Range<usize> {
        let first = (at * self.stride[axis]) as isize - self.padding[axis] as isize;
        let end = first + self.window[axis] as isize;
        let limit = self.input[axis] as isize;
        first.clamp(0, limit) as usize..end.clamp(0, limit) as usize
    }

    pub(super) fn pixels(&self, at: usize) -> impl Iterator<Item = usize> {
        let (y, x) = (at / self.out_width, at % self.out_width);
        let (rows, columns) = (self.span(0, y), self.span(1, x));
        let width = self.input[1];
        rows.flat_map(move |row| columns.clone().map(move |column| row * width + column))
    }
}

/// The largest code in each window, clamped to the stage's bounds. The scale of input and output is the same.
pub fn max_pool(pool: &Pool, input: &[i8], out: &mut [i8], stage: OutputStage) {
    for (at, out) in out.chunks_exact_mut(pool.channels).enumerate() {
        out.fill(i8::MIN);
        for pixel in pool.pixels(at) {
            let codes = &input[pixel * pool.channels..][..pool.channels];
            for (out, &code) in out.iter_mut().zip(codes) {
                *out = (*out).max(code);
            }
        }
        for out in out {
            *out = (*out).clamp(stage.min, stage.max);
        }
    }
}

/// The mean code of each window over the pixels inside the picture, rounded half away from zero, clamped to the
/// stage's bounds: TFLite's integer average pool. The scale of input and output is the same. `sums` is `channels` long.
///
/// `code_offset` is what the model adds to our codes: 128 in a uint8 model, whose halves round up, else 0.
pub fn average_pool(
    pool: &Pool,
    input: &[i8],
    out: &mut [i8],
    sums: &mut [i32],
    code_offset: i32,
    stage: OutputStage,
) {
    for (at, out) in out.chunks_exact_mut(pool.channels).enumerate() {
        sums.fill(0);
        let mut count = 0;
        for pixel in pool.pixels(at) {
            let codes = &input[pixel * pool.channels..][..pool.channels];
            add_codes(sums, codes);
            count += 1;
        }
        let count = count.max(1);
        for (out, &sum) in out.iter_mut().zip(&*sums) {
            let sum = sum + count * code_offset;
            let half = if sum > 0 { count / 2 } else { -(count / 2) };
            let mean = (sum + half) / count - code_offset;
            *out = mean.clamp(i32::from(stage.min), i32::from(stage.max)) as i8;
        }
    }
}

#[inline]
fn add_codes(sums: &mut [i32], codes: &[i8]) {
    for (sum, &code) in sums.iter_mut().zip(codes) {
        *sum += i32::from(code);
    }
}

/// Parameters of a mean.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MeanParams {
    /// Of the input.
    pub zero_point: i32,
    /// `input scale / output scale / rows`
    pub scale: f32,
    pub stage: OutputStage,
}

/// The mean over all rows of `[rows][channels]`: `(sum - rows * zero_point) * scale + output zero point` in f32, then
/// rounded, halves to even. XNNPACK adds the zero point before it rounds here, unlike everywhere else.
#[inline]
pub fn mean_rows(params: &MeanParams, input: &[i8], out: &mut [i8], sums: &mut [i32]) {
    let MeanParams {
        zero_point,
        scale,
        stage,
    } = *params;
    let channels = out.len();
    let rows = (input.len() / channels) as i32;
    sums.fill(-rows * zero_point);
    for codes in input.chunks_exact(channels) {
        add_codes(sums, codes);
    }
    for (out, &sum) in out.iter_mut().zip(&*sums) {
        let code = sum as f32 * scale + stage.zero_point as f32;
        let clamped = code.clamp(f32::from(stage.min), f32::from(stage.max));
        *out = round_half_even(clamped) as i8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POOL: Pool = Pool {
        input: [3, 3],
        channels: 1,
        window: [2, 2],
        stride: [2, 2],
        padding: [0, 0],
        out_width: 2,
    };

    #[test]
    fn windows_end_at_the_edge_of_the_picture() {
        let input = [1i8, 2, 3, 4, 5, 6, 7, 8, -9];
        let mut out = [0; 4];
        max_pool(&POOL, &input, &mut out, OutputStage::full_range(0));
        assert_eq!(out, [5, 6, 8, -9]);
        let stage = OutputStage::full_range(0);
        average_pool(&POOL, &input, &mut out, &mut [0], 0, stage);
        assert_eq!(out, [3, 5, 8, -9]);
        average_pool(
            &POOL,
            &[-1, -2, 0, -2, -1, 0, 0, 0, 0],
            &mut out,
            &mut [0],
            0,
            stage,
        );
        assert_eq!(out[0], -2, "-1.5 away from zero");
        average_pool(
            &POOL,
            &[-1, -2, 0, -2, -1, 0, 0, 0, 0],
            &mut out,
            &mut [0],
            128,
            stage,
        );
        assert_eq!(out[0], -1, "126.5 + 0.5 - 128");
    }

    #[test]
    fn the_mean_rescales() {
        let mut out = [0; 2];
        let input = [10, 20, 11, 20, 12, 23];
        let stage = OutputStage::full_range(-1);
        let params = MeanParams {
            zero_point: 1,
            scale: 2.0 / 3.0,
            stage,
        };
        mean_rows(&params, &input, &mut out, &mut [0, 0]);
        assert_eq!(out, [19, 39]);
    }
}
