//! The official OpenAI client for Python against a realm with real models.

use std::path::Path;
use std::process::Command;

use crate::common::http::Guest;
use crate::common::{Place, Realm, eventually};

#[test]
fn the_official_client_needs_no_change() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let python = root.join(".venv/bin/python");
    assert!(python.exists(), "the client is not installed: run `make python`");
    let place = Place::new();
    let realm = Realm::with_models(&place);
    let guest = Guest::new(&realm.url);
    let script = root.join("scripts/python/openai_client.py");
    let output = Command::new(python).arg(script).args([&realm.url, &guest.key]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.trim() == "ok", "{said}{errors}");
    let (spendable, held) = guest.grant();
    assert!(spendable < 1_000_000 && held == 0, "{spendable} {held}");
}

#[test]
fn real_work_costs_what_was_metered_and_at_most_what_was_quoted() {
    let place = Place::new();
    let realm = Realm::with_models(&place);
    let guest = Guest::new(&realm.url);
    let work = [
        (
            "chat",
            "/v1/chat/completions",
            r#"{"messages":[{"role":"user","content":"Count to twenty."}],"max_tokens":12}"#,
        ),
        ("embed", "/v1/embeddings", r#"{"input":["a sentence of some length","and another"]}"#),
    ];
    for (name, path, data) in work {
        let quote = format!(r#"{{"intent":"{name}","data":{data}}}"#);
        let quote = guest.ask("POST", "/v1/quote", &quote).json();
        let number = |value: &serde_json::Value| value.as_str().unwrap().parse::<u64>().unwrap();
        let (most, amount) = (number(&quote["ceiling"]), number(&quote["price"]["amount"]));
        let per = quote["price"]["per"].as_u64().unwrap();
        let (before, _) = guest.grant();
        let answer = guest.ask("POST", path, data);
        assert_eq!(answer.status, 200, "{answer:?}");
        // The answer may leave before its settlement is seen.
        eventually(|| guest.grant().1 == 0 && guest.grant().0 < before);
        let paid = before - guest.grant().0;
        let units = match name {
            "chat" => answer.json()["usage"]["total_tokens"].as_u64().unwrap(),
            _ => u64::try_from(data.len()).unwrap(),
        };
        assert_eq!(paid, units * amount / per, "{name}: {units} units, {}", answer.json()["usage"]);
        assert!(paid <= most, "{name}: {paid} of {most}");
    }
}
