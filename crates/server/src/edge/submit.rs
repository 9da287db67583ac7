//! Taking a client's work in.

use std::sync::Arc;

use bytes::Bytes;
use mtor_core::command::Prior;
use mtor_core::share::{Holder, Rank};
use mtor_core::{Command, Node};
use mtor_store::{BlobName, StoreError};
use mtor_types::fact::Asset;
use mtor_types::intent::{Branch, IntentMeta, Outcome, Trust, Why};
use mtor_types::message::SlotOffer;
use mtor_types::mutant;
use mtor_types::{AccountId, Amount, Code, Digest, IntentId, WorkerId};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::oneshot;

use super::Edge;
use super::carry::failure;
use super::live::{Admission, Live};
use super::receipts::end_and_hold;
use crate::admission::{Ask, InForce, Options, Quote, Route, Stamp, key_digest};
use crate::api_error::ApiError;
use crate::identity;
use crate::manifests::{Entry, Manifests};
use crate::origin::Origin;
use crate::shares::Portion;
use crate::streams::{Bounds, Cursor, Ended, IntentStream};

/// Who asks for work.
#[derive(Clone, Copy, Debug)]
pub struct Asker {
    pub account: AccountId,
    /// Under whose weight it stands: that of the request's network.
    pub branch: Branch,
    /// For whose share it counts.
    pub holder: Holder,
    /// From where it asks; for what is given out by the day.
    pub origin: Origin,
    /// It may read what the owner alone should.
    pub at_home: bool,
}

/// One piece of work as a client asks for it.
#[derive(Clone, Debug)]
pub struct Submission {
    pub asker: Asker,
    /// The manifest's name.
    pub name: String,
    pub data: Bytes,
    pub options: Options,
    pub route: Route,
}

/// Work that is admitted.
pub struct Submitted {
    pub intent: IntentId,
    pub hold: Option<(Asset, Amount)>,
    pub durable: bool,
    /// The client wants pieces.
    pub pieces: bool,
    /// It is the intent of an earlier, equal submission.
    pub joined: bool,
    /// From the first event on; `None` of an intent of an earlier boot whose end is on its way.
    pub cursor: Option<Cursor>,
}

/// Work that only the node may still refuse.
struct Checked {
    ask: Ask,
    meta: IntentMeta,
    prior: Option<Prior>,
    stream: Arc<IntentStream>,
    /// For the payload.
    portion: Portion,
}

impl Edge {
    /// Price and bounds of work, before it is asked for, and what it would be told to wait.
    pub async fn quote(&self, submission: Submission) -> Result<(Quote, u64), ApiError> {
        let Submission { asker, name, data, options, route } = submission;
        let Asker { account, branch, at_home, .. } = asker;
        let manifests = self.manifests.load_full();
        let entry = known(&manifests, &name)?;
        let mut ask = Ask::read(entry, data)?.streaming(&options, route);
        self.choose(entry, &mut ask, account, at_home)?;
        let force = self.in_force(entry, &ask, account);
        let quote = ask.quote(entry, force, &options)?;
        let meta = ask.meta(self.stamp(account, branch)?, entry, force, &options, route)?;
        let wait = move |node: &Node| node.router().wait_of(&meta, node.now());
        Ok((quote, self.node().ask(wait).await?))
    }

    /// Admits work, or says why not. Nothing of it stays behind when it is refused. Who stops
    /// waiting changes nothing, except for an OpenAI request without a key: nobody could come back
    /// to it, so it is cancelled when its last reader has left.
    pub async fn submit(self: &Arc<Self>, submission: Submission) -> Result<Submitted, ApiError> {
        let (account, route, name) =
            (submission.asker.account, submission.route, submission.name.clone());
        let Asker { origin, holder, .. } = submission.asker;
        self.begin_day(account, || self.levels_of(origin)).await;
        let checked = self.check(submission).await.inspect_err(|_| self.metrics.refused())?;
        let Checked { ask, meta, prior, stream, portion } = checked;
        let (waiter, admission) = oneshot::channel();
        let (asked, durable, pieces) = (meta.id, meta.durable, ask.stream);
        stream.set_model(self.names.shown(meta.model.as_deref()).as_deref());
        let kind = (name, durable);
        let live = Live::new(account, kind, &ask, Arc::clone(&stream), Some(waiter), portion);
        self.lives.get_or_insert(asked, Arc::new(live));
        // Its reader is there before anything of it is.
        let cursor = stream.subscribe();
        if route.is_openai() && meta.idempotency.is_none() {
            let edge = Arc::downgrade(self);
            stream.lives_by_readers(move |intent| {
                edge.upgrade().iter().for_each(|edge| edge.cancel(intent));
            });
        }
        if durable {
            let edge = Arc::clone(self);
            tokio::spawn(async move {
                edge.seal_and_request(meta, prior, holder.rank, ask.data).await;
            });
        } else {
            self.request(meta, prior, holder.rank);
        }
        let admission = admission.await.map_err(|_| ApiError::stopping())?;
        if !matches!(admission, Admission::Admitted { .. }) {
            stream.close_unopened();
        }
        match admission {
            Admission::Admitted { asset, hold } => {
                let (hold, cursor) = (Some((asset, hold)), Some(cursor));
                Ok(Submitted { intent: asked, hold, durable, pieces, cursor, joined: false })
            }
            Admission::Joined(intent) => {
                let hold = None;
                // Who is told of it alone need not read it.
                let cursor = match route {
                    Route::Stored => None,
                    Route::Streamed | Route::OpenAi | Route::OpenAiPieces => {
                        self.rejoin(intent, account, route).await?
                    }
                };
                Ok(Submitted { intent, hold, durable, pieces, cursor, joined: true })
            }
            Admission::Refused(error) => {
                if error.code == Code::BalanceTooLow {
                    self.days.forget(account);
                }
                Err(error)
            }
        }
    }

