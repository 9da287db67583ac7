//! An account's own workers: they serve its own work first, whatever it demands of others' workers,
//! at no price and out of the turn of its flow.

use std::collections::BTreeSet;

use mtor_types::{AccountId, IntentId, WorkerId};

use super::Router;
use super::job::Taken;
use super::kinds::Free;
use super::safe_queue::{ItemId, KindId};
use super::workers::Choice;
use crate::limits;
use crate::turn::Turn;

/// Of one kind: what the workers of an account offer, and what waits that the account asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Owned {
    pub(super) workers: u32,
    pub(super) slots: u64,
    pub(super) free: BTreeSet<Free>,
    pub(super) asked: BTreeSet<IntentId>,
}

impl Owned {
    pub(super) fn is_empty(&self) -> bool {
        self.workers == 0 && self.free.is_empty() && self.asked.is_empty()
    }

    /// What one more intent of the account waits for its own slots alone, if it has any.
    fn wait_ms(&self, mean_ms: u64) -> Option<u64> {
        if !self.free.is_empty() {
            return Some(0);
        }
        let ahead = u64::try_from(self.asked.len()).unwrap_or(u64::MAX).saturating_mul(mean_ms);
        ahead.saturating_add(mean_ms / 2).checked_div(self.slots)
    }
}

impl Router {
    pub(super) fn own_wait_ms(
        &self,
        kind: KindId,
        account: AccountId,
        mean_ms: u64,
    ) -> Option<u64> {
        self.kinds.owned(kind, account)?.wait_ms(mean_ms)
    }

    /// Such a free slot takes what its owner asked for first, of what this worker did not fail.
    pub(super) fn take_own(
        &mut self,
        turn: &mut Turn,
        worker: WorkerId,
        choice: Choice<'_>,
    ) -> bool {
        let Some(known) = self.workers.get(worker) else { return false };
        let kinds = known.kinds_with_room(choice);
        let firsts = kinds.into_iter().filter_map(|kind| self.first_own(kind, known.owner, worker));
        let Some(intent) = firsts.min() else { return false };
        self.queue.remove(ItemId(intent.0));
        let estimate = self.jobs.get(&intent).map_or(0, |job| self.estimate(job));
        if let Some(job) = self.jobs.get_mut(&intent) {
            // What was told is of the slots of others.
            job.told = None;
        }
        let taken = Taken { since: turn.now, estimate, charge: None };
        self.assign(turn, worker, choice, intent, taken);
        true
    }

    /// Ids rise with time, so the first is the oldest.
    pub(super) fn first_own(
        &self,
        kind: KindId,
        owner: AccountId,
        worker: WorkerId,
    ) -> Option<IntentId> {
        let asked = self.kinds.owned(kind, owner)?.asked.iter();
        asked.take(limits::OWN_LOOKS_MAX).copied().find(|intent| {
            self.kinds.step();
            self.jobs.get(intent).is_some_and(|job| !job.tried.contains(&worker))
        })
    }
}
