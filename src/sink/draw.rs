//! Detections and zones drawn onto a picture.

use std::sync::LazyLock;

use ab_glyph::{FontRef, PxScale};
use image::{Rgb, RgbImage};
use imageproc::drawing::{draw_filled_rect_mut, draw_line_segment_mut, draw_text_mut, text_size};
use imageproc::rect::Rect;

use crate::detect::{BoundingBox, Classification, Detection};
use crate::source::Frame;
use crate::track::{Zone, ZoneKind};

static FONT: LazyLock<FontRef<'static>> = LazyLock::new(|| {
    FontRef::try_from_slice(include_bytes!("font/Roboto-Medium.ttf"))
        .expect("the font in the program is the file of the repository, which a test parses")
});

/// A frame's pixels as a picture.
pub fn frame_to_rgb(frame: &Frame) -> RgbImage {
    let mut image = RgbImage::new(frame.width as u32, frame.height as u32);
    if frame.width > 0 {
        for (y, row) in image.chunks_exact_mut(frame.width * 3).enumerate() {
            frame.rgb_row(y, row);
        }
    }
    image
}

/// Draws each zone's outline, in a colour for its kind, and a tag with its name.
pub fn outline(image: &mut RgbImage, zones: &[Zone]) {
    let style = Style::for_size(image.width(), image.height());
    let mut taken = Vec::new();
    for zone in zones {
        let colour = zone_colour(zone.kind);
        let corners = corners(zone, image);
        draw_outline(image, &corners, style.thickness, colour);
        let bounds = bounds(&corners);
        if let Some(place) = style.place(&zone.name, &bounds, image, &taken) {
            taken.push(place);
            style.draw_tag(image, place, &zone.name, colour);
        }
    }
}

fn zone_colour(kind: ZoneKind) -> Rgb<u8> {
    match kind {
        ZoneKind::Count => Rgb([240, 240, 240]),
        ZoneKind::Include => Rgb([110, 220, 120]),
        ZoneKind::Exclude => Rgb([235, 90, 70]),
    }
}

/// The corners of a zone in pixels that exist.
fn corners(zone: &Zone, image: &RgbImage) -> Vec<(f32, f32)> {
    let pixel = |share: f64, side: u32| {
        let last = side.saturating_sub(1) as f32;
        (share as f32 * side as f32).min(last)
    };
    let points = zone.polygon.points().iter();
    points
        .map(|&[x, y]| (pixel(x, image.width()), pixel(y, image.height())))
        .collect()
}

fn bounds(corners: &[(f32, f32)]) -> BoundingBox {
    let least = |pick: fn(&(f32, f32)) -> f32| corners.iter().map(pick).fold(f32::MAX, f32::min);
    let most = |pick: fn(&(f32, f32)) -> f32| corners.iter().map(pick).fold(0.0, f32::max);
    BoundingBox {
        x_min: least(|corner| corner.0),
        y_min: least(|corner| corner.1),
        x_max: most(|corner| corner.0),
        y_max: most(|corner| corner.1),
    }
}

/// Draws each detection's box, and a tag with its label, the number of its track and its confidence. The most confident
/// lies on top; tags stay within the picture, and off each other where there is room beside their box.
pub fn annotate(image: &mut RgbImage, detections: &[Detection]) {
    let style = Style::for_size(image.width(), image.height());
    let mut taken: Vec<Rect> = Vec::new();
    for detection in detections.iter().rev() {
        draw_box(
            image,
            &detection.bounding_box,
            style.thickness,
            class_colour(detection.class_id),
        );
    }
    let mut tags = Vec::new();
    for detection in detections {
        let percent = (detection.confidence * 100.0).round();
        let text = match detection.track_id {
            Some(id) => format!("{} #{id} {percent}%", detection.label),
            None => format!("{} {percent}%", detection.label),
        };
        if let Some(place) = style.place(&text, &detection.bounding_box, image, &taken) {
            taken.push(place);
            tags.push((place, text, class_colour(detection.class_id)));
        }
    }
    for (place, text, colour) in tags.into_iter().rev() {
        style.draw_tag(image, place, &text, colour);
    }
}

