//! Bad input over HTTP: every refusal has its status, its stable code and its page, names what to
//! do, and changes nothing.

use crate::common::events::Events;
use crate::common::http::{Guest, send};
use crate::common::{Place, Realm};
use serde_json::json;

const EVENTS: &str = "/v1/intents";

#[test]
fn every_refusal_has_its_code_and_changes_nothing() {
    let place = Place::new();
    let realm = Realm::serving(&place);
    let guest = Guest::new(&realm.url);
    let deep = format!(r#"{{"intent":"echo","data":{}1{}}}"#, "[".repeat(100), "]".repeat(100));
    let cases: &[(&str, &str, u16, &str, &str)] = &[
        ("POST", EVENTS, 400, "MT0001", "{"),
        ("POST", EVENTS, 400, "MT0001", "\u{0}"),
        ("POST", EVENTS, 400, "MT0002", r#"{"intent":"echo"}"#),
        ("POST", EVENTS, 400, "MT0002", r#"{"intent":"echo","data":1,"ceiling":"-1"}"#),
        ("POST", EVENTS, 400, "MT0002", r#"{"intent":"fft","data":{"dtype":"c64"}}"#),
        ("POST", EVENTS, 400, "MT0003", r#"{"intent":"echo","data":1,"cieling":"1"}"#),
        ("POST", EVENTS, 400, "MT0005", &deep),
        ("POST", EVENTS, 404, "MT0006", r#"{"intent":"dream","data":1}"#),
        ("POST", EVENTS, 402, "MT0013", r#"{"intent":"echo","data":1,"ceiling":"0"}"#),
        ("POST", EVENTS, 402, "MT0014", r#"{"intent":"echo","data":1,"ceiling":"1000001"}"#),
        ("POST", "/v1/chat/completions", 400, "MT0002", r#"{"messages":"hi"}"#),
        ("POST", "/v1/chat/completions", 404, "MT0007", r#"{"model":"x","messages":[{}]}"#),
        ("GET", "/v1/intents/not-an-id", 404, "MT0010", ""),
        ("GET", "/v1/intents/01a2056b-5dfa-74b9-91db-8ba3b66e94f9", 404, "MT0010", ""),
        ("DELETE", EVENTS, 405, "MT0031", ""),
        ("GET", "/v1/intents/%FF", 404, "MT0010", ""),
        ("GET", "/v1/events", 400, "MT0002", ""),
        ("GET", "/v1/workers/session", 400, "MT0002", ""),
        ("POST", "/v1/accounts/guest", 400, "MT0002", r#"{"public_key":7}"#),
        ("GET", "/v1/nowhere", 404, "MT0010", ""),
        ("GET", "/v1/account/transfers?limit=0", 400, "MT0002", ""),
        ("GET", "/v1/account/transfers?limt=1", 400, "MT0002", ""),
        ("GET", "/v1/sysop/health", 403, "MT0009", ""),
        ("POST", "/v1/workers/enrol", 400, "MT0002", "{}"),
    ];
    for (method, path, status, code, body) in cases {
        let reply = guest.ask(method, path, body);
        assert_eq!(
            reply.refusal(),
            (*status, (*code).to_owned()),
            "{method} {path} {body}: {reply:?}"
        );
        let message = reply.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.len() > 10, "{message}");
        // OpenAI's shape has no place for it.
        let docs = format!("/errors/{code}");
        assert!(path.contains("completions") || reply.json()["error"]["docs"] == docs, "{reply:?}");
        let page = guest.ask("GET", &docs, "");
        assert!(page.status == 200 && page.body.starts_with(&format!("# {code} ")), "{page:?}");
    }
    assert_eq!(guest.grant(), (1_000_000, 0));
    // The payload of durable work is sealed before its hold is asked for; refused, it goes.
    let sealed = crate::common::files_below(&place.path().join("data/blobs"));
    assert_eq!(sealed, Vec::<std::path::PathBuf>::new());
}

#[test]
fn what_exists_and_what_it_costs_is_named() {
    let place = Place::new();
    let realm = Realm::serving(&place);
    let guest = Guest::new(&realm.url);
    let says = |body: &str| {
        guest.ask("POST", EVENTS, body).json()["error"]["message"].as_str().unwrap().to_owned()
    };
    let unknown = says(r#"{"intent":"dream","data":1}"#);
    assert!(
        ["chat", "echo", "embed", "fft", "speak", "transcribe"]
            .iter()
            .all(|name| unknown.contains(name)),
        "{unknown}"
    );
    let ceiling = says(r#"{"intent":"echo","data":1,"ceiling":"0"}"#);
    assert!(
        ceiling.contains("at least 1 base unit (the price is 1 base unit per unit)"),
        "{ceiling}"
    );
    let balance = says(r#"{"intent":"echo","data":1,"ceiling":"1000001"}"#);
    assert!(balance.contains("1 base unit of grant"), "{balance}");
}

#[test]
fn sizes_types_and_keys_are_checked_at_the_door() {
    let place = Place::new();
    let realm = Realm::serving(&place);
    let guest = Guest::new(&realm.url);
    let large = format!(r#"{{"intent":"echo","data":"{}"}}"#, "x".repeat(2 * 1024 * 1024));
    assert_eq!(guest.ask("POST", EVENTS, &large).refusal(), (413, "MT0004".to_owned()));
    // The largest payload still fits into a worker's frame, with all that the realm adds.
    let fft = |bytes: usize| {
        let data = r#"{"dtype":"f32","shape":[1],"data":"AAAAAA=="}"#;
        let spaces = " ".repeat(bytes - data.len());
        let data = data.replace('}', &format!("{spaces}}}"));
        format!(r#"{{"intent":"fft","data":{data}}}"#)
    };
    let mut largest = Events::submit(&guest, &fft(16_773_120));
    assert_eq!(largest.next("completed")["result"]["data"], "AAAAAAAAAAA=");
    assert_eq!(guest.ask("POST", EVENTS, &fft(16_773_121)).refusal(), (413, "MT0004".to_owned()));
    let kind = [("content-type", "text/csv")];
    let reply = guest.ask_with("POST", EVENTS, &kind, br#"{"intent":"echo","data":1}"#);
    assert_eq!(reply.refusal(), (415, "MT0032".to_owned()));
    for headers in
        [vec![], vec![("authorization", "Bearer mtor_wrong")], vec![("authorization", "Basic abc")]]
    {
        let reply = send(&realm.url, "GET", "/v1/account", &headers, b"");
        assert_eq!(reply.refusal(), (401, "MT0008".to_owned()), "{headers:?}");
    }
    let reply = guest.ask_with("POST", EVENTS, &[], b"\xff\xfe");
    assert_eq!(reply.refusal(), (400, "MT0001".to_owned()));
}

#[test]
fn an_account_sees_only_its_own() {
    let place = Place::new();
    let realm = Realm::serving(&place);
    let (one, other) = (Guest::new(&realm.url), Guest::new(&realm.url));
    let submitted = one.ask("POST", EVENTS, r#"{"intent":"echo","data":"mine"}"#).json();
    let path = format!("/v1/intents/{}", submitted["intent"].as_str().unwrap());
    for (method, path) in
        [("GET", path.clone()), ("DELETE", path.clone()), ("GET", format!("{path}/events"))]
    {
        let refusal = other.ask(method, &path, "").refusal();
        assert_eq!(refusal, (404, "MT0010".to_owned()), "{method} {path}");
    }
    let transfers = other.ask("GET", "/v1/account/transfers", "").json();
    assert_eq!(transfers["items"].as_array().unwrap().len(), 1, "only its grant: {transfers}");
}

#[test]
fn what_is_the_sysops_is_refused_to_everybody_else_and_done_for_the_sysop() {
    let place = Place::new();
    let realm = Realm::serving(&place);
    let guest = Guest::new(&realm.url);
    let bearer = format!("Bearer {}", realm.ready["sysop_secret"].as_str().unwrap());
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let sysop =
        |method, path: &str, body: &str| send(&realm.url, method, path, &headers, body.as_bytes());
    let body = r#"{"intent":"echo","data":{"text":"a secret word","chunks":2,"delayms":60000}}"#;
    let mut events = Events::submit(&guest, body);
    let intent = events.next("accepted")["intent"].as_str().unwrap().to_owned();
    events.next("started");
    let workers = sysop("GET", "/v1/sysop/workers", "").json();
    let worker = workers["items"][0]["worker"].as_str().unwrap();
    let accounts = sysop("GET", "/v1/sysop/accounts", "").json();
    let rows = accounts["items"].as_array().unwrap();
    let account = rows.iter().find(|row| row["kind"] == "guest").unwrap()["account"].as_str();

    let (intent, worker) = (format!("intents/{intent}"), format!("workers/{worker}"));
    let account = format!("accounts/{}", account.unwrap());
    let banned = r#"{"banned":true}"#;
    let reads = ["health", "workers", "accounts", "intents"].map(|name| ("GET", name, ""));
    let acts = [
        ("DELETE", intent.as_str(), ""),
        ("POST", "workers/tokens", ""),
        ("PUT", worker.as_str(), banned),
        ("PUT", account.as_str(), banned),
        ("DELETE", worker.as_str(), ""),
    ];
    for (method, name, body) in reads.into_iter().chain(acts) {
        let path = format!("/v1/sysop/{name}");
        let refused = guest.ask(method, &path, body).refusal();
        assert_eq!(refused, (403, "MT0009".to_owned()), "{method} {path}");
        let json = [("content-type", "application/json")];
        let refused = send(&realm.url, method, &path, &json, body.as_bytes()).refusal();
        assert_eq!(refused, (401, "MT0008".to_owned()), "{method} {path}");
    }
    assert_eq!(sysop("GET", "/v1/sysop/workers", "").json(), workers, "nothing has changed");
    assert_eq!(guest.grant(), (999_999, 1));

    let open = sysop("GET", "/v1/sysop/intents", "").json();
    assert_eq!(open["items"].as_array().unwrap().len(), 1, "{open}");
    assert!(!open.to_string().contains("secret word"), "{open}");
    for (method, name, body) in acts {
        let reply = sysop(method, &format!("/v1/sysop/{name}"), body);
        assert!((200..300).contains(&reply.status), "{method} {name}: {reply:?}");
        if name == intent {
            events.next("cancelled");
        }
    }
    assert_eq!(guest.ask("POST", EVENTS, body).refusal(), (403, "MT0012".to_owned()));
    assert_eq!(sysop("GET", "/v1/sysop/workers", "").json()["items"], json!([]));
    assert_eq!(sysop("DELETE", "/v1/sysop/intents/no-id", "").refusal().1, "MT0010");
}
