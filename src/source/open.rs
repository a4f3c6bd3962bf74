//! From the words of `--source` to a source.

use std::io::Read;
use std::path::Path;

use super::auto;
use super::camera::CameraSource;
use super::csi::CsiSource;
use super::demo::DemoSource;
use super::ffmpeg::FfmpegSource;
use super::files::{PictureSource, list_folder};
use super::stream::{Container, Opener, Pump, StreamSource};
use super::{FrameSource, PixelFormat, YuvRange, is_sane_size, y4m};
use crate::error::{Error, Result};

/// How fast a file or the demo scene is played, and how many frames a camera is asked for. Streams from pipes and URLs
/// come as fast as they come.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Pace {
    /// Videos at their own rate, newest frame first; pictures, and files that state no rate, one after another, each
    /// waiting to be seen.
    #[default]
    Native,
    /// Frames a second, 1 to 240, newest frame first.
    Fps(f64),
    /// As fast as frames are taken, none left out.
    Unpaced,
}

/// What a source is told beside its name.
#[derive(Clone, Copy, Debug, Default)]
pub struct SourceOptions {
    /// `[width, height]`: of raw frames and the demo scene; what ffmpeg scales videos to; what cameras are asked for, and of
    /// JPEG frames that hold at least twice as much, the least that is decoded.
    pub size: Option<[usize; 2]>,
    pub pace: Pace,
    /// Files start again at their end.
    pub repeat: bool,
}

/// The pixels of frames without headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawFormat {
    pub pixels: PixelFormat,
    pub range: YuvRange,
}

/// `WxH`, both from 1 to 65535, and at most 100 million pixels.
pub fn parse_size(text: &str) -> std::result::Result<[usize; 2], String> {
    let number = |text: &str| text.parse::<usize>().ok();
    let size = text
        .split_once('x')
        .and_then(|(w, h)| Some([number(w)?, number(h)?]));
    size.filter(|&[width, height]| is_sane_size(width, height))
        .ok_or_else(|| "not a size like 640x480".into())
}

/// The value of `--fps`: a number from 1 to 240, or `max` for as fast as frames are taken.
pub fn parse_fps(text: &str) -> std::result::Result<Pace, String> {
    if text == "max" {
        return Ok(Pace::Unpaced);
    }
    match text.parse::<f64>() {
        Ok(fps) if (1.0..=240.0).contains(&fps) => Ok(Pace::Fps(fps)),
        _ => Err("neither a number from 1 to 240 nor `max`".into()),
    }
}

impl RawFormat {
    /// `rgb`, `grey`, `yuyv`, `nv12` or `i420`; `-full` after a YUV format for 0 to 255.
    fn parse(text: &str) -> Result<Self> {
        let (name, range) = match text.strip_suffix("-full") {
            Some(name) => (name, YuvRange::Full),
            None => (text, YuvRange::Limited),
        };
        let pixels = match name {
            "rgb" => PixelFormat::Rgb,
            "grey" => PixelFormat::Grey,
            "yuyv" => PixelFormat::Yuyv,
            "nv12" => PixelFormat::Nv12,
            "i420" => PixelFormat::I420,
            _ => {
                return Err(Error::Usage(format!(
                    "--source raw:{text}: not a pixel format; rgb, grey, yuyv, nv12 and i420 are known (with `-full` \
                     after a YUV format for full range)"
                )));
            }
        };
        Ok(Self { pixels, range })
    }

    fn check_size(self, [width, height]: [usize; 2]) -> Result<()> {
        let even = match self.pixels {
            PixelFormat::Rgb | PixelFormat::Grey => true,
            PixelFormat::Yuyv => width.is_multiple_of(2),
            PixelFormat::Nv12 | PixelFormat::I420 => {
                width.is_multiple_of(2) && height.is_multiple_of(2)
            }
        };
        if even {
            return Ok(());
        }
        Err(Error::Usage(format!(
            "--size {width}x{height}: this pixel format needs even sides"
        )))
    }
}

