//! `GET /v1/models/{id}/files/{name}`: a file of a model, for the visitor's own device.
//!
//! Kept for ever where the address names its hash, which changes with its content; asked for again
//! where it does not. Ranges are not served: a part of a model is of no use.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use mtor_types::Code;
use mtor_types::fact::NetworkKey;
use serde::Deserialize;

use super::page::{ASK_AGAIN, FOR_EVER, known};
use crate::api_error::ApiError;
use crate::edge::Edge;
use crate::weights::{NotSent, Weight};

/// Between a model's id and a file's name.
const FILES: &str = "/files/";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Query {
    sha256: Option<String>,
}

/// The model and the file that a path behind `/v1/models/` names, if it names one. An id may hold
/// slashes itself, so a model of that whole name is looked for first.
pub fn named(path: &str) -> Option<(&str, &str)> {
    path.rsplit_once(FILES).filter(|(model, name)| !model.is_empty() && !name.is_empty())
}

pub async fn send(
    edge: &Edge,
    (model, name): (&str, &str),
    query: &Query,
    headers: &HeaderMap,
    network: NetworkKey,
) -> Result<Response, ApiError> {
    let Some(weight) = edge.weights.find(model, name) else {
        let message = "no file of that name is served to pages here: GET /v1/models lists those \
                       that are, as `files` of their model";
        return Err(ApiError::new(Code::NotFound, message));
    };
    let is_named = query.sha256.is_some();
    if query.sha256.as_ref().is_some_and(|wanted| !wanted.eq_ignore_ascii_case(&weight.sha256)) {
        let message = "that file has another hash here: GET /v1/models says which";
        return Err(ApiError::new(Code::NotFound, message).with_field("sha256"));
    }
    let tag = HeaderValue::try_from(format!("\"{}\"", weight.sha256));
    let tag = tag.map_err(|_| ApiError::internal())?;
    let mut response = if known(headers, &tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        whole(edge, &weight, network).await?
    };
    let about = response.headers_mut();
    let kept = if is_named { FOR_EVER } else { ASK_AGAIN };
    about.insert(header::CACHE_CONTROL, HeaderValue::from_static(kept));
    about.insert(header::ETAG, tag);
    Ok(response)
}

async fn whole(edge: &Edge, weight: &Weight, network: NetworkKey) -> Result<Response, ApiError> {
    let sent = edge.weights.open(weight, network).await.map_err(|why| match why {
        NotSent::Busy => {
            ApiError::new(Code::Overloaded, "so many files are being sent; try again shortly")
        }
        NotSent::NetworkBusy => {
            let message = "so many files are being sent to your network; try again when one of \
                           them is whole";
            ApiError::new(Code::Overloaded, message)
        }
        NotSent::Gone => {
            let message = "that file has gone from the realm's disk; its owner can fetch it again \
                           with `mtor models pull`";
            ApiError::new(Code::NotFound, message)
        }
    })?;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
        (header::CONTENT_LENGTH, HeaderValue::from(weight.bytes)),
        (header::ACCEPT_RANGES, HeaderValue::from_static("none")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    Ok((headers, Body::from_stream(sent)).into_response())
}

#[cfg(test)]
mod tests {
    use super::named;

    #[test]
    fn a_path_names_a_model_and_one_of_its_files() {
        assert_eq!(named("m/files/a.bin"), Some(("m", "a.bin")));
        assert_eq!(named("a/b/files/c"), Some(("a/b", "c")));
        assert_eq!(named("a/files/b/files/c"), Some(("a/files/b", "c")));
        for path in ["m", "m/files/", "/files/a", "m/files", "files/a", ""] {
            assert_eq!(named(path), None, "{path}");
        }
    }
}
