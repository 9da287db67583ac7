//! The buffer of one intent.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use mtor_types::fact::Asset;
use mtor_types::intent::{End, Outcome, Usage};
use mtor_types::{Amount, Attempt, IntentId, Time};
use tokio::sync::Notify;

use super::entry::{ChunkError, Closed, Ended, Entry, Measured, Server, is_all_in_pieces};
use super::meter::{Bounds, Meter, Metered};
use super::spill::{Place, sealed_bytes};
use super::{Cursor, LastEventId, STREAM_BYTES, Shared};

/// A bounded buffer with one writer and many readers.
pub struct IntentStream {
    id: IntentId,
    /// Kept for a while after its end, for those who come back.
    kept: bool,
    /// Of the intent, for who reads its events.
    model: OnceLock<Box<str>>,
    shared: Arc<Shared>,
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    slots: Vec<Slot>,
    meter: Meter,
    attempt: Option<Attempt>,
    /// Up to here attempts were given up for good.
    given_up: Option<Attempt>,
    /// The current attempt may send.
    open: bool,
    /// Its worker came back and sends again from the first piece.
    adopted: bool,
    completed: bool,
    /// Its figure was read: no attempt that ran then may add to it.
    stopped: bool,
    next_seq: u64,
    result: Option<Body>,
    phase: Phase,
    /// Bytes of pieces in memory.
    memory: u64,
    /// Bytes of pieces taken in all.
    taken: u64,
    /// Every piece before this slot is on disk or void.
    spilled_to: usize,
    file: Option<Arc<File>>,
    file_bytes: u64,
    readers: usize,
    /// Done when the last reader leaves before the end: for work that lives with its readers.
    unheard: Option<Unheard>,
    /// Out of the map: let go as soon as nobody reads. The map itself drops it some time later.
    left: bool,
    /// Let go, and taken off the accounts.
    cleared: bool,
}

type Unheard = Box<dyn FnOnce(IntentId) + Send>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    Ended,
    /// Nothing more will come.
    Over,
}

enum Slot {
    Here(Entry),
    /// A piece on disk.
    Away {
        attempt: Attempt,
        seq: u64,
        place: Place,
    },
    /// The end, its result on disk.
    EndAway {
        ended: Arc<Ended>,
        place: Place,
    },
    /// A piece of an attempt that was given up.
    Void,
}

enum Body {
    Here(Bytes),
    Away(Place),
}

/// What a cursor finds at its place.
pub(super) enum Found {
    Entry(Entry),
    /// A piece to be read from disk, without the lock.
    Away(Away),
    Void,
    NothingYet,
    Over,
}

pub(super) struct Away {
    file: Arc<File>,
    place: Place,
    what: AwayWhat,
}

enum AwayWhat {
    Chunk { attempt: Attempt, seq: u64 },
    Result(Arc<Ended>),
}

/// The seq under which a result is sealed: no piece has it, a stream being shorter.
const RESULT_SEQ: u64 = u64::MAX;
/// What an entry takes besides its bytes.
const SLOT_BYTES: u64 = size_of::<Slot>() as u64;

impl IntentStream {
    pub(super) fn new(id: IntentId, bounds: Bounds, shared: Arc<Shared>, kept: bool) -> Self {
        shared.memory.fetch_add(STREAM_BYTES, Ordering::Relaxed);
        let state = State {
            // Of an intent with one result: accepted, queued, started, end, settled.
            slots: Vec::with_capacity(5),
            meter: Meter::new(bounds),
            attempt: None,
            given_up: None,
            open: false,
            adopted: false,
            completed: false,
            stopped: false,
            next_seq: 0,
            result: None,
            phase: Phase::Running,
            memory: 0,
            taken: 0,
            spilled_to: 0,
            file: None,
            file_bytes: 0,
            readers: 0,
            unheard: None,
            left: false,
            cleared: false,
        };
        let (model, changed) = (OnceLock::new(), Notify::new());
        Self { id, kept, model, shared, state: Mutex::new(state), changed }
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
        Cursor::new(Arc::clone(self), 0, None)
    }

