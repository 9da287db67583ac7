//! What the worker holds: every lease with its pieces, its credit and its end. No clock, no
//! socket: time and frames are arguments.
//!
//! A lease is *live* while the current session knows it: by an assignment in that session. After
//! a lost session every lease waits, is listed in the next hello, and becomes live again when the
//! realm assigns it again (then all is sent from piece 0), or goes when the realm revokes it.
//! Pieces are kept after they were sent, within two bounds; a lease whose pieces were dropped for
//! a bound works on, but does not survive its session.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use mtor_types::intent::Usage;
use mtor_types::worker::{self, Chunk, Complete, Fail, FailCode, HeldLease, LeaseClaim};
use mtor_types::{Attempt, Digest, Fence, IntentId};
use serde_json::value::RawValue;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;

use crate::frame::Encoder;
use crate::limits;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) intent: IntentId,
    pub(crate) attempt: Attempt,
}

impl Key {
    fn claim(self) -> LeaseClaim {
        LeaseClaim { intent: self.intent, attempt: self.attempt }
    }
}

/// One piece as its executor made it.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) raw: Box<RawValue>,
    /// Units so far.
    pub(crate) count: u64,
}

/// How an executor ended.
#[derive(Debug)]
pub(crate) enum End {
    Complete { usage: Usage, result: Option<Box<RawValue>> },
    Fail { code: FailCode, message: String, retry: bool },
}

impl End {
    pub(crate) fn fail(code: FailCode, message: impl Into<String>, retry: bool) -> Self {
        Self::Fail { code, message: message.into(), retry }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::fail(FailCode::BadRequest, message, false)
    }

    pub(crate) fn backend(message: impl Into<String>) -> Self {
        Self::fail(FailCode::Backend, message, true)
    }

    fn len(&self) -> usize {
        match self {
            Self::Complete { result, .. } => result.as_ref().map_or(0, |raw| raw.get().len()),
            Self::Fail { .. } => 0,
        }
    }
}

/// Whose slot a lease takes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SlotOf {
    pub(crate) executor: usize,
    pub(crate) of: Counted,
}

/// What of an executor has slots of its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Counted {
    Group(String),
    /// An intent and a model.
    Offer(String, Option<String>),
}

/// What makes a lease.
pub(crate) struct NewLease {
    pub(crate) key: Key,
    pub(crate) fence: Fence,
    pub(crate) token: Digest,
    pub(crate) slot: SlotOf,
    pub(crate) credit: u64,
    pub(crate) deadline: Instant,
    pub(crate) backlog: Arc<Semaphore>,
}

struct Lease {
    /// Tells this run of the key from an earlier one whose reports may still come.
    serial: u64,
    fence: Fence,
    token: Digest,
    slot: SlotOf,
    work: Option<AbortHandle>,
    backlog: Arc<Semaphore>,
    live: bool,
    queued: bool,
    /// Bytes that may still be sent; the last piece may take it below zero. Otherwise a piece
    /// larger than what is left would wait for credit that comes only for what was sent.
    credit: i64,
    kept: VecDeque<Piece>,
    kept_bytes: usize,
    /// The sequence number of the first kept piece; above 0 the lease cannot be adopted.
    first_kept: u64,
    /// The next piece to send.
    next_send: u64,
    /// Pieces at and after this one have never been sent: their executor's backlog holds them.
    never_sent: u64,
    end: Option<End>,
    end_sent: bool,
    forget_at: Instant,
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(work) = &self.work {
            work.abort();
        }
    }
}

impl Lease {
    fn sendable(&self) -> bool {
        if !self.live || self.end_sent {
            return false;
        }
        match self.next_piece() {
            Some(_) => self.credit > 0,
            None => self.end.is_some(),
        }
    }

    fn next_piece(&self) -> Option<&Piece> {
        let index = self.next_send.checked_sub(self.first_kept)?;
        self.kept.get(usize::try_from(index).ok()?)
    }

    /// Drops what was sent and cannot be kept; such a lease ends with its session.
    fn drop_sent(&mut self) -> usize {
        let mut freed = 0;
        while self.first_kept < self.next_send {
            let Some(piece) = self.kept.pop_front() else { break };
            freed += piece.raw.get().len();
            self.first_kept += 1;
        }
        self.kept_bytes -= freed;
        freed
    }

