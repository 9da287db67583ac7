//! A log in memory, for tests and the simulator. Like a disk it has a volatile part: what was
//! appended and not synced is gone after [`MemoryLog::crash`].

use super::snapshot::Snapshot;
use super::{Encoded, Log};
use crate::error::StoreError;

/// A log in memory with a disk's faults.
#[derive(Debug, Default)]
pub struct MemoryLog {
    rows: Vec<Encoded>,
    synced: usize,
    snapshots: Vec<Snapshot>,
    full: bool,
}

impl MemoryLog {
    /// Makes everything appended so far survive a crash.
    pub fn sync(&mut self) {
        self.synced = self.rows.len();
    }

    /// The number of the last batch that would survive a crash.
    pub fn synced(&self) -> u64 {
        number(self.synced)
    }

    /// Drops what was not synced, snapshots of it included.
    pub fn crash(&mut self) {
        self.rows.truncate(self.synced);
        let last = self.last();
        self.snapshots.retain(|snapshot| snapshot.batch <= last);
    }

    /// While set, appends and snapshots fail as on a full disk and change nothing.
    pub fn set_full(&mut self, full: bool) {
        self.full = full;
    }

    fn refuse_if_full(&self) -> Result<(), StoreError> {
        if self.full {
            return Err(StoreError::io(
                "memory".as_ref(),
                std::io::Error::from(std::io::ErrorKind::StorageFull),
            ));
        }
        Ok(())
    }
}

impl Log for MemoryLog {
    /// Volatile until [`MemoryLog::sync`].
    fn append(&mut self, batches: &[Encoded]) -> Result<(), StoreError> {
        let mut fresh = Vec::with_capacity(batches.len());
        for batch in batches {
            let expected = number(self.rows.len() + fresh.len()) + 1;
            let known = batch.number.checked_sub(1).and_then(|index| {
                let index = usize::try_from(index).ok()?;
                self.rows.get(index).or_else(|| fresh.get(index - self.rows.len()).copied())
            });
            match known {
                Some(row) if row == batch => {}
                None if batch.number == expected => fresh.push(batch),
                _ => return Err(StoreError::OutOfOrder { expected, found: batch.number }),
            }
        }
        self.refuse_if_full()?;
        self.rows.extend(fresh.into_iter().cloned());
        Ok(())
    }

    fn read_after(&self, number: u64, limit: usize) -> Result<Vec<Encoded>, StoreError> {
        let start = usize::try_from(number).unwrap_or(usize::MAX);
        Ok(self.rows.iter().skip(start).take(limit).cloned().collect())
    }

    fn last(&self) -> u64 {
        number(self.rows.len())
    }

    fn save_snapshot(&mut self, snapshot: &Snapshot) -> Result<(), StoreError> {
        if snapshot.batch > self.last() {
            return Err(StoreError::OutOfOrder { expected: self.last(), found: snapshot.batch });
        }
        self.refuse_if_full()?;
        self.snapshots.retain(|kept| kept.batch != snapshot.batch);
        self.snapshots.push(snapshot.clone());
        self.snapshots.sort_by_key(|kept| kept.batch);
        let surplus = self.snapshots.len().saturating_sub(2);
        self.snapshots.drain(..surplus);
        Ok(())
    }

    fn load_snapshot(&self) -> Result<Option<Snapshot>, StoreError> {
        Ok(self.snapshots.last().cloned())
    }
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
