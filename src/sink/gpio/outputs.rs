//! Which pins are on, by what was seen and when.

use std::collections::BTreeMap;
use std::time::Instant;

use super::rule::{Level, Output, Rule};
use crate::detect::Detection;
use crate::telemetry::GpioOutput;

/// Sets the levels of output pins. Tests put their own in the place of a Raspberry Pi's.
pub trait Pins: Send {
    /// `pin` is one of those that they were made for.
    fn set(&mut self, pin: u8, level: Level);
}

/// Pins with the rules that they follow. A pin is on while one of its rules is.
pub(super) struct Outputs {
    pins: Box<dyn Pins>,
    rules: Vec<(Rule, Option<Instant>)>,
    /// The levels that were set last.
    levels: BTreeMap<u8, Level>,
}

impl Outputs {
    /// All off.
    pub fn new(pins: Box<dyn Pins>, rules: &[Rule]) -> Self {
        let mut outputs = Self {
            pins,
            rules: rules.iter().map(|rule| (rule.clone(), None)).collect(),
            levels: BTreeMap::new(),
        };
        outputs.apply();
        outputs
    }

    /// Rules whose subject is among the detections are on until their hold has passed from `now`. True if one has changed.
    pub fn see(&mut self, detections: &[Detection], now: Instant) -> bool {
        let mut changed = false;
        for (rule, until) in &mut self.rules {
            let is_seen = |found: &Detection| rule.subject.matches(&found.label);
            if detections.iter().any(is_seen) {
                changed |= until.is_none();
                *until = Some(now + rule.hold);
            }
        }
        self.apply();
        changed
    }

    /// Ends the rules whose hold has passed. True if one has changed.
    pub fn expire(&mut self, now: Instant) -> bool {
        let mut changed = false;
        for (_, until) in &mut self.rules {
            if until.take_if(|until| *until <= now).is_some() {
                changed = true;
            }
        }
        self.apply();
        changed
    }

    /// When the next rule ends, if nothing is seen any more.
    pub fn next_end(&self) -> Option<Instant> {
        self.rules.iter().filter_map(|(_, until)| *until).min()
    }

    /// Ends every rule.
    pub fn end(&mut self) {
        for (_, until) in &mut self.rules {
            *until = None;
        }
        self.apply();
    }

    /// Sets a pin that follows no rule.
    pub fn set(&mut self, output: Output, is_on: bool) {
        let level = if is_on { output.active } else { !output.active };
        if self.levels.insert(output.pin, level) != Some(level) {
            self.pins.set(output.pin, level);
        }
    }

    /// Every rule and whether it is on.
    pub fn states(&self) -> Vec<GpioOutput> {
        let state = |(rule, until): &(Rule, Option<Instant>)| GpioOutput {
            pin: rule.output.pin,
            label: rule.subject.name().into(),
            active: until.is_some(),
        };
        self.rules.iter().map(state).collect()
    }

    fn apply(&mut self) {
        let mut wanted: BTreeMap<u8, (Output, bool)> = BTreeMap::new();
        for (rule, until) in &self.rules {
            let entry = wanted.entry(rule.output.pin);
            entry.or_insert((rule.output, false)).1 |= until.is_some();
        }
        for (output, is_on) in wanted.into_values() {
            self.set(output, is_on);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::tests::{Board, found};
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn outputs(rules: &[&str]) -> (Outputs, Board) {
        let board = Board::default();
        let rules: Vec<Rule> = rules.iter().map(|rule| rule.parse().unwrap()).collect();
        (Outputs::new(Box::new(board.clone()), &rules), board)
    }

    #[test]
    fn hold_counts_from_the_last_time_that_the_label_was_seen() {
        let (mut outputs, board) = outputs(&["cat=17,hold=2s", "dog=4,active=low"]);
        assert_eq!(board.levels(), [(4, Level::High), (17, Level::Low)]);
        let start = Instant::now();
        assert_eq!(outputs.next_end(), None);
        assert!(outputs.see(&[found("Cat")], start));
        assert_eq!(board.levels(), [(4, Level::High), (17, Level::High)]);
        assert!(!outputs.see(&[found("cat"), found("cow")], start + SECOND));
        assert_eq!(outputs.next_end(), Some(start + 3 * SECOND));
        assert!(!outputs.expire(start + 2 * SECOND));
        assert!(outputs.see(&[found("dog")], start + 2 * SECOND));
        assert_eq!(board.levels(), [(4, Level::Low), (17, Level::High)]);
        assert!(outputs.expire(start + 3 * SECOND));
        assert_eq!(board.levels(), [(4, Level::High), (17, Level::Low)]);
        assert_eq!(outputs.next_end(), None);
    }

    #[test]
    fn labels_that_share_a_pin_switch_it_on_together() {
        let (mut outputs, board) = outputs(&["cat=17,hold=1s", "dog=17,hold=3s"]);
        let start = Instant::now();
        outputs.see(&[found("dog"), found("cat")], start);
        assert!(outputs.expire(start + SECOND));
        assert_eq!(board.levels(), [(17, Level::High)]);
        let active: Vec<bool> = outputs.states().iter().map(|state| state.active).collect();
        assert_eq!(active, [false, true]);
        outputs.expire(start + 3 * SECOND);
        assert_eq!(board.levels(), [(17, Level::Low)]);
        let changes = board.changes();
        assert_eq!(
            changes,
            [(17, Level::Low), (17, Level::High), (17, Level::Low)]
        );
    }

    #[test]
    fn the_end_switches_every_rule_off() {
        let (mut outputs, board) = outputs(&["any=17,hold=1h", "cat=4,active=low"]);
        outputs.see(&[found("cat")], Instant::now());
        assert_eq!(board.levels(), [(4, Level::Low), (17, Level::High)]);
        outputs.end();
        assert_eq!(board.levels(), [(4, Level::High), (17, Level::Low)]);
        assert!(outputs.states().iter().all(|state| !state.active));
    }
}
