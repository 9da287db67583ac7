//! Any OpenAI-compatible server of audio, for `transcribe` and `speak`.
//!
//! What a backend says is looked at, never believed: how long a sound is comes from its bytes, and
//! what is paid is never above what the realm bounds it by. What it cannot do it refuses in its own
//! words, which go to the client with our code.

mod count;
mod form;
mod hear;
mod offers;
mod probe;
mod say;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use mtor_types::worker::FailCode;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::Notify;

use super::openai::{BROKE_OFF, UNREACHED, error_text, refused};
use super::{Job, Output, bounded};
use crate::error::WorkerError;
use crate::http_client::{HttpClient, base_address, read_body};
use crate::leases::End;
use crate::limits;
use crate::options::AudioOptions;

pub(crate) use offers::keep;

/// What a model of a backend is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Intent {
    Transcribe,
    Speak,
}

impl Intent {
    fn name(self) -> &'static str {
        match self {
            Self::Transcribe => "transcribe",
            Self::Speak => "speak",
        }
    }
}

/// How a model wants to be asked, as it answered this worker's own question.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Manner {
    /// It tells the times of what was said.
    verbose: bool,
    /// Of a text whose client names none.
    voice: Option<&'static str>,
}

/// One backend.
pub(crate) struct Audio {
    client: HttpClient,
    /// Without a trailing `/v1`.
    base: String,
    options: AudioOptions,
    /// Those that have answered, by intent and id.
    manners: Mutex<BTreeMap<(Intent, String), Manner>>,
    /// A job got no answer: look again soon.
    suspect: Notify,
}

/// What a backend is sent as it is.
struct Ask {
    path: &'static str,
    kind: String,
    body: Bytes,
}

impl Audio {
    pub(crate) fn new(options: AudioOptions) -> Result<Self, WorkerError> {
        let wrong = || WorkerError::Backend { url: options.url.clone() };
        let (_, base) = base_address(&options.url).ok_or_else(wrong)?;
        let base = base.trim_end_matches("/v1").trim_end_matches('/').to_owned();
        let client = HttpClient::new()?;
        Ok(Self { client, base, options, manners: Mutex::default(), suspect: Notify::new() })
    }

    pub(crate) async fn run(&self, job: Job, output: Output) -> End {
        let done = match job.name.as_str() {
            "transcribe" => self.hear(job, &output).await,
            "speak" => self.say(job, &output).await,
            name => {
                let message = format!("intent `{name}` is not one of transcribe, speak");
                Err(End::fail(FailCode::Unsupported, message, true))
            }
        };
        done.unwrap_or_else(|end| end)
    }

    fn request(&self, ask: Option<Ask>) -> Result<Request<Full<Bytes>>, http::Error> {
        let mut request = Request::builder();
        if let Some(key) = &self.options.key {
            request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
        }
        let Some(Ask { path, kind, body }) = ask else {
            let request = request.method(Method::GET).uri(format!("{}/v1/models", self.base));
            return request.body(Full::default());
        };
        let request = request.method(Method::POST).uri(format!("{}{path}", self.base));
        request.header(header::CONTENT_TYPE, kind).body(Full::new(body))
    }

    /// Sends a job's question; what comes is a good status.
    async fn ask(&self, ask: Ask) -> Result<Response<Incoming>, End> {
        let request = self.request(Some(ask));
        let request = request.map_err(|_| End::backend("the backend's address or key is wrong"))?;
        let answer = self.client.send(request).await.map_err(|error| {
            self.suspect.notify_one();
            End::backend(if error.is_connect() { UNREACHED } else { BROKE_OFF })
        })?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let body = read_body(answer.into_body(), limits::BACKEND_ERROR_BYTES_MAX).await;
        Err(refusal(status, &body.unwrap_or_default()))
    }

    fn manner(&self, intent: Intent, id: &str) -> Manner {
        let manners = self.manners.lock().unwrap_or_else(PoisonError::into_inner);
        manners.get(&(intent, id.to_owned())).copied().unwrap_or_default()
    }

    /// The backend's own name of the model that a job is for.
    fn model(&self, named: Option<&str>, job: &Job) -> Option<String> {
        let name = named.or(job.model.as_deref())?;
        Some(self.options.names.model(name).unwrap_or(name).to_owned())
    }
}

/// A voice or a language that is not there is as often no such thing as a wrong word.
fn refusal(status: StatusCode, body: &[u8]) -> End {
    let message = error_text(&String::from_utf8_lossy(body));
    let message = bounded(&message);
    match status.as_u16() {
        404 if !message.is_empty() => End::fail(FailCode::Unsupported, message, true),
        415 if !message.is_empty() => End::fail(FailCode::Unsupported, message, false),
        415 => End::fail(FailCode::Unsupported, "the backend does not take this sound", false),
        _ => refused(status, message),
    }
}

fn raw(value: &serde_json::Value) -> Result<Box<RawValue>, End> {
    RawValue::from_string(value.to_string()).map_err(|_| End::backend("not to be written as JSON"))
}

/// What both kinds of data have.
#[derive(Deserialize)]
struct Named {
    #[serde(default)]
    model: Option<String>,
}
