//! How many second attempts an account has had: at most a share of its dispatches, so that one
//! account's failing work cannot take the slots of all.

use std::collections::BTreeMap;

use mtor_types::AccountId;

use crate::limits;

#[derive(Debug, Default)]
struct Counts {
    dispatches: u64,
    retries: u64,
}

#[derive(Debug, Default)]
pub(super) struct Retries {
    accounts: BTreeMap<AccountId, Counts>,
}

impl Retries {
    pub(super) fn dispatched(&mut self, account: AccountId) {
        if self.accounts.len() >= limits::RETRY_ACCOUNTS_MAX {
            self.accounts.clear();
        }
        let counts = self.accounts.entry(account).or_default();
        counts.dispatches = counts.dispatches.saturating_add(1);
    }

    /// Takes one retry if the account may have it.
    pub(super) fn take(&mut self, account: AccountId) -> bool {
        let counts = self.accounts.entry(account).or_default();
        let share = counts.dispatches.saturating_mul(limits::RETRY_PER_CENT_MAX) / 100;
        let may = counts.retries < share.max(limits::RETRIES_FREE)
            || mtor_types::mutant!("retries-without-budget");
        if may {
            counts.retries = counts.retries.saturating_add(1);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_of_the_dispatches_may_be_retries() {
        let account = AccountId([1; 32]);
        let mut retries = Retries::default();
        for _ in 0..1_000 {
            retries.dispatched(account);
        }
        assert_eq!((0..1_000).filter(|_| retries.take(account)).count(), 100);
        assert_eq!((0..99).filter(|_| retries.take(AccountId([2; 32]))).count(), 10);
    }
}
