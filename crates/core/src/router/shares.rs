//! Flows whose slots are not everybody's: what wait they are told, and what a branch gets by work that
//! fails.

use std::collections::BTreeMap;

use mtor_types::fact::NetworkKey;
use mtor_types::intent::{Band, Branch, EndRequest, Reason, Trust, Why};
use mtor_types::message::{SlotOffer, Slots};
use mtor_types::rejection::Code;
use mtor_types::{AccountId, Amount, Price, SessionId, WorkerId};

use super::tests::{meta, offered, session_of};
use super::*;
use crate::effect::Assignment;

const SIZE: u64 = 1_000;
/// A network with an account for each intent.
const CROWD: u8 = 100;

struct Realm {
    router: Router,
    turn: Turn,
    next: u32,
    /// What runs, and when it is over.
    running: BTreeMap<(Time, IntentId), Assignment>,
    began: Vec<(IntentId, Time, u8)>,
    /// Of accounts to which the sysop gave one.
    weights: BTreeMap<u8, u16>,
}

impl Realm {
    /// Work takes a second.
    fn new() -> Self {
        let turn = Turn { now: Time(100_000), epoch: 2, ..Turn::default() };
        let mut router = Router::new();
        router.estimates.learn("echo", SIZE, SIZE);
        let (running, weights) = Default::default();
        Self { router, turn, next: 0, running, began: Vec::new(), weights }
    }

    fn join(&mut self, number: u8, proven: bool, slots: u32, dear: bool) {
        let band = if dear { Band::DEAREST } else { Band::LIST };
        let price = Price { amount: Amount::from_u64(if dear { 10 } else { 1 }), per: 1 };
        let (intent, model, context, group) = ("echo".into(), None, None, None);
        let offer = SlotOffer { intent, model, slots, price, band, context, group };
        let session = session_of(WorkerId([number; 32]), number.into(), vec![offer]);
        self.take(Message::Offered(offered(Slots { proven, ..session })));
    }

    /// A worker whose one slot is taken until this is ended.
    fn one_is_busy(&mut self) -> Assignment {
        self.join(2, true, 1, false);
        self.ask(99, Trust::Any);
        self.running.pop_first().unwrap().1
    }

    fn leave(&mut self, number: u8) {
        let (worker, session) = (WorkerId([number; 32]), SessionId(number.into()));
        self.take(Message::SessionLost { worker, session });
    }

    fn take(&mut self, message: Message) {
        self.router.receive(&mut self.turn, message);
        self.router.check_invariants().unwrap();
        for (_, effect) in std::mem::take(&mut self.turn.effects) {
            if let Effect::Assign(grant) = effect {
                let branch = match grant.meta.branch {
                    Branch::Network(NetworkKey([branch, ..])) => branch,
                    Branch::Account => grant.meta.account.0[0],
                };
                self.began.push((grant.meta.id, self.turn.now, branch));
                let over = self.turn.now.after_ms(SIZE);
                self.running.insert((over, grant.meta.id), grant);
            }
        }
    }

    /// The wait that was told; `None`: refused.
    #[expect(clippy::wildcard_enum_match_arm, reason = "a test looks for one message among all")]
    fn ask(&mut self, branch: u8, trust: Trust) -> (IntentId, Option<u64>) {
        self.turn.messages.clear();
        self.next += 1;
        let mut id = [0; 16];
        id[..4].copy_from_slice(&self.next.to_be_bytes());
        let mut account = [branch; 32];
        if branch == CROWD {
            account[..4].copy_from_slice(&self.next.to_be_bytes());
        }
        let intent = IntentMeta {
            id: IntentId(id),
            account: AccountId(account),
            branch: Branch::Network(NetworkKey([branch; 16])),
            durable: false,
            trust,
            band: Band::DEAREST,
            size: SIZE,
            remaining_ms: 600_000,
            ..meta(1)
        };
        let (id, meta, asset) = (intent.id, Arc::new(intent).into(), Asset::Grant);
        let recovered = false;
        self.take(match self.weights.get(&branch).copied() {
            Some(weight) => Message::EnqueueWeighted { meta, asset, recovered, weight },
            None => Message::Enqueue { meta, asset, recovered },
        });
        let told = self.turn.messages.iter().find_map(|sent| match sent.message {
            Message::Taken { wait_ms, .. } => Some(wait_ms),
            _ => None,
        });
        (id, told)
    }

    fn end(&mut self, grant: &Assignment, why: Why) {
        let (intent, attempt) = (grant.meta.id, Some(grant.attempt));
        let (usage, delivered) = (Usage { units: 1, ..Usage::default() }, false);
        self.take(Message::End(EndRequest { intent, attempt, why, usage, delivered }));
    }

    /// The next that is over is done well.
    fn step(&mut self) {
        let Some(((at, _), grant)) = self.running.pop_first() else { return };
        self.turn.now = self.turn.now.max(at);
        // Leases go on.
        for (worker, session, leases) in self.leases() {
            self.take(Message::Renew { worker, session, leases });
        }
        self.end(&grant, Why::Completed(Reason::Done));
    }

    fn leases(&self) -> Vec<(WorkerId, SessionId, Vec<mtor_types::worker::LeaseClaim>)> {
        let mut leases = BTreeMap::new();
        for grant in self.running.values() {
            let (intent, attempt) = (grant.meta.id, grant.attempt);
            let claim = mtor_types::worker::LeaseClaim { intent, attempt };
            let held: &mut Vec<_> = leases.entry((grant.worker, grant.session)).or_default();
            held.push(claim);
        }
        leases.into_iter().map(|((worker, session), leases)| (worker, session, leases)).collect()
    }

