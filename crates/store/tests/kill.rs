//! Kill -9 at any moment: what was acknowledged is there. The page cache survives a kill, so this
//! proves the order of steps, not the sync; the sync is SQLite's (`synchronous = FULL`).
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as the tests do")]

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use mtor_store::{BlobName, BlobStore, DataDir, Encoded, Log, Snapshot, SqliteLog, Tuning};
use mtor_types::{IntentId, Time};

mod common;

use common::{Folder, Random};

const CHILD_DIR: &str = "MTOR_STORE_TEST_CHILD";

fn row(number: u64) -> Encoded {
    let mut random = Random(number);
    let size = usize::try_from(random.below(9000)).unwrap() + 1;
    Encoded { number, at: Time(number), bytes: vec![random.bytes::<1>()[0]; size] }
}

fn name(number: u64) -> BlobName {
    BlobName::payload(IntentId(Random(number).bytes()))
}

/// Run by the test below in a process of its own: appends until it is killed.
#[test]
fn child() {
    #[allow(clippy::disallowed_methods, reason = "how a test tells its child what it is")]
    let Some(dir) = std::env::vars().find_map(|(key, value)| (key == CHILD_DIR).then_some(value))
    else {
        return;
    };
    let data = DataDir::open(dir.as_ref()).unwrap();
    // Checkpoints often, so that some are hit.
    let tuning = Tuning { checkpoint_pages: 20, ..Tuning::default() };
    let mut log = SqliteLog::open_with(data.path(), &tuning).unwrap();
    let blobs = BlobStore::open(&data.path().join("blobs"), [1; 32], u64::MAX).unwrap();
    let mut random = Random(log.last());
    loop {
        let first = log.last() + 1;
        let batches: Vec<Encoded> = (first..=first + random.below(4)).map(row).collect();
        blobs.put(name(first), &first.to_le_bytes()).unwrap();
        log.append(&batches).unwrap();
        if random.below(4) == 0 {
            log.snapshots().save(&Snapshot { batch: first, bytes: vec![9; 2000] }).unwrap();
        }
        writeln!(std::io::stderr(), "acknowledged {first} {}", log.last()).unwrap();
    }
}

#[test]
fn every_acknowledged_batch_survives_a_kill() {
    let folder = Folder::new();
    let mut random = Random(99);
    let mut last = 0;
    for _ in 0..12 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture"])
            .env(CHILD_DIR, folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50 + random.below(150)));
            child.kill().unwrap();
            child.wait().unwrap();
            random
        });
        let mut blobs = Vec::new();
        for line in lines.map_while(Result::ok) {
            let mut words = line.split(' ');
            let Some("acknowledged") = words.next() else { continue };
            // The last line may be cut in the middle.
            if let (Some(first), Some(Ok(number)), true) = (
                words.next(),
                words.next().map(str::parse),
                line.ends_with(|c: char| c.is_ascii_digit()),
            ) {
                let number: u64 = number;
                blobs.push(first.parse::<u64>().unwrap());
                last = last.max(number);
            }
        }
        random = killer.join().unwrap();
        let data = DataDir::open(folder.path()).unwrap();
        let log = SqliteLog::open(data.path()).unwrap();
        assert!(log.last() >= last, "{} of {last}", log.last());
        last = log.last();
        log.verify().unwrap();
        let mut number = 0;
        while number < last {
            for found in log.read_after(number, 1000).unwrap() {
                number += 1;
                assert_eq!(found, row(number));
            }
        }
        let loaded = log.snapshots().load().unwrap();
        assert!(loaded.damaged.is_empty());
        let store = BlobStore::open(&data.path().join("blobs"), [1; 32], u64::MAX).unwrap();
        for first in blobs {
            assert_eq!(store.get(name(first)).unwrap(), first.to_le_bytes());
        }
    }
    assert!(last > 12, "the child did append: {last}");
}
