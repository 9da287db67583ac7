//! Where pieces go that memory has no room for: one file a stream, sealed record by record.
//!
//! The key is made at start and never leaves the process, and the file has no name once it is
//! open, so nothing of it can be read after a crash, and nothing is left to remove.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};

const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;

/// The directory and the key of one process.
pub(super) struct Vault {
    dir: PathBuf,
    cipher: XChaCha20Poly1305,
}

/// Where a record stands in its file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    offset: u64,
    bytes: u32,
}

impl Vault {
    pub(super) fn new(dir: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let mut key = [0; 32];
        fill(&mut key)?;
        Ok(Self { dir: dir.into(), cipher: XChaCha20Poly1305::new(&key.into()) })
    }

    /// A new file that only its handle knows.
    pub(super) fn file(&self) -> io::Result<File> {
        let mut name = [0; 16];
        fill(&mut name)?;
        let path = self.dir.join(format!("spill-{:032x}", u128::from_be_bytes(name)));
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        std::fs::remove_file(&path)?;
        Ok(file)
    }

    /// Fresh nonces for so many records, from one call to the system.
    pub(super) fn nonces(&self, count: usize) -> io::Result<Vec<[u8; NONCE_BYTES]>> {
        let mut nonces = vec![[0; NONCE_BYTES]; count];
        fill(nonces.as_flattened_mut())?;
        Ok(nonces)
    }

    /// Seals `piece` into `buffer`, which will be written at `start`. `name` binds the record to
    /// its place in its stream.
    pub(super) fn seal(
        &self,
        buffer: &mut Vec<u8>,
        start: u64,
        nonce: [u8; NONCE_BYTES],
        name: &[u8],
        piece: &[u8],
    ) -> io::Result<Place> {
        let payload = Payload { msg: piece, aad: name };
        let sealed = self.cipher.encrypt(XNonce::from_slice(&nonce), payload);
        let sealed = sealed.map_err(|_| io::Error::other("cannot seal a record"))?;
        let offset = start + buffer.len() as u64;
        buffer.extend_from_slice(&nonce);
        buffer.extend_from_slice(&sealed);
        let bytes = u32::try_from(NONCE_BYTES + sealed.len()).map_err(io::Error::other)?;
        Ok(Place { offset, bytes })
    }

    pub(super) fn open(&self, file: &File, place: Place, name: &[u8]) -> io::Result<Bytes> {
        let mut record = vec![0; place.bytes as usize];
        file.read_exact_at(&mut record, place.offset)?;
        let (nonce, sealed) = record.split_at(NONCE_BYTES);
        let opened = self
            .cipher
            .decrypt(XNonce::from_slice(nonce), Payload { msg: sealed, aad: name })
            .map_err(|_| io::Error::other("a spilled record is not what was written"))?;
        Ok(opened.into())
    }
}

/// What a piece of so many bytes takes on disk.
pub(super) fn sealed_bytes(piece: usize) -> u64 {
    (piece + NONCE_BYTES + TAG_BYTES) as u64
}

fn fill(bytes: &mut [u8]) -> io::Result<()> {
    getrandom::fill(bytes).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_opens_only_as_what_it_was() {
        let dir = std::env::temp_dir().join(format!("mtor-vault-{}", std::process::id()));
        let vault = Vault::new(&dir).unwrap();
        let file = vault.file().unwrap();
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0, "the file has no name");
        let mut buffer = Vec::new();
        let [one, two]: [_; 2] = vault.nonces(2).unwrap().try_into().unwrap();
        assert_ne!(one, two);
        let first = vault.seal(&mut buffer, 0, one, b"1", b"canary-one").unwrap();
        let second = vault.seal(&mut buffer, 0, two, b"2", b"canary-two").unwrap();
        assert_eq!(u64::from(first.bytes), sealed_bytes(10));
        assert!(!buffer.windows(6).any(|window| window == b"canary"), "sealed");
        file.write_all_at(&buffer, 0).unwrap();
        assert_eq!(vault.open(&file, first, b"1").unwrap(), "canary-one");
        assert_eq!(vault.open(&file, second, b"2").unwrap(), "canary-two");
        assert!(vault.open(&file, second, b"1").is_err(), "another name");
        buffer[30] ^= 1;
        file.write_all_at(&buffer, 0).unwrap();
        assert!(vault.open(&file, first, b"1").is_err(), "tampered");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
