//! What an account gets once a day, with the first that it asks of it.

use std::sync::atomic::{AtomicU64, Ordering};

use mtor_core::Command;
use mtor_types::fact::NetworkKey;
use mtor_types::{AccountId, Code};

use super::Edge;
use crate::api_error::ApiError;
use crate::identity;

/// Accounts that were filled up today, or need not be, as far as this edge knows.
#[derive(Debug, Default)]
pub struct Days {
    day: AtomicU64,
    seen: papaya::HashSet<AccountId>,
}

impl Days {
    /// Whether the account asks for the first time on that day.
    fn is_first(&self, account: AccountId, day: u64) -> bool {
        if self.day.swap(day, Ordering::AcqRel) != day {
            self.seen.pin().clear();
        }
        let seen = self.seen.pin();
        !seen.contains(&account) && seen.insert(account)
    }

    pub(super) fn forget(&self, account: AccountId) {
        self.seen.pin().remove(&account);
    }
}

impl Edge {
    /// Before work of an account is taken in: once a day it is filled up first. What stands against that
    /// is the refusal's to say, if its balance is too low.
    pub async fn begin_day(&self, account: AccountId, networks: impl FnOnce() -> Vec<NetworkKey>) {
        if self.days.is_first(account, self.now().day())
            && self.fill_up(account, networks()).await.is_err()
        {
            self.days.forget(account);
        }
    }

    /// Fills an account up to a guest's grant, once a day.
    ///
    /// # Errors
    /// Why there is none today for who should have one.
    pub async fn fill_up(
        &self,
        account: AccountId,
        networks: Vec<NetworkKey>,
    ) -> Result<(), ApiError> {
        let is_short = self.node().ask(move |node| node.accountant().is_short(account, node.now()));
        if !is_short.await? {
            return Ok(());
        }
        let salt = identity::random().map_err(|_| ApiError::internal())?;
        self.node().call(Command::FillUp { account, networks, salt }).await?;
        Ok(())
    }

    /// The same, told: why an account has no grant today, unless something else is wrong.
    pub async fn no_grant(
        &self,
        account: AccountId,
        networks: Vec<NetworkKey>,
    ) -> Result<Option<ApiError>, ApiError> {
        match self.fill_up(account, networks).await {
            Ok(()) => Ok(None),
            Err(none) if matches!(none.code, Code::GrantsExhausted | Code::NetworkLimit) => {
                Ok(Some(none))
            }
            Err(error) => Err(error),
        }
    }
}
