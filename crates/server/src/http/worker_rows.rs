//! Workers and how they stand, as the sysop and their owners see them.

use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;
use mtor_core::Node;
use mtor_core::authorize::{Action, Object};
use mtor_core::registry::{Duty, Earned, Ejection, WorkerView};
use mtor_types::intent::Band;
use mtor_types::message::SlotOffer;
use mtor_types::standing::Proof;
use mtor_types::{AccountId, Price, Time, WorkerId};
use serde::Serialize;

use super::Answer;
use super::accounts::PageQuery;
use super::auth::Caller;
use super::json::{Page, Params};
use crate::api_error::ApiError;
use crate::edge::Edge;

#[derive(Debug, Serialize)]
struct WorkerRow {
    worker: WorkerId,
    name: String,
    owner: AccountId,
    own: bool,
    banned: bool,
    connected: bool,
    /// When it was last heard, in milliseconds since 1970.
    heard: Option<Time>,
    offers: Vec<OfferRow>,
}

#[derive(Debug, Serialize)]
struct OfferRow {
    intent: String,
    model: Option<String>,
    slots: u32,
    /// What shares these slots.
    group: Option<String>,
    price: Price,
    band: Band,
    context: Option<u32>,
    /// `own`, `proven` or `probation`.
    standing: &'static str,
    /// Of the slots, those that are used for others than the owner.
    earned: u32,
    /// Right answers in a row to the realm's test intents.
    right_canaries: u32,
    proof: Option<ProofRow>,
    ejected: Option<EjectedRow>,
    /// Back from an ejection, with one slot until its next result.
    probing: bool,
}

#[derive(Debug, Serialize)]
struct ProofRow {
    by: Proof,
    until: Option<Time>,
}

#[derive(Debug, Serialize)]
struct EjectedRow {
    until: Time,
    why: &'static str,
}

fn in_words(why: Ejection) -> &'static str {
    match why {
        Ejection::InARow => "5 attempts in a row failed, or nothing came of them",
        Ejection::Confirmed => "3 failures in a row of what another worker could do",
        Ejection::MoreThanHalf => "more than half of its last attempts failed",
        Ejection::Probe => "it failed the first attempt after it came back",
    }
}

impl OfferRow {
    fn of(node: &Node, view: &WorkerView<'_>, offer: &SlotOffer) -> Self {
        let kind = offer.kind();
        let SlotOffer { intent, model, slots, price, band, context, group } = offer.clone();
        let Earned { canaries, proven, .. } =
            view.enrolled.earned.get(&kind).copied().unwrap_or_default();
        let duty = node.registry().duty(view.worker, &kind);
        let earned = node.registry().standing(view.worker, kind).map_or(0, |found| found.slots);
        let standing = match (view.enrolled.own, proven) {
            (true, _) => "own",
            (false, Some(_)) => "proven",
            (false, None) => "probation",
        };
        let ejected = match duty {
            Duty::Ejected { until, why } => Some(EjectedRow { until, why: in_words(why) }),
            Duty::Full | Duty::Probing => None,
        };
        Self {
            intent,
            model,
            slots,
            group,
            price,
            band,
            context,
            standing,
            earned: earned.min(slots),
            right_canaries: canaries.right,
            proof: proven.map(|proven| ProofRow { by: proven.by, until: proven.until }),
            ejected,
            probing: duty == Duty::Probing,
        }
    }
}

impl WorkerRow {
    fn of(node: &Node, view: WorkerView<'_>) -> Self {
        let offers = view.slots.map(|slots| slots.offers.iter());
        let offers = offers.into_iter().flatten();
        Self {
            worker: view.worker,
            name: view.enrolled.name.clone(),
            owner: view.enrolled.owner,
            own: view.enrolled.own,
            banned: view.enrolled.banned,
            connected: view.slots.is_some(),
            heard: view.heard,
            offers: offers.map(|offer| OfferRow::of(node, &view, offer)).collect(),
        }
    }
}

fn page(items: Vec<WorkerRow>, limit: usize) -> Answer {
    let next = items.last().filter(|_| items.len() == limit).map(|row| row.worker.to_string());
    Answer::json(StatusCode::OK, &Page { items, next })
}

/// `GET /v1/sysop/workers`
pub async fn all(
    State(edge): State<Arc<Edge>>,
    caller: Caller,
    Params(query): Params<PageQuery>,
) -> Result<Answer, ApiError> {
    caller.may(Action::ReadRealm, &Object::Realm)?;
    let (limit, after) = (query.limit()?, query.after::<WorkerId>()?);
    let rows = move |node: &Node| -> Vec<WorkerRow> {
        let views = node.registry().workers(after, limit);
        views.map(|view| WorkerRow::of(node, view)).collect()
    };
    Ok(page(edge.node().ask(rows).await?, limit))
}

/// `GET /v1/account/workers`
pub async fn of_account(
    State(edge): State<Arc<Edge>>,
    caller: Caller,
    Params(query): Params<PageQuery>,
) -> Result<Answer, ApiError> {
    let account = caller.account()?;
    caller.may(Action::ReadAccount, &Object::Account(account))?;
    let (limit, after) = (query.limit()?, query.after::<WorkerId>()?);
    let rows = move |node: &Node| -> Vec<WorkerRow> {
        let views = node.registry().workers_of(account, after, limit);
        views.map(|view| WorkerRow::of(node, view)).collect()
    };
    Ok(page(edge.node().ask(rows).await?, limit))
}
