//! Workers come, change, renew and go.

use std::collections::{BTreeMap, BTreeSet};

use mtor_types::message::{Message, Offered, Service};
use mtor_types::mutant;
use mtor_types::standing::{KindName, Verdict, Worked};
use mtor_types::worker::LeaseClaim;
use mtor_types::{Fence, IntentId, SessionId, Time, WorkerId};

use super::Router;
use super::ends::{revoke, revoke_claim};
use super::job::{Job, Lease, Place, Taken};
use super::safe_queue::{KindId, PoolId};
use super::workers::{GroupKey, OfferNo, WorkerSlots};
use crate::effect::Effect;
use crate::limits;
use crate::turn::Turn;

impl Router {
    /// A session says what its worker can do. A new session brings the leases it still holds.
    pub(super) fn attach(&mut self, turn: &mut Turn, offered: Offered) {
        let slots = &offered.slots;
        let (worker, session, edge) = (slots.worker, slots.session, slots.edge);
        let claims = slots.leases.clone();
        let mut kinds = self.leave_kinds(worker);
        let fresh = self.workers.get(worker).is_none_or(|known| known.session != session);
        self.workers.put(offered, Fence(self.counter));
        kinds.extend(self.join_kinds(worker));
        if fresh {
            for claim in &claims {
                let adopted = self.adopt(turn, worker, session, *claim);
                if !adopted {
                    let claim = (claim.intent, claim.attempt);
                    turn.now(revoke_claim(edge, worker, session, claim));
                }
            }
            self.lose_unclaimed(turn, worker, session);
        }
        let Some(known) = self.workers.get(worker) else { return };
        let groups: BTreeSet<GroupKey> =
            known.offers.values().map(|offer| offer.group.clone()).collect();
        self.watch(turn, &kinds);
        for group in groups.into_iter().filter(|_| !mutant!("new-worker-gets-nothing")) {
            self.fill_group(turn, worker, &group);
        }
        turn.now(Effect::PoolsChanged);
    }

    /// Whether a worker may go on with what it says it holds: after a restart, or after its own
    /// session broke and its lease has not run out.
    fn adopt(
        &mut self,
        turn: &mut Turn,
        worker: WorkerId,
        session: SessionId,
        claim: LeaseClaim,
    ) -> bool {
        let LeaseClaim { intent, attempt } = claim;
        let Some(job) = self.jobs.get(&intent) else { return false };
        let (offer, taken, first) = match &job.place {
            Place::Adoptable { .. } => {
                let Some(offer) = self.adopting_offer(worker, job) else { return false };
                (offer, Taken { since: turn.now, estimate: 0, charge: None }, true)
            }
            // Said twice.
            Place::Running(lease)
                if (lease.worker, lease.session, lease.attempt) == (worker, session, attempt) =>
            {
                return true;
            }
            Place::Running(lease) if (lease.worker, lease.attempt) == (worker, attempt) => {
                let (offer, taken, own) = (lease.offer, lease.taken, lease.own);
                // Its slot is taken again under the new fence.
                self.give_back_slot(worker, offer, own);
                (offer, taken, false)
            }
            // After a restart an older attempt of it came back first.
            Place::Running(lease) if lease.taken.charge.is_none() && lease.attempt < attempt => {
                let Some(offer) = self.adopting_offer(worker, job) else { return false };
                let older = lease.clone();
                turn.now(revoke(&older, self.edge_of(older.worker), intent));
                turn.now(Effect::Restarted { intent, attempt: older.attempt });
                // What it was is over before its slot is given on.
                self.set_place(intent, Place::Paused);
                self.free(turn, intent, &older, None);
                (offer, Taken { since: turn.now, estimate: 0, charge: None }, true)
            }
            Place::Running(_)
            | Place::Queued
            | Place::Lost(_)
            | Place::Retrying { .. }
            | Place::Paused => return false,
        };
        if first && let Some(job) = self.jobs.get_mut(&intent) {
            job.attempts = job.attempts.saturating_add(1);
        }
        match self.lease(turn, worker, offer, intent, attempt, taken) {
            Some(assignment) => {
                turn.now(Effect::Adopt(assignment));
                true
            }
            None => false,
        }
    }

    /// The offer under which a worker may go on with an intent: one that meets its demands, as at
    /// any dispatch.
    fn adopting_offer(&self, worker: WorkerId, job: &Job) -> Option<OfferNo> {
        self.workers.get(worker)?.find(job.pool.kind(), &job.meta, None)
    }

    /// A new session of a worker that no longer holds some of its leases: those are lost.
    fn lose_unclaimed(&mut self, turn: &mut Turn, worker: WorkerId, session: SessionId) {
        let Some(known) = self.workers.get(worker) else { return };
        let stale = known.leases.iter().filter(|intent| {
            let place = self.jobs.get(intent).map(|job| &job.place);
            matches!(place, Some(Place::Running(lease)) if lease.session != session)
        });
        let stale: Vec<IntentId> = stale.copied().collect();
        for intent in stale {
            self.lose(turn, intent);
        }
    }

    /// The session is over. Ephemeral work goes to another worker at once; durable work stays
    /// leased until its lease runs out, for the worker may come back with it.
    pub(super) fn session_lost(&mut self, turn: &mut Turn, worker: WorkerId, session: SessionId) {
        self.tell_loss(turn, worker, session);
        self.end_session(turn, worker, session);
    }

