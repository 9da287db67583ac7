//! Intent Router: queues admitted intents fairly and leases each to one slot at a time.
//!
//! Invariants: an intent is queued, waiting (for adoption, for a worker that has not failed it, or
//! for its pause to end), running on exactly one lease, or lost and waiting for its edge's word; fences and attempts only grow, over restarts too; a slot never
//! idles while an intent waits that it may serve. All of it is soft: after a restart the Event
//! Processor brings durable intents back and workers bring their leases back. Absent on purpose:
//! payloads, identities beyond flow keys, money beyond a ceiling and a price.

mod adopt;
mod canary;
mod demand;
mod dispatch;
mod ends;
mod estimates;
#[cfg(test)]
mod growth;
mod job;
mod kinds;
#[cfg(test)]
mod load;
#[cfg(test)]
mod named;
mod owned;
mod retries;
mod returns;
pub mod safe_queue;
#[cfg(test)]
mod shares;
#[cfg(test)]
mod strangers;
#[cfg(test)]
mod tests;
mod view;
mod workers;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mtor_types::fact::Asset;
use mtor_types::intent::{Branch, IntentMeta, Outcome, Trust, Usage};
use mtor_types::message::{Message, Resolution, ServedBy, Service};
use mtor_types::mutant;
use mtor_types::rejection::Rejection;
use mtor_types::{IntentId, NodeId, Time, id};

use crate::effect::Effect;
use crate::limits;
use crate::turn::Turn;
use demand::Demand;
pub use demand::TrustClass;
use ends::PutBack;
use estimates::Estimates;
use job::{Held, Job, Place, flow_of};
use kinds::{Arrivals, Kinds};
use retries::Retries;
use returns::Refused;
use safe_queue::{
    FlowPath, Full, Item, ItemId, KindId, Part, PoolId, QueueLimits, SafeQueue, Weighted,
};
pub use view::{Figures, KindAt, Party, PoolView};
use workers::{Choice, Workers};

/// The wait of one more intent.
#[derive(Clone, Copy, Debug, Default)]
struct Wait {
    ms: u64,
    /// What all slots do while they do a thousand for its flow.
    per_mille: u64,
    slots: u64,
}

impl Wait {
    /// What all slots do while they do so much for its flow.
    fn of_share(&self, work: u64) -> u64 {
        let all = u128::from(work).saturating_mul(self.per_mille.into()) / 1_000;
        u64::try_from(all).unwrap_or(u64::MAX)
    }
}

