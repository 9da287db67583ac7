//! The accountant against an independent naive model, and its promises one by one.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "a test that overflows fails loudly, which is what it is for"
)]

use std::collections::BTreeMap;
use std::sync::Arc;

use mtor_types::fact::{AccountLimits, Asset, Fact, NetworkKey, Purse, Transfer, TransferKind};
use mtor_types::intent::{Band, Branch, End, IntentMeta, Outcome, Reason, Usage};
use mtor_types::message::{Envelope, Message, Resolution, ServedBy, Service};
use mtor_types::rejection::Limited;
use mtor_types::{
    AccountId, Amount, Attempt, Code, Digest, Fence, IntentId, KeyHash, NodeId, Price, RealmId,
    Rejection, Time, TransferId, WorkerId,
};
use proptest::prelude::*;

use super::ledger::Account;
use super::{AccountKind, Accountant, PerAsset, Policy};
use crate::command::{GrantPolicy, OpenAccount};
use crate::limits;
use crate::turn::Turn;

mod fits;
mod model;

const REALM: RealmId = RealmId([9; 32]);
/// The realm's own account.
const OWNER: AccountId = AccountId([200; 32]);
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

fn account(n: u8) -> AccountId {
    AccountId([n; 32])
}

fn key(n: u8) -> KeyHash {
    KeyHash([n; 32])
}

fn intent(n: u16) -> IntentId {
    let mut id = [0; 16];
    id[..2].copy_from_slice(&n.to_be_bytes());
    IntentId(id)
}

fn amount(units: u64) -> Amount {
    Amount::from_u64(units)
}

fn grant(asset: Asset, units: u64, daily_total: u64, daily_per_network: u32) -> GrantPolicy {
    GrantPolicy {
        asset,
        amount: amount(units),
        daily_total: amount(daily_total),
        daily_per_network,
    }
}

fn policy(grant: Option<GrantPolicy>) -> Policy {
    Policy { grant, fee_basis_points: 1_000 }
}

fn open(n: u8, key_number: u8, network: u8) -> OpenAccount {
    OpenAccount {
        account: account(n),
        kind: AccountKind::Guest,
        key: key(key_number),
        name_secret: [n; 32],
        networks: vec![NetworkKey([network; 16])],
        invite: None,
        salt: [n; 16],
    }
}

fn meta(intent: IntentId, payer: AccountId, ceiling: u64) -> IntentMeta {
    IntentMeta {
        id: intent,
        account: payer,
        name: "echo".to_owned(),
        model: None,
        trust: mtor_types::intent::Trust::Any,
        class: mtor_types::intent::Class::Interactive,
        durable: false,
        restart: false,
        edge: NodeId(0),
        edge_epoch: 1,
        ceiling: amount(ceiling),
        manifest: Digest([0; 32]),
        branch: Branch::Account,
        origin: None,
        worker: None,
        band: Band::LIST,
        size: 100,
        units_max: ceiling,
        bytes: 10,
        remaining_ms: 30_000,
        idempotency: None,
        salt: intent.0,
    }
}

fn served(owner: AccountId, units_price: u64) -> Option<ServedBy> {
    let price = Price { amount: amount(units_price), per: 1 };
    let (worker, attempt, fence) = (WorkerId([5; 32]), Attempt(1), Fence(1));
    Some(ServedBy { worker, owner, price, attempt, fence })
}

fn resolution(intent: IntentId, outcome: Outcome, units: u64) -> Resolution {
    let usage = Usage { units, input: 0, output: 0 };
    Resolution { intent, outcome, usage, served: served(OWNER, 1), rejection: None }
}

const DONE: Outcome = Outcome::Completed(Reason::Done);

/// An accountant, and another that only ever sees the first one's facts.
struct Bench {
    accountant: Accountant,
    replica: Accountant,
    now: Time,
    transfers: Vec<Transfer>,
}

/// What one call gave.
struct Outcomes {
    result: Result<(), Rejection>,
    facts: Vec<Fact>,
    messages: Vec<Envelope>,
}

impl Bench {
    fn new(policy: Policy) -> Self {
        let accountant = Accountant::new(policy);
        let (replica, now) = (accountant.clone(), Time(100 * DAY_MS));
        let mut bench = Self { accountant, replica, now, transfers: Vec::new() };
        bench.call(|accountant, turn| accountant.open_ledger(turn, REALM, 6, OWNER, [1; 32]));
        bench
    }

