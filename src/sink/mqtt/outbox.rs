//! What waits to be published, and when its time comes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use super::topics::Counted;

/// Scenes with detections are told at most this often: the newest.
const DETECTIONS_INTERVAL: Duration = Duration::from_millis(200);
/// A count that changes back and forth is told at most this often.
const COUNT_INTERVAL: Duration = Duration::from_secs(1);
/// The announcement waits so long for what else is to be announced: the broker tells of earlier counts one by one.
const ANNOUNCEMENT_DELAY: Duration = Duration::from_millis(500);
const STATUS_INTERVAL: Duration = Duration::from_secs(30);
/// Events that wait; when there are more the oldest is given up.
const MAX_EVENTS: usize = 1024;
/// Counts of earlier runs that are cleared.
const MAX_FORGOTTEN: usize = 1024;

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Publish(Due),
    /// Nothing, until this time at the latest.
    Wait(Instant),
}

/// What is to be published.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// That this eyas is online.
    Availability,
    /// What it can tell.
    Announcement {
        counted: Vec<Counted>,
        /// Keys of counts that exist no more.
        forgotten: Vec<String>,
    },
    /// A line of JSON.
    Event(String),
    Count {
        key: String,
        objects: usize,
    },
    /// One that exists no more.
    NoCount {
        key: String,
    },
    Status,
    /// A line of JSON.
    Detections(String),
}

#[derive(Debug)]
struct Count {
    words: String,
    objects: usize,
    /// What the broker was told last, on this connection.
    told: Option<usize>,
    next_at: Instant,
}

/// Newest values and a bounded queue. Knows no clock: all methods are told the time.
#[derive(Debug)]
pub(super) struct Outbox {
    availability_due: bool,
    announcement_at: Option<Instant>,
    events: VecDeque<String>,
    counts: BTreeMap<String, Count>,
    forgotten: BTreeSet<String>,
    status_at: Instant,
    detections: Option<String>,
    detections_at: Instant,
    /// Whether the newest scene had no detections.
    is_empty: bool,
}

impl Outbox {
    /// An outbox in which `counted` are 0 until more is known.
    pub fn new(counted: impl IntoIterator<Item = Counted>, now: Instant) -> Self {
        let mut outbox = Self {
            availability_due: false,
            announcement_at: None,
            events: VecDeque::new(),
            counts: BTreeMap::new(),
            forgotten: BTreeSet::new(),
            status_at: now,
            detections: None,
            detections_at: now,
            is_empty: true,
        };
        for counted in counted {
            outbox.count(counted, 0, now);
        }
        outbox
    }

    /// A connection stands, on which nothing has been told yet. Events wait for it, old detections do not.
    pub fn connected(&mut self, now: Instant) {
        self.availability_due = true;
        self.announce_soon(now);
        self.status_at = now;
        self.detections = None;
        for count in self.counts.values_mut() {
            count.told = None;
            count.next_at = now;
        }
    }

    /// Somebody new wants to know what there is.
    pub fn announce(&mut self, now: Instant) {
        self.announcement_at = Some(now);
    }

    fn announce_soon(&mut self, now: Instant) {
        self.announcement_at.get_or_insert(now + ANNOUNCEMENT_DELAY);
    }

    /// The status has changed.
    pub fn status_changed(&mut self, now: Instant) {
        self.status_at = now;
    }

    /// The line of a newer scene, with detections or without. Of empty ones in a row only the first is told.
    pub fn detections(&mut self, line: impl FnOnce() -> String, is_empty: bool) {
        if !(is_empty && self.is_empty) {
            self.detections = Some(line());
        }
        self.is_empty = is_empty;
    }

    /// Adds events, and returns how many older ones were given up for them.
    pub fn events(&mut self, lines: impl IntoIterator<Item = String>) -> u64 {
        self.events.extend(lines);
        let excess = self.events.len().saturating_sub(MAX_EVENTS);
        self.events.drain(..excess);
        excess as u64
    }

    /// These are the counts now; what is not among them is 0.
    pub fn counts(&mut self, counts: impl IntoIterator<Item = (Counted, usize)>, now: Instant) {
        for count in self.counts.values_mut() {
            count.objects = 0;
        }
        for (counted, objects) in counts {
            self.count(counted, objects, now);
        }
    }

    fn count(&mut self, counted: Counted, objects: usize, now: Instant) {
        let Counted { key, words } = counted;
        if let Some(count) = self.counts.get_mut(&key) {
            count.objects += objects;
            return;
        }
        self.forgotten.remove(&key);
        self.announce_soon(now);
        let count = Count {
            words,
            objects,
            told: None,
            next_at: now,
        };
        self.counts.insert(key, count);
    }

