//! Which range of an activation the codes are spread over.

use super::histogram::{Histogram, Range};

/// How the range of an activation follows from the values that calibration saw.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Method {
    /// All values.
    #[default]
    MinMax,
    /// All but the outermost: this many percent stay, half of the rest is cut on each side.
    Percentile(f64),
    /// The range whose codes tell the most: least Kullback-Leibler divergence of the quantized distribution from the
    /// real one.
    Entropy,
    /// The range of least mean squared error.
    Mse,
}

impl std::fmt::Display for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::MinMax => f.write_str("minmax"),
            Self::Percentile(percent) => write!(f, "percentile {percent}"),
            Self::Entropy => f.write_str("entropy"),
            Self::Mse => f.write_str("mse"),
        }
    }
}

/// Codes of an 8-bit activation.
const LEVELS: usize = 256;

/// Parts of the full range that are tried.
const STEPS: usize = 100;

impl Method {
    /// The range to spread 256 codes over. It lies within the histogram's and holds 0.
    pub fn range(self, histogram: &Histogram) -> Range {
        match self {
            Self::MinMax => histogram.range(),
            Self::Percentile(percent) => percentile(histogram, percent),
            Self::Entropy => least(histogram, divergence),
            Self::Mse => least(histogram, squared_error),
        }
    }
}

fn percentile(histogram: &Histogram, percent: f64) -> Range {
    let cut = (histogram.count() as f64 * (100.0 - percent) / 200.0) as u64;
    let mut outside = 0;
    let mut passes = |count: u64| {
        outside += count;
        outside > cut
    };
    let max = histogram.bins().rev().find(|bin| passes(bin.2));
    outside = 0;
    let mut passes = |count: u64| {
        outside += count;
        outside > cut
    };
    let min = histogram.bins().find(|bin| passes(bin.2));
    let full = histogram.range();
    Range {
        min: min.map_or(0.0, |bin| bin.0).max(full.min).min(0.0),
        max: max.map_or(0.0, |bin| bin.1).min(full.max).max(0.0),
    }
}

/// What a range costs of a histogram's bins: least, greatest, count.
type Loss = fn(&[(f32, f32, u64)], Range) -> f64;

/// The range with the least loss: both ends are drawn in together, then each on its own.
fn least(histogram: &Histogram, loss: Loss) -> Range {
    let bins: Vec<_> = histogram.bins().collect();
    let full = histogram.range();
    let part = |step: usize| step as f32 / STEPS as f32;
    let shrunk = |low: f32, high: f32| Range {
        min: full.min * low,
        max: full.max * high,
    };
    let best = |candidate: &dyn Fn(f32) -> Range| {
        // From the full range on, so that equal losses keep more of it.
        let parts = (1..=STEPS).rev().map(part);
        let scored = parts.map(|part| (loss(&bins, candidate(part)), part));
        scored
            .reduce(|best, next| if next.0 < best.0 { next } else { best })
            .map_or(1.0, |(_, part)| part)
    };
    let both = best(&|part| shrunk(part, part));
    let high = best(&|part| shrunk(both, part));
    let low = best(&|part| shrunk(part, high));
    shrunk(low, high)
}

/// Mean squared distance of the values from the codes' real values, each bin taken at its centre.
fn squared_error(bins: &[(f32, f32, u64)], range: Range) -> f64 {
    let step = (range.max - range.min) / (LEVELS - 1) as f32;
    if step <= 0.0 {
        return f64::INFINITY;
    }
    let zero = (-range.min / step).round();
    let error = |&(low, high, count): &(f32, f32, u64)| {
        // The bin of 0 is that of zeros, which are exact.
        let value = if low == 0.0 { 0.0 } else { (low + high) / 2.0 };
        let code = (value / step + zero)
            .round()
            .clamp(0.0, (LEVELS - 1) as f32);
        f64::from((code - zero) * step - value).powi(2) * count as f64
    };
    bins.iter().map(error).sum()
}

