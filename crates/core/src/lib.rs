//! The services of a realm as deterministic state machines, and the node that joins them.
//!
//! Bird's eye: a [`Node`] takes [`Command`]s, lets its services decide, and gives back facts to
//! append and [`Effect`]s to carry out. Invariants: no clock, no randomness, no socket, no file, no
//! async; time and fresh ids come in with each command; the durable part of a state changes only
//! by `apply(&fact)`, which never decides; every queue has a bound in [`limits`]. A service knows
//! the others only by [`mtor_types::message::Message`].

pub mod accountant;
pub mod authorize;
pub mod command;
pub mod effect;
pub mod events;
pub mod levels;
pub mod limits;
pub mod node;
pub mod registry;
pub mod router;
pub mod share;
mod snapshot;
mod steps;
pub mod turn;

pub use command::Command;
pub use effect::{Effect, When};
pub use node::{Node, NodeConfig};
