//! What must be true of a ledger at any time, checked in full; for tests, the simulator and start.

use std::collections::BTreeMap;

use mtor_types::fact::Asset;
use mtor_types::id::AccountId;

use super::Accountant;
use crate::limits;

impl Accountant {
    /// O(n). That purses stand on their own side of zero holds by type: amounts have no sign.
    ///
    /// # Errors
    /// What is not as it must be.
    pub fn check_invariants(&self) -> Result<(), String> {
        for asset in Asset::ALL {
            self.check_asset(asset)?;
        }
        self.check_accounts()?;
        for (intent, hold) in &self.ledger.holds {
            if self.ledger.ends.contains_key(intent) {
                return Err(format!("{intent} is open and ended"));
            }
            if !self.ledger.accounts.contains_key(&hold.account) {
                return Err(format!("the hold of {intent} has no account"));
            }
        }
        if self.ledger.holds.len() > limits::OPEN_INTENTS_MAX {
            return Err("too many holds are open".to_owned());
        }
        if !self.index.agrees(&self.ledger) {
            return Err("an index does not agree with the ledger".to_owned());
        }
        Ok(())
    }

    /// Sum zero, and what each account has held is the sum of its open holds.
    fn check_asset(&self, asset: Asset) -> Result<(), String> {
        let mut holds = BTreeMap::<AccountId, u128>::new();
        for hold in self.ledger.holds.values().filter(|hold| hold.asset == asset) {
            let sum = holds.entry(hold.account).or_default();
            *sum = sum.saturating_add(hold.amount.units());
        }
        let realm = self.ledger.realm.get(asset);
        let mut liabilities = realm.fee.units();
        for (id, account) in &self.ledger.accounts {
            let balance = account.balances.get(asset);
            let held = holds.get(id).copied().unwrap_or_default();
            if balance.held.units() != held {
                return Err(format!("{id} has {} {asset} held, not {held}", balance.held));
            }
            let stands = balance.available.units().saturating_add(held);
            liabilities = liabilities.saturating_add(stands);
        }
        let issued = realm.granted.units().saturating_add(realm.bridged.units());
        if liabilities != issued {
            return Err(format!("{asset}: {liabilities} are owed, {issued} were issued"));
        }
        Ok(())
    }

    fn check_accounts(&self) -> Result<(), String> {
        let mut keys = BTreeMap::<AccountId, usize>::new();
        for account in self.ledger.keys.values() {
            let count = keys.entry(*account).or_default();
            *count = count.saturating_add(1);
        }
        for (id, account) in &self.ledger.accounts {
            let counted = keys.remove(id).unwrap_or_default();
            if counted != usize::from(account.keys) || counted > limits::KEYS_PER_ACCOUNT_MAX {
                return Err(format!("{id} has {counted} keys, not {}", account.keys));
            }
        }
        if let Some((id, _)) = keys.pop_first() {
            return Err(format!("a key of {id}, which does not exist"));
        }
        if self.ledger.accounts.len() > limits::ACCOUNTS_MAX {
            return Err("too many accounts".to_owned());
        }
        Ok(())
    }
}
