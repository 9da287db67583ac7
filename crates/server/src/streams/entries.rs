//! The entries of one intent in their order: on disk what is older, in memory what is newer.
//!
//! A place in it is a number that never changes. The first two are those of admission, which may come
//! after an attempt has begun; then come *blocks*, each of some entries in one record on disk, and
//! behind them the tail, in memory. A piece of an attempt that was given up is void wherever it stands.
//! What is in memory of a block is its place and which pieces it has, so an answer of any length costs
//! little once it is on disk.
//!
//! Knows no lock, no file and no share.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use mtor_types::fact::Asset;
use mtor_types::{Amount, Attempt};
use serde::{Deserialize, Serialize};

use super::cursor::LastEventId;
use super::entry::{Ended, Entry};
use super::record::Word;
use super::spill::Place;

/// What an entry takes besides its bytes, and a block.
pub(super) const SLOT_BYTES: u64 = size_of::<Option<Entry>>() as u64;
pub(super) const BLOCK_INDEX_BYTES: u64 = size_of::<Block>() as u64;
/// Entries of one block have so many bytes, or it is one entry: what is read to give one of them.
pub(super) const BLOCK_BYTES: usize = 16 * 1024;
/// Places of admission.
const FIRST: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Admission {
    pub(super) asset: Asset,
    pub(super) hold: Amount,
    /// Position and wait; not known of what is recalled.
    pub(super) queued: Option<(u64, u64)>,
}

/// Entries in one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Block {
    pub(super) at: usize,
    count: usize,
    pub(super) place: Place,
    /// Of its pieces the first and the last.
    pieces: Option<(LastEventId, LastEventId)>,
}

/// A block that was read.
pub(super) struct Opened {
    at: usize,
    entries: Vec<Option<Entry>>,
}

pub(super) struct Entries {
    pub(super) admission: Option<Admission>,
    pub(super) blocks: Vec<Block>,
    pub(super) tail: Vec<Option<Entry>>,
    /// Where attempts were given up.
    pub(super) restarts: Vec<(usize, Attempt)>,
    /// Up to here they were, for good.
    pub(super) given_up: Option<Attempt>,
}

/// What stands at a place.
pub(super) enum At<'a> {
    Entry(Entry),
    Block(&'a Block),
    Void,
    Beyond,
}

/// Entries that are to become blocks, sealed or not.
pub(super) struct Spilled {
    /// Of each: its first place, its entries, their pieces, and their bytes.
    groups: Vec<Group>,
    /// Entries of the tail in all, and what they take in memory.
    pub(super) entries: usize,
    pub(super) freed: u64,
}

struct Group {
    at: usize,
    count: usize,
    pieces: Option<(LastEventId, LastEventId)>,
    plain: Vec<u8>,
}

impl Entries {
    /// For so many in the tail.
    pub(super) fn new(expected: usize) -> Self {
        Self {
            admission: None,
            blocks: Vec::new(),
            tail: Vec::with_capacity(expected),
            restarts: Vec::new(),
            given_up: None,
        }
    }

    pub(super) fn push(&mut self, entry: Entry) {
        self.tail.push(Some(entry));
    }

    fn tail_at(&self) -> usize {
        self.blocks.last().map_or(FIRST, |block| block.at + block.count)
    }

