use bytes::Bytes;
use mtor_core::router::TrustClass;
use mtor_types::fact::Asset;
use mtor_types::intent::{End, Outcome, Reason, Usage};
use mtor_types::{AccountId, Amount, Attempt, Code, WorkerId};
use proptest::prelude::*;

use super::*;

mod shares;

const BOUNDS: Bounds = Bounds {
    units_max: 1_000_010,
    input_units: 10,
    output_max: 1_000_000,
    answers: 1,
    may_be_cut: true,
    yields: Yield { units_per_byte: None, bytes_per_unit: None },
};
const NOBODY: Holder = Holder { account: None, network: None, rank: Rank::Realm };
const INTENT: IntentId = IntentId([7; 16]);
const WORKER: Server =
    Server { worker: WorkerId([8; 32]), owner: AccountId([8; 32]), class: TrustClass::Own };

fn streams(limits: StreamLimits) -> Streams {
    Streams::new(limits, &std::env::temp_dir().join("mtor-streams-test")).unwrap()
}

fn open(limits: StreamLimits) -> (Streams, Arc<IntentStream>) {
    let streams = streams(limits);
    let stream = streams.open(INTENT, BOUNDS, NOBODY).unwrap();
    (streams, stream)
}

fn end(outcome: Outcome) -> End {
    End {
        intent: INTENT,
        outcome,
        usage: Usage::default(),
        asset: Asset::Grant,
        cost: Amount::ZERO,
        refunded: Amount::ZERO,
        sequence: 0,
    }
}

fn done() -> End {
    end(Outcome::Completed(Reason::Done))
}

fn piece(n: u64) -> Bytes {
    Bytes::from(format!("\"{n}\""))
}

/// Every byte is content.
fn all(bytes: Bytes) -> Measured {
    Measured::plain(bytes)
}

/// Everything there is for a cursor now, in short: `A`ccepted, `Q`ueued, `S`tarted, chunks as
/// `attempt.seq`, `R`estarted, `E`nd, se`T`tled, `.` for over, `?` for more to come.
fn drain(cursor: &mut Cursor) -> String {
    let mut words = Vec::new();
    loop {
        words.push(match cursor.try_next().unwrap() {
            Next::Entry(Entry::Accepted { .. }) => "A".to_owned(),
            Next::Entry(Entry::Queued { .. }) => "Q".to_owned(),
            Next::Entry(Entry::Started { .. }) => "S".to_owned(),
            Next::Entry(Entry::Chunk { attempt, seq, piece: found }) => {
                assert!(found.starts_with(&piece(seq)), "the piece of {attempt}.{seq}");
                format!("{attempt}.{seq}")
            }
            Next::Entry(Entry::Restarted { attempt }) => format!("R{attempt}"),
            Next::Entry(Entry::End(_)) => "E".to_owned(),
            Next::Entry(Entry::Settled(_)) => "T".to_owned(),
            Next::Pending => "?".to_owned(),
            Next::Over => ".".to_owned(),
        });
        if matches!(words.last().map(String::as_str), Some("?" | ".")) {
            return words.join(" ");
        }
    }
}

fn check(stream: &Arc<IntentStream>, last: &str, expected: &str) {
    let mut cursor = match last {
        "" => stream.subscribe(),
        last => stream.resume(last.parse().unwrap()),
    };
    assert_eq!(drain(&mut cursor), expected, "after {last:?}");
}

