use std::time::Duration;

use super::*;

const TOKEN: Digest = Digest([0; 32]);

struct Bench {
    leases: Leases,
    encoder: Encoder,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        let encoder = Encoder::new(mtor_types::WorkerId([1; 32]));
        Self { leases: Leases::default(), encoder, now: Instant::now() }
    }

    fn insert(&mut self, number: u8, credit: u64) -> (Key, u64, Arc<Semaphore>) {
        let key = Key { intent: IntentId([number; 16]), attempt: Attempt(1) };
        let slot = SlotOf { executor: 0, of: Counted::Offer("echo".into(), None) };
        let backlog = Arc::new(Semaphore::new(0));
        let serial = self.leases.insert(NewLease {
            key,
            fence: Fence(1),
            token: TOKEN,
            slot,
            credit,
            deadline: self.now + Duration::from_secs(1),
            backlog: Arc::clone(&backlog),
        });
        (key, serial, backlog)
    }

    fn piece(&mut self, key: Key, serial: u64, bytes: usize) {
        let raw = RawValue::from_string(format!("\"{}\"", "x".repeat(bytes - 2))).unwrap();
        self.leases.piece(key, serial, Piece { raw, count: 1 });
    }

    fn complete(&mut self, key: Key, serial: u64) {
        let usage = Usage { units: 1, input: 0, output: 0 };
        self.leases.end(key, serial, End::Complete { usage, result: None });
    }

    /// Frames that can be sent now.
    fn fill(&mut self) -> usize {
        let mut out = VecDeque::new();
        self.leases.fill(usize::MAX, &mut self.encoder, &mut out, &mut Vec::new());
        out.len()
    }
}

#[test]
fn pieces_go_within_their_credit_and_free_the_backlog() {
    let mut bench = Bench::new();
    let (key, serial, backlog) = bench.insert(1, 25);
    for _ in 0..4 {
        bench.piece(key, serial, 10);
    }
    bench.complete(key, serial);
    // The third may overshoot what is left.
    assert_eq!((bench.fill(), backlog.available_permits()), (3, 30));
    bench.leases.credit(key, 5);
    assert_eq!(bench.fill(), 0);
    bench.leases.credit(key, 1);
    assert_eq!((bench.fill(), backlog.available_permits()), (2, 40));
    // Sent again, the backlog is not freed again.
    bench.leases.disconnect();
    bench.leases.adopt(key, Fence(2), TOKEN, 1000, bench.now);
    assert_eq!((bench.fill(), backlog.available_permits()), (5, 40));
    assert!(bench.leases.forget(key));
    assert_eq!((bench.leases.len(), bench.leases.kept_bytes), (0, 0));
    assert!(bench.leases.timers.is_empty() && bench.leases.running.is_empty());
}

#[test]
fn a_lease_above_the_kept_bound_works_on_and_does_not_outlive_its_session() {
    let mut bench = Bench::new();
    let (large, serial, _) = bench.insert(1, u64::MAX);
    let (small, other, _) = bench.insert(2, u64::MAX);
    for _ in 0..=limits::KEPT_PER_INTENT_MAX / 1_000_000 {
        bench.piece(large, serial, 1_000_000);
        assert_eq!(bench.fill(), 1);
    }
    bench.piece(small, other, 10);
    bench.piece(large, serial, 10);
    assert_eq!(bench.fill(), 2);
    assert!(bench.leases.kept_bytes <= limits::KEPT_PER_INTENT_MAX + 20);
    bench.leases.disconnect();
    let held: Vec<_> = bench.leases.held().iter().map(|lease| lease.intent).collect();
    assert_eq!(held, [small.intent]);
    assert_eq!(bench.leases.kept_bytes, 10);
}

#[test]
fn all_leases_together_keep_no_more_than_their_bound() {
    let mut bench = Bench::new();
    for number in 0..20 {
        let (key, serial, _) = bench.insert(number, u64::MAX);
        for _ in 0..7 {
            bench.piece(key, serial, 1_000_000);
            bench.fill();
        }
    }
    assert!(bench.leases.kept_bytes <= limits::KEPT_MAX);
    bench.leases.disconnect();
    let held = bench.leases.held().len();
    assert!((9..20).contains(&held), "{held}");
}

#[test]
fn a_failure_does_not_wait_for_credit_and_late_reports_are_nothing() {
    let mut bench = Bench::new();
    let (key, serial, _) = bench.insert(1, 10);
    bench.piece(key, serial, 10);
    assert_eq!(bench.fill(), 1);
    bench.piece(key, serial, 10);
    bench.leases.end(key, serial, End::backend("no"));
    assert_eq!(bench.leases.kept_bytes, 10);
    assert_eq!((bench.fill(), bench.leases.len()), (1, 0));
    let (key, new, _) = bench.insert(1, 10);
    bench.piece(key, serial, 5);
    bench.complete(key, serial);
    assert_eq!((bench.fill(), bench.leases.unfinished()), (0, 1));
    assert_ne!(serial, new);
}

#[test]
fn time_ends_what_runs_and_what_nobody_acknowledges() {
    let mut bench = Bench::new();
    let (_, _, _) = bench.insert(1, 10);
    let (done, serial, _) = bench.insert(2, 10);
    bench.complete(done, serial);
    assert_eq!(bench.fill(), 1);
    bench.leases.expire(bench.now + Duration::from_millis(999));
    assert_eq!(bench.leases.len(), 2);
    bench.leases.expire(bench.now + Duration::from_millis(1000));
    assert_eq!((bench.leases.len(), bench.leases.unfinished()), (1, 0));
    bench.leases.expire(bench.now + Duration::from_millis(1000 + limits::UNACKNOWLEDGED_MS));
    assert_eq!((bench.leases.len(), bench.leases.next_timer()), (0, None));
}
