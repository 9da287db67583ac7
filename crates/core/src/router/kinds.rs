//! Kinds: what can be asked here, who stands ready for it, and what waits for another worker.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use mtor_types::intent::Band;
use mtor_types::mutant;
use mtor_types::{AccountId, Amount, Fence, IntentId, Time, WorkerId};

use super::demand::{Demand, Met, PerDemand, Rank};
use super::job::{Job, Place};
use super::owned::Owned;
use super::returns::Returns;
use super::safe_queue::{KindId, PoolId};
use super::view::Shown;
use super::workers::{OfferNo, Workers};
use crate::limits;

/// An offer with a free slot, in its kind and among those of its rank: the cheapest first, of
/// these the least loaded, of these the one that has waited longest for work. So equal workers take
/// turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Free {
    /// Rises with the price, so the first is in the lowest band there is.
    pub(super) band: Band,
    pub(super) price: Amount,
    pub(super) load_per_mille: u64,
    /// The offer's last lease.
    pub(super) served: Fence,
    pub(super) worker: WorkerId,
    pub(super) offer: OfferNo,
}

/// The places of one offer among the free ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Places {
    /// Among those for everybody's work.
    pub(super) shared: Option<(Rank, Free)>,
    /// Among those for its owner's.
    pub(super) own: Option<Free>,
}

/// What one worker adds to a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) owner: AccountId,
    /// For its owner.
    pub(super) slots: u64,
    /// Those that it has earned, where it is a member.
    pub(super) member: PerDemand,
    /// And where it is ejected.
    pub(super) ejected: PerDemand,
}

/// The jobs of one pool.
#[derive(Debug, Default)]
struct Demanded {
    /// Wherever they are.
    jobs: u32,
    /// Failed attempts that wait for another worker, by the order in which they failed.
    retries: BTreeMap<u64, IntentId>,
    /// Those that do not outlive a restart, wherever they are.
    ephemeral: BTreeSet<IntentId>,
    /// Nobody serves the pool.
    unserved: Option<Unserved>,
}

/// What does not outlive a restart is given up then, in the order of its ids.
#[derive(Clone, Copy, Debug)]
struct Unserved {
    until: Time,
    /// Those up to here were looked at.
    after: Option<IntentId>,
}

/// What runs on some slots, so that what is left of it is known without a look at each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Running {
    count: u64,
    estimates: u64,
    /// Sum of the moments when they began.
    since: u128,
}

impl Running {
    pub(super) fn begin(&mut self, estimate: u64, since: Time) {
        self.count = self.count.saturating_add(1);
        self.estimates = self.estimates.saturating_add(estimate);
        self.since = self.since.saturating_add(since.0.into());
    }

    pub(super) fn end(&mut self, estimate: u64, since: Time) {
        self.count = self.count.saturating_sub(1);
        self.estimates = self.estimates.saturating_sub(estimate);
        self.since = self.since.saturating_sub(since.0.into());
    }

    pub(super) fn add(&mut self, more: &Self) {
        self.count = self.count.saturating_add(more.count);
        self.estimates = self.estimates.saturating_add(more.estimates);
        self.since = self.since.saturating_add(more.since);
    }

    pub(super) fn take(&mut self, less: &Self) {
        self.count = self.count.saturating_sub(less.count);
        self.estimates = self.estimates.saturating_sub(less.estimates);
        self.since = self.since.saturating_sub(less.since);
    }

    /// Slot-milliseconds, about.
    pub(super) fn left(&self, now: Time) -> u64 {
        let moments = u128::from(now.0).saturating_mul(self.count.into());
        let so_far = moments.saturating_sub(self.since);
        self.estimates.saturating_sub(u64::try_from(so_far).unwrap_or(u64::MAX))
    }

    /// What one of them is thought to take.
    pub(super) fn mean(&self) -> u64 {
        self.estimates.checked_div(self.count).unwrap_or_default()
    }

