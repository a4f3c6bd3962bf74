//! A frame becomes the input tensor of a model, in one pass over the frame: colour conversion, resizing, quantization.

use super::BoundingBox;
use super::resize::Resizer;
use super::simd::RowLoops;
use crate::error::{Error, Result};
use crate::kernels::Kernels;
use crate::model::Normalization;
use crate::source::{Frame, PixelFormat};
use crate::tensor::{DType, TensorInfo, TensorView};

/// How a picture meets a model's input of another aspect ratio.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fit {
    /// Both sides are scaled to the model's; what SSD files are trained with.
    #[default]
    Stretch,
    /// The aspect ratio is kept; grey bars fill the rest on both sides.
    Letterbox,
}

/// The grey of letterbox bars.
const BAR: u8 = 114;

/// Where the picture lies in the model's input, in pixels of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Placement {
    x: usize,
    y: usize,
    width: usize,
    height: usize,
}

impl Placement {
    fn new(fit: Fit, source: [usize; 2], input: [usize; 2]) -> Self {
        let [width, height] = match fit {
            Fit::Stretch => input,
            Fit::Letterbox => {
                let ratio = |axis: usize| input[axis] as f64 / source[axis] as f64;
                let scale = ratio(0).min(ratio(1));
                let fitted = |axis: usize| {
                    let length = (source[axis] as f64 * scale).round() as usize;
                    length.clamp(1, input[axis])
                };
                [fitted(0), fitted(1)]
            }
        };
        Self {
            x: (input[0] - width) / 2,
            y: (input[1] - height) / 2,
            width,
            height,
        }
    }
}

/// The element of the tensor for each pixel value.
type Table<T> = [T; 256];

/// The input tensor with what fills it.
#[derive(Clone, Debug)]
enum Codes {
    U8(ByteCodes),
    /// The codes as bytes.
    I8(ByteCodes),
    /// A table for each channel.
    F32(Vec<Table<f32>>, Vec<f32>),
}

#[derive(Clone, Debug)]
struct ByteCodes {
    /// For each channel; none if the pixel values are the codes, but for `flip`.
    tables: Option<Vec<Table<u8>>>,
    /// XORed to a pixel value without a table: 128 of int8 codes.
    flip: u8,
    data: Vec<u8>,
}

/// The work for frames of one size.
#[derive(Clone, Debug)]
struct Job {
    source: [usize; 2],
    placement: Placement,
    resizer: Resizer,
    /// A row of the target.
    row: Vec<u8>,
}

/// Turns frames into a model's input. Allocates when the frame size changes, else never.
#[derive(Clone, Debug)]
pub struct Preprocessor {
    /// `[width, height]`
    input: [usize; 2],
    channels: usize,
    fit: Fit,
    codes: Codes,
    loops: RowLoops,
    job: Option<Job>,
}

impl Preprocessor {
    /// For an input tensor `[1, height, width, 1 or 3]` of uint8, int8 or float32. Float inputs without
    /// normalization get `(pixel - 127.5) / 127.5`. `model` is for messages.
    pub fn new(
        info: &TensorInfo,
        normalization: Option<&Normalization>,
        fit: Fit,
        model: &str,
    ) -> Result<Self> {
        let Some([1, height @ (1..), width @ (1..), channels @ (1 | 3)]) = info.shape.nhwc() else {
            return Err(Error::Unsupported {
                model: model.into(),
                feature: format!("an input \"{}\" of shape {} for pictures", info.name, info.shape),
                advice: "detection needs one input of shape [1, height, width, 3]; `eyas infer` runs any other".into(),
            });
        };
        if let Some(Normalization { mean, std }) = normalization {
            let fits = |values: &[f32]| values.len() == 1 || values.len() == channels;
            let sound = mean.iter().all(|m| m.is_finite()) && std.iter().all(|s| s.is_normal());
            if !fits(mean) || !fits(std) || !sound {
                return Err(Error::model(
                    model,
                    format!(
                        "the metadata's mean {mean:?} and std {std:?} do not normalize {channels} channels"
                    ),
                ));
            }
        }
        Ok(Self {
            input: [width, height],
            channels,
            fit,
            codes: Codes::new(info, normalization, channels, model)?,
            loops: RowLoops::of(Kernels::best(None)?.isa),
            job: None,
        })
    }

    /// Width and height of the model's input.
    pub fn input_size(&self) -> [usize; 2] {
        self.input
    }

