//! Who stands ready, what waits and what runs where: a naive model of what a router must do, kept
//! from the commands a node takes and the effects it decides. It knows no pool, tree or index; it
//! looks at every free worker for every intent.
//!
//! It judges, each time a slot is given out, whether that slot may serve the intent and is the first
//! of those that may: by class (the asker's own, the realm's own, proven, probation), price, load over
//! earned slots, longest without a new lease; no more than are earned, and an ejected worker only where
//! no other could. And after each turn that nothing waits that a free slot may serve. DESIGN's
//! one exception, the eighth of a demand's slots that is kept for whoever runs nothing, is not built:
//! [`Floor::conserved`] is where it would be allowed.
//!
//! It is kept where one node does it all: elsewhere messages are on their way.

use std::collections::{BTreeMap, BTreeSet};

use mtor_core::effect::Assignment;
use mtor_core::{Effect, limits};
use mtor_types::fact::NetworkKey;
use mtor_types::intent::{Band, Branch, EndRequest, IntentMeta, Outcome, Trust, Why};
use mtor_types::message::{SlotOffer, Slots};
use mtor_types::{AccountId, Attempt, IntentId, SessionId, WorkerId};

use super::stand::{Class, Offer, Order, Stand, Stands};

/// A network, or an account in its network.
type Holder = (Option<NetworkKey>, Option<AccountId>);

/// Who answers for an intent's retries.
fn holders(meta: &IntentMeta) -> Vec<Holder> {
    match meta.branch {
        Branch::Account => vec![(None, Some(meta.account))],
        Branch::Network(network) => {
            vec![(Some(network), None), (Some(network), Some(meta.account))]
        }
    }
}

#[derive(Clone, Debug)]
enum Place {
    Waiting,
    Held {
        worker: WorkerId,
        attempt: Attempt,
        offer: SlotOffer,
        own: bool,
    },
    /// Lost: the edge is asked what it had delivered.
    Asked(Attempt),
    /// It was lost more than once, and pauses.
    Until(u64),
    /// After a restart: a worker may bring it back.
    Adoptable(u64),
    /// Its end is on the way.
    Ending,
}

/// Why an attempt ended without an end of its intent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Failed,
    Lost,
}

#[derive(Debug)]
struct Known {
    meta: IntentMeta,
    place: Place,
    failed_by: Vec<WorkerId>,
    losses: u32,
    dispatches: u32,
    /// It came back after a restart, and nobody has begun it anew.
    of_restart: bool,
    /// Whom its last attempt was lost by, and whether pieces of it were delivered: none once it is
    /// taken up or begun anew.
    lost: Option<(WorkerId, Attempt, bool)>,
}

impl Known {
    /// Only its own worker may go on with it.
    fn is_stuck(&self) -> bool {
        self.lost.is_some_and(|(.., delivered)| delivered) && !self.meta.restart
    }
}

/// What was asked for, as far as it says who may serve it.
type Demand = (String, Option<String>, Trust, Band, AccountId);

fn demand_of(meta: &IntentMeta) -> Demand {
    (meta.name.clone(), meta.model.clone(), meta.trust, meta.band, meta.account)
}

/// What a command that was taken did, before its effects are seen.
#[derive(Debug, Default)]
struct Deciding {
    /// It takes nothing of the account's budget: a second opinion, or its own slot.
    is_free: bool,
    /// An attempt that ended, and whether another one may follow.
    stopped: Option<(IntentId, Cause, bool)>,
    delivered: bool,
    restarted: BTreeSet<IntentId>,
    adopted: bool,
    ended: Option<Outcome>,
}

#[derive(Debug, Default)]
pub(crate) struct Floor {
    workers: BTreeMap<WorkerId, Stand>,
    /// Those with a free slot.
    free: BTreeSet<WorkerId>,
    intents: BTreeMap<IntentId, Known>,
    waiting: BTreeMap<Demand, BTreeSet<IntentId>>,
    until: BTreeSet<(u64, IntentId)>,
    /// Dispatches, and retries of failed attempts, lately.
    budgets: BTreeMap<Holder, (u64, u64)>,
    /// The last number given out.
    newest: u64,
    /// The node's.
    pub(crate) clock: u64,
    /// No timer judges before.
    settled: u64,
    deciding: Deciding,
    touched: (BTreeSet<WorkerId>, BTreeSet<IntentId>),
    /// The sysop or an answer changed how it stands.
    judged: Option<WorkerId>,
}

