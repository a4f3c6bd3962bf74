//! Motion JPEG: pictures one after another, with or without anything between them (MIME headers of an HTTP stream).

use std::io::BufRead;

use crate::error::{Error, Result};

/// The largest JPEG accepted; what grows beyond it is skipped.
const MAX_JPEG: usize = 16 << 20;

/// Most bytes skipped in search of the first picture before the stream is called something else.
const MAX_PREFACE: usize = 1 << 20;

/// Marker codes of ITU-T T.81, table B.1.
mod marker {
    pub const TEM: u8 = 0x01;
    pub const RST0: u8 = 0xD0;
    pub const RST7: u8 = 0xD7;
    pub const SOI: u8 = 0xD8;
    pub const EOI: u8 = 0xD9;
    pub const SOS: u8 = 0xDA;
}

/// Cuts a stream into JPEGs by walking their markers, so that a thumbnail inside a picture does not end it.
pub(super) struct Mjpeg<R> {
    reader: R,
    name: String,
    /// Whether a picture has been found yet.
    found: bool,
}

/// How the walk through one picture ended.
enum Walk {
    Complete,
    /// Not a JPEG after all, or too large: search on.
    Damaged,
    /// The stream began another picture within this one.
    Restarted,
    EndOfStream,
}

impl<R: BufRead> Mjpeg<R> {
    pub(super) fn new(reader: R, name: &str) -> Self {
        Self {
            reader,
            name: name.into(),
            found: false,
        }
    }

    /// The bytes of the next whole picture; `None` at the end, where a picture cut short is dropped. Damaged ones are
    /// skipped. An error if the stream holds no JPEG at all.
    pub(super) fn next(&mut self) -> Result<Option<Vec<u8>>> {
        let mut restarted = false;
        loop {
            if !restarted && !self.find_start()? {
                return Ok(None);
            }
            let mut jpeg = vec![0xFF, marker::SOI];
            match self.walk(&mut jpeg)? {
                Walk::Complete => return Ok(Some(jpeg)),
                Walk::EndOfStream => return Ok(None),
                Walk::Damaged => restarted = false,
                Walk::Restarted => restarted = true,
            }
            log::debug!(
                "{}: skipped {} bytes of a damaged JPEG",
                self.name,
                jpeg.len()
            );
        }
    }

    /// Reads past the next start-of-image marker; false at the end of the stream.
    fn find_start(&mut self) -> Result<bool> {
        let mut skipped = 0;
        let mut previous = 0;
        while let Some(byte) = self.byte()? {
            if previous == 0xFF && byte == marker::SOI {
                self.found = true;
                return Ok(true);
            }
            previous = byte;
            skipped += 1;
            if !self.found && skipped > MAX_PREFACE {
                break;
            }
        }
        if self.found {
            return Ok(false);
        }
        Err(super::source_error(
            &self.name,
            "holds neither Y4M nor JPEG pictures; for frames without headers pass `--source raw:FORMAT[:FILE]` \
             with `--size WxH`, for anything else let ffmpeg convert it: `ffmpeg -i IN -f yuv4mpegpipe -`",
        ))
    }

    /// Appends everything from behind the start of a picture to its end.
    fn walk(&mut self, jpeg: &mut Vec<u8>) -> Result<Walk> {
        // Set while a marker's first byte is already read.
        let mut code = None;
        loop {
            let Some(marker) = (match code.take() {
                Some(code) => Some(code),
                None => match self.byte()? {
                    Some(0xFF) => self.marker_code()?,
                    Some(_) => return Ok(Walk::Damaged),
                    None => None,
                },
            }) else {
                return Ok(Walk::EndOfStream);
            };
            if marker == marker::SOI {
                return Ok(Walk::Restarted);
            }
            jpeg.extend([0xFF, marker]);
            match marker {
                marker::EOI => return Ok(Walk::Complete),
                marker::TEM | marker::RST0..=marker::RST7 => continue,
                0 => return Ok(Walk::Damaged),
                _ => {}
            }
            let (Some(high), Some(low)) = (self.byte()?, self.byte()?) else {
                return Ok(Walk::EndOfStream);
            };
            let length = usize::from(u16::from_be_bytes([high, low]));
            if length < 2 || jpeg.len() + length > MAX_JPEG {
                return Ok(Walk::Damaged);
            }
            jpeg.extend([high, low]);
            if !self.copy(length - 2, jpeg)? {
                return Ok(Walk::EndOfStream);
            }
            if marker == marker::SOS {
                code = self.scan(jpeg)?;
                if jpeg.len() > MAX_JPEG {
                    return Ok(Walk::Damaged);
                }
                if code.is_none() {
                    return Ok(Walk::EndOfStream);
                }
            }
        }
    }

