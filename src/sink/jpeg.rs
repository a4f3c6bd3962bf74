//! Annotated pictures as JPEG, for the live page and for snapshots.

use jpeg_encoder::{ColorType, Encoder};

use super::{Scene, draw};
use crate::error::{Error, Result};

const QUALITY: u8 = 80;

/// The picture of a scene with its boxes drawn. An error if a side is above 65535 pixels, which JPEG cannot hold.
pub fn annotated(scene: &Scene) -> Result<Vec<u8>> {
    let mut picture = draw::frame_to_rgb(&scene.frame);
    draw::annotate(&mut picture, &scene.detections);
    draw::annotate_classes(&mut picture, &scene.classes);
    let (Ok(width), Ok(height)) = (
        u16::try_from(picture.width()),
        u16::try_from(picture.height()),
    ) else {
        return Err(Error::Data {
            file: scene.frame.source.to_string(),
            reason: format!(
                "{}x{} is too large for JPEG",
                picture.width(),
                picture.height()
            ),
        });
    };
    let mut bytes = Vec::with_capacity(picture.as_raw().len() / 8);
    Encoder::new(&mut bytes, QUALITY)
        .encode(picture.as_raw(), width, height, ColorType::Rgb)
        .map_err(|error| Error::Internal(format!("JPEG encoder: {error}")))?;
    Ok(bytes)
}
