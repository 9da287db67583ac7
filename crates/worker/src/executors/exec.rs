//! `exec`: an own program that speaks one event a line: assignments and revocations on its
//! standard input, offers, chunks, completions and failures on its standard output. Its first
//! line is its offer. Standard error is for people.
//!
//! All running intents share the program's one output, so a program cannot be slowed down for one
//! intent alone: what an intent sends ahead of its credit waits here, within a bound, and an
//! intent beyond it fails. So does one for which the program wrote a line that is no event. A
//! program that dies, or writes a line above the bound, fails what it ran (another worker may do
//! better), has its offers withdrawn and is started again.

mod line;
mod program;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mtor_types::intent::Usage;
use mtor_types::worker::{self, AssignMeter, FailCode, Revoke};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;

pub(crate) use program::{Group, keep, lines_of};

use super::{Job, Output};
use crate::leases::{End, Key};
use crate::limits;

/// From the program to the task that stands for one of its intents.
enum Said {
    Piece { raw: Box<RawValue>, count: u64, _room: [OwnedSemaphorePermit; 2] },
    Complete { usage: Usage, result: Option<Box<RawValue>> },
    Fail { code: FailCode, message: String, retry: bool },
}

struct Route {
    said: mpsc::Sender<Said>,
    /// Bytes that may wait here of this intent, and of all of its program together.
    room: [Arc<Semaphore>; 2],
    next_seq: u64,
}

/// What the tasks of a program share.
pub(crate) struct Program {
    state: Mutex<State>,
    /// There are lines to write.
    wake: Notify,
    /// Bytes that may wait here of all its intents together.
    room: Arc<Semaphore>,
}

impl Default for Program {
    fn default() -> Self {
        let room = Arc::new(Semaphore::new(limits::EXEC_BACKLOGS_BYTES_MAX));
        Self { state: Mutex::default(), wake: Notify::new(), room }
    }
}

#[derive(Default)]
struct State {
    up: bool,
    routes: HashMap<Key, Route>,
    lines: VecDeque<String>,
    lines_bytes: usize,
    next_id: u64,
}

impl State {
    fn line<D: Serialize>(&mut self, kind: &str, data: D) {
        self.next_id += 1;
        // Lines are made of types that always serialise.
        if let Ok(line) = line::write(self.next_id, kind, data) {
            self.lines_bytes += line.len();
            self.lines.push_back(line);
        }
    }

    fn finish(&mut self, key: Key, said: Said) {
        if let Some(route) = self.routes.remove(&key) {
            // A full route means the task is far behind; it sees the end as the route's closing.
            let _ = route.said.try_send(said);
        }
    }

    /// Ends an intent for what its program did wrong; the program is told to stop working on it.
    fn fault(&mut self, key: Key, message: &str) {
        let message = message.to_owned();
        self.finish(key, Said::Fail { code: FailCode::Backend, message, retry: true });
        self.line(worker::REVOKE, Revoke { intent: key.intent, attempt: key.attempt });
    }
}

/// An assignment as a program sees it: no lease.
#[derive(Serialize)]
struct Assignment<'a> {
    intent: mtor_types::IntentId,
    attempt: mtor_types::Attempt,
    name: &'a str,
    model: Option<&'a str>,
    stream: bool,
    limit: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    meter: Option<&'a AssignMeter>,
    deadline_ms: u64,
    data: &'a RawValue,
}

impl Program {
    // A poisoned lock means a panic between two whole changes; the state is still sound.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands the job to the program and passes on what it says, until its end.
    pub(crate) async fn run(self: Arc<Self>, job: Job, output: Output) -> End {
        let (tx, mut said) = mpsc::channel(limits::EXEC_BACKLOG_PIECES_MAX);
        if let Err(end) = self.assign(&job, tx) {
            return end;
        }
        let mut guard = RevokeOnDrop { program: &self, key: job.key, over: false };
        drop(job.data);
        while let Some(next) = said.recv().await {
            match next {
                Said::Piece { raw, count, _room } => {
                    if let Err(unwanted) = output.piece(raw, count).await {
                        return unwanted.into();
                    }
                }
                Said::Complete { usage, result } => {
                    guard.over = true;
                    return End::Complete { usage, result };
                }
                Said::Fail { code, message, retry } => {
                    guard.over = true;
                    return End::Fail { code, message, retry };
                }
            }
        }
        End::backend("the program that served this has ended")
    }

    fn assign(&self, job: &Job, said: mpsc::Sender<Said>) -> Result<(), End> {
        let left = job.deadline.saturating_duration_since(Instant::now());
        let assignment = Assignment {
            intent: job.key.intent,
            attempt: job.key.attempt,
            name: &job.name,
            model: job.model.as_deref(),
            stream: job.stream,
            limit: job.limit,
            output: job.output,
            meter: job.meter.as_ref(),
            deadline_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
            data: &job.data,
        };
        let mut state = self.lock();
        if !state.up {
            return Err(End::backend("the program that serves this is not running"));
        }
        // What waits for other intents, and this: a single one is never too much.
        let waiting = state.lines_bytes + job.data.get().len();
        if state.lines_bytes > 0 && waiting > limits::EXEC_LINES_BYTES_MAX {
            return Err(End::backend("the program that serves this does not read its input"));
        }
        let own = Arc::new(Semaphore::new(limits::EXEC_BACKLOG_BYTES_MAX));
        let room = [own, Arc::clone(&self.room)];
        state.routes.insert(job.key, Route { said, room, next_seq: 0 });
        state.line(worker::ASSIGN, assignment);
        drop(state);
        self.wake.notify_one();
        Ok(())
    }

