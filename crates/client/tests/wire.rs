//! The client against a scripted server: a TEST TOOL that answers each connection from a list.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panicking, too")]

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use mtor_client::{Client, ClientError, EventKind, Intent};
use mtor_types::{Amount, Code};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const ID: &str = "01010101-0101-0101-0101-010101010101";

/// What a connection is answered with, in raw HTTP; then it is closed.
struct Script {
    address: String,
    /// The requests that came, in order, as text.
    seen: Arc<Mutex<Vec<String>>>,
}

impl Script {
    async fn start(answers: Vec<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let requests = Arc::clone(&seen);
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let request = read_request(&mut stream).await;
                requests.lock().unwrap().push(request);
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        Self { address, seen }
    }

    fn client(&self) -> Client {
        Client::new(&self.address).unwrap().with_key("secret-key").unwrap()
    }

    fn request(&self, index: usize) -> String {
        self.seen.lock().unwrap()[index].clone()
    }
}

async fn read_request(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return text;
            }
        }
        if stream.read_buf(&mut bytes).await.unwrap() == 0 {
            return text;
        }
    }
}

fn json(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A stream of events; without `whole` it breaks off.
fn events(events: &[(&str, &str, &str)], whole: bool) -> String {
    let mut text = String::from(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n",
    );
    for (id, name, data) in events {
        let kind = format!("mtor.intent.{name}.v1");
        let id = if id.is_empty() { String::new() } else { format!("id: {id}\n") };
        let event = format!(
            "{id}event: {kind}\ndata: {{\"specversion\":\"1.0\",\"id\":\"x\",\"source\":\"/\",\"type\":\"{kind}\",\"data\":{data}}}\n\n"
        );
        write!(text, "{:x}\r\n{event}\r\n", event.len()).unwrap();
    }
    if whole {
        text.push_str("0\r\n\r\n");
    }
    text
}

fn accepted() -> String {
    format!(r#"{{"intent":"{ID}","hold":{{"asset":"grant","amount":"5"}}}}"#)
}

fn chunk(seq: u64, piece: &str) -> String {
    format!(r#"{{"intent":"{ID}","attempt":7,"seq":{seq},"piece":{piece}}}"#)
}

const DONE: &str = r#"{"reason":"done","result":{"a":1},"usage":{"units":1},"cost":{"asset":"grant","amount":"1"}}"#;

fn echo() -> Intent {
    Intent::new("echo", serde_json::value::to_raw_value(&1).unwrap())
}

async fn follow(client: &Client, intent: &Intent) -> Result<Vec<String>, ClientError> {
    let mut stream = client.submit_streaming(intent).unwrap();
    let mut seen = Vec::new();
    while let Some(event) = stream.next().await? {
        let piece = if let EventKind::Chunk(chunk) = &event.kind { Some(chunk) } else { None };
        seen.push(piece.map_or(event.name, |chunk| chunk.piece.get().to_owned()));
    }
    Ok(seen)
}

#[tokio::test]
async fn a_refusal_comes_back_in_the_realms_words() {
    let body = r#"{"error":{"code":"MT0015","type":"queue_full","message":"the queue is full","retry_after_ms":70,"docs":"d"}}"#;
    let script = Script::start(vec![
        json("429 Too Many Requests", body),
        json("502 Bad Gateway", "<html>"),
        json("200 OK", "[1,2"),
    ])
    .await;
    let error = script.client().account().await.unwrap_err();
    assert_eq!(error.code(), Some(Code::QueueFull));
    assert_eq!(error.to_string(), "the queue is full");
    assert_eq!(error.remedy().as_deref(), Some("try again in 70 ms"));
    assert!(script.request(0).contains("authorization: Bearer secret-key"));
    assert!(script.request(0).starts_with("GET /v1/account HTTP/1.1"));
    let error = script.client().account().await.unwrap_err();
    assert!(matches!(&error, ClientError::Refused { code, status: 502, .. } if code == "HTTP 502"));
    let error = script.client().account().await.unwrap_err();
    assert!(matches!(error, ClientError::Unreadable { expected: "an account", .. }));
    assert!(!format!("{:?}", script.client()).contains("secret-key"));
}

#[tokio::test]
async fn who_does_not_listen_is_named_with_a_remedy() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let client = Client::new(&format!("http://{free}")).unwrap();
    let error = client.pools().await.unwrap_err();
    assert!(error.to_string().contains(&free.to_string()), "{error}");
    assert!(error.remedy().unwrap().contains("mtor up"));
    // A submission is not tried again either: nobody is there.
    assert!(matches!(follow(&client, &echo()).await, Err(ClientError::Unreachable { .. })));
}

#[tokio::test]
async fn pages_follow_each_other_and_amounts_are_whole() {
    let body = r#"{"items":[{"id":"00000000000000000000000000000001","sequence":1,"kind":"grant","direction":"in","asset":"grant","amount":"79228162514264337593543950336","intent":null,"time":5}],"next":"1"}"#;
    let script = Script::start(vec![json("200 OK", body)]).await;
    let page = script.client().transfers(10, Some("0 &")).await.unwrap();
    assert_eq!(page.items[0].amount, Amount::MAX);
    assert_eq!(page.next.as_deref(), Some("1"));
    assert!(script.request(0).starts_with("GET /v1/account/transfers?limit=10&after=0%20%26 "));
}

#[tokio::test]
async fn a_stream_that_breaks_is_resumed_and_nothing_comes_twice() {
    let (first, second, third) = (chunk(0, "1"), chunk(1, "2"), chunk(2, "3"));
    let begin = accepted();
    let script = Script::start(vec![
        events(
            &[("", "accepted", &begin), ("7.0", "chunk", &first), ("7.1", "chunk", &second)],
            false,
        ),
        json("503 Service Unavailable", r#"{"error":{"code":"MT0024","message":"stopping"}}"#),
        // A realm that begins again from the first event.
        events(
            &[
                ("", "accepted", &begin),
                ("7.1", "chunk", &second),
                ("7.2", "chunk", &third),
                ("", "completed", DONE),
                ("", "settled", r#"{"receipt":{}}"#),
            ],
            true,
        ),
    ])
    .await;
    let mut intent = echo();
    intent.key = Some("once".into());
    intent.durable = Some(true);
    let seen = follow(&script.client(), &intent).await.unwrap();
    assert_eq!(seen, ["accepted", "1", "2", "3", "completed", "settled"]);
    let request = script.request(0);
    assert!(
        request.contains("idempotency-key: once") && request.contains("accept: text/event-stream")
    );
    assert!(request.ends_with(r#"{"intent":"echo","data":1,"durable":true}"#), "{request}");
    let request = script.request(2);
    assert!(request.starts_with(&format!("GET /v1/intents/{ID}/events HTTP/1.1")), "{request}");
    assert!(request.contains("last-event-id: 7.1"), "{request}");
}

#[tokio::test]
async fn a_submission_that_was_not_named_is_sent_again_under_its_key() {
    let begin = accepted();
    let script = Script::start(vec![
        events(&[], false),
        events(&[("", "accepted", &begin), ("", "completed", DONE)], true),
    ])
    .await;
    // The receipt does not come: the end is what counts.
    assert_eq!(follow(&script.client(), &echo()).await.unwrap(), ["accepted", "completed"]);
    let key = |request: String| {
        let line =
            request.lines().find(|line| line.starts_with("idempotency-key: ")).map(str::to_owned);
        line.unwrap()
    };
    assert_eq!(key(script.request(0)), key(script.request(1)));
    assert!(script.request(1).starts_with("POST /v1/intents "));
}

#[tokio::test]
async fn a_submission_that_broke_before_its_answer_is_sent_again_under_its_key() {
    let begin = accepted();
    // The connection ends without a head: the realm may have taken it.
    let script = Script::start(vec![
        String::new(),
        events(&[("", "accepted", &begin), ("", "completed", DONE)], true),
    ])
    .await;
    assert_eq!(follow(&script.client(), &echo()).await.unwrap(), ["accepted", "completed"]);
    let key = |request: String| {
        let mut lines = request.lines().map(str::to_owned);
        lines.find(|line| line.starts_with("idempotency-key: ")).unwrap()
    };
    assert_eq!(key(script.request(0)), key(script.request(1)));
}

#[tokio::test]
async fn where_the_events_are_gone_the_end_is_read_from_the_intent() {
    let view = format!(
        r#"{{"intent":"{ID}","status":"completed","result":[9],"cost":{{"asset":"grant","amount":"1"}}}}"#
    );
    let begin = accepted();
    let gone = r#"{"error":{"code":"MT0034","message":"no longer kept"}}"#;
    let script = Script::start(vec![
        events(&[("", "accepted", &begin)], false),
        json("410 Gone", gone),
        json("200 OK", &view),
        // The same key again, after the end.
        json("202 Accepted", &begin),
        json("200 OK", &view),
    ])
    .await;
    assert_eq!(follow(&script.client(), &echo()).await.unwrap(), ["accepted", "completed"]);
    assert_eq!(follow(&script.client(), &echo()).await.unwrap(), ["completed"]);
}

#[tokio::test]
async fn what_cannot_get_better_is_not_tried_again() {
    let begin = accepted();
    let script = Script::start(vec![
        json("402 Payment Required", r#"{"error":{"code":"MT0014","message":"short"}}"#),
        events(&[("", "accepted", &begin), ("7.0", "chunk", "{}")], true),
        json("200 OK", "{}"),
    ])
    .await;
    let error = follow(&script.client(), &echo()).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::BalanceTooLow));
    for _ in 0..2 {
        let error = follow(&script.client(), &echo()).await.unwrap_err();
        assert!(matches!(error, ClientError::Unreadable { .. }), "{error}");
    }
}
