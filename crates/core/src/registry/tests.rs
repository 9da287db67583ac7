//! The registry against an independent naive model, and its promises one by one.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "a test that overflows fails loudly, which is what it is for"
)]

use std::collections::BTreeMap;

use mtor_types::fact::Fact;
use mtor_types::fact::NetworkKey;
use mtor_types::intent::{Band, Branch};
use mtor_types::message::{Envelope, Message, Offered, Service, SlotOffer, Slots};
use mtor_types::rejection::{Limited, Whose};
use mtor_types::standing::{KindName, Mark, Proof, Standing, Worked};
use mtor_types::worker::LeaseClaim;
use mtor_types::{
    AccountId, Amount, Attempt, IntentId, KeyHash, NodeId, Price, Rejection, SessionId, Time,
    WorkerId,
};
use proptest::prelude::*;

use super::{Duty, Enrolled, Registry, Token};
use crate::effect::{CloseReason, Effect, When};
use crate::limits;
use crate::share::{Holder, Rank};
use crate::turn::Turn;

mod model;

/// The realm's own account.
const REALM: AccountId = AccountId([200; 32]);

fn owner(n: u8) -> AccountId {
    if n == 0 { REALM } else { AccountId([n; 32]) }
}

fn token(n: u8) -> KeyHash {
    KeyHash([n; 32])
}

fn worker(n: u8) -> WorkerId {
    WorkerId([n; 32])
}

fn offer(slots: u32) -> SlotOffer {
    let price = Price { amount: Amount::from_u64(1), per: 1 };
    let (intent, model, context, group) = ("echo".to_owned(), None, None, None);
    SlotOffer { intent, model, slots, price, band: Band::LIST, context, group }
}

fn claim(n: u8) -> LeaseClaim {
    LeaseClaim { intent: IntentId([n; 16]), attempt: Attempt(1) }
}

/// As an edge sends it: who owns the worker is the registry's to say.
fn slots(n: u8, session: u64, slots: u32) -> Slots {
    Slots {
        worker: worker(n),
        session: SessionId(session),
        edge: NodeId(3),
        owner: AccountId([0; 32]),
        own: true,
        proven: true,
        draining: false,
        offers: vec![offer(slots)],
        leases: vec![claim(n)],
    }
}

/// A registry, and another that only ever sees the first one's facts.
struct Bench {
    registry: Registry,
    replica: Registry,
    now: Time,
    /// What an edge has given out, by number.
    tokens: BTreeMap<u8, Token>,
}

/// What one call gave.
#[derive(Debug, PartialEq)]
struct Outcomes {
    result: Result<(), Rejection>,
    facts: Vec<Fact>,
    messages: Vec<Message>,
    effects: Vec<(When, Effect)>,
}

impl Bench {
    fn new() -> Self {
        let registry = Registry::new(REALM);
        let (now, tokens) = (Time(1_000_000), BTreeMap::new());
        Self { replica: registry.clone(), registry, now, tokens }
    }

    /// Runs one command or message, and checks what must be true after each.
    fn call(
        &mut self,
        work: impl FnOnce(&mut Registry, &mut Turn) -> Result<(), Rejection>,
    ) -> Outcomes {
        let mut turn = Turn { now: self.now, ..Turn::default() };
        let before = self.registry.durable().clone();
        let result = work(&mut self.registry, &mut turn);
        let messages = turn.messages.into_iter().map(|Envelope { to, message }| {
            assert_eq!(to, Service::Router, "the registry tells nobody else");
            message
        });
        let (messages, facts) = (messages.collect::<Vec<_>>(), turn.facts);
        let effects = Vec::from(turn.effects);
        if result.is_err() {
            assert!(facts.is_empty() && messages.is_empty() && effects.is_empty());
        }
        if facts.is_empty() {
            assert_eq!(&before, self.registry.durable(), "the enrolments change by facts only");
        }
        for fact in &facts {
            self.replica.apply(self.now, fact);
        }
        assert_eq!(self.replica.durable(), self.registry.durable(), "a replay gives the same");
        self.replica.check_invariants().expect("and keeps what is counted of it");
        self.registry.check_invariants().unwrap();
        Outcomes { result, facts, messages, effects }
    }

    /// As an edge does it, which keeps nothing of it.
    fn issue(&mut self, token_number: u8, of: u8) {
        let (hash, owner) = (token(token_number), owner(of));
        let expires = self.now.after_ms(limits::TOKEN_LIFE_MS);
        self.tokens.insert(token_number, Token { hash, owner, expires });
    }

