//! The edge as a machine: what the real shell does for each effect, without sockets.
//!
//! It lives and dies with the process of the Event Processor's node. It holds the payloads of
//! ephemeral intents and all streams in memory; sealed payloads of durable intents survive it (see
//! `Vault`). The router is the authority on which attempt runs: a grant under a higher fence
//! supersedes whatever ran before, even an attempt that was reported completed.

use std::collections::{BTreeMap, BTreeSet};

use mtor_core::effect::{Assignment, Effect};
use mtor_core::share::Rank;
use mtor_core::{Command, limits};
use mtor_types::id::{self, AccountId};
use mtor_types::intent::{End, EndRequest, IntentMeta, Outcome, Reason, Usage, Why};
use mtor_types::message::{Service, SlotOffer, Slots};
use mtor_types::worker::LeaseClaim;
use mtor_types::{Attempt, Code, Digest, Fence, IntentId, NodeId, Rejection, SessionId, WorkerId};

use crate::event::{Asker, FromWorker, ToWorker};
use crate::scenario::{REATTACH_HEARTBEATS, UNITS_PER_CHUNK};

/// What survives the edge: its blob store, its MAC key and the read tables.
#[derive(Debug, Default)]
pub(crate) struct Vault {
    pub(crate) payloads: BTreeSet<IntentId>,
    pub(crate) results: BTreeSet<IntentId>,
    /// Every token that was ever made: what a MAC would accept.
    pub(crate) tokens: BTreeSet<(IntentId, Attempt, Fence, WorkerId)>,
    /// Idempotency keys of durable intents, projected from the log.
    pub(crate) keys: BTreeMap<Digest, (IntentId, Digest)>,
}

/// What the edge wants done.
#[derive(Debug)]
pub(crate) enum Act {
    Ask {
        to: Service,
        command: Command,
        asker: Asker,
    },
    Send {
        session: SessionId,
        message: ToWorker,
    },
    /// Seal a payload or a result on disk.
    Seal {
        intent: IntentId,
        result: bool,
    },
    AttachAgain {
        session: SessionId,
    },
    Tell(News),
}

/// What a client hears.
#[derive(Clone, Debug)]
pub(crate) enum News {
    Admitted(IntentId),
    Refused { intent: IntentId, rejection: Rejection },
    Joined { asked: IntentId, intent: IntentId },
    Chunk { intent: IntentId, attempt: Attempt, seq: u64 },
    Restarted(IntentId),
    Ended(End),
    Settled(End),
}

/// The attempt whose pieces are forwarded.
#[derive(Clone, Copy, Debug)]
struct Run {
    attempt: Attempt,
    worker: WorkerId,
    session: SessionId,
    limit: u64,
    next_seq: u64,
    metered: u64,
    /// Signs of life since its last piece, and how much silence is allowed; none once that was told.
    quiet: u64,
    silence_ms: Option<u64>,
    /// Revoked or lost: nothing more of it counts.
    void: bool,
}

#[derive(Debug)]
struct Held {
    meta: IntentMeta,
    run: Option<Run>,
    fence: Fence,
    delivered: bool,
    ending: Option<EndRequest>,
    /// The result of `ending` is being sealed; only then it is sent.
    sealing: bool,
}

#[derive(Debug)]
struct Session {
    slots: Slots,
    attached: bool,
    /// Signs of life since it was attached last.
    heard: u32,
}

#[derive(Debug)]
pub(crate) struct Edge {
    pub(crate) boot: u64,
    node: NodeId,
    epoch: u32,
    /// The router lives in another process, so it may restart without this edge, and then knows no
    /// session: every session is told again from time to time, with the leases its worker names.
    far: bool,
    next_session: u64,
    sessions: BTreeMap<SessionId, Session>,
    by_worker: BTreeMap<WorkerId, SessionId>,
    intents: BTreeMap<IntentId, Held>,
    /// Whom to tell that a completion is durable.
    finished: BTreeMap<IntentId, Run>,
}

impl Edge {
    /// An edge of a boot; `open` are the durable intents that the node recovered.
    pub(crate) fn new(
        boot: u64,
        (node, epoch, far): (NodeId, u32, bool),
        open: impl Iterator<Item = IntentMeta>,
    ) -> Self {
        let held = |meta: IntentMeta| (meta.id, Held::new(meta));
        Self {
            boot,
            node,
            epoch,
            far,
            next_session: id::first_of_boot(epoch),
            sessions: BTreeMap::new(),
            by_worker: BTreeMap::new(),
            intents: open.map(held).collect(),
            finished: BTreeMap::new(),
        }
    }

