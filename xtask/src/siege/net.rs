//! The smallest HTTP and WebSocket that can ask anything, also what no good client would, from any of
//! the networks that this machine can play.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};
use socket2::{Domain, Socket as RawSocket, Type};

/// No single wait for a byte is longer; who waits so long was not served.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// An answer that is longer than this is none that the realm gives.
const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;

/// From where to where somebody asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Door {
    pub to: SocketAddr,
    pub from: Ipv4Addr,
    /// Through a proxy on this machine, which says in a header who asks.
    pub proxied: bool,
}

impl Door {
    pub(super) fn connect(&self) -> io::Result<Line> {
        let socket = RawSocket::new(Domain::IPV4, Type::STREAM, None)?;
        let from = if self.proxied { Ipv4Addr::LOCALHOST } else { self.from };
        // Many short connections of one address would soon have used up its ports.
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::new(IpAddr::V4(from), 0).into())?;
        socket.connect_timeout(&self.to.into(), PATIENCE)?;
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Line { stream, door: *self, rest: Vec::new() })
    }

    /// One request on a connection of its own.
    pub(super) fn ask(&self, request: &Request<'_>) -> io::Result<Reply> {
        self.connect()?.ask(request)
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Request<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub key: Option<&'a str>,
    /// Lines of the head, each with its end.
    pub more: &'a str,
    pub body: &'a [u8],
    /// Where it is not that of the body.
    pub declared: Option<u64>,
}

impl<'a> Request<'a> {
    pub(super) fn get(path: &'a str) -> Self {
        Self { method: "GET", path, ..Self::default() }
    }

    pub(super) fn post(path: &'a str, key: &'a str, body: &'a [u8]) -> Self {
        Self { method: "POST", path, key: Some(key), body, ..Self::default() }
    }
}

/// What a request came to.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Reply {
    pub(super) fn is_good(&self) -> bool {
        (200..300).contains(&self.status)
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The realm's code of a refusal, or the status where it gives none.
    pub(super) fn code(&self) -> String {
        let said = self.json()["error"]["code"].as_str().map(str::to_owned);
        said.unwrap_or_else(|| self.status.to_string())
    }

    /// A text of its answer.
    pub(super) fn text(&self, name: &str) -> io::Result<String> {
        let said = self.json()[name].as_str().map(str::to_owned);
        said.ok_or_else(|| io::Error::other(format!("no `{name}`: {}", self.code())))
    }
}

/// One connection.
#[derive(Debug)]
pub(super) struct Line {
    pub stream: TcpStream,
    door: Door,
    /// What was read and not yet looked at.
    rest: Vec<u8>,
}

impl Line {
    pub(super) fn ask(&mut self, request: &Request<'_>) -> io::Result<Reply> {
        self.send(request)?;
        self.reply()
    }

    /// Sends a request and leaves the answer to the caller.
    pub(super) fn send(&mut self, request: &Request<'_>) -> io::Result<()> {
        let Request { method, path, key, more, body, declared } = request;
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\n", self.door.to);
        if let Some(key) = key {
            head.push_str(&format!("authorization: Bearer {key}\r\n"));
        }
        if self.door.proxied {
            head.push_str(&format!("x-forwarded-for: {}\r\n", self.door.from));
        }
        let length = declared.unwrap_or(body.len() as u64);
        head.push_str(&format!(
            "content-type: application/json\r\ncontent-length: {length}\r\n{more}\r\n"
        ));
        self.stream.write_all(head.as_bytes())?;
        // A body that is refused may be cut off by the realm, which says why all the same.
        let _ = self.stream.write_all(body);
        Ok(())
    }

    /// The next answer, whole.
    pub(super) fn reply(&mut self) -> io::Result<Reply> {
        let (status, head) = self.head()?;
        let field =
            |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let body = if let Some(length) = field("content-length:") {
            let length = length.parse().map_err(io::Error::other)?;
            while self.rest.len() < length {
                self.read_more()?;
            }
            self.rest.drain(..length).collect()
        } else if field("transfer-encoding:").is_some_and(|how| how.contains("chunked")) {
            let end = self.read_past(b"\r\n0\r\n\r\n", 0)?;
            self.rest.drain(..end).collect()
        } else {
            Vec::new()
        };
        Ok(Reply { status, body })
    }

    /// The next answer's status and fields, in lower case.
    fn head(&mut self) -> io::Result<(u16, String)> {
        let end = self.read_past(b"\r\n\r\n", 0)?;
        let head = String::from_utf8_lossy(&self.rest[..end]).to_ascii_lowercase();
        self.rest.drain(..end);
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Ok((status.ok_or_else(|| io::Error::other("no status"))?, head))
    }

    /// Reads an answer of events until one of these has come as a whole: which, and its text; or why
    /// there is no such answer.
    pub(super) fn event(&mut self, kinds: &[&str]) -> io::Result<Result<(usize, String), Reply>> {
        let (status, head) = self.head()?;
        if status != 200 || !head.contains("text/event-stream") {
            // What follows is the answer's body, to the end of the connection.
            while self.read_more().is_ok() {}
            return Ok(Err(Reply { status, body: std::mem::take(&mut self.rest) }));
        }
        let words: Vec<String> = kinds.iter().map(|kind| format!("event: {kind}\n")).collect();
        let longest = words.iter().map(String::len).max().unwrap_or_default();
        let mut looked = 0;
        loop {
            let found = words.iter().enumerate().find_map(|(index, word)| {
                find(&self.rest[looked..], word.as_bytes()).map(|place| (index, looked + place))
            });
            if let Some((index, place)) = found {
                let end = self.read_past(b"\n\n", place)?;
                return Ok(Ok((
                    index,
                    String::from_utf8_lossy(&self.rest[place..end]).into_owned(),
                )));
            }
            looked = self.rest.len().saturating_sub(longest);
            self.read_more()?;
        }
    }

