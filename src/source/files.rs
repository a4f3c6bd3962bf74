//! Pictures in files: one, or a folder of them.

use std::cmp::Ordering;
use std::io::{BufRead, BufReader, Cursor, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

use super::open::Pace;
use super::stream::Pacer;
use super::{
    Frame, FrameSource, MAX_PIXELS, MAX_SIDE, Next, Picture, PixelFormat, YuvRange, is_sane_size,
    source_error,
};
use crate::error::{Error, Result};

/// The most memory that decoding one picture may take.
const MAX_DECODER_BYTES: u64 = 512 << 20;

/// Endings of files that a folder is searched for.
const EXTENSIONS: [&str; 6] = ["jpg", "jpeg", "png", "bmp", "gif", "webp"];

/// Reads a picture file (JPEG, PNG, BMP, GIF, WebP; told by content) as an RGB frame of index 0, upright by its EXIF
/// orientation. Its source is the file's name without folders.
pub fn read_picture(path: &Path) -> Result<Frame> {
    let picture = decode_file(path)?;
    Ok(picture.into_frame(0, &file_name(path)))
}

fn file_name(path: &Path) -> Arc<str> {
    let name = path.file_name().unwrap_or(path.as_os_str());
    name.to_string_lossy().into()
}

fn data_error(file: &str, reason: String) -> Error {
    Error::Data {
        file: file.into(),
        reason,
    }
}

fn decode_file(path: &Path) -> Result<Picture> {
    decode(open_picture(path)?, &path.display().to_string())
}

/// Width and height of a picture file, upright by its EXIF orientation, without decoding its pixels.
pub fn picture_size(path: &Path) -> Result<[u32; 2]> {
    let name = path.display().to_string();
    let mut decoder = sized_decoder(open_picture(path)?, &name)?;
    let (width, height) = decoder.dimensions();
    let orientation = decoder.orientation().map_err(damaged(&name))?;
    Ok(match orientation {
        Orientation::Rotate90
        | Orientation::Rotate270
        | Orientation::Rotate90FlipH
        | Orientation::Rotate270FlipH => [height, width],
        _ => [width, height],
    })
}

/// A file with the beginning of a picture.
fn open_picture(path: &Path) -> Result<ImageReader<BufReader<std::fs::File>>> {
    let name = path.display().to_string();
    let metadata = std::fs::metadata(path).map_err(Error::io(format!("read {name}")))?;
    if !metadata.is_file() {
        return Err(data_error(&name, "not a file; pass picture files".into()));
    }
    let file = std::fs::File::open(path).map_err(Error::io(format!("read {name}")))?;
    let reader = ImageReader::new(BufReader::new(file))
        .with_guessed_format()
        .map_err(Error::io(format!("read {name}")))?;
    if reader.format().is_none() {
        let known = "not a JPEG, PNG, BMP, GIF or WebP picture";
        return Err(data_error(&name, known.into()));
    }
    Ok(reader)
}

/// Decodes a JPEG in memory.
pub(super) fn decode_jpeg(bytes: &[u8], name: &str) -> Result<Picture> {
    decode(
        ImageReader::with_format(Cursor::new(bytes), ImageFormat::Jpeg),
        name,
    )
}

fn damaged(name: &str) -> impl Fn(image::ImageError) -> Error {
    move |error| data_error(name, format!("cannot be decoded: {error}"))
}

/// What decodes a picture, whose size has been checked before its pixels are allocated.
fn sized_decoder<'a>(
    mut reader: ImageReader<impl BufRead + Seek + 'a>,
    name: &str,
) -> Result<impl ImageDecoder + 'a> {
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_DECODER_BYTES);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(damaged(name))?;
    let (width, height) = decoder.dimensions();
    if !is_sane_size(width as usize, height as usize) {
        let most = MAX_PIXELS / 1_000_000;
        return Err(data_error(
            name,
            format!(
                "{width}x{height} pixels are more than {most} million, or {MAX_SIDE} on a side (or none); scale the picture down"
            ),
        ));
    }
    Ok(decoder)
}

fn decode(reader: ImageReader<impl BufRead + Seek>, name: &str) -> Result<Picture> {
    let mut decoder = sized_decoder(reader, name)?;
    let orientation = decoder.orientation().map_err(damaged(name))?;
    let mut picture = DynamicImage::from_decoder(decoder).map_err(damaged(name))?;
    picture.apply_orientation(orientation);
    let rgb = picture.into_rgb8();
    Ok(Picture {
        width: rgb.width() as usize,
        height: rgb.height() as usize,
        format: PixelFormat::Rgb,
        range: YuvRange::Full,
        data: rgb.into_raw(),
    })
}

