//! Intents of one's own: pieces for every type, what a handler is told, and manifests that come,
//! change, break and go while the realm runs.

use crate::common::events::Events;
use crate::common::http::Guest;
use crate::common::socket::Hand;
use crate::common::worker::Worker;
use crate::common::{Done, Place, Realm, eventually};
use serde_json::{Value, json};

/// Says the words of a text one by one, or all of them; a text of `wait` is answered when the file
/// `go` is there.
const PROGRAM: &str = r#"
import json, os, sys, time
def say(kind, **data):
    print(json.dumps({"specversion": "1.0", "id": "1", "source": "p", "type": f"mtor.worker.{kind}.v1", "data": data}), flush=True)
say("offer", offers=[{"intent": "words", "slots": 4}])
for event in map(json.loads, sys.stdin):
    if event["type"] != "mtor.worker.assign.v1":
        continue
    work = event["data"]
    key = {name: work[name] for name in ("intent", "attempt")}
    while work["data"]["text"] == "wait" and not os.path.exists("go"):
        time.sleep(0.01)
    words, units = work["data"]["text"].split(), work["meter"]["input"]
    if work["stream"]:
        for seq, word in enumerate(words):
            say("chunk", **key, seq=seq, count=units, piece=word)
        say("complete", **key, usage={"units": units})
    else:
        say("complete", **key, usage={"units": units}, result={"words": words, "meter": work["meter"], "limit": work["limit"]})
"#;

const MANIFEST: &str = r#"
name = "words"
version = 1
summary = "Gives back the words of a text."
pure = true
bytes_max = 65536
check = "none"

[meter]
unit = "byte"
bound = "bytes"

[price]
amount = "2"
per = 1

[deadline]
default_ms = 30000
max_ms = 600000

[parameters]
type = "object"
required = ["text"]
properties.text = { type = "string", title = "Text" }

[result]
media = "text/plain"
chunk = { type = "string" }
"#;

fn words_worker(place: &Place, realm: &Realm) -> Worker {
    place.write("program.py", PROGRAM, 0o644);
    Worker::start(place, realm, &["--exec", "python3", "program.py"])
}

fn offered(guest: &Guest) -> bool {
    let pools = guest.ask("GET", "/v1/pools", "").json();
    pools["items"].as_array().unwrap().iter().any(|pool| pool["intent"] == "words")
}

fn pieces(events: &mut Events) -> Vec<Value> {
    let chunks = events.rest().into_iter().filter(|sent| sent.name == "chunk");
    chunks.map(|sent| sent.data["piece"].clone()).collect()
}

