//! Which detections count.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::zone::{Zone, ZoneKind};
use crate::detect::Detection;
use crate::polygon::Polygon;

/// A box that lies in a mask by more than this share of its area is not reported: where everything is black, there is
/// nothing to see.
const MASKED: f64 = 0.5;

/// How large an object of a class may be: area of its box in shares of the picture's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SizeLimits {
    pub min: f64,
    pub max: f64,
}

/// What the configuration says of detections.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    pub zones: Arc<[Zone]>,
    pub masks: Vec<Polygon>,
    /// By class id.
    pub sizes: BTreeMap<usize, SizeLimits>,
}

impl Rules {
    /// Whether a detection in a picture of this size is reported.
    pub fn allow(&self, detection: &Detection, size: [usize; 2]) -> bool {
        let bounds = shares(detection, size);
        let area = (bounds[2] - bounds[0]) * (bounds[3] - bounds[1]);
        let limits = self.sizes.get(&detection.class_id);
        limits.is_none_or(|limits| (limits.min..=limits.max).contains(&area))
            && !self.masks.iter().any(|mask| mask.share_of(bounds) > MASKED)
            && self.is_in_place(detection, size)
    }

    fn is_in_place(&self, detection: &Detection, size: [usize; 2]) -> bool {
        let zones = |kind| {
            let of_kind = self.zones.iter().filter(move |zone| zone.kind == kind);
            of_kind.filter(|zone| zone.is_for(detection.class_id))
        };
        let mut included = zones(ZoneKind::Include).peekable();
        (included.peek().is_none() || included.any(|zone| zone.holds(detection, size)))
            && !zones(ZoneKind::Exclude).any(|zone| zone.holds(detection, size))
    }
}

/// A box in shares of the picture's sides.
fn shares(detection: &Detection, [width, height]: [usize; 2]) -> [f64; 4] {
    let bounds = &detection.bounding_box;
    let (width, height) = (width.max(1) as f64, height.max(1) as f64);
    [
        f64::from(bounds.x_min) / width,
        f64::from(bounds.y_min) / height,
        f64::from(bounds.x_max) / width,
        f64::from(bounds.y_max) / height,
    ]
}

/// The rules that hold now, shared with whoever changes them.
#[derive(Clone, Debug, Default)]
pub struct SharedRules(Arc<Mutex<Arc<Rules>>>);

impl SharedRules {
    /// Rules that hold from the beginning.
    pub fn new(rules: Rules) -> Self {
        let shared = Self::default();
        shared.set(rules);
        shared
    }

    /// Other rules hold from the next detections on.
    pub fn set(&self, rules: Rules) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
    }

    /// The rules now.
    pub fn get(&self) -> Arc<Rules> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
