//! The OpenAI executor against a small server that records what it was asked.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

mod common;

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use common::{Realm, Session, Worker, assignment, intent, soon};
use futures_util::stream;
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use mtor_types::worker::{self, Fail, FailCode};
use mtor_worker::{ExecutorOptions, OpenAiOptions, Status};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

type Body = BoxBody<Bytes, Infallible>;

enum Answer {
    Json(u16, &'static str),
    Events(Vec<&'static str>),
}

struct Asked {
    path: String,
    key: Option<String>,
    body: String,
}

const MODELS: &str =
    r#"{"object":"list","data":[{"id":"m","max_model_len":4096},{"id":"nomic-embed"}]}"#;

/// Serves `GET /v1/models`, and `answer` for everything else.
async fn backend(
    answer: impl Fn(&str) -> Answer + Send + Sync + 'static,
) -> (String, mpsc::Receiver<Asked>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (tell, asked) = mpsc::channel(64);
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (tell, answer) = (tell.clone(), Arc::clone(&answer));
            let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                let (tell, answer) = (tell.clone(), Arc::clone(&answer));
                async move { Ok::<_, Infallible>(respond(request, &tell, &*answer).await) }
            });
            let io = TokioIo::new(stream);
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(io, service));
        }
    });
    (url, asked)
}

async fn respond(
    request: Request<Incoming>,
    tell: &mpsc::Sender<Asked>,
    answer: &(dyn Fn(&str) -> Answer + Send + Sync),
) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let is_get = request.method() == "GET";
    let json = |status: u16, text: &'static str| {
        let body = Full::new(Bytes::from(text)).boxed();
        Response::builder().status(status).body(body).unwrap()
    };
    if path == "/v1/models" {
        return json(200, MODELS);
    }
    if is_get {
        return json(404, "{}");
    }
    let key = request.headers().get("authorization");
    let key = key.map(|key| key.to_str().unwrap().to_owned());
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let body = String::from_utf8(body.to_vec()).unwrap();
    // The worker's own question, before it offers a model: another test's subject.
    if body.contains("What is 2+2?") {
        let right =
            [r#"{"choices":[{"message":{"content":"4"}}]}"#, r#"{"data":[{"embedding":[0.5]}]}"#];
        return json(200, right[usize::from(path == "/v1/embeddings")]);
    }
    let answer = answer(&body);
    tell.try_send(Asked { path, key, body }).unwrap();
    match answer {
        Answer::Json(status, text) => json(status, text),
        Answer::Events(events) => {
            let frames = events.into_iter().map(|e| Ok(Frame::data(Bytes::from(e))));
            Response::new(BodyExt::boxed(StreamBody::new(stream::iter(frames))))
        }
    }
}

fn executor(url: &str) -> ExecutorOptions {
    let options = OpenAiOptions::new(url, 2);
    ExecutorOptions::OpenAi(OpenAiOptions { key: Some("k3y".into()), ..options })
}

async fn start(
    answer: impl Fn(&str) -> Answer + Send + Sync + 'static,
) -> (mpsc::Receiver<Asked>, Worker, Session) {
    let (url, asked) = backend(answer).await;
    let realm = Realm::start().await;
    let worker = Worker::start(&realm, vec![executor(&url)]);
    let mut session = realm.accept().await;
    assert_eq!(session.offered("chat").await, 2);
    (asked, worker, session)
}

/// Assigns a body as raw text.
async fn ask(
    session: &mut Session,
    number: u8,
    name: &str,
    stream: bool,
    output: Option<u64>,
    raw: &str,
) {
    let mut assign = assignment(number, name, json!("DATA"));
    assign["stream"] = json!(stream);
    // What the whole may cost is far more than what the answer may.
    assign["limit"] = json!(output.map(|output| output + 1_000));
    assign["output"] = json!(output);
    let assign = assign.to_string().replace("\"DATA\"", raw);
    let kind = worker::ASSIGN;
    let event = format!(
        r#"{{"specversion":"1.0","id":"1","source":"/r","type":"{kind}","data":{assign}}}"#
    );
    session.send(Message::text(event)).await;
}