/// Kullback-Leibler divergence of what codes can tell of the distribution from the distribution with its outliers moved
/// to the ends of the range (S. Migacz, "8-bit inference with TensorRT", 2017). Zeros, which are exact, do not count.
fn divergence(bins: &[(f32, f32, u64)], range: Range) -> f64 {
    let step = (range.max - range.min) / LEVELS as f32;
    if step <= 0.0 {
        return f64::INFINITY;
    }
    // Of each code: its values inside the range, all its values, and how many bins it has.
    let mut codes = [(0u64, 0u64, 0u64); LEVELS];
    let centre = |bin: &(f32, f32, u64)| (bin.0 + bin.1) / 2.0;
    let code_of = |value: f32| {
        let code = ((value - range.min) / step).floor();
        code.clamp(0.0, (LEVELS - 1) as f32) as usize
    };
    let inside = |value: f32| (range.min..=range.max).contains(&value);
    let counted = || bins.iter().filter(|bin| bin.0 != 0.0);
    for bin in counted() {
        let (value, code) = (centre(bin), &mut codes[code_of(centre(bin))]);
        code.1 += bin.2;
        if inside(value) {
            code.0 += bin.2;
            code.2 += 1;
        }
    }
    let total: f64 = codes.iter().map(|code| code.1 as f64).sum();
    let kept: f64 = codes.iter().map(|code| code.0 as f64).sum();
    if kept == 0.0 {
        return f64::INFINITY;
    }
    // Outliers join the outermost bin that lies inside.
    let ends = [
        counted().find(|bin| inside(centre(bin))),
        counted().rfind(|bin| inside(centre(bin))),
    ];
    let outliers = |end: usize| -> u64 {
        let outside = |bin: &&(f32, f32, u64)| match end {
            0 => centre(bin) < range.min,
            _ => centre(bin) > range.max,
        };
        counted().filter(outside).map(|bin| bin.2).sum()
    };
    let outliers = [outliers(0), outliers(1)];
    let mut sum = 0.0;
    for bin in counted().filter(|bin| inside(centre(bin))) {
        let moved = (0..2).filter(|&end| ends[end].is_some_and(|last| last.0 == bin.0));
        let count = bin.2 + moved.map(|end| outliers[end]).sum::<u64>();
        let code = &codes[code_of(centre(bin))];
        let told = code.0 as f64 / code.2 as f64 / kept;
        let real = count as f64 / total;
        sum += real * (real / told).ln();
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(values: &[f32]) -> Histogram {
        let mut histogram = Histogram::default();
        assert!(histogram.add(values));
        histogram
    }

    /// Ten thousand values spread evenly over -1..2, and one outlier.
    fn with_outlier() -> Histogram {
        let mut values: Vec<f32> = (0..10_000).map(|i| i as f32 * 3e-4 - 1.0).collect();
        values.push(60.0);
        histogram(&values)
    }

    #[test]
    fn min_max_is_exact() {
        let range = Method::MinMax.range(&with_outlier());
        assert_eq!((range.min, range.max), (-1.0, 60.0));
        let positive = Method::MinMax.range(&histogram(&[2.0, 3.0]));
        assert_eq!((positive.min, positive.max), (0.0, 3.0));
    }

    #[test]
    fn outliers_are_cut() {
        let histogram = with_outlier();
        let width = 64.0 / 2048.0;
        let range = Method::Percentile(99.98).range(&histogram);
        assert!((range.max - 2.0).abs() <= 2.0 * width, "{range:?}");
        assert!((range.min + 1.0).abs() <= 2.0 * width, "{range:?}");
        let range = Method::Entropy.range(&histogram);
        assert!((1.0..30.0).contains(&range.max), "{range:?}");
        assert!((-1.0..=-0.5).contains(&range.min), "{range:?}");
        assert_eq!(Method::Percentile(100.0).range(&histogram).max, 60.0);
    }

    #[test]
    fn the_error_decides_what_is_cut() {
        let values: Vec<f32> = (0..10_000).map(|i| i as f32 * 3e-4 - 1.0).collect();
        let mut many = histogram(&[8.0]);
        assert!((0..100).all(|_| many.add(&values)));
        // Of a million values one is cut off: 6² / 10^6 and (3/255)² / 12 are less than (9/255)² / 12. A little beyond 2 is
        // better still.
        let range = Method::Mse.range(&many);
        assert!((1.9..4.0).contains(&range.max), "{range:?}");
        // Of ten thousand it is kept.
        let mut few = histogram(&[8.0]);
        assert!(few.add(&values));
        assert!(Method::Mse.range(&few).max > 7.0);
    }

    #[test]
    fn even_distributions_are_kept_whole() {
        let values: Vec<f32> = (0..50_000)
            .map(|i| (i as f32 + 0.5) * 6.0 / 50_000.0)
            .collect();
        for method in [Method::Entropy, Method::Mse, Method::Percentile(99.99)] {
            let range = method.range(&histogram(&values));
            assert!(range.max > 5.8 && range.min == 0.0, "{method:?} {range:?}");
        }
    }

    #[test]
    fn constant_zero_has_an_empty_range() {
        for method in [
            Method::MinMax,
            Method::Percentile(99.0),
            Method::Entropy,
            Method::Mse,
        ] {
            assert_eq!(method.range(&histogram(&[0.0; 9])), Range::default());
        }
    }
}
