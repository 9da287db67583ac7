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

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mtor_core::registry::{Duty, WorkerView};
use mtor_core::{Command, Node, limits};
use mtor_types::fact::Asset;
use mtor_types::intent::Outcome;
use mtor_types::message::SlotOffer;
use mtor_types::standing::{KindName, Proof};
use mtor_types::{Amount, SessionId, WorkerId};
use tokio::task::{self, JoinSet};

use crate::edge::Edge;
use crate::identity;
use crate::streams::Entry;
use day::{Day, Try};
use questions::{Measure, Question};

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
fn most_a_day(view: &WorkerView<'_>, duty: Duty, kind: &KindName, today: u64) -> u32 {
    let ejected = matches!(duty, Duty::Ejected { .. });
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

/// A worker of the realm's own that does a kind well just now.
type OwnOffers = BTreeMap<KindName, (WorkerId, SlotOffer)>;

/// Those among the next connected workers that have something to prove by a question there is, and
/// behind whom to look next.
fn candidates(node: &Node, after: Option<WorkerId>) -> (Vec<Candidate>, Option<WorkerId>) {
    let registry = node.registry();
    let views: Vec<WorkerView<'_>> = registry.connected(after).take(LOOKED_AT).collect();
    let next = views.last().filter(|_| views.len() == LOOKED_AT).map(|view| view.worker);
    let today = node.now().day();
    let (mut found, mut compared) = (Vec::new(), BTreeSet::new());
    for view in &views {
        let Some(slots) = view.slots else { continue };
        for offer in &slots.offers {
            let kind = offer.kind();
            let Some(measure) = Question::measure(&kind) else { continue };
            let duty = registry.duty(view.worker, &kind);
            let most_a_day = most_a_day(view, duty, &kind, today);
            if most_a_day > 0 {
                let (worker, session, offer) = (view.worker, slots.session, offer.clone());
                found.push(Candidate { worker, session, offer, most_a_day, own: None });
                if measure == Measure::OwnWorker {
                    compared.insert(kind);
                }
            }
        }
    }
    let own = own_offers(node, compared);
    for candidate in &mut found {
        candidate.own = own.get(&candidate.offer.kind()).cloned();
    }
    (found, next)
}

/// In these kinds. Looked for once for all of them, and no longer than one is missing: the realm may
/// have many workers, and its node has other things to do.
fn own_offers(node: &Node, mut kinds: BTreeSet<KindName>) -> OwnOffers {
    let registry = node.registry();
    let mut found = OwnOffers::new();
    let own = registry.workers_of(registry.owner(), None, usize::MAX);
    for view in own.filter(|view| !view.enrolled.banned) {
        if kinds.is_empty() {
            break;
        }
        for offer in view.slots.map(|slots| slots.offers.iter()).into_iter().flatten() {
            let kind = offer.kind();
            if kinds.contains(&kind) && registry.duty(view.worker, &kind) == Duty::Full {
                kinds.remove(&kind);
                found.insert(kind, (view.worker, offer.clone()));
            }
        }
    }
    found
}

/// What is asked just now.
#[derive(Default)]
struct Asking {
    tasks: JoinSet<bool>,
    tries: BTreeMap<task::Id, Try>,
}

impl Asking {
    /// `asked` says whether its worker was asked at all.
    fn begin(&mut self, tried: Try, asked: impl Future<Output = bool> + Send + 'static) {
        let id = self.tasks.spawn(asked).id();
        self.tries.insert(id, tried);
    }

    fn is_full(&self) -> bool {
        self.tasks.len() >= AT_ONCE
    }

    /// Takes those that are over out of the day. One that panicked is over, too, and has told so
    /// itself; it may have been asked and paid.
    fn settle(&mut self, day: &mut Day) {
        while let Some(done) = self.tasks.try_join_next_with_id() {
            let (id, was_asked) = match done {
                Ok(done) => done,
                Err(error) => (error.id(), true),
            };
            if let Some(tried) = self.tries.remove(&id) {
                day.over(&tried, was_asked);
            }
        }
    }
}

/// Asks workers until the realm stops. `budget`: base units a day; nothing is asked for none.
pub async fn run(edge: Arc<Edge>, budget: Amount) {
    if budget.is_zero() {
        return;
    }
    let mut day = Day::new(u64::try_from(budget.units()).unwrap_or(u64::MAX));
    let mut funded = None;
    let mut after = None;
    let mut asking = Asking::default();
    loop {
        tokio::select! {
            () = edge.stopping() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        asking.settle(&mut day);
        let now = edge.now();
        day.begin(now);
        if day.is_spent() || asking.is_full() {
            continue;
        }
        let Ok((found, next)) = edge.node().ask(move |node| candidates(node, after)).await else {
            continue;
        };
        after = next;
        for candidate in found {
            if asking.is_full() {
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
            asking.begin(tried, async move { ask(&edge, &candidate, &question).await });
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
    // A failure is no wrong answer: it was blamed when it ended.
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

#[cfg(test)]
mod tests {
    use mtor_types::Time;
    use mtor_types::fact::NetworkKey;

    use super::*;

    #[tokio::test]
    async fn a_canary_that_panics_holds_its_network_up_no_longer() {
        let kind = KindName { intent: "echo".into(), model: None };
        let (worker, network) = (WorkerId([1; 32]), NetworkKey([2; 16]));
        let tried = Try { worker, kind, network, cost: 3 };
        let (mut day, now) = (Day::new(100), Time(0));
        day.begin(now);
        assert!(day.take(&tried, day::A_DAY, now));
        let mut asking = Asking::default();
        asking.begin(tried, async { unreachable!("a canary that panics") });
        while !asking.tries.is_empty() {
            assert!(day.is_asking(network));
            task::yield_now().await;
            asking.settle(&mut day);
        }
        assert_eq!((day.is_asking(network), day.outstanding()), (false, 0));
    }
}
