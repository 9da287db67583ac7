//! Simulated workers: most are honest, some fail, hang, answer twice or late, or never stop.

use std::collections::BTreeMap;

use mtor_types::intent::Band;
use mtor_types::message::SlotOffer;
use mtor_types::worker::LeaseClaim;
use mtor_types::{Amount, Attempt, Fence, IntentId, SessionId, WorkerId};

use crate::rng::Rng;
use crate::scenario::{LIST, Scenario};

/// What a worker will do with an assignment.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Finish {
    Complete,
    /// Says so twice.
    CompleteTwice,
    Fail {
        retry: bool,
    },
    /// Sends pieces until somebody stops it.
    Forever,
    /// Renews and never answers.
    Hang,
}

#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) attempt: Attempt,
    pub(crate) fence: Fence,
    limit: u64,
    chunks: u64,
    pub(crate) gap_ms: u64,
    finish: Finish,
    /// Goes on after a revocation and answers late.
    stubborn: bool,
    sent: u64,
    /// Its end was sent on this connection; it is kept until the acknowledgement.
    done: bool,
    /// The realm assigned it in the present session.
    pub(crate) live: bool,
}

/// What a task does next.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Chunk { seq: u64, count: u64 },
    Complete { units: u64, again: bool },
    Fail { retry: bool },
    Nothing,
}

/// No worker can do it: it is tried as often as anything may be.
fn is_cursed(intent: IntentId) -> bool {
    intent.0.first().is_some_and(|byte| byte.is_multiple_of(32))
}

impl Task {
    pub(crate) fn draw(
        intent: IntentId,
        (attempt, fence, limit): (Attempt, Fence, u64),
        steady: bool,
        rng: &mut Rng,
    ) -> Self {
        if steady {
            // What may be billed says how long it takes: accounts differ in it.
            let (finish, chunks, gap_ms) = (Finish::Complete, limit / 2, 50);
            return Self {
                attempt,
                fence,
                limit,
                chunks,
                gap_ms,
                finish,
                stubborn: false,
                sent: 0,
                done: false,
                live: true,
            };
        }
        let finish = match rng.between(0, 19) {
            _ if is_cursed(intent) => Finish::Fail { retry: true },
            0..=12 => Finish::Complete,
            13 | 14 => Finish::CompleteTwice,
            15 | 16 => Finish::Fail { retry: true },
            17 => Finish::Fail { retry: false },
            18 => Finish::Forever,
            _ => Finish::Hang,
        };
        let gap_ms = if rng.per_cent(15) { rng.between(500, 3_000) } else { rng.between(5, 300) };
        let chunks = rng.between(0, 6);
        let stubborn = rng.per_cent(15);
        Self {
            attempt,
            fence,
            limit,
            chunks,
            gap_ms,
            finish,
            stubborn,
            sent: 0,
            done: false,
            live: true,
        }
    }

    pub(crate) fn step(&mut self) -> Step {
        if self.done {
            return Step::Nothing;
        }
        let count = self.sent.saturating_mul(2);
        let more = match self.finish {
            Finish::Forever => true,
            Finish::Complete | Finish::CompleteTwice | Finish::Fail { .. } => {
                self.sent < self.chunks && count < self.limit
            }
            Finish::Hang => return Step::Nothing,
        };
        if more {
            let seq = self.sent;
            self.sent = self.sent.saturating_add(1);
            return Step::Chunk { seq, count: self.sent.saturating_mul(2) };
        }
        self.done = true;
        match self.finish {
            Finish::Fail { retry } => Step::Fail { retry },
            Finish::CompleteTwice => Step::Complete { units: count, again: true },
            // Claims more than it delivered now and then; the edge knows better.
            Finish::Complete | Finish::Forever | Finish::Hang => {
                Step::Complete { units: count.saturating_add(self.attempt.0 % 2), again: false }
            }
        }
    }

    /// The realm lets it go on under a new fence: everything is sent again.
    fn again(&mut self, fence: Fence, limit: u64) {
        (self.fence, self.limit, self.sent, self.done) = (fence, limit, 0, false);
        self.live = true;
    }
}

fn band(price: u64) -> Band {
    Band::of_offer(Amount::from_u64(price), LIST).unwrap_or(Band::DEAREST)
}

fn offer(name: &str, model: Option<&str>, slots: u32) -> SlotOffer {
    SlotOffer {
        intent: name.to_owned(),
        model: model.map(str::to_owned),
        slots,
        price: LIST,
        band: Band::LIST,
        context: None,
        group: None,
    }
}