    /// Runs one command or message, and checks what must be true after each.
    fn call(
        &mut self,
        work: impl FnOnce(&mut Accountant, &mut Turn) -> Result<(), Rejection>,
    ) -> Outcomes {
        let mut turn = Turn { now: self.now, ..Turn::default() };
        let before = self.accountant.durable().clone();
        let result = work(&mut self.accountant, &mut turn);
        let facts = turn.facts;
        let messages = Vec::from(turn.messages);
        assert!(turn.effects.is_empty(), "the accountant speaks by messages only");
        if result.is_err() {
            assert!(facts.is_empty() && messages.is_empty(), "a rejection changes nothing");
        }
        if facts.is_empty() {
            assert_eq!(&before, self.accountant.durable(), "the ledger changes by facts only");
        }
        for fact in &facts {
            self.replica.apply(self.now, fact);
            self.transfers.extend(transfers_of(fact));
        }
        assert_eq!(self.replica.durable(), self.accountant.durable(), "a replay gives the same");
        self.accountant.check_invariants().unwrap();
        self.replica.check_invariants().unwrap();
        assert_eq!(self.accountant.sequence(), self.transfers.len() as u64);
        Outcomes { result, facts, messages }
    }

    fn send(&mut self, message: Message) -> Outcomes {
        self.call(|accountant, turn| {
            accountant.receive(turn, message);
            Ok(())
        })
    }

    fn open(&mut self, open: OpenAccount) -> Result<(), Rejection> {
        self.call(|accountant, turn| accountant.open_account(turn, &open)).result
    }

    fn filled_up(&mut self, n: u8, network: u8) -> Outcomes {
        let networks = [NetworkKey([network; 16])];
        self.call(|accountant, turn| accountant.fill_up(turn, account(n), &networks, [n; 16]))
    }

    fn fill_up(&mut self, n: u8, network: u8) -> Result<(), Rejection> {
        self.filled_up(n, network).result
    }

    /// An intent of `n` that costs so much.
    fn spend(&mut self, n: u8, units: u64) {
        let id = intent(1_000 + u16::try_from(self.transfers.len()).unwrap());
        self.place(meta(id, account(n), units));
        self.resolve(resolution(id, DONE, units));
    }

    fn place(&mut self, meta: IntentMeta) -> Vec<Envelope> {
        self.send(Message::PlaceHold(Arc::new(meta).into())).messages
    }

    fn resolve(&mut self, resolution: Resolution) -> Outcomes {
        self.send(Message::Resolve(resolution))
    }

    fn tick(&mut self) -> Outcomes {
        self.call(|accountant, turn| {
            accountant.tick(turn);
            Ok(())
        })
    }

    fn available(&self, account: AccountId, asset: Asset) -> u128 {
        self.accountant.balance(account).unwrap().get(asset).available.units()
    }

    fn held(&self, account: AccountId, asset: Asset) -> u128 {
        self.accountant.balance(account).unwrap().get(asset).held.units()
    }

    /// Through a snapshot's bytes, as after a crash.
    fn restart(&mut self) {
        let bytes = postcard::to_stdvec(self.accountant.durable()).unwrap();
        let ledger = postcard::from_bytes(&bytes).unwrap();
        self.accountant = Accountant::restore(ledger, self.accountant.policy().clone());
        self.replica = self.accountant.clone();
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "only these move money")]
fn transfers_of(fact: &Fact) -> Vec<Transfer> {
    match fact {
        Fact::GrantGiven { transfer, .. } => vec![*transfer],
        Fact::HoldPlaced { transfer, .. } => transfer.iter().copied().collect(),
        Fact::HoldResolved { transfers, .. } => transfers.clone(),
        _ => Vec::new(),
    }
}

/// The end that was told, and why it was refused if it was.
fn told(messages: &[Envelope]) -> (End, Option<Rejection>) {
    match messages {
        [Envelope { to: Service::Events, message: Message::Resolved { end, rejection } }] => {
            (end.clone(), rejection.clone())
        }
        other => panic!("expected one end, got {other:?}"),
    }
}

fn enqueued(messages: &[Envelope]) -> Option<Asset> {
    match messages {
        [Envelope { to: Service::Router, message: Message::Enqueue { asset, .. } }] => Some(*asset),
        _ => None,
    }
}

fn refused(messages: &[Envelope]) -> Option<Rejection> {
    match messages {
        [Envelope { to: Service::Events, message: Message::Refused { rejection, .. } }] => {
            Some(rejection.clone())
        }
        _ => None,
    }
}

