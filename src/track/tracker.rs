//! Detections of one frame after another become tracks with ids.

use std::time::{Duration, Instant};

use super::assign::assign;
use super::motion::Motion;
use crate::detect::Detection;

/// So many objects are followed at once; while there are so many, no new track begins.
pub const MAX_TRACKS: usize = 128;
/// So many detections of a frame are looked at, the most confident ones.
const MAX_DETECTIONS: usize = 128;

/// What is found with less confidence says nothing, not even of what is followed already: ByteTrack's lower threshold.
pub const LEAST_CONFIDENCE: f32 = 0.1;

/// A track that is not found again for so long has ended. Where frames come slower, it is given some of them.
const PATIENCE: Duration = Duration::from_secs(2);
const PATIENT_FRAMES: f64 = 5.0;
/// So many times as long faint detections alone keep a track alive: somebody comes out from behind a shelf, and what falls
/// below a threshold that was raised is gone.
const FAINT_TIMES: u32 = 5;
/// The same for what has been found once: it becomes a track by being found again.
const SECOND_LOOK: Duration = Duration::from_millis(500);
const SECOND_LOOK_FRAMES: f64 = 2.0;
/// A longer gap between frames is no frame rate.
const LONGEST_INTERVAL: f64 = 10.0;

/// Least likeness of a detection to a track, to a track by a faint detection, and to what has been found once. ByteTrack
/// has these as 1 - 0.8, 1 - 0.5 and 1 - 0.7.
const LIKENESS: f64 = 0.2;
const FAINT_LIKENESS: f64 = 0.5;
const SECOND_LIKENESS: f64 = 0.3;

/// An object that is followed.
#[derive(Clone, Debug)]
pub struct Track {
    /// Counted from 1, and never used again. 0 for what has been found once and is no track yet.
    pub id: u64,
    /// The detection that was followed last.
    pub found: Detection,
    /// Capture time of the frame on which it was found first.
    pub first_seen: Instant,
    /// Capture time of the frame on which it was found last.
    pub last_seen: Instant,
    /// The same of the frame on which it was found last with confidence.
    last_confident: Instant,
    motion: Motion,
}

impl Track {
    fn new(found: &Detection, at: Instant) -> Self {
        Self {
            id: 0,
            found: found.clone(),
            first_seen: at,
            last_seen: at,
            last_confident: at,
            motion: Motion::new(&found.bounding_box),
        }
    }

    /// Whether it has been found twice.
    fn is_known(&self) -> bool {
        self.id > 0
    }

    fn follow(&mut self, found: &Detection, at: Instant) {
        self.found = found.clone();
        self.last_seen = at;
        self.motion.correct(&found.bounding_box);
    }

    fn likeness(&self, other: &Detection) -> f64 {
        if self.found.class_id == other.class_id && self.found.label == other.label {
            self.motion.likeness(&other.bounding_box)
        } else {
            0.0
        }
    }
}

/// Follows objects by the method of ByteTrack (Zhang et al., arXiv:2110.06864): each frame's detections are paired with
/// the places where the tracks are expected, first the confident ones, then, for tracks that found none, the faint ones.
///
/// Time is that of the frames' capture: their rate may change, and frames may be missing.
#[derive(Debug, Default)]
pub struct Tracker {
    tracks: Vec<Track>,
    ids: u64,
    /// Capture time of the newest frame.
    newest: Option<Instant>,
    /// Mean seconds between frames, of the last ones mostly.
    interval: Option<f64>,
}

impl Tracker {
    /// Follows a frame's detections, the most confident first, and writes the ids of their tracks into them. `faint`
    /// ones, below the threshold, keep a track alive and do not begin one. `at` is when the frame was captured, not
    /// before that of the frame before. Returns the tracks that have ended.
    pub fn update(
        &mut self,
        detections: &mut [Detection],
        faint: &[Detection],
        at: Instant,
    ) -> Vec<Track> {
        let ended = self.expire(at);
        let before = self.advance(at);
        let count = detections.len().min(MAX_DETECTIONS);
        let detections = &mut detections[..count];
        let mut free: Vec<usize> = (0..count).collect();
        for (least, sort) in [(LIKENESS, Sort::Known), (SECOND_LIKENESS, Sort::SeenOnce)] {
            for (track, index) in self.pair(sort, detections, &mut free, least) {
                self.tracks[track].follow(&detections[index], at);
                self.tracks[track].last_confident = at;
                detections[index].track_id = Some(self.identify(track));
            }
        }
        let faint = &faint[..faint.len().min(MAX_DETECTIONS)];
        let mut free_faint = (0..faint.len()).collect();
        let lately = Sort::LastSeen(before);
        for (track, index) in self.pair(lately, faint, &mut free_faint, FAINT_LIKENESS) {
            self.tracks[track].follow(&faint[index], at);
        }
        let room = MAX_TRACKS.saturating_sub(self.tracks.len());
        let begun = free.into_iter().take(room);
        self.tracks
            .extend(begun.map(|index| Track::new(&detections[index], at)));
        ended
    }