    /// The broker keeps a count of an earlier run: it counts on if it is known what it counts, else it is cleared.
    pub fn remembered(&mut self, key: &str, counted: Option<Counted>, now: Instant) {
        if self.counts.contains_key(key) {
            return;
        }
        match counted {
            Some(counted) => self.count(counted, 0, now),
            None if self.forgotten.len() < MAX_FORGOTTEN => {
                self.forgotten.insert(key.into());
                self.announce_soon(now);
            }
            None => {}
        }
    }

    /// Takes what is to be published now, most important first.
    pub fn next(&mut self, now: Instant) -> Step {
        if std::mem::take(&mut self.availability_due) {
            return Step::Publish(Due::Availability);
        }
        if self.announcement_at.is_some_and(|at| at <= now) {
            return Step::Publish(self.announcement());
        }
        if self.announcement_at.is_none()
            && let Some(key) = self.forgotten.pop_first()
        {
            return Step::Publish(Due::NoCount { key });
        }
        if let Some(line) = self.events.pop_front() {
            return Step::Publish(Due::Event(line));
        }
        if let Some(count) = self.next_count(now) {
            return Step::Publish(count);
        }
        if self.status_at <= now {
            self.status_at = now + STATUS_INTERVAL;
            return Step::Publish(Due::Status);
        }
        if self.detections_at <= now
            && let Some(line) = self.detections.take()
        {
            self.detections_at = now + DETECTIONS_INTERVAL;
            return Step::Publish(Due::Detections(line));
        }
        Step::Wait(self.next_time())
    }

    fn announcement(&mut self) -> Due {
        self.announcement_at = None;
        let counted = self.counts.iter().map(|(key, count)| Counted {
            key: key.clone(),
            words: count.words.clone(),
        });
        Due::Announcement {
            counted: counted.collect(),
            forgotten: self.forgotten.iter().cloned().collect(),
        }
    }

    fn next_count(&mut self, now: Instant) -> Option<Due> {
        let due = |count: &Count| count.told != Some(count.objects) && count.next_at <= now;
        let (key, count) = self.counts.iter_mut().find(|(_, count)| due(count))?;
        count.told = Some(count.objects);
        count.next_at = now + COUNT_INTERVAL;
        Some(Due::Count {
            key: key.clone(),
            objects: count.objects,
        })
    }

