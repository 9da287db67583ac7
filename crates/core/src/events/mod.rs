//! Event Processor: opens intents, keeps their deadlines, publishes their ends.
//!
//! Invariants: every admitted intent ends exactly once, and only by the accountant's resolution;
//! deadline, cancel, failure and completion are requests that travel towards it. A durable intent
//! is a fact from the moment the router has taken it until its end. Absent on purpose: prices,
//! workers, fairness, payloads.

mod open;
mod snapshot;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use mtor_types::fact::{Asset, Fact};
use mtor_types::intent::{End, EndRequest, IntentMeta, Outcome, Usage, Why};
use mtor_types::message::{Message, Service};
use mtor_types::mutant;
use mtor_types::rejection::Rejection;
use mtor_types::{Amount, Digest, IntentId, NodeId, Time};
use serde::{Deserialize, Serialize};

use crate::command::Prior;
use crate::effect::Effect;
use crate::limits;
use crate::share::{Holder, Limited, Part, Rank, Share};
use crate::steps::Steps;
use crate::turn::Turn;
use open::{Open, Phase};
pub(crate) use snapshot::OpenDurablesV1;

/// The durable part: durable intents that are not over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenDurables {
    intents: BTreeMap<IntentId, OpenDurable>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct OpenDurable {
    meta: Arc<IntentMeta>,
    asset: Asset,
    deadline: Time,
}

/// What an idempotency key is bound to.
#[derive(Debug)]
struct BoundKey {
    intent: IntentId,
    body: Digest,
    /// Its place.
    part: Part,
}

#[derive(Debug)]
pub struct EventProcessor {
    node: NodeId,
    together: bool,
    durables: OpenDurables,
    open: BTreeMap<IntentId, Open>,
    /// Of those that are open.
    places: Share,
    keys: BTreeMap<Digest, BoundKey>,
    /// Of those keys.
    key_places: Share,
    /// Keys of ended intents, oldest first: held until the read tables have caught up.
    fading: VecDeque<(Time, Digest)>,
    timers: BTreeSet<(Time, IntentId)>,
    steps: Steps,
}

impl EventProcessor {
    /// `node` is where the edges that use this service live; `together`: accountant and router are
    /// services of the same node.
    pub fn restore(node: NodeId, together: bool, durables: OpenDurables) -> Self {
        Self {
            node,
            together,
            durables,
            open: BTreeMap::new(),
            places: Share::new(limits::OPEN_INTENTS_MAX as u64, 1),
            keys: BTreeMap::new(),
            key_places: Share::new(limits::IDEMPOTENCY_MAX as u64, 1),
            fading: VecDeque::new(),
            timers: BTreeSet::new(),
            steps: Steps::default(),
        }
    }

    pub fn durable(&self) -> &OpenDurables {
        &self.durables
    }

    /// How often an intent or a key was looked at so far.
    pub fn steps(&self) -> u64 {
        self.steps.count()
    }

    /// What is held of the places for open intents, and all there are.
    pub fn places(&self) -> (u64, u64) {
        (self.places.held(), self.places.capacity())
    }

    /// What is held of the places for idempotency keys, and all there are.
    pub fn key_places(&self) -> (u64, u64) {
        (self.key_places.held(), self.key_places.capacity())
    }

    pub fn open_count(&self) -> usize {
        self.open.len()
    }

    /// Whether an intent that is open, or ended a short while ago, was asked for under that key.
    pub fn knows_key(&self, key: Digest) -> bool {
        self.keys.contains_key(&key)
    }

    /// What is known of an open intent.
    pub fn meta(&self, intent: IntentId) -> Option<&Arc<IntentMeta>> {
        self.open.get(&intent).map(|open| &open.meta)
    }

    /// Open intents in the order of their ids, after `after`.
    pub fn list(&self, after: Option<IntentId>) -> impl Iterator<Item = &Arc<IntentMeta>> {
        let from = after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        self.open.range((from, std::ops::Bound::Unbounded)).map(|(_, open)| &open.meta)
    }

    /// The first messages of a boot: what was ephemeral is gone, what was durable goes on.
    pub fn start(&mut self, turn: &mut Turn) {
        let started = Message::EdgeStarted { edge: self.node, epoch: turn.epoch };
        turn.send(Service::Accountant, started);
        let durables: Vec<OpenDurable> = self.durables.intents.values().cloned().collect();
        for durable in durables {
            // How its account stands now nobody says; what is kept is refused to nobody.
            let part = self.places.keep(holder_of(&durable.meta, Rank::Guest), 1);
            let (now, together) = (turn.now, self.together);
            let mut open = Open::new(durable.meta, durable.deadline, now, together, part);
            open.phase = Phase::Admitted;
            open.admitted = true;
            self.bind(&open.meta, Rank::Guest);
            open.resume(turn);
            self.insert(open);
        }
    }

