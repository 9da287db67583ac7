//! How a buffer gets to disk and back: what memory has no room for while it runs, and all of it once it
//! is over. The shares of memory and disk are asked here.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use mtor_core::share::Whose;
use mtor_types::IntentId;

use super::super::entries::{BLOCK_BYTES, BLOCK_INDEX_BYTES, SLOT_BYTES};
use super::super::entry::{ChunkError, Ended, Entry};
use super::super::meter::Bounds;
use super::super::record::{Whole, Word};
use super::super::spill::{Extents, Name, Place, sealed_bytes};
use super::{Body, IntentStream, Phase, STEP_BYTES, Shared, State, TIGHT_BYTES};

impl IntentStream {
    /// Room for a piece, or nothing changed. What is older than the newest half window goes to
    /// disk, so that readers at the end of the stream read from memory.
    pub(super) fn make_room(&self, state: &mut State, bytes: u64) -> Result<(), ChunkError> {
        if state.taken + bytes > self.shared.limits.bytes_each {
            return Err(ChunkError::Full);
        }
        let memory_each = self.shared.memory_each();
        state.is_tight = !self.may_hold(state, bytes + SLOT_BYTES);
        let window = if state.is_tight { TIGHT_BYTES } else { memory_each };
        if state.memory + bytes + SLOT_BYTES > window {
            self.spill(state, if state.is_tight { 0 } else { window / 2 })?;
        }
        state.taken += bytes;
        Ok(())
    }

    /// Whether its holder's share of memory has so much more.
    fn may_hold(&self, state: &mut State, more: u64) -> bool {
        let lacks = (state.takes() + more).saturating_sub(state.here.size());
        lacks == 0 || state.here.try_grow(lacks.next_multiple_of(STEP_BYTES)).is_ok()
    }

    /// Takes so much of the holder's share of the disk. What of its own is over makes room for what is
    /// not.
    fn take_disk(&self, state: &mut State, bytes: u64) -> Result<(), ChunkError> {
        let away = state.away.get_or_insert_with(|| self.shared.kept.spill.keep(self.holder, 0));
        loop {
            let Err(refused) = away.try_grow(bytes) else { return Ok(()) };
            if !self.shared.forget_packed_of(&self.holder, refused.whose) {
                let everybody = refused.whose == Whose::Everybody;
                return Err(if everybody {
                    ChunkError::NoRoom
                } else {
                    ChunkError::Share(refused)
                });
            }
        }
    }

    /// What is held of it is what stands there.
    fn settle_disk(state: &mut State) {
        let there = state.extents.as_ref().map_or(0, |extents| extents.bytes());
        if let Some(away) = &mut state.away {
            away.shrink(away.size().saturating_sub(there));
        }
    }

    /// A result too large for memory goes to disk at once.
    pub(super) fn keep(&self, state: &mut State, result: Bytes) -> Result<Body, ChunkError> {
        let bytes = result.len() as u64;
        if bytes <= self.shared.memory_each() && self.may_hold(state, bytes) {
            self.make_room(state, bytes)?;
            self.reserve(state, bytes);
            return Ok(Body::Here(result));
        }
        if state.taken + bytes > self.shared.limits.bytes_each {
            return Err(ChunkError::Full);
        }
        let places = self.write(state, &[(Name::RESULT, &result)])?;
        state.taken += bytes;
        places.first().map(|place| Body::Away(*place)).ok_or(ChunkError::NoRoom)
    }

    /// Moves the oldest entries to disk until those in memory take at most `left_max`, or the end is
    /// next.
    pub(super) fn spill(&self, state: &mut State, left_max: u64) -> Result<(), ChunkError> {
        let oldest = state.entries.oldest(state.memory, left_max);
        let spilled = oldest.map_err(|_| ChunkError::NoRoom)?;
        if spilled.entries == 0 {
            return Ok(());
        }
        let records: Vec<(u64, &[u8])> = spilled.records().collect();
        let places = self.write(state, &records)?;
        let before = state.entries.index_bytes();
        state.entries.spilled(&spilled, &places);
        let index = state.entries.index_bytes() - before;
        self.shared.memory.fetch_add(index, Ordering::Relaxed);
        state.here.add(index);
        self.release(state, spilled.freed);
        Ok(())
    }

    /// Seals and writes, all or nothing.
    fn write(&self, state: &mut State, parts: &[(u64, &[u8])]) -> Result<Vec<Place>, ChunkError> {
        let name = |part| Name { intent: self.id, part };
        let records: Vec<_> = parts.iter().map(|(part, plain)| (name(*part), *plain)).collect();
        let bytes = parts.iter().map(|(_, plain)| sealed_bytes(plain.len())).sum();
        self.take_disk(state, bytes)?;
        let Ok(places) = self.shared.vault.write(&records) else {
            Self::settle_disk(state);
            return Err(ChunkError::NoRoom);
        };
        let new = || Arc::new(Extents::new(Arc::clone(&self.shared.vault)));
        state.extents.get_or_insert_with(new).add(&places);
        Ok(places)
    }

