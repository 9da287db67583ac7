//! Single rules, each as small as it gets. Schedules and faults are the simulator's.

mod adoption;
mod groups;

use mtor_types::intent::{Band, Branch, Class, EndRequest, Reason, Trust, Why};
use mtor_types::message::{Offered, SlotOffer, Slots};
use mtor_types::rejection::Code;
use mtor_types::standing::{KindName, Standing};
use mtor_types::worker::LeaseClaim;
use mtor_types::{AccountId, Amount, Attempt, Digest, NodeId, Price, SessionId, WorkerId};

use super::*;
use crate::effect::Assignment;
use crate::turn::Turn;

const A: WorkerId = WorkerId([1; 32]);
const B: WorkerId = WorkerId([2; 32]);

/// A router and what it did last.
struct World {
    router: Router,
    turn: Turn,
}

impl World {
    fn new() -> Self {
        let turn = Turn { now: Time(1_000), epoch: 2, ..Turn::default() };
        let mut world = Self { router: Router::new(), turn };
        world.router.start(&mut world.turn);
        world
    }

    fn take(&mut self, message: Message) {
        self.router.receive(&mut self.turn, message);
        self.router.check_invariants().unwrap();
    }

    fn later(&mut self, ms: u64) {
        self.turn.now = self.turn.now.after_ms(ms);
        self.router.tick(&mut self.turn);
        self.router.check_invariants().unwrap();
    }

    /// A session of a worker with so many slots of echo at each of these prices.
    fn attach(&mut self, worker: WorkerId, session: u64, slots: u32, prices: &[u64]) {
        self.attach_with(worker, session, slots, prices, Vec::new());
    }

    fn attach_with(
        &mut self,
        worker: WorkerId,
        session: u64,
        slots: u32,
        prices: &[u64],
        leases: Vec<LeaseClaim>,
    ) {
        let offer = |price: &u64| {
            let price = Price { amount: Amount::from_u64(*price), per: 1 };
            let band = Band::of_offer(price.amount, LIST).unwrap_or(Band::DEAREST);
            let (intent, model, context, group) = ("echo".into(), None, None, None);
            SlotOffer { intent, model, slots, price, band, context, group }
        };
        let offers = prices.iter().map(offer).collect();
        self.take(Message::Offered(offered(Slots {
            leases,
            ..session_of(worker, session, offers)
        })));
    }

    fn enqueue(&mut self, number: u8) {
        self.put(meta(number), false);
    }

    /// What a quote would have told is what it is told.
    #[expect(clippy::wildcard_enum_match_arm, reason = "a test looks for one message among all")]
    fn put(&mut self, meta: IntentMeta, recovered: bool) {
        let known = self.router.jobs.contains_key(&meta.id) || meta.worker.is_some();
        let quoted = self.router.wait_of(&meta, self.turn.now);
        let (meta, asset) = (Arc::new(meta).into(), Asset::Grant);
        let before = self.turn.messages.len();
        self.take(Message::Enqueue { meta, asset, recovered });
        let told = self.turn.messages.iter().skip(before).find_map(|told| match told.message {
            Message::Taken { wait_ms, .. } => Some(wait_ms),
            _ => None,
        });
        assert!(known || recovered || told.is_none_or(|told| told == quoted), "{quoted} {told:?}");
    }

    fn end(&mut self, assignment: &Assignment, why: Why) {
        let usage = Usage { units: 1, ..Usage::default() };
        let (intent, attempt) = (assignment.meta.id, Some(assignment.attempt));
        self.take(Message::End(EndRequest { intent, attempt, why, usage, delivered: false }));
    }

    fn fail(&mut self, assignment: &Assignment) {
        self.end(assignment, Why::WorkerFailed { code: Code::WorkerFailed, retry: true });
    }

