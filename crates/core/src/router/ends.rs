//! How work stops: by the edge's word, by a lost worker, by a lost edge.

use std::sync::Arc;

use mtor_types::intent::{EndRequest, Outcome, Usage, Why};
use mtor_types::message::{Message, Resolution, ServedBy, Service};
use mtor_types::mutant;
use mtor_types::rejection::Code;
use mtor_types::standing::{Mark, Worked};
use mtor_types::{Attempt, IntentId, NodeId, WorkerId};

use super::Router;
use super::demand::TrustClass;
use super::job::{Blame, Failure, Held, Job, Lease, Loss, Place};
use super::kinds::label;
use super::safe_queue::{ItemId, PoolId};
use super::workers::{Choice, OfferSlots};
use crate::effect::Effect;
use crate::limits;
use crate::turn::Turn;

impl Router {
    /// The edge stopped forwarding. Completion and failure speak of one attempt; cancel, expiry
    /// and a lost payload speak of the intent, whatever attempt runs by now.
    pub(super) fn end(&mut self, turn: &mut Turn, request: &EndRequest) {
        let intent = request.intent;
        let Some(job) = self.jobs.get(&intent) else { return Self::end_unknown(turn, request) };
        let current = match &job.place {
            Place::Queued | Place::Adoptable { .. } | Place::Retrying { .. } | Place::Paused => {
                None
            }
            Place::Running(lease) => Some(lease.attempt),
            Place::Lost(served) => Some(served.attempt),
        };
        let speaks_of_current = current.is_some() && request.attempt == current;
        match request.why {
            Why::Completed(reason) if speaks_of_current => {
                let outcome = Outcome::Completed(reason);
                // What is worth nothing shows nothing: neither of its worker nor of another.
                let is_worth = request.usage.units > 0 || mutant!("nothing-is-praised");
                let mark = is_worth.then_some(Mark::Good);
                self.finish(turn, intent, outcome, request.usage, mark);
            }
            Why::WorkerFailed { code, retry } if speaks_of_current => {
                self.failed(turn, request, code, retry);
            }
            // An attempt that is over already: answered late or twice.
            Why::Completed(_) | Why::WorkerFailed { .. } => {}
            Why::Cancelled => self.stopped(turn, request, current, Outcome::Cancelled),
            Why::Expired => self.stopped(turn, request, current, Outcome::Expired),
            Why::PayloadGone => {
                let outcome = Outcome::Failed(Code::RealmRestarted);
                self.stopped(turn, request, current, outcome);
            }
        }
    }

    /// An end of what is not here. This router may have restarted, and the intent with it may be
    /// known to the accountant only: its hold must not wait for its expiry. If it was resolved
    /// already the accountant says so again.
    fn end_unknown(turn: &mut Turn, request: &EndRequest) {
        let outcome = match request.why {
            Why::Cancelled => Outcome::Cancelled,
            Why::Expired => Outcome::Expired,
            Why::PayloadGone => Outcome::Failed(Code::RealmRestarted),
            // They speak of an attempt, and nobody may be paid for one that is not known here.
            Why::Completed(_) | Why::WorkerFailed { .. } => return,
        };
        let (intent, usage) = (request.intent, Usage::default());
        let resolution = Resolution { intent, outcome, usage, served: None, rejection: None };
        turn.send(Service::Accountant, Message::Resolve(resolution));
    }

    /// Ends an intent whoever works on it: what was delivered is paid, if it is the current attempt
    /// that delivered it. The figure of an earlier one is of pieces that are void.
    fn stopped(
        &mut self,
        turn: &mut Turn,
        request: &EndRequest,
        current: Option<Attempt>,
        outcome: Outcome,
    ) {
        let intent = request.intent;
        if self.queue.remove(ItemId(intent.0)) && matches!(outcome, Outcome::Expired) {
            self.waited(intent, turn.now);
        }
        if let Some(lease) = self.running(intent) {
            if outcome == Outcome::Cancelled {
                // Who takes it back takes the blame with it.
                self.excuse_silence(turn, intent, &lease);
            }
            let effect = revoke(&lease, self.edge_of(lease.worker), intent);
            turn.now(effect);
        }
        let counts = request.delivered
            && (request.attempt == current || mutant!("cancel-pays-an-earlier-figure"));
        let usage = if counts { request.usage } else { Usage::default() };
        self.finish(turn, intent, outcome, usage, None);
    }