    fn drop_unsent(&mut self) -> usize {
        let sent = self.next_send.saturating_sub(self.first_kept);
        let unsent = self.kept.split_off(usize::try_from(sent).unwrap_or(0).min(self.kept.len()));
        let freed = unsent.iter().map(|piece| piece.raw.get().len()).sum();
        self.kept_bytes -= freed;
        freed
    }

    fn adoptable(&self) -> bool {
        self.first_kept == 0
    }
}

/// The end of a lease that has just been sent.
pub(crate) struct Sent {
    pub(crate) key: Key,
    /// Units, or how it failed.
    pub(crate) outcome: Result<u64, FailCode>,
    /// Until the realm acknowledges it.
    pub(crate) kept: bool,
}

/// All leases of the worker.
#[derive(Default)]
pub(crate) struct Leases {
    map: HashMap<Key, Lease>,
    ready: VecDeque<Key>,
    timers: BTreeSet<(Instant, Key)>,
    /// Leases that still run, by slot.
    running: HashMap<SlotOf, u32>,
    kept_bytes: usize,
    next_serial: u64,
}

impl Leases {
    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    pub(crate) fn contains(&self, key: Key) -> bool {
        self.map.contains_key(&key)
    }

    pub(crate) fn running(&self, slot: &SlotOf) -> u32 {
        self.running.get(slot).copied().unwrap_or(0)
    }

    pub(crate) fn is_any_running_on(&self, executor: usize) -> bool {
        self.running.iter().any(|(slot, running)| slot.executor == executor && *running > 0)
    }

    /// Leases whose end is not yet sent.
    pub(crate) fn unfinished(&self) -> usize {
        self.map.values().filter(|lease| !lease.end_sent).count()
    }

    /// Takes a lease and gives the serial that its reports must bear.
    pub(crate) fn insert(&mut self, new: NewLease) -> u64 {
        self.next_serial += 1;
        let lease = Lease {
            serial: self.next_serial,
            fence: new.fence,
            token: new.token,
            slot: new.slot.clone(),
            work: None,
            backlog: new.backlog,
            live: true,
            queued: false,
            credit: signed(new.credit),
            kept: VecDeque::new(),
            kept_bytes: 0,
            first_kept: 0,
            next_send: 0,
            never_sent: 0,
            end: None,
            end_sent: false,
            forget_at: new.deadline,
        };
        *self.running.entry(new.slot).or_insert(0) += 1;
        self.timers.insert((new.deadline, new.key));
        self.map.insert(new.key, lease);
        self.next_serial
    }

    /// The task that works on a lease; it is stopped when the lease goes.
    pub(crate) fn set_work(&mut self, key: Key, work: AbortHandle) {
        match self.map.get_mut(&key) {
            Some(lease) => lease.work = Some(work),
            None => work.abort(),
        }
    }

    /// The realm assigned a known attempt again: same work, new fence, everything once more.
    pub(crate) fn adopt(
        &mut self,
        key: Key,
        fence: Fence,
        token: Digest,
        credit: u64,
        deadline: Instant,
    ) {
        let Some(lease) = self.map.get_mut(&key) else { return };
        lease.fence = fence;
        lease.token = token;
        lease.live = true;
        lease.credit = signed(credit);
        lease.next_send = lease.first_kept;
        lease.end_sent = false;
        if lease.end.is_none() {
            self.timers.remove(&(lease.forget_at, key));
            lease.forget_at = deadline;
            self.timers.insert((deadline, key));
        }
        self.enqueue(key);
    }

    fn enqueue(&mut self, key: Key) {
        if let Some(lease) = self.map.get_mut(&key)
            && !lease.queued
            && lease.sendable()
        {
            lease.queued = true;
            self.ready.push_back(key);
        }
    }

