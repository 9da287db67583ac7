//! The node's own thread.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mtor_core::{Command, Effect, Node, When, limits};
use mtor_store::{Log, Snapshot, StoreError, encode_batch};
use mtor_types::IntentId;

use super::clock::Clock;
use super::store_thread::{self, Followers, ToStore};
use super::{
    Answer, COMMANDS_MAX, CallError, NodeHandle, ROUND_MAX, Reply, Request, SNAPSHOT_FACTS, Shared,
    Sink, StoreState, UNSYNCED_MAX,
};

/// How long a stop waits for a store that does not answer.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// The running shell; stop it with [`Shell::stop`].
pub struct Shell {
    handle: NodeHandle,
    node: JoinHandle<()>,
    store: JoinHandle<()>,
}

impl Shell {
    pub fn handle(&self) -> NodeHandle {
        self.handle.clone()
    }

    /// Takes no more commands, syncs what was decided, and ends both threads.
    pub fn stop(self) {
        self.handle.shared.stopping.store(true, Ordering::Release);
        let _ = self.handle.requests.send(Request::Stop);
        drop(self.handle);
        // A panicked thread has told its own story on stderr.
        let _ = self.node.join();
        let _ = self.store.join();
    }
}

/// Why the threads do not run.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the start cannot be recorded")]
    Store(#[from] StoreError),
    #[error(
        "the recovered state does not hold ({0}): nothing was written; keep this data directory as \
         it is and start from a copy of an earlier one"
    )]
    Broken(String),
    #[error("the node's threads cannot be started")]
    Threads(#[from] std::io::Error),
}

/// Starts both threads around a recovered node. The boot's epoch is synced before any effect of
/// it leaves, so attempts and fences never repeat; a store that cannot take it starts nothing.
/// `connect` is given the handle before the node's first effect.
pub fn start<L: Log + 'static>(
    mut node: Node,
    mut log: L,
    clock: Clock,
    sink: Arc<dyn Sink>,
    mut followers: Followers,
    connect: impl FnOnce(NodeHandle),
) -> Result<Shell, StartError> {
    if clock.sets_back() {
        node.start_back(clock.now());
    } else {
        node.start(clock.now());
    }
    node.check_invariants().map_err(StartError::Broken)?;
    let boot: Vec<_> = node.close_batch().iter().map(encode_batch).collect();
    log.append(&boot)?;
    (followers.synced)(boot);
    let (requests, inbox) = sync_channel(COMMANDS_MAX);
    // Above the bound at which new work is refused, so that ends of open work still pass.
    let room = usize::try_from(UNSYNCED_MAX).unwrap_or(usize::MAX).saturating_mul(4);
    let (to_store, store_inbox) = sync_channel(room);
    let shared = Arc::new(Shared::default());
    shared.synced.store(node.batch(), Ordering::Release);
    let handle = NodeHandle { requests: requests.clone(), shared: Arc::clone(&shared) };
    connect(handle.clone());
    let store = std::thread::Builder::new().name("store".into()).spawn({
        let (shared, sink) = (Arc::clone(&shared), Arc::clone(&sink));
        let wake = requests.clone();
        move || store_thread::run(log, &store_inbox, &shared, &*sink, &wake, followers)
    })?;
    let node = std::thread::Builder::new().name("node".into()).spawn(move || {
        let _ends = EndsWithPanic;
        let mut thread = NodeThread::new(node, clock, sink, shared, to_store);
        // The boot's own effects wait for its batch, which is synced.
        thread.end_round(Vec::new());
        thread.release();
        thread.run(&inbox);
    })?;
    Ok(Shell { handle, node, store })
}

/// A panic of the node is a fault of the program: what it decided last is not trusted. Nothing of
/// it was written, so the process ends and recovers from the log, as it does when the store fails.
struct EndsWithPanic;

impl Drop for EndsWithPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("the node broke an invariant; ending to recover from the log");
            std::process::exit(1);
        }
    }
}

struct NodeThread {
    node: Node,
    clock: Clock,
    sink: Arc<dyn Sink>,
    shared: Arc<Shared>,
    to_store: SyncSender<ToStore>,
    /// Effects and answers by the batch they wait for, in order.
    waiting: VecDeque<(u64, Waiting)>,
    follow: Vec<Command>,
    facts_since_snapshot: usize,
    /// When this thread last saw that it runs.
    looked: Instant,
    stopping: bool,
}

enum Waiting {
    Effect(Effect),
    Answer(Answer),
}

