//! The durable state of the registry, and how facts change it.

use std::collections::{BTreeMap, BTreeSet};

use mtor_types::Time;
use mtor_types::fact::Fact;
use mtor_types::id::{AccountId, KeyHash, WorkerId};
use mtor_types::standing::KindName;
use serde::{Deserialize, Serialize};

use super::standings::Earned;
use super::{Registry, holder_of, proofs_of};
use crate::limits;

/// What lets a worker be enrolled, as the edge read it: whose it is, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    pub hash: KeyHash,
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
    /// Until when that token was good.
    pub token_expires: Time,
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
    pub(super) workers: BTreeMap<WorkerId, Enrolled>,
    /// Of owners one of whose workers is here no more, or by a later token: all tokens of theirs that
    /// were good until then are void.
    pub(super) void: BTreeMap<AccountId, Time>,
    /// Owners that are shut out.
    pub(super) banned: BTreeSet<AccountId>,
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
    /// yet was today. What is void stays so until its own time.
    pub(crate) fn set_back(&mut self, now: Time, by_ms: u64) {
        let Enrolments { workers, day, .. } = &mut self.enrolments;
        for earned in workers.values_mut().flat_map(|enrolled| enrolled.earned.values_mut()) {
            let until = earned.proven.as_mut().and_then(|proven| proven.until.as_mut());
            until.into_iter().for_each(|until| *until = until.before_ms(by_ms));
            earned.canaries.last_day = earned.canaries.last_day.min(now.day());
        }
        *day = (*day).min(now.day());
        self.proofs = proofs_of(&self.enrolments);
    }

    /// The only way the enrolments change. Facts of other services change nothing.
    pub fn apply(&mut self, at: Time, fact: &Fact) {
        match fact {
            Fact::WorkerEnrolled { worker, owner, name, token, own } => {
                let token = (*token, Time::default());
                self.enrolled(at, *worker, (*owner, *own), name.clone(), token);
            }
            Fact::WorkerEnrolledBy { worker, owner, name, token, expires, own } => {
                let token = (*token, *expires);
                self.enrolled(at, *worker, (*owner, *own), name.clone(), token);
            }
            Fact::OwnerBanned { owner, banned: true } => {
                self.enrolments.banned.insert(*owner);
            }
            Fact::OwnerBanned { owner, banned: false } => {
                self.enrolments.banned.remove(owner);
            }
            Fact::WorkerBanned { worker, banned } => {
                if let Some(enrolled) = self.enrolments.workers.get_mut(worker) {
                    enrolled.banned = *banned;
                }
            }
            Fact::WorkerRemoved { worker } => self.removed(at, *worker),
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
            Fact::TokenIssued { .. }
            | Fact::TokensExpired { .. }
            | Fact::NodeStarted { .. }
            | Fact::MessageSent { .. }
            | Fact::MessageAcknowledged { .. }
            | Fact::MessageTaken { .. }
            | Fact::LedgerOpened { .. }
            | Fact::AccountOpened { .. }
            | Fact::KeyAdded { .. }
            | Fact::KeyRevoked { .. }
            | Fact::AccountBanned { .. }
            | Fact::GrantPaid { .. }
            | Fact::AccountCounted { .. }
            | Fact::GrantGiven { .. }
            | Fact::InvitesIssued { .. }
            | Fact::InviteUsed { .. }
            | Fact::InvitesWithdrawn
            | Fact::AccountLimited { .. }
            | Fact::HoldPlaced { .. }
            | Fact::HoldResolved { .. }
            | Fact::IntentOpenedV1 { .. }
            | Fact::IntentOpened { .. }
            | Fact::IntentEnded { .. } => {}
        }
    }

    fn removed(&mut self, at: Time, worker: WorkerId) {
        self.index_proofs(worker, false);
        if let Some(part) = self.parts.remove(&worker) {
            self.places.give_back(part);
        }
        if let Some(before) = self.enrolments.workers.remove(&worker) {
            self.strangers.remove(&(before.seen, worker));
            self.owned.remove(&(before.owner, worker));
            self.token_is_void(at, &before);
        }
    }

    /// The token of a worker that is here no more, or by a later one, enrols nobody else.
    fn token_is_void(&mut self, at: Time, before: &Enrolled) {
        self.used.remove(&(before.owner, before.token));
        for _ in 0..limits::VOID_FORGOTTEN_AT_ONCE {
            let Some((until, owner)) = self.void_until.first().copied() else { break };
            if until > at {
                break;
            }
            self.steps.one();
            self.void_until.pop_first();
            self.enrolments.void.remove(&owner);
        }
        if before.token_expires <= at {
            return;
        }
        let until = self.enrolments.void.entry(before.owner).or_default();
        self.void_until.remove(&(*until, before.owner));
        *until = before.token_expires.max(*until);
        self.void_until.insert((*until, before.owner));
    }

    fn enrolled(
        &mut self,
        at: Time,
        worker: WorkerId,
        (owner, own): (AccountId, bool),
        name: String,
        (token, token_expires): (KeyHash, Time),
    ) {
        // Enrolled again by the same owner: its standing stays.
        let before = self.enrolments.workers.remove(&worker).map(|before| {
            self.strangers.remove(&(before.seen, worker));
            self.owned.remove(&(before.owner, worker));
            self.token_is_void(at, &before);
            let Enrolled { banned, served, earned, .. } = before;
            (banned, served, earned)
        });
        let (banned, served, earned) = before.unwrap_or_default();
        let seen = self.enrolments.days;
        self.owned.insert((owner, worker));
        self.used.insert((owner, token));
        if !self.parts.contains_key(&worker) {
            let part = self.places.keep(holder_of(owner, own), 1);
            self.parts.insert(worker, part);
        }
        if !own {
            self.strangers.insert((seen, worker));
        }
        let enrolled =
            Enrolled { owner, name, token, token_expires, own, banned, served, seen, earned };
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
