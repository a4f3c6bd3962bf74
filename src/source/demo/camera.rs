//! Where a point of the table lies in the picture.
//!
//! The table is the plane `z = 0`, `x` to the right, `y` towards the viewer, `z` up. A unit of length at its origin is
//! a pixel of a picture of 640x480. Only the four basic operations are used, which every machine rounds alike.

/// A place or a direction: `[x, y, z]`.
pub(super) type Point = [f64; 3];

/// From the lens to the origin of the table.
const DISTANCE: f64 = 900.0;
/// Sine and cosine of the angle between the view and straight down: 8, 15 and 17 are a right triangle.
const SINE: f64 = 8.0 / 17.0;
const COSINE: f64 = 15.0 / 17.0;

/// A pinhole camera that looks at the origin.
#[derive(Clone, Copy, Debug)]
pub(super) struct Camera {
    /// Pixels for a unit of length at the origin.
    pub scale: f64,
    /// The pixel of the origin.
    pub centre: [f64; 2],
}

/// A rectangle in space: a corner, and the edges that begin there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rectangle {
    pub corner: Point,
    pub across: Point,
    pub down: Point,
}

/// A projective map of the plane: rows of its matrix.
#[derive(Clone, Copy, Debug)]
pub(super) struct Homography(pub [[f64; 3]; 3]);

impl Camera {
    /// Shows the middle 640x480 units as large as a picture of this size can hold.
    pub fn new([width, height]: [usize; 2]) -> Self {
        let (width, height) = (width as f64, height as f64);
        Self {
            scale: (width / 640.0).min(height / 480.0),
            centre: [width / 2.0, height / 2.0],
        }
    }

    /// From the unit square to the pixels of a rectangle: `(0, 0)` is its corner, `(1, 0)` lies across.
    pub fn view(&self, rectangle: &Rectangle) -> Homography {
        let Rectangle {
            corner,
            across,
            down,
        } = rectangle;
        let columns = [
            self.direction(across),
            self.direction(down),
            self.homogeneous(corner),
        ];
        Homography(std::array::from_fn(|row| columns.map(|column| column[row])))
    }

    /// Whether a surface with this normal at this point shows its face.
    pub fn sees(&self, point: &Point, normal: &Point) -> bool {
        let lens = [0.0, DISTANCE * SINE, DISTANCE * COSINE];
        let towards = (0..3).map(|i| (lens[i] - point[i]) * normal[i]);
        towards.sum::<f64>() > 0.0
    }

    fn homogeneous(&self, point: &Point) -> Point {
        let [x, y, depth] = self.direction(point);
        let [centre_x, centre_y] = self.centre;
        [
            x + centre_x * DISTANCE,
            y + centre_y * DISTANCE,
            depth + DISTANCE,
        ]
    }

    /// The same for the difference of two points.
    fn direction(&self, [x, y, z]: &Point) -> Point {
        let depth = -(y * SINE + z * COSINE);
        let focal = DISTANCE * self.scale;
        let [centre_x, centre_y] = self.centre;
        [
            focal * x + centre_x * depth,
            focal * (y * COSINE - z * SINE) + centre_y * depth,
            depth,
        ]
    }
}

impl Homography {
    /// The image of a point.
    pub fn map(&self, [x, y]: [f64; 2]) -> [f64; 2] {
        let [x, y, w] = self.0.map(|[a, b, c]| a * x + b * y + c);
        [x / w, y / w]
    }

    /// The way back, up to a factor: the adjugate matrix.
    pub fn inverse(&self) -> Self {
        let [a, b, c] = &self.0;
        let columns = [cross(b, c), cross(c, a), cross(a, b)];
        Self(std::array::from_fn(|row| columns.map(|column| column[row])))
    }

    /// Followed by a stretch of both axes and a shift of both by `offset`.
    pub fn then(&self, stretch: [f64; 2], offset: f64) -> Self {
        let [x, y, w] = self.0;
        let axis =
            |row: [f64; 3], factor: f64| std::array::from_fn(|i| row[i] * factor + w[i] * offset);
        Self([axis(x, stretch[0]), axis(y, stretch[1]), w])
    }
}

fn cross(a: &Point, b: &Point) -> Point {
    [
        a[1] * b[2] - a[2] * b[1],
        a[2] * b[0] - a[0] * b[2],
        a[0] * b[1] - a[1] * b[0],
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_at_the_origin_is_a_pixel_and_far_things_are_small() {
        let view = Camera::new([640, 480]).view(&Rectangle {
            corner: [0.0; 3],
            across: [10.0, 0.0, 0.0],
            down: [0.0, 0.0, 10.0],
        });
        assert_eq!(view.map([0.0, 0.0]), [320.0, 240.0]);
        assert_eq!(view.map([1.0, 0.0]), [330.0, 240.0]);
        assert!(view.map([0.0, 1.0])[1] < 240.0);
        let width = |y: f64| {
            let view = Camera::new([1280, 960]).view(&Rectangle {
                corner: [0.0, y, 0.0],
                across: [100.0, 0.0, 0.0],
                down: [0.0, 1.0, 0.0],
            });
            view.map([1.0, 0.0])[0] - view.map([0.0, 0.0])[0]
        };
        assert!(width(-200.0) < 190.0 && width(200.0) > 210.0);
        assert!((width(0.0) - 200.0).abs() < 1e-9);
    }

    #[test]
    fn the_inverse_leads_back() {
        let view = Camera::new([500, 300]).view(&Rectangle {
            corner: [-40.0, 70.0, 5.0],
            across: [90.0, 30.0, 0.0],
            down: [-20.0, 60.0, 0.0],
        });
        let [x, y] = view.inverse().map(view.map([0.25, 0.75]));
        assert!((x - 0.25).abs() < 1e-9 && (y - 0.75).abs() < 1e-9);
        let [x, y] = view
            .inverse()
            .then([4.0, 8.0], 0.5)
            .map(view.map([0.25, 0.75]));
        assert!((x - 1.5).abs() < 1e-9 && (y - 6.5).abs() < 1e-9);
    }

    #[test]
    fn only_what_faces_the_lens_is_seen() {
        let camera = Camera::new([640, 480]);
        assert!(camera.sees(&[0.0; 3], &[0.0, 0.0, 1.0]));
        assert!(camera.sees(&[0.0; 3], &[0.0, 1.0, 0.0]));
        assert!(!camera.sees(&[0.0; 3], &[0.0, -1.0, 0.0]));
        assert!(camera.sees(&[-200.0, 0.0, 0.0], &[1.0, 0.0, 0.0]));
        assert!(!camera.sees(&[200.0, 0.0, 0.0], &[1.0, 0.0, 0.0]));
    }
}
