//! Programs on a pipe: the example that ships, and small ones that break the rules.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

mod common;

use common::{Folder, Realm, Session, Worker, assignment, claim, intent, soon};
use mtor_types::worker::{self, Fail, FailCode};
use mtor_worker::{ExecutorOptions, Status};
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

fn python(args: &[&str]) -> ExecutorOptions {
    let args = args.iter().map(|arg| (*arg).to_owned()).collect();
    ExecutorOptions::Exec { name: None, program: "python3".into(), args }
}

/// A program made of what it does with each event; `say` and `key` are at hand.
fn program(body: &str) -> ExecutorOptions {
    let head = r#"
import json, os, sys
def say(kind, **data):
    print(json.dumps({"specversion": "1.0", "id": "1", "source": "p",
                      "type": f"mtor.worker.{kind}.v1", "data": data}), flush=True)
def key(work):
    return {"intent": work["intent"], "attempt": work["attempt"]}
say("offer", offers=[{"intent": "test", "slots": 8}])
for line in sys.stdin:
    event = json.loads(line)
    kind, work = event["type"].split(".")[2], event["data"]
"#;
    let body: String = body.lines().map(|line| format!("    {line}\n")).collect();
    python(&["-c", &format!("{head}{body}")])
}

async fn start(executor: ExecutorOptions) -> (Realm, Worker, Session) {
    let realm = Realm::start().await;
    let worker = Worker::start(&realm, vec![executor]);
    let session = realm.accept().await;
    (realm, worker, session)
}

async fn fail_of(session: &mut Session) -> Fail {
    serde_json::from_value(session.hear(worker::FAIL).await).unwrap()
}

#[tokio::test]
async fn the_example_program_serves() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/echo-worker/echo_worker.py");
    let (_realm, mut worker, mut session) = start(python(&[path])).await;
    assert_eq!(session.offered("echo").await, 1);
    let offered = |status: &Status| matches!(status, Status::Offered { full: true, .. });
    worker.until(offered).await;
    let data = json!({"text": "two\nlines", "list": [1, 2], "chunks": 2, "delayms": 1});
    session.assign(1, "echo", data.clone()).await;
    for seq in 0..2 {
        let chunk = session.hear(worker::CHUNK).await;
        assert_eq!((&chunk["piece"], &chunk["seq"]), (&data, &json!(seq)));
    }
    let complete = session.hear(worker::COMPLETE).await;
    assert_eq!(complete["result"], data);
    assert_eq!(complete["usage"], json!({"units": 1, "input": 0, "output": 0}));
    // JSON with line ends between its tokens is one line for the program.
    let pretty = serde_json::to_string_pretty(&assignment(2, "echo", data.clone())).unwrap();
    let event = format!(
        r#"{{"specversion":"1.0","id":"1","source":"/r","type":"{}","data":{pretty}}}"#,
        worker::ASSIGN
    );
    session.send(tokio_tungstenite::tungstenite::Message::text(event)).await;
    assert_eq!(session.until(worker::COMPLETE).await.1["result"], data);
    // A number that Python would write as what is not JSON, and wishes that mean nothing.
    let wrong = ["1e999", r#"{"chunks":-1}"#, r#"{"chunks":1.5}"#, r#"{"delayms":[]}"#];
    for (number, raw) in (3..).zip(wrong) {
        let assign = assignment(number, "echo", json!("DATA")).to_string();
        let assign = assign.replace("\"DATA\"", raw);
        let kind = worker::ASSIGN;
        let event = format!(
            r#"{{"specversion":"1.0","id":"1","source":"/r","type":"{kind}","data":{assign}}}"#
        );
        session.send(tokio_tungstenite::tungstenite::Message::text(event)).await;
        let fail = fail_of(&mut session).await;
        assert_eq!((fail.code, fail.retry), (FailCode::BadRequest, false), "{}", fail.message);
    }
    session.assign(9, "echo", data.clone()).await;
    assert_eq!(session.until(worker::COMPLETE).await.1["result"], data);
}

#[tokio::test]
async fn a_program_sees_no_lease() {
    let body = r#"
say("complete", **key(work), usage={"units": 1}, result=sorted(work))
"#;
    let (_realm, _worker, mut session) = start(program(body)).await;
    session.offered("test").await;
    session.assign(1, "test", json!(1)).await;
    let seen = session.hear(worker::COMPLETE).await["result"].clone();
    let expected = ["attempt", "data", "deadline_ms", "intent", "limit", "model", "name", "stream"];
    assert_eq!(seen, json!(expected));
}

