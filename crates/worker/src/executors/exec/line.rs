//! Lines of the exec protocol: one event each. Errors never quote a line: it may hold a client's
//! content.

use mtor_types::event::{EventIn, EventOut};
use mtor_types::worker::{self, Chunk, Complete, Fail, OfferList};
use serde::Serialize;
use tokio::io::{AsyncBufRead, AsyncBufReadExt};

use crate::limits::FRAME_BYTES_MAX;

const SOURCE: &str = "/worker";

/// Writes an event as one line. A client's JSON may hold line ends between its tokens (never
/// inside a string, where JSON forbids them); they become spaces.
pub(super) fn write<D: Serialize>(
    id: u64,
    kind: &str,
    data: D,
) -> Result<String, serde_json::Error> {
    let event = EventOut::new(id.to_string(), SOURCE, kind, data);
    let mut line = serde_json::to_string(&event)?;
    if line.contains(['\n', '\r']) {
        line = line.replace(['\n', '\r'], " ");
    }
    line.push('\n');
    Ok(line)
}

/// What a program says of an intent.
pub(super) enum Incoming<'a> {
    Chunk(Chunk<'a>),
    Complete(Complete<'a>),
    Fail(Fail),
}

pub(super) enum Line<'a> {
    Offers(OfferList),
    Of(Incoming<'a>),
    /// A type that this worker gives no meaning to.
    Other,
}

/// Reads one line; `None` if it is not an event, or its data does not fit its type.
pub(super) fn read(text: &str) -> Option<Line<'_>> {
    let event = EventIn::parse(text).ok()?;
    match &*event.kind {
        worker::OFFER => event.data().ok().map(Line::Offers),
        worker::CHUNK => event.data().ok().map(|chunk| Line::Of(Incoming::Chunk(chunk))),
        worker::COMPLETE => event.data().ok().map(|done| Line::Of(Incoming::Complete(done))),
        worker::FAIL => event.data().ok().map(|fail| Line::Of(Incoming::Fail(fail))),
        _ => Some(Line::Other),
    }
}

/// Reads bounded lines; a call that is dropped loses nothing.
pub(super) struct Lines<R> {
    reader: R,
    line: Vec<u8>,
    /// The line in `line` was given out: the next call begins anew.
    given: bool,
}

/// What reading gave.
pub(super) enum Next<'a> {
    Line(&'a [u8]),
    TooLong,
    End,
}

impl<R: AsyncBufRead + Unpin> Lines<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, line: Vec::new(), given: false }
    }

    pub(super) async fn next(&mut self) -> Next<'_> {
        if self.given {
            self.line.clear();
            self.given = false;
        }
        loop {
            // A read that fails is an output that ended.
            let Ok(buffer) = self.reader.fill_buf().await else { return Next::End };
            if buffer.is_empty() {
                return Next::End;
            }
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let part = buffer.get(..end.unwrap_or(buffer.len())).unwrap_or_default();
            if self.line.len() + part.len() > FRAME_BYTES_MAX {
                return Next::TooLong;
            }
            self.line.extend_from_slice(part);
            let used = part.len() + usize::from(end.is_some());
            self.reader.consume(used);
            if end.is_some() {
                self.given = true;
                return Next::Line(&self.line);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    #[test]
    fn a_line_has_no_line_end_inside() {
        let data = RawValue::from_string("{\n \"a\":\r\n\"x\\ny\"}".into()).unwrap();
        let line = write(1, worker::ASSIGN, &data).unwrap();
        assert_eq!(line.matches('\n').count(), 1);
        assert!(line.ends_with("}\n"));
        assert!(line.contains("{  \"a\":  \"x\\ny\"}"), "{line}");
    }

    #[test]
    fn what_is_no_event_is_not_read() {
        for line in ["", "{}", "hello", "{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"\"}"] {
            assert!(read(line).is_none(), "{line}");
        }
        let line = format!(
            "{{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"\",\"type\":\"{}\",\"data\":{{}}}}",
            worker::CHUNK
        );
        assert!(read(&line).is_none());
    }

    #[tokio::test]
    async fn lines_are_bounded() {
        let text = [b"one\n\n".to_vec(), vec![b'x'; FRAME_BYTES_MAX + 1]].concat();
        let mut lines = Lines::new(tokio::io::BufReader::new(text.as_slice()));
        assert!(matches!(lines.next().await, Next::Line(b"one")));
        assert!(matches!(lines.next().await, Next::Line(b"")));
        assert!(matches!(lines.next().await, Next::TooLong));
        let mut lines = Lines::new(tokio::io::BufReader::new(b"half".as_slice()));
        assert!(matches!(lines.next().await, Next::End));
    }
}
