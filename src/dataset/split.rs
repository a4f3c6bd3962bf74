//! Dividing a data set into parts for training and testing.

use super::Dataset;
use crate::error::{Error, Result};

/// Names of the parts, in the order of the ratios.
const NAMES: [&str; 3] = ["train", "val", "test"];

/// Shares of the parts `train`, `val` and, if there are three, `test`.
#[derive(Clone, Debug, PartialEq)]
pub struct Ratios(Vec<f64>);

impl std::str::FromStr for Ratios {
    type Err = String;

    /// `80/20` or `80/10/10`: shares of any sum.
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let parse = |part: &str| {
            let number: f64 = part.trim().parse().ok()?;
            (number.is_finite() && number >= 0.0).then_some(number)
        };
        let shares: Option<Vec<f64>> = text.split('/').map(parse).collect();
        match shares {
            Some(shares) if (2..=3).contains(&shares.len()) && shares.iter().sum::<f64>() > 0.0 => {
                Ok(Self(shares))
            }
            _ => Err("not two or three shares like 80/20 or 80/10/10".into()),
        }
    }
}

/// Gives each picture a split, whatever it had before. The same pictures, ratios and seed give the same splits on every
/// machine.
///
/// Pictures that follow each other by name stay together in blocks of `block`: frames of one video are so alike that a
/// test on the neighbours of what was trained on tells nothing.
pub fn assign(dataset: &mut Dataset, ratios: &Ratios, seed: u64, block: usize) -> Result<()> {
    dataset.images.sort_by(|a, b| a.file.cmp(&b.file));
    let mut blocks: Vec<_> = dataset.images.chunks_mut(block.max(1)).collect();
    let count = blocks.len();
    let parts = ratios.0.iter().filter(|share| **share > 0.0).count();
    if count < parts {
        return Err(Error::Usage(format!(
            "{}: {count} blocks of pictures cannot be divided into {parts} parts",
            dataset.name
        )));
    }
    shuffle(&mut blocks, seed);
    let ends = ends(&ratios.0, count);
    for (position, block) in blocks.into_iter().enumerate() {
        let part = ends.partition_point(|&end| end <= position);
        for image in block {
            image.split = Some(NAMES[part].into());
        }
    }
    dataset.images.sort_by_key(|image| image.id);
    Ok(())
}

/// Where each part ends, rounded; none that has a share is empty.
fn ends(shares: &[f64], count: usize) -> Vec<usize> {
    let total: f64 = shares.iter().sum();
    let mut ends = Vec::new();
    let (mut sum, mut last) = (0.0, 0);
    for (index, share) in shares.iter().enumerate() {
        sum += share;
        let later = shares[index + 1..]
            .iter()
            .filter(|share| **share > 0.0)
            .count();
        let least = last + usize::from(*share > 0.0);
        let end = ((sum / total * count as f64).round() as usize).clamp(least, count - later);
        ends.push(end);
        last = end;
    }
    ends
}

/// Fisher and Yates, with the numbers of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
fn shuffle<T>(items: &mut [T], seed: u64) {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    for last in (1..items.len()).rev() {
        let other = (u128::from(next()) * (last as u128 + 1)) >> 64;
        items.swap(last, other as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::{Form, Image};

    fn dataset(count: u64) -> Dataset {
        let image = |id| Image {
            id,
            file: format!("{id:04}.jpg"),
            path: None,
            size: [1, 1],
            split: Some("old".into()),
            objects: Vec::new(),
            coco: None,
        };
        Dataset {
            name: "d".into(),
            form: Form::Coco,
            classes: Vec::new(),
            images: (0..count).map(image).collect(),
            coco: Vec::new(),
        }
    }

    fn splits(dataset: &Dataset) -> Vec<Option<&str>> {
        dataset
            .images
            .iter()
            .map(|image| image.split.as_deref())
            .collect()
    }

    fn count(dataset: &Dataset, name: &str) -> usize {
        let is = |image: &&Image| image.split.as_deref() == Some(name);
        dataset.images.iter().filter(is).count()
    }

    #[test]
    fn shares_are_met_and_the_seed_decides() {
        let ratios: Ratios = "80/10/10".parse().unwrap();
        let (mut one, mut same, mut other) = (dataset(100), dataset(100), dataset(100));
        assign(&mut one, &ratios, 1, 1).unwrap();
        assign(&mut same, &ratios, 1, 1).unwrap();
        assign(&mut other, &ratios, 2, 1).unwrap();
        assert_eq!(
            ["train", "val", "test"].map(|name| count(&one, name)),
            [80, 10, 10]
        );
        assert_eq!(splits(&one), splits(&same));
        assert_ne!(splits(&one), splits(&other));
    }

    #[test]
    fn no_part_with_a_share_is_empty() {
        let mut few = dataset(3);
        assign(&mut few, &"98/1/1".parse().unwrap(), 0, 1).unwrap();
        assert_eq!(
            ["train", "val", "test"].map(|name| count(&few, name)),
            [1, 1, 1]
        );
        let error = assign(&mut dataset(2), &"98/1/1".parse().unwrap(), 0, 1);
        assert!(error.unwrap_err().to_string().contains("3 parts"));
        let mut none = dataset(10);
        assign(&mut none, &"1/0/1".parse().unwrap(), 0, 1).unwrap();
        assert_eq!(count(&none, "val"), 0);
    }

    #[test]
    fn neighbours_stay_together() {
        let mut video = dataset(100);
        assign(&mut video, &"50/50".parse().unwrap(), 3, 10).unwrap();
        for block in video.images.chunks(10) {
            assert!(block.iter().all(|image| image.split == block[0].split));
        }
    }

    #[test]
    fn wrong_ratios_are_refused() {
        for text in ["", "80", "1/1/1/1", "0/0", "-1/2", "a/b", "nan/1"] {
            assert!(text.parse::<Ratios>().is_err(), "{text}");
        }
    }
}
