//! What each connected worker offers, and how much of it is taken.

use std::collections::{BTreeMap, BTreeSet};

use mtor_types::intent::{Band, Trust};
use mtor_types::message::{SlotOffer, Slots};
use mtor_types::{AccountId, Fence, IntentId, NodeId, Price, SessionId, WorkerId};

use super::job::{Job, Place};
use super::pools::{PoolKey, PoolView};
use super::safe_queue::{PoolId, WorkerKey};

/// The number of one offer of one worker; never reused within the worker's time here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct OfferNo(u32);

#[derive(Debug)]
pub(super) struct OfferSlots {
    pub(super) name: String,
    pub(super) model: Option<String>,
    pub(super) price: Price,
    pub(super) band: Band,
    pub(super) context: Option<u32>,
    pub(super) slots: u32,
    pub(super) busy: u32,
    /// Its last lease, or the last of all when it was offered.
    pub(super) served: Fence,
    /// The pools whose demands it meets.
    pub(super) pools: Vec<PoolId>,
}

impl OfferSlots {
    pub(super) fn take(&mut self, lease: Fence) {
        self.busy = self.busy.saturating_add(1);
        self.served = lease;
    }

    pub(super) fn give_back(&mut self) {
        self.busy = self.busy.saturating_sub(1);
    }
}

#[derive(Debug)]
pub(super) struct WorkerSlots {
    id: WorkerId,
    number: u32,
    pub(super) session: SessionId,
    pub(super) edge: NodeId,
    pub(super) owner: AccountId,
    own: bool,
    proven: bool,
    draining: bool,
    pub(super) offers: BTreeMap<OfferNo, OfferSlots>,
    next_offer: u32,
    pub(super) leases: BTreeSet<IntentId>,
}

impl WorkerSlots {
    /// Whether the offer may serve the pool at all. One that is gone serves nothing.
    pub(super) fn meets(&self, offer: &OfferSlots, key: &PoolKey) -> bool {
        let trusted = match key.trust {
            Trust::Own => self.own,
            Trust::Proven => self.own || self.proven,
            Trust::Any => true,
        };
        let model = key.model.is_none() || key.model == offer.model;
        let price = offer.band <= key.band;
        let untried = !key.without.contains(&self.id);
        offer.slots > 0 && trusted && model && price && untried && offer.name == key.name
    }

    pub(super) fn takes_work(&self, offer: &OfferSlots) -> bool {
        !self.draining && offer.busy < offer.slots
    }

    /// What an offer adds to the slots of a pool that it serves.
    pub(super) fn capacity(&self, offer: OfferNo) -> u64 {
        let slots = self.offers.get(&offer).map_or(0, |offer| u64::from(offer.slots));
        if self.draining { 0 } else { slots }
    }

    pub(super) fn key(&self, offer: OfferNo) -> WorkerKey {
        WorkerKey((u64::from(self.number) << 32) | u64::from(offer.0))
    }

    /// The cheapest offer that may serve the pool.
    pub(super) fn find(&self, key: &PoolKey) -> Option<OfferNo> {
        let meets = self.offers.iter().filter(|(_, offer)| self.meets(offer, key));
        meets.min_by_key(|(_, offer)| offer.price.amount).map(|(number, _)| *number)
    }

    /// Forgets offers that are gone once nothing of them is taken. They serve no pool any more.
    pub(super) fn drop_gone_offers(&mut self) {
        self.offers.retain(|_, offer| offer.slots > 0 || offer.busy > 0);
    }

    /// Replaces what it offers. Offers that go on keep their number and what is taken of them;
    /// those that are gone have no slots and stay until their last lease ends.
    fn set_offers(&mut self, offers: Vec<SlotOffer>, newest: Fence) {
        for offer in self.offers.values_mut() {
            offer.slots = 0;
        }
        for offer in offers {
            let same = |known: &&mut OfferSlots| {
                known.name == offer.intent
                    && known.model == offer.model
                    && (known.price, known.band) == (offer.price, offer.band)
            };
            if let Some(known) = self.offers.values_mut().find(same) {
                known.slots = known.slots.saturating_add(offer.slots);
                known.context = offer.context;
                continue;
            }
            let SlotOffer { intent: name, model, slots, price, band, context, group: _ } = offer;
            // Behind the others: who offers again does not come first by that.
            let (busy, served, pools) = (0, newest, Vec::new());
            let fresh =
                OfferSlots { name, model, price, band, context, slots, busy, served, pools };
            self.offers.insert(OfferNo(self.next_offer), fresh);
            self.next_offer = self.next_offer.wrapping_add(1);
        }
        self.drop_gone_offers();
    }
}

