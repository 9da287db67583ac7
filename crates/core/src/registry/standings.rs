//! What a worker earns and proves in each kind, and how it is told to the router.
//!
//! Earned slots and proofs are facts: a restart of the realm takes nobody's. What was bad lately is
//! not, and is forgiven by a restart. Only work for others than its owner counts, and payers prove
//! nothing: they may be its owner's friends.

use mtor_types::fact::Fact;
use mtor_types::message::{Message, Offered, Service, Slots};
use mtor_types::mutant;
use mtor_types::standing::{KindName, Mark, Proof, Standing, Worked};
use mtor_types::{Attempt, Rejection, Time, WorkerId};
use serde::{Deserialize, Serialize};

use super::record::{Before, Duty, Record};
use super::{Enrolled, Registry};
use crate::limits;
use crate::turn::Turn;

/// What a worker's kind has that outlives a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Earned {
    /// Slots that are used for others.
    pub slots: u32,
    pub canaries: Canaries,
    pub proven: Option<Proven>,
}

/// Right answers in a row to the realm's own test intents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Canaries {
    pub right: u32,
    /// On so many days, the last of which this was.
    pub days: u32,
    pub last_day: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proven {
    pub by: Proof,
    pub until: Option<Time>,
    /// Since then.
    pub ejections: u32,
}

impl Default for Earned {
    fn default() -> Self {
        let (canaries, proven) = (Canaries::default(), None);
        Self { slots: limits::EARNED_FIRST, canaries, proven }
    }
}

impl Enrolled {
    /// A kind's, for a fact that changes it. There is room for one more: what is proven in nothing
    /// and has earned least is forgotten for it. That follows from the facts before and from one limit,
    /// so that a replay forgets the same; it is part of the fold and decides nothing that is not in it.
    fn earned_mut(&mut self, kind: &KindName) -> &mut Earned {
        if !self.earned.contains_key(kind) && self.earned.len() >= limits::STANDINGS_PER_WORKER_MAX
        {
            let least = self.earned.iter().min_by_key(|(kind, earned)| {
                (earned.proven.is_some(), earned.slots, earned.canaries.right, *kind)
            });
            if let Some(least) = least.map(|(kind, _)| kind.clone()) {
                self.earned.remove(&least);
            }
        }
        self.earned.entry(kind.clone()).or_default()
    }

    pub(super) fn earned(&self, kind: &KindName) -> Earned {
        self.earned.get(kind).copied().unwrap_or_default()
    }

    /// The facts about standings.
    pub(super) fn apply(&mut self, at: Time, fact: &Fact) {
        #[expect(clippy::wildcard_enum_match_arm, reason = "other facts are of other matters")]
        match fact {
            Fact::SlotsEarned { kind, slots, .. } => self.earned_mut(kind).slots = *slots,
            Fact::WorkerEjected { kind, slots, .. } => {
                let earned = self.earned_mut(kind);
                earned.slots = *slots;
                if let Some(proven) = &mut earned.proven {
                    proven.ejections = proven.ejections.saturating_add(1);
                }
            }
            Fact::CanaryJudged { kind, right, .. } => {
                let canaries = &mut self.earned_mut(kind).canaries;
                if !right {
                    *canaries = Canaries::default();
                    return;
                }
                canaries.right = canaries.right.saturating_add(1);
                let day = at.day();
                if canaries.days == 0 || canaries.last_day != day {
                    canaries.days = canaries.days.saturating_add(1);
                }
                canaries.last_day = day;
            }
            Fact::WorkerProven { kind, proof, until, .. } => {
                let proven = Proven { by: *proof, until: *until, ejections: 0 };
                self.earned_mut(kind).proven = Some(proven);
            }
            Fact::EjectionTakenBack { kind, slots, proven, .. } => {
                let earned = self.earned_mut(kind);
                earned.slots = *slots;
                earned.proven =
                    proven.map(|(by, until, ejections)| Proven { by, until, ejections });
            }
            Fact::ProofLapsed { kind, .. } => {
                let earned = self.earned_mut(kind);
                (earned.proven, earned.canaries) = (None, Canaries::default());
            }
            _ => {}
        }
    }
}

