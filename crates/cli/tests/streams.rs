//! What a client sees of an intent: the order of events, where it may read on, how slow it may be,
//! and the same over a WebSocket.

use std::time::{Duration, Instant};

use crate::common::events::{Events, Sent};
use crate::common::http::Guest;
use crate::common::socket::{Hand, Socket};
use crate::common::{Place, Realm};
use serde_json::json;
use tungstenite::Message;

#[test]
fn events_come_in_their_order_and_a_reader_goes_on_where_it_stopped() {
    let place = Place::new();
    let realm = Realm::serving(&place);
    let guest = Guest::new(&realm.url);
    let body = r#"{"intent":"echo","data":{"chunks":5,"delayms":10,"text":"abcdefghij"}}"#;
    let all = Events::submit(&guest, body).rest();
    let names: Vec<&str> = all.iter().map(|sent| sent.name.as_str()).collect();
    let chunks = ["chunk"; 5];
    let expected =
        [&["accepted", "started"], chunks.as_slice(), &["completed", "settled"]].concat();
    let without_queued: Vec<&str> =
        names.iter().copied().filter(|name| *name != "queued").collect();
    assert_eq!(without_queued, expected);
    let ids: Vec<&str> = all.iter().map(|sent| sent.id.as_str()).collect();
    let attempt = all.iter().find(|sent| sent.name == "chunk").unwrap().data["attempt"].clone();
    let of_chunks = all.iter().filter(|sent| sent.name == "chunk").map(|sent| sent.id.clone());
    let counted: Vec<String> = (0..5).map(|seq| format!("{attempt}.{seq}")).collect();
    assert_eq!(of_chunks.collect::<Vec<_>>(), counted);

    let intent = all[0].data["intent"].as_str().unwrap();
    // What has no id is told again: a client goes on after the last piece that it has.
    for (at, id) in ids.iter().enumerate().filter(|(_, id)| !id.is_empty()) {
        let rest: Vec<Sent> = Events::of(&guest, intent, Some(id)).rest();
        assert_eq!(rest, all[at + 1..], "after {id}");
    }
    assert_eq!(Events::of(&guest, intent, None).rest(), all);
}

