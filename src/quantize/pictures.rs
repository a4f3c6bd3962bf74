//! The pictures that a model is calibrated and judged on.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::codes::{Activations, to_codes};
use super::histogram::Range;
use super::{Progress, share};
use crate::detect::{Fit, Preprocessor};
use crate::error::{Error, Result};
use crate::model::Normalization;
use crate::source::{Frame, FrameSource, Next, PixelFormat, YuvRange};
use crate::tensor::{DType, QuantParams, TensorData, TensorInfo, TensorView};

/// What a range is multiplied by so that as many steps of bytes become one less of codes.
const WIDENED: f32 = 128.0 / 127.0;

/// How long a source may be without a signal.
const PATIENCE: Duration = Duration::from_secs(15);

/// Pictures at the size of a model's input, as bytes.
#[derive(Clone, Debug)]
pub struct Pictures {
    frames: Vec<Frame>,
    /// Real value of each byte, by channel.
    tables: Vec<[f32; 256]>,
    normalization: Normalization,
    threads: NonZeroUsize,
}

impl Pictures {
    /// Takes at most `count` pictures from a source and resizes them to a model's real input, as it is done when the
    /// model runs. Finite sources that cannot be played again give their first pictures.
    ///
    /// # Errors
    /// The input is not a picture, the source fails, is without a signal, or gives no picture.
    pub fn collect(
        source: &mut dyn FrameSource,
        input: &TensorInfo,
        normalization: &Normalization,
        count: usize,
        model: &str,
        progress: &mut Progress<'_>,
    ) -> Result<Self> {
        let bytes = TensorInfo {
            dtype: DType::U8,
            quant: Some(QuantParams::per_tensor(1.0, 0)),
            ..input.clone()
        };
        // Checks the normalization as the finished model's loader does.
        Preprocessor::new(input, Some(normalization), Fit::Stretch, model)?;
        let mut preprocessor = Preprocessor::new(&bytes, None, Fit::Stretch, model)?;
        let [width, height] = preprocessor.input_size();
        let channels = input.shape.channels();
        let mut frames = Vec::new();
        let mut last = Instant::now();
        while frames.len() < count {
            let frame = match source.next()? {
                Next::Frame(frame) => frame,
                Next::End => break,
                Next::NoSignal(reason) if last.elapsed() > PATIENCE => {
                    return Err(Error::Source {
                        source_name: source.name().into(),
                        reason: format!("no pictures to calibrate with: {reason}"),
                    });
                }
                Next::NoSignal(_) => continue,
            };
            last = Instant::now();
            if let TensorView::U8(data) = preprocessor.run(&frame) {
                frames.push(Frame {
                    width,
                    height,
                    format: if channels == 1 {
                        PixelFormat::Grey
                    } else {
                        PixelFormat::Rgb
                    },
                    range: YuvRange::Full,
                    data: data.to_vec(),
                    ..frame
                });
            }
            progress.step("reading pictures", frames.len(), count);
        }
        if frames.is_empty() {
            return Err(Error::Source {
                source_name: source.name().into(),
                reason: "it gave no pictures to calibrate with".into(),
            });
        }
        Ok(Self {
            frames,
            tables: tables(normalization, channels),
            normalization: normalization.clone(),
            threads: share::default_threads(),
        })
    }

    /// Shares the pictures out among this many threads; the CPU's cores, at most 4, unless told. What comes of them
    /// is the same with any number.
    #[must_use]
    pub fn with_threads(self, threads: NonZeroUsize) -> Self {
        Self { threads, ..self }
    }

    /// How many threads the pictures are shared out among.
    pub fn threads(&self) -> NonZeroUsize {
        self.threads
    }

    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Never, once collected.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// What messages call a picture.
    pub fn name(&self, index: usize) -> Arc<str> {
        self.frames[index].source.clone()
    }

    /// The picture, at the size of the model's input.
    pub fn frame(&self, index: usize) -> &Frame {
        &self.frames[index]
    }

    /// How bytes become real values.
    pub fn normalization(&self) -> &Normalization {
        &self.normalization
    }

    /// The model's real input for a picture.
    pub fn input(&self, index: usize) -> TensorData {
        let real =
            |(at, &byte): (usize, &u8)| self.tables[at % self.tables.len()][usize::from(byte)];
        let bytes = self.frames[index].data.iter().enumerate();
        TensorData::F32(bytes.map(real).collect())
    }

