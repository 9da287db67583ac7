//! Files of models that a page may fetch, so that the visitor's own device hears or speaks.
//!
//! Invariants: the table is closed, whoever brings the models fills it, and a name that a client
//! sends is only looked up in it, so no path from outside touches the disk; a file that is not what
//! the table says (another length, gone) is not served; so many are sent at a time, and none is
//! read into memory whole. Absent on purpose: which models these are.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, stream};
use mtor_types::fact::NetworkKey;
use serde::Serialize;
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// Files of the table; a model has three.
const FILES_MAX: usize = 64;
/// Sent at a time. Each holds a part in memory and a file open.
const SENDING_MAX: usize = 64;
/// Of these, to one network: anybody may ask, and one who reads slowly keeps a place for long.
const SENDING_A_NETWORK_MAX: usize = SENDING_MAX / 8;
/// Read from the disk at once.
const READ_BYTES: usize = 256 * 1024;
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
    /// Every place of that network is.
    NetworkBusy,
    /// It cannot be opened, or has another length.
    Gone,
}

pub struct Weights {
    table: ArcSwap<Vec<Weight>>,
    places: Arc<Places>,
    time_max: Duration,
}

impl Default for Weights {
    fn default() -> Self {
        Self::new(SENDING_TIME_MAX)
    }
}

/// Who is being sent to; nobody is kept whose count is 0.
#[derive(Default)]
struct Places(Mutex<BTreeMap<NetworkKey, usize>>);

impl Places {
    fn take(self: &Arc<Self>, network: NetworkKey) -> Result<Place, NotSent> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.values().sum::<usize>() >= SENDING_MAX {
            return Err(NotSent::Busy);
        }
        let of_network = taken.entry(network).or_default();
        if *of_network >= SENDING_A_NETWORK_MAX {
            return Err(NotSent::NetworkBusy);
        }
        *of_network = of_network.saturating_add(1);
        Ok(Place { places: Arc::clone(self), network })
    }
}

/// Given back where it is dropped.
struct Place {
    places: Arc<Places>,
    network: NetworkKey,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.0.lock().unwrap_or_else(PoisonError::into_inner);
        let left = taken.get(&self.network).map_or(0, |taken| taken.saturating_sub(1));
        if left == 0 {
            taken.remove(&self.network);
        } else {
            taken.insert(self.network, left);
        }
    }
}

impl Weights {
    fn new(time_max: Duration) -> Self {
        Self { table: ArcSwap::default(), places: Arc::default(), time_max }
    }

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

    /// Its bytes, part by part, to somebody in that network.
    ///
    /// # Errors
    /// See [`NotSent`].
    pub async fn open(
        &self,
        weight: &Weight,
        network: NetworkKey,
    ) -> Result<impl Stream<Item = std::io::Result<Bytes>> + use<>, NotSent> {
        let place = self.places.take(network)?;
        let gone = |error: std::io::Error| {
            tracing::warn!(%error, path = %weight.path.display(), "a file for pages cannot be read");
            NotSent::Gone
        };
        let file = File::open(&weight.path).await.map_err(gone)?;
        let found = file.metadata().await.map_err(gone)?;
        if !found.is_file() || found.len() != weight.bytes {
            return Err(gone(std::io::Error::other("it is not the file that was checked")));
        }
        let held = Held { file, _place: place };
        Ok(Sending::new(held, weight.bytes, self.time_max).pieces())
    }
}

/// What a slow reader would keep from everybody.
struct Held {
    file: File,
    _place: Place,
}

struct Sending {
    /// Empty while it is read, and once its time is over.
    held: Arc<Mutex<Option<Held>>>,
    left: u64,
    ends: Instant,
    /// Takes it away when its time is over: nobody polls a stream whose reader's socket is full.
    _timer: JoinSet<()>,
}

impl Sending {
    fn new(held: Held, left: u64, time_max: Duration) -> Self {
        let ends = Instant::now() + time_max;
        let held = Arc::new(Mutex::new(Some(held)));
        let mut timer = JoinSet::new();
        let late = Arc::downgrade(&held);
        timer.spawn(async move {
            sleep_until(ends).await;
            if let Some(late) = late.upgrade() {
                drop(late.lock().unwrap_or_else(PoisonError::into_inner).take());
            }
        });
        Self { held, left, ends, _timer: timer }
    }

