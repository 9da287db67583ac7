//! Demands: whose workers may serve, and how dear they may be.

use mtor_types::intent::{Band, IntentMeta, Trust};
use mtor_types::mutant;

/// What an intent demands of a slot of its kind. There are twelve, so what is looked at for a slot
/// does not grow with what was ever asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Demand {
    pub(super) trust: Trust,
    pub(super) band: Band,
}

/// Whose worker a slot is, for one kind. In the order in which free slots are given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TrustClass {
    /// Of the realm's own account.
    Own,
    Proven,
    Probation,
}

impl TrustClass {
    /// As clients read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Proven => "proven",
            Self::Probation => "probation",
        }
    }
}

impl TrustClass {
    pub(super) fn of(own: bool, proven: bool) -> Self {
        match (own, proven) {
            (true, _) => Self::Own,
            (false, true) => Self::Proven,
            (false, false) => Self::Probation,
        }
    }

    /// Whether the kinds that such a worker serves share the service of their flows. Strangers link
    /// nothing: they could tie everybody's work together by offering everything.
    pub(super) fn links(self) -> bool {
        match self {
            Self::Own | Self::Proven => true,
            Self::Probation => false,
        }
    }
}

/// Which of the free slots that meet a demand are given out first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    /// Such a worker serves only what no other could.
    pub(super) ejected: bool,
    pub(super) class: TrustClass,
}

/// So many of something, for each demand that it meets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PerDemand([u64; Demand::COUNT]);

impl PerDemand {
    pub(super) fn of(count: impl Fn(Demand) -> u64) -> Self {
        let mut all = Self::default();
        for (cell, demand) in all.0.iter_mut().zip(Demand::all()) {
            *cell = count(demand);
        }
        all
    }

    pub(super) fn get(&self, demand: u8) -> u64 {
        self.0.get(usize::from(demand)).copied().unwrap_or_default()
    }

    /// The most of any demand: the widest is met by all.
    pub(super) fn most(&self) -> u64 {
        self.0.iter().copied().max().unwrap_or_default()
    }

    /// One where there is any.
    fn any(&self) -> Self {
        Self(self.0.map(|count| count.min(1)))
    }

    fn change(&mut self, other: &Self, change: impl Fn(u64, u64) -> u64) {
        for (cell, other) in self.0.iter_mut().zip(other.0) {
            *cell = change(*cell, other);
        }
    }
}

/// What workers have of one kind: slots, and how many workers have any, by the demands that they meet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Met {
    pub(super) slots: PerDemand,
    pub(super) workers: PerDemand,
}

impl Met {
    pub(super) fn add(&mut self, slots: &PerDemand) {
        self.slots.change(slots, u64::saturating_add);
        self.workers.change(&slots.any(), u64::saturating_add);
    }

    pub(super) fn take(&mut self, slots: &PerDemand) {
        self.slots.change(slots, u64::saturating_sub);
        self.workers.change(&slots.any(), u64::saturating_sub);
    }
}

impl Demand {
    const COUNT: usize = 12;

    pub(super) fn of(meta: &IntentMeta) -> Self {
        let trust = if mutant!("trust-ignored") { Trust::Any } else { meta.trust };
        let band = if mutant!("price-band-ignored") { Band::DEAREST } else { meta.band };
        Self { trust, band }
    }

    /// As it would be if strangers might serve it.
    pub(super) fn of_anybody(meta: &IntentMeta) -> Self {
        Self { trust: Trust::Any, band: meta.band }
    }

    pub(super) fn all() -> impl Iterator<Item = Self> {
        let trusts = [Trust::Own, Trust::Proven, Trust::Any].into_iter();
        trusts.flat_map(|trust| Band::ALL.into_iter().map(move |band| Self { trust, band }))
    }

    /// What meets both.
    pub(super) fn and(self, other: Self) -> Self {
        let stricter = |trust| match trust {
            Trust::Own => 0_u8,
            Trust::Proven => 1,
            Trust::Any => 2,
        };
        let trust = [self.trust, other.trust].into_iter().min_by_key(|trust| stricter(*trust));
        Self { trust: trust.unwrap_or(self.trust), band: self.band.min(other.band) }
    }

    /// Its number below [`Demand::COUNT`].
    pub(super) fn number(self) -> u8 {
        let trust = match self.trust {
            Trust::Own => 0,
            Trust::Proven => 1,
            Trust::Any => 2_u8,
        };
        trust.saturating_mul(4).saturating_add(self.band.into())
    }

    pub(super) fn numbered(number: u8) -> Option<Self> {
        Self::all().nth(number.into())
    }

    pub(super) fn trusts(self, class: TrustClass) -> bool {
        match self.trust {
            Trust::Own => class == TrustClass::Own,
            Trust::Proven => class <= TrustClass::Proven,
            Trust::Any => true,
        }
    }

    /// Whether a slot may serve it.
    pub(super) fn admits(self, class: TrustClass, band: Band) -> bool {
        self.trusts(class) && band <= self.band
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_demand_has_its_number() {
        let numbers: Vec<u8> = Demand::all().map(Demand::number).collect();
        assert_eq!(numbers, (0..12).collect::<Vec<u8>>());
        for demand in Demand::all() {
            assert_eq!(Demand::numbered(demand.number()), Some(demand));
        }
        assert_eq!(Demand::numbered(12), None);
    }
}