    pub(crate) fn epoch(&self) -> u32 {
        self.epoch
    }

    pub(crate) fn node(&self) -> NodeId {
        self.node
    }

    /// Intents without an end.
    pub(crate) fn open(&self) -> impl Iterator<Item = &IntentId> {
        self.intents.keys()
    }

    /// A client's request, parsed and authorised.
    pub(crate) fn submit(&mut self, meta: IntentMeta, vault: &Vault, acts: &mut Vec<Act>) {
        let intent = meta.id;
        let durable = meta.durable;
        self.intents.insert(intent, Held::new(meta));
        if durable {
            acts.push(Act::Seal { intent, result: false });
        } else {
            self.ask_submit(intent, vault, acts);
        }
    }

    fn ask_submit(&mut self, intent: IntentId, vault: &Vault, acts: &mut Vec<Act>) {
        let Some(held) = self.intents.get(&intent) else { return };
        let meta = Box::new(held.meta.clone());
        let prior = meta.idempotency.and_then(|key| vault.keys.get(&key.key));
        let prior =
            prior.map(|(intent, body)| mtor_core::command::Prior { intent: *intent, body: *body });
        let command = Command::Submit { meta, prior, rank: Rank::Guest };
        acts.push(Act::Ask { to: Service::Events, command, asker: Asker::Submit(intent) });
    }

    pub(crate) fn sealed(
        &mut self,
        intent: IntentId,
        result: bool,
        vault: &mut Vault,
        acts: &mut Vec<Act>,
    ) {
        if !result {
            vault.payloads.insert(intent);
            return self.ask_submit(intent, vault, acts);
        }
        let Some(held) = self.intents.get_mut(&intent).filter(|held| held.sealing) else { return };
        held.sealing = false;
        vault.results.insert(intent);
        if let Some(ending) = held.ending.clone() {
            acts.push(ask_end(ending));
        }
    }

    /// A client no longer wants it.
    pub(crate) fn cancel(&self, intent: IntentId, acts: &mut Vec<Act>) {
        let command = Command::Stop { intent, why: Why::Cancelled };
        acts.push(Act::Ask { to: Service::Events, command, asker: Asker::Nobody });
    }

    /// What a node said to a command.
    pub(crate) fn answer(
        &mut self,
        asker: Asker,
        result: Result<(), Rejection>,
        acts: &mut Vec<Act>,
    ) {
        match (asker, result) {
            (Asker::Submit(intent), Err(rejection)) => {
                self.intents.remove(&intent);
                acts.push(Act::Tell(News::Refused { intent, rejection }));
            }
            (Asker::Session { session, attach: true }, Ok(())) => {
                if let Some(session) = self.sessions.get_mut(&session) {
                    session.attached = true;
                }
            }
            // A sign of life that overtook its `Attach` says nothing of the session.
            (Asker::Session { session, attach }, Err(_)) => {
                if attach || self.sessions.get(&session).is_some_and(|session| session.attached) {
                    self.close(session, acts);
                }
            }
            (Asker::Submit(_) | Asker::Session { .. } | Asker::Nobody, _) => {}
        }
    }

    pub(crate) fn effect(&mut self, effect: Effect, vault: &mut Vault, acts: &mut Vec<Act>) {
        match effect {
            Effect::Admitted { intent, .. } => acts.push(Act::Tell(News::Admitted(intent))),
            Effect::Joined { asked, intent } => {
                self.intents.remove(&asked);
                acts.push(Act::Tell(News::Joined { asked, intent }));
            }
            Effect::Refused { intent, rejection } => {
                self.intents.remove(&intent);
                acts.push(Act::Tell(News::Refused { intent, rejection }));
            }
            Effect::Stop { intent, why } => self.stop(intent, why, acts),
            Effect::Ended { end, .. } => self.ended(end, acts),
            Effect::Settled { end, .. } => {
                if let Some(run) = self.finished.remove(&end.intent) {
                    let (intent, attempt) = (end.intent, run.attempt);
                    let message = ToWorker::Acknowledge { intent, attempt };
                    acts.push(Act::Send { session: run.session, message });
                }
                acts.push(Act::Tell(News::Settled(end)));
            }
            Effect::Assign(assignment) | Effect::Adopt(assignment) => {
                self.grant(assignment, vault, acts);
            }
            Effect::Revoke { session, intent, attempt, .. } => {
                if let Some(run) = self.run_of(intent, attempt) {
                    run.void = true;
                }
                acts.push(Act::Send { session, message: ToWorker::Revoke { intent, attempt } });
            }
            Effect::Lost { intent, attempt } => self.lost(intent, attempt, acts),
            Effect::Restarted { intent, attempt } => {
                if let Some(held) = self.intents.get_mut(&intent)
                    && held.run.is_some_and(|run| run.attempt == attempt)
                {
                    held.discard(acts);
                }
            }
            Effect::CloseSession { session, .. } => self.close(session, acts),
            Effect::PoolsChanged
            | Effect::WorkerForgotten { .. }
            | Effect::Send { .. }
            | Effect::Acknowledge { .. } => {}
        }
    }

