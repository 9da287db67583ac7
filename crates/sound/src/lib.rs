//! Sound that strangers send, and the two things that are written beside it: the head of a WAV file
//! and captions.
//!
//! Purpose: one place that knows what kinds of sound are taken, how long a sound is (what an edge
//! bounds a price by) and its samples (what a model hears). Containers and codecs are kept
//! libraries; what is ours are the bounds around them.
//!
//! Invariants: the length is counted from the packets themselves, never read from a header that
//! claims it; what is decoded is never longer than that; no sound is held decoded as a whole; a
//! library that panics on foreign bytes is a refusal. Every loop has a bound in [`limits`].
//!
//! Absences: no files, no network, no threads, no model.

pub mod captions;
mod codec;
mod fault;
mod kind;
pub mod limits;
mod packets;
mod samples;
pub mod wav;

pub use fault::Fault;
pub use kind::Kind;
pub use packets::length_ms;
pub use samples::{Samples, resampled};

/// Samples a second that [`Samples`] gives, of one channel.
pub const RATE: u32 = 16_000;
