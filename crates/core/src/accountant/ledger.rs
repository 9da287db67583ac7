//! The durable state of the accountant, and how a transfer moves money in it.

use std::collections::{BTreeMap, BTreeSet};

use mtor_types::fact::{AccountKind, AccountLimits, Asset, NetworkKey, Purse, Transfer};
use mtor_types::id::{AccountId, IntentId, KeyHash, NodeId, RealmId};
use mtor_types::intent::End;
use mtor_types::{Amount, Time};
use serde::{Deserialize, Serialize};

/// One of a thing for each asset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PerAsset<T> {
    pub grant: T,
    pub token: T,
}

impl<T> PerAsset<T> {
    pub const fn get(&self, asset: Asset) -> &T {
        match asset {
            Asset::Grant => &self.grant,
            Asset::Token => &self.token,
        }
    }

    pub(super) const fn get_mut(&mut self, asset: Asset) -> &mut T {
        match asset {
            Asset::Grant => &mut self.grant,
            Asset::Token => &mut self.token,
        }
    }
}

/// An account's money in one asset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balance {
    pub available: Amount,
    pub held: Amount,
}

/// The realm's own purses in one asset. The last two are how far those purses stand below zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RealmPurses {
    pub(super) fee: Amount,
    pub(super) granted: Amount,
    pub(super) bridged: Amount,
}

/// Small on purpose: there may be a million.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Account {
    pub(super) balances: PerAsset<Balance>,
    pub(super) name_secret: [u8; 32],
    pub(super) kind: AccountKind,
    pub(super) banned: bool,
    pub(super) keys: u8,
}

/// What stands in the first fact and never changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Opened {
    pub(super) realm: RealmId,
    pub(super) assets: Vec<(Asset, u8)>,
    pub(super) owner: AccountId,
}

/// Funds reserved for one open intent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    pub account: AccountId,
    pub asset: Asset,
    pub amount: Amount,
    /// The edge and boot whose end voids it, for an ephemeral intent.
    pub edge: Option<(NodeId, u32)>,
    pub expires: Time,
    pub salt: [u8; 16],
}

/// An end that is still told to whoever asks again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Remembered {
    pub(super) end: End,
    pub(super) at: Time,
}

/// What was given out on the current day; the first of a later day starts it anew.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Day {
    pub(super) day: u64,
    /// Of everybody.
    pub(super) all: Given,
    pub(super) networks: BTreeMap<NetworkKey, Given>,
    /// Who was given something.
    pub(super) accounts: BTreeSet<AccountId>,
}

/// What was given out to some.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Given {
    pub(super) granted: Amount,
    /// How many times.
    pub(super) grants: u32,
    /// Accounts that were opened, with a grant or without.
    pub(super) opened: u32,
}

impl Day {
    /// Counts for all and for each of these networks.
    pub(super) fn count(&mut self, day: u64, networks: &[NetworkKey], count: impl Fn(&mut Given)) {
        if self.day != day {
            *self = Self { day, ..Self::default() };
        }
        count(&mut self.all);
        for network in networks {
            count(self.networks.entry(*network).or_default());
        }
    }

    pub(super) fn of(&self, network: &NetworkKey) -> Given {
        self.networks.get(network).copied().unwrap_or_default()
    }
}

impl Given {
    pub(super) fn grant(&mut self, amount: Amount) {
        self.granted = self.granted.checked_add(amount).unwrap_or(Amount::MAX);
        self.grants = self.grants.saturating_add(1);
    }
}

/// Everything of the accountant that outlives a restart: the fold of its facts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    pub(super) opened: Option<Opened>,
    pub(super) sequence: u64,
    pub(super) accounts: BTreeMap<AccountId, Account>,
    pub(super) keys: BTreeMap<KeyHash, AccountId>,
    pub(super) holds: BTreeMap<IntentId, Hold>,
    pub(super) ends: BTreeMap<IntentId, Remembered>,
    pub(super) today: Day,
    pub(super) realm: PerAsset<RealmPurses>,
    /// Of whom the sysop has said something.
    pub(super) limits: BTreeMap<AccountId, AccountLimits>,
    /// Codes that nobody has used.
    pub(super) invites: BTreeSet<KeyHash>,
}

impl Ledger {
    /// How far a purse stands from zero, on its own side of it. `None`: no such account.
    pub(super) fn purse(&self, purse: Purse, asset: Asset) -> Option<Amount> {
        let realm = self.realm.get(asset);
        let balance = |account| self.accounts.get(account).map(|found| found.balances.get(asset));
        match &purse {
            Purse::Available(account) => balance(account).map(|balance| balance.available),
            Purse::Held(account) => balance(account).map(|balance| balance.held),
            Purse::RealmFee => Some(realm.fee),
            Purse::GrantIssue => Some(realm.granted),
            Purse::ChainBridge => Some(realm.bridged),
        }
    }

    fn purse_mut(&mut self, purse: Purse, asset: Asset) -> Option<&mut Amount> {
        let accounts = &mut self.accounts;
        let realm = self.realm.get_mut(asset);
        match &purse {
            Purse::Available(account) => {
                accounts.get_mut(account).map(|found| &mut found.balances.get_mut(asset).available)
            }
            Purse::Held(account) => {
                accounts.get_mut(account).map(|found| &mut found.balances.get_mut(asset).held)
            }
            Purse::RealmFee => Some(&mut realm.fee),
            Purse::GrantIssue => Some(&mut realm.granted),
            Purse::ChainBridge => Some(&mut realm.bridged),
        }
    }

    /// Moves money as recorded.
    ///
    /// # Panics
    /// If it does not fit, which was looked at before: half a movement would make money.
    pub(super) fn transfer(&mut self, transfer: &Transfer) {
        self.sequence = transfer.sequence;
        let Transfer { from, to, asset, amount, .. } = *transfer;
        // Liabilities shrink when debited; the other side moves away from zero.
        let debited = self.purse(from, asset).and_then(|stands| match is_liability(from) {
            true => stands.checked_sub(amount),
            false => stands.checked_add(amount),
        });
        let credited = self.purse(to, asset).and_then(|stands| match is_liability(to) {
            true => stands.checked_add(amount),
            false => stands.checked_sub(amount),
        });
        assert!(debited.is_some() && credited.is_some(), "{transfer:?} does not fit");
        let (Some(debited), Some(credited)) = (debited, credited) else { return };
        for (purse, stands) in [(from, debited), (to, credited)] {
            if let Some(place) = self.purse_mut(purse, asset) {
                *place = stands;
            }
        }
    }
}

pub(super) const fn is_liability(purse: Purse) -> bool {
    match purse {
        Purse::Available(_) | Purse::Held(_) | Purse::RealmFee => true,
        Purse::GrantIssue | Purse::ChainBridge => false,
    }
}