#[test]
fn pieces_come_for_every_type_when_the_request_wishes_them() {
    let place = Place::new();
    place.write("data/manifests/words.toml", MANIFEST, 0o644);
    let realm = Realm::start(&place, &["--no-worker"]);
    let guest = Guest::new(&realm.url);
    let _worker = words_worker(&place, &realm);
    eventually(|| offered(&guest));
    let data = json!({"text": "one two three"});
    let whole = json!(["one", "two", "three"]);
    let body = |more: Value| {
        let mut body = json!({"intent": "words", "data": data});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body.to_string()
    };

    assert_eq!(json!(pieces(&mut Events::submit(&guest, &body(json!({}))))), whole);
    // Who wants the result at once says so.
    let mut events = Events::submit(&guest, &body(json!({"stream": false})));
    let done = events.next("completed");
    assert_eq!(done["result"]["words"], whole);
    // The handler is told how to count, and is paid for what it counted.
    let bytes = data.to_string().len();
    let meter = json!({"unit": "byte", "bound": "bytes", "input": bytes});
    assert_eq!((&done["result"]["meter"], &done["result"]["limit"]), (&meter, &json!(bytes)));
    assert_eq!(done["cost"]["amount"], (2 * bytes).to_string());

    let result = |body: &str, headers: &[(&str, &str)]| {
        let accepted = guest.ask_with("POST", "/v1/intents", headers, body.as_bytes());
        let path = format!("/v1/intents/{}", accepted.json()["intent"].as_str().unwrap());
        eventually(|| guest.ask("GET", &path, "").json()["status"] == "completed");
        guest.ask("GET", &path, "").json()["result"].clone()
    };
    assert_eq!(result(&body(json!({})), &[])["words"], whole);
    assert_eq!(result(&body(json!({})), &[("mtor-stream", "true")]), json!({"pieces": whole}));
    assert_eq!(result(&body(json!({"stream": true})), &[]), json!({"pieces": whole}));

    let text = data.to_string();
    let submit = |more: &[&str]| {
        let to = ["--json", "submit", "words", "--realm", &realm.url, "--data", &text];
        place.run(&[&to[..], more].concat()).good()
    };
    let said = |done: &Done| {
        let chunks = done.lines().into_iter().filter(|line| line["event"] == "chunk");
        chunks.map(|line| line["piece"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(json!(said(&submit(&["--stream"]))), whole);
    let done = submit(&[]);
    assert_eq!((said(&done).len(), &done.event("completed")["result"]["words"]), (0, &whole));
}

/// The list price is raised tenfold while one intent is served and another waits for the slot.
#[test]
fn work_that_waits_is_not_served_above_its_quote() {
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    place.write("data/manifests/words.toml", MANIFEST, 0o644);
    assert_eq!(realm.wait("manifest", "added")["name"], "words");
    let guest = Guest::new(&realm.url);
    let mut hand = Hand::join(&realm, 1, &json!([{"intent": "words", "slots": 1}]));
    eventually(|| offered(&guest));
    let body = r#"{"intent":"words","data":{"text":"a"},"durable":false}"#;
    let mut served = Events::submit(&guest, body);
    let assign = hand.assigned();
    let mut waits = Events::submit(&guest, body);
    waits.next("accepted");

    place.write("data/manifests/words.toml", &MANIFEST.replace("\"2\"", "\"20\""), 0o644);
    realm.wait("manifest", "changed");
    let in_pools =
        || guest.ask("GET", "/v1/pools", "").json()["items"][0]["price"]["amount"].clone();
    eventually(|| in_pools() == "20");
    hand.complete(&assign, 5);
    assert_eq!(served.next("completed")["cost"]["amount"], "10", "at the price of its day");
    assert_eq!(waits.next("failed")["code"], "MT0017");
    assert_eq!(guest.grant(), (1_000_000 - 10, 0));

    let mut anew = Events::submit(&guest, body);
    let assign = hand.assigned();
    hand.complete(&assign, 5);
    assert_eq!(anew.next("completed")["cost"]["amount"], "100", "whoever asks now agrees to it");
}

#[test]
fn a_manifest_lives_as_long_as_its_file() {
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    let guest = Guest::new(&realm.url);
    // It offers what nobody can ask for yet.
    let _worker = words_worker(&place, &realm);
    let list =
        |headers: &[(&str, &str)]| guest.ask_with("GET", "/v1/manifests", headers, b"").json();
    let write = |text: &str| place.write("data/manifests/words.toml", text, 0o644);
    let quote = r#"{"intent":"words","data":{"text":"a"}}"#;
    let price = || guest.ask("POST", "/v1/quote", quote).json()["price"]["amount"].clone();
    assert_eq!(guest.ask("POST", "/v1/quote", quote).refusal().1, "MT0006");

    write(MANIFEST);
    assert_eq!(realm.wait("manifest", "added")["name"], "words");
    eventually(|| offered(&guest));
    assert_eq!(price(), "2");
    let items = list(&[])["items"].clone();
    let own = items.as_array().unwrap().iter().find(|item| item["name"] == "words").unwrap();
    assert_eq!(own["result"], json!({"media": "text/plain", "chunk": {"type": "string"}}));
    assert_eq!(own["parameters"]["properties"]["text"]["title"], "Text");

    write(&MANIFEST.replace("\"2\"", "\"3\""));
    realm.wait("manifest", "changed");
    // The worker asks the list price, which is another one now.
    eventually(|| price() == "3");

    write(&MANIFEST.replace("bound = \"bytes\"", "bound = \"apples\""));
    let broken = realm.wait("manifest", "broken");
    assert_eq!((&broken["file"], &broken["keeps"]), (&json!("words.toml"), &json!("words")));
    let problem = list(&[])["problems"][0].clone();
    assert_eq!(problem["file"], "words.toml");
    let said = problem["problem"].as_str().unwrap();
    assert!(said.starts_with("line 11:") && said.contains("apples"), "{said}");
    // Nobody's business who asks through a proxy.
    assert_eq!(list(&[("x-forwarded-for", "192.0.2.1")]).get("problems"), None);
    assert_eq!(price(), "3");

    write(MANIFEST);
    realm.wait("manifest", "changed");
    eventually(|| price() == "2");
    assert_eq!(list(&[]).get("problems"), None);

    // What runs when its manifest goes ends as it would have.
    let mut events = Events::submit(&guest, r#"{"intent":"words","data":{"text":"wait"}}"#);
    events.next("started");
    std::fs::remove_file(place.path().join("data/manifests/words.toml")).unwrap();
    assert_eq!(realm.wait("manifest", "removed")["built_in"], false);
    eventually(|| !offered(&guest));
    assert_eq!(guest.ask("POST", "/v1/quote", quote).refusal().1, "MT0006");
    place.write("go", "", 0o644);
    assert_eq!(events.next("chunk")["piece"], "wait");
    assert_eq!(events.next("completed")["cost"]["amount"], "30");
}

#[test]
fn a_manifest_is_checked_as_a_start_would() {
    let place = Place::new();
    place.write("good.toml", MANIFEST, 0o644);
    place.write("bad.toml", &MANIFEST.replace("version = 1", "version = 0"), 0o644);
    place.write("typo.toml", &MANIFEST.replace("amount", "amuont"), 0o644);
    place.write("word.toml", &MANIFEST.replace("amount = \"2\"", "amount = ten"), 0o644);
    let check = |file: &str| place.run(&["manifest", "check", file]);
    let good = check("good.toml").good();
    assert!(good.stdout.contains("words, 2 base units per 1 byte"), "{good:?}");
    for (file, words) in [
        ("bad.toml", ["bad.toml", "`version`", "expected at least 1"]),
        ("typo.toml", ["typo.toml", "line 14", "amuont"]),
        (
            "word.toml",
            ["word.toml", "field `amount`: `ten` is no TOML value", "docs/own-intent.md"],
        ),
        ("none.toml", ["none.toml", "No such file", "docs/own-intent.md"]),
    ] {
        let done = check(file);
        assert_eq!(done.code, Some(78), "{done:?}");
        for word in words {
            assert!(done.stderr.contains(word), "{word}: {done:?}");
        }
    }
    let piped = |text: &str| place.run_with_input(&["manifest", "check", "-"], text);
    assert!(piped(MANIFEST).good().stdout.contains("words, 2 base units per 1 byte"));
    let done = piped(&MANIFEST.replace("version = 1", "version = 0"));
    assert_eq!(done.code, Some(78), "{done:?}");
    assert!(
        done.stderr.contains("standard input: field `version`: expected at least 1"),
        "{done:?}"
    );
    assert_eq!(piped(&format!("{MANIFEST}#{}", " ".repeat(256 * 1024))).code, Some(78));
    assert_eq!(piped("").code, Some(2));
}