#[test]
fn every_reader_sees_the_whole_life() {
    let (_streams, stream) = open(StreamLimits::default());
    let mut early = stream.subscribe();
    assert_eq!(drain(&mut early), "?");
    stream.accepted(Asset::Grant, Amount::from_u64(5), 1, 20);
    assert!(stream.begin(Attempt(4), WORKER, 100));
    let metered = stream.chunk(Attempt(4), 0, 12, all(piece(0))).unwrap();
    assert_eq!(metered, Metered { units: 12, exhausted: false });
    assert_eq!(drain(&mut early), "A Q S 4.0 ?");
    let result = Bytes::from_static(b"{\"r\":1}");
    let claim = Usage { units: 13, input: 10, output: 3 };
    assert!(!stream.is_complete(Attempt(4)));
    let closed = stream.complete(Attempt(4), claim, Some(all(result.clone()))).unwrap();
    assert_eq!(closed, Closed { attempt: Some(Attempt(4)), usage: claim, delivered: true });
    assert_eq!(stream.complete(Attempt(4), Usage::default(), None), Ok(closed), "said again");
    assert!(stream.is_complete(Attempt(4)) && !stream.is_complete(Attempt(3)));
    assert_eq!(stream.chunk(Attempt(4), 1, 12, all(piece(1))), Err(ChunkError::Stale));
    assert_eq!(stream.ended().unwrap(), None);
    stream.finish(Time(5), done(), None);
    stream.finish(Time(6), end(Outcome::Cancelled), None);
    assert_eq!(drain(&mut early), "E ?");
    stream.settle(Bytes::from_static(b"{}"));
    assert_eq!(drain(&mut early), "T .");
    check(&stream, "", "A Q S 4.0 E T .");
    check(&stream, "4.0", "E T .");
    let ended = stream.ended().unwrap().unwrap();
    assert_eq!((ended.end.outcome, &ended.result), (done().outcome, &Some(result)));
}

#[test]
fn what_lives_by_its_readers_is_given_up_by_the_last_of_them() {
    let calls = Arc::new(AtomicUsize::new(0));
    let begun = |streams: &Streams| {
        let stream = streams.detached(INTENT, BOUNDS, NOBODY);
        let calls = Arc::clone(&calls);
        stream.lives_by_readers(move |intent| {
            assert_eq!(intent, INTENT);
            calls.fetch_add(1, Ordering::Relaxed);
        });
        stream
    };
    let called = || calls.load(Ordering::Relaxed);
    let streams = streams(StreamLimits::default());
    let stream = begun(&streams);
    let (first, second) = (stream.subscribe(), stream.subscribe());
    drop(first);
    assert_eq!(called(), 0, "another still reads");
    drop(second);
    assert_eq!(called(), 1);
    drop(stream.subscribe());
    assert_eq!(called(), 1, "once");

    let stream = begun(&streams);
    let reader = stream.subscribe();
    stream.finish(Time(1), done(), None);
    drop(reader);
    let stream = begun(&streams);
    let reader = stream.subscribe();
    stream.close_unopened();
    drop(reader);
    assert_eq!(called(), 1, "what is over, or never began, is nobody's to give up");
}

#[test]
fn what_is_known_of_an_end_is_read_like_any_other() {
    let streams = streams(StreamLimits::default());
    let recalled = |pieces: &[Bytes], result: Option<Bytes>| {
        let stream = streams.detached(INTENT, Bounds::NONE, NOBODY);
        let ended = Ended { end: done(), message: None, result };
        stream.recall(Amount::from_u64(5), pieces.to_vec(), ended, Some(Bytes::from("{}")));
        stream
    };
    let pieces = recalled(&[piece(0), piece(1)], None);
    check(&pieces, "", "A 0.0 0.1 E T .");
    let whole = recalled(&[], Some(piece(7)));
    check(&whole, "", "A E T .");
    let nothing = recalled(&[], None);
    check(&nothing, "", "A E T .");
    let gone = [&pieces, &whole, &nothing].map(|stream| stream.is_answer_gone());
    assert_eq!(gone, [false, false, true]);
}

#[test]
fn what_was_stopped_takes_no_piece_of_a_worker_that_comes_back() {
    let (_streams, stream) = open(StreamLimits::default());
    stream.begin(Attempt(1), WORKER, 100);
    stream.chunk(Attempt(1), 0, 7, all(piece(0))).unwrap();
    let closed = stream.close(None).unwrap();
    stream.adopt(Attempt(1), WORKER, 100);
    assert_eq!(stream.chunk(Attempt(1), 1, 8, all(piece(1))), Err(ChunkError::Stale));
    assert_eq!(stream.close(None), Some(closed));
}

