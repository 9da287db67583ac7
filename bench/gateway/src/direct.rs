//! The ceiling: a minimal hyper server that gives the mock's answers itself.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use anyhow::Result;
use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::answers::{BURST, COMPLETION, MODEL_BURST, PIECE, PIECES};

/// Serves until the process ends; prints its address first.
pub(crate) async fn main(listen: SocketAddr) -> Result<()> {
    use std::io::Write;
    let listener = TcpListener::bind(listen).await?;
    writeln!(std::io::stdout(), "{}", listener.local_addr()?)?;
    serve(listener).await
}

pub(crate) async fn serve(listener: TcpListener) -> Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            let http = hyper::server::conn::http1::Builder::new();
            // A client that goes ends its connection, nothing else.
            let _ = http.serve_connection(TokioIo::new(stream), service_fn(answer)).await;
        });
    }
}

async fn answer(mut request: Request<Incoming>) -> Result<Response<Answer>, hyper::Error> {
    let mut start = Bytes::new();
    while let Some(frame) = request.body_mut().frame().await {
        if let Some(data) = frame?.data_ref().filter(|_| start.is_empty()) {
            start = data.clone();
        }
    }
    let start = start.get(..start.len().min(512)).unwrap_or_default();
    let has = |text: &str| memchr::memmem::find(start, text.as_bytes()).is_some();
    let (kind, body) = if has("\"stream\":true") {
        let pieces = if has(MODEL_BURST) { BURST } else { PIECES };
        ("text/event-stream", Answer::Stream { left: pieces + 1 })
    } else {
        ("application/json", Answer::Whole(Some(Bytes::from_static(COMPLETION.as_bytes()))))
    };
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    Ok(response)
}

enum Answer {
    Whole(Option<Bytes>),
    /// Pieces to come, and `[DONE]`.
    Stream {
        left: usize,
    },
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let bytes = match &mut *self {
            Self::Whole(bytes) => bytes.take(),
            Self::Stream { left: 0 } => None,
            Self::Stream { left } => {
                *left -= 1;
                Some(match left {
                    0 => Bytes::from_static(b"data: [DONE]\n\n"),
                    _ => Bytes::from(["data: ", PIECE, "\n\n"].concat()),
                })
            }
        };
        Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None) | Self::Stream { left: 0 })
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Stream { .. } => SizeHint::default(),
        }
    }
}