/// Darkens a picture and writes the lines of a text onto its middle.
pub fn caption(image: &mut RgbImage, text: &str) {
    for level in image.iter_mut() {
        *level /= 3;
    }
    let style = Style::for_size(image.width(), image.height());
    let font = PxScale::from(style.font.y * 1.5);
    let height = font.y.ceil() as i32;
    let lines = text.lines().count() as i32;
    let mut y = (image.height() as i32 - lines * height) / 2;
    for line in text.lines() {
        let (width, _) = text_size(font, &*FONT, line);
        let x = (image.width() as i32 - width as i32) / 2;
        draw_text_mut(image, Rgb([255; 3]), x.max(0), y, font, &*FONT, line);
        y += height;
    }
}

/// Lists classes of the whole picture in its top left corner, the most confident first.
pub fn annotate_classes(image: &mut RgbImage, classes: &[Classification]) {
    let style = Style::for_size(image.width(), image.height());
    let mut top = 0;
    for class in classes {
        let text = format!("{} {}%", class.label, (class.confidence * 100.0).round());
        let Some([width, height]) = style.tag_size(&text, image) else {
            return;
        };
        if top + height > image.height() as i32 {
            return;
        }
        let place = Rect::at(0, top).of_size(width as u32, height as u32);
        style.draw_tag(image, place, &text, class_colour(class.class_id));
        top += height;
    }
}

/// A colour for each class: hues a golden ratio of the circle apart, so that neighbours differ most.
fn class_colour(class_id: usize) -> Rgb<u8> {
    const GOLDEN_RATIO: f32 = 0.618_034;
    // Class ids beyond a million repeat, where a float would lose the fraction.
    let hue = (0.33 + (class_id % 1_000_000) as f64 * f64::from(GOLDEN_RATIO)).fract() as f32;
    hsv(hue, 0.8, 0.95)
}

/// A colour by hue, saturation and value, each in `[0, 1]` (Smith 1978).
fn hsv(hue: f32, saturation: f32, value: f32) -> Rgb<u8> {
    let channel = |n: f32| {
        let k = (n + hue * 6.0) % 6.0;
        let level = value * (1.0 - saturation * k.min(4.0 - k).clamp(0.0, 1.0));
        (level * 255.0).round() as u8
    };
    Rgb([channel(5.0), channel(3.0), channel(1.0)])
}

/// Black on bright colours, white on dark ones, by BT.601 luma.
fn text_colour(Rgb([r, g, b]): Rgb<u8>) -> Rgb<u8> {
    let luma = 299 * u32::from(r) + 587 * u32::from(g) + 114 * u32::from(b);
    if luma > 130_000 {
        Rgb([0; 3])
    } else {
        Rgb([255; 3])
    }
}

/// Sizes that grow with the picture.
#[derive(Clone, Copy, Debug)]
struct Style {
    thickness: i32,
    font: PxScale,
    /// Between text and the edge of its tag.
    margin: i32,
}

impl Style {
    fn for_size(width: u32, height: u32) -> Self {
        let side = width.max(height) as f32;
        let font = (side / 36.0).clamp(13.0, 96.0);
        Self {
            thickness: (side / 300.0).round().clamp(2.0, 12.0) as i32,
            font: PxScale::from(font),
            margin: (font / 6.0).ceil() as i32,
        }
    }

    /// Width and height of a tag, no wider than the picture. `None` where the picture is smaller than a tag is high.
    fn tag_size(&self, text: &str, image: &RgbImage) -> Option<[i32; 2]> {
        let (text_width, _) = text_size(self.font, &*FONT, text);
        let width = (text_width as i32 + 2 * self.margin).min(image.width() as i32);
        let height = self.font.y.ceil() as i32 + self.margin;
        (height <= image.height() as i32 && width >= 1).then_some([width, height])
    }

