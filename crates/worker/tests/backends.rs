//! Servers of models that are found, and models that must answer before they are offered, against
//! stand-ins on loopback that answer as Ollama, llama-server, LM Studio, vLLM and a realm do.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

mod common;

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use common::{Folder, Realm, Session, Worker, assignment, soon};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use mtor_types::worker;
use mtor_worker::{
    BackendNews, Discovery, ExecutorOptions, ModelNames, OpenAiOptions, Status, discover,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// What stands at each `METHOD path`, and for posts to the API by the model.
type Pages = BTreeMap<String, (u16, Value)>;
/// What is answered there before that, once each.
type First = BTreeMap<String, VecDeque<(u16, Value)>>;

/// A server that answers from its pages and counts what it was asked.
struct StandIn {
    port: u16,
    pages: Arc<Mutex<Pages>>,
    first: Arc<Mutex<First>>,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
    /// Its listener and connections: dropped with it, as a process that ends.
    _tasks: JoinSet<()>,
}

impl StandIn {
    async fn start(port: u16, pages: Pages) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (pages, first) = (Arc::new(Mutex::new(pages)), Arc::<Mutex<First>>::default());
        let asked = Arc::<Mutex<Vec<_>>>::default();
        let mut tasks = JoinSet::new();
        let (served, early, seen) = (Arc::clone(&pages), Arc::clone(&first), Arc::clone(&asked));
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let here = (Arc::clone(&served), Arc::clone(&early), Arc::clone(&seen));
                let service = hyper::service::service_fn(move |request| {
                    let (pages, first, asked) = here.clone();
                    async move { Ok::<_, Infallible>(answer(request, &pages, &first, &asked).await) }
                });
                let io = TokioIo::new(stream);
                connections.spawn(async move {
                    let http = hyper::server::conn::http1::Builder::new();
                    let _ = http.serve_connection(io, service).await;
                });
            }
        });
        Self { port, pages, first, asked, _tasks: tasks }
    }

    fn set(&self, page: &str, status: u16, body: Value) {
        self.pages.lock().unwrap().insert(page.to_owned(), (status, body));
    }

    /// Answers with these at first, once each.
    fn first(&self, page: &str, answers: impl IntoIterator<Item = (u16, Value)>) {
        self.first.lock().unwrap().insert(page.to_owned(), answers.into_iter().collect());
    }

    /// Waits until it was asked that so many more times.
    async fn asked(&self, page: &str, times: usize) {
        let count = || self.asked.lock().unwrap().iter().filter(|(asked, _)| asked == page).count();
        let until = count() + times;
        eventually(|| count() >= until).await;
    }

    /// How often that was asked, about that model.
    fn count(&self, page: &str, model: &str) -> usize {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|(path, body)| path == page && body["model"] == model).count()
    }
}

async fn answer(
    request: Request<Incoming>,
    pages: &Mutex<Pages>,
    first: &Mutex<First>,
    asked: &Mutex<Vec<(String, Value)>>,
) -> Response<Full<Bytes>> {
    let mut page = format!("{} {}", request.method(), request.uri().path());
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    asked.lock().unwrap().push((page.clone(), body.clone()));
    if let Some(model) = body["model"].as_str() {
        page = format!("{page} {model}");
    }
    let early = first.lock().unwrap().get_mut(&page).and_then(VecDeque::pop_front);
    let found = early.or_else(|| pages.lock().unwrap().get(&page).cloned());
    // A server that has no time for it now.
    if found.as_ref().is_some_and(|(status, _)| *status == 0) {
        return std::future::pending().await;
    }
    let (status, body) = found.unwrap_or_else(|| {
        let right = match page.split(' ').nth(1).unwrap() {
            "/v1/chat/completions" => json!({"choices": [{"message": {"content": "4"}}]}),
            "/v1/embeddings" => json!({"data": [{"embedding": [0.25, -1.0]}]}),
            _ => return (404, json!({"error": "not found"})),
        };
        (200, right)
    });
    let body = Full::new(Bytes::from(body.to_string()));
    Response::builder().status(status).body(body).unwrap()
}

fn pages(list: &[(&str, Value)]) -> Pages {
    list.iter().map(|(page, body)| ((*page).to_owned(), (200, body.clone()))).collect()
}

