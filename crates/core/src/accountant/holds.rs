//! Holds: placed at admission, resolved once at the end, voided by their own expiry at the latest.
//!
//! An intent the accountant has seen is in one of three states: its hold is open, its end is
//! remembered, or both are forgotten. A request repeated in the first or second is answered from
//! there, so messages may be lost, repeated and reordered without a second capture. In the third
//! a request for an end is not answered at all: whoever still asks repeats until the hold stands.

use std::sync::Arc;

use mtor_types::fact::{Asset, Fact, Purse, Transfer, TransferKind};
use mtor_types::id::{AccountId, IntentId, NodeId, TransferId};
use mtor_types::intent::{IntentMeta, Outcome, Usage};
use mtor_types::message::{Message, Resolution, ServedBy, Service};
use mtor_types::mutant;
use mtor_types::rejection::Limited;
use mtor_types::{Amount, Code, Rejection};

use super::accounts::{derived_id, within};
use super::ledger::Hold;
use super::{Accountant, Balance, PerAsset};
use crate::limits;
use crate::turn::Turn;

/// What ends a hold.
struct Ending {
    outcome: Outcome,
    usage: Usage,
    served: Option<ServedBy>,
    /// What the released rest is called.
    release: TransferKind,
}

impl Accountant {
    /// A message from another service.
    pub fn receive(&mut self, turn: &mut Turn, message: Message) {
        match message {
            Message::PlaceHold(meta) => self.place(turn, meta.current(), false),
            Message::Resume(meta) => self.place(turn, meta.current(), true),
            Message::Resolve(resolution) => self.resolve(turn, resolution),
            Message::EdgeStarted { edge, epoch } => self.edge_started(turn, edge, epoch),
            // Routed to other services, never here.
            Message::Enqueue { .. }
            | Message::EnqueueWeighted { .. }
            | Message::OwnerBanned { .. }
            | Message::Refused { .. }
            | Message::Taken { .. }
            | Message::End(_)
            | Message::Resolved { .. }
            | Message::Slots(_)
            | Message::SessionLost { .. }
            | Message::RegistryStarted
            | Message::Renew { .. }
            | Message::Served { .. }
            | Message::Offered(_)
            | Message::Worked(_)
            | Message::Silent { .. }
            // Older forms, which became today's when they came in.
            | Message::PlaceHoldV1(_)
            | Message::EnqueueV1 { .. }
            | Message::ResumeV1(_)
            | Message::SlotsV1(_) => {}
        }
    }

    /// Voids the holds whose backstop has come.
    pub fn tick(&mut self, turn: &mut Turn) {
        while let Some(intent) = self.index.expired(turn.now) {
            self.steps.one();
            let release = TransferKind::Expire;
            let (outcome, usage) = (Outcome::Expired, Usage::default());
            let ended = self.end(turn, intent, &Ending { outcome, usage, served: None, release });
            assert!(ended, "the hold of {intent} runs out and is not open");
            self.tell_end(turn, intent);
        }
    }

    /// `recovered`: it comes back from a restart, so it waits for workers to come back too.
    fn place(&mut self, turn: &mut Turn, meta: Arc<IntentMeta>, recovered: bool) {
        let intent = meta.id;
        if let Some(hold) = self.ledger.holds.get(&intent) {
            let asset = hold.asset;
            return self.enqueue(turn, meta, asset, recovered);
        }
        if self.tell_end(turn, intent) {
            return;
        }
        if recovered {
            // Its hold stood once: it was resolved, its end was told, and is forgotten here. A
            // resume that was so long on its way must not reserve the money a second time.
            let rejection = Rejection::RealmRestarted;
            turn.send(Service::Events, Message::Refused { intent, rejection });
            return;
        }
        match self.asset_for(&meta) {
            Ok(asset) => {
                let fact = self.hold_fact(turn, &meta, asset);
                self.decided(turn, fact);
                self.enqueue(turn, meta, asset, recovered);
            }
            Err(rejection) => {
                turn.send(Service::Events, Message::Refused { intent, rejection });
            }
        }
    }

