//! The data directory of an early release, opened by this one. `crates/server/tests/fixtures` says
//! how it was made.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use crate::common::http::{Guest, send};
use crate::common::{Place, Realm, eventually};
use serde_json::{Value, json};

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../server/tests/fixtures/realm-6671703")
}

/// A copy with the modes of a data directory, which a checkout does not keep.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    std::fs::set_permissions(to, std::fs::Permissions::from_mode(0o700)).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (from, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            std::fs::copy(&from, &to).unwrap();
            std::fs::set_permissions(&to, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
    }
}

fn expected() -> Value {
    let text = std::fs::read_to_string(fixture().join("expected.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

fn ask(url: &str, key: &Value, path: &str) -> Value {
    let bearer = format!("Bearer {}", text(key));
    let reply = send(url, "GET", path, &[("authorization", &bearer)], b"");
    assert_eq!(reply.status, 200, "{path}: {reply:?}");
    reply.json()
}

/// Balance and held of each asset.
fn money(url: &str, key: &Value) -> Value {
    let assets = ask(url, key, "/v1/account")["assets"].clone();
    let rows = assets.as_array().unwrap().iter();
    let row = |row: &Value| (text(&row["asset"]).to_owned(), json!([row["balance"], row["held"]]));
    Value::Object(rows.map(row).collect())
}

fn grant(url: &str, key: &Value) -> [u64; 2] {
    let money = money(url, key);
    [0, 1].map(|part| text(&money["grant"][part]).parse().unwrap())
}

struct Worker(Child);

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The worker of that folder, with the key that it has there and no token.
fn own_worker(place: &Place, url: &str) -> Worker {
    let data = place.path().join("own");
    copy(&fixture().join("own"), &data);
    let arguments = ["--json", "worker", "--realm", url, "--data", data.to_str().unwrap()];
    let mut command = place.command(&[arguments.as_slice(), &["--no-fft"]].concat());
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let connected = |line: std::io::Result<String>| {
        let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
        assert_ne!(line["status"], "enrolled", "it is enrolled already");
        line["status"] == "connected"
    };
    assert!(lines.any(connected), "the worker does not connect");
    // Read to its end, so that the worker is not held back.
    std::thread::spawn(move || lines.for_each(drop));
    Worker(child)
}

#[test]
fn a_data_directory_of_an_early_release_opens_and_its_work_is_done() {
    let place = Place::new();
    copy(&fixture().join("data"), &place.path().join("data"));
    let expected = expected();
    // Accounts would be filled up: what is asked here is what they had.
    let realm = Realm::start(&place, &["--no-worker", "--guest-grant", "0"]);
    let url = &realm.url;
    let accounts = expected["accounts"].as_object().unwrap();
    for (name, account) in accounts {
        assert_eq!(money(url, &account["api_key"]), account["assets"], "{name}");
        let found = ask(url, &account["api_key"], "/v1/account");
        assert_eq!(found["account"], account["account"], "{name}");
    }
    let second = &accounts["alice"]["second_key"];
    assert_eq!(ask(url, second, "/v1/account")["account"], accounts["alice"]["account"]);
    let workers = ask(url, &expected["sysop_secret"], "/v1/sysop/workers")["items"].clone();
    let row = |row: &Value| json!([row["worker"], row["name"], row["own"]]);
    let workers: Vec<Value> = workers.as_array().unwrap().iter().map(row).collect();
    assert_eq!(Value::Array(workers), expected["workers"]);

    let open = expected["open"].as_array().unwrap();
    let read = |one: &Value| {
        let (key, intent) = (&accounts[text(&one["of"])]["api_key"], text(&one["intent"]));
        ask(url, key, &format!("/v1/intents/{intent}"))
    };
    assert!(open.iter().all(|one| read(one)["status"] == "open"), "nothing has ended");
    let before: Vec<[u64; 2]> =
        accounts.values().map(|account| grant(url, &account["api_key"])).collect();
    let _worker = own_worker(&place, url);
    for one in open {
        eventually(|| read(one)["status"] != "open");
        let ended = read(one);
        assert_eq!(ended["status"], "completed", "{one}: {ended}");
        assert_eq!(ended["cost"]["amount"], "1");
        assert!(ended["result"].to_string().contains(text(&one["text"])), "{ended}");
    }
    for ((name, account), [available, held]) in accounts.iter().zip(before) {
        let paid = open.iter().filter(|one| one["of"] == **name).count() as u64;
        let now = grant(url, &account["api_key"]);
        assert_eq!(now, [available + held - paid, 0], "{name}");
    }
    // And it goes on as any other.
    let key = text(&accounts["alice"]["api_key"]).to_owned();
    let guest = Guest { url: url.clone(), key };
    assert_eq!(guest.ask("POST", "/v1/intents", r#"{"intent":"echo","data":1}"#).status, 202);
    assert_eq!(realm.stop(), Some(0));
    let again = Realm::start(&place, &["--no-worker"]);
    assert!(open.iter().all(|one| {
        let key = &accounts[text(&one["of"])]["api_key"];
        let path = format!("/v1/intents/{}", text(&one["intent"]));
        ask(&again.url, key, &path)["status"] == "completed"
    }));
}

/// Its state would be another if the log were folded in its place.
#[test]
fn a_snapshot_of_a_later_release_is_refused_by_name() {
    use sha2::{Digest, Sha256};
    let place = Place::new();
    let data = place.path().join("data");
    copy(&fixture().join("data"), &data);
    let is_snapshot = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("snapshot-"))
    };
    let files = std::fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path());
    let mut snapshots: Vec<PathBuf> = files.filter(is_snapshot).collect();
    snapshots.sort();
    let newest = snapshots.pop().unwrap();
    let mut bytes = std::fs::read(&newest).unwrap();
    // Magic, format, batch and length of the file stand before the state, its checksum behind.
    let body = bytes.len() - 32;
    bytes[28] = 99;
    let sum = Sha256::digest(&bytes[..body]);
    bytes[body..].copy_from_slice(&sum);
    std::fs::write(&newest, bytes).unwrap();
    let data = data.to_str().unwrap();
    let done = place.run(&["up", "--data", data, "--listen", "127.0.0.1:0", "--no-worker"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.stderr.contains("MT0022"), "{done:?}");
    assert!(done.stderr.contains("format 99, this program reads up to 2"), "{done:?}");
    assert!(done.stderr.contains("start the realm with the version that wrote it"), "{done:?}");
}
