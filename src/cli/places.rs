//! The tables of the configuration file that say which objects count: `[[zone]]`, `[[mask]]` and `[class.NAME]`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::model::labels::Labels;
use crate::polygon::Polygon;
use crate::track::{Rules, SizeLimits, Zone, ZoneKind};

/// The most zones, and the most masks.
const MAX_COUNT: usize = 64;
const MAX_NAME: usize = 64;
/// In seconds: more than eleven days.
const LONGEST_DWELL: f64 = 1e6;

/// `[[zone]]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ZoneTable {
    name: String,
    #[serde(default)]
    kind: ZoneKind,
    polygon: Vec<[f64; 2]>,
    labels: Option<Vec<String>>,
    /// In seconds.
    dwell: Option<f64>,
}

/// `[[mask]]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MaskTable {
    polygon: Vec<[f64; 2]>,
}

/// `[class.NAME]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct ClassTable {
    confidence: Option<f32>,
    /// Areas of boxes in shares of the picture's.
    min_size: Option<f64>,
    max_size: Option<f64>,
}

/// The tables, checked as far as that is possible without a model.
#[derive(Clone, Debug, Default)]
pub(super) struct Places {
    /// For messages.
    file: String,
    /// For all classes as yet, each with the labels that it is for.
    zones: Vec<(Zone, Option<Vec<String>>)>,
    masks: Vec<Polygon>,
    classes: BTreeMap<String, ClassTable>,
}

impl Places {
    /// Checks everything but labels.
    pub fn new(
        file: &str,
        zones: Vec<ZoneTable>,
        masks: Vec<MaskTable>,
        classes: BTreeMap<String, ClassTable>,
    ) -> Result<Self> {
        let mut places = Self {
            file: file.into(),
            ..Self::default()
        };
        for (key, count) in [("zone", zones.len()), ("mask", masks.len())] {
            if count > MAX_COUNT {
                return Err(
                    places.error(key, &format!("{count} of them; {MAX_COUNT} are the most"))
                );
            }
        }
        for (index, table) in zones.into_iter().enumerate() {
            let key = format!("zone {} ({:?})", index + 1, table.name);
            let labels = table.labels.clone();
            let zone = zone(table).map_err(|reason| places.error(&key, &reason))?;
            if places
                .zones
                .iter()
                .any(|(other, _)| other.name == zone.name)
            {
                return Err(places.error(&key, "another zone has this name"));
            }
            places.zones.push((zone, labels));
        }
        for (index, table) in masks.into_iter().enumerate() {
            let mask = Polygon::new(table.polygon).map_err(|reason| {
                places.error(
                    &format!("mask {}", index + 1),
                    &format!("polygon: {reason}"),
                )
            })?;
            places.masks.push(mask);
        }
        for (name, table) in &classes {
            table
                .check()
                .map_err(|reason| places.error(&format!("class.{name}"), &reason))?;
        }
        places.classes = classes;
        Ok(places)
    }

    /// What nobody is to see.
    pub fn masks(&self) -> &[Polygon] {
        &self.masks
    }

    /// The rules for a model's detections.
    pub fn rules(&self, labels: &Labels) -> Result<Rules> {
        let mut zones = Vec::with_capacity(self.zones.len());
        for (zone, names) in &self.zones {
            let mut zone = zone.clone();
            if let Some(names) = names {
                let key = format!("zone {:?}: labels", zone.name);
                zone.classes = Some(self.ids(names, labels, &key)?);
            }
            zones.push(zone);
        }
        let mut sizes = BTreeMap::new();
        for (name, table) in &self.classes {
            for id in self.class(name, labels)? {
                sizes.insert(id, table.sizes());
            }
        }
        Ok(Rules {
            zones: zones.into(),
            masks: self.masks.clone(),
            sizes,
        })
    }

