//! The shell around a node: its thread, its store's thread, its clock.
//!
//! The node's thread takes a round of commands, lets the node decide each, carries out the effects
//! that may leave at once, and hands the batch of facts to the store's thread. That one appends and
//! syncs as many batches as wait, in one go, while the node goes on; durable effects and answers
//! leave when their batch is synced. Up to [`UNSYNCED_MAX`] batches may wait; beyond it new work is
//! refused. Absent on purpose: any rule of fairness or money.

mod clock;
pub mod jumps;
mod node_thread;
mod projection;
mod snapshots;
mod store_thread;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};

use mtor_core::command::Prior;
use mtor_core::share::Rank;
use mtor_core::{Command, Effect, Node};
use mtor_types::IntentId;
use mtor_types::intent::IntentMeta;
use mtor_types::rejection::Rejection;
use tokio::sync::oneshot;

pub use clock::{Clock, wall};
pub use node_thread::{Shell, StartError, start};
pub use projection::{Projection, follow};
pub use snapshots::keep;
pub use store_thread::{Followers, OnSnapshot, OnSynced};

/// Commands that wait for the node.
const COMMANDS_MAX: usize = 65_536;
/// Commands of one round, so that one batch stays small enough to sync soon.
const ROUND_MAX: usize = 1_024;
/// Batches that may wait for the store before new work is refused. Under load a batch may hold one
/// intent only, and a sync or a snapshot may stall for a tenth of a second.
const UNSYNCED_MAX: u64 = 4_096;
/// Facts between two snapshots: bounds what a restart reads.
const SNAPSHOT_FACTS: usize = 200_000;

/// Carries out what the node decided, on the node's own thread: it must not block.
pub trait Sink: Send + Sync + 'static {
    /// Commands that follow at once, such as an edge's metered figure, go into `follow`.
    fn carry(&self, effect: Effect, follow: &mut Vec<Command>);

    /// A submission that was not taken; of one that was, everything comes as effects.
    fn refused(&self, intent: IntentId, error: CallError);

    /// The facts of a batch are synced: the ends of these intents may be promised.
    fn settled(&self, batch: u64, intents: Vec<IntentId>);

    /// Whether the store takes facts has changed.
    fn store_changed(&self, state: StoreState);
}

/// How the store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreState {
    Good,
    /// The disk is full: nothing new is accepted, nothing is lost.
    Full,
    /// Appends fail for another reason and are retried.
    Failing,
}

impl StoreState {
    fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Good,
            1 => Self::Full,
            _ => Self::Failing,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Full => "full",
            Self::Failing => "failing",
        }
    }

    fn number(self) -> u8 {
        match self {
            Self::Good => 0,
            Self::Full => 1,
            Self::Failing => 2,
        }
    }
}

/// Why a command was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    #[error(transparent)]
    Rejected(#[from] Rejection),
    #[error("the realm cannot store more just now")]
    Store(StoreState),
    #[error("too much waits for the node")]
    Overloaded,
    #[error("the realm is shutting down")]
    Stopping,
}

type Answer = oneshot::Sender<Result<(), CallError>>;
type Question = Box<dyn FnOnce(&Node) + Send>;

/// Who hears what became of a command.
enum Reply {
    Nobody,
    /// Once its facts are synced, or at once if it is refused.
    Asker(Answer),
    /// [`Sink::refused`], if it is refused.
    Sink(IntentId),
}

enum Request {
    Command(Box<Command>, Reply),
    Question(Question),
    /// The store's thread synced something.
    Synced,
    Stop,
}

/// What node, store and handles share.
#[derive(Debug, Default)]
struct Shared {
    /// The last batch that is synced.
    synced: AtomicU64,
    store: AtomicU8,
    stopping: AtomicBool,
}

impl Shared {
    fn store(&self) -> StoreState {
        StoreState::from_number(self.store.load(Ordering::Acquire))
    }
}

/// How everything else speaks to the node.
#[derive(Clone)]
pub struct NodeHandle {
    requests: SyncSender<Request>,
    shared: Arc<Shared>,
}

impl NodeHandle {
    /// Sends a command at once; what is given back waits until it is decided and its facts are
    /// synced.
    pub fn call(
        &self,
        command: Command,
    ) -> impl Future<Output = Result<(), CallError>> + Send + use<> {
        let (answer, answered) = oneshot::channel();
        let sent = self.send(Request::Command(Box::new(command), Reply::Asker(answer)));
        async move {
            sent?;
            answered.await.unwrap_or(Err(CallError::Stopping))
        }
    }

    /// Asks for work. What becomes of it the sink hears, whether or not anybody still waits.
    ///
    /// # Errors
    /// `Overloaded`, `Stopping`: it did not reach the node, and the sink hears nothing.
    pub fn submit(
        &self,
        meta: Box<IntentMeta>,
        prior: Option<Prior>,
        rank: Rank,
    ) -> Result<(), CallError> {
        let reply = Reply::Sink(meta.id);
        self.send(Request::Command(Box::new(Command::Submit { meta, prior, rank }), reply))
    }

    /// Sends a command that nobody waits for, but that must not be lost: waits for room.
    /// Not for the node's own thread.
    pub fn tell(&self, command: Command) {
        // The only error is a node that is gone, and then there is nothing left to tell.
        let _ = self.requests.send(Request::Command(Box::new(command), Reply::Nobody));
    }

    /// Reads something of the node's state between two commands.
    pub async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Node) -> T + Send + 'static,
    ) -> Result<T, CallError> {
        let (answer, answered) = oneshot::channel();
        let question = Box::new(move |node: &Node| {
            // Who asked may be gone by now.
            let _ = answer.send(question(node));
        });
        self.send(Request::Question(question))?;
        answered.await.map_err(|_| CallError::Stopping)
    }

    /// The last batch that is synced.
    pub fn synced(&self) -> u64 {
        self.shared.synced.load(Ordering::Acquire)
    }

    pub fn store_state(&self) -> StoreState {
        self.shared.store()
    }

    fn send(&self, request: Request) -> Result<(), CallError> {
        if self.shared.stopping.load(Ordering::Acquire) {
            return Err(CallError::Stopping);
        }
        self.requests.try_send(request).map_err(|error| match error {
            TrySendError::Full(_) => CallError::Overloaded,
            TrySendError::Disconnected(_) => CallError::Stopping,
        })
    }
}
