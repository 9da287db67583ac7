//! SafeQueue: a fair queue over flow paths branch → account → class → FIFO, for many pools whose
//! workers share slots.
//!
//! # Purpose
//! Decide which queued item a freed slot takes, so that siblings at every level of the tree get
//! service in proportion to their weights, measured in what their work really cost. The algorithm is
//! hierarchical start-time fair queueing: Goyal, Vin and Cheng, "Start-time Fair Queuing: A Scheduling
//! Algorithm for Integrated Services Packet Switching Networks", SIGCOMM 1996, the hierarchy being its
//! section 5. Charging an estimate and serving many at once follows SFQ(D): Jin, Chase and Kaur,
//! "Interposed Proportional Sharing for a Storage Service Utility", SIGMETRICS 2004.
//!
//! # How
//! A node of weight w has a start tag S, a parent has a virtual time V: the largest S dispatched. An
//! enqueue lifts an idle child to V or a little later (`Tree::become_ready`), so idling earns no credit
//! and a stream of newcomers starves nobody. A dispatch walks down the smallest
//! (S, age), adds `estimate · 2³² / w` at each level, and `correct`/`finish` replace that estimate by
//! the cost so far. An item's contribution is never negative.
//!
//! **Flow first, pool last.** A slot that serves several pools walks the tree over all of them at
//! once, and only inside the chosen leaf do pools take turns (start-time order, weight per pool).
//! Choosing the pool first would give each pool its share: an account in five pools would then get
//! four fifths against an account in one of them. Spreading must gain nothing, so flows come first.
//!
//! **One flow, many pools.** Kinds that are linked, directly or through others, form a *domain* with all
//! their pools.
//! Every charge goes to all seats (places in pools) that the node has in the domain, so service
//! anywhere counts everywhere. S and V are kept per pool on one common line, because the pools of a
//! domain can be served at different speeds. One S for all would either let a flow that waits in a
//! slow pool save credit for a fast one, or, lifted on entry, cost it its turn in the slow one. V of
//! every pool a slot serves is raised at its dispatch, so pools served by the same slots
//! keep the same V, and a flow has the same S in all of them. Where slots differ, the *horizon*
//! bounds memory: a charge from elsewhere puts a flow at most a horizon ahead of a pool's V, and
//! pools that meet in a slot are moved to within a horizon of each other (`walk::align`).
//!
//! # Promises (each is a test)
//! * For siblings f, g that both hold an item that every slot given out in an interval may take, with D
//!   slots out at most and l the largest of estimate and actual of one item,
//!   `|W_f/w_f − W_g/w_g| ≤ (D+1)(l_f/w_f + l_g/w_g)`, if since both became busy every slot of the
//!   domain served both of them; else up to four horizons more.
//! * A stream of flows never seen before starves nobody, and leaves no debtors behind for ever.
//! * A slot is given out whenever an item waits in one of its pools.
//! * Refused calls change nothing; the same calls give the same answers.
//! * Debt outlives idleness: an idle flow is forgotten only when V has passed its S in that pool, or
//!   when nothing of its parent is queued or in flight in the whole domain (SFQ's end of a busy period:
//!   there is then nobody to owe). Memory is therefore bounded by what is open and what is owed, and
//!   hard by `QueueLimits::flows`. What has been forgiven is cleared away `QueueLimits::sweep` at a
//!   time, so that no call pays for all.
//! * An item given out of its turn (`charge`) is charged to its flow and moves nobody's clock.
//! * Merging and splitting domains carries each lag S − V over exactly (`domain.rs`).
//!
//! # Deliberately absent
//! Clock, deadlines, leases, prices, identities, workers' health; reordering for locality within a
//! quantum; counters exchanged between routers. A flow that a fast pool serves beyond its share may
//! wait long for a slow contended pool of the domain while it keeps using the fast one: that is what
//! sharing counters means; deadlines end such waits.

