//! Tokens, enrolment, bans and removal: the commands that change what is durable.

use mtor_types::Rejection;
use mtor_types::fact::Fact;
use mtor_types::id::{AccountId, KeyHash, WorkerId};
use mtor_types::rejection::Limited;

use super::{Membership, Registry};
use crate::effect::CloseReason;
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
        // At most `TOKENS_MAX` to look at.
        let live = self.enrolments.tokens.iter().filter(|(_, known)| known.expires > now);
        let (mut all, mut of_owner) = (0_usize, 0_usize);
        for (hash, known) in live {
            if *hash == token {
                return if known.owner == owner { Ok(()) } else { Err(Rejection::IdTaken) };
            }
            all = all.saturating_add(1);
            of_owner = of_owner.saturating_add(usize::from(known.owner == owner));
        }
        within(of_owner, limits::TOKENS_PER_ACCOUNT_MAX, Limited::Tokens)?;
        // Strangers leave room for the realm itself.
        let kept = if owner == self.owner { 0 } else { limits::TOKENS_PER_ACCOUNT_MAX };
        within(all, limits::TOKENS_MAX.saturating_sub(kept), Limited::Tokens)?;

        let expired = self.enrolments.tokens.iter().filter(|(_, known)| known.expires <= now);
        let tokens: Vec<_> = expired.map(|(hash, _)| *hash).collect();
        if !tokens.is_empty() {
            self.decided(turn, Fact::TokensExpired { tokens });
        }
        let expires = now.after_ms(limits::TOKEN_LIFE_MS);
        self.decided(turn, Fact::TokenIssued { token, owner, expires });
        Ok(())
    }

    /// Enrols a worker for the owner of a token, which is used up. The same again by the token
    /// that enrolled it changes nothing; a new token of the same owner renews name and token and
    /// leaves the worker's standing.
    ///
    /// # Errors
    /// In this order: `IdTaken` (another owner's worker), `WorkerBanned`, `LimitReached`,
    /// `TokenInvalid`.
    pub fn enrol(
        &mut self,
        turn: &mut Turn,
        token: KeyHash,
        worker: WorkerId,
        name: String,
    ) -> Result<(), Rejection> {
        let issued = self.enrolments.tokens.get(&token).filter(|known| known.expires > turn.now);
        let known = self.enrolments.workers.get(&worker);
        match known {
            Some(known) if issued.is_some_and(|issued| issued.owner != known.owner) => {
                return Err(Rejection::IdTaken);
            }
            Some(known) if known.banned => return Err(Rejection::WorkerBanned),
            Some(known) if known.token == token => return Ok(()),
            Some(_) => {}
            None => within(self.enrolments.workers.len(), limits::WORKERS_MAX, Limited::Workers)?,
        }
        let owner = issued.ok_or(Rejection::TokenInvalid)?.owner;
        let own = owner == self.owner;
        self.decided(turn, Fact::WorkerEnrolled { worker, owner, name, token, own });
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
        if let Some(close) = self.lose_session(turn, worker, CloseReason::Removed) {
            // Not before the removal is synced.
            turn.durable(close);
        }
        if let Some(presence) = self.presences.remove(&worker) {
            for (kind, record) in presence.records {
                if let Membership::Ejected { until, .. } = record.membership() {
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
