//! What the realm says of itself: health, metrics, pools, manifests, models, its document.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, Uri, header};
use mtor_core::authorize::{Action, Object};
use mtor_core::router::TrustClass;
use mtor_types::amount::Price;
use mtor_types::intent::Trust;
use mtor_types::manifest::Manifest;
use mtor_types::{AccountId, Code};
use serde::Serialize;

use super::Answer;
use super::auth::Caller;
use super::json::{Page, Segment};
use super::weights;
use crate::api_error::ApiError;
use crate::edge::{Edge, Listed, Offered};
use crate::manifests::{ManifestProblem, Manifests};
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
struct PoolRow<'a> {
    intent: &'a str,
    /// As it is asked for.
    model: Option<&'a str>,
    price: PriceRow,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<u32>,
    slots: u64,
    busy: u64,
    depth: u64,
    eta_ms: u64,
    /// The best there is among them: `proven` or `probation`; absent: the realm's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    standing: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    owners: Vec<OwnerRow>,
    /// What has to be said to be served; absent: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    trust: Option<Trust>,
}

impl<'a> PoolRow<'a> {
    fn new(listed: &'a Listed, manifests: &Manifests) -> Option<Self> {
        let Listed { intent, model, figures, trust, .. } = listed;
        let unit = manifests.get(intent)?.manifest.meter.unit.as_str();
        Some(Self {
            price: PriceRow::new(figures.price, unit),
            intent,
            model: model.as_deref(),
            context: figures.context,
            slots: figures.slots,
            busy: figures.busy,
            depth: figures.depth,
            eta_ms: figures.wait_ms,
            standing: unless_own(figures.class),
            owners: OwnerRow::of(listed),
            trust: said(*trust),
        })
    }
}

/// Whose workers offer something.
#[derive(Debug, Serialize)]
struct OwnerRow {
    account: AccountId,
    standing: &'static str,
}

impl OwnerRow {
    /// But for the realm itself.
    fn of(listed: &Listed) -> Vec<Self> {
        let row = |(account, class): &(AccountId, TrustClass)| Self {
            account: *account,
            standing: class.name(),
        };
        let others = listed.owners.iter().filter(|(_, class)| *class != TrustClass::Own);
        others.map(row).collect()
    }
}

/// What a client is told of a standing; nothing of the realm's own, which is what most rows are.
fn unless_own(class: TrustClass) -> Option<&'static str> {
    Some(class).filter(|class| *class != TrustClass::Own).map(TrustClass::name)
}

/// What has to be said of trust, where it is more than nothing.
fn said(trust: Trust) -> Option<Trust> {
    Some(trust).filter(|trust| *trust != Trust::default())
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
    let items = offered.listed().iter().filter_map(|row| PoolRow::new(row, &manifests));
    let items = items.collect();
    Ok(Answer::json(StatusCode::OK, &Page::<PoolRow>::whole(items)))
}

#[derive(Debug, Serialize)]
struct ManifestList<'a> {
    items: Vec<&'a Manifest>,
    next: Option<&'static str>,
    /// By name, of those that anybody serves now: who does.
    served: BTreeMap<&'a str, Served>,
    /// What is wrong in their folder, for the sysop and who sits at the realm's own machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    problems: Option<&'a [ManifestProblem]>,
}

/// Who serves an intent, whatever the model.
#[derive(Debug, Serialize)]
struct Served {
    standing: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    owners: Vec<OwnerRow>,
    /// What has to be said to be served where no model is named; absent: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    trust: Option<Trust>,
}

/// Of each intent the row of those who serve it best.
fn served(offered: &Offered) -> BTreeMap<&str, Served> {
    let mut best: BTreeMap<&str, &Listed> = BTreeMap::new();
    for row in offered.listed() {
        let best = best.entry(&row.intent).or_insert(row);
        if row.figures.class < best.figures.class {
            *best = row;
        }
    }
    let served = best.into_iter().map(|(name, row)| {
        let class = row.figures.class;
        // A model of a stranger's has a name that is enough.
        let any = class == TrustClass::Probation && row.model.is_none();
        let trust = any.then_some(Trust::Any);
        (name, Served { standing: class.name(), owners: OwnerRow::of(row), trust })
    });
    served.collect()
}

