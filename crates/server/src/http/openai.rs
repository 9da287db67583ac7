//! OpenAI's routes: the client's body goes to the worker untouched, and the worker's pieces come
//! back untouched.
//!
//! The answer's head waits for the first piece, so that a failure before it has its own status.
//! A client that goes away cancels its request, unless it has an idempotency key: then it runs on,
//! and the same request joins it. An answer that begins anew after something of it was
//! sent fails: no client of these routes can take a piece back.

mod whole;

use std::convert::Infallible;
use std::sync::Arc;

use axum::body;
use axum::extract::{FromRequest, Request, State};
use axum::response::{IntoResponse, Response};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream;
use http::{HeaderValue, StatusCode, header};
use mtor_core::authorize::{Action, Object};
use mtor_types::intent::Outcome;
use mtor_types::{Code, IntentId};

use super::Answer;
use super::auth::Member;
use super::json::Body;
use crate::admission::{Options, Route};
use crate::api_error::{ApiError, OpenAiError};
use crate::edge::{Asker, Edge, Submission, Submitted};
use crate::streams::{Cursor, Ended, Entry, Next};

/// Pieces sent in one write at most.
const ROUND_BYTES: usize = 64 * 1024;

/// `POST /v1/chat/completions`
pub async fn chat(
    State(edge): State<Arc<Edge>>,
    request: Request,
) -> Result<Response, OpenAiError> {
    Ok(run(edge, "chat", request).await?)
}

/// `POST /v1/embeddings`
pub async fn embeddings(
    State(edge): State<Arc<Edge>>,
    request: Request,
) -> Result<Response, OpenAiError> {
    Ok(run(edge, "embed", request).await?)
}

async fn run(edge: Arc<Edge>, name: &str, mut request: Request) -> Result<Response, ApiError> {
    let asking = Asking::of(&edge, &mut request)?;
    let Body(data) = Body::from_request(request, &edge).await?;
    let Begun { intent, cursor, pieces } = asking.begin(edge, name, data, Route::OpenAi).await?;
    let response = if pieces { streamed(cursor).await? } else { whole(cursor).await? };
    Ok(named(response, intent))
}

/// Who asks, and what for beside the body: known before any of that is read.
pub(super) struct Asking {
    asker: Asker,
    options: Options,
}

/// Work that is under way.
pub(super) struct Begun {
    pub(super) intent: IntentId,
    cursor: Cursor,
    /// Whether its worker was asked for pieces.
    pieces: bool,
}

/// What comes of it.
pub(super) enum Said {
    Piece(Bytes),
    /// The pieces so far count no more.
    Anew,
    End(Arc<Ended>),
}

/// What a worker may refuse by its name alone; any other it has to call a field.
const FIELDS: [&str; 12] = [
    "audio",
    "dimensions",
    "encoding_format",
    "input",
    "instructions",
    "language",
    "messages",
    "response_format",
    "speed",
    "stream_format",
    "tools",
    "voice",
];
/// Of a field's name.
const FIELD_BYTES_MAX: usize = 64;

impl Asking {
    pub(super) fn of(edge: &Edge, request: &mut Request) -> Result<Self, ApiError> {
        let member = Member::of(edge, request.headers(), request.extensions())?;
        member.caller.may(Action::Submit, &Object::Account(member.account))?;
        let options = Options::from_headers(request.headers())?;
        let asker = member.asker(edge);
        // For the body.
        request.extensions_mut().insert(asker.holder);
        Ok(Self { asker, options })
    }

    pub(super) async fn begin(
        self,
        edge: Arc<Edge>,
        name: &str,
        data: Bytes,
        route: Route,
    ) -> Result<Begun, ApiError> {
        let Self { asker, options } = self;
        let submission = Submission { asker, name: name.to_owned(), data, options, route };
        let Submitted { intent, cursor, pieces, .. } = edge.submit(submission).await?;
        let cursor = cursor.ok_or_else(ApiError::gone)?;
        if cursor.stream().is_answer_gone() {
            return Err(answer_gone(intent));
        }
        Ok(Begun { intent, cursor, pieces })
    }
}

impl Begun {
    /// The next piece, or the end; nothing comes after that.
    pub(super) async fn next(&mut self) -> Result<Said, ApiError> {
        loop {
            match self.cursor.next().await?.ok_or_else(ApiError::stopping)? {
                Entry::Chunk { piece, .. } => return Ok(Said::Piece(piece)),
                Entry::End(ended) => return Ok(Said::End(ended)),
                Entry::Restarted { .. } => return Ok(Said::Anew),
                Entry::Accepted { .. }
                | Entry::Queued { .. }
                | Entry::Started { .. }
                | Entry::Settled(_) => {}
            }
        }
    }
}

