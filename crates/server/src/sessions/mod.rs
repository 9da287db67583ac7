//! Worker sessions: one WebSocket each, dialled by the worker.
//!
//! A session proves its key, says its offers, and then carries assignments one way and pieces the
//! other. Invariants: the realm never opens a connection to an address that a worker named; the
//! node's thread is never blocked by a worker that does not read (its session is closed instead);
//! every frame is bounded. Absent on purpose: which intent a slot gets, what is paid.

mod handshake;
mod inbound;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, close_code};
use futures_util::stream::SplitSink;
use futures_util::{SinkExt, StreamExt};
use mtor_types::event::EventOut;
use mtor_types::worker::{self, Assign};
use mtor_types::{SessionId, WorkerId, id};
use serde::Serialize;
use tokio::sync::{Notify, mpsc};

use crate::edge::Edge;

/// Frames that wait for one worker's socket. A worker that lets so many pile up is not reading.
const OUTBOUND_MAX: usize = 8_192;
/// Sessions at a time.
pub const SESSIONS_MAX: usize = 20_000;

/// Every live session. A worker that opens another has two for a moment: the node says which one
/// ends.
#[derive(Debug, Default)]
pub struct Sessions {
    by_id: papaya::HashMap<SessionId, Arc<Session>>,
    counter: AtomicU64,
}

/// One live session, as the rest of the edge sees it.
#[derive(Debug)]
pub struct Session {
    pub id: SessionId,
    pub worker: WorkerId,
    outbound: mpsc::Sender<Utf8Bytes>,
    close: Notify,
    frames: AtomicU64,
    realm: Arc<str>,
}

impl Sessions {
    /// Session numbers of this boot stand above all earlier ones.
    pub fn start(&self, epoch: u32) {
        self.counter.store(id::first_of_boot(epoch), Ordering::Release);
    }

    pub fn get(&self, session: SessionId) -> Option<Arc<Session>> {
        self.by_id.pin().get(&session).map(Arc::clone)
    }

    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn open(&self, worker: WorkerId, realm: Arc<str>) -> (Arc<Session>, mpsc::Receiver<Utf8Bytes>) {
        let number = self.counter.fetch_add(1, Ordering::AcqRel).saturating_add(1);
        let (outbound, frames) = mpsc::channel(OUTBOUND_MAX);
        let session = Arc::new(Session {
            id: SessionId(number),
            worker,
            outbound,
            close: Notify::new(),
            frames: AtomicU64::new(0),
            realm,
        });
        self.by_id.pin().insert(session.id, Arc::clone(&session));
        (session, frames)
    }

    fn shut(&self, session: &Session) {
        self.by_id.pin().remove(&session.id);
    }
}

/// How an event ends whose `data.data` is nothing yet.
const NO_DATA: &[u8] = b"null}}";
const DATA_END: &[u8] = b"}}";

impl Session {
    /// Queues an event for the worker. One that does not read loses its session, not its work:
    /// that goes to another worker.
    pub fn send<D: Serialize>(&self, kind: &str, data: D) {
        if let Some(text) = self.render(kind, data, 0) {
            self.queue(text);
        }
    }

    /// As [`Session::send`], with the client's bytes in their place: admission has proven them to
    /// be JSON, and here they are copied without being read again.
    pub fn assign(&self, assign: Assign<()>, data: &[u8]) {
        let Some(mut text) = self.render(worker::ASSIGN, assign, data.len()) else { return };
        // `data` stands last in the event and last in `Assign`.
        if text.ends_with(NO_DATA) {
            text.truncate(text.len().saturating_sub(NO_DATA.len()));
            text.extend_from_slice(data);
            text.extend_from_slice(DATA_END);
            self.queue(text);
        }
    }

    fn render<D: Serialize>(&self, kind: &str, data: D, more: usize) -> Option<Vec<u8>> {
        const ENVELOPE_BYTES: usize = 1024;
        let number = self.frames.fetch_add(1, Ordering::Relaxed);
        let event = EventOut::new(number.to_string(), &self.realm, kind, data);
        let mut text = Vec::with_capacity(ENVELOPE_BYTES.saturating_add(more));
        serde_json::to_writer(&mut text, &event).ok().map(|()| text)
    }

