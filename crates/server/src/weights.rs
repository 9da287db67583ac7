//! Files of models that a page may fetch, so that the visitor's own device hears or speaks.
//!
//! Invariants: the table is closed, whoever brings the models fills it, and a name that a client
//! sends is only looked up in it, so no path from outside touches the disk; a file that is not what
//! the table says (another length, gone) is not served; so many are sent at a time, and none is
//! read into memory whole. Absent on purpose: which models these are.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, stream};
use serde::Serialize;
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// Files of the table; a model has three.
const FILES_MAX: usize = 64;
/// Sent at a time. Each holds a piece in memory and a file open.
const SENDING_MAX: usize = 32;
/// Read from the disk at once.
const PIECE_BYTES: usize = 256 * 1024;
/// For one file: 44 MB at 50 kB a second. A slower reader would keep a place from everybody.
const SENDING_TIME_MAX: Duration = Duration::from_secs(15 * 60);

/// One file of the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Weight {
    #[serde(skip)]
    pub model: String,
    /// As pages ask for it; not its name on the disk.
    pub name: String,
    #[serde(skip)]
    pub path: PathBuf,
    pub bytes: u64,
    /// In lower-case hex. Whoever fills the table has checked it.
    pub sha256: String,
}

/// Why a file is not sent although it stands in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotSent {
    /// Every place is taken.
    Busy,
    /// It cannot be opened, or has another length.
    Gone,
}

pub struct Weights {
    table: ArcSwap<Vec<Weight>>,
    places: Arc<Semaphore>,
}

impl Default for Weights {
    fn default() -> Self {
        let places = Arc::new(Semaphore::new(SENDING_MAX));
        Self { table: ArcSwap::default(), places }
    }
}

impl Weights {
    /// Replaces the table. What is beyond the bound is left out.
    pub fn set(&self, mut table: Vec<Weight>) {
        table.truncate(FILES_MAX);
        if **self.table.load() != table {
            self.table.store(Arc::new(table));
        }
    }

    pub fn of(&self, model: &str) -> Vec<Weight> {
        self.table.load().iter().filter(|weight| weight.model == model).cloned().collect()
    }

    pub fn find(&self, model: &str, name: &str) -> Option<Weight> {
        let table = self.table.load();
        table.iter().find(|weight| weight.model == model && weight.name == name).cloned()
    }

    /// Its bytes, piece by piece.
    ///
    /// # Errors
    /// See [`NotSent`].
    pub async fn open(
        &self,
        weight: &Weight,
    ) -> Result<impl Stream<Item = std::io::Result<Bytes>> + use<>, NotSent> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| NotSent::Busy)?;
        let gone = |error: std::io::Error| {
            tracing::warn!(%error, path = %weight.path.display(), "a file for pages cannot be read");
            NotSent::Gone
        };
        let file = File::open(&weight.path).await.map_err(gone)?;
        let found = file.metadata().await.map_err(gone)?;
        if !found.is_file() || found.len() != weight.bytes {
            return Err(gone(std::io::Error::other("it is not the file that was checked")));
        }
        let ends = Instant::now() + SENDING_TIME_MAX;
        Ok(Sending { file, left: weight.bytes, ends, _place: place }.pieces())
    }
}

struct Sending {
    file: File,
    left: u64,
    ends: Instant,
    _place: OwnedSemaphorePermit,
}

impl Sending {
    fn pieces(self) -> impl Stream<Item = std::io::Result<Bytes>> {
        stream::try_unfold(self, |mut sending| async move {
            if sending.left == 0 {
                return Ok(None);
            }
            if sending.ends <= Instant::now() {
                return Err(std::io::ErrorKind::TimedOut.into());
            }
            let wanted = usize::try_from(sending.left).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
            let mut piece = BytesMut::with_capacity(wanted);
            let read = (&mut sending.file).take(sending.left).read_buf(&mut piece).await?;
            if read == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            sending.left = sending.left.saturating_sub(read as u64);
            Ok(Some((piece.freeze(), sending)))
        })
    }
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt;