#[test]
fn an_attempt_that_was_cut_is_complete_and_stays_closed() {
    let (_streams, stream) = open(StreamLimits::default());
    stream.begin(Attempt(1), WORKER, 100);
    stream.chunk(Attempt(1), 0, 7, all(piece(0))).unwrap();
    let closed = stream.cut(Attempt(1)).unwrap();
    assert_eq!(closed.usage.units, 7);
    assert!(stream.is_complete(Attempt(1)));
    assert_eq!(stream.cut(Attempt(1)), None, "once");
    assert_eq!(stream.chunk(Attempt(1), 1, 8, all(piece(1))), Err(ChunkError::Stale));
    // Its worker comes back with it: nothing more is taken.
    assert!(stream.adopt(Attempt(1), WORKER, 100));
    assert_eq!(stream.chunk(Attempt(1), 1, 8, all(piece(1))), Err(ChunkError::Stale));
}

#[test]
fn a_restart_voids_what_came_before_it() {
    let (streams, stream) = open(StreamLimits::default());
    stream.begin(Attempt(1), WORKER, 100);
    stream.chunk(Attempt(1), 0, 1, all(padded(0))).unwrap();
    stream.chunk(Attempt(1), 1, 2, all(padded(1))).unwrap();
    let mut reader = stream.subscribe();
    assert_eq!(drain(&mut reader), "S 1.0 1.1 ?");
    let before = streams.totals().memory_bytes;
    assert_eq!(stream.close(Some(Attempt(1))).unwrap().usage.units, 2);
    assert_eq!(stream.close(Some(Attempt(2))), None);
    stream.restarted(Attempt(1));
    assert!(streams.totals().memory_bytes < before, "its pieces are let go");
    assert!(!stream.begin(Attempt(1), WORKER, 100), "attempts never repeat");
    assert!(stream.begin(Attempt(3), WORKER, 100));
    assert_eq!(stream.chunk(Attempt(1), 2, 3, all(piece(2))), Err(ChunkError::Stale));
    assert_eq!(stream.usage().units, 0, "a new attempt counts from nothing");
    stream.chunk(Attempt(3), 0, 1, all(piece(0))).unwrap();
    assert_eq!(drain(&mut reader), "R1 S 3.0 ?");
    check(&stream, "", "S R1 S 3.0 ?");
    check(&stream, "1.0", "R1 S 3.0 ?");
    check(&stream, "1.9", "R1 S 3.0 ?");
    check(&stream, "3.0", "?");
    check(&stream, "2.5", "S R1 S R2 3.0 ?");
}

#[test]
fn sequences_are_dense_and_only_an_adopted_worker_repeats() {
    let (_streams, stream) = open(StreamLimits::default());
    assert_eq!(stream.chunk(Attempt(1), 0, 1, all(piece(0))), Err(ChunkError::Stale), "none began");
    stream.begin(Attempt(1), WORKER, 100);
    assert_eq!(
        stream.chunk(Attempt(1), 1, 1, all(piece(1))),
        Err(ChunkError::Sequence { expected: 0 })
    );
    stream.chunk(Attempt(1), 0, 1, all(piece(0))).unwrap();
    stream.chunk(Attempt(1), 1, 2, all(piece(1))).unwrap();
    assert_eq!(
        stream.chunk(Attempt(1), 1, 2, all(piece(1))),
        Err(ChunkError::Sequence { expected: 2 })
    );
    assert!(stream.adopt(Attempt(1), WORKER, 50));
    for seq in 0..2 {
        assert_eq!(stream.chunk(Attempt(1), seq, seq + 1, all(piece(seq))).unwrap().units, 2);
    }
    assert_eq!(
        stream.chunk(Attempt(1), 3, 4, all(piece(3))),
        Err(ChunkError::Sequence { expected: 2 })
    );
    assert_eq!(stream.chunk(Attempt(1), 2, 3, all(piece(2))).unwrap().units, 3);
    check(&stream, "1.1", "1.2 ?");
}

