//! What must be true, checked against what was synced and what was told, by means of its own: its
//! books are kept from facts and share nothing with the accountant's.

use std::collections::{BTreeMap, BTreeSet};

use mtor_core::effect::{Assignment, CloseReason};
use mtor_core::limits;
use mtor_core::{Command, Effect};
use mtor_types::fact::{Batch, Fact, Purse, Transfer, TransferKind};
use mtor_types::intent::{End, EndRequest, Idempotency, IntentMeta, Outcome, Usage};
use mtor_types::worker::LeaseClaim;
use mtor_types::{AccountId, Attempt, Digest, Fence, IntentId, Price, SessionId, WorkerId};

use crate::edge::News;
use crate::scenario::{HEARD_LATE_MS, LEASE_LATE_MS, LIST};

/// How an intent stands in the synced log of the accountant.
#[derive(Clone, Debug)]
struct Hold {
    amount: u128,
    account: AccountId,
    resolved: Option<Outcome>,
    cost: u128,
}

/// How a submission stands with its client.
#[derive(Clone, Debug)]
pub(crate) struct Submission {
    durable: bool,
    key: Option<Idempotency>,
    edge_boot: u64,
    pub(crate) admitted: bool,
    /// Refused, joined or ended: nothing more is owed to the client.
    pub(crate) over: bool,
}

/// A command that speaks of leases.
pub(crate) enum Judged {
    Renewed(WorkerId, Vec<LeaseClaim>),
    Stopped(IntentId, Attempt, Usage),
}

#[derive(Debug, Default)]
pub(crate) struct Oracle {
    holds: BTreeMap<IntentId, Hold>,
    balances: BTreeMap<Purse, i128>,
    sequence: u64,
    opened: BTreeSet<IntentId>,
    intent_ended: BTreeSet<IntentId>,
    keys: BTreeMap<Digest, IntentId>,
    pub(crate) submissions: BTreeMap<IntentId, Submission>,
    attempts: BTreeSet<Attempt>,
    fences: BTreeSet<Fence>,
    /// Who was given which attempt, at which price; adopted, it may be at another.
    granted: BTreeMap<(IntentId, Attempt), Vec<(WorkerId, Price)>>,
    /// What the edge metered of attempts.
    metered: BTreeSet<(IntentId, Attempt, u64)>,
    /// Who was given an intent since the router began.
    /// Who has had an intent in which attempt, and whether that one was lost.
    tried: BTreeMap<IntentId, Vec<(WorkerId, Attempt, bool)>>,
    /// Leases given out, by when they were last renewed; kept only where one node does it all.
    leases: BTreeMap<(IntentId, Attempt), (WorkerId, u64)>,
    pub(crate) ends: BTreeMap<&'static str, u64>,
    /// Holds that only their own expiry resolved.
    pub(crate) backstops: Vec<IntentId>,
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
    /// A batch was synced.
    pub(crate) fn synced(&mut self, batch: &Batch) -> Result<(), String> {
        batch.facts.iter().try_for_each(|fact| self.fact(fact))
    }

