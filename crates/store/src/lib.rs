//! What a realm keeps: the log of facts and its snapshots, read tables, and sealed blobs.
//!
//! One data directory belongs to one process ([`DataDir`]). In it:
//!
//! | file | what | who writes |
//! |---|---|---|
//! | `realm.lock` | the holder's lock, process id and start | [`DataDir`] |
//! | `log.db` | the facts, one row a batch, each chained to the row before | [`SqliteLog`] |
//! | `snapshot-N` | the state after batch N, checksummed; the newest two are kept | [`Snapshots`] |
//! | `read.db` | indexes into the log, rebuilt from it at will | [`ReadTables`] |
//! | `blobs/` | payloads and results of durable intents, sealed | [`BlobStore`] |
//!
//! Invariants: what `append` acknowledged is on the disk; nothing is read back from the log
//! without its checksum; a newer format is refused before anything is written. Absent on purpose:
//! clocks (time comes with each call), decisions (this crate folds nothing), async.

pub mod blobs;
pub mod error;
mod files;
pub mod lock;
pub mod log;
pub mod read;
mod sqlite;

pub use blobs::{BlobKind, BlobName, BlobStore};
pub use error::{Holder, StoreError};
pub use lock::DataDir;
pub use log::{
    Encoded, Log, MemoryLog, Snapshot, Snapshots, SqliteLog, decode_batch, encode_batch,
};
pub use read::{ReadTables, Reader};
pub use sqlite::Tuning;

/// The log's file in a data directory.
pub const LOG_FILE: &str = log::sqlite::FILE;
