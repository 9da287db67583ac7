//! What the read tables answer, each answer read from the log's own rows.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use mtor_types::fact::{Asset, Batch, Fact, Purse, Transfer, TransferKind};
use mtor_types::intent::{Outcome, Usage};
use mtor_types::{AccountId, Amount, Digest, IntentId, Time, TransferId, WorkerId};
use rusqlite::Connection;

use super::index::{self, IDEMPOTENCY_MS, SLOTS, SPAN};
use super::tables::read_mark;
use crate::error::StoreError;
use crate::log::{decode_batch, sqlite as log};
use crate::sqlite::{self, signed, unsigned};

/// Memory of each of a view's two page caches.
const CACHE_KIB: u32 = 256;

/// How a transfer looks from one account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From somebody else.
    In,
    /// To somebody else.
    Out,
    /// Within the account: from what it may spend to what it has reserved.
    Held,
    /// Within the account: back again.
    Released,
}

impl Direction {
    pub const fn name(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
            Self::Held => "held",
            Self::Released => "released",
        }
    }
}

/// One line of an account's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferRow {
    pub sequence: u64,
    pub id: TransferId,
    pub kind: TransferKind,
    pub asset: Asset,
    pub amount: Amount,
    pub direction: Direction,
    pub intent: Option<IntentId>,
    pub at: Time,
}

/// What became of one intent's money.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IntentRow {
    pub intent: IntentId,
    pub account: AccountId,
    pub asset: Asset,
    pub hold: Amount,
    pub placed_at: Time,
    /// The batch that placed the hold.
    pub batch: u64,
    /// `None` while it is open.
    pub end: Option<EndRow>,
}

/// How an intent ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndRow {
    pub outcome: Outcome,
    pub usage: Usage,
    pub worker: Option<WorkerId>,
    /// What was captured, the realm's fee included.
    pub cost: Amount,
    /// What was released.
    pub refunded: Amount,
    /// The first transfer of the resolution, 0 if nothing moved.
    pub sequence: u64,
    pub at: Time,
    /// The batch that resolved the hold: the one its receipt is of.
    pub batch: u64,
}

/// A place in the log, to go on from: a batch, and a fact in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub batch: u64,
    pub fact: u32,
}

/// Some of an account's intents, the newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlacedRows {
    pub rows: Vec<IntentRow>,
    /// Where older ones may stand; `None` if there are none.
    pub next: Option<Position>,
}

/// Batches that one look at an account's intents reads at most. Each holds something of the
/// account, but it may be what its workers earned.
const BATCHES_READ_MAX: usize = 1_024;

/// One connection to the read tables and one to the log: for one thread at a time.
#[derive(Debug)]
pub(super) struct View {
    tables: Connection,
    tables_path: PathBuf,
    log: Connection,
    log_path: PathBuf,
}

impl View {
    /// Opens what is there; makes nothing.
    pub(super) fn open(dir: &Path) -> Result<Self, StoreError> {
        let (tables_path, log_path) = (dir.join(index::FILE), dir.join(log::FILE));
        Ok(Self {
            tables: sqlite::open_to_read(&tables_path, &index::SHAPE, CACHE_KIB)?,
            tables_path,
            log: sqlite::open_to_read(&log_path, &log::SHAPE, CACHE_KIB)?,
            log_path,
        })
    }

    /// The last batch that answers take into account.
    pub(super) fn applied(&self) -> Result<u64, StoreError> {
        Ok(self.mark()?.0)
    }