    /// Ends the tracks that have not been found for too long at this time. To be called now and then while no frame
    /// comes.
    pub fn expire(&mut self, at: Instant) -> Vec<Track> {
        let interval = self.interval.unwrap_or(0.0);
        let patience = PATIENCE.max(Duration::from_secs_f64(PATIENT_FRAMES * interval));
        let second_look = SECOND_LOOK.max(Duration::from_secs_f64(SECOND_LOOK_FRAMES * interval));
        let over = |track: &mut Track| {
            let limit = if track.is_known() {
                patience
            } else {
                second_look
            };
            let is_older = |seen, limit| at.saturating_duration_since(seen) > limit;
            is_older(track.last_seen, limit)
                || is_older(track.last_confident, FAINT_TIMES * patience)
        };
        let ended = self.tracks.extract_if(.., over);
        ended.filter(Track::is_known).collect()
    }

    /// Ends all tracks.
    pub fn clear(&mut self) -> Vec<Track> {
        let tracks = std::mem::take(&mut self.tracks);
        tracks.into_iter().filter(Track::is_known).collect()
    }

    /// The objects that are followed, those out of sight for a moment too.
    pub fn tracks(&self) -> impl Iterator<Item = &Track> {
        self.tracks.iter().filter(|track| track.is_known())
    }

    /// Moves everything on to the time of a frame. Returns the time of the frame before.
    fn advance(&mut self, at: Instant) -> Option<Instant> {
        let before = self.newest.replace(at);
        let gap = before.map_or(0.0, |before| {
            at.saturating_duration_since(before).as_secs_f64()
        });
        for track in &mut self.tracks {
            track.motion.predict(gap);
        }
        if before.is_some() {
            let gap = gap.min(LONGEST_INTERVAL);
            let mean = self.interval.unwrap_or(gap);
            self.interval = Some(mean + 0.2 * (gap - mean));
        }
        before
    }

    /// Pairs tracks of a sort, as indices, with detections out of `free`, which then lacks those that were paired.
    fn pair(
        &self,
        sort: Sort,
        detections: &[Detection],
        free: &mut Vec<usize>,
        least: f64,
    ) -> Vec<(usize, usize)> {
        let of_sort = |&index: &usize| sort.holds(&self.tracks[index]);
        let tracks: Vec<usize> = (0..self.tracks.len()).filter(of_sort).collect();
        let mut weights = Vec::with_capacity(tracks.len() * free.len());
        for &track in &tracks {
            let likeness = |&index: &usize| self.tracks[track].likeness(&detections[index]) - least;
            weights.extend(free.iter().map(likeness));
        }
        let partners = assign(&weights, tracks.len(), free.len());
        let pairs = tracks.into_iter().zip(partners);
        let pairs: Vec<_> = pairs
            .filter_map(|(track, partner)| Some((track, free[partner?])))
            .collect();
        free.retain(|index| pairs.iter().all(|(_, paired)| paired != index));
        pairs
    }

    /// The id of a track, a new one if it has none.
    fn identify(&mut self, track: usize) -> u64 {
        let track = &mut self.tracks[track];
        if !track.is_known() {
            self.ids += 1;
            track.id = self.ids;
        }
        track.id
    }
}

/// Tracks that are looked at together.
#[derive(Clone, Copy, Debug)]
enum Sort {
    Known,
    SeenOnce,
    /// Known, and found last on the frame of this time.
    LastSeen(Option<Instant>),
}

impl Sort {
    fn holds(self, track: &Track) -> bool {
        match self {
            Self::Known => track.is_known(),
            Self::SeenOnce => !track.is_known(),
            Self::LastSeen(at) => track.is_known() && Some(track.last_seen) == at,
        }
    }
}

#[cfg(test)]
mod tests;
