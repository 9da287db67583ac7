//! What workers send, taken into the buffers and passed on to the node.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mtor_core::Command;
use mtor_store::BlobName;
use mtor_types::intent::{Band, EndRequest, Reason, Why};
use mtor_types::message::SlotOffer;
use mtor_types::mutant;
use mtor_types::worker::{
    self, Chunk, Complete, Fail, FailCode, LeaseClaim, Offer, RefusedOffer, Revoke,
};
use mtor_types::{Attempt, Code, IntentId, Price, model};
use serde_json::value::RawValue;

use super::Edge;
use super::live::Live;
use crate::admission::json;
use crate::manifests::Manifests;
use crate::sessions::Session;
use crate::streams::{ChunkError, Closed, Entry, Measured, Next, is_all_in_pieces};

/// Between two tries to seal a result.
const SEAL_AGAIN: Duration = Duration::from_secs(1);
/// A worker's explanation, as far as a client sees it.
const MESSAGE_BYTES_MAX: usize = 1_000;

impl Edge {
    /// Offers as the core knows them.
    pub fn priced(&self, offers: &[Offer]) -> Priced {
        Priced::of(offers, &self.manifests.load())
    }

    /// A piece, if this session has that attempt; else `false`, and it is nothing.
    pub(crate) fn worker_chunk(self: &Arc<Self>, session: &Session, chunk: &Chunk<'_>) -> bool {
        let Chunk { intent, attempt, seq, count, piece } = *chunk;
        let Some((live, takes_pieces)) = self.assigned_to(session, intent, attempt) else {
            return false;
        };
        // Nobody asked for it, so nobody gets or pays it: what the worker gives at the end counts.
        if !takes_pieces {
            return true;
        }
        let (content, bytes) = (live.form.piece(piece.get(), live.answers), bytes_of(piece));
        let taken = check_depth(piece)
            .and_then(|()| check_piece(&live, attempt, piece.get()))
            .and_then(|()| live.stream.chunk(attempt, seq, count, Measured { bytes, content }));
        match taken {
            Ok(metered) if metered.exhausted => {
                let Some(closed) = live.stream.cut(attempt) else { return true };
                session.send(worker::REVOKE, Revoke { intent, attempt });
                let why = Why::Completed(Reason::Ceiling);
                self.conclude(request(intent, attempt, closed, why), None, live);
            }
            Ok(_) | Err(ChunkError::Stale) => {}
            Err(ChunkError::Sequence { .. }) => {
                let why = Why::WorkerFailed { code: Code::WorkerFailed, retry: true };
                self.finish_attempt(session, &live, attempt, why);
            }
            Err(error @ (ChunkError::Full | ChunkError::NoRoom | ChunkError::Share(_))) => {
                self.no_room(session, &live, attempt, error);
            }
            Err(
                error @ (ChunkError::Nothing
                | ChunkError::Beyond { .. }
                | ChunkError::Items { .. }
                | ChunkError::TooDeep
                | ChunkError::Unreadable(_)),
            ) => self.no_answer(session, &live, attempt, error),
        }
        true
    }

    pub(crate) fn worker_completed(self: &Arc<Self>, session: &Session, complete: &Complete<'_>) {
        let Complete { intent, attempt, usage, result } = *complete;
        let Some((live, _)) = self.assigned_to(session, intent, attempt) else {
            // Over already, and synced or soon: the worker need not keep it.
            session.send(worker::REVOKE, Revoke { intent, attempt });
            return;
        };
        // Said again, or after the ceiling cut it: its first word counts, and is on its way.
        if live.stream.is_complete(attempt) {
            return;
        }
        let answer = match answer_of(&live, result) {
            Ok(answer) => answer,
            Err(error) => return self.no_answer(session, &live, attempt, error),
        };
        let result = answer.as_ref().map(|answer| answer.bytes.clone());
        let closed = match live.stream.complete(attempt, usage, answer) {
            Ok(closed) => closed,
            Err(error @ (ChunkError::Full | ChunkError::NoRoom | ChunkError::Share(_))) => {
                return self.no_room(session, &live, attempt, error);
            }
            Err(
                error @ (ChunkError::Nothing
                | ChunkError::Beyond { .. }
                | ChunkError::Items { .. }
                | ChunkError::TooDeep
                | ChunkError::Unreadable(_)),
            ) => return self.no_answer(session, &live, attempt, error),
            Err(ChunkError::Stale | ChunkError::Sequence { .. }) => return,
        };
        let end = request(intent, attempt, closed, Why::Completed(Reason::Done));
        self.conclude(
            end,
            result.filter(|result| !is_all_in_pieces(result, closed.delivered)),
            live,
        );
    }

