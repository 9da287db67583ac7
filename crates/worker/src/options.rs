//! What the agent is told at its start, and what it tells while it runs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use mtor_types::worker::{FailCode, Offer};
use mtor_types::{IntentId, Price, RealmId, WorkerId};
use tokio::sync::mpsc;

use crate::executors::{ModelNames, Surroundings};
use crate::limits;
use crate::places::Finding;

/// Everything [`crate::run`] needs. Nothing is read from the environment.
pub struct WorkerOptions {
    /// `http://host:port` or `https://host`.
    pub realm: String,
    /// The Ed25519 key, 64 hex digits; made with mode 0600 if it is missing. Beside it, in
    /// `<identity>.realms`, stands where this worker is enrolled.
    pub identity: PathBuf,
    /// An enrolment token; used once, and only where this worker is not enrolled yet.
    pub token: Option<String>,
    /// What people call this worker, at most 64 bytes.
    pub name: String,
    /// Prices by intent name, in place of the list price.
    pub prices: BTreeMap<String, Price>,
    pub executors: Vec<ExecutorOptions>,
    /// All that the programs of executors find in their environment.
    pub surroundings: Surroundings,
    /// What a drain leaves to running work.
    pub drain_grace: Duration,
    /// What the process that started this one wants while it runs. When it closes, that process
    /// is gone and the agent ends at once.
    pub parent: Option<mpsc::Receiver<Change>>,
    /// Told of what happens; must not block.
    pub status: Option<StatusSink>,
}

/// Who hears of a [`Status`].
pub type StatusSink = Box<dyn Fn(Status) + Send + Sync>;

impl WorkerOptions {
    /// Options with defaults: no executor, an empty environment for its programs, no token, list prices, 30 s of drain.
    pub fn new(realm: impl Into<String>, identity: impl Into<PathBuf>) -> Self {
        Self {
            realm: realm.into(),
            identity: identity.into(),
            token: None,
            name: "worker".into(),
            prices: BTreeMap::new(),
            executors: Vec::new(),
            surroundings: Surroundings::default(),
            drain_grace: Duration::from_millis(limits::DRAIN_GRACE_MS),
            parent: None,
            status: None,
        }
    }
}

/// An executor more, or one less, than at the start. `key` is the caller's own number for it.
#[derive(Clone, Debug)]
pub enum Change {
    Add {
        key: u64,
        executor: ExecutorOptions,
    },
    /// It offers nothing any more and ends when it has done what it had begun.
    Remove {
        key: u64,
    },
}

/// One executor. Slots are of each offer it makes.
#[derive(Clone, Debug)]
pub enum ExecutorOptions {
    /// `echo` in process.
    Echo { slots: u32 },
    /// `fft` in process, one thread a slot.
    Fft { slots: u32 },
    /// A program that speaks one event a line; it says itself what it offers. `name` is what it is
    /// called where people are told of it, its path if there is none.
    Exec { name: Option<String>, program: PathBuf, args: Vec<String> },
    /// An OpenAI-compatible server, for `chat` and `embed`.
    OpenAi(OpenAiOptions),
    /// A model file on llama.cpp's server, for `chat`.
    Engine(EngineOptions),
    /// An OpenAI-compatible server of audio, for `transcribe` and `speak`.
    Audio(AudioOptions),
}

impl ExecutorOptions {
    pub fn echo() -> Self {
        Self::Echo { slots: 256 }
    }

    /// One slot a core.
    pub fn fft() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self::Fft { slots: u32::try_from(cores).unwrap_or(1).min(limits::SLOTS_PER_OFFER_MAX) }
    }
}

/// All is offered that `GET /v1/models` names and that has answered a small request of the worker's
/// own: as `chat` or `embed`, by what the server says, else by its name.
#[derive(Clone, Debug)]
pub struct OpenAiOptions {
    /// `http://127.0.0.1:11434`; a trailing `/v1` is accepted.
    pub url: String,
    /// Of each model.
    pub slots: u32,
    /// Sent as a bearer token.
    pub key: Option<String>,
    /// What clients call its models; one table for all backends of a worker.
    pub names: ModelNames,
    /// A place where a server may appear by itself: silent while none is there.
    pub finding: Option<Finding>,
}

impl OpenAiOptions {
    /// An address that the operator named, without a key and other names.
    pub fn new(url: impl Into<String>, slots: u32) -> Self {
        Self { url: url.into(), slots, key: None, names: ModelNames::default(), finding: None }
    }
}

/// Each model is offered that has understood, or spoken, a sentence of the worker's own.
#[derive(Clone, Debug)]
pub struct AudioOptions {
    /// `http://127.0.0.1:8000`; a trailing `/v1` is accepted.
    pub url: String,
    /// Of each model.
    pub slots: u32,
    /// Sent as a bearer token.
    pub key: Option<String>,
    /// Its models, where it has no list of them or not all are to be asked.
    pub models: Vec<String>,
    /// What clients call its models; one table for all backends of a worker.
    pub names: ModelNames,
}

/// One model file, and what runs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineOptions {
    /// What clients call the model.
    pub name: String,
    /// The weights, GGUF.
    pub file: PathBuf,
    /// `xllamacpp.abi3.so` of the wheel `xllamacpp`, or a folder that holds it.
    pub engine: PathBuf,
    /// Requests at once.
    pub slots: u32,
    pub threads: u32,
}

/// What an operator, or a parent process, may want to see. Never holds a client's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// The key was read or made.
    Ready {
        worker: WorkerId,
    },
    Enrolled {
        realm: RealmId,
    },
    /// The realm has taken this worker's session.
    Connected {
        realm: RealmId,
    },
    /// These offers were sent. `full`: every executor has said what it can do, or has failed.
    Offered {
        offers: Vec<Offer>,
        full: bool,
    },
    Started {
        intent: IntentId,
        name: String,
    },
    /// The realm has acknowledged the end, or was told of one too large to be kept for that;
    /// `units` is the worker's own count.
    Completed {
        intent: IntentId,
        units: u64,
    },
    /// Without its message: that is the client's, and a backend may quote the payload in it.
    Failed {
        intent: IntentId,
        code: FailCode,
    },
    /// An offer counts for nothing at this realm; the others stand.
    OfferRefused {
        intent: String,
        model: Option<String>,
        code: String,
        message: String,
    },
    /// An executor cannot work now; it is tried again.
    ExecutorDown {
        executor: String,
        reason: String,
    },
    /// Of servers of models.
    Backend(BackendNews),
    Disconnected {
        reason: String,
        retry_after: Duration,
    },
    /// Another process has this worker's key and has taken its session: this one ends.
    Replaced,
    Draining {
        leases: usize,
    },
}

/// What becomes of servers of models. Never holds their words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackendNews {
    /// A model is not offered, and why; `retry_after`: when it is asked again, if by itself.
    LeftOut { backend: String, model: String, reason: String, retry_after: Option<Duration> },
    /// A server of models was found by itself, or what is offered of it has changed. `models`: the
    /// names that are offered of it now; `listed`: how many models it has; `untried`: the ids, as in
    /// [`Self::LeftOut`], of its chat models that have not answered yet and are asked.
    Found {
        server: &'static str,
        url: String,
        models: Vec<String>,
        listed: usize,
        untried: Vec<String>,
    },
    /// A chat model of a server that was found is asked, too: it was loaded since, or the one before
    /// it failed. Its id as in [`Self::LeftOut`].
    Asked { url: String, model: String },
    /// A server that was found is gone.
    Gone { server: &'static str, url: String },
    /// Something that only the operator can do.
    Advice { message: String },
}