#[test]
fn a_reader_that_sleeps_holds_up_nobody_and_misses_nothing() {
    const PIECES: u64 = 600;
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    let client = Guest::new(&realm.url);
    let offers = json!([{"intent": "echo", "slots": 8}]);
    let mut hand = Hand::join(&realm, 1, &offers);
    let before = realm.resident_kib();
    let offered = |_: &u32| client.ask("GET", "/v1/pools", "").json()["items"] != json!([]);
    (0..10_000).find(offered).expect("the offer comes");

    // However long a slow machine takes for that much.
    let patient = r#"{"intent":"echo","data":1,"durable":false,"deadline_ms":600000}"#;
    let mut sleeper = Events::submit(&client, patient);
    let assign = hand.assigned();
    // Forty megabytes: more than the sockets hold.
    let piece = json!("x".repeat(64 * 1024));
    for seq in 0..PIECES {
        hand.chunk(&assign, seq, 1, &piece);
        // A slow machine may need longer than a lease for all of them.
        hand.renew(&assign);
        if seq % 2 == 1 {
            // The edge takes what comes and grants more, whoever reads.
            hand.socket.wait("mtor.worker.credit.v1");
        }
    }
    hand.complete(&assign, 1);
    hand.socket.wait("mtor.worker.acknowledge.v1");
    let grown = realm.resident_kib().saturating_sub(before);
    assert!(grown < 24 * 1024, "{grown} KiB more: it is on disk, but for a bounded part");

    // Another reader has its answer before the sleeper has read anything.
    let mut quick = Events::submit(&client, r#"{"intent":"echo","data":1,"durable":false}"#);
    let assign = hand.assigned();
    hand.complete(&assign, 1);
    quick.next("completed");

    for seq in 0..PIECES {
        let chunk = sleeper.next("chunk");
        assert_eq!((chunk["seq"].as_u64(), &chunk["piece"]), (Some(seq), &piece));
    }
    sleeper.next("completed");
    sleeper.next("settled");
}

#[test]
fn a_piece_may_be_larger_than_a_workers_credit() {
    let place = Place::new();
    let realm = Realm::serving(&place);
    let guest = Guest::new(&realm.url);
    let text = "x".repeat(600_000);
    let body = json!({"intent": "echo", "data": {"text": text, "chunks": 3}}).to_string();
    let mut events = Events::submit(&guest, &body);
    for _ in 0..3 {
        assert_eq!(events.next("chunk")["piece"]["text"], text.as_str());
    }
    assert_eq!(events.next("completed")["reason"], "done");
}

#[test]
fn one_socket_carries_many_intents_both_ways() {
    let place = Place::new();
    let realm = Realm::serving(&place);
    let guest = Guest::new(&realm.url);
    let mut socket = Socket::open(&realm.url, "/v1/events");
    socket.say("mtor.session.hello.v1", &json!({"api_key": guest.key}));
    socket.wait("mtor.session.ready.v1");

    // Three at once, one of which does not end by itself.
    socket.say("mtor.intent.echo.v1", &json!({"delayms": 60_000}));
    let endless = socket.wait("mtor.intent.started.v1")["intent"].clone();
    socket.say("mtor.intent.echo.v1", &json!({"n": 1, "chunks": 3, "delayms": 1}));
    socket.say("mtor.intent.echo.v1", &json!({"n": 2}));
    let mut completed = Vec::new();
    while completed.len() < 2 {
        let event = socket.wait_event("mtor.intent.completed.v1");
        completed.push((event["causationid"].clone(), event["data"]["result"]["n"].clone()));
    }
    completed.sort_by_key(|(_, n)| n.as_u64());
    let third_and_fourth = [(json!("3"), json!(1)), (json!("4"), json!(2))];
    assert_eq!(completed, third_and_fourth, "each says which of the client's events it answers");
    socket.say("mtor.intent.cancel.v1", &json!({"intent": endless}));
    assert_eq!(socket.wait("mtor.intent.cancelled.v1")["intent"], endless);
    while socket.wait("mtor.intent.settled.v1")["intent"] != endless {}

    // What is wrong is named, and the socket goes on.
    socket.say("mtor.intent.dream.v1", &json!(1));
    let refused = socket.wait("mtor.session.error.v1");
    assert_eq!((&refused["event"], &refused["code"]), (&json!("6"), &json!("MT0006")));
    socket.send(Message::text("{"));
    assert_eq!(socket.wait("mtor.session.error.v1")["code"], "MT0002");
    socket.say("mtor.intent.cancel.v1", &json!({"intent": endless}));
    assert_eq!(socket.wait("mtor.session.error.v1")["code"], "MT0011", "it is over");
    socket.say("mtor.intent.echo.v1", &json!("still here"));
    assert_eq!(socket.wait("mtor.intent.completed.v1")["result"], "still here");
    assert_eq!(guest.grant(), (999_997, 0));
}

#[test]
fn a_socket_without_a_good_key_is_closed() {
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    let guest = Guest::new(&realm.url);
    let hello = |data| {
        let mut socket = Socket::open(&realm.url, "/v1/events");
        socket.say("mtor.session.hello.v1", &data);
        assert_eq!(socket.wait("mtor.session.error.v1")["code"], "MT0008");
        assert_eq!(socket.next(), None);
    };
    hello(json!({"api_key": "mtor_wrong"}));
    hello(json!({"api_key": guest.key, "more": 1}));
    let mut early = Socket::open(&realm.url, "/v1/events");
    early.say("mtor.intent.echo.v1", &json!(1));
    assert_eq!(early.wait("mtor.session.error.v1")["code"], "MT0008", "nothing before the hello");
    assert_eq!(early.next(), None);
    // Five seconds for the first event.
    let began = Instant::now();
    Socket::open(&realm.url, "/v1/events").wait_closed();
    assert!(began.elapsed() >= Duration::from_secs(4), "{:?}", began.elapsed());
}
