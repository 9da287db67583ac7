//! More work than there is room or time for: refused at once, with a reason and when to come back.

use crate::common::http::{Guest, Reply};
use crate::common::socket::Hand;
use crate::common::{Place, Realm};
use serde_json::json;

const ECHO: &str = r#"{"intent":"echo","data":1,"durable":false}"#;

/// A client and a worker of one slot, whose offer has come.
fn world(realm: &Realm) -> (Guest, Hand) {
    let client = Guest::new(&realm.url);
    let hand = Hand::join(realm, 1, &json!([{"intent": "echo", "slots": 1}]));
    let offered = |_: &u32| client.ask("GET", "/v1/pools", "").json()["items"] != json!([]);
    (0..10_000).find(offered).expect("the offer comes");
    (client, hand)
}

fn wait_ms(refused: &Reply) -> u64 {
    refused.json()["error"]["retry_after_ms"].as_u64().unwrap()
}

#[test]
fn a_deadline_that_the_queue_cannot_meet_is_refused_at_once() {
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    let (client, mut hand) = world(&realm);
    assert_eq!(client.ask("POST", "/v1/intents", ECHO).status, 202);
    let running = hand.assigned();
    // Work of a kind that was never measured is thought to take a second.
    let hasty = r#"{"intent":"echo","data":1,"durable":false,"deadline_ms":100}"#;
    let refused = client.ask("POST", "/v1/intents", hasty);
    assert_eq!(refused.refusal(), (503, "MT0016".to_owned()), "{refused:?}");
    assert!(wait_ms(&refused) >= 100, "{refused:?}");
    assert_eq!(client.grant().1, 1, "only what runs is held");
    hand.complete(&running, 1);
}

#[test]
fn a_full_queue_is_refused_and_what_it_holds_is_served() {
    const ROOM: u64 = 4_096;
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    let (client, mut hand) = world(&realm);
    // Quick work first, so that a long queue is no long wait.
    for _ in 0..40 {
        assert_eq!(client.ask("POST", "/v1/intents", ECHO).status, 202);
        let assign = hand.assigned();
        hand.complete(&assign, 1);
    }
    assert_eq!(client.ask("POST", "/v1/intents", ECHO).status, 202);
    let running = hand.assigned();
    let mut queued = 0;
    let refused = loop {
        let reply = client.ask("POST", "/v1/intents", ECHO);
        if reply.status != 202 {
            break reply;
        }
        queued += 1;
        assert!(queued <= ROOM, "it takes more than there is room for");
        // A session that says nothing is over.
        if queued % 256 == 0 {
            hand.renew(&running);
        }
    };
    assert_eq!(refused.refusal(), (429, "MT0015".to_owned()), "{refused:?}");
    assert!(wait_ms(&refused) >= 100, "{refused:?}");
    assert_eq!(queued, ROOM);
    // Another account has a queue of its own.
    let other = Guest::new(&realm.url);
    let eta = |guest: &Guest| guest.ask("POST", "/v1/quote", ECHO).json()["eta_ms"].as_u64();
    let (its, long) = (eta(&other).unwrap(), eta(&client).unwrap());
    assert!(its * 10 < long, "each is quoted a wait of its own: {its} and {long}");
    let rows = client.ask("GET", "/v1/pools", "").json();
    let listed = rows["items"][0]["eta_ms"].as_u64().unwrap();
    assert!(listed * 10 < long, "what is listed is a newcomer's: {listed} and {long}");
    assert_eq!(other.ask("POST", "/v1/intents", ECHO).status, 202);
    hand.complete(&running, 1);
    // The newcomer's turn comes long before the end of the long queue.
    let its = other.ask("GET", "/v1/account/transfers", "").json();
    assert_eq!(its["items"][0]["kind"], "grant");
    for _ in 0..3 {
        let assign = hand.assigned();
        hand.complete(&assign, 1);
    }
    let served = (0..10_000).find(|_| other.grant() == (999_999, 0));
    assert!(served.is_some(), "it waits behind the other's queue");
}
