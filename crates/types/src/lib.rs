//! The words that cross a process or a disk: ids, amounts, events, manifests, facts, messages
//! between nodes, and the codes of rejections.
//!
//! Invariants: every type here has one text form and one byte form; a fact or a message that was
//! written once can be read for ever (a changed one is a new variant at the end of its enum);
//! there are no floats. Absent on purpose: clocks, randomness, I/O, and any decision.

pub mod account;
pub mod amount;
mod band;
pub mod event;
pub mod fact;
pub mod id;
pub mod intent;
pub mod manifest;
pub mod message;
mod meta;
pub mod model;
pub mod mutants;
pub mod rejection;
pub mod standing;
pub mod text;
pub mod time;
pub mod worker;

pub use amount::{Amount, AmountError, Price};
pub use id::{
    AccountId, Attempt, Digest, Fence, IntentId, KeyHash, NodeId, RealmId, SessionId, TransferId,
    WorkerId,
};
pub use rejection::{Code, Rejection};
pub use time::Time;
