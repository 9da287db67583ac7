//! How facts change the ledger. Nothing is decided here, and time is the record's. What does not
//! fit the ledger changes nothing of it: see [`Accountant::fits`].

use mtor_types::Time;
use mtor_types::fact::{AccountKind, Asset, Fact, NetworkKey, Purse, Transfer, TransferKind};
use mtor_types::id::{AccountId, IntentId, KeyHash};
use mtor_types::intent::{End, Outcome, Usage};

use super::Accountant;
use super::ledger::{Account, Given, Hold, Opened, PerAsset, Remembered};
use crate::limits;

/// How long an end is told again to whoever repeats a request. Repeats come every
/// [`limits::STALL_MS`], so a later one has lost its way for good.
const REMEMBER_MS: u64 = limits::IDEMPOTENCY_MS;

impl Accountant {
    /// The only way the ledger changes. Facts of other services change nothing.
    ///
    /// # Panics
    /// If the fact does not fit: what was read from anywhere is asked by [`Accountant::fits`] first.
    pub fn apply(&mut self, at: Time, fact: &Fact) {
        let fits = self.fits(fact);
        assert!(fits.is_ok(), "a fact that does not fit the ledger: {fits:?}");
        match fact {
            Fact::LedgerOpened { realm, assets, owner } => {
                let (realm, assets, owner) = (*realm, assets.clone(), *owner);
                self.ledger.opened = Some(Opened { realm, assets, owner });
            }
            Fact::AccountOpened { account, kind, name_secret } => {
                self.account_opened(*account, *kind, *name_secret);
            }
            Fact::KeyAdded { account, key } => self.key_added(*account, *key),
            Fact::KeyRevoked { key } => self.key_revoked(*key),
            Fact::GrantPaid { transfer, network, day, salt: _ } => {
                self.grant_paid(transfer, *day, *network);
            }
            Fact::GrantGiven { transfer, day, networks, salt: _ } => {
                self.grant_given(transfer, *day, networks);
            }
            Fact::AccountBanned { .. }
            | Fact::AccountCounted { .. }
            | Fact::InvitesIssued { .. }
            | Fact::InviteUsed { .. }
            | Fact::InvitesWithdrawn
            | Fact::AccountLimited { .. } => self.apply_said(fact),
            Fact::HoldPlaced {
                intent,
                account,
                asset,
                amount,
                edge,
                expires,
                transfer,
                salt,
                ..
            } => {
                let (account, asset, amount) = (*account, *asset, *amount);
                let (edge, expires, salt) = (*edge, *expires, *salt);
                let hold = Hold { account, asset, amount, edge, expires, salt };
                self.hold_placed(at, *intent, hold, transfer.as_ref());
            }
            Fact::HoldResolved { intent, outcome, usage, transfers, .. } => {
                self.hold_resolved(at, *intent, *outcome, *usage, transfers);
            }
            Fact::NodeStarted { .. }
            | Fact::MessageSent { .. }
            | Fact::MessageAcknowledged { .. }
            | Fact::MessageTaken { .. }
            | Fact::IntentOpenedV1 { .. }
            | Fact::IntentOpened { .. }
            | Fact::IntentEnded { .. }
            | Fact::TokenIssued { .. }
            | Fact::WorkerEnrolled { .. }
            | Fact::WorkerBanned { .. }
            | Fact::WorkerRemoved { .. }
            | Fact::WorkerServed { .. }
            | Fact::SlotsEarned { .. }
            | Fact::WorkerEjected { .. }
            | Fact::CanaryJudged { .. }
            | Fact::WorkerProven { .. }
            | Fact::ProofLapsed { .. }
            | Fact::EjectionTakenBack { .. }
            | Fact::DayBegan { .. }
            | Fact::WorkerSeen { .. }
            | Fact::TokensExpired { .. }
            | Fact::OwnerBanned { .. }
            | Fact::WorkerEnrolledBy { .. } => {}
        }
    }

    /// What was counted of a day, and what the sysop said.
    fn apply_said(&mut self, fact: &Fact) {
        #[expect(clippy::wildcard_enum_match_arm, reason = "these come here only")]
        match fact {
            Fact::AccountBanned { account, banned } => {
                if let Some(found) = self.ledger.accounts.get_mut(account) {
                    found.banned = *banned;
                }
            }
            Fact::AccountCounted { day, networks } => {
                let one = |given: &mut Given| given.opened = given.opened.saturating_add(1);
                self.ledger.today.count(*day, networks, one);
            }
            Fact::InvitesIssued { invites } => self.ledger.invites.extend(invites),
            Fact::InviteUsed { invite } => drop(self.ledger.invites.remove(invite)),
            Fact::InvitesWithdrawn => self.ledger.invites.clear(),
            Fact::AccountLimited { account, limits } if limits.is_none() => {
                self.ledger.limits.remove(account);
            }
            Fact::AccountLimited { account, limits } => {
                self.ledger.limits.insert(*account, *limits);
            }
            _ => {}
        }
    }