    /// Passes a completion on. The result of durable work is synced before its end is.
    fn conclude(self: &Arc<Self>, end: EndRequest, result: Option<Bytes>, live: Arc<Live>) {
        if !live.durable {
            self.node().tell(Command::End(end));
            return;
        }
        if mutant!("end-before-its-result-is-sealed") {
            self.node().tell(Command::End(end.clone()));
        }
        let edge = Arc::clone(self);
        tokio::spawn(async move { edge.seal_result(end, result, live).await });
    }

    pub(crate) fn worker_failed(&self, session: &Session, fail: &Fail) {
        let Some((live, _)) = self.assigned_to(session, fail.intent, fail.attempt) else { return };
        let code = match fail.code {
            FailCode::BadRequest => Code::InvalidField,
            FailCode::ContextOverflow => Code::ContextOverflow,
            FailCode::Unsupported => Code::Unsupported,
            FailCode::Backend => Code::WorkerFailed,
        };
        if live.stream.is_complete(fail.attempt) {
            return;
        }
        live.explain(bounded(&fail.message));
        let Some(closed) = live.stream.close(Some(fail.attempt)) else { return };
        let why = Why::WorkerFailed { code, retry: fail.retry };
        self.node().tell(Command::End(request(fail.intent, fail.attempt, closed, why)));
    }

    async fn seal_result(&self, mut end: EndRequest, result: Option<Bytes>, live: Arc<Live>) {
        let name = BlobName::result(end.intent);
        let blobs = Arc::clone(&self.blobs);
        // An answer that came in pieces only is kept as its pieces: it was paid for.
        let pieces = tokio::task::spawn_blocking(move || {
            (result.or_else(|| pieces_of(&live)).unwrap_or_default(), live)
        });
        let Ok((bytes, live)) = pieces.await else { return };
        loop {
            let (blobs, bytes) = (Arc::clone(&blobs), bytes.clone());
            let sealed = tokio::task::spawn_blocking(move || blobs.put(name, &bytes)).await;
            match sealed {
                Ok(Ok(())) => break,
                // A full disk may have room again; the work is done and waits for it, as long as
                // its deadline has not ended it.
                Ok(Err(error)) if error.is_transient() && !live.stream.is_over() => {
                    tracing::warn!(intent = %end.intent, "the result waits for room on the disk");
                    tokio::time::sleep(SEAL_AGAIN).await;
                }
                Ok(Err(_)) | Err(_) => {
                    tracing::error!(intent = %end.intent, "the result cannot be kept");
                    end.why = Why::WorkerFailed { code: Code::StoreUnavailable, retry: false };
                    break;
                }
            }
        }
        self.node().tell(Command::End(end));
    }

    /// An answer that cannot be kept ends here: another worker's would be as long.
    fn no_room(&self, session: &Session, live: &Live, attempt: Attempt, error: ChunkError) {
        let code = match error {
            ChunkError::Full => Code::TooLarge,
            ChunkError::Share(_) => Code::ShareUsed,
            ChunkError::NoRoom
            | ChunkError::Stale
            | ChunkError::Sequence { .. }
            | ChunkError::Nothing
            | ChunkError::Beyond { .. }
            | ChunkError::Items { .. }
            | ChunkError::TooDeep
            | ChunkError::Unreadable(_) => Code::StoreUnavailable,
        };
        live.explain(error.to_string());
        self.finish_attempt(session, live, attempt, Why::WorkerFailed { code, retry: false });
    }

