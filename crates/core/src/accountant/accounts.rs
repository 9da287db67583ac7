//! Accounts, their keys, bans, and what the sysop says of them.

use mtor_types::Rejection;
use mtor_types::fact::{AccountKind, AccountLimits, Asset, Fact, TransferKind};
use mtor_types::id::{AccountId, KeyHash, RealmId, TransferId};
use mtor_types::message::{Message, Service};
use mtor_types::rejection::Limited;
use sha2::{Digest as _, Sha256};

use super::Accountant;
use crate::command::OpenAccount;
use crate::limits;
use crate::turn::Turn;

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

    /// Opens an account with its first key and pays a guest's grant, if there is one to give: an account
    /// that gets none opens with nothing, and is filled up when there is. The same account again with a
    /// key that it has changes nothing: no second grant.
    ///
    /// # Errors
    /// In this order: `UnknownAccount` before the ledger is open, `IdTaken` for an account or a key
    /// there already, `InviteInvalid`, `ShareUsed` of the accounts of a day, `LimitReached`.
    pub fn open_account(&mut self, turn: &mut Turn, open: &OpenAccount) -> Result<(), Rejection> {
        let OpenAccount { account, kind, key, name_secret, invite, salt, .. } = *open;
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
        if invite.is_some_and(|invite| !self.ledger.invites.contains(&invite)) {
            return Err(Rejection::InviteInvalid);
        }
        if invite.is_none() {
            self.may_open(turn.now, &open.networks)?;
        }
        within(self.ledger.accounts.len(), limits::ACCOUNTS_MAX, Limited::Accounts)?;

        self.decided(turn, Fact::AccountOpened { account, kind, name_secret });
        self.decided(turn, Fact::KeyAdded { account, key });
        if let Some(invite) = invite {
            self.decided(turn, Fact::InviteUsed { invite });
        } else {
            let (day, networks) = (turn.now.day(), open.networks.clone());
            self.decided(turn, Fact::AccountCounted { day, networks });
        }
        if let Some(grant) = self.grant_of(kind)
            && self.may_grant(turn.now, &grant, &open.networks, grant.amount, invite).is_ok()
        {
            let id = derived_id(&account.0, TransferKind::Grant);
            self.give(turn, id, account, (grant.asset, grant.amount), (&open.networks, salt));
        }
        Ok(())
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

    /// Bans an account or lifts the ban: it opens no new intent, and the registry hears of it, since
    /// nothing that it owns works here.
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
            turn.send(Service::Registry, Message::OwnerBanned { owner: account, banned });
        }
        Ok(())
    }

    /// O(accounts): for a start.
    pub fn banned(&self) -> impl Iterator<Item = AccountId> + '_ {
        let banned = self.ledger.accounts.iter().filter(|(_, found)| found.banned);
        banned.map(|(account, _)| *account)
    }

    /// Says to the registry whom it may not know as banned: a ban may be older than its memory of them.
    pub(crate) fn start(&self, turn: &mut Turn) {
        for owner in self.banned() {
            turn.send(Service::Registry, Message::OwnerBanned { owner, banned: true });
        }
    }

    /// Sets what the sysop says of an account; the whole of it.
    ///
    /// # Errors
    /// `UnknownAccount`, `LimitReached`.
    pub fn limit_account(
        &mut self,
        turn: &mut Turn,
        account: AccountId,
        limits: AccountLimits,
    ) -> Result<(), Rejection> {
        if !self.ledger.accounts.contains_key(&account) {
            return Err(Rejection::UnknownAccount);
        }
        let before = self.limits_of(account);
        if before.is_none() {
            within(self.ledger.limits.len(), limits::ACCOUNTS_LIMITED_MAX, Limited::Accounts)?;
        }
        if before != limits {
            self.decided(turn, Fact::AccountLimited { account, limits });
        }
        Ok(())
    }

    /// What the sysop has said of it.
    pub fn limits_of(&self, account: AccountId) -> AccountLimits {
        self.ledger.limits.get(&account).copied().unwrap_or_default()
    }

    /// All of whom it has said something.
    pub fn limits(&self) -> impl Iterator<Item = (AccountId, AccountLimits)> + '_ {
        self.ledger.limits.iter().map(|(account, limits)| (*account, *limits))
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