    pub(super) fn find(&self, at: usize, opened: Option<&Opened>) -> At<'_> {
        if at < FIRST {
            let is_empty = self.blocks.is_empty() && self.tail.is_empty();
            let Some(Admission { asset, hold, queued }) = self.admission else {
                return if is_empty { At::Beyond } else { At::Void };
            };
            return match (at, queued) {
                (0, _) => At::Entry(Entry::Accepted { asset, hold }),
                (_, Some((position, wait_ms))) => At::Entry(Entry::Queued { position, wait_ms }),
                (_, None) => At::Void,
            };
        }
        let (tail_at, found) = (self.tail_at(), |entry: Option<&Option<Entry>>| match entry {
            Some(Some(entry)) if !self.is_void(entry) => At::Entry(entry.clone()),
            Some(_) => At::Void,
            None => At::Beyond,
        });
        if at >= tail_at {
            return found(self.tail.get(at - tail_at));
        }
        let next = self.blocks.partition_point(|block| block.at <= at);
        let Some(block) = next.checked_sub(1).and_then(|index| self.blocks.get(index)) else {
            return At::Void;
        };
        match opened.filter(|opened| opened.at == block.at) {
            Some(opened) => found(opened.entries.get(at - block.at)),
            None => At::Block(block),
        }
    }

    fn is_void(&self, entry: &Entry) -> bool {
        matches!(entry, Entry::Chunk { attempt, .. } if Some(*attempt) <= self.given_up)
    }

    /// Pieces of these attempts are void from now on; gives what that frees. What tells so is next.
    pub(super) fn give_up(&mut self, attempt: Attempt) -> u64 {
        self.given_up = self.given_up.max(Some(attempt));
        let mut freed = 0;
        for slot in &mut self.tail {
            if let Some(Entry::Chunk { attempt: of, piece, .. }) = slot
                && *of <= attempt
            {
                freed += piece.len() as u64;
                *slot = None;
            }
        }
        self.restarts.push((self.tail_at() + self.tail.len(), attempt));
        freed
    }

    /// The block in which that piece may stand.
    pub(super) fn block_of(&self, piece: LastEventId) -> Option<Block> {
        let holds =
            |block: &&Block| block.pieces.is_some_and(|(from, to)| from <= piece && piece <= to);
        self.blocks.iter().find(holds).filter(|_| Some(piece.attempt) > self.given_up).copied()
    }

    /// The place of a piece of the tail.
    pub(super) fn place_in_tail(&self, piece: LastEventId) -> Option<usize> {
        let index = self.tail.iter().rposition(|slot| is_piece(slot.as_ref(), piece))?;
        Some(self.tail_at() + index)
    }

    /// Where the first attempt as new as that one was given up.
    pub(super) fn restart_of(&self, attempt: Attempt) -> Option<usize> {
        self.restarts.iter().find(|(_, of)| *of >= attempt).map(|(at, _)| *at)
    }

    /// The end, with its place.
    pub(super) fn end(&self) -> Option<&Entry> {
        self.tail.iter().rev().flatten().find(|entry| matches!(entry, Entry::End(_)))
    }

    pub(super) fn set_end(&mut self, ended: Arc<Ended>) {
        let is_end = |slot: &&mut Option<Entry>| matches!(slot, Some(Entry::End(_)));
        if let Some(slot) = self.tail.iter_mut().rev().find(is_end) {
            *slot = Some(Entry::End(ended));
        }
    }

    pub(super) fn has_pieces(&self) -> bool {
        let block =
            |block: &Block| block.pieces.is_some_and(|(_, to)| Some(to.attempt) > self.given_up);
        let in_tail = self.tail.iter().flatten().any(|entry| matches!(entry, Entry::Chunk { .. }));
        in_tail || self.blocks.iter().any(block)
    }

    /// The oldest of the tail, in groups for blocks, until what is left takes at most `left_max` of
    /// `memory`. The end, and what follows it, stays.
    pub(super) fn oldest(&self, memory: u64, left_max: u64) -> io::Result<Spilled> {
        let mut spilled = Spilled { groups: Vec::new(), entries: 0, freed: 0 };
        let mut words: Vec<Word<'_>> = Vec::new();
        let mut pieces: Option<(LastEventId, LastEventId)> = None;
        let (mut bytes, tail_at) = (0, self.tail_at());
        for slot in &self.tail {
            if memory.saturating_sub(spilled.freed) <= left_max
                || matches!(slot, Some(Entry::End(_)))
            {
                break;
            }
            if let Some(Entry::Chunk { attempt, seq, piece }) = slot {
                let this = LastEventId { attempt: *attempt, seq: *seq };
                pieces = Some((pieces.map_or(this, |(first, _)| first), this));
                bytes += piece.len();
                spilled.freed += piece.len() as u64;
            }
            spilled.freed += SLOT_BYTES;
            spilled.entries += 1;
            words.push(Word::of(slot.as_ref()));
            if bytes >= BLOCK_BYTES {
                spilled.groups.push(Group::new(tail_at, spilled.entries, &words, pieces)?);
                (words, pieces, bytes) = (Vec::new(), None, 0);
            }
        }
        if !words.is_empty() {
            spilled.groups.push(Group::new(tail_at, spilled.entries, &words, pieces)?);
        }
        Ok(spilled)
    }

    /// They stand at these places now.
    pub(super) fn spilled(&mut self, spilled: &Spilled, places: &[Place]) {
        self.tail.drain(..spilled.entries);
        let blocks = spilled.groups.iter().zip(places).map(|(group, place)| {
            let Group { at, count, pieces, .. } = *group;
            Block { at, count, pieces, place: *place }
        });
        self.blocks.extend(blocks);
    }

    /// Nothing more will come: no room is kept for it.
    pub(super) fn shrink(&mut self) {
        self.tail.shrink_to_fit();
        self.blocks.shrink_to_fit();
        self.restarts.shrink_to_fit();
    }

    /// What its indices take in memory.
    pub(super) fn index_bytes(&self) -> u64 {
        self.blocks.len() as u64 * BLOCK_INDEX_BYTES
    }
}

impl Spilled {
    /// First place and bytes of each.
    pub(super) fn records(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.groups.iter().map(|group| (group.at as u64, group.plain.as_slice()))
    }
}

impl Group {
    /// Of the last words of so many entries behind `tail_at`.
    fn new(
        tail_at: usize,
        entries: usize,
        words: &[Word<'_>],
        pieces: Option<(LastEventId, LastEventId)>,
    ) -> io::Result<Self> {
        let (at, count) = (tail_at + entries - words.len(), words.len());
        let plain = postcard::to_stdvec(words).map_err(io::Error::other)?;
        Ok(Self { at, count, pieces, plain })
    }
}

impl Opened {
    pub(super) fn new(at: usize, record: &Bytes) -> io::Result<Self> {
        let words: Vec<Word<'_>> = postcard::from_bytes(record).map_err(io::Error::other)?;
        let entries = words.into_iter().map(|word| word.entry(record)).collect();
        Ok(Self { at, entries })
    }

    pub(super) fn place_of(&self, piece: LastEventId) -> Option<usize> {
        let index = self.entries.iter().position(|slot| is_piece(slot.as_ref(), piece))?;
        Some(self.at + index)
    }
}

fn is_piece(slot: Option<&Entry>, piece: LastEventId) -> bool {
    matches!(slot, Some(Entry::Chunk { attempt, seq, .. })
        if (*attempt, *seq) == (piece.attempt, piece.seq))
}
