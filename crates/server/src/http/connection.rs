//! One connection: what it has carried, and the place it takes until nobody uses it any more.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use mtor_core::share::Holder;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::heads::{Ambiguity, Found, Heads};
use crate::api_error::ApiError;
use crate::shares::{BODY_STEP_BYTES, Bound, Portion};

/// How long a client may leave its connection without use.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For a request's head, from its first byte; the first one's from the connection's start.
    pub head: Duration,
    /// A connection on which nothing moves and nothing is being answered for this long, and up to
    /// a fifth longer, is closed.
    pub idle: Duration,
}

impl Patience {
    /// Idle is more than a minute, which is what most clients keep a connection for.
    pub const USUAL: Self = Self { head: Duration::from_secs(15), idle: Duration::from_secs(75) };
}

const IDLE_LOOKS: u32 = 5;

/// No request is on its way. These three stand where else is told when a head began.
const BETWEEN: u64 = u64::MAX;
/// A request is being answered.
const ANSWERED: u64 = u64::MAX - 1;
/// Its answer is handed over, and may still wait for its reader.
const SENT: u64 = u64::MAX - 2;

/// Every request of a connection carries this, and so does the socket that one may become.
#[derive(Debug)]
pub struct Connection {
    pub client: SocketAddr,
    opened: Instant,
    heard: AtomicU64,
    said: AtomicU64,
    /// Where the request stands: when its head began, in milliseconds since the start, or
    /// [`ANSWERED`], then [`SENT`], then [`BETWEEN`].
    request: AtomicU64,
    /// Requests that wait for their answer, or for more of it.
    answering: AtomicU32,
    /// Requests that have been taken.
    requests: AtomicU64,
    /// The first head that could be read in two ways: after how many others, and why.
    ambiguous: OnceLock<Found>,
    /// It has become a socket, and no head comes any more.
    is_socket: AtomicBool,
    /// Up to so many bytes are read of it in all.
    heard_max: AtomicU64,
    /// What is read of one message, once that counts.
    arriving: Mutex<Option<Arriving>>,
    _place: Portion,
}

impl Connection {
    pub fn new(client: SocketAddr, place: Portion) -> Arc<Self> {
        Arc::new(Self {
            client,
            opened: Instant::now(),
            heard: AtomicU64::default(),
            said: AtomicU64::default(),
            request: AtomicU64::default(),
            answering: AtomicU32::default(),
            requests: AtomicU64::default(),
            ambiguous: OnceLock::new(),
            is_socket: AtomicBool::default(),
            heard_max: AtomicU64::new(u64::MAX),
            arriving: Mutex::default(),
            _place: place,
        })
    }

    /// Bytes read so far. A client is alive while they grow, however long one message takes.
    pub fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    /// As long as nobody knows who speaks on it, so much more is read and no more.
    pub fn allow(&self, bytes: u64) {
        self.heard_max.store(self.heard().saturating_add(bytes), Ordering::Relaxed);
    }

    /// It is known who speaks, and what it sends counts until it is taken as a message.
    pub fn allow_all(&self, bodies: Bound, holder: Holder) {
        self.heard_max.store(u64::MAX, Ordering::Relaxed);
        let begun = self.heard();
        let (portion, refused) = (None, None);
        *self.arriving() = Some(Arriving { bodies, holder, begun, portion, refused });
    }

    /// Why no more of a message was taken.
    pub fn refused(&self) -> Option<ApiError> {
        self.arriving().as_mut()?.refused.take()
    }

    /// A message was taken: what it is made of counts elsewhere from now on.
    pub fn message_taken(&self) {
        if let Some(arriving) = &mut *self.arriving() {
            (arriving.begun, arriving.portion) = (self.heard(), None);
        }
    }

    fn arriving(&self) -> MutexGuard<'_, Option<Arriving>> {
        self.arriving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether what has come by now may have come.
    fn may_hear(&self) -> io::Result<()> {
        let heard = self.heard();
        if heard > self.heard_max.load(Ordering::Relaxed) {
            return Err(io::Error::other("too much before it said who it is"));
        }
        match &mut *self.arriving() {
            None => Ok(()),
            Some(arriving) => arriving.count(heard).map_err(io::Error::other),
        }
    }

