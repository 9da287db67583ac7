//! How long work of a kind holds a slot: an exponentially weighted mean in fixed point.

use std::collections::BTreeMap;

use crate::limits;

/// Sixteenths of a millisecond, so that short work does not round to nothing.
const SCALE: u64 = 16;
/// A new sample weighs one eighth.
const WEIGHT: u64 = 8;

#[derive(Debug, Default)]
pub(super) struct Estimates {
    /// By intent name, then model; two maps so that a look-up borrows its key.
    by_kind: BTreeMap<String, BTreeMap<Option<String>, u64>>,
    kinds: usize,
}

impl Estimates {
    /// Slot-milliseconds, at least 1.
    pub(super) fn get(&self, name: &str, model: Option<&str>) -> u64 {
        let found = self.by_kind.get(name).and_then(|models| {
            // `Option<String>` has no borrowed form; there are few models to a name.
            models.iter().find(|(known, _)| known.as_deref() == model).map(|(_, mean)| *mean)
        });
        found.map_or(limits::FIRST_ESTIMATE_MS, |mean| mean / SCALE).max(1)
    }

    pub(super) fn learn(&mut self, name: &str, model: Option<&str>, slot_ms: u64) {
        let sample = slot_ms.saturating_mul(SCALE);
        if let Some(models) = self.by_kind.get_mut(name)
            && let Some((_, mean)) = models.iter_mut().find(|(known, _)| known.as_deref() == model)
        {
            let rest = mean.saturating_mul(WEIGHT.saturating_sub(1));
            *mean = rest.saturating_add(sample) / WEIGHT;
            return;
        }
        if self.kinds < limits::ESTIMATES_MAX {
            self.kinds = self.kinds.saturating_add(1);
            let models = self.by_kind.entry(name.to_owned()).or_default();
            models.insert(model.map(str::to_owned), sample);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_starts_high_and_follows_what_was_measured() {
        let mut estimates = Estimates::default();
        assert_eq!(estimates.get("echo", None), limits::FIRST_ESTIMATE_MS);
        for _ in 0..100 {
            estimates.learn("echo", None, 40);
        }
        assert_eq!(estimates.get("echo", None), 40);
        assert_eq!(estimates.get("echo", Some("other")), limits::FIRST_ESTIMATE_MS);
        for _ in 0..100 {
            estimates.learn("echo", None, 0);
        }
        assert_eq!(estimates.get("echo", None), 1, "never nothing");
    }
}