    /// An account's transfers after a sequence number, oldest first, at most `limit`.
    pub(super) fn transfers(
        &self,
        account: AccountId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<TransferRow>, StoreError> {
        let start = self.batch_of(after.saturating_add(1))?;
        let sql = "SELECT span, batches FROM history WHERE account = ?1 AND span >= ?2
            ORDER BY span";
        let mut select = self.tables.prepare_cached(sql).map_err(|e| self.fail(e))?;
        let short = index::short_account(account);
        let mut spans = select.query([short, signed(start / SPAN)]).map_err(|e| self.fail(e))?;
        let mut found = Vec::new();
        while found.len() < limit {
            let Some(row) = spans.next().map_err(|e| self.fail(e))? else { break };
            let span = unsigned(row, 0).map_err(|e| self.fail(e))?;
            let bits: i64 = row.get(1).map_err(|e| self.fail(e))?;
            let numbers = batches_of(span, bits.cast_unsigned());
            for number in numbers.filter(|number| *number >= start) {
                let batch = self.batch(number)?;
                let room = limit.saturating_sub(found.len());
                let rows = rows_of(&batch, account).filter(|row| row.sequence > after);
                found.extend(rows.take(room));
                if found.len() >= limit {
                    break;
                }
            }
        }
        Ok(found)
    }

    /// The intents whose holds an account placed before a position, the newest first: at most
    /// `limit`, and fewer if too much else had to be read.
    pub(super) fn placed(
        &self,
        account: AccountId,
        before: Option<Position>,
        limit: usize,
    ) -> Result<PlacedRows, StoreError> {
        let newest = Position { batch: self.applied()?, fact: u32::MAX };
        let before = before.unwrap_or(newest).min(newest);
        let (mut found, mut read) = (Vec::new(), 0_usize);
        let mut next = None;
        let sql = "SELECT span, batches FROM history WHERE account = ?1 AND span <= ?2
            ORDER BY span DESC";
        let mut select = self.tables.prepare_cached(sql).map_err(|e| self.fail(e))?;
        let short = index::short_account(account);
        let parameters = [short, signed(before.batch / SPAN)];
        let mut spans = select.query(parameters).map_err(|e| self.fail(e))?;
        'spans: while let Some(row) = spans.next().map_err(|e| self.fail(e))? {
            let span = unsigned(row, 0).map_err(|e| self.fail(e))?;
            let bits: i64 = row.get(1).map_err(|e| self.fail(e))?;
            let mut numbers: Vec<u64> = batches_of(span, bits.cast_unsigned()).collect();
            numbers.retain(|number| *number <= before.batch);
            for number in numbers.into_iter().rev() {
                if read >= BATCHES_READ_MAX {
                    next = Some(Position { batch: number, fact: u32::MAX });
                    break 'spans;
                }
                read += 1;
                for (position, intent) in placed_in(&self.batch(number)?, account).into_iter().rev()
                {
                    if position < before && found.len() < limit {
                        found.push(intent);
                        next = Some(position);
                    }
                }
                if found.len() >= limit {
                    break 'spans;
                }
            }
            next = None;
        }
        let mut rows = self.intents(&found)?;
        Ok(PlacedRows { rows: found.iter().filter_map(|id| rows.remove(id)).collect(), next })
    }

    /// One intent, if its hold was ever placed.
    pub(super) fn intent(&self, intent: IntentId) -> Result<Option<IntentRow>, StoreError> {
        Ok(self.intents(&[intent])?.remove(&intent))
    }

    /// Several intents at once; those that were never placed are left out.
    pub(super) fn intents(
        &self,
        intents: &[IntentId],
    ) -> Result<BTreeMap<IntentId, IntentRow>, StoreError> {
        let wanted: BTreeSet<IntentId> = intents.iter().copied().collect();
        let mut rows = BTreeMap::new();
        // In the order of the log, so an intent is placed before it is resolved.
        for number in self.candidates(&wanted)? {
            collect(&self.batch(number)?, &wanted, &mut rows);
        }
        Ok(rows)
    }

    /// The intents whose holds a batch resolved, in the batch's order.
    pub(super) fn settled_in(&self, batch: u64) -> Result<Vec<IntentRow>, StoreError> {
        if batch == 0 || batch > self.applied()? {
            return Ok(Vec::new());
        }
        let resolved: Vec<IntentId> =
            self.batch(batch)?.facts.iter().filter_map(resolved_intent).collect();
        let mut rows = self.intents(&resolved)?;
        Ok(resolved.iter().filter_map(|intent| rows.remove(intent)).collect())
    }

