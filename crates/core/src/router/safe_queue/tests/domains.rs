//! Domains: who shares counters, and what merging and splitting leave untouched.

use std::collections::BTreeMap;

use proptest::prelude::{ProptestConfig, proptest};

use super::sim::{Feed, Sim, Who};
use super::*;

/// S − V of every seat below the root.
fn lags(q: &SafeQueue) -> BTreeMap<(usize, PoolId), i128> {
    let lag = |s: &tree::Seat| -> Option<i128> {
        let up = q.tree.seats.get(s.up)?;
        Some(i128::try_from(s.start).unwrap() - i128::try_from(up.clock).unwrap())
    };
    q.tree.seats.iter().filter_map(|(_, s)| Some(((s.node, s.pool), lag(s)?))).collect()
}

fn line(q: &SafeQueue, pool: u32) -> u128 {
    let seat = q.tree.seat_of(tree::ROOT, lone(pool)).unwrap();
    q.tree.seats.get(seat).unwrap().clock_on_line()
}

fn feed(account: u64, pools: &[u32]) -> Feed {
    Feed {
        branch: account % 2,
        account,
        class: Class::Batch,
        pools: pools.to_vec(),
        cost: (10, 1_000),
    }
}

fn two_domains(seed: u64) -> Sim {
    let mut q = queue(ROOMY, &[0, 1]);
    serve(&mut q, WorkerKey(2), &[lone(2), lone(3)]);
    let feeds = vec![feed(0, &[0, 2]), feed(1, &[1]), feed(2, &[2, 3]), feed(3, &[0, 3])];
    let mut sim = Sim::new(q, feeds, 10, seed);
    for _ in 0..60 {
        let depth = sim.dice.range(0, 2);
        sim.refill(depth);
        let fast = sim.dice.chance(90);
        sim.dispatch(if fast { &[0, 1] } else { &[2, 3] });
        if sim.outstanding() > 4 {
            sim.complete();
        }
    }
    sim
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(50))]

    /// Merging, and splitting again, carries every lag over exactly, and brings the most advanced
    /// clocks of both together.
    #[test]
    fn merging_and_splitting_keep_every_lag(seed: u64) {
        let mut sim = two_domains(seed);
        sim.refill(1);
        let before = lags(&sim.q);
        serve(&mut sim.q, WorkerKey(3), &[lone(1), lone(2)]);
        sim.q.check_invariants().unwrap();
        assert_eq!(lags(&sim.q), before);
        let (left, right) = (line(&sim.q, 0).max(line(&sim.q, 1)), line(&sim.q, 2).max(line(&sim.q, 3)));
        assert_eq!(left, right);
        leave(&mut sim.q, WorkerKey(3));
        sim.q.check_invariants().unwrap();
        assert_eq!(lags(&sim.q), before);
    }

    /// Whatever happens in between, the queue stays whole and everything outstanding can be closed.
    #[test]
    fn merging_and_splitting_at_any_time_is_sound(seed: u64) {
        let mut sim = two_domains(seed);
        for n in 0..60 {
            let worker = WorkerKey(sim.dice.range(2, 4));
            let (a, b) = (sim.dice.range(0, 3) as u32, sim.dice.range(0, 3) as u32);
            match n % 3 {
                0 => serve(&mut sim.q, worker, &[lone(a), lone(b)]),
                1 => leave(&mut sim.q, worker),
                _ => sim.meter(),
            }
            let depth = sim.dice.range(0, 1);
            sim.refill(depth);
            sim.dispatch(&[a]);
            if sim.dice.chance(60) {
                sim.complete();
            }
            sim.q.check_invariants().unwrap();
        }
        while sim.outstanding() > 0 {
            sim.complete();
        }
        while (0..4).any(|p| sim.dispatch(&[p]).is_some()) {
            sim.complete();
        }
        sim.q.check_invariants().unwrap();
        assert_eq!(sim.q.flows(), 0, "nothing open, nothing owed, nothing remembered");
    }
}

