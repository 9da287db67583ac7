//! The walk of one freed slot down the tree: at every level the smallest start tag among the children
//! that have something queued in one of the slot's pools, whichever pool that is.

use super::ItemId;
use super::PoolId;
use super::items::Items;
use super::tree::{LEAF_DEPTH, ROOT, Seat, Tree};
use super::virtual_time::Virtual;

/// Most items one dispatch looks at before it gives the slot up.
pub(super) const LOOK_TOTAL: u32 = 16;
/// Most items it looks at in one leaf's queue of one pool.
pub(super) const LOOK_LEAF: u32 = 4;

/// One level of a successful walk.
pub(super) struct Step {
    pub(super) node: usize,
    /// The chosen child's start tag on the domain's line.
    pub(super) start: Virtual,
    /// The parent's seats in the slot's pools.
    pub(super) parents: Vec<usize>,
    /// Weight of all that wait there; one that waits in several pools counts in each.
    pub(super) waiting: u64,
    /// The chosen child had been charged since it entered.
    pub(super) known: bool,
}

pub(super) struct Walk<'a> {
    pub(super) pools: &'a [PoolId],
    pub(super) items: &'a Items,
    pub(super) eligible: &'a mut dyn FnMut(ItemId) -> bool,
    pub(super) budget: u32,
    /// From the leaf up to the realm.
    pub(super) steps: Vec<Step>,
    /// Nodes whose turn it was but all of whose items looked at were refused.
    pub(super) skipped: Vec<usize>,
}

impl Walk<'_> {
    /// Index of the item that the slot takes.
    pub(super) fn run(&mut self, tree: &mut Tree) -> Option<usize> {
        self.descend(tree, ROOT)
    }

    fn descend(&mut self, tree: &mut Tree, node: usize) -> Option<usize> {
        let seats = seats_in(tree, node, self.pools);
        if tree.nodes.get(node)?.depth >= LEAF_DEPTH {
            return self.look_in_leaf(tree, &seats);
        }
        align(tree, &seats);
        let mut after = None;
        let mut seen: Vec<u64> = Vec::new();
        while self.budget > 0 {
            let (start, serial, seat) = next_child(tree, &seats, after, &seen)?;
            let Seat { node: child, newcomer, .. } = *tree.seats.get(seat)?;
            if let Some(item) = self.descend(tree, child) {
                let weight = |seat: &usize| tree.seats.get(*seat).map_or(0, |s| s.ready_weight);
                let waiting = seats.iter().map(weight).fold(0, u64::saturating_add);
                self.steps.push(Step {
                    node: child,
                    start,
                    parents: seats,
                    waiting,
                    known: !newcomer,
                });
                return Some(item);
            }
            self.skipped.push(child);
            seen.push(serial);
            after = Some((start, serial));
        }
        None
    }

    /// The leaf's pools in order of their turns; in each the first few items.
    fn look_in_leaf(&mut self, tree: &Tree, seats: &[usize]) -> Option<usize> {
        let mut turns: Vec<(Virtual, PoolId, usize)> = seats
            .iter()
            .filter_map(|seat| tree.seats.get(*seat))
            .filter(|s| s.queued > 0)
            .map(|s| (s.turn, s.pool, s.head))
            .collect();
        turns.sort_unstable();
        for (_, _, head) in turns {
            let mut at = head;
            for _ in 0..LOOK_LEAF {
                let Some(entry) = self.items.slab.get(at) else { break };
                self.budget = self.budget.checked_sub(1)?;
                if (self.eligible)(entry.item.id) {
                    return Some(at);
                }
                at = entry.next;
            }
        }
        None
    }
}

/// A node's seats in these pools (sorted), whichever list is shorter being the one that is walked.
pub(super) fn seats_in(tree: &Tree, node: usize, pools: &[PoolId]) -> Vec<usize> {
    let Some(n) = tree.nodes.get(node) else { return Vec::new() };
    if n.seats.len() <= pools.len() {
        let served = |s: &&(PoolId, usize)| pools.binary_search(&s.0).is_ok();
        n.seats.iter().filter(served).map(|s| s.1).collect()
    } else {
        pools.iter().filter_map(|pool| tree.seat_of(node, *pool)).collect()
    }
}

/// Pools that meet in one slot may have drifted apart while each was served by slots of its own. The
/// slower ones are moved up, all their children alike, to within a horizon of the fastest: the memory
/// of who had more is bounded.
fn align(tree: &mut Tree, seats: &[usize]) {
    if seats.len() < 2 {
        return;
    }
    let clock = |seat: &usize| tree.seats.get(*seat).map(Seat::clock_on_line);
    let latest = seats.iter().filter_map(clock).max().unwrap_or(0);
    let least = latest.saturating_sub(tree.horizon);
    for seat in seats {
        if let Some(s) = tree.seats.get_mut(*seat) {
            let behind = least.saturating_sub(s.clock_on_line());
            s.base = s.base.saturating_add(behind);
        }
    }
}

/// The first ready child after `after`, over all seats of its parent; a child that was `seen` at its
/// smaller tag in another pool is not offered again.
fn next_child(
    tree: &Tree,
    seats: &[usize],
    after: Option<(Virtual, u64)>,
    seen: &[u64],
) -> Option<(Virtual, u64, usize)> {
    let mut after = after;
    loop {
        let mut best: Option<(Virtual, u64, usize)> = None;
        for seat in seats {
            let Some(s) = tree.seats.get(*seat) else { continue };
            let next = match after {
                None => s.ready.first(),
                Some((start, _)) if start < s.base => s.ready.first(),
                Some((start, serial)) => {
                    let from = (start.saturating_sub(s.base), serial.saturating_add(1), 0);
                    s.ready.range(from..).next()
                }
            };
            let Some((start, serial, child)) = next.copied() else { continue };
            let rank = (s.base.saturating_add(start), serial, child);
            if best.is_none_or(|b| (rank.0, rank.1) < (b.0, b.1)) {
                best = Some(rank);
            }
        }
        let (start, serial, child) = best?;
        if !seen.contains(&serial) {
            return Some((start, serial, child));
        }
        after = Some((start, serial));
    }
}