    /// The program is there, and has said what it can do.
    fn set_up(&self) {
        self.lock().up = true;
    }

    /// The program is gone: every task that waits for it sees its route close.
    fn set_down(&self) {
        let mut state = self.lock();
        state.up = false;
        state.routes.clear();
        state.lines.clear();
        state.lines_bytes = 0;
    }

    /// The next line for the program.
    async fn next_line(&self) -> String {
        loop {
            if let Some(line) = self.pop_line() {
                return line;
            }
            self.wake.notified().await;
        }
    }

    fn pop_line(&self) -> Option<String> {
        let mut state = self.lock();
        let line = state.lines.pop_front()?;
        state.lines_bytes -= line.len();
        Some(line)
    }

    /// A line that is no event. It was meant to be a word of an intent that would wait for it
    /// until its deadline: it fails the intents that it names, or, if it names none, all that run.
    fn said_nonsense(&self, line: &[u8]) {
        // Its envelope, wherever the program put it: searching all of a line for all intents could
        // take seconds.
        let head = line.get(..limits::ENVELOPE_BYTES_MAX).unwrap_or(line);
        let tail = line.len().checked_sub(limits::ENVELOPE_BYTES_MAX);
        let tail = tail.and_then(|at| line.get(at..)).unwrap_or_default();
        let envelope = [String::from_utf8_lossy(head), String::from_utf8_lossy(tail)];
        let is_named = |key: &Key| {
            let intent = key.intent.to_string();
            envelope.iter().any(|part| part.contains(&intent))
        };
        let mut state = self.lock();
        let mut failed: Vec<Key> = state.routes.keys().copied().filter(is_named).collect();
        if failed.is_empty() {
            failed = state.routes.keys().copied().collect();
        }
        tracing::warn!(
            bytes = line.len(),
            failed = failed.len(),
            "a program's line is not an event"
        );
        for key in failed {
            state.fault(key, "the program that serves this wrote a line that is not an event");
        }
        drop(state);
        self.wake.notify_one();
    }

    /// Passes on what the program said. What it says of an intent that it was not given, or that
    /// was revoked, is ignored.
    fn said(&self, said: line::Incoming<'_>) {
        let mut state = self.lock();
        match said {
            line::Incoming::Chunk(chunk) => {
                let key = Key { intent: chunk.intent, attempt: chunk.attempt };
                let Some(route) = state.routes.get_mut(&key) else { return };
                if let Err(fault) = route.piece(&chunk) {
                    state.fault(key, fault);
                    drop(state);
                    self.wake.notify_one();
                }
            }
            line::Incoming::Complete(complete) => {
                let key = Key { intent: complete.intent, attempt: complete.attempt };
                let result = complete.result.map(ToOwned::to_owned);
                state.finish(key, Said::Complete { usage: complete.usage, result });
            }
            line::Incoming::Fail(fail) => {
                let key = Key { intent: fail.intent, attempt: fail.attempt };
                let message = super::bounded(&fail.message).to_owned();
                state.finish(key, Said::Fail { code: fail.code, message, retry: fail.retry });
            }
        }
    }
}

impl Route {
    fn piece(&mut self, chunk: &worker::Chunk<'_>) -> Result<(), &'static str> {
        if chunk.seq != self.next_seq {
            return Err("the program numbered its pieces wrongly");
        }
        self.next_seq += 1;
        let outran = "the program outran what its client takes";
        let bytes = u32::try_from(chunk.piece.get().len()).map_err(|_| outran)?;
        let [own, all] = &self.room;
        let take = |room: &Arc<Semaphore>| {
            Arc::clone(room).try_acquire_many_owned(bytes).map_err(|_| outran)
        };
        let room = [take(own)?, take(all)?];
        let said = Said::Piece { raw: chunk.piece.to_owned(), count: chunk.count, _room: room };
        self.said.try_send(said).map_err(|_| outran)
    }
}

/// Tells the program that its work is no longer wanted, however the task ends.
struct RevokeOnDrop<'a> {
    program: &'a Program,
    key: Key,
    over: bool,
}

impl Drop for RevokeOnDrop<'_> {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let mut state = self.program.lock();
        if state.routes.remove(&self.key).is_some() && state.up {
            let (intent, attempt) = (self.key.intent, self.key.attempt);
            state.line(worker::REVOKE, Revoke { intent, attempt });
            drop(state);
            self.program.wake.notify_one();
        }
    }
}

#[cfg(test)]
mod tests;