impl Floor {
    /// A node starts with these durable intents, which their workers may bring back.
    pub(crate) fn start<'a>(&mut self, open: impl Iterator<Item = &'a IntentMeta>, now: u64) {
        *self = Self::default();
        let until = now.saturating_add(limits::LEASE_MS);
        for meta in open {
            self.put(meta.clone(), Place::Adoptable(until));
        }
    }

    /// The realm stood still for so long: workers have as much longer to bring work back.
    pub(crate) fn paused(&mut self, now: u64, gap_ms: u64) {
        if gap_ms <= limits::PAUSE_MS {
            return;
        }
        let adoptable = self.intents.iter().filter_map(|(intent, known)| match known.place {
            Place::Adoptable(at) => Some((*intent, at)),
            Place::Waiting
            | Place::Held { .. }
            | Place::Asked(_)
            | Place::Until(_)
            | Place::Ending => None,
        });
        let longest = now.saturating_add(limits::LEASE_MS);
        for (intent, at) in adoptable.collect::<Vec<_>>() {
            let at = at.saturating_add(gap_ms).min(longest);
            self.go(intent, Place::Adoptable(at));
        }
        if now >= self.settled.saturating_add(limits::PAUSE_SETTLE_MS) {
            self.settled = now.saturating_add(limits::PAUSE_SETTLE_MS);
        }
    }

    fn put(&mut self, meta: IntentMeta, place: Place) {
        let intent = meta.id;
        let (failed_by, losses, dispatches) = (Vec::new(), 0, 0);
        let (of_restart, lost) = (matches!(place, Place::Adoptable(_)), None);
        let ending = Place::Ending;
        let known = Known { meta, place: ending, failed_by, losses, dispatches, of_restart, lost };
        self.intents.insert(intent, known);
        self.go(intent, place);
    }

    /// Changes where an intent is, and all that follows.
    fn go(&mut self, intent: IntentId, place: Place) {
        let Some(known) = self.intents.get_mut(&intent) else { return };
        let before = std::mem::replace(&mut known.place, place.clone());
        let demand = demand_of(&known.meta);
        match before {
            Place::Waiting => {
                if let Some(all) = self.waiting.get_mut(&demand) {
                    all.remove(&intent);
                    if all.is_empty() {
                        self.waiting.remove(&demand);
                    }
                }
            }
            Place::Until(at) | Place::Adoptable(at) => {
                self.until.remove(&(at, intent));
            }
            Place::Held { worker, offer, own, .. } => self.give_back(worker, &offer, own),
            Place::Asked(_) | Place::Ending => {}
        }
        match place {
            Place::Waiting => {
                self.waiting.entry(demand).or_default().insert(intent);
                self.touched.1.insert(intent);
            }
            Place::Until(at) | Place::Adoptable(at) => {
                self.until.insert((at, intent));
            }
            Place::Held { .. } | Place::Asked(_) | Place::Ending => {}
        }
    }

    fn give_back(&mut self, worker: WorkerId, said: &SlotOffer, own: bool) {
        let Some(stand) = self.workers.get_mut(&worker) else { return };
        if let Some(offer) = stand.offers.iter_mut().find(|offer| offer.is(said)) {
            offer.busy = offer.busy.saturating_sub(1);
            offer.lent = offer.lent.saturating_sub(u32::from(!own));
        }
        stand.offers.retain(|offer| !offer.gone || offer.busy > 0);
        self.touch(worker);
    }

    fn touch(&mut self, worker: WorkerId) {
        let Some(stand) = self.workers.get(&worker) else { return };
        if stand.offers.iter().any(|offer| stand.has_room(offer)) {
            self.free.insert(worker);
            self.touched.0.insert(worker);
        } else {
            self.free.remove(&worker);
        }
    }

    pub(crate) fn stands_anew(&mut self, worker: WorkerId) {
        self.judged = Some(worker);
    }

    pub(crate) fn submitted(&mut self, meta: &IntentMeta) {
        if !self.intents.contains_key(&meta.id) {
            self.put(meta.clone(), Place::Waiting);
        }
    }

    pub(crate) fn attached(&mut self, slots: &Slots, owner: AccountId, stands: Stands<'_>) {
        let newest = self.newest;
        let stand = self.workers.entry(slots.worker).or_default();
        stand.owner = Some(owner);
        (stand.session, stand.draining) = (Some(slots.session), slots.draining);
        stand.offer(slots.worker, &slots.offers, newest, stands);
        self.touch(slots.worker);
    }

    pub(crate) fn detached(&mut self, worker: WorkerId, session: SessionId) {
        if let Some(stand) = self.workers.get_mut(&worker)
            && stand.session == Some(session)
        {
            stand.session = None;
            stand.withdraw();
            self.touch(worker);
        }
    }

    /// The edge's word on an attempt or an intent, taken.
    pub(crate) fn stopped(&mut self, request: &EndRequest, now: u64) {
        let Some(known) = self.intents.get_mut(&request.intent) else { return };
        let (attempt, cause, holder) = match &known.place {
            Place::Held { worker, attempt, .. } => (Some(*attempt), Cause::Failed, Some(*worker)),
            Place::Asked(attempt) => (Some(*attempt), Cause::Lost, None),
            Place::Waiting | Place::Until(_) | Place::Adoptable(_) | Place::Ending => {
                (None, Cause::Failed, None)
            }
        };
        let current = attempt.is_some() && request.attempt == attempt;
        let place = match request.why {
            Why::Completed(_) if current => Place::Ending,
            Why::Cancelled | Why::Expired | Why::PayloadGone => Place::Ending,
            Why::WorkerFailed { retry, .. } if current => {
                let own = |worker: &&WorkerId| {
                    self.workers.get(worker).is_some_and(|stand| stand.is_askers(&known.meta))
                };
                let first = !known.failed_by.iter().any(|worker| !own(&worker));
                known.failed_by.extend(holder);
                // A stranger that blames the intent may be asked to be believed by another.
                let stranger = matches!(&known.place, Place::Held { worker, offer, own: false, .. }
                if self.workers.get(worker).is_some_and(|stand| {
                    let mut offers = stand.offers.iter();
                    offers.any(|known| known.is(offer) && known.stands.class == Class::Probation)
                }));
                let doubted = !retry && first && stranger;
                let on_own = matches!(&known.place, Place::Held { own: true, .. });
                self.deciding.is_free = doubted || on_own;
                let again = (retry || doubted)
                    && known.dispatches < limits::DISPATCHES_MAX
                    && known.failed_by.len() < limits::ATTEMPTS_MAX
                    && (cause == Cause::Lost || !request.delivered || known.meta.restart);
                self.deciding.stopped = Some((request.intent, cause, again));
                self.deciding.delivered = request.delivered;
                if cause == Cause::Lost {
                    known.losses = known.losses.saturating_add(1);
                }
                if let Some((.., delivered)) = &mut known.lost {
                    *delivered = request.delivered;
                }
                let durable = known.meta.durable;
                let patience = if durable { limits::UNSERVED_MS } else { limits::LEASE_MS };
                match known.losses.checked_sub(2).filter(|_| cause == Cause::Lost) {
                    _ if known.is_stuck() => Place::Until(now.saturating_add(patience)),
                    Some(more) => {
                        let pause = 1_u64.checked_shl(more).unwrap_or(1);
                        let pause = limits::LOSS_PAUSE_MS.saturating_mul(pause);
                        Place::Until(now.saturating_add(pause))
                    }
                    None => Place::Waiting,
                }
            }
            Why::Completed(_) | Why::WorkerFailed { .. } => return,
        };
        self.go(request.intent, place);
    }

    /// An effect, in the order in which they were decided.
    pub(crate) fn effect(&mut self, effect: &Effect, stands: Stands<'_>) -> Result<(), String> {
        #[expect(clippy::wildcard_enum_match_arm, reason = "the others are not the router's")]
        match effect {
            Effect::Assign(grant) => return self.assigned(grant, stands),
            Effect::Adopt(grant) => return self.adopted(grant),
            Effect::Revoke { worker, intent, attempt, .. } => {
                let place = self.intents.get(intent).map(|known| &known.place);
                let held = matches!(place, Some(Place::Held { worker: holder, attempt: of, .. })
                    if holder == worker && of == attempt);
                if held {
                    if let Some(known) = self.intents.get_mut(intent) {
                        known.lost = Some((*worker, *attempt, false));
                    }
                    self.go(*intent, Place::Asked(*attempt));
                }
            }
            Effect::Restarted { intent, .. } => {
                self.deciding.restarted.insert(*intent);
            }
            Effect::Refused { intent, .. } | Effect::Joined { asked: intent, .. } => {
                self.go(*intent, Place::Ending);
                self.intents.remove(intent);
            }
            Effect::Ended { end, .. } => {
                if self.deciding.stopped.is_some_and(|(intent, ..)| intent == end.intent) {
                    self.deciding.ended = Some(end.outcome);
                }
                let place = self.intents.get(&end.intent).map(|known| &known.place);
                if matches!((place, end.outcome), (Some(Place::Held { .. }), Outcome::Expired)) {
                    // Its hold ran out: the router hears of it from the edge, and its slot is taken
                    // until then.
                    return Ok(());
                }
                self.go(end.intent, Place::Ending);
                self.intents.remove(&end.intent);
            }
            Effect::CloseSession { worker, session, .. } => self.detached(*worker, *session),
            _ => {}
        }
        Ok(())
    }

    /// Whether the intent waits for anybody to begin it, and its client knows of what was before.
    fn may_begin(&self, known: &Known, worker: WorkerId) -> Result<(), String> {
        let intent = known.meta.id;
        match known.place {
            Place::Held { worker: holder, .. } => {
                return Err(format!("{intent} is given to {worker} while {holder} has it"));
            }
            Place::Until(at) | Place::Adoptable(at) if at > self.clock => {
                return Err(format!("{intent} is given to {worker} before its pause ends at {at}"));
            }
            Place::Until(_)
            | Place::Adoptable(_)
            | Place::Waiting
            | Place::Asked(_)
            | Place::Ending => {}
        }
        if known.is_stuck() {
            return Err(format!("{intent} is given to {worker}, and may not begin anew"));
        }
        let told = self.deciding.restarted.contains(&intent);
        if known.lost.is_some_and(|(.., delivered)| delivered) && !told {
            return Err(format!("{intent} begins anew and nobody says so"));
        }
        Ok(())
    }

    fn assigned(&mut self, grant: &Assignment, stands: Stands<'_>) -> Result<(), String> {
        let (meta, worker) = (&*grant.meta, grant.worker);
        let intent = meta.id;
        let Some(known) = self.intents.get(&intent) else {
            return Err(format!("{intent} is given out and is not open"));
        };
        self.may_begin(known, worker)?;
        let Some(stand) = self.workers.get(&worker) else {
            return Err(format!("{intent} is given to {worker}, who is not there"));
        };
        // Whose standing changes in this very command is not known to both sides.
        let newer = stand.newer(worker, stands);
        let free = |stand: &Stand| {
            let chosen = stand.taken(meta, grant.price)?;
            stand.is_free(chosen, meta).then(|| chosen.clone())
        };
        let chosen = free(stand);
        let changed = stand.offers.iter().zip(&newer.offers).any(|(a, b)| a.stands != b.stands);
        let Some(chosen) = chosen.or_else(|| free(&newer)) else {
            let trust = meta.trust;
            return Err(format!(
                "{intent} ({trust:?}) is given to {worker}, which has no such slot"
            ));
        };
        if !changed {
            let order = stand.order(&chosen, meta);
            let mut others = self
                .workers
                .iter()
                .filter(|(other, _)| **other != worker && !known.failed_by.contains(other));
            let unchanged = |id: WorkerId, stand: &Stand| {
                let now = |offer: &Offer| stands(id, &offer.said) == offer.stands;
                stand.offers.iter().all(now)
            };
            if order.0
                && let Some((other, _)) =
                    others.find(|(id, stand)| stand.is_member(meta) && unchanged(**id, stand))
            {
                return Err(format!(
                    "{intent} is given to {worker}, which is ejected, before {other}"
                ));
            }
            let others = self.free.iter().filter(|other| !known.failed_by.contains(other));
            for other in others {
                let Some(better) = self.better(*other, meta, order, stands) else { continue };
                return Err(format!(
                    "{intent} is given to {worker} ({order:?}) while {other} is free ({better:?})"
                ));
            }
        }
        let offer = chosen.said.clone();
        self.take(grant, offer);
        if let Some(known) = self.intents.get_mut(&intent) {
            known.of_restart = false;
        }
        Ok(())
    }

    /// Whether that worker has a free slot for it that comes before this one.
    fn better(
        &self,
        worker: WorkerId,
        meta: &IntentMeta,
        than: Order,
        stands: Stands<'_>,
    ) -> Option<Order> {
        let stand = self.workers.get(&worker)?;
        let offers = stand.offers.iter();
        let offers = offers.filter(|offer| stand.may(offer, meta) && stand.is_free(offer, meta));
        let first = offers.map(|offer| stand.order(offer, meta)).min()?;
        let unchanged =
            stand.offers.iter().all(|offer| stands(worker, &offer.said) == offer.stands);
        (first < than && unchanged).then_some(first)
    }

    /// A worker goes on with what it holds: its lease runs on, it was lost with the last attempt, or
    /// the realm has restarted.
    fn adopted(&mut self, grant: &Assignment) -> Result<(), String> {
        let (intent, worker, attempt) = (grant.meta.id, grant.worker, grant.attempt);
        let Some(known) = self.intents.get(&intent) else { return Ok(()) };
        let runs = matches!(known.place, Place::Held { worker: holder, attempt: of, .. }
            if (holder, of) == (worker, attempt));
        let lost = known.lost.is_some_and(|(by, of, _)| (by, of) == (worker, attempt));
        if !(runs || lost || known.of_restart) {
            return Err(format!("{intent} is taken up by {worker}, who did not have it last"));
        }
        self.deciding.adopted |=
            self.deciding.stopped.is_some_and(|(stopped, ..)| stopped == intent);
        // The same attempt goes on on the slot that it has.
        let held = match &known.place {
            Place::Held { worker: holder, offer, .. } if *holder == worker => Some(offer.clone()),
            Place::Held { .. }
            | Place::Waiting
            | Place::Asked(_)
            | Place::Until(_)
            | Place::Adoptable(_)
            | Place::Ending => None,
        };
        let offer = held.or_else(|| {
            let found = self.workers.get(&worker)?.taken(&grant.meta, grant.price);
            found.map(|offer| offer.said.clone())
        });
        if let Some(offer) = offer {
            self.take(grant, offer);
        }
        Ok(())
    }

    fn take(&mut self, grant: &Assignment, offer: SlotOffer) {
        let (intent, worker, attempt) = (grant.meta.id, grant.worker, grant.attempt);
        let own = self.workers.get(&worker).is_some_and(|stand| stand.is_askers(&grant.meta));
        let same = self.intents.get_mut(&intent).is_some_and(|known| {
            let lost = known.lost.take().is_some_and(|(_, of, _)| of == attempt);
            lost || matches!(&known.place, Place::Held { worker: holder, .. } if *holder == worker)
        });
        self.newest = self.newest.max(grant.fence.0);
        if let Some(stand) = self.workers.get_mut(&worker)
            && let Some(place) = stand.offers.iter_mut().find(|known| known.is(&offer))
        {
            // Before the slot it had is given back, so that an offer that is gone stays.
            (place.busy, place.last) = (place.busy.saturating_add(1), grant.fence.0);
            place.lent = place.lent.saturating_add(u32::from(!own));
        }
        self.go(intent, Place::Held { worker, attempt, offer, own });
        self.touch(worker);
        if let Some(known) = self.intents.get_mut(&intent).filter(|_| !same) {
            known.dispatches = known.dispatches.saturating_add(1);
            if own {
                return;
            }
            for holder in holders(&grant.meta) {
                let (dispatches, retries) = self.budgets.entry(holder).or_default();
                *dispatches = dispatches.saturating_add(1);
                if *dispatches >= limits::RETRY_DISPATCHES {
                    (*dispatches, *retries) = (*dispatches / 2, *retries / 2);
                }
            }
        }
    }

    /// A command and all its effects were seen.
    pub(crate) fn decided(&mut self, stands: Stands<'_>) -> Result<(), String> {
        let Deciding { is_free, stopped, delivered, restarted, adopted, ended } =
            std::mem::take(&mut self.deciding);
        let judged = self.judged.take();
        for worker in self.touched.0.iter().copied().chain(judged).collect::<Vec<WorkerId>>() {
            if let Some(stand) = self.workers.get_mut(&worker) {
                *stand = stand.newer(worker, stands);
            }
        }
        if let Some(judged) = judged {
            self.touch(judged);
        }
        let Some((intent, cause, again)) = stopped else { return Ok(()) };
        let Some(known) = self.intents.get(&intent) else {
            // What could go on must, unless its account has had its share of retries.
            let failed = matches!(ended, Some(Outcome::Failed(_)));
            if failed && again && cause == Cause::Lost {
                return Err(format!("{intent} was lost, and fails though it may go on"));
            }
            return Ok(());
        };
        if adopted {
            return Ok(());
        }
        if !again {
            return Err(format!("{intent} goes on after an attempt that was its last ({cause:?})"));
        }
        if cause == Cause::Failed && delivered && !restarted.contains(&intent) {
            return Err(format!("{intent} begins anew and nobody says so"));
        }
        if cause == Cause::Failed && !is_free {
            for holder in holders(&known.meta) {
                let free = match holder {
                    (_, None) => limits::RETRIES_FREE_PER_BRANCH,
                    (_, Some(_)) => limits::RETRIES_FREE,
                };
                let (dispatches, retries) = self.budgets.entry(holder).or_default();
                let share = dispatches.saturating_mul(limits::RETRY_PER_CENT_MAX) / 100;
                if *retries >= share.max(free) {
                    let had = format!("{retries} retries in {dispatches} dispatches");
                    return Err(format!("{holder:?} has {had}"));
                }
                *retries = retries.saturating_add(1);
            }
        }
        Ok(())
    }

    /// Nothing waits that a free slot may serve. Called when all that is due by now has happened.
    pub(crate) fn conserved(&mut self, now: u64, stands: Stands<'_>) -> Result<(), String> {
        // After a pause of the realm its timers judge later.
        let settled = now >= self.settled;
        let due = |(at, _): &(u64, IntentId)| *at <= now && settled;
        while let Some((at, intent)) = self.until.first().copied().filter(due) {
            self.until.remove(&(at, intent));
            self.go(intent, Place::Waiting);
        }
        let (workers, intents) = std::mem::take(&mut self.touched);
        for intent in intents {
            let Some(known) = self.intents.get(&intent) else { continue };
            if !matches!(known.place, Place::Waiting) {
                continue;
            }
            let idle = self.free.iter().find(|worker| self.may_serve(**worker, known, stands));
            if let Some(worker) = idle {
                return Err(format!("{intent} waits while {worker} is free"));
            }
        }
        for worker in workers {
            let waiting = self.waiting.values().filter(|intents| {
                let mut known = intents.iter().filter_map(|intent| self.intents.get(intent));
                known.any(|known| {
                    self.free.contains(&worker) && self.may_serve(worker, known, stands)
                })
            });
            if let Some(intent) = waiting.flatten().next() {
                return Err(format!("{worker} is free while the like of {intent} waits"));
            }
        }
        Ok(())
    }

    fn may_serve(&self, worker: WorkerId, known: &Known, stands: Stands<'_>) -> bool {
        let Some(stand) = self.workers.get(&worker) else { return false };
        let (stand, meta) = (stand.newer(worker, stands), &known.meta);
        let mut serves = stand
            .offers
            .iter()
            .filter(|offer| stand.may(offer, meta) && stand.is_free(offer, meta));
        let Some(first) = serves.clone().find(|offer| !offer.stands.ejected).or(serves.next())
        else {
            return false;
        };
        let askers = stand.is_askers(meta);
        let mut others = self.workers.iter().filter(|(other, _)| **other != worker);
        let last = first.stands.ejected && !askers;
        let spared = last && others.any(|(id, stand)| stand.newer(*id, stands).is_member(meta));
        !known.failed_by.contains(&worker) && !spared
    }
}
