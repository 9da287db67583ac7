//! The buffer of one intent.

mod away;

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use mtor_core::share::Holder;
use mtor_types::fact::Asset;
use mtor_types::intent::{End, Outcome, Usage};
use mtor_types::{Amount, Attempt, IntentId, Time};
use tokio::sync::Notify;

use super::entries::{Admission, At, Entries, Opened, SLOT_BYTES};
use super::entry::{ChunkError, Closed, Ended, Entry, Measured, Server, is_all_in_pieces};
use super::meter::{Bounds, Meter, Metered};
use super::spill::{Extents, Name, Place};
use super::{Cursor, LastEventId, STREAM_BYTES, Shared};
use crate::shares::Portion;

/// Memory is taken of the holder's share in such steps, beyond what a small answer needs.
const STEP_BYTES: u64 = 8 * 1024;
/// An open one has so much, whatever its holder has: with less, each small piece would be a block.
const TIGHT_BYTES: u64 = 4 * 1024;

/// A bounded buffer with one writer and many readers.
pub struct IntentStream {
    id: IntentId,
    holder: Holder,
    /// Kept for a while after its end, for those who come back.
    kept: bool,
    /// Of the intent, for who reads its events.
    model: OnceLock<Box<str>>,
    shared: Arc<Shared>,
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    entries: Entries,
    meter: Meter,
    attempt: Option<Attempt>,
    /// The current attempt may send.
    open: bool,
    /// Its worker came back and sends again from the first piece.
    adopted: bool,
    completed: bool,
    /// Its figure was read: no attempt that ran then may add to it.
    stopped: bool,
    next_seq: u64,
    /// Until the end, which has it then, unless it is on disk.
    result: Option<Body>,
    phase: Phase,
    /// Bytes of entries in memory.
    memory: u64,
    /// Bytes of pieces taken in all.
    taken: u64,
    /// What stands on disk.
    extents: Option<Arc<Extents>>,
    /// Of the holder's share of memory, in steps, and of disk.
    here: Portion,
    away: Option<Portion>,
    /// There is hardly any more for it in memory: what comes goes to disk.
    is_tight: bool,
    readers: usize,
    /// Done when the last reader leaves before the end: for work that lives with its readers.
    unheard: Option<Unheard>,
    /// Out of the map: let go as soon as nobody reads. The map itself drops it some time later.
    left: bool,
    /// Let go, and taken off the accounts.
    cleared: bool,
    /// Let go because it stands on disk as a whole: who comes now reads it there.
    packed: bool,
}

type Unheard = Box<dyn FnOnce(IntentId) + Send>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    Ended,
    /// Nothing more will come.
    Over,
}

enum Body {
    Here(Bytes),
    Away(Place),
}

/// What a cursor finds at its place.
pub(super) enum Found {
    Entry(Entry),
    /// To be read from disk, without the lock.
    Away(Away),
    Void,
    NothingYet,
    Over,
}

pub(super) struct Away {
    /// Nothing of it is written over before it is read.
    _extents: Option<Arc<Extents>>,
    place: Place,
    what: AwayWhat,
}

enum AwayWhat {
    Block { at: usize },
    Result(Arc<Ended>),
}

pub(super) enum Fetched {
    Block(Opened),
    Entry(Entry),
}

impl IntentStream {
    pub(super) fn new(
        id: IntentId,
        bounds: Bounds,
        holder: Holder,
        shared: Arc<Shared>,
        kept: bool,
    ) -> Self {
        shared.memory.fetch_add(STREAM_BYTES, Ordering::Relaxed);
        let state = State {
            // Of an intent with one result: started, end, settled.
            entries: Entries::new(3),
            meter: Meter::new(bounds),
            attempt: None,
            open: false,
            adopted: false,
            completed: false,
            stopped: false,
            next_seq: 0,
            result: None,
            phase: Phase::Running,
            memory: 0,
            taken: 0,
            extents: None,
            here: shared.kept.replay.keep(holder, STREAM_BYTES),
            away: None,
            is_tight: false,
            readers: 0,
            unheard: None,
            left: false,
            cleared: false,
            packed: false,
        };
        let (model, changed) = (OnceLock::new(), Notify::new());
        Self { id, holder, kept, model, shared, state: Mutex::new(state), changed }
    }

