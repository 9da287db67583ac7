//! The world of one run: everything there is, and the loop that lets it happen.

use std::collections::BTreeMap;

use mtor_core::accountant::Policy;
use mtor_core::command::{GrantPolicy, OpenAccount, Token};
use mtor_core::share::{Holder, Rank};
use mtor_core::{Command, Node, NodeConfig};
use mtor_types::fact::{AccountKind, Asset};
use mtor_types::message::Service;
use mtor_types::{AccountId, Amount, KeyHash, NodeId, RealmId, SessionId, Time, WorkerId};

use crate::client::{self, Plan};
use crate::edge::{Edge, Vault};
use crate::event::{Agenda, Asker, EdgeEvent, Event};
use crate::network::Network;
use crate::oracle::{Oracle, fair};
use crate::process::{Asked, Process};
use crate::rng::{Rng, Streams, Trace};
use crate::scenario::{
    self, CALM_MS, CHECK_MS, HEALED_MS, QUIET_MS, REALMS_ONE_IN, START_MS, STEPS_MAX, Scenario,
    Topology,
};
use crate::worker::Worker;

/// Hears of every event, by step.
pub(crate) type Narrator<'a> = &'a mut dyn FnMut(u64, &str);

pub(crate) struct World<'a> {
    /// Hears of everything that happens, in words.
    pub(crate) narrator: Option<Narrator<'a>>,
    pub(crate) scenario: Scenario,
    pub(crate) now: u64,
    pub(crate) steps: u64,
    pub(crate) agenda: Agenda,
    pub(crate) rng: Streams,
    pub(crate) trace: Trace,
    pub(crate) places: BTreeMap<Service, NodeId>,
    pub(crate) processes: BTreeMap<NodeId, Process>,
    pub(crate) network: Network,
    pub(crate) edge: Option<Edge>,
    pub(crate) vault: Vault,
    /// Messages of one connection, and effects of the edge's own node, arrive in order.
    pub(crate) ordered: BTreeMap<Line, u64>,
    pub(crate) workers: Vec<Worker>,
    /// Whose session it was when it was opened.
    pub(crate) sessions: BTreeMap<SessionId, usize>,
    pub(crate) accounts: Vec<AccountId>,
    pub(crate) plans: Vec<Plan>,
    pub(crate) submits_planned: u64,
    pub(crate) oracle: Oracle,
    pub(crate) calm: bool,
    /// The step of the next look at everything, of the next rehearsed recovery, and of the next state
    /// that is remembered by its digest.
    whole_at: u64,
    pub(crate) rehearse_at: u64,
    pub(crate) digest_at: u64,
    quiet_since: Option<u64>,
    done: bool,
}

/// Something that keeps order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Line {
    ToWorker(usize),
    FromWorker(usize),
    /// From the edge's own node.
    Local,
    /// To it.
    ToNode,
}

impl<'a> World<'a> {
    pub(crate) fn new(scenario: &Scenario, seed: u64, narrator: Option<Narrator<'a>>) -> Self {
        let places = scenario.topology.places();
        let owner = account(0);
        let grant = GrantPolicy {
            asset: Asset::Grant,
            amount: Amount::from_u64(scenario.grant()),
            daily_total: Amount::from_u64(1_000_000_000),
            daily_per_network: 10_000,
        };
        let policy = Policy { grant: Some(grant), fee_basis_points: scenario::FEE_BASIS_POINTS };
        let mut rng = Streams::new(seed);
        let mut processes = BTreeMap::new();
        for node in (0..scenario.topology.nodes()).map(NodeId) {
            let config = NodeConfig { node, places: places.clone(), policy: policy.clone(), owner };
            // No two machines agree on the time.
            processes.insert(node, Process::new(config, rng.schedule.between(0, 5_000)));
        }
        let count = usize::try_from(scenario.workers).unwrap_or_default();
        let workers: Vec<Worker> =
            (0..count).map(|number| Worker::new(worker(number), number, scenario, seed)).collect();
        let accounts = (0..scenario.accounts).map(|number| account(number.saturating_add(1)));
        let accounts: Vec<AccountId> = accounts.collect();
        let owners = workers.iter().enumerate().map(|(number, worker)| {
            // Who owns a worker is served by it first, so where service is compared nobody who asks
            // does.
            let realms = number.is_multiple_of(REALMS_ONE_IN) || scenario.steady;
            let other = accounts.get(number.checked_rem(accounts.len()).unwrap_or_default());
            (worker.id, other.copied().filter(|_| !realms).unwrap_or(owner))
        });
        let oracle = Oracle::new(owners.collect(), scenario.topology == Topology::Whole);
        Self {
            narrator,
            scenario: *scenario,
            now: START_MS,
            steps: 0,
            agenda: Agenda::default(),
            rng,
            trace: Trace::default(),
            places,
            processes,
            network: Network::default(),
            edge: None,
            vault: Vault::default(),
            ordered: BTreeMap::new(),
            workers,
            sessions: BTreeMap::new(),
            accounts,
            plans: client::plans(scenario, seed),
            submits_planned: 0,
            oracle,
            calm: false,
            whole_at: 0,
            rehearse_at: 0,
            digest_at: 0,
            quiet_since: None,
            done: false,
        }
    }

