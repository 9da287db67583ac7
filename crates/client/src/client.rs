//! Requests and answers.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::address;
use crate::error::ClientError;
use crate::limits;

/// A realm, and who asks. A clone shares the connections.
#[derive(Clone, Debug)]
pub struct Client {
    http: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    /// `scheme://authority`.
    address: String,
    /// `Bearer …`, marked as sensitive.
    authorization: Option<HeaderValue>,
}

/// One page of a list: its items, and where the next page begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page<T> {
    pub items: Vec<T>,
    pub next: Option<String>,
}

/// What goes with a request besides its body.
pub(crate) type Headers<'a> = &'a [(HeaderName, &'a str)];

impl Client {
    /// A client without a key for `http://host:port` or `https://host`. Nothing is sent yet.
    pub fn new(address: &str) -> Result<Self, ClientError> {
        let address = address::base(address)?;
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.enforce_http(false);
        connector.set_connect_timeout(Some(Duration::from_millis(limits::CONNECT_MS)));
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_webpki_roots(rustls::crypto::ring::default_provider())
            .map_err(ClientError::Tls)?
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        let http = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_millis(limits::IDLE_MS))
            .build(connector);
        Ok(Self { http, address, authorization: None })
    }

    /// The same realm, asked with an API key or with the sysop's secret.
    pub fn with_key(&self, key: &str) -> Result<Self, ClientError> {
        let value = HeaderValue::from_str(&format!("Bearer {key}"));
        let mut value = value.ok().filter(|_| !key.is_empty()).ok_or(ClientError::Key)?;
        value.set_sensitive(true);
        Ok(Self { authorization: Some(value), ..self.clone() })
    }

    /// `scheme://authority` of the realm.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Asks and reads a JSON answer.
    pub(crate) async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&(impl Serialize + Sync)>,
        expected: &'static str,
    ) -> Result<T, ClientError> {
        let body = body.map(|body| self.body(body)).transpose()?;
        let bytes = self.exchange(method, path, body, &[]).await?;
        self.read(&bytes, expected)
    }

    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        expected: &'static str,
    ) -> Result<T, ClientError> {
        self.call(Method::GET, path, None::<&()>, expected).await
    }

    /// Asks; that it was done is the answer.
    pub(crate) async fn command(
        &self,
        method: Method,
        path: &str,
        body: Option<&(impl Serialize + Sync)>,
    ) -> Result<(), ClientError> {
        let body = body.map(|body| self.body(body)).transpose()?;
        self.exchange(method, path, body, &[]).await.map(drop)
    }

    /// Asks and collects the answer's bytes, all within its time.
    pub(crate) async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
        headers: Headers<'_>,
    ) -> Result<Bytes, ClientError> {
        let exchange = async {
            let response = self.open(method, path, body, headers).await?;
            self.collect(response.into_body(), limits::BODY_BYTES_MAX).await
        };
        self.in_time(exchange).await
    }

    /// Asks and hands back the answer's head and body, refusals aside.
    pub(crate) async fn open(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
        headers: Headers<'_>,
    ) -> Result<Response<Incoming>, ClientError> {
        let response = self.send(self.request(method, path, body, headers)?).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(self.refusal(response).await)
    }

    /// Any answer, whatever its status.
    pub(crate) async fn probe(&self, path: &str) -> Result<(StatusCode, Bytes), ClientError> {
        let probe = async {
            let response = self.send(self.request(Method::GET, path, None, &[])?).await?;
            let status = response.status();
            Ok((status, self.collect(response.into_body(), limits::BODY_BYTES_MAX).await?))
        };
        self.in_time(probe).await
    }

    pub(crate) async fn in_time<T>(
        &self,
        work: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        let wait_ms = limits::ANSWER_MS;
        let silent = || ClientError::Silent { address: self.address.clone(), wait_ms };
        let done = timeout(Duration::from_millis(wait_ms), Box::pin(work)).await;
        done.map_err(|_| silent())?
    }

    pub(crate) fn body(&self, document: &impl Serialize) -> Result<Bytes, ClientError> {
        let text = serde_json::to_vec(document);
        text.map(Bytes::from).map_err(|error| self.unreadable("a document", Some(error)))
    }

    pub(crate) fn read<T: DeserializeOwned>(
        &self,
        bytes: &[u8],
        expected: &'static str,
    ) -> Result<T, ClientError> {
        serde_json::from_slice(bytes).map_err(|error| self.unreadable(expected, Some(error)))
    }

    pub(crate) fn unreadable(
        &self,
        expected: &'static str,
        error: Option<serde_json::Error>,
    ) -> ClientError {
        let source = error.map(Into::into);
        ClientError::Unreadable { address: self.address.clone(), expected, source }
    }

    pub(crate) fn broken(
        &self,
        error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> ClientError {
        ClientError::Broken { address: self.address.clone(), source: error.into() }
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
        headers: Headers<'_>,
    ) -> Result<Request<Full<Bytes>>, ClientError> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.address));
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        let request = request.body(Full::new(body.unwrap_or_default()));
        request.map_err(|error| ClientError::Unreadable {
            address: self.address.clone(),
            expected: "what can stand in a request",
            source: Some(error.into()),
        })
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, ClientError> {
        self.http.request(request).await.map_err(|error| {
            if error.is_connect() {
                let address = self.address.clone();
                return ClientError::Unreachable { address, source: error.into() };
            }
            self.broken(error)
        })
    }

    pub(crate) async fn collect(
        &self,
        body: Incoming,
        bytes_max: usize,
    ) -> Result<Bytes, ClientError> {
        match Limited::new(body, bytes_max).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => {
                Err(ClientError::TooLarge { address: self.address.clone(), bytes_max })
            }
            Err(error) => Err(self.broken(error)),
        }
    }

    async fn refusal(&self, response: Response<Incoming>) -> ClientError {
        let status = response.status();
        let seconds = response.headers().get(header::RETRY_AFTER);
        let seconds: Option<u64> = seconds.and_then(|value| value.to_str().ok()?.parse().ok());
        let body = self.collect(response.into_body(), limits::REFUSAL_BYTES_MAX).await;
        let told = body.ok().and_then(|body| serde_json::from_slice::<Document>(&body).ok());
        match told {
            Some(Document { error }) => ClientError::Refused {
                code: error.code,
                message: error.message,
                retry_after_ms: error.retry_after_ms,
                status: status.as_u16(),
            },
            None => ClientError::Refused {
                code: format!("HTTP {}", status.as_u16()),
                message: status.canonical_reason().unwrap_or("refused").to_lowercase(),
                retry_after_ms: seconds.map(|seconds| seconds.saturating_mul(1_000)),
                status: status.as_u16(),
            },
        }
    }
}

/// The realm's error document.
#[derive(Deserialize)]
struct Document {
    error: Told,
}

#[derive(Deserialize)]
struct Told {
    code: String,
    message: String,
    #[serde(default)]
    retry_after_ms: Option<u64>,
}
