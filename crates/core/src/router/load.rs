//! Admission under load, in virtual time: clients of many accounts, own workers, mixed sizes, and
//! what the router told and refused compared with what came. `cargo test --release -p mtor-core load
//! -- --nocapture` prints the figures.
#![expect(clippy::print_stdout, reason = "the figures are told")]

use std::collections::{BTreeMap, BTreeSet};

use mtor_types::intent::{Band, EndRequest, Reason, Why};
use mtor_types::message::{SlotOffer, Slots};
use mtor_types::worker::LeaseClaim;
use mtor_types::{AccountId, Amount, Attempt, NodeId, Price, SessionId, WorkerId};

use super::tests::meta;
use super::*;

const DEADLINE_MS: u64 = 30_000;
const WORKERS: u8 = 4;
const SLOTS: u32 = 4;

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// Of mean 1.
    fn exponential(&mut self) -> f64 {
        let unit = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        -(1.0 - unit).ln()
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrives,
    Returns { account: u64, size: u64 },
    Done { intent: IntentId, attempt: Attempt },
    Expires { intent: IntentId },
    Renews,
}

#[derive(Clone, Copy)]
struct Asked {
    account: u64,
    size: u64,
    at: u64,
    told_ms: Option<u64>,
    began: Option<u64>,
    ended: Option<Outcome>,
    refused: Option<u64>,
    again: bool,
}

/// How a run went.
#[derive(Default)]
struct Figures {
    asked: BTreeMap<IntentId, Asked>,
    work_done: u64,
    until: u64,
}

struct Load {
    router: Router,
    turn: Turn,
    dice: Dice,
    events: BTreeSet<(u64, u64, Event)>,
    order: u64,
    leases: BTreeMap<IntentId, (WorkerId, Attempt)>,
    figures: Figures,
    /// Arrivals a millisecond.
    rate: f64,
    accounts: u64,
    admits_all: bool,
    obedient: bool,
}

/// Nine in ten are short, and most of the work is in the long ones.
fn size(dice: &mut Dice) -> u64 {
    match dice.below(10) {
        0 => 8_000,
        1..4 => 1_000,
        _ => 125,
    }
}

const MEAN_MS: f64 = 0.1 * 8_000.0 + 0.3 * 1_000.0 + 0.6 * 125.0;

impl Load {
    fn new(seed: u64, load: f64, accounts: u64) -> Self {
        let turn = Turn { now: Time(1_000), epoch: 2, ..Turn::default() };
        let slots = f64::from(WORKERS) * f64::from(SLOTS);
        let mut this = Self {
            router: Router::new(),
            turn,
            dice: Dice(seed),
            events: BTreeSet::new(),
            order: 0,
            leases: BTreeMap::new(),
            figures: Figures::default(),
            rate: load * slots / MEAN_MS,
            accounts,
            admits_all: false,
            obedient: false,
        };
        for number in 0..WORKERS {
            let offer = SlotOffer {
                intent: "echo".into(),
                model: None,
                slots: SLOTS,
                price: Price { amount: Amount::from_u64(1), per: 1 },
                band: Band::ALL[0],
                context: None,
                group: None,
            };
            this.take(Message::Slots(Slots {
                worker: WorkerId([number; 32]),
                session: SessionId(number.into()),
                edge: NodeId::default(),
                owner: AccountId([99; 32]),
                own: true,
                proven: true,
                draining: false,
                offers: vec![offer],
                leases: Vec::new(),
            }));
        }
        this.at(0, Event::Arrives);
        this.at(500, Event::Renews);
        this
    }

    fn now(&self) -> u64 {
        self.turn.now.0 - 1_000
    }

    fn at(&mut self, at: u64, event: Event) {
        self.order += 1;
        self.events.insert((at, self.order, event));
    }