fn models(ids: &[&str], owner: &str) -> Value {
    let model = |id: &&str| json!({"id": id, "object": "model", "owned_by": owner});
    json!({"object": "list", "data": ids.iter().map(model).collect::<Vec<_>>()})
}

fn ollama() -> Pages {
    let tag = |name: &str| json!({"name": name, "model": name, "size": 1});
    let mut cloud = tag("gpt-oss:120b-cloud");
    cloud["remote_host"] = json!("https://ollama.com:443");
    cloud["remote_model"] = json!("gpt-oss:120b");
    let ids = ["llama3:8b", "vectors:latest", "gpt-oss:120b-cloud"];
    pages(&[
        ("GET /api/version", json!({"version": "0.13.0"})),
        ("GET /api/tags", json!({"models": [tag("llama3:8b"), tag("vectors:latest"), cloud]})),
        ("GET /v1/models", models(&ids, "library")),
        ("POST /api/show llama3:8b", json!({"capabilities": ["completion", "tools"]})),
        ("POST /api/show vectors:latest", json!({"capabilities": ["embedding"]})),
    ])
}

fn llama_server() -> Pages {
    pages(&[
        ("GET /health", json!({"status": "ok"})),
        ("GET /props", json!({"default_generation_settings": {"n_ctx": 2048}, "total_slots": 1})),
        ("GET /v1/models", models(&["/srv/llm/qwen.gguf"], "llamacpp")),
    ])
}

fn lm_studio() -> Pages {
    let model = |id: &str, kind: &str| json!({"id": id, "object": "model", "type": kind, "state": "not-loaded"});
    let list = [model("gemma", "vlm"), model("meaning", "embeddings"), model("ear", "stt")];
    pages(&[
        ("GET /api/v0/models", json!({"object": "list", "data": list})),
        ("GET /v1/models", models(&["gemma", "meaning", "ear"], "organization_owner")),
    ])
}

fn vllm() -> Pages {
    let mut list = models(&["Qwen/Qwen3-8B"], "vllm");
    list["data"][0]["max_model_len"] = json!(32_768);
    pages(&[("GET /version", json!({"version": "0.12.0"})), ("GET /v1/models", list)])
}

/// A realm of ours: it has models, and claims to be one of the others as far as it can.
fn realm() -> Pages {
    let mut pages = vllm();
    pages.insert("GET /.well-known/mtor.json".into(), (200, json!({"realm": "ab", "keys": []})));
    pages
}

fn discovery(ports: &[u16], names: ModelNames) -> Vec<ExecutorOptions> {
    let mut discovery = Discovery::new(2, names);
    discovery.ports = ports.to_vec();
    discovery.known = Duration::from_millis(500);
    // Not WSL, whatever this machine is.
    discovery.proc = PathBuf::from("/nonexistent");
    discover(&discovery)
}

/// A port where nobody listens now.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn backend(server: &StandIn, names: ModelNames) -> ExecutorOptions {
    let url = format!("http://127.0.0.1:{}", server.port);
    ExecutorOptions::OpenAi(OpenAiOptions { names, ..OpenAiOptions::new(url, 2) })
}

fn names(offers: &Value) -> Vec<String> {
    let offers = offers["offers"].as_array().unwrap().iter();
    let mut names: Vec<_> = offers
        .map(|o| {
            format!("{} {}", o["intent"].as_str().unwrap(), o["model"].as_str().unwrap_or("-"))
        })
        .collect();
    names.sort();
    names
}

async fn eventually(is: impl Fn() -> bool) {
    let waits = async {
        while !is() {
            tokio::task::yield_now().await;
        }
    };
    soon(waits).await;
}

/// Waits until exactly this is offered.
async fn offered(session: &mut Session, wanted: &[&str]) -> Value {
    let until = async {
        let mut offers = json!(session.offers);
        while names(&offers) != wanted {
            offers = session.until(worker::OFFER).await.1;
        }
        offers
    };
    soon(until).await
}

async fn news(worker: &mut Worker, wanted: impl Fn(&BackendNews) -> bool) -> BackendNews {
    let status = worker.until(|status| matches!(status, Status::Backend(news) if wanted(news)));
    let Status::Backend(news) = status.await else { unreachable!() };
    news
}

const CHAT: &str = "POST /v1/chat/completions";

