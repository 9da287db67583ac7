//! Canaries: the realm's own test intents, by which strangers' workers are proven.
//!
//! A canary is an ordinary intent of the realm's account: held, metered, paid to its worker and in no
//! way told apart on its way. What it may cost a day is a grant to that account which the sysop sets, and
//! workers of one network share a part of it, so that inventing workers gains nothing. An answer that is
//! right counts towards proof, a wrong one begins the count anew; see `mtor_core::registry`.
//!
//! Absent on purpose: what the count must come to, who is ejected, and any trust by payers.

mod questions;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mtor_core::registry::{Membership, WorkerView};
use mtor_core::{Command, Node, limits};
use mtor_types::fact::NetworkKey;
use mtor_types::intent::Outcome;
use mtor_types::message::SlotOffer;
use mtor_types::standing::{KindName, Proof};
use mtor_types::{Amount, SessionId, Time, WorkerId};

use crate::edge::Edge;
use crate::identity;
use crate::streams::Entry;
use questions::Question;

/// Between two looks for somebody to try.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Workers that one look goes through: the next goes on behind them.
const LOOKED_AT: usize = 64;
/// Canaries at a time.
const AT_ONCE: usize = 4;
/// Of one worker and kind: so long apart, and so many a day. Half of what proves it, and a little.
const APART_MS: u64 = 60_000;
const A_DAY: u32 = 12;
/// Who is proven by canaries is looked at again, so often a day.
const PROVEN_A_DAY: u32 = 1;
/// Workers of one network share this part of a day's budget.
const OF_A_NETWORK: u64 = 4;
/// (worker, kind) that are remembered for a day; more are not tried.
const REMEMBERED_MAX: usize = 65_536;
/// The realm's own worker answers within this time, or the canary says nothing.
const ANSWER_MS: u64 = 60_000;

/// What was tried today.
#[derive(Default)]
struct Day {
    day: u64,
    funded: bool,
    /// How often, and when next.
    tried: BTreeMap<(WorkerId, KindName), (u32, Time)>,
    spent: BTreeMap<NetworkKey, u64>,
}

/// Somebody to try, and with what.
struct Candidate {
    worker: WorkerId,
    session: SessionId,
    offer: SlotOffer,
    most_a_day: u32,
    /// A worker of the realm's own that offers the same.
    own: Option<(WorkerId, SlotOffer)>,
}

fn kind_of(offer: &SlotOffer) -> KindName {
    KindName { intent: offer.intent.clone(), model: offer.model.clone() }
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
        Some(Proof::Canaries) => PROVEN_A_DAY,
        None if !waits => A_DAY,
        None | Some(Proof::Vouch) => 0,
    }
}

/// Those among the next workers that have something to prove, and behind whom to look next.
fn candidates(node: &Node, after: Option<WorkerId>) -> (Vec<Candidate>, Option<WorkerId>) {
    let registry = node.registry();
    let views: Vec<WorkerView<'_>> = registry.workers(after, LOOKED_AT).collect();
    let next = views.last().filter(|_| views.len() == LOOKED_AT).map(|view| view.worker);
    let today = node.now().day();
    let own: Vec<(WorkerId, &SlotOffer)> = registry
        .workers_of(registry.owner(), None, LOOKED_AT)
        .flat_map(|view| {
            let offers = view.slots.map(|slots| slots.offers.iter()).into_iter().flatten();
            offers.map(move |offer| (view.worker, offer))
        })
        .collect();
    let mut found = Vec::new();
    for view in &views {
        let Some(slots) = view.slots else { continue };
        for offer in &slots.offers {
            let kind = kind_of(offer);
            let membership = registry.membership(view.worker, &kind);
            let most_a_day = most_a_day(view, membership, &kind, today);
            if most_a_day == 0 {
                continue;
            }
            let same = |(_, own): &&(WorkerId, &SlotOffer)| {
                own.intent == offer.intent && own.model == offer.model
            };
            let own = own.iter().find(same).map(|(worker, offer)| (*worker, (*offer).clone()));
            let (worker, session, offer) = (view.worker, slots.session, offer.clone());
            found.push(Candidate { worker, session, offer, most_a_day, own });
        }
    }
    (found, next)
}