/// It ran once under its key, and its answer is no longer kept.
fn answer_gone(intent: IntentId) -> ApiError {
    let message = format!(
        "this was answered and paid under its idempotency key, and the answer is no longer kept; \
         GET /v1/intents/{intent} tells its end; to ask anew take another key"
    );
    ApiError::new(Code::Gone, message)
}

/// Only a request that joined another route's comes to this: of its own none begins anew once a piece
/// was delivered.
pub(super) fn begun_anew() -> ApiError {
    let message = "the worker was lost and the answer began anew: what was sent of it counts no \
                   more; send the request again";
    ApiError::new(Code::WorkerFailed, message)
}

/// The answer, with the name of its intent.
pub(super) fn named(mut response: Response, intent: IntentId) -> Response {
    if let Ok(intent) = HeaderValue::from_str(&intent.to_string()) {
        response.headers_mut().insert("mtor-intent", intent);
    }
    response
}

/// Waits for the whole result. It came in pieces where another route had asked for it.
async fn whole(mut cursor: Cursor) -> Result<Response, ApiError> {
    let mut pieces = Vec::new();
    while let Some(entry) = cursor.next().await? {
        match entry {
            Entry::Chunk { piece, .. } => pieces.push(piece),
            Entry::Restarted { .. } => pieces.clear(),
            Entry::End(ended) => {
                let result = completed(&ended)?.clone();
                let result = result.unwrap_or_else(|| whole::of_pieces(&pieces));
                return Ok(Answer::raw(StatusCode::OK, result).into_response());
            }
            Entry::Accepted { .. }
            | Entry::Queued { .. }
            | Entry::Started { .. }
            | Entry::Settled(_) => {}
        }
    }
    Err(ApiError::stopping())
}

/// The result of an intent that completed, or why it did not.
pub(super) fn completed(ended: &Ended) -> Result<&Option<Bytes>, ApiError> {
    let reason = || ended.message.clone().unwrap_or_else(|| "it failed".to_owned());
    match ended.end.outcome {
        Outcome::Completed(_) => Ok(&ended.result),
        Outcome::Failed(code) => Err(failed(code, reason())),
        Outcome::Expired => Err(ApiError::new(Code::Expired, "the deadline has passed")),
        Outcome::Cancelled | Outcome::Refused => {
            Err(ApiError::new(Code::Cancelled, "the request was cancelled"))
        }
    }
}

/// A worker's refusal, with the field that its words begin with.
fn failed(code: Code, message: String) -> ApiError {
    let is_refusal = code.http_status() < 500;
    let field = field_of(&message).filter(|_| is_refusal).map(str::to_owned);
    ApiError { field, ..ApiError::new(code, message) }
}

fn field_of(message: &str) -> Option<&str> {
    let word = |text: &'_ str| {
        let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        end.unwrap_or(text.len())
    };
    if let Some(called) = message.strip_prefix("field `") {
        let called = called.strip_prefix('/').unwrap_or(called);
        let name = called.get(..word(called))?;
        return (1..=FIELD_BYTES_MAX).contains(&name.len()).then_some(name);
    }
    let first = message.get(..word(message))?;
    FIELDS.contains(&first).then_some(first)
}

/// What comes next in a stream of pieces.
enum Step {
    /// Bytes to send.
    Pieces(Bytes),
    /// The last bytes.
    Last(Bytes),
}

async fn streamed(mut cursor: Cursor) -> Result<Response, ApiError> {
    let first = step(&mut cursor, true).await?;
    let state = Some((cursor, Some(first)));
    let body = body::Body::from_stream(stream::unfold(state, |state| async move {
        let (mut cursor, ready) = state?;
        let next = match ready {
            Some(first) => first,
            // What came first was a piece: more follow.
            None => match step(&mut cursor, false).await {
                Ok(next) => next,
                Err(error) => Step::Last(line(error.to_openai_json().as_bytes())),
            },
        };
        match next {
            Step::Pieces(bytes) => Some((Ok::<_, Infallible>(bytes), Some((cursor, None)))),
            Step::Last(bytes) => Some((Ok(bytes), None)),
        }
    }));
    Ok(events(body))
}

/// The head of an answer in server-sent events.
pub(super) fn events(body: body::Body) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, body).into_response()
}

