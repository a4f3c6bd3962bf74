//! How good a model is on labelled pictures.
//!
//! [`coco`] computes the figures of the COCO detection challenge, [`voc`] those of Pascal VOC, [`top_k`] the accuracy
//! of classifiers. [`classes`] says which class of a model is which class of a data set.

pub mod classes;
pub mod coco;
mod matching;
pub mod top_k;
pub mod voc;

use crate::dataset::Rect;

/// An object that is really there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Truth {
    /// Position of the picture in the data set.
    pub image: usize,
    /// Position of the class in the data set.
    pub class: usize,
    pub rect: Rect,
    /// In square pixels: of the object's outline where it is known, else of its box.
    pub area: f64,
    pub counts: Counts,
}

/// Whether an object has to be found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Counts {
    /// It has to be found, once.
    #[default]
    Yes,
    /// It may be found, once: a VOC object marked as difficult.
    Optional,
    /// A region of many: it may be found again and again, and overlap is measured by the share of the detection that
    /// lies in it. COCO's `iscrowd`.
    Crowd,
}

/// An object that a model says is there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// Position of the picture in the data set.
    pub image: usize,
    /// Position of the class in the data set.
    pub class: usize,
    pub rect: Rect,
    /// Finite; higher is more certain.
    pub score: f64,
}

/// Objects and detections of one class, by picture, in the order of the pictures.
struct ByImage<'a> {
    truths: Vec<&'a Truth>,
    found: Vec<&'a Found>,
}

impl<'a> ByImage<'a> {
    /// Those of `class`. The order within a picture is kept: it decides between equal scores.
    fn of_class(class: usize, truths: &'a [Truth], found: &'a [Found]) -> Self {
        let mut truths: Vec<_> = truths.iter().filter(|truth| truth.class == class).collect();
        let mut found: Vec<_> = found.iter().filter(|found| found.class == class).collect();
        truths.sort_by_key(|truth| truth.image);
        found.sort_by_key(|found| found.image);
        Self { truths, found }
    }

    /// The pictures that hold any, each with its objects and its detections.
    fn images(&self) -> impl Iterator<Item = (&[&'a Truth], &[&'a Found])> {
        let (mut truths, mut found) = (&self.truths[..], &self.found[..]);
        std::iter::from_fn(move || {
            let next = [
                truths.first().map(|t| t.image),
                found.first().map(|f| f.image),
            ];
            let image = next.into_iter().flatten().min()?;
            let here = truths.partition_point(|truth| truth.image == image);
            let seen = found.partition_point(|found| found.image == image);
            let (now_truths, later_truths) = truths.split_at(here);
            let (now_found, later_found) = found.split_at(seen);
            (truths, found) = (later_truths, later_found);
            Some((now_truths, now_found))
        })
    }
}

/// The best first; equal scores stay in order.
fn sort_by_score<T>(items: &mut [T], score: impl Fn(&T) -> f64) {
    items.sort_by(|a, b| score(b).total_cmp(&score(a)));
}

/// `None` of nothing.
fn mean(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values
        .into_iter()
        .fold((0.0, 0), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}
