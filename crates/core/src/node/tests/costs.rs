//! What a command costs must not grow with what was ever seen: every command of every service, and
//! every message between them, in a small realm and in a large one. Counted in looks at one of many
//! things, which no machine decides; the time is told beside it, and judged only where it could be
//! nothing but a walk over all. `cargo test --release -p mtor-core costs -- --nocapture`.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "what it took is told, on which machine"
)]

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use mtor_types::intent::End;
use mtor_types::message::{Offered, Resolution, Service};
use mtor_types::rejection::Code;
use mtor_types::standing::{KindName, Mark, Worked};
use mtor_types::worker::LeaseClaim;

use super::*;

/// Names each variant once, for a match that the compiler holds complete and for the list of what must
/// be measured.
macro_rules! each {
    ($all:ident, $name:ident, $of:ident: $($variant:ident),* $(,)?) => {
        const $all: &[&str] = &[$(stringify!($variant)),*];

        fn $name(of: &$of) -> &'static str {
            match of {
                $($of::$variant { .. } => stringify!($variant)),*
            }
        }
    };
}

each!(
    COMMANDS, command_name, Command:
    Submit, End, Stop, OpenLedger, OpenAccount, FillUp, IssueInvites, WithdrawInvites, LimitAccount,
    FundCanaries, AddKey, RevokeKey, BanAccount, Enrol, RemoveWorker, BanWorker, Vouch, JudgeCanary, Attach, Heard, Renew, Detach,
    Deliver, Acknowledged,
);

each!(
    MESSAGES, message_name, Message:
    PlaceHoldV1, EnqueueV1, ResumeV1, Refused, Taken, End, Resolve, Resolved, EdgeStarted, SlotsV1,
    SessionLost, RegistryStarted, Renew, Served, PlaceHold, Enqueue, Resume, Slots, Offered, Worked,
    Silent, OwnerBanned, EnqueueWeighted,
);

/// Became today's where they came in, or are nothing today.
const OF_OLD: [&str; 6] = ["PlaceHoldV1", "EnqueueV1", "ResumeV1", "SlotsV1", "Slots", "Served"];
/// Says that every session is over, which costs what there is to end; and what is done the more seldom
/// the more there is to look at.
const EXCEPT: [&str; 2] = ["Deliver RegistryStarted", "tick that splits domains"];

const SMALL: u32 = 40;
/// Workers of so many guests, who have a half of the places for them.
const LARGE: u32 = 9_000;
const TIMES: u32 = 8;
/// One who only looks things up looks at nothing: then so many looks are as few.
const FEW: u64 = 8;
/// No walk over ten thousand is faster, and no single command slower on a machine that is busy.
const SLOW: Duration = Duration::from_micros(200);
const SLOWER: u32 = 25;

const FAR: NodeId = NodeId(7);
const OTHER_EDGE: NodeId = NodeId(9);

fn long(number: u32) -> [u8; 32] {
    let mut bytes = [0; 32];
    // Spread, as keys are.
    let spread = u64::from(number).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bytes[..8].copy_from_slice(&spread.to_be_bytes());
    bytes[8..12].copy_from_slice(&number.to_be_bytes());
    bytes
}

fn account(number: u32) -> AccountId {
    AccountId(long(number))
}

fn worker(number: u32) -> WorkerId {
    WorkerId(long(number))
}

fn key(number: u32) -> KeyHash {
    KeyHash(long(number))
}

fn slots_of(number: u32, session: u64) -> Slots {
    let price = Price { amount: Amount::from_u64(1), per: 1 };
    let offer = |model: String| SlotOffer {
        intent: "chat".into(),
        model: Some(model),
        slots: 1,
        price,
        band: Band::LIST,
        context: None,
        group: None,
    };
    Slots {
        worker: worker(number),
        session: SessionId(session),
        edge: NodeId::default(),
        owner: account(number),
        own: false,
        proven: false,
        draining: false,
        offers: vec![offer("common".into()), offer(format!("m{number}"))],
        leases: Vec::new(),
    }
}

fn kind(number: u32) -> KindName {
    KindName { intent: "chat".into(), model: Some(format!("m{number}")) }
}

#[derive(Clone, Copy, Default)]
struct Cost {
    looks: u64,
    most: u64,
    time: Duration,
}

struct Realm {
    node: Node,
    now: Time,
    size: u32,
    intents: u32,
    /// Tokens and keys so far.
    hashes: u32,
    delivered: u64,
    running: VecDeque<Assignment>,
    costs: BTreeMap<String, Cost>,
}

