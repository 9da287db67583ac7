//! The store's own thread: appends and syncs what the node decided, as much at once as waits.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::Duration;

use mtor_store::{Encoded, Log, Snapshot, StoreError};

use super::{Request, Shared, Sink, StoreState};

/// Batches appended with one sync.
const GROUP_MAX: usize = 64;
/// Between two tries of an append that failed.
const RETRY: Duration = Duration::from_millis(500);
/// A disk that fails for another reason than want of space gets this many tries; then the process
/// exits and recovers from the log.
const TRIES_MAX: u32 = 20;

/// While the realm stops, a disk that is full does not hold it for ever.
const STOP_TRIES_MAX: u32 = 4;

/// Called with each group of batches once it is synced: the read tables follow by it.
pub type OnSynced = Box<dyn FnMut(Vec<Encoded>) + Send>;
/// Called with a state whose batch is synced, to keep it.
pub type OnSnapshot = Box<dyn FnMut(Snapshot) + Send>;

/// Who follows the log, each on a thread of its own. Dropped when the store's thread ends.
pub struct Followers {
    pub synced: OnSynced,
    pub snapshot: OnSnapshot,
}

pub(super) enum ToStore {
    Batch(Encoded),
    Snapshot(Snapshot),
    Stop,
}

pub(super) fn run<L: Log>(
    mut log: L,
    inbox: &Receiver<ToStore>,
    shared: &Shared,
    sink: &dyn Sink,
    wake: &SyncSender<Request>,
    mut followers: Followers,
) {
    let mut group: Vec<Encoded> = Vec::new();
    while let Ok(first) = inbox.recv() {
        let mut after = None;
        for message in std::iter::once(first).chain(inbox.try_iter()) {
            match message {
                ToStore::Batch(batch) => group.push(batch),
                other @ (ToStore::Snapshot(_) | ToStore::Stop) => {
                    after = Some(other);
                    break;
                }
            }
            if group.len() >= GROUP_MAX {
                break;
            }
        }
        if let Some(last) = group.last().map(|batch| batch.number) {
            append(&mut log, &group, shared, sink);
            shared.synced.store(last, Ordering::Release);
            // A full channel means that the node is awake anyway.
            let _ = wake.try_send(Request::Synced);
            (followers.synced)(std::mem::take(&mut group));
        }
        match after {
            Some(ToStore::Snapshot(snapshot)) => (followers.snapshot)(snapshot),
            Some(ToStore::Stop) => return,
            Some(ToStore::Batch(_)) | None => {}
        }
    }
}

/// Appends with the same bytes until it succeeds; meanwhile nothing new is accepted.
fn append<L: Log>(log: &mut L, group: &[Encoded], shared: &Shared, sink: &dyn Sink) {
    let mut tries = 0_u32;
    loop {
        let error = match log.append(group) {
            Ok(()) => break,
            Err(error) => error,
        };
        let full = matches!(error, StoreError::Full { .. });
        let state = if full { StoreState::Full } else { StoreState::Failing };
        tracing::error!(error = &error as &dyn std::error::Error, "append failed");
        change(shared, sink, state);
        tries += 1;
        let stopping = shared.stopping.load(Ordering::Acquire);
        let tries_max = if stopping { STOP_TRIES_MAX } else { TRIES_MAX };
        if (!full || stopping) && tries >= tries_max {
            // Nothing after the last synced batch was promised to anybody; the log is the truth.
            tracing::error!("the store cannot be written; ending to recover from the log");
            std::process::exit(1);
        }
        std::thread::sleep(RETRY);
    }
    change(shared, sink, StoreState::Good);
}

fn change(shared: &Shared, sink: &dyn Sink, state: StoreState) {
    if shared.store.swap(state.number(), Ordering::AcqRel) != state.number() {
        sink.store_changed(state);
    }
}
