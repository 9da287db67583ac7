//! The money, by books of its own: kept from synced facts, from what was given out at which price, and
//! from what the edge metered. They share nothing with the accountant's.

use std::collections::{BTreeMap, BTreeSet};

use mtor_core::effect::Assignment;
use mtor_types::fact::{Asset, Fact, Purse, Transfer, TransferKind};
use mtor_types::intent::{End, Outcome, Usage};
use mtor_types::{AccountId, Attempt, IntentId, Price, WorkerId};

use crate::scenario::FEE_BASIS_POINTS;

/// How an intent stands in the synced log of the accountant.
#[derive(Clone, Debug)]
struct Hold {
    amount: u128,
    asset: Asset,
    account: AccountId,
    resolved: Option<Outcome>,
    cost: u128,
}

#[derive(Debug, Default)]
pub(crate) struct Books {
    /// Who owns which worker.
    owners: BTreeMap<WorkerId, AccountId>,
    holds: BTreeMap<IntentId, Hold>,
    balances: BTreeMap<(Asset, Purse), i128>,
    sequence: u64,
    /// Who was given which attempt, at which price; adopted, it may be at another.
    granted: BTreeMap<(IntentId, Attempt), Vec<(WorkerId, Price)>>,
    /// What the edge metered of attempts.
    metered: BTreeSet<(IntentId, Attempt, u64)>,
    /// Holds that only their own expiry resolved.
    pub(crate) backstops: Vec<IntentId>,
}

impl Books {
    pub(crate) fn new(owners: BTreeMap<WorkerId, AccountId>) -> Self {
        Self { owners, ..Self::default() }
    }

    pub(crate) fn owner_of(&self, worker: WorkerId) -> AccountId {
        self.owners.get(&worker).copied().unwrap_or(AccountId([0; 32]))
    }

    pub(crate) fn granted(&mut self, grant: &Assignment) {
        let granted = self.granted.entry((grant.meta.id, grant.attempt)).or_default();
        granted.push((grant.worker, grant.price));
    }

    pub(crate) fn metered(&mut self, intent: IntentId, attempt: Attempt, units: u64) {
        self.metered.insert((intent, attempt, units));
    }

    pub(crate) fn fact(&mut self, fact: &Fact) -> Result<(), String> {
        #[expect(clippy::wildcard_enum_match_arm, reason = "only these move money")]
        match fact {
            Fact::GrantPaid { transfer, .. } | Fact::GrantGiven { transfer, .. } => {
                self.transfer(transfer)
            }
            Fact::HoldPlaced { intent, account, asset, amount, transfer, .. } => {
                let (account, asset, amount) = (*account, *asset, amount.units());
                let hold = Hold { amount, asset, account, resolved: None, cost: 0 };
                if self.holds.insert(*intent, hold).is_some() {
                    return Err(format!("{intent} has two holds"));
                }
                let moved = transfer.as_ref().map_or(0, |transfer| transfer.amount.units());
                if moved != amount {
                    return Err(format!("the hold of {intent} is {amount}, {moved} moved"));
                }
                transfer.as_ref().map_or(Ok(()), |transfer| self.transfer(transfer))
            }
            Fact::HoldResolved { intent, outcome, usage, worker, transfers, .. } => {
                self.resolved(*intent, *outcome, (*usage, *worker), transfers)
            }
            _ => Ok(()),
        }
    }