impl Registry {
    /// Tells the router what a worker's session offers and how it stands in that.
    pub(super) fn tell(&self, turn: &mut Turn, slots: Slots) {
        let worker = slots.worker;
        let kinds = slots.kinds().into_keys().inspect(|_| self.steps.one());
        let standings = kinds.filter_map(|kind| self.standing(worker, kind)).collect();
        turn.send(Service::Router, Message::Offered(Offered { slots, standings }));
    }

    pub(super) fn tell_again(&self, turn: &mut Turn, worker: WorkerId) {
        let presence = self.presences.get(&worker);
        if let Some(session) = presence.and_then(|presence| presence.session.as_ref()) {
            self.tell(turn, session.slots.clone());
        }
    }

    /// How a worker stands in a kind; `None` if it is not enrolled.
    pub fn standing(&self, worker: WorkerId, kind: KindName) -> Option<Standing> {
        let enrolled = self.enrolments.workers.get(&worker)?;
        let earned = enrolled.earned(&kind);
        let duty = self.duty(worker, &kind);
        let slots = match duty {
            _ if enrolled.own => u32::MAX,
            Duty::Probing => 1,
            Duty::Full | Duty::Ejected { .. } => earned.slots,
        };
        let ejected = matches!(duty, Duty::Ejected { .. });
        let proven = enrolled.own || earned.proven.is_some();
        Some(Standing { kind, proven, slots, ejected })
    }

    pub fn duty(&self, worker: WorkerId, kind: &KindName) -> Duty {
        let presence = self.presences.get(&worker);
        let record = presence.and_then(|presence| presence.records.get(kind));
        record.map_or(Duty::Full, Record::duty)
    }

    /// An attempt for another than the worker's owner ended.
    pub(super) fn worked(&mut self, turn: &mut Turn, worked: &Worked) {
        let Worked { worker, kind, attempt, branch, mark, .. } = worked;
        let worker = *worker;
        if !self.enrolments.workers.contains_key(&worker) {
            return;
        }
        let record = self.record_of(turn, worker, kind);
        let ejected = match mark {
            Mark::Good => return self.did_well(turn, worker, kind, *attempt),
            Mark::Bad => record.bad(turn.now, *attempt, *branch),
            Mark::Silent => record.silent(turn.now, *attempt, *branch),
            Mark::Confirmed => record.confirm(turn.now, *attempt),
            Mark::Excused => {
                if !mutant!("nothing-is-excused") && record.excuse(*attempt) {
                    let before = record.take_before();
                    self.take_back(turn, worker, kind, before);
                }
                return;
            }
        };
        if ejected {
            self.ejected(turn, worker, kind);
        }
    }

    /// A worker's record in a kind, for which there is always room: what it does not offer now says least
    /// and is forgotten first, so that no invented kind takes the place of one that it lives by.
    fn record_of(&mut self, turn: &mut Turn, worker: WorkerId, kind: &KindName) -> &mut Record {
        let presence = self.presences.entry(worker).or_default();
        if !presence.records.contains_key(kind)
            && presence.records.len() >= limits::STANDINGS_PER_WORKER_MAX
        {
            let session = presence.session.as_ref();
            let offered = session.map(|session| session.slots.kinds()).unwrap_or_default();
            let least =
                presence.records.iter().inspect(|_| self.steps.one()).min_by_key(
                    |(kind, record)| (offered.contains_key(*kind), record.weight(), *kind),
                );
            let least = least.map(|(kind, record)| (kind.clone(), record.duty()));
            if let Some((least, duty)) = least {
                presence.records.remove(&least);
                if let Duty::Ejected { until, .. } = duty {
                    self.returns.remove(&(until, worker, least));
                }
                if duty != Duty::Full {
                    // With its record it stands as any other there.
                    self.tell_again(turn, worker);
                }
            }
        }
        let presence = self.presences.entry(worker).or_default();
        presence.records.entry(kind.clone()).or_default()
    }

