//! A frame of the scene, and the truth about it.

use super::camera::{Camera, Point, Rectangle};
use super::canvas::Canvas;
use super::motion::Pose;
use super::table;
use super::texture::Texture;
use super::things::{BACKGROUND, THINGS, Thing};
use crate::error::Result;

/// The way that a shadow falls for a unit of height.
const SHADOW: [f64; 2] = [0.42, 0.34];
/// How far a shadow fades beyond the outline of what casts it, above what its height adds.
const PENUMBRA: f64 = 5.0;
/// Of 255.
const SHADOW_STRENGTH: u8 = 110;

/// A table with printed codes that move: a QR code, a Data Matrix, an Aztec code, a PDF417, a barcode and two markers.
///
/// Frame `n` depends on `n` and the size alone: its bytes are the same on every machine.
pub struct Scene {
    size: [usize; 2],
    camera: Camera,
    /// The table with all that never moves, RGB.
    background: Vec<u8>,
    light: Vec<u8>,
    props: Vec<Prop>,
}

/// A code that a frame of the scene shows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Code {
    /// `qr_code`, `data_matrix`, `aztec`, `pdf417`, `barcode` or `marker`.
    pub label: &'static str,
    /// Round its modules, without quiet zone, in pixels and inside the picture: `[x_min, y_min, x_max, y_max]`.
    pub bounds: [f32; 4],
}

impl Scene {
    /// `size` is width and height; [`parse_size`](crate::source::parse_size) says how large. Fails only if the program
    /// is damaged.
    pub fn new(size: [usize; 2]) -> Result<Self> {
        let camera = Camera::new(size);
        let props = |things: &'static [Thing]| -> Result<Vec<Prop>> {
            things
                .iter()
                .map(|thing| Prop::new(thing, &camera))
                .collect()
        };
        let mut scene = Self {
            size,
            camera,
            background: Vec::new(),
            light: vec![255; size[0] * size[1]],
            props: props(&BACKGROUND)?,
        };
        let mut background = table::wood(size);
        scene.light = table::lamp(size);
        let lit = background
            .as_chunks_mut::<3>()
            .0
            .iter_mut()
            .zip(&scene.light);
        for (pixel, &light) in lit {
            *pixel = pixel.map(|full| (u16::from(full) * u16::from(light) / 255) as u8);
        }
        scene.draw_props(0, &mut background);
        scene.background = background;
        scene.props = props(&THINGS)?;
        Ok(scene)
    }

    /// The pixels of frame `n`, RGB without padding.
    pub fn draw(&self, n: u64) -> Vec<u8> {
        let mut pixels = self.background.clone();
        self.draw_props(n, &mut pixels);
        pixels
    }

    /// The codes of frame `n`, always in the same order. They never overlap. A code that lies wholly outside, as happens
    /// in pictures much smaller than a code, is left out.
    pub fn truth(&self, n: u64) -> Vec<Code> {
        self.props
            .iter()
            .filter_map(|prop| self.code(prop, n))
            .collect()
    }

    fn draw_props(&self, n: u64, pixels: &mut [u8]) {
        let mut canvas = Canvas {
            size: self.size,
            pixels,
            light: &self.light,
        };
        for prop in &self.props {
            prop.draw(&prop.thing.motion.pose(n), &self.camera, &mut canvas);
        }
    }

    fn code(&self, prop: &Prop, n: u64) -> Option<Code> {
        let code = prop.thing.code.as_ref()?;
        let view = self.camera.view(&prop.top(&prop.thing.motion.pose(n)));
        let [width, height] = prop.picture_size;
        let [left, top, right, bottom] = code.place.map(f64::from);
        let corners = [[left, top], [right, top], [right, bottom], [left, bottom]]
            .map(|[x, y]| view.map([x / width, y / height]));
        let edge = |axis: usize, pick: fn(f64, f64) -> f64| {
            let far = corners.map(|corner| corner[axis]).into_iter().reduce(pick);
            far.unwrap_or_default().clamp(0.0, self.size[axis] as f64) as f32
        };
        let bounds = [
            edge(0, f64::min),
            edge(1, f64::min),
            edge(0, f64::max),
            edge(1, f64::max),
        ];
        let [x_min, y_min, x_max, y_max] = bounds;
        (x_min < x_max && y_min < y_max).then_some(Code {
            label: code.label,
            bounds,
        })
    }
}

