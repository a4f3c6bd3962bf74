//! The rhythm of the status LED.

use std::time::{Duration, Instant};

use crate::telemetry::{SourceState, Telemetry};

/// How often the LED is looked after.
pub(super) const TICK: Duration = Duration::from_millis(100);
const BEAT: Duration = Duration::from_secs(1);
const SLOW_BLINK: Duration = Duration::from_secs(1);

/// What the LED tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// Frames are inferred; how many have been.
    Live(u64),
    /// No frame has come yet.
    Starting,
    NoSignal,
    /// Frames come and none is inferred.
    Stuck,
    Ended,
}

impl Condition {
    pub fn of(telemetry: &Telemetry) -> Self {
        match telemetry.source() {
            _ if telemetry.is_stuck() => Self::Stuck,
            SourceState::Live => Self::Live(telemetry.inferred()),
            SourceState::Starting => Self::Starting,
            SourceState::NoSignal { .. } => Self::NoSignal,
            SourceState::Ended => Self::Ended,
        }
    }
}

/// One flash of a tick, at most one a second, while frames are inferred; on while the first frame is waited for; a
/// second on and a second off without a signal; five blinks a second if detection is stuck.
#[derive(Debug)]
pub(super) struct Rhythm {
    start: Instant,
    beat: Option<Beat>,
}

/// A flash, and the frames that had been inferred by then.
#[derive(Debug)]
struct Beat {
    at: Instant,
    inferred: u64,
}

impl Rhythm {
    pub fn new(start: Instant) -> Self {
        Self { start, beat: None }
    }

    /// Whether the LED is lit from now to the next tick.
    pub fn is_lit(&mut self, condition: Condition, now: Instant) -> bool {
        match condition {
            Condition::Live(inferred) => self.beats(inferred, now),
            Condition::Starting => true,
            Condition::NoSignal => self.is_in_first_half(SLOW_BLINK, now),
            Condition::Stuck => self.is_in_first_half(TICK, now),
            Condition::Ended => false,
        }
    }

    /// Frames drive it, not time: whoever sees a flash knows that one was inferred.
    fn beats(&mut self, inferred: u64, now: Instant) -> bool {
        let is_due = match &self.beat {
            Some(beat) => inferred > beat.inferred && now >= beat.at + BEAT,
            None => inferred > 0,
        };
        if is_due {
            self.beat = Some(Beat { at: now, inferred });
        }
        is_due
    }

    fn is_in_first_half(&self, half: Duration, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.start);
        (elapsed.as_millis() / half.as_millis()).is_multiple_of(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One character a tick: `#` is lit.
    fn drawn(ticks: u32, mut condition: impl FnMut(u32) -> Condition) -> String {
        let start = Instant::now();
        let mut rhythm = Rhythm::new(start);
        let lit = (0..ticks).map(|tick| rhythm.is_lit(condition(tick), start + TICK * tick));
        lit.map(|lit| if lit { '#' } else { '.' }).collect()
    }

    #[test]
    fn the_heart_beats_with_inferred_frames_alone() {
        let every_tick = |tick| Condition::Live(u64::from(tick));
        assert_eq!(drawn(23, every_tick), ".#.........#.........#.");
        let slow = |tick| Condition::Live(u64::from(tick / 15));
        assert_eq!(drawn(32, slow), "...............#..............#.");
        assert_eq!(
            drawn(30, |_| Condition::Live(1)),
            format!("#{}", ".".repeat(29))
        );
    }

    #[test]
    fn trouble_has_rhythms_of_its_own() {
        assert_eq!(drawn(22, |_| Condition::NoSignal), "##########..........##");
        assert_eq!(drawn(6, |_| Condition::Stuck), "#.#.#.");
        assert_eq!(drawn(3, |_| Condition::Starting), "###");
        assert_eq!(drawn(3, |_| Condition::Ended), "...");
    }

    #[test]
    fn the_condition_is_that_of_the_run() {
        let telemetry = Telemetry::default();
        assert_eq!(Condition::of(&telemetry), Condition::Starting);
        telemetry.set_source(SourceState::Live);
        telemetry.frame_inferred(Instant::now());
        assert_eq!(Condition::of(&telemetry), Condition::Live(1));
        telemetry.set_source(SourceState::NoSignal {
            reason: "unplugged".into(),
        });
        assert_eq!(Condition::of(&telemetry), Condition::NoSignal);
        telemetry.set_source(SourceState::Ended);
        assert_eq!(Condition::of(&telemetry), Condition::Ended);
    }
}
