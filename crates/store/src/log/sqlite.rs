//! The log in one SQLite file: write-ahead log, one sync a commit, one writer.
//!
//! Each row carries SHA-256 over the chain value before it and its own number, time and bytes, so
//! a changed, missing or moved row is found by reading, with its number. SQLite itself would give
//! a shorter table for some damaged pages without a word; therefore number and chain of the last
//! row also stand in a second table, on a page of its own, written by the same transaction.

use std::path::{Path, PathBuf};

use mtor_types::Time;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, TransactionBehavior, params};
use sha2::{Digest as _, Sha256};

use super::snapshot::{Snapshot, Snapshots};
use super::{Encoded, Log, wal};
use crate::error::StoreError;
use crate::sqlite::{self, Shape, Tuning, signed, unsigned};

pub(crate) const FILE: &str = "log.db";

pub(crate) const SHAPE: Shape = Shape {
    application: u32::from_be_bytes(*b"MTLG"),
    version: 1,
    schema: "
        CREATE TABLE batch (
            number INTEGER PRIMARY KEY, at INTEGER NOT NULL, chain BLOB NOT NULL, bytes BLOB NOT NULL
        );
        CREATE TABLE head (one INTEGER PRIMARY KEY, number INTEGER NOT NULL, chain BLOB NOT NULL);
    ",
    synchronous: "FULL",
};

/// One answer of `read_after` stops growing here, so that recovery runs in constant memory.
const READ_BYTES_MAX: usize = 512 * 1024;

type Chain = [u8; 32];

/// The log of one node in `log.db`.
#[derive(Debug)]
pub struct SqliteLog {
    connection: Connection,
    path: PathBuf,
    last: u64,
    chain: Chain,
    snapshots: Snapshots,
}