#[test]
fn after_a_restart_of_the_edge_a_reader_gets_what_it_lacks() {
    let (_streams, stream) = open(StreamLimits::default());
    let mut same = stream.resume("1.1".parse().unwrap());
    let mut other = stream.resume("0.7".parse().unwrap());
    assert!(stream.adopt(Attempt(1), WORKER, 100), "an attempt this edge does not know yet");
    for seq in 0..3 {
        stream.chunk(Attempt(1), seq, seq + 1, all(piece(seq))).unwrap();
    }
    assert_eq!(drain(&mut same), "S 1.2 ?");
    assert_eq!(drain(&mut other), "S R0 1.0 1.1 1.2 ?");
}

#[test]
fn a_close_is_final_for_its_attempt() {
    let (_streams, stream) = open(StreamLimits::default());
    stream.begin(Attempt(1), WORKER, 11);
    let metered = stream.chunk(Attempt(1), 0, 40, all(piece(123))).unwrap();
    assert_eq!(metered, Metered { units: 11, exhausted: true });
    let closed = stream.close(None).unwrap();
    assert_eq!((closed.usage.units, closed.delivered), (11, true));
    assert_eq!(stream.chunk(Attempt(1), 1, 41, all(piece(1))), Err(ChunkError::Stale));
    assert_eq!(stream.complete(Attempt(1), Usage::default(), None), Err(ChunkError::Stale));
    assert!(!stream.begin(Attempt(2), WORKER, 11), "its figure was given: nothing more is");
    assert_eq!(stream.close(None), Some(closed), "said again");
}

fn small() -> StreamLimits {
    StreamLimits { memory_each: 4_096, bytes_each: 64 * 1024, ..StreamLimits::default() }
}

fn padded(seq: u64) -> Bytes {
    let mut bytes = piece(seq).to_vec();
    bytes.resize(300, b' ');
    bytes.into()
}

#[test]
fn what_memory_has_no_room_for_is_read_from_disk() {
    let (streams, stream) = open(small());
    stream.begin(Attempt(1), WORKER, u64::MAX);
    let mut slow = stream.subscribe();
    assert_eq!(drain(&mut slow), "S ?");
    let expected: Vec<_> = (0..100).map(|seq| format!("1.{seq}")).collect();
    for seq in 0..100 {
        stream.chunk(Attempt(1), seq, seq, all(padded(seq))).unwrap();
        let indices = (seq + 1) * entries::BLOCK_INDEX_BYTES;
        let memory = streams.totals().memory_bytes;
        assert!(memory <= 4_096 + STREAM_BYTES + indices, "bounded");
    }
    assert!(streams.totals().disk_bytes > 20_000);
    assert_eq!(drain(&mut slow), format!("{} ?", expected.join(" ")));
    check(&stream, "1.3", &format!("{} ?", expected[4..].join(" ")));
    let result = Bytes::from(vec![b'7'; 10_000]);
    stream.complete(Attempt(1), Usage::default(), Some(all(result.clone()))).unwrap();
    stream.finish(Time(1), done(), None);
    assert_eq!(stream.ended().unwrap().unwrap().result, Some(result));
    drop((slow, stream));
    streams.forget(INTENT);
    let empty = StreamTotals { streams: 0, memory_bytes: 0, disk_bytes: 0 };
    assert_eq!(streams.totals(), empty, "everything is let go");
}

#[test]
fn a_full_buffer_stops_the_attempt_and_keeps_what_it_has() {
    let (_streams, stream) = open(small());
    stream.begin(Attempt(1), WORKER, u64::MAX);
    let full = (0..1_000)
        .find(|seq| stream.chunk(Attempt(1), *seq, 1, all(padded(*seq))) == Err(ChunkError::Full));
    assert_eq!(full, Some(64 * 1024 / 300));
    let large = Bytes::from(vec![b' '; 64 * 1024]);
    assert_eq!(
        stream.complete(Attempt(1), Usage::default(), Some(all(large))),
        Err(ChunkError::Full)
    );
    let disk = StreamLimits { disk_total: 1_000, ..small() };
    let (_streams, stream) = open(disk);
    stream.begin(Attempt(1), WORKER, u64::MAX);
    let full = (0..1_000).find(|seq| {
        stream.chunk(Attempt(1), *seq, 1, all(padded(*seq))) == Err(ChunkError::NoRoom)
    });
    assert!(full.is_some_and(|seq| seq < 20), "{full:?}");
    let mut cursor = stream.subscribe();
    assert!(drain(&mut cursor).starts_with("S 1.0 1.1"));
}

