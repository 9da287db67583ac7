//! The caller's own intents, open and over.
//!
//! The list is read from the log: who asked, what was reserved, how it ended. Which kind of work
//! it was is known while it is open only; nobody keeps that, or a payload, for longer.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;
use mtor_core::authorize::{Action, Object};
use mtor_store::read::{IntentRow, Position};
use mtor_types::fact::Asset;
use mtor_types::intent::Outcome;
use mtor_types::{Amount, Code, IntentId, Time};
use serde::Serialize;

use super::Answer;
use super::accounts::PageQuery;
use super::auth::Caller;
use super::json::{Page, Params};
use crate::api_error::ApiError;
use crate::edge::Edge;

/// Rows of one page: each is read from two places of the log.
const PAGE_MAX: usize = 100;

#[derive(Debug, Serialize)]
struct Money {
    asset: Asset,
    amount: Amount,
}

#[derive(Debug, Serialize)]
struct Row {
    intent: IntentId,
    /// `open`, or how it ended.
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<Code>,
    hold: Money,
    #[serde(skip_serializing_if = "Option::is_none")]
    cost: Option<Money>,
    /// What was metered.
    #[serde(skip_serializing_if = "Option::is_none")]
    units: Option<u64>,
    /// Milliseconds since 1970.
    placed: Time,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<Time>,
}

type Named = BTreeMap<IntentId, (String, Option<String>)>;

impl Row {
    fn new(row: IntentRow, named: &mut Named) -> Self {
        let (asset, end) = (row.asset, row.end);
        let (name, model) = named.remove(&row.intent).unzip();
        Self {
            intent: row.intent,
            status: end.as_ref().map_or("open", |end| end.outcome.name()),
            name,
            model: model.flatten(),
            code: end.as_ref().and_then(|end| match end.outcome {
                Outcome::Failed(code) => Some(code),
                Outcome::Completed(_)
                | Outcome::Cancelled
                | Outcome::Expired
                | Outcome::Refused => None,
            }),
            hold: Money { asset, amount: row.hold },
            cost: end.as_ref().map(|end| Money { asset, amount: end.cost }),
            units: end.as_ref().map(|end| end.usage.units),
            placed: row.placed_at,
            ended: end.map(|end| end.at),
        }
    }
}

/// `GET /v1/intents?limit=&after=`: the newest first. A page may hold fewer than asked for and not
/// be the last: `next` tells.
pub async fn list(
    State(edge): State<Arc<Edge>>,
    caller: Caller,
    Params(page): Params<PageQuery>,
) -> Result<Answer, ApiError> {
    let account = caller.books()?;
    caller.may(Action::ReadTransfers, &Object::Account(account))?;
    let limit = page.limit()?.min(PAGE_MAX);
    let before = page.after.as_deref().map(position).transpose()?;
    let placed = edge.read(move |reader| reader.placed(account, before, limit)).await?;
    let open: Vec<IntentId> =
        placed.rows.iter().filter(|row| row.end.is_none()).map(|row| row.intent).collect();
    let mut named = Named::new();
    if !open.is_empty() {
        let names = move |node: &mtor_core::Node| -> Named {
            let named = open.iter().filter_map(|intent| node.events().meta(*intent));
            named.map(|meta| (meta.id, (meta.name.clone(), meta.model.clone()))).collect()
        };
        named = edge.node().ask(names).await?;
        for (_, model) in named.values_mut() {
            *model = edge.names.shown(model.as_deref());
        }
    }
    let items = placed.rows.into_iter().map(|row| Row::new(row, &mut named)).collect();
    let next = placed.next.map(|Position { batch, fact }| format!("{batch}.{fact}"));
    Ok(Answer::json(StatusCode::OK, &Page { items, next }))
}

fn position(text: &str) -> Result<Position, ApiError> {
    let parse = || {
        let (batch, fact) = text.split_once('.')?;
        Some(Position { batch: batch.parse().ok()?, fact: fact.parse().ok()? })
    };
    parse().ok_or_else(|| ApiError::invalid_field("after", "`next` of a page before"))
}
