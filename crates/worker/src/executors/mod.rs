//! What does the work: one file a kind of executor, chosen by an enum.
//!
//! An executor gets a [`Job`] and gives pieces through its [`Output`], then exactly one [`End`].
//! It is a task: dropping it must stop the work.

mod audio;
mod child;
mod echo;
mod engine;
mod exec;
mod fft;
mod openai;

pub use child::Surroundings;
pub use openai::ModelNames;

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use mtor_types::text;
use mtor_types::worker::{AssignMeter, Offer};
use serde_json::value::RawValue;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::error::WorkerError;
use crate::leases::{End, Key, Piece, backlog_share};
use crate::limits;
use crate::options::{ExecutorOptions, Status};

/// One assignment, as an executor sees it.
pub(crate) struct Job {
    pub(crate) key: Key,
    pub(crate) name: String,
    pub(crate) model: Option<String>,
    pub(crate) stream: bool,
    /// The most units that will be paid, and of output among them.
    pub(crate) limit: Option<u64>,
    pub(crate) output: Option<u64>,
    /// For a program that counts by itself.
    pub(crate) meter: Option<AssignMeter>,
    pub(crate) deadline: Instant,
    pub(crate) data: Box<RawValue>,
}

/// From an executor to the agent.
pub(crate) struct Report {
    pub(crate) key: Key,
    pub(crate) serial: u64,
    pub(crate) what: What,
}

pub(crate) enum What {
    Piece(Piece),
    End(End),
}

/// Where an executor puts its pieces.
#[derive(Clone)]
pub(crate) struct Output {
    key: Key,
    serial: u64,
    reports: mpsc::Sender<Report>,
    backlog: Arc<Semaphore>,
}

/// The agent no longer wants this work.
#[derive(Debug)]
pub(crate) struct Unwanted;

impl From<Unwanted> for End {
    fn from(_: Unwanted) -> Self {
        Self::backend("the worker is stopping")
    }
}

impl Output {
    pub(crate) fn new(
        key: Key,
        serial: u64,
        reports: mpsc::Sender<Report>,
        backlog: Arc<Semaphore>,
    ) -> Self {
        Self { key, serial, reports, backlog }
    }

    /// Gives a piece; waits while this intent has no credit and its backlog is full.
    pub(crate) async fn piece(&self, raw: Box<RawValue>, count: u64) -> Result<(), Unwanted> {
        let share = u32::try_from(backlog_share(raw.get().len())).map_err(|_| Unwanted)?;
        // The agent gives the permits back when the piece is sent.
        self.backlog.acquire_many(share).await.map_err(|_| Unwanted)?.forget();
        self.report(What::Piece(Piece { raw, count })).await
    }

    async fn report(&self, what: What) -> Result<(), Unwanted> {
        let report = Report { key: self.key, serial: self.serial, what };
        self.reports.send(report).await.map_err(|_| Unwanted)
    }
}

/// What executors tell the agent while they run.
pub(crate) enum Update {
    Offers(OfferUpdate),
    /// For the operator.
    Tell(Status),
}

/// What an executor says of its offers.
pub(crate) struct OfferUpdate {
    /// Its place in the options.
    pub(crate) executor: usize,
    pub(crate) offers: Result<Vec<Offer>, String>,
}

/// The way by which one executor says what it can do now.
#[derive(Clone)]
pub(crate) struct Announcer {
    executor: usize,
    updates: mpsc::Sender<Update>,
}

impl Announcer {
    /// Its place in the options.
    fn executor(&self) -> usize {
        self.executor
    }

    /// Tells the operator. False if the agent has gone.
    async fn tell(&self, status: Status) -> bool {
        self.updates.send(Update::Tell(status)).await.is_ok()
    }

    /// False if the agent has gone.
    async fn offers(&self, offers: Vec<Offer>) -> bool {
        let update = OfferUpdate { executor: self.executor, offers: Ok(offers) };
        self.updates.send(Update::Offers(update)).await.is_ok()
    }

    async fn down(&self, reason: impl Into<String>) -> bool {
        let update = OfferUpdate { executor: self.executor, offers: Err(reason.into()) };
        self.updates.send(Update::Offers(update)).await.is_ok()
    }
}

