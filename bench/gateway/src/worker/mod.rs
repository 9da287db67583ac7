//! The mock worker: enrols, opens a session, and answers every assignment at once.
//!
//! It must cost much less than the realm that is measured: one thread with blocking input and
//! output, no parsing but [`scan`], answers made by copying, and one write for all the answers to
//! what one read brought.

mod frames;
mod scan;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use ed25519_dalek::{Signer, SigningKey};
use mtor_types::WorkerId;
use mtor_types::event::{EventIn, EventOut};
use mtor_types::worker::{
    self, Enrol, Enrolled, Offer, OfferList, RealmHello, WorkerHello, enrol_proof, session_proof,
};

use self::frames::Frame;
use self::scan::Assignment;
use crate::answers::{BURST, COMPLETION, MODEL, MODEL_BURST, PIECE, PIECES};
use crate::client;

const SLOTS: u32 = 1_024;
const READ_BYTES: usize = 256 * 1024;
/// Answers are written when so many bytes of them wait, also within one read.
const WRITE_BYTES: usize = 256 * 1024;
/// How often it says that it lives; well below the realm's own measure.
const BEAT: Duration = Duration::from_millis(500);
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(10);
const PING: &str =
    r#"{"specversion":"1.0","id":"1","source":"/bench","type":"mtor.worker.ping.v1","data":{}}"#;

/// A key and the realm it is enrolled at.
pub(crate) struct Enrolment {
    key: SigningKey,
}

impl Enrolment {
    /// Uses up a token of the sysop's.
    pub(crate) async fn new(realm: SocketAddr, token: String) -> Result<Self> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| anyhow!("no randomness: {error}"))?;
        let enrolment = Self { key: SigningKey::from_bytes(&seed) };
        let worker = enrolment.worker();
        let signature = enrolment.sign(&enrol_proof(&token, worker));
        let body = Enrol { token, worker, signature, name: "bench".into() };
        let body = serde_json::to_string(&body)?;
        let request = client::post("/v1/workers/enrol", None, "", &body);
        let enrolled: Enrolled = client::call(realm, &request).await.context("enrolment")?;
        ensure!(enrolled.worker == worker, "another worker was enrolled");
        Ok(enrolment)
    }

    fn worker(&self) -> WorkerId {
        WorkerId(self.key.verifying_key().to_bytes())
    }

    fn sign(&self, bytes: &[u8]) -> String {
        self.key.sign(bytes).to_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// A session in a thread of its own. Dropping it ends the session.
pub(crate) struct Worker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<()>>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    answered: AtomicU64,
}

impl Worker {
    pub(crate) fn start(realm: SocketAddr, enrolment: &Enrolment) -> Result<Self> {
        let mut session = Session::open(realm, enrolment)?;
        let shared = Arc::new(Shared::default());
        session.shared = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("worker".into());
        let thread = thread.spawn(move || session.run())?;
        Ok(Self { shared, thread: Some(thread) })
    }

    pub(crate) fn answered(&self) -> u64 {
        self.shared.answered.load(Ordering::Relaxed)
    }

    /// Ends it; the error is why it ended before.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.shared.stop.store(true, Ordering::Relaxed);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(ended)) => ended.context("worker"),
            Some(Err(_)) => Err(anyhow!("the worker's thread panicked")),
            None => Ok(()),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

struct Session {
    stream: TcpStream,
    /// What came and is not read yet: `input[start..end]`.
    input: Vec<u8>,
    start: usize,
    end: usize,
    out: Vec<u8>,
    beat: Instant,
    shared: Arc<Shared>,
}

impl Session {
    fn open(realm: SocketAddr, enrolment: &Enrolment) -> Result<Self> {
        let stream = TcpStream::connect(realm).context("connect")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(HANDSHAKE_PATIENCE))?;
        let mut session = Self {
            stream,
            input: vec![0; READ_BYTES],
            start: 0,
            end: 0,
            out: Vec::new(),
            beat: Instant::now(),
            shared: Arc::default(),
        };
        session.upgrade()?;
        let hello = session.hello()?;
        let worker = enrolment.worker();
        let proof = session_proof(hello.realm, hello.nonce, worker);
        let signature = enrolment.sign(&proof);
        session.say(worker::HELLO, WorkerHello { worker, signature, leases: Vec::new() })?;
        session.say(worker::OFFER, OfferList { offers: offers() })?;
        session.flush()?;
        session.stream.set_read_timeout(Some(BEAT))?;
        Ok(session)
    }

    fn upgrade(&mut self) -> Result<()> {
        let request = "GET /v1/workers/session HTTP/1.1\r\nhost: bench\r\nconnection: Upgrade\r\n\
             upgrade: websocket\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: YmVuY2gtYmVuY2gtYmVuY2g=\r\n\
             sec-websocket-protocol: cloudevents.json\r\n\r\n";
        self.stream.write_all(request.as_bytes())?;
        loop {
            ensure!(self.fill()?, "no answer to the upgrade");
            let head = self.input.get(self.start..self.end).unwrap_or_default();
            if let Some(at) = memchr::memmem::find(head, b"\r\n\r\n") {
                let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
                let line = String::from_utf8_lossy(line);
                ensure!(line.contains(" 101"), "no session: {line}");
                self.start += at + 4;
                return Ok(());
            }
        }
    }

