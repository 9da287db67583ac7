//! The log of facts: one row a batch, dense in number from 1. It is the truth of a realm: its
//! state is the fold of these rows, and everything else here is a cache of it.

use mtor_types::Time;
use mtor_types::fact::Batch;

use crate::error::StoreError;

mod memory;
mod snapshot;
pub(crate) mod sqlite;
mod wal;

pub use memory::MemoryLog;
pub use snapshot::{Loaded, Snapshot, Snapshots};
pub use sqlite::SqliteLog;

/// The first byte of an encoded batch. A change of the encoding (not a new fact) raises it.
const FORMAT: u8 = 1;

/// A batch as it stands in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    pub number: u64,
    pub at: Time,
    /// A format byte, then the postcard form of a [`Batch`].
    pub bytes: Vec<u8>,
}

/// A log of facts. Backends differ in where they keep it, never in what they promise.
pub trait Log: Send {
    /// Appends all of these or none: one transaction, one sync. Numbers go on densely after
    /// [`Log::last`]; a batch that is there already with the same bytes is fine, so a failed
    /// append may be repeated as it was.
    fn append(&mut self, batches: &[Encoded]) -> Result<(), StoreError>;

    /// Batches after `number` in order, at most `limit`, fewer if they are large; none only at
    /// the end of the log. Each is proven to be what was appended.
    fn read_after(&self, number: u64, limit: usize) -> Result<Vec<Encoded>, StoreError>;

    /// The number of the last batch, 0 if there is none.
    fn last(&self) -> u64;
}

/// The bytes of a batch, for ever the same for the same batch.
pub fn encode_batch(batch: &Batch) -> Encoded {
    let bytes = postcard::to_extend(batch, vec![FORMAT])
        .expect("a batch holds only what postcard can write");
    Encoded { number: batch.number, at: batch.at, bytes }
}

/// The batch that was encoded. Damaged if it is another, or if bytes are left over.
pub fn decode_batch(encoded: &Encoded) -> Result<Batch, StoreError> {
    let damaged = |why| StoreError::Damaged { path: "the log".into(), batch: encoded.number, why };
    let (format, body) = encoded.bytes.split_first().ok_or_else(|| damaged("it is empty"))?;
    if *format != FORMAT {
        return Err(StoreError::Newer {
            path: format!("batch {}", encoded.number).into(),
            found: u32::from(*format),
            known: u32::from(FORMAT),
        });
    }
    let (batch, rest) = postcard::take_from_bytes::<Batch>(body)
        .map_err(|_| damaged("it cannot be decoded; it may be of a newer version"))?;
    if !rest.is_empty() {
        return Err(damaged("bytes are left over"));
    }
    if (batch.number, batch.at) != (encoded.number, encoded.at) {
        return Err(damaged("its number or time is another's"));
    }
    Ok(batch)
}
