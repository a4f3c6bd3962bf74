//! Places in the picture that objects come into and leave.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::detect::Detection;
use crate::polygon::Polygon;

/// What a zone does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ZoneKind {
    /// Objects in it are counted, and their coming and going is told.
    #[default]
    Count,
    /// The same; and of the classes that it is for, only what is in one of these zones is reported.
    Include,
    /// What is in it is not reported.
    Exclude,
}

/// A named place. An object is in it if the middle of the lower edge of its box is: where a person stands or a car
/// touches the road.
#[derive(Clone, Debug, PartialEq)]
pub struct Zone {
    pub name: Arc<str>,
    pub kind: ZoneKind,
    pub polygon: Polygon,
    /// The class ids that it is for; all of them if `None`.
    pub classes: Option<BTreeSet<usize>>,
    /// After so long an object dwells in it.
    pub dwell: Option<Duration>,
}

impl Zone {
    /// Whether it is for objects of a class.
    pub fn is_for(&self, class_id: usize) -> bool {
        self.classes
            .as_ref()
            .is_none_or(|classes| classes.contains(&class_id))
    }

    /// Whether a detection in a picture of this size is in it. Never if it is not for the detection's class.
    pub fn holds(&self, detection: &Detection, [width, height]: [usize; 2]) -> bool {
        let bounds = &detection.bounding_box;
        let foot = [
            f64::from(bounds.x_min + bounds.x_max) / 2.0 / width.max(1) as f64,
            f64::from(bounds.y_max) / height.max(1) as f64,
        ];
        self.is_for(detection.class_id) && self.polygon.contains(foot)
    }
}
