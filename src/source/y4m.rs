//! YUV4MPEG2 streams (the header that mjpegtools and ffmpeg write): 8-bit 4:2:0 and mono.

use std::io::{BufRead, Read};

use super::{Picture, PixelFormat, YuvRange, is_sane_size, source_error};
use crate::error::{Error, Result};

/// The first bytes of every stream.
pub(super) const MAGIC: &[u8] = b"YUV4MPEG2";

/// Longest header line accepted.
const MAX_LINE: u64 = 1024;

/// A stream whose header has been read.
pub(super) struct Y4m<R> {
    reader: R,
    name: String,
    width: usize,
    height: usize,
    mono: bool,
    range: YuvRange,
    /// Frames a second by the header; `None` if it does not say.
    pub(super) rate: Option<f64>,
}

impl<R: BufRead> Y4m<R> {
    /// Reads the header. Sizes are bounded before anything is allocated.
    pub(super) fn new(mut reader: R, name: &str) -> Result<Self> {
        let line = read_line(&mut reader, name)?.unwrap_or_default();
        let mut fields = line.split_ascii_whitespace();
        if fields.next().map(str::as_bytes) != Some(MAGIC) {
            return Err(source_error(name, "not a YUV4MPEG2 stream"));
        }
        let mut stream = Self {
            reader,
            name: name.into(),
            width: 0,
            height: 0,
            mono: false,
            range: YuvRange::Limited,
            rate: None,
        };
        for field in fields {
            stream.read_field(field)?;
        }
        if !is_sane_size(stream.width, stream.height) || stream.width < 2 || stream.height < 2 {
            let reason = format!("a Y4M header of size {}x{}", stream.width, stream.height);
            return Err(source_error(name, reason));
        }
        Ok(stream)
    }

    fn read_field(&mut self, field: &str) -> Result<()> {
        let Some((key, value)) = field.split_at_checked(1) else {
            return Ok(());
        };
        match key {
            "W" => self.width = value.parse().unwrap_or(0),
            "H" => self.height = value.parse().unwrap_or(0),
            "F" => self.rate = parse_rate(value),
            "C" => match value {
                "420" | "420jpeg" | "420mpeg2" | "420paldv" => self.mono = false,
                "mono" => self.mono = true,
                other => {
                    return Err(source_error(
                        &self.name,
                        format!(
                            "Y4M chroma format {other} is not supported, only 8-bit 4:2:0 and mono; \
                             convert it with `ffmpeg -i IN -pix_fmt yuv420p OUT.y4m`"
                        ),
                    ));
                }
            },
            "X" if value == "COLORRANGE=FULL" => self.range = YuvRange::Full,
            _ => {}
        }
        Ok(())
    }

    /// The next picture; `None` at the end. An odd last column or row is cut off. A frame that is cut short is an error.
    pub(super) fn next(&mut self) -> Result<Option<Picture>> {
        let Some(line) = read_line(&mut self.reader, &self.name)? else {
            return Ok(None);
        };
        if line != "FRAME" && !line.starts_with("FRAME ") {
            return Err(source_error(
                &self.name,
                "a Y4M frame does not begin with FRAME; the stream is damaged",
            ));
        }
        let (width, height) = (self.width, self.height);
        let (even_width, even_height) = (width & !1, height & !1);
        let mut data = Vec::new();
        let format = if self.mono {
            self.read_plane(&mut data, [width, height], [width, height])?;
            return Ok(Some(self.picture(width, height, PixelFormat::Grey, data)));
        } else {
            PixelFormat::I420
        };
        data.reserve_exact(format.frame_bytes(even_width, even_height));
        self.read_plane(&mut data, [width, height], [even_width, even_height])?;
        let chroma = [width.div_ceil(2), height.div_ceil(2)];
        for _ in 0..2 {
            self.read_plane(&mut data, chroma, [even_width / 2, even_height / 2])?;
        }
        Ok(Some(self.picture(even_width, even_height, format, data)))
    }

    fn picture(&self, width: usize, height: usize, format: PixelFormat, data: Vec<u8>) -> Picture {
        Picture {
            width,
            height,
            format,
            range: self.range,
            data,
        }
    }

