//! The log keeps what it acknowledged, finds what was damaged, and says when it is full.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as the tests do")]

use std::fs;
use std::path::Path;

use mtor_store::log::Loaded;
use mtor_store::{
    DataDir, Encoded, Log, MemoryLog, Snapshot, SqliteLog, StoreError, Tuning, decode_batch,
    encode_batch,
};
use mtor_types::Time;
use proptest::prelude::*;

mod common;

use common::{Folder, Ledger, Random};

fn row(number: u64, size: usize) -> Encoded {
    let bytes = Random(number).next().to_le_bytes().into_iter().cycle().take(size).collect();
    Encoded { number, at: Time(1000 + number), bytes }
}

fn rows(numbers: std::ops::RangeInclusive<u64>, size: usize) -> Vec<Encoded> {
    numbers.map(|number| row(number, size)).collect()
}

fn all(log: &impl Log) -> Result<Vec<Encoded>, StoreError> {
    let mut found: Vec<Encoded> = Vec::new();
    loop {
        let more = log.read_after(found.last().map_or(0, |row| row.number), 7)?;
        if more.is_empty() {
            return Ok(found);
        }
        found.extend(more);
    }
}

#[test]
fn a_batch_is_encoded_and_decoded() {
    let mut ledger = Ledger::new(1, 3);
    ledger.keyed_per_cent = 50;
    for _ in 0..3 {
        ledger.batch(5, 3, 5);
    }
    let batch = ledger.batch(5, 3, 5);
    let encoded = encode_batch(&batch);
    assert_eq!(encoded.bytes[0], 1, "the format byte leads");
    assert_eq!(decode_batch(&encoded).unwrap(), batch);

    let newer = Encoded { bytes: [&[2], &encoded.bytes[1..]].concat(), ..encoded.clone() };
    assert!(matches!(decode_batch(&newer), Err(StoreError::Newer { found: 2, known: 1, .. })));
    let longer = Encoded { bytes: [&encoded.bytes[..], &[0]].concat(), ..encoded.clone() };
    assert!(matches!(decode_batch(&longer), Err(StoreError::Damaged { batch: 4, .. })));
    let other = Encoded { number: 5, ..encoded };
    assert!(matches!(decode_batch(&other), Err(StoreError::Damaged { batch: 5, .. })));
}

/// What a caller may do to a log.
#[derive(Clone, Debug)]
enum Step {
    /// So many batches, from the one after the last minus `back`: `back` above 0 repeats some.
    Append {
        count: u64,
        back: u64,
        size: usize,
    },
    /// Leaves out a number.
    Skip,
    /// The last batch's number with other bytes.
    Rewrite,
    Reopen,
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..5_u64, 0..3_u64, 1..6000_usize)
            .prop_map(|(count, back, size)| Step::Append { count, back, size }),
        1 => Just(Step::Skip),
        1 => Just(Step::Rewrite),
        2 => Just(Step::Reopen),
        1 => Just(Step::Crash),
    ]
}

