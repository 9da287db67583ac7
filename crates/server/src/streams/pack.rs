//! Packing: what is over goes to disk, many at once, the oldest first.
//!
//! Whoever opens a buffer while those in memory take more than they should packs some, so that work
//! brings its own cleaning; only one does it at a time. One pass seals some dozens of intents and writes
//! them in one call, into the page cache: nothing is synced, because nothing of it outlives the process.
//!
//! Who has more than its share of memory has its own packed, whatever the others have; if that is not
//! enough, or its share of the disk is used up, its own oldest are forgotten before their time. What is
//! open is never forgotten.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use mtor_core::share::{Holder, Whose};
use mtor_types::IntentId;

use super::entry::ChunkError;
use super::shelf::{Packed, Row};
use super::spill::Name;
use super::{IntentStream, ROW_BYTES, STREAM_BYTES, Shared, Streams};

/// Intents of one pass, and bytes that it takes out of memory, about.
const AT_ONCE_MAX: usize = 64;
const BYTES_AT_ONCE: usize = 256 * 1024;
/// Of one holder forgotten to make room for one new one, at most.
const FORGOTTEN_AT_ONCE_MAX: usize = 8;

/// Who packs just now.
#[derive(Default)]
pub(super) struct Packer(Mutex<()>);

type Whole = (u64, Arc<IntentStream>, Vec<u8>);

impl Streams {
    /// Packs some of the oldest that are over, if memory has to be freed.
    pub(super) fn pack(&self) {
        if self.memory_here() <= self.shared.limits.memory_here {
            return;
        }
        // Somebody does it already, or failed at it, and nothing is lost by that.
        let Ok(_alone) = self.packer.0.try_lock() else { return };
        let mut candidates = Vec::new();
        for _ in 0..AT_ONCE_MAX {
            candidates.extend(self.shared.ended().next_to_pack());
        }
        self.pack_some(&candidates);
        // Their receipt is to come, or somebody reads them: in their turn again.
        for (order, intent) in candidates {
            if self.get_here(intent).is_some() {
                self.shared.ended().later(order);
            }
        }
    }

    /// Makes room in what a holder may have of the memory, out of its own.
    pub(super) fn make_room_of(&self, holder: &Holder) {
        let used = || self.shared.kept.replay.check(holder, STREAM_BYTES).err();
        let Some(refused) = used() else { return };
        if let Ok(_alone) = self.packer.0.try_lock() {
            let own = self.shared.ended().to_pack_of(holder, refused.whose, AT_ONCE_MAX);
            self.pack_some(&own);
        }
        for _ in 0..FORGOTTEN_AT_ONCE_MAX {
            let Some(refused) = used() else { return };
            let oldest = self.shared.ended().pop_of(holder, refused.whose, true);
            let Some(row) = oldest else { return };
            self.drop_row(row);
        }
    }

    /// Those of them that can be.
    fn pack_some(&self, candidates: &[(u64, IntentId)]) {
        let mut wholes: Vec<Whole> = Vec::new();
        let mut bytes = 0;
        for (order, intent) in candidates {
            let Some(stream) = self.get_here(*intent) else { continue };
            match stream.whole() {
                Ok(Some(whole)) => {
                    bytes += whole.len();
                    wholes.push((*order, stream, whole));
                }
                // There is no room on the disk for it, and nothing older of its holder.
                Err(ChunkError::Share(_)) => {
                    let row = self.shared.ended().remove(*order);
                    row.into_iter().for_each(|row| self.drop_row(row));
                }
                Ok(None) | Err(_) => {}
            }
            if bytes >= BYTES_AT_ONCE {
                break;
            }
        }
        if wholes.is_empty() {
            return;
        }
        let record = |stream: &IntentStream| Name { intent: stream.id(), part: Name::WHOLE };
        let records: Vec<(Name, &[u8])> =
            wholes.iter().map(|(_, stream, whole)| (record(stream), whole.as_slice())).collect();
        let Ok(places) = self.shared.vault.write(&records) else {
            // What was kept longest makes room on a disk that has no more.
            let oldest = wholes.iter().filter_map(|_| self.pop(|_| true));
            return oldest.for_each(|row| self.drop_row(row));
        };
        for ((order, stream, _), place) in wholes.iter().zip(places) {
            if stream.pack(|more| self.shared.pack(*order, Packed { place, more })) {
                self.forget(stream.id());
            } else {
                self.shared.vault.give_back(place);
            }
        }
    }

    /// Without the rows of what is packed.
    fn memory_here(&self) -> u64 {
        let rows = self.shared.ended().packed_count() as u64 * ROW_BYTES;
        self.shared.memory.load(Ordering::Relaxed).saturating_sub(rows)
    }
}

impl Shared {
    fn pack(&self, order: u64, packed: Packed) -> bool {
        let mut ended = self.ended();
        let is_packed = ended.pack(order, packed);
        if is_packed {
            self.memory.fetch_add(ROW_BYTES, Ordering::Relaxed);
        }
        is_packed
    }

    /// Forgets the oldest that a holder, or its network, has on disk and that is over. False if there is
    /// none.
    pub(super) fn forget_packed_of(&self, holder: &Holder, whose: Whose) -> bool {
        let oldest = self.ended().pop_of(holder, whose, true);
        oldest.is_some_and(|row| self.let_go(row))
    }

    /// Of what was packed. False if that was not.
    pub(super) fn let_go(&self, row: Row) -> bool {
        let Some(packed) = row.packed else { return false };
        self.memory.fetch_sub(ROW_BYTES, Ordering::Relaxed);
        self.vault.give_back(packed.place);
        true
    }
}
