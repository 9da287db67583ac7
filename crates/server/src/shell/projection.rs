//! The read tables' own thread: they follow the log in large steps, and at once when somebody
//! waits to read.
//!
//! A step for each batch would cost several times what a step for many does, so the tables rest
//! [`REST`] between two steps. A reader that comes meanwhile ends the rest and waits for what was
//! synced when it came: it sees its own writes.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use mtor_store::{Encoded, ReadTables};
use tokio::sync::watch;

use super::store_thread::OnSynced;

const REST: Duration = Duration::from_millis(50);
/// Groups of batches that wait for the tables; beyond it the store waits for them.
const GROUPS_MAX: usize = 4_096;
/// Batches of one step.
const STEP_MAX: usize = 1_024;
/// A reader waits no longer; then it is told that they lag.
const READER_PATIENCE: Duration = Duration::from_secs(2);
/// Idempotency keys past their time that one step removes.
const PRUNED_AT_ONCE: usize = 1_000;
/// Between two tries of a step that failed.
const RETRY: Duration = Duration::from_millis(500);
/// Batches kept for tables that cannot be written; beyond it the store waits for them.
const WAITING_MAX: usize = 65_536;

enum ToTables {
    Synced(Vec<Encoded>),
    /// Somebody waits to read.
    Now,
}

/// How readers make sure that the tables are up to date.
#[derive(Clone)]
pub struct Projection {
    tables: SyncSender<ToTables>,
    applied: watch::Receiver<u64>,
}

impl Projection {
    /// Resolves when everything up to batch `synced` can be read; false if that takes too long.
    pub async fn reach(&self, synced: u64) -> bool {
        let mut applied = self.applied.clone();
        if *applied.borrow_and_update() >= synced {
            return true;
        }
        // A full channel means that the thread is awake anyway.
        let _ = self.tables.try_send(ToTables::Now);
        let reached = applied.wait_for(|applied| *applied >= synced);
        let reached = tokio::time::timeout(READER_PATIENCE, reached).await.is_ok();
        if !reached {
            tracing::warn!(synced, "the read tables lag behind");
        }
        reached
    }

    /// As [`Projection::reach`], of one batch, without hurrying the tables.
    pub async fn passes(&self, batch: u64) -> bool {
        let mut applied = self.applied.clone();
        let passed = applied.wait_for(|applied| *applied >= batch);
        tokio::time::timeout(READER_PATIENCE, passed).await.is_ok_and(|passed| passed.is_ok())
    }
}

/// Starts the thread. What it gives second is to be called with each synced group of batches.
pub fn follow(tables: ReadTables) -> std::io::Result<(Projection, OnSynced)> {
    let (to_tables, inbox) = sync_channel(GROUPS_MAX);
    let (tell, applied) = watch::channel(tables.applied());
    let follower =
        Follower { tables, tell, waiting: Vec::new(), rest_until: Instant::now(), failing: false };
    std::thread::Builder::new().name("tables".into()).spawn(move || follower.run(&inbox))?;
    let projection = Projection { tables: to_tables.clone(), applied };
    let on_synced = Box::new(move |batches| {
        // Refused only by a thread that is gone: reads then lag, nothing is lost.
        let _ = to_tables.send(ToTables::Synced(batches));
    });
    Ok((projection, on_synced))
}

struct Follower {
    tables: ReadTables,
    tell: watch::Sender<u64>,
    waiting: Vec<Encoded>,
    rest_until: Instant,
    /// The last step failed: nobody's wish ends the rest.
    failing: bool,
}

impl Follower {
    fn run(mut self, inbox: &Receiver<ToTables>) {
        loop {
            let rest = self.rest_until.saturating_duration_since(Instant::now());
            if self.waiting.len() >= WAITING_MAX {
                std::thread::sleep(rest);
                self.step();
                continue;
            }
            let timeout = if self.waiting.is_empty() { Duration::from_secs(3_600) } else { rest };
            let wanted = match inbox.recv_timeout(timeout) {
                Ok(ToTables::Synced(batches)) => {
                    self.waiting.extend(batches);
                    self.waiting.len() >= STEP_MAX
                }
                Ok(ToTables::Now) => {
                    self.take_all(inbox);
                    true
                }
                Err(RecvTimeoutError::Timeout) => true,
                Err(RecvTimeoutError::Disconnected) => {
                    self.step();
                    return;
                }
            };
            let rested = Instant::now() >= self.rest_until;
            if (rested || (wanted && !self.failing)) && !self.waiting.is_empty() {
                self.step();
            }
        }
    }

    fn take_all(&mut self, inbox: &Receiver<ToTables>) {
        for message in inbox.try_iter() {
            if let ToTables::Synced(batches) = message {
                self.waiting.extend(batches);
            }
        }
    }

    /// Takes in what waits. What fails for want of space or by a fault of the disk is kept and
    /// tried again: keys of answered requests are found in these tables, so a gap in them could
    /// charge a repeated request twice. Anything else is a damaged file, which the next start
    /// makes anew from the log.
    fn step(&mut self) {
        let done = self.tables.project(&self.waiting);
        let done = done.and_then(|()| self.tables.prune(PRUNED_AT_ONCE));
        self.tell.send_replace(self.tables.applied());
        self.failing = done.is_err();
        self.rest_until = Instant::now() + if self.failing { RETRY } else { REST };
        match done {
            Ok(_) => self.waiting.clear(),
            Err(error) if error.is_transient() => {
                tracing::error!(error = &error as &dyn std::error::Error, "read tables lag behind");
            }
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the read tables are damaged; ending to make them anew from the log"
                );
                std::process::exit(1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use mtor_store::{Tuning, encode_batch};
    use mtor_types::fact::{Asset, Batch, Fact};
    use mtor_types::{AccountId, Amount, IntentId, Time};

    use super::*;

    fn hold(number: u16) -> Fact {
        let mut id = [0; 16];
        id[..2].copy_from_slice(&number.to_be_bytes());
        Fact::HoldPlaced {
            intent: IntentId(id),
            account: AccountId([1; 32]),
            asset: Asset::Grant,
            amount: Amount::ZERO,
            edge: None,
            expires: Time(1),
            transfer: None,
            idempotency: None,
            salt: [0; 16],
        }
    }

    #[test]
    fn a_step_that_finds_no_space_is_kept_and_made_up_for() {
        let folder = std::env::temp_dir().join(format!("mtor-tables-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        drop(ReadTables::open(&folder).unwrap());
        let small = Tuning { pages_max: Some(1), ..Tuning::default() };
        let (tell, applied) = watch::channel(0);
        let mut follower = Follower {
            tables: ReadTables::open_with(&folder, &small).unwrap(),
            tell,
            waiting: Vec::new(),
            rest_until: Instant::now(),
            failing: false,
        };
        let facts = (0..2_000).map(hold).collect();
        follower.waiting.push(encode_batch(&Batch { number: 1, at: Time(1), facts }));
        follower.step();
        assert!(follower.failing);
        // More comes meanwhile, and then there is space.
        let facts = vec![hold(9_999)];
        follower.waiting.push(encode_batch(&Batch { number: 2, at: Time(2), facts }));
        follower.step();
        assert_eq!((follower.waiting.len(), *applied.borrow()), (2, 0), "nothing is dropped");
        follower.tables = ReadTables::open(&folder).unwrap();
        follower.step();
        assert_eq!((follower.waiting.len(), *applied.borrow(), follower.failing), (0, 2, false));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
