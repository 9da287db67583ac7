//! Every bound of the client. Sizes are bytes, times milliseconds.

/// An answer that is no stream. A result is at most a worker's frame of 16 MiB, and its envelope.
pub(crate) const BODY_BYTES_MAX: usize = 17 * 1024 * 1024;
/// A refusal's document; of a longer one only the status is told.
pub(crate) const REFUSAL_BYTES_MAX: usize = 64 * 1024;
/// One message of a stream: a piece or a result, and its envelope.
pub(crate) const MESSAGE_BYTES_MAX: usize = 17 * 1024 * 1024;

/// To open a connection.
pub(crate) const CONNECT_MS: u64 = 10_000;
/// From a request to the end of its answer, or to the head of a stream.
pub(crate) const ANSWER_MS: u64 = 30_000;
/// A stream without a byte, comments included, for this long counts as broken.
pub(crate) const SILENCE_MS: u64 = 60_000;
/// The receipt follows the end within this long, or is not waited for.
pub(crate) const SETTLE_MS: u64 = 20_000;
/// An idle connection is kept this long.
pub(crate) const IDLE_MS: u64 = 60_000;

/// Connections in a row that brought nothing new before a stream is given up. With the pauses
/// below that is about half a minute: a realm's restart.
pub(crate) const TRIES_MAX: u32 = 9;
/// Pause before the second try; it doubles.
pub(crate) const BACKOFF_MS_MIN: u64 = 250;
pub(crate) const BACKOFF_MS_MAX: u64 = 8_000;