    fn queue(&self, text: Vec<u8>) {
        let Ok(text) = String::from_utf8(text) else { return };
        if self.outbound.try_send(Utf8Bytes::from(text)).is_err() {
            self.close();
        }
    }

    /// Ends the session.
    pub fn close(&self) {
        self.close.notify_one();
    }
}

/// Serves one worker's connection to its end.
pub async fn serve(mut socket: WebSocket, edge: Arc<Edge>) {
    let opened = match handshake::open(&mut socket, &edge).await {
        Ok(opened) => opened,
        Err(refusal) => return refuse(&mut socket, &refusal.to_string()).await,
    };
    let handshake::Opened { session, frames, offers, leases } = opened;
    let mut inbound = inbound::Inbound::new(Arc::clone(&session), Arc::clone(&edge));
    if let Err(error) = inbound.attach(offers, leases).await {
        edge.sessions.shut(&session);
        refuse(&mut socket, &error.to_string()).await;
        return;
    }
    let (sink, mut stream) = socket.split();
    let writer = tokio::spawn(write(sink, frames));
    loop {
        let frame = tokio::select! {
            frame = stream.next() => frame,
            () = session.close.notified() => None,
            () = edge.closing() => None,
        };
        let Some(Ok(frame)) = frame else { break };
        match frame {
            Message::Text(text) => {
                if let Err(error) = inbound.take(&text).await {
                    tracing::warn!(worker = %session.worker, %error, "worker session closed");
                    break;
                }
            }
            Message::Ping(_) | Message::Pong(_) => inbound.heard(),
            Message::Binary(_) | Message::Close(_) => break,
        }
    }
    edge.sessions.shut(&session);
    edge.worker_gone(session.worker, session.id);
    drop(session);
    drop(inbound);
    // The last sender is gone or soon is; the writer ends by itself, or with the socket.
    writer.abort();
}

/// Closes a connection that is no session, with the reason.
async fn refuse(socket: &mut WebSocket, why: &str) {
    // A close frame has room for 123 bytes.
    let reason = Utf8Bytes::from(&why[..why.floor_char_boundary(123)]);
    let frame = CloseFrame { code: close_code::POLICY, reason };
    // It may be gone already.
    let _ = socket.send(Message::Close(Some(frame))).await;
}

/// Writes what is queued, as much as there is in one flush.
async fn write(mut sink: SplitSink<WebSocket, Message>, mut frames: mpsc::Receiver<Utf8Bytes>) {
    let mut round = Vec::new();
    while frames.recv_many(&mut round, 256).await > 0 {
        for text in round.drain(..) {
            if sink.feed(Message::Text(text)).await.is_err() {
                return;
            }
        }
        if sink.flush().await.is_err() {
            return;
        }
    }
    let _ = sink.close().await;
}

#[cfg(test)]
mod tests {
    use mtor_types::event::EventIn;
    use mtor_types::{Attempt, Digest, Fence, IntentId};

    use super::*;

    #[test]
    fn an_assignment_carries_the_clients_bytes_as_they_came() {
        let sessions = Sessions::default();
        let (session, mut frames) = sessions.open(WorkerId([1; 32]), "/realms/r".into());
        let data = r#"{"b": 1.50,  "a":"\u00e9 null}}"}"#;
        let assign = Assign {
            intent: IntentId([2; 16]),
            attempt: Attempt(7),
            name: "echo".into(),
            model: Some("null}}".into()),
            stream: true,
            limit: Some(3),
            output: None,
            deadline_ms: 4,
            fence: Fence::default(),
            token: Digest([5; 32]),
            data: (),
        };
        session.assign(assign, data.as_bytes());
        let text = frames.try_recv().unwrap();
        let event: EventIn<'_> = serde_json::from_str(text.as_str()).unwrap();
        let read: Assign = serde_json::from_str(event.data.unwrap().get()).unwrap();
        assert_eq!(read.data.get(), data);
        assert_eq!((read.attempt, read.model.as_deref()), (Attempt(7), Some("null}}")));
    }
}
