//! One open connection: frames in batches, frames out with one flush a wake-up, the heartbeat.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::{Sink, Stream};
use mtor_types::mutant;
use mtor_types::worker::{self, RealmHello};
use serde::Serialize;
use tokio::net::TcpStream;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, timeout};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::frame::Encoder;
use crate::limits;
use crate::wire::{Life, Wire};

pub(crate) type Socket = WebSocketStream<MaybeTlsStream<Wire<TcpStream>>>;

/// What a session wakes the agent for.
pub(crate) enum Event {
    /// Also empty: the realm has answered [`Session::ask`].
    Frames(Vec<Utf8Bytes>),
    /// All that was given is on its way; there is room for more.
    Flushed,
    Heartbeat,
    Closed {
        reason: String,
        refused: Refused,
    },
}

/// What the end of a connection says of this worker's standing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Nothing.
    Not,
    /// It is not wanted, or not understood.
    Unwanted,
    /// It is not enrolled there, or not any more.
    Unknown,
    /// It may be wanted again another day.
    Banned,
    /// Another process has its key, and the session.
    Replaced,
}

pub(crate) struct Session {
    socket: Box<Socket>,
    pub(crate) hello: RealmHello,
    pub(crate) encoder: Encoder,
    out: VecDeque<Message>,
    /// Something was given to the socket and not yet flushed.
    dirty: bool,
    /// Events that were added one by one and may not be on their way yet.
    pushed: usize,
    /// A heartbeat is among them.
    beating: bool,
    heartbeat: Interval,
    life: Life,
    /// An event or an answer came after the realm's hello: it has taken this worker.
    heard: bool,
    /// The agent was told that the realm has taken this worker.
    taken: bool,
    /// The end came with frames before it; it is told after them.
    ended: Option<Event>,
    silence: Silence,
}

/// How long the realm may say nothing. This worker's own pause (its process was stopped, its machine
/// slept) is not the realm's silence: what the realm said meanwhile may still stand in the socket.
struct Silence {
    longest: Duration,
    /// When something came last, at the last look.
    heard: Instant,
    /// This worker's pauses since.
    away: Duration,
}

impl Silence {
    fn new(longest: Duration, heard: Instant) -> Self {
        Self { longest, heard, away: Duration::ZERO }
    }

    /// A heartbeat came so late.
    fn beat(&mut self, heard: Instant, late: Duration) {
        if heard != self.heard {
            (self.heard, self.away) = (heard, Duration::ZERO);
        }
        if late > Duration::from_millis(limits::PAUSE_MS) {
            self.away += late;
        }
    }

    fn is_over(&self, heard: Instant, now: Instant) -> bool {
        let away = if heard == self.heard { self.away } else { Duration::ZERO };
        now.saturating_duration_since(heard) > self.longest + away
    }
}

impl Session {
    pub(crate) fn new(
        socket: Box<Socket>,
        life: Life,
        hello: RealmHello,
        encoder: Encoder,
    ) -> Self {
        let beat = hello.heartbeat_ms.clamp(limits::HEARTBEAT_MS_MIN, limits::HEARTBEAT_MS_MAX);
        let beat = Duration::from_millis(beat);
        let mut heartbeat = interval_at(Instant::now() + beat, beat);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let lease = Duration::from_millis(hello.lease_ms.min(limits::DEADLINE_MS_MAX)).max(beat);
        let longest = lease * u32::try_from(limits::SILENCE_LEASES).unwrap_or(1);
        Self {
            silence: Silence::new(longest, life.last()),
            socket,
            hello,
            encoder,
            out: VecDeque::new(),
            dirty: false,
            pushed: 0,
            beating: false,
            heartbeat,
            life,
            heard: false,
            taken: false,
            ended: None,
        }
    }

    /// Whether frames may be added beyond those that answer at once.
    pub(crate) fn has_room(&self) -> bool {
        !self.dirty && self.out.is_empty()
    }

    pub(crate) fn queue(&mut self) -> (&mut Encoder, &mut VecDeque<Message>) {
        (&mut self.encoder, &mut self.out)
    }

    /// Adds one event.
    pub(crate) fn push<D: Serialize>(&mut self, kind: &str, data: D) {
        self.pushed += 1;
        self.out.extend(self.encoder.encode(kind, data));
    }

