//! The bound of SFQ at every level, proportion over the long run, work conservation, no starvation.

use proptest::prelude::{Just, ProptestConfig, prop, prop_assert_eq, prop_oneof, proptest};

use super::sim::{Feed, Pair, Sim, Who};
use super::*;

struct Shape {
    branches: Vec<u32>,
    accounts: Vec<Vec<u32>>,
    feeds: Vec<Feed>,
}

fn shape(dice: &mut Dice, pools: &[u32]) -> Shape {
    let mut s = Shape { branches: Vec::new(), accounts: Vec::new(), feeds: Vec::new() };
    for branch in 0..dice.range(1, 3) {
        s.branches.push(dice.range(1, 9) as u32);
        let mut accounts = Vec::new();
        for account in 0..dice.range(1, 3) {
            accounts.push(dice.range(1, 9) as u32);
            for class in [Class::Interactive, Class::Batch] {
                let low = dice.range(1, 2_000);
                let cost = (low, low * dice.range(1, 10));
                let mut own: Vec<u32> = pools.iter().copied().filter(|_| dice.chance(60)).collect();
                if own.is_empty() {
                    own.push(pools[0]);
                }
                s.feeds.push(Feed { branch, account, class, pools: own, cost });
            }
        }
        s.accounts.push(accounts);
    }
    s
}

fn pairs(shape: &Shape) -> Vec<Pair> {
    let mut pairs = Vec::new();
    for (f, wf) in shape.branches.iter().enumerate() {
        for (g, wg) in shape.branches.iter().enumerate().skip(f + 1) {
            pairs.push(Pair::new((Who::Realm(f as u64), *wf), (Who::Realm(g as u64), *wg)));
        }
    }
    for (r, accounts) in shape.accounts.iter().enumerate() {
        let r = r as u64;
        for (f, wf) in accounts.iter().enumerate() {
            for (g, wg) in accounts.iter().enumerate().skip(f + 1) {
                let (f, g) = (Who::Account(r, f as u64), Who::Account(r, g as u64));
                pairs.push(Pair::new((f, *wf), (g, *wg)));
            }
            let leaf = |class: Class| (Who::Leaf(r, f as u64, class), class.weight());
            pairs.push(Pair::new(leaf(Class::Interactive), leaf(Class::Batch)));
        }
    }
    pairs
}

fn weighted(shape: &Shape, pools: &[u32], horizon: u64) -> SafeQueue {
    let mut q = queue(QueueLimits { horizon, ..ROOMY }, pools);
    for (r, w) in shape.branches.iter().enumerate() {
        q.set_weight(Weighted::Branch(key(r as u64)), *w);
        for (a, w) in shape.accounts[r].iter().enumerate() {
            let (branch, account) = (key(r as u64), key(a as u64));
            q.set_weight(Weighted::Account { branch, account }, *w);
        }
    }
    q
}

/// One run with every flow backlogged in random pools, all slots serving all pools.
fn bound_holds(
    seed: u64,
    slots: u64,
    pools: u32,
    wrong: u64,
    rounds: u64,
    horizon: u64,
    roam: bool,
) {
    let mut dice = Dice(seed);
    let pools: Vec<u32> = (0..pools).collect();
    let shape = shape(&mut dice, &pools);
    let mut pairs = pairs(&shape);
    let q = weighted(&shape, &pools, horizon);
    let mut sim = Sim::new(q, shape.feeds, wrong, dice.next());
    for _ in 0..rounds {
        while (sim.outstanding() as u64) < slots {
            // More than one dispatch can take, so that nobody goes idle in between.
            if roam {
                sim.refill_somewhere(2)
            } else {
                sim.refill(2)
            }
            assert!(sim.dispatch(&pools).is_some(), "a slot idles while items wait");
            pairs.iter_mut().for_each(|p| p.look(&sim));
        }
        if sim.dice.chance(40) {
            sim.meter();
            pairs.iter_mut().for_each(|p| p.look(&sim));
        }
        for _ in 0..sim.dice.range(1, slots) {
            sim.complete();
            pairs.iter_mut().for_each(|p| p.look(&sim));
        }
    }
    sim.q.check_invariants().unwrap();
    pairs.iter().for_each(|p| p.check(&sim, slots));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_bound_holds_at_every_level(
        seed: u64,
        slots in 1u64..12,
        pools in 1u32..4,
        wrong in 1u64..=10,
        horizon in prop_oneof![Just(0u64), Just(100), Just(600_000)],
        roam: bool,
    ) {
        bound_holds(seed, slots, pools, wrong, 80, horizon, roam);
    }
}

