//! How much work is served before a new item, as far as one flow can tell.
//!
//! Climbed from the leaf to the root. Inside a node the new item stands behind what the node has
//! queued. At its parent it is taken when the parent's clock reaches the node's start tag plus that
//! backlog at the node's share. What is served until then is not only what waits now: others come
//! meanwhile and stand before it. So it is measured at each node, faded, in sums of O(1) a dispatch:
//!
//! * what is served between a newcomer's entry and its turn, by the weight that waited at its entry
//!   (an account has one weight, however much it has queued);
//! * what is served while V moves by one, for all that stands further back than newcomers.
//!
//! Where nothing was measured each that waits is taken to be served one item, and all by their
//! weights. It is never more than what others have queued and add while it is worked off.
//!
//! A pool that more slots serve than those that may serve the new item counts by the part of them that
//! may: the rest of its work is done elsewhere. What was measured in the item's own pool is of its own
//! slots already.

use super::tree::{Pace, ROOT, Tree, path_keys};
use super::virtual_time::{ONE, Virtual, scaled};
use super::{FlowPath, PoolId};

/// What is served before a new item, in slot-milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ahead {
    pub work: u64,
    /// What is served of all, itself included, for each thousand of its flow.
    pub per_mille: u64,
}

/// A pool, and what part of the slots that serve it may serve the new item, in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    pub pool: PoolId,
    pub per_mille: u64,
}

/// A node's part in the pools of one kind.
#[derive(Clone, Copy, Default)]
struct Level {
    queued: u64,
    cost: u64,
    /// Of the cost what the slots of the new item do.
    done_here: u64,
    weight: u64,
    /// On the domain's line; `late` is where newcomers enter at the latest.
    clock: Virtual,
    late: Virtual,
    pace: Pace,
    /// What part of that was done by the slots of the new item.
    pace_per_mille: u64,
}

/// At most so many times what is queued: arrivals are known too roughly to tell a load of one.
const MOST_PER_MILLE: u64 = 950;

/// Slot-milliseconds that are served before a new item of this flow, in a domain whose slots serve
/// these pools.
pub(super) fn ahead(
    tree: &Tree,
    flow: &FlowPath,
    (own, pools): (PoolId, &[Part]),
    cost: u64,
    load_per_mille: u64,
) -> Ahead {
    // From the root to as deep as the flow is known.
    let mut known = vec![ROOT];
    for key in path_keys(flow) {
        let parent = known.last().copied().unwrap_or(ROOT);
        let Some(child) = tree.index.get(&(parent, key)) else { break };
        known.push(*child);
    }
    let depth = path_keys(flow).len();
    let mut ahead = Ahead { work: 0, per_mille: 1_000 };
    for level in (0..depth).rev() {
        let Some(parent) = known.get(level) else { continue };
        let child = known.get(level.saturating_add(1)).copied();
        if level.saturating_add(1) == depth {
            // What the leaf has queued stands before it.
            ahead.work = child.map_or(0, |leaf| inside(tree, leaf, (own, pools), load_per_mille));
        }
        ahead = climb(tree, (*parent, child), (own, pools), ahead, cost, load_per_mille);
    }
    ahead
}

/// What a node's parent serves before an item that has `inside` before it in the node.
fn climb(
    tree: &Tree,
    (parent, node): (usize, Option<usize>),
    pools: (PoolId, &[Part]),
    below: Ahead,
    cost: u64,
    load_per_mille: u64,
) -> Ahead {
    let inside = below.work;
    let all = sum(tree, parent, pools);
    let own = node.map(|node| sum(tree, node, pools)).unwrap_or_default();
    let others_cost = all.done_here.saturating_sub(own.done_here);
    if others_cost == 0 {
        return below;
    }
    let weight = node.and_then(|node| tree.nodes.get(node)).map_or(1, |node| node.weight);
    let told = told_by(tree, parent, pools);
    let first = sum(tree, parent, (pools.0, &told));
    let known = node.map(|node| sum(tree, node, (pools.0, &told))).unwrap_or_default();
    let but_it = |level: Level, known: Level| {
        if known.queued > 0 { level.weight.saturating_sub(weight.into()) } else { level.weight }
    };
    let (others, of_all) = (but_it(first, known), but_it(all, own));
    let start =
        node.and_then(|node| start(tree, node, pools.1)).unwrap_or(all.clock).max(all.clock);
    // As `Tree::become_ready` has it.
    let lift = all.late.min(all.clock.saturating_add(scaled(cost, weight))).max(all.clock);
    let start = if own.queued > 0 { start } else { start.max(lift) };
    let tag = start.saturating_add(scaled(inside, weight));
    let item = all.cost.checked_div(all.queued).unwrap_or(0).max(1);
    let here = |work: u64, per_mille: u64| work.saturating_mul(per_mille) / 1_000;
    let per_mille = all.done_here.saturating_mul(1_000).checked_div(all.cost).unwrap_or(1_000);
    let unmeasured = here(item, per_mille).max(1);
    // Up to where newcomers enter. What is not measured counts as two that one item each passed.
    let passed = here(first.pace.passed, first.pace_per_mille);
    let passed = u128::from(passed).saturating_mul(others.into());
    let thought = u128::from(unmeasured.saturating_mul(2)).saturating_mul(of_all.into());
    let entry = passed.saturating_add(thought);
    let entry = entry.checked_div(first.pace.waiting.saturating_add(2).into()).unwrap_or(0);
    // Beyond. What is not measured counts as one item served by the weights of all.
    let everybody = u32::try_from(others.saturating_add(weight.into())).unwrap_or(u32::MAX);
    let served = here(all.pace.served, all.pace_per_mille).saturating_add(unmeasured);
    let moved = all.pace.moved.saturating_add(scaled(item, everybody)).max(1);
    let beyond = tag.saturating_sub(lift).saturating_mul(served.into());
    let beyond = beyond.checked_div(moved).unwrap_or(0);
    let work = u64::try_from(entry.saturating_add(beyond)).unwrap_or(u64::MAX);
    // x = queued + load · (inside + x) is what there is to be served at most.
    let load = load_per_mille.min(MOST_PER_MILLE);
    let comes = load.saturating_mul(inside) / 1_000;
    let most = others_cost.saturating_add(comes).saturating_mul(1_000);
    let most = most.checked_div(1_000_u64.saturating_sub(load)).unwrap_or(u64::MAX);
    let work = work.clamp(inside, inside.saturating_add(most));
    // One unit more of its own moves its tag by 1/w.
    let per = u128::from(below.per_mille).saturating_mul(served.into());
    let per = per.checked_div((moved / ONE).max(1).saturating_mul(weight.into())).unwrap_or(0);
    let per_mille = u64::try_from(per).unwrap_or(u64::MAX).max(below.per_mille);
    Ahead { work, per_mille }
}

