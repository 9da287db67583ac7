//! A WebSocket to the realm, and a worker driven by hand over one.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::time::Duration;

use ed25519_dalek::{Signer, SigningKey};
use mtor_types::worker::{enrol_proof, session_proof};
use mtor_types::{Digest, RealmId, WorkerId};
use serde_json::{Value, json};
use tungstenite::client::IntoClientRequest;
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::{Message, WebSocket};

use super::http::send;
use super::worker::Owner;

const PATIENCE: Duration = Duration::from_secs(30);

pub struct Socket {
    socket: WebSocket<TcpStream>,
    said: u64,
}

impl Socket {
    pub fn open(url: &str, path: &str) -> Self {
        let address = url.strip_prefix("http://").unwrap();
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut request = format!("ws://{address}{path}").into_client_request().unwrap();
        let protocol = "cloudevents.json".parse().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", protocol);
        let (socket, answer) = tungstenite::client(request, stream).unwrap();
        assert_eq!(answer.headers()["sec-websocket-protocol"], "cloudevents.json");
        Self { socket, said: 0 }
    }

    pub fn say(&mut self, kind: &str, data: &Value) {
        let event = self.event(kind, data);
        self.send(Message::text(event));
    }

    /// Data that is written already.
    pub fn say_raw(&mut self, kind: &str, data: &str) {
        let event = self.event(kind, &Value::from("HERE IT IS")).replace("\"HERE IT IS\"", data);
        self.send(Message::text(event));
    }

    /// As [`Socket::say`], over a link so narrow that the frame takes `parts` times `pause`.
    pub fn say_slowly(&mut self, kind: &str, data: &Value, parts: usize, pause: Duration) {
        let event = self.event(kind, data);
        let mut frame = Frame::message(event, OpCode::Data(Data::Text), true);
        frame.header_mut().mask = Some([1, 2, 3, 4]);
        let mut bytes = Vec::new();
        frame.format(&mut bytes).unwrap();
        for part in bytes.chunks(bytes.len().div_ceil(parts)) {
            std::thread::sleep(pause);
            self.socket.get_mut().write_all(part).unwrap();
        }
    }

    fn event(&mut self, kind: &str, data: &Value) -> String {
        self.said += 1;
        let event = json!({
            "specversion": "1.0",
            "id": self.said.to_string(),
            "source": "/test",
            "type": kind,
            "data": data,
        });
        event.to_string()
    }

    /// A frame as it is. That the realm has closed meanwhile is seen by the next read.
    pub fn send(&mut self, frame: Message) {
        let _ = self.socket.send(frame);
    }

    /// The next event; `None` once the realm has closed.
    pub fn next(&mut self) -> Option<Value> {
        loop {
            match self.socket.read() {
                Ok(Message::Text(text)) => return Some(serde_json::from_str(&text).unwrap()),
                Ok(Message::Close(_)) | Err(tungstenite::Error::ConnectionClosed) => return None,
                Ok(_) => {}
                Err(tungstenite::Error::Io(error)) => {
                    let silent = matches!(
                        error.kind(),
                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                    );
                    assert!(!silent, "the realm says nothing and does not close");
                    return None;
                }
                Err(_) => return None,
            }
        }
    }

    /// The data of the next event of that type; others before it are passed over.
    #[track_caller]
    pub fn wait(&mut self, kind: &str) -> Value {
        self.wait_event(kind)["data"].clone()
    }

    /// As [`Socket::wait`], the whole event.
    #[track_caller]
    pub fn wait_event(&mut self, kind: &str) -> Value {
        loop {
            let event = self.next().unwrap_or_else(|| panic!("closed without {kind}"));
            if event["type"] == kind {
                return event;
            }
        }
    }

    /// Reads until the realm closes, and why it did.
    #[track_caller]
    pub fn closed(&mut self) -> (u16, String) {
        loop {
            match self.socket.read() {
                Ok(Message::Close(Some(frame))) => {
                    return (frame.code.into(), frame.reason.to_string());
                }
                Ok(_) => {}
                Err(error) => panic!("closed without a reason: {error}"),
            }
        }
    }

    /// Reads until the realm closes.
    pub fn wait_closed(&mut self) {
        while self.next().is_some() {}
    }
}

/// A worker that says what the test says.
pub struct Hand {
    pub socket: Socket,
    url: String,
    key: SigningKey,
    offers: Value,
}

impl Hand {
    /// Enrols a worker with a key of its own and opens its session with these offers.
    pub fn join(owner: &impl Owner, secret: u8, offers: &Value) -> Self {
        let key = SigningKey::from_bytes(&[secret; 32]);
        let worker = WorkerId(key.verifying_key().to_bytes());
        let token = owner.token();
        let signature = hex(&key.sign(&enrol_proof(&token, worker)).to_bytes());
        let enrol = json!({
            "token": token, "worker": worker, "signature": signature, "name": "by hand",
        });
        let kind = [("content-type", "application/json")];
        let body = enrol.to_string();
        let enrolled = send(owner.url(), "POST", "/v1/workers/enrol", &kind, body.as_bytes());
        assert_eq!(enrolled.status, 200, "{enrolled:?}");
        let (socket, offers) = (session(owner.url(), &key, offers, &[]), offers.clone());
        Self { socket, url: owner.url().to_owned(), key, offers }
    }

    /// Opens another session in place of this one.
    pub fn rejoin(&mut self) {
        self.claim(&[]);
    }

    /// Opens another session beside this one, which it gives back.
    pub fn again(&mut self) -> Socket {
        let session = session(&self.url, &self.key, &self.offers, &[]);
        std::mem::replace(&mut self.socket, session)
    }

