//! Server-sent events: a cursor on a replay buffer, as a response body.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, StatusCode, header};

use crate::edge::Edge;
use crate::edge::render::{Rendered, render};
use crate::streams::{Cursor, Next};

/// A comment is sent after this long without an event, so that nothing on the way gives up.
const PING_EVERY: Duration = Duration::from_secs(15);
/// Events sent in one write at most.
const ROUND_BYTES: usize = 64 * 1024;

/// The events from `cursor` on, until nothing more will come.
pub fn respond(status: StatusCode, edge: Arc<Edge>, cursor: Cursor) -> Response {
    let state = Some((edge, cursor));
    let body = Body::from_stream(stream::unfold(state, |state| async move {
        let (edge, mut cursor) = state?;
        let next = tokio::time::timeout(PING_EVERY, cursor.next()).await;
        let first = match next {
            Err(_) => {
                let ping = Bytes::from_static(b": ping\n\n");
                return Some((Ok::<_, Infallible>(ping), Some((edge, cursor))));
            }
            Ok(Ok(Some(entry))) => entry,
            // Over, or no longer readable: the client sees the stream end and may ask again.
            Ok(Ok(None) | Err(_)) => return None,
        };
        let intent = cursor.stream().id();
        let mut text = String::new();
        let mut entry = Some(first);
        while let Some(current) = entry.take() {
            if let Some(event) = render(&edge, intent, None, &current) {
                push(&mut text, &event);
            }
            if text.len() < ROUND_BYTES
                && let Ok(Next::Entry(more)) = cursor.try_next()
            {
                entry = Some(more);
            }
        }
        Some((Ok(Bytes::from(text)), Some((edge, cursor))))
    }));
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        // For proxies that would hold the stream back.
        (header::HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    (status, headers, body).into_response()
}

fn push(text: &mut String, event: &Rendered) {
    if let Some(id) = event.id {
        text.push_str("id: ");
        text.push_str(&id.to_string());
        text.push('\n');
    }
    text.push_str("event: ");
    text.push_str(event.kind);
    text.push_str("\ndata: ");
    // JSON as serde writes it has no line breaks of its own; a raw piece may.
    for (index, line) in event.json.split(['\n', '\r']).enumerate() {
        if index > 0 {
            text.push_str("\ndata: ");
        }
        text.push_str(line);
    }
    text.push_str("\n\n");
}