/// Everything that a router is known to lose.
const FIELDS: &[&str] = &[
    r#""model":"m""#,
    r#""tools":[{"type":"function","function":{"name":"f","parameters":{"b":1,"a":{}}}}]"#,
    r#""tool_choice":{"type":"function","function":{"name":"f"}}"#,
    r#""response_format":{"type":"json_schema","json_schema":{"name":"x","strict":true}}"#,
    r#""messages":[{"role":"user","content":[{"type":"text","text":"\u00e9 é"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AA=="}}]}]"#,
    r#""user":"someone""#,
    r#""seed":123456789012345678901234567890"#,
    r#""temperature":1.0e3"#,
    r#""top_p":0.10"#,
    r#""logit_bias":{"50256":-1E2}"#,
    r#""unknown_field":{"z":null,"y":[1.50,  -0.0]}"#,
];

#[tokio::test]
async fn every_field_goes_through_as_it_was_written() {
    const ANSWER: &str = r#"{"id":"x", "choices":[{"message":{"content":"hi"}}],"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7},"extra":1.0e2}"#;
    let (mut asked, _worker, mut session) = start(|_| Answer::Json(200, ANSWER)).await;
    ask(&mut session, 1, "chat", false, None, &format!("{{{}}}", FIELDS.join(", "))).await;
    let request = soon(asked.recv()).await.unwrap();
    assert_eq!(request.path, "/v1/chat/completions");
    assert_eq!(request.key.as_deref(), Some("Bearer k3y"));
    assert_eq!(request.body, format!("{{{}}}", FIELDS.join(",")));
    let text = loop {
        let text = session.text().await.unwrap();
        if text.contains(worker::COMPLETE) {
            break text;
        }
    };
    assert!(text.contains(&format!("\"result\":{ANSWER}")), "{text}");
    let event: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(event["data"]["usage"], json!({"units": 7, "input": 5, "output": 2}));
}

const CHUNKS: [&str; 7] = [
    "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n",
    ": a comment\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"a\"}}],  \"x\":1.0e1}\n\nda",
    "ta: {\"choices\":[{\"delta\":{\"content\":\"b\"}}]}\r\n\r\n",
    "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":3}}\n\n",
    "data: [DONE]\n",
    "\n",
];

#[tokio::test]
async fn a_stream_is_forwarded_and_metered() {
    let (mut asked, _worker, mut session) = start(|_| Answer::Events(CHUNKS.to_vec())).await;
    let body = r#"{"model":"m","stream":true,"max_tokens":5e2}"#;
    ask(&mut session, 1, "chat", true, Some(100), body).await;
    let request = soon(asked.recv()).await.unwrap();
    assert_eq!(
        request.body,
        r#"{"model":"m","stream":true,"max_tokens":100,"stream_options":{"include_usage":true}}"#
    );
    let mut counts = Vec::new();
    let complete = loop {
        let (kind, data) = session.any().await.unwrap();
        if kind == worker::CHUNK {
            assert!(data["piece"].get("usage").is_none(), "nobody asked for usage");
            counts.push(data["count"].as_u64().unwrap());
        } else if kind == worker::COMPLETE {
            break data;
        }
    };
    assert_eq!(counts, [0, 1, 2, 2]);
    assert_eq!(complete["usage"], json!({"units": 12, "input": 9, "output": 3}));
    assert_eq!(complete["result"], Value::Null);
    // A client that asks for usage gets that chunk too.
    let body = r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#;
    ask(&mut session, 2, "chat", true, None, body).await;
    let (before, _) = session.until(worker::COMPLETE).await;
    let pieces: Vec<_> = before.iter().filter(|(kind, _)| kind == worker::CHUNK).collect();
    assert_eq!(pieces.len(), 5);
    assert_eq!(pieces[4].1["count"], 12);
    assert_eq!(soon(asked.recv()).await.unwrap().body, body);
}

/// As llama.cpp's server ends a stream of two answers: each has a count of its own.
const TWO: [&str; 8] = [
    "data: {\"choices\":[{\"index\":1,\"delta\":{\"content\":\"a\"}}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"b\"}}]}\n\n",
    "data: {\"choices\":[{\"index\":1,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":3,\"total_tokens\":12,\"x\":1}}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"c\"}}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":5,\"total_tokens\":14,\"x\":2}}\n\n",
    "data: [DONE]\n\n",
];

