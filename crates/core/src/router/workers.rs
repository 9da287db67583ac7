//! What each connected worker offers, and how much of it is taken.

use std::collections::{BTreeMap, BTreeSet};

use mtor_types::intent::{Band, IntentMeta};
use mtor_types::message::{GroupKey, Offered, SlotOffer, Slots};
use mtor_types::mutant;
use mtor_types::standing::{KindName, Standing};
use mtor_types::{AccountId, Amount, Fence, IntentId, NodeId, Price, SessionId, Time, WorkerId};

use super::Router;
use super::demand::{Demand, PerDemand, Rank, TrustClass};
use super::job::{Job, Place, Taken};
use super::kinds::{Free, Kinds, Part, Places, Running, label};
use super::safe_queue::{KindId, PoolId, WorkerKey};
use crate::limits;

/// The number of one offer of one worker; never reused within the worker's time here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct OfferNo(u32);

/// Slots that one backend has for all that it offers.
#[derive(Debug, Default)]
struct Group {
    slots: u32,
    busy: u32,
    running: Running,
}

/// Which of a worker's slots a piece of work is for.
#[derive(Clone, Copy)]
pub(super) enum Choice<'a> {
    /// Any that it has, free or not.
    Whatever,
    Free,
    FreeOf(&'a GroupKey),
}

impl Choice<'_> {
    fn is_of(self, group: &GroupKey) -> bool {
        match self {
            Self::Whatever | Self::Free => true,
            Self::FreeOf(named) => named == group,
        }
    }
}

#[derive(Debug)]
pub(super) struct OfferSlots {
    pub(super) name: String,
    pub(super) model: Option<String>,
    pub(super) price: Price,
    band: Band,
    pub(super) context: Option<u32>,
    pub(super) class: TrustClass,
    /// At most so many slots of its kind are used for others than its owner.
    earned: u32,
    ejected: bool,
    pub(super) group: GroupKey,
    /// It is gone, and stays until its last lease ends.
    gone: bool,
    pub(super) busy: u32,
    /// Its last lease, or the last of all when it was offered.
    served: Fence,
    /// What it serves: its own kind first, then what asks for no model, then what asks for its model
    /// of its owner alone. None before it joined.
    kinds: Vec<KindId>,
}

impl OfferSlots {
    /// What asks for its model of its owner alone. None before it joined, and none of the realm's own.
    pub(super) fn owned_kind(&self) -> Option<KindId> {
        self.kinds.get(2).copied()
    }

    pub(super) fn is_own(&self) -> bool {
        self.class == TrustClass::Own
    }

    /// What it offers, whatever a client names.
    pub(super) fn kind_name(&self) -> KindName {
        KindName { intent: self.name.clone(), model: self.model.clone() }
    }

    fn label(&self) -> String {
        label(&self.name, self.model.as_deref())
    }

    fn rank(&self) -> Rank {
        Rank { ejected: self.ejected, class: self.class }
    }

    /// Whether it may serve these demands of its kinds.
    fn admits(&self, demand: Demand) -> bool {
        !self.gone && demand.admits(self.class, self.band)
    }
}

#[derive(Debug)]
pub(super) struct WorkerSlots {
    number: u32,
    pub(super) session: SessionId,
    pub(super) edge: NodeId,
    pub(super) owner: AccountId,
    draining: bool,
    /// Its session ended; what it still holds may come back with another.
    pub(super) is_over: bool,
    groups: BTreeMap<GroupKey, Group>,
    pub(super) offers: BTreeMap<OfferNo, OfferSlots>,
    next_offer: u32,
    /// Slots that are used for others than its owner, by the label of what they were offered for.
    lent: BTreeMap<String, u32>,
    pub(super) leases: BTreeSet<IntentId>,
    /// Up to where it has looked through the retries of a pool: what stands before it failed.
    pub(super) passed: BTreeMap<PoolId, u64>,
    /// Its last slot went to a retry, so the next one does not.
    pub(super) retried: bool,
    /// Leases of a kind that run out until then are part of one failure that was told.
    pub(super) lapsed: BTreeMap<KindName, Time>,
}