    /// The input tensor for a frame.
    pub fn run(&mut self, frame: &Frame) -> TensorView<'_> {
        self.prepare([frame.width, frame.height]);
        if let Some(job) = &mut self.job {
            job.run(
                frame,
                self.input[0],
                self.channels,
                &self.loops,
                &mut self.codes,
            );
        }
        self.codes.view()
    }

    /// Tables and scratch for frames of a size, kept until the size changes.
    fn prepare(&mut self, source: [usize; 2]) {
        if self.job.as_ref().is_some_and(|job| job.source == source) {
            return;
        }
        let placement = Placement::new(self.fit, source, self.input);
        let target = [placement.width, placement.height];
        self.codes.fill(BAR);
        self.job = Some(Job {
            source,
            placement,
            resizer: Resizer::new(source, target, self.channels),
            row: vec![0; target[0] * self.channels],
        });
    }

    /// A box in parts of the model's input (`ymin, xmin, ymax, xmax`) as pixels of the frame last run, clamped to it.
    /// `None` if it is not finite or has no area.
    pub fn to_source(&self, normalized: [f32; 4]) -> Option<BoundingBox> {
        let Job {
            source, placement, ..
        } = self.job.as_ref()?;
        let axis = |value: f32, axis: usize, offset: usize, length: usize| {
            let pixel = value * self.input[axis] as f32 - offset as f32;
            let limit = source[axis] as f32;
            (pixel * (limit / length as f32)).clamp(0.0, limit)
        };
        let [y_min, x_min, y_max, x_max] = normalized;
        if normalized.iter().any(|value| !value.is_finite()) {
            return None;
        }
        let found = BoundingBox {
            x_min: axis(x_min, 0, placement.x, placement.width),
            y_min: axis(y_min, 1, placement.y, placement.height),
            x_max: axis(x_max, 0, placement.x, placement.width),
            y_max: axis(y_max, 1, placement.y, placement.height),
        };
        (found.x_max > found.x_min && found.y_max > found.y_min).then_some(found)
    }
}

impl Job {
    fn run(
        &mut self,
        frame: &Frame,
        stride: usize,
        channels: usize,
        loops: &RowLoops,
        codes: &mut Codes,
    ) {
        let Self {
            placement,
            resizer,
            row,
            ..
        } = self;
        resizer.run(
            loops,
            |y, pixels| {
                (loops.pixel_row)(frame, y, pixels);
                if channels == 1 && frame.format != PixelFormat::Grey {
                    luma_row(pixels);
                }
            },
            |y, rows, weights| {
                let start = ((placement.y + y) * stride + placement.x) * channels;
                match codes.flipped_bytes() {
                    Some((flip, bytes)) => {
                        let out = &mut bytes[start..][..row.len()];
                        (loops.blend_rows)(rows, weights, flip, out);
                    }
                    None => {
                        (loops.blend_rows)(rows, weights, 0, row);
                        codes.store(start, row);
                    }
                }
            },
        );
    }
}

/// BT.601 luma in 1/65536, rounded, as Pillow's `convert("L")` has it.
fn luma_row(pixels: &mut [[u8; 4]]) {
    for pixel in pixels {
        let [r, g, b, _] = pixel.map(u32::from);
        let sum = r * 19_595 + g * 38_470 + b * 7_471;
        pixel[0] = ((sum + 0x8000) >> 16) as u8;
    }
}

impl Codes {
    fn new(
        info: &TensorInfo,
        normalization: Option<&Normalization>,
        channels: usize,
        model: &str,
    ) -> Result<Self> {
        let elements = info.shape.elements();
        let real = |channel: usize| {
            let (mean, std) = normalization.map_or((127.5, 127.5), |n| {
                (n.mean[channel % n.mean.len()], n.std[channel % n.std.len()])
            });
            std::array::from_fn::<f32, 256, _>(|pixel| (pixel as f32 - mean) / std)
        };
        let identity: Table<u8> = std::array::from_fn(|pixel| pixel as u8);
        let bytes = |lowest: i32| {
            let flip = lowest as u8;
            let quant = info.quant.as_ref().filter(|_| normalization.is_some());
            let tables = quant.map(|quant| {
                let code = |real: f32| {
                    let code = (real / quant.scale()).round() + quant.zero_point() as f32;
                    (code - lowest as f32).clamp(0.0, 255.0) as u8
                };
                let tables = (0..channels).map(|channel| {
                    let table = real(channel).map(code);
                    let pairs = table.iter().zip(&identity);
                    let is_near = pairs.clone().all(|(a, b)| a.abs_diff(*b) <= 1);
                    if is_near { identity } else { table }.map(|code| code ^ flip)
                });
                tables.collect::<Vec<_>>()
            });
            let flipped = identity.map(|pixel| pixel ^ flip);
            let tables = tables.filter(|tables| tables.iter().any(|table| *table != flipped));
            let data = vec![0; elements];
            ByteCodes { tables, flip, data }
        };
        match info.dtype {
            DType::U8 => Ok(Self::U8(bytes(0))),
            DType::I8 => Ok(Self::I8(bytes(-128))),
            DType::F32 => Ok(Self::F32(
                (0..channels).map(real).collect(),
                vec![0.0; elements],
            )),
            DType::I32 => Err(Error::Unsupported {
                model: model.into(),
                feature: format!("the input \"{}\" of int32 for pictures", info.name),
                advice: "convert the model with a uint8, int8 or float32 input; `eyas infer` runs it as it is".into(),
            }),
        }
    }

