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

    let pid = server().as_raw_nonzero();
    // It may have so much and no more, and leaves nothing of what clients asked when it dies.
    let bounds = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let bound = |name: &str| {
        let line = bounds.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap()
    };
    assert_eq!(bound("Max core file size"), 0);
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmPeak:")).unwrap();
    let peak: u64 = peak.trim().strip_suffix(" kB").unwrap().parse().unwrap();
    assert!(peak * 1024 < bound("Max address space"), "{peak} kB: {bounds}");
    assert!(bound("Max address space") < 2 << 30, "{bounds}");
    // Nobody else on this machine may use the port.
    let environ = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    assert!(!String::from_utf8_lossy(&environ).contains("\"key\":"), "a key in the arguments");
}

const TOOLS: &str = r#"[{"type": "function", "function": {"name": "get_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string", "maxLength": 12}},
        "required": ["city"], "additionalProperties": false}}},
    {"type": "function", "function": {"name": "add",
    "parameters": {"type": "object", "properties": {"a": {"type": "integer", "maximum": 99}},
        "required": ["a"], "additionalProperties": false}}}]"#;

#[tokio::test]
async fn what_this_model_cannot_do_or_nobody_pays_is_refused_by_name() {
    let (_realm, _worker, mut session) = start().await;
    session.offered("chat").await;
    let tools: Value = serde_json::from_str(TOOLS).unwrap();
    for (number, field, value) in [
        (1, "tools", tools.clone()),
        (2, "functions", json!([{"name": "f"}])),
        (3, "web_search_options", json!({})),
        // More tokens, and more answers, than are paid.
        (5, "n_predict", json!(40)),
        (6, "n_cmpl", json!(2)),
    ] {
        let body = question("What is the weather in Paris?", json!({field: value}));
        ask(&mut session, number, false, body).await;
        let fail: Fail = serde_json::from_value(session.until(worker::FAIL).await.1).unwrap();
        assert_eq!((fail.code, fail.retry), (FailCode::Unsupported, false), "{}", fail.message);
        assert!(fail.message.contains(&format!("field `{field}`: ")), "{}", fail.message);
    }
    // Nothing is asked of it here.
    let none = json!({"tools": tools, "tool_choice": "none"});
    let paris = answer(&mut session, 4, question("What is the capital of France?", none)).await;
    assert!(paris["choices"][0]["message"]["content"].as_str().unwrap().contains("Paris"));
}

/// The tiny model with another template: the file says how long it is, and its weights stand at
/// multiples of 32 bytes.
fn with_template(folder: &common::Folder, template: &str) -> PathBuf {
    let mut file = std::fs::read(tiny().file).unwrap();
    let key = b"tokenizer.chat_template\x08\0\0\0";
    let at = file.windows(key.len()).position(|part| part == key).unwrap() + key.len();
    let old = u64::from_le_bytes(file[at..at + 8].try_into().unwrap());
    let old = usize::try_from(old).unwrap();
    let mut new = template.as_bytes().to_vec();
    new.extend_from_slice(b"{#");
    while (new.len() + 2) % 32 != old % 32 {
        new.push(b' ');
    }
    new.extend_from_slice(b"#}");
    let length = u64::try_from(new.len()).unwrap().to_le_bytes();
    file.splice(at..at + 8 + old, length.into_iter().chain(new));
    let path = folder.0.join("templated.gguf");
    std::fs::write(&path, file).unwrap();
    path
}

/// As the Qwen2.5-Coder files have it, shortened.
const CODER: &str = r#"{#- Qwen2.5-Coder #}
{%- if tools %}
    {{- "<|im_start|>system\nYou may call one or more functions.\n<tools>" }}
    {%- for tool in tools %}
        {{- "\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\n</tools>\n\nFor each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:\n<tool_call>\n{\"name\": <function-name>, \"arguments\": <args-json-object>}\n</tool_call><|im_end|>\n" }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == "assistant" and message.tool_calls %}
        {{- '<|im_start|>' + message.role }}
        {%- for tool_call in message.tool_calls %}
            {%- set tool_call = tool_call.function %}
            {{- '\n<tool_call>\n{"name": "' + tool_call.name + '", "arguments": ' }}
            {{- tool_call.arguments | tojson }}
            {{- '}\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}
"#;

#[tokio::test]
async fn a_call_comes_back_as_a_call_in_the_form_that_the_model_writes() {
    let folder = common::Folder::new();
    let realm = Realm::start().await;
    let options = EngineOptions { file: with_template(&folder, CODER), ..tiny() };
    let _worker = Worker::start(&realm, vec![ExecutorOptions::Engine(options)]);
    let mut session = realm.accept().await;
    session.offered("chat").await;
    let tools: Value = serde_json::from_str(TOOLS).unwrap();
    // What a coding model writes by itself: the smallest one is led to it.
    let led = json!([
        {"role": "user", "content": "Repeat:\n```json\n{\"name\": \"add\", \"arguments\": {\"a\": 7}}\n```"},
    ]);
    let one = json!({"type": "function", "function": {"name": "add"}});
    for (number, stream, choice) in
        [(1, false, json!("required")), (2, false, one.clone()), (3, true, one)]
    {
        let mut body = json!({"model": "tiny", "temperature": 0, "max_tokens": 200,
            "messages": led, "tools": tools, "tool_choice": choice});
        body["stream"] = json!(stream);
        ask(&mut session, number, stream, body).await;
        let (before, done) = session.until(worker::COMPLETE).await;
        session.acknowledge(number).await;
        let mut pieces = before.iter().filter(|(kind, _)| kind == worker::CHUNK);
        let choice = done["result"]["choices"][0].clone();
        let calls = if stream {
            let name = |piece: &Value| piece["piece"]["choices"][0]["delta"]["tool_calls"].clone();
            pieces.find_map(|(_, data)| name(data).as_array().cloned()).unwrap()
        } else {
            assert_eq!(choice["finish_reason"], "tool_calls", "{done}");
            choice["message"]["tool_calls"].as_array().unwrap().clone()
        };
        assert_eq!(calls[0]["function"]["name"], "add", "{calls:?}");
        if !stream {
            let arguments = calls[0]["function"]["arguments"].as_str().unwrap();
            let arguments: Value = serde_json::from_str(arguments).unwrap();
            assert!(arguments["a"].is_i64(), "{arguments}");
        }
    }
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
    assert!(fail.retry && fail.message.contains("engine of this model"), "{}", fail.message);
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

#[tokio::test]
async fn what_does_not_fit_is_refused_with_both_figures_before_it_is_started() {
    let realm = Realm::start().await;
    let options = EngineOptions { slots: 1_024, ..tiny() };
    let mut worker = Worker::start(&realm, vec![ExecutorOptions::Engine(options)]);
    let down = worker.until(|status| matches!(status, Status::ExecutorDown { .. })).await;
    let Status::ExecutorDown { reason, .. } = down else { panic!("{down:?}") };
    assert!(reason.starts_with("needs about ") && reason.contains(" MiB are free"), "{reason}");
    assert!(realm.accept().await.offers.offers.is_empty());
}