mod charge;
mod check;
mod domain;
mod items;
mod slab;
mod tree;
mod virtual_time;
mod wait;
mod walk;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use charge::{Charges, Origin};
use domain::Domains;
use items::{End, Items};
use tree::Tree;
use virtual_time::{Virtual, scaled};
pub use wait::{Ahead, Part};
use walk::walk;

/// Opaque key of a branch, or of an account inside its branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlowKey(pub [u8; 16]);

/// The two classes of an account; their weights are [`Class::weight`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    Interactive,
    Batch,
}

impl Class {
    /// Interactive work gets four fifths of its account's service while both classes wait.
    #[must_use]
    pub const fn weight(self) -> u32 {
        match self {
            Self::Interactive => 4,
            Self::Batch => 1,
        }
    }
}

/// Whose work an item is: the path from the root of the tree to a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlowPath {
    pub branch: FlowKey,
    pub account: FlowKey,
    pub class: Class,
}

impl FlowPath {
    /// Of somebody who has nothing queued: of no network and account that there is.
    pub const UNKNOWN: Self = Self {
        branch: FlowKey([u8::MAX; 16]),
        account: FlowKey([u8::MAX; 16]),
        class: Class::Interactive,
    };
}

/// A kind of work, as the router numbers it. Its pools share a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KindId(pub u64);

/// A pool: what is queued of one kind under one demand, as the router numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PoolId {
    kind: KindId,
    demand: u8,
}

impl PoolId {
    #[must_use]
    pub const fn new(kind: KindId, demand: u8) -> Self {
        Self { kind, demand }
    }

    #[must_use]
    pub const fn kind(self) -> KindId {
        self.kind
    }

    #[must_use]
    pub const fn demand(self) -> u8 {
        self.demand
    }
}

/// A queued item (an intent), as the router names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ItemId(pub [u8; 16]);

/// A worker, as the router numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WorkerKey(pub u64);

/// One piece of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item {
    pub id: ItemId,
    pub pool: PoolId,
    pub flow: FlowPath,
    /// Counts against the byte bounds.
    pub bytes: u64,
    /// Slot-milliseconds; charged at dispatch, 0 as 1, above 2⁴⁸ as 2⁴⁸.
    pub cost_estimate: u64,
}

/// Bounds. A bound is reached, not passed: `leaf_items: 3` holds three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLimits {
    /// Items of one leaf (branch, account, class) over all pools.
    pub leaf_items: u32,
    /// Bytes of one leaf over all pools.
    pub leaf_bytes: u64,
    /// Items of one pool.
    pub pool_items: u32,
    /// Bytes of one pool.
    pub pool_bytes: u64,
    /// Seats: branches, accounts and classes, each counted once for every pool it is known in.
    pub flows: u32,
    /// How much pools served by different slots remember of each other, in slot-milliseconds of a
    /// flow of weight 1. Large against one item's cost; ten minutes are a good start.
    pub horizon: u64,
    /// Flows that were idle for long enough are forgotten, at most so many in one call.
    pub sweep: u32,
}

/// Why nothing was queued; nothing changed. Checked in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Full {
    /// An item of this id is queued already: the caller's mistake, not a bound.
    Duplicate,
    PoolItems,
    PoolBytes,
    LeafItems,
    LeafBytes,
    Flows,
}

/// What a weight belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weighted {
    Branch(FlowKey),
    Account {
        branch: FlowKey,
        account: FlowKey,
    },
    /// Orders the items of one leaf that wait in several pools; takes nothing from other flows.
    Pool(PoolId),
}

/// Handle of one dispatch until it is finished. A stale one is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charge {
    slot: usize,
    generation: u64,
}

/// See [`SafeQueue::turn`].
#[derive(Clone, Debug)]
pub struct TurnOf(BTreeMap<KindId, Virtual>);

/// What a freed slot takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dispatched {
    pub item: Item,
    pub charge: Charge,
}

