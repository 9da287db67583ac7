//! Random calls to the queue and to the naive reference: the same items come out in the same order,
//! and as much is remembered.

use std::collections::BTreeSet;

use proptest::prelude::{ProptestConfig, Strategy, prop, prop_assert_eq, prop_oneof, proptest};

use super::reference::Reference;
use super::*;

#[derive(Clone, Debug)]
enum Call {
    Enqueue { branch: u64, account: u64, batch: bool, pool: u32, cost: u64 },
    Dispatch { pools: BTreeSet<u32> },
    Correct { n: usize, actual: u64 },
    Finish { n: usize, actual: u64, retry: bool },
    Remove { n: u64 },
    Weight { branch: u64, account: Option<u64>, pool: bool, weight: u32 },
    Slots { worker: u64, pools: BTreeSet<u32> },
    Gone { worker: u64 },
}

fn pools() -> impl Strategy<Value = BTreeSet<u32>> {
    prop::collection::btree_set(0u32..4, 1..4)
}

fn call() -> impl Strategy<Value = Call> {
    let cost = || prop_oneof![1u64..20, 1u64..5_000];
    prop_oneof![
        8 => (0u64..3, 0u64..3, prop::bool::ANY, 0u32..4, cost()).prop_map(
            |(branch, account, batch, pool, cost)| Call::Enqueue { branch, account, batch, pool, cost }
        ),
        6 => pools().prop_map(|pools| Call::Dispatch { pools }),
        2 => (0usize..8, cost()).prop_map(|(n, actual)| Call::Correct { n, actual }),
        4 => (0usize..8, cost(), prop::bool::weighted(0.2))
            .prop_map(|(n, actual, retry)| Call::Finish { n, actual, retry }),
        1 => (0u64..200).prop_map(|n| Call::Remove { n }),
        1 => (0u64..3, prop::option::of(0u64..3), prop::bool::ANY, 1u32..9).prop_map(
            |(branch, account, pool, weight)| Call::Weight { branch, account, pool, weight }
        ),
        1 => (0u64..3, pools()).prop_map(|(worker, pools)| Call::Slots { worker, pools }),
        1 => (0u64..3).prop_map(|worker| Call::Gone { worker }),
    ]
}

struct Both {
    q: SafeQueue,
    r: Reference,
    out: Vec<(Dispatched, usize)>,
    next: u64,
}

impl Both {
    fn call(&mut self, call: &Call) {
        match call {
            Call::Enqueue { branch, account, batch, pool, cost } => {
                let mut path = flow(*branch, *account);
                if *batch {
                    path.class = Class::Batch;
                }
                self.next += 1;
                let item = item(self.next, *pool, path, *cost);
                self.q.enqueue(item).unwrap();
                self.r.insert(item, false);
            }
            Call::Dispatch { pools } => self.dispatch(pools),
            Call::Correct { n, actual } => {
                if let Some((d, ticket)) = self.out.get(*n) {
                    assert!(self.q.correct(d.charge, *actual));
                    self.r.correct(*ticket, *actual);
                }
            }
            Call::Finish { n, actual, retry } => {
                if *n < self.out.len() {
                    let (d, ticket) = self.out.remove(*n);
                    assert!(self.q.finish(d.charge, *actual));
                    assert!(!self.q.finish(d.charge, *actual), "a stale handle");
                    self.r.finish(ticket, *actual);
                    if *retry {
                        self.q.requeue(d.item).unwrap();
                        self.r.insert(d.item, true);
                    }
                }
            }
            Call::Remove { n } => {
                if let Some(entry) = self.q.items.get(id(*n)) {
                    let item = entry.item;
                    self.r.remove(&item);
                    assert!(self.q.remove(item.id));
                }
                assert!(!self.q.remove(id(*n)));
            }
            Call::Weight { branch, account, pool, weight } => {
                self.weigh(*branch, *account, *pool, *weight);
            }
            Call::Slots { worker, pools } => {
                let list: Vec<PoolId> = pools.iter().copied().map(lone).collect();
                serve(&mut self.q, WorkerKey(*worker), &list);
                // Domains merge by what comes, and split by what went, in this order.
                self.r.merge(pools.iter().copied().collect());
                self.r.workers.insert(*worker, pools.iter().copied().collect());
                self.r.regroup();
            }
            Call::Gone { worker } => {
                leave(&mut self.q, WorkerKey(*worker));
                self.r.workers.remove(worker);
                self.r.regroup();
            }
        }
    }

    fn dispatch(&mut self, pools: &BTreeSet<u32>) {
        let list: Vec<PoolId> = pools.iter().rev().copied().map(lone).collect();
        let got = self.q.dispatch(&list);
        let expected = self.r.dispatch(pools);
        assert_eq!(got.map(|d| d.item), expected.map(|e| e.0));
        if let (Some(got), Some((_, ticket))) = (got, expected) {
            self.out.push((got, ticket));
        }
    }

    fn weigh(&mut self, branch: u64, account: Option<u64>, pool: bool, weight: u32) {
        let (r, a) = (key(branch), account.map(key));
        match (pool, a) {
            (true, _) => {
                self.q.set_weight(Weighted::Pool(lone(branch as u32)), weight);
                self.r.pool_weights.insert(branch as u32, weight);
            }
            (false, None) => {
                self.q.set_weight(Weighted::Branch(r), weight);
                self.r.weights.insert(vec![r.0], weight);
            }
            (false, Some(a)) => {
                self.q.set_weight(Weighted::Account { branch: r, account: a }, weight);
                self.r.weights.insert(vec![r.0, a.0], weight);
            }
        }
    }
}

fn agree(calls: &[Call], horizon: u64) {
    let q = queue(QueueLimits { horizon, ..ROOMY }, &[0, 1]);
    let mut both = Both { q, r: Reference::new(horizon), out: Vec::new(), next: 0 };
    both.r.workers.insert(1, vec![0, 1]);
    both.r.regroup();
    for call in calls {
        both.call(call);
        both.q.check_invariants().unwrap();
        assert_eq!(both.q.flows(), both.r.size(), "after {call:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn the_queue_agrees_with_the_reference(
        calls in prop::collection::vec(call(), 1..150),
        horizon in prop_oneof![0u64..100, 100u64..10_000],
    ) {
        agree(&calls, horizon);
    }

    #[test]
    fn the_same_calls_give_the_same_answers(calls in prop::collection::vec(call(), 1..100)) {
        let run = || {
            let mut both = Both {
                q: SafeQueue::new(ROOMY), r: Reference::new(ROOMY.horizon), out: Vec::new(), next: 0,
            };
            calls.iter().for_each(|c| both.call(c));
            let order: Vec<Dispatched> = both.out.iter().map(|o| o.0).collect();
            (order, format!("{:?}", both.q))
        };
        prop_assert_eq!(run(), run());
    }
}