#[test]
fn a_ledger_is_opened_once() {
    let mut bench = Bench::new(Policy::default());
    let mut again = |realm, decimals, owner| {
        let result = bench
            .call(|accountant, turn| accountant.open_ledger(turn, realm, decimals, owner, [2; 32]));
        (result.result, result.facts.len())
    };
    assert_eq!(again(REALM, 6, OWNER), (Ok(()), 0));
    assert_eq!(again(REALM, 9, OWNER), (Err(Rejection::IdTaken), 0));
    assert_eq!(again(REALM, 6, account(1)), (Err(Rejection::IdTaken), 0));
    assert_eq!(bench.accountant.owner(), Some(OWNER));
    assert_eq!(bench.accountant.decimals(Asset::Token), Some(6));
    let mut fresh = Accountant::new(policy(Some(grant(Asset::Grant, 1, 1, 1))));
    let result = fresh.open_account(&mut Turn::default(), &open(1, 1, 1));
    assert_eq!(result, Err(Rejection::UnknownAccount), "the ledger comes first");
}

#[test]
fn a_guest_is_granted_once() {
    let mut bench = Bench::new(policy(Some(grant(Asset::Grant, 100, 1_000, 9))));
    assert_eq!(bench.open(open(1, 1, 1)), Ok(()));
    assert_eq!(bench.open(open(1, 1, 1)), Ok(()));
    assert_eq!(bench.open(open(1, 2, 1)), Err(Rejection::IdTaken));
    assert_eq!(bench.open(open(2, 1, 1)), Err(Rejection::IdTaken));
    assert_eq!(bench.available(account(1), Asset::Grant), 100);
    assert_eq!(bench.transfers.len(), 1);
    let realm = OpenAccount { kind: AccountKind::Realm, ..open(3, 3, 1) };
    assert_eq!(bench.open(realm), Ok(()));
    assert_eq!(bench.available(account(3), Asset::Grant), 0);
}

#[test]
fn who_gets_no_grant_opens_with_nothing_and_is_filled_up_when_there_is_one() {
    let mut bench = Bench::new(policy(Some(grant(Asset::Grant, 100, 1_000, 2))));
    bench.now = Time(100 * DAY_MS + DAY_MS - 7);
    for n in [1, 2, 3] {
        assert_eq!(bench.open(open(n, n, 1)), Ok(()), "account {n}");
    }
    let has = |bench: &Bench, n| bench.available(account(n), Asset::Grant);
    assert_eq!([1, 2, 3].map(|n| has(&bench, n)), [100, 100, 0], "two of a network");
    let retry_after_ms = 7;
    assert_eq!(bench.fill_up(3, 1), Err(Rejection::NetworkLimit { retry_after_ms }));
    assert_eq!(bench.fill_up(3, 2), Ok(()), "another network");
    bench.restart();
    assert_eq!(bench.fill_up(3, 3), Ok(()), "has what a guest is given");
    assert_eq!(has(&bench, 3), 100);
    bench.spend(1, 60);
    assert_eq!(bench.fill_up(1, 4), Ok(()));
    assert_eq!(has(&bench, 1), 40, "it was given something today");
    bench.now = Time(101 * DAY_MS);
    assert!(bench.accountant.is_short(account(1), bench.now));
    assert_eq!(bench.fill_up(1, 4), Ok(()));
    assert_eq!((has(&bench, 1), bench.transfers.last().unwrap().amount), (100, amount(60)));
    bench.spend(1, 60);
    assert_eq!(bench.fill_up(1, 4), Ok(()));
    assert_eq!(has(&bench, 1), 40, "once a day");
    assert!(!bench.accountant.is_short(account(1), bench.now));
    assert_eq!(bench.fill_up(9, 4), Err(Rejection::UnknownAccount));
    bench.call(|a, turn| a.ban_account(turn, account(2), true));
    assert_eq!(bench.fill_up(2, 4), Err(Rejection::AccountBanned));
}

#[test]
fn of_ten_networks_that_take_all_they_can_a_tenth_of_the_day_is_left() {
    let mut bench = Bench::new(policy(Some(grant(Asset::Grant, 1, 10_000, u32::MAX))));
    let mut n = 0_u32;
    for outer in 1..=10_u8 {
        // Each of its inner networks until it gets none.
        for inner in 1..=40_u8 {
            let (outer, inner) = ([outer; 16], [[outer; 8], [inner; 8]].concat());
            let inner = inner.try_into().unwrap();
            let networks = vec![NetworkKey(outer), NetworkKey(inner)];
            let mut got = 0;
            loop {
                n += 1;
                let mut id = [7; 32];
                id[..4].copy_from_slice(&n.to_be_bytes());
                let (account, key) = (AccountId(id), KeyHash(id));
                let open =
                    OpenAccount { account, key, networks: networks.clone(), ..open(0, 0, 0) };
                let mut turn = Turn { now: bench.now, ..Turn::default() };
                assert_eq!(bench.accountant.open_account(&mut turn, &open), Ok(()));
                if bench.available(account, Asset::Grant) == 0 {
                    break;
                }
                got += 1;
            }
            assert!(got <= 400, "an inner network's {got}");
        }
    }
    let taken = bench.accountant.durable().today.all.granted.units();
    assert!((7_000..=9_000).contains(&taken), "{taken}");
    let victim = open(250, 250, 250);
    let mut turn = Turn { now: bench.now, ..Turn::default() };
    assert_eq!(bench.accountant.open_account(&mut turn, &victim), Ok(()));
    assert_eq!(bench.available(account(250), Asset::Grant), 1, "the victim's");
}

