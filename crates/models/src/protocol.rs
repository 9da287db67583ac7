//! The exec protocol: one CloudEvents 1.0 object per line, both ways.
//!
//! Invariants: a line is written whole and flushed, or the program is told that its agent has
//! gone; readers accept extra envelope attributes and ignore event types they do not know; a
//! malformed line is an error to report, never a reason to stop. Error texts name what is wrong
//! and never quote the line, which may hold a client's content.

use std::io::{BufRead, Read, Write};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

/// Longest accepted line. Above the largest request body a realm takes (claim checks start at
/// 256 KiB), with room for JSON escapes.
pub const LINE_BYTES_MAX: u64 = 16 * 1024 * 1024;
const SOURCE: &str = "/exec";
const OFFER: &str = "mtor.worker.offer.v1";
const ASSIGN: &str = "mtor.worker.assign.v1";
const REVOKE: &str = "mtor.worker.revoke.v1";
const CHUNK: &str = "mtor.worker.chunk.v1";
const COMPLETE: &str = "mtor.worker.complete.v1";
const FAIL: &str = "mtor.worker.fail.v1";

/// One attempt at one intent: what every message but the offer is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    pub intent: String,
    pub attempt: u64,
}

/// Work given to this program.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Assign {
    pub intent: String,
    pub attempt: u64,
    /// The intent's name: `embed`, `transcribe`.
    pub name: String,
    #[serde(default)]
    pub model: Option<String>,
    /// Whether pieces are wanted.
    #[serde(default)]
    pub stream: bool,
    /// Time left when the line was written.
    #[serde(default)]
    pub deadline_ms: Option<u64>,
    /// The client's body, untouched: JSON, which may hold what no value of ours can.
    #[serde(default, deserialize_with = "raw")]
    pub data: String,
}

fn raw<'de, D: serde::Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    Box::<RawValue>::deserialize(from).map(|raw| raw.get().to_owned())
}

impl Assign {
    pub fn key(&self) -> Key {
        Key { intent: self.intent.clone(), attempt: self.attempt }
    }

    /// The client's body as a value. A number beyond all range or half a surrogate is JSON, too.
    pub fn body(&self) -> Result<Value, Refusal> {
        serde_json::from_str(&self.data).map_err(|error| {
            let column = error.column();
            Refusal::bad_request(format!(
                "the body holds a number or a text that cannot be read, at column {column}"
            ))
        })
    }
}

/// A line from the agent.
#[derive(Debug, Clone, PartialEq)]
pub enum Incoming {
    Assign(Box<Assign>),
    Revoke(Key),
    /// A type this program does not act on, such as credit.
    Other,
}

/// Why a line was not understood.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    #[error("line is not a CloudEvents object ({0})")]
    Envelope(String),
    #[error("specversion is not \"1.0\"")]
    SpecVersion,
    #[error("data of {0} does not fit ({1})")]
    Data(&'static str, String),
}

#[derive(Deserialize)]
struct Envelope<'a> {
    specversion: String,
    #[serde(rename = "type")]
    kind: String,
    /// Read by itself: whatever is in it, the assignment is known and gets its answer.
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

/// Where and why JSON did not parse, without quoting any of it: serde's own text may quote values.
fn place(error: &serde_json::Error) -> String {
    format!("{:?} error at column {}", error.classify(), error.column())
}

/// Reads one line of the protocol.
pub fn parse(line: &[u8]) -> Result<Incoming, LineError> {
    let envelope: Envelope<'_> =
        serde_json::from_slice(line).map_err(|error| LineError::Envelope(place(&error)))?;
    if envelope.specversion != "1.0" {
        return Err(LineError::SpecVersion);
    }
    let data = envelope.data.map_or("null", RawValue::get);
    match envelope.kind.as_str() {
        ASSIGN => serde_json::from_str(data)
            .map(|assign| Incoming::Assign(Box::new(assign)))
            .map_err(|error| LineError::Data(ASSIGN, place(&error))),
        REVOKE => serde_json::from_str(data)
            .map(Incoming::Revoke)
            .map_err(|error| LineError::Data(REVOKE, place(&error))),
        _ => Ok(Incoming::Other),
    }
}

/// What one read of stdin gave.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    Whole,
    /// Longer than `LINE_BYTES_MAX`: skipped to its end.
    TooLong,
    End,
}

/// Reads the next line into `buffer`, without its end.
pub fn read_line(reader: &mut impl BufRead, buffer: &mut Vec<u8>) -> std::io::Result<Line> {
    buffer.clear();
    if reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', buffer)? == 0 {
        return Ok(Line::End);
    }
    if buffer.last() == Some(&b'\n') {
        buffer.pop();
        return Ok(Line::Whole);
    }
    if (buffer.len() as u64) < LINE_BYTES_MAX {
        return Ok(Line::Whole);
    }
    buffer.clear();
    reader.skip_until(b'\n')?;
    Ok(Line::TooLong)
}

/// One thing this program can do, told in the first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Offer {
    pub intent: &'static str,
    pub model: &'static str,
    pub slots: usize,
    /// Tokens one slot can hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<usize>,
}

/// Why an attempt failed; a closed set of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FailCode {
    BadRequest,
    ContextOverflow,
    Unsupported,
    Backend,
}

/// A refusal that names the field and the remedy. It never holds a client's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub code: FailCode,
    pub message: String,
    /// Whether the same request may succeed later or elsewhere.
    pub retry: bool,
}