    fn take(&self) -> std::io::Result<Held> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).take();
        held.filter(|_| Instant::now() < self.ends).ok_or(std::io::ErrorKind::TimedOut.into())
    }

    /// Under the lock: what is put back is there when the timer comes, or is not put back.
    fn put_back(&self, held: Held) -> std::io::Result<()> {
        let mut place = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if Instant::now() >= self.ends {
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        *place = Some(held);
        Ok(())
    }

    fn pieces(self) -> impl Stream<Item = std::io::Result<Bytes>> {
        stream::try_unfold(self, |mut sending| async move {
            if sending.left == 0 {
                return Ok(None);
            }
            let mut held = sending.take()?;
            let wanted = usize::try_from(sending.left).unwrap_or(READ_BYTES).min(READ_BYTES);
            let mut bytes = BytesMut::with_capacity(wanted);
            let read = (&mut held.file).take(sending.left).read_buf(&mut bytes).await?;
            if read == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            sending.put_back(held)?;
            sending.left = sending.left.saturating_sub(read as u64);
            Ok(Some((bytes.freeze(), sending)))
        })
    }
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt;

    use super::*;

    const ONE: NetworkKey = NetworkKey([1; 16]);

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
        let length = 3 * READ_BYTES as u64 + 5;
        let (_place, weight) = weight(length);
        let weights = Weights::default();
        let pieces: Vec<Bytes> =
            weights.open(&weight, ONE).await.unwrap().try_collect().await.unwrap();
        assert!(pieces.len() >= 4, "{} pieces", pieces.len());
        assert!(pieces.iter().all(|piece| piece.len() <= READ_BYTES));
        assert_eq!(pieces.iter().map(Bytes::len).sum::<usize>() as u64, length);
    }

    #[tokio::test]
    async fn another_file_in_its_place_is_not_sent() {
        let (_place, weight) = weight(10);
        let weights = Weights::default();
        for other in [&b"123456789"[..], b"12345678901"] {
            std::fs::write(&weight.path, other).unwrap();
            assert_eq!(weights.open(&weight, ONE).await.err(), Some(NotSent::Gone));
        }
        std::fs::remove_file(&weight.path).unwrap();
        assert_eq!(weights.open(&weight, ONE).await.err(), Some(NotSent::Gone));
        // It gets shorter while it is sent.
        std::fs::write(&weight.path, b"1234567890").unwrap();
        let sending = weights.open(&weight, ONE).await.unwrap();
        std::fs::write(&weight.path, b"").unwrap();
        assert!(sending.try_collect::<Vec<_>>().await.is_err());
    }

    #[tokio::test]
    async fn so_many_at_a_time_and_to_one_network() {
        let (_place, weight) = weight(10);
        let weights = Weights::default();
        let mut open = Vec::new();
        for network in 0..8 {
            let network = NetworkKey([network; 16]);
            for _ in 0..SENDING_A_NETWORK_MAX {
                open.push(weights.open(&weight, network).await.unwrap());
            }
            let expected =
                if open.len() < SENDING_MAX { NotSent::NetworkBusy } else { NotSent::Busy };
            assert_eq!(weights.open(&weight, network).await.err(), Some(expected));
        }
        assert_eq!(weights.open(&weight, NetworkKey([99; 16])).await.err(), Some(NotSent::Busy));
        open.pop();
        assert!(weights.open(&weight, NetworkKey([99; 16])).await.is_ok());
        drop(open);
        assert!(weights.places.0.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_file_that_nobody_reads_gives_its_place_back() {
        let (_place, weight) = weight(3 * READ_BYTES as u64);
        let weights = Weights::new(Duration::from_secs(1));
        let mut slow = Vec::new();
        for _ in 0..SENDING_A_NETWORK_MAX {
            let mut sending = Box::pin(weights.open(&weight, ONE).await.unwrap());
            assert!(sending.try_next().await.unwrap().is_some());
            slow.push(sending);
        }
        assert_eq!(weights.open(&weight, ONE).await.err(), Some(NotSent::NetworkBusy));
        // None of them is polled.
        let begun = Instant::now();
        while !weights.places.0.lock().unwrap().is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(30), "the places stay taken");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        for mut sending in slow {
            let late = sending.try_next().await.unwrap_err();
            assert_eq!(late.kind(), std::io::ErrorKind::TimedOut);
        }
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