/// Opens a source by the words of `--source`.
pub fn open(spec: &str, options: SourceOptions) -> Result<Box<dyn FrameSource>> {
    let scheme = spec.split_once(':').map_or(spec, |(scheme, _)| scheme);
    match scheme {
        "auto" => auto::open(options),
        "demo" => Ok(Box::new(DemoSource::new(options)?)),
        "csi" => Ok(Box::new(CsiSource::new(spec, options)?)),
        "v4l2" => {
            let device = spec.split_once(':').map_or("", |(_, device)| device);
            Ok(Box::new(CameraSource::new(spec, device, options)?))
        }
        "raw" => open_raw(spec, options),
        "-" => open_stream(spec, None, detect(options), options),
        _ if spec.starts_with("/dev/video") || spec.starts_with("/dev/v4l/") => {
            Ok(Box::new(CameraSource::new(spec, spec, options)?))
        }
        _ if spec.contains("://") => Ok(Box::new(FfmpegSource::live(spec, options)?)),
        _ => open_path(spec, options),
    }
}

/// `raw:FORMAT[:FILE]`
fn open_raw(spec: &str, options: SourceOptions) -> Result<Box<dyn FrameSource>> {
    let mut parts = spec.splitn(3, ':').skip(1);
    let format = RawFormat::parse(parts.next().unwrap_or_default())?;
    let Some(size) = options.size else {
        return Err(Error::Usage(format!(
            "--source {spec}: raw frames do not tell their size; pass --size WxH"
        )));
    };
    format.check_size(size)?;
    let path = parts.next().filter(|path| *path != "-");
    open_stream(spec, path, Container::Raw { format, size }, options)
}

/// A stream from a file, or from stdin without `path`.
fn open_stream(
    name: &str,
    path: Option<&str>,
    container: Container,
    options: SourceOptions,
) -> Result<Box<dyn FrameSource>> {
    let opener: Opener = match path {
        Some(path) => {
            open_file(path)?;
            let path = path.to_owned();
            Box::new(move || Ok(Box::new(open_file(&path)?)))
        }
        None => Box::new(|| Ok(Box::new(std::io::stdin()))),
    };
    let repeat = options.repeat && path.is_some();
    let pump = Pump::start(name, opener, container, repeat)?;
    // Only Y4M states a rate; a pipe named as a file keeps its own time.
    let is_pipe = path.is_none_or(|path| !Path::new(path).is_file());
    let pace = match (container, options.pace) {
        (Container::Raw { .. }, Pace::Native) => Pace::Unpaced,
        (_, pace) => pace,
    };
    Ok(Box::new(StreamSource::new(name, pump, pace, is_pipe)))
}

fn open_file(path: &str) -> Result<std::fs::File> {
    std::fs::File::open(path).map_err(Error::io(format!("open {path}")))
}

/// What a file on disk holds.
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Picture,
    Y4m,
    Mjpeg,
    Video,
}

/// Tells files apart by their first bytes. A JPEG followed by another is a stream only by its name, since cameras
/// append previews to pictures.
fn kind_of(path: &str) -> Result<Kind> {
    let mut head = Vec::new();
    let read = open_file(path)?.take(64).read_to_end(&mut head);
    read.map_err(Error::io(format!("read {path}")))?;
    let ending = Path::new(path)
        .extension()
        .map(|e| e.to_string_lossy().to_lowercase());
    let is_mjpeg = matches!(ending.as_deref(), Some("mjpeg" | "mjpg"));
    Ok(match image::guess_format(&head) {
        _ if is_mjpeg => Kind::Mjpeg,
        _ if head.starts_with(y4m::MAGIC) => Kind::Y4m,
        Ok(
            image::ImageFormat::Jpeg
            | image::ImageFormat::Png
            | image::ImageFormat::Bmp
            | image::ImageFormat::Gif
            | image::ImageFormat::WebP,
        ) => Kind::Picture,
        _ => Kind::Video,
    })
}

fn detect(options: SourceOptions) -> Container {
    Container::Detect {
        least: options.size,
    }
}

