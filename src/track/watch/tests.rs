use std::collections::BTreeSet;
use std::time::Duration;

use super::super::{EventKind, SizeLimits, ZoneKind};
use super::*;
use crate::detect::BoundingBox;
use crate::polygon::Polygon;
use crate::source::{PixelFormat, YuvRange};

const SIZE: [usize; 2] = [200, 100];

fn rectangle([left, top, right, bottom]: [f64; 4]) -> Polygon {
    Polygon::new(vec![
        [left, top],
        [right, top],
        [right, bottom],
        [left, bottom],
    ])
    .unwrap()
}

fn zone(name: &str, kind: ZoneKind, bounds: [f64; 4]) -> Zone {
    Zone {
        name: name.into(),
        kind,
        polygon: rectangle(bounds),
        classes: None,
        dwell: None,
    }
}

fn rules(zones: Vec<Zone>) -> Rules {
    Rules {
        zones: zones.into(),
        ..Rules::default()
    }
}

/// A cat whose feet are at a place in pixels; 20 pixels wide and high.
fn cat(x: f32, y: f32) -> Detection {
    Detection {
        label: "cat".into(),
        class_id: 1,
        confidence: 0.9,
        bounding_box: BoundingBox {
            x_min: x - 10.0,
            y_min: y - 20.0,
            x_max: x + 10.0,
            y_max: y,
        },
        track_id: None,
    }
}

struct Play {
    watch: Watch,
    start: Instant,
    size: [usize; 2],
}

impl Play {
    fn new(shared: SharedRules) -> Self {
        Self {
            watch: Watch::following(shared),
            start: Instant::now(),
            size: SIZE,
        }
    }

    fn at(&self, second: f64) -> Instant {
        self.start + Duration::from_secs_f64(second)
    }

    fn look(&mut self, second: f64, found: &[Detection]) -> Observed {
        let frame = Frame {
            width: self.size[0],
            height: self.size[1],
            format: PixelFormat::Grey,
            range: YuvRange::Full,
            data: Vec::new(),
            index: 0,
            captured: self.at(second),
            timestamp: SystemTime::now(),
            source: "test".into(),
        };
        self.watch.look(&frame, found.to_vec(), Vec::new())
    }

    /// A cat that walks along the floor, ten frames a second; what is told, without updates.
    fn walk(&mut self, seconds: std::ops::Range<f64>, x: impl Fn(f64) -> f64) -> Vec<String> {
        let mut told = Vec::new();
        let frames = ((seconds.end - seconds.start) * 10.0).round() as usize;
        for frame in 0..frames {
            let second = seconds.start + frame as f64 / 10.0;
            let observed = self.look(second, &[cat(x(second) as f32, 90.0)]);
            told.extend(words(&observed.events));
        }
        told
    }
}

fn words(events: &[TrackEvent]) -> Vec<String> {
    let events = events
        .iter()
        .filter(|event| event.event != EventKind::Update);
    let word = |event: &TrackEvent| match &event.zone {
        Some(zone) => format!("{:?} {zone} {:.1}", event.event, event.seconds),
        None => format!("{:?} {:.1}", event.event, event.seconds),
    };
    events.map(word).collect()
}

