//! Effects of the node, carried out. Runs on the node's own thread: nothing here waits.

use std::sync::Arc;
use std::time::Duration;

use mtor_core::effect::{Assignment, CloseReason};
use mtor_core::{Command, Effect};
use mtor_store::{BlobName, BlobStore};
use mtor_types::intent::{End, EndRequest, IntentMeta, Outcome, Usage, Why};
use mtor_types::mutant;
use mtor_types::worker::{self, Assign, Revoke};
use mtor_types::{Attempt, Code, IntentId, model};

use super::Edge;
use super::live::{Admission, Assigned, Live};
use crate::admission::Ask;
use crate::api_error::ApiError;
use crate::shell::{CallError, Sink, StoreState};
use crate::streams::{Closed, IntentStream, Server};

/// The node's way to the edge. A type of its own, because carrying out may need the edge to live
/// on in a task.
pub struct Carrier(pub Arc<Edge>);

impl Sink for Carrier {
    fn carry(&self, effect: Effect, follow: &mut Vec<Command>) {
        let edge = &self.0;
        match effect {
            Effect::Admitted { intent, asset, hold, position, wait_ms } => {
                if let Some(live) = edge.lives.get(intent) {
                    edge.metrics.admitted();
                    live.stream.accepted(asset, hold, position, wait_ms);
                    live.admit(Admission::Admitted { asset, hold });
                    // It was cancelled before the node knew it, and that end found nothing to end.
                    if live.stream.is_stopped() {
                        follow.push(Command::End(edge.stop_work(intent, Why::Cancelled)));
                    }
                }
            }
            Effect::Joined { asked, intent } => edge.dismiss(asked, Admission::Joined(intent)),
            Effect::Refused { intent, rejection } => self.refused(intent, rejection.into()),
            Effect::Stop { intent, why } => {
                follow.push(Command::End(edge.stop_work(intent, why)));
            }
            Effect::Ended { end, durable: _ } => self.ended(end),
            Effect::Assign(assignment) => self.assign(assignment, Begin::Fresh),
            Effect::Adopt(assignment) => self.assign(assignment, Begin::Adopted),
            Effect::Revoke { edge: _, worker: _, session, intent, attempt } => {
                if let Some(session) = edge.sessions.get(session) {
                    session.send(worker::REVOKE, Revoke { intent, attempt });
                }
            }
            Effect::Lost { intent, attempt } => {
                follow.extend(edge.lost(intent, attempt).map(Command::End));
            }
            Effect::Restarted { intent, attempt } => {
                if let Some(live) = edge.lives.get(intent)
                    && !mutant!("edge-ignores-a-restart")
                {
                    live.stream.restarted(attempt);
                }
            }
            Effect::PoolsChanged => edge.offers_changed.notify_one(),
            Effect::CloseSession { edge: _, worker, session, why } => {
                tracing::info!(%worker, ?why, "worker session closed");
                if why == CloseReason::Replaced {
                    edge.metrics.replaced();
                }
                if let Some(session) = edge.sessions.get(session) {
                    session.end(why);
                }
            }
            Effect::WorkerForgotten { worker } => edge.names.forget(worker),
            // Of nodes that are not alone, and of [`Sink::settled`].
            Effect::Send { .. } | Effect::Acknowledge { .. } | Effect::Settled { .. } => {}
        }
    }

    fn refused(&self, intent: IntentId, error: CallError) {
        self.0.metrics.refused();
        self.0.dismiss(intent, Admission::Refused(error.into()));
    }

    fn settled(&self, batch: u64, intents: Vec<IntentId>) {
        self.0.settle(batch, intents);
    }

    fn store_changed(&self, state: StoreState) {
        tracing::warn!(store = state.name(), "store state changed");
    }
}

/// Whether a worker begins, or goes on with what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begin {
    Fresh,
    Adopted,
}