    /// The intent that an idempotency key is bound to, and the digest of its body. A refused
    /// intent binds no key, and none binds for longer than 24 h of the log's time.
    pub(super) fn idempotency(
        &self,
        key: Digest,
    ) -> Result<Option<(IntentId, Digest)>, StoreError> {
        let (_, now, _) = self.mark()?;
        let sql = "SELECT batch FROM idempotency WHERE slot = ?1 AND key = ?2 ORDER BY batch DESC";
        let mut select = self.tables.prepare_cached(sql).map_err(|e| self.fail(e))?;
        let first = index::first_live_slot(now);
        for slot in (first..first.saturating_add(SLOTS)).rev() {
            let numbers = select
                .query_map([signed(slot), index::short_key(key)], |row| unsigned(row, 0))
                .and_then(Iterator::collect::<Result<Vec<u64>, _>>)
                .map_err(|e| self.fail(e))?;
            for number in numbers {
                if let Some(bound) = self.bound_in(number, key, now)? {
                    return Ok(Some(bound));
                }
            }
        }
        Ok(None)
    }

    fn bound_in(
        &self,
        number: u64,
        key: Digest,
        now: Time,
    ) -> Result<Option<(IntentId, Digest)>, StoreError> {
        let batch = self.batch(number)?;
        if now.since_ms(batch.at) >= IDEMPOTENCY_MS {
            return Ok(None);
        }
        for fact in batch.facts.iter().rev() {
            let Fact::HoldPlaced { intent, idempotency: Some(bound), .. } = fact else { continue };
            if bound.key != key {
                continue;
            }
            let end = self.intent(*intent)?.and_then(|row| row.end);
            if end.is_none_or(|end| end.outcome != Outcome::Refused) {
                return Ok(Some((*intent, bound.body)));
            }
        }
        Ok(None)
    }

    /// The last batch whose first transfer is not after `sequence`; 0 if there is none.
    fn batch_of(&self, sequence: u64) -> Result<u64, StoreError> {
        let sql = "SELECT batch FROM sequences WHERE first <= ?1 ORDER BY first DESC LIMIT 1";
        let mut select = self.tables.prepare_cached(sql).map_err(|e| self.fail(e))?;
        let mut rows = select.query([signed(sequence)]).map_err(|e| self.fail(e))?;
        let row = rows.next().map_err(|e| self.fail(e))?;
        row.map_or(Ok(0), |row| unsigned(row, 0)).map_err(|e| self.fail(e))
    }

    /// The batches that may hold a fact about one of these.
    fn candidates(&self, wanted: &BTreeSet<IntentId>) -> Result<BTreeSet<u64>, StoreError> {
        let mut by_bucket: BTreeMap<i64, BTreeSet<[u8; 4]>> = BTreeMap::new();
        for intent in wanted {
            by_bucket.entry(index::bucket(*intent)).or_default().insert(index::print(*intent));
        }
        let sql = "SELECT batch, prints FROM intents WHERE bucket = ?1";
        let mut select = self.tables.prepare_cached(sql).map_err(|e| self.fail(e))?;
        let mut numbers = BTreeSet::new();
        for (bucket, wanted) in by_bucket {
            let mut rows = select.query([bucket]).map_err(|e| self.fail(e))?;
            while let Some(row) = rows.next().map_err(|e| self.fail(e))? {
                let prints = row.get_ref(1).and_then(|value| Ok(value.as_blob()?));
                let (prints, _) = prints.map_err(|e| self.fail(e))?.as_chunks();
                if prints.iter().any(|print| wanted.contains(print)) {
                    numbers.insert(unsigned(row, 0).map_err(|e| self.fail(e))?);
                }
            }
        }
        Ok(numbers)
    }

    fn batch(&self, number: u64) -> Result<Batch, StoreError> {
        decode_batch(&log::read_batch(&self.log, &self.log_path, number)?)
    }

