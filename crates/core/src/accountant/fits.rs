//! What a fact must be for the ledger to take it: the assertions of the accountant, in the product.
//!
//! A fact that was decided here is asserted to fit before it is applied, so that a fault of the
//! program ends the process before anything of it is written. One that is read back is refused by
//! name, so that a damaged log ends a start and never moves money.

use std::collections::BTreeMap;

use mtor_types::Amount;
use mtor_types::fact::{Asset, Fact, Purse, Transfer, TransferKind};
use mtor_types::id::IntentId;

use super::Accountant;
use super::ledger::{Ledger, is_liability};

impl Accountant {
    /// O(log n).
    ///
    /// # Errors
    /// Why this fact cannot be one of this ledger's.
    pub fn fits(&self, fact: &Fact) -> Result<(), String> {
        let ledger = &self.ledger;
        match fact {
            Fact::LedgerOpened { .. } if ledger.opened.is_some() => {
                Err("a ledger is opened a second time".to_owned())
            }
            Fact::AccountOpened { .. } if ledger.opened.is_none() => {
                Err("an account is opened before its ledger".to_owned())
            }
            Fact::AccountOpened { account, .. } if ledger.accounts.contains_key(account) => {
                Err(format!("{account} is opened a second time"))
            }
            Fact::KeyAdded { account, .. } if !ledger.accounts.contains_key(account) => {
                Err(format!("{account} gets a key and does not exist"))
            }
            Fact::KeyAdded { account, key } if ledger.keys.contains_key(key) => {
                Err(format!("{account} gets a key that somebody has"))
            }
            Fact::GrantPaid { transfer, .. } | Fact::GrantGiven { transfer, .. } => {
                of_kind(transfer, &[TransferKind::Grant])?;
                ledger.fits(std::iter::once(transfer))
            }
            Fact::HoldPlaced { intent, account, asset, amount, transfer, .. } => {
                let transfer = transfer.as_ref();
                self.hold_fits(*intent, (*asset, *amount), transfer)?;
                let from_account = transfer.is_none_or(|transfer| {
                    (transfer.from, transfer.to)
                        == (Purse::Available(*account), Purse::Held(*account))
                });
                if !from_account || !ledger.accounts.contains_key(account) {
                    return Err(format!("the hold of {intent} is not of {account}"));
                }
                ledger.fits(transfer.into_iter())
            }
            Fact::HoldResolved { intent, transfers, .. } => self.end_fits(*intent, transfers),
            Fact::LedgerOpened { .. }
            | Fact::AccountOpened { .. }
            | Fact::KeyAdded { .. }
            | Fact::KeyRevoked { .. }
            | Fact::AccountBanned { .. }
            | Fact::NodeStarted { .. }
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
            | Fact::AccountCounted { .. }
            | Fact::InvitesIssued { .. }
            | Fact::InviteUsed { .. }
            | Fact::InvitesWithdrawn
            | Fact::AccountLimited { .. }
            | Fact::OwnerBanned { .. }
            | Fact::WorkerEnrolledBy { .. } => Ok(()),
        }
    }

    fn hold_fits(
        &self,
        intent: IntentId,
        (asset, amount): (Asset, Amount),
        transfer: Option<&Transfer>,
    ) -> Result<(), String> {
        if self.ledger.holds.contains_key(&intent) {
            return Err(format!("{intent} gets a second hold"));
        }
        let moved = transfer.map_or(Amount::ZERO, |transfer| transfer.amount);
        if moved != amount || transfer.is_some_and(|transfer| transfer.asset != asset) {
            return Err(format!("the hold of {intent} is of {amount} {asset}, {moved} moved"));
        }
        transfer.map_or(Ok(()), |transfer| of_kind(transfer, &[TransferKind::Hold]))
    }

    /// A hold is resolved once, and all of it.
    fn end_fits(&self, intent: IntentId, transfers: &[Transfer]) -> Result<(), String> {
        let Some(hold) = self.ledger.holds.get(&intent) else {
            return Err(format!("{intent} is resolved and has no open hold"));
        };
        let mut left = hold.amount;
        for transfer in transfers {
            let kinds = [
                TransferKind::Capture,
                TransferKind::Fee,
                TransferKind::Void,
                TransferKind::Expire,
            ];
            of_kind(transfer, &kinds)?;
            if transfer.from != Purse::Held(hold.account) || transfer.asset != hold.asset {
                return Err(format!("{intent} is resolved out of another purse: {transfer:?}"));
            }
            let more = || format!("{intent} is resolved by more than its hold of {}", hold.amount);
            left = left.checked_sub(transfer.amount).ok_or_else(more)?;
        }
        if !left.is_zero() {
            return Err(format!("{left} of the hold of {intent} go nowhere"));
        }
        self.ledger.fits(transfers.iter())
    }
}

fn of_kind(transfer: &Transfer, kinds: &[TransferKind]) -> Result<(), String> {
    if kinds.contains(&transfer.kind) {
        return Ok(());
    }
    Err(format!("{:?} does not belong here", transfer.kind))
}

impl Ledger {
    /// Whether these can move one after the other: numbered densely, above zero, and no purse on the
    /// wrong side of zero.
    fn fits<'a>(&self, transfers: impl Iterator<Item = &'a Transfer>) -> Result<(), String> {
        let mut sequence = self.sequence;
        let mut stands = BTreeMap::<(Purse, Asset), Amount>::new();
        for transfer in transfers {
            sequence = sequence.saturating_add(1);
            if transfer.sequence != sequence {
                return Err(format!("transfer {} stands in place {sequence}", transfer.sequence));
            }
            let Transfer { from, to, asset, amount, .. } = *transfer;
            if amount.is_zero() || from == to {
                return Err(format!("transfer {sequence} moves nothing"));
            }
            for (purse, grows) in [(from, !is_liability(from)), (to, is_liability(to))] {
                let before = stands.get(&(purse, asset)).copied();
                let before = before.or_else(|| self.purse(purse, asset));
                let after = before.and_then(|before| {
                    if grows { before.checked_add(amount) } else { before.checked_sub(amount) }
                });
                let Some(after) = after else {
                    return Err(format!("transfer {sequence} of {amount} does not fit {purse:?}"));
                };
                stands.insert((purse, asset), after);
            }
        }
        Ok(())
    }
}
