//! Limits, removal, corrections, retries, what is remembered and what is forgotten.

use proptest::prelude::{ProptestConfig, prop, prop_assert_eq, proptest};

use super::*;

const ONE_POOL: [PoolId; 1] = [lone(0)];

fn take(q: &mut SafeQueue) -> Dispatched {
    q.dispatch(&ONE_POOL).unwrap()
}

fn refused(q: &mut SafeQueue, item: Item, why: Full) {
    let before = format!("{q:?}");
    assert_eq!(q.enqueue(item), Err(why));
    assert_eq!(format!("{q:?}"), before, "a refusal changed something");
    q.check_invariants().unwrap();
}

#[test]
fn every_bound_is_exact_and_a_refusal_changes_nothing() {
    let f = flow(0, 0);
    let fill = |limits, n: u64| {
        let mut q = queue(limits, &[0, 1]);
        (0..n).for_each(|n| q.enqueue(item(n, 0, f, 5)).unwrap());
        q
    };
    let mut q = fill(QueueLimits { leaf_items: 3, ..ROOMY }, 3);
    refused(&mut q, item(9, 0, f, 5), Full::LeafItems);
    refused(&mut q, item(9, 1, f, 5), Full::LeafItems);
    refused(&mut q, item(1, 1, f, 5), Full::Duplicate);
    q.enqueue(item(9, 0, FlowPath { class: Class::Batch, ..f }, 5)).unwrap();

    let mut q = fill(QueueLimits { leaf_bytes: 35, ..ROOMY }, 3);
    refused(&mut q, Item { bytes: 6, ..item(9, 1, f, 5) }, Full::LeafBytes);
    q.enqueue(Item { bytes: 5, ..item(9, 1, f, 5) }).unwrap();

    let mut q = fill(QueueLimits { pool_items: 3, ..ROOMY }, 3);
    refused(&mut q, item(9, 0, flow(1, 1), 5), Full::PoolItems);
    q.enqueue(item(9, 1, f, 5)).unwrap();

    let mut q = fill(QueueLimits { pool_bytes: 35, ..ROOMY }, 3);
    refused(&mut q, Item { bytes: 6, ..item(9, 0, flow(1, 1), 5) }, Full::PoolBytes);
    refused(&mut q, Item { bytes: u64::MAX, ..item(9, 0, f, 5) }, Full::PoolBytes);
    q.enqueue(Item { bytes: 5, ..item(9, 0, flow(1, 1), 5) }).unwrap();

    // Three seats for the first leaf; another class of it needs one more, another pool three.
    let mut q = fill(QueueLimits { flows: 5, ..ROOMY }, 3);
    assert_eq!(q.flows(), 3);
    refused(&mut q, item(9, 1, f, 5), Full::Flows);
    q.enqueue(item(9, 0, flow(0, 1), 5)).unwrap();
    assert_eq!(q.flows(), 5);
    refused(&mut q, item(10, 0, FlowPath { class: Class::Batch, ..f }, 5), Full::Flows);
    q.enqueue(item(11, 0, f, 5)).unwrap();
}

#[test]
fn depth_bytes_and_cost_follow_the_items() {
    let mut q = queue(ROOMY, &[0, 1]);
    q.enqueue(item(1, 0, flow(0, 0), 100)).unwrap();
    q.enqueue(item(2, 0, flow(0, 1), 0)).unwrap();
    q.enqueue(item(3, 1, flow(0, 1), 7)).unwrap();
    assert_eq!((q.depth(lone(0)), q.bytes(lone(0)), q.waiting_cost(lone(0))), (2, 20, 101));
    assert_eq!((q.len(), q.backlog().count(), q.is_empty()), (3, 2, false));
    assert!(q.remove(id(1)));
    assert!(!q.remove(id(1)));
    assert!(!q.contains(id(1)));
    assert_eq!((q.depth(lone(0)), q.waiting_cost(lone(0))), (1, 1));
    take(&mut q);
    assert_eq!((q.depth(lone(0)), q.depth(lone(1)), q.outstanding()), (0, 1, 1));
    q.check_invariants().unwrap();
}

