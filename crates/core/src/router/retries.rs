//! How many second attempts an account and its branch have had lately: at most a share of their
//! dispatches, so that one's failing work cannot take the slots of all. By branch too, since whoever
//! runs out of an account's retries opens another one.

use std::collections::{BTreeMap, BTreeSet};

use mtor_types::AccountId;
use mtor_types::intent::IntentMeta;

use super::job::flow_of;
use super::safe_queue::FlowKey;
use crate::limits;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Holder {
    Branch(FlowKey),
    Account(FlowKey, AccountId),
}

impl Holder {
    /// Who answers for an intent's retries.
    fn both(meta: &IntentMeta) -> [Self; 2] {
        let branch = flow_of(meta).branch;
        [Self::Branch(branch), Self::Account(branch, meta.account)]
    }

    fn free(self) -> u64 {
        match self {
            Self::Branch(_) => limits::RETRIES_FREE_PER_BRANCH,
            Self::Account(..) => limits::RETRIES_FREE,
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    dispatches: u64,
    retries: u64,
    /// Its last dispatch or retry, of all.
    used: u64,
}

#[derive(Debug, Default)]
pub(super) struct Retries {
    counts: BTreeMap<Holder, Counts>,
    /// Whose last was when.
    used: BTreeSet<(u64, Holder)>,
    next: u64,
}

impl Retries {
    pub(super) fn dispatched(&mut self, meta: &IntentMeta) {
        for holder in Holder::both(meta) {
            self.change(holder, |counts| {
                counts.dispatches = counts.dispatches.saturating_add(1);
                if counts.dispatches >= limits::RETRY_DISPATCHES {
                    (counts.dispatches, counts.retries) =
                        (counts.dispatches / 2, counts.retries / 2);
                }
            });
        }
    }

    /// Takes one retry if the account and its branch may have it.
    pub(super) fn take(&mut self, meta: &IntentMeta) -> bool {
        let may = Holder::both(meta).into_iter().all(|holder| {
            let counts = self.counts.get(&holder).copied().unwrap_or_default();
            let share = counts.dispatches.saturating_mul(limits::RETRY_PER_CENT_MAX) / 100;
            counts.retries < share.max(holder.free())
        });
        let may = may || mtor_types::mutant!("retries-without-budget");
        if may {
            for holder in Holder::both(meta) {
                self.change(holder, |counts| counts.retries = counts.retries.saturating_add(1));
            }
        }
        may
    }

    fn change(&mut self, holder: Holder, change: impl FnOnce(&mut Counts)) {
        if self.counts.len() >= limits::RETRY_COUNTS_MAX
            && !self.counts.contains_key(&holder)
            && let Some((_, oldest)) = self.used.pop_first()
        {
            self.counts.remove(&oldest);
        }
        self.next = self.next.saturating_add(1);
        let counts = self.counts.entry(holder).or_default();
        self.used.remove(&(counts.used, holder));
        change(counts);
        counts.used = self.next;
        self.used.insert((counts.used, holder));
    }
}

#[cfg(test)]
mod tests {
    use mtor_types::fact::NetworkKey;
    use mtor_types::intent::Branch;

    use super::*;
    use crate::router::tests::meta;

    fn asked(account: u32, network: u8) -> IntentMeta {
        let mut id = [0; 32];
        id[..4].copy_from_slice(&account.to_be_bytes());
        let branch = Branch::Network(NetworkKey([network; 16]));
        IntentMeta { account: AccountId(id), branch, ..meta(1) }
    }

    fn taken(retries: &mut Retries, meta: &IntentMeta) -> usize {
        (0..1_000).filter(|_| retries.take(meta)).count()
    }

    #[test]
    fn a_tenth_of_the_dispatches_may_be_retries() {
        let mut retries = Retries::default();
        for _ in 0..900 {
            retries.dispatched(&asked(1, 1));
        }
        assert_eq!(taken(&mut retries, &asked(1, 1)), 90);
        assert_eq!(taken(&mut retries, &asked(2, 2)), 10);
    }

    #[test]
    fn more_accounts_of_one_branch_have_no_more() {
        let mut retries = Retries::default();
        let all: usize = (0..1_000).map(|n| taken(&mut retries, &asked(n, 1))).sum();
        assert_eq!(all, 40);
        assert_eq!(taken(&mut retries, &asked(0, 2)), 10, "another branch has its own");
    }

    #[test]
    fn what_was_long_ago_is_no_budget_for_today() {
        let mut retries = Retries::default();
        for _ in 0..100_000 {
            retries.dispatched(&asked(1, 1));
        }
        let today = taken(&mut retries, &asked(1, 1));
        assert!((50..=100).contains(&today), "{today} retries");
    }

    #[test]
    fn one_is_forgotten_and_not_all() {
        let mut retries = Retries::default();
        taken(&mut retries, &asked(1, 1));
        for n in 0..u32::try_from(limits::RETRY_COUNTS_MAX).unwrap() {
            retries.dispatched(&asked(1, 1));
            retries.dispatched(&asked(n + 2, 2));
        }
        assert_eq!(retries.counts.len(), limits::RETRY_COUNTS_MAX);
        assert_eq!(retries.used.len(), limits::RETRY_COUNTS_MAX);
        assert!(retries.counts[&Holder::both(&asked(1, 1))[1]].dispatches >= 500);
        assert!(!retries.counts.contains_key(&Holder::both(&asked(2, 2))[1]));
    }
}