/// The pools of the kind whose waiting weight tells how much comes first: what was measured is so by
/// kinds. Its own, or, where nobody waits for that, those of the one beside it that has most.
fn told_by(tree: &Tree, node: usize, (own, pools): (PoolId, &[Part])) -> Vec<Part> {
    let kinds = pools.chunk_by(|a, b| a.pool.kind() == b.pool.kind());
    let weighed = kinds.map(|kind| {
        let is_own = kind.first().is_some_and(|part| part.pool.kind() == own.kind());
        let weight = sum(tree, node, (own, kind)).weight;
        ((is_own && weight > 0, weight, is_own), kind)
    });
    weighed.max_by_key(|(rank, _)| *rank).map(|(_, kind)| kind.to_vec()).unwrap_or_default()
}

/// What a leaf serves before a new item: what its kind has queued there, and as much of each pool of
/// another kind, for pools take turns. Of what a shorter one has not, a part comes meanwhile.
fn inside(tree: &Tree, leaf: usize, (own, pools): (PoolId, &[Part]), load_per_mille: u64) -> u64 {
    let (mine, beside): (Vec<Part>, Vec<Part>) =
        pools.iter().partition(|part| part.pool.kind() == own.kind());
    let mine = sum(tree, leaf, (own, &mine)).done_here;
    let beside = beside.into_iter().filter_map(|Part { pool, per_mille }| {
        let seat = tree.seats.get(tree.seat_of(leaf, pool)?)?;
        tree.step();
        let mean = seat.cost.checked_div(seat.queued).unwrap_or_default();
        let here = seat.cost.min(mine.saturating_add(mean));
        let comes = mine.saturating_sub(here).saturating_mul(load_per_mille.min(1_000));
        Some(here.saturating_add(comes / 1_000).saturating_mul(per_mille) / 1_000)
    });
    beside.fold(mine, u64::saturating_add)
}

/// The node's start tag where it is in debt or backlogged.
fn start(tree: &Tree, node: usize, pools: &[Part]) -> Option<Virtual> {
    let seats = pools.iter().filter_map(|part| tree.seats.get(tree.seat_of(node, part.pool)?));
    let starts = seats.filter_map(|seat| {
        let up = tree.seats.get(seat.up)?;
        Some(up.base.saturating_add(seat.start))
    });
    starts.max()
}

fn sum(tree: &Tree, node: usize, (own, pools): (PoolId, &[Part])) -> Level {
    let mut all = Level { pace_per_mille: 1_000, ..Level::default() };
    let mut measured = 0;
    for Part { pool, per_mille } in pools {
        let Some(seat) = tree.seat_of(node, *pool).and_then(|seat| tree.seats.get(seat)) else {
            continue;
        };
        tree.step();
        all.queued = all.queued.saturating_add(seat.queued);
        all.cost = all.cost.saturating_add(seat.cost);
        let here = u128::from(seat.cost).saturating_mul((*per_mille).into()) / 1_000;
        let here = u64::try_from(here).unwrap_or(u64::MAX);
        all.done_here = all.done_here.saturating_add(here);
        all.weight = all.weight.saturating_add(seat.ready_weight);
        all.clock = all.clock.max(seat.clock_on_line());
        all.late = all.late.max(seat.base.saturating_add(seat.late));
        // Its own pool's, if anything was measured there.
        let is_own = *pool == own && seat.pace.served > 0;
        if is_own || seat.pace.served > measured {
            measured = if is_own { u64::MAX } else { seat.pace.served };
            (all.pace, all.pace_per_mille) = (seat.pace, if is_own { 1_000 } else { *per_mille });
        }
    }
    all
}
