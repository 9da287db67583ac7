//! The node agent: session, leases and executors.
//!
//! Purpose: [`run`] dials one realm, offers what its executors can do, runs what it is assigned
//! and streams the answers back. It only dials out.
//!
//! Invariants: an attempt is run at most once by one agent, however often its session breaks; a
//! piece is sent only within the credit that the realm granted; pieces and completion are kept
//! (bounded) until the realm acknowledges them; whatever the realm revokes stops at once; every
//! queue has its bound in `limits`.
//!
//! Absences: it knows nothing of prices (it only passes the operator's on), accounts or fairness,
//! reads no environment variable, prints nothing, and never logs a client's content.

mod agent;
mod connect;
mod error;
mod executors;
mod frame;
mod http_client;
mod identity;
mod leases;
mod limits;
mod memory;
mod options;
mod places;
mod session;
mod wire;

pub use agent::run;
pub use error::WorkerError;
pub use executors::{ModelNames, Surroundings};
pub use memory::{fits_memory, memory_free, memory_free_beside, memory_needed};
pub use options::{
    AudioOptions, BackendNews, Change, EngineOptions, ExecutorOptions, OpenAiOptions, Status,
    StatusSink, WorkerOptions,
};
pub use places::{Discovery, discover};