    pub(crate) fn run(&mut self, seed: u64) -> Result<(), String> {
        self.set_up(seed)?;
        while let Some((at, event)) = self.agenda.next() {
            self.now = self.now.max(at);
            self.steps = self.steps.saturating_add(1);
            if self.steps > STEPS_MAX {
                return Err("it never comes to rest".to_owned());
            }
            self.trace.word(at);
            self.tell(|| format!("{event:?}"));
            match self.held_up(&event) {
                Some(process) => process.held_up.push_back(event),
                None => self.happen(event)?,
            }
            self.look_at_everything()?;
            if self.done {
                break;
            }
        }
        self.whole_at = self.steps;
        self.look_at_everything()?;
        // Where services are apart, what waits is on its way for a part of the time.
        if self.scenario.steady && self.scenario.topology == Topology::Whole {
            // One slot each.
            fair::check(&self.oracle.service, self.scenario.workers)?;
        }
        let boot = self.edge.as_ref().map_or(0, |edge| edge.boot);
        self.oracle.finish(boot)
    }

    /// Whole invariants of every node, when it is time for them.
    fn look_at_everything(&mut self) -> Result<(), String> {
        if self.steps < self.whole_at {
            return Ok(());
        }
        self.whole_at = self.steps.saturating_add(self.scenario.whole_steps());
        let mut nodes = self.processes.values().filter_map(|process| process.node.as_ref());
        nodes.try_for_each(Node::check_invariants)
    }

    pub(crate) fn tell(&mut self, words: impl FnOnce() -> String) {
        if let Some(narrator) = self.narrator.as_mut() {
            narrator(self.now.saturating_sub(START_MS), &words());
        }
    }

    pub(crate) fn plan(&mut self, after_ms: u64, event: Event) {
        self.agenda.plan(self.now.saturating_add(after_ms), event);
    }

    /// Like `plan`, but never before what was planned on the same line.
    pub(crate) fn plan_in_order(&mut self, line: Line, after_ms: u64, event: Event) {
        let at = self.ordered.entry(line).or_default();
        *at = self.now.saturating_add(after_ms).max(*at);
        self.agenda.plan(*at, event);
    }

    pub(crate) fn place(&self, service: Service) -> NodeId {
        self.places.get(&service).copied().unwrap_or_default()
    }

    /// Boots the nodes, opens the ledger, enrols the workers, and plans everything else.
    fn set_up(&mut self, seed: u64) -> Result<(), String> {
        let nodes: Vec<NodeId> = self.processes.keys().copied().collect();
        for node in nodes {
            self.boot(node)?;
        }
        for (to, command) in self.founding() {
            let node = self.place(to);
            if let Some(process) = self.processes.get_mut(&node) {
                process.inbox.push_back(Asked { command, asker: Asker::Nobody, edge_boot: 0 });
            }
        }
        for worker in 0..self.workers.len() {
            self.plan(60, Event::Connect { worker, life: 0 });
            let beat = self.rng.schedule.between(60, 900);
            self.plan(beat, Event::Beat { worker, life: 0 });
        }
        for (index, at) in self.plans.iter().map(|plan| plan.at).enumerate().collect::<Vec<_>>() {
            self.plan_submit(index, at);
        }
        for (at, fault) in scenario::faults(&self.scenario, seed) {
            self.plan(at, Event::Fault(fault));
        }
        self.plan(self.scenario.storm_ms, Event::Calm);
        self.plan(CHECK_MS, Event::Check);
        Ok(())
    }