    /// A session that is lost with work counts once in each kind, however much that was.
    fn tell_loss(&self, turn: &mut Turn, worker: WorkerId, session: SessionId) {
        let Some(known) = self.workers.get(worker).filter(|known| known.session == session) else {
            return;
        };
        let mut lost: BTreeMap<KindName, (IntentId, &Lease)> = BTreeMap::new();
        for intent in known.leases.iter().filter(|_| !known.is_over) {
            let Some(Place::Running(lease)) = self.jobs.get(intent).map(|job| &job.place) else {
                continue;
            };
            if let Some(offer) = known.offers.get(&lease.offer).filter(|_| !lease.own) {
                lost.entry(offer.kind_name()).or_insert((*intent, lease));
            }
        }
        for (kind, (intent, lease)) in lost {
            let (attempt, branch, verdict) = (lease.attempt, lease.meta.branch, Verdict::Bad);
            let worked = Worked { worker, kind, intent, attempt, branch, verdict };
            turn.send(Service::Registry, Message::Worked(worked));
        }
    }

    fn end_session(&mut self, turn: &mut Turn, worker: WorkerId, session: SessionId) {
        let Some(known) = self.workers.get(worker) else { return };
        if known.session != session {
            return;
        }
        let leases: Vec<IntentId> = known.leases.iter().copied().collect();
        let kinds = self.leave_kinds(worker);
        if let Some(known) = self.workers.get_mut(worker) {
            known.retire();
        }
        for intent in &leases {
            if self.jobs.get(intent).is_some_and(|job| !job.meta.durable) {
                self.lose(turn, *intent);
            }
        }
        self.watch(turn, &kinds);
        self.drop_if_gone(worker);
        turn.now(Effect::PoolsChanged);
    }

    /// Forgets a worker without session and leases.
    pub(super) fn drop_if_gone(&mut self, worker: WorkerId) {
        if self.workers.get(worker).is_some_and(WorkerSlots::is_gone) {
            let kinds = self.leave_kinds(worker);
            self.workers.remove(worker);
            kinds.into_iter().for_each(|kind| self.kinds.drop_if_idle(kind));
        }
    }

    /// Looks whether these kinds' pools are served now, perhaps by those that are ejected only.
    fn watch(&mut self, turn: &mut Turn, kinds: &BTreeSet<KindId>) {
        for kind in kinds {
            for pool in self.kinds.pools(*kind).collect::<Vec<PoolId>>() {
                self.kinds.watch(pool, turn.now);
                self.fill_shared(turn, pool);
            }
            self.kinds.drop_if_idle(*kind);
        }
    }

    /// The realm was away for so long: leases, and waits for workers to come, last longer by it.
    pub fn paused(&mut self, now: Time, gap_ms: u64) {
        let longest = now.after_ms(limits::LEASE_MS);
        let mut put_off = Vec::new();
        for (intent, job) in &mut self.jobs {
            match &mut job.place {
                // Their timer, which stays, looks at this.
                Place::Running(Lease { until, .. }) | Place::Adoptable { until } => {
                    *until = until.after_ms(gap_ms).min(longest);
                }
                Place::Retrying { .. } => {
                    put_off.extend(job.timer.map(|at| (*intent, at.after_ms(gap_ms))));
                }
                Place::Queued | Place::Paused | Place::Lost(_) => {}
            }
        }
        for (intent, at) in put_off {
            self.schedule(intent, at);
        }
        self.kinds.put_off(gap_ms);
    }

    /// The registry begins a new boot: it knows no session until the edges say them again.
    pub(super) fn registry_started(&mut self, turn: &mut Turn) {
        for worker in self.workers.ids() {
            if let Some(session) = self.workers.get(worker).map(|known| known.session) {
                self.end_session(turn, worker, session);
            }
        }
    }

    /// The worker still works on these; the others of its leases run out. A lease that is not
    /// there any more is revoked, so that a worker whose revocation was lost stops too.
    pub(super) fn renew(
        &mut self,
        turn: &mut Turn,
        worker: WorkerId,
        session: SessionId,
        claims: &[LeaseClaim],
    ) {
        let Some(known) = self.workers.get(worker) else { return };
        if known.session != session {
            return;
        }
        let edge = known.edge;
        let until = turn.now.after_ms(limits::LEASE_MS);
        for claim in claims {
            let place = self.jobs.get_mut(&claim.intent).map(|job| &mut job.place);
            match place {
                Some(Place::Running(lease))
                    if lease.worker == worker && lease.attempt == claim.attempt =>
                {
                    if !mutant!("renewals-ignored") {
                        lease.until = until;
                    }
                    let so_far = turn.now.since_ms(lease.taken.since);
                    if let Some(charge) =
                        lease.taken.charge.filter(|_| so_far > lease.taken.estimate)
                    {
                        // Work that takes longer than was thought is charged while it runs.
                        self.queue.correct(charge, so_far);
                    }
                }
                Some(_) | None => {
                    let claim = (claim.intent, claim.attempt);
                    turn.now(revoke_claim(edge, worker, session, claim));
                }
            }
        }
    }
}
