//! Reads one HTTP/1.1 response from bytes as they come. No input or output of its own.
//!
//! It knows what a load generator has to: status, length, the chunked coding, and how many
//! server-sent events are complete. Bodies are looked at and dropped, unless they are wanted.

use anyhow::{Context, Result, bail, ensure};

const HEAD_BYTES_MAX: usize = 16 * 1024;

/// What a whole response was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub status: u16,
    pub body_bytes: usize,
    /// Complete server-sent events, comments aside.
    pub events: usize,
    /// The last event was `data: [DONE]`.
    pub done: bool,
    /// The body, if it is kept: always for a status other than 200.
    pub body: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Reader {
    state: State,
    /// Bytes of a line or a head that is not complete yet.
    partial: Vec<u8>,
    seen: Seen,
    keep: bool,
    event: Event,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    Length(usize),
    ChunkSize,
    Chunk(usize),
    ChunkEnd,
    Trailer,
    Whole,
}

/// The server-sent event that is being read: its first bytes suffice.
#[derive(Debug, Default)]
struct Event {
    start: Vec<u8>,
    last: u8,
}

impl Reader {
    pub(crate) fn new(keep: bool) -> Self {
        Self {
            state: State::Head,
            partial: Vec::new(),
            seen: Seen::default(),
            keep,
            event: Event::default(),
        }
    }

    pub(crate) fn events(&self) -> usize {
        self.seen.events
    }

    pub(crate) fn into_seen(self) -> Seen {
        self.seen
    }

    /// Takes what came; true once the response is whole. Bytes beyond it are a fault: nobody asked
    /// for them.
    pub(crate) fn take(&mut self, mut bytes: &[u8]) -> Result<bool> {
        while !bytes.is_empty() {
            bytes = match self.state {
                State::Head => self.head(bytes)?,
                State::Length(left) => {
                    let (body, rest) = bytes.split_at(left.min(bytes.len()));
                    self.body(body);
                    let left = left - body.len();
                    self.state = if left == 0 { State::Whole } else { State::Length(left) };
                    rest
                }
                State::Chunk(left) => {
                    let (body, rest) = bytes.split_at(left.min(bytes.len()));
                    self.body(body);
                    let left = left - body.len();
                    self.state = if left == 0 { State::ChunkEnd } else { State::Chunk(left) };
                    rest
                }
                State::ChunkSize | State::ChunkEnd | State::Trailer => self.line(bytes)?,
                State::Whole => bail!("{} bytes after the response", bytes.len()),
            };
        }
        Ok(self.state == State::Whole)
    }

    fn head<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8]> {
        // The blank line may be split over two reads: look from three bytes before.
        let before = self.partial.len();
        self.partial.extend_from_slice(bytes);
        let from = before.saturating_sub(3);
        let Some(at) = memchr::memmem::find(&self.partial[from..], b"\r\n\r\n") else {
            ensure!(self.partial.len() <= HEAD_BYTES_MAX, "a head above {HEAD_BYTES_MAX} bytes");
            return Ok(&[]);
        };
        let end = from + at + 4;
        self.state = self.framing(end)?;
        self.partial.clear();
        Ok(&bytes[end - before..])
    }

    fn framing(&mut self, end: usize) -> Result<State> {
        let head = std::str::from_utf8(&self.partial[..end]).context("head")?;
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1));
        self.seen.status = status.context("no status")?.parse().context("status")?;
        let mut state = State::Length(0);
        for line in lines {
            let Some((name, value)) = line.split_once(':') else { continue };
            if name.eq_ignore_ascii_case("content-length") {
                state = State::Length(value.trim().parse().context("content-length")?);
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                ensure!(value.trim().eq_ignore_ascii_case("chunked"), "a coding but chunked");
                state = State::ChunkSize;
            }
        }
        Ok(if state == State::Length(0) { State::Whole } else { state })
    }

    fn line<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8]> {
        let Some(at) = memchr::memchr(b'\n', bytes) else {
            self.partial.extend_from_slice(bytes);
            ensure!(self.partial.len() <= HEAD_BYTES_MAX, "a line without an end");
            return Ok(&[]);
        };
        let (line, rest) = bytes.split_at(at + 1);
        self.partial.extend_from_slice(line);
        let line = std::str::from_utf8(&self.partial).context("line")?.trim_end();
        self.state = match self.state {
            State::ChunkSize => {
                let size = line.split(';').next().unwrap_or_default();
                match usize::from_str_radix(size, 16).context("chunk size")? {
                    0 => State::Trailer,
                    size => State::Chunk(size),
                }
            }
            State::ChunkEnd => State::ChunkSize,
            State::Trailer if line.is_empty() => State::Whole,
            state @ (State::Trailer
            | State::Head
            | State::Length(_)
            | State::Chunk(_)
            | State::Whole) => state,
        };
        self.partial.clear();
        Ok(rest)
    }

    fn body(&mut self, bytes: &[u8]) {
        self.seen.body_bytes += bytes.len();
        if self.keep || self.seen.status != 200 {
            self.seen.body.extend_from_slice(bytes);
        }
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.event.take(part, &mut self.seen);
        }
    }
}

impl Event {
    fn take(&mut self, part: &[u8], seen: &mut Seen) {
        let blank = part == b"\n" && matches!(self.last, b'\n' | 0);
        self.last = part.last().copied().unwrap_or(self.last);
        if !blank {
            let room = 16_usize.saturating_sub(self.start.len());
            self.start.extend_from_slice(&part[..part.len().min(room)]);
            return;
        }
        if !self.start.is_empty() && !self.start.starts_with(b":") {
            seen.events += 1;
            seen.done = self.start.starts_with(b"data: [DONE]");
        }
        self.start.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
        c\r\ndata: {}\n\n: \r\n6\r\nhi\n\ndb\r\ne\r\n\ndata: [DONE]\n\r\n1\r\n\n\r\n0\r\n\r\n";

    /// However it is cut.
    #[test]
    fn a_stream_is_counted_however_it_is_cut() {
        for cut in 1..STREAM.len() {
            let mut reader = Reader::new(false);
            let mut whole = false;
            for bytes in STREAM.chunks(cut) {
                assert!(!whole);
                whole = reader.take(bytes).unwrap();
            }
            assert!(whole, "{cut}");
            let seen = reader.into_seen();
            assert_eq!((seen.status, seen.events), (200, 2), "{cut}");
        }
    }

    #[test]
    fn done_is_seen() {
        let text = b"HTTP/1.1 200 OK\r\ncontent-length: 24\r\n\r\ndata: {}\n\ndata: [DONE]\n\n";
        let mut reader = Reader::new(false);
        assert!(reader.take(text).unwrap());
        assert!(reader.into_seen().done);
    }

    #[test]
    fn a_refusal_keeps_its_body() {
        let mut reader = Reader::new(false);
        assert!(!reader.take(b"HTTP/1.1 402 No\r\nContent-Length: 4\r\n\r\nab").unwrap());
        assert!(reader.take(b"cd").unwrap());
        assert!(reader.take(b"more").is_err());
        let seen = reader.into_seen();
        assert_eq!((seen.status, seen.body.as_slice()), (402, b"abcd".as_slice()));
    }

    #[test]
    fn nothing_in_the_body_is_whole_at_once() {
        let mut reader = Reader::new(false);
        assert!(reader.take(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap());
    }
}