impl Realm {
    /// As many accounts and workers, each with a model of its own; as many intents that are over, that
    /// run and that wait; those who were said something of by the sysop.
    fn new(size: u32) -> Self {
        let mut policy = policy();
        if let Some(grant) = &mut policy.grant {
            grant.daily_total = Amount::from_u64(u64::from(u32::MAX));
        }
        let node = Node::recover(NodeConfig::whole(policy, OWNER), NodeState::default());
        let (intents, delivered, running, costs) = Default::default();
        let (now, hashes) = (Time(1_000), 1_000_000);
        let mut realm = Self { node, now, size, intents, hashes, delivered, running, costs };
        realm.node.start(realm.now);
        realm.open_ledger();
        for number in 0..size {
            let opened = realm.opens(number);
            realm.ok(opened);
        }
        for number in 0..size {
            let token = realm.token(number);
            let (name, holder) = (format!("worker {number}"), holder(account(number)));
            realm.ok(Command::Enrol { token, worker: worker(number), name, holder });
            realm.ok(Command::Attach(slots_of(number, 1)));
            let (worker, kind) = (worker(number), kind(number));
            realm.ok(Command::Vouch { worker, kind, vouched: true });
        }
        for number in 0..size * 3 {
            let asked = realm.asks(number % size);
            realm.ok(asked);
            if number < size
                && let Some(grant) = realm.running.pop_front()
            {
                realm.ok(ends(&grant));
            }
        }
        realm
    }

    /// As an edge makes it.
    fn token(&mut self, owner: u32) -> Token {
        let (hash, owner) = (self.hash(), account(owner));
        Token { hash, owner, expires: Time(u64::MAX) }
    }

    fn hash(&mut self) -> KeyHash {
        self.hashes += 1;
        key(self.hashes)
    }

    fn open_ledger(&mut self) {
        let (realm, name_secret) = (RealmId([9; 32]), [7; 32]);
        self.ok(Command::OpenLedger { realm, decimals: 6, owner: OWNER, name_secret });
    }

    fn opens(&self, number: u32) -> Command {
        let networks = vec![NetworkKey(*long(number).first_chunk().unwrap())];
        let invite = None;
        let (account, kind, key) = (account(number), AccountKind::Guest, key(number));
        let (name_secret, salt) = ([7; 32], [0; 16]);
        let opened = OpenAccount { account, kind, key, name_secret, networks, invite, salt };
        Command::OpenAccount(opened)
    }

    fn meta(&mut self, from: u32) -> IntentMeta {
        self.intents += 1;
        let id = IntentId(*long(self.intents).first_chunk().unwrap());
        let key = Digest(long(self.intents));
        IntentMeta {
            id,
            account: account(from),
            name: "chat".into(),
            model: Some("common".into()),
            durable: self.intents.is_multiple_of(2),
            idempotency: Some(Idempotency { key, body: key }),
            ..echo(1)
        }
    }

    fn asks(&mut self, from: u32) -> Command {
        Command::Submit { meta: Box::new(self.meta(from)), prior: None, rank: Rank::Guest }
    }

    fn ok(&mut self, command: Command) {
        let said = format!("{command:?}");
        self.node.handle(self.now, command).unwrap_or_else(|no| panic!("{said}: {no:?}"));
        self.settle();
    }

    fn settle(&mut self) {
        while let Some((_, effect)) = self.node.poll_effect() {
            match effect {
                Effect::Assign(grant) => self.running.push_back(grant),
                Effect::Revoke { intent, attempt, .. } => {
                    self.running.retain(|held| (held.meta.id, held.attempt) != (intent, attempt));
                }
                _ => {}
            }
        }
        self.node.close_batch();
    }

    /// What this costs, on average and at most, and how long it takes: the median.
    fn measure(&mut self, name: &str, times: u32, mut what: impl FnMut(&mut Self, u32) -> Command) {
        self.measured(name, times, |realm, number| {
            let command = what(realm, number);
            move |realm: &mut Self| {
                let said = command_name(&command);
                let done = realm.node.handle(realm.now, command);
                assert!(done.is_ok(), "{said}: {done:?}");
            }
        });
    }