impl NodeThread {
    fn new(
        node: Node,
        clock: Clock,
        sink: Arc<dyn Sink>,
        shared: Arc<Shared>,
        to_store: SyncSender<ToStore>,
    ) -> Self {
        Self {
            node,
            clock,
            sink,
            shared,
            to_store,
            waiting: VecDeque::new(),
            follow: Vec::new(),
            facts_since_snapshot: 0,
            looked: Instant::now(),
            stopping: false,
        }
    }

    fn run(&mut self, inbox: &Receiver<Request>) {
        while !self.stopping {
            let Some(first) = self.wait(inbox) else { continue };
            self.look();
            let mut answers = Vec::new();
            self.take(first, &mut answers);
            for request in inbox.try_iter().take(ROUND_MAX) {
                self.take(request, &mut answers);
            }
            self.tick_if_due();
            self.end_round(answers);
            self.release();
        }
        self.drain(inbox);
    }

    /// Tells the node for how long this thread did not run: the process was stopped, the machine
    /// slept, or a disk held it up.
    fn look(&mut self) {
        let now = Instant::now();
        let gap = now.duration_since(std::mem::replace(&mut self.looked, now));
        let gap_ms = u64::try_from(gap.as_millis()).unwrap_or(u64::MAX);
        if gap_ms > limits::PAUSE_MS {
            tracing::warn!(gap_ms, "the realm stood still; that is nobody else's silence");
        }
        self.node.paused(self.clock.now(), gap_ms);
    }

    /// Waits for a request or for the node's next timer.
    fn wait(&mut self, inbox: &Receiver<Request>) -> Option<Request> {
        let idle = Duration::from_millis(limits::ROUND_MS);
        let timer = self.node.next_timeout().map(|at| self.clock.instant(at));
        let timer = timer.map(|at| at.saturating_duration_since(Instant::now()));
        let timeout = timer.map_or(idle, |timer| timer.min(idle));
        match inbox.recv_timeout(timeout) {
            Ok(request) => Some(request),
            Err(RecvTimeoutError::Timeout) => {
                self.tick_if_due();
                self.end_round(Vec::new());
                self.release();
                None
            }
            Err(RecvTimeoutError::Disconnected) => {
                self.stopping = true;
                None
            }
        }
    }

    fn tick_if_due(&mut self) {
        // Here, too: a round may be held up in its midst.
        self.look();
        let now = self.clock.now();
        if self.node.next_timeout().is_some_and(|at| at <= now) {
            self.node.tick(now);
            self.drain_effects();
        }
    }

    fn take(&mut self, request: Request, answers: &mut Vec<Answer>) {
        match request {
            Request::Command(command, reply) => {
                let decided = match self.refuses_now(&command) {
                    Some(error) => Err(error),
                    None => self.handle(*command),
                };
                match (decided, reply) {
                    (Ok(()), Reply::Asker(answer)) => answers.push(answer),
                    (Err(error), reply) => self.refuse(reply, error),
                    (Ok(()), Reply::Sink(_) | Reply::Nobody) => {}
                }
            }
            Request::Question(question) => question(&self.node),
            Request::Synced => {}
            Request::Stop => self.stopping = true,
        }
    }

    fn refuse(&self, reply: Reply, error: CallError) {
        match reply {
            Reply::Asker(answer) => {
                // Who asked may be gone by now.
                let _ = answer.send(Err(error));
            }
            Reply::Sink(intent) => self.sink.refused(intent, error),
            Reply::Nobody => {}
        }
    }

    fn handle(&mut self, command: Command) -> Result<(), CallError> {
        let decided = self.node.handle(self.clock.now(), command);
        self.drain_effects();
        Ok(decided?)
    }

    /// New work waits for a store that keeps up; what is open may always end.
    fn refuses_now(&self, command: &Command) -> Option<CallError> {
        if !begins_work(command) {
            return None;
        }
        match self.shared.store() {
            StoreState::Good => {}
            state @ (StoreState::Full | StoreState::Failing) => {
                return Some(CallError::Store(state));
            }
        }
        let synced = self.shared.synced.load(Ordering::Acquire);
        let unsynced = self.node.batch().saturating_sub(synced);
        (unsynced >= UNSYNCED_MAX).then_some(CallError::Overloaded)
    }

    /// Carries out what may leave now and keeps the rest for its batch's sync. Commands that follow
    /// from it are handled at once, so the loop ends when nothing follows any more.
    fn drain_effects(&mut self) {
        loop {
            // An effect belongs to the batch that is open now; without facts, to the last closed.
            while let Some((when, effect)) = self.node.poll_effect() {
                match when {
                    When::Now => self.sink.carry(effect, &mut self.follow),
                    When::Durable => {
                        let batch = self.node.batch().saturating_add(1);
                        self.waiting.push_back((batch, Waiting::Effect(effect)));
                    }
                }
            }
            if self.follow.is_empty() {
                return;
            }
            for command in std::mem::take(&mut self.follow) {
                // A rejection here means that the intent is over already.
                let _ = self.node.handle(self.clock.now(), command);
            }
        }
    }

