//! A worker of its own process beside a realm that dies, and processes that are told to end.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::common::events::Events;
use crate::common::http::Guest;
use crate::common::socket::Hand;
use crate::common::worker::{Owner, Worker};
use crate::common::{Place, Realm, signal};
use rustix::process::Signal;
use serde_json::{Value, json};

/// An executor that writes down each start, and says ten pieces in two seconds.
pub const SLOW: &str = r#"
import json, sys, threading, time
lock = threading.Lock()
def say(kind, **data):
    event = {"specversion": "1.0", "id": "1", "source": "/slow",
             "type": f"mtor.worker.{kind}.v1", "data": data}
    with lock:
        print(json.dumps(event), flush=True)
def work(key):
    for seq in range(10):
        time.sleep(0.2)
        say("chunk", **key, seq=seq, count=1, piece=seq)
    say("complete", **key, usage={"units": 1}, result="done")
say("offer", offers=[{"intent": "echo", "slots": 1}])
for line in sys.stdin:
    event = json.loads(line)
    if event["type"] == "mtor.worker.assign.v1":
        with open(sys.argv[1], "a") as starts:
            starts.write("start\n")
        key = {name: event["data"][name] for name in ("intent", "attempt")}
        threading.Thread(target=work, args=(key,), daemon=True).start()
"#;

pub fn slow_worker(place: &Place, owner: &impl Owner) -> Worker {
    place.write("slow.py", SLOW, 0o644);
    Worker::start(place, owner, &["--exec", "python3", "slow.py", "starts"])
}

pub fn starts(place: &Place) -> usize {
    std::fs::read_to_string(place.path().join("starts")).unwrap().lines().count()
}

pub fn wait_offer(guest: &Guest) {
    let offered = |_: &u32| {
        std::thread::sleep(Duration::from_millis(20));
        guest.ask("GET", "/v1/pools", "").json()["items"] != json!([])
    };
    (0..1_000).find(offered).expect("the offer comes");
}

