//! `mtor up` beside a server of models: found without a flag, offered once it has answered, left
//! alone if that is wished. The server is a stand-in on loopback that answers as llama-server does.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panicking, too")]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};

use common::http::{Guest, send};
use common::{Place, Realm, eventually};
use serde_json::{Value, json};

/// Serves until the test's process ends; its port.
fn llama_server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            // Whoever hangs up early is not this server's business.
            std::thread::spawn(move || answer(stream).ok());
        }
    });
    port
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut first, mut length) = (String::new(), 0);
    reader.read_line(&mut first)?;
    for line in reader.by_ref().lines() {
        let line = line?.to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    let page = match first.split(' ').nth(1).unwrap_or_default() {
        "/health" => json!({"status": "ok"}),
        "/props" => json!({"default_generation_settings": {"n_ctx": 4096}}),
        "/v1/models" => json!({"data": [{"id": "qwen.gguf", "owned_by": "llamacpp"}]}),
        "/v1/chat/completions" => json!({
            "model": asked["model"], "choices": [{"message": {"content": "Paris"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 4, "completion_tokens": 1},
        }),
        _ => Value::Null,
    };
    let status = if page.is_null() { "404 Not Found" } else { "200 OK" };
    let page = page.to_string();
    let length = page.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{page}"
    )
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
    eventually(|| models(&realm) == ["qwen.gguf"]);
    let guest = Guest::new(&realm.url);
    let ask = r#"{"model":"auto","messages":[{"role":"user","content":"The capital of France?"}]}"#;
    let answer = guest.ask("POST", "/v1/chat/completions", ask).json();
    assert_eq!(answer["choices"][0]["message"]["content"], "Paris", "{answer}");
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