    /// Adds the heartbeat, and asks for a sign of life if there was none since the last one. While
    /// that still waits behind a large frame another would only wait with it: the bytes of the
    /// frame are what tells the realm that this worker lives.
    pub(crate) fn beat<D: Serialize>(&mut self, kind: &str, data: D) {
        if self.beating && !self.has_room() {
            return;
        }
        self.beating = true;
        self.push(kind, data);
        if self.life.last().elapsed() >= self.heartbeat.period() {
            self.ask();
        }
    }

    /// Asks for a sign of life. A realm answers what stands before it first, so an answer to one
    /// that follows hello and offer says that it has taken them.
    pub(crate) fn ask(&mut self) {
        self.out.push_back(Message::Ping(bytes::Bytes::new()));
    }

    /// The realm understands offers that name a group.
    pub(crate) fn knows_groups(&self) -> bool {
        self.hello.knows.iter().any(|word| word == worker::OFFER_GROUP)
    }

    /// True once, when the realm has said something after its hello.
    pub(crate) fn is_newly_taken(&mut self) -> bool {
        !std::mem::replace(&mut self.taken, true)
    }

    /// Whether nothing came for too long.
    pub(crate) fn is_silent(&self, now: Instant) -> bool {
        self.silence.is_over(self.life.last(), now)
    }

    pub(crate) async fn next(&mut self) -> Event {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        if let Some(ended) = self.ended.take() {
            return Poll::Ready(ended);
        }
        let mut flushed = false;
        if !self.has_room() {
            match self.poll_write(cx) {
                Poll::Ready(Ok(())) => flushed = true,
                Poll::Ready(Err(error)) => return Poll::Ready(self.lost(&error)),
                Poll::Pending => {}
            }
        }
        if let Poll::Ready(due) = self.heartbeat.poll_tick(cx) {
            self.silence.beat(self.life.last(), due.elapsed());
            return Poll::Ready(Event::Heartbeat);
        }
        // A realm that sends and does not read is not read either. Pieces do not count: they are
        // bounded, and over a slow link they take as long as they take.
        if self.pushed > limits::FRAMES_PER_WAKE_MAX * 4 {
            return Poll::Pending;
        }
        // A busy writer must not keep heartbeat and reading from their turns: they come first.
        match self.poll_read(cx) {
            Poll::Pending if flushed => Poll::Ready(Event::Flushed),
            read @ (Poll::Pending | Poll::Ready(_)) => read,
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.dirty = true;
        while !self.out.is_empty() {
            ready!(Pin::new(&mut *self.socket).poll_ready(cx))?;
            if let Some(message) = self.out.pop_front() {
                Pin::new(&mut *self.socket).start_send(message)?;
            }
        }
        ready!(Pin::new(&mut *self.socket).poll_flush(cx))?;
        self.dirty = false;
        self.pushed = 0;
        self.beating = false;
        Poll::Ready(Ok(()))
    }

    /// All that has come, up to a bound, so that its answers share one flush.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        let mut frames = Vec::new();
        let mut answered = false;
        while frames.len() < limits::FRAMES_PER_WAKE_MAX {
            let ended = match Pin::new(&mut *self.socket).poll_next(cx) {
                Poll::Pending if frames.is_empty() && !answered => return Poll::Pending,
                Poll::Pending => break,
                Poll::Ready(None) => self.closed("connection closed", None, ""),
                Poll::Ready(Some(Err(error))) => self.lost(&error),
                Poll::Ready(Some(Ok(Message::Close(frame)))) => {
                    let (code, why) = frame.map(|frame| (frame.code, frame.reason)).unzip();
                    let why = why.unwrap_or_default();
                    self.closed("the realm closed the session", code, &why)
                }
                Poll::Ready(Some(Ok(Message::Text(text)))) => {
                    frames.push(text);
                    self.heard = true;
                    continue;
                }
                Poll::Ready(Some(Ok(message))) => {
                    if message.is_binary() {
                        tracing::warn!("a binary frame from the realm");
                    }
                    // The question follows hello and offer.
                    self.heard |= message.is_pong();
                    answered |= message.is_pong() && !self.taken;
                    continue;
                }
            };
            if frames.is_empty() {
                return Poll::Ready(ended);
            }
            self.ended = Some(ended);
            break;
        }
        Poll::Ready(Event::Frames(frames))
    }

    fn lost(&self, error: &Error) -> Event {
        self.closed(&format!("connection lost: {error}"), None, "")
    }

