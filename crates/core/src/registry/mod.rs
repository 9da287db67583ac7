//! Worker Registry: who may work, over which session, and whether it has earned trust.
//!
//! Invariants: a worker is enrolled by a token that is used once (the edge makes and checks it; none is
//! kept here until then); nothing of a banned owner's has a session; one worker has at most one
//! session, and an older session never comes back; a silent session is over within
//! [`limits::SESSION_SILENCE_MS`]; that a session is replaced the router hears by the one that replaces
//! it; no session of a banned or removed worker goes on. The [`Enrolments`] change only
//! by [`Registry::apply`], which never decides.
//!
//! Soft, and so lost in a restart: sessions, signs of life, and how a worker's last attempts went; what
//! it has earned and proven are facts. Deliberately absent: what intents hold, queues, leases, prices,
//! whether an owner's account exists, and the proofs of a worker's key, which the edge has checked.

mod days;
mod enrol;
mod enrolments;
mod record;
mod sessions;
mod snapshot;
mod standings;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use mtor_types::Time;
use mtor_types::fact::Fact;
use mtor_types::id::{AccountId, KeyHash, SessionId, WorkerId};
use mtor_types::message::Slots;
use mtor_types::standing::KindName;

use self::enrolments::times_of;
pub use self::enrolments::{Enrolled, Enrolments, Token};
use self::record::Record;
pub use self::record::{Duty, Ejection};
pub(crate) use self::snapshot::EnrolmentsV1;
pub use self::standings::{Canaries, Earned, Proven};
use crate::limits;
use crate::share::{Holder, Part, Rank, Share};
use crate::steps::Steps;
use crate::turn::Turn;

/// The service. Commands are methods: each checks everything, then records facts.
#[derive(Clone, Debug)]
pub struct Registry {
    enrolments: Enrolments,
    /// The realm's own account: what it owns needs no probation.
    owner: AccountId,
    presences: BTreeMap<WorkerId, Presence>,
    /// When each session is over unless its worker is heard before.
    silences: BTreeSet<(Time, WorkerId)>,
    /// When each ejection is over.
    returns: BTreeSet<(Time, WorkerId, KindName)>,
    /// Enrolled workers that are not the realm's own, by the day on which they were seen last.
    strangers: BTreeSet<(u32, WorkerId)>,
    /// Enrolled workers by their owner.
    owned: BTreeSet<(AccountId, WorkerId)>,
    /// Tokens by which those were enrolled that are.
    used: BTreeSet<(AccountId, KeyHash)>,
    /// When what is void is over anyway.
    void_until: BTreeSet<(Time, AccountId)>,
    /// Whom a new day has not seen yet of those that are here: from this one on.
    to_see: Option<WorkerId>,
    /// When each proof that has a time lapses.
    proofs: BTreeSet<(Time, WorkerId, KindName)>,
    /// Of the places for enrolled workers, and the part of each.
    places: Share,
    parts: BTreeMap<WorkerId, Part>,
    steps: Steps,
}

/// What is known of an enrolled worker since this start.
#[derive(Clone, Debug, Default)]
struct Presence {
    session: Option<Session>,
    /// The newest session there was, open or not: older ones, and it once lost, stay away.
    newest: Option<SessionId>,
    /// By kind, of those in which it worked for others since.
    records: BTreeMap<KindName, Record>,
}

#[derive(Clone, Debug)]
struct Session {
    /// As the router was told, but without leases: those speak of one moment only.
    slots: Slots,
    heard: Time,
    /// When it is over unless its worker is heard before.
    over: Time,
}

/// A worker as the sysop sees it.
#[derive(Clone, Copy, Debug)]
pub struct WorkerView<'a> {
    pub worker: WorkerId,
    pub enrolled: &'a Enrolled,
    /// What its session offers, if it has one.
    pub slots: Option<&'a Slots>,
    pub heard: Option<Time>,
}

impl Registry {
    /// `owner` is the realm's own account.
    pub fn new(owner: AccountId) -> Self {
        Self::restore(Enrolments::default(), owner)
    }

