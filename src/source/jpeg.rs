//! JPEG frames, decoded at a reduced scale where less is wanted than they hold.

use std::panic::catch_unwind;

use jpeg_decoder::{Decoder, PixelFormat as Components};

use super::{Picture, PixelFormat, YuvRange, files, is_sane_size};
use crate::error::Result;

/// Decodes a frame: whole, or with `least` at the smallest of 1/2, 1/4 and 1/8 of its size that is as wide and as high as
/// that, if one is. `name` is for messages.
pub(super) fn decode(bytes: &[u8], name: &str, least: Option<[usize; 2]>) -> Result<Picture> {
    // A panic of the library is as good as its error: the decoder of whole pictures has the last word.
    let reduced = |least| catch_unwind(|| reduced(bytes, least)).ok().flatten();
    match least.and_then(reduced) {
        Some(picture) => Ok(picture),
        None => files::decode_jpeg(bytes, name),
    }
}

/// `None` if no reduced scale is large enough, or the frame has to be looked at by the decoder of whole pictures: it is
/// damaged, may be turned (EXIF), or has other colours than grey and YCbCr.
fn reduced(bytes: &[u8], least: [usize; 2]) -> Option<Picture> {
    let mut decoder = Decoder::new(bytes);
    decoder.read_info().ok()?;
    let info = decoder.info()?;
    let size = [info.width, info.height].map(usize::from);
    let format = match info.pixel_format {
        Components::L8 => PixelFormat::Grey,
        Components::RGB24 => PixelFormat::Rgb,
        Components::L16 | Components::CMYK32 => return None,
    };
    if decoder.exif_data().is_some() || !is_sane_size(size[0], size[1]) {
        return None;
    }
    let [width, height] = reduced_size(size, least)?.map(|side| u16::try_from(side).ok());
    let (width, height) = decoder.scale(width?, height?).ok()?;
    let data = decoder.decode().ok()?;
    let [width, height] = [width, height].map(usize::from);
    (data.len() == format.frame_bytes(width, height)).then_some(Picture {
        width,
        height,
        format,
        range: YuvRange::Full,
        data,
    })
}

/// The smallest of 1/8, 1/4 and 1/2 of a size, rounded up, that covers `least`.
fn reduced_size(size: [usize; 2], least: [usize; 2]) -> Option<[usize; 2]> {
    let sizes = [8, 4, 2].map(|divisor| size.map(|side| side.div_ceil(divisor)));
    let covers = |size: &[usize; 2]| size[0] >= least[0] && size[1] >= least[1];
    sizes.into_iter().find(covers)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use image::{ImageFormat, RgbImage};

    use super::*;

    /// Soft colours, which survive coding.
    fn picture(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| {
            let wave = |a: u32, b: u32| (127.0 + 100.0 * ((a + b) as f32 / 23.0).sin()) as u8;
            image::Rgb([wave(x, 0), wave(y, x), wave(0, y)])
        })
    }

    fn jpeg(width: u32, height: u32) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        let picture = picture(width, height);
        picture.write_to(&mut bytes, ImageFormat::Jpeg).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn the_smallest_scale_that_covers_what_is_wanted_is_taken() {
        let hd = [1920, 1080];
        assert_eq!(reduced_size(hd, [640, 480]), Some([960, 540]));
        assert_eq!(reduced_size(hd, [300, 300]), Some([960, 540]));
        assert_eq!(reduced_size(hd, [300, 200]), Some([480, 270]));
        assert_eq!(reduced_size(hd, [1, 1]), Some([240, 135]));
        assert_eq!(reduced_size(hd, [961, 1]), None);
        assert_eq!(reduced_size([7, 7], [1, 1]), Some([1, 1]));
    }

    #[test]
    fn a_reduced_frame_is_the_mean_of_its_pixels() {
        let bytes = jpeg(160, 128);
        let whole = picture(160, 128);
        for divisor in [2, 4, 8] {
            let [width, height] = [160 / divisor, 128 / divisor];
            let least = [width, height].map(|side| side as usize);
            let found = decode(&bytes, "x", Some(least)).unwrap();
            assert_eq!([found.width, found.height], least);
            assert_eq!(found.format, PixelFormat::Rgb);
            let wanted = image::imageops::thumbnail(&whole, width, height);
            let differences = found.data.iter().zip(wanted.iter());
            let sum: u32 = differences.map(|(a, b)| u32::from(a.abs_diff(*b))).sum();
            assert!(sum / (width * height * 3) < 6, "1/{divisor}: {sum}");
        }
        let odd = decode(&jpeg(161, 122), "x", Some([20, 15])).unwrap();
        assert_eq!([odd.width, odd.height], [21, 16]);
    }

    #[test]
    fn frames_that_are_wanted_whole_are_decoded_whole() {
        let bytes = jpeg(64, 48);
        for least in [None, Some([64, 48]), Some([33, 1]), Some([640, 480])] {
            let found = decode(&bytes, "x", least).unwrap();
            assert_eq!([found.width, found.height], [64, 48], "{least:?}");
        }
        let mut grey = Cursor::new(Vec::new());
        let luma = image::DynamicImage::from(picture(64, 48)).into_luma8();
        luma.write_to(&mut grey, ImageFormat::Jpeg).unwrap();
        let found = decode(&grey.into_inner(), "x", Some([16, 12])).unwrap();
        assert_eq!([found.width, found.height], [16, 12]);
        assert_eq!(found.format, PixelFormat::Grey);
    }

    #[test]
    fn damaged_frames_give_a_picture_or_an_error() {
        let whole = jpeg(64, 48);
        let mut state = 1u32;
        let mut random = |below: usize| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state as usize / 65_536 % below
        };
        for _ in 0..2000 {
            let mut bytes = whole.clone();
            for _ in 0..1 + random(4) {
                let at = random(bytes.len());
                bytes[at] = random(256) as u8;
            }
            bytes.truncate(bytes.len() - random(2) * random(bytes.len()));
            if let Ok(found) = decode(&bytes, "x", Some([8, 6])) {
                let length = found.format.frame_bytes(found.width, found.height);
                assert_eq!(found.data.len(), length);
            }
        }
        assert!(decode(b"\xFF\xD8", "x", Some([1, 1])).is_err());
    }
}