    /// How long it takes until all of this work was given to so many slots, all of which are busy.
    ///
    /// Work that has run for an unknown time has half of it left on average. If what runs now has more
    /// left than that, the slots come free later, and by that much in the end; if less, sooner.
    ///
    /// `slots` of `all` may take it, and what runs is taken to be spread evenly over all.
    pub(super) fn until_taken(&self, now: Time, work: u64, slots: u64, all: u64) -> u64 {
        let slots = slots.max(1);
        let left = u128::from(self.left(now)).saturating_mul(slots.into());
        let left = left.checked_div(all.max(slots).into()).unwrap_or_default();
        let left = u64::try_from(left).unwrap_or(u64::MAX);
        let half = self.mean() / 2;
        let first = left.checked_div(slots).unwrap_or_default();
        let base = work.saturating_add(first).checked_div(slots).unwrap_or_default();
        let usual = half.saturating_mul(slots);
        let share = |off: u64| {
            let off = u128::from(off / slots).saturating_mul(base.into());
            let off = off.checked_div(u128::from(base.saturating_add(half)).max(1));
            off.and_then(|off| u64::try_from(off).ok()).unwrap_or_default()
        };
        if left > usual {
            base.saturating_add(share(left.saturating_sub(usual)))
        } else {
            base.saturating_sub(share(usual.saturating_sub(left)))
        }
    }
}

/// Work that came lately, slot-milliseconds; it fades within [`Arrivals::MEMORY_MS`].
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    work: u64,
    at: Time,
}

impl Arrivals {
    const MEMORY_MS: u64 = 20_000;

    pub(super) fn faded(&self, now: Time) -> u64 {
        let left = Self::MEMORY_MS.saturating_sub(now.since_ms(self.at));
        let work = u128::from(self.work).saturating_mul(left.into());
        let work = work.checked_div(Self::MEMORY_MS.into()).unwrap_or_default();
        u64::try_from(work).unwrap_or(u64::MAX)
    }

    pub(super) fn add(&mut self, now: Time, cost: u64) {
        (self.work, self.at) = (self.faded(now).saturating_add(cost), now);
    }

    /// So much work, of what so many slots can do.
    pub(super) fn per_mille(work: u64, slots: u64) -> u64 {
        let able = slots.saturating_mul(Self::MEMORY_MS) / 1_000;
        work.checked_div(able).unwrap_or(1_000).min(1_000)
    }
}

/// How far waits come out from what was told, on average, as a part of what was told: after the
/// variance of round-trip times in RFC 6298. A wait that is wrong counts as one told at most, and
/// as much as its work: so nobody lifts what is added for others beyond its share of the service,
/// nor anybody at all beyond [`Excess::TIMES`] times the wait.
#[derive(Debug, Default)]
pub(super) struct Excess {
    /// Sums that fade.
    off: u64,
    of: u64,
    samples: u32,
}

impl Excess {
    /// What was before so many waits counts half.
    const SAMPLES: u32 = 256;
    /// So many times the mean error is added: about one wait in a hundred is longer.
    const TIMES: u64 = 3;
    /// Shorter ones say nothing of those that a deadline is compared with.
    const LEAST_MS: u64 = 1_000;

    pub(super) fn learn(&mut self, told_ms: u64, waited_ms: u64, cost: u64) {
        if told_ms.max(waited_ms) < Self::LEAST_MS {
            return;
        }
        let off = told_ms.abs_diff(waited_ms).saturating_mul(cost);
        let off = off.checked_div(told_ms).unwrap_or(cost).min(cost);
        self.off = self.off.saturating_add(off);
        self.of = self.of.saturating_add(cost);
        self.samples = self.samples.saturating_add(1);
        if self.samples >= Self::SAMPLES {
            (self.off, self.of, self.samples) = (self.off / 2, self.of / 2, self.samples / 2);
        }
    }

    /// What a wait that is told so may come to.
    pub(super) fn longest(&self, wait_ms: u64) -> u64 {
        let more = u128::from(wait_ms).saturating_mul(self.off.into());
        let more = more.checked_div(self.of.into()).unwrap_or_default();
        let more = u64::try_from(more).unwrap_or(u64::MAX).saturating_mul(Self::TIMES);
        wait_ms.saturating_add(more)
    }
}

