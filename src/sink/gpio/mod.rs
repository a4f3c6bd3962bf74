//! Pins of a Raspberry Pi that follow what is seen, and a status LED.

mod led;
mod outputs;
#[cfg(target_os = "linux")]
mod rpi;
mod rule;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

pub use outputs::Pins;
pub use rule::{Level, Output, Rule, Subject, check};

use super::{Delivery, Scene, Sink};
use crate::error::{Error, Result};
use crate::telemetry::{GpioSnapshot, Telemetry};
use led::{Condition, Rhythm, TICK};
use outputs::Outputs;

/// The board whose pins can be driven, else, in words, why they cannot and what to do.
pub fn probe() -> std::result::Result<String, String> {
    #[cfg(target_os = "linux")]
    return rpi::probe();
    #[cfg(not(target_os = "linux"))]
    return Err("GPIO needs Linux".into());
}

/// Makes outputs of the pins of rules and LED, switched off. An error as that of [`probe`].
pub fn open(
    rules: &[Rule],
    status_led: Option<Output>,
) -> std::result::Result<Box<dyn Pins>, String> {
    let outputs: Vec<Output> = rules
        .iter()
        .map(|rule| rule.output)
        .chain(status_led)
        .collect();
    #[cfg(target_os = "linux")]
    return rpi::open(&outputs);
    #[cfg(not(target_os = "linux"))]
    return Err(format!("GPIO needs Linux, and {outputs:?} are pins of it"));
}

/// Switches pins on when their labels are seen. A thread of its own switches them off when their hold has passed, also if
/// no scene comes any more, and drives the status LED. All are off when this is dropped.
pub struct GpioSink(Switch);

/// Switches all pins off, from any thread.
#[derive(Clone)]
pub struct Switch(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    telemetry: Arc<Telemetry>,
}

struct State {
    outputs: Outputs,
    led: Option<(Output, Rhythm)>,
    /// Nothing is switched on any more.
    is_over: bool,
}

impl GpioSink {
    /// Starts with all pins off. `pins` are those of the rules and the LED, which [`check`] has accepted.
    pub fn start(
        pins: Box<dyn Pins>,
        rules: &[Rule],
        status_led: Option<Output>,
        telemetry: Arc<Telemetry>,
    ) -> Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                outputs: Outputs::new(pins, rules),
                led: status_led.map(|led| (led, Rhythm::new(Instant::now()))),
                is_over: false,
            }),
            changed: Condvar::new(),
            telemetry,
        });
        shared.tell(&shared.lock());
        let sink = Self(Switch(shared.clone()));
        std::thread::Builder::new()
            .name("gpio".into())
            .spawn(move || shared.run())
            .map_err(Error::io("start the gpio thread"))?;
        Ok(sink)
    }

    /// A handle to switch off with.
    pub fn switch(&self) -> Switch {
        self.0.clone()
    }
}

impl Switch {
    /// Switches all pins off, for good.
    pub fn off(&self) {
        let shared = &self.0;
        let mut state = shared.lock();
        state.is_over = true;
        state.outputs.end();
        if let Some((led, _)) = state.led.take() {
            state.outputs.set(led, false);
        }
        shared.tell(&state);
        drop(state);
        shared.changed.notify_all();
    }
}

impl Drop for GpioSink {
    fn drop(&mut self) {
        self.0.off();
    }
}

impl Sink for GpioSink {
    fn name(&self) -> &str {
        "gpio"
    }

    fn delivery(&self) -> Delivery {
        Delivery::Newest
    }

    fn consume(&mut self, scene: &Arc<Scene>) -> Result<()> {
        let shared = &self.0.0;
        let mut state = shared.lock();
        if !state.is_over && state.outputs.see(&scene.detections, Instant::now()) {
            shared.tell(&state);
            shared.changed.notify_all();
        }
        Ok(())
    }
}

