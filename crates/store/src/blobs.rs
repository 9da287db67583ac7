//! Sealed blobs: payloads and results of durable intents, one file each, so that a restart finds
//! them and nobody else can read them.
//!
//! A file is a format byte, a nonce of 24 random bytes, and XChaCha20-Poly1305 over the bytes,
//! bound to its name. Folders follow the id's own time (UUIDv7), so the files of one batch share
//! a folder and its one sync, and folders empty from the old end. A blob's age is its file's.

use std::fs::{self, DirEntry};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use mtor_types::IntentId;

use crate::error::StoreError;
use crate::files;

const FORMAT: u8 = 1;
const NONCE: usize = 24;
const TAG: usize = 16;
const ASIDE: &str = "aside";

/// What a blob of an intent is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlobKind {
    Payload,
    Result,
}

/// The name of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobName {
    pub intent: IntentId,
    pub kind: BlobKind,
}

impl BlobName {
    pub const fn payload(intent: IntentId) -> Self {
        Self { intent, kind: BlobKind::Payload }
    }

    pub const fn result(intent: IntentId) -> Self {
        Self { intent, kind: BlobKind::Result }
    }

    fn suffix(self) -> &'static str {
        match self.kind {
            BlobKind::Payload => "payload",
            BlobKind::Result => "result",
        }
    }

    fn file(self) -> String {
        format!("{}.{}", self.intent, self.suffix())
    }

    fn parse(file: &str) -> Option<Self> {
        let (intent, suffix) = file.split_once('.')?;
        let kind = match suffix {
            "payload" => BlobKind::Payload,
            "result" => BlobKind::Result,
            _ => return None,
        };
        Some(Self { intent: intent.parse().ok()?, kind })
    }

    /// Folders of 2²⁴ ms (4.7 h), and in them of 2¹⁶ ms (66 s).
    fn folder(self) -> PathBuf {
        let [a, b, c, d, ..] = self.intent.0;
        PathBuf::from(format!("{a:02x}{b:02x}{c:02x}")).join(format!("{d:02x}"))
    }

    /// What the seal is bound to besides the bytes.
    fn associated(self) -> Vec<u8> {
        [b"mtor/blob/v1\0".as_slice(), &self.intent.0, self.suffix().as_bytes()].concat()
    }
}

/// The sealed blobs of a data directory. Threads may share it.
pub struct BlobStore {
    dir: PathBuf,
    cipher: XChaCha20Poly1305,
    bytes: AtomicU64,
    bytes_max: u64,
    aside: AtomicU64,
    /// Held while a folder is made or removed, so that nobody removes what another just made.
    folders: Mutex<()>,
}