#[test]
fn long_run_service_follows_the_weights() {
    let mut q = queue(ROOMY, &[0]);
    let weights = [1u32, 2, 5];
    let mut feeds = Vec::new();
    for (branch, w) in (0u64..).zip(weights) {
        q.set_weight(Weighted::Branch(key(branch)), w);
        let cost = (100 * (branch + 1), 1_000);
        feeds.push(Feed { branch, account: 0, class: Class::Batch, pools: vec![0], cost });
    }
    let mut sim = Sim::new(q, feeds, 10, 7);
    for _ in 0..20_000 {
        sim.refill(2);
        sim.dispatch(&[0]);
        if sim.outstanding() >= 8 {
            sim.complete();
        }
    }
    let per_weight: Vec<i128> = (0u64..)
        .zip(weights)
        .map(|(branch, w)| sim.service(Who::Realm(branch)) / i128::from(w))
        .collect();
    let (least, most) = (per_weight.iter().min().unwrap(), per_weight.iter().max().unwrap());
    assert!((most - least) * 100 <= *most * 4, "{per_weight:?}");
}

#[test]
fn interactive_gets_four_fifths_of_its_account() {
    let q = queue(ROOMY, &[0]);
    let feed = |class| Feed { branch: 0, account: 0, class, pools: vec![0], cost: (100, 100) };
    let feeds = vec![feed(Class::Interactive), feed(Class::Batch)];
    let mut sim = Sim::new(q, feeds, 1, 1);
    for _ in 0..1_000 {
        sim.refill(1);
        sim.dispatch(&[0]);
        sim.complete();
    }
    assert_eq!(sim.served, vec![800, 200]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Whatever was enqueued is dispatched by as many slots of the right kind: nothing is lost and no
    /// slot idles while something it serves waits.
    #[test]
    fn work_is_conserved(
        items in prop::collection::vec((0u64..3, 0u64..3, 0u32..4, 1u64..5_000), 1..150),
        kinds in prop::collection::vec(prop::collection::btree_set(0u32..4, 1..4), 1..5),
    ) {
        let mut q = SafeQueue::new(ROOMY);
        for (n, kind) in (0u64..).zip(&kinds) {
            let pools: Vec<PoolId> = kind.iter().copied().map(lone).collect();
            serve(&mut q, WorkerKey(n), &pools);
        }
        for (n, (branch, account, pool, cost)) in (0u64..).zip(&items) {
            q.enqueue(item(n, *pool, flow(*branch, *account), *cost)).unwrap();
        }
        let mut turn = 0;
        let mut idle_in_a_row = 0;
        while idle_in_a_row < kinds.len() {
            let kind = &kinds[turn % kinds.len()];
            turn += 1;
            let pools: Vec<PoolId> = kind.iter().copied().map(lone).collect();
            let waiting = pools.iter().any(|p| q.depth(*p) > 0);
            let got = q.dispatch(&pools);
            prop_assert_eq!(got.is_some(), waiting);
            q.check_invariants().unwrap();
            idle_in_a_row = if waiting { 0 } else { idle_in_a_row + 1 };
        }
        let left: usize = items
            .iter()
            .filter(|i| !kinds.iter().any(|k| k.contains(&i.2)))
            .count();
        prop_assert_eq!(q.len(), left);
    }
}

/// A light flow among heavy ones, old and new, is served within the time its share implies.
#[test]
fn nobody_starves() {
    let mut q = queue(ROOMY, &[0]);
    q.set_weight(Weighted::Branch(key(0)), 1);
    q.set_weight(Weighted::Branch(key(1)), 100);
    let mut dice = Dice(3);
    let mut n = 1;
    q.enqueue(item(0, 0, flow(0, 0), 1_000)).unwrap();
    // The item has S = 0: others pass it only while their S is 0 too, one item an account.
    let mut before = 0;
    loop {
        for account in 0..20 {
            n += 1;
            q.enqueue(item(n, 0, flow(1, dice.range(account, account + 1_000)), 1_000)).unwrap();
        }
        let got = q.dispatch(&[lone(0)]).unwrap();
        q.finish(got.charge, 1_000);
        if got.item.id == id(0) {
            break;
        }
        before += 1;
        assert!(before <= 100, "a hundred items of weight 100 weigh what this one does");
    }
}

/// Ten accounts that have never been seen before always wait. The old one still gets a share of the
/// order of an eleventh, and what the others leave behind is not kept.
#[test]
fn a_stream_of_newcomers_starves_nobody() {
    let mut q = queue(ROOMY, &[0]);
    let mut most = 0;
    let mut ours = 0;
    for n in 0..5_000u64 {
        q.enqueue(item(n, 0, flow(0, 100 + n), 100)).unwrap();
        if n < 10 {
            q.enqueue(item(10_000 + n, 0, flow(0, 0), 100)).unwrap();
            continue;
        }
        let got = q.dispatch(&[lone(0)]).unwrap();
        q.finish(got.charge, 100);
        if got.item.flow == flow(0, 0) {
            ours += 1;
            q.enqueue(item(20_000 + n, 0, flow(0, 0), 100)).unwrap();
            // Keep ten strangers waiting, not ever more.
            let more = q.dispatch(&[lone(0)]).unwrap();
            q.finish(more.charge, 100);
        }
        most = most.max(q.flows());
    }
    assert!(ours >= 5_000 / 11 / 2, "{ours} of 5,000");
    assert!(most <= 2 * 2 * 25, "{most} seats for some twenty items");
    assert!(q.depth(lone(0)) < 40);
}
