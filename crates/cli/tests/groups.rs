//! Slots are a backend's: whatever models it has, it gets no more requests at once.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::common::http::Guest;
use crate::common::socket::Hand;
use crate::common::worker::Worker;
use crate::common::{Place, Realm, eventually};
use serde_json::{Value, json};

const MODELS: usize = 6;

/// A server of six models that counts how many answers it is busy with.
#[derive(Default)]
struct Busy {
    now: AtomicUsize,
    most: AtomicUsize,
    answers: AtomicUsize,
}

impl Busy {
    fn serve() -> (u16, Arc<Self>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, busy) = (listener.local_addr().unwrap().port(), Arc::new(Self::default()));
        let shared = Arc::clone(&busy);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let busy = Arc::clone(&shared);
                // Whoever hangs up early is not this server's business.
                std::thread::spawn(move || busy.answer(stream).ok());
            }
        });
        (port, busy)
    }

    fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let (mut first, mut length) = (String::new(), 0);
        reader.read_line(&mut first)?;
        for line in reader.by_ref().lines() {
            let line = line?.to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
        let page = match first.split(' ').nth(1).unwrap_or_default() {
            "/v1/models" => {
                let models = (0..MODELS).map(|n| json!({"id": format!("m{n}")}));
                json!({"data": models.collect::<Vec<_>>()})
            }
            "/v1/chat/completions" => self.chat(&asked),
            _ => Value::Null,
        };
        let status = if page.is_null() { "404 Not Found" } else { "200 OK" };
        let (page, kind) = (page.to_string(), "content-type: application/json");
        let length = page.len();
        write!(
            stream,
            "HTTP/1.1 {status}\r\n{kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{page}"
        )
    }

    fn chat(&self, asked: &Value) -> Value {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(100));
        self.answers.fetch_add(1, Ordering::SeqCst);
        self.now.fetch_sub(1, Ordering::SeqCst);
        json!({
            "model": asked["model"],
            "choices": [{"message": {"content": "four"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 4, "completion_tokens": 1},
        })
    }
}

fn chat(number: usize) -> Value {
    let (model, messages) =
        (format!("m{}", number % MODELS), json!([{"role": "user", "content": "2+2"}]));
    json!({"intent": "chat", "data": {"model": model, "max_tokens": 8, "messages": messages}})
}

fn pools(guest: &Guest) -> Vec<Value> {
    guest.ask("GET", "/v1/pools", "").json()["items"].as_array().unwrap().clone()
}

#[test]
fn a_backend_of_six_models_with_four_slots_gets_four_requests_at_once() {
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    let (port, busy) = Busy::serve();
    let backend = format!("openai=http://127.0.0.1:{port}");
    let _worker = Worker::start(&place, &realm, &["--backend", &backend]);
    let guest = Guest::new(&realm.url);
    eventually(|| pools(&guest).len() == MODELS);
    assert!(pools(&guest).iter().all(|pool| pool["slots"] == 4), "{:?}", pools(&guest));
    let probes = busy.answers.load(Ordering::SeqCst);
    let batch: Vec<Value> = (0..MODELS * 8).map(chat).collect();
    let reply = guest.ask("POST", "/v1/intents/batch", &json!(batch).to_string());
    assert_eq!(reply.status, 202, "{reply:?}");
    eventually(|| guest.grant().1 == 0);
    assert_eq!(busy.answers.load(Ordering::SeqCst), probes + MODELS * 8, "each once");
    assert_eq!(busy.most.load(Ordering::SeqCst), 4);
}

/// Any program that speaks the protocol.
#[test]
fn the_assignment_names_the_group_and_one_without_has_its_own_slots() {
    let place = Place::new();
    let realm = Realm::start(&place, &["--no-worker"]);
    let of = |model: &str| json!({"intent": "chat", "model": model, "slots": 1, "group": "gpu 0"});
    let offers = json!([of("m0"), of("m1"), {"intent": "chat", "model": "m2", "slots": 1}]);
    let mut hand = Hand::join(&realm, 1, &offers);
    let guest = Guest::new(&realm.url);
    eventually(|| pools(&guest).len() == 3);
    for number in 0..3 {
        let reply = guest.ask("POST", "/v1/intents", &chat(number).to_string());
        assert_eq!(reply.status, 202, "{reply:?}");
    }
    let (first, other) = (hand.assigned(), hand.assigned());
    assert_eq!((&first["model"], &first["group"]), (&json!("m0"), &json!("gpu 0")));
    assert_eq!((&other["model"], other.get("group")), (&json!("m2"), None));
    // The list is told again as slots are taken.
    let busy = || pools(&guest).iter().all(|pool| pool["busy"] == 1);
    eventually(busy);
    hand.complete_with(&first, 1, &crate::common::socket::says("four"));
    let next = hand.assigned();
    assert_eq!((&next["model"], &next["group"]), (&json!("m1"), &json!("gpu 0")));
}
