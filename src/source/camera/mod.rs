//! V4L2 cameras: USB, HDMI adapters, what else has a `/dev/video` node.
//!
//! [`worker`] reads on a thread of its own and keeps the newest picture only; [`CameraSource`] looks at it from
//! outside. A camera that fails, falls silent or is unplugged is a state that is tried again, never an end.

mod decode;
mod device;
#[cfg(target_os = "linux")]
mod linux;
mod mode;
mod node;
mod worker;

pub use mode::{Encoding, Interval, Offer, Size};
pub use node::{Capability, Node, Verdict};

use std::sync::Arc;
use std::time::Duration;

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
    patience: Patience,
    worker: Option<Worker>,
    /// A worker that the driver does not let go. There is never a second.
    stuck: Option<Worker>,
    retry: Retry,
    /// Shots of workers before the present one.
    earlier: u64,
    index: u64,
    has_shown: bool,
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
        Ok(Self::with(name, opener(path, wish)?, PATIENT))
    }

    fn with(name: &str, open: Arc<Open>, patience: Patience) -> Self {
        let [first, last] = patience.retry;
        Self {
            name: name.into(),
            open,
            patience,
            worker: None,
            stuck: None,
            retry: Retry::new(first, last),
            earlier: 0,
            index: 0,
            has_shown: false,
        }
    }

    /// A frame, or no signal if the shot is damaged.
    fn frame(&mut self, shot: Shot, index: u64) -> Next {
        self.index = self.earlier + index;
        let (captured, timestamp) = (shot.captured, shot.timestamp);
        let picture = match decode::picture(shot, &self.name) {
            Ok(picture) => picture,
            Err(reason) => {
                log::debug!("{}: {reason}", self.name);
                return Next::NoSignal(reason);
            }
        };
        self.retry.succeeded();
        self.has_shown = true;
        Next::Frame(Frame {
            captured,
            timestamp,
            ..picture.into_frame(self.index, &self.name)
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
        self.earlier = self.index + u64::from(self.has_shown);
        self.retry.later(reason)
    }

    fn ended(&mut self, failure: Failure) -> Result<Next> {
        match failure {
            Failure::Lasting(reason) if !self.has_shown => Err(source_error(&self.name, reason)),
            failure => Ok(self.lost(failure.reason())),
        }
    }

    /// Begins to read the camera again if it is time. `None` if a worker reads.
    fn restart(&mut self) -> Result<Option<Next>> {
        if self.stuck.as_ref().is_some_and(Worker::has_ended) {
            self.stuck = None;
        }
        if let Some(waiting) = self.retry.wait() {
            return Ok(Some(waiting));
        }
        self.worker = Some(Worker::start(&self.name, self.open.clone())?);
        Ok(None)
    }
}

impl FrameSource for CameraSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn next(&mut self) -> Result<Next> {
        if self.worker.is_none()
            && let Some(next) = self.restart()?
        {
            return Ok(next);
        }
        let Some(worker) = self.worker.take() else {
            return Ok(Next::NoSignal("not open".into()));
        };
        match worker.look(self.patience.look) {
            Look::Shot(shot, index) => {
                self.worker = Some(worker);
                Ok(self.frame(shot, index))
            }
            Look::Ended(failure) => self.ended(failure),
            // With one thread left behind already, a second silent one is waited for.
            Look::Silent(silence) if silence >= self.patience.stall && self.stuck.is_none() => {
                Ok(self.give_up(worker, silence))
            }
            Look::Silent(_) => {
                self.worker = Some(worker);
                Ok(Next::NoSignal("no frame for a second".into()))
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
