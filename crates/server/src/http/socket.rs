//! `GET /v1/events`: intents and their events over one WebSocket, both ways.
//!
//! A client that can send a header authenticates by it; a browser cannot, and sends
//! `mtor.session.hello.v1` with its key first. Then it sends intents as events, and
//! `mtor.intent.cancel.v1` with an intent's id; every event of its intents comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::identity;
use axum::Extension;
use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream::SplitSink;
use futures_util::{SinkExt, StreamExt};
use mtor_core::authorize::{Action, Actor, Object};
use mtor_types::event::{EventIn, EventOut};
use mtor_types::{AccountId, Code, IntentId};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::auth::{Caller, Member};
use super::intents::OVER;
use super::{BODY_BYTES_MAX, Connection};
use crate::admission::{self, Document, Route};
use crate::api_error::ApiError;
use crate::edge::render::render;
use crate::edge::{Edge, Submission};
use crate::streams::Cursor;

/// For the first event of a client that sent no header.
const HELLO_PATIENCE: Duration = Duration::from_secs(5);
/// And what may come until it is understood.
const HELLO_BYTES_MAX: u64 = 8 * 1024;
/// What a socket reads and writes in one go.
const SOCKET_BYTES: usize = 4 * 1024;
const PING_EVERY: Duration = Duration::from_secs(15);
/// For the last word to a client that is sent away.
const FAREWELL: Duration = Duration::from_secs(1);
const SILENCE_MAX: Duration = Duration::from_secs(50);
/// Events that wait for one client's socket; its intents' cursors wait with them.
const OUTBOUND_MAX: usize = 256;
/// Intents of one socket at a time.
const FOLLOWED_MAX: usize = 256;

const HELLO: &str = "mtor.session.hello.v1";
const READY: &str = "mtor.session.ready.v1";
const ERROR: &str = "mtor.session.error.v1";
const CANCEL: &str = "mtor.intent.cancel.v1";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Hello {
    api_key: String,
}

#[derive(Serialize)]
struct Ready {
    account: AccountId,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cancel {
    intent: IntentId,
}

/// What is wrong with an event of the client.
#[derive(Serialize)]
struct Refusal<'a> {
    /// The id of the client's event, if it could be read.
    event: Option<&'a str>,
    code: Code,
    message: &'a str,
    retry_after_ms: Option<u64>,
}

pub async fn open(
    State(edge): State<Arc<Edge>>,
    Extension(connection): Extension<Arc<Connection>>,
    caller: Caller,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let upgrade =
        upgrade.map_err(|_| ApiError::invalid_header("upgrade", "a WebSocket request"))?;
    // What has come in one go is read in one go, and a socket on which nothing comes takes little.
    let upgrade = upgrade.read_buffer_size(SOCKET_BYTES).write_buffer_size(SOCKET_BYTES);
    Ok(upgrade
        .protocols(["cloudevents.json"])
        .max_message_size(BODY_BYTES_MAX)
        .max_frame_size(BODY_BYTES_MAX)
        .on_upgrade(async move |socket| {
            serve(socket, edge, caller, &connection).await;
            // It takes its place until here.
            drop(connection);
        }))
}

