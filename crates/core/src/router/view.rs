//! What can be asked here, and whose workers offer it, as edges are told.

use std::collections::BTreeMap;

use mtor_types::intent::{Band, Trust};
use mtor_types::{AccountId, Amount, Price, Time};

use super::Router;
use super::demand::{Demand, TrustClass};
use super::kinds::Kind;
use super::safe_queue::{FlowPath, KindId, PoolId};
use super::workers::OfferSlots;

/// Owners of one kind that are told of: more than anybody reads. The realm's own and those of proven
/// workers come first.
const PARTIES_MAX: usize = 32;

/// One (intent, model), and who offers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolView {
    pub intent: String,
    pub model: Option<String>,
    /// The realm's own first, then proven ones, then the others; of each in order of their ids.
    pub parties: Vec<Party>,
    /// There are more than are told of.
    pub more: bool,
    /// Intents that wait for it, whoever may serve them.
    depth: u64,
    /// What somebody who has nothing queued would wait while no slot is free.
    wait_ms: u64,
}

/// The workers of one owner and standing that offer it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Party {
    pub class: TrustClass,
    pub owner: AccountId,
    /// The lowest.
    pub price: Price,
    /// The least.
    pub context: Option<u32>,
    /// Those that it may use, and how many of them are taken, by whatever shares them.
    pub slots: u64,
    pub busy: u64,
    /// Intents that wait for this owner's workers alone, and what one more, of somebody who has nothing
    /// queued, would.
    depth: u64,
    wait_ms: u64,
}

/// Up to which kind they were looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KindAt(String);

/// What some of the parties come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    /// The best there is among them.
    pub class: TrustClass,
    /// The lowest price on offer.
    pub price: Price,
    pub context: Option<u32>,
    pub slots: u64,
    pub busy: u64,
    /// Intents waiting.
    pub depth: u64,
    /// What somebody who has nothing queued would wait, about.
    pub wait_ms: u64,
}

impl PoolView {
    /// Of those parties that are meant; `None` if there are none.
    pub fn figures(&self, is_meant: impl Fn(&Party) -> bool) -> Option<Figures> {
        let meant = || self.parties.iter().filter(|party| is_meant(party));
        let price = meant().map(|party| party.price).min_by_key(|price| price.amount)?;
        let class = meant().map(|party| party.class).min()?;
        let context = meant().map(|party| party.context).min()?;
        let sum = |of: fn(&Party) -> u64| {
            meant().map(of).fold(0, |sum: u64, count| sum.saturating_add(count))
        };
        let (slots, busy) = (sum(|party| party.slots), sum(|party| party.busy));
        let depth = sum(|party| party.depth).saturating_add(self.depth);
        // Strangers beside others are asked for by their names alone.
        let all = meant().count() == self.parties.len() || class != TrustClass::Probation;
        let named = || meant().map(|party| party.wait_ms).min();
        let wait_ms = if all { Some(self.wait_ms) } else { named() };
        let wait_ms = wait_ms.filter(|_| busy >= slots).unwrap_or_default();
        Some(Figures { class, price, context, slots, busy, depth, wait_ms })
    }
}

/// What the offers that name one kind come to, by whose they are, kept as they come and go.
#[derive(Debug, Default)]
pub(super) struct Shown(BTreeMap<(TrustClass, AccountId), Sums>);

#[derive(Debug, Default)]
struct Sums {
    prices: BTreeMap<Amount, (Price, u32)>,
    contexts: BTreeMap<Option<u32>, u32>,
    slots: u64,
    busy: u64,
    /// What asks for this owner's workers alone.
    alone: Option<KindId>,
}

impl Shown {
    /// `told`: how many slots it has and how many of them are taken, unless another offer tells that.
    pub(super) fn add(&mut self, offer: &OfferSlots, owner: AccountId, told: Option<(u32, u32)>) {
        let sums = self.0.entry((offer.class, owner)).or_default();
        let price = sums.prices.entry(offer.price.amount).or_insert((offer.price, 0));
        price.1 = price.1.saturating_add(1);
        let context = sums.contexts.entry(offer.context).or_default();
        *context = context.saturating_add(1);
        sums.alone = offer.owned_kind();
        let (slots, busy) = told.unwrap_or_default();
        sums.slots = sums.slots.saturating_add(slots.into());
        sums.busy = sums.busy.saturating_add(busy.into());
    }

