//! Speech through a realm: what it is bounded by, what it costs, and what comes back, with the real
//! models of a worker.

use std::io::Read as _;

use crate::common::events::Events;
use crate::common::http::{Guest, open, send};
use crate::common::worker::Worker;
use crate::common::{Place, Realm, eventually, models_dir};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// Two sentences of a synthetic voice, two seconds apart.
const SPOKEN: &[u8] = include_bytes!("../../models/tests/exec/data/spoken.ogg");
const VORBIS: &[u8] = include_bytes!("../../sound/tests/data/vorbis.ogg");
/// Ten seconds by its packets, at 20 base units a second.
const COST: u64 = 200;

#[test]
fn speech_comes_back_as_text_in_pieces_and_is_paid_by_its_length() {
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    let guest = Guest::new(&realm.url);
    let data = json!({"audio": STANDARD.encode(SPOKEN), "language": "en"});
    let body = json!({"intent": "transcribe", "data": data}).to_string();

    let _worker = Worker::voice(&place, &realm, &["--serve", "transcribe"]);
    let models = || guest.ask("GET", "/v1/models", "").json()["data"].clone();
    eventually(|| models().as_array().unwrap().iter().any(|one| one["id"] == "moonshine-tiny-en"));
    // The price is known before anybody hears it.
    let quote = guest.ask("POST", "/v1/quote", &body);
    assert_eq!(quote.json()["ceiling"], COST.to_string(), "{quote:?}");
    let before = guest.grant().0;
    let mut events = Events::submit(&guest, &body);
    assert_eq!(events.next("accepted")["hold"]["amount"], COST.to_string());
    let first = events.next("chunk")["piece"].clone();
    assert!(first["text"].as_str().unwrap().contains("worst"), "{first}");
    let second = events.next("chunk")["piece"].clone();
    assert!(second["text"].as_str().unwrap().contains("quiet"), "{second}");
    let end = events.next("completed");
    assert_eq!(end["result"]["segments"], json!([first, second]));
    assert_eq!(end["cost"]["amount"], COST.to_string());
    eventually(|| guest.grant() == (before - COST, 0));
}

#[test]
fn what_is_no_sound_is_refused_before_anything_is_held() {
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    let guest = Guest::new(&realm.url);
    let before = guest.grant();
    let spoken = STANDARD.encode(SPOKEN);
    for (data, told) in [
        (json!({"audio": spoken, "format": "wav"}), "the sound is wav, and its bytes are not"),
        (json!({"audio": "AAAA"}), "of no kind that is taken"),
        (json!({"audio": spoken, "beam": 5}), "beam"),
        (json!({"audio": STANDARD.encode(&SPOKEN[..40])}), "the sound (ogg) is broken"),
        (json!({"audio": STANDARD.encode(VORBIS)}), "holds Vorbis; ogg is taken with Opus alone"),
        (json!({}), "audio"),
    ] {
        let body = json!({"intent": "transcribe", "data": data}).to_string();
        let reply = guest.ask("POST", "/v1/intents", &body);
        let error = &reply.json()["error"];
        assert_eq!(reply.status, 400, "{error}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(told), "{message}");
        assert_ne!(error["field"], Value::Null, "{error}");
    }
    let low = json!({"intent": "transcribe", "data": {"audio": spoken}, "ceiling": "5"});
    let (status, code) = guest.ask("POST", "/v1/intents", &low.to_string()).refusal();
    assert_eq!((status, code.as_str()), (402, "MT0013"));
    assert_eq!(guest.grant(), before);
}

/// So that a visitor's own device can hear: the page checks the same hashes.
#[test]
fn a_realm_that_has_the_model_gives_its_files_to_pages() {
    let place = Place::new();
    let mut command = Realm::command(&place, "127.0.0.1:0", &["--model", "moonshine-tiny-en"]);
    command.env("MTOR_MODELS", models_dir()).env("MTOR_MODEL_SOURCE", "/nowhere");
    let realm = Realm::of(command);
    for (name, kept) in [
        ("encoder.ort", "moonshine-tiny-en.encoder.ort"),
        ("decoder.ort", "moonshine-tiny-en.decoder.ort"),
        ("tokenizer.bin", "moonshine-tiny-en.tokenizer.bin"),
    ] {
        let path = format!("/v1/models/moonshine-tiny-en/files/{name}");
        eventually(|| send(&realm.url, "HEAD", &path, &[], b"").status == 200);
        let mut answer = Vec::new();
        open(&realm.url, "GET", &path, &[], b"").read_to_end(&mut answer).unwrap();
        let file = std::fs::read(models_dir().join(kept)).unwrap();
        assert!(answer.ends_with(&file), "{name}: {} bytes", answer.len());
    }
    let other = "/v1/models/moonshine-tiny-en/files/silero-vad-16k.onnx";
    assert_eq!(send(&realm.url, "GET", other, &[], b"").status, 404);
}