    pub fn submit(
        &mut self,
        turn: &mut Turn,
        meta: Box<IntentMeta>,
        prior: Option<Prior>,
        rank: Rank,
    ) -> Result<(), Rejection> {
        if let Some(joined) = self.joins(&meta, prior)? {
            turn.durable(Effect::Joined { asked: meta.id, intent: joined });
            return Ok(());
        }
        if self.open.contains_key(&meta.id) {
            return Err(Rejection::IdTaken);
        }
        if meta.remaining_ms == 0 {
            return Err(Rejection::Expired);
        }
        if meta.idempotency.is_some() {
            let free = self.key_places.check(&holder_of(&meta, rank), 1);
            free.map_err(|refused| refused.of(Limited::IdempotencyKeys))?;
        }
        let part = self.places.take(holder_of(&meta, rank), 1);
        let part = part.map_err(|refused| refused.of(Limited::Intents))?;
        let deadline = turn.now.after_ms(meta.remaining_ms.min(limits::DEADLINE_MAX_MS));
        let meta = Arc::new(*meta);
        self.bind(&meta, rank);
        self.insert(Open::new(Arc::clone(&meta), deadline, turn.now, self.together, part));
        turn.send(Service::Accountant, Message::PlaceHold(meta.into()));
        Ok(())
    }

    /// The edge stopped work on an intent, or saw it end.
    pub fn end(&mut self, turn: &mut Turn, request: EndRequest) -> Result<(), Rejection> {
        let Some(open) = self.open.get_mut(&request.intent) else {
            // It is over, or was never opened, and yet somebody asks how it ended: a router that
            // took it up again while its end was on the way must give it up.
            self.disown(turn, request.intent);
            return Ok(());
        };
        // A worker's failure may lead to another attempt; everything else is final at the edge and
        // is repeated until the accountant's answer.
        if !matches!(request.why, Why::WorkerFailed { .. }) {
            open.phase = Phase::Ending(request.clone());
        }
        // It may overtake the intent itself.
        open.crossing |= !open.admitted;
        open.heard = turn.now;
        self.schedule(request.intent);
        turn.send(Service::Router, Message::End(request));
        Ok(())
    }

    /// A client or the sysop wants it stopped: the edge is asked for its metered figure.
    pub fn stop(&mut self, turn: &mut Turn, intent: IntentId, why: Why) -> Result<(), Rejection> {
        let open = self.open.get_mut(&intent).ok_or(Rejection::UnknownIntent)?;
        if open.may_be_stopped() {
            open.phase = Phase::Stopping(why);
            open.heard = turn.now;
            turn.now(Effect::Stop { intent, why });
            self.schedule(intent);
        }
        Ok(())
    }

    pub fn receive(&mut self, turn: &mut Turn, message: Message) {
        match message {
            Message::Refused { intent, rejection } => self.refused(turn, intent, rejection),
            Message::Taken { intent, asset, hold, position, wait_ms } => {
                self.taken(turn, intent, asset, hold, (position, wait_ms));
            }
            Message::Resolved { end, rejection } => self.resolved(turn, end, rejection),
            // Addressed to the other services; the node's routing never brings them here.
            Message::PlaceHold(_)
            | Message::Enqueue { .. }
            | Message::EnqueueWeighted { .. }
            | Message::OwnerBanned { .. }
            | Message::Resume(_)
            | Message::End(_)
            | Message::Resolve(_)
            | Message::EdgeStarted { .. }
            | Message::Slots(_)
            | Message::SessionLost { .. }
            | Message::RegistryStarted
            | Message::Renew { .. }
            | Message::Served { .. }
            | Message::Offered(_)
            | Message::Worked(_)
            | Message::Silent { .. }
            // Older forms, which became today's when they came in.
            | Message::PlaceHoldV1(_)
            | Message::EnqueueV1 { .. }
            | Message::ResumeV1(_)
            | Message::SlotsV1(_) => {}
        }
    }

    /// Time goes back by so much, before anything is open: as much is left until each deadline.
    pub(crate) fn set_back(&mut self, by_ms: u64) {
        for durable in self.durables.intents.values_mut() {
            durable.deadline = durable.deadline.before_ms(by_ms);
        }
    }

    pub fn apply(&mut self, fact: &Fact) {
        if let Fact::IntentEnded { intent } = fact {
            self.durables.intents.remove(intent);
        } else if let Some((meta, asset, deadline)) = fact.opened() {
            self.durables.intents.insert(meta.id, OpenDurable { meta, asset, deadline });
        }
    }

