//! How a session begins: the realm's nonce, the worker's proof, its first offer.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::close_code;
use futures_util::{SinkExt, StreamExt};
use mtor_core::limits;
use mtor_types::event::{EventIn, EventOut};
use mtor_types::fact::NetworkKey;
use mtor_types::worker::{self, LeaseClaim, Offer, OfferList, RealmHello, WorkerHello};
use mtor_types::{Digest, Rejection};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::{SESSIONS_MAX, Session, Socket};
use crate::edge::Edge;
use crate::identity;

/// From connection to first offer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of pieces a worker may send for one intent ahead of the edge.
pub(super) const CREDIT_BYTES: u64 = 256 * 1024;

/// Why a session was not opened. Told to the worker as the reason of the close.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("this realm holds as many worker sessions as it may")]
    Full,
    #[error("nothing valid came in time: send mtor.worker.hello.v1, then mtor.worker.offer.v1")]
    Silent,
    #[error("the proof does not fit this key, realm and nonce")]
    Proof,
    #[error(transparent)]
    Rejected(#[from] Rejection),
}

impl Refusal {
    /// Of the close frame: whether to come again helps.
    pub(super) fn code(&self) -> u16 {
        match self {
            Self::Full | Self::Silent => close_code::AGAIN,
            Self::Proof | Self::Rejected(_) => close_code::POLICY,
        }
    }
}

pub(super) struct Opened {
    pub(super) session: Arc<Session>,
    pub(super) frames: mpsc::Receiver<Utf8Bytes>,
    pub(super) offers: Vec<Offer>,
    pub(super) leases: Vec<LeaseClaim>,
}

pub(super) async fn open(
    socket: &mut Socket,
    edge: &Edge,
    network: NetworkKey,
) -> Result<Opened, Refusal> {
    if edge.sessions.len() >= SESSIONS_MAX {
        return Err(Refusal::Full);
    }
    tokio::time::timeout(PATIENCE, exchange(socket, edge, network))
        .await
        .unwrap_or(Err(Refusal::Silent))
}

async fn exchange(
    socket: &mut Socket,
    edge: &Edge,
    network: NetworkKey,
) -> Result<Opened, Refusal> {
    let id = edge.sessions.number();
    let nonce = Digest(identity::random().map_err(|_| Refusal::Silent)?);
    let hello = RealmHello {
        realm: edge.identity.realm(),
        nonce,
        lease_ms: limits::LEASE_MS,
        heartbeat_ms: limits::HEARTBEAT_MS,
        credit: CREDIT_BYTES,
        knows: vec![worker::OFFER_GROUP.to_owned()],
    };
    let event = EventOut::new("hello", &edge.source, worker::HELLO, hello);
    let text = serde_json::to_string(&event).map_err(|_| Refusal::Silent)?;
    socket.send(Message::Text(text.into())).await.map_err(|_| Refusal::Silent)?;
    let text = next_text(socket).await?;
    let hello: WorkerHello = parse(&text, worker::HELLO)?;
    identity::verify_session(edge.identity.realm(), nonce, &hello).map_err(|_| Refusal::Proof)?;
    let leases = hello.leases.iter().take(limits::LEASES_PER_MESSAGE_MAX);
    let leases = leases.filter(|lease| edge.identity.holds(hello.worker, lease));
    let claim =
        |lease: &worker::HeldLease| LeaseClaim { intent: lease.intent, attempt: lease.attempt };
    let leases: Vec<LeaseClaim> = leases.map(claim).collect();
    let text = next_text(socket).await?;
    let offers = parse::<OfferList>(&text, worker::OFFER)?.offers;
    let (session, frames) = edge.sessions.open(id, hello.worker, network, Arc::clone(&edge.source));
    Ok(Opened { session, frames, offers, leases })
}

async fn next_text(socket: &mut Socket) -> Result<Utf8Bytes, Refusal> {
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => return Ok(text),
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
            Some(Ok(Message::Binary(_) | Message::Close(_)) | Err(_)) | None => {
                return Err(Refusal::Silent);
            }
        }
    }
}

fn parse<'a, D: serde::Deserialize<'a>>(text: &'a str, kind: &str) -> Result<D, Refusal> {
    let event = EventIn::parse(text).map_err(|_| Refusal::Silent)?;
    if event.kind != kind {
        return Err(Refusal::Silent);
    }
    event.data().map_err(|_| Refusal::Silent)
}
