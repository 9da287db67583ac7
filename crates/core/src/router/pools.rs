//! Pools: the demands that queued intents share, and the offers that meet them.

use std::collections::{BTreeMap, BTreeSet};

use mtor_types::intent::{Band, IntentMeta, Trust};
use mtor_types::{Amount, Fence, Price, Time, WorkerId};

use super::Router;
use super::safe_queue::{PoolId, SafeQueue};
use super::workers::{OfferNo, OfferSlots, Workers};
use crate::limits;

/// What an intent demands of a slot. Intents of one key are interchangeable for a slot, so the
/// head of a queue is never skipped for want of fitness: a retry waits in a pool of its own kind,
/// which the workers that failed it do not serve.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PoolKey {
    pub(super) name: String,
    pub(super) model: Option<String>,
    pub(super) trust: Trust,
    pub(super) band: Band,
    /// Workers that failed it, in order.
    pub(super) without: Vec<WorkerId>,
}

impl PoolKey {
    /// `tried`: who failed it so far.
    pub(super) fn of(meta: &IntentMeta, tried: &[WorkerId]) -> Self {
        let mut without = tried.to_vec();
        without.sort_unstable();
        Self {
            name: meta.name.clone(),
            model: meta.model.clone(),
            trust: meta.trust,
            band: meta.band,
            without,
        }
    }
}

/// What can be asked here: one (intent, model), whatever trust or price is demanded.
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

impl PoolView {
    pub(super) fn of(offer: &OfferSlots) -> Self {
        let (intent, model) = (offer.name.clone(), offer.model.clone());
        let (price, context) = (offer.price, offer.context);
        let own = false;
        Self { intent, model, price, context, own, slots: 0, busy: 0, depth: 0, wait_ms: 0 }
    }

    pub(super) fn add(&mut self, offer: &OfferSlots, own: bool) {
        self.own |= own;
        self.slots = self.slots.saturating_add(u64::from(offer.slots));
        self.busy = self.busy.saturating_add(u64::from(offer.busy));
        if offer.price.amount < self.price.amount {
            self.price = offer.price;
        }
        self.context = self.context.min(offer.context);
    }

    pub(super) fn waits(&mut self, depth: u64, waiting: u64, estimate: u64) {
        self.depth = depth;
        if self.busy >= self.slots {
            let queued = waiting.checked_div(self.slots).unwrap_or_default();
            self.wait_ms = queued.saturating_add(estimate / 2);
        }
    }
}

/// An offer with a free slot: the least loaded first, of these the cheapest, of these the one that
/// has waited longest for work. So equal workers take turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Free {
    load_per_mille: u64,
    /// Per the same number of units for all offers of a pool.
    price: Amount,
    /// See [`OfferSlots::served`].
    served: Fence,
    worker: WorkerId,
    offer: OfferNo,
}

#[derive(Debug)]
struct Pool {
    key: PoolKey,
    /// Jobs of this pool, wherever they are.
    jobs: u32,
    slots: u64,
    free: BTreeSet<Free>,
    unserved_until: Option<Time>,
}

#[derive(Debug, Default)]
pub(super) struct Pools {
    by_key: BTreeMap<PoolKey, PoolId>,
    by_id: BTreeMap<PoolId, Pool>,
    /// Pools with jobs that no slot serves, by the time their jobs are given up.
    unserved: BTreeSet<(Time, PoolId)>,
    next: u32,
}

impl Pools {
    pub(super) fn find(&self, key: &PoolKey) -> Option<PoolId> {
        self.by_key.get(key).copied()
    }

    pub(super) fn slots(&self, pool: PoolId) -> u64 {
        self.by_id.get(&pool).map_or(0, |pool| pool.slots)
    }

    pub(super) fn has_free(&self, pool: PoolId) -> bool {
        self.by_id.get(&pool).is_some_and(|pool| !pool.free.is_empty())
    }

    /// The first of the offers with a free slot, see [`Free`].
    pub(super) fn freest(&self, pool: PoolId) -> Option<(WorkerId, OfferNo)> {
        self.by_id.get(&pool)?.free.first().map(|free| (free.worker, free.offer))
    }

    pub(super) fn hold(&mut self, pool: PoolId) {
        if let Some(pool) = self.by_id.get_mut(&pool) {
            pool.jobs = pool.jobs.saturating_add(1);
        }
    }

    pub(super) fn release(&mut self, pool: PoolId) {
        if let Some(pool) = self.by_id.get_mut(&pool) {
            pool.jobs = pool.jobs.saturating_sub(1);
        }
    }

