//! Follows one intent from its submission to its end, over as many connections as that takes.
//!
//! Before the realm has named the intent, a lost connection submits again under the same
//! idempotency key; after that, the stream is resumed behind the last id seen. So the work is never
//! asked for twice, and a piece is never lost or given twice. A first connection that cannot be
//! opened is told at once: nothing was sent, and nobody waits for a realm that is not there.
//!
//! The realm keeps the events of an intent for a while after its end only. Where they are gone, the
//! end is read from the intent itself: its pieces are lost then, its result and its cost are not.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, Method, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use mtor_types::{Attempt, Code, IntentId};
use serde_json::value::RawValue;
use tokio::time::{sleep, timeout};

use crate::client::Client;
use crate::error::ClientError;
use crate::event::{Event, EventKind};
use crate::intents::{Accepted, IDEMPOTENCY_KEY, IntentView};
use crate::limits;
use crate::sse::{SseMessage, SseParser};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const EVENT_STREAM: &str = "text/event-stream";

/// The events of one intent.
#[derive(Debug)]
pub struct IntentStream {
    client: Client,
    /// What is submitted; `None` if the intent was there already.
    submission: Option<Submission>,
    intent: Option<IntentId>,
    last_id: String,
    connection: Option<Connection>,
    ready: VecDeque<Event>,
    seen: Seen,
    /// Connections in a row that brought nothing new.
    tries: u32,
    /// Something was heard of the intent on some connection.
    begun: bool,
    /// A connection was lost since work on it was heard of.
    broken: bool,
}

#[derive(Debug)]
struct Submission {
    body: Bytes,
    /// The idempotency key.
    key: String,
}

#[derive(Debug)]
struct Connection {
    body: Incoming,
    parser: SseParser,
}

/// What was given already.
#[derive(Debug, Default)]
struct Seen {
    accepted: bool,
    ended: bool,
    settled: bool,
    /// The newest piece.
    piece: Option<(Attempt, u64)>,
}

impl Seen {
    /// Whether an event is new; a resumed stream may repeat some.
    fn take(&mut self, kind: &EventKind) -> bool {
        match kind {
            EventKind::Accepted(_) => !std::mem::replace(&mut self.accepted, true),
            EventKind::Chunk(chunk) => {
                let this = (chunk.attempt, chunk.seq);
                let new = self.piece.is_none_or(|newest| newest < this);
                self.piece = self.piece.max(Some(this));
                new
            }
            EventKind::Settled => !std::mem::replace(&mut self.settled, true),
            end if end.is_end() => !std::mem::replace(&mut self.ended, true),
            EventKind::Queued(_)
            | EventKind::Started(_)
            | EventKind::Restarted(_)
            | EventKind::Completed(_)
            | EventKind::Failed(_)
            | EventKind::Cancelled(_)
            | EventKind::Expired(_) => !self.ended,
        }
    }
}

impl IntentStream {
    pub(crate) fn submit(client: Client, body: Bytes, key: String) -> Self {
        Self::new(client, Some(Submission { body, key }), None)
    }

    pub(crate) fn resume(client: Client, intent: IntentId, last_id: String) -> Self {
        let stream = Self::new(client, None, Some(intent));
        Self { last_id, ..stream }
    }

    fn new(client: Client, submission: Option<Submission>, intent: Option<IntentId>) -> Self {
        Self {
            client,
            submission,
            intent,
            last_id: String::new(),
            connection: None,
            ready: VecDeque::new(),
            seen: Seen::default(),
            tries: 0,
            begun: false,
            broken: false,
        }
    }

    /// The intent, once the realm has named it.
    pub fn intent(&self) -> Option<IntentId> {
        self.intent
    }

    /// The id of the last event: what a later stream resumes behind.
    pub fn last_id(&self) -> &str {
        &self.last_id
    }

    /// Whether the connection was lost since the intent was last seen at work: what begins again
    /// then does so because of the realm, and not of a worker.
    pub fn was_broken(&self) -> bool {
        self.broken
    }

