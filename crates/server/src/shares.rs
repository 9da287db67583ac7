//! What everybody at this edge shares: places of connections, bodies on their way, payloads, events that
//! are kept in memory and on the disk, stored payloads and results.
//!
//! Each bound has its [`Share`]. What is taken of it is given back when it is dropped, so that nothing
//! that ends, however it ends, holds anything. How large the bounds are follows from the memory and the
//! descriptors that this process may have ([`Room`]): what would not fit is refused by name before the
//! system ends the process.
//!
//! Absent on purpose: which of them a request needs, and whose it is.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mtor_core::share::{Holder, Limited, Part, Refused, Share};

use mtor_types::Code;

use crate::api_error::ApiError;
use crate::http::BODY_BYTES_MAX;
use crate::sessions::SESSIONS_MAX;

/// What this process may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Bytes of memory.
    pub memory: u64,
    /// Open files and sockets.
    pub descriptors: u64,
    /// Bytes of the disk that were free when it was looked at.
    pub disk: u64,
}

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;

/// For the program itself, its threads, caches and a small ledger.
const BASE_BYTES: u64 = 48 * MIB;
/// However small the machine, the realm answers somebody.
const REST_BYTES_MIN: u64 = 16 * MIB;
/// What a connection takes, about: its buffers, and what the system keeps for its socket.
const CONNECTION_BYTES: u64 = 32 * KIB;
/// Workers' sessions, and as many clients.
const CONNECTIONS_MAX: u64 = SESSIONS_MAX as u64 + 20_000;
/// Beyond what all may have.
const CONNECTIONS_KEPT: u64 = 16;
/// However full the disk: writing to it then fails by name.
const DISK_BYTES_MIN: u64 = 64 * MIB;
const SPILL_BYTES_MAX: u64 = 8 * GIB;
const STORED_BYTES_MAX: u64 = 16 * GIB;
/// Of kept events, and of stored ones, this much is a small thing.
pub const KEPT_SMALL_BYTES: u64 = 16 * KIB;
pub const STORED_SMALL_BYTES: u64 = 128 * KIB;
/// Bodies are counted by this much, and this much is a small payload.
pub const BODY_STEP_BYTES: u64 = 64 * KIB;

impl Default for Room {
    fn default() -> Self {
        Self { memory: 4 * GIB, descriptors: 65_536, disk: 64 * GIB }
    }
}

impl Room {
    fn rest(self) -> u64 {
        self.memory.saturating_sub(BASE_BYTES).max(REST_BYTES_MIN)
    }

    fn connections(self) -> u64 {
        let by_memory = self.rest() / 8 / CONNECTION_BYTES;
        // The others are for the store, spilled answers and files that are sent.
        by_memory.min(self.descriptors / 4 * 3).clamp(16, CONNECTIONS_MAX)
    }

    /// While it grows a body may take twice what has come of it.
    fn bodies(self) -> u64 {
        (self.rest() / 16).max(self.for_one()).min(GIB)
    }

    fn payloads(self) -> u64 {
        (self.rest() / 4).max(self.for_one()).min(GIB)
    }

    /// So much that a guest's share of it is the largest body, where a third of the memory is so much.
    fn for_one(self) -> u64 {
        (2 * 9 * BODY_BYTES_MAX as u64).min(self.rest() / 3)
    }

    /// For answers that are kept in memory.
    pub fn replay(self) -> u64 {
        self.rest() / 8
    }

    /// For those that memory has no room for. Gone with the process.
    pub fn spill(self) -> u64 {
        (self.disk / 4).clamp(DISK_BYTES_MIN, SPILL_BYTES_MAX)
    }

    /// For payloads and results of durable work: those that are there already take none of what is free.
    pub fn stored(self, there: u64) -> u64 {
        (self.disk / 2).saturating_add(there).clamp(DISK_BYTES_MIN, STORED_BYTES_MAX)
    }
}

