//! Enrolment tokens, enrolment, and the worker's session.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;
use mtor_core::authorize::{Action, Object};
use mtor_core::{Command, Node, limits};
use mtor_types::text;
use mtor_types::worker::{Enrol, Enrolled};
use mtor_types::{AccountId, Code};
use serde::Serialize;

use super::auth::Caller;
use super::json::{self, Small};
use super::{Answer, Connection, finish, upgrade};
use crate::api_error::ApiError;
use crate::edge::Edge;
use crate::identity;

const NAME_BYTES_MAX: usize = 64;

#[derive(Debug, Serialize)]
struct NewToken {
    /// Shown once; good for one worker.
    token: String,
    owner: AccountId,
    expires_in_ms: u64,
}

/// `POST /v1/workers/tokens`: any account may have workers of its own.
pub async fn issue_token(
    State(edge): State<Arc<Edge>>,
    caller: Caller,
) -> Result<Answer, ApiError> {
    let owner = caller.account()?;
    caller.may(Action::IssueToken, &Object::Account(owner))?;
    let token = edge.new_worker_token(owner)?;
    let expires_in_ms = limits::TOKEN_LIFE_MS;
    Ok(Answer::json(StatusCode::CREATED, &NewToken { token, owner, expires_in_ms }))
}

/// `POST /v1/workers/enrol`: the token is the proof of the owner's will, the signature that of the
/// worker's key.
pub async fn enrol(
    State(edge): State<Arc<Edge>>,
    caller: Caller,
    Small(body): Small,
) -> Result<Answer, ApiError> {
    caller.may(Action::Enrol, &Object::Realm)?;
    let request: Enrol = json::read(&body)?;
    identity::verify_enrol(&request)?;
    let Enrol { token, worker, signature: _, name } = request;
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !text::is_plain(&name) {
        return Err(ApiError::invalid_field(
            "name",
            "1 to 64 bytes without control characters and marks that turn a text",
        ));
    }
    let token = edge.read_worker_token(&token, worker).await?;
    let realm = edge.identity.realm();
    let network = edge.sharing_network_of(caller.origin());
    let owner = finish(async move {
        let named = name.clone();
        let holder = edge.holder(token.owner, network);
        edge.node().call(Command::Enrol { token, worker, name: named, holder }).await?;
        let owner = move |node: &Node| Some(node.registry().worker(worker)?.enrolled.owner);
        let gone = || ApiError::new(Code::NotFound, "the worker was removed meanwhile");
        let owner = edge.node().ask(owner).await?.ok_or_else(gone)?;
        edge.names.set(worker, &name, owner);
        Ok(owner)
    });
    let owner = owner.await?;
    Ok(Answer::json(StatusCode::OK, &Enrolled { worker, owner, realm }))
}

/// `GET /v1/workers/session`: who it is the worker proves in its first frame.
pub async fn session(
    State(edge): State<Arc<Edge>>,
    caller: Caller,
    Extension(connection): Extension<Arc<Connection>>,
    request: Request,
) -> Result<Response, ApiError> {
    let network = edge.lasting_network_of(caller.origin());
    upgrade::begin(edge, connection, network, request)
}
