//! The durable state of the registry, and how facts change it.

use std::collections::BTreeMap;

use mtor_types::Time;
use mtor_types::fact::Fact;
use mtor_types::id::{AccountId, KeyHash, WorkerId};
use mtor_types::standing::KindName;
use serde::{Deserialize, Serialize};

use super::standings::Earned;
use super::{Registry, holder_of, proofs_of, tokens_of};

/// An enrolment token that waits to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    pub owner: AccountId,
    pub expires: Time,
}

/// A worker that may open sessions, unless it is banned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolled {
    pub owner: AccountId,
    pub name: String,
    /// The token that enrolled it: the same request again is told yes again.
    pub token: KeyHash,
    /// Owned by the realm's own account.
    pub own: bool,
    pub banned: bool,
    /// It had the good results that proved a worker in the first releases. They prove nothing.
    pub served: bool,
    /// The last of the realm's days on which it was here.
    pub seen: u32,
    /// By kind, of those in which anything is earned or proven.
    pub earned: BTreeMap<KindName, Earned>,
}

/// Everything of the registry that outlives a restart: the fold of its facts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolments {
    pub(super) tokens: BTreeMap<KeyHash, Token>,
    pub(super) workers: BTreeMap<WorkerId, Enrolled>,
    /// The last day on which the realm ran, UTC, and how many there were.
    pub(super) day: u64,
    pub(super) days: u32,
}

/// When each proof of a worker lapses.
pub(super) fn times_of(
    worker: WorkerId,
    enrolled: &Enrolled,
) -> impl Iterator<Item = (Time, WorkerId, KindName)> {
    let earned = enrolled.earned.iter();
    earned.filter_map(move |(kind, earned)| Some((earned.proven?.until?, worker, kind.clone())))
}

impl Registry {
    /// Time goes back by so much: tokens and proofs last as long as before, and a day that has not come
    /// yet was today.
    pub(crate) fn set_back(&mut self, now: Time, by_ms: u64) {
        let Enrolments { tokens, workers, day, .. } = &mut self.enrolments;
        for token in tokens.values_mut() {
            token.expires = token.expires.before_ms(by_ms);
        }
        for earned in workers.values_mut().flat_map(|enrolled| enrolled.earned.values_mut()) {
            let until = earned.proven.as_mut().and_then(|proven| proven.until.as_mut());
            until.into_iter().for_each(|until| *until = until.before_ms(by_ms));
            earned.canaries.last_day = earned.canaries.last_day.min(now.day());
        }
        *day = (*day).min(now.day());
        self.proofs = proofs_of(&self.enrolments);
        (_, self.expiries) = tokens_of(&self.enrolments);
    }