async fn serve(mut socket: WebSocket, edge: Arc<Edge>, caller: Caller, connection: &Connection) {
    let known = identify(&mut socket, &edge, caller, connection).await;
    let admitted = known.and_then(|caller| {
        let place = edge.shares.sockets.take(caller.holder(&edge), 1)?;
        Ok((caller, caller.account()?, place))
    });
    let (caller, account, _place) = match admitted {
        Ok(admitted) => admitted,
        Err(error) => return turn_away(&mut socket, &edge, &error).await,
    };
    connection.allow_all(edge.shares.bodies.clone(), caller.holder(&edge));
    let (sink, mut stream) = socket.split();
    let (outbound, events) = mpsc::channel::<Utf8Bytes>(OUTBOUND_MAX);
    let mut writer = tokio::spawn(write(sink, events));
    let Ok(fresh) = identity::random::<16>() else { return };
    let session = IntentId(fresh).to_string();
    let said = Arc::new(AtomicU64::new(0));
    let client = Client { edge, account, caller, outbound, session, said };
    client.say(READY, Ready { account }).await;
    let mut followed = tokio::task::JoinSet::new();
    let mut bans = client.edge.said.bans();
    let mut shut_out = false;
    loop {
        // A living client answers pings; one that vanished holds neither socket nor buffers.
        let frame = tokio::select! {
            frame = tokio::time::timeout(SILENCE_MAX, stream.next()) => frame.ok().flatten(),
            () = client.edge.stopping() => None,
            _ = bans.changed() => match client.may_stay() {
                Ok(()) => continue,
                Err(error) => {
                    client.refuse("", &error).await;
                    shut_out = true;
                    None
                }
            },
        };
        let Some(Ok(frame)) = frame else { break };
        match frame {
            Message::Text(text) => {
                connection.message_taken();
                while followed.try_join_next().is_some() {}
                match client.take(&text, followed.len()).await {
                    Ok(Some((cursor, cause))) => {
                        let client = client.clone();
                        followed.spawn(async move { client.follow(cursor, &cause).await });
                    }
                    Ok(None) => {}
                    Err(error) => client.refuse(&text, &error).await,
                }
            }
            // They may come between the parts of a message: nothing is taken by them.
            Message::Ping(_) | Message::Pong(_) => {}
            Message::Binary(_) | Message::Close(_) => break,
        }
    }
    // Its intents go on: a client that comes back resumes them by their ids.
    followed.shutdown().await;
    let refused = connection.refused();
    if let Some(error) = &refused {
        client.refuse("", error).await;
    }
    drop(client);
    let nothing_to_say = refused.is_none() && !shut_out;
    if nothing_to_say || tokio::time::timeout(FAREWELL, &mut writer).await.is_err() {
        writer.abort();
    }
}

/// Who speaks: by the head of its request, or by its first event.
async fn identify(
    socket: &mut WebSocket,
    edge: &Edge,
    caller: Caller,
    connection: &Connection,
) -> Result<Caller, ApiError> {
    if caller.actor != Actor::Nobody {
        return Ok(caller);
    }
    connection.allow(HELLO_BYTES_MAX);
    let said = tokio::time::timeout(HELLO_PATIENCE, hello(socket, edge, caller)).await;
    said.ok().flatten().ok_or_else(ApiError::unauthenticated)
}

/// Sends what there is to say, and looks whether the client lives.
async fn write(mut sink: SplitSink<WebSocket, Message>, mut events: mpsc::Receiver<Utf8Bytes>) {
    let mut every = tokio::time::interval(PING_EVERY);
    loop {
        let message = tokio::select! {
            text = events.recv() => text.map(Message::Text),
            _ = every.tick() => Some(Message::Ping(Bytes::new())),
        };
        let Some(message) = message else { break };
        if sink.send(message).await.is_err() {
            return;
        }
    }
    let _ = sink.close().await;
}

/// Says why, and closes.
async fn turn_away(socket: &mut WebSocket, edge: &Edge, error: &ApiError) {
    let (code, message, retry_after_ms) = (error.code, &*error.message, error.retry_after_ms);
    let refusal = Refusal { event: None, code, message, retry_after_ms };
    let event = EventOut::new("0", &edge.source, ERROR, refusal);
    if let Ok(text) = serde_json::to_string(&event) {
        // It may be gone already.
        let _ = socket.send(Message::Text(text.into())).await;
    }
    let frame = CloseFrame { code: close_code::POLICY, reason: code.text().into() };
    let _ = socket.send(Message::Close(Some(frame))).await;
}

