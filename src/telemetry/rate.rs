//! Events a second over the last few seconds.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

const WINDOW: Duration = Duration::from_secs(5);
const MAX_EVENTS: usize = 512;

/// Counts events of the last five seconds, at most the newest 512.
#[derive(Debug, Default)]
pub struct Rate {
    events: VecDeque<Instant>,
}

impl Rate {
    /// Counts one event. `now` does not go back.
    pub fn record(&mut self, now: Instant) {
        if self.events.len() == MAX_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(now);
    }

    /// Events a second. Sinks towards 0 when no more come.
    pub fn per_second(&mut self, now: Instant) -> f64 {
        while self
            .events
            .front()
            .is_some_and(|&oldest| now.saturating_duration_since(oldest) > WINDOW)
        {
            self.events.pop_front();
        }
        let (Some(&oldest), Some(&newest)) = (self.events.front(), self.events.back()) else {
            return 0.0;
        };
        let count = self.events.len() as f64;
        let since_oldest = now.saturating_duration_since(oldest).as_secs_f64();
        let span = newest.saturating_duration_since(oldest).as_secs_f64();
        if span == 0.0 {
            return if since_oldest >= 1.0 {
                count / since_oldest
            } else {
                0.0
            };
        }
        ((count - 1.0) / span).min(count / since_oldest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steady_events_give_their_frequency_and_silence_decays() {
        let mut rate = Rate::default();
        let start = Instant::now();
        assert_eq!(rate.per_second(start), 0.0);
        for i in 0..300u32 {
            rate.record(start + i * Duration::from_millis(40));
        }
        let end = start + 299 * Duration::from_millis(40);
        assert!((rate.per_second(end) - 25.0).abs() < 1e-6);
        assert!(rate.per_second(end + Duration::from_secs(3)) < 15.0);
        assert_eq!(rate.per_second(end + Duration::from_secs(6)), 0.0);
    }

    #[test]
    fn one_event_is_no_rate_yet() {
        let mut rate = Rate::default();
        let start = Instant::now();
        rate.record(start);
        assert_eq!(rate.per_second(start), 0.0);
        assert_eq!(rate.per_second(start + Duration::from_secs(2)), 0.5);
    }
}
