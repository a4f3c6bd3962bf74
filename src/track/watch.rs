//! Everything that is done with the detections of a frame before anybody is told of them.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::event::{EventKind, TrackEvent};
use super::ledger::{Ledger, Moment};
use super::rules::{Rules, SharedRules};
use super::tracker::{Track, Tracker};
use super::zone::Zone;
use crate::detect::Detection;
use crate::source::Frame;
use crate::telemetry::objects::ObjectCounts;

/// What is left of a frame's detections, and what they mean.
#[derive(Clone, Debug)]
pub struct Observed {
    /// Those that the rules allow, with the ids of their tracks.
    pub detections: Vec<Detection>,
    pub events: Vec<TrackEvent>,
    /// The zones that held.
    pub zones: Arc<[Zone]>,
    /// How many objects there are, if that has changed.
    pub counts: Option<ObjectCounts>,
}

/// Sifts detections by the rules and follows what is left. The default allows everything and follows nothing.
#[derive(Debug, Default)]
pub struct Watch {
    rules: SharedRules,
    tracker: Option<Tracker>,
    ledger: Ledger,
    /// Those of the frame before.
    last_rules: Arc<Rules>,
    last_frame: Option<Picture>,
}

/// What events say of a frame.
#[derive(Clone, Debug)]
struct Picture {
    source: Arc<str>,
    size: [usize; 2],
}

impl Watch {
    /// Sifts by the rules, and follows.
    pub fn following(rules: SharedRules) -> Self {
        Self {
            tracker: Some(Tracker::default()),
            ..Self::sifting(rules)
        }
    }

    /// Only sifts by the rules.
    pub fn sifting(rules: SharedRules) -> Self {
        Self {
            rules,
            ..Self::default()
        }
    }

    /// Looks at a frame's detections, the most confident first, and at those below the threshold.
    pub fn look(
        &mut self,
        frame: &Frame,
        mut detections: Vec<Detection>,
        mut faint: Vec<Detection>,
    ) -> Observed {
        let rules = self.rules.get();
        let size = [frame.width, frame.height];
        detections.retain(|found| rules.allow(found, size));
        faint.retain(|found| rules.allow(found, size));
        let events = self.follow(frame, &rules, &mut detections, &faint);
        let new_rules = !Arc::ptr_eq(&rules, &self.last_rules);
        if new_rules {
            self.ledger.keep_zones(&rules.zones);
            self.last_rules = rules.clone();
        }
        let counted = events.iter().any(|event| event.event != EventKind::Update);
        Observed {
            detections,
            counts: (new_rules || counted).then(|| self.ledger.counts()),
            events,
            zones: rules.zones.clone(),
        }
    }

    /// Ends the tracks that have been gone for too long, to be called now and then while no frame comes.
    pub fn idle(&mut self, at: Instant) -> Vec<TrackEvent> {
        let ended = self.tracker.as_mut().map(|tracker| tracker.expire(at));
        self.tell_ends(ended.unwrap_or_default(), at)
    }

    /// Ends all tracks, as no more frames come.
    pub fn end(&mut self) -> Vec<TrackEvent> {
        let ended = self.tracker.as_mut().map(Tracker::clear);
        self.tell_ends(ended.unwrap_or_default(), Instant::now())
    }

    /// How many objects there are and have been.
    pub fn counts(&self) -> ObjectCounts {
        self.ledger.counts()
    }

    fn follow(
        &mut self,
        frame: &Frame,
        rules: &Rules,
        detections: &mut [Detection],
        faint: &[Detection],
    ) -> Vec<TrackEvent> {
        let picture = Picture {
            source: frame.source.clone(),
            size: [frame.width, frame.height],
        };
        // Boxes are in pixels: those of a picture of another size say nothing here.
        let resized = self
            .last_frame
            .as_ref()
            .is_some_and(|last| last.size != picture.size);
        let mut events = if resized { self.end() } else { Vec::new() };
        let Some(tracker) = &mut self.tracker else {
            return events;
        };
        let ended = tracker.update(detections, faint, frame.captured);
        let now = picture.at(frame.captured, frame.timestamp);
        for track in &ended {
            self.ledger.ended(track, &now, &mut events);
        }
        for track in tracker
            .tracks()
            .filter(|track| track.last_seen == frame.captured)
        {
            self.ledger.found(track, &rules.zones, &now, &mut events);
        }
        self.last_frame = Some(picture);
        events
    }

    fn tell_ends(&mut self, ended: Vec<Track>, at: Instant) -> Vec<TrackEvent> {
        let mut events = Vec::new();
        if let Some(picture) = &self.last_frame {
            let now = picture.at(at, SystemTime::now());
            for track in &ended {
                self.ledger.ended(track, &now, &mut events);
            }
        }
        events
    }
}

impl Picture {
    fn at(&self, at: Instant, timestamp: SystemTime) -> Moment {
        Moment {
            at,
            timestamp,
            source: self.source.clone(),
            size: self.size,
        }
    }
}

#[cfg(test)]
mod tests;