impl WorkerSlots {
    fn new(slots: &Slots, number: u32) -> Self {
        Self {
            number,
            session: slots.session,
            edge: slots.edge,
            owner: slots.owner,
            draining: slots.draining,
            is_over: false,
            groups: BTreeMap::new(),
            offers: BTreeMap::new(),
            next_offer: 0,
            lent: BTreeMap::new(),
            leases: BTreeSet::new(),
            passed: BTreeMap::new(),
            retried: false,
            lapsed: BTreeMap::new(),
        }
    }

    pub(super) fn key(&self) -> WorkerKey {
        WorkerKey(self.number.into())
    }

    fn takes_work(&self, offer: &OfferSlots) -> bool {
        let has_room = |group: &Group| group.busy < group.slots;
        !self.draining && !offer.gone && self.groups.get(&offer.group).is_some_and(has_room)
    }

    /// Whether it takes work for others than its owner.
    fn lends(&self, offer: &OfferSlots) -> bool {
        self.takes_work(offer) && self.lent(offer) < offer.earned
    }

    fn lent(&self, offer: &OfferSlots) -> u32 {
        self.lent.get(&offer.label()).copied().unwrap_or_default()
    }

    /// The cheapest offer of this kind that may serve this intent, of those with such a slot.
    pub(super) fn find(
        &self,
        kind: KindId,
        meta: &IntentMeta,
        choice: Choice<'_>,
    ) -> Option<OfferNo> {
        let of_kind = self.offers.iter().filter(|(_, offer)| offer.kinds.contains(&kind));
        let (own, demand) = (self.owner == meta.account, Demand::of(meta));
        let meets = of_kind.filter(|(_, offer)| offer.admits(demand) || (own && !offer.gone));
        let has_room = |offer| if own { self.takes_work(offer) } else { self.lends(offer) };
        let free = meets.filter(|(_, offer)| {
            let whatever = matches!(choice, Choice::Whatever);
            whatever || (choice.is_of(&offer.group) && has_room(*offer))
        });
        // Of several that are free the one whose slots could do less else.
        let breadth = |group: &GroupKey| match choice {
            Choice::Free => self.kinds_of(group).len(),
            Choice::Whatever | Choice::FreeOf(_) => 0,
        };
        let first = |(number, offer): &(&OfferNo, &OfferSlots)| {
            (offer.rank(), offer.price.amount, breadth(&offer.group), **number)
        };
        free.min_by_key(first).map(|(number, _)| *number)
    }

    /// The kinds that such a free slot may serve, whoever asks.
    pub(super) fn kinds_with_room(&self, choice: Choice<'_>) -> BTreeSet<KindId> {
        let free = self.offers.values().filter(|o| choice.is_of(&o.group) && self.takes_work(o));
        free.flat_map(|offer| offer.kinds.iter().copied()).collect()
    }

