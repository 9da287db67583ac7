//! Where events go that memory has no room for: one file for all of them, sealed record by record.
//!
//! The key is made at start and never leaves the process, and the file has no name once it is open, so
//! nothing of it can be read after a crash, and nothing is left to remove. It is never synced, for the
//! same reason. What is no longer needed is written over by what comes next, and the file is cut where
//! nothing follows.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use chacha20poly1305::aead::{AeadInPlace, KeyInit};
use chacha20poly1305::{Tag, XChaCha20Poly1305, XNonce};
use mtor_types::IntentId;
use serde::{Deserialize, Serialize};

use super::space::Space;

const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;
/// The file is cut when so much of its end is of no use: less is hardly worth a call to the system.
const CUT_BYTES_MIN: u64 = 1024 * 1024;

/// The file and the key of one process.
pub(super) struct Vault {
    file: File,
    cipher: XChaCha20Poly1305,
    space: Mutex<Taken>,
}

struct Taken {
    space: Space,
    /// As long as the file may be: so far it was written.
    length: u64,
}

/// Where a record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) offset: u64,
    pub(super) bytes: u32,
}

/// What a record is: bound to it by its seal, so that no other is read for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) intent: IntentId,
    pub(super) part: u64,
}

impl Name {
    /// All of an intent that is over.
    pub(super) const WHOLE: u64 = u64::MAX;
    /// Its result. Any other number is that of the first entry in the record.
    pub(super) const RESULT: u64 = u64::MAX - 1;

    fn bytes(self) -> [u8; 24] {
        let mut bytes = [0; 24];
        bytes[..16].copy_from_slice(&self.intent.0);
        bytes[16..].copy_from_slice(&self.part.to_be_bytes());
        bytes
    }
}

/// What one intent has there, freed with the last who may read it.
pub(super) struct Extents {
    vault: Arc<Vault>,
    /// Offset and length of each.
    list: Mutex<Vec<(u64, u64)>>,
}