    /// What comes after the last event that a client saw. If its attempt was given up since, the
    /// first entry is `Restarted`.
    pub fn resume(self: &Arc<Self>, last: LastEventId) -> Cursor {
        let at = {
            let state = self.state();
            let seen = state.slots.iter().rposition(|slot| slot.is_piece(last.attempt, last.seq));
            let given_up = || {
                state.slots.iter().position(|slot| {
                    matches!(slot, Slot::Here(Entry::Restarted { attempt }) if *attempt >= last.attempt)
                })
            };
            seen.map(|at| at + 1).or_else(given_up).unwrap_or(0)
        };
        Cursor::new(Arc::clone(self), at, Some(last))
    }

    /// The core has taken the intent.
    pub fn accepted(&self, asset: Asset, hold: Amount, position: u64, wait_ms: u64) {
        let mut state = self.state();
        if state.phase == Phase::Running {
            // A free slot may have begun already: its effect leaves before that of admission. No
            // client knows the intent before this, so nobody has read past the front.
            let first = [Entry::Accepted { asset, hold }, Entry::Queued { position, wait_ms }];
            state.slots.splice(0..0, first.map(Slot::Here));
            state.spilled_to += 2;
            self.tell(state);
        }
    }

    /// An attempt begins; `limit` is the most units that will be paid. False if it is not newer
    /// than the one before, or the intent is over: then nothing changed.
    pub fn begin(&self, attempt: Attempt, by: Server, limit: u64) -> bool {
        let mut state = self.state();
        let before = state.attempt.max(state.given_up);
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
        state.slots.push(Slot::Here(Entry::Started { attempt, by }));
        self.tell(state);
        true
    }