    fn enrol(&mut self, token_number: u8, n: u8) -> Outcomes {
        let name = format!("worker {n} by {token_number}");
        let (token, worker) = (self.tokens[&token_number], worker(n));
        let own = token.owner == REALM;
        let rank = if own { Rank::Realm } else { Rank::Guest };
        let holder = Holder { account: Some(token.owner), network: None, rank };
        self.call(|registry, turn| registry.enrol(turn, token, worker, name, holder))
    }

    fn owner_banned(&mut self, of: u8, banned: bool) -> Outcomes {
        let owner = owner(of);
        self.call(|registry, turn| {
            registry.receive(turn, Message::OwnerBanned { owner, banned });
            Ok(())
        })
    }

    fn attach(&mut self, slots: Slots) -> Outcomes {
        self.call(|registry, turn| registry.attach(turn, slots))
    }

    fn heard(&mut self, n: u8, session: u64) -> Outcomes {
        self.call(|registry, turn| registry.heard(turn, worker(n), SessionId(session)))
    }

    fn renew(&mut self, n: u8, session: u64, leases: Vec<LeaseClaim>) -> Outcomes {
        self.call(|registry, turn| {
            registry.renew(turn, (worker(n), SessionId(session)), leases, Vec::new())
        })
    }

    fn detach(&mut self, n: u8, session: u64) -> Outcomes {
        self.call(|registry, turn| registry.detach(turn, worker(n), SessionId(session)))
    }

    fn ban(&mut self, n: u8, banned: bool) -> Outcomes {
        self.call(|registry, turn| registry.ban_worker(turn, worker(n), banned))
    }

    fn remove(&mut self, n: u8) -> Outcomes {
        self.call(|registry, turn| registry.remove_worker(turn, worker(n)))
    }

    fn worked(&mut self, n: u8, attempt: u64, branch: u8, mark: Mark) -> Outcomes {
        let branch = Branch::Network(NetworkKey([branch; 16]));
        let (worker, kind, intent) = (worker(n), echo(), IntentId([1; 16]));
        let attempt = Attempt(attempt);
        let worked = Worked { worker, kind, intent, attempt, branch, mark };
        self.call(|registry, turn| {
            registry.receive(turn, Message::Worked(worked));
            Ok(())
        })
    }

    fn vouch(&mut self, n: u8, vouched: bool) -> Outcomes {
        self.call(|registry, turn| registry.vouch(turn, worker(n), echo(), vouched))
    }

    fn canary(&mut self, n: u8, right: bool) -> Outcomes {
        self.call(|registry, turn| registry.judge_canary(turn, worker(n), echo(), right))
    }

    fn standing(&self, n: u8) -> Standing {
        self.registry.standing(worker(n), echo()).unwrap()
    }

    fn tick(&mut self) -> Outcomes {
        self.call(|registry, turn| {
            registry.tick(turn);
            Ok(())
        })
    }

    /// Through a snapshot's bytes, as after a crash.
    fn restart(&mut self) {
        let bytes = postcard::to_stdvec(self.registry.durable()).unwrap();
        self.registry = Registry::restore(postcard::from_bytes(&bytes).unwrap(), REALM);
        self.replica = self.registry.clone();
    }

    /// A bench with worker `n` of owner `of`.
    fn with_worker(n: u8, of: u8) -> Self {
        let mut bench = Self::new();
        bench.issue(n, of);
        assert_eq!(bench.enrol(n, n).result, Ok(()));
        bench
    }
}

fn echo() -> KindName {
    KindName { intent: "echo".to_owned(), model: None }
}

/// Of the realm's own worker.
fn own_offer(slots: Slots) -> Message {
    let standing = Standing { kind: echo(), proven: true, slots: u32::MAX, ejected: false };
    Message::Offered(Offered { slots, standings: vec![standing] })
}

fn lost(n: u8, session: u64) -> Message {
    Message::SessionLost { worker: worker(n), session: SessionId(session) }
}

fn close(when: When, n: u8, session: u64, why: CloseReason) -> (When, Effect) {
    let (worker, session, edge) = (worker(n), SessionId(session), NodeId(3));
    (when, Effect::CloseSession { edge, worker, session, why })
}

#[test]
fn a_token_enrols_once() {
    let mut bench = Bench::new();
    bench.issue(1, 7);
    assert_eq!(bench.enrol(1, 1).facts.len(), 1);
    assert_eq!(bench.enrol(1, 1).result, Ok(()), "the same worker by the same token");
    assert_eq!(bench.enrol(1, 1).facts.len(), 0);
    assert_eq!(bench.enrol(1, 2).result, Err(Rejection::TokenInvalid), "used");
    let view = bench.registry.worker(worker(1)).unwrap();
    let expected = Enrolled {
        owner: owner(7),
        name: "worker 1 by 1".to_owned(),
        token: token(1),
        token_expires: bench.tokens[&1].expires,
        own: false,
        banned: false,
        served: false,
        seen: 0,
        earned: BTreeMap::new(),
    };
    assert_eq!(view.enrolled, &expected);
}

