//! Sessions: attached, heard, renewed, lost.

use mtor_types::fact::Fact;
use mtor_types::id::{SessionId, WorkerId};
use mtor_types::message::{Message, Service, Slots};
use mtor_types::mutant;
use mtor_types::rejection::Limited;
use mtor_types::worker::LeaseClaim;
use mtor_types::{Rejection, Time};

use super::{Registry, Session};
use crate::effect::{CloseReason, Effect};
use crate::limits;
use crate::turn::Turn;

impl Registry {
    /// After a start: the router learns that older sessions are gone. What payers' good results proved
    /// in the first releases is taken back, once: it proves nothing, and whoever opened this realm told
    /// it before.
    pub fn start(&mut self, turn: &mut Turn) {
        turn.send(Service::Router, Message::RegistryStarted);
        let marked = self.enrolments.workers.iter().filter(|(_, known)| known.served);
        let marked: Vec<WorkerId> = marked.map(|(worker, _)| *worker).collect();
        for worker in marked {
            self.decided(turn, Fact::WorkerServed { worker, passed: false });
        }
    }

    /// A message from another service.
    pub fn receive(&mut self, turn: &mut Turn, message: Message) {
        match message {
            Message::Worked(worked) => self.worked(turn, &worked),
            Message::OwnerBanned { owner, banned } => self.owner_banned(turn, owner, banned),
            // Routed to other services, never here.
            Message::PlaceHold(_)
            | Message::Enqueue { .. }
            | Message::EnqueueWeighted { .. }
            | Message::Resume(_)
            | Message::Refused { .. }
            | Message::Taken { .. }
            | Message::End(_)
            | Message::Resolve(_)
            | Message::Resolved { .. }
            | Message::EdgeStarted { .. }
            | Message::Offered(_)
            | Message::SessionLost { .. }
            | Message::RegistryStarted
            | Message::Renew { .. }
            | Message::Silent { .. }
            // Older forms, which became today's when they came in, or are nothing today.
            | Message::PlaceHoldV1(_)
            | Message::EnqueueV1 { .. }
            | Message::ResumeV1(_)
            | Message::SlotsV1(_)
            | Message::Slots(_)
            | Message::Served { .. } => {}
        }
    }

    /// Ends the sessions that were silent for too long, and what else is over.
    pub fn tick(&mut self, turn: &mut Turn) {
        self.begin_day(turn);
        self.forget_unseen(turn);
        self.tick_standings(turn);
        while let Some((over, worker)) = self.silences.first().copied() {
            if over > turn.now {
                return;
            }
            self.steps.one();
            match self.lose_session(turn, worker, CloseReason::Silent) {
                Some(close) => turn.now(close),
                None => {
                    debug_assert!(false, "an indexed session is open");
                    return;
                }
            }
        }
    }

    /// A session opened, or its offers changed. A newer session replaces the one before.
    ///
    /// # Errors
    /// `UnknownWorker` (also for a session that is older than one there was), `WorkerBanned`,
    /// `AccountBanned`, `LimitReached`. The edge closes the session.
    pub fn attach(&mut self, turn: &mut Turn, slots: Slots) -> Result<(), Rejection> {
        let Slots { worker, session, .. } = slots;
        let enrolled = self.enrolments.workers.get(&worker).ok_or(Rejection::UnknownWorker)?;
        let (owner, own) = (enrolled.owner, enrolled.own);
        let presence = self.presences.get(&worker);
        let current = presence.and_then(|presence| presence.session.as_ref());
        let current = current.map(|current| current.slots.session);
        let newest = presence.and_then(|presence| presence.newest);
        if current != Some(session) && newest.is_some_and(|newest| session <= newest) {
            return Err(Rejection::UnknownWorker);
        }
        if enrolled.banned {
            return Err(Rejection::WorkerBanned);
        }
        self.may_own(owner)?;
        check_bounds(&slots)?;

        // The router hears of the loss by the new session: between the two nobody else is given what
        // this worker will serve again.
        if current.is_some_and(|current| current != session)
            && let Some(close) = self.close_session(worker, CloseReason::Replaced)
        {
            turn.now(close);
            if mutant!("replacement-is-a-loss")
                && let Some(session) = current
            {
                turn.send(Service::Router, Message::SessionLost { worker, session });
            }
        }
        self.begin_day(turn);
        self.seen(turn, worker);
        let mut slots = Slots { owner, own, proven: own, ..slots };
        self.tell(turn, slots.clone());
        slots.leases.clear();
        let presence = self.presences.entry(worker).or_default();
        presence.newest = Some(session);
        let attached = Session::heard(slots, turn.now);
        let over = attached.over;
        if let Some(before) = presence.session.replace(attached) {
            self.silences.remove(&(before.over, worker));
        }
        self.silences.insert((over, worker));
        Ok(())
    }