    fn closed(&self, reason: &str, code: Option<CloseCode>, why: &str) -> Event {
        let number = code.map_or(0, u16::from);
        // Policy, or a code of the realm's own, before a word was said: it does not want us. A
        // realm that is full, or for which we were too slow, says 1013: another time it may.
        let refused = match number {
            worker::CLOSE_UNKNOWN => Refused::Unknown,
            worker::CLOSE_BANNED => Refused::Banned,
            worker::CLOSE_REPLACED if !mutant!("replaced-worker-comes-again") => Refused::Replaced,
            1008 | 4000..5000 if !self.heard => Refused::Unwanted,
            _ => Refused::Not,
        };
        let reason = match (number, why) {
            (0, _) => reason.to_owned(),
            (_, "") => format!("{reason} ({number})"),
            (_, why) => format!("{reason} ({number}): {}", why.escape_debug()),
        };
        Event::Closed { reason, refused }
    }

    /// Says goodbye, within a second.
    pub(crate) async fn close(mut self) {
        let close = async {
            std::future::poll_fn(|cx| self.poll_write(cx)).await.ok();
            self.socket.close(None).await.ok();
            // Until the realm has closed too, so that all frames before arrive.
            while let Some(Ok(_)) = futures_util::StreamExt::next(&mut *self.socket).await {}
        };
        timeout(Duration::from_secs(1), close).await.ok();
    }
}

#[cfg(test)]
mod tests {
    use mtor_types::worker::{CHUNK, PING, Ping};
    use mtor_types::{Digest, RealmId, WorkerId};
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;
    use tokio_tungstenite::tungstenite::protocol::Role;

    use super::*;

    /// A session behind its handshake, and the realm's end of the connection.
    async fn session() -> (Session, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (far, _) = listener.accept().await.unwrap();
        let wire = Wire::new(near);
        let life = wire.life();
        let socket = MaybeTlsStream::Plain(wire);
        let socket = WebSocketStream::from_raw_socket(socket, Role::Client, None).await;
        let (realm, nonce) = (RealmId([1; 32]), Digest([2; 32]));
        let hello = RealmHello {
            realm,
            nonce,
            lease_ms: 1_000,
            heartbeat_ms: 20,
            credit: 1,
            knows: Vec::new(),
        };
        let encoder = Encoder::new(WorkerId([3; 32]));
        (Session::new(Box::new(socket), life, hello, encoder), far)
    }

    async fn heartbeat(session: &mut Session) {
        assert!(matches!(session.next().await, Event::Heartbeat));
    }

    #[tokio::test]
    async fn a_frame_that_is_still_coming_is_no_silence() {
        let (mut session, mut far) = session().await;
        let begun = session.life.last();
        // The head of a text frame of 11 MiB, and the first of it.
        far.write_all(&[0x81, 127, 0, 0, 0, 0, 0, 0xb0, 0, 0]).await.unwrap();
        far.write_all(&[b'x'; 1000]).await.unwrap();
        for _ in 0..100 {
            if session.life.last() == begun {
                heartbeat(&mut session).await;
            }
        }
        assert!(session.life.last() > begun);
        let silence = Duration::from_secs(3);
        let last = session.life.last();
        assert!(!session.is_silent(last + silence));
        assert!(session.is_silent(last + silence + Duration::from_nanos(1)));
    }

    #[test]
    fn a_pause_of_ones_own_is_not_the_realms_silence() {
        let (begun, second) = (Instant::now(), Duration::from_secs(1));
        let mut silence = Silence::new(9 * second, begun);
        // Stopped for eleven seconds: the next beat comes so late.
        silence.beat(begun, 11 * second);
        assert!(!silence.is_over(begun, begun + 20 * second));
        assert!(silence.is_over(begun, begun + 21 * second));
        // What came since begins anew.
        let heard = begun + 12 * second;
        assert!(!silence.is_over(heard, heard + 9 * second));
        assert!(silence.is_over(heard, heard + 10 * second));
        silence.beat(heard, Duration::from_millis(limits::PAUSE_MS));
        assert!(silence.is_over(heard, heard + 10 * second));
    }

    #[tokio::test]
    async fn heartbeats_do_not_pile_up_behind_a_frame_that_nobody_takes() {
        let (mut session, _far) = session().await;
        let (encoder, out) = session.queue();
        out.extend(encoder.encode(CHUNK, "x".repeat(15 << 20)));
        for _ in 0..5 {
            heartbeat(&mut session).await;
            session.beat(PING, Ping {});
        }
        assert!(session.out.len() <= 2, "{}", session.out.len());
    }
}