/// The shares of one edge.
#[derive(Debug)]
pub struct Shares {
    pub connections: Bound,
    pub bodies: Bound,
    pub payloads: Bound,
    /// Of clients that have said who they are.
    pub sockets: Bound,
    /// Beyond them, for this machine: a few connections for whoever runs the realm.
    pub kept: Bound,
    /// Events in memory and on the disk.
    pub replay: Bound,
    pub spill: Bound,
    /// Sealed payloads and results of durable work.
    pub stored: Bound,
}

impl Shares {
    /// `stored` bytes are there already.
    pub fn new(room: Room, stored: u64) -> Self {
        Self {
            connections: Bound::new(Limited::Connections, room.connections(), 1),
            bodies: Bound::new(Limited::Bodies, room.bodies(), BODY_STEP_BYTES),
            payloads: Bound::new(Limited::Payloads, room.payloads(), BODY_STEP_BYTES),
            sockets: Bound::new(Limited::Sockets, room.connections(), 1),
            kept: Bound::new(Limited::Connections, CONNECTIONS_KEPT, 1),
            replay: Bound::new(Limited::Replay, room.replay(), KEPT_SMALL_BYTES),
            spill: Bound::new(Limited::Spill, room.spill(), KEPT_SMALL_BYTES),
            stored: Bound::new(Limited::Stored, room.stored(stored), STORED_SMALL_BYTES),
        }
    }

    pub fn all(&self) -> [&Bound; 7] {
        let Self { connections, bodies, payloads, sockets, replay, spill, stored, kept: _ } = self;
        [connections, bodies, payloads, sockets, replay, spill, stored]
    }
}

impl Default for Shares {
    fn default() -> Self {
        Self::new(Room::default(), 0)
    }
}

/// One bound and its share, for many threads.
#[derive(Clone, Debug)]
pub struct Bound(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    what: Limited,
    share: Mutex<Share>,
}

impl Bound {
    pub fn new(what: Limited, capacity: u64, small: u64) -> Self {
        Self(Arc::new(Inner { what, share: Mutex::new(Share::new(capacity, small)) }))
    }

    /// # Errors
    /// `share_used`, which names what it is, what the holder has of it and what it may have.
    pub fn take(&self, holder: Holder, size: u64) -> Result<Portion, ApiError> {
        let part = self.0.take(holder, size)?;
        Ok(Portion { of: Arc::clone(&self.0), part: Some(part) })
    }

    /// What is held already, whatever may be held.
    pub fn keep(&self, holder: Holder, size: u64) -> Portion {
        let part = self.0.share().keep(holder, size);
        Portion { of: Arc::clone(&self.0), part: Some(part) }
    }

    /// Whether so much may be taken now.
    ///
    /// # Errors
    /// Whose share is used up: for who can make room itself.
    pub fn check(&self, holder: &Holder, size: u64) -> Result<(), Refused> {
        self.0.share().check(holder, size)
    }

    pub fn what(&self) -> Limited {
        self.0.what
    }

    /// Portion now, and all there is.
    pub fn filled(&self) -> (u64, u64) {
        let share = self.0.share();
        (share.held(), share.capacity())
    }
}

impl Inner {
    fn share(&self) -> MutexGuard<'_, Share> {
        self.share.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, holder: Holder, size: u64) -> Result<Part, ApiError> {
        let mut share = self.share();
        let taken = share.take(holder, size);
        taken.map_err(|refused| self.refusal(&share, &holder, size, refused))
    }

    fn grow(&self, part: &mut Part, more: u64) -> Result<(), ApiError> {
        let mut share = self.share();
        let whole = part.size().saturating_add(more);
        let grown = share.grow(part, more);
        grown.map_err(|refused| self.refusal(&share, part.holder(), whole, refused))
    }

    /// What would be too much for it were there nobody else is too large, and waiting is of no use.
    fn refusal(&self, share: &Share, holder: &Holder, size: u64, refused: Refused) -> ApiError {
        let most = share.most_of(holder);
        if size > most {
            let what = self.what;
            let message = format!("of {what} this realm's size leaves one account {most}");
            return ApiError::new(Code::TooLarge, message);
        }
        refused.of(self.what).into()
    }
}

