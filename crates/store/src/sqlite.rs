//! What the SQLite files have in common: how they are opened, and that a file of another program
//! or of a newer version is refused before anything is written to it.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use crate::error::StoreError;
use crate::files;

/// How much memory and disk a file may take.
///
/// The defaults are measured (`cargo bench -p mtor-store -- tune`). The sync decides nearly
/// everything; pages of 8 or 16 KiB save CPU for large batches and cost bytes for small ones; the
/// log needs hardly any cache. What matters is when pages move to their place, because that
/// commit waits: after 1 MiB it is often, after 16 MiB or more it is a stall of 0.2 to 0.6 s.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    /// Bytes a page; of a new file only.
    pub page_bytes: u32,
    /// Memory of the page cache of one connection.
    pub cache_kib: u32,
    /// Pages in the write-ahead log after which a commit also moves them to their place.
    pub checkpoint_pages: u32,
    /// The most pages the file may have; for tests of a full disk.
    pub pages_max: Option<u32>,
}

impl Default for Tuning {
    fn default() -> Self {
        Self { page_bytes: 4096, cache_kib: 1024, checkpoint_pages: 1000, pages_max: None }
    }
}

/// What a file is.
pub(crate) struct Shape {
    /// SQLite's `application_id`: tells our files from others', and one from the other.
    pub(crate) application: u32,
    /// SQLite's `user_version`: the format.
    pub(crate) version: u32,
    pub(crate) schema: &'static str,
    /// SQLite's `synchronous`.
    pub(crate) synchronous: &'static str,
}

/// Opens for writing; makes the file if it is not there. `Ok(None)`: it is of an older format.
pub(crate) fn open(
    path: &Path,
    shape: &Shape,
    tuning: &Tuning,
) -> Result<Option<Connection>, StoreError> {
    // SQLite gives its side files the mode of the main one, but would make that readable to all.
    drop(files::touch(path)?);
    if let Some(parent) = path.parent() {
        files::sync_dir(parent)?;
    }
    let fail = |source| StoreError::sqlite(path, 0, source);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(fail)?;
    if !is_current(&connection, path, shape)? {
        return Ok(None);
    }
    prepare(&mut connection, shape, tuning).map_err(fail)?;
    Ok(Some(connection))
}

/// Opens for reading only, and never makes a file.
pub(crate) fn open_to_read(
    path: &Path,
    shape: &Shape,
    cache_kib: u32,
) -> Result<Connection, StoreError> {
    let fail = |source| StoreError::sqlite(path, 0, source);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(fail)?;
    connection.busy_timeout(BUSY).map_err(fail)?;
    connection.pragma_update(None, "cache_size", -i64::from(cache_kib)).map_err(fail)?;
    let (application, version) = identity(&connection).map_err(fail)?;
    if application != shape.application || version != shape.version {
        return Err(StoreError::Foreign { path: path.to_path_buf() });
    }
    Ok(connection)
}

/// Locks between our own connections last microseconds; a copy made by another tool may be longer.
const BUSY: Duration = Duration::from_secs(5);

fn identity(connection: &Connection) -> Result<(u32, u32), rusqlite::Error> {
    let application = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let version = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    Ok((application, version))
}

/// Whether the file is new or of this format. Writes nothing.
fn is_current(connection: &Connection, path: &Path, shape: &Shape) -> Result<bool, StoreError> {
    let fail = |source| StoreError::sqlite(path, 0, source);
    let (application, version) = identity(connection).map_err(fail)?;
    let tables: u32 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(fail)?;
    if application == 0 && version == 0 && tables == 0 {
        return Ok(true);
    }
    if application != shape.application {
        return Err(StoreError::Foreign { path: path.to_path_buf() });
    }
    if version > shape.version {
        return Err(StoreError::Newer {
            path: path.to_path_buf(),
            found: version,
            known: shape.version,
        });
    }
    Ok(version == shape.version)
}

fn prepare(
    connection: &mut Connection,
    shape: &Shape,
    tuning: &Tuning,
) -> Result<(), rusqlite::Error> {
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "page_size", tuning.page_bytes)?;
    let mode: String =
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if mode != "wal" {
        let why = format!("SQLite cannot use a write-ahead log here: its mode is {mode}");
        let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN);
        return Err(rusqlite::Error::SqliteFailure(code, Some(why)));
    }
    connection.pragma_update(None, "synchronous", shape.synchronous)?;
    connection.pragma_update(None, "cache_size", -i64::from(tuning.cache_kib))?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update_and_check(
        None,
        "wal_autocheckpoint",
        tuning.checkpoint_pages,
        |_| Ok(()),
    )?;
    if let Some(pages) = tuning.pages_max {
        connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))?;
    }
    let (application, _) = identity(connection)?;
    if application == 0 {
        // One transaction: a crash leaves an empty file or a whole one.
        let tx = connection.transaction()?;
        tx.execute_batch(shape.schema)?;
        tx.pragma_update(None, "application_id", shape.application)?;
        tx.pragma_update(None, "user_version", shape.version)?;
        tx.commit()?;
    }
    Ok(())
}

/// A number as SQLite keeps it. No log gets to 2⁶³ batches.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A number that SQLite kept; a negative one is damage.
pub(crate) fn unsigned(row: &rusqlite::Row<'_>, column: usize) -> Result<u64, rusqlite::Error> {
    let number: i64 = row.get(column)?;
    u64::try_from(number).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, number))
}
