//! Intent Router: queues admitted intents fairly and leases each to one slot at a time.
//!
//! Invariants: an intent is queued, waiting for adoption, running on exactly one lease, or lost
//! and waiting for its edge's word; fences and attempts only grow, over restarts too; a slot never
//! idles while an intent waits that it may serve. All of it is soft: after a restart the Event
//! Processor brings durable intents back and workers bring their leases back. Absent on purpose:
//! payloads, identities beyond flow keys, money beyond a ceiling and a price.

mod adopt;
mod dispatch;
mod ends;
mod estimates;
mod job;
mod pools;
mod retries;
pub mod safe_queue;
#[cfg(test)]
mod tests;
mod workers;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mtor_types::fact::Asset;
use mtor_types::intent::{IntentMeta, Outcome, Usage};
use mtor_types::message::{Message, Resolution, ServedBy, Service};
use mtor_types::rejection::Rejection;
use mtor_types::{IntentId, Time, id};

use crate::effect::Effect;
use crate::limits;
use crate::turn::Turn;
use ends::PutBack;
use estimates::Estimates;
use job::{Job, Place};
pub use pools::PoolView;
use pools::{PoolKey, Pools};
use retries::Retries;
use safe_queue::{Full, Item, ItemId, QueueLimits, SafeQueue};
use workers::Workers;

#[derive(Debug)]
pub struct Router {
    jobs: BTreeMap<IntentId, Job>,
    timers: BTreeSet<(Time, IntentId)>,
    queue: SafeQueue,
    pools: Pools,
    workers: Workers,
    estimates: Estimates,
    retries: Retries,
    /// The last attempt or fence given out.
    counter: u64,
}

impl Default for Router {
    fn default() -> Self {
        Self::new()
    }
}

impl Router {
    pub fn new() -> Self {
        let queue = SafeQueue::new(QueueLimits {
            leaf_items: u32::try_from(limits::LEAF_ITEMS_MAX).unwrap_or(u32::MAX),
            leaf_bytes: limits::LEAF_BYTES_MAX,
            pool_items: u32::try_from(limits::POOL_ITEMS_MAX).unwrap_or(u32::MAX),
            pool_bytes: limits::POOL_BYTES_MAX,
            flows: u32::try_from(limits::FLOWS_MAX).unwrap_or(u32::MAX),
            horizon: limits::QUEUE_HORIZON_MS,
        });
        Self {
            jobs: BTreeMap::new(),
            timers: BTreeSet::new(),
            queue,
            pools: Pools::default(),
            workers: Workers::default(),
            estimates: Estimates::default(),
            retries: Retries::default(),
            counter: 0,
        }
    }

    /// A boot: attempts and fences start above every earlier one.
    pub fn start(&mut self, turn: &mut Turn) {
        self.counter = id::first_of_boot(turn.epoch);
    }

    /// For tests: as if so many numbers had been given out.
    #[cfg(test)]
    pub(crate) fn skip_numbers(&mut self, count: u64) {
        self.counter = self.counter.saturating_add(count);
    }

    /// The boot whose numbers will be given out soon. A boot that dispatches for so long that it
    /// uses up its own goes on with the next one's, which must be recorded before.
    pub fn epoch_needed(&self) -> u32 {
        const AHEAD: u64 = 1 << 20;
        id::boot_of(self.counter.saturating_add(AHEAD))
    }

    pub fn receive(&mut self, turn: &mut Turn, message: Message) {
        match message {
            Message::Enqueue { meta, asset, recovered } => {
                self.enqueue(turn, meta.current(), asset, recovered);
            }
            Message::End(request) => self.end(turn, &request),
            Message::EdgeStarted { edge, epoch } => self.edge_started(turn, edge, epoch),
            Message::Slots(slots) => self.attach(turn, slots),
            Message::SessionLost { worker, session } => self.session_lost(turn, worker, session),
            Message::RegistryStarted => self.registry_started(turn),
            Message::Renew { worker, session, leases } => {
                self.renew(turn, worker, session, &leases);
            }
            // Addressed to the other services; the node's routing never brings them here.
            Message::PlaceHold(_)
            | Message::Resume(_)
            | Message::Refused { .. }
            | Message::Taken { .. }
            | Message::Resolve(_)
            | Message::Resolved { .. }
            | Message::Served { .. }
            // Older forms, which became today's when they came in.
            | Message::PlaceHoldV1(_)
            | Message::EnqueueV1 { .. }
            | Message::ResumeV1(_)
            | Message::SlotsV1(_) => {}
        }
    }

