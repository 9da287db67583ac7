//! How much work is served before a new item, as far as one flow can tell.
//!
//! Climbed from the leaf to the root. Inside a node the new item stands behind what the node has
//! queued. At its parent it is taken when the parent's clock reaches the node's start tag plus that
//! backlog at the node's share; until then each sibling that stands before this tag is served up to
//! it, one item at least, and never more than it has queued. Siblings are not looked at one by one:
//! their tags are taken to lie evenly between the first and the last, so a level costs two looks.

use super::tree::{ROOT, Tree, path_keys};
use super::virtual_time::{ONE, Virtual, scaled};
use super::{FlowPath, PoolId};

/// A node's part in the pools of one kind.
#[derive(Clone, Copy, Default)]
struct Level {
    queued: u64,
    cost: u64,
    ready: u64,
    weight: u64,
    /// The first and the last start tag of what is ready, and the clock, on the domain's line.
    first: Option<Virtual>,
    last: Virtual,
    clock: Virtual,
    /// Where newcomers enter at the latest.
    late: Virtual,
}

/// Slot-milliseconds that are served before a new item of this flow, in a domain whose slots serve
/// these pools.
pub(super) fn ahead(
    tree: &Tree,
    flow: &FlowPath,
    pools: &[PoolId],
    cost: u64,
    load_per_mille: u64,
) -> u64 {
    // From the root to as deep as the flow is known.
    let mut known = vec![ROOT];
    for key in path_keys(flow) {
        let parent = known.last().copied().unwrap_or(ROOT);
        let Some(child) = tree.index.get(&(parent, key)) else { break };
        known.push(*child);
    }
    let depth = path_keys(flow).len();
    let mut ahead = 0_u64;
    for level in (0..depth).rev() {
        let Some(parent) = known.get(level) else { continue };
        let child = known.get(level.saturating_add(1)).copied();
        if level.saturating_add(1) == depth {
            // What the leaf has queued stands before it.
            ahead = child.map_or(0, |leaf| sum(tree, leaf, pools).cost);
        }
        ahead = climb(tree, (*parent, child), pools, ahead, cost, load_per_mille);
    }
    ahead
}

/// What a node's parent serves before an item that has `inside` before it in the node.
fn climb(
    tree: &Tree,
    (parent, node): (usize, Option<usize>),
    pools: &[PoolId],
    inside: u64,
    cost: u64,
    load_per_mille: u64,
) -> u64 {
    let all = sum(tree, parent, pools);
    let own = node.map(|node| sum(tree, node, pools)).unwrap_or_default();
    let others_cost = all.cost.saturating_sub(own.cost);
    if others_cost == 0 {
        return inside;
    }
    let weight = node.and_then(|node| tree.nodes.get(node)).map_or(1, |node| node.weight);
    let start = node.and_then(|node| start(tree, node, pools)).unwrap_or(all.clock).max(all.clock);
    let own_ready = u64::from(own.queued > 0);
    // As `Tree::become_ready` has it.
    let lift = all.late.min(all.clock.saturating_add(scaled(cost, weight)));
    let start = if own_ready == 0 { start.max(lift) } else { start };
    let tag = start.saturating_add(scaled(inside, weight));
    let others = all.ready.saturating_sub(own_ready).max(1);
    let others_weight = all.weight.saturating_sub(own_ready.saturating_mul(weight.into())).max(1);
    let first = all.first.unwrap_or(all.clock);
    if tag < first {
        return inside;
    }
    // How many of them stand before the tag, in 1,024ths, and where they stand on average.
    let span = all.last.saturating_sub(first);
    let reach = tag.saturating_sub(first).min(span);
    let part = if span == 0 {
        1_024
    } else {
        reach.saturating_mul(1_024).checked_div(span).unwrap_or(1_024)
    };
    let part = u64::try_from(part).unwrap_or(1_024);
    let average = first.saturating_add(reach / 2);
    let lag = tag.saturating_sub(average);
    let served = lag.saturating_mul(others_weight.into()).checked_div(ONE).unwrap_or(0);
    let served = u64::try_from(served).unwrap_or(u64::MAX);
    // One item each at least, and half a one more than the distance on average.
    let item = others_cost.checked_div(all.queued.saturating_sub(own.queued).max(1)).unwrap_or(0);
    let each = item.saturating_mul(others);
    let work = served.saturating_add(each / 2).max(each);
    let work = u128::from(work).saturating_mul(part.into()) / 1_024;
    let work = u64::try_from(work).unwrap_or(u64::MAX);
    // No more than is queued there and comes meanwhile: x = queued + load · (inside + x).
    let idle_per_mille = 1_000_u64.saturating_sub(load_per_mille);
    let comes = load_per_mille.saturating_mul(inside) / 1_000;
    let most = others_cost.saturating_add(comes).saturating_mul(1_000);
    let most = most.checked_div(idle_per_mille).unwrap_or(u64::MAX);
    inside.saturating_add(work.min(most))
}

/// The node's start tag where it is in debt or backlogged.
fn start(tree: &Tree, node: usize, pools: &[PoolId]) -> Option<Virtual> {
    let seats = pools.iter().filter_map(|pool| tree.seats.get(tree.seat_of(node, *pool)?));
    let starts = seats.filter_map(|seat| {
        let up = tree.seats.get(seat.up)?;
        Some(up.base.saturating_add(seat.start))
    });
    starts.max()
}

fn sum(tree: &Tree, node: usize, pools: &[PoolId]) -> Level {
    let mut all = Level::default();
    for seat in pools.iter().filter_map(|pool| tree.seats.get(tree.seat_of(node, *pool)?)) {
        tree.step();
        all.queued = all.queued.saturating_add(seat.queued);
        all.cost = all.cost.saturating_add(seat.cost);
        all.ready = all.ready.saturating_add(u64::try_from(seat.ready.len()).unwrap_or(u64::MAX));
        all.weight = all.weight.saturating_add(seat.ready_weight);
        all.clock = all.clock.max(seat.clock_on_line());
        all.late = all.late.max(seat.base.saturating_add(seat.late));
        let tag = |rank: Option<&(Virtual, u64, usize)>| {
            rank.map(|(start, _, _)| seat.base.saturating_add(*start))
        };
        if let Some(first) = tag(seat.ready.first()) {
            all.first = Some(all.first.map_or(first, |known| known.min(first)));
        }
        all.last = all.last.max(tag(seat.ready.last()).unwrap_or(0));
    }
    all
}