    fn run_of(&mut self, intent: IntentId, attempt: Attempt) -> Option<&mut Run> {
        let run = self.intents.get_mut(&intent)?.run.as_mut()?;
        (run.attempt == attempt).then_some(run)
    }

    /// Stops forwarding and says what was metered until here.
    fn stop(&mut self, intent: IntentId, why: Why, acts: &mut Vec<Act>) {
        let Some(held) = self.intents.get_mut(&intent) else { return };
        let request = held.end(why);
        held.ending = Some(request.clone());
        held.sealing = false;
        acts.push(ask_end(request));
    }

    fn ended(&mut self, end: End, acts: &mut Vec<Act>) {
        if let Some(held) = self.intents.remove(&end.intent)
            && let Some(run) = held.run
        {
            let completed = matches!(end.outcome, Outcome::Completed(_));
            if completed && !run.void {
                self.finished.insert(end.intent, run);
            } else {
                let (intent, attempt) = (end.intent, run.attempt);
                acts.push(Act::Send {
                    session: run.session,
                    message: ToWorker::Revoke { intent, attempt },
                });
            }
        }
        acts.push(Act::Tell(News::Ended(end)));
    }

    fn grant(&mut self, grant: Assignment, vault: &mut Vault, acts: &mut Vec<Act>) {
        let Assignment { meta, attempt, fence, worker, session, limit, silence_ms, .. } = grant;
        let (intent, quiet, silence_ms) = (meta.id, 0, Some(silence_ms));
        let Some(held) = self.intents.get_mut(&intent) else {
            return acts.push(ask_gone(intent, attempt));
        };
        // An older lease is always smaller.
        if fence <= held.fence {
            return;
        }
        held.fence = fence;
        let same = held.run.is_some_and(|run| run.attempt == attempt);
        match held.ending.as_ref().map(|ending| ending.why) {
            Some(Why::Completed(_)) if !same => {
                // The router never took that completion: this attempt supersedes it.
                held.ending = None;
                held.sealing = false;
            }
            Some(_) => {
                if let Some(ending) = held.ending.clone().filter(|_| !held.sealing) {
                    acts.push(ask_end(ending));
                }
                if let Some(run) = held.run.as_mut() {
                    run.session = session;
                }
                return;
            }
            None => {}
        }
        let known = self.sessions.contains_key(&session);
        let stuck = held.delivered && !same && !held.meta.restart;
        if !known || stuck {
            let run = held.run.take();
            held.run = Some(Run {
                attempt,
                worker,
                session,
                limit,
                next_seq: 0,
                metered: 0,
                quiet,
                silence_ms,
                void: true,
            });
            if !stuck && run.is_some_and(|run| run.attempt != attempt) && held.delivered {
                held.discard(acts);
            }
            let why = Why::WorkerFailed { code: Code::WorkerFailed, retry: true };
            return acts.push(ask_end(held.end(why)));
        }
        if held.delivered && !same {
            held.discard(acts);
        }
        let (next_seq, metered, quiet, silence_ms) = match held.run {
            // It comes again from the first piece; what was forwarded is skipped. Its silence goes on.
            Some(run) if same => (run.next_seq, run.metered, run.quiet, run.silence_ms),
            Some(_) | None => (0, 0, quiet, silence_ms),
        };
        held.run = Some(Run {
            attempt,
            worker,
            session,
            limit,
            next_seq,
            metered,
            quiet,
            silence_ms,
            void: false,
        });
        vault.tokens.insert((intent, attempt, fence, worker));
        acts.push(Act::Send {
            session,
            message: ToWorker::Assign { intent, attempt, fence, limit },
        });
    }

