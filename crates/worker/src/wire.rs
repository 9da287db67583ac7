//! The connection below TLS and WebSocket, and when the other side last gave a sign of life on it.
//!
//! Bytes count, not messages: a frame of 16 MiB over a slow link takes longer than a realm may be
//! silent. So does one that is written, and meanwhile the realm has nothing to say: what it takes
//! of it counts as well. Room in an empty send buffer does not, for that the kernel gives by
//! itself; room in one that was full comes only of what the other side acknowledged.

use std::io::{Error, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// When the other side last gave a sign of life. A clone tells the same.
#[derive(Clone)]
pub(crate) struct Life {
    began: Instant,
    /// Since `began`.
    last_ns: Arc<AtomicU64>,
}

impl Life {
    fn begin() -> Self {
        Self { began: Instant::now(), last_ns: Arc::default() }
    }

    fn sign(&self) {
        let ns = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.last_ns.store(ns, Ordering::Relaxed);
    }

    pub(crate) fn last(&self) -> Instant {
        self.began + Duration::from_nanos(self.last_ns.load(Ordering::Relaxed))
    }
}

pub(crate) struct Wire<S> {
    stream: S,
    life: Life,
    /// The send buffer was full.
    full: bool,
}

impl<S> Wire<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, life: Life::begin(), full: false }
    }

    pub(crate) fn life(&self) -> Life {
        self.life.clone()
    }

    fn wrote(&mut self, wrote: Poll<Result<usize, Error>>) -> Poll<Result<usize, Error>> {
        match &wrote {
            Poll::Pending => self.full = true,
            Poll::Ready(Ok(_)) if self.full => {
                self.full = false;
                self.life.sign();
            }
            Poll::Ready(_) => {}
        }
        wrote
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<(), Error>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.life.sign();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize, Error>> {
        let wrote = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(wrote)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<Result<usize, Error>> {
        let wrote = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.wrote(wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn every_byte_that_comes_is_a_sign_of_life() {
        let (near, mut far) = duplex(64);
        let mut wire = Wire::new(near);
        let life = wire.life();
        let mut last = life.last();
        for _ in 0..3 {
            far.write_all(b"part of a frame").await.unwrap();
            wire.read_exact(&mut [0; 15]).await.unwrap();
            assert!(life.last() > last);
            last = life.last();
        }
    }

    #[tokio::test]
    async fn what_the_other_side_takes_is_one_and_room_in_the_buffer_is_none() {
        let (near, mut far) = duplex(64);
        let mut wire = Wire::new(near);
        let life = wire.life();
        let first = life.last();
        let mut cx = Context::from_waker(Waker::noop());
        let mut write = |wire: &mut Wire<_>| Pin::new(wire).poll_write(&mut cx, &[0; 40]);
        assert!(matches!(write(&mut wire), Poll::Ready(Ok(40))));
        assert!(matches!(write(&mut wire), Poll::Ready(Ok(24))));
        assert!(write(&mut wire).is_pending());
        assert_eq!(life.last(), first);
        far.read_exact(&mut [0; 10]).await.unwrap();
        assert!(matches!(write(&mut wire), Poll::Ready(Ok(10))));
        assert!(life.last() > first);
    }
}