    /// Passes it on, with the weight of its account.
    fn enqueue(&self, turn: &mut Turn, meta: Arc<IntentMeta>, asset: Asset, recovered: bool) {
        let weight = self.limits_of(meta.account).weight;
        let meta = meta.into();
        let message = match weight {
            Some(weight) => Message::EnqueueWeighted { meta, asset, recovered, weight },
            None => Message::Enqueue { meta, asset, recovered },
        };
        turn.send(Service::Router, message);
    }

    /// Which asset covers the whole ceiling; the reasons against stand in order of precedence.
    fn asset_for(&self, meta: &IntentMeta) -> Result<Asset, Rejection> {
        let account = self.ledger.accounts.get(&meta.account).ok_or(Rejection::UnknownAccount)?;
        if account.banned {
            return Err(Rejection::AccountBanned);
        }
        let asset = covering(&account.balances, meta.ceiling)?;
        within(self.ledger.holds.len(), limits::OPEN_INTENTS_MAX, Limited::Intents)?;
        if let Some(most) = self.limits_of(meta.account).intents {
            let open = usize::try_from(self.index.open_holds(meta.account)).unwrap_or(usize::MAX);
            let most = usize::try_from(most).unwrap_or(usize::MAX);
            within(open, most, Limited::Intents)?;
        }
        let newest = self.index.epochs.get(&meta.edge).copied().unwrap_or_default();
        if !meta.durable && meta.edge_epoch < newest {
            return Err(Rejection::RealmRestarted);
        }
        Ok(asset)
    }

    fn hold_fact(&self, turn: &Turn, meta: &IntentMeta, asset: Asset) -> Fact {
        let amount = meta.ceiling;
        let transfer = (!amount.is_zero()).then(|| Transfer {
            sequence: self.ledger.sequence.saturating_add(1),
            id: hold_id(meta.id),
            kind: TransferKind::Hold,
            from: Purse::Available(meta.account),
            to: Purse::Held(meta.account),
            asset,
            amount,
            hold: None,
        });
        let backstop_ms = meta.remaining_ms.saturating_add(limits::LEASE_MS);
        Fact::HoldPlaced {
            intent: meta.id,
            account: meta.account,
            asset,
            amount,
            edge: (!meta.durable).then_some((meta.edge, meta.edge_epoch)),
            expires: turn.now.after_ms(backstop_ms).after_ms(limits::HOLD_GRACE_MS),
            transfer,
            idempotency: meta.idempotency,
            salt: meta.salt,
        }
    }

    /// The one terminal decision. The first request wins; later ones get its answer.
    fn resolve(&mut self, turn: &mut Turn, resolution: Resolution) {
        let Resolution { intent, outcome, usage, served, rejection } = resolution;
        let release = TransferKind::Void;
        self.end(turn, intent, &Ending { outcome, usage, served, release });
        let ended = self.ledger.ends.get(&intent).map(|remembered| remembered.end.outcome);
        if let (Some(Outcome::Refused), Some(rejection)) = (ended, rejection) {
            self.index.rejections.entry(intent).or_insert(rejection);
        }
        // Neither open nor remembered: the hold may still be on its way, so no answer is given.
        self.tell_end(turn, intent);
    }

    /// What was ephemeral in older boots of that edge is gone with it; nobody waits for its end.
    fn edge_started(&mut self, turn: &mut Turn, edge: NodeId, epoch: u32) {
        let newest = self.index.epochs.entry(edge).or_default();
        *newest = epoch.max(*newest);
        for intent in self.index.older_boots(edge, epoch) {
            self.steps.one();
            let (served, release) = (None, TransferKind::Void);
            let (outcome, usage) = (Outcome::Failed(Code::RealmRestarted), Usage::default());
            self.end(turn, intent, &Ending { outcome, usage, served, release });
        }
        turn.send(Service::Router, Message::EdgeStarted { edge, epoch });
    }

