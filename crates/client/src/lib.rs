//! The public API of a realm as a Rust client.
//!
//! One [`Client`] is one realm's address and, mostly, one key. Each family of paths is a file of
//! its own; [`IntentStream`] follows one intent over as many connections as that takes.
//!
//! ```no_run
//! use mtor_client::{Client, EventKind, Intent};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let realm = Client::new("http://127.0.0.1:9000")?;
//! let guest = realm.open_guest(None, None).await?;
//! let realm = realm.with_key(&guest.api_key)?;
//! let data = serde_json::value::to_raw_value(&"hello")?;
//! let mut events = realm.submit_streaming(&Intent::new("echo", data))?;
//! while let Some(event) = events.next().await? {
//!     if let EventKind::Completed(done) = event.kind {
//!         println!("{:?}", done.result);
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Invariants: a key stands in a header only, never in an address, and is never shown by `Debug`;
//! every answer is bounded in bytes and in time; what the realm refuses comes back with the
//! realm's own code and words; fields that a newer realm adds are ignored, never an error.
//! Absences: it reads no environment and no file, remembers nothing, retries nothing but the
//! connection of a stream, and prints nothing.

mod accounts;
mod address;
mod catalogue;
mod client;
mod error;
mod event;
mod intents;
mod limits;
mod sse;
mod stream;
mod sysop;

pub use accounts::{
    Account, Balance, Guest, Key, NewKey, NoGrant, OwnerProof, Transfer, WorkerToken,
};
pub use catalogue::{Model, Owner, PoolRow, Served, Standing, UnitPrice};
pub use client::{Client, Page};
pub use error::ClientError;
pub use event::{Begun, Bill, Chunk, Done, Event, EventKind, Lost, Money, Server, Starts, Waits};
pub use intents::{Accepted, Intent, IntentView, OwnIntent, Quote};
pub use sse::{SseError, SseMessage, SseParser};
pub use stream::IntentStream;
pub use sysop::{
    AccountRow, EjectedRow, Health, IntentRow, Invites, OfferRow, ProofRow, UnusedInvites,
    WorkerRow,
};