#[tokio::test]
async fn every_answer_of_several_is_counted() {
    let answer = |body: &str| match body.contains("\"n\":2") {
        // One count for all, as others give it, or one for each.
        true if body.contains("other") => Answer::Events(CHUNKS.to_vec()),
        true => Answer::Events(TWO.to_vec()),
        false => Answer::Events([&TWO[..2], &TWO[5..]].concat()),
    };
    let (_asked, _worker, mut session) = start(answer).await;
    let wish = r#""model":"m","stream":true,"stream_options":{"include_usage":true}"#;
    let cases = [
        (1, r#""n":2"#, json!({"units": 17, "input": 9, "output": 8})),
        (2, r#""n":2,"user":"other""#, json!({"units": 12, "input": 9, "output": 3})),
        (3, r#""n":1"#, json!({"units": 14, "input": 9, "output": 5})),
    ];
    for (number, more, usage) in cases {
        ask(&mut session, number, "chat", true, None, &format!("{{{wish},{more}}}")).await;
        let (before, complete) = session.until(worker::COMPLETE).await;
        assert_eq!(complete["usage"], usage, "{more}");
        // The client sees once what it pays for.
        let pieces = before.iter().filter(|(kind, _)| kind == worker::CHUNK);
        let told: Vec<_> = pieces.map(|(_, data)| &data["piece"]["usage"]).collect();
        let told: Vec<_> = told.into_iter().filter(|usage| usage.is_object()).collect();
        assert_eq!(told.len(), 1, "{more}: {told:?}");
        assert_eq!(told[0]["completion_tokens"], usage["output"], "{more}");
    }
}

#[tokio::test]
async fn a_backend_that_counts_nothing_is_counted() {
    const WHOLE: &str = r#"{"choices":[{"message":{"content":"twelve bytes"}}],"usage":{"prompt_tokens":0,"completion_tokens":0}}"#;
    let answer = |body: &str| match body.contains("\"stream\":true") {
        true => Answer::Events(vec![
            CHUNKS[1],
            CHUNKS[2],
            CHUNKS[3],
            "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":0,\"completion_tokens\":0}}\n\n",
            CHUNKS[5],
            CHUNKS[6],
        ]),
        false => Answer::Json(200, WHOLE),
    };
    let (_asked, _worker, mut session) = start(answer).await;
    ask(&mut session, 1, "chat", true, None, r#"{"model":"m"}"#).await;
    let (_, complete) = session.until(worker::COMPLETE).await;
    assert_eq!(complete["usage"], json!({"units": 2, "input": 0, "output": 2}));
    ask(&mut session, 2, "chat", false, None, r#"{"model":"m"}"#).await;
    let (_, complete) = session.until(worker::COMPLETE).await;
    assert_eq!(complete["usage"], json!({"units": 3, "input": 0, "output": 3}));
}

#[tokio::test]
async fn a_stream_that_breaks_off_or_tells_an_error_fails() {
    let answer = |body: &str| {
        if body.contains("broken") {
            Answer::Events(CHUNKS[..2].to_vec())
        } else {
            Answer::Events(vec!["data: {\"error\":{\"message\":\"out of memory\"}}\n\n"])
        }
    };
    let (_asked, _worker, mut session) = start(answer).await;
    ask(&mut session, 1, "chat", true, None, r#"{"model":"m","x":"broken"}"#).await;
    let (_, fail) = session.until(worker::FAIL).await;
    assert_eq!((&fail["code"], &fail["retry"]), (&json!("backend"), &json!(true)));
    ask(&mut session, 2, "chat", true, None, r#"{"model":"m"}"#).await;
    let (_, fail) = session.until(worker::FAIL).await;
    assert!(fail["message"].as_str().unwrap().contains("out of memory"), "{fail}");
}

#[tokio::test]
async fn embeddings_go_to_their_path() {
    let answer = r#"{"data":[{"embedding":[0.10]}],"usage":{"prompt_tokens":4,"total_tokens":4}}"#;
    let (mut asked, _worker, mut session) = start(move |_| Answer::Json(200, answer)).await;
    let body = r#"{"model":"nomic-embed","input":"x","encoding_format":"float"}"#;
    ask(&mut session, 1, "embed", false, Some(3), body).await;
    let request = soon(asked.recv()).await.unwrap();
    assert_eq!((request.path.as_str(), request.body.as_str()), ("/v1/embeddings", body));
    // Bytes asked for, which is what `embed` is metered in.
    assert_eq!(session.hear(worker::COMPLETE).await["usage"]["units"], body.len());
}

#[tokio::test]
async fn an_address_in_a_message_reaches_no_backend() {
    let answer = r#"{"choices":[],"data":[]}"#;
    let (mut asked, _worker, mut session) = start(move |_| Answer::Json(200, answer)).await;
    let messages = r#"[{"content":[{"type":"image_url","image_url":{"url":"http://[::1]/"}}]}]"#;
    for (number, name) in [(1, "chat"), (2, "embed")] {
        let model = if name == "chat" { "m" } else { "nomic-embed" };
        let body = format!(r#"{{"model":"{model}","messages":{messages}}}"#);
        ask(&mut session, number, name, false, None, &body).await;
        let fail: Fail = serde_json::from_value(session.hear(worker::FAIL).await).unwrap();
        assert_eq!((fail.code, fail.retry), (FailCode::BadRequest, false), "{}", fail.message);
        assert!(fail.message.contains("`url`"), "{}", fail.message);
    }
    assert!(asked.try_recv().is_err());
}

#[tokio::test]
async fn refusals_are_told_apart() {
    let answer = |body: &str| {
        let body: Value = serde_json::from_str(body).unwrap();
        match body["x"].as_u64().unwrap() {
            1 => Answer::Json(400, r#"{"error":{"message":"field tools: no"}}"#),
            2 => Answer::Json(400, r#"{"error":{"message":"maximum context length is 9"}}"#),
            3 => Answer::Json(404, r#"{"error":"model not found"}"#),
            4 => Answer::Json(429, "slow down"),
            5 => Answer::Json(503, ""),
            6 => Answer::Json(200, "not json"),
            8 => Answer::Json(200, r#"{"error":{"message":"out of memory"}}"#),
            _ => Answer::Json(422, r#"{"detail":"unprocessable"}"#),
        }
    };
    let (_asked, _worker, mut session) = start(answer).await;
    let cases = [
        (1, FailCode::BadRequest, "field tools: no", false),
        (2, FailCode::ContextOverflow, "maximum context length is 9", false),
        (3, FailCode::Unsupported, "`model`", true),
        (4, FailCode::Backend, "too much", true),
        (5, FailCode::Backend, "503", true),
        (6, FailCode::Backend, "not JSON", true),
        (7, FailCode::BadRequest, "unprocessable", false),
        (8, FailCode::Backend, "out of memory", true),
    ];
    for (number, code, message, retry) in cases {
        let body = format!(r#"{{"model":"m","x":{number}}}"#);
        ask(&mut session, number, "chat", false, None, &body).await;
        let fail: Fail = serde_json::from_value(session.hear(worker::FAIL).await).unwrap();
        assert_eq!((fail.code, fail.retry), (code, retry), "{number}: {}", fail.message);
        assert!(fail.message.contains(message), "{number}: {}", fail.message);
    }
}

#[tokio::test]
async fn an_answer_without_usage_costs_a_unit_and_the_address_may_name_the_version() {
    let answer = r#"{"choices":[{"message":{"content":"yes"}}]}"#;
    let (url, mut asked) = backend(move |_| Answer::Json(200, answer)).await;
    let realm = Realm::start().await;
    let _worker = Worker::start(&realm, vec![executor(&format!("{url}/v1/"))]);
    let mut session = realm.accept().await;
    session.offered("chat").await;
    ask(&mut session, 1, "chat", false, None, r#"{"model":"m"}"#).await;
    let request = soon(asked.recv()).await.unwrap();
    assert_eq!((&*request.path, &*request.body), ("/v1/chat/completions", r#"{"model":"m"}"#));
    let complete = session.hear(worker::COMPLETE).await;
    assert_eq!((&complete["intent"], &complete["usage"]["units"]), (&json!(intent(1)), &json!(1)));
}

#[tokio::test]
async fn a_backend_that_is_not_there_is_told_of() {
    // Bound and dropped: nobody listens there.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let realm = Realm::start().await;
    let mut worker = Worker::start(&realm, vec![executor(&url)]);
    let down = worker.until(|status| matches!(status, Status::ExecutorDown { .. })).await;
    assert!(matches!(down, Status::ExecutorDown { reason, .. } if reason.contains("reached")));
    let session = realm.accept().await;
    assert!(session.offers.offers.is_empty());
}
