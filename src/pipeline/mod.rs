//! Threads between sources, detection and sinks.
//!
//! One thread captures, one detects, each sink has one of its own, and the caller's thread watches over them. A frame
//! of a live source waits in a slot that a newer one replaces; the frames of any other source wait for their turn. When
//! the machine gets hot, detection rests between frames.

mod governor;
mod queue;
mod stop;
mod workers;

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use stop::Stop;

use crate::detect::Detected;
use crate::error::{Error, Result};
use crate::sink::{Delivery, Sink};
use crate::source::{Cover, Frame, FrameSource, Masks};
use crate::telemetry::{SourceState, Telemetry};
use crate::track::Watch;
use governor::{Duty, Governor};
use queue::Queue;
use workers::{Inference, SinkQueue, capture, consume};

/// Scenes that wait for a sink that wants every one.
const EVERY_QUEUE: usize = 64;
/// A source or a sink that has not come back so long after the end is left behind.
const PATIENCE: Duration = Duration::from_secs(2);
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// What turns a frame into detections. An error ends the pipeline.
pub type Detect = Box<dyn FnMut(&Frame) -> Result<Detected> + Send>;

/// A source, a detector and sinks, ready to run.
pub struct Pipeline {
    pub source: Box<dyn FrameSource>,
    /// What nobody is to see of a frame, the detector neither.
    pub masks: Masks,
    pub detect: Detect,
    pub watch: Watch,
    pub sinks: Vec<Box<dyn Sink>>,
    pub telemetry: Arc<Telemetry>,
    pub stop: Stop,
    /// End after so many inferred frames.
    pub frame_limit: Option<u64>,
}

/// What the watching thread is told.
enum Event {
    Ended(Role, Result<()>),
    Stopped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Capture,
    Inference,
    Sink(usize),
}

impl Pipeline {
    /// Runs until the source ends, the frame limit is reached or [`Stop::stop`] is called; sinks get what they still
    /// have waiting. Returns the first error of the source or the detector, or [`Error::Internal`] if a thread panicked.
    ///
    /// After the end, a source stuck in [`FrameSource::next`] is left behind after two seconds, and so are sinks if the
    /// end was asked for.
    pub fn run(self) -> Result<()> {
        let (events, inbox) = mpsc::channel();
        let frames = Arc::new(Queue::new(1));
        let mut threads = Threads {
            inbox,
            running: Vec::new(),
            frames: frames.clone(),
            sinks: Vec::new(),
            stop: self.stop.clone(),
            telemetry: self.telemetry.clone(),
            duty: Arc::default(),
        };
        let waker = events.clone();
        self.stop.on_stop(move || {
            // The watching thread may be gone already.
            let _ = waker.send(Event::Stopped);
        });
        let spawned = threads.start(self, &events);
        drop(events);
        let ended = threads.watch(spawned);
        threads.telemetry.set_source(SourceState::Ended);
        ended
    }
}

/// The threads that run, seen from the one that watches.
struct Threads {
    inbox: Receiver<Event>,
    running: Vec<(Role, JoinHandle<()>)>,
    frames: Arc<Queue<Frame>>,
    sinks: Vec<SinkQueue>,
    stop: Stop,
    telemetry: Arc<Telemetry>,
    duty: Arc<Duty>,
}

impl Threads {
    fn start(&mut self, pipeline: Pipeline, events: &mpsc::Sender<Event>) -> Result<()> {
        for (index, sink) in pipeline.sinks.into_iter().enumerate() {
            let delivery = sink.delivery();
            let capacity = match delivery {
                Delivery::Newest => 1,
                Delivery::Every => EVERY_QUEUE,
            };
            let counters = self.telemetry.add_sink(sink.name());
            let name = format!("sink-{}", sink.name());
            let queue = SinkQueue {
                delivery,
                told: Arc::new(Queue::new(capacity)),
                counters,
            };
            self.sinks.push(queue.clone());
            self.spawn(Role::Sink(index), &name, events, move || {
                consume(sink, &queue);
                Ok(())
            })?;
        }
        let inference = Inference {
            frames: self.frames.clone(),
            cover: Cover::new(pipeline.masks),
            detect: pipeline.detect,
            watch: pipeline.watch,
            sinks: self.sinks.clone(),
            telemetry: self.telemetry.clone(),
            duty: self.duty.clone(),
            limit: pipeline.frame_limit,
        };
        self.spawn(Role::Inference, "inference", events, || inference.run())?;
        let (frames, telemetry, stop, source) = (
            self.frames.clone(),
            self.telemetry.clone(),
            self.stop.clone(),
            pipeline.source,
        );
        self.spawn(Role::Capture, "capture", events, move || {
            capture(source, &frames, &telemetry, &stop)
        })
    }