    /// A sign of life.
    ///
    /// # Errors
    /// `UnknownWorker` unless this is the worker's session. The edge closes it.
    pub fn heard(
        &mut self,
        turn: &mut Turn,
        worker: WorkerId,
        session: SessionId,
    ) -> Result<(), Rejection> {
        let current = self.presences.get_mut(&worker).and_then(|found| found.session.as_mut());
        let current = current.filter(|current| current.slots.session == session);
        let current = current.ok_or(Rejection::UnknownWorker)?;
        self.silences.remove(&(current.over, worker));
        current.heard = turn.now;
        current.over = turn.now.after_ms(limits::SESSION_SILENCE_MS);
        self.silences.insert((current.over, worker));
        Ok(())
    }

    /// The realm was away for so long: nobody was silent meanwhile.
    pub fn paused(&mut self, now: Time, gap_ms: u64) {
        let longest = now.after_ms(limits::SESSION_SILENCE_MS);
        let silences = std::mem::take(&mut self.silences);
        for (over, worker) in silences {
            self.steps.one();
            let presence = self.presences.get_mut(&worker);
            if let Some(session) = presence.and_then(|found| found.session.as_mut()) {
                let gap_ms = if mutant!("pauses-are-silence") { 0 } else { gap_ms };
                session.over = over.after_ms(gap_ms).min(longest);
                self.silences.insert((session.over, worker));
            }
        }
    }

    /// A sign of life, and these leases go on; of the `silent` ones nothing has come for too long.
    ///
    /// # Errors
    /// `UnknownWorker` unless this is the worker's session, `LimitReached`.
    pub fn renew(
        &mut self,
        turn: &mut Turn,
        (worker, session): (WorkerId, SessionId),
        leases: Vec<LeaseClaim>,
        silent: Vec<LeaseClaim>,
    ) -> Result<(), Rejection> {
        self.check_session(worker, session)?;
        check_leases(&leases)?;
        check_leases(&silent)?;
        self.heard(turn, worker, session)?;
        turn.send(Service::Router, Message::Renew { worker, session, leases });
        if !silent.is_empty() {
            let leases = silent;
            turn.send(Service::Router, Message::Silent { worker, session, leases });
        }
        Ok(())
    }

    /// The connection closed.
    ///
    /// # Errors
    /// `UnknownWorker` unless this is the worker's session: it was over already.
    pub fn detach(
        &mut self,
        turn: &mut Turn,
        worker: WorkerId,
        session: SessionId,
    ) -> Result<(), Rejection> {
        self.check_session(worker, session)?;
        // There is nothing left to close.
        let _ = self.lose_session(turn, worker, CloseReason::Silent);
        Ok(())
    }

    fn check_session(&self, worker: WorkerId, session: SessionId) -> Result<(), Rejection> {
        let current = self.presences.get(&worker).and_then(|found| found.session.as_ref());
        match current {
            Some(current) if current.slots.session == session => Ok(()),
            Some(_) | None => Err(Rejection::UnknownWorker),
        }
    }

    /// Ends a worker's session, if it has one, and tells the router. What closes it is given back:
    /// whether it may leave at once depends on the reason.
    pub(super) fn lose_session(
        &mut self,
        turn: &mut Turn,
        worker: WorkerId,
        why: CloseReason,
    ) -> Option<Effect> {
        let session = self.presences.get(&worker)?.session.as_ref()?.slots.session;
        turn.send(Service::Router, Message::SessionLost { worker, session });
        self.close_session(worker, why)
    }

    fn close_session(&mut self, worker: WorkerId, why: CloseReason) -> Option<Effect> {
        let over = self.presences.get_mut(&worker)?.session.take()?;
        self.silences.remove(&(over.over, worker));
        let Slots { session, edge, .. } = over.slots;
        Some(Effect::CloseSession { edge, worker, session, why })
    }
}

fn check_bounds(slots: &Slots) -> Result<(), Rejection> {
    if slots.offers.len() > limits::OFFERS_PER_WORKER_MAX {
        return Err(too_many(limits::OFFERS_PER_WORKER_MAX, Limited::Offers));
    }
    if slots.offers.iter().any(|offer| offer.slots > limits::SLOTS_PER_OFFER_MAX) {
        let limit = u64::from(limits::SLOTS_PER_OFFER_MAX);
        return Err(Rejection::LimitReached { what: Limited::Slots, limit });
    }
    check_leases(&slots.leases)
}

fn check_leases(leases: &[LeaseClaim]) -> Result<(), Rejection> {
    if leases.len() > limits::LEASES_PER_MESSAGE_MAX {
        return Err(too_many(limits::LEASES_PER_MESSAGE_MAX, Limited::Leases));
    }
    Ok(())
}

fn too_many(most: usize, what: Limited) -> Rejection {
    let limit = u64::try_from(most).unwrap_or(u64::MAX);
    Rejection::LimitReached { what, limit }
}
