//! The replay buffers: an intent with one result, and appends and reads of a long stream; and what a
//! worker's word costs to read, and to look for content in.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use divan::{Bencher, black_box};
use mtor_core::router::TrustClass;
use mtor_core::share::{Holder, Rank};
use mtor_server::manifests::Manifests;
use mtor_server::streams::{
    Bounds, IntentStream, Measured, Next, Server, StreamLimits, Streams, Yield,
};
use mtor_types::event::EventIn;
use mtor_types::fact::Asset;
use mtor_types::intent::{End, Outcome, Reason, Usage};
use mtor_types::worker::{Chunk, Complete};
use mtor_types::{AccountId, Amount, Attempt, IntentId, Time, WorkerId};

#[global_allocator]
static ALLOCATOR: divan::AllocProfiler<std::alloc::System> =
    divan::AllocProfiler::new(std::alloc::System);

fn main() {
    divan::main();
}

const BOUNDS: Bounds = Bounds {
    units_max: u64::MAX,
    input_units: 10,
    output_max: u64::MAX,
    answers: 1,
    may_be_cut: true,
    yields: Yield { units_per_byte: None, bytes_per_unit: None },
};

const HOLDER: Holder = Holder { account: None, network: None, rank: Rank::Realm };
const SERVER: Server =
    Server { worker: WorkerId([1; 32]), owner: AccountId([1; 32]), class: TrustClass::Own };

fn streams(limits: StreamLimits) -> Streams {
    let dir = std::env::temp_dir().join("mtor-streams-bench");
    Streams::new(limits, &dir).expect("a directory for temporary files")
}

fn intent(n: u64) -> IntentId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&n.to_be_bytes());
    IntentId(id)
}

fn end(intent: IntentId) -> End {
    End {
        intent,
        outcome: Outcome::Completed(Reason::Done),
        usage: Usage::default(),
        asset: Asset::Grant,
        cost: Amount::ZERO,
        refunded: Amount::ZERO,
        sequence: 0,
    }
}

/// Everything that an echo with one result does to its buffer, one reader included. The buffers
/// stay, as they do for ten minutes.
#[divan::bench(sample_count = 100, sample_size = 500)]
fn echo(bencher: Bencher<'_, '_>) {
    let streams = streams(StreamLimits { streams_max: 10_000_000, ..StreamLimits::default() });
    let count = AtomicU64::new(0);
    let result = Bytes::from_static(b"{\"hello\":\"world\"}");
    let receipt = Bytes::from_static(b"{}");
    bencher.bench(|| {
        let id = intent(count.fetch_add(1, Ordering::Relaxed));
        let stream = streams.open(id, BOUNDS, HOLDER).expect("room");
        let mut cursor = stream.subscribe();
        stream.accepted(Asset::Grant, Amount::ZERO, 0, 0);
        stream.begin(Attempt(1), SERVER, 1);
        stream
            .complete(Attempt(1), Usage::default(), Some(Measured::plain(result.clone())))
            .expect("taken");
        stream.finish(Time(1), end(id), None);
        stream.settle(receipt.clone());
        while let Ok(Next::Entry(entry)) = cursor.try_next() {
            black_box(entry);
        }
    });
}

fn filled(pieces: u64, memory_each: u64) -> (Streams, Arc<IntentStream>) {
    let streams = streams(StreamLimits { memory_each, ..StreamLimits::default() });
    let stream = streams.open(intent(1), BOUNDS, HOLDER).expect("room");
    stream.begin(Attempt(1), SERVER, u64::MAX);
    append(&stream, pieces);
    (streams, stream)
}

fn append(stream: &IntentStream, pieces: u64) {
    // A piece as OpenAI's chunks are: about 200 bytes.
    let piece = Bytes::from(vec![b'x'; 200]);
    for seq in 0..pieces {
        stream.chunk(Attempt(1), seq, seq, Measured::plain(piece.clone())).expect("taken");
    }
}

const PIECES: u64 = 10_000;
/// Everything stays in memory; most is spilled.
const WINDOWS: [u64; 2] = [64 * 1024 * 1024, 256 * 1024];

#[divan::bench(args = WINDOWS)]
fn append_10000(bencher: Bencher<'_, '_>, memory_each: u64) {
    bencher
        .counter(PIECES)
        .with_inputs(|| filled(0, memory_each))
        .bench_refs(|(_, stream)| append(stream, PIECES));
}

#[divan::bench(args = WINDOWS)]
fn read_10000(bencher: Bencher<'_, '_>, memory_each: u64) {
    let (_streams, stream) = filled(PIECES, memory_each);
    bencher.counter(PIECES).bench(|| {
        let mut cursor = stream.subscribe();
        while let Ok(Next::Entry(entry)) = cursor.try_next() {
            black_box(entry);
        }
    });
}

/// A token of a chat, as llama.cpp's server sends it.
const TOKEN: &str = r#"{"choices":[{"finish_reason":null,"index":0,"delta":{"content":" token"}}],"created":1795388007,"id":"chatcmpl-01a20576-e4eb-75ec-bc8b-7323a30128c8","model":"qwen2.5-coder-1.5b-instruct","system_fingerprint":"b1-0000000","object":"chat.completion.chunk"}"#;

fn frame(kind: &str, data: &str) -> String {
    let ids = r#""intent":"01a20575-438e-7189-b9f0-2bee8a944bcd","attempt":4294967305"#;
    format!(
        r#"{{"specversion":"1.0","id":"17","source":"/worker","type":"mtor.worker.{kind}.v1","data":{{{ids},{data}}}}}"#
    )
}

/// What taking a piece cost before its content was looked for.
#[divan::bench]
fn read_token(bencher: Bencher<'_, '_>) {
    let text = frame("chunk", &format!(r#""seq":7,"count":7,"piece":{TOKEN}"#));
    bencher.bench(|| {
        let event = EventIn::parse(black_box(&text)).expect("an event");
        let chunk: Chunk<'_> = event.data().expect("a chunk");
        Bytes::copy_from_slice(chunk.piece.get().as_bytes())
    });
}

#[divan::bench]
fn weigh_token(bencher: Bencher<'_, '_>) {
    let all = Manifests::built_in().expect("they are good");
    let form = &all.get("chat").expect("it is there").form;
    bencher.bench(|| form.piece(black_box(TOKEN), 1));
}

const MEGABYTE: usize = 1024 * 1024;

#[divan::bench]
fn read_megabyte(bencher: Bencher<'_, '_>) {
    let usage = r#""usage":{"units":7,"input":0,"output":7}"#;
    let text = frame("complete", &format!(r#"{usage},"result":{}"#, bins()));
    bencher.counter(divan::counter::BytesCount::new(MEGABYTE)).bench(|| {
        let event = EventIn::parse(black_box(&text)).expect("an event");
        let complete: Complete<'_> = event.data().expect("a result");
        Bytes::copy_from_slice(complete.result.expect("there is one").get().as_bytes())
    });
}

#[divan::bench]
fn weigh_megabyte(bencher: Bencher<'_, '_>) {
    let all = Manifests::built_in().expect("they are good");
    let form = &all.get("fft").expect("it is there").form;
    let text = bins();
    bencher
        .counter(divan::counter::BytesCount::new(MEGABYTE))
        .bench(|| form.result(black_box(&text), 1));
}

fn bins() -> String {
    let data = "AbC+/=09".repeat(MEGABYTE / 8);
    format!(r#"{{"dtype":"c64","shape":[98304],"data":"{data}"}}"#)
}
