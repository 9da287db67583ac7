//! Slots are a backend's: whatever models it has, it gets no more requests at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::common::backend;
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
        let busy = Arc::new(Self::default());
        let shared = Arc::clone(&busy);
        let port = backend::serve(move |path, asked| match path {
            "/v1/models" => {
                let models = (0..MODELS).map(|n| json!({"id": format!("m{n}")}));
                json!({"data": models.collect::<Vec<_>>()})
            }
            "/v1/chat/completions" => shared.chat(asked),
            _ => Value::Null,
        });
        (port, busy)
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