#[derive(Debug, Default)]
pub(super) struct Kind {
    /// Name and model in one.
    pub(super) label: String,
    pub(super) name: String,
    pub(super) model: Option<String>,
    jobs: u32,
    demanded: BTreeMap<u8, Demanded>,
    workers: BTreeMap<WorkerId, Part>,
    member: Met,
    ejected: Met,
    free: BTreeMap<Rank, BTreeSet<Free>>,
    /// By account, of those that own workers here or wait for some.
    owned: BTreeMap<AccountId, Owned>,
    pub(super) shown: Shown,
    /// On all slots that it may use, whatever kind that is of.
    pub(super) running: Running,
    pub(super) arrivals: Arrivals,
    pub(super) excess: Excess,
    pub(super) returns: Returns,
}

#[derive(Debug, Default)]
pub(super) struct Kinds {
    by_label: BTreeMap<String, KindId>,
    by_id: BTreeMap<KindId, Kind>,
    /// Pools with jobs that nobody serves, by the time their jobs are given up.
    unserved: BTreeSet<(Time, PoolId)>,
    next: u64,
    steps: Cell<u64>,
}

/// A name has no control characters.
pub(super) fn label(name: &str, model: Option<&str>) -> String {
    match model {
        Some(model) => [name, "\0", model].concat(),
        None => name.to_owned(),
    }
}

impl Kind {
    fn change_owned(&mut self, account: AccountId, change: impl FnOnce(&mut Owned)) {
        let owned = self.owned.entry(account).or_default();
        change(owned);
        if owned.is_empty() {
            self.owned.remove(&account);
        }
    }

    /// Some of its workers that meet a demand: the first, whose ids are keys and so as good as any.
    pub(super) fn some_workers(&self, demand: u8) -> impl Iterator<Item = WorkerId> {
        let looked = self.workers.iter().take(limits::BESIDE_LOOKS_MAX);
        let meets = looked.filter(move |(_, part)| part.member.get(demand) > 0);
        meets.map(|(worker, _)| *worker).take(limits::BESIDE_WORKERS_MAX)
    }

    /// Failed attempts that wait for another worker.
    pub(super) fn retries(&self) -> usize {
        self.demanded.values().map(|found| found.retries.len()).sum()
    }
}

impl Kinds {
    pub(super) fn step(&self) {
        self.steps.set(self.steps.get().wrapping_add(1));
    }

    pub(super) fn steps(&self) -> u64 {
        self.steps.get()
    }

    pub(super) fn find(&self, name: &str, model: Option<&str>) -> Option<KindId> {
        self.step();
        self.by_label.get(&label(name, model)).copied()
    }

    pub(super) fn get(&self, kind: KindId) -> Option<&Kind> {
        self.by_id.get(&kind)
    }

    pub(super) fn get_mut(&mut self, kind: KindId) -> Option<&mut Kind> {
        self.by_id.get_mut(&kind)
    }

    /// In order of intents and models, those behind this one.
    pub(super) fn behind(&self, label: Option<&str>) -> impl Iterator<Item = (KindId, &Kind)> {
        let from = label.map_or(Bound::Unbounded, Bound::Excluded);
        let known = self.by_label.range::<str, _>((from, Bound::Unbounded));
        let known = known.inspect(|_| self.step());
        known.filter_map(|(_, id)| Some((*id, self.by_id.get(id)?)))
    }

    /// There are as many kinds as workers offer and open intents ask for: both are bounded.
    pub(super) fn find_or_add(&mut self, name: &str, model: Option<&str>) -> KindId {
        if let Some(known) = self.find(name, model) {
            return known;
        }
        let id = KindId(self.next);
        self.next = self.next.saturating_add(1);
        let label = label(name, model);
        self.by_label.insert(label.clone(), id);
        let (name, model) = (name.to_owned(), model.map(str::to_owned));
        self.by_id.insert(id, Kind { label, name, model, ..Kind::default() });
        id
    }

    /// Forgets a kind that nobody offers and nothing asks for.
    pub(super) fn drop_if_idle(&mut self, id: KindId) {
        let Some(kind) = self.by_id.get(&id) else { return };
        if kind.jobs == 0 && kind.workers.is_empty() {
            self.by_label.remove(&kind.label);
            self.by_id.remove(&id);
        }
    }

