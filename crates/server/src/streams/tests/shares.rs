//! What one account and one network may have of memory and disk.

use mtor_types::fact::NetworkKey;

use super::*;

fn guest(account: u8, network: u8) -> Holder {
    let (account, network) = (Some(AccountId([account; 32])), Some(NetworkKey([network; 16])));
    Holder { account, network, rank: Rank::Guest }
}

fn limits(disk_total: u64) -> StreamLimits {
    let (memory_here, memory_total) = (2 << 20, 2 << 20);
    StreamLimits { memory_here, memory_total, disk_total, kept_ms: 1_000, ..Default::default() }
}

/// What is held of memory and disk.
fn held(streams: &Streams) -> (u64, u64) {
    let Kept { replay, spill } = &streams.shared.kept;
    (replay.filled().0, spill.filled().0)
}

/// Everything ends and its time passes: nothing is held.
fn check_nothing_is_held(streams: &Streams) {
    streams.expire(Time(1 << 40));
    assert_eq!(streams.totals(), StreamTotals { streams: 0, memory_bytes: 0, disk_bytes: 0 });
    assert_eq!(held(streams), (0, 0));
}

#[test]
fn who_has_all_its_memory_has_its_own_packed_and_nobody_elses() {
    let streams = streams(limits(64 << 20));
    let victim = guest(200, 2);
    for n in 0..10 {
        live_and_end_of(victim, &streams, n, 1_000);
    }
    // Ten accounts of one network.
    for n in 100..600 {
        live_and_end_of(guest((n % 10) as u8, 1), &streams, n, 1_000);
    }
    for n in 0..10 {
        assert!(streams.get_here(intent(n)).is_some(), "the victim's stay as they are");
    }
    let here = (100..600).filter(|n| streams.get_here(intent(*n)).is_some()).count();
    assert!(here < 80, "a fifth of the guests' half: {here}");
    let kept = (100..600).filter(|n| streams.get(intent(*n)).is_some()).count();
    assert_eq!(kept, 500, "on disk they are kept");
    let (memory, disk) = held(&streams);
    assert!(memory <= (2 << 20) / 2 / 5 + 50_000, "{memory}");
    assert_eq!(disk, streams.totals().disk_bytes, "to the byte");
    check_nothing_is_held(&streams);
}

#[test]
fn who_has_all_its_memory_streams_by_way_of_the_disk() {
    let streams = streams(limits(64 << 20));
    let attacker = guest(1, 1);
    let open = |n: u64, holder| {
        let stream = streams.open(intent(n), BOUNDS, holder).unwrap();
        stream.begin(Attempt(1), WORKER, u64::MAX);
        stream
    };
    let fill = |stream: &Arc<IntentStream>, pieces: std::ops::Range<u64>| {
        for seq in pieces {
            stream.chunk(Attempt(1), seq, seq, all(padded(seq))).unwrap();
        }
    };
    let many: Vec<_> = (0..20).map(|n| open(n, attacker)).collect();
    many.iter().for_each(|stream| fill(stream, 0..100));
    let (memory, disk) = held(&streams);
    assert!(memory < (2 << 20) / 2 / 9 + 20 * 6_500, "{memory}");
    assert!(disk > 20 * 100 * 300 - memory, "{disk}");
    // The victim's stays in memory.
    let victim = open(50, guest(2, 2));
    fill(&victim, 0..100);
    assert_eq!(held(&streams).1, disk);
    let expected = |from: u64| (from..100).map(|seq| format!("1.{seq} ")).collect::<String>();
    for stream in many.iter().chain([&victim]) {
        check(stream, "1.9", &format!("{}?", expected(10)));
        stream.complete(Attempt(1), Usage::default(), Some(all(piece(1)))).unwrap();
        stream.finish(Time(1), done(), None);
        stream.settle(Bytes::from_static(b"{}"));
        check(stream, "1.9", &format!("{}E T .", expected(10)));
    }
    drop((many, victim));
    check_nothing_is_held(&streams);
}

#[test]
fn who_has_all_its_disk_loses_its_own_oldest_and_then_ends() {
    let streams = streams(limits(4 << 20));
    let (attacker, victim) = (guest(1, 1), guest(2, 2));
    for n in 0..20 {
        live_and_end_of(victim, &streams, n, 5_000);
    }
    for n in 100..400 {
        live_and_end_of(attacker, &streams, n, 5_000);
    }
    let is_kept = |n: u64| streams.get(intent(n)).is_some();
    assert!((0..20).all(is_kept), "the victim's are there");
    let kept = (100..400).filter(|n| is_kept(*n)).count();
    assert!((20..100).contains(&kept), "{kept}");
    assert!(!is_kept(100) && is_kept(399), "the oldest left");
    let most = (4 << 20) / 2 / 9;
    assert!(held(&streams).1 <= 2 * most, "{:?}", held(&streams));
    // One that runs: the others make room for it, then there is none.
    let long = streams.open(intent(1_000), BOUNDS, attacker).unwrap();
    long.begin(Attempt(1), WORKER, u64::MAX);
    let refused = (0..10_000).find_map(|seq| {
        long.chunk(Attempt(1), seq, seq, all(padded(seq))).err().map(|error| (seq, error))
    });
    let Some((seq, ChunkError::Share(refused))) = refused else { panic!("{refused:?}") };
    assert!(seq > 400 && refused.held > most / 2, "{seq} {refused:?}");
    assert!((0..20).all(is_kept), "the victim's are there");
    let other = streams.open(intent(1_001), BOUNDS, victim).unwrap();
    other.begin(Attempt(1), WORKER, u64::MAX);
    for seq in 0..400 {
        other.chunk(Attempt(1), seq, seq, all(padded(seq))).unwrap();
    }
    for stream in [&long, &other] {
        stream.finish(Time(1), end(Outcome::Cancelled), None);
        stream.settle(Bytes::from_static(b"{}"));
    }
    drop((long, other));
    check_nothing_is_held(&streams);
}
