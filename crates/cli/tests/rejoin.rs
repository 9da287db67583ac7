//! A request with an idempotency key outlives its connection: whoever sends it again has the one
//! answer, paid once. Without a key it lives as long as somebody reads it.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;

use crate::common::events::Events;
use crate::common::http::{Guest, open};
use crate::common::socket::{Hand, Socket, says};
use crate::common::{Place, Realm, eventually};
use serde_json::{Value, json};

struct World {
    place: Place,
    realm: Option<Realm>,
    address: String,
    client: Guest,
    hand: Hand,
}

fn offers() -> Value {
    let of = |intent: &str| json!({"intent": intent, "model": "by-hand", "slots": 4});
    let mut offers = ["chat", "embed", "speak", "transcribe"].map(of).to_vec();
    offers.push(json!({"intent": "echo", "slots": 4}));
    json!(offers)
}

impl World {
    fn new() -> Self {
        let place = Place::new();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let address = free.to_string();
        let realm = Realm::start_at(&place, &address, &["--no-worker"]);
        let client = Guest::new(&realm.url);
        let hand = Hand::join(&realm, 1, &offers());
        let world = Self { place, realm: Some(realm), address, client, hand };
        world.offered();
        world
    }

    fn offered(&self) {
        eventually(|| {
            let pools = self.client.ask("GET", "/v1/pools", "").json();
            pools["items"].as_array().unwrap().len() == 5
        });
    }

    /// Ends it and starts it anew; `orderly` or not.
    fn restart(&mut self, orderly: bool) {
        let realm = self.realm.take().unwrap();
        if orderly {
            assert_eq!(realm.stop(), Some(0));
        } else {
            realm.kill();
        }
        self.realm = Some(Realm::start_at(&self.place, &self.address, &["--no-worker"]));
        self.hand.rejoin();
        self.offered();
    }

    fn begin(&self, path: &str, key: Option<&str>, kind: &str, body: &[u8]) -> TcpStream {
        let bearer = format!("Bearer {}", self.client.key);
        let mut headers = vec![("authorization", bearer.as_str()), ("content-type", kind)];
        headers.extend(key.map(|key| ("idempotency-key", key)));
        if path == "/v1/intents" {
            headers.push(("accept", "text/event-stream"));
        }
        open(&self.client.url, "POST", path, &headers, body)
    }