    fn measured<F: FnOnce(&mut Self)>(
        &mut self,
        name: &str,
        times: u32,
        mut what: impl FnMut(&mut Self, u32) -> F,
    ) {
        let mut cost = Cost::default();
        let mut took = Vec::new();
        for number in 0..times {
            let act = what(self, number);
            let (before, start) = (self.node.steps(), Instant::now());
            act(self);
            took.push(start.elapsed());
            let looks = self.node.steps() - before;
            (cost.looks, cost.most) = (cost.looks + looks, cost.most.max(looks));
            self.settle();
        }
        took.sort_unstable();
        cost.looks /= u64::from(times);
        cost.time = took[took.len() / 2];
        let again = self.costs.insert(name.to_owned(), cost);
        assert!(again.is_none(), "{name} is measured twice");
    }

    fn message(&mut self, to: Service, mut what: impl FnMut(&mut Self, u32) -> Message) {
        let name = message_name(&what(self, 0));
        let times = if EXCEPT.iter().any(|free| free.ends_with(name)) { 1 } else { TIMES };
        self.measure(&format!("Deliver {name}"), times, |realm, number| {
            let message = what(realm, number);
            realm.deliver(to, message)
        });
    }

    fn deliver(&mut self, to: Service, message: Message) -> Command {
        self.delivered += 1;
        let bytes = postcard::to_stdvec(&Envelope { to, message }).unwrap();
        Command::Deliver { from: FAR, number: self.delivered, bytes }
    }
}

fn ends(grant: &Assignment) -> Command {
    let (intent, attempt) = (grant.meta.id, Some(grant.attempt));
    let (usage, why) = (Usage { units: 1, ..Usage::default() }, Why::Completed(Reason::Done));
    Command::End(EndRequest { intent, attempt, why, usage, delivered: true })
}

fn claim(grant: &Assignment) -> LeaseClaim {
    LeaseClaim { intent: grant.meta.id, attempt: grant.attempt }
}

/// What clients and edges ask for.
fn measure_work(realm: &mut Realm) {
    realm.measure("Submit", TIMES, |realm, number| realm.asks(number));
    realm.measure("End", TIMES, |realm, _| ends(&realm.running.pop_front().unwrap()));
    realm.measure("End that failed", TIMES, |realm, _| {
        let grant = realm.running.pop_front().unwrap();
        let why = Why::WorkerFailed { code: Code::WorkerFailed, retry: true };
        let (intent, attempt) = (grant.meta.id, Some(grant.attempt));
        let usage = Usage::default();
        Command::End(EndRequest { intent, attempt, why, usage, delivered: false })
    });
    realm.measure("Stop", TIMES, |realm, _| {
        let intent = realm.running.pop_front().unwrap().meta.id;
        Command::Stop { intent, why: Why::Cancelled }
    });
}

fn measure_accounts(realm: &mut Realm) {
    realm.measure("OpenLedger", TIMES, |_, _| {
        let (realm, name_secret) = (RealmId([9; 32]), [7; 32]);
        Command::OpenLedger { realm, decimals: 6, owner: OWNER, name_secret }
    });
    realm.measure("OpenAccount", TIMES, |realm, number| realm.opens(realm.size + number));
    realm.measure("FundCanaries", TIMES, |_, _| Command::FundCanaries {
        amount: Amount::from_u64(100),
        salt: [0; 16],
    });
    realm.measure("FillUp", TIMES, |_, number| Command::FillUp {
        account: account(number),
        networks: vec![NetworkKey([9; 16])],
        salt: [0; 16],
    });
    realm.measure("IssueInvites", TIMES, |realm, _| {
        let invites = vec![realm.hash()];
        Command::IssueInvites { invites }
    });
    realm.measure("LimitAccount", TIMES, |_, number| {
        let limits = mtor_types::fact::AccountLimits { weight: Some(2), intents: None };
        Command::LimitAccount { account: account(number), limits }
    });
    realm.measure("WithdrawInvites", 1, |_, _| Command::WithdrawInvites);
    let first = realm.hashes;
    realm.measure("AddKey", TIMES, |realm, number| Command::AddKey {
        account: account(number),
        key: realm.hash(),
    });
    realm.measure("RevokeKey", TIMES, |_, number| Command::RevokeKey {
        account: account(number),
        key: key(first + 1 + number),
    });
    realm.measure("BanAccount", TIMES, |_, number| Command::BanAccount {
        account: account(number + 24),
        banned: number.is_multiple_of(2),
    });
}