impl SqliteLog {
    /// Opens or makes the log of a data directory. The caller holds the directory's lock.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        Self::open_with(dir, &Tuning::default())
    }

    /// As [`SqliteLog::open`], with other sizes.
    pub fn open_with(dir: &Path, tuning: &Tuning) -> Result<Self, StoreError> {
        let path = dir.join(FILE);
        // Before SQLite sees the file: its own recovery drops what it cannot read without a word.
        if wal::lost_commits(&path)? {
            let batch = last_readable(&path).saturating_add(1);
            return Err(StoreError::Damaged { path, batch, why: "log.db-wal has a damaged frame" });
        }
        let connection = sqlite::open(&path, &SHAPE, tuning)?.ok_or_else(|| {
            StoreError::Damaged { path: path.clone(), batch: 0, why: "its format is unknown" }
        })?;
        let snapshots = Snapshots::open(dir)?;
        let mut log = Self { connection, path, last: 0, chain: [0; 32], snapshots };
        (log.last, log.chain) = log.head()?;
        Ok(log)
    }

    /// The snapshots beside this log, for a thread that writes them while appends go on.
    pub fn snapshots(&self) -> Snapshots {
        self.snapshots.clone()
    }

    /// The newest undamaged snapshot. The log holds every batch from 1, so `None` costs time only.
    pub fn load_snapshot(&self) -> Result<Option<Snapshot>, StoreError> {
        let snapshot = self.snapshots.load()?.snapshot;
        match snapshot {
            // It was saved when the log held its batch: the log has lost its end since.
            Some(snapshot) if snapshot.batch > self.last => {
                Err(self.damaged(self.last.saturating_add(1), "a snapshot is of a later batch"))
            }
            found => Ok(found),
        }
    }

    /// Reads all rows and proves each; recovery itself reads only those after the snapshot.
    pub fn verify(&self) -> Result<(), StoreError> {
        let mut number = 0;
        while number < self.last {
            number = self.read_after(number, 1024)?.last().map_or(self.last, |row| row.number);
        }
        Ok(())
    }

    /// The last row's number and chain value, proven against the row.
    fn head(&self) -> Result<(u64, Chain), StoreError> {
        let fail = |source| StoreError::sqlite(&self.path, 0, source);
        let head = self
            .connection
            .prepare_cached("SELECT number, chain FROM head WHERE one = 1")
            .and_then(|mut select| {
                select.query_row([], |row| Ok((unsigned(row, 0)?, row.get(1)?))).optional()
            })
            .map_err(fail)?;
        let found = last_number(&self.connection, &self.path)?;
        let (number, chain) = head.unwrap_or((0, [0; 32]));
        if found != number {
            let batch = found.min(number).saturating_add(1);
            return Err(self.damaged(batch, "the last rows are missing or were never written"));
        }
        if number > 0 {
            let row = read_one(&self.connection, &self.path, number)?;
            if row.chain != chain {
                return Err(self.damaged(number, "its checksum does not match the head's"));
            }
        }
        Ok((number, chain))
    }

    fn damaged(&self, batch: u64, why: &'static str) -> StoreError {
        StoreError::Damaged { path: self.path.clone(), batch, why }
    }

    /// Splits off what is there already. Fails, with nothing changed, unless all of it is the
    /// same and the rest goes on densely.
    fn fresh<'a>(&self, batches: &'a [Encoded]) -> Result<&'a [Encoded], StoreError> {
        for (before, batch) in batches.iter().zip(batches.iter().skip(1)) {
            if before.number.checked_add(1) != Some(batch.number) {
                let expected = before.number.saturating_add(1);
                return Err(StoreError::OutOfOrder { expected, found: batch.number });
            }
        }
        let expected = self.last.saturating_add(1);
        let Some(first) = batches.first() else { return Ok(batches) };
        if first.number == 0 || first.number > expected {
            return Err(StoreError::OutOfOrder { expected, found: first.number });
        }
        let known = batches.partition_point(|batch| batch.number <= self.last);
        let (known, fresh) = batches.split_at(known);
        for batch in known {
            let row = read_one(&self.connection, &self.path, batch.number)?;
            if row.encoded != *batch {
                return Err(StoreError::OutOfOrder { expected, found: batch.number });
            }
        }
        Ok(fresh)
    }

    /// Returns the chain value after the last of these.
    fn write(&mut self, batches: &[Encoded]) -> Result<Chain, rusqlite::Error> {
        let tx = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut chain = self.chain;
        {
            let mut insert = tx.prepare_cached(
                "INSERT INTO batch (number, at, chain, bytes) VALUES (?1, ?2, ?3, ?4)",
            )?;
            let mut number = 0;
            for batch in batches {
                chain = link(&chain, batch);
                number = signed(batch.number);
                insert.execute(params![number, signed(batch.at.0), chain, batch.bytes])?;
            }
            tx.prepare_cached(
                "INSERT OR REPLACE INTO head (one, number, chain) VALUES (1, ?1, ?2)",
            )?
            .execute(params![number, chain])?;
        }
        // Crash before this: none of them. During: all or none, by SQLite's frame checksums.
        // After: all of them, synced.
        tx.commit()?;
        Ok(chain)
    }
}

impl Log for SqliteLog {
    fn append(&mut self, batches: &[Encoded]) -> Result<(), StoreError> {
        let fresh = self.fresh(batches)?;
        let Some(last) = fresh.last() else { return Ok(()) };
        match self.write(fresh) {
            Ok(chain) => {
                (self.last, self.chain) = (last.number, chain);
                Ok(())
            }
            Err(source) => {
                // Whatever became of it, the next try starts from what is there.
                if let Ok(head) = self.head() {
                    (self.last, self.chain) = head;
                }
                Err(StoreError::sqlite(&self.path, self.last.saturating_add(1), source))
            }
        }
    }

    fn read_after(&self, number: u64, limit: usize) -> Result<Vec<Encoded>, StoreError> {
        let mut chain = chain_of(&self.connection, &self.path, number)?;
        let mut next = number.saturating_add(1);
        let fail = |next| move |source| StoreError::sqlite(&self.path, next, source);
        let sql = "SELECT number, at, chain, bytes FROM batch WHERE number > ?1 ORDER BY number";
        let mut select = self.connection.prepare_cached(sql).map_err(fail(next))?;
        let mut rows = select.query([signed(number)]).map_err(fail(next))?;
        let mut found = Vec::new();
        let mut bytes = 0_usize;
        while found.len() < limit && bytes < READ_BYTES_MAX && next <= self.last {
            let row = rows.next().map_err(fail(next))?;
            let row = row.ok_or_else(|| self.damaged(next, "it is missing"))?;
            let row = Stored::read(row).map_err(fail(next))?;
            row.check(next, &chain, &self.path)?;
            chain = row.chain;
            next = next.saturating_add(1);
            bytes = bytes.saturating_add(row.encoded.bytes.len());
            found.push(row.encoded);
        }
        Ok(found)
    }

