//! The walk of one freed slot down the tree: at every level the smallest start tag among the children
//! that have something queued in one of the slot's pools, whichever pool that is.

use super::PoolId;
use super::tree::{LEAF_DEPTH, ROOT, Seat, Tree};
use super::virtual_time::Virtual;

/// One level of a walk.
pub(super) struct Step {
    /// The chosen child's start tag on the domain's line.
    pub(super) start: Virtual,
    /// The parent's seats in the slot's pools.
    pub(super) parents: Vec<usize>,
    /// Weight of all that wait there; one that waits in several pools counts in each.
    pub(super) waiting: u64,
    /// The chosen child had been charged since it entered.
    pub(super) known: bool,
}

/// Index of the item that a slot of these pools takes, and the way to it from the branch down.
pub(super) fn walk(tree: &mut Tree, pools: &[PoolId]) -> Option<(usize, Vec<Step>)> {
    let mut steps = Vec::with_capacity(LEAF_DEPTH.into());
    let mut node = ROOT;
    loop {
        let seats = seats_in(tree, node, pools);
        if tree.nodes.get(node)?.depth >= LEAF_DEPTH {
            return Some((head(tree, &seats)?, steps));
        }
        align(tree, &seats);
        let (start, seat) = first_child(tree, &seats)?;
        let Seat { node: child, newcomer, .. } = *tree.seats.get(seat)?;
        let weight = |seat: &usize| tree.seats.get(*seat).map_or(0, |s| s.ready_weight);
        let waiting = seats.iter().map(weight).fold(0, u64::saturating_add);
        steps.push(Step { start, parents: seats, waiting, known: !newcomer });
        node = child;
    }
}

/// The first item of the leaf's pool whose turn it is.
fn head(tree: &Tree, seats: &[usize]) -> Option<usize> {
    let queued = seats.iter().filter_map(|seat| tree.seats.get(*seat)).filter(|s| s.queued > 0);
    queued.min_by_key(|s| (s.turn, s.pool)).map(|s| s.head)
}

/// A node's seats in these pools (sorted), whichever list is shorter being the one that is walked.
pub(super) fn seats_in(tree: &Tree, node: usize, pools: &[PoolId]) -> Vec<usize> {
    let Some(n) = tree.nodes.get(node) else { return Vec::new() };
    let looks = n.seats.len().min(pools.len());
    (0..looks).for_each(|_| tree.step());
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

/// The ready child whose turn it is, over all seats of its parent.
fn first_child(tree: &Tree, seats: &[usize]) -> Option<(Virtual, usize)> {
    let first = |seat: &usize| {
        let s = tree.seats.get(*seat)?;
        let (start, serial, child) = s.ready.first()?;
        Some((s.base.saturating_add(*start), *serial, *child))
    };
    let ready = seats.iter().filter_map(first);
    ready.min_by_key(|(start, serial, _)| (*start, *serial)).map(|(start, _, child)| (start, child))
}
