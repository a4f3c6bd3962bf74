//! Waits between attempts to connect.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const LAST: Duration = Duration::from_secs(60);

/// Waits that double from one second to a minute, until a connection has stood for longer than that. Many machines that
/// lost one broker at one time come back at different times: each waits for a share of its own.
#[derive(Debug)]
pub(super) struct Backoff {
    delay: Duration,
    /// In `[0.5, 1]`.
    share: f64,
}

impl Backoff {
    /// `seed` differs from machine to machine.
    pub fn new(seed: u32) -> Self {
        Self {
            delay: FIRST,
            share: 0.5 + 0.5 * f64::from(seed) / f64::from(u32::MAX),
        }
    }

    /// How long to wait after a connection that stood for `stood`.
    pub fn next(&mut self, stood: Duration) -> Duration {
        if stood > LAST {
            self.delay = FIRST;
        }
        let delay = self.delay;
        self.delay = (delay * 2).min(LAST);
        delay.mul_f64(self.share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_last_and_begin_again_after_a_long_connection() {
        let mut backoff = Backoff::new(u32::MAX);
        let mut waits = |count: usize, stood: u64| -> Vec<u64> {
            let wait = |_| backoff.next(Duration::from_secs(stood)).as_secs();
            (0..count).map(wait).collect()
        };
        assert_eq!(waits(8, 0), [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(waits(1, 61), [1]);
        assert_eq!(waits(1, 5), [2]);
    }

    #[test]
    fn machines_wait_for_different_times() {
        let wait = |seed| Backoff::new(seed).next(Duration::ZERO);
        assert_eq!(wait(0), FIRST / 2);
        assert!(wait(1 << 30) > wait(0) && wait(1 << 31) > wait(1 << 30));
    }
}
