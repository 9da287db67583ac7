//! From nothing to a session: enrolment where it is needed, the socket, and the realm's hello.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderValue, Method, Request, header};
use http_body_util::Full;
use mtor_types::RealmId;
use mtor_types::event::EventIn;
use mtor_types::worker::{self, Enrol, Enrolled, RealmHello};
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{Connector, client_async_tls_with_config};

use crate::error::WorkerError;
use crate::http_client::{HttpClient, base_address, read_body};
use crate::identity::Identity;
use crate::limits;
use crate::session::{Refused, Socket};
use crate::wire::{Life, Wire};

const SUBPROTOCOL: &str = "cloudevents.json";

/// Exponential back-off with jitter: half of each pause is chance, so that a restarted realm does
/// not meet all its workers at once.
pub(crate) struct Backoff {
    next_ms: u64,
    most_ms: u64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::up_to(limits::BACKOFF_MS_MAX)
    }
}

impl Backoff {
    pub(crate) fn up_to(most_ms: u64) -> Self {
        Self { next_ms: limits::BACKOFF_MS_MIN, most_ms }
    }

    pub(crate) fn next(&mut self) -> Duration {
        let half = self.next_ms / 2;
        // Without randomness the pause is the longest.
        let chance = getrandom::u64().map_or(half, |random| random % (half + 1));
        self.next_ms = (self.next_ms * 2).min(self.most_ms);
        Duration::from_millis(half + chance)
    }
}

/// Why there is no session.
pub(crate) struct DialError {
    pub(crate) reason: String,
    /// The realm does not know this worker, or does not want it.
    pub(crate) refused: bool,
}

impl DialError {
    fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), refused: false }
    }
}

/// What a dial gave.
pub(crate) struct Dialled {
    pub(crate) socket: Box<Socket>,
    pub(crate) life: Life,
    pub(crate) hello: RealmHello,
    /// This dial enrolled the worker.
    pub(crate) enrolled: Option<RealmId>,
}

pub(crate) struct Dialer {
    identity: Arc<Identity>,
    client: HttpClient,
    tls: Arc<rustls::ClientConfig>,
    /// `http://host:port` without a path.
    address: String,
    host: String,
    port: u16,
    secure: bool,
    name: String,
    memory: Mutex<Memory>,
}

/// What is known of the enrolment.
struct Memory {
    realm: Option<RealmId>,
    /// Not used yet.
    token: Option<String>,
    /// The realm refused the token. The worker may be enrolled all the same (the answer, or the
    /// memory of it, was lost), so a session is tried before this counts.
    refused: Option<WorkerError>,
}

impl Dialer {
    pub(crate) fn new(
        identity: Arc<Identity>,
        realm: &str,
        name: String,
        token: Option<String>,
    ) -> Result<Self, WorkerError> {
        let wrong = || WorkerError::Realm { url: realm.to_owned() };
        let (uri, address) = base_address(realm).ok_or_else(wrong)?;
        if !uri.path().trim_matches('/').is_empty() {
            return Err(wrong());
        }
        if name.is_empty() || name.len() > 64 {
            return Err(WorkerError::Name);
        }
        let secure = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let host = uri.host().ok_or_else(wrong)?.trim_matches(['[', ']']).to_owned();
        let memory = Memory { realm: identity.enrolled_at(&address), token, refused: None };
        Ok(Self {
            identity,
            client: HttpClient::new()?,
            tls: tls()?,
            address,
            host,
            port,
            secure,
            name,
            memory: Mutex::new(memory),
        })
    }

