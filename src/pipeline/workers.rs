//! What each thread of the pipeline does.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::governor::Duty;
use super::queue::Queue;
use super::{Detect, Stop};
use crate::error::{Error, Result};
use crate::sink::{Scene, Sink};
use crate::source::{Frame, FrameSource, Next};
use crate::telemetry::{SinkCounters, SourceState, Telemetry};

/// A source that says "no signal" faster than this is slowed down to it.
const NO_SIGNAL_PAUSE: Duration = Duration::from_millis(100);

/// Scenes on their way to one sink.
#[derive(Clone)]
pub(super) struct SinkQueue {
    pub scenes: Arc<Queue<Arc<Scene>>>,
    pub counters: Arc<SinkCounters>,
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

/// Detects on frames until no more come or the limit is reached. Rests after each as `duty` says: before the next frame
/// is taken, which is the newest then.
pub(super) fn infer(
    mut detect: Detect,
    frames: &Queue<Frame>,
    sinks: &[SinkQueue],
    telemetry: &Telemetry,
    duty: &Duty,
    limit: Option<u64>,
) -> Result<()> {
    let mut inferred = 0;
    while limit.is_none_or(|limit| inferred < limit) {
        let Some(frame) = frames.pop() else { break };
        let began = Instant::now();
        telemetry.inference_began();
        let detected = detect(&frame)?;
        telemetry.stages.preprocess.record(detected.preprocess);
        telemetry.stages.inference.record(detected.inference);
        telemetry.stages.decode.record(detected.decode);
        telemetry.frame_inferred(frame.captured);
        inferred += 1;
        let scene = Arc::new(Scene {
            frame: Arc::new(frame),
            detections: detected.detections,
            classes: detected.classes,
            inference: detected.inference,
        });
        for sink in sinks {
            // A sink that has ended takes no more.
            let dropped = sink.scenes.push_newest(scene.clone()).unwrap_or(0);
            sink.counters.dropped(dropped);
        }
        std::thread::sleep(duty.rest(began.elapsed()));
    }
    Ok(())
}

/// Hands scenes to a sink until no more come.
pub(super) fn consume(mut sink: Box<dyn Sink>, queue: &SinkQueue) {
    while let Some(scene) = queue.scenes.pop() {
        match sink.consume(&scene) {
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
