//! What a client is told when something is refused: one stable code, a sentence that names the
//! field and the remedy, and, if waiting can help, for how long.
//!
//! Invariants: a message never holds payload content (no value of a client's field, no excerpt of
//! its body), so it may be logged; the code decides the HTTP status. Absent on purpose: logging.
//! An error is logged once, by who handles it, never where it is built.

use std::borrow::Cow;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use mtor_types::{Code, Rejection};
use serde::Serialize;

/// A refusal on its way to a client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ApiError {
    pub code: Code,
    pub message: String,
    pub retry_after_ms: Option<u64>,
    /// The field or header at fault: a JSON pointer for nested fields, else its bare name.
    pub field: Option<String>,
}

/// How long to wait where a code may be retried and nothing better is known.
const RETRY_DEFAULT_MS: u64 = 1_000;

impl ApiError {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        let retry_after_ms = code.may_retry().then_some(RETRY_DEFAULT_MS);
        Self { code, message: message.into(), retry_after_ms, field: None }
    }

    #[must_use]
    pub fn with_field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    #[must_use]
    pub fn with_retry_after_ms(mut self, wait_ms: u64) -> Self {
        self.retry_after_ms = Some(wait_ms);
        self
    }

    /// `expected` completes the sentence, for example "a whole number from 1 to 4096".
    pub fn invalid_field(field: &str, expected: &str) -> Self {
        Self::new(Code::InvalidField, format!("field `{field}`: expected {expected}"))
            .with_field(field)
    }

    pub fn missing_field(field: &str, expected: &str) -> Self {
        Self::new(Code::InvalidField, format!("field `{field}` is missing: expected {expected}"))
            .with_field(field)
    }

    pub fn invalid_header(header: &str, expected: &str) -> Self {
        Self::new(Code::InvalidField, format!("header `{header}`: expected {expected}"))
            .with_field(header)
    }

    /// `known` lists what would have been accepted.
    pub fn unknown_field(field: &str, known: &str) -> Self {
        let field = printable(field);
        let message = format!("field `{field}` is not known here; known are {known}");
        Self::new(Code::UnknownField, message).with_field(field)
    }

    pub fn malformed_json(line: usize, column: usize) -> Self {
        let message = match (line, column) {
            (1, 0) => "the body is empty: send JSON".to_owned(),
            _ => format!("the body is not JSON: look at line {line}, column {column}"),
        };
        Self::new(Code::MalformedJson, message)
    }

    pub fn too_large(what: &str, bytes_max: u64) -> Self {
        Self::new(Code::TooLarge, format!("{what} is larger than {bytes_max} bytes"))
    }

    pub fn too_deep(depth_max: usize) -> Self {
        Self::new(Code::TooDeep, format!("JSON nested deeper than {depth_max} levels"))
    }

    pub fn unauthenticated() -> Self {
        Self::new(Code::Unauthenticated, "send `Authorization: Bearer <api key>` with a valid key")
    }

    pub fn not_found(what: &str) -> Self {
        Self::new(Code::NotFound, format!("there is no {what}, or it is not yours"))
    }

    pub fn method_not_allowed() -> Self {
        Self::new(Code::MethodNotAllowed, "this path does not take that method")
    }

    pub fn gone() -> Self {
        Self::new(
            Code::Gone,
            "the events asked for are no longer kept; read the state with GET /v1/intents/{id}",
        )
    }

    pub fn overloaded() -> Self {
        Self::new(Code::Overloaded, "the realm has too much in hand; try again shortly")
    }

    pub fn stopping() -> Self {
        Self::new(Code::Stopping, "the realm is shutting down; try again or use another realm")
    }

    /// The cause goes to the log where it is handled, never to the client.
    pub fn internal() -> Self {
        Self::new(Code::Internal, "a fault of the realm, not of the request; it was logged")
    }

    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Where this realm serves the code's page.
    pub fn docs(&self) -> String {
        format!("/errors/{}", self.code.text())
    }

    /// MTOR's own error document.
    pub fn to_json(&self) -> String {
        to_text(&Document {
            error: Own {
                code: self.code,
                kind: self.code.name(),
                message: &self.message,
                retry_after_ms: self.retry_after_ms,
                field: self.field.as_deref(),
                docs: self.docs(),
            },
        })
    }

    /// OpenAI's error shape, with MTOR's code in `code`.
    pub fn to_openai_json(&self) -> String {
        let (message, param) = self.in_openais_words();
        to_text(&Document {
            error: OpenAi {
                message: &message,
                kind: openai_type(self.code),
                param,
                code: self.code,
            },
        })
    }

    /// A field of the body itself has its bare name there, not a pointer.
    fn in_openais_words(&self) -> (Cow<'_, str>, Option<&str>) {
        let bare = |field: &'_ str| {
            let name = field.strip_prefix('/')?;
            (!name.contains(['/', '~'])).then(|| name.to_owned())
        };
        let Some(field) = self.field.as_deref() else { return ((&*self.message).into(), None) };
        match bare(field) {
            Some(name) => {
                let message = self.message.replacen(&format!("`{field}`"), &format!("`{name}`"), 1);
                (message.into(), field.get(1..))
            }
            None => ((&*self.message).into(), Some(field)),
        }
    }

    /// The same refusal, to be answered in OpenAI's shape.
    pub fn openai(self) -> OpenAiError {
        OpenAiError(self)
    }

    fn respond(&self, body: String) -> Response {
        let mut response = (self.status(), body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(wait_ms) = self.retry_after_ms {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(wait_ms.div_ceil(1_000).max(1)));
        }
        if self.code == Code::Unauthenticated {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<Rejection> for ApiError {
    fn from(rejection: Rejection) -> Self {
        Self {
            code: rejection.code(),
            message: rejection.to_string(),
            retry_after_ms: rejection.retry_after_ms(),
            field: None,
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.respond(self.to_json())
    }
}

/// An [`ApiError`] that answers in OpenAI's shape.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct OpenAiError(pub ApiError);

impl From<ApiError> for OpenAiError {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

impl IntoResponse for OpenAiError {
    fn into_response(self) -> Response {
        self.0.respond(self.0.to_openai_json())
    }
}

#[derive(Serialize)]
struct Document<E> {
    error: E,
}

#[derive(Serialize)]
struct Own<'a> {
    code: Code,
    #[serde(rename = "type")]
    kind: &'static str,
    message: &'a str,
    retry_after_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    docs: String,
}

#[derive(Serialize)]
struct OpenAi<'a> {
    message: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    param: Option<&'a str>,
    code: Code,
}

/// OpenAI's families. Its SDKs choose the exception by status and show the type.
fn openai_type(code: Code) -> &'static str {
    match code.http_status() {
        401 => "authentication_error",
        403 => "permission_error",
        402 => "insufficient_quota",
        429 => "rate_limit_error",
        status if status >= 500 => "server_error",
        _ => "invalid_request_error",
    }
}

fn to_text<T: Serialize>(document: &T) -> String {
    // Strings, numbers and nulls only: writing them into a String cannot fail.
    serde_json::to_string(document).unwrap_or_default()
}

/// A name that a client sent, fit to stand in a message: short and without control characters.
fn printable(name: &str) -> String {
    const SHOWN_MAX: usize = 64;
    name.chars().take(SHOWN_MAX).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_shapes_carry_the_same_code() {
        let error = ApiError::new(Code::UnknownModel, "none").with_field("model");
        let own: serde_json::Value = serde_json::from_str(&error.to_json()).unwrap();
        assert_eq!(own["error"]["code"], "MT0007");
        assert_eq!(own["error"]["type"], "unknown_model");
        assert_eq!(own["error"]["docs"], "/errors/MT0007");
        assert_eq!(own["error"]["retry_after_ms"], serde_json::Value::Null);
        let openai: serde_json::Value = serde_json::from_str(&error.to_openai_json()).unwrap();
        assert_eq!(openai["error"]["code"], "MT0007");
        assert_eq!(openai["error"]["param"], "model");
        assert_eq!(openai["error"]["type"], "invalid_request_error");
        // Pointers are for what is nested.
        for (field, name) in [("/input", "input"), ("/messages/0", "/messages/0"), ("/", "")] {
            let error = ApiError::missing_field(field, "a text");
            let openai: serde_json::Value = serde_json::from_str(&error.to_openai_json()).unwrap();
            assert_eq!(openai["error"]["param"], name);
            let message = format!("field `{name}` is missing: expected a text");
            assert_eq!(openai["error"]["message"], message);
            assert!(error.to_json().contains(field));
        }
    }

    #[test]
    fn retry_after_is_in_seconds_rounded_up() {
        for (wait_ms, seconds) in [(1, "1"), (1_000, "1"), (1_001, "2"), (0, "1")] {
            let error = ApiError::from(Rejection::QueueFull { retry_after_ms: wait_ms });
            let response = error.into_response();
            assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
            assert_eq!(response.headers()[header::RETRY_AFTER], seconds, "{wait_ms}");
        }
        let response = ApiError::malformed_json(1, 2).openai().into_response();
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        assert!(response.headers().get(header::RETRY_AFTER).is_none());
    }

    #[test]
    fn every_code_has_a_status_and_both_shapes() {
        for code in Code::ALL {
            let error = ApiError::new(*code, "m");
            assert_eq!(error.status().as_u16(), code.http_status());
            assert!(serde_json::from_str::<serde_json::Value>(&error.to_json()).is_ok());
            assert!(serde_json::from_str::<serde_json::Value>(&error.to_openai_json()).is_ok());
        }
    }

    #[test]
    fn a_name_from_a_client_is_shown_short_and_without_control_characters() {
        let error = ApiError::unknown_field(&format!("a\n{}", "b".repeat(500)), "`c`");
        assert!(error.message.len() < 200 && !error.message.contains('\n'));
    }

    /// Every code has its page, named in the index, with what a reader needs.
    #[test]
    fn every_code_has_its_page() {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/errors");
        let index = std::fs::read_to_string(format!("{dir}/README.md")).expect("the index");
        for code in Code::ALL {
            let text = code.text();
            let page = std::fs::read_to_string(format!("{dir}/{text}.md")).expect(text);
            for part in [code.name(), "## When", "## Remedy", "## Retry", "## Example"] {
                assert!(page.contains(part), "{text}.md lacks {part}");
            }
            assert!(page.contains(&format!("HTTP {}", code.http_status())), "{text}: status");
            let retry = if code.may_retry() { "Yes" } else { "No" };
            assert!(page.contains(&format!("## Retry\n{retry}")), "{text}: retry");
            assert!(index.contains(&format!("[{text}]({text}.md)")), "the index lacks {text}");
        }
    }
}
