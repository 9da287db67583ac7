//! How long work holds a slot, by its kind and size: an exponentially weighted mean and a ninth
//! decile, in fixed point.

use std::collections::BTreeMap;

use crate::limits;

/// Sixteenths of a millisecond, so that short work does not round to nothing.
const SCALE: u64 = 16;
/// A new sample weighs one eighth.
const WEIGHT: u64 = 8;
/// A sample counts as at most so many times what was thought before: one odd result must not make
/// everybody's work look hopeless.
const CLIP: u64 = 4;
/// The decile moves by this part of the mean at a time, nine times as far up as down.
const STEP: u64 = 64;

/// What is thought of one size of one kind.
#[derive(Clone, Copy, Debug)]
struct Measured {
    /// Its last sample, of all.
    number: u64,
    mean: u64,
    /// Nine of ten take no longer. Followed by steps, after "Frugal Streaming for Estimating
    /// Quantiles" (Ma, Muthukrishnan and Sandler, 2013).
    decile: u64,
}

/// What an intent is thought to take, slot-milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Estimate {
    /// At least 1.
    pub(super) mean_ms: u64,
    /// Nine of ten take no longer. `None` before any was measured.
    pub(super) most_ms: Option<u64>,
}

#[derive(Debug, Default)]
pub(super) struct Estimates {
    by_kind: BTreeMap<String, BTreeMap<u8, Measured>>,
    /// What was measured when, each by its last sample.
    measured: BTreeMap<u64, (String, u8)>,
    next: u64,
}

/// Sizes count by their power of two.
pub(super) fn bucket(size: u64) -> u8 {
    u8::try_from(u64::BITS.saturating_sub(size.leading_zeros())).unwrap_or(u8::MAX)
}

impl Estimates {
    /// Of work of this kind and size; of the nearest size that was measured, if this one was not.
    pub(super) fn get(&self, kind: &str, size: u64) -> Estimate {
        let at = bucket(size);
        let nearest = self.by_kind.get(kind).and_then(|sizes| {
            let below = sizes.range(..=at).next_back();
            let above = sizes.range(at..).next();
            let near = [below, above].into_iter().flatten();
            near.min_by_key(|(of, _)| of.abs_diff(at)).map(|(_, found)| *found)
        });
        match nearest {
            Some(Measured { mean, decile, .. }) => Estimate {
                mean_ms: (mean / SCALE).max(1),
                most_ms: Some((decile.max(mean) / SCALE).max(1)),
            },
            None => Estimate { mean_ms: limits::FIRST_ESTIMATE_MS, most_ms: None },
        }
    }

    pub(super) fn learn(&mut self, kind: &str, size: u64, slot_ms: u64) {
        let known = self.get(kind, size).mean_ms;
        let sample = slot_ms.min(known.saturating_mul(CLIP)).saturating_mul(SCALE);
        self.next = self.next.saturating_add(1);
        let (number, at) = (self.next, bucket(size));
        let found = self.by_kind.get_mut(kind).and_then(|sizes| sizes.get_mut(&at));
        if let Some(found) = found {
            if let Some(whose) = self.measured.remove(&found.number) {
                self.measured.insert(number, whose);
            }
            found.number = number;
            let rest = found.mean.saturating_mul(WEIGHT.saturating_sub(1));
            found.mean = rest.saturating_add(sample) / WEIGHT;
            let step = (found.mean / STEP).max(1);
            found.decile = if sample > found.decile {
                found.decile.saturating_add(step.saturating_mul(9))
            } else {
                found.decile.saturating_sub(step)
            };
            return;
        }
        if self.measured.len() >= limits::ESTIMATES_MAX {
            self.forget_oldest();
        }
        self.measured.insert(number, (kind.to_owned(), at));
        let sizes = self.by_kind.entry(kind.to_owned()).or_default();
        sizes.insert(at, Measured { number, mean: sample, decile: sample });
    }

    /// What was measured longest ago gives way: names are free to invent.
    fn forget_oldest(&mut self) {
        let Some((_, (kind, at))) = self.measured.pop_first() else { return };
        if let Some(sizes) = self.by_kind.get_mut(&kind) {
            sizes.remove(&at);
            if sizes.is_empty() {
                self.by_kind.remove(&kind);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_starts_high_and_follows_what_was_measured() {
        let mut estimates = Estimates::default();
        let first = Estimate { mean_ms: limits::FIRST_ESTIMATE_MS, most_ms: None };
        assert_eq!(estimates.get("echo", 1), first);
        for _ in 0..100 {
            estimates.learn("echo", 1, 40);
        }
        assert_eq!(estimates.get("echo", 1).mean_ms, 40);
        assert_eq!(estimates.get("other", 1), first);
        for _ in 0..100 {
            estimates.learn("echo", 1, 0);
        }
        assert_eq!(estimates.get("echo", 1).mean_ms, 1, "never nothing");
    }

    #[test]
    fn sizes_are_apart_and_an_unknown_one_is_like_its_neighbour() {
        let mut estimates = Estimates::default();
        for _ in 0..100 {
            estimates.learn("chat", 100, 1_000);
            estimates.learn("chat", 4_000, 30_000);
        }
        // To the second: a mean in fixed point is a little low.
        let mean = |size| (estimates.get("chat", size).mean_ms + 500) / 1_000;
        assert_eq!((mean(100), mean(127)), (1, 1));
        assert_eq!((mean(4_000), mean(100_000)), (30, 30));
        assert_eq!((mean(0), mean(300), mean(1_500)), (1, 1, 30));
    }

    #[test]
    fn what_was_measured_longest_ago_gives_way() {
        let mut estimates = Estimates::default();
        estimates.learn("old", 1, 40);
        estimates.learn("kept", 1, 40);
        for n in 0..limits::ESTIMATES_MAX {
            estimates.learn(&format!("kind {n}"), 1, 40);
            estimates.learn("kept", 1, 40);
        }
        let is_known = |kind: &str| estimates.get(kind, 1).most_ms.is_some();
        let last = format!("kind {}", limits::ESTIMATES_MAX - 1);
        assert!(is_known(&last) && is_known("kept"));
        assert!(!is_known("old") && !is_known("kind 0") && is_known("kind 1"));
        assert_eq!(estimates.measured.len(), limits::ESTIMATES_MAX);
        assert_eq!(estimates.by_kind.len(), limits::ESTIMATES_MAX);
    }

    #[test]
    fn one_odd_result_lifts_nobody_far() {
        let mut estimates = Estimates::default();
        for _ in 0..100 {
            estimates.learn("chat", 100, 1_000);
        }
        estimates.learn("chat", 100, 600_000);
        assert!(estimates.get("chat", 100).mean_ms <= 1_375, "{estimates:?}");
    }

    #[test]
    fn nine_of_ten_take_no_longer() {
        let mut estimates = Estimates::default();
        for n in 0..5_000_u64 {
            // 1 to 100 ms, in no order.
            estimates.learn("fft", 1, n.wrapping_mul(7_919) % 100 + 1);
        }
        let most = estimates.get("fft", 1).most_ms.unwrap();
        assert!((80..=100).contains(&most), "{most}");
    }
}
