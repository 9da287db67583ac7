//! How long a connection lives, and which heads end it.

use std::future::pending;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::{Instant, sleep, timeout};

use super::*;

const SHORT: Duration = Duration::from_millis(50);
const LONG: Duration = Duration::from_secs(600);
/// What does not end is not waited for any longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A client's end of a connection on which it has said this.
async fn connected(patience: Patience, first: &str) -> DuplexStream {
    let (mut client, server) = tokio::io::duplex(1024);
    client.write_all(first.as_bytes()).await.unwrap();
    let routes = Router::new()
        .route("/", get(|| async { "hello" }))
        .route("/length", post(|body: String| async move { body.len().to_string() }))
        .route("/large", get(|| async { "x".repeat(1_000_000) }));
    let (connection, _) = super::connection::tests::connection();
    tokio::spawn(converse(server, routes, connection, patience, pending()));
    client
}

async fn wait_for(client: &mut DuplexStream, end: &[u8]) {
    let mut read = Vec::new();
    while !read.ends_with(end) {
        let some = timeout(PATIENCE, client.read_buf(&mut read)).await.unwrap().unwrap();
        assert_ne!(some, 0, "closed after {}", String::from_utf8_lossy(&read));
    }
}

/// What still comes before the realm closes.
async fn rest(client: &mut DuplexStream) -> Vec<u8> {
    let mut read = Vec::new();
    // A duplex breaks with what had not been read.
    let _ = timeout(PATIENCE, client.read_to_end(&mut read)).await.expect("it is closed");
    read
}

const REQUEST: &str = "GET / HTTP/1.1\r\nhost: here\r\n\r\n";

#[tokio::test]
async fn a_pause_between_requests_is_longer_than_the_patience_for_a_head() {
    let mut client = connected(Patience { head: SHORT, idle: LONG }, REQUEST).await;
    for _ in 0..3 {
        wait_for(&mut client, b"hello").await;
        sleep(SHORT * 4).await;
        client.write_all(REQUEST.as_bytes()).await.unwrap();
    }
    wait_for(&mut client, b"hello").await;
}

#[tokio::test]
async fn a_head_that_drips_is_cut_whether_it_is_the_first_or_a_later_one() {
    for before in ["", REQUEST] {
        let mut client = connected(Patience { head: SHORT, idle: LONG }, before).await;
        if !before.is_empty() {
            wait_for(&mut client, b"hello").await;
        }
        let began = Instant::now();
        let (mut reading, mut writing) = tokio::io::split(client);
        let drip = async {
            while writing.write_all(b"G").await.is_ok() {
                sleep(SHORT / 10).await;
            }
        };
        let mut read = Vec::new();
        let _ = timeout(PATIENCE, async { tokio::join!(drip, reading.read_to_end(&mut read)) })
            .await
            .expect("it is cut, though something moves all the time");
        assert!(!before.is_empty() || read.is_empty(), "{read:?}");
        // The first one's time has begun a little before.
        assert!(began.elapsed() >= SHORT / 2, "{:?}", began.elapsed());
    }
}

#[tokio::test]
async fn a_connection_without_a_first_request_has_no_longer_than_a_head() {
    let mut client = connected(Patience { head: SHORT, idle: LONG }, "").await;
    assert!(rest(&mut client).await.is_empty());
}

#[tokio::test]
async fn an_idle_connection_ends_after_its_own_patience() {
    let mut client = connected(Patience { head: LONG, idle: SHORT }, REQUEST).await;
    let began = Instant::now();
    let answer = rest(&mut client).await;
    assert!(answer.ends_with(b"hello"), "{}", String::from_utf8_lossy(&answer));
    assert!(began.elapsed() >= SHORT, "{:?}", began.elapsed());
}

#[tokio::test]
async fn what_is_sent_ahead_of_a_slow_readers_answer_is_no_slow_head() {
    let large = REQUEST.replace("GET /", "GET /large");
    let mut client = connected(Patience { head: SHORT, idle: LONG }, &large).await;
    // It has begun, and there is no room for all of it.
    client.read_u8().await.unwrap();
    client.write_all(REQUEST.as_bytes()).await.unwrap();
    sleep(SHORT * 4).await;
    wait_for(&mut client, b"hello").await;
}

/// What comes back, with what was asked before it; in either order it is all sent at once.
async fn answers(requests: &[&str]) -> Vec<String> {
    let client = connected(Patience { head: LONG, idle: LONG }, "").await;
    let (mut reading, mut writing) = tokio::io::split(client);
    let requests = requests.concat();
    let mut read = Vec::new();
    // What comes after a refusal may find the connection closed.
    let say = async { writing.write_all(requests.as_bytes()).await.is_ok() };
    let _ = timeout(PATIENCE, async { tokio::join!(say, reading.read_to_end(&mut read)) })
        .await
        .expect("it is closed");
    let read = String::from_utf8(read).unwrap();
    read.split("HTTP/1.1 ").skip(1).map(str::to_owned).collect()
}

