//! A realm, or the whole machine, that stands still for a while: nobody was silent.

use std::time::Duration;

use crate::common::events::{Events, Sent};
use crate::common::http::Guest;
use crate::common::{Place, Realm, eventually, signal};
use rustix::process::Signal;
use serde_json::{Value, json};

/// Work that takes six seconds, and a guest whose it is.
struct Work {
    guest: Guest,
    durable: Vec<String>,
    streams: Vec<Events>,
}

impl Work {
    const DURABLE: usize = 64;
    const STREAMS: usize = 4;

    /// All of it runs, and pieces of it have come.
    fn begin(realm: &Realm) -> Self {
        let guest = Guest::new(&realm.url);
        let one = |durable: bool| {
            let data = json!({"chunks": 30, "delayms": 200});
            json!({"intent": "echo", "data": data, "durable": durable})
        };
        let batch = Value::from(vec![one(true); Self::DURABLE]).to_string();
        let reply = guest.ask("POST", "/v1/intents/batch", &batch);
        assert_eq!(reply.status, 202, "{reply:?}");
        let items = reply.json()["items"].as_array().unwrap().clone();
        let id = |item: &Value| item["accepted"]["intent"].as_str().unwrap().to_owned();
        let durable: Vec<String> = items.iter().map(id).collect();
        let submit = |_| Events::submit(&guest, &one(false).to_string());
        let mut streams: Vec<Events> = (0..Self::STREAMS).map(submit).collect();
        streams.iter_mut().for_each(|events| drop(events.next("chunk")));
        let is_busy = |pool: &Value| pool["busy"] == Self::DURABLE + Self::STREAMS;
        let pools = || guest.ask("GET", "/v1/pools", "").json()["items"].clone();
        eventually(|| pools().as_array().unwrap().iter().any(is_busy));
        Self { guest, durable, streams }
    }

    /// All of it completed, each by its first attempt.
    #[track_caller]
    fn ends_well(mut self) {
        let one_attempt = |sent: &[Sent]| {
            let attempts = sent.iter().filter_map(|sent| sent.data.get("attempt"));
            let attempts: std::collections::BTreeSet<String> =
                attempts.map(Value::to_string).collect();
            assert_eq!(attempts.len(), 1, "{sent:?}");
            assert!(sent.iter().any(|sent| sent.name == "completed"), "{sent:?}");
        };
        for events in &mut self.streams {
            one_attempt(&events.rest());
        }
        for intent in &self.durable {
            let events = Events::of(&self.guest, intent, None).rest();
            let pieces = events.iter().filter(|sent| sent.name == "chunk").count();
            assert_eq!(pieces, 30, "{events:?}");
            one_attempt(&events);
        }
    }
}

/// Stops these processes for a while.
fn pause(pids: &[u32], pause: Duration) {
    pids.iter().for_each(|pid| signal(*pid, Signal::STOP));
    std::thread::sleep(pause);
    pids.iter().for_each(|pid| signal(*pid, Signal::CONT));
}

#[test]
fn a_realm_that_was_stopped_takes_none_of_its_workers_for_silent() {
    let place = Place::new();
    let realm = Realm::serving(&place);
    let work = Work::begin(&realm);
    pause(&[realm.pid()], Duration::from_secs(3));
    work.ends_well();
}

/// Longer than either waits for the other.
#[test]
fn a_machine_that_stood_still_loses_no_work() {
    let place = Place::new();
    let realm = Realm::start(&place, &[]);
    let worker = realm.wait_worker("spawned")["pid"].as_u64().unwrap();
    realm.wait_worker("ready");
    let work = Work::begin(&realm);
    pause(&[realm.pid(), worker.try_into().unwrap()], Duration::from_secs(11));
    work.ends_well();
}
