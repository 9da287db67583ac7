//! The HTTP edge: routes, and the loop that accepts connections.
//!
//! Each file here is one family of paths. Handlers read, ask [`auth::Caller::may`], and speak to
//! the [`Edge`]; they decide nothing about money or fairness. Every body is bounded, every
//! connection has `TCP_NODELAY`, and a client that does not send a request's head in time, or
//! leaves its connection idle, is dropped (see [`Patience`]).

mod accounts;
mod audio;
mod auth;
mod catalogue;
mod connection;
mod errors;
mod heads;
mod intents;
mod json;
mod openai;
mod own_intents;
mod page;
mod socket;
mod sse;
mod sysop;
#[cfg(test)]
mod tests;
mod upgrade;
mod weights;
mod worker_rows;
mod workers;

pub use connection::{Connection, Counted};

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tower::ServiceExt;

use connection::{Answered, Patience};
use mtor_types::Rejection;
use mtor_types::rejection::{Limited, Whose};

use crate::api_error::ApiError;
use crate::edge::Edge;

/// The largest body of any route; each manifest has its own below it.
pub const BODY_BYTES_MAX: usize = 17 * 1024 * 1024;
/// What a connection reads ahead; a body larger than this comes in several pieces.
const CONNECTION_BYTES_MAX: usize = 64 * 1024;
/// Connections that are told why they are not taken, at a time, and for how long.
const TURNED_AWAY_MAX: usize = 64;
const TURNED_AWAY_PATIENCE: Duration = Duration::from_millis(500);
/// For open requests when the realm stops.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// A JSON answer.
#[derive(Debug)]
pub struct Answer {
    status: StatusCode,
    body: Bytes,
}

impl Answer {
    pub fn json(status: StatusCode, document: &impl Serialize) -> Self {
        match serde_json::to_vec(document) {
            Ok(body) => Self { status, body: body.into() },
            // Only for a map whose keys are not strings, and there is none.
            Err(_) => Self { status: StatusCode::INTERNAL_SERVER_ERROR, body: Bytes::new() },
        }
    }

    /// Done, and there is nothing to say.
    pub fn empty() -> Self {
        Self { status: StatusCode::NO_CONTENT, body: Bytes::new() }
    }

    /// JSON that is there already.
    pub fn raw(status: StatusCode, body: Bytes) -> Self {
        Self { status, body }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let kind = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        (self.status, kind, self.body).into_response()
    }
}

fn routes(edge: Arc<Edge>) -> Router {
    Router::new()
        .route("/", get(page::index))
        .route("/assets/{name}", get(page::asset))
        .route("/errors/{code}", get(errors::page))
        .route("/healthz", get(catalogue::healthz))
        .route("/readyz", get(catalogue::readyz))
        .route("/metrics", get(catalogue::metrics))
        .route("/.well-known/mtor.json", get(catalogue::document))
        .route("/v1/pools", get(catalogue::pools))
        .route("/v1/manifests", get(catalogue::manifests))
        .route("/v1/models", get(catalogue::models))
        .route("/v1/models/{*id}", get(catalogue::model))
        .route("/v1/accounts/guest", post(accounts::guest))
        .route("/v1/accounts/nonce", get(accounts::nonce))
        .route("/v1/account", get(accounts::account))
        .route("/v1/account/keys", get(accounts::keys).post(accounts::add_key))
        .route("/v1/account/keys/{key}", delete(accounts::revoke_key))
        .route("/v1/account/transfers", get(accounts::transfers))
        .route("/v1/account/workers", get(worker_rows::of_account))
        .route("/v1/account/receipts", get(accounts::receipts))
        .route("/v1/quote", post(intents::quote))
        .route("/v1/intents", post(intents::submit).get(own_intents::list))
        .route("/v1/intents/batch", post(intents::batch))
        .route("/v1/intents/{id}", get(intents::read).delete(intents::cancel))
        .route("/v1/intents/{id}/events", get(intents::events))
        .route("/v1/events", get(socket::open))
        .route("/v1/chat/completions", post(openai::chat))
        .route("/v1/embeddings", post(openai::embeddings))
        .route("/v1/audio/transcriptions", post(audio::transcriptions))
        .route("/v1/audio/speech", post(audio::speech))
        .route("/v1/workers/tokens", post(workers::issue_token))
        .route("/v1/workers/enrol", post(workers::enrol))
        .route("/v1/workers/session", get(workers::session))
        .route("/v1/sysop/health", get(sysop::health))
        .route("/v1/sysop/workers", get(worker_rows::all))
        .route("/v1/sysop/workers/tokens", post(sysop::worker_token))
        .route("/v1/sysop/workers/{id}", put(sysop::ban_worker).delete(sysop::remove_worker))
        .route("/v1/sysop/workers/{id}/proof", put(sysop::vouch))
        .route("/v1/sysop/accounts", get(sysop::accounts))
        .route("/v1/sysop/accounts/{id}", put(sysop::account))
        .route(
            "/v1/sysop/invites",
            get(sysop::invites).post(sysop::invite).delete(sysop::withdraw_invites),
        )
        .route("/v1/sysop/intents", get(sysop::intents))
        .route("/v1/sysop/intents/{id}", delete(sysop::cancel))
        .fallback(|| async { ApiError::not_found("path of that name") })
        .method_not_allowed_fallback(|| async { ApiError::method_not_allowed() })
        .with_state(edge)
}