impl Refusal {
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self { code: FailCode::BadRequest, message: message.into(), retry: false }
    }
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self { code: FailCode::Unsupported, message: message.into(), retry: false }
    }
    pub fn context_overflow(message: impl Into<String>) -> Self {
        Self { code: FailCode::ContextOverflow, message: message.into(), retry: false }
    }
    pub fn backend(message: impl Into<String>, retry: bool) -> Self {
        Self { code: FailCode::Backend, message: message.into(), retry }
    }
}

/// What an attempt used; `units` is what is billed: bytes of text, milliseconds of sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Usage {
    pub units: u64,
    pub input: u64,
    pub output: u64,
}

/// The way out: whole lines to stdout, numbered, from any thread.
pub struct Outbox {
    inner: Mutex<Lines>,
}

struct Lines {
    out: Box<dyn Write + Send>,
    next_id: u64,
    broken: bool,
}

#[derive(Serialize)]
struct Written<'a, T> {
    specversion: &'a str,
    id: String,
    source: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    data: T,
}

impl Outbox {
    pub fn new(out: Box<dyn Write + Send>) -> Self {
        Self { inner: Mutex::new(Lines { out, next_id: 1, broken: false }) }
    }

    /// Whether the agent has stopped reading; nothing can be told to it any more.
    pub fn is_broken(&self) -> bool {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).broken
    }

    pub fn offers(&self, offers: &[Offer]) {
        self.send(OFFER, serde_json::json!({ "offers": offers }));
    }

    /// One piece, dense from 0; `count` is the units so far.
    pub fn chunk(&self, key: &Key, seq: u64, count: u64, piece: &Value) {
        #[derive(Serialize)]
        struct Chunk<'a> {
            intent: &'a str,
            attempt: u64,
            seq: u64,
            count: u64,
            piece: &'a Value,
        }
        let (intent, attempt) = (key.intent.as_str(), key.attempt);
        self.send(CHUNK, Chunk { intent, attempt, seq, count, piece });
    }

    pub fn complete(&self, key: &Key, usage: Usage, result: &Value) {
        #[derive(Serialize)]
        struct Complete<'a> {
            intent: &'a str,
            attempt: u64,
            usage: Usage,
            result: &'a Value,
        }
        let (intent, attempt) = (key.intent.as_str(), key.attempt);
        self.send(COMPLETE, Complete { intent, attempt, usage, result });
    }

    pub fn fail(&self, key: &Key, refusal: &Refusal) {
        self.send(
            FAIL,
            serde_json::json!({
                "intent": key.intent, "attempt": key.attempt, "code": refusal.code,
                "message": refusal.message, "retry": refusal.retry,
            }),
        );
    }

    fn send(&self, kind: &str, data: impl Serialize) {
        let mut lines = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let id = lines.next_id.to_string();
        lines.next_id += 1;
        let event = Written { specversion: "1.0", id, source: SOURCE, kind, data };
        // One buffer and one write, so that a crash leaves no half of a line but the last.
        let written =
            serde_json::to_vec(&event).map_err(std::io::Error::from).and_then(|mut line| {
                line.push(b'\n');
                lines.out.write_all(&line)?;
                lines.out.flush()
            });
        if written.is_err() {
            lines.broken = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_no_value_can_hold_is_refused_and_not_skipped() {
        for body in [r#"{"x":1e999}"#, r#"{"content":"\ud800"}"#] {
            let line = format!(
                r#"{{"specversion":"1.0","type":"{ASSIGN}","data":{{"intent":"i","attempt":1,"name":"chat","data":{body}}}}}"#
            );
            let Ok(Incoming::Assign(assign)) = parse(line.as_bytes()) else { panic!("{body}") };
            assert_eq!(assign.data, body);
            assert_eq!(assign.body().unwrap_err().code, FailCode::BadRequest);
        }
    }

    #[test]
    fn an_assignment_is_read_past_extra_attributes() {
        let line =
            br#"{"specversion":"1.0","id":"7","source":"/agent","type":"mtor.worker.assign.v1",
            "traceparent":"00-1","data":{"intent":"i","attempt":3,"name":"chat","model":null,
            "stream":true,"limit":null,"deadline_ms":5,"data":{"messages":[]},"later":1}}"#;
        let Ok(Incoming::Assign(assign)) = parse(line) else { panic!("not an assignment") };
        assert_eq!((assign.key().attempt, assign.deadline_ms), (3, Some(5)));
    }

    #[test]
    fn unknown_types_are_ignored_and_bad_lines_told_without_their_content() {
        let credit =
            br#"{"specversion":"1.0","id":"1","source":"a","type":"mtor.worker.credit.v1"}"#;
        assert_eq!(parse(credit).unwrap(), Incoming::Other);
        for bad in [
            &b"canary"[..],
            br#"{"specversion":"0.3","type":"canary"}"#,
            br#"{"specversion":"1.0","type":"mtor.worker.assign.v1","data":{"intent":"canary"}}"#,
            br#"{"specversion":"1.0","type":"mtor.worker.revoke.v1","data":"canary"}"#,
        ] {
            assert!(!parse(bad).unwrap_err().to_string().contains("canary"));
        }
    }

    #[test]
    fn lines_are_read_whole_or_skipped() {
        let mut long = vec![b'x'; LINE_BYTES_MAX as usize + 5];
        long.extend_from_slice(b"\nnext\nlast");
        let (mut reader, mut line) = (std::io::Cursor::new(long), Vec::new());
        assert_eq!(read_line(&mut reader, &mut line).unwrap(), Line::TooLong);
        assert_eq!(read_line(&mut reader, &mut line).unwrap(), Line::Whole);
        assert_eq!(line, b"next");
        assert_eq!(read_line(&mut reader, &mut line).unwrap(), Line::Whole);
        assert_eq!(line, b"last");
        assert_eq!(read_line(&mut reader, &mut line).unwrap(), Line::End);
    }
}
