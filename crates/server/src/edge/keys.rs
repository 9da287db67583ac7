//! Which account a key belongs to: a snapshot for the request path, without locks.

use std::sync::{Mutex, PoisonError};

use mtor_types::{AccountId, KeyHash};

#[derive(Debug, Default)]
pub struct Keys {
    by_hash: papaya::HashMap<KeyHash, AccountId>,
    listing: Mutex<()>,
}

impl Keys {
    pub fn account_of(&self, key: KeyHash) -> Option<AccountId> {
        self.by_hash.pin().get(&key).copied()
    }

    /// The keys of an account, in order. A look at all there are: to be called where it may block.
    pub fn of(&self, account: AccountId) -> Vec<KeyHash> {
        // One look at a time, so that nobody keeps more than one core busy by asking.
        let _turn = self.listing.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = self.by_hash.pin();
        let mut of_account: Vec<KeyHash> =
            keys.iter().filter(|(_, owner)| **owner == account).map(|(key, _)| *key).collect();
        of_account.sort_unstable();
        of_account
    }

    pub fn add(&self, key: KeyHash, account: AccountId) {
        self.by_hash.pin().insert(key, account);
    }

    pub fn remove(&self, key: KeyHash) {
        self.by_hash.pin().remove(&key);
    }
}