    /// Gives every element the code of one pixel value.
    fn fill(&mut self, pixel: u8) {
        let len = self.view().len();
        self.store(0, &vec![pixel; len]);
    }

    /// The tensor's bytes and what each pixel value is XORed with, unless it takes a table.
    fn flipped_bytes(&mut self) -> Option<(u8, &mut [u8])> {
        match self {
            Self::U8(codes) | Self::I8(codes) if codes.tables.is_none() => {
                Some((codes.flip, &mut codes.data))
            }
            _ => None,
        }
    }

    /// Codes of `pixels`, channels interleaved, at element `start`.
    fn store(&mut self, start: usize, pixels: &[u8]) {
        match self {
            Self::U8(codes) | Self::I8(codes) => {
                let out = &mut codes.data[start..][..pixels.len()];
                match &codes.tables {
                    Some(tables) => look_up(tables, pixels, out),
                    None => out
                        .iter_mut()
                        .zip(pixels)
                        .for_each(|(o, p)| *o = p ^ codes.flip),
                }
            }
            Self::F32(tables, data) => look_up(tables, pixels, &mut data[start..]),
        }
    }

    fn view(&self) -> TensorView<'_> {
        match self {
            Self::U8(codes) => TensorView::U8(&codes.data),
            Self::I8(codes) => TensorView::I8(bytemuck::cast_slice(&codes.data)),
            Self::F32(_, data) => TensorView::F32(data),
        }
    }
}

