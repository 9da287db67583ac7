//! What the services of a realm tell each other, inside a node by value and between nodes encoded.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::amount::{Amount, Price};
use crate::fact::Asset;
use crate::id::{AccountId, Attempt, Fence, IntentId, NodeId, SessionId, WorkerId};
use crate::intent::{End, EndRequest, IntentMeta, Outcome, Usage};
use crate::rejection::Rejection;
use crate::worker::{LeaseClaim, Offer};

/// The state machines of a realm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Service {
    Events,
    Accountant,
    Router,
    Registry,
}

impl Service {
    pub const ALL: [Self; 4] = [Self::Events, Self::Accountant, Self::Router, Self::Registry];
}

/// A message and the service it is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    pub to: Service,
    pub message: Message,
}

/// Every step is idempotent by (intent, attempt): one already done sends its outcome onward again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// Event Processor → Accountant: reserve the ceiling, then pass it on.
    PlaceHold(Arc<IntentMeta>),
    /// Accountant → Router: the hold stands; find a slot. `recovered` ones wait for adoption
    /// first, and are never refused for want of a worker.
    Enqueue { meta: Arc<IntentMeta>, asset: Asset, recovered: bool },
    /// Event Processor → Accountant: it comes back from a restart, its hold stands already.
    Resume(Arc<IntentMeta>),
    /// Accountant → Event Processor: no hold, nothing was opened.
    Refused { intent: IntentId, rejection: Rejection },
    /// Router → Event Processor: it has a place in the queue.
    Taken { intent: IntentId, asset: Asset, hold: Amount, position: u64, wait_ms: u64 },
    /// Event Processor → Router: stop and resolve, with the edge's metered figure.
    End(EndRequest),
    /// Router → Accountant: resolve the hold.
    Resolve(Resolution),
    /// Accountant → Event Processor: it is resolved; publish the end.
    Resolved { end: End, rejection: Option<Rejection> },
    /// Event Processor → Accountant → Router: that edge begins a new boot; what was ephemeral in
    /// older boots of it is gone.
    EdgeStarted { edge: NodeId, epoch: u32 },
    /// Registry → Router: what a session's worker can do now; replaces what was said before.
    Slots(Slots),
    /// Registry → Router: the session is over or its worker silent.
    SessionLost { worker: WorkerId, session: SessionId },
    /// Registry → Router: a new boot of the registry; it knows no session yet.
    RegistryStarted,
    /// Registry → Router: the worker still works on these.
    Renew { worker: WorkerId, session: SessionId, leases: Vec<LeaseClaim> },
    /// Router → Registry: how an attempt went, for the worker's standing.
    Served { worker: WorkerId, intent: IntentId, attempt: Attempt, good: bool },
}

/// What a worker's session offers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slots {
    pub worker: WorkerId,
    pub session: SessionId,
    /// The edge node that holds the session.
    pub edge: NodeId,
    pub owner: AccountId,
    /// Owned by the realm's own account.
    pub own: bool,
    /// Past probation, or exempt.
    pub proven: bool,
    pub draining: bool,
    pub offers: Vec<Offer>,
    /// Leases the worker says it still holds, checked by the edge.
    pub leases: Vec<LeaseClaim>,
}

/// The router's request for the one terminal decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolution {
    pub intent: IntentId,
    pub outcome: Outcome,
    pub usage: Usage,
    /// Who served, and at which price; `None` if nobody is to be paid.
    pub served: Option<ServedBy>,
    /// Why it was refused, when the outcome is `Refused`.
    pub rejection: Option<Rejection>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServedBy {
    pub worker: WorkerId,
    pub owner: AccountId,
    pub price: Price,
    pub attempt: Attempt,
    pub fence: Fence,
}
