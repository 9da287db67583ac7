//! What one network takes of the realm is no more than its share, and another finds some.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::common::http::{Guest, Reply, send};
use crate::common::socket::Hand;
use crate::common::{Place, Realm, eventually};
use serde_json::json;

/// A connection from one of this machine's other networks.
fn from(address: &str, url: &str) -> TcpStream {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let to: SocketAddr = url.strip_prefix("http://").unwrap().parse().unwrap();
    let stream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(address.parse().unwrap(), 0)).unwrap();
        socket.connect(to).await.unwrap().into_std().unwrap()
    });
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

#[test]
fn who_runs_the_realm_is_answered_when_every_connection_is_taken() {
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker", "--memory", "64M"]);
    let all = usize::try_from(figure(&realm, "capacity", "connections")).unwrap();
    // The last sixteenth goes to networks that hold nothing, one each; this machine takes what is left.
    let mut taken: Vec<TcpStream> =
        (0..all).map(|n| from(&format!("127.9.{n}.1"), &realm.url)).collect();
    // The one that asks is among them.
    let held = usize::try_from(figure(&realm, "held", "connections")).unwrap() - 1;
    taken.extend((held..all).map(|_| from("127.0.0.1", &realm.url)));
    let secret = format!("Bearer {}", realm.ready["sysop_secret"].as_str().unwrap());
    let bearer = [("authorization", secret.as_str())];
    for (path, headers) in [("/healthz", &[][..]), ("/metrics", &[]), ("/v1/sysop/health", &bearer)]
    {
        let reply = send(&realm.url, "GET", path, headers, b"");
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
    }
    let other = send(&realm.url, "GET", "/v1/pools", &[], b"");
    assert_eq!(other.refusal(), (429, "MT0044".to_owned()));
    drop(taken);
    eventually(|| send(&realm.url, "GET", "/v1/pools", &[], b"").status == 200);
}

/// What the realm says of itself to that client.
fn asks(stream: &mut TcpStream) -> Option<String> {
    let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n");
    let mut said = String::new();
    stream.read_to_string(&mut said).ok().map(|_| said)
}

/// A share's figure of `/metrics`.
fn figure(realm: &Realm, name: &str, what: &str) -> u64 {
    let text = send(&realm.url, "GET", "/metrics", &[], b"").body;
    let line = format!("mtor_share_{name}{{what=\"{what}\"}} ");
    let found = text.lines().find_map(|found| found.strip_prefix(&line)).map(str::parse);
    found.unwrap_or_else(|| panic!("no {line} in {text}")).unwrap()
}

/// A guest of a network, as a proxy tells it.
struct Visitor {
    guest: Guest,
    network: &'static str,
}

impl Visitor {
    fn new(realm: &Realm, network: &'static str) -> Self {
        let headers = [("x-forwarded-for", network)];
        let opened = send(&realm.url, "POST", "/v1/accounts/guest", &headers, b"{}");
        let key = opened.json()["api_key"].as_str().unwrap().to_owned();
        Self { guest: Guest { url: realm.url.clone(), key }, network }
    }

