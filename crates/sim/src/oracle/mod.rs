//! What must be true, checked against what was synced and what was told, by means of its own: its
//! books are kept from facts and share nothing with the accountant's, its floor from commands and
//! effects and shares nothing with the router's.

mod books;
pub(crate) mod fair;
mod floor;
mod keys;
mod stand;

use std::collections::{BTreeMap, BTreeSet};

use mtor_core::effect::{Assignment, CloseReason};
use mtor_core::limits;
use mtor_core::{Command, Effect, When};
use mtor_types::fact::{Batch, Fact};
use mtor_types::intent::{EndRequest, Idempotency, IntentMeta};
use mtor_types::message::Slots;
use mtor_types::worker::LeaseClaim;
use mtor_types::{AccountId, Attempt, Digest, Fence, IntentId, Price, SessionId, WorkerId};

use self::books::Books;
pub(crate) use self::floor::Floor;
use self::keys::Bound;
pub(crate) use self::stand::{Class, Standing, Stands};
use crate::edge::News;
use crate::scenario::{HEARD_LATE_MS, LEASE_LATE_MS, LIST};

/// How a submission stands with its client.
#[derive(Clone, Debug)]
pub(crate) struct Submission {
    durable: bool,
    /// May begin anew after a piece.
    restart: bool,
    key: Option<Idempotency>,
    edge_boot: u64,
    pub(crate) admitted: bool,
    /// Refused, joined or ended: nothing more is owed to the client.
    pub(crate) over: bool,
}

/// A lease that was given out.
#[derive(Clone, Copy, Debug)]
struct Held {
    worker: WorkerId,
    /// Given out or renewed.
    since: u64,
    /// From when it lasts: later by what its realm stood still.
    at: u64,
}

/// What a node decided something by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    Command,
    Tick,
}

/// A command that changes who works on what.
pub(crate) enum Judged {
    Submitted(Box<IntentMeta>),
    Attached(Slots),
    Detached(WorkerId, SessionId),
    Renewed {
        worker: WorkerId,
        leases: Vec<LeaseClaim>,
        /// Its standing may change by it.
        silent: bool,
    },
    Stopped(EndRequest),
    Standing(WorkerId),
}

#[derive(Debug, Default)]
pub(crate) struct Oracle {
    pub(crate) books: Books,
    pub(crate) floor: Floor,
    pub(crate) bound: Bound,
    /// One node does it all: what it decides is known at once.
    whole: bool,
    opened: BTreeSet<IntentId>,
    intent_ended: BTreeSet<IntentId>,
    keys: BTreeMap<Digest, IntentId>,
    pub(crate) submissions: BTreeMap<IntentId, Submission>,
    attempts: BTreeSet<Attempt>,
    fences: BTreeSet<Fence>,
    /// Who has had an intent in which attempt, and whether that one was lost.
    tried: BTreeMap<IntentId, Vec<(WorkerId, Attempt, bool)>>,
    /// Leases given out, by when they were last renewed; kept only where one node does it all.
    leases: BTreeMap<(IntentId, Attempt), Held>,
    /// The same, by the time from which they last.
    renewed: BTreeSet<(u64, IntentId, Attempt)>,
    pub(crate) ends: BTreeMap<&'static str, u64>,
    /// Slot-milliseconds given to each account: (from, until, account).
    pub(crate) service: Vec<(u64, u64, AccountId)>,
    serving: BTreeMap<(IntentId, Attempt), (u64, AccountId)>,
    /// The attempt a client reads, and the piece it expects next.
    streams: BTreeMap<IntentId, (Attempt, u64)>,
    settled: BTreeSet<IntentId>,
    /// When a worker last said in a session that it lives.
    spoken: BTreeMap<SessionId, u64>,
}

impl Oracle {
    pub(crate) fn new(owners: BTreeMap<WorkerId, AccountId>, whole: bool) -> Self {
        Self { books: Books::new(owners), whole, ..Self::default() }
    }

    /// A batch was synced.
    pub(crate) fn synced(&mut self, batch: &Batch) -> Result<(), String> {
        batch.facts.iter().try_for_each(|fact| self.fact(fact))
    }

