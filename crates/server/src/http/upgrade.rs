//! From a request to a worker's WebSocket on the sessions' own threads.
//!
//! A socket is woken by the runtime that it was opened in, so a session that only runs elsewhere would
//! still wait for whoever keeps that one busy. It is taken from there whole.

use std::io;
use std::sync::Arc;

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, StatusCode, header};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use mtor_types::fact::NetworkKey;
use mtor_types::worker::FRAME_BYTES_MAX;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::connection::{Connection, Counted};
use crate::api_error::ApiError;
use crate::edge::Edge;
use crate::sessions;

/// What a session reads in one go: each takes so much before it has said who it is.
const READ_BYTES: usize = 16 * 1024;
const PROTOCOL: &str = "cloudevents.json";

/// The answer to a worker that asks for a session; the session begins once it is sent.
pub(super) fn begin(
    edge: Arc<Edge>,
    connection: Arc<Connection>,
    network: NetworkKey,
    mut request: Request,
) -> Result<Response, ApiError> {
    let refused = || ApiError::invalid_header("upgrade", "a WebSocket request");
    let headers = request.headers();
    let is_one = says(headers, &header::CONNECTION, "upgrade")
        && says(headers, &header::UPGRADE, "websocket")
        && says(headers, &header::SEC_WEBSOCKET_VERSION, "13");
    let key = headers.get(header::SEC_WEBSOCKET_KEY).filter(|_| is_one).ok_or_else(refused)?;
    let accept = derive_accept_key(key.as_bytes());
    let protocol = says(headers, &header::SEC_WEBSOCKET_PROTOCOL, PROTOCOL).then_some(PROTOCOL);
    let upgrade = request.extensions_mut().remove::<OnUpgrade>().ok_or_else(refused)?;
    tokio::spawn(async move {
        // A worker that goes meanwhile is not news.
        let Ok(upgraded) = upgrade.await else { return };
        match take(upgraded) {
            Ok((stream, ahead)) => {
                let threads = edge.session_threads.clone();
                threads.spawn(converse(stream, ahead, edge, connection, network));
            }
            Err(error) => tracing::warn!(%error, "a worker's connection"),
        }
    });
    let head = [
        (header::CONNECTION, "upgrade"),
        (header::UPGRADE, "websocket"),
        (header::SEC_WEBSOCKET_ACCEPT, accept.as_str()),
    ];
    let mut answer = (StatusCode::SWITCHING_PROTOCOLS, head).into_response();
    if let Some(protocol) = protocol {
        let protocol = header::HeaderValue::from_static(protocol);
        answer.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    Ok(answer)
}

/// Whether that word stands in a list of words.
fn says(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    let mut words = values.flat_map(|value| value.split(','));
    words.any(|found| found.trim().eq_ignore_ascii_case(word))
}

/// The connection without its runtime, and what was read of it ahead.
fn take(upgraded: Upgraded) -> io::Result<(std::net::TcpStream, Bytes)> {
    let parts = upgraded.downcast::<TokioIo<Counted<TcpStream>>>();
    let parts = parts.map_err(|_| io::Error::other("it is no connection of this listener"))?;
    Ok((parts.io.into_inner().into_inner().into_std()?, parts.read_buf))
}

async fn converse(
    stream: std::net::TcpStream,
    ahead: Bytes,
    edge: Arc<Edge>,
    connection: Arc<Connection>,
    network: NetworkKey,
) {
    let stream = match TcpStream::from_std(stream) {
        Ok(stream) => stream,
        Err(error) => return tracing::warn!(%error, "a worker's connection"),
    };
    let stream = Counted::new(stream, Arc::clone(&connection));
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BYTES)
        .max_message_size(Some(FRAME_BYTES_MAX))
        .max_frame_size(Some(FRAME_BYTES_MAX));
    let ahead = ahead.to_vec();
    let socket =
        WebSocketStream::from_partially_read(stream, ahead, Role::Server, Some(config)).await;
    sessions::serve(socket, edge, connection, network).await;
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_word_stands_in_any_place_of_a_list_and_in_any_case() {
        let mut headers = HeaderMap::new();
        headers.append(header::CONNECTION, HeaderValue::from_static("keep-alive, Upgrade"));
        headers.append(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("other"));
        headers.append(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(PROTOCOL));
        assert!(says(&headers, &header::CONNECTION, "upgrade"));
        assert!(says(&headers, &header::SEC_WEBSOCKET_PROTOCOL, PROTOCOL));
        assert!(!says(&headers, &header::CONNECTION, "up"));
        assert!(!says(&headers, &header::UPGRADE, "websocket"));
    }
}
