//! The official OpenAI client for Python against a realm with real models.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panicking, too")]

mod common;

use std::path::Path;
use std::process::Command;

use common::http::Guest;
use common::{Place, Realm};

#[test]
fn the_official_client_needs_no_change() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let python = root.join(".venv/bin/python");
    assert!(python.exists(), "the client is not installed: run `make python`");
    let place = Place::new();
    let models = root.join(".models").canonicalize().expect("models: run `make models`");
    let realm = Realm::with_models(&place, &models);
    let guest = Guest::new(&realm.url);
    let script = root.join("scripts/python/openai_client.py");
    let output = Command::new(python).arg(script).args([&realm.url, &guest.key]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.trim() == "ok", "{said}{errors}");
    let (spendable, held) = guest.grant();
    assert!(spendable < 1_000_000 && held == 0, "{spendable} {held}");
}
