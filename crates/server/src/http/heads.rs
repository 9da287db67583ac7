//! Heads of requests that two readers could read differently are refused here.
//!
//! Where a proxy stands before the realm, what one of the two takes for a body the other may take
//! for somebody's next request. hyper refuses most of what is open to that: folded lines, blanks
//! before a colon, lengths that differ, an encoding under HTTP/1.0. It lets pass a line that ends
//! without its carriage return, a length beside an encoding (and drops one of the two, so that
//! nobody sees it any more), an encoding before `chunked`, and no host or several. The first two
//! are only to be seen in the bytes, so [`Heads`] looks at them as they come; the rest is asked of
//! what hyper has read ([`refusal`]).
//!
//! Invariant: as long as nothing was ambiguous, `Heads` and hyper agree where a head begins, since
//! the body between two heads has one length only. Absent on purpose: any other rule of a head.

use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, Method, Version, header};
use mtor_types::Code;

use crate::api_error::ApiError;

/// So much of a line is kept: the longest name that matters, a colon, blanks and a number.
const LINE_BYTES: usize = 64;
/// More is no number of 64 bits.
const CHUNK_DIGITS_MAX: usize = 16;

/// Why a message could be read in two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ambiguity {
    /// A line ends with a line feed alone.
    LineEnd,
    /// More than one thing says how long the body is, or what says it is no number.
    Length,
}

impl Ambiguity {
    fn refusal(self) -> ApiError {
        match self {
            Self::LineEnd => ambiguous("every line of a head ends with CR and LF"),
            Self::Length => {
                let field = header::CONTENT_LENGTH.as_str();
                ambiguous("a body has one `content-length` or a `transfer-encoding`, never both")
                    .with_field(field)
            }
        }
    }
}

fn ambiguous(rule: &str) -> ApiError {
    let message = format!("the head of the request could be read in two ways: {rule}");
    ApiError::new(Code::Protocol, message)
}

/// What is to be said of a head that hyper took. `seen` is what its bytes showed.
pub fn refusal(head: &Parts, seen: Option<Ambiguity>) -> Option<ApiError> {
    let seen = seen.map(Ambiguity::refusal);
    seen.or_else(|| encoding_refusal(&head.headers)).or_else(|| host_refusal(head))
}

/// Of the encodings only `chunked` says where a body ends, and no other is undone here.
fn encoding_refusal(headers: &HeaderMap) -> Option<ApiError> {
    let mut encodings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let first = encodings.next()?;
    let is_one = first.as_bytes().eq_ignore_ascii_case(b"chunked") && encodings.next().is_none();
    let rule = "the only `transfer-encoding` is `chunked`";
    (!is_one).then(|| ambiguous(rule).with_field(header::TRANSFER_ENCODING.as_str()))
}

fn host_refusal(head: &Parts) -> Option<ApiError> {
    let refuse = |rule| Some(ambiguous(rule).with_field(header::HOST.as_str()));
    let mut hosts = head.headers.get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.as_bytes(),
        (None, _) if head.version == Version::HTTP_10 => return None,
        (None, _) | (Some(_), Some(_)) => return refuse("it names exactly one `host`"),
    };
    if host.contains(&b'@') || Authority::try_from(host).is_err() {
        return refuse("`host` is a name or an address, and a port where it has one");
    }
    // `CONNECT` has no path that the realm knows, whatever it names.
    let target = head.uri.authority().filter(|_| head.method != Method::CONNECT)?;
    let is_same = target.as_str().as_bytes().eq_ignore_ascii_case(host);
    if is_same { None } else { refuse("`host` is that of the address asked for") }
}

/// Follows the bytes of a connection from head to head.
#[derive(Debug, Default)]
pub struct Heads {
    /// Heads that are over.
    ended: u64,
    expected: Expected,
    line: Line,
    /// Bytes of a body that are still to come, and looked at by nobody here.
    body: u64,
    /// What the head has said so far.
    has_begun: bool,
    length: Option<u64>,
    is_chunked: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Expected {
    #[default]
    Head,
    ChunkSize,
    Trailers,
    /// Nothing of it matters any more: hyper or the realm ends the connection.
    Nothing,
}

/// What was found, and that it stands after so many heads. In a body it says nothing of its own
/// request, whose bytes are what hyper takes for them, but of where the next one begins.
pub type Found = (u64, Ambiguity);

impl Heads {
    /// # Errors
    /// Once, at the first ambiguity; what comes after it is not looked at.
    pub fn read(&mut self, mut bytes: &[u8]) -> Result<(), Found> {
        while !bytes.is_empty() && self.expected != Expected::Nothing {
            if self.body > 0 {
                let here = usize::try_from(self.body).unwrap_or(usize::MAX).min(bytes.len());
                self.body = self.body.saturating_sub(u64::try_from(here).unwrap_or(u64::MAX));
                bytes = bytes.get(here..).unwrap_or_default();
                continue;
            }
            let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
                self.line.push(bytes);
                break;
            };
            let (line, rest) = bytes.split_at(end);
            self.line.push(line);
            bytes = rest.get(1..).unwrap_or_default();
            let line = std::mem::take(&mut self.line);
            if let Some(why) = self.end_line(&line) {
                self.expected = Expected::Nothing;
                return Err((self.ended, why));
            }
        }
        Ok(())
    }

