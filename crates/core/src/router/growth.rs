//! What a command costs must not grow with what was ever seen: with workers, ceilings, accounts and
//! failures. Counted in looks at workers, offers, pools, flows and items, so that no machine
//! decides it. `cargo test --release -p mtor-core growth -- --nocapture` prints them, and the time.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "what it took is told and not judged"
)]

use mtor_types::intent::{Band, EndRequest, Trust, Why};
use mtor_types::message::SlotOffer;
use mtor_types::rejection::Code;
use mtor_types::{AccountId, Amount, Price, SessionId, WorkerId};

use super::tests::{meta, offered, session_of};
use super::*;
use crate::effect::Assignment;

struct Crowd {
    router: Router,
    turn: Turn,
    next: u64,
    /// Looks of one command: how many commands, how many looks, the most of one.
    commands: u64,
    looks: u64,
    most: u64,
}

impl Crowd {
    fn new() -> Self {
        let turn = Turn { now: Time(1_000), epoch: 2, ..Turn::default() };
        let (router, next) = (Router::new(), 0);
        Self { router, turn, next, commands: 0, looks: 0, most: 0 }
    }

    fn take(&mut self, message: Message) -> Vec<Assignment> {
        let before = self.router.steps();
        self.router.receive(&mut self.turn, message);
        let looks = self.router.steps() - before;
        (self.commands, self.looks) = (self.commands + 1, self.looks + looks);
        self.most = self.most.max(looks);
        self.turn.messages.clear();
        let effects = std::mem::take(&mut self.turn.effects);
        #[expect(clippy::wildcard_enum_match_arm, reason = "a test looks for one effect among all")]
        let granted = effects.into_iter().filter_map(|(_, effect)| match effect {
            Effect::Assign(assignment) => Some(assignment),
            _ => None,
        });
        granted.collect()
    }

    fn join(&mut self, number: u32, models: &[&str]) -> Vec<Assignment> {
        let mut worker = [0; 32];
        worker[..4].copy_from_slice(&number.to_be_bytes());
        let price = Price { amount: Amount::from_u64(1), per: 1 };
        let offer = |model: &&str| SlotOffer {
            intent: "chat".into(),
            model: Some((*model).to_owned()),
            slots: 1,
            price,
            band: Band::ALL[0],
            context: None,
            group: None,
        };
        let offers = models.iter().map(offer).collect();
        self.take(Message::Offered(offered(session_of(WorkerId(worker), number.into(), offers))))
    }

    fn leave(&mut self, number: u32) {
        let mut worker = [0; 32];
        worker[..4].copy_from_slice(&number.to_be_bytes());
        let session = SessionId(number.into());
        self.take(Message::SessionLost { worker: WorkerId(worker), session });
    }

    /// An intent of one of so many accounts.
    fn ask(&mut self, model: &str, accounts: u64) -> Vec<Assignment> {
        self.next += 1;
        let number = self.next;
        let mut account = [0; 32];
        account[..8].copy_from_slice(&(number % accounts).to_be_bytes());
        let meta = IntentMeta {
            id: IntentId(u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()),
            account: AccountId(account),
            name: "chat".into(),
            model: Some(model.to_owned()),
            band: Band::ALL[usize::try_from(number % 4).unwrap()],
            trust: if number.is_multiple_of(3) { Trust::Proven } else { Trust::Any },
            durable: false,
            ..meta(1)
        };
        let (meta, asset) = (Arc::new(meta).into(), Asset::Grant);
        self.take(Message::Enqueue { meta, asset, recovered: false })
    }

    fn fail(&mut self, grant: &Assignment) -> Vec<Assignment> {
        let why = Why::WorkerFailed { code: Code::WorkerFailed, retry: true };
        let (intent, attempt) = (grant.meta.id, Some(grant.attempt));
        let (usage, delivered) = (Usage { units: 1, ..Usage::default() }, false);
        self.take(Message::End(EndRequest { intent, attempt, why, usage, delivered }))
    }

    fn complete(&mut self, grant: &Assignment) -> Vec<Assignment> {
        let why = Why::Completed(mtor_types::intent::Reason::Done);
        let (intent, attempt) = (grant.meta.id, Some(grant.attempt));
        let (usage, delivered) = (Usage { units: 1, ..Usage::default() }, false);
        self.take(Message::End(EndRequest { intent, attempt, why, usage, delivered }))
    }

    fn measured(&mut self) -> (f64, u64) {
        let mean = self.looks as f64 / self.commands as f64;
        let most = self.most;
        (self.commands, self.looks, self.most) = (0, 0, 0);
        (mean, most)
    }
}

/// So many workers of a model that always fails: every failure waits for another of them, until each
/// intent has failed as often as it may. Then work that goes well.
fn looks(workers: u32) -> [(f64, u64); 4] {
    let mut crowd = Crowd::new();
    let mut running: std::collections::VecDeque<Assignment> = std::collections::VecDeque::new();
    for number in 0..workers {
        running.extend(crowd.join(number, &["broken", "sound"]));
    }
    let joining = crowd.measured();
    for _ in 0..workers * 2 {
        running.extend(crowd.ask("broken", 1_000));
    }
    let mut rounds = 0_u32;
    crowd.measured();
    while let Some(grant) = running.pop_front()
        && rounds < workers * 8
    {
        rounds += 1;
        running.extend(crowd.fail(&grant));
        // As many come as end, so that there is always a queue.
        running.extend(crowd.ask("broken", 1_000));
    }
    let failing = crowd.measured();
    for _ in 0..2_000 {
        for grant in crowd.ask("sound", 1_000) {
            crowd.complete(&grant);
        }
    }
    let sound = crowd.measured();
    // The list of what failed is long now: who goes and comes again must not look through it.
    for number in 0..workers.min(100) {
        crowd.leave(number);
        crowd.join(number, &["broken", "sound"]);
    }
    crowd.router.check_invariants().unwrap();
    [joining, failing, sound, crowd.measured()]
}

#[test]
fn a_command_costs_the_same_among_ten_thousand_failing_workers_as_among_ten() {
    let few = looks(10);
    println!("workers: mean and most looks a command while all join, fail, do well, go and come");
    println!("{:>7}: {few:?}", 10);
    for workers in [100, 1_000, 10_000] {
        let start = std::time::Instant::now();
        let many = looks(workers);
        println!("{workers:>7}: {many:?} in {:?}", start.elapsed());
        for ((few, few_most), (many, most)) in few.into_iter().zip(many) {
            assert!(many <= 2.0 * few, "{workers} workers: {many} looks a command, {few} with ten");
            assert!(most <= 2 * few_most, "{workers} workers: {most} looks, {few_most} with ten");
        }
    }
}