#[tokio::test]
async fn a_death_fails_what_ran_withdraws_the_offers_and_is_followed_by_a_new_life() {
    let body = r#"
if work["data"] == "die":
    os._exit(3)
if work["data"] != "hang":
    say("complete", **key(work), usage={"units": 1})
"#;
    let (_realm, mut worker, mut session) = start(program(body)).await;
    session.offered("test").await;
    session.assign(1, "test", json!("hang")).await;
    session.assign(2, "test", json!("die")).await;
    let mut failed = Vec::new();
    let mut offers = Vec::new();
    while failed.len() < 2 || offers.len() < 2 {
        let (kind, data) = session.any().await.unwrap();
        if kind == worker::FAIL {
            assert_eq!((&data["code"], &data["retry"]), (&json!("backend"), &json!(true)));
            failed.push(data["intent"].clone());
        } else if kind == worker::OFFER {
            offers.push(data["offers"].as_array().unwrap().len());
        }
    }
    failed.sort_by_key(ToString::to_string);
    assert_eq!(failed, [intent(1), intent(2)]);
    assert_eq!(offers, [0, 1], "withdrawn, and made again");
    let down = worker.until(|status| matches!(status, Status::ExecutorDown { .. })).await;
    assert!(
        matches!(down, Status::ExecutorDown { reason, .. } if reason.contains("exit status: 3"))
    );
    session.assign(3, "test", json!("live")).await;
    assert_eq!(session.hear(worker::COMPLETE).await["intent"], intent(3));
}

#[tokio::test]
async fn a_revocation_reaches_the_program() {
    // The program tells of the revocation by a new offer.
    let body = r#"
if kind == "assign":
    say("chunk", **key(work), seq=0, count=1, piece="first")
if kind == "revoke":
    say("chunk", **key(work), seq=1, count=2, piece="late")
    say("complete", **key(work), usage={"units": 2})
    say("offer", offers=[{"intent": "test", "slots": work["attempt"]}])
"#;
    let (_realm, _worker, mut session) = start(program(body)).await;
    session.offered("test").await;
    session.assign(1, "test", json!(1)).await;
    session.hear(worker::CHUNK).await;
    session.say(worker::REVOKE, claim(1)).await;
    let offers = session.hear(worker::OFFER).await;
    assert_eq!(offers["offers"][0]["slots"], 1);
    assert_eq!(session.any().await.unwrap().0, worker::PING);
}

#[tokio::test]
async fn a_program_that_breaks_the_rules_harms_only_its_intent() {
    let body = r#"
if kind == "assign" and work["data"] == "gap":
    say("chunk", **key(work), seq=1, count=1, piece=1)
elif kind == "assign":
    print(" ", flush=True)
    print('{"specversion":"1.0","id":"1","source":"p","type":"unknown"}', flush=True)
    say("chunk", intent="01010101-0101-0101-0101-0101010101ff", attempt=1, seq=0, count=1, piece=1)
    say("fail", **key(work), code="context_overflow", message="m" * 2000, retry=False)
"#;
    let (_realm, _worker, mut session) = start(program(body)).await;
    session.offered("test").await;
    session.assign(1, "test", json!("gap")).await;
    let fail = fail_of(&mut session).await;
    assert_eq!((fail.code, fail.retry), (FailCode::Backend, true));
    assert!(fail.message.contains("numbered"), "{}", fail.message);
    session.assign(2, "test", json!("noise")).await;
    let fail = fail_of(&mut session).await;
    assert_eq!((fail.code, fail.retry), (FailCode::ContextOverflow, false));
    assert_eq!(fail.message.len(), 500);
}

#[tokio::test]
async fn a_line_that_is_no_event_fails_what_it_names_or_all_that_run() {
    let body = r#"
if kind == "assign" and work["data"] == "nan":
    say("complete", **key(work), usage={"units": 1}, result=float("nan"))
elif kind == "assign" and work["data"] == "misfit":
    say("chunk", **key(work), seq="x")
elif kind == "assign" and work["data"] == "print":
    print("now at 50 %", flush=True)
elif kind == "assign" and work["data"] != "hang":
    say("complete", **key(work), usage={"units": 1})
"#;
    let (_realm, _worker, mut session) = start(program(body)).await;
    session.offered("test").await;
    session.assign(1, "test", json!("hang")).await;
    for (number, data) in [(2, "nan"), (3, "misfit")] {
        session.assign(number, "test", json!(data)).await;
        let fail = fail_of(&mut session).await;
        assert_eq!((fail.intent.to_string(), fail.retry), (intent(number), true), "{data}");
        assert!(fail.message.contains("not an event"), "{}", fail.message);
    }
    session.assign(4, "test", json!("print")).await;
    let mut failed = Vec::new();
    for _ in 0..2 {
        failed.push(fail_of(&mut session).await.intent.to_string());
    }
    failed.sort();
    assert_eq!(failed, [intent(1), intent(4)]);
    // Its life went on.
    session.assign(5, "test", json!("live")).await;
    assert_eq!(session.hear(worker::COMPLETE).await["intent"], intent(5));
}