    /// What was assigned or adopted since last asked.
    #[expect(clippy::wildcard_enum_match_arm, reason = "a test looks for one effect among all")]
    fn granted(&mut self) -> Vec<Assignment> {
        let effects = std::mem::take(&mut self.turn.effects).into_iter();
        let granted = effects.filter_map(|(_, effect)| match effect {
            Effect::Assign(assignment) | Effect::Adopt(assignment) => Some(assignment),
            _ => None,
        });
        granted.collect()
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "a test looks for one message among all")]
    fn resolved(&mut self) -> Vec<Resolution> {
        let messages = std::mem::take(&mut self.turn.messages).into_iter();
        let resolved = messages.filter_map(|envelope| match envelope.message {
            Message::Resolve(resolution) => Some(resolution),
            _ => None,
        });
        resolved.collect()
    }

    fn offers_of(&self, worker: WorkerId) -> usize {
        self.router.workers.get(worker).map_or(0, |known| known.offers.len())
    }
}

/// Which stands, in all that it offers, as the session says, and has earned all of its slots.
pub(super) fn offered(slots: Slots) -> Offered {
    let standing = |offer: &SlotOffer| Standing {
        kind: KindName { intent: offer.intent.clone(), model: offer.model.clone() },
        proven: slots.proven,
        slots: u32::MAX,
        ejected: false,
    };
    let standings = slots.offers.iter().map(standing).collect();
    Offered { slots, standings }
}

/// A proven worker's session.
pub(super) fn session_of(worker: WorkerId, session: u64, offers: Vec<SlotOffer>) -> Slots {
    Slots {
        worker,
        session: SessionId(session),
        edge: NodeId::default(),
        owner: AccountId([9; 32]),
        own: false,
        proven: true,
        draining: false,
        offers,
        leases: Vec::new(),
    }
}

const LIST: Price = Price { amount: Amount::from_u64(5), per: 1 };

pub(super) fn meta(number: u8) -> IntentMeta {
    IntentMeta {
        id: IntentId([number; 16]),
        account: AccountId([7; 32]),
        name: "echo".into(),
        model: None,
        trust: Trust::Any,
        class: Class::Interactive,
        durable: true,
        restart: true,
        edge: NodeId::default(),
        edge_epoch: 1,
        ceiling: Amount::from_u64(10),
        manifest: Digest([0; 32]),
        branch: Branch::Account,
        origin: None,
        worker: None,
        band: Band::of_ceiling(Amount::from_u64(10), LIST),
        size: 100,
        units_max: 1,
        bytes: 10,
        remaining_ms: 3_600_000,
        idempotency: None,
        salt: [number; 16],
    }
}

fn ephemeral(number: u8) -> IntentMeta {
    IntentMeta { durable: false, ..meta(number) }
}

#[test]
fn a_worker_that_changes_its_offers_leaves_nothing_behind() {
    let mut world = World::new();
    world.attach(A, 1, 1, &[1]);
    world.enqueue(1);
    let first = world.granted().remove(0);
    for price in 2..200 {
        world.attach(A, 1, 1, &[price]);
    }
    assert_eq!(world.offers_of(A), 2, "the one that is taken and the one that stands");
    world.end(&first, Why::Completed(Reason::Done));
    assert_eq!(world.offers_of(A), 1);
}

#[test]
fn a_pool_that_its_worker_left_for_another_price_is_given_up_in_time() {
    let mut world = World::new();
    world.attach(A, 1, 1, &[10]);
    world.enqueue(1);
    world.put(ephemeral(2), false);
    world.enqueue(3);
    world.attach(A, 1, 1, &[11]);
    let first = world.granted().remove(0);
    world.end(&first, Why::Completed(Reason::Done));
    assert!(world.granted().is_empty(), "too dear now");
    world.resolved();
    world.later(limits::UNSERVED_MS);
    let ended: Vec<Outcome> = world.resolved().into_iter().map(|end| end.outcome).collect();
    assert_eq!(ended, [Outcome::Failed(Code::NoWorker)], "what is durable waits on");
    assert_eq!(world.router.queued(), 1);
}