    /// The pools that such a free slot may serve, of those with jobs; in order, once.
    fn serves(&self, choice: Choice<'_>, kinds: &Kinds) -> Vec<PoolId> {
        let free = self.offers.values().filter(|o| choice.is_of(&o.group) && self.lends(o));
        let all = free.flat_map(|offer| {
            let pools = offer.kinds.iter().flat_map(|kind| kinds.pools(*kind));
            pools.filter(|pool| {
                Demand::numbered(pool.demand()).is_some_and(|demand| offer.admits(demand))
                    && !(offer.ejected && kinds.has_members(*pool, &[]))
            })
        });
        let mut all: Vec<PoolId> = all.collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The kinds that share the slots of a group.
    fn kinds_of(&self, group: &GroupKey) -> BTreeSet<KindId> {
        let offers = self.offers.values().filter(|offer| !offer.gone && offer.group == *group);
        let offers = offers.filter(|_| !self.draining);
        offers.flat_map(|offer| offer.kinds.iter().copied()).collect()
    }

    /// The slots that a kind has here, and how many of them it shares with each other one.
    pub(super) fn beside(&self, kind: KindId) -> (u64, BTreeMap<KindId, u64>) {
        let (mut own, mut beside) = (0_u64, BTreeMap::<KindId, u64>::new());
        for (key, group) in &self.groups {
            let kinds = self.kinds_of(key);
            if kinds.contains(&kind) {
                own = own.saturating_add(group.slots.into());
                for other in kinds.into_iter().filter(|other| *other != kind) {
                    let shared = beside.entry(other).or_default();
                    *shared = shared.saturating_add(group.slots.into());
                }
            }
        }
        (own, beside)
    }

    /// Slots and those taken, as they are told of an offer: those of its group, by the first of its
    /// offers of that kind alone.
    fn told(&self, number: OfferNo, offer: &OfferSlots) -> Option<(u32, u32)> {
        let same = |(_, other): &(&OfferNo, &OfferSlots)| {
            !other.gone && other.group == offer.group && other.label() == offer.label()
        };
        let first = self.offers.iter().find(same).map(|(number, _)| *number);
        let group = self.groups.get(&offer.group).filter(|_| first == Some(number))?;
        Some((group.slots, group.busy))
    }

    /// Forgets offers that are gone once nothing of them is taken. They serve no pool any more.
    pub(super) fn drop_gone_offers(&mut self) {
        self.offers.retain(|_, offer| !offer.gone || offer.busy > 0);
        let used: BTreeSet<&GroupKey> = self.offers.values().map(|offer| &offer.group).collect();
        self.groups.retain(|group, _| used.contains(group));
    }

    /// The session is over: nothing is offered any more.
    pub(super) fn retire(&mut self) {
        self.is_over = true;
        self.offers.values_mut().for_each(|offer| offer.gone = true);
        self.drop_gone_offers();
    }

    pub(super) fn is_gone(&self) -> bool {
        self.leases.is_empty() && self.offers.values().all(|offer| offer.gone)
    }

    /// Replaces what it offers. Offers that go on keep their number and what is taken of them;
    /// those that are gone stay until their last lease ends.
    fn set_offers(&mut self, slots: Slots, standings: &[Standing], newest: Fence) {
        let own = slots.own;
        self.offers.values_mut().for_each(|offer| offer.gone = true);
        self.groups.values_mut().for_each(|group| group.slots = 0);
        for (key, count) in slots.groups() {
            self.groups.entry(key).or_default().slots = count;
        }
        for offer in slots.offers.into_iter().filter(|offer| offer.slots > 0) {
            let key = offer.group_key();
            let same = |(_, known): &(&OfferNo, &OfferSlots)| {
                (&known.name, &known.model) == (&offer.intent, &offer.model)
                    && (known.price, &known.group) == (offer.price, &key)
            };
            let known = self.offers.iter().find(same).map(|(number, _)| *number);
            let number = known.unwrap_or(OfferNo(self.next_offer));
            if known.is_none() {
                self.next_offer = self.next_offer.wrapping_add(1);
            }
            self.put_offer(number, offer, own, newest);
            let Some(known) = self.offers.get_mut(&number) else { continue };
            let of = |standing: &&Standing| {
                standing.kind.intent == known.name && standing.kind.model == known.model
            };
            // What is not told has earned and proven nothing yet.
            let told = standings.iter().find(of);
            known.class = TrustClass::of(own, told.is_some_and(|standing| standing.proven));
            let first = if own { u32::MAX } else { limits::EARNED_FIRST };
            known.earned = told.map_or(first, |standing| standing.slots.max(1));
            if mutant!("declared-slots-count") {
                known.earned = u32::MAX;
            }
            known.ejected = told.is_some_and(|standing| standing.ejected);
        }
        self.drop_gone_offers();
    }

    fn put_offer(&mut self, number: OfferNo, offer: SlotOffer, own: bool, newest: Fence) {
        let class = TrustClass::of(own, false);
        let group = offer.group_key();
        let SlotOffer { intent: name, model, slots: _, price, band, context, group: _ } = offer;
        if let Some(known) = self.offers.get_mut(&number) {
            (known.gone, known.band, known.context) = (false, band, context);
            return;
        }
        // Behind the others: who offers again does not come first by that.
        let (gone, busy, served, kinds) = (false, 0, newest, Vec::new());
        let (earned, ejected) = (limits::EARNED_FIRST, false);
        let fresh = OfferSlots {
            name,
            model,
            price,
            band,
            context,
            class,
            earned,
            ejected,
            group,
            gone,
            busy,
            served,
            kinds,
        };
        self.offers.insert(number, fresh);
    }

    /// What it adds to each kind.
    fn parts(&self) -> BTreeMap<KindId, Part> {
        let mut kinds: BTreeMap<KindId, Vec<&OfferSlots>> = BTreeMap::new();
        for offer in self.offers.values().filter(|offer| !offer.gone && !self.draining) {
            for kind in &offer.kinds {
                kinds.entry(*kind).or_default().push(offer);
            }
        }
        let part = |(kind, offers): (KindId, Vec<&OfferSlots>)| {
            let of = |meets: &dyn Fn(&OfferSlots) -> bool, all: bool| -> u64 {
                let mut groups: BTreeMap<&GroupKey, BTreeMap<String, u32>> = BTreeMap::new();
                for offer in offers.iter().filter(|offer| meets(offer)) {
                    let earned = if all { u32::MAX } else { offer.earned };
                    groups.entry(&offer.group).or_default().insert(offer.label(), earned);
                }
                let slots = groups.into_iter().map(|(group, earned)| {
                    let earned = earned.into_values().fold(0, u32::saturating_add);
                    u64::from(self.groups.get(group).map_or(0, |group| group.slots).min(earned))
                });
                slots.fold(0, u64::saturating_add)
            };
            let per_demand = |ejected: bool| {
                PerDemand::of(|demand| {
                    of(&|offer| offer.admits(demand) && offer.ejected == ejected, false)
                })
            };
            let (owner, slots) = (self.owner, of(&|_| true, true));
            (kind, Part { owner, slots, member: per_demand(false), ejected: per_demand(true) })
        };
        kinds.into_iter().map(part).collect()
    }
}

#[derive(Debug, Default)]
pub(super) struct Workers {
    by_id: BTreeMap<WorkerId, WorkerSlots>,
    next_number: u32,
}

impl Workers {
    pub(super) fn get(&self, worker: WorkerId) -> Option<&WorkerSlots> {
        self.by_id.get(&worker)
    }

