//! Giving free slots to queued intents.

use mtor_types::{Attempt, Fence, IntentId, WorkerId};

use super::Router;
use super::job::{Lease, Place, Taken};
use super::safe_queue::PoolId;
use super::workers::OfferNo;
use crate::effect::{Assignment, Effect};
use crate::limits;
use crate::turn::Turn;

impl Router {
    /// An intent was queued in this pool: the freest offer there takes what is due. If there is
    /// one, nothing else was waiting for it.
    pub(super) fn fill_pool(&mut self, turn: &mut Turn, pool: PoolId) {
        if let Some((worker, offer)) = self.pools.freest(pool) {
            self.fill_offer(turn, worker, offer);
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
            let Some(next) = self.queue.dispatch(&found.pools) else { return };
            let (since, estimate) = (turn.now, next.item.cost_estimate);
            let taken = Taken { since, estimate, charge: Some(next.charge) };
            self.assign(turn, worker, offer, IntentId(next.item.id.0), taken);
        }
    }

    fn assign(
        &mut self,
        turn: &mut Turn,
        worker: WorkerId,
        offer: OfferNo,
        intent: IntentId,
        taken: Taken,
    ) {
        let attempt = Attempt(self.next_number());
        let Some(job) = self.jobs.get_mut(&intent) else { return };
        job.attempts = job.attempts.saturating_add(1);
        self.retries.dispatched(job.meta.account);
        if let Some(assignment) = self.lease(turn, worker, offer, intent, attempt, taken) {
            turn.now(Effect::Assign(assignment));
        }
    }

    /// Makes the lease of an intent on a slot, under a new fence. `taken` is the attempt's: a worker
    /// that comes back goes on with what it had taken.
    pub(super) fn lease(
        &mut self,
        turn: &Turn,
        worker: WorkerId,
        offer: OfferNo,
        intent: IntentId,
        attempt: Attempt,
        taken: Taken,
    ) -> Option<Assignment> {
        let fence = Fence(self.next_number());
        let until = turn.now.after_ms(limits::LEASE_MS);
        let known = self.workers.get_mut(worker)?;
        let (session, edge) = (known.session, known.edge);
        let price = known.offers.get(&offer)?.price;
        known.leases.insert(intent);
        let job = self.jobs.get_mut(&intent)?;
        let meta = std::sync::Arc::clone(&job.meta);
        let remaining_ms = job.deadline.since_ms(turn.now);
        job.place =
            Place::Running(Lease { worker, session, offer, attempt, fence, price, until, taken });
        self.set_busy(worker, offer, |offer| offer.take(fence));
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
