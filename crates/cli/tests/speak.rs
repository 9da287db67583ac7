//! A text said through a realm: what it is bounded by, what it costs, and what comes back, with the
//! real models of a worker.

use std::path::Path;
use std::process::{Child, Stdio};

use crate::common::events::Events;
use crate::common::http::Guest;
use crate::common::{Place, Realm, eventually, models_dir};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// Characters, at 2 s each and 20 base units a second.
const INPUT: &str = "The harbor is quiet. The ships are asleep.";
const HELD: u64 = INPUT.len() as u64 * 2_000 * 20 / 1000;

/// Ended with its test, by its own pid.
struct Worker(Child);

impl Worker {
    fn start(place: &Place, owner: &Guest) -> Self {
        let token = owner.ask("POST", "/v1/workers/tokens", "").json()["token"].clone();
        place.write("token", token.as_str().unwrap(), 0o600);
        let program = Path::new(env!("CARGO_BIN_EXE_mtor")).with_file_name("mtor-models");
        let (program, models) = (program.to_str().unwrap(), models_dir());
        let to = ["worker", "--realm", &owner.url, "--token-file", "token", "--data", "w"];
        let with = ["--no-fft", "--no-echo", "--exec", program, "--models"];
        let what = [models.to_str().unwrap(), "--serve", "speak", "--speaker", "kokoro-82m"];
        let mut command = place.command(&[to.as_slice(), &with, &what].concat());
        Self(command.stdout(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Already ended is fine.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn samples(of: &Value) -> u64 {
    STANDARD.decode(of["audio"].as_str().unwrap()).unwrap().len() as u64 / 2
}

#[test]
fn a_text_comes_back_as_sound_in_pieces_and_is_paid_by_its_length() {
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    let guest = Guest::new(&realm.url);
    let data = json!({"input": INPUT, "response_format": "pcm", "stream": true});
    let body = json!({"intent": "speak", "data": data}).to_string();

    // Who serves himself pays nothing, so it is somebody else's worker.
    let _worker = Worker::start(&place, &Guest::new(&realm.url));
    let models = || guest.ask("GET", "/v1/models", "").json()["data"].clone();
    eventually(|| models().as_array().unwrap().iter().any(|one| one["id"] == "kokoro-82m"));
    // What it may cost is known before anybody says it.
    let quote = guest.ask("POST", "/v1/quote", &body);
    assert_eq!(quote.json()["ceiling"], HELD.to_string(), "{quote:?}");
    let before = guest.grant().0;
    let mut events = Events::submit(&guest, &body);
    assert_eq!(events.next("accepted")["hold"]["amount"], HELD.to_string());
    let first = events.next("chunk")["piece"].clone();
    assert_eq!(first["text"], "The harbor is quiet.");
    let second = events.next("chunk")["piece"].clone();
    assert_eq!(second["text"], "The ships are asleep.");
    let end = events.next("completed");
    let result = &end["result"];
    // It costs what it is long, and that is what came.
    let ms = result["duration_ms"].as_u64().unwrap();
    assert_eq!((samples(&first) + samples(&second)) / 24, ms);
    assert_eq!(result["segments"].as_array().unwrap().len(), 2);
    assert!((2_000..8_000).contains(&ms), "{ms}");
    let cost = ms * 20 / 1000;
    assert_eq!(end["cost"]["amount"], cost.to_string());
    eventually(|| guest.grant() == (before - cost, 0));

    // The worker says what it cannot do, and nothing is paid.
    let strange = json!({"input": INPUT, "voice": "shimmer"});
    let mut events =
        Events::submit(&guest, &json!({"intent": "speak", "data": strange}).to_string());
    events.next("accepted");
    let failed = events.next("failed");
    assert!(failed.to_string().contains("voice must be one of af_alloy"), "{failed}");
    eventually(|| guest.grant() == (before - cost, 0));
}

#[test]
fn what_cannot_be_said_is_refused_before_anything_is_held() {
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    let guest = Guest::new(&realm.url);
    let before = guest.grant();
    for (data, told) in [
        (json!({}), "input"),
        (json!({"input": ""}), "input"),
        (json!({"input": "x".repeat(5_000)}), "input"),
        (json!({"input": "x", "speed": 9}), "speed"),
        (json!({"input": "x", "response_format": "midi"}), "response_format"),
    ] {
        let body = json!({"intent": "speak", "data": data}).to_string();
        let reply = guest.ask("POST", "/v1/intents", &body);
        let error = &reply.json()["error"];
        assert_eq!(reply.status, 400, "{error}");
        assert!(error["message"].as_str().unwrap().contains(told), "{error}");
        assert_ne!(error["field"], Value::Null, "{error}");
    }
    let low = json!({"intent": "speak", "data": {"input": INPUT}, "ceiling": "5"});
    let (status, code) = guest.ask("POST", "/v1/intents", &low.to_string()).refusal();
    assert_eq!((status, code.as_str()), (402, "MT0013"));
    assert_eq!(guest.grant(), before);
}