    /// An executor's piece. One above the largest frame could never be sent: it ends the work.
    pub(crate) fn piece(&mut self, key: Key, serial: u64, piece: Piece) {
        let Some(lease) = self.map.get_mut(&key) else { return };
        if lease.serial != serial || lease.end.is_some() {
            return;
        }
        let bytes = piece.raw.get().len();
        if bytes > limits::PIECE_BYTES_MAX {
            let message = "a piece is above the largest frame";
            self.end(key, serial, End::fail(FailCode::Backend, message, false));
            return;
        }
        lease.kept_bytes += bytes;
        self.kept_bytes += bytes;
        lease.kept.push_back(piece);
        self.enqueue(key);
    }

    /// An executor's end. Frees the slot; the first end counts.
    pub(crate) fn end(&mut self, key: Key, serial: u64, end: End) {
        let Some(lease) = self.map.get_mut(&key) else { return };
        if lease.serial != serial || lease.end.is_some() {
            return;
        }
        let end = if end.len() > limits::PIECE_BYTES_MAX {
            End::fail(FailCode::Backend, "the result is above the largest frame", false)
        } else {
            end
        };
        if matches!(end, End::Fail { .. }) {
            if let Some(work) = lease.work.take() {
                work.abort();
            }
            // A failure does not wait behind pieces that have no credit.
            self.kept_bytes -= lease.drop_unsent();
        }
        lease.kept_bytes += end.len();
        self.kept_bytes += end.len();
        lease.end = Some(end);
        let forget_at =
            lease.forget_at + std::time::Duration::from_millis(limits::UNACKNOWLEDGED_MS);
        self.timers.remove(&(lease.forget_at, key));
        self.timers.insert((forget_at, key));
        lease.forget_at = forget_at;
        let slot = lease.slot.clone();
        self.free_slot(&slot);
        self.enqueue(key);
    }

    fn free_slot(&mut self, slot: &SlotOf) {
        if let Some(running) = self.running.get_mut(slot) {
            *running -= 1;
            if *running == 0 {
                self.running.remove(slot);
            }
        }
    }

    pub(crate) fn credit(&mut self, key: Key, bytes: u64) {
        if let Some(lease) = self.map.get_mut(&key)
            && lease.live
        {
            lease.credit = lease.credit.saturating_add(signed(bytes));
            self.enqueue(key);
        }
    }

    /// The realm has the end: gives the units of a completion, and forgets it.
    pub(crate) fn acknowledged(&mut self, key: Key) -> Option<u64> {
        let lease = self.map.get(&key).filter(|lease| lease.end_sent);
        let units = match lease.and_then(|lease| lease.end.as_ref()) {
            Some(End::Complete { usage, .. }) => Some(usage.units),
            Some(End::Fail { .. }) | None => None,
        };
        self.forget(key);
        units
    }

    /// Revoked, acknowledged or given up: stops the work and forgets it. True if it was there.
    pub(crate) fn forget(&mut self, key: Key) -> bool {
        let Some(lease) = self.map.remove(&key) else { return false };
        self.timers.remove(&(lease.forget_at, key));
        self.kept_bytes -= lease.kept_bytes;
        if lease.end.is_none() {
            self.free_slot(&lease.slot);
        }
        true
    }

    /// The session is lost: nothing is live, and what cannot be sent from its first piece goes.
    pub(crate) fn disconnect(&mut self) {
        self.ready.clear();
        let mut gone = Vec::new();
        for (key, lease) in &mut self.map {
            lease.live = false;
            lease.queued = false;
            if !lease.adoptable() {
                gone.push(*key);
            }
        }
        for key in gone {
            self.forget(key);
        }
    }

    /// What the next hello lists.
    pub(crate) fn held(&self) -> Vec<HeldLease> {
        let held = self.map.iter().map(|(key, lease)| HeldLease {
            intent: key.intent,
            attempt: key.attempt,
            fence: lease.fence,
            token: lease.token,
        });
        held.collect()
    }

    /// What is still worked on: what a heartbeat renews.
    pub(crate) fn claims(&self) -> Vec<LeaseClaim> {
        let working = self.map.iter().filter(|(_, lease)| lease.live && !lease.end_sent);
        working.map(|(key, _)| key.claim()).collect()
    }

