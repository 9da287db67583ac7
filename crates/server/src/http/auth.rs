//! Who is asking.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::HeaderMap;
use http::request::Parts;
use mtor_core::authorize::{Action, Actor, Object, authorize};
use mtor_types::{AccountId, Code, KeyHash};

use crate::api_error::ApiError;
use crate::edge::Edge;
use crate::identity::hash_secret;

/// The actor behind a request. A key that is sent must be good, also where none is needed: a
/// client that believes itself known should hear that it is not.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    pub actor: Actor,
    /// What was sent, hashed.
    key: Option<KeyHash>,
}

impl Caller {
    pub fn from_headers(edge: &Edge, headers: &HeaderMap) -> Result<Self, ApiError> {
        let Some(value) = headers.get(http::header::AUTHORIZATION) else {
            return Ok(Self { actor: Actor::Nobody, key: None });
        };
        // The scheme's name is case-insensitive (RFC 9110).
        let secret = value.to_str().ok().and_then(|text| {
            text.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        });
        let (_, secret) = secret.ok_or_else(ApiError::unauthenticated)?;
        Self::from_secret(edge, secret.trim())
    }

    /// By an API key or the sysop's secret.
    pub fn from_secret(edge: &Edge, secret: &str) -> Result<Self, ApiError> {
        Self::from_key(edge, hash_secret(secret))
    }

    /// Who it is now: a key may be revoked while a connection that it opened lives on.
    pub fn again(self, edge: &Edge) -> Result<Self, ApiError> {
        self.key.map_or(Ok(self), |key| Self::from_key(edge, key))
    }

    fn from_key(edge: &Edge, key: KeyHash) -> Result<Self, ApiError> {
        let actor = if edge.is_sysop(key) {
            Actor::Sysop
        } else {
            let account = edge.keys.account_of(key).ok_or_else(ApiError::unauthenticated)?;
            Actor::Account(account)
        };
        Ok(Self { actor, key: Some(key) })
    }

    /// The one check: may this actor do that to this?
    pub fn may(&self, action: Action, object: &Object) -> Result<(), ApiError> {
        authorize(&self.actor, action, object)
            .map_err(|denied| ApiError::new(denied.code(), denied.to_string()))
    }

    /// The caller's account, for what only an account can do.
    pub fn account(&self) -> Result<AccountId, ApiError> {
        match self.actor {
            Actor::Account(account) => Ok(account),
            Actor::Sysop => Err(ApiError::new(
                Code::Forbidden,
                "the sysop has no account of its own: use an account's key",
            )),
            Actor::Nobody | Actor::Worker(_) => Err(ApiError::unauthenticated()),
        }
    }
}

/// A caller with an account.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    pub caller: Caller,
    pub account: AccountId,
}

impl Member {
    pub fn from_headers(edge: &Edge, headers: &HeaderMap) -> Result<Self, ApiError> {
        let caller = Caller::from_headers(edge, headers)?;
        Ok(Self { caller, account: caller.account()? })
    }
}

impl FromRequestParts<Arc<Edge>> for Member {
    type Rejection = ApiError;

    async fn from_request_parts(
        parts: &mut Parts,
        edge: &Arc<Edge>,
    ) -> Result<Self, Self::Rejection> {
        Self::from_headers(edge, &parts.headers)
    }
}

impl FromRequestParts<Arc<Edge>> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(
        parts: &mut Parts,
        edge: &Arc<Edge>,
    ) -> Result<Self, Self::Rejection> {
        Self::from_headers(edge, &parts.headers)
    }
}
