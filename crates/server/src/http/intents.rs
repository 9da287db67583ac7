//! Quotes, submissions, what became of an intent, and its events.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use mtor_core::authorize::{Action, Object};
use mtor_types::fact::Asset;
use mtor_types::intent::Band;
use mtor_types::{Amount, Code, IntentId};
use serde::Serialize;
use serde_json::value::RawValue;

use super::Answer;
use super::auth::{Caller, Member};
use super::catalogue::PriceRow;
use super::json::{Body, Page, Segment};
use super::{BODY_BYTES_MAX, sse};
use crate::admission::{self, Document, Options, Route};
use crate::api_error::ApiError;
use crate::edge::carry::failure;
use crate::edge::{Edge, Submission, Submitted};
use crate::streams::LastEventId;

const BODY_MAX: u64 = BODY_BYTES_MAX as u64;

#[derive(Debug, Serialize)]
struct QuoteView {
    intent: String,
    model: Option<String>,
    asset: Asset,
    price: PriceRow,
    /// The upper bound of units.
    units: u64,
    /// What would be held.
    ceiling: Amount,
    /// The price band that the hold reaches: 1, 2, 5 or 10 times the list price.
    band: Band,
    may_be_cut: bool,
    eta_ms: u64,
}

/// `POST /v1/quote`
pub async fn quote(
    State(edge): State<Arc<Edge>>,
    member: Member,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<Answer, ApiError> {
    let account = member.account;
    member.caller.may(Action::Quote, &Object::Account(account))?;
    let Document { name, data, options } = admission::parse(&body, BODY_MAX)?;
    let options = options.or(Options::from_headers(&headers)?);
    let (asker, route) = (member.asker(&edge), Route::Stored);
    let submission = Submission { asker, name, data, options, route };
    let (quote, eta_ms) = edge.quote(submission).await?;
    // As the hold would choose: grant if it covers the whole.
    let grant = edge.balance(account, Asset::Grant).await?;
    let asset = if grant >= quote.hold { Asset::Grant } else { Asset::Token };
    Ok(Answer::json(
        StatusCode::OK,
        &QuoteView {
            intent: quote.intent,
            model: quote.model,
            asset,
            price: PriceRow::new(quote.price, &quote.unit),
            units: quote.units_max,
            ceiling: quote.hold,
            band: quote.band,
            may_be_cut: quote.may_be_cut,
            eta_ms,
        },
    ))
}

#[derive(Debug, Serialize)]
struct SubmittedView {
    intent: IntentId,
    #[serde(skip_serializing_if = "Option::is_none")]
    hold: Option<Money>,
    durable: bool,
    /// An equal submission was there before; this is its intent.
    joined: bool,
    events: String,
}

#[derive(Debug, Serialize)]
struct Money {
    asset: Asset,
    amount: Amount,
}

impl SubmittedView {
    fn new(submitted: &Submitted) -> Self {
        let intent = submitted.intent;
        Self {
            intent,
            hold: submitted.hold.map(|(asset, amount)| Money { asset, amount }),
            durable: submitted.durable,
            joined: submitted.joined,
            events: format!("/v1/intents/{intent}/events"),
        }
    }
}

/// `POST /v1/intents`: 202, or the events themselves with `Accept: text/event-stream`.
pub async fn submit(
    State(edge): State<Arc<Edge>>,
    member: Member,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<Response, ApiError> {
    member.caller.may(Action::Submit, &Object::Account(member.account))?;
    check_kind(&headers)?;
    let streamed = accepts_events(&headers);
    let route = if streamed { Route::Streamed } else { Route::Stored };
    let Document { name, data, options } = admission::parse(&body, BODY_MAX)?;
    let options = options.or(Options::from_headers(&headers)?);
    let submission = Submission { asker: member.asker(&edge), name, data, options, route };
    let submitted = edge.submit(submission).await?;
    let view = SubmittedView::new(&submitted);
    match submitted.cursor.filter(|_| streamed) {
        Some(cursor) => {
            let mut response = sse::respond(StatusCode::OK, edge, cursor);
            if let Ok(intent) = submitted.intent.to_string().parse() {
                response.headers_mut().insert("mtor-intent", intent);
            }
            Ok(response)
        }
        None => Ok(Answer::json(StatusCode::ACCEPTED, &view).into_response()),
    }
}

#[derive(Debug, Serialize)]
struct BatchRow {
    #[serde(skip_serializing_if = "Option::is_none")]
    accepted: Option<SubmittedView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Box<RawValue>>,
}

/// `POST /v1/intents/batch`: each item is admitted or refused by itself, in order.
pub async fn batch(
    State(edge): State<Arc<Edge>>,
    member: Member,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<Answer, ApiError> {
    member.caller.may(Action::Submit, &Object::Account(member.account))?;
    check_kind(&headers)?;
    let defaults = Options { key: None, ..Options::from_headers(&headers)? };
    let mut items = Vec::new();
    for document in admission::parse_batch(&body, BODY_MAX)? {
        let submitted = match document {
            Ok(Document { name, data, options }) => {
                let options = options.or(defaults.clone());
                let (asker, route) = (member.asker(&edge), Route::Stored);
                let submission = Submission { asker, name, data, options, route };
                edge.submit(submission).await
            }
            Err(error) => Err(error),
        };
        items.push(match submitted {
            Ok(submitted) => {
                BatchRow { accepted: Some(SubmittedView::new(&submitted)), error: None }
            }
            Err(error) => {
                let error = RawValue::from_string(error.to_json()).ok();
                BatchRow { accepted: None, error }
            }
        });
    }
    Ok(Answer::json(StatusCode::ACCEPTED, &Page::whole(items)))
}

/// `GET /v1/intents/{id}/events`, with `Last-Event-ID` after that event.
pub async fn events(
    State(edge): State<Arc<Edge>>,
    caller: Caller,
    Segment(id): Segment,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let intent = visible(&edge, &caller, &id, Action::ReadIntent).await?.intent;
    let stream = edge.stream_of(intent).await?;
    let cursor = match headers.get("last-event-id") {
        None => stream.subscribe(),
        Some(value) => {
            let last: Option<LastEventId> = value.to_str().ok().and_then(|text| text.parse().ok());
            let expected = "the id of an event of this stream, such as `4294967298.3`";
            let wrong = || ApiError::invalid_header("last-event-id", expected);
            stream.resume(last.ok_or_else(wrong)?)
        }
    };
    Ok(sse::respond(StatusCode::OK, edge, cursor))
}

/// Why what is over cannot be cancelled.
pub(super) const OVER: &str = "this intent is over; nothing was changed";

/// `DELETE /v1/intents/{id}`: asks for the end; the end itself comes as an event.
pub async fn cancel(
    State(edge): State<Arc<Edge>>,
    caller: Caller,
    Segment(id): Segment,
) -> Result<Answer, ApiError> {
    let seen = visible(&edge, &caller, &id, Action::CancelIntent).await?;
    if seen.row.as_ref().is_some_and(|row| row.end.is_some()) {
        return Err(ApiError::new(Code::Conflict, OVER));
    }
    edge.cancel(seen.intent);
    Ok(Answer::json(StatusCode::ACCEPTED, &Cancelling { intent: seen.intent }))
}

#[derive(Debug, Serialize)]
struct Cancelling {
    intent: IntentId,
}

#[derive(Debug, Serialize)]
struct IntentView {
    intent: IntentId,
    /// `open`, or how it ended.
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<Code>,
    /// Why it failed, as far as its code tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hold: Option<Money>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<mtor_types::intent::Usage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cost: Option<Money>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refunded: Option<Money>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Box<RawValue>>,
}

/// `GET /v1/intents/{id}`: how it stands, and its result while that is kept.
pub async fn read(
    State(edge): State<Arc<Edge>>,
    caller: Caller,
    Segment(id): Segment,
) -> Result<Answer, ApiError> {
    let seen = visible(&edge, &caller, &id, Action::ReadIntent).await?;
    let intent = seen.intent;
    let mut view = IntentView {
        intent,
        status: "open",
        code: None,
        reason: None,
        hold: None,
        usage: None,
        cost: None,
        refunded: None,
        result: None,
    };
    let Some(row) = seen.row else { return Ok(Answer::json(StatusCode::OK, &view)) };
    let asset = row.asset;
    view.hold = Some(Money { asset, amount: row.hold });
    if let Some(end) = row.end {
        use mtor_types::intent::Outcome;
        view.status = end.outcome.name();
        if let Outcome::Failed(code) = end.outcome {
            view.code = Some(code);
            view.reason = Some(failure(code));
        }
        view.usage = Some(end.usage);
        view.cost = Some(Money { asset, amount: end.cost });
        view.refunded = Some(Money { asset, amount: end.refunded });
        if let Some(result) = edge.result_of(intent).await? {
            view.result = String::from_utf8(result.to_vec())
                .ok()
                .and_then(|text| RawValue::from_string(text).ok());
        }
    }
    Ok(Answer::json(StatusCode::OK, &view))
}

pub(super) struct Seen {
    pub(super) intent: IntentId,
    pub(super) row: Option<mtor_store::read::IntentRow>,
}

/// The intent, if the caller may know of it; else it does not exist.
pub(super) async fn visible(
    edge: &Edge,
    caller: &Caller,
    id: &str,
    action: Action,
) -> Result<Seen, ApiError> {
    let nothing = || ApiError::not_found("intent of that id");
    let intent: IntentId = id.parse().map_err(|_| nothing())?;
    // Looked at first: what is over between the two looks stands in the tables.
    let open = edge.owner_of(intent);
    let row = edge.read(move |reader| reader.intent(intent)).await?;
    let account = row.as_ref().map(|row| row.account).or(open);
    let account = account.ok_or_else(nothing)?;
    caller.may(action, &Object::Intent { account })?;
    Ok(Seen { intent, row })
}

fn check_kind(headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(kind) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let kind = kind.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    // The last is what curl says of any `-d` when it is told nothing.
    let known =
        ["application/json", "application/cloudevents+json", "application/x-www-form-urlencoded"];
    if known.iter().any(|known| kind.eq_ignore_ascii_case(known)) {
        return Ok(());
    }
    let message = "send `application/json` or `application/cloudevents+json`";
    Err(ApiError::new(Code::UnsupportedMediaType, message))
}

fn accepts_events(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/event-stream"))
}