#[test]
fn retries_that_wait_for_another_worker_stand_in_nobodys_way() {
    let mut world = World::new();
    world.attach(A, 1, 1, &[1]);
    world.attach(B, 2, 1, &[1]);
    // B is busy for long; A fails one after the other.
    for number in 0..8 {
        world.put(ephemeral(number), false);
    }
    let granted = world.granted();
    assert_eq!(granted.len(), 2);
    let mut on_a = granted.into_iter().find(|grant| grant.worker == A).unwrap();
    for _ in 0..6 {
        world.fail(&on_a);
        let mut next = world.granted();
        assert_eq!(next.len(), 1, "a free slot takes what it may serve");
        on_a = next.remove(0);
        assert_eq!(on_a.worker, A);
    }
    world.enqueue(9);
    world.end(&on_a, Why::Completed(Reason::Done));
    let ninth = world.granted().remove(0);
    assert_eq!(ninth.meta.id, IntentId([9; 16]));
    // B goes: nobody is left for what A failed.
    world.resolved();
    let (worker, session) = (B, SessionId(2));
    world.take(Message::SessionLost { worker, session });
    world.later(limits::UNSERVED_MS);
    world.later(limits::UNSERVED_MS);
    let failed = world
        .resolved()
        .into_iter()
        .filter(|end| matches!(end.outcome, Outcome::Failed(Code::WorkerFailed)));
    assert_eq!(failed.count(), 6, "they do not wait for ever, and say why");
}

/// The edge's answer to a lost attempt.
fn lost(world: &mut World, grant: &Assignment) {
    let (worker, session) = (grant.worker, grant.session);
    world.take(Message::SessionLost { worker, session });
    world.fail(grant);
}

#[test]
fn a_lost_attempt_goes_to_the_head_and_may_go_to_the_same_worker() {
    let mut world = World::new();
    world.attach(A, 1, 1, &[1]);
    world.put(ephemeral(1), false);
    world.put(ephemeral(2), false);
    let first = world.granted().remove(0);
    lost(&mut world, &first);
    world.attach(A, 2, 1, &[1]);
    let again = world.granted().remove(0);
    assert_eq!((again.meta.id, again.worker), (first.meta.id, A), "before what came later");
    // From the second time on it comes back ever later.
    lost(&mut world, &again);
    world.attach(A, 3, 1, &[1]);
    assert_eq!(world.granted().remove(0).meta.id, IntentId([2; 16]));
    world.attach(B, 4, 1, &[1]);
    assert!(world.granted().is_empty());
    world.later(limits::LOSS_PAUSE_MS);
    let third = world.granted().remove(0);
    assert_eq!((third.meta.id, third.worker), (first.meta.id, B));
}

#[test]
fn a_lost_attempt_does_not_go_to_who_failed_it_before() {
    let mut world = World::new();
    world.attach(A, 1, 1, &[1]);
    world.attach(B, 2, 1, &[1]);
    world.enqueue(1);
    let first = world.granted().remove(0);
    world.fail(&first);
    let second = world.granted().remove(0);
    assert_ne!(first.worker, second.worker);
    world.later(limits::LEASE_MS);
    world.fail(&second);
    let third = world.granted();
    assert!(third.iter().all(|grant| grant.worker == second.worker), "{third:?}");
}

#[test]
fn what_is_lost_too_often_fails() {
    let mut world = World::new();
    world.attach(A, 1, 1, &[1]);
    world.put(ephemeral(1), false);
    for session in 2..100 {
        let Some(grant) = world.granted().pop() else { break };
        lost(&mut world, &grant);
        world.attach(A, session, 1, &[1]);
        world.later(limits::LOSS_PAUSE_MS << 8);
    }
    let ended: Vec<Outcome> = world.resolved().into_iter().map(|end| end.outcome).collect();
    assert_eq!(ended, [Outcome::Failed(Code::WorkerFailed)]);
    assert_eq!(world.router.running, 0);
}

