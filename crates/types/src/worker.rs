//! The worker protocol: what realm and worker say to each other over one WebSocket, and, in the
//! same words, what a worker and an `--exec` program say to each other over a pipe.
//!
//! Every message is an event (see [`crate::event`]) whose type is `mtor.worker.<name>.v1` and
//! whose data is one of the structs here. `piece`, `result` and a client's `data` are raw JSON:
//! nobody on the way parses or rebuilds them.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::amount::Price;
use crate::id::{AccountId, Attempt, Digest, Fence, IntentId, RealmId, WorkerId};
use crate::intent::Usage;
use crate::manifest::Bound;

pub const HELLO: &str = "mtor.worker.hello.v1";
pub const OFFER: &str = "mtor.worker.offer.v1";
pub const ASSIGN: &str = "mtor.worker.assign.v1";
pub const CHUNK: &str = "mtor.worker.chunk.v1";
pub const COMPLETE: &str = "mtor.worker.complete.v1";
pub const FAIL: &str = "mtor.worker.fail.v1";
pub const ACKNOWLEDGE: &str = "mtor.worker.acknowledge.v1";
pub const CREDIT: &str = "mtor.worker.credit.v1";
pub const RENEW: &str = "mtor.worker.renew.v1";
pub const REVOKE: &str = "mtor.worker.revoke.v1";
pub const DRAIN: &str = "mtor.worker.drain.v1";
pub const PING: &str = "mtor.worker.ping.v1";
pub const REFUSED: &str = "mtor.worker.refused.v1";

/// One frame of a session, in either direction, and a line of an `--exec` program.
pub const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What an event adds around a payload, a piece or a result.
pub const ENVELOPE_BYTES_MAX: usize = 4 * 1024;
/// A payload, a piece or a result: a frame less its envelope.
pub const DATA_BYTES_MAX: usize = FRAME_BYTES_MAX - ENVELOPE_BYTES_MAX;

/// Realm → worker, first of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RealmHello {
    pub realm: RealmId,
    /// What the worker signs (see [`session_proof`]).
    pub nonce: Digest,
    /// How long a lease lasts without a renewal.
    pub lease_ms: u64,
    /// How often the worker renews its leases and says it is alive.
    pub heartbeat_ms: u64,
    /// Bytes of pieces a worker may send for one intent before the realm grants more.
    pub credit: u64,
    /// What it understands beyond the first releases: a worker says nothing of it unasked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub knows: Vec<String>,
}

/// In [`RealmHello::knows`]: offers may name a group.
pub const OFFER_GROUP: &str = "offer.group";

/// Worker → realm, its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerHello {
    pub worker: WorkerId,
    /// Ed25519 signature over [`session_proof`], lower-case hex.
    pub signature: String,
    /// What it still holds from an earlier session.
    #[serde(default)]
    pub leases: Vec<HeldLease>,
}

/// A lease as its holder proves it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeldLease {
    pub intent: IntentId,
    pub attempt: Attempt,
    pub fence: Fence,
    /// The MAC that came with the assignment.
    pub token: Digest,
}

/// A lease whose token was checked, or that its holder's live session names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LeaseClaim {
    pub intent: IntentId,
    pub attempt: Attempt,
}

/// Code of a session's close: the worker is banned, and may come again when it is not.
pub const CLOSE_BANNED: u16 = 4403;
/// Code of a session's close: the worker is not enrolled, or not any more.
pub const CLOSE_UNKNOWN: u16 = 4404;
/// Code of a session's close: a newer session of the same key took its place. A worker whose open
/// session ends so is not alone with its key: it stops, and never dials again by itself.
pub const CLOSE_REPLACED: u16 = 4409;

/// Worker → realm (and program → worker): everything it can do now. Replaces the offer before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfferList {
    pub offers: Vec<Offer>,
}

/// One thing a worker can do, at a price, so many times at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offer {
    /// The manifest's name.
    pub intent: String,
    #[serde(default)]
    pub model: Option<String>,
    pub slots: u32,
    /// Absent: the manifest's list price. A program never sets it; its worker may.
    #[serde(default)]
    pub price: Option<Price>,
    /// The model's context in tokens.
    #[serde(default)]
    pub context: Option<u32>,
    /// Offers that name one group share their slots: so many at once over all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}

