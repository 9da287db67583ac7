//! One connection: what it has carried, and the place it takes until nobody uses it any more.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;

/// A connection on which nothing moves and nothing is being answered for this long is closed.
const IDLE_MAX: Duration = Duration::from_secs(75);
const IDLE_LOOKS: u32 = 5;

/// Every request of a connection carries this, and so does the socket that one may become.
#[derive(Debug)]
pub struct Connection {
    pub client: SocketAddr,
    heard: AtomicU64,
    said: AtomicU64,
    /// Requests that wait for their answer, or for more of it.
    answering: AtomicU32,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    pub fn new(client: SocketAddr, place: OwnedSemaphorePermit) -> Arc<Self> {
        let (heard, said) = (AtomicU64::default(), AtomicU64::default());
        Arc::new(Self { client, heard, said, answering: AtomicU32::default(), _place: place })
    }

    /// Bytes read so far. A client is alive while they grow, however long one message takes.
    pub fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    /// A request is being answered until this is dropped.
    pub fn answer(self: &Arc<Self>) -> Answering {
        self.answering.fetch_add(1, Ordering::Relaxed);
        Answering(Arc::clone(self))
    }

    /// Resolves when the connection has been of no use for too long.
    pub async fn idle(&self) {
        let mut idle = Idle::default();
        while !idle.is_over(self) {
            tokio::time::sleep(IDLE_MAX / IDLE_LOOKS).await;
        }
    }
}

/// What was seen of a connection, look by look.
#[derive(Debug, Default)]
struct Idle {
    carried: (u64, u64),
    /// Looks in a row that saw nothing move.
    still: u32,
}

impl Idle {
    fn is_over(&mut self, connection: &Connection) -> bool {
        let carried = (connection.heard(), connection.said.load(Ordering::Relaxed));
        let still = connection.answering.load(Ordering::Relaxed) == 0 && carried == self.carried;
        self.still = if still { self.still.saturating_add(1) } else { 0 };
        self.carried = carried;
        self.still > IDLE_LOOKS
    }
}

/// See [`Connection::answer`].
#[derive(Debug)]
pub struct Answering(Arc<Connection>);

/// An answer's body: its connection is of use as long as the worker's pause. A reader's own pause
/// is another thing: who does not read does not hold a place for ever.
#[derive(Debug)]
pub struct Answered {
    body: Body,
    connection: Arc<Connection>,
    answering: Option<Answering>,
}

impl Answered {
    pub fn new(body: Body, answering: Answering) -> Self {
        Self { body, connection: Arc::clone(&answering.0), answering: Some(answering) }
    }
}

impl hyper::body::Body for Answered {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if frame.is_ready() {
            self.answering = None;
        } else if self.answering.is_none() {
            self.answering = Some(self.connection.answer());
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.answering.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A stream that counts what it carries.
#[derive(Debug)]
pub struct Counted<S> {
    stream: S,
    connection: Arc<Connection>,
}

impl<S> Counted<S> {
    pub fn new(stream: S, connection: Arc<Connection>) -> Self {
        Self { stream, connection }
    }
}

fn count(counter: &AtomicU64, bytes: usize) {
    counter.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        count(&self.connection.heard, buffer.filled().len().saturating_sub(before));
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(bytes)) = written {
            count(&self.connection.said, bytes);
        }
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        if let Poll::Ready(Ok(bytes)) = written {
            count(&self.connection.said, bytes);
        }
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use hyper::body::Body as _;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::Semaphore;

    use super::*;

    fn connection() -> (Arc<Connection>, Arc<Semaphore>) {
        let places = Arc::new(Semaphore::new(1));
        let place = Arc::clone(&places).try_acquire_owned().unwrap();
        (Connection::new(([127, 0, 0, 1], 1).into(), place), places)
    }

    #[tokio::test]
    async fn both_ways_are_counted_and_the_place_is_free_after_the_last_use() {
        let (connection, places) = connection();
        let (mut client, server) = tokio::io::duplex(64);
        let mut server = Counted::new(server, Arc::clone(&connection));
        client.write_all(b"hello").await.unwrap();
        let mut buffer = [0; 5];
        server.read_exact(&mut buffer).await.unwrap();
        server.write_all(b"hey").await.unwrap();
        assert_eq!((connection.heard(), connection.said.load(Ordering::Relaxed)), (5, 3));
        drop(server);
        assert_eq!(places.available_permits(), 0, "a socket that it became still uses it");
        drop(connection);
        assert_eq!(places.available_permits(), 1);
    }

    #[test]
    fn only_a_connection_of_no_use_is_idle() {
        let (connection, _places) = connection();
        let mut idle = Idle::default();
        let mut looks = |connection| (0..=IDLE_LOOKS * 2).position(|_| idle.is_over(connection));
        let patience = usize::try_from(IDLE_LOOKS).unwrap();
        assert_eq!(looks(&connection), Some(patience));

        let pieces = futures_util::stream::iter(["a", "b"].map(Ok::<_, std::io::Error>));
        let pieces = pieces.chain(futures_util::stream::pending());
        let mut answer = Answered::new(Body::from_stream(pieces), connection.answer());
        assert_eq!(looks(&connection), None, "its client waits for an answer");
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut poll = || Pin::new(&mut answer).poll_frame(&mut cx).is_ready();
        assert!(poll() && poll());
        assert_eq!(looks(&connection), Some(patience), "its client reads nothing more");
        assert!(!poll());
        assert_eq!(looks(&connection), None, "its client waits for the worker");
        drop(answer);
        assert_eq!(looks(&connection), Some(patience));

        count(&connection.said, 1);
        assert_eq!(looks(&connection), Some(patience + 1), "an answer moves");
        count(&connection.heard, 1);
        assert_eq!(looks(&connection), Some(patience + 1), "a request arrives");
    }
}
