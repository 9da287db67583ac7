//! Any OpenAI-compatible server (Ollama, vLLM, llama-server and others) for `chat` and `embed`.
//!
//! The client's body goes through field by field as raw JSON; what may be changed stands in
//! [`body`]. Answers go back verbatim, also the name that the backend gives its model there. A streamed answer's last chunk says what was used; until
//! then the count is the number of chunks with content.

mod body;
mod book;
mod discovery;
mod names;
mod probe;
mod server;
mod sse;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use mtor_types::intent::Usage;
use mtor_types::worker::FailCode;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::Notify;

pub(crate) use discovery::discover;
pub use names::ModelNames;

use super::{Job, Output, bounded};
use crate::error::WorkerError;
use crate::http_client::{BodyError, HttpClient, base_address, read_body};
use crate::leases::End;
use crate::limits;
use crate::options::OpenAiOptions;
use sse::Events;

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
}

#[derive(Deserialize)]
struct UsageIn {
    #[serde(default)]
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
}

impl UsageIn {
    fn usage(&self) -> Usage {
        let (input, output) = (self.prompt_tokens, self.completion_tokens);
        Usage { units: input.saturating_add(output), input, output }
    }
}

/// What is looked at in an answer or a chunk; the rest passes unread.
#[derive(Deserialize)]
struct Glance<'a> {
    #[serde(default)]
    usage: Option<UsageIn>,
    #[serde(borrow, default)]
    choices: Option<Vec<Choice<'a>>>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow, default)]
    delta: Option<BTreeMap<String, &'a RawValue>>,
    #[serde(borrow, default)]
    message: Option<Message<'a>>,
    #[serde(borrow, default)]
    finish_reason: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
}

impl Choice<'_> {
    /// Something of the answer, not only its role or its end.
    fn has_content(&self) -> bool {
        let filled = |raw: &&RawValue| !matches!(raw.get(), "null" | "\"\"" | "[]");
        let mut fields = self.delta.iter().flatten();
        fields.any(|(name, raw)| name != "role" && filled(raw))
    }
}

impl OpenAi {
    pub(crate) fn new(options: OpenAiOptions) -> Result<Self, WorkerError> {
        let wrong = || WorkerError::Backend { url: options.url.clone() };
        let (_, base) = base_address(&options.url).ok_or_else(wrong)?;
        let base = base.trim_end_matches("/v1").trim_end_matches('/').to_owned();
        let (client, suspect) = (HttpClient::new()?, Notify::new());
        Ok(Self { client, base, options, suspect, was_away: AtomicBool::new(false) })
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
        let wishes = body::Wishes {
            chat: job.name == "chat",
            stream: job.stream && job.name == "chat",
            output: job.output,
            model: job.model.as_deref(),
            names: &self.options.names,
        };
        let bytes = job.data.get().len() as u64;
        let made = body::make(job.data.get(), &wishes).map_err(End::bad_request)?;
        drop(job.data);
        let request = self.request(Method::POST, path, made.bytes);
        let request = request.map_err(|_| End::backend("the backend's address or key is wrong"))?;
        let answer = self.client.send(request).await.map_err(|error| {
            self.was_away.fetch_or(error.is_connect(), Ordering::Relaxed);
            self.suspect.notify_one();
            let refused = if error.is_connect() { "cannot be reached" } else { "did not answer" };
            End::backend(format!("the backend {refused}"))
        })?;
        let status = answer.status();
        if !status.is_success() {
            return Err(refusal(status, answer.into_body()).await);
        }
        if wishes.stream {
            stream(answer.into_body(), output, made.usage_wanted).await
        } else {
            let end = whole(answer.into_body()).await;
            // Embeddings are metered by the bytes asked for, whatever the backend counts.
            match end {
                Ok(End::Complete { result, .. }) if !wishes.chat => Ok(End::Complete {
                    usage: Usage { units: bytes, input: bytes, output: 0 },
                    result,
                }),
                end => end,
            }
        }
    }
}

/// An answer in one body: the result, verbatim.
async fn whole(body: Incoming) -> Result<End, End> {
    let body = read_body(body, limits::PIECE_BYTES_MAX).await.map_err(|error| match error {
        BodyError::TooLarge => {
            End::fail(FailCode::Backend, "the backend's answer is above 16 MiB", false)
        }
        BodyError::Lost => End::backend("the backend broke off"),
    })?;
    let not_json = || End::backend("the backend's answer is not JSON");
    let text = String::from_utf8(body.into()).map_err(|_| not_json())?;
    let glance: Option<Glance<'_>> = serde_json::from_str(&text).ok();
    let usage = match &glance {
        Some(Glance { usage: Some(usage), error: None, .. }) => usage.usage(),
        Some(Glance { error: Some(error), .. }) if error.get() != "null" => {
            let message = error_text(error.get());
            return Err(End::backend(format!("the backend failed: {}", bounded(&message))));
        }
        Some(Glance { choices: Some(choices), .. }) => uncounted(choices),
        Some(_) | None => Usage { units: 1, input: 0, output: 1 },
    };
    let result = RawValue::from_string(text).map_err(|_| not_json())?;
    Ok(End::Complete { usage, result: Some(result) })
}