#[tokio::test]
async fn a_model_is_offered_once_it_has_answered_and_not_asked_again() {
    let list = [("GET /v1/models", models(&["broken", "good", "nomic-embed", "zero-embed"], "x"))];
    let server = StandIn::start(0, pages(&list)).await;
    server.set(&format!("{CHAT} broken"), 500, json!({"error": "a secret of the client's"}));
    server.set("POST /v1/embeddings zero-embed", 200, json!({"data": [{"embedding": [0, 0.0]}]}));
    let realm = Realm::start().await;
    let mut worker = Worker::start(&realm, vec![backend(&server, ModelNames::default())]);
    let mut session = realm.accept().await;
    // The first offer has all that answers, and waits for none that does not.
    assert_eq!(names(&json!(session.offers)), ["chat good", "embed nomic-embed"]);
    let left_out = |model: &'static str| move |news: &BackendNews| matches!(news, BackendNews::LeftOut { model: m, .. } if m == model);
    let BackendNews::LeftOut { reason, retry_after, .. } =
        news(&mut worker, left_out("broken")).await
    else {
        unreachable!()
    };
    assert_eq!(reason, "it answers a small request with status 500");
    assert!(retry_after.is_some());
    let BackendNews::LeftOut { reason, .. } = news(&mut worker, left_out("zero-embed")).await
    else {
        unreachable!()
    };
    assert!(reason.contains("all zero"), "{reason}");
    // Mended: offered after a pause, by itself. The good one was asked once and no more.
    server.pages.lock().unwrap().remove(&format!("{CHAT} broken"));
    offered(&mut session, &["chat broken", "chat good", "embed nomic-embed"]).await;
    assert_eq!(server.count(CHAT, "good"), 1);
    assert!(server.count(CHAT, "broken") >= 2);
    assert_eq!(server.count("POST /v1/embeddings", "nomic-embed"), 1);
}

#[tokio::test]
async fn servers_are_known_by_their_answers_and_come_and_go() {
    let (ollama, llama) =
        (StandIn::start(0, ollama()).await, StandIn::start(0, llama_server()).await);
    let (studio, vllm) = (StandIn::start(0, lm_studio()).await, StandIn::start(0, vllm()).await);
    let other_realm = StandIn::start(0, self::realm()).await;
    let stranger = StandIn::start(0, pages(&[("GET /v1/models", models(&["m"], "x"))])).await;
    let later = free_port();
    let ports = [&ollama, &llama, &studio, &vllm, &other_realm, &stranger].map(|s| s.port);
    let ports: Vec<_> = ports.into_iter().chain([later]).collect();
    let realm = Realm::start().await;
    let mut executors = discovery(&ports, ModelNames::default());
    executors.push(ExecutorOptions::Echo { slots: 1 });
    let mut worker = Worker::start(&realm, executors);
    let mut session = realm.accept().await;
    let mut all = vec![
        "chat Qwen/Qwen3-8B",
        "chat gemma",
        "chat llama3:8b",
        "chat qwen",
        "echo -",
        "embed meaning",
        "embed vectors:latest",
    ];
    let offers = offered(&mut session, &all).await;
    // What was found stands before what is built in.
    assert_eq!(offers["offers"].as_array().unwrap().last().unwrap()["intent"], "echo");
    let context = |model: &str| {
        let mut offers = offers["offers"].as_array().unwrap().iter();
        offers.find(|offer| offer["model"] == model).unwrap()["context"].clone()
    };
    assert_eq!((context("Qwen/Qwen3-8B"), context("qwen")), (json!(32_768), json!(2048)));
    // A realm and a stranger were asked for nothing but what they are; nor the cloud's model.
    for (server, model) in
        [(&other_realm, "Qwen/Qwen3-8B"), (&stranger, "m"), (&ollama, "gpt-oss:120b-cloud")]
    {
        assert_eq!(server.count(CHAT, model), 0, "{model}");
    }
    let told = |news: &BackendNews| matches!(news, BackendNews::LeftOut { .. });
    let BackendNews::LeftOut { model, reason, .. } = news(&mut worker, told).await else {
        unreachable!()
    };
    assert_eq!(model, "gpt-oss:120b-cloud");
    assert!(reason.contains("--backend-model gpt-oss:120b-cloud"), "{reason}");
    // One comes, and goes.
    let new = StandIn::start(
        later,
        pages(&[
            ("GET /health", json!({})),
            ("GET /v1/models", models(&["./late.gguf"], "llamacpp")),
        ]),
    )
    .await;
    all.insert(2, "chat late");
    offered(&mut session, &all).await;
    let url = format!("http://127.0.0.1:{later}");
    let serves = |news: &BackendNews| matches!(news, BackendNews::Found { url: u, models, .. } if *u == url && !models.is_empty());
    let found = news(&mut worker, serves).await;
    let server = "llama-server";
    let models = vec!["late".to_owned()];
    assert_eq!(
        found,
        BackendNews::Found { server, url: url.clone(), models, listed: 1, untried: Vec::new() }
    );
    drop(new);
    all.remove(2);
    offered(&mut session, &all).await;
    let gone = news(&mut worker, |news| matches!(news, BackendNews::Gone { .. })).await;
    assert_eq!(gone, BackendNews::Gone { server, url });
}