fn measure_workers(realm: &mut Realm) {
    realm.measure("Enrol", TIMES, |realm, number| {
        let (token, worker) = (realm.token(number), worker(realm.size + number));
        let holder = holder(account(number));
        Command::Enrol { token, worker, name: "another".into(), holder }
    });
    realm.measure("Vouch", TIMES, |_, number| {
        let (worker, kind) = (worker(number), kind(number));
        Command::Vouch { worker, kind, vouched: !number.is_multiple_of(2) }
    });
    realm.measure("JudgeCanary", TIMES, |_, number| {
        let (worker, kind) = (worker(number), kind(number));
        Command::JudgeCanary { worker, kind, right: !number.is_multiple_of(2) }
    });
    realm.measure("Heard", TIMES, |_, number| {
        let (worker, session) = (worker(number), SessionId(1));
        Command::Heard { worker, session }
    });
    realm.measure("Renew", TIMES, |realm, number| {
        let grant = &realm.running[usize::try_from(number).unwrap()];
        let (worker, session) = (grant.worker, grant.session);
        Command::Renew { worker, session, leases: vec![claim(grant)], silent: vec![claim(grant)] }
    });
    realm.measure("Attach", TIMES, |_, number| Command::Attach(slots_of(number, 2)));
    realm.measure("Detach", TIMES, |_, number| {
        let (worker, session) = (worker(TIMES + number), SessionId(1));
        Command::Detach { worker, session }
    });
    realm.measure("BanWorker", TIMES, |_, number| {
        let worker = worker(TIMES * 2 + number);
        Command::BanWorker { worker, banned: true }
    });
    realm.measure("RemoveWorker", TIMES, |_, number| {
        let worker = worker(TIMES * 3 + number);
        Command::RemoveWorker { worker }
    });
}

/// What the services say to each other, as if each were a node of its own.
fn measure_messages(realm: &mut Realm) {
    realm.message(Service::Accountant, |realm, number| {
        Message::PlaceHold(Arc::new(realm.meta(number)).into())
    });
    realm.message(Service::Accountant, |realm, _| {
        Message::Resume(Arc::clone(&realm.running[0].meta).into())
    });
    realm.message(Service::Accountant, |realm, _| {
        let intent = realm.running.pop_back().unwrap().meta.id;
        let (outcome, usage) = (Outcome::Cancelled, Usage::default());
        Message::Resolve(Resolution { intent, outcome, usage, served: None, rejection: None })
    });
    realm.message(Service::Router, |realm, _| {
        let meta = Arc::clone(&realm.running[0].meta).into();
        Message::Enqueue { meta, asset: Asset::Grant, recovered: false }
    });
    realm.message(Service::Router, |realm, _| {
        let meta = Arc::clone(&realm.running[0].meta).into();
        let (asset, recovered, weight) = (Asset::Grant, false, 3);
        Message::EnqueueWeighted { meta, asset, recovered, weight }
    });
    realm.message(Service::Router, |realm, _| {
        let grant = realm.running.pop_front().unwrap();
        let (intent, attempt) = (grant.meta.id, Some(grant.attempt));
        let (why, usage) = (Why::Cancelled, Usage::default());
        Message::End(EndRequest { intent, attempt, why, usage, delivered: false })
    });
    realm.message(Service::Router, |realm, _| {
        let Assignment { worker, session, .. } = realm.running[0];
        Message::Renew { worker, session, leases: vec![claim(&realm.running[0])] }
    });
    realm.message(Service::Router, |realm, _| {
        let Assignment { worker, session, .. } = realm.running[0];
        Message::Silent { worker, session, leases: vec![claim(&realm.running[0])] }
    });
    realm.message(Service::Router, |_, number| {
        Message::Offered(Offered { slots: slots_of(number, 3), standings: Vec::new() })
    });
    realm.message(Service::Router, |_, number| {
        let (worker, session) = (worker(number), SessionId(3));
        Message::SessionLost { worker, session }
    });
    realm.message(Service::Events, |realm, _| {
        let (intent, rejection) = (realm.meta(0).id, Rejection::NoWorker);
        Message::Refused { intent, rejection }
    });
    realm.message(Service::Events, |realm, _| {
        let (intent, asset, hold) = (realm.running[0].meta.id, Asset::Grant, Amount::ZERO);
        Message::Taken { intent, asset, hold, position: 0, wait_ms: 0 }
    });
    realm.message(Service::Events, |realm, _| {
        let intent = realm.running.pop_back().unwrap().meta.id;
        let (outcome, usage, asset) = (Outcome::Cancelled, Usage::default(), Asset::Grant);
        let (cost, refunded, sequence) = (Amount::ZERO, Amount::ZERO, 0);
        let end = End { intent, outcome, usage, asset, cost, refunded, sequence };
        Message::Resolved { end, rejection: None }
    });
    realm.message(Service::Registry, |realm, number| {
        let grant = &realm.running[0];
        let (worker, kind) = (worker(TIMES * 4 + number), kind(TIMES * 4 + number));
        let (intent, attempt, branch) = (grant.meta.id, grant.attempt, grant.meta.branch);
        Message::Worked(Worked { worker, kind, intent, attempt, branch, mark: Mark::Bad })
    });
    realm.message(Service::Registry, |_, number| Message::OwnerBanned {
        owner: account(TIMES * 4 + number),
        banned: true,
    });
    measure_starts(realm);
}

