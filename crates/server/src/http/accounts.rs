//! Guest accounts, balances, keys, transfers and receipts.

use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;
use mtor_core::Command;
use mtor_core::authorize::{Action, Actor, Object};
use mtor_core::command::OpenAccount;
use mtor_types::fact::{AccountKind, AccountLimits, Asset};
use mtor_types::{AccountId, Amount, Code, IntentId, KeyHash, Rejection};
use serde::{Deserialize, Serialize};

use super::auth::Caller;
use super::json::{self, Page, Params, Segment, Small};
use super::{Answer, finish};
use crate::api_error::ApiError;
use crate::edge::Edge;
use crate::identity;
use crate::shell::CallError;

/// Items of one page.
const PAGE_DEFAULT: usize = 100;
const PAGE_MAX: usize = 1_000;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct GuestRequest {
    /// An Ed25519 public key in base58; without one the realm makes a key pair.
    #[serde(default)]
    public_key: Option<AccountId>,
    /// With a public key: of `GET /v1/accounts/nonce`, and what its owner signed with it.
    #[serde(default)]
    nonce: Option<String>,
    #[serde(default)]
    signature: Option<String>,
    /// A code of the sysop's.
    #[serde(default)]
    invite: Option<String>,
}

/// Why nothing was given today.
#[derive(Debug, Serialize)]
struct NoGrant {
    code: Code,
    message: String,
    /// Until it is worth to ask again.
    retry_after_ms: Option<u64>,
}

impl From<ApiError> for NoGrant {
    fn from(error: ApiError) -> Self {
        let ApiError { code, message, retry_after_ms, .. } = error;
        Self { code, message: message.to_string(), retry_after_ms }
    }
}

#[derive(Debug, Serialize)]
struct Guest {
    account: AccountId,
    /// Shown once: only its hash is kept.
    api_key: String,
    /// Only if the realm made the key pair; never kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_key: Option<String>,
    /// Of the grant, in base units.
    balance: Amount,
    /// Why there is none: the account is filled up when there is.
    #[serde(skip_serializing_if = "Option::is_none")]
    no_grant: Option<NoGrant>,
}

#[derive(Debug, Serialize)]
struct Nonce {
    nonce: String,
    expires_in_ms: u64,
}

/// `GET /v1/accounts/nonce`: to be signed with the account's own key, once.
pub async fn nonce(State(edge): State<Arc<Edge>>, caller: Caller) -> Result<Answer, ApiError> {
    caller.may(Action::OpenGuest, &Object::Realm)?;
    let nonce = edge.identity.nonce(edge.now()).map_err(|_| ApiError::internal())?;
    Ok(Answer::json(StatusCode::OK, &Nonce { nonce, expires_in_ms: identity::NONCE_LIFE_MS }))
}

/// Somebody else's id must not be taken: money that is sent to it would be the taker's.
fn prove(
    edge: &Edge,
    account: AccountId,
    nonce: Option<String>,
    signature: Option<String>,
) -> Result<(), ApiError> {
    let missing =
        |field| ApiError::missing_field(field, "proof that the key is yours: see the API");
    let nonce = nonce.ok_or_else(|| missing("nonce"))?;
    let signature = signature.ok_or_else(|| missing("signature"))?;
    edge.prove_owner(account, &nonce, &signature)
}

/// `POST /v1/accounts/guest`
pub async fn guest(
    State(edge): State<Arc<Edge>>,
    caller: Caller,
    Small(body): Small,
) -> Result<Answer, ApiError> {
    caller.may(Action::OpenGuest, &Object::Realm)?;
    let request: GuestRequest = json::read(&body)?;
    let GuestRequest { public_key, nonce, signature, invite } = request;
    let (account, secret_key) = match public_key {
        Some(account) if identity::is_public_key(&account.0) => {
            prove(&edge, account, nonce, signature)?;
            (account, None)
        }
        Some(_) => {
            let expected = "an Ed25519 public key in base58";
            return Err(ApiError::invalid_field("public_key", expected));
        }
        None => {
            let (account, secret) = identity::new_key_pair().map_err(|_| ApiError::internal())?;
            (account, Some(secret))
        }
    };
    let api_key = identity::new_secret().map_err(|_| ApiError::internal())?;
    let key = identity::hash_secret(&api_key);
    let open = OpenAccount {
        account,
        kind: AccountKind::Guest,
        key,
        name_secret: random()?,
        networks: caller.levels(&edge),
        invite: invite.as_deref().map(|invite| identity::hash_secret(invite.trim())),
        salt: random()?,
    };
    let opened = finish(async move {
        let networks = open.networks.clone();
        edge.node().call(Command::OpenAccount(open)).await?;
        edge.keys.add(key, account);
        let no_grant = edge.no_grant(account, networks).await?;
        Ok((edge.balance(account, Asset::Grant).await?, no_grant.map(NoGrant::from)))
    });
    let (balance, no_grant) = opened.await?;
    let guest = Guest { account, api_key, secret_key, balance, no_grant };
    Ok(Answer::json(StatusCode::CREATED, &guest))
}