    pub(super) fn hold(&mut self, job: &Job) {
        let Some(kind) = self.by_id.get_mut(&job.pool.kind()) else { return };
        kind.jobs = kind.jobs.saturating_add(1);
        let demanded = kind.demanded.entry(job.pool.demand()).or_default();
        demanded.jobs = demanded.jobs.saturating_add(1);
        if !job.meta.durable {
            demanded.ephemeral.insert(job.meta.id);
        }
    }

    pub(super) fn release(&mut self, job: &Job) {
        let pool = job.pool;
        let Some(kind) = self.by_id.get_mut(&pool.kind()) else { return };
        kind.jobs = kind.jobs.saturating_sub(1);
        if let Some(demanded) = kind.demanded.get_mut(&pool.demand()) {
            demanded.jobs = demanded.jobs.saturating_sub(1);
            demanded.ephemeral.remove(&job.meta.id);
            if demanded.jobs == 0 {
                if let Some(unserved) = demanded.unserved {
                    self.unserved.remove(&(unserved.until, pool));
                }
                kind.demanded.remove(&pool.demand());
            }
        }
        self.drop_if_idle(pool.kind());
    }

    /// The pools of a kind that have jobs.
    pub(super) fn pools(&self, id: KindId) -> impl Iterator<Item = PoolId> {
        let kind = self.by_id.get(&id);
        let demanded = kind.into_iter().flat_map(|kind| kind.demanded.keys());
        demanded.map(move |demand| PoolId::new(id, *demand))
    }

    /// What a worker adds to a kind from now on.
    pub(super) fn set_part(&mut self, id: KindId, worker: WorkerId, part: Option<Part>) {
        self.step();
        let Some(kind) = self.by_id.get_mut(&id) else { return };
        let before = match part {
            Some(part) => kind.workers.insert(worker, part),
            None => kind.workers.remove(&worker),
        };
        if let Some(before) = before {
            kind.member.take(&before.member);
            kind.ejected.take(&before.ejected);
            kind.change_owned(before.owner, |owned| {
                owned.workers = owned.workers.saturating_sub(1);
                owned.slots = owned.slots.saturating_sub(before.slots);
            });
        }
        if let Some(part) = part {
            kind.member.add(&part.member);
            kind.ejected.add(&part.ejected);
            kind.change_owned(part.owner, |owned| {
                owned.workers = owned.workers.saturating_add(1);
                owned.slots = owned.slots.saturating_add(part.slots);
            });
        }
    }

    pub(super) fn owned(&self, id: KindId, account: AccountId) -> Option<&Owned> {
        self.step();
        self.by_id.get(&id)?.owned.get(&account)
    }

    /// An intent waits, or does no longer.
    pub(super) fn set_asked(&mut self, job: &Job, waits: bool) {
        self.step();
        let Some(kind) = self.by_id.get_mut(&job.pool.kind()) else { return };
        kind.change_owned(job.meta.account, |owned| {
            if waits {
                owned.asked.insert(job.meta.id);
            } else {
                owned.asked.remove(&job.meta.id);
            }
        });
    }

    pub(super) fn set_free(&mut self, id: KindId, owner: AccountId, before: Places, after: Places) {
        self.step();
        let Some(kind) = self.by_id.get_mut(&id) else { return };
        if let Some((rank, free)) = before.shared {
            kind.free.entry(rank).or_default().remove(&free);
        }
        if let Some((rank, free)) = after.shared {
            kind.free.entry(rank).or_default().insert(free);
        }
        kind.change_owned(owner, |owned| {
            if let Some(free) = before.own {
                owned.free.remove(&free);
            }
            owned.free.extend(after.own);
        });
    }

    /// Those that may serve the pool for whoever asks.
    pub(super) fn slots(&self, pool: PoolId) -> u64 {
        let Some(kind) = self.by_id.get(&pool.kind()) else { return 0 };
        let met = if self.has_members(pool, &[]) { &kind.member } else { &kind.ejected };
        met.slots.get(pool.demand())
    }

