//! Admission under load, in virtual time: clients of many accounts, own workers, mixed sizes, and
//! what the router told and refused compared with what came. `cargo test --release -p mtor-core load
//! -- --nocapture` prints the figures.
#![expect(clippy::print_stdout, reason = "the figures are told")]

use std::collections::{BTreeMap, BTreeSet};

use mtor_types::intent::{Band, EndRequest, Reason, Why};
use mtor_types::message::{SlotOffer, Slots};
use mtor_types::worker::LeaseClaim;
use mtor_types::{AccountId, Amount, Attempt, Price, SessionId, WorkerId};

use super::demand::Demand;
use super::tests::{meta, offered, session_of};
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
    probe: bool,
    number: usize,
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
    /// What is asked, and when: the same whatever the router answers.
    dice: Dice,
    /// Everything else.
    others: Dice,
    events: BTreeSet<(u64, u64, Event)>,
    order: u64,
    leases: BTreeMap<IntentId, (WorkerId, Attempt)>,
    figures: Figures,
    /// Arrivals a millisecond.
    rate: f64,
    accounts: u64,
    /// Each worker has as many, and its slots for all of them together; with one it is called nothing.
    models: u64,
    admits_all: bool,
    obedient: bool,
    /// One in so many of those refused is queued all the same, to see what would have become of it.
    probes: Option<u64>,
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
        Self::of_models(seed, load, accounts, 1)
    }

    fn of_models(seed: u64, load: f64, accounts: u64, models: u64) -> Self {
        let turn = Turn { now: Time(1_000), epoch: 2, ..Turn::default() };
        let slots = f64::from(WORKERS) * f64::from(SLOTS);
        let mut this = Self {
            router: Router::new(),
            turn,
            dice: Dice(seed),
            others: Dice(seed ^ 0x0fff_ffff),
            events: BTreeSet::new(),
            order: 0,
            leases: BTreeMap::new(),
            figures: Figures::default(),
            rate: load * slots / MEAN_MS,
            accounts,
            models,
            admits_all: false,
            obedient: false,
            probes: None,
        };
        this.attach(WORKERS, SLOTS);
        this.at(0, Event::Arrives);
        this.at(500, Event::Renews);
        this
    }

    /// With so many slots, and work of this size measured to take as long.
    fn still(slots: u32, sizes: &[u64]) -> Self {
        let mut this = Self::new(1, 1.0, 1);
        this.router = Router::new();
        this.events.clear();
        for size in sizes {
            this.router.estimates.learn("echo", *size, *size);
        }
        this.attach(1, slots);
        this
    }

    fn attach(&mut self, workers: u8, slots: u32) {
        for number in 0..workers {
            let offer = |model: u64| SlotOffer {
                intent: "echo".into(),
                model: self.model(model),
                slots,
                price: Price { amount: Amount::from_u64(1), per: 1 },
                band: Band::ALL[0],
                context: None,
                group: (self.models > 1).then(|| "gpu".into()),
            };
            let offers = (0..self.models).map(offer).collect();
            let session = session_of(WorkerId([number; 32]), number.into(), offers);
            self.take(Message::Offered(offered(Slots {
                own: true,
                owner: AccountId([99; 32]),
                ..session
            })));
        }
    }

    fn model(&self, number: u64) -> Option<String> {
        (self.models > 1).then(|| format!("m{}", number % self.models))
    }

    /// Asks, and says what wait was told; `None`: refused.
    fn told(&mut self, account: u64, size: u64) -> Option<u64> {
        self.ask(account, size, false);
        let last = self.figures.asked.values().filter(|asked| asked.account == account);
        last.max_by_key(|asked| asked.number).unwrap().told_ms
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
                let spread = asked.size * 8 / 10 + self.others.below(asked.size * 4 / 10);
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
        let dice = if again { &mut self.others } else { &mut self.dice };
        id[8..].copy_from_slice(&dice.next().to_be_bytes());
        id[..8].copy_from_slice(&now.to_be_bytes());
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
            probe: false,
            number: self.figures.asked.len(),
        };
        self.figures.asked.insert(intent, asked);
        let meta = IntentMeta {
            id: intent,
            account: AccountId(from),
            size,
            model: self.model(u64::try_from(self.figures.asked.len()).unwrap()),
            durable: false,
            remaining_ms: DEADLINE_MS,
            ..meta(1)
        };
        let (meta, asset) = (Arc::new(meta), Asset::Grant);
        self.at(now + DEADLINE_MS, Event::Expires { intent });
        let mut recovered = self.admits_all;
        if let Some(probes) = self.probes
            && self.others.below(probes) == 0
            && let Some(kind) = self.router.kinds.find("echo", None)
        {
            let pool = PoolId::new(kind, Demand::of(&meta).number());
            if self.router.admit(pool, &meta, self.turn.now).is_err() {
                self.figures.asked.get_mut(&intent).unwrap().probe = true;
                recovered = true;
            }
        }
        self.take(Message::Enqueue { meta: meta.into(), asset, recovered });
    }

    fn end(&mut self, intent: IntentId, attempt: Option<Attempt>, why: Why) {
        self.leases.remove(&intent);
        let (usage, delivered) = (Usage { units: 1, ..Usage::default() }, false);
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

    /// Median of |told − true| / true over those that waited, of the wait or up to the end.
    fn eta_error(&self, whole: bool) -> f64 {
        let waited = self.settled().filter_map(|asked| {
            let waited = asked.began? - asked.at;
            let told = asked.told_ms?;
            let of = if whole { waited + asked.size } else { waited };
            (waited >= 200).then(|| told.abs_diff(waited) as f64 / of as f64)
        });
        let mut errors: Vec<f64> = waited.collect();
        errors.sort_by(f64::total_cmp);
        errors.get(errors.len() / 2).copied().unwrap_or_default()
    }

    fn goodput(&self, load: f64) -> f64 {
        let slots = f64::from(WORKERS) * f64::from(SLOTS);
        self.work_done as f64 / (self.until as f64 * slots * load.min(1.0))
    }
}

