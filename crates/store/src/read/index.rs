//! Where things stand in the log, in as few bytes and rows as a lookup can bear.
//!
//! - *history*: one row for each account and each span of 64 batches that moved its money, with
//!   one bit a batch. Accounts are known by their first 8 bytes: a collision costs one needless
//!   look into the log, because the batch's own transfers decide.
//! - *intents*: intent ids begin with their time (UUIDv7). One row for each second of ids and each
//!   batch that placed or resolved any of these, with 4 bytes for each id. A lookup scans one
//!   second's rows, and decodes the batches that hold the id's print. Ids without time in them
//!   are found as well, only slower.
//! - *sequences*: the first transfer of each batch, to page by.
//! - *idempotency*: first 8 bytes of a key → batch, by six-hour slots, so that pruning deletes
//!   from one end and needs no second index.

use mtor_types::fact::{Batch, Fact, Purse, Transfer};
use mtor_types::{AccountId, Digest, IntentId, Time};

use crate::sqlite::Shape;

pub(crate) const FILE: &str = "read.db";

pub(crate) const SHAPE: Shape = Shape {
    application: u32::from_be_bytes(*b"MTRD"),
    version: 1,
    schema: "
        CREATE TABLE mark (
            one INTEGER PRIMARY KEY, applied INTEGER NOT NULL, at INTEGER NOT NULL,
            digest BLOB NOT NULL
        );
        CREATE TABLE sequences (first INTEGER PRIMARY KEY, batch INTEGER NOT NULL);
        CREATE TABLE history (
            account INTEGER, span INTEGER, batches INTEGER NOT NULL, PRIMARY KEY (account, span)
        ) WITHOUT ROWID;
        CREATE TABLE intents (
            bucket INTEGER, batch INTEGER, prints BLOB NOT NULL, PRIMARY KEY (bucket, batch)
        ) WITHOUT ROWID;
        CREATE TABLE idempotency (
            slot INTEGER, key INTEGER, batch INTEGER, PRIMARY KEY (slot, key, batch)
        ) WITHOUT ROWID;
    ",
    // A power cut may take the last projections, never the file's order: they are made again.
    synchronous: "NORMAL",
};

/// An idempotency key binds for this long after its hold was placed.
pub(crate) const IDEMPOTENCY_MS: u64 = 24 * 60 * 60 * 1000;
const SLOT_MS: u64 = 6 * 60 * 60 * 1000;
/// Slots that may hold a key that still binds: the current one and those of the 24 h before.
pub(crate) const SLOTS: u64 = IDEMPOTENCY_MS / SLOT_MS + 1;
/// Batches that share a history row: the bits of an integer.
pub(crate) const SPAN: u64 = 64;

/// An id's time in steps of 1,024 ms.
pub(crate) fn bucket(intent: IntentId) -> i64 {
    let [a, b, c, d, e, f, ..] = intent.0;
    i64::from_be_bytes([0, 0, a, b, c, d, e, f]) >> 10
}

/// 32 bits made of the whole id; parts of its tail may say where it was minted.
pub(crate) fn print(intent: IntentId) -> [u8; 4] {
    let id = u128::from_le_bytes(intent.0);
    let mixed = id.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835).to_be_bytes();
    [mixed[0], mixed[1], mixed[2], mixed[3]]
}

pub(crate) fn short_account(account: AccountId) -> i64 {
    short(&account.0)
}

pub(crate) fn short_key(key: Digest) -> i64 {
    short(&key.0)
}

fn short(bytes: &[u8; 32]) -> i64 {
    let [a, b, c, d, e, f, g, h, ..] = *bytes;
    i64::from_be_bytes([a, b, c, d, e, f, g, h])
}

pub(crate) fn slot(at: Time) -> u64 {
    at.0 / SLOT_MS
}

/// Slots before this one hold only keys that no longer bind at `now`.
pub(crate) fn first_live_slot(now: Time) -> u64 {
    slot(now).saturating_sub(SLOTS - 1)
}