#[test]
fn a_worker_stays_with_its_owner() {
    let mut bench = Bench::with_worker(1, 7);
    bench.issue(2, 8);
    assert_eq!(bench.enrol(2, 1).result, Err(Rejection::IdTaken));
    bench.now = bench.now.after_ms(1);
    bench.issue(3, 7);
    assert_eq!(bench.enrol(3, 1).facts.len(), 1, "a new token of its owner renews it");
    assert_eq!(bench.registry.worker(worker(1)).unwrap().enrolled.name, "worker 1 by 3");
    assert_eq!(bench.enrol(1, 1).result, Err(Rejection::TokenInvalid));
}

#[test]
fn a_token_enrols_nobody_when_its_worker_is_gone() {
    for restarts in [false, true] {
        let mut bench = Bench::with_worker(1, 7);
        bench.issue(2, 8);
        bench.remove(1);
        bench.now = bench.now.after_ms(1);
        bench.issue(3, 7);
        if restarts {
            bench.restart();
        }
        for n in [1, 4] {
            assert_eq!(bench.enrol(1, n).result, Err(Rejection::TokenInvalid), "used before");
        }
        assert_eq!(bench.enrol(2, 2).result, Ok(()), "another owner's");
        assert_eq!(bench.enrol(3, 3).result, Ok(()), "a later one");
    }
}

#[test]
fn what_is_void_is_forgotten_when_it_is_over() {
    let mut bench = Bench::with_worker(1, 7);
    bench.remove(1);
    assert_eq!(bench.registry.durable().void.len(), 1);
    bench.issue(2, 8);
    bench.enrol(2, 2);
    bench.now = bench.now.after_ms(limits::TOKEN_LIFE_MS);
    bench.remove(2);
    assert_eq!(bench.registry.durable().void.len(), 0, "its own token is over, too");
}

#[test]
fn a_token_expires() {
    let mut bench = Bench::new();
    bench.issue(1, 7);
    bench.now = bench.now.after_ms(limits::TOKEN_LIFE_MS);
    assert_eq!(bench.enrol(1, 1).result, Err(Rejection::TokenInvalid));
    bench.issue(2, 7);
    bench.now = bench.now.after_ms(limits::TOKEN_LIFE_MS - 1);
    assert_eq!(bench.enrol(2, 1).result, Ok(()));
    bench.now = bench.now.after_ms(1);
    assert_eq!(bench.enrol(2, 1).result, Ok(()), "who is enrolled by it is so for good");
}

#[test]
fn nothing_of_a_banned_owner_works() {
    let mut bench = Bench::with_worker(1, 7);
    bench.issue(2, 7);
    bench.issue(3, 8);
    bench.enrol(3, 3);
    assert_eq!(bench.attach(slots(1, 1, 1)).result, Ok(()));
    assert_eq!(bench.attach(slots(3, 1, 1)).result, Ok(()));
    let outcomes = bench.owner_banned(7, true);
    assert_eq!(outcomes.messages, [lost(1, 1)]);
    assert_eq!(outcomes.effects, [close(When::Durable, 1, 1, CloseReason::Banned)]);
    assert_eq!(bench.owner_banned(7, true).facts, [], "once");
    bench.restart();
    assert_eq!(bench.attach(slots(1, 2, 1)).result, Err(Rejection::AccountBanned));
    assert_eq!(bench.enrol(2, 2).result, Err(Rejection::AccountBanned));
    assert_eq!(bench.attach(slots(3, 2, 1)).result, Ok(()), "another's");
    bench.owner_banned(7, false);
    assert_eq!(bench.attach(slots(1, 3, 1)).result, Ok(()));
    assert_eq!(bench.enrol(2, 2).result, Ok(()));
}

/// As many more workers as there are numbers.
fn fill(bench: &mut Bench, enrolled: &Enrolled, numbers: std::ops::Range<usize>) {
    for n in numbers {
        let mut id = [0xff; 32];
        id[..8].copy_from_slice(&n.to_be_bytes());
        let enrolled = Enrolled { token: KeyHash(id), ..enrolled.clone() };
        bench.registry.enrolments.workers.insert(WorkerId(id), enrolled);
    }
    bench.registry = Registry::restore(bench.registry.enrolments.clone(), REALM);
    bench.replica = bench.registry.clone();
}

