//! What a node asks of its shell, and when it may leave.

use std::sync::Arc;

use mtor_types::Time;
use mtor_types::amount::{Amount, Price};
use mtor_types::fact::Asset;
use mtor_types::id::{AccountId, Attempt, Fence, IntentId, NodeId, SessionId, WorkerId};
use mtor_types::intent::{End, IntentMeta, Why};
use mtor_types::rejection::Rejection;

use crate::router::TrustClass;

/// When an effect may leave the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// At once: dispatch, and the answers and ends of ephemeral intents.
    Now,
    /// Once the facts of its batch are synced.
    Durable,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Event Processor: the intent has its hold and its place.
    Admitted { intent: IntentId, asset: Asset, hold: Amount, position: u64, wait_ms: u64 },
    /// Event Processor: the same key and body; this is the intent that stands for it.
    Joined { asked: IntentId, intent: IntentId },
    /// Event Processor: nothing was opened.
    Refused { intent: IntentId, rejection: Rejection },
    /// Event Processor: stop forwarding, take the metered figure, send [`crate::Command::End`].
    Stop { intent: IntentId, why: Why },
    /// Event Processor: publish the end. Leaves now for an ephemeral intent.
    Ended { end: End, durable: bool },
    /// Event Processor, always durable: the resolution is synced. Sign a receipt, acknowledge the
    /// worker's completion.
    Settled { end: End, account: AccountId, at: Time },

    /// Router: send the payload and this to the worker's session.
    Assign(Assignment),
    /// Router: a reconnected worker keeps this attempt, under a new fence; its chunks come again
    /// from the first.
    Adopt(Assignment),
    /// Router: the attempt is void; tell its worker and drop what it still sends.
    Revoke {
        edge: NodeId,
        worker: WorkerId,
        session: SessionId,
        intent: IntentId,
        attempt: Attempt,
    },
    /// Router: the attempt's worker is lost. Stop forwarding it and send [`crate::Command::End`]
    /// with `WorkerFailed`: only the edge knows what was delivered.
    Lost { intent: IntentId, attempt: Attempt },
    /// Router: an attempt that delivered pieces is given up and another will begin.
    Restarted { intent: IntentId, attempt: Attempt },
    /// Router: what can be asked here has changed.
    PoolsChanged,

    /// Registry: close this session; its worker is silent, replaced or banned.
    CloseSession { edge: NodeId, worker: WorkerId, session: SessionId, why: CloseReason },
    /// Registry, always durable: this worker is enrolled no more; what an edge knows of it is over.
    WorkerForgotten { worker: WorkerId },

    /// Node: send to another node. It is asked again until the other acknowledges.
    Send { to: NodeId, number: u64, bytes: Arc<[u8]> },
    /// Node: everything of that node up to `number` is taken and synced.
    Acknowledge { to: NodeId, number: u64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    Silent,
    Replaced,
    Banned,
    Removed,
}

/// One attempt of one intent on one slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    pub meta: Arc<IntentMeta>,
    pub attempt: Attempt,
    pub fence: Fence,
    pub edge: NodeId,
    pub worker: WorkerId,
    /// Whose worker it is, and what is thought of it.
    pub owner: AccountId,
    pub class: TrustClass,
    pub session: SessionId,
    /// The group whose slot it takes, if its offer names one.
    pub group: Option<String>,
    /// What is paid per unit.
    pub price: Price,
    /// The most units that will be paid.
    pub limit: u64,
    /// Left until the deadline.
    pub remaining_ms: u64,
    /// The worker may give neither piece nor end for so long, or it counts as a failure.
    pub silence_ms: u64,
}