    /// The place behind these bytes, from there on.
    fn read_past(&mut self, bytes: &[u8], from: usize) -> io::Result<usize> {
        let mut looked = from;
        loop {
            if let Some(place) = find(&self.rest[looked..], bytes) {
                return Ok(looked + place + bytes.len());
            }
            looked = self.rest.len().saturating_sub(bytes.len()).max(from);
            self.read_more()?;
        }
    }

    fn read_more(&mut self) -> io::Result<()> {
        let mut buffer = [0; 64 * 1024];
        let read = self.stream.read(&mut buffer)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if self.rest.len() > ANSWER_BYTES_MAX {
            return Err(io::Error::other("an answer without end"));
        }
        self.rest.extend_from_slice(&buffer[..read]);
        Ok(())
    }

    /// Reads and forgets what has come, without waiting; false once the other end has closed.
    pub(super) fn drain(&mut self) -> bool {
        self.rest.clear();
        let mut buffer = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return false,
                Ok(_) => {}
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
    }

    /// Without waiting: the realm's code if it has refused what is under way, or that it closed.
    pub(super) fn refusal(&mut self) -> Option<String> {
        let mut buffer = [0; 4 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => Some("closed".to_owned()),
            Ok(read) => {
                let said = String::from_utf8_lossy(&buffer[..read]).into_owned();
                let code = said.find("\"MT0").and_then(|place| said.get(place + 1..place + 7));
                code.map(str::to_owned)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(_) => Some("reset".to_owned()),
        }
    }
}

fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    let first = *needle.first()?;
    let mut from = 0;
    while let Some(place) = hay[from..].iter().position(|byte| *byte == first) {
        if hay[from + place..].starts_with(needle) {
            return Some(from + place);
        }
        from += place + 1;
    }
    None
}

/// A WebSocket. What is sent is masked with zeros: the mask is there for the sake of proxies.
#[derive(Debug)]
pub(super) struct Socket {
    pub line: Line,
    said: u64,
}

impl Socket {
    pub(super) fn open(door: &Door, path: &str, key: Option<&str>) -> io::Result<Self> {
        let more = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                    sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
                    sec-websocket-protocol: cloudevents.json\r\n";
        let mut line = door.connect()?;
        line.send(&Request { method: "GET", path, key, more, ..Request::default() })?;
        let reply = line.reply()?;
        if reply.status != 101 {
            return Err(io::Error::other(reply.code()));
        }
        Ok(Self { line, said: 0 })
    }

    pub(super) fn say(&mut self, kind: &str, data: &Value) -> io::Result<()> {
        self.said += 1;
        let event = json!({
            "specversion": "1.0", "id": self.said.to_string(), "source": "/siege", "type": kind,
            "data": data,
        });
        let text = event.to_string();
        let mut frame = vec![0x81];
        match text.len() {
            length @ 0..126 => frame.push(0x80 | length.to_le_bytes()[0]),
            length @ 126..65_536 => {
                frame.push(0x80 | 126);
                frame.extend(u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
            }
            length => {
                frame.push(0x80 | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend([0; 4]);
        frame.extend(text.as_bytes());
        self.line.stream.write_all(&frame)
    }

    /// The next event.
    pub(super) fn next(&mut self) -> io::Result<Value> {
        loop {
            let (kind, payload) = self.frame()?;
            match kind {
                1 => return serde_json::from_slice(&payload).map_err(io::Error::other),
                8 => return Err(io::Error::other(format!("closed: {}", reason(&payload)))),
                _ => {}
            }
        }
    }

    /// The next event of one of these types; others are passed over.
    pub(super) fn wait(&mut self, kinds: &[&str]) -> io::Result<Value> {
        loop {
            let event = self.next()?;
            if kinds.iter().any(|kind| event["type"] == *kind) {
                return Ok(event);
            }
        }
    }

    fn frame(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let need = |line: &mut Line, bytes: usize| -> io::Result<()> {
            while line.rest.len() < bytes {
                line.read_more()?;
            }
            Ok(())
        };
        let line = &mut self.line;
        need(line, 2)?;
        let (kind, short) = (line.rest[0] & 0x0f, usize::from(line.rest[1] & 0x7f));
        let wide = match short {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        need(line, 2 + wide)?;
        let long = line.rest[2..2 + wide].iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        let length = if wide == 0 { short } else { long };
        need(line, 2 + wide + length)?;
        let payload = line.rest[2 + wide..2 + wide + length].to_vec();
        line.rest.drain(..2 + wide + length);
        Ok((kind, payload))
    }
}

fn reason(payload: &[u8]) -> String {
    String::from_utf8_lossy(payload.get(2..).unwrap_or_default()).into_owned()
}
