//! What a stranger's worker may do: how much it gets, when it gets nothing, and what it is blamed for.

use mtor_types::fact::NetworkKey;
use mtor_types::intent::{Band, Branch, EndRequest, IntentMeta, Reason, Trust, Why};
use mtor_types::message::{Offered, SlotOffer};
use mtor_types::rejection::Code;
use mtor_types::standing::{Mark, Standing, Worked};
use mtor_types::worker::LeaseClaim;
use mtor_types::{AccountId, Amount, Attempt, Price, SessionId, WorkerId};

use super::tests::{meta, offered, session_of};
use super::*;
use crate::effect::Assignment;

const A: WorkerId = WorkerId([1; 32]);
const B: WorkerId = WorkerId([2; 32]);
/// Of another owner than the two.
const C: WorkerId = WorkerId([3; 32]);
const OTHER: AccountId = AccountId([88; 32]);

struct Realm {
    router: Router,
    turn: Turn,
}

impl Realm {
    fn new() -> Self {
        let turn = Turn { now: Time(1_000), epoch: 2, ..Turn::default() };
        Self { router: Router::new(), turn }
    }

    fn take(&mut self, message: Message) {
        self.router.receive(&mut self.turn, message);
        self.router.check_invariants().unwrap();
    }

    /// So many slots of echo, of which so many are earned.
    fn join(&mut self, worker: WorkerId, slots: u32, stands: impl Fn(&mut Standing)) {
        self.join_as(1, worker, slots, stands);
    }

    fn join_as(
        &mut self,
        session: u64,
        worker: WorkerId,
        slots: u32,
        stands: impl Fn(&mut Standing),
    ) {
        let price = Price { amount: Amount::from_u64(1), per: 1 };
        let (intent, model, context, group) = ("echo".into(), None, None, None);
        let offer = SlotOffer { intent, model, slots, price, band: Band::LIST, context, group };
        let Offered { mut slots, mut standings } =
            offered(session_of(worker, session, vec![offer]));
        if worker == C {
            slots.owner = OTHER;
        }
        standings.iter_mut().for_each(stands);
        self.take(Message::Offered(Offered { slots, standings }));
    }

    fn leave(&mut self, worker: WorkerId) {
        self.take(Message::SessionLost { worker, session: SessionId(1) });
    }

    /// Asks for so many, and who got them.
    fn ask(&mut self, numbers: std::ops::Range<u8>) -> Vec<Assignment> {
        for number in numbers {
            let branch = Branch::Network(NetworkKey([number; 16]));
            let meta = IntentMeta { durable: false, branch, ..meta(number) };
            let (meta, asset) = (Arc::new(meta).into(), Asset::Grant);
            self.take(Message::Enqueue { meta, asset, recovered: false });
        }
        self.granted()
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "a test looks for one effect among all")]
    fn granted(&mut self) -> Vec<Assignment> {
        let effects = std::mem::take(&mut self.turn.effects).into_iter();
        let granted = effects.filter_map(|(_, effect)| match effect {
            Effect::Assign(assignment) => Some(assignment),
            _ => None,
        });
        granted.collect()
    }

    fn end(&mut self, grant: &Assignment, why: Why) {
        let (intent, attempt) = (grant.meta.id, Some(grant.attempt));
        let (usage, delivered) = (Usage { units: 1, ..Usage::default() }, false);
        self.take(Message::End(EndRequest { intent, attempt, why, usage, delivered }));
    }

    fn fail(&mut self, grant: &Assignment, code: Code, retry: bool) {
        self.end(grant, Why::WorkerFailed { code, retry });
    }

    /// What the registry was told since.
    fn told(&mut self) -> Vec<(WorkerId, Mark)> {
        self.worked().into_iter().map(|worked| (worked.worker, worked.mark)).collect()
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "a test looks for one message among all")]
    fn worked(&mut self) -> Vec<Worked> {
        let messages = std::mem::take(&mut self.turn.messages).into_iter();
        let worked = messages.filter_map(|envelope| match envelope.message {
            Message::Worked(worked) => Some(worked),
            _ => None,
        });
        worked.collect()
    }
}