impl Vault {
    pub(super) fn new(dir: &Path, bytes_max: u64) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let (mut key, mut name) = ([0; 32], [0; 16]);
        fill(&mut key)?;
        fill(&mut name)?;
        let path = dir.join(format!("spill-{:032x}", u128::from_be_bytes(name)));
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        std::fs::remove_file(&path)?;
        let space = Mutex::new(Taken { space: Space::new(bytes_max), length: 0 });
        Ok(Self { file, cipher: XChaCha20Poly1305::new(&key.into()), space })
    }

    /// Bytes that records take.
    pub(super) fn taken(&self) -> u64 {
        self.space().space.taken()
    }

    /// Seals and writes records, all of them or none, beside each other.
    pub(super) fn write(&self, records: &[(Name, &[u8])]) -> io::Result<Vec<Place>> {
        let bytes: u64 = records.iter().map(|(_, plain)| sealed_bytes(plain.len())).sum();
        let start = {
            let mut taken = self.space();
            let full = || io::Error::from(io::ErrorKind::StorageFull);
            let start = taken.space.take(bytes).ok_or_else(full)?;
            taken.length = taken.length.max(taken.space.end());
            start
        };
        let written = self.seal(records, start, bytes).and_then(|(sealed, places)| {
            self.file.write_all_at(&sealed, start)?;
            Ok(places)
        });
        if written.is_err() {
            self.space().space.give_back(start, bytes);
        }
        written
    }

    pub(super) fn read(&self, name: Name, place: Place) -> io::Result<Bytes> {
        let mut record = vec![0; place.bytes as usize];
        self.file.read_exact_at(&mut record, place.offset)?;
        let damaged = || io::Error::other("a spilled record is not what was written");
        let (nonce, sealed) = record.split_at_mut_checked(NONCE_BYTES).ok_or_else(damaged)?;
        let bytes = sealed.len().checked_sub(TAG_BYTES).ok_or_else(damaged)?;
        let (text, tag) = sealed.split_at_mut(bytes);
        let (nonce, tag) = (XNonce::from_slice(nonce), Tag::from_slice(tag));
        let opened = self.cipher.decrypt_in_place_detached(nonce, &name.bytes(), text, tag);
        opened.map_err(|_| damaged())?;
        Ok(Bytes::from(record).slice(NONCE_BYTES..NONCE_BYTES + bytes))
    }

    pub(super) fn give_back(&self, place: Place) {
        self.space().space.give_back(place.offset, u64::from(place.bytes));
    }

    /// Gives the system back what the end of the file has of no use.
    pub(super) fn cut(&self) -> io::Result<()> {
        let mut taken = self.space();
        let end = taken.space.end();
        if taken.length.saturating_sub(end) >= CUT_BYTES_MIN {
            self.file.set_len(end)?;
            taken.length = end;
        }
        Ok(())
    }

    fn seal(
        &self,
        records: &[(Name, &[u8])],
        start: u64,
        bytes: u64,
    ) -> io::Result<(Vec<u8>, Vec<Place>)> {
        // Fresh nonces for all of them, from one call to the system.
        let mut nonces = vec![[0; NONCE_BYTES]; records.len()];
        fill(nonces.as_flattened_mut())?;
        let mut sealed = Vec::with_capacity(usize::try_from(bytes).map_err(io::Error::other)?);
        let mut places = Vec::with_capacity(records.len());
        for ((name, plain), nonce) in records.iter().zip(nonces) {
            let at = sealed.len();
            sealed.extend_from_slice(&nonce);
            sealed.extend_from_slice(plain);
            let text = sealed.get_mut(at + NONCE_BYTES..).unwrap_or_default();
            let nonce = XNonce::from_slice(&nonce);
            let tag = self.cipher.encrypt_in_place_detached(nonce, &name.bytes(), text);
            sealed.extend_from_slice(&tag.map_err(|_| io::Error::other("cannot seal a record"))?);
            let bytes = u32::try_from(sealed.len() - at).map_err(io::Error::other)?;
            places.push(Place { offset: start + at as u64, bytes });
        }
        Ok((sealed, places))
    }

    fn space(&self) -> MutexGuard<'_, Taken> {
        self.space.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Extents {
    pub(super) fn new(vault: Arc<Vault>) -> Self {
        Self { vault, list: Mutex::default() }
    }

    pub(super) fn add(&self, places: &[Place]) {
        let mut list = self.list();
        for place in places {
            let bytes = u64::from(place.bytes);
            match list.last_mut() {
                Some((offset, length)) if *offset + *length == place.offset => *length += bytes,
                Some(_) | None => list.push((place.offset, bytes)),
            }
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.list().iter().map(|(_, bytes)| bytes).sum()
    }

    fn list(&self) -> MutexGuard<'_, Vec<(u64, u64)>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Extents {
    fn drop(&mut self) {
        let mut taken = self.vault.space();
        for (offset, bytes) in self.list.get_mut().unwrap_or_else(PoisonError::into_inner) {
            taken.space.give_back(*offset, *bytes);
        }
    }
}

/// What so many bytes take on disk.
pub(super) fn sealed_bytes(plain: usize) -> u64 {
    (plain + NONCE_BYTES + TAG_BYTES) as u64
}

fn fill(bytes: &mut [u8]) -> io::Result<()> {
    getrandom::fill(bytes).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(part: u64) -> Name {
        Name { intent: IntentId([1; 16]), part }
    }

    #[test]
    fn a_record_opens_only_as_what_it_was() {
        let dir = std::env::temp_dir().join(format!("mtor-vault-{}", std::process::id()));
        let vault = Vault::new(&dir, 1 << 20).unwrap();
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0, "the file has no name");
        let records: [(Name, &[u8]); 2] = [(name(1), b"canary-one"), (name(2), b"canary-two")];
        let [first, second]: [_; 2] = vault.write(&records).unwrap().try_into().unwrap();
        assert_eq!((u64::from(first.bytes), second.offset), (sealed_bytes(10), sealed_bytes(10)));
        let mut raw = [0; 100];
        vault.file.read_exact_at(&mut raw, 0).unwrap();
        assert!(!raw.windows(6).any(|window| window == b"canary"), "sealed");
        assert_eq!(vault.read(name(1), first).unwrap(), "canary-one");
        assert_eq!(vault.read(name(2), second).unwrap(), "canary-two");
        assert!(vault.read(name(1), second).is_err(), "another name");
        raw[30] ^= 1;
        vault.file.write_all_at(&raw, 0).unwrap();
        assert!(vault.read(name(1), first).is_err(), "tampered");
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn the_file_is_written_over_bounded_and_cut() {
        let dir = std::env::temp_dir().join(format!("mtor-vault-cut-{}", std::process::id()));
        let vault = Arc::new(Vault::new(&dir, 3 << 20).unwrap());
        let megabyte = vec![7; (1 << 20) - 40];
        let write = || vault.write(&[(name(1), &megabyte)]);
        let [first, second]: [_; 2] = [write().unwrap()[0], write().unwrap()[0]];
        write().unwrap();
        assert_eq!(write().unwrap_err().kind(), io::ErrorKind::StorageFull);
        let extents = Extents::new(Arc::clone(&vault));
        extents.add(&[first, second]);
        assert_eq!(*extents.list(), [(0, 2 << 20)], "they stand beside each other");
        drop(extents);
        assert_eq!(vault.taken(), 1 << 20);
        assert_eq!(write().unwrap()[0], first, "written over");
        vault.give_back(first);
        vault.give_back(Place { offset: 2 << 20, ..first });
        assert_eq!((vault.taken(), vault.file.metadata().unwrap().len()), (0, 3 << 20));
        vault.cut().unwrap();
        assert_eq!(vault.file.metadata().unwrap().len(), 0);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
