//! A node's log on a simulated disk, the store's own in memory: appends are volatile until they are
//! synced, a crash drops them. Everything is kept encoded and decoded again at recovery.

use std::collections::{BTreeMap, VecDeque};

use mtor_core::Node;
use mtor_core::node::{NodeConfig, NodeState};
use mtor_store::{Encoded, Log, MemoryLog, Snapshot, StoreError, decode_batch, encode_batch};
use mtor_types::Digest;
use mtor_types::fact::Batch;

use crate::scenario::SNAPSHOTS_MAX;

#[derive(Debug, Default)]
pub(crate) struct Disk {
    log: MemoryLog,
    /// The digest of the state after a batch, synced or not, where one was taken: recovery must meet
    /// all that are on its way.
    digests: BTreeMap<u64, Digest>,
    /// Oldest first. One of an unsynced batch counts from its sync on.
    snapshots: VecDeque<Snapshot>,
}

impl Disk {
    /// Gives the bytes as they stand in the log.
    pub(crate) fn append(
        &mut self,
        batch: &Batch,
        digest: Option<Digest>,
    ) -> Result<Vec<u8>, String> {
        let row = encode_batch(batch);
        self.log.append(std::slice::from_ref(&row)).map_err(text)?;
        self.digests.extend(digest.map(|digest| (batch.number, digest)));
        Ok(row.bytes)
    }

    /// The last batch that was appended.
    pub(crate) fn last(&self) -> u64 {
        self.log.last()
    }

    /// The last batch that a crash leaves.
    pub(crate) fn synced(&self) -> u64 {
        self.log.synced()
    }

    /// Batches that a crash would drop.
    pub(crate) fn unsynced(&self) -> u64 {
        self.last().saturating_sub(self.synced())
    }

    /// Syncs up to that batch and gives what is new, decoded.
    pub(crate) fn sync(&mut self, number: u64) -> Result<Vec<Batch>, String> {
        let before = self.synced();
        self.log.sync(number);
        self.batches(before, self.synced())
    }

    pub(crate) fn snapshot(&mut self, batch: u64, bytes: Vec<u8>) {
        self.snapshots.push_back(Snapshot { batch, bytes });
        if self.snapshots.len() > SNAPSHOTS_MAX {
            self.snapshots.pop_front();
        }
    }

    pub(crate) fn crash(&mut self) {
        self.log.crash();
        let last = self.last();
        self.digests.retain(|batch, _| *batch <= last);
        self.snapshots.retain(|snapshot| snapshot.batch <= last);
    }

    /// A node from a snapshot (`pick` chooses which; beyond them: from nothing) and the log up to
    /// `upto`. Its state must have the last digest that was taken on the way.
    pub(crate) fn recover(
        &self,
        config: NodeConfig,
        pick: usize,
        upto: u64,
    ) -> Result<Node, String> {
        let usable = self.snapshots.iter().filter(|snapshot| snapshot.batch <= upto).nth(pick);
        let state = match usable {
            Some(snapshot) => {
                NodeState::decode(&snapshot.bytes).map_err(|error| error.to_string())?
            }
            None => NodeState::default(),
        };
        let mut node = Node::recover(config, state);
        let taken = self.digests.range(..=upto).next_back();
        for batch in self.batches(node.batch(), upto)? {
            node.replay(&batch).map_err(|error| error.to_string())?;
            if let Some((_, taken)) = taken.filter(|(number, _)| **number == batch.number)
                && *taken != node.digest().map_err(|error| error.to_string())?
            {
                let number = batch.number;
                return Err(format!("recovery up to {number} gives another state than was left"));
            }
        }
        Ok(node)
    }

    /// The batches after `number` up to `upto`, decoded.
    pub(crate) fn batches(&self, number: u64, upto: u64) -> Result<Vec<Batch>, String> {
        let limit = usize::try_from(upto.saturating_sub(number)).unwrap_or(usize::MAX);
        let rows: Vec<Encoded> = self.log.read_after(number, limit).map_err(text)?;
        rows.iter().map(decode_batch).collect::<Result<_, _>>().map_err(text)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn text(error: StoreError) -> String {
    error.to_string()
}