/// A thing ready to be drawn.
struct Prop {
    thing: &'static Thing,
    /// Of the whole picture, which `thing.code` counts in.
    picture_size: [f64; 2],
    top: Texture,
    /// Sides along the picture's rows and columns.
    sides: [Texture; 2],
    shadow: Texture,
}

impl Prop {
    fn new(thing: &'static Thing, camera: &Camera) -> Result<Self> {
        let picture = Texture::from_png(thing.picture)?;
        let picture_size = picture.size().map(|side| side as f64);
        let density = picture_size[0] / thing.size[0] / camera.scale;
        let pixels = |units: f64| (units * camera.scale).min(4096.0) as usize;
        let side = |length: f64| Texture::plain(thing.sides, pixels(length), pixels(thing.height));
        let fade = thing.size.map(|length| {
            let penumbra = penumbra(thing.height);
            2.0 * penumbra / (length + 2.0 * penumbra)
        });
        Ok(Self {
            thing,
            picture_size,
            top: picture.reduced(density),
            sides: thing.size.map(side),
            shadow: Texture::shadow(fade.map(|fade| fade.min(0.5)), SHADOW_STRENGTH),
        })
    }

    /// The rectangle of the picture.
    fn top(&self, pose: &Pose) -> Rectangle {
        placed(pose, [0.0; 2], self.thing.size, self.thing.height)
    }

    fn draw(&self, pose: &Pose, camera: &Camera, canvas: &mut Canvas<'_>) {
        let thing = self.thing;
        let grown = thing
            .size
            .map(|length| length + 2.0 * penumbra(thing.height));
        let shift = SHADOW.map(|way| way * (0.7 * thing.height + 4.0));
        let shadow = placed(pose, shift, grown, 0.0);
        canvas.draw(&self.shadow, &camera.view(&shadow), 256);
        let top = self.top(pose);
        for (index, (side, normal)) in sides(&top, thing.height).iter().enumerate() {
            if thing.height > 0.0 && camera.sees(&side.corner, normal) {
                let texture = &self.sides[index % 2];
                canvas.draw(texture, &camera.view(side), shade(normal));
            }
        }
        canvas.draw(&self.top, &camera.view(&top), 256);
    }
}

fn penumbra(height: f64) -> f64 {
    PENUMBRA + 0.35 * height
}

/// A level rectangle of a size, its middle at the pose moved by `shift`.
fn placed(pose: &Pose, shift: [f64; 2], [width, depth]: [f64; 2], z: f64) -> Rectangle {
    let [cosine, sine] = pose.turn;
    let across = [width * cosine, width * sine, 0.0];
    let down = [-depth * sine, depth * cosine, 0.0];
    let corner = |axis: usize| pose.at[axis] + shift[axis] - (across[axis] + down[axis]) / 2.0;
    Rectangle {
        corner: [corner(0), corner(1), z],
        across,
        down,
    }
}

/// The four sides under a top, in turn along its rows and its columns, and their normals.
fn sides(top: &Rectangle, height: f64) -> [(Rectangle, Point); 4] {
    let below = [0.0, 0.0, -height];
    let back = top.across.map(|edge| -edge);
    let up = top.down.map(|edge| -edge);
    let far = add(&add(&top.corner, &top.across), &top.down);
    let side = |corner: Point, across: Point, normal: Point| {
        let side = Rectangle {
            corner,
            across,
            down: below,
        };
        (side, normal)
    };
    [
        side(top.corner, top.across, up),
        side(add(&top.corner, &top.across), top.down, top.across),
        side(far, back, top.down),
        side(add(&top.corner, &top.down), up, back),
    ]
}

/// How bright a side is, of 256: brighter towards the lamp, which shines the way that shadows fall.
fn shade(normal: &Point) -> u32 {
    let along = normal[0] * SHADOW[0] + normal[1] * SHADOW[1];
    let length = (normal[0] * normal[0] + normal[1] * normal[1]).sqrt();
    (185.0 - 90.0 * along / length) as u32
}