    /// The only way the enrolments change. Facts of other services change nothing.
    pub fn apply(&mut self, at: Time, fact: &Fact) {
        match fact {
            Fact::TokenIssued { token, owner, expires } => {
                self.forget_token(*token);
                let issued = Token { owner: *owner, expires: *expires };
                self.enrolments.tokens.insert(*token, issued);
                self.issued.insert((*owner, *token));
                self.expiries.insert((*expires, *token));
            }
            Fact::WorkerEnrolled { worker, owner, name, token, own } => {
                self.enrolled(*worker, (*owner, *own), name.clone(), *token);
            }
            Fact::WorkerBanned { worker, banned } => {
                if let Some(enrolled) = self.enrolments.workers.get_mut(worker) {
                    enrolled.banned = *banned;
                }
            }
            Fact::WorkerRemoved { worker } => {
                self.index_proofs(*worker, false);
                if let Some(part) = self.parts.remove(worker) {
                    self.places.give_back(part);
                }
                if let Some(before) = self.enrolments.workers.remove(worker) {
                    self.strangers.remove(&(before.seen, *worker));
                    self.owned.remove(&(before.owner, *worker));
                }
            }
            Fact::WorkerSeen { worker } => self.was_seen(*worker),
            Fact::DayBegan { day } => {
                self.enrolments.day = *day;
                self.enrolments.days = self.enrolments.days.saturating_add(1);
            }
            Fact::WorkerServed { worker, passed } => {
                if let Some(enrolled) = self.enrolments.workers.get_mut(worker) {
                    enrolled.served = *passed && !enrolled.own;
                }
            }
            Fact::SlotsEarned { worker, .. }
            | Fact::WorkerEjected { worker, .. }
            | Fact::CanaryJudged { worker, .. }
            | Fact::WorkerProven { worker, .. }
            | Fact::ProofLapsed { worker, .. }
            | Fact::EjectionTakenBack { worker, .. } => {
                self.index_proofs(*worker, false);
                if let Some(enrolled) = self.enrolments.workers.get_mut(worker) {
                    enrolled.apply(at, fact);
                }
                self.index_proofs(*worker, true);
            }
            Fact::TokensExpired { tokens } => {
                for token in tokens {
                    self.steps.one();
                    self.forget_token(*token);
                }
            }
            Fact::NodeStarted { .. }
            | Fact::MessageSent { .. }
            | Fact::MessageAcknowledged { .. }
            | Fact::MessageTaken { .. }
            | Fact::LedgerOpened { .. }
            | Fact::AccountOpened { .. }
            | Fact::KeyAdded { .. }
            | Fact::KeyRevoked { .. }
            | Fact::AccountBanned { .. }
            | Fact::GrantPaid { .. }
            | Fact::HoldPlaced { .. }
            | Fact::HoldResolved { .. }
            | Fact::IntentOpenedV1 { .. }
            | Fact::IntentOpened { .. }
            | Fact::IntentEnded { .. } => {}
        }
    }

    fn forget_token(&mut self, token: KeyHash) {
        let Some(known) = self.enrolments.tokens.remove(&token) else { return };
        self.issued.remove(&(known.owner, token));
        self.expiries.remove(&(known.expires, token));
    }

    fn enrolled(
        &mut self,
        worker: WorkerId,
        (owner, own): (AccountId, bool),
        name: String,
        token: KeyHash,
    ) {
        self.forget_token(token);
        // Enrolled again by the same owner: its standing stays.
        let before = self.enrolments.workers.remove(&worker).map(|before| {
            self.strangers.remove(&(before.seen, worker));
            self.owned.remove(&(before.owner, worker));
            let Enrolled { banned, served, earned, .. } = before;
            (banned, served, earned)
        });
        let (banned, served, earned) = before.unwrap_or_default();
        let seen = self.enrolments.days;
        self.owned.insert((owner, worker));
        if !self.parts.contains_key(&worker) {
            let part = self.places.keep(holder_of(owner, own, None), 1);
            self.parts.insert(worker, part);
        }
        if !own {
            self.strangers.insert((seen, worker));
        }
        let enrolled = Enrolled { owner, name, token, own, banned, served, seen, earned };
        self.enrolments.workers.insert(worker, enrolled);
    }

    /// Puts the times of a worker's proofs into their index, or takes them out: at most
    /// `STANDINGS_PER_WORKER_MAX`.
    fn index_proofs(&mut self, worker: WorkerId, is_there: bool) {
        let Some(enrolled) = self.enrolments.workers.get(&worker) else { return };
        for time in times_of(worker, enrolled) {
            self.steps.one();
            if is_there {
                self.proofs.insert(time);
            } else {
                self.proofs.remove(&time);
            }
        }
    }

    fn was_seen(&mut self, worker: WorkerId) {
        let days = self.enrolments.days;
        let Some(enrolled) = self.enrolments.workers.get_mut(&worker) else { return };
        let before = std::mem::replace(&mut enrolled.seen, days);
        if self.strangers.remove(&(before, worker)) {
            self.strangers.insert((days, worker));
        }
    }
}
