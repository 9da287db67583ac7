//! What the edge counts itself, so that no worker's claim is billed unchecked.
//!
//! Billed = min(worker's count, bound so far, what the ceiling buys). The bound so far grows with
//! what was really sent: for a stream that may be cut it is the input and the bytes of its pieces,
//! up to the output limit; for everything else it is the whole bound, known at admission.

use mtor_types::intent::Usage;

/// The edge's upper bounds for one intent (see [`crate::admission::Ask::bounds`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub units_max: u64,
    pub input_units: u64,
    /// Of all answers.
    pub output_max: u64,
    pub answers: u64,
    pub may_be_cut: bool,
}

impl Bounds {
    /// Of an intent that never ran here.
    pub const NONE: Self =
        Self { units_max: 0, input_units: 0, output_max: 0, answers: 1, may_be_cut: false };
}

/// The state after a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metered {
    pub units: u64,
    /// What the ceiling buys is used up: forward nothing more, complete with `Reason::Ceiling`.
    pub exhausted: bool,
}

/// The meter of one attempt.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meter {
    bounds: Bounds,
    limit: u64,
    sent: u64,
    count: u64,
    /// The parts of the worker's last word, informative only.
    claim: Option<Usage>,
}

impl Meter {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { bounds, limit: u64::MAX, sent: 0, count: 0, claim: None }
    }

    /// A new attempt counts from nothing.
    pub(super) fn begin(&mut self, limit: u64) {
        *self = Self { limit, ..Self::new(self.bounds) };
    }

    /// What one answer may have of `limit` units.
    pub(super) fn output_each(&self, limit: u64) -> Option<u64> {
        let Bounds { output_max, answers, .. } = self.bounds;
        (output_max > 0).then(|| (output_max.min(limit) / answers.max(1)).max(1))
    }

    pub(super) fn set_limit(&mut self, limit: u64) {
        self.limit = limit;
    }

    /// One more piece, and the worker's count with it. A count that falls is not believed.
    pub(super) fn piece(&mut self, bytes: u64, count: u64) -> Metered {
        self.sent = self.sent.saturating_add(bytes);
        self.count = self.count.max(count);
        self.now()
    }

    /// The worker's last word. It may be below its running count, never above the bound.
    pub(super) fn complete(&mut self, result_bytes: u64, claim: Usage) {
        self.sent = self.sent.saturating_add(result_bytes);
        self.count = claim.units;
        self.claim = Some(claim);
    }

    pub(super) fn now(&self) -> Metered {
        let units = self.count.min(self.bound()).min(self.limit);
        Metered { units, exhausted: self.bounds.may_be_cut && units >= self.limit }
    }

    pub(super) fn usage(&self) -> Usage {
        let units = self.now().units;
        // A running count has no parts; zeros say "not known".
        let claim = self.claim.unwrap_or_default();
        let input = claim.input.min(units);
        Usage { units, input, output: claim.output.min(units - input) }
    }

    fn bound(&self) -> u64 {
        let Bounds { units_max, input_units, output_max, may_be_cut, .. } = self.bounds;
        if may_be_cut {
            input_units.saturating_add(self.sent.min(output_max)).min(units_max)
        } else {
            units_max
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CHAT: Bounds =
        Bounds { units_max: 110, input_units: 10, output_max: 100, answers: 1, may_be_cut: true };

    #[test]
    fn a_greedy_count_is_cut_to_what_was_sent() {
        let mut meter = Meter::new(CHAT);
        meter.begin(1_000);
        assert_eq!(meter.piece(5, 1_000_000), Metered { units: 15, exhausted: false });
        assert_eq!(meter.piece(500, 1_000_000), Metered { units: 110, exhausted: false });
    }

    #[test]
    fn the_ceiling_ends_a_stream_that_may_be_cut() {
        let mut meter = Meter::new(CHAT);
        meter.begin(12);
        assert_eq!(meter.piece(200, 11), Metered { units: 11, exhausted: false });
        assert_eq!(meter.piece(200, 13), Metered { units: 12, exhausted: true });
        meter.begin(12);
        assert_eq!(meter.now(), Metered { units: 0, exhausted: false });
        let whole =
            Bounds { units_max: 1, input_units: 1, output_max: 0, answers: 1, may_be_cut: false };
        let mut meter = Meter::new(whole);
        meter.begin(1);
        assert_eq!(meter.piece(9, 9), Metered { units: 1, exhausted: false });
    }

    proptest! {
        #[test]
        fn never_above_claim_bound_or_limit(
            input in 0_u64..1_000, output in 0_u64..1_000, cut: bool, limit in 0_u64..3_000,
            pieces in prop::collection::vec((0_u64..300, 0_u64..4_000), 0..8),
            claim in 0_u64..4_000, parts in (0_u64..4_000, 0_u64..4_000),
        ) {
            let bounds = Bounds {
                units_max: input + output, input_units: input, output_max: output, answers: 1, may_be_cut: cut,
            };
            let mut meter = Meter::new(bounds);
            meter.begin(limit);
            let (mut sent, mut before) = (0, 0);
            for (bytes, count) in pieces {
                let metered = meter.piece(bytes, count);
                sent += bytes;
                prop_assert!(metered.units >= before, "running units never fall");
                prop_assert!(metered.units <= limit.min(bounds.units_max));
                prop_assert!(!cut || metered.units <= input + sent.min(output));
                before = metered.units;
            }
            meter.complete(0, Usage { units: claim, input: parts.0, output: parts.1 });
            let usage = meter.usage();
            prop_assert!(usage.units <= claim.min(limit).min(bounds.units_max));
            prop_assert!(usage.input + usage.output <= usage.units);
        }
    }
}
