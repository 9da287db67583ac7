//! How a stranger's worker comes to be trusted: slots that it earns, test intents of the realm that pay
//! it from the first minute, and the sysop's word.

use std::time::{Duration, Instant};

use crate::common::http::{Guest, send};
use crate::common::socket::Hand;
use crate::common::{Place, Realm, eventually};
use serde_json::{Value, json};

fn echo(slots: u32) -> Value {
    json!([{"intent": "echo", "slots": slots}])
}

/// The one offer of the guest's one worker.
fn offer(guest: &Guest) -> Value {
    let workers = guest.ask("GET", "/v1/account/workers", "").json();
    workers["items"][0]["offers"][0].clone()
}

fn earned(guest: &Guest) -> u64 {
    let transfers = guest.ask("GET", "/v1/account/transfers", "").json();
    let items = transfers["items"].as_array().unwrap().iter();
    let captures = items.filter(|item| item["kind"] == "capture" && item["direction"] == "in");
    captures.map(|item| item["amount"].as_str().unwrap().parse::<u64>().unwrap()).sum()
}

/// Whether that is counted above nothing.
fn counts(realm: &Realm, what: &str) -> bool {
    let text = send(&realm.url, "GET", "/metrics", &[], b"");
    let of = |line: &&str| line.starts_with(what);
    text.body.lines().find(of).is_some_and(|line| !line.ends_with(" 0"))
}

#[test]
fn a_newcomer_earns_by_the_realms_own_test_intents_and_a_liar_proves_nothing() {
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker", "--canary-budget", "1000"]);
    let (honest, liar) = (Guest::new(&realm.url), Guest::new(&realm.url));
    let hand = Hand::join(&honest, 1, &echo(4));
    std::thread::spawn(move || {
        hand.serve(|hand, assign| hand.complete_with(assign, 1, &assign["data"].clone()));
    });
    let hand = Hand::join(&liar, 2, &echo(4));
    std::thread::spawn(move || {
        hand.serve(|hand, assign| hand.complete_with(assign, 1, &json!({"text": "nothing"})));
    });
    eventually(|| offer(&honest)["right_canaries"].as_u64() > Some(0));
    eventually(|| counts(&realm, "mtor_canaries_total{answer=\"wrong\"}"));
    eventually(|| earned(&honest) > 0);
    let (right, wrong) = (offer(&honest), offer(&liar));
    assert_eq!((&right["standing"], &wrong["right_canaries"]), (&json!("probation"), &json!(0)));
}

