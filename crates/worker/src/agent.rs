//! The agent: one task that owns the session, the leases and the offers. Executors are tasks of
//! their own and report through one bounded channel.
//!
//! A session's loss stops nothing: executors go on, the agent dials again with back-off, lists
//! what it holds, and the realm adopts or revokes.

mod link;
mod offers;
mod thread;

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use mtor_types::event::EventIn;
use mtor_types::worker::{
    self, Acknowledge, Assign, Credit, Drain, Fail, Offer, OfferList, Ping, RefusedOffer,
    RefusedOffers, Renew, Revoke, WorkerHello,
};
use serde_json::value::RawValue;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep_until};

use crate::connect::{Dialer, Dialled};
use crate::error::WorkerError;
use crate::executors::{
    Executor, Job, OfferUpdate, Output, Report, Started, Surroundings, Update, What,
};
use crate::frame::Encoder;
use crate::identity::Identity;
use crate::leases::{End, Key, Leases, NewLease, SlotOf};
use crate::limits;
use crate::options::{Change, ExecutorOptions, Status, StatusSink, WorkerOptions};
use crate::session::{Event, Refused, Session};
use link::{Link, LinkEvent, State};
use offers::Offers;
pub use thread::run;

/// The agent's life; executors work on `work`.
async fn converse(
    mut options: WorkerOptions,
    work: Handle,
    stop: impl Future<Output = ()>,
) -> Result<(), WorkerError> {
    let mut parent = options.parent.take();
    let mut agent = Agent::new(options, work, parent.is_some())?;
    let mut reports = Vec::with_capacity(limits::REPORTS_PER_WAKE_MAX);
    let mut stop = pin!(stop);
    while !agent.is_over() {
        agent.fill();
        agent.retire();
        let timer = agent.next_timer();
        tokio::select! {
            event = agent.link.next() => agent.on_link(event)?,
            _ = agent.reports.recv_many(&mut reports, limits::REPORTS_PER_WAKE_MAX) => {
                reports.drain(..).for_each(|report| agent.on_report(report));
            }
            Some(update) = agent.updates.recv() => match update {
                Update::Offers(update) => agent.on_offers(update),
                Update::Tell(status) => agent.tell(|| status),
            },
            () = sleep_until(timer.unwrap_or_else(Instant::now)), if timer.is_some() => {
                agent.leases.expire(Instant::now());
            }
            () = &mut stop, if agent.drain_until.is_none() => agent.drain(),
            change = next(&mut parent) => match change {
                Some(change) => agent.on_change(change),
                None => return Ok(()),
            },
        }
    }
    if let State::Up(session) = agent.link.state {
        session.close().await;
    }
    Ok(())
}

/// The next wish of the process that started this one; `None` once it is gone.
async fn next(parent: &mut Option<mpsc::Receiver<Change>>) -> Option<Change> {
    match parent {
        Some(parent) => parent.recv().await,
        None => std::future::pending().await,
    }
}

struct Agent {
    /// Where executors work.
    work: Handle,
    identity: Arc<Identity>,
    dialer: Arc<Dialer>,
    link: Link,
    leases: Leases,
    /// By a number that is never used again: what an executor has said may come after its end.
    executors: BTreeMap<usize, Executor>,
    executors_begun: usize,
    /// Those that were added while the agent runs, by the number of whoever added them.
    added: BTreeMap<u64, usize>,
    /// Taken away: they do what they have begun, and offer nothing.
    retiring: BTreeSet<usize>,
    offers: Offers,
    reports: mpsc::Receiver<Report>,
    report_to: mpsc::Sender<Report>,
    /// Of the programs that executors start.
    surroundings: Surroundings,
    updates: mpsc::Receiver<Update>,
    update_to: mpsc::Sender<Update>,
    /// Not every executor has said what it can do, and the realm was not dialled yet.
    gathering: bool,
    drain_grace: Duration,
    drain_until: Option<Instant>,
    status: Option<StatusSink>,
    /// People read the statuses: a warning beside them would say the same twice.
    is_told: bool,
    has_parent: bool,
}