#[test]
fn a_group_of_offers_has_its_slots_once() {
    let mut world = World::new();
    let offer = |model: &str| SlotOffer {
        intent: "chat".into(),
        model: Some(model.into()),
        slots: 2,
        price: LIST,
        band: Band::LIST,
        context: None,
        group: Some("gpu".into()),
    };
    let offers = vec![offer("a"), offer("b"), offer("c")];
    world.take(Message::Offered(offered(Slots { own: true, ..session_of(A, 1, offers) })));
    let of = |number: u8, model: &str| IntentMeta {
        name: "chat".into(),
        model: Some(model.into()),
        ..meta(number)
    };
    for (number, model) in [(1, "a"), (2, "b"), (3, "c"), (4, "a")] {
        world.put(of(number, model), false);
    }
    let granted = world.granted();
    assert_eq!(granted.len(), 2, "six would be three times what the backend can");
    world.end(&granted[0], Why::Completed(Reason::Done));
    assert_eq!(world.granted().len(), 1);
}

#[test]
fn strangers_link_nothing() {
    let mut world = World::new();
    let attach = |world: &mut World, worker: WorkerId, proven: bool| {
        let offer = |name: &str| SlotOffer {
            intent: name.into(),
            model: None,
            slots: 1,
            price: LIST,
            band: Band::LIST,
            context: None,
            group: None,
        };
        let offers = vec![offer("x"), offer("y")];
        world.take(Message::Offered(offered(Slots { proven, ..session_of(worker, 1, offers) })));
    };
    let together = |world: &World| {
        let domain = |name| world.router.queue.domain(world.router.kinds.find(name, None).unwrap());
        domain("x") == domain("y")
    };
    attach(&mut world, A, false);
    assert!(!together(&world));
    attach(&mut world, B, true);
    assert!(together(&world));
    world.take(Message::SessionLost { worker: B, session: SessionId(1) });
    world.later(limits::DOMAINS_SPLIT_MS);
    world.later(limits::DOMAINS_SPLIT_MS);
    assert!(!together(&world));
}

/// What a worker on probation says of its own speed would be everybody's wait.
#[test]
fn strangers_teach_nothing() {
    for (proven, learned) in [(false, limits::FIRST_ESTIMATE_MS), (true, 4_000)] {
        let mut world = World::new();
        let price = Price { amount: Amount::from_u64(1), per: 1 };
        let (intent, model, context, group) = ("echo".into(), None, None, None);
        let band = Band::LIST;
        let offer = SlotOffer { intent, model, slots: 1, price, band, context, group };
        let slots = Slots { proven, ..session_of(A, 1, vec![offer]) };
        world.take(Message::Offered(offered(slots)));
        world.enqueue(1);
        let grant = world.granted().remove(0);
        for _ in 0..4 {
            world.later(1_000);
            let leases = vec![LeaseClaim { intent: grant.meta.id, attempt: grant.attempt }];
            world.take(Message::Renew { worker: A, session: SessionId(1), leases });
        }
        world.end(&grant, Why::Completed(Reason::Done));
        assert_eq!(world.router.estimates.get("echo", 100).mean_ms, learned);
    }
}

#[test]
fn a_new_price_is_no_new_slot() {
    let mut world = World::new();
    world.attach(A, 1, 1, &[5]);
    world.enqueue(1);
    world.enqueue(2);
    let first = world.granted().remove(0);
    for price in [4, 3, 2] {
        world.attach(A, 1, 1, &[price]);
        assert!(world.granted().is_empty(), "its one slot is taken");
    }
    world.end(&first, Why::Completed(Reason::Done));
    assert_eq!(world.granted().len(), 1);
}

#[test]
fn a_figure_of_an_earlier_attempt_pays_nobody() {
    let mut world = World::new();
    world.attach(A, 1, 1, &[1]);
    world.attach(B, 2, 1, &[1]);
    world.enqueue(1);
    let first = world.granted().remove(0);
    world.fail(&first);
    let second = world.granted().remove(0);
    assert_ne!(first.worker, second.worker);
    let usage = Usage { units: 50, ..Usage::default() };
    let stop = |attempt: Attempt| EndRequest {
        intent: IntentId([1; 16]),
        attempt: Some(attempt),
        why: Why::Cancelled,
        usage,
        delivered: true,
    };
    world.resolved();
    world.take(Message::End(stop(first.attempt)));
    let end = world.resolved().remove(0);
    assert_eq!((end.outcome, end.usage), (Outcome::Cancelled, Usage::default()));

    world.enqueue(2);
    let grant = world.granted().remove(0);
    let stop = EndRequest { intent: IntentId([2; 16]), ..stop(grant.attempt) };
    world.take(Message::End(stop));
    assert_eq!(world.resolved().remove(0).usage, usage);
}

