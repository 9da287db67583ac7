//! Many pieces of work from a file: in order, several at once, and paid once however often the run
//! is broken off and repeated.

use std::io::Write;
use std::process::Stdio;

use crate::common::http::{Guest, send};
use crate::common::socket::Hand;
use crate::common::terminal::Terminal;
use crate::common::{Done, Place, Realm, eventually, signal};
use rustix::process::Signal;
use serde_json::{Value, json};

fn submit(place: &Place, realm: &Realm, more: &[&str]) -> Done {
    let mut command = place.command(&[&["submit"], more].concat());
    Done::of(command.env("MTOR_REALM", &realm.url).output().unwrap())
}

fn spent(place: &Place, realm: &Realm) -> u64 {
    let account = place.run(&["--json", "account", "--realm", &realm.url]).good().lines();
    let left: u64 = account[0]["assets"][0]["balance"].as_str().unwrap().parse().unwrap();
    1_000_000 - left
}

fn numbers(place: &Place, count: u64) -> Vec<Value> {
    let lines: Vec<String> = (1..=count).map(|n| n.to_string()).collect();
    place.write("lines.jsonl", &lines.join("\n"), 0o644);
    (1..=count).map(Value::from).collect()
}

#[test]
fn every_line_has_its_result_in_its_place_and_is_paid_once() {
    let place = Place::new();
    let realm = Realm::serving(&place);
    let expected = numbers(&place, 40);
    let arguments = ["echo", "--lines", "lines.jsonl", "--concurrency", "8"];
    let done = submit(&place, &realm, &arguments).good();
    let rows = done.lines();
    let column = |name: &str| rows.iter().map(|row| row[name].clone()).collect::<Vec<_>>();
    assert_eq!((column("line"), column("result")), (expected.clone(), expected.clone()));
    assert!(rows.iter().all(|row| row["status"] == "completed" && row["intent"].is_string()));
    let totals = "40 lines: 40 completed, 0 failed; cost 40 base units of grant";
    assert!(done.stderr.contains(totals), "{done:#?}");
    assert_eq!(spent(&place, &realm), 40);

    // The same again: the same intents, and nothing is paid.
    assert_eq!(submit(&place, &realm, &arguments).good().lines(), rows);
    assert_eq!(spent(&place, &realm), 40);
    // Asked anew, from standard input, for programs, as they come.
    let anew = ["--key-prefix", "b", "--as-they-come"];
    let all = [&["--json", "submit", "echo", "--lines", "-"], anew.as_slice()].concat();
    let mut command = place.command(&all);
    command.env("MTOR_REALM", &realm.url).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let text = std::fs::read(place.path().join("lines.jsonl")).unwrap();
    child.stdin.take().unwrap().write_all(&text).unwrap();
    let done = Done::of(child.wait_with_output().unwrap()).good();
    let totals = done.event("totals");
    assert_eq!((&totals["completed"], &totals["cost"]["grant"]), (&40.into(), &"40".into()));
    assert_eq!(done.lines().len(), 41);
    assert_eq!(done.stderr, "");
    assert_eq!(spent(&place, &realm), 80);
}

#[test]
fn a_line_that_fails_stops_no_other() {
    let place = Place::new();
    let realm = Realm::serving(&place);
    let lines = [
        r#"{"intent":"echo","data":"one"}"#,
        "{",
        r#"{"intent":"echo","data":2,"ceiling":"0"}"#,
        r#"{"intent":"dream","data":3}"#,
        "",
        r#"{"intent":"echo","data":4,"cieling":"1"}"#,
        r#"{"intent":"chat","data":"a text without a model"}"#,
        r#"{"intent":"echo","data":"last","durable":false,"class":"batch"}"#,
    ];
    place.write("lines.jsonl", &lines.join("\n"), 0o644);
    let done = submit(&place, &realm, &["--lines", "lines.jsonl", "--retries", "0"]);
    assert_eq!(done.code, Some(1), "{done:#?}");
    let rows = done.lines();
    let told: Vec<Value> =
        rows.iter().map(|row| json!([row["line"], row["status"], row["error"]["code"]])).collect();
    let expected = [
        json!([1, "completed", null]),
        json!([2, "failed", null]),
        json!([3, "failed", "MT0013"]),
        json!([4, "failed", "MT0006"]),
        json!([6, "failed", null]),
        json!([7, "failed", "MT0007"]),
        json!([8, "completed", null]),
    ];
    assert_eq!(told[..5], expected[..5], "{done:#?}");
    assert_eq!(told[6], expected[6], "{done:#?}");
    assert_eq!(rows[5]["status"], "failed", "{done:#?}");
    assert!(rows[4]["error"]["message"].as_str().unwrap().contains("cieling"), "{done:#?}");
    assert!(done.stderr.contains("5 of 7 lines failed"), "{done:#?}");
    assert_eq!(spent(&place, &realm), 2);
}

