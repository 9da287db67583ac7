//! The session against a small realm.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

mod common;

use std::time::Duration;

use common::{Folder, REALM, Realm, Worker, assignment, claim, intent, soon, verify};
use mtor_types::worker::{self, Fail, FailCode};
use mtor_types::{Amount, Digest, Price, RealmId};
use mtor_worker::{Change, ExecutorOptions, Status, WorkerError};
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

#[tokio::test]
async fn a_token_enrols_once_and_the_proof_verifies() {
    let realm = Realm::start().await;
    let mut worker = Worker::start_with(&realm, Folder::new(), |options| {
        options.token = Some("secret".into());
        options.name = "box".into();
        let price = Price { amount: Amount::from_u64(2), per: 3 };
        options.prices.insert("echo".into(), price);
    });
    let enrol = realm.enrol(201).await;
    assert_eq!((enrol.token.as_str(), enrol.name.as_str()), ("secret", "box"));
    verify(enrol.worker, &worker::enrol_proof("secret", enrol.worker), &enrol.signature);
    let session = realm.accept().await;
    assert_eq!(session.hello.worker, enrol.worker);
    let offer = &session.offers.offers[0];
    assert_eq!((offer.intent.as_str(), offer.slots), ("echo", 8));
    assert_eq!(offer.price.map(|price| price.per), Some(3));
    assert_eq!(
        worker.until(|status| matches!(status, Status::Enrolled { .. })).await,
        Status::Enrolled { realm: REALM }
    );
    worker.end.abort();
    let folder = worker.folder;
    drop(session);
    // The same identity with a token again: the realm is asked for a session at once.
    let again = Worker::start_with(&realm, folder, |options| options.token = Some("other".into()));
    assert_eq!(realm.accept().await.hello.worker, enrol.worker);
    again.end.abort();
}

#[tokio::test]
async fn a_refused_token_ends_the_worker_only_if_the_session_is_refused_too() {
    let realm = Realm::start().await;
    let token = |options: &mut mtor_worker::WorkerOptions| options.token = Some("used".into());
    let worker = Worker::start_with(&realm, Folder::new(), token);
    realm.enrol(401).await;
    // Full: that is not about this worker, and another time it may be taken.
    realm.accept().await.refuse(1013).await;
    realm.accept().await.refuse(1008).await;
    match soon(worker.end).await.unwrap() {
        Err(WorkerError::Enrol { status: 401, message }) => assert!(message.contains("MT0021")),
        other => panic!("{other:?}"),
    }
    let worker = Worker::start_with(&realm, Folder::new(), token);
    realm.enrol(401).await;
    let mut session = realm.accept().await;
    session.assign(1, "echo", json!(1)).await;
    session.hear(worker::COMPLETE).await;
    drop(session);
    // Once it was taken the refused token is forgotten: a refusal is no longer about it.
    realm.accept().await.refuse(1008).await;
    realm.accept().await.until(worker::PING).await;
    worker.end.abort();
}

#[tokio::test]
async fn a_realm_that_takes_a_worker_without_a_word_has_taken_it() {
    let realm = Realm::start().await;
    let token = |options: &mut mtor_worker::WorkerOptions| options.token = Some("used".into());
    let worker = Worker::start_with(&realm, Folder::new(), token);
    realm.enrol(401).await;
    let mut session = realm.accept().await;
    // Reading on answers the question that follows the offer.
    session.until(worker::PING).await;
    session.until(worker::PING).await;
    drop(session);
    realm.accept().await.refuse(1008).await;
    realm.accept().await.until(worker::PING).await;
    worker.end.abort();
}

#[tokio::test]
async fn a_removed_worker_ends_and_a_banned_one_comes_again() {
    let realm = Realm::start().await;
    let token = |options: &mut mtor_worker::WorkerOptions| options.token = Some("good".into());
    let worker = Worker::start_with(&realm, Folder::new(), token);
    realm.enrol(201).await;
    let mut session = realm.accept().await;
    session.until(worker::PING).await;
    session.refuse(worker::CLOSE_BANNED).await;
    realm.accept().await.refuse(worker::CLOSE_BANNED).await;
    let mut session = realm.accept().await;
    session.until(worker::PING).await;
    session.refuse(worker::CLOSE_UNKNOWN).await;
    assert!(matches!(soon(worker.end).await.unwrap(), Err(WorkerError::NoToken)));
}