/// What a worker says that it holds since before the restart.
fn claim(counter: u64) -> Vec<LeaseClaim> {
    vec![LeaseClaim { intent: IntentId([1; 16]), attempt: Attempt(id::first_of_boot(1) + counter) }]
}

#[test]
fn a_lease_is_adopted_only_under_an_offer_that_meets_the_demands() {
    let mut world = World::new();
    world.put(meta(1), true);
    world.attach_with(A, 1, 1, &[11], claim(1));
    assert!(world.granted().is_empty(), "dearer than the client would pay");
    world.attach_with(B, 2, 1, &[12, 10, 9], claim(1));
    let adopted = world.granted().remove(0);
    assert_eq!((adopted.worker, adopted.price.amount), (B, Amount::from_u64(9)));
}

#[test]
fn the_newest_attempt_is_adopted_even_if_an_older_one_comes_first() {
    let mut world = World::new();
    world.put(meta(1), true);
    world.attach_with(A, 1, 1, &[1], claim(1));
    assert_eq!(world.granted().remove(0).worker, A);
    world.attach_with(B, 2, 1, &[1], claim(2));
    let effects: Vec<Effect> =
        world.turn.effects.iter().map(|(_, effect)| effect.clone()).collect();
    let revoked = |effect: &Effect| matches!(effect, Effect::Revoke { worker: A, .. });
    assert!(effects.iter().any(revoked), "{effects:?}");
    let adopted = world.granted().remove(0);
    assert_eq!((adopted.worker, adopted.attempt), (B, claim(2)[0].attempt));
    // The older one says it again.
    world.attach_with(A, 3, 1, &[1], claim(1));
    assert!(world.granted().is_empty());
}

#[test]
fn a_lease_that_another_takes_over_ends_once() {
    let mut world = World::new();
    let of = |number: u8, counter: u64| LeaseClaim {
        intent: IntentId([number; 16]),
        attempt: Attempt(id::first_of_boot(1) + counter),
    };
    world.put(meta(1), true);
    world.put(meta(2), true);
    world.attach_with(A, 1, 2, &[1], vec![of(1, 1), of(2, 2)]);
    assert_eq!(world.granted().len(), 2);
    // What runs is recounted after each command.
    world.attach_with(B, 2, 1, &[1], vec![of(1, 3)]);
    let adopted = world.granted().remove(0);
    assert_eq!((adopted.worker, world.router.leased()), (B, 2));
}

#[test]
fn a_claim_said_twice_is_one_lease() {
    let mut world = World::new();
    world.put(meta(1), true);
    world.attach_with(A, 1, 1, &[1], [claim(1), claim(1)].concat());
    let revoked = |(_, effect): &(_, Effect)| matches!(effect, Effect::Revoke { .. });
    assert!(!world.turn.effects.iter().any(revoked));
    assert_eq!((world.granted().len(), world.router.leased()), (1, 1));
}

#[test]
fn long_work_is_charged_while_it_runs() {
    let mut world = World::new();
    world.attach(A, 1, 2, &[1]);
    let of =
        |account: u8, number: u8| IntentMeta { account: AccountId([account; 32]), ..meta(number) };
    world.put(of(7, 1), false);
    let long = world.granted().remove(0);
    let leases = vec![LeaseClaim { intent: long.meta.id, attempt: long.attempt }];
    let renew = |world: &mut World| {
        let (worker, session, leases) = (A, SessionId(1), leases.clone());
        world.take(Message::Renew { worker, session, leases });
    };
    // It was thought to take a second and has taken ten.
    for _ in 0..10 {
        world.later(1_000);
        renew(&mut world);
    }
    for number in [2, 4, 6] {
        world.put(of(8, number), false);
        world.put(of(7, number + 1), false);
    }
    let mut order = Vec::new();
    for _ in 0..4 {
        let short = world.granted().remove(0);
        order.push(short.meta.account.0[0]);
        world.later(900);
        renew(&mut world);
        world.end(&short, Why::Completed(Reason::Done));
    }
    assert_eq!(order, [8, 8, 8, 7], "three of under a second each are still less than ten");
}

