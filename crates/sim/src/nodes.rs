//! How nodes take turns, sync, crash and come back, and where their effects go.

use mtor_core::effect::{Effect, When};
use mtor_core::{Command, Node};
use mtor_types::fact::Fact;
use mtor_types::intent::IntentMeta;
use mtor_types::message::{Service, SlotOffer};
use mtor_types::{NodeId, Time, WorkerId};

use crate::edge::Edge;
use crate::event::{Asker, EdgeEvent, Event};
use crate::oracle::{By, Class, Oracle, Standing};
use crate::process::{Asked, Leaving};
use crate::scenario::{APPEND_REPEAT_MS, START_MS, Topology};
use crate::world::{Line, World, soon};

impl World<'_> {
    /// Starts a node from its disk; its edge opens when the start is synced.
    pub(crate) fn boot(&mut self, id: NodeId) -> Result<(), String> {
        let now = self.now;
        let Some(process) = self.processes.get_mut(&id) else { return Ok(()) };
        if process.node.is_some() {
            return Ok(());
        }
        let pick = self.rng.schedule.index(crate::scenario::SNAPSHOTS_MAX.saturating_add(1));
        let synced = process.disk.synced();
        let mut node = process.disk.recover(process.config.clone(), pick, synced)?;
        process.boot = process.boot.saturating_add(1);
        node.start(process.clock(now));
        // As the product does before it writes anything of a start.
        node.check_invariants()?;
        self.oracle.floor.start(node.events().list(None).map(|meta| &**meta), node.now().0);
        process.node = Some(node);
        self.observe(id, By::Command)?;
        self.finish_turn(id, Vec::new())?;
        let Some(process) = self.processes.get_mut(&id) else { return Ok(()) };
        process.ready = Some(process.disk.last());
        Ok(())
    }

    /// Something for a node arrives. A node that is down or starting hears nothing.
    pub(crate) fn knock(&mut self, id: NodeId, command: Command, asker: Asker, edge_boot: u64) {
        let delay = soon(&mut self.rng.schedule);
        let Some(process) = self.processes.get_mut(&id).filter(|process| process.up) else {
            return;
        };
        process.inbox.push_back(Asked { command, asker, edge_boot });
        if !process.turn_planned {
            process.turn_planned = true;
            let boot = process.boot;
            self.plan(delay, Event::Turn { node: id, boot });
        }
    }

    /// A node handles what has arrived and what is due, then closes its batch.
    pub(crate) fn turn(&mut self, id: NodeId, boot: u64) -> Result<(), String> {
        let now = self.now;
        let Some(process) = self.processes.get_mut(&id) else { return Ok(()) };
        if process.boot != boot || !process.up {
            return Ok(());
        }
        process.turn_planned = false;
        let clock = process.clock(now);
        let mut answers = Vec::new();
        while let Some(asked) = self.processes.get_mut(&id).and_then(|p| p.inbox.pop_front()) {
            answers.extend(self.ask(id, clock, asked)?);
        }
        let Some(node) = self.processes.get_mut(&id).and_then(|p| p.node.as_mut()) else {
            return Ok(());
        };
        if node.next_timeout().is_some_and(|due| due <= clock) {
            node.tick(clock);
            if let Some(due) = node.next_timeout().filter(|due| *due <= clock) {
                return Err(format!("a tick at {clock} leaves something due at {due}"));
            }
            self.observe(id, By::Tick)?;
        }
        self.finish_turn(id, answers)
    }

    /// A node handles one command, and the oracle sees what it decided.
    fn ask(&mut self, id: NodeId, clock: Time, asked: Asked) -> Result<Option<Leaving>, String> {
        let Some(node) = self.processes.get_mut(&id).and_then(|p| p.node.as_mut()) else {
            return Ok(None);
        };
        let Asked { command, asker, edge_boot } = asked;
        let words = self.narrator.is_some().then(|| format!("{command:?}"));
        let judged = Oracle::before(&command);
        let result = node.handle(clock, command);
        if let (Some(narrator), Some(words)) = (self.narrator.as_mut(), words) {
            let at = self.now.saturating_sub(START_MS);
            narrator(at, &format!("node {} {words}: {result:?}", id.0));
        }
        if let (Some(judged), Ok(())) = (judged, &result) {
            let times = (self.now, node.now().0);
            self.oracle
                .handled(judged, times, &|worker, offer| standing_of(Some(node), worker, offer));
        }
        self.observe(id, By::Command)?;
        let answered = asker != Asker::Nobody;
        Ok(answered.then_some(Leaving::Answer { edge_boot, asker, result }))
    }

    /// What a node decided since the oracle looked last.
    fn observe(&mut self, id: NodeId, by: By) -> Result<(), String> {
        let registry = self.place(Service::Registry);
        let Some(process) = self.processes.get_mut(&id) else { return Ok(()) };
        let Some(node) = process.node.as_mut() else { return Ok(()) };
        let from = process.decided.len();
        process.decided.extend(std::iter::from_fn(|| node.poll_effect()));
        let times = (self.now, node.now().0);
        let registry = self.processes.get(&registry).and_then(|process| process.node.as_ref());
        let Some(process) = self.processes.get(&id) else { return Ok(()) };
        let decided = process.decided.get(from..).unwrap_or_default();
        self.oracle
            .decided(decided, times, by, &|worker, offer| standing_of(registry, worker, offer))
    }

    /// Appends the batch, lets what may leave at once leave, and plans the next wake.
    fn finish_turn(&mut self, id: NodeId, answers: Vec<Leaving>) -> Result<(), String> {
        let now = self.now;
        let Some(process) = self.processes.get_mut(&id) else { return Ok(()) };
        let Some(node) = process.node.as_mut() else { return Ok(()) };
        if let Some(batch) = node.close_batch() {
            if let Some(narrator) = self.narrator.as_mut() {
                narrator(now.saturating_sub(START_MS), &format!("node {} {batch:?}", id.0));
            }
            let due = self.steps >= self.digest_at;
            if due {
                self.digest_at = self.steps.saturating_add(self.scenario.whole_steps());
            }
            let digest = due.then(|| node.digest()).transpose();
            let bytes = process.disk.append(&batch, digest.map_err(|error| error.to_string())?)?;
            self.trace.bytes(&bytes);
            if self.rng.schedule.per_cent(3) && due {
                let state = node.encode_state().map_err(|error| error.to_string())?;
                process.disk.snapshot(batch.number, state);
            }
            if !process.syncing {
                self.plan_sync(id);
            }
        }
        let Some(process) = self.processes.get_mut(&id) else { return Ok(()) };
        let Some(node) = process.node.as_mut() else { return Ok(()) };
        let (last, synced) = (node.batch(), process.disk.synced());
        let mut leaving = Vec::new();
        for (when, effect) in std::mem::take(&mut process.decided) {
            if let Some(narrator) = self.narrator.as_mut() {
                let at = now.saturating_sub(START_MS);
                narrator(at, &format!("node {} {when:?} {effect:?}", id.0));
            }
            if when == When::Now || last <= synced {
                leaving.push(Leaving::Effect(effect));
            } else {
                process.waiting.push_back((last, Leaving::Effect(effect)));
            }
        }
        for answer in answers {
            // A refusal changed nothing, so there is nothing to wait for.
            let refusal = matches!(answer, Leaving::Answer { result: Err(_), .. });
            if refusal || last <= synced {
                leaving.push(answer);
            } else {
                process.waiting.push_back((last, answer));
            }
        }
        let due = node.next_timeout().map(|due| due.0.saturating_sub(process.clock_ahead_ms));
        let boot = process.boot;
        if let Some(due) = due
            && process.wake_planned.is_none_or(|planned| due < planned)
        {
            process.wake_planned = Some(due);
            let at = due.max(now);
            self.agenda.plan(at, Event::Wake { node: id, boot });
        }
        let clock = node.now().0;
        self.oracle.rested(now, clock, &|worker, offer| standing_of(Some(node), worker, offer))?;
        leaving.into_iter().try_for_each(|leaving| self.leave(id, leaving))
    }

    /// One sync at a time; it covers everything appended before it began.
    fn plan_sync(&mut self, id: NodeId) {
        let Some(process) = self.processes.get_mut(&id) else { return };
        let number = process.disk.last();
        process.syncing = number > process.disk.synced();
        if !process.syncing {
            return;
        }
        let slow = if process.slow_disk { 2_000 } else { 12 };
        let delay = self.rng.schedule.between(1, slow);
        let boot = process.boot;
        self.plan(delay, Event::Synced { node: id, boot, number });
    }

    /// The disk has synced up to a batch: what waited for it leaves.
    pub(crate) fn synced(&mut self, id: NodeId, boot: u64, number: u64) -> Result<(), String> {
        let Some(process) = self.processes.get_mut(&id) else { return Ok(()) };
        if process.boot != boot {
            return Ok(());
        }
        if process.failing_until > self.now {
            // The append failed: the same bytes again.
            self.plan(APPEND_REPEAT_MS, Event::Synced { node: id, boot, number });
            return Ok(());
        }
        for batch in process.disk.sync(number)? {
            self.oracle.synced(&batch)?;
            project(&mut self.vault, &batch.facts);
        }
        self.plan_sync(id);
        let Some(process) = self.processes.get_mut(&id) else { return Ok(()) };
        let starting = !process.up && process.ready.is_some_and(|ready| ready <= number);
        if starting {
            process.up = true;
            self.open_edge(id)?;
        }
        if self.rng.schedule.per_cent(2) && self.steps >= self.rehearse_at {
            self.rehearse_at = self.steps.saturating_add(self.scenario.whole_steps());
            self.rehearse(id)?;
        }
        let Some(process) = self.processes.get_mut(&id) else { return Ok(()) };
        let mut free = process.waiting.iter().take_while(|(batch, _)| *batch <= number).count();
        let crash = process.crash_after_sync.take();
        if crash.is_some() {
            free = self.rng.schedule.index(free.saturating_add(1));
        }
        let leaving: Vec<Leaving> =
            process.waiting.drain(..free).map(|(_, leaving)| leaving).collect();
        for leaving in leaving {
            self.leave(id, leaving)?;
        }
        if let Some(down_ms) = crash {
            self.crash(id, down_ms);
        } else if starting {
            // What arrived while it was starting, and what fell due.
            self.turn(id, boot)?;
        }
        Ok(())
    }

    fn open_edge(&mut self, id: NodeId) -> Result<(), String> {
        if id != self.place(Service::Events) {
            return Ok(());
        }
        let Some(process) = self.processes.get(&id) else { return Ok(()) };
        let Some(node) = process.node.as_ref() else { return Ok(()) };
        // The read tables are rebuilt from the log before the edge answers anybody.
        self.vault.keys.clear();
        for batch in process.disk.batches(0, process.disk.synced())? {
            project(&mut self.vault, &batch.facts);
        }
        let open: Vec<IntentMeta> = node
            .events()
            .list(None)
            .filter(|meta| meta.durable)
            .map(|meta| (**meta).clone())
            .collect();
        if let Some(lost) = open.iter().find(|meta| !self.vault.payloads.contains(&meta.id)) {
            return Err(format!("the payload of {} is gone", lost.id));
        }
        let far = self.place(Service::Router) != id;
        self.edge = Some(Edge::new(process.boot, (id, node.epoch(), far), open.into_iter()));
        Ok(())
    }

    /// Recovers from some snapshot and prefix, without any crash.
    fn rehearse(&mut self, id: NodeId) -> Result<(), String> {
        let Some(process) = self.processes.get(&id) else { return Ok(()) };
        let rng = &mut self.rng.schedule;
        let upto = rng.between(0, process.disk.synced());
        let pick = rng.index(crate::scenario::SNAPSHOTS_MAX.saturating_add(1));
        let node: Node = process.disk.recover(process.config.clone(), pick, upto)?;
        node.accountant().check_invariants()
    }

    /// The process ends; what was not synced never was.
    pub(crate) fn crash(&mut self, id: NodeId, down_ms: u64) {
        let Some(process) = self.processes.get_mut(&id) else { return };
        if process.node.is_none() {
            return;
        }
        // Who waited for a process that stood still finds it gone.
        let held_up = std::mem::take(&mut process.held_up);
        process.crash();
        held_up.into_iter().for_each(|event| self.plan(0, event));
        self.plan(down_ms, Event::Restart { node: id });
        if self.scenario.topology == Topology::Whole {
            self.oracle.forget_leases();
        }
        if id == self.place(Service::Router) {
            self.oracle.router_lost();
        }
        if id == self.place(Service::Events) {
            self.edge = None;
            self.edge_lost();
        }
    }

    /// An effect or an answer is carried out.
    fn leave(&mut self, id: NodeId, leaving: Leaving) -> Result<(), String> {
        let edge_node = self.place(Service::Events);
        let (boot, event) = match leaving {
            Leaving::Effect(Effect::Send { to, number, bytes }) => {
                for delay in self.network.carry(id, to, &mut self.rng.network) {
                    let bytes = std::sync::Arc::clone(&bytes);
                    self.plan(delay, Event::Packet { from: id, to, number, bytes });
                }
                return Ok(());
            }
            Leaving::Effect(Effect::Acknowledge { to, number }) => {
                for delay in self.network.carry(id, to, &mut self.rng.network) {
                    self.plan(delay, Event::Acknowledged { by: id, to, number });
                }
                return Ok(());
            }
            Leaving::Effect(effect) => {
                self.oracle.left(&effect)?;
                // One from another node may reach an edge of a later boot than it was meant for.
                let boot = self.edge.as_ref().map(|edge| edge.boot);
                let Some(edge_boot) = boot else { return Ok(()) };
                (edge_boot, EdgeEvent::Effect(Box::new(effect)))
            }
            Leaving::Answer { edge_boot, asker, result } => {
                (edge_boot, EdgeEvent::Answer { asker, result })
            }
        };
        self.trace.word(boot);
        let event = Event::Edge { boot, event };
        if id == edge_node {
            let delay = soon(&mut self.rng.schedule);
            self.plan_in_order(Line::Local, delay, event);
        } else {
            for delay in self.network.carry(id, edge_node, &mut self.rng.network) {
                self.plan(delay, event.clone());
            }
        }
        Ok(())
    }
}

/// How a worker stands in what it offers, as the registry says.
pub(crate) fn standing_of(node: Option<&Node>, worker: WorkerId, offer: &SlotOffer) -> Standing {
    let registry = node.map(Node::registry);
    let own = registry.and_then(|registry| registry.worker(worker));
    let own = own.is_some_and(|view| view.enrolled.own);
    let Some(found) = registry.and_then(|registry| registry.standing(worker, offer.kind())) else {
        return Standing { class: Class::Probation, earned: 0, ejected: false };
    };
    let class = match (own, found.proven) {
        (true, _) => Class::Own,
        (false, true) => Class::Proven,
        (false, false) => Class::Probation,
    };
    Standing { class, earned: found.slots, ejected: found.ejected }
}

/// The read table of idempotency keys.
fn project(vault: &mut crate::edge::Vault, facts: &[Fact]) {
    for fact in facts {
        if let Some((meta, ..)) = fact.opened()
            && let Some(key) = meta.idempotency
        {
            vault.keys.insert(key.key, (meta.id, key.body));
        }
    }
}
