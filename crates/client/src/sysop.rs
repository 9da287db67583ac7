//! What the sysop sees and does; the client's key is the sysop's secret.

use http::Method;
use mtor_types::fact::AccountKind;
use mtor_types::standing::Proof;
use mtor_types::{AccountId, Amount, IntentId, Price, Time, WorkerId};
use serde::{Deserialize, Serialize};

use crate::accounts::{WorkerToken, paged};
use crate::client::{Client, Page};
use crate::error::ClientError;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Starts of the realm so far.
    pub epoch: u32,
    /// Batches of facts written so far.
    pub batch: u64,
    /// `good`, `full` or `failing`.
    pub store: String,
    pub accounts: u64,
    pub workers: u64,
    /// Workers connected now.
    pub sessions: u64,
    /// Open intents, and of these those that wait and those that run.
    pub open: u64,
    pub queued: u64,
    pub running: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerRow {
    pub worker: WorkerId,
    pub name: String,
    pub owner: AccountId,
    /// Of the realm's own account.
    pub own: bool,
    pub banned: bool,
    pub connected: bool,
    #[serde(default)]
    pub heard: Option<Time>,
    #[serde(default)]
    pub offers: Vec<OfferRow>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferRow {
    pub intent: String,
    #[serde(default)]
    pub model: Option<String>,
    pub slots: u32,
    pub price: Price,
    /// 0 to 3: up to 1, 2, 5 or 10 times the list price.
    #[serde(default)]
    pub band: u8,
    #[serde(default)]
    pub context: Option<u32>,
    /// `own`, `proven` or `probation`.
    pub standing: String,
    /// Of the slots, those that are used for others than the owner.
    pub earned: u32,
    /// Right answers in a row to the realm's own test intents.
    #[serde(default)]
    pub right_canaries: u32,
    #[serde(default)]
    pub proof: Option<ProofRow>,
    #[serde(default)]
    pub ejected: Option<EjectedRow>,
    /// Back from an ejection, with one slot until its next result.
    #[serde(default)]
    pub probing: bool,
}

/// By what a worker is proven in what it offers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProofRow {
    pub by: Proof,
    #[serde(default)]
    pub until: Option<Time>,
}

/// Until then it serves only what no other connected worker could.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EjectedRow {
    pub until: Time,
    pub why: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountRow {
    pub account: AccountId,
    pub kind: AccountKind,
    pub banned: bool,
    pub keys: u8,
    pub open_holds: u32,
    pub grant: Amount,
    #[serde(rename = "9000")]
    pub token: Amount,
    /// Its own in the queue, if the sysop gave it one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// Intents that it may have open at once, if the sysop set a bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intents_max: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntentRow {
    pub intent: IntentId,
    pub account: AccountId,
    pub name: String,
    #[serde(default)]
    pub model: Option<String>,
    pub durable: bool,
    pub ceiling: Amount,
    pub bytes: u64,
    /// The network under whose weight it stands, hashed; absent: the account's own.
    #[serde(default)]
    pub network: Option<String>,
}

#[derive(Serialize)]
struct Vouch<'a> {
    intent: &'a str,
    model: Option<&'a str>,
    vouched: bool,
}

#[derive(Serialize)]
struct Ban {
    banned: bool,
}

#[derive(Serialize)]
struct Limits {
    #[serde(skip_serializing_if = "Option::is_none")]
    weight: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    intents_max: Option<u32>,
}

#[derive(Serialize)]
struct Invite {
    count: u32,
}

/// Shown once.
#[derive(Clone, Deserialize)]
pub struct Invites {
    pub invites: Vec<String>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct UnusedInvites {
    pub unused: u64,
}

impl Client {
    pub async fn sysop_health(&self) -> Result<Health, ClientError> {
        self.get("/v1/sysop/health", "the realm's health").await
    }

