//! Which backend takes a line: the whole of the program between stdin and the two inboxes.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::chat::{self, Capacity, Chat};
use crate::embed::{self, Embed};
use crate::files;
use crate::inbox::{Inbox, PushError};
use crate::protocol::{Assign, Incoming, Key, Outbox, Refusal};

/// How long the end of stdin waits for a running step; then the process ends under it.
const GRACE: Duration = Duration::from_secs(2);

pub struct Service {
    chat: Option<Chat>,
    embed: Option<Embed>,
    outbox: Arc<Outbox>,
    threads: Vec<JoinHandle<()>>,
}

impl Service {
    /// Loads what `dir` holds. `None` if it holds no model.
    pub fn load(
        dir: &Path,
        capacity: Capacity,
        outbox: Arc<Outbox>,
    ) -> anyhow::Result<Option<Self>> {
        let mut service = Self { chat: None, embed: None, outbox, threads: Vec::new() };
        if let Some(weights) = files::chat(dir) {
            let (chat, thread) = Chat::load(&weights, capacity, Arc::clone(&service.outbox))?;
            service.chat = Some(chat);
            service.threads.push(thread);
        }
        if let Some(files) = files::embed(dir) {
            let (embed, threads) = Embed::load(&files, capacity.threads, &service.outbox)?;
            service.embed = Some(embed);
            service.threads.extend(threads);
        }
        let any = service.chat.is_some() || service.embed.is_some();
        Ok(any.then_some(service))
    }

    /// The first line.
    pub fn offer(&self) {
        let chat = self.chat.as_ref().map(Chat::offer);
        let offers: Vec<_> =
            chat.into_iter().chain(self.embed.as_ref().map(Embed::offer)).collect();
        self.outbox.offers(&offers);
    }

    pub fn handle(&self, incoming: Incoming) {
        match incoming {
            Incoming::Assign(assign) => {
                if let Err(refusal) = self.assign(&assign) {
                    self.outbox.fail(&assign.key(), &refusal);
                }
            }
            Incoming::Revoke(key) => {
                self.chat.iter().for_each(|chat| chat.revoke(&key));
                self.embed.iter().for_each(|embed| embed.revoke(&key));
            }
            Incoming::Other => {}
        }
    }

    fn assign(&self, assign: &Assign) -> Result<(), Refusal> {
        let named = |model: &str| assign.model.as_deref().is_none_or(|asked| asked == model);
        match (assign.name.as_str(), &self.chat, &self.embed) {
            ("chat", Some(chat), _) if named(chat::MODEL) => chat.assign(assign),
            ("embed", _, Some(embed)) if named(embed::MODEL) => embed.assign(assign),
            _ => Err(Refusal::unsupported(
                "name and model are not among this program's offers; assign what it offered",
            )),
        }
    }

    /// Stops everything without another word.
    pub fn close(self) {
        self.chat.iter().for_each(Chat::close);
        self.embed.iter().for_each(Embed::close);
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