impl Carrier {
    fn assign(&self, assignment: Assignment, begin: Begin) {
        let edge = &self.0;
        match edge.lives.get(assignment.meta.id) {
            Some(live) if live.pays(assignment.price) => edge.dispatch(&live, &assignment, begin),
            // Prices were raised while it was queued: it ends, and costs nothing.
            Some(_) => edge.node().tell(Command::End(EndRequest {
                intent: assignment.meta.id,
                attempt: Some(assignment.attempt),
                why: Why::WorkerFailed { code: Code::NoWorker, retry: false },
                usage: Usage::default(),
                delivered: false,
            })),
            None => {
                // A durable intent after a restart: its payload is sealed on disk.
                let edge = Arc::clone(edge);
                edge.runtime.clone().spawn(async move {
                    match edge.reopen(&assignment.meta).await {
                        Some(live) => edge.dispatch(&live, &assignment, begin),
                        None => {
                            let end = EndRequest {
                                intent: assignment.meta.id,
                                attempt: Some(assignment.attempt),
                                why: Why::PayloadGone,
                                usage: Usage::default(),
                                delivered: false,
                            };
                            edge.node().tell(Command::End(end));
                        }
                    }
                });
            }
        }
    }

    fn ended(&self, end: End) {
        let edge = &self.0;
        let intent = end.intent;
        edge.metrics.ended(end.outcome);
        let live = edge.lives.get(intent);
        let message = match (&end.outcome, &live) {
            (Outcome::Failed(code), Some(live)) => {
                Some(live.message().unwrap_or_else(|| failure(*code).to_owned()))
            }
            (Outcome::Failed(code), None) => Some(failure(*code).to_owned()),
            (
                Outcome::Completed(_) | Outcome::Cancelled | Outcome::Expired | Outcome::Refused,
                _,
            ) => None,
        };
        let stream = match &live {
            Some(live) => {
                // A client that still waits for admission hears how it ended instead.
                live.admit(Admission::Refused(ApiError::new(
                    end.outcome.code().unwrap_or(Code::Internal),
                    "it ended before it was admitted",
                )));
                Arc::clone(&live.stream)
            }
            // Ended without ever running in this boot; its client may still come and ask.
            None => edge.streams.open_ended(intent),
        };
        stream.finish(edge.now(), end, message);
        if live.is_none_or(|live| live.durable) {
            let blobs = Arc::clone(&edge.blobs);
            edge.runtime.spawn_blocking(move || discard(&blobs, intent));
        }
    }
}

/// Removes a sealed payload that nobody needs any more.
fn discard(blobs: &BlobStore, intent: IntentId) {
    if let Err(error) = blobs.delete(BlobName::payload(intent)) {
        tracing::warn!(%intent, error = &error as &dyn std::error::Error, "payload");
    }
}

/// What a client is told of a failure that no worker explained.
pub fn failure(code: Code) -> &'static str {
    #[expect(clippy::wildcard_enum_match_arm, reason = "every other code has its own text")]
    match code {
        Code::WorkerFailed => "the worker was lost or could not do it; nothing was charged",
        Code::NoWorker => "no worker came to serve it; nothing was charged",
        Code::RealmRestarted => "the realm restarted; nothing was charged, send it again",
        _ => "it failed; nothing was charged",
    }
}

impl Edge {
    /// A submission that opened nothing. What was sealed for it goes before its client hears so:
    /// nobody may fill the disk for nothing.
    pub(super) fn dismiss(&self, intent: IntentId, admission: Admission) {
        self.streams.forget(intent);
        let Some(live) = self.lives.remove(intent) else { return };
        if !live.durable {
            live.admit(admission);
            return;
        }
        let blobs = Arc::clone(&self.blobs);
        self.runtime.spawn_blocking(move || {
            discard(&blobs, intent);
            live.admit(admission);
        });
    }

    /// Stops forwarding and takes the metered figure. For an intent that is not here any more the
    /// figure is nothing, but it is given: the node waits for it.
    pub(super) fn stop_work(&self, intent: IntentId, why: Why) -> EndRequest {
        let closed = self.lives.get(intent).and_then(|live| live.stream.close(None));
        let Closed { attempt, usage, delivered } = closed.unwrap_or_default();
        EndRequest { intent, attempt, why, usage, delivered }
    }

    /// `None`: its worker was done before it was lost, and the end that says so is on its way; that
    /// of durable work once the result is sealed. The node asks again until then.
    fn lost(&self, intent: IntentId, attempt: Attempt) -> Option<EndRequest> {
        let live = self.lives.get(intent);
        if live.as_ref().is_some_and(|live| live.stream.is_complete(attempt)) {
            return None;
        }
        let closed = live.and_then(|live| live.stream.close(Some(attempt)));
        let Closed { attempt: _, usage, delivered } = closed.unwrap_or_default();
        let why = Why::WorkerFailed { code: Code::WorkerFailed, retry: true };
        Some(EndRequest { intent, attempt: Some(attempt), why, usage, delivered })
    }