    pub(super) fn take(&mut self, offer: &OfferSlots, owner: AccountId, told: Option<(u32, u32)>) {
        let key = (offer.class, owner);
        let Some(sums) = self.0.get_mut(&key) else { return };
        if let Some((_, count)) = sums.prices.get_mut(&offer.price.amount) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                sums.prices.remove(&offer.price.amount);
            }
        }
        if let Some(count) = sums.contexts.get_mut(&offer.context) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                sums.contexts.remove(&offer.context);
            }
        }
        let (slots, busy) = told.unwrap_or_default();
        sums.slots = sums.slots.saturating_sub(slots.into());
        sums.busy = sums.busy.saturating_sub(busy.into());
        if sums.prices.is_empty() {
            self.0.remove(&key);
        }
    }

    pub(super) fn change_busy(&mut self, key: (TrustClass, AccountId), before: u32, after: u32) {
        let Some(sums) = self.0.get_mut(&key) else { return };
        sums.busy = sums.busy.saturating_sub(before.into()).saturating_add(after.into());
    }
}

impl Router {
    /// A row for each kind that any worker offers, in order of names, of the next so many kinds behind
    /// one; and the last of these, if there are more. So nobody's question holds up the others for long,
    /// however many kinds there are.
    pub fn pools_view(
        &self,
        after: Option<&KindAt>,
        looked_at: usize,
        now: Time,
    ) -> (Vec<PoolView>, Option<KindAt>) {
        let mut kinds = self.kinds.behind(after.map(|KindAt(label)| label.as_str()));
        let some: Vec<(KindId, &Kind)> = kinds.by_ref().take(looked_at).collect();
        let more = kinds.next().is_some();
        let last = some.last().filter(|_| more).map(|(_, kind)| KindAt(kind.label.clone()));
        let offered = some.into_iter().filter(|(_, kind)| !kind.shown.0.is_empty());
        (offered.map(|(id, kind)| self.row(id, kind, now)).collect(), last)
    }

    fn row(&self, id: KindId, kind: &Kind, now: Time) -> PoolView {
        let parties = kind.shown.0.iter().take(PARTIES_MAX).filter_map(|((class, owner), sums)| {
            let (price, _) = *sums.prices.values().next()?;
            let (context, _) = sums.contexts.first_key_value()?;
            let (class, owner, context) = (*class, *owner, *context);
            let depth = sums.alone.map(|kind| self.depth(kind)).unwrap_or_default();
            let alone = sums.alone.filter(|_| sums.busy >= sums.slots);
            let wait_ms = alone.map(|kind| self.newcomers_wait(kind, Trust::Any, now));
            let wait_ms = wait_ms.unwrap_or_default();
            let &Sums { slots, busy, .. } = sums;
            Some(Party { class, owner, price, context, slots, busy, depth, wait_ms })
        });
        let parties: Vec<Party> = parties.collect();
        // What names no model waits for any of them.
        let nameless = self.kinds.find(&kind.name, None).filter(|nameless| *nameless != id);
        let nameless = nameless.map(|kind| self.depth(kind)).unwrap_or_default();
        let retries = u64::try_from(kind.retries()).unwrap_or(u64::MAX);
        let depth = self.depth(id).saturating_add(nameless).saturating_add(retries);
        let (intent, model) = (kind.name.clone(), kind.model.clone());
        let strangers = parties.iter().all(|party| party.class == TrustClass::Probation);
        let trust = if strangers { Trust::Any } else { Trust::Proven };
        let meant = || parties.iter().filter(|party| strangers || party.class.links());
        let sum = |of: fn(&Party) -> u64| meant().map(of).fold(0, u64::saturating_add);
        let full = sum(|party| party.busy) >= sum(|party| party.slots);
        let wait_ms = if full { self.newcomers_wait(id, trust, now) } else { 0 };
        let more = kind.shown.0.len() > PARTIES_MAX;
        PoolView { intent, model, parties, more, depth, wait_ms }
    }

    /// Of work as what runs now, at whatever price.
    fn newcomers_wait(&self, kind: KindId, trust: Trust, now: Time) -> u64 {
        let pool = PoolId::new(kind, Demand { trust, band: Band::DEAREST }.number());
        let mean_ms = self.kinds.get(kind).map(|kind| kind.running.mean()).unwrap_or_default();
        self.wait_ms(pool, &FlowPath::UNKNOWN, mean_ms, now).ms
    }

    fn depth(&self, kind: KindId) -> u64 {
        let backlogs = self.queue.backlog_of(kind);
        backlogs.fold(0, |sum, (_, backlog)| sum.saturating_add(backlog.items))
    }
}
