//! A stand-in for a server of models: what it says to a path and a body, on loopback.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use serde_json::Value;

/// Serves until the test's process ends; its port. `Null` is not found.
pub fn serve(answer: impl Fn(&str, &Value) -> Value + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let answer = Arc::clone(&answer);
            // Whoever hangs up early is not this server's business.
            std::thread::spawn(move || reply(stream, &*answer).ok());
        }
    });
    port
}

fn reply(mut stream: TcpStream, answer: &dyn Fn(&str, &Value) -> Value) -> std::io::Result<()> {
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
    let page = answer(first.split(' ').nth(1).unwrap_or_default(), &asked);
    let status = if page.is_null() { "404 Not Found" } else { "200 OK" };
    let (page, kind) = (page.to_string(), "content-type: application/json");
    let length = page.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\n{kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{page}"
    )
}
