//! How long a connection lives.

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