/// Realm → worker: offers of the newest list that count for nothing here, and why. The others
/// stand. A worker that does not know this word passes over it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedOffers {
    pub offers: Vec<RefusedOffer>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedOffer {
    pub intent: String,
    #[serde(default)]
    pub model: Option<String>,
    /// As `MT0041`: text, so that a worker reads also what is newer than it.
    pub code: String,
    /// Names the field and the remedy.
    pub message: String,
}

/// Realm → worker: do this. `D` is the client's data, raw.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Assign<D = Box<RawValue>> {
    pub intent: IntentId,
    pub attempt: Attempt,
    /// The manifest's name.
    pub name: String,
    #[serde(default)]
    pub model: Option<String>,
    /// The group whose slot it takes, where its offer named one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The client wants pieces.
    pub stream: bool,
    /// The most units that will be paid.
    #[serde(default)]
    pub limit: Option<u64>,
    /// The most units of output that one answer may have, for a backend that is told a token
    /// limit. Absent if the manifest counts no output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<u64>,
    /// How the manifest counts, for a handler that counts by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meter: Option<AssignMeter>,
    /// Time left when this was sent.
    pub deadline_ms: u64,
    /// Between realm and worker only.
    #[serde(default)]
    pub fence: Fence,
    /// Between realm and worker only: what proves the lease after a reconnect.
    #[serde(default = "no_token")]
    pub token: Digest,
    pub data: D,
}

/// What a handler needs to count the units of its work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssignMeter {
    /// What a unit is called, as the manifest has it.
    pub unit: String,
    pub bound: Bound,
    /// Units that stand with the request itself, as the realm counted them.
    pub input: u64,
}

fn no_token() -> Digest {
    Digest([0; 32])
}

/// Worker → realm: a piece of the answer.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Chunk<'a> {
    pub intent: IntentId,
    pub attempt: Attempt,
    /// Dense, from 0.
    pub seq: u64,
    /// Units so far, as the worker counts them; the realm takes min(count, bound).
    pub count: u64,
    #[serde(borrow)]
    pub piece: &'a RawValue,
}

/// Worker → realm: done.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Complete<'a> {
    pub intent: IntentId,
    pub attempt: Attempt,
    pub usage: Usage,
    /// The result, unless all of it was sent in pieces. A `null` that is there is told from none:
    /// it may be what was asked for.
    #[serde(borrow, default, deserialize_with = "whatever_is_there")]
    pub result: Option<&'a RawValue>,
}

fn whatever_is_there<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Worker → realm: cannot do it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Fail {
    pub intent: IntentId,
    pub attempt: Attempt,
    pub code: FailCode,
    /// For the client: names the field and the remedy.
    pub message: String,
    /// Whether another worker may do better.
    pub retry: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailCode {
    BadRequest,
    ContextOverflow,
    Unsupported,
    Backend,
}

impl FailCode {
    /// As in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::ContextOverflow => "context_overflow",
            Self::Unsupported => "unsupported",
            Self::Backend => "backend",
        }
    }
}

/// Realm → worker: the completion is durable; the worker may forget it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledge {
    pub intent: IntentId,
    pub attempt: Attempt,
}

/// Realm → worker: so many more bytes of pieces may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credit {
    pub intent: IntentId,
    pub attempt: Attempt,
    pub bytes: u64,
}

/// Worker → realm: it still works on these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Renew {
    pub leases: Vec<LeaseClaim>,
}

/// Realm → worker (and worker → program): stop; nothing more of it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoke {
    pub intent: IntentId,
    pub attempt: Attempt,
}

/// Worker → realm: give it nothing new; it ends when its leases do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drain {}

/// Either way: alive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ping {}

/// What enrols a worker: `POST /v1/workers/enrol`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enrol {
    pub token: String,
    pub worker: WorkerId,
    /// Ed25519 signature over [`enrol_proof`], lower-case hex.
    pub signature: String,
    /// What people call it, at most 64 bytes.
    pub name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolled {
    pub worker: WorkerId,
    pub owner: AccountId,
    pub realm: RealmId,
}

/// The bytes a worker signs to open a session. The prefix keeps them from being anything else.
pub fn session_proof(realm: RealmId, nonce: Digest, worker: WorkerId) -> Vec<u8> {
    [b"mtor/worker-session/v1\0".as_slice(), &realm.0, &nonce.0, &worker.0].concat()
}

/// The bytes a worker signs to enrol. `token` is the secret itself, so the proof cannot be reused.
pub fn enrol_proof(token: &str, worker: WorkerId) -> Vec<u8> {
    [b"mtor/worker-enrol/v1\0".as_slice(), &worker.0, token.as_bytes()].concat()
}
