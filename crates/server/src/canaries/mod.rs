//! Canaries: the realm's own test intents, by which strangers' workers are proven.
//!
//! A canary is an ordinary intent of the realm's account: held, metered, paid to its worker, and on its
//! way to it nothing marks it. What it may cost a day is a grant to that account which the sysop sets, and
//! workers of one network share a part of it, so that inventing workers gains nothing. An answer that is
//! right counts towards proof, a wrong one begins the count anew; see `mtor_core::registry`.
//!
//! Absent on purpose: what the count must come to, who is ejected, and any trust by payers.

mod day;
mod questions;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mtor_core::registry::{Membership, WorkerView};
use mtor_core::{Command, Node, limits};
use mtor_types::fact::Asset;
use mtor_types::intent::Outcome;
use mtor_types::message::SlotOffer;
use mtor_types::standing::{KindName, Proof};
use mtor_types::{Amount, SessionId, WorkerId};
use tokio::task::JoinSet;

use crate::edge::Edge;
use crate::identity;
use crate::streams::Entry;
use day::{Day, Try};
use questions::Question;

/// Between two looks for somebody to try.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Connected workers that one look goes through: the next goes on behind them.
const LOOKED_AT: usize = 64;
/// Canaries at a time, one of each network: who keeps silent holds no other's up.
const AT_ONCE: usize = 16;
/// The realm's own worker, and the one that is tried, answer within this time.
const ANSWER_MS: u64 = 30_000;

/// Somebody to try, and with what.
struct Candidate {
    worker: WorkerId,
    session: SessionId,
    offer: SlotOffer,
    most_a_day: u32,
    /// A worker of the realm's own that offers the same.
    own: Option<(WorkerId, SlotOffer)>,
}

/// How often a day a worker is tried in what it offers; never, if there is nothing to learn.
fn most_a_day(view: &WorkerView<'_>, membership: Membership, kind: &KindName, today: u64) -> u32 {
    let ejected = matches!(membership, Membership::Ejected { .. });
    if view.enrolled.own || view.enrolled.banned || ejected {
        return 0;
    }
    let earned = view.enrolled.earned.get(kind).copied().unwrap_or_default();
    let canaries = earned.canaries;
    let waits = canaries.right >= limits::CANARIES_RIGHT && canaries.last_day == today;
    match earned.proven.map(|proven| proven.by) {
        Some(Proof::Canaries) => day::PROVEN_A_DAY,
        None if !waits => day::A_DAY,
        None | Some(Proof::Vouch) => 0,
    }
}

/// Those among the next connected workers that have something to prove, and behind whom to look next.
fn candidates(node: &Node, after: Option<WorkerId>) -> (Vec<Candidate>, Option<WorkerId>) {
    let registry = node.registry();
    let views: Vec<WorkerView<'_>> = registry.connected(after).take(LOOKED_AT).collect();
    let next = views.last().filter(|_| views.len() == LOOKED_AT).map(|view| view.worker);
    let today = node.now().day();
    let mut found = Vec::new();
    for view in &views {
        let Some(slots) = view.slots else { continue };
        for offer in &slots.offers {
            let kind = offer.kind();
            let membership = registry.membership(view.worker, &kind);
            let most_a_day = most_a_day(view, membership, &kind, today);
            if most_a_day > 0 {
                let own = own_offer(node, &kind);
                let (worker, session, offer) = (view.worker, slots.session, offer.clone());
                found.push(Candidate { worker, session, offer, most_a_day, own });
            }
        }
    }
    (found, next)
}

/// A worker of the realm's own that does that kind well just now.
fn own_offer(node: &Node, kind: &KindName) -> Option<(WorkerId, SlotOffer)> {
    let registry = node.registry();
    let own = registry.workers_of(registry.owner(), None, usize::MAX);
    let offers = own.filter(|view| !view.enrolled.banned).flat_map(|view| {
        let offers = view.slots.map(|slots| slots.offers.iter()).into_iter().flatten();
        offers.map(move |offer| (view.worker, offer))
    });
    let mut same = offers.filter(|(worker, offer)| {
        let is_member = registry.membership(*worker, kind) == Membership::Member;
        is_member && offer.intent == kind.intent && offer.model == kind.model
    });
    same.next().map(|(worker, offer)| (worker, offer.clone()))
}

