//! What breaks, and how it heals.

use mtor_core::Command;
use mtor_types::message::Service;
use mtor_types::standing::KindName;
use mtor_types::{NodeId, WorkerId};

use crate::event::{Asker, Event, Heal};
use crate::scenario::Fault;
use crate::world::World;

impl World<'_> {
    pub(crate) fn fault(&mut self, fault: Fault) {
        self.trace.bytes(format!("{fault:?}").as_bytes());
        match fault {
            Fault::Crash { node, down_ms } => self.crash(node, down_ms),
            Fault::CrashAfterSync { node, down_ms } => {
                if let Some(process) = self.processes.get_mut(&node) {
                    process.crash_after_sync = Some(down_ms);
                }
            }
            Fault::Pause { node, for_ms } => self.pause(node, for_ms),
            Fault::SlowDisk { node, for_ms } => {
                if let Some(process) = self.processes.get_mut(&node) {
                    process.slow_disk = true;
                }
                self.plan(for_ms, Event::Heal(Heal::Disk { node }));
            }
            Fault::FailingDisk { node, for_ms } => {
                if let Some(process) = self.processes.get_mut(&node) {
                    process.failing_until = self.now.saturating_add(for_ms);
                }
            }
            Fault::Partition { from, to, one_way, for_ms } => {
                self.network.cut(from, to);
                self.plan(for_ms, Event::Heal(Heal::Link { from, to }));
                if !one_way {
                    self.network.cut(to, from);
                    self.plan(for_ms, Event::Heal(Heal::Link { from: to, to: from }));
                }
            }
            Fault::Lossy { for_ms } => {
                self.network.lose_half();
                self.plan(for_ms, Event::Heal(Heal::Lossy));
            }
            Fault::Kill { worker, down_ms } => self.stop_worker(worker, down_ms, true),
            Fault::Freeze { worker, for_ms } => self.stop_worker(worker, for_ms, false),
            Fault::Break { worker, for_ms } => {
                // Now and then the edge does not see it for a while.
                if self.rng.network.per_cent(60) {
                    self.hang_up(worker);
                }
                if self.workers.get(worker).is_some_and(|worker| worker.session.is_some()) {
                    self.disconnect(worker, for_ms);
                }
            }
            Fault::Drain { worker, for_ms } => {
                self.drain(worker, true);
                self.plan(for_ms, Event::Heal(Heal::Drain { worker }));
            }
            Fault::Ban { worker, for_ms } => {
                self.ban(worker, true);
                self.plan(for_ms, Event::Heal(Heal::Ban { worker }));
            }
            Fault::Vouch { worker, for_ms } => {
                self.vouch(worker, true);
                self.plan(for_ms, Event::Heal(Heal::Vouch { worker }));
            }
            Fault::Judge { worker, right } => self.judge(worker, right),
        }
    }

    /// `gone`: its process ended and forgot everything; else it hangs.
    fn stop_worker(&mut self, index: usize, for_ms: u64, gone: bool) {
        // The connection of a process that ended is closed by its machine, most of the time.
        if gone && self.rng.network.per_cent(70) {
            self.hang_up(index);
        }
        let Some(worker) = self.workers.get_mut(index) else { return };
        worker.life = worker.life.saturating_add(1);
        worker.running = false;
        worker.session = None;
        worker.tasks.values_mut().for_each(|task| task.live = false);
        if gone {
            worker.tasks.clear();
        }
        let life = worker.life;
        self.plan(for_ms, Event::Heal(Heal::Worker { worker: index, life }));
    }

    fn ban(&mut self, index: usize, banned: bool) {
        let Some(worker) = self.workers.get(index).map(|worker| worker.id) else { return };
        let registry = self.place(Service::Registry);
        self.knock(registry, Command::BanWorker { worker, banned }, Asker::Nobody, 0);
    }

    /// Of the first that it offers.
    fn kind_of(&self, index: usize) -> Option<(WorkerId, KindName)> {
        let worker = self.workers.get(index)?;
        let offer = worker.offers.first()?;
        let (intent, model) = (offer.intent.clone(), offer.model.clone());
        Some((worker.id, KindName { intent, model }))
    }

    fn vouch(&mut self, index: usize, vouched: bool) {
        let Some((worker, kind)) = self.kind_of(index) else { return };
        let registry = self.place(Service::Registry);
        self.knock(registry, Command::Vouch { worker, kind, vouched }, Asker::Nobody, 0);
    }

    /// So many that wrong ones eject it.
    fn judge(&mut self, index: usize, right: bool) {
        const CANARIES: usize = 3;
        let Some((worker, kind)) = self.kind_of(index) else { return };
        let registry = self.place(Service::Registry);
        for _ in 0..CANARIES {
            let command = Command::JudgeCanary { worker, kind: kind.clone(), right };
            self.knock(registry, command, Asker::Nobody, 0);
        }
    }

    fn pause(&mut self, node: NodeId, for_ms: u64) {
        let now = self.now;
        let Some(process) = self.processes.get_mut(&node) else { return };
        if process.node.is_some() && process.paused.is_none() {
            process.paused = Some(now);
            let boot = process.boot;
            self.plan(for_ms, Event::Heal(Heal::Pause { node, boot }));
        }
    }

    /// The process runs again: its timers, and what came meanwhile, in the order of their times.
    fn go_on(&mut self, node: NodeId) -> Result<(), String> {
        let now = self.now;
        let Some(process) = self.processes.get_mut(&node) else { return Ok(()) };
        let Some(since) = process.paused.take() else { return Ok(()) };
        let (clock, gap_ms) = (process.clock(now), now.saturating_sub(since));
        if let Some(node) = process.node.as_mut() {
            node.paused(clock, gap_ms);
        }
        self.oracle.paused(clock.0, gap_ms);
        for event in std::mem::take(&mut process.held_up) {
            self.happen(event)?;
        }
        Ok(())
    }

    pub(crate) fn heal(&mut self, heal: Heal) -> Result<(), String> {
        match heal {
            Heal::Pause { node, boot } => {
                if self.processes.get(&node).is_some_and(|process| process.boot == boot) {
                    return self.go_on(node);
                }
            }
            Heal::Disk { node } => {
                if let Some(process) = self.processes.get_mut(&node) {
                    process.slow_disk = false;
                }
            }
            Heal::Link { from, to } => self.network.mend(from, to),
            Heal::Lossy => self.network.lose_less(),
            Heal::Worker { worker, life } => self.revive(worker, life),
            Heal::Drain { worker } => self.drain(worker, false),
            Heal::Ban { worker } => self.ban(worker, false),
            Heal::Vouch { worker } => self.vouch(worker, false),
        }
        Ok(())
    }

    fn revive(&mut self, index: usize, life: u64) {
        let Some(worker) = self.workers.get_mut(index) else { return };
        if worker.life != life || worker.running {
            return;
        }
        worker.running = true;
        self.plan(1, Event::Connect { worker: index, life });
        self.plan(2, Event::Beat { worker: index, life });
    }

    /// The storm is over: everything is mended and stays so.
    pub(crate) fn calm_down(&mut self) -> Result<(), String> {
        self.calm = true;
        self.network.calm();
        let nodes: Vec<NodeId> = self.processes.keys().copied().collect();
        for node in nodes {
            if let Some(process) = self.processes.get_mut(&node) {
                process.slow_disk = false;
                process.failing_until = 0;
                process.crash_after_sync = None;
            }
            self.go_on(node)?;
            self.boot(node)?;
        }
        for index in 0..self.workers.len() {
            let life = self.workers.get(index).map_or(0, |worker| worker.life);
            self.revive(index, life);
            self.plan(3_000, Event::Heal(Heal::Drain { worker: index }));
            self.plan(3_000, Event::Heal(Heal::Ban { worker: index }));
        }
        Ok(())
    }
}
