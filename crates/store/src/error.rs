//! Why the store could not do it, in the kinds that the shell treats differently.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use httpdate::HttpDate;
use mtor_types::Time;
use rusqlite::ErrorCode;

type Source = Box<dyn std::error::Error + Send + Sync>;

/// Why the store could not do it. Nothing was changed by a call that returned one.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No space left. The same call succeeds once there is some.
    #[error("no space left for {}", path.display())]
    Full { path: PathBuf, source: Source },
    /// The blobs' own bound is reached.
    #[error("blobs take {bytes} bytes, and {more} more are above the bound of {bytes_max}")]
    BlobsFull { bytes: u64, more: u64, bytes_max: u64 },
    /// The disk or the system failed.
    #[error("input or output failed on {}", path.display())]
    Io { path: PathBuf, source: Source },
    /// What was read is not what was written. `batch` is the first that is not proven good; 0 if
    /// the damage is not in a batch.
    #[error("{} is damaged at batch {batch}: {why}", path.display())]
    Damaged { path: PathBuf, batch: u64, why: &'static str },
    /// Written by a newer version of this program.
    #[error(
        "{} has format {found}, this version reads up to {known}: update the program, or restore \
         a backup made with this version", path.display()
    )]
    Newer { path: PathBuf, found: u32, known: u32 },
    /// A file of another program.
    #[error("{} is not a file of this program", path.display())]
    Foreign { path: PathBuf },
    /// Another process has the data directory.
    #[error("{} is in use by {holder}", path.display())]
    InUse { path: PathBuf, holder: Holder },
    /// Batches are dense in number, and a number stands for the same bytes for ever.
    #[error("batch {found} does not continue the log: the next number is {expected}")]
    OutOfOrder { expected: u64, found: u64 },
    /// Nothing there under that name.
    #[error("no such blob")]
    NotFound,
}

impl StoreError {
    /// Whether the same call may succeed later without repair.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Full { .. } | Self::BlobsFull { .. } | Self::Io { .. } => true,
            Self::Damaged { .. }
            | Self::Newer { .. }
            | Self::Foreign { .. }
            | Self::InUse { .. }
            | Self::OutOfOrder { .. }
            | Self::NotFound => false,
        }
    }

    pub(crate) fn io(path: &Path, source: std::io::Error) -> Self {
        let path = path.to_path_buf();
        if let std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded = source.kind() {
            return Self::Full { path, source: source.into() };
        }
        Self::Io { path, source: source.into() }
    }

    /// `batch` is where reading had come to.
    pub(crate) fn sqlite(path: &Path, batch: u64, source: rusqlite::Error) -> Self {
        let damaged = |why| Self::Damaged { path: path.to_path_buf(), batch, why };
        if let rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::IntegralValueOutOfRange(..) = source
        {
            return damaged("a row has the wrong shape");
        }
        // Our statements never change: one that SQLite cannot understand means another schema.
        if let rusqlite::Error::SqlInputError { .. } = source {
            return damaged("the schema is malformed");
        }
        let path = path.to_path_buf();
        match source.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full { path, source: source.into() },
            Some(ErrorCode::DatabaseCorrupt) => damaged("a page is malformed"),
            Some(ErrorCode::NotADatabase | ErrorCode::Unknown) => {
                damaged("the header is malformed")
            }
            _ => Self::Io { path, source: source.into() },
        }
    }
}

/// Who has the data directory, as far as its lock file tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    pub pid: Option<u32>,
    pub since: Option<Time>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.pid, self.since) {
            (Some(pid), Some(since)) => {
                let since = UNIX_EPOCH + Duration::from_millis(since.0);
                write!(f, "process {pid}, started {}", HttpDate::from(since))
            }
            (Some(pid), None) => write!(f, "process {pid}"),
            (None, _) => f.write_str("another process"),
        }
    }
}
