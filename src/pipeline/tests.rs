use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use super::*;
use crate::detect::{BoundingBox, Detection};
use crate::polygon::Polygon;
use crate::sink::Scene;
use crate::source::{Next, PixelFormat, YuvRange};
use crate::track::{EventKind, SharedRules, TrackEvent};

/// Tells what a script says; then ends.
struct Scripted<F>(F, bool);

impl<F: FnMut() -> Result<Next> + Send> FrameSource for Scripted<F> {
    fn name(&self) -> &str {
        "script"
    }
    fn next(&mut self) -> Result<Next> {
        (self.0)()
    }
    fn is_live(&self) -> bool {
        self.1
    }
}

fn frame(index: u64) -> Next {
    Next::Frame(Frame {
        width: 2,
        height: 2,
        format: PixelFormat::Grey,
        range: YuvRange::Full,
        data: vec![0; 4],
        index,
        captured: Instant::now(),
        timestamp: SystemTime::now(),
        source: "script".into(),
    })
}

fn counted(frames: u64, live: bool, pause: Duration) -> Box<dyn FrameSource> {
    let mut index = 0;
    Box::new(Scripted(
        move || {
            std::thread::sleep(pause);
            index += 1;
            Ok(if index > frames {
                Next::End
            } else {
                frame(index - 1)
            })
        },
        live,
    ))
}

#[derive(Clone)]
struct Recorder {
    seen: Arc<Mutex<Vec<u64>>>,
    delivery: Delivery,
    pause: Duration,
}

impl Recorder {
    fn new(delivery: Delivery, pause: Duration) -> Self {
        Self {
            seen: Arc::default(),
            delivery,
            pause,
        }
    }
    fn seen(&self) -> Vec<u64> {
        self.seen.lock().unwrap().clone()
    }
}

impl Sink for Recorder {
    fn name(&self) -> &str {
        "recorder"
    }
    fn delivery(&self) -> Delivery {
        self.delivery
    }
    fn consume(&mut self, scene: &Arc<Scene>) -> Result<()> {
        std::thread::sleep(self.pause);
        self.seen.lock().unwrap().push(scene.frame.index);
        Ok(())
    }
}

fn pipeline(source: Box<dyn FrameSource>, detect_time: Duration) -> Pipeline {
    Pipeline {
        source,
        detect: Box::new(move |_| {
            std::thread::sleep(detect_time);
            Ok(Detected::default())
        }),
        masks: Masks::default(),
        watch: Watch::default(),
        sinks: Vec::new(),
        telemetry: Arc::default(),
        stop: Stop::new(),
        frame_limit: None,
    }
}

const NO_TIME: Duration = Duration::ZERO;
const MILLI: Duration = Duration::from_millis(1);

#[test]
fn finite_sources_reach_every_sink_in_order() {
    let sink = Recorder::new(Delivery::Every, NO_TIME);
    let mut pipeline = pipeline(counted(50, false, NO_TIME), MILLI);
    pipeline.sinks = vec![Box::new(sink.clone())];
    let telemetry = pipeline.telemetry.clone();
    pipeline.run().unwrap();
    assert_eq!(sink.seen(), (0..50).collect::<Vec<_>>());
    let snapshot = telemetry.snapshot();
    assert_eq!(
        (snapshot.captured, snapshot.inferred, snapshot.dropped),
        (50, 50, 0)
    );
    assert_eq!(snapshot.source, SourceState::Ended);
}

/// It holds a camera or a program, which only its end lets go.
#[test]
fn a_source_without_signal_ends_at_the_frame_limit() {
    let held = Arc::new(());
    let (holds, mut index) = (held.clone(), 0);
    let source = Scripted(
        move || {
            let _ = &holds;
            index += 1;
            Ok(match index {
                1 => frame(0),
                _ => Next::NoSignal("silent".into()),
            })
        },
        true,
    );
    let mut pipeline = pipeline(Box::new(source), NO_TIME);
    pipeline.frame_limit = Some(1);
    pipeline.run().unwrap();
    assert_eq!(Arc::strong_count(&held), 1);
}

#[test]
fn live_sources_drop_stale_frames_and_count_them() {
    let mut pipeline = pipeline(counted(100, true, MILLI), 10 * MILLI);
    let sink = Recorder::new(Delivery::Every, NO_TIME);
    pipeline.sinks = vec![Box::new(sink.clone())];
    let telemetry = pipeline.telemetry.clone();
    pipeline.run().unwrap();
    let snapshot = telemetry.snapshot();
    assert!(snapshot.dropped > 50, "{snapshot:?}");
    assert_eq!(snapshot.captured, snapshot.dropped + snapshot.inferred);
    assert_eq!(sink.seen().last(), Some(&99));
}

