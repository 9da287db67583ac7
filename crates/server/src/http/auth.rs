//! Who is asking.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::request::Parts;
use http::{Extensions, HeaderMap};
use mtor_core::authorize::{Action, Actor, Denied, Object, authorize};
use mtor_core::share::{Holder, Rank};
use mtor_types::fact::NetworkKey;
use mtor_types::{AccountId, Code, KeyHash};

use super::Connection;
use crate::api_error::ApiError;
use crate::edge::{Asker, Edge};
use crate::identity::hash_secret;
use crate::origin::{Origin, is_forwarded};

/// The actor behind a request. A key that is sent must be good, also where none is needed: a
/// client that believes itself known should hear that it is not.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    pub actor: Actor,
    /// What was sent, hashed.
    key: Option<KeyHash>,
    /// Asks on this very machine, and is not a proxy for others.
    is_local: bool,
    /// Where the request came from.
    origin: Origin,
}

const NOWHERE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

impl Caller {
    /// Of a request's head.
    pub fn of(edge: &Edge, headers: &HeaderMap, extensions: &Extensions) -> Result<Self, ApiError> {
        // Every request comes over a connection; one that does not say so is from nowhere.
        let connection = extensions.get::<Arc<Connection>>();
        let peer = connection.map_or(NOWHERE, |connection| connection.client.ip());
        let is_local = peer.to_canonical().is_loopback() && !is_forwarded(headers);
        let origin = edge.networks.origin(peer, headers);
        let nobody = Self { actor: Actor::Nobody, key: None, is_local, origin };
        let Some(value) = headers.get(http::header::AUTHORIZATION) else { return Ok(nobody) };
        // The scheme's name is case-insensitive (RFC 9110).
        let secret = value.to_str().ok().and_then(|text| {
            text.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        });
        let (_, secret) = secret.ok_or_else(ApiError::unauthenticated)?;
        nobody.with_secret(edge, secret.trim())
    }

    /// The same by an API key or the sysop's secret.
    pub fn with_secret(self, edge: &Edge, secret: &str) -> Result<Self, ApiError> {
        self.with_key(edge, hash_secret(secret))
    }

    /// Whether the sysop asks, or somebody on this very machine, and not a proxy for others: who
    /// may read of the owner's folders and addresses.
    pub fn is_at_home(&self) -> bool {
        self.actor == Actor::Sysop || self.is_local
    }

    /// The network that the request counts for.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// For what it takes of what is shared.
    pub fn holder(&self, edge: &Edge) -> Holder {
        let network = edge.sharing_network_of(self.origin);
        match self.actor {
            Actor::Account(account) | Actor::Banned(account) => edge.holder(account, network),
            Actor::Sysop => Holder { account: None, network: None, rank: Rank::Realm },
            Actor::Nobody | Actor::Worker(_) => {
                Holder { account: None, network, rank: Rank::Guest }
            }
        }
    }

    pub fn network(&self, edge: &Edge) -> NetworkKey {
        edge.network_of(self.origin)
    }

    /// For what is given out by the day: the networks that it comes from, the outermost first.
    pub fn levels(&self, edge: &Edge) -> Vec<NetworkKey> {
        edge.levels_of(self.origin)
    }

    /// Who it is now: a key may be revoked while a connection that it opened lives on.
    pub fn again(self, edge: &Edge) -> Result<Self, ApiError> {
        self.key.map_or(Ok(self), |key| self.with_key(edge, key))
    }

    fn with_key(self, edge: &Edge, key: KeyHash) -> Result<Self, ApiError> {
        let actor = if edge.is_sysop(key) {
            Actor::Sysop
        } else {
            let account = edge.keys.account_of(key).ok_or_else(ApiError::unauthenticated)?;
            actor_of(edge, account)
        };
        Ok(Self { actor, key: Some(key), ..self })
    }

    /// The same by a proof of the account's own key.
    pub fn with_account(self, edge: &Edge, account: AccountId) -> Self {
        Self { actor: actor_of(edge, account), ..self }
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
            Actor::Banned(_) => {
                Err(ApiError::new(Denied::Banned.code(), Denied::Banned.to_string()))
            }
            Actor::Nobody | Actor::Worker(_) => Err(ApiError::unauthenticated()),
        }
    }

    /// The same, and a banned one too: to look at its money.
    pub fn books(&self) -> Result<AccountId, ApiError> {
        match self.actor {
            Actor::Banned(account) => Ok(account),
            Actor::Account(_) | Actor::Sysop | Actor::Nobody | Actor::Worker(_) => self.account(),
        }
    }
}

/// An account, unless the sysop has shut it out.
fn actor_of(edge: &Edge, account: AccountId) -> Actor {
    if edge.said.is_banned(account) { Actor::Banned(account) } else { Actor::Account(account) }
}

/// A caller with an account.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    pub caller: Caller,
    pub account: AccountId,
}

impl Member {
    pub fn of(edge: &Edge, headers: &HeaderMap, extensions: &Extensions) -> Result<Self, ApiError> {
        let caller = Caller::of(edge, headers, extensions)?;
        Ok(Self { caller, account: caller.account()? })
    }

    /// As whom it asks for work.
    pub fn asker(&self, edge: &Edge) -> Asker {
        let Self { caller, account } = *self;
        let branch = edge.branch_of(account, caller.origin);
        let at_home = caller.is_at_home();
        let (holder, origin) = (caller.holder(edge), caller.origin);
        Asker { account, branch, holder, origin, at_home }
    }
}

impl FromRequestParts<Arc<Edge>> for Member {
    type Rejection = ApiError;

    async fn from_request_parts(
        parts: &mut Parts,
        edge: &Arc<Edge>,
    ) -> Result<Self, Self::Rejection> {
        let caller = Caller::from_request_parts(parts, edge).await?;
        Ok(Self { caller, account: caller.account()? })
    }
}

impl FromRequestParts<Arc<Edge>> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(
        parts: &mut Parts,
        edge: &Arc<Edge>,
    ) -> Result<Self, Self::Rejection> {
        let caller = Self::of(edge, &parts.headers, &parts.extensions)?;
        // For the body, if one is read.
        parts.extensions.insert(caller.holder(edge));
        Ok(caller)
    }
}