    fn fact(&mut self, fact: &Fact) -> Result<(), String> {
        #[expect(clippy::wildcard_enum_match_arm, reason = "only money and ends are judged here")]
        match fact {
            Fact::GrantPaid { transfer, .. } => self.transfer(transfer),
            Fact::HoldPlaced { intent, account, amount, transfer, .. } => {
                let amount = amount.units();
                let hold = Hold { amount, account: *account, resolved: None, cost: 0 };
                if self.holds.insert(*intent, hold).is_some() {
                    return Err(format!("{intent} has two holds"));
                }
                transfer.as_ref().map_or(Ok(()), |transfer| self.transfer(transfer))
            }
            Fact::HoldResolved { intent, outcome, usage, worker, transfers, .. } => {
                self.resolved(*intent, *outcome, (*usage, *worker), transfers)
            }
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

    fn resolved(
        &mut self,
        intent: IntentId,
        outcome: Outcome,
        (usage, worker): (Usage, Option<WorkerId>),
        transfers: &[Transfer],
    ) -> Result<(), String> {
        let Some(hold) = self.holds.get_mut(&intent) else {
            return Err(format!("{intent} is resolved without a hold"));
        };
        if let Some(before) = hold.resolved.replace(outcome) {
            return Err(format!("{intent} is resolved twice: {before:?}, then {outcome:?}"));
        }
        let (mut cost, mut back) = (0_u128, 0_u128);
        for transfer in transfers {
            let part = match transfer.kind {
                TransferKind::Capture | TransferKind::Fee => &mut cost,
                TransferKind::Void => &mut back,
                TransferKind::Expire => {
                    self.backstops.push(intent);
                    &mut back
                }
                TransferKind::Grant
                | TransferKind::Hold
                | TransferKind::Deposit
                | TransferKind::Withdraw => return Err(format!("{intent}: {transfer:?}")),
            };
            *part = part.saturating_add(transfer.amount.units());
        }
        hold.cost = cost;
        if cost.checked_add(back) != Some(hold.amount) {
            return Err(format!("{intent}: {cost} and {back} of a hold of {}", hold.amount));
        }
        let pays = matches!(outcome, Outcome::Completed(_) | Outcome::Cancelled | Outcome::Expired);
        let amount = hold.amount;
        if cost > 0 && !(pays && self.earned(intent, worker, usage, amount, cost)) {
            return Err(format!(
                "{intent}: {outcome:?} pays {worker:?} {cost} for {usage:?}, which it did not earn"
            ));
        }
        transfers.iter().try_for_each(|transfer| self.transfer(transfer))
    }

    /// Whether that worker had an attempt of which the edge metered so much, and this is its price.
    fn earned(
        &self,
        intent: IntentId,
        worker: Option<WorkerId>,
        usage: Usage,
        hold: u128,
        cost: u128,
    ) -> bool {
        let attempts = self.granted.range((intent, Attempt(0))..=(intent, Attempt(u64::MAX)));
        let metered = attempts
            .into_iter()
            .filter(|((_, attempt), _)| self.metered.contains(&(intent, *attempt, usage.units)));
        metered.flat_map(|(_, granted)| granted).any(|(holder, price)| {
            Some(*holder) == worker && price.cost(usage.units).units().min(hold) == cost
        })
    }

    fn transfer(&mut self, transfer: &Transfer) -> Result<(), String> {
        if transfer.sequence != self.sequence.saturating_add(1) {
            return Err(format!("{transfer:?} follows {}", self.sequence));
        }
        self.sequence = transfer.sequence;
        let amount = i128::try_from(transfer.amount.units()).map_err(|error| error.to_string())?;
        for (purse, change) in [(transfer.from, -amount), (transfer.to, amount)] {
            let stands = self.balances.entry(purse).or_default();
            *stands = stands.saturating_add(change);
            let liability = !matches!(purse, Purse::GrantIssue | Purse::ChainBridge);
            if liability && *stands < 0 {
                return Err(format!("{purse:?} stands at {stands} after {transfer:?}"));
            }
        }
        Ok(())
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
        let granted = self.granted.entry((intent, grant.attempt)).or_default();
        granted.push((grant.worker, grant.price));
        self.leases.insert((intent, grant.attempt), (grant.worker, now));
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

    /// An effect as its node decided it.
    pub(crate) fn emitted(&mut self, effect: &Effect, now: u64) -> Result<(), String> {
        #[expect(clippy::wildcard_enum_match_arm, reason = "only these end a lease")]
        match effect {
            Effect::Revoke { intent, attempt, .. } | Effect::Lost { intent, attempt } => {
                self.leases.remove(&(*intent, *attempt));
                self.serving.remove(&(*intent, *attempt));
                let tried = self.tried.get_mut(intent).into_iter().flatten();
                let lost = matches!(effect, Effect::Lost { .. });
                tried.filter(|(_, of, _)| lost && of == attempt).for_each(|entry| entry.2 = true);
            }
            Effect::Ended { end, .. } => {
                self.leases.retain(|(intent, _), _| *intent != end.intent);
                let serving = self.serving.extract_if(.., |(intent, _), _| *intent == end.intent);
                let served = serving.map(|(_, (from, account))| (from, now, account));
                self.service.extend(served);
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
            Effect::Ended { end, durable: true } | Effect::Settled { end, .. } => self.durably(end),
            _ => Ok(()),
        }
    }

    /// Nothing of this may be said before the resolution is synced, and it says the same.
    fn durably(&self, end: &End) -> Result<(), String> {
        let hold = self.holds.get(&end.intent);
        let Some((hold, outcome)) = hold.and_then(|hold| Some((hold, hold.resolved?))) else {
            return Err(format!("the end of {} left before its resolution was synced", end.intent));
        };
        let same = outcome == end.outcome || outcome == Outcome::Refused;
        if !same || end.cost.units() != hold.cost {
            return Err(format!("{}: {end:?} was told, {outcome:?} was resolved", end.intent));
        }
        Ok(())
    }

    /// What a command that is about to be handled does to leases, if it is taken.
    pub(crate) fn before(&self, command: &Command) -> Option<Judged> {
        #[expect(clippy::wildcard_enum_match_arm, reason = "only these two speak of leases")]
        match command {
            Command::Renew { worker, leases, .. } => Some(Judged::Renewed(*worker, leases.clone())),
            Command::End(EndRequest { intent, attempt: Some(attempt), usage, .. }) => {
                Some(Judged::Stopped(*intent, *attempt, *usage))
            }
            _ => None,
        }
    }

    pub(crate) fn handled(&mut self, judged: Judged, now: u64) {
        match judged {
            Judged::Renewed(worker, leases) => {
                for claim in leases {
                    if let Some((holder, at)) = self.leases.get_mut(&(claim.intent, claim.attempt))
                        && *holder == worker
                    {
                        *at = now;
                    }
                }
            }
            Judged::Stopped(intent, attempt, usage) => {
                self.metered.insert((intent, attempt, usage.units));
                self.leases.remove(&(intent, attempt));
            }
        }
    }

    /// No lease outlives its last renewal by more than a lease time.
    pub(crate) fn check_leases(&self, now: u64) -> Result<(), String> {
        let latest = limits::LEASE_MS.saturating_add(LEASE_LATE_MS);
        let late = self.leases.iter().find(|(_, (_, at))| now > at.saturating_add(latest));
        match late {
            Some(((intent, attempt), (worker, at))) => Err(format!(
                "{intent} attempt {attempt} still leased to {worker}, silent since {at}"
            )),
            None => Ok(()),
        }
    }

    /// The realm stood still: leases last longer by it, and timers judge a while after it.
    pub(crate) fn paused(&mut self, gap_ms: u64) {
        let more = gap_ms.saturating_add(limits::PAUSE_SETTLE_MS);
        self.leases.values_mut().for_each(|(_, at)| *at = at.saturating_add(more));
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
        let (durable, key) = (meta.durable, meta.idempotency);
        let submission = Submission { durable, key, edge_boot, admitted: false, over: false };
        self.submissions.insert(meta.id, submission);
    }

    /// Streams begin anew at an edge that restarted.
    pub(crate) fn edge_lost(&mut self) {
        self.streams.clear();
    }

    pub(crate) fn forget_leases(&mut self) {
        self.leases.clear();
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
                return Ok(());
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
        if let Some((intent, hold)) = self.holds.iter().find(|(_, hold)| hold.resolved.is_none()) {
            return Err(format!("the hold of {intent} ({}) is never resolved", hold.account));
        }
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