impl Agent {
    fn new(options: WorkerOptions, work: Handle, has_parent: bool) -> Result<Self, WorkerError> {
        if options.executors.is_empty() {
            return Err(WorkerError::NoExecutor);
        }
        let identity = Arc::new(Identity::open(&options.identity)?);
        let dialer = Dialer::new(
            Arc::clone(&identity),
            &options.realm,
            options.name,
            options.token.filter(|token| !token.is_empty()),
        )?;
        let (report_to, reports) = mpsc::channel(limits::REPORTS_MAX);
        let (update_to, updates) = mpsc::channel(limits::OFFER_UPDATES_MAX);
        let dialer = Arc::new(dialer);
        let mut agent = Self {
            work,
            // The first offer is to be a full one: dialled when every executor has said what it
            // can do, and at the latest after this.
            link: Link::wait(Duration::from_millis(limits::FIRST_OFFER_MS)),
            gathering: true,
            identity,
            dialer,
            leases: Leases::default(),
            executors: BTreeMap::new(),
            executors_begun: 0,
            added: BTreeMap::new(),
            retiring: BTreeSet::new(),
            offers: Offers::new(options.prices),
            reports,
            report_to,
            surroundings: options.surroundings,
            updates,
            update_to,
            drain_grace: options.drain_grace,
            drain_until: None,
            is_told: options.status.is_some() && !has_parent,
            has_parent,
            status: options.status,
        };
        for executor in options.executors {
            agent.begin(executor)?;
        }
        agent.tell(|| Status::Ready { worker: agent.identity.worker() });
        agent.dial_when_full();
        Ok(agent)
    }

    /// Starts an executor and gives its number.
    fn begin(&mut self, options: ExecutorOptions) -> Result<usize, WorkerError> {
        let number = self.executors_begun;
        let _there = self.work.enter();
        let (executor, known) =
            Executor::start(number, options, &self.surroundings, &self.update_to)?;
        self.executors_begun += 1;
        self.executors.insert(number, executor);
        self.offers.expect(number);
        if let Some(known) = known {
            self.offers.set(number, Ok(known));
        }
        Ok(number)
    }

    fn on_change(&mut self, change: Change) {
        match change {
            Change::Add { key, executor } => {
                let begun = if self.added.len() < limits::ADDED_EXECUTORS_MAX {
                    self.begin(executor).map_err(|error| error.to_string())
                } else {
                    Err(format!("at most {} are added at a time", limits::ADDED_EXECUTORS_MAX))
                };
                match begun {
                    Ok(number) => {
                        self.added.insert(key, number);
                        // One that says later what it can do sends it then.
                        if self.offers.is_known(number) {
                            self.send_offers();
                        }
                    }
                    Err(reason) => {
                        let executor = format!("added {key}");
                        self.tell(|| Status::ExecutorDown { executor, reason });
                    }
                }
            }
            Change::Remove { key } => {
                let Some(number) = self.added.remove(&key) else { return };
                self.retiring.insert(number);
                if self.offers.set(number, Ok(Vec::new())) {
                    self.send_offers();
                }
            }
        }
    }

    /// Ends the executors that were taken away and have done what they had.
    fn retire(&mut self) {
        let is_done = |number: &usize| !self.leases.is_any_running_on(*number);
        for number in self.retiring.extract_if(.., is_done) {
            self.executors.remove(&number);
            self.offers.forget(number);
        }
    }

    fn dial_when_full(&mut self) {
        if self.gathering && self.offers.is_full() {
            self.gathering = false;
            for intent in self.offers.priced_in_vain() {
                tracing::warn!(intent, "a price for what this worker does not offer");
            }
            self.link.redial(Arc::clone(&self.dialer));
        }
    }

    fn tell(&self, status: impl FnOnce() -> Status) {
        if let Some(sink) = &self.status {
            sink(status());
        }
    }

    /// Whether a drain is done: nothing is held, or its time is over.
    fn is_over(&self) -> bool {
        let Some(until) = self.drain_until else { return false };
        let flushed = match &self.link.state {
            State::Up(session) => session.has_room(),
            State::Waiting(_) | State::Dialling(_) => true,
        };
        (self.leases.len() == 0 && flushed) || until <= Instant::now()
    }

    fn next_timer(&self) -> Option<Instant> {
        match (self.leases.next_timer(), self.drain_until) {
            (Some(lease), Some(drain)) => Some(lease.min(drain)),
            (lease, drain) => lease.or(drain),
        }
    }