    /// The next event; `None` after the end and its receipt. Safe to cancel: what was not given
    /// is given by the next call.
    pub async fn next(&mut self) -> Result<Option<Event>, ClientError> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                if matches!(event.kind, EventKind::Started(_) | EventKind::Chunk(_)) {
                    self.broken = false;
                }
                return Ok(Some(event));
            }
            if self.seen.settled {
                return Ok(None);
            }
            match self.advance().await {
                Ok(true) => {}
                // The receipt can be had later; the end is what counts.
                Ok(false) | Err(_) if self.seen.ended => return Ok(None),
                Ok(false) => self.lost(None)?,
                Err(error) => self.lost(Some(error))?,
            }
        }
    }

    /// Reads on, on a new connection if there is none. False if the stream ended.
    async fn advance(&mut self) -> Result<bool, ClientError> {
        if self.connection.is_none() {
            if self.tries > 0 {
                sleep(backoff(self.tries)).await;
            }
            match self.connect().await {
                Ok(connection) => self.connection = connection,
                Err(error) if error.code() == Some(Code::Gone) => return self.read_end().await,
                Err(error) => return Err(error),
            }
            self.begun = true;
        }
        let Some(connection) = &mut self.connection else { return self.read_end().await };
        let wait_ms = if self.seen.ended { limits::SETTLE_MS } else { limits::SILENCE_MS };
        let frame = timeout(Duration::from_millis(wait_ms), connection.body.frame()).await;
        let frame = frame.map_err(|_| ClientError::Silent {
            address: self.client.address().to_owned(),
            wait_ms,
        })?;
        let Some(frame) = frame else { return Ok(false) };
        let frame = frame.map_err(|error| self.client.broken(error))?;
        let Some(bytes) = frame.data_ref() else { return Ok(true) };
        let mut messages = Vec::new();
        let parsed = connection.parser.push(bytes, &mut messages);
        for message in messages {
            self.take(message)?;
        }
        parsed.map_err(|_| ClientError::TooLarge {
            address: self.client.address().to_owned(),
            bytes_max: limits::MESSAGE_BYTES_MAX,
        })?;
        Ok(true)
    }

    /// The connection is gone: an error if another one cannot help.
    fn lost(&mut self, error: Option<ClientError>) -> Result<(), ClientError> {
        self.connection = None;
        self.broken = true;
        self.tries = self.tries.saturating_add(1);
        match error {
            Some(error) if !error.may_reconnect() => Err(error),
            // It was sent, and may have been taken: its key asks for it, not for another.
            Some(ClientError::Broken { .. }) if self.tries < limits::TRIES_MAX => Ok(()),
            Some(error) if !self.begun => Err(error),
            error if self.tries >= limits::TRIES_MAX => {
                let (tries, intent) = (self.tries, self.intent);
                Err(ClientError::StreamLost { tries, intent, source: error.map(Box::new) })
            }
            _ => Ok(()),
        }
    }

    /// A connection, or `None` where the realm has only the intent's name to give.
    async fn connect(&mut self) -> Result<Option<Connection>, ClientError> {
        let accept = (header::ACCEPT, EVENT_STREAM);
        let client = &self.client;
        let response = match (self.intent, &self.submission) {
            (Some(intent), _) => {
                let path = format!("/v1/intents/{intent}/events");
                let resume = [accept, (LAST_EVENT_ID, self.last_id.as_str())];
                let headers = if self.last_id.is_empty() { &resume[..1] } else { &resume[..] };
                client.in_time(client.open(Method::GET, &path, None, headers)).await?
            }
            (None, Some(Submission { body, key })) => {
                let headers = [accept, (IDEMPOTENCY_KEY, key.as_str())];
                let body = Some(body.clone());
                client.in_time(client.open(Method::POST, "/v1/intents", body, &headers)).await?
            }
            (None, None) => return Err(client.unreadable("an intent", None)),
        };
        let kind = response.headers().get(header::CONTENT_TYPE);
        if kind.is_some_and(|kind| kind.as_bytes().starts_with(EVENT_STREAM.as_bytes())) {
            let parser = SseParser::new(limits::MESSAGE_BYTES_MAX);
            return Ok(Some(Connection { body: response.into_body(), parser }));
        }
        if response.status() != StatusCode::ACCEPTED {
            return Err(client.unreadable("a stream of events", None));
        }
        // It joined an intent whose events are gone.
        let body = client.in_time(client.collect(response.into_body(), limits::BODY_BYTES_MAX));
        let accepted: Accepted = client.read(&body.await?, "an accepted intent")?;
        self.intent = Some(accepted.intent);
        Ok(None)
    }

    /// The end, from the intent itself. False if it has not ended.
    async fn read_end(&mut self) -> Result<bool, ClientError> {
        let client = &self.client;
        let intent = self.intent.ok_or_else(|| client.unreadable("an intent", None))?;
        let path = format!("/v1/intents/{intent}");
        let view: Box<RawValue> = client.get(&path, "an intent").await?;
        let known: IntentView = client.read(view.get().as_bytes(), "an intent")?;
        let name = if known.status == "refused" { "failed" } else { known.status.as_str() };
        let event = Event::from_data(name, view);
        let event = event.map_err(|error| client.unreadable("an intent", Some(error)))?;
        let Some(event) = event.filter(|event| event.kind.is_end()) else { return Ok(false) };
        self.seen.ended = true;
        // Nothing follows.
        self.seen.settled = true;
        self.ready.push_back(event);
        Ok(true)
    }

    fn take(&mut self, message: SseMessage) -> Result<(), ClientError> {
        let event = Event::parse(&message.data);
        let event = event.map_err(|error| self.client.unreadable("an event", Some(error)))?;
        if !message.id.is_empty() && message.id != self.last_id {
            self.last_id = message.id;
            self.tries = 0;
        }
        let Some(event) = event else { return Ok(()) };
        if let EventKind::Accepted(begun) = &event.kind {
            self.intent = Some(begun.intent);
        }
        if self.seen.take(&event.kind) {
            self.tries = 0;
            self.ready.push_back(event);
        }
        Ok(())
    }
}

fn backoff(tries: u32) -> Duration {
    let doubled = 1_u64.checked_shl(tries.saturating_sub(1)).unwrap_or(u64::MAX);
    let pause_ms = limits::BACKOFF_MS_MIN.saturating_mul(doubled);
    Duration::from_millis(pause_ms.min(limits::BACKOFF_MS_MAX))
}
