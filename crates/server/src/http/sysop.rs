//! What the sysop sees and does. Every path here needs the sysop's secret.

use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;
use mtor_core::authorize::{Action, Object};
use mtor_core::{Command, Node};
use mtor_types::fact::Asset;
use mtor_types::intent::{Branch, Why};
use mtor_types::standing::KindName;
use mtor_types::{AccountId, Amount, IntentId, WorkerId};
use serde::{Deserialize, Serialize};

use super::accounts::PageQuery;
use super::auth::Caller;
use super::json::{self, Page, Params, Segment, Small};
use super::{Answer, finish};
use crate::api_error::ApiError;
use crate::edge::Edge;
use crate::identity;

#[derive(Debug, Serialize)]
struct AccountRow {
    account: AccountId,
    kind: mtor_types::fact::AccountKind,
    banned: bool,
    keys: u8,
    open_holds: u32,
    grant: Amount,
    #[serde(rename = "9000")]
    token: Amount,
    #[serde(skip_serializing_if = "Option::is_none")]
    weight: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    intents_max: Option<u32>,
}

/// `GET /v1/sysop/accounts`
pub async fn accounts(
    State(edge): State<Arc<Edge>>,
    caller: Caller,
    Params(page): Params<PageQuery>,
) -> Result<Answer, ApiError> {
    caller.may(Action::ReadRealm, &Object::Realm)?;
    let (limit, after) = (page.limit()?, page.after::<AccountId>()?);
    let rows = move |node: &Node| -> Vec<AccountRow> {
        let limits = |account| node.accountant().limits_of(account);
        let row = |view: mtor_core::accountant::AccountView| AccountRow {
            weight: limits(view.account).weight,
            intents_max: limits(view.account).intents,
            account: view.account,
            kind: view.kind,
            banned: view.banned,
            keys: view.keys,
            open_holds: view.open_holds,
            grant: view.balances.get(Asset::Grant).available,
            token: view.balances.get(Asset::Token).available,
        };
        node.accountant().accounts(after, limit).map(row).collect()
    };
    let items = edge.node().ask(rows).await?;
    let next = items.last().filter(|_| items.len() == limit).map(|row| row.account.to_string());
    Ok(Answer::json(StatusCode::OK, &Page { items, next }))
}

#[derive(Debug, Serialize)]
struct IntentRow {
    intent: IntentId,
    account: AccountId,
    name: String,
    model: Option<String>,
    durable: bool,
    ceiling: Amount,
    bytes: u64,
    /// The network under whose weight it stands, hashed; absent: its account has a weight of its
    /// own.
    #[serde(skip_serializing_if = "Option::is_none")]
    network: Option<String>,
}

/// `GET /v1/sysop/intents`: the open ones. Never their payload.
pub async fn intents(
    State(edge): State<Arc<Edge>>,
    caller: Caller,
    Params(page): Params<PageQuery>,
) -> Result<Answer, ApiError> {
    caller.may(Action::ReadRealm, &Object::Realm)?;
    let (limit, after) = (page.limit()?, page.after::<IntentId>()?);
    let rows = move |node: &Node| -> Vec<IntentRow> {
        let open = node.events().list(after).take(limit);
        let row = |meta: &Arc<mtor_types::intent::IntentMeta>| IntentRow {
            intent: meta.id,
            account: meta.account,
            name: meta.name.clone(),
            model: meta.model.clone(),
            durable: meta.durable,
            ceiling: meta.ceiling,
            bytes: meta.bytes,
            network: match meta.branch {
                Branch::Account => None,
                Branch::Network(key) => Some(key.to_string()),
            },
        };
        open.map(row).collect()
    };
    let mut items = edge.node().ask(rows).await?;
    for row in &mut items {
        row.model = edge.names.shown(row.model.as_deref());
    }
    let next = items.last().filter(|_| items.len() == limit).map(|row| row.intent.to_string());
    Ok(Answer::json(StatusCode::OK, &Page { items, next }))
}

/// `DELETE /v1/sysop/intents/{id}`
pub async fn cancel(
    State(edge): State<Arc<Edge>>,
    caller: Caller,
    Segment(intent): Segment,
) -> Result<Answer, ApiError> {
    caller.may(Action::ReadRealm, &Object::Realm)?;
    let unknown = || ApiError::not_found("open intent of that id");
    let intent: IntentId = intent.parse().map_err(|_| unknown())?;
    let payer = move |node: &Node| node.events().meta(intent).map(|meta| meta.account);
    let account = edge.node().ask(payer).await?.ok_or_else(unknown)?;
    caller.may(Action::CancelIntent, &Object::Intent { account })?;
    edge.node().call(Command::Stop { intent, why: Why::Cancelled }).await?;
    Ok(Answer::empty())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ban {
    banned: bool,
}

/// What the sysop says of an account. What is not named stays as it is.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    #[serde(default)]
    banned: Option<bool>,
    /// 1 to 1000; 0 takes it back.
    #[serde(default)]
    weight: Option<u16>,
    /// Open intents at once; 0 takes the limit back.
    #[serde(default)]
    intents_max: Option<u32>,
}