    fn drain(&mut self) {
        tracing::info!(leases = self.leases.len(), "draining");
        self.tell(|| Status::Draining { leases: self.leases.len() });
        self.drain_until = Some(Instant::now() + self.drain_grace);
        if let Some(session) = self.link.session() {
            session.push(worker::DRAIN, Drain {});
        }
        self.hasten_drain();
    }

    /// When nothing works any more a drain only waits for acknowledgements.
    fn hasten_drain(&mut self) {
        if let Some(until) = &mut self.drain_until
            && self.leases.unfinished() == 0
        {
            let soon = Instant::now() + Duration::from_millis(limits::DRAIN_ACKNOWLEDGE_MS);
            *until = soon.min(*until);
        }
    }

    /// Gives the session what is ready, if it has room.
    fn fill(&mut self) {
        let Some(session) = self.link.session() else { return };
        if !session.has_room() {
            return;
        }
        let mut sent = Vec::new();
        let (encoder, out) = session.queue();
        self.leases.fill(limits::FLUSH_BYTES_MAX, encoder, out, &mut sent);
        for end in &sent {
            let intent = end.key.intent;
            match &end.outcome {
                Ok(_) if end.kept => {}
                Ok(units) => self.tell(|| Status::Completed { intent, units: *units }),
                Err(code) => self.tell(|| Status::Failed { intent, code: *code }),
            }
        }
        if !sent.is_empty() {
            self.hasten_drain();
        }
    }

    fn on_link(&mut self, event: LinkEvent) -> Result<(), WorkerError> {
        match event {
            LinkEvent::Dialled(dialled) => self.on_dialled(*dialled),
            LinkEvent::Failed(error) => {
                let refused = if error.refused { Refused::Unwanted } else { Refused::Not };
                return self.on_lost(error.reason, refused);
            }
            LinkEvent::RetryNow => {
                self.gathering = false;
                self.link.redial(Arc::clone(&self.dialer));
            }
            LinkEvent::Session(Event::Frames(frames)) => {
                self.on_heard();
                frames.iter().for_each(|frame| self.on_frame(frame));
            }
            LinkEvent::Session(Event::Flushed) => {}
            LinkEvent::Session(Event::Heartbeat) => return self.on_heartbeat(),
            LinkEvent::Session(Event::Closed { reason, refused }) => {
                return self.on_lost(reason, refused);
            }
        }
        Ok(())
    }

    fn on_dialled(&mut self, dialled: Dialled) {
        let realm = dialled.hello.realm;
        if let Some(realm) = dialled.enrolled {
            tracing::info!(%realm, "enrolled");
            self.tell(|| Status::Enrolled { realm });
        }
        let worker = self.identity.worker();
        let proof = worker::session_proof(realm, dialled.hello.nonce, worker);
        let hello = WorkerHello {
            worker,
            signature: self.identity.sign(&proof),
            leases: self.leases.held(),
        };
        let mut session =
            Session::new(dialled.socket, dialled.life, dialled.hello, Encoder::new(worker));
        session.push(worker::HELLO, hello);
        self.link.up(Box::new(session));
        // The realm waits for these second: what is held is adopted under them.
        self.send_offers();
        let draining = self.drain_until.is_some();
        let Some(session) = self.link.session() else { return };
        session.ask();
        if draining {
            session.push(worker::DRAIN, Drain {});
        }
    }

    /// The realm's first word after its hello says that it has taken this worker.
    fn on_heard(&mut self) {
        let Some(session) = self.link.session() else { return };
        if !session.is_newly_taken() {
            return;
        }
        let realm = session.hello.realm;
        self.dialer.session_taken(realm);
        tracing::info!(%realm, "connected");
        self.tell(|| Status::Connected { realm });
    }

    fn send_offers(&mut self) {
        let Some(session) = self.link.session() else { return };
        let offers = self.offers.list(session.knows_groups());
        session.push(worker::OFFER, OfferList { offers: offers.clone() });
        let full = self.offers.is_full();
        self.tell(|| Status::Offered { offers, full });
    }