fn look_up<T: Copy>(tables: &[Table<T>], pixels: &[u8], out: &mut [T]) {
    match tables {
        [red, green, blue] => {
            let out = out.as_chunks_mut::<3>().0;
            for (out, &[r, g, b]) in out.iter_mut().zip(pixels.as_chunks::<3>().0) {
                *out = [red[r as usize], green[g as usize], blue[b as usize]];
            }
        }
        [table, ..] => {
            for (out, &pixel) in out.iter_mut().zip(pixels) {
                *out = table[pixel as usize];
            }
        }
        [] => {}
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Instant, SystemTime};

    use super::*;
    use crate::source::YuvRange;
    use crate::tensor::{QuantParams, Shape, TensorData};

    fn info(shape: [usize; 4], dtype: DType, quant: Option<(f32, i32)>) -> TensorInfo {
        TensorInfo {
            name: "image".into(),
            shape: Shape::from(shape),
            dtype,
            quant: quant.map(|(scale, zero)| QuantParams::per_tensor(scale, zero)),
        }
    }

    fn frame(width: usize, height: usize, format: PixelFormat, data: Vec<u8>) -> Frame {
        assert_eq!(data.len(), format.frame_bytes(width, height));
        Frame {
            width,
            height,
            format,
            range: YuvRange::Full,
            data,
            index: 0,
            captured: Instant::now(),
            timestamp: SystemTime::now(),
            source: "test".into(),
        }
    }

    fn normalization(mean: f32, std: f32) -> Normalization {
        Normalization {
            mean: vec![mean],
            std: vec![std],
        }
    }

    #[test]
    fn element_types_get_their_own_codes() {
        let picture = frame(1, 1, PixelFormat::Rgb, vec![0, 128, 255]);
        let run = |info: &TensorInfo, norm: Option<Normalization>| {
            let mut pre = Preprocessor::new(info, norm.as_ref(), Fit::Stretch, "m").unwrap();
            pre.run(&picture).to_data()
        };
        let shape = [1, 1, 1, 3];
        let u8s = info(shape, DType::U8, Some((1.0 / 128.0, 128)));
        assert_eq!(run(&u8s, None), TensorData::U8(vec![0, 128, 255]));
        // (pixel - 127.5) / 127.5 over 1/128 is within a code of the pixel: the pixel is the code.
        assert_eq!(
            run(&u8s, Some(normalization(127.5, 127.5))),
            TensorData::U8(vec![0, 128, 255])
        );
        let i8s = info(shape, DType::I8, Some((1.0 / 255.0, -128)));
        assert_eq!(run(&i8s, None), TensorData::I8(vec![-128, 0, 127]));
        // 0, 0.502, 1 over 2/255 from 0: codes 0, 64, 127 (127.5 rounds away from zero to 128, clamped).
        let half = info(shape, DType::I8, Some((2.0 / 255.0, 0)));
        assert_eq!(
            run(&half, Some(normalization(0.0, 255.0))),
            TensorData::I8(vec![0, 64, 127])
        );
        let f32s = info(shape, DType::F32, None);
        assert_eq!(
            run(&f32s, None),
            TensorData::F32(vec![-1.0, 0.5 / 127.5, 1.0])
        );
        let bytes = Normalization {
            mean: vec![0.0, 128.0, 55.0],
            std: vec![1.0, 1.0, 100.0],
        };
        assert_eq!(
            run(&f32s, Some(bytes)),
            TensorData::F32(vec![0.0, 0.0, 2.0])
        );
    }

    #[test]
    fn grey_models_read_luma() {
        let one = info([1, 1, 1, 1], DType::U8, None);
        let mut pre = Preprocessor::new(&one, None, Fit::Stretch, "m").unwrap();
        let red = frame(1, 1, PixelFormat::Rgb, vec![255, 0, 0]);
        assert_eq!(pre.run(&red), TensorView::U8(&[76]));
        let grey = frame(1, 1, PixelFormat::Grey, vec![9]);
        assert_eq!(pre.run(&grey), TensorView::U8(&[9]));
    }

    #[test]
    fn letterbox_keeps_the_shape_and_boxes_come_back() {
        let square = info([1, 4, 4, 1], DType::U8, None);
        let mut pre = Preprocessor::new(&square, None, Fit::Letterbox, "m").unwrap();
        let wide = frame(8, 4, PixelFormat::Grey, vec![200; 32]);
        let mut expected = [BAR; 16];
        expected[4..12].fill(200);
        assert_eq!(pre.run(&wide), TensorView::U8(&expected));
        let found = pre.to_source([0.25, 0.5, 0.75, 1.0]).unwrap();
        assert_eq!(
            [found.x_min, found.y_min, found.x_max, found.y_max],
            [4.0, 0.0, 8.0, 4.0]
        );
        // Wholly inside a bar: no area is left.
        assert_eq!(pre.to_source([0.0, 0.0, 0.2, 1.0]), None);
        // Another size starts afresh.
        let tall = frame(4, 8, PixelFormat::Grey, vec![200; 32]);
        let TensorView::U8(codes) = pre.run(&tall) else {
            panic!()
        };
        assert_eq!(codes[..4], [BAR, 200, 200, BAR]);
    }

    #[test]
    fn boxes_are_clamped_and_bad_ones_dropped() {
        let square = info([1, 10, 10, 3], DType::U8, None);
        let mut pre = Preprocessor::new(&square, None, Fit::Stretch, "m").unwrap();
        pre.run(&frame(20, 40, PixelFormat::Rgb, vec![0; 2400]));
        let found = pre.to_source([-0.5, 0.25, 0.5, 1.5]).unwrap();
        assert_eq!(
            [found.x_min, found.y_min, found.x_max, found.y_max],
            [5.0, 0.0, 20.0, 20.0]
        );
        assert_eq!(pre.to_source([0.5, 0.5, 0.5, 0.6]), None);
        assert_eq!(pre.to_source([0.5, f32::NAN, 0.7, 0.6]), None);
        assert_eq!(pre.to_source([0.6, 0.1, 0.2, 0.6]), None);
    }

    #[test]
    fn inputs_that_are_no_pictures_are_refused_by_name() {
        for bad in [
            info([1, 4, 4, 2], DType::U8, None),
            info([2, 4, 4, 3], DType::U8, None),
            info([1, 4, 4, 3], DType::I32, None),
        ] {
            let error = Preprocessor::new(&bad, None, Fit::Stretch, "m.tflite")
                .unwrap_err()
                .to_string();
            assert!(
                error.contains("m.tflite")
                    && error.contains("image")
                    && error.contains("eyas infer"),
                "{error}"
            );
        }
        let one = info([1, 1, 1, 3], DType::F32, None);
        let bad = Normalization {
            mean: vec![1.0],
            std: vec![0.0],
        };
        assert!(Preprocessor::new(&one, Some(&bad), Fit::Stretch, "m").is_err());
    }
}
