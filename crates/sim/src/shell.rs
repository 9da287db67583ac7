//! What the edge asks for is carried out here; and the comings and goings of workers and clients.

use mtor_core::limits;
use mtor_types::message::Service;
use mtor_types::{Fence, IntentId, SessionId};

use crate::edge::{Act, Edge, Vault};
use crate::event::{EdgeEvent, Event, FromWorker, ToWorker};
use crate::scenario::{ATTACH_REPEAT_MS, CLIENT_RETRY_MS, Topology, UNSYNCED_MAX};
use crate::worker::Step;
use crate::world::{Line, World, soon};

impl World<'_> {
    /// Lets the edge do something, if there is one of that boot, and carries out what it wants.
    pub(crate) fn at_edge(
        &mut self,
        boot: Option<u64>,
        act: impl FnOnce(&mut Edge, &mut Vault, &mut Vec<Act>),
    ) -> Result<(), String> {
        let Some(edge) = self.edge.as_mut() else { return Ok(()) };
        if boot.is_some_and(|boot| boot != edge.boot) {
            return Ok(());
        }
        let mut acts = Vec::new();
        act(edge, &mut self.vault, &mut acts);
        let edge_boot = edge.boot;
        acts.into_iter().try_for_each(|act| self.carry_out(edge_boot, act))
    }

    fn carry_out(&mut self, edge_boot: u64, act: Act) -> Result<(), String> {
        match act {
            Act::Ask { to, command, asker } => {
                let (here, node) = (self.place(Service::Events), self.place(to));
                let command = Box::new(command);
                let event = Event::Ask { node, edge_boot, command, asker };
                if node == here {
                    let delay = soon(&mut self.rng.schedule);
                    self.plan_in_order(Line::ToNode, delay, event);
                } else {
                    for delay in self.network.carry(here, node, &mut self.rng.network) {
                        self.plan(delay, event.clone());
                    }
                }
            }
            Act::Send { session, message } => {
                // Whose session that is, only the workers know by now.
                let holder = self.sessions.get(&session).copied();
                let open = |worker: &usize| {
                    self.workers.get(*worker).is_some_and(|w| w.session == Some(session))
                };
                if let Some(worker) = holder.filter(open) {
                    let delay = self.rng.network.between(1, 15);
                    let event = Event::ToWorker { worker, session, message };
                    self.plan_in_order(Line::ToWorker(worker), delay, event);
                }
            }
            Act::Seal { intent, result } => {
                let delay = self.rng.schedule.between(1, 20);
                let event = EdgeEvent::Sealed { intent, result };
                self.plan(delay, Event::Edge { boot: edge_boot, event });
            }
            Act::AttachAgain { session } => {
                let event = EdgeEvent::AttachAgain { session };
                self.plan(ATTACH_REPEAT_MS, Event::Edge { boot: edge_boot, event });
            }
            Act::Tell(news) => {
                self.trace.bytes(format!("{news:?}").as_bytes());
                self.oracle.told(&news)?;
            }
        }
        Ok(())
    }

    pub(crate) fn connect(&mut self, index: usize, life: u64) -> Result<(), String> {
        let Some(worker) = self.workers.get_mut(index) else { return Ok(()) };
        if worker.life != life || !worker.running || worker.session.is_some() {
            return Ok(());
        }
        if self.edge.is_none() {
            let delay = self.rng.network.between(200, 1_000);
            self.plan(delay, Event::Connect { worker: index, life });
            return Ok(());
        }
        let (id, offers, leases) = (worker.id, (worker.offers(), worker.draining), worker.leases());
        let mut session = None;
        self.at_edge(None, |edge, vault, acts| {
            session = Some(edge.connect(id, offers, leases, vault, acts));
        })?;
        if let Some(worker) = self.workers.get_mut(index) {
            worker.session = session;
        }
        self.sessions.extend(session.map(|session| (session, index)));
        Ok(())
    }

    /// The worker sees its connection end and comes back.
    pub(crate) fn disconnect(&mut self, index: usize, back_after_ms: u64) {
        let Some(worker) = self.workers.get_mut(index) else { return };
        worker.session = None;
        worker.tasks.values_mut().for_each(|task| task.live = false);
        let life = worker.life;
        self.plan(back_after_ms, Event::Connect { worker: index, life });
    }

    /// The edge's process is gone: every connection broke, and clients without an answer ask again.
    pub(crate) fn edge_lost(&mut self) {
        for index in 0..self.workers.len() {
            if self.workers.get(index).is_some_and(|worker| worker.session.is_some()) {
                let delay = self.rng.network.between(50, 2_000);
                self.disconnect(index, delay);
            }
        }
        self.oracle.edge_lost();
        self.sessions.clear();
        for index in 0..self.plans.len() {
            let Some(plan) = self.plans.get(index) else { continue };
            let unanswered = plan.submitted.last().is_some_and(|intent| {
                self.oracle.submissions.get(intent).is_some_and(|s| !s.over && !s.admitted)
            });
            if unanswered && (plan.key.is_some() || plan.durable) {
                let delay = self.rng.network.between(200, CLIENT_RETRY_MS);
                self.plan_submit(index, delay);
            }
        }
    }

    pub(crate) fn worker_hears(&mut self, index: usize, session: SessionId, message: ToWorker) {
        let steady = self.scenario.steady;
        let Some(worker) = self.workers.get_mut(index) else { return };
        if worker.session != Some(session) || !worker.running {
            return;
        }
        match message {
            ToWorker::Assign { intent, attempt, fence, limit } => {
                worker.assigned(intent, (attempt, fence, limit), steady, &mut self.rng.work);
                let life = worker.life;
                let gap = worker.tasks.get(&intent).map_or(0, |task| task.gap_ms);
                self.plan(gap, Event::Work { worker: index, life, intent, fence });
            }
            ToWorker::Revoke { intent, attempt } => worker.revoked(intent, attempt),
            ToWorker::Acknowledge { intent, attempt } => worker.acknowledged(intent, attempt),
            ToWorker::Closed => {
                let delay = self.rng.network.between(20, 1_500);
                self.disconnect(index, delay);
            }
        }
    }

    fn worker_says(&mut self, index: usize, message: FromWorker) {
        let Some(session) = self.workers.get(index).and_then(|worker| worker.session) else {
            return;
        };
        let delay = self.rng.network.between(1, 15);
        let event = Event::FromWorker { session, message };
        self.plan_in_order(Line::FromWorker(index), delay, event);
    }

    pub(crate) fn beat(&mut self, index: usize, life: u64) {
        let Some(worker) = self.workers.get(index) else { return };
        if worker.life != life || !worker.running {
            return;
        }
        let leases = worker.claims();
        if let Some(session) = worker.session
            && self.scenario.topology == Topology::Whole
        {
            self.oracle.spoke(session, self.now);
        }
        self.worker_says(index, FromWorker::Renew { leases });
        self.plan(limits::HEARTBEAT_MS, Event::Beat { worker: index, life });
    }

    /// A worker says whether it takes new work.
    pub(crate) fn drain(&mut self, index: usize, draining: bool) {
        let Some(worker) = self.workers.get_mut(index) else { return };
        worker.draining = draining;
        self.worker_says(index, FromWorker::Offer { draining });
    }

    pub(crate) fn hang_up(&mut self, index: usize) {
        self.worker_says(index, FromWorker::Closed);
    }

    pub(crate) fn work(&mut self, index: usize, life: u64, intent: IntentId, fence: Fence) {
        let Some(worker) = self.workers.get_mut(index) else { return };
        if worker.life != life || !worker.running {
            return;
        }
        let Some(task) = worker.tasks.get_mut(&intent) else { return };
        if task.fence != fence || !task.live {
            return;
        }
        let (attempt, gap) = (task.attempt, task.gap_ms);
        match task.step() {
            Step::Chunk { seq, count } => {
                self.worker_says(index, FromWorker::Chunk { intent, attempt, seq, count });
                self.plan(gap, Event::Work { worker: index, life, intent, fence });
            }
            Step::Complete { units, again } => {
                self.worker_says(index, FromWorker::Complete { intent, attempt, units });
                if again {
                    self.worker_says(index, FromWorker::Complete { intent, attempt, units });
                }
            }
            Step::Fail { retry } => {
                // A failure needs no acknowledgement: the worker forgets it.
                worker.acknowledged(intent, attempt);
                self.worker_says(index, FromWorker::Fail { intent, attempt, retry });
            }
            Step::Nothing => {}
        }
    }

    pub(crate) fn submit(&mut self, index: usize) -> Result<(), String> {
        self.submits_planned = self.submits_planned.saturating_sub(1);
        let here = self.place(Service::Events);
        let now = self.now;
        let overloaded = self.processes.get(&here).is_none_or(|process| {
            process.disk.unsynced() >= UNSYNCED_MAX || process.failing_until > now
        });
        let edge = self.edge.as_ref().filter(|_| !overloaded);
        let Some((boot, place)) = edge.map(|edge| (edge.boot, (edge.node(), edge.epoch()))) else {
            let delay = self.rng.network.between(200, CLIENT_RETRY_MS);
            self.plan_submit(index, delay);
            return Ok(());
        };
        let Some(plan) = self.plans.get_mut(index) else { return Ok(()) };
        let account =
            self.accounts.get(plan.account).copied().unwrap_or(mtor_types::AccountId([0; 32]));
        let intent = IntentId(self.rng.ids.bytes());
        let meta = plan.meta(intent, account, place, self.rng.ids.bytes());
        plan.submitted.push(intent);
        self.oracle.submitted(&meta, boot);
        let (cancel, repeat) = (plan.cancel_after_ms.take(), plan.repeat_after_ms.take());
        if let Some(after) = cancel {
            self.plan(after, Event::Cancel { plan: index });
        }
        if let Some(after) = repeat {
            self.plan_submit(index, after);
        }
        self.at_edge(Some(boot), |edge, vault, acts| edge.submit(meta, vault, acts))
    }

    pub(crate) fn cancel(&mut self, index: usize) -> Result<(), String> {
        let last = self.plans.get(index).and_then(|plan| plan.submitted.last().copied());
        let Some(intent) = last else { return Ok(()) };
        self.at_edge(None, |edge, _, acts| edge.cancel(intent, acts))
    }
}
