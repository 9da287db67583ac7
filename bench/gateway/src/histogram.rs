//! Latencies in buckets that grow with the value: 64 for each power of two, so a quantile is off
//! by less than two per cent. Recording is one index and one addition.

use std::time::Duration;

/// Buckets of one power of two.
const FINE: u64 = 64;
const FINE_BITS: u32 = FINE.trailing_zeros();
const BUCKETS: usize = (64 - FINE_BITS as usize + 1) * FINE as usize;

#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0, max: 0 }
    }
}

impl Histogram {
    pub(crate) fn record(&mut self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        if let Some(count) = self.counts.get_mut(bucket(nanos)) {
            *count += 1;
        }
        self.total += 1;
        self.max = self.max.max(nanos);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.total += other.total;
        self.max = self.max.max(other.max);
    }

    /// Microseconds below which this share of the values lies; 0 without any value.
    pub(crate) fn micros(&self, share: f64) -> f64 {
        let rank = ((self.total as f64) * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return (upper(index).min(self.max) as f64) / 1_000.0;
            }
        }
        0.0
    }
}

fn bucket(nanos: u64) -> usize {
    if nanos < FINE {
        return nanos as usize;
    }
    let power = nanos.ilog2() - FINE_BITS;
    (u64::from(power + 1) * FINE + ((nanos >> power) - FINE)) as usize
}

/// The largest value of a bucket.
fn upper(index: usize) -> u64 {
    let index = index as u64;
    if index < FINE {
        return index;
    }
    let power = index / FINE - 1;
    let within = u128::from(index % FINE + FINE + 1);
    u64::try_from((within << power) - 1).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_its_bucket() {
        for power in 0..64 {
            for nanos in [1_u64 << power, (1_u64 << power) + (1_u64 << power) / 3] {
                let index = bucket(nanos);
                assert!(index < BUCKETS && upper(index) >= nanos, "{nanos}");
                assert!(index == 0 || upper(index - 1) < nanos, "{nanos}");
            }
        }
        assert_eq!(upper(bucket(u64::MAX)), u64::MAX);
    }

    #[test]
    fn quantiles_are_close() {
        let mut all = Histogram::default();
        for micros in 1..=1_000 {
            let mut one = Histogram::default();
            one.record(Duration::from_micros(micros));
            all.merge(&one);
        }
        for (share, exact) in [(0.5, 500.0), (0.99, 990.0), (1.0, 1_000.0)] {
            let found = all.micros(share);
            assert!((found - exact).abs() / exact < 0.02, "{share}: {found}");
        }
        assert!(Histogram::default().micros(0.5) == 0.0);
    }
}
