//! The one HTTP client: keep-alive, no delay, https with the public roots.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::TokioExecutor;

use crate::error::WorkerError;
use crate::limits;

/// A clone shares the connections.
#[derive(Clone)]
pub(crate) struct HttpClient {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

/// Why a body was not read.
pub(crate) enum BodyError {
    TooLarge,
    Lost,
}

impl HttpClient {
    pub(crate) fn new() -> Result<Self, WorkerError> {
        let mut http = HttpConnector::new();
        http.set_nodelay(true);
        http.enforce_http(false);
        http.set_connect_timeout(Some(Duration::from_millis(limits::CONNECT_MS)));
        let provider = rustls::crypto::ring::default_provider();
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_webpki_roots(provider)
            .map_err(WorkerError::Tls)?
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        Ok(Self { client: Client::builder(TokioExecutor::new()).build(connector) })
    }

    pub(crate) async fn send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, Error> {
        self.client.request(request).await
    }
}

/// Reads a body of at most `max` bytes.
pub(crate) async fn read_body(body: Incoming, max: usize) -> Result<Bytes, BodyError> {
    match Limited::new(body, max).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(BodyError::TooLarge),
        Err(_) => Err(BodyError::Lost),
    }
}

/// What a server answers to a small request of our own, or why it does not, for its owner.
pub(crate) async fn answer_to(
    client: &HttpClient,
    request: Request<Full<Bytes>>,
    bytes_max: usize,
) -> Result<(StatusCode, Bytes), String> {
    let answer = client.send(request).await.map_err(|_| "it broke off".to_owned())?;
    let status = answer.status();
    let body = read_body(answer.into_body(), bytes_max).await;
    Ok((status, body.map_err(|_| "its answer broke off, or is too large".to_owned())?))
}

pub(crate) fn status_of(status: StatusCode) -> Result<(), String> {
    if status.is_success() {
        Ok(())
    } else {
        Err(format!("it answers a small request with status {}", status.as_u16()))
    }
}

/// `scheme://authority` of a base address, which must have neither query nor user.
pub(crate) fn base_address(text: &str) -> Option<(http::Uri, String)> {
    let text = text.trim_end_matches('/');
    let uri: http::Uri = text.parse().ok()?;
    let authority = uri.authority()?;
    let scheme = uri.scheme_str()?;
    let plain = !authority.as_str().contains('@') && uri.query().is_none();
    (plain && matches!(scheme, "http" | "https")).then(|| (uri.clone(), text.to_owned()))
}
