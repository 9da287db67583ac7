//! A model's name belongs to somebody: who names an owner is served by that owner's workers alone,
//! and nobody else comes to a stranger by default.

use mtor_types::intent::{Band, IntentMeta, Trust};
use mtor_types::message::{SlotOffer, Slots};
use mtor_types::model::owned;
use mtor_types::{AccountId, Amount, Price, SessionId, WorkerId};
use proptest::prelude::*;

use super::tests::{meta, offered, session_of};
use super::*;

const REALM: AccountId = AccountId([1; 32]);
const GUEST: AccountId = AccountId([2; 32]);
const OTHER: AccountId = AccountId([3; 32]);

/// Whose worker, and what is thought of it.
fn offers(number: u8, owner: AccountId, class: TrustClass, model: &str, price: u64) -> Slots {
    let price = Price { amount: Amount::from_u64(price), per: 1 };
    let (intent, model, band) = ("chat".to_owned(), Some(model.to_owned()), Band::ALL[0]);
    let offer = SlotOffer { intent, model, slots: 4, price, band, context: None, group: None };
    let slots = session_of(WorkerId([number; 32]), number.into(), vec![offer]);
    let (own, proven) = (class == TrustClass::Own, class != TrustClass::Probation);
    Slots { owner, own, proven, ..slots }
}

fn asks(number: u8, model: &str, trust: Trust) -> IntentMeta {
    let (name, model) = ("chat".to_owned(), Some(model.to_owned()));
    IntentMeta { name, model, trust, band: Band::ALL[0], ..meta(number) }
}

struct Realm {
    router: Router,
    turn: Turn,
}

impl Realm {
    fn of(workers: impl IntoIterator<Item = Slots>) -> Self {
        let turn = Turn { now: Time(1_000), epoch: 2, ..Turn::default() };
        let mut realm = Self { router: Router::new(), turn };
        for slots in workers {
            realm.take(Message::Offered(offered(slots)));
        }
        realm
    }

    fn take(&mut self, message: Message) {
        self.router.receive(&mut self.turn, message);
        self.router.check_invariants().unwrap();
    }

    fn put(&mut self, meta: IntentMeta) {
        self.turn.messages.clear();
        self.turn.effects.clear();
        let (meta, asset, recovered) = (Arc::new(meta).into(), Asset::Grant, false);
        self.take(Message::Enqueue { meta, asset, recovered });
    }

    /// Whose worker serves it, or why nobody does.
    #[expect(clippy::wildcard_enum_match_arm, reason = "a test looks for one of all")]
    fn asked(&mut self, meta: IntentMeta) -> Result<(AccountId, TrustClass), Rejection> {
        self.put(meta);
        let refused = self.turn.messages.iter().find_map(|envelope| match &envelope.message {
            Message::Resolve(resolution) => resolution.rejection.clone(),
            _ => None,
        });
        let served = self.turn.effects.iter().find_map(|(_, effect)| match effect {
            Effect::Assign(assignment) => Some((assignment.owner, assignment.class)),
            _ => None,
        });
        refused.map_or_else(|| Ok(served.expect("a slot is free")), Err)
    }
}

#[test]
fn a_cheaper_stranger_gets_nothing_of_the_realms_own_model() {
    let mut realm = Realm::of([
        offers(1, REALM, TrustClass::Own, "m", 5),
        offers(2, GUEST, TrustClass::Probation, "m", 1),
    ]);
    for number in 0..3 {
        let served = realm.asked(asks(number, "m", Trust::default()));
        assert_eq!(served, Ok((REALM, TrustClass::Own)));
    }
    let chosen = realm.asked(asks(9, &owned("m", GUEST), Trust::Any));
    assert_eq!(chosen, Ok((GUEST, TrustClass::Probation)), "who names it has chosen it");
}

#[test]
fn an_owner_that_is_named_is_the_only_one_whatever_its_workers_are() {
    for class in [TrustClass::Proven, TrustClass::Probation] {
        let mut realm = Realm::of([
            offers(1, REALM, TrustClass::Own, "m", 1),
            offers(2, OTHER, TrustClass::Probation, "m", 1),
            offers(3, GUEST, class, "m", 9),
        ]);
        assert_eq!(realm.asked(asks(1, &owned("m", GUEST), Trust::Any)), Ok((GUEST, class)));
        assert_eq!(realm.asked(asks(2, &owned("m", REALM), Trust::Any)), Err(Rejection::NoWorker));
        assert_eq!(realm.asked(asks(3, &owned("n", GUEST), Trust::Any)), Err(Rejection::NoWorker));
    }
}