impl std::fmt::Debug for BlobStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlobStore").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl BlobStore {
    /// Opens or makes the folder, counts what is in it, and removes what a crash left half done.
    /// All files together stay within `bytes_max`.
    pub fn open(dir: &Path, key: [u8; 32], bytes_max: u64) -> Result<Self, StoreError> {
        files::create_dir(&dir.join(ASIDE))?;
        for entry in entries(&dir.join(ASIDE))? {
            files::remove(&entry.path())?;
        }
        let store = Self {
            dir: dir.to_path_buf(),
            cipher: XChaCha20Poly1305::new(&key.into()),
            bytes: AtomicU64::new(0),
            bytes_max,
            aside: AtomicU64::new(0),
            folders: Mutex::new(()),
        };
        let mut bytes = 0_u64;
        store.walk(|_, entry| {
            bytes = bytes.saturating_add(length(&entry.path())?.unwrap_or(0));
            Ok(true)
        })?;
        store.bytes.store(bytes, Ordering::Relaxed);
        Ok(store)
    }

    /// Bytes that all blobs take now.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Seals and keeps one blob; replaces one of the same name. Synced when this returns.
    pub fn put(&self, name: BlobName, bytes: &[u8]) -> Result<(), StoreError> {
        let folders = self.put_one(name, bytes)?;
        // Crash before this: the file is whole, its name may be gone; nobody was told.
        folders.iter().try_for_each(|folder| files::sync_dir(folder))
    }

    /// The bytes of a blob; [`StoreError::NotFound`] if there is none.
    pub fn get(&self, name: BlobName) -> Result<Vec<u8>, StoreError> {
        let path = self.path(name);
        let sealed = match fs::read(&path) {
            Ok(sealed) => sealed,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(StoreError::NotFound);
            }
            Err(error) => return Err(StoreError::io(&path, error)),
        };
        let damaged = |why| StoreError::Damaged { path: path.clone(), batch: 0, why };
        let (format, rest) = sealed.split_first().ok_or_else(|| damaged("it is empty"))?;
        if *format > FORMAT {
            let (found, known) = (u32::from(*format), u32::from(FORMAT));
            return Err(StoreError::Newer { path, found, known });
        }
        if *format != FORMAT {
            return Err(damaged("its format is unknown"));
        }
        let (nonce, sealed) =
            rest.split_at_checked(NONCE).ok_or_else(|| damaged("it is cut short"))?;
        let payload = Payload { msg: sealed, aad: &name.associated() };
        self.cipher
            .decrypt(XNonce::from_slice(nonce), payload)
            .map_err(|_| damaged("its seal is broken, or of another key"))
    }

    /// Removes a blob; fine if there is none. Not synced: after a crash it may be back, and is
    /// removed again by its age.
    pub fn delete(&self, name: BlobName) -> Result<(), StoreError> {
        let path = self.path(name);
        let Some(bytes) = length(&path)? else { return Ok(()) };
        // Only one of two that delete the same blob takes its bytes off the account.
        if !files::remove(&path)? {
            return Ok(());
        }
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        let _making = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        // The system refuses to remove a folder with something in it.
        if let Some(folder) = path.parent()
            && fs::remove_dir(folder).is_ok()
            && let Some(above) = folder.parent()
        {
            let _ = fs::remove_dir(above);
        }
        Ok(())
    }

    /// Names of blobs put before `moment` by the file system's clock, at most `limit`, those with
    /// the oldest ids first.
    pub fn older_than(
        &self,
        moment: SystemTime,
        limit: usize,
    ) -> Result<Vec<BlobName>, StoreError> {
        let mut found = Vec::new();
        self.walk(|name, entry| {
            match entry.metadata().and_then(|metadata| metadata.modified()) {
                Ok(modified) if modified < moment => found.push(name),
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(StoreError::io(&entry.path(), error)),
            }
            Ok(found.len() < limit)
        })?;
        found.truncate(limit);
        Ok(found)
    }

    /// Returns the folders whose new entries must be synced.
    fn put_one(&self, name: BlobName, bytes: &[u8]) -> Result<Vec<PathBuf>, StoreError> {
        let sealed = self.seal(name, bytes)?;
        let number = self.aside.fetch_add(1, Ordering::Relaxed);
        let aside = self.dir.join(ASIDE).join(number.to_string());
        let place = self.path(name);
        let more = u64::try_from(sealed.len()).unwrap_or(u64::MAX);
        self.reserve(more)?;
        let result = self.write(&aside, &place, &sealed);
        match &result {
            // What was replaced no longer counts.
            Ok((_, replaced)) => self.bytes.fetch_sub(*replaced, Ordering::Relaxed),
            Err(_) => self.bytes.fetch_sub(more, Ordering::Relaxed),
        };
        if result.is_err() {
            // Best effort: what stays is removed at the next start.
            let _ = fs::remove_file(&aside);
        }
        Ok(result?.0)
    }

    fn write(
        &self,
        aside: &Path,
        place: &Path,
        sealed: &[u8],
    ) -> Result<(Vec<PathBuf>, u64), StoreError> {
        // Crash here or in the next lines: the file aside is removed at the next start.
        files::write_synced(aside, &[sealed])?;
        let folder = place.parent().unwrap_or(&self.dir);
        let _making = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = vec![folder.to_path_buf()];
        if !folder.is_dir() {
            files::create_dir(folder)?;
            changed.extend(folder.ancestors().skip(1).take(2).map(Path::to_path_buf));
        }
        let replaced = length(place)?.unwrap_or(0);
        // Crash after this: the old blob or the new one, either whole.
        fs::rename(aside, place).map_err(|source| StoreError::io(place, source))?;
        Ok((changed, replaced))
    }

    fn seal(&self, name: BlobName, bytes: &[u8]) -> Result<Vec<u8>, StoreError> {
        let failed = |text: String| StoreError::Io {
            path: self.path(name),
            source: std::io::Error::other(text).into(),
        };
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce).map_err(|error| failed(error.to_string()))?;
        let payload = Payload { msg: bytes, aad: &name.associated() };
        let sealed = self
            .cipher
            .encrypt(XNonce::from_slice(&nonce), payload)
            .map_err(|error| failed(error.to_string()))?;
        let mut file = Vec::with_capacity(1 + NONCE + TAG + bytes.len());
        file.push(FORMAT);
        file.extend_from_slice(&nonce);
        file.extend_from_slice(&sealed);
        Ok(file)
    }

    /// Counts bytes before they are written, so that threads together stay within the bound.
    fn reserve(&self, more: u64) -> Result<(), StoreError> {
        let fits = |bytes: u64| bytes.checked_add(more).filter(|all| *all <= self.bytes_max);
        self.bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits)
            .map(drop)
            .map_err(|bytes| StoreError::BlobsFull { bytes, more, bytes_max: self.bytes_max })
    }

    fn path(&self, name: BlobName) -> PathBuf {
        self.dir.join(name.folder()).join(name.file())
    }

    /// Visits all blobs, those with the oldest ids first, until told `false`.
    fn walk(
        &self,
        mut visit: impl FnMut(BlobName, &DirEntry) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        for outer in entries(&self.dir)? {
            if outer.file_name() == ASIDE {
                continue;
            }
            for inner in entries(&outer.path())? {
                for entry in entries(&inner.path())? {
                    let name = entry.file_name().to_str().and_then(BlobName::parse);
                    if let Some(name) = name
                        && !visit(name, &entry)?
                    {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }
}

/// What is in a folder, by name. A folder that was just removed has nothing in it.
fn entries(folder: &Path) -> Result<Vec<DirEntry>, StoreError> {
    let list = || -> Result<Vec<DirEntry>, std::io::Error> {
        let mut list = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
        list.sort_unstable_by_key(DirEntry::file_name);
        Ok(list)
    };
    match list() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        result => result.map_err(|source| StoreError::io(folder, source)),
    }
}

fn length(path: &Path) -> Result<Option<u64>, StoreError> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata.len())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StoreError::io(path, error)),
    }
}
