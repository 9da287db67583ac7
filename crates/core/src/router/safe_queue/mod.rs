//! SafeQueue (API in place; bodies follow).
#![allow(unused_variables, reason = "bodies are being filled in")]

/// Opaque key of a realm or of an account inside a realm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlowKey(pub [u8; 16]);

/// The two classes of one account; weights are `CLASS_WEIGHTS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    Interactive,
    Batch,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlowPath {
    pub realm: FlowKey,
    pub account: FlowKey,
    pub class: Class,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PoolId(pub u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ItemId(pub [u8; 16]);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WorkerKey(pub u64);

/// One queued piece of work. `bytes` counts against the byte bounds; `cost_estimate` in slot-ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item {
    pub id: ItemId,
    pub pool: PoolId,
    pub flow: FlowPath,
    pub bytes: u64,
    pub cost_estimate: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLimits {
    /// Most items one leaf (realm, account, class) holds over all pools.
    pub leaf_items: u32,
    pub leaf_bytes: u64,
    pub pool_items: u32,
    pub pool_bytes: u64,
    /// Most (tree node, pool) entries: realms, accounts and classes, each counted once a pool.
    pub flows: u32,
    /// How much service (slot-ms of a flow of weight 1) pools remember of each other.
    pub horizon: u64,
}

/// Why `enqueue` refused; nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Full {
    /// An item of this id is already queued: a caller's error, not a full queue.
    Duplicate,
    PoolItems,
    PoolBytes,
    LeafItems,
    LeafBytes,
    Flows,
}

/// Whose weight `set_weight` sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weighted {
    Realm(FlowKey),
    Account { realm: FlowKey, account: FlowKey },
    Pool(PoolId),
}

/// Handle of one dispatch; stays valid until `finish`; a stale one is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charge {
    slot: usize,
    generation: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dispatched {
    pub item: Item,
    pub charge: Charge,
}

/// What waits in one pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    pub items: u64,
    pub bytes: u64,
    /// Sum of the estimates of the queued items, slot-ms.
    pub cost: u64,
}

#[derive(Debug)]
pub struct SafeQueue {
    limits: QueueLimits,
}

impl SafeQueue {
    #[must_use]
    pub fn new(limits: QueueLimits) -> Self {
        Self { limits }
    }
    /// Queues at the tail of the item's leaf.
    pub fn enqueue(&mut self, item: Item) -> Result<(), Full> {
        Err(Full::Flows)
    }
    /// A retry: back to the head of its leaf, beyond the bounds if need be (it was admitted once);
    /// fails only with `Full::Duplicate`. Call `finish` on the failed attempt's charge first.
    pub fn requeue(&mut self, item: Item) -> Result<(), Full> {
        Err(Full::Flows)
    }
    /// Takes a queued item out; nothing is charged. False: not queued (unknown or dispatched).
    pub fn remove(&mut self, id: ItemId) -> bool {
        false
    }
    /// A freed slot that may serve `pools` takes the next item. `eligible` refuses items this
    /// worker may not have again; a bounded number is looked at.
    pub fn dispatch(
        &mut self,
        pools: &[PoolId],
        eligible: &mut dyn FnMut(ItemId) -> bool,
    ) -> Option<Dispatched> {
        None
    }
    /// The cost so far (slot-ms) of an outstanding dispatch replaces what was charged for it.
    /// False: a stale handle.
    pub fn correct(&mut self, charge: Charge, actual: u64) -> bool {
        false
    }
    /// Last correction of a dispatch, however it ended; the handle is stale afterwards.
    pub fn finish(&mut self, charge: Charge, actual: u64) -> bool {
        false
    }
    /// Weight of a realm, an account or a pool, ≥ 1 (0 reads as 1); default 1; later charges only.
    pub fn set_weight(&mut self, whose: Weighted, weight: u32) {}
    /// States which pools a worker's slots serve (replaces what was said before).
    pub fn set_slots(&mut self, worker: WorkerKey, pools: &[PoolId]) {}
    pub fn remove_worker(&mut self, worker: WorkerKey) {}
    #[must_use]
    pub fn len(&self) -> usize {
        0
    }
    #[must_use]
    pub fn is_empty(&self) -> bool {
        true
    }
    #[must_use]
    pub fn contains(&self, id: ItemId) -> bool {
        false
    }
    /// Items queued in a pool.
    #[must_use]
    pub fn depth(&self, pool: PoolId) -> u64 {
        0
    }
    #[must_use]
    pub fn bytes(&self, pool: PoolId) -> u64 {
        0
    }
    /// Sum of the estimates queued in a pool, slot-ms.
    #[must_use]
    pub fn waiting_cost(&self, pool: PoolId) -> u64 {
        0
    }
    /// Estimate of how many items of its pool are served before this one. `None`: not queued.
    #[must_use]
    pub fn position(&self, id: ItemId) -> Option<u64> {
        None
    }
    /// Dispatches not yet finished.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        0
    }
    /// Pools that hold items, in order of their ids.
    pub fn backlog(&self) -> impl Iterator<Item = (PoolId, Backlog)> + '_ {
        std::iter::empty()
    }
    /// O(n) self-check for the simulator and tests.
    pub fn check_invariants(&self) -> Result<(), String> {
        Ok(())
    }
}