#[test]
fn workers_offers_slots_and_leases_have_bounds() {
    let mut bench = Bench::with_worker(1, 7);
    let refused =
        |outcomes: &Outcomes| matches!(outcomes.result, Err(Rejection::LimitReached { .. }));
    let fits = slots(1, 1, limits::SLOTS_PER_OFFER_MAX);
    assert_eq!(bench.attach(fits.clone()).result, Ok(()));
    assert!(refused(&bench.attach(slots(1, 1, limits::SLOTS_PER_OFFER_MAX + 1))));
    let offers = vec![offer(1); limits::OFFERS_PER_WORKER_MAX + 1];
    assert!(refused(&bench.attach(Slots { offers, ..fits.clone() })));
    let leases = vec![claim(1); limits::LEASES_PER_MESSAGE_MAX + 1];
    assert!(refused(&bench.attach(Slots { leases: leases.clone(), ..fits })));
    assert!(refused(&bench.renew(1, 1, leases)));

    bench.issue(2, 7);
    let enrolled = bench.registry.enrolments.workers[&worker(1)].clone();
    // 0 is the realm's own account: nobody else can take its room.
    bench.issue(3, 0);
    bench.issue(4, 0);
    let full = |outcomes: &Outcomes| match outcomes.result {
        Err(Rejection::ShareUsed { what: Limited::Workers, whose, held, .. }) => (whose, held),
        ref other => panic!("{other:?}"),
    };
    let others = limits::WORKERS_MAX / 2 / 9;
    fill(&mut bench, &enrolled, 1..others);
    assert_eq!(full(&bench.enrol(2, 2)), (Whose::Account, others as u64));
    bench.issue(5, 8);
    assert_eq!(bench.enrol(5, 5).result, Ok(()), "another guest's finds a place");
    assert_eq!(bench.remove(5).result, Ok(()), "and leaves it");
    assert_eq!(bench.enrol(3, 3).result, Ok(()));
    fill(&mut bench, &enrolled, others..limits::WORKERS_MAX - 1);
    assert_eq!(full(&bench.enrol(4, 4)), (Whose::Everybody, 1));
    // As many as a restart finds, whatever the bound.
    bench.restart();
    assert_eq!(full(&bench.enrol(4, 4)), (Whose::Everybody, 1));
    assert_eq!(bench.enrol(2, 1).result, Ok(()), "one that is there already is no more");
    assert_eq!(bench.registry.workers(None, 5).count(), 5);
    assert_eq!(bench.registry.workers(Some(worker(3)), 5).count(), 0, "its id is the last");
}

#[test]
fn the_registry_says_whose_worker_it_is() {
    for (of, own) in [(0, true), (7, false)] {
        let mut bench = Bench::with_worker(1, of);
        let given = slots(1, 1, 2);
        let told = Slots { owner: owner(of), own, proven: own, ..given.clone() };
        let slots = if own { u32::MAX } else { limits::EARNED_FIRST };
        let standing = Standing { kind: echo(), proven: own, slots, ejected: false };
        let told = Offered { slots: told, standings: vec![standing] };
        assert_eq!(bench.attach(given).messages, [Message::Offered(told)]);
    }
}

#[test]
fn a_newer_session_replaces_an_older_one_for_ever() {
    let mut bench = Bench::with_worker(1, 0);
    assert_eq!(bench.attach(slots(2, 1, 1)).result, Err(Rejection::UnknownWorker));
    assert_eq!(bench.attach(slots(1, 5, 1)).messages.len(), 1);
    let same = bench.attach(slots(1, 5, 2));
    assert_eq!((same.messages.len(), same.effects.len()), (1, 0), "offers changed");
    assert_eq!(bench.attach(slots(1, 4, 1)).result, Err(Rejection::UnknownWorker));
    let replaced = bench.attach(slots(1, 6, 1));
    let told = Slots { owner: REALM, ..slots(1, 6, 1) };
    assert_eq!(replaced.messages, [own_offer(told)], "which tells the loss, too");
    assert_eq!(replaced.effects, [close(When::Now, 1, 5, CloseReason::Replaced)]);
    for outcomes in [bench.heard(1, 5), bench.renew(1, 5, Vec::new()), bench.detach(1, 5)] {
        assert_eq!(outcomes.result, Err(Rejection::UnknownWorker), "stale");
    }
    assert_eq!(bench.detach(1, 6).messages, [lost(1, 6)]);
    assert_eq!(bench.attach(slots(1, 6, 1)).result, Err(Rejection::UnknownWorker), "over is over");
    assert_eq!(bench.attach(slots(1, 7, 1)).result, Ok(()));
}

