//! What a realm is told of its models: the list says it, `auto` follows it, and who comes too early
//! hears how long.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::time::Instant;

use crate::common::events::Events;
use crate::common::http::{Guest, open, send};
use crate::common::socket::Socket;
use crate::common::worker::Worker;
use crate::common::{Place, eventually};
use mtor_server::{
    Arriving, ArrivingState, ModelAbout, ModelsTold, OfferedAs, Realm, RealmOptions, Teller, Weight,
};
use serde_json::{Value, json};

/// Answers with what it was given, for the models named in its arguments.
const PROGRAM: &str = r#"
import json, sys
def say(kind, **data):
    print(json.dumps({"specversion": "1.0", "id": "1", "source": "p", "type": f"mtor.worker.{kind}.v1", "data": data}), flush=True)
say("offer", offers=[{"intent": m.split("/", 1)[0], "model": m.split("/", 1)[1], "slots": 4} for m in sys.argv[1:]])
for event in map(json.loads, sys.stdin):
    if event["type"] == "mtor.worker.assign.v1":
        work = event["data"]
        key = {name: work[name] for name in ("intent", "attempt")}
        result = {"model": work["model"], "data": work["data"], "choices": [{"message": {"content": "yes"}}]}
        if work["name"] == "embed":
            result = {"asked": work["data"], "data": [{"embedding": [0.5]}]}
        say("complete", **key, usage={"units": 1}, result=result)
"#;