#[test]
fn coming_staying_and_going_are_told_once_each() {
    let mut door = zone("door", ZoneKind::Count, [0.25, 0.0, 0.5, 1.0]);
    door.dwell = Some(Duration::from_secs(2));
    let mut play = Play::new(SharedRules::new(rules(vec![door])));
    // In from 50 to 100 pixels, that is from second 2 on.
    assert_eq!(play.walk(0.0..2.0, |t| 10.0 + 20.0 * t), ["New 0.1"]);
    let inside = play.walk(2.0..4.5, |t| 10.0 + 20.0 * t);
    assert_eq!(inside, ["Enter door 0.0", "Dwell door 2.0"]);
    let counts = play.watch.counts();
    assert_eq!((counts.zones[0].now, counts.zones[0].total), (1, 1));
    assert_eq!((counts.tracks[0].now, counts.tracks[0].total), (1, 1));
    // Out for less than a second and in again: it has not left.
    assert!(play.walk(4.5..5.0, |_| 104.0).is_empty());
    assert!(play.walk(5.0..5.5, |_| 96.0).is_empty());
    assert_eq!(play.walk(5.5..7.0, |_| 104.0), ["Leave door 3.4"]);
    assert_eq!(play.watch.counts().zones[0].now, 0);
    assert_eq!(play.walk(7.0..7.1, |_| 98.0), ["Enter door 0.0"]);
    let ended = play.watch.idle(play.at(9.5));
    assert_eq!(words(&ended), ["Leave door 0.0", "End 7.0"]);
    assert_eq!(ended[1].track_id, 1);
    let counts = play.watch.counts();
    assert_eq!((counts.zones[0].now, counts.zones[0].total), (0, 2));
    assert_eq!((counts.tracks[0].now, counts.tracks[0].total), (0, 1));
}

#[test]
fn a_zone_for_others_does_not_count() {
    let for_dogs = Zone {
        classes: Some(BTreeSet::from([2])),
        ..zone("kennel", ZoneKind::Count, [0.0, 0.0, 1.0, 1.0])
    };
    let mut play = Play::new(SharedRules::new(rules(vec![for_dogs])));
    assert_eq!(play.walk(0.0..1.0, |_| 50.0), ["New 0.1"]);
    assert!(play.watch.counts().zones.is_empty());
}

#[test]
fn updates_come_once_a_second_and_say_where() {
    let hall = zone("hall", ZoneKind::Count, [0.0, 0.0, 1.0, 1.0]);
    let mut play = Play::new(SharedRules::new(rules(vec![hall])));
    let mut updates = Vec::new();
    for frame in 0..35 {
        let second = f64::from(frame) / 10.0;
        let events = play.look(second, &[cat(50.0, 90.0)]).events;
        updates.extend(
            events
                .into_iter()
                .filter(|event| event.event == EventKind::Update),
        );
    }
    let seconds: Vec<f64> = updates.iter().map(|update| update.seconds).collect();
    assert_eq!(seconds, [1.1, 2.1, 3.1]);
    let update = &updates[0];
    assert_eq!(update.zones, ["hall".into()]);
    assert_eq!(
        (update.width, update.height, update.zone.is_none()),
        (200, 100, true)
    );
    assert_eq!(update.bounding_box, cat(50.0, 90.0).bounding_box);
}

#[test]
fn zones_and_masks_and_sizes_sift_detections() {
    let everywhere = [cat(20.0, 90.0), cat(90.0, 90.0), cat(180.0, 90.0)];
    let left_over = |rules: Rules| -> Vec<f32> {
        let mut watch = Watch::sifting(SharedRules::new(rules));
        let mut play = Play::new(SharedRules::default());
        std::mem::swap(&mut play.watch, &mut watch);
        let observed = play.look(0.0, &everywhere);
        assert!(observed.events.is_empty());
        let left = observed
            .detections
            .iter()
            .map(|found| found.bounding_box.x_min + 10.0);
        left.collect()
    };
    let include = |bounds| zone("in", ZoneKind::Include, bounds);
    let exclude = |bounds| zone("out", ZoneKind::Exclude, bounds);
    let (left, right) = ([0.0, 0.0, 0.5, 1.0], [0.8, 0.0, 1.0, 1.0]);
    assert_eq!(left_over(rules(vec![])), [20.0, 90.0, 180.0]);
    assert_eq!(left_over(rules(vec![include(left)])), [20.0, 90.0]);
    assert_eq!(left_over(rules(vec![exclude(left)])), [180.0]);
    assert_eq!(
        left_over(rules(vec![include(left), include(right)])),
        [20.0, 90.0, 180.0]
    );
    assert_eq!(
        left_over(rules(vec![include(left), exclude([0.0, 0.0, 0.2, 1.0])])),
        [90.0]
    );
    assert_eq!(
        left_over(rules(vec![zone("n", ZoneKind::Count, left)])),
        [20.0, 90.0, 180.0]
    );
    // A zone for others says nothing of cats.
    let for_dogs = |zone: Zone| Zone {
        classes: Some(BTreeSet::from([2])),
        ..zone
    };
    assert_eq!(left_over(rules(vec![for_dogs(include(left))])).len(), 3);
    assert_eq!(left_over(rules(vec![for_dogs(exclude(left))])).len(), 3);
    // Boxes reach from 10 to 30 pixels: more than half of one, and less.
    for (edge, expected) in [(21.0, 2), (19.0, 3)] {
        let masked = Rules {
            masks: vec![rectangle([0.0, 0.0, edge / 200.0, 1.0])],
            ..Rules::default()
        };
        assert_eq!(left_over(masked).len(), expected, "{edge}");
    }
    // Boxes are 0.02 of the picture.
    for (min, max, expected) in [(0.0, 1.0, 3), (0.021, 1.0, 0), (0.0, 0.019, 0)] {
        let sized = Rules {
            sizes: [(1, SizeLimits { min, max })].into(),
            ..Rules::default()
        };
        assert_eq!(left_over(sized).len(), expected, "{min} {max}");
    }
}

