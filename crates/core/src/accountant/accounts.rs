//! Accounts, their keys, bans, and the grants of guests.

use mtor_types::fact::{AccountKind, Asset, Fact, NetworkKey, Purse, Transfer, TransferKind};
use mtor_types::id::{AccountId, KeyHash, RealmId, TransferId};
use mtor_types::rejection::Limited;
use mtor_types::{Amount, Rejection, Time};
use sha2::{Digest as _, Sha256};

use super::Accountant;
use crate::command::{GrantPolicy, OpenAccount};
use crate::limits;
use crate::turn::Turn;

/// Under which the realm's own grant of a day is counted: of no client, whose keys are hashes.
const REALMS_OWN: NetworkKey = NetworkKey([0; 16]);

impl Accountant {
    /// Opens the ledger and the realm's own account, which has no key until one is added. The same
    /// again changes nothing.
    ///
    /// # Errors
    /// [`Rejection::IdTaken`] if it is open under another realm, owner or unit.
    pub fn open_ledger(
        &mut self,
        turn: &mut Turn,
        realm: RealmId,
        decimals: u8,
        owner: AccountId,
        name_secret: [u8; 32],
    ) -> Result<(), Rejection> {
        let assets = vec![(Asset::Token, decimals), (Asset::Grant, decimals)];
        if let Some(opened) = &self.ledger.opened {
            let same = opened.realm == realm && opened.owner == owner && opened.assets == assets;
            return if same { Ok(()) } else { Err(Rejection::IdTaken) };
        }
        self.decided(turn, Fact::LedgerOpened { realm, assets, owner });
        let kind = AccountKind::Realm;
        self.decided(turn, Fact::AccountOpened { account: owner, kind, name_secret });
        Ok(())
    }

    /// Opens an account with its first key and pays a guest's grant. The same account again with a
    /// key that it has changes nothing: no second grant.
    ///
    /// # Errors
    /// In this order: `UnknownAccount` before the ledger is open, `IdTaken` for an account or a key
    /// there already, `GrantsExhausted`, `NetworkLimit`, `LimitReached`.
    pub fn open_account(&mut self, turn: &mut Turn, open: &OpenAccount) -> Result<(), Rejection> {
        let OpenAccount { account, kind, key, name_secret, network, salt } = *open;
        if self.ledger.opened.is_none() {
            return Err(Rejection::UnknownAccount);
        }
        let known = self.ledger.accounts.contains_key(&account);
        match self.ledger.keys.get(&key) {
            Some(holder) if known && *holder == account => return Ok(()),
            Some(_) => return Err(Rejection::IdTaken),
            None if known => return Err(Rejection::IdTaken),
            None => {}
        }
        let grant = self.grant_of(turn.now, open)?;
        within(self.ledger.accounts.len(), limits::ACCOUNTS_MAX, Limited::Accounts)?;

        self.decided(turn, Fact::AccountOpened { account, kind, name_secret });
        self.decided(turn, Fact::KeyAdded { account, key });
        if let Some(grant) = grant {
            let transfer = Transfer {
                sequence: self.ledger.sequence.saturating_add(1),
                id: derived_id(&account.0, TransferKind::Grant),
                kind: TransferKind::Grant,
                from: Purse::GrantIssue,
                to: Purse::Available(account),
                asset: grant.asset,
                amount: grant.amount,
                hold: None,
            };
            let day = turn.now.day();
            self.decided(turn, Fact::GrantPaid { transfer, network, day, salt });
        }
        Ok(())
    }

    /// Fills up what the realm's own account may spend on canaries today. The same day again changes
    /// nothing. It counts with the day's grants, and those that guests had before do not refuse it: nobody
    /// could be tried on a day on which somebody takes them all.
    ///
    /// # Errors
    /// `UnknownAccount` before the ledger is open, `GrantsExhausted`.
    pub fn fund_canaries(
        &mut self,
        turn: &mut Turn,
        amount: Amount,
        salt: [u8; 16],
    ) -> Result<(), Rejection> {
        let opened = self.ledger.opened.as_ref().ok_or(Rejection::UnknownAccount)?;
        let owner = opened.owner;
        let (day, grants) = (turn.now.day(), &self.ledger.grants);
        let today = grants.day == day;
        let network = REALMS_OWN;
        let has = self.ledger.accounts.get(&owner).map(|found| found.balances.get(Asset::Grant));
        let has = has.map_or(Amount::ZERO, |balance| balance.available);
        let amount = amount.checked_sub(has).unwrap_or_default();
        if amount.is_zero() || (today && grants.networks.contains_key(&network)) {
            return Ok(());
        }
        // All that was ever granted is an amount too: this keeps every later sum in range.
        let ever = self.ledger.realm.get(Asset::Grant).granted.checked_add(amount);
        if ever.is_none() {
            let retry_after_ms = to_midnight_ms(turn.now);
            return Err(Rejection::GrantsExhausted { retry_after_ms });
        }
        let transfer = Transfer {
            sequence: self.ledger.sequence.saturating_add(1),
            id: derived_id(&[&owner.0[..], &day.to_be_bytes()].concat(), TransferKind::Grant),
            kind: TransferKind::Grant,
            from: Purse::GrantIssue,
            to: Purse::Available(owner),
            asset: Asset::Grant,
            amount,
            hold: None,
        };
        self.decided(turn, Fact::GrantPaid { transfer, network, day, salt });
        Ok(())
    }