#[test]
fn a_reconnect_does_not_make_work_shorter() {
    let mut world = World::new();
    world.attach(A, 1, 1, &[1]);
    world.enqueue(1);
    let grant = world.granted().remove(0);
    world.later(2_000);
    let leases = vec![LeaseClaim { intent: grant.meta.id, attempt: grant.attempt }];
    world.attach_with(A, 2, 1, &[1], leases);
    let again = world.granted().remove(0);
    assert_eq!(again.attempt, grant.attempt);
    world.later(500);
    world.end(&again, Why::Completed(Reason::Done));
    assert_eq!(world.router.estimates.get("echo", 100).mean_ms, 2_500);
}

/// After a restart of the router (and of the edge, whose record of the intent was not synced) only
/// the accountant knows of the hold: the end must reach it, or the money is held until its expiry.
#[test]
fn the_end_of_an_unknown_intent_goes_on_to_the_accountant() {
    let cases = [
        (Why::PayloadGone, Some(Outcome::Failed(Code::RealmRestarted))),
        (Why::Cancelled, Some(Outcome::Cancelled)),
        (Why::Expired, Some(Outcome::Expired)),
        (Why::Completed(Reason::Done), None),
        (Why::WorkerFailed { code: Code::WorkerFailed, retry: true }, None),
    ];
    for (why, expected) in cases {
        let (mut router, mut turn) = (Router::new(), Turn::default());
        let (intent, usage) = (IntentId([1; 16]), Usage { units: 5, ..Usage::default() });
        let request = EndRequest { intent, attempt: None, why, usage, delivered: true };
        router.receive(&mut turn, Message::End(request));
        let sent = turn.messages.pop_front().map(|envelope| envelope.message);
        let resolution = expected.map(|outcome| {
            let (usage, served, rejection) = (Usage::default(), None, None);
            Message::Resolve(Resolution { intent, outcome, usage, served, rejection })
        });
        assert_eq!(sent, resolution, "{why:?}: and nobody is paid for it");
    }
}

#[test]
fn equal_workers_take_turns_and_a_cheaper_one_comes_before_them() {
    let mut world = World::new();
    const C: WorkerId = WorkerId([3; 32]);
    let served = |world: &mut World, numbers: std::ops::Range<u8>| -> Vec<WorkerId> {
        let one = |number| {
            world.enqueue(number);
            let assignment = world.granted().remove(0);
            world.end(&assignment, Why::Completed(Reason::Done));
            assignment.worker
        };
        numbers.map(one).collect()
    };
    for (session, worker) in [(1, A), (2, B), (3, C)] {
        world.attach(worker, session, 1, &[5]);
    }
    assert_eq!(served(&mut world, 0..7), [A, B, C, A, B, C, A]);
    // Offering anew, or in another session, is no way to the front.
    world.attach(A, 1, 1, &[6]);
    world.attach(A, 1, 1, &[5]);
    world.attach(C, 4, 1, &[5]);
    assert_eq!(served(&mut world, 7..10), [B, C, A]);
    world.attach(C, 4, 1, &[4]);
    assert_eq!(served(&mut world, 20..23), [C, C, C]);
    // While the cheap one is busy the others take turns again.
    world.enqueue(10);
    assert_eq!(world.granted().remove(0).worker, C);
    assert_eq!(served(&mut world, 11..15), [B, A, B, A]);
}

/// Of the account that asks in these tests, on probation, and dear.
fn own_session(worker: WorkerId, session: u64) -> Slots {
    let price = Price { amount: Amount::from_u64(50), per: 1 };
    let (intent, model, context, group) = ("echo".into(), None, None, None);
    let band = Band::DEAREST;
    let offer = SlotOffer { intent, model, slots: 1, price, band, context, group };
    let owner = meta(0).account;
    Slots { owner, proven: false, ..session_of(worker, session, vec![offer]) }
}

