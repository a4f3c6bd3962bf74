//! How many objects are followed, in the picture and in its zones.

use std::sync::Arc;

use serde::Serialize;

/// Counts of a run, by label and by zone, in the order of their names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ObjectCounts {
    pub tracks: Vec<TrackCount>,
    pub zones: Vec<ZoneCount>,
}

/// Objects with one label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TrackCount {
    pub label: Arc<str>,
    /// Followed now.
    pub now: usize,
    /// Followed since the start.
    pub total: u64,
}

/// Objects with one label in one zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ZoneCount {
    pub zone: Arc<str>,
    pub label: Arc<str>,
    /// In it now.
    pub now: usize,
    /// How often one has come in since the start.
    pub total: u64,
}
