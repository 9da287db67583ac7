//! The whole ring on one node, by hand. Faults and schedules are the simulator's.
#![expect(clippy::wildcard_enum_match_arm, reason = "a test looks for one effect among all")]

mod clocks;
mod costs;
mod pauses;
mod snapshots;

use std::collections::BTreeMap;

use mtor_types::amount::Price;
use mtor_types::fact::{AccountKind, Asset, Batch, NetworkKey};
use mtor_types::intent::{
    Band, Branch, Class, EndRequest, Idempotency, IntentMeta, Outcome, Reason, Trust, Usage, Why,
};
use mtor_types::message::{SlotOffer, Slots};
use mtor_types::rejection::Rejection;
use mtor_types::{
    AccountId, Amount, Attempt, Digest, IntentId, KeyHash, NodeId, RealmId, SessionId, Time,
    WorkerId,
};

use super::*;
use crate::command::{GrantPolicy, OpenAccount, Token};
use crate::effect::Assignment;
use crate::share::{Holder, Rank};

const OWNER: AccountId = AccountId([1; 32]);
const CLIENT: AccountId = AccountId([2; 32]);
const WORKER: WorkerId = WorkerId([3; 32]);

fn policy() -> Policy {
    let grant = GrantPolicy {
        asset: Asset::Grant,
        amount: Amount::from_u64(1_000),
        daily_total: Amount::from_u64(10_000),
        daily_per_network: 10,
    };
    Policy { grant: Some(grant), ..Policy::default() }
}

fn holder(account: AccountId) -> Holder {
    let rank = if account == OWNER { Rank::Realm } else { Rank::Guest };
    Holder { account: Some(account), network: None, rank }
}

/// A node with its log, its clock and everything that left it.
struct World {
    node: Node,
    log: Vec<Batch>,
    now: Time,
    left: Vec<(When, Effect)>,
}

impl World {
    /// A realm with one guest and one worker that offers `slots` of echo at one unit each.
    fn new(slots: u32) -> Self {
        let node = Node::recover(NodeConfig::whole(policy(), OWNER), NodeState::default());
        let mut world = Self { node, log: Vec::new(), now: Time(1_000), left: Vec::new() };
        world.node.start(world.now);
        let realm = RealmId([9; 32]);
        let name_secret = [7; 32];
        world.ok(Command::OpenLedger { realm, decimals: 6, owner: OWNER, name_secret });
        world.ok(Command::OpenAccount(OpenAccount {
            account: CLIENT,
            kind: AccountKind::Guest,
            key: KeyHash([5; 32]),
            name_secret,
            networks: vec![NetworkKey([0; 16])],
            invite: None,
            salt: [0; 16],
        }));
        let (hash, owner) = (KeyHash([6; 32]), OWNER);
        let token = Token { hash, owner, expires: Time(u64::MAX) };
        let (name, holder) = ("embedded".into(), holder(OWNER));
        world.ok(Command::Enrol { token, worker: WORKER, name, holder });
        world.attach(1, slots);
        world
    }

    fn attach(&mut self, session: u64, slots: u32) {
        let price = Price { amount: Amount::from_u64(1), per: 1 };
        let (intent, model, context, group) = ("echo".into(), None, None, None);
        let band = Band::LIST;
        let offers = vec![SlotOffer { intent, model, slots, price, band, context, group }];
        self.ok(Command::Attach(Slots {
            worker: WORKER,
            session: SessionId(session),
            edge: NodeId::default(),
            owner: OWNER,
            own: false,
            proven: false,
            draining: false,
            offers,
            leases: Vec::new(),
        }));
    }

    fn send(&mut self, command: Command) -> Result<(), Rejection> {
        let result = self.node.handle(self.now, command);
        self.settle();
        result
    }

    fn ok(&mut self, command: Command) {
        self.send(command).unwrap();
    }

    fn settle(&mut self) {
        while let Some(effect) = self.node.poll_effect() {
            self.left.push(effect);
        }
        self.log.extend(self.node.close_batch());
        self.node.check_invariants().unwrap();
    }