/// A backend that does not count has served about a token for each four bytes of its answer, which
/// is what tokenizers make of English; one at least. The prompt is not claimed.
fn uncounted(choices: &[Choice<'_>]) -> Usage {
    const TOKEN_BYTES: u64 = 4;
    let content = |choice: &Choice<'_>| choice.message.as_ref()?.content.map(|raw| raw.get().len());
    let bytes: usize = choices.iter().filter_map(content).sum();
    // Without its quotation marks.
    let bytes = u64::try_from(bytes).unwrap_or(u64::MAX).saturating_sub(2);
    let output = bytes.div_ceil(TOKEN_BYTES).max(1);
    Usage { units: output, input: 0, output }
}

/// A streamed answer: each event a piece.
async fn stream(mut body: Incoming, output: &Output, usage_wanted: bool) -> Result<End, End> {
    let mut progress = Progress { count: 0, usage: None, finished: false, usage_wanted };
    let mut events = Events::default();
    let broke_off = || End::backend("the backend broke off");
    while let Some(frame) = body.frame().await {
        let frame = match frame {
            Ok(frame) => frame,
            // Some servers do not end their chunked body; the answer is whole all the same.
            Err(_) if progress.finished => break,
            Err(_) => return Err(broke_off()),
        };
        let Ok(data) = frame.into_data() else { continue };
        events.push(&data).map_err(|()| End::backend("the backend sent a chunk above 16 MiB"))?;
        while let Some(event) = events.next_event() {
            if event == "[DONE]" {
                return Ok(progress.end());
            }
            if let Some(piece) = progress.piece(event)? {
                output.piece(piece, progress.count).await?;
            }
        }
    }
    if let Some(event) = events.last_event()
        && event != "[DONE]"
        && let Some(piece) = progress.piece(event)?
    {
        output.piece(piece, progress.count).await?;
    }
    if progress.finished { Ok(progress.end()) } else { Err(broke_off()) }
}

struct Progress {
    /// Units so far, by chunks with content; the backend's own count once it is known.
    count: u64,
    usage: Option<Usage>,
    /// A choice has named its end.
    finished: bool,
    usage_wanted: bool,
}

impl Progress {
    /// What of an event is forwarded.
    fn piece(&mut self, event: String) -> Result<Option<Box<RawValue>>, End> {
        let not_json = |_| End::backend("the backend sent a chunk that is not JSON");
        let raw = RawValue::from_string(event).map_err(not_json)?;
        let Ok(glance) = serde_json::from_str::<Glance<'_>>(raw.get()) else {
            return Ok(Some(raw));
        };
        if let Some(error) = glance.error.filter(|error| error.get() != "null") {
            let message = error_text(error.get());
            return Err(End::backend(format!("the backend failed: {}", bounded(&message))));
        }
        let choices = glance.choices.as_deref().unwrap_or_default();
        if choices.iter().any(Choice::has_content) {
            self.count += 1;
        }
        self.finished |= choices.iter().any(|choice| choice.finish_reason.is_some());
        let mut only_usage = false;
        if let Some(usage) = &glance.usage {
            let usage = usage.usage();
            self.usage = Some(usage);
            self.count = self.count.max(usage.units);
            only_usage = choices.is_empty();
        }
        let forward = self.usage_wanted || !only_usage;
        Ok(forward.then_some(raw))
    }

    fn end(&self) -> End {
        let counted = Usage { units: self.count, input: 0, output: self.count };
        End::Complete { usage: self.usage.unwrap_or(counted), result: None }
    }
}

/// The backend said no.
async fn refusal(status: StatusCode, body: Incoming) -> End {
    let body = read_body(body, limits::BACKEND_ERROR_BYTES_MAX).await.unwrap_or_default();
    let message = error_text(&String::from_utf8_lossy(&body));
    let message = bounded(&message);
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
fn error_text(text: &str) -> String {
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

    #[test]
    fn an_answer_that_nobody_counted_is_claimed_by_its_length() {
        let claimed = |text: &str| {
            let glance: Glance<'_> = serde_json::from_str(text).unwrap();
            uncounted(glance.choices.as_deref().unwrap_or_default())
        };
        let answer = r#"{"choices":[{"message":{"role":"assistant","content":"twelve bytes"}}]}"#;
        assert_eq!(claimed(answer), Usage { units: 3, input: 0, output: 3 });
        assert_eq!(claimed(r#"{"choices":[{"message":{"content":null}}]}"#).units, 1);
        assert_eq!(claimed(r#"{"choices":[]}"#).units, 1);
    }

    #[test]
    fn content_is_more_than_a_role() {
        let count = |event: &str| {
            let mut progress =
                Progress { count: 0, usage: None, finished: false, usage_wanted: false };
            let forwarded = progress.piece(event.into()).unwrap().is_some();
            (progress.count, progress.finished, forwarded)
        };
        assert_eq!(
            count(r#"{"choices":[{"delta":{"role":"assistant","content":""}}]}"#),
            (0, false, true)
        );
        assert_eq!(
            count(r#"{"choices":[{"delta":{"content":"a"}}],"usage":null}"#),
            (1, false, true)
        );
        assert_eq!(count(r#"{"choices":[{"delta":{"tool_calls":[{}]}}]}"#), (1, false, true));
        assert_eq!(count(r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#), (0, true, true));
        let last = r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}"#;
        assert_eq!(count(last), (7, false, false));
        assert_eq!(count(r#"[1]"#), (0, false, true));
    }
}
