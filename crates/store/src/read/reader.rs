//! The reading side: a few views that threads share.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};

use mtor_types::{AccountId, Digest, IntentId};

use super::view::{IntentRow, PlacedRows, Position, TransferRow, View};
use crate::error::StoreError;

/// Views at a time, each about 1 MB of memory; more questions than that wait.
const VIEWS_MAX: usize = 4;

/// Answers about the past, from any thread. A question blocks while it reads the disk, and while
/// all views are taken: not for a thread of an async runtime.
#[derive(Debug)]
pub struct Reader {
    dir: PathBuf,
    state: Mutex<Pool>,
    returned: Condvar,
}

#[derive(Debug, Default)]
struct Pool {
    idle: Vec<View>,
    lent: usize,
}

impl Reader {
    /// Opens the log and the read tables of a data directory; both must be there.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let pool = Pool { idle: vec![View::open(dir)?], lent: 0 };
        let state = Mutex::new(pool);
        Ok(Self { dir: dir.to_path_buf(), state, returned: Condvar::new() })
    }

    /// The last batch that answers take into account.
    pub fn applied(&self) -> Result<u64, StoreError> {
        self.with(View::applied)
    }

    /// An account's transfers after a sequence number, oldest first, at most `limit`.
    pub fn transfers(
        &self,
        account: AccountId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<TransferRow>, StoreError> {
        self.with(|view| view.transfers(account, after, limit))
    }

    /// The intents whose holds an account placed before a position, the newest first: at most
    /// `limit`, and fewer if too much else had to be read. Intents that reserved nothing are not
    /// among them.
    pub fn placed(
        &self,
        account: AccountId,
        before: Option<Position>,
        limit: usize,
    ) -> Result<PlacedRows, StoreError> {
        self.with(|view| view.placed(account, before, limit))
    }

    /// One intent, if its hold was ever placed.
    pub fn intent(&self, intent: IntentId) -> Result<Option<IntentRow>, StoreError> {
        Ok(self.intents(&[intent])?.remove(&intent))
    }

    /// Several intents at once; those that were never placed are left out.
    pub fn intents(
        &self,
        intents: &[IntentId],
    ) -> Result<BTreeMap<IntentId, IntentRow>, StoreError> {
        self.with(|view| view.intents(intents))
    }

    /// The intents whose holds a batch resolved, in the batch's order.
    pub fn settled_in(&self, batch: u64) -> Result<Vec<IntentRow>, StoreError> {
        self.with(|view| view.settled_in(batch))
    }

    /// The intent that an idempotency key is bound to, and the digest of its body. A refused
    /// intent binds no key, and none binds for longer than 24 h of the log's time.
    pub fn idempotency(&self, key: Digest) -> Result<Option<(IntentId, Digest)>, StoreError> {
        self.with(|view| view.idempotency(key))
    }

    /// A view that failed is closed, so the next question opens the files anew.
    fn with<T>(&self, ask: impl FnOnce(&View) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut lent = Lent { pool: self, view: self.take() };
        let view = match lent.view.take() {
            Some(view) => view,
            None => View::open(&self.dir)?,
        };
        let answer = ask(&view)?;
        lent.view = Some(view);
        Ok(answer)
    }

    /// An idle view, or the right to open one.
    fn take(&self) -> Option<View> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while state.idle.is_empty() && state.lent >= VIEWS_MAX {
            state = self.returned.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.lent += 1;
        state.idle.pop()
    }
}

/// Gives the place back, and the view if it is whole, however the question ended.
struct Lent<'a> {
    pool: &'a Reader,
    view: Option<View>,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let mut state = self.pool.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.lent -= 1;
        state.idle.extend(self.view.take());
        drop(state);
        self.pool.returned.notify_one();
    }
}
