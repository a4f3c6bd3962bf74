//! What happens to a track, as it is told to programs.

use std::sync::Arc;
use std::time::SystemTime;

use serde::{Serialize, Serializer};

use crate::detect::BoundingBox;

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// An object is followed from now on.
    New,
    /// It is still there: once a second while it is found.
    Update,
    /// It is gone.
    End,
    /// It has come into a zone.
    Enter,
    /// It has left a zone, or ended in it.
    Leave,
    /// It has been in a zone for as long as the zone says.
    Dwell,
}

/// A line of `--track-events`. Keys are part of the manual.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrackEvent {
    pub event: EventKind,
    /// RFC 3339, UTC, milliseconds.
    #[serde(serialize_with = "rfc3339")]
    pub timestamp: SystemTime,
    /// As in the lines of `--events`.
    pub source: Arc<str>,
    /// Of the picture, which the box counts in.
    pub width: usize,
    pub height: usize,
    pub track_id: u64,
    pub label: Arc<str>,
    pub class_id: usize,
    /// Of the detection that was followed last, in `[0, 1]`.
    pub confidence: f32,
    /// Where it was found last.
    #[serde(rename = "box")]
    pub bounding_box: BoundingBox,
    /// The names of the zones that it is in now.
    pub zones: Vec<Arc<str>>,
    /// The zone that `enter`, `leave` and `dwell` tell of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<Arc<str>>,
    /// From its first detection to its last one; for events of zones, from its coming in.
    pub seconds: f64,
}

impl TrackEvent {
    /// The event as one line of JSON, without the line break.
    pub fn to_line(&self) -> String {
        serde_json::to_string(self).expect("an event of strings and numbers is always JSON")
    }
}

fn rfc3339<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_rfc3339_millis(*time))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn lines_are_as_documented() {
        let event = TrackEvent {
            event: EventKind::Dwell,
            timestamp: UNIX_EPOCH + Duration::from_millis(1_767_225_600_000),
            source: "v4l2:0".into(),
            width: 640,
            height: 480,
            track_id: 7,
            label: "person".into(),
            class_id: 0,
            confidence: 0.93,
            bounding_box: BoundingBox {
                x_min: 12.0,
                y_min: 30.5,
                x_max: 200.1,
                y_max: 310.0,
            },
            zones: vec!["drive".into()],
            zone: Some("drive".into()),
            seconds: 10.2,
        };
        let line = concat!(
            r#"{"event":"dwell","timestamp":"2026-01-01T00:00:00.000Z","source":"v4l2:0","width":640,"height":480,"#,
            r#""track_id":7,"label":"person","class_id":0,"confidence":0.93,"#,
            r#""box":{"x_min":12.0,"y_min":30.5,"x_max":200.1,"y_max":310.0},"#,
            r#""zones":["drive"],"zone":"drive","seconds":10.2}"#
        );
        assert_eq!(event.to_line(), line);
        let plain = TrackEvent {
            event: EventKind::New,
            zone: None,
            ..event
        };
        assert!(plain.to_line().starts_with(r#"{"event":"new","#));
        assert!(!plain.to_line().contains(r#""zone":"#));
    }
}