    /// Hands the batch to the store; answers wait for it.
    fn end_round(&mut self, answers: Vec<Answer>) {
        self.drain_effects();
        let next = self.node.batch().saturating_add(1);
        for answer in answers {
            self.waiting.push_back((next, Waiting::Answer(answer)));
        }
        let Some(batch) = self.node.close_batch() else {
            // Nothing was decided: what waits for this round waits for the last batch only.
            let last = self.node.batch();
            for (batch, _) in self.waiting.iter_mut().rev().take_while(|(batch, _)| *batch > last) {
                *batch = last;
            }
            return;
        };
        self.facts_since_snapshot = self.facts_since_snapshot.saturating_add(batch.facts.len());
        // Only a store thread that is gone refuses it, and then nothing will be promised again.
        let _ = self.to_store.send(ToStore::Batch(encode_batch(&batch)));
        if self.facts_since_snapshot >= SNAPSHOT_FACTS {
            self.snapshot();
        }
    }

    fn snapshot(&mut self) {
        self.facts_since_snapshot = 0;
        match self.node.encode_state() {
            Ok(bytes) => {
                let snapshot = Snapshot { batch: self.node.batch(), bytes };
                let _ = self.to_store.send(ToStore::Snapshot(snapshot));
            }
            Err(error) => tracing::error!(error = &error as &dyn std::error::Error, "snapshot"),
        }
    }

    /// Lets go of what waited for batches that are synced now.
    fn release(&mut self) {
        let synced = self.shared.synced.load(Ordering::Acquire);
        let mut settled: Vec<IntentId> = Vec::new();
        let mut settling = 0;
        while self.waiting.front().is_some_and(|(batch, _)| *batch <= synced) {
            let Some((batch, waiting)) = self.waiting.pop_front() else { break };
            if batch != settling && !settled.is_empty() {
                self.sink.settled(settling, std::mem::take(&mut settled));
            }
            settling = batch;
            match waiting {
                Waiting::Effect(Effect::Settled { end, .. }) => settled.push(end.intent),
                Waiting::Effect(effect) => self.sink.carry(effect, &mut self.follow),
                Waiting::Answer(answer) => {
                    let _ = answer.send(Ok(()));
                }
            }
        }
        if !settled.is_empty() {
            self.sink.settled(settling, settled);
        }
        if !self.follow.is_empty() {
            self.end_round(Vec::new());
        }
    }

    /// The end: a snapshot, so that the next start reads little, then everything synced and what
    /// waited for it let go. What came too late is refused.
    fn drain(&mut self, inbox: &Receiver<Request>) {
        self.end_round(Vec::new());
        self.snapshot();
        let _ = self.to_store.send(ToStore::Stop);
        let until = Instant::now() + STOP_PATIENCE;
        while !self.waiting.is_empty() && Instant::now() < until {
            self.release();
            // The store's thread wakes this one after each sync.
            if let Ok(Request::Command(_, reply)) = inbox.recv_timeout(Duration::from_millis(10)) {
                self.refuse(reply, CallError::Stopping);
            }
        }
        for request in inbox.try_iter() {
            if let Request::Command(_, reply) = request {
                self.refuse(reply, CallError::Stopping);
            }
        }
    }
}

/// Whether a command makes the realm promise something new.
fn begins_work(command: &Command) -> bool {
    match command {
        Command::Submit { .. }
        | Command::OpenLedger { .. }
        | Command::OpenAccount(_)
        | Command::AddKey { .. }
        | Command::RevokeKey { .. }
        | Command::BanAccount { .. }
        | Command::FillUp { .. }
        | Command::IssueInvites { .. }
        | Command::WithdrawInvites
        | Command::LimitAccount { .. }
        | Command::Enrol { .. }
        | Command::RemoveWorker { .. }
        | Command::BanWorker { .. }
        | Command::FundCanaries { .. }
        | Command::Vouch { .. }
        | Command::JudgeCanary { .. }
        | Command::Deliver { .. } => true,
        Command::End(_)
        | Command::Stop { .. }
        | Command::Attach(_)
        | Command::Heard { .. }
        | Command::Renew { .. }
        | Command::Detach { .. }
        | Command::Acknowledged { .. } => false,
    }
}