impl Shared {
    /// Switches off what is over, and the LED on and off, until all is over.
    fn run(&self) {
        let mut state = self.lock();
        while !state.is_over {
            let now = Instant::now();
            if state.outputs.expire(now) {
                self.tell(&state);
            }
            let State { outputs, led, .. } = &mut *state;
            let tick = led.as_mut().map(|(led, rhythm)| {
                outputs.set(*led, rhythm.is_lit(Condition::of(&self.telemetry), now));
                now + TICK
            });
            let next = [outputs.next_end(), tick].into_iter().flatten().min();
            state = match next {
                Some(at) => {
                    let wait = at.saturating_duration_since(now);
                    let waited = self.changed.wait_timeout(state, wait);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => {
                    let waited = self.changed.wait(state);
                    waited.unwrap_or_else(PoisonError::into_inner)
                }
            };
        }
    }

    fn tell(&self, state: &State) {
        self.telemetry.set_gpio(GpioSnapshot {
            error: None,
            outputs: state.outputs.states(),
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::detect::{BoundingBox, Detection};
    use crate::source::{Frame, PixelFormat, YuvRange};
    use crate::telemetry::SourceState;

    const PATIENCE: Duration = Duration::from_secs(60);

    /// Remembers every level that was set, the pin before it.
    #[derive(Clone, Default)]
    pub(super) struct Board(Arc<Mutex<Vec<(u8, Level)>>>);

    impl Board {
        pub fn changes(&self) -> Vec<(u8, Level)> {
            self.0.lock().unwrap().clone()
        }

        pub fn levels(&self) -> Vec<(u8, Level)> {
            let levels: BTreeMap<u8, Level> = self.changes().into_iter().collect();
            levels.into_iter().collect()
        }
    }

    impl Pins for Board {
        fn set(&mut self, pin: u8, level: Level) {
            self.0.lock().unwrap().push((pin, level));
        }
    }

    pub(super) fn found(label: &str) -> Detection {
        Detection {
            label: label.into(),
            class_id: 0,
            confidence: 0.9,
            bounding_box: BoundingBox::default(),
            track_id: None,
        }
    }

    fn scene(labels: &[&str]) -> Arc<Scene> {
        let frame = Frame {
            width: 1,
            height: 1,
            format: PixelFormat::Grey,
            range: YuvRange::Full,
            data: vec![0],
            index: 0,
            captured: Instant::now(),
            timestamp: SystemTime::now(),
            source: "test".into(),
        };
        let detections = labels.iter().map(|label| found(label)).collect();
        Arc::new(Scene::new(Arc::new(frame), detections, Duration::ZERO))
    }

    fn start(rules: &[&str], led: Option<&str>) -> (GpioSink, Board, Arc<Telemetry>) {
        let (board, telemetry) = (Board::default(), Arc::<Telemetry>::default());
        let rules: Vec<Rule> = rules.iter().map(|rule| rule.parse().unwrap()).collect();
        let led = led.map(|led| led.parse().unwrap());
        let pins = Box::new(board.clone());
        let sink = GpioSink::start(pins, &rules, led, telemetry.clone()).unwrap();
        (sink, board, telemetry)
    }

    fn wait_until(what: &str, mut reached: impl FnMut() -> bool) {
        let start = Instant::now();
        while !reached() {
            assert!(start.elapsed() < PATIENCE, "{what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn pins_fall_by_themselves_when_no_scene_comes_any_more() {
        let (mut sink, board, telemetry) = start(&["cat=17,hold=50ms", "dog=4,hold=1h"], None);
        assert_eq!(board.levels(), [(4, Level::Low), (17, Level::Low)]);
        let began = Instant::now();
        sink.consume(&scene(&["cat", "dog"])).unwrap();
        wait_until("a pin that falls", || {
            board.levels() == [(4, Level::High), (17, Level::Low)]
        });
        assert!(began.elapsed() >= Duration::from_millis(50));
        assert!(board.changes().contains(&(17, Level::High)));
        wait_until("a state that is told", || {
            let told = telemetry.snapshot().gpio.unwrap();
            told.outputs
                .iter()
                .map(|output| output.active)
                .eq([false, true])
        });
    }

    #[test]
    fn off_is_for_good() {
        let (mut sink, board, telemetry) = start(&["any=17,hold=1h"], Some("27,active=low"));
        sink.consume(&scene(&["cat"])).unwrap();
        wait_until("a lit LED", || board.levels().contains(&(27, Level::Low)));
        let off = [(17, Level::Low), (27, Level::High)];
        sink.switch().off();
        assert_eq!(board.levels(), off);
        sink.consume(&scene(&["cat"])).unwrap();
        std::thread::sleep(TICK * 2);
        assert_eq!(board.levels(), off);
        assert!(!telemetry.snapshot().gpio.unwrap().outputs[0].active);
    }

    #[test]
    fn a_panic_switches_off() {
        let (mut sink, board, _) = start(&["cat=17,hold=1h"], None);
        let panicked = std::thread::spawn(move || {
            sink.consume(&scene(&["cat"])).unwrap();
            assert!(sink.0.0.lock().is_over, "never");
        });
        assert!(panicked.join().is_err());
        assert_eq!(board.changes()[1..], [(17, Level::High), (17, Level::Low)]);
    }

    #[test]
    fn the_led_beats_with_frames_and_blinks_without_signal() {
        let (_sink, board, telemetry) = start(&[], Some("22"));
        wait_until("a lit LED", || board.levels() == [(22, Level::High)]);
        telemetry.set_source(SourceState::Live);
        wait_until("a dark LED", || board.levels() == [(22, Level::Low)]);
        let before = board.changes().len();
        telemetry.frame_inferred(Instant::now());
        wait_until("a flash", || board.changes().len() >= before + 2);
        assert_eq!(board.levels(), [(22, Level::Low)]);
        telemetry.set_source(SourceState::NoSignal {
            reason: "unplugged".into(),
        });
        wait_until("blinks", || board.changes().len() >= before + 5);
    }
}
