//! What goes wrong while work is open: races for the last unit, a killed worker, a killed realm,
//! a client that leaves; and that no payload is left where it does not belong.

use std::path::Path;

use crate::common::events::Events;
use crate::common::http::{self, Guest, Reply};
use crate::common::{Place, Realm, signal};
use rustix::process::Signal;
use serde_json::Value;

const INTENTS: &str = "/v1/intents";

#[test]
fn sixty_four_race_for_a_balance_that_pays_ten() {
    let place = Place::new();
    let realm = Realm::serving(&place);
    let guest = Guest::new(&realm.url);
    // Each holds a tenth of the grant for a while.
    let body = r#"{"intent":"echo","data":{"delayms":8000},"ceiling":"100000"}"#;
    let replies: Vec<Reply> = std::thread::scope(|scope| {
        let racers: Vec<_> =
            (0..64).map(|_| scope.spawn(|| guest.ask("POST", INTENTS, body))).collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).collect()
    });
    let taken = replies.iter().filter(|reply| reply.status == 202).count();
    let refused = replies.iter().filter(|reply| reply.status == 402).count();
    assert_eq!((taken, refused), (10, 54), "{replies:?}");
    assert_eq!(guest.grant(), (0, 1_000_000));
}

#[test]
fn a_worker_killed_in_mid_answer_harms_nothing_but_that_answer() {
    let place = Place::new();
    let realm = Realm::start(&place, &[]);
    let worker = realm.wait_worker("spawned")["pid"].as_u64().unwrap();
    realm.wait_worker("ready");
    let guest = Guest::new(&realm.url);
    let body = r#"{"intent":"echo","data":{"chunks":1000,"delayms":50}}"#;
    let mut events = Events::submit(&guest, body);
    events.next("chunk");
    events.next("chunk");
    signal(worker.try_into().unwrap(), Signal::KILL);
    let failed = events.next("failed");
    assert_eq!(failed["code"], "MT0025", "{failed}");
    assert_eq!(failed["refunded"]["amount"], "1");
    assert_eq!(guest.grant(), (1_000_000, 0), "failure pays nothing");
    // The next one takes its place; what the pools show is what can be asked.
    realm.wait_worker("offered");
    let offered =
        |_: &u32| guest.ask("GET", "/v1/pools", "").json()["items"] != Value::Array(vec![]);
    (0..10_000).find(offered).expect("the pools fill again");
    Events::submit(&guest, r#"{"intent":"echo","data":1}"#).next("completed");
    assert_eq!(guest.grant(), (999_999, 0));
}

#[test]
fn an_accepted_durable_intent_survives_the_death_of_its_realm() {
    let place = Place::new();
    let realm = Realm::serving(&place);
    let guest = Guest::new(&realm.url);
    let body = r#"{"intent":"echo","data":{"delayms":2500,"say":"still here"}}"#;
    let accepted = guest.ask("POST", INTENTS, body);
    assert_eq!(accepted.status, 202, "{accepted:?}");
    let intent = accepted.json()["intent"].as_str().unwrap().to_owned();
    realm.kill();

    let realm = Realm::serving(&place);
    let guest = Guest { url: realm.url.clone(), key: guest.key };
    let path = format!("{INTENTS}/{intent}");
    // Its events may not be kept yet: it is asked for until it is over.
    let ended = (0..600).find_map(|_| {
        let seen = guest.ask("GET", &path, "").json();
        let over = seen["status"] != "open";
        std::thread::sleep(std::time::Duration::from_millis(50));
        over.then_some(seen)
    });
    let ended = ended.expect("it ends within half a minute");
    assert_eq!(ended["status"], "completed", "{ended}");
    assert_eq!(ended["result"]["say"], "still here");
    assert_eq!(guest.grant(), (999_999, 0), "captured once");
    let receipts = guest.ask("GET", &format!("/v1/account/receipts?intent={intent}"), "").json();
    assert_eq!(receipts["items"][0]["statement"]["cost"], "1", "{receipts}");
}

#[test]
fn a_cancelled_intent_pays_what_was_delivered_and_a_queued_one_nothing() {
    let place = Place::new();
    let realm = Realm::serving(&place);
    let guest = Guest::new(&realm.url);
    let body = r#"{"intent":"echo","data":{"chunks":1000,"delayms":50}}"#;
    let mut events = Events::submit(&guest, body);
    let intent = events.next("chunk")["intent"].as_str().unwrap().to_owned();
    let reply = guest.ask("DELETE", &format!("{INTENTS}/{intent}"), "");
    assert_eq!(reply.status, 202, "{reply:?}");
    let cancelled = events.next("cancelled");
    assert_eq!(cancelled["cost"]["amount"], "1");
    let mut events = Events::submit(&guest, r#"{"intent":"echo","data":{"delayms":60000}}"#);
    let intent = events.next("started")["intent"].as_str().unwrap().to_owned();
    guest.ask("DELETE", &format!("{INTENTS}/{intent}"), "");
    assert_eq!(events.next("cancelled")["cost"]["amount"], "0");
    assert_eq!(guest.grant(), (999_999, 0));
}

#[test]
fn a_deadline_ends_what_takes_too_long() {
    let place = Place::new();
    let realm = Realm::serving(&place);
    let guest = Guest::new(&realm.url);
    let body = r#"{"intent":"echo","data":{"delayms":60000},"deadline_ms":300}"#;
    let expired = Events::submit(&guest, body).next("expired");
    assert_eq!(expired["refunded"]["amount"], "1", "{expired}");
    assert_eq!(guest.grant(), (1_000_000, 0));
}

#[test]
fn no_payload_is_left_in_log_tables_or_metrics() {
    const CANARY: &str = "canary-6d1f0c3a";
    let place = Place::new();
    let log = place.path().join("stderr");
    let mut command = Realm::command(&place, "127.0.0.1:0", &["--log", "text/trace"]);
    command.stderr(std::fs::File::create(&log).unwrap());
    let realm = Realm::of(command);
    realm.wait_worker("ready");
    let guest = Guest::new(&realm.url);
    let body = format!(r#"{{"intent":"echo","data":{{"secret":"{CANARY}","delayms":1}}}}"#);
    let mut events = Events::submit(&guest, &body);
    assert_eq!(events.next("completed")["result"]["secret"], CANARY);
    events.next("settled");
    let durable = format!(r#"{{"intent":"echo","data":"{CANARY}","durable":true}}"#);
    let mut events = Events::submit(&guest, &durable);
    events.next("completed");
    events.next("settled");
    let metrics = http::send(&realm.url, "GET", "/metrics", &[], b"").body;
    assert!(metrics.contains("mtor_intents_admitted_total 2"), "{metrics}");
    assert!(!metrics.contains(CANARY));
    realm.stop();
    for secret in [CANARY, &guest.key] {
        let found = files_with(place.path(), secret.as_bytes());
        assert!(found.is_empty(), "{found:?}");
    }
    // The realm and its worker did write their log there.
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("mtor_worker::agent: connected"), "{log}");
}

fn files_with(dir: &Path, needle: &[u8]) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_with(&path, needle));
        } else if std::fs::read(&path).unwrap().windows(needle.len()).any(|part| part == needle) {
            found.push(path);
        }
    }
    found
}
