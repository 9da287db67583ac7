//! What a node keeps beside its services, and the states that a snapshot may hold.

use std::collections::BTreeMap;

use mtor_types::{NodeId, Time};
use serde::{Deserialize, Serialize};

use super::outbox::Outbox;
use super::state::NodeState;
use crate::accountant::{Ledger, LedgerV1};
use crate::events::{OpenDurables, OpenDurablesV1};
use crate::registry::{Enrolments, EnrolmentsV1};
use crate::snapshot::{self, FORMAT, RecoverError, Section, Sections, parse};

/// The section of the node itself.
#[derive(Deserialize)]
pub(super) struct Head {
    batch: u64,
    at: Time,
    epoch: u32,
    outboxes: BTreeMap<NodeId, Outbox>,
    marks: BTreeMap<NodeId, u64>,
}

/// [`Head`] by reference, field for field, so that a snapshot copies nothing.
#[derive(Serialize)]
pub(super) struct HeadRef<'a> {
    pub(super) batch: u64,
    pub(super) at: Time,
    pub(super) epoch: u32,
    pub(super) outboxes: &'a BTreeMap<NodeId, Outbox>,
    pub(super) marks: &'a BTreeMap<NodeId, u64>,
}

impl Section for Head {
    type Written<'b> = HeadRef<'b>;
    const NAME: &'static str = "node";
    const ID: u8 = 1;
    const VERSION: u8 = 1;

    fn read(version: u8, bytes: &[u8]) -> Result<Self, RecoverError> {
        match version {
            1 => parse(bytes),
            found => Err(snapshot::unknown_version::<Self>(found)),
        }
    }
}

/// The whole of format 1: one blob. What its parts have become since is in their own sections'
/// chains, which begin with these. Frozen.
#[derive(Deserialize)]
struct NodeStateV1 {
    batch: u64,
    at: Time,
    epoch: u32,
    ledger: LedgerV1,
    intents: OpenDurablesV1,
    enrolments: EnrolmentsV1,
    outboxes: BTreeMap<NodeId, Outbox>,
    marks: BTreeMap<NodeId, u64>,
}

impl NodeState {
    /// From what [`super::Node::encode_state`] gave, in this version or in an earlier one.
    ///
    /// # Errors
    /// A format, a section or a version of one that this version does not know. It is never
    /// passed over: what a newer version wrote is to be read by it.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecoverError> {
        let (format, body) = bytes.split_first().ok_or(RecoverError::Empty)?;
        match *format {
            1 => parse::<NodeStateV1>(body).map(Self::from),
            FORMAT => Self::read(Sections::read(body)?),
            found => Err(RecoverError::Format(found)),
        }
    }

    fn read(mut sections: Sections<'_>) -> Result<Self, RecoverError> {
        let Head { batch, at, epoch, outboxes, marks } = sections.take()?;
        let ledger: Ledger = sections.take()?;
        let intents: OpenDurables = sections.take()?;
        let enrolments: Enrolments = sections.take()?;
        sections.end()?;
        Ok(Self { batch, at, epoch, ledger, intents, enrolments, outboxes, marks })
    }
}

impl From<NodeStateV1> for NodeState {
    fn from(old: NodeStateV1) -> Self {
        let NodeStateV1 { batch, at, epoch, ledger, intents, enrolments, outboxes, marks } = old;
        let (ledger, intents, enrolments) = (ledger.into(), intents.into(), enrolments.into());
        Self { batch, at, epoch, ledger, intents, enrolments, outboxes, marks }
    }
}
