//! What can be asked here, as edges are told.

use std::collections::BTreeMap;

use mtor_types::{Amount, Price};

use super::Router;
use super::kinds::Kind;
use super::workers::OfferSlots;

/// One (intent, model), whatever trust or price is demanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolView {
    pub intent: String,
    pub model: Option<String>,
    /// The lowest price on offer.
    pub price: Price,
    pub context: Option<u32>,
    /// A worker of the realm's own account is among those who offer it.
    pub own: bool,
    pub slots: u64,
    pub busy: u64,
    /// Intents waiting.
    pub depth: u64,
    /// What one more would wait, about.
    pub wait_ms: u64,
}

/// What the offers that name one kind come to, kept as they come and go.
#[derive(Debug, Default)]
pub(super) struct Shown {
    prices: BTreeMap<Amount, (Price, u32)>,
    contexts: BTreeMap<Option<u32>, u32>,
    own: u32,
    slots: u64,
    busy: u64,
}

impl Shown {
    pub(super) fn add(&mut self, offer: &OfferSlots, slots: u32) {
        let price = self.prices.entry(offer.price.amount).or_insert((offer.price, 0));
        price.1 = price.1.saturating_add(1);
        let context = self.contexts.entry(offer.context).or_default();
        *context = context.saturating_add(1);
        self.own = self.own.saturating_add(u32::from(offer.is_own()));
        self.slots = self.slots.saturating_add(slots.into());
        self.busy = self.busy.saturating_add(offer.busy.into());
    }

    pub(super) fn take(&mut self, offer: &OfferSlots, slots: u32) {
        if let Some((_, count)) = self.prices.get_mut(&offer.price.amount) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.prices.remove(&offer.price.amount);
            }
        }
        if let Some(count) = self.contexts.get_mut(&offer.context) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.contexts.remove(&offer.context);
            }
        }
        self.own = self.own.saturating_sub(u32::from(offer.is_own()));
        self.slots = self.slots.saturating_sub(slots.into());
        self.busy = self.busy.saturating_sub(offer.busy.into());
    }

    pub(super) fn change_busy(&mut self, before: u32, after: u32) {
        self.busy = self.busy.saturating_sub(before.into()).saturating_add(after.into());
    }
}

impl Router {
    /// One row for each kind that any worker offers, in order of names.
    pub fn pools_view(&self) -> Vec<PoolView> {
        let mut rows: Vec<PoolView> = self
            .kinds
            .iter()
            .filter_map(|(id, kind)| {
                let (price, _) = kind.shown.prices.values().next()?;
                let (context, _) = kind.shown.contexts.first_key_value()?;
                // What names no model waits for any of them.
                let nameless = self.kinds.find(&kind.name, None).filter(|nameless| *nameless != id);
                let waiting = [Some(id), nameless].into_iter().flatten();
                let waiting = waiting.flat_map(|id| self.queue.backlog_of(id));
                let (depth, cost) = waiting.fold((0_u64, 0_u64), |(depth, cost), (_, backlog)| {
                    (depth.saturating_add(backlog.items), cost.saturating_add(backlog.cost))
                });
                let retries = u64::try_from(kind.retries()).unwrap_or(u64::MAX);
                let depth = depth.saturating_add(retries);
                Some(self.row(kind, *price, *context, depth, cost))
            })
            .collect();
        rows.sort_by(|a, b| (&a.intent, &a.model).cmp(&(&b.intent, &b.model)));
        rows
    }

    fn row(
        &self,
        kind: &Kind,
        price: Price,
        context: Option<u32>,
        depth: u64,
        cost: u64,
    ) -> PoolView {
        let (intent, model) = (kind.name.clone(), kind.model.clone());
        let Shown { own, slots, busy, .. } = kind.shown;
        let mut wait_ms = 0;
        if busy >= slots {
            let queued = cost.checked_div(slots).unwrap_or_default();
            wait_ms = queued.saturating_add(kind.running.mean() / 2);
        }
        PoolView { intent, model, price, context, own: own > 0, slots, busy, depth, wait_ms }
    }
}