    fn fact(&mut self, fact: &Fact) -> Result<(), String> {
        self.books.fact(fact)?;
        #[expect(clippy::wildcard_enum_match_arm, reason = "money is judged by the books")]
        match fact {
            Fact::IntentOpened { meta, .. } => {
                let meta = meta.current();
                if !self.opened.insert(meta.id) {
                    return Err(format!("{} was opened twice", meta.id));
                }
                if let Some(key) = meta.idempotency
                    && let Some(other) = self.keys.insert(key.key, meta.id)
                {
                    return Err(format!("{other} and {} were both opened for one key", meta.id));
                }
                Ok(())
            }
            Fact::IntentEnded { intent } => {
                if !self.opened.contains(intent) || !self.intent_ended.insert(*intent) {
                    return Err(format!("{intent} ended twice or without being opened"));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A node gave out a lease.
    pub(crate) fn granted(
        &mut self,
        grant: &Assignment,
        now: u64,
        fresh: bool,
    ) -> Result<(), String> {
        let intent = grant.meta.id;
        if fresh && !self.attempts.insert(grant.attempt) {
            return Err(format!("attempt {} is given out twice", grant.attempt));
        }
        if !self.fences.insert(grant.fence) {
            return Err(format!("fence {} is given out twice", grant.fence));
        }
        let Price { amount, per } = grant.meta.band.top(LIST);
        if grant.price.per != per || grant.price.amount > amount {
            return Err(format!("{intent} is given out at {:?}, above {amount}", grant.price));
        }
        self.books.granted(grant);
        self.lease(intent, grant.attempt, Some((grant.worker, now)));
        // One that was lost and came back is lost no more.
        let again = self.tried.get_mut(&intent).into_iter().flatten();
        again.filter(|(_, of, _)| *of == grant.attempt).for_each(|entry| entry.2 = false);
        self.serving.insert((intent, grant.attempt), (now, grant.meta.account));
        Ok(())
    }

    /// A fresh attempt is on a worker that has not failed the intent, and there are not many. A lost
    /// one is nobody's failure. Where services are nodes of their own a repeated message may begin an
    /// intent anew that is over: work is lost by that, and no money.
    pub(crate) fn retried(&mut self, grant: &Assignment) -> Result<(), String> {
        let intent = grant.meta.id;
        let tried = self.tried.entry(intent).or_default();
        let failed = || tried.iter().filter(|(_, _, lost)| !lost);
        if failed().any(|(worker, _, _)| *worker == grant.worker) {
            return Err(format!("{intent} is given to {} a second time", grant.worker));
        }
        if failed().count() >= limits::ATTEMPTS_MAX {
            return Err(format!("{intent} was failed by {} workers", failed().count()));
        }
        tried.push((grant.worker, grant.attempt, false));
        if tried.len() > usize::try_from(limits::DISPATCHES_MAX).unwrap_or(usize::MAX) {
            return Err(format!("{intent} is given out {} times", tried.len()));
        }
        Ok(())
    }

    /// What a node decided, in order: by a command, by a tick or at its start.
    pub(crate) fn decided(
        &mut self,
        effects: &[(When, Effect)],
        (now, clock): (u64, u64),
        by: By,
        stands: Stands<'_>,
    ) -> Result<(), String> {
        self.floor.clock = clock;
        if self.whole && by == By::Tick {
            self.kept_leases(effects, now)?;
        }
        for (_, effect) in effects {
            #[expect(clippy::wildcard_enum_match_arm, reason = "the others end something")]
            match effect {
                Effect::Assign(grant) => {
                    self.granted(grant, now, true)?;
                    if self.whole {
                        self.retried(grant)?;
                    }
                }
                Effect::Adopt(grant) => self.granted(grant, now, false)?,
                other => self.emitted(other, now)?,
            }
            if self.whole {
                self.floor.effect(effect, stands)?;
            }
        }
        if self.whole { self.floor.decided(stands) } else { Ok(()) }
    }

    /// Nobody is taken what it renewed in time, unless its session is over.
    fn kept_leases(&self, effects: &[(When, Effect)], now: u64) -> Result<(), String> {
        let mut closed = BTreeSet::new();
        for (_, effect) in effects {
            #[expect(clippy::wildcard_enum_match_arm, reason = "only these take a lease")]
            match effect {
                Effect::CloseSession { worker, .. } => {
                    closed.insert(*worker);
                }
                Effect::Revoke { worker, intent, attempt, .. } if !closed.contains(worker) => {
                    let held = self.leases.get(&(*intent, *attempt));
                    let held = held.filter(|held| held.worker == *worker);
                    let good = |held: &&Held| now < held.since.saturating_add(limits::LEASE_MS);
                    if let Some(Held { since, .. }) = held.filter(good) {
                        return Err(format!("{intent} is taken from {worker}, renewed at {since}"));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// All that was due by now has happened.
    pub(crate) fn rested(
        &mut self,
        now: u64,
        clock: u64,
        stands: Stands<'_>,
    ) -> Result<(), String> {
        if !self.whole {
            return Ok(());
        }
        self.check_leases(now)?;
        self.floor.conserved(clock, stands)
    }

    /// Since when a lease is renewed; none if it is over.
    fn lease(&mut self, intent: IntentId, attempt: Attempt, held: Option<(WorkerId, u64)>) {
        let before = match held {
            Some((worker, at)) => {
                self.leases.insert((intent, attempt), Held { worker, since: at, at })
            }
            None => self.leases.remove(&(intent, attempt)),
        };
        if let Some(Held { at, .. }) = before {
            self.renewed.remove(&(at, intent, attempt));
        }
        self.renewed.extend(held.map(|(_, at)| (at, intent, attempt)));
    }

    /// An effect as its node decided it.
    fn emitted(&mut self, effect: &Effect, now: u64) -> Result<(), String> {
        #[expect(clippy::wildcard_enum_match_arm, reason = "only these end a lease or a key")]
        match effect {
            Effect::Admitted { intent, .. } => {
                if let Some(submission) = self.submissions.get(intent)
                    && let Some(key) = submission.key.filter(|_| !submission.durable)
                {
                    self.bound.admitted(*intent, key, now)?;
                }
            }
            Effect::Joined { intent, .. } => self.bound.joined(*intent, now)?,
            Effect::Revoke { intent, attempt, .. } | Effect::Lost { intent, attempt } => {
                self.lease(*intent, *attempt, None);
                self.serving.remove(&(*intent, *attempt));
                let tried = self.tried.get_mut(intent).into_iter().flatten();
                let lost = matches!(effect, Effect::Lost { .. });
                tried.filter(|(_, of, _)| lost && of == attempt).for_each(|entry| entry.2 = true);
            }
            Effect::Ended { end, .. } => {
                self.bound.ended(end.intent, now);
                let of = (end.intent, Attempt(0))..=(end.intent, Attempt(u64::MAX));
                let leases: Vec<Attempt> =
                    self.leases.range(of.clone()).map(|((_, attempt), _)| *attempt).collect();
                leases.into_iter().for_each(|attempt| self.lease(end.intent, attempt, None));
                let serving: Vec<_> =
                    self.serving.range(of).map(|(of, held)| (*of, *held)).collect();
                for (of, (from, account)) in serving {
                    self.serving.remove(&of);
                    self.service.push((from, now, account));
                }
            }
            Effect::CloseSession { session, why: CloseReason::Silent, .. } => {
                return self.is_silent(*session, now);
            }
            _ => {}
        }
        Ok(())
    }

    /// An effect as it leaves its node.
    pub(crate) fn left(&self, effect: &Effect) -> Result<(), String> {
        #[expect(clippy::wildcard_enum_match_arm, reason = "only these speak of money")]
        match effect {
            Effect::Ended { end, durable: true } | Effect::Settled { end, .. } => {
                self.books.durably(end)
            }
            _ => Ok(()),
        }
    }

    /// What a command that is about to be handled does, if it is taken.
    pub(crate) fn before(command: &Command) -> Option<Judged> {
        #[expect(clippy::wildcard_enum_match_arm, reason = "the others change nothing of it")]
        match command {
            Command::Submit { meta, .. } => Some(Judged::Submitted(meta.clone())),
            Command::Attach(slots) => Some(Judged::Attached(slots.clone())),
            Command::Detach { worker, session } => Some(Judged::Detached(*worker, *session)),
            Command::Renew { worker, leases, silent, .. } => Some(Judged::Renewed {
                worker: *worker,
                leases: leases.clone(),
                silent: !silent.is_empty(),
            }),
            Command::End(request) => Some(Judged::Stopped(request.clone())),
            Command::Vouch { worker, .. } | Command::JudgeCanary { worker, .. } => {
                Some(Judged::Standing(*worker))
            }
            _ => None,
        }
    }

    /// `clock` is the node's.
    pub(crate) fn handled(&mut self, judged: Judged, (now, clock): (u64, u64), stands: Stands<'_>) {
        match judged {
            Judged::Submitted(meta) => self.floor.submitted(&meta),
            Judged::Attached(slots) => {
                let owner = self.books.owner_of(slots.worker);
                self.floor.attached(&slots, owner, stands);
            }
            Judged::Detached(worker, session) => self.floor.detached(worker, session),
            Judged::Renewed { worker, leases, silent } => {
                if silent {
                    self.floor.stands_anew(worker);
                }
                for LeaseClaim { intent, attempt } in leases {
                    let held = self.leases.get(&(intent, attempt));
                    if held.is_some_and(|held| held.worker == worker) {
                        self.lease(intent, attempt, Some((worker, now)));
                    }
                }
            }
            Judged::Standing(worker) => self.floor.stands_anew(worker),
            Judged::Stopped(request) => {
                if let Some(attempt) = request.attempt {
                    self.books.metered(request.intent, attempt, request.usage.units);
                    self.lease(request.intent, attempt, None);
                }
                self.floor.stopped(&request, clock);
            }
        }
    }

    /// No lease outlives its last renewal by more than a lease time.
    fn check_leases(&self, now: u64) -> Result<(), String> {
        let latest = limits::LEASE_MS.saturating_add(LEASE_LATE_MS);
        let oldest = self.renewed.first().filter(|(at, ..)| now > at.saturating_add(latest));
        match oldest {
            Some((at, intent, attempt)) => {
                Err(format!("{intent} attempt {attempt} is still leased, not renewed since {at}"))
            }
            None => Ok(()),
        }
    }

    /// The realm stood still: leases last longer by it, and timers judge a while after it.
    pub(crate) fn paused(&mut self, clock: u64, gap_ms: u64) {
        let more = gap_ms.saturating_add(limits::PAUSE_SETTLE_MS);
        self.renewed.clear();
        for ((intent, attempt), held) in &mut self.leases {
            held.at = held.at.saturating_add(more);
            self.renewed.insert((held.at, *intent, *attempt));
        }
        self.floor.paused(clock, gap_ms);
    }

    /// A worker says in a session that it lives.
    pub(crate) fn spoke(&mut self, session: SessionId, now: u64) {
        self.spoken.insert(session, now);
    }

    /// Who is taken for silent was silent. `HEARD_LATE_MS` for its word to come and be handled.
    fn is_silent(&self, session: SessionId, now: u64) -> Result<(), String> {
        let latest = limits::SESSION_SILENCE_MS.saturating_sub(HEARD_LATE_MS);
        match self.spoken.get(&session) {
            Some(at) if now < at.saturating_add(latest) => {
                Err(format!("session {session} is taken for silent and has spoken at {at}"))
            }
            Some(_) | None => Ok(()),
        }
    }

    pub(crate) fn submitted(&mut self, meta: &IntentMeta, edge_boot: u64) {
        let (durable, restart, key) = (meta.durable, meta.restart, meta.idempotency);
        let (admitted, over) = (false, false);
        let submission = Submission { durable, restart, key, edge_boot, admitted, over };
        self.submissions.insert(meta.id, submission);
    }

    /// Streams begin anew at an edge that restarted.
    pub(crate) fn edge_lost(&mut self) {
        self.streams.clear();
        self.bound = Bound::default();
    }

    pub(crate) fn forget_leases(&mut self) {
        self.leases.clear();
        self.renewed.clear();
        self.serving.clear();
    }

    /// The router begins anew: it knows of no failed attempt.
    pub(crate) fn router_lost(&mut self) {
        self.tried.clear();
    }

    /// A client hears of its submission.
    pub(crate) fn told(&mut self, news: &News) -> Result<(), String> {
        let (intent, last) = match news {
            News::Admitted(intent) => (*intent, false),
            News::Refused { intent, .. } | News::Joined { asked: intent, .. } => (*intent, true),
            News::Ended(end) => (end.intent, true),
            News::Chunk { intent, attempt, seq } => return self.chunk(*intent, *attempt, *seq),
            News::Restarted(intent) => {
                self.streams.remove(intent);
                let may = self.submissions.get(intent).is_none_or(|asked| asked.restart);
                return if may {
                    Ok(())
                } else {
                    Err(format!("{intent} begins anew after a piece, against its client's wish"))
                };
            }
            News::Settled(end) => {
                let twice = !self.settled.insert(end.intent);
                return if twice {
                    Err(format!("{} has two receipts", end.intent))
                } else {
                    Ok(())
                };
            }
        };
        let opened = self.opened.contains(&intent);
        if let News::Joined { asked, intent } = news
            && self.key_of(*asked) != self.key_of(*intent)
        {
            return Err(format!("{asked} joined {intent}, which another key opened"));
        }
        let Some(submission) = self.submissions.get_mut(&intent) else {
            return Err(format!("{intent} was never submitted"));
        };
        if submission.over {
            return Err(format!("{intent} was over before {news:?}"));
        }
        submission.over = last;
        let end = match news {
            News::Admitted(_) if submission.admitted => {
                return Err(format!("{intent} was admitted twice"));
            }
            News::Admitted(_) if submission.durable && !opened => {
                return Err(format!("{intent} was promised before it was synced"));
            }
            News::Admitted(_) => {
                submission.admitted = true;
                return Ok(());
            }
            News::Refused { rejection, .. } if submission.admitted => {
                return Err(format!("{intent} was admitted, then refused: {rejection}"));
            }
            News::Refused { .. } => "refused",
            News::Joined { .. } => "joined",
            News::Ended(end) => end.outcome.name(),
            News::Chunk { .. } | News::Restarted(_) | News::Settled(_) => return Ok(()),
        };
        let count = self.ends.entry(end).or_default();
        *count = count.saturating_add(1);
        Ok(())
    }

    fn key_of(&self, intent: IntentId) -> Option<Idempotency> {
        self.submissions.get(&intent)?.key
    }

    /// Pieces come in order, and none of two attempts without a word between.
    fn chunk(&mut self, intent: IntentId, attempt: Attempt, seq: u64) -> Result<(), String> {
        let (of, next) = self.streams.entry(intent).or_insert((attempt, 0));
        if *of != attempt || *next != seq {
            return Err(format!("{intent}: piece {attempt}.{seq} where {of}.{next} was expected"));
        }
        *next = next.saturating_add(1);
        Ok(())
    }

    /// Nothing is open any more: what was promised must have been kept.
    pub(crate) fn finish(&self, edge_boot: u64) -> Result<(), String> {
        self.books.finish()?;
        for intent in &self.opened {
            if !self.intent_ended.contains(intent) {
                return Err(format!("durable {intent} never ended"));
            }
        }
        for (intent, submission) in &self.submissions {
            if submission.edge_boot == edge_boot && !submission.over {
                return Err(format!("the client of {intent} was never told its end"));
            }
            if submission.durable && submission.admitted && !self.intent_ended.contains(intent) {
                return Err(format!("{intent} was promised and never ended"));
            }
        }
        Ok(())
    }
}