    /// Appends a plane of size `from`, cut to size `to`.
    fn read_plane(&mut self, data: &mut Vec<u8>, from: [usize; 2], to: [usize; 2]) -> Result<()> {
        let start = data.len();
        let bytes = (from[0] * from[1]) as u64;
        let read = self.reader.by_ref().take(bytes).read_to_end(data);
        let read = read.map_err(Error::io(format!("read {}", self.name)))?;
        if read as u64 != bytes {
            return Err(source_error(&self.name, "the stream ends within a frame"));
        }
        if to[0] < from[0] {
            for row in 0..to[1] {
                let source = start + row * from[0];
                data.copy_within(source..source + to[0], start + row * to[0]);
            }
        }
        data.truncate(start + to[0] * to[1]);
        Ok(())
    }
}

/// `30000:1001` as a number.
fn parse_rate(text: &str) -> Option<f64> {
    let (numerator, denominator) = text.split_once(':')?;
    let rate = numerator.parse::<f64>().ok()? / denominator.parse::<f64>().ok()?;
    (rate.is_finite() && rate > 0.0).then_some(rate)
}

/// One line without its end; `None` at the end of the stream.
fn read_line(reader: &mut impl BufRead, name: &str) -> Result<Option<String>> {
    let mut line = Vec::new();
    let read = reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line);
    read.map_err(Error::io(format!("read {name}")))?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.pop() != Some(b'\n') {
        return Err(source_error(
            name,
            "a Y4M header line without an end; the stream is damaged",
        ));
    }
    String::from_utf8(line).map(Some).map_err(|_| {
        source_error(
            name,
            "a Y4M header line that is not text; the stream is damaged",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8]) -> Result<Vec<Picture>> {
        let mut stream = Y4m::new(bytes, "x.y4m")?;
        let mut pictures = Vec::new();
        while let Some(picture) = stream.next()? {
            pictures.push(picture);
        }
        Ok(pictures)
    }

    #[test]
    fn frames_follow_the_header() {
        let mut bytes = b"YUV4MPEG2 W2 H2 F30000:1001 Ip C420jpeg XCOLORRANGE=FULL\n".to_vec();
        bytes.extend(b"FRAME\n\x01\x02\x03\x04\x05\x06FRAME Ip\n\x11\x12\x13\x14\x15\x16");
        let pictures = all(&bytes).unwrap();
        assert_eq!(pictures.len(), 2);
        assert_eq!(pictures[1].data, [0x11, 0x12, 0x13, 0x14, 0x15, 0x16]);
        assert_eq!(
            (pictures[0].format, pictures[0].range),
            (PixelFormat::I420, YuvRange::Full)
        );
        let rate = Y4m::new(&bytes[..], "x").unwrap().rate.unwrap();
        assert!((rate - 29.97).abs() < 0.001);
    }

    #[test]
    fn odd_edges_are_cut_off() {
        let mut bytes = b"YUV4MPEG2 W3 H3\nFRAME\n".to_vec();
        bytes.extend(1..=9);
        bytes.extend([20, 21, 22, 23, 30, 31, 32, 33]);
        let picture = &all(&bytes).unwrap()[0];
        assert_eq!((picture.width, picture.height), (2, 2));
        assert_eq!(picture.data, [1, 2, 4, 5, 20, 30]);
    }

    #[test]
    fn mono_is_grey() {
        let picture = &all(b"YUV4MPEG2 W3 H2 Cmono\nFRAME\nabcdef").unwrap()[0];
        assert_eq!(
            (picture.format, &picture.data[..]),
            (PixelFormat::Grey, &b"abcdef"[..])
        );
    }

    #[test]
    fn damage_is_an_error_with_its_name() {
        let error = |bytes: &[u8]| all(bytes).unwrap_err().to_string();
        assert!(error(b"YUV4MPEG2 W2 H2 C422\n").contains("422"));
        assert!(error(b"YUV4MPEG2 W2 H2 C420p10\n").contains("420p10"));
        assert!(error(b"YUV4MPEG2 W99999999 H99999999\n").contains("size"));
        assert!(error(b"YUV4MPEG2 W2\n").contains("size"));
        assert!(error(b"YUV4MPEG2 W2 H2\nFRAME\nabc").contains("within a frame"));
        assert!(error(b"YUV4MPEG2 W2 H2\nFRAMED\nabcdef").contains("FRAME"));
        assert!(error(&[b'Y'; 5000]).contains("damaged"));
    }
}
