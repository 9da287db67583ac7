//! Charges: what one dispatch added to the start tags, and its corrections.
//!
//! A dispatch is charged at every level to every seat that the node has in the domain. Each of these
//! is a *part* that remembers what it added, so that a correction replaces exactly this item's
//! contribution and never takes back more than it added: the tag can't fall below what it was at
//! that dispatch on this item's account, and corrections of several items compose in any order.

use super::slab::Slab;
use super::tree::{ROOT, Tree};
use super::virtual_time::{Virtual, scaled};
use super::{Charge, KindId, PoolId};

#[derive(Clone, Debug)]
pub(super) struct Part {
    seat: usize,
    weight: u32,
    /// The freed slot did not serve this seat's pool: the tag may run at most a horizon ahead of
    /// the pool's clock.
    capped: bool,
    epoch: u64,
    /// What the cost so far comes to at this weight.
    wanted: Virtual,
    /// What of `wanted` a lift has absorbed: it is neither refunded nor charged again.
    absorbed: Virtual,
    /// What this part has added to the tag since.
    added: Virtual,
}

#[derive(Clone, Debug)]
pub(super) struct Open {
    generation: u64,
    leaf: usize,
    /// The root's seats in all pools where a part is: they are busy as long as what is beneath.
    roots: Vec<usize>,
    parts: Vec<Part>,
    pool_weight: u32,
    turn_added: Virtual,
}

impl Open {
    /// All seats that the charge holds, from the leaf's up to the root's.
    pub(super) fn seats(&self) -> impl Iterator<Item = usize> {
        self.parts.iter().rev().map(|part| part.seat).chain(self.roots.iter().copied())
    }
}

#[derive(Clone, Debug)]
pub(super) struct Charges {
    open: Slab<Open>,
    generation: u64,
}

impl Charges {
    pub(super) fn new() -> Self {
        Self { open: Slab::new(), generation: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// How many there have been.
    pub(super) fn begun(&self) -> u64 {
        self.generation
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Open> {
        self.open.iter().map(|(_, o)| o)
    }

    /// Charges `cost` to the nodes of a path (each with all its seats) and keeps it open.
    pub(super) fn begin(
        &mut self,
        tree: &mut Tree,
        path: impl Iterator<Item = usize>,
        from: Origin<'_>,
        cost: u64,
    ) -> Charge {
        let mut parts = Vec::new();
        for node in path {
            for seat in seats_to_charge(tree, node, &from) {
                let Some(mut part) = new_part(tree, seat, from.pools) else { continue };
                tree.hold(seat);
                tree.grow_up(seat);
                replace(tree, &mut part, cost);
                parts.push(part);
            }
        }
        let roots: Vec<usize> = parts.iter().filter_map(|part| above_is_root(tree, part)).collect();
        roots.iter().for_each(|root| tree.hold(*root));
        let mut open = Open {
            generation: self.generation,
            leaf: from.leaf,
            roots,
            parts,
            pool_weight: from.pool_weight,
            turn_added: 0,
        };
        replace_turn(tree, &mut open, cost);
        self.generation = self.generation.saturating_add(1);
        Charge { generation: open.generation, slot: self.open.insert(open) }
    }

    pub(super) fn correct(&mut self, tree: &mut Tree, charge: Charge, actual: u64) -> bool {
        let Some(open) = self.open.get_mut(charge.slot) else { return false };
        if open.generation != charge.generation {
            return false;
        }
        for part in &mut open.parts {
            replace(tree, part, actual);
        }
        replace_turn(tree, open, actual);
        true
    }

    /// Closes a charge; the caller releases its seats.
    pub(super) fn end(&mut self, charge: Charge) -> Option<Open> {
        if self.open.get(charge.slot)?.generation != charge.generation {
            return None;
        }
        self.open.remove(charge.slot)
    }
}

/// Where a dispatch comes from: the item's leaf seat and domain, and the pools of the freed slot.
pub(super) struct Origin<'a> {
    pub(super) leaf: usize,
    pub(super) domain: KindId,
    pub(super) pool_weight: u32,
    pub(super) pools: &'a [PoolId],
}

fn seats_to_charge(tree: &Tree, node: usize, from: &Origin<'_>) -> Vec<usize> {
    let Some(n) = tree.nodes.get(node) else { return Vec::new() };
    let charged = |seat: &usize| tree.seats.get(*seat).is_some_and(|s| s.domain == from.domain);
    n.seats.iter().for_each(|_| tree.step());
    n.seats.iter().map(|s| s.1).filter(charged).collect()
}

fn above_is_root(tree: &Tree, part: &Part) -> Option<usize> {
    let up = tree.seats.get(part.seat)?.up;
    (tree.seats.get(up)?.node == ROOT).then_some(up)
}

fn new_part(tree: &Tree, seat: usize, pools: &[PoolId]) -> Option<Part> {
    let s = tree.seats.get(seat)?;
    Some(Part {
        seat,
        weight: tree.nodes.get(s.node)?.weight,
        capped: pools.binary_search(&s.pool).is_err(),
        epoch: s.epoch,
        wanted: 0,
        absorbed: 0,
        added: 0,
    })
}

/// Makes `cost` this part's whole contribution.
fn replace(tree: &mut Tree, part: &mut Part, cost: u64) {
    let Some(seat) = tree.seats.get(part.seat) else { return };
    if seat.epoch != part.epoch {
        part.epoch = seat.epoch;
        part.absorbed = part.absorbed.max(part.wanted);
        part.added = 0;
    }
    let target = scaled(cost, part.weight);
    let start = if target > part.wanted {
        let mut more = target.saturating_sub(part.wanted.max(part.absorbed));
        if part.capped {
            let clock = tree.seats.get(seat.up).map_or(0, |up| up.clock);
            let cap = clock.saturating_add(tree.horizon);
            more = more.min(cap.saturating_sub(seat.start));
        }
        part.added = part.added.saturating_add(more);
        seat.start.saturating_add(more)
    } else {
        let kept = part.added.min(target.saturating_sub(part.absorbed));
        let back = part.added.saturating_sub(kept);
        part.added = kept;
        seat.start.saturating_sub(back)
    };
    part.wanted = target;
    tree.set_start(part.seat, start);
}

/// The same for the level over the leaf's pools, which only orders a leaf's own items.
fn replace_turn(tree: &mut Tree, open: &mut Open, cost: u64) {
    let target = scaled(cost, open.pool_weight);
    if let Some(leaf) = tree.seats.get_mut(open.leaf) {
        leaf.turn = leaf.turn.saturating_sub(open.turn_added).saturating_add(target);
        open.turn_added = target;
    }
}