    /// From a snapshot; facts after it follow by [`Registry::apply`].
    pub fn restore(enrolments: Enrolments, owner: AccountId) -> Self {
        let proofs = proofs_of(&enrolments);
        let strangers = strangers_of(&enrolments);
        let owned = owned_of(&enrolments);
        let (used, void_until) = (used_of(&enrolments), times_of_void(&enrolments));
        let (presences, silences, returns, to_see, steps) = Default::default();
        let mut places = Share::new(limits::WORKERS_MAX as u64, 1);
        let workers = enrolments.workers.iter();
        let parts = workers.map(|(worker, enrolled)| {
            (*worker, places.keep(holder_of(enrolled.owner, enrolled.own), 1))
        });
        let parts = parts.collect();
        Self {
            places,
            parts,
            enrolments,
            owner,
            presences,
            silences,
            returns,
            strangers,
            owned,
            used,
            void_until,
            to_see,
            proofs,
            steps,
        }
    }

    /// What a snapshot and the state hash cover.
    pub fn durable(&self) -> &Enrolments {
        &self.enrolments
    }

    /// The realm's own account.
    pub fn owner(&self) -> AccountId {
        self.owner
    }

    pub fn worker(&self, worker: WorkerId) -> Option<WorkerView<'_>> {
        self.enrolments.workers.get(&worker).map(|enrolled| self.view(worker, enrolled))
    }

    /// Workers in order of their ids, from the first after `after`.
    pub fn workers(
        &self,
        after: Option<WorkerId>,
        limit: usize,
    ) -> impl Iterator<Item = WorkerView<'_>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let range = self.enrolments.workers.range((from, Bound::Unbounded));
        range.take(limit).map(|(worker, enrolled)| self.view(*worker, enrolled))
    }

    /// Those with a session, in the same order.
    pub fn connected(&self, after: Option<WorkerId>) -> impl Iterator<Item = WorkerView<'_>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let present = self.presences.range((from, Bound::Unbounded));
        let connected = present.filter(|(_, presence)| presence.session.is_some());
        connected.filter_map(|(worker, _)| self.worker(*worker))
    }

    /// Those of one owner, in the same order.
    pub fn workers_of(
        &self,
        owner: AccountId,
        after: Option<WorkerId>,
        limit: usize,
    ) -> impl Iterator<Item = WorkerView<'_>> {
        let first = (owner, WorkerId([0; 32]));
        let from = after.map_or(Bound::Included(first), |after| Bound::Excluded((owner, after)));
        let range = self.owned.range((from, Bound::Unbounded));
        let range = range.take_while(move |(of, _)| *of == owner).take(limit);
        range.filter_map(|(_, worker)| self.worker(*worker))
    }

    /// How often a worker, session, token or record was looked at so far.
    pub fn steps(&self) -> u64 {
        self.steps.count()
    }

    /// What is held of the places for workers, and all there are.
    pub fn places(&self) -> (u64, u64) {
        (self.places.held(), self.places.capacity())
    }

    pub fn workers_count(&self) -> usize {
        self.enrolments.workers.len()
    }

    pub fn sessions_count(&self) -> usize {
        self.silences.len()
    }

    /// When the next session is over, unless its worker is heard before; or an ejection or a proof.
    pub fn next_timeout(&self) -> Option<Time> {
        let silence = self.silences.first().map(|(over, _)| *over);
        [silence, self.next_standing(), self.next_day()].into_iter().flatten().min()
    }

    fn view<'a>(&'a self, worker: WorkerId, enrolled: &'a Enrolled) -> WorkerView<'a> {
        let presence = self.presences.get(&worker);
        let session = presence.and_then(|presence| presence.session.as_ref());
        WorkerView {
            worker,
            enrolled,
            slots: session.map(|session| &session.slots),
            heard: session.map(|session| session.heard),
        }
    }

    /// Applies before it records: the next command of the same batch sees it.
    fn decided(&mut self, turn: &mut Turn, fact: Fact) {
        self.apply(turn.now, &fact);
        turn.record(fact);
    }

    /// O(n): what must be true at any time; for tests, the simulator and start.
    ///
    /// # Errors
    /// What is not as it must be.
    pub fn check_invariants(&self) -> Result<(), String> {
        let mut silences = BTreeSet::new();
        for (worker, presence) in &self.presences {
            let Some(enrolled) = self.enrolments.workers.get(worker) else {
                return Err(format!("{worker} is present but not enrolled"));
            };
            if presence.records.len() > limits::STANDINGS_PER_WORKER_MAX {
                return Err(format!("{worker} has too many records"));
            }
            for (kind, record) in &presence.records {
                if let Duty::Ejected { until, .. } = record.duty()
                    && !self.returns.contains(&(until, *worker, kind.clone()))
                {
                    return Err(format!("{worker} is ejected from {kind:?} for ever"));
                }
            }
            let Some(session) = &presence.session else { continue };
            if enrolled.banned {
                return Err(format!("{worker} is banned and attached"));
            }
            if presence.newest != Some(session.slots.session) {
                return Err(format!("{worker} is attached by an older session"));
            }
            silences.insert((session.over, *worker));
        }
        if silences != self.silences {
            return Err("the index of silences does not agree with the sessions".to_owned());
        }
        if self.proofs != proofs_of(&self.enrolments) {
            return Err("the times of proofs do not agree with the proofs".to_owned());
        }
        if self.used != used_of(&self.enrolments)
            || self.void_until != times_of_void(&self.enrolments)
        {
            return Err("the tokens that are used or void do not agree".to_owned());
        }
        for (worker, presence) in &self.presences {
            let owner = self.enrolments.workers.get(worker).map(|enrolled| enrolled.owner);
            let banned = owner.is_some_and(|owner| self.enrolments.banned.contains(&owner));
            if banned && presence.session.is_some() {
                return Err(format!("{worker} is attached and its owner banned"));
            }
        }
        if self.owned != owned_of(&self.enrolments) {
            return Err("the owners of workers do not agree".to_owned());
        }
        if self.strangers != strangers_of(&self.enrolments) {
            return Err("the days on which workers were seen do not agree".to_owned());
        }
        self.places.check_invariants()?;
        if !self.parts.keys().eq(self.enrolments.workers.keys())
            || usize::try_from(self.places.held()) != Ok(self.parts.len())
        {
            return Err("the places of workers do not agree".to_owned());
        }
        Ok(())
    }
}