fn add(a: &Point, b: &Point) -> Point {
    std::array::from_fn(|i| a[i] + b[i])
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: [[usize; 2]; 4] = [[640, 480], [1280, 720], [240, 400], [64, 48]];

    fn truths(size: [usize; 2]) -> impl Iterator<Item = Vec<Code>> {
        let mut scene = Scene::new([1, 1]).unwrap();
        (scene.size, scene.camera) = (size, Camera::new(size));
        (0..1800).step_by(3).map(move |n| scene.truth(n))
    }

    #[test]
    fn every_class_is_seen_whole_and_apart() {
        for [width, height] in SIZES {
            for codes in truths([width, height]) {
                let labels: Vec<&str> = codes.iter().map(|code| code.label).collect();
                let expected = "aztec barcode marker marker qr_code pdf417 data_matrix";
                assert_eq!(labels.join(" "), expected);
                for (i, code) in codes.iter().enumerate() {
                    let [x_min, y_min, x_max, y_max] = code.bounds;
                    assert!(x_min > 0.0 && y_min > 0.0, "{code:?}");
                    assert!(x_max < width as f32 && y_max < height as f32, "{code:?}");
                    let meets = |other: &&Code| {
                        let [left, top, right, bottom] = other.bounds;
                        x_min < right && left < x_max && y_min < bottom && top < y_max
                    };
                    assert_eq!(codes[..i].iter().find(meets), None, "{code:?}");
                }
            }
        }
    }

    #[test]
    fn codes_are_as_large_as_they_are_told_to_be() {
        for codes in truths([640, 480]) {
            for code in codes {
                let [x_min, y_min, x_max, y_max] = code.bounds;
                let longer = (x_max - x_min).max(y_max - y_min);
                assert!((68.0..205.0).contains(&longer), "{code:?}");
            }
        }
    }

    /// The truth is where the ink is: the modules touch all four sides of their place, and paper lies round it.
    #[test]
    fn places_of_codes_fit_their_pictures() {
        for thing in &THINGS {
            let code = thing.code.as_ref().unwrap();
            let picture = image::load_from_memory(thing.picture).unwrap().into_luma8();
            let [left, top, right, bottom] = code.place.map(u32::from);
            let dark = |xs: std::ops::Range<u32>, ys: std::ops::Range<u32>| {
                let mut all = xs.flat_map(|x| ys.clone().map(move |y| (x, y)));
                all.any(|(x, y)| picture.get_pixel(x, y).0[0] < 100)
            };
            for (inner, outer) in [(left, left - 1), (right - 1, right)] {
                assert!(dark(inner..inner + 1, top..bottom), "{}", code.label);
                assert!(!dark(outer..outer + 1, top..bottom), "{}", code.label);
            }
            for (inner, outer) in [(top, top - 1), (bottom - 1, bottom)] {
                assert!(dark(left..right, inner..inner + 1), "{}", code.label);
                assert!(!dark(left..right, outer..outer + 1), "{}", code.label);
            }
        }
    }

    #[test]
    fn pictures_are_not_stretched() {
        for thing in BACKGROUND.iter().chain(&THINGS) {
            let [width, height] = Texture::from_png(thing.picture).unwrap().size();
            let density = [width as f64 / thing.size[0], height as f64 / thing.size[1]];
            assert!(
                density[0] == density[1] && density[0] >= 2.0,
                "{:?}",
                thing.size
            );
        }
    }

    /// FNV-1a.
    fn hash(bytes: &[u8]) -> u64 {
        bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3)
        })
    }

    /// The bytes that one machine drew, which every other has to draw too. Whoever changes the scene changes them.
    #[test]
    fn frames_are_the_same_on_every_machine() {
        let hashes = [[160, 120], [320, 240]].map(|size| {
            let scene = Scene::new(size).unwrap();
            [0, 100, u64::MAX].map(|n| hash(&scene.draw(n)))
        });
        let expected = [
            [
                0x1C96_9103_7FAE_F39C,
                0x13C5_D581_0B44_FD2A,
                0x7057_F165_9E3F_A4E5,
            ],
            [
                0x8273_C03B_656F_E4E0,
                0x467A_87A7_BFCD_2F58,
                0xAAF8_F304_F087_CFBB,
            ],
        ];
        assert_eq!(hashes, expected, "{hashes:#X?}");
    }

    #[test]
    fn frames_of_any_shape_are_drawn() {
        for size in [[1, 1], [1, 700], [900, 1], [7, 5], [200, 900]] {
            let scene = Scene::new(size).unwrap();
            assert_eq!(scene.draw(50).len(), 3 * size[0] * size[1]);
            for Code { bounds, .. } in scene.truth(50) {
                assert!(bounds[2] <= size[0] as f32 && bounds[3] <= size[1] as f32);
            }
        }
    }
}