/// The random end of a UUIDv7.
fn random_of(intent: IntentId) -> u64 {
    intent.0.last_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

#[derive(Debug)]
pub struct Router {
    jobs: BTreeMap<IntentId, Job>,
    timers: BTreeSet<(Time, IntentId)>,
    queue: SafeQueue,
    kinds: Kinds,
    workers: Workers,
    estimates: Estimates,
    retries: Retries,
    /// Failed attempts that waited for another worker so far.
    retried: u64,
    /// Intents that end with a boot of their edge.
    ephemeral: BTreeSet<(NodeId, u32, IntentId)>,
    running: usize,
    /// When domains are split next, at the earliest.
    split_at: Time,
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
            sweep: limits::FLOWS_FORGOTTEN_AT_ONCE,
        });
        Self {
            jobs: BTreeMap::new(),
            timers: BTreeSet::new(),
            queue,
            kinds: Kinds::default(),
            workers: Workers::default(),
            estimates: Estimates::default(),
            retries: Retries::default(),
            retried: 0,
            ephemeral: BTreeSet::new(),
            running: 0,
            split_at: Time::default(),
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
                let meta = meta.current();
                if meta.branch == Branch::Account {
                    self.queue.set_weight(Weighted::Branch(flow_of(&meta).branch), 1);
                }
                self.enqueue(turn, meta, asset, recovered);
            }
            Message::EnqueueWeighted { meta, asset, recovered, weight } => {
                let mut meta = meta.current();
                if meta.branch != Branch::Account {
                    Arc::make_mut(&mut meta).branch = Branch::Account;
                }
                let branch = Weighted::Branch(flow_of(&meta).branch);
                self.queue.set_weight(branch, weight.into());
                self.enqueue(turn, meta, asset, recovered);
            }
            Message::End(request) => self.end(turn, &request),
            Message::EdgeStarted { edge, epoch } => self.edge_started(turn, edge, epoch),
            Message::Offered(offered) => self.attach(turn, offered),
            Message::SessionLost { worker, session } => self.session_lost(turn, worker, session),
            Message::RegistryStarted => self.registry_started(turn),
            Message::Renew { worker, session, leases } => {
                self.renew(turn, worker, session, &leases);
            }
            Message::Silent { worker, session, leases } => {
                self.silent(turn, worker, session, &leases);
            }
            // Addressed to the other services; the node's routing never brings them here.
            Message::PlaceHold(_)
            | Message::Resume(_)
            | Message::Refused { .. }
            | Message::Taken { .. }
            | Message::Resolve(_)
            | Message::Resolved { .. }
            | Message::Worked(_)
            | Message::OwnerBanned { .. }
            // Older forms, which became today's when they came in.
            | Message::PlaceHoldV1(_)
            | Message::EnqueueV1 { .. }
            | Message::ResumeV1(_)
            | Message::SlotsV1(_)
            | Message::Slots(_)
            | Message::Served { .. } => {}
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
        let wanted = (meta.name.as_str(), meta.model.as_deref());
        let kind = match self.kinds.find(wanted.0, wanted.1) {
            Some(known) => known,
            None if recovered => self.kinds.find_or_add(wanted.0, wanted.1),
            None => return Self::refuse(turn, intent, Rejection::NoWorker),
        };
        let pool = PoolId::new(kind, Demand::of(&meta).number());
        if let Some(worker) = meta.worker.filter(|_| !mutant!("canary-goes-to-anybody")) {
            return self.try_out(turn, meta, asset, pool, worker);
        }
        let admitted = if recovered { Ok(0) } else { self.admit(pool, &meta, turn.now) };
        let wait_ms = match admitted {
            Ok(wait_ms) => wait_ms,
            Err(rejection) => return Self::refuse(turn, intent, rejection),
        };
        let hold = meta.ceiling;
        let adoptable = recovered && meta.durable;
        let mut job = Job::new(meta, asset, pool, turn.now);
        if adoptable {
            // A worker that still runs it has one lease time to say so.
            let until = turn.now.after_ms(limits::LEASE_MS);
            (job.place, job.held) = (Place::Adoptable { until }, Held::Anybody);
            self.insert(job);
            self.schedule(intent, until);
        } else {
            job.told = (!recovered).then_some((turn.now, wait_ms));
            let item = self.item(&job);
            let queued =
                if recovered { self.queue.restore(item) } else { self.queue.enqueue(item) };
            if let Err(full) = queued {
                return Self::refuse(turn, intent, refusal(full, wait_ms));
            }
            if let Some(kind) = self.kinds.get_mut(kind) {
                kind.arrivals.add(turn.now, item.cost_estimate);
            }
            self.insert(job);
        }
        let position = self.queue.position(ItemId(intent.0)).unwrap_or_default();
        turn.send(Service::Events, Message::Taken { intent, asset, hold, position, wait_ms });
        self.kinds.watch(pool, turn.now);
        self.fill_for(turn, intent);
    }

    /// Whether there is a use in queueing: the estimated wait, or why not and when to come back.
    fn admit(&mut self, pool: PoolId, meta: &IntentMeta, now: Time) -> Result<u64, Rejection> {
        if !self.kinds.is_served(pool, meta.account, &[]) {
            return Err(self.unserved(pool, meta));
        }
        let Some(kind) = self.kinds.get(pool.kind()) else { return Err(Rejection::NoWorker) };
        let estimate = self.estimates.get(&kind.label, meta.size);
        let most_ms = estimate.most_ms.unwrap_or_default();
        let own = self.own_wait_ms(pool.kind(), meta.account, estimate.mean_ms);
        if let Some(own) = own {
            let whole = own.saturating_add(most_ms);
            if whole <= meta.remaining_ms {
                return Ok(own);
            }
            if !self.kinds.is_shared(pool, &[]) {
                return Err(Rejection::DeadlineHopeless { wait_ms: whole });
            }
        }
        let free = self.kinds.freest(pool, meta.account, &[]).is_some();
        let flow = flow_of(meta);
        let wait = self.shared_wait(pool, meta, estimate.mean_ms, now);
        let Some(kind) = self.kinds.get_mut(pool.kind()) else { return Err(Rejection::NoWorker) };
        let (branch, bucket) = (flow.branch, estimates::bucket(meta.size));
        // Who comes when it was told to is admitted by the wait itself; anybody else by how long that
        // may become, and behind what its own branch was told. The gap is the room that was promised.
        let returns = kind.returns.take(now, branch, bucket);
        let wait_ms = if returns || free {
            wait.ms
        } else {
            let promised = kind.returns.before(branch, now.after_ms(meta.remaining_ms));
            let promised = wait.of_share(promised).checked_div(wait.slots).unwrap_or_default();
            kind.excess.longest(wait.ms).saturating_add(promised)
        };
        let whole = wait_ms.saturating_add(most_ms);
        if whole <= meta.remaining_ms {
            return Ok(wait.ms);
        }
        if most_ms > meta.remaining_ms {
            // No time is better than another.
            return Err(Rejection::DeadlineHopeless { wait_ms: whole });
        }
        let cost = estimate.mean_ms;
        let part = |work: u64| {
            let work = work.saturating_mul(limits::RETURNS_SHARE);
            work.checked_div(wait.slots).unwrap_or_default()
        };
        let refused = Refused {
            branch,
            bucket,
            cost,
            first: now.after_ms(whole),
            line_ms: part(cost),
            share_ms: part(wait.of_share(cost)),
            random: random_of(meta.id),
        };
        let at = kind.returns.book(now, &refused);
        Err(Rejection::DeadlineHopeless { wait_ms: at.since_ms(now) })
    }

    /// What it would be told to wait, were it asked now.
    pub fn wait_of(&self, meta: &IntentMeta, now: Time) -> u64 {
        let Some(kind) = self.kinds.find(&meta.name, meta.model.as_deref()) else { return 0 };
        let pool = PoolId::new(kind, Demand::of(meta).number());
        let Some(kind) = self.kinds.get(kind) else { return 0 };
        let estimate = self.estimates.get(&kind.label, meta.size);
        let longest = meta.remaining_ms.checked_sub(estimate.most_ms.unwrap_or_default());
        let own = self.own_wait_ms(pool.kind(), meta.account, estimate.mean_ms);
        let in_time = own.filter(|own| longest.is_some_and(|longest| *own <= longest));
        in_time.unwrap_or_else(|| self.shared_wait(pool, meta, estimate.mean_ms, now).ms)
    }

    fn shared_wait(&self, pool: PoolId, meta: &IntentMeta, cost: u64, now: Time) -> Wait {
        let free = self.kinds.freest(pool, meta.account, &[]).is_some();
        if free { Wait::default() } else { self.wait_ms(pool, &flow_of(meta), cost, now) }
    }

    /// Why nobody may serve it: whether the word `any` would help.
    fn unserved(&self, pool: PoolId, meta: &IntentMeta) -> Rejection {
        let anybody = PoolId::new(pool.kind(), Demand::of_anybody(meta).number());
        let helps = meta.trust == Trust::Proven && self.kinds.is_served(anybody, meta.account, &[]);
        if helps { Rejection::NotProven } else { Rejection::NoWorker }
    }

    /// What one more intent of this flow would wait: what is served before it, and what runs, by all
    /// slots that may serve it.
    fn wait_ms(&self, pool: PoolId, flow: &FlowPath, cost: u64, now: Time) -> Wait {
        let slots = self.kinds.slots(pool).max(1);
        let Some(kind) = self.kinds.get(pool.kind()) else { return Wait::default() };
        // Of what others' slots do too, this one's do a part.
        let part = |other: PoolId| {
            let both = self.kinds.slots_of_both(other, pool).saturating_mul(1_000);
            let per_mille = both.checked_div(self.kinds.slots(other)).unwrap_or(1_000);
            Part { pool: other, per_mille }
        };
        let mut pools: Vec<Part> = self.kinds.pools(pool.kind()).map(part).collect();
        let all = self.kinds.all_slots(pool.kind());
        let mut arrived = kind.arrivals.faded(now);
        for (other, per_mille) in self.beside(pool, all) {
            let work = self.kinds.get(other).map_or(0, |other| other.arrivals.faded(now));
            arrived = arrived.saturating_add(work.saturating_mul(per_mille) / 1_000);
            pools.extend(self.kinds.pools(other).map(|pool| Part { pool, per_mille }));
        }
        let load = Arrivals::per_mille(arrived, all.max(1));
        let mut ahead = self.queue.ahead(flow, pool, &pools, cost, load);
        if mutant!("wait-of-the-whole-queue") {
            ahead.work = pools.iter().map(|part| self.queue.waiting_cost(part.pool)).sum();
        }
        let ms = kind.running.until_taken(now, ahead.work, slots, all);
        Wait { ms, per_mille: ahead.per_mille, slots }
    }

    /// The kinds that use slots of this pool's, too, and how much of their work comes to those: so
    /// many thousandths. Seen at some of its workers, and taken to be so at all.
    fn beside(&self, pool: PoolId, slots: u64) -> Vec<(KindId, u64)> {
        let Some(kind) = self.kinds.get(pool.kind()) else { return Vec::new() };
        let (mut seen, mut shared) = (0_u64, BTreeMap::<KindId, u64>::new());
        for worker in kind.some_workers(pool.demand()).filter(|_| !mutant!("waits-alone")) {
            self.kinds.step();
            let Some(known) = self.workers.get(worker) else { continue };
            let (own, beside) = known.beside(pool.kind());
            seen = seen.saturating_add(own);
            for (other, slots) in beside {
                let sum = shared.entry(other).or_default();
                *sum = sum.saturating_add(slots);
            }
        }
        let part = |(other, shared): (KindId, u64)| {
            let of_all = shared.saturating_mul(slots).checked_div(seen)?;
            let of = self.kinds.all_slots(other).max(of_all).max(1);
            Some((other, of_all.saturating_mul(1_000).checked_div(of)?))
        };
        let asked =
            shared.into_iter().filter(|(other, _)| self.kinds.pools(*other).next().is_some());
        asked.take(limits::BESIDE_KINDS_MAX).filter_map(part).collect()
    }

    /// The wait of what was queued is over: its kind learns how it compares to what was told.
    fn waited(&mut self, intent: IntentId, now: Time) {
        let Some(job) = self.jobs.get_mut(&intent) else { return };
        let Some((since, told_ms)) = job.told.take() else { return };
        if let Some(kind) = self.kinds.get_mut(job.pool.kind()) {
            let cost = self.estimates.get(&kind.label, job.meta.size).mean_ms;
            kind.excess.learn(told_ms, now.since_ms(since), cost);
        }
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
            flow: flow_of(&job.meta),
            bytes: job.meta.bytes,
            cost_estimate: self.estimate(job),
        }
    }

    fn estimate(&self, job: &Job) -> u64 {
        let kind = self.kinds.get(job.pool.kind());
        let estimate = kind.map(|kind| self.estimates.get(&kind.label, job.meta.size));
        estimate.map_or(limits::FIRST_ESTIMATE_MS, |estimate| estimate.mean_ms)
    }

    fn insert(&mut self, job: Job) {
        self.kinds.hold(&job);
        self.kinds.set_asked(&job, job.place.waits());
        if !job.meta.durable {
            self.ephemeral.insert((job.meta.edge, job.meta.edge_epoch, job.meta.id));
        }
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
        self.refuse_claim(turn, intent);
        self.forget(intent);
        let resolution = Resolution { intent, outcome, usage, served, rejection: None };
        turn.send(Service::Accountant, Message::Resolve(resolution));
    }

    fn forget(&mut self, intent: IntentId) {
        self.set_place(intent, Place::Paused);
        let Some(job) = self.jobs.remove(&intent) else { return };
        self.kinds.release(&job);
        self.ephemeral.remove(&(job.meta.edge, job.meta.edge_epoch, intent));
        if let Some(at) = job.timer {
            self.timers.remove(&(at, intent));
        }
    }

    /// Moves a job to another place; gives back the one that it leaves.
    fn set_place(&mut self, intent: IntentId, place: Place) -> Option<Place> {
        let job = self.jobs.get_mut(&intent)?;
        let before = std::mem::replace(&mut job.place, place);
        let waits = job.place.waits();
        if before.waits() != waits {
            self.kinds.set_asked(job, waits);
        }
        if let Place::Retrying { order, .. } = before {
            self.kinds.remove_retry(job.pool, order);
        }
        if let Place::Retrying { order, .. } = job.place {
            self.kinds.push_retry(job.pool, order, intent);
        }
        Some(before)
    }

    fn unschedule(&mut self, intent: IntentId) {
        let timer = self.jobs.get_mut(&intent).and_then(|job| job.timer.take());
        if let Some(at) = timer {
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
        [timer, self.kinds.next_timeout()].into_iter().flatten().min()
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
        while let Some((pool, after)) = self.kinds.take_unserved(turn.now) {
            self.fail_unserved(turn, pool, after);
        }
        if self.split_at <= turn.now {
            // What looks at everything comes the more seldom the more there is: whose offers come and
            // go takes a part of the time, and no more of a larger realm's.
            let looks = self.queue.split() / limits::DOMAINS_SPLIT_LOOKS_PER_MS;
            self.split_at = turn.now.after_ms(looks.max(limits::DOMAINS_SPLIT_MS));
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
                let until = if mutant!("lease-lasts-twice") {
                    until.after_ms(limits::LEASE_MS)
                } else {
                    until
                };
                if until <= turn.now {
                    self.lose(turn, intent);
                } else {
                    self.schedule(intent, until);
                }
            }
            Place::Retrying { .. } => self.look_for_another(turn, intent),
            Place::Paused => self.go_on_lost(turn, intent),
            Place::Lost(served) => {
                turn.now(Effect::Lost { intent, attempt: served.attempt });
                self.schedule(intent, turn.now.after_ms(limits::STOP_REPEAT_MS));
            }
        }
    }

    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    pub fn leased(&self) -> usize {
        self.running
    }

    /// How often a worker, offer, pool, flow or item was looked at so far.
    pub fn steps(&self) -> u64 {
        self.kinds.steps().saturating_add(self.queue.steps())
    }

    /// For the simulator: what must hold between any two commands.
    pub fn check_invariants(&self) -> Result<(), String> {
        self.queue.check_invariants()?;
        let queued = self.jobs.values().filter(|job| matches!(job.place, Place::Queued)).count();
        if queued != self.queue.len() {
            return Err(format!("{queued} jobs queued, {} items in the queue", self.queue.len()));
        }
        let running = self.jobs.values().filter(|job| matches!(job.place, Place::Running(_)));
        if running.count() != self.running {
            return Err("running jobs are counted wrongly".to_owned());
        }
        let ephemeral = self.jobs.values().filter(|job| !job.meta.durable);
        let ephemeral = ephemeral.map(|job| (job.meta.edge, job.meta.edge_epoch, job.meta.id));
        if self.ephemeral != ephemeral.collect() {
            return Err("what ends with its edge is known wrongly".to_owned());
        }
        let running = |job: &&Job| matches!(job.place, Place::Running(_));
        if let Some(job) = self.jobs.values().filter(running).find(|job| job.held != Held::Nobody) {
            return Err(format!("{} runs, and somebody else may go on with it", job.meta.id));
        }
        let timers = self.jobs.values().filter_map(|job| Some((job.timer?, job.meta.id)));
        if self.timers != timers.collect() {
            return Err("a timer and its job differ".to_owned());
        }
        self.kinds.check_jobs(&self.jobs)?;
        self.kinds.check_workers(&self.workers)?;
        self.workers.check_invariants(&self.jobs)?;
        self.check_idle()
    }

    /// A slot idles only if nothing waits that it may serve.
    fn check_idle(&self) -> Result<(), String> {
        for id in self.workers.ids() {
            let Some(known) = self.workers.get(id) else { continue };
            for offer in known.offers.values() {
                let choice = Choice::FreeOf(&offer.group);
                let mut kinds = known.kinds_with_room(choice).into_iter();
                if let Some(own) = kinds.find_map(|kind| self.first_own(kind, known.owner, id)) {
                    return Err(format!("worker {id} idles while its owner's {own} waits"));
                }
                for pool in self.may_serve(id, choice) {
                    let waits = self.kinds.retries(pool, 0).find(|(_, intent)| {
                        self.jobs.get(intent).is_some_and(|job| !job.tried.contains(&id))
                    });
                    if self.queue.depth(pool) > 0 || waits.is_some() {
                        return Err(format!("worker {id} idles while {pool:?} waits"));
                    }
                }
            }
        }
        Ok(())
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
