//! What all executors offer together, and which of them takes an assignment.

use std::collections::BTreeMap;

use mtor_types::Price;
use mtor_types::worker::{FailCode, Offer};

use crate::leases::{Counted, End, Leases, SlotOf};
use crate::limits;

pub(super) struct Offers {
    /// By executor; `None` until it has said something.
    said: BTreeMap<usize, Option<Vec<Offer>>>,
    prices: BTreeMap<String, Price>,
}

impl Offers {
    pub(super) fn new(prices: BTreeMap<String, Price>) -> Self {
        Self { said: BTreeMap::new(), prices }
    }

    /// An executor that will say what it can do.
    pub(super) fn expect(&mut self, executor: usize) {
        self.said.insert(executor, None);
    }

    pub(super) fn forget(&mut self, executor: usize) {
        self.said.remove(&executor);
    }

    /// True if the realm should hear of it.
    pub(super) fn set(&mut self, executor: usize, offers: Result<Vec<Offer>, String>) -> bool {
        let Some(said) = self.said.get_mut(&executor) else { return false };
        let offers = offers.unwrap_or_default();
        let first = said.is_none();
        let changed = said.as_ref() != Some(&offers);
        *said = Some(offers);
        first || changed
    }

    /// The executor has said what it can do, or has failed.
    pub(super) fn is_known(&self, executor: usize) -> bool {
        self.said.get(&executor).is_some_and(Option::is_some)
    }

    /// Every executor has said what it can do, or has failed.
    pub(super) fn is_full(&self) -> bool {
        self.said.values().all(Option::is_some)
    }

    /// Intents that have a price and no offer; none while somebody offers nothing, for what a server
    /// that is down will offer is not known.
    pub(super) fn priced_in_vain(&self) -> impl Iterator<Item = &str> {
        let said = || self.said.values().flatten();
        let is_open = said().any(Vec::is_empty);
        let offers = move || said().flatten();
        let in_vain =
            move |intent: &&String| !is_open && !offers().any(|offer| offer.intent == **intent);
        self.prices.keys().filter(in_vain).map(String::as_str)
    }

    /// One offer for each intent, model and group: the slots of several executors are added. To a
    /// realm that knows of no groups each offer stands for itself.
    pub(super) fn list(&self, groups: bool) -> Vec<Offer> {
        let mut list: Vec<Offer> = Vec::new();
        let mut of: Vec<usize> = Vec::new();
        let said = self.said.iter();
        let said =
            said.flat_map(|(executor, said)| said.iter().flatten().map(move |o| (*executor, o)));
        for (executor, offer) in said {
            let group = offer.group.clone().filter(|_| groups);
            let same = |other: &&mut Offer| {
                (&other.intent, &other.model, &other.group) == (&offer.intent, &offer.model, &group)
            };
            if let Some(other) = list.iter_mut().find(same) {
                other.slots =
                    (other.slots.saturating_add(offer.slots)).min(limits::SLOTS_PER_OFFER_MAX);
                other.context = match (other.context, offer.context) {
                    (Some(one), Some(two)) => Some(one.min(two)),
                    (one, two) => one.or(two),
                };
            } else {
                let price = self.prices.get(&offer.intent).copied();
                list.push(Offer { price, group, ..offer.clone() });
                of.push(executor);
            }
        }
        if list.len() > limits::OFFERS_MAX {
            tracing::warn!(
                offers = list.len(),
                "more offers than a realm takes: the last of who offers most are left out"
            );
        }
        // A server with many models is not to crowd out what the others do.
        while list.len() > limits::OFFERS_MAX {
            let count = |executor: &usize| of.iter().filter(|other| *other == executor).count();
            let most = of.iter().copied().max_by_key(count);
            let last = of.iter().rposition(|executor| Some(*executor) == most);
            let last = last.unwrap_or(limits::OFFERS_MAX);
            drop((list.remove(last), of.remove(last)));
        }
        list
    }