    /// The real values that bytes become.
    pub fn range(&self) -> Range {
        let ranges = self.tables.iter().map(|table| Range::of(table));
        ranges.fold(Range::default(), Range::union)
    }

    /// The range of 8-bit codes for the model's real input: that of the bytes, or a little more where the bytes lie
    /// midway between two codes of that, as with a mean of 127.5; rounding would cost each of them half a code there.
    pub fn input_range(&self) -> Range {
        let exact = self.range();
        let wide = Range {
            min: exact.min * WIDENED,
            max: exact.max * WIDENED,
        };
        let error = |range: Range| -> f64 {
            let quant = Activations::Int8.spread(range);
            let bytes = self.tables.iter().flatten();
            let errors = bytes.map(|&real| {
                let code = to_codes(&[real], &quant, Activations::Int8.codes())[0];
                let coded = (code - quant.zero_point()) as f32 * quant.scale();
                f64::from(real - coded).powi(2)
            });
            errors.sum()
        };
        match error(wide) < error(exact) {
            true => wide,
            false => exact,
        }
    }

    /// By channel, how much more the codes of an 8-bit input stand for than the pictures' bytes mean, on average over all
    /// bytes. The bytes are the codes where they are at most one apart (as [`Preprocessor`] has it, and programs that
    /// know no normalization), yet a mean between two bytes, such as 127.5, is no zero point. Else 0.
    pub fn input_shift(&self) -> Vec<f32> {
        let quant = Activations::Int8.spread(self.range());
        let (scale, zero) = (quant.scale(), quant.zero_point() + 128);
        let shift = |table: &[f32; 256]| {
            let stands_for = |byte: i32| scale * (byte - zero) as f32;
            let errors = (0..256)
                .zip(table)
                .map(|(byte, real)| stands_for(byte) - real);
            let is_near = errors.clone().all(|error| error.abs() <= 1.5 * scale);
            if is_near {
                errors.sum::<f32>() / 256.0
            } else {
                0.0
            }
        };
        self.tables.iter().map(shift).collect()
    }

    /// Positions spread evenly over all, at most `count` and at least one.
    pub fn spread(&self, count: usize) -> impl Iterator<Item = usize> {
        let (count, all) = (count.clamp(1, self.len()), self.len());
        (0..count).map(move |at| at * all / count)
    }

    /// Pictures spread evenly over all, at most `count`.
    pub fn sample(&self, count: usize) -> Self {
        let chosen = self.spread(count);
        Self {
            frames: chosen.map(|index| self.frames[index].clone()).collect(),
            tables: self.tables.clone(),
            normalization: self.normalization.clone(),
            threads: self.threads,
        }
    }
}

/// `(byte - mean) / std` for each byte and channel.
fn tables(normalization: &Normalization, channels: usize) -> Vec<[f32; 256]> {
    let Normalization { mean, std } = normalization;
    let table = |channel: usize| {
        let (mean, std) = (mean[channel % mean.len()], std[channel % std.len()]);
        std::array::from_fn(|byte| (byte as f32 - mean) / std)
    };
    (0..channels).map(table).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pictures(mean: &[f32], std: &[f32]) -> Pictures {
        let normalization = Normalization {
            mean: mean.to_vec(),
            std: std.to_vec(),
        };
        Pictures {
            frames: Vec::new(),
            tables: tables(&normalization, 3),
            normalization,
            threads: NonZeroUsize::MIN,
        }
    }

    #[test]
    fn bytes_midway_between_codes_get_a_wider_range() {
        let midway = pictures(&[127.5], &[127.5]);
        assert_eq!(midway.input_range().max, WIDENED);
        for (mean, std) in [(0.0, 255.0), (127.0, 128.0), (0.0, 1.0)] {
            let exact = pictures(&[mean], &[std]);
            assert_eq!(exact.input_range(), exact.range(), "{mean} {std}");
        }
    }

    #[test]
    fn a_mean_between_two_bytes_shifts_the_codes() {
        let near = |mean: &[f32], std: &[f32], expected: f32| {
            let found = pictures(mean, std).input_shift();
            assert!(
                found.iter().all(|shift| (shift - expected).abs() < 1e-5),
                "{found:?}"
            );
        };
        near(&[127.5], &[127.5], 0.5 / 127.5);
        near(&[127.0], &[128.0], 0.0);
        near(&[0.0], &[255.0], 0.0);
        // These bytes go through a table.
        near(&[123.7, 116.3, 103.5], &[58.4, 57.1, 57.4], 0.0);
    }
}
