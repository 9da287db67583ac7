//! `mtor up` beside a server of models: found without a flag, offered once it has answered, left
//! alone if that is wished. The server is a stand-in on loopback that answers as llama-server does,
//! and once llama.cpp's own with the tiny model (`make models`).

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::common::backend;
use crate::common::http::{Guest, send};
use crate::common::source::Source;
use crate::common::{Place, Realm, eventually, models_dir};
use serde_json::{Value, json};

fn llama_server() -> u16 {
    backend::serve(|path, asked| match path {
        "/health" => json!({"status": "ok"}),
        "/props" => json!({"default_generation_settings": {"n_ctx": 4096}}),
        "/v1/models" => json!({"data": [{"id": "/srv/llm/qwen.gguf", "owned_by": "llamacpp"}]}),
        "/v1/chat/completions" => json!({
            "model": asked["model"], "choices": [{"message": {"content": "Paris"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 4, "completion_tokens": 1},
        }),
        _ => Value::Null,
    })
}

fn up(place: &Place, port: u16, more: &[&str]) -> Realm {
    let mut command = Realm::command(place, "127.0.0.1:0", more);
    command.env("MTOR_DISCOVER_PORTS", port.to_string());
    Realm::of(command)
}

fn models(realm: &Realm) -> Vec<String> {
    let list = send(&realm.url, "GET", "/v1/models", &[], b"").json();
    let ids = list["data"].as_array().unwrap().iter();
    ids.map(|model| model["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_runs_here_is_found_and_answers_without_a_flag() {
    let (place, port) = (Place::new(), llama_server());
    let realm = up(&place, port, &[]);
    let found = realm.wait_worker("found");
    assert_eq!(found["server"], "llama-server");
    assert_eq!(found["url"], format!("http://127.0.0.1:{port}"));
    eventually(|| models(&realm) == ["qwen"]);
    let guest = Guest::new(&realm.url);
    let ask = r#"{"model":"auto","messages":[{"role":"user","content":"What is the capital of France?"}]}"#;
    let answer = guest.ask("POST", "/v1/chat/completions", ask).json();
    assert_eq!(answer["choices"][0]["message"]["content"], "Paris", "{answer}");
}

/// llama.cpp's own server as anybody may run it: no alias, no key. It ends with its input.
struct LlamaServer {
    child: Child,
    port: u16,
    _stdin: ChildStdin,
}

impl LlamaServer {
    fn start() -> Self {
        const SCRIPT: &str = r#"
import importlib.machinery, importlib.util, os, sys, threading
loader = importlib.machinery.ExtensionFileLoader("xllamacpp", sys.argv[1])
llama = importlib.util.module_from_spec(importlib.util.spec_from_loader("xllamacpp", loader))
loader.exec_module(llama)
params = llama.CommonParams()
params.model.path = sys.argv[2]
params.port, params.n_parallel, params.n_ctx, params.verbosity = 0, 1, 2048, 1
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
server = llama.Server(params)
print(server.listening_address.rsplit(":", 1)[1], flush=True)
sys.stdin.read()
os._exit(0)
"#;
        let models = models_dir();
        let (engine, file) = (
            models.join("xllamacpp-2026.10.11549.abi3.so"),
            models.join("smollm2-135m-instruct.q4_1.gguf"),
        );
        assert!(file.is_file() && engine.is_file(), "models missing: run `make models`");
        let mut command = Command::new("python3");
        command.args(["-I", "-c", SCRIPT]).arg(engine).arg(file);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().parse().unwrap();
        let stdin = child.stdin.take().unwrap();
        Self { child, port, _stdin: stdin }
    }
}

impl Drop for LlamaServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_real_llama_server_is_found_offered_by_its_files_name_and_answers() {
    let (place, server) = (Place::new(), LlamaServer::start());
    let realm = up(&place, server.port, &[]);
    let found = realm.wait_worker("found");
    assert_eq!(found["server"], "llama-server");
    assert_eq!(found["url"], format!("http://127.0.0.1:{}", server.port));
    eventually(|| models(&realm) == ["smollm2-135m-instruct.q4_1"]);
    let guest = Guest::new(&realm.url);
    let ask = r#"{"model":"auto","temperature":0,"max_tokens":24,
        "messages":[{"role":"system","content":""},{"role":"user","content":"What is the capital of France?"}]}"#;
    let answer = guest.ask("POST", "/v1/chat/completions", ask).json();
    assert!(
        answer["choices"][0]["message"]["content"].as_str().unwrap().contains("Paris"),
        "{answer}"
    );
    // Nothing in it tells where its owner keeps files.
    assert_eq!(answer["model"], "smollm2-135m-instruct.q4_1");
    assert!(!answer.to_string().contains(models_dir().to_str().unwrap()), "{answer}");
    let tools = r#"{"messages":[{"role":"user","content":"x"}],"tools":[{"type":"function","function":{"name":"f"}}]}"#;
    let refused = guest.ask("POST", "/v1/chat/completions", tools);
    assert_eq!(refused.status, 400, "{refused:?}");
    let error = refused.json()["error"].clone();
    assert_eq!(error["code"], "MT0029", "{error}");
    assert!(error["message"].as_str().unwrap().starts_with("field `tools`: "), "{error}");
}

#[test]
fn no_discover_looks_nowhere() {
    let (place, port) = (Place::new(), llama_server());
    let realm = up(&place, port, &["--no-discover"]);
    let offered = realm.wait_worker("offered");
    assert_eq!(offered["full"], true);
    realm.wait_worker("ready");
    assert!(models(&realm).is_empty());
}

#[test]
fn up_hands_the_names_of_models_to_its_worker() {
    let (place, port) = (Place::new(), llama_server());
    let realm = up(&place, port, &["--backend-model=-not-here"]);
    let missing = realm.wait_worker("model_left_out");
    assert_eq!(missing["model"], "-not-here", "{missing}");
    eventually(|| models(&realm) == ["qwen"]);
    let done = place.run(&["up", "--backend-model", "m", "--no-discover"]);
    assert_eq!(done.code, Some(2), "{done:?}");
}

#[test]
fn names_of_models_are_checked_before_anything_is_done() {
    let place = Place::new();
    let check = |more: &[&str], words: &[&str]| {
        let arguments = [&["worker", "--realm", "http://127.0.0.1:9"], more].concat();
        let done = place.run(&arguments);
        assert_eq!(done.code, Some(2), "{done:?}");
        for word in words {
            assert!(done.stderr.contains(word), "{word} in {done:?}");
        }
    };
    check(&["--discover", "--served-model-name", "good"], &["NAME=MODEL", "good=qwen2.5:7b"]);
    check(&["--discover", "--served-model-name", "auto=m"], &["`auto`", "another NAME"]);
    check(&["--served-model-name", "good=m"], &["--served-model-name", "--discover"]);
    let twice = ["--served-model-name", "good=a", "--served-model-name", "good=b"];
    check(&[&["--discover"], &twice[..]].concat(), &["good", "twice"]);
}

#[test]
fn no_chat_model_is_fetched_while_one_that_was_found_answers() {
    let (place, port) = (Place::new(), llama_server());
    // All that could be fetched is here, and nothing of it ever comes.
    let held = Source::of(&models_dir(), 0);
    let data = place.path().join("data");
    let up = ["up", "--json", "--listen", "127.0.0.1:0", "--data", data.to_str().unwrap()];
    let mut command = place.bare(&up);
    command.env("MTOR_DISCOVER_PORTS", port.to_string());
    command.env("MTOR_MODELS", place.path().join("models")).env("MTOR_MODEL_SOURCE", &held.url);
    let realm = Realm::of(command);
    let chosen = realm.ready["models"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(realm.wait("model", "held")["id"], *chosen);
    // The worker tells its parent before the realm has heard it.
    let list = || send(&realm.url, "GET", "/v1/models", &[], b"").json();
    eventually(|| list()["default"]["chat"].is_string());
    let list = list();
    let found = list["default"]["chat"].as_str().unwrap();
    assert!(found.starts_with("qwen"), "{list}");
    let coming = list["arriving"].as_array().unwrap();
    assert!(coming.iter().all(|one| one["intent"] != "chat"), "{list}");
    let question = r#"{"model":"auto","messages":[{"role":"user","content":"France?"}]}"#;
    let answer = Guest::new(&realm.url).ask("POST", "/v1/chat/completions", question);
    assert_eq!((answer.status, &answer.json()["model"]), (200, &found.into()), "{answer:?}");
}