    /// The thresholds of classes that have one of their own, by class id.
    pub fn thresholds(&self, labels: &Labels) -> Result<BTreeMap<usize, f32>> {
        let mut thresholds = BTreeMap::new();
        for (name, table) in &self.classes {
            if let Some(confidence) = table.confidence {
                let ids = self.class(name, labels)?.into_iter();
                thresholds.extend(ids.map(|id| (id, confidence)));
            }
        }
        Ok(thresholds)
    }

    fn class(&self, name: &str, labels: &Labels) -> Result<Vec<usize>> {
        let unknown = |reason: String| self.error(&format!("class.{name}"), &reason);
        labels.ids_of(name).map_err(unknown)
    }

    fn ids(&self, names: &[String], labels: &Labels, key: &str) -> Result<BTreeSet<usize>> {
        let mut ids = BTreeSet::new();
        for name in names {
            ids.extend(
                labels
                    .ids_of(name)
                    .map_err(|reason| self.error(key, &reason))?,
            );
        }
        Ok(ids)
    }

    fn error(&self, key: &str, reason: &str) -> Error {
        Error::Usage(format!("{}: {key}: {reason}", self.file))
    }
}

/// A zone for all classes.
fn zone(table: ZoneTable) -> std::result::Result<Zone, String> {
    let sound = |c: char| c.is_alphanumeric() || " -_".contains(c);
    let name = table.name.trim();
    if name.is_empty() || name.chars().count() > MAX_NAME || !name.chars().all(sound) {
        return Err(format!(
            "name: it is made of letters, digits, spaces, - and _, and has from 1 to {MAX_NAME} of them"
        ));
    }
    if table.labels.is_some_and(|labels| labels.is_empty()) {
        return Err("labels: none are named; leave the key out for all".into());
    }
    if table.kind == ZoneKind::Exclude && table.dwell.is_some() {
        return Err("dwell: nothing is followed in a zone of the kind \"exclude\"".into());
    }
    let dwell = table.dwell.map(|seconds| {
        let sound = (0.0..=LONGEST_DWELL).contains(&seconds);
        sound.then(|| Duration::from_secs_f64(seconds))
    });
    if dwell == Some(None) {
        return Err("dwell: not a number of seconds from 0 to 1000000".into());
    }
    Ok(Zone {
        name: name.into(),
        kind: table.kind,
        polygon: Polygon::new(table.polygon).map_err(|reason| format!("polygon: {reason}"))?,
        classes: None,
        dwell: dwell.flatten(),
    })
}

impl ClassTable {
    fn check(&self) -> std::result::Result<(), String> {
        let is_share = |share: &f64| (0.0..=1.0).contains(share);
        let shares = [
            ("confidence", self.confidence.map(f64::from)),
            ("min-size", self.min_size),
            ("max-size", self.max_size),
        ];
        for (key, share) in shares {
            if share.is_some_and(|share| !is_share(&share)) {
                return Err(format!("{key}: not a number from 0 to 1"));
            }
        }
        let SizeLimits { min, max } = self.sizes();
        if min > max {
            return Err(format!("min-size {min} is above max-size {max}"));
        }
        Ok(())
    }

