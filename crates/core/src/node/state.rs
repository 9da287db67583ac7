//! The durable state of a node: snapshot, recovery, and its hash.

use std::collections::BTreeMap;

use mtor_types::fact::{Batch, Fact};
use mtor_types::{Digest, NodeId, Time};
use sha2::{Digest as _, Sha256};

use super::head::{Head, HeadRef};
use super::outbox::Outbox;
use super::{Node, NodeConfig};
use crate::accountant::{Accountant, Ledger};
use crate::events::{EventProcessor, OpenDurables};
use crate::registry::{Enrolments, Registry};
use crate::router::Router;
use crate::snapshot::{self, RecoverError};
use crate::steps::Steps;
use crate::turn::Turn;

/// Everything that outlives the process, as of one batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeState {
    pub batch: u64,
    pub(super) at: Time,
    pub(super) epoch: u32,
    pub(super) ledger: Ledger,
    pub(super) intents: OpenDurables,
    pub(super) enrolments: Enrolments,
    pub(super) outboxes: BTreeMap<NodeId, Outbox>,
    pub(super) marks: BTreeMap<NodeId, u64>,
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
            settled: Time::default(),
            steps: Steps::default(),
            config,
        }
    }

    /// Applies one batch of the log.
    ///
    /// # Errors
    /// It is not the next one, or something in it cannot be one of this ledger's facts: what is
    /// recovered so far is then of no use.
    pub fn replay(&mut self, batch: &Batch) -> Result<(), RecoverError> {
        if Some(batch.number) != self.batch.checked_add(1) {
            return Err(RecoverError::Gap { last: self.batch, found: batch.number });
        }
        self.batch = batch.number;
        self.batch_at = batch.at;
        if batch.at < self.turn.now && matches!(batch.facts.first(), Some(Fact::NodeStarted { .. }))
        {
            self.set_back(batch.at);
        }
        self.turn.now = self.turn.now.max(batch.at);
        for fact in &batch.facts {
            let misfit = |what| RecoverError::Misfit { batch: batch.number, what };
            self.accountant.fits(fact).map_err(misfit)?;
            self.apply(batch.at, fact);
        }
        Ok(())
    }

    /// Time goes back, as much being left of everything as before.
    pub(super) fn set_back(&mut self, at: Time) {
        let by_ms = self.turn.now.since_ms(at);
        if by_ms > 0 {
            self.accountant.set_back(at, by_ms);
            self.events.set_back(by_ms);
            self.registry.set_back(at, by_ms);
            self.turn.now = at;
        }
    }

    /// The durable state as of the last closed batch, for a snapshot. Call it between batches only:
    /// facts of an open one would be in the state but not yet in the log.
    pub fn encode_state(&self) -> Result<Vec<u8>, RecoverError> {
        let head = HeadRef {
            batch: self.batch,
            at: self.batch_at,
            epoch: self.turn.epoch,
            outboxes: &self.outboxes,
            marks: &self.marks,
        };
        snapshot::Writer::begin()
            .section::<Head>(&head)?
            .section::<Ledger>(self.accountant.durable())?
            .section::<OpenDurables>(self.events.durable())?
            .section::<Enrolments>(self.registry.durable())
            .map(snapshot::Writer::end)
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