#[tokio::test]
async fn nothing_that_a_program_started_outlives_the_agent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let script = format!(
        "import subprocess, sys\n\
         helper = 'import socket\\ns = socket.create_connection((\"127.0.0.1\", {port}))\\ns.recv(1)'\n\
         subprocess.Popen([sys.executable, '-c', helper]).wait()"
    );
    let realm = Realm::start().await;
    let worker = Worker::start(&realm, vec![python(&["-c", &script])]);
    let (mut helper, _) = soon(listener.accept()).await.unwrap();
    // What a second signal comes to.
    worker.end.abort();
    assert_eq!(soon(helper.read(&mut [0])).await.unwrap(), 0);
}

#[tokio::test]
async fn a_program_finds_only_what_the_agent_was_given() {
    let realm = Realm::start().await;
    let tells = r#"say("complete", **key(work), usage={"units": 1}, result=dict(os.environ))"#;
    let _worker = Worker::start_with(&realm, Folder::new(), |options| {
        options.executors = vec![program(tells)];
        let given = ("GIVEN".into(), "by name".into());
        options.surroundings = common::path().into_iter().chain([given]).collect();
    });
    let mut session = realm.accept().await;
    session.offered("test").await;
    session.assign(1, "test", json!(null)).await;
    let complete = session.hear(worker::COMPLETE).await;
    let found = complete["result"].as_object().unwrap();
    assert_eq!(found["GIVEN"], "by name");
    // Whoever starts Python may add something of its own, so it is looked for what this process has.
    #[expect(clippy::disallowed_methods, reason = "what is not handed on has to be there")]
    let ours = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let ours: Vec<_> = ours.filter(|name| name.starts_with("CARGO")).collect();
    assert!(!ours.is_empty(), "cargo tells its tests something");
    assert!(!ours.iter().any(|name| found.contains_key(name)), "{found:?}");
}

#[tokio::test]
async fn an_intent_without_credit_does_not_hold_up_the_program() {
    let body = r#"
for seq in range(50):
    say("chunk", **key(work), seq=seq, count=seq, piece="x" * work["data"])
say("complete", **key(work), usage={"units": 50})
"#;
    let mut realm = Realm::start().await;
    realm.credit = 30_000;
    let mut worker = Worker::start(&realm, vec![program(body)]);
    let mut session = realm.accept().await;
    session.offered("test").await;
    session.assign(1, "test", json!(20_000)).await;
    session.assign(2, "test", json!(10)).await;
    let (before, complete) = session.until(worker::COMPLETE).await;
    assert_eq!(complete["intent"], intent(2));
    let of = |number| before.iter().filter(|(_, data)| data["intent"] == intent(number)).count();
    // The second piece overshoots the credit, the third has none.
    assert_eq!((of(1), of(2)), (2, 50));
    worker.stop.take();
}

#[tokio::test]
async fn a_program_that_cannot_serve_is_told_of() {
    let cases = [
        (python(&["-c", "print('hello', flush=True); input()"]), "first line"),
        (python(&["-c", "pass"]), "ended before its offer"),
        (
            ExecutorOptions::Exec { name: None, program: "/nonexistent".into(), args: vec![] },
            "cannot start",
        ),
    ];
    for (executor, expected) in cases {
        let realm = Realm::start().await;
        let mut worker = Worker::start_with(&realm, Folder::new(), |options| {
            options.executors = vec![executor, ExecutorOptions::echo()];
        });
        let down = worker.until(|status| matches!(status, Status::ExecutorDown { .. })).await;
        let Status::ExecutorDown { reason, .. } = down else { panic!("{down:?}") };
        assert!(reason.contains(expected), "{reason}");
        let mut session = realm.accept().await;
        assert_eq!(session.offered("echo").await, 256);
        worker.end.abort();
    }
}
