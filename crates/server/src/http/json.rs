//! JSON bodies of the realm's own documents: bounded, strict, and refused by field.

use std::time::Duration;

use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use bytes::Bytes;
use http::request::Parts;
use mtor_types::Code;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::BODY_BYTES_MAX;

use crate::admission::json;
use crate::api_error::ApiError;

/// A small document of our own.
pub const SMALL_BYTES_MAX: u64 = 64 * 1024;

/// For a request's body to arrive.
const BODY_PATIENCE: Duration = Duration::from_secs(60);

/// A request's bytes, refused as everything is refused here.
pub struct Body(pub Bytes);

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let read = tokio::time::timeout(BODY_PATIENCE, Bytes::from_request(request, state));
        let read = read.await.map_err(|_| {
            ApiError::new(Code::RequestTimeout, "the body did not arrive within a minute")
        })?;
        let limit = u64::try_from(BODY_BYTES_MAX).unwrap_or(u64::MAX);
        // Anything else is a connection that broke: nobody reads the answer.
        read.map(Self).map_err(|_| ApiError::too_large("the body", limit))
    }
}

/// A request's query, refused by field.
pub struct Params<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let query = Query::<T>::try_from_uri(&parts.uri);
        query.map(|Query(params)| Self(params)).map_err(|_| {
            let expected = "only the parameters of this path, each of its own type";
            ApiError::invalid_field("query", expected)
        })
    }
}

/// Reads a document whose type refuses unknown fields. Nothing at all reads as `{}`.
pub fn read<D: DeserializeOwned>(body: &Bytes) -> Result<D, ApiError> {
    let text = json::text(body, SMALL_BYTES_MAX)?;
    let text = if text.trim().is_empty() { "{}" } else { text };
    serde_json::from_str(text).map_err(|error| refusal(&error))
}

/// serde names the field; its message quotes no value for these types but the field's name.
fn refusal(error: &serde_json::Error) -> ApiError {
    let message = error.to_string();
    let named = |prefix: &str| {
        let rest = message.strip_prefix(prefix)?;
        rest.split('`').next().map(str::to_owned)
    };
    if let Some(field) = named("unknown field `") {
        let known = message.split("expected ").nth(1).unwrap_or("none");
        let known = known.split(" at line").next().unwrap_or(known);
        return ApiError::unknown_field(&field, known);
    }
    if let Some(field) = named("missing field `") {
        return ApiError::missing_field(&field, "a value");
    }
    match error.classify() {
        serde_json::error::Category::Data => {
            let place = format!("line {} column {}", error.line(), error.column());
            ApiError::invalid_field(&place, "another type of value; see the API's description")
        }
        serde_json::error::Category::Io
        | serde_json::error::Category::Syntax
        | serde_json::error::Category::Eof => {
            ApiError::malformed_json(error.line(), error.column())
        }
    }
}

/// A list as every list of the API is: its items, and where the next page begins.
#[derive(Debug, Serialize)]
pub struct Page<T> {
    pub items: Vec<T>,
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// Everything in one page.
    pub fn whole(items: Vec<T>) -> Self {
        Self { items, next: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Document {
        #[serde(default)]
        name: String,
    }

    #[test]
    fn what_is_wrong_is_named() {
        let read = |text: &str| read::<Document>(&Bytes::copy_from_slice(text.as_bytes()));
        assert_eq!(read("").unwrap().name, "");
        let error = read(r#"{"nam":1}"#).unwrap_err();
        assert_eq!((error.code.text(), error.field.as_deref()), ("MT0003", Some("nam")));
        assert!(error.message.contains("name"), "{error}");
        assert_eq!(read(r#"{"name":1}"#).unwrap_err().code.text(), "MT0002");
        assert_eq!(read("{").unwrap_err().code.text(), "MT0001");
    }
}
