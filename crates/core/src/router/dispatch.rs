//! Giving free slots to queued intents.

use mtor_types::{Attempt, Fence, IntentId, WorkerId};

use super::Router;
use super::job::{Lease, Place};
use super::safe_queue::{Charge, ItemId, PoolId};
use super::workers::OfferNo;
use crate::effect::{Assignment, Effect};
use crate::limits;
use crate::turn::Turn;

/// Free offers tried for one newly queued intent: more than one only when workers that already
/// failed it have the freest slots.
const OFFERS_TRIED_MAX: usize = 16;

impl Router {
    /// An intent was queued in this pool: whatever slot is free there takes what is due.
    pub(super) fn fill_pool(&mut self, turn: &mut Turn, pool: PoolId) {
        for (worker, offer) in self.pools.free(pool, OFFERS_TRIED_MAX) {
            self.fill_offer(turn, worker, offer);
            if self.queue.depth(pool) == 0 {
                return;
            }
        }
    }

    /// Gives an offer's free slots to what is due among all the pools that it serves.
    pub(super) fn fill_offer(&mut self, turn: &mut Turn, worker: WorkerId, offer: OfferNo) {
        // Bounded by the slots of one offer: each round takes one.
        for _ in 0..limits::SLOTS_PER_OFFER_MAX {
            let Some(known) = self.workers.get(worker) else { return };
            let Some(found) = known.offers.get(&offer) else { return };
            if !known.takes_work(found) {
                return;
            }
            let jobs = &self.jobs;
            let mut eligible = |item: ItemId| {
                let job = jobs.get(&IntentId(item.0));
                job.is_some_and(|job| !job.tried.contains(&worker))
            };
            let Some(next) = self.queue.dispatch(&found.pools, &mut eligible) else { return };
            self.assign(turn, worker, offer, IntentId(next.item.id.0), next.charge);
        }
    }

    fn assign(
        &mut self,
        turn: &mut Turn,
        worker: WorkerId,
        offer: OfferNo,
        intent: IntentId,
        charge: Charge,
    ) {
        let attempt = Attempt(self.next_number());
        let Some(job) = self.jobs.get_mut(&intent) else { return };
        job.attempts = job.attempts.saturating_add(1);
        self.retries.dispatched(job.meta.account);
        if let Some(assignment) = self.lease(turn, worker, offer, intent, (attempt, Some(charge))) {
            turn.now(Effect::Assign(assignment));
        }
    }

    /// Makes the lease of an intent on a slot, under a new fence.
    pub(super) fn lease(
        &mut self,
        turn: &Turn,
        worker: WorkerId,
        offer: OfferNo,
        intent: IntentId,
        (attempt, charge): (Attempt, Option<Charge>),
    ) -> Option<Assignment> {
        let fence = Fence(self.next_number());
        let until = turn.now.after_ms(limits::LEASE_MS);
        let known = self.workers.get_mut(worker)?;
        let (session, edge) = (known.session, known.edge);
        let price = known.offers.get(&offer)?.price;
        known.leases.insert(intent);
        let since = turn.now;
        let job = self.jobs.get_mut(&intent)?;
        let meta = std::sync::Arc::clone(&job.meta);
        let remaining_ms = job.deadline.since_ms(turn.now);
        job.place = Place::Running(Lease {
            worker,
            session,
            offer,
            attempt,
            fence,
            price,
            since,
            until,
            charge,
        });
        self.set_busy(worker, offer, |busy| busy.saturating_add(1));
        self.schedule(intent, until);
        let limit = meta.units_max.min(price.buys(meta.ceiling));
        Some(Assignment { meta, attempt, fence, edge, worker, session, price, limit, remaining_ms })
    }

    /// Attempts and fences come from one counter, so neither ever repeats.
    fn next_number(&mut self) -> u64 {
        self.counter = self.counter.saturating_add(1);
        self.counter
    }
}