#[derive(Debug, Default)]
pub(super) struct Workers {
    by_id: BTreeMap<WorkerId, WorkerSlots>,
    next_number: u32,
}

impl Workers {
    pub(super) fn get(&self, worker: WorkerId) -> Option<&WorkerSlots> {
        self.by_id.get(&worker)
    }

    pub(super) fn get_mut(&mut self, worker: WorkerId) -> Option<&mut WorkerSlots> {
        self.by_id.get_mut(&worker)
    }

    pub(super) fn remove(&mut self, worker: WorkerId) -> Option<WorkerSlots> {
        self.by_id.remove(&worker)
    }

    pub(super) fn ids(&self) -> Vec<WorkerId> {
        self.by_id.keys().copied().collect()
    }

    /// Takes over what a session says. Leases of an earlier session are the caller's to settle.
    /// `newest` is the newest fence there is.
    pub(super) fn put(&mut self, slots: Slots, newest: Fence) -> &mut WorkerSlots {
        let Slots { worker, session, edge, owner, own, proven, draining, offers, leases: _ } =
            slots;
        let number = self.next_number;
        let next_number = &mut self.next_number;
        let known = self.by_id.entry(worker).or_insert_with(|| {
            *next_number = next_number.wrapping_add(1);
            let (offers, leases) = (BTreeMap::new(), BTreeSet::new());
            WorkerSlots {
                id: worker,
                number,
                session,
                edge,
                owner,
                own,
                proven,
                draining,
                offers,
                next_offer: 0,
                leases,
            }
        });
        (known.session, known.edge, known.owner) = (session, edge, owner);
        (known.own, known.proven, known.draining) = (own, proven, draining);
        known.set_offers(offers, newest);
        known
    }

    /// Every offer that meets the demands, and the slots it adds.
    pub(super) fn serving<'a>(
        &'a self,
        key: &'a PoolKey,
    ) -> impl Iterator<Item = (WorkerId, OfferNo, u64)> + 'a {
        self.by_id.iter().flat_map(move |(id, worker)| {
            let meets = worker.offers.iter().filter(|(_, offer)| worker.meets(offer, key));
            meets.map(|(number, _)| (*id, *number, worker.capacity(*number)))
        })
    }

    pub(super) fn slots_for(&self, key: &PoolKey) -> u64 {
        self.serving(key).map(|(_, _, slots)| slots).fold(0, u64::saturating_add)
    }

    /// One row for each (intent, model) on offer. `queue` tells depth, waiting cost and estimate.
    pub(super) fn view(
        &self,
        queue: impl Fn(&str, Option<&str>) -> (u64, u64, u64),
    ) -> Vec<PoolView> {
        let mut rows: BTreeMap<(&str, Option<&str>), PoolView> = BTreeMap::new();
        for worker in self.by_id.values().filter(|worker| !worker.draining) {
            for offer in worker.offers.values().filter(|offer| offer.slots > 0) {
                let kind = (offer.name.as_str(), offer.model.as_deref());
                let row = rows.entry(kind).or_insert_with(|| PoolView::of(offer));
                row.add(offer, worker.own);
            }
        }
        for ((name, model), row) in &mut rows {
            let (depth, waiting, estimate) = queue(name, *model);
            row.waits(depth, waiting, estimate);
        }
        rows.into_values().collect()
    }

    pub(super) fn check_invariants(&self, jobs: &BTreeMap<IntentId, Job>) -> Result<(), String> {
        let mut leased = 0_usize;
        for (id, worker) in &self.by_id {
            leased = leased.saturating_add(worker.leases.len());
            let mut busy: BTreeMap<OfferNo, u32> = BTreeMap::new();
            for intent in &worker.leases {
                match jobs.get(intent).map(|job| &job.place) {
                    Some(Place::Running(lease)) if lease.worker == *id => {
                        let count = busy.entry(lease.offer).or_default();
                        *count = count.saturating_add(1);
                    }
                    _ => {
                        return Err(format!(
                            "worker {id} holds {intent}, which does not run there"
                        ));
                    }
                }
            }
            for (number, offer) in &worker.offers {
                if offer.busy != busy.get(number).copied().unwrap_or_default() {
                    return Err(format!("worker {id}: busy slots and leases differ"));
                }
            }
        }
        let running = jobs.values().filter(|job| matches!(job.place, Place::Running(_))).count();
        if running != leased {
            return Err(format!("{running} jobs run, workers hold {leased} leases"));
        }
        Ok(())
    }
}
