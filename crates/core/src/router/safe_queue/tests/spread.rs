//! Many pools and many names: what gains nothing.

use proptest::prelude::{ProptestConfig, prop, proptest};

use super::sim::{Feed, Pair, Sim, Who};
use super::*;

fn feed(branch: u64, account: u64, pools: &[u32], cost: (u64, u64)) -> Feed {
    Feed { branch, account, class: Class::Interactive, pools: pools.to_vec(), cost }
}

fn accounts(f: u64, g: u64) -> Pair {
    Pair::new((Who::Account(0, f), 1), (Who::Account(0, g), 1))
}

#[test]
fn an_account_in_five_pools_gets_what_an_account_in_one_gets() {
    let pools = [0, 1, 2, 3, 4];
    let q = queue(ROOMY, &pools);
    let feeds = vec![feed(0, 0, &pools, (50, 500)), feed(0, 1, &[0], (50, 500))];
    let mut sim = Sim::new(q, feeds, 10, 11);
    let mut pair = accounts(0, 1);
    for _ in 0..5_000 {
        sim.refill(2);
        sim.dispatch(&pools);
        pair.look(&sim);
        if sim.outstanding() >= 6 {
            sim.complete();
            pair.look(&sim);
        }
    }
    pair.check(&sim, 6);
}

/// One item at a time, each in another pool than the one before and each costing a hundred times its
/// estimate: the debt is in the pools that were left, and must follow.
#[test]
fn hopping_from_pool_to_pool_sheds_no_debt() {
    let mut q = queue(ROOMY, &[0, 1, 2, 3, 4]);
    let all_pools: Vec<PoolId> = (0..5).map(lone).collect();
    let (hopper, other) = (flow(0, 0), flow(0, 1));
    let (mut served, mut waiting) = ([0u32; 2], [0u32; 2]);
    for n in 0..2_000u64 {
        if waiting[0] == 0 {
            q.enqueue(item(n, (n % 5) as u32, hopper, 1)).unwrap();
            waiting[0] = 1;
        }
        if waiting[1] < 2 {
            q.enqueue(item(10_000 + n, 0, other, 100)).unwrap();
            waiting[1] += 1;
        }
        let got = q.dispatch(&all_pools).unwrap();
        q.finish(got.charge, 100);
        let who = usize::from(got.item.flow == other);
        waiting[who] -= 1;
        served[who] += 1;
        assert!(served[0].abs_diff(served[1]) <= 2, "{served:?}");
    }
}

#[test]
fn inventing_accounts_gains_nothing_against_the_realms_weight() {
    let mut q = queue(ROOMY, &[0]);
    q.set_weight(Weighted::Branch(key(0)), 3);
    let feeds = vec![feed(0, 0, &[0], (100, 300)), feed(1, 0, &[], (100, 300))];
    let mut sim = Sim::new(q, feeds, 4, 2);
    let mut pair = Pair::new((Who::Realm(0), 3), (Who::Realm(1), 1));
    for n in 0..4_000u64 {
        sim.refill(2);
        // A new name for every item of the foreign branch, fifty of them waiting.
        sim.feeds[1].account = n;
        sim.put(1, 0);
        sim.put(1, 0);
        sim.dispatch(&[0]);
        pair.look(&sim);
        if sim.outstanding() >= 4 {
            sim.complete();
            pair.look(&sim);
        }
    }
    pair.check(&sim, 4);
}

/// Slots for pool 0 only, and slots for both: who is in pool 1 only gets the shared ones, so that both
/// have the same in all.
#[test]
fn service_in_one_pool_counts_in_the_others() {
    let mut q = queue(ROOMY, &[0, 1]);
    serve(&mut q, WorkerKey(2), &[lone(0)]);
    let feeds = vec![feed(0, 0, &[0, 1], (100, 100)), feed(0, 1, &[1], (100, 100))];
    let mut sim = Sim::new(q, feeds, 1, 5);
    for _ in 0..1_000 {
        sim.refill(3);
        sim.dispatch(&[0]);
        sim.dispatch(&[0, 1]);
        sim.complete();
        sim.complete();
    }
    let (f, g) = (sim.served[0], sim.served[1]);
    assert!(f.abs_diff(g) <= 4, "{f} against {g}");
}

