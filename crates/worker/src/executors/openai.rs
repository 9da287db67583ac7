//! Any OpenAI-compatible server (Ollama, vLLM, llama-server and others) for `chat` and `embed`.
//!
//! The client's body goes through field by field as raw JSON; what may be changed stands in
//! [`body`]. Answers go back verbatim, also the name that the backend gives its model there, unless
//! that is a path of its owner's. A streamed answer's last chunk says what was used; until then the
//! count is the number of chunks with content. Only where the backend counts one of several answers
//! its count is mended.

mod body;
mod book;
mod discovery;
mod fields;
mod halves;
mod llama;
mod media;
mod meter;
mod names;
mod paths;
mod probe;
mod server;
mod sse;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use mtor_types::intent::Usage;
use mtor_types::worker::FailCode;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::sync::Notify;
use tokio::time::timeout;

pub(super) use book::grown;
pub(crate) use discovery::discover;
pub(super) use fields::Fields;
pub use names::ModelNames;

use super::{Job, Output, bounded};
use crate::error::WorkerError;
use crate::http_client::{BodyError, HttpClient, base_address, read_body};
use crate::leases::End;
use crate::limits;
use crate::options::OpenAiOptions;
use meter::Progress;
use paths::Paths;
use sse::Events;

/// Of an answer whose connection ended before it did.
pub(super) const BROKE_OFF: &str = "the backend broke off";
/// Nobody listens there any more.
pub(super) const UNREACHED: &str = "the backend cannot be reached";

/// One backend.
pub(crate) struct OpenAi {
    client: HttpClient,
    /// Without a trailing `/v1`.
    base: String,
    options: OpenAiOptions,
    /// A job got no answer: look again soon.
    suspect: Notify,
    /// It was not even there: what answered before may be another now.
    was_away: AtomicBool,
    /// It is llama.cpp's server.
    is_llama: AtomicBool,
    /// And its model's template knows no tools.
    is_toolless: AtomicBool,
    paths: Paths,
}

impl OpenAi {
    pub(crate) fn new(options: OpenAiOptions) -> Result<Self, WorkerError> {
        let wrong = || WorkerError::Backend { url: options.url.clone() };
        let (_, base) = base_address(&options.url).ok_or_else(wrong)?;
        let base = base.trim_end_matches("/v1").trim_end_matches('/').to_owned();
        let (client, suspect) = (HttpClient::new()?, Notify::new());
        let (was_away, is_llama, is_toolless, paths) = Default::default();
        Ok(Self { client, base, options, suspect, was_away, is_llama, is_toolless, paths })
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, http::Error> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        if let Some(key) = &self.options.key {
            request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
        }
        request.body(Full::new(body))
    }

    pub(crate) async fn run(&self, job: Job, output: Output) -> End {
        match self.attempt(job, &output).await {
            Ok(end) | Err(end) => end,
        }
    }

    async fn attempt(&self, job: Job, output: &Output) -> Result<End, End> {
        let path = match job.name.as_str() {
            "chat" => "/v1/chat/completions",
            "embed" => "/v1/embeddings",
            name => {
                let message = format!("intent `{name}` is not one of chat, embed");
                return Err(End::fail(FailCode::Unsupported, message, true));
            }
        };
        let is_llama = self.is_llama.load(Ordering::Relaxed);
        let wishes = body::Wishes {
            chat: job.name == "chat",
            stream: job.stream && job.name == "chat",
            output: job.output,
            model: job.model.as_deref(),
            names: &self.options.names,
            paths: &self.paths,
            llama: is_llama.then(|| !self.is_toolless.load(Ordering::Relaxed)),
        };
        let bytes = job.data.get().len() as u64;
        let made = body::make(job.data.get(), &wishes)
            .map_err(|refused| End::fail(refused.code, refused.message, false))?;
        drop(job.data);
        let request = self.request(Method::POST, path, made.bytes);
        let request = request.map_err(|_| End::backend("the backend's address or key is wrong"))?;
        let answer = self.client.send(request).await.map_err(|error| {
            self.was_away.fetch_or(error.is_connect(), Ordering::Relaxed);
            self.suspect.notify_one();
            End::backend(if error.is_connect() { UNREACHED } else { BROKE_OFF })
        })?;
        let status = answer.status();
        if !status.is_success() {
            return Err(refusal(status, answer.into_body()).await);
        }
        if wishes.stream {
            let progress = Progress::new(made.usage_wanted, made.choices, made.shown);
            return stream(answer.into_body(), output, progress).await;
        }
        let (mut usage, mut text) = whole(answer.into_body()).await?;
        if !wishes.chat {
            // Metered by the bytes asked for, whatever the backend counts.
            usage = Usage { units: bytes, input: bytes, output: 0 };
        } else if made.choices > 1 && is_llama {
            let all = self.count_all(&text, usage.output).await.max(usage.output);
            usage = Usage { units: usage.input.saturating_add(all), output: all, ..usage };
            text = meter::told(&text, usage).unwrap_or(text);
        }
        if let Some(name) = &made.shown {
            text = meter::shown_as(&text, name).unwrap_or(text);
        }
        let result = RawValue::from_string(text).map_err(|_| not_json())?;
        Ok(End::Complete { usage, result: Some(result) })
    }