    /// Resolves an open hold; false if there is none.
    fn end(&mut self, turn: &mut Turn, intent: IntentId, ending: &Ending) -> bool {
        let Some(hold) = self.ledger.holds.get(&intent) else { return false };
        let fact = Fact::HoldResolved {
            intent,
            outcome: ending.outcome,
            usage: ending.usage,
            worker: ending.served.map(|served| served.worker),
            transfers: self.transfers_of(intent, hold, ending),
            salt: hold.salt,
        };
        self.decided(turn, fact);
        true
    }

    /// How a hold is split: to the worker's owner, to the realm, and back.
    fn transfers_of(&self, intent: IntentId, hold: &Hold, ending: &Ending) -> Vec<Transfer> {
        let paid = self.paid(hold, ending);
        let cost = paid.map_or(Amount::ZERO, |(_, cost)| cost);
        let fee = cost.basis_points(self.policy.fee_basis_points);
        let fee = if mutant!("fee-forgotten") { Amount::ZERO } else { fee };
        let owner = paid.map_or(hold.account, |(owner, _)| owner);
        let owner = if mutant!("payer-is-paid") { hold.account } else { owner };
        let parts = [
            (TransferKind::Capture, Purse::Available(owner), cost.saturating_sub(fee)),
            (TransferKind::Fee, Purse::RealmFee, fee),
            (ending.release, Purse::Available(hold.account), hold.amount.saturating_sub(cost)),
        ];
        let mut sequence = self.ledger.sequence;
        let mut transfers = Vec::with_capacity(parts.len());
        for (kind, to, amount) in parts.into_iter().filter(|(_, _, amount)| !amount.is_zero()) {
            sequence = sequence.saturating_add(1);
            transfers.push(Transfer {
                sequence,
                id: derived_id(&intent.0, kind),
                kind,
                from: Purse::Held(hold.account),
                to,
                asset: hold.asset,
                amount,
                hold: Some(hold_id(intent)),
            });
        }
        transfers
    }

    /// Who is paid how much, at most the hold. `None`: nobody.
    fn paid(&self, hold: &Hold, ending: &Ending) -> Option<(AccountId, Amount)> {
        match ending.outcome {
            Outcome::Completed(_) | Outcome::Cancelled | Outcome::Expired => {}
            // Ended by worker or realm: all is void.
            Outcome::Failed(_) | Outcome::Refused => return None,
        }
        let served = ending.served?;
        // Accounts are never removed and a worker is enrolled by its owner's account, so an unknown
        // owner is a fault of the realm; the payer does not bear it.
        if !self.ledger.accounts.contains_key(&served.owner) {
            return None;
        }
        let cost = served.price.cost(ending.usage.units);
        let most = if mutant!("paid-beyond-the-hold") { Amount::MAX } else { hold.amount };
        Some((served.owner, cost.min(most)))
    }

    /// Tells the Event Processor an end that is remembered; false if it is not.
    fn tell_end(&self, turn: &mut Turn, intent: IntentId) -> bool {
        let Some(remembered) = self.ledger.ends.get(&intent) else { return false };
        let end = remembered.end.clone();
        // Why the router refused is not in the ledger: after a restart the restart is the reason.
        let rejection = (end.outcome == Outcome::Refused).then(|| {
            self.index.rejections.get(&intent).cloned().unwrap_or(Rejection::RealmRestarted)
        });
        turn.send(Service::Events, Message::Resolved { end, rejection });
        true
    }
}

/// The grant if it covers the whole, else the token; never split.
fn covering(balances: &PerAsset<Balance>, ceiling: Amount) -> Result<Asset, Rejection> {
    let (grant, token) = (balances.grant.available, balances.token.available);
    if grant >= ceiling {
        return Ok(Asset::Grant);
    }
    if token >= ceiling {
        return Ok(Asset::Token);
    }
    // Told of the asset that is closest; of two alike, of the one that can be bought.
    let asset = if token >= grant && !token.is_zero() { Asset::Token } else { Asset::Grant };
    let missing = ceiling.saturating_sub(balances.get(asset).available);
    Err(Rejection::BalanceTooLow { asset, missing })
}

/// A hold's transfer bears its intent's id.
const fn hold_id(intent: IntentId) -> TransferId {
    TransferId(intent.0)
}
