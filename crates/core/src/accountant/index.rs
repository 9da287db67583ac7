//! Soft indexes over the ledger: never stored, rebuilt from it.

use std::collections::{BTreeMap, BTreeSet};

use mtor_types::Time;
use mtor_types::id::{AccountId, IntentId, NodeId};
use mtor_types::rejection::Rejection;

use super::ledger::{Hold, Ledger};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Index {
    expiries: BTreeSet<(Time, IntentId)>,
    ephemeral: BTreeSet<(NodeId, u32, IntentId)>,
    open: BTreeMap<AccountId, u32>,
    ends: BTreeSet<(Time, IntentId)>,
    /// The newest boot each edge told of. Not in the ledger, so not rebuilt: after a restart of
    /// the accountant a late hold of an older boot is left to its own expiry.
    pub(super) epochs: BTreeMap<NodeId, u32>,
    /// Why the router refused what is remembered as refused. Not in the ledger either.
    pub(super) rejections: BTreeMap<IntentId, Rejection>,
}

impl Index {
    pub(super) fn build(ledger: &Ledger) -> Self {
        let mut index = Self::default();
        for (intent, hold) in &ledger.holds {
            index.add(*intent, hold);
        }
        for (intent, remembered) in &ledger.ends {
            index.ended(*intent, remembered.at);
        }
        index
    }

    /// What follows from the ledger anew; what does not stays.
    pub(super) fn rebuild(&mut self, ledger: &Ledger) {
        let epochs = std::mem::take(&mut self.epochs);
        let rejections = std::mem::take(&mut self.rejections);
        *self = Self { epochs, rejections, ..Self::build(ledger) };
    }

    pub(super) fn add(&mut self, intent: IntentId, hold: &Hold) {
        self.expiries.insert((hold.expires, intent));
        if let Some((edge, epoch)) = hold.edge {
            self.ephemeral.insert((edge, epoch, intent));
        }
        let open = self.open.entry(hold.account).or_default();
        *open = open.saturating_add(1);
    }

    pub(super) fn remove(&mut self, intent: IntentId, hold: &Hold) {
        self.expiries.remove(&(hold.expires, intent));
        if let Some((edge, epoch)) = hold.edge {
            self.ephemeral.remove(&(edge, epoch, intent));
        }
        // Only accounts with open holds have an entry.
        let left = self.open_holds(hold.account).saturating_sub(1);
        if left == 0 {
            self.open.remove(&hold.account);
        } else {
            self.open.insert(hold.account, left);
        }
    }

    pub(super) fn ended(&mut self, intent: IntentId, at: Time) {
        self.ends.insert((at, intent));
    }

    /// The remembered end that was made first, if it was made before `before` or if there are
    /// more than `most`; it is forgotten here.
    pub(super) fn forget(&mut self, before: Time, most: usize) -> Option<IntentId> {
        let (at, intent) = *self.ends.first()?;
        if at >= before && self.ends.len() <= most {
            return None;
        }
        self.ends.remove(&(at, intent));
        self.rejections.remove(&intent);
        Some(intent)
    }

    pub(super) fn open_holds(&self, account: AccountId) -> u32 {
        self.open.get(&account).copied().unwrap_or_default()
    }

    pub(super) fn next_expiry(&self) -> Option<Time> {
        self.expiries.first().map(|(expires, _)| *expires)
    }

    /// The hold that runs out first, if its time has come.
    pub(super) fn expired(&self, now: Time) -> Option<IntentId> {
        let (expires, intent) = self.expiries.first()?;
        (*expires <= now).then_some(*intent)
    }

    /// Holds of that edge's boots before `epoch`.
    pub(super) fn older_boots(&self, edge: NodeId, epoch: u32) -> Vec<IntentId> {
        let zero = IntentId([0; 16]);
        let range = self.ephemeral.range((edge, 0, zero)..(edge, epoch, zero));
        range.map(|(_, _, intent)| *intent).collect()
    }

    /// Whether what follows from the ledger is what a rebuild would give.
    pub(super) fn agrees(&self, ledger: &Ledger) -> bool {
        let built = Self::build(ledger);
        self.expiries == built.expiries
            && self.ephemeral == built.ephemeral
            && self.open == built.open
            && self.ends == built.ends
            && self.rejections.keys().all(|intent| ledger.ends.contains_key(intent))
    }
}