/// For whose share a worker counts after a restart: from which network it came no fact says.
fn holder_of(owner: AccountId, own: bool) -> Holder {
    let rank = if own { Rank::Realm } else { Rank::Guest };
    Holder { account: Some(owner), network: None, rank }
}

fn proofs_of(enrolments: &Enrolments) -> BTreeSet<(Time, WorkerId, KindName)> {
    enrolments.workers.iter().flat_map(|(worker, found)| times_of(*worker, found)).collect()
}

fn used_of(enrolments: &Enrolments) -> BTreeSet<(AccountId, KeyHash)> {
    enrolments.workers.values().map(|enrolled| (enrolled.owner, enrolled.token)).collect()
}

fn times_of_void(enrolments: &Enrolments) -> BTreeSet<(Time, AccountId)> {
    enrolments.void.iter().map(|(owner, until)| (*until, *owner)).collect()
}

fn owned_of(enrolments: &Enrolments) -> BTreeSet<(AccountId, WorkerId)> {
    enrolments.workers.iter().map(|(worker, enrolled)| (enrolled.owner, *worker)).collect()
}

fn strangers_of(enrolments: &Enrolments) -> BTreeSet<(u32, WorkerId)> {
    let strangers = enrolments.workers.iter().filter(|(_, enrolled)| !enrolled.own);
    strangers.map(|(worker, enrolled)| (enrolled.seen, *worker)).collect()
}

impl Session {
    fn heard(slots: Slots, now: Time) -> Self {
        Self { slots, heard: now, over: now.after_ms(limits::SESSION_SILENCE_MS) }
    }
}
