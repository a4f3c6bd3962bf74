//! Objects followed from frame to frame, and the zones that they come into and leave.

mod event;

pub use event::{EventKind, TrackEvent};
