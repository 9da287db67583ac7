//! The page, embedded: three files, by name.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};

use super::json::Segment;
use crate::api_error::ApiError;

const INDEX: &[u8] = include_bytes!("../../../../web/dist/index.html");
const SCRIPT: &[u8] = include_bytes!("../../../../web/dist/assets/app.js");
const STYLE: &[u8] = include_bytes!("../../../../web/dist/assets/app.css");
const ICON: &[u8] = include_bytes!("../../../../web/dist/assets/icon.svg");

/// Nothing but what this realm itself serves; nobody may frame it.
const POLICY: &str = "default-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'; object-src 'none'";

pub async fn index() -> Response {
    file(INDEX, "text/html; charset=utf-8")
}

pub async fn asset(Segment(name): Segment) -> Result<Response, ApiError> {
    match name.as_str() {
        "app.js" => Ok(file(SCRIPT, "text/javascript; charset=utf-8")),
        "app.css" => Ok(file(STYLE, "text/css; charset=utf-8")),
        "icon.svg" => Ok(file(ICON, "image/svg+xml")),
        _ => Err(ApiError::not_found("asset of that name")),
    }
}

fn file(bytes: &'static [u8], kind: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        // The names stay, the content changes with the binary.
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, bytes).into_response()
}
