//! The invariants, checked in O(n log n) against a recount. For the simulator and the tests.

use std::collections::BTreeMap;

use super::tree::{LEAF_DEPTH, ROOT, Seat};
use super::{Backlog, PoolId, SafeQueue, counted_cost};

type Outcome = Result<(), String>;

fn ensure(ok: bool, what: &str) -> Outcome {
    if ok { Ok(()) } else { Err(what.to_owned()) }
}

impl SafeQueue {
    pub(super) fn check_all(&self) -> Outcome {
        self.check_items()?;
        self.check_counts()?;
        for (ix, seat) in self.tree.seats.iter() {
            self.check_seat(ix, seat)?;
        }
        for (ix, node) in self.tree.nodes.iter() {
            ensure(ix == ROOT || !node.seats.is_empty(), "a node without seats")?;
            ensure(node.seats.is_sorted_by_key(|s| s.0), "seats out of order")?;
        }
        Ok(())
    }

    fn check_items(&self) -> Outcome {
        let items = &self.items;
        ensure(items.slab.len() == items.index.len(), "items and their index differ")?;
        let mut pools: BTreeMap<PoolId, Backlog> = BTreeMap::new();
        let mut leaves: BTreeMap<usize, (u32, u64)> = BTreeMap::new();
        let mut queued: BTreeMap<usize, (u64, u64)> = BTreeMap::new();
        for (ix, entry) in items.slab.iter() {
            ensure(items.index.get(&entry.item.id) == Some(&ix), "index points elsewhere")?;
            let pool = pools.entry(entry.item.pool).or_default();
            pool.add(&entry.item);
            let Some(seat) = self.tree.seats.get(entry.leaf) else {
                return Err("an item without a seat".to_owned());
            };
            ensure(seat.pool == entry.item.pool, "an item in another pool's seat")?;
            let leaf = leaves.entry(seat.node).or_default();
            *leaf = (leaf.0.saturating_add(1), leaf.1.saturating_add(entry.item.bytes));
            let next = items.slab.get(entry.next);
            ensure(next.is_none_or(|n| n.prev == ix), "broken FIFO")?;
            ensure(next.is_some() || seat.tail == ix, "a last item that is not the tail")?;
            let mut at = entry.leaf;
            while let Some(s) = self.tree.seats.get(at) {
                let n = queued.entry(at).or_default();
                let cost = counted_cost(&entry.item);
                *n = (n.0.saturating_add(1), n.1.saturating_add(cost));
                at = s.up;
            }
        }
        ensure(pools == self.pools, "a pool's backlog is not the sum of its items")?;
        for (ix, seat) in self.tree.seats.iter() {
            let counted = queued.get(&ix).copied().unwrap_or_default();
            ensure((seat.queued, seat.cost) == counted, "queued miscounted")?;
        }
        for (ix, node) in self.tree.nodes.iter() {
            let leaf = leaves.get(&ix).copied().unwrap_or_default();
            ensure((node.items, node.bytes) == leaf, "a leaf's totals are wrong")?;
        }
        Ok(())
    }

    fn check_counts(&self) -> Outcome {
        let mut refs: BTreeMap<usize, u64> = BTreeMap::new();
        let mut held = |seat: usize| {
            let n = refs.entry(seat).or_insert(0);
            *n = n.saturating_add(1);
        };
        for open in self.charges.iter() {
            open.seats().for_each(&mut held);
        }
        let mut kids: BTreeMap<usize, usize> = BTreeMap::new();
        for (_, seat) in self.tree.seats.iter() {
            let n = kids.entry(seat.up).or_insert(0);
            *n = n.saturating_add(1);
        }
        for (ix, seat) in self.tree.seats.iter() {
            ensure(seat.refs == refs.get(&ix).copied().unwrap_or(0), "charges miscounted")?;
            ensure(seat.kids == kids.get(&ix).copied().unwrap_or(0), "kids miscounted")?;
        }
        let limit = usize::try_from(self.limits.flows).unwrap_or(usize::MAX);
        let beyond = self.tree.size().saturating_sub(limit);
        ensure(beyond <= self.over_flows, "more seats than the limit")
    }

    fn check_seat(&self, ix: usize, seat: &Seat) -> Outcome {
        let Some(node) = self.tree.nodes.get(seat.node) else {
            return Err("a seat without a node".to_owned());
        };
        ensure(self.tree.seat_of(seat.node, seat.pool) == Some(ix), "a seat its node ignores")?;
        ensure(seat.domain == self.domains.of(seat.pool.kind()), "a seat in a stale domain")?;
        let weights: u64 = seat.ready.iter().fold(0, |sum, rank| {
            sum.saturating_add(self.tree.seats.get(rank.2).map_or(0, |s| u64::from(s.counted)))
        });
        ensure(weights == seat.ready_weight, "ready weight miscounted")?;
        let leaf = node.depth == LEAF_DEPTH;
        ensure(leaf || (seat.queued > 0) != seat.ready.is_empty(), "backlog without candidates")?;
        let Some(up) = self.tree.seats.get(seat.up) else {
            return ensure(seat.node == ROOT, "a seat cut off from the root");
        };
        ensure(up.node == node.parent && up.pool == seat.pool, "a seat under a stranger")?;
        let rank = (seat.start, node.serial, ix);
        ensure(up.ready.contains(&rank) == (seat.queued > 0), "not ready exactly when backlogged")?;
        let debt = seat.start > up.clock;
        let rests = seat.idle() && (debt || seat.resting && up.stale);
        ensure(up.rested.contains(&rank) == rests, "not at rest exactly when idle in debt")?;
        ensure(seat.resting == rests, "resting flag is wrong")?;
        ensure(!seat.idle() || rests || seat.kids > 0, "a seat that should have gone")
    }
}
