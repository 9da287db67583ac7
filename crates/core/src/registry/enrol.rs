//! Tokens, enrolment, bans and removal: the commands that change what is durable.

use mtor_types::fact::{Fact, NetworkKey};
use mtor_types::id::{AccountId, KeyHash, WorkerId};
use mtor_types::rejection::Limited;
use mtor_types::{Rejection, Time};

use super::{Duty, Registry, Token, holder_of};
use crate::effect::{CloseReason, Effect};
use crate::limits;
use crate::turn::Turn;

impl Registry {
    /// Issues a one-time token, and sweeps those past their time. The same again by the same owner
    /// changes nothing.
    ///
    /// # Errors
    /// `IdTaken` (another owner's token), `LimitReached`.
    pub fn issue_token(
        &mut self,
        turn: &mut Turn,
        token: KeyHash,
        owner: AccountId,
    ) -> Result<(), Rejection> {
        let now = turn.now;
        let live = |known: &&Token| known.expires > now;
        if let Some(known) = self.enrolments.tokens.get(&token).filter(live) {
            return if known.owner == owner { Ok(()) } else { Err(Rejection::IdTaken) };
        }
        within(self.tokens_of(owner, now), limits::TOKENS_PER_ACCOUNT_MAX, Limited::Tokens)?;
        // Those past their time stand here until the next tick only.
        let expired: Vec<KeyHash> = self.expired(now).collect();
        let all = self.enrolments.tokens.len().saturating_sub(expired.len());
        // Strangers leave room for the realm itself.
        let kept = if owner == self.owner { 0 } else { limits::TOKENS_PER_ACCOUNT_MAX };
        within(all, limits::TOKENS_MAX.saturating_sub(kept), Limited::Tokens)?;

        if !expired.is_empty() {
            self.decided(turn, Fact::TokensExpired { tokens: expired });
        }
        let expires = now.after_ms(limits::TOKEN_LIFE_MS);
        self.decided(turn, Fact::TokenIssued { token, owner, expires });
        Ok(())
    }

    /// Those of one owner that may be used: at most `TOKENS_PER_ACCOUNT_MAX` to look at, and those that
    /// the next tick forgets.
    fn tokens_of(&self, owner: AccountId, now: Time) -> usize {
        let issued = self.issued.range((owner, KeyHash([0; 32]))..);
        let issued = issued.take_while(|(of, _)| *of == owner).inspect(|_| self.steps.one());
        let live = issued.filter_map(|(_, token)| self.enrolments.tokens.get(token));
        live.filter(|known| known.expires > now).count()
    }

    fn expired(&self, now: Time) -> impl Iterator<Item = KeyHash> {
        let expired = self.expiries.iter().take_while(move |(at, _)| *at <= now);
        expired.inspect(|_| self.steps.one()).map(|(_, token)| *token)
    }

    pub(super) fn forget_tokens(&mut self, turn: &mut Turn) {
        let tokens: Vec<KeyHash> = self.expired(turn.now).collect();
        if !tokens.is_empty() {
            self.decided(turn, Fact::TokensExpired { tokens });
        }
    }

    /// Enrols a worker for the owner of a token, which is used up. The same again by the token
    /// that enrolled it changes nothing; a new token of the same owner renews name and token and
    /// leaves the worker's standing.
    ///
    /// # Errors
    /// In this order: `IdTaken` (another owner's worker), `WorkerBanned`, `TokenInvalid`, `ShareUsed`.
    pub fn enrol(
        &mut self,
        turn: &mut Turn,
        token: KeyHash,
        worker: WorkerId,
        name: String,
        network: Option<NetworkKey>,
    ) -> Result<(), Rejection> {
        let issued = self.enrolments.tokens.get(&token).filter(|known| known.expires > turn.now);
        let known = self.enrolments.workers.get(&worker);
        match known {
            Some(known) if issued.is_some_and(|issued| issued.owner != known.owner) => {
                return Err(Rejection::IdTaken);
            }
            Some(known) if known.banned => return Err(Rejection::WorkerBanned),
            Some(known) if known.token == token => return Ok(()),
            Some(_) | None => {}
        }
        let is_new = known.is_none();
        let owner = issued.ok_or(Rejection::TokenInvalid)?.owner;
        let own = owner == self.owner;
        let holder = holder_of(owner, own, network);
        if is_new {
            let may = self.places.check(&holder, 1);
            may.map_err(|refused| refused.of(Limited::Workers))?;
        }
        self.decided(turn, Fact::WorkerEnrolled { worker, owner, name, token, own });
        if is_new && let Some(part) = self.parts.remove(&worker) {
            // No fact names the network, so none is known of it after a restart.
            self.places.give_back(part);
            self.parts.insert(worker, self.places.keep(holder, 1));
        }
        Ok(())
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

/// `Ok` if there is room for one more.
fn within(count: usize, most: usize, what: Limited) -> Result<(), Rejection> {
    if count < most {
        return Ok(());
    }
    Err(Rejection::LimitReached { what, limit: u64::try_from(most).unwrap_or(u64::MAX) })
}
