//! Slots that several offers share.

use super::*;

fn offer(model: &str, slots: u32, price: u64, group: Option<&str>) -> SlotOffer {
    let price = Price { amount: Amount::from_u64(price), per: 1 };
    SlotOffer {
        intent: "chat".into(),
        model: Some(model.into()),
        slots,
        price,
        band: Band::of_offer(price.amount, LIST).unwrap(),
        context: None,
        group: group.map(Into::into),
    }
}

fn join(world: &mut World, worker: WorkerId, offers: Vec<SlotOffer>) {
    world.take(Message::Offered(offered(Slots { own: true, ..session_of(worker, 1, offers) })));
}

fn of(number: u8, account: u8, model: &str) -> IntentMeta {
    let (name, account) = ("chat".into(), AccountId([account; 32]));
    IntentMeta { name, model: Some(model.into()), account, ..meta(number) }
}

fn told(world: &World) -> Vec<(String, u64, u64)> {
    let (rows, _) = world.router.pools_view(None, usize::MAX, Time(9_000));
    let row = |row: PoolView| {
        let figures = row.figures(|_| true).unwrap();
        (row.model.unwrap(), figures.slots, figures.busy)
    };
    rows.into_iter().map(row).collect()
}

#[test]
fn what_is_told_of_a_model_is_how_much_of_its_slots_is_taken_by_whatever_shares_them() {
    let mut world = World::new();
    let both = || vec![offer("a", 4, 1, Some("gpu")), offer("b", 4, 1, Some("gpu"))];
    join(&mut world, A, both());
    world.put(of(1, 1, "a"), false);
    world.put(of(2, 1, "a"), false);
    let row = |model: &str, slots, busy| (model.to_owned(), slots, busy);
    assert_eq!(told(&world), [row("a", 4, 2), row("b", 4, 2)]);
    // A second price is no second backend, nor is the same model in a second group the same one.
    join(&mut world, A, [both(), vec![offer("b", 4, 2, Some("gpu"))]].concat());
    assert_eq!(told(&world), [row("a", 4, 2), row("b", 4, 2)]);
    join(&mut world, B, [both(), vec![offer("b", 3, 1, Some("other"))]].concat());
    assert_eq!(told(&world), [row("a", 8, 2), row("b", 11, 2)]);
    world.take(Message::SessionLost { worker: B, session: SessionId(1) });
    assert_eq!(told(&world), [row("a", 4, 2), row("b", 4, 2)]);
    for grant in world.granted() {
        world.end(&grant, Why::Completed(Reason::Done));
    }
    assert_eq!(told(&world), [row("a", 4, 0), row("b", 4, 0)]);
}

#[test]
fn an_assignment_says_which_group_it_takes_a_slot_of() {
    let mut world = World::new();
    join(&mut world, A, vec![offer("a", 1, 1, Some("gpu")), offer("b", 1, 1, None)]);
    world.put(of(1, 1, "a"), false);
    world.put(of(2, 1, "b"), false);
    let groups: Vec<_> = world.granted().into_iter().map(|grant| grant.group).collect();
    assert_eq!(groups, [Some("gpu".to_owned()), None]);
}

/// Which of two backends is called what must decide nothing.
#[test]
fn a_new_workers_slots_go_to_who_is_due_and_not_to_the_first_name() {
    let served = |first: &str, second: &str| {
        let mut world = World::new();
        // Both kinds are known, and all slots of them are taken.
        let all = vec![offer("p", 1, 1, Some("busy")), offer("q", 1, 1, Some("busy"))];
        join(&mut world, A, all);
        world.put(of(1, 9, "p"), false);
        world.granted();
        // One account asks for both, another for the second only, and comes later.
        for (number, account, model) in [(2, 1, "q"), (3, 1, "p"), (4, 2, "q")] {
            world.put(of(number, account, model), false);
        }
        let slots = vec![offer("p", 1, 1, Some(first)), offer("q", 1, 1, Some(second))];
        join(&mut world, B, slots);
        let granted = world.granted().into_iter().map(|grant| grant.meta.id.0[0]);
        granted.collect::<Vec<u8>>()
    };
    assert_eq!(served("x", "y"), served("y", "x"));
}

/// Of two backends that can, the one that could do less else: the other is there for that.
#[test]
fn a_slot_that_serves_less_goes_first() {
    let mut world = World::new();
    join(&mut world, A, vec![offer("p", 1, 1, Some("busy")), offer("q", 1, 1, Some("busy"))]);
    world.put(of(1, 9, "p"), false);
    world.granted();
    world.put(of(2, 1, "p"), false);
    world.put(of(3, 1, "q"), false);
    let wide = [offer("p", 1, 1, Some("wide")), offer("q", 1, 1, Some("wide"))];
    join(&mut world, B, [&wide[..], &[offer("p", 1, 1, Some("narrow"))]].concat());
    assert_eq!(world.granted().len(), 2);
}