    /// The first executor with a free slot for it. `groups`: the realm knows of them, so that what
    /// it names no group for is of none.
    pub(super) fn slot_for(
        &self,
        (intent, model): (&str, Option<&str>),
        group: Option<&str>,
        groups: bool,
        leases: &Leases,
    ) -> Result<SlotOf, End> {
        let mut offered = false;
        for (&executor, offers) in &self.said {
            let fits = |offer: &&Offer| {
                offer.intent == intent
                    && (model.is_none() || offer.model.as_deref() == model)
                    && (!groups || offer.group.as_deref() == group)
            };
            for offer in offers.iter().flatten().filter(fits) {
                offered = true;
                let of = match offer.group.clone().filter(|_| groups) {
                    Some(group) => Counted::Group(group),
                    None => Counted::Offer(offer.intent.clone(), offer.model.clone()),
                };
                let slot = SlotOf { executor, of };
                if leases.running(&slot) < offer.slots {
                    return Ok(slot);
                }
            }
        }
        Err(if offered {
            End::backend("all slots of this worker are taken")
        } else {
            End::fail(FailCode::Unsupported, "this worker does not offer that now", true)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leases::{Key, NewLease};

    fn offer(intent: &str, model: Option<&str>, slots: u32, context: Option<u32>) -> Offer {
        let (intent, model) = (intent.into(), model.map(Into::into));
        Offer { intent, model, slots, price: None, context, group: None }
    }

    fn expecting(executors: usize, prices: BTreeMap<String, Price>) -> Offers {
        let mut offers = Offers::new(prices);
        (0..executors).for_each(|executor| offers.expect(executor));
        offers
    }

    #[test]
    fn the_same_offer_of_two_executors_is_one() {
        let price = Price { amount: mtor_types::Amount::from_u64(3), per: 10 };
        let prices = BTreeMap::from([("chat".into(), price), ("paint".into(), price)]);
        let mut offers = expecting(3, prices);
        assert!(offers.set(0, Ok(vec![offer("chat", Some("m"), 2, Some(4096))])));
        assert!(offers.set(
            1,
            Ok(vec![offer("chat", Some("m"), 3, Some(2048)), offer("echo", None, 1, None)])
        ));
        assert!(!offers.is_full());
        assert!(offers.set(2, Err("down".into())));
        assert!(offers.is_full());
        assert!(!offers.set(2, Err("still down".into())));
        let list = offers.list(true);
        assert_eq!(list.len(), 2);
        assert_eq!((list[0].slots, list[0].context, list[0].price), (5, Some(2048), Some(price)));
        assert_eq!(list[1].price, None);
        assert_eq!(offers.priced_in_vain().count(), 0, "the one that is down may paint");
        offers.forget(2);
        assert_eq!(offers.priced_in_vain().collect::<Vec<_>>(), ["paint"]);
        offers.forget(0);
        assert_eq!(offers.list(true).iter().map(|offer| offer.slots).sum::<u32>(), 4);
        assert!(!offers.set(0, Ok(vec![offer("chat", None, 1, None)])), "it is gone");
    }

    #[test]
    fn a_server_with_many_models_crowds_out_nobody() {
        let mut offers = expecting(2, BTreeMap::new());
        let many = (0..32).map(|number| offer("chat", Some(&format!("m{number}")), 1, None));
        offers.set(0, Ok(many.collect()));
        offers.set(1, Ok(vec![offer("echo", None, 1, None), offer("fft", None, 1, None)]));
        let list = offers.list(true);
        assert_eq!(list.len(), limits::OFFERS_MAX);
        assert_eq!((&*list[29].intent, list[29].model.as_deref()), ("chat", Some("m29")));
        assert_eq!((&*list[30].intent, &*list[31].intent), ("echo", "fft"));
    }

    /// Two backends have one model: the realm says whose slot it gives.
    #[test]
    fn a_group_is_as_large_as_its_backend_and_one_of_its_own() {
        let mut offers = expecting(2, BTreeMap::new());
        let of = |executor: usize, model: &str, slots| {
            let group = Some(format!("backend {executor}"));
            Offer { group, ..offer("chat", Some(model), slots, None) }
        };
        offers.set(0, Ok(vec![of(0, "m", 1), of(0, "n", 1)]));
        offers.set(1, Ok(vec![of(1, "m", 2)]));
        let shown = |groups| {
            let list = offers.list(groups).into_iter();
            list.map(|o| (o.model.unwrap(), o.slots, o.group.unwrap_or_default())).collect()
        };
        let told: Vec<(String, u32, String)> = shown(true);
        let row = |model: &str, slots, group: &str| (model.to_owned(), slots, group.to_owned());
        let all = [row("m", 1, "backend 0"), row("n", 1, "backend 0"), row("m", 2, "backend 1")];
        assert_eq!(told, all);
        let told: Vec<(String, u32, String)> = shown(false);
        assert_eq!(told, [row("m", 3, ""), row("n", 1, "")]);
        let (mut leases, mut number) = (Leases::default(), 0);
        let mut next = || {
            number += 1;
            number
        };
        let mut give = |model, group| {
            let slot = offers.slot_for(("chat", Some(model)), group, true, &leases).ok()?;
            let executor = slot.executor;
            leases.insert(NewLease {
                key: Key {
                    intent: mtor_types::IntentId([1; 16]),
                    attempt: mtor_types::Attempt(next()),
                },
                fence: mtor_types::Fence(1),
                token: mtor_types::Digest([0; 32]),
                slot,
                credit: 1,
                deadline: tokio::time::Instant::now() + std::time::Duration::from_secs(9),
                backlog: std::sync::Arc::new(tokio::sync::Semaphore::new(0)),
            });
            Some(executor)
        };
        assert_eq!(give("m", Some("backend 1")), Some(1));
        assert_eq!(give("n", Some("backend 0")), Some(0));
        assert_eq!(give("m", Some("backend 0")), None, "its one slot has another model");
        assert_eq!(give("m", Some("backend 1")), Some(1));
        assert_eq!(give("m", Some("backend 2")), None);
        assert_eq!(give("m", None), None, "none is offered without a group");
    }

    #[test]
    fn an_assignment_goes_where_it_is_offered() {
        let mut offers = expecting(2, BTreeMap::new());
        offers.set(1, Ok(vec![offer("chat", Some("m"), 1, None)]));
        let leases = Leases::default();
        let slot = |intent, model| {
            offers.slot_for((intent, model), None, true, &leases).map(|slot| slot.executor)
        };
        assert_eq!(slot("chat", Some("m")).ok(), Some(1));
        assert_eq!(slot("chat", None).ok(), Some(1));
        for (intent, model) in [("chat", Some("x")), ("embed", None)] {
            assert!(matches!(
                slot(intent, model),
                Err(End::Fail { code: FailCode::Unsupported, .. })
            ));
        }
    }
}