/// Chat without or with a model, of a dear one too now and then; fft, and sometimes one backend behind
/// all of it. Always where there are two of chat: work of the worker's own account costs nothing, so
/// its price does not tell which of two slots it has taken.
fn draw_offers(rng: &mut Rng) -> Vec<SlotOffer> {
    let slots = u32::try_from(rng.between(1, 3)).unwrap_or(1);
    let model = rng.per_cent(50).then_some("small");
    let mut offers = vec![offer("chat", model, slots)];
    if rng.per_cent(30) {
        offers.push(offer("chat", Some("large"), slots));
    }
    let two = offers.len() > 1;
    if rng.per_cent(50) {
        offers.push(offer("fft", None, 1));
    }
    if two || rng.per_cent(40) {
        offers.iter_mut().for_each(|offer| offer.group = Some("gpu".to_owned()));
    }
    offers
}

#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) id: WorkerId,
    pub(crate) session: Option<SessionId>,
    /// Raised whenever what was planned for it no longer holds.
    pub(crate) life: u64,
    /// Its process runs.
    pub(crate) running: bool,
    pub(crate) draining: bool,
    clingy: bool,
    steady: bool,
    pub(crate) offers: Vec<SlotOffer>,
    /// What it asks for them next.
    asks: Rng,
    pub(crate) tasks: BTreeMap<IntentId, Task>,
}

impl Worker {
    pub(crate) fn new(id: WorkerId, number: usize, scenario: &Scenario, seed: u64) -> Self {
        let steady = scenario.steady;
        let stream = u64::try_from(number).unwrap_or(u64::MAX);
        let mut rng = Rng::new(seed, 2_000_000_u64.saturating_add(stream));
        let offers = if steady { vec![offer("chat", None, 1)] } else { draw_offers(&mut rng) };
        let (tasks, clingy) = (BTreeMap::new(), number % 2 == 1);
        Self {
            id,
            session: None,
            life: 0,
            running: true,
            draining: false,
            clingy,
            steady,
            offers,
            asks: rng,
            tasks,
        }
    }

    /// What it offers in a new session: one that is not steady asks other prices every time. No two of
    /// its offers of an intent ask the same, so that the price tells which of them was taken.
    pub(crate) fn offers(&mut self) -> Vec<SlotOffer> {
        if self.steady {
            return self.offers.clone();
        }
        let draws = &mut self.asks;
        for offer in &mut self.offers {
            // Several prices of one band, and several bands.
            let dear = offer.model.as_deref() == Some("large");
            let prices = if dear { [5, 6, 8, 10] } else { [1, 2, 3, 4] };
            let price = prices.get(draws.index(prices.len())).copied().unwrap_or(1);
            (offer.price.amount, offer.band) = (Amount::from_u64(price), band(price));
        }
        self.offers.clone()
    }

    /// What it says it holds when it connects.
    pub(crate) fn leases(&self) -> Vec<(LeaseClaim, Fence)> {
        let claim = |(intent, task): (&IntentId, &Task)| {
            (LeaseClaim { intent: *intent, attempt: task.attempt }, task.fence)
        };
        self.tasks.iter().map(claim).collect()
    }

    /// What it says it works on. A clingy one names whatever it was ever given.
    pub(crate) fn claims(&self) -> Vec<LeaseClaim> {
        let working = self.tasks.iter().filter(|(_, task)| self.works(task));
        working
            .map(|(intent, task)| LeaseClaim { intent: *intent, attempt: task.attempt })
            .collect()
    }

    fn works(&self, task: &Task) -> bool {
        self.clingy || (task.live && !task.done)
    }

    /// Whether it works on anything. What is done, or was not given back to it after a lost
    /// session, waits for the next session if its acknowledgement or revocation was lost.
    pub(crate) fn is_busy(&self) -> bool {
        self.tasks.values().any(|task| self.works(task))
    }

    pub(crate) fn assigned(
        &mut self,
        intent: IntentId,
        (attempt, fence, limit): (Attempt, Fence, u64),
        steady: bool,
        rng: &mut Rng,
    ) {
        match self.tasks.get_mut(&intent) {
            Some(task) if task.attempt == attempt => task.again(fence, limit),
            Some(_) | None => {
                self.tasks.insert(intent, Task::draw(intent, (attempt, fence, limit), steady, rng));
            }
        }
    }

    pub(crate) fn revoked(&mut self, intent: IntentId, attempt: Attempt) {
        if let Some(task) = self.tasks.get_mut(&intent).filter(|task| task.attempt == attempt) {
            if task.stubborn && !task.done {
                // Told twice, it stops.
                task.stubborn = false;
            } else {
                self.tasks.remove(&intent);
            }
        }
    }

    pub(crate) fn acknowledged(&mut self, intent: IntentId, attempt: Attempt) {
        if self.tasks.get(&intent).is_some_and(|task| task.attempt == attempt) {
            self.tasks.remove(&intent);
        }
    }
}