    /// A reader of an intent that was asked for before: of its buffer, or of what the log and the
    /// disk still know of its end. `None` if it is of an earlier boot and has no end yet.
    async fn rejoin(
        self: &Arc<Self>,
        intent: IntentId,
        account: AccountId,
        route: Route,
    ) -> Result<Option<Cursor>, ApiError> {
        match self.stream_of(intent).await {
            Ok(stream) => return Ok(Some(stream.subscribe())),
            Err(error) if error.code == Code::Gone => {}
            Err(error) => return Err(error),
        }
        let row = self.read(move |reader| reader.intent(intent)).await?;
        let Some((end, hold)) = row.and_then(end_and_hold) else { return Ok(None) };
        let result = match end.outcome {
            Outcome::Completed(_) => self.result_of(intent).await?,
            Outcome::Failed(_) | Outcome::Cancelled | Outcome::Expired | Outcome::Refused => None,
        };
        let message = match end.outcome {
            Outcome::Failed(code) => Some(failure(code).to_owned()),
            Outcome::Completed(_) | Outcome::Cancelled | Outcome::Expired | Outcome::Refused => {
                None
            }
        };
        // Its pieces, for who reads nothing else (see [`Edge::seal_result`]).
        let pieces = result.as_ref().filter(|_| route.is_openai()).and_then(kept_pieces);
        let result = result.filter(|_| pieces.is_none());
        let receipt = self.receipt_of(intent, account).await?;
        let receipt = receipt.and_then(|receipt| serde_json::to_vec(&receipt).ok());
        let holder = self.holder(account, None);
        let stream = self.streams.detached(intent, Bounds::NONE, holder);
        let ended = Ended { end, message, result };
        stream.recall(hold, pieces.unwrap_or_default(), ended, receipt.map(Bytes::from));
        Ok(Some(stream.subscribe()))
    }

    /// What the realm pays for that of whoever offers it so, at most.
    pub(crate) fn canary_cost(&self, offer: &SlotOffer, data: Bytes) -> Option<u64> {
        let manifests = self.manifests.load();
        let entry = manifests.get(&offer.intent)?;
        let ask = Ask::read(entry, data).ok()?;
        let force = InForce::of(entry.manifest.price, Some(offer.price));
        u64::try_from(force.top().cost_up(ask.units_max).units()).ok()
    }

    /// Asks one worker for something in the realm's own name: at once, once, and nobody else.
    pub(crate) async fn ask_worker(
        &self,
        worker: WorkerId,
        offer: &SlotOffer,
        data: Bytes,
        deadline_ms: u64,
    ) -> Result<Cursor, ApiError> {
        let manifests = self.manifests.load_full();
        let entry = known(&manifests, &offer.intent)?;
        let deadline_ms = Some(deadline_ms.min(entry.manifest.deadline.max_ms));
        let trust = Some(Trust::Any);
        let options = Options { deadline_ms, trust, stream: Some(false), ..Options::default() };
        let mut ask = Ask::read(entry, data)?.streaming(&options, Route::Streamed);
        let stamp = self.stamp(self.identity.account(), Branch::Account)?;
        let force = InForce::of(entry.manifest.price, Some(offer.price));
        ask.price_max = Some(force.top());
        let mut meta = ask.meta(stamp, entry, force, &options, Route::Streamed)?;
        (meta.worker, meta.model) = (Some(worker), offer.model.clone());
        let holder = self.holder(meta.account, None);
        let stream = self.streams.detached(meta.id, ask.bounds(), holder);
        stream.set_model(meta.model.as_deref());
        let (waiter, admission) = oneshot::channel();
        let kind = (offer.intent.clone(), false);
        let portion = self.shares.payloads.keep(holder, meta.bytes);
        let live = Live::new(meta.account, kind, &ask, Arc::clone(&stream), Some(waiter), portion);
        self.lives.get_or_insert(meta.id, Arc::new(live));
        let cursor = stream.subscribe();
        self.request(meta, None, Rank::Realm);
        match admission.await.map_err(|_| ApiError::stopping())? {
            Admission::Refused(error) => {
                stream.close_unopened();
                Err(error)
            }
            Admission::Admitted { .. } | Admission::Joined(_) => Ok(cursor),
        }
    }