    fn did_well(&mut self, turn: &mut Turn, worker: WorkerId, kind: &KindName, attempt: Attempt) {
        let record = self.record_of(turn, worker, kind);
        let back = record.good(attempt);
        let row = record.row();
        if back {
            self.tell_again(turn, worker);
        } else {
            self.grow(turn, worker, kind, row);
        }
    }

    /// As many good results in a row as there are slots: twice as many from now on, up to those that
    /// it has.
    fn grow(&mut self, turn: &mut Turn, worker: WorkerId, kind: &KindName, row: u32) {
        let Some(enrolled) = self.enrolments.workers.get(&worker) else { return };
        let slots = enrolled.earned(kind).slots;
        let presence = self.presences.get(&worker);
        let session = presence.and_then(|presence| presence.session.as_ref());
        let most = session.and_then(|session| session.slots.kinds().get(kind).copied());
        if enrolled.own || row < slots || most.is_none_or(|most| most <= slots) {
            return;
        }
        if let Some(record) = self.record_mut(worker, kind) {
            record.begin_row();
        }
        let (kind, slots) = (kind.clone(), slots.saturating_mul(2));
        self.decided(turn, Fact::SlotsEarned { worker, kind, slots });
        self.tell_again(turn, worker);
    }

    fn record_mut(&mut self, worker: WorkerId, kind: &KindName) -> Option<&mut Record> {
        self.presences.get_mut(&worker)?.records.get_mut(kind)
    }

    fn ejected(&mut self, turn: &mut Turn, worker: WorkerId, kind: &KindName) {
        if let Duty::Ejected { until, .. } = self.duty(worker, kind) {
            self.returns.insert((until, worker, kind.clone()));
        }
        let Some(enrolled) = self.enrolments.workers.get(&worker) else { return };
        let (own, earned) = (enrolled.own, enrolled.earned(kind));
        if !own {
            if let Some(record) = self.record_mut(worker, kind) {
                record.had_before(earned);
            }
            let halved = (earned.slots / 2).max(1);
            let slots = if mutant!("ejection-costs-no-slots") { earned.slots } else { halved };
            let kind = kind.clone();
            self.decided(turn, Fact::WorkerEjected { worker, kind, slots });
        }
        let proven =
            self.enrolments.workers.get(&worker).and_then(|found| found.earned(kind).proven);
        let lapses = |proven: Proven| match proven.by {
            Proof::Vouch => {
                proven.ejections >= limits::VOUCH_EJECTIONS && !mutant!("vouch-outlives-ejections")
            }
            Proof::Canaries => false,
        };
        if proven.is_some_and(lapses) {
            self.lapse(turn, worker, kind);
        }
        self.tell_again(turn, worker);
    }

    /// It is ejected no more, for it should not have been, and has again what that took.
    fn take_back(
        &mut self,
        turn: &mut Turn,
        worker: WorkerId,
        kind: &KindName,
        before: Option<Before>,
    ) {
        let now = self.enrolments.workers.get(&worker).map(|enrolled| enrolled.earned(kind));
        if let Some((Before { earned, proof_stands }, now)) = before.zip(now) {
            let slots = earned.slots;
            let proven = if proof_stands { earned.proven } else { now.proven };
            let proven = proven.map(|proven| (proven.by, proven.until, proven.ejections));
            let kind = kind.clone();
            self.decided(turn, Fact::EjectionTakenBack { worker, kind, slots, proven });
        }
        self.tell_again(turn, worker);
    }

    /// Its proof is another's word by now, which is not taken back with an ejection.
    fn proof_changes(&mut self, worker: WorkerId, kind: &KindName) {
        if let Some(record) = self.record_mut(worker, kind) {
            record.proof_changes();
        }
    }

    fn lapse(&mut self, turn: &mut Turn, worker: WorkerId, kind: &KindName) {
        self.decided(turn, Fact::ProofLapsed { worker, kind: kind.clone() });
    }