#[test]
fn ended_buffers_leave_after_their_time_or_when_room_is_needed() {
    let limits = StreamLimits { streams_max: 3, kept_ms: 100, ..StreamLimits::default() };
    let streams = streams(limits);
    let open = |n: u8| streams.open(IntentId([n; 16]), BOUNDS, NOBODY);
    let first = open(1).unwrap();
    assert!(Arc::ptr_eq(&first, &open(1).unwrap()), "the same one");
    open(2).unwrap();
    open(3).unwrap();
    assert_eq!(open(4).map(|_| ()).unwrap_err().code, Code::Overloaded, "open ones are kept");
    let mut reader = first.subscribe();
    first.finish(Time(1_000), done(), None);
    assert_eq!(drain(&mut reader), "E ?");
    open(4).unwrap();
    assert!(streams.get(IntentId([1; 16])).is_none(), "the ended one left");
    assert_eq!(drain(&mut reader), ".");
    streams.get(IntentId([2; 16])).unwrap().finish(Time(1_000), done(), None);
    assert_eq!(streams.expire(Time(1_099)), 0);
    assert_eq!(streams.expire(Time(1_100)), 1);
    assert!(streams.get(IntentId([2; 16])).is_none());
    assert_eq!(streams.totals().streams, 2);
}

fn intent(n: u64) -> IntentId {
    let mut id = [9; 16];
    id[8..].copy_from_slice(&n.to_be_bytes());
    IntentId(id)
}

/// An intent that was accepted, gave one piece and a result, and is settled.
fn live_and_end(streams: &Streams, n: u64, result: usize) -> Arc<IntentStream> {
    live_and_end_of(NOBODY, streams, n, result)
}

fn live_and_end_of(holder: Holder, streams: &Streams, n: u64, result: usize) -> Arc<IntentStream> {
    let stream = streams.open(intent(n), BOUNDS, holder).unwrap();
    stream.set_model(Some("m"));
    stream.accepted(Asset::Grant, Amount::from_u64(5), 1, 20);
    stream.begin(Attempt(4), WORKER, u64::MAX);
    stream.chunk(Attempt(4), 0, 1, all(piece(0))).unwrap();
    let result = all(Bytes::from(vec![b'7'; result]));
    stream.complete(Attempt(4), Usage::default(), Some(result)).unwrap();
    stream.finish(Time(n), done(), Some("why".to_owned()));
    stream.settle(Bytes::from(format!("{{\"receipt\":{n}}}")));
    stream
}

fn tiny() -> StreamLimits {
    StreamLimits { memory_here: 64 * 1024, kept_ms: 10_000, ..StreamLimits::default() }
}

#[test]
fn the_oldest_that_ended_go_to_disk_and_are_read_there() {
    let streams = streams(tiny());
    let open = streams.open(INTENT, BOUNDS, NOBODY).unwrap();
    let held = live_and_end(&streams, 0, 1_000);
    let mut reader = live_and_end(&streams, 1, 1_000).subscribe();
    for n in 2..1_000 {
        live_and_end(&streams, n, 1_000);
        let rows = n * ROW_BYTES;
        assert!(streams.totals().memory_bytes <= 64 * 1024 + 8_192 + rows, "bounded: {n}");
    }
    let totals = streams.totals();
    assert_eq!(totals.streams, 1_001, "nobody left");
    assert!(totals.disk_bytes > 900_000 && totals.disk_bytes < 1_300_000, "{totals:?}");
    for n in 0..1_000 {
        let stream = streams.get(intent(n)).unwrap();
        check(&stream, "", "A Q S 4.0 E T .");
        check(&stream, "4.0", "E T .");
        check(&stream, "3.7", "A Q S R3 4.0 E T .");
        assert_eq!(stream.model(), Some("m"));
        let ended = stream.ended().unwrap().unwrap();
        assert_eq!(ended.result.as_ref().map(Bytes::len), Some(1_000));
        assert_eq!((&ended.end, ended.message.as_deref()), (&done(), Some("why")));
    }
    assert!(streams.get_here(intent(0)).is_none() && streams.get_here(INTENT).is_some());
    check(&held, "", "A Q S 4.0 E T .");
    assert_eq!(drain(&mut reader), "A Q S 4.0 E T .", "who reads keeps what it reads");
    assert_eq!(streams.expire(Time(10_499)), 500);
    assert!(streams.get(intent(499)).is_none() && streams.get(intent(500)).is_some());
    assert_eq!(streams.expire(Time(20_000)), 500);
    drop((reader, held, open));
    streams.forget(INTENT);
    let empty = StreamTotals { streams: 0, memory_bytes: 0, disk_bytes: 0 };
    assert_eq!(streams.totals(), empty, "everything is let go");
}