    /// Where the tag of a box goes: above its top left corner, else within it, below it, above its right corner; where
    /// all of these cover another tag, the first. `None` where the picture is smaller than a tag is high.
    fn place(
        &self,
        text: &str,
        bounds: &BoundingBox,
        image: &RgbImage,
        taken: &[Rect],
    ) -> Option<Rect> {
        let (picture_width, picture_height) = (image.width() as i32, image.height() as i32);
        let [width, height] = self.tag_size(text, image)?;
        let left = bounds.x_min as i32;
        let right = bounds.x_max as i32 - width;
        let (top, bottom) = (bounds.y_min as i32, bounds.y_max as i32);
        let corners = [
            (left, top - height),
            (left, top),
            (left, bottom),
            (left, bottom - height),
            (right, top - height),
            (right, top),
            (right, bottom),
        ];
        let inside = |(x, y): (i32, i32)| {
            let x = x.clamp(0, picture_width - width);
            Rect::at(x, y.clamp(0, picture_height - height)).of_size(width as u32, height as u32)
        };
        let fits = |y: i32| (0..=picture_height - height).contains(&y);
        let free = |rect: &Rect| taken.iter().all(|other| rect.intersect(*other).is_none());
        let mut choices = corners.into_iter().filter(|&(_, y)| fits(y)).map(inside);
        choices.find(free).or_else(|| {
            let first = corners
                .into_iter()
                .find(|&(_, y)| fits(y))
                .unwrap_or(corners[1]);
            Some(inside(first))
        })
    }

    fn draw_tag(&self, image: &mut RgbImage, place: Rect, text: &str, colour: Rgb<u8>) {
        draw_filled_rect_mut(image, place, colour);
        let (x, y) = (place.left() + self.margin, place.top() + self.margin / 2);
        draw_text_mut(image, text_colour(colour), x, y, self.font, &*FONT, text);
    }
}

/// Lines from corner to corner and back to the first, with a thin dark line on either side.
fn draw_outline(image: &mut RgbImage, corners: &[(f32, f32)], thickness: i32, colour: Rgb<u8>) {
    let mut lines = |thickness: i32, colour| {
        let ends = corners.iter().zip(corners.iter().cycle().skip(1));
        for (&from, &to) in ends {
            let level = (to.0 - from.0).abs() > (to.1 - from.1).abs();
            for step in 0..thickness {
                let aside = (step - thickness / 2) as f32;
                let moved = |(x, y)| {
                    if level {
                        (x, y + aside)
                    } else {
                        (x + aside, y)
                    }
                };
                draw_line_segment_mut(image, moved(from), moved(to), colour);
            }
        }
    };
    lines(thickness + 2, Rgb([20; 3]));
    lines(thickness, colour);
}

