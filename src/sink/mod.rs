//! Where results go.

pub mod draw;
pub mod events;
pub mod jpeg;
pub mod snapshot;
pub mod web;

use std::sync::Arc;
use std::time::Duration;

use crate::detect::{Classification, Detection};
use crate::error::Result;
use crate::source::Frame;

/// A frame with what was found on it.
#[derive(Clone, Debug)]
pub struct Scene {
    pub frame: Arc<Frame>,
    pub detections: Vec<Detection>,
    /// The best classes of the whole picture, of a classifier.
    pub classes: Vec<Classification>,
    /// Time that the engine took, without preprocessing and decoding.
    pub inference: Duration,
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
}