    pub fn next_timeout(&self) -> Option<Time> {
        let fading = self.fading.front().map(|(at, _)| *at);
        let timer = self.timers.first().map(|(at, _)| *at);
        [fading, timer].into_iter().flatten().min()
    }

    pub fn tick(&mut self, turn: &mut Turn) {
        while let Some((at, key)) = self.fading.front().copied() {
            if at > turn.now {
                break;
            }
            self.steps.one();
            self.fading.pop_front();
            if !mutant!("keys-never-forgotten") {
                self.forget(key);
            }
        }
        while let Some((at, intent)) = self.timers.first().copied() {
            if at > turn.now {
                break;
            }
            self.steps.one();
            self.timers.remove(&(at, intent));
            self.wake(turn, intent);
        }
    }

    /// A timer of an open intent fired: its deadline passed, or nothing was heard for too long.
    fn wake(&mut self, turn: &mut Turn, intent: IntentId) {
        let Some(open) = self.open.get_mut(&intent) else { return };
        open.timer = None;
        if open.may_be_stopped() && open.deadline <= turn.now {
            open.phase = Phase::Stopping(Why::Expired);
            open.heard = turn.now;
            turn.now(Effect::Stop { intent, why: Why::Expired });
        } else if open.repeat_at() <= turn.now {
            open.heard = turn.now;
            match open.phase.clone() {
                Phase::Opening => {}
                Phase::Admitted => open.resume(turn),
                Phase::Stopping(why) => turn.now(Effect::Stop { intent, why }),
                Phase::Ending(request) => {
                    // The resume comes first: a router that restarted must know the intent again
                    // before it can end it.
                    open.resume(turn);
                    turn.send(Service::Router, Message::End(request));
                }
            }
        }
        self.schedule(intent);
    }

    fn refused(&mut self, turn: &mut Turn, intent: IntentId, rejection: Rejection) {
        // One that was admitted before cannot be refused any more; this is an old repetition.
        let opening = |open: &Open| !open.admitted;
        if self.open.get(&intent).is_some_and(opening) {
            let Some(open) = self.remove(intent) else { return };
            self.unbind(&open.meta);
            let effect = Effect::Refused { intent, rejection };
            if open.meta.durable { turn.durable(effect) } else { turn.now(effect) }
        }
    }

    fn taken(
        &mut self,
        turn: &mut Turn,
        intent: IntentId,
        asset: Asset,
        hold: Amount,
        (position, wait_ms): (u64, u64),
    ) {
        let Some(open) = self.open.get_mut(&intent) else {
            // This edge restarted since: nobody was promised anything, nobody has the payload.
            self.disown(turn, intent);
            return;
        };
        open.heard = turn.now;
        if open.admitted {
            return;
        }
        open.admitted = true;
        if matches!(open.phase, Phase::Opening) {
            open.phase = Phase::Admitted;
        }
        let (durable, deadline) = (open.meta.durable, open.deadline);
        let meta = Arc::clone(&open.meta);
        self.schedule(intent);
        let effect = Effect::Admitted { intent, asset, hold, position, wait_ms };
        if durable {
            // A canary ends with its edge: no fact bears its worker.
            assert!(meta.worker.is_none(), "a durable intent is for one worker");
            let fact = Fact::IntentOpened { meta: meta.into(), asset, deadline };
            self.apply(&fact);
            turn.record(fact);
            turn.durable(effect);
        } else {
            turn.now(effect);
        }
    }

    /// Tells the router that nobody here waits for that intent.
    fn disown(&self, turn: &mut Turn, intent: IntentId) {
        let (why, usage) = (Why::PayloadGone, Usage::default());
        let request = EndRequest { intent, attempt: None, why, usage, delivered: false };
        turn.send(Service::Router, Message::End(request));
    }

    fn resolved(&mut self, turn: &mut Turn, mut end: End, rejection: Option<Rejection>) {
        let Some(open) = self.remove(end.intent) else {
            // Published already, or of an earlier boot of this edge.
            return;
        };
        if open.crossing {
            // What crossed the resolution may have been queued, or will be: then the router says so,
            // and is told again.
            self.disown(turn, end.intent);
        }
        if matches!(end.outcome, Outcome::Refused) {
            let rejection = rejection.unwrap_or(Rejection::NoWorker);
            if !open.admitted {
                self.unbind(&open.meta);
                let effect = Effect::Refused { intent: end.intent, rejection };
                if open.meta.durable {
                    turn.durable(effect)
                } else {
                    turn.now(effect)
                }
                return;
            }
            end.outcome = Outcome::Failed(rejection.code());
        }
        if self.durables.intents.contains_key(&end.intent) {
            let fact = Fact::IntentEnded { intent: end.intent };
            self.apply(&fact);
            turn.record(fact);
        }
        if let Some(bound) = open.meta.idempotency {
            self.fading.push_back((turn.now.after_ms(limits::IDEMPOTENCY_MS), bound.key));
        }
        let durable = open.meta.durable;
        let ended = Effect::Ended { end: end.clone(), durable };
        if durable {
            turn.durable(ended)
        } else {
            turn.now(ended)
        }
        let settled = Effect::Settled { end, account: open.meta.account, at: turn.now };
        if mutant!("receipt-before-the-sync") { turn.now(settled) } else { turn.durable(settled) }
    }