fn served(grants: &[Assignment], worker: WorkerId) -> usize {
    grants.iter().filter(|grant| grant.worker == worker).count()
}

fn probation(standing: &mut Standing) {
    (standing.proven, standing.slots) = (false, limits::EARNED_FIRST);
}

#[test]
fn of_a_thousand_declared_slots_those_that_are_earned_are_used() {
    let mut realm = Realm::new();
    realm.join(A, 1_000, probation);
    let grants = realm.ask(0..10);
    assert_eq!(served(&grants, A), 2);
    // The load is of what is earned: two of two is more than one of four.
    realm.join(B, 4, |standing| standing.proven = false);
    assert_eq!(served(&realm.granted(), B), 4);
    for (n, grant) in grants.iter().enumerate() {
        realm.end(grant, Why::Completed(Reason::Done));
        assert_eq!(realm.granted().len(), 1, "one for one, {n}");
    }
}

#[test]
fn load_is_of_earned_slots_and_class_goes_before_it() {
    let mut realm = Realm::new();
    realm.join(A, 1_000, |standing| (standing.proven, standing.slots) = (false, 4));
    realm.join(B, 4, |standing| standing.proven = false);
    let grants = realm.ask(0..4);
    assert_eq!((served(&grants, A), served(&grants, B)), (2, 2));
    realm.join(C, 2, |_| {});
    let grants = realm.ask(10..13);
    assert_eq!((served(&grants[..2], C), grants.len()), (2, 3), "proven ones first");
}

#[test]
fn who_is_ejected_serves_only_what_no_other_could() {
    let mut realm = Realm::new();
    realm.join(A, 4, |standing| standing.ejected = true);
    realm.join(B, 1, |_| {});
    let grants = realm.ask(0..3);
    assert_eq!((served(&grants, A), served(&grants, B)), (0, 1));
    // B may not serve that: it is not proven for it.
    realm.join(B, 1, |standing| standing.proven = false);
    let (asset, recovered) = (Asset::Grant, false);
    let meta = IntentMeta { trust: Trust::Proven, durable: false, ..meta(9) };
    realm.take(Message::Enqueue { meta: Arc::new(meta).into(), asset, recovered });
    assert_eq!(served(&realm.granted(), A), 1);
    // The other left: what waits is nobody else's now.
    realm.leave(B);
    assert_eq!(served(&realm.granted(), A), 2);
}

#[test]
fn work_that_one_of_the_ejected_failed_goes_to_another_when_no_other_is_left() {
    let mut realm = Realm::new();
    realm.join(B, 1, |_| {});
    let failed = realm.ask(0..1).remove(0);
    realm.join(A, 1, |_| {});
    assert_eq!(served(&realm.ask(1..2), A), 1);
    realm.fail(&failed, Code::WorkerFailed, true);
    for ejected in [B, C] {
        realm.join(ejected, 1, |standing| standing.ejected = true);
    }
    assert!(realm.granted().is_empty(), "A could");
    realm.leave(A);
    let again = realm.granted();
    assert_eq!((again.len(), served(&again, C)), (1, 1));
    assert_eq!(again[0].meta.id, failed.meta.id);
}

#[test]
fn who_failed_alone_is_blamed_and_confirmed_by_who_could() {
    let mut realm = Realm::new();
    realm.join(A, 1, |_| {});
    realm.join(B, 1, |_| {});
    let first = realm.ask(0..1).remove(0);
    realm.fail(&first, Code::WorkerFailed, true);
    assert_eq!(realm.told(), [(first.worker, Mark::Bad)]);
    let second = realm.granted().remove(0);
    realm.end(&second, Why::Completed(Reason::Done));
    assert_eq!(realm.told(), [(first.worker, Mark::Confirmed), (second.worker, Mark::Good)]);
}

