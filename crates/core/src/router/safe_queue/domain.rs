//! Domains: which pools share service counters. Two pools are related when some worker serves both; a
//! domain is a connected component of that relation, named by its smallest pool.
//!
//! When domains *merge*, the tags of formerly separate pools come onto one line: per parent node, every
//! old domain is moved as a whole so that the most advanced clocks coincide. Moving a pool's line moves
//! its clock and all its tags alike, so each lag S − V is carried over exactly: nobody gains, nobody
//! pays. A node that had seats in both keeps its lag in each. When a domain *splits* nothing moves at
//! all; open charges go on correcting the very seats they charged.

use std::collections::BTreeMap;

use super::tree::{LEAF_DEPTH, Tree};
use super::virtual_time::Virtual;
use super::{PoolId, WorkerKey};

#[derive(Clone, Debug, Default)]
pub(super) struct Domains {
    workers: BTreeMap<WorkerKey, Vec<PoolId>>,
    /// Distinct pool sets and how many workers have each: workers come and go more often than kinds
    /// of worker do.
    kinds: BTreeMap<Vec<PoolId>, usize>,
    names: BTreeMap<PoolId, PoolId>,
}

impl Domains {
    /// The domain of a pool; one that no worker serves is a domain of its own.
    pub(super) fn of(&self, pool: PoolId) -> PoolId {
        self.names.get(&pool).copied().unwrap_or(pool)
    }

    /// True when domains may have changed.
    pub(super) fn state(&mut self, worker: WorkerKey, pools: &[PoolId]) -> bool {
        let mut pools = pools.to_vec();
        pools.sort_unstable();
        pools.dedup();
        if self.workers.get(&worker) == Some(&pools) {
            return false;
        }
        let mut changed = self.forget(worker);
        if pools.is_empty() {
            return changed;
        }
        let count = self.kinds.entry(pools.clone()).or_insert(0);
        changed |= *count == 0;
        *count = count.saturating_add(1);
        self.workers.insert(worker, pools);
        changed
    }

    /// True when domains may have changed.
    pub(super) fn forget(&mut self, worker: WorkerKey) -> bool {
        let Some(pools) = self.workers.remove(&worker) else { return false };
        let Some(count) = self.kinds.get_mut(&pools) else { return false };
        *count = count.saturating_sub(1);
        if *count > 0 {
            return false;
        }
        self.kinds.remove(&pools);
        true
    }

    /// Union-find over the kinds of worker, bounded by their pools; then moves the tree's seats.
    pub(super) fn recompute(&mut self, tree: &mut Tree) {
        let mut links: BTreeMap<PoolId, PoolId> = BTreeMap::new();
        for kind in self.kinds.keys() {
            let Some(first) = kind.first() else { continue };
            for pool in kind {
                let (a, b) = (find(&mut links, *first), find(&mut links, *pool));
                // The smaller id is the root, so a domain's name doesn't depend on the order.
                links.insert(a.max(b), a.min(b));
            }
        }
        let pools: Vec<PoolId> = links.keys().copied().collect();
        self.names = pools.into_iter().map(|pool| (pool, find(&mut links, pool))).collect();
        self.move_seats(tree);
    }

    fn move_seats(&self, tree: &mut Tree) {
        let same = |(_, s): (usize, &super::tree::Seat)| s.domain == self.of(s.pool);
        if tree.seats.iter().all(same) {
            return;
        }
        let mut nodes: Vec<(u8, usize)> = tree.nodes.iter().map(|(ix, n)| (n.depth, ix)).collect();
        for (_, node) in &nodes {
            self.move_node(tree, *node);
        }
        // A split can leave a part in which nothing of a node is going on: that is the end of a busy
        // period there. Deepest first, so that a parent sees what its children have become.
        nodes.sort_unstable_by(|a, b| b.cmp(a));
        for (depth, node) in nodes {
            if depth < LEAF_DEPTH {
                let mut domains: Vec<PoolId> = tree
                    .nodes
                    .get(node)
                    .map(|n| n.seats.iter().map(|s| self.of(s.0)).collect())
                    .unwrap_or_default();
                domains.sort_unstable();
                domains.dedup();
                for domain in domains {
                    tree.end_busy_period(node, domain);
                }
            }
        }
    }

    fn move_node(&self, tree: &mut Tree, node: usize) {
        let Some(n) = tree.nodes.get(node) else { return };
        let seats: Vec<usize> = n.seats.iter().map(|s| s.1).collect();
        // Most advanced clock of each (new, old) domain, and of each new one.
        let mut old_clock: BTreeMap<(PoolId, PoolId), Virtual> = BTreeMap::new();
        let mut new_clock: BTreeMap<PoolId, Virtual> = BTreeMap::new();
        for seat in &seats {
            let Some(s) = tree.seats.get(*seat) else { continue };
            let new = self.of(s.pool);
            let old = old_clock.entry((new, s.domain)).or_insert(0);
            *old = (*old).max(s.clock_on_line());
            let to = new_clock.entry(new).or_insert(0);
            *to = (*to).max(s.clock_on_line());
        }
        for seat in &seats {
            let Some(s) = tree.seats.get_mut(*seat) else { continue };
            let new = self.of(s.pool);
            let from = old_clock.get(&(new, s.domain)).copied().unwrap_or(0);
            let to = new_clock.get(&new).copied().unwrap_or(0);
            s.base = s.base.saturating_add(to.saturating_sub(from));
            s.domain = new;
        }
    }
}

fn find(links: &mut BTreeMap<PoolId, PoolId>, pool: PoolId) -> PoolId {
    let mut root = pool;
    loop {
        let up = *links.entry(root).or_insert(root);
        if up == root {
            break;
        }
        root = up;
    }
    // Path compression keeps later finds short.
    let mut at = pool;
    while let Some(up) = links.insert(at, root)
        && up != root
        && at != root
    {
        at = up;
    }
    root
}
