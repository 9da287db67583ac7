//! Cost of one turn of the fair queue: enqueue + dispatch + finish, with 1, 1,000 and 100,000 flows
//! backlogged. Run: `cargo bench -p mtor-core --bench safe_queue`; the median is nanoseconds per turn.

use divan::Bencher;
use mtor_core::router::safe_queue::{
    Class, FlowKey, FlowPath, Item, ItemId, KindId, PoolId, QueueLimits, SafeQueue, WorkerKey,
};

fn main() {
    divan::main();
}

fn item(n: u64, flows: u64, pools: u64) -> Item {
    let flow = n % flows;
    let key = |n: u64| FlowKey(u128::from(n).to_be_bytes());
    // Ten branches, so that both the branch's and the account's level are wide.
    let path =
        FlowPath { branch: key(flow % 10), account: key(flow / 10), class: Class::Interactive };
    // Spread over the id space as real ids are.
    let id = u128::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    Item {
        id: ItemId(id.to_be_bytes()),
        pool: PoolId::new(KindId(n % pools), 0),
        flow: path,
        bytes: 100,
        cost_estimate: 50 + n % 100,
    }
}

fn filled(flows: u64, pools: u64) -> (SafeQueue, Vec<PoolId>) {
    let mut q = SafeQueue::new(QueueLimits {
        leaf_items: u32::MAX,
        leaf_bytes: u64::MAX,
        pool_items: u32::MAX,
        pool_bytes: u64::MAX,
        flows: u32::MAX,
        horizon: 600_000,
        sweep: 8,
    });
    let kinds: Vec<KindId> = (0..pools).map(KindId).collect();
    q.link(WorkerKey(1), &kinds);
    let served: Vec<PoolId> = kinds.into_iter().map(|kind| PoolId::new(kind, 0)).collect();
    for n in 0..flows * 2 {
        let _ = q.enqueue(item(n, flows, pools));
    }
    (q, served)
}

fn turn(bencher: Bencher<'_, '_>, flows: u64, pools: u64) {
    let (mut q, served) = filled(flows, pools);
    let mut n = flows * 2;
    bencher.bench_local(|| {
        let _ = q.enqueue(item(n, flows, pools));
        n += 1;
        let got = q.dispatch(&served);
        got.map(|got| q.finish(got.charge, 60))
    });
}

#[divan::bench(args = [1, 1_000, 100_000])]
fn one_pool(bencher: Bencher<'_, '_>, flows: u64) {
    turn(bencher, flows, 1);
}

/// Odd numbers of flows and pools, so that every flow gets into every pool.
#[divan::bench(args = [1, 1_001, 100_001])]
fn five_shared_pools(bencher: Bencher<'_, '_>, flows: u64) {
    turn(bencher, flows, 5);
}