#[test]
fn what_two_owners_workers_fail_is_neithers_fault_nor_a_thirds_praise_their_blame() {
    let mut realm = Realm::new();
    [A, C].into_iter().for_each(|worker| realm.join(worker, 1, |_| {}));
    let first = realm.ask(0..1).remove(0);
    realm.fail(&first, Code::WorkerFailed, true);
    let second = realm.granted().remove(0);
    realm.fail(&second, Code::WorkerFailed, true);
    assert_eq!(realm.told(), [(first.worker, Mark::Bad), (first.worker, Mark::Excused)]);
    realm.join(B, 1, |_| {});
    let third = realm.granted().remove(0);
    realm.end(&third, Why::Completed(Reason::Done));
    assert_eq!(realm.told(), [(third.worker, Mark::Good)]);
}

#[test]
fn a_stranger_that_blames_the_intent_is_asked_to_be_believed_by_another() {
    let mut realm = Realm::new();
    realm.join(A, 1, probation);
    // Preferred once it is free, so A is first while it is busy.
    realm.join(B, 1, |_| {});
    let busy = realm.ask(8..9).remove(0);
    let first = realm.ask(0..1).remove(0);
    assert_eq!((busy.worker, first.worker), (B, A));
    realm.told();
    realm.fail(&first, Code::InvalidField, false);
    realm.end(&busy, Why::Completed(Reason::Done));
    let second = realm.granted().remove(0);
    assert_eq!(realm.told(), [(B, Mark::Good)], "A is not judged yet");
    realm.end(&second, Why::Completed(Reason::Done));
    assert_eq!(realm.told(), [(A, Mark::Bad), (A, Mark::Confirmed), (B, Mark::Good)]);
}

#[test]
fn another_stranger_confirms_nothing_and_two_that_blame_the_intent_are_believed() {
    let mut realm = Realm::new();
    realm.join(A, 1, probation);
    realm.join(B, 1, probation);
    for code in [Code::InvalidField, Code::WorkerFailed] {
        let retry = code == Code::WorkerFailed;
        let first = realm.ask(0..1).remove(0);
        realm.fail(&first, code, retry);
        let second = realm.granted().remove(0);
        assert_ne!(first.worker, second.worker);
        realm.end(&second, Why::Completed(Reason::Done));
        let blamed = realm.told();
        assert!(!blamed.iter().any(|(_, mark)| *mark == Mark::Confirmed));
        assert_eq!(blamed.contains(&(first.worker, Mark::Bad)), retry);
    }
    let first = realm.ask(1..2).remove(0);
    realm.fail(&first, Code::InvalidField, false);
    let second = realm.granted().remove(0);
    realm.fail(&second, Code::InvalidField, false);
    assert!(realm.told().is_empty() && realm.granted().is_empty());
    assert_eq!(realm.router.queued() + realm.router.leased(), 0);
}

#[test]
fn what_the_realm_cannot_keep_is_no_workers_fault() {
    let mut realm = Realm::new();
    realm.join(A, 1, probation);
    realm.join(B, 1, probation);
    let first = realm.ask(0..1).remove(0);
    realm.fail(&first, Code::StoreUnavailable, false);
    assert!(realm.granted().is_empty(), "another's could not be kept either");
    assert!(realm.told().is_empty());
    assert_eq!(realm.router.queued() + realm.router.leased(), 0);
}

#[test]
fn an_answer_that_is_worth_nothing_is_nobodys_praise() {
    let mut realm = Realm::new();
    realm.join(A, 1, |_| {});
    let grant = realm.ask(0..1).remove(0);
    let (intent, attempt) = (grant.meta.id, Some(grant.attempt));
    let (why, usage, delivered) = (Why::Completed(Reason::Done), Usage::default(), false);
    realm.take(Message::End(EndRequest { intent, attempt, why, usage, delivered }));
    assert!(realm.told().is_empty());
}

#[test]
fn a_proven_worker_that_blames_the_intent_is_believed() {
    let mut realm = Realm::new();
    realm.join(A, 1, |_| {});
    realm.join(B, 1, |_| {});
    let first = realm.ask(0..1).remove(0);
    realm.fail(&first, Code::InvalidField, false);
    assert!(realm.granted().is_empty() && realm.told().is_empty());
}

