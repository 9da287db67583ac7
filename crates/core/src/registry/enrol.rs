//! Enrolment, bans and removal: the commands that change what is durable.

use mtor_types::Rejection;
use mtor_types::fact::Fact;
use mtor_types::id::{AccountId, WorkerId};
use mtor_types::mutant;
use mtor_types::rejection::Limited;

use super::{Duty, Registry, Token};
use crate::effect::{CloseReason, Effect};
use crate::share::Holder;
use crate::turn::Turn;

impl Registry {
    /// Enrols a worker by a token that the edge has checked: whose it is and until when it may be used.
    /// It is used once. The same again by the token that enrolled it changes nothing; a new token of the
    /// same owner renews name and token and leaves the worker's standing.
    ///
    /// # Errors
    /// In this order: `IdTaken` (another owner's worker), `WorkerBanned`, `TokenInvalid`, `AccountBanned`,
    /// `ShareUsed`.
    pub fn enrol(
        &mut self,
        turn: &mut Turn,
        token: Token,
        worker: WorkerId,
        name: String,
        holder: Holder,
    ) -> Result<(), Rejection> {
        let Token { hash, owner, expires } = token;
        let known = self.enrolments.workers.get(&worker);
        match known {
            Some(known) if known.owner != owner => return Err(Rejection::IdTaken),
            Some(known) if known.banned => return Err(Rejection::WorkerBanned),
            Some(known) if known.token == hash => return Ok(()),
            Some(_) | None => {}
        }
        let is_new = known.is_none();
        if expires <= turn.now || self.is_used(&token) {
            return Err(Rejection::TokenInvalid);
        }
        self.may_own(owner)?;
        let own = owner == self.owner;
        let holder = Holder { account: Some(owner), ..holder };
        if is_new {
            let may = self.places.check(&holder, 1);
            may.map_err(|refused| refused.of(Limited::Workers))?;
        }
        self.decided(
            turn,
            Fact::WorkerEnrolledBy { worker, owner, name, token: hash, expires, own },
        );
        if is_new && let Some(part) = self.parts.remove(&worker) {
            // No fact names the network, so none is known of it after a restart.
            self.places.give_back(part);
            self.parts.insert(worker, self.places.keep(holder, 1));
        }
        Ok(())
    }

    /// Whether a worker was enrolled by it: one that is enrolled, or one that was. Of those only the
    /// latest token of each owner is remembered, and what that owner had issued until then is void.
    fn is_used(&self, token: &Token) -> bool {
        let void = self.enrolments.void.get(&token.owner);
        void.is_some_and(|until| token.expires <= *until)
            || self.used.contains(&(token.owner, token.hash))
    }

    /// What the sysop shut out owns nothing that works here.
    pub(super) fn may_own(&self, owner: AccountId) -> Result<(), Rejection> {
        let banned = self.enrolments.banned.contains(&owner) && !mutant!("banned-owners-work");
        if banned { Err(Rejection::AccountBanned) } else { Ok(()) }
    }

    /// An account is banned, or no longer: nothing of what it owns has a session.
    pub(super) fn owner_banned(&mut self, turn: &mut Turn, owner: AccountId, banned: bool) {
        if self.enrolments.banned.contains(&owner) == banned {
            return;
        }
        self.decided(turn, Fact::OwnerBanned { owner, banned });
        let workers: Vec<WorkerId> = self
            .workers_of(owner, None, usize::MAX)
            .filter(|view| banned && view.slots.is_some())
            .map(|view| view.worker)
            .collect();
        for worker in workers {
            self.steps.one();
            if let Some(close) = self.lose_session(turn, worker, CloseReason::Banned) {
                // Not before the ban is synced.
                turn.durable(close);
            }
        }
    }

    /// Bans a worker, which ends its session, or lifts the ban.
    ///
    /// # Errors
    /// `UnknownWorker`.
    pub fn ban_worker(
        &mut self,
        turn: &mut Turn,
        worker: WorkerId,
        banned: bool,
    ) -> Result<(), Rejection> {
        let enrolled = self.enrolments.workers.get(&worker).ok_or(Rejection::UnknownWorker)?;
        if enrolled.banned == banned {
            return Ok(());
        }
        self.decided(turn, Fact::WorkerBanned { worker, banned });
        if banned && let Some(close) = self.lose_session(turn, worker, CloseReason::Banned) {
            // Not before the ban is synced.
            turn.durable(close);
        }
        Ok(())
    }

    /// Forgets a worker, its standing and its ban; it may be enrolled anew.
    ///
    /// # Errors
    /// `UnknownWorker`.
    pub fn remove_worker(&mut self, turn: &mut Turn, worker: WorkerId) -> Result<(), Rejection> {
        if !self.enrolments.workers.contains_key(&worker) {
            return Err(Rejection::UnknownWorker);
        }
        self.decided(turn, Fact::WorkerRemoved { worker });
        turn.durable(Effect::WorkerForgotten { worker });
        if let Some(close) = self.lose_session(turn, worker, CloseReason::Removed) {
            // Not before the removal is synced.
            turn.durable(close);
        }
        if let Some(presence) = self.presences.remove(&worker) {
            for (kind, record) in presence.records {
                if let Duty::Ejected { until, .. } = record.duty() {
                    self.returns.remove(&(until, worker, kind));
                }
            }
        }
        Ok(())
    }
}
