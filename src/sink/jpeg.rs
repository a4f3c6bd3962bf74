//! Pictures as JPEG: annotated for the live page and for snapshots, plain for data sets.

use image::RgbImage;
use jpeg_encoder::{ColorType, Encoder};

use super::{Scene, draw};
use crate::error::{Error, Result};
use crate::source::Frame;

const QUALITY: u8 = 80;
/// Of pictures to learn from, in which the traces of compression should not matter.
const PLAIN_QUALITY: u8 = 95;

/// The picture of a scene with its zones and boxes drawn. An error if a side is above 65535 pixels, which JPEG cannot hold.
pub fn annotated(scene: &Scene) -> Result<Vec<u8>> {
    let mut picture = draw::frame_to_rgb(&scene.frame);
    draw::outline(&mut picture, &scene.zones);
    draw::annotate(&mut picture, &scene.detections);
    draw::annotate_classes(&mut picture, &scene.classes);
    encode(&picture, QUALITY, &scene.frame.source)
}

/// The picture of a frame as it is, in high quality. An error if a side is above 65535 pixels.
pub fn plain(frame: &Frame) -> Result<Vec<u8>> {
    encode(&draw::frame_to_rgb(frame), PLAIN_QUALITY, &frame.source)
}

fn encode(picture: &RgbImage, quality: u8, source: &str) -> Result<Vec<u8>> {
    let (width, height) = picture.dimensions();
    let (Ok(short_width), Ok(short_height)) = (u16::try_from(width), u16::try_from(height)) else {
        return Err(Error::Data {
            file: source.into(),
            reason: format!("{width}x{height} is too large for JPEG"),
        });
    };
    let mut bytes = Vec::with_capacity(picture.as_raw().len() / 8);
    Encoder::new(&mut bytes, quality)
        .encode(picture.as_raw(), short_width, short_height, ColorType::Rgb)
        .map_err(|error| Error::Internal(format!("JPEG encoder: {error}")))?;
    Ok(bytes)
}