/// Asks workers until the realm stops. `budget`: base units a day; nothing is asked for none.
pub async fn run(edge: Arc<Edge>, budget: Amount) {
    if budget.is_zero() {
        return;
    }
    let mut day = Day::new(u64::try_from(budget.units()).unwrap_or(u64::MAX));
    let mut funded = None;
    let mut after = None;
    let mut asking: JoinSet<(Try, bool)> = JoinSet::new();
    loop {
        tokio::select! {
            () = edge.stopping() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        while let Some(done) = asking.try_join_next() {
            // One that panicked has told so itself.
            if let Ok((tried, was_asked)) = done {
                day.over(&tried, was_asked);
            }
        }
        let now = edge.now();
        day.begin(now);
        let Ok((found, next)) = edge.node().ask(move |node| candidates(node, after)).await else {
            continue;
        };
        after = next;
        for candidate in found {
            if asking.len() >= AT_ONCE {
                break;
            }
            let Some((question, tried)) = choose(&edge, &day, &candidate) else { continue };
            if funded != Some(now.day()) {
                // Without it nothing is asked: what else the account holds is not for this.
                if !fund(&edge, budget).await {
                    break;
                }
                funded = Some(now.day());
            }
            let account = edge.identity.account();
            let has = edge.balance(account, Asset::Grant).await.unwrap_or_default();
            // Of the grant alone, whatever else the account has.
            let needed = day.outstanding().saturating_add(tried.cost);
            if has < Amount::from_u64(needed) || !day.take(&tried, candidate.most_a_day, now) {
                continue;
            }
            let edge = Arc::clone(&edge);
            asking.spawn(async move {
                let was_asked = ask(&edge, &candidate, &question).await;
                (tried, was_asked)
            });
        }
    }
}

/// A question for somebody, and what it is counted as.
fn choose(edge: &Edge, day: &Day, candidate: &Candidate) -> Option<(Question, Try)> {
    let (worker, kind) = (candidate.worker, candidate.offer.kind());
    let network = edge.sessions.get(candidate.session)?.network;
    if day.is_asking(network) {
        return None;
    }
    let question = Question::draw(&kind, identity::random().ok()?)?;
    if question.needs_own() && candidate.own.is_none() {
        return None;
    }
    let cost = edge.canary_cost(&candidate.offer, question.data.clone())?;
    Some((question, Try { worker, kind, network, cost }))
}

/// The day's budget, once.
async fn fund(edge: &Edge, amount: Amount) -> bool {
    let Ok(salt) = identity::random() else { return false };
    let funded = edge.node().call(Command::FundCanaries { amount, salt }).await;
    if let Err(error) = &funded {
        tracing::debug!(%error, "no budget for canaries today");
    }
    funded.is_ok()
}

/// Whether the worker was asked at all.
async fn ask(edge: &Arc<Edge>, candidate: &Candidate, question: &Question) -> bool {
    let Candidate { worker, offer, own, .. } = candidate;
    let own = match own.as_ref().filter(|_| question.needs_own()) {
        None => None,
        Some((own, offer)) => match answer(edge, *own, offer, question).await {
            Some(Some(said)) => Some(said),
            // Nothing to compare with just now.
            Some(None) | None => return false,
        },
    };
    let Some(said) = answer(edge, *worker, offer, question).await else { return false };
    // A failure is no wrong answer: failures are counted as anybody's.
    let right = said.and_then(|said| question.is_right(&said, own.as_deref()));
    let Some(right) = right else { return true };
    let (worker, kind) = (*worker, offer.kind());
    edge.metrics.canary(right);
    if !right {
        tracing::info!(%worker, intent = kind.intent, "a canary was answered wrongly");
    }
    let judged = Command::JudgeCanary { worker, kind, right };
    if let Err(error) = edge.node().call(judged).await {
        tracing::debug!(%error, "a canary's worker is gone");
    }
    true
}

/// What a worker says to it, if it says anything; `None` if it had no free slot, or could not be asked.
async fn answer(
    edge: &Arc<Edge>,
    worker: WorkerId,
    offer: &SlotOffer,
    question: &Question,
) -> Option<Option<Bytes>> {
    let asked = edge.ask_worker(worker, offer, question.data.clone(), ANSWER_MS).await;
    let cursor = asked.inspect_err(|error| tracing::debug!(?error, "a canary was refused"));
    let mut cursor = cursor.ok()?;
    while let Ok(Some(entry)) = cursor.next().await {
        if let Entry::End(ended) = entry {
            let done = matches!(ended.end.outcome, Outcome::Completed(_));
            return Some(ended.result.clone().filter(|_| done));
        }
    }
    Some(None)
}