    /// Of those that may serve a pool, how many may serve this other one of its kind too.
    pub(super) fn slots_of_both(&self, pool: PoolId, other: PoolId) -> u64 {
        let demands = Demand::numbered(pool.demand()).zip(Demand::numbered(other.demand()));
        let both = demands.map(|(one, other)| one.and(other).number());
        both.map_or(0, |both| self.slots(PoolId::new(pool.kind(), both)).min(self.slots(pool)))
    }

    /// Of a kind, whoever they may serve.
    pub(super) fn all_slots(&self, kind: KindId) -> u64 {
        let kind = self.by_id.get(&kind);
        kind.map_or(0, |kind| kind.member.slots.most().saturating_add(kind.ejected.slots.most()))
    }

    /// The first of the offers with a free slot that may serve what this account asks of the pool, of
    /// a worker that is not one of these: the account's own before all others.
    pub(super) fn freest(&self, pool: PoolId, asks: AccountId, tried: &[WorkerId]) -> Option<Free> {
        let kind = self.by_id.get(&pool.kind())?;
        let own = kind.owned.get(&asks).into_iter().flat_map(|owned| &owned.free);
        let own = own.filter(|_| !mutant!("own-slot-comes-last"));
        let mut own = own.inspect(|_| self.step());
        let own = own.find(|free| !tried.contains(&free.worker)).copied();
        own.or_else(|| self.freest_shared(pool, tried))
    }

    pub(super) fn freest_shared(&self, pool: PoolId, tried: &[WorkerId]) -> Option<Free> {
        let kind = self.by_id.get(&pool.kind())?;
        let demand = Demand::numbered(pool.demand())?;
        // Ejected ones come last, and only where nobody else could.
        let has_members = self.has_members(pool, tried);
        let ranks = kind.free.iter().filter(|(rank, _)| demand.trusts(rank.class));
        ranks.filter(|(rank, _)| !(rank.ejected && has_members)).find_map(|(rank, free)| {
            let offers = free.iter().take_while(|free| demand.admits(rank.class, free.band));
            let mut offers = offers.inspect(|_| self.step());
            offers.find(|free| !tried.contains(&free.worker)).copied()
        })
    }

    /// Whether any connected worker may serve what this account asks of the pool, but for these.
    pub(super) fn is_served(&self, pool: PoolId, asks: AccountId, tried: &[WorkerId]) -> bool {
        self.step();
        let Some(kind) = self.by_id.get(&pool.kind()) else { return false };
        let tried_own = tried.iter().filter_map(|worker| kind.workers.get(worker));
        let tried_own = tried_own.filter(|part| part.owner == asks).count();
        let own = kind.owned.get(&asks).and_then(|owned| usize::try_from(owned.workers).ok());
        own.unwrap_or_default() > tried_own || self.is_shared(pool, tried)
    }

    /// Whether any connected worker may serve the pool for whoever asks, but for these.
    pub(super) fn is_shared(&self, pool: PoolId, tried: &[WorkerId]) -> bool {
        self.has_members(pool, tried)
            || self.others(pool, tried, |kind| &kind.ejected, |part| &part.ejected)
    }

    /// As that, of those that are not ejected.
    pub(super) fn has_members(&self, pool: PoolId, tried: &[WorkerId]) -> bool {
        !mutant!("ejected-serves-on")
            && self.others(pool, tried, |kind| &kind.member, |part| &part.member)
    }

    /// Whether there are workers that meet a pool's demand beside these.
    fn others(
        &self,
        pool: PoolId,
        tried: &[WorkerId],
        all: impl Fn(&Kind) -> &Met,
        of: impl Fn(&Part) -> &PerDemand,
    ) -> bool {
        self.step();
        let Some(kind) = self.by_id.get(&pool.kind()) else { return false };
        let tried = tried.iter().filter_map(|worker| kind.workers.get(worker));
        let tried = tried.filter(|part| of(part).get(pool.demand()) > 0).count();
        all(kind).workers.get(pool.demand()) > u64::try_from(tried).unwrap_or(u64::MAX)
    }

