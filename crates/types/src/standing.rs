//! How a worker stands in what it serves: what it has earned, and what it has shown.

use serde::{Deserialize, Serialize};

use crate::id::{Attempt, IntentId, WorkerId};
use crate::intent::Branch;

/// What is asked of a worker: an intent, by its manifest's name, and the model for it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KindName {
    pub intent: String,
    pub model: Option<String>,
}

/// By what a worker is proven in a kind. It shows ability, not honesty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    /// Right answers to the realm's own test intents, on more than one day.
    Canaries,
    /// The sysop's word.
    Vouch,
}

/// As the registry tells the router. Of a kind that is not told nothing is earned or proven yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    pub kind: KindName,
    pub proven: bool,
    /// At most so many of the slots that it offers are used for others than its owner.
    pub slots: u32,
    /// It serves only what no other connected worker could.
    pub ejected: bool,
}

/// What an attempt says of its worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mark {
    Good,
    /// It failed, broke a rule of the protocol or was lost.
    Bad,
    /// It failed, and another worker could do it.
    Confirmed,
    /// It failed, and so did another worker; or it was silent, and ended well, was cancelled or failed in a
    /// way that blames nobody.
    Excused,
    /// Nothing comes of it for too long. It goes on.
    Silent,
}

/// How an attempt went, whoever asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worked {
    pub worker: WorkerId,
    pub kind: KindName,
    pub intent: IntentId,
    pub attempt: Attempt,
    /// Under whose weight the intent stood: failures of one branch alone may be its own doing.
    pub branch: Branch,
    pub mark: Mark,
}
