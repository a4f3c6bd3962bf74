//! Frames through `v4l`, in the modes that nokhwa does not know.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use v4l::buffer::{Flags, Metadata, Type};
use v4l::io::traits::CaptureStream;
use v4l::prelude::MmapStream;

use super::super::device::{Device, Failure, Layout, Shot};
use super::explain;

/// Buffers that the driver fills in turn.
const BUFFERS: u32 = 4;
/// How long a frame is waited for.
const TIMEOUT: Duration = Duration::from_secs(3);
/// A camera that marks so many frames in a row as damaged is opened afresh.
const MOST_DAMAGED: usize = 100;

/// A camera that is read frame by frame.
pub(super) struct Reader {
    stream: MmapStream<'static>,
    layout: Layout,
    path: PathBuf,
}

impl Reader {
    /// Of a device in the format of the layout.
    pub(super) fn open(device: &v4l::Device, layout: Layout, path: &Path) -> Result<Self, Failure> {
        let stream = MmapStream::with_buffers(device, Type::VideoCapture, BUFFERS);
        let mut stream = stream.map_err(|error| explain(&error, path))?;
        stream.set_timeout(TIMEOUT);
        Ok(Self {
            stream,
            layout,
            path: path.into(),
        })
    }
}

impl Device for Reader {
    fn shoot(&mut self) -> Result<Shot, Failure> {
        for _ in 0..MOST_DAMAGED {
            let (buffer, about) = self.stream.next().map_err(|error| match error.kind() {
                std::io::ErrorKind::TimedOut => {
                    Failure::Passing(format!("no frame for {} seconds", TIMEOUT.as_secs()))
                }
                _ => explain(&error, &self.path),
            })?;
            if !about.flags.contains(Flags::ERROR) {
                let used = buffer.len().min(about.bytesused as usize);
                let data = buffer[..used].to_vec();
                return Ok(Shot::aged(self.layout, data, age(about)));
            }
        }
        Err(Failure::Passing(
            "every frame is damaged; is the cable sound?".into(),
        ))
    }
}

/// How long ago a frame was taken: nothing if the driver's clock is not the system's monotonic one.
fn age(about: &Metadata) -> Duration {
    if about.flags & Flags::TIMESTAMP_MASK != Flags::TIMESTAMP_MONOTONIC {
        return Duration::ZERO;
    }
    let now = Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap_or_default();
    now.saturating_sub(about.timestamp.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn age_is_told_by_the_monotonic_clock_only() {
        let now = Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap();
        let mut about = Metadata {
            timestamp: (now - Duration::from_millis(1500).min(now)).into(),
            flags: Flags::TIMESTAMP_MONOTONIC | Flags::DONE,
            ..Default::default()
        };
        assert!(age(&about) >= Duration::from_millis(1500).min(now));
        about.flags = Flags::TIMESTAMP_COPY;
        assert_eq!(age(&about), Duration::ZERO);
    }
}