    use super::*;

    fn weight(bytes: u64) -> (tempdir::Place, Weight) {
        let place = tempdir::Place::new();
        let path = place.0.join("file");
        std::fs::write(&path, vec![7; usize::try_from(bytes).unwrap()]).unwrap();
        let (model, name, sha256) = ("m".into(), "a.bin".into(), "00".into());
        (place, Weight { model, name, path, bytes, sha256 })
    }

    /// A folder that goes with its test.
    mod tempdir {
        use std::path::PathBuf;
        use std::sync::atomic::{AtomicU32, Ordering};

        pub(super) struct Place(pub(super) PathBuf);

        impl Place {
            pub(super) fn new() -> Self {
                static NEXT: AtomicU32 = AtomicU32::new(0);
                let id = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
                let path = std::env::temp_dir().join(format!("mtor-weights-{}-{}", id.0, id.1));
                std::fs::create_dir_all(&path).unwrap();
                Self(path)
            }
        }

        impl Drop for Place {
            fn drop(&mut self) {
                let _gone = std::fs::remove_dir_all(&self.0);
            }
        }
    }

    #[tokio::test]
    async fn a_file_comes_whole_and_in_pieces() {
        let length = 3 * PIECE_BYTES as u64 + 5;
        let (_place, weight) = weight(length);
        let weights = Weights::default();
        let pieces: Vec<Bytes> = weights.open(&weight).await.unwrap().try_collect().await.unwrap();
        assert!(pieces.len() >= 4, "{} pieces", pieces.len());
        assert!(pieces.iter().all(|piece| piece.len() <= PIECE_BYTES));
        assert_eq!(pieces.iter().map(Bytes::len).sum::<usize>() as u64, length);
    }

    #[tokio::test]
    async fn another_file_in_its_place_is_not_sent() {
        let (_place, weight) = weight(10);
        let weights = Weights::default();
        for other in [&b"123456789"[..], b"12345678901"] {
            std::fs::write(&weight.path, other).unwrap();
            assert_eq!(weights.open(&weight).await.err(), Some(NotSent::Gone));
        }
        std::fs::remove_file(&weight.path).unwrap();
        assert_eq!(weights.open(&weight).await.err(), Some(NotSent::Gone));
        // It gets shorter while it is sent.
        std::fs::write(&weight.path, b"1234567890").unwrap();
        let sending = weights.open(&weight).await.unwrap();
        std::fs::write(&weight.path, b"").unwrap();
        assert!(sending.try_collect::<Vec<_>>().await.is_err());
    }

    #[tokio::test]
    async fn so_many_at_a_time() {
        let (_place, weight) = weight(10);
        let weights = Weights::default();
        let mut open = Vec::new();
        for _ in 0..SENDING_MAX {
            open.push(weights.open(&weight).await.unwrap());
        }
        assert_eq!(weights.open(&weight).await.err(), Some(NotSent::Busy));
        open.pop();
        assert!(weights.open(&weight).await.is_ok());
    }

    #[test]
    fn the_table_is_closed_and_bounded() {
        let weights = Weights::default();
        let one = |name: String| Weight {
            model: "m".into(),
            name,
            path: "/dev/null".into(),
            bytes: 1,
            sha256: "00".into(),
        };
        weights.set((0..200).map(|n| one(n.to_string())).collect());
        assert_eq!(weights.of("m").len(), FILES_MAX);
        assert!(weights.find("m", "0").is_some());
        for (model, name) in [("m", "200"), ("m", "../0"), ("n", "0"), ("m", "")] {
            assert_eq!(weights.find(model, name), None, "{model} {name}");
        }
        weights.set(Vec::new());
        assert_eq!(weights.find("m", "0"), None);
    }
}
