//! Every bound of this crate.

/// Longest sound, as the edge counts it: half an hour.
pub const LENGTH_MS_MAX: u64 = 30 * 60 * 1000;
/// Largest sound, in bytes as it was recorded.
pub const BYTES_MAX: usize = 10 * 1000 * 1000;
/// Packets of other tracks and packets without any sound that are passed over: half an hour of the
/// shortest packets that exist (2.5 ms) has 720,000.
pub const PACKETS_MAX: u64 = 1_000_000;
/// Channels that are mixed into one.
pub const CHANNELS_MAX: usize = 8;
/// Samples a second of a recording.
pub const RATE_MIN: u32 = 8_000;
pub const RATE_MAX: u32 = 192_000;
/// Most frames of one packet: a block of FLAC.
pub const PACKET_FRAMES_MAX: usize = 65_536;
