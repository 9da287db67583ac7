//! A text said through a realm: what it is bounded by, what it costs, and what comes back, with the
//! real models of a worker.

use crate::common::events::Events;
use crate::common::http::Guest;
use crate::common::worker::Worker;
use crate::common::{Place, Realm, eventually};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// Characters, at 2 s each and 20 base units a second.
const INPUT: &str = "The harbor is quiet. The ships are asleep.";
const HELD: u64 = INPUT.len() as u64 * 2_000 * 20 / 1000;

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

    let _worker = Worker::voice(&place, &realm, &["--serve", "speak", "--speaker", "kokoro-82m"]);
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

/// The whole way with the plain voice: a worker, a realm, a file, and what it cost.
#[test]
fn flite_speaks_where_a_worker_is_told_so() {
    if std::process::Command::new("flite").arg("--version").output().is_err() {
        eprintln!("skipped: flite is not here (apt-get install flite)");
        return;
    }
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    let guest = Guest::new(&realm.url);
    let serve = ["--serve", "speak", "--speaker", "flite"];
    let _worker = Worker::voice(&place, &realm, &serve);
    realm.serves("flite");
    let before = guest.grant().0;
    let data = json!({"input": INPUT, "voice": "rms", "response_format": "pcm", "stream": false});
    let mut events = Events::submit(&guest, &json!({"intent": "speak", "data": data}).to_string());
    let end = events.next("completed");
    let result = &end["result"];
    assert_eq!((&result["voice"], &result["rate"]), (&json!("rms"), &json!(24_000)));
    let ms = result["duration_ms"].as_u64().unwrap();
    assert!((2_000..8_000).contains(&ms) && samples(result) / 24 == ms, "{ms}");
    eventually(|| guest.grant() == (before - ms * 20 / 1000, 0));
    // The other one's voices are not its own.
    let body = json!({"input": INPUT, "voice": "af_heart"}).to_string();
    let error = guest.ask("POST", "/v1/audio/speech", &body).json()["error"].clone();
    assert_eq!((&error["code"], &error["param"]), (&json!("MT0029"), &json!("voice")));
    assert!(error["message"].as_str().unwrap().contains("which flite has"), "{error}");
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
        (json!({"input": "x".repeat(5_000)}), "a text of 1 to 4096 characters, not 5000"),
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
