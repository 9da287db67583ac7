//! The tree of flows: nodes, and each node's seats in the pools.
//!
//! A *node* is a branch, an account or a class; a *seat* is that node's place in one pool's tree. The
//! start tag lives in the seat, not in the node: pools of one domain can be served at different
//! speeds, and a flow that joins a fast pool must start at that pool's clock (else waiting in a slow
//! pool would earn credit) without losing its turn in the slow one. What ties the seats of a node
//! together is that every charge goes to all of them (`charge.rs`).
//!
//! A seat exists only while it has items queued beneath it, an open charge, child seats, or a start
//! tag ahead of its parent's clock (debt). Idle seats in debt rest in an ordered set of the parent;
//! those that the clock has passed are forgotten some at a time, so that no call pays for all.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::slab::{NIL, Slab};
use super::virtual_time::{Virtual, scaled};
use super::{Class, FlowKey, FlowPath, Item, KindId, PoolId, counted_cost};

pub(super) const ROOT: usize = 0;
/// Depth of a class node; branches have 1, accounts 2.
pub(super) const LEAF_DEPTH: u8 = 3;

/// Order among siblings: start tag, then the older node. The seat comes along for the walk.
pub(super) type Rank = (Virtual, u64, usize);

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) parent: usize,
    pub(super) key: FlowKey,
    pub(super) depth: u8,
    /// Order of creation; breaks ties.
    pub(super) serial: u64,
    pub(super) weight: u32,
    /// This node's seats, in order of pools.
    pub(super) seats: Vec<(PoolId, usize)>,
    /// Of a class node: what it holds over all pools.
    pub(super) items: u32,
    pub(super) bytes: u64,
    /// Of a class node: clock of the start-time level over its pools.
    pub(super) turn_clock: Virtual,
}

#[derive(Clone, Debug)]
pub(super) struct Seat {
    pub(super) node: usize,
    pub(super) pool: PoolId,
    pub(super) domain: KindId,
    /// Seat of the parent node in the same pool; `NIL` for a root seat.
    pub(super) up: usize,
    /// S, relative to the parent seat's `base`.
    pub(super) start: Virtual,
    /// Raised when `start` is lifted: older charges are absorbed then and can't be refunded.
    pub(super) epoch: u64,
    /// Items queued beneath.
    pub(super) queued: u64,
    /// Sum of their estimates.
    pub(super) cost: u64,
    /// Open charges that touch this seat.
    pub(super) refs: u64,
    pub(super) kids: usize,
    pub(super) resting: bool,
    /// Some of its resting children are to be forgotten.
    pub(super) stale: bool,
    /// Entered at its parent's clock and has not been charged since.
    pub(super) newcomer: bool,
    /// Weight counted in the parent's `ready_weight` while this seat is ready.
    pub(super) counted: u32,
    /// Where this seat's children stand on the domain's time line: S + base is comparable between
    /// the pools of a domain.
    pub(super) base: Virtual,
    /// V for the children, relative to `base`.
    pub(super) clock: Virtual,
    /// Where newcomers enter at the latest, relative to `base`: V plus what has been served since a
    /// child that was no newcomer moved V, divided by the weight that was waiting.
    pub(super) late: Virtual,
    /// What was served here lately, and how far V moved by it: see [`Tree::pace`].
    pub(super) pace: Pace,
    /// Of a newcomer: its parent's service at its entry, and the weight that waited there.
    pub(super) entered: (u64, u64),
    pub(super) ready: BTreeSet<Rank>,
    pub(super) ready_weight: u64,
    /// Idle children whose start is ahead of `clock`.
    pub(super) rested: BTreeSet<Rank>,
    /// Of a leaf: first and last item, and the start tag of this pool inside the leaf.
    pub(super) head: usize,
    pub(super) tail: usize,
    pub(super) turn: Virtual,
}

impl Seat {
    fn new(node: usize, pool: PoolId, domain: KindId, up: usize) -> Self {
        Self {
            node,
            pool,
            domain,
            up,
            start: 0,
            epoch: 0,
            queued: 0,
            cost: 0,
            refs: 0,
            kids: 0,
            resting: false,
            stale: false,
            newcomer: false,
            counted: 0,
            base: 0,
            clock: 0,
            late: 0,
            pace: Pace::default(),
            entered: (0, 0),
            ready: BTreeSet::new(),
            ready_weight: 0,
            rested: BTreeSet::new(),
            head: NIL,
            tail: NIL,
            turn: 0,
        }
    }

