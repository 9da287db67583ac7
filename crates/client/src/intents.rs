//! Quotes, submissions, and what became of them.

use http::{HeaderName, Method};
use mtor_types::intent::{Class, Trust, Usage};
use mtor_types::{Amount, IntentId, Time};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::accounts::paged;
use crate::catalogue::UnitPrice;
use crate::client::{Client, Page};
use crate::error::ClientError;
use crate::event::Money;
use crate::stream::IntentStream;

pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// A request for work, in the short form of `POST /v1/intents`.
#[derive(Clone, Debug, Serialize)]
pub struct Intent {
    /// The manifest's name.
    pub intent: String,
    /// Sent as it stands.
    pub data: Box<RawValue>,
    /// The most it may cost, in base units.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ceiling: Option<Amount>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trust: Option<Trust>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<Class>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub durable: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart: Option<bool>,
    /// Whether the answer comes in pieces; what the data itself says goes before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<bool>,
    /// The idempotency key; without one each submission gets its own, sent as a header.
    #[serde(skip)]
    pub key: Option<String>,
}

impl Intent {
    pub fn new(name: impl Into<String>, data: Box<RawValue>) -> Self {
        Self {
            intent: name.into(),
            data,
            ceiling: None,
            deadline_ms: None,
            trust: None,
            class: None,
            durable: None,
            restart: None,
            stream: None,
            key: None,
        }
    }
}

/// What work would cost now.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Quote {
    pub intent: String,
    #[serde(default)]
    pub model: Option<String>,
    pub asset: String,
    pub price: UnitPrice,
    /// The edge's upper bound of billable units.
    #[serde(default)]
    pub units: u64,
    /// What would be held.
    pub ceiling: Amount,
    /// The price band that this reaches, 0 to 3: up to 1, 2, 5 or 10 times the list price.
    #[serde(default)]
    pub band: u8,
    /// What it buys may end in mid-stream; else less than this is refused.
    #[serde(default)]
    pub may_be_cut: bool,
    #[serde(default)]
    pub eta_ms: u64,
}

/// The answer to a durable submission: it survives a restart from here on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Accepted {
    pub intent: IntentId,
    #[serde(default)]
    pub hold: Option<Money>,
}

/// An intent as `GET /v1/intents/{id}` shows it.
#[derive(Debug, Serialize, Deserialize)]
pub struct IntentView {
    pub intent: IntentId,
    /// `open`, or how it ended: `completed`, `failed`, `cancelled`, `expired`, `refused`.
    pub status: String,
    #[serde(default)]
    pub result: Option<Box<RawValue>>,
    #[serde(default)]
    pub usage: Option<Usage>,
    #[serde(default)]
    pub cost: Option<Money>,
    #[serde(default)]
    pub refunded: Option<Money>,
    #[serde(default)]
    pub code: Option<String>,
    #[serde(default)]
    pub reason: Option<String>,
}

/// A row of the caller's own intents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnIntent {
    pub intent: IntentId,
    /// As [`IntentView::status`].
    pub status: String,
    /// Which kind of work; told while it is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    pub hold: Money,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Money>,
    /// What was metered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub units: Option<u64>,
    /// When its money was reserved, in milliseconds since 1970.
    pub placed: Time,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Time>,
}

impl Client {
    /// A page of at most `limit` of the caller's intents, the newest first, behind `after` (a
    /// page's `next`). A page may hold fewer, or none, and not be the last.
    pub async fn own_intents(
        &self,
        limit: usize,
        after: Option<&str>,
    ) -> Result<Page<OwnIntent>, ClientError> {
        self.get(&paged("/v1/intents", limit, after), "a page of intents").await
    }

    /// What an intent would cost; nothing is held.
    pub async fn quote(&self, intent: &Intent) -> Result<Quote, ClientError> {
        self.call(Method::POST, "/v1/quote", Some(intent), "a quote").await
    }

    /// Submits a durable intent and does not wait for its end.
    pub async fn submit(&self, intent: &Intent) -> Result<Accepted, ClientError> {
        let key = key_of(intent)?;
        let headers = [(IDEMPOTENCY_KEY, key.as_str())];
        let body = Some(self.body(intent)?);
        let bytes = self.exchange(Method::POST, "/v1/intents", body, &headers).await?;
        self.read(&bytes, "an accepted intent")
    }

    /// Submits an intent and follows it to its end. Nothing is sent before the first
    /// [`IntentStream::next`].
    pub fn submit_streaming(&self, intent: &Intent) -> Result<IntentStream, ClientError> {
        Ok(IntentStream::submit(self.clone(), self.body(intent)?, key_of(intent)?))
    }

    /// Follows an intent that was submitted before, from behind `last_id`, or from its begin.
    pub fn follow(&self, intent: IntentId, last_id: Option<&str>) -> IntentStream {
        IntentStream::resume(self.clone(), intent, last_id.unwrap_or_default().to_owned())
    }

    pub async fn intent(&self, intent: IntentId) -> Result<IntentView, ClientError> {
        self.get(&format!("/v1/intents/{intent}"), "an intent").await
    }

    /// Asks for the intent's end; what was metered until then is paid.
    pub async fn cancel(&self, intent: IntentId) -> Result<(), ClientError> {
        self.command(Method::DELETE, &format!("/v1/intents/{intent}"), None::<&()>).await
    }
}

fn key_of(intent: &Intent) -> Result<String, ClientError> {
    match &intent.key {
        Some(key) => Ok(key.clone()),
        None => {
            let mut bytes = [0; 16];
            getrandom::fill(&mut bytes).map_err(ClientError::Randomness)?;
            Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
        }
    }
}