/// Pool 0 is served ten times as fast as pool 1. Account 0 waits in the slow one meanwhile, then comes
/// to the fast one as well: its wait is no credit there.
#[test]
fn waiting_in_a_slow_pool_earns_no_credit_in_a_fast_one() {
    let horizon = 1_000;
    let mut q = queue(QueueLimits { horizon, ..ROOMY }, &[0, 1]);
    serve(&mut q, WorkerKey(2), &[lone(0)]);
    serve(&mut q, WorkerKey(3), &[lone(1)]);
    let slow: Vec<Feed> = (10..30).map(|a| feed(0, a, &[1], (100, 100))).collect();
    let mut feeds = vec![feed(0, 0, &[1], (100, 100)), feed(0, 1, &[0], (100, 100))];
    feeds.extend(slow);
    let mut sim = Sim::new(q, feeds, 1, 9);
    for _ in 0..500 {
        sim.refill(2);
        for _ in 0..10 {
            sim.dispatch(&[0]);
            sim.complete();
        }
        sim.dispatch(&[1]);
        sim.complete();
    }
    sim.feeds[0].pools = vec![0, 1];
    let before = (sim.served[0], sim.served[1]);
    for _ in 0..100 {
        sim.refill(2);
        sim.dispatch(&[0]);
        sim.complete();
    }
    let (f, g) = (sim.served[0] - before.0, sim.served[1] - before.1);
    assert!(f.abs_diff(g) <= 2, "{f} against {g}");
}

/// The other way: having used a fast pool that nobody else wanted is held against a flow in the slow
/// pool for at most a horizon.
#[test]
fn using_a_fast_pool_is_remembered_for_a_horizon() {
    let horizon = 1_000;
    let mut q = queue(QueueLimits { horizon, ..ROOMY }, &[0, 1]);
    serve(&mut q, WorkerKey(2), &[lone(0)]);
    serve(&mut q, WorkerKey(3), &[lone(1)]);
    let feeds = vec![feed(0, 0, &[0, 1], (100, 100)), feed(0, 1, &[1], (100, 100))];
    let mut sim = Sim::new(q, feeds, 1, 9);
    for n in 0..1_000 {
        sim.refill(2);
        sim.dispatch(&[0]);
        sim.complete();
        if n % 10 == 0 {
            sim.dispatch(&[1]);
            sim.complete();
        }
    }
    let before = (sim.served[0], sim.served[1]);
    sim.feeds[0].pools = vec![1];
    for _ in 0..100 {
        sim.refill(2);
        sim.dispatch(&[1]);
        sim.complete();
    }
    let (f, g) = (sim.served[0] - before.0, sim.served[1] - before.1);
    assert!(f < g, "it owes something: {f} against {g}");
    assert!(g - f <= horizon / 100 + 2, "but not for ever: {f} against {g}");
}

/// Pools that drifted apart while each had slots of its own: when they meet in one slot, the slower one
/// goes first for a horizon, not until it has made up for everything.
#[test]
fn pools_that_meet_remember_a_horizon() {
    let mut q = queue(QueueLimits { horizon: 1_000, ..ROOMY }, &[0, 1]);
    serve(&mut q, WorkerKey(2), &[lone(0)]);
    serve(&mut q, WorkerKey(3), &[lone(1)]);
    let feeds = vec![feed(0, 0, &[0], (100, 100)), feed(0, 1, &[1], (100, 100))];
    let mut sim = Sim::new(q, feeds, 1, 9);
    sim.refill(2);
    sim.dispatch(&[1]);
    for _ in 0..500 {
        sim.refill(2);
        sim.dispatch(&[0]);
        sim.complete();
    }
    let mut first = 0;
    sim.refill(50);
    while sim.dispatch(&[0, 1]) == Some(1) {
        first += 1;
    }
    assert!((9..=12).contains(&first), "{first} of 100 in a row");
}

/// A charge from elsewhere stops at the horizon; corrections of it take back no more than it added.
#[test]
fn what_the_horizon_kept_off_is_not_refunded() {
    let mut q = queue(QueueLimits { horizon: 10, ..ROOMY }, &[0, 1]);
    for n in 0..3 {
        q.enqueue(item(n, 0, flow(0, 0), 100)).unwrap();
        q.enqueue(item(10 + n, 1, flow(0, 0), 100)).unwrap();
    }
    let start = |q: &SafeQueue| {
        let branch = q.tree.index[&(tree::ROOT, key(0))];
        q.tree.seats.get(q.tree.seat_of(branch, lone(1)).unwrap()).unwrap().start >> 32
    };
    q.dispatch(&[lone(0)]).unwrap();
    let second = q.dispatch(&[lone(0)]).unwrap();
    assert_eq!(start(&q), 10);
    for so_far in [50, 20, 0, 70] {
        q.correct(second.charge, so_far);
        assert_eq!(start(&q), 10, "at {so_far}");
    }
}