    /// The model that serves it, once that is known.
    pub fn model(&self) -> Option<&str> {
        self.model.get().map(|model| &**model)
    }

    /// It never changes: what is told later is not taken.
    pub fn set_model(&self, model: Option<&str>) {
        if let Some(model) = model {
            let _ = self.model.set(model.into());
        }
    }

    pub fn id(&self) -> IntentId {
        self.id
    }

    /// Every entry from the first.
    pub fn subscribe(self: &Arc<Self>) -> Cursor {
        Cursor::new(self.readable(), 0, None)
    }

    /// What comes after the last event that a client saw. If its attempt was given up since, the
    /// first entry is `Restarted`.
    pub fn resume(self: &Arc<Self>, last: LastEventId) -> Cursor {
        let stream = self.readable();
        // Held by its reader from here on.
        let mut cursor = Cursor::new(Arc::clone(&stream), 0, Some(last));
        let (known, block, restart) = {
            let state = stream.state();
            let entries = &state.entries;
            let away = entries.block_of(last).map(|block| state.block(block.place, block.at));
            (entries.place_in_tail(last), away, entries.restart_of(last.attempt))
        };
        // What cannot be read now is told to the reader who comes to it.
        let in_block = || match stream.fetch(block?) {
            Ok(Fetched::Block(opened)) => opened.place_of(last),
            Ok(Fetched::Entry(_)) | Err(_) => None,
        };
        let seen = known.or_else(in_block).map(|at| at + 1);
        cursor.go_to(seen.or(restart).unwrap_or(0));
        cursor
    }

    /// The core has taken the intent.
    pub fn accepted(&self, asset: Asset, hold: Amount, position: u64, wait_ms: u64) {
        let mut state = self.state();
        if state.phase == Phase::Running {
            // A free slot may have begun already: its effect leaves before that of admission. No
            // client knows the intent before this, so nobody has read past the front.
            let queued = Some((position, wait_ms));
            state.entries.admission = Some(Admission { asset, hold, queued });
            self.tell(state);
        }
    }

    /// An attempt begins; `limit` is the most units that will be paid. False if it is not newer
    /// than the one before, or the intent is over: then nothing changed.
    pub fn begin(&self, attempt: Attempt, by: Server, limit: u64) -> bool {
        let mut state = self.state();
        let before = state.attempt.max(state.entries.given_up);
        // After a stop its figure is on its way: nothing more may be delivered.
        let over = state.phase != Phase::Running || state.stopped;
        if over || before.is_some_and(|before| before >= attempt) {
            return false;
        }
        state.attempt = Some(attempt);
        state.open = true;
        state.adopted = false;
        state.completed = false;
        state.next_seq = 0;
        self.drop_result(&mut state);
        state.meter.begin(limit);
        self.push(&mut state, Entry::Started { attempt, by }, 0);
        self.tell(state);
        true
    }

    /// A reconnected worker keeps its attempt and sends every piece again from the first: those
    /// that stand here already are skipped. False if the attempt is an older one.
    pub fn adopt(&self, attempt: Attempt, by: Server, limit: u64) -> bool {
        {
            let mut state = self.state();
            if state.attempt == Some(attempt) {
                let running =
                    state.phase == Phase::Running && state.entries.given_up < Some(attempt);
                state.adopted = true;
                state.open = running && !state.completed && !state.stopped;
                state.meter.set_limit(limit);
                return running;
            }
        }
        self.begin(attempt, by, limit)
    }

    /// Takes a piece and meters it. A repeated piece of an adopted attempt is skipped.
    pub fn chunk(
        &self,
        attempt: Attempt,
        seq: u64,
        count: u64,
        piece: Measured,
    ) -> Result<Metered, ChunkError> {
        let Measured { bytes: piece, content } = piece;
        let mut state = self.state();
        if state.attempt != Some(attempt) || !state.open {
            return Err(ChunkError::Stale);
        }
        if seq < state.next_seq && state.adopted {
            return Ok(state.meter.now());
        }
        if seq != state.next_seq {
            return Err(ChunkError::Sequence { expected: state.next_seq });
        }
        // Metered first, and undone if there is no room: the attempt is over then.
        let metered = state.meter.piece(content, count)?;
        self.make_room(&mut state, piece.len() as u64)?;
        state.next_seq += 1;
        let bytes = piece.len() as u64;
        self.push(&mut state, Entry::Chunk { attempt, seq, piece }, bytes);
        if state.is_tight && state.memory > TIGHT_BYTES {
            self.spill(&mut state, 0)?;
        }
        self.tell(state);
        Ok(metered)
    }