fn open_path(spec: &str, options: SourceOptions) -> Result<Box<dyn FrameSource>> {
    let path = Path::new(spec);
    let metadata = std::fs::metadata(path).map_err(Error::io(format!(
        "open {spec} as a source (a file, a folder, a URL, `-`, `raw:FORMAT` or `demo`)"
    )))?;
    let SourceOptions { pace, repeat, .. } = options;
    if metadata.is_dir() {
        let paths = list_folder(path)?;
        return Ok(Box::new(PictureSource::new(spec, paths, pace, repeat)));
    }
    if !metadata.is_file() {
        return open_stream(
            spec,
            Some(spec),
            detect(options),
            SourceOptions {
                repeat: false,
                ..options
            },
        );
    }
    match kind_of(spec)? {
        Kind::Picture => Ok(Box::new(PictureSource::new(
            spec,
            vec![path.into()],
            pace,
            repeat,
        ))),
        Kind::Y4m => open_stream(spec, Some(spec), detect(options), options),
        Kind::Mjpeg => {
            let pace = if pace == Pace::Native {
                Pace::Unpaced
            } else {
                pace
            };
            open_stream(
                spec,
                Some(spec),
                detect(options),
                SourceOptions { pace, ..options },
            )
        }
        Kind::Video => Ok(Box::new(FfmpegSource::file(spec, options)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Next;

    fn refusal(spec: &str, options: SourceOptions) -> String {
        open(spec, options).err().unwrap().to_string()
    }

    #[test]
    fn sizes_and_rates_are_checked() {
        assert_eq!(parse_size("640x480"), Ok([640, 480]));
        for bad in ["640", "0x4", "x", "-1x3", "99999999x99999999", "640X480"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_fps("max"), Ok(Pace::Unpaced));
        assert_eq!(parse_fps("12.5"), Ok(Pace::Fps(12.5)));
        for bad in ["0", "NaN", "1000", "fast"] {
            assert!(parse_fps(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_cannot_be_opened_is_refused_with_the_way_round() {
        let options = SourceOptions::default();
        assert!(refusal("v4l2:", options).contains("v4l2:/dev/video0"));
        assert!(refusal("csi:x", options).contains("csi:1"));
        assert!(refusal("raw:i420", options).contains("--size"));
        assert!(refusal("raw:bayer", options).contains("bayer"));
        assert!(refusal("no/such/file.mp4", options).contains("no/such/file.mp4"));
        let odd = SourceOptions {
            size: Some([3, 2]),
            ..options
        };
        assert!(refusal("raw:yuyv", odd).contains("even"));
    }

    #[test]
    fn raw_file_is_read_by_format_and_size() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f.bin");
        std::fs::write(&path, [5; 16]).unwrap();
        let options = SourceOptions {
            size: Some([2, 2]),
            ..Default::default()
        };
        let mut source = open(&format!("raw:yuyv:{}", path.display()), options).unwrap();
        assert!(!source.is_live());
        for _ in 0..2 {
            assert!(
                matches!(source.next().unwrap(), Next::Frame(f) if f.format == PixelFormat::Yuyv)
            );
        }
        assert!(matches!(source.next().unwrap(), Next::End));
        assert_eq!(RawFormat::parse("i420-full").unwrap().range, YuvRange::Full);
    }

    #[test]
    fn files_are_told_apart_by_content() {
        let folder = tempfile::tempdir().unwrap();
        let kind = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            kind_of(&path.display().to_string()).unwrap()
        };
        assert_eq!(kind("a.mp4", b"\xFF\xD8\xFF\xE0"), Kind::Picture);
        assert_eq!(kind("a.mjpeg", b"\xFF\xD8\xFF\xE0"), Kind::Mjpeg);
        assert_eq!(kind("a.jpg", b"YUV4MPEG2 W2 H2\n"), Kind::Y4m);
        assert_eq!(kind("b.mp4", b"\0\0\0\x20ftypisom"), Kind::Video);
    }
}