/// The pictures of a folder in natural order, not of those below it. An error if there are none.
pub(super) fn list_folder(folder: &Path) -> Result<Vec<PathBuf>> {
    let name = folder.display().to_string();
    let entries = std::fs::read_dir(folder).map_err(Error::io(format!("read {name}")))?;
    let is_picture = |path: &PathBuf| {
        let ending = path.extension().map(|e| e.to_string_lossy().to_lowercase());
        ending.is_some_and(|ending| EXTENSIONS.contains(&ending.as_str()))
    };
    let mut paths: Vec<_> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| is_picture(path) && path.is_file())
        .collect();
    paths.sort_by(|a, b| natural_order(&a.to_string_lossy(), &b.to_string_lossy()));
    if paths.is_empty() {
        let endings = EXTENSIONS.join(", ");
        return Err(source_error(
            &name,
            format!("the folder holds no pictures ({endings})"),
        ));
    }
    Ok(paths)
}

/// Runs of digits compare as numbers, everything else byte by byte: `a2` before `a10`.
fn natural_order(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        let digits = |text: &[u8]| text.iter().take_while(|c| c.is_ascii_digit()).count();
        let (a_digits, b_digits) = (digits(a), digits(b));
        if a_digits == 0 || b_digits == 0 {
            match (a.split_first(), b.split_first()) {
                (Some((x, a_rest)), Some((y, b_rest))) if x == y => (a, b) = (a_rest, b_rest),
                _ => return a.cmp(b),
            }
            continue;
        }
        let ((x, a_rest), (y, b_rest)) = (a.split_at(a_digits), b.split_at(b_digits));
        let significant = |run: &[u8]| run.iter().position(|&c| c != b'0').unwrap_or(run.len());
        let (x_value, y_value) = (&x[significant(x)..], &y[significant(y)..]);
        let by_value = x_value.len().cmp(&y_value.len()).then(x_value.cmp(y_value));
        match by_value.then(x.len().cmp(&y.len())) {
            Ordering::Equal => (a, b) = (a_rest, b_rest),
            unequal => return unequal,
        }
    }
}

/// Pictures one after another.
pub(super) struct PictureSource {
    name: Arc<str>,
    paths: Vec<PathBuf>,
    position: usize,
    pace: Pace,
    repeat: bool,
    pacer: Pacer,
    index: u64,
    /// Whether this round gave a picture: a round without one ends the source.
    any: bool,
    /// The picture, where there is but one and it is shown again and again.
    only: Option<Picture>,
}

impl PictureSource {
    /// `paths` are shown in their order, each once, or again and again with `repeat`.
    pub(super) fn new(name: &str, paths: Vec<PathBuf>, pace: Pace, repeat: bool) -> Self {
        Self {
            name: name.into(),
            paths,
            position: 0,
            pace,
            repeat,
            pacer: Pacer::new(),
            index: 0,
            any: false,
            only: None,
        }
    }

    /// Decodes a picture, or takes it from memory if it is the only one.
    fn picture(&mut self, path: &Path) -> Result<Picture> {
        if let Some(picture) = &self.only {
            return Ok(picture.clone());
        }
        let picture = decode_file(path)?;
        if self.paths.len() == 1 && self.repeat {
            self.only = Some(picture.clone());
        }
        Ok(picture)
    }
}