    /// A worker could not do it, and another one tries; or it is lost, and any may. Or the intent
    /// fails.
    fn failed(&mut self, turn: &mut Turn, request: &EndRequest, code: Code, retry: bool) {
        let intent = request.intent;
        let Some(lease) = self.running(intent) else {
            return self.loss_told(turn, request, code, retry);
        };
        self.set_place(intent, Place::Paused);
        let Some(job) = self.jobs.get_mut(&intent) else { return };
        job.failed = Some(code);
        if !mutant!("same-worker-tries-again") {
            job.tried.push(lease.worker);
        }
        let doubted = !retry && self.is_doubted(intent, &lease, code);
        let mark = self.blame(turn, intent, &lease, (code, retry), doubted);
        if mark.is_none() {
            // Its silence is blamed as little as what it led to.
            self.excuse_silence(turn, intent, &lease);
        }
        self.free(turn, intent, &lease, mark);
        let Some(job) = self.jobs.get(&intent) else { return };
        let again = (retry || doubted)
            && job.meta.worker.is_none()
            && (job.attempts < limits::DISPATCHES_MAX || mutant!("dispatches-without-bound"))
            && (job.tried.len() < limits::ATTEMPTS_MAX || mutant!("attempts-without-bound"))
            && (!request.delivered || job.meta.restart || mutant!("retry-after-a-piece"));
        // A second opinion is not the account's, and its own slots are its own affair: they take nothing
        // of its budget.
        if !again || !(doubted || lease.own || self.retries.take(&job.meta)) {
            self.resolve(turn, intent, Outcome::Failed(code), Usage::default(), None);
            return;
        }
        if request.delivered
            && let Some(attempt) = request.attempt
            && !mutant!("restart-untold")
        {
            turn.now(Effect::Restarted { intent, attempt });
        }
        self.await_another(turn, intent);
    }

    /// The edge says what a lost attempt delivered. A loss is nobody's fault, and takes nothing of
    /// the account's budget. What may not begin anew waits for its own worker, a client that reads
    /// not long.
    fn loss_told(&mut self, turn: &mut Turn, request: &EndRequest, code: Code, retry: bool) {
        let intent = request.intent;
        self.set_place(intent, Place::Paused);
        let Some(job) = self.jobs.get_mut(&intent) else { return };
        let counts = mutant!("lost-counts-as-failed");
        if counts {
            job.failed = Some(code);
        } else {
            job.losses = job.losses.saturating_add(1);
        }
        if let Held::Lost(loss) = &mut job.held {
            loss.delivered = request.delivered;
        }
        let more = job.meta.worker.is_none()
            && (job.attempts < limits::DISPATCHES_MAX || mutant!("dispatches-without-bound"));
        let (meta, durable) = (Arc::clone(&job.meta), job.meta.durable);
        let restart = job.meta.restart || mutant!("retry-after-a-piece");
        if retry && self.take_up_claimed(turn, intent) {
            return;
        }
        if !retry || !more || (counts && !self.retries.take(&meta)) {
            self.resolve(turn, intent, Outcome::Failed(code), Usage::default(), None);
        } else if request.delivered && !restart {
            let wait_ms = if durable { limits::UNSERVED_MS } else { limits::LEASE_MS };
            self.schedule(intent, turn.now.after_ms(wait_ms));
        } else if counts {
            self.await_another(turn, intent);
        } else {
            self.put_back_lost(turn, intent);
        }
    }

    /// Whether a worker that says the intent is at fault is asked for a second opinion: one that has
    /// proven nothing may say so to be spared its work.
    fn is_doubted(&self, intent: IntentId, lease: &Lease, code: Code) -> bool {
        if is_edges_word(code) {
            return false;
        }
        let Some(job) = self.jobs.get(&intent) else { return false };
        let offer = self.workers.get(lease.worker).and_then(|known| known.offers.get(&lease.offer));
        let stranger = offer.is_some_and(|offer| offer.class == TrustClass::Probation);
        let first = !lease.own && matches!(job.blame, Blame::Nobody);
        let may = job.meta.worker.is_none();
        may && stranger
            && first
            && !mutant!("every-blame-is-believed")
            && self.kinds.is_served(job.pool, job.meta.account, &job.tried)
    }