    /// Depth and waiting cost of every pool of one (intent, model).
    pub(super) fn backlog(&self, queue: &SafeQueue, name: &str, model: Option<&str>) -> (u64, u64) {
        let of_kind = self.by_id.iter().filter(|(_, pool)| {
            pool.key.name == name
                && (pool.key.model.is_none() || pool.key.model.as_deref() == model)
        });
        of_kind.fold((0, 0), |(depth, waiting), (id, _)| {
            (
                depth.saturating_add(queue.depth(*id)),
                waiting.saturating_add(queue.waiting_cost(*id)),
            )
        })
    }

    pub(super) fn next_timeout(&self) -> Option<Time> {
        self.unserved.first().map(|(at, _)| *at)
    }

    /// Pools whose jobs have waited too long for any worker.
    pub(super) fn take_unserved(&mut self, now: Time) -> Vec<PoolId> {
        let mut due = Vec::new();
        while let Some((at, id)) = self.unserved.first().copied() {
            if at > now {
                break;
            }
            self.unserved.remove(&(at, id));
            if let Some(pool) = self.by_id.get_mut(&id) {
                pool.unserved_until = None;
                due.push(id);
            }
        }
        due
    }

    /// Starts or stops the clock of a pool that nobody serves.
    pub(super) fn watch(&mut self, id: PoolId, now: Time) {
        let Some(pool) = self.by_id.get_mut(&id) else { return };
        match pool.unserved_until {
            None if pool.slots == 0 && pool.jobs > 0 => {
                let until = now.after_ms(limits::UNSERVED_MS);
                pool.unserved_until = Some(until);
                self.unserved.insert((until, id));
            }
            Some(until) if pool.slots > 0 => {
                pool.unserved_until = None;
                self.unserved.remove(&(until, id));
            }
            None | Some(_) => {}
        }
    }

    fn change_slots(&mut self, id: PoolId, change: impl FnOnce(u64) -> u64) {
        if let Some(pool) = self.by_id.get_mut(&id) {
            pool.slots = change(pool.slots);
        }
    }

    fn set_free(&mut self, id: PoolId, before: Option<Free>, after: Option<Free>) {
        let Some(pool) = self.by_id.get_mut(&id) else { return };
        if let Some(before) = before {
            pool.free.remove(&before);
        }
        if let Some(after) = after {
            pool.free.insert(after);
        }
    }

    pub(super) fn check_invariants(
        &self,
        workers: &Workers,
        queue: &SafeQueue,
    ) -> Result<(), String> {
        for (id, pool) in &self.by_id {
            if pool.slots != workers.slots_for(&pool.key) {
                return Err(format!("pool {id:?} counts {} slots wrongly", pool.slots));
            }
            if queue.depth(*id) > u64::from(pool.jobs) {
                return Err(format!("pool {id:?} queues more than its jobs"));
            }
            let free = workers.serving(&pool.key).filter(|(worker, offer, _)| {
                let worker = workers.get(*worker);
                worker.is_some_and(|worker| {
                    worker.offers.get(offer).is_some_and(|offer| worker.takes_work(offer))
                })
            });
            if free.count() != pool.free.len() {
                return Err(format!("pool {id:?} knows its free offers wrongly"));
            }
        }
        Ok(())
    }
}

/// The entry of an offer in its pools' free sets, if it has one.
fn free_entry(workers: &Workers, worker: WorkerId, offer: OfferNo) -> Option<Free> {
    let slots = workers.get(worker)?;
    let found = slots.offers.get(&offer)?;
    if !slots.takes_work(found) {
        return None;
    }
    let load = u64::from(found.busy).saturating_mul(1_000).checked_div(u64::from(found.slots));
    let (price, served) = (found.price.amount, found.served);
    Some(Free { load_per_mille: load.unwrap_or_default(), price, served, worker, offer })
}

impl Router {
    /// The pool of these demands. `None`: there are as many pools as there may be.
    pub(super) fn find_or_add_pool(&mut self, key: &PoolKey) -> Option<PoolId> {
        if let Some(known) = self.pools.find(key) {
            return Some(known);
        }
        if self.pools.by_id.len() >= limits::POOLS_MAX {
            self.drop_idle_pools();
        }
        if self.pools.by_id.len() >= limits::POOLS_MAX {
            return None;
        }
        let id = PoolId(self.pools.next);
        self.pools.next = self.pools.next.wrapping_add(1);
        let (free, unserved_until) = (BTreeSet::new(), None);
        let pool = Pool { key: key.clone(), jobs: 0, slots: 0, free, unserved_until };
        self.pools.by_key.insert(key.clone(), id);
        self.pools.by_id.insert(id, pool);
        let serving: Vec<(WorkerId, OfferNo)> =
            self.workers.serving(key).map(|(worker, offer, _)| (worker, offer)).collect();
        for (worker, offer) in serving {
            self.join(worker, offer, &[id]);
        }
        Some(id)
    }