#[test]
fn a_long_answer_on_disk_costs_no_memory_and_is_resumed_anywhere() {
    let streams = streams(tiny());
    let stream = streams.open(intent(0), BOUNDS, NOBODY).unwrap();
    stream.begin(Attempt(1), WORKER, u64::MAX);
    stream.chunk(Attempt(1), 0, 0, all(padded(0))).unwrap();
    stream.restarted(Attempt(1));
    stream.begin(Attempt(2), WORKER, u64::MAX);
    for seq in 0..2_000 {
        stream.chunk(Attempt(2), seq, seq, all(padded(seq))).unwrap();
    }
    let result = all(Bytes::from(vec![b'7'; 100_000]));
    stream.complete(Attempt(2), Usage::default(), Some(result)).unwrap();
    stream.finish(Time(0), done(), None);
    stream.settle(Bytes::from_static(b"{}"));
    for n in 1..100 {
        live_and_end(&streams, n, 1_000);
    }
    assert!(streams.get_here(intent(0)).is_none());
    assert!(streams.totals().memory_bytes < 80 * 1024);
    let stream = streams.get(intent(0)).unwrap();
    let pieces = |from: u64| (from..2_000).map(|seq| format!("2.{seq} ")).collect::<String>();
    check(&stream, "", &format!("S R1 S {}E T .", pieces(0)));
    check(&stream, "1.0", &format!("R1 S {}E T .", pieces(0)));
    for from in [0, 1, 57, 1_000, 1_998] {
        check(&stream, &format!("2.{from}"), &format!("{}E T .", pieces(from + 1)));
    }
    // Read on after it left: nothing of it is written over meanwhile.
    let mut reader = stream.subscribe();
    streams.expire(Time(20_000));
    live_and_end(&streams, 200, 50_000);
    assert_eq!(drain(&mut reader), format!("S R1 S {}E T .", pieces(0)));
    assert_eq!(stream.ended().unwrap().unwrap().result.as_ref().map(Bytes::len), Some(100_000));
    drop((reader, stream));
    streams.expire(Time(30_000));
    assert_eq!(streams.totals(), StreamTotals { streams: 0, memory_bytes: 0, disk_bytes: 0 });
}

#[test]
fn one_that_waits_for_its_receipt_or_is_read_is_packed_in_its_turn() {
    let streams = streams(tiny());
    let late = streams.open(intent(0), BOUNDS, NOBODY).unwrap();
    late.begin(Attempt(1), WORKER, u64::MAX);
    late.finish(Time(0), done(), None);
    let mut reader = live_and_end(&streams, 1, 30_000).subscribe();
    for n in 2..200 {
        live_and_end(&streams, n, 1_000);
    }
    assert!(streams.get_here(intent(0)).is_some() && streams.get_here(intent(1)).is_some());
    late.settle(Bytes::from_static(b"{}"));
    assert_eq!(drain(&mut reader), "A Q S 4.0 E T .");
    drop((reader, late));
    for n in 200..400 {
        live_and_end(&streams, n, 1_000);
    }
    assert!(streams.get_here(intent(0)).is_none() && streams.get_here(intent(1)).is_none());
    check(&streams.get(intent(0)).unwrap(), "", "S E T .");
    check(&streams.get(intent(1)).unwrap(), "", "A Q S 4.0 E T .");
}