    /// The worker is done: nothing more is taken, the result waits for [`IntentStream::finish`].
    /// Said again, it gives the same figures. What is no answer is not taken.
    pub fn complete(
        &self,
        attempt: Attempt,
        claim: Usage,
        result: Option<Measured>,
    ) -> Result<Closed, ChunkError> {
        let mut state = self.state();
        if state.attempt != Some(attempt) || !(state.open || state.completed) {
            return Err(ChunkError::Stale);
        }
        if !state.completed {
            let delivered = state.next_seq > 0;
            state.meter.complete(result.as_ref().map(|result| result.content), claim)?;
            let result = result.filter(|result| !is_all_in_pieces(&result.bytes, delivered));
            let kept = result.map(|result| self.keep(&mut state, result.bytes)).transpose()?;
            state.result = kept;
            state.completed = true;
            state.open = false;
        }
        Ok(state.closed())
    }

    /// Bytes of content that came in pieces of the attempt.
    pub fn content_in_pieces(&self) -> u64 {
        self.state().meter.content_in_pieces()
    }

    /// Whether pieces hold any of the answer: its result says the same then.
    pub fn is_in_pieces(&self) -> bool {
        self.state().meter.is_in_pieces()
    }

    /// What one answer may have of `limit` units, if its manifest counts output.
    pub fn output_each(&self, limit: u64) -> Option<u64> {
        self.state().meter.output_each(limit)
    }

    /// Whether that attempt's worker is done, and the intent is not over yet.
    pub fn is_complete(&self, attempt: Attempt) -> bool {
        let state = self.state();
        state.completed && state.attempt == Some(attempt)
    }

    /// The ceiling is used up: the attempt is complete with what was taken. `None` if it is not the
    /// current one, or closed already.
    pub fn cut(&self, attempt: Attempt) -> Option<Closed> {
        let mut state = self.state();
        if state.attempt != Some(attempt) || !state.open {
            return None;
        }
        state.open = false;
        state.completed = true;
        Some(state.closed())
    }

    /// Stops taking pieces and gives the figures, at once: no piece is taken after the figure was
    /// read. `None` if `attempt` is named and is not the current one. Said again, it gives the
    /// same figures.
    pub fn close(&self, attempt: Option<Attempt>) -> Option<Closed> {
        let mut state = self.state();
        if attempt.is_some() && attempt != state.attempt {
            return None;
        }
        state.open = attempt.is_none() && mtor_types::mutant!("stop-forwards-on");
        state.stopped |= attempt.is_none();
        Some(state.closed())
    }

    /// Whether it was stopped for its client.
    pub fn is_stopped(&self) -> bool {
        self.state().stopped
    }

    /// The figures so far.
    pub fn usage(&self) -> Usage {
        self.state().meter.usage()
    }

    /// That attempt is given up, its pieces are void, and another will begin.
    pub fn restarted(&self, attempt: Attempt) {
        let mut state = self.state();
        if state.phase != Phase::Running {
            return;
        }
        let freed = state.entries.give_up(attempt);
        if state.attempt <= Some(attempt) {
            state.open = false;
            state.completed = false;
            self.drop_result(&mut state);
        }
        self.release(&mut state, freed);
        self.push(&mut state, Entry::Restarted { attempt }, 0);
        self.tell(state);
    }