    /// Whose failure it is: the first worker's, until another fails it too.
    fn blame(
        &mut self,
        turn: &mut Turn,
        intent: IntentId,
        lease: &Lease,
        (code, retry): (Code, bool),
        doubted: bool,
    ) -> Option<Mark> {
        let known = self.workers.get(lease.worker)?;
        let (owner, kind) = (known.owner, known.offers.get(&lease.offer)?.kind_name());
        let job = self.jobs.get_mut(&intent).filter(|_| !lease.own)?;
        // Nothing is wrong with what the realm asks itself.
        let is_canary = job.meta.worker.is_some() && !is_edges_word(code);
        match std::mem::replace(&mut job.blame, Blame::Excused) {
            Blame::Nobody if retry || doubted || is_canary => {
                let (worker, attempt) = (lease.worker, lease.attempt);
                job.blame = Blame::One(Failure { worker, owner, kind, attempt, doubted });
                (!doubted).then_some(Mark::Bad)
            }
            // Its word is believed.
            Blame::Nobody | Blame::Excused => None,
            // One owner's workers do not excuse each other.
            Blame::One(failure) if failure.owner == owner => {
                job.blame = Blame::One(failure);
                None
            }
            Blame::One(failure) => {
                if !failure.doubted {
                    Self::tell_worked(turn, lease, failure, Mark::Excused);
                }
                None
            }
        }
    }

    /// It took long, and was worth it.
    fn excuse_silence(&self, turn: &mut Turn, intent: IntentId, lease: &Lease) {
        let silent = self.jobs.get(&intent).and_then(|job| job.silent);
        if silent == Some(lease.attempt)
            && let Some(kind) = self.judged_kind(lease)
        {
            turn.send(Service::Registry, Message::Worked(lease.worked(kind, Mark::Excused)));
        }
    }

    /// What one worker failed another could do: known to be so by the word of one that is trusted, since
    /// a stranger may be the friend of who asks.
    fn confirm(&mut self, turn: &mut Turn, intent: IntentId, lease: &Lease) {
        let offer = self.workers.get(lease.worker).and_then(|known| known.offers.get(&lease.offer));
        let is_trusted =
            offer.is_some_and(|offer| offer.class.links() || mutant!("strangers-confirm"));
        let Some(job) = self.jobs.get_mut(&intent).filter(|_| is_trusted && !lease.own) else {
            return;
        };
        let Blame::One(failure) = std::mem::replace(&mut job.blame, Blame::Nobody) else { return };
        if failure.doubted {
            let (worker, kind) = (failure.worker, failure.kind.clone());
            let told = Failure { worker, kind, ..failure };
            Self::tell_worked(turn, lease, told, Mark::Bad);
        }
        Self::tell_worked(turn, lease, failure, Mark::Confirmed);
    }

    /// What another attempt than the one that ended says by it.
    fn tell_worked(turn: &mut Turn, ended: &Lease, failure: Failure, mark: Mark) {
        let Failure { worker, kind, attempt, .. } = failure;
        let worked = Worked { worker, attempt, ..ended.worked(kind, mark) };
        turn.send(Service::Registry, Message::Worked(worked));
    }

    /// Waits in its kind's list for a worker that has not failed it, unless one is free.
    fn await_another(&mut self, turn: &mut Turn, intent: IntentId) {
        self.unschedule(intent);
        let order = self.retried;
        self.retried = order.saturating_add(1);
        let Some(job) = self.jobs.get(&intent) else { return };
        let (pool, account) = (job.pool, job.meta.account);
        let unserved = !self.kinds.is_served(pool, account, &job.tried);
        let free = self.kinds.freest(pool, account, &job.tried);
        self.set_place(intent, Place::Retrying { order, unserved });
        // Until it is assigned.
        self.schedule(intent, turn.now.after_ms(limits::UNSERVED_MS));
        let is_own = |worker| self.workers.get(worker).is_some_and(|known| known.owner == account);
        if let Some(free) = free.filter(|free| is_own(free.worker)) {
            return self.fill_offer(turn, free.worker, free.offer);
        }
        if let Some(free) = free
            && let Some(group) = self.group_of(free.worker, free.offer)
        {
            let choice = Choice::FreeOf(&group);
            let pools = self.may_serve(free.worker, choice);
            self.give_retry(turn, free.worker, choice, intent, &pools);
            return;
        }
        self.kinds.watch(pool, turn.now);
    }