    /// Whether the submission joins an intent that is already there.
    fn joins(
        &self,
        meta: &IntentMeta,
        prior: Option<Prior>,
    ) -> Result<Option<IntentId>, Rejection> {
        let Some(asked) = meta.idempotency else { return Ok(None) };
        let known = self.keys.get(&asked.key).map(|bound| (bound.intent, bound.body));
        let prior = prior.filter(|_| !mutant!("earlier-keys-not-asked"));
        match known.or(prior.map(|prior| (prior.intent, prior.body))) {
            None => Ok(None),
            Some((intent, body)) if body == asked.body || mutant!("another-body-joins") => {
                Ok(Some(intent))
            }
            Some(_) => Err(Rejection::Conflict),
        }
    }

    fn bind(&mut self, meta: &IntentMeta, rank: Rank) {
        if let Some(key) = meta.idempotency {
            let part = self.key_places.keep(holder_of(meta, rank), 1);
            let bound = BoundKey { intent: meta.id, body: key.body, part };
            if let Some(before) = self.keys.insert(key.key, bound) {
                self.key_places.give_back(before.part);
            }
        }
    }

    fn unbind(&mut self, meta: &IntentMeta) {
        if let Some(key) = meta.idempotency {
            self.forget(key.key);
        }
    }

    fn forget(&mut self, key: Digest) {
        if let Some(bound) = self.keys.remove(&key)
            && !mutant!("keys-keep-their-places")
        {
            self.key_places.give_back(bound.part);
        }
    }

    fn insert(&mut self, open: Open) {
        let intent = open.meta.id;
        self.open.insert(intent, open);
        self.schedule(intent);
    }

    fn remove(&mut self, intent: IntentId) -> Option<Open> {
        let mut open = self.open.remove(&intent)?;
        if let Some(part) = open.part.take() {
            self.places.give_back(part);
        }
        if let Some(at) = open.timer {
            self.timers.remove(&(at, intent));
        }
        Some(open)
    }

    /// Sets the one timer an open intent has, unless it fires before that already. It may fire
    /// early, never late: what was heard since moves the repetition back when it fires.
    fn schedule(&mut self, intent: IntentId) {
        let Some(open) = self.open.get_mut(&intent) else { return };
        let at = open.wake_at();
        if open.timer.is_some_and(|timer| timer <= at) {
            return;
        }
        if let Some(before) = open.timer.replace(at) {
            self.timers.remove(&(before, intent));
        }
        self.timers.insert((at, intent));
    }

    /// For the simulator: what must hold between any two commands.
    pub fn check_invariants(&self) -> Result<(), String> {
        let timed = self.open.values().filter(|open| open.timer.is_some()).count();
        self.places.check_invariants()?;
        if usize::try_from(self.places.held()) != Ok(self.open.len()) {
            return Err(format!("{} open intents have {:?}", self.open.len(), self.places()));
        }
        self.key_places.check_invariants()?;
        if usize::try_from(self.key_places.held()) != Ok(self.keys.len()) {
            return Err(format!("{} keys have {:?}", self.keys.len(), self.key_places()));
        }
        if timed != self.timers.len() || timed != self.open.len() {
            return Err(format!("{} open intents but {} timers", self.open.len(), timed));
        }
        let late = |open: &&Open| open.timer.is_some_and(|timer| timer > open.wake_at());
        if let Some(open) = self.open.values().find(late) {
            return Err(format!("the timer of {} fires late", open.meta.id));
        }
        match self.durables.intents.keys().find(|intent| !self.open.contains_key(intent)) {
            Some(intent) => Err(format!("durable intent {intent} is not open")),
            None => Ok(()),
        }
    }
}

/// For whose share it counts.
fn holder_of(meta: &IntentMeta, rank: Rank) -> Holder {
    // A canary is the realm's own.
    let rank = if meta.worker.is_some() { Rank::Realm } else { rank };
    Holder { account: Some(meta.account), network: meta.branch.network(), rank }
}
