//! A disk that is full: nothing new is accepted, it is said, and nothing is lost.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use mtor_types::worker;
use serde_json::json;

use crate::common::http::{Guest, send};
use crate::common::socket::Hand;
use crate::common::{Place, Realm, eventually};
use crate::restarts::wait_offer;

const ECHO: &str = r#"{"intent":"echo","data":1,"durable":false}"#;
const DURABLE: &str = r#"{"intent":"echo","data":{"delayms":3000,"say":"kept"}}"#;

/// A realm whose data directory is a small disk of its own, seen by it alone.
fn on_a_small_disk(place: &Place) -> Realm {
    let data = place.path().join("data");
    std::fs::create_dir_all(&data).unwrap();
    let realm = Realm::command(place, "127.0.0.1:0", &[]);
    let mut command = Command::new("unshare");
    command.env_clear().envs(realm.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.current_dir(place.path()).stdin(std::process::Stdio::null());
    if !rustix::process::getuid().is_root() {
        command.arg("--map-root-user");
    }
    let script = r#"mount -t tmpfs -o size=8m tmpfs "$0" && exec "$@""#;
    command.args(["--mount", "sh", "-c", script]).arg(&data);
    command.arg(realm.get_program()).args(realm.get_args());
    let realm = Realm::of(command);
    realm.wait_worker("ready");
    realm
}

/// As the realm sees it.
fn inside(place: &Place, realm: &Realm, name: &str) -> PathBuf {
    let data = place.path().join("data").join(name);
    PathBuf::from(format!("/proc/{}/root{}", realm.pid(), data.display()))
}

fn fill(path: &PathBuf) {
    let mut file = File::create(path).unwrap();
    for size in [64 * 1024, 512] {
        while file.write_all(&vec![0; size]).is_ok() {}
    }
}

fn health(realm: &Realm, secret: &str) -> String {
    let bearer = format!("Bearer {secret}");
    let reply = send(&realm.url, "GET", "/v1/sysop/health", &[("authorization", &bearer)], b"");
    reply.json()["store"].as_str().unwrap().to_owned()
}

#[test]
fn a_full_disk_stops_what_is_new_and_loses_nothing() {
    let place = Place::new();
    let realm = on_a_small_disk(&place);
    let secret = realm.ready["sysop_secret"].as_str().unwrap().to_owned();
    let guest = Guest::new(&realm.url);
    let kept = guest.ask("POST", "/v1/intents", DURABLE);
    assert_eq!(kept.status, 202, "{kept:?}");
    let kept = format!("/v1/intents/{}", kept.json()["intent"].as_str().unwrap());

    let filler = inside(&place, &realm, "filler");
    fill(&filler);
    // A payload cannot be kept.
    let refused = guest.ask("POST", "/v1/intents", DURABLE);
    assert_eq!(refused.refusal(), (503, "MT0022".to_owned()), "{refused:?}");
    // The log takes a few more in pages that it has, and then nothing.
    let began = Instant::now();
    let refused = loop {
        let reply = guest.ask("POST", "/v1/intents", ECHO);
        if reply.status != 202 {
            break reply;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "it takes work for ever");
    };
    assert_eq!(refused.refusal(), (503, "MT0022".to_owned()), "{refused:?}");
    assert!(refused.json()["error"]["message"].as_str().unwrap().contains("disk is full"));
    assert_eq!(health(&realm, &secret), "full");

    std::fs::remove_file(&filler).unwrap();
    let began = Instant::now();
    while health(&realm, &secret) != "good"
        || guest.ask("GET", &kept, "").json()["status"] == "open"
    {
        assert!(began.elapsed() < Duration::from_secs(30), "it does not go on");
        std::thread::sleep(Duration::from_millis(50));
    }
    let kept = guest.ask("GET", &kept, "").json();
    assert_eq!((&kept["status"], &kept["result"]["say"]), (&"completed".into(), &"kept".into()));
    assert_eq!(guest.ask("POST", "/v1/intents", ECHO).status, 202);
    // Every unit that is gone was captured, and nothing is held by what was refused.
    let began = Instant::now();
    while guest.grant().1 != 0 {
        assert!(began.elapsed() < Duration::from_secs(30), "something is held for ever");
        std::thread::sleep(Duration::from_millis(20));
    }
    let (mut captured, mut after) = (0, String::new());
    loop {
        let path = format!("/v1/account/transfers?limit=100{after}");
        let page = guest.ask("GET", &path, "").json();
        let rows = page["items"].as_array().unwrap();
        captured += rows.iter().filter(|row| row["kind"] == "capture").count() as u64;
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(guest.grant().0, 1_000_000 - captured);
    assert_eq!(realm.stop(), Some(0));
}

/// An end that is told before its result is kept would be one without a result, after a crash.
#[test]
fn durable_work_has_not_ended_before_its_result_is_kept() {
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    let guest = Guest::new(&realm.url);
    let mut hand = Hand::join(&realm, 1, &json!([{"intent": "echo", "slots": 2}]));
    wait_offer(&guest);
    let ask = |durable: bool| {
        let asked = json!({"intent": "echo", "data": 1, "durable": durable}).to_string();
        let asked = guest.ask("POST", "/v1/intents", &asked);
        assert_eq!(asked.status, 202, "{asked:?}");
        format!("/v1/intents/{}", asked.json()["intent"].as_str().unwrap())
    };
    let kept = ask(true);
    let assign = hand.assigned();
    // No blob can be written from here on.
    let (aside, away) = (place.path().join("data/blobs/aside"), place.path().join("away"));
    std::fs::rename(&aside, &away).unwrap();
    hand.complete(&assign, 1);
    // What comes behind it has ended.
    ask(false);
    let behind = hand.assigned();
    hand.complete(&behind, 1);
    assert_eq!(hand.socket.wait(worker::ACKNOWLEDGE)["intent"], behind["intent"]);
    assert_eq!(guest.ask("GET", &kept, "").json()["status"], "open");

    std::fs::rename(&away, &aside).unwrap();
    assert_eq!(hand.socket.wait(worker::ACKNOWLEDGE)["intent"], assign["intent"]);
    eventually(|| guest.ask("GET", &kept, "").json()["status"] == "completed");
    assert_eq!(guest.ask("GET", &kept, "").json()["result"], "done");
}