fn tags(ids: &[&str]) -> Value {
    json!({"models": ids.iter().map(|id| json!({"name": id})).collect::<Vec<_>>()})
}

/// An Ollama with these models, of which it has loaded those.
fn ollama_of(ids: &[&str], loaded: &[&str]) -> Pages {
    pages(&[
        ("GET /api/version", json!({"version": "0.13.0"})),
        ("GET /api/tags", tags(ids)),
        ("GET /api/ps", tags(loaded)),
        ("GET /v1/models", models(ids, "library")),
    ])
}

const FOUR: [&str; 4] = ["a:1b", "b:1b", "c:1b", "d:1b"];

#[tokio::test]
async fn a_found_server_is_not_made_to_load_what_its_owner_does_not_use() {
    let server = StandIn::start(0, ollama_of(&FOUR, &["c:1b"])).await;
    let realm = Realm::start().await;
    let named = ModelNames::new(Vec::new(), ["d:1b".to_owned()]);
    let mut worker = Worker::start(&realm, discovery(&[server.port], named));
    let found = news(&mut worker, |news| matches!(news, BackendNews::Found { .. })).await;
    let BackendNews::Found { listed, untried, .. } = found else { unreachable!() };
    assert_eq!((listed, untried), (4, vec!["c:1b".to_owned(), "d:1b".to_owned()]));
    let mut session = realm.accept().await;
    offered(&mut session, &["chat c:1b", "chat d:1b"]).await;
    // Its owner takes another one: that is offered, too, and the first stays.
    server.set("GET /api/ps", 200, json!({"models": [{"name": "b:1b"}]}));
    offered(&mut session, &["chat b:1b", "chat c:1b", "chat d:1b"]).await;
    assert_eq!(FOUR.map(|model| server.count(CHAT, model)), [0, 1, 1, 1]);
}

#[tokio::test]
async fn a_llama_server_with_several_models_keeps_what_it_has_loaded() {
    let mut list = models(&["/m/a.gguf", "/m/b.gguf"], "llamacpp");
    list["data"][0]["status"] = json!({"value": "unloaded"});
    list["data"][1]["status"] = json!({"value": "loaded"});
    let health = ("GET /health", json!({"status": "ok"}));
    let server = StandIn::start(0, pages(&[health, ("GET /v1/models", list)])).await;
    let realm = Realm::start().await;
    let _worker = Worker::start(&realm, discovery(&[server.port], ModelNames::default()));
    let mut session = realm.accept().await;
    offered(&mut session, &["chat b"]).await;
    assert_eq!(server.count(CHAT, "/m/a.gguf"), 0);
}

#[tokio::test]
async fn of_a_found_server_with_nothing_loaded_the_first_is_asked() {
    let server = StandIn::start(0, ollama_of(&FOUR, &[])).await;
    let realm = Realm::start().await;
    let _worker = Worker::start(&realm, discovery(&[server.port], ModelNames::default()));
    let mut session = realm.accept().await;
    offered(&mut session, &["chat a:1b"]).await;
    // It is loaded by that, and unloaded later: nothing else is asked for either.
    for loaded in [&["a:1b"][..], &[]] {
        server.set("GET /api/ps", 200, tags(loaded));
        // The second of these looks, at the latest, has begun with that.
        server.asked("GET /api/ps", 2).await;
        server.asked("GET /api/version", 1).await;
    }
    assert_eq!(FOUR.map(|model| server.count(CHAT, model)), [1, 0, 0, 0]);
}