#[test]
fn feet_on_the_lower_border_of_the_picture_are_in_a_zone_that_ends_there() {
    let floor = zone("floor", ZoneKind::Include, [0.0, 0.9, 1.0, 1.0]);
    let mut play = Play::new(SharedRules::new(rules(vec![floor])));
    assert_eq!(play.look(0.0, &[cat(50.0, 100.0)]).detections.len(), 1);
    assert!(play.look(0.1, &[cat(50.0, 89.0)]).detections.is_empty());
}

#[test]
fn new_rules_end_visits_to_zones_that_are_gone() {
    let shared = SharedRules::new(rules(vec![zone(
        "old",
        ZoneKind::Count,
        [0.0, 0.0, 1.0, 1.0],
    )]));
    let mut play = Play::new(shared.clone());
    let observed = play.look(0.0, &[cat(50.0, 90.0)]);
    assert_eq!(observed.zones.len(), 1);
    assert!(
        observed.counts.is_some(),
        "the first frame tells the counts"
    );
    assert_eq!(play.walk(0.1..1.0, |_| 50.0), ["New 0.1", "Enter old 0.0"]);
    shared.set(rules(vec![zone(
        "new",
        ZoneKind::Count,
        [0.0, 0.0, 1.0, 1.0],
    )]));
    assert_eq!(
        play.walk(1.0..1.1, |_| 50.0),
        ["Enter new 0.0", "Leave old 0.8"]
    );
    let zones = play.watch.counts().zones;
    assert_eq!((zones.len(), &*zones[0].zone), (1, "new"));
    let quiet = play.look(1.2, &[cat(50.0, 90.0)]);
    assert!(quiet.counts.is_none());
}

#[test]
fn a_picture_of_another_size_and_the_end_end_all_tracks() {
    let mut play = Play::new(SharedRules::default());
    assert_eq!(play.walk(0.0..0.3, |_| 50.0), ["New 0.1"]);
    play.size = [400, 200];
    assert_eq!(play.walk(0.3..0.5, |_| 50.0), ["End 0.2", "New 0.1"]);
    let ended = play.watch.end();
    assert_eq!(words(&ended), ["End 0.1"]);
    assert_eq!((ended[0].track_id, ended[0].width), (2, 400));
    assert!(play.watch.end().is_empty());
}

#[test]
fn without_tracks_there_are_no_ids() {
    let mut play = Play::new(SharedRules::default());
    play.watch = Watch::sifting(SharedRules::default());
    for second in [0.0, 0.1, 0.2] {
        let observed = play.look(second, &[cat(50.0, 90.0)]);
        assert_eq!(observed.detections[0].track_id, None);
        assert!(observed.events.is_empty());
    }
    assert!(play.watch.end().is_empty());
}