/// What waits in one pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    pub items: u64,
    pub bytes: u64,
    /// Sum of the estimates, slot-milliseconds.
    pub cost: u64,
}

impl Backlog {
    fn add(&mut self, item: &Item) {
        self.items = self.items.saturating_add(1);
        self.bytes = self.bytes.saturating_add(item.bytes);
        self.cost = self.cost.saturating_add(counted_cost(item));
    }

    fn take(&mut self, item: &Item) {
        self.items = self.items.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(item.bytes);
        self.cost = self.cost.saturating_sub(counted_cost(item));
    }
}

/// An estimate of nothing would let a flow pass without its tag moving.
fn counted_cost(item: &Item) -> u64 {
    item.cost_estimate.clamp(1, virtual_time::MAX_COST)
}

/// The queue. See the module's documentation.
#[derive(Clone, Debug)]
pub struct SafeQueue {
    limits: QueueLimits,
    tree: Tree,
    items: Items,
    charges: Charges,
    domains: Domains,
    /// Pools that hold items.
    pools: BTreeMap<PoolId, Backlog>,
    /// Weights other than 1, whether or not their node exists at the moment.
    weights: BTreeMap<Weighted, u32>,
    /// How far items admitted before have pushed the number of seats beyond its bound at most.
    over_flows: usize,
}

impl SafeQueue {
    #[must_use]
    pub fn new(limits: QueueLimits) -> Self {
        Self {
            limits,
            tree: Tree::new(scaled(limits.horizon, 1)),
            items: Items::new(),
            charges: Charges::new(),
            domains: Domains::default(),
            pools: BTreeMap::new(),
            weights: BTreeMap::new(),
            over_flows: 0,
        }
    }

    /// Queues an item at the tail of its leaf in its pool.
    ///
    /// # Errors
    /// The first of [`Full`] that applies; nothing has changed then.
    pub fn enqueue(&mut self, item: Item) -> Result<(), Full> {
        self.allow_forgetting();
        self.admit(&item)?;
        self.insert(item, End::Tail);
        Ok(())
    }

    /// Queues a retry at the head of its leaf in its pool; its next dispatch is charged anew. `finish`
    /// the failed attempt first. It was admitted once, so bounds don't refuse it: what is beyond them
    /// is no more than what was outstanding.
    ///
    /// # Errors
    /// [`Full::Duplicate`] only.
    pub fn requeue(&mut self, item: Item) -> Result<(), Full> {
        self.insert_admitted(item, End::Head)
    }

    /// Queues at the tail an item that was admitted before a restart; bounds don't refuse it either.
    ///
    /// # Errors
    /// [`Full::Duplicate`] only.
    pub fn restore(&mut self, item: Item) -> Result<(), Full> {
        self.insert_admitted(item, End::Tail)
    }

    fn insert_admitted(&mut self, item: Item, end: End) -> Result<(), Full> {
        if self.contains(item.id) {
            return Err(Full::Duplicate);
        }
        self.allow_forgetting();
        self.insert(item, end);
        let limit = usize::try_from(self.limits.flows).unwrap_or(usize::MAX);
        self.over_flows = self.over_flows.max(self.tree.size().saturating_sub(limit));
        Ok(())
    }

    /// Takes a queued item out; nothing is charged. False: it is not queued.
    pub fn remove(&mut self, id: ItemId) -> bool {
        self.allow_forgetting();
        let Some(at) = self.items.index.get(&id).copied() else { return false };
        let Some((item, leaf)) = self.take(at) else { return false };
        let path: Vec<_> = self.tree.above(leaf).map(|(_, s)| (s.node, s.domain)).collect();
        for (node, _) in &path {
            if let Some(seat) = self.tree.seat_of(*node, item.pool) {
                self.tree.settle(seat);
            }
        }
        self.end_busy_periods(&path);
        true
    }