/// To dial again would push the other one out, and so on for ever.
#[tokio::test]
async fn a_worker_whose_key_another_process_has_ends_and_says_so() {
    for is_heard in [true, false] {
        let realm = Realm::start().await;
        let token = |options: &mut mtor_worker::WorkerOptions| options.token = Some("good".into());
        let worker = Worker::start_with(&realm, Folder::new(), token);
        realm.enrol(201).await;
        let mut session = realm.accept().await;
        if is_heard {
            session.until(worker::PING).await;
        }
        session.refuse(worker::CLOSE_REPLACED).await;
        assert!(matches!(soon(worker.end).await.unwrap(), Err(WorkerError::Replaced)));
    }
}

#[tokio::test]
async fn another_realm_at_the_address_is_told_nothing_without_a_token_of_it() {
    let mut realm = Realm::start().await;
    let token = |token: &'static str| {
        move |options: &mut mtor_worker::WorkerOptions| options.token = Some(token.into())
    };
    let worker = Worker::start_with(&realm, Folder::new(), token("first"));
    realm.enrol(201).await;
    realm.accept().await.until(worker::PING).await;
    worker.end.abort();
    realm.id = RealmId([8; 32]);
    let again = Worker::start_with(&realm, worker.folder, |_| {});
    assert_eq!(realm.greet().await.any().await, None);
    match soon(again.end).await.unwrap() {
        Err(error @ WorkerError::OtherRealm { .. }) => {
            let message = error.to_string();
            let realms = [REALM.to_string(), realm.id.to_string()];
            assert!(realms.iter().all(|id| message.contains(id)), "{message}");
        }
        other => panic!("{other:?}"),
    }
    // With one it is meant.
    let meant = Worker::start_with(&realm, again.folder, token("second"));
    let mut session = realm.greet().await;
    realm.enrol(201).await;
    session.hear(worker::HELLO).await;
    meant.end.abort();
}

#[tokio::test]
async fn an_assignment_streams_and_completes() {
    let realm = Realm::start().await;
    let mut worker = Worker::start(&realm, vec![ExecutorOptions::echo()]);
    let mut session = realm.accept().await;
    let data = json!({"chunks": 3, "delayms": 1, "text": "é"});
    session.assign(1, "echo", data.clone()).await;
    for seq in 0..3 {
        let chunk = session.hear(worker::CHUNK).await;
        let expected =
            json!({"intent": intent(1), "attempt": 1, "seq": seq, "count": 1, "piece": data});
        assert_eq!(chunk, expected);
    }
    let complete = session.hear(worker::COMPLETE).await;
    assert_eq!((&complete["usage"]["units"], &complete["result"]), (&json!(1), &data));
    session.assign(2, "echo", json!([1, "two"])).await;
    assert_eq!(session.hear(worker::COMPLETE).await["result"], json!([1, "two"]));
    session.acknowledge(2).await;
    assert!(matches!(
        worker.until(|status| matches!(status, Status::Completed { .. })).await,
        Status::Completed { units: 1, .. }
    ));
}

