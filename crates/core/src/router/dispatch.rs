//! Giving free slots to queued intents.

use mtor_types::intent::{Outcome, Usage};
use mtor_types::message::GroupKey;
use mtor_types::mutant;
use mtor_types::{Amount, Attempt, Code, Fence, IntentId, WorkerId};

use super::Router;
use super::job::{Held, Lease, Loss, Place, Taken};
use super::safe_queue::{PoolId, TurnOf};
use super::workers::{Choice, OfferNo, OfferSlots};
use crate::effect::{Assignment, Effect};
use crate::limits;
use crate::turn::Turn;

impl Router {
    /// An intent was queued: the first free slot for it takes what is due. If there is one, nothing
    /// else was waiting for it.
    pub(super) fn fill_for(&mut self, turn: &mut Turn, intent: IntentId) {
        let Some(job) = self.jobs.get(&intent).filter(|job| job.place.waits()) else { return };
        if let Some(free) = self.kinds.freest(job.pool, job.meta.account, &job.tried) {
            self.fill_offer(turn, free.worker, free.offer);
        }
    }

    /// What waits in a pool is given to the slots that may serve it by now.
    pub(super) fn fill_shared(&mut self, turn: &mut Turn, pool: PoolId) {
        // Each failed attempt excludes one worker: of so many at least one may take what waits.
        let mut passed: Vec<WorkerId> = Vec::new();
        while (self.queue.depth(pool) > 0 || self.kinds.retries(pool, 0).next().is_some())
            && passed.len() < limits::ATTEMPTS_MAX
            && let Some(free) = self.kinds.freest_shared(pool, &passed)
        {
            let before = self.counter;
            self.fill_offer(turn, free.worker, free.offer);
            if self.counter == before {
                passed.push(free.worker);
            } else {
                passed.clear();
            }
        }
    }

    /// Gives the free slots that an offer shares to what is due among all that they serve.
    pub(super) fn fill_offer(&mut self, turn: &mut Turn, worker: WorkerId, offer: OfferNo) {
        if let Some(group) = self.group_of(worker, offer) {
            self.fill(turn, worker, Choice::FreeOf(&group));
        }
    }

    /// Gives a worker's free slots to what is due among all that any of them serves: of several
    /// groups none is before the others.
    pub(super) fn fill(&mut self, turn: &mut Turn, worker: WorkerId, choice: Choice<'_>) {
        // Bounded by the slots of a worker: each round takes one.
        loop {
            if self.take_own(turn, worker, choice) {
                continue;
            }
            let Some(known) = self.workers.get(worker) else { return };
            let pools = self.may_serve(worker, choice);
            if pools.is_empty() {
                return;
            }
            // Failed work goes before what is queued, but takes no two slots in a row of one worker, and
            // none while its branch has had more than those who wait.
            let taken = if known.retried {
                let due = self.take_queued(turn, worker, choice, &pools);
                due || self.take_retry(turn, worker, choice, &pools, false)
            } else {
                let due = self.take_retry(turn, worker, choice, &pools, true);
                let due = due || self.take_queued(turn, worker, choice, &pools);
                due || self.take_retry(turn, worker, choice, &pools, false)
            };
            if !taken {
                return;
            }
        }
    }

    fn take_queued(
        &mut self,
        turn: &mut Turn,
        worker: WorkerId,
        choice: Choice<'_>,
        pools: &[PoolId],
    ) -> bool {
        let Some(next) = self.queue.dispatch(pools) else { return false };
        let (since, estimate) = (turn.now, next.item.cost_estimate);
        let taken = Taken { since, estimate, charge: Some(next.charge) };
        if let Some(known) = self.workers.get_mut(worker) {
            known.retried = false;
        }
        let intent = IntentId(next.item.id.0);
        self.waited(intent, since);
        self.assign(turn, worker, choice, intent, taken);
        true
    }

    /// The oldest failed attempt in these pools that another worker failed; `fair`: of those whose
    /// branch has not had more than its share.
    fn take_retry(
        &mut self,
        turn: &mut Turn,
        worker: WorkerId,
        choice: Choice<'_>,
        pools: &[PoolId],
        fair: bool,
    ) -> bool {
        let among = fair.then(|| self.queue.turn(pools));
        let mut left = limits::RETRY_LOOKS_MAX;
        let firsts = pools
            .iter()
            .filter_map(|pool| self.first_retry(worker, *pool, among.as_ref(), &mut left));
        let firsts: Vec<(u64, IntentId)> = firsts.collect();
        let Some((_, intent)) = firsts.into_iter().min() else { return false };
        self.give_retry(turn, worker, choice, intent, pools);
        true
    }