/// One load: as it is, with admission off, with clients who come back when they are told to, and
/// with one in twenty of the refused admitted all the same.
struct Row {
    plain: Figures,
    off: Figures,
    obedient: Figures,
    probed: Figures,
}

impl Row {
    const UNTIL: u64 = 600_000;

    fn new(seed: u64, load: f64, accounts: u64) -> Self {
        let run = |change: fn(&mut Load)| {
            let mut load = Load::new(seed, load, accounts);
            change(&mut load);
            load.run(Self::UNTIL)
        };
        Self {
            plain: run(|_| {}),
            off: run(|load| load.admits_all = true),
            obedient: run(|load| load.obedient = true),
            probed: run(|load| load.probes = Some(20)),
        }
    }

    /// Of those refused, who missed their deadline with admission off.
    fn rightly(&self) -> f64 {
        let refused = self.plain.asked.iter().filter(|(_, asked)| {
            asked.refused.is_some() && asked.at > 60_000 && asked.at < Self::UNTIL - DEADLINE_MS
        });
        let ended: Vec<_> = refused.map(|(intent, _)| self.off.asked[intent].ended).collect();
        let missed = ended.iter().filter(|ended| !matches!(ended, Some(Outcome::Completed(_))));
        missed.count() as f64 / ended.len().max(1) as f64
    }

    fn alone(&self) -> f64 {
        let missed = |asked: &Asked| !matches!(asked.ended, Some(Outcome::Completed(_)));
        self.probed.share(missed, |asked| asked.probe)
    }

    fn again(&self) -> f64 {
        self.obedient.share(|asked| asked.refused.is_some(), |asked| asked.again)
    }
}

fn expired(figures: &Figures) -> f64 {
    figures.share(|asked| asked.ended == Some(Outcome::Expired), Figures::accepted)
}

/// The aims are 0.01 expired, 0.9 goodput, 0.25 for an error, 0.95 refused rightly and 0.15 again:
/// decision 0026 says which are met. What is asserted held for five seeds, with a margin.
#[test]
fn what_is_accepted_is_served_in_about_the_time_it_was_told() {
    println!(
        "accounts load | accepted expired goodput error to-the-end | rightly alone | again expired goodput"
    );
    for accounts in [20, 200, 2_000] {
        for load in [0.5, 0.9, 1.0, 1.5, 2.0, 4.0] {
            let row = Row::new(7, load, accounts);
            let (wait, end) = (row.plain.eta_error(false), row.plain.eta_error(true));
            let (good, obedient) = (row.plain.goodput(load), row.obedient.goodput(load));
            let (gone, gone_too) = (expired(&row.plain), expired(&row.obedient));
            let (accepted, again) = (row.plain.share(Figures::accepted, |_| true), row.again());
            println!(
                "{accounts:>8} {load:>4} | {accepted:>8.2} {gone:>7.4} {good:>7.2} {wait:>5.2} {end:>10.2} | \
                 {:>7.2} {:>5.2} | {again:>5.2} {gone_too:>7.4} {obedient:>7.2}",
                row.rightly(),
                row.alone(),
            );
            assert!(good.min(obedient) >= 0.9, "goodput {good} and {obedient}");
            let calm = load <= 1.0;
            assert!(gone.max(gone_too) <= if calm { 0.01 } else { 0.06 }, "{gone}, {gone_too}");
            assert!(calm || wait <= if accounts == 20 { 0.35 } else { 0.85 }, "error {wait}");
            assert!(calm || end <= if accounts == 20 { 0.3 } else { 0.7 }, "error {end}");
            assert!(again <= if calm { 0.15 } else { 0.5 }, "again {again}");
        }
    }
}

