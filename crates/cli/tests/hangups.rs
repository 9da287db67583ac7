//! Clients and workers that hang up without a word: what they asked for comes to its end, what was
//! refused leaves nothing, and nobody pays for what nobody hears.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::common::http::{Guest, open};
use crate::common::socket::{Hand, done};
use crate::common::{Place, Realm, eventually};
use serde_json::json;

/// Sends a request; whoever drops what comes back has hung up.
fn begin(guest: &Guest, method: &str, path: &str, body: &str) -> TcpStream {
    let bearer = format!("Bearer {}", guest.key);
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    open(&guest.url, method, path, &headers, body.as_bytes())
}

#[test]
fn what_is_refused_leaves_no_payload_when_nobody_hears_it() {
    let place = Place::new();
    let realm = Realm::serving(&place);
    let guest = Guest::new(&realm.url);
    // Durable, so it is sealed first; then its hold is refused.
    let body = r#"{"intent":"echo","data":1,"ceiling":"1000001"}"#;
    for _ in 0..50 {
        drop(begin(&guest, "POST", "/v1/intents", body));
    }
    // A last one that is heard: those before it have all been sealed or refused by then, or soon.
    assert_eq!(guest.ask("POST", "/v1/intents", body).refusal(), (402, "MT0014".to_owned()));
    let sealed = place.path().join("data/blobs");
    eventually(|| crate::common::files_below(&sealed).is_empty());
    assert_eq!(guest.grant(), (1_000_000, 0));
}

#[test]
fn a_key_works_exactly_as_long_as_it_is_not_revoked() {
    let place = Place::new();
    let realm = Realm::serving(&place);
    let guest = Guest::new(&realm.url);
    let bearer = format!("Bearer {}", realm.ready["sysop_secret"].as_str().unwrap());
    let headers = [("authorization", bearer.as_str())];
    let count = || {
        let rows =
            crate::common::http::send(&realm.url, "GET", "/v1/sysop/accounts", &headers, b"")
                .json();
        let rows = rows["items"].as_array().unwrap().clone();
        rows.iter().find(|row| row["kind"] == "guest").unwrap()["keys"].as_u64().unwrap()
    };
    for round in 0..20 {
        let added = guest.ask("POST", "/v1/account/keys", "").json();
        let path = format!("/v1/account/keys/{}", added["key"].as_str().unwrap());
        let client = begin(&guest, "DELETE", &path, "");
        // Before the realm has read it, while it is being recorded, or later.
        std::thread::sleep(Duration::from_micros(round * 150));
        drop(client);
        let key = added["api_key"].as_str().unwrap().to_owned();
        let other = Guest { url: guest.url.clone(), key };
        let works = || other.ask("GET", "/v1/account", "").status == 200;
        eventually(|| count() == 1 + u64::from(works()));
        guest.ask("DELETE", &path, "");
        assert!(!works());
    }
}

#[test]
fn an_openai_request_ends_with_its_connection() {
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    let guest = Guest::new(&realm.url);
    let offers = json!([{"intent": "chat", "model": "by-hand", "slots": 1}]);
    let mut hand = Hand::join(&realm, 1, &offers);
    eventually(|| guest.ask("GET", "/v1/pools", "").json()["items"] != json!([]));
    let body = r#"{"model":"by-hand","messages":[{"role":"user","content":"hi"}]}"#;
    let client = begin(&guest, "POST", "/v1/chat/completions", body);
    let assign = hand.assigned();
    // These wait behind it, some of them not admitted yet when they end.
    for _ in 0..50 {
        drop(begin(&guest, "POST", "/v1/chat/completions", body));
    }
    drop(client);
    hand.wait_revoked(&assign);
    eventually(|| guest.grant() == (1_000_000, 0));
    let bearer = format!("Bearer {}", realm.ready["sysop_secret"].as_str().unwrap());
    let headers = [("authorization", bearer.as_str())];
    let health =
        || crate::common::http::send(&realm.url, "GET", "/v1/sysop/health", &headers, b"").json();
    eventually(|| (&health()["open"], &health()["queued"]) == (&json!(0), &json!(0)));
}

#[test]
fn who_says_nothing_is_let_go() {
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    let address = realm.url.strip_prefix("http://").unwrap();
    let silent = TcpStream::connect(address).unwrap();
    let mut half = TcpStream::connect(address).unwrap();
    half.write_all(b"GET / HTTP/1.1\r\nho").unwrap();
    for (mut client, which) in [(silent, "silent"), (half, "half")] {
        client.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).expect(which);
    }
}

#[test]
fn a_strangers_body_is_not_waited_for() {
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    for path in ["/v1/intents", "/v1/intents/batch", "/v1/quote", "/v1/chat/completions"] {
        let address = realm.url.strip_prefix("http://").unwrap();
        let mut client = TcpStream::connect(address).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 9000000\r\n\r\n");
        client.write_all(head.as_bytes()).unwrap();
        let mut status = [0; 12];
        client.read_exact(&mut status).unwrap();
        assert_eq!(&status, b"HTTP/1.1 401", "{path}");
    }
}

#[test]
fn an_openai_request_sent_again_with_its_key_gets_the_same_answer() {
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    let guest = Guest::new(&realm.url);
    let offers = json!([{"intent": "chat", "model": "by-hand", "slots": 1}]);
    let mut hand = Hand::join(&realm, 1, &offers);
    eventually(|| guest.ask("GET", "/v1/pools", "").json()["items"] != json!([]));
    let body = br#"{"model":"by-hand","messages":[{"role":"user","content":"hi"}]}"#;
    let ask = || {
        let key = [("idempotency-key", "once"), ("content-type", "application/json")];
        guest.ask_with("POST", "/v1/chat/completions", &key, body)
    };
    let mut answer = json!(null);
    let replies = std::thread::scope(|scope| {
        let first = scope.spawn(ask);
        let assign = hand.assigned();
        let second = scope.spawn(ask);
        hand.complete(&assign, 1);
        answer = done(&assign);
        [first.join().unwrap(), second.join().unwrap(), ask()]
    });
    for reply in replies {
        assert_eq!((reply.status, reply.json()), (200, answer.clone()), "{reply:?}");
    }
}

#[test]
fn a_worker_that_comes_again_has_one_session() {
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    let owner = Guest::new(&realm.url);
    let mut hand = Hand::join(&realm, 1, &json!([{"intent": "echo", "slots": 1}]));
    let slots = || owner.ask("GET", "/v1/pools", "").json()["items"][0]["slots"] == json!(1);
    eventually(slots);
    let mut before = hand.again();
    before.wait_closed();
    eventually(slots);
    let submitted = owner.ask("POST", "/v1/intents", r#"{"intent":"echo","data":1}"#);
    assert_eq!(submitted.status, 202, "{submitted:?}");
    let assign = hand.assigned();
    hand.complete(&assign, 1);
    hand.socket.wait("mtor.worker.acknowledge.v1");
}
