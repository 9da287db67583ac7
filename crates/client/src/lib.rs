//! The public API of a realm as a Rust client.