#[test]
fn accounts_of_a_day_are_shared_too() {
    let mut bench = Bench::new(policy(None));
    let now = bench.now;
    let may = limits::ACCOUNTS_MAX / limits::ACCOUNTS_A_DAY;
    let opened = |network: u8, count: u32| Fact::AccountCounted {
        day: now.day(),
        networks: vec![NetworkKey([network; 16]); usize::from(count > 0)],
    };
    for _ in 0..may / 5 {
        bench.accountant.apply(now, &opened(1, 1));
    }
    bench.replica = bench.accountant.clone();
    let refused = bench.open(open(1, 1, 1)).unwrap_err();
    let Rejection::ShareUsed { what, held, .. } = refused else { panic!("{refused:?}") };
    assert_eq!((what, held), (Limited::AccountsToday, may as u64 / 5));
    assert_eq!(bench.open(open(2, 2, 2)), Ok(()), "from another network");
    bench.now = Time(101 * DAY_MS);
    assert_eq!(bench.open(open(1, 1, 1)), Ok(()), "tomorrow");
}

#[test]
fn an_invitation_opens_an_account_with_a_grant_from_anywhere_once() {
    let mut bench = Bench::new(policy(Some(grant(Asset::Grant, 100, 100, 1))));
    assert_eq!(bench.open(open(1, 1, 1)), Ok(()));
    let invited = |n: u8, invite: u8| OpenAccount { invite: Some(key(invite)), ..open(n, n, 1) };
    assert_eq!(bench.open(invited(2, 90)), Err(Rejection::InviteInvalid));
    let issue = |count: u8| (0..count).map(|n| key(90 + n)).collect::<Vec<_>>();
    bench.call(|a, turn| a.issue_invites(turn, issue(2)));
    bench.call(|a, turn| a.issue_invites(turn, issue(2)));
    assert_eq!(bench.accountant.invites_count(), 2, "the same again adds none");
    bench.restart();
    assert_eq!(bench.open(invited(2, 90)), Ok(()));
    assert_eq!(bench.available(account(2), Asset::Grant), 100, "the day's are given out");
    assert_eq!(bench.open(invited(3, 90)), Err(Rejection::InviteInvalid), "used");
    bench.call(|a, turn| {
        a.withdraw_invites(turn);
        Ok(())
    });
    assert_eq!(bench.open(invited(3, 91)), Err(Rejection::InviteInvalid), "taken back");
}

#[test]
fn what_the_sysop_says_of_an_account_is_kept_and_binds() {
    let mut bench = Bench::new(policy(Some(grant(Asset::Grant, 100, 1_000, 9))));
    bench.open(open(1, 1, 1)).unwrap();
    let limits = AccountLimits { weight: Some(5), intents: Some(1) };
    let mut limit = |n, limits| bench.call(|a, turn| a.limit_account(turn, account(n), limits));
    assert_eq!(limit(2, limits).result, Err(Rejection::UnknownAccount));
    assert_eq!(limit(1, limits).facts.len(), 1);
    assert_eq!(limit(1, limits).facts.len(), 0, "the same again");
    bench.restart();
    let mut place = |id| bench.place(meta(intent(id), account(1), 10));
    let sent = place(1);
    let [Envelope { message: Message::EnqueueWeighted { weight: 5, .. }, .. }] = &sent[..] else {
        panic!("{sent:?}")
    };
    let sent = place(2);
    let refused = Rejection::LimitReached { what: Limited::Intents, limit: 1 };
    let [Envelope { message: Message::Refused { rejection, .. }, .. }] = &sent[..] else {
        panic!("{sent:?}")
    };
    assert_eq!(*rejection, refused);
    bench.call(|a, turn| a.limit_account(turn, account(1), AccountLimits::default()));
    assert_eq!(bench.accountant.limits().count(), 0);
}

