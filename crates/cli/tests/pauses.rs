//! A realm, or the whole machine, that stands still for a while: nobody was silent. And a worker that
//! is away for a while and comes back with its work.

use std::io::copy;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::events::{Events, Sent};
use crate::common::http::Guest;
use crate::common::worker::Worker;
use crate::common::{Place, Realm, eventually, signal};
use crate::restarts::{SLOW, slow_worker, starts, wait_offer};
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

/// Its session is over after three seconds, and its lease; its program works on meanwhile.
#[test]
fn the_only_worker_comes_back_after_eight_seconds_with_the_work_done() {
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    let guest = Guest::new(&realm.url);
    let worker = slow_worker(&place, &guest);
    wait_offer(&guest);
    let mut events = Events::submit(&guest, r#"{"intent":"echo","data":1,"durable":true}"#);
    let intent = events.next("accepted")["intent"].as_str().unwrap().to_owned();
    let attempt = events.next("chunk")["attempt"].clone();
    drop(events);
    pause(&[worker.0.id()], Duration::from_secs(8));
    let all = Events::of(&guest, &intent, None).rest();
    let chunks = all.iter().filter(|sent| sent.name == "chunk");
    let seen: Vec<_> = chunks.map(|sent| (&sent.data["piece"], &sent.data["attempt"])).collect();
    let wanted: Vec<Value> = (0..10).map(Value::from).collect();
    assert_eq!(seen, wanted.iter().map(|piece| (piece, &attempt)).collect::<Vec<_>>(), "{all:?}");
    assert!(all.iter().any(|sent| sent.name == "completed"), "{all:?}");
    assert_eq!(starts(&place), 1, "it was done once");
}

/// What stands between a worker and its realm, and can be cut.
struct Cable {
    url: String,
    whole: Arc<AtomicBool>,
    ends: Arc<Mutex<Vec<TcpStream>>>,
}

impl Cable {
    fn to(realm: &Realm) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (whole, ends) = (Arc::new(AtomicBool::new(true)), Arc::<Mutex<Vec<_>>>::default());
        let far = realm.url.strip_prefix("http://").unwrap().to_owned();
        let cable = Self { url, whole: Arc::clone(&whole), ends: Arc::clone(&ends) };
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                if !whole.load(Ordering::Acquire) {
                    continue;
                }
                let Ok(far) = TcpStream::connect(&far) else { return };
                let clone = |end: &TcpStream| end.try_clone().unwrap();
                ends.lock().unwrap().extend([clone(&near), clone(&far)]);
                for (mut from, mut to) in [(clone(&near), clone(&far)), (far, near)] {
                    std::thread::spawn(move || {
                        let _ = copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
            }
        });
        cable
    }

    /// Cuts it for so long.
    fn cut(&self, pause: Duration) {
        self.whole.store(false, Ordering::Release);
        for end in self.ends.lock().unwrap().drain(..) {
            let _ = end.shutdown(Shutdown::Both);
        }
        std::thread::sleep(pause);
        self.whole.store(true, Ordering::Release);
    }
}

/// A reader waits for the worker of a broken stream, though not long.
#[test]
fn a_stream_goes_on_when_its_worker_was_cut_off_for_a_moment() {
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    let guest = Guest::new(&realm.url);
    let cable = Cable::to(&realm);
    place.write("slow.py", SLOW, 0o644);
    let token = guest.ask("POST", "/v1/workers/tokens", "").json()["token"].clone();
    let more = ["--exec", "python3", "slow.py", "starts"];
    let _worker = Worker::joined(&place, &cable.url, token.as_str().unwrap(), "w", &more);
    wait_offer(&guest);
    let mut events = Events::submit(&guest, r#"{"intent":"echo","data":1,"durable":false}"#);
    events.next("chunk");
    cable.cut(Duration::from_secs(1));
    let all = events.rest();
    assert!(all.iter().any(|sent| sent.name == "completed"), "{all:?}");
    assert_eq!(all.iter().filter(|sent| sent.name == "chunk").count(), 9, "{all:?}");
    assert_eq!(starts(&place), 1);
}
