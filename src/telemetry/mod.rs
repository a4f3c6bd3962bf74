//! Rates, latency histograms and readings of the machine.

pub mod broker;
mod gpio;
pub mod histogram;
pub mod objects;
mod prometheus;
pub mod rate;
pub mod system;

use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use broker::{BrokerLink, BrokerSnapshot};
pub use gpio::{GpioOutput, GpioSnapshot};
use histogram::Histogram;
use objects::ObjectCounts;
use rate::Rate;
use system::{System, SystemReading};

/// Without an inferred frame for so long, though frames wait, detection counts as stuck.
const STUCK_AFTER: Duration = Duration::from_secs(10);

/// What the source is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum SourceState {
    /// No frame has come yet.
    Starting,
    Live,
    /// Nothing comes now, and it is tried again.
    NoSignal {
        reason: String,
    },
    Ended,
}

/// The latencies that are measured.
#[derive(Debug, Default)]
pub struct Stages {
    /// From the capture of a frame until its detections are known.
    pub age: Histogram,
    pub preprocess: Histogram,
    pub inference: Histogram,
    pub decode: Histogram,
}

/// Counters of one sink.
#[derive(Debug)]
pub struct SinkCounters {
    name: String,
    consumed: AtomicU64,
    dropped: AtomicU64,
    errors: AtomicU64,
}

impl SinkCounters {
    /// A scene was taken.
    pub fn consumed(&self) {
        self.consumed.fetch_add(1, Ordering::Relaxed);
    }

    /// Scenes were skipped because the sink was slow.
    pub fn dropped(&self, scenes: u64) {
        self.dropped.fetch_add(scenes, Ordering::Relaxed);
    }

    /// A scene was offered and the sink failed. Returns how many failures came before.
    pub fn failed(&self) -> u64 {
        self.errors.fetch_add(1, Ordering::Relaxed)
    }
}

/// What one run has done so far. Shared by the threads that do it and the sinks that show it.
#[derive(Debug)]
pub struct Telemetry {
    started: Instant,
    captured: AtomicU64,
    inferred: AtomicU64,
    dropped: AtomicU64,
    /// How often the source said that there is no signal while no frame waited.
    idle: AtomicU64,
    duty_percent: AtomicU32,
    pub stages: Stages,
    recent: Mutex<Recent>,
    sinks: Mutex<Vec<Arc<SinkCounters>>>,
    system: Mutex<System>,
    reading: Mutex<SystemReading>,
    gpio: Mutex<Option<GpioSnapshot>>,
    objects: Mutex<ObjectCounts>,
    broker: OnceLock<Arc<BrokerLink>>,
}

#[derive(Debug)]
struct Recent {
    captured: Rate,
    inferred: Rate,
    source: SourceState,
    /// Capture time of the frame inferred last.
    last_frame: Option<Instant>,
    /// Since when a frame waits for its inference to end.
    waiting_since: Option<Instant>,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            captured: AtomicU64::new(0),
            inferred: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            idle: AtomicU64::new(0),
            duty_percent: AtomicU32::new(100),
            stages: Stages::default(),
            recent: Mutex::new(Recent {
                captured: Rate::default(),
                inferred: Rate::default(),
                source: SourceState::Starting,
                last_frame: None,
                waiting_since: None,
            }),
            sinks: Mutex::default(),
            system: Mutex::default(),
            reading: Mutex::default(),
            gpio: Mutex::default(),
            objects: Mutex::default(),
            broker: OnceLock::new(),
        }
    }
}

impl Telemetry {
    /// Reads the machine's files under `root` in place of `/`, and asks no program.
    pub fn at(root: &Path) -> Self {
        Self {
            system: Mutex::new(System::at(root)),
            ..Self::default()
        }
    }

    /// Counts a frame that the source delivered.
    pub fn frame_captured(&self) {
        let now = Instant::now();
        self.captured.fetch_add(1, Ordering::Relaxed);
        let mut recent = lock(&self.recent);
        recent.captured.record(now);
        recent.waiting_since.get_or_insert(now);
    }

    /// Counts frames that a newer one replaced before their inference.
    pub fn frames_dropped(&self, frames: u64) {
        self.dropped.fetch_add(frames, Ordering::Relaxed);
    }

    /// The inference of a frame begins.
    pub fn inference_began(&self) {
        lock(&self.recent)
            .waiting_since
            .get_or_insert_with(Instant::now);
    }

    /// Counts a frame whose detections are known. `captured` is the time when the frame was taken.
    pub fn frame_inferred(&self, captured: Instant) {
        let now = Instant::now();
        self.stages
            .age
            .record(now.saturating_duration_since(captured));
        self.inferred.fetch_add(1, Ordering::Relaxed);
        let mut recent = lock(&self.recent);
        recent.inferred.record(now);
        recent.last_frame = Some(captured);
        recent.waiting_since = None;
    }