    /// A head has come; its request is being answered until this is dropped.
    pub fn answer(self: &Arc<Self>) -> Answering {
        self.request.store(ANSWERED, Ordering::Relaxed);
        self.answering.fetch_add(1, Ordering::Relaxed);
        Answering { connection: Arc::clone(self), is_awaited: true }
    }

    /// The next request is taken: what its head's bytes showed. hyper takes them in their order.
    pub fn next_request(&self) -> Option<Ambiguity> {
        let before = self.requests.fetch_add(1, Ordering::Relaxed);
        self.ambiguous.get().filter(|(head, _)| *head <= before).map(|(_, why)| *why)
    }

    /// What comes from now on are no requests.
    pub fn becomes_socket(&self) {
        self.is_socket.store(true, Ordering::Relaxed);
    }

    /// What is read between requests begins the head of one. What a client sends ahead of its
    /// answer does not: it is not looked at until that has gone.
    fn hear(&self, bytes: usize) {
        count(&self.heard, bytes);
        if bytes > 0 && self.request.load(Ordering::Relaxed) == BETWEEN {
            let began = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(BETWEEN);
            self.request.store(began, Ordering::Relaxed);
        }
    }

    /// All that was to be sent has been.
    fn flushed(&self) {
        if self.request.load(Ordering::Relaxed) == SENT {
            self.request.store(BETWEEN, Ordering::Relaxed);
        }
    }

    fn head_began(&self) -> Option<Instant> {
        match self.request.load(Ordering::Relaxed) {
            BETWEEN | ANSWERED | SENT => None,
            began => Some(self.opened + Duration::from_millis(began)),
        }
    }

