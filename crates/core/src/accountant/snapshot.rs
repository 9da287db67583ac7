//! The accountant's section of a snapshot, and how earlier versions of it become today's.

use std::collections::{BTreeMap, BTreeSet};

use mtor_types::Amount;
use mtor_types::fact::NetworkKey;
use mtor_types::id::{AccountId, IntentId, KeyHash};
use serde::{Deserialize, Serialize};

use super::Ledger;
use super::ledger::{Account, Day, Given, Hold, Opened, PerAsset, RealmPurses, Remembered};
use crate::snapshot::{RecoverError, Section, parse, unknown_version};

/// Version 1, also the form of a snapshot without sections: grants were counted by one network, and
/// nobody had a weight. Frozen.
#[derive(Deserialize, Serialize)]
pub(crate) struct LedgerV1 {
    opened: Option<Opened>,
    sequence: u64,
    accounts: BTreeMap<AccountId, Account>,
    keys: BTreeMap<KeyHash, AccountId>,
    holds: BTreeMap<IntentId, Hold>,
    ends: BTreeMap<IntentId, Remembered>,
    grants: GrantDayV1,
    realm: PerAsset<RealmPurses>,
}

#[derive(Deserialize, Serialize)]
struct GrantDayV1 {
    day: u64,
    total: Amount,
    networks: BTreeMap<NetworkKey, u32>,
}

impl From<LedgerV1> for Ledger {
    fn from(old: LedgerV1) -> Self {
        let LedgerV1 { opened, sequence, accounts, keys, holds, ends, grants, realm } = old;
        let GrantDayV1 { day, total, networks } = grants;
        let grants = networks.values().copied().fold(0, u32::saturating_add);
        let all = Given { granted: total, grants, opened: 0 };
        // How much each network had is not known; until midnight it counts as little.
        let given = |grants: u32| Given { granted: Amount::ZERO, grants, opened: 0 };
        let networks = networks.into_iter().map(|(network, grants)| (network, given(grants)));
        let today = Day { day, all, networks: networks.collect(), accounts: BTreeSet::new() };
        let (limits, invites) = Default::default();
        Self { opened, sequence, accounts, keys, holds, ends, today, realm, limits, invites }
    }
}

impl Section for Ledger {
    type Written<'a> = Self;
    const NAME: &'static str = "accountant";
    const ID: u8 = 2;
    const VERSION: u8 = 2;

    fn read(version: u8, bytes: &[u8]) -> Result<Self, RecoverError> {
        match version {
            1 => parse::<LedgerV1>(bytes).map(Self::from),
            2 => parse(bytes),
            found => Err(unknown_version::<Self>(found)),
        }
    }
}
