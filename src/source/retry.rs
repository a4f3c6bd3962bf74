//! Waits between attempts to open what has been lost.

use std::time::{Duration, Instant};

use super::Next;
use super::stream::PATIENCE;

/// When to try again, and why the last attempt failed. Waits double from the first to the last until a frame comes.
#[derive(Clone, Debug)]
pub(super) struct Retry {
    first: Duration,
    last: Duration,
    delay: Duration,
    at: Instant,
    reason: String,
}

impl Retry {
    pub(super) fn new(first: Duration, last: Duration) -> Self {
        Self {
            first,
            last,
            delay: first,
            at: Instant::now(),
            reason: String::new(),
        }
    }

    /// The attempt has given a frame.
    pub(super) fn succeeded(&mut self) {
        self.delay = self.first;
    }

    /// The attempt has failed.
    pub(super) fn later(&mut self, reason: String) -> Next {
        self.at = Instant::now() + self.delay;
        self.delay = (self.delay * 2).min(self.last);
        self.reason = reason;
        Next::NoSignal(self.reason.clone())
    }

    /// Waits for the time of the next attempt, at most [`PATIENCE`]. `None` if it is there.
    pub(super) fn wait(&self) -> Option<Next> {
        let left = self.at.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        std::thread::sleep(left.min(PATIENCE));
        Some(Next::NoSignal(self.reason.clone()))
    }

    /// Why the last attempt failed.
    pub(super) fn reason(&self) -> &str {
        &self.reason
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_last_and_begin_again_after_a_frame() {
        let [first, last] = [1, 5].map(Duration::from_millis);
        let mut retry = Retry::new(first, last);
        assert!(retry.wait().is_none());
        for expected in [2, 4, 5, 5] {
            assert!(
                matches!(retry.later("gone".into()), Next::NoSignal(reason) if reason == "gone")
            );
            assert_eq!(retry.delay, Duration::from_millis(expected));
        }
        retry.succeeded();
        assert_eq!(retry.delay, first);
    }

    #[test]
    fn a_wait_says_why() {
        let second = Duration::from_millis(30);
        let mut retry = Retry::new(second, second);
        retry.later("gone".into());
        assert!(matches!(retry.wait(), Some(Next::NoSignal(reason)) if reason == "gone"));
        while retry.wait().is_some() {}
    }
}
