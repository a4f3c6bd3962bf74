//! Where an object will be: a Kalman filter for its middle.

use crate::detect::BoundingBox;

/// What the filter assumes, in sizes of the object: the mean of its box's width and height.
mod assumed {
    /// Standard deviation of a detection's middle.
    pub const ERROR: f64 = 0.05;
    /// Standard deviation of the speed of an object that has been found once, a second.
    pub const SPEED: f64 = 1.0;
    /// Spectral density of its acceleration: variance of the speed that a second adds.
    pub const ACCELERATION: f64 = 1.0;
}

/// A coordinate and its speed, with their covariance.
#[derive(Clone, Copy, Debug)]
struct Axis {
    value: f64,
    speed: f64,
    value_variance: f64,
    covariance: f64,
    speed_variance: f64,
}

impl Axis {
    fn new(value: f64, size: f64) -> Self {
        Self {
            value,
            speed: 0.0,
            value_variance: (assumed::ERROR * size).powi(2),
            covariance: 0.0,
            speed_variance: (assumed::SPEED * size).powi(2),
        }
    }

    /// The model of constant velocity with white noise as acceleration, over `dt` seconds (Bar-Shalom, Li and Kirubarajan,
    /// Estimation with Applications to Tracking and Navigation, 2001, section 6.2.2).
    fn predict(&mut self, dt: f64, size: f64) {
        let noise = assumed::ACCELERATION * size * size;
        self.value += dt * self.speed;
        self.value_variance +=
            dt * (2.0 * self.covariance + dt * self.speed_variance) + noise * dt.powi(3) / 3.0;
        self.covariance += dt * self.speed_variance + noise * dt * dt / 2.0;
        self.speed_variance += noise * dt;
    }

    fn correct(&mut self, measured: f64, size: f64) {
        let total = self.value_variance + (assumed::ERROR * size).powi(2);
        let (gain, speed_gain) = (self.value_variance / total, self.covariance / total);
        let innovation = measured - self.value;
        self.value += gain * innovation;
        self.speed += speed_gain * innovation;
        self.speed_variance -= speed_gain * self.covariance;
        self.covariance *= 1.0 - gain;
        self.value_variance *= 1.0 - gain;
    }
}

/// The middle of a box as it moves. Its width and height are those of the last detection: they change slowly, and a box
/// that is cut off or turns would teach a filter a speed that does not last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Motion {
    middle: [Axis; 2],
    sides: [f64; 2],
}

impl Motion {
    /// An object at rest, for all that one detection tells.
    pub fn new(bounds: &BoundingBox) -> Self {
        let (middle, sides) = measures(bounds);
        Self {
            middle: middle.map(|value| Axis::new(value, size(sides))),
            sides,
        }
    }

    /// Moves on by `dt` seconds.
    pub fn predict(&mut self, dt: f64) {
        let size = size(self.sides);
        for axis in &mut self.middle {
            axis.predict(dt, size);
        }
    }

    /// Takes a detection in.
    pub fn correct(&mut self, bounds: &BoundingBox) {
        let (middle, sides) = measures(bounds);
        self.sides = sides;
        for (axis, measured) in self.middle.iter_mut().zip(middle) {
            axis.correct(measured, size(sides));
        }
    }

    /// How well a detection fits, 0 to 1: intersection over union of the box expected and the box found, both grown to
    /// every side by the standard deviation of the expected middle, at most by half of the expected box. So the boxes of
    /// an object that has just appeared, or was long hidden, need not overlap (compare the buffered IoU of Yang et al.,
    /// arXiv:2211.14317).
    pub fn likeness(&self, bounds: &BoundingBox) -> f64 {
        let (middle, sides) = measures(bounds);
        let (mut overlap, mut expected, mut found) = (1.0, 1.0, 1.0);
        for (axis, own) in self.middle.iter().enumerate() {
            let grown = 2.0 * own.value_variance.sqrt().min(self.sides[axis] / 2.0);
            let (a, b) = (self.sides[axis] + grown, sides[axis] + grown);
            let apart = (own.value - middle[axis]).abs();
            overlap *= ((a + b) / 2.0 - apart).clamp(0.0, a.min(b));
            expected *= a;
            found *= b;
        }
        let union = expected + found - overlap;
        if union > 0.0 { overlap / union } else { 0.0 }
    }
}

