//! What guests are given, and by whom it is shared: so much a day, of which a network has a part.
//!
//! A guest's account is filled up to the grant once a day, when it asks for it. What an account gets when
//! it is opened and what it is filled up by come out of one day's total. The sysop's invitations are
//! refused by none of that.

use std::collections::BTreeSet;

use mtor_types::fact::{AccountKind, Asset, Fact, NetworkKey, Purse, Transfer, TransferKind};
use mtor_types::id::{AccountId, KeyHash, TransferId};
use mtor_types::rejection::{Limited, Whose};
use mtor_types::{Amount, Rejection, Time};

use super::Accountant;
use super::accounts::{derived_id, within};
use super::ledger::{Day, Given};
use crate::command::GrantPolicy;
use crate::turn::Turn;
use crate::{levels, limits};

/// Under which the realm's own grant of a day is counted: of no client, whose keys are hashes.
const REALMS_OWN: NetworkKey = NetworkKey([0; 16]);

impl Accountant {
    /// Fills an account up to a guest's grant, once a day. What holds as much, was given something today
    /// or is no guest's stays as it is.
    ///
    /// # Errors
    /// `UnknownAccount`, `AccountBanned`, `GrantsExhausted`, `NetworkLimit`.
    pub fn fill_up(
        &mut self,
        turn: &mut Turn,
        account: AccountId,
        networks: &[NetworkKey],
        salt: [u8; 16],
    ) -> Result<(), Rejection> {
        let found = self.ledger.accounts.get(&account).ok_or(Rejection::UnknownAccount)?;
        if found.banned {
            return Err(Rejection::AccountBanned);
        }
        let Some((grant, missing)) = self.missing(account, turn.now) else { return Ok(()) };
        self.may_grant(turn.now, &grant, networks, missing, None)?;
        let of_day = [&account.0[..], &turn.now.day().to_be_bytes()].concat();
        let id = derived_id(&of_day, TransferKind::Grant);
        self.give(turn, id, account, (grant.asset, missing), (networks, salt));
        Ok(())
    }

    /// Whether [`Accountant::fill_up`] has something to do.
    pub fn is_short(&self, account: AccountId, now: Time) -> bool {
        self.missing(account, now).is_some()
    }

    fn missing(&self, account: AccountId, now: Time) -> Option<(GrantPolicy, Amount)> {
        let found = self.ledger.accounts.get(&account).filter(|found| !found.banned)?;
        let grant = self.grant_of(found.kind)?;
        let balance = found.balances.get(grant.asset);
        let has = balance.available.checked_add(balance.held)?;
        let missing = grant.amount.checked_sub(has).filter(|missing| !missing.is_zero())?;
        let had = self.today(now).is_some_and(|today| today.accounts.contains(&account));
        (!had).then_some((grant, missing))
    }

    /// What an account of a kind is given.
    pub(super) fn grant_of(&self, kind: AccountKind) -> Option<GrantPolicy> {
        let grant = self.policy.grant.filter(|grant| !grant.amount.is_zero());
        grant.filter(|_| kind == AccountKind::Guest)
    }

    /// Whether one more account may be opened today from there. A day's are a part of what is left of all
    /// that there may be, so that no day takes the last.
    pub(super) fn may_open(&self, now: Time, networks: &[NetworkKey]) -> Result<(), Rejection> {
        let none = Day::default();
        let today = self.today(now).unwrap_or(&none);
        let opened = usize::try_from(today.all.opened).unwrap_or(usize::MAX);
        let before = self.ledger.accounts.len().saturating_sub(opened);
        let left = limits::ACCOUNTS_MAX.saturating_sub(before);
        let may = left.checked_div(limits::ACCOUNTS_A_DAY).unwrap_or_default().max(1);
        let chain: Vec<Given> = networks.iter().map(|network| today.of(network)).collect();
        let counts: Vec<u128> = chain.iter().map(|given| given.opened.into()).collect();
        let may = u64::try_from(may).unwrap_or(u64::MAX);
        levels::check(may.into(), today.all.opened.into(), &counts, 1).map_err(|whose| {
            let held = match whose {
                Whose::Network | Whose::Account => {
                    chain.iter().map(|given| given.opened).max().unwrap_or_default()
                }
                Whose::Everybody => today.all.opened,
            };
            // Each of them just now has what it may have.
            let held = u64::from(held);
            Rejection::ShareUsed { what: Limited::AccountsToday, whose, held, may: held }
        })
    }