    /// Sets the state of the source; `true` if it was another one. A source without signal says so again and again.
    pub fn set_source(&self, state: SourceState) -> bool {
        let mut recent = lock(&self.recent);
        if matches!(state, SourceState::NoSignal { .. }) && recent.waiting_since.is_none() {
            self.idle.fetch_add(1, Ordering::Relaxed);
        }
        let changed = std::mem::discriminant(&recent.source) != std::mem::discriminant(&state);
        recent.source = state;
        changed
    }

    /// What the source is doing.
    pub fn source(&self) -> SourceState {
        lock(&self.recent).source.clone()
    }

    /// What the pins do now.
    pub fn set_gpio(&self, gpio: GpioSnapshot) {
        *lock(&self.gpio) = Some(gpio);
    }

    /// Whether frames come.
    pub fn source_is_live(&self) -> bool {
        lock(&self.recent).source == SourceState::Live
    }

    /// The connection to a message broker, of which a run has one: the first call names it.
    pub fn broker(&self, url: &str) -> Arc<BrokerLink> {
        let made = || Arc::new(BrokerLink::new(url.into()));
        self.broker.get_or_init(made).clone()
    }

    /// The counters of a sink, new ones for each call.
    pub fn add_sink(&self, name: &str) -> Arc<SinkCounters> {
        let counters = Arc::new(SinkCounters {
            name: name.into(),
            consumed: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            errors: AtomicU64::new(0),
        });
        lock(&self.sinks).push(counters.clone());
        counters
    }

    /// Looks at the machine. To be called about once a second; [`Telemetry::snapshot`] tells the last reading.
    pub fn sample_system(&self) -> SystemReading {
        let reading = lock(&self.system).read();
        *lock(&self.reading) = reading.clone();
        reading
    }

    /// Detection may take so many percent of the time from now on.
    pub fn set_duty(&self, percent: u32) {
        self.duty_percent.store(percent, Ordering::Relaxed);
    }

    /// So many objects are followed from now on.
    pub fn set_objects(&self, counts: ObjectCounts) {
        *lock(&self.objects) = counts;
    }

    /// The objects that are followed.
    pub fn objects(&self) -> ObjectCounts {
        lock(&self.objects).clone()
    }

    /// Frames inferred so far.
    pub fn inferred(&self) -> u64 {
        self.inferred.load(Ordering::Relaxed)
    }

    /// A number that grows as long as the run gets on: with each inferred frame and, because a lost camera is a state
    /// and no failure, each time that the source says again that there is no signal and no frame waits for detection.
    /// The thread that tries the camera says it from its own loop, so a number that stands still means that either that
    /// loop or detection hangs.
    pub fn progress(&self) -> u64 {
        self.inferred() + self.idle.load(Ordering::Relaxed)
    }

    /// Whether frames wait and none was inferred for ten seconds.
    pub fn is_stuck(&self) -> bool {
        let waiting_since = lock(&self.recent).waiting_since;
        waiting_since.is_some_and(|since| since.elapsed() > STUCK_AFTER)
    }

    /// Everything at this moment.
    pub fn snapshot(&self) -> Snapshot {
        let now = Instant::now();
        let mut recent = lock(&self.recent);
        let (capture_fps, fps) = (
            recent.captured.per_second(now),
            recent.inferred.per_second(now),
        );
        let (source, last_frame) = (recent.source.clone(), recent.last_frame);
        drop(recent);
        let sinks = lock(&self.sinks)
            .iter()
            .map(|sink| SinkSnapshot {
                name: sink.name.clone(),
                consumed: sink.consumed.load(Ordering::Relaxed),
                dropped: sink.dropped.load(Ordering::Relaxed),
                errors: sink.errors.load(Ordering::Relaxed),
            })
            .collect();
        Snapshot {
            uptime_seconds: self.started.elapsed().as_secs_f64(),
            source,
            captured: self.captured.load(Ordering::Relaxed),
            inferred: self.inferred(),
            dropped: self.dropped.load(Ordering::Relaxed),
            capture_fps,
            fps,
            age_seconds: last_frame.map(|at| now.saturating_duration_since(at).as_secs_f64()),
            age: StageSnapshot::of(&self.stages.age),
            preprocess: StageSnapshot::of(&self.stages.preprocess),
            inference: StageSnapshot::of(&self.stages.inference),
            decode: StageSnapshot::of(&self.stages.decode),
            duty_percent: self.duty_percent.load(Ordering::Relaxed),
            sinks,
            mqtt: self.broker.get().map(|broker| broker.snapshot()),
            objects: self.objects(),
            system: lock(&self.reading).clone(),
            gpio: lock(&self.gpio).clone(),
        }
    }

    /// Everything in the Prometheus text format, version 0.0.4.
    pub fn prometheus(&self) -> String {
        prometheus::render(&self.snapshot(), &self.stages)
    }
}

