//! Worker sessions: one WebSocket each, dialled by the worker.
//!
//! A session proves its key, says its offers, and then carries assignments one way and pieces the
//! other. Invariants: the realm never opens a connection to an address that a worker named; the
//! node's thread is never blocked by a worker that does not read (its session is closed instead);
//! every frame is bounded. Absent on purpose: which intent a slot gets, what is paid.

mod handshake;
mod held;
mod inbound;
mod threads;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::ws::close_code;
use futures_util::stream::SplitSink;
use futures_util::{SinkExt, StreamExt};
use mtor_core::effect::CloseReason;
use mtor_core::{Node, limits};
use mtor_types::event::EventOut;
use mtor_types::fact::NetworkKey;
use mtor_types::mutant;
use mtor_types::worker::{self, Assign};
use mtor_types::{SessionId, WorkerId, id};
use serde::Serialize;
use tokio::net::TcpStream;
use tokio::sync::{SetOnce, mpsc, watch};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use held::Held;
pub use threads::Threads;

use crate::edge::Edge;
use crate::http::{Connection, Counted};

/// One worker's connection.
pub type Socket = WebSocketStream<Counted<TcpStream>>;

/// Frames that wait for one worker's socket. A worker that lets so many pile up is not reading.
const OUTBOUND_MAX: usize = 8_192;
/// Sessions at a time.
pub const SESSIONS_MAX: usize = 20_000;
/// Between two looks whether part of a long frame came: three of them within a silence.
const LOOK_EVERY: Duration = Duration::from_millis(limits::SESSION_SILENCE_MS / 4);
/// What a worker is told whose key is used twice.
const REPLACED: &str =
    "another worker has opened a session with this key: give each worker a key of its own";
/// For a worker to hear why its session ends.
const FAREWELL: Duration = Duration::from_secs(1);

/// Every live session. A worker that opens another has two for a moment: the node says which one
/// ends.
#[derive(Debug, Default)]
pub struct Sessions {
    by_id: papaya::HashMap<SessionId, Arc<Session>>,
    counter: AtomicU64,
    /// Connections that are not closed yet.
    serving: watch::Sender<usize>,
}

/// One live session, as the rest of the edge sees it.
#[derive(Debug)]
pub struct Session {
    pub id: SessionId,
    pub worker: WorkerId,
    /// Where it came from, hashed.
    pub network: NetworkKey,
    outbound: mpsc::Sender<Utf8Bytes>,
    /// Why it ends, once it does.
    close: SetOnce<CloseFrame>,
    held: Mutex<Held>,
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

    /// The number of a connection that may become a session. It is taken before the realm's hello,
    /// so that of one worker's sessions the one it dialled last is the newest, whichever proof comes
    /// first.
    fn number(&self) -> SessionId {
        SessionId(self.counter.fetch_add(1, Ordering::AcqRel).saturating_add(1))
    }

    fn open(
        &self,
        id: SessionId,
        worker: WorkerId,
        network: NetworkKey,
        realm: Arc<str>,
    ) -> (Arc<Session>, mpsc::Receiver<Utf8Bytes>) {
        let (outbound, frames) = mpsc::channel(OUTBOUND_MAX);
        let session = Arc::new(Session {
            id,
            worker,
            network,
            outbound,
            close: SetOnce::new(),
            held: Mutex::default(),
            frames: AtomicU64::new(0),
            realm,
        });
        self.by_id.pin().insert(session.id, Arc::clone(&session));
        (session, frames)
    }

    /// Resolves when every worker has been told goodbye, or has had its time for it.
    pub async fn ended(&self) {
        let mut serving = self.serving.subscribe();
        // The sender is here.
        let ended = serving.wait_for(|serving| *serving == 0);
        let _ = tokio::time::timeout(FAREWELL * 2, ended).await;
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
        self.held().assigned(assign.intent, assign.attempt);
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
        let sent = self.outbound.try_send(Utf8Bytes::from(text));
        if sent.is_err() && !mutant!("lost-writer-not-closed") {
            self.close(close_code::AGAIN, "the worker does not read what it is sent");
        }
    }

    /// Ends the session, as the node has decided.
    pub fn end(&self, why: CloseReason) {
        let (code, why) = match why {
            CloseReason::Silent => (close_code::AGAIN, "the worker was silent for too long"),
            CloseReason::Replaced => (worker::CLOSE_REPLACED, REPLACED),
            CloseReason::Banned => (worker::CLOSE_BANNED, "the worker is banned"),
            CloseReason::Removed => (worker::CLOSE_UNKNOWN, "the worker was removed"),
        };
        self.close(code, why);
    }