    fn next_time(&self) -> Instant {
        let changed = self.counts.values();
        let counts = changed
            .filter(|count| count.told != Some(count.objects))
            .map(|count| count.next_at);
        let detections = self.detections.is_some().then_some(self.detections_at);
        counts
            .chain(detections)
            .chain(self.announcement_at)
            .fold(self.status_at, Instant::min)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(outbox: &mut Outbox, now: Instant) -> Vec<Due> {
        let mut due = Vec::new();
        while let Step::Publish(next) = outbox.next(now) {
            due.push(next);
        }
        due
    }

    fn count(key: &str, objects: usize) -> Due {
        let key = key.into();
        Due::Count { key, objects }
    }

    fn announcement(labels: &[&str], forgotten: &[&str]) -> Due {
        Due::Announcement {
            counted: labels.iter().map(|label| Counted::label(label)).collect(),
            forgotten: forgotten.iter().map(|&key| key.into()).collect(),
        }
    }

    /// An outbox that has told all that there is at the start, and the time when that is done.
    fn quiet(labels: &[&str]) -> (Outbox, Instant) {
        let now = Instant::now();
        let mut outbox = Outbox::new(labels.iter().map(|&label| Counted::label(label)), now);
        outbox.connected(now);
        all(&mut outbox, now);
        let now = now + ANNOUNCEMENT_DELAY;
        all(&mut outbox, now);
        (outbox, now)
    }

    #[test]
    fn a_connection_is_told_everything_in_order() {
        let now = Instant::now();
        let mut outbox = Outbox::new(["cat", "dog"].map(Counted::label), now);
        outbox.events(["event".into()]);
        outbox.detections(|| "old".into(), false);
        outbox.counts([(Counted::label("dog"), 2)], now);
        for events in [&["event"][..], &[]] {
            outbox.connected(now);
            let mut expected = vec![Due::Availability];
            expected.extend(events.iter().map(|&line| Due::Event(line.into())));
            expected.extend([count("count/cat", 0), count("count/dog", 2), Due::Status]);
            assert_eq!(all(&mut outbox, now), expected);
        }
        let soon = now + ANNOUNCEMENT_DELAY;
        assert_eq!(outbox.next(now), Step::Wait(soon));
        let announced = || [announcement(&["cat", "dog"], &[])];
        assert_eq!(all(&mut outbox, soon), announced());
        outbox.announce(soon);
        assert_eq!(all(&mut outbox, soon), announced());
    }

    #[test]
    fn the_newest_detections_are_told_five_times_a_second_and_emptiness_once() {
        let (mut outbox, now) = quiet(&[]);
        outbox.detections(|| panic!("nothing was told before"), true);
        assert!(all(&mut outbox, now).is_empty());
        let told = |line: &str| [Due::Detections(line.into())];
        outbox.detections(|| "1".into(), false);
        assert_eq!(all(&mut outbox, now), told("1"));
        outbox.detections(|| "2".into(), false);
        outbox.detections(|| "3".into(), false);
        let later = now + DETECTIONS_INTERVAL;
        assert_eq!(outbox.next(now), Step::Wait(later));
        assert_eq!(all(&mut outbox, later), told("3"));
        outbox.detections(|| "4".into(), true);
        outbox.detections(|| panic!("told already"), true);
        let later = later + DETECTIONS_INTERVAL;
        assert_eq!(all(&mut outbox, later), told("4"));
    }

    #[test]
    fn counts_are_told_when_they_change_and_once_a_second() {
        let (mut outbox, now) = quiet(&["cat", "dog"]);
        let later = now + COUNT_INTERVAL;
        outbox.counts([(Counted::label("cat"), 1)], later);
        assert_eq!(all(&mut outbox, later), [count("count/cat", 1)]);
        outbox.counts([], later);
        let later_still = later + COUNT_INTERVAL;
        assert_eq!(outbox.next(later), Step::Wait(later_still));
        outbox.counts([(Counted::label("cat"), 1)], later);
        assert!(all(&mut outbox, later_still).is_empty());
        outbox.counts([], later);
        assert_eq!(all(&mut outbox, later_still), [count("count/cat", 0)]);
    }

    #[test]
    fn labels_that_differ_in_characters_that_topics_lack_are_counted_together() {
        let (mut outbox, now) = quiet(&["a b"]);
        outbox.counts(
            [("a b", 1), ("a/b", 2)].map(|(label, n)| (Counted::label(label), n)),
            now,
        );
        let later = now + COUNT_INTERVAL;
        assert_eq!(all(&mut outbox, later), [count("count/a_b", 3)]);
    }

    #[test]
    fn a_new_label_is_announced() {
        let (mut outbox, now) = quiet(&["cat"]);
        outbox.counts([(Counted::label("dog"), 1)], now);
        assert_eq!(all(&mut outbox, now), [count("count/dog", 1)]);
        let soon = now + ANNOUNCEMENT_DELAY;
        assert_eq!(all(&mut outbox, soon), [announcement(&["cat", "dog"], &[])]);
    }

    #[test]
    fn counts_of_earlier_runs_go_on_or_are_cleared() {
        let (mut outbox, now) = quiet(&["cat"]);
        outbox.remembered("count/cat", None, now);
        outbox.remembered("count/dog", Some(Counted::label("dog")), now);
        outbox.remembered("count/sofa", None, now);
        assert_eq!(all(&mut outbox, now), [count("count/dog", 0)]);
        let key = "count/sofa".into();
        let soon = now + ANNOUNCEMENT_DELAY;
        let announced = announcement(&["cat", "dog"], &["count/sofa"]);
        assert_eq!(all(&mut outbox, soon), [announced, Due::NoCount { key }]);
        for index in 0..2 * MAX_FORGOTTEN {
            outbox.remembered(&format!("count/{index}"), None, now);
        }
        assert_eq!(outbox.forgotten.len(), MAX_FORGOTTEN);
    }

    #[test]
    fn too_many_events_give_up_the_oldest() {
        let (mut outbox, now) = quiet(&[]);
        let lines = |range: std::ops::Range<usize>| range.map(|index| index.to_string());
        assert_eq!(outbox.events(lines(0..MAX_EVENTS)), 0);
        assert_eq!(outbox.events(lines(MAX_EVENTS..MAX_EVENTS + 3)), 3);
        let due = all(&mut outbox, now);
        assert_eq!(due.len(), MAX_EVENTS);
        assert_eq!(due[0], Due::Event("3".into()));
    }

    #[test]
    fn the_status_is_told_every_half_minute_and_when_it_changes() {
        let (mut outbox, now) = quiet(&[]);
        let later = now - ANNOUNCEMENT_DELAY + STATUS_INTERVAL;
        assert_eq!(outbox.next(now), Step::Wait(later));
        assert_eq!(all(&mut outbox, later), [Due::Status]);
        outbox.status_changed(later);
        assert_eq!(all(&mut outbox, later), [Due::Status]);
    }
}