    /// A freed slot that serves `pools` takes the item whose turn it is. Pools of different
    /// domains are tried one domain after the other, beginning with another one each time. `None`: nothing waits there, and
    /// nothing is charged.
    pub fn dispatch(&mut self, pools: &[PoolId]) -> Option<Dispatched> {
        let mut own = pools.to_vec();
        own.sort_unstable_by_key(|pool| (self.domains.of(pool.kind()), *pool));
        own.dedup();
        // Tags of different domains don't compare. A linking worker's are in one.
        let same = |a: &PoolId, b: &PoolId| self.domains.of(a.kind()) == self.domains.of(b.kind());
        let groups: Vec<&[PoolId]> = own.chunk_by(same).collect();
        let count = u64::try_from(groups.len()).unwrap_or(u64::MAX);
        let first = self
            .charges
            .begun()
            .checked_rem(count)
            .and_then(|at| usize::try_from(at).ok())
            .unwrap_or(0);
        let (before, after) = groups.split_at_checked(first).unwrap_or_default();
        let in_turn = after.iter().chain(before);
        in_turn.copied().find_map(|pools| self.dispatch_in_domain(pools))
    }

    fn dispatch_in_domain(&mut self, pools: &[PoolId]) -> Option<Dispatched> {
        self.allow_forgetting();
        let (at, steps) = walk(&mut self.tree, pools)?;
        let leaf = self.items.slab.get(at)?.leaf;
        let item = self.items.slab.get(at)?.item;
        self.start_turn(leaf);
        let charge = self.begin(leaf, &item, pools);
        self.take(at);
        for step in steps.iter().rev() {
            for parent in &step.parents {
                self.tree.serve(*parent, counted_cost(&item), step.start);
                self.tree.creep(*parent, counted_cost(&item), step.waiting, step.known);
            }
        }
        Some(Dispatched { item, charge })
    }

    /// How far the branch is whose turn it is in a slot of these pools, in each of their domains.
    #[must_use]
    pub fn turn(&self, pools: &[PoolId]) -> TurnOf {
        let mut first: BTreeMap<KindId, Virtual> = BTreeMap::new();
        for pool in pools {
            self.tree.step();
            let root = self.tree.seat_of(tree::ROOT, *pool).and_then(|at| self.tree.seats.get(at));
            let Some((start, ..)) = root.and_then(|root| root.ready.first()) else { continue };
            let start = root.map_or(0, |root| root.base).saturating_add(*start);
            let of = first.entry(self.domains.of(pool.kind())).or_insert(start);
            *of = start.min(*of);
        }
        TurnOf(first)
    }

    /// Whether a branch may have an item out of its turn: by what it had it is no further than one such
    /// item ahead of the branch whose turn it is. Where nobody waits, it is.
    #[must_use]
    pub fn may_go_first(&self, item: &Item, turn: &TurnOf) -> bool {
        let Some(first) = turn.0.get(&self.domains.of(item.pool.kind())) else { return true };
        let Some(branch) = self.tree.index.get(&(tree::ROOT, item.flow.branch)) else {
            return true;
        };
        let Some(node) = self.tree.nodes.get(*branch) else { return true };
        let of_kind = node.seats.partition_point(|(pool, _)| pool.kind() < item.pool.kind());
        let seats = node.seats.iter().skip(of_kind);
        let seats = seats.take_while(|(pool, _)| pool.kind() == item.pool.kind());
        let stands = seats.filter_map(|(_, seat)| {
            self.tree.step();
            let seat = self.tree.seats.get(*seat)?;
            Some(self.tree.seats.get(seat.up)?.base.saturating_add(seat.start))
        });
        let ahead = scaled(counted_cost(item), node.weight);
        stands.max().is_none_or(|stands| stands <= first.saturating_add(ahead))
    }