    pub(super) fn get_mut(&mut self, worker: WorkerId) -> Option<&mut WorkerSlots> {
        self.by_id.get_mut(&worker)
    }

    pub(super) fn remove(&mut self, worker: WorkerId) -> Option<WorkerSlots> {
        self.by_id.remove(&worker)
    }

    pub(super) fn ids(&self) -> Vec<WorkerId> {
        self.by_id.keys().copied().collect()
    }

    /// Takes over what a session says. Leases of an earlier session are the caller's to settle.
    /// `newest` is the newest fence there is.
    pub(super) fn put(&mut self, offered: Offered, newest: Fence) {
        let Offered { slots, standings } = offered;
        let number = self.next_number;
        let next_number = &mut self.next_number;
        let known = self.by_id.entry(slots.worker).or_insert_with(|| {
            *next_number = next_number.wrapping_add(1);
            WorkerSlots::new(&slots, number)
        });
        (known.session, known.edge, known.owner) = (slots.session, slots.edge, slots.owner);
        (known.draining, known.is_over) = (slots.draining, false);
        known.set_offers(slots, &standings, newest);
    }

    pub(super) fn check_invariants(&self, jobs: &BTreeMap<IntentId, Job>) -> Result<(), String> {
        let mut leased = 0_usize;
        for (id, worker) in &self.by_id {
            leased = leased.saturating_add(worker.leases.len());
            let mut busy: BTreeMap<OfferNo, u32> = BTreeMap::new();
            let mut running: BTreeMap<&GroupKey, Running> = BTreeMap::new();
            let mut lent: BTreeMap<String, u32> = BTreeMap::new();
            for intent in &worker.leases {
                match jobs.get(intent).map(|job| &job.place) {
                    Some(Place::Running(lease)) if lease.worker == *id => {
                        let count = busy.entry(lease.offer).or_default();
                        *count = count.saturating_add(1);
                        let offer = worker.offers.get(&lease.offer);
                        if let Some(offer) = offer {
                            let running = running.entry(&offer.group).or_default();
                            running.begin(lease.taken.estimate, lease.taken.since);
                        }
                        if let Some(offer) = offer.filter(|_| !lease.own) {
                            let count = lent.entry(offer.label()).or_default();
                            *count = count.saturating_add(1);
                        }
                    }
                    _ => {
                        return Err(format!(
                            "worker {id} holds {intent}, which does not run there"
                        ));
                    }
                }
            }
            if worker.lent != lent {
                return Err(format!("worker {id}: what is lent is counted wrongly"));
            }
            let mut groups: BTreeMap<&GroupKey, u32> = BTreeMap::new();
            for (number, offer) in &worker.offers {
                if offer.busy != busy.get(number).copied().unwrap_or_default() {
                    return Err(format!("worker {id}: busy slots and leases differ"));
                }
                let sum = groups.entry(&offer.group).or_default();
                *sum = sum.saturating_add(offer.busy);
            }
            if !worker.groups.iter().all(|(key, group)| groups.get(key) == Some(&group.busy)) {
                return Err(format!("worker {id}: a group counts its busy slots wrongly"));
            }
            for (key, group) in &worker.groups {
                if group.running != running.remove(key).unwrap_or_default() {
                    return Err(format!("worker {id}: a group counts what runs wrongly"));
                }
            }
        }
        let running = jobs.values().filter(|job| matches!(job.place, Place::Running(_))).count();
        if running != leased {
            return Err(format!("{running} jobs run, workers hold {leased} leases"));
        }
        Ok(())
    }