    fn on_lost(&mut self, reason: String, refused: Refused) -> Result<(), WorkerError> {
        if refused == Refused::Replaced {
            self.tell(|| Status::Replaced);
        }
        if let Some(error) = self.dialer.session_refused(refused) {
            return Err(error);
        }
        self.leases.disconnect();
        let retry_after = self.link.lose();
        // Who started this one knows better than it what became of the realm.
        if self.is_told || self.has_parent {
            tracing::info!(%reason, ?retry_after, "no session");
        } else {
            tracing::warn!(%reason, ?retry_after, "no session");
        }
        self.tell(|| Status::Disconnected { reason, retry_after });
        Ok(())
    }

    fn on_heartbeat(&mut self) -> Result<(), WorkerError> {
        let leases = self.leases.claims();
        let Some(session) = self.link.session() else { return Ok(()) };
        if session.is_silent(Instant::now()) {
            return self.on_lost("the realm is silent".into(), Refused::Not);
        }
        if leases.is_empty() {
            session.beat(worker::PING, Ping {});
        } else {
            session.beat(worker::RENEW, Renew { leases });
        }
        Ok(())
    }

    fn on_report(&mut self, report: Report) {
        match report.what {
            What::Piece(piece) => self.leases.piece(report.key, report.serial, piece),
            What::End(end) => self.leases.end(report.key, report.serial, end),
        }
    }

    fn on_offers(&mut self, update: OfferUpdate) {
        // What was taken away may still have had something to say.
        if self.retiring.contains(&update.executor)
            || !self.executors.contains_key(&update.executor)
        {
            return;
        }
        if let Err(reason) = &update.offers {
            let executor = self.executors.get(&update.executor);
            let label = executor.map_or("", Executor::label).to_owned();
            if self.is_told {
                tracing::info!(executor = %label, %reason, "executor down");
            } else {
                tracing::warn!(executor = %label, %reason, "executor down");
            }
            self.tell(|| Status::ExecutorDown { executor: label, reason: reason.clone() });
        }
        let (number, offers) = (update.executor, self.grouped(update.executor, update.offers));
        if self.offers.set(number, offers) {
            self.send_offers();
        }
        self.dial_when_full();
    }

    /// As the realm is told whose slots they take.
    fn grouped(
        &self,
        number: usize,
        offers: Result<Vec<Offer>, String>,
    ) -> Result<Vec<Offer>, String> {
        let executor = self.executors.get(&number);
        let grouped = |offer: Offer| Offer {
            group: executor.and_then(|executor| executor.group(number, offer.group.clone())),
            ..offer
        };
        Ok(offers?.into_iter().map(grouped).collect())
    }

    /// One event of the realm. What is not understood is logged without its content, and skipped.
    fn on_frame(&mut self, text: &str) {
        let event = match EventIn::parse(text) {
            Ok(event) => event,
            Err(_) => {
                tracing::warn!(bytes = text.len(), "a frame from the realm is not an event");
                return;
            }
        };
        let understood = match &*event.kind {
            worker::ASSIGN => {
                event.data::<Assign<&RawValue>>().map(|assign| self.on_assign(assign))
            }
            worker::CREDIT => event.data().map(|credit: Credit| {
                self.leases.credit(key(credit.intent, credit.attempt), credit.bytes);
            }),
            worker::ACKNOWLEDGE => event.data().map(|done: Acknowledge| {
                let (key, intent) = (key(done.intent, done.attempt), done.intent);
                if let Some(units) = self.leases.acknowledged(key) {
                    self.tell(|| Status::Completed { intent, units });
                }
            }),
            worker::REVOKE => event.data().map(|revoke: Revoke| {
                self.leases.forget(key(revoke.intent, revoke.attempt));
                self.hasten_drain();
            }),
            worker::REFUSED => event.data().map(|refused: RefusedOffers| {
                for offer in refused.offers {
                    self.offer_refused(offer);
                }
            }),
            _ => Ok(()),
        };
        if understood.is_err() {
            tracing::warn!(bytes = text.len(), "an event of the realm has data that does not fit");
        }
    }

    /// An offer of ours counts for nothing there. The words are the realm's: no control characters
    /// of it reach a terminal.
    fn offer_refused(&self, offer: RefusedOffer) {
        let RefusedOffer { intent, model, code, message } = offer;
        let plain = |text: String| text.escape_debug().to_string();
        let (intent, model) = (plain(intent), model.map(plain));
        let (code, message) = (plain(code), plain(message));
        tracing::warn!(%intent, ?model, %code, %message, "the realm refuses an offer");
        self.tell(|| Status::OfferRefused { intent, model, code, message });
    }