    /// Takes an intent whose hold stands, or has the hold voided with the reason.
    fn enqueue(&mut self, turn: &mut Turn, meta: Arc<IntentMeta>, asset: Asset, recovered: bool) {
        let intent = meta.id;
        if let Some(job) = self.jobs.get(&intent) {
            let position = self.queue.position(ItemId(intent.0)).unwrap_or_default();
            let hold = job.meta.ceiling;
            let asset = job.asset;
            turn.send(
                Service::Events,
                Message::Taken { intent, asset, hold, position, wait_ms: 0 },
            );
            return;
        }
        let key = PoolKey::of(&meta, &[]);
        let admitted = if recovered { Ok(0) } else { self.admit(&key, &meta) };
        let wait_ms = match admitted {
            Ok(wait_ms) => wait_ms,
            Err(rejection) => return Self::refuse(turn, intent, rejection),
        };
        let Some(pool) = self.find_or_add_pool(&key) else {
            return Self::refuse(turn, intent, Rejection::QueueFull { retry_after_ms: 1_000 });
        };
        let hold = meta.ceiling;
        let adoptable = recovered && meta.durable;
        let mut job = Job::new(meta, asset, pool, turn.now);
        if adoptable {
            // A worker that still runs it has one lease time to say so.
            let until = turn.now.after_ms(limits::LEASE_MS);
            job.place = Place::Adoptable { until };
            self.insert(job);
            self.schedule(intent, until);
        } else {
            let item = self.item(&job);
            let queued =
                if recovered { self.queue.restore(item) } else { self.queue.enqueue(item) };
            if let Err(full) = queued {
                return Self::refuse(turn, intent, refusal(full, wait_ms));
            }
            self.insert(job);
        }
        let position = self.queue.position(ItemId(intent.0)).unwrap_or_default();
        turn.send(Service::Events, Message::Taken { intent, asset, hold, position, wait_ms });
        self.pools.watch(pool, turn.now);
        self.fill_pool(turn, pool);
    }

    /// Whether there is a use in queueing: the estimated wait, or why not.
    fn admit(&self, key: &PoolKey, meta: &IntentMeta) -> Result<u64, Rejection> {
        let pool = self.pools.find(key);
        let slots = match pool {
            Some(pool) => self.pools.slots(pool),
            None => self.workers.slots_for(key),
        };
        if slots == 0 {
            return Err(Rejection::NoWorker);
        }
        let Some(pool) = pool.filter(|pool| !self.pools.has_free(*pool)) else { return Ok(0) };
        // Running work is half done on average, whatever it is.
        let estimate = self.estimates.get(&meta.name, meta.model.as_deref());
        let waiting = self.queue.waiting_cost(pool);
        let per_slot = waiting.checked_div(slots).unwrap_or_default();
        let wait_ms = per_slot.saturating_add(estimate / 2);
        if wait_ms > meta.remaining_ms {
            return Err(Rejection::DeadlineHopeless { wait_ms });
        }
        Ok(wait_ms)
    }

    fn refuse(turn: &mut Turn, intent: IntentId, rejection: Rejection) {
        let outcome = Outcome::Refused;
        let usage = Usage::default();
        let rejection = Some(rejection);
        let resolution = Resolution { intent, outcome, usage, served: None, rejection };
        turn.send(Service::Accountant, Message::Resolve(resolution));
    }

    fn item(&self, job: &Job) -> Item {
        Item {
            id: ItemId(job.meta.id.0),
            pool: job.pool,
            flow: job.flow(),
            bytes: job.meta.bytes,
            cost_estimate: self.estimates.get(&job.meta.name, job.meta.model.as_deref()),
        }
    }

