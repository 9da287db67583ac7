//! A node: one or more services behind one log.
//!
//! The shell hands in commands, then takes the facts of the batch and the effects. Invariants: an
//! outside command is handled whole, with every message it causes between services of this node,
//! before the next; a message to another node is a fact (the outbox) before it leaves, numbered
//! per receiver, and taken there in order, exactly once; time never goes back.

mod head;
mod outbox;
mod state;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use mtor_types::fact::{Batch, Fact};
use mtor_types::message::{Envelope, Message, Service};
use mtor_types::rejection::{Limited, Rejection};
use mtor_types::{AccountId, NodeId, Time};

use crate::accountant::{Accountant, Policy};
use crate::command::Command;
use crate::effect::{Effect, When};
use crate::events::EventProcessor;
use crate::limits;
use crate::registry::Registry;
use crate::router::Router;
use crate::steps::Steps;
use crate::turn::Turn;
use outbox::Outbox;
pub use state::NodeState;

pub use crate::snapshot::RecoverError;

/// Where the services of a realm live, and the rules that are not facts.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    pub node: NodeId,
    /// The node of each service. Those on `node` run here.
    pub places: BTreeMap<Service, NodeId>,
    pub policy: Policy,
    /// The realm's own account: its workers are the realm's own.
    pub owner: AccountId,
}

impl NodeConfig {
    /// The default: all services on one node.
    pub fn whole(policy: Policy, owner: AccountId) -> Self {
        let node = NodeId::default();
        let places = Service::ALL.into_iter().map(|service| (service, node)).collect();
        Self { node, places, policy, owner }
    }

    /// Whether an intent's whole way is on this node.
    fn is_whole(&self) -> bool {
        [Service::Events, Service::Accountant, Service::Router].iter().all(|one| self.here(*one))
    }

    fn here(&self, service: Service) -> bool {
        self.places.get(&service) == Some(&self.node)
    }
}

#[derive(Debug)]
pub struct Node {
    config: NodeConfig,
    turn: Turn,
    /// The last batch that was closed, and its time.
    batch: u64,
    batch_at: Time,
    accountant: Accountant,
    events: EventProcessor,
    registry: Registry,
    router: Router,
    outboxes: BTreeMap<NodeId, Outbox>,
    /// Per sender, the last message taken.
    marks: BTreeMap<NodeId, u64>,
    /// Soft, per sender: messages that came before their turn.
    early: BTreeMap<NodeId, BTreeMap<u64, Arc<[u8]>>>,
    /// Soft: no timer judges before, for what came in a pause is to be taken first.
    settled: Time,
    steps: Steps,
}

impl Node {
    /// Begins a boot: raises the epoch and lets the services say what they recovered. Its facts
    /// must be synced before any of its effects leaves, so all of them are durable.
    pub fn start(&mut self, now: Time) {
        self.clock(now);
        let epoch = self.turn.epoch.saturating_add(1);
        self.record(Fact::NodeStarted { epoch });
        if self.config.here(Service::Router) {
            self.router.start(&mut self.turn);
        }
        if self.config.here(Service::Registry) {
            self.registry.start(&mut self.turn);
        }
        if self.config.here(Service::Accountant) {
            self.accountant.start(&mut self.turn);
        }
        if self.config.here(Service::Events) {
            self.events.start(&mut self.turn);
        }
        self.deliver_all();
        self.resend();
        for (when, _) in &mut self.turn.effects {
            *when = When::Durable;
        }
    }

    /// As [`Node::start`], at a time before the last record: an earlier start had a clock that was ahead.
    /// What is due is due as much earlier. Whoever replays the log finds a boot whose batch is older than
    /// the one before it, and does the same.
    pub fn start_back(&mut self, now: Time) {
        self.set_back(now);
        self.start(now);
    }