/// The pieces that are there, or the end. An error before the first piece is the request's.
async fn step(cursor: &mut Cursor, first: bool) -> Result<Step, ApiError> {
    let mut out = BytesMut::new();
    loop {
        let entry = if out.is_empty() {
            cursor.next().await?.ok_or_else(ApiError::stopping)?
        } else if out.len() < ROUND_BYTES
            && let Next::Entry(entry) = cursor.try_next()?
        {
            entry
        } else {
            return Ok(Step::Pieces(out.freeze()));
        };
        match entry {
            Entry::Chunk { piece, .. } => put(&mut out, &piece),
            Entry::Restarted { .. } if first => out.clear(),
            Entry::Restarted { .. } => return Err(begun_anew()),
            Entry::End(ended) => {
                match completed(&ended) {
                    Ok(Some(result)) if !cursor.stream().is_in_pieces() => {
                        put(&mut out, &as_piece(result));
                        put(&mut out, b"[DONE]");
                    }
                    Ok(_) => put(&mut out, b"[DONE]"),
                    Err(error) if first && out.is_empty() => return Err(error),
                    Err(error) => put(&mut out, error.to_openai_json().as_bytes()),
                }
                return Ok(Step::Last(out.freeze()));
            }
            Entry::Accepted { .. }
            | Entry::Queued { .. }
            | Entry::Started { .. }
            | Entry::Settled(_) => {}
        }
    }
}

/// The whole answer of a worker that has no pieces, as the one piece of a stream.
fn as_piece(result: &[u8]) -> Bytes {
    let written = || {
        let mut whole: serde_json::Value = serde_json::from_slice(result).ok()?;
        for choice in whole.get_mut("choices")?.as_array_mut()? {
            let choice = choice.as_object_mut()?;
            let mut delta = choice.remove("message")?;
            let calls = delta.get_mut("tool_calls").and_then(serde_json::Value::as_array_mut);
            for (index, call) in calls.into_iter().flatten().enumerate() {
                call.as_object_mut()?.entry("index").or_insert_with(|| index.into());
            }
            choice.insert("delta".to_owned(), delta);
        }
        *whole.get_mut("object")? = "chat.completion.chunk".into();
        serde_json::to_vec(&whole).ok()
    };
    // What is no completion is what it is.
    written().map_or_else(|| Bytes::copy_from_slice(result), Bytes::from)
}

/// One event.
pub(super) fn line(json: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    put(&mut out, json);
    out.freeze()
}

/// One `data:` event; a raw piece may hold line breaks of its own.
fn put(out: &mut BytesMut, json: &[u8]) {
    for line in json.split(|byte| matches!(byte, b'\n' | b'\r')) {
        out.put_slice(b"data: ");
        out.put_slice(line);
        out.put_u8(b'\n');
    }
    out.put_u8(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_answer_is_one_piece_of_a_stream() {
        let whole = r#"{"id":"x","object":"chat.completion","choices":[{"index":0,"message":{
            "role":"assistant","content":"hi","tool_calls":[{"id":"a"},{"id":"b","index":7}]},
            "finish_reason":"stop"}],"usage":{"total_tokens":2}}"#;
        let piece: serde_json::Value = serde_json::from_slice(&as_piece(whole.as_bytes())).unwrap();
        assert_eq!(piece["object"], "chat.completion.chunk");
        let choice = &piece["choices"][0];
        assert_eq!(
            (&choice["delta"]["content"], &choice["finish_reason"]),
            (&"hi".into(), &"stop".into())
        );
        assert!(choice.get("message").is_none());
        let calls = &choice["delta"]["tool_calls"];
        assert_eq!((&calls[0]["index"], &calls[1]["index"]), (&0.into(), &7.into()));
        assert_eq!((&piece["id"], &piece["usage"]["total_tokens"]), (&"x".into(), &2.into()));
        for other in ["7", r#"{"choices":[{}]}"#, r#"{"data":[]}"#, "no JSON"] {
            assert_eq!(as_piece(other.as_bytes()), other.as_bytes());
        }
    }

    #[test]
    fn the_field_that_a_worker_refuses_is_named() {
        for (message, field) in [
            ("voice must be one of af_alloy, which kokoro-82m has", Some("voice")),
            ("input[3] has 600 tokens, the model reads at most 512; split it", Some("input")),
            ("response_format must be wav, pcm or opus, or absent", Some("response_format")),
            ("field `functions`: the server of this model does not read it", Some("functions")),
            ("field `/x`: no", Some("x")),
            ("field ``: no", None),
            ("voices are many", None),
            ("the voice is not there", None),
            ("field `", None),
            ("", None),
        ] {
            let error = failed(Code::Unsupported, message.to_owned());
            assert_eq!(error.field.as_deref(), field, "{message}");
        }
        // What is no refusal names none.
        assert_eq!(failed(Code::WorkerFailed, "input: it broke".into()).field, None);
    }
}