#[tokio::test]
async fn of_a_found_server_with_nothing_loaded_the_next_is_asked_where_one_cannot_answer() {
    let server = StandIn::start(0, ollama_of(&FOUR, &[])).await;
    for broken in ["a:1b", "b:1b"] {
        server.set(&format!("{CHAT} {broken}"), 500, json!({"error": "out of memory"}));
    }
    let realm = Realm::start().await;
    let mut worker = Worker::start(&realm, discovery(&[server.port], ModelNames::default()));
    let mut session = realm.accept().await;
    offered(&mut session, &["chat c:1b"]).await;
    let url = format!("http://127.0.0.1:{}", server.port);
    for model in ["b:1b", "c:1b"] {
        let asked = news(&mut worker, |news| matches!(news, BackendNews::Asked { .. })).await;
        assert_eq!(asked, BackendNews::Asked { url: url.clone(), model: model.into() });
    }
    // One that answers is enough: those that failed would throw it out.
    tokio::time::sleep(Duration::from_secs(3)).await;
    server.asked("GET /api/ps", 2).await;
    assert_eq!(FOUR.map(|model| server.count(CHAT, model)), [1, 1, 1, 0]);
}

#[tokio::test]
async fn those_that_could_not_answer_are_asked_again_after_all_of_them_were() {
    let server = StandIn::start(0, ollama_of(&FOUR, &[])).await;
    for model in FOUR {
        server.set(&format!("{CHAT} {model}"), 500, json!({"error": "out of memory"}));
    }
    let realm = Realm::start().await;
    let _worker = Worker::start(&realm, discovery(&[server.port], ModelNames::default()));
    let mut session = realm.accept().await;
    eventually(|| server.count(CHAT, "d:1b") == 1).await;
    server.pages.lock().unwrap().remove(&format!("{CHAT} b:1b"));
    offered(&mut session, &["chat b:1b"]).await;
    assert_eq!(FOUR.map(|model| server.count(CHAT, model)), [2, 2, 1, 1]);
}