/// So much of a bound, until it is dropped.
#[derive(Debug)]
pub struct Portion {
    of: Arc<Inner>,
    /// `None` only while it is dropped.
    part: Option<Part>,
}

impl Portion {
    /// # Errors
    /// As [`Bound::take`]; it stays as it was.
    pub fn grow(&mut self, more: u64) -> Result<(), ApiError> {
        let Some(part) = &mut self.part else { return Ok(()) };
        self.of.grow(part, more)
    }

    /// As [`Portion::grow`], for who can make room itself.
    ///
    /// # Errors
    /// As [`Bound::check`]; it stays as it was.
    pub fn try_grow(&mut self, more: u64) -> Result<(), Refused> {
        let Some(part) = &mut self.part else { return Ok(()) };
        self.of.share().grow(part, more)
    }

    /// What is held already, whatever may be held.
    pub fn add(&mut self, more: u64) {
        if let Some(part) = &mut self.part {
            self.of.share().add(part, more);
        }
    }

    pub fn shrink(&mut self, less: u64) {
        if let Some(part) = &mut self.part {
            self.of.share().shrink(part, less);
        }
    }

    pub fn size(&self) -> u64 {
        self.part.as_ref().map_or(0, Part::size)
    }
}

impl Drop for Portion {
    fn drop(&mut self) {
        if let Some(part) = self.part.take() {
            self.of.share().give_back(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use mtor_core::share::Rank;
    use mtor_types::AccountId;

    use super::*;

    fn somebody(number: u8) -> Holder {
        let account = Some(AccountId([number; 32]));
        Holder { account, network: None, rank: Rank::Guest }
    }

    #[test]
    fn what_is_dropped_is_given_back_and_what_is_refused_is_named() {
        let bound = Bound::new(Limited::Bodies, 1_000, 1);
        let mut held = bound.take(somebody(1), 20).unwrap();
        held.grow(30).unwrap();
        let error = bound.take(somebody(1), 10).unwrap_err();
        assert_eq!(error.code, Code::ShareUsed);
        let error_of_one = held.grow(10).unwrap_err();
        assert_eq!(error_of_one.code, Code::TooLarge, "it would never fit: {error_of_one}");
        assert_eq!(error_of_one.retry_after_ms, None);
        assert!(error.message.contains("50 bytes of requests on their way"), "{error}");
        assert_eq!((held.size(), bound.filled()), (50, (50, 1_000)));
        drop(held);
        assert_eq!(bound.filled(), (0, 1_000));
    }

    #[test]
    fn a_small_machine_has_small_bounds_and_a_large_one_the_stated_ones() {
        let filled = |memory: u64, descriptors: u64, disk: u64| {
            let shares = Shares::new(Room { memory, descriptors, disk }, GIB);
            shares.all().map(|bound| bound.filled().1)
        };
        let small = filled(48 * MIB, 1_024, 0);
        assert_eq!(small, [64, 16 * MIB / 3, 16 * MIB / 3, 64, 2 * MIB, 64 * MIB, GIB]);
        let large = filled(64 * GIB, 1 << 20, 1 << 50);
        let of_memory = [CONNECTIONS_MAX, GIB, GIB, CONNECTIONS_MAX, (64 * GIB - 48 * MIB) / 8];
        assert_eq!(large, *[&of_memory[..], &[8 * GIB, 16 * GIB]].concat());
        let usual = filled(GIB, 1_024, 10 * GIB);
        assert!(usual[1] / 2 / 9 >= 17 * MIB, "a guest may send what is the largest");
        assert_eq!(usual[5..], [10 * GIB / 4, 6 * GIB]);
        assert_eq!(filled(GIB, 400, GIB)[0], 300);
    }
}