    /// Time goes back by so much: as much is left of everything as before.
    pub(crate) fn set_back(&mut self, now: Time, by_ms: u64) {
        for hold in self.ledger.holds.values_mut() {
            hold.expires = hold.expires.before_ms(by_ms);
        }
        for ended in self.ledger.ends.values_mut() {
            ended.at = ended.at.before_ms(by_ms);
        }
        // What was granted on a day that has not come yet was granted today.
        self.ledger.today.day = self.ledger.today.day.min(now.day());
        self.index.rebuild(&self.ledger);
    }

    fn account_opened(&mut self, account: AccountId, kind: AccountKind, name_secret: [u8; 32]) {
        let balances = PerAsset::default();
        let opened = Account { balances, name_secret, kind, banned: false, keys: 0 };
        self.ledger.accounts.insert(account, opened);
    }

    fn key_added(&mut self, account: AccountId, key: KeyHash) {
        self.ledger.keys.insert(key, account);
        if let Some(found) = self.ledger.accounts.get_mut(&account) {
            found.keys = found.keys.saturating_add(1);
        }
    }

    fn key_revoked(&mut self, key: KeyHash) {
        let Some(account) = self.ledger.keys.remove(&key) else { return };
        if let Some(found) = self.ledger.accounts.get_mut(&account) {
            found.keys = found.keys.saturating_sub(1);
        }
    }

    /// As the first releases counted it, whose snapshots say no more: how much in all, and how often of
    /// each network.
    fn grant_paid(&mut self, transfer: &Transfer, day: u64, network: NetworkKey) {
        self.ledger.transfer(transfer);
        let today = &mut self.ledger.today;
        today.count(day, &[], |all| all.grant(transfer.amount));
        let of_network = today.networks.entry(network).or_default();
        of_network.grants = of_network.grants.saturating_add(1);
    }

    fn grant_given(&mut self, transfer: &Transfer, day: u64, networks: &[NetworkKey]) {
        self.ledger.transfer(transfer);
        self.ledger.today.count(day, networks, |given| given.grant(transfer.amount));
        if let Purse::Available(account) = transfer.to {
            self.ledger.today.accounts.insert(account);
        }
    }

    fn hold_placed(&mut self, at: Time, intent: IntentId, hold: Hold, transfer: Option<&Transfer>) {
        if let Some(transfer) = transfer {
            self.ledger.transfer(transfer);
        }
        self.index.add(intent, &hold);
        self.ledger.holds.insert(intent, hold);
        self.forget(at);
    }

    fn hold_resolved(
        &mut self,
        at: Time,
        intent: IntentId,
        outcome: Outcome,
        usage: Usage,
        transfers: &[Transfer],
    ) {
        let Some(hold) = self.ledger.holds.remove(&intent) else { return };
        self.index.remove(intent, &hold);
        for transfer in transfers {
            self.ledger.transfer(transfer);
        }
        let end = end_of(intent, hold.asset, outcome, usage, transfers);
        let whole = end.cost.checked_add(end.refunded);
        assert_eq!(whole, Some(hold.amount), "{intent}: all of its hold is resolved");
        self.ledger.ends.insert(intent, Remembered { end, at });
        self.index.ended(intent, at);
        self.forget(at);
    }

    /// Drops ends that are old, or too many, some at a time. By the record's time, so that a replay
    /// drops the same.
    fn forget(&mut self, at: Time) {
        let before = Time(at.0.saturating_sub(REMEMBER_MS));
        for _ in 0..limits::ENDS_FORGOTTEN_AT_ONCE {
            let Some(intent) = self.index.forget(before, limits::ENDS_MAX) else { return };
            self.steps.one();
            self.ledger.ends.remove(&intent);
        }
    }
}

/// The end as its transfers tell it.
fn end_of(
    intent: IntentId,
    asset: Asset,
    outcome: Outcome,
    usage: Usage,
    transfers: &[Transfer],
) -> End {
    use mtor_types::Amount;
    let (mut cost, mut refunded) = (Amount::ZERO, Amount::ZERO);
    for transfer in transfers {
        let part = match transfer.kind {
            TransferKind::Capture | TransferKind::Fee => &mut cost,
            TransferKind::Void | TransferKind::Expire => &mut refunded,
            TransferKind::Grant
            | TransferKind::Hold
            | TransferKind::Deposit
            | TransferKind::Withdraw => continue,
        };
        *part = part.checked_add(transfer.amount).unwrap_or(Amount::MAX);
    }
    let sequence = transfers.first().map_or(0, |transfer| transfer.sequence);
    End { intent, outcome, usage, asset, cost, refunded, sequence }
}