    /// For the check: every offer with a free slot, by the kinds that it serves.
    pub(super) fn free_by_kind(&self) -> BTreeMap<KindId, Vec<(AccountId, Places)>> {
        let mut free: BTreeMap<KindId, Vec<_>> = BTreeMap::new();
        for (id, worker) in &self.by_id {
            for (number, offer) in &worker.offers {
                let places = self.places(*id, *number);
                for kind in offer.kinds.iter().filter(|_| places.own.is_some()) {
                    free.entry(*kind).or_default().push((worker.owner, places));
                }
            }
        }
        free
    }

    /// By kind, what runs on the slots that it may use.
    pub(super) fn running_by_kind(&self) -> BTreeMap<KindId, Running> {
        let mut all: BTreeMap<KindId, Running> = BTreeMap::new();
        for known in self.by_id.values() {
            for (key, group) in &known.groups {
                for kind in known.kinds_of(key) {
                    all.entry(kind).or_default().add(&group.running);
                }
            }
        }
        all
    }

    /// Where an offer stands among its kinds' free ones.
    fn places(&self, worker: WorkerId, number: OfferNo) -> Places {
        let Some(known) = self.by_id.get(&worker) else { return Places::default() };
        let Some(offer) = known.offers.get(&number).filter(|offer| known.takes_work(offer)) else {
            return Places::default();
        };
        let Some(group) = known.groups.get(&offer.group) else { return Places::default() };
        let free = |taken: u32, of: u32| {
            let load = u64::from(taken).saturating_mul(1_000).checked_div(of.into());
            let (band, price) = (offer.band, offer.price.amount);
            let price = if mutant!("price-of-slots-ignored") { Amount::ZERO } else { price };
            let load = load.filter(|_| !mutant!("load-of-slots-ignored"));
            let load_per_mille = load.unwrap_or_default();
            let served = if mutant!("idleness-ignored") { Fence(0) } else { offer.served };
            Free { band, price, load_per_mille, served, worker, offer: number }
        };
        let earned = offer.earned.min(group.slots);
        let lent = known.lent(offer);
        let shared = (lent < offer.earned).then(|| (offer.rank(), free(lent, earned)));
        Places { shared, own: Some(free(group.busy, group.slots)) }
    }
}

impl Router {
    pub(super) fn group_of(&self, worker: WorkerId, offer: OfferNo) -> Option<GroupKey> {
        Some(self.workers.get(worker)?.offers.get(&offer)?.group.clone())
    }