    /// Decides one outside command. `Err`: nothing changed.
    pub fn handle(&mut self, now: Time, command: Command) -> Result<(), Rejection> {
        self.clock(now);
        if self.outboxes.values().any(Outbox::is_full)
            && !matches!(command, Command::Deliver { .. } | Command::Acknowledged { .. })
        {
            let limit = u64::try_from(limits::OUTBOX_MAX).unwrap_or(u64::MAX);
            return Err(Rejection::LimitReached { what: Limited::Messages, limit });
        }
        let result = self.decide(command);
        self.deliver_all();
        self.raise_epoch();
        result
    }

    /// The shell had no round for so long. A pause of ours is nobody's silence: leases, sessions,
    /// and waits for workers to come last longer by it; deadlines do not. A shorter gap is none.
    pub fn paused(&mut self, now: Time, gap_ms: u64) {
        if gap_ms <= limits::PAUSE_MS {
            return;
        }
        self.clock(now);
        self.registry.paused(now, gap_ms);
        self.router.paused(now, gap_ms);
        // Not at each of many pauses in a row: between two of them timers have their turn.
        if now >= self.settled.after_ms(limits::PAUSE_SETTLE_MS) {
            self.settled = now.after_ms(limits::PAUSE_SETTLE_MS);
        }
    }

    /// Lets everything happen that is due by now.
    pub fn tick(&mut self, now: Time) {
        self.clock(now);
        if now < self.settled {
            return;
        }
        self.events.tick(&mut self.turn);
        self.accountant.tick(&mut self.turn);
        self.registry.tick(&mut self.turn);
        self.router.tick(&mut self.turn);
        self.deliver_all();
        self.resend();
    }

    /// When [`Node::tick`] has something to do.
    pub fn next_timeout(&self) -> Option<Time> {
        let services = [
            self.events.next_timeout(),
            self.accountant.next_timeout(),
            self.registry.next_timeout(),
            self.router.next_timeout(),
        ];
        let outboxes = self.outboxes.values().map(Outbox::next_timeout);
        let due = services.into_iter().chain(outboxes).flatten().min();
        due.map(|due| due.max(self.settled))
    }

    /// The next effect, in order. A durable one belongs to the batch that is open now, or to the
    /// last closed one if nothing was recorded since.
    pub fn poll_effect(&mut self) -> Option<(When, Effect)> {
        self.turn.effects.pop_front()
    }

    /// Closes the batch: everything decided since the last one. `None`: nothing was.
    pub fn close_batch(&mut self) -> Option<Batch> {
        if self.turn.facts.is_empty() {
            return None;
        }
        self.batch = self.batch.saturating_add(1);
        self.batch_at = self.turn.now;
        let facts = std::mem::take(&mut self.turn.facts);
        Some(Batch { number: self.batch, at: self.turn.now, facts })
    }

    /// The last closed batch.
    pub fn batch(&self) -> u64 {
        self.batch
    }

    /// How often any of its services looked at one of many things so far.
    pub fn steps(&self) -> u64 {
        let steps = [
            self.events.steps(),
            self.accountant.steps(),
            self.registry.steps(),
            self.router.steps(),
            self.steps.count(),
        ];
        steps.into_iter().fold(0, u64::saturating_add)
    }

    pub fn epoch(&self) -> u32 {
        self.turn.epoch
    }

    pub fn now(&self) -> Time {
        self.turn.now
    }

    pub fn accountant(&self) -> &Accountant {
        &self.accountant
    }

    pub fn events(&self) -> &EventProcessor {
        &self.events
    }

    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    pub fn router(&self) -> &Router {
        &self.router
    }

    /// O(n): what must hold between any two commands of a node that was started. For tests, the
    /// simulator, and once after each start, before anything of it is written.
    ///
    /// # Errors
    /// Whose invariant does not hold, and which.
    pub fn check_invariants(&self) -> Result<(), String> {
        let of = |service: &str, what: String| format!("{service}: {what}");
        self.accountant.check_invariants().map_err(|what| of("accountant", what))?;
        self.events.check_invariants().map_err(|what| of("event processor", what))?;
        self.registry.check_invariants().map_err(|what| of("registry", what))?;
        self.router.check_invariants().map_err(|what| of("router", what))
    }