    fn take(&mut self, message: Message) {
        self.router.receive(&mut self.turn, message);
        self.settle();
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "a test looks at few effects and messages")]
    fn settle(&mut self) {
        let now = self.now();
        for (_, effect) in std::mem::take(&mut self.turn.effects) {
            if let Effect::Assign(grant) = effect {
                let intent = grant.meta.id;
                self.leases.insert(intent, (grant.worker, grant.attempt));
                let asked = self.figures.asked.get_mut(&intent).unwrap();
                asked.began = Some(now);
                let spread = asked.size * 8 / 10 + self.dice.below(asked.size * 4 / 10);
                self.at(now + spread, Event::Done { intent, attempt: grant.attempt });
            }
        }
        for envelope in std::mem::take(&mut self.turn.messages) {
            match envelope.message {
                Message::Taken { intent, wait_ms, .. } => {
                    self.figures.asked.get_mut(&intent).unwrap().told_ms = Some(wait_ms);
                }
                Message::Resolve(Resolution { intent, outcome, rejection, .. }) => {
                    let asked = self.figures.asked.get_mut(&intent).unwrap();
                    asked.ended = Some(outcome);
                    if matches!(outcome, Outcome::Completed(_)) {
                        self.figures.work_done += asked.size;
                    }
                    let after = rejection.and_then(|rejection| rejection.retry_after_ms());
                    asked.refused = after;
                    if let Some(after) = after
                        && self.obedient
                        && !asked.again
                    {
                        let (account, size) = (asked.account, asked.size);
                        self.at(now + after, Event::Returns { account, size });
                    }
                }
                _ => {}
            }
        }
    }

    fn ask(&mut self, account: u64, size: u64, again: bool) {
        let now = self.now();
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.dice.next().to_be_bytes());
        id[8..].copy_from_slice(&now.to_be_bytes());
        let intent = IntentId(id);
        let mut from = [0; 32];
        from[..8].copy_from_slice(&account.to_be_bytes());
        let asked = Asked {
            account,
            size,
            at: now,
            told_ms: None,
            began: None,
            ended: None,
            refused: None,
            again,
        };
        self.figures.asked.insert(intent, asked);
        let meta = IntentMeta {
            id: intent,
            account: AccountId(from),
            size,
            durable: false,
            remaining_ms: DEADLINE_MS,
            ..meta(1)
        };
        let (meta, asset) = (Arc::new(meta).into(), Asset::Grant);
        self.at(now + DEADLINE_MS, Event::Expires { intent });
        self.take(Message::Enqueue { meta, asset, recovered: self.admits_all });
    }

    fn end(&mut self, intent: IntentId, attempt: Option<Attempt>, why: Why) {
        self.leases.remove(&intent);
        let (usage, delivered) = (Usage::default(), false);
        self.take(Message::End(EndRequest { intent, attempt, why, usage, delivered }));
    }

    fn renew(&mut self) {
        for number in 0..WORKERS {
            let worker = WorkerId([number; 32]);
            let held = self.leases.iter().filter(|(_, (of, _))| *of == worker);
            let leases = held
                .map(|(intent, (_, attempt))| LeaseClaim { intent: *intent, attempt: *attempt });
            let leases = leases.collect();
            self.take(Message::Renew { worker, session: SessionId(number.into()), leases });
        }
    }

    fn run(mut self, until: u64) -> Figures {
        while let Some((at, _, event)) = self.events.pop_first()
            && at < until
        {
            self.turn.now = Time(1_000 + at);
            self.router.tick(&mut self.turn);
            self.settle();
            match event {
                Event::Arrives => {
                    let (account, size) = (self.dice.below(self.accounts), size(&mut self.dice));
                    self.ask(account, size, false);
                    let next = self.dice.exponential() / self.rate;
                    self.at(at + next.ceil() as u64, Event::Arrives);
                }
                Event::Returns { account, size } => self.ask(account, size, true),
                Event::Done { intent, attempt } => {
                    if self.leases.get(&intent).is_some_and(|(_, held)| *held == attempt) {
                        self.end(intent, Some(attempt), Why::Completed(Reason::Done));
                    }
                }
                Event::Expires { intent } => {
                    if self.figures.asked.get(&intent).is_some_and(|asked| asked.ended.is_none()) {
                        let attempt = self.leases.get(&intent).map(|(_, attempt)| *attempt);
                        self.end(intent, attempt, Why::Expired);
                    }
                }
                Event::Renews => {
                    self.renew();
                    self.at(at + 900, Event::Renews);
                }
            }
        }
        self.router.check_invariants().unwrap();
        self.figures.until = until;
        self.figures
    }
}

impl Figures {
    fn settled(&self) -> impl Iterator<Item = &Asked> {
        // Warm by then, and over.
        let over = self.until - DEADLINE_MS;
        self.asked.values().filter(move |asked| asked.at > 60_000 && asked.at < over)
    }

    fn share(&self, of: impl Fn(&Asked) -> bool, among: impl Fn(&Asked) -> bool) -> f64 {
        let all = self.settled().filter(|asked| among(asked)).count();
        let met = self.settled().filter(|asked| among(asked) && of(asked)).count();
        met as f64 / all.max(1) as f64
    }

    fn accepted(asked: &Asked) -> bool {
        asked.told_ms.is_some()
    }

    /// Median of |told − true| / true over those that waited.
    fn eta_error(&self) -> f64 {
        let waited = self.settled().filter_map(|asked| {
            let waited = asked.began? - asked.at;
            let told = asked.told_ms?;
            (waited >= 200).then(|| told.abs_diff(waited) as f64 / waited as f64)
        });
        let mut errors: Vec<f64> = waited.collect();
        errors.sort_by(f64::total_cmp);
        errors.get(errors.len() / 2).copied().unwrap_or_default()
    }

    fn debug(&self) {
        let mut v: Vec<(u64, u64, u64)> = self
            .settled()
            .filter_map(|a| Some((a.began? - a.at, a.told_ms?, a.size)))
            .filter(|v| v.0 >= 200)
            .collect();
        v.sort();
        for i in 0..12 {
            print!("{:?} ", v.get(v.len() * i / 12));
        }
        println!();
        let m =
            |f: fn(&(u64, u64, u64)) -> u64| v.iter().map(f).sum::<u64>() / v.len().max(1) as u64;
        println!("mean waited {} told {} n {}", m(|v| v.0), m(|v| v.1), v.len());
    }

    fn goodput(&self, load: f64) -> f64 {
        let slots = f64::from(WORKERS) * f64::from(SLOTS);
        self.work_done as f64 / (self.until as f64 * slots * load.min(1.0))
    }
}

#[test]
fn what_is_accepted_is_served_and_what_is_refused_would_not_have_been() {
    println!("load  accepted  expired  goodput  ETA error  refused rightly  again refused");
    for load in [0.5, 0.9, 1.0, 1.5, 2.0, 4.0] {
        let mut with = Load::new(7, load, 200);
        with.obedient = true;
        let with = with.run(600_000);
        with.debug();
        let expired = with.share(|a| a.ended == Some(Outcome::Expired), Figures::accepted);
        let accepted = with.share(Figures::accepted, |_| true);
        let again = with.share(|a| a.refused.is_some(), |a| a.again);
        println!(
            "{load:>4}  {accepted:>8.2}  {expired:>7.3}  {:>7.2}  {:>9.2}  {:>15}  {again:>13.2}",
            with.goodput(load),
            with.eta_error(),
            "",
        );
    }
}