impl FrameSource for PictureSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn next(&mut self) -> Result<Next> {
        loop {
            if self.position == self.paths.len() {
                if !self.repeat || !self.any {
                    return Ok(Next::End);
                }
                (self.position, self.any) = (0, false);
            }
            let path = self.paths[self.position].clone();
            self.position += 1;
            match self.picture(&path) {
                Ok(picture) => {
                    if let Pace::Fps(fps) = self.pace {
                        self.pacer.wait(fps);
                    }
                    self.any = true;
                    self.index += 1;
                    return Ok(Next::Frame(
                        picture.into_frame(self.index - 1, &file_name(&path)),
                    ));
                }
                Err(error) if self.paths.len() == 1 => return Err(error),
                Err(error) => log::warn!("{error}; skipped"),
            }
        }
    }

    fn is_live(&self) -> bool {
        matches!(self.pace, Pace::Fps(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, value: u8) {
        image::RgbImage::from_pixel(4, 2, image::Rgb([value, 0, 0]))
            .save(path)
            .unwrap();
    }

    fn values(source: &mut PictureSource, count: usize) -> Vec<(String, u8)> {
        let mut seen = Vec::new();
        while seen.len() < count
            && let Next::Frame(frame) = source.next().unwrap()
        {
            seen.push((frame.source.to_string(), frame.data[0]));
        }
        seen
    }

    #[test]
    fn numbers_in_names_count_as_numbers() {
        let mut names = ["a10.png", "a2.png", "a02.png", "b1.png", "a.png", "a2b.png"];
        names.sort_by(|a, b| natural_order(a, b));
        assert_eq!(
            names,
            ["a.png", "a2.png", "a2b.png", "a02.png", "a10.png", "b1.png"]
        );
        assert_eq!(
            natural_order("99999999999999999999998", "99999999999999999999999"),
            Ordering::Less
        );
    }

    #[test]
    fn folder_is_played_in_order_without_what_cannot_be_read() {
        let folder = tempfile::tempdir().unwrap();
        write(&folder.path().join("p10.png"), 10);
        write(&folder.path().join("p9.PNG"), 9);
        std::fs::write(folder.path().join("p5.jpg"), b"no picture").unwrap();
        std::fs::write(folder.path().join("notes.txt"), b"").unwrap();
        let paths = list_folder(folder.path()).unwrap();
        assert_eq!(paths.len(), 3);
        let mut once = PictureSource::new("d", paths.clone(), Pace::Native, false);
        let both = [("p9.PNG".to_owned(), 9), ("p10.png".to_owned(), 10)];
        assert_eq!(values(&mut once, 9), both);
        let mut again = PictureSource::new("d", paths, Pace::Native, true);
        assert_eq!(values(&mut again, 5).len(), 5);
        assert!(!again.is_live());
    }

    #[test]
    fn folder_without_a_readable_picture_ends() {
        let folder = tempfile::tempdir().unwrap();
        assert!(list_folder(folder.path()).is_err());
        for name in ["a.jpg", "b.jpg"] {
            std::fs::write(folder.path().join(name), b"no picture").unwrap();
        }
        let paths = list_folder(folder.path()).unwrap();
        let mut source = PictureSource::new("d", paths, Pace::Native, true);
        assert!(matches!(source.next().unwrap(), Next::End));
    }

    #[test]
    fn broken_files_are_errors_that_name_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.png");
        write(&path, 1);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        assert!(
            read_picture(&path)
                .unwrap_err()
                .to_string()
                .contains("x.png")
        );
        assert!(read_picture(folder.path()).is_err());
        assert!(read_picture(&folder.path().join("none.png")).is_err());
    }

    #[test]
    fn huge_pictures_are_refused_before_they_are_allocated() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("huge.bmp");
        let mut header = b"BM".to_vec();
        header.extend([0; 8]);
        header.extend(54u32.to_le_bytes());
        header.extend(40u32.to_le_bytes());
        header.extend(60_000i32.to_le_bytes());
        header.extend(60_000i32.to_le_bytes());
        header.extend([1, 0, 24, 0]);
        header.extend([0; 24]);
        std::fs::write(&path, header).unwrap();
        let error = read_picture(&path).unwrap_err().to_string();
        assert!(error.contains("60000x60000"), "{error}");
    }

    #[test]
    fn exif_orientation_turns_the_picture() {
        let mut jpeg = Cursor::new(Vec::new());
        let picture = image::RgbImage::from_pixel(16, 8, image::Rgb([9, 9, 9]));
        picture.write_to(&mut jpeg, ImageFormat::Jpeg).unwrap();
        let jpeg = jpeg.into_inner();
        // APP1 with one IFD entry: tag 0x0112 (orientation), type SHORT, count 1, value 6 (turn right).
        let mut app1 = b"\xFF\xE1\x00\x22Exif\0\0MM\0\x2A\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0".to_vec();
        let length = (app1.len() - 2) as u16;
        app1[2..4].copy_from_slice(&length.to_be_bytes());
        let turned = [&jpeg[..2], &app1, &jpeg[2..]].concat();
        let decoded = decode_jpeg(&turned, "x").unwrap();
        assert_eq!((decoded.width, decoded.height), (8, 16));
    }
}
