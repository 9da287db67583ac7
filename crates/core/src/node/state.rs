//! The durable state of a node: snapshot, recovery, and its hash.

use std::collections::BTreeMap;

use mtor_types::fact::{Batch, Fact};
use mtor_types::{Digest, NodeId, Time};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::outbox::Outbox;
use super::{Node, NodeConfig};
use crate::accountant::{Accountant, Ledger};
use crate::events::{EventProcessor, OpenDurables};
use crate::registry::{Enrolments, Registry};
use crate::router::Router;
use crate::turn::Turn;

/// The first byte of an encoded state. A change of anything in [`NodeState`] raises it; a start
/// passes over a snapshot of another format and folds the log instead.
const FORMAT: u8 = 1;

/// Everything that outlives the process, as of one batch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeState {
    pub batch: u64,
    at: Time,
    epoch: u32,
    ledger: Ledger,
    intents: OpenDurables,
    enrolments: Enrolments,
    outboxes: BTreeMap<NodeId, Outbox>,
    marks: BTreeMap<NodeId, u64>,
}

/// Why a log cannot be recovered from.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    #[error("the snapshot is not one of this version")]
    Snapshot(#[source] postcard::Error),
    #[error("the snapshot has format {0}, this version reads {FORMAT}")]
    Format(u8),
    #[error("the snapshot is {0} bytes longer than its state")]
    LeftOver(usize),
    #[error("batch {found} follows batch {last} in the log")]
    Gap { last: u64, found: u64 },
}

/// [`NodeState`] by reference, field for field, so that a snapshot copies nothing.
#[derive(Serialize)]
struct NodeStateRef<'a> {
    batch: u64,
    at: Time,
    epoch: u32,
    ledger: &'a Ledger,
    intents: &'a OpenDurables,
    enrolments: &'a Enrolments,
    outboxes: &'a BTreeMap<NodeId, Outbox>,
    marks: &'a BTreeMap<NodeId, u64>,
}

impl NodeState {
    /// From what [`Node::encode_state`] gave.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecoverError> {
        let (format, body) = bytes.split_first().ok_or(RecoverError::Format(0))?;
        if *format != FORMAT {
            return Err(RecoverError::Format(*format));
        }
        let (state, rest) = postcard::take_from_bytes(body).map_err(RecoverError::Snapshot)?;
        if rest.is_empty() { Ok(state) } else { Err(RecoverError::LeftOver(rest.len())) }
    }
}

impl Node {
    /// A node as of `state`; hand it the batches that follow with [`Node::replay`], then
    /// [`Node::start`] it.
    pub fn recover(config: NodeConfig, state: NodeState) -> Self {
        let turn = Turn { now: state.at, epoch: state.epoch, ..Turn::default() };
        let policy = config.policy.clone();
        Self {
            accountant: Accountant::restore(state.ledger, policy),
            events: EventProcessor::restore(config.node, config.is_whole(), state.intents),
            registry: Registry::restore(state.enrolments, config.owner),
            router: Router::new(),
            turn,
            batch: state.batch,
            batch_at: state.at,
            outboxes: state.outboxes,
            marks: state.marks,
            early: BTreeMap::new(),
            config,
        }
    }

    /// Applies one batch of the log.
    pub fn replay(&mut self, batch: &Batch) -> Result<(), RecoverError> {
        if Some(batch.number) != self.batch.checked_add(1) {
            return Err(RecoverError::Gap { last: self.batch, found: batch.number });
        }
        self.batch = batch.number;
        self.batch_at = batch.at;
        self.turn.now = self.turn.now.max(batch.at);
        for fact in &batch.facts {
            self.apply(batch.at, fact);
        }
        Ok(())
    }

    /// The durable state as of the last closed batch, for a snapshot. Call it between batches only:
    /// facts of an open one would be in the state but not yet in the log.
    pub fn encode_state(&self) -> Result<Vec<u8>, RecoverError> {
        let state = NodeStateRef {
            batch: self.batch,
            at: self.batch_at,
            epoch: self.turn.epoch,
            ledger: self.accountant.durable(),
            intents: self.events.durable(),
            enrolments: self.registry.durable(),
            outboxes: &self.outboxes,
            marks: &self.marks,
        };
        postcard::to_extend(&state, vec![FORMAT]).map_err(RecoverError::Snapshot)
    }

    /// SHA-256 of the durable state.
    pub fn digest(&self) -> Result<Digest, RecoverError> {
        Ok(Digest(Sha256::digest(self.encode_state()?).into()))
    }

    /// Changes the durable state by a fact. Each service knows its own.
    pub(super) fn apply(&mut self, at: Time, fact: &Fact) {
        self.apply_to_outboxes(fact);
        self.accountant.apply(at, fact);
        self.events.apply(fact);
        self.registry.apply(at, fact);
    }
}