#[test]
fn a_silent_session_is_lost_in_time() {
    let mut bench = Bench::with_worker(1, 0);
    bench.attach(slots(1, 1, 1));
    let first = bench.now.after_ms(limits::SESSION_SILENCE_MS);
    assert_eq!(bench.registry.next_timeout(), Some(first));
    bench.now = Time(first.0 - 1);
    assert!(bench.tick().messages.is_empty());
    let leases = vec![claim(9)];
    let renewed = bench.renew(1, 1, leases.clone());
    let (worker, session) = (worker(1), SessionId(1));
    assert_eq!(renewed.messages, [Message::Renew { worker, session, leases }]);
    bench.now = first;
    assert!(bench.tick().messages.is_empty(), "a renewal is a sign of life");
    bench.heard(1, 1);
    let second = first.after_ms(limits::SESSION_SILENCE_MS);
    assert_eq!(bench.registry.next_timeout(), Some(second));
    bench.now = second;
    let silent = bench.tick();
    assert_eq!(silent.messages, [lost(1, 1)]);
    assert_eq!(silent.effects, [close(When::Now, 1, 1, CloseReason::Silent)]);
    assert_eq!(bench.registry.next_timeout(), None);
    assert_eq!(bench.heard(1, 1).result, Err(Rejection::UnknownWorker));
}

#[test]
fn a_ban_or_removal_ends_the_session() {
    let mut bench = Bench::with_worker(1, 0);
    bench.attach(slots(1, 1, 1));
    let banned = bench.ban(1, true);
    assert_eq!(banned.messages, [lost(1, 1)]);
    assert_eq!(banned.effects, [close(When::Durable, 1, 1, CloseReason::Banned)]);
    assert_eq!(bench.ban(1, true).facts.len(), 0);
    assert_eq!(bench.attach(slots(1, 2, 1)).result, Err(Rejection::WorkerBanned));
    assert_eq!(bench.enrol(1, 1).result, Err(Rejection::WorkerBanned));
    bench.restart();
    assert_eq!(bench.attach(slots(1, 2, 1)).result, Err(Rejection::WorkerBanned));
    bench.ban(1, false);
    assert_eq!(bench.attach(slots(1, 2, 1)).result, Ok(()));
    let removed = bench.remove(1);
    assert_eq!(removed.messages, [lost(1, 2)]);
    let forgotten = (When::Durable, Effect::WorkerForgotten { worker: worker(1) });
    assert_eq!(removed.effects, [forgotten, close(When::Durable, 1, 2, CloseReason::Removed)]);
    for outcomes in [bench.remove(1), bench.ban(1, true), bench.attach(slots(1, 3, 1))] {
        assert_eq!(outcomes.result, Err(Rejection::UnknownWorker));
    }
}

#[test]
fn slots_are_earned_by_good_results_and_stay_earned() {
    let mut bench = Bench::with_worker(1, 7);
    bench.attach(slots(1, 1, 9));
    let mut attempt = 0;
    for slots in [2, 4, 8, 16] {
        assert_eq!(bench.standing(1).slots, slots);
        for n in 1..=slots {
            attempt += 1;
            let told = bench.worked(1, attempt, 1, Mark::Good).messages.len();
            assert_eq!(told, usize::from(n == slots && slots < 9), "it has no more than nine");
        }
    }
    bench.restart();
    assert_eq!(bench.standing(1).slots, 16);
    assert!(bench.worked(9, 1, 1, Mark::Good).facts.is_empty(), "an unknown worker");
}

#[test]
fn who_fails_too_much_is_out_for_a_while_and_comes_back_by_a_probe() {
    let mut bench = Bench::with_worker(1, 7);
    bench.attach(slots(1, 1, 16));
    (1..=2).for_each(|n| drop(bench.worked(1, n, 1, Mark::Good)));
    for n in 10..14 {
        assert!(bench.worked(1, n, (n % 2) as u8, Mark::Bad).messages.is_empty());
    }
    let ejected = bench.worked(1, 14, 1, Mark::Bad);
    let slots = 2;
    assert_eq!(ejected.facts, [Fact::WorkerEjected { worker: worker(1), kind: echo(), slots }]);
    assert_eq!(ejected.messages.len(), 1);
    assert_eq!((bench.standing(1).slots, bench.standing(1).ejected), (2, true));
    bench.now = bench.now.after_ms(limits::EJECTED_MS - 1);
    bench.heard(1, 1);
    assert!(bench.tick().messages.is_empty());
    bench.now = bench.now.after_ms(1);
    assert_eq!(bench.tick().messages.len(), 1);
    assert_eq!((bench.standing(1).slots, bench.standing(1).ejected), (1, false), "a probe");
    bench.worked(1, 20, 1, Mark::Good);
    assert_eq!(bench.standing(1).slots, 2);
}