async fn hello(socket: &mut WebSocket, edge: &Edge, nobody: Caller) -> Option<Caller> {
    loop {
        match socket.recv().await?.ok()? {
            Message::Text(text) => {
                let event = EventIn::parse(&text).ok()?;
                let hello: Hello = event.data().ok().filter(|_| event.kind == HELLO)?;
                return nobody.with_secret(edge, &hello.api_key).ok();
            }
            Message::Ping(_) | Message::Pong(_) => {}
            Message::Binary(_) | Message::Close(_) => return None,
        }
    }
}

#[derive(Clone)]
struct Client {
    edge: Arc<Edge>,
    account: AccountId,
    caller: Caller,
    outbound: mpsc::Sender<Utf8Bytes>,
    /// Of this connection, so that the ids of its own events never repeat.
    session: String,
    said: Arc<AtomicU64>,
}

impl Client {
    /// One event of the client: an intent to follow, with the event's own id, or a cancel.
    async fn take(
        &self,
        text: &str,
        followed: usize,
    ) -> Result<Option<(Cursor, String)>, ApiError> {
        let event = EventIn::parse(text).map_err(|error| {
            ApiError::new(Code::InvalidField, format!("{error}: send one CloudEvent a frame"))
        })?;
        let caller = self.caller.again(&self.edge)?;
        if event.kind == CANCEL {
            let Cancel { intent } = event
                .data()
                .map_err(|_| ApiError::invalid_field("data", "{\"intent\":\"<id>\"}"))?;
            let (id, action) = (intent.to_string(), Action::CancelIntent);
            let seen = super::intents::visible(&self.edge, &caller, &id, action).await?;
            if seen.row.is_some_and(|row| row.end.is_some()) {
                return Err(ApiError::new(Code::Conflict, OVER));
            }
            self.edge.cancel(seen.intent);
            return Ok(None);
        }
        if followed >= FOLLOWED_MAX {
            let message = "this socket follows as many intents as it may; open another";
            return Err(ApiError::new(Code::LimitReached, message));
        }
        caller.may(Action::Submit, &Object::Account(self.account))?;
        let body = Bytes::copy_from_slice(text.as_bytes());
        let limit = u64::try_from(BODY_BYTES_MAX).unwrap_or(u64::MAX);
        let Document { name, data, options } = admission::parse(&body, limit)?;
        let member = Member { caller, account: self.account };
        let (asker, route) = (member.asker(&self.edge), Route::Streamed);
        let submission = Submission { asker, name, data, options, route };
        let submitted = self.edge.submit(submission).await?;
        let cursor = submitted.cursor.ok_or_else(ApiError::gone)?;
        Ok(Some((cursor, event.id.into_owned())))
    }

    /// Unless the sysop has shut the account out.
    fn may_stay(&self) -> Result<(), ApiError> {
        self.caller.again(&self.edge)?.account().map(drop)
    }

    /// Sends every event of one intent, with the id of the client's event that asked for it. A slow
    /// client holds its own cursors back, nothing else.
    async fn follow(&self, mut cursor: Cursor, cause: &str) {
        let intent = cursor.stream().id();
        while let Ok(Some(entry)) = cursor.next().await {
            if let Some(event) = render(&self.edge, intent, Some(cause), &entry)
                && self.outbound.send(event.json.into()).await.is_err()
            {
                return;
            }
        }
    }

    async fn refuse(&self, text: &str, error: &ApiError) {
        let event = EventIn::parse(text).ok();
        let event = event.as_ref().map(|event| event.id.as_ref());
        let (code, message, retry_after_ms) = (error.code, &*error.message, error.retry_after_ms);
        self.say(ERROR, Refusal { event, code, message, retry_after_ms }).await;
    }

    async fn say(&self, kind: &str, data: impl Serialize) {
        let number = self.said.fetch_add(1, Ordering::Relaxed);
        let id = format!("{}/{number}", self.session);
        let event = EventOut::new(id, &self.edge.source, kind, data);
        if let Ok(text) = serde_json::to_string(&event) {
            // A client that is gone needs no answer.
            let _ = self.outbound.send(text.into()).await;
        }
    }
}