    fn later(&mut self, ms: u64) {
        let until = self.now.after_ms(ms);
        while let Some(at) = self.node.next_timeout().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.node.tick(self.now);
            self.settle();
            // The worker lives.
            let (worker, session) = (WORKER, SessionId(1));
            let _ = self.node.handle(self.now, Command::Heard { worker, session });
            self.settle();
        }
        self.now = until;
    }

    fn submit(&mut self, intent: IntentMeta) -> Result<(), Rejection> {
        self.send(Command::Submit { meta: Box::new(intent), prior: None, rank: Rank::Guest })
    }

    fn assigned(&mut self) -> Vec<Assignment> {
        let mut assigned = Vec::new();
        self.left.retain(|(_, effect)| match effect {
            Effect::Assign(assignment) => {
                assigned.push(assignment.clone());
                false
            }
            _ => true,
        });
        assigned
    }

    fn complete(&mut self, intent: IntentId, attempt: Attempt) -> Result<(), Rejection> {
        let usage = Usage { units: 1, ..Usage::default() };
        let why = Why::Completed(Reason::Done);
        let attempt = Some(attempt);
        self.send(Command::End(EndRequest { intent, attempt, why, usage, delivered: true }))
    }

    fn outcomes(&self) -> BTreeMap<IntentId, Outcome> {
        let ended = self.left.iter().filter_map(|(_, effect)| match effect {
            Effect::Ended { end, .. } => Some((end.intent, end.outcome)),
            _ => None,
        });
        ended.collect()
    }

    fn grant_of(&self, account: AccountId) -> (u128, u128) {
        let balance = *self.node.accountant().balance(account).unwrap().get(Asset::Grant);
        (balance.available.units(), balance.held.units())
    }
}

fn echo(number: u8) -> IntentMeta {
    IntentMeta {
        id: IntentId([number; 16]),
        account: CLIENT,
        name: "echo".into(),
        model: None,
        trust: Trust::Any,
        class: Class::Interactive,
        durable: false,
        restart: false,
        edge: NodeId::default(),
        edge_epoch: 1,
        ceiling: Amount::from_u64(1),
        manifest: Digest([0; 32]),
        branch: Branch::Account,
        origin: None,
        worker: None,
        band: Band::LIST,
        size: 100,
        units_max: 1,
        bytes: 10,
        remaining_ms: 60_000,
        idempotency: None,
        salt: [number; 16],
    }
}

#[test]
fn an_intent_goes_once_around_the_ring() {
    let mut world = World::new(1);
    world.submit(echo(1)).unwrap();
    let now = world.left.iter().filter(|(when, _)| *when == When::Now);
    assert!(now.clone().any(|(_, effect)| matches!(effect, Effect::Admitted { .. })));
    let assigned = world.assigned();
    assert_eq!(assigned.len(), 1);
    assert_eq!(world.grant_of(CLIENT), (999, 1));
    world.complete(assigned[0].meta.id, assigned[0].attempt).unwrap();
    assert_eq!(world.outcomes()[&IntentId([1; 16])], Outcome::Completed(Reason::Done));
    assert_eq!(world.grant_of(CLIENT), (999, 0));
    assert_eq!(world.grant_of(OWNER), (1, 0));
    assert_eq!(world.node.events().open_count(), 0);
    world.complete(assigned[0].meta.id, assigned[0].attempt).unwrap();
    assert_eq!(world.grant_of(OWNER), (1, 0), "a worker that answers twice is paid once");
}

#[test]
fn the_receipt_waits_for_the_sync_and_the_end_of_an_ephemeral_intent_does_not() {
    let mut world = World::new(1);
    world.submit(echo(1)).unwrap();
    let assigned = world.assigned();
    world.complete(assigned[0].meta.id, assigned[0].attempt).unwrap();
    let when = |wanted: fn(&Effect) -> bool| {
        world.left.iter().find(|(_, effect)| wanted(effect)).map(|(when, _)| *when)
    };
    assert_eq!(when(|effect| matches!(effect, Effect::Ended { .. })), Some(When::Now));
    assert_eq!(when(|effect| matches!(effect, Effect::Settled { .. })), Some(When::Durable));
}

#[test]
fn racing_submissions_spend_a_balance_once() {
    let mut world = World::new(1);
    for number in 0..64 {
        // A thousand base units pay ten of these.
        let ceiling = Amount::from_u64(100);
        world.submit(IntentMeta { ceiling, units_max: 1, ..echo(number) }).unwrap();
    }
    let count = |wanted: fn(&Effect) -> bool| {
        world.left.iter().filter(|(_, effect)| wanted(effect)).count()
    };
    assert_eq!(count(|effect| matches!(effect, Effect::Admitted { .. })), 10);
    assert_eq!(count(|effect| matches!(effect, Effect::Refused { .. })), 54);
    assert_eq!(world.grant_of(CLIENT), (0, 1_000));
}

