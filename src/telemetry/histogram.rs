//! Latencies in buckets of logarithmic width.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Buckets in each doubling of the latency: a quantile is at most 1/32 off.
const SUB_BUCKETS: usize = 32;
const SUB_BITS: u32 = SUB_BUCKETS.trailing_zeros();
/// Everything from 2^26 microseconds (67 s) on falls in the last bucket.
const MAX_BITS: u32 = 26;
const BUCKETS: usize = SUB_BUCKETS * (MAX_BITS - SUB_BITS + 1) as usize;

/// How often each latency occurred, from a microsecond to a minute. Any thread may record and read; memory is fixed.
#[derive(Debug)]
pub struct Histogram {
    buckets: Box<[AtomicU64]>,
    sum_nanos: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(),
            sum_nanos: AtomicU64::new(0),
        }
    }
}

impl Histogram {
    /// Counts one latency.
    pub fn record(&self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket_of(nanos)].fetch_add(1, Ordering::Relaxed);
        self.sum_nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// Number of latencies recorded.
    pub fn count(&self) -> u64 {
        self.buckets
            .iter()
            .map(|bucket| bucket.load(Ordering::Relaxed))
            .sum()
    }

    /// All latencies together.
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum_nanos.load(Ordering::Relaxed))
    }

    /// The latency that a share `q` (0 to 1) of all do not exceed; `None` when nothing was recorded.
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        let counts: Vec<u64> = self
            .buckets
            .iter()
            .map(|bucket| bucket.load(Ordering::Relaxed))
            .collect();
        let total: u64 = counts.iter().sum();
        if total == 0 {
            return None;
        }
        let rank = ((q.clamp(0.0, 1.0) * total as f64).ceil() as u64).max(1);
        let mut below = 0;
        for (index, &count) in counts.iter().enumerate() {
            if below + count >= rank {
                let within = ((rank - below) as f64 - 0.5) / count as f64;
                let (low, high) = (lower_bound(index) as f64, lower_bound(index + 1) as f64);
                return Some(Duration::from_secs_f64((low + (high - low) * within) / 1e6));
            }
            below += count;
        }
        None
    }

    /// Cumulative counts at powers of two, 2^8 (256 microseconds) to 2^24 (17 s): pairs of the upper bound in seconds
    /// and the number of latencies that do not exceed it.
    pub fn cumulative(&self) -> Vec<(f64, u64)> {
        let mut bounds = Vec::new();
        let mut total = 0;
        let mut index = 0;
        for exponent in 8..=24 {
            let end = SUB_BUCKETS * (exponent - SUB_BITS as usize + 1);
            while index < end {
                total += self.buckets[index].load(Ordering::Relaxed);
                index += 1;
            }
            bounds.push(((1u64 << exponent) as f64 / 1e6, total));
        }
        bounds
    }
}

/// The bucket of a latency. Buckets include their upper bound: 256 microseconds sharp counts as not above 256.
fn bucket_of(nanos: u64) -> usize {
    let micros = nanos.div_ceil(1000).saturating_sub(1);
    if micros < SUB_BUCKETS as u64 {
        return micros as usize;
    }
    let exponent = micros.ilog2();
    if exponent >= MAX_BITS {
        return BUCKETS - 1;
    }
    let sub = (micros >> (exponent - SUB_BITS)) as usize - SUB_BUCKETS;
    SUB_BUCKETS * (exponent - SUB_BITS + 1) as usize + sub
}

/// Microseconds at the lower end of a bucket.
fn lower_bound(index: usize) -> u64 {
    if index < SUB_BUCKETS {
        return index as u64;
    }
    let octave = index / SUB_BUCKETS - 1;
    ((SUB_BUCKETS + index % SUB_BUCKETS) as u64) << octave
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_latency_lies_in_its_bucket() {
        for micros in (1..70_000).chain([1 << 20, (1 << 25) + 12_345, (1 << 26) - 1]) {
            let bucket = bucket_of(micros * 1000);
            assert!(
                lower_bound(bucket) < micros && micros <= lower_bound(bucket + 1),
                "{micros} in {bucket}"
            );
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
        assert_eq!(bucket_of(0), 0);
    }

    #[test]
    fn quantiles_are_within_a_bucket() {
        let histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), None);
        for millis in 1..=100 {
            histogram.record(Duration::from_millis(millis));
        }
        for (q, expected) in [(0.5, 50.0), (0.99, 99.0), (0.0, 1.0), (1.0, 100.0)] {
            let found = histogram.quantile(q).unwrap().as_secs_f64() * 1e3;
            assert!((found / expected - 1.0).abs() < 1.0 / 32.0, "{q}: {found}");
        }
        assert_eq!(histogram.count(), 100);
        assert_eq!(histogram.sum(), Duration::from_millis(5050));
    }

    #[test]
    fn cumulative_bounds_are_inclusive() {
        let histogram = Histogram::default();
        histogram.record(Duration::from_micros(256));
        histogram.record(Duration::from_nanos(256_001));
        histogram.record(Duration::from_secs(100));
        let bounds = histogram.cumulative();
        assert_eq!(bounds[0], (256e-6, 1));
        assert_eq!(bounds[1], (512e-6, 2));
        assert_eq!(bounds.last().unwrap().1, 2);
    }
}
