//! A realm in this process, whose runtime the test keeps busy.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::common::http::Guest;
use crate::common::socket::Hand;
use crate::common::{Place, eventually};
use mtor_server::RealmOptions;
use serde_json::json;

#[test]
fn workers_are_heard_while_all_else_is_busy() {
    let place = Place::new();
    let mut options = RealmOptions::new(place.path().join("data"), ([127, 0, 0, 1], 0).into());
    options.embedded_worker = false;
    let (tell, told) = mpsc::sync_channel(1);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let realm = std::thread::spawn(move || {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let realm = mtor_server::Realm::open(options).await.unwrap();
            tell.send((realm.url().to_owned(), runtime.handle().clone())).unwrap();
            realm.run(async { drop(stopped.await) }).await;
        });
    });
    let (url, runtime) = told.recv().unwrap();
    let guest = Guest::new(&url);
    let mut hand = Hand::join(&guest, 1, &json!([{"intent": "echo", "slots": 1}]));
    eventually(|| guest.ask("GET", "/v1/pools", "").json()["items"] != json!([]));
    let busy = Arc::new(AtomicBool::new(true));
    // Each gives way at once, and all of them take longer than a silence.
    for _ in 0..400 {
        let busy = Arc::clone(&busy);
        runtime.spawn(async move {
            while busy.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(25));
                tokio::task::yield_now().await;
            }
        });
    }
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(7) {
        hand.socket.say("mtor.worker.ping.v1", &json!({}));
        std::thread::sleep(Duration::from_millis(500));
    }
    busy.store(false, Ordering::Relaxed);
    // It is still the session that it was.
    let work = r#"{"intent":"echo","data":1,"durable":false}"#;
    let asked = guest.ask("POST", "/v1/intents", work);
    assert_eq!(asked.status, 202, "{asked:?}");
    let assigned = hand.assigned();
    hand.complete(&assigned, 1);
    let path = format!("/v1/intents/{}", asked.json()["intent"].as_str().unwrap());
    eventually(|| guest.ask("GET", &path, "").json()["status"] == "completed");
    stop.send(()).unwrap();
    realm.join().unwrap();
}