/// Does a step to a log; says whether it was taken.
fn act(log: &mut impl Log, sizes: &mut Vec<usize>, step: &Step) -> bool {
    let last = log.last();
    let known = |sizes: &[usize], number: u64| {
        let size = sizes[usize::try_from(number - 1).unwrap()];
        row(number, size)
    };
    match step {
        Step::Append { count, back, size } => {
            let first = (last + 1).saturating_sub(*back).max(1);
            let batches: Vec<Encoded> = (first..first + count)
                .map(|n| if n <= last { known(sizes, n) } else { row(n, *size) })
                .collect();
            let taken = log.append(&batches).is_ok();
            sizes.resize(usize::try_from(log.last()).unwrap(), *size);
            taken
        }
        Step::Skip => log.append(&[row(last + 2, 9)]).is_ok(),
        Step::Rewrite if last > 0 => log.append(&[row(last, 6001)]).is_ok(),
        Step::Rewrite | Step::Reopen | Step::Crash => true,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_file_behaves_as_the_model(steps in prop::collection::vec(step(), 1..40)) {
        let folder = Folder::new();
        let mut file = SqliteLog::open(folder.path()).unwrap();
        let mut model = MemoryLog::default();
        let (mut file_sizes, mut model_sizes) = (Vec::new(), Vec::new());
        for step in &steps {
            let taken = act(&mut file, &mut file_sizes, step);
            prop_assert_eq!(taken, act(&mut model, &mut model_sizes, step), "{:?}", step);
            // Every append of the file is synced; the model's is made so.
            model.sync(u64::MAX);
            match step {
                Step::Reopen => file = { drop(file); SqliteLog::open(folder.path()).unwrap() },
                Step::Crash => model.crash(),
                Step::Append { .. } | Step::Skip | Step::Rewrite => {}
            }
            prop_assert_eq!(file.last(), model.last());
        }
        prop_assert_eq!(all(&file).unwrap(), all(&model).unwrap());
        prop_assert!(file.verify().is_ok());
    }
}

#[test]
fn the_memory_log_loses_what_was_not_synced() {
    let mut log = MemoryLog::default();
    log.append(&rows(1..=5, 10)).unwrap();
    log.sync(3);
    log.sync(2);
    assert_eq!((log.last(), log.synced()), (5, 3));
    log.crash();
    assert_eq!(all(&log).unwrap(), rows(1..=3, 10));
    log.set_full(true);
    assert!(log.append(&rows(4..=4, 10)).unwrap_err().is_transient());
    log.set_full(false);
    log.append(&rows(4..=4, 10)).unwrap();
}

#[test]
fn a_wrong_number_changes_nothing() {
    let folder = Folder::new();
    let mut log = SqliteLog::open(folder.path()).unwrap();
    log.append(&rows(1..=3, 10)).unwrap();
    for wrong in [
        vec![row(5, 10)],
        vec![row(4, 10), row(6, 10)],
        vec![row(4, 10), row(4, 10)],
        vec![row(0, 10), row(1, 10)],
        vec![row(3, 11), row(4, 10)],
        vec![Encoded { at: Time(9), ..row(3, 10) }],
    ] {
        let error = log.append(&wrong).unwrap_err();
        assert!(matches!(error, StoreError::OutOfOrder { .. }), "{error}");
        assert!(!error.is_transient());
        assert_eq!(all(&log).unwrap(), rows(1..=3, 10));
    }
    // The same bytes again, and what follows them.
    log.append(&rows(2..=5, 10)).unwrap();
    assert_eq!(all(&log).unwrap(), rows(1..=5, 10));
}

#[test]
fn reading_stops_at_its_bound_of_bytes() {
    let folder = Folder::new();
    let mut log = SqliteLog::open(folder.path()).unwrap();
    let large = rows(1..=5, 300 * 1024);
    log.append(&large).unwrap();
    assert_eq!(log.read_after(0, 100).unwrap().len(), 2);
    assert_eq!(log.read_after(3, 1).unwrap(), large[3..4]);
    assert_eq!(all(&log).unwrap(), large);
}

#[test]
fn a_full_disk_is_told_and_nothing_is_lost() {
    let folder = Folder::new();
    let small = Tuning { pages_max: Some(40), ..Tuning::default() };
    let mut log = SqliteLog::open_with(folder.path(), &small).unwrap();
    let mut number = 0;
    let error = loop {
        match log.append(&[row(number + 1, 5000)]) {
            Ok(()) => number += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::Full { .. }), "{error}");
    assert!(error.is_transient());
    assert!(number > 10);
    assert_eq!(log.last(), number);
    assert_eq!(all(&log).unwrap(), rows(1..=number, 5000));
    assert!(matches!(log.append(&[row(number + 1, 5000)]), Err(StoreError::Full { .. })));

    drop(log);
    let mut log = SqliteLog::open(folder.path()).unwrap();
    log.append(&rows(number + 1..=number + 9, 5000)).unwrap();
    assert_eq!(all(&log).unwrap(), rows(1..=number + 9, 5000));
}

#[test]
fn another_format_or_program_is_refused_and_left_alone() {
    let folder = Folder::new();
    let path = folder.path().join("log.db");
    SqliteLog::open(folder.path()).unwrap().append(&rows(1..=2, 10)).unwrap();
    let set = |pragma: &str| {
        rusqlite::Connection::open(&path).unwrap().execute_batch(pragma).unwrap();
    };
    set("PRAGMA user_version = 2");
    let error = SqliteLog::open(folder.path()).unwrap_err();
    assert!(matches!(error, StoreError::Newer { found: 2, known: 1, .. }), "{error}");
    assert!(error.to_string().contains("update the program"), "{error}");
    set("PRAGMA user_version = 1; PRAGMA application_id = 77");
    let error = SqliteLog::open(folder.path()).unwrap_err();
    assert!(matches!(error, StoreError::Foreign { .. }), "{error}");

    fs::write(&path, "notes of somebody").unwrap();
    let error = SqliteLog::open(folder.path()).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"notes of somebody");
}

#[test]
fn the_second_opener_is_told_who_is_the_first() {
    let folder = Folder::new();
    let path = folder.path().join("deep").join("data");
    let held = DataDir::open(&path).unwrap();
    assert_eq!(held.path(), path);
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o700);
    let error = DataDir::open(&path).unwrap_err();
    let StoreError::InUse { holder, .. } = &error else { panic!("{error}") };
    assert_eq!(holder.pid, Some(std::process::id()));
    assert!(holder.since.is_some());
    assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
    drop(held);
    DataDir::open(&path).unwrap();
}

