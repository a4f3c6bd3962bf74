//! The pictures that a model is calibrated and judged on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Progress;
use super::histogram::Range;
use crate::detect::{Fit, Preprocessor};
use crate::error::{Error, Result};
use crate::model::Normalization;
use crate::source::{Frame, FrameSource, Next, PixelFormat, YuvRange};
use crate::tensor::{DType, QuantParams, TensorData, TensorInfo, TensorView};

/// How long a source may be without a signal.
const PATIENCE: Duration = Duration::from_secs(15);

/// Pictures at the size of a model's input, as bytes.
#[derive(Clone, Debug)]
pub struct Pictures {
    frames: Vec<Frame>,
    /// Real value of each byte, by channel.
    tables: Vec<[f32; 256]>,
    normalization: Normalization,
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
        })
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

    /// Pictures spread evenly over all, at most `count`.
    pub fn sample(&self, count: usize) -> Self {
        let count = count.clamp(1, self.len());
        let chosen = (0..count).map(|at| at * self.len() / count);
        Self {
            frames: chosen.map(|index| self.frames[index].clone()).collect(),
            tables: self.tables.clone(),
            normalization: self.normalization.clone(),
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