    fn resolved(
        &mut self,
        intent: IntentId,
        outcome: Outcome,
        (usage, worker): (Usage, Option<WorkerId>),
        transfers: &[Transfer],
    ) -> Result<(), String> {
        let Some(hold) = self.holds.get_mut(&intent) else {
            return Err(format!("{intent} is resolved without a hold"));
        };
        if let Some(before) = hold.resolved.replace(outcome) {
            return Err(format!("{intent} is resolved twice: {before:?}, then {outcome:?}"));
        }
        let (mut owner, mut fee, mut back) = (0_u128, 0_u128, 0_u128);
        let payee = worker.and_then(|worker| self.owners.get(&worker).copied());
        for transfer in transfers {
            let (part, to) = match transfer.kind {
                TransferKind::Capture => (&mut owner, payee.map(Purse::Available)),
                TransferKind::Fee => (&mut fee, Some(Purse::RealmFee)),
                TransferKind::Void => (&mut back, Some(Purse::Available(hold.account))),
                TransferKind::Expire => {
                    self.backstops.push(intent);
                    (&mut back, Some(Purse::Available(hold.account)))
                }
                TransferKind::Grant
                | TransferKind::Hold
                | TransferKind::Deposit
                | TransferKind::Withdraw => return Err(format!("{intent}: {transfer:?}")),
            };
            let from = Purse::Held(hold.account);
            if Some(transfer.to) != to || transfer.from != from || transfer.asset != hold.asset {
                return Err(format!("{intent}: {transfer:?} is not from {from:?} to {to:?}"));
            }
            *part = part.saturating_add(transfer.amount.units());
        }
        let cost = owner.saturating_add(fee);
        hold.cost = cost;
        if cost.checked_add(back) != Some(hold.amount) {
            return Err(format!("{intent}: {cost} and {back} of a hold of {}", hold.amount));
        }
        let share = cost.saturating_mul(FEE_BASIS_POINTS.into()).checked_div(10_000);
        if share != Some(fee) {
            return Err(format!("{intent}: a fee of {fee} on {cost}"));
        }
        let pays = matches!(outcome, Outcome::Completed(_) | Outcome::Cancelled | Outcome::Expired);
        let amount = hold.amount;
        if cost > 0 && !(pays && self.earned(intent, worker, usage, (amount, cost))) {
            return Err(format!(
                "{intent}: {outcome:?} pays {worker:?} {cost} for {usage:?}, which it did not earn"
            ));
        }
        // What was done is paid, not only what is paid was done.
        let unpaid = cost == 0 && matches!(outcome, Outcome::Completed(_));
        if unpaid && !self.earned(intent, worker, usage, (amount, 0)) {
            return Err(format!("{intent}: {worker:?} did {usage:?} and is paid nothing"));
        }
        transfers.iter().try_for_each(|transfer| self.transfer(transfer))
    }

    /// Whether that worker had an attempt of which the edge metered so much, and this is its price.
    fn earned(
        &self,
        intent: IntentId,
        worker: Option<WorkerId>,
        usage: Usage,
        (hold, cost): (u128, u128),
    ) -> bool {
        let attempts = self.granted.range((intent, Attempt(0))..=(intent, Attempt(u64::MAX)));
        let metered = attempts
            .into_iter()
            .filter(|((_, attempt), _)| self.metered.contains(&(intent, *attempt, usage.units)));
        metered.flat_map(|(_, granted)| granted).any(|(holder, price)| {
            Some(*holder) == worker && price.cost(usage.units).units().min(hold) == cost
        })
    }

    fn transfer(&mut self, transfer: &Transfer) -> Result<(), String> {
        if transfer.sequence != self.sequence.saturating_add(1) {
            return Err(format!("{transfer:?} follows {}", self.sequence));
        }
        self.sequence = transfer.sequence;
        let amount = i128::try_from(transfer.amount.units()).map_err(|error| error.to_string())?;
        for (purse, change) in [(transfer.from, -amount), (transfer.to, amount)] {
            let stands = self.balances.entry((transfer.asset, purse)).or_default();
            *stands = stands.saturating_add(change);
            let liability = !matches!(purse, Purse::GrantIssue | Purse::ChainBridge);
            if (liability && *stands < 0) || (!liability && *stands > 0) {
                return Err(format!("{purse:?} stands at {stands} after {transfer:?}"));
            }
        }
        Ok(())
    }

    /// Nothing of this may be said before the resolution is synced, and it says the same.
    pub(crate) fn durably(&self, end: &End) -> Result<(), String> {
        let hold = self.holds.get(&end.intent);
        let Some((hold, outcome)) = hold.and_then(|hold| Some((hold, hold.resolved?))) else {
            return Err(format!("the end of {} left before its resolution was synced", end.intent));
        };
        let same = outcome == end.outcome || outcome == Outcome::Refused;
        if !same || end.cost.units() != hold.cost {
            return Err(format!("{}: {end:?} was told, {outcome:?} was resolved", end.intent));
        }
        Ok(())
    }

    pub(crate) fn finish(&self) -> Result<(), String> {
        match self.holds.iter().find(|(_, hold)| hold.resolved.is_none()) {
            Some((intent, hold)) => {
                Err(format!("the hold of {intent} ({}) is never resolved", hold.account))
            }
            None => Ok(()),
        }
    }
}