    fn sizes(&self) -> SizeLimits {
        SizeLimits {
            min: self.min_size.unwrap_or(0.0),
            max: self.max_size.unwrap_or(1.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SQUARE: &str = "polygon = [[0, 0], [1, 0], [1, 1], [0, 1]]";

    #[derive(Deserialize)]
    struct File {
        #[serde(default)]
        zone: Vec<ZoneTable>,
        #[serde(default)]
        mask: Vec<MaskTable>,
        #[serde(default)]
        class: BTreeMap<String, ClassTable>,
    }

    fn places(text: &str) -> Result<Places> {
        let file: File = toml::from_str(text).unwrap();
        Places::new("eyas.toml", file.zone, file.mask, file.class)
    }

    fn labels() -> Labels {
        Labels::parse("person\ncar\n???\nperson\n", "labels").unwrap()
    }

    #[test]
    fn tables_become_rules() {
        let text = format!(
            "[[zone]]\nname = 'drive way'\nkind = 'include'\nlabels = ['Person', 'class 2']\ndwell = 1.5\n{SQUARE}\n\
             [[zone]]\nname = 'all'\n{SQUARE}\n[[mask]]\n{SQUARE}\n\
             [class.person]\nconfidence = 0.7\nmin-size = 0.01\n[class.car]\nmax-size = 0.5"
        );
        let places = places(&text).unwrap();
        let rules = places.rules(&labels()).unwrap();
        let [drive, all] = &rules.zones[..] else {
            panic!("{rules:?}")
        };
        assert_eq!((&*drive.name, drive.kind), ("drive way", ZoneKind::Include));
        assert_eq!(drive.classes, Some(BTreeSet::from([0, 2, 3])));
        assert_eq!(drive.dwell, Some(Duration::from_millis(1500)));
        assert_eq!((all.kind, &all.classes), (ZoneKind::Count, &None));
        assert_eq!((rules.masks.len(), places.masks().len()), (1, 1));
        let limits = |id| rules.sizes.get(&id).map(|limits| (limits.min, limits.max));
        assert_eq!(limits(0), Some((0.01, 1.0)));
        assert_eq!((limits(1), limits(2)), (Some((0.0, 0.5)), None));
        let thresholds = places.thresholds(&labels()).unwrap();
        assert_eq!(thresholds, BTreeMap::from([(0, 0.7), (3, 0.7)]));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let zone = |keys: &str| format!("[[zone]]\n{SQUARE}\n{keys}");
        for (text, words) in [
            (zone("name = ''"), "zone 1 (\"\"): name: "),
            (zone("name = 'a/b'"), "zone 1 (\"a/b\"): name: "),
            (zone("name = 'a'\nlabels = []"), "zone 1 (\"a\"): labels: "),
            (zone("name = 'a'\ndwell = -1"), "zone 1 (\"a\"): dwell: "),
            (zone("name = 'a'\ndwell = nan"), "zone 1 (\"a\"): dwell: "),
            (
                zone("name = 'a'\nkind = 'exclude'\ndwell = 1"),
                "\"exclude\"",
            ),
            (
                format!("{}\n{}", zone("name = 'a'"), zone("name = ' a'")),
                "zone 2 (\" a\"): another",
            ),
            (
                "[[mask]]\npolygon = [[0, 0], [1, 1]]".into(),
                "mask 1: polygon: 2 points",
            ),
            (
                "[[zone]]\nname = 'a'\npolygon = [[0, 0], [1, 1], [1, 1.5]]".into(),
                "zone 1 (\"a\"): polygon: point 3 is [1, 1.5]",
            ),
            ("[class.a]\nconfidence = 2".into(), "class.a: confidence: "),
            ("[class.a]\nmin-size = -0.1".into(), "class.a: min-size: "),
            (
                "[class.a]\nmin-size = 0.2\nmax-size = 0.1".into(),
                "class.a: min-size 0.2 is above",
            ),
            (
                format!("[[mask]]\n{SQUARE}\n").repeat(65),
                "mask: 65 of them",
            ),
        ] {
            let error = places(&text).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            let said = error.to_string();
            assert!(
                said.starts_with("eyas.toml: ") && said.contains(words),
                "{text}: {said}"
            );
        }
    }

    #[test]
    fn labels_that_the_model_has_not_are_named() {
        let text = format!("[[zone]]\nname = 'a'\nlabels = ['persn']\n{SQUARE}");
        let error = places(&text).unwrap().rules(&labels()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "eyas.toml: zone \"a\": labels: no label is \"persn\"; did you mean person?"
        );
        let places = places("[class.zebra]\nconfidence = 0.5").unwrap();
        for error in [
            places.rules(&labels()).unwrap_err(),
            places.thresholds(&labels()).unwrap_err(),
        ] {
            assert_eq!(
                error.to_string(),
                "eyas.toml: class.zebra: no label is \"zebra\"; the model's are person, car, person"
            );
        }
        let error = places.rules(&Labels::default()).unwrap_err().to_string();
        assert!(
            error.contains("the model has none; write \"class 0\""),
            "{error}"
        );
    }
}
