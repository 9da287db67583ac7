//! Token Accountant: accounts, their keys, and every movement of money.
//!
//! Invariants: double entry in whole base units, sum zero per asset after every command; no
//! liability below zero; a hold is resolved once, and that resolution is its intent's end; what is
//! captured is at most what was held; transfers are numbered densely from 1. A repeated request
//! changes nothing and is answered the same. The [`Ledger`] changes only by
//! [`Accountant::apply`], which never decides.
//!
//! Deliberately absent: payloads, workers' health, prices of manifests, fairness, and history: the
//! ledger holds what is open, balances, and for one minute how an intent ended.

mod accounts;
mod apply;
mod fits;
mod grants;
mod holds;
mod index;
mod invariants;
mod ledger;
mod snapshot;
#[cfg(test)]
mod tests;

use mtor_types::fact::Asset;
use mtor_types::id::{AccountId, IntentId, KeyHash, RealmId};
use mtor_types::{Amount, Time};

use self::index::Index;
pub use self::ledger::{Balance, Hold, Ledger, PerAsset};
pub(crate) use self::snapshot::LedgerV1;
use crate::command::GrantPolicy;
use crate::steps::Steps;

pub use mtor_types::fact::AccountKind;

/// What the sysop decides about money. It shapes new decisions only, never recorded ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// `None`, or an amount of zero: guests get nothing, and are not counted by network.
    pub grant: Option<GrantPolicy>,
    /// The realm's share of what is captured.
    pub fee_basis_points: u16,
}

/// The service. Commands are methods: each checks everything, then records facts.
#[derive(Clone, Debug)]
pub struct Accountant {
    ledger: Ledger,
    policy: Policy,
    index: Index,
    steps: Steps,
}

/// An account as its owner or the sysop sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountView {
    pub account: AccountId,
    pub kind: AccountKind,
    pub banned: bool,
    pub keys: u8,
    pub open_holds: u32,
    pub balances: PerAsset<Balance>,
}

/// All the money of one asset, by where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Totals {
    /// Given out by the realm: what the grant issue stands below zero.
    pub granted: Amount,
    /// Deposited and not withdrawn: what the chain bridge stands below zero.
    pub bridged: Amount,
    pub available: Amount,
    pub held: Amount,
    pub realm_fee: Amount,
}

impl Accountant {
    pub fn new(policy: Policy) -> Self {
        Self::restore(Ledger::default(), policy)
    }

    /// From a snapshot; facts after it follow by [`Accountant::apply`].
    pub fn restore(ledger: Ledger, policy: Policy) -> Self {
        let index = Index::build(&ledger);
        Self { ledger, policy, index, steps: Steps::default() }
    }

    /// What a snapshot and the state hash cover.
    pub fn durable(&self) -> &Ledger {
        &self.ledger
    }

    pub fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
    }

    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The realm whose ledger this is; `None` before it is opened.
    pub fn realm(&self) -> Option<RealmId> {
        self.ledger.opened.as_ref().map(|opened| opened.realm)
    }

    /// The realm's own account.
    pub fn owner(&self) -> Option<AccountId> {
        self.ledger.opened.as_ref().map(|opened| opened.owner)
    }

    pub fn decimals(&self, asset: Asset) -> Option<u8> {
        let assets = &self.ledger.opened.as_ref()?.assets;
        assets.iter().find(|(known, _)| *known == asset).map(|(_, decimals)| *decimals)
    }

    /// `None` for an account that does not exist.
    pub fn balance(&self, account: AccountId) -> Option<PerAsset<Balance>> {
        self.ledger.accounts.get(&account).map(|account| account.balances)
    }

    pub fn account(&self, account: AccountId) -> Option<AccountView> {
        self.ledger.accounts.get(&account).map(|found| self.view(account, found))
    }

    /// Accounts in order of their ids, from the first after `after`.
    pub fn accounts(
        &self,
        after: Option<AccountId>,
        limit: usize,
    ) -> impl Iterator<Item = AccountView> + '_ {
        use std::ops::Bound;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let range = self.ledger.accounts.range((from, Bound::Unbounded));
        range.take(limit).map(|(account, found)| self.view(*account, found))
    }

    pub fn accounts_count(&self) -> usize {
        self.ledger.accounts.len()
    }

    /// Whose key this is, banned or not.
    pub fn account_of_key(&self, key: KeyHash) -> Option<AccountId> {
        self.ledger.keys.get(&key).copied()
    }

    /// Every key, in order; for the edges' snapshot.
    pub fn keys(&self) -> impl Iterator<Item = (KeyHash, AccountId)> + '_ {
        self.ledger.keys.iter().map(|(key, account)| (*key, *account))
    }

    pub fn is_banned(&self, account: AccountId) -> bool {
        self.ledger.accounts.get(&account).is_some_and(|account| account.banned)
    }

    pub fn hold(&self, intent: IntentId) -> Option<&Hold> {
        self.ledger.holds.get(&intent)
    }

    pub fn open_holds(&self) -> usize {
        self.ledger.holds.len()
    }

    /// How often a hold or an end was looked at so far.
    pub fn steps(&self) -> u64 {
        self.steps.count()
    }

    /// The number of the last transfer, 0 before the first.
    pub fn sequence(&self) -> u64 {
        self.ledger.sequence
    }

    /// O(open holds).
    pub fn totals(&self, asset: Asset) -> Totals {
        let realm = self.ledger.realm.get(asset);
        let holds = self.ledger.holds.values().filter(|hold| hold.asset == asset);
        let held = holds.fold(0_u128, |sum, hold| sum.saturating_add(hold.amount.units()));
        let held = Amount::new(held).unwrap_or(Amount::MAX);
        let issued = realm.granted.checked_add(realm.bridged).unwrap_or(Amount::MAX);
        let available = issued.saturating_sub(realm.fee).saturating_sub(held);
        let (granted, bridged, realm_fee) = (realm.granted, realm.bridged, realm.fee);
        Totals { granted, bridged, available, held, realm_fee }
    }

    /// When the next hold runs into its backstop.
    pub fn next_timeout(&self) -> Option<Time> {
        self.index.next_expiry()
    }

    fn view(&self, id: AccountId, account: &ledger::Account) -> AccountView {
        AccountView {
            account: id,
            kind: account.kind,
            banned: account.banned,
            keys: account.keys,
            open_holds: self.index.open_holds(id),
            balances: account.balances,
        }
    }
}