    fn hello(&mut self) -> Result<RealmHello> {
        loop {
            let bytes = self.input.get(self.start..self.end).unwrap_or_default();
            if let Some((frame, length)) = frames::first(bytes)? {
                let Frame::Text(text) = frame else { bail!("no hello but {frame:?}") };
                let event = EventIn::parse(std::str::from_utf8(text)?)?;
                ensure!(event.kind == worker::HELLO, "no hello but {}", event.kind);
                let hello = event.data()?;
                self.start += length;
                return Ok(hello);
            }
            ensure!(self.fill()?, "no hello");
        }
    }

    fn say<D: serde::Serialize>(&mut self, kind: &str, data: D) -> Result<()> {
        let text = serde_json::to_string(&EventOut::new("1", "/bench", kind, data))?;
        frames::text(&mut self.out, &[text.as_bytes()]);
        Ok(())
    }

    fn run(mut self) -> Result<()> {
        while !self.shared.stop.load(Ordering::Relaxed) {
            if self.fill()? {
                self.take_all()?;
            }
            if self.beat.elapsed() >= BEAT {
                self.beat = Instant::now();
                frames::text(&mut self.out, &[PING.as_bytes()]);
            }
            self.flush()?;
        }
        Ok(())
    }

    /// Reads once; false if nothing came in time.
    fn fill(&mut self) -> Result<bool> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.input.len() {
            self.input.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            if self.end == self.input.len() {
                self.input.resize(self.input.len() * 2, 0);
            }
        }
        let room = self.input.get_mut(self.end..).unwrap_or_default();
        match self.stream.read(room) {
            Ok(0) => bail!("the realm closed the session"),
            Ok(length) => {
                self.end += length;
                Ok(true)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Ok(false)
            }
            Err(error) => Err(error).context("read"),
        }
    }

    fn take_all(&mut self) -> Result<()> {
        let mut answered = 0;
        loop {
            let bytes = self.input.get(self.start..self.end).unwrap_or_default();
            let Some((frame, length)) = frames::first(bytes)? else { break };
            match frame {
                Frame::Text(text) => {
                    if let Some(assignment) = scan::assignment(text) {
                        answer(&mut self.out, &mut self.stream, &assignment)?;
                        answered += 1;
                    }
                }
                Frame::Ping(data) => frames::pong(&mut self.out, data),
                Frame::Pong => {}
                Frame::Close(why) => {
                    bail!("the realm closed the session: {}", String::from_utf8_lossy(why))
                }
            }
            self.start += length;
            if self.out.len() >= WRITE_BYTES {
                self.flush()?;
            }
        }
        self.shared.answered.fetch_add(answered, Ordering::Relaxed);
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        if !self.out.is_empty() {
            self.stream.write_all(&self.out).context("write")?;
            self.out.clear();
        }
        Ok(())
    }
}

fn offers() -> Vec<Offer> {
    let offer = |intent: &str, model: Option<&str>| Offer {
        intent: intent.into(),
        model: model.map(str::to_owned),
        slots: SLOTS,
        price: None,
        context: None,
        group: None,
    };
    vec![offer("chat", Some(MODEL)), offer("chat", Some(MODEL_BURST)), offer("echo", None)]
}

fn answer(
    out: &mut Vec<u8>,
    realm: &mut TcpStream,
    assignment: &Assignment<'_>,
) -> std::io::Result<()> {
    let Assignment { intent, attempt, name, model, stream, data } = *assignment;
    if name == b"echo" {
        let usage = br#","usage":{"units":1},"result":"#;
        complete(out, intent, attempt, &[usage, data]);
        return Ok(());
    }
    if !stream {
        // Two tokens cost one base unit: money moves, and a guest's grant lasts.
        let usage = br#","usage":{"units":2,"input":1,"output":1},"result":"#;
        complete(out, intent, attempt, &[usage, COMPLETION.as_bytes()]);
        return Ok(());
    }
    let burst = model.get(1..model.len() - 1) == Some(MODEL_BURST.as_bytes());
    let pieces = if burst { BURST } else { PIECES };
    for seq in 0..pieces {
        let numbers = format!(",\"seq\":{seq},\"count\":{},\"piece\":", seq + 1);
        let head: &[u8] = br#"{"specversion":"1.0","id":"1","source":"/bench","type":"mtor.worker.chunk.v1","data":{"intent":""#;
        let parts = [
            head,
            intent,
            b"\",\"attempt\":",
            attempt,
            numbers.as_bytes(),
            PIECE.as_bytes(),
            b"}}",
        ];
        frames::text(out, &parts);
        if burst {
            // As a model would: one write a piece, so that the realm has several to pass on, and a
            // socket of its that delays small writes is found.
            realm.write_all(out)?;
            out.clear();
        }
    }
    let usage = format!(r#","usage":{{"units":{},"input":1,"output":{pieces}}}"#, pieces + 1);
    complete(out, intent, attempt, &[usage.as_bytes(), b""]);
    Ok(())
}

fn complete(out: &mut Vec<u8>, intent: &[u8], attempt: &[u8], rest: &[&[u8]; 2]) {
    let head = br#"{"specversion":"1.0","id":"1","source":"/bench","type":"mtor.worker.complete.v1","data":{"intent":""#;
    frames::text(out, &[head, intent, b"\",\"attempt\":", attempt, rest[0], rest[1], b"}}"]);
}

#[cfg(test)]
mod tests;