#[test]
fn what_an_ejection_took_is_given_back_when_it_was_nobodys_failure() {
    let mut bench = Bench::with_worker(1, 7);
    bench.attach(slots(1, 1, 16));
    (0..6).for_each(|n| drop(bench.worked(1, n, 1, Mark::Good)));
    assert_eq!(bench.standing(1).slots, 8);
    bench.vouch(1, true);
    let five = |bench: &mut Bench, from: u64| {
        (from..from + 5).for_each(|n| drop(bench.worked(1, n, n as u8, Mark::Bad)));
        assert!(bench.standing(1).ejected);
    };
    five(&mut bench, 10);
    let back = bench.worked(1, 12, 1, Mark::Excused);
    assert_eq!(back.facts.len(), 1, "{back:?}");
    let before = (bench.standing(1), bench.registry.enrolments.clone());
    // So the next is the first, and its word stands. The other four stay: one more is the fifth.
    five(&mut bench, 20);
    assert_eq!((bench.standing(1).slots, bench.standing(1).proven), (4, true));
    bench.worked(1, 20, 1, Mark::Excused);
    assert_eq!((bench.standing(1), bench.registry.enrolments.clone()), before);
    // What the sysop said since stands.
    five(&mut bench, 30);
    bench.vouch(1, false);
    bench.worked(1, 30, 1, Mark::Excused);
    let standing = bench.standing(1);
    assert_eq!((standing.slots, standing.proven, standing.ejected), (8, false, false));
}

#[test]
fn a_proof_that_a_wrong_answer_took_does_not_come_back_with_an_ejection() {
    let mut bench = Bench::with_worker(1, 7);
    bench.attach(slots(1, 1, 16));
    (0..19).for_each(|_| drop(bench.canary(1, true)));
    bench.now = bench.now.after_ms(24 * 60 * 60 * 1000);
    bench.canary(1, true);
    assert!(bench.standing(1).proven);
    (10..14).for_each(|n| drop(bench.worked(1, n, 1, Mark::Bad)));
    bench.canary(1, false);
    assert!(bench.standing(1).ejected);
    bench.worked(1, 12, 1, Mark::Excused);
    assert!(!bench.standing(1).proven && !bench.standing(1).ejected);
}

#[test]
fn a_sysops_word_lapses_in_time_and_at_the_second_ejection() {
    let mut bench = Bench::with_worker(1, 7);
    assert_eq!(bench.vouch(9, true).result, Err(Rejection::UnknownWorker));
    bench.attach(slots(1, 1, 16));
    assert_eq!(bench.vouch(1, true).messages.len(), 1);
    bench.restart();
    assert!(bench.standing(1).proven);
    bench.now = bench.now.after_ms(limits::VOUCH_MS);
    let lapsed = Fact::ProofLapsed { worker: worker(1), kind: echo() };
    assert_eq!(bench.tick().facts.last(), Some(&lapsed));
    assert!(!bench.standing(1).proven);
    bench.vouch(1, true);
    for round in 0..2 {
        assert!(bench.standing(1).proven);
        (0..5).for_each(|n| drop(bench.worked(1, round * 10 + n, n as u8, Mark::Bad)));
        assert!(bench.standing(1).ejected);
        let Duty::Ejected { until, .. } = bench.registry.duty(worker(1), &echo()) else {
            unreachable!()
        };
        bench.now = until;
        bench.tick();
        bench.worked(1, round * 10 + 9, 1, Mark::Good);
    }
    assert!(!bench.standing(1).proven);
}

#[test]
fn right_answers_on_two_days_prove_a_worker_and_a_wrong_one_takes_it() {
    let mut bench = Bench::with_worker(1, 7);
    for _ in 0..100 {
        assert_eq!(bench.canary(1, true).result, Ok(()));
    }
    assert!(!bench.standing(1).proven, "all on one day");
    bench.canary(1, false);
    bench.now = bench.now.after_ms(24 * 60 * 60 * 1000);
    bench.canary(1, true);
    assert!(!bench.standing(1).proven, "it began anew");
    (0..18).for_each(|_| drop(bench.canary(1, true)));
    bench.now = bench.now.after_ms(24 * 60 * 60 * 1000);
    let (kind, proof, until) = (echo(), Proof::Canaries, None);
    let proven = Fact::WorkerProven { worker: worker(1), kind, proof, until };
    assert_eq!(bench.canary(1, true).facts.last(), Some(&proven));
    bench.restart();
    assert!(bench.standing(1).proven);
    assert!(bench.canary(1, true).facts.is_empty(), "proven is proven");
    bench.canary(1, false);
    assert!(!bench.standing(1).proven);
}

