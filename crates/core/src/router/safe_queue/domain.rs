//! Domains: which kinds share service counters. Two kinds are linked when some worker that may link
//! them serves both; a domain is a connected component of the links, named by its smallest kind. All
//! pools of a kind are in its domain.
//!
//! When domains *merge*, the tags of formerly separate pools come onto one line: per parent node, every
//! old domain is moved as a whole so that the most advanced clocks coincide. Moving a pool's line moves
//! its clock and all its tags alike, so each lag S − V is carried over exactly: nobody gains, nobody
//! pays. A node that had seats in both keeps its lag in each. When a domain *splits* nothing moves at
//! all; open charges go on correcting the very seats they charged.
//!
//! A merge happens at once, since flows must not gain by a link for a moment. A split can wait, and
//! does until [`Domains::split`]: so a worker that comes and goes costs a look at the flows only as
//! often as its caller splits. Where the kinds that change hold nothing, as new ones do, no flow is
//! looked at.

use std::collections::{BTreeMap, BTreeSet};

use super::tree::{LEAF_DEPTH, ROOT, Tree};
use super::virtual_time::Virtual;
use super::{KindId, PoolId, WorkerKey};

#[derive(Clone, Debug, Default)]
pub(super) struct Domains {
    workers: BTreeMap<WorkerKey, Vec<KindId>>,
    /// Neighbours in the sorted kinds of a worker, and how many workers have them.
    links: BTreeMap<(KindId, KindId), usize>,
    /// Of the kinds that are linked, or were when domains were last split.
    names: BTreeMap<KindId, KindId>,
    /// The kinds of each name.
    members: BTreeMap<KindId, BTreeSet<KindId>>,
    /// A link has gone since domains were last split.
    loose: bool,
}

impl Domains {
    /// The domain of a kind; one that is not linked is a domain of its own.
    pub(super) fn of(&self, kind: KindId) -> KindId {
        self.names.get(&kind).copied().unwrap_or(kind)
    }

    /// Replaces what a worker links.
    pub(super) fn link(&mut self, tree: &mut Tree, worker: WorkerKey, kinds: &[KindId]) {
        let mut kinds = kinds.to_vec();
        kinds.sort_unstable();
        kinds.dedup();
        if self.workers.get(&worker) == Some(&kinds) {
            return;
        }
        self.unlink(worker);
        let mut moved = false;
        for (a, b) in pairs(&kinds) {
            tree.step();
            let count = self.links.entry((a, b)).or_insert(0);
            *count = count.saturating_add(1);
            moved |= self.join(tree, a, b);
        }
        self.workers.insert(worker, kinds);
        if moved {
            self.move_seats(tree);
        }
    }

    pub(super) fn unlink(&mut self, worker: WorkerKey) {
        let Some(kinds) = self.workers.remove(&worker) else { return };
        for pair in pairs(&kinds) {
            let Some(count) = self.links.get_mut(&pair) else { continue };
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.links.remove(&pair);
                self.loose = true;
            }
        }
    }

    /// True: seats are in another domain by it.
    fn join(&mut self, tree: &Tree, a: KindId, b: KindId) -> bool {
        let (a_name, b_name) = (self.of(a), self.of(b));
        let (name, gone) = (a_name.min(b_name), a_name.max(b_name));
        if name == gone {
            return false;
        }
        let mut moved = self.members.remove(&gone).unwrap_or_default();
        moved.insert(gone);
        let of_name = self.members.entry(name).or_default();
        of_name.insert(name);
        self.names.insert(name, name);
        let mut holds = false;
        for kind in moved {
            tree.step();
            holds |= holds_seats(tree, kind);
            self.names.insert(kind, name);
            of_name.insert(kind);
        }
        holds
    }

    /// Gives kinds that nothing links any more domains of their own.
    pub(super) fn split(&mut self, tree: &mut Tree) {
        if !std::mem::take(&mut self.loose) {
            return;
        }
        let mut roots: BTreeMap<KindId, KindId> = BTreeMap::new();
        for (a, b) in self.links.keys() {
            tree.step();
            let (a, b) = (find(&mut roots, *a), find(&mut roots, *b));
            // The smaller is the root, so a domain's name doesn't depend on the order.
            roots.insert(a.max(b), a.min(b));
        }
        let kinds: Vec<KindId> = roots.keys().copied().collect();
        let names = kinds.into_iter().map(|kind| (kind, find(&mut roots, kind))).collect();
        let before = std::mem::replace(&mut self.names, names);
        self.members.clear();
        for (kind, name) in &self.names {
            self.members.entry(*name).or_default().insert(*kind);
        }
        let mut moved = before.into_iter().filter(|(kind, name)| self.of(*kind) != *name);
        if moved.any(|(kind, _)| holds_seats(tree, kind)) {
            self.move_seats(tree);
        }
    }

    fn move_seats(&self, tree: &mut Tree) {
        tree.seats.iter().for_each(|_| tree.step());
        let mut nodes: Vec<(u8, usize)> = tree.nodes.iter().map(|(ix, n)| (n.depth, ix)).collect();
        for (_, node) in &nodes {
            self.move_node(tree, *node);
        }
        // A split can leave a part in which nothing of a node is going on: that is the end of a busy
        // period there. Deepest first, so that a parent sees what its children have become.
        nodes.sort_unstable_by(|a, b| b.cmp(a));
        for (depth, node) in nodes {
            if depth < LEAF_DEPTH {
                let mut domains: Vec<KindId> = tree
                    .nodes
                    .get(node)
                    .map(|n| n.seats.iter().map(|s| self.of(s.0.kind())).collect())
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
        let mut old_clock: BTreeMap<(KindId, KindId), Virtual> = BTreeMap::new();
        let mut new_clock: BTreeMap<KindId, Virtual> = BTreeMap::new();
        for seat in &seats {
            let Some(s) = tree.seats.get(*seat) else { continue };
            let new = self.of(s.pool.kind());
            let old = old_clock.entry((new, s.domain)).or_insert(0);
            *old = (*old).max(s.clock_on_line());
            let to = new_clock.entry(new).or_insert(0);
            *to = (*to).max(s.clock_on_line());
        }
        for seat in &seats {
            let Some(s) = tree.seats.get_mut(*seat) else { continue };
            let new = self.of(s.pool.kind());
            let from = old_clock.get(&(new, s.domain)).copied().unwrap_or(0);
            let to = new_clock.get(&new).copied().unwrap_or(0);
            s.base = s.base.saturating_add(to.saturating_sub(from));
            s.domain = new;
        }
    }
}

/// Whether anything stands in a pool of this kind.
fn holds_seats(tree: &Tree, kind: KindId) -> bool {
    let Some(root) = tree.nodes.get(ROOT) else { return false };
    let at = root.seats.partition_point(|(pool, _)| *pool < PoolId::new(kind, 0));
    root.seats.get(at).is_some_and(|(pool, _)| pool.kind() == kind)
}

fn pairs(kinds: &[KindId]) -> impl Iterator<Item = (KindId, KindId)> {
    kinds.iter().copied().zip(kinds.iter().copied().skip(1))
}

fn find(links: &mut BTreeMap<KindId, KindId>, kind: KindId) -> KindId {
    let mut root = kind;
    loop {
        let up = *links.entry(root).or_insert(root);
        if up == root {
            break;
        }
        root = up;
    }
    // Path compression keeps later finds short.
    let mut at = kind;
    while let Some(up) = links.insert(at, root)
        && up != root
        && at != root
    {
        at = up;
    }
    root
}
