//! What tracks do, as events and as counts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::event::{EventKind, TrackEvent};
use super::tracker::Track;
use super::zone::Zone;
use crate::telemetry::objects::{ObjectCounts, TrackCount, ZoneCount};

/// Between two updates of a track.
const UPDATE_INTERVAL: Duration = Duration::from_secs(1);
/// An object has left a zone once it has been found outside for so long: boxes tremble at the border.
const LEAVE_AFTER: Duration = Duration::from_secs(1);

/// When and where events happen.
#[derive(Clone, Debug)]
pub(super) struct Moment {
    pub at: Instant,
    pub timestamp: SystemTime,
    pub source: Arc<str>,
    /// Width and height of the picture.
    pub size: [usize; 2],
}

/// A stay of an object in a zone.
#[derive(Clone, Debug)]
struct Visit {
    zone: Arc<str>,
    since: Instant,
    /// When it was last found inside.
    inside: Instant,
    dwells: bool,
}

impl Visit {
    fn stay(&self) -> Duration {
        self.inside.saturating_duration_since(self.since)
    }
}

/// A track that has been told of.
#[derive(Debug)]
struct Followed {
    label: Arc<str>,
    visits: Vec<Visit>,
    /// When it was last told that it is there.
    told: Instant,
}

impl Followed {
    /// Enters that it is in a zone now; the visit if it begins with that.
    fn come_into(&mut self, zone: &Zone, now: &Moment) -> Option<Visit> {
        if let Some(visit) = self.visits.iter_mut().find(|visit| visit.zone == zone.name) {
            visit.inside = now.at;
            return None;
        }
        self.visits.push(Visit {
            zone: zone.name.clone(),
            since: now.at,
            inside: now.at,
            dwells: false,
        });
        self.visits.last().cloned()
    }

    /// Ends the visits to zones that it is not in any more, or that are none any more.
    fn leave(&mut self, zones: &[Zone], now: &Moment) -> Vec<Visit> {
        let is_over = |visit: &mut Visit| {
            now.at.saturating_duration_since(visit.inside) >= LEAVE_AFTER
                || zones.iter().all(|zone| zone.name != visit.zone)
        };
        self.visits.extract_if(.., is_over).collect()
    }

    /// The visits that have become long just now.
    fn dwell(&mut self, zones: &[Zone]) -> Vec<Visit> {
        let mut long = Vec::new();
        for visit in self.visits.iter_mut().filter(|visit| !visit.dwells) {
            let zone = zones.iter().find(|zone| zone.name == visit.zone);
            let limit = zone.and_then(|zone| zone.dwell);
            visit.dwells = limit.is_some_and(|limit| visit.stay() >= limit);
            long.extend(visit.dwells.then(|| visit.clone()));
        }
        long
    }

    fn is_update_due(&mut self, now: &Moment) -> bool {
        let due = now.at.saturating_duration_since(self.told) >= UPDATE_INTERVAL;
        if due {
            self.told = now.at;
        }
        due
    }

    fn event(
        &self,
        event: EventKind,
        track: &Track,
        now: &Moment,
        visit: Option<&Visit>,
    ) -> TrackEvent {
        let time = match visit {
            Some(visit) => visit.stay(),
            None => track.last_seen.saturating_duration_since(track.first_seen),
        };
        let found = &track.found;
        TrackEvent {
            event,
            timestamp: now.timestamp,
            source: now.source.clone(),
            width: now.size[0],
            height: now.size[1],
            track_id: track.id,
            label: found.label.clone(),
            class_id: found.class_id,
            confidence: found.confidence,
            bounding_box: found.bounding_box,
            zones: self.visits.iter().map(|visit| visit.zone.clone()).collect(),
            zone: visit.map(|visit| visit.zone.clone()),
            seconds: (time.as_secs_f64() * 1e3).round() / 1e3,
        }
    }
}

/// Everything that is followed, and how much there has been.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    followed: BTreeMap<u64, Followed>,
    /// Tracks by label.
    begun: BTreeMap<Arc<str>, u64>,
    /// Visits by zone and label.
    entries: BTreeMap<(Arc<str>, Arc<str>), u64>,
}

impl Ledger {
    /// Enters that a track was found, and tells what follows from it.
    pub fn found(
        &mut self,
        track: &Track,
        zones: &[Zone],
        now: &Moment,
        events: &mut Vec<TrackEvent>,
    ) {
        let label = &track.found.label;
        let is_new = !self.followed.contains_key(&track.id);
        let followed = self.followed.entry(track.id).or_insert_with(|| Followed {
            label: label.clone(),
            visits: Vec::new(),
            told: now.at,
        });
        if is_new {
            *self.begun.entry(label.clone()).or_default() += 1;
            events.push(followed.event(EventKind::New, track, now, None));
        }
        for zone in zones
            .iter()
            .filter(|zone| zone.holds(&track.found, now.size))
        {
            if let Some(visit) = followed.come_into(zone, now) {
                let key = (zone.name.clone(), label.clone());
                *self.entries.entry(key).or_default() += 1;
                events.push(followed.event(EventKind::Enter, track, now, Some(&visit)));
            }
        }
        for visit in followed.leave(zones, now) {
            events.push(followed.event(EventKind::Leave, track, now, Some(&visit)));
        }
        for visit in followed.dwell(zones) {
            events.push(followed.event(EventKind::Dwell, track, now, Some(&visit)));
        }
        if followed.is_update_due(now) {
            events.push(followed.event(EventKind::Update, track, now, None));
        }
    }

    /// Strikes a track out that has ended, and tells that it has left its zones.
    pub fn ended(&mut self, track: &Track, now: &Moment, events: &mut Vec<TrackEvent>) {
        let Some(mut followed) = self.followed.remove(&track.id) else {
            return;
        };
        while let Some(visit) = followed.visits.pop() {
            events.push(followed.event(EventKind::Leave, track, now, Some(&visit)));
        }
        events.push(followed.event(EventKind::End, track, now, None));
    }

    /// Forgets the counts of zones that are none any more.
    pub fn keep_zones(&mut self, zones: &[Zone]) {
        self.entries
            .retain(|(name, _), _| zones.iter().any(|zone| zone.name == *name));
    }

    /// How much there is and has been.
    pub fn counts(&self) -> ObjectCounts {
        let followed = || self.followed.values();
        let tracks = self.begun.iter().map(|(label, &total)| TrackCount {
            label: label.clone(),
            now: followed().filter(|one| one.label == *label).count(),
            total,
        });
        let zones = self.entries.iter().map(|((zone, label), &total)| {
            let of_label = followed().filter(|one| one.label == *label);
            let visits = of_label.flat_map(|one| &one.visits);
            ZoneCount {
                zone: zone.clone(),
                label: label.clone(),
                now: visits.filter(|visit| visit.zone == *zone).count(),
                total,
            }
        });
        ObjectCounts {
            tracks: tracks.collect(),
            zones: zones.collect(),
        }
    }
}