    /// Says that an offer serves these pools, too.
    fn join(&mut self, worker: WorkerId, offer: OfferNo, pools: &[PoolId]) {
        let entry = free_entry(&self.workers, worker, offer);
        let Some(known) = self.workers.get_mut(worker) else { return };
        let (key, slots) = (known.key(offer), known.capacity(offer));
        let Some(found) = known.offers.get_mut(&offer) else { return };
        found.pools.extend(pools);
        self.queue.set_slots(key, &found.pools);
        for pool in pools {
            self.pools.set_free(*pool, None, entry);
            self.pools.change_slots(*pool, |sum| sum.saturating_add(slots));
        }
    }

    /// Takes a worker out of every pool, before what it offers changes or it goes. Returns which.
    pub(super) fn leave_pools(&mut self, worker: WorkerId) -> Vec<PoolId> {
        let mut all = Vec::new();
        let Some(known) = self.workers.get(worker) else { return all };
        let offers: Vec<OfferNo> = known.offers.keys().copied().collect();
        for offer in offers {
            let entry = free_entry(&self.workers, worker, offer);
            let Some(known) = self.workers.get_mut(worker) else { break };
            let (key, slots) = (known.key(offer), known.capacity(offer));
            let Some(found) = known.offers.get_mut(&offer) else { continue };
            let left = std::mem::take(&mut found.pools);
            self.queue.remove_worker(key);
            for pool in &left {
                self.pools.set_free(*pool, entry, None);
                self.pools.change_slots(*pool, |sum| sum.saturating_sub(slots));
            }
            all.extend(left);
        }
        all
    }

    /// Puts a worker into every pool whose demands it meets.
    pub(super) fn join_pools(&mut self, worker: WorkerId) {
        let Some(known) = self.workers.get(worker) else { return };
        let joining = known.offers.iter().map(|(number, offer)| {
            let meets = self.pools.by_id.iter().filter(|(_, pool)| known.meets(offer, &pool.key));
            (*number, meets.map(|(id, _)| *id).collect::<Vec<PoolId>>())
        });
        let joining: Vec<(OfferNo, Vec<PoolId>)> = joining.collect();
        for (offer, pools) in joining {
            self.join(worker, offer, &pools);
        }
    }

    /// Changes how much of an offer is taken and keeps its pools' free sets in step.
    pub(super) fn set_busy(
        &mut self,
        worker: WorkerId,
        offer: OfferNo,
        change: impl FnOnce(&mut OfferSlots),
    ) {
        let before = free_entry(&self.workers, worker, offer);
        let Some(known) = self.workers.get_mut(worker) else { return };
        let Some(found) = known.offers.get_mut(&offer) else { return };
        change(found);
        let pools = std::mem::take(&mut found.pools);
        let after = free_entry(&self.workers, worker, offer);
        for pool in &pools {
            self.pools.set_free(*pool, before, after);
        }
        if let Some(found) =
            self.workers.get_mut(worker).and_then(|known| known.offers.get_mut(&offer))
        {
            found.pools = pools;
        }
    }

    fn drop_idle_pools(&mut self) {
        let idle = |(_, pool): &(&PoolId, &Pool)| pool.jobs == 0;
        let gone: BTreeSet<PoolId> =
            self.pools.by_id.iter().filter(idle).map(|(id, _)| *id).collect();
        for worker in self.workers.ids() {
            let Some(known) = self.workers.get_mut(worker) else { continue };
            let offers: Vec<OfferNo> = known.offers.keys().copied().collect();
            for offer in offers {
                let key = known.key(offer);
                if let Some(found) = known.offers.get_mut(&offer) {
                    found.pools.retain(|pool| !gone.contains(pool));
                    self.queue.set_slots(key, &found.pools);
                }
            }
        }
        for id in gone {
            if let Some(pool) = self.pools.by_id.remove(&id) {
                self.pools.by_key.remove(&pool.key);
            }
        }
    }
}
