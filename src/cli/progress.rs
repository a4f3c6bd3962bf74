//! How far long work has come, on a terminal.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use super::terminal;

const INTERVAL: Duration = Duration::from_millis(200);

/// A line on stderr with count and time left; nothing where stderr is no terminal. Dropping it takes the line away.
pub(super) struct Progress {
    what: &'static str,
    total: usize,
    done: usize,
    started: Instant,
    /// `None` where nobody looks.
    shown: Option<Instant>,
}

impl Progress {
    /// `what` is being done, to so many things.
    pub fn new(what: &'static str, total: usize) -> Self {
        let now = Instant::now();
        Self {
            what,
            total,
            done: 0,
            started: now,
            shown: io::stderr().is_terminal().then_some(now),
        }
    }

    /// One more is done.
    pub fn step(&mut self) {
        self.done += 1;
        if self.shown.is_some_and(|shown| shown.elapsed() >= INTERVAL) {
            self.shown = Some(Instant::now());
            terminal::show_line(&self.line(self.started.elapsed()));
        }
    }

    fn line(&self, elapsed: Duration) -> String {
        let Self {
            what, total, done, ..
        } = self;
        let left = elapsed.as_secs_f64() / (*done).max(1) as f64 * (total - done) as f64;
        let left = left.round() as u64;
        format!(
            "{what} {done} of {total}, {}:{:02} left",
            left / 60,
            left % 60
        )
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown.is_some() {
            terminal::clear_line();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_follows_from_the_time_taken() {
        let mut progress = Progress::new("evaluating", 400);
        progress.done = 100;
        let line = progress.line(Duration::from_secs(25));
        assert_eq!(line, "evaluating 100 of 400, 1:15 left");
    }
}