#[test]
fn keys_have_a_bound_and_an_owner() {
    let mut bench = Bench::new(Policy::default());
    bench.open(open(1, 1, 1)).unwrap();
    bench.open(open(2, 2, 1)).unwrap();
    let mut add = |n, k| bench.call(|a, turn| a.add_key(turn, account(n), key(k))).result;
    assert_eq!(add(3, 9), Err(Rejection::UnknownAccount));
    assert_eq!(add(1, 2), Err(Rejection::IdTaken));
    for k in 10..17 {
        assert_eq!(add(1, k), Ok(()));
        assert_eq!(add(1, k), Ok(()), "the same again");
    }
    let limit = limits::KEYS_PER_ACCOUNT_MAX as u64;
    assert_eq!(add(1, 17), Err(Rejection::LimitReached { what: Limited::Keys, limit }));
    let mut revoke = |n, k| bench.call(|a, turn| a.revoke_key(turn, account(n), key(k))).result;
    assert_eq!(revoke(2, 10), Err(Rejection::UnknownAccount), "only one's own");
    assert_eq!(revoke(1, 10), Ok(()));
    assert_eq!(revoke(1, 10), Err(Rejection::UnknownAccount));
    assert_eq!(revoke(2, 2), Err(Rejection::LastKey));
    assert_eq!(bench.accountant.account_of_key(key(10)), None);
    assert_eq!(bench.accountant.account_of_key(key(11)), Some(account(1)));
}

#[test]
fn of_racing_holds_exactly_those_that_are_paid_stand() {
    for k in [0_u64, 1, 7, 63, 64] {
        let mut bench = Bench::new(policy(Some(grant(Asset::Grant, 10 * k + 9, 10_000, 9))));
        bench.open(open(1, 1, 1)).unwrap();
        let mut stand = 0;
        for n in 0..64 {
            let messages = bench.place(meta(intent(n), account(1), 10));
            match enqueued(&messages) {
                Some(asset) => {
                    assert_eq!(asset, Asset::Grant);
                    stand += 1;
                }
                None => {
                    let (asset, missing) = (Asset::Grant, amount(1));
                    let short = Rejection::BalanceTooLow { asset, missing };
                    assert_eq!(refused(&messages), Some(short));
                }
            }
        }
        assert_eq!(stand, k);
    }
}

#[test]
fn an_end_pays_the_owner_the_realm_and_the_payer() {
    let mut bench = Bench::new(policy(Some(grant(Asset::Grant, 1_000, 10_000, 9))));
    bench.open(open(1, 1, 1)).unwrap();
    assert_eq!(enqueued(&bench.place(meta(intent(1), account(1), 500))), Some(Asset::Grant));
    assert_eq!(bench.held(account(1), Asset::Grant), 500);
    let outcomes = bench.resolve(resolution(intent(1), DONE, 205));
    let (end, rejection) = told(&outcomes.messages);
    assert_eq!((end.cost, end.refunded, end.sequence), (amount(205), amount(295), 3));
    assert_eq!(rejection, None);
    assert_eq!(bench.available(account(1), Asset::Grant), 795);
    assert_eq!(bench.available(OWNER, Asset::Grant), 185);
    let totals = bench.accountant.totals(Asset::Grant);
    assert_eq!((totals.realm_fee, totals.available), (amount(20), amount(980)));
    let kinds: Vec<_> = bench.transfers.iter().map(|transfer| transfer.kind).collect();
    use TransferKind::{Capture, Fee, Grant, Hold, Void};
    assert_eq!(kinds, [Grant, Hold, Capture, Fee, Void]);
    let hold = TransferId(intent(1).0);
    assert_eq!(bench.transfers[1].id, hold);
    assert!(bench.transfers[2..].iter().all(|transfer| transfer.hold == Some(hold)));
    let ids: std::collections::BTreeSet<_> = bench.transfers.iter().map(|t| t.id).collect();
    assert_eq!(ids.len(), 5, "every transfer has its own id");
}

#[test]
fn ids_of_transfers_never_move() {
    // SHA-256 of `mtor/transfer/v1`, a zero, 16 times 7, a 2; computed elsewhere.
    let id = super::accounts::derived_id(&[7; 16], TransferKind::Capture);
    assert_eq!(id.to_string(), "3e68e932df72b5814464dd744e43b5f3");
}

