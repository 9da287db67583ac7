//! Which account a key belongs to: a snapshot for the request path, without locks.

use mtor_types::{AccountId, KeyHash};

#[derive(Debug, Default)]
pub struct Keys {
    by_hash: papaya::HashMap<KeyHash, AccountId>,
}

impl Keys {
    pub fn account_of(&self, key: KeyHash) -> Option<AccountId> {
        self.by_hash.pin().get(&key).copied()
    }

    pub fn add(&self, key: KeyHash, account: AccountId) {
        self.by_hash.pin().insert(key, account);
    }

    pub fn remove(&self, key: KeyHash) {
        self.by_hash.pin().remove(&key);
    }
}