    fn with_memory<T>(&self, with: impl FnOnce(&mut Memory) -> T) -> T {
        with(&mut self.memory.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The realm refused a session: an unused token may help; a refused one cannot. A ban may be
    /// lifted, and a token is no way around it.
    pub(crate) fn session_refused(&self, refused: Refused) -> Option<WorkerError> {
        match refused {
            Refused::Not | Refused::Banned => return None,
            // To dial again would push the other one out, and so on for ever.
            Refused::Replaced => return Some(WorkerError::Replaced),
            Refused::Unwanted | Refused::Unknown => {}
        }
        self.with_memory(|memory| {
            if memory.token.is_some() {
                memory.realm = None;
            }
            let stranger = memory.realm.is_none() || refused == Refused::Unknown;
            let stranger = stranger && memory.token.is_none();
            memory.refused.take().or(stranger.then_some(WorkerError::NoToken))
        })
    }

    /// The realm took the session: it knows this worker, whatever it said of a token before. A
    /// refusal that comes later is of its own day.
    pub(crate) fn session_taken(&self, realm: RealmId) {
        let is_new = self.with_memory(|memory| {
            memory.refused = None;
            memory.realm.replace(realm) != Some(realm)
        });
        if is_new {
            self.identity.remember(&self.address, realm);
        }
    }

    /// Opens a session as far as the realm's hello.
    pub(crate) async fn dial(&self) -> Result<Dialled, DialError> {
        let mut enrolled = None;
        if self.with_memory(|memory| memory.realm.is_none()) {
            enrolled = self.enrol().await?;
        }
        let limit = Duration::from_millis(limits::CONNECT_MS);
        let open = timeout(limit, self.open());
        let (mut socket, life) =
            open.await.map_err(|_| DialError::new("the realm does not answer"))??;
        let hello = timeout(limit, hello(&mut socket));
        let hello = hello.await.map_err(|_| DialError::new("the realm said no hello"))??;
        let known = self.with_memory(|memory| memory.realm);
        if let Some(known) = known.filter(|known| *known != hello.realm) {
            enrolled = Some(self.enrol_anew(known, hello.realm).await?);
        }
        Ok(Dialled { socket: Box::new(socket), life, hello, enrolled })
    }

    /// Another realm answers where this worker is enrolled. It is told nothing, neither who this
    /// worker is nor what it holds of the other one, unless a token says that it is meant.
    async fn enrol_anew(&self, known: RealmId, found: RealmId) -> Result<RealmId, DialError> {
        if self.enrol().await? == Some(found) {
            return Ok(found);
        }
        let other = WorkerError::OtherRealm { address: self.address.clone(), known, found };
        let reason = other.to_string();
        self.with_memory(|memory| {
            memory.refused.get_or_insert(other);
        });
        Err(DialError { reason, refused: true })
    }

    /// Uses the token, if there is one.
    async fn enrol(&self) -> Result<Option<RealmId>, DialError> {
        let Some(token) = self.with_memory(|memory| memory.token.clone()) else { return Ok(None) };
        let worker = self.identity.worker();
        let signature = self.identity.sign(&worker::enrol_proof(&token, worker));
        let enrol = Enrol { token, worker, signature, name: self.name.clone() };
        let body = serde_json::to_vec(&enrol).map_err(|_| DialError::new("no enrolment"))?;
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("{}/v1/workers/enrol", self.address))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|_| DialError::new("the realm's address is wrong"))?;
        let answer = timeout(Duration::from_millis(limits::CONNECT_MS), self.client.send(request));
        let answer = answer.await.map_err(|_| DialError::new("the enrolment was not answered"))?;
        let answer = answer.map_err(|_| DialError::new("the realm cannot be reached"))?;
        let status = answer.status();
        let body = read_body(answer.into_body(), limits::ENROL_BYTES_MAX).await;
        let body = body.map_err(|_| DialError::new("the enrolment's answer broke off"))?;
        if status.is_server_error() || status == 429 {
            return Err(DialError::new(format!(
                "the realm cannot enrol now ({})",
                status.as_u16()
            )));
        }
        if !status.is_success() {
            let refused =
                WorkerError::Enrol { status: status.as_u16(), message: refusal_message(&body) };
            self.with_memory(|memory| {
                memory.token = None;
                memory.refused = Some(refused);
            });
            return Ok(None);
        }
        let enrolled: Enrolled = serde_json::from_slice(&body)
            .map_err(|_| DialError::new("the enrolment's answer is not understood"))?;
        self.with_memory(|memory| {
            memory.token = None;
            memory.realm = Some(enrolled.realm);
        });
        self.identity.remember(&self.address, enrolled.realm);
        Ok(Some(enrolled.realm))
    }