#[test]
fn a_cost_is_never_above_its_hold() {
    let mut bench = Bench::new(policy(Some(grant(Asset::Grant, 100, 100, 1))));
    bench.open(open(1, 1, 1)).unwrap();
    bench.place(meta(intent(1), account(1), 40));
    let (end, _) = told(&bench.resolve(resolution(intent(1), Outcome::Cancelled, 41)).messages);
    assert_eq!((end.cost, end.refunded), (amount(40), Amount::ZERO));
    bench.place(meta(intent(2), account(1), 40));
    let huge =
        Resolution { served: served(OWNER, u64::MAX), ..resolution(intent(2), DONE, u64::MAX) };
    assert_eq!(told(&bench.resolve(huge).messages).0.cost, amount(40));
}

#[test]
fn what_nobody_is_paid_for_is_void() {
    let mut bench = Bench::new(policy(Some(grant(Asset::Grant, 100, 100, 1))));
    bench.open(open(1, 1, 1)).unwrap();
    let failed = resolution(intent(1), Outcome::Failed(Code::WorkerFailed), 40);
    let rejection = Some(Rejection::NoWorker);
    let refused = Resolution { rejection, ..resolution(intent(1), Outcome::Refused, 40) };
    let unserved = Resolution { served: None, ..resolution(intent(1), DONE, 40) };
    let stranger = Resolution { served: served(account(9), 1), ..resolution(intent(1), DONE, 40) };
    for (n, resolution) in (1..).zip([failed, refused, unserved, stranger]) {
        bench.place(meta(intent(n), account(1), 100));
        let resolution = Resolution { intent: intent(n), ..resolution };
        let asked = resolution.rejection.clone();
        let (end, rejection) = told(&bench.resolve(resolution).messages);
        assert_eq!((end.cost, end.refunded), (Amount::ZERO, amount(100)));
        assert_eq!(rejection, asked);
        assert_eq!(bench.available(account(1), Asset::Grant), 100);
    }
    // After a restart the reason of a refusal is no longer known, the refusal is.
    let again = bench.place(meta(intent(2), account(1), 100));
    assert_eq!(told(&again).1, Some(Rejection::NoWorker));
    bench.restart();
    let again = bench.place(meta(intent(2), account(1), 100));
    assert_eq!(told(&again).0.outcome, Outcome::Refused);
    assert_eq!(told(&again).1, Some(Rejection::RealmRestarted));
}

#[test]
fn a_hold_of_zero_moves_nothing_and_is_resolved_once() {
    let mut bench = Bench::new(Policy::default());
    bench.open(open(1, 1, 1)).unwrap();
    assert_eq!(enqueued(&bench.place(meta(intent(1), account(1), 0))), Some(Asset::Grant));
    let first = bench.resolve(resolution(intent(1), DONE, 7));
    let second = bench.resolve(resolution(intent(1), Outcome::Cancelled, 9));
    assert_eq!(first.facts.len(), 1);
    assert!(second.facts.is_empty());
    assert_eq!(first.messages, second.messages, "the first wins");
    assert_eq!(told(&first.messages).0.sequence, 0);
    assert_eq!(bench.accountant.sequence(), 0);
}

#[test]
fn a_hold_runs_out_after_every_other_timer() {
    let mut bench = Bench::new(policy(Some(grant(Asset::Grant, 100, 100, 1))));
    bench.open(open(1, 1, 1)).unwrap();
    bench.place(meta(intent(1), account(1), 60));
    let expires = bench.now.after_ms(30_000 + limits::LEASE_MS + limits::HOLD_GRACE_MS);
    assert_eq!(bench.accountant.next_timeout(), Some(expires));
    bench.now = Time(expires.0 - 1);
    assert!(bench.tick().messages.is_empty());
    bench.now = expires;
    let (end, _) = told(&bench.tick().messages);
    assert_eq!((end.outcome, end.refunded), (Outcome::Expired, amount(60)));
    assert_eq!(bench.transfers.last().unwrap().kind, TransferKind::Expire);
    assert_eq!(bench.accountant.next_timeout(), None);
    let late = bench.resolve(resolution(intent(1), DONE, 60));
    assert_eq!(told(&late.messages).0, end, "too late");
}

#[test]
fn an_end_is_forgotten_after_its_time() {
    let mut bench = Bench::new(Policy::default());
    bench.open(open(1, 1, 1)).unwrap();
    bench.place(meta(intent(1), account(1), 0));
    bench.resolve(resolution(intent(1), DONE, 0));
    for (n, wait_ms, known) in [(2, limits::IDEMPOTENCY_MS, true), (3, 1, false)] {
        bench.now = bench.now.after_ms(wait_ms);
        // Something must be recorded for time to pass in the ledger.
        bench.place(meta(intent(n), account(1), 0));
        let answers = bench.resolve(resolution(intent(1), DONE, 0)).messages.len();
        assert_eq!(answers, usize::from(known));
    }
}

