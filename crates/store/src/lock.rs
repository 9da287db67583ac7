//! One data directory, one process. The lock is the system's own (`flock`), so it ends with its
//! holder however that dies; what stands in the file only tells people who holds it.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use mtor_types::Time;

use crate::error::{Holder, StoreError};
use crate::files;

/// The right to write in a data directory, held until it is dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// It was not there before.
    is_new: bool,
    _lock: File,
}

const LOCK: &str = "realm.lock";

impl DataDir {
    /// Makes the directory if needed, readable by this user only, and takes its lock.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let is_new = !path.exists();
        files::create_dir(path)?;
        let lock_path = path.join(LOCK);
        let mut lock = files::touch(&lock_path)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = read_holder(&mut lock);
                return Err(StoreError::InUse { path: path.to_path_buf(), holder });
            }
            Err(TryLockError::Error(source)) => return Err(StoreError::io(&lock_path, source)),
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let write = |mut lock: &File| {
            lock.set_len(0)?;
            writeln!(lock, "{} {since}", std::process::id())
        };
        write(&lock).map_err(|source| StoreError::io(&lock_path, source))?;
        Ok(Self { path: path.to_path_buf(), is_new, _lock: lock })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the directory away again if it was made here and holds nothing but its lock, which
    /// nobody else can have: for a start that comes to nothing.
    pub fn discard(&self) {
        if !self.is_new {
            return;
        }
        // What cannot be removed, or holds more, stays: nothing is lost by that.
        let _ = std::fs::remove_file(self.path.join(LOCK));
        let _ = std::fs::remove_dir(&self.path);
    }
}

/// The holder may be just writing its line: what cannot be read is not told.
fn read_holder(lock: &mut File) -> Holder {
    let mut text = String::new();
    let read = lock.rewind().and_then(|()| lock.take(64).read_to_string(&mut text));
    let mut words = text.split_whitespace();
    let pid = read.ok().and_then(|_| words.next()?.parse().ok());
    Holder { pid, since: words.next().and_then(|word| word.parse().ok()).map(Time) }
}