    /// Appends entropy-coded data with its stuffed zeros and restart markers; gives the code of the marker that ends
    /// it, `None` at the end of the stream. Stops early beyond [`MAX_JPEG`].
    fn scan(&mut self, jpeg: &mut Vec<u8>) -> Result<Option<u8>> {
        loop {
            let buffer = self.buffer()?;
            if buffer.is_empty() {
                return Ok(None);
            }
            let end = buffer.iter().position(|&byte| byte == 0xFF);
            let plain = end.unwrap_or(buffer.len());
            jpeg.extend_from_slice(&buffer[..plain]);
            self.reader.consume(plain);
            if jpeg.len() > MAX_JPEG {
                return Ok(None);
            }
            if end.is_none() {
                continue;
            }
            self.reader.consume(1);
            match self.marker_code()? {
                Some(code @ (0 | marker::RST0..=marker::RST7)) => jpeg.extend([0xFF, code]),
                other => return Ok(other),
            }
        }
    }

    /// The code behind a marker's first byte, past fill bytes.
    fn marker_code(&mut self) -> Result<Option<u8>> {
        loop {
            match self.byte()? {
                Some(0xFF) => {}
                code => return Ok(code),
            }
        }
    }

    /// Appends `count` bytes; false if the stream ends first.
    fn copy(&mut self, mut count: usize, out: &mut Vec<u8>) -> Result<bool> {
        while count > 0 {
            let buffer = self.buffer()?;
            if buffer.is_empty() {
                return Ok(false);
            }
            let part = buffer.len().min(count);
            out.extend_from_slice(&buffer[..part]);
            self.reader.consume(part);
            count -= part;
        }
        Ok(true)
    }

    fn byte(&mut self) -> Result<Option<u8>> {
        let byte = self.buffer()?.first().copied();
        if byte.is_some() {
            self.reader.consume(1);
        }
        Ok(byte)
    }

    fn buffer(&mut self) -> Result<&[u8]> {
        self.reader
            .fill_buf()
            .map_err(Error::io(format!("read {}", self.name)))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Read};

    use super::*;

    /// A skeleton of a JPEG: an APP1 segment with a whole thumbnail inside, a scan with stuffing, fill and restarts.
    fn jpeg(tag: u8) -> Vec<u8> {
        let thumbnail = [0xFF, 0xD8, 0xFF, 0xD9];
        let mut bytes = vec![0xFF, 0xD8, 0xFF, 0xE1, 0, 6];
        bytes.extend(thumbnail);
        bytes.extend([
            0xFF, 0xDA, 0, 3, tag, 1, 2, 0xFF, 0, 3, 0xFF, 0xD0, 4, 0xFF, 0xD9,
        ]);
        bytes
    }

    fn split(bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        // Small buffers, so that markers fall between them.
        let mut stream = Mjpeg::new(BufReader::with_capacity(3, bytes), "x");
        let mut pictures = Vec::new();
        while let Some(picture) = stream.next()? {
            pictures.push(picture);
        }
        Ok(pictures)
    }

    #[test]
    fn pictures_are_cut_at_their_own_end() {
        let bytes = [jpeg(1), jpeg(2), jpeg(3)].concat();
        assert_eq!(split(&bytes).unwrap(), [jpeg(1), jpeg(2), jpeg(3)]);
    }

    #[test]
    fn garbage_between_pictures_is_skipped() {
        let headers = b"--frame\r\nContent-Type: image/jpeg\r\n\r\n".to_vec();
        let bytes = [headers.clone(), jpeg(1), b"\r\n".to_vec(), headers, jpeg(2)].concat();
        assert_eq!(split(&bytes).unwrap(), [jpeg(1), jpeg(2)]);
    }

    #[test]
    fn picture_cut_short_costs_only_itself() {
        let whole = jpeg(1);
        // Cut within the scan: the next start of image is where a marker may stand.
        let bytes = [&whole[..whole.len() - 2], &jpeg(2), &whole[..9]].concat();
        assert_eq!(split(&bytes).unwrap(), [jpeg(2)]);
    }

    #[test]
    fn endless_picture_is_dropped_at_its_bound() {
        let start = [0xFF, 0xD8, 0xFF, 0xDA, 0, 2];
        let endless = start.as_slice().chain(std::io::repeat(7).take(40 << 20));
        let tail = jpeg(2);
        let mut stream = Mjpeg::new(BufReader::new(endless.chain(&tail[..])), "x");
        assert_eq!(stream.next().unwrap(), Some(jpeg(2)));
    }

    #[test]
    fn stream_without_pictures_is_an_error() {
        let error = split(&[7; 3 << 20]).unwrap_err().to_string();
        assert!(error.contains("raw:FORMAT"), "{error}");
        assert!(split(b"").is_err());
    }
}
