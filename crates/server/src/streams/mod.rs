//! The replay buffers at the edge: the worker's pieces go in, every client is a cursor.
//!
//! The edge always drains the worker into the intent's buffer, so a slow reader, a reader that
//! comes back and several readers are one mechanism. A buffer is bounded: what memory has no room
//! for is spilled sealed to disk, and beyond the bound on disk the attempt is stopped. Buffers are
//! kept for ten minutes after the intent's end. When those in memory take more than they should, the
//! oldest that are over are *packed*: many at once are written to disk, and of each a row stays in
//! memory. Only when rows or disk are used up the oldest ended ones leave before their time. An open
//! one is never dropped. What one holder may have of memory and disk is a share: who has it all has its
//! own packed, and its own forgotten, before anybody else's.
//!
//! Each buffer has one writer at a time (the session that serves the attempt) and any number of
//! cursors. A buffer's lock is held for a push or for reading one entry, and while a full memory
//! window is sealed and written (128 KiB, well below a millisecond into the page cache).
//!
//! Absent on purpose: sockets, SSE text, prices, and any decision about an intent's end.

pub mod content;
mod cursor;
mod entries;
mod entry;
mod meter;
mod pack;
mod record;
mod shelf;
mod space;
mod spill;
mod stream;

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mtor_core::share::{Holder, Limited, Rank};
use mtor_types::{IntentId, Time};

pub use cursor::{Cursor, LastEventId, Next, ParseLastEventIdError};
pub use entry::{ChunkError, Closed, Ended, Entry, Measured, Server, is_all_in_pieces};
pub use meter::{Bounds, Content, Metered, Yield};
pub use stream::IntentStream;

use crate::api_error::ApiError;
use crate::shares::{Bound, KEPT_SMALL_BYTES};
use pack::Packer;
use shelf::{ROW_BYTES, Row, Shelf};
use spill::Vault;

/// How much the buffers may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamLimits {
    /// Buffers, open and ended together: 4,000 ends a second, kept for ten minutes.
    pub streams_max: usize,
    /// Bytes of one buffer in memory; one piece more at most.
    pub memory_each: u64,
    /// Bytes of one buffer in memory and on disk, over all its attempts.
    pub bytes_each: u64,
    /// Bytes of all buffers in memory, beyond which the oldest ended ones are packed.
    pub memory_here: u64,
    /// The same with the rows of what is packed. Beyond it the oldest ended ones are dropped and open
    /// ones spill early.
    pub memory_total: u64,
    /// Bytes of all buffers on disk.
    pub disk_total: u64,
    /// How long a buffer is kept after its intent's end.
    pub kept_ms: u64,
}

const MIB: u64 = 1024 * 1024;

impl Default for StreamLimits {
    fn default() -> Self {
        Self {
            streams_max: 2_400_000,
            memory_each: 256 * 1024,
            bytes_each: 64 * MIB,
            memory_here: 64 * MIB,
            memory_total: 506 * MIB,
            disk_total: 8 * 1024 * MIB,
            kept_ms: 10 * 60 * 1000,
        }
    }
}

impl StreamLimits {
    /// Of a realm that has so much memory, and disk, for them. A quarter of it, or less, is for what was not
    /// packed yet: the rest is for rows.
    pub fn within(memory_total: u64, disk_total: u64) -> Self {
        let usual = Self::default();
        let memory_here = usual.memory_here.min(memory_total / 4);
        Self { memory_total, memory_here, disk_total, ..usual }
    }
}

/// What a buffer takes besides its entries, about, its place in the maps and the allocator's share
/// included: for the accounts of memory (measured over 15,000).
const STREAM_BYTES: u64 = 1_536;
/// Ended buffers dropped to make room for one new one, at most.
const DROPPED_AT_ONCE_MAX: usize = 8;

/// All buffers of one edge.
pub struct Streams {
    map: papaya::HashMap<IntentId, Arc<IntentStream>>,
    shared: Arc<Shared>,
    packer: Packer,
}

/// What all buffers have in common.
struct Shared {
    limits: StreamLimits,
    vault: Arc<Vault>,
    memory: AtomicU64,
    /// Of buffers that are not packed.
    count: AtomicUsize,
    kept: Kept,
    ended: Mutex<Shelf>,
}

/// The bounds of memory and disk, and who holds what of them.
#[derive(Clone, Debug)]
pub struct Kept {
    pub replay: Bound,
    pub spill: Bound,
}

/// What the buffers hold now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamTotals {
    pub streams: usize,
    pub memory_bytes: u64,
    pub disk_bytes: u64,
}

impl Streams {
    /// `dir` is where full buffers spill to; it is created if need be.
    pub fn new(limits: StreamLimits, dir: &Path) -> io::Result<Self> {
        let bound = |what, capacity| Bound::new(what, capacity, KEPT_SMALL_BYTES);
        let replay = bound(Limited::Replay, limits.memory_total);
        let spill = bound(Limited::Spill, limits.disk_total);
        Self::sharing(limits, Kept { replay, spill }, dir)
    }

