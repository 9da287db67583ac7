//! The worker's key, and where it is enrolled. Both files are written whole or not at all.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ed25519_dalek::{Signer, SigningKey};
use mtor_types::{Digest, RealmId, WorkerId};

use crate::error::WorkerError;
use crate::limits::IDENTITY_BYTES_MAX;

const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

pub(crate) struct Identity {
    key: SigningKey,
    /// Beside the key: realm address → realm.
    memory: PathBuf,
    /// The key file, locked: two sessions of one key would push each other out for ever.
    _lock: File,
}

impl Identity {
    /// Reads the key file, or makes it.
    pub(crate) fn open(path: &Path) -> Result<Self, WorkerError> {
        if !path.exists() {
            make(path)?;
        }
        // Before it is read: from here on the key is this worker's alone.
        let lock = lock(path, path)?;
        let (text, mode) =
            read(path).map_err(|source| WorkerError::Identity { path: path.to_owned(), source })?;
        if mode & 0o077 != 0 {
            tracing::warn!(path = %path.display(), "others can read the worker's key");
        }
        // The text form of 32 bytes in lower-case hex, which a digest has too.
        let digest: Result<Digest, _> = text.trim().parse();
        let Digest(seed) =
            digest.map_err(|_| WorkerError::IdentityFormat { path: path.to_owned() })?;
        let mut memory = path.as_os_str().to_owned();
        memory.push(".realms");
        Ok(Self { key: SigningKey::from_bytes(&seed), memory: memory.into(), _lock: lock })
    }

    pub(crate) fn worker(&self) -> WorkerId {
        WorkerId(self.key.verifying_key().to_bytes())
    }

    /// A signature in lower-case hex.
    pub(crate) fn sign(&self, bytes: &[u8]) -> String {
        self.key.sign(bytes).to_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The realm at this address that took this worker, as far as is remembered.
    pub(crate) fn enrolled_at(&self, address: &str) -> Option<RealmId> {
        self.memory().get(address).copied()
    }

    /// Remembers an enrolment. If that fails the token is spent all the same, so it is only told.
    pub(crate) fn remember(&self, address: &str, realm: RealmId) {
        let mut memory = self.memory();
        memory.insert(address.to_owned(), realm);
        let text = serde_json::to_string_pretty(&memory).unwrap_or_default();
        if let Err(error) = write_whole(&self.memory, &text) {
            tracing::warn!(path = %self.memory.display(), %error, "enrolment is not remembered");
        }
    }

    fn memory(&self) -> BTreeMap<String, RealmId> {
        let text = read(&self.memory).ok();
        text.and_then(|(text, _)| serde_json::from_str(&text).ok()).unwrap_or_default()
    }
}

/// Makes the key file, unless another worker does so meanwhile: the folder is locked before one
/// looks again, so that of two first starts at once one makes the key and both find the same.
fn make(path: &Path) -> Result<(), WorkerError> {
    let failed = |source| WorkerError::Identity { path: path.to_owned(), source };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(failed)?;
    let _lock = lock(folder, path)?;
    if path.exists() {
        return Ok(());
    }
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(WorkerError::Randomness)?;
    write_whole(path, &format!("{}\n", Digest(seed))).map_err(failed)
}

/// Locks a file or folder for the key at `path`, for as long as what is given back lives. A worker
/// that is just ending may still hold it for a moment.
fn lock(what: &Path, path: &Path) -> Result<File, WorkerError> {
    let failed = |source| WorkerError::Identity { path: path.to_owned(), source };
    let file = File::open(what).map_err(failed)?;
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
    }
    Err(WorkerError::IdentityInUse { path: path.to_owned() })
}

/// A small text file and its mode.
fn read(path: &Path) -> std::io::Result<(String, u32)> {
    let file = File::open(path)?;
    let mode = file.metadata()?.permissions().mode();
    let mut text = String::new();
    file.take(IDENTITY_BYTES_MAX).read_to_string(&mut text)?;
    Ok((text, mode))
}

/// A crash before the rename leaves only a stray file; after it the new content is whole.
fn write_whole(path: &Path, text: &str) -> std::io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(format!(".new.{}", std::process::id()));
    let new = PathBuf::from(new);
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder =
            std::env::temp_dir().join(format!("mtor-identity-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        folder
    }

    #[test]
    fn a_key_is_made_once_and_for_its_owner_only() {
        let folder = folder("made");
        let path = folder.join("deep/worker.key");
        let worker = Identity::open(&path).unwrap().worker();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let first = Identity::open(&path).unwrap();
        assert_eq!(first.worker(), worker);
        assert!(matches!(Identity::open(&path), Err(WorkerError::IdentityInUse { .. })));
        drop(first);
        std::fs::write(&path, "not a key").unwrap();
        assert!(matches!(Identity::open(&path), Err(WorkerError::IdentityFormat { .. })));
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_key_is_made_by_one_worker_only() {
        let folder = folder("race");
        let path = folder.join("worker.key");
        std::fs::create_dir_all(&folder).unwrap();
        let other = File::open(&folder).unwrap();
        other.lock().unwrap();
        assert!(matches!(Identity::open(&path), Err(WorkerError::IdentityInUse { .. })));
        assert!(!path.exists(), "it was made under another's lock");
        drop(other);
        let first = Identity::open(&path).unwrap().worker();
        assert_eq!(Identity::open(&path).unwrap().worker(), first);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn enrolments_are_remembered_by_address() {
        let folder = folder("memory");
        let identity = Identity::open(&folder.join("key")).unwrap();
        assert_eq!(identity.enrolled_at("http://a"), None);
        identity.remember("http://a", RealmId([1; 32]));
        identity.remember("http://b", RealmId([2; 32]));
        assert_eq!(identity.enrolled_at("http://a"), Some(RealmId([1; 32])));
        assert_eq!(identity.enrolled_at("http://b"), Some(RealmId([2; 32])));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
