//! Workers that do not keep to the protocol, or to the truth: nobody pays for it, nobody else is
//! harmed.

use std::time::Duration;

use crate::common::events::Events;
use crate::common::http::Guest;
use crate::common::socket::{Hand, done};
use crate::common::{Place, Realm, eventually};
use serde_json::{Value, json};
use tungstenite::Message;

/// A realm without a worker of its own, a client, and the owner of strangers.
fn world(place: &Place) -> (Realm, Guest, Guest) {
    let realm = Realm::start(place, &["--no-worker"]);
    let (client, owner) = (Guest::new(&realm.url), Guest::new(&realm.url));
    (realm, client, owner)
}

fn echo() -> Value {
    json!([{"intent": "echo", "slots": 2}])
}

fn chat() -> Value {
    json!([{"intent": "chat", "model": "by-hand", "slots": 1}])
}

fn units(amount: &Value) -> u64 {
    amount["amount"].as_str().unwrap().parse().unwrap()
}

/// The realm still serves: an honest worker takes work and is paid for it.
fn still_serves(client: &Guest, owner: &Guest) {
    let mut honest = Hand::join(owner, 99, &json!([{"intent": "fft", "slots": 1}]));
    let mut fft = None;
    // Its offer may be a moment behind its hello.
    let body = r#"{"intent":"fft","trust":"any","data":{"dtype":"f32","shape":[1],"direction":"forward","output":"complex","data":"AAAAAA=="}}"#;
    for _ in 0..10_000 {
        let reply = client.ask("POST", "/v1/intents", body);
        if reply.status == 202 {
            fft = Some(reply.json()["intent"].as_str().unwrap().to_owned());
            break;
        }
        assert_eq!(reply.refusal(), (503, "MT0017".to_owned()), "{reply:?}");
    }
    let mut events = Events::of(client, &fft.expect("it is taken at last"), None);
    let assign = honest.assigned();
    honest.complete(&assign, 1);
    assert_eq!(events.next("completed")["result"], done(&assign));
}