    /// What a sysop says of a worker: proven for a while, or no longer. The same again begins the time
    /// anew.
    ///
    /// # Errors
    /// `UnknownWorker`.
    pub fn vouch(
        &mut self,
        turn: &mut Turn,
        worker: WorkerId,
        kind: KindName,
        vouched: bool,
    ) -> Result<(), Rejection> {
        self.proof_changes(worker, &kind);
        let enrolled = self.enrolments.workers.get(&worker).ok_or(Rejection::UnknownWorker)?;
        if !vouched {
            if enrolled.earned(&kind).proven.is_some() {
                self.lapse(turn, worker, &kind);
                self.tell_again(turn, worker);
            }
            return Ok(());
        }
        self.prove(turn, worker, kind, Proof::Vouch, Some(turn.now.after_ms(limits::VOUCH_MS)));
        Ok(())
    }

    fn prove(
        &mut self,
        turn: &mut Turn,
        worker: WorkerId,
        kind: KindName,
        proof: Proof,
        until: Option<Time>,
    ) {
        self.decided(turn, Fact::WorkerProven { worker, kind, proof, until });
        self.tell_again(turn, worker);
    }

    /// An answer to one of the realm's own test intents was looked at. By this it counts, and not by its
    /// end: a wrong one in time is no good result.
    ///
    /// # Errors
    /// `UnknownWorker`.
    pub fn judge_canary(
        &mut self,
        turn: &mut Turn,
        worker: WorkerId,
        kind: KindName,
        right: bool,
    ) -> Result<(), Rejection> {
        let enrolled = self.enrolments.workers.get(&worker).ok_or(Rejection::UnknownWorker)?;
        let by = enrolled.earned(&kind).proven.map(|proven| proven.by);
        let now = turn.now;
        if right {
            // It was asked and answered within the time that an ejection lasts: never begun before one.
            self.did_well(turn, worker, &kind, Attempt(u64::MAX));
            if by == Some(Proof::Canaries) {
                return Ok(());
            }
        }
        self.proof_changes(worker, &kind);
        self.decided(turn, Fact::CanaryJudged { worker, kind: kind.clone(), right });
        if !right && self.record_of(turn, worker, &kind).wrong(now) {
            self.ejected(turn, worker, &kind);
        }
        let enrolled = self.enrolments.workers.get(&worker).ok_or(Rejection::UnknownWorker)?;
        let Canaries { right: row, days, .. } = enrolled.earned(&kind).canaries;
        let days = if mutant!("proven-in-a-day") { limits::CANARY_DAYS } else { days };
        if row >= limits::CANARIES_RIGHT && days >= limits::CANARY_DAYS {
            self.prove(turn, worker, kind, Proof::Canaries, None);
        } else if !right && by == Some(Proof::Canaries) && !mutant!("wrong-answers-cost-no-proof") {
            self.proof_changes(worker, &kind);
            self.lapse(turn, worker, &kind);
            self.tell_again(turn, worker);
        }
        Ok(())
    }

    /// Ejections that are over, and proofs.
    pub(super) fn tick_standings(&mut self, turn: &mut Turn) {
        while let Some((at, worker, kind)) = self.returns.first().cloned() {
            if at > turn.now {
                break;
            }
            self.returns.pop_first();
            self.steps.one();
            let now = turn.now;
            if self.record_mut(worker, &kind).is_some_and(|record| record.probe(now)) {
                self.tell_again(turn, worker);
            }
        }
        while let Some((at, worker, kind)) = self.proofs.first().cloned() {
            if at > turn.now {
                break;
            }
            self.steps.one();
            self.proof_changes(worker, &kind);
            self.lapse(turn, worker, &kind);
            self.tell_again(turn, worker);
        }
    }

    pub(super) fn next_standing(&self) -> Option<Time> {
        let firsts = [self.returns.first(), self.proofs.first()].into_iter().flatten();
        firsts.map(|(at, _, _)| *at).min()
    }
}