fn random<const N: usize>() -> Result<[u8; N], ApiError> {
    identity::random().map_err(|_| ApiError::internal())
}

#[derive(Debug, Serialize)]
struct AccountView {
    account: AccountId,
    assets: Vec<AssetView>,
    /// Why the account was not filled up today though it holds less than a guest is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    no_grant: Option<NoGrant>,
    /// The sysop's word on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    weight: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    intents_max: Option<u32>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    banned: bool,
}

#[derive(Debug, Serialize)]
struct AssetView {
    asset: Asset,
    decimals: u8,
    /// What may be spent.
    balance: Amount,
    /// What open intents have reserved.
    held: Amount,
}

/// `GET /v1/account`. Once a day a guest's account is filled up by it.
pub async fn account(State(edge): State<Arc<Edge>>, caller: Caller) -> Result<Answer, ApiError> {
    let account = caller.books()?;
    caller.may(Action::ReadAccount, &Object::Account(account))?;
    let banned = edge.said.is_banned(account);
    let no_grant = match banned {
        true => None,
        false => edge.no_grant(account, caller.levels(&edge)).await?.map(NoGrant::from),
    };
    let AccountLimits { weight, intents: intents_max } = edge.said.limits(account);
    let assets = edge
        .node()
        .ask(move |node| {
            let accountant = node.accountant();
            let balances = accountant.balance(account)?;
            let view = |asset: Asset| {
                let balance = balances.get(asset);
                let decimals = accountant.decimals(asset).unwrap_or_default();
                let (balance, held) = (balance.available, balance.held);
                AssetView { asset, decimals, balance, held }
            };
            Some(Asset::ALL.map(view).into_iter().collect::<Vec<_>>())
        })
        .await?;
    let assets = assets.ok_or_else(|| ApiError::not_found("such account"))?;
    let view = AccountView { account, assets, no_grant, weight, intents_max, banned };
    Ok(Answer::json(StatusCode::OK, &view))
}

#[derive(Debug, Serialize)]
struct NewKey {
    key: KeyHash,
    api_key: String,
}

#[derive(Debug, Serialize)]
struct KeyRow {
    key: KeyHash,
}

/// `GET /v1/account/keys`: their hashes.
pub async fn keys(State(edge): State<Arc<Edge>>, caller: Caller) -> Result<Answer, ApiError> {
    let account = caller.account()?;
    caller.may(Action::ManageKeys, &Object::Account(account))?;
    let keys = tokio::task::spawn_blocking(move || edge.keys.of(account));
    let keys = keys.await.map_err(|_| ApiError::internal())?;
    let items = keys.into_iter().map(|key| KeyRow { key }).collect();
    Ok(Answer::json(StatusCode::OK, &Page::whole(items)))
}

/// Of who has lost every API key and still holds the account's own.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OwnerProof {
    account: AccountId,
    nonce: Option<String>,
    signature: Option<String>,
}

/// `POST /v1/account/keys`: by a key that the account has, or by its own Ed25519 key.
pub async fn add_key(
    State(edge): State<Arc<Edge>>,
    caller: Caller,
    Small(body): Small,
) -> Result<Answer, ApiError> {
    let caller = match caller.actor {
        Actor::Nobody if !body.is_empty() => {
            let OwnerProof { account, nonce, signature } = json::read(&body)?;
            prove(&edge, account, nonce, signature)?;
            caller.with_account(&edge, account)
        }
        Actor::Nobody | Actor::Account(_) | Actor::Banned(_) | Actor::Worker(_) | Actor::Sysop => {
            caller
        }
    };
    let account = caller.account()?;
    caller.may(Action::ManageKeys, &Object::Account(account))?;
    let api_key = identity::new_secret().map_err(|_| ApiError::internal())?;
    let key = identity::hash_secret(&api_key);
    let added = finish(async move {
        edge.node().call(Command::AddKey { account, key }).await?;
        edge.keys.add(key, account);
        Ok(())
    });
    added.await?;
    Ok(Answer::json(StatusCode::CREATED, &NewKey { key, api_key }))
}