/// Asks workers until the realm stops. `budget`: base units a day; nothing is asked for none.
pub async fn run(edge: Arc<Edge>, budget: Amount) {
    if budget.is_zero() {
        return;
    }
    let mut day = Day::default();
    let mut after = None;
    let mut asking = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            () = edge.stopping() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        while asking.try_join_next().is_some() {}
        let now = edge.now();
        if day.day != now.day() {
            day = Day { day: now.day(), ..Day::default() };
        }
        let Ok((found, next)) = edge.node().ask(move |node| candidates(node, after)).await else {
            continue;
        };
        after = next;
        for candidate in found {
            if asking.len() >= AT_ONCE {
                break;
            }
            let Some(question) = day.take(&edge, &candidate, budget, now) else { continue };
            if !day.funded {
                let fund = fund(&edge, budget).await;
                day.funded = fund;
            }
            let edge = Arc::clone(&edge);
            asking.spawn(async move { ask(&edge, &candidate, &question).await });
        }
    }
}

impl Day {
    /// A question for somebody, if it is his turn and his network's share pays it.
    fn take(
        &mut self,
        edge: &Edge,
        candidate: &Candidate,
        budget: Amount,
        now: Time,
    ) -> Option<Question> {
        let kind = kind_of(&candidate.offer);
        let key = (candidate.worker, kind);
        let (count, next) = self.tried.get(&key).copied().unwrap_or_default();
        let full = self.tried.len() >= REMEMBERED_MAX && !self.tried.contains_key(&key);
        if full || count >= candidate.most_a_day || now < next {
            return None;
        }
        let question = Question::draw(&key.1, identity::random().ok()?)?;
        if question.needs_own() && candidate.own.is_none() {
            return None;
        }
        let network = edge.sessions.get(candidate.session)?.network;
        let cost = edge.canary_cost(&candidate.offer, question.data.clone())?;
        let spent = self.spent.get(&network).copied().unwrap_or_default();
        let share = u64::try_from(budget.units()).unwrap_or(u64::MAX) / OF_A_NETWORK;
        let spent = spent.saturating_add(cost);
        if spent > share {
            return None;
        }
        self.spent.insert(network, spent);
        self.tried.insert(key, (count.saturating_add(1), now.after_ms(APART_MS)));
        Some(question)
    }
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

async fn ask(edge: &Arc<Edge>, candidate: &Candidate, question: &Question) {
    let Candidate { worker, offer, own, .. } = candidate;
    let own = match own.as_ref().filter(|_| question.needs_own()) {
        None => None,
        Some((own, offer)) => match answer(edge, *own, offer, question).await {
            Some(said) => Some(said),
            // Nothing to compare with just now.
            None => return,
        },
    };
    // A failure, or no free slot, is no wrong answer: failures are counted as anybody's.
    let Some(said) = answer(edge, *worker, offer, question).await else { return };
    let Some(right) = question.is_right(&said, own.as_deref()) else { return };
    let (worker, kind) = (*worker, kind_of(offer));
    edge.metrics.canary(right);
    if !right {
        tracing::info!(%worker, intent = kind.intent, "a canary was answered wrongly");
    }
    let judged = Command::JudgeCanary { worker, kind, right };
    if let Err(error) = edge.node().call(judged).await {
        tracing::debug!(%error, "a canary's worker is gone");
    }
}

/// What a worker says to it; `None` if it says nothing.
async fn answer(
    edge: &Arc<Edge>,
    worker: WorkerId,
    offer: &SlotOffer,
    question: &Question,
) -> Option<Bytes> {
    let asked = edge.ask_worker(worker, offer, question.data.clone(), ANSWER_MS).await;
    let cursor = asked.inspect_err(|error| tracing::debug!(?error, "a canary was refused"));
    let mut cursor = cursor.ok()?;
    while let Ok(Some(entry)) = cursor.next().await {
        if let Entry::End(ended) = entry {
            let done = matches!(ended.end.outcome, Outcome::Completed(_));
            return ended.result.clone().filter(|_| done);
        }
    }
    None
}