#[test]
fn a_run_that_was_interrupted_goes_on_and_pays_nothing_twice() {
    let place = Place::new();
    let realm = Realm::serving(&place);
    let line = |n: u32| format!(r#"{{"n":{n},"chunks":2,"delayms":100}}"#);
    let lines: Vec<String> = (0..12).map(line).collect();
    place.write("lines.jsonl", &lines.join("\n"), 0o644);
    let arguments = ["submit", "echo", "--lines", "lines.jsonl", "--concurrency", "2"];
    let mut command = place.command(&arguments);
    command.env("MTOR_REALM", &realm.url).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let begun = || {
        let done = place.run(&["--json", "intents", "--realm", &realm.url]);
        done.code == Some(0) && !done.lines().is_empty()
    };
    eventually(begun);
    signal(child.id(), Signal::INT);
    let done = Done::of(child.wait_with_output().unwrap());
    assert_eq!(done.code, Some(130), "{done:#?}");
    assert!(done.stderr.contains("goes on where it stopped"), "{done:#?}");
    let rows = done.lines();
    assert!(!rows.is_empty() && rows.len() < 12, "{done:#?}");
    assert!(rows.iter().all(|row| row["status"] == "completed"), "{done:#?}");

    let again = submit(&place, &realm, &arguments[1..]).good();
    assert_eq!(again.lines().len(), 12);
    assert_eq!(again.lines()[..rows.len()], rows);
    assert_eq!(spent(&place, &realm), 12);
}

/// Joins a worker that the test plays.
fn by_hand(realm: &Realm, slots: u32) -> Hand {
    let owner = Guest::new(&realm.url);
    let offers = json!([{"intent": "chat", "model": "by-hand", "slots": slots}]);
    let hand = Hand::join(realm, 1, &offers);
    eventually(|| owner.ask("GET", "/v1/pools", "").json()["items"] != json!([]));
    hand
}

#[test]
fn a_text_is_a_question_so_many_go_at_once_and_what_failed_is_asked_again() {
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    let mut hand = by_hand(&realm, 8);
    place.write("lines.jsonl", "\"a?\"\n\"b?\"\n\"c?\"\n", 0o644);
    let arguments = ["chat", "--lines", "lines.jsonl", "--concurrency", "2"];
    let bearer = format!("Bearer {}", realm.ready["sysop_secret"].as_str().unwrap());
    let open = || {
        let headers = [("authorization", bearer.as_str())];
        let open = send(&realm.url, "GET", "/v1/sysop/intents", &headers, b"").json();
        open["items"].as_array().unwrap().len()
    };
    std::thread::scope(|scope| {
        let mut command = place.command(&[&["submit"], &arguments[..]].concat());
        command.env("MTOR_REALM", &realm.url);
        let done = scope.spawn(move || Done::of(command.output().unwrap()));
        let mut begun = [hand.assigned(), hand.assigned()];
        let content = |assign: &Value| assign["data"]["messages"][0]["content"].clone();
        begun.sort_by_key(|assign| content(assign).as_str().unwrap().to_owned());
        let [first, second] = begun;
        assert_eq!((content(&first), content(&second)), ("a?".into(), "b?".into()));
        assert_eq!(open(), 2, "the third one waits here, not there");
        let (intent, attempt) = (&first["intent"], &first["attempt"]);
        let fail = json!({
            "intent": intent, "attempt": attempt, "code": "backend", "message": "no", "retry": false,
        });
        hand.socket.say("mtor.worker.fail.v1", &fail);
        hand.complete(&second, 1);
        for _ in 0..2 {
            let next = hand.assigned();
            assert!(["a?", "c?"].map(Value::from).contains(&content(&next)));
            hand.complete(&next, 1);
        }
        let rows = done.join().unwrap().good().lines();
        assert!(rows.iter().all(|row| row["status"] == "completed"), "{rows:?}");
    });
}

#[test]
fn a_terminal_shows_how_far_it_is() {
    let place = Place::new();
    let realm = Realm::serving(&place);
    numbers(&place, 5);
    let mut command = place.command(&["submit", "echo", "--lines", "lines.jsonl"]);
    let (terminal, mut child) = Terminal::run(command.env("MTOR_REALM", &realm.url));
    assert_eq!(child.wait().unwrap().code(), Some(0));
    terminal.wait("5 lines: 5 completed");
    let shown = terminal.shown();
    assert!(shown.contains("/5, "), "{shown}");
}

#[test]
fn what_does_not_go_with_lines_is_refused() {
    let place = Place::new();
    for wrong in [
        ["--lines", "x", "--data", "1"].as_slice(),
        &["--lines", "x", "--key", "k"],
        &["--lines", "x", "--concurrency", "0"],
        &["--lines", "x", "--key-prefix", "a b"],
        &["echo", "--concurrency", "2", "--data", "1"],
    ] {
        let done = place.run(&[&["submit"], wrong].concat());
        assert_eq!(done.code, Some(2), "{wrong:?}: {done:#?}");
    }
    let realm = Realm::start(&place, &["--no-worker"]);
    let none = submit(&place, &realm, &["echo", "--lines", "none.jsonl"]);
    assert_eq!(none.code, Some(2), "{none:#?}");
    assert!(none.stderr.contains("--lines: none.jsonl: there is no such file"), "{none:#?}");
}