#[test]
fn a_session_that_is_lost_with_work_counts_once() {
    let mut realm = Realm::new();
    realm.join(A, 8, |_| {});
    assert_eq!(realm.ask(0..8).len(), 8);
    realm.told();
    realm.leave(A);
    assert_eq!(realm.told(), [(A, Mark::Bad)]);
    // And without work not at all; nor is the realm's own start anybody's failure.
    realm.join(B, 8, |_| {});
    realm.leave(B);
    realm.join(C, 8, |_| {});
    realm.take(Message::RegistryStarted);
    assert!(realm.told().is_empty());
}

#[test]
fn leases_that_run_out_together_are_one_failure() {
    let mut realm = Realm::new();
    realm.join(A, 8, |_| {});
    realm.ask(0..8);
    realm.told();
    realm.turn.now = realm.turn.now.after_ms(limits::LEASE_MS);
    realm.router.tick(&mut realm.turn);
    assert_eq!(realm.told(), [(A, Mark::Bad)]);
}

#[test]
fn between_two_sessions_of_a_worker_nobody_who_is_ejected_takes_its_place() {
    let mut realm = Realm::new();
    realm.join(A, 1, |_| {});
    realm.join(B, 1, |standing| standing.ejected = true);
    let mut grants = realm.ask(0..2);
    assert_eq!((grants.len(), served(&grants, A)), (1, 1), "the other waits for it");
    realm.told();
    // It comes again and has forgotten what it had.
    realm.join_as(2, A, 1, |_| {});
    grants.extend(realm.granted());
    assert_eq!((grants.len(), served(&grants, A)), (2, 2));
    assert_eq!(realm.told(), [(A, Mark::Bad)], "that is lost");
}

#[test]
fn an_attempt_of_which_nothing_comes_counts_and_goes_on() {
    let mut realm = Realm::new();
    realm.join(A, 1, probation);
    let first = realm.ask(0..1).remove(0);
    assert_eq!(first.silence_ms, 30_000);
    let claim = LeaseClaim { intent: first.meta.id, attempt: first.attempt };
    let silent = |worker, session, claim| Message::Silent {
        worker,
        session: SessionId(session),
        leases: vec![claim],
    };
    // Another's, of another session, of another attempt: nothing.
    realm.take(silent(B, 1, claim));
    realm.take(silent(A, 2, claim));
    realm.take(silent(A, 1, LeaseClaim { attempt: Attempt(9), ..claim }));
    assert!(realm.told().is_empty());
    realm.take(silent(A, 1, claim));
    assert_eq!(realm.told(), [(A, Mark::Silent)]);
    assert_eq!(realm.router.leased(), 1);
    realm.end(&first, Why::Completed(Reason::Done));
    assert_eq!(realm.told(), [(A, Mark::Excused), (A, Mark::Good)], "it took its time");
}

#[test]
fn two_accounts_that_are_branches_of_their_own_are_two() {
    let mut realm = Realm::new();
    realm.join(A, 2, |_| {});
    for (number, account) in [(1, OTHER), (2, AccountId([99; 32]))] {
        let meta = IntentMeta { account, durable: false, branch: Branch::Account, ..meta(number) };
        let (meta, asset) = (Arc::new(meta).into(), Asset::Grant);
        realm.take(Message::Enqueue { meta, asset, recovered: false });
        let grant = realm.granted().remove(0);
        realm.fail(&grant, Code::WorkerFailed, true);
    }
    let branches: Vec<Branch> = realm.worked().into_iter().map(|worked| worked.branch).collect();
    assert_eq!(branches.len(), 2);
    assert_ne!(branches[0], branches[1]);
}

fn silent(realm: &mut Realm, grant: &Assignment) {
    let leases = vec![LeaseClaim { intent: grant.meta.id, attempt: grant.attempt }];
    let (worker, session) = (grant.worker, SessionId(1));
    realm.take(Message::Silent { worker, session, leases });
}