    fn lost(&mut self, intent: IntentId, attempt: Attempt, acts: &mut Vec<Act>) {
        let Some(held) = self.intents.get_mut(&intent) else {
            return acts.push(ask_gone(intent, attempt));
        };
        if let Some(ending) = &held.ending
            && (ending.attempt == Some(attempt) || !matches!(ending.why, Why::Completed(_)))
        {
            if !held.sealing {
                acts.push(ask_end(ending.clone()));
            }
            return;
        }
        if let Some(run) = held.run.as_mut().filter(|run| run.attempt == attempt) {
            run.void = true;
        }
        let why = Why::WorkerFailed { code: Code::WorkerFailed, retry: true };
        let request = EndRequest { attempt: Some(attempt), ..held.end(why) };
        acts.push(ask_end(request));
    }

    /// A worker connected and proved its key; the leases are those whose token was right.
    pub(crate) fn connect(
        &mut self,
        worker: WorkerId,
        (offers, draining): (Vec<SlotOffer>, bool),
        leases: Vec<(LeaseClaim, Fence)>,
        vault: &Vault,
        acts: &mut Vec<Act>,
    ) -> SessionId {
        self.next_session = self.next_session.saturating_add(1);
        let session = SessionId(self.next_session);
        let proven = leases.into_iter().filter(|(claim, fence)| {
            vault.tokens.contains(&(claim.intent, claim.attempt, *fence, worker))
        });
        let leases: Vec<LeaseClaim> = proven.map(|(claim, _)| claim).collect();
        let slots = Slots {
            worker,
            session,
            edge: self.node,
            owner: AccountId([0; 32]),
            own: false,
            proven: false,
            draining,
            offers,
            leases,
        };
        // One worker, one session: the one before is closed here; the registry replaces it.
        if let Some(before) = self.by_worker.insert(worker, session) {
            self.sessions.remove(&before);
        }
        self.sessions.insert(session, Session { slots, attached: false, heard: 0 });
        self.attach(session, acts);
        session
    }

    /// Asks until the registry has answered.
    pub(crate) fn attach(&mut self, session: SessionId, acts: &mut Vec<Act>) {
        let Some(found) = self.sessions.get(&session) else { return };
        if found.attached {
            return;
        }
        let command = Command::Attach(found.slots.clone());
        let asker = Asker::Session { session, attach: true };
        acts.push(Act::Ask { to: Service::Registry, command, asker });
        acts.push(Act::AttachAgain { session });
    }

    fn close(&mut self, session: SessionId, acts: &mut Vec<Act>) {
        let Some(closed) = self.sessions.remove(&session) else { return };
        if self.by_worker.get(&closed.slots.worker) == Some(&session) {
            self.by_worker.remove(&closed.slots.worker);
        }
        acts.push(Act::Send { session, message: ToWorker::Closed });
    }

    pub(crate) fn take_from_worker(
        &mut self,
        session: SessionId,
        message: FromWorker,
        acts: &mut Vec<Act>,
    ) {
        let Some(found) = self.sessions.get_mut(&session) else { return };
        let worker = found.slots.worker;
        let to = Service::Registry;
        let asker = Asker::Session { session, attach: false };
        match message {
            FromWorker::Renew { leases } => {
                found.slots.leases.clone_from(&leases);
                found.heard = found.heard.saturating_add(1);
                let again = self.far && found.heard >= REATTACH_HEARTBEATS;
                if again {
                    (found.heard, found.attached) = (0, false);
                }
                let silent = self.silent(session, &leases);
                let command = if leases.is_empty() {
                    Command::Heard { worker, session }
                } else {
                    Command::Renew { worker, session, leases, silent }
                };
                acts.push(Act::Ask { to, command, asker });
                if again {
                    self.attach(session, acts);
                }
            }
            FromWorker::Offer { draining } => {
                found.slots.draining = draining;
                found.attached = false;
                self.attach(session, acts);
            }
            FromWorker::Closed => {
                let command = Command::Detach { worker, session };
                self.sessions.remove(&session);
                if self.by_worker.get(&worker) == Some(&session) {
                    self.by_worker.remove(&worker);
                }
                acts.push(Act::Ask { to, command, asker: Asker::Nobody });
            }
            FromWorker::Chunk { intent, attempt, seq, count } => {
                self.chunk(worker, (intent, attempt), seq, count, acts);
            }
            FromWorker::Complete { intent, attempt, units } => {
                self.complete(worker, (intent, attempt), (Reason::Done, units), acts);
            }
            FromWorker::Fail { intent, attempt, retry } => {
                let Some(held) = self.live(worker, intent, attempt) else { return };
                let why = Why::WorkerFailed { code: Code::WorkerFailed, retry };
                let request = held.end(why);
                if let Some(run) = held.run.as_mut() {
                    run.void = true;
                }
                acts.push(ask_end(request));
            }
        }
    }