    /// Looks past what this worker failed itself, and does not look there again: each failure of
    /// its own costs it one look.
    /// Behind one whose branch has had its share `among` those that wait it looks at few more.
    fn first_retry(
        &mut self,
        worker: WorkerId,
        pool: PoolId,
        among: Option<&TurnOf>,
        left: &mut u32,
    ) -> Option<(u64, IntentId)> {
        let known = self.workers.get(worker)?;
        let from = known.passed.get(&pool).copied().unwrap_or_default();
        let (mut passed, mut contiguous, mut found) = (from, true, None);
        for (order, intent) in self.kinds.retries(pool, from) {
            let Some(job) = self.jobs.get(&intent) else { continue };
            let failed = job.tried.contains(&worker);
            let is_due = |turn| self.queue.may_go_first(&self.item(job), turn);
            if !failed && among.is_none_or(is_due) {
                found = Some((order, intent));
                break;
            }
            contiguous &= failed;
            if contiguous {
                passed = order.saturating_add(1);
                continue;
            }
            *left = left.saturating_sub(1);
            if *left == 0 {
                break;
            }
        }
        if passed > from
            && let Some(known) = self.workers.get_mut(worker)
        {
            known.passed.insert(pool, passed);
        }
        found
    }

    /// Gives a failed attempt that waits to this worker, out of the turn of its flow.
    pub(super) fn give_retry(
        &mut self,
        turn: &mut Turn,
        worker: WorkerId,
        choice: Choice<'_>,
        intent: IntentId,
        pools: &[PoolId],
    ) {
        let Some(job) = self.jobs.get(&intent) else { return };
        let item = self.item(job);
        let charge = self.queue.charge(item, pools).ok();
        let taken = Taken { since: turn.now, estimate: item.cost_estimate, charge };
        if let Some(known) = self.workers.get_mut(worker) {
            known.retried = true;
        }
        self.assign(turn, worker, choice, intent, taken);
    }

    pub(super) fn assign(
        &mut self,
        turn: &mut Turn,
        worker: WorkerId,
        choice: Choice<'_>,
        intent: IntentId,
        taken: Taken,
    ) {
        let Some(job) = self.jobs.get(&intent) else { return };
        let (kind, meta) = (job.pool.kind(), &job.meta);
        let found = self.workers.get(worker).and_then(|known| known.find(kind, meta, choice));
        let Some(offer) = found else {
            // Only if a pool and what serves it disagreed: it ends rather than be forgotten.
            if let Some(charge) = taken.charge {
                self.queue.finish(charge, 0);
            }
            let outcome = Outcome::Failed(Code::NoWorker);
            return self.resolve(turn, intent, outcome, Usage::default(), None);
        };
        let attempt = Attempt(self.next_number());
        let own = self.workers.get(worker).map(|known| known.owner);
        let Some(job) = self.jobs.get_mut(&intent) else { return };
        job.attempts = job.attempts.saturating_add(1);
        if let Held::Lost(Loss { attempt, delivered: true, .. }) = job.held
            && !mutant!("restart-untold")
        {
            turn.now(Effect::Restarted { intent, attempt });
        }
        if own != Some(job.meta.account) {
            self.retries.dispatched(&job.meta);
        }
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
        let (session, edge, owner) = (known.session, known.edge, known.owner);
        let &OfferSlots { mut price, class, ref group, .. } = known.offers.get(&offer)?;
        let group = match group {
            GroupKey::Named(name) => Some(name.clone()),
            GroupKey::Own(_) => None,
        };
        if known.leases.insert(intent) {
            self.running = self.running.saturating_add(1);
        }
        let job = self.jobs.get(&intent)?;
        let meta = std::sync::Arc::clone(&job.meta);
        let own = owner == meta.account;
        if own {
            price.amount = Amount::ZERO;
        }
        let remaining_ms = job.deadline.since_ms(turn.now);
        let usual_ms = self.estimate(job).saturating_mul(limits::ATTEMPT_SILENCE_ESTIMATES);
        let silence_ms = usual_ms.max(limits::ATTEMPT_SILENCE_MS);
        let lease = Lease {
            meta: std::sync::Arc::clone(&meta),
            worker,
            session,
            offer,
            attempt,
            fence,
            price,
            own,
            until,
            taken,
        };
        self.set_place(intent, Place::Running(lease));
        if let Some(job) = self.jobs.get_mut(&intent) {
            job.held = Held::Nobody;
        }
        self.take_slot(worker, offer, (fence, own, &taken));
        self.schedule(intent, until);
        let limit = meta.units_max.min(price.buys(meta.ceiling));
        Some(Assignment {
            meta,
            attempt,
            fence,
            edge,
            worker,
            owner,
            class,
            session,
            group,
            price,
            limit,
            remaining_ms,
            silence_ms,
        })
    }

    /// Attempts and fences come from one counter, so neither ever repeats.
    pub(super) fn next_number(&mut self) -> u64 {
        self.counter = self.counter.saturating_add(1);
        self.counter
    }
}
