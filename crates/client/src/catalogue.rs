//! What a realm says of itself, to anybody.

use std::collections::BTreeMap;

use http::StatusCode;
use mtor_types::intent::Trust;
use mtor_types::manifest::Manifest;
use mtor_types::{AccountId, Amount};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::client::{Client, Page};
use crate::error::ClientError;

/// An amount per a number of units of a meter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitPrice {
    pub amount: Amount,
    pub per: u64,
    pub unit: String,
}

/// What a realm thinks of a worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Of the realm's own account. A realm that says nothing lists none but those it trusts.
    #[default]
    Own,
    Proven,
    /// Anybody's: nothing of it was checked.
    #[serde(other)]
    Probation,
}

/// Whose workers offer something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    pub account: AccountId,
    #[serde(default)]
    pub standing: Standing,
}

/// Who serves an intent now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    #[serde(default)]
    pub standing: Standing,
    #[serde(default)]
    pub owners: Vec<Owner>,
    /// What has to be said to be served; `None`: nothing.
    #[serde(default)]
    pub trust: Option<Trust>,
}

/// What can be asked now, at which price and wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolRow {
    pub intent: String,
    #[serde(default)]
    pub model: Option<String>,
    pub price: UnitPrice,
    /// The model's context in tokens.
    #[serde(default)]
    pub context: Option<u32>,
    #[serde(default)]
    pub slots: u64,
    #[serde(default)]
    pub busy: u64,
    /// Intents that wait.
    #[serde(default)]
    pub depth: u64,
    #[serde(default)]
    pub eta_ms: u64,
    /// The best there is among those who offer it.
    #[serde(default)]
    pub standing: Standing,
    #[serde(default)]
    pub owners: Vec<Owner>,
    /// What has to be said to be served; `None`: nothing.
    #[serde(default)]
    pub trust: Option<Trust>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    pub id: String,
    /// The first digits of the realm's id, for its own; else an account.
    #[serde(default)]
    pub owned_by: String,
    #[serde(default)]
    pub standing: Standing,
}

/// OpenAI's list.
#[derive(Deserialize)]
struct ModelList {
    data: Vec<Model>,
    /// What a request without a model gets, by intent.
    #[serde(default)]
    default: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct ManifestList {
    items: Vec<Manifest>,
    #[serde(default)]
    served: BTreeMap<String, Served>,
}

impl Client {
    /// Whether the realm is ready for work; if not, what it still waits for.
    pub async fn ready(&self) -> Result<Result<(), String>, ClientError> {
        let (status, body) = self.probe("/readyz").await?;
        Ok(match status {
            StatusCode::OK => Ok(()),
            _ => Err(String::from_utf8_lossy(&body).trim().to_owned()),
        })
    }

    pub async fn pools(&self) -> Result<Vec<PoolRow>, ClientError> {
        let page: Page<PoolRow> = self.get("/v1/pools", "a list of pools").await?;
        Ok(page.items)
    }

    pub async fn models(&self) -> Result<Vec<Model>, ClientError> {
        let list: ModelList = self.get("/v1/models", "a list of models").await?;
        Ok(list.data)
    }

    /// What the realm takes where a request names no model, by intent. An older realm tells none.
    pub async fn default_models(&self) -> Result<BTreeMap<String, String>, ClientError> {
        let list: ModelList = self.get("/v1/models", "a list of models").await?;
        Ok(list.default)
    }

    pub async fn manifests(&self) -> Result<Vec<Manifest>, ClientError> {
        Ok(self.manifests_served().await?.0)
    }

    /// And who serves them now, by name. An older realm tells nobody.
    pub async fn manifests_served(
        &self,
    ) -> Result<(Vec<Manifest>, BTreeMap<String, Served>), ClientError> {
        let list: ManifestList = self.get("/v1/manifests", "a list of manifests").await?;
        Ok((list.items, list.served))
    }

    /// The signed realm document, as it stands.
    pub async fn document(&self) -> Result<Box<RawValue>, ClientError> {
        self.get("/.well-known/mtor.json", "a realm document").await
    }

    /// The metrics in Prometheus' text form.
    pub async fn metrics(&self) -> Result<String, ClientError> {
        let bytes = self.exchange(http::Method::GET, "/metrics", None, &[]).await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}