    /// What came is not what was asked for. Another worker may have it.
    fn no_answer(&self, session: &Session, live: &Live, attempt: Attempt, error: ChunkError) {
        live.explain(error.to_string());
        let why = Why::WorkerFailed { code: Code::WorkerFailed, retry: true };
        self.finish_attempt(session, live, attempt, why);
    }

    /// Takes nothing more of the attempt and tells both sides.
    fn finish_attempt(&self, session: &Session, live: &Live, attempt: Attempt, why: Why) {
        let intent = live.stream.id();
        let Some(closed) = live.stream.close(Some(attempt)) else { return };
        session.send(worker::REVOKE, Revoke { intent, attempt });
        self.node().tell(Command::End(request(intent, attempt, closed, why)));
    }

    /// Of these attempts those of which nothing has come for longer than it may.
    pub(crate) fn silent(&self, session: &Session, leases: &[LeaseClaim]) -> Vec<LeaseClaim> {
        let is_silent = |claim: &&LeaseClaim| {
            let found = self.assigned_to(session, claim.intent, claim.attempt);
            found.is_some_and(|(live, _)| {
                !live.stream.is_complete(claim.attempt) && live.is_silent()
            })
        };
        leases.iter().filter(is_silent).copied().collect()
    }

    /// The intent, if this session has this attempt of it, and whether pieces are taken. A worker's
    /// word about any other is nothing.
    fn assigned_to(
        &self,
        session: &Session,
        intent: IntentId,
        attempt: Attempt,
    ) -> Option<(Arc<Live>, bool)> {
        let live = self.lives.get(intent)?;
        let assigned = live.assigned_to(session.worker, session.id, attempt)?;
        Some((live, assigned.pieces))
    }
}

/// What is nested deeper than what a client may send is no answer: whoever reads it, the page, an
/// SDK, a program, may do so by recursion.
fn check_depth(answer: &RawValue) -> Result<(), ChunkError> {
    let is_too_deep = json::is_deeper_than(answer.get().as_bytes(), json::DEPTH_MAX);
    if is_too_deep { Err(ChunkError::TooDeep) } else { Ok(()) }
}

/// Whether it can be written for a client. After its attempt's end nobody asks any more.
fn check_piece(live: &Live, attempt: Attempt, piece: &str) -> Result<(), ChunkError> {
    let reading = live.reading.filter(|_| !live.stream.is_complete(attempt));
    let Some(reading) = reading else { return Ok(()) };
    Ok(reading.piece(piece, live.stream.is_in_pieces())?)
}

/// A worker's result, unless it holds nothing at all.
fn answer_of(live: &Live, result: Option<&RawValue>) -> Result<Option<Measured>, ChunkError> {
    result.map_or(Ok(()), check_depth)?;
    let content = result.map(|result| live.form.result(result.get(), live.answers)).transpose()?;
    let found = result.zip(content.flatten());
    if let Some(reading) = live.reading {
        let result = found.map(|(result, _)| result.get());
        reading.result(result, live.stream.is_in_pieces())?;
    }
    Ok(found.map(|(result, content)| Measured { bytes: bytes_of(result), content }))
}

fn bytes_of(raw: &RawValue) -> Bytes {
    Bytes::copy_from_slice(raw.get().as_bytes())
}

/// What a worker's offers come to here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Priced {
    pub taken: Vec<SlotOffer>,
    /// Told to the worker, so that who runs it learns why nothing comes.
    pub refused: Vec<RefusedOffer>,
}

impl Priced {
    /// With the list price where the worker named none, and with their band. One of an intent that has
    /// no manifest here is dropped: nobody could ask for it.
    fn of(offers: &[Offer], manifests: &Manifests) -> Self {
        let mut priced = Self::default();
        for offer in offers {
            let Some(entry) = manifests.get(&offer.intent) else { continue };
            let list = entry.manifest.price;
            // Prices of one intent are compared per the manifest's own number of units.
            let price = offer.price.filter(|price| price.per == list.per).unwrap_or(list);
            let Offer { intent, model, slots, price: _, context, group } = offer.clone();
            // Each model would be a kind with a standing of its own, and all would serve the same.
            if model.is_some() && !entry.wanted.model {
                priced.refused.push(without_models(intent, model));
                continue;
            }
            if let Some((bare, _)) = model.as_deref().and_then(model::split_owner) {
                let refused = misnamed(bare, &offer.intent, model.as_deref());
                priced.refused.push(refused);
                continue;
            }
            match Band::of_offer(price.amount, list) {
                Some(band) => {
                    let offer = SlotOffer { intent, model, slots, price, band, context, group };
                    priced.taken.push(offer);
                }
                None => priced.refused.push(too_dear(intent, model, list)),
            }
        }
        priced
    }
}