#[test]
fn what_payers_proved_once_proves_nothing() {
    let mut bench = Bench::with_worker(1, 7);
    let fact = Fact::WorkerServed { worker: worker(1), passed: true };
    bench.registry.apply(bench.now, &fact);
    assert!(bench.registry.worker(worker(1)).unwrap().enrolled.served);
    assert!(!bench.standing(1).proven);
    // It was told when the realm was opened, and is not told again.
    let mut turn = Turn { now: bench.now, ..Turn::default() };
    bench.registry.start(&mut turn);
    assert_eq!(turn.facts, [Fact::WorkerServed { worker: worker(1), passed: false }]);
    let mut again = Turn { now: bench.now, ..Turn::default() };
    bench.registry.start(&mut again);
    assert!(again.facts.is_empty());
}

#[test]
fn who_never_comes_again_is_forgotten_after_thirty_days_of_the_realm() {
    const DAY_MS: u64 = 24 * 60 * 60 * 1000;
    let mut bench = Bench::with_worker(1, 7);
    for (n, of) in [(2, 0), (3, 7)] {
        bench.issue(n, of);
        bench.enrol(n, n);
    }
    let (mut session, mut told) = (0, Vec::new());
    let mut day = |bench: &mut Bench, ran: bool| {
        bench.now = bench.now.after_ms(DAY_MS);
        if ran {
            session += 1;
            bench.attach(slots(3, session, 1));
            bench.now = bench.now.after_ms(limits::SESSION_SILENCE_MS);
            told.extend(bench.tick().effects);
        }
        bench.registry.workers_count()
    };
    assert_eq!(day(&mut bench, true), 3);
    (0..1_000).for_each(|_| assert_eq!(day(&mut bench, false), 3, "the realm was away"));
    let counts: Vec<usize> = (0..31).map(|_| day(&mut bench, true)).collect();
    assert_eq!((counts[28], counts[30]), (3, 2), "{counts:?}");
    assert!(bench.registry.worker(worker(1)).is_none());
    (0..60).for_each(|_| assert_eq!(day(&mut bench, true), 2, "the realm's own, and who comes"));
    let forgotten = (When::Durable, Effect::WorkerForgotten { worker: worker(1) });
    assert_eq!(told.iter().filter(|effect| **effect == forgotten).count(), 1, "edges hear of it");
}

#[test]
fn who_stays_for_months_is_here_on_every_day() {
    const DAY_MS: u64 = 24 * 60 * 60 * 1000;
    let mut bench = Bench::with_worker(1, 7);
    bench.attach(slots(1, 1, 1));
    for _ in 0..50 {
        for _ in 0..DAY_MS / limits::SESSION_SILENCE_MS / 100 {
            bench.now = bench.now.after_ms(limits::SESSION_SILENCE_MS - 1);
            bench.heard(1, 1);
        }
        bench.now = Time((bench.now.day() + 1) * DAY_MS);
        bench.heard(1, 1);
        bench.tick();
    }
    bench.detach(1, 1);
    bench.tick();
    assert_eq!(bench.registry.workers_count(), 1);
    assert_eq!(bench.attach(slots(1, 2, 1)).result, Ok(()));
}

#[test]
fn many_kinds_make_nobody_immune() {
    let mut bench = Bench::with_worker(1, 7);
    bench.attach(slots(1, 1, 16));
    for n in 0..200 {
        let kind = KindName { intent: "chat".into(), model: Some(format!("m{n}")) };
        let (worker, intent, attempt) = (worker(1), IntentId([1; 16]), Attempt(1_000 + n));
        let (branch, mark) = (Branch::Account, Mark::Good);
        let worked = Worked { worker, kind, intent, attempt, branch, mark };
        bench.call(|registry, turn| {
            registry.receive(turn, Message::Worked(worked));
            Ok(())
        });
    }
    (0..5).for_each(|n| drop(bench.worked(1, n, n as u8, Mark::Bad)));
    assert!(bench.standing(1).ejected);
}

