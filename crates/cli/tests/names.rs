//! A model's name belongs to somebody: nobody comes to a stranger who did not choose it, and who
//! chose one comes to nobody else.

use crate::common::events::Events;
use crate::common::http::{Guest, Reply};
use crate::common::socket::Hand;
use crate::common::worker::Owner;
use crate::common::{Place, Realm, eventually};
use serde_json::{Value, json};

const SPOKEN: &[u8] = include_bytes!("../../models/tests/exec/data/spoken.ogg");

/// A realm without a worker of its own, and somebody who asks.
fn world(place: &Place) -> (Realm, Guest) {
    let realm = Realm::start(place, &["--no-worker"]);
    let client = Guest::new(&realm.url);
    (realm, client)
}

fn account(guest: &Guest) -> String {
    guest.ask("GET", "/v1/account", "").json()["account"].as_str().unwrap().to_owned()
}

/// A model as the realm calls it where only that guest offers it.
fn owned(model: &str, owner: &Guest) -> String {
    format!("{model}@{}", &account(owner)[..8])
}

fn chat(model: &str, price: u64) -> Value {
    let price = json!({"amount": price.to_string(), "per": 1_000_000});
    json!([{"intent": "chat", "model": model, "slots": 8, "price": price}])
}

fn pools(guest: &Guest) -> Vec<Value> {
    guest.ask("GET", "/v1/pools", "").json()["items"].as_array().unwrap().clone()
}

/// Joins a worker, and waits until so many slots are offered in all.
fn join(owner: &impl Owner, secret: u8, offers: &Value) -> Hand {
    let hand = Hand::join(owner, secret, offers);
    let looker = Guest { url: owner.url().to_owned(), key: Guest::new(owner.url()).key };
    let count = offers.as_array().unwrap().len();
    eventually(|| pools(&looker).len() >= count);
    hand
}