    /// A reconnected worker keeps its attempt and sends every piece again from the first: those
    /// that stand here already are skipped. False if the attempt is an older one.
    pub fn adopt(&self, attempt: Attempt, by: Server, limit: u64) -> bool {
        {
            let mut state = self.state();
            if state.attempt == Some(attempt) {
                let running = state.phase == Phase::Running && state.given_up < Some(attempt);
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
        state.slots.push(Slot::Here(Entry::Chunk { attempt, seq, piece }));
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
        let mut freed = 0;
        for slot in &mut state.slots {
            match slot {
                Slot::Here(Entry::Chunk { attempt: of, piece, .. }) if *of <= attempt => {
                    freed += piece.len() as u64 + SLOT_BYTES;
                    *slot = Slot::Void;
                }
                Slot::Away { attempt: of, .. } if *of <= attempt => *slot = Slot::Void,
                Slot::Here(_) | Slot::Away { .. } | Slot::EndAway { .. } | Slot::Void => {}
            }
        }
        state.given_up = state.given_up.max(Some(attempt));
        if state.attempt <= Some(attempt) {
            state.open = false;
            state.completed = false;
            self.drop_result(&mut state);
        }
        self.release(&mut state, freed);
        state.slots.push(Slot::Here(Entry::Restarted { attempt }));
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
        let slot = match state.result.take() {
            Some(Body::Away(place)) => {
                Slot::EndAway { ended: Arc::new(Ended { end, message, result: None }), place }
            }
            Some(Body::Here(result)) => {
                let ended = Ended { end, message, result: Some(result) };
                Slot::Here(Entry::End(Arc::new(ended)))
            }
            None => Slot::Here(Entry::End(Arc::new(Ended { end, message, result: None }))),
        };
        state.slots.push(slot);
        self.tell(state);
        if self.kept {
            self.shared.ended().push_back((now, self.id));
        }
    }

    /// The resolution is synced; `receipt` is JSON.
    pub fn settle(&self, receipt: Bytes) {
        let mut state = self.state();
        if state.phase == Phase::Ended {
            state.phase = Phase::Over;
            self.reserve(&mut state, receipt.len() as u64);
            state.slots.push(Slot::Here(Entry::Settled(receipt)));
            self.tell(state);
        }
    }

    /// The end, if there was one, with its result.
    pub fn ended(&self) -> io::Result<Option<Arc<Ended>>> {
        let found = {
            let state = self.state();
            let at = state.slots.iter().rposition(Slot::is_end);
            at.map(|at| state.find(at))
        };
        let entry = match found {
            Some(Found::Entry(entry)) => entry,
            Some(Found::Away(away)) => self.fetch(away)?,
            Some(Found::Void | Found::NothingYet | Found::Over) | None => return Ok(None),
        };
        Ok(if let Entry::End(ended) = entry { Some(ended) } else { None })
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
        let pieces = (0..).zip(pieces).map(|(seq, piece)| Entry::Chunk { attempt, seq, piece });
        let mut state = self.state();
        state.slots.push(Slot::Here(Entry::Accepted { asset, hold }));
        state.slots.extend(pieces.map(Slot::Here));
        state.slots.push(Slot::Here(Entry::End(Arc::new(ended))));
        state.slots.extend(receipt.map(|receipt| Slot::Here(Entry::Settled(receipt))));
        state.phase = Phase::Over;
        state.open = false;
        self.tell(state);
    }

    /// It completed, and nothing is here of what it was answered.
    pub fn is_answer_gone(&self) -> bool {
        let state = self.state();
        let mut is_gone = false;
        for slot in &state.slots {
            match slot {
                Slot::Here(Entry::Chunk { .. }) | Slot::Away { .. } | Slot::EndAway { .. } => {
                    return false;
                }
                Slot::Here(Entry::End(ended)) => {
                    let completed = matches!(ended.end.outcome, Outcome::Completed(_));
                    is_gone = completed && ended.result.is_none();
                }
                Slot::Here(_) | Slot::Void => {}
            }
        }
        is_gone
    }

    pub(super) fn changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.changed.notified()
    }

    pub(super) fn find(&self, at: usize) -> Found {
        self.state().find(at)
    }

    pub(super) fn fetch(&self, away: Away) -> io::Result<Entry> {
        let open = |attempt, seq| {
            let name = record_name(self.id, attempt, seq);
            self.shared.vault.open(&away.file, away.place, &name)
        };
        match away.what {
            AwayWhat::Chunk { attempt, seq } => {
                Ok(Entry::Chunk { attempt, seq, piece: open(attempt, seq)? })
            }
            AwayWhat::Result(ended) => {
                // A result belongs to the intent: it is sealed under no attempt.
                let result = Some(open(Attempt(0), RESULT_SEQ)?);
                Ok(Entry::End(Arc::new(Ended { result, ..(*ended).clone() })))
            }
        }
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
        self.shared.memory.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn drop_result(&self, state: &mut State) {
        if let Some(Body::Here(result)) = state.result.take() {
            self.release(state, result.len() as u64 + SLOT_BYTES);
        }
    }

    fn reserve(&self, state: &mut State, bytes: u64) {
        state.memory += bytes;
        self.shared.memory.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Room for a piece, or nothing changed. What is older than the newest half window goes to
    /// disk, so that readers at the end of the stream read from memory.
    fn make_room(&self, state: &mut State, bytes: u64) -> Result<(), ChunkError> {
        if state.taken + bytes > self.shared.limits.bytes_each {
            return Err(ChunkError::Full);
        }
        let memory_each = self.shared.memory_each();
        if state.memory + bytes + SLOT_BYTES > memory_each {
            self.spill(state, memory_each / 2)?;
        }
        state.taken += bytes;
        self.reserve(state, bytes + SLOT_BYTES);
        Ok(())
    }

    /// A result too large for memory goes to disk at once.
    fn keep(&self, state: &mut State, result: Bytes) -> Result<Body, ChunkError> {
        let bytes = result.len() as u64;
        if state.taken + bytes > self.shared.limits.bytes_each {
            return Err(ChunkError::Full);
        }
        if bytes <= self.shared.memory_each() {
            self.make_room(state, bytes)?;
            return Ok(Body::Here(result));
        }
        let places = self.write(state, &[(Attempt(0), RESULT_SEQ, result)])?;
        state.taken += bytes;
        places.first().map(|place| Body::Away(*place)).ok_or(ChunkError::NoRoom)
    }

    /// Moves the oldest pieces to disk until at most `target` bytes are in memory.
    fn spill(&self, state: &mut State, target: u64) -> Result<(), ChunkError> {
        let mut left = state.memory;
        let mut pieces = Vec::new();
        let mut at = state.spilled_to;
        while let Some(slot) = state.slots.get(at).filter(|_| left > target) {
            if let Slot::Here(Entry::Chunk { attempt, seq, piece }) = slot {
                left -= piece.len() as u64 + SLOT_BYTES;
                pieces.push((*attempt, *seq, piece.clone()));
            }
            at += 1;
        }
        if pieces.is_empty() {
            return Ok(());
        }
        let places = self.write(state, &pieces)?;
        let mut places = pieces.iter().zip(places);
        for slot in state.slots.iter_mut().take(at).skip(state.spilled_to) {
            if matches!(slot, Slot::Here(Entry::Chunk { .. }))
                && let Some(((attempt, seq, _), place)) = places.next()
            {
                *slot = Slot::Away { attempt: *attempt, seq: *seq, place };
            }
        }
        state.spilled_to = at;
        let freed = state.memory - left;
        self.release(state, freed);
        Ok(())
    }

    /// Seals and writes, all or nothing.
    fn write(
        &self,
        state: &mut State,
        pieces: &[(Attempt, u64, Bytes)],
    ) -> Result<Vec<Place>, ChunkError> {
        let needed: u64 = pieces.iter().map(|(_, _, piece)| sealed_bytes(piece.len())).sum();
        let disk = &self.shared.disk;
        if disk.fetch_add(needed, Ordering::Relaxed) + needed > self.shared.limits.disk_total {
            disk.fetch_sub(needed, Ordering::Relaxed);
            return Err(ChunkError::NoRoom);
        }
        let written = self.try_write(state, pieces);
        if written.is_err() {
            disk.fetch_sub(needed, Ordering::Relaxed);
        } else {
            state.file_bytes += needed;
        }
        written.map_err(|_| ChunkError::NoRoom)
    }

    fn try_write(
        &self,
        state: &mut State,
        pieces: &[(Attempt, u64, Bytes)],
    ) -> io::Result<Vec<Place>> {
        let file = match &state.file {
            Some(file) => Arc::clone(file),
            None => Arc::clone(state.file.insert(Arc::new(self.shared.vault.file()?))),
        };
        let mut buffer = Vec::new();
        let start = state.file_bytes;
        let nonces = self.shared.vault.nonces(pieces.len())?;
        let places = pieces.iter().zip(nonces).map(|((attempt, seq, piece), nonce)| {
            let name = record_name(self.id, *attempt, *seq);
            self.shared.vault.seal(&mut buffer, start, nonce, &name, piece)
        });
        let places = places.collect::<io::Result<Vec<_>>>()?;
        file.write_all_at(&buffer, start)?;
        Ok(places)
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
        self.slots = Vec::new();
        self.result = None;
        self.file = None;
        shared.memory.fetch_sub(self.memory + STREAM_BYTES, Ordering::Relaxed);
        shared.disk.fetch_sub(self.file_bytes, Ordering::Relaxed);
    }

    fn closed(&self) -> Closed {
        let delivered = self.next_seq > 0;
        Closed { attempt: self.attempt, usage: self.meter.usage(), delivered }
    }

    fn find(&self, at: usize) -> Found {
        let away = |place: Place, what: AwayWhat| match &self.file {
            Some(file) => Found::Away(Away { file: Arc::clone(file), place, what }),
            // Cannot be: a place is only known once the file was written.
            None => Found::Void,
        };
        match self.slots.get(at) {
            Some(Slot::Here(entry)) => Found::Entry(entry.clone()),
            Some(Slot::Away { attempt, seq, place }) => {
                away(*place, AwayWhat::Chunk { attempt: *attempt, seq: *seq })
            }
            Some(Slot::EndAway { ended, place }) => {
                away(*place, AwayWhat::Result(Arc::clone(ended)))
            }
            Some(Slot::Void) => Found::Void,
            None if self.phase == Phase::Over => Found::Over,
            None => Found::NothingYet,
        }
    }
}

impl Slot {
    fn is_piece(&self, attempt: Attempt, seq: u64) -> bool {
        match self {
            Self::Here(Entry::Chunk { attempt: a, seq: s, .. })
            | Self::Away { attempt: a, seq: s, .. } => (*a, *s) == (attempt, seq),
            Self::Here(_) | Self::EndAway { .. } | Self::Void => false,
        }
    }

    fn is_end(&self) -> bool {
        matches!(self, Self::Here(Entry::End(_)) | Self::EndAway { .. })
    }
}

/// What binds a sealed record to its place.
fn record_name(intent: IntentId, attempt: Attempt, seq: u64) -> [u8; 32] {
    let mut name = [0; 32];
    name[..16].copy_from_slice(&intent.0);
    name[16..24].copy_from_slice(&attempt.0.to_be_bytes());
    name[24..].copy_from_slice(&seq.to_be_bytes());
    name
}