/// `GET /v1/manifests`
pub async fn manifests(State(edge): State<Arc<Edge>>, caller: Caller) -> Result<Answer, ApiError> {
    caller.may(Action::ReadManifests, &Object::Realm)?;
    let manifests = edge.manifests.load();
    let items = manifests.iter().map(|entry| &entry.manifest).collect();
    let offered = edge.pools().await?;
    let served = served(&offered);
    let problems = edge.manifest_problems.load();
    let problems =
        caller.is_at_home().then_some(problems.as_slice()).filter(|problems| !problems.is_empty());
    Ok(Answer::json(StatusCode::OK, &ManifestList { items, next: None, served, problems }))
}

#[derive(Debug, Serialize)]
struct ModelRow<'a> {
    id: String,
    object: &'static str,
    created: u64,
    /// The first digits of the realm's id, for its own; else the account of the workers' owner.
    owned_by: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    standing: Option<&'static str>,
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
    fn new(id: String, row: &Listed, edge: &Edge, told: &'a ModelsTold) -> Self {
        let owner = row.owners.first().filter(|(_, class)| *class != TrustClass::Own);
        let realm = || edge.identity.realm().to_string().chars().take(8).collect();
        let owned_by = owner.map_or_else(realm, |(owner, _)| owner.to_string());
        // The realm describes, and has files of, its own alone.
        let is_own = row.figures.class == TrustClass::Own;
        let about = told.about(&id).filter(|_| is_own);
        let files = if is_own { edge.weights.of(&id) } else { Vec::new() };
        let standing = unless_own(row.figures.class);
        Self { id, object: "model", created: 0, owned_by, standing, about, files }
    }
}

/// The models that are listed, the best row of each, by name.
fn listed(offered: &Offered) -> BTreeMap<&str, &Listed> {
    let mut models: BTreeMap<&str, &Listed> = BTreeMap::new();
    for row in offered.listed() {
        let Some(model) = row.model.as_deref() else { continue };
        let best = models.entry(model).or_insert(row);
        if row.figures.class < best.figures.class {
            *best = row;
        }
    }
    models
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
    let offered = edge.offered.load_full();
    let row = listed(&offered).get(id.as_str()).copied();
    if let Some(file) = weights::named(&id).filter(|_| row.is_none()) {
        let query = Query::<weights::Query>::try_from_uri(&uri);
        let Query(query) = query.map_err(|_| {
            ApiError::invalid_field("query", "nothing but `sha256`, the file's hash in hex")
        })?;
        return weights::send(&edge, file, &query, &headers, caller.network(&edge)).await;
    }
    let Some(row) = row else {
        return Err(ApiError::new(Code::UnknownModel, "no worker here offers that model"));
    };
    let told = edge.told.load();
    Ok(Answer::json(StatusCode::OK, &ModelRow::new(id, row, &edge, &told)).into_response())
}

/// `GET /v1/models`, as OpenAI's.
pub async fn models(State(edge): State<Arc<Edge>>, caller: Caller) -> Result<Answer, ApiError> {
    caller.may(Action::ReadPools, &Object::Realm)?;
    // What stands here may be asked for at once, and what has just left is not named any more.
    let (offered, told, manifests) = (edge.pools().await?, edge.told.load(), edge.manifests.load());
    let models = listed(&offered).into_iter();
    let data = models.map(|(id, row)| ModelRow::new(id.to_owned(), row, &edge, &told)).collect();
    let default = manifests.iter().filter(|entry| entry.wanted.model).filter_map(|entry| {
        let name = entry.manifest.name.as_str();
        Some((name, offered.usual_model(name, entry.manifest.price, &told)?))
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