/// The outline of a box, `thickness` pixels wide towards its inside, with a thin dark line along it that keeps it apart
/// from a background of its own colour.
fn draw_box(image: &mut RgbImage, bounds: &BoundingBox, thickness: i32, colour: Rgb<u8>) {
    let (left, top) = (bounds.x_min.floor() as i32, bounds.y_min.floor() as i32);
    let (right, bottom) = (bounds.x_max.ceil() as i32, bounds.y_max.ceil() as i32);
    let mut frame = |inset: i32, thickness: i32, colour| {
        let (left, top) = (left + inset, top + inset);
        let (width, height) = (right - inset - left, bottom - inset - top);
        let thickness = thickness.min(width).min(height);
        if thickness < 1 {
            return;
        }
        let mut fill = |x: i32, y: i32, width: i32, height: i32| {
            draw_filled_rect_mut(
                image,
                Rect::at(x, y).of_size(width as u32, height as u32),
                colour,
            );
        };
        fill(left, top, width, thickness);
        fill(left, top + height - thickness, width, thickness);
        fill(left, top, thickness, height);
        fill(left + width - thickness, top, thickness, height);
    };
    frame(thickness, (thickness / 2).max(1), Rgb([20; 3]));
    frame(0, thickness, colour);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::polygon::Polygon;

    fn detection(class_id: usize, [x_min, y_min, x_max, y_max]: [f32; 4]) -> Detection {
        Detection {
            label: "thing".into(),
            class_id,
            confidence: 0.876,
            bounding_box: BoundingBox {
                x_min,
                y_min,
                x_max,
                y_max,
            },
            track_id: None,
        }
    }

    #[test]
    fn classes_have_colours_far_apart() {
        for a in 0..12 {
            for b in 0..a {
                let (Rgb(x), Rgb(y)) = (class_colour(a), class_colour(b));
                let distance: u32 = x.iter().zip(y).map(|(x, y)| u32::from(x.abs_diff(y))).sum();
                assert!(distance >= 30, "{a} {b}: {x:?} {y:?}");
            }
        }
        assert_eq!(hsv(0.0, 1.0, 1.0), Rgb([255, 0, 0]));
        assert_eq!(hsv(1.0 / 3.0, 1.0, 1.0), Rgb([0, 255, 0]));
        assert_eq!(hsv(0.5, 0.0, 0.5), Rgb([128; 3]));
    }

    #[test]
    fn text_stands_out_from_its_tag() {
        assert_eq!(text_colour(Rgb([255, 255, 0])), Rgb([0; 3]));
        assert_eq!(text_colour(Rgb([0, 0, 255])), Rgb([255; 3]));
    }

    #[test]
    fn outline_lies_where_the_box_is() {
        let mut image = RgbImage::new(200, 200);
        annotate(&mut image, &[detection(3, [50.0, 60.0, 150.0, 160.0])]);
        let colour = class_colour(3);
        for (x, y) in [(50, 100), (149, 100), (100, 60), (100, 159)] {
            assert_eq!(*image.get_pixel(x, y), colour, "{x} {y}");
        }
        for (x, y) in [(49, 100), (150, 100), (100, 110), (100, 160)] {
            assert_eq!(*image.get_pixel(x, y), Rgb([0; 3]), "{x} {y}");
        }
    }

    #[test]
    fn zones_are_outlined_up_to_the_edge_of_the_picture() {
        let zone = |kind, points: &[[f64; 2]]| Zone {
            name: "z".into(),
            kind,
            polygon: Polygon::new(points.to_vec()).unwrap(),
            classes: None,
            dwell: None,
        };
        let whole = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]];
        let slope = [[0.25, 0.25], [0.75, 0.75], [0.25, 0.75]];
        let mut image = RgbImage::new(200, 200);
        let zones = [
            zone(ZoneKind::Include, &whole),
            zone(ZoneKind::Exclude, &slope),
        ];
        outline(&mut image, &zones);
        for (x, y) in [(199, 100), (100, 199), (199, 199), (0, 100)] {
            assert_eq!(
                *image.get_pixel(x, y),
                zone_colour(ZoneKind::Include),
                "{x} {y}"
            );
        }
        for (x, y) in [(100, 100), (100, 150), (50, 120)] {
            assert_eq!(
                *image.get_pixel(x, y),
                zone_colour(ZoneKind::Exclude),
                "{x} {y}"
            );
        }
        for (x, y) in [(80, 120), (120, 80), (190, 100)] {
            assert_eq!(*image.get_pixel(x, y), Rgb([0; 3]), "{x} {y}");
        }
        for (width, height) in [(1, 1), (1, 50), (50, 1)] {
            outline(&mut RgbImage::new(width, height), &zones);
        }
    }

    #[test]
    fn tags_stay_inside_and_apart() {
        let image = RgbImage::new(640, 480);
        let style = Style::for_size(640, 480);
        let mut taken = Vec::new();
        for bounds in [
            [600.0, 0.0, 640.0, 480.0],
            [600.0, 0.0, 640.0, 480.0],
            [0.0, 0.0, 640.0, 480.0],
        ] {
            let bounds = detection(0, bounds).bounding_box;
            let place = style
                .place("a rather long label 88%", &bounds, &image, &taken)
                .unwrap();
            assert!(place.left() >= 0 && place.top() >= 0);
            assert!(place.right() < 640 && place.bottom() < 480);
            assert!(taken.iter().all(|other| place.intersect(*other).is_none()));
            taken.push(place);
        }
    }

    #[test]
    fn classes_are_listed_from_the_corner_down() {
        let class = |class_id| Classification {
            label: "thing".into(),
            class_id,
            confidence: 0.5,
        };
        let mut image = RgbImage::new(200, 40);
        annotate_classes(&mut image, &[class(1), class(2), class(3), class(4)]);
        let [_, height] = Style::for_size(200, 40).tag_size("x", &image).unwrap();
        assert_eq!(*image.get_pixel(0, 0), class_colour(1));
        assert_eq!(*image.get_pixel(0, height as u32), class_colour(2));
        annotate_classes(&mut RgbImage::new(3, 3), &[class(1)]);
    }

    #[test]
    fn pictures_and_boxes_of_any_size_are_drawn() {
        for (width, height) in [(1, 1), (3, 200), (200, 3), (40, 40)] {
            let mut image = RgbImage::new(width, height);
            let bounds = [0.0, 0.0, width as f32, height as f32];
            annotate(
                &mut image,
                &[detection(1, bounds), detection(2, [0.5, 0.5, 0.6, 0.6])],
            );
            assert_ne!(*image.get_pixel(0, 0), Rgb([0; 3]));
        }
    }
}