    /// What can be said of work before the node is asked.
    async fn check(&self, submission: Submission) -> Result<Checked, ApiError> {
        let Submission { asker, name, data, options, route } = submission;
        let Asker { account, branch, holder, at_home, .. } = asker;
        let manifests = self.manifests.load_full();
        let entry = known(&manifests, &name)?;
        let mut ask = Ask::read(entry, data)?.streaming(&options, route);
        let stamp = self.stamp(account, branch)?;
        let priced = self
            .choose(entry, &mut ask, account, at_home)
            .and_then(|()| self.price(entry, &ask, account, &options));
        let list = priced.as_ref().ok().map(|force| force.list);
        let made = priced.and_then(|force| ask.meta(stamp, entry, force, &options, route));
        let meta = match (made, &options.key) {
            (Ok(meta), _) => meta,
            // Asked before, when other things were on offer: it is joined, not asked for anew.
            (Err(error), Some(key)) if self.has_asked(key_digest(account, key)).await? => {
                let force = InForce::of(entry.manifest.price, None);
                ask.meta(stamp, entry, force, &options, route).map_err(|_| error)?
            }
            (Err(error), _) => return Err(error),
        };
        ask.price_max = list.map(|list| meta.band.top(list));
        let portion = match (self.shares.payloads.take(holder, meta.bytes), meta.idempotency) {
            (Ok(portion), _) => portion,
            // It joins what is counted already.
            (Err(_), Some(asked)) if self.has_asked(asked.key).await? => {
                self.shares.payloads.keep(holder, 0)
            }
            (Err(error), _) => return Err(error),
        };
        let prior = self.prior(&meta).await?;
        // Nobody resumes an ephemeral OpenAI request without a key: its buffer lives as long as it.
        let alone = route.is_openai() && !meta.durable && meta.idempotency.is_none();
        let stream = if alone {
            self.streams.detached(meta.id, ask.bounds(), holder)
        } else {
            self.streams.open(meta.id, ask.bounds(), holder)?
        };
        Ok(Checked { ask, meta, prior, stream, portion })
    }

    /// Asks the node. The answer goes to the intent's waiter, if there still is one.
    fn request(&self, meta: IntentMeta, prior: Option<Prior>, rank: Rank) {
        let intent = meta.id;
        if let Err(error) = self.node().submit(Box::new(meta), prior, rank) {
            self.metrics.refused();
            self.dismiss(intent, Admission::Refused(error.into()));
        }
    }

    /// As [`Edge::request`], the payload being sealed and synced before anything is promised. A
    /// task of its own, so that it comes to its end when the client does not wait for it. A crash
    /// meanwhile leaves a payload that nobody was told of; it is removed by its age.
    async fn seal_and_request(
        &self,
        meta: IntentMeta,
        prior: Option<Prior>,
        rank: Rank,
        data: Bytes,
    ) {
        let (blobs, name) = (Arc::clone(&self.blobs), BlobName::payload(meta.id));
        let sealed = tokio::task::spawn_blocking(move || blobs.put(name, &data)).await;
        let why = match sealed {
            // Its client went meanwhile, and its end found nothing to end.
            Ok(Ok(())) if self.lives.get(meta.id).is_some_and(|live| live.stream.is_stopped()) => {
                ApiError::new(Code::Cancelled, "it was cancelled before it was admitted")
            }
            Ok(Ok(())) => return self.request(meta, prior, rank),
            Ok(Err(error)) => {
                tracing::error!(error = &error as &dyn std::error::Error, "payload not kept");
                let message = "the realm cannot keep the payload just now";
                ApiError::new(Code::StoreUnavailable, message)
            }
            Err(_) => ApiError::internal(),
        };
        self.metrics.refused();
        self.dismiss(meta.id, Admission::Refused(why));
    }

    /// Stops an intent for its client. What was delivered is paid.
    pub fn cancel(&self, intent: IntentId) {
        self.node().tell(Command::End(self.stop_work(intent, Why::Cancelled)));
    }

