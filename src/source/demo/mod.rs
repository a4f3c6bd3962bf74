//! The demo scene: what there is to see without a camera, and a picture whose truth is known.
//!
//! [`Scene`] draws; `things` says what lies on the table, `motion` how it moves, `camera` where the picture shows it,
//! `texture` and `canvas` put pixels there, `table` is the ground. Only arithmetic that every machine rounds alike is
//! used, so that a frame is the same everywhere.

mod camera;
mod canvas;
mod motion;
mod scene;
mod table;
mod texture;
mod things;

pub use scene::{Code, Scene};

use std::sync::Arc;

use super::open::{Pace, SourceOptions};
use super::stream::Pacer;
use super::{FrameSource, Next, Picture, PixelFormat, YuvRange};
use crate::error::Result;

const DEFAULT_SIZE: [usize; 2] = [640, 480];
/// Frames a second that the scene's motion is made for.
const NATIVE_RATE: f64 = 15.0;

/// The scene frame by frame, without end.
pub(super) struct DemoSource {
    name: Arc<str>,
    scene: Scene,
    size: [usize; 2],
    pace: Pace,
    pacer: Pacer,
    index: u64,
}

impl DemoSource {
    pub(super) fn new(options: SourceOptions) -> Result<Self> {
        let size = options.size.unwrap_or(DEFAULT_SIZE);
        Ok(Self {
            name: "demo".into(),
            scene: Scene::new(size)?,
            size,
            pace: options.pace,
            pacer: Pacer::new(),
            index: 0,
        })
    }
}

impl FrameSource for DemoSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn next(&mut self) -> Result<Next> {
        let picture = Picture {
            width: self.size[0],
            height: self.size[1],
            format: PixelFormat::Rgb,
            range: YuvRange::Full,
            data: self.scene.draw(self.index),
        };
        match self.pace {
            Pace::Native => self.pacer.wait(NATIVE_RATE),
            Pace::Fps(fps) => self.pacer.wait(fps),
            Pace::Unpaced => {}
        }
        self.index += 1;
        Ok(Next::Frame(picture.into_frame(self.index - 1, &self.name)))
    }

    fn is_live(&self) -> bool {
        self.pace != Pace::Unpaced
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_counted_and_sized_and_go_on() {
        let mut source = DemoSource::new(SourceOptions {
            size: Some([80, 60]),
            pace: Pace::Unpaced,
            ..Default::default()
        })
        .unwrap();
        assert!(!source.is_live());
        for index in 0..3 {
            let Next::Frame(frame) = source.next().unwrap() else {
                panic!()
            };
            assert_eq!((frame.index, &*frame.source), (index, "demo"));
            assert_eq!((frame.width, frame.height), (80, 60));
            assert_eq!(frame.data, source.scene.draw(index));
        }
    }

    #[test]
    fn at_a_rate_only_the_newest_frame_counts() {
        let source = DemoSource::new(SourceOptions::default()).unwrap();
        assert!(source.is_live());
        assert_eq!(source.size, [640, 480]);
    }
}