    fn mark(&self) -> Result<(u64, Time, [u8; 32]), StoreError> {
        Ok(read_mark(&self.tables).map_err(|e| self.fail(e))?.unwrap_or_default())
    }

    fn fail(&self, source: rusqlite::Error) -> StoreError {
        StoreError::sqlite(&self.tables_path, 0, source)
    }
}

fn batches_of(span: u64, bits: u64) -> impl Iterator<Item = u64> {
    (0..SPAN).filter(move |bit| bits >> bit & 1 == 1).map(move |bit| span * SPAN + bit)
}

fn resolved_intent(fact: &Fact) -> Option<IntentId> {
    if let Fact::HoldResolved { intent, .. } = fact { Some(*intent) } else { None }
}

/// The holds that an account placed in a batch.
fn placed_in(batch: &Batch, account: AccountId) -> Vec<(Position, IntentId)> {
    let placed = (0..).zip(&batch.facts).filter_map(|(fact, content)| {
        // One that reserved nothing is in no account's history, so it is found by chance only.
        let Fact::HoldPlaced { intent, account: payer, transfer: Some(_), .. } = content else {
            return None;
        };
        let position = Position { batch: batch.number, fact };
        (*payer == account).then_some((position, *intent))
    });
    placed.collect()
}

/// The transfers of a batch that touch an account, in the batch's order, which is the log's.
fn rows_of(batch: &Batch, account: AccountId) -> impl Iterator<Item = TransferRow> {
    batch.facts.iter().flat_map(move |fact| {
        let (intent, moved) = index::transfers(fact);
        moved.iter().filter_map(move |transfer| {
            Some(TransferRow {
                sequence: transfer.sequence,
                id: transfer.id,
                kind: transfer.kind,
                asset: transfer.asset,
                amount: transfer.amount,
                direction: direction(transfer, account)?,
                intent,
                at: batch.at,
            })
        })
    })
}

fn direction(transfer: &Transfer, account: AccountId) -> Option<Direction> {
    let from = index::owner(transfer.from) == Some(account);
    let to = index::owner(transfer.to) == Some(account);
    match (from, to) {
        (false, false) => None,
        (true, false) => Some(Direction::Out),
        (false, true) => Some(Direction::In),
        (true, true) if matches!(transfer.to, Purse::Held(_)) => Some(Direction::Held),
        (true, true) => Some(Direction::Released),
    }
}

fn collect(batch: &Batch, wanted: &BTreeSet<IntentId>, rows: &mut BTreeMap<IntentId, IntentRow>) {
    for fact in &batch.facts {
        if let Fact::HoldPlaced { intent, account, asset, amount, .. } = fact
            && wanted.contains(intent)
        {
            let row = IntentRow {
                intent: *intent,
                account: *account,
                asset: *asset,
                hold: *amount,
                placed_at: batch.at,
                batch: batch.number,
                end: None,
            };
            rows.insert(*intent, row);
        }
        if let Fact::HoldResolved { intent, outcome, usage, worker, transfers, .. } = fact
            && let Some(row) = rows.get_mut(intent)
        {
            let (cost, refunded) = split(transfers);
            row.end = Some(EndRow {
                outcome: *outcome,
                usage: *usage,
                worker: *worker,
                cost,
                refunded,
                sequence: transfers.first().map_or(0, |transfer| transfer.sequence),
                at: batch.at,
                batch: batch.number,
            });
        }
    }
}

/// What a resolution captured, and what it released. Sums of parts of one hold never overflow.
fn split(transfers: &[Transfer]) -> (Amount, Amount) {
    let sum = |released: bool| {
        transfers
            .iter()
            .filter(|t| matches!(t.kind, TransferKind::Void | TransferKind::Expire) == released)
            .fold(Amount::ZERO, |sum, t| sum.checked_add(t.amount).unwrap_or(Amount::MAX))
    };
    (sum(false), sum(true))
}