#[test]
fn slow_sinks_skip_and_do_not_slow_detection() {
    let newest = Recorder::new(Delivery::Newest, 50 * MILLI);
    let every = Recorder::new(Delivery::Every, 20 * MILLI);
    let mut pipeline = pipeline(counted(100, false, NO_TIME), MILLI);
    pipeline.sinks = vec![Box::new(newest.clone()), Box::new(every.clone())];
    let telemetry = pipeline.telemetry.clone();
    pipeline.run().unwrap();
    let sinks = telemetry.snapshot().sinks;
    assert!(newest.seen().len() < 20);
    assert_eq!(newest.seen().last(), Some(&99));
    for sink in &sinks {
        assert_eq!(sink.consumed + sink.dropped, 100, "{sink:?}");
    }
    assert!(sinks[1].consumed >= 64);
}

#[test]
fn frame_limit_ends_the_run() {
    for live in [false, true] {
        let mut pipeline = pipeline(counted(u64::MAX, live, MILLI), NO_TIME);
        pipeline.frame_limit = Some(7);
        let telemetry = pipeline.telemetry.clone();
        let start = Instant::now();
        pipeline.run().unwrap();
        assert_eq!(telemetry.inferred(), 7);
        assert!(start.elapsed() < PATIENCE, "a thread was left behind");
    }
}

#[test]
fn stop_wakes_a_waiting_pipeline() {
    let pipeline = pipeline(counted(u64::MAX, false, NO_TIME), 5 * MILLI);
    let stop = pipeline.stop.clone();
    let start = Instant::now();
    let runner = std::thread::spawn(move || pipeline.run());
    std::thread::sleep(50 * MILLI);
    stop.stop();
    runner.join().unwrap().unwrap();
    assert!(start.elapsed() < PATIENCE);
}

#[test]
fn source_stuck_in_next_is_left_behind() {
    let release = Arc::new(AtomicBool::new(false));
    let blocked = release.clone();
    let source = Scripted(
        move || {
            while !blocked.load(Ordering::Relaxed) {
                std::thread::sleep(10 * MILLI);
            }
            Ok(Next::End)
        },
        true,
    );
    let pipeline = pipeline(Box::new(source), NO_TIME);
    let stop = pipeline.stop.clone();
    let start = Instant::now();
    let runner = std::thread::spawn(move || pipeline.run());
    std::thread::sleep(50 * MILLI);
    stop.stop();
    runner.join().unwrap().unwrap();
    assert!(start.elapsed() >= PATIENCE && start.elapsed() < PATIENCE * 2);
    release.store(true, Ordering::Relaxed);
}

#[test]
fn panics_and_errors_end_the_run_with_an_error() {
    let mut broken = pipeline(counted(u64::MAX, false, NO_TIME), NO_TIME);
    broken.detect = Box::new(|frame| {
        assert!(frame.index < 3, "frame {} is too much", frame.index);
        Ok(Detected::default())
    });
    let error = broken.run().unwrap_err();
    assert!(matches!(error, Error::Internal(_)));
    assert!(error.to_string().contains("frame 3 is too much"), "{error}");

    let source = Scripted(|| Err(Error::Usage("gone".into())), true);
    let error = pipeline(Box::new(source), NO_TIME).run().unwrap_err();
    assert_eq!(error.to_string(), "gone");

    let source = Scripted(|| panic!("lens"), true);
    let error = pipeline(Box::new(source), NO_TIME).run().unwrap_err();
    assert!(error.to_string().contains("lens"), "{error}");
}

#[test]
fn no_signal_is_a_state_that_passes() {
    let mut step = 0;
    let telemetry: Arc<Telemetry> = Arc::default();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (watched, states) = (telemetry.clone(), seen.clone());
    let source = Scripted(
        move || {
            states.lock().unwrap().push(watched.snapshot().source);
            step += 1;
            Ok(match step {
                1 | 4 => frame(step),
                2 | 3 => Next::NoSignal("unplugged".into()),
                _ => Next::End,
            })
        },
        true,
    );
    let mut pipeline = pipeline(Box::new(source), NO_TIME);
    pipeline.telemetry = telemetry;
    pipeline.run().unwrap();
    let no_signal = SourceState::NoSignal {
        reason: "unplugged".into(),
    };
    assert_eq!(
        *seen.lock().unwrap(),
        [
            SourceState::Starting,
            SourceState::Live,
            no_signal.clone(),
            no_signal,
            SourceState::Live
        ]
    );
}

#[test]
fn a_hot_machine_slows_detection_down_and_says_so() {
    let root = tempfile::tempdir().unwrap();
    let firmware = root.path().join("sys/devices/platform/soc/soc:firmware");
    let zone = root.path().join("sys/class/thermal/thermal_zone0");
    for folder in [&firmware, &zone] {
        std::fs::create_dir_all(folder).unwrap();
    }
    std::fs::write(firmware.join("get_throttled"), "0").unwrap();
    std::fs::write(zone.join("temp"), "78000").unwrap();
    let mut pipeline = pipeline(counted(u64::MAX, true, MILLI), MILLI);
    pipeline.telemetry = Arc::new(Telemetry::at(root.path()));
    let (telemetry, stop) = (pipeline.telemetry.clone(), pipeline.stop.clone());
    let runner = std::thread::spawn(move || pipeline.run());
    let start = Instant::now();
    while telemetry.snapshot().duty_percent == 100 && start.elapsed() < Duration::from_secs(30) {
        std::thread::sleep(MILLI);
    }
    stop.stop();
    runner.join().unwrap().unwrap();
    assert_eq!(telemetry.snapshot().duty_percent, 75);
}

