//! What stands between the watching of a camera and the camera itself, so that tests can put another in its place.

use std::time::{Duration, Instant, SystemTime};

use super::mode::Encoding;
use crate::source::YuvRange;

/// How the bytes of a shot hold its pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Layout {
    pub encoding: Encoding,
    pub width: usize,
    pub height: usize,
    /// Bytes from one row to the next; of the Y plane where there are planes. Meaningless for MJPEG.
    pub stride: usize,
    pub range: YuvRange,
}

/// The bytes of one picture as the camera gave them.
#[derive(Clone, Debug)]
pub(super) struct Shot {
    pub layout: Layout,
    /// May be longer than the picture.
    pub data: Vec<u8>,
    pub captured: Instant,
    pub timestamp: SystemTime,
}

impl Shot {
    /// A shot taken so long ago.
    pub(super) fn aged(layout: Layout, data: Vec<u8>, age: Duration) -> Self {
        let (now, wall) = (Instant::now(), SystemTime::now());
        Self {
            layout,
            data,
            captured: now.checked_sub(age).unwrap_or(now),
            timestamp: wall.checked_sub(age).unwrap_or(wall),
        }
    }
}

/// Why a camera gives no pictures.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Failure {
    /// Trying again does not help; says what does.
    Lasting(String),
    /// May be over at the next attempt.
    Passing(String),
}

impl Failure {
    pub(super) fn reason(self) -> String {
        match self {
            Self::Lasting(reason) | Self::Passing(reason) => reason,
        }
    }
}

/// An open camera that takes pictures.
pub(super) trait Device {
    /// Waits for the next picture, perhaps for ever.
    fn shoot(&mut self) -> Result<Shot, Failure>;
}

/// Opens a camera afresh. Dropping the device closes it.
pub(super) type Open = dyn Fn() -> Result<Box<dyn Device>, Failure> + Send + Sync;
