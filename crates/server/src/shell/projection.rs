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
/// A reader waits no longer; then it sees the tables as they are.
const READER_PATIENCE: Duration = Duration::from_secs(2);
/// Idempotency keys past their time that one step removes.
const PRUNED_AT_ONCE: usize = 1_000;

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
    /// Resolves when everything up to batch `synced` can be read.
    pub async fn reach(&self, synced: u64) {
        let mut applied = self.applied.clone();
        if *applied.borrow_and_update() >= synced {
            return;
        }
        // A full channel means that the thread is awake anyway.
        let _ = self.tables.try_send(ToTables::Now);
        let reached = applied.wait_for(|applied| *applied >= synced);
        if tokio::time::timeout(READER_PATIENCE, reached).await.is_err() {
            tracing::warn!(synced, "the read tables lag behind");
        }
    }
}

/// Starts the thread. What it gives second is to be called with each synced group of batches.
pub fn follow(tables: ReadTables) -> std::io::Result<(Projection, OnSynced)> {
    let (to_tables, inbox) = sync_channel(GROUPS_MAX);
    let (tell, applied) = watch::channel(tables.applied());
    std::thread::Builder::new().name("tables".into()).spawn(move || run(tables, &inbox, &tell))?;
    let projection = Projection { tables: to_tables.clone(), applied };
    let on_synced = Box::new(move |batches| {
        // Refused only by a thread that is gone: reads then lag, nothing is lost.
        let _ = to_tables.send(ToTables::Synced(batches));
    });
    Ok((projection, on_synced))
}

fn run(mut tables: ReadTables, inbox: &Receiver<ToTables>, tell: &watch::Sender<u64>) {
    let mut rest_until = Instant::now();
    let mut waiting: Vec<Encoded> = Vec::new();
    loop {
        let timeout = if waiting.is_empty() {
            Duration::from_secs(3_600)
        } else {
            rest_until.saturating_duration_since(Instant::now())
        };
        let wanted = match inbox.recv_timeout(timeout) {
            Ok(ToTables::Synced(batches)) => {
                waiting.extend(batches);
                waiting.len() >= STEP_MAX
            }
            Ok(ToTables::Now) => {
                take_all(inbox, &mut waiting);
                true
            }
            Err(RecvTimeoutError::Timeout) => true,
            Err(RecvTimeoutError::Disconnected) => {
                step(&mut tables, &mut waiting, tell);
                return;
            }
        };
        if (wanted || Instant::now() >= rest_until) && !waiting.is_empty() {
            step(&mut tables, &mut waiting, tell);
            rest_until = Instant::now() + REST;
        }
    }
}

fn take_all(inbox: &Receiver<ToTables>, waiting: &mut Vec<Encoded>) {
    for message in inbox.try_iter() {
        if let ToTables::Synced(batches) = message {
            waiting.extend(batches);
        }
    }
}

fn step(tables: &mut ReadTables, waiting: &mut Vec<Encoded>, tell: &watch::Sender<u64>) {
    let batches = std::mem::take(waiting);
    let done = tables.project(&batches).and_then(|()| tables.prune(PRUNED_AT_ONCE));
    if let Err(error) = done {
        // The next start reads the log again from where the tables are.
        tracing::error!(error = &error as &dyn std::error::Error, "read tables lag behind");
    }
    tell.send_replace(tables.applied());
}