fn body(model: &str, more: &str) -> String {
    let data = json!({"model": model, "messages": [{"role": "user", "content": "hi"}]});
    format!(r#"{{"intent":"chat"{more},"data":{data}}}"#)
}

fn error(reply: &Reply) -> (String, String) {
    let error = &reply.json()["error"];
    (error["code"].as_str().unwrap().to_owned(), error["message"].as_str().unwrap().to_owned())
}

/// A guest's program that offers the realm's own model for less once got 8 of 8.
#[test]
fn a_stranger_gets_nothing_by_offering_the_realms_own_model_for_less() {
    let place = Place::new();
    let (realm, client) = world(&place);
    let stranger = Guest::new(&realm.url);
    let mut cheap = Hand::join(&stranger, 1, &chat("m", 1));
    let mut own = Hand::join(&realm, 2, &chat("m", 500_000));
    let slots = || pools(&client).iter().map(|row| row["slots"].as_u64().unwrap()).sum::<u64>();
    eventually(|| {
        slots() == 8 && pools(&client).len() == 1 && pools(&client)[0]["standing"].is_null()
    });
    for model in ["m", "auto"].repeat(4) {
        let reply = client.ask("POST", "/v1/intents", &body(model, ""));
        assert_eq!(reply.status, 202, "{reply:?}");
        let assign = own.assigned();
        assert_eq!(assign["data"]["model"], "m");
    }
    // And at no price of its own: what is quoted is what the realm's own asks.
    let quote = client.ask("POST", "/v1/quote", &body("m", "")).json();
    assert_eq!(quote["price"]["amount"], "500000", "{quote}");
    let any = client.ask("POST", "/v1/intents", &body("m", r#","trust":"any","durable":false"#));
    assert_eq!(any.status, 202, "{any:?}");
    let name = owned("m", &stranger);
    assert_eq!(client.ask("POST", "/v1/intents", &body(&name, "")).status, 202);
    assert_eq!(cheap.assigned()["model"], "m", "and it serves who names its owner");
}

#[test]
fn what_only_strangers_offer_bears_their_name_and_asking_for_it_is_consent_to_that_owner() {
    let place = Place::new();
    let (realm, client) = world(&place);
    let (one, other) = (Guest::new(&realm.url), Guest::new(&realm.url));
    // Cheaper, and first by name.
    let mut cheap = Hand::join(&other, 2, &chat("m", 1));
    let mut hand = join(&one, 1, &chat("m", 500_000));
    eventually(|| pools(&client).len() == 2);
    let (name, cheaper) = (owned("m", &one), owned("m", &other));

    let models = client.ask("GET", "/v1/models", "").json();
    let rows = models["data"].as_array().unwrap();
    let ids: Vec<&str> = rows.iter().map(|row| row["id"].as_str().unwrap()).collect();
    let mut expected = [name.as_str(), cheaper.as_str()];
    expected.sort_unstable();
    assert_eq!(ids, expected);
    let row = rows.iter().find(|row| row["id"] == name.as_str()).unwrap();
    assert_eq!((&row["owned_by"], &row["standing"]), (&json!(account(&one)), &json!("probation")));
    assert_eq!(models["default"], json!({}), "no stranger's is anybody's default");
    let pool = pools(&client).into_iter().find(|row| row["model"] == name.as_str()).unwrap();
    let owner = json!([{"account": account(&one), "standing": "probation"}]);
    assert_eq!(
        (&pool["owners"], &pool["slots"], &pool["trust"]),
        (&owner, &json!(8), &Value::Null)
    );

    for bare in ["m", "auto"] {
        for path in ["/v1/quote", "/v1/intents"] {
            let refused = client.ask("POST", path, &body(bare, ""));
            assert_eq!(refused.refusal(), (503, "MT0042".to_owned()), "{refused:?}");
            let (_, message) = error(&refused);
            assert!(message.contains(&name) && message.contains("`trust`: `any`"), "{message}");
        }
    }
    let openai = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
    let refused = client.ask("POST", "/v1/chat/completions", openai);
    assert_eq!(refused.refusal(), (503, "MT0042".to_owned()), "{refused:?}");

    let mut events = Events::submit(&client, &body(&name, r#","durable":false"#));
    let assign = hand.assigned();
    assert_eq!((&assign["model"], &assign["data"]["model"]), (&json!("m"), &json!("m")));
    let started = events.next("started");
    assert_eq!(started["model"], name.as_str());
    let worker = &started["worker"];
    assert_eq!(
        (&worker["owner"], &worker["standing"]),
        (&json!(account(&one)), &json!("probation"))
    );
    hand.complete(&assign, 5);
    events.next("completed");

    // However busy its owner's workers are, and with the whole account as well.
    let whole = format!("m@{}", account(&one));
    for model in [&name, &whole].repeat(6) {
        assert_eq!(client.ask("POST", "/v1/intents", &body(model, "")).status, 202);
    }
    // Those that a newcomer has earned.
    for _ in 0..2 {
        hand.assigned();
    }
    assert_eq!(client.ask("POST", "/v1/intents", &body(&cheaper, "")).status, 202);
    assert_eq!(cheap.assigned()["model"], "m", "the first that comes to the other");
    let unknown = client.ask("POST", "/v1/intents", &body("m@11111111", ""));
    assert_eq!(unknown.refusal(), (404, "MT0007".to_owned()), "{unknown:?}");
    assert!(error(&unknown).1.contains(&name), "{unknown:?}");
    // Who says more than a name says it.
    let proven = client.ask("POST", "/v1/intents", &body(&name, r#","trust":"proven""#));
    assert_eq!(proven.refusal(), (503, "MT0042".to_owned()), "{proven:?}");
}

#[test]
fn every_kind_of_body_reaches_the_worker_with_its_own_name_of_the_model() {
    let place = Place::new();
    let (realm, client) = world(&place);
    let stranger = Guest::new(&realm.url);
    let offer = |intent: &str| json!({"intent": intent, "model": "m", "slots": 1});
    let offers = json!([offer("chat"), offer("embed"), offer("speak"), offer("transcribe")]);
    let mut hand = join(&stranger, 1, &offers);
    let name = owned("m", &stranger);
    let form = [
        format!("--x\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\n{name}\r\n")
            .as_bytes(),
        b"--x\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n",
        SPOKEN,
        b"\r\n--x--\r\n",
    ]
    .concat();
    let escaped = name.replace('@', "\\u0040");
    let bodies = [
        (
            "/v1/chat/completions",
            "application/json",
            format!(r#"{{"messages":[{{"role":"user","content":"hi"}}],"ü":1, "model" : "{escaped}","seed":7}}"#).into_bytes(),
        ),
        (
            "/v1/embeddings",
            "application/json",
            json!({"model": name, "input": "a"}).to_string().into_bytes(),
        ),
        (
            "/v1/audio/speech",
            "application/json",
            json!({"model": name, "input": "a", "response_format": "pcm"}).to_string().into_bytes(),
        ),
        ("/v1/audio/transcriptions", "multipart/form-data; boundary=x", form),
    ];
    for (path, kind, bytes) in bodies {
        std::thread::scope(|scope| {
            let asked =
                scope.spawn(|| client.ask_with("POST", path, &[("content-type", kind)], &bytes));
            let assign = hand.assigned();
            assert_eq!(
                (&assign["model"], &assign["data"]["model"]),
                (&json!("m"), &json!("m")),
                "{path}"
            );
            if path.contains("chat") {
                assert_eq!((&assign["data"]["ü"], &assign["data"]["seed"]), (&json!(1), &json!(7)));
            }
            hand.fail(&assign, "unsupported", "that is all");
            assert_eq!(asked.join().unwrap().status, 400, "{path}");
        });
    }
}

#[test]
fn work_that_waits_for_one_owner_waits_for_that_owner_over_a_restart() {
    let place = Place::new();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let realm = Realm::start_at(&place, &free.to_string(), &["--no-worker"]);
    let (client, one, other) =
        (Guest::new(&realm.url), Guest::new(&realm.url), Guest::new(&realm.url));
    let mut hand = join(&one, 1, &chat("m", 500_000));
    let name = owned("m", &one);
    let submitted = client.ask("POST", "/v1/intents", &body(&name, "")).json();
    let intent = submitted["intent"].as_str().unwrap().to_owned();
    hand.assigned();
    realm.kill();

    let _realm = Realm::start_at(&place, &free.to_string(), &["--no-worker"]);
    // What was leased waits three seconds for its worker; a session that is silent for as long is over.
    std::thread::sleep(std::time::Duration::from_millis(2_000));
    let mut wrong = Hand::join(&other, 2, &chat("m", 1));
    hand.rejoin();
    let again = hand.assigned();
    assert_eq!(again["intent"], intent.as_str());
    assert_eq!((&again["model"], &again["data"]["model"]), (&json!("m"), &json!("m")));
    let items = client.ask("GET", "/v1/intents", "").json()["items"].clone();
    assert_eq!(items[0]["model"], name.as_str(), "{items}");
    hand.complete(&again, 5);
    let path = format!("/v1/intents/{intent}");
    eventually(|| client.ask("GET", &path, "").json()["status"] == "completed");
    let mut events = Events::submit(&client, &body(&owned("m", &other), r#","durable":false"#));
    events.next("accepted");
    assert_ne!(wrong.assigned()["intent"], intent.as_str(), "its first work is another");
}

const MANIFEST: &str = r#"
name = "words"
version = 1
summary = "Counts words."
pure = true
bytes_max = 4096
check = "none"

[meter]
unit = "byte"
bound = "bytes"

[price]
amount = "2"
per = 1

[deadline]
default_ms = 20000
max_ms = 60000

[parameters]
type = "object"
required = ["text"]
properties.text = { type = "string" }
"#;

#[test]
fn work_without_a_model_is_done_by_strangers_for_who_says_any() {
    let place = Place::new();
    place.write("data/manifests/words.toml", MANIFEST, 0o644);
    let (realm, client) = world(&place);
    let stranger = Guest::new(&realm.url);
    let mut hand = join(&stranger, 1, &json!([{"intent": "words", "slots": 2}]));
    let owner = json!([{"account": account(&stranger), "standing": "probation"}]);
    let pool = pools(&client)[0].clone();
    assert_eq!(
        (&pool["model"], &pool["trust"], &pool["owners"]),
        (&Value::Null, &json!("any"), &owner)
    );
    let served = client.ask("GET", "/v1/manifests", "").json()["served"].clone();
    let expected = json!({"standing": "probation", "owners": owner, "trust": "any"});
    assert_eq!(served, json!({"words": expected}));

    let data = r#""intent":"words","data":{"text":"a b"}"#;
    for path in ["/v1/quote", "/v1/intents"] {
        let refused = client.ask("POST", path, &format!("{{{data}}}"));
        assert_eq!(refused.refusal(), (503, "MT0042".to_owned()), "{refused:?}");
        let (_, message) = error(&refused);
        assert!(message.contains("say `trust`: `any`"), "{message}");
    }
    let key = place.write("key", &client.key, 0o600);
    let to = ["submit", "words", "--realm", &realm.url, "--data", r#"{"text":"a b"}"#];
    let submit = |more: &[&str]| {
        let mut command = place.command(&[&to[..], more].concat());
        command.env("MTOR_API_KEY", std::fs::read_to_string(&key).unwrap());
        command
    };
    let refused = crate::common::Done::of(submit(&[]).output().unwrap());
    assert_eq!(refused.code, Some(1), "{refused:#?}");
    assert!(
        refused.stderr.contains("MT0042") && refused.stderr.contains("--trust any"),
        "{refused:#?}"
    );

    let mut any = submit(&["--trust", "any"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let assign = hand.assigned();
    assert_eq!((&assign["name"], &assign["model"]), (&json!("words"), &Value::Null));
    hand.complete(&assign, 2);
    assert!(any.wait().unwrap().success());
    // The worker's owner needs no such word, and pays nothing.
    let mut events = Events::submit(&stranger, &format!(r#"{{{data},"durable":false}}"#));
    let assign = hand.assigned();
    hand.complete(&assign, 2);
    assert_eq!(events.next("completed")["cost"]["amount"], "0");
}

#[test]
fn the_command_line_says_whose_workers_are_and_chooses_no_strangers_model() {
    let place = Place::new();
    let (realm, _client) = world(&place);
    let stranger = Guest::new(&realm.url);
    let mut hand = join(&stranger, 1, &chat("aaa", 1));
    let name = owned("aaa", &stranger);
    let run = |arguments: &[&str]| {
        let mut command = place.command(arguments);
        crate::common::Done::of(command.env("MTOR_REALM", &realm.url).output().unwrap())
    };
    let whose = format!("not yet proven {}", &account(&stranger)[..8]);
    let pools = run(&["pools"]).good().stdout;
    assert!(pools.contains(&name) && pools.contains(&whose), "{pools}");
    let manifests = run(&["manifests"]).good().stdout;
    assert!(manifests.contains(&whose) && manifests.contains("nobody"), "{manifests}");
    for arguments in [&["chat", "hi"][..], &["submit", "chat", "--prompt", "hi"]] {
        let refused = run(arguments);
        assert_eq!(refused.code, Some(1), "{refused:#?}");
        for part in ["MT0042", "not yet proven", "--model", &name] {
            assert!(refused.stderr.contains(part), "{part}: {refused:#?}");
        }
    }
    let mut command = place.command(&["submit", "chat", "--prompt", "hi", "--model", &name]);
    let mut child =
        command.env("MTOR_REALM", &realm.url).stdout(std::process::Stdio::null()).spawn().unwrap();
    let assign = hand.assigned();
    assert_eq!(assign["data"]["model"], "aaa");
    hand.complete_with(&assign, 1, &json!({"choices": [{"message": {"content": "Hello."}}]}));
    assert!(child.wait().unwrap().success());

    let _own = Hand::join(&realm, 2, &chat("zzz", 500_000));
    eventually(|| run(&["pools"]).good().stdout.contains("zzz"));
    let models = Guest::new(&realm.url).ask("GET", "/v1/models", "").json();
    assert_eq!(models["default"]["chat"], "zzz", "{models}");
}

#[test]
fn no_worker_takes_a_name_that_reads_as_anothers() {
    let place = Place::new();
    let (realm, client) = world(&place);
    let victim = Guest::new(&realm.url);
    let forged = owned("m", &victim);
    let offers = json!([
        {"intent": "chat", "model": forged, "slots": 1},
        {"intent": "chat", "model": "qwen3-8b@q4_k_m", "slots": 1},
        {"intent": "chat", "model": "@cf/meta/llama-3", "slots": 1},
    ]);
    let mut hand = Hand::join(&realm, 1, &offers);
    let refused = hand.socket.wait("mtor.worker.refused.v1")["offers"].clone();
    assert_eq!(refused.as_array().unwrap().len(), 1, "{refused}");
    assert_eq!((&refused[0]["code"], &refused[0]["model"]), (&json!("MT0043"), &json!(forged)));
    let message = refused[0]["message"].as_str().unwrap();
    assert!(
        message.contains("field `model`") && message.contains("--served-model-name m="),
        "{message}"
    );
    eventually(|| pools(&client).len() == 2);
    let models: Vec<Value> = pools(&client).into_iter().map(|row| row["model"].clone()).collect();
    assert_eq!(models, ["@cf/meta/llama-3", "qwen3-8b@q4_k_m"]);
    assert_eq!(client.ask("POST", "/v1/intents", &body("qwen3-8b@q4_k_m", "")).status, 202);
    let assign = hand.assigned();
    assert_eq!(assign["data"]["model"], "qwen3-8b@q4_k_m");
    let refused = client.ask("POST", "/v1/intents", &body(&forged, ""));
    assert_eq!(refused.refusal(), (404, "MT0007".to_owned()), "{refused:?}");
}