    pub(super) fn clock_on_line(&self) -> Virtual {
        self.base.saturating_add(self.clock)
    }

    pub(super) fn idle(&self) -> bool {
        self.queued == 0 && self.refs == 0
    }
}

/// What was measured of the service beneath a node lately. Every quotient is of sums that fade.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    /// All service there ever was.
    pub(super) total: u64,
    /// Service, and the way of V by it.
    pub(super) served: u64,
    pub(super) moved: Virtual,
    turns: u32,
    /// Service between a newcomer's entry and its turn, and the weight that waited at its entry.
    pub(super) passed: u64,
    pub(super) waiting: u64,
    entries: u32,
}

impl Pace {
    /// What was before so many dispatches counts half.
    const TURNS: u32 = 128;
    const ENTRIES: u32 = 32;

    fn serve(&mut self, cost: u64, by: Virtual) {
        self.total = self.total.saturating_add(cost);
        self.served = self.served.saturating_add(cost);
        self.moved = self.moved.saturating_add(by);
        self.turns = self.turns.saturating_add(1);
        if self.turns >= Self::TURNS {
            let Self { served, moved, turns, .. } = *self;
            (self.served, self.moved, self.turns) = (served / 2, moved / 2, turns / 2);
        }
    }

    fn pass(&mut self, (total, waiting): (u64, u64)) {
        self.passed = self.passed.saturating_add(self.total.saturating_sub(total));
        self.waiting = self.waiting.saturating_add(waiting);
        self.entries = self.entries.saturating_add(1);
        if self.entries >= Self::ENTRIES {
            let Self { passed, waiting, entries, .. } = *self;
            (self.passed, self.waiting, self.entries) = (passed / 2, waiting / 2, entries / 2);
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Tree {
    pub(super) nodes: Slab<Node>,
    pub(super) seats: Slab<Seat>,
    pub(super) index: BTreeMap<(usize, FlowKey), usize>,
    serial: u64,
    pub(super) horizon: Virtual,
    /// How many idle seats the call that is going on may still forget.
    pub(super) may_forget: u32,
    /// Seats with resting children to be forgotten.
    stale: VecDeque<usize>,
    pub(super) steps: Cell<u64>,
}

pub(super) fn class_key(class: Class) -> FlowKey {
    let byte = match class {
        Class::Interactive => 0,
        Class::Batch => 1,
    };
    FlowKey([byte; 16])
}

pub(super) fn path_keys(flow: &FlowPath) -> [FlowKey; 3] {
    [flow.branch, flow.account, class_key(flow.class)]
}

impl Tree {
    pub(super) fn new(horizon: Virtual) -> Self {
        let mut nodes = Slab::new();
        nodes.insert(Node {
            parent: NIL,
            key: FlowKey([0; 16]),
            depth: 0,
            serial: 0,
            weight: 1,
            seats: Vec::new(),
            items: 0,
            bytes: 0,
            turn_clock: 0,
        });
        Self {
            nodes,
            seats: Slab::new(),
            index: BTreeMap::new(),
            serial: 0,
            horizon,
            may_forget: 0,
            stale: VecDeque::new(),
            steps: Cell::new(0),
        }
    }

    /// Counts that a seat, a flow or an item was looked at.
    pub(super) fn step(&self) {
        self.steps.set(self.steps.get().wrapping_add(1));
    }

    /// A seat and those above it, up to the root's.
    pub(super) fn above(&self, seat: usize) -> impl Iterator<Item = (usize, &Seat)> {
        let first = self.seats.get(seat).map(|s| (seat, s));
        std::iter::successors(first, |(_, s)| self.seats.get(s.up).map(|up| (s.up, up)))
    }

    pub(super) fn seat_of(&self, node: usize, pool: PoolId) -> Option<usize> {
        let seats = &self.nodes.get(node)?.seats;
        let at = seats.binary_search_by_key(&pool, |s| s.0).ok()?;
        seats.get(at).map(|s| s.1)
    }

    /// Items and bytes of a flow's leaf over all pools, and how many seats below the root one more
    /// item of it would add to this pool.
    pub(super) fn measure(&self, flow: &FlowPath, pool: PoolId) -> (u32, u64, usize) {
        let mut node = ROOT;
        let mut missing: usize = 3;
        for key in path_keys(flow) {
            let Some(child) = self.index.get(&(node, key)) else { return (0, 0, missing) };
            if self.seat_of(*child, pool).is_some() {
                missing = missing.saturating_sub(1);
            }
            node = *child;
        }
        self.nodes.get(node).map_or((0, 0, missing), |leaf| (leaf.items, leaf.bytes, missing))
    }

    /// Seats below the root.
    pub(super) fn size(&self) -> usize {
        let roots = self.nodes.get(ROOT).map_or(0, |n| n.seats.len());
        self.seats.len().saturating_sub(roots)
    }

    /// Counts one more item beneath every seat of its path, from the root down; makes nodes and
    /// seats that are missing and lifts those that were not backlogged. Returns the leaf's seat.
    pub(super) fn add(&mut self, item: &Item, domain: KindId, weights: [u32; 3]) -> usize {
        let (pool, cost) = (item.pool, counted_cost(item));
        let mut node = ROOT;
        let mut seat = self.seat_or_new(ROOT, pool, domain, NIL);
        self.count_one(seat, cost);
        for (key, weight) in path_keys(&item.flow).into_iter().zip(weights) {
            node = self.node_or_new(node, key, weight);
            seat = self.seat_or_new(node, pool, domain, seat);
            self.count_one(seat, cost);
        }
        seat
    }

    fn node_or_new(&mut self, parent: usize, key: FlowKey, weight: u32) -> usize {
        if let Some(node) = self.index.get(&(parent, key)) {
            return *node;
        }
        self.serial = self.serial.saturating_add(1);
        let depth = self.nodes.get(parent).map_or(0, |n| n.depth).saturating_add(1);
        let node = self.nodes.insert(Node {
            parent,
            key,
            depth,
            serial: self.serial,
            weight: weight.max(1),
            seats: Vec::new(),
            items: 0,
            bytes: 0,
            turn_clock: 0,
        });
        self.index.insert((parent, key), node);
        node
    }

    fn seat_or_new(&mut self, node: usize, pool: PoolId, domain: KindId, up: usize) -> usize {
        if let Some(seat) = self.seat_of(node, pool) {
            return seat;
        }
        let seat = self.seats.insert(Seat::new(node, pool, domain, up));
        if let Some(n) = self.nodes.get_mut(node) {
            let at = n.seats.partition_point(|s| s.0 < pool);
            n.seats.insert(at, (pool, seat));
        }
        if let Some(parent) = self.seats.get_mut(up) {
            parent.kids = parent.kids.saturating_add(1);
        }
        seat
    }

    fn count_one(&mut self, seat: usize, cost: u64) {
        self.step();
        let Some(s) = self.seats.get_mut(seat) else { return };
        // Counted first: a seat with something queued can't be removed by what follows.
        s.queued = s.queued.saturating_add(1);
        s.cost = s.cost.saturating_add(cost);
        if s.queued == 1 {
            self.unrest(seat);
            self.catch_up(seat);
            self.become_ready(seat, cost);
        }
    }

    /// A pool in which this node had nothing queued starts at the node's most advanced clock: what
    /// went on in the other pools of the domain meanwhile is no credit for who comes now.
    fn catch_up(&mut self, seat: usize) {
        let Some(s) = self.seats.get(seat) else { return };
        let Some(node) = self.nodes.get(s.node) else { return };
        if node.depth == LEAF_DEPTH {
            let turn_clock = node.turn_clock;
            if let Some(s) = self.seats.get_mut(seat) {
                s.turn = s.turn.max(turn_clock);
            }
            return;
        }
        let domain = s.domain;
        let (mut clock, mut late) = (0, 0);
        for (_, other) in &node.seats {
            self.step();
            if let Some(other) = self.seats.get(*other)
                && other.domain == domain
            {
                clock = other.clock_on_line().max(clock);
                late = other.base.saturating_add(other.late).max(late);
            }
        }
        self.raise_clock(seat, clock);
        if let Some(s) = self.seats.get_mut(seat) {
            s.late = s.late.max(late.saturating_sub(s.base));
        }
    }

    /// V := max(V, `to`), `to` on the domain's line; idle children it passes are to be forgotten.
    pub(super) fn raise_clock(&mut self, seat: usize, to: Virtual) {
        let Some(s) = self.seats.get_mut(seat) else { return };
        s.clock = s.clock.max(to.saturating_sub(s.base));
        s.late = s.late.max(s.clock);
        if !s.stale && s.rested.first().is_some_and(|first| first.0 <= s.clock) {
            s.stale = true;
            self.stale.push_back(seat);
        }
        self.sweep();
    }

    /// Forgets some of the idle seats that their parent's clock has passed. Until then they stand
    /// for nothing: who comes back enters as if it had been forgotten.
    pub(super) fn sweep(&mut self) {
        while self.may_forget > 0
            && let Some(seat) = self.stale.front().copied()
        {
            self.may_forget = self.may_forget.saturating_sub(1);
            self.step();
            let passed = self.seats.get_mut(seat).filter(|s| s.stale).and_then(|s| {
                let first = s.rested.first().copied().filter(|first| first.0 <= s.clock);
                first.inspect(|first| {
                    s.rested.remove(first);
                })
            });
            match passed {
                Some((_, _, kid)) => {
                    if let Some(kid) = self.seats.get_mut(kid) {
                        kid.resting = false;
                    }
                    self.settle(kid);
                }
                None => {
                    self.stale.pop_front();
                    if let Some(s) = self.seats.get_mut(seat) {
                        s.stale = false;
                    }
                }
            }
        }
    }

    /// A dispatch of `cost` moves V to `to`, on the domain's line.
    pub(super) fn serve(&mut self, seat: usize, cost: u64, to: Virtual) {
        let before = self.seats.get(seat).map_or(0, |s| s.clock);
        self.raise_clock(seat, to);
        if let Some(s) = self.seats.get_mut(seat) {
            s.pace.serve(cost, s.clock.saturating_sub(before));
        }
    }

    /// A newcomer's turn has come.
    fn measure_entry(&mut self, seat: usize) {
        let Some(s) = self.seats.get(seat) else { return };
        let (entered, up) = (s.entered, s.up);
        if s.newcomer
            && let Some(up) = self.seats.get_mut(up)
        {
            up.pace.pass(entered);
        }
    }

    /// Weight that waits in the pools of this kind beneath a node.
    fn weight_waiting(&self, node: usize, kind: KindId) -> u64 {
        let Some(node) = self.nodes.get(node) else { return 0 };
        let seats = node.seats.iter().filter(|(pool, _)| pool.kind() == kind);
        let seats = seats.filter_map(|(_, seat)| self.seats.get(*seat));
        seats.inspect(|_| self.step()).fold(0, |sum, s| sum.saturating_add(s.ready_weight))
    }

    /// `late` goes `back` to V if a child that is no newcomer was served there,
    /// and moves on by what one dispatch of `cost` means to each of the waiting.
    pub(super) fn creep(&mut self, seat: usize, cost: u64, waiting: u64, back: bool) {
        if let Some(s) = self.seats.get_mut(seat) {
            if back {
                s.late = s.clock;
            }
            let waiting = u32::try_from(waiting).unwrap_or(u32::MAX);
            s.late = s.late.saturating_add(scaled(cost, waiting));
        }
    }

    /// SFQ lifts to V. But V is a start tag, and stands still as long as every dispatch is of a
    /// newcomer: a stream of new flows would starve the old ones and leave a debtor each. So a
    /// newcomer enters at `late`, yet no further from V than its own cost, which is where it would
    /// stand had it just been served: no pair's bound changes.
    fn become_ready(&mut self, seat: usize, cost: u64) {
        let Some(s) = self.seats.get(seat) else { return };
        let Some(up) = self.seats.get(s.up) else { return };
        let weight = self.nodes.get(s.node).map_or(1, |n| n.weight);
        let (up_ix, clock) = (s.up, up.clock);
        let lift = up.late.min(clock.saturating_add(scaled(cost, weight)));
        let forgotten = s.refs == 0 && s.start <= clock;
        let start = if forgotten { self.entry(seat) } else { s.start }.max(lift);
        let waiting = self.weight_waiting(up.node, s.pool.kind()).saturating_add(weight.into());
        let entered = (up.pace.total, waiting);
        let Some(s) = self.seats.get_mut(seat) else { return };
        s.entered = entered;
        if start > s.start {
            // The lift swallows what earlier charges added, so those can't be refunded any more.
            s.epoch = s.epoch.saturating_add(1);
        }
        s.newcomer = forgotten || start > s.start;
        s.start = start;
        s.counted = weight;
        self.insert_ready(seat, up_ix);
        if let Some(up) = self.seats.get_mut(up_ix) {
            up.ready_weight = up.ready_weight.saturating_add(u64::from(weight));
        }
    }

    /// Start tag of a node that enters a pool without debt there: the pool's clock, or the debt it
    /// has in the other pools of the domain (else each pool would be a fresh start), yet no further
    /// ahead than the horizon on top of its least lag: having used a faster pool is not held
    /// against it for longer.
    fn entry(&self, seat: usize) -> Virtual {
        let Some(s) = self.seats.get(seat) else { return 0 };
        let Some(up) = self.seats.get(s.up) else { return 0 };
        let Some(node) = self.nodes.get(s.node) else { return up.clock };
        let mut most: Virtual = 0;
        let mut least_lag: Option<Virtual> = None;
        for (pool, other) in &node.seats {
            self.step();
            let Some(other) = self.seats.get(*other) else { continue };
            let Some(other_up) = self.seats.get(other.up) else { continue };
            if *pool == s.pool || other.domain != s.domain {
                continue;
            }
            if other.idle() && other.start <= other_up.clock {
                continue;
            }
            most = most.max(other_up.base.saturating_add(other.start));
            let lag = other.start.saturating_sub(other_up.clock);
            least_lag = Some(least_lag.map_or(lag, |l| l.min(lag)));
        }
        let cap = up.clock.saturating_add(self.horizon).saturating_add(least_lag.unwrap_or(0));
        up.clock.max(most.saturating_sub(up.base).min(cap))
    }

    fn rank(&self, seat: usize) -> Option<Rank> {
        let s = self.seats.get(seat)?;
        Some((s.start, self.nodes.get(s.node)?.serial, seat))
    }

    fn insert_ready(&mut self, seat: usize, up: usize) {
        if let Some(rank) = self.rank(seat)
            && let Some(up) = self.seats.get_mut(up)
        {
            up.ready.insert(rank);
        }
    }

    /// Moves the start tag, and the place among the ready siblings with it.
    pub(super) fn set_start(&mut self, seat: usize, start: Virtual) {
        self.step();
        let Some(old) = self.rank(seat) else { return };
        let Some(s) = self.seats.get_mut(seat) else { return };
        if s.start == start {
            return;
        }
        s.start = start;
        let (ready, up) = (s.queued > 0, s.up);
        if ready && let Some(up) = self.seats.get_mut(up) {
            up.ready.remove(&old);
            up.ready.insert((start, old.1, old.2));
        }
    }

    /// One item fewer beneath every seat from this leaf to the root. The caller settles them.
    pub(super) fn uncount(&mut self, leaf: usize, cost: u64) {
        let mut at = leaf;
        while let Some(rank) = self.rank(at)
            && let Some(s) = self.seats.get_mut(at)
        {
            self.steps.set(self.steps.get().wrapping_add(1));
            s.queued = s.queued.saturating_sub(1);
            s.cost = s.cost.saturating_sub(cost);
            let (gone, up_ix, counted) = (s.queued == 0, s.up, s.counted);
            if gone && let Some(up) = self.seats.get_mut(up_ix) {
                up.ready.remove(&rank);
                up.ready_weight = up.ready_weight.saturating_sub(u64::from(counted));
            }
            at = up_ix;
        }
    }

    pub(super) fn hold(&mut self, seat: usize) {
        self.unrest(seat);
        if let Some(s) = self.seats.get_mut(seat) {
            s.refs = s.refs.saturating_add(1);
        }
    }

    /// It has been charged: a newcomer no more.
    pub(super) fn grow_up(&mut self, seat: usize) {
        self.measure_entry(seat);
        if let Some(s) = self.seats.get_mut(seat) {
            s.newcomer = false;
        }
    }

    pub(super) fn release(&mut self, seat: usize) {
        if let Some(s) = self.seats.get_mut(seat) {
            s.refs = s.refs.saturating_sub(1);
        }
    }

    fn unrest(&mut self, seat: usize) {
        let Some(rank) = self.rank(seat) else { return };
        let Some(s) = self.seats.get_mut(seat) else { return };
        if s.resting {
            s.resting = false;
            let up = s.up;
            if let Some(up) = self.seats.get_mut(up) {
                up.rested.remove(&rank);
            }
        }
    }

    /// Puts an idle seat to rest while it is in debt, else removes it and looks at its parent.
    pub(super) fn settle(&mut self, seat: usize) {
        let mut at = seat;
        while let Some(rank) = self.rank(at)
            && let Some(s) = self.seats.get(at)
        {
            self.step();
            if !s.idle() || s.resting {
                return;
            }
            let (up_ix, kids) = (s.up, s.kids);
            if let Some(up) = self.seats.get_mut(up_ix)
                && rank.0 > up.clock
            {
                up.rested.insert(rank);
                if let Some(s) = self.seats.get_mut(at) {
                    s.resting = true;
                }
                return;
            }
            if kids > 0 {
                return;
            }
            self.remove_seat(at);
            at = up_ix;
        }
    }

    fn remove_seat(&mut self, seat: usize) {
        let Some(s) = self.seats.remove(seat) else { return };
        if let Some(up) = self.seats.get_mut(s.up) {
            up.kids = up.kids.saturating_sub(1);
        }
        let Some(node) = self.nodes.get_mut(s.node) else { return };
        if let Ok(at) = node.seats.binary_search_by_key(&s.pool, |x| x.0) {
            node.seats.remove(at);
        }
        if node.seats.is_empty() && s.node != ROOT {
            let key = (node.parent, node.key);
            self.nodes.remove(s.node);
            self.index.remove(&key);
        }
    }

    /// Charges from now on use this weight; so do estimates of position.
    pub(super) fn reweigh(&mut self, path: &[FlowKey], weight: u32) {
        let mut node = ROOT;
        for key in path {
            let Some(child) = self.index.get(&(node, *key)) else { return };
            node = *child;
        }
        let Some(n) = self.nodes.get_mut(node) else { return };
        n.weight = weight;
        let seats: Vec<usize> = n.seats.iter().map(|s| s.1).collect();
        for seat in seats {
            let Some(s) = self.seats.get_mut(seat) else { continue };
            if s.queued > 0 {
                let (old, up_ix) = (s.counted, s.up);
                s.counted = weight;
                if let Some(up) = self.seats.get_mut(up_ix) {
                    let others = up.ready_weight.saturating_sub(u64::from(old));
                    up.ready_weight = others.saturating_add(u64::from(weight));
                }
            }
        }
    }

    /// The end of a busy period (rule 2 of SFQ): when nothing of a node is queued or in flight in
    /// the whole domain, its children compete with nobody, and their debts to each other end.
    pub(super) fn end_busy_period(&mut self, node: usize, domain: KindId) {
        let Some(n) = self.nodes.get(node) else { return };
        let mut own = Vec::new();
        for (_, seat) in &n.seats {
            self.step();
            let Some(s) = self.seats.get(*seat) else { continue };
            if s.domain == domain {
                if !s.idle() {
                    return;
                }
                own.push(*seat);
            }
        }
        for seat in own {
            let last = self.seats.get(seat).and_then(|s| s.rested.last().copied());
            if let (Some(last), Some(s)) = (last, self.seats.get(seat)) {
                let to = s.base.saturating_add(last.0);
                self.raise_clock(seat, to);
            }
        }
    }
}
