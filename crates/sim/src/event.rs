//! What can happen, and the agenda it waits on.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use mtor_core::Command;
use mtor_core::effect::Effect;
use mtor_types::worker::LeaseClaim;
use mtor_types::{Attempt, Fence, IntentId, NodeId, Rejection, SessionId};

use crate::scenario::Fault;

/// Realm → worker.
#[derive(Clone, Debug)]
pub(crate) enum ToWorker {
    /// A new attempt, or one that goes on under a new fence, sent again from the first piece.
    Assign {
        intent: IntentId,
        attempt: Attempt,
        fence: Fence,
        limit: u64,
    },
    Revoke {
        intent: IntentId,
        attempt: Attempt,
    },
    Acknowledge {
        intent: IntentId,
        attempt: Attempt,
    },
    /// The connection is over.
    Closed,
}

/// Worker → realm.
#[derive(Clone, Debug)]
pub(crate) enum FromWorker {
    Renew { leases: Vec<LeaseClaim> },
    Offer { draining: bool },
    Chunk { intent: IntentId, attempt: Attempt, seq: u64, count: u64 },
    Complete { intent: IntentId, attempt: Attempt, units: u64 },
    Fail { intent: IntentId, attempt: Attempt, retry: bool },
    Closed,
}

/// Who waits for what a node says to a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asker {
    Nobody,
    Submit(IntentId),
    /// An `Attach`, `Heard`, `Renew` or `Detach` of that session.
    Session {
        session: SessionId,
        attach: bool,
    },
}

#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// A node handles what waits for it.
    Turn {
        node: NodeId,
        boot: u64,
    },
    /// Something of a node is due.
    Wake {
        node: NodeId,
        boot: u64,
    },
    /// The disk reports everything up to that batch synced.
    Synced {
        node: NodeId,
        boot: u64,
        number: u64,
    },
    Restart {
        node: NodeId,
    },
    /// Node to node.
    Packet {
        from: NodeId,
        to: NodeId,
        number: u64,
        bytes: Arc<[u8]>,
    },
    Acknowledged {
        by: NodeId,
        to: NodeId,
        number: u64,
    },
    /// Edge to node.
    Ask {
        node: NodeId,
        edge_boot: u64,
        command: Box<Command>,
        asker: Asker,
    },
    /// Something for the edge of that boot.
    Edge {
        boot: u64,
        event: EdgeEvent,
    },
    ToWorker {
        worker: usize,
        session: SessionId,
        message: ToWorker,
    },
    FromWorker {
        session: SessionId,
        message: FromWorker,
    },
    /// A worker's heart beats.
    Beat {
        worker: usize,
        life: u64,
    },
    Connect {
        worker: usize,
        life: u64,
    },
    /// A worker goes on with what it was given.
    Work {
        worker: usize,
        life: u64,
        intent: IntentId,
        fence: Fence,
    },
    Submit {
        plan: usize,
    },
    Cancel {
        plan: usize,
    },
    Fault(Fault),
    /// A fault is over.
    Heal(Heal),
    /// All faults are over.
    Calm,
    Check,
}

#[derive(Clone, Debug)]
pub(crate) enum EdgeEvent {
    /// What a node said to a command.
    Answer {
        asker: Asker,
        result: Result<(), Rejection>,
    },
    Effect(Box<Effect>),
    /// A payload or a result is sealed and synced.
    Sealed {
        intent: IntentId,
        result: bool,
    },
    /// Is the session attached by now?
    AttachAgain {
        session: SessionId,
    },
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Heal {
    Disk { node: NodeId },
    Link { from: NodeId, to: NodeId },
    Lossy,
    Worker { worker: usize, life: u64 },
    Drain { worker: usize },
    Ban { worker: usize },
    Vouch { worker: usize },
    Pause { node: NodeId, boot: u64 },
}

#[derive(Debug)]
struct Entry {
    at: u64,
    /// Events of one moment happen in the order they were planned.
    order: u64,
    event: Event,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

#[derive(Debug, Default)]
pub(crate) struct Agenda {
    heap: BinaryHeap<Reverse<Entry>>,
    order: u64,
}

impl Agenda {
    pub(crate) fn plan(&mut self, at: u64, event: Event) {
        self.order = self.order.saturating_add(1);
        self.heap.push(Reverse(Entry { at, order: self.order, event }));
    }

    pub(crate) fn next(&mut self) -> Option<(u64, Event)> {
        self.heap.pop().map(|Reverse(entry)| (entry.at, entry.event))
    }
}
