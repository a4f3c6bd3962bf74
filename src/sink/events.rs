//! One line of JSON for each scene.

use serde::Serialize;

use super::Scene;
use crate::detect::Detection;

/// What `detect --json`, `--events` and the live page say of one scene. Keys are part of the manual.
#[derive(Debug, Serialize)]
pub struct EventRecord<'a> {
    source: &'a str,
    frame: u64,
    /// RFC 3339, UTC, milliseconds.
    timestamp: String,
    width: usize,
    height: usize,
    inference_ms: f64,
    /// Boxes in pixels of the source picture.
    detections: &'a [Detection],
}

impl<'a> EventRecord<'a> {
    /// The record of a scene.
    pub fn new(scene: &'a Scene) -> Self {
        let frame = &scene.frame;
        Self {
            source: &frame.source,
            frame: frame.index,
            timestamp: humantime::format_rfc3339_millis(frame.timestamp).to_string(),
            width: frame.width,
            height: frame.height,
            inference_ms: (scene.inference.as_secs_f64() * 1e6).round() / 1e3,
            detections: &scene.detections,
        }
    }

    /// The record as one line, without the line break.
    pub fn to_line(&self) -> String {
        serde_json::to_string(self).expect("a record of strings and numbers is always JSON")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant, UNIX_EPOCH};

    use super::*;
    use crate::detect::BoundingBox;
    use crate::source::{Frame, PixelFormat, YuvRange};

    #[test]
    fn record_is_the_documented_line() {
        let frame = Frame {
            width: 640,
            height: 480,
            format: PixelFormat::Rgb,
            range: YuvRange::Full,
            data: vec![0; 640 * 480 * 3],
            index: 0,
            captured: Instant::now(),
            timestamp: UNIX_EPOCH + Duration::from_millis(1_767_225_600_000),
            source: "cat.jpg".into(),
        };
        let scene = Scene {
            frame: Arc::new(frame),
            detections: vec![Detection {
                label: "cat".into(),
                class_id: 16,
                confidence: 0.93,
                bounding_box: BoundingBox {
                    x_min: 12.0,
                    y_min: 30.5,
                    x_max: 200.1,
                    y_max: 310.0,
                },
            }],
            inference: Duration::from_micros(11_200),
        };
        assert_eq!(
            EventRecord::new(&scene).to_line(),
            concat!(
                r#"{"source":"cat.jpg","frame":0,"timestamp":"2026-01-01T00:00:00.000Z","width":640,"height":480,"#,
                r#""inference_ms":11.2,"detections":[{"label":"cat","class_id":16,"confidence":0.93,"#,
                r#""box":{"x_min":12.0,"y_min":30.5,"x_max":200.1,"y_max":310.0}}]}"#
            )
        );
    }
}
