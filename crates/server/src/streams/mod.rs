//! The replay buffers at the edge: the worker's pieces go in, every client is a cursor.
//!
//! The edge always drains the worker into the intent's buffer, so a slow reader, a reader that
//! comes back and several readers are one mechanism. A buffer is bounded: what memory has no room
//! for is spilled sealed to disk, and beyond the bound on disk the attempt is stopped. Buffers are
//! kept for ten minutes after the intent's end, or, when there are too many, as long as there is
//! room: the oldest ended ones leave first, and an open one is never dropped.
//!
//! Each buffer has one writer at a time (the session that serves the attempt) and any number of
//! cursors. A buffer's lock is held for a push or for reading one entry, and while a full memory
//! window is sealed and written (128 KiB, well below a millisecond into the page cache).
//!
//! Absent on purpose: sockets, SSE text, prices, and any decision about an intent's end.

pub mod content;
mod cursor;
mod entry;
mod meter;
mod spill;
mod stream;

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mtor_types::{IntentId, Time};

pub use cursor::{Cursor, LastEventId, Next, ParseLastEventIdError};
pub use entry::{ChunkError, Closed, Ended, Entry, Measured, Server, is_all_in_pieces};
pub use meter::{Bounds, Content, Metered, Yield};
pub use stream::IntentStream;

use crate::api_error::ApiError;
use spill::Vault;

/// How much the buffers may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamLimits {
    /// Buffers, open and ended together.
    pub streams_max: usize,
    /// Bytes of one buffer in memory; one piece more at most.
    pub memory_each: u64,
    /// Bytes of one buffer in memory and on disk, over all its attempts.
    pub bytes_each: u64,
    /// Bytes of all buffers in memory. Beyond it ended ones are dropped and open ones spill early.
    pub memory_total: u64,
    /// Bytes of all buffers on disk.
    pub disk_total: u64,
    /// How long a buffer is kept after its intent's end.
    pub kept_ms: u64,
}

impl Default for StreamLimits {
    fn default() -> Self {
        Self {
            streams_max: 200_000,
            memory_each: 256 * 1024,
            bytes_each: 64 * 1024 * 1024,
            memory_total: 64 * 1024 * 1024,
            disk_total: 8 * 1024 * 1024 * 1024,
            kept_ms: 10 * 60 * 1000,
        }
    }
}

/// What a buffer takes besides its pieces and its receipt, about, its place in the maps and the
/// allocator's share included: for the accounts of memory (measured over 300,000 echoes).
const STREAM_BYTES: u64 = 2_048;
/// Ended buffers dropped to make room for one new one, at most.
const DROPPED_AT_ONCE_MAX: usize = 8;

/// All buffers of one edge.
pub struct Streams {
    map: papaya::HashMap<IntentId, Arc<IntentStream>>,
    shared: Arc<Shared>,
}

/// What all buffers have in common.
struct Shared {
    limits: StreamLimits,
    vault: Vault,
    memory: AtomicU64,
    disk: AtomicU64,
    count: AtomicUsize,
    /// In order of their end, because time never goes back.
    ended: Mutex<VecDeque<(Time, IntentId)>>,
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
        let shared = Shared {
            limits,
            vault: Vault::new(dir)?,
            memory: AtomicU64::new(0),
            disk: AtomicU64::new(0),
            count: AtomicUsize::new(0),
            ended: Mutex::default(),
        };
        Ok(Self { map: papaya::HashMap::new(), shared: Arc::new(shared) })
    }

    /// The buffer of a new intent. If there is one already, that one.
    pub fn open(&self, intent: IntentId, bounds: Bounds) -> Result<Arc<IntentStream>, ApiError> {
        let map = self.map.pin();
        if let Some(stream) = map.get(&intent) {
            return Ok(Arc::clone(stream));
        }
        self.make_room()?;
        let stream = Arc::new(IntentStream::new(intent, bounds, Arc::clone(&self.shared), true));
        match map.try_insert(intent, stream) {
            Ok(stream) => {
                self.shared.count.fetch_add(1, Ordering::Relaxed);
                Ok(Arc::clone(stream))
            }
            Err(taken) => Ok(Arc::clone(taken.current)),
        }
    }

    /// A buffer that nobody can come back to: it lives as long as its holders.
    pub fn detached(&self, intent: IntentId, bounds: Bounds) -> Arc<IntentStream> {
        Arc::new(IntentStream::new(intent, bounds, Arc::clone(&self.shared), false))
    }

    pub fn get(&self, intent: IntentId) -> Option<Arc<IntentStream>> {
        self.map.pin().get(&intent).map(Arc::clone)
    }

    /// Drops the buffer: of an intent that was refused. Its cursors come to their end.
    pub fn forget(&self, intent: IntentId) {
        if let Some(stream) = self.map.pin().remove(&intent) {
            self.shared.count.fetch_sub(1, Ordering::Relaxed);
            stream.leave();
        }
    }

    /// Drops what ended long enough ago; gives how many were looked at.
    pub fn expire(&self, now: Time) -> usize {
        let kept_ms = self.shared.limits.kept_ms;
        let mut dropped = 0;
        loop {
            let due = {
                let mut ended = self.shared.ended();
                let due = ended.front().is_some_and(|(at, _)| now.since_ms(*at) >= kept_ms);
                if due { ended.pop_front() } else { None }
            };
            let Some((_, intent)) = due else { return dropped };
            self.forget(intent);
            dropped += 1;
        }
    }

    pub fn totals(&self) -> StreamTotals {
        StreamTotals {
            streams: self.shared.count.load(Ordering::Relaxed),
            memory_bytes: self.shared.memory.load(Ordering::Relaxed),
            disk_bytes: self.shared.disk.load(Ordering::Relaxed),
        }
    }

    fn make_room(&self) -> Result<(), ApiError> {
        for _ in 0..DROPPED_AT_ONCE_MAX {
            if !self.is_full() {
                return Ok(());
            }
            let Some((_, intent)) = self.shared.ended().pop_front() else { break };
            self.forget(intent);
        }
        // Only the count refuses new work: over its share of memory a buffer spills.
        let count = self.shared.count.load(Ordering::Relaxed);
        if count < self.shared.limits.streams_max { Ok(()) } else { Err(ApiError::overloaded()) }
    }

    fn is_full(&self) -> bool {
        let totals = self.totals();
        let limits = &self.shared.limits;
        // A part of the disk is left for buffers that are not over.
        totals.streams >= limits.streams_max
            || totals.memory_bytes >= limits.memory_total
            || totals.disk_bytes >= limits.disk_total / 8 * 7
    }
}

impl Shared {
    fn ended(&self) -> MutexGuard<'_, VecDeque<(Time, IntentId)>> {
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