    /// Charges an item that is given to a slot of `pools` out of its turn and was not queued: its flow
    /// pays for it as for any other, and nobody's clock moves.
    pub fn charge(&mut self, item: Item, pools: &[PoolId]) -> Result<Charge, Full> {
        // Beneath its flow's seats for a moment, so that they stand while they are charged.
        self.requeue(item)?;
        let Some(at) = self.items.index.get(&item.id).copied() else { return Err(Full::Duplicate) };
        let leaf = self.items.slab.get(at).map_or(slab::NIL, |entry| entry.leaf);
        let mut served = pools.to_vec();
        served.sort_unstable();
        let charge = self.begin(leaf, &item, &served);
        self.take(at);
        Ok(charge)
    }

    fn begin(&mut self, leaf: usize, item: &Item, pools: &[PoolId]) -> Charge {
        let from = Origin {
            leaf,
            domain: self.domains.of(item.pool.kind()),
            pool_weight: self.weight(Weighted::Pool(item.pool)),
            pools,
        };
        let mut path: Vec<usize> = self.tree.above(leaf).map(|(_, seat)| seat.node).collect();
        // The root is not charged.
        path.pop();
        path.reverse();
        self.charges.begin(&mut self.tree, path.into_iter(), from, counted_cost(item))
    }

    /// The items queued in a pool, flow by flow.
    pub fn items_of(&self, pool: PoolId) -> impl Iterator<Item = ItemId> {
        let mut seats: Vec<usize> = self.tree.seat_of(tree::ROOT, pool).into_iter().collect();
        let mut at = slab::NIL;
        std::iter::from_fn(move || {
            while self.items.slab.get(at).is_none() {
                let seat = self.tree.seats.get(seats.pop()?)?;
                seats.extend(seat.ready.iter().map(|(_, _, child)| *child));
                at = seat.head;
            }
            let entry = self.items.slab.get(at)?;
            at = entry.next;
            Some(entry.item.id)
        })
    }

    /// The pools of a kind that hold items.
    pub fn backlog_of(&self, kind: KindId) -> impl Iterator<Item = (PoolId, Backlog)> {
        let pools = self.pools.range(PoolId::new(kind, 0)..=PoolId::new(kind, u8::MAX));
        pools.map(|(pool, backlog)| (*pool, *backlog))
    }