    /// Time stands still within a batch, so that a replay, which knows only the batch's time,
    /// reaches the same state.
    fn clock(&mut self, now: Time) {
        if self.turn.facts.is_empty() {
            self.turn.now = self.turn.now.max(now);
        }
    }

    fn decide(&mut self, command: Command) -> Result<(), Rejection> {
        let turn = &mut self.turn;
        match command {
            Command::Submit { meta, prior, rank } => self.events.submit(turn, meta, prior, rank),
            Command::End(request) => self.events.end(turn, request),
            Command::Stop { intent, why } => self.events.stop(turn, intent, why),
            Command::OpenLedger { realm, decimals, owner, name_secret } => {
                self.accountant.open_ledger(turn, realm, decimals, owner, name_secret)
            }
            Command::OpenAccount(open) => self.accountant.open_account(turn, &open),
            Command::FillUp { account, networks, salt } => {
                self.accountant.fill_up(turn, account, &networks, salt)
            }
            Command::IssueInvites { invites } => self.accountant.issue_invites(turn, invites),
            Command::WithdrawInvites => {
                self.accountant.withdraw_invites(turn);
                Ok(())
            }
            Command::LimitAccount { account, limits } => {
                self.accountant.limit_account(turn, account, limits)
            }
            Command::FundCanaries { amount, salt } => {
                self.accountant.fund_canaries(turn, amount, salt)
            }
            Command::AddKey { account, key } => self.accountant.add_key(turn, account, key),
            Command::RevokeKey { account, key } => self.accountant.revoke_key(turn, account, key),
            Command::BanAccount { account, banned } => {
                self.accountant.ban_account(turn, account, banned)
            }
            Command::Enrol { token, worker, name, holder } => {
                self.registry.enrol(turn, token, worker, name, holder)
            }
            Command::RemoveWorker { worker } => self.registry.remove_worker(turn, worker),
            Command::BanWorker { worker, banned } => self.registry.ban_worker(turn, worker, banned),
            Command::Vouch { worker, kind, vouched } => {
                self.registry.vouch(turn, worker, kind, vouched)
            }
            Command::JudgeCanary { worker, kind, right } => {
                self.registry.judge_canary(turn, worker, kind, right)
            }
            Command::Attach(slots) => self.registry.attach(turn, slots),
            Command::Heard { worker, session } => self.registry.heard(turn, worker, session),
            Command::Renew { worker, session, leases, silent } => {
                self.registry.renew(turn, (worker, session), leases, silent)
            }
            Command::Detach { worker, session } => self.registry.detach(turn, worker, session),
            Command::Deliver { from, number, bytes } => self.take(from, number, &bytes),
            Command::Acknowledged { by, number } => {
                self.acknowledged(by, number);
                Ok(())
            }
        }
    }

    /// Delivers messages between the services of this node until none is left. Every message
    /// moves an intent forward on the ring, so the loop ends.
    fn deliver_all(&mut self) {
        while let Some(Envelope { to, message }) = self.turn.messages.pop_front() {
            match self.config.places.get(&to) {
                Some(place) if *place != self.config.node => self.post(*place, to, message),
                Some(_) | None => self.receive(to, message),
            }
        }
    }

    fn receive(&mut self, to: Service, message: Message) {
        let turn = &mut self.turn;
        match to {
            Service::Events => self.events.receive(turn, message),
            Service::Accountant => self.accountant.receive(turn, message),
            Service::Router => self.router.receive(turn, message),
            Service::Registry => self.registry.receive(turn, message),
        }
    }

    /// Records a fact of the node itself.
    /// Attempts and fences never repeat, however long a boot lasts.
    fn raise_epoch(&mut self) {
        let epoch = self.router.epoch_needed();
        if epoch > self.turn.epoch {
            self.record(Fact::NodeStarted { epoch });
        }
    }

    fn record(&mut self, fact: Fact) {
        self.apply(self.turn.now, &fact);
        self.turn.record(fact);
    }
}