/// A task that ends with its owner.
pub(crate) struct AbortOnDrop(pub(crate) AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

enum Kind {
    Echo,
    Fft(Arc<fft::Fft>),
    Exec(Arc<exec::Program>),
    OpenAi(Arc<openai::OpenAi>),
    Engine(Arc<engine::Engine>),
    Audio(Arc<audio::Audio>),
}

/// One executor and the task that keeps it going, if it needs one.
pub(crate) struct Executor {
    label: String,
    kind: Kind,
    _keeper: Option<AbortOnDrop>,
}

/// What starting a job gave.
pub(crate) enum Started {
    /// It is over already.
    Done(End),
    Running(AbortHandle),
}

impl Executor {
    /// Makes an executor; what it can do comes through `updates`, now and whenever it changes.
    pub(crate) fn start(
        executor: usize,
        options: ExecutorOptions,
        surroundings: &Surroundings,
        updates: &mpsc::Sender<Update>,
    ) -> Result<(Self, Option<Vec<Offer>>), WorkerError> {
        let around = surroundings.clone();
        let announcer = Announcer { executor, updates: updates.clone() };
        match options {
            ExecutorOptions::Echo { slots } => {
                let offer = in_process_offer("echo", slots)?;
                Ok((Self { label: "echo".into(), kind: Kind::Echo, _keeper: None }, Some(offer)))
            }
            ExecutorOptions::Fft { slots } => {
                let offer = in_process_offer("fft", slots)?;
                let kind = Kind::Fft(Arc::new(fft::Fft::new(slots)));
                Ok((Self { label: "fft".into(), kind, _keeper: None }, Some(offer)))
            }
            ExecutorOptions::Exec { name, program, args } => {
                let label = name.unwrap_or_else(|| program.display().to_string());
                let label = format!("exec {label}");
                let shared = Arc::new(exec::Program::default());
                let keep = exec::keep(Arc::clone(&shared), program, args, around, announcer);
                let keeper = Some(AbortOnDrop(tokio::spawn(keep).abort_handle()));
                Ok((Self { label, kind: Kind::Exec(shared), _keeper: keeper }, None))
            }
            ExecutorOptions::OpenAi(options) => {
                check_slots("openai", options.slots)?;
                let label = format!("openai {}", options.url);
                let backend = Arc::new(openai::OpenAi::new(options)?);
                let discover = openai::discover(Arc::clone(&backend), announcer);
                let keeper = Some(AbortOnDrop(tokio::spawn(discover).abort_handle()));
                Ok((Self { label, kind: Kind::OpenAi(backend), _keeper: keeper }, None))
            }
            ExecutorOptions::Audio(options) => {
                check_slots("audio", options.slots)?;
                let label = format!("audio {}", options.url);
                let backend = Arc::new(audio::Audio::new(options)?);
                let keep = audio::keep(Arc::clone(&backend), announcer);
                let keeper = Some(AbortOnDrop(tokio::spawn(keep).abort_handle()));
                Ok((Self { label, kind: Kind::Audio(backend), _keeper: keeper }, None))
            }
            ExecutorOptions::Engine(options) => {
                check_slots("gguf", options.slots)?;
                let label = format!("engine {}", options.name);
                let shared = Arc::new(engine::Engine::default());
                let keep = engine::keep(Arc::clone(&shared), options, around, announcer);
                let keeper = Some(AbortOnDrop(tokio::spawn(keep).abort_handle()));
                Ok((Self { label, kind: Kind::Engine(shared), _keeper: keeper }, None))
            }
        }
    }

    /// The group of an offer as the realm is told it: none of another executor is called so. All that
    /// a backend offers shares its slots; a program says for itself what does.
    pub(crate) fn group(&self, number: usize, said: Option<String>) -> Option<String> {
        match self.kind {
            Kind::OpenAi(_) | Kind::Audio(_) => Some(format!("backend {number}")),
            Kind::Exec(_) => said.map(|said| format!("program {number}: {said}")),
            Kind::Echo | Kind::Fft(_) | Kind::Engine(_) => None,
        }
    }

    pub(crate) fn label(&self) -> &str {
        &self.label
    }

    /// Begins a job. What takes microseconds is done at once, without a task.
    pub(crate) fn run(&self, job: Job, output: Output) -> Started {
        let work = match &self.kind {
            Kind::Echo => match echo::plan(&job.data) {
                Err(end) => return Started::Done(end),
                Ok(plan) if plan.is_instant() => return Started::Done(plan.end(job.data)),
                Ok(plan) => spawn(output.clone(), async move { plan.run(job.data, output).await }),
            },
            Kind::Fft(fft) => {
                let fft = Arc::clone(fft);
                spawn(output, async move { fft.run(job.data).await })
            }
            Kind::Exec(program) => {
                let program = Arc::clone(program);
                spawn(output.clone(), async move { program.run(job, output).await })
            }
            Kind::OpenAi(backend) => {
                let backend = Arc::clone(backend);
                spawn(output.clone(), async move { backend.run(job, output).await })
            }
            Kind::Audio(backend) => {
                let backend = Arc::clone(backend);
                spawn(output.clone(), async move { backend.run(job, output).await })
            }
            Kind::Engine(engine) => {
                let engine = Arc::clone(engine);
                spawn(output.clone(), async move { engine.run(job, output).await })
            }
        };
        Started::Running(work)
    }
}

/// Runs the work and reports its end, also that of a panic.
fn spawn(output: Output, work: impl Future<Output = End> + Send + 'static) -> AbortHandle {
    let task = async move {
        let end = AssertUnwindSafe(work).catch_unwind().await;
        let end = end.unwrap_or_else(|_| End::backend("the executor failed inside"));
        // Without an agent nobody waits for the end.
        let _ = output.report(What::End(end)).await;
    };
    tokio::spawn(task).abort_handle()
}

fn check_slots(executor: &'static str, slots: u32) -> Result<(), WorkerError> {
    if slots == 0 || slots > limits::SLOTS_PER_OFFER_MAX {
        return Err(WorkerError::Slots { executor });
    }
    Ok(())
}

fn in_process_offer(intent: &'static str, slots: u32) -> Result<Vec<Offer>, WorkerError> {
    check_slots(intent, slots)?;
    Ok(vec![Offer {
        intent: intent.into(),
        model: None,
        slots,
        price: None,
        context: None,
        group: None,
    }])
}

/// What an outsider offers, made to fit: names and slots that a realm takes, no price, no doubles.
#[derive(Default)]
struct Tidy {
    offers: Vec<Offer>,
    seen: HashSet<(String, Option<String>)>,
}

impl Tidy {
    /// Takes an offer, or says why it is none.
    fn add(&mut self, offer: Offer) -> Result<(), String> {
        if self.offers.len() >= limits::OFFERS_MAX {
            return Err(format!("more than {} offers", limits::OFFERS_MAX));
        }
        if !is_name(&offer.intent) || !offer.model.as_deref().is_none_or(is_name) {
            return Err(format!(
                "a name must be 1 to {} bytes without control characters",
                limits::NAME_BYTES_MAX
            ));
        }
        if offer.slots == 0 || offer.slots > limits::SLOTS_PER_OFFER_MAX {
            return Err(format!("slots must be 1 to {}", limits::SLOTS_PER_OFFER_MAX));
        }
        let fits = |name: &str| is_name(name) && name.len() <= limits::GROUP_BYTES_MAX;
        if !offer.group.as_deref().is_none_or(fits) {
            return Err(format!(
                "a group must be 1 to {} bytes without control characters",
                limits::GROUP_BYTES_MAX
            ));
        }
        if !self.seen.insert((offer.intent.clone(), offer.model.clone())) {
            return Err("the same intent and model twice".into());
        }
        self.offers.push(Offer { price: None, ..offer });
        Ok(())
    }
}

/// A realm closes a session that offers anything else.
fn is_name(name: &str) -> bool {
    (1..=limits::NAME_BYTES_MAX).contains(&name.len()) && text::is_plain(name)
}

/// A program's offers: it is told of the first that is wrong.
fn tidy_offers(offers: Vec<Offer>) -> Result<Vec<Offer>, String> {
    let mut tidy = Tidy::default();
    offers.into_iter().try_for_each(|offer| tidy.add(offer))?;
    Ok(tidy.offers)
}

/// A backend's words, cut to their bound.
fn bounded(text: &str) -> &str {
    text.get(..text.floor_char_boundary(limits::BACKEND_MESSAGE_BYTES_MAX)).unwrap_or(text)
}
