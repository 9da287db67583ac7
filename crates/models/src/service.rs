//! Who takes a line: the whole of the program between stdin and the inbox.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::embed::{self, Embed};
use crate::files;
use crate::inbox::{Inbox, PushError};
use crate::protocol::{Assign, Incoming, Key, Outbox, Refusal};

/// How long the end of stdin waits for a running step; then the process ends under it.
const GRACE: Duration = Duration::from_secs(2);

pub struct Service {
    embed: Embed,
    outbox: Arc<Outbox>,
    threads: Vec<JoinHandle<()>>,
}

impl Service {
    /// Loads what `dir` holds, to be run on so many threads. `None` if it holds no model.
    pub fn load(dir: &Path, threads: usize, outbox: Arc<Outbox>) -> anyhow::Result<Option<Self>> {
        let Some(files) = files::embed(dir) else { return Ok(None) };
        let (embed, threads) = Embed::load(&files, threads, &outbox)?;
        Ok(Some(Self { embed, outbox, threads }))
    }

    /// The first line.
    pub fn offer(&self) {
        self.outbox.offers(&[self.embed.offer()]);
    }

    pub fn handle(&self, incoming: Incoming) {
        match incoming {
            Incoming::Assign(assign) => {
                if let Err(refusal) = self.assign(&assign) {
                    self.outbox.fail(&assign.key(), &refusal);
                }
            }
            Incoming::Revoke(key) => self.embed.revoke(&key),
            Incoming::Other => {}
        }
    }

    fn assign(&self, assign: &Assign) -> Result<(), Refusal> {
        let is_ours = assign.model.as_deref().is_none_or(|asked| asked == embed::MODEL);
        if assign.name == "embed" && is_ours {
            return self.embed.assign(assign);
        }
        Err(Refusal::unsupported(
            "name and model are not among this program's offers; assign what it offered",
        ))
    }

    /// Stops everything without another word.
    pub fn close(self) {
        self.embed.close();
        let ended = watch(self.threads);
        let deadline = Instant::now() + GRACE;
        // The channel closes when the last thread has ended.
        while let Some(left) = deadline.checked_duration_since(Instant::now()) {
            if ended.recv_timeout(left).is_err() {
                return;
            }
        }
    }
}

/// Joins threads elsewhere, so that the caller can stop waiting for them.
fn watch(threads: Vec<JoinHandle<()>>) -> Receiver<()> {
    let (tx, rx) = sync_channel(threads.len());
    std::thread::spawn(move || {
        for thread in threads {
            let told = thread.join().is_ok() && tx.send(()).is_ok();
            if !told {
                return;
            }
        }
    });
    rx
}

/// Queues a job. A full queue is a refusal; a repeated attempt is none, for a `fail` would end the
/// one that is running.
pub(crate) fn queue<T>(inbox: &Inbox<T>, key: Key, job: T, slots: usize) -> Result<(), Refusal> {
    match inbox.push(key, job) {
        Ok(()) => Ok(()),
        Err(PushError::Full) => Err(Refusal::backend(
            format!("all {slots} slots and all waiting places are taken; try another worker"),
            true,
        )),
        Err(PushError::Duplicate) => {
            complain("an attempt was assigned twice; the second is ignored");
            Ok(())
        }
    }
}

/// A line for the operator; never with a client's content.
pub fn complain(text: &str) {
    eprintln!("mtor-models: {text}");
}