    pub(super) fn may_serve(&self, worker: WorkerId, choice: Choice<'_>) -> Vec<PoolId> {
        let known = self.workers.get(worker);
        known.map(|known| known.serves(choice, &self.kinds)).unwrap_or_default()
    }

    /// What runs on a worker's slots counts, or no longer, in all kinds that share them.
    fn count_running(&mut self, worker: WorkerId, count: fn(&mut Running, &Running)) {
        let groups = self.workers.get(worker).into_iter().flat_map(|known| known.groups.keys());
        for group in groups.cloned().collect::<Vec<GroupKey>>() {
            self.count_running_of(worker, &group, count);
        }
    }

    fn count_running_of(
        &mut self,
        worker: WorkerId,
        group: &GroupKey,
        count: fn(&mut Running, &Running),
    ) {
        let Some(known) = self.workers.get(worker) else { return };
        let Some(found) = known.groups.get(group) else { return };
        for kind in known.kinds_of(group) {
            if let Some(kind) = self.kinds.get_mut(kind) {
                count(&mut kind.running, &found.running);
            }
        }
    }

    /// Takes a worker out of every kind, before what it offers changes or it goes. Returns which.
    pub(super) fn leave_kinds(&mut self, worker: WorkerId) -> BTreeSet<KindId> {
        let mut left = BTreeSet::new();
        self.count_running(worker, Running::take);
        let Some(known) = self.workers.get(worker) else { return left };
        let numbers: Vec<OfferNo> = known.offers.keys().copied().collect();
        self.queue.unlink(known.key());
        for number in numbers {
            let free = self.workers.places(worker, number);
            let Some(known) = self.workers.get_mut(worker) else { break };
            let Some(offer) = known.offers.get_mut(&number) else { continue };
            let (kinds, owner) = (std::mem::take(&mut offer.kinds), known.owner);
            if let Some(offer) = known.offers.get(&number).filter(|_| !known.draining)
                && let Some(kind) = kinds.first().and_then(|kind| self.kinds.get_mut(*kind))
            {
                kind.shown.take(offer, known.owner, known.told(number, offer));
            }
            for kind in kinds {
                self.kinds.set_free(kind, owner, free, Places::default());
                self.kinds.set_part(kind, worker, None);
                left.insert(kind);
            }
        }
        left
    }

    /// Puts a worker into every kind that it serves. Returns which.
    pub(super) fn join_kinds(&mut self, worker: WorkerId) -> BTreeSet<KindId> {
        let mut joined = BTreeSet::new();
        let Some(known) = self.workers.get_mut(worker) else { return joined };
        let (key, owner, mut linked) = (known.key(), known.owner, BTreeSet::new());
        for offer in known.offers.values_mut().filter(|offer| !offer.gone) {
            offer.kinds.push(self.kinds.find_or_add(&offer.name, offer.model.as_deref()));
            if let Some(model) = &offer.model {
                offer.kinds.push(self.kinds.find_or_add(&offer.name, None));
                // Who names its owner has chosen that one alone.
                if !offer.is_own() {
                    let owned = mtor_types::model::owned(model, owner);
                    offer.kinds.push(self.kinds.find_or_add(&offer.name, Some(&owned)));
                }
            }
            if offer.class.links() {
                linked.extend(offer.kinds.iter().copied());
            }
            joined.extend(offer.kinds.iter().copied());
        }
        known.passed.retain(|pool, _| joined.contains(&pool.kind()));
        let Some(known) = self.workers.get(worker) else { return joined };
        for (number, offer) in known.offers.iter().filter(|_| !known.draining) {
            let told = known.told(*number, offer);
            if let Some(kind) = offer.kinds.first().and_then(|kind| self.kinds.get_mut(*kind)) {
                kind.shown.add(offer, known.owner, told);
            }
        }
        for (kind, part) in known.parts() {
            self.kinds.set_part(kind, worker, Some(part));
        }
        for (number, offer) in &known.offers {
            let free = self.workers.places(worker, *number);
            for kind in &offer.kinds {
                self.kinds.set_free(*kind, known.owner, Places::default(), free);
            }
        }
        let linked: Vec<KindId> = linked.into_iter().collect();
        self.queue.link(key, &linked);
        self.count_running(worker, Running::add);
        joined
    }