/// Middle and sides of a box.
fn measures(bounds: &BoundingBox) -> ([f64; 2], [f64; 2]) {
    let [left, top, right, bottom] =
        [bounds.x_min, bounds.y_min, bounds.x_max, bounds.y_max].map(f64::from);
    (
        [(left + right) / 2.0, (top + bottom) / 2.0],
        [right - left, bottom - top],
    )
}

/// Of at least a pixel, so that a box without extent has a place all the same.
fn size([width, height]: [f64; 2]) -> f64 {
    ((width + height) / 2.0).max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(x: f64, y: f64) -> BoundingBox {
        let [x, y] = [x as f32, y as f32];
        BoundingBox {
            x_min: x - 10.0,
            y_min: y - 20.0,
            x_max: x + 10.0,
            y_max: y + 20.0,
        }
    }

    #[test]
    fn steady_motion_is_learned_and_kept_at_any_rate() {
        for rate in [2.0, 10.0, 30.0] {
            let place = |second: f64| bounds(30.0 + 40.0 * second, 50.0 - 12.0 * second);
            let mut motion = Motion::new(&place(0.0));
            for frame in 1..=(4.0 * rate) as i32 {
                motion.predict(1.0 / rate);
                motion.correct(&place(f64::from(frame) / rate));
            }
            motion.predict(1.5);
            let [x, y] = motion.middle.map(|axis| axis.value);
            assert!((x - (30.0 + 40.0 * 5.5)).abs() < 3.0, "{rate}: {x}");
            assert!((y - (50.0 - 12.0 * 5.5)).abs() < 2.0, "{rate}: {y}");
        }
    }

    #[test]
    fn variances_stay_positive_and_grow_while_nothing_is_found() {
        let mut motion = Motion::new(&bounds(0.0, 0.0));
        for step in 0..3000 {
            motion.predict(0.03);
            let before = motion.middle[0];
            motion.correct(&bounds(f64::from(step % 7), 0.0));
            let after = motion.middle[0];
            assert!(after.value_variance > 0.0 && after.value_variance < before.value_variance);
            assert!(after.speed_variance * after.value_variance > after.covariance.powi(2));
        }
    }

    #[test]
    fn likeness_is_iou_where_the_place_is_sure() {
        let mut motion = Motion::new(&bounds(0.0, 0.0));
        motion
            .middle
            .iter_mut()
            .for_each(|axis| axis.value_variance = 0.0);
        assert_eq!(motion.likeness(&bounds(0.0, 0.0)), 1.0);
        assert!((motion.likeness(&bounds(10.0, 0.0)) - 1.0 / 3.0).abs() < 1e-12);
        assert_eq!(motion.likeness(&bounds(20.0, 0.0)), 0.0);
        motion
            .middle
            .iter_mut()
            .for_each(|axis| axis.value_variance = 25.0);
        // 30 times 50, 20 apart.
        assert!((motion.likeness(&bounds(20.0, 0.0)) - 500.0 / 2500.0).abs() < 1e-12);
        motion
            .middle
            .iter_mut()
            .for_each(|axis| axis.value_variance = 1e9);
        assert_eq!(motion.likeness(&bounds(40.0, 0.0)), 0.0);
    }

    #[test]
    fn boxes_without_extent_are_not_numbers_of_no_kind() {
        let nothing = BoundingBox::default();
        let mut motion = Motion::new(&nothing);
        motion.predict(0.1);
        motion.correct(&nothing);
        assert_eq!(motion.likeness(&nothing), 0.0);
    }
}