    fn end_line(&mut self, line: &Line) -> Option<Ambiguity> {
        if line.last != b'\r' {
            return Some(Ambiguity::LineEnd);
        }
        match self.expected {
            // Empty lines before a head are none of it.
            Expected::Head if line.is_empty() && !self.has_begun => {}
            Expected::Head if line.is_empty() => self.end_head(),
            Expected::Head if !self.has_begun => self.has_begun = true,
            Expected::Head => {
                return (!self.has_one_length(line)).then_some(Ambiguity::Length);
            }
            Expected::ChunkSize => match chunk_size(line.start()) {
                None => return Some(Ambiguity::Length),
                Some(0) => self.expected = Expected::Trailers,
                // With the end of its last line.
                Some(size) => self.body = size.saturating_add(2),
            },
            Expected::Trailers if line.is_empty() => self.expected = Expected::Head,
            Expected::Trailers | Expected::Nothing => {}
        }
        None
    }

    /// Whether the head still says in one way how long its body is.
    fn has_one_length(&mut self, line: &Line) -> bool {
        let start = line.start();
        let Some(colon) = start.iter().position(|byte| *byte == b':') else { return true };
        let (name, value) = start.split_at(colon);
        if name.eq_ignore_ascii_case(header::TRANSFER_ENCODING.as_str().as_bytes()) {
            self.is_chunked = true;
        } else if name.eq_ignore_ascii_case(header::CONTENT_LENGTH.as_str().as_bytes()) {
            let value = value.get(1..).and_then(|value| std::str::from_utf8(value).ok());
            let length = value.and_then(|value| value.trim().parse().ok());
            let Some(length) = length.filter(|_| !line.is_cut()) else { return false };
            // Also where both say the same: a reader may take the list for something else.
            if self.length.replace(length).is_some() {
                return false;
            }
        }
        !self.is_chunked || self.length.is_none()
    }

    fn end_head(&mut self) {
        self.ended = self.ended.saturating_add(1);
        self.has_begun = false;
        self.body = self.length.take().unwrap_or_default();
        if std::mem::take(&mut self.is_chunked) {
            self.expected = Expected::ChunkSize;
        }
    }
}