    /// One slot of an offer is taken by this lease; `own`: for its owner.
    pub(super) fn take_slot(
        &mut self,
        worker: WorkerId,
        offer: OfferNo,
        (lease, own, taken): (Fence, bool, &Taken),
    ) {
        let (estimate, since) = (taken.estimate, taken.since);
        self.change_slots(worker, offer, |offer, group, lent| {
            offer.busy = offer.busy.saturating_add(1);
            group.busy = group.busy.saturating_add(1);
            group.running.begin(estimate, since);
            *lent = lent.saturating_add(u32::from(!own));
            offer.served = lease;
        });
    }

    pub(super) fn give_back_slot(
        &mut self,
        worker: WorkerId,
        offer: OfferNo,
        (own, taken): (bool, &Taken),
    ) {
        let (estimate, since) = (taken.estimate, taken.since);
        self.change_slots(worker, offer, |offer, group, lent| {
            offer.busy = offer.busy.saturating_sub(1);
            group.busy = group.busy.saturating_sub(1);
            group.running.end(estimate, since);
            *lent = lent.saturating_sub(u32::from(!own));
        });
    }

    /// Changes how much of an offer is taken, and keeps what is known to be free in step for all
    /// that share its slots.
    fn change_slots(
        &mut self,
        worker: WorkerId,
        number: OfferNo,
        change: impl FnOnce(&mut OfferSlots, &mut Group, &mut u32),
    ) {
        let Some(known) = self.workers.get(worker) else { return };
        let Some(group) = known.offers.get(&number).map(|offer| offer.group.clone()) else {
            return;
        };
        // What is lent is of an intent and model, whichever group that is offered in.
        let label = known.offers.get(&number).map(OfferSlots::label);
        let sharing = known
            .offers
            .iter()
            .filter(|(_, offer)| offer.group == group || Some(offer.label()) == label);
        let sharing: Vec<OfferNo> = sharing.map(|(number, _)| *number).collect();
        let busy = known.groups.get(&group).map(|group| group.busy).unwrap_or_default();
        let before: Vec<Places> =
            sharing.iter().map(|number| self.workers.places(worker, *number)).collect();
        self.count_running_of(worker, &group, Running::take);
        let Some(known) = self.workers.get_mut(worker) else { return };
        if let Some(offer) = known.offers.get_mut(&number)
            && let Some(group) = known.groups.get_mut(&group)
        {
            let label = offer.label();
            let mut lent = known.lent.remove(&label).unwrap_or_default();
            change(offer, group, &mut lent);
            if lent > 0 {
                known.lent.insert(label, lent);
            }
        }
        self.count_running_of(worker, &group, Running::add);
        for (number, before) in sharing.into_iter().zip(before) {
            let after = self.workers.places(worker, number);
            let Some(known) = self.workers.get(worker) else { return };
            let Some(offer) = known.offers.get(&number) else { continue };
            for kind in &offer.kinds {
                self.kinds.set_free(*kind, known.owner, before, after);
            }
            let kind = offer.kinds.first().filter(|_| !known.draining);
            if let Some(kind) = kind.and_then(|kind| self.kinds.get_mut(*kind))
                && let Some((_, now)) = known.told(number, offer)
                && offer.group == group
            {
                kind.shown.change_busy((offer.class, known.owner), busy, now);
            }
        }
    }
}
