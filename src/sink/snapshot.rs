//! Annotated JPEG files of scenes on which something was found.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::{Delivery, Scene, Sink, jpeg};
use crate::error::{Error, Result};

const INTERVAL: Duration = Duration::from_secs(1);
/// Older snapshots are deleted, so that the disk does not fill up.
const KEEP: usize = 1000;
const MAX_LABELS: usize = 4;
const MAX_LABEL_BYTES: usize = 32;
const PREFIX: &str = "eyas-";

/// Writes `eyas-<time>-<labels>.jpg` into a folder: at most one a second, the newest 1000 are kept. Files that are not
/// named so are left alone.
pub struct SnapshotSink {
    folder: PathBuf,
    last: Option<Instant>,
    /// Oldest first. The time in the names makes this their order.
    files: std::collections::VecDeque<PathBuf>,
    keep: usize,
}

impl SnapshotSink {
    /// Makes the folder if there is none.
    pub fn new(folder: &Path) -> Result<Self> {
        let name = folder.display();
        std::fs::create_dir_all(folder).map_err(Error::io(format!("make the folder {name}")))?;
        let entries =
            std::fs::read_dir(folder).map_err(Error::io(format!("read the folder {name}")))?;
        let mut files: Vec<PathBuf> = entries
            .flatten()
            .filter(|entry| is_snapshot(&entry.file_name().to_string_lossy()))
            .map(|entry| entry.path())
            .collect();
        files.sort();
        Ok(Self {
            folder: folder.into(),
            last: None,
            files: files.into(),
            keep: KEEP,
        })
    }

    fn write(&mut self, scene: &Scene) -> Result<()> {
        let path = self.folder.join(file_name(scene));
        let part = path.with_extension("part");
        let name = path.display();
        std::fs::write(&part, jpeg::annotated(scene)?)
            .map_err(Error::io(format!("write {}", part.display())))?;
        std::fs::rename(&part, &path).map_err(Error::io(format!("write {name}")))?;
        self.files.push_back(path);
        while self.files.len() > self.keep {
            if let Some(oldest) = self.files.pop_front() {
                // Somebody else may have deleted it.
                let _ = std::fs::remove_file(oldest);
            }
        }
        Ok(())
    }
}

impl Sink for SnapshotSink {
    fn name(&self) -> &str {
        "snapshots"
    }

    fn delivery(&self) -> Delivery {
        Delivery::Newest
    }

    fn consume(&mut self, scene: &Arc<Scene>) -> Result<()> {
        let soon = self.last.is_some_and(|last| last.elapsed() < INTERVAL);
        if scene.detections.is_empty() || soon {
            return Ok(());
        }
        self.last = Some(Instant::now());
        self.write(scene)
    }
}

fn is_snapshot(name: &str) -> bool {
    name.starts_with(PREFIX) && name.ends_with(".jpg")
}

/// The time of writing in UTC, then the labels found. Characters that some file system refuses become `_`.
fn file_name(scene: &Scene) -> String {
    let time = humantime::format_rfc3339_millis(SystemTime::now())
        .to_string()
        .replace(':', "");
    let mut labels: Vec<&str> = Vec::new();
    for detection in &scene.detections {
        if !labels.contains(&&*detection.label) {
            labels.push(&detection.label);
        }
    }
    let mut name = format!("{PREFIX}{time}");
    for label in labels.iter().take(MAX_LABELS) {
        let mut plain = String::new();
        for c in label.chars() {
            let c = if c.is_alphanumeric() { c } else { '_' };
            if plain.len() + c.len_utf8() > MAX_LABEL_BYTES {
                break;
            }
            plain.push(c);
        }
        name.push('-');
        name.push_str(&plain);
    }
    name + ".jpg"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::{BoundingBox, Detection};
    use crate::source::{Frame, PixelFormat, YuvRange};

    fn scene(labels: &[&str]) -> Arc<Scene> {
        let frame = Frame {
            width: 16,
            height: 8,
            format: PixelFormat::Rgb,
            range: YuvRange::Full,
            data: vec![9; 16 * 8 * 3],
            index: 0,
            captured: Instant::now(),
            timestamp: SystemTime::now(),
            source: "test".into(),
        };
        let detections = labels.iter().map(|&label| Detection {
            label: label.into(),
            class_id: 0,
            confidence: 0.5,
            bounding_box: BoundingBox {
                x_min: 1.0,
                y_min: 1.0,
                x_max: 9.0,
                y_max: 7.0,
            },
        });
        Arc::new(Scene {
            frame: Arc::new(frame),
            detections: detections.collect(),
            classes: Vec::new(),
            inference: Duration::ZERO,
        })
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn something_seen_is_written_once_a_second() {
        let folder = tempfile::tempdir().unwrap();
        let mut sink = SnapshotSink::new(&folder.path().join("deep/er")).unwrap();
        sink.consume(&scene(&[])).unwrap();
        assert!(names(&sink.folder).is_empty());
        sink.consume(&scene(&["../cat", "dog", "dog"])).unwrap();
        sink.consume(&scene(&["dog"])).unwrap();
        let names = names(&sink.folder);
        assert_eq!(names.len(), 1, "{names:?}");
        assert!(names[0].starts_with("eyas-20"), "{names:?}");
        assert!(names[0].ends_with("Z-___cat-dog.jpg"), "{names:?}");
        let bytes = std::fs::read(sink.folder.join(&names[0])).unwrap();
        let picture = image::load_from_memory(&bytes).unwrap();
        assert_eq!((picture.width(), picture.height()), (16, 8));
    }

    #[test]
    fn oldest_are_deleted_and_strangers_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["eyas-1999-a.jpg", "eyas-1998-b.jpg", "aaa.jpg"] {
            std::fs::write(folder.path().join(name), "x").unwrap();
        }
        let mut sink = SnapshotSink::new(folder.path()).unwrap();
        sink.keep = 2;
        sink.consume(&scene(&["cat"])).unwrap();
        let names = names(folder.path());
        assert_eq!(names.len(), 3, "{names:?}");
        assert!(names.contains(&"eyas-1999-a.jpg".into()) && names.contains(&"aaa.jpg".into()));
    }
}
