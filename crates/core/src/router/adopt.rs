//! Workers come, change, renew and go.

use std::collections::{BTreeMap, BTreeSet};

use mtor_types::message::{Message, Offered, Service};
use mtor_types::mutant;
use mtor_types::standing::{KindName, Mark};
use mtor_types::worker::LeaseClaim;
use mtor_types::{Attempt, Fence, IntentId, SessionId, Time, WorkerId};

use super::Router;
use super::ends::{PutBack, revoke, revoke_claim};
use super::job::{Held, Lease, Loss, Place, Taken};
use super::safe_queue::{Item, ItemId, KindId, PoolId};
use super::workers::{Choice, OfferNo, WorkerSlots};
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
        let before = self.workers.get(worker).map(|known| (known.session, known.is_over));
        let fresh = before.is_none_or(|(before, _)| before != session);
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
            let was_told = before.is_some_and(|(_, is_over)| is_over);
            self.lose_unclaimed(turn, worker, session, was_told);
        }
        if !mutant!("new-worker-gets-nothing") {
            // Before pools are looked at one by one: who is due comes first, whatever its name.
            self.fill(turn, worker, Choice::Free);
        }
        self.watch(turn, &kinds);
        turn.now(Effect::PoolsChanged);
    }

    /// Whether a worker goes on with what it says it holds. Nobody has begun it anew: its session
    /// broke and its lease runs on; the attempt was lost and is the last one there was; or the realm
    /// has restarted, and does not know who held it.
    fn adopt(
        &mut self,
        turn: &mut Turn,
        worker: WorkerId,
        session: SessionId,
        claim: LeaseClaim,
    ) -> bool {
        let LeaseClaim { intent, attempt } = claim;
        let Some(job) = self.jobs.get_mut(&intent) else { return false };
        let is_lost = matches!(job.place, Place::Lost(_));
        let of_restart = match &mut job.held {
            Held::Nobody => return self.adopt_running(turn, worker, session, claim),
            Held::Anybody => true,
            Held::Lost(loss) => {
                let same = loss.worker == worker && loss.attempt == attempt;
                if !same && !mutant!("older-attempts-are-adopted") {
                    return false;
                }
                if is_lost {
                    // Answered when its edge has said what it delivered.
                    loss.claimed = Some(session);
                    return true;
                }
                false
            }
        };
        let Some(offer) = self.adopting_offer(worker, intent) else { return false };
        self.queue.remove(ItemId(intent.0));
        // Whatever list it stands in, it leaves.
        self.set_place(intent, Place::Paused);
        let taken = if of_restart {
            Taken { since: turn.now, estimate: 0, charge: None }
        } else {
            self.taken_up(turn, worker, offer, intent)
        };
        if let Some(job) = self.jobs.get_mut(&intent) {
            // What was told was of another wait.
            job.told = None;
            job.attempts = job.attempts.saturating_add(u32::from(of_restart));
        }
        let adopted = self.go_on(turn, worker, offer, claim, taken);
        if !adopted {
            self.put_back(turn, intent, PutBack::Lost);
        }
        adopted
    }

    /// Its lease runs on under another session of its worker.
    fn adopt_running(
        &mut self,
        turn: &mut Turn,
        worker: WorkerId,
        session: SessionId,
        claim: LeaseClaim,
    ) -> bool {
        let LeaseClaim { intent, attempt } = claim;
        let Some(lease) = self.running(intent) else { return false };
        if (lease.worker, lease.attempt) == (worker, attempt) {
            // Said twice.
            if lease.session == session {
                return true;
            }
            // Its slot is taken again under the new fence.
            self.give_back_slot(worker, lease.offer, (lease.own, &lease.taken));
            return self.go_on(turn, worker, lease.offer, claim, lease.taken);
        }
        // After a restart an older attempt of it came back first.
        if lease.taken.charge.is_some() || lease.attempt >= attempt {
            return false;
        }
        let Some(offer) = self.adopting_offer(worker, intent) else { return false };
        turn.now(revoke(&lease, self.edge_of(lease.worker), intent));
        turn.now(Effect::Restarted { intent, attempt: lease.attempt });
        // What it was is over before its slot is given on.
        self.set_place(intent, Place::Paused);
        self.free(turn, intent, &lease, None);
        if let Some(job) = self.jobs.get_mut(&intent) {
            job.attempts = job.attempts.saturating_add(1);
        }
        let taken = Taken { since: turn.now, estimate: 0, charge: None };
        self.go_on(turn, worker, offer, claim, taken)
    }

    fn go_on(
        &mut self,
        turn: &mut Turn,
        worker: WorkerId,
        offer: OfferNo,
        claim: LeaseClaim,
        taken: Taken,
    ) -> bool {
        let LeaseClaim { intent, attempt } = claim;
        match self.lease(turn, worker, offer, intent, attempt, taken) {
            Some(assignment) => {
                turn.now(Effect::Adopt(assignment));
                true
            }
            None => false,
        }
    }

    /// What an attempt takes from now on. What it took before it was lost is settled; how long it
    /// will take, nobody knows, so it is charged while it runs.
    fn taken_up(
        &mut self,
        turn: &Turn,
        worker: WorkerId,
        offer: OfferNo,
        intent: IntentId,
    ) -> Taken {
        let mut taken = Taken { since: turn.now, estimate: 0, charge: None };
        let known = self.workers.get(worker).zip(self.jobs.get(&intent));
        if let Some((known, job)) = known.filter(|(known, job)| known.owner != job.meta.account)
            && let Some(group) = known.offers.get(&offer).map(|offer| offer.group.clone())
        {
            let item = Item { cost_estimate: 0, ..self.item(job) };
            let pools = self.may_serve(worker, Choice::FreeOf(&group));
            taken.charge = self.queue.charge(item, &pools).ok();
        }
        taken
    }

    /// The edge has said what a lost attempt delivered. Whether its worker, which is back, goes on
    /// with it.
    pub(super) fn take_up_claimed(&mut self, turn: &mut Turn, intent: IntentId) -> bool {
        let Some((worker, session, attempt)) = self.claimed(intent) else { return false };
        let current = self.workers.get(worker).is_some_and(|known| known.session == session);
        let claim = LeaseClaim { intent, attempt };
        if current && self.adopt(turn, worker, session, claim) {
            return true;
        }
        self.refuse_claim(turn, intent);
        false
    }

    /// A claim that was to be answered later has nothing to go on with.
    pub(super) fn refuse_claim(&mut self, turn: &mut Turn, intent: IntentId) {
        let Some((worker, session, attempt)) = self.claimed(intent) else { return };
        turn.now(revoke_claim(self.edge_of(worker), worker, session, (intent, attempt)));
        if let Some(job) = self.jobs.get_mut(&intent)
            && let Held::Lost(loss) = &mut job.held
        {
            loss.claimed = None;
        }
    }

    fn claimed(&self, intent: IntentId) -> Option<(WorkerId, SessionId, Attempt)> {
        match self.jobs.get(&intent)?.held {
            Held::Lost(Loss { worker, attempt, claimed, .. }) => Some((worker, claimed?, attempt)),
            Held::Nobody | Held::Anybody => None,
        }
    }

    /// The offer under which a worker may go on with an intent: one that meets its demands, as at
    /// any dispatch.
    fn adopting_offer(&self, worker: WorkerId, intent: IntentId) -> Option<OfferNo> {
        let job = self.jobs.get(&intent)?;
        self.workers.get(worker)?.find(job.pool.kind(), &job.meta, Choice::Whatever)
    }

    /// A new session of a worker that no longer holds some of its leases: those are lost. That is told
    /// unless it was when the session before was lost.
    fn lose_unclaimed(
        &mut self,
        turn: &mut Turn,
        worker: WorkerId,
        session: SessionId,
        was_told: bool,
    ) {
        let stale = |lease: &Lease| lease.session != session;
        if !was_told {
            self.tell_loss(turn, worker, stale);
        }
        let stale = self.leases_of(worker).filter(|(_, lease)| stale(lease));
        let stale: Vec<IntentId> = stale.map(|(intent, _)| intent).collect();
        for intent in stale {
            self.lose(turn, intent);
        }
    }

    /// The session is over. Ephemeral work goes to another worker at once; durable work stays
    /// leased until its lease runs out, for the worker may come back with it.
    pub(super) fn session_lost(&mut self, turn: &mut Turn, worker: WorkerId, session: SessionId) {
        let current = self.workers.get(worker).filter(|known| known.session == session);
        if current.is_some_and(|known| !known.is_over) {
            self.tell_loss(turn, worker, |_| true);
        }
        self.end_session(turn, worker, session);
    }

    fn leases_of(&self, worker: WorkerId) -> impl Iterator<Item = (IntentId, &Lease)> {
        let leases = self.workers.get(worker).into_iter().flat_map(|known| &known.leases);
        leases.filter_map(|intent| match &self.jobs.get(intent)?.place {
            Place::Running(lease) => Some((*intent, lease)),
            Place::Queued
            | Place::Adoptable { .. }
            | Place::Retrying { .. }
            | Place::Paused
            | Place::Lost(_) => None,
        })
    }

    /// A session that is lost with work counts once in each kind, however much that was.
    fn tell_loss(&self, turn: &mut Turn, worker: WorkerId, is_lost: impl Fn(&Lease) -> bool) {
        let mut lost: BTreeMap<KindName, &Lease> = BTreeMap::new();
        for (_, lease) in self.leases_of(worker).filter(|(_, lease)| is_lost(lease)) {
            if let Some(kind) = self.judged_kind(lease) {
                lost.entry(kind).or_insert(lease);
            }
        }
        for (kind, lease) in lost {
            turn.send(Service::Registry, Message::Worked(lease.worked(kind, Mark::Bad)));
        }
    }

    /// In what an attempt says something of its worker: in nothing if that is its owner's.
    pub(super) fn judged_kind(&self, lease: &Lease) -> Option<KindName> {
        let offer = self.workers.get(lease.worker)?.offers.get(&lease.offer)?;
        (!lease.own).then(|| offer.kind_name())
    }

    /// The edge has had neither piece nor end of these for as long as their assignments allow. The
    /// attempts go on: one that ends well is excused, one that fails besides counts no second time.
    pub(super) fn silent(
        &mut self,
        turn: &mut Turn,
        worker: WorkerId,
        session: SessionId,
        claims: &[LeaseClaim],
    ) {
        for LeaseClaim { intent, attempt } in claims {
            let Some(lease) = self.running(*intent) else { continue };
            let current = (lease.worker, lease.session, lease.attempt);
            if current == (worker, session, *attempt)
                && let Some(kind) = self.judged_kind(&lease)
                && let Some(job) = self.jobs.get_mut(intent)
                && !mutant!("silence-counts-for-nothing")
            {
                job.silent = Some(*attempt);
                turn.send(Service::Registry, Message::Worked(lease.worked(kind, Mark::Silent)));
            }
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
            self.kinds.step();
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
            self.kinds.step();
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
