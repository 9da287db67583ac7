//! The shell of a realm: sockets, timers and keys around the core.
//!
//! Invariants: no rule of fairness or money is decided here; a payload is never logged; nothing
//! that the core calls durable leaves before its batch is synced.

pub mod admission;
pub mod answers;
pub mod api_error;
mod canaries;
pub mod edge;
mod holders;
mod http;
pub mod identity;
pub mod manifests;
pub mod origin;
pub mod realm;
pub mod receipts;
pub mod sessions;
pub mod shares;
pub mod shell;
pub mod streams;
pub mod told;
pub mod weights;

pub use manifests::{ManifestNews, ManifestProblem};
pub use origin::Networks;
pub use realm::{OpenError, Realm, RealmOptions};
pub use shares::Room;
pub use told::{Arriving, ArrivingState, ModelAbout, ModelsTold, OfferedAs, Teller, megabytes};
pub use weights::Weight;
