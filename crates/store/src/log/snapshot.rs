//! Snapshots: the state after a batch, one file each beside the log, so that a start need not
//! fold the whole log, and writing one never swells the log's own file.
//!
//! A file is: magic, format, batch, length, the bytes, SHA-256 of all before.

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::error::StoreError;
use crate::files;

const MAGIC: &[u8; 8] = b"MTORSNAP";
const FORMAT: u32 = 1;
const HEADER: usize = 8 + 4 + 8 + 8;
const SUM: usize = 32;
const KEPT: usize = 2;
const PREFIX: &str = "snapshot-";
const ASIDE: &str = "snapshot.tmp";

/// The state after a batch, as the node encoded it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    pub batch: u64,
    pub bytes: Vec<u8>,
}

/// The snapshots of a data directory. Independent of the log's connection, so that a large one
/// can be written by another thread while appends go on.
#[derive(Clone, Debug)]
pub struct Snapshots {
    dir: PathBuf,
}

/// What was found on loading.
#[derive(Debug)]
pub struct Loaded {
    pub snapshot: Option<Snapshot>,
    /// Newer ones that are not what was written, and were passed over.
    pub damaged: Vec<PathBuf>,
}

impl Snapshots {
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        files::remove(&dir.join(ASIDE))?;
        Ok(Self { dir: dir.to_path_buf() })
    }

    /// Writes one and removes all but the newest two. The batch must be in the log, synced.
    pub fn save(&self, snapshot: &Snapshot) -> Result<(), StoreError> {
        let header = header(snapshot);
        let sum = Sha256::new().chain_update(header).chain_update(&snapshot.bytes).finalize();
        let aside = self.dir.join(ASIDE);
        let place = self.dir.join(format!("{PREFIX}{:020}", snapshot.batch));
        // Crash here or in the next line: the file aside is removed at the next start.
        files::write_synced(&aside, &[&header, &snapshot.bytes, &sum])?;
        // Crash after this: the old or the new name, either whole.
        fs::rename(&aside, &place).map_err(|source| StoreError::io(&place, source))?;
        files::sync_dir(&self.dir)?;
        // Crash after this: an old one is left, and removed after the next save.
        for (_, old) in self.list()?.into_iter().skip(KEPT) {
            files::remove(&old)?;
        }
        Ok(())
    }

    /// The newest that is whole, and which were not.
    pub fn load(&self) -> Result<Loaded, StoreError> {
        let mut damaged = Vec::new();
        for (batch, path) in self.list()? {
            let bytes = fs::read(&path).map_err(|source| StoreError::io(&path, source))?;
            match check(&path, batch, bytes) {
                Ok(snapshot) => return Ok(Loaded { snapshot: Some(snapshot), damaged }),
                Err(StoreError::Damaged { path, .. }) => damaged.push(path),
                Err(error) => return Err(error),
            }
        }
        Ok(Loaded { snapshot: None, damaged })
    }

    /// Batch and path, newest first.
    fn list(&self) -> Result<Vec<(u64, PathBuf)>, StoreError> {
        let fail = |source| StoreError::io(&self.dir, source);
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let name = entry.file_name();
            let batch = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.parse().ok());
            found.extend(batch.map(|batch| (batch, entry.path())));
        }
        found.sort_unstable_by(|a, b| b.cmp(a));
        Ok(found)
    }
}

fn header(snapshot: &Snapshot) -> [u8; HEADER] {
    let length = u64::try_from(snapshot.bytes.len()).unwrap_or(u64::MAX);
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    header[12..20].copy_from_slice(&snapshot.batch.to_le_bytes());
    header[20..].copy_from_slice(&length.to_le_bytes());
    header
}

fn check(path: &Path, batch: u64, mut bytes: Vec<u8>) -> Result<Snapshot, StoreError> {
    let damaged = |why| StoreError::Damaged { path: path.to_path_buf(), batch, why };
    let body = bytes.len().checked_sub(SUM).filter(|body| *body >= HEADER);
    let body = body.ok_or_else(|| damaged("it is cut short"))?;
    let (written, sum) = bytes.split_at(body);
    if Sha256::digest(written).as_slice() != sum {
        return Err(damaged("its checksum does not match"));
    }
    // The sum is right: what differs now was written so.
    if !written.starts_with(MAGIC) {
        return Err(StoreError::Foreign { path: path.to_path_buf() });
    }
    let found = written[8..12].iter().rev().fold(0, |all, byte| (all << 8) | u32::from(*byte));
    if found > FORMAT {
        return Err(StoreError::Newer { path: path.to_path_buf(), found, known: FORMAT });
    }
    bytes.truncate(body);
    let header_read: Vec<u8> = bytes.drain(..HEADER).collect();
    let snapshot = Snapshot { batch, bytes };
    if header_read != header(&snapshot) {
        return Err(damaged("its name or length is another's"));
    }
    Ok(snapshot)
}
