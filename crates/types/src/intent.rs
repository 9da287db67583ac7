//! What the realm knows of an intent besides its payload, and how an intent can end.

use serde::{Deserialize, Serialize};

use crate::amount::Amount;
use crate::fact::Asset;
use crate::id::{Attempt, Digest, IntentId};
use crate::rejection::Code;

pub use crate::band::Band;
pub use crate::meta::{Branch, IntentMeta, IntentMetaV1, Meta, Origin};

/// Whose workers may serve.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Trust {
    /// Only workers of the realm's own account.
    Own,
    /// Own ones, and those that are proven. Once called `certified`: the same number in the log.
    #[default]
    Proven,
    Any,
}

/// The flow's own split: interactive work has more weight than batch work.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    #[default]
    Interactive,
    Batch,
}

/// What binds a client's (account, source, id) to one intent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Idempotency {
    /// SHA-256 over account, source and id.
    pub key: Digest,
    /// SHA-256 of the body: the same key with another body is a conflict.
    pub body: Digest,
}

/// Metered units; `units` is what is billed, the two parts are informative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    pub units: u64,
    #[serde(default)]
    pub input: u64,
    #[serde(default)]
    pub output: u64,
}

/// Why an intent completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    Done,
    /// What the ceiling buys was used up.
    Ceiling,
}

/// The one end of an intent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    Completed(Reason),
    Failed(Code),
    Cancelled,
    Expired,
    /// Never admitted: the router had no place for it. No end event is published for it.
    Refused,
}

impl Outcome {
    /// In one word: as a status, in metrics and in event types.
    pub fn name(self) -> &'static str {
        match self {
            Self::Completed(_) => "completed",
            Self::Failed(_) => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Refused => "refused",
        }
    }
}

/// How an intent ended, as the accountant resolved it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    pub intent: IntentId,
    pub outcome: Outcome,
    pub usage: Usage,
    pub asset: Asset,
    /// What was captured.
    pub cost: Amount,
    /// What was released.
    pub refunded: Amount,
    /// The number of the resolution's first transfer, 0 if nothing moved.
    pub sequence: u64,
}

/// What an edge asks for when work on an intent stops, with its own metered figure, taken after it
/// stopped forwarding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndRequest {
    pub intent: IntentId,
    /// The attempt this speaks of; `None` when the intent may still be queued.
    pub attempt: Option<Attempt>,
    pub why: Why,
    pub usage: Usage,
    /// Whether any piece reached the client's buffer.
    pub delivered: bool,
}

/// Why work stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Why {
    Completed(Reason),
    /// The worker failed; `retry` says whether another may do better.
    WorkerFailed {
        code: Code,
        retry: bool,
    },
    Cancelled,
    Expired,
    /// The edge no longer has the payload.
    PayloadGone,
}

impl Outcome {
    /// The code that stands for an end that gave no result.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Completed(_) | Self::Refused => None,
            Self::Failed(code) => Some(*code),
            Self::Cancelled => Some(Code::Cancelled),
            Self::Expired => Some(Code::Expired),
        }
    }
}