    /// What does not outlive a restart is given up if nobody could serve it at two looks.
    pub(super) fn look_for_another(&mut self, turn: &mut Turn, intent: IntentId) {
        let Some(job) = self.jobs.get_mut(&intent) else { return };
        let served = self.kinds.is_served(job.pool, job.meta.account, &job.tried);
        let code = job.failed.unwrap_or(Code::NoWorker);
        let Place::Retrying { unserved, .. } = &mut job.place else { return };
        if std::mem::replace(unserved, !served) && !served && !job.meta.durable {
            self.resolve(turn, intent, Outcome::Failed(code), Usage::default(), None);
        } else if self.kinds.freest(job.pool, job.meta.account, &job.tried).is_some() {
            // Only of a worker that is ejected: it serves what none of the others may try again.
            self.await_another(turn, intent);
        } else {
            self.schedule(intent, turn.now.after_ms(limits::UNSERVED_MS));
        }
    }

    /// To the head of its queue: it had its turn, and nobody failed it. What is lost again and again
    /// comes back ever later, since it may be what its workers are lost of.
    fn put_back_lost(&mut self, turn: &mut Turn, intent: IntentId) {
        let losses = self.jobs.get(&intent).map_or(0, |job| job.losses);
        let pause_ms = match losses.checked_sub(2) {
            None => return self.go_on_lost(turn, intent),
            Some(_) if mutant!("loss-without-pause") => return self.go_on_lost(turn, intent),
            Some(more) => {
                limits::LOSS_PAUSE_MS.saturating_mul(1_u64.checked_shl(more).unwrap_or(1))
            }
        };
        self.schedule(intent, turn.now.after_ms(pause_ms));
    }

    /// Whoever failed it before it was lost does not get it again.
    pub(super) fn go_on_lost(&mut self, turn: &mut Turn, intent: IntentId) {
        let stuck = |job: &Job| {
            let delivered = matches!(job.held, Held::Lost(loss) if loss.delivered);
            delivered && !job.meta.restart && !mutant!("retry-after-a-piece")
        };
        if self.jobs.get(&intent).is_some_and(stuck) {
            // Its worker did not come.
            let outcome = Outcome::Failed(Code::WorkerFailed);
            self.resolve(turn, intent, outcome, Usage::default(), None);
        } else if self.jobs.get(&intent).is_some_and(|job| job.tried.is_empty()) {
            self.put_back(turn, intent, PutBack::Lost);
        } else {
            self.await_another(turn, intent);
        }
    }

    /// Back into its queue: it was admitted once, so no bound refuses it.
    pub(super) fn put_back(&mut self, turn: &mut Turn, intent: IntentId, how: PutBack) {
        self.unschedule(intent);
        self.set_place(intent, Place::Queued);
        let Some(job) = self.jobs.get(&intent) else { return };
        let (item, pool) = (self.item(job), job.pool);
        let queued = match how {
            PutBack::Lost => self.queue.requeue(item),
            PutBack::Restored => self.queue.restore(item),
        };
        if queued.is_err() {
            // Only if it were queued twice.
            let outcome = Outcome::Failed(Code::QueueFull);
            self.resolve(turn, intent, outcome, Usage::default(), None);
            return;
        }
        self.kinds.watch(pool, turn.now);
        self.fill_for(turn, intent);
    }