/// `DELETE /v1/account/keys/{key}`
pub async fn revoke_key(
    State(edge): State<Arc<Edge>>,
    caller: Caller,
    Segment(key): Segment,
) -> Result<Answer, ApiError> {
    let account = caller.account()?;
    caller.may(Action::ManageKeys, &Object::Account(account))?;
    let key: KeyHash = key.parse().map_err(|_| ApiError::not_found("key of that hash"))?;
    let revoked = finish(async move {
        let revoked = edge.node().call(Command::RevokeKey { account, key }).await;
        // Unknown means that the node has it no more: another revocation is on its way to the disk,
        // and after this answer, too, the key is not to work.
        let gone = matches!(revoked, Err(CallError::Rejected(Rejection::UnknownAccount)));
        let own = edge.keys.account_of(key) == Some(account);
        if revoked.is_ok() || (own && gone) {
            edge.keys.remove(key);
        }
        Ok(revoked?)
    });
    revoked.await?;
    Ok(Answer::empty())
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PageQuery {
    #[serde(default)]
    pub limit: Option<usize>,
    #[serde(default)]
    pub after: Option<String>,
}

impl PageQuery {
    pub fn limit(&self) -> Result<usize, ApiError> {
        match self.limit.unwrap_or(PAGE_DEFAULT) {
            limit @ 1..=PAGE_MAX => Ok(limit),
            _ => Err(ApiError::invalid_field("limit", "a whole number from 1 to 1000")),
        }
    }

    pub fn after<T: std::str::FromStr>(&self) -> Result<Option<T>, ApiError> {
        let parse = |text: &String| {
            text.parse().map_err(|_| ApiError::invalid_field("after", "`next` of a page before"))
        };
        self.after.as_ref().map(parse).transpose()
    }
}

/// A movement of the caller's money.
#[derive(Debug, Serialize)]
struct TransferView {
    id: mtor_types::TransferId,
    sequence: u64,
    kind: mtor_types::fact::TransferKind,
    /// `in`, `out`, or within the account: `held` and `released`.
    direction: &'static str,
    asset: Asset,
    amount: Amount,
    intent: Option<IntentId>,
    /// Milliseconds since 1970.
    time: mtor_types::Time,
}

fn direction(direction: mtor_store::read::Direction) -> &'static str {
    match direction {
        mtor_store::read::Direction::In => "in",
        mtor_store::read::Direction::Out => "out",
        mtor_store::read::Direction::Held => "held",
        mtor_store::read::Direction::Released => "released",
    }
}

/// `GET /v1/account/transfers?limit=&after=`
pub async fn transfers(
    State(edge): State<Arc<Edge>>,
    caller: Caller,
    Params(page): Params<PageQuery>,
) -> Result<Answer, ApiError> {
    let account = caller.books()?;
    caller.may(Action::ReadTransfers, &Object::Account(account))?;
    let (limit, after) = (page.limit()?, page.after::<u64>()?.unwrap_or_default());
    let rows = edge.read(move |reader| reader.transfers(account, after, limit)).await?;
    let next = rows.last().filter(|_| rows.len() == limit).map(|row| row.sequence.to_string());
    let view = |row: mtor_store::read::TransferRow| TransferView {
        id: row.id,
        sequence: row.sequence,
        kind: row.kind,
        direction: direction(row.direction),
        asset: row.asset,
        amount: row.amount,
        intent: row.intent,
        time: row.at,
    };
    let items = rows.into_iter().map(view).collect();
    Ok(Answer::json(StatusCode::OK, &Page { items, next }))
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiptQuery {
    intent: Option<String>,
}

/// `GET /v1/account/receipts?intent=`: the signed receipt of one settled intent.
pub async fn receipts(
    State(edge): State<Arc<Edge>>,
    caller: Caller,
    Params(query): Params<ReceiptQuery>,
) -> Result<Answer, ApiError> {
    let account = caller.books()?;
    caller.may(Action::ReadReceipts, &Object::Account(account))?;
    let intent: IntentId = query
        .intent
        .as_deref()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| ApiError::missing_field("intent", "the id of one of your intents"))?;
    match edge.receipt_of(intent, account).await? {
        Some(receipt) => Ok(Answer::json(StatusCode::OK, &Page::whole(vec![receipt]))),
        None => Err(ApiError::new(Code::NotFound, "no settled intent of this account has that id")),
    }
}