    fn submit(&self, bytes: usize) -> Reply {
        let body = format!(r#"{{"intent":"echo","data":"{}","durable":false}}"#, "x".repeat(bytes));
        let headers = [("x-forwarded-for", self.network)];
        self.guest.ask_with("POST", "/v1/intents", &headers, body.as_bytes())
    }

    /// Says that it will send `declared` bytes, and sends `sent`.
    fn stalls(&self, declared: usize, sent: usize) -> TcpStream {
        let address = self.guest.url.strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        let head = format!(
            "POST /v1/intents HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {}\r\n\
             x-forwarded-for: {}\r\ncontent-type: application/json\r\n\
             content-length: {declared}\r\n\r\n",
            self.guest.key, self.network
        );
        stream.write_all(head.as_bytes()).unwrap();
        let _ = stream.write_all(&vec![b' '; sent]);
        stream
    }
}

/// A worker whose offer has come.
fn serving(realm: &Realm, slots: u32) -> Hand {
    let hand = Hand::join(realm, 1, &json!([{"intent": "echo", "slots": slots}]));
    let pools = || send(&realm.url, "GET", "/v1/pools", &[], b"").json();
    eventually(|| pools()["items"] != json!([]));
    hand
}

fn behind_a_proxy(place: &Place, memory: &str) -> Realm {
    let more = ["--no-worker", "--memory", memory, "--trusted-proxy", "127.0.0.1/32"];
    Realm::start(place, &more)
}

#[test]
fn a_network_has_its_share_of_the_connections_and_is_told_when_it_has_it() {
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker", "--memory", "64M"]);
    let all = figure(&realm, "capacity", "connections");
    let mut opened: Vec<TcpStream> = (0..all).map(|_| from("127.7.7.1", &realm.url)).collect();
    let mut last = opened.pop().unwrap();
    let told = asks(&mut last).expect("it is told why");
    assert!(told.starts_with("HTTP/1.1 429 ") && told.contains("MT0044"), "{told}");
    assert!(told.contains("the network that this comes from"), "{told}");
    let held = figure(&realm, "held", "connections");
    assert!(held <= all / 5 + 2, "{held} of {all} are held");
    // Another network, and this machine, find some.
    for address in ["127.8.8.1", "127.0.0.1"] {
        let told = asks(&mut from(address, &realm.url)).unwrap();
        assert!(told.starts_with("HTTP/1.1 200 "), "{address}: {told}");
    }
    drop((opened, last));
    eventually(|| figure(&realm, "held", "connections") <= 2);
}

#[test]
fn bodies_count_as_they_come_and_one_network_keeps_nobody_from_sending() {
    let place = Place::new();
    let realm = behind_a_proxy(&place, "256M");
    let _hand = serving(&realm, 64);
    let (hostile, victim) =
        (Visitor::new(&realm, "198.51.100.7"), Visitor::new(&realm, "203.0.113.9"));
    // Much is said to come, and nothing comes.
    let _silent: Vec<TcpStream> = (0..64).map(|_| hostile.stalls(17_000_000, 0)).collect();
    // Much comes, and never all of it.
    let mut sending: Vec<TcpStream> =
        (0..64).map(|_| hostile.stalls(17_000_000, 200_000)).collect();
    let all = figure(&realm, "capacity", "bodies");
    eventually(|| figure(&realm, "held", "bodies") > all / 40);
    for _ in 0..20 {
        let reply = victim.submit(100_000);
        assert_eq!(reply.status, 202, "{reply:?}");
    }
    assert!(figure(&realm, "held", "bodies") <= all / 10, "a guest has a ninth of a half");
    let mut told = String::new();
    let mut refused = sending.pop().unwrap();
    refused.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let _ = refused.read_to_string(&mut told);
    assert!(told.contains("MT0044") && told.contains("bytes of requests on their way"), "{told}");
    drop((sending, refused));
    eventually(|| figure(&realm, "held", "bodies") == 0);
}

#[test]
fn payloads_of_one_network_leave_memory_for_others_and_are_given_back() {
    let place = Place::new();
    let realm = behind_a_proxy(&place, "256M");
    let mut hand = serving(&realm, 1);
    let (hostile, victim) =
        (Visitor::new(&realm, "198.51.100.7"), Visitor::new(&realm, "203.0.113.9"));
    let mut open = 0;
    let refused = loop {
        let reply = hostile.submit(300_000);
        if reply.status != 202 {
            break reply;
        }
        open += 1;
        assert!(open < 200, "it has no end");
    };
    assert_eq!(refused.refusal(), (429, "MT0044".to_owned()), "{refused:?}");
    assert!(refused.body.contains("bytes of payloads of open intents"), "{refused:?}");
    let mine = victim.submit(100_000);
    assert_eq!(mine.status, 202, "{mine:?}");
    for _ in 0..=open {
        let assign = hand.assigned();
        hand.complete(&assign, 1);
    }
    eventually(|| figure(&realm, "held", "payloads") == 0);
}

/// A guest's WebSocket, as a proxy passes it on, and what is said on it first.
fn socket(visitor: &Visitor) -> (TcpStream, String) {
    let address = visitor.guest.url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let head = format!(
        "GET /v1/events HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {}\r\n\
         x-forwarded-for: {}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
        visitor.guest.key, visitor.network
    );
    stream.write_all(head.as_bytes()).unwrap();
    let said = said_until(&mut stream, &["mtor.session.ready.v1", "mtor.session.error.v1"]);
    (stream, said)
}

/// What is read until one of these words has come, or nothing more does.
fn said_until(stream: &mut TcpStream, words: &[&str]) -> String {
    let (mut said, mut buffer) = (String::new(), [0; 4096]);
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        said.push_str(&String::from_utf8_lossy(&buffer[..read]));
        if words.iter().any(|word| said.contains(word)) {
            break;
        }
    }
    said
}