#[test]
fn domains_are_the_connected_components() {
    let mut d = Domains::default();
    let mut tree = Tree::new(0);
    let kinds = |list: &[u64]| -> Vec<KindId> { list.iter().copied().map(KindId).collect() };
    let names = |d: &Domains| (4..10).map(|n| d.of(KindId(n)).0).collect::<Vec<_>>();
    d.link(&mut tree, WorkerKey(1), &kinds(&[5, 4]));
    d.link(&mut tree, WorkerKey(3), &kinds(&[7, 8]));
    assert_eq!(names(&d), [4, 4, 6, 7, 7, 9]);
    d.link(&mut tree, WorkerKey(2), &kinds(&[4, 9]));
    d.link(&mut tree, WorkerKey(4), &kinds(&[8, 7, 7]));
    assert_eq!(names(&d), [4, 4, 6, 7, 7, 4]);
    d.unlink(WorkerKey(3));
    d.split(&mut tree);
    assert_eq!(names(&d), [4, 4, 6, 7, 7, 4], "worker 4 links them too");
    d.unlink(WorkerKey(2));
    assert_eq!(names(&d), [4, 4, 6, 7, 7, 4], "a split can wait");
    d.split(&mut tree);
    assert_eq!(names(&d), [4, 4, 6, 7, 7, 9]);
    d.link(&mut tree, WorkerKey(5), &kinds(&[8, 5]));
    assert_eq!(names(&d), [4, 4, 6, 4, 4, 9], "a merge cannot");
}

/// One domain was busy for long, the other is new. After they meet, newcomers of both are equal, and
/// the old flows of the busy one are not behind.
#[test]
fn merging_gives_no_credit() {
    let mut q = queue(ROOMY, &[0]);
    serve(&mut q, WorkerKey(2), &[lone(1)]);
    let feeds = vec![feed(0, &[0]), feed(1, &[1])];
    let mut sim = Sim::new(q, feeds, 1, 1);
    sim.refill(2);
    for _ in 0..500 {
        sim.dispatch(&[0]);
        sim.complete();
        sim.refill(2);
    }
    serve(&mut sim.q, WorkerKey(3), &[lone(0), lone(1)]);
    sim.service.clear();
    for _ in 0..500 {
        sim.dispatch(&[0, 1]);
        sim.complete();
        sim.refill(2);
    }
    let (f, g) = (sim.service(Who::Account(0, 0)), sim.service(Who::Account(1, 1)));
    assert!((f - g).abs() <= 2 * 2 * 1_000, "{f} against {g}");
}

/// A dispatch charged before the merge did not charge the other domain's pools, so its correction
/// refunds nothing there; one charged before a split is corrected wherever it was charged.
#[test]
fn corrections_reach_exactly_what_was_charged() {
    let mut q = queue(ROOMY, &[0]);
    serve(&mut q, WorkerKey(2), &[lone(1)]);
    let f = flow(0, 0);
    for n in 0..3 {
        q.enqueue(item(n, 0, f, 1_000)).unwrap();
        q.enqueue(item(10 + n, 1, f, 1_000)).unwrap();
    }
    let start = |q: &SafeQueue, pool| {
        let branch = q.tree.index[&(tree::ROOT, key(0))];
        q.tree.seats.get(q.tree.seat_of(branch, lone(pool)).unwrap()).unwrap().start >> 32
    };
    let alone = q.dispatch(&[lone(0)]).unwrap();
    assert_eq!((start(&q, 0), start(&q, 1)), (1_000, 0));
    serve(&mut q, WorkerKey(3), &[lone(0), lone(1)]);
    let shared = q.dispatch(&[lone(1)]).unwrap();
    assert_eq!((start(&q, 0), start(&q, 1)), (2_000, 1_000));
    q.correct(alone.charge, 0);
    assert_eq!((start(&q, 0), start(&q, 1)), (1_000, 1_000));
    leave(&mut q, WorkerKey(3));
    q.correct(shared.charge, 10);
    assert_eq!((start(&q, 0), start(&q, 1)), (10, 10));
    q.check_invariants().unwrap();
}

/// Pools that no worker serves both of keep separate counters.
#[test]
fn separate_domains_share_nothing() {
    let mut sim = Sim::new(SafeQueue::new(ROOMY), vec![feed(0, &[0, 1]), feed(2, &[1])], 1, 3);
    for _ in 0..200 {
        sim.refill(2);
        sim.dispatch(&[0]);
        sim.complete();
    }
    sim.service.clear();
    for _ in 0..200 {
        sim.refill(2);
        sim.dispatch(&[1]);
        sim.complete();
    }
    let (f, g) = (sim.service(Who::Account(0, 0)), sim.service(Who::Account(0, 2)));
    assert!((f - g).abs() <= 2 * 2 * 1_000, "{f} against {g}");
}
