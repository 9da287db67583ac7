//! What goes into a buffer and comes out of it.

use std::sync::Arc;

use bytes::Bytes;
use mtor_core::router::TrustClass;
use mtor_core::share::{Limited, Refused};
use mtor_types::fact::Asset;
use mtor_types::intent::{End, Usage};
use mtor_types::{AccountId, Amount, Attempt, WorkerId};

use super::meter::Content;

/// Who works on an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Server {
    pub worker: WorkerId,
    pub owner: AccountId,
    /// As its owner's worker stands here.
    pub class: TrustClass,
}

/// One step of an intent's life, as its clients see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    Accepted {
        asset: Asset,
        hold: Amount,
    },
    Queued {
        position: u64,
        wait_ms: u64,
    },
    Started {
        attempt: Attempt,
        by: Server,
    },
    Chunk {
        attempt: Attempt,
        seq: u64,
        piece: Bytes,
    },
    /// What came of that attempt counts no more; another one will begin.
    Restarted {
        attempt: Attempt,
    },
    End(Arc<Ended>),
    /// The receipt, as JSON.
    Settled(Bytes),
}

/// The one end of an intent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    pub end: End,
    /// Why it failed, for the client.
    pub message: Option<String>,
    /// The worker's result, unless all of it was sent in pieces.
    pub result: Option<Bytes>,
}

/// A piece or a result, and what it holds.
#[derive(Clone, Debug)]
pub struct Measured {
    pub bytes: Bytes,
    pub content: Content,
}

impl Measured {
    /// All of it is content.
    pub fn plain(bytes: Bytes) -> Self {
        let content = Content::plain(bytes.len() as u64);
        Self { bytes, content }
    }
}

/// A `null` after pieces says that they are all there is.
pub fn is_all_in_pieces(result: &[u8], delivered: bool) -> bool {
    delivered && result == b"null"
}

/// Why a piece or a result was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// Not the attempt that is open here: drop it without a word.
    #[error("this attempt is not open")]
    Stale,
    /// The worker broke the protocol.
    #[error("expected seq {expected}")]
    Sequence { expected: u64 },
    /// Neither a piece nor a result with anything of what was asked for: the worker's failure, as
    /// the next four.
    #[error("the worker's answer holds nothing")]
    Nothing,
    #[error("the worker's answer is longer than what was asked for can be: {most} bytes")]
    Beyond { most: u64 },
    #[error("the worker's answer has {came} items of the {asked} that were asked for")]
    Items { asked: u64, came: u64 },
    #[error(
        "the worker's answer is nested deeper than {} levels",
        crate::admission::json::DEPTH_MAX
    )]
    TooDeep,
    /// No route could write it for its client.
    #[error("{0}")]
    Unreadable(&'static str),
    /// More than one buffer may hold: stop the attempt.
    #[error("the answer is larger than this realm keeps")]
    Full,
    /// The buffers' disk is full or fails: stop the attempt, it may do better another time.
    #[error("the realm has no room for the answer just now; nothing was charged")]
    NoRoom,
    /// Its account, or its network, has all of that disk that it may have, and nothing of it is over: stop
    /// the attempt.
    #[error("{}; nothing was charged", .0.of(Limited::Spill))]
    Share(Refused),
}

/// The figures of an attempt once nothing more of it is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Closed {
    /// `None` if none has begun.
    pub attempt: Option<Attempt>,
    pub usage: Usage,
    /// Whether a piece of this attempt stands in the buffer.
    pub delivered: bool,
}