    /// Recounts from the jobs what is kept as they come and go.
    pub(super) fn check_jobs(&self, jobs: &BTreeMap<IntentId, Job>) -> Result<(), String> {
        let mut recounted: BTreeMap<PoolId, Demanded> = BTreeMap::new();
        let mut asked: BTreeMap<(KindId, AccountId), BTreeSet<IntentId>> = BTreeMap::new();
        for (intent, job) in jobs {
            let found = recounted.entry(job.pool).or_default();
            found.jobs = found.jobs.saturating_add(1);
            found.ephemeral.extend(Some(*intent).filter(|_| !job.meta.durable));
            if let Place::Retrying { order, .. } = job.place {
                found.retries.insert(order, *intent);
            }
            if job.place.waits() {
                let of = (job.pool.kind(), job.meta.account);
                asked.entry(of).or_default().insert(*intent);
            }
        }
        for (id, kind) in &self.by_id {
            for (demand, found) in &kind.demanded {
                let counted = recounted.remove(&PoolId::new(*id, *demand)).unwrap_or_default();
                let of = |found: &Demanded| (found.jobs, found.retries.clone());
                if of(found) != of(&counted) || found.ephemeral != counted.ephemeral {
                    return Err(format!("kind {id:?} counts its jobs wrongly: {found:?}"));
                }
                let clock =
                    found.unserved.map(|unserved| (unserved.until, PoolId::new(*id, *demand)));
                if clock.is_some_and(|clock| !self.unserved.contains(&clock)) {
                    return Err(format!("a pool of kind {id:?} is unserved for ever"));
                }
            }
            for (account, owned) in &kind.owned {
                if owned.asked != asked.remove(&(*id, *account)).unwrap_or_default() {
                    return Err(format!("kind {id:?} knows wrongly what {account} waits for"));
                }
            }
        }
        if recounted.is_empty() && asked.is_empty() {
            Ok(())
        } else {
            Err(format!("jobs of kinds that are not known: {recounted:?}"))
        }
    }

    /// Recounts from the workers what is kept as they come and go.
    pub(super) fn check_workers(&self, workers: &Workers) -> Result<(), String> {
        let (mut free, mut running) = (workers.free_by_kind(), workers.running_by_kind());
        let clocks = self.by_id.values().flat_map(|kind| kind.demanded.values());
        if clocks.filter(|found| found.unserved.is_some()).count() != self.unserved.len() {
            return Err("clocks of pools that nobody serves are counted wrongly".to_owned());
        }
        for (id, kind) in &self.by_id {
            if kind.running != running.remove(id).unwrap_or_default() {
                return Err(format!("kind {id:?} counts what runs wrongly: {:?}", kind.running));
            }
            let (mut member, mut ejected) = (Met::default(), Met::default());
            for part in kind.workers.values() {
                member.add(&part.member);
                ejected.add(&part.ejected);
            }
            if kind.member != member || kind.ejected != ejected {
                return Err(format!("kind {id:?} counts its workers wrongly"));
            }
            let mut shared: BTreeMap<Rank, BTreeSet<Free>> = BTreeMap::new();
            let mut owned: BTreeMap<AccountId, Owned> = BTreeMap::new();
            for (owner, places) in free.remove(id).unwrap_or_default() {
                if let Some((rank, free)) = places.shared {
                    shared.entry(rank).or_default().insert(free);
                }
                owned.entry(owner).or_default().free.extend(places.own);
            }
            for part in kind.workers.values() {
                let of = owned.entry(part.owner).or_default();
                (of.workers, of.slots) =
                    (of.workers.saturating_add(1), of.slots.saturating_add(part.slots));
            }
            for (account, found) in &kind.owned {
                owned.entry(*account).or_default().asked.clone_from(&found.asked);
            }
            owned.retain(|_, owned| !owned.is_empty());
            let known: BTreeMap<_, _> =
                kind.free.iter().filter(|(_, free)| !free.is_empty()).collect();
            if known != shared.iter().collect() || kind.owned != owned {
                return Err(format!("kind {id:?} knows its free slots wrongly"));
            }
        }
        if free.is_empty() { Ok(()) } else { Err("free slots of kinds that are gone".to_owned()) }
    }