    /// Of what a worker says that it works on: what it has given nothing of for too long.
    fn silent(&mut self, session: SessionId, leases: &[LeaseClaim]) -> Vec<LeaseClaim> {
        let mut silent = Vec::new();
        for claim in leases {
            let Some(run) = self.run_of(claim.intent, claim.attempt) else { continue };
            if run.void || run.session != session {
                continue;
            }
            run.quiet = run.quiet.saturating_add(1);
            let for_ms = run.quiet.saturating_mul(limits::HEARTBEAT_MS);
            if run.silence_ms.take_if(|allowed| for_ms >= *allowed).is_some() {
                silent.push(*claim);
            }
        }
        silent
    }

    /// The intent, if that worker's attempt is the one that counts.
    fn live(&mut self, worker: WorkerId, intent: IntentId, attempt: Attempt) -> Option<&mut Held> {
        let held = self.intents.get_mut(&intent)?;
        let run = held.run?;
        let counts = run.attempt == attempt && run.worker == worker && !run.void;
        (counts && held.ending.is_none()).then_some(held)
    }

    fn chunk(
        &mut self,
        worker: WorkerId,
        (intent, attempt): (IntentId, Attempt),
        seq: u64,
        count: u64,
        acts: &mut Vec<Act>,
    ) {
        let Some(held) = self.live(worker, intent, attempt) else { return };
        let Some(run) = held.run.as_mut() else { return };
        if seq < run.next_seq {
            return;
        }
        if seq > run.next_seq {
            run.void = true;
            let why = Why::WorkerFailed { code: Code::Protocol, retry: true };
            return acts.push(ask_end(held.end(why)));
        }
        (run.next_seq, run.quiet) = (run.next_seq.saturating_add(1), 0);
        let bound = run.next_seq.saturating_mul(UNITS_PER_CHUNK);
        run.metered = count.min(bound).min(run.limit).max(run.metered);
        let cut = run.metered >= run.limit;
        held.delivered = true;
        acts.push(Act::Tell(News::Chunk { intent, attempt, seq }));
        if cut {
            let units = u64::MAX;
            self.complete(worker, (intent, attempt), (Reason::Ceiling, units), acts);
        }
    }

    fn complete(
        &mut self,
        worker: WorkerId,
        (intent, attempt): (IntentId, Attempt),
        (reason, units): (Reason, u64),
        acts: &mut Vec<Act>,
    ) {
        let Some(held) = self.live(worker, intent, attempt) else { return };
        let mut request = held.end(Why::Completed(reason));
        // Billed is what was claimed, at most what was metered.
        request.usage.units = request.usage.units.min(units);
        held.ending = Some(request.clone());
        if held.meta.durable {
            held.sealing = true;
            acts.push(Act::Seal { intent, result: true });
        } else {
            acts.push(ask_end(request));
        }
    }
}

impl Held {
    fn new(meta: IntentMeta) -> Self {
        Self { meta, run: None, fence: Fence(0), delivered: false, ending: None, sealing: false }
    }

    fn end(&self, why: Why) -> EndRequest {
        let units = self.run.map_or(0, |run| run.metered);
        EndRequest {
            intent: self.meta.id,
            attempt: self.run.map(|run| run.attempt),
            why,
            usage: Usage { units, input: 0, output: units },
            delivered: self.delivered,
        }
    }

    /// The client forgets the attempt before.
    fn discard(&mut self, acts: &mut Vec<Act>) {
        if !self.delivered {
            return;
        }
        self.delivered = false;
        if let Some(run) = self.run.as_mut() {
            run.metered = 0;
        }
        acts.push(Act::Tell(News::Restarted(self.meta.id)));
    }
}

fn ask_end(request: EndRequest) -> Act {
    Act::Ask { to: Service::Events, command: Command::End(request), asker: Asker::Nobody }
}

/// The edge has nothing of that intent any more.
fn ask_gone(intent: IntentId, attempt: Attempt) -> Act {
    let (why, usage) = (Why::PayloadGone, Usage::default());
    ask_end(EndRequest { intent, attempt: Some(attempt), why, usage, delivered: false })
}