#[test]
fn a_removed_item_charges_nothing() {
    let mut q = queue(ROOMY, &[0]);
    q.enqueue(item(1, 0, flow(0, 0), 1)).unwrap();
    q.enqueue(item(2, 0, flow(0, 0), 900_000)).unwrap();
    q.enqueue(item(3, 0, flow(0, 0), 1)).unwrap();
    let before = format!("{:?}", q.tree.seats.iter().map(|s| s.1.start).collect::<Vec<_>>());
    assert!(q.remove(id(2)));
    let after = format!("{:?}", q.tree.seats.iter().map(|s| s.1.start).collect::<Vec<_>>());
    assert_eq!(before, after);
    assert_eq!((take(&mut q).item.id, take(&mut q).item.id), (id(1), id(3)));
    assert!(q.dispatch(&ONE_POOL).is_none());
}

fn starts(q: &SafeQueue) -> Vec<u128> {
    q.tree.seats.iter().filter(|s| s.1.node != tree::ROOT).map(|s| s.1.start).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Corrections of items in flight compose: any order, up and down, any number of times, and what
    /// counts in the end is each item's last figure, once. To zero takes back exactly what was charged.
    #[test]
    fn corrections_compose(
        items in prop::collection::vec((1u64..5_000, 0u64..50_000), 1..8),
        steps in prop::collection::vec((0usize..8, 0u64..50_000), 0..40),
    ) {
        let mut q = queue(ROOMY, &[0]);
        for (n, (estimate, _)) in (0u64..).zip(&items) {
            q.enqueue(item(n, 0, flow(0, 0), *estimate)).unwrap();
        }
        let never_idle = item(99, 0, flow(0, 0), 1);
        q.enqueue(never_idle).unwrap();
        let out: Vec<Dispatched> = items.iter().map(|_| take(&mut q)).collect();
        for (n, actual) in &steps {
            if let Some(d) = out.get(*n) {
                prop_assert_eq!(q.correct(d.charge, *actual), true);
            }
        }
        for (d, (_, actual)) in out.iter().zip(&items) {
            q.correct(d.charge, *actual);
        }
        let sum: u64 = items.iter().map(|i| i.1).sum();
        let whole = u128::from(sum) << 32;
        let quarter: u128 = items.iter().map(|i| (u128::from(i.1) << 32) / 4).sum();
        prop_assert_eq!(starts(&q), vec![whole, whole, quarter]);
        for d in &out {
            q.correct(d.charge, 0);
        }
        prop_assert_eq!(starts(&q), vec![0, 0, 0]);
        q.check_invariants().unwrap();
    }
}

#[test]
fn a_stale_handle_is_ignored() {
    let mut q = queue(ROOMY, &[0]);
    q.enqueue(item(1, 0, flow(0, 0), 10)).unwrap();
    q.enqueue(item(2, 0, flow(0, 0), 10)).unwrap();
    let first = take(&mut q);
    assert!(q.finish(first.charge, 10));
    let second = take(&mut q);
    assert!(!q.correct(first.charge, 1_000));
    assert!(!q.finish(first.charge, 1_000));
    assert_eq!(q.outstanding(), 1);
    assert!(q.finish(second.charge, 10));
}

#[test]
fn a_retry_comes_first_and_is_charged_anew() {
    let mut q = queue(QueueLimits { leaf_items: 3, ..ROOMY }, &[0]);
    for n in 1..=3 {
        q.enqueue(item(n, 0, flow(0, 0), 100)).unwrap();
    }
    let first = take(&mut q);
    q.enqueue(item(4, 0, flow(0, 0), 100)).unwrap();
    q.finish(first.charge, 60);
    q.requeue(first.item).unwrap();
    assert_eq!(q.requeue(first.item), Err(Full::Duplicate));
    assert_eq!((q.len(), q.position(id(1))), (4, Some(0)));
    let again = take(&mut q);
    assert_eq!(again.item.id, id(1));
    assert_eq!(starts(&q)[0] >> 32, 160);
    q.restore(item(7, 0, flow(0, 0), 100)).unwrap();
    assert_eq!(q.position(id(7)), Some(3), "at the tail, beyond the bound");
    assert_eq!(q.restore(item(7, 0, flow(0, 0), 100)), Err(Full::Duplicate));
    q.finish(again.charge, 0);
    q.check_invariants().unwrap();
}