    /// As [`Streams::new`], in bounds of others.
    pub fn sharing(limits: StreamLimits, kept: Kept, dir: &Path) -> io::Result<Self> {
        let shared = Shared {
            limits,
            ended: Mutex::new(Shelf::new(kept.clone())),
            kept,
            vault: Arc::new(Vault::new(dir, limits.disk_total)?),
            memory: AtomicU64::new(0),
            count: AtomicUsize::new(0),
        };
        let (map, packer) = (papaya::HashMap::new(), Packer::default());
        Ok(Self { map, shared: Arc::new(shared), packer })
    }

    /// The buffer of a new intent. If there is one already, that one.
    pub fn open(
        &self,
        intent: IntentId,
        bounds: Bounds,
        holder: Holder,
    ) -> Result<Arc<IntentStream>, ApiError> {
        if let Some(stream) = self.get_here(intent) {
            return Ok(stream);
        }
        self.make_room()?;
        self.make_room_of(&holder);
        Ok(self.insert(intent, bounds, holder))
    }

    /// The buffer of an intent whose end is told now: no room is made for it, since that may wait for
    /// the disk.
    pub fn open_ended(&self, intent: IntentId) -> Arc<IntentStream> {
        // Of whom it is is not known here, and it holds no more than its end.
        let nobody = Holder { account: None, network: None, rank: Rank::Member };
        self.get_here(intent).unwrap_or_else(|| self.insert(intent, Bounds::NONE, nobody))
    }

    fn insert(&self, intent: IntentId, bounds: Bounds, holder: Holder) -> Arc<IntentStream> {
        let shared = Arc::clone(&self.shared);
        let stream = Arc::new(IntentStream::new(intent, bounds, holder, shared, true));
        match self.map.pin().try_insert(intent, stream) {
            Ok(stream) => {
                self.shared.count.fetch_add(1, Ordering::Relaxed);
                Arc::clone(stream)
            }
            Err(taken) => Arc::clone(taken.current),
        }
    }

    /// A buffer that nobody can come back to: it lives as long as its holders.
    pub fn detached(&self, intent: IntentId, bounds: Bounds, holder: Holder) -> Arc<IntentStream> {
        self.make_room_of(&holder);
        Arc::new(IntentStream::new(intent, bounds, holder, Arc::clone(&self.shared), false))
    }

    /// It may have to be read from disk.
    pub fn get(&self, intent: IntentId) -> Option<Arc<IntentStream>> {
        self.get_here(intent).or_else(|| IntentStream::unpacked(intent, &self.shared))
    }

    /// One that is not packed: of an intent that is open, or has ended just now.
    pub fn get_here(&self, intent: IntentId) -> Option<Arc<IntentStream>> {
        self.map.pin().get(&intent).map(Arc::clone)
    }

    /// Drops the buffer: of an intent that was refused. Its cursors come to their end.
    pub fn forget(&self, intent: IntentId) {
        if let Some(stream) = self.map.pin().remove(&intent) {
            self.shared.count.fetch_sub(1, Ordering::Relaxed);
            stream.leave();
        }
    }

    /// Drops what ended long enough ago, packs what has to be; gives how many were looked at.
    pub fn expire(&self, now: Time) -> usize {
        let kept_ms = self.shared.limits.kept_ms;
        let mut dropped = 0;
        while let Some(row) = self.pop(|at| now.since_ms(at) >= kept_ms) {
            self.drop_row(row);
            dropped += 1;
        }
        self.pack();
        if let Err(error) = self.shared.vault.cut() {
            tracing::warn!(error = &error as &dyn std::error::Error, "spill file not cut");
        }
        dropped
    }

    pub fn totals(&self) -> StreamTotals {
        let packed = self.shared.ended().packed_count();
        StreamTotals {
            streams: self.shared.count.load(Ordering::Relaxed) + packed,
            memory_bytes: self.shared.memory.load(Ordering::Relaxed),
            disk_bytes: self.shared.vault.taken(),
        }
    }

    fn make_room(&self) -> Result<(), ApiError> {
        self.pack();
        for _ in 0..DROPPED_AT_ONCE_MAX {
            if !self.is_full() {
                return Ok(());
            }
            let Some(row) = self.pop(|_| true) else { break };
            self.drop_row(row);
        }
        // Only the count refuses new work: over its share of memory a buffer spills.
        if self.totals().streams < self.shared.limits.streams_max {
            Ok(())
        } else {
            Err(ApiError::overloaded())
        }
    }

    fn is_full(&self) -> bool {
        let totals = self.totals();
        let limits = &self.shared.limits;
        // A part of the disk is left for buffers that are not over.
        totals.streams >= limits.streams_max
            || totals.memory_bytes >= limits.memory_total
            || totals.disk_bytes >= limits.disk_total / 8 * 7
    }

    fn pop(&self, is_due: impl FnOnce(Time) -> bool) -> Option<Row> {
        self.shared.ended().pop(is_due)
    }

    fn drop_row(&self, row: Row) {
        let intent = row.intent;
        if !self.shared.let_go(row) {
            self.forget(intent);
        }
    }
}

impl Shared {
    fn ended(&self) -> MutexGuard<'_, Shelf> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What one buffer may hold in memory just now.
    fn memory_each(&self) -> u64 {
        const TIGHT: u64 = 16 * 1024;
        let each = self.limits.memory_each;
        let full = self.memory.load(Ordering::Relaxed) >= self.limits.memory_total;
        if full { each.min(TIGHT) } else { each }
    }
}

#[cfg(test)]
mod tests;