#[test]
fn a_worker_goes_on_with_its_work_over_the_death_of_the_realm() {
    let place = Place::new();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let realm = Realm::start_at(&place, &free.to_string(), &["--no-worker"]);
    let guest = Guest::new(&realm.url);
    let _worker = slow_worker(&place, &guest);
    wait_offer(&guest);
    let mut events = Events::submit(&guest, r#"{"intent":"echo","data":1,"durable":true}"#);
    let intent = events.next("accepted")["intent"].as_str().unwrap().to_owned();
    let attempt = events.next("chunk")["attempt"].clone();
    events.next("chunk");
    realm.kill();

    let realm = Realm::start_at(&place, &free.to_string(), &["--no-worker"]);
    let path = format!("/v1/intents/{intent}");
    let began = Instant::now();
    while guest.ask("GET", &path, "").json()["status"] == "open" {
        assert!(began.elapsed() < Duration::from_secs(30), "it does not end");
        std::thread::sleep(Duration::from_millis(50));
    }
    let all = Events::of(&guest, &intent, None).rest();
    let chunks: Vec<_> = all.iter().filter(|sent| sent.name == "chunk").collect();
    let seen: Vec<_> = chunks.iter().map(|sent| sent.data["piece"].as_u64().unwrap()).collect();
    assert_eq!(seen, (0..10).collect::<Vec<_>>(), "from the first, none twice: {all:?}");
    assert!(chunks.iter().all(|sent| sent.data["attempt"] == attempt), "the same attempt");
    let completed = all.iter().find(|sent| sent.name == "completed").unwrap();
    assert_eq!(completed.data["result"], "done");
    assert_eq!(starts(&place), 1, "the work was done once");
    // The worker is the guest's own: it costs nothing.
    let captured = guest.ask("GET", "/v1/account/transfers", "").json();
    let items = captured["items"].as_array().unwrap();
    assert!(items.iter().all(|row| row["kind"] != "capture"), "{captured}");
    assert_eq!(guest.grant(), (1_000_000, 0));
    assert_eq!(realm.stop(), Some(0));
}

#[test]
fn the_events_of_durable_work_are_there_after_a_restart_before_any_worker_is() {
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    let guest = Guest::new(&realm.url);
    let mut hand = Hand::join(&guest, 1, &json!([{"intent": "echo", "slots": 1}]));
    wait_offer(&guest);
    let mut events = Events::submit(&guest, r#"{"intent":"echo","data":1,"durable":true}"#);
    let intent = events.next("accepted")["intent"].as_str().unwrap().to_owned();
    hand.assigned();
    realm.kill();

    let realm = Realm::start(&place, &["--no-worker"]);
    let guest = Guest { url: realm.url.clone(), key: guest.key };
    let mut events = Events::of(&guest, &intent, None);
    let cancelled = guest.ask("DELETE", &format!("/v1/intents/{intent}"), "");
    assert_eq!(cancelled.status, 202, "{cancelled:?}");
    assert_eq!(events.next("cancelled")["cost"]["amount"], "0");
    assert_eq!(guest.grant(), (1_000_000, 0));
}

#[test]
fn durable_work_goes_on_over_an_orderly_stop() {
    let place = Place::new();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let realm = Realm::start_at(&place, &free.to_string(), &["--no-worker"]);
    let guest = Guest::new(&realm.url);
    let mut hand = Hand::join(&guest, 1, &json!([{"intent": "echo", "slots": 1}]));
    wait_offer(&guest);
    let mut events = Events::submit(&guest, r#"{"intent":"echo","data":1,"durable":true}"#);
    events.next("accepted");
    let assign = hand.assigned();
    hand.chunk(&assign, 0, 1, &json!("first"));
    events.next("chunk");
    // Who listens would be waited for, longer than a worker without a word keeps its lease.
    drop(events);
    assert_eq!(realm.stop(), Some(0));

    let _realm = Realm::start_at(&place, &free.to_string(), &["--no-worker"]);
    let path = format!("/v1/intents/{}", assign["intent"].as_str().unwrap());
    assert_eq!(guest.ask("GET", &path, "").json()["status"], "open");
    let lease = ["intent", "attempt", "fence", "token"].map(|name| (name, assign[name].clone()));
    hand.claim(&[lease.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()]);
    let again = hand.assigned();
    hand.chunk(&again, 0, 1, &json!("first"));
    hand.complete(&again, 1);
    hand.socket.wait("mtor.worker.acknowledge.v1");
    assert_eq!(guest.ask("GET", &path, "").json()["status"], "completed");
}

#[test]
fn keys_that_are_lost_are_not_replaced() {
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    assert_eq!(realm.stop(), Some(0));
    let (keys, kept) = (place.path().join("data/keys"), place.path().join("kept"));
    std::fs::rename(&keys, &kept).unwrap();
    let again = || place.run(&["up", "--no-worker", "--listen", "127.0.0.1:0", "--data", "data"]);
    let refused = again();
    assert_eq!(refused.code, Some(78), "{refused:#?}");
    assert!(refused.stderr.contains("keys"), "{refused:#?}");
    assert!(!keys.exists(), "nothing was made in their place");
    std::fs::rename(&kept, &keys).unwrap();
    let realm = Realm::start(&place, &["--no-worker"]);
    assert_eq!(realm.stop(), Some(0));
}

#[test]
fn a_lease_is_given_back_to_nobody_but_its_holder_and_only_as_it_was() {
    let place = Place::new();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let realm = Realm::start_at(&place, &free.to_string(), &["--no-worker"]);
    let guest = Guest::new(&realm.url);
    let echo = json!([{"intent": "echo", "slots": 1}]);
    let mut holder = Hand::join(&guest, 1, &echo);
    wait_offer(&guest);
    let mut events = Events::submit(&guest, r#"{"intent":"echo","data":1,"durable":true}"#);
    events.next("accepted");
    let assign = holder.assigned();
    let mut thief = Hand::join(&guest, 2, &echo);
    realm.kill();

    let _realm = Realm::start_at(&place, &free.to_string(), &["--no-worker"]);
    let lease: Value = ["intent", "attempt", "fence", "token"]
        .into_iter()
        .map(|name| (name.to_owned(), assign[name].clone()))
        .collect();
    let forged = |name: &str, value: Value| {
        let mut forged = lease.clone();
        forged[name] = value;
        forged
    };
    let refused = |hand: &mut Hand, lease: &Value| {
        hand.claim(std::slice::from_ref(lease));
        hand.complete(lease, 1);
        hand.wait_revoked(lease);
    };
    refused(&mut thief, &lease);
    refused(&mut holder, &forged("fence", json!(assign["fence"].as_u64().unwrap() + 1)));
    refused(&mut holder, &forged("attempt", json!(assign["attempt"].as_u64().unwrap() + 1)));
    refused(&mut holder, &forged("token", json!("00".repeat(32))));
    let path = format!("/v1/intents/{}", assign["intent"].as_str().unwrap());
    assert_eq!(guest.ask("GET", &path, "").json()["status"], "open");
    assert_eq!(guest.grant().1, 1, "still held, not paid");
}

#[test]
fn a_worker_that_is_told_to_end_finishes_what_it_has_and_takes_nothing_new() {
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    let guest = Guest::new(&realm.url);
    let mut worker = slow_worker(&place, &realm);
    wait_offer(&guest);
    let mut events = Events::submit(&guest, r#"{"intent":"echo","data":1,"durable":false}"#);
    events.next("chunk");
    // The same again waits behind it.
    let mut second = Events::submit(&guest, r#"{"intent":"echo","data":1,"durable":false}"#);
    second.next("accepted");
    signal(worker.0.id(), Signal::TERM);
    assert_eq!(events.next("completed")["result"], "done");
    assert_eq!(worker.0.wait().unwrap().code(), Some(0));
    assert_eq!(starts(&place), 1);
    let refused = guest.ask("POST", "/v1/intents", r#"{"intent":"echo","data":1}"#).refusal();
    assert_eq!(refused, (503, "MT0017".to_owned()));
    // What waits is cancelled for nothing.
    assert_eq!(guest.grant().1, 1);
    drop(second);
    assert_eq!(realm.stop(), Some(0));
}

#[test]
fn a_realm_told_to_end_lets_go_of_open_streams_and_of_what_they_held() {
    let place = Place::new();
    let realm = Realm::serving(&place);
    let guest = Guest::new(&realm.url);
    let mut events = Events::submit(&guest, r#"{"intent":"echo","data":{"delayms":60000}}"#);
    events.next("started");
    assert_eq!(guest.grant(), (999_999, 1));
    let began = Instant::now();
    assert_eq!(realm.stop(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    events.rest();

    let realm = Realm::start(&place, &["--no-worker"]);
    let guest = Guest { url: realm.url.clone(), key: guest.key };
    assert_eq!(guest.grant(), (1_000_000, 0));
}

#[test]
fn the_embedded_worker_ends_when_its_realm_is_killed() {
    let place = Place::new();
    let realm = Realm::start(&place, &[]);
    let worker = realm.wait_worker("spawned")["pid"].as_u64().unwrap();
    realm.wait_worker("ready");
    assert!(lives(worker));
    realm.kill();
    let began = Instant::now();
    while lives(worker) {
        assert!(began.elapsed() < Duration::from_secs(20), "it outlives its realm");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether a process runs; one that has ended and waits to be reaped does not.
fn lives(pid: u64) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
    stat.is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().trim().starts_with('Z'))
}