/// Debt outlives idleness, for as long as it is owed to somebody.
#[test]
fn going_idle_forgets_no_debt() {
    let mut q = queue(ROOMY, &[0]);
    q.enqueue(item(0, 0, flow(0, 0), 1)).unwrap();
    for n in 100..300 {
        q.enqueue(item(n, 0, flow(0, 1), 100)).unwrap();
    }
    let cheap = take(&mut q);
    assert_eq!(cheap.item.flow, flow(0, 0));
    // It cost a hundred times what was said, and the flow is idle now.
    q.finish(cheap.charge, 5_000);
    q.check_invariants().unwrap();
    let mut others = 0;
    loop {
        if !q.contains(id(1)) && others % 7 == 0 {
            q.enqueue(item(1, 0, flow(0, 0), 1)).unwrap();
            q.check_invariants().unwrap();
        }
        let got = take(&mut q);
        q.finish(got.charge, 100);
        if got.item.id == id(1) {
            break;
        }
        others += 1;
        if others % 3 == 0 {
            q.remove(id(1));
        }
    }
    assert!((49..=60).contains(&others), "5,000 owed, yet it waited for {others} of 100");
}

/// What is remembered is bounded by what is open and what is owed.
#[test]
fn memory_follows_what_is_open() {
    let mut q = queue(ROOMY, &[0, 1]);
    let mut most = 0;
    for n in 0..5_000u64 {
        q.enqueue(item(n, (n % 2) as u32, flow(n % 3, n), 100)).unwrap();
        if n >= 4 {
            let got = q.dispatch(&[lone(0), lone(1)]).unwrap();
            q.finish(got.charge, 100 + n % 50);
        }
        most = most.max(q.flows());
    }
    assert!(most < 60, "{most} seats for five items");
    while let Some(got) = q.dispatch(&[lone(0), lone(1)]) {
        q.finish(got.charge, 100);
    }
    assert_eq!(q.flows(), 0);
    q.check_invariants().unwrap();
}

#[test]
fn a_leafs_pools_take_turns_by_their_weights() {
    let mut q = queue(ROOMY, &[0, 1]);
    q.set_weight(Weighted::Pool(lone(1)), 3);
    for n in 0..100 {
        q.enqueue(item(n, 0, flow(0, 0), 10)).unwrap();
        q.enqueue(item(100 + n, 1, flow(0, 0), 10)).unwrap();
    }
    let both = [lone(1), lone(0), lone(1)];
    let from_one = (0..80).filter(|_| q.dispatch(&both).unwrap().item.pool == lone(1)).count();
    assert!((59..=61).contains(&from_one), "{from_one}");
}

#[test]
fn position_is_exact_for_equal_flows_and_never_beyond_the_pool() {
    let mut q = queue(ROOMY, &[0]);
    for n in 0..20 {
        for account in 0..5 {
            q.enqueue(item(n * 5 + account, 0, flow(0, account), 10)).unwrap();
        }
    }
    for n in 0..20 {
        let position = q.position(id(n * 5)).unwrap();
        assert!(position.abs_diff(n * 5 + 4) <= 5, "{position} for row {n}");
    }
    q.enqueue(item(500, 0, flow(3, 0), 10)).unwrap();
    assert!(q.position(id(500)).unwrap() <= 1);
    assert_eq!(q.position(id(501)), None);
    assert!((0..100).all(|n| q.position(id(n)).unwrap() <= 100));
}

/// Weights set after the fact hold for later charges only.
#[test]
fn a_new_weight_changes_later_charges_only() {
    let mut q = queue(ROOMY, &[0]);
    for n in 0..4 {
        q.enqueue(item(n, 0, flow(0, 0), 100)).unwrap();
    }
    let first = take(&mut q);
    q.set_weight(Weighted::Branch(key(0)), 10);
    q.check_invariants().unwrap();
    assert_eq!(starts(&q)[0] >> 32, 100);
    q.correct(first.charge, 200);
    assert_eq!(starts(&q)[0] >> 32, 200, "its weight at the dispatch");
    take(&mut q);
    assert_eq!(starts(&q)[0] >> 32, 210);
}

#[test]
fn extreme_costs_and_weights_do_no_harm() {
    let mut q = queue(ROOMY, &[0]);
    q.set_weight(Weighted::Branch(key(0)), u32::MAX);
    q.set_weight(Weighted::Account { branch: key(1), account: key(1) }, 0);
    for n in 0..50 {
        q.enqueue(item(n, 0, flow(n % 2, n % 2), if n % 3 == 0 { u64::MAX } else { 0 })).unwrap();
    }
    while let Some(got) = q.dispatch(&ONE_POOL) {
        assert!(q.finish(got.charge, u64::MAX));
        q.check_invariants().unwrap();
    }
    assert!(q.is_empty());
}