    fn on_assign(&mut self, assign: Assign<&RawValue>) {
        let Some(session) = self.link.session() else { return };
        let (credit, groups) = (session.hello.credit, session.knows_groups());
        let key = key(assign.intent, assign.attempt);
        let deadline = Duration::from_millis(assign.deadline_ms.min(limits::DEADLINE_MS_MAX));
        let deadline = Instant::now() + deadline;
        if self.leases.contains(key) {
            self.leases.adopt(key, assign.fence, assign.token, credit, deadline);
            return;
        }
        let slot = match self.slot_for(&assign, groups) {
            Ok(slot) => slot,
            Err(end) => {
                tracing::warn!(intent = %assign.intent, name = %assign.name.escape_debug(), "an assignment that cannot be taken");
                self.refuse(key, end);
                return;
            }
        };
        let backlog = Arc::new(Semaphore::new(limits::BACKLOG_BYTES_MAX));
        let executor = slot.executor;
        let serial = self.leases.insert(NewLease {
            key,
            fence: assign.fence,
            token: assign.token,
            slot,
            credit,
            deadline,
            backlog: Arc::clone(&backlog),
        });
        self.tell(|| Status::Started { intent: assign.intent, name: assign.name.clone() });
        let output = Output::new(key, serial, self.report_to.clone(), backlog);
        let job = Job {
            key,
            name: assign.name,
            model: assign.model,
            stream: assign.stream,
            limit: assign.limit,
            output: assign.output,
            meter: assign.meter.clone(),
            deadline,
            data: assign.data.to_owned(),
        };
        let Some(executor) = self.executors.get(&executor) else { return };
        let started = {
            let _there = self.work.enter();
            executor.run(job, output)
        };
        match started {
            Started::Done(end) => self.leases.end(key, serial, end),
            Started::Running(work) => self.leases.set_work(key, work),
        }
    }

    /// The slot that an assignment takes, or why it cannot have one.
    fn slot_for(&self, assign: &Assign<&RawValue>, groups: bool) -> Result<SlotOf, End> {
        if self.drain_until.is_some() {
            return Err(End::backend("this worker is draining"));
        }
        if self.leases.len() >= limits::LEASES_MAX {
            return Err(End::backend("this worker holds too many leases"));
        }
        let wanted = (&*assign.name, assign.model.as_deref());
        self.offers.slot_for(wanted, assign.group.as_deref(), groups, &self.leases)
    }

    fn refuse(&mut self, key: Key, end: End) {
        let (Some(session), End::Fail { code, message, retry }) = (self.link.session(), end) else {
            return;
        };
        let (intent, attempt) = (key.intent, key.attempt);
        session.push(worker::FAIL, Fail { intent, attempt, code, message, retry });
    }
}

fn key(intent: mtor_types::IntentId, attempt: mtor_types::Attempt) -> Key {
    Key { intent, attempt }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[tokio::test]
    async fn what_an_executor_says_after_it_was_taken_away_is_not_told() {
        let folder = std::env::temp_dir().join(format!("mtor-agent-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut options = WorkerOptions::new("http://127.0.0.1:9", folder.join("worker.key"));
        options.token = Some("x".into());
        options.executors = vec![ExecutorOptions::Fft { slots: 1 }];
        let told = Arc::new(Mutex::new(0));
        let telling = Arc::clone(&told);
        options.status = Some(Box::new(move |status| {
            let is_down = matches!(status, Status::ExecutorDown { .. });
            *telling.lock().unwrap() += usize::from(is_down);
        }));
        let mut agent = Agent::new(options, Handle::current(), false).unwrap();
        let executor = ExecutorOptions::Echo { slots: 1 };
        agent.on_change(Change::Add { key: 7, executor });
        let late = || OfferUpdate { executor: 1, offers: Err("its program ended".into()) };
        agent.on_offers(late());
        assert_eq!(*told.lock().unwrap(), 1);
        agent.on_change(Change::Remove { key: 7 });
        agent.on_offers(late());
        agent.retire();
        agent.on_offers(late());
        assert_eq!(*told.lock().unwrap(), 1);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