    /// Opens another session in place of this one, and says that it holds these leases.
    pub fn claim(&mut self, leases: &[Value]) {
        self.socket = session(&self.url, &self.key, &self.offers, leases);
    }

    pub fn assigned(&mut self) -> Value {
        self.socket.wait("mtor.worker.assign.v1")
    }

    pub fn chunk(&mut self, assign: &Value, seq: u64, count: u64, piece: &Value) {
        let (intent, attempt) = (&assign["intent"], &assign["attempt"]);
        self.socket.say(
            "mtor.worker.chunk.v1",
            &json!({"intent": intent, "attempt": attempt, "seq": seq, "count": count, "piece": piece}),
        );
    }

    /// Says that it still works on that, which a worker does several times within a lease.
    pub fn renew(&mut self, assign: &Value) {
        let lease = json!({"intent": assign["intent"], "attempt": assign["attempt"]});
        self.socket.say("mtor.worker.renew.v1", &json!({"leases": [lease]}));
    }

    /// Completes it over a narrow link, see [`Socket::say_slowly`].
    pub fn complete_slowly(&mut self, assign: &Value, parts: usize, pause: Duration) {
        let (intent, attempt) = (&assign["intent"], &assign["attempt"]);
        let usage = json!({"units": 1, "input": 1, "output": 0});
        let complete =
            json!({"intent": intent, "attempt": attempt, "usage": usage, "result": "slow"});
        self.socket.say_slowly("mtor.worker.complete.v1", &complete, parts, pause);
    }

    pub fn complete(&mut self, assign: &Value, units: u64) {
        self.complete_with(assign, units, &done(assign));
    }

    /// Completes it without a result.
    pub fn complete_bare(&mut self, assign: &Value, units: u64) {
        let (intent, attempt) = (&assign["intent"], &assign["attempt"]);
        let usage = json!({"units": units, "input": units, "output": units});
        let complete = json!({"intent": intent, "attempt": attempt, "usage": usage});
        self.socket.say("mtor.worker.complete.v1", &complete);
    }

    pub fn complete_with(&mut self, assign: &Value, units: u64, result: &Value) {
        let (intent, attempt) = (&assign["intent"], &assign["attempt"]);
        let usage = json!({"units": units, "input": units, "output": units});
        self.socket.say(
            "mtor.worker.complete.v1",
            &json!({"intent": intent, "attempt": attempt, "usage": usage, "result": result}),
        );
    }

    pub fn fail(&mut self, assign: &Value, code: &str, message: &str) {
        let (intent, attempt) = (&assign["intent"], &assign["attempt"]);
        let fail = json!({
            "intent": intent, "attempt": attempt, "code": code, "message": message, "retry": false,
        });
        self.socket.say("mtor.worker.fail.v1", &fail);
    }

    /// Does its work until the realm goes, and says all the while that it is alive: a session that
    /// is silent for three seconds is over.
    pub fn serve(mut self, mut work: impl FnMut(&mut Self, &Value)) {
        let often = Some(Duration::from_millis(500));
        self.socket.socket.get_ref().set_read_timeout(often).unwrap();
        loop {
            match self.socket.socket.read() {
                Ok(Message::Text(text)) => {
                    let event: Value = serde_json::from_str(&text).unwrap();
                    if event["type"] == "mtor.worker.assign.v1" {
                        work(&mut self, &event["data"]);
                    }
                }
                Ok(Message::Close(_)) => return,
                Ok(_) => {}
                Err(tungstenite::Error::Io(error))
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    self.socket.say("mtor.worker.ping.v1", &json!({}));
                }
                Err(_) => return,
            }
        }
    }

    /// Waits until the realm says that nothing more of that attempt counts.
    pub fn wait_revoked(&mut self, assign: &Value) {
        loop {
            let revoked = self.socket.wait("mtor.worker.revoke.v1");
            if revoked["intent"] == assign["intent"] {
                return;
            }
        }
    }
}

/// A completion that says so.
pub fn says(content: &str) -> Value {
    let message = json!({"role": "assistant", "content": content});
    let choice = json!({"index": 0, "message": message, "finish_reason": "stop"});
    json!({"object": "chat.completion", "choices": [choice]})
}

/// "done", as the answer to that.
pub fn done(assign: &Value) -> Value {
    match assign["name"].as_str().unwrap_or_default() {
        "chat" => says("done"),
        "embed" => json!({"data": [{"index": 0, "embedding": [0.5, 0.25]}]}),
        "fft" => json!({"dtype": "c64", "shape": [1], "data": "AAAAAAAAAAA="}),
        "speak" => json!({"audio": "UklGRg==", "duration_ms": 1, "segments": []}),
        "transcribe" => json!({"text": "done", "segments": []}),
        _ => "done".into(),
    }
}

fn session(url: &str, key: &SigningKey, offers: &Value, leases: &[Value]) -> Socket {
    let worker = WorkerId(key.verifying_key().to_bytes());
    let mut socket = Socket::open(url, "/v1/workers/session");
    let hello = socket.wait("mtor.worker.hello.v1");
    let realm: RealmId = hello["realm"].as_str().unwrap().parse().unwrap();
    let nonce: Digest = hello["nonce"].as_str().unwrap().parse().unwrap();
    let signature = hex(&key.sign(&session_proof(realm, nonce, worker)).to_bytes());
    let proof = json!({"worker": worker, "signature": signature, "leases": leases});
    socket.say("mtor.worker.hello.v1", &proof);
    socket.say("mtor.worker.offer.v1", &json!({"offers": offers}));
    socket
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