const WEIGHT_MAX: u16 = 1_000;

fn worker_of(segment: &str) -> Result<WorkerId, ApiError> {
    segment.parse().map_err(|_| ApiError::not_found("worker of that id"))
}

/// `PUT /v1/sysop/workers/{id}` with `{"banned":true}`
pub async fn ban_worker(
    State(edge): State<Arc<Edge>>,
    caller: Caller,
    Segment(worker): Segment,
    Small(body): Small,
) -> Result<Answer, ApiError> {
    let worker = worker_of(&worker)?;
    caller.may(Action::BanWorker, &Object::Worker(worker))?;
    let Ban { banned } = json::read(&body)?;
    edge.node().call(Command::BanWorker { worker, banned }).await?;
    Ok(Answer::empty())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Vouch {
    intent: String,
    #[serde(default)]
    model: Option<String>,
    vouched: bool,
}

/// `PUT /v1/sysop/workers/{id}/proof` with `{"intent":"chat","model":"m","vouched":true}`
pub async fn vouch(
    State(edge): State<Arc<Edge>>,
    caller: Caller,
    Segment(worker): Segment,
    Small(body): Small,
) -> Result<Answer, ApiError> {
    let worker = worker_of(&worker)?;
    caller.may(Action::Vouch, &Object::Worker(worker))?;
    let Vouch { intent, model, vouched } = json::read(&body)?;
    if vouched && edge.manifests.load().get(&intent).is_none() {
        return Err(ApiError::invalid_field("intent", "the name of a manifest of this realm"));
    }
    let kind = KindName { intent, model };
    if vouched {
        check_offered(&edge, worker, kind.clone()).await?;
    }
    edge.node().call(Command::Vouch { worker, kind, vouched }).await?;
    Ok(Answer::empty())
}

/// A word for what a connected worker does not offer would change nothing, and nobody would notice.
async fn check_offered(edge: &Edge, worker: WorkerId, kind: KindName) -> Result<(), ApiError> {
    let models = move |node: &Node| {
        let slots = node.registry().worker(worker)?.slots?;
        let of_intent = slots.offers.iter().filter(|offer| offer.intent == kind.intent);
        let models: Vec<Option<String>> = of_intent.map(|offer| offer.model.clone()).collect();
        (!models.contains(&kind.model)).then_some(models)
    };
    let Some(models) = edge.node().ask(models).await? else { return Ok(()) };
    let named: Vec<&str> = models.iter().flatten().map(String::as_str).collect();
    let expected = match (models.is_empty(), named.is_empty()) {
        (true, _) => return Err(ApiError::invalid_field("intent", "one that the worker offers")),
        (false, true) => "none: the worker offers this intent without a model".to_owned(),
        (false, false) => format!("one that the worker offers: {}", named.join(", ")),
    };
    Err(ApiError::invalid_field("model", &expected))
}

/// `DELETE /v1/sysop/workers/{id}`
pub async fn remove_worker(
    State(edge): State<Arc<Edge>>,
    caller: Caller,
    Segment(worker): Segment,
) -> Result<Answer, ApiError> {
    let worker = worker_of(&worker)?;
    caller.may(Action::RemoveWorker, &Object::Worker(worker))?;
    edge.node().call(Command::RemoveWorker { worker }).await?;
    Ok(Answer::empty())
}

/// `PUT /v1/sysop/accounts/{id}` with `{"banned":true}`, `{"weight":5}` or `{"intents_max":100}`
pub async fn account(
    State(edge): State<Arc<Edge>>,
    caller: Caller,
    Segment(account): Segment,
    Small(body): Small,
) -> Result<Answer, ApiError> {
    let account: AccountId =
        account.parse().map_err(|_| ApiError::not_found("account of that id"))?;
    let Said { banned, weight, intents_max } = json::read(&body)?;
    if weight.is_some() || intents_max.is_some() {
        caller.may(Action::LimitAccount, &Object::Account(account))?;
        if weight.is_some_and(|weight| weight > WEIGHT_MAX) {
            return Err(ApiError::invalid_field("weight", "0 (none of its own) to 1000"));
        }
        let limits = move |node: &Node| node.accountant().limits_of(account);
        let mut limits = edge.node().ask(limits).await?;
        if let Some(weight) = weight {
            limits.weight = Some(weight).filter(|weight| *weight > 0);
        }
        if let Some(intents) = intents_max {
            limits.intents = Some(intents).filter(|intents| *intents > 0);
        }
        let edge = Arc::clone(&edge);
        let limited = finish(async move {
            edge.node().call(Command::LimitAccount { account, limits }).await?;
            edge.said.limit(account, limits);
            Ok(())
        });
        limited.await?;
    }
    if let Some(banned) = banned {
        caller.may(Action::BanAccount, &Object::Account(account))?;
        finish(async move { edge.ban(account, banned).await }).await?;
    }
    Ok(Answer::empty())
}

/// Codes of one request.
const INVITES_AT_ONCE_MAX: usize = 1_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Invite {
    count: usize,
}

#[derive(Debug, Serialize)]
struct Invites {
    /// Shown once.
    invites: Vec<String>,
}

/// `POST /v1/sysop/invites` with `{"count":5}`: codes that open an account with a grant from any network,
/// once each.
pub async fn invite(
    State(edge): State<Arc<Edge>>,
    caller: Caller,
    Small(body): Small,
) -> Result<Answer, ApiError> {
    caller.may(Action::Invite, &Object::Realm)?;
    let Invite { count } = json::read(&body)?;
    if !(1..=INVITES_AT_ONCE_MAX).contains(&count) {
        return Err(ApiError::invalid_field("count", "1 to 1000"));
    }
    let code = |_| identity::new_secret().map_err(|_| ApiError::internal());
    let invites: Vec<String> = (0..count).map(code).collect::<Result<_, _>>()?;
    let hashed = invites.iter().map(|invite| identity::hash_secret(invite)).collect();
    edge.node().call(Command::IssueInvites { invites: hashed }).await?;
    Ok(Answer::json(StatusCode::CREATED, &Invites { invites }))
}

#[derive(Debug, Serialize)]
struct Unused {
    unused: usize,
}

/// `GET /v1/sysop/invites`: how many were not used.
pub async fn invites(State(edge): State<Arc<Edge>>, caller: Caller) -> Result<Answer, ApiError> {
    caller.may(Action::Invite, &Object::Realm)?;
    let unused = edge.node().ask(|node| node.accountant().invites_count()).await?;
    Ok(Answer::json(StatusCode::OK, &Unused { unused }))
}

/// `DELETE /v1/sysop/invites`: takes back all that were not used.
pub async fn withdraw_invites(
    State(edge): State<Arc<Edge>>,
    caller: Caller,
) -> Result<Answer, ApiError> {
    caller.may(Action::Invite, &Object::Realm)?;
    edge.node().call(Command::WithdrawInvites).await?;
    Ok(Answer::empty())
}

#[derive(Debug, Serialize)]
struct WorkerToken {
    token: String,
}

/// `POST /v1/sysop/workers/tokens`: for a worker of the realm's own account.
pub async fn worker_token(
    State(edge): State<Arc<Edge>>,
    caller: Caller,
) -> Result<Answer, ApiError> {
    caller.may(Action::ReadRealm, &Object::Realm)?;
    let owner = edge.identity.account();
    caller.may(Action::IssueToken, &Object::Account(owner))?;
    let token = edge.new_worker_token(owner)?;
    Ok(Answer::json(StatusCode::CREATED, &WorkerToken { token }))
}

#[derive(Debug, Serialize)]
struct Health {
    epoch: u32,
    batch: u64,
    store: &'static str,
    accounts: usize,
    workers: usize,
    sessions: usize,
    open: usize,
    queued: usize,
    running: usize,
}

/// `GET /v1/sysop/health`
pub async fn health(State(edge): State<Arc<Edge>>, caller: Caller) -> Result<Answer, ApiError> {
    caller.may(Action::ReadRealm, &Object::Realm)?;
    let store = edge.node().store_state().name();
    let health = move |node: &Node| Health {
        epoch: node.epoch(),
        batch: node.batch(),
        store,
        accounts: node.accountant().accounts_count(),
        workers: node.registry().workers_count(),
        sessions: node.registry().sessions_count(),
        open: node.events().open_count(),
        queued: node.router().queued(),
        running: node.router().leased(),
    };
    Ok(Answer::json(StatusCode::OK, &edge.node().ask(health).await?))
}
