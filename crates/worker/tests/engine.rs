//! The engine with a real model: llama.cpp's server as a child. A missing file fails the tests.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

mod common;

use std::path::PathBuf;

use common::{Realm, Session, Worker, assignment, intent};
use mtor_types::worker::{self, Fail, FailCode};
use mtor_worker::{EngineOptions, ExecutorOptions, Status};
use serde_json::{Value, json};

#[expect(clippy::disallowed_methods, reason = "tests have no cli that could pass it down")]
fn models_dir() -> PathBuf {
    std::env::var_os("MTOR_MODELS").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../.models"),
        PathBuf::from,
    )
}

fn tiny() -> EngineOptions {
    let dir = models_dir();
    let file = dir.join("smollm2-135m-instruct.q4_1.gguf");
    let engine = dir.join("xllamacpp-2026.10.11549.abi3.so");
    assert!(file.is_file() && engine.is_file(), "models missing: run `make models`");
    EngineOptions { name: "tiny".into(), file, engine, slots: 2, threads: 1 }
}

/// The one child of this process: every test is a process of its own.
fn server() -> rustix::process::Pid {
    let own = std::process::id().to_string();
    let children = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let pid: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let parent = stat.rsplit_once(") ")?.1.split(' ').nth(1)?;
        (parent == own).then_some(pid)
    });
    let pids: Vec<i32> = children.collect();
    assert_eq!(pids.len(), 1, "{pids:?}");
    rustix::process::Pid::from_raw(pids[0]).unwrap()
}

async fn start() -> (Realm, Worker, Session) {
    let realm = Realm::start().await;
    let mut worker = Worker::start(&realm, vec![ExecutorOptions::Engine(tiny())]);
    let enrol = worker.until(|status| matches!(status, Status::Ready { .. }));
    enrol.await;
    let session = realm.accept().await;
    (realm, worker, session)
}

async fn ask(session: &mut Session, number: u8, stream: bool, body: Value) {
    let mut assign = assignment(number, "chat", body);
    assign["stream"] = json!(stream);
    session.say(worker::ASSIGN, assign).await;
}

/// Asks, and gives the whole answer.
async fn answer(session: &mut Session, number: u8, body: Value) -> Value {
    ask(session, number, false, body).await;
    let done = session.until(worker::COMPLETE).await.1;
    session.acknowledge(number).await;
    done["result"].clone()
}

fn question(text: &str, extra: Value) -> Value {
    let mut body = json!({
        "model": "tiny", "temperature": 0, "max_tokens": 24,
        "messages": [{"role": "user", "content": text}],
    });
    for (name, value) in extra.as_object().into_iter().flatten() {
        body[name] = value.clone();
    }
    body
}

#[tokio::test]
async fn the_model_answers_with_everything_that_an_openai_client_may_ask_for() {
    let (_realm, _worker, mut session) = start().await;
    assert_eq!(session.offered("chat").await, 2);
    let paris = answer(&mut session, 1, question("What is the capital of France?", json!({})));
    let paris = paris.await;
    assert_eq!(paris["model"], "tiny");
    assert!(paris["choices"][0]["message"]["content"].as_str().unwrap().contains("Paris"));

    let two = json!({"n": 2, "logprobs": true, "top_logprobs": 2, "max_tokens": 3});
    let two = answer(&mut session, 2, question("Name a colour.", two)).await;
    assert_eq!(two["choices"].as_array().unwrap().len(), 2);
    let token = &two["choices"][0]["logprobs"]["content"][0];
    assert_eq!(token["top_logprobs"].as_array().unwrap().len(), 2, "{two}");

    let schema = json!({"response_format": {"type": "json_schema", "json_schema": {"name": "city",
        "schema": {"type": "object", "properties": {"sum": {"type": "integer"}},
            "required": ["sum"], "additionalProperties": false}}}});
    let shaped = answer(&mut session, 3, question("What is 2+2?", schema)).await;
    let text = shaped["choices"][0]["message"]["content"].as_str().unwrap();
    let shaped: Value = serde_json::from_str(text).unwrap();
    assert!(shaped["sum"].is_i64(), "{shaped}");

    // Nobody else on this machine may use the port.
    let pid = server().as_raw_nonzero();
    let environ = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    assert!(!String::from_utf8_lossy(&environ).contains("\"key\":"), "a key in the arguments");
}

#[tokio::test]
async fn every_answer_of_several_is_claimed() {
    let (_realm, _worker, mut session) = start().await;
    session.offered("chat").await;
    let both = json!({"n": 2, "max_tokens": 5, "stream_options": {"include_usage": true}});
    for (number, stream) in [(1, false), (2, true)] {
        let mut body = question("Count to a thousand.", both.clone());
        body["stream"] = json!(stream);
        ask(&mut session, number, stream, body).await;
        let (before, done) = session.until(worker::COMPLETE).await;
        session.acknowledge(number).await;
        let usage = &done["usage"];
        assert_eq!(usage["output"], 10, "{done}");
        assert_eq!(usage["units"], usage["input"].as_u64().unwrap() + 10);
        // What the client reads there is what it pays.
        let pieces = before.iter().filter(|(kind, _)| kind == worker::CHUNK);
        let pieces = pieces.map(|(_, data)| &data["piece"]["usage"]);
        let told: Vec<_> = pieces.chain([&done["result"]["usage"]]).collect();
        let told: Vec<_> = told.into_iter().filter(|usage| usage.is_object()).collect();
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(told[0]["completion_tokens"], 10);
        assert_eq!(told[0]["total_tokens"], usage["units"]);
    }
}

#[tokio::test]
async fn a_killed_server_fails_what_it_had_and_comes_back() {
    let (_realm, mut worker, mut session) = start().await;
    session.offered("chat").await;
    let long = question("Count to a thousand, one number a line.", json!({"max_tokens": 1_500}));
    ask(&mut session, 1, true, long).await;
    session.until(worker::CHUNK).await;
    rustix::process::kill_process(server(), rustix::process::Signal::KILL).unwrap();
    let fail: Fail = serde_json::from_value(session.until(worker::FAIL).await.1).unwrap();
    assert_eq!((fail.intent.to_string(), fail.code), (intent(1), FailCode::Backend));
    worker.until(|status| matches!(status, Status::ExecutorDown { .. })).await;
    // The offer is taken back, and made again by another process.
    let again =
        |status: &Status| matches!(status, Status::Offered { offers, .. } if !offers.is_empty());
    worker.until(again).await;
    let paris = answer(&mut session, 2, question("What is the capital of France?", json!({})));
    let paris = paris.await;
    assert!(paris["choices"][0]["message"]["content"].as_str().unwrap().contains("Paris"));
}

#[tokio::test]
async fn a_file_that_is_no_model_is_never_offered_and_says_why() {
    let realm = Realm::start().await;
    let folder = common::Folder::new();
    let file = folder.0.join("broken.gguf");
    std::fs::write(&file, b"not a model").unwrap();
    let options = EngineOptions { file, ..tiny() };
    let mut worker = Worker::start(&realm, vec![ExecutorOptions::Engine(options)]);
    let down = worker.until(|status| matches!(status, Status::ExecutorDown { .. })).await;
    let Status::ExecutorDown { executor, reason } = down else { panic!("{down:?}") };
    assert_eq!(executor, "engine tiny");
    assert!(reason.starts_with("did not load the model: "), "{reason}");
    assert!(realm.accept().await.offers.offers.is_empty());
}
