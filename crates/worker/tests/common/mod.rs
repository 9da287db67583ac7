//! A realm small enough to be read at once: it enrols, says hello, checks the proof, and then says
//! what the test says.
#![allow(dead_code, reason = "each test file uses a part")]

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ed25519_dalek::{Signature, VerifyingKey};
use futures_util::{SinkExt, StreamExt};
use mtor_types::event::EventOut;
use mtor_types::worker::{self, Enrol, HeldLease, OfferList, RealmHello, WorkerHello};
use mtor_types::{AccountId, Digest, RealmId, WorkerId};
use mtor_worker::{ExecutorOptions, Status, WorkerError, WorkerOptions};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;

/// Nothing in these tests takes near as long; a wait this long is a failure.
const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const REALM: RealmId = RealmId([9; 32]);
const NONCE: Digest = Digest([7; 32]);

pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("it takes too long")
}

pub(crate) fn unhex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

pub(crate) fn verify(worker: WorkerId, bytes: &[u8], signature: &str) {
    let key = VerifyingKey::from_bytes(&worker.0).unwrap();
    let signature = Signature::from_slice(&unhex(signature)).unwrap();
    key.verify_strict(bytes, &signature).expect("the proof does not verify");
}

pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder =
            std::env::temp_dir().join(format!("mtor-worker-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(crate) struct Realm {
    listener: TcpListener,
    pub(crate) url: String,
    pub(crate) id: RealmId,
    pub(crate) credit: u64,
    pub(crate) heartbeat_ms: u64,
}

pub(crate) struct Session {
    socket: WebSocketStream<TcpStream>,
    pub(crate) hello: WorkerHello,
    pub(crate) offers: OfferList,
    last_id: u64,
}

impl Realm {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        Self { listener, url, id: REALM, credit: 1 << 20, heartbeat_ms: 50 }
    }

    /// Takes one enrolment and answers it.
    pub(crate) async fn enrol(&self, status: u16) -> Enrol {
        let (mut stream, _) = soon(self.listener.accept()).await.unwrap();
        let mut text = Vec::new();
        let body = loop {
            let mut part = [0; 4096];
            let got = soon(stream.read(&mut part)).await.unwrap();
            assert!(got > 0, "the enrolment broke off");
            text.extend_from_slice(&part[..got]);
            let request = String::from_utf8_lossy(&text).into_owned();
            if let Some((head, body)) = request.split_once("\r\n\r\n")
                && serde_json::from_str::<Enrol>(body).is_ok()
            {
                assert!(head.starts_with("POST /v1/workers/enrol HTTP/1.1\r\n"), "{head}");
                break body.to_owned();
            }
        };
        let enrol: Enrol = serde_json::from_str(&body).unwrap();
        let answer = if status < 300 {
            json!({"worker": enrol.worker, "owner": AccountId([3; 32]), "realm": self.id})
        } else {
            json!({"error": {"code": "MT0021", "message": "the token is used"}})
        };
        let answer = answer.to_string();
        let head = format!(
            "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            answer.len()
        );
        stream.write_all(format!("{head}{answer}").as_bytes()).await.unwrap();
        enrol
    }

    /// A socket whose handshake is done; no hello yet.
    pub(crate) async fn socket(&self) -> WebSocketStream<TcpStream> {
        let (stream, _) = soon(self.listener.accept()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        #[expect(clippy::result_large_err, reason = "tungstenite's own signature")]
        let check = |request: &Request, mut response: Response| {
            assert_eq!(request.uri().path(), "/v1/workers/session");
            let protocol = request.headers().get("sec-websocket-protocol").unwrap().clone();
            assert_eq!(protocol, "cloudevents.json");
            response.headers_mut().insert("sec-websocket-protocol", protocol);
            Ok(response)
        };
        soon(tokio_tungstenite::accept_hdr_async(stream, check)).await.unwrap()
    }

    /// A session in which the realm has said its hello.
    pub(crate) async fn greet(&self) -> Session {
        let socket = self.socket().await;
        let hello =
            WorkerHello { worker: WorkerId([0; 32]), signature: String::new(), leases: vec![] };
        let mut session =
            Session { socket, hello, offers: OfferList { offers: vec![] }, last_id: 0 };
        let (lease_ms, heartbeat_ms, credit) = (3000, self.heartbeat_ms, self.credit);
        // As an earlier realm, to which nothing is said of groups.
        let knows = Vec::new();
        let hello =
            RealmHello { realm: self.id, nonce: NONCE, lease_ms, heartbeat_ms, credit, knows };
        session.say(worker::HELLO, json!(hello)).await;
        session
    }

    /// A whole session: hello, proof, offers.
    pub(crate) async fn accept(&self) -> Session {
        let mut session = self.greet().await;
        let hello = session.hear(worker::HELLO).await;
        session.hello = serde_json::from_value(hello).unwrap();
        let worker = session.hello.worker;
        verify(worker, &worker::session_proof(self.id, NONCE, worker), &session.hello.signature);
        let offers = session.hear(worker::OFFER).await;
        session.offers = serde_json::from_value(offers).unwrap();
        session
    }
}

pub(crate) fn intent(number: u8) -> String {
    mtor_types::IntentId([number; 16]).to_string()
}

/// An assignment of attempt 1.
pub(crate) fn assignment(number: u8, name: &str, data: Value) -> Value {
    json!({
        "intent": intent(number), "attempt": 1, "name": name, "stream": true,
        "deadline_ms": 60_000, "fence": 10 + u64::from(number),
        "token": Digest([number; 32]), "data": data,
    })
}

pub(crate) fn claim(number: u8) -> Value {
    json!({"intent": intent(number), "attempt": 1})
}

impl Session {
    pub(crate) async fn say(&mut self, kind: &str, data: Value) {
        let event = EventOut::new("r", "/realm", kind, data);
        self.send(Message::text(serde_json::to_string(&event).unwrap())).await;
    }

    pub(crate) async fn send(&mut self, message: Message) {
        soon(self.socket.send(message)).await.unwrap();
    }

    pub(crate) async fn assign(&mut self, number: u8, name: &str, data: Value) {
        self.say(worker::ASSIGN, assignment(number, name, data)).await;
    }

    /// The next event as it came; `None` when the worker has closed.
    pub(crate) async fn text(&mut self) -> Option<String> {
        loop {
            match soon(self.socket.next()).await {
                Some(Ok(Message::Text(text))) => return Some(text.as_str().to_owned()),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(_)) => {}
            }
        }
    }

    /// The next event, as its type and data.
    pub(crate) async fn any(&mut self) -> Option<(String, Value)> {
        let event: Value = serde_json::from_str(&self.text().await?).unwrap();
        assert_eq!(event["specversion"], "1.0");
        let id: u64 = event["id"].as_str().unwrap().parse().unwrap();
        assert!(id > self.last_id, "ids grow");
        self.last_id = id;
        let kind = event["type"].as_str().unwrap().to_owned();
        Some((kind, event["data"].clone()))
    }

    /// The next event that is no heartbeat, which must be of this type.
    pub(crate) async fn hear(&mut self, kind: &str) -> Value {
        loop {
            let (got, data) = self.any().await.expect("the session ended");
            if got == kind {
                return data;
            }
            assert!(got == worker::PING || got == worker::RENEW, "{got} instead of {kind}: {data}");
        }
    }

    /// Reads on until the first event of this type; gives it and all before it.
    pub(crate) async fn until(&mut self, kind: &str) -> (Vec<(String, Value)>, Value) {
        let mut before = Vec::new();
        loop {
            let (got, data) = self.any().await.expect("the session ended");
            if got == kind {
                return (before, data);
            }
            before.push((got, data));
        }
    }

    pub(crate) async fn acknowledge(&mut self, number: u8) {
        self.say(worker::ACKNOWLEDGE, claim(number)).await;
    }

    /// Ends the session with that code: 1008 if the realm does not want this worker.
    pub(crate) async fn refuse(mut self, code: u16) {
        let frame = CloseFrame { code: code.into(), reason: "no".into() };
        self.socket.close(Some(frame)).await.unwrap();
        while self.any().await.is_some() {}
    }

    /// Waits until the worker offers this; gives the slots.
    pub(crate) async fn offered(&mut self, intent: &str) -> u64 {
        let slots = |offers: &Value| {
            let mut offers = offers["offers"].as_array().unwrap().iter();
            offers.find(|offer| offer["intent"] == intent).map(|o| o["slots"].as_u64().unwrap())
        };
        let mut offers = json!(self.offers);
        loop {
            if let Some(slots) = slots(&offers) {
                return slots;
            }
            offers = self.hear(worker::OFFER).await;
        }
    }

    pub(crate) fn held(&self) -> &[HeldLease] {
        &self.hello.leases
    }
}