    /// A lease ran out, or its session is over: only the edge knows what was delivered.
    pub(super) fn lose(&mut self, turn: &mut Turn, intent: IntentId) {
        let Some(lease) = self.running(intent) else { return };
        let Some(served) = self.served_by(&lease) else { return };
        let attempt = lease.attempt;
        self.set_place(intent, Place::Lost(served));
        if let Some(job) = self.jobs.get_mut(&intent) {
            let (worker, delivered, claimed) = (lease.worker, false, None);
            job.held = Held::Lost(Loss { worker, attempt, delivered, claimed });
        }
        turn.now(revoke(&lease, self.edge_of(lease.worker), intent));
        let mark = (!lease.own && self.runs_out(turn, &lease)).then_some(Mark::Bad);
        self.free(turn, intent, &lease, mark);
        turn.now(Effect::Lost { intent, attempt });
        self.schedule(intent, turn.now.after_ms(limits::STOP_REPEAT_MS));
    }

    /// Whether a worker's session goes on without a lease: that counts once, however many run out together.
    /// The loss of a session was told by itself.
    fn runs_out(&mut self, turn: &Turn, lease: &Lease) -> bool {
        let Some(known) = self.workers.get_mut(lease.worker) else { return false };
        let kind = known.offers.get(&lease.offer).map(OfferSlots::kind_name);
        let Some(kind) = kind.filter(|_| !known.is_over && known.session == lease.session) else {
            return false;
        };
        known.lapsed.retain(|_, until| turn.now < *until);
        let until = turn.now.after_ms(limits::LEASE_MS);
        known.lapsed.insert(kind, until).is_none()
    }

    /// That edge begins a new boot: the payloads of its ephemeral intents are gone. The accountant
    /// has voided their holds before it passed this on.
    pub(super) fn edge_started(&mut self, turn: &mut Turn, edge: NodeId, epoch: u32) {
        let first = (edge, 0, IntentId([0; 16]));
        let gone = self.ephemeral.range(first..(edge, epoch, IntentId([0; 16])));
        let gone: Vec<IntentId> = gone.map(|(_, _, intent)| *intent).collect();
        for intent in gone {
            self.kinds.step();
            self.queue.remove(ItemId(intent.0));
            let lease = self.running(intent);
            self.forget(intent);
            if let Some(lease) = lease {
                turn.now(revoke(&lease, self.edge_of(lease.worker), intent));
                self.free(turn, intent, &lease, None);
            }
        }
    }

    /// Nobody came to serve this pool: what would not outlive a restart fails, some at a time, but for
    /// that whose own account came to serve it. The rest waits until its deadline.
    pub(super) fn fail_unserved(&mut self, turn: &mut Turn, pool: PoolId, after: Option<IntentId>) {
        if self.kinds.is_shared(pool, &[]) || mutant!("unserved-for-ever") {
            return;
        }
        let looked_at = self.kinds.ephemeral(pool, after).take(limits::UNSERVED_AT_ONCE_MAX);
        let looked_at: Vec<IntentId> = looked_at.collect();
        if looked_at.len() == limits::UNSERVED_AT_ONCE_MAX {
            self.kinds.give_up_at(pool, turn.now.after_ms(1), looked_at.last().copied());
        }
        for intent in looked_at {
            let Some(job) = self.jobs.get(&intent) else { continue };
            let queued = matches!(job.place, Place::Queued);
            if queued && !self.kinds.is_served(pool, job.meta.account, &[]) {
                self.queue.remove(ItemId(intent.0));
                let outcome = Outcome::Failed(Code::NoWorker);
                self.resolve(turn, intent, outcome, Usage::default(), None);
            }
        }
        self.kinds.watch(pool, turn.now);
    }

    /// Ends a running, lost or queued intent: its slot is free, its hold goes to the accountant.
    fn finish(
        &mut self,
        turn: &mut Turn,
        intent: IntentId,
        outcome: Outcome,
        usage: Usage,
        mark: Option<Mark>,
    ) {
        let lease = self.running(intent);
        if let Some(lease) = lease.as_ref().filter(|_| mark == Some(Mark::Good)) {
            self.excuse_silence(turn, intent, lease);
            self.confirm(turn, intent, lease);
        }
        let served = match (&lease, self.jobs.get(&intent).map(|job| &job.place)) {
            (Some(lease), _) => self.served_by(lease),
            // The worker is lost, but what it delivered counts.
            (None, Some(Place::Lost(served))) => Some(*served),
            (None, _) => None,
        };
        self.resolve(turn, intent, outcome, usage, served);
        if let Some(lease) = lease {
            // What a canary's answer is worth is seen when it is looked at.
            let counts = !lease.own && lease.meta.worker.is_none();
            self.free(turn, intent, &lease, mark.filter(|_| counts));
        }
    }

