//! The CLEAR MOT measures (Bernardin and Stiefelhagen 2008).

use std::collections::BTreeMap;

use eyas::detect::{BoundingBox, Detection};

/// A track and an object that overlap less have nothing to do with each other.
const SAME: f32 = 0.5;

/// An object that really is there.
#[derive(Clone, Debug)]
pub struct Object {
    pub id: usize,
    pub label: &'static str,
    pub bounds: BoundingBox,
}

/// Misses, false positives and switches of ids over some frames.
#[derive(Debug, Default)]
pub struct ClearMot {
    pub objects: usize,
    pub missed: usize,
    pub wrong: usize,
    pub switches: usize,
    /// By object, the id that it had last.
    ids: BTreeMap<usize, u64>,
}

impl ClearMot {
    /// Counts a frame's detections that have an id. An object keeps its track while they overlap, whoever else is near.
    pub fn frame(&mut self, truth: &[Object], tracked: &[Detection]) {
        self.objects += truth.len();
        let with_id = tracked.iter().filter(|found| found.track_id.is_some());
        let mut left: Vec<&Detection> = with_id.collect();
        let mut others = Vec::new();
        for object in truth {
            let id = self.ids.get(&object.id).copied();
            let is_its =
                |found: &&Detection| found.track_id == id && likeness(found, object) >= SAME;
            match left.iter().position(is_its) {
                Some(at) => {
                    left.swap_remove(at);
                }
                None => others.push(object),
            }
        }
        for object in others {
            let like = |at: &usize| likeness(left[*at], object);
            let near = (0..left.len()).filter(|at| like(at) >= SAME);
            let Some(at) = near.max_by(|a, b| like(a).total_cmp(&like(b))) else {
                self.missed += 1;
                continue;
            };
            let id = left
                .swap_remove(at)
                .track_id
                .expect("the others are left out");
            self.switches += usize::from(self.ids.insert(object.id, id).is_some());
        }
        self.wrong += left.len();
    }

    /// Multiple object tracking accuracy.
    pub fn mota(&self) -> f64 {
        1.0 - (self.missed + self.wrong + self.switches) as f64 / self.objects as f64
    }
}

/// Intersection over union; 0 for another label.
fn likeness(found: &Detection, object: &Object) -> f32 {
    if &*found.label != object.label {
        return 0.0;
    }
    let (a, b) = (&found.bounding_box, &object.bounds);
    let width = (a.x_max.min(b.x_max) - a.x_min.max(b.x_min)).max(0.0);
    let height = (a.y_max.min(b.y_max) - a.y_min.max(b.y_min)).max(0.0);
    let area = |one: &BoundingBox| (one.x_max - one.x_min) * (one.y_max - one.y_min);
    width * height / (area(a) + area(b) - width * height)
}