/// Where programs are found, as all that they find.
#[expect(clippy::disallowed_methods, reason = "a test hands its own search path on")]
pub(crate) fn path() -> Option<(OsString, OsString)> {
    Some(("PATH".into(), std::env::var_os("PATH")?))
}

/// A worker in a task of this test.
pub(crate) struct Worker {
    pub(crate) stop: Option<oneshot::Sender<()>>,
    pub(crate) end: JoinHandle<Result<(), WorkerError>>,
    pub(crate) status: mpsc::Receiver<Status>,
    pub(crate) folder: Folder,
}

impl Worker {
    pub(crate) fn start(realm: &Realm, executors: Vec<ExecutorOptions>) -> Self {
        Self::start_with(realm, Folder::new(), |options| options.executors = executors)
    }

    pub(crate) fn start_with(
        realm: &Realm,
        folder: Folder,
        set: impl FnOnce(&mut WorkerOptions),
    ) -> Self {
        let (tell, status) = mpsc::channel(4096);
        let mut options = WorkerOptions::new(&realm.url, folder.0.join("worker.key"));
        options.executors = vec![ExecutorOptions::Echo { slots: 8 }];
        options.surroundings = path().into_iter().collect();
        options.status = Some(Box::new(move |status| {
            let _ = tell.try_send(status);
        }));
        set(&mut options);
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async {
            // A sender that is dropped without a word stops nothing.
            if stopped.await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let end = tokio::spawn(mtor_worker::run(options, stopped));
        Self { stop: Some(stop), end, status, folder }
    }

    pub(crate) fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    /// Jobs begun so far.
    pub(crate) fn started(&mut self) -> usize {
        let mut started = 0;
        while let Ok(status) = self.status.try_recv() {
            started += usize::from(matches!(status, Status::Started { .. }));
        }
        started
    }

    pub(crate) async fn until(&mut self, wanted: impl Fn(&Status) -> bool) -> Status {
        loop {
            let status = soon(self.status.recv()).await.expect("the worker ended");
            if wanted(&status) {
                return status;
            }
        }
    }
}