/// The money that a fact moved, and the intent it moved for.
pub(crate) fn transfers(fact: &Fact) -> (Option<IntentId>, &[Transfer]) {
    match fact {
        Fact::GrantPaid { transfer, .. } | Fact::GrantGiven { transfer, .. } => {
            (None, std::slice::from_ref(transfer))
        }
        Fact::HoldPlaced { intent, transfer, .. } => (Some(*intent), transfer.as_slice()),
        Fact::HoldResolved { intent, transfers, .. } => (Some(*intent), transfers),
        Fact::NodeStarted { .. }
        | Fact::MessageSent { .. }
        | Fact::MessageAcknowledged { .. }
        | Fact::MessageTaken { .. }
        | Fact::LedgerOpened { .. }
        | Fact::AccountOpened { .. }
        | Fact::KeyAdded { .. }
        | Fact::KeyRevoked { .. }
        | Fact::AccountBanned { .. }
        | Fact::IntentOpenedV1 { .. }
        | Fact::IntentOpened { .. }
        | Fact::IntentEnded { .. }
        | Fact::TokenIssued { .. }
        | Fact::WorkerEnrolled { .. }
        | Fact::WorkerBanned { .. }
        | Fact::WorkerRemoved { .. }
        | Fact::WorkerServed { .. }
        | Fact::SlotsEarned { .. }
        | Fact::WorkerEjected { .. }
        | Fact::CanaryJudged { .. }
        | Fact::WorkerProven { .. }
        | Fact::ProofLapsed { .. }
        | Fact::EjectionTakenBack { .. }
        | Fact::DayBegan { .. }
        | Fact::WorkerSeen { .. }
        | Fact::TokensExpired { .. }
        | Fact::AccountCounted { .. }
        | Fact::InvitesIssued { .. }
        | Fact::InviteUsed { .. }
        | Fact::InvitesWithdrawn
        | Fact::AccountLimited { .. }
        | Fact::OwnerBanned { .. }
        | Fact::WorkerEnrolledBy { .. } => (None, &[]),
    }
}

/// Whose purse it is, unless the realm's.
pub(crate) fn owner(purse: Purse) -> Option<AccountId> {
    match purse {
        Purse::Available(account) | Purse::Held(account) => Some(account),
        Purse::RealmFee | Purse::GrantIssue | Purse::ChainBridge => None,
    }
}

/// What some batches add to the tables.
#[derive(Default)]
pub(crate) struct Additions {
    /// First transfer, batch.
    pub(crate) sequences: Vec<(u64, u64)>,
    /// Account, span, bits.
    pub(crate) history: Vec<(i64, u64, u64)>,
    /// Bucket, batch, print.
    pub(crate) intents: Vec<(i64, u64, [u8; 4])>,
    /// Slot, key, batch.
    pub(crate) keys: Vec<(u64, i64, u64)>,
}

impl Additions {
    pub(crate) fn add(&mut self, batch: &Batch) {
        let (span, bit) = (batch.number / SPAN, 1 << (batch.number % SPAN));
        let mut first: Option<u64> = None;
        for fact in &batch.facts {
            let (_, moved) = transfers(fact);
            for transfer in moved {
                first = Some(first.map_or(transfer.sequence, |f| f.min(transfer.sequence)));
                let (from, to) = (owner(transfer.from), owner(transfer.to));
                self.history.extend(from.map(|account| (short_account(account), span, bit)));
                if to != from {
                    self.history.extend(to.map(|account| (short_account(account), span, bit)));
                }
            }
            if let Fact::HoldPlaced { intent, .. } | Fact::HoldResolved { intent, .. } = fact {
                self.intents.push((bucket(*intent), batch.number, print(*intent)));
            }
            if let Fact::HoldPlaced { idempotency: Some(bound), .. } = fact {
                self.keys.push((slot(batch.at), short_key(bound.key), batch.number));
            }
        }
        self.sequences.extend(first.map(|first| (first, batch.number)));
    }

    /// Sorts for the tables' own order, and joins what shares a row.
    pub(crate) fn sort(&mut self) {
        self.history.sort_unstable();
        self.history.dedup_by(|next, kept| {
            let same = (next.0, next.1) == (kept.0, kept.1);
            if same {
                kept.2 |= next.2;
            }
            same
        });
        self.intents.sort_unstable();
        self.keys.sort_unstable();
        self.keys.dedup();
    }
}