#[test]
fn idling_earns_no_credit() {
    let q = queue(ROOMY, &[0]);
    let feeds = vec![feed(0, 0, &[], (100, 100)), feed(0, 1, &[0], (100, 100))];
    let mut sim = Sim::new(q, feeds, 3, 4);
    for _ in 0..1_000 {
        sim.refill(2);
        sim.dispatch(&[0]);
        sim.complete();
    }
    sim.feeds[0].pools = vec![0];
    let mut pair = accounts(0, 1);
    sim.service.clear();
    for _ in 0..1_000 {
        sim.refill(2);
        sim.dispatch(&[0]);
        pair.look(&sim);
        sim.complete();
        pair.look(&sim);
    }
    pair.check(&sim, 1);
}

/// Nothing queued but one long item in flight: that is idle too, and when the item turns out to have
/// cost nothing, what the lift forgave is not refunded on top.
#[test]
fn an_item_in_flight_keeps_no_credit() {
    let mut q = queue(ROOMY, &[0]);
    q.enqueue(item(1, 0, flow(0, 0), 100_000)).unwrap();
    let long = q.dispatch(&[lone(0)]).unwrap();
    for n in 10..2_000 {
        q.enqueue(item(n, 0, flow(0, 1), 1_000)).unwrap();
    }
    for _ in 0..1_000 {
        let got = q.dispatch(&[lone(0)]).unwrap();
        q.finish(got.charge, 1_000);
    }
    for n in 5_000..6_000 {
        q.enqueue(item(n, 0, flow(0, 0), 1_000)).unwrap();
    }
    q.finish(long.charge, 0);
    let mut ours = 0;
    for _ in 0..100 {
        let got = q.dispatch(&[lone(0)]).unwrap();
        ours += u32::from(got.item.flow == flow(0, 0));
        q.finish(got.charge, 1_000);
    }
    assert!((49..=51).contains(&ours), "{ours} of 100");
}

/// Slots of random kinds. Two accounts that are both in a pool that every slot serves (pool 0) keep to
/// the bound, widened by what the horizon lets pools remember, whatever else they are in.
fn overlapping(seed: u64, slots: u64, kinds: &[Vec<u32>], horizon: u64) {
    let mut dice = Dice(seed);
    let mut q = SafeQueue::new(QueueLimits { horizon, ..ROOMY });
    let kinds: Vec<Vec<u32>> = kinds.iter().map(|k| [vec![0], k.clone()].concat()).collect();
    for (n, kind) in (0u64..).zip(&kinds) {
        let pools: Vec<PoolId> = kind.iter().copied().map(lone).collect();
        serve(&mut q, WorkerKey(n), &pools);
    }
    let mut feeds = Vec::new();
    for account in 0..4 {
        let mut pools = vec![0];
        pools.extend((1..5).filter(|_| dice.chance(40)));
        let low = dice.range(1, 100);
        feeds.push(feed(0, account, &pools, (low, low * 10)));
    }
    let mut sim = Sim::new(q, feeds, 10, dice.next());
    let mut pairs: Vec<Pair> =
        (0..4).flat_map(|f| (f + 1..4).map(move |g| accounts(f, g))).collect();
    for _ in 0..150 {
        while (sim.outstanding() as u64) < slots {
            sim.refill(2);
            let kind = dice.range(0, kinds.len() as u64 - 1) as usize;
            assert!(sim.dispatch(&kinds[kind]).is_some());
            pairs.iter_mut().for_each(|p| p.look(&sim));
        }
        sim.complete();
        pairs.iter_mut().for_each(|p| p.look(&sim));
    }
    sim.q.check_invariants().unwrap();
    pairs.iter().for_each(|p| p.check_with(&sim, slots, 4 * horizon));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(50))]

    #[test]
    fn overlapping_slots_keep_to_the_wider_bound(
        seed: u64,
        slots in 1u64..8,
        kinds in prop::collection::vec(prop::collection::vec(1u32..5, 0..4), 1..4),
        horizon in 0u64..5_000,
    ) {
        overlapping(seed, slots, &kinds, horizon);
    }
}