    fn founding(&self) -> Vec<(Service, Command)> {
        let (realm, decimals, name_secret) = (RealmId([9; 32]), 6, [1; 32]);
        let owner = account(0);
        let mut commands = vec![(
            Service::Accountant,
            Command::OpenLedger { realm, decimals, owner, name_secret },
        )];
        for (number, account) in self.accounts.iter().enumerate() {
            let open = OpenAccount {
                account: *account,
                kind: AccountKind::Guest,
                key: KeyHash(tagged(2, number)),
                name_secret,
                networks: Vec::new(),
                invite: None,
                salt: [4; 16],
            };
            commands.push((Service::Accountant, Command::OpenAccount(open)));
        }
        for (number, worker) in self.workers.iter().enumerate() {
            let hash = KeyHash(tagged(5, number));
            let owner = self.oracle.books.owner_of(worker.id);
            let token = Token { hash, owner, expires: Time(u64::MAX) };
            let (worker, name) = (worker.id, format!("worker {number}"));
            let rank = if owner == account(0) { Rank::Realm } else { Rank::Guest };
            let holder = Holder { account: Some(owner), network: None, rank };
            commands.push((Service::Registry, Command::Enrol { token, worker, name, holder }));
        }
        commands
    }

    pub(crate) fn plan_submit(&mut self, plan: usize, after_ms: u64) {
        self.submits_planned = self.submits_planned.saturating_add(1);
        self.plan(after_ms, Event::Submit { plan });
    }

    /// The process to which it happens, if that stands still. What only reaches its sockets does
    /// not wait.
    fn held_up(&mut self, event: &Event) -> Option<&mut Process> {
        let edge = self.place(Service::Events);
        let node = match event {
            Event::Turn { node, .. } | Event::Wake { node, .. } | Event::Synced { node, .. } => {
                *node
            }
            Event::Edge { .. }
            | Event::FromWorker { .. }
            | Event::Connect { .. }
            | Event::Submit { .. }
            | Event::Cancel { .. } => edge,
            Event::Restart { .. }
            | Event::Packet { .. }
            | Event::Acknowledged { .. }
            | Event::Ask { .. }
            | Event::ToWorker { .. }
            | Event::Beat { .. }
            | Event::Work { .. }
            | Event::Fault(_)
            | Event::Heal(_)
            | Event::Calm
            | Event::Check => return None,
        };
        self.processes.get_mut(&node).filter(|process| process.paused.is_some())
    }

