//! Server-sent events, as the WHATWG standard has them, from bytes that may be cut anywhere.

/// One message of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SseMessage {
    /// The last id seen: it stays until another one replaces it. Empty if there was none.
    pub id: String,
    /// Its name, `message` if it has none.
    pub event: String,
    pub data: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SseError {
    #[error("a message of the stream is longer than {bytes_max} bytes")]
    TooLong { bytes_max: usize },
}

/// Takes bytes, gives messages. What it keeps is bounded: a line and a message together never
/// exceed the bound.
///
/// ```
/// use mtor_client::SseParser;
///
/// let (mut parser, mut messages) = (SseParser::new(1024), Vec::new());
/// parser.push(b"id: 7\ndata: one\ndata: two\n", &mut messages)?;
/// assert!(messages.is_empty());
/// parser.push(b"\n", &mut messages)?;
/// assert_eq!(messages[0].data, "one\ntwo");
/// # Ok::<(), mtor_client::SseError>(())
/// ```
#[derive(Debug)]
pub struct SseParser {
    bytes_max: usize,
    /// The line that has begun.
    line: Vec<u8>,
    /// A line ended with CR: an LF right behind it belongs to it.
    after_return: bool,
    /// Nothing was read yet: a byte order mark may come.
    first: bool,
    id: String,
    event: String,
    data: Vec<u8>,
    has_data: bool,
}

impl SseParser {
    pub fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            line: Vec::new(),
            after_return: false,
            first: true,
            id: String::new(),
            event: String::new(),
            data: Vec::new(),
            has_data: false,
        }
    }

    /// Takes what arrived and appends the messages that are whole now. After an error the stream
    /// cannot be read on.
    pub fn push(&mut self, mut bytes: &[u8], out: &mut Vec<SseMessage>) -> Result<(), SseError> {
        while let Some(first) = bytes.first() {
            if std::mem::take(&mut self.after_return) && *first == b'\n' {
                bytes = bytes.get(1..).unwrap_or_default();
                continue;
            }
            let Some(end) = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
                return self.begin(bytes);
            };
            let (line, rest) = bytes.split_at(end);
            self.begin(line)?;
            self.after_return = rest.first() == Some(&b'\r');
            bytes = rest.get(1..).unwrap_or_default();
            let line = std::mem::take(&mut self.line);
            self.take(&line, out);
            // Its room is used again.
            self.line = line;
            self.line.clear();
        }
        Ok(())
    }

    /// More of the line that has begun.
    fn begin(&mut self, bytes: &[u8]) -> Result<(), SseError> {
        let whole = self.line.len().saturating_add(self.data.len()).saturating_add(bytes.len());
        if whole > self.bytes_max {
            return Err(SseError::TooLong { bytes_max: self.bytes_max });
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn take(&mut self, line: &[u8], out: &mut Vec<SseMessage>) {
        const MARK: &[u8] = b"\xef\xbb\xbf";
        let first = std::mem::take(&mut self.first);
        let line = line.strip_prefix(MARK).filter(|_| first).unwrap_or(line);
        if line.is_empty() {
            out.extend(self.dispatch());
            return;
        }
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (field, rest) = line.split_at(colon);
        let value = rest.strip_prefix(b":").unwrap_or(rest);
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" => {
                if self.has_data {
                    self.data.push(b'\n');
                }
                self.has_data = true;
                self.data.extend_from_slice(value);
            }
            b"event" => self.event = String::from_utf8_lossy(value).into_owned(),
            b"id" if !value.contains(&0) => self.id = String::from_utf8_lossy(value).into_owned(),
            // Comments begin with the colon; `retry` is our own business.
            _ => {}
        }
    }

    fn dispatch(&mut self) -> Option<SseMessage> {
        let event = std::mem::take(&mut self.event);
        let data = std::mem::take(&mut self.data);
        if !std::mem::take(&mut self.has_data) {
            return None;
        }
        let data = match String::from_utf8(data) {
            Ok(data) => data,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        };
        let event = if event.is_empty() { "message".into() } else { event };
        Some(SseMessage { id: self.id.clone(), event, data })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WHOLE: &str = "\u{feff}: comment\nid: 1.0\nevent: a\ndata: {\"x\":\"é\"}\n\n\
        data:one\r\ndata: two\r\n\r\nid: 1.2\rdata:  three\r\r\ndata\n\nretry: 5\nevent: lost\n\n\
        id: with\u{0}null\ndata: 🜂\n\n: end\n\ndata: cut off";

    fn messages() -> Vec<SseMessage> {
        let message = |id: &str, event: &str, data: &str| SseMessage {
            id: id.into(),
            event: event.into(),
            data: data.into(),
        };
        vec![
            message("1.0", "a", "{\"x\":\"é\"}"),
            message("1.0", "message", "one\ntwo"),
            message("1.2", "message", " three"),
            message("1.2", "message", ""),
            message("1.2", "message", "🜂"),
        ]
    }

    fn read(parts: &[&[u8]]) -> Vec<SseMessage> {
        let mut parser = SseParser::new(1_000);
        let mut out = Vec::new();
        for part in parts {
            parser.push(part, &mut out).unwrap();
        }
        out
    }

    #[test]
    fn every_split_gives_the_same_messages() {
        let bytes = WHOLE.as_bytes();
        for cut in 0..=bytes.len() {
            let (before, after) = bytes.split_at(cut);
            assert_eq!(read(&[before, after]), messages(), "cut at {cut}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(read(&single), messages());
    }

    #[test]
    fn a_message_is_bounded_also_in_many_lines_and_without_an_end() {
        let error = SseError::TooLong { bytes_max: 64 };
        for part in ["data: 0123456789\n", "x", "data: "] {
            let mut parser = SseParser::new(64);
            let mut out = Vec::new();
            let result = (0..100).try_for_each(|_| parser.push(part.as_bytes(), &mut out));
            assert_eq!(result, Err(error), "{part:?}");
            assert!(out.is_empty() && parser.data.len() + parser.line.len() <= 64);
        }
        // Many small ones are fine.
        let mut parser = SseParser::new(64);
        let mut out = Vec::new();
        (0..100).try_for_each(|_| parser.push(b"data: 0123456789\n\n", &mut out)).unwrap();
        assert_eq!(out.len(), 100);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_depend_on_the_split(
            bytes in prop::collection::vec(
                prop::sample::select(b"data:id event\r\n\0 x\xc3\xa9\xff".to_vec()), 0..200,
            ),
            sizes in prop::collection::vec(1_usize..20, 1..40),
        ) {
            let whole = read(&[&bytes]);
            let mut parts = Vec::new();
            let mut rest = bytes.as_slice();
            for size in sizes.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (part, after) = rest.split_at((*size).min(rest.len()));
                parts.push(part);
                rest = after;
            }
            prop_assert_eq!(read(&parts), whole);
        }
    }
}