    /// Resolves when the connection has been of no use for too long. hyper's own timer for heads
    /// is not used: it runs while a connection is idle, too, and would end every one after the
    /// patience for a head.
    pub async fn useless(&self, patience: Patience) {
        let mut idle = Idle::default();
        let mut look = Instant::now();
        loop {
            let now = Instant::now();
            let late = self.head_began().map(|began| began + patience.head);
            if late.is_some_and(|late| late <= now) {
                return;
            }
            if look <= now {
                if idle.is_over(self) {
                    return;
                }
                look = now + patience.idle / IDLE_LOOKS;
            }
            // One that begins from now on is not late before this.
            let late = late.unwrap_or(now + patience.head);
            tokio::time::sleep_until(late.min(look)).await;
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

/// A socket's message on its way. Little ones, which most are, count for nothing.
#[derive(Debug)]
struct Arriving {
    bodies: Bound,
    holder: Holder,
    /// What had been heard before it.
    begun: u64,
    portion: Option<Portion>,
    /// Why no more of it is taken.
    refused: Option<ApiError>,
}

impl Arriving {
    fn count(&mut self, heard: u64) -> Result<(), ApiError> {
        let counted = self.hold(heard);
        self.refused = counted.as_ref().err().cloned();
        counted
    }

    fn hold(&mut self, heard: u64) -> Result<(), ApiError> {
        let wanted = heard.saturating_sub(self.begun);
        if wanted < BODY_STEP_BYTES {
            return Ok(());
        }
        let wanted = wanted.next_multiple_of(BODY_STEP_BYTES);
        match &mut self.portion {
            None => self.portion = Some(self.bodies.take(self.holder, wanted)?),
            Some(portion) if portion.size() < wanted => {
                portion.grow(wanted.saturating_sub(portion.size()))?;
            }
            Some(_) => {}
        }
        Ok(())
    }
}

/// See [`Connection::answer`].
#[derive(Debug)]
pub struct Answering {
    connection: Arc<Connection>,
    is_awaited: bool,
}

impl Answering {
    /// Whether it is the client that waits, and not the realm for its reader.
    fn is_awaited(&mut self, is_awaited: bool) {
        let answering = &self.connection.answering;
        match (self.is_awaited, is_awaited) {
            (false, true) => answering.fetch_add(1, Ordering::Relaxed),
            (true, false) => answering.fetch_sub(1, Ordering::Relaxed),
            (true, true) | (false, false) => return,
        };
        self.is_awaited = is_awaited;
    }
}

/// An answer's body: its connection is of use as long as the worker's pause. A reader's own pause
/// is another thing: who does not read does not hold a place for ever.
#[derive(Debug)]
pub struct Answered {
    body: Body,
    answering: Answering,
}

impl Answered {
    pub fn new(body: Body, answering: Answering) -> Self {
        Self { body, answering }
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
        self.answering.is_awaited(frame.is_pending());
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
        self.is_awaited(false);
        self.connection.request.store(SENT, Ordering::Relaxed);
    }
}

/// A stream that counts what it carries.
#[derive(Debug)]
pub struct Counted<S> {
    stream: S,
    connection: Arc<Connection>,
    heads: Heads,
}

impl<S> Counted<S> {
    pub fn new(stream: S, connection: Arc<Connection>) -> Self {
        Self { stream, connection, heads: Heads::default() }
    }

    pub fn into_inner(self) -> S {
        self.stream
    }

    /// What is found waits for the request that it is about: an earlier one may be under way.
    fn look(&mut self, bytes: &[u8]) {
        if self.connection.is_socket.load(Ordering::Relaxed) {
            return;
        }
        if let Err(found) = self.heads.read(bytes) {
            let _ = self.connection.ambiguous.set(found);
        }
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
        self.connection.hear(buffer.filled().len().saturating_sub(before));
        self.connection.may_hear()?;
        self.look(buffer.filled().get(before..).unwrap_or_default());
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
        // hyper asks for it when it has nothing left to write.
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if flushed.is_ready() {
            self.connection.flushed();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use futures_util::StreamExt;
    use hyper::body::Body as _;
    use mtor_core::share::{Limited, Rank};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    pub(in crate::http) fn connection() -> (Arc<Connection>, Bound) {
        let places = Bound::new(Limited::Connections, 1, 1);
        let holder = Holder { account: None, network: None, rank: Rank::Realm };
        let place = places.take(holder, 1).unwrap();
        (Connection::new(([127, 0, 0, 1], 1).into(), place), places)
    }

    #[tokio::test]
    async fn before_it_says_who_it_is_so_much_is_read_and_no_more() {
        let (connection, _places) = connection();
        let (mut client, server) = tokio::io::duplex(64);
        let mut server = Counted::new(server, Arc::clone(&connection));
        let mut buffer = [0; 8];
        connection.allow(8);
        client.write_all(&[1; 20]).await.unwrap();
        server.read_exact(&mut buffer).await.unwrap();
        assert!(server.read_exact(&mut buffer).await.is_err());
        let bodies = Bound::new(Limited::Bodies, 4 * BODY_STEP_BYTES, 1);
        let holder = Holder { account: None, network: None, rank: Rank::Realm };
        connection.allow_all(bodies.clone(), holder);
        server.read_exact(&mut buffer[..4]).await.unwrap();
        // Who it is is known: a message counts as it comes, and no more than there may be is read.
        let step = usize::try_from(BODY_STEP_BYTES).unwrap();
        let sent = tokio::spawn(async move { client.write_all(&vec![1; 9 * step]).await });
        let mut message = vec![0; 2 * step];
        server.read_exact(&mut message).await.unwrap();
        assert!(bodies.filled().0 >= 2 * BODY_STEP_BYTES);
        connection.message_taken();
        assert_eq!(bodies.filled().0, 0);
        let mut much = vec![0; 6 * step];
        assert!(server.read_exact(&mut much).await.is_err());
        sent.abort();
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
        assert_eq!(places.filled(), (1, 1), "a socket that it became still uses it");
        drop(connection);
        assert_eq!(places.filled(), (0, 1));
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