#[test]
fn silence_is_blamed_no_more_than_the_failure_that_it_led_to() {
    let mut realm = Realm::new();
    realm.join(A, 1, |_| {});
    // Of another owner.
    realm.join(C, 1, |_| {});
    let first = realm.ask(0..1).remove(0);
    silent(&mut realm, &first);
    realm.fail(&first, Code::WorkerFailed, true);
    assert_eq!(realm.told(), [(first.worker, Mark::Silent), (first.worker, Mark::Bad)]);
    let second = realm.granted().remove(0);
    silent(&mut realm, &second);
    realm.fail(&second, Code::WorkerFailed, true);
    let told = realm.told();
    assert_eq!(told.len(), 3, "{told:?}");
    for worker in [first.worker, second.worker] {
        assert!(told.contains(&(worker, Mark::Excused)), "both: {told:?}");
    }
}

#[test]
fn cancels_and_deadlines_are_nobodys_failures() {
    let mut realm = Realm::new();
    realm.join(A, 8, |_| {});
    for (grant, why) in realm.ask(0..2).iter().zip([Why::Cancelled, Why::Expired]) {
        realm.end(grant, why);
    }
    assert!(realm.told().is_empty());
}

#[test]
fn a_canary_goes_to_its_worker_at_once_or_to_nobody_and_once() {
    let mut realm = Realm::new();
    realm.join(A, 4, |_| {});
    realm.join(B, 1, probation);
    let canary = |number: u8| {
        let base = IntentMeta { durable: false, worker: Some(B), ..meta(number) };
        Message::Enqueue { meta: Arc::new(base).into(), asset: Asset::Grant, recovered: false }
    };
    realm.take(canary(1));
    let grant = realm.granted().remove(0);
    assert_eq!(grant.worker, B, "whatever is free elsewhere");
    realm.turn.messages.clear();
    realm.take(canary(2));
    assert!(realm.granted().is_empty(), "its slot is busy");
    let refused = realm.turn.messages.iter().any(|envelope| {
        matches!(&envelope.message, Message::Resolve(end) if end.rejection == Some(Rejection::NoWorker))
    });
    assert!(refused);
    realm.told();
    realm.fail(&grant, Code::WorkerFailed, true);
    assert!(realm.granted().is_empty(), "nobody else is tried with it");
    assert_eq!(realm.told(), [(B, Mark::Bad)]);
    realm.take(canary(3));
    let grant = realm.granted().remove(0);
    realm.fail(&grant, Code::WorkerFailed, false);
    assert_eq!(realm.told(), [(B, Mark::Bad)], "the realm's question is not at fault");
    realm.take(canary(4));
    let grant = realm.granted().remove(0);
    realm.end(&grant, Why::Completed(Reason::Done));
    assert!(realm.told().is_empty(), "it counts when it is looked at");
    realm.take(canary(5));
    let grant = realm.granted().remove(0);
    realm.leave(B);
    let lost = Why::WorkerFailed { code: Code::WorkerFailed, retry: true };
    realm.end(&grant, lost);
    assert!(realm.granted().is_empty());
    assert_eq!(realm.router.queued() + realm.router.leased(), 0);
}

#[test]
fn workers_of_one_owner_do_not_excuse_each_other() {
    let mut realm = Realm::new();
    // Both are of the owner of these tests' sessions.
    realm.join(A, 1, |_| {});
    realm.join(B, 1, |_| {});
    let first = realm.ask(0..1).remove(0);
    realm.fail(&first, Code::WorkerFailed, true);
    let second = realm.granted().remove(0);
    realm.fail(&second, Code::WorkerFailed, true);
    assert_eq!(realm.told(), [(first.worker, Mark::Bad)]);
}

#[test]
fn who_withdraws_its_offers_and_goes_has_lost_its_work_all_the_same() {
    let mut realm = Realm::new();
    realm.join(A, 4, |_| {});
    assert_eq!(realm.ask(0..4).len(), 4);
    realm.take(Message::Offered(offered(session_of(A, 1, Vec::new()))));
    realm.told();
    realm.leave(A);
    assert_eq!(realm.told(), [(A, Mark::Bad)]);
}