fn chunk_size(line: &[u8]) -> Option<u64> {
    let end = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
    let digits = line.get(..end).filter(|digits| digits.len() <= CHUNK_DIGITS_MAX)?;
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// A line as far as it has come, without its line feed.
#[derive(Debug)]
struct Line {
    kept: [u8; LINE_BYTES],
    bytes: usize,
    last: u8,
}

impl Default for Line {
    fn default() -> Self {
        Self { kept: [0; LINE_BYTES], bytes: 0, last: 0 }
    }
}

impl Line {
    fn push(&mut self, bytes: &[u8]) {
        let Some(last) = bytes.last() else { return };
        self.last = *last;
        if let Some(room) = self.kept.get_mut(self.bytes..) {
            room.iter_mut().zip(bytes).for_each(|(kept, byte)| *kept = *byte);
        }
        self.bytes = self.bytes.saturating_add(bytes.len());
    }

    /// Of a line that ends with a carriage return: nothing but that.
    fn is_empty(&self) -> bool {
        self.bytes == 1
    }

    fn is_cut(&self) -> bool {
        self.bytes > LINE_BYTES
    }

    /// Its first bytes, without a carriage return at its end.
    fn start(&self) -> &[u8] {
        let end = self.bytes.saturating_sub(1).min(LINE_BYTES);
        self.kept.get(..end).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found in these bytes, however they come.
    #[track_caller]
    fn check(bytes: &str, expected: Result<u64, Found>) {
        let bytes = bytes.as_bytes();
        for step in 1..=bytes.len() {
            let mut heads = Heads::default();
            let found = bytes.chunks(step).try_for_each(|some| heads.read(some));
            let text = String::from_utf8_lossy(bytes);
            assert_eq!(found.map(|()| heads.ended), expected, "in steps of {step}: {text:?}");
        }
    }

    #[test]
    fn heads_are_told_from_bodies_however_both_come() {
        let get = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        let sized = "POST / HTTP/1.1\r\nhost: a\r\nContent-Length:  6\t\r\n\r\na\nb\n\nc";
        let chunked = "POST / HTTP/1.1\r\nTRANSFER-ENCODING: chunked\r\n\r\n\
                       4;of=\"it\"\r\n\n\n\n\n\r\n00a \r\n0123\n56789\r\n0\r\nend: of it\r\n\r\n";
        check("", Ok(0));
        check(&get[..get.len() - 1], Ok(0));
        check(&[get, "\r\n", sized, chunked, get, sized, chunked].concat(), Ok(6));
        // A long line's number is not looked for elsewhere.
        let long = format!("GET / HTTP/1.1\r\nx-y: {}content-length: 9\r\n\r\n", " ".repeat(60));
        check(&[&long, get].concat(), Ok(2));
    }

    #[test]
    fn the_head_that_could_be_read_in_two_ways_is_named() {
        let get = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        let line_end = |head| Err((head, Ambiguity::LineEnd));
        let length = |head| Err((head, Ambiguity::Length));
        check("GET / HTTP/1.1\nhost: a\r\n\r\n", line_end(0));
        check("GET / HTTP/1.1\r\nhost: a\n\r\n", line_end(0));
        check("GET / HTTP/1.1\r\nhost: a\r\n\n", line_end(0));
        check(&[get, "\n", get].concat(), line_end(1));
        check(&[get, get, &get.replace("a\r", "a")].concat(), line_end(2));
        for lines in [
            "content-length: 1\r\ncontent-length: 2",
            "content-length: 1\r\nContent-Length: 1",
            "content-length: 1\r\nx: y\r\nTransfer-Encoding: chunked",
            "transfer-encoding: identity\r\ncontent-length: 1",
            "content-length: 1, 1",
            "content-length:",
            &format!("content-length:{}1", " ".repeat(60)),
        ] {
            check(&[get, "PUT / HTTP/1.1\r\n", lines, "\r\n\r\n"].concat(), length(1));
        }
    }

    #[test]
    fn after_a_body_that_could_end_in_two_ways_no_head_is_sure() {
        let head = "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n";
        for (body, why) in [
            ("1\na", Ambiguity::LineEnd),
            ("0\r\na: b\n\r\n", Ambiguity::LineEnd),
            ("0\r\n\n", Ambiguity::LineEnd),
            ("x\r\n", Ambiguity::Length),
            ("\r\n", Ambiguity::Length),
            ("11111111111111111\r\n", Ambiguity::Length),
        ] {
            check(&[head, body].concat(), Err((1, why)));
        }
    }

    #[test]
    fn hosts_and_encodings_are_one_and_plain() {
        let of = |version, target: &str, headers: &[(&str, &str)]| {
            let mut request = http::Request::builder().version(version).uri(target);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let head = request.body(()).unwrap().into_parts().0;
            refusal(&head, None).map(|error| error.field.unwrap())
        };
        let (one, old) = (Version::HTTP_11, Version::HTTP_10);
        let host = |host| ("host", host);
        for taken in ["a", "a.b:80", "[::1]:8080", "127.0.0.1", "A_b"] {
            assert_eq!(of(one, "/", &[host(taken)]), None, "{taken}");
        }
        assert_eq!(of(old, "/", &[]), None);
        assert_eq!(of(one, "http://A.b/c", &[host("a.B")]), None);
        assert_eq!(of(one, "/", &[host("a"), ("transfer-encoding", "Chunked")]), None);
        for (version, target, hosts) in [
            (one, "/", vec![]),
            (one, "/", vec![host("a"), host("a")]),
            (old, "/", vec![host("a"), host("b")]),
            (one, "/", vec![host("")]),
            (one, "/", vec![host("a b")]),
            (one, "/", vec![host("a@b")]),
            (one, "/", vec![host("a/b")]),
            (one, "http://b/", vec![host("a")]),
            (one, "http://a:81/", vec![host("a")]),
        ] {
            assert_eq!(of(version, target, &hosts).as_deref(), Some("host"), "{target} {hosts:?}");
        }
        let encoding = |value| ("transfer-encoding", value);
        for encodings in [
            vec![encoding("gzip, chunked")],
            vec![encoding("chunked, chunked")],
            vec![encoding("identity"), encoding("chunked")],
            vec![encoding("chunked"), encoding("chunked")],
        ] {
            let headers = [vec![host("a")], encodings].concat();
            assert_eq!(of(one, "/", &headers).as_deref(), Some("transfer-encoding"));
        }
    }
}