    async fn open(&self) -> Result<(Socket, Life), DialError> {
        let failed =
            |error: &dyn std::fmt::Display| DialError::new(format!("no connection: {error}"));
        let tcp = TcpStream::connect((self.host.as_str(), self.port));
        let tcp = tcp.await.map_err(|error| {
            let address = &self.address;
            let advice = "start the realm there, or check the address";
            DialError::new(format!("no connection to {address}: {error}: {advice}"))
        })?;
        tcp.set_nodelay(true).map_err(|error| failed(&error))?;
        let address = self.address.replacen("http", "ws", 1);
        let mut request = format!("{address}/v1/workers/session")
            .into_client_request()
            .map_err(|error| failed(&error))?;
        let protocol = HeaderValue::from_static(SUBPROTOCOL);
        request.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
        let config = WebSocketConfig::default()
            .max_message_size(Some(limits::FRAME_BYTES_MAX))
            .max_frame_size(Some(limits::FRAME_BYTES_MAX));
        let connector =
            if self.secure { Connector::Rustls(Arc::clone(&self.tls)) } else { Connector::Plain };
        let wire = Wire::new(tcp);
        let life = wire.life();
        let opened = client_async_tls_with_config(request, wire, Some(config), Some(connector));
        match Box::pin(opened).await {
            Ok((socket, _)) => Ok((socket, life)),
            Err(Error::Http(answer)) => Err(DialError {
                reason: format!("the realm refused the session ({})", answer.status().as_u16()),
                refused: matches!(answer.status().as_u16(), 401 | 403),
            }),
            Err(error) => Err(failed(&error)),
        }
    }
}

/// The first frame must be the realm's hello.
async fn hello(socket: &mut Socket) -> Result<RealmHello, DialError> {
    loop {
        let message = match socket.next().await {
            Some(Ok(message)) => message,
            Some(Err(error)) => return Err(DialError::new(format!("connection lost: {error}"))),
            None => return Err(DialError::new("connection lost")),
        };
        if let Message::Text(text) = message {
            let event = EventIn::parse(&text).ok().filter(|event| event.kind == worker::HELLO);
            let hello = event.and_then(|event| event.data().ok());
            return hello.ok_or_else(|| DialError::new("the realm's first event is no hello"));
        }
    }
}

fn tls() -> Result<Arc<rustls::ClientConfig>, WorkerError> {
    let roots: rustls::RootCertStore = webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(WorkerError::Tls)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

fn refusal_message(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Refusal {
        error: Inner,
    }
    #[derive(Deserialize)]
    struct Inner {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    match serde_json::from_slice::<Refusal>(body) {
        Ok(Refusal { error }) => format!("{} {}", error.code, error.message),
        Err(_) => "no reason given".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn back_off_grows_to_its_bound() {
        let mut backoff = Backoff::default();
        let mut full = limits::BACKOFF_MS_MIN;
        for _ in 0..12 {
            let pause = backoff.next().as_millis();
            assert!(
                pause >= u128::from(full / 2) && pause <= u128::from(full),
                "{pause} of {full}"
            );
            full = (full * 2).min(limits::BACKOFF_MS_MAX);
        }
        assert_eq!(full, limits::BACKOFF_MS_MAX);
    }

    #[test]
    fn an_address_is_a_host_and_nothing_else() {
        let path = std::env::temp_dir().join(format!("mtor-dialer-{}", std::process::id()));
        let identity = Arc::new(Identity::open(&path).unwrap());
        let check = |url: &str| Dialer::new(Arc::clone(&identity), url, "w".into(), None);
        for url in ["http://127.0.0.1:9000", "http://[::1]:9000/", "https://realm.example"] {
            assert!(check(url).is_ok(), "{url}");
        }
        for url in ["", "127.0.0.1:9000", "ws://h", "http://h/v1", "http://u:p@h", "http://h?x=1"] {
            assert!(matches!(check(url), Err(WorkerError::Realm { .. })), "{url}");
        }
        std::fs::remove_file(path).unwrap();
    }
}
