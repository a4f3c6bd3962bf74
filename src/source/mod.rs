//! Where frames come from.

mod auto;
mod camera;
mod child;
mod convert;
mod csi;
pub mod demo;
mod ffmpeg;
mod files;
mod mask;
mod mjpeg;
mod open;
mod retry;
mod stream;
mod y4m;

pub use camera::{Capability, Encoding, Interval, Node, Offer, Size, Verdict, nodes};
pub use child::find_program;
pub use convert::{YuvMatrix, YuvRow};
pub use csi::{RibbonCamera, ribbon_cameras};
pub use files::read_picture;
pub use mask::{Cover, Masks};
pub use open::{Pace, RawFormat, SourceOptions, open, parse_fps, parse_size};

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use crate::error::Result;

/// How the bytes of a frame hold its pixels. Rows are packed without padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PixelFormat {
    /// 3 bytes a pixel, full range.
    Rgb,
    /// 1 byte a pixel.
    Grey,
    /// Y0 U Y1 V for two pixels; even width.
    Yuyv,
    /// A plane of Y, then interleaved U V at half size both ways; even width and height.
    Nv12,
    /// A plane of Y, then U, then V at half size both ways; even width and height.
    I420,
}

impl PixelFormat {
    /// Bytes of a frame of this size.
    pub fn frame_bytes(self, width: usize, height: usize) -> usize {
        match self {
            Self::Rgb => width * height * 3,
            Self::Grey => width * height,
            Self::Yuyv => width * height * 2,
            Self::Nv12 | Self::I420 => width * height * 3 / 2,
        }
    }
}

/// Which matrix and range turn YUV into RGB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum YuvRange {
    /// BT.601, Y 16..235 (video).
    #[default]
    Limited,
    /// BT.601, Y 0..255 (JPEG, rpicam-vid).
    Full,
}

/// One picture, shared by everyone who looks at it.
#[derive(Clone, Debug)]
pub struct Frame {
    pub width: usize,
    pub height: usize,
    pub format: PixelFormat,
    /// Meaningless for RGB and grey.
    pub range: YuvRange,
    /// Exactly [`PixelFormat::frame_bytes`] bytes.
    pub data: Vec<u8>,
    /// Counted from 0 by the source, dropped frames included.
    pub index: u64,
    /// When the picture was taken or read, on the monotonic clock.
    pub captured: Instant,
    /// The same on the wall clock.
    pub timestamp: SystemTime,
    /// What `source` says in JSON: the file's name, or the source as the user named it.
    pub source: Arc<str>,
}

/// What a source has to say when asked for a frame.
#[derive(Debug)]
pub enum Next {
    /// A picture.
    Frame(Frame),
    /// Nothing now, but it will be tried again: a camera unplugged, a stream that reconnects. Holds the reason.
    NoSignal(String),
    /// The end of a finite source.
    End,
}

/// A stream of frames. It lives on a thread of its own.
pub trait FrameSource: Send {
    /// The source as the user named it, or what was chosen for `auto`.
    fn name(&self) -> &str;

    /// Waits for the next frame, at most about a second (then [`Next::NoSignal`]). An error ends the source for good.
    fn next(&mut self) -> Result<Next>;

    /// Whether every frame waits to be seen (pictures, files read as fast as possible), or only the newest counts.
    fn is_live(&self) -> bool;
}

/// The pixels of a frame before it is known when and where it counts.
#[derive(Clone, Debug, PartialEq)]
struct Picture {
    width: usize,
    height: usize,
    format: PixelFormat,
    range: YuvRange,
    data: Vec<u8>,
}

/// The most pixels that one picture may have.
const MAX_PIXELS: usize = 100_000_000;

/// The longest side that a picture may have, which bounds what the tables and rows of resizing take.
const MAX_SIDE: usize = 65_535;

impl Picture {
    /// A frame taken now.
    fn into_frame(self, index: u64, source: &Arc<str>) -> Frame {
        Frame {
            width: self.width,
            height: self.height,
            format: self.format,
            range: self.range,
            data: self.data,
            index,
            captured: Instant::now(),
            timestamp: SystemTime::now(),
            source: source.clone(),
        }
    }
}

/// Whether a picture of this size is accepted: not empty, and above neither [`MAX_SIDE`] nor [`MAX_PIXELS`].
fn is_sane_size(width: usize, height: usize) -> bool {
    let pixels = width.checked_mul(height);
    width.max(height) <= MAX_SIDE && pixels.is_some_and(|pixels| (1..=MAX_PIXELS).contains(&pixels))
}

/// An [`Error::Source`](crate::Error::Source).
fn source_error(source_name: &str, reason: impl Into<String>) -> crate::Error {
    crate::Error::Source {
        source_name: source_name.into(),
        reason: reason.into(),
    }
}
