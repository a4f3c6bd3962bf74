//! One line of JSON for each scene.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use super::lines::Lines;
use super::{Delivery, Scene, Sink};
use crate::detect::{Classification, Detection};
use crate::error::Result;

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
    /// The best classes of the whole picture; only classifiers have the key.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    classes: &'a [Classification],
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
            classes: &scene.classes,
        }
    }

    /// The record as one line, without the line break.
    pub fn to_line(&self) -> String {
        serde_json::to_string(self).expect("a record of strings and numbers is always JSON")
    }
}

/// Writes a line for each scene, at once.
pub struct EventsSink(Lines);

impl EventsSink {
    /// Writes to `writer`. When its reader is gone (a closed pipe), `on_closed` is called instead of an error.
    pub fn new(
        writer: Box<dyn Write + Send>,
        target: impl Into<String>,
        on_closed: impl Fn() + Send + 'static,
    ) -> Self {
        Self(Lines::new(writer, target, on_closed))
    }

    /// Writes to the end of a file, or to standard output if `target` is `-`.
    pub fn open(target: &Path, on_closed: impl Fn() + Send + 'static) -> Result<Self> {
        Lines::open(target, on_closed).map(Self)
    }
}

impl Sink for EventsSink {
    fn name(&self) -> &str {
        "events"
    }

    fn delivery(&self) -> Delivery {
        Delivery::Every
    }

    fn consume(&mut self, scene: &Arc<Scene>) -> Result<()> {
        self.0.write(&(EventRecord::new(scene).to_line() + "\n"))
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::time::{Duration, Instant, UNIX_EPOCH};

    use super::*;
    use crate::detect::BoundingBox;
    use crate::source::{Frame, PixelFormat, YuvRange};

    fn scene() -> Scene {
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
        Scene::new(
            Arc::new(frame),
            vec![Detection {
                label: "cat".into(),
                class_id: 16,
                confidence: 0.93,
                bounding_box: BoundingBox {
                    x_min: 12.0,
                    y_min: 30.5,
                    x_max: 200.1,
                    y_max: 310.0,
                },
                track_id: None,
            }],
            Duration::from_micros(11_200),
        )
    }

    #[test]
    fn record_is_the_documented_line() {
        let scene = scene();
        assert_eq!(
            EventRecord::new(&scene).to_line(),
            concat!(
                r#"{"source":"cat.jpg","frame":0,"timestamp":"2026-01-01T00:00:00.000Z","width":640,"height":480,"#,
                r#""inference_ms":11.2,"detections":[{"label":"cat","class_id":16,"confidence":0.93,"#,
                r#""box":{"x_min":12.0,"y_min":30.5,"x_max":200.1,"y_max":310.0}}]}"#
            )
        );
    }

    #[test]
    fn classes_of_the_picture_follow() {
        let mut scene = scene();
        scene.detections.clear();
        scene.classes.push(Classification {
            label: "cat".into(),
            class_id: 281,
            confidence: 0.5,
        });
        let line = EventRecord::new(&scene).to_line();
        let expected =
            r#""detections":[],"classes":[{"label":"cat","class_id":281,"confidence":0.5}]}"#;
        assert!(line.ends_with(expected), "{line}");
    }

    #[test]
    fn lines_are_appended_to_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        for _ in 0..2 {
            let mut sink = EventsSink::open(&path, || panic!("closed")).unwrap();
            sink.consume(&Arc::new(scene())).unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let line = EventRecord::new(&scene()).to_line();
        assert_eq!(text, format!("{line}\n{line}\n"));
        let error = EventsSink::open(folder.path(), || ()).err().unwrap();
        assert!(error.to_string().contains("for events"), "{error}");
    }

    #[test]
    fn closed_pipe_is_told_and_no_error() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let closed = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let told = closed.clone();
        let tell = move || told.store(true, std::sync::atomic::Ordering::Relaxed);
        let mut sink = EventsSink::new(Box::new(writer), "pipe", tell);
        sink.consume(&Arc::new(scene())).unwrap();
        assert!(closed.load(std::sync::atomic::Ordering::Relaxed));
    }
}