    fn close(&self, code: u16, why: &str) {
        // The first reason stands.
        let _ = self.close.set(close_frame(code, why));
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves one worker's connection to its end.
pub async fn serve(
    socket: Socket,
    edge: Arc<Edge>,
    connection: Arc<Connection>,
    network: NetworkKey,
) {
    edge.sessions.serving.send_modify(|serving| *serving = serving.saturating_add(1));
    converse(socket, Arc::clone(&edge), connection, network).await;
    edge.sessions.serving.send_modify(|serving| *serving = serving.saturating_sub(1));
}

async fn converse(
    mut socket: Socket,
    edge: Arc<Edge>,
    connection: Arc<Connection>,
    network: NetworkKey,
) {
    let opened = match handshake::open(&mut socket, &edge, network).await {
        Ok(opened) => opened,
        Err(refusal) => return refuse(&mut socket, refusal.code(), &refusal.to_string()).await,
    };
    let handshake::Opened { session, frames, offers, leases } = opened;
    let mut inbound = inbound::Inbound::new(Arc::clone(&session), Arc::clone(&edge));
    if let Err(error) = inbound.open(offers, leases).await {
        edge.sessions.shut(&session);
        let code = standing(&edge, session.worker).await.unwrap_or(error.code());
        refuse(&mut socket, code, &error.to_string()).await;
        return;
    }
    let (sink, mut stream) = socket.split();
    let mut writer = tokio::spawn(write(sink, frames, Arc::clone(&session)));
    let mut looks = tokio::time::interval(LOOK_EVERY);
    let (mut heard, mut whole) = (connection.heard(), true);
    let mut manifests = edge.manifests_changed.subscribe();
    // What changed since its first offer was priced.
    inbound.priced_anew();
    loop {
        let frame = tokio::select! {
            frame = stream.next() => frame,
            _ = session.close.wait() => break,
            () = edge.closing() => {
                session.close(close_code::AWAY, "the realm stops");
                break;
            }
            Ok(()) = manifests.changed() => {
                inbound.priced_anew();
                continue;
            }
            _ = looks.tick() => {
                let before = std::mem::replace(&mut heard, connection.heard());
                let part = !std::mem::take(&mut whole) && heard != before;
                if part {
                    inbound.part();
                }
                continue;
            }
        };
        let Some(Ok(frame)) = frame else { break };
        whole = true;
        match frame {
            Message::Text(text) => {
                if let Err(error) = inbound.take(&text) {
                    tracing::warn!(worker = %session.worker, %error, "worker session closed");
                    session.close(error.code(), &error.to_string());
                    break;
                }
            }
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => inbound.heard(),
            Message::Binary(_) => session.close(close_code::UNSUPPORTED, "frames are text"),
            Message::Close(_) => break,
        }
    }
    edge.sessions.shut(&session);
    edge.worker_gone(session.worker, session.id);
    if session.close.initialized() {
        // Until both have closed, or a reset might overtake the reason.
        let farewell = async {
            let _ = (&mut writer).await;
            while let Some(Ok(_)) = stream.next().await {}
        };
        let _ = tokio::time::timeout(FAREWELL, farewell).await;
    }
    writer.abort();
}

/// The close code of a worker that may not come at all.
async fn standing(edge: &Edge, worker: WorkerId) -> Option<u16> {
    let banned = move |node: &Node| Some(node.registry().worker(worker)?.enrolled.banned);
    match edge.node().ask(banned).await {
        Ok(None) => Some(worker::CLOSE_UNKNOWN),
        Ok(Some(true)) => Some(worker::CLOSE_BANNED),
        Ok(Some(false)) | Err(_) => None,
    }
}

fn close_frame(code: u16, why: &str) -> CloseFrame {
    // A close frame has room for 123 bytes.
    let reason = Utf8Bytes::from(&why[..why.floor_char_boundary(123)]);
    CloseFrame { code: code.into(), reason }
}

/// Closes a connection that is no session, with the reason.
async fn refuse(socket: &mut Socket, code: u16, why: &str) {
    let farewell = async {
        // It may be gone already.
        let _ = socket.send(Message::Close(Some(close_frame(code, why)))).await;
        while let Some(Ok(_)) = socket.next().await {}
    };
    // Until both have closed, or a reset might overtake the reason.
    let _ = tokio::time::timeout(FAREWELL, farewell).await;
}

/// Writes what is queued, as much as there is in one flush, and at the end why it ends.
async fn write(
    mut sink: SplitSink<Socket, Message>,
    mut frames: mpsc::Receiver<Utf8Bytes>,
    session: Arc<Session>,
) {
    let mut round = Vec::new();
    loop {
        tokio::select! {
            biased;
            close = session.close.wait() => {
                let _ = sink.send(Message::Close(Some(close.clone()))).await;
                return;
            }
            _ = frames.recv_many(&mut round, 256) => {}
        }
        for text in round.drain(..) {
            if sink.feed(Message::Text(text)).await.is_err() {
                return;
            }
        }
        if sink.flush().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use mtor_types::event::EventIn;
    use mtor_types::worker::Revoke;
    use mtor_types::{Attempt, Digest, Fence, IntentId};

    use super::*;

    #[test]
    fn an_assignment_carries_the_clients_bytes_as_they_came() {
        let sessions = Sessions::default();
        let (session, mut frames) = sessions.open(
            sessions.number(),
            WorkerId([1; 32]),
            NetworkKey([0; 16]),
            "/realms/r".into(),
        );
        let data = r#"{"b": 1.50,  "a":"\u00e9 null}}"}"#;
        let assign = Assign {
            intent: IntentId([2; 16]),
            attempt: Attempt(7),
            name: "echo".into(),
            model: Some("null}}".into()),
            group: None,
            stream: true,
            limit: Some(3),
            output: None,
            meter: None,
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

    #[test]
    fn a_worker_that_does_not_read_loses_its_session_and_holds_nobody_up() {
        let sessions = Sessions::default();
        let (session, mut frames) =
            sessions.open(SessionId(1), WorkerId([1; 32]), NetworkKey([0; 16]), "/realms/r".into());
        let revoke = Revoke { intent: IntentId([2; 16]), attempt: Attempt(1) };
        for _ in 0..OUTBOUND_MAX {
            session.send(worker::REVOKE, revoke);
        }
        assert!(session.close.get().is_none(), "so much may wait");
        session.send(worker::REVOKE, revoke);
        assert_eq!(u16::from(session.close.get().unwrap().code), close_code::AGAIN);
        let waits = std::iter::from_fn(|| frames.try_recv().ok()).count();
        assert_eq!(waits, OUTBOUND_MAX);
    }
}
