//! Proofs by an account's own key: each nonce is signed once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use mtor_types::{AccountId, Code, Time};

use super::Edge;
use crate::api_error::ApiError;
use crate::identity::{self, NONCE_LIFE_MS};

/// Accounts that have proved something within the life of a nonce.
const PROVED_MAX: usize = 100_000;

/// When the last nonce was made that each account has signed: an older one is not taken from it. So a
/// nonce serves once, and nothing is kept of those that nobody signs.
#[derive(Debug, Default)]
pub struct Proofs(Mutex<Last>);

#[derive(Debug, Default)]
struct Last {
    by_account: BTreeMap<AccountId, Time>,
    by_time: BTreeSet<(Time, AccountId)>,
}

impl Proofs {
    fn take(&self, account: AccountId, made: Time, now: Time) -> Result<(), ApiError> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((at, old)) = last.by_time.first().copied()
            && now.since_ms(at) >= NONCE_LIFE_MS
        {
            last.by_time.pop_first();
            last.by_account.remove(&old);
        }
        let before = last.by_account.get(&account).copied();
        if before.is_some_and(|before| made <= before) {
            return Err(stale());
        }
        if before.is_none() && last.by_account.len() >= PROVED_MAX {
            let message = "too many accounts prove their keys just now; try again in a minute";
            return Err(ApiError::new(Code::LimitReached, message));
        }
        if let Some(before) = before {
            last.by_time.remove(&(before, account));
        }
        last.by_account.insert(account, made);
        last.by_time.insert((made, account));
        Ok(())
    }
}

fn stale() -> ApiError {
    ApiError::invalid_field("nonce", "a fresh one of `GET /v1/accounts/nonce`, signed once")
}

impl Edge {
    /// Whether who asks holds the account's own key.
    ///
    /// # Errors
    /// A nonce that is not one of this realm's, of the last five minutes and new to this account; a
    /// signature that is not the account's.
    pub fn prove_owner(
        &self,
        account: AccountId,
        nonce: &str,
        signature: &str,
    ) -> Result<(), ApiError> {
        let now = self.now();
        let made = self.identity.read_nonce(nonce, now).ok_or_else(stale)?;
        identity::verify_owner(self.identity.realm(), account, nonce, signature)?;
        self.proofs.take(account, made, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_taken_once_of_an_account() {
        let (proofs, one, other) = (Proofs::default(), AccountId([1; 32]), AccountId([2; 32]));
        assert!(proofs.take(one, Time(10), Time(20)).is_ok());
        assert!(proofs.take(one, Time(10), Time(20)).is_err(), "again");
        assert!(proofs.take(one, Time(9), Time(20)).is_err(), "an older one");
        assert!(proofs.take(other, Time(10), Time(20)).is_ok(), "another's");
        assert!(proofs.take(one, Time(11), Time(20)).is_ok());
        assert!(proofs.take(one, Time(10), Time(20)).is_err());
        let later = Time(11 + NONCE_LIFE_MS);
        assert!(proofs.take(other, later, later).is_ok());
        assert_eq!(
            proofs.0.lock().unwrap().by_account.len(),
            1,
            "what is too old anyway is forgotten"
        );
    }
}
