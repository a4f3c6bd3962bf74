//! The names of topics.

use std::sync::Arc;

/// A topic level is kept this short.
const MAX_LEVEL: usize = 64;

/// Whether a text can be a level of our topics as it is: letters, digits and `-_.`, at most 64 bytes.
pub(super) fn is_level(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_LEVEL && text.chars().all(is_plain)
}

fn is_plain(c: char) -> bool {
    c.is_alphanumeric() || "-_.".contains(c)
}

/// A level for any text, such as a label: every other character becomes `_`, and what is too long is cut.
pub(super) fn level(text: &str) -> String {
    let mut level = String::new();
    for c in text.chars().map(|c| if is_plain(c) { c } else { '_' }) {
        if level.len() + c.len_utf8() > MAX_LEVEL {
            break;
        }
        level.push(c);
    }
    if level.is_empty() { "_".into() } else { level }
}

/// The topics of one eyas, all below `PREFIX/NAME/`.
#[derive(Clone, Debug)]
pub(super) struct Topics {
    base: String,
}

impl Topics {
    /// Both are made of what [`is_level`] allows; the prefix may have several levels.
    pub fn new(prefix: &str, name: &str) -> Self {
        Self {
            base: format!("{prefix}/{name}"),
        }
    }

    /// `online` or `offline`.
    pub fn availability(&self) -> String {
        self.below("availability")
    }

    pub fn detections(&self) -> String {
        self.below("detections")
    }

    pub fn events(&self) -> String {
        self.below("events")
    }

    pub fn status(&self) -> String {
        self.below("status")
    }

    /// The topic of a [`Counted::key`].
    pub fn below(&self, key: &str) -> String {
        format!("{}/{key}", self.base)
    }

    /// What covers all counts.
    pub fn count_filters(&self) -> [String; 2] {
        [self.below("count/+"), self.below("zone/+/+")]
    }

    /// The [`Counted::key`] of a count's topic.
    pub fn key_of<'a>(&self, topic: &'a str) -> Option<&'a str> {
        let key = topic.strip_prefix(&self.base)?.strip_prefix('/')?;
        (key.starts_with("count/") || key.starts_with("zone/")).then_some(key)
    }
}

/// What is counted: objects with one label, in the whole picture or in a zone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Counted {
    /// The end of its topic: `count/LABEL` or `zone/ZONE/LABEL`.
    pub key: String,
    /// For people: `LABEL` or `ZONE LABEL`.
    pub words: String,
}

impl Counted {
    pub fn label(label: &str) -> Self {
        Self {
            key: format!("count/{}", level(label)),
            words: label.into(),
        }
    }

    pub fn in_zone(zone: &str, label: &str) -> Self {
        Self {
            key: format!("zone/{}/{}", level(zone), level(label)),
            words: format!("{zone} {label}"),
        }
    }
}

/// Labels that are counted in the whole picture, or in one zone.
#[derive(Clone, Debug)]
pub struct Group {
    pub zone: Option<Arc<str>>,
    pub labels: Vec<Arc<str>>,
}

impl Group {
    /// Everything that is counted in it.
    pub(super) fn counted(&self) -> impl Iterator<Item = Counted> {
        self.labels.iter().map(|label| self.count_of(label))
    }

    fn count_of(&self, label: &str) -> Counted {
        match &self.zone {
            Some(zone) => Counted::in_zone(zone, label),
            None => Counted::label(label),
        }
    }

    /// What has this key.
    pub(super) fn find(&self, key: &str) -> Option<Counted> {
        let place = match &self.zone {
            Some(zone) => format!("zone/{}/", level(zone)),
            None => "count/".into(),
        };
        let end = key.strip_prefix(&place)?;
        let label = self.labels.iter().find(|label| level(label) == end)?;
        Some(self.count_of(label))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_has_a_level() {
        for (text, expected) in [
            ("person", "person"),
            ("traffic light", "traffic_light"),
            ("a/b+c#d", "a_b_c_d"),
            ("Füße.2-x", "Füße.2-x"),
            ("$SYS\0", "_SYS_"),
            ("", "_"),
        ] {
            assert_eq!(level(text), expected);
            assert!(is_level(expected));
        }
        let long = level(&"ü".repeat(100));
        assert!(is_level(&long) && long.len() == 64);
        assert!(!is_level("") && !is_level("a/b") && !is_level("$x") && !is_level(&"x".repeat(65)));
    }

    #[test]
    fn topics_lie_below_prefix_and_name() {
        let topics = Topics::new("site/north", "gate");
        assert_eq!(topics.availability(), "site/north/gate/availability");
        let person = Counted::label("traffic light");
        let topic = topics.below(&person.key);
        assert_eq!(topic, "site/north/gate/count/traffic_light");
        assert_eq!(topics.key_of(&topic), Some(&*person.key));
        let zone = Counted::in_zone("drive way", "car");
        assert_eq!(
            topics.key_of("site/north/gate/zone/drive_way/car"),
            Some(&*zone.key)
        );
        assert_eq!(topics.key_of("site/north/gate/status"), None);
        assert_eq!(topics.key_of("site/north/gate2/count/car"), None);
    }

    #[test]
    fn groups_find_their_counts_by_key() {
        let group = |zone: Option<&str>| Group {
            zone: zone.map(Arc::from),
            labels: vec!["car".into(), "traffic light".into()],
        };
        let [everywhere, zone] = [None, Some("drive way")].map(group);
        for counted in everywhere.counted() {
            assert_eq!(everywhere.find(&counted.key), Some(counted.clone()));
            assert_eq!(zone.find(&counted.key), None);
        }
        let key = "zone/drive_way/traffic_light";
        assert_eq!(
            zone.find(key),
            Some(Counted::in_zone("drive way", "traffic light"))
        );
        assert_eq!(everywhere.find(key), None);
        assert_eq!(zone.find("zone/drive_way/sofa"), None);
    }
}