    /// All of it in one record, what is large in records before that. `None` if it is not over, or
    /// somebody reads it, who then finds the next entries on disk.
    pub(in super::super) fn whole(&self) -> Result<Option<Vec<u8>>, ChunkError> {
        let mut state = self.state();
        if state.phase != Phase::Over || state.cleared {
            return Ok(None);
        }
        let left_max = if state.readers > 0 { 0 } else { BLOCK_BYTES as u64 };
        self.spill(&mut state, left_max)?;
        self.spill_result(&mut state)?;
        if state.readers > 0 {
            return Ok(None);
        }
        let State { entries, result, .. } = &*state;
        let whole = Whole {
            model: self.model(),
            admission: entries.admission,
            given_up: entries.given_up,
            blocks: entries.blocks.clone(),
            restarts: entries.restarts.clone(),
            result: result.as_ref().and_then(Body::place),
            tail: entries.tail.iter().map(|slot| Word::of(slot.as_ref())).collect(),
        };
        let whole = postcard::to_stdvec(&whole).map_err(|_| ChunkError::NoRoom)?;
        // It may have been taken for it before, and nothing came of it.
        Self::settle_disk(&mut state);
        self.take_disk(&mut state, sealed_bytes(whole.len()))?;
        Ok(Some(whole))
    }

    /// A large result of one that is over.
    fn spill_result(&self, state: &mut State) -> Result<(), ChunkError> {
        let Some(Entry::End(ended)) = state.entries.end() else { return Ok(()) };
        let result = ended.result.clone().filter(|result| result.len() > BLOCK_BYTES);
        let Some(result) = result else { return Ok(()) };
        let without = Arc::new(Ended { result: None, ..(**ended).clone() });
        let places = self.write(state, &[(Name::RESULT, &result)])?;
        state.result = places.first().map(|place| Body::Away(*place));
        state.entries.set_end(without);
        self.release(state, result.len() as u64);
        Ok(())
    }

    /// Lets go of what `keep` says is on disk as a whole now, unless somebody began to read it.
    pub(in super::super) fn pack(&self, keep: impl FnOnce(Option<Arc<Extents>>) -> bool) -> bool {
        let mut state = self.state();
        if state.cleared || state.readers > 0 || !keep(state.extents.clone()) {
            return false;
        }
        state.packed = true;
        state.clear(&self.shared);
        true
    }

    /// A packed one, as it was.
    pub(in super::super) fn unpacked(id: IntentId, shared: &Arc<Shared>) -> Option<Arc<Self>> {
        let (packed, holder) = shared.ended().find(id)?;
        let read = || {
            let record = shared.vault.read(Name { intent: id, part: Name::WHOLE }, packed.place)?;
            let whole: Whole<'_> = postcard::from_bytes(&record).map_err(io::Error::other)?;
            let stream = Self::new(id, Bounds::NONE, holder, Arc::clone(shared), false);
            stream.set_model(whole.model);
            let mut state = stream.state();
            let index = whole.blocks.len() as u64 * BLOCK_INDEX_BYTES;
            shared.memory.fetch_add(index, Ordering::Relaxed);
            state.entries.admission = whole.admission;
            state.entries.given_up = whole.given_up;
            state.entries.blocks = whole.blocks;
            state.entries.restarts = whole.restarts;
            state.entries.tail = whole.tail.into_iter().map(|word| word.entry(&record)).collect();
            state.result = whole.result.map(Body::Away);
            state.extents = packed.more;
            state.phase = Phase::Over;
            stream.reserve(&mut state, record.len() as u64);
            drop(state);
            io::Result::Ok(Arc::new(stream))
        };
        match read() {
            Ok(stream) => Some(stream),
            Err(error) => {
                // What left in this moment may be written over.
                if shared.ended().find(id).is_some() {
                    tracing::error!(intent = %id, error = &error as &dyn std::error::Error, "events");
                }
                None
            }
        }
    }

    /// Itself, or what was packed of it: who holds it need not know.
    pub(super) fn readable(self: &Arc<Self>) -> Arc<Self> {
        let is_packed = self.state().packed;
        let unpacked = is_packed.then(|| Self::unpacked(self.id, &self.shared)).flatten();
        unpacked.unwrap_or_else(|| Arc::clone(self))
    }
}