#[test]
fn an_answer_given_twice_is_paid_once_and_a_late_one_not_at_all() {
    let place = Place::new();
    let (_realm, client, owner) = world(&place);
    let mut hand = Hand::join(&owner, 1, &echo());
    let mut events = submit(&client, r#"{"intent":"echo","trust":"any","data":1}"#);
    let assign = hand.assigned();
    hand.complete(&assign, 1);
    hand.complete(&assign, 1);
    assert_eq!(units(&events.next("completed")["cost"]), 1);
    hand.socket.wait("mtor.worker.acknowledge.v1");
    assert_eq!(client.grant(), (999_999, 0));

    let mut events =
        submit(&client, r#"{"intent":"echo","trust":"any","data":1,"deadline_ms":300}"#);
    let assign = hand.assigned();
    events.next("expired");
    hand.wait_revoked(&assign);
    hand.complete(&assign, 1);
    // The next work shows that the late word was taken, and by whom it was not paid.
    let mut events = submit(&client, r#"{"intent":"echo","trust":"any","data":1}"#);
    let assign = hand.assigned();
    hand.complete(&assign, 1);
    events.next("completed");
    assert_eq!(client.grant(), (999_998, 0));
    assert_eq!(owner.grant(), (1_000_002, 0));
}

#[test]
fn an_answer_without_end_is_cut_at_its_ceiling() {
    let place = Place::new();
    let (_realm, client, owner) = world(&place);
    let mut hand = Hand::join(&owner, 1, &chat());
    let body = r#"{"intent":"chat","trust":"any","data":{"model":"by-hand","max_tokens":8,"stream":true,
        "messages":[{"role":"user","content":"hi"}]}}"#;
    let mut events = submit(&client, body);
    let held = units(&events.next("accepted")["hold"]);
    let assign = hand.assigned();
    let piece = json!({"choices": [{"index": 0, "delta": {"content": "for ever and ever "}}]});
    // Far more than is held for; it ends because the realm stops listening.
    for seq in 0..1_000 {
        hand.chunk(&assign, seq, seq * 1_000, &piece);
    }
    hand.wait_revoked(&assign);
    let completed = events.next("completed");
    assert_eq!(completed["reason"], "ceiling", "{completed}");
    assert!(units(&completed["cost"]) <= held, "{completed}");
    let (free, still_held) = client.grant();
    assert_eq!((free, still_held), (1_000_000 - units(&completed["cost"]), 0));
}

#[test]
fn what_was_answered_first_is_kept_and_so_is_what_the_ceiling_cut() {
    let place = Place::new();
    let (_realm, client, owner) = world(&place);
    let mut hand = Hand::join(&owner, 1, &chat());
    let body = r#"{"intent":"chat","trust":"any","durable":true,"data":{"model":"by-hand","max_tokens":8,
        "stream":true,"messages":[{"role":"user","content":"hi"}]}}"#;
    let mut events = submit(&client, body);
    let assign = hand.assigned();
    for seq in 0..20 {
        let piece = json!({"choices": [{"index": 0, "delta": {"content": "on and on and on"}}]});
        hand.chunk(&assign, seq, seq * 1_000, &piece);
    }
    // It has been cut; neither its end nor its failure counts any more.
    hand.complete(&assign, 1);
    hand.socket.say(
        "mtor.worker.fail.v1",
        &json!({"intent": assign["intent"], "attempt": assign["attempt"], "code": "backend",
            "message": "no", "retry": true}),
    );
    assert_eq!(events.next("completed")["reason"], "ceiling");
    events.next("settled");
    let sealed = place.path().join("data/blobs");
    let intent = assign["intent"].as_str().unwrap();
    let name = format!("{intent}.result");
    let kept = crate::common::files_below(&sealed).into_iter().find(|path| path.ends_with(&name));
    // Its pieces, and what a seal adds: an empty one is shorter than that.
    let bytes = std::fs::metadata(kept.expect("what was paid for is kept")).unwrap().len();
    assert!(bytes > 60, "{bytes}");

    let mut events = submit(
        &client,
        r#"{"intent":"chat","trust":"any","durable":true,"data":{"model":"by-hand",
        "messages":[{"role":"user","content":"again"}]}}"#,
    );
    let assign = hand.assigned();
    hand.complete(&assign, 1);
    hand.socket.say(
        "mtor.worker.complete.v1",
        &json!({"intent": assign["intent"], "attempt": assign["attempt"],
            "usage": {"units": 1, "input": 0, "output": 1}, "result": "forged"}),
    );
    assert_eq!(events.next("completed")["result"], done(&assign));
    events.next("settled");
    let path = format!("/v1/intents/{}", assign["intent"].as_str().unwrap());
    assert_eq!(client.ask("GET", &path, "").json()["result"], done(&assign));
}

#[test]
fn a_claim_beyond_all_measure_is_bounded_by_what_the_edge_saw() {
    let place = Place::new();
    let (_realm, client, owner) = world(&place);
    let mut hand = Hand::join(&owner, 1, &chat());
    let body = r#"{"intent":"chat","trust":"any","data":{"model":"by-hand","max_tokens":1000,
        "messages":[{"role":"user","content":"hi"}]}}"#;
    let mut events = submit(&client, body);
    let assign = hand.assigned();
    hand.complete(&assign, u64::MAX);
    let completed = events.next("completed");
    // Four bytes came back; the prompt has some dozens.
    assert!(completed["usage"]["units"].as_u64().unwrap() < 200, "{completed}");
    assert_eq!(client.grant(), (1_000_000 - units(&completed["cost"]), 0));
}

#[test]
fn pieces_out_of_order_or_of_others_void_the_attempt_or_count_for_nothing() {
    let place = Place::new();
    let (_realm, client, owner) = world(&place);
    let mut hand = Hand::join(&owner, 1, &echo());
    let body = r#"{"intent":"echo","trust":"any","data":1,"durable":false}"#;
    let mut events = submit(&client, body);
    let assign = hand.assigned();
    hand.chunk(&assign, 0, 1, &json!("first"));
    hand.chunk(&assign, 2, 1, &json!("third"));
    assert_eq!(events.next("failed")["code"], "MT0025");
    assert_eq!(client.grant(), (1_000_000, 0), "failure pays nothing");

    // Another worker speaks of work that it was not given.
    let mut other = Hand::join(&owner, 2, &json!([]));
    let mut events = submit(&client, body);
    let assign = hand.assigned();
    other.chunk(&assign, 0, 1, &json!("forged"));
    other.complete(&assign, 1);
    other.wait_revoked(&assign);
    hand.chunk(&assign, 0, 1, &json!("true"));
    hand.complete(&assign, 1);
    assert_eq!(events.next("chunk")["piece"], "true");
    assert_eq!(events.next("completed")["result"], "done");
}