/// Keeps what it is told of tracks.
#[derive(Clone)]
struct Listener {
    delivery: Delivery,
    in_scenes: Arc<Mutex<Vec<EventKind>>>,
    between: Arc<Mutex<Vec<EventKind>>>,
}

impl Listener {
    fn new(delivery: Delivery) -> Self {
        Self {
            delivery,
            in_scenes: Arc::default(),
            between: Arc::default(),
        }
    }
}

impl Sink for Listener {
    fn name(&self) -> &str {
        "listener"
    }
    fn delivery(&self) -> Delivery {
        self.delivery
    }
    fn consume(&mut self, scene: &Arc<Scene>) -> Result<()> {
        let kinds = scene.events.iter().map(|event| event.event);
        self.in_scenes.lock().unwrap().extend(kinds);
        Ok(())
    }
    fn tracks_ended(&mut self, events: &[TrackEvent]) -> Result<()> {
        let kinds = events.iter().map(|event| event.event);
        self.between.lock().unwrap().extend(kinds);
        Ok(())
    }
}

/// Four frames with the same thing on them; then the camera is lost, or the source ends.
fn four_frames_then(last: fn() -> Next) -> (Pipeline, [Listener; 2]) {
    let mut index = 0;
    let source = Scripted(
        move || {
            std::thread::sleep(10 * MILLI);
            index += 1;
            Ok(if index <= 4 { frame(index) } else { last() })
        },
        false,
    );
    let mut pipeline = pipeline(Box::new(source), NO_TIME);
    let found = Detection {
        label: "thing".into(),
        bounding_box: BoundingBox {
            x_max: 2.0,
            y_max: 2.0,
            ..BoundingBox::default()
        },
        ..Detection::default()
    };
    pipeline.detect = Box::new(move |_| {
        Ok(Detected {
            detections: vec![found.clone()],
            ..Detected::default()
        })
    });
    pipeline.watch = Watch::following(SharedRules::default());
    let listeners = [Delivery::Every, Delivery::Newest].map(Listener::new);
    pipeline.sinks = listeners
        .iter()
        .map(|one| Box::new(one.clone()) as Box<dyn Sink>)
        .collect();
    (pipeline, listeners)
}

#[test]
fn a_lost_camera_ends_tracks_though_no_frame_comes() {
    let (pipeline, [every, newest]) = four_frames_then(|| Next::NoSignal("unplugged".into()));
    let (telemetry, stop) = (pipeline.telemetry.clone(), pipeline.stop.clone());
    let runner = std::thread::spawn(move || pipeline.run());
    let start = Instant::now();
    while every.between.lock().unwrap().is_empty() && start.elapsed() < Duration::from_secs(30) {
        std::thread::sleep(MILLI);
    }
    assert_eq!(*every.in_scenes.lock().unwrap(), [EventKind::New]);
    assert_eq!(*every.between.lock().unwrap(), [EventKind::End]);
    let counts = telemetry.objects();
    assert_eq!((counts.tracks[0].now, counts.tracks[0].total), (0, 1));
    stop.stop();
    runner.join().unwrap().unwrap();
    assert_eq!(every.between.lock().unwrap().len(), 1);
    assert!(newest.between.lock().unwrap().is_empty());
}

#[test]
fn the_end_of_the_run_ends_tracks() {
    let (pipeline, [every, _]) = four_frames_then(|| Next::End);
    pipeline.run().unwrap();
    assert_eq!(*every.between.lock().unwrap(), [EventKind::End]);
}

#[test]
fn what_is_masked_is_hidden_from_the_detector_too() {
    let corners = [[0.0, 0.0], [1.0, 0.0], [1.0, 0.2], [0.0, 0.2]];
    let (mut masked, _) = four_frames_then(|| Next::End);
    masked.masks = Masks::new(vec![Polygon::new(corners.to_vec()).unwrap()]);
    let mut index = 0;
    let source = Scripted(
        move || {
            index += 1;
            let Next::Frame(mut frame) = frame(index) else {
                panic!("it is one")
            };
            frame.data.fill(9);
            Ok(if index <= 4 {
                Next::Frame(frame)
            } else {
                Next::End
            })
        },
        false,
    );
    masked.source = Box::new(source);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let kept = seen.clone();
    masked.detect = Box::new(move |frame| {
        kept.lock().unwrap().push(frame.data.clone());
        Ok(Detected::default())
    });
    masked.run().unwrap();
    assert_eq!(*seen.lock().unwrap(), [[0, 0, 9, 9]; 4]);
}
