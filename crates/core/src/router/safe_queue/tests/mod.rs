//! Tests of the queue. `model` compares it with a naive reference, `fairness` holds it to its bound,
//! `spread` is about many pools, `domains` about merging and splitting, `bounds` about limits,
//! removal, idleness and handles.

mod bounds;
mod domains;
mod fairness;
mod model;
mod reference;
mod sim;
mod spread;

use super::*;

pub(super) const ROOMY: QueueLimits = QueueLimits {
    leaf_items: 1_000_000,
    leaf_bytes: u64::MAX,
    pool_items: 1_000_000,
    pool_bytes: u64::MAX,
    flows: 1_000_000,
    horizon: 600_000,
    // The models forget at once.
    sweep: u32::MAX,
};

pub(super) fn key(n: u64) -> FlowKey {
    FlowKey((u128::from(n) + 1).to_be_bytes())
}

pub(super) fn id(n: u64) -> ItemId {
    ItemId(u128::from(n).to_be_bytes())
}

pub(super) fn flow(branch: u64, account: u64) -> FlowPath {
    FlowPath { branch: key(branch), account: key(account), class: Class::Interactive }
}

/// A pool of a kind of its own.
pub(super) const fn lone(n: u32) -> PoolId {
    PoolId::new(KindId(n as u64), 0)
}

/// Its number again.
pub(super) fn no(pool: PoolId) -> u32 {
    u32::try_from(pool.kind().0).unwrap()
}

/// States the kinds of these pools as a worker's, and splits what nobody links any more.
pub(super) fn serve(q: &mut SafeQueue, worker: WorkerKey, pools: &[PoolId]) {
    let kinds: Vec<KindId> = pools.iter().map(|pool| pool.kind()).collect();
    q.link(worker, &kinds);
    q.split();
}

pub(super) fn leave(q: &mut SafeQueue, worker: WorkerKey) {
    q.unlink(worker);
    q.split();
}

pub(super) fn item(n: u64, pool: u32, flow: FlowPath, cost: u64) -> Item {
    Item { id: id(n), pool: lone(pool), flow, bytes: 10, cost_estimate: cost }
}

/// A queue in which one worker serves these pools.
pub(super) fn queue(limits: QueueLimits, pools: &[u32]) -> SafeQueue {
    let mut q = SafeQueue::new(limits);
    let pools: Vec<PoolId> = pools.iter().copied().map(lone).collect();
    serve(&mut q, WorkerKey(1), &pools);
    q
}

/// SplitMix64: a fixed stream for a seed.
#[derive(Clone)]
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In `low..=high`.
    pub(super) fn range(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }

    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.range(1, 100) <= percent
    }
}
