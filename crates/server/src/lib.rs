//! The shell of a realm: sockets, timers and keys around the core.

pub mod admission;
pub mod api_error;
pub mod identity;
pub mod manifests;
pub mod receipts;
pub mod streams;