#[test]
fn kinds_that_it_does_not_offer_take_nothings_place() {
    let mut bench = Bench::with_worker(1, 7);
    bench.attach(slots(1, 1, 16));
    let failed = |bench: &mut Bench, n: u64| {
        let kind = KindName { intent: "chat".into(), model: Some(format!("m{}", n % 64)) };
        let (worker, intent, attempt) = (worker(1), IntentId([1; 16]), Attempt(1_000 + n));
        let (branch, mark) = (Branch::Account, Mark::Bad);
        let worked = Worked { worker, kind, intent, attempt, branch, mark };
        bench.call(|registry, turn| {
            registry.receive(turn, Message::Worked(worked));
            Ok(())
        });
    };
    // A friend has it fail what it has invented, as often as it likes.
    (0..64 * 32).for_each(|n| failed(&mut bench, n));
    for n in 0..5 {
        bench.worked(1, n, n as u8, Mark::Bad);
        failed(&mut bench, 9_000 + n);
    }
    assert!(bench.standing(1).ejected);
}

#[test]
fn a_wrong_answer_fails_the_probe_that_it_is() {
    let mut bench = Bench::with_worker(1, 7);
    bench.attach(slots(1, 1, 16));
    (0..5).for_each(|n| drop(bench.worked(1, n, n as u8, Mark::Bad)));
    let until = bench.registry.next_timeout().unwrap();
    assert!(bench.standing(1).ejected);
    bench.now = bench.now.after_ms(limits::EJECTED_MS).max(until);
    bench.heard(1, 1);
    bench.tick();
    bench.attach(slots(1, 2, 16));
    assert_eq!((bench.standing(1).ejected, bench.standing(1).slots), (false, 1));
    bench.canary(1, false);
    assert!(bench.standing(1).ejected);
    bench.now = bench.now.after_ms(2 * limits::EJECTED_MS);
    bench.tick();
    bench.attach(slots(1, 3, 16));
    bench.canary(1, true);
    let standing = bench.standing(1);
    assert!(!standing.ejected && standing.slots == 1, "{standing:?}");
    let duty = bench.registry.duty(worker(1), &echo());
    assert_eq!(duty, Duty::Full, "a right one ends it");
}

#[test]
fn a_worker_remembers_so_many_kinds_and_the_best_of_them() {
    let mut bench = Bench::with_worker(1, 7);
    let vouch = |bench: &mut Bench, n: usize| {
        let kind = KindName { intent: format!("kind-{n}"), model: None };
        bench.call(|registry, turn| registry.judge_canary(turn, worker(1), kind, true));
    };
    bench.vouch(1, true);
    for n in 0..1_000 {
        vouch(&mut bench, n);
    }
    let earned = &bench.registry.worker(worker(1)).unwrap().enrolled.earned;
    assert_eq!(earned.len(), limits::STANDINGS_PER_WORKER_MAX);
    assert!(bench.standing(1).proven);
}

#[test]
fn a_start_is_told_to_the_router() {
    let outcomes = Bench::new().call(|registry, turn| {
        registry.start(turn);
        Ok(())
    });
    assert_eq!(outcomes.messages, [Message::RegistryStarted]);
}

#[test]
fn a_day_begins_for_many_workers_some_at_a_time() {
    let mut bench = Bench::new();
    let many = limits::WORKERS_SEEN_AT_ONCE * 2 + 10;
    for n in 0..many {
        let mut id = [1; 32];
        id[..8].copy_from_slice(&n.to_be_bytes());
        let (worker, session) = (WorkerId(id), SessionId(1));
        let (name, owner, token) = (n.to_string(), owner(7), token(1));
        let enrolled = Fact::WorkerEnrolled { worker, owner, name, token, own: false };
        bench.registry.apply(bench.now, &enrolled);
        let slots = Slots { worker, session, ..slots(1, 1, 1) };
        bench.registry.attach(&mut Turn { now: bench.now, ..Turn::default() }, slots).unwrap();
    }
    bench.now = bench.now.after_ms(24 * 60 * 60 * 1000);
    let mut seen = Vec::new();
    for _ in 0..3 {
        assert!(bench.registry.next_timeout() <= Some(bench.now), "there is more to do");
        let mut turn = Turn { now: bench.now, ..Turn::default() };
        bench.registry.begin_day(&mut turn);
        let facts = turn.facts.iter();
        seen.push(facts.filter(|fact| matches!(fact, Fact::WorkerSeen { .. })).count());
    }
    let some = limits::WORKERS_SEEN_AT_ONCE;
    assert_eq!(seen, [some, some, 10]);
    assert!(
        bench
            .registry
            .enrolments
            .workers
            .values()
            .all(|known| known.seen == bench.registry.enrolments.days)
    );
}