#[tokio::test]
async fn what_a_found_server_does_not_say_is_not_taken_for_loaded() {
    // More models than are asked about one by one, and the last is loaded.
    let ids: Vec<_> = (0..70).map(|number| format!("m{number}:1b")).collect();
    let ids: Vec<_> = ids.iter().map(String::as_str).collect();
    let long = StandIn::start(0, ollama_of(&ids, &["m69:1b"])).await;
    long.set("POST /api/show m69:1b", 200, json!({"capabilities": ["embedding"]}));
    // One that cannot tell at its second look, and one that cannot tell at first.
    let busy = StandIn::start(0, ollama_of(&FOUR, &["c:1b"])).await;
    let list = (200, tags(&FOUR));
    busy.first("GET /api/tags", [list.clone(), list.clone(), list, (500, Value::Null)]);
    let late = StandIn::start(0, ollama_of(&["x:1b", "y:1b"], &["y:1b"])).await;
    late.first("GET /api/ps", [(500, Value::Null)]);
    let mut pages = lm_studio();
    let (_, list) = pages.get_mut("GET /api/v0/models").unwrap();
    list["data"][0]["state"] = json!("loaded");
    let list = (200, list.clone());
    let studio = StandIn::start(0, pages).await;
    studio.first("GET /api/v0/models", [list.clone(), list.clone(), list, (500, Value::Null)]);
    let ports = [&long, &busy, &late, &studio].map(|server| server.port);
    let realm = Realm::start().await;
    let _worker = Worker::start(&realm, discovery(&ports, ModelNames::default()));
    let mut session = realm.accept().await;
    let loaded = ["chat c:1b", "chat gemma", "chat y:1b", "embed m69:1b"];
    offered(&mut session, &loaded).await;
    for server in [&long, &busy, &late, &studio] {
        server.asked("GET /v1/models", 4).await;
    }
    let asked = |server: &StandIn| {
        let asked = server.asked.lock().unwrap();
        let asked = asked.iter().filter(|(page, _)| page.starts_with("POST /v1/"));
        asked.map(|(_, body)| body["model"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(asked(&long), ["m69:1b"]);
    assert_eq!(asked(&busy), ["c:1b"]);
    assert_eq!(asked(&late), ["y:1b"]);
    assert_eq!(asked(&studio), ["gemma"]);
}

#[tokio::test]
async fn nothing_is_said_while_nobody_is_there() {
    let realm = Realm::start().await;
    let mut executors = discovery(&[free_port(), free_port()], ModelNames::default());
    executors.push(ExecutorOptions::Echo { slots: 1 });
    let mut worker = Worker::start(&realm, executors);
    let session = realm.accept().await;
    assert_eq!(names(&json!(session.offers)), ["echo -"]);
    let first = worker.until(|status| !matches!(status, Status::Ready { .. })).await;
    assert!(
        matches!(
            first,
            Status::Enrolled { .. } | Status::Connected { .. } | Status::Offered { full: true, .. }
        ),
        "{first:?}"
    );
}

#[tokio::test]
async fn clients_ask_by_the_operators_names() {
    let ollama = StandIn::start(0, ollama()).await;
    let names = ModelNames::new(
        vec![("good".into(), "llama3:8b".into()), ("absent".into(), "mixtral".into())],
        ["gpt-oss:120b-cloud".to_owned()],
    );
    let realm = Realm::start().await;
    let mut worker = Worker::start(&realm, discovery(&[ollama.port], names));
    let mut session = realm.accept().await;
    let offers = ["chat good", "chat gpt-oss:120b-cloud", "embed vectors:latest"];
    offered(&mut session, &offers).await;
    let missing = news(&mut worker, |news| matches!(news, BackendNews::LeftOut { .. })).await;
    let BackendNews::LeftOut { model, reason, .. } = missing else { unreachable!() };
    assert_eq!((&*model, reason.contains("no backend has it")), ("mixtral", true));
    let before = ollama.count(CHAT, "llama3:8b");
    let mut assign = assignment(1, "chat", json!({"model": "good", "messages": []}));
    assign["model"] = json!("good");
    assign["stream"] = json!(false);
    session.say(worker::ASSIGN, assign).await;
    session.until(worker::COMPLETE).await;
    assert_eq!((ollama.count(CHAT, "llama3:8b"), ollama.count(CHAT, "good")), (before + 1, 0));
}

#[tokio::test]
async fn a_server_that_was_too_busy_to_be_known_is_known_later() {
    let server = StandIn::start(0, llama_server()).await;
    server.set("GET /api/version", 0, Value::Null);
    let realm = Realm::start().await;
    let _worker = Worker::start(&realm, vec![backend(&server, ModelNames::default())]);
    let mut session = realm.accept().await;
    let offers = offered(&mut session, &["chat qwen"]).await;
    assert_eq!(offers["offers"][0]["context"], Value::Null);
    server.pages.lock().unwrap().remove("GET /api/version");
    let offers = session.until(worker::OFFER).await.1;
    assert_eq!(offers["offers"][0]["context"], 2048, "{offers}");
}

#[tokio::test]
async fn a_path_of_the_owners_machine_is_seen_by_no_client() {
    let ids = ["/m/a/qwen.gguf", "/m/b/qwen.gguf", "/m/phi", "/m/gemma.gguf"];
    let server = StandIn::start(0, pages(&[("GET /v1/models", models(&ids, "x"))])).await;
    server.set(
        &format!("{CHAT} /m/phi"),
        200,
        json!({"model": "/m/phi", "choices": [{"message": {"content": "4"}}]}),
    );
    // By the id, or by what is left of it.
    let served = vec![("small".into(), "/m/gemma.gguf".into()), ("clever".into(), "phi".into())];
    let realm = Realm::start().await;
    let names = ModelNames::new(served, []);
    let _worker = Worker::start(&realm, vec![backend(&server, names)]);
    let mut session = realm.accept().await;
    offered(&mut session, &["chat clever", "chat qwen", "chat small"]).await;
    for (number, name, id) in
        [(1, "clever", "/m/phi"), (2, "qwen", "/m/a/qwen.gguf"), (3, "small", "/m/gemma.gguf")]
    {
        let before = server.count(CHAT, id);
        let mut assign = assignment(number, "chat", json!({"model": name, "messages": []}));
        assign["model"] = json!(name);
        assign["stream"] = json!(false);
        session.say(worker::ASSIGN, assign).await;
        let (_, done) = session.until(worker::COMPLETE).await;
        assert_eq!(server.count(CHAT, id), before + 1, "{name}");
        if number == 1 {
            assert_eq!(done["result"]["model"], "clever");
        }
    }
    assert_eq!(server.count(CHAT, "/m/b/qwen.gguf"), 0);
}

/// A namespace with one address and a server in it, as the Windows host is to a WSL2 machine.
struct Host {
    name: String,
    server: Option<Child>,
}

impl Host {
    const ADDRESS: &str = "10.213.77.1";

    /// `None` where namespaces cannot be made: that takes root.
    fn make() -> Option<Self> {
        let host = Self { name: format!("mtor-wsl-{}", std::process::id()), server: None };
        let name = &*host.name;
        let link = format!("mw{}", std::process::id());
        let peer = format!("{link}p");
        let inner = format!("{}/24", Self::ADDRESS);
        let steps: [&[&str]; 6] = [
            &["netns", "add", name],
            &["link", "add", &link, "type", "veth", "peer", "name", &peer, "netns", name],
            &["addr", "add", "10.213.77.2/24", "dev", &link],
            &["link", "set", &link, "up"],
            &["-n", name, "addr", "add", &inner, "dev", &peer],
            &["-n", name, "link", "set", &peer, "up"],
        ];
        let ip = |step: &[&str]| {
            let done = Command::new("ip").args(step).stderr(Stdio::null()).status();
            done.is_ok_and(|status| status.success())
        };
        steps.iter().all(|step| ip(step)).then_some(host)
    }

    /// Answers as Ollama does, in the namespace.
    fn serve(&mut self, folder: &Path, port: u16) {
        const SERVER: &str = r#"
import http.server, json, sys
PAGES = {"/api/version": {"version": "0.13.0"}, "/api/tags": {"models": [{"name": "phi:3b"}]},
         "/v1/models": {"data": [{"id": "phi:3b", "owned_by": "library"}]},
         "/v1/chat/completions": {"choices": [{"message": {"content": "4"}}]}}
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        body = json.dumps(PAGES.get(self.path, {})).encode()
        self.send_response(200 if self.path in PAGES else 404)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_POST = do_GET
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("0.0.0.0", int(sys.argv[1])), Answer).serve_forever()
"#;
        let script = folder.join("host.py");
        std::fs::write(&script, SERVER).unwrap();
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, "python3"]).arg(script).arg(port.to_string());
        self.server = Some(command.spawn().unwrap());
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            let _ = server.kill();
            let _ = server.wait();
        }
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

#[tokio::test]
async fn under_wsl2_the_windows_host_is_asked_and_the_remedy_told_once() {
    let Some(mut host) = Host::make() else {
        eprintln!("skipped: network namespaces cannot be made here (that takes root and iproute2)");
        return;
    };
    let folder = Folder::new();
    let proc = folder.0.join("proc");
    std::fs::create_dir_all(proc.join("sys/kernel")).unwrap();
    std::fs::create_dir_all(proc.join("net")).unwrap();
    std::fs::write(proc.join("sys/kernel/osrelease"), "6.6.87.2-microsoft-standard-WSL2\n")
        .unwrap();
    let gateway = u32::from_ne_bytes([10, 213, 77, 1]);
    let routes =
        format!("Iface\tDestination\tGateway\tFlags\neth0\t00000000\t{gateway:08X}\t0003\n");
    std::fs::write(proc.join("net/route"), routes).unwrap();
    let port = free_port();
    let mut options = Discovery::new(2, ModelNames::default());
    (options.ports, options.proc) = (vec![port], proc);
    let realm = Realm::start().await;
    let mut worker = Worker::start(&realm, discover(&options));
    let mut session = realm.accept().await;
    let advice = news(&mut worker, |_| true).await;
    let BackendNews::Advice { message } = advice else { panic!("{advice:?}") };
    for part in ["OLLAMA_HOST=0.0.0.0", "networkingMode=mirrored", Host::ADDRESS] {
        assert!(message.contains(part), "{message}");
    }
    // Done as it says: found on the host, and nothing more is advised.
    host.serve(&folder.0, port);
    offered(&mut session, &["chat phi:3b"]).await;
    let found = soon(news(&mut worker, |_| true)).await;
    let BackendNews::Found { server, url, .. } = found else { panic!("{found:?}") };
    assert_eq!((server, url), ("ollama", format!("http://{}:{port}", Host::ADDRESS)));
}
