//! OpenAI's audio routes: a form becomes the data of `transcribe`, a body is the data of `speak`.
//!
//! What a worker sends is another's word here as everywhere: it is read, and written anew in the
//! shape that was asked for. The head of an answer waits for its first bytes, so that a failure
//! before them has its own status. A client that goes away cancels its request, unless that has a key.

mod form;
mod speech;
mod transcript;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequest, Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, StatusCode, header};
use mtor_types::Code;

use super::json;
use super::openai::{Asking, Begun, Said, begun_anew, completed, events, named};
use crate::admission::Route;
use crate::answers::speech::Sound;
use crate::answers::{SPEAK, TRANSCRIBE, Unreadable};
use crate::api_error::{ApiError, OpenAiError};
use crate::edge::Edge;
use crate::streams::Ended;
use form::{Form, Shape};
use speech::{SoundEvents, Wish, media};
use transcript::{Heard, TextEvents};

/// `POST /v1/audio/transcriptions`
pub async fn transcriptions(
    State(edge): State<Arc<Edge>>,
    request: Request,
) -> Result<Response, OpenAiError> {
    Ok(Box::pin(transcribe(edge, request)).await?)
}

/// `POST /v1/audio/speech`
pub async fn speech(
    State(edge): State<Arc<Edge>>,
    request: Request,
) -> Result<Response, OpenAiError> {
    Ok(Box::pin(speak(edge, request)).await?)
}

async fn transcribe(edge: Arc<Edge>, mut request: Request) -> Result<Response, ApiError> {
    let asking = Asking::of(&edge, &mut request)?;
    let boundary = form::boundary(request.headers())?;
    let json::Body(body) = json::Body::from_request(request, &edge).await?;
    let Form { data, shape, stream } = form::read(&boundary, body).await?;
    let begun = asking.begin(edge, TRANSCRIBE, data, Route::OpenAi).await;
    let begun = begun.map_err(form::told_of_file)?;
    let intent = begun.intent;
    let response = if stream {
        events(flow(begun, TextEvents::default()).await.map_err(form::told_of_file)?)
    } else {
        heard(begun, shape).await.map_err(form::told_of_file)?
    };
    Ok(named(response, intent))
}

async fn heard(mut begun: Begun, shape: Shape) -> Result<Response, ApiError> {
    let mut heard = Heard::default();
    let text = loop {
        match begun.next().await? {
            Said::Piece(piece) => heard.piece(&piece)?,
            Said::Anew => heard = Heard::default(),
            Said::End(ended) => break heard.whole(&ended)?.written(shape),
        }
    };
    let kind = match shape {
        Shape::Json | Shape::Verbose => "application/json",
        Shape::Vtt => "text/vtt; charset=utf-8",
        Shape::Text | Shape::Srt => "text/plain; charset=utf-8",
    };
    let kind = [(header::CONTENT_TYPE, HeaderValue::from_static(kind))];
    Ok((StatusCode::OK, kind, text).into_response())
}

async fn speak(edge: Arc<Edge>, mut request: Request) -> Result<Response, ApiError> {
    let asking = Asking::of(&edge, &mut request)?;
    let json::Body(data) = json::Body::from_request(request, &edge).await?;
    let wish = Wish::of(&data)?;
    let begun = asking.begin(edge, SPEAK, data, Route::OpenAiPieces).await?;
    let intent = begun.intent;
    let sound = Sound::new(wish.format);
    let response = if wish.events {
        events(flow(begun, SoundEvents::new(sound)).await?)
    } else {
        let kind = [(header::CONTENT_TYPE, HeaderValue::from_static(media(wish.format)))];
        (kind, flow(begun, sound).await?).into_response()
    };
    Ok(named(response, intent))
}

/// How an answer in pieces is written.
trait Writer: Send + 'static {
    /// What a worker's piece gives; nothing is sent of what is empty.
    fn piece(&mut self, piece: &[u8]) -> Result<Bytes, ApiError>;
    /// What still follows of work that was completed.
    fn end(&mut self, ended: &Ended) -> Result<Bytes, ApiError>;
    /// The last bytes of an answer that fails in the middle; none can be where a client would take
    /// what it has for the whole.
    fn broken(&self, error: &ApiError) -> Option<Bytes>;
}

/// Only of an answer that was judged by an earlier release: all others were read as they came.
impl From<Unreadable> for ApiError {
    fn from(Unreadable(why): Unreadable) -> Self {
        Self::new(Code::WorkerFailed, why)
    }
}

/// The answer broke off: the connection does, too.
#[derive(Debug, thiserror::Error)]
#[error("the answer broke off")]
struct Broken;

/// The body of an answer whose first bytes are there.
async fn flow(mut begun: Begun, mut writer: impl Writer) -> Result<Body, ApiError> {
    let first = step(&mut begun, &mut writer, false).await?;
    let state = Some((begun, writer, Some(first)));
    Ok(Body::from_stream(stream::unfold(state, |state| async move {
        let (mut begun, mut writer, ready) = state?;
        let next = match ready {
            Some(first) => Ok(first),
            None => step(&mut begun, &mut writer, true).await,
        };
        match next {
            Ok(Step::More(bytes)) => Some((Ok(bytes), Some((begun, writer, None)))),
            Ok(Step::Last(bytes)) => (!bytes.is_empty()).then_some((Ok(bytes), None)),
            Err(error) => Some((writer.broken(&error).ok_or(Broken), None)),
        }
    })))
}

enum Step {
    More(Bytes),
    Last(Bytes),
}

/// `has_sent`: something of it is with the client. A writer of which nothing was sent is as new.
async fn step(
    begun: &mut Begun,
    writer: &mut impl Writer,
    has_sent: bool,
) -> Result<Step, ApiError> {
    loop {
        match begun.next().await? {
            Said::Piece(piece) => {
                let bytes = writer.piece(&piece)?;
                if !bytes.is_empty() {
                    return Ok(Step::More(bytes));
                }
            }
            Said::Anew if has_sent => return Err(begun_anew()),
            Said::Anew => {}
            Said::End(ended) => {
                completed(&ended)?;
                return writer.end(&ended).map(Step::Last);
            }
        }
    }
}
