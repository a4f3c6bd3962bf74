//! Slows detection down before the firmware of a hot machine does.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::telemetry::system::SystemReading;

/// Percent of the time that detection may take, step by step.
const DUTIES: [u32; 4] = [100, 75, 50, 25];
/// The firmware of a Raspberry Pi throttles at 80 degrees (Raspberry Pi documentation, "Frequency management and thermal
/// control").
const HOT_CELSIUS: f64 = 77.0;
const COOL_CELSIUS: f64 = 72.0;
/// So long a step is given to show in the temperature before the next one.
const SLOWER_AFTER: Duration = Duration::from_secs(10);
const FASTER_AFTER: Duration = Duration::from_secs(30);
/// A rest ends after so long, however long the frame before it took: the end of the run waits for it.
const MAX_REST: Duration = Duration::from_secs(1);

/// Decides how much of the time detection may take. Between 72 and 77 degrees nothing changes.
#[derive(Debug, Default)]
pub(super) struct Governor {
    /// Index into [`DUTIES`].
    step: usize,
    changed: Option<Instant>,
}

impl Governor {
    /// Looks at a reading; the new duty in percent if it is another one. Only machines that report throttling flags are
    /// governed: their limits are known.
    pub fn observe(&mut self, reading: &SystemReading, now: Instant) -> Option<u32> {
        let (Some(flags), Some(celsius)) = (reading.throttling, reading.temperature_celsius) else {
            return None;
        };
        let waited = |time| {
            self.changed
                .is_none_or(|at| now.saturating_duration_since(at) >= time)
        };
        let step = if flags.now.throttled || celsius >= HOT_CELSIUS {
            (self.step + usize::from(waited(SLOWER_AFTER))).min(DUTIES.len() - 1)
        } else if celsius <= COOL_CELSIUS {
            self.step - usize::from(self.step > 0 && waited(FASTER_AFTER))
        } else {
            self.step
        };
        if step == self.step {
            return None;
        }
        self.step = step;
        self.changed = Some(now);
        Some(DUTIES[step])
    }
}

/// The duty that the governor has set and the detecting thread keeps.
#[derive(Debug)]
pub(super) struct Duty(AtomicU32);

impl Default for Duty {
    fn default() -> Self {
        Self(AtomicU32::new(DUTIES[0]))
    }
}

impl Duty {
    /// Sets it, in percent from 1 to 100.
    pub fn set(&self, percent: u32) {
        self.0.store(percent.clamp(1, 100), Ordering::Relaxed);
    }

    /// How long to rest after so much work.
    pub fn rest(&self, work: Duration) -> Duration {
        let percent = self.0.load(Ordering::Relaxed);
        (work * (100 - percent) / percent).min(MAX_REST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::system::Throttling;

    fn reading(celsius: f64, throttled: bool) -> SystemReading {
        SystemReading {
            temperature_celsius: Some(celsius),
            throttling: Some(Throttling::from_bits(u64::from(throttled) << 2)),
            ..SystemReading::default()
        }
    }

    /// What the governor says second by second.
    fn watch(
        governor: &mut Governor,
        start: Instant,
        seconds: std::ops::Range<u64>,
        at: &SystemReading,
    ) -> Vec<(u64, u32)> {
        seconds
            .filter_map(|second| {
                let duty = governor.observe(at, start + Duration::from_secs(second))?;
                Some((second, duty))
            })
            .collect()
    }

    #[test]
    fn heat_slows_down_step_by_step_and_coolness_speeds_up() {
        let (mut governor, start) = (Governor::default(), Instant::now());
        let mut watch =
            |seconds, celsius| watch(&mut governor, start, seconds, &reading(celsius, false));
        assert!(watch(0..100, 76.9).is_empty());
        assert_eq!(watch(100..160, 77.0), [(100, 75), (110, 50), (120, 25)]);
        assert!(watch(160..300, 72.1).is_empty());
        assert_eq!(watch(300..420, 72.0), [(300, 50), (330, 75), (360, 100)]);
    }

    #[test]
    fn a_short_coolness_does_not_speed_up() {
        let (mut governor, start) = (Governor::default(), Instant::now());
        assert_eq!(
            watch(&mut governor, start, 0..5, &reading(79.0, false)),
            [(0, 75)]
        );
        assert!(watch(&mut governor, start, 5..30, &reading(70.0, false)).is_empty());
        assert_eq!(
            watch(&mut governor, start, 30..40, &reading(79.0, false)),
            [(30, 50)]
        );
    }

    #[test]
    fn the_flag_of_the_firmware_counts_as_heat() {
        let (mut governor, start) = (Governor::default(), Instant::now());
        assert_eq!(
            watch(&mut governor, start, 0..1, &reading(60.0, true)),
            [(0, 75)]
        );
    }

    #[test]
    fn machines_without_flags_or_temperature_are_left_alone() {
        let mut governor = Governor::default();
        for reading in [
            SystemReading {
                throttling: None,
                ..reading(95.0, false)
            },
            SystemReading {
                temperature_celsius: None,
                ..reading(0.0, true)
            },
        ] {
            assert_eq!(governor.observe(&reading, Instant::now()), None);
        }
    }

    #[test]
    fn rests_keep_the_duty_and_end() {
        let duty = Duty::default();
        let work = Duration::from_millis(60);
        assert_eq!(duty.rest(work), Duration::ZERO);
        for (percent, millis) in [(75, 20), (50, 60), (25, 180)] {
            duty.set(percent);
            assert_eq!(duty.rest(work), Duration::from_millis(millis));
        }
        assert_eq!(duty.rest(work * 1000), MAX_REST);
    }
}