#[test]
fn a_damaged_snapshot_gives_way_to_the_one_before() {
    let folder = Folder::new();
    let mut log = SqliteLog::open(folder.path()).unwrap();
    log.append(&rows(1..=9, 10)).unwrap();
    let of = |batch: u64| Snapshot { batch, bytes: vec![u8::try_from(batch).unwrap(); 50] };
    for batch in [3, 5, 8] {
        log.snapshots().save(&of(batch)).unwrap();
    }
    let path = |batch: u64| folder.path().join(format!("snapshot-{batch:020}"));
    assert!(!path(3).exists(), "the newest two are kept");

    let good = fs::read(path(8)).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        fs::write(path(8), &bad).unwrap();
        let Loaded { snapshot, damaged } = log.snapshots().load().unwrap();
        assert_eq!((snapshot, damaged), (Some(of(5)), vec![path(8)]), "byte {at}");
    }
    for length in [0, 10, good.len() - 1] {
        fs::write(path(8), &good[..length]).unwrap();
        assert_eq!(log.load_snapshot().unwrap(), Some(of(5)));
    }
    fs::write(path(5), "").unwrap();
    assert_eq!(log.load_snapshot().unwrap(), None);
    fs::write(path(8), &good).unwrap();
    assert_eq!(log.load_snapshot().unwrap(), Some(of(8)));
    assert_eq!(log.snapshots().load().unwrap().damaged, Vec::<std::path::PathBuf>::new());

    // Written aside and left there by a crash.
    fs::write(folder.path().join("snapshot.tmp"), "half").unwrap();
    drop(log);
    let log = SqliteLog::open(folder.path()).unwrap();
    assert!(!folder.path().join("snapshot.tmp").exists());
    // A snapshot of a batch that the log no longer has: the log has lost its end.
    log.snapshots().save(&of(10)).unwrap();
    assert!(matches!(log.load_snapshot(), Err(StoreError::Damaged { batch: 10, .. })));
}

#[test]
fn a_snapshot_of_a_newer_version_is_refused() {
    use sha2::{Digest as _, Sha256};
    let folder = Folder::new();
    let mut log = SqliteLog::open(folder.path()).unwrap();
    log.append(&rows(1..=1, 10)).unwrap();
    log.snapshots().save(&Snapshot { batch: 1, bytes: vec![1] }).unwrap();
    let path = folder.path().join(format!("snapshot-{:020}", 1));
    let mut bytes = fs::read(&path).unwrap();
    let body = bytes.len() - 32;
    bytes[8] = 2;
    let sum = Sha256::digest(&bytes[..body]);
    bytes[body..].copy_from_slice(&sum);
    fs::write(&path, bytes).unwrap();
    assert!(matches!(log.load_snapshot(), Err(StoreError::Newer { found: 2, .. })));
}

/// Everything as written, or an error that says so: never anything else.
fn check_damaged(dir: &Path, written: &[Encoded], what: &str) -> bool {
    let read = SqliteLog::open(dir).and_then(|log| {
        log.verify()?;
        all(&log)
    });
    match read {
        Ok(found) => {
            assert!(found == written, "{what}: {} rows of {}", found.len(), written.len());
            false
        }
        Err(StoreError::Damaged { batch, .. }) => {
            assert!(batch <= written.len() as u64 + 1, "{what}: batch {batch}");
            true
        }
        // The first page tells the format.
        Err(StoreError::Foreign { .. } | StoreError::Newer { .. }) => true,
        Err(error) => panic!("{what}: {error:?}"),
    }
}

fn copy(from: &Path, to: &Path) {
    for name in ["log.db", "log.db-wal"] {
        let _ = fs::remove_file(to.join(name));
        if from.join(name).exists() {
            fs::copy(from.join(name), to.join(name)).unwrap();
        }
    }
    let _ = fs::remove_file(to.join("log.db-shm"));
}