    pub async fn sysop_workers(
        &self,
        limit: usize,
        after: Option<&str>,
    ) -> Result<Page<WorkerRow>, ClientError> {
        self.get(&paged("/v1/sysop/workers", limit, after), "a page of workers").await
    }

    pub async fn sysop_accounts(
        &self,
        limit: usize,
        after: Option<&str>,
    ) -> Result<Page<AccountRow>, ClientError> {
        self.get(&paged("/v1/sysop/accounts", limit, after), "a page of accounts").await
    }

    /// The open intents; never their payload.
    pub async fn sysop_intents(
        &self,
        limit: usize,
        after: Option<&str>,
    ) -> Result<Page<IntentRow>, ClientError> {
        self.get(&paged("/v1/sysop/intents", limit, after), "a page of intents").await
    }

    pub async fn sysop_cancel(&self, intent: IntentId) -> Result<(), ClientError> {
        self.command(Method::DELETE, &format!("/v1/sysop/intents/{intent}"), None::<&()>).await
    }

    /// Bans a worker, or lifts its ban.
    pub async fn sysop_ban_worker(
        &self,
        worker: WorkerId,
        banned: bool,
    ) -> Result<(), ClientError> {
        let path = format!("/v1/sysop/workers/{worker}");
        self.command(Method::PUT, &path, Some(&Ban { banned })).await
    }

    /// Says for 90 days that a worker does an intent, with a model, well; or says so no longer.
    pub async fn sysop_vouch(
        &self,
        worker: WorkerId,
        intent: &str,
        model: Option<&str>,
        vouched: bool,
    ) -> Result<(), ClientError> {
        let path = format!("/v1/sysop/workers/{worker}/proof");
        self.command(Method::PUT, &path, Some(&Vouch { intent, model, vouched })).await
    }

    /// The workers of the client's own account.
    pub async fn own_workers(
        &self,
        limit: usize,
        after: Option<&str>,
    ) -> Result<Page<WorkerRow>, ClientError> {
        self.get(&paged("/v1/account/workers", limit, after), "a page of workers").await
    }

    pub async fn sysop_remove_worker(&self, worker: WorkerId) -> Result<(), ClientError> {
        self.command(Method::DELETE, &format!("/v1/sysop/workers/{worker}"), None::<&()>).await
    }

    /// Bans an account, or lifts its ban.
    pub async fn sysop_ban_account(
        &self,
        account: AccountId,
        banned: bool,
    ) -> Result<(), ClientError> {
        let path = format!("/v1/sysop/accounts/{account}");
        self.command(Method::PUT, &path, Some(&Ban { banned })).await
    }

    /// Sets an account's weight in the queue and how many intents it may have open; 0 takes either back,
    /// what is not named stays.
    pub async fn sysop_limit_account(
        &self,
        account: AccountId,
        weight: Option<u16>,
        intents_max: Option<u32>,
    ) -> Result<(), ClientError> {
        let path = format!("/v1/sysop/accounts/{account}");
        self.command(Method::PUT, &path, Some(&Limits { weight, intents_max })).await
    }

    /// Codes that open an account with a grant from any network, once each.
    pub async fn sysop_invite(&self, count: u32) -> Result<Invites, ClientError> {
        let invite = Invite { count };
        self.call(Method::POST, "/v1/sysop/invites", Some(&invite), "invitations").await
    }

    pub async fn sysop_invites(&self) -> Result<UnusedInvites, ClientError> {
        self.get("/v1/sysop/invites", "the number of invitations").await
    }

    /// Takes back all invitations that were not used.
    pub async fn sysop_withdraw_invites(&self) -> Result<(), ClientError> {
        self.command(Method::DELETE, "/v1/sysop/invites", None::<&()>).await
    }

    /// A token for a worker of the realm's own account.
    pub async fn sysop_worker_token(&self) -> Result<WorkerToken, ClientError> {
        self.call(Method::POST, "/v1/sysop/workers/tokens", None::<&()>, "a worker token").await
    }
}