/// Of an edge and of the registry.
fn measure_starts(realm: &mut Realm) {
    // What that edge has is the same in both realms; others have more.
    for number in 0..TIMES {
        let mut meta = realm.meta(number);
        (meta.edge, meta.durable) = (OTHER_EDGE, false);
        let command = realm.deliver(Service::Router, {
            let meta = Arc::new(meta).into();
            Message::Enqueue { meta, asset: Asset::Grant, recovered: true }
        });
        realm.ok(command);
    }
    realm.message(Service::Accountant, |_, number| Message::EdgeStarted {
        edge: OTHER_EDGE,
        epoch: 2 + number,
    });
    realm.message(Service::Router, |_, _| Message::RegistryStarted);
}

/// What happens by itself, and what others ask of the node's thread.
fn measure_moments(realm: &mut Realm) {
    realm.measured("what can be asked, in part", TIMES, |_, _| {
        |realm: &mut Realm| {
            assert!(!realm.node.router().pools_view(None, 64, realm.now).0.is_empty())
        }
    });
    realm.measured("tick that splits domains", 1, |realm, _| {
        realm.now = realm.now.after_ms(limits::DOMAINS_SPLIT_MS);
        |realm: &mut Realm| realm.node.tick(realm.now)
    });
    realm.measured("tick", TIMES, |realm, _| {
        realm.now = realm.now.after_ms(1);
        |realm: &mut Realm| realm.node.tick(realm.now)
    });
    realm.measure("Acknowledged", TIMES, |_, number| Command::Acknowledged {
        by: FAR,
        number: number.into(),
    });
    // Nobody renews and no tick is played: what is asked now comes after what ended long before.
    realm.now = realm.now.after_ms(limits::IDEMPOTENCY_MS * 2);
    realm.measure("Submit after a quiet time", TIMES, |realm, number| realm.asks(number));
}

fn costs_of(size: u32) -> BTreeMap<String, Cost> {
    let mut realm = Realm::new(size);
    measure_work(&mut realm);
    measure_accounts(&mut realm);
    measure_workers(&mut realm);
    measure_moments(&mut realm);
    measure_messages(&mut realm);
    realm.node.check_invariants().unwrap();
    realm.costs
}

fn machine() -> String {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{}, {cores} cores", model.trim_start_matches(['\t', ' ', ':']))
}

#[test]
fn no_command_costs_more_in_a_realm_that_has_seen_much() {
    let (few, many) = (costs_of(SMALL), costs_of(LARGE));
    println!("mtor-core {} on {}", env!("CARGO_PKG_VERSION"), machine());
    println!("{:<26} {:^24}   {:^24}", "", SMALL, LARGE);
    let mut grown = Vec::new();
    for (name, small) in &few {
        let large = many[name];
        println!(
            "{name:<26} {:>6} {:>6} {:>10.1?}   {:>6} {:>6} {:>10.1?}",
            small.looks, small.most, small.time, large.looks, large.most, large.time
        );
        let free = EXCEPT.contains(&name.as_str());
        let more = large.looks > 2 * small.looks.max(FEW) || large.most > 2 * small.most.max(FEW);
        let slower = large.time > SLOW && large.time > small.time * SLOWER;
        if (more || slower) && !free {
            grown.push(name.clone());
        }
    }
    assert!(grown.is_empty(), "these grow with what was ever seen: {grown:?}");
    let missing = |all: &[&str], prefix: &str| -> Vec<String> {
        let names = all.iter().map(|name| format!("{prefix}{name}"));
        names.filter(|name| !few.keys().any(|measured| measured.starts_with(name))).collect()
    };
    assert_eq!(missing(COMMANDS, ""), Vec::<String>::new(), "are not measured");
    let today: Vec<&str> = MESSAGES.iter().copied().filter(|name| !OF_OLD.contains(name)).collect();
    assert_eq!(missing(&today, "Deliver "), Vec::<String>::new(), "are not measured");
}
