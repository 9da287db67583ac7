//! A minimal HTTP/1.1 client: one keep-alive connection, requests as ready-made bytes.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::response::{Reader, Seen};

const READ_BYTES: usize = 64 * 1024;
/// For one call of the set-up.
const CALL_PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// One exchange, with the times a client sees.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub seen: Seen,
    /// When the first server-sent event was whole; without events, the end.
    pub first: Instant,
    pub end: Instant,
    /// The longest wait between two events.
    pub gap: Duration,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await.context("connect")?;
        Self::of(stream)
    }

    /// From one of the machine's own addresses: realms count guests by network.
    async fn open_from(source: IpAddr, address: SocketAddr) -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(source, 0)).context("bind")?;
        Self::of(socket.connect(address).await.context("connect")?)
    }

    fn of(stream: TcpStream) -> Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; READ_BYTES] })
    }

    pub(crate) async fn exchange(&mut self, request: &[u8], keep: bool) -> Result<Exchange> {
        self.stream.write_all(request).await.context("write")?;
        let mut reader = Reader::new(keep);
        let mut first = None;
        let mut last = Instant::now();
        let mut gap = Duration::ZERO;
        loop {
            let length = self.stream.read(&mut self.buffer).await.context("read")?;
            ensure!(length > 0, "the connection was closed within a response");
            let before = reader.events();
            let whole = reader.take(self.buffer.get(..length).unwrap_or_default())?;
            if reader.events() > before {
                let now = Instant::now();
                if first.is_some() {
                    gap = gap.max(now - last);
                }
                first = first.or(Some(now));
                last = now;
            }
            if whole {
                let end = Instant::now();
                let first = first.unwrap_or(end);
                return Ok(Exchange { seen: reader.into_seen(), first, end, gap });
            }
        }
    }
}

/// A ready-made `POST` with a JSON body.
pub(crate) fn post(path: &str, key: Option<&str>, headers: &str, body: &str) -> Vec<u8> {
    request("POST", path, key, headers, body)
}

pub(crate) fn request(
    method: &str,
    path: &str,
    key: Option<&str>,
    headers: &str,
    body: &str,
) -> Vec<u8> {
    let key = key.map(|key| format!("authorization: Bearer {key}\r\n")).unwrap_or_default();
    let length = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n{key}{headers}\r\n{body}"
    )
    .into_bytes()
}

/// One call of the set-up on a connection of its own; the answer must be 2xx and JSON.
pub(crate) async fn call<T: DeserializeOwned>(address: SocketAddr, request: &[u8]) -> Result<T> {
    let connection = Connection::open(address).await?;
    answer(connection, request).await
}

pub(crate) async fn call_from<T: DeserializeOwned>(
    source: IpAddr,
    address: SocketAddr,
    request: &[u8],
) -> Result<T> {
    let connection = Connection::open_from(source, address).await?;
    answer(connection, request).await
}

async fn answer<T: DeserializeOwned>(mut connection: Connection, request: &[u8]) -> Result<T> {
    let exchange = tokio::time::timeout(CALL_PATIENCE, connection.exchange(request, true));
    let seen = exchange.await.context("no answer in time")??.seen;
    let text = String::from_utf8_lossy(&seen.body);
    ensure!((200..300).contains(&seen.status), "status {}: {text}", seen.status);
    serde_json::from_str(&text).with_context(|| format!("not understood: {text}"))
}
