//! Models that come behind a running realm: what is chosen, how it is told, who answers meanwhile.
//! The models and their engine are real; where they come from is a place on loopback.

use std::sync::atomic::Ordering;

use crate::common::http::{Guest, send};
use crate::common::source::Source;
use crate::common::{Done, Place, Realm, eventually, models_dir, signal};
use serde_json::Value;

const TINY: &str = "smollm2-135m-instruct";
const QUESTION: &str =
    r#"{"model":"auto","messages":[{"role":"user","content":"Say hello."}],"max_tokens":4}"#;

fn list(realm: &Realm) -> Value {
    send(&realm.url, "GET", "/v1/models", &[], b"").json()
}

fn arriving(realm: &Realm, id: &str) -> Value {
    let list = list(realm);
    let arriving = list["arriving"].as_array().unwrap();
    arriving.iter().find(|one| one["id"] == id).cloned().unwrap_or_default()
}

fn up(place: &Place, source: &str, more: &[&str]) -> std::process::Command {
    let mut command = Realm::command(place, "127.0.0.1:0", more);
    command.env("MTOR_MODELS", place.path().join("models")).env("MTOR_MODEL_SOURCE", source);
    command
}

#[test]
fn the_realm_is_up_at_once_and_tells_how_its_model_comes() {
    let place = Place::new();
    let source = Source::of(&models_dir(), 2_000_000);
    let realm = Realm::of(up(&place, &source.url, &["--model", "tiny"]));
    let chosen = realm.ready["models"][0].clone();
    assert_eq!((&chosen["id"], &chosen["problem"]), (&TINY.into(), &Value::Null));

    // A page that asks now learns how far it is, and a question how long it takes.
    eventually(|| arriving(&realm, TINY)["left_ms"].is_u64());
    let told = arriving(&realm, TINY);
    assert_eq!(told["state"], "fetching", "{told}");
    let number = |name: &str| told[name].as_u64().unwrap();
    assert!(number("received") > 0 && number("bytes") > 200_000_000, "{told}");
    assert!((1..=20_000_000).contains(&number("rate")), "{told}");
    assert_eq!(told["about"]["title"], "SmolLM2 135M Instruct");
    let guest = Guest::new(&realm.url);
    let early = guest.ask("POST", "/v1/chat/completions", QUESTION);
    assert_eq!(early.status, 503, "{early:?}");
    assert!(early.json().to_string().contains("is being fetched"), "{early:?}");
    let progress = realm.wait("model", "fetching");
    assert_eq!(progress["id"], TINY);

    source.rate.store(2_000_000_000, Ordering::Relaxed);
    realm.serves(TINY);
    let answer = guest.ask("POST", "/v1/chat/completions", QUESTION);
    assert_eq!((answer.status, &answer.json()["model"]), (200, &TINY.into()), "{answer:?}");
    assert_eq!(arriving(&realm, TINY), Value::Null);
    assert_eq!(list(&realm)["default"]["chat"], TINY);
}

#[test]
fn what_is_here_is_served_at_the_next_start_and_nothing_is_fetched() {
    let place = Place::new();
    std::os::unix::fs::symlink(models_dir(), place.path().join("models")).unwrap();
    let realm = Realm::of(up(&place, "/nowhere", &["--model", "tiny"]));
    let worker = realm.wait_worker("spawned")["pid"].as_u64().unwrap();
    realm.serves(TINY);
    // A worker that died is told anew what to serve.
    signal(u32::try_from(worker).unwrap(), rustix::process::Signal::KILL);
    realm.wait_worker("died");
    while realm.wait("model", "serving")["id"] != TINY {}
    realm.serves(TINY);
    let answer = Guest::new(&realm.url).ask("POST", "/v1/chat/completions", QUESTION);
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[test]
fn a_source_that_fails_is_told_with_its_reason_and_asked_again() {
    let place = Place::new();
    let empty = place.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let source = Source::of(&empty, 1_000_000);
    let realm = Realm::of(up(&place, &source.url, &["--model", "tiny"]));
    let refused = realm.wait("model", "refused");
    assert!(refused["problem"].as_str().unwrap().contains("404"), "{refused}");
    let failed = realm.wait("model", "failed");
    assert!(failed["problem"].as_str().unwrap().contains("could not be fetched"), "{failed}");
    let told = arriving(&realm, TINY);
    assert_eq!((&told["state"], &told["problem"]), (&"failed".into(), &failed["problem"]));
    // It goes on by itself once the source has it.
    for entry in std::fs::read_dir(models_dir()).unwrap().map(Result::unwrap) {
        if !entry.file_name().to_string_lossy().starts_with('.') {
            std::os::unix::fs::symlink(entry.path(), empty.join(entry.file_name())).unwrap();
        }
    }
    source.rate.store(2_000_000_000, Ordering::Relaxed);
    realm.serves(TINY);
}

#[test]
fn a_realm_that_stops_while_it_fetches_leaves_nobody_behind_and_goes_on_later() {
    let place = Place::new();
    let source = Source::of(&models_dir(), 20_000_000);
    let realm = Realm::of(up(&place, &source.url, &["--model", "tiny"]));
    eventually(|| arriving(&realm, TINY)["received"].as_u64() > Some(1_000_000));
    assert_eq!(realm.stop(), Some(0));
    let part = place.path().join("models/.xllamacpp-2026.10.11549.abi3.so.part");
    let arrived = part.metadata().unwrap().len();
    assert!(arrived > 1_000_000, "{arrived}");

    source.rate.store(0, Ordering::Relaxed);
    let realm = Realm::of(up(&place, &source.url, &["--model", "tiny"]));
    realm.wait("model", "fetching");
    assert!(part.metadata().unwrap().len() >= arrived, "what has come stays");
}

#[test]
fn an_own_model_and_several_at_once() {
    let place = Place::new();
    let folder = models_dir();
    let models = place.path().join("models");
    let weights = folder.join("smollm2-135m-instruct.q4_1.gguf");
    let add = ["models", "--dir", "models", "add", "mine", weights.to_str().unwrap()];
    place.run(&add).good();
    let realm =
        Realm::of(up(&place, folder.to_str().unwrap(), &["--model", "mine", "--model", "tiny"]));
    ["mine", TINY, "all-minilm-l6-v2"].iter().for_each(|id| realm.serves(id));
    let list = list(&realm);
    let ids: Vec<_> = list["data"].as_array().unwrap().iter().map(|one| &one["id"]).collect();
    assert!(ids.contains(&&"mine".into()) && ids.contains(&&TINY.into()), "{list}");
    assert_eq!(list["default"]["chat"], "mine", "the first that was asked for");
    assert!(models.join("mine.gguf").is_file());
}

#[test]
fn what_is_missing_is_said_at_the_start_with_the_remedy() {
    let place = Place::new();
    let mut command = up(&place, "/nowhere", &["--model", "tiny"]);
    command.env("PATH", "/nowhere");
    let realm = Realm::of(command);
    let problem = realm.ready["models"][0]["problem"].as_str().unwrap().to_owned();
    assert!(problem.contains("python3") && problem.contains("install"), "{problem}");
    eventually(|| arriving(&realm, TINY)["problem"] == *problem);

    let mut command = place.bare(&["up", "--data", "other", "--model", "best"]);
    let done = Done::of(command.env("MTOR_MODELS", "models").output().unwrap());
    assert_eq!(done.code, Some(2), "{done:#?}");
    assert!(
        done.stderr.contains("`best`") && done.stderr.contains("good, small, tiny"),
        "{done:#?}"
    );
}