    /// The intent's one end, as the accountant resolved it. The first one counts.
    pub fn finish(&self, now: Time, end: End, message: Option<String>) {
        let mut state = self.state();
        if state.phase != Phase::Running {
            return;
        }
        state.phase = Phase::Ended;
        state.open = false;
        if !matches!(end.outcome, Outcome::Completed(_)) {
            self.drop_result(&mut state);
        }
        let result = match &mut state.result {
            Some(Body::Here(result)) => Some(std::mem::take(result)),
            Some(Body::Away(_)) | None => None,
        };
        // What of it is in memory was counted when it came.
        self.push(&mut state, Entry::End(Arc::new(Ended { end, message, result })), 0);
        self.tell(state);
        if self.kept {
            self.shared.ended().ended(now, self.id, self.holder);
        }
    }

    /// The resolution is synced; `receipt` is JSON.
    pub fn settle(&self, receipt: Bytes) {
        let mut state = self.state();
        if state.phase == Phase::Ended {
            state.phase = Phase::Over;
            let bytes = receipt.len() as u64;
            self.push(&mut state, Entry::Settled(receipt), bytes);
            state.entries.shrink();
            let spare = state.here.size().saturating_sub(state.takes());
            state.here.shrink(spare);
            self.tell(state);
        }
    }

    /// The end, if there was one, with its result.
    pub fn ended(self: &Arc<Self>) -> io::Result<Option<Arc<Ended>>> {
        let stream = self.readable();
        let found = {
            let state = stream.state();
            state.entries.end().cloned().map(|end| state.with_result(end))
        };
        let entry = match found {
            Some(Found::Entry(entry)) => entry,
            Some(Found::Away(away)) => match stream.fetch(away)? {
                Fetched::Entry(entry) => entry,
                Fetched::Block(_) => return Ok(None),
            },
            Some(Found::Void | Found::NothingYet | Found::Over) | None => return Ok(None),
        };
        Ok(if let Entry::End(ended) = entry { Some(ended) } else { None })
    }

    pub fn is_over(&self) -> bool {
        self.state().phase != Phase::Running
    }

    /// Out of the map: nothing more is taken, cursors read what is there and come to their end.
    pub(super) fn leave(&self) {
        let mut state = self.state();
        state.phase = Phase::Over;
        state.open = false;
        state.left = true;
        if state.readers == 0 {
            state.clear(&self.shared);
        }
        self.tell(state);
    }

    pub(super) fn reader_came(&self) {
        self.state().readers += 1;
    }

    pub(super) fn reader_went(&self) {
        let mut state = self.state();
        state.readers -= 1;
        if state.readers > 0 {
            return;
        }
        if state.left {
            state.clear(&self.shared);
        }
        let unheard = state.unheard.take().filter(|_| state.phase == Phase::Running);
        drop(state);
        if let Some(unheard) = unheard {
            unheard(self.id);
        }
    }

    /// From now on nobody wants it who does not read it: `unheard` is called once, when the last
    /// reader leaves before its end.
    pub fn lives_by_readers(&self, unheard: impl FnOnce(IntentId) + Send + 'static) {
        self.state().unheard = Some(Box::new(unheard));
    }

    /// It was refused, or never opened: who reads it finds nothing more, and nobody is to be told.
    pub fn close_unopened(&self) {
        let mut state = self.state();
        state.phase = Phase::Over;
        state.unheard = None;
        self.tell(state);
    }

    /// Fills the buffer of an intent whose own is no longer kept with what is known of its end.
    pub fn recall(&self, hold: Amount, pieces: Vec<Bytes>, ended: Ended, receipt: Option<Bytes>) {
        let (asset, attempt) = (ended.end.asset, Attempt(0));
        let mut state = self.state();
        state.entries.admission = Some(Admission { asset, hold, queued: None });
        for (seq, piece) in (0..).zip(pieces) {
            let bytes = piece.len() as u64;
            self.push(&mut state, Entry::Chunk { attempt, seq, piece }, bytes);
        }
        let result = ended.result.as_ref().map_or(0, Bytes::len) as u64;
        self.push(&mut state, Entry::End(Arc::new(ended)), result);
        if let Some(receipt) = receipt {
            let bytes = receipt.len() as u64;
            self.push(&mut state, Entry::Settled(receipt), bytes);
        }
        state.phase = Phase::Over;
        state.open = false;
        self.tell(state);
    }

