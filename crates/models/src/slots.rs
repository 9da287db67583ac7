//! What every intent here has in common: requests that wait for a slot, and what its thread has to
//! know of one while it works.
//!
//! Invariant: a slot tells nothing of a request that was revoked, or after the end of stdin.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::inbox::{Inbox, PushError};
use crate::protocol::{Assign, Key, Offer, Outbox, Refusal, Usage};
use crate::service::complain;

/// Why a job ended without a result.
pub(crate) enum Stopped {
    Revoked,
    Refused(Refusal),
}

impl From<Refusal> for Stopped {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<anyhow::Error> for Stopped {
    fn from(error: anyhow::Error) -> Self {
        Self::Refused(Refusal::backend(format!("the model failed: {error}; try again"), true))
    }
}

pub(crate) struct Job<R> {
    request: R,
    /// Of the request as its writer wrote it.
    bytes: u64,
    stream: bool,
    deadline: Option<Instant>,
}

/// So many requests are served at once, each on a thread of its own.
pub(crate) struct Slots<R> {
    inbox: Arc<Inbox<Job<R>>>,
    count: usize,
}

impl<R: Send + 'static> Slots<R> {
    pub(crate) fn new(count: usize, waiting_max: usize) -> Self {
        Self { inbox: Arc::new(Inbox::new(waiting_max)), count }
    }

    pub(crate) fn offer(
        &self,
        intent: &'static str,
        model: &'static str,
        context: Option<usize>,
    ) -> Offer {
        Offer { intent, model, slots: self.count, context }
    }

    pub(crate) fn revoke(&self, key: &Key) {
        self.inbox.revoke(key);
    }

    pub(crate) fn close(&self) {
        self.inbox.close();
    }

    /// Queues what was read of an assignment. A full queue is a refusal; a repeated attempt is none,
    /// for a `fail` would end the one that is running.
    pub(crate) fn assign(&self, assign: &Assign, request: R) -> Result<(), Refusal> {
        let left = assign.deadline_ms.map(Duration::from_millis);
        let deadline = left.and_then(|left| Instant::now().checked_add(left));
        let bytes = assign.data.len() as u64;
        let job = Job { request, bytes, stream: assign.stream, deadline };
        match self.inbox.push(assign.key(), job) {
            Ok(()) => Ok(()),
            Err(PushError::Full) => Err(Refusal::backend(
                format!(
                    "all {} slots and all waiting places are taken; try another worker",
                    self.count
                ),
                true,
            )),
            Err(PushError::Duplicate) => {
                complain("an attempt was assigned twice; the second is ignored");
                Ok(())
            }
        }
    }

    /// One slot: a thread that serves job after job until these are closed or nobody reads.
    ///
    /// # Errors
    /// A thread that the system does not give.
    pub(crate) fn start(
        &self,
        name: &str,
        outbox: &Arc<Outbox>,
        mut serve: impl FnMut(Asked<'_, R>) -> Result<(Usage, Value), Stopped> + Send + 'static,
    ) -> std::io::Result<JoinHandle<()>> {
        let (inbox, outbox) = (Arc::clone(&self.inbox), Arc::clone(outbox));
        let run = move || {
            while let Some((key, job)) = inbox.take() {
                let asked = Asked { job: &job, key: &key, inbox: &inbox, outbox: &outbox };
                let served = serve(asked);
                let is_revoked = asked.is_revoked();
                // Freed before it is told: who reads the end may assign the next at once.
                inbox.finish(&key);
                match served {
                    _ if is_revoked => {}
                    Ok((usage, result)) => outbox.complete(&key, usage, &result),
                    Err(Stopped::Revoked) => {}
                    Err(Stopped::Refused(refusal)) => outbox.fail(&key, &refusal),
                }
                if outbox.is_broken() {
                    return;
                }
            }
        };
        std::thread::Builder::new().name(name.to_owned()).spawn(run)
    }
}

/// A job as the slot that serves it sees it.
pub(crate) struct Asked<'a, R> {
    job: &'a Job<R>,
    key: &'a Key,
    inbox: &'a Inbox<Job<R>>,
    outbox: &'a Outbox,
}

impl<R> Clone for Asked<'_, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R> Copy for Asked<'_, R> {}

impl<'a, R> Asked<'a, R> {
    pub(crate) fn request(&self) -> &'a R {
        &self.job.request
    }

    /// Of the request as its writer wrote it.
    pub(crate) fn bytes(&self) -> u64 {
        self.job.bytes
    }

    /// It is answered in pieces.
    pub(crate) fn streams(&self) -> bool {
        self.job.stream
    }

    pub(crate) fn chunk(&self, seq: u64, count: u64, piece: &Value) {
        self.outbox.chunk(self.key, seq, count, piece);
    }

    fn is_revoked(&self) -> bool {
        self.inbox.is_revoked(self.key) || self.inbox.is_closed()
    }

    fn is_late(&self) -> bool {
        self.job.deadline.is_some_and(|deadline| deadline <= Instant::now())
    }

    /// Its result is of no use any more.
    pub(crate) fn is_over(&self) -> bool {
        self.is_revoked() || self.is_late()
    }

    /// Whether it is still wanted; `late` says how far it came by its deadline, and the remedy.
    pub(crate) fn look_up(&self, late: impl FnOnce() -> String) -> Result<(), Stopped> {
        if self.is_revoked() {
            return Err(Stopped::Revoked);
        }
        if self.is_late() {
            let text = format!("deadline passed {}", late());
            return Err(Refusal::backend(text, false).into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Mutex, PoisonError};

    use serde_json::json;

    use super::*;

    #[derive(Clone, Default)]
    struct Said(Arc<Mutex<Vec<u8>>>);

    impl Said {
        fn text(&self) -> String {
            let said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            String::from_utf8(said.clone()).unwrap()
        }
    }

    impl Write for Said {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What is told of one job, while whose work the standard input ends, or goes on.
    fn told_of(is_end: bool) -> String {
        let (said, slots) = (Said::default(), Slots::new(1, 1));
        let outbox = Arc::new(Outbox::new(Box::new(said.clone())));
        let key = Key { intent: "a".into(), attempt: 1 };
        let job = Job { request: (), bytes: 0, stream: false, deadline: None };
        slots.inbox.push(key, job).unwrap();
        let (served, wait) = std::sync::mpsc::sync_channel(1);
        let serve = move |asked: Asked<'_, ()>| {
            if is_end {
                asked.inbox.close();
            }
            served.send(()).unwrap();
            Ok((Usage { units: 1, input: 1, output: 0 }, json!("all")))
        };
        let slot = slots.start("slot", &outbox, serve).unwrap();
        wait.recv().unwrap();
        while !is_end && said.text().is_empty() {
            std::thread::yield_now();
        }
        slots.close();
        slot.join().unwrap();
        said.text()
    }

    #[test]
    fn nothing_is_told_after_the_end_of_standard_input() {
        assert!(told_of(false).contains(r#""result":"all""#));
        assert_eq!(told_of(true), "");
    }

    #[test]
    fn who_failed_is_not_guessed() {
        let Stopped::Refused(refusal) = Stopped::from(anyhow::anyhow!("espeak-ng is ill")) else {
            unreachable!("it is a refusal");
        };
        assert_eq!(refusal.message, "the model failed: espeak-ng is ill; try again");
    }
}