    /// The sealed result of a durable intent, or the buffered one of any, while it is kept.
    pub async fn result_of(&self, intent: IntentId) -> Result<Option<Bytes>, ApiError> {
        if let Some(stream) = self.streams.get(intent)
            && let Ok(Some(ended)) = stream.ended()
            && let Some(result) = &ended.result
        {
            return Ok(Some(result.clone()));
        }
        let blobs = Arc::clone(&self.blobs);
        let read = tokio::task::spawn_blocking(move || blobs.get(BlobName::result(intent))).await;
        match read.map_err(|_| ApiError::internal())? {
            Ok(bytes) if bytes.is_empty() => Ok(None),
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(StoreError::NotFound) => Ok(None),
            Err(error) => {
                tracing::error!(%intent, error = &error as &dyn std::error::Error, "result");
                Err(ApiError::internal())
            }
        }
    }

    /// The account of an intent that is not over.
    pub fn owner_of(&self, intent: IntentId) -> Option<AccountId> {
        self.lives.get(intent).map(|live| live.account)
    }

    /// The price in force, if the client pays it.
    fn price(
        &self,
        entry: &Entry,
        ask: &Ask,
        account: AccountId,
        options: &Options,
    ) -> Result<InForce, ApiError> {
        let force = self.in_force(entry, ask, account);
        if options.ceiling.is_none() && force.price.amount > force.list.amount {
            return Err(dearer(force, force.top().cost_up(ask.units_max)));
        }
        Ok(force)
    }

    /// Whether an intent was asked for under that key.
    async fn has_asked(&self, key: Digest) -> Result<bool, ApiError> {
        if self.node().ask(move |node| node.events().knows_key(key)).await? {
            return Ok(true);
        }
        Ok(self.read(move |reader| reader.idempotency(key)).await?.is_some())
    }

    /// What a quote tells, and what a ceiling is measured by.
    fn in_force(&self, entry: &Entry, ask: &Ask, account: AccountId) -> InForce {
        let lowest = self.figures(ask, account).map(|figures| figures.price);
        InForce::of(entry.manifest.price, lowest)
    }

    fn stamp(&self, account: AccountId, branch: Branch) -> Result<Stamp, ApiError> {
        let fresh: [u8; 26] = identity::random().map_err(|_| ApiError::internal())?;
        let (mut random, mut salt) = ([0; 10], [0; 16]);
        random.copy_from_slice(&fresh[..10]);
        salt.copy_from_slice(&fresh[10..]);
        let id = uuid::Builder::from_unix_timestamp_millis(self.now().0, &random).into_uuid();
        let id = IntentId(*id.as_bytes());
        let (edge, edge_epoch) = (self.node_id, self.epoch());
        Ok(Stamp { id, account, branch, edge, edge_epoch, salt })
    }

    /// What the read tables know of an idempotency key: the node itself knows the open ones.
    async fn prior(&self, meta: &IntentMeta) -> Result<Option<Prior>, ApiError> {
        let Some(asked) = meta.idempotency else { return Ok(None) };
        let found = self.read(move |reader| reader.idempotency(asked.key)).await?;
        let found = found.filter(|_| !mutant!("edge-asks-no-earlier-keys"));
        Ok(found.map(|(intent, body)| Prior { intent, body }))
    }
}

/// The pieces of an answer that came in nothing else.
fn kept_pieces(result: &Bytes) -> Option<Vec<Bytes>> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Kept<'a> {
        #[serde(borrow)]
        pieces: Vec<&'a RawValue>,
    }
    let kept: Kept<'_> = serde_json::from_slice(result).ok()?;
    let piece = |piece: &RawValue| result.slice_ref(piece.get().as_bytes());
    Some(kept.pieces.into_iter().map(piece).collect())
}

/// Nobody pays more than the list price without having said so.
fn dearer(force: InForce, needed: Amount) -> ApiError {
    let message = format!(
        "whoever offers this asks more than the list price: {}; say that you pay up to {} times \
         the list price with a ceiling of at least {}",
        force.price.in_words(),
        force.band.times(),
        needed.in_base_units()
    );
    ApiError::new(Code::CeilingTooLow, message).with_field("ceiling")
}

fn known<'a>(manifests: &'a Manifests, name: &str) -> Result<&'a Entry, ApiError> {
    manifests.get(name).ok_or_else(|| {
        let names: Vec<&str> = manifests.iter().map(|entry| entry.manifest.name.as_str()).collect();
        let message = format!("no intent of that name; this realm knows {}", names.join(", "));
        ApiError::new(Code::UnknownIntent, message).with_field("intent")
    })
}

#[cfg(test)]
mod tests;
