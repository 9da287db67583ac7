//! A node's log on a simulated disk: appends wait in a volatile tail until they are synced, a
//! crash drops the tail. Everything is kept encoded and decoded again at recovery.

use std::collections::VecDeque;

use mtor_core::Node;
use mtor_core::node::{NodeConfig, NodeState};
use mtor_types::Digest;
use mtor_types::fact::Batch;

use crate::scenario::SNAPSHOTS_MAX;

#[derive(Debug, Default)]
pub(crate) struct Disk {
    synced: Vec<Vec<u8>>,
    tail: VecDeque<Vec<u8>>,
    /// The digest of the state after each batch, synced or not: recovery must meet it.
    digests: Vec<Digest>,
    /// Snapshots by batch, oldest first. One of an unsynced batch counts from its sync on.
    snapshots: VecDeque<(u64, Vec<u8>)>,
}

impl Disk {
    pub(crate) fn append(&mut self, batch: &Batch, digest: Digest) -> Result<Vec<u8>, String> {
        let bytes = postcard::to_stdvec(batch).map_err(|error| error.to_string())?;
        let last = self.last();
        if batch.number != last.saturating_add(1) {
            return Err(format!("batch {} follows batch {last}", batch.number));
        }
        self.tail.push_back(bytes.clone());
        self.digests.push(digest);
        Ok(bytes)
    }

    /// The last batch that was appended.
    pub(crate) fn last(&self) -> u64 {
        self.synced().saturating_add(len(self.tail.len()))
    }

    /// The last batch that a crash leaves.
    pub(crate) fn synced(&self) -> u64 {
        len(self.synced.len())
    }

    pub(crate) fn unsynced(&self) -> usize {
        self.tail.len()
    }

    /// Syncs up to that batch and gives what is new, decoded.
    pub(crate) fn sync(&mut self, number: u64) -> Result<Vec<Batch>, String> {
        let mut fresh = Vec::new();
        while self.synced() < number {
            let Some(bytes) = self.tail.pop_front() else { break };
            fresh.push(decode(&bytes)?);
            self.synced.push(bytes);
        }
        Ok(fresh)
    }

    pub(crate) fn snapshot(&mut self, batch: u64, bytes: Vec<u8>) {
        self.snapshots.push_back((batch, bytes));
        if self.snapshots.len() > SNAPSHOTS_MAX {
            self.snapshots.pop_front();
        }
    }

    pub(crate) fn crash(&mut self) {
        self.tail.clear();
        self.digests.truncate(self.synced.len());
        let synced = self.synced();
        self.snapshots.retain(|(batch, _)| *batch <= synced);
    }

    /// A node from a snapshot (`pick` chooses which; beyond them: from nothing) and the log up to
    /// `upto`. Its state must have the digest that was recorded when that batch was closed.
    pub(crate) fn recover(
        &self,
        config: NodeConfig,
        pick: usize,
        upto: u64,
    ) -> Result<Node, String> {
        let usable = self.snapshots.iter().filter(|(batch, _)| *batch <= upto).nth(pick);
        let state = match usable {
            Some((_, bytes)) => NodeState::decode(bytes).map_err(|error| error.to_string())?,
            None => NodeState::default(),
        };
        let from = usize::try_from(state.batch).unwrap_or(usize::MAX);
        let mut node = Node::recover(config, state);
        let upto = usize::try_from(upto).unwrap_or(usize::MAX);
        for bytes in self.synced.iter().take(upto).skip(from) {
            node.replay(&decode(bytes)?).map_err(|error| error.to_string())?;
        }
        let found = node.digest().map_err(|error| error.to_string())?;
        let recorded = upto.checked_sub(1).and_then(|last| self.digests.get(last));
        match recorded {
            Some(recorded) if *recorded != found => {
                Err(format!("recovery up to batch {upto} gives another state than was left"))
            }
            Some(_) | None => Ok(node),
        }
    }

    /// Every synced batch, decoded: what a read table is rebuilt from.
    pub(crate) fn batches(&self) -> Result<Vec<Batch>, String> {
        self.synced.iter().map(|bytes| decode(bytes)).collect()
    }
}

fn decode(bytes: &[u8]) -> Result<Batch, String> {
    postcard::from_bytes(bytes).map_err(|error| error.to_string())
}

fn len(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}
