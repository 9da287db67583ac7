//! The events of an intent as clients see them: CloudEvents, the same over SSE and WebSocket.

use mtor_types::event::EventOut;
use mtor_types::fact::Asset;
use mtor_types::intent::{Outcome, Reason, Usage};
use mtor_types::{AccountId, Amount, Attempt, Code, IntentId, RealmId, WorkerId};
use serde::Serialize;
use serde_json::value::RawValue;

use super::Edge;
use crate::streams::{Ended, Entry, IntentStream, LastEventId, Server};

/// One event, ready to be sent.
#[derive(Clone, Debug)]
pub struct Rendered {
    pub kind: &'static str,
    /// What a client resumes after; only pieces have one.
    pub id: Option<LastEventId>,
    pub json: String,
    /// Whether it is the intent's end.
    pub is_end: bool,
}

#[derive(Serialize)]
struct Money {
    asset: Asset,
    amount: Amount,
}

#[derive(Serialize)]
struct Accepted {
    intent: IntentId,
    hold: Money,
}

#[derive(Serialize)]
struct Queued {
    intent: IntentId,
    position: u64,
    eta_ms: u64,
}

#[derive(Serialize)]
struct Started<'a> {
    intent: IntentId,
    attempt: Attempt,
    worker: Worker<'a>,
    /// The one that answers, whatever the client called it.
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    realm: RealmId,
}

#[derive(Serialize)]
struct Worker<'a> {
    id: WorkerId,
    /// As its owner calls it.
    name: &'a str,
    owner: AccountId,
    /// `own`, `proven` or `probation`.
    standing: &'static str,
}

#[derive(Serialize)]
struct Chunk<'a> {
    intent: IntentId,
    attempt: Attempt,
    seq: u64,
    piece: &'a RawValue,
}

#[derive(Serialize)]
struct Restarted {
    intent: IntentId,
    attempt: Attempt,
}

#[derive(Serialize)]
struct Completed<'a> {
    intent: IntentId,
    reason: Reason,
    result: Option<&'a RawValue>,
    usage: Usage,
    cost: Money,
    refunded: Money,
}

#[derive(Serialize)]
struct Failed<'a> {
    intent: IntentId,
    code: Code,
    reason: &'a str,
    refunded: Money,
}

#[derive(Serialize)]
struct Stopped {
    intent: IntentId,
    usage: Usage,
    cost: Money,
    refunded: Money,
}

#[derive(Serialize)]
struct Settled<'a> {
    intent: IntentId,
    receipt: &'a RawValue,
}

/// Renders one entry. Its id is the same whenever and to whomever it is sent: a client may drop
/// what it has seen. `cause` is the id of the client's own event, where the intent came as one.
pub fn render(
    edge: &Edge,
    intent: IntentId,
    cause: Option<&str>,
    entry: &Entry,
) -> Option<Rendered> {
    let to = Envelope { source: &edge.source, intent, cause, place: place(entry) };
    Some(match entry {
        Entry::Accepted { asset, hold } => {
            let hold = Money { asset: *asset, amount: *hold };
            to.event("mtor.intent.accepted.v1", &Accepted { intent, hold })?
        }
        Entry::Queued { position, wait_ms } => {
            let queued = Queued { intent, position: *position, eta_ms: *wait_ms };
            to.event("mtor.intent.queued.v1", &queued)?
        }
        Entry::Started { attempt, by: Server { worker, owner, class } } => {
            let name = edge.names.of(*worker);
            let (owner, standing) = (*owner, class.name());
            let worker = Worker { id: *worker, name: &name, owner, standing };
            let (attempt, realm) = (*attempt, edge.identity.realm());
            let stream = edge.streams.get(intent);
            let model = stream.as_deref().and_then(IntentStream::model);
            let started = Started { intent, attempt, worker, model, realm };
            to.event("mtor.intent.started.v1", &started)?
        }
        Entry::Chunk { attempt, seq, piece } => {
            let (attempt, seq, piece) = (*attempt, *seq, raw(piece)?);
            let id = Some(LastEventId { attempt, seq });
            let data = Chunk { intent, attempt, seq, piece };
            Rendered { id, ..to.event("mtor.intent.chunk.v1", &data)? }
        }
        Entry::Restarted { attempt } => {
            let attempt = *attempt;
            to.event("mtor.intent.restarted.v1", &Restarted { intent, attempt })?
        }
        Entry::End(ended) => Rendered { is_end: true, ..end(&to, ended)? },
        Entry::Settled(receipt) => {
            let receipt = raw(receipt)?;
            to.event("mtor.intent.settled.v1", &Settled { intent, receipt })?
        }
    })
}

fn end(to: &Envelope<'_>, ended: &Ended) -> Option<Rendered> {
    let Ended { end, message, result } = ended;
    let (intent, asset, usage) = (to.intent, end.asset, end.usage);
    let cost = Money { asset, amount: end.cost };
    let refunded = Money { asset, amount: end.refunded };
    match end.outcome {
        Outcome::Completed(reason) => {
            let result = result.as_ref().and_then(raw);
            let data = Completed { intent, reason, result, usage, cost, refunded };
            to.event("mtor.intent.completed.v1", &data)
        }
        Outcome::Failed(code) => {
            let reason = message.as_deref().unwrap_or("it failed");
            to.event("mtor.intent.failed.v1", &Failed { intent, code, reason, refunded })
        }
        Outcome::Cancelled => {
            to.event("mtor.intent.cancelled.v1", &Stopped { intent, usage, cost, refunded })
        }
        Outcome::Expired => {
            to.event("mtor.intent.expired.v1", &Stopped { intent, usage, cost, refunded })
        }
        // Told by the refusal itself; no end event is published for it.
        Outcome::Refused => None,
    }
}

/// What tells an entry from every other of its intent.
fn place(entry: &Entry) -> String {
    match entry {
        Entry::Accepted { .. } => "accepted".to_owned(),
        Entry::Queued { .. } => "queued".to_owned(),
        Entry::Started { attempt, .. } => format!("started.{attempt}"),
        Entry::Chunk { attempt, seq, .. } => format!("{attempt}.{seq}"),
        Entry::Restarted { attempt } => format!("restarted.{attempt}"),
        Entry::End(_) => "end".to_owned(),
        Entry::Settled(_) => "settled".to_owned(),
    }
}

/// What every event of one intent has in common.
struct Envelope<'a> {
    source: &'a str,
    intent: IntentId,
    cause: Option<&'a str>,
    place: String,
}

impl Envelope<'_> {
    fn event(&self, kind: &'static str, data: &impl Serialize) -> Option<Rendered> {
        let id = format!("{}/{}", self.intent, self.place);
        let event = EventOut::new(id, self.source, kind, data);
        let event = EventOut { causationid: self.cause, ..event };
        let json = serde_json::to_string(&event).ok()?;
        Some(Rendered { kind, id: None, json, is_end: false })
    }
}

/// JSON that was checked when it came in.
fn raw(bytes: &bytes::Bytes) -> Option<&RawValue> {
    serde_json::from_slice(bytes).ok()
}