    pub(crate) fn happen(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Turn { node, boot } => return self.turn(node, boot),
            Event::Wake { node, boot } => {
                if let Some(process) = self.processes.get_mut(&node).filter(|p| p.boot == boot) {
                    process.wake_planned = None;
                }
                return self.turn(node, boot);
            }
            Event::Synced { node, boot, number } => return self.synced(node, boot, number),
            Event::Restart { node } => return self.boot(node),
            Event::Packet { from, to, number, bytes } => {
                let bytes = bytes.to_vec();
                self.knock(to, Command::Deliver { from, number, bytes }, Asker::Nobody, 0);
            }
            Event::Acknowledged { by, to, number } => {
                self.knock(to, Command::Acknowledged { by, number }, Asker::Nobody, 0);
            }
            Event::Ask { node, edge_boot, command, asker } => {
                self.knock(node, *command, asker, edge_boot);
            }
            Event::Edge { boot, event } => return self.edge_event(boot, event),
            Event::ToWorker { worker, session, message } => {
                self.worker_hears(worker, session, message);
            }
            Event::FromWorker { session, message } => {
                return self.at_edge(None, |edge, _, acts| {
                    edge.take_from_worker(session, message, acts);
                });
            }
            Event::Beat { worker, life } => self.beat(worker, life),
            Event::Connect { worker, life } => return self.connect(worker, life),
            Event::Work { worker, life, intent, fence } => self.work(worker, life, intent, fence),
            Event::Submit { plan } => return self.submit(plan),
            Event::Cancel { plan } => return self.cancel(plan),
            Event::Fault(fault) => self.fault(fault),
            Event::Heal(heal) => return self.heal(heal),
            Event::Calm => return self.calm_down(),
            Event::Check => return self.check(),
        }
        Ok(())
    }

    fn edge_event(&mut self, boot: u64, event: EdgeEvent) -> Result<(), String> {
        self.at_edge(Some(boot), |edge, vault, acts| match event {
            EdgeEvent::Answer { asker, result } => edge.answer(asker, result, acts),
            EdgeEvent::Effect(effect) => edge.effect(*effect, vault, acts),
            EdgeEvent::Sealed { intent, result } => edge.sealed(intent, result, vault, acts),
            EdgeEvent::AttachAgain { session } => edge.attach(session, acts),
        })
    }

    /// Whether the realm has come to rest, and whether it should have by now.
    fn check(&mut self) -> Result<(), String> {
        let since_calm = self.now.saturating_sub(START_MS.saturating_add(self.scenario.storm_ms));
        if since_calm > HEALED_MS
            && let Some(intent) = self.oracle.books.backstops.first()
        {
            return Err(format!("only the expiry of its hold ended {intent}"));
        }
        if since_calm <= HEALED_MS {
            self.oracle.books.backstops.clear();
        }
        match self.restless() {
            None => {
                let since = *self.quiet_since.get_or_insert(self.now);
                self.done = self.now.saturating_sub(since) >= QUIET_MS;
            }
            Some(why) => {
                self.quiet_since = None;
                if since_calm > CALM_MS {
                    return Err(format!("no rest {since_calm} ms after the last fault: {why}"));
                }
            }
        }
        if !self.done {
            self.plan(CHECK_MS, Event::Check);
        }
        Ok(())
    }

    /// What still goes on, if anything.
    fn restless(&self) -> Option<String> {
        if !self.calm {
            return Some("the storm".to_owned());
        }
        if self.submits_planned > 0 {
            return Some(format!("{} submissions to come", self.submits_planned));
        }
        for (id, process) in &self.processes {
            let Some(node) = process.node.as_ref().filter(|_| process.up) else {
                return Some(format!("node {id:?} is down"));
            };
            let open = [
                ("open intents", node.events().open_count()),
                ("holds", node.accountant().open_holds()),
                ("queued intents", node.router().queued()),
                ("leases", node.router().leased()),
                ("timers of the router", usize::from(node.router().next_timeout().is_some())),
            ];
            if let Some((what, count)) = open.into_iter().find(|(_, count)| *count > 0) {
                return Some(format!("{count} {what} at node {id:?}"));
            }
        }
        if let Some(intent) = self.edge.as_ref().and_then(|edge| edge.open().next()) {
            return Some(format!("the edge still holds {intent}"));
        }
        let busy = self.workers.iter().find(|worker| worker.is_busy());
        busy.map(|worker| format!("worker {} still has {:?}", worker.id, worker.tasks.keys()))
    }
}

fn tagged(tag: u8, number: usize) -> [u8; 32] {
    let mut bytes = [0; 32];
    let number = u64::try_from(number).unwrap_or(u64::MAX);
    bytes.iter_mut().zip(number.to_be_bytes()).for_each(|(byte, digit)| *byte = digit);
    if let Some(last) = bytes.last_mut() {
        *last = tag;
    }
    bytes
}

fn account(number: u32) -> AccountId {
    AccountId(tagged(1, usize::try_from(number).unwrap_or(usize::MAX)))
}

fn worker(number: usize) -> WorkerId {
    WorkerId(tagged(6, number))
}

/// A delay of something local.
pub(crate) fn soon(rng: &mut Rng) -> u64 {
    rng.between(0, 2)
}
