//! What is odd about a data set, or lost on the way.

/// Kinds of oddities, each with how often it occurred and where first.
#[derive(Clone, Debug, Default)]
pub struct Notes(Vec<Note>);

#[derive(Clone, Debug)]
struct Note {
    /// Follows the count: `boxes are empty`.
    what: &'static str,
    count: usize,
    first: String,
}

impl Notes {
    /// Counts one. `place` is asked only for the first of a kind.
    pub(super) fn add(&mut self, what: &'static str, place: impl FnOnce() -> String) {
        match self.0.iter_mut().find(|note| note.what == what) {
            Some(note) => note.count += 1,
            None => self.0.push(Note {
                what,
                count: 1,
                first: place(),
            }),
        }
    }

    /// A line for each kind.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|note| {
            let Note { what, count, first } = note;
            format!("{count} {what} (first: {first})")
        })
    }

    /// Logs each kind; `name` is the data set's.
    pub fn warn(&self, name: &str) {
        for line in self.lines() {
            log::warn!("{name}: {line}");
        }
    }
}
