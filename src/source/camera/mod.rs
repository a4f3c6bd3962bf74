//! V4L2 cameras: USB, HDMI adapters, what else has a `/dev/video` node.
//!
//! [`worker`] reads on a thread of its own and keeps the newest picture only; [`CameraSource`] looks at it from
//! outside. A camera that fails, falls silent or is unplugged is a state that is tried again, never an end.

mod decode;
mod device;
mod huffman;
#[cfg(target_os = "linux")]
mod linux;
mod mode;
mod node;
mod worker;

pub use mode::{Encoding, Interval, Offer, Size};
pub use node::{Capability, Node, Verdict};

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::retry::Retry;
use super::stream::PATIENCE;
use super::{Frame, FrameSource, Next, Pace, SourceOptions, source_error};
use crate::error::{Error, Result};
use device::{Failure, Open, Shot};
use mode::Wish;
use worker::{Look, Worker};

/// How long a camera is waited for.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// What one look waits.
    look: Duration,
    /// A worker that gives no sign for so long is given up.
    stall: Duration,
    /// The first and the longest wait between attempts.
    retry: [Duration; 2],
}

const PATIENT: Patience = Patience {
    look: PATIENCE,
    stall: Duration::from_secs(4),
    retry: [Duration::from_secs(1), Duration::from_secs(5)],
};

/// The nodes under `/dev` that are or might be cameras, by number, and what eyas thinks of each. Empty on systems other
/// than Linux.
pub fn nodes() -> Vec<Node> {
    #[cfg(target_os = "linux")]
    return linux::nodes(Wish::default());
    #[cfg(not(target_os = "linux"))]
    Vec::new()
}

/// A V4L2 camera.
pub(super) struct CameraSource {
    name: Arc<str>,
    open: Arc<Open>,
    /// The size that was asked for.
    wish: [usize; 2],
    patience: Patience,
    worker: Option<Worker>,
    /// A worker that was given up, perhaps because the driver does not let it go. There is never a second such.
    stuck: Option<Worker>,
    retry: Retry,
    /// Frames counted before the present worker.
    earlier: u64,
    /// Frames counted up to the last that was seen.
    seen: u64,
}

/// What watching a worker gave.
enum Seen {
    Frame(Frame),
    /// How long the worker has given no sign of life, and what to say.
    Nothing(Duration, String),
    Ended(Failure),
}

impl CameraSource {
    /// The camera at `device`: a path, or the number of a `/dev/video` node. `name` is the source's.
    pub(super) fn new(name: &str, device: &str, options: SourceOptions) -> Result<Self> {
        let path = match device.parse::<u32>() {
            Ok(number) => format!("/dev/video{number}"),
            Err(_) if device.starts_with('/') => device.into(),
            Err(_) => {
                return Err(Error::Usage(format!(
                    "--source {name}: not a camera; write v4l2:/dev/video0, v4l2:0 or v4l2:/dev/v4l/by-id/NAME \
                     (`eyas doctor` lists what there is)"
                )));
            }
        };
        let defaults = Wish::default();
        let wish = Wish {
            size: options.size.unwrap_or(defaults.size),
            rate: match options.pace {
                Pace::Native => defaults.rate,
                Pace::Fps(rate) => rate,
                Pace::Unpaced => f64::INFINITY,
            },
        };
        Ok(Self::with(name, opener(path, wish)?, wish.size, PATIENT))
    }

    fn with(name: &str, open: Arc<Open>, wish: [usize; 2], patience: Patience) -> Self {
        let [first, last] = patience.retry;
        Self {
            name: name.into(),
            open,
            wish,
            patience,
            worker: None,
            stuck: None,
            retry: Retry::new(first, last),
            earlier: 0,
            seen: 0,
        }
    }

    /// Looks for an undamaged picture: cables and cameras damage one now and then.
    fn watch(&self, worker: &Worker) -> Seen {
        let deadline = Instant::now() + self.patience.look;
        let mut reason = "no frame for a second".to_owned();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match worker.look(left) {
                Look::Shot(shot, index) => match self.frame(shot, index) {
                    Ok(frame) => return Seen::Frame(frame),
                    Err(damage) => reason = damage,
                },
                Look::Silent(silence) => return Seen::Nothing(silence, reason),
                Look::Ended(failure) => return Seen::Ended(failure),
            }
            if left.is_zero() {
                return Seen::Nothing(Duration::ZERO, reason);
            }
        }
    }

    /// The frame of a shot; an error, in words, if the shot is damaged.
    fn frame(&self, shot: Shot, index: u64) -> std::result::Result<Frame, String> {
        let (captured, timestamp) = (shot.captured, shot.timestamp);
        let picture = decode::picture(shot, &self.name, self.wish)?;
        Ok(Frame {
            captured,
            timestamp,
            ..picture.into_frame(self.earlier + index, &self.name)
        })
    }

    /// Gives the worker up, which is silent, until the next attempt.
    fn give_up(&mut self, worker: Worker, silence: Duration) -> Next {
        worker.cancel();
        self.stuck = Some(worker);
        self.lost(format!(
            "no frame for {} seconds; unplug the camera and plug it in again if that goes on",
            silence.as_secs()
        ))
    }

    fn lost(&mut self, reason: String) -> Next {
        self.earlier = self.seen;
        self.retry.later(reason)
    }

    fn ended(&mut self, failure: Failure) -> Result<Next> {
        match failure {
            Failure::Lasting(reason) if self.seen == 0 => Err(source_error(&self.name, reason)),
            // The camera is in use by the worker that is stuck in it: that is not what anybody has to be told.
            _ if !self.may_give_up() => Ok(self.lost(self.retry.reason().into())),
            failure => Ok(self.lost(failure.reason())),
        }
    }

    /// Whether a worker that is silent would be the only one left behind.
    fn may_give_up(&self) -> bool {
        self.stuck.as_ref().is_none_or(Worker::has_ended)
    }
}

impl FrameSource for CameraSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn next(&mut self) -> Result<Next> {
        let worker = match self.worker.take() {
            Some(worker) => worker,
            None => match self.retry.wait() {
                Some(waiting) => return Ok(waiting),
                None => Worker::start(&self.name, self.open.clone())?,
            },
        };
        match self.watch(&worker) {
            Seen::Frame(frame) => {
                self.worker = Some(worker);
                self.retry.succeeded();
                self.seen = frame.index + 1;
                Ok(Next::Frame(frame))
            }
            Seen::Ended(failure) => self.ended(failure),
            Seen::Nothing(silence, _) if silence >= self.patience.stall && self.may_give_up() => {
                Ok(self.give_up(worker, silence))
            }
            Seen::Nothing(_, reason) => {
                self.worker = Some(worker);
                Ok(Next::NoSignal(reason))
            }
        }
    }

    fn is_live(&self) -> bool {
        true
    }
}

#[cfg(target_os = "linux")]
fn opener(path: String, wish: Wish) -> Result<Arc<Open>> {
    Ok(linux::opener(path, wish))
}

#[cfg(not(target_os = "linux"))]
fn opener(path: String, _: Wish) -> Result<Arc<Open>> {
    Err(source_error(
        &path,
        "cameras are read on Linux only; pass a file, a folder or a URL",
    ))
}

#[cfg(test)]
mod tests;