fn too_dear(intent: String, model: Option<String>, list: Price) -> RefusedOffer {
    let message = format!(
        "field `price`: no more than {} times the list price is paid here, which is {}; ask at \
         most {}",
        Band::DEAREST.times(),
        list.in_words(),
        Band::DEAREST.top(list).in_words()
    );
    RefusedOffer { intent, model, code: Code::OfferTooDear.to_string(), message }
}

fn misnamed(bare: &str, intent: &str, model: Option<&str>) -> RefusedOffer {
    let message = format!(
        "field `model`: `@` and 8 to 44 letters and digits at a name's end name an account here; \
         offer it by another name, such as `--served-model-name {bare}={}`",
        model.unwrap_or_default()
    );
    let (intent, model) = (intent.to_owned(), model.map(str::to_owned));
    RefusedOffer { intent, model, code: Code::OfferMisnamed.to_string(), message }
}

fn without_models(intent: String, model: Option<String>) -> RefusedOffer {
    let message = format!(
        "field `model`: `{intent}` knows no models, since its manifest declares no `model`; offer \
         it without one"
    );
    RefusedOffer { intent, model, code: Code::OfferMisnamed.to_string(), message }
}

/// `{"pieces":[…]}`, as they came. `None` if there are none, or they cannot be read.
fn pieces_of(live: &Live) -> Option<Bytes> {
    let mut cursor = live.stream.subscribe();
    let mut json = Vec::from(b"{\"pieces\":[".as_slice());
    let mut any = false;
    while let Ok(Next::Entry(entry)) = cursor.try_next() {
        let Entry::Chunk { piece, .. } = entry else { continue };
        if any {
            json.push(b',');
        }
        json.extend_from_slice(&piece);
        any = true;
    }
    json.extend_from_slice(b"]}");
    any.then(|| json.into())
}

fn request(intent: IntentId, attempt: Attempt, closed: Closed, why: Why) -> EndRequest {
    let Closed { attempt: _, usage, delivered } = closed;
    EndRequest { intent, attempt: Some(attempt), why, usage, delivered }
}

fn bounded(message: &str) -> String {
    let end = message.floor_char_boundary(MESSAGE_BYTES_MAX);
    message.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_refused_where_the_intent_knows_none_and_the_other_offers_stand() {
        let manifests = Manifests::built_in().unwrap();
        let offer = |intent: &str, model: Option<&str>| {
            let (intent, model) = (intent.to_owned(), model.map(str::to_owned));
            Offer { intent, model, slots: 1, price: None, context: None, group: None }
        };
        let offers = [
            offer("echo", Some("m1")),
            offer("echo", None),
            offer("fft", Some("m2")),
            offer("chat", Some("m3")),
        ];
        let priced = Priced::of(&offers, &manifests);
        let taken =
            priced.taken.iter().map(|offer| (offer.intent.as_str(), offer.model.as_deref()));
        assert_eq!(taken.collect::<Vec<_>>(), [("echo", None), ("chat", Some("m3"))]);
        for (refused, (intent, model)) in priced.refused.iter().zip([("echo", "m1"), ("fft", "m2")])
        {
            assert_eq!((&*refused.intent, refused.model.as_deref()), (intent, Some(model)));
            assert_eq!(refused.code, "MT0043");
            let named = ["field `model`", intent, "offer it without one"];
            assert!(named.iter().all(|part| refused.message.contains(part)), "{}", refused.message);
        }
        assert_eq!(priced.refused.len(), 2);
    }
}