    /// A failed attempt waits for another worker.
    pub(super) fn push_retry(&mut self, pool: PoolId, order: u64, intent: IntentId) {
        self.step();
        let kind = self.by_id.get_mut(&pool.kind());
        let demanded = kind.and_then(|kind| kind.demanded.get_mut(&pool.demand()));
        if let Some(demanded) = demanded {
            demanded.retries.insert(order, intent);
        }
    }

    pub(super) fn remove_retry(&mut self, pool: PoolId, order: u64) {
        self.step();
        let kind = self.by_id.get_mut(&pool.kind());
        let demanded = kind.and_then(|kind| kind.demanded.get_mut(&pool.demand()));
        if let Some(demanded) = demanded {
            demanded.retries.remove(&order);
        }
    }

    /// What waits in a pool for another worker, from this one of the order on.
    pub(super) fn retries(&self, pool: PoolId, from: u64) -> impl Iterator<Item = (u64, IntentId)> {
        let kind = self.by_id.get(&pool.kind());
        let demanded = kind.and_then(|kind| kind.demanded.get(&pool.demand()));
        let retries = demanded.into_iter().flat_map(move |found| found.retries.range(from..));
        retries.inspect(|_| self.step()).map(|(order, intent)| (*order, *intent))
    }

    pub(super) fn next_timeout(&self) -> Option<Time> {
        self.unserved.first().map(|(at, _)| *at)
    }

    /// A pool whose jobs have waited too long for any worker, and up to where they were looked at.
    pub(super) fn take_unserved(&mut self, now: Time) -> Option<(PoolId, Option<IntentId>)> {
        let (at, pool) = self.unserved.first().copied().filter(|(at, _)| *at <= now)?;
        self.unserved.remove(&(at, pool));
        let kind = self.by_id.get_mut(&pool.kind());
        let found = kind.and_then(|kind| kind.demanded.get_mut(&pool.demand()));
        Some((pool, found.and_then(|found| found.unserved.take()).and_then(|found| found.after)))
    }

    /// Those of a pool's jobs that do not outlive a restart, behind this one.
    pub(super) fn ephemeral(
        &self,
        pool: PoolId,
        after: Option<IntentId>,
    ) -> impl Iterator<Item = IntentId> {
        let kind = self.by_id.get(&pool.kind());
        let demanded = kind.and_then(|kind| kind.demanded.get(&pool.demand()));
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let found = demanded
            .into_iter()
            .flat_map(move |found| found.ephemeral.range((from, Bound::Unbounded)));
        found.inspect(|_| self.step()).copied()
    }

    /// The jobs of a pool that nobody serves, those behind this one, are given up then.
    pub(super) fn give_up_at(&mut self, pool: PoolId, until: Time, after: Option<IntentId>) {
        let kind = self.by_id.get_mut(&pool.kind());
        if let Some(found) = kind.and_then(|kind| kind.demanded.get_mut(&pool.demand())) {
            found.unserved = Some(Unserved { until, after });
            self.unserved.insert((until, pool));
        }
    }

    /// Pools that nobody serves are waited with for so much longer.
    pub(super) fn put_off(&mut self, by_ms: u64) {
        for (until, pool) in std::mem::take(&mut self.unserved) {
            let until = until.after_ms(by_ms);
            let kind = self.by_id.get_mut(&pool.kind());
            let found = kind.and_then(|kind| kind.demanded.get_mut(&pool.demand()));
            if let Some(unserved) = found.and_then(|found| found.unserved.as_mut()) {
                unserved.until = until;
                self.unserved.insert((until, pool));
            }
        }
    }

    /// Starts or stops the clock of a pool that nobody serves.
    pub(super) fn watch(&mut self, pool: PoolId, now: Time) {
        self.step();
        let served = self.is_shared(pool, &[]);
        let kind = self.by_id.get_mut(&pool.kind());
        let Some(found) = kind.and_then(|kind| kind.demanded.get_mut(&pool.demand())) else {
            return;
        };
        match found.unserved {
            None if !served => self.give_up_at(pool, now.after_ms(limits::UNSERVED_MS), None),
            Some(Unserved { until, .. }) if served => {
                found.unserved = None;
                self.unserved.remove(&(until, pool));
            }
            None | Some(_) => {}
        }
    }
}
