//! Simulated workers: most are honest, some fail, hang, answer twice or late, or never stop.

use std::collections::BTreeMap;

use mtor_types::intent::Band;
use mtor_types::message::SlotOffer;
use mtor_types::worker::LeaseClaim;
use mtor_types::{Amount, Attempt, Fence, IntentId, Price, SessionId, WorkerId};

use crate::rng::Rng;
use crate::scenario::LIST;

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

impl Task {
    pub(crate) fn draw(
        (attempt, fence, limit): (Attempt, Fence, u64),
        steady: bool,
        rng: &mut Rng,
    ) -> Self {
        if steady {
            let (finish, chunks, gap_ms) = (Finish::Complete, 2, 100);
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
    offers: Vec<SlotOffer>,
    pub(crate) tasks: BTreeMap<IntentId, Task>,
}

impl Worker {
    pub(crate) fn new(id: WorkerId, number: usize, steady: bool) -> Self {
        let wide = u32::try_from(number % 3).unwrap_or_default();
        let price = u64::from(!steady && number % 2 == 1).saturating_add(1);
        let offer = |name: &str, slots| SlotOffer {
            intent: name.to_owned(),
            model: None,
            slots,
            price: Price { amount: Amount::from_u64(price), per: 1 },
            band: band(price),
            context: None,
            group: None,
        };
        let mut offers = vec![offer("chat", if steady { 1 } else { wide.saturating_add(1) })];
        if !steady && number.is_multiple_of(2) {
            offers.push(offer("fft", 1));
        }
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
            tasks,
        }
    }

    /// What it offers in a new session: one that is not steady asks another price every time.
    pub(crate) fn offers(&mut self) -> Vec<SlotOffer> {
        if !self.steady {
            for offer in &mut self.offers {
                let other = if offer.price.amount.units() == 1 { 2 } else { 1 };
                (offer.price.amount, offer.band) = (Amount::from_u64(other), band(other));
            }
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
                self.tasks.insert(intent, Task::draw((attempt, fence, limit), steady, rng));
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
