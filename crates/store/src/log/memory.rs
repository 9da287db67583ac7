//! A log in memory, for tests and the simulator. Like a disk it has a volatile part: what was
//! appended and not synced is gone after [`MemoryLog::crash`].

use super::{Encoded, Log};
use crate::error::StoreError;

/// A log in memory with a disk's faults.
#[derive(Debug, Default)]
pub struct MemoryLog {
    rows: Vec<Encoded>,
    synced: usize,
    full: bool,
}

impl MemoryLog {
    /// Makes the batches up to that one survive a crash.
    pub fn sync(&mut self, number: u64) {
        let upto = usize::try_from(number).unwrap_or(usize::MAX).min(self.rows.len());
        self.synced = self.synced.max(upto);
    }

    /// The number of the last batch that would survive a crash.
    pub fn synced(&self) -> u64 {
        number(self.synced)
    }

    /// Drops what was not synced.
    pub fn crash(&mut self) {
        self.rows.truncate(self.synced);
    }

    /// While set, appends fail as on a full disk and change nothing.
    pub fn set_full(&mut self, full: bool) {
        self.full = full;
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
        if self.full {
            let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
            return Err(StoreError::io("memory".as_ref(), full));
        }
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
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
