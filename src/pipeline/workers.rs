//! What each thread of the pipeline does.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::governor::Duty;
use super::queue::{Popped, Queue};
use super::{Detect, Stop};
use crate::error::{Error, Result};
use crate::sink::{Delivery, Scene, Sink};
use crate::source::{Cover, Frame, FrameSource, Next};
use crate::telemetry::{SinkCounters, SourceState, Telemetry};
use crate::track::{TrackEvent, Watch};

/// A source that says "no signal" faster than this is slowed down to it.
const NO_SIGNAL_PAUSE: Duration = Duration::from_millis(100);
/// While no frame comes, it is looked so often which tracks have ended.
const IDLE_INTERVAL: Duration = Duration::from_millis(500);

/// What a sink is told.
#[derive(Clone)]
pub(super) enum Told {
    Scene(Arc<Scene>),
    /// By [`Sink::tracks_ended`].
    Ended(Arc<[TrackEvent]>),
}

/// What is on its way to one sink.
#[derive(Clone)]
pub(super) struct SinkQueue {
    pub delivery: Delivery,
    pub told: Arc<Queue<Told>>,
    pub counters: Arc<SinkCounters>,
}

impl SinkQueue {
    fn tell(&self, told: Told) {
        // A sink that has ended takes no more.
        let dropped = self.told.push_newest(told).unwrap_or(0);
        self.counters.dropped(dropped);
    }
}

/// Reads frames until the source ends, fails, or nobody takes them any more.
pub(super) fn capture(
    mut source: Box<dyn FrameSource>,
    frames: &Queue<Frame>,
    telemetry: &Telemetry,
    stop: &Stop,
) -> Result<()> {
    let live = source.is_live();
    while !stop.is_stopped() && !frames.is_closed() {
        let asked = Instant::now();
        match source.next()? {
            Next::Frame(frame) => {
                if telemetry.set_source(SourceState::Live) {
                    log::info!(
                        "{}: {}x{} {:?}",
                        source.name(),
                        frame.width,
                        frame.height,
                        frame.format
                    );
                }
                telemetry.frame_captured();
                if live {
                    let Some(dropped) = frames.push_newest(frame) else {
                        break;
                    };
                    telemetry.frames_dropped(dropped);
                } else if !frames.push_wait(frame) {
                    break;
                }
            }
            Next::NoSignal(reason) => {
                let state = SourceState::NoSignal {
                    reason: reason.clone(),
                };
                if telemetry.set_source(state) {
                    log::warn!("{}: no signal: {reason}", source.name());
                }
                std::thread::sleep(NO_SIGNAL_PAUSE.saturating_sub(asked.elapsed()));
            }
            Next::End => break,
        }
    }
    telemetry.set_source(SourceState::Ended);
    Ok(())
}

/// What the detecting thread works with.
pub(super) struct Inference {
    pub frames: Arc<Queue<Frame>>,
    pub cover: Cover,
    pub detect: Detect,
    pub watch: Watch,
    pub sinks: Vec<SinkQueue>,
    pub telemetry: Arc<Telemetry>,
    pub duty: Arc<Duty>,
    pub limit: Option<u64>,
}

impl Inference {
    /// Looks at frames until no more come or the limit is reached. Rests after each as the duty says: before the next
    /// frame is taken, which is the newest then.
    pub fn run(mut self) -> Result<()> {
        let mut inferred = 0;
        while self.limit.is_none_or(|limit| inferred < limit) {
            match self.frames.pop_within(IDLE_INTERVAL) {
                Popped::Item(frame) => {
                    let began = Instant::now();
                    self.look(frame)?;
                    inferred += 1;
                    std::thread::sleep(self.duty.rest(began.elapsed()));
                }
                Popped::Nothing => {
                    let ended = self.watch.idle(Instant::now());
                    self.tell_ended(ended);
                }
                Popped::Closed => break,
            }
        }
        let ended = self.watch.end();
        self.tell_ended(ended);
        Ok(())
    }

    /// Nobody gets the frame before it is covered.
    fn look(&mut self, mut frame: Frame) -> Result<()> {
        let telemetry = &self.telemetry;
        telemetry.inference_began();
        self.cover.apply(&mut frame);
        let detected = (self.detect)(&frame)?;
        telemetry.stages.preprocess.record(detected.preprocess);
        telemetry.stages.inference.record(detected.inference);
        telemetry.stages.decode.record(detected.decode);
        let observed = self.watch.look(&frame, detected.detections, detected.faint);
        telemetry.frame_inferred(frame.captured);
        if let Some(counts) = observed.counts {
            telemetry.set_objects(counts);
        }
        let scene = Arc::new(Scene {
            frame: Arc::new(frame),
            detections: observed.detections,
            events: observed.events,
            zones: observed.zones,
            classes: detected.classes,
            inference: detected.inference,
        });
        for sink in &self.sinks {
            sink.tell(Told::Scene(scene.clone()));
        }
        Ok(())
    }

    /// Sinks that want the newest scene only have nothing to do with tracks.
    fn tell_ended(&self, events: Vec<TrackEvent>) {
        if events.is_empty() {
            return;
        }
        self.telemetry.set_objects(self.watch.counts());
        let events: Arc<[TrackEvent]> = events.into();
        for sink in &self.sinks {
            if sink.delivery == Delivery::Every {
                sink.tell(Told::Ended(events.clone()));
            }
        }
    }
}

/// Hands scenes to a sink until no more come.
pub(super) fn consume(mut sink: Box<dyn Sink>, queue: &SinkQueue) {
    while let Some(told) = queue.told.pop() {
        let taken = match &told {
            Told::Scene(scene) => sink.consume(scene),
            Told::Ended(events) => sink.tracks_ended(events),
        };
        match taken {
            Ok(()) => queue.counters.consumed(),
            Err(error) => {
                if queue.counters.failed() == 0 {
                    log::error!(
                        "{}: {error} (further errors of it are only counted)",
                        sink.name()
                    );
                }
            }
        }
    }
}

/// The outcome of `work`; a panic in it is an [`Error::Internal`].
pub(super) fn caught(thread: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| {
        Err(Error::Internal(format!(
            "the {thread} thread panicked: {}",
            panic_text(payload.as_ref())
        )))
    })
}

fn panic_text(payload: &(dyn Any + Send)) -> &str {
    if let Some(text) = payload.downcast_ref::<&str>() {
        return text;
    }
    payload
        .downcast_ref::<String>()
        .map_or("no message", String::as_str)
}
