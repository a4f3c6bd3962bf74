//! What a data set holds, in numbers.

use serde::Serialize;

use super::Dataset;

/// Upper ends of the classes of box sizes, in shares of the picture's side: the square root of the box's share of the
/// picture's area.
pub const SIDES: [f64; 7] = [0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0];

/// The numbers of a data set.
#[derive(Clone, Debug, Serialize)]
pub struct Stats {
    pub images: usize,
    pub images_without_objects: usize,
    pub objects: usize,
    /// COCO's regions of many, VOC's objects that need not be found.
    pub crowds: usize,
    pub difficult: usize,
    pub splits: Vec<SplitStats>,
    pub classes: Vec<ClassStats>,
    /// Smallest, median and largest.
    pub widths: Option<[u32; 3]>,
    pub heights: Option<[u32; 3]>,
    /// Boxes by COCO's classes of size: below 32x32 pixels, up to 96x96, above.
    pub small_medium_large: [usize; 3],
    /// Boxes up to each of [`SIDES`], more than the one before.
    pub sides: Vec<SideStats>,
}

#[derive(Clone, Debug, Serialize)]
pub struct SplitStats {
    /// `None` for pictures in no split.
    pub name: Option<String>,
    pub images: usize,
    pub objects: usize,
}

#[derive(Clone, Debug, Serialize)]
pub struct ClassStats {
    pub name: String,
    pub objects: usize,
    /// Pictures with at least one.
    pub images: usize,
}

#[derive(Clone, Debug, Serialize)]
pub struct SideStats {
    pub up_to: f64,
    pub objects: usize,
}

impl Stats {
    pub fn of(dataset: &Dataset) -> Self {
        let images = &dataset.images;
        let mut stats = Self {
            images: images.len(),
            images_without_objects: images
                .iter()
                .filter(|image| image.objects.is_empty())
                .count(),
            objects: dataset.object_count(),
            crowds: 0,
            difficult: 0,
            splits: split_stats(dataset),
            classes: class_stats(dataset),
            widths: spread(images.iter().map(|image| image.size[0])),
            heights: spread(images.iter().map(|image| image.size[1])),
            small_medium_large: [0; 3],
            sides: SIDES.map(|up_to| SideStats { up_to, objects: 0 }).into(),
        };
        for image in images {
            let [width, height] = image.size.map(f64::from);
            for object in &image.objects {
                stats.crowds += usize::from(object.traits.crowd);
                stats.difficult += usize::from(object.traits.difficult);
                let area = object.rect.area();
                let class = [32.0 * 32.0, 96.0 * 96.0].partition_point(|&end| end < area);
                stats.small_medium_large[class] += 1;
                let side = (area / (width * height)).sqrt();
                let class = SIDES
                    .partition_point(|&end| end < side)
                    .min(SIDES.len() - 1);
                stats.sides[class].objects += 1;
            }
        }
        stats
    }
}

fn split_stats(dataset: &Dataset) -> Vec<SplitStats> {
    let splits = super::write::splits(dataset).into_iter();
    splits
        .map(|split| {
            let here = dataset
                .images
                .iter()
                .filter(|image| image.split.as_deref() == split);
            SplitStats {
                name: split.map(str::to_owned),
                images: here.clone().count(),
                objects: here.map(|image| image.objects.len()).sum(),
            }
        })
        .collect()
}

fn class_stats(dataset: &Dataset) -> Vec<ClassStats> {
    let mut stats: Vec<ClassStats> = (dataset.classes.iter())
        .map(|class| ClassStats {
            name: class.name.clone(),
            objects: 0,
            images: 0,
        })
        .collect();
    // The picture on which each class was last seen.
    let mut last = vec![None; stats.len()];
    for (index, image) in dataset.images.iter().enumerate() {
        for object in &image.objects {
            let class = &mut stats[object.class];
            class.objects += 1;
            if last[object.class].replace(index) != Some(index) {
                class.images += 1;
            }
        }
    }
    stats
}

/// Smallest, median and largest; `None` of nothing.
fn spread(values: impl Iterator<Item = u32>) -> Option<[u32; 3]> {
    let mut values: Vec<u32> = values.collect();
    values.sort_unstable();
    Some([*values.first()?, values[values.len() / 2], *values.last()?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::{Class, Form, Image, Object, Rect};

    #[test]
    fn objects_are_counted_by_class_picture_and_size() {
        let object = |class, side| Object {
            class,
            rect: Rect {
                x: 0.0,
                y: 0.0,
                width: side,
                height: side,
            },
            ..Object::default()
        };
        let image = |id, objects| Image {
            id,
            file: format!("{id}.jpg"),
            path: None,
            size: [100, 400],
            split: (id == 1).then(|| "val".into()),
            objects,
            coco: None,
        };
        let class = |name: &str| Class {
            id: 1,
            name: name.into(),
            coco: None,
        };
        let dataset = Dataset {
            name: "d".into(),
            form: Form::Coco,
            classes: vec![class("cat"), class("dog")],
            images: vec![
                image(1, vec![object(1, 32.0), object(1, 33.0), object(0, 97.0)]),
                image(2, vec![]),
                image(3, vec![object(1, 2.0)]),
            ],
            coco: Vec::new(),
        };
        let stats = Stats::of(&dataset);
        assert_eq!(
            (stats.images, stats.images_without_objects, stats.objects),
            (3, 1, 4)
        );
        let classes: Vec<_> = stats
            .classes
            .iter()
            .map(|c| (c.objects, c.images))
            .collect();
        assert_eq!(classes, [(1, 1), (3, 2)]);
        assert_eq!(stats.small_medium_large, [2, 1, 1]);
        // 2 of 200 is 0.01; 32 and 33 are 0.16; 97 is 0.485.
        let sides: Vec<_> = stats.sides.iter().map(|side| side.objects).collect();
        assert_eq!(sides, [1, 0, 0, 2, 0, 1, 0]);
        let splits: Vec<_> = stats
            .splits
            .iter()
            .map(|s| (s.name.as_deref(), s.images))
            .collect();
        assert_eq!(splits, [(Some("val"), 1), (None, 2)]);
        assert_eq!(stats.heights, Some([400; 3]));
    }
}