#[test]
fn an_edge_restart_voids_its_older_ephemeral_holds_only() {
    let mut bench = Bench::new(policy(Some(grant(Asset::Grant, 600, 600, 1))));
    bench.open(open(1, 1, 1)).unwrap();
    // (intent, edge, epoch, durable)
    let holds =
        [(1, 0, 1, false), (2, 0, 2, false), (3, 0, 3, false), (4, 0, 1, true), (5, 1, 1, false)];
    for (n, edge, edge_epoch, durable) in holds {
        let meta = meta(intent(n), account(1), 100);
        bench.place(IntentMeta { edge: NodeId(edge), edge_epoch, durable, ..meta });
    }
    let started = Message::EdgeStarted { edge: NodeId(0), epoch: 3 };
    let outcomes = bench.send(started.clone());
    let passed_on = Envelope { to: Service::Router, message: started.clone() };
    assert_eq!(outcomes.messages, std::slice::from_ref(&passed_on));
    let open: Vec<_> = (1..6).filter(|n| bench.accountant.hold(intent(*n)).is_some()).collect();
    assert_eq!(open, [3, 4, 5]);
    assert_eq!(bench.available(account(1), Asset::Grant), 300);
    let again = bench.send(started);
    assert_eq!((again.facts.len(), again.messages), (0, vec![passed_on]));
    // What an older boot still sends is too late.
    let late = IntentMeta { edge_epoch: 2, ..meta(intent(6), account(1), 1) };
    assert_eq!(refused(&bench.place(late)), Some(Rejection::RealmRestarted));
}

#[test]
fn a_durable_intent_comes_back_to_its_hold() {
    let mut bench = Bench::new(policy(Some(grant(Asset::Grant, 100, 100, 1))));
    bench.open(open(1, 1, 1)).unwrap();
    let meta = Arc::new(IntentMeta { durable: true, ..meta(intent(1), account(1), 60) });
    let expected = |message| vec![Envelope { to: Service::Router, message }];
    let enqueue = |recovered| {
        let (meta, asset) = (Arc::clone(&meta).into(), Asset::Grant);
        expected(Message::Enqueue { meta, asset, recovered })
    };
    assert_eq!(bench.send(Message::PlaceHold(Arc::clone(&meta).into())).messages, enqueue(false));
    bench.restart();
    let resumed = bench.send(Message::Resume(Arc::clone(&meta).into()));
    assert_eq!((resumed.facts.len(), resumed.messages), (0, enqueue(true)));
    bench.resolve(resolution(intent(1), DONE, 60));
    let late = bench.send(Message::Resume(Arc::clone(&meta).into()));
    assert_eq!(told(&late.messages).0.cost, amount(60));
    assert!(late.facts.is_empty());
    // The simulator found it: after a long partition a resume came when the end was forgotten.
    bench.now = bench.now.after_ms(2 * limits::IDEMPOTENCY_MS);
    let next = IntentMeta { id: intent(2), ceiling: amount(10), ..(*meta).clone() };
    assert_eq!(refused(&bench.place(next)), None, "what is old is forgotten here");
    let later = bench.send(Message::Resume(Arc::clone(&meta).into()));
    assert!(later.facts.is_empty(), "no second hold: {:?}", later.facts);
}

#[test]
fn the_refused_asset_is_the_one_closest_to_enough() {
    // (grant, token, ceiling) → the asset that holds or is short, and by how much.
    let cases = [
        (10, 10, 10, Ok(Asset::Grant)),
        (9, 10, 10, Ok(Asset::Token)),
        (9, 8, 10, Err((Asset::Grant, 1))),
        (8, 9, 10, Err((Asset::Token, 1))),
        (9, 9, 10, Err((Asset::Token, 1))),
        (0, 0, 10, Err((Asset::Grant, 10))),
        (0, 0, 0, Ok(Asset::Grant)),
    ];
    for (in_grant, in_token, ceiling, expected) in cases {
        let mut bench = Bench::new(Policy::default());
        bench.open(open(1, 1, 1)).unwrap();
        let mut ledger = bench.accountant.durable().clone();
        let balances = &mut ledger.accounts.get_mut(&account(1)).unwrap().balances;
        balances.grant.available = amount(in_grant);
        balances.token.available = amount(in_token);
        ledger.realm.grant.granted = amount(in_grant);
        ledger.realm.token.bridged = amount(in_token);
        bench.accountant = Accountant::restore(ledger, Policy::default());
        bench.replica = bench.accountant.clone();
        let mut turn = Turn { now: bench.now, ..Turn::default() };
        let meta = Arc::new(meta(intent(1), account(1), ceiling));
        bench.accountant.receive(&mut turn, Message::PlaceHold(meta.into()));
        bench.accountant.check_invariants().unwrap();
        let messages = Vec::from(turn.messages);
        match expected {
            Ok(asset) => assert_eq!(enqueued(&messages), Some(asset)),
            Err((asset, missing)) => {
                let missing = amount(missing);
                assert_eq!(refused(&messages), Some(Rejection::BalanceTooLow { asset, missing }));
            }
        }
    }
}

