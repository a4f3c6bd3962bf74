//! Where results go.

pub mod draw;
pub mod events;
pub mod gpio;
pub mod jpeg;
mod lines;
pub mod mqtt;
pub mod snapshot;
pub mod track_events;
pub mod web;
pub mod window;

use std::sync::Arc;
use std::time::Duration;

use crate::detect::{Classification, Detection};
use crate::error::Result;
use crate::source::Frame;
use crate::track::{TrackEvent, Zone};

/// A frame with what was found on it.
#[derive(Clone, Debug)]
pub struct Scene {
    pub frame: Arc<Frame>,
    pub detections: Vec<Detection>,
    /// What has happened to tracks since the scene before.
    pub events: Vec<TrackEvent>,
    /// The zones that held.
    pub zones: Arc<[Zone]>,
    /// The best classes of the whole picture, of a classifier.
    pub classes: Vec<Classification>,
    /// Time that the engine took, without preprocessing and decoding.
    pub inference: Duration,
}

impl Scene {
    /// A scene in which nothing is followed and that is not classified.
    pub fn new(frame: Arc<Frame>, detections: Vec<Detection>, inference: Duration) -> Self {
        Self {
            frame,
            detections,
            classes: Vec::new(),
            events: Vec::new(),
            zones: Arc::default(),
            inference,
        }
    }
}

/// Which scenes a sink gets when it is slower than detection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The newest; those between are skipped.
    Newest,
    /// All, through a bounded queue; when it is full the oldest is dropped and counted.
    Every,
}

/// Someone who is told of every scene, on a thread of its own: a slow sink never slows detection.
pub trait Sink: Send {
    /// For messages and metrics.
    fn name(&self) -> &str;

    fn delivery(&self) -> Delivery;

    /// Takes one scene. An error is logged once and counted; the next scene is offered all the same.
    fn consume(&mut self, scene: &Arc<Scene>) -> Result<()>;

    /// Tracks have ended, and left their zones, while no new frame came. Only told to sinks of [`Delivery::Every`].
    /// Errors count as those of [`Sink::consume`].
    fn tracks_ended(&mut self, events: &[TrackEvent]) -> Result<()> {
        let _ = events;
        Ok(())
    }
}
