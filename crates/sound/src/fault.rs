//! Why a sound is refused. A text names what is wrong and the remedy, and holds no content.

use crate::limits::{BYTES_MAX, CHANNELS_MAX, LENGTH_MS_MAX, RATE_MAX, RATE_MIN};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("the sound is empty; record something")]
    Empty,
    #[error("the sound has {0} bytes, at most {BYTES_MAX} are taken; send a shorter or packed one")]
    Large(usize),
    #[error(
        "the sound is longer than {} minutes; cut it and send the parts one after the other",
        LENGTH_MS_MAX / 60_000
    )]
    Long,
    #[error(
        "the sound is of no kind that is taken; send WAV, FLAC, MP3, AAC in MP4, Opus in WebM or Ogg, or pcm16"
    )]
    Unknown,
    #[error("the sound is {said}, and its bytes are not")]
    Other { said: &'static str },
    #[error("the sound ({kind}) is broken: {what}; record it again")]
    Broken { kind: &'static str, what: &'static str },
    #[error("the sound ({kind}) holds {what}, which is not taken; send WAV, or Opus in WebM")]
    Codec { kind: &'static str, what: &'static str },
    #[error(
        "the sound ({kind}) holds {found}; {kind} is taken with {taken} alone: send that, or WAV"
    )]
    OtherCodec { kind: &'static str, found: &'static str, taken: &'static str },
    #[error("the sound has {0} samples a second; {RATE_MIN} to {RATE_MAX} are taken")]
    Rate(u32),
    #[error("the sound has {0} channels; 1 to {CHANNELS_MAX} are taken")]
    Channels(usize),
}
