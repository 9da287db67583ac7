//! What the store costs: durable intents a second, bytes an intent, and CPU of the projection.
//!
//! `cargo bench -p mtor-store` runs the table; `-- tune` compares sizes of pages, caches and
//! checkpoints. An intent is two facts: its hold placed, and, one batch later, resolved with three
//! transfers. Files go to `$TMPDIR`: point it at the disk in question.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark prints and may fail")]

use std::time::{Duration, Instant};

use mtor_store::{Encoded, Log, ReadTables, SqliteLog, Tuning, encode_batch};
use mtor_types::fact::Batch;

#[path = "../tests/common/mod.rs"]
mod common;

use common::{Folder, Ledger};

fn main() {
    let tune = std::env::args().any(|argument| argument == "tune");
    machine();
    if tune {
        sizes();
        return;
    }
    for (intents, batches) in [(1, 600), (64, 600), (1024, 200)] {
        append(intents, batches, 1, &Tuning::default(), "append, one batch a sync");
    }
    append(16, 4096, 64, &Tuning::default(), "append, 64 batches a sync");
    for (intents, step, accounts) in [
        (1, 1, 1000),
        (1, 64, 1000),
        (64, 1, 100),
        (64, 64, 100),
        (64, 64, 100_000),
        (1024, 4, 1000),
        (1024, 4, 1_000_000),
    ] {
        project(intents, step, accounts, &Tuning::default(), "project");
    }
    encoding();
}

fn say(text: &str) {
    println!("{text}");
}

fn machine() {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name\t: ")).unwrap_or("?");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let sqlite = rusqlite::version();
    say(&format!(
        "machine: {model}, {cores} cores; {} mtor-store {}; SQLite {sqlite}",
        std::env::consts::OS,
        env!("CARGO_PKG_VERSION")
    ));
}

/// CPU that this thread took.
fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(text.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0))
}

fn batches(intents: usize, count: usize, accounts: usize) -> Vec<Batch> {
    let mut ledger = Ledger::new(1, accounts);
    (0..count).map(|_| ledger.batch(3, intents, intents)).collect()
}

fn micros(time: Duration, count: usize) -> f64 {
    time.as_secs_f64() * 1e6 / count as f64
}

fn append(intents: usize, count: usize, group: usize, tuning: &Tuning, what: &str) {
    let encoded: Vec<Encoded> = batches(intents, count, 1000).iter().map(encode_batch).collect();
    let folder = Folder::new();
    let mut log = SqliteLog::open_with(folder.path(), tuning).unwrap();
    let mut times = Vec::new();
    let (start, begun) = (Instant::now(), cpu());
    for group in encoded.chunks(group) {
        let start = Instant::now();
        log.append(group).unwrap();
        times.push(start.elapsed());
    }
    let (wall, used) = (start.elapsed(), cpu() - begun);
    times.sort_unstable();
    let at = |per_mille: usize| micros(times[(times.len() - 1) * per_mille / 1000], 1) / 1000.0;
    let bytes: usize = encoded.iter().map(|batch| batch.bytes.len()).sum();
    let disk = std::fs::metadata(folder.path().join("log.db")).unwrap().len();
    let all = intents * count;
    say(&format!(
        "{what}: {intents:>5} intents a batch: {:>8.0} intents/s, p50 {:.2} p99 {:.2} max {:.2} ms, \
         {:.2} µs CPU, {:.0} bytes encoded, {:.0} on disk an intent",
        all as f64 / wall.as_secs_f64(),
        at(500),
        at(990),
        at(1000),
        micros(used, all),
        bytes as f64 / all as f64,
        disk as f64 / all as f64,
    ));
}

fn project(intents: usize, step: usize, accounts: usize, tuning: &Tuning, what: &str) {
    let count = (200_000 / intents).clamp(64, 20_000);
    let encoded: Vec<Encoded> =
        batches(intents, count, accounts).iter().map(encode_batch).collect();
    let folder = Folder::new();
    let mut tables = ReadTables::open_with(folder.path(), tuning).unwrap();
    let (start, begun) = (Instant::now(), cpu());
    for step in encoded.chunks(step) {
        tables.project(step).unwrap();
    }
    let (wall, used) = (start.elapsed(), cpu() - begun);
    drop(tables);
    let disk = std::fs::metadata(folder.path().join("read.db")).unwrap().len();
    let all = intents * count;
    say(&format!(
        "{what}: {intents:>5} intents a batch, {step:>2} batches a step, {accounts:>7} accounts: \
         {:.2} µs CPU, {:.2} µs wall, {:.1} bytes an intent",
        micros(used, all),
        micros(wall, all),
        disk as f64 / all as f64,
    ));
}

fn encoding() {
    let batches = batches(64, 2000, 1000);
    let all = 64 * batches.len();
    let begun = cpu();
    let encoded: Vec<Encoded> = batches.iter().map(encode_batch).collect();
    let encode = cpu() - begun;
    let begun = cpu();
    let facts: usize =
        encoded.iter().map(|e| mtor_store::decode_batch(e).unwrap().facts.len()).sum();
    let decode = cpu() - begun;
    say(&format!(
        "encode {:.2} µs, decode {:.2} µs CPU an intent ({facts} facts)",
        micros(encode, all),
        micros(decode, all)
    ));
}

fn sizes() {
    for page_bytes in [4096, 8192, 16384] {
        for checkpoint_kib in [1024, 4096, 16384, 65536] {
            let checkpoint_pages = checkpoint_kib * 1024 / page_bytes;
            for cache_kib in [256, 1024, 2048] {
                let tuning = Tuning { page_bytes, cache_kib, checkpoint_pages, pages_max: None };
                let what =
                    format!("page {page_bytes} checkpoint {checkpoint_kib}K cache {cache_kib}K");
                append(1, 400, 1, &tuning, &what);
                append(64, 1000, 1, &tuning, &what);
                append(1024, 200, 1, &tuning, &what);
                project(64, 64, 100_000, &tuning, &what);
            }
        }
    }
}