#[test]
fn a_deadline_stops_the_edge_and_what_was_metered_is_paid() {
    let mut world = World::new(1);
    world.submit(IntentMeta { remaining_ms: 1_000, ..echo(1) }).unwrap();
    let attempt = world.assigned()[0].attempt;
    world.later(1_000);
    let intent = IntentId([1; 16]);
    let stop = Effect::Stop { intent, why: Why::Expired };
    assert!(world.left.contains(&(When::Now, stop)));
    let usage = Usage { units: 1, ..Usage::default() };
    let (attempt, why, delivered) = (Some(attempt), Why::Expired, true);
    world.ok(Command::End(EndRequest { intent, attempt, why, usage, delivered }));
    assert_eq!(world.outcomes()[&intent], Outcome::Expired);
    assert_eq!(world.grant_of(OWNER), (1, 0));
    assert!(world.left.iter().any(|(_, effect)| matches!(effect, Effect::Revoke { .. })));
}

#[test]
fn a_lost_worker_is_found_and_the_intent_waits_for_another_for_a_time() {
    let mut world = World::new(1);
    world.submit(echo(1)).unwrap();
    let assigned = world.assigned();
    // No sign of life any more.
    let silent = world.now.after_ms(limits::SESSION_SILENCE_MS + 1);
    world.now = silent;
    world.node.tick(silent);
    world.settle();
    let (intent, attempt) = (assigned[0].meta.id, assigned[0].attempt);
    assert!(world.left.contains(&(When::Now, Effect::Lost { intent, attempt })));
    let why = Why::WorkerFailed { code: mtor_types::Code::WorkerFailed, retry: true };
    let (attempt, usage, delivered) = (Some(attempt), Usage::default(), false);
    world.ok(Command::End(EndRequest { intent, attempt, why, usage, delivered }));
    assert!(world.outcomes().is_empty(), "a loss is not a failure");
    world.later(limits::UNSERVED_MS);
    assert_eq!(world.outcomes()[&intent], Outcome::Failed(mtor_types::Code::NoWorker));
    assert_eq!(world.grant_of(CLIENT), (1_000, 0), "failure pays nothing");
}

#[test]
fn the_same_key_and_body_join_and_another_body_is_a_conflict() {
    let mut world = World::new(1);
    let idempotency = Some(Idempotency { key: Digest([1; 32]), body: Digest([2; 32]) });
    world.submit(IntentMeta { idempotency, ..echo(1) }).unwrap();
    world.submit(IntentMeta { idempotency, ..echo(2) }).unwrap();
    let joined = Effect::Joined { asked: IntentId([2; 16]), intent: IntentId([1; 16]) };
    assert!(world.left.contains(&(When::Durable, joined)));
    let other = Some(Idempotency { key: Digest([1; 32]), body: Digest([3; 32]) });
    let refused = world.submit(IntentMeta { idempotency: other, ..echo(3) });
    assert_eq!(refused, Err(Rejection::Conflict));
    assert_eq!(world.assigned().len(), 1);
}

#[test]
fn recovery_from_any_prefix_of_the_log_equals_the_live_state() {
    let mut world = World::new(2);
    let mut digests = Vec::new();
    for number in 1..40 {
        let durable = number % 2 == 0;
        world.submit(IntentMeta { durable, ..echo(number) }).unwrap();
        for assignment in world.assigned().into_iter().take(usize::from(number % 3)) {
            world.complete(assignment.meta.id, assignment.attempt).unwrap();
        }
        digests.push((world.node.batch(), world.node.digest().unwrap()));
    }
    for (batch, digest) in digests {
        let config = NodeConfig::whole(policy(), OWNER);
        let mut node = Node::recover(config, NodeState::default());
        for batch in world.log.iter().take_while(|one| one.number <= batch) {
            node.replay(batch).unwrap();
        }
        assert_eq!(node.digest().unwrap(), digest, "after batch {batch}");
        let snapshot = NodeState::decode(&node.encode_state().unwrap()).unwrap();
        let config = NodeConfig::whole(policy(), OWNER);
        assert_eq!(Node::recover(config, snapshot).digest().unwrap(), digest);
    }
}

