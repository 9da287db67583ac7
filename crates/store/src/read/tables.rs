//! The writing side of the read tables.

use std::path::{Path, PathBuf};

use mtor_types::Time;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use sha2::{Digest as _, Sha256};

use super::index::{self, Additions, FILE, SHAPE};
use crate::error::StoreError;
use crate::files;
use crate::log::{Encoded, Log, decode_batch};
use crate::sqlite::{self, Tuning, signed, unsigned};

/// Batches that one [`ReadTables::catch_up`] step takes.
const STEP: usize = 256;

/// The projections of a log in `read.db`, and how far they have come.
#[derive(Debug)]
pub struct ReadTables {
    connection: Connection,
    path: PathBuf,
    applied: u64,
    at: Time,
    /// SHA-256 of the last applied batch: tells whether the log is still the one projected.
    digest: [u8; 32],
}

impl ReadTables {
    /// Opens the tables of a data directory. Missing, damaged or of an older format, they begin
    /// anew, with nothing applied. Open readers after this.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        // History rows are written all over their table: here a cache does save reads.
        Self::open_with(dir, &Tuning { cache_kib: 2048, ..Tuning::default() })
    }

    /// As [`ReadTables::open`], with other sizes.
    pub fn open_with(dir: &Path, tuning: &Tuning) -> Result<Self, StoreError> {
        match Self::try_open(dir, tuning) {
            Ok(Some(tables)) => return Ok(tables),
            Ok(None) | Err(StoreError::Damaged { .. }) => {}
            Err(error) => return Err(error),
        }
        Self::discard(dir)?;
        let path = dir.join(FILE);
        let why = "it cannot be made anew";
        Self::try_open(dir, tuning)?.ok_or(StoreError::Damaged { path, batch: 0, why })
    }

    /// Removes the tables' files. For a caller that was told `Damaged` while running: close, call
    /// this, open, catch up.
    pub fn discard(dir: &Path) -> Result<(), StoreError> {
        for name in [FILE, "read.db-wal", "read.db-shm"] {
            files::remove(&dir.join(name))?;
        }
        files::sync_dir(dir)
    }

    /// The last batch that is in the tables.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// Takes in batches, in one transaction with the mark. Those already in are passed over; the
    /// rest must go on densely.
    pub fn project(&mut self, batches: &[Encoded]) -> Result<(), StoreError> {
        let mut added = Additions::default();
        let mut last = None;
        let mut expected = self.applied.saturating_add(1);
        for encoded in batches.iter().skip_while(|batch| batch.number <= self.applied) {
            if encoded.number != expected {
                return Err(StoreError::OutOfOrder { expected, found: encoded.number });
            }
            added.add(&decode_batch(encoded)?);
            expected = expected.saturating_add(1);
            last = Some(encoded);
        }
        let Some(last) = last else { return Ok(()) };
        added.sort();
        let digest = Sha256::digest(&last.bytes).into();
        let written = write(&mut self.connection, &added, last, &digest);
        written.map_err(|source| StoreError::sqlite(&self.path, last.number, source))?;
        (self.applied, self.at, self.digest) = (last.number, last.at, digest);
        Ok(())
    }

    /// Takes in all that the log has. Begins anew if the log is not the one projected so far: a
    /// restored backup.
    pub fn catch_up(&mut self, log: &impl Log) -> Result<(), StoreError> {
        if self.applied > 0 && !self.is_of(log)? {
            self.clear()?;
        }
        loop {
            let batches = log.read_after(self.applied, STEP)?;
            if batches.is_empty() {
                return Ok(());
            }
            self.project(&batches)?;
        }
    }

    /// Deletes idempotency keys that no longer bind by the log's own time: at most `limit`, in
    /// the order of time. Returns how many. They stopped being found when they stopped to bind.
    pub fn prune(&mut self, limit: usize) -> Result<usize, StoreError> {
        let sql = "DELETE FROM idempotency WHERE (slot, key, batch) IN (
            SELECT slot, key, batch FROM idempotency WHERE slot < ?1 ORDER BY slot LIMIT ?2)";
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.connection
            .prepare_cached(sql)
            .and_then(|mut delete| delete.execute([signed(index::first_live_slot(self.at)), limit]))
            .map_err(|source| StoreError::sqlite(&self.path, self.applied, source))
    }

    fn try_open(dir: &Path, tuning: &Tuning) -> Result<Option<Self>, StoreError> {
        let path = dir.join(FILE);
        let Some(connection) = sqlite::open(&path, &SHAPE, tuning)? else { return Ok(None) };
        let mark = read_mark(&connection)
            .map_err(|source| StoreError::sqlite(&path, 0, source))?
            .unwrap_or_default();
        Ok(Some(Self { connection, path, applied: mark.0, at: mark.1, digest: mark.2 }))
    }

    fn is_of(&self, log: &impl Log) -> Result<bool, StoreError> {
        if self.applied > log.last() {
            return Ok(false);
        }
        let row = log.read_after(self.applied.saturating_sub(1), 1)?;
        Ok(row.first().is_some_and(|row| Sha256::digest(&row.bytes).as_slice() == self.digest))
    }

    /// Empties the tables in place, so that open readers see it.
    fn clear(&mut self) -> Result<(), StoreError> {
        let sql = "BEGIN; DELETE FROM mark; DELETE FROM sequences; DELETE FROM history;
            DELETE FROM intents; DELETE FROM idempotency; COMMIT;";
        let cleared = self.connection.execute_batch(sql);
        if cleared.is_err() && !self.connection.is_autocommit() {
            // Best effort: the error that is told is the first.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
        cleared.map_err(|source| StoreError::sqlite(&self.path, 0, source))?;
        (self.applied, self.at, self.digest) = (0, Time::default(), [0; 32]);
        Ok(())
    }
}