#[test]
fn a_stranger_gets_as_much_as_it_has_earned_and_the_sysops_word_makes_it_proven() {
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    let (owner, client) = (Guest::new(&realm.url), Guest::new(&realm.url));
    let mut hand = Hand::join(&owner, 1, &echo(8));
    eventually(|| offer(&owner)["earned"] == 2);
    let ask = |more: &str| {
        let body = format!(r#"{{"intent":"echo"{more},"data":{{"text":"hi"}}}}"#);
        client.ask("POST", "/v1/intents", &body)
    };
    let any = r#","trust":"any""#;
    assert_eq!((ask("").status, ask(any).status, ask(any).status), (503, 202, 202));
    assert_eq!(ask(any).status, 202);
    let assigned = [hand.assigned(), hand.assigned()];
    // The third waits, whatever slots are declared; two good results earn two more.
    for assign in &assigned {
        hand.complete_with(assign, 1, &assign["data"].clone());
    }
    let third = hand.assigned();
    hand.complete_with(&third, 1, &third["data"].clone());
    eventually(|| offer(&owner)["earned"] == 4);

    let secret = place.write("sysop", realm.ready["sysop_secret"].as_str().unwrap(), 0o600);
    let secret = secret.to_str().unwrap();
    let worker = owner.ask("GET", "/v1/account/workers", "").json()["items"][0]["worker"].clone();
    let sysop = |action: &str, intent: &str| {
        place.run(&[
            "sysop",
            "--realm",
            &realm.url,
            "--secret-file",
            secret,
            action,
            worker.as_str().unwrap(),
            intent,
        ])
    };
    let unknown = sysop("vouch", "ehco");
    assert!(unknown.stderr.contains("intent"), "{unknown:?}");
    sysop("vouch", "echo").good();
    assert_eq!(offer(&owner)["standing"], "proven");
    assert_eq!(ask("").status, 202, "and everybody comes to it");
    let listed = place.run(&["sysop", "--realm", &realm.url, "--secret-file", secret, "workers"]);
    assert!(listed.good().stdout.contains("echo x4 of 8, proven"));
    sysop("unvouch", "echo").good();
    assert_eq!(ask("").status, 503);
    let none = sysop("vouch", "fft");
    assert!(none.stderr.contains("offers"), "what it does not offer: {none:?}");

    // A word is a fact: it outlives a kill, and the start that reads it.
    sysop("vouch", "echo").good();
    realm.kill();
    let realm = Realm::start(&place, &["--no-worker"]);
    let owner = Guest { url: realm.url.clone(), key: owner.key };
    let _hand = Hand::join(&owner, 1, &echo(8));
    eventually(|| offer(&owner)["standing"] == "proven");
    assert_eq!(offer(&owner)["earned"], 4);
}

#[test]
fn a_worker_of_which_nothing_comes_is_ejected_and_may_still_answer() {
    let place = Place::new();
    // Whoever asks from here asks for himself: failures of one alone may be his own doing.
    let realm = Realm::start(&place, &["--no-worker", "--home-network", "127.0.0.0/8"]);
    let clients = [Guest::new(&realm.url), Guest::new(&realm.url)];
    let mut hand = Hand::join(&realm, 1, &echo(5));
    let bearer = format!("Bearer {}", realm.ready["sysop_secret"].as_str().unwrap());
    let offer = || {
        let bearer = [("authorization", bearer.as_str())];
        let workers = send(&realm.url, "GET", "/v1/sysop/workers", &bearer, b"").json();
        workers["items"][0]["offers"][0].clone()
    };
    eventually(|| offer()["intent"] == "echo");
    let body = r#"{"intent":"echo","deadline_ms":300000,"data":{"text":"hi"}}"#;
    let ask = |number: usize| {
        let asked = clients[number % 2].ask("POST", "/v1/intents", body);
        assert_eq!(asked.status, 202, "{asked:?}");
        asked.json()["intent"].clone()
    };
    let asked: Vec<Value> = (0..5).map(ask).collect();
    let assigned: Vec<Value> = asked.iter().map(|_| hand.assigned()).collect();
    let lease = |assign: &Value| json!({"intent": assign["intent"], "attempt": assign["attempt"]});
    let leases: Vec<Value> = assigned.iter().map(lease).collect();
    let held = |assign: &Value| {
        let fields = ["intent", "attempt", "token", "fence"];
        fields.map(|field| (field.to_owned(), assign[field].clone())).into_iter().collect()
    };
    let held: Vec<Value> = assigned.iter().map(held).collect();
    let began = Instant::now();
    for beat in 0.. {
        if !offer()["ejected"].is_null() {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(45), "half a minute and some renewals");
        if beat == 20 {
            // Another session is no answer either.
            hand.claim(&held);
            held.iter().for_each(|_| drop(hand.assigned()));
        }
        hand.socket.say("mtor.worker.renew.v1", &json!({"leases": leases}));
        std::thread::sleep(Duration::from_millis(900));
    }
    assert!(began.elapsed() >= Duration::from_secs(30));
    // It may go on with what it was given, and is paid for it.
    let first = assigned.iter().find(|assign| assign["intent"] == asked[0]).unwrap();
    hand.complete(first, 1);
    let intent = format!("/v1/intents/{}", asked[0].as_str().unwrap());
    eventually(|| clients[0].ask("GET", &intent, "").json()["status"] == "completed");
}
