//! The bounded queue before a backend, with revocation.
//!
//! Invariants: a key is either waiting, running or unknown; `revoke` of a waiting key removes it
//! at once, of a running one marks it for its thread to see, of an unknown one does nothing, so
//! nothing grows with what an agent sends. Absences: no time, no deadlines, no fairness; the realm
//! decides order, this is first come, first served.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::protocol::Key;

/// Why a job was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushError {
    Full,
    /// The same attempt is already here.
    Duplicate,
}

pub struct Inbox<T> {
    state: Mutex<State<T>>,
    wake: Condvar,
    waiting_max: usize,
}

struct State<T> {
    waiting: VecDeque<(Key, T)>,
    running: Vec<Running>,
    closed: bool,
}

struct Running {
    key: Key,
    revoked: bool,
}

impl<T> Inbox<T> {
    pub fn new(waiting_max: usize) -> Self {
        let state = State { waiting: VecDeque::new(), running: Vec::new(), closed: false };
        Self { state: Mutex::new(state), wake: Condvar::new(), waiting_max }
    }

    // A poisoned lock means a thread panicked, and the panic hook ends the process; until then
    // the state is only read or moved whole, so it is safe to go on with.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn push(&self, key: Key, job: T) -> Result<(), PushError> {
        let mut state = self.lock();
        let known = state.waiting.iter().any(|(other, _)| *other == key)
            || state.running.iter().any(|other| other.key == key);
        if known {
            return Err(PushError::Duplicate);
        }
        if state.waiting.len() >= self.waiting_max {
            return Err(PushError::Full);
        }
        state.waiting.push_back((key, job));
        drop(state);
        self.wake.notify_one();
        Ok(())
    }

    pub fn revoke(&self, key: &Key) {
        let mut state = self.lock();
        state.waiting.retain(|(other, _)| other != key);
        if let Some(running) = state.running.iter_mut().find(|other| other.key == *key) {
            running.revoked = true;
        }
    }

    /// Waits for the next job; `None` once the inbox is closed.
    pub fn take(&self) -> Option<(Key, T)> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some(taken) = Self::start_next(&mut state) {
                return Some(taken);
            }
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn start_next(state: &mut State<T>) -> Option<(Key, T)> {
        let (key, job) = state.waiting.pop_front()?;
        state.running.push(Running { key: key.clone(), revoked: false });
        Some((key, job))
    }

    /// Whether the work of a running job should stop without a word.
    pub fn is_revoked(&self, key: &Key) -> bool {
        self.lock().running.iter().any(|running| running.revoked && running.key == *key)
    }

    /// The job's thread is done with it, whatever the outcome.
    pub fn finish(&self, key: &Key) {
        self.lock().running.retain(|running| running.key != *key);
    }

    pub fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_all();
    }

    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(intent: &str) -> Key {
        Key { intent: intent.into(), attempt: 1 }
    }

    #[test]
    fn the_bound_holds_and_duplicates_are_refused() {
        let inbox = Inbox::new(2);
        assert_eq!(inbox.push(key("a"), 1), Ok(()));
        assert_eq!(inbox.push(key("a"), 1), Err(PushError::Duplicate));
        assert_eq!(inbox.push(key("b"), 2), Ok(()));
        assert_eq!(inbox.push(key("c"), 3), Err(PushError::Full));
        assert_eq!(inbox.take(), Some((key("a"), 1)));
        assert_eq!(inbox.push(key("a"), 1), Err(PushError::Duplicate));
        inbox.finish(&key("a"));
        assert_eq!(inbox.push(key("a"), 1), Ok(()));
    }

    #[test]
    fn revoke_removes_the_waiting_and_marks_the_running() {
        let inbox = Inbox::new(4);
        inbox.push(key("a"), 1).unwrap();
        inbox.push(key("b"), 2).unwrap();
        assert_eq!(inbox.take(), Some((key("a"), 1)));
        inbox.revoke(&key("a"));
        inbox.revoke(&key("b"));
        inbox.revoke(&key("unknown"));
        assert!(inbox.is_revoked(&key("a")));
        inbox.push(key("c"), 3).unwrap();
        assert_eq!(inbox.take(), Some((key("c"), 3)));
        inbox.finish(&key("a"));
        assert!(!inbox.is_revoked(&key("a")));
    }

    #[test]
    fn close_ends_a_waiting_thread() {
        let inbox = std::sync::Arc::new(Inbox::<u8>::new(1));
        let other = std::sync::Arc::clone(&inbox);
        let waiter = std::thread::spawn(move || other.take());
        inbox.close();
        assert_eq!(waiter.join().unwrap(), None);
    }
}
