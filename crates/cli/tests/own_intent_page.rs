//! `docs/own-intent.md`, run as it stands: its files are written, its commands executed.

use std::path::Path;
use std::process::Command;

use crate::common::http::{Guest, send};
use crate::common::worker::Worker;
use crate::common::{Place, Realm, eventually};

const PAGE: &str = include_str!("../../../docs/own-intent.md");

/// Of those in that language, in order.
fn blocks(language: &str) -> Vec<&'static str> {
    let parts = PAGE.split("\n```").skip(1).step_by(2);
    parts.filter_map(|part| part.strip_prefix(language)?.strip_prefix('\n')).collect()
}

/// A shell in that folder that finds `mtor`, and the realm where it is.
fn shell(place: &Place, url: &str, script: &str) -> Command {
    let mtor = Path::new(env!("CARGO_BIN_EXE_mtor"));
    let template = place.command(&[]);
    let path = template.get_envs().find(|(name, _)| *name == "PATH").and_then(|(_, path)| path);
    let path = format!("{}:{}", mtor.parent().unwrap().display(), path.unwrap().to_string_lossy());
    let mut command = Command::new("sh");
    command.args(["-euc", script]).current_dir(place.path()).env_clear();
    command.env("PATH", path).env("HOME", place.path()).env("MTOR_REALM", url);
    command
}

#[test]
fn the_page_leads_to_a_served_priced_and_streamed_intent() {
    let place = Place::new();
    let commands = blocks("sh");
    let [up, manifest, token, worker, ask, change] = commands.as_slice() else {
        panic!("another number of commands: {commands:?}")
    };
    // Only the address is another: several tests run at once.
    assert_eq!(*up, "mtor up --data realm");
    let arguments =
        ["up", "--json", "--data", "realm", "--listen", "127.0.0.1:0", "--log", "text/warn"];
    let realm = Realm::of(place.command(&arguments));
    let run = |script: &str| {
        let output = shell(&place, &realm.url, script).output().unwrap();
        assert!(output.status.success(), "{script}: {output:?}");
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    place.write("word-count.toml", blocks("toml")[0], 0o644);
    place.write("word_count.py", blocks("python")[0], 0o644);
    assert!(run(manifest).contains("word-count.toml is good: word-count"));
    assert_eq!(realm.wait("manifest", "added")["name"], "word-count");
    run(token);
    let serving = shell(&place, &realm.url, &format!("exec {worker}"));
    let _serving = Worker::of(serving);
    let pools = || send(&realm.url, "GET", "/v1/pools", &[], b"").body;
    eventually(|| pools().contains("word-count"));

    let said = run(ask);
    for part in [
        r#"{"line": 1, "words": 6}"#,
        r#"{"line": 2, "words": 4}"#,
        r#""be": 2"#,
        "cost 0 base units",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let guest = Guest::new(&realm.url);
    let quote = r#"{"intent":"word-count","trust":"any","data":{"text":"a"}}"#;
    let price = || guest.ask("POST", "/v1/quote", quote).json()["price"]["amount"].clone();
    assert_eq!(price(), "10");
    run(change);
    assert_eq!(realm.wait("manifest", "changed")["name"], "word-count");
    eventually(|| price() == "20");
}

#[test]
fn the_example_is_the_pages_handler() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/word-count/word_count.py");
    let example = std::fs::read_to_string(path).unwrap();
    assert_eq!(example.trim_end(), blocks("python")[0].trim_end());
}