#[test]
fn when_rows_or_disk_are_used_up_the_oldest_leave() {
    for limits in [
        StreamLimits { memory_total: 80 * 1024, ..tiny() },
        StreamLimits { disk_total: 100 * 1024, ..tiny() },
        StreamLimits { streams_max: 150, ..tiny() },
    ] {
        let streams = streams(limits);
        for n in 0..1_000 {
            live_and_end(&streams, n, 1_000);
        }
        let kept = streams.totals().streams as u64;
        assert!(kept > 50 && kept < 450, "{kept}: {limits:?}");
        assert!(streams.get(intent(999 - kept)).is_none());
        assert!(streams.get(intent(1_000 - kept)).is_some());
    }
}

#[test]
fn an_event_id_has_one_text_form() {
    let id = LastEventId { attempt: Attempt(1 << 33), seq: 7 };
    assert_eq!(id.to_string().parse(), Ok(id));
    for wrong in ["", ".", "1", "1.", ".1", "1.2.3", "+1.2", "-1.2", "1.99999999999999999999"] {
        assert_eq!(wrong.parse::<LastEventId>(), Err(ParseLastEventIdError), "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_readers_miss_nothing() {
    const PIECES: u64 = 2_000;
    let (_streams, stream) = open(small_with_room());
    let readers: Vec<_> = (0..8)
        .map(|_| {
            let mut cursor = stream.subscribe();
            tokio::spawn(async move {
                let mut seen = 0;
                while let Some(entry) = cursor.next().await.unwrap() {
                    if let Entry::Chunk { seq, .. } = entry {
                        assert_eq!(seq, seen);
                        seen += 1;
                    }
                }
                seen
            })
        })
        .collect();
    stream.begin(Attempt(1), WORKER, u64::MAX);
    for seq in 0..PIECES {
        stream.chunk(Attempt(1), seq, seq, all(padded(seq))).unwrap();
        if seq % 16 == 0 {
            tokio::task::yield_now().await;
        }
    }
    stream.finish(Time(1), done(), None);
    stream.settle(Bytes::new());
    for reader in readers {
        assert_eq!(reader.await.unwrap(), PIECES);
    }
}

fn small_with_room() -> StreamLimits {
    StreamLimits { memory_each: 8_192, ..StreamLimits::default() }
}

#[tokio::test]
async fn a_cancelled_wait_loses_nothing() {
    let (_streams, stream) = open(StreamLimits::default());
    let mut cursor = stream.subscribe();
    for _ in 0..3 {
        let wait = tokio::time::timeout(std::time::Duration::from_millis(1), cursor.next());
        assert!(wait.await.is_err());
    }
    stream.begin(Attempt(1), WORKER, 1);
    assert!(matches!(cursor.next().await, Ok(Some(Entry::Started { .. }))));
}

#[derive(Clone, Debug)]
enum Step {
    Begin(u64),
    Adopt(u64),
    Chunk { attempt: u64, seq: u64, bytes: usize, count: u64 },
    Next { bytes: usize, count: u64 },
    Close,
    Restart(u64),
    Complete(u64, usize),
    Finish,
    Read(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => (1_u64..6).prop_map(Step::Begin),
        1 => (1_u64..6).prop_map(Step::Adopt),
        1 => (1_u64..6, 0_u64..6, 0_usize..400, 0_u64..50)
            .prop_map(|(attempt, seq, bytes, count)| Step::Chunk { attempt, seq, bytes, count }),
        4 => (0_usize..400, 0_u64..50).prop_map(|(bytes, count)| Step::Next { bytes, count }),
        1 => Just(Step::Close),
        1 => (1_u64..6).prop_map(Step::Restart),
        1 => (1_u64..6, 0_usize..3_000).prop_map(|(attempt, bytes)| Step::Complete(attempt, bytes)),
        1 => Just(Step::Finish),
        4 => (0_usize..4).prop_map(Step::Read),
    ]
}

/// What a careful client has after a reader's entries: the pieces of the newest attempt.
#[derive(Default)]
struct Client {
    attempt: u64,
    pieces: u64,
}

impl Client {
    fn take(&mut self, entry: &Entry) {
        match entry {
            Entry::Chunk { attempt, seq, .. } => {
                if attempt.0 != self.attempt {
                    assert_eq!(self.pieces, 0, "a restart is told before another attempt's piece");
                    self.attempt = attempt.0;
                }
                assert_eq!(*seq, self.pieces, "dense");
                self.pieces += 1;
            }
            Entry::Restarted { attempt } if attempt.0 >= self.attempt => self.pieces = 0,
            Entry::Accepted { .. }
            | Entry::Queued { .. }
            | Entry::Started { .. }
            | Entry::Restarted { .. }
            | Entry::End(_)
            | Entry::Settled(_) => {}
        }
    }
}

proptest! {
    /// Whatever writer and readers do: pieces come dense and in order, a restart is told before
    /// another attempt's piece, units are bounded, the books balance, and nothing panics.
    #[test]
    fn any_life_is_told_in_order(steps in prop::collection::vec(step(), 0..60)) {
        let limits = StreamLimits { memory_each: 1_024, bytes_each: 8_192, ..StreamLimits::default() };
        let (streams, stream) = open(limits);
        let mut readers: Vec<_> = (0..4).map(|_| (stream.subscribe(), Client::default())).collect();
        let (mut current, mut next) = (0, 0);
        for step in steps {
            match step {
                Step::Begin(attempt) => {
                    // As the core does it: what was delivered is given up before another begins.
                    if attempt > current && next > 0 {
                        stream.restarted(Attempt(current));
                    }
                    if stream.begin(Attempt(attempt), WORKER, 30) {
                        (current, next) = (attempt, 0);
                    }
                }
                Step::Adopt(attempt) => {
                    if attempt == current || next == 0 {
                        let adopted = stream.adopt(Attempt(attempt), WORKER, 30);
                        if adopted && attempt > current {
                            (current, next) = (attempt, 0);
                        }
                    }
                }
                Step::Chunk { attempt, seq, bytes, count } => {
                    let piece = Bytes::from(vec![b' '; bytes]);
                    if let Ok(metered) = stream.chunk(Attempt(attempt), seq, count, all(piece)) {
                        prop_assert!(metered.units <= 30);
                        prop_assert!(attempt == current && seq <= next);
                        next = next.max(seq + 1);
                    }
                }
                Step::Next { bytes, count } => {
                    let piece = Bytes::from(vec![b' '; bytes]);
                    if stream.chunk(Attempt(current), next, count, all(piece)).is_ok() {
                        next += 1;
                    }
                }
                Step::Close => {
                    let closed = stream.close(None).unwrap();
                    prop_assert_eq!(closed.delivered, next > 0);
                    prop_assert!(closed.usage.units <= 30);
                }
                Step::Restart(attempt) => stream.restarted(Attempt(attempt)),
                Step::Complete(attempt, bytes) => {
                    let result = Some(all(Bytes::from(vec![b' '; bytes])));
                    let claim = Usage { units: 99, input: 1, output: 1 };
                    let _ = stream.complete(Attempt(attempt), claim, result);
                }
                Step::Finish => stream.finish(Time(1), done(), None),
                Step::Read(reader) => {
                    let (cursor, client) = &mut readers[reader];
                    if let Next::Entry(entry) = cursor.try_next().unwrap() {
                        client.take(&entry);
                    }
                }
            }
        }
        for (cursor, client) in &mut readers {
            while let Next::Entry(entry) = cursor.try_next().unwrap() {
                client.take(&entry);
            }
        }
        drop((stream, readers));
        streams.forget(INTENT);
        prop_assert_eq!(streams.totals(), StreamTotals { streams: 0, memory_bytes: 0, disk_bytes: 0 });
    }

    #[test]
    fn arbitrary_text_is_an_event_id_or_not(text in "\\PC{0,50}") {
        if let Ok(id) = text.parse::<LastEventId>() {
            let again: LastEventId = id.to_string().parse().unwrap();
            prop_assert_eq!(again, id);
        }
    }
}
