//! Files that survive a power cut: written aside, synced, renamed, and the folder synced.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use crate::error::StoreError;

/// Makes a folder and those above it, for nobody but this user.
pub(crate) fn create_dir(path: &Path) -> Result<(), StoreError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| StoreError::io(path, source))
}

/// Makes what was created, renamed or removed in a folder survive.
pub(crate) fn sync_dir(path: &Path) -> Result<(), StoreError> {
    let synced = File::open(path).and_then(|dir| dir.sync_all());
    synced.map_err(|source| StoreError::io(path, source))
}

/// A new file for nobody but this user, with these parts in it, synced. What stood there is lost.
pub(crate) fn write_synced(path: &Path, parts: &[&[u8]]) -> Result<(), StoreError> {
    let write = || {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
        parts.iter().try_for_each(|part| file.write_all(part))?;
        file.sync_all()
    };
    write().map_err(|source| StoreError::io(path, source))
}

/// Makes sure that a file is there, for nobody but this user; what is in it stays.
pub(crate) fn touch(path: &Path) -> Result<File, StoreError> {
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    file.map_err(|source| StoreError::io(path, source))
}

/// Removes a file if it is there; tells whether it was.
pub(crate) fn remove(path: &Path) -> Result<bool, StoreError> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(StoreError::io(path, error)),
    }
}