    fn last(&self) -> u64 {
        self.last
    }
}

/// A row as it stands in the file.
struct Stored {
    encoded: Encoded,
    chain: Chain,
}

impl Stored {
    fn read(row: &Row<'_>) -> Result<Self, rusqlite::Error> {
        let encoded =
            Encoded { number: unsigned(row, 0)?, at: Time(unsigned(row, 1)?), bytes: row.get(3)? };
        Ok(Self { encoded, chain: row.get(2)? })
    }

    fn check(&self, expected: u64, before: &Chain, path: &Path) -> Result<(), StoreError> {
        let why = if self.encoded.number != expected {
            "it is missing"
        } else if link(before, &self.encoded) != self.chain {
            "its checksum does not match"
        } else {
            return Ok(());
        };
        Err(StoreError::Damaged { path: path.to_path_buf(), batch: expected, why })
    }
}

fn link(before: &Chain, batch: &Encoded) -> Chain {
    Sha256::new()
        .chain_update(before)
        .chain_update(batch.number.to_le_bytes())
        .chain_update(batch.at.0.to_le_bytes())
        .chain_update(&batch.bytes)
        .finalize()
        .into()
}

fn last_number(connection: &Connection, path: &Path) -> Result<u64, StoreError> {
    connection
        .prepare_cached("SELECT number FROM batch ORDER BY number DESC LIMIT 1")
        .and_then(|mut select| select.query_row([], |row| unsigned(row, 0)).optional())
        .map(Option::unwrap_or_default)
        .map_err(|source| StoreError::sqlite(path, 0, source))
}

/// The last row that SQLite still finds, leaving everything as it is: the next start must refuse
/// as well, so closing must not tidy the damaged file away.
fn last_readable(path: &Path) -> u64 {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let Ok(connection) = Connection::open_with_flags(path, flags) else { return 0 };
    if connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).is_err() {
        return 0;
    }
    last_number(&connection, path).unwrap_or(0)
}

/// The chain value that row `number` + 1 goes on from.
fn chain_of(connection: &Connection, path: &Path, number: u64) -> Result<Chain, StoreError> {
    if number == 0 {
        return Ok([0; 32]);
    }
    let missing =
        || StoreError::Damaged { path: path.to_path_buf(), batch: number, why: "it is missing" };
    connection
        .prepare_cached("SELECT chain FROM batch WHERE number = ?1")
        .and_then(|mut select| select.query_row([signed(number)], |row| row.get(0)).optional())
        .map_err(|source| StoreError::sqlite(path, number, source))?
        .ok_or_else(missing)
}

/// One row, proven against the row before it.
fn read_one(connection: &Connection, path: &Path, number: u64) -> Result<Stored, StoreError> {
    let before = chain_of(connection, path, number.saturating_sub(1))?;
    let missing =
        || StoreError::Damaged { path: path.to_path_buf(), batch: number, why: "it is missing" };
    let row = connection
        .prepare_cached("SELECT number, at, chain, bytes FROM batch WHERE number = ?1")
        .and_then(|mut select| select.query_row([signed(number)], Stored::read).optional())
        .map_err(|source| StoreError::sqlite(path, number, source))?
        .ok_or_else(missing)?;
    row.check(number, &before, path)?;
    Ok(row)
}

/// One batch for a reader that has its own connection.
pub(crate) fn read_batch(
    connection: &Connection,
    path: &Path,
    number: u64,
) -> Result<Encoded, StoreError> {
    read_one(connection, path, number).map(|row| row.encoded)
}
