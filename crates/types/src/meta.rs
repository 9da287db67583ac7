//! What the realm knows of an intent besides its payload, in every form that stands in a log.
//!
//! [`IntentMeta`] is the newest form and the one that services work with. A log, a snapshot or an
//! outbox may hold older ones: they are kept as they were, and [`Meta::current`] is the one place
//! that turns them into the newest.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::amount::{Amount, Price};
use crate::band::Band;
use crate::fact::NetworkKey;
use crate::id::{AccountId, Digest, IntentId, NodeId, RealmId, WorkerId};
use crate::intent::{Class, Idempotency, Trust};

/// Under whose weight an intent's flow stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Branch {
    /// The account's own.
    Account,
    /// That of the network that the request came from, as on its day.
    Network(NetworkKey),
}

impl Branch {
    /// The network, if it is one's.
    pub const fn network(self) -> Option<NetworkKey> {
        match self {
            Self::Account => None,
            Self::Network(network) => Some(network),
        }
    }
}

/// Where an intent came from over a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Origin {
    pub realm: RealmId,
    /// Whom that realm asks for, under the name of a day.
    pub alias: [u8; 16],
}

/// Everything but the payload. The payload stays at the edge named here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntentMeta {
    pub id: IntentId,
    pub account: AccountId,
    /// The manifest's name, for example `chat`.
    pub name: String,
    /// SHA-256 of the manifest's canonical form when the intent was taken; zero if that is not
    /// known.
    pub manifest: Digest,
    pub model: Option<String>,
    pub trust: Trust,
    pub branch: Branch,
    /// `None`: of a client of this realm.
    pub origin: Option<Origin>,
    pub class: Class,
    /// Survives a restart of its edge.
    pub durable: bool,
    /// May begin again after a piece was delivered.
    pub restart: bool,
    pub edge: NodeId,
    /// The boot of the edge that holds the payload of an ephemeral intent.
    pub edge_epoch: u32,
    /// The most the payer pays; the hold.
    pub ceiling: Amount,
    /// The dearest offers that may serve.
    pub band: Band,
    /// The edge's own upper bound of billable units.
    pub units_max: u64,
    /// The payload's size.
    pub bytes: u64,
    /// The size of the work for estimates, in what the manifest names for it.
    pub size: u64,
    /// Time left until the deadline, when this was sent. Never a wall-clock moment.
    pub remaining_ms: u64,
    pub idempotency: Option<Idempotency>,
    /// Fresh randomness for the hashes of this intent's leaves in the public log.
    pub salt: [u8; 16],
    /// Of a canary: this worker serves it, at once, or nobody. Never durable, so it stands in no fact;
    /// in a message [`Meta::For`] bears it.
    #[serde(skip)]
    pub worker: Option<WorkerId>,
}

/// As the logs of the first releases have it. Frozen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntentMetaV1 {
    pub id: IntentId,
    pub account: AccountId,
    pub name: String,
    pub model: Option<String>,
    pub trust: Trust,
    pub class: Class,
    pub durable: bool,
    pub restart: bool,
    pub edge: NodeId,
    pub edge_epoch: u32,
    pub ceiling: Amount,
    /// The largest unit price that might serve.
    pub price_max: Price,
    pub units_max: u64,
    pub bytes: u64,
    pub remaining_ms: u64,
    pub idempotency: Option<Idempotency>,
    pub salt: [u8; 16],
}

/// An intent's metadata as it stands in facts and messages: in the form of its day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Meta {
    V1(Box<IntentMetaV1>),
    V2(Arc<IntentMeta>),
    /// As that, for one worker.
    For(Arc<IntentMeta>, WorkerId),
}

impl Meta {
    /// In the newest form, shared where it is that already.
    pub fn current(&self) -> Arc<IntentMeta> {
        match self {
            Self::V1(old) => Arc::new((**old).clone().into()),
            Self::V2(meta) => Arc::clone(meta),
            Self::For(meta, worker) if meta.worker == Some(*worker) => Arc::clone(meta),
            Self::For(meta, worker) => {
                Arc::new(IntentMeta { worker: Some(*worker), ..(**meta).clone() })
            }
        }
    }
}

impl From<Arc<IntentMeta>> for Meta {
    fn from(meta: Arc<IntentMeta>) -> Self {
        match meta.worker {
            None => Self::V2(meta),
            Some(worker) => Self::For(meta, worker),
        }
    }
}

impl From<Box<IntentMetaV1>> for Meta {
    fn from(old: Box<IntentMetaV1>) -> Self {
        Self::V1(old)
    }
}

impl From<IntentMetaV1> for IntentMeta {
    /// What the first form does not say is the least that it can mean: the band of the list price,
    /// a branch of its own, a manifest that is not known.
    fn from(old: IntentMetaV1) -> Self {
        let IntentMetaV1 { id, account, name, model, trust, class, durable, restart, .. } = old;
        let IntentMetaV1 { edge, edge_epoch, ceiling, units_max, bytes, remaining_ms, .. } = old;
        Self {
            id,
            account,
            name,
            manifest: Digest([0; 32]),
            model,
            trust,
            branch: Branch::Account,
            origin: None,
            class,
            durable,
            restart,
            edge,
            edge_epoch,
            ceiling,
            band: Band::LIST,
            units_max,
            bytes,
            size: bytes,
            remaining_ms,
            idempotency: old.idempotency,
            salt: old.salt,
            worker: None,
        }
    }
}