    /// It completed, and nothing is here of what it was answered.
    pub fn is_answer_gone(&self) -> bool {
        let state = self.state();
        let Some(Entry::End(ended)) = state.entries.end() else { return false };
        let completed = matches!(ended.end.outcome, Outcome::Completed(_));
        let has_result = ended.result.is_some() || state.result.is_some();
        completed && !has_result && !state.entries.has_pieces()
    }

    pub(super) fn changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.changed.notified()
    }

    pub(super) fn find(&self, at: usize, opened: Option<&Opened>) -> Found {
        self.state().find(at, opened)
    }

    pub(super) fn fetch(&self, away: Away) -> io::Result<Fetched> {
        let read = |part| self.shared.vault.read(Name { intent: self.id, part }, away.place);
        Ok(match away.what {
            AwayWhat::Block { at } => Fetched::Block(Opened::new(at, &read(at as u64)?)?),
            AwayWhat::Result(ended) => {
                let result = Some(read(Name::RESULT)?);
                Fetched::Entry(Entry::End(Arc::new(Ended { result, ..(*ended).clone() })))
            }
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the cursors, after the lock is free.
    fn tell(&self, state: MutexGuard<'_, State>) {
        drop(state);
        self.changed.notify_waiters();
    }

    fn release(&self, state: &mut State, bytes: u64) {
        state.memory -= bytes;
        // What a window needs again at once is held on to.
        let spare = state.here.size().saturating_sub(state.takes() + STEP_BYTES);
        if spare > 0 {
            state.here.shrink(spare);
        }
        self.shared.memory.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn drop_result(&self, state: &mut State) {
        if let Some(Body::Here(result)) = state.result.take() {
            self.release(state, result.len() as u64);
        }
    }

    fn reserve(&self, state: &mut State, bytes: u64) {
        state.memory += bytes;
        self.shared.memory.fetch_add(bytes, Ordering::Relaxed);
        let lacks = state.takes().saturating_sub(state.here.size());
        if lacks > 0 {
            state.here.add(lacks);
        }
    }

    /// An entry of so many bytes.
    fn push(&self, state: &mut State, entry: Entry, bytes: u64) {
        state.entries.push(entry);
        self.reserve(state, bytes + SLOT_BYTES);
    }
}

impl Drop for IntentStream {
    fn drop(&mut self) {
        self.state.get_mut().unwrap_or_else(PoisonError::into_inner).clear(&self.shared);
    }
}

impl State {
    fn clear(&mut self, shared: &Shared) {
        if self.cleared {
            return;
        }
        self.cleared = true;
        let index = self.entries.index_bytes();
        self.entries = Entries::new(0);
        self.result = None;
        self.extents = None;
        self.here.shrink(u64::MAX);
        self.away = None;
        shared.memory.fetch_sub(self.memory + index + STREAM_BYTES, Ordering::Relaxed);
    }

    /// Of memory, in all.
    fn takes(&self) -> u64 {
        STREAM_BYTES + self.memory + self.entries.index_bytes()
    }

    fn closed(&self) -> Closed {
        let delivered = self.next_seq > 0;
        Closed { attempt: self.attempt, usage: self.meter.usage(), delivered }
    }

    fn find(&self, at: usize, opened: Option<&Opened>) -> Found {
        match self.entries.find(at, opened) {
            At::Entry(entry) => self.with_result(entry),
            At::Block(block) => Found::Away(self.block(block.place, block.at)),
            At::Void => Found::Void,
            At::Beyond if self.phase == Phase::Over => Found::Over,
            At::Beyond => Found::NothingYet,
        }
    }

    fn block(&self, place: Place, at: usize) -> Away {
        Away { _extents: self.extents.clone(), place, what: AwayWhat::Block { at } }
    }

    /// The end's own may stand on disk.
    fn with_result(&self, entry: Entry) -> Found {
        match (entry, &self.result) {
            (Entry::End(ended), Some(Body::Away(place))) => Found::Away(Away {
                _extents: self.extents.clone(),
                place: *place,
                what: AwayWhat::Result(ended),
            }),
            (entry, _) => Found::Entry(entry),
        }
    }
}

impl Body {
    fn place(&self) -> Option<Place> {
        match self {
            Self::Here(_) => None,
            Self::Away(place) => Some(*place),
        }
    }
}