#[test]
fn a_banned_account_opens_nothing_but_its_open_intents_go_on() {
    let mut bench = Bench::new(policy(Some(grant(Asset::Grant, 100, 100, 1))));
    bench.open(open(1, 1, 1)).unwrap();
    bench.place(meta(intent(1), account(1), 10));
    let mut ban = |banned| {
        let called = bench.call(|a, turn| a.ban_account(turn, account(1), banned));
        (called.result, called.facts.len())
    };
    assert_eq!(ban(true), (Ok(()), 1));
    assert_eq!(ban(true), (Ok(()), 0));
    let banned = Some(Rejection::AccountBanned);
    assert_eq!(refused(&bench.place(meta(intent(2), account(1), 10))), banned);
    let unknown = Some(Rejection::UnknownAccount);
    assert_eq!(refused(&bench.place(meta(intent(2), account(2), 10))), unknown);
    assert_eq!(told(&bench.resolve(resolution(intent(1), DONE, 10)).messages).0.cost, amount(10));
}

#[test]
fn every_bound_is_kept() {
    let mut accountant = Accountant::new(Policy::default());
    let mut turn = Turn::default();
    accountant.open_ledger(&mut turn, REALM, 6, OWNER, [1; 32]).unwrap();
    for n in 1..=11 {
        accountant.open_account(&mut turn, &open(n, n, 1)).unwrap();
    }
    let refusals = |accountant: &mut Accountant, n: u32| {
        let mut turn = Turn::default();
        let id = IntentId(std::array::from_fn(|i| n.to_be_bytes()[i % 4]));
        let payer = account(u8::try_from(n / 10_000).unwrap() + 1);
        accountant.receive(&mut turn, Message::PlaceHold(Arc::new(meta(id, payer, 0)).into()));
        refused(&Vec::from(turn.messages))
    };
    let mut limit_of = |range: std::ops::Range<u32>| {
        range.filter_map(|n| refusals(&mut accountant, n)).collect::<Vec<_>>()
    };
    assert_eq!(limit_of(0..9_999), []);
    assert_eq!(limit_of(10_000..100_000), []);
    assert_eq!(limit_of(100_000..100_001), []);
    let what = Limited::Intents;
    let limit = limits::OPEN_INTENTS_MAX as u64;
    assert_eq!(limit_of(100_001..100_002), [Rejection::LimitReached { what, limit }]);
    assert_eq!(accountant.open_holds(), limits::OPEN_INTENTS_MAX);
    accountant.check_invariants().unwrap();
}

#[test]
fn accounts_have_a_bound() {
    let mut accountant = Accountant::new(Policy::default());
    let mut turn = Turn::default();
    accountant.open_ledger(&mut turn, REALM, 6, OWNER, [1; 32]).unwrap();
    let empty = Account {
        balances: PerAsset::default(),
        name_secret: [0; 32],
        kind: AccountKind::Guest,
        banned: false,
        keys: 0,
    };
    let ids = (1..limits::ACCOUNTS_MAX as u32)
        .map(|n| AccountId(std::array::from_fn(|i| if i < 4 { n.to_be_bytes()[i] } else { 0 })));
    // In one go: a million single insertions take seconds in a debug build.
    let mut accounts: std::collections::BTreeMap<_, _> =
        ids.map(|id| (id, empty.clone())).collect();
    accounts.append(&mut accountant.ledger.accounts);
    accountant.ledger.accounts = accounts;
    assert_eq!(accountant.accounts_count(), limits::ACCOUNTS_MAX);
    let limit = limits::ACCOUNTS_MAX as u64;
    let expected = Err(Rejection::LimitReached { what: Limited::Accounts, limit });
    assert_eq!(accountant.open_account(&mut turn, &open(77, 1, 1)), expected);
    let page: Vec<_> = accountant.accounts(Some(account(0)), 3).map(|view| view.account).collect();
    assert_eq!(page.len(), 3);
    assert!(page.is_sorted());
}