#[tokio::test]
async fn connected_and_completed_are_told_when_the_realm_has_said_so() {
    let realm = Realm::start().await;
    let mut worker = Worker::start(&realm, vec![ExecutorOptions::echo()]);
    realm.accept().await.refuse(1013).await;
    let mut session = realm.accept().await;
    session.assign(1, "echo", json!(1)).await;
    session.hear(worker::COMPLETE).await;
    drop(session);
    let mut session = realm.accept().await;
    session.assign(1, "echo", json!(1)).await;
    session.hear(worker::COMPLETE).await;
    session.acknowledge(1).await;
    session.assign(2, "echo", json!({"chunks": 0})).await;
    session.hear(worker::FAIL).await;
    let mut told = Vec::new();
    loop {
        let status = soon(worker.status.recv()).await.unwrap();
        if matches!(status, Status::Failed { .. }) {
            break;
        } else if matches!(status, Status::Connected { .. }) {
            told.push("connected");
        } else if matches!(status, Status::Disconnected { .. }) {
            told.push("disconnected");
        } else if matches!(status, Status::Completed { .. }) {
            told.push("completed");
        }
    }
    let expected = ["disconnected", "connected", "disconnected", "connected", "completed"];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn raw_data_comes_back_as_it_was_written() {
    let realm = Realm::start().await;
    let _worker = Worker::start(&realm, vec![ExecutorOptions::echo()]);
    let mut session = realm.accept().await;
    let raw = r#"{"n":1.0e3,  "u":"\u00e9","big":123456789012345678901234567890}"#;
    let assign = assignment(1, "echo", json!("DATA")).to_string().replace("\"DATA\"", raw);
    let event = format!(
        r#"{{"specversion":"1.0","id":"1","source":"/r","type":"{}","data":{assign}}}"#,
        worker::ASSIGN
    );
    session.send(Message::text(event)).await;
    let answer = loop {
        let text = session.text().await.unwrap();
        if text.contains(worker::COMPLETE) {
            break text;
        }
    };
    assert!(answer.contains(&format!("\"result\":{raw}")), "{answer}");
}

#[tokio::test]
async fn heartbeats_renew_what_is_held_and_ping_otherwise() {
    let realm = Realm::start().await;
    let _worker = Worker::start(&realm, vec![ExecutorOptions::echo()]);
    let mut session = realm.accept().await;
    session.until(worker::PING).await;
    session.assign(1, "echo", json!({"delayms": 60_000})).await;
    let (_, renew) = session.until(worker::RENEW).await;
    assert_eq!(renew, json!({"leases": [claim(1)]}));
    session.say(worker::REVOKE, claim(1)).await;
    session.until(worker::PING).await;
}

#[tokio::test]
async fn credit_blocks_one_intent_and_not_another() {
    let mut realm = Realm::start().await;
    let data = |text: &str| json!({"chunks": 5, "text": text.repeat(1000)});
    let bytes = data("a").to_string().len() as u64;
    realm.credit = bytes + bytes / 2;
    let _worker = Worker::start(&realm, vec![ExecutorOptions::echo()]);
    let mut session = realm.accept().await;
    session.assign(1, "echo", data("a")).await;
    for seq in 0..2 {
        assert_eq!(session.hear(worker::CHUNK).await["seq"], seq);
    }
    // The first has used its credit up; the second comes as far, and then the third ends.
    session.assign(2, "echo", data("b")).await;
    for seq in 0..2 {
        let chunk = session.hear(worker::CHUNK).await;
        assert_eq!((&chunk["intent"], &chunk["seq"]), (&json!(intent(2)), &json!(seq)));
    }
    session.assign(3, "echo", json!("free")).await;
    assert_eq!(session.hear(worker::COMPLETE).await["intent"], intent(3));
    session.until(worker::RENEW).await;
    // The second overshot it by half a piece: with a little more than that one more may go, which
    // overshoots again, then the rest.
    let grant = |bytes| json!({"intent": intent(1), "attempt": 1, "bytes": bytes});
    session.say(worker::CREDIT, grant(bytes.div_ceil(2) + 1)).await;
    assert_eq!(session.hear(worker::CHUNK).await["seq"], 2);
    session.say(worker::CREDIT, grant(2 * bytes)).await;
    for seq in 3..5 {
        let chunk = session.hear(worker::CHUNK).await;
        assert_eq!((&chunk["intent"], &chunk["seq"]), (&json!(intent(1)), &json!(seq)));
    }
    assert_eq!(session.hear(worker::COMPLETE).await["intent"], intent(1));
}

#[tokio::test]
async fn a_piece_above_the_whole_credit_goes_once_there_is_any() {
    let mut realm = Realm::start().await;
    realm.credit = 16;
    let _worker = Worker::start(&realm, vec![ExecutorOptions::echo()]);
    let mut session = realm.accept().await;
    session.assign(1, "echo", json!({"chunks": 1, "text": "much too long for that"})).await;
    assert_eq!(session.hear(worker::CHUNK).await["seq"], 0);
    assert_eq!(session.hear(worker::COMPLETE).await["intent"], intent(1));
}

#[tokio::test]
async fn revoke_stops_a_stream() {
    let realm = Realm::start().await;
    let _worker = Worker::start(&realm, vec![ExecutorOptions::Echo { slots: 1 }]);
    let mut session = realm.accept().await;
    session.assign(1, "echo", json!({"chunks": 10_000, "delayms": 1})).await;
    for _ in 0..3 {
        session.hear(worker::CHUNK).await;
    }
    session.say(worker::REVOKE, claim(1)).await;
    // The only slot is free again, and after its answer nothing of the first comes any more.
    session.assign(2, "echo", json!({"delayms": 1})).await;
    let (_, complete) = session.until(worker::COMPLETE).await;
    assert_eq!(complete["intent"], intent(2));
    session.acknowledge(2).await;
    for _ in 0..3 {
        assert_eq!(session.any().await.unwrap().0, worker::PING);
    }
}

#[tokio::test]
async fn a_deadline_stops_the_work_without_a_word() {
    let realm = Realm::start().await;
    let mut worker = Worker::start(&realm, vec![ExecutorOptions::Echo { slots: 1 }]);
    let mut session = realm.accept().await;
    let mut assign = assignment(1, "echo", json!({"delayms": 60_000}));
    assign["deadline_ms"] = json!(120);
    session.say(worker::ASSIGN, assign).await;
    worker.until(|status| matches!(status, Status::Started { .. })).await;
    // The only slot is asked for again until it is free. What comes meanwhile is of those who asked
    // too early, or renews the first.
    for number in 2..=255 {
        session.assign(number, "echo", json!(0)).await;
        let end = loop {
            let (kind, data) = session.any().await.unwrap();
            if kind == worker::COMPLETE || kind == worker::FAIL {
                assert_eq!(data["intent"], intent(number), "{kind}: {data}");
                break kind;
            }
            assert!(kind == worker::RENEW || kind == worker::PING, "{kind}: {data}");
        };
        if end == worker::COMPLETE {
            return;
        }
        // At the pace of its heartbeats.
        session.any().await.unwrap();
    }
    panic!("the deadline did not stop the first");
}

#[tokio::test]
async fn an_adopted_attempt_is_sent_again_and_not_run_again() {
    let realm = Realm::start().await;
    let mut worker = Worker::start(&realm, vec![ExecutorOptions::echo()]);
    let mut session = realm.accept().await;
    let data = json!({"chunks": 40, "delayms": 2});
    session.assign(1, "echo", data.clone()).await;
    // Ended, but never acknowledged.
    session.assign(2, "echo", json!("kept")).await;
    session.until(worker::COMPLETE).await;
    session.hear(worker::CHUNK).await;
    drop(session);
    let mut session = realm.accept().await;
    let mut held = session.held().to_vec();
    held.sort_by_key(|lease| lease.intent);
    assert_eq!(held.len(), 2);
    assert_eq!((held[0].fence.0, held[0].token), (11, Digest([1; 32])));
    assert_eq!((held[1].fence.0, held[1].token), (12, Digest([2; 32])));
    let mut adopted = assignment(1, "echo", data.clone());
    adopted["fence"] = json!(99);
    session.say(worker::ASSIGN, adopted).await;
    for seq in 0..40 {
        assert_eq!(session.hear(worker::CHUNK).await["seq"], seq);
    }
    assert_eq!(session.hear(worker::COMPLETE).await["result"], data);
    session.assign(2, "echo", json!("kept")).await;
    assert_eq!(session.hear(worker::COMPLETE).await["result"], "kept");
    assert_eq!(worker.started(), 2);
    // The new fence is the one that is listed next; what was acknowledged is not.
    session.acknowledge(2).await;
    session.assign(3, "echo", json!(3)).await;
    session.hear(worker::COMPLETE).await;
    session.acknowledge(3).await;
    session.until(worker::PING).await;
    drop(session);
    let session = realm.accept().await;
    assert_eq!(session.held().len(), 1);
    assert_eq!(session.held()[0].fence.0, 99);
}

#[tokio::test]
async fn what_is_not_adopted_is_revoked_and_silent_until_then() {
    let realm = Realm::start().await;
    let _worker = Worker::start(&realm, vec![ExecutorOptions::Echo { slots: 1 }]);
    let mut session = realm.accept().await;
    session.assign(1, "echo", json!({"chunks": 10_000, "delayms": 1})).await;
    session.hear(worker::CHUNK).await;
    drop(session);
    let mut session = realm.accept().await;
    assert_eq!(session.held().len(), 1);
    // Neither chunks nor renewals of what this session does not know.
    for _ in 0..3 {
        assert_eq!(session.any().await.unwrap().0, worker::PING);
    }
    session.say(worker::REVOKE, claim(1)).await;
    session.assign(2, "echo", json!(2)).await;
    assert_eq!(session.hear(worker::COMPLETE).await["intent"], intent(2));
}

#[tokio::test]
async fn what_cannot_be_taken_is_refused_by_name() {
    let realm = Realm::start().await;
    let _worker = Worker::start(&realm, vec![ExecutorOptions::Echo { slots: 1 }]);
    let mut session = realm.accept().await;
    session.assign(1, "echo", json!({"delayms": 60_000})).await;
    session.assign(2, "echo", json!(2)).await;
    let fail: Fail = serde_json::from_value(session.hear(worker::FAIL).await).unwrap();
    assert_eq!((fail.code, fail.retry), (FailCode::Backend, true));
    session.assign(3, "paint", json!(3)).await;
    let fail: Fail = serde_json::from_value(session.hear(worker::FAIL).await).unwrap();
    assert_eq!((fail.code, fail.retry), (FailCode::Unsupported, true));
    session.say(worker::REVOKE, claim(1)).await;
    session.assign(4, "echo", json!({"chunks": 0})).await;
    let fail: Fail = serde_json::from_value(session.hear(worker::FAIL).await).unwrap();
    assert_eq!((fail.code, fail.retry), (FailCode::BadRequest, false));
    assert!(fail.message.contains("`chunks`"));
}

#[tokio::test]
async fn malformed_frames_are_skipped() {
    let realm = Realm::start().await;
    let _worker = Worker::start(&realm, vec![ExecutorOptions::echo()]);
    let mut session = realm.accept().await;
    for text in ["", "not json", "{}", "[1]", "{\"specversion\":\"1.0\",\"id\":\"1\"}"] {
        session.send(Message::text(text)).await;
    }
    session.send(Message::binary(vec![1, 2, 3])).await;
    session.say(worker::ASSIGN, json!({"intent": "x"})).await;
    session.say(worker::ASSIGN, json!(null)).await;
    session.say(worker::CREDIT, json!({"intent": intent(1), "attempt": -1})).await;
    session.say(worker::CREDIT, json!({"intent": intent(1), "attempt": 5, "bytes": 1})).await;
    session.say(worker::REVOKE, claim(7)).await;
    session.say(worker::ACKNOWLEDGE, claim(7)).await;
    session.say("mtor.worker.unknown.v1", json!({})).await;
    session.assign(1, "echo", json!("still here")).await;
    assert_eq!(session.hear(worker::COMPLETE).await["result"], "still here");
}

#[tokio::test]
async fn a_drain_lets_work_finish_and_takes_nothing_new() {
    let realm = Realm::start().await;
    let mut worker = Worker::start(&realm, vec![ExecutorOptions::echo()]);
    let mut session = realm.accept().await;
    session.assign(1, "echo", json!({"chunks": 20, "delayms": 5})).await;
    session.hear(worker::CHUNK).await;
    worker.stop();
    let (_, drain) = session.until(worker::DRAIN).await;
    assert_eq!(drain, json!({}));
    session.assign(2, "echo", json!(2)).await;
    let (_, fail) = session.until(worker::FAIL).await;
    assert_eq!((&fail["intent"], &fail["retry"]), (&json!(intent(2)), &json!(true)));
    let (before, complete) = session.until(worker::COMPLETE).await;
    assert_eq!(complete["intent"], intent(1));
    assert!(before.iter().any(|(kind, _)| kind == worker::CHUNK));
    session.acknowledge(1).await;
    while session.any().await.is_some() {}
    soon(worker.end).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_drain_is_bounded_by_its_grace() {
    let realm = Realm::start().await;
    let mut worker = Worker::start_with(&realm, Folder::new(), |options| {
        options.drain_grace = Duration::from_millis(30);
    });
    let mut session = realm.accept().await;
    session.assign(1, "echo", json!({"delayms": 60_000})).await;
    session.until(worker::RENEW).await;
    worker.stop();
    session.until(worker::DRAIN).await;
    while session.any().await.is_some() {}
    soon(worker.end).await.unwrap().unwrap();
}

#[tokio::test]
async fn many_answers_share_a_session_in_order() {
    let realm = Realm::start().await;
    let _worker = Worker::start(&realm, vec![ExecutorOptions::Echo { slots: 200 }]);
    let mut session = realm.accept().await;
    for number in 0..200 {
        session.assign(number, "echo", json!({"chunks": 10, "number": number})).await;
    }
    let mut next = [0_u64; 200];
    let mut done = 0;
    while done < 200 {
        let (kind, data) = session.any().await.unwrap();
        if kind == worker::CHUNK {
            let number = usize::try_from(data["piece"]["number"].as_u64().unwrap()).unwrap();
            assert_eq!(data["seq"], next[number]);
            next[number] += 1;
        } else if kind == worker::COMPLETE {
            let number = usize::try_from(data["result"]["number"].as_u64().unwrap()).unwrap();
            assert_eq!(next[number], 10, "all pieces come before the end");
            done += 1;
        }
    }
}

#[tokio::test]
async fn what_is_added_later_and_known_at_once_is_offered() {
    let realm = Realm::start().await;
    let (change, parent) = tokio::sync::mpsc::channel(4);
    let _worker = Worker::start_with(&realm, Folder::new(), |options| {
        options.executors = vec![ExecutorOptions::Fft { slots: 1 }];
        options.parent = Some(parent);
    });
    let mut session = realm.accept().await;
    let executor = ExecutorOptions::Echo { slots: 3 };
    change.send(Change::Add { key: 7, executor }).await.unwrap();
    let (_, offers) = session.until(worker::OFFER).await;
    assert_eq!(offers["offers"][1]["intent"], "echo", "{offers}");
    change.send(Change::Remove { key: 7 }).await.unwrap();
    let (_, offers) = session.until(worker::OFFER).await;
    assert_eq!(offers["offers"].as_array().unwrap().len(), 1, "{offers}");
}

#[tokio::test]
async fn executors_come_and_go_while_the_worker_runs() {
    let realm = Realm::start().await;
    let (parent, changes) = tokio::sync::mpsc::channel(4);
    let worker = Worker::start_with(&realm, Folder::new(), |options| {
        options.executors = vec![ExecutorOptions::Fft { slots: 1 }];
        options.parent = Some(changes);
    });
    let mut session = realm.accept().await;
    let names = |offers: &serde_json::Value| {
        let offers = offers["offers"].as_array().unwrap().iter();
        offers.map(|offer| offer["intent"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let executor = ExecutorOptions::Echo { slots: 2 };
    parent.send(Change::Add { key: 7, executor }).await.unwrap();
    let (_, offers) = session.until(worker::OFFER).await;
    assert_eq!(names(&offers), ["fft", "echo"]);
    session.assign(1, "echo", json!({"chunks": 40, "delayms": 5})).await;
    session.until(worker::CHUNK).await;

    // What it has begun it ends, and it takes nothing new.
    parent.send(Change::Remove { key: 7 }).await.unwrap();
    let (_, offers) = session.until(worker::OFFER).await;
    assert_eq!(names(&offers), ["fft"]);
    session.assign(2, "echo", json!(1)).await;
    let (_, fail) = session.until(worker::FAIL).await;
    assert_eq!((&fail["intent"], &fail["code"]), (&json!(intent(2)), &json!("unsupported")));
    let (_, complete) = session.until(worker::COMPLETE).await;
    assert_eq!(complete["intent"], json!(intent(1)));

    // Whoever started it is gone.
    drop(parent);
    soon(worker.end).await.unwrap().unwrap();
}

/// Whatever executors make of their runtime, the agent has one of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_busy_says_that_it_lives() {
    let realm = Realm::start().await;
    let folder = Folder::new();
    let mut options = mtor_worker::WorkerOptions::new(&realm.url, folder.0.join("worker.key"));
    options.executors = vec![mtor_worker::ExecutorOptions::Echo { slots: 1 }];
    options.token = Some("token".into());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let busy = std::thread::spawn(move || {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build().unwrap();
        let worker = runtime.spawn(mtor_worker::run(options, std::future::pending()));
        // Each is done at once, and there are more than a silence has room for.
        for _ in 0..200 {
            runtime.spawn(async {
                loop {
                    std::thread::sleep(Duration::from_millis(50));
                    tokio::task::yield_now().await;
                }
            });
        }
        let _ = stopped.blocking_recv();
        worker.abort();
        runtime.shutdown_background();
    });
    realm.enrol(200).await;
    let mut session = realm.accept().await;
    let began = tokio::time::Instant::now();
    while began.elapsed() < Duration::from_secs(5) {
        let heard = tokio::time::timeout(Duration::from_secs(2), session.until(worker::PING));
        heard.await.expect("a heartbeat in time");
    }
    stop.send(()).unwrap();
    busy.join().unwrap();
}
