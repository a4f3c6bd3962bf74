//! One line of JSON for whatever happens to a track.

use std::path::Path;
use std::sync::Arc;

use super::lines::Lines;
use super::{Delivery, Scene, Sink};
use crate::error::Result;
use crate::track::TrackEvent;

/// Writes a line for each event of a track, at once.
pub struct TrackEventsSink(Lines);

impl TrackEventsSink {
    /// Writes to the end of a file, or to standard output if `target` is `-`. When its reader is gone (a closed pipe),
    /// `on_closed` is called instead of an error.
    pub fn open(target: &Path, on_closed: impl Fn() + Send + 'static) -> Result<Self> {
        Lines::open(target, on_closed).map(Self)
    }
}

impl Sink for TrackEventsSink {
    fn name(&self) -> &str {
        "track-events"
    }

    fn delivery(&self) -> Delivery {
        Delivery::Every
    }

    fn consume(&mut self, scene: &Arc<Scene>) -> Result<()> {
        self.tracks_ended(&scene.events)
    }

    fn tracks_ended(&mut self, events: &[TrackEvent]) -> Result<()> {
        if events.is_empty() {
            return Ok(());
        }
        let lines: String = events.iter().map(|event| event.to_line() + "\n").collect();
        self.0.write(&lines)
    }
}