    /// Nothing more is asked of the worker: what was asked again joined.
    fn is_idle(&mut self) {
        let accepted = self.client.ask("POST", "/v1/intents", r#"{"intent":"echo","data":"last"}"#);
        let assign = self.hand.assigned();
        assert_eq!(assign["intent"], accepted.json()["intent"], "{assign}");
        self.hand.complete(&assign, 1);
        self.hand.socket.wait("mtor.worker.acknowledge.v1");
    }
}

/// Waits for the first bytes of an answer's body, and hangs up.
fn hang_up_after(stream: TcpStream, text: &str) {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    while !line.contains(text) {
        line.clear();
        assert!(reader.read_line(&mut line).unwrap() > 0, "ended before {text}");
    }
}

fn rest(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn delta(content: &str) -> Value {
    json!({"choices": [{"index": 0, "delta": {"content": content}}]})
}

fn chat(stream: bool) -> Vec<u8> {
    let messages = json!([{"role": "user", "content": "hi"}]);
    json!({"model": "by-hand", "messages": messages, "stream": stream}).to_string().into_bytes()
}

const JSON: &str = "application/json";
const CHAT: &str = "/v1/chat/completions";

#[test]
fn a_stream_with_a_key_runs_on_when_its_connection_breaks_and_the_retry_joins_it() {
    let mut world = World::new();
    let body = chat(true);
    let first = world.begin(CHAT, Some("k"), JSON, &body);
    let assign = world.hand.assigned();
    for seq in 0..10 {
        world.hand.chunk(&assign, seq, seq, &delta(&format!("[{seq}]")));
    }
    hang_up_after(first, "[4]");
    // The realm sees at its next words that nobody hears them.
    for seq in 10..15 {
        std::thread::sleep(std::time::Duration::from_millis(100));
        world.hand.chunk(&assign, seq, seq, &delta(&format!("[{seq}]")));
    }
    // Twice, one of them while it runs and one when it is over.
    let second = world.begin(CHAT, Some("k"), JSON, &body);
    for seq in 15..20 {
        world.hand.chunk(&assign, seq, seq, &delta(&format!("[{seq}]")));
    }
    world.hand.complete_bare(&assign, 30);
    world.hand.socket.wait("mtor.worker.acknowledge.v1");
    let third = world.begin(CHAT, Some("k"), JSON, &body);
    for again in [second, third] {
        let text = rest(again);
        for seq in 0..20 {
            assert!(text.contains(&format!("[{seq}]")), "{text}");
        }
        assert!(text.contains("data: [DONE]") && !text.contains("error"), "{text}");
    }
    assert_eq!(world.client.grant(), (1_000_000 - 15, 0), "paid once");
    world.is_idle();
}

#[test]
fn so_it_is_on_every_route() {
    let mut world = World::new();
    let speech = br#"{"model":"by-hand","input":"Hello.","response_format":"pcm"}"#;
    let form = "multipart/form-data; boundary=x";
    let mut file = Vec::from(
        &b"--x\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\n"[..],
    );
    file.extend(wav());
    file.extend(b"\r\n--x--\r\n");
    let routes: [(&str, &str, &[u8], &str); 4] = [
        (CHAT, JSON, &chat(false), "done"),
        ("/v1/embeddings", JSON, br#"{"model":"by-hand","input":"a"}"#, "0.25"),
        ("/v1/audio/speech", JSON, speech, "RIFF"),
        ("/v1/audio/transcriptions", form, &file, "done"),
    ];
    for (path, kind, body, told) in routes {
        let first = world.begin(path, Some(path), kind, body);
        let assign = world.hand.assigned();
        drop(first);
        std::thread::sleep(std::time::Duration::from_millis(200));
        let second = world.begin(path, Some(path), kind, body);
        world.hand.complete(&assign, 1);
        world.hand.socket.wait("mtor.worker.acknowledge.v1");
        for again in [second, world.begin(path, Some(path), kind, body)] {
            let text = rest(again);
            assert!(text.starts_with("HTTP/1.1 200") && text.contains(told), "{path}: {text}");
        }
    }
    world.is_idle();
}

/// A tenth of a second of silence.
fn wav() -> Vec<u8> {
    let samples = vec![0; 3_200];
    let mut file = Vec::from(&b"RIFF"[..]);
    let bytes = u32::try_from(samples.len()).unwrap();
    file.extend((bytes + 36).to_le_bytes());
    file.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    file.extend(16_000_u32.to_le_bytes());
    file.extend(32_000_u32.to_le_bytes());
    file.extend(b"\x02\0\x10\0data");
    file.extend(bytes.to_le_bytes());
    [file, samples].concat()
}

/// What one route had in pieces another one has as a whole: it is paid.
#[test]
fn a_completion_is_made_of_the_pieces_that_another_route_asked_for() {
    let mut world = World::new();
    let messages = json!([{"role": "user", "content": "hi"}]);
    let data = json!({"model": "by-hand", "messages": messages});
    let asked = json!({"intent": "chat", "data": data}).to_string();
    let first = world.begin("/v1/intents", Some("k"), JSON, asked.as_bytes());
    let assign = world.hand.assigned();
    assert_eq!(assign["stream"], true);
    world.hand.chunk(&assign, 0, 1, &delta("Hel"));
    world.hand.chunk(&assign, 1, 2, &delta("lo."));
    world.hand.complete_bare(&assign, 2);
    assert!(rest(first).contains("completed"));
    let again = rest(world.begin(CHAT, Some("k"), JSON, data.to_string().as_bytes()));
    assert!(again.starts_with("HTTP/1.1 200"), "{again}");
    let (_, body) = again.split_once("\r\n\r\n").unwrap();
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["choices"][0]["message"]["content"], "Hello.");
    assert_eq!(body["object"], "chat.completion");
    world.is_idle();
}

#[test]
fn over_a_socket_and_as_events_the_id_is_the_key() {
    let mut world = World::new();
    let data = json!({"n": 1, "chunks": 2});
    let event = json!({"specversion": "1.0", "id": "7", "source": "/app",
        "type": "mtor.intent.echo.v1", "data": data});
    let socket = || {
        let mut socket = Socket::open(&world.client.url, "/v1/events");
        socket.say("mtor.session.hello.v1", &json!({"api_key": world.client.key}));
        socket.wait("mtor.session.ready.v1");
        socket.send(tungstenite::Message::text(event.to_string()));
        socket
    };
    let mut first = socket();
    let assign = world.hand.assigned();
    world.hand.chunk(&assign, 0, 1, &json!("one"));
    first.wait("mtor.intent.chunk.v1");
    drop(first);
    let mut second = socket();
    assert_eq!(second.wait("mtor.intent.chunk.v1")["piece"], "one");
    world.hand.chunk(&assign, 1, 1, &json!("two"));
    assert_eq!(second.wait("mtor.intent.chunk.v1")["piece"], "two");
    world.hand.complete_bare(&assign, 1);
    second.wait("mtor.intent.completed.v1");
    // The same event over HTTP.
    let again = rest(world.begin(
        "/v1/intents",
        None,
        "application/cloudevents+json",
        event.to_string().as_bytes(),
    ));
    assert!(
        again.contains("one") && again.contains("two") && again.contains("completed"),
        "{again}"
    );
    // The short form has an id, too.
    let short = r#"{"intent":"echo","data":1,"id":"8"}"#;
    hang_up_after(world.begin("/v1/intents", None, JSON, short.as_bytes()), "accepted");
    let assign = world.hand.assigned();
    world.hand.complete(&assign, 1);
    let again = rest(world.begin("/v1/intents", None, JSON, short.as_bytes()));
    assert!(again.contains("completed") && again.contains("done"), "{again}");
    world.is_idle();
}

#[test]
fn without_a_key_it_lives_until_its_last_reader_leaves() {
    let mut world = World::new();
    let bearer = format!("Bearer {}", world.client.key);
    let headers = [("authorization", &*bearer), ("content-type", JSON), ("mtor-durable", "true")];
    let first = open(&world.client.url, "POST", CHAT, &headers, &chat(true));
    let assign = world.hand.assigned();
    let intent = assign["intent"].as_str().unwrap();
    world.hand.chunk(&assign, 0, 1, &delta("[0]"));
    let mut beside = Events::of(&world.client, intent, None);
    beside.next("chunk");
    hang_up_after(first, "[0]");
    // The one that asked has left, and the other still reads.
    std::thread::sleep(std::time::Duration::from_millis(500));
    world.hand.chunk(&assign, 1, 2, &delta("[1]"));
    assert_eq!(beside.next("chunk")["piece"], delta("[1]"));
    drop(beside);
    world.hand.wait_revoked(&assign);
    let path = format!("/v1/intents/{intent}");
    eventually(|| world.client.ask("GET", &path, "").json()["status"] == "cancelled");
}

#[test]
fn work_that_a_restart_begins_anew_is_joined_by_its_key() {
    let mut world = World::new();
    let ask = |world: &World| {
        let bearer = format!("Bearer {}", world.client.key);
        let headers = [
            ("authorization", &*bearer),
            ("content-type", JSON),
            ("mtor-durable", "true"),
            ("idempotency-key", "k"),
        ];
        open(&world.client.url, "POST", CHAT, &headers, &chat(false))
    };
    let first = ask(&world);
    let before = world.hand.assigned();
    // It is begun before its admission is synced, and only then promised.
    let held = || world.client.ask("GET", "/v1/account/transfers", "").body.contains("\"hold\"");
    eventually(held);
    world.restart(false);
    drop(first);
    // Before its worker has it again, and after.
    let waiting = ask(&world);
    // It waits a lease for whoever may still hold it; a worker that is silent so long is gone.
    for _ in 0..8 {
        std::thread::sleep(std::time::Duration::from_millis(500));
        world.hand.socket.say("mtor.worker.ping.v1", &json!({}));
    }
    let again = world.hand.assigned();
    assert_eq!(again["intent"], before["intent"]);
    let late = ask(&world);
    world.hand.complete_with(&again, 10, &says("after all"));
    for reader in [waiting, late] {
        let text = rest(reader);
        assert!(text.starts_with("HTTP/1.1 200") && text.contains("after all"), "{text}");
    }
    assert_eq!(world.client.grant(), (1_000_000 - 5, 0), "paid once");
    world.is_idle();
}

#[test]
fn a_key_binds_after_a_restart_too() {
    let mut world = World::new();
    // An ephemeral answer that ended, an ephemeral one that did not, a durable one, and pieces.
    let echo = r#"{"intent":"echo","data":1,"id":"echo"}"#.as_bytes();
    let first = world.begin("/v1/intents", None, JSON, echo);
    let assign = world.hand.assigned();
    world.hand.complete(&assign, 1);
    assert!(rest(first).contains("settled"));
    let first = world.begin(CHAT, Some("chat"), JSON, &chat(false));
    let assign = world.hand.assigned();
    world.hand.complete(&assign, 10);
    assert!(rest(first).contains("done"));
    let durable = |world: &World, key: &str, stream: bool| {
        let bearer = format!("Bearer {}", world.client.key);
        let headers = [
            ("authorization", &*bearer),
            ("content-type", JSON),
            ("mtor-durable", "true"),
            ("idempotency-key", key),
        ];
        open(&world.client.url, "POST", CHAT, &headers, &chat(stream))
    };
    let first = durable(&world, "kept", false);
    let assign = world.hand.assigned();
    world.hand.complete_with(&assign, 10, &says("kept for a day"));
    assert!(rest(first).contains("kept for a day"));
    let first = durable(&world, "pieces", true);
    let assign = world.hand.assigned();
    for seq in 0..2 {
        world.hand.chunk(&assign, seq, seq, &delta(&format!("[{seq}]")));
    }
    world.hand.complete_bare(&assign, 10);
    assert!(rest(first).contains("[1]"));
    let open = br#"{"intent":"echo","data":2,"id":"open"}"#;
    hang_up_after(world.begin("/v1/intents", None, JSON, open), "accepted");
    let _ = world.hand.assigned();
    eventually(|| world.client.grant().1 == 1);
    let path = "/v1/account/transfers?limit=100";
    eventually(|| world.client.ask("GET", path, "").body.matches("\"hold\"").count() == 5);
    let (free, _) = world.client.grant();

    world.restart(false);
    let again = rest(world.begin("/v1/intents", None, JSON, echo));
    for word in ["accepted", "completed", "settled"] {
        assert!(again.contains(word), "{again}");
    }
    let again = rest(world.begin("/v1/intents", None, JSON, open));
    assert!(again.contains("failed") && again.contains("MT0026"), "{again}");
    let again = rest(world.begin(CHAT, Some("chat"), JSON, &chat(false)));
    assert!(again.starts_with("HTTP/1.1 410") && again.contains("MT0034"), "{again}");
    assert!(again.contains("another key"), "{again}");
    assert!(rest(durable(&world, "kept", false)).contains("kept for a day"));
    let again = rest(durable(&world, "pieces", true));
    assert!(again.contains("[0]") && again.contains("[1]") && again.contains("[DONE]"), "{again}");
    // Another body is another request.
    let other = rest(world.begin(CHAT, Some("chat"), JSON, &chat(true)));
    assert!(other.starts_with("HTTP/1.1 409"), "{other}");
    world.is_idle();
    assert_eq!(world.client.grant(), (free, 0), "what failed gave back what the last one cost");
}