#[tokio::test]
async fn what_could_be_read_in_two_ways_is_refused_after_what_came_before_it() {
    let chunked = "POST /length HTTP/1.1\r\nhost: here\r\ntransfer-encoding: chunked\r\n\r\n\
                   6\r\n\n\na\n\n\n\r\n0\r\n\r\n";
    let sized = "POST /length HTTP/1.1\r\nhost: here\r\ncontent-length: 3\r\n\r\n\n\n\n";
    let last = REQUEST.replace("here", "here\r\nconnection: close");
    let told = answers(&[chunked, "\r\n", sized, REQUEST, sized, chunked, &last]).await;
    let bodies: Vec<&str> = told.iter().map(|answer| answer.rsplit('\n').next().unwrap()).collect();
    assert_eq!(bodies, ["6", "3", "hello", "3", "6", "hello"]);
    for (head, field) in [
        ("GET / HTTP/1.1\nhost: here\r\n\r\n", None),
        ("GET / HTTP/1.1\r\nhost: here\n\r\n", None),
        ("\nGET / HTTP/1.1\r\nhost: here\r\n\r\n", None),
        ("GET / HTTP/1.1\r\n\r\n", Some("host")),
        ("GET / HTTP/1.1\r\nhost: here\r\nhost: here\r\n\r\n", Some("host")),
        ("GET http://there/ HTTP/1.1\r\nhost: here\r\n\r\n", Some("host")),
        (
            "POST /length HTTP/1.1\r\nhost: here\r\ncontent-length: 5\r\n\
             transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            Some("content-length"),
        ),
        (
            "POST /length HTTP/1.1\r\nhost: here\r\ntransfer-encoding: chunked\r\n\
             content-length: 5\r\n\r\n0\r\n\r\n",
            Some("content-length"),
        ),
        (
            "POST /length HTTP/1.1\r\nhost: here\r\ncontent-length: 0\r\n\
             content-length: 0\r\n\r\n",
            Some("content-length"),
        ),
        (
            "POST /length HTTP/1.1\r\nhost: here\r\ntransfer-encoding: gzip, chunked\r\n\r\n\
             0\r\n\r\n",
            Some("transfer-encoding"),
        ),
    ] {
        let told = answers(&[sized, head, REQUEST]).await;
        assert_eq!(told.len(), 2, "{head:?}: {told:?}");
        assert!(told[0].starts_with("200") && told[0].ends_with('3'), "{head:?}: {told:?}");
        let (answer, error) = told[1].split_once("\r\n\r\n").unwrap();
        assert!(answer.starts_with("400") && answer.contains("connection: close"), "{answer}");
        let error: serde_json::Value = serde_json::from_str(error).unwrap();
        assert_eq!(error["error"]["code"], "MT0035", "{head:?}");
        assert_eq!(error["error"].get("field").and_then(|field| field.as_str()), field, "{head:?}");
    }
}

#[tokio::test]
async fn what_hyper_refuses_by_itself_stays_refused() {
    for head in [
        "GET / HTTP/1.1\r\nhost: here\r\nx: a\r\n b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost : here\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: here\rx: y\r\n\r\n",
        "GET  / HTTP/1.1\r\nhost: here\r\n\r\n",
        "GET /\r\n\r\n",
        "POST /length HTTP/1.1\r\nhost: here\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        "POST /length HTTP/1.1\r\nhost: here\r\ncontent-length: +1\r\n\r\na",
        "POST /length HTTP/1.1\r\nhost: here\r\ncontent-length: 1, 1\r\n\r\na",
        "POST /length HTTP/1.1\r\nhost: here\r\ntransfer-encoding: chunked, identity\r\n\r\na",
        "POST /length HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        let told = answers(&[REQUEST, head, REQUEST]).await;
        assert!(told.len() == 2 && told[1].starts_with("400"), "{head:?}: {told:?}");
    }
}

#[tokio::test]
async fn after_trailers_that_could_end_in_two_ways_nothing_more_is_taken() {
    let trailed = "POST /length HTTP/1.1\r\nhost: here\r\ntransfer-encoding: chunked\r\n\r\n\
                   2\r\nab\r\n0\r\na: b\n\r\n\r\n";
    let told = answers(&[trailed, REQUEST, REQUEST]).await;
    assert!(told[0].starts_with("200") && told[0].ends_with('2'), "{told:?}");
    assert!(told.len() == 2 && told[1].starts_with("400"), "{told:?}");
}
