//! Blobs are sealed, bounded, and whole or not there.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as the tests do")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use mtor_store::{BlobName, BlobStore, StoreError};
use mtor_types::IntentId;

mod common;

use common::{Folder, Random};

fn open(folder: &Folder) -> BlobStore {
    BlobStore::open(folder.path(), [7; 32], 1 << 20).unwrap()
}

fn intent(number: u8) -> IntentId {
    IntentId([1, 2, 3, number % 3, 5, 6, 0x77, 8, 0x89, 0, 0, 0, 0, 0, 0, number])
}

fn files(folder: &Folder) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.path().to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found
}

#[test]
fn what_was_put_is_got_until_deleted() {
    let folder = Folder::new();
    let store = open(&folder);
    let mut random = Random(1);
    let bytes: Vec<Vec<u8>> =
        (0..20_u8).map(|n| random.bytes::<64>().repeat(usize::from(n))).collect();
    let named = |n: u8| BlobName::payload(intent(n));
    let all: Vec<(BlobName, &[u8])> =
        (0..).zip(&bytes).map(|(n, bytes)| (named(n), bytes.as_slice())).collect();
    all.iter().for_each(|(name, bytes)| store.put(*name, bytes).unwrap());
    store.put(BlobName::result(intent(4)), b"its result").unwrap();
    let on_disk: u64 = files(&folder).iter().map(|file| fs::metadata(file).unwrap().len()).sum();
    assert_eq!(store.bytes(), on_disk);

    let store = {
        drop(store);
        open(&folder)
    };
    assert_eq!(store.bytes(), on_disk);
    for (name, bytes) in &all {
        assert_eq!(store.get(*name).unwrap(), *bytes);
    }
    store.put(named(3), b"replaced").unwrap();
    assert_eq!(store.get(named(3)).unwrap(), b"replaced");
    assert_eq!(store.get(BlobName::result(intent(4))).unwrap(), b"its result");
    for (name, _) in &all {
        store.delete(*name).unwrap();
        store.delete(*name).unwrap();
        assert!(matches!(store.get(*name), Err(StoreError::NotFound)));
    }
    store.delete(BlobName::result(intent(4))).unwrap();
    assert_eq!(store.bytes(), 0);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "empty folders are gone");
}

#[test]
fn files_are_sealed_and_bound_to_their_names() {
    let folder = Folder::new();
    let store = open(&folder);
    let (one, two) = (BlobName::payload(intent(1)), BlobName::result(intent(1)));
    let canary = b"the canary sings in the payload";
    store.put(one, canary).unwrap();
    let path = files(&folder).pop().unwrap();
    let good = fs::read(&path).unwrap();
    assert!(!good.windows(6).any(|part| part == b"canary"));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    store.put(one, canary).unwrap();
    assert_ne!(fs::read(&path).unwrap(), good, "each seal has its own nonce");

    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&path, bad).unwrap();
        assert!(store.get(one).is_err(), "byte {at}");
    }
    for length in 0..good.len() {
        fs::write(&path, &good[..length]).unwrap();
        assert!(matches!(store.get(one), Err(StoreError::Damaged { .. })), "length {length}");
    }
    fs::write(&path, &good).unwrap();
    assert_eq!(store.get(one).unwrap(), canary);
    fs::rename(&path, path.with_extension("result")).unwrap();
    assert!(matches!(store.get(two), Err(StoreError::Damaged { .. })), "moved to another name");
    fs::write(&path, &good).unwrap();
    let other = BlobStore::open(folder.path(), [8; 32], 1 << 20).unwrap();
    assert!(matches!(other.get(one), Err(StoreError::Damaged { .. })), "another key");
}

#[test]
fn the_bound_holds_and_room_is_given_back() {
    let folder = Folder::new();
    let store = BlobStore::open(folder.path(), [7; 32], 1000).unwrap();
    let name = |n| BlobName::payload(intent(n));
    store.put(name(1), &[1; 400]).unwrap();
    let error = store.put(name(2), &[2; 600]).unwrap_err();
    assert!(matches!(error, StoreError::BlobsFull { bytes_max: 1000, .. }), "{error}");
    assert!(error.is_transient());
    assert!(matches!(store.get(name(2)), Err(StoreError::NotFound)));
    store.put(name(3), &[3; 400]).unwrap();
    store.delete(name(1)).unwrap();
    store.put(name(2), &[2; 400]).unwrap();
    assert!(store.bytes() <= 1000);
    // Threads together.
    drop(store);
    let store = BlobStore::open(folder.path(), [7; 32], 20_000).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4_u8 {
            let store = &store;
            scope.spawn(move || {
                for n in 0..20 {
                    let _ = store.put(name(100 + thread * 20 + n), &[9; 500]);
                    assert!(store.bytes() <= 20_000);
                    if n % 3 == 0 {
                        store.delete(name(100 + thread * 20 + n)).unwrap();
                    }
                }
            });
        }
    });
    let on_disk: u64 = files(&folder).iter().map(|file| fs::metadata(file).unwrap().len()).sum();
    assert_eq!(store.bytes(), on_disk);
}

#[test]
fn what_a_crash_left_half_done_is_removed() {
    let folder = Folder::new();
    open(&folder).put(BlobName::payload(intent(1)), b"whole").unwrap();
    let half = folder.path().join("aside").join("7");
    fs::write(&half, "half").unwrap();
    let store = open(&folder);
    assert!(!half.exists());
    assert_eq!(store.get(BlobName::payload(intent(1))).unwrap(), b"whole");
}

#[test]
fn old_ones_are_listed_oldest_first() {
    let folder = Folder::new();
    let store = open(&folder);
    let now = SystemTime::now();
    let mut names: Vec<BlobName> = (0..9).map(|n| BlobName::payload(intent(n))).collect();
    for name in &names {
        store.put(*name, b"x").unwrap();
    }
    names.sort_unstable();
    assert_eq!(store.older_than(now + Duration::from_secs(60), 100).unwrap(), names);
    assert_eq!(store.older_than(now + Duration::from_secs(60), 4).unwrap(), names[..4]);
    assert_eq!(store.older_than(now - Duration::from_secs(60), 100).unwrap(), []);
    assert_eq!(store.older_than(now + Duration::from_secs(60), 0).unwrap(), []);
}