#[test]
fn sockets_of_one_account_leave_some_to_others() {
    let place = Place::new();
    let realm = behind_a_proxy(&place, "64M");
    let (hostile, victim) =
        (Visitor::new(&realm, "198.51.100.7"), Visitor::new(&realm, "203.0.113.9"));
    let mut open = Vec::new();
    let refused = loop {
        let (stream, said) = socket(&hostile);
        if said.contains("mtor.session.error.v1") {
            break said;
        }
        assert!(said.contains("mtor.session.ready.v1"), "{said}");
        open.push(stream);
        assert!(open.len() < 64, "it has no end");
    };
    assert!(refused.contains("MT0044") && refused.contains("WebSockets"), "{refused}");
    let (stream, said) = socket(&victim);
    assert!(said.contains("mtor.session.ready.v1"), "{said}");
    drop((open, stream));
    eventually(|| figure(&realm, "held", "sockets") == 0);
}

#[test]
fn what_comes_on_a_socket_counts_as_bodies_do() {
    let place = Place::new();
    let realm = behind_a_proxy(&place, "256M");
    let _hand = serving(&realm, 64);
    let (hostile, victim) =
        (Visitor::new(&realm, "198.51.100.7"), Visitor::new(&realm, "203.0.113.9"));
    // Frames that are never finished, one of them larger than an account's part.
    let begins = |bytes: usize| {
        let (mut stream, _) = socket(&hostile);
        let frame = [&[0x81, 0xff][..], &16_000_000_u64.to_be_bytes(), &[0; 4]].concat();
        stream.write_all(&frame).unwrap();
        let _ = stream.write_all(&vec![b'x'; bytes]);
        stream
    };
    let sockets: Vec<TcpStream> = (0..10).map(|_| begins(1_000_000)).collect();
    let all = figure(&realm, "capacity", "bodies");
    eventually(|| figure(&realm, "held", "bodies") > all / 40);
    assert!(figure(&realm, "held", "bodies") <= all / 18, "a ninth of a half");
    for _ in 0..10 {
        let reply = victim.submit(100_000);
        assert_eq!(reply.status, 202, "{reply:?}");
    }
    drop(sockets);
    eventually(|| figure(&realm, "held", "bodies") == 0);
}

#[test]
fn a_socket_without_a_name_sends_little_and_is_closed() {
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    let mut stream = TcpStream::connect(realm.url.strip_prefix("http://").unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
        .write_all(
            b"GET /v1/events HTTP/1.1\r\nhost: here\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
              sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
        )
        .unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 101");
    // The beginning of a frame of a megabyte. For its end the realm would wait, and for five seconds.
    let frame = [&[0x81, 0xff][..], &1_000_000_u64.to_be_bytes(), &[0; 4], &[b'x'; 9_000]].concat();
    let began = Instant::now();
    stream.write_all(&frame).unwrap();
    // It may be closed on what it has not read.
    let _ = stream.read_to_end(&mut Vec::new());
    assert!(began.elapsed() < Duration::from_millis(4_500), "it is not waited for");
    eventually(|| figure(&realm, "held", "connections") <= 1);
}