    /// How often a seat, a flow or a queued item was looked at so far.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.tree.steps.get()
    }

    /// Replaces what an outstanding dispatch is charged by its cost so far, slot-milliseconds, up or
    /// down. False: a stale handle.
    pub fn correct(&mut self, charge: Charge, actual: u64) -> bool {
        self.charges.correct(&mut self.tree, charge, actual)
    }

    /// The last correction of a dispatch, however it ended; the handle is stale afterwards. False: it
    /// was stale before.
    pub fn finish(&mut self, charge: Charge, actual: u64) -> bool {
        self.allow_forgetting();
        if !self.charges.correct(&mut self.tree, charge, actual) {
            return false;
        }
        let Some(open) = self.charges.end(charge) else { return false };
        let mut path = Vec::new();
        for seat in open.seats() {
            self.tree.release(seat);
            path.extend(self.tree.seats.get(seat).map(|s| (s.node, s.domain)));
        }
        path.dedup();
        for seat in open.seats() {
            self.tree.settle(seat);
        }
        self.end_busy_periods(&path);
        true
    }

    /// Weight ≥ 1 (0 reads as 1) of a branch, an account or a pool; 1 unless set. Later charges only.
    pub fn set_weight(&mut self, whose: Weighted, weight: u32) {
        let weight = weight.max(1);
        if weight == 1 {
            self.weights.remove(&whose);
        } else {
            self.weights.insert(whose, weight);
        }
        match whose {
            Weighted::Branch(branch) => self.tree.reweigh(&[branch], weight),
            Weighted::Account { branch, account } => self.tree.reweigh(&[branch, account], weight),
            Weighted::Pool(_) => {}
        }
    }

    /// States the kinds that a worker's slots link into one domain, replacing what was stated before.
    /// Costs a look at all flows if domains become one by it.
    pub fn link(&mut self, worker: WorkerKey, kinds: &[KindId]) {
        self.allow_forgetting();
        self.domains.link(&mut self.tree, worker, kinds);
    }

    /// The worker links nothing any more. Its outstanding dispatches stay open until finished.
    pub fn unlink(&mut self, worker: WorkerKey) {
        self.domains.unlink(worker);
    }

    /// Splits the domains whose kinds nothing links any more. Costs a look at all links and flows if
    /// there is one, else nothing. Says how many looks that was.
    pub fn split(&mut self) -> u64 {
        let before = self.steps();
        self.allow_forgetting();
        self.domains.split(&mut self.tree);
        self.steps().saturating_sub(before)
    }

    /// For tests: the name of a kind's domain.
    #[cfg(test)]
    pub(super) fn domain(&self, kind: KindId) -> KindId {
        self.domains.of(kind)
    }

    /// Items queued in all pools.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.index.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.index.is_empty()
    }

    /// Whether an item is queued (a dispatched one is not).
    #[must_use]
    pub fn contains(&self, id: ItemId) -> bool {
        self.items.index.contains_key(&id)
    }

    /// Items queued in a pool.
    #[must_use]
    pub fn depth(&self, pool: PoolId) -> u64 {
        self.pools.get(&pool).map_or(0, |b| b.items)
    }

    /// Bytes queued in a pool.
    #[must_use]
    pub fn bytes(&self, pool: PoolId) -> u64 {
        self.pools.get(&pool).map_or(0, |b| b.bytes)
    }

    /// Sum of the estimates queued in a pool, slot-milliseconds.
    #[must_use]
    pub fn waiting_cost(&self, pool: PoolId) -> u64 {
        self.pools.get(&pool).map_or(0, |b| b.cost)
    }

    /// About how many items of its pool are served before this one, in O(depth of the tree): at every
    /// level its siblings are taken to be backlogged throughout and to get turns by their weights. It
    /// ignores differing costs, debts and what shared slots do in other pools; it is at most
    /// `depth − 1`. `None`: not queued.
    #[must_use]
    pub fn position(&self, id: ItemId) -> Option<u64> {
        let entry = self.items.get(id)?;
        let mut seat = self.tree.seats.get(entry.leaf)?;
        let head = self.items.slab.get(seat.head)?;
        let in_leaf = entry.ticket.saturating_sub(head.ticket);
        let mut ahead = in_leaf.min(seat.queued.saturating_sub(1));
        while let Some(up) = self.tree.seats.get(seat.up) {
            let turns = u128::from(ahead.saturating_add(1));
            let all = turns.saturating_mul(u128::from(up.ready_weight));
            let all = all.checked_div(u128::from(seat.counted.max(1))).unwrap_or(all);
            let most = up.queued.saturating_sub(1);
            self.tree.step();
            ahead = u64::try_from(all.saturating_sub(1)).unwrap_or(most).min(most);
            seat = up;
        }
        Some(ahead)
    }

    /// About how much work, in slot-milliseconds, the slots of a pool do before a new item of this flow
    /// and cost there, beside these pools of its domain, if others come at such a load meanwhile: see
    /// `wait.rs`. Costs as many looks as the tree has levels, a pool.
    #[must_use]
    pub fn ahead(
        &self,
        flow: &FlowPath,
        own: PoolId,
        pools: &[Part],
        cost: u64,
        load_per_mille: u64,
    ) -> Ahead {
        wait::ahead(&self.tree, flow, (own, pools), cost, load_per_mille)
    }

    /// Dispatches that are not finished.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.charges.len()
    }

    /// Seats in use, of `QueueLimits::flows`.
    #[must_use]
    pub fn flows(&self) -> usize {
        self.tree.size()
    }

    /// The pools that hold items, in order of their ids.
    pub fn backlog(&self) -> impl Iterator<Item = (PoolId, Backlog)> + '_ {
        self.pools.iter().map(|(pool, backlog)| (*pool, *backlog))
    }

    /// Recounts everything, in O(n log n): for the simulator and the tests.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check_invariants(&self) -> Result<(), String> {
        self.check_all()
    }

    fn weight(&self, whose: Weighted) -> u32 {
        self.weights.get(&whose).copied().unwrap_or(1)
    }

    fn admit(&self, item: &Item) -> Result<(), Full> {
        let limits = &self.limits;
        let held = self.pools.get(&item.pool).copied().unwrap_or_default();
        let leaf = self.tree.measure(&item.flow, item.pool);
        let seats = self.tree.size().saturating_add(leaf.2);
        let refusals = [
            (self.contains(item.id), Full::Duplicate),
            (held.items >= u64::from(limits.pool_items), Full::PoolItems),
            (held.bytes.saturating_add(item.bytes) > limits.pool_bytes, Full::PoolBytes),
            (leaf.0 >= limits.leaf_items, Full::LeafItems),
            (leaf.1.saturating_add(item.bytes) > limits.leaf_bytes, Full::LeafBytes),
            (seats > usize::try_from(limits.flows).unwrap_or(usize::MAX), Full::Flows),
        ];
        refusals.iter().find(|r| r.0).map_or(Ok(()), |r| Err(r.1))
    }

    fn insert(&mut self, item: Item, end: End) {
        let FlowPath { branch, account, class } = item.flow;
        let weights = [
            self.weight(Weighted::Branch(branch)),
            self.weight(Weighted::Account { branch, account }),
            class.weight(),
        ];
        let domain = self.domains.of(item.pool.kind());
        let leaf = self.tree.add(&item, domain, weights);
        self.items.link(&mut self.tree, leaf, item, end);
        self.pools.entry(item.pool).or_default().add(&item);
        if let Some(node) = self.leaf_node(leaf) {
            node.items = node.items.saturating_add(1);
            node.bytes = node.bytes.saturating_add(item.bytes);
        }
    }

    /// Takes an item out of its FIFO and all counts; its seats are not settled yet.
    fn take(&mut self, at: usize) -> Option<(Item, usize)> {
        let entry = self.items.unlink(&mut self.tree, at)?;
        let item = entry.item;
        if let Some(pool) = self.pools.get_mut(&item.pool) {
            pool.take(&item);
            if pool.items == 0 {
                self.pools.remove(&item.pool);
            }
        }
        if let Some(node) = self.leaf_node(entry.leaf) {
            node.items = node.items.saturating_sub(1);
            node.bytes = node.bytes.saturating_sub(item.bytes);
        }
        self.tree.uncount(entry.leaf, counted_cost(&item));
        Some((item, entry.leaf))
    }

    fn leaf_node(&mut self, leaf: usize) -> Option<&mut tree::Node> {
        let node = self.tree.seats.get(leaf)?.node;
        self.tree.nodes.get_mut(node)
    }

    /// The clock of the level over a leaf's pools is the turn in service.
    fn start_turn(&mut self, leaf: usize) {
        let turn = self.tree.seats.get(leaf).map_or(0, |s| s.turn);
        if let Some(node) = self.leaf_node(leaf) {
            node.turn_clock = node.turn_clock.max(turn);
        }
    }

    /// `path` from the leaf up, so that a parent sees what its children have become.
    fn end_busy_periods(&mut self, path: &[(usize, KindId)]) {
        for (node, domain) in path {
            self.tree.end_busy_period(*node, *domain);
        }
    }

    /// Before each call that moves a clock.
    fn allow_forgetting(&mut self) {
        self.tree.may_forget = self.limits.sweep;
        self.tree.sweep();
    }
}