    fn waited(&mut self, intent: IntentId, since: Time) -> u64 {
        for _ in 0..1_000 {
            if let Some((_, at, _)) = self.began.iter().find(|(of, ..)| *of == intent) {
                return at.since_ms(since);
            }
            self.step();
        }
        panic!("never served");
    }
}

/// Asks, and says what was told and what came.
fn told_and_true(realm: &mut Realm, trust: Trust) -> (u64, u64) {
    let since = realm.turn.now;
    let (intent, told) = realm.ask(200, trust);
    let came = realm.waited(intent, since);
    (told.expect("not hopeless"), came)
}

#[test]
fn who_wants_a_proven_worker_waits_for_its_slot_and_not_for_what_strangers_do() {
    let mut realm = Realm::new();
    realm.join(1, true, 1, false);
    realm.join(2, false, 9, false);
    // Ten run, and twenty accounts have five more each for anybody, and go on asking.
    for n in 0..110 {
        realm.ask(n % 20, Trust::Any);
    }
    for n in 0..200 {
        realm.step();
        realm.ask(n % 20, Trust::Any);
    }
    let (told, came) = told_and_true(&mut realm, Trust::Proven);
    // 19 seconds, when all that was done for others counted.
    assert!(told.abs_diff(came) <= 3_000, "{told} ms told, {came} came");
}

#[test]
fn who_takes_any_worker_does_not_wait_for_those_who_want_a_proven_one() {
    let mut realm = Realm::new();
    realm.join(1, true, 1, false);
    realm.join(2, false, 9, false);
    for n in 0..10 {
        realm.ask(n, Trust::Any);
    }
    for n in 0..60 {
        realm.ask(n % 20, Trust::Proven);
    }
    for n in 0..100 {
        realm.step();
        let trust = if n % 10 == 0 { Trust::Proven } else { Trust::Any };
        realm.ask(n % 20, trust);
    }
    let (told, came) = told_and_true(&mut realm, Trust::Any);
    assert!(told.abs_diff(came) <= 1_000, "{told} ms told, {came} came");
}

#[test]
fn all_who_want_the_same_are_told_as_before() {
    let mut realm = Realm::new();
    realm.join(1, true, 4, false);
    for n in 0..84 {
        realm.ask(n % 20, Trust::Proven);
    }
    for n in 0..100 {
        realm.step();
        realm.ask(n % 20, Trust::Proven);
    }
    let (told, came) = told_and_true(&mut realm, Trust::Proven);
    assert!(told.abs_diff(came) <= 4_000, "{told} ms told, {came} came");
}

#[test]
fn a_branch_gets_no_more_than_its_share_by_work_that_fails() {
    let mut realm = Realm::new();
    let busy = realm.one_is_busy();
    realm.join(1, true, 30, false);
    for _ in 0..30 {
        realm.ask(CROWD, Trust::Any);
    }
    // Thirty of one network wait for another worker.
    while let Some((_, grant)) = realm.running.pop_first() {
        realm.end(&grant, Why::WorkerFailed { code: Code::WorkerFailed, retry: true });
    }
    realm.leave(1);
    for n in 0..90 {
        realm.ask(n % 9, Trust::Any);
    }
    realm.began.clear();
    realm.end(&busy, Why::Completed(Reason::Done));
    (0..50).for_each(|_| realm.step());
    let of_all = realm.began.len();
    let failed = realm.began.iter().filter(|(.., branch)| *branch == CROWD).count();
    // One of ten branches; half, when they went first whatever their branch had had.
    assert!((4..=8).contains(&failed), "{failed} of {of_all} slots went to what had failed");
}

#[test]
fn what_failed_first_is_not_behind_a_branch_that_had_its_share() {
    let mut realm = Realm::new();
    let busy = realm.one_is_busy();
    realm.join(1, true, 12, false);
    for n in 0..12 {
        realm.ask(if n == 11 { 101 } else { CROWD }, Trust::Any);
    }
    while let Some((_, grant)) = realm.running.pop_first() {
        realm.end(&grant, Why::WorkerFailed { code: Code::WorkerFailed, retry: true });
    }
    realm.leave(1);
    for n in 0..90 {
        realm.ask(n % 9, Trust::Any);
    }
    realm.began.clear();
    realm.end(&busy, Why::Completed(Reason::Done));
    (0..30).for_each(|_| realm.step());
    let first = realm.began.iter().position(|(.., branch)| *branch == 101);
    assert!(first.is_some_and(|at| at <= 25), "{first:?}");
}

#[test]
fn a_weight_is_a_branch_of_its_own_at_once_and_as_long_as_it_is_said() {
    let mut realm = Realm::new();
    realm.join(1, true, 1, false);
    let served = |realm: &mut Realm, rounds: usize| {
        realm.began.clear();
        for _ in 0..rounds {
            realm.step();
            (1..=4).for_each(|branch| {
                realm.ask(branch, Trust::Any);
            });
        }
        realm.began.iter().filter(|(.., branch)| *branch == 4).count()
    };
    (0..8).for_each(|n| {
        realm.ask(n % 4 + 1, Trust::Any);
    });
    let alike = served(&mut realm, 40);
    assert!((9..=11).contains(&alike), "{alike} of 40, as one of four");
    realm.weights.insert(4, 3);
    // What waits of it stands under its network still.
    served(&mut realm, 40);
    let weighed = served(&mut realm, 60);
    assert!((28..=45).contains(&weighed), "{weighed} of 60, as three of six");
}