/// Runs to its end also when the client hangs up meanwhile: hyper drops a handler then, and what
/// is recorded must reach what the edge keeps in memory.
async fn finish<T: Send + 'static>(
    work: impl Future<Output = Result<T, ApiError>> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::spawn(work).await.unwrap_or_else(|_| Err(ApiError::internal()))
}

/// Serves until the edge stops.
pub async fn serve(listener: TcpListener, edge: Arc<Edge>) {
    let routes = routes(Arc::clone(&edge));
    let kept = routes.clone().layer(axum::middleware::from_fn(for_the_sysop_alone));
    let leaving = Arc::new(Semaphore::new(TURNED_AWAY_MAX));
    let (open, mut all_closed) = mpsc::channel::<Infallible>(1);
    loop {
        let (stream, client) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors: let connections end before the next try.
                    tracing::warn!(%error, "accept");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
            () = edge.stopping() => break,
        };
        let place = match edge.shares.connections.take(edge.caller_at(client.ip()), 1) {
            Ok(place) => place,
            Err(error) => {
                // Who runs the realm, and what watches it, are on this machine.
                if let Some(place) = edge.kept_place(client.ip()) {
                    let (routes, connection) = (kept.clone(), Connection::new(client, place));
                    let (open, edge) = (open.clone(), Arc::clone(&edge));
                    tokio::spawn(async move {
                        converse(stream, routes, connection, Patience::USUAL, edge.stopping())
                            .await;
                        drop(open);
                    });
                    continue;
                }
                // It is closed without a word where too many are told already.
                if let Ok(place) = Arc::clone(&leaving).try_acquire_owned() {
                    tokio::spawn(async move {
                        turn_away(stream, &error).await;
                        drop(place);
                    });
                }
                continue;
            }
        };
        // Without it a stream of small writes stalls for 40 ms at a time.
        let _ = stream.set_nodelay(true);
        let (routes, connection) = (routes.clone(), Connection::new(client, place));
        let (open, edge) = (open.clone(), Arc::clone(&edge));
        tokio::spawn(async move {
            converse(stream, routes, connection, Patience::USUAL, edge.stopping()).await;
            // Whoever stops the realm waits for all of them.
            drop(open);
        });
    }
    drop(open);
    let _ = tokio::time::timeout(STOP_PATIENCE, all_closed.recv()).await;
}

/// What is answered when every other connection is taken: how the realm is, and its sysop.
async fn for_the_sysop_alone(request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let kept =
        ["/healthz", "/readyz", "/metrics"].contains(&path) || path.starts_with("/v1/sysop/");
    let mut answer = if kept { next.run(request).await } else { no_connection().into_response() };
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    answer
}

fn no_connection() -> ApiError {
    let (what, whose) = (Limited::Connections, Whose::Everybody);
    Rejection::ShareUsed { what, whose, held: 0, may: 0 }.into()
}

/// Says why before anything is read. What its client has sent by then is taken for a moment: a connection
/// that is closed on it would take the answer back.
async fn turn_away(mut stream: TcpStream, error: &ApiError) {
    let body = error.to_json();
    let head = format!(
        "HTTP/1.1 {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nretry-after: 1\r\n\
         connection: close\r\n\r\n",
        error.status(),
        body.len()
    );
    let say = async {
        stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).await?;
        stream.shutdown().await?;
        let mut unread = [0; 1024];
        while stream.read(&mut unread).await? > 0 {}
        Ok::<_, std::io::Error>(())
    };
    // A client that goes meanwhile is not news.
    let _ = tokio::time::timeout(TURNED_AWAY_PATIENCE, say).await;
}

/// One request. What could be read in two ways is not carried out, and what comes after it on its
/// connection is not read.
async fn answer(
    request: Request,
    routes: Router,
    connection: Arc<Connection>,
) -> Result<Response, Infallible> {
    let (head, body) = request.into_parts();
    if let Some(refusal) = heads::refusal(&head, connection.next_request()) {
        let mut refused = refusal.into_response();
        refused.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        return Ok(refused);
    }
    let answer = routes.oneshot(Request::from_parts(head, body)).await?;
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        connection.becomes_socket();
    }
    Ok(answer)
}

/// One connection, until either side ends it. When the realm stops, the request in it is answered
/// and no other is taken.
async fn converse(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    routes: Router,
    connection: Arc<Connection>,
    patience: Patience,
    stopping: impl Future<Output = ()>,
) {
    let mut stopping = pin!(stopping);
    let of = Arc::clone(&connection);
    let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
        let mut request = request.map(axum::body::Body::new);
        request.extensions_mut().insert(Arc::clone(&of));
        let answering = of.answer();
        let answer = answer(request, routes.clone(), Arc::clone(&of));
        async move { Ok::<_, Infallible>(answer.await?.map(|body| Answered::new(body, answering))) }
    });
    let mut builder = http1::Builder::new();
    builder.header_read_timeout(None).max_buf_size(CONNECTION_BYTES_MAX);
    let stream = TokioIo::new(Counted::new(stream, Arc::clone(&connection)));
    let mut serving = pin!(builder.serve_connection(stream, service).with_upgrades());
    let mut useless = pin!(connection.useless(patience));
    let mut is_stopping = false;
    loop {
        tokio::select! {
            // What has arrived is taken before it is judged whether it came in time.
            biased;
            // A client that breaks its connection is not news.
            _ = &mut serving => return,
            () = &mut useless => return,
            () = &mut stopping, if !is_stopping => {
                is_stopping = true;
                serving.as_mut().graceful_shutdown();
            }
        }
    }
}
