//! The bytes of a camera as a picture.

use super::device::{Layout, Shot};
use super::huffman;
use super::mode::Encoding;
use crate::source::{Picture, PixelFormat, jpeg};

/// The picture of a shot: MJPEG is decoded, at a reduced scale where that is still as large as `wish`; padding at the
/// ends of rows is removed. An error, in words, if the shot is damaged or cut short.
pub(super) fn picture(shot: Shot, name: &str, wish: [usize; 2]) -> Result<Picture, String> {
    let Shot { layout, data, .. } = shot;
    let Some(format) = layout.encoding.pixels() else {
        let data = huffman::with_tables(data);
        return jpeg::decode(&data, name, Some(wish)).map_err(|error| error.to_string());
    };
    Ok(Picture {
        width: layout.width,
        height: layout.height,
        format,
        range: layout.range,
        data: without_padding(layout, format, data)?,
    })
}

fn without_padding(
    layout: Layout,
    format: PixelFormat,
    mut data: Vec<u8>,
) -> Result<Vec<u8>, String> {
    let (row, rows) = match layout.encoding {
        Encoding::Yuyv => (layout.width * 2, layout.height),
        Encoding::Nv12 => (layout.width, layout.height * 3 / 2),
        Encoding::Grey | Encoding::Mjpeg => (layout.width, layout.height),
    };
    let stride = layout.stride.max(row);
    let needed = stride * rows.saturating_sub(1) + row;
    if data.len() < needed {
        return Err(format!(
            "a picture ends after {} of {needed} bytes",
            data.len()
        ));
    }
    if stride > row {
        for index in 1..rows {
            data.copy_within(index * stride..index * stride + row, index * row);
        }
    }
    data.truncate(format.frame_bytes(layout.width, layout.height));
    Ok(data)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::source::YuvRange;

    const WISH: [usize; 2] = [32, 16];

    fn shot(encoding: Encoding, size: [usize; 2], stride: usize, data: Vec<u8>) -> Shot {
        let layout = Layout {
            encoding,
            width: size[0],
            height: size[1],
            stride,
            range: YuvRange::Full,
        };
        Shot::aged(layout, data, Duration::ZERO)
    }

    #[test]
    fn rows_lose_their_padding_and_nothing_else() {
        let bytes: Vec<u8> = (0..24).collect();
        let found = picture(shot(Encoding::Grey, [3, 2], 8, bytes.clone()), "x", WISH).unwrap();
        assert_eq!(
            (found.data, found.format),
            (vec![0, 1, 2, 8, 9, 10], PixelFormat::Grey)
        );
        let found = picture(shot(Encoding::Yuyv, [2, 2], 6, bytes.clone()), "x", WISH).unwrap();
        assert_eq!(found.data, [0, 1, 2, 3, 6, 7, 8, 9]);
        let found = picture(shot(Encoding::Nv12, [2, 2], 8, bytes.clone()), "x", WISH).unwrap();
        assert_eq!(found.data, [0, 1, 8, 9, 16, 17]);
        assert_eq!(found.range, YuvRange::Full);
        let found = picture(shot(Encoding::Nv12, [4, 4], 4, bytes.clone()), "x", WISH).unwrap();
        assert_eq!(found.data, bytes);
    }

    #[test]
    fn a_stride_that_cannot_be_is_that_of_full_rows() {
        let bytes: Vec<u8> = (0..9).collect();
        let found = picture(shot(Encoding::Grey, [3, 2], 0, bytes), "x", WISH).unwrap();
        assert_eq!(found.data, [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_picture_cut_short_is_told() {
        let error = picture(shot(Encoding::Yuyv, [4, 2], 8, vec![0; 15]), "x", WISH).unwrap_err();
        assert!(error.contains("15 of 16 bytes"), "{error}");
        let error = picture(
            shot(Encoding::Mjpeg, [4, 2], 0, vec![0xFF, 0xD8]),
            "x",
            WISH,
        )
        .unwrap_err();
        assert!(error.contains("decoded"), "{error}");
    }

    /// Of a red picture, with rubbish behind the end as V4L2 buffers hold it.
    fn jpeg() -> Vec<u8> {
        let mut bytes = Vec::new();
        let red = image::RgbImage::from_pixel(32, 16, image::Rgb([220, 20, 20]));
        let mut writer = std::io::Cursor::new(&mut bytes);
        red.write_to(&mut writer, image::ImageFormat::Jpeg).unwrap();
        bytes.extend([0xAA; 500]);
        bytes
    }

    fn assert_is_red(bytes: Vec<u8>) {
        let found = picture(shot(Encoding::Mjpeg, [32, 16], 0, bytes), "x", WISH).unwrap();
        assert_eq!((found.width, found.height), (32, 16));
        assert!(found.data[0] > 200 && found.data[1] < 50);
    }

    #[test]
    fn motion_jpeg_is_decoded_with_rubbish_behind_it() {
        assert_is_red(jpeg());
    }

    #[test]
    fn motion_jpeg_is_decoded_no_larger_than_it_must_be() {
        let shot = shot(Encoding::Mjpeg, [32, 16], 0, jpeg());
        let found = picture(shot, "x", [10, 8]).unwrap();
        assert_eq!((found.width, found.height), (16, 8));
        assert!(found.data[0] > 200 && found.data[1] < 50);
    }

    /// Many cameras leave out the Huffman tables, which are those of the standard's annex K.
    #[test]
    fn motion_jpeg_without_huffman_tables_is_decoded() {
        let mut bytes = jpeg();
        let mut at = 2;
        while bytes[at + 1] != 0xDA {
            let length = 2 + usize::from(u16::from_be_bytes([bytes[at + 2], bytes[at + 3]]));
            match bytes[at + 1] {
                0xC4 => drop(bytes.drain(at..at + length)),
                _ => at += length,
            }
        }
        assert!(!bytes[..at].windows(2).any(|pair| pair == [0xFF, 0xC4]));
        assert_is_red(bytes);
    }
}