type Mark = (u64, Time, [u8; 32]);

/// How far the tables have come, if at all.
pub(super) fn read_mark(connection: &Connection) -> Result<Option<Mark>, rusqlite::Error> {
    connection
        .prepare_cached("SELECT applied, at, digest FROM mark WHERE one = 1")?
        .query_row([], |row| Ok((unsigned(row, 0)?, Time(unsigned(row, 1)?), row.get(2)?)))
        .optional()
}

fn write(
    connection: &mut Connection,
    added: &Additions,
    last: &Encoded,
    digest: &[u8; 32],
) -> Result<(), rusqlite::Error> {
    let tx = connection.transaction()?;
    for (first, batch) in &added.sequences {
        tx.prepare_cached("INSERT INTO sequences (first, batch) VALUES (?1, ?2)")?
            .execute([signed(*first), signed(*batch)])?;
    }
    write_history(&tx, &added.history)?;
    write_intents(&tx, &added.intents)?;
    for (slot, key, batch) in &added.keys {
        tx.prepare_cached("INSERT INTO idempotency (slot, key, batch) VALUES (?1, ?2, ?3)")?
            .execute([signed(*slot), *key, signed(*batch)])?;
    }
    tx.prepare_cached(
        "INSERT OR REPLACE INTO mark (one, applied, at, digest) VALUES (1, ?1, ?2, ?3)",
    )?
    .execute(params![signed(last.number), signed(last.at.0), digest])?;
    tx.commit()
}

fn write_history(tx: &Transaction<'_>, rows: &[(i64, u64, u64)]) -> Result<(), rusqlite::Error> {
    let mut upsert = tx.prepare_cached(
        "INSERT INTO history (account, span, batches) VALUES (?1, ?2, ?3)
         ON CONFLICT DO UPDATE SET batches = batches | excluded.batches",
    )?;
    for (account, span, bits) in rows {
        // The bits as they are: the 64th makes the number negative.
        upsert.execute([*account, signed(*span), bits.cast_signed()])?;
    }
    Ok(())
}

fn write_intents(
    tx: &Transaction<'_>,
    rows: &[(i64, u64, [u8; 4])],
) -> Result<(), rusqlite::Error> {
    let mut insert =
        tx.prepare_cached("INSERT INTO intents (bucket, batch, prints) VALUES (?1, ?2, ?3)")?;
    let mut prints = Vec::new();
    for row in rows.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
        let Some((bucket, batch, _)) = row.first() else { continue };
        prints.clear();
        prints.extend(row.iter().flat_map(|(_, _, print)| print));
        insert.execute(params![bucket, signed(*batch), prints])?;
    }
    Ok(())
}