    /// Whether so much may be given there today.
    pub(super) fn may_grant(
        &self,
        now: Time,
        grant: &GrantPolicy,
        networks: &[NetworkKey],
        amount: Amount,
        invite: Option<KeyHash>,
    ) -> Result<(), Rejection> {
        let retry_after_ms = to_midnight_ms(now);
        // All that was ever granted is an amount too: this keeps every later sum in range.
        let ever = self.ledger.realm.get(grant.asset).granted.checked_add(amount);
        if ever.is_none() {
            return Err(Rejection::GrantsExhausted { retry_after_ms });
        }
        if invite.is_some() {
            return Ok(());
        }
        let none = Day::default();
        let today = self.today(now).unwrap_or(&none);
        let chain: Vec<Given> = networks.iter().map(|network| today.of(network)).collect();
        let amounts: Vec<u128> = chain.iter().map(|given| given.granted.units()).collect();
        let (total, given) = (grant.daily_total.units(), today.all.granted.units());
        levels::check(total, given, &amounts, amount.units()).map_err(|whose| match whose {
            Whose::Everybody => Rejection::GrantsExhausted { retry_after_ms },
            Whose::Network | Whose::Account => Rejection::NetworkLimit { retry_after_ms },
        })?;
        if chain.last().is_some_and(|given| given.grants >= grant.daily_per_network) {
            return Err(Rejection::NetworkLimit { retry_after_ms });
        }
        Ok(())
    }

    pub(super) fn give(
        &mut self,
        turn: &mut Turn,
        id: TransferId,
        account: AccountId,
        (asset, amount): (Asset, Amount),
        (networks, salt): (&[NetworkKey], [u8; 16]),
    ) {
        let transfer = Transfer {
            sequence: self.ledger.sequence.saturating_add(1),
            id,
            kind: TransferKind::Grant,
            from: Purse::GrantIssue,
            to: Purse::Available(account),
            asset,
            amount,
            hold: None,
        };
        let (day, networks) = (turn.now.day(), networks.to_vec());
        self.decided(turn, Fact::GrantGiven { transfer, day, networks, salt });
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
        let (owner, day) = (opened.owner, turn.now.day());
        let has = self.ledger.accounts.get(&owner).map(|found| found.balances.get(Asset::Grant));
        let has = has.map_or(Amount::ZERO, |balance| balance.available);
        let amount = amount.checked_sub(has).unwrap_or_default();
        let networks = [REALMS_OWN];
        let had = self.today(turn.now).is_some_and(|day| day.networks.contains_key(&REALMS_OWN));
        if amount.is_zero() || had {
            return Ok(());
        }
        let ever = self.ledger.realm.get(Asset::Grant).granted.checked_add(amount);
        if ever.is_none() {
            let retry_after_ms = to_midnight_ms(turn.now);
            return Err(Rejection::GrantsExhausted { retry_after_ms });
        }
        let of_day = [&owner.0[..], &day.to_be_bytes()].concat();
        let id = derived_id(&of_day, TransferKind::Grant);
        self.give(turn, id, owner, (Asset::Grant, amount), (&networks, salt));
        Ok(())
    }

    /// Adds codes that open an account with a grant from any network, by hash; once each.
    ///
    /// # Errors
    /// `LimitReached`.
    pub fn issue_invites(
        &mut self,
        turn: &mut Turn,
        invites: Vec<KeyHash>,
    ) -> Result<(), Rejection> {
        let new: BTreeSet<KeyHash> = invites.into_iter().collect();
        let new: Vec<KeyHash> = new.difference(&self.ledger.invites).copied().collect();
        let Some(more) = new.len().checked_sub(1) else { return Ok(()) };
        let after = self.ledger.invites.len().saturating_add(more);
        within(after, limits::INVITES_MAX, Limited::Invites)?;
        self.decided(turn, Fact::InvitesIssued { invites: new });
        Ok(())
    }

    /// Takes back all that nobody has used.
    pub fn withdraw_invites(&mut self, turn: &mut Turn) {
        if !self.ledger.invites.is_empty() {
            self.decided(turn, Fact::InvitesWithdrawn);
        }
    }

    /// How many codes nobody has used.
    pub fn invites_count(&self) -> usize {
        self.ledger.invites.len()
    }

    /// What was given out on the day of `now`, if anything.
    fn today(&self, now: Time) -> Option<&Day> {
        Some(&self.ledger.today).filter(|today| today.day == now.day())
    }
}

/// Milliseconds until the next UTC day, at least 1.
fn to_midnight_ms(now: Time) -> u64 {
    const MS_A_DAY: u64 = 24 * 60 * 60 * 1000;
    Time(now.day().saturating_add(1).saturating_mul(MS_A_DAY)).since_ms(now).max(1)
}