    fn spawn(
        &mut self,
        role: Role,
        name: &str,
        events: &mpsc::Sender<Event>,
        work: impl FnOnce() -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let events = events.clone();
        let thread = name.to_string();
        let handle = std::thread::Builder::new()
            .name(name.into())
            .spawn(move || {
                let ended = workers::caught(&thread, work);
                // Nobody listens any more if this thread was left behind.
                let _ = events.send(Event::Ended(role, ended));
            })
            .map_err(Error::io(format!("start the {name} thread")))?;
        self.running.push((role, handle));
        Ok(())
    }

    /// Waits for all threads, as long as each of them deserves. `outcome` is how starting them went.
    fn watch(&mut self, mut outcome: Result<()>) -> Result<()> {
        let mut end_asked = None;
        let mut inference_ended = None;
        let mut next_sample = Instant::now();
        let mut governor = Governor::default();
        if outcome.is_err() {
            self.stop.stop();
        }
        while self.waits(end_asked, inference_ended) {
            if Instant::now() >= next_sample {
                self.govern(&mut governor);
                next_sample = Instant::now() + SAMPLE_INTERVAL;
            }
            let ending = end_asked.is_some() || inference_ended.is_some();
            let tick = if ending {
                Duration::from_millis(50)
            } else {
                next_sample.saturating_duration_since(Instant::now())
            };
            match self.inbox.recv_timeout(tick) {
                Ok(Event::Ended(role, ended)) => {
                    self.join(role);
                    self.propagate(role, ended.is_err());
                    if role == Role::Inference {
                        inference_ended = Some(Instant::now());
                    }
                    if ended.is_err() {
                        self.stop.stop();
                        outcome = outcome.and(ended);
                    }
                }
                Ok(Event::Stopped) => {
                    end_asked = Some(Instant::now());
                    self.frames.abort();
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        for (role, _) in &self.running {
            log::warn!("{role:?} did not end in {PATIENCE:?} and is left behind");
        }
        outcome
    }

    /// Looks at the machine and slows detection down if it is too hot.
    fn govern(&self, governor: &mut Governor) {
        let reading = self.telemetry.sample_system();
        let Some(percent) = governor.observe(&reading, Instant::now()) else {
            return;
        };
        self.duty.set(percent);
        self.telemetry.set_duty(percent);
        let celsius = reading.temperature_celsius.unwrap_or_default();
        if percent == 100 {
            log::info!("{celsius:.0} °C: detection runs at full speed again");
        } else {
            log::warn!(
                "{celsius:.0} °C: detection runs {percent} % of the time, before the firmware slows all down"
            );
        }
    }

    /// Whether some thread is still worth waiting for.
    fn waits(&self, end_asked: Option<Instant>, inference_ended: Option<Instant>) -> bool {
        let patient = |since: Option<Instant>| since.is_none_or(|at| at.elapsed() < PATIENCE);
        self.running.iter().any(|(role, _)| match role {
            Role::Capture => patient(end_asked) && patient(inference_ended),
            Role::Inference | Role::Sink(_) => patient(end_asked),
        })
    }

    /// The end of one thread is the end of its input and of its output.
    fn propagate(&self, role: Role, failed: bool) {
        match role {
            Role::Capture if failed => self.frames.abort(),
            Role::Capture => self.frames.close(),
            Role::Inference => {
                self.frames.abort();
                for sink in &self.sinks {
                    sink.told.close();
                }
            }
            Role::Sink(index) => self.sinks[index].told.abort(),
        }
    }

    fn join(&mut self, role: Role) {
        if let Some(at) = self.running.iter().position(|(other, _)| *other == role) {
            let (_, handle) = self.running.swap_remove(at);
            // The thread has sent its last event and caught its panics.
            let _ = handle.join();
        }
    }
}

#[cfg(test)]
mod tests;