#[test]
fn what_is_no_event_of_a_worker_ends_its_session_and_nothing_else() {
    let place = Place::new();
    let (_realm, client, owner) = world(&place);
    let frames = [
        Message::text("{"),
        Message::text(
            r#"{"specversion":"1.0","id":"1","source":"/x","type":"mtor.worker.pay.v1","data":{}}"#,
        ),
        Message::text(
            r#"{"specversion":"1.0","id":"1","source":"/x","type":"mtor.worker.complete.v1","data":{"intent":7}}"#,
        ),
        Message::binary(vec![0xff; 100]),
        Message::text("[".repeat(1_000_000)),
        Message::text(" ".repeat(17 * 1024 * 1024)),
    ];
    let mut hand = Hand::join(&owner, 1, &echo());
    let count = frames.len() as u64;
    for frame in frames {
        let said = frame.to_string().chars().take(60).collect::<String>();
        let mut events =
            submit(&client, r#"{"intent":"echo","trust":"any","data":1,"durable":false}"#);
        hand.assigned();
        hand.socket.send(frame);
        hand.socket.wait_closed();
        // What it had is lost and not failed: it comes again to whoever is there.
        hand.rejoin();
        let again = hand.assigned();
        hand.complete(&again, 1);
        let completed = events.next("completed");
        assert_eq!(completed["result"], "done", "{said}: {completed}");
    }
    assert_eq!(client.grant(), (1_000_000 - count, 0));
    still_serves(&client, &owner);
}

/// Submits as soon as the worker's offer has come.
#[test]
fn a_worker_dearer_than_the_list_serves_whoever_says_so() {
    let place = Place::new();
    let (_realm, client, owner) = world(&place);
    let price = json!({"amount": "600000", "per": 1_000_000});
    let offer = json!({"intent": "chat", "model": "fine", "slots": 1, "price": price});
    let mut hand = Hand::join(&owner, 1, &json!([offer]));
    eventually(|| client.ask("GET", "/v1/pools", "").json()["items"] != json!([]));
    let chat = |more: &str| {
        let data = r#"{"messages":[{"role":"user","content":"hi"}]}"#;
        format!(r#"{{"intent":"chat","trust":"any","data":{data}{more}}}"#)
    };
    let quote = client.ask("POST", "/v1/quote", &chat("")).json();
    assert_eq!(quote["price"]["amount"], "600000", "{quote}");
    let refused = client.ask("POST", "/v1/intents", &chat(""));
    assert_eq!(refused.refusal(), (402, "MT0013".to_owned()), "{refused:?}");
    let error = refused.json()["error"].clone();
    let message = error["message"].as_str().unwrap();
    let needed = quote["ceiling"].as_str().unwrap();
    assert!(message.contains("600000 base units per 1000000"), "{message}");
    assert!(message.contains(&format!("at least {needed} base units")), "{message}");
    let ceiling = format!(r#","ceiling":"{needed}""#);
    let taken = client.ask("POST", "/v1/intents", &chat(&ceiling));
    assert_eq!(taken.status, 202, "{taken:?}");
    let assign = hand.assigned();
    hand.complete(&assign, 10);
    let path = format!("/v1/intents/{}", assign["intent"].as_str().unwrap());
    let read = || client.ask("GET", &path, "").json();
    eventually(|| read()["status"] == "completed");
    assert_eq!(read()["cost"]["amount"], "6", "{}", read());
}

/// Ten times the list price is the most that is paid: who runs a dearer worker is told so.
#[test]
fn an_offer_beyond_the_last_band_is_refused_by_name_and_the_others_stand() {
    let place = Place::new();
    let (_realm, client, owner) = world(&place);
    let offer = |model: &str, amount: &str| {
        let price = json!({"amount": amount, "per": 1_000_000});
        json!({"intent": "chat", "model": model, "slots": 1, "price": price})
    };
    let offers = json!([offer("dear", "5000001"), offer("dearest", "5000000")]);
    let mut hand = Hand::join(&owner, 1, &offers);
    let refused = hand.socket.wait("mtor.worker.refused.v1");
    assert_eq!(refused["offers"].as_array().unwrap().len(), 1, "{refused}");
    let refused = &refused["offers"][0];
    let named = (&refused["intent"], &refused["model"], &refused["code"]);
    assert_eq!(named, (&json!("chat"), &json!("dear"), &json!("MT0041")), "{refused}");
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("field `price`"), "{message}");
    assert!(message.contains("at most 5000000 base units per 1000000 units"), "{message}");
    let pools = || client.ask("GET", "/v1/pools", "").json()["items"].clone();
    eventually(|| pools() != json!([]));
    assert_eq!(pools().as_array().unwrap().len(), 1);
    let model = pools()[0]["model"].as_str().unwrap().to_owned();
    assert!(model.starts_with("dearest@"), "{model}");
    // The dearest band is the least that reaches it, and the quote says what that takes.
    let data = r#"{"messages":[{"role":"user","content":"hi"}],"max_tokens":10}"#;
    let ask = |more: &str| format!(r#"{{"intent":"chat","trust":"any","data":{data}{more}}}"#);
    let quote = client.ask("POST", "/v1/quote", &ask("")).json();
    assert_eq!((&quote["band"], &quote["price"]["amount"]), (&json!(3), &json!("5000000")));
    let ceiling = format!(r#","ceiling":{}"#, quote["ceiling"]);
    assert_eq!(client.ask("POST", "/v1/intents", &ask(&ceiling)).status, 202);
    let assign = hand.assigned();
    hand.complete(&assign, 10);
}

#[test]
fn what_was_asked_under_a_key_is_joined_whatever_is_on_offer_now() {
    let place = Place::new();
    let (realm, client, owner) = world(&place);
    let offer = |amount: &str| {
        let price = json!({"amount": amount, "per": 1_000_000});
        json!([{"intent": "chat", "model": "fine", "slots": 1, "price": price}])
    };
    let mut hand = Hand::join(&owner, 1, &offer("500000"));
    let price = || client.ask("GET", "/v1/pools", "").json()["items"][0]["price"].clone();
    eventually(|| price()["amount"] == "500000");
    let data = r#"{"messages":[{"role":"user","content":"hi"}]}"#;
    let chat = format!(r#"{{"intent":"chat","trust":"any","data":{data}}}"#);
    let ask =
        |key| client.ask_with("POST", "/v1/intents", &[("idempotency-key", key)], chat.as_bytes());
    let first = ask("k").json();
    let assign = hand.assigned();
    hand.socket.say("mtor.worker.offer.v1", &json!({"offers": offer("600000")}));
    eventually(|| price()["amount"] == "600000");
    // Open, and then over: the same intent. Another key asks anew, at today's price.
    let joined = ask("k");
    assert_eq!((joined.status, &joined.json()["intent"]), (202, &first["intent"]), "{joined:?}");
    assert_eq!(ask("other").refusal(), (402, "MT0013".to_owned()));
    hand.complete(&assign, 10);
    let path = format!("/v1/intents/{}", first["intent"].as_str().unwrap());
    eventually(|| client.ask("GET", &path, "").json()["status"] == "completed");
    let joined = ask("k");
    assert_eq!((joined.status, &joined.json()["intent"]), (202, &first["intent"]), "{joined:?}");
    // What was refused at the door is counted, too.
    let metrics = crate::common::http::send(&realm.url, "GET", "/metrics", &[], b"").body;
    assert!(metrics.contains("mtor_intents_refused_total 1\n"), "{metrics}");
}

/// A lease lasts three seconds.
#[test]
fn a_worker_whose_frame_takes_longer_than_a_lease_keeps_its_leases() {
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    let (client, owner) = (Guest::new(&realm.url), Guest::new(&realm.url));
    let mut hand = Hand::join(&owner, 1, &json!([{"intent": "echo", "slots": 2}]));
    eventually(|| client.ask("GET", "/v1/pools", "").json()["items"][0]["slots"] == json!(2));
    let mut ask = || {
        let reply =
            client.ask("POST", "/v1/intents", r#"{"intent":"echo","trust":"any","data":1}"#);
        let assign = hand.assigned();
        assert_eq!(reply.json()["intent"], assign["intent"]);
        assign
    };
    let (slow, beside) = (ask(), ask());
    hand.complete_slowly(&slow, 20, Duration::from_millis(250));
    hand.complete(&beside, 1);
    for (assign, result) in [(&slow, "slow"), (&beside, "done")] {
        let path = format!("/v1/intents/{}", assign["intent"].as_str().unwrap());
        let read = || client.ask("GET", &path, "").json();
        eventually(|| read()["status"] != "open");
        assert_eq!(read()["result"], result, "{:?}", read());
    }
}

/// Why a session ends is said in its close frame.
#[test]
fn a_session_that_the_realm_ends_is_told_why() {
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    let owner = Guest::new(&realm.url);
    let offers = json!([{"intent": "echo", "slots": 1}]);
    let mut hand = Hand::join(&owner, 1, &offers);
    eventually(|| owner.ask("GET", "/v1/pools", "").json()["items"][0]["slots"] == json!(1));
    let (code, why) = hand.again().closed();
    assert_eq!(
        (code, why.as_str()),
        (
            4409,
            "another worker has opened a session with this key: give each worker a key of its own"
        )
    );
    hand.socket.say("mtor.worker.dance.v1", &json!({}));
    let (code, why) = hand.socket.closed();
    assert_eq!((code, why.as_str()), (1008, "`mtor.worker.dance.v1` is not a message of a worker"));
    hand.rejoin();
    eventually(|| owner.ask("GET", "/v1/pools", "").json()["items"][0]["slots"] == json!(1));
    realm.stop();
    let (code, why) = hand.socket.closed();
    assert_eq!((code, why.as_str()), (1001, "the realm stops"));
}

fn submit(client: &Guest, body: &str) -> Events {
    let wanted = &serde_json::from_str::<Value>(body).unwrap()["intent"];
    let offered = |_: &u32| {
        let pools = client.ask("GET", "/v1/pools", "").json();
        let items = pools["items"].as_array().unwrap();
        items.iter().any(|pool| pool["intent"] == *wanted)
    };
    (0..10_000).find(offered).expect("the offer comes");
    Events::submit(client, body)
}

#[test]
fn work_of_a_worker_that_goes_before_its_first_piece_is_done_by_another() {
    let place = Place::new();
    let (_realm, client, owner) = world(&place);
    let mut first = Hand::join(&owner, 1, &echo());
    let mut events = submit(&client, r#"{"intent":"echo","trust":"any","data":1,"durable":false}"#);
    first.assigned();
    let mut second = Hand::join(&owner, 2, &echo());
    // Once the second can be seen, the first breaks off.
    let slots = |pools: &Value| pools["items"][0]["slots"].clone();
    let both = |_: &u32| slots(&client.ask("GET", "/v1/pools", "").json()) == json!(4);
    (0..10_000).find(both).expect("the second offer comes");
    drop(first);
    let assign = second.assigned();
    second.chunk(&assign, 0, 1, &json!("piece"));
    second.complete(&assign, 1);
    let all = events.rest();
    let started = all.iter().filter(|sent| sent.name == "started");
    assert_eq!(started.count(), 2, "{all:?}");
    let chunks = all.iter().filter(|sent| sent.name == "chunk").map(|sent| &sent.data["piece"]);
    assert_eq!(chunks.collect::<Vec<_>>(), ["piece"]);
    assert!(all.iter().any(|sent| sent.name == "completed"), "{all:?}");
    assert_eq!(client.grant(), (999_999, 0), "paid once");
}