#[test]
fn the_name_is_there_as_long_as_its_owner_offers_it() {
    let name = owned("m", GUEST);
    let mut realm = Realm::of([offers(2, GUEST, TrustClass::Probation, "m", 1)]);
    assert!(realm.asked(asks(1, &name, Trust::Any)).is_ok());
    realm.take(Message::Offered(offered(offers(2, OTHER, TrustClass::Probation, "m", 1))));
    assert_eq!(realm.asked(asks(2, &name, Trust::Any)), Err(Rejection::NoWorker));
    assert_eq!(
        realm.asked(asks(3, &owned("m", OTHER), Trust::Any)),
        Ok((OTHER, TrustClass::Probation))
    );
    realm.take(lost(2));
    assert_eq!(realm.asked(asks(4, &owned("m", OTHER), Trust::Any)), Err(Rejection::NoWorker));
}

fn lost(number: u8) -> Message {
    let (worker, session) = (WorkerId([number; 32]), SessionId(number.into()));
    Message::SessionLost { worker, session }
}

#[test]
fn who_finds_only_strangers_is_told_so() {
    let mut realm = Realm::of([offers(2, GUEST, TrustClass::Probation, "m", 1)]);
    assert_eq!(realm.asked(asks(1, "m", Trust::Proven)), Err(Rejection::NotProven));
    assert_eq!(realm.asked(asks(2, "m", Trust::Own)), Err(Rejection::NoWorker));
    assert_eq!(realm.asked(asks(3, "n", Trust::Proven)), Err(Rejection::NoWorker));
    let nameless = IntentMeta { model: None, ..asks(4, "", Trust::Proven) };
    assert_eq!(realm.asked(nameless.clone()), Err(Rejection::NotProven));
    let any = IntentMeta { trust: Trust::Any, id: IntentId([5; 16]), ..nameless };
    assert_eq!(realm.asked(any), Ok((GUEST, TrustClass::Probation)));
}

fn parties(router: &Router) -> Vec<(Option<String>, TrustClass, AccountId)> {
    let pools = router.pools_view(None, usize::MAX, Time(9_000)).0.into_iter();
    let rows = pools.flat_map(|pool| {
        let model = pool.model;
        pool.parties.into_iter().map(move |party| (model.clone(), party.class, party.owner))
    });
    rows.collect()
}

#[test]
fn the_view_tells_whose_they_are_and_figures_are_of_those_who_are_meant() {
    let realm = Realm::of([
        offers(4, GUEST, TrustClass::Probation, "m", 1),
        offers(3, OTHER, TrustClass::Proven, "m", 3),
        offers(1, REALM, TrustClass::Own, "m", 5),
        offers(2, REALM, TrustClass::Own, "m", 4),
        offers(5, GUEST, TrustClass::Probation, "n", 1),
    ]);
    let m = || Some("m".to_owned());
    assert_eq!(
        parties(&realm.router),
        [
            (m(), TrustClass::Own, REALM),
            (m(), TrustClass::Proven, OTHER),
            (m(), TrustClass::Probation, GUEST),
            (Some("n".to_owned()), TrustClass::Probation, GUEST),
        ],
        "and a name with its owner is no row of its own"
    );
    let pools = realm.router.pools_view(None, usize::MAX, Time(9_000)).0;
    let of = |class: TrustClass| pools[0].figures(|party| party.class <= class);
    let figures = |class| of(class).map(|of| (of.class, of.price.amount, of.slots));
    let own = TrustClass::Own;
    assert_eq!(figures(own), Some((own, Amount::from_u64(4), 8)));
    assert_eq!(figures(TrustClass::Proven), Some((own, Amount::from_u64(3), 12)));
    assert_eq!(figures(TrustClass::Probation), Some((own, Amount::from_u64(1), 16)));
    assert_eq!(pools[1].figures(|party| party.class < TrustClass::Probation), None);
}

proptest! {
    /// Workers come, change their owner and standing, and go; work runs and ends. What is shown is
    /// what a recount of the workers gives.
    #[test]
    fn what_is_shown_is_what_is_there(
        steps in prop::collection::vec((0_u8..5, 0_u8..4, 0_u8..3, 0_u8..3, any::<bool>()), 1..60)
    ) {
        let classes = [TrustClass::Own, TrustClass::Proven, TrustClass::Probation];
        let mut realm = Realm::of([]);
        let mut there = std::collections::BTreeMap::new();
        for (number, (worker, owner, class, model, stays)) in (0_u8..).zip(steps) {
            let (owner, class) = (AccountId([owner; 32]), classes[usize::from(class)]);
            let model = ["a", "b", "c@abcd1234"][usize::from(model)];
            if stays {
                realm.take(Message::Offered(offered(offers(worker, owner, class, model, 1))));
                there.insert(worker, (Some(model.to_owned()), class, owner));
            } else {
                realm.take(lost(worker));
                there.remove(&worker);
            }
            realm.turn.now = realm.turn.now.after_ms(100);
            realm.put(asks(number, model, Trust::Any));
            let expected: std::collections::BTreeSet<_> = there.values().cloned().collect();
            let expected: Vec<_> = expected.into_iter().collect();
            prop_assert_eq!(parties(&realm.router), expected);
        }
    }
}