    /// What a new account is given, if anything.
    fn grant_of(&self, now: Time, open: &OpenAccount) -> Result<Option<GrantPolicy>, Rejection> {
        let Some(grant) = self.policy.grant else { return Ok(None) };
        if open.kind != AccountKind::Guest || grant.amount.is_zero() {
            return Ok(None);
        }
        let retry_after_ms = to_midnight_ms(now);
        let grants = &self.ledger.grants;
        let today = grants.day == now.day();
        let paid = if today { grants.total } else { Amount::ZERO };
        let total = paid.checked_add(grant.amount).filter(|total| *total <= grant.daily_total);
        // All that was ever granted is an amount too: this keeps every later sum in range.
        let ever = self.ledger.realm.get(grant.asset).granted.checked_add(grant.amount);
        if total.is_none() || ever.is_none() {
            return Err(Rejection::GrantsExhausted { retry_after_ms });
        }
        let of_network = grants.networks.get(&open.network).copied().filter(|_| today);
        if of_network.unwrap_or_default() >= grant.daily_per_network {
            return Err(Rejection::NetworkLimit { retry_after_ms });
        }
        Ok(Some(grant))
    }

    /// Gives an account one more key. A key that it has already changes nothing.
    ///
    /// # Errors
    /// `UnknownAccount`, `IdTaken` (another account's key), `AccountBanned`, `LimitReached`.
    pub fn add_key(
        &mut self,
        turn: &mut Turn,
        account: AccountId,
        key: KeyHash,
    ) -> Result<(), Rejection> {
        let found = self.ledger.accounts.get(&account).ok_or(Rejection::UnknownAccount)?;
        match self.ledger.keys.get(&key) {
            Some(holder) if *holder == account => return Ok(()),
            Some(_) => return Err(Rejection::IdTaken),
            None => {}
        }
        if found.banned {
            return Err(Rejection::AccountBanned);
        }
        within(usize::from(found.keys), limits::KEYS_PER_ACCOUNT_MAX, Limited::Keys)?;
        self.decided(turn, Fact::KeyAdded { account, key });
        Ok(())
    }

    /// Takes a key away. Never the last one, behind which the account's money would stand for ever: who
    /// has lost one to somebody adds another first.
    ///
    /// # Errors
    /// `UnknownAccount` unless the key is that account's: whether it is another's is not told. `LastKey`.
    pub fn revoke_key(
        &mut self,
        turn: &mut Turn,
        account: AccountId,
        key: KeyHash,
    ) -> Result<(), Rejection> {
        if self.ledger.keys.get(&key) != Some(&account) {
            return Err(Rejection::UnknownAccount);
        }
        if self.ledger.accounts.get(&account).is_some_and(|found| found.keys <= 1) {
            return Err(Rejection::LastKey);
        }
        self.decided(turn, Fact::KeyRevoked { key });
        Ok(())
    }

    /// Bans an account or lifts the ban. Its open intents go on; it opens no new one.
    ///
    /// # Errors
    /// `UnknownAccount`.
    pub fn ban_account(
        &mut self,
        turn: &mut Turn,
        account: AccountId,
        banned: bool,
    ) -> Result<(), Rejection> {
        let found = self.ledger.accounts.get(&account).ok_or(Rejection::UnknownAccount)?;
        if found.banned != banned {
            self.decided(turn, Fact::AccountBanned { account, banned });
        }
        Ok(())
    }

    /// Applies before it records: the next command of the same batch sees it.
    pub(super) fn decided(&mut self, turn: &mut Turn, fact: Fact) {
        self.apply(turn.now, &fact);
        turn.record(fact);
    }
}

/// `Ok` if there is room for one more.
pub(super) fn within(count: usize, most: usize, what: Limited) -> Result<(), Rejection> {
    if count < most {
        return Ok(());
    }
    Err(Rejection::LimitReached { what, limit: u64::try_from(most).unwrap_or(u64::MAX) })
}

/// The id of a transfer that has no intent's id of its own: 16 bytes of SHA-256 over a domain,
/// what it is about (an intent or an account) and its kind. So a replay or a retry cannot give
/// the same movement another id.
pub(super) fn derived_id(subject: &[u8], kind: TransferKind) -> TransferId {
    // Part of the public log: these numbers never move.
    let kind = match kind {
        TransferKind::Grant => 0_u8,
        TransferKind::Hold => 1,
        TransferKind::Capture => 2,
        TransferKind::Fee => 3,
        TransferKind::Void => 4,
        TransferKind::Expire => 5,
        TransferKind::Deposit => 6,
        TransferKind::Withdraw => 7,
    };
    let hash = Sha256::new().chain_update(b"mtor/transfer/v1\0").chain_update(subject);
    let hash = hash.chain_update([kind]).finalize();
    let mut id = [0; 16];
    id.iter_mut().zip(hash).for_each(|(byte, hashed)| *byte = hashed);
    TransferId(id)
}

/// Milliseconds until the next UTC day, at least 1.
fn to_midnight_ms(now: Time) -> u64 {
    const MS_A_DAY: u64 = 24 * 60 * 60 * 1000;
    Time(now.day().saturating_add(1).saturating_mul(MS_A_DAY)).since_ms(now).max(1)
}
