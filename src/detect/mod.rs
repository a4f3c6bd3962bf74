//! A picture becomes a list of detections.

mod classes;
mod decode;
mod detector;
mod preprocess;
mod resize;
mod simd;

pub use classes::Classification;
pub use decode::Heads;
pub use detector::{Detected, Detector};
pub use preprocess::{Fit, Preprocessor};

use std::sync::Arc;

/// A box in pixels of the source picture, clamped to it: `x_min <= x_max`, `y_min <= y_max`.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct BoundingBox {
    pub x_min: f32,
    pub y_min: f32,
    pub x_max: f32,
    pub y_max: f32,
}

impl BoundingBox {
    /// Intersection over union with another box, in `[0, 1]`; 0 of two without an area.
    pub fn iou(&self, other: &Self) -> f32 {
        let side = |low: f32, high: f32| (high - low).max(0.0);
        let area = |of: &Self| side(of.x_min, of.x_max) * side(of.y_min, of.y_max);
        let both = side(self.x_min.max(other.x_min), self.x_max.min(other.x_max))
            * side(self.y_min.max(other.y_min), self.y_max.min(other.y_max));
        match area(self) + area(other) - both {
            all if all > 0.0 => both / all,
            _ => 0.0,
        }
    }
}

/// One object found.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Detection {
    pub label: Arc<str>,
    /// The class as the model counts it, without the background class.
    pub class_id: usize,
    /// In `[0, 1]`.
    pub confidence: f32,
    #[serde(rename = "box")]
    pub bounding_box: BoundingBox,
    /// The track that it belongs to, where objects are followed and once this one is known to be one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub track_id: Option<u64>,
}

/// The confidence threshold that the live page, a reload and the detector share, in `[0, 1]`.
#[derive(Clone, Debug)]
pub struct Threshold(Arc<std::sync::atomic::AtomicU32>);

impl Threshold {
    /// A threshold; values outside `[0, 1]` are clamped, NaN is 0.
    pub fn new(value: f32) -> Self {
        let threshold = Self(Arc::default());
        threshold.set(value);
        threshold
    }

    /// The value now.
    pub fn get(&self) -> f32 {
        f32::from_bits(self.0.load(std::sync::atomic::Ordering::Relaxed))
    }

    /// Changes it for every holder. Clamps as [`Threshold::new`] does.
    pub fn set(&self, value: f32) {
        let value = if value.is_nan() {
            0.0
        } else {
            value.clamp(0.0, 1.0)
        };
        self.0
            .store(value.to_bits(), std::sync::atomic::Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threshold_is_shared_and_clamped() {
        let threshold = Threshold::new(0.4);
        let other = threshold.clone();
        other.set(7.0);
        assert_eq!(threshold.get(), 1.0);
        other.set(f32::NAN);
        assert_eq!(threshold.get(), 0.0);
    }
}