    /// Tokens of all answers in one: llama.cpp's server counts the first alone. By its own
    /// tokenizer, and one for each end that the model wrote.
    async fn count_all(&self, text: &str, first: u64) -> u64 {
        let patience = Duration::from_millis(limits::LOOK_PATIENCE_MS);
        let mut all = 0_u64;
        for (said, is_ended) in meter::answers(text) {
            let tokens = match timeout(patience, self.count_tokens(&said)).await {
                Ok(Some(tokens)) => tokens.saturating_add(u64::from(is_ended)),
                // Then each is taken to be as long as the first.
                Ok(None) | Err(_) => first,
            };
            all = all.saturating_add(tokens);
        }
        all
    }

    async fn count_tokens(&self, text: &str) -> Option<u64> {
        #[derive(Deserialize)]
        struct Tokens {
            tokens: Vec<serde::de::IgnoredAny>,
        }
        let (status, body) = self.post("/tokenize", &json!({"content": text})).await.ok()?;
        let tokens: Tokens = serde_json::from_slice(&body).ok().filter(|_| status.is_success())?;
        u64::try_from(tokens.tokens.len()).ok()
    }
}

fn not_json() -> End {
    End::backend("the backend's answer is not JSON")
}

/// An answer in one body, verbatim, and what it used.
async fn whole(body: Incoming) -> Result<(Usage, String), End> {
    let body = read_body(body, limits::PIECE_BYTES_MAX).await.map_err(|error| match error {
        BodyError::TooLarge => {
            End::fail(FailCode::Backend, "the backend's answer is above 16 MiB", false)
        }
        BodyError::Lost => End::backend(BROKE_OFF),
    })?;
    let text = String::from_utf8(body.into()).map_err(|_| not_json())?;
    Ok((meter::whole(&text)?, text))
}

/// A streamed answer: each event a piece.
async fn stream(mut body: Incoming, output: &Output, mut progress: Progress) -> Result<End, End> {
    let mut events = Events::default();
    let broke_off = || End::backend(BROKE_OFF);
    let mut is_done = false;
    while !is_done && let Some(frame) = body.frame().await {
        let frame = match frame {
            Ok(frame) => frame,
            // Some servers do not end their chunked body; the answer is whole all the same.
            Err(_) if progress.is_finished() => break,
            Err(_) => return Err(broke_off()),
        };
        let Ok(data) = frame.into_data() else { continue };
        events.push(&data).map_err(|()| End::backend("the backend sent a chunk above 16 MiB"))?;
        while let Some(event) = events.next_event() {
            is_done |= event == "[DONE]";
            if is_done {
                break;
            }
            if let Some(piece) = progress.piece(event)? {
                output.piece(piece, progress.count()).await?;
            }
        }
    }
    if !is_done
        && let Some(event) = events.last_event()
        && event != "[DONE]"
        && let Some(piece) = progress.piece(event)?
    {
        output.piece(piece, progress.count()).await?;
    }
    if !is_done && !progress.is_finished() {
        return Err(broke_off());
    }
    if let Some(piece) = progress.last_piece() {
        output.piece(piece, progress.count()).await?;
    }
    Ok(progress.end())
}

/// The backend said no.
async fn refusal(status: StatusCode, body: Incoming) -> End {
    let body = read_body(body, limits::BACKEND_ERROR_BYTES_MAX).await.unwrap_or_default();
    let message = error_text(&String::from_utf8_lossy(&body));
    refused(status, bounded(&message))
}

/// The same, in these words.
pub(super) fn refused(status: StatusCode, message: &str) -> End {
    let lower = message.to_ascii_lowercase();
    match status.as_u16() {
        400 | 413 | 422 if is_overflow(&lower) => {
            End::fail(FailCode::ContextOverflow, message, false)
        }
        400 | 413 | 422 if message.is_empty() => {
            End::bad_request("the backend refused the request without a reason")
        }
        400 | 413 | 422 => End::bad_request(message),
        404 => {
            let message = "field `model`: the backend does not have it now; see GET /v1/models";
            End::fail(FailCode::Unsupported, message, true)
        }
        429 => End::backend("the backend has too much to do"),
        401 | 403 => End::backend("the backend refused this worker's key"),
        status => End::backend(format!("the backend failed with status {status}")),
    }
}

fn is_overflow(message: &str) -> bool {
    ["context length", "context_length", "context size", "context window", "maximum context"]
        .iter()
        .any(|words| message.contains(words))
}

/// The message of an error in one of the forms in use, else the text itself.
pub(super) fn error_text(text: &str) -> String {
    #[derive(Deserialize)]
    struct Form<'a> {
        #[serde(borrow, default)]
        error: Option<&'a RawValue>,
        #[serde(borrow, default)]
        message: Option<&'a RawValue>,
        #[serde(borrow, default)]
        detail: Option<&'a RawValue>,
    }
    // An error may be an object in an `error` field: two steps down at most.
    let mut text = text.trim();
    for _ in 0..3 {
        if let Ok(string) = serde_json::from_str::<String>(text) {
            return string;
        }
        // serde would read an array as a struct's fields in order.
        if !text.starts_with('{') {
            break;
        }
        let Ok(form) = serde_json::from_str::<Form<'_>>(text) else { break };
        let Some(inner) = form.error.or(form.message).or(form.detail) else { break };
        text = inner.get();
    }
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_read_in_the_forms_in_use() {
        let cases = [
            (r#"{"error":{"message":"no","type":"x"}}"#, "no"),
            (r#"{"error":"no"}"#, "no"),
            (r#"{"message":"no","object":"error"}"#, "no"),
            (r#"{"detail":"no"}"#, "no"),
            ("no", "no"),
            (r#"{"detail":[{"loc":1}]}"#, r#"[{"loc":1}]"#),
        ];
        for (text, message) in cases {
            assert_eq!(error_text(text), message, "{text}");
        }
    }
}
