//! Objects followed from frame to frame, and the zones that they come into and leave.
//!
//! [`Watch`] is the whole of it: `rules` say which detections count, `tracker` follows them (`motion` says where they will
//! be, `assign` who is who), `ledger` turns tracks and zones into events and counts. No threads, no clock: time is that of
//! the frames.

mod assign;
mod event;
mod ledger;
mod motion;
mod rules;
mod tracker;
mod watch;
mod zone;

pub use event::{EventKind, TrackEvent};
pub use rules::{Rules, SharedRules, SizeLimits};
pub use tracker::{LEAST_CONFIDENCE, Track, Tracker};
pub use watch::{Observed, Watch};
pub use zone::{Zone, ZoneKind};