#[test]
fn a_flipped_byte_anywhere_in_the_file_is_found_or_harmless() {
    let (origin, work) = (Folder::new(), Folder::new());
    let tuning = Tuning { page_bytes: 1024, ..Tuning::default() };
    let written: Vec<Encoded> =
        (1..=60).map(|n| row(n, usize::try_from(n).unwrap() * 37)).collect();
    let mut log = SqliteLog::open_with(origin.path(), &tuning).unwrap();
    written.chunks(3).for_each(|rows| log.append(rows).unwrap());
    drop(log);
    let good = fs::read(origin.path().join("log.db")).unwrap();
    let path = work.path().join("log.db");
    let mut found = 0;
    // A prime step, so that every offset within a page comes up.
    let places: Vec<usize> = (0..good.len()).step_by(149).chain(0..100).collect();
    for at in &places {
        copy(origin.path(), work.path());
        let mut bad = good.clone();
        bad[*at] ^= 1 << (at % 8);
        fs::write(&path, &bad).unwrap();
        found += usize::from(check_damaged(work.path(), &written, &format!("byte {at}")));
    }
    assert!(found * 2 > places.len(), "most bytes matter: {found} of {}", places.len());
    // Pages that were cut off or wiped.
    for at in (0..good.len()).step_by(1024) {
        copy(origin.path(), work.path());
        let mut bad = good.clone();
        bad[at..at + 1024].fill(0);
        fs::write(&path, &bad).unwrap();
        if at > 0 {
            assert!(check_damaged(work.path(), &written, &format!("page at {at}")));
        }
        fs::write(&path, &good[..at]).unwrap();
        if at > 0 {
            assert!(check_damaged(work.path(), &written, &format!("cut at {at}")));
        }
    }
}

#[test]
fn a_changed_row_is_found_with_its_number() {
    let folder = Folder::new();
    let mut log = SqliteLog::open(folder.path()).unwrap();
    log.append(&rows(1..=20, 100)).unwrap();
    let edit = |sql: &str| {
        let other = rusqlite::Connection::open(folder.path().join("log.db")).unwrap();
        assert_eq!(other.execute(sql, []).unwrap(), 1, "{sql}");
    };
    edit("UPDATE batch SET at = at + 1 WHERE number = 15");
    assert!(matches!(all(&log), Err(StoreError::Damaged { batch: 15, .. })));
    assert!(log.read_after(16, 9).is_ok(), "what follows is proven from the row before it");
    edit("UPDATE batch SET bytes = x'00' WHERE number = 9");
    assert!(matches!(log.verify(), Err(StoreError::Damaged { batch: 9, .. })));
    edit("DELETE FROM batch WHERE number = 4");
    assert!(matches!(log.verify(), Err(StoreError::Damaged { batch: 4, .. })));
    edit("DELETE FROM batch WHERE number = 20");
    assert!(matches!(log.read_after(18, 9), Err(StoreError::Damaged { batch: 20, .. })));
    drop(log);
    let error = SqliteLog::open(folder.path()).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { batch: 20, .. }), "{error}");
}

#[test]
fn a_flipped_byte_in_the_write_ahead_log_is_found_but_for_the_last_commit() {
    let (live, work) = (Folder::new(), Folder::new());
    let mut log = SqliteLog::open(live.path()).unwrap();
    let written = rows(1..=12, 3000);
    written.chunks(1).for_each(|rows| log.append(rows).unwrap());
    // As a power cut leaves it: nothing moved to its place yet.
    let good = fs::read(live.path().join("log.db-wal")).unwrap();
    copy(live.path(), work.path());
    assert!(!check_damaged(work.path(), &written, "nothing"));

    let frame = 24 + 4096;
    let commits: Vec<usize> = (0..(good.len() - 32) / frame)
        .filter(|index| good[32 + index * frame + 4..][..4] != [0; 4])
        .collect();
    let last_commit = 32 + (commits[commits.len() - 2] + 1) * frame;
    // Without these the last two commits look like one that was torn.
    let salts_before = last_commit - frame + 8..last_commit - frame + 16;
    let mut missed = 0;
    for at in (0..good.len()).step_by(1499).chain(0..32) {
        copy(live.path(), work.path());
        let mut bad = good.clone();
        bad[at] ^= 0x40;
        fs::write(work.path().join("log.db-wal"), &bad).unwrap();
        if at >= last_commit || salts_before.contains(&at) {
            // As a torn write: the commit is not there, and the log is whole without it.
            let log = SqliteLog::open(work.path()).unwrap();
            let kept = if at >= last_commit { 11 } else { 10 };
            assert_eq!(all(&log).unwrap(), written[..kept], "byte {at}");
        } else if !check_damaged(work.path(), &written, &format!("byte {at}")) {
            missed += 1;
        } else {
            assert!(check_damaged(work.path(), &written, "the evidence stays"));
        }
    }
    assert_eq!(missed, 0);
    // Cut short as by a power cut in the middle of the last commit: no damage.
    copy(live.path(), work.path());
    fs::write(work.path().join("log.db-wal"), &good[..last_commit + frame / 2]).unwrap();
    assert_eq!(all(&SqliteLog::open(work.path()).unwrap()).unwrap(), written[..11]);
}
