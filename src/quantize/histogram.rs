//! How the values of a tensor are distributed, gathered over any number of pictures in bounded memory.

/// Where the limit starts: 2^-60.
const SMALLEST_LIMIT: f32 = 1.0 / (1u64 << 60) as f32;

/// Bins on each side of 0.
const HALF: usize = 2048;

/// A histogram of finite values with 4096 bins of equal width, symmetric about 0.
///
/// The limit is a power of two and doubles when a value passes it, which joins neighbouring bins; so the bins do not
/// depend on the order in which values come.
#[derive(Clone, Debug)]
pub struct Histogram {
    bins: Vec<u64>,
    limit: f32,
    range: Range,
}

/// The smallest and the largest of some real values; always holds 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Range {
    pub min: f32,
    pub max: f32,
}

impl Range {
    /// The range of the values, with 0.
    pub fn of(values: &[f32]) -> Self {
        let start = Self::default();
        values.iter().fold(start, |range, &value| Self {
            min: range.min.min(value),
            max: range.max.max(value),
        })
    }

    /// The smallest range that holds both.
    pub fn union(self, other: Self) -> Self {
        Self {
            min: self.min.min(other.min),
            max: self.max.max(other.max),
        }
    }

    /// The largest range that lies in both.
    pub fn intersection(self, other: Self) -> Self {
        Self {
            min: self.min.max(other.min),
            max: self.max.min(other.max),
        }
    }

    /// The largest absolute value.
    pub fn magnitude(self) -> f32 {
        self.max.max(-self.min)
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            bins: vec![0; 2 * HALF],
            limit: SMALLEST_LIMIT,
            range: Range::default(),
        }
    }
}

impl Histogram {
    /// Counts the values. `false`, with nothing counted, if one of them is not finite.
    #[must_use]
    pub fn add(&mut self, values: &[f32]) -> bool {
        let range = Range::of(values);
        let magnitude = range.magnitude();
        if values.iter().any(|value| !value.is_finite()) || magnitude >= f32::MAX / 2.0 {
            return false;
        }
        while self.limit <= magnitude {
            self.double();
        }
        let per_unit = HALF as f32 / self.limit;
        for &value in values {
            // The product is exact and below 2048: `per_unit` is a power of two.
            let scaled = value * per_unit;
            let whole = scaled as i32;
            let floor = whole - i32::from(scaled < whole as f32);
            self.bins[(floor + HALF as i32).clamp(0, 2 * HALF as i32 - 1) as usize] += 1;
        }
        self.range = self.range.union(range);
        true
    }

    /// Counts all that another histogram has counted.
    pub fn merge(&mut self, other: &Self) {
        let mut other = other.clone();
        while self.limit < other.limit {
            self.double();
        }
        while other.limit < self.limit {
            other.double();
        }
        for (count, more) in self.bins.iter_mut().zip(other.bins) {
            *count += more;
        }
        self.range = self.range.union(other.range);
    }

    /// Twice the limit: two bins become one.
    fn double(&mut self) {
        let mut joined = vec![0; 2 * HALF];
        for (bin, pair) in self.bins.chunks_exact(2).enumerate() {
            joined[HALF / 2 + bin] = pair[0] + pair[1];
        }
        self.bins = joined;
        self.limit *= 2.0;
    }

    /// Smallest and largest value counted, and 0.
    pub fn range(&self) -> Range {
        self.range
    }

    /// Number of values counted.
    pub fn count(&self) -> u64 {
        self.bins.iter().sum()
    }

    /// Lower edge, upper edge and count of each bin that holds values, ascending.
    pub fn bins(&self) -> impl DoubleEndedIterator<Item = (f32, f32, u64)> + '_ {
        let width = self.limit / HALF as f32;
        let edge = move |bin: usize| (bin as f32 - HALF as f32) * width;
        let filled = self
            .bins
            .iter()
            .enumerate()
            .filter(|(_, count)| **count > 0);
        filled.map(move |(bin, &count)| (edge(bin), edge(bin + 1), count))
    }

    /// Counts over `columns` equal parts of the range, for a plot.
    pub fn resampled(&self, columns: usize) -> Vec<u64> {
        let mut counts = vec![0; columns];
        let Range { min, max } = self.range;
        let span = (max - min).max(f32::MIN_POSITIVE);
        for (low, high, count) in self.bins() {
            let column = ((low + high) / 2.0 - min) / span * columns as f32;
            counts[(column.max(0.0) as usize).min(columns - 1)] += count;
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_do_not_depend_on_the_order() {
        let values: Vec<f32> = (-50..200).map(|i| i as f32 * 0.037).collect();
        let mut forth = Histogram::default();
        assert!(values.iter().all(|value| forth.add(&[*value])));
        let mut back = Histogram::default();
        assert!(values.iter().rev().all(|value| back.add(&[*value])));
        assert!(forth.bins().eq(back.bins()));
        assert_eq!(forth.count(), 250);
        let (few, many) = values.split_at(60);
        let [mut merged, other] = [many, few].map(|values| {
            let mut histogram = Histogram::default();
            assert!(histogram.add(values));
            histogram
        });
        merged.merge(&other);
        assert!(forth.bins().eq(merged.bins()));
        assert_eq!(forth.range(), merged.range());
        let range = Range {
            min: -50.0 * 0.037,
            max: 199.0 * 0.037,
        };
        assert_eq!(forth.range(), range);
        assert!(
            forth
                .bins()
                .all(|(low, high, _)| high - low == 8.0 / 2048.0)
        );
    }

    #[test]
    fn values_lie_in_their_bins() {
        let mut histogram = Histogram::default();
        assert!(histogram.add(&[0.0, 1.5, -0.75, 1.5]));
        let bins: Vec<_> = histogram.bins().collect();
        let counts: Vec<u64> = bins.iter().map(|bin| bin.2).collect();
        assert_eq!(counts, [1, 1, 2]);
        for ((low, high, _), value) in bins.into_iter().zip([-0.75, 0.0, 1.5]) {
            assert!(low <= value && value < high);
        }
        assert_eq!(histogram.resampled(3), [1, 1, 2]);
    }

    #[test]
    fn what_is_not_finite_is_refused() {
        for bad in [f32::NAN, f32::INFINITY, f32::MIN] {
            assert!(!Histogram::default().add(&[1.0, bad]));
        }
        let mut empty = Histogram::default();
        assert!(empty.add(&[]) && empty.add(&[0.0]));
        assert_eq!(empty.range(), Range::default());
    }
}