#[test]
fn a_boot_that_uses_up_its_numbers_takes_the_next_ones_and_the_boot_after_it_others() {
    let mut world = World::new(1);
    world.node.router.skip_numbers(u64::from(u32::MAX) - 100);
    world.submit(echo(1)).unwrap();
    assert_eq!(world.node.epoch(), 2, "recorded before it is needed");
    let first = world.assigned()[0].attempt;
    assert_eq!(mtor_types::id::boot_of(first.0), 1);
    let mut node = Node::recover(NodeConfig::whole(policy(), OWNER), NodeState::default());
    for batch in &world.log {
        node.replay(batch).unwrap();
    }
    node.start(world.now);
    assert_eq!(node.epoch(), 3);
}

#[test]
fn a_restart_voids_what_was_ephemeral_and_resumes_what_was_durable() {
    let mut world = World::new(1);
    world.submit(IntentMeta { durable: true, ..echo(1) }).unwrap();
    world.submit(echo(2)).unwrap();
    let before = world.assigned();
    let mut node = Node::recover(NodeConfig::whole(policy(), OWNER), NodeState::default());
    for batch in &world.log {
        node.replay(batch).unwrap();
    }
    world.node = node;
    world.left.clear();
    world.node.start(world.now);
    world.settle();
    assert!(world.left.iter().all(|(when, _)| *when == When::Durable));
    assert_eq!(world.grant_of(CLIENT), (999, 1), "only the durable hold is left");
    // Its worker comes back without it: after one lease time it is given out again.
    world.attach(1 << 32, 1);
    assert!(world.assigned().is_empty());
    world.now = world.now.after_ms(limits::LEASE_MS);
    world.node.tick(world.now);
    world.settle();
    let after = world.assigned();
    assert_eq!(after.len(), 1);
    assert!(after[0].attempt > before[0].attempt && after[0].fence > before[0].fence);
}

/// A node with the Event Processor only, as seen by the node with all the others.
fn apart() -> NodeConfig {
    let mut places: BTreeMap<_, _> = Service::ALL.map(|service| (service, NodeId(1))).into();
    places.insert(Service::Events, NodeId(0));
    NodeConfig { places, ..NodeConfig::whole(policy(), OWNER) }
}

#[test]
fn a_message_that_overtakes_another_is_taken_with_it_and_acknowledged_only_then() {
    let mut sender = Node::recover(apart(), NodeState::default());
    sender.start(Time(1_000));
    for number in 1..=3 {
        let meta = Box::new(echo(number));
        sender
            .handle(Time(1_000), Command::Submit { meta, prior: None, rank: Rank::Guest })
            .unwrap();
    }
    let mut sent = BTreeMap::new();
    while let Some((_, effect)) = sender.poll_effect() {
        if let Effect::Send { number, bytes, .. } = effect {
            sent.insert(number, bytes.to_vec());
        }
    }
    // The first says that the edge has started.
    assert_eq!(sent.keys().copied().collect::<Vec<_>>(), [1, 2, 3, 4]);

    let config = NodeConfig { node: NodeId(1), ..apart() };
    let mut receiver = Node::recover(config, NodeState::default());
    receiver.start(Time(2_000));
    let mut deliver = |number: u64| {
        let bytes = sent[&number].clone();
        let from = NodeId(0);
        let result = receiver.handle(Time(2_000), Command::Deliver { from, number, bytes });
        let mut acknowledged = None;
        while let Some((when, effect)) = receiver.poll_effect() {
            if let Effect::Acknowledge { number, .. } = effect {
                assert_eq!(when, When::Durable);
                acknowledged = Some(number);
            }
        }
        (result, acknowledged)
    };
    for early in [3, 2, 3] {
        assert_eq!(deliver(early), (Err(Rejection::MessageGap { expected: 1 }), None));
    }
    assert_eq!(deliver(1), (Ok(()), Some(3)), "all that is without a gap");
    assert_eq!(deliver(2), (Ok(()), Some(3)), "an old one is acknowledged again");
    assert_eq!(deliver(4), (Ok(()), Some(4)));
}