/// Slots that six models share are not six times as many: what is told and accepted is as good as if
/// it were one model.
#[test]
fn the_wait_for_shared_slots_is_that_of_all_who_share_them() {
    println!("models accounts load | accepted expired goodput error to-the-end");
    for models in [1, 6] {
        for accounts in [20, 200] {
            for load in [1.0, 1.5, 2.0, 4.0] {
                let figures = Load::of_models(7, load, accounts, models).run(Row::UNTIL);
                let (gone, good) = (expired(&figures), figures.goodput(load));
                let (wait, end) = (figures.eta_error(false), figures.eta_error(true));
                let accepted = figures.share(Figures::accepted, |_| true);
                println!(
                    "{models:>6} {accounts:>8} {load:>4} | {accepted:>8.2} {gone:>7.4} {good:>7.2} \
                     {wait:>5.2} {end:>10.2}"
                );
                assert!(good >= 0.9, "goodput {good}");
                // What an account asks of another model may overtake what it was told before.
                let most = if load < 4.0 || models == 1 { 0.06 } else { 0.12 };
                assert!(gone <= if load <= 1.0 { 0.01 } else { most }, "expired {gone}");
                assert!(load <= 1.0 || end <= 0.7, "error {end}");
            }
        }
    }
}

#[test]
fn slots_that_another_model_has_taken_are_waited_for() {
    let told = |models: u64| -> Vec<u64> {
        let mut load = Load::still(4, &[]);
        (load.router, load.models) = (Router::new(), models);
        for number in 0..models {
            let label = kinds::label("echo", load.model(number).as_deref());
            load.router.estimates.learn(&label, 1_000, 1_000);
        }
        load.attach(1, 4);
        (0..24).map(|account| load.told(account, 1_000).unwrap()).collect()
    };
    // Four begin each second, whatever they are called; nothing is measured yet.
    for models in [1, 2, 6] {
        for (before, told) in (0_u64..).zip(told(models)) {
            let waits = 1_000 * (before / 4);
            let about = told <= waits + 500 && 5 * told / 2 + 1_000 >= waits;
            assert!(about, "{told} ms are told and {waits} waited, of {models} models");
        }
    }
}

#[test]
fn one_with_a_long_queue_keeps_nobody_else_out() {
    // 200 seconds of work on four slots.
    let mut load = Load::still(4, &[1_000]);
    load.admits_all = true;
    for _ in 0..204 {
        load.ask(1, 1_000, false);
    }
    load.admits_all = false;
    for account in 2..10 {
        let told = load.told(account, 1_000).expect("nobody else's queue is hopeless");
        assert!(told <= 500 + 250 * account, "{told} ms are told to the {account}th");
    }
    assert!(load.told(1, 1_000).is_none(), "its own is");
}

#[test]
fn behind_ten_thousand_of_another_a_newcomer_waits_for_a_slot_only() {
    let mut load = Load::still(4, &[82]);
    load.admits_all = true;
    for _ in 0..10_000 {
        load.ask(1, 82, false);
    }
    load.admits_all = false;
    let (rows, _) = load.router.pools_view(None, usize::MAX, load.turn.now);
    let listed = rows[0].figures(|_| true).unwrap().wait_ms;
    assert!((1..=100).contains(&listed), "what is listed is a newcomer's: {listed} ms");
    let told = load.told(2, 82).unwrap();
    assert!(told <= 100, "{told} ms");
}

#[test]
fn an_accounts_own_queue_counts_in_full() {
    let mut load = Load::still(4, &[1_000]);
    for n in 0..84_u64 {
        let told = load.told(1, 1_000).unwrap();
        // All that run began together.
        let whole = n / 4 * 1_000;
        assert!(told.abs_diff(whole) <= 600, "{told} ms behind {n}");
    }
}

#[test]
fn what_nobody_measured_is_not_refused_for_how_long_it_may_take() {
    let mut load = Load::still(1, &[]);
    for n in 0..20 {
        assert!(load.told(1, 50_000).is_some(), "the {n}th");
    }
}