/// A realm in this process, so that it can be told.
struct Told {
    url: String,
    token: String,
    teller: Teller,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Told {
    fn start(place: &Place) -> Self {
        let options = RealmOptions::new(place.path().join("data"), "127.0.0.1:0".parse().unwrap());
        let (opened, open) = std::sync::mpsc::sync_channel(1);
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
            runtime.unwrap().block_on(async move {
                let realm = Realm::open(options).await.unwrap();
                let token = realm.embedded_worker_token().unwrap().to_owned();
                opened.send((realm.url().to_owned(), token, realm.teller())).unwrap();
                realm.run(async move { drop(stopped.await) }).await;
            });
        });
        let (url, token, teller) = open.recv().unwrap();
        Self { url, token, teller, stop: Some(stop), thread: Some(thread) }
    }

    /// A worker of the realm's own that offers these, as `intent/model`.
    fn worker(&self, place: &Place, models: &[&str]) -> Worker {
        place.write("program.py", PROGRAM, 0o644);
        let with = ["--exec", "python3", "program.py"];
        Worker::joined(place, &self.url, &self.token, "w", &[&with[..], models].concat())
    }

    fn models(&self) -> Value {
        send(&self.url, "GET", "/v1/models", &[], b"").json()
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

fn about(title: &str) -> ModelAbout {
    ModelAbout {
        title: title.into(),
        bytes: 1_117_320_768,
        maker: "a maker".into(),
        licence: "Apache-2.0".into(),
        note: Some("a coding model".into()),
    }
}

fn told(defaults: &[(&str, &str)], models: &[&str]) -> ModelsTold {
    let pair = |(intent, id): &(&str, &str)| ((*intent).to_owned(), (*id).to_owned());
    ModelsTold {
        about: models.iter().map(|id| ((*id).to_owned(), about(id))).collect(),
        arriving: Vec::new(),
        defaults: defaults.iter().map(pair).collect::<BTreeMap<_, _>>(),
    }
}

#[test]
fn auto_is_the_realms_default_on_every_route() {
    let place = Place::new();
    let realm = Told::start(&place);
    let offers = ["chat/alpha", "chat/good", "chat/small", "embed/mini"];
    let _worker = realm.worker(&place, &offers);
    eventually(|| realm.models()["data"].as_array().unwrap().len() == offers.len());
    // Nothing was told: the first by name.
    assert_eq!(realm.models()["default"], json!({"chat": "alpha", "embed": "mini"}));
    assert_eq!(realm.models()["data"][0].get("about"), None);
    // The most capable that is offered, then the default.
    realm.teller.tell_models(told(&[("chat", "absent")], &["absent", "good", "small"]));
    let list = realm.models();
    assert_eq!(
        (&list["default"]["chat"], &list["preferred"]["chat"]),
        (&"good".into(), &"absent".into())
    );
    realm.teller.tell_models(told(&[("chat", "small")], &["good", "small"]));
    let list = realm.models();
    assert_eq!(list["default"], json!({"chat": "small", "embed": "mini"}));
    assert_eq!(list["object"], "list");
    let good = &list["data"][1];
    assert_eq!(good["id"], "good");
    assert_eq!(
        good["about"],
        json!({
            "title": "good", "bytes": 1_117_320_768, "maker": "a maker",
            "licence": "Apache-2.0", "note": "a coding model",
        }),
    );
    let one = send(&realm.url, "GET", "/v1/models/good", &[], b"").json();
    assert_eq!(one["about"], good["about"]);

    let guest = Guest::new(&realm.url);
    let mut socket = Socket::open(&realm.url, "/v1/events");
    socket.say("mtor.session.hello.v1", &json!({"api_key": guest.key}));
    let messages = json!([{"role": "user", "content": "auto"}]);
    for named in [json!({"model": "auto"}), json!({"model": null}), json!({})] {
        let mut data = named.clone();
        data["messages"] = messages.clone();
        let answer = guest.ask("POST", "/v1/chat/completions", &data.to_string());
        let found = if named["model"] == "auto" { json!("small") } else { named["model"].clone() };
        assert_eq!(answer.json()["model"], "small", "{named}: {answer:?}");
        assert_eq!(answer.json()["data"]["model"], found, "{named}: {answer:?}");
        assert_eq!(answer.json()["data"]["messages"], messages, "{named}");

        let body = json!({"intent": "chat", "data": data}).to_string();
        assert_eq!(guest.ask("POST", "/v1/quote", &body).json()["model"], "small");
        let mut events = Events::submit(&guest, &body);
        assert_eq!(events.next("started")["model"], "small");
        assert_eq!(events.next("completed")["result"]["model"], "small");

        socket.say("mtor.intent.chat.v1", &data);
        let done = socket.wait("mtor.intent.completed.v1");
        assert_eq!(done["result"]["model"], "small", "{named}: {done}");
    }
    let answer = guest.ask("POST", "/v1/embeddings", r#"{"model" : "auto", "input":"a"}"#);
    assert_eq!(answer.json()["asked"], json!({"model": "mini", "input": "a"}));
}

#[test]
fn a_repetition_is_the_clients_own_words_whatever_the_default_is_now() {
    let place = Place::new();
    let realm = Told::start(&place);
    let _worker = realm.worker(&place, &["chat/good", "chat/small"]);
    eventually(|| realm.models()["data"].as_array().unwrap().len() == 2);
    let guest = Guest::new(&realm.url);
    let body = r#"{"intent":"chat","id":"once","data":{"model":"auto","messages":[{}]}}"#;
    realm.teller.tell_models(told(&[("chat", "good")], &[]));
    let first = guest.ask("POST", "/v1/intents", body).json();
    realm.teller.tell_models(told(&[("chat", "small")], &[]));
    let again = guest.ask("POST", "/v1/intents", body).json();
    assert_eq!((&again["intent"], &again["joined"]), (&first["intent"], &json!(true)));
    let path = format!("/v1/intents/{}", first["intent"].as_str().unwrap());
    eventually(|| guest.ask("GET", &path, "").json()["status"] == "completed");
    assert_eq!(guest.ask("GET", &path, "").json()["result"]["data"]["model"], "good");
}

fn tell_arriving(realm: &Told, state: ArrivingState, problem: Option<&str>) {
    let arriving = Arriving {
        id: "good".into(),
        intent: "chat".into(),
        about: about("The Good One"),
        state,
        received: 558_000_000,
        bytes: 1_117_320_768,
        rate: 12_500_000,
        left_ms: (state == ArrivingState::Fetching).then_some(44_700),
        problem: problem.map(str::to_owned),
        offered: None,
    };
    realm.teller.tell_models(ModelsTold { arriving: vec![arriving], ..ModelsTold::default() });
}

#[test]
fn who_comes_before_the_model_hears_how_long_it_takes() {
    let place = Place::new();
    let realm = Told::start(&place);
    let guest = Guest::new(&realm.url);
    tell_arriving(&realm, ArrivingState::Fetching, None);
    let list = realm.models();
    assert_eq!((&list["data"], &list["default"]), (&json!([]), &json!({})));
    assert_eq!(
        list["arriving"],
        json!([{
            "id": "good", "intent": "chat", "about": {
                "title": "The Good One", "bytes": 1_117_320_768, "maker": "a maker",
                "licence": "Apache-2.0", "note": "a coding model",
            },
            "state": "fetching", "received": 558_000_000, "bytes": 1_117_320_768,
            "rate": 12_500_000, "left_ms": 44_700,
        }]),
    );
    for model in ["auto", "good"] {
        let data = json!({"model": model, "messages": [{}]}).to_string();
        let body = format!(r#"{{"intent":"chat","data":{data}}}"#);
        for path in ["/v1/intents", "/v1/quote"] {
            let refused = guest.ask("POST", path, &body);
            assert_eq!(refused.refusal(), (503, "MT0017".into()), "{model}: {refused:?}");
            assert_eq!(refused.json()["error"]["retry_after_ms"], 44_700);
            let message = refused.json()["error"]["message"].to_string();
            assert!(message.contains("The Good One is being fetched: 558 of 1117 MB"), "{message}");
        }
        let refused = guest.ask("POST", "/v1/chat/completions", &data);
        assert_eq!(refused.refusal(), (503, "MT0017".into()), "{model}: {refused:?}");
    }
    let other = r#"{"intent":"chat","data":{"model":"other","messages":[{}]}}"#;
    assert_eq!(guest.ask("POST", "/v1/quote", other).refusal().1, "MT0007");
}

/// Between the worker's word and the realm's there is a moment in which the model was in no list.
#[test]
fn what_its_worker_offers_is_on_its_way_until_it_can_be_asked() {
    let place = Place::new();
    let realm = Told::start(&place);
    let offered = Some(OfferedAs { name: "in_other_words".into(), at: Instant::now() });
    let arriving = Arriving {
        id: "voice".into(),
        intent: "speak".into(),
        about: about("The Voice"),
        state: ArrivingState::Starting,
        received: 0,
        bytes: 0,
        rate: 0,
        left_ms: None,
        problem: None,
        offered,
    };
    realm.teller.tell_models(ModelsTold { arriving: vec![arriving], ..ModelsTold::default() });
    let guest = Guest::new(&realm.url);
    assert_eq!(realm.models()["arriving"][0]["state"], "starting");
    let early = r#"{"intent":"speak","data":{"input":"a"}}"#;
    let refused = guest.ask("POST", "/v1/quote", early);
    assert_eq!(refused.refusal(), (503, "MT0017".into()), "{refused:?}");
    assert!(refused.body.contains("The Voice is here and starts"), "{refused:?}");
    let _worker = realm.worker(&place, &["speak/in_other_words"]);
    let is_in_one_list = |list: &Value| {
        let is_offered = list["data"].as_array().unwrap().len() == 1;
        assert_ne!(is_offered, list["arriving"].as_array().unwrap().len() == 1, "{list}");
        is_offered
    };
    eventually(|| is_in_one_list(&realm.models()));
}

/// A problem may name folders and addresses of the owner's: he alone reads it.
#[test]
fn why_a_model_did_not_come_is_told_to_its_owner_alone() {
    let place = Place::new();
    let realm = Told::start(&place);
    let guest = Guest::new(&realm.url);
    let problem = "wrong bytes: fetch it again with `mtor models pull good`";
    tell_arriving(&realm, ArrivingState::Failed, Some(problem));
    let (openai, own) = (r#"{"messages":[{}]}"#, r#"{"intent":"chat","data":{"messages":[{}]}}"#);
    let batch = format!("[{own}]");
    for (path, body) in [
        ("/v1/chat/completions", openai),
        ("/v1/intents", own),
        ("/v1/quote", own),
        ("/v1/intents/batch", &*batch),
    ] {
        let refused = guest.ask("POST", path, body).body;
        assert!(refused.contains("MT0017") && refused.contains("models pull good"), "{refused}");
        let proxy = [("x-forwarded-for", "192.0.2.1")];
        let refused = guest.ask_with("POST", path, &proxy, body.as_bytes()).body;
        assert!(refused.contains("whoever runs this realm is told why"), "{refused}");
        assert!(!refused.contains("pull good"), "{refused}");
    }
    let mut socket = Socket::open(&realm.url, "/v1/events");
    socket.say("mtor.session.hello.v1", &json!({"api_key": guest.key}));
    socket.say("mtor.intent.chat.v1", &json!({"messages": [{}]}));
    let refused = socket.wait("mtor.session.error.v1");
    assert!(refused["message"].to_string().contains("models pull good"), "{refused}");
    let list = |headers| send(&realm.url, "GET", "/v1/models", headers, b"").body;
    assert!(list(&[]).contains("mtor models pull good"));
    let by_proxy = list(&[("x-forwarded-for", "192.0.2.1")]);
    assert!(by_proxy.contains("is told why") && !by_proxy.contains("pull good"), "{by_proxy}");
}

/// Head, in lower case, and body.
fn get(realm: &Told, method: &str, path: &str, headers: &[(&str, &str)]) -> (String, Vec<u8>) {
    let mut bytes = Vec::new();
    open(&realm.url, method, path, headers, b"").read_to_end(&mut bytes).unwrap();
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    (String::from_utf8(bytes[..end].to_vec()).unwrap().to_lowercase(), bytes[end + 4..].to_vec())
}

#[test]
fn a_page_may_fetch_the_files_that_the_realm_was_told_of_and_no_other() {
    let place = Place::new();
    let realm = Told::start(&place);
    let _worker = realm.worker(&place, &["transcribe/ear", "chat/a/files/b"]);
    eventually(|| realm.models()["data"].as_array().unwrap().len() == 2);
    let content: Vec<u8> = (0..2_000_000_u32).map(|n| (n.wrapping_mul(n) % 251) as u8).collect();
    std::fs::write(place.path().join("secret name.ort"), &content).unwrap();
    let hash = "ab".repeat(32);
    let weight = |name: &str, file: &str| Weight {
        model: "ear".into(),
        name: name.into(),
        path: place.path().join(file),
        bytes: content.len() as u64,
        sha256: hash.clone(),
    };
    assert_eq!(realm.models()["data"][1].get("files"), None);
    let told = vec![weight("encoder.ort", "secret name.ort"), weight("gone.ort", "gone")];
    realm.teller.tell_weights(told.clone());
    let files = json!([
        {"name": "encoder.ort", "bytes": content.len(), "sha256": hash},
        {"name": "gone.ort", "bytes": content.len(), "sha256": hash},
    ]);
    assert_eq!(realm.models()["data"][1]["files"], files, "{}", realm.models());
    assert!(!realm.models().to_string().contains("secret"), "{}", realm.models());

    let path = "/v1/models/ear/files/encoder.ort";
    let kept = format!("{path}?sha256={hash}");
    for (path, cached) in [(path, "no-cache"), (&kept, "public, max-age=31536000, immutable")] {
        let (head, body) = get(&realm, "GET", path, &[]);
        assert!(head.starts_with("http/1.1 200") && body == content, "{head}");
        for line in [
            &format!("cache-control: {cached}"),
            &format!("etag: \"{hash}\""),
            &format!("content-length: {}", content.len()),
            "accept-ranges: none",
            "content-type: application/octet-stream",
            "x-content-type-options: nosniff",
        ] {
            assert!(head.lines().any(|one| one == line), "{line} is not in {head}");
        }
        let tag = format!("\"{hash}\"");
        let (head, body) = get(&realm, "GET", path, &[("if-none-match", &tag)]);
        assert!(head.starts_with("http/1.1 304") && body.is_empty(), "{head}");
        let (head, body) = get(&realm, "HEAD", path, &[]);
        assert!(head.starts_with("http/1.1 200") && body.is_empty(), "{head}");
    }
    let refused = |path: &str| send(&realm.url, "GET", path, &[], b"").refusal();
    for path in [
        "/v1/models/ear/files/gone.ort",
        "/v1/models/ear/files/secret%20name.ort",
        "/v1/models/ear/files/..%2fsecret%20name.ort",
        "/v1/models/ear/files/%2e%2e/encoder.ort",
        "/v1/models/other/files/encoder.ort",
        "/v1/models/ear/files/",
        &format!("{path}?sha256={}", "cd".repeat(32)),
    ] {
        let found = refused(path).0;
        assert_eq!(found, 404, "{path}: {:?}", refused(path));
    }
    assert_eq!(refused(&format!("{path}?part=1")), (400, "MT0002".into()));
    assert_eq!(send(&realm.url, "PUT", path, &[], b"x").status, 405);
    // A model that has such a name is still a model.
    let one = send(&realm.url, "GET", "/v1/models/a/files/b", &[], b"").json();
    assert_eq!(one["id"], "a/files/b");
    realm.teller.tell_weights(Vec::new());
    assert_eq!(refused(path), (404, "MT0010".into()));
}
