//! What the realm says of itself: health, metrics, pools, manifests, models, its document.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, Uri, header};
use mtor_core::authorize::{Action, Object};
use mtor_types::Code;
use mtor_types::amount::Price;
use mtor_types::manifest::Manifest;
use serde::Serialize;

use super::Answer;
use super::auth::Caller;
use super::json::{Page, Segment};
use super::weights;
use crate::api_error::ApiError;
use crate::edge::Edge;
use crate::manifests::ManifestProblem;
use crate::shell::StoreState;
use crate::told::{Arriving, ModelAbout, ModelsTold};
use crate::weights::Weight;

/// `GET /healthz`: the process answers.
pub async fn healthz() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: the log is recovered, the store takes facts, and the embedded worker, if there
/// is to be one, has made its first full offer.
pub async fn readyz(State(edge): State<Arc<Edge>>) -> Response {
    let missing = match edge.node().store_state() {
        StoreState::Good if edge.is_ready() => return "ready\n".into_response(),
        StoreState::Good => "the embedded worker has not made its first offer yet\n",
        StoreState::Full => "the disk is full\n",
        StoreState::Failing => "the store cannot be written\n",
    };
    (StatusCode::SERVICE_UNAVAILABLE, missing).into_response()
}

/// `GET /metrics`
pub async fn metrics(State(edge): State<Arc<Edge>>, caller: Caller) -> Result<Response, ApiError> {
    caller.may(Action::ReadMetrics, &Object::Realm)?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], edge.metrics_text().await?).into_response())
}

/// `GET /.well-known/mtor.json`: the signed realm document.
pub async fn document(State(edge): State<Arc<Edge>>) -> Result<Response, ApiError> {
    let document = edge.document()?;
    Ok(([(header::CONTENT_TYPE, "application/json")], document).into_response())
}

#[derive(Debug, Serialize)]
struct PoolRow {
    intent: String,
    model: Option<String>,
    price: PriceRow,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<u32>,
    slots: u64,
    busy: u64,
    depth: u64,
    eta_ms: u64,
}

#[derive(Debug, Serialize)]
pub struct PriceRow {
    pub amount: mtor_types::Amount,
    pub per: u64,
    pub unit: String,
}

impl PriceRow {
    pub fn new(price: Price, unit: &str) -> Self {
        Self { amount: price.amount, per: price.per, unit: unit.to_owned() }
    }
}

/// `GET /v1/pools`: what can be asked here now, at which price and wait.
pub async fn pools(State(edge): State<Arc<Edge>>, caller: Caller) -> Result<Answer, ApiError> {
    caller.may(Action::ReadPools, &Object::Realm)?;
    let offered = edge.pools().await?;
    let manifests = edge.manifests.load();
    let row = |pool: &mtor_core::router::PoolView| {
        let unit = manifests.get(&pool.intent)?.manifest.meter.unit.as_str();
        let figures = pool.figures(|_| true)?;
        Some(PoolRow {
            price: PriceRow::new(figures.price, unit),
            intent: pool.intent.clone(),
            model: pool.model.clone(),
            context: figures.context,
            slots: figures.slots,
            busy: figures.busy,
            depth: figures.depth,
            eta_ms: figures.wait_ms,
        })
    };
    let items = offered.pools().iter().filter_map(row).collect();
    Ok(Answer::json(StatusCode::OK, &Page::<PoolRow>::whole(items)))
}

#[derive(Debug, Serialize)]
struct ManifestList<'a> {
    items: Vec<&'a Manifest>,
    next: Option<&'static str>,
    /// What is wrong in their folder, for the sysop and who sits at the realm's own machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    problems: Option<&'a [ManifestProblem]>,
}

/// `GET /v1/manifests`
pub async fn manifests(State(edge): State<Arc<Edge>>, caller: Caller) -> Result<Answer, ApiError> {
    caller.may(Action::ReadManifests, &Object::Realm)?;
    let manifests = edge.manifests.load();
    let items = manifests.iter().map(|entry| &entry.manifest).collect();
    let problems = edge.manifest_problems.load();
    let problems =
        caller.is_at_home().then_some(problems.as_slice()).filter(|problems| !problems.is_empty());
    Ok(Answer::json(StatusCode::OK, &ManifestList { items, next: None, problems }))
}

#[derive(Debug, Serialize)]
struct ModelRow<'a> {
    id: String,
    object: &'static str,
    created: u64,
    owned_by: String,
    /// What the realm was told of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    about: Option<&'a ModelAbout>,
    /// What a page may fetch of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    files: Vec<Weight>,
}

/// OpenAI's list, and beside it what its clients pass over.
#[derive(Debug, Serialize)]
struct ModelList<'a> {
    object: &'static str,
    data: Vec<ModelRow<'a>>,
    /// By intent, what `auto` is now.
    default: BTreeMap<&'a str, String>,
    /// By intent, what `auto` is to be: it may still be on its way.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    preferred: &'a BTreeMap<String, String>,
    arriving: Vec<Cow<'a, Arriving>>,
}

impl<'a> ModelRow<'a> {
    fn new(id: String, edge: &Edge, told: &'a ModelsTold) -> Self {
        let owned_by = edge.identity.realm().to_string();
        let about = told.about(&id);
        let files = edge.weights.of(&id);
        Self { id, object: "model", created: 0, owned_by, about, files }
    }
}

/// `GET /v1/models/{id}`, as OpenAI's, and its files. An id may hold slashes.
pub async fn model(
    State(edge): State<Arc<Edge>>,
    caller: Caller,
    Segment(id): Segment,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, ApiError> {
    caller.may(Action::ReadPools, &Object::Realm)?;
    let is_offered = edge.offered.load().models().any(|model| model == id);
    if let Some(file) = weights::named(&id).filter(|_| !is_offered) {
        let query = Query::<weights::Query>::try_from_uri(&uri);
        let Query(query) = query.map_err(|_| {
            ApiError::invalid_field("query", "nothing but `sha256`, the file's hash in hex")
        })?;
        return weights::send(&edge, file, &query, &headers, caller.network(&edge)).await;
    }
    if !is_offered {
        return Err(ApiError::new(Code::UnknownModel, "no worker here offers that model"));
    }
    let told = edge.told.load();
    Ok(Answer::json(StatusCode::OK, &ModelRow::new(id, &edge, &told)).into_response())
}

/// `GET /v1/models`, as OpenAI's.
pub async fn models(State(edge): State<Arc<Edge>>, caller: Caller) -> Result<Answer, ApiError> {
    caller.may(Action::ReadPools, &Object::Realm)?;
    // What stands here may be asked for at once, and what has just left is not named any more.
    let (offered, told, manifests) = (edge.pools().await?, edge.told.load(), edge.manifests.load());
    let data = offered.models().map(|id| ModelRow::new(id, &edge, &told)).collect();
    let default = manifests.iter().filter(|entry| entry.wanted.model).filter_map(|entry| {
        let name = entry.manifest.name.as_str();
        Some((name, offered.default_model(name, entry.manifest.price, &told)?))
    });
    let default = default.collect();
    // A problem may name the owner's folders and addresses.
    let arriving = told.arriving(&offered);
    let arriving = if caller.is_at_home() {
        arriving.map(Cow::Borrowed).collect()
    } else {
        arriving.map(|one| Cow::Owned(one.for_strangers())).collect()
    };
    let list = ModelList { object: "list", data, default, preferred: &told.defaults, arriving };
    Ok(Answer::json(StatusCode::OK, &list))
}