#[test]
fn an_accounts_own_slot_serves_it_first_under_every_trust_and_at_no_price() {
    for trust in [Trust::Own, Trust::Proven, Trust::Any] {
        let mut world = World::new();
        world.attach(A, 1, 1, &[1]);
        world.take(Message::Offered(offered(own_session(B, 2))));
        world.put(IntentMeta { trust, ..meta(1) }, false);
        let grant = world.granted().remove(0);
        assert_eq!((grant.worker, grant.price.amount), (B, Amount::ZERO), "{trust:?}");
        assert_eq!(grant.limit, 1, "no price cuts it");
        world.end(&grant, Why::Completed(Reason::Done));
        let served = world.resolved().remove(0).served.unwrap();
        assert_eq!(served.price.amount, Amount::ZERO);
    }
}

#[test]
fn what_waits_takes_its_accounts_own_slot_before_all_others_and_is_not_charged() {
    let mut world = World::new();
    world.take(Message::Offered(offered(own_session(B, 2))));
    let stranger = AccountId([3; 32]);
    let dear = Band::DEAREST;
    world.put(IntentMeta { account: stranger, band: dear, ..meta(1) }, false);
    let running = world.granted().remove(0);
    assert_eq!(running.worker, B, "a free slot idles for nobody");
    world.put(IntentMeta { account: stranger, band: dear, ..meta(2) }, false);
    // The list band and `own`: no slot but its own would do.
    world.put(IntentMeta { trust: Trust::Own, ..meta(3) }, false);
    world.put(IntentMeta { trust: Trust::Own, ..meta(4) }, false);
    world.end(&running, Why::Completed(Reason::Done));
    let own = world.granted().remove(0);
    assert_eq!(own.meta.id, meta(3).id);
    world.end(&own, Why::Completed(Reason::Done));
    assert_eq!(world.granted().remove(0).meta.id, meta(4).id);
}

#[test]
fn own_does_not_mean_the_worker_of_another() {
    let mut world = World::new();
    world.take(Message::Offered(offered(own_session(B, 2))));
    let stranger = AccountId([3; 32]);
    world.put(IntentMeta { account: stranger, trust: Trust::Own, ..meta(1) }, false);
    assert!(world.granted().is_empty());
    assert_eq!(world.resolved()[0].rejection, Some(Rejection::NoWorker));
}

#[test]
fn what_its_own_worker_failed_goes_to_another_that_it_trusts_and_back_to_nobody() {
    let mut world = World::new();
    world.attach(A, 1, 1, &[1]);
    world.take(Message::Offered(offered(own_session(B, 2))));
    world.put(meta(1), false);
    let first = world.granted().remove(0);
    world.fail(&first);
    let second = world.granted().remove(0);
    assert_eq!((first.worker, second.worker), (B, A));
    world.fail(&second);
    assert!(world.granted().is_empty());
}

#[test]
fn what_only_its_own_worker_may_serve_is_given_up_when_that_went() {
    let mut world = World::new();
    world.take(Message::Offered(offered(own_session(B, 2))));
    world.put(IntentMeta { trust: Trust::Own, ..ephemeral(1) }, false);
    world.put(IntentMeta { trust: Trust::Own, ..ephemeral(2) }, false);
    let running = world.granted().remove(0);
    // As long as it is there nobody else is missed.
    for _ in 0..70 {
        let (intent, attempt) = (running.meta.id, running.attempt);
        let leases = vec![LeaseClaim { intent, attempt }];
        world.take(Message::Renew { worker: B, session: SessionId(2), leases });
        world.later(limits::UNSERVED_MS / 30);
    }
    assert_eq!((world.router.leased(), world.router.queued()), (1, 1));
    world.take(Message::SessionLost { worker: B, session: SessionId(2) });
    world.resolved();
    for _ in 0..2 {
        world.later(limits::UNSERVED_MS);
    }
    assert_eq!(world.router.queued(), 0);
}