    fn insert(&mut self, job: Job) {
        self.pools.hold(job.pool);
        self.jobs.insert(job.meta.id, job);
    }

    /// Forgets a job and hands its end to the accountant.
    fn resolve(
        &mut self,
        turn: &mut Turn,
        intent: IntentId,
        outcome: Outcome,
        usage: Usage,
        served: Option<ServedBy>,
    ) {
        self.forget(intent);
        let resolution = Resolution { intent, outcome, usage, served, rejection: None };
        turn.send(Service::Accountant, Message::Resolve(resolution));
    }

    fn forget(&mut self, intent: IntentId) {
        let Some(job) = self.jobs.remove(&intent) else { return };
        self.pools.release(job.pool);
        if let Some(at) = job.timer {
            self.timers.remove(&(at, intent));
        }
    }

    fn schedule(&mut self, intent: IntentId, at: Time) {
        let Some(job) = self.jobs.get_mut(&intent) else { return };
        if let Some(before) = job.timer.replace(at) {
            self.timers.remove(&(before, intent));
        }
        self.timers.insert((at, intent));
    }

    pub fn next_timeout(&self) -> Option<Time> {
        let timer = self.timers.first().map(|(at, _)| *at);
        [timer, self.pools.next_timeout()].into_iter().flatten().min()
    }

    pub fn tick(&mut self, turn: &mut Turn) {
        while let Some((at, intent)) = self.timers.first().copied() {
            if at > turn.now {
                break;
            }
            self.timers.remove(&(at, intent));
            if let Some(job) = self.jobs.get_mut(&intent) {
                job.timer = None;
                self.wake(turn, intent);
            }
        }
        for pool in self.pools.take_unserved(turn.now) {
            self.fail_unserved(turn, pool);
        }
    }

    fn wake(&mut self, turn: &mut Turn, intent: IntentId) {
        let Some(job) = self.jobs.get(&intent) else { return };
        match &job.place {
            Place::Queued => {}
            Place::Adoptable { until } => {
                let until = *until;
                if until <= turn.now {
                    self.put_back(turn, intent, PutBack::Restored);
                } else {
                    self.schedule(intent, until);
                }
            }
            Place::Running(lease) => {
                let until = lease.until;
                if until <= turn.now {
                    self.lose(turn, intent);
                } else {
                    self.schedule(intent, until);
                }
            }
            Place::Lost(served) => {
                turn.now(Effect::Lost { intent, attempt: served.attempt });
                self.schedule(intent, turn.now.after_ms(limits::STOP_REPEAT_MS));
            }
        }
    }

    /// What can be asked here, for edges: one row a pool kind that any worker serves.
    pub fn pools_view(&self) -> Vec<PoolView> {
        self.workers.view(|name, model| {
            let estimate = self.estimates.get(name, model);
            let (depth, waiting) = self.pools.backlog(&self.queue, name, model);
            (depth, waiting, estimate)
        })
    }

    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    pub fn leased(&self) -> usize {
        self.jobs.values().filter(|job| matches!(job.place, Place::Running(_))).count()
    }

    /// For the simulator: what must hold between any two commands.
    pub fn check_invariants(&self) -> Result<(), String> {
        self.queue.check_invariants()?;
        let queued = self.jobs.values().filter(|job| matches!(job.place, Place::Queued)).count();
        if queued != self.queue.len() {
            return Err(format!("{queued} jobs queued, {} items in the queue", self.queue.len()));
        }
        self.workers.check_invariants(&self.jobs)?;
        self.pools.check_invariants(&self.workers, &self.queue)
    }
}

fn refusal(full: Full, wait_ms: u64) -> Rejection {
    match full {
        Full::Duplicate => Rejection::IdTaken,
        Full::PoolItems | Full::PoolBytes | Full::LeafItems | Full::LeafBytes | Full::Flows => {
            Rejection::QueueFull { retry_after_ms: wait_ms.clamp(100, 60_000) }
        }
    }
}
