//! The event stream of one intent, read as a client reads it.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;

use serde_json::Value;

use super::http::{self, Guest};

/// Names of events after which only `settled` may come.
pub const ENDS: [&str; 4] = ["completed", "failed", "cancelled", "expired"];

pub struct Events(BufReader<TcpStream>);

/// One server-sent event.
#[derive(Clone, Debug, PartialEq)]
pub struct Sent {
    pub id: String,
    /// `chunk` of `mtor.intent.chunk.v1`.
    pub name: String,
    pub data: Value,
}

impl Events {
    pub fn submit(guest: &Guest, body: &str) -> Self {
        Self::open(guest, "POST", "/v1/intents", body, None)
    }

    /// Reads on after the event with that id, or from the first.
    pub fn of(guest: &Guest, intent: &str, after: Option<&str>) -> Self {
        Self::open(guest, "GET", &format!("/v1/intents/{intent}/events"), "", after)
    }

    #[track_caller]
    fn open(guest: &Guest, method: &str, path: &str, body: &str, after: Option<&str>) -> Self {
        let bearer = format!("Bearer {}", guest.key);
        let mut headers = vec![
            ("authorization", bearer.as_str()),
            ("accept", "text/event-stream"),
            ("content-type", "application/json"),
        ];
        headers.extend(after.map(|id| ("last-event-id", id)));
        let stream = http::open(&guest.url, method, path, &headers, body.as_bytes());
        let mut reader = BufReader::new(stream);
        let mut status = String::new();
        reader.read_line(&mut status).unwrap();
        if !status.starts_with("HTTP/1.1 200 ") {
            // A refusal is no stream: what follows says why.
            let mut why = Vec::new();
            reader.read_to_end(&mut why).unwrap();
            panic!("{status}{}", String::from_utf8_lossy(&why));
        }
        Self(reader)
    }

    /// The next event; `None` when the stream is over.
    pub fn read(&mut self) -> Option<Sent> {
        let mut line = String::new();
        let mut id = String::new();
        loop {
            line.clear();
            if self.0.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            if let Some(text) = line.strip_prefix("id: ") {
                text.trim_end().clone_into(&mut id);
            } else if let Some(json) = line.strip_prefix("data: ") {
                let event: Value = serde_json::from_str(json).unwrap();
                let kind = event["type"].as_str().unwrap();
                let name = kind.strip_prefix("mtor.intent.").and_then(|k| k.strip_suffix(".v1"));
                let name = name.unwrap_or(kind).to_owned();
                return Some(Sent { id, name, data: event["data"].clone() });
            }
        }
    }

    /// The next event of that name; anything else before it is passed over.
    #[track_caller]
    pub fn next(&mut self, name: &str) -> Value {
        loop {
            let sent = self.read().unwrap_or_else(|| panic!("the stream ended without {name}"));
            if sent.name == name {
                return sent.data;
            }
            assert!(!ENDS.contains(&&*sent.name), "ended otherwise than {name}: {sent:?}");
        }
    }

    /// All that comes until the stream is over.
    pub fn rest(&mut self) -> Vec<Sent> {
        std::iter::from_fn(|| self.read()).collect()
    }
}