    pub(crate) fn next_timer(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Stops and forgets what is past its deadline. Without a word: the realm's own deadline is
    /// the intent's end, and a failure told here could take its place.
    pub(crate) fn expire(&mut self, now: Instant) {
        while let Some(&(at, key)) = self.timers.first()
            && at <= now
        {
            self.forget(key);
        }
    }

    /// Writes frames of ready leases, in turns, until `budget` bytes are written or none is ready.
    pub(crate) fn fill(
        &mut self,
        budget: usize,
        encoder: &mut Encoder,
        out: &mut VecDeque<Message>,
        sent: &mut Vec<Sent>,
    ) {
        let mut written = 0;
        while written < budget
            && let Some(key) = self.ready.pop_front()
        {
            written += self.turn(key, encoder, out, sent);
        }
    }

    fn turn(
        &mut self,
        key: Key,
        encoder: &mut Encoder,
        out: &mut VecDeque<Message>,
        sent: &mut Vec<Sent>,
    ) -> usize {
        let Some(lease) = self.map.get_mut(&key) else { return 0 };
        lease.queued = false;
        let mut written = 0;
        while written < limits::TURN_BYTES_MAX && lease.sendable() {
            let Some(bytes) = send_piece(key, lease, encoder, out) else { break };
            written += bytes + limits::ENVELOPE_BYTES_MAX / 16;
        }
        if lease.kept_bytes > limits::KEPT_PER_INTENT_MAX || self.kept_bytes > limits::KEPT_MAX {
            self.kept_bytes -= lease.drop_sent();
        }
        if lease.next_piece().is_none() && lease.sendable() {
            written += self.send_end(key, encoder, out, sent);
        }
        self.enqueue(key);
        written
    }

    fn send_end(
        &mut self,
        key: Key,
        encoder: &mut Encoder,
        out: &mut VecDeque<Message>,
        sent: &mut Vec<Sent>,
    ) -> usize {
        let Some(lease) = self.map.get_mut(&key) else { return 0 };
        let Some(end) = &lease.end else { return 0 };
        lease.end_sent = true;
        let (message, outcome, forget) = match end {
            End::Complete { usage, result } => {
                let complete = Complete {
                    intent: key.intent,
                    attempt: key.attempt,
                    usage: *usage,
                    result: result.as_deref(),
                };
                (encoder.encode(worker::COMPLETE, complete), Ok(usage.units), false)
            }
            End::Fail { code, message, retry } => {
                let fail = Fail {
                    intent: key.intent,
                    attempt: key.attempt,
                    code: *code,
                    message: message.clone(),
                    retry: *retry,
                };
                (encoder.encode(worker::FAIL, fail), Err(*code), true)
            }
        };
        let bytes = message.as_ref().map_or(0, Message::len);
        out.extend(message);
        // A failure needs no acknowledgement: lost with its session, the lease is lost too. What
        // is above the bounds is not kept for one.
        let above =
            lease.kept_bytes > limits::KEPT_PER_INTENT_MAX || self.kept_bytes > limits::KEPT_MAX;
        let kept = !forget && !above;
        if !kept {
            self.forget(key);
        }
        sent.push(Sent { key, outcome, kept });
        bytes
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// Sends the next piece if there is one; the caller saw that there is credit.
fn send_piece(
    key: Key,
    lease: &mut Lease,
    encoder: &mut Encoder,
    out: &mut VecDeque<Message>,
) -> Option<usize> {
    let piece = lease.next_piece()?;
    let bytes = piece.raw.get().len();
    let chunk = Chunk {
        intent: key.intent,
        attempt: key.attempt,
        seq: lease.next_send,
        count: piece.count,
        piece: &piece.raw,
    };
    out.extend(encoder.encode(worker::CHUNK, chunk));
    lease.credit = lease.credit.saturating_sub_unsigned(bytes as u64);
    lease.next_send += 1;
    if lease.next_send > lease.never_sent {
        lease.never_sent = lease.next_send;
        lease.backlog.add_permits(backlog_share(bytes));
    }
    Some(bytes)
}

/// How many permits of the backlog a piece takes: its bytes, but never more than there are.
pub(crate) fn backlog_share(bytes: usize) -> usize {
    bytes.clamp(1, limits::BACKLOG_BYTES_MAX)
}

#[cfg(test)]
mod tests;
