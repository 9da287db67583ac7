//! JSON bodies of the realm's own documents: bounded, strict, and refused by field.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use bytes::{Bytes, BytesMut};
use http::request::Parts;
use http_body_util::BodyExt;
use mtor_core::share::{Holder, Rank};
use mtor_types::Code;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::BODY_BYTES_MAX;

use crate::admission::json;
use crate::api_error::ApiError;
use crate::edge::Edge;
use crate::shares::{BODY_STEP_BYTES, Bound, Portion};

/// A small document of our own.
const SMALL_BYTES_MAX: usize = 64 * 1024;

/// For a request's body to arrive.
const BODY_PATIENCE: Duration = Duration::from_secs(60);

/// The bytes of work. Only for handlers that know whose it is: [`super::auth::Member`] stands
/// before it, so that a stranger makes nobody hold its bytes.
pub struct Body(pub Bytes);

impl FromRequest<Arc<Edge>> for Body {
    type Rejection = ApiError;

    async fn from_request(request: Request, edge: &Arc<Edge>) -> Result<Self, ApiError> {
        read_body(request, edge, BODY_BYTES_MAX).await.map(Self)
    }
}

/// The bytes of a small document of our own.
pub struct Small(pub Bytes);

impl FromRequest<Arc<Edge>> for Small {
    type Rejection = ApiError;

    async fn from_request(request: Request, edge: &Arc<Edge>) -> Result<Self, ApiError> {
        read_body(request, edge, SMALL_BYTES_MAX).await.map(Self)
    }
}

/// It is counted as it comes, whatever it says of its length, and only until it is here: what holds it
/// afterwards counts it by itself.
async fn read_body(request: Request, edge: &Edge, bytes_max: usize) -> Result<Bytes, ApiError> {
    // Every handler of a body asks first who sends it.
    let nobody = Holder { account: None, network: None, rank: Rank::Guest };
    let holder = request.extensions().get::<Holder>().copied().unwrap_or(nobody);
    let mut arriving = Arriving { bodies: &edge.shares.bodies, holder, portion: None, bytes: 0 };
    let read = arriving.read(request.into_body(), bytes_max);
    tokio::time::timeout(BODY_PATIENCE, read).await.map_err(|_| {
        ApiError::new(Code::RequestTimeout, "the body did not arrive within a minute")
    })?
}

/// A body on its way.
struct Arriving<'a> {
    bodies: &'a Bound,
    holder: Holder,
    /// None before its first byte.
    portion: Option<Portion>,
    bytes: usize,
}

impl Arriving<'_> {
    async fn read(
        &mut self,
        mut body: axum::body::Body,
        bytes_max: usize,
    ) -> Result<Bytes, ApiError> {
        let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX);
        let too_large = || ApiError::too_large("the body", limit);
        // What says itself that it is too large is not waited for.
        if hyper::body::Body::size_hint(&body).lower() > limit {
            return Err(too_large());
        }
        let (mut first, mut rest) = (Bytes::new(), BytesMut::new());
        while let Some(frame) = body.frame().await {
            // A connection that broke: nobody reads the answer.
            let frame = frame.map_err(|_| too_large())?;
            let Ok(data) = frame.into_data() else { continue };
            self.bytes = self.bytes.saturating_add(data.len());
            if self.bytes > bytes_max {
                return Err(too_large());
            }
            self.count()?;
            // Most come in one piece, which is not copied.
            if first.is_empty() && rest.is_empty() {
                first = data;
            } else {
                if rest.is_empty() {
                    rest.extend_from_slice(&std::mem::take(&mut first));
                }
                rest.extend_from_slice(&data);
            }
        }
        Ok(if rest.is_empty() { first } else { rest.freeze() })
    }

    /// As many steps as its bytes take.
    fn count(&mut self) -> Result<(), ApiError> {
        let bytes = u64::try_from(self.bytes).unwrap_or(u64::MAX);
        let wanted = bytes.next_multiple_of(BODY_STEP_BYTES);
        match &mut self.portion {
            None if wanted > 0 => {
                self.portion = Some(self.bodies.take(self.holder, wanted)?);
            }
            Some(portion) if wanted > portion.size() => {
                portion.grow(wanted.saturating_sub(portion.size()))?;
            }
            None | Some(_) => {}
        }
        Ok(())
    }
}

/// One segment of a path, refused as everything is refused here.
pub struct Segment(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Segment {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        path.map(|Path(segment)| Self(segment))
            .map_err(|_| ApiError::not_found("path of that name"))
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
    let text = json::text(body, u64::try_from(SMALL_BYTES_MAX).unwrap_or(u64::MAX))?;
    let text = if text.trim().is_empty() { "{}" } else { text };
    let mut reader = serde_json::Deserializer::from_str(text);
    let document = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        refusal(&path, error.inner())
    })?;
    reader.end().map_err(|error| refusal("", &error))?;
    Ok(document)
}

/// serde names the field; its message quotes no value for these types but the field's name.
fn refusal(path: &str, error: &serde_json::Error) -> ApiError {
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
            // What stands there is the client's; what should, is ours.
            let expected = message.split("expected ").nth(1).unwrap_or("another value");
            let expected = expected.split(" at line").next().unwrap_or(expected);
            ApiError::invalid_field(path, expected)
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
        let error = read(r#"{"name":1}"#).unwrap_err();
        assert_eq!((error.code.text(), error.field.as_deref()), ("MT0002", Some("name")));
        assert_eq!(error.message, "field `name`: expected a string");
        assert_eq!(read("{} {}").unwrap_err().code.text(), "MT0001");
        assert_eq!(read("{").unwrap_err().code.text(), "MT0001");
    }
}
