//! Accounts: guests, balances, keys, transfers, receipts, and tokens for workers of one's own.

use http::Method;
use mtor_types::fact::{Asset, TransferKind};
use mtor_types::{AccountId, Amount, Code, IntentId, KeyHash, Time, TransferId};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::address::with_query;
use crate::client::{Client, Page};
use crate::error::ClientError;

/// A new guest account. The secrets are shown this once.
#[derive(Clone, Serialize, Deserialize)]
pub struct Guest {
    pub account: AccountId,
    pub api_key: String,
    /// Only if the realm made the key pair.
    #[serde(default)]
    pub secret_key: Option<String>,
    pub balance: Amount,
    /// Why nothing was given: the account is filled up when there is something.
    #[serde(default)]
    pub no_grant: Option<NoGrant>,
}

/// Why a guest was given nothing today.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoGrant {
    pub code: Code,
    pub message: String,
    /// Until it is worth to ask again.
    #[serde(default)]
    pub retry_after_ms: Option<u64>,
}

/// What proves whose an account is: a nonce of the realm, and its signature by the account's own key in
/// lower-case hex, over [`mtor_types::account::account_proof`].
#[derive(Clone, Debug, Serialize)]
pub struct OwnerProof {
    pub nonce: String,
    pub signature: String,
}

impl std::fmt::Debug for Guest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { account, balance, .. } = self;
        f.debug_struct("Guest")
            .field("account", account)
            .field("balance", balance)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    pub account: AccountId,
    pub assets: Vec<Balance>,
    /// Why it was not filled up today though it holds less than a guest is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_grant: Option<NoGrant>,
    /// The sysop's word on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intents_max: Option<u32>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub banned: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balance {
    pub asset: Asset,
    pub decimals: u8,
    /// What may be spent.
    pub balance: Amount,
    /// What open intents have reserved.
    pub held: Amount,
}

impl Account {
    pub fn of(&self, asset: Asset) -> Option<&Balance> {
        self.assets.iter().find(|balance| balance.asset == asset)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    pub key: KeyHash,
}

/// Shown once: the realm keeps its hash only.
#[derive(Clone, Serialize, Deserialize)]
pub struct NewKey {
    pub key: KeyHash,
    pub api_key: String,
}

/// One movement of the account's money.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    pub id: TransferId,
    pub sequence: u64,
    pub kind: TransferKind,
    /// `in` or `out` of what may be spent, `held` within the account.
    pub direction: String,
    pub asset: Asset,
    pub amount: Amount,
    #[serde(default)]
    pub intent: Option<IntentId>,
    /// Milliseconds since 1970.
    pub time: Time,
}

/// Shown once; good for one worker.
#[derive(Clone, Serialize, Deserialize)]
pub struct WorkerToken {
    pub token: String,
    #[serde(default)]
    pub expires_in_ms: Option<u64>,
}

#[derive(Serialize)]
struct GuestRequest<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    public_key: Option<AccountId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nonce: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signature: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    invite: Option<&'a str>,
}

#[derive(Deserialize)]
struct Nonce {
    nonce: String,
}

#[derive(Serialize)]
struct KeyRequest {
    account: AccountId,
    nonce: String,
    signature: String,
}

impl Client {
    /// Opens a guest account under a public key whose owner has signed for it; without one the realm
    /// makes a key pair. An invitation of the sysop's brings a grant from any network.
    pub async fn open_guest(
        &self,
        owner: Option<(AccountId, OwnerProof)>,
        invite: Option<&str>,
    ) -> Result<Guest, ClientError> {
        let (public_key, proof) = owner.unzip();
        let (nonce, signature) = proof.map(|proof| (proof.nonce, proof.signature)).unzip();
        let request = GuestRequest { public_key, nonce, signature, invite };
        self.call(Method::POST, "/v1/accounts/guest", Some(&request), "a guest account").await
    }

    /// Something to sign with an account's own key, once and within five minutes.
    pub async fn nonce(&self) -> Result<String, ClientError> {
        let Nonce { nonce } = self.get("/v1/accounts/nonce", "a nonce").await?;
        Ok(nonce)
    }

    /// Another API key for whoever holds the account's own key, though every other is lost.
    pub async fn recover_key(
        &self,
        account: AccountId,
        proof: OwnerProof,
    ) -> Result<NewKey, ClientError> {
        let OwnerProof { nonce, signature } = proof;
        let request = KeyRequest { account, nonce, signature };
        self.call(Method::POST, "/v1/account/keys", Some(&request), "a new key").await
    }

    pub async fn account(&self) -> Result<Account, ClientError> {
        self.get("/v1/account", "an account").await
    }

    pub async fn keys(&self) -> Result<Vec<Key>, ClientError> {
        let page: Page<Key> = self.get("/v1/account/keys", "a list of keys").await?;
        Ok(page.items)
    }

    pub async fn add_key(&self) -> Result<NewKey, ClientError> {
        self.call(Method::POST, "/v1/account/keys", None::<&()>, "a new key").await
    }

    pub async fn revoke_key(&self, key: KeyHash) -> Result<(), ClientError> {
        self.command(Method::DELETE, &format!("/v1/account/keys/{key}"), None::<&()>).await
    }

    /// A page of at most `limit` transfers, the oldest first, behind `after` (a page's `next`).
    pub async fn transfers(
        &self,
        limit: usize,
        after: Option<&str>,
    ) -> Result<Page<Transfer>, ClientError> {
        self.get(&paged("/v1/account/transfers", limit, after), "a page of transfers").await
    }

    /// The signed receipt of one settled intent, as it stands.
    pub async fn receipt(&self, intent: IntentId) -> Result<Box<RawValue>, ClientError> {
        let path = format!("/v1/account/receipts?intent={intent}");
        let page: Page<Box<RawValue>> = self.get(&path, "a receipt").await?;
        page.items.into_iter().next().ok_or_else(|| self.unreadable("a receipt", None))
    }

    /// A token for a worker that earns for this account.
    pub async fn worker_token(&self) -> Result<WorkerToken, ClientError> {
        self.call(Method::POST, "/v1/workers/tokens", None::<&()>, "a worker token").await
    }
}

pub(crate) fn paged(path: &str, limit: usize, after: Option<&str>) -> String {
    with_query(path, &[("limit", Some(limit.to_string())), ("after", after.map(str::to_owned))])
}