    /// Frees a lease's slot, settles what its flow was charged, and gives the slot to the next.
    pub(super) fn free(
        &mut self,
        turn: &mut Turn,
        intent: IntentId,
        lease: &Lease,
        mark: Option<Mark>,
    ) {
        let slot_ms = turn.now.since_ms(lease.taken.since).max(1);
        if let Some(charge) = lease.taken.charge {
            let thought = mutant!("costs-never-corrected");
            self.queue.finish(charge, if thought { lease.taken.estimate } else { slot_ms });
        }
        let worker = lease.worker;
        if let Some(known) = self.workers.get_mut(worker) {
            if known.leases.remove(&intent) {
                self.running = self.running.saturating_sub(1);
            }
            let offer = known.offers.get(&lease.offer);
            if let Some((offer, mark)) = offer.zip(mark) {
                let worked = lease.worked(offer.kind_name(), mark);
                turn.send(Service::Registry, Message::Worked(worked));
            }
            // A stranger's word on its own work would be everybody's wait. What was adopted without
            // an estimate was not seen from its beginning.
            let whole = lease.taken.charge.is_some() && lease.taken.estimate > 0;
            let teaches = mark == Some(Mark::Good) && whole;
            let known = offer.is_some_and(|offer| offer.class.links());
            if teaches && (known || mutant!("strangers-teach")) {
                let kind = label(&lease.meta.name, lease.meta.model.as_deref());
                self.estimates.learn(&kind, lease.meta.size, slot_ms);
            }
        }
        let group = self.group_of(worker, lease.offer);
        self.give_back_slot(worker, lease.offer, (lease.own, &lease.taken));
        if let Some(known) = self.workers.get_mut(worker) {
            known.drop_gone_offers();
        }
        if let Some(group) = group {
            self.fill(turn, worker, Choice::FreeOf(&group));
        }
        self.drop_if_gone(worker);
    }

    fn served_by(&self, lease: &Lease) -> Option<ServedBy> {
        let owner = self.workers.get(lease.worker)?.owner;
        let Lease { worker, price, attempt, fence, .. } = *lease;
        Some(ServedBy { worker, owner, price, attempt, fence })
    }

    pub(super) fn running(&self, intent: IntentId) -> Option<Lease> {
        match &self.jobs.get(&intent)?.place {
            Place::Running(lease) => Some(lease.clone()),
            Place::Queued
            | Place::Adoptable { .. }
            | Place::Lost(_)
            | Place::Retrying { .. }
            | Place::Paused => None,
        }
    }

    pub(super) fn edge_of(&self, worker: WorkerId) -> NodeId {
        self.workers.get(worker).map(|worker| worker.edge).unwrap_or_default()
    }
}

/// Where in its queue an intent goes back to.
#[derive(Clone, Copy, Debug)]
pub(super) enum PutBack {
    /// To the head: it had its turn.
    Lost,
    /// To the tail: after a restart the others come back in their order too.
    Restored,
}

pub(super) fn revoke(lease: &Lease, edge: NodeId, intent: IntentId) -> Effect {
    let Lease { worker, session, attempt, .. } = *lease;
    Effect::Revoke { edge, worker, session, intent, attempt }
}

/// A claim that nothing here stands for.
pub(super) fn revoke_claim(
    edge: NodeId,
    worker: WorkerId,
    session: mtor_types::SessionId,
    (intent, attempt): (IntentId, Attempt),
) -> Effect {
    Effect::Revoke { edge, worker, session, intent, attempt }
}

/// Not the worker's: the edge cannot keep the answer, and could not another's; or it did not give it the
/// work, whose price has changed.
fn is_edges_word(code: Code) -> bool {
    matches!(code, Code::StoreUnavailable | Code::ShareUsed | Code::NoWorker)
}