    /// Sends the payload to the session that the router chose.
    fn dispatch(&self, live: &Live, assignment: &Assignment, begin: Begin) {
        let Assignment { meta, attempt, fence, worker, session, limit, .. } = assignment;
        let Assignment { owner, class, .. } = *assignment;
        let by = Server { worker: *worker, owner, class };
        let begun = match begin {
            Begin::Fresh => live.stream.begin(*attempt, by, *limit),
            Begin::Adopted => live.stream.adopt(*attempt, by, *limit),
        };
        if !begun {
            // Over meanwhile; the revocation is on its way.
            return;
        }
        let assigned = Assigned {
            worker: *worker,
            session: *session,
            attempt: *attempt,
            fence: *fence,
            // What was wished before a restart is not known any more: its worker may know.
            pieces: live.pieces || (begin == Begin::Adopted && live.is_reopened()),
        };
        live.assign(assigned, Duration::from_millis(assignment.silence_ms));
        // A session that is gone has told the node so itself.
        let Some(session) = self.sessions.get(*session) else { return };
        // The worker's own name of it.
        let model = meta.model.as_deref().map(model::without_owner);
        let assign = Assign {
            intent: meta.id,
            attempt: *attempt,
            name: live.name.clone(),
            model: model.map(str::to_owned),
            group: assignment.group.clone(),
            stream: live.pieces,
            limit: Some(*limit),
            output: live.stream.output_each(*limit),
            meter: Some(live.meter.clone()),
            deadline_ms: assignment.remaining_ms,
            fence: *fence,
            token: self.identity.lease_token(meta.id, *attempt, *worker, *fence),
            data: (),
        };
        session.assign(assign, &live.data_for(model));
    }

    /// The events of an intent: those in its buffer, or, after a restart, of a durable one that
    /// still waits for a worker.
    pub async fn stream_of(
        self: &Arc<Self>,
        intent: IntentId,
    ) -> Result<Arc<IntentStream>, ApiError> {
        if let Some(stream) = self.streams.get(intent) {
            return Ok(stream);
        }
        let meta = self.node().ask(move |node| node.events().meta(intent).cloned()).await?;
        if let Some(meta) = meta.filter(|meta| meta.durable)
            && let Some(live) = self.reopen(&meta).await
        {
            return Ok(Arc::clone(&live.stream));
        }
        // It may have ended meanwhile.
        self.streams.get(intent).ok_or_else(ApiError::gone)
    }

    /// Brings a durable intent back from disk. `None` if its payload cannot be read.
    async fn reopen(self: &Arc<Self>, meta: &IntentMeta) -> Option<Arc<Live>> {
        let name = BlobName::payload(meta.id);
        let blobs = Arc::clone(&self.blobs);
        let payload = tokio::task::spawn_blocking(move || blobs.get(name)).await.ok()?;
        let data = match payload {
            Ok(payload) => bytes::Bytes::from(payload),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(intent = %meta.id, error, "payload cannot be read");
                return None;
            }
        };
        let manifests = self.manifests.load();
        let ask = Ask::read(manifests.get(&meta.name)?, data).ok()?;
        // It was admitted once: it is counted, and refused by nothing.
        let holder = self.holder(meta.account, meta.branch.network());
        let stream = self.streams.open(meta.id, ask.bounds(), holder).ok()?;
        stream.set_model(self.names.shown(meta.model.as_deref()).as_deref());
        let kind = (meta.name.clone(), meta.durable);
        let portion = self.shares.payloads.keep(holder, meta.bytes);
        let live = Arc::new(Live::new(meta.account, kind, &ask, stream, None, portion));
        // Two attempts may be granted before the payload is here.
        let live = self.lives.get_or_insert(meta.id, live);
        // It may have ended while the payload was read, and then nothing else would remove it.
        if !live.stream.is_over() {
            return Some(live);
        }
        self.lives.remove(meta.id);
        None
    }
}