/// [`Telemetry`] at one moment, as `/api/status` tells it.
#[derive(Clone, Debug, Serialize)]
pub struct Snapshot {
    pub uptime_seconds: f64,
    pub source: SourceState,
    /// Frames that the source delivered.
    pub captured: u64,
    /// Frames whose detections are known.
    pub inferred: u64,
    /// Frames that a newer one replaced before their inference.
    pub dropped: u64,
    pub capture_fps: f64,
    /// Inferred frames a second.
    pub fps: f64,
    /// How long ago the frame inferred last was captured.
    pub age_seconds: Option<f64>,
    /// From capture to detections.
    pub age: StageSnapshot,
    pub preprocess: StageSnapshot,
    pub inference: StageSnapshot,
    pub decode: StageSnapshot,
    /// Share of the time that detection may take: less than 100 while the machine is too hot.
    pub duty_percent: u32,
    pub sinks: Vec<SinkSnapshot>,
    /// `None` where no broker is told anything.
    pub mqtt: Option<BrokerSnapshot>,
    pub objects: ObjectCounts,
    pub system: SystemReading,
    /// The pins that were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpio: Option<GpioSnapshot>,
}

/// The latencies of one stage since the start.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct StageSnapshot {
    pub count: u64,
    pub p50_ms: Option<f64>,
    pub p90_ms: Option<f64>,
    pub p99_ms: Option<f64>,
}

impl StageSnapshot {
    fn of(histogram: &Histogram) -> Self {
        let millis = |q| {
            let latency = histogram.quantile(q)?;
            Some((latency.as_secs_f64() * 1e6).round() / 1e3)
        };
        Self {
            count: histogram.count(),
            p50_ms: millis(0.5),
            p90_ms: millis(0.9),
            p99_ms: millis(0.99),
        }
    }
}

/// The counters of one sink.
#[derive(Clone, Debug, Serialize)]
pub struct SinkSnapshot {
    pub name: String,
    pub consumed: u64,
    /// Scenes skipped because the sink was slow.
    pub dropped: u64,
    pub errors: u64,
}

/// Counters stay true when a thread died while it held them.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_reach_the_snapshot() {
        let telemetry = Telemetry::default();
        assert_eq!(telemetry.snapshot().source, SourceState::Starting);
        assert!(telemetry.set_source(SourceState::Live));
        assert!(!telemetry.set_source(SourceState::Live));
        let sink = telemetry.add_sink("web");
        sink.dropped(3);
        assert_eq!((sink.failed(), sink.failed()), (0, 1));
        for _ in 0..4 {
            telemetry.frame_captured();
        }
        telemetry.frames_dropped(3);
        telemetry.stages.inference.record(Duration::from_millis(10));
        telemetry.frame_inferred(Instant::now());
        let snapshot = telemetry.snapshot();
        assert_eq!(
            (snapshot.captured, snapshot.dropped, snapshot.inferred),
            (4, 3, 1)
        );
        assert_eq!(
            (snapshot.sinks[0].dropped, snapshot.sinks[0].errors),
            (3, 2)
        );
        assert!((snapshot.inference.p50_ms.unwrap() - 10.0).abs() < 0.3);
        assert!(snapshot.age_seconds.is_some());
        let json = serde_json::to_value(&snapshot).unwrap();
        assert_eq!(json["source"]["state"], "live");
    }

    #[test]
    fn frames_are_progress_and_so_is_a_camera_that_is_tried_in_vain() {
        let telemetry = Telemetry::default();
        let mut last = telemetry.progress();
        let mut advanced = || {
            let before = std::mem::replace(&mut last, telemetry.progress());
            telemetry.progress() > before
        };
        let lost = || SourceState::NoSignal {
            reason: "unplugged".into(),
        };
        telemetry.set_source(SourceState::Live);
        telemetry.frame_captured();
        assert!(!advanced(), "captured is not inferred");
        telemetry.set_source(lost());
        assert!(!advanced(), "a frame waits");
        telemetry.frame_inferred(Instant::now());
        assert!(advanced());
        for _ in 0..2 {
            telemetry.set_source(lost());
            assert!(advanced());
        }
        assert!(!advanced());
    }

    #[test]
    fn waiting_frames_without_inference_are_stuck() {
        let telemetry = Telemetry::default();
        assert!(!telemetry.is_stuck());
        telemetry.frame_captured();
        assert!(!telemetry.is_stuck());
        let long_ago = Instant::now().checked_sub(STUCK_AFTER * 2).unwrap();
        lock(&telemetry.recent).waiting_since = Some(long_ago);
        telemetry.frame_captured();
        assert!(telemetry.is_stuck());
        telemetry.frame_inferred(Instant::now());
        assert!(!telemetry.is_stuck());
    }
}
