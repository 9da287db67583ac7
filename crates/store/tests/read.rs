//! The read tables answer as a naive reading of the whole log does, however they came about.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as the tests do")]

use std::collections::BTreeMap;

use mtor_store::read::{Direction, EndRow, IntentRow, TransferRow};
use mtor_store::{Encoded, Log, ReadTables, Reader, SqliteLog, StoreError, encode_batch};
use mtor_types::fact::{Batch, Fact, Purse, Transfer, TransferKind};
use mtor_types::intent::Outcome;
use mtor_types::{AccountId, Amount, Digest, IntentId, Time};
use proptest::prelude::*;

mod common;

use common::{Folder, Ledger, Random};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// What the whole log says, by the simplest reading.
#[derive(Default)]
struct Naive {
    transfers: Vec<(Option<IntentId>, Time, Transfer)>,
    intents: BTreeMap<IntentId, IntentRow>,
    settled: BTreeMap<u64, Vec<IntentId>>,
    keys: BTreeMap<Digest, Vec<(Time, IntentId, Digest)>>,
    now: Time,
}

impl Naive {
    fn of(batches: &[Batch]) -> Self {
        let mut naive = Self::default();
        for batch in batches {
            naive.now = batch.at;
            batch.facts.iter().for_each(|fact| naive.take(batch, fact));
        }
        naive
    }

    fn take(&mut self, batch: &Batch, fact: &Fact) {
        let at = batch.at;
        if let Fact::GrantPaid { transfer, .. } = fact {
            self.transfers.push((None, at, *transfer));
        }
        if let Fact::HoldPlaced { intent, account, asset, amount, transfer, idempotency, .. } = fact
        {
            self.transfers.extend(transfer.map(|transfer| (Some(*intent), at, transfer)));
            let row = IntentRow {
                intent: *intent,
                account: *account,
                asset: *asset,
                hold: *amount,
                placed_at: at,
                batch: batch.number,
                end: None,
            };
            self.intents.insert(*intent, row);
            if let Some(bound) = idempotency {
                self.keys.entry(bound.key).or_default().push((at, *intent, bound.body));
            }
        }
        if let Fact::HoldResolved { intent, outcome, usage, worker, transfers, .. } = fact {
            self.transfers.extend(transfers.iter().map(|t| (Some(*intent), at, *t)));
            self.settled.entry(batch.number).or_default().push(*intent);
            let sum = |kinds: &[TransferKind]| {
                let parts = transfers.iter().filter(|t| kinds.contains(&t.kind));
                Amount::new(parts.map(|t| t.amount.units()).sum()).unwrap()
            };
            self.intents.get_mut(intent).unwrap().end = Some(EndRow {
                outcome: *outcome,
                usage: *usage,
                worker: *worker,
                cost: sum(&[TransferKind::Capture, TransferKind::Fee]),
                refunded: sum(&[TransferKind::Void, TransferKind::Expire]),
                sequence: transfers.first().map_or(0, |t| t.sequence),
                at,
                batch: batch.number,
            });
        }
    }

    fn transfers_of(&self, account: AccountId, after: u64, limit: usize) -> Vec<TransferRow> {
        let (available, held) = (Purse::Available(account), Purse::Held(account));
        let direction = |t: &Transfer| {
            let (from, to) =
                ([available, held].contains(&t.from), [available, held].contains(&t.to));
            match (from, to) {
                (false, false) => None,
                (true, false) => Some(Direction::Out),
                (false, true) => Some(Direction::In),
                (true, true) if t.to == held => Some(Direction::Held),
                (true, true) => Some(Direction::Released),
            }
        };
        let rows = self.transfers.iter().filter_map(|(intent, at, t)| {
            Some(TransferRow {
                sequence: t.sequence,
                id: t.id,
                kind: t.kind,
                asset: t.asset,
                amount: t.amount,
                direction: direction(t)?,
                intent: *intent,
                at: *at,
            })
        });
        rows.filter(|row| row.sequence > after).take(limit).collect()
    }

    fn key(&self, key: Digest) -> Option<(IntentId, Digest)> {
        let live = self.keys.get(&key)?.iter().rev().find(|(at, intent, _)| {
            let end = self.intents[intent].end.as_ref();
            self.now.0 - at.0 < DAY_MS && end.is_none_or(|end| end.outcome != Outcome::Refused)
        });
        live.map(|(_, intent, body)| (*intent, *body))
    }
}

/// Pages of any size hold every intent that reserved something once, the newest first.
fn check_placed(reader: &Reader, naive: &Naive, batches: &[Batch], account: AccountId) {
    let facts = batches.iter().flat_map(|batch| &batch.facts).rev();
    let placed = |fact: &Fact| {
        let Fact::HoldPlaced { intent, account: payer, transfer: Some(_), .. } = fact else {
            return None;
        };
        (*payer == account).then(|| naive.intents[intent].clone())
    };
    let expected: Vec<IntentRow> = facts.filter_map(placed).collect();
    for limit in [29, 10_000] {
        let (mut rows, mut before) = (Vec::new(), None);
        loop {
            let page = reader.placed(account, before, limit).unwrap();
            assert!(page.rows.len() <= limit);
            rows.extend(page.rows);
            before = page.next;
            if before.is_none() {
                break;
            }
        }
        assert_eq!(rows, expected, "{limit}");
    }
}

fn check(reader: &Reader, batches: &[Batch], accounts: &[AccountId], random: &mut Random) {
    let naive = Naive::of(batches);
    assert_eq!(reader.applied().unwrap(), batches.len() as u64);
    let last = naive.transfers.last().map_or(0, |(_, _, transfer)| transfer.sequence);
    for account in accounts.iter().copied().chain([AccountId([0; 32])]) {
        for (after, limit) in
            [(0, 10_000), (0, 3), (random.below(last + 1), 5), (last, 5), (u64::MAX, 5), (0, 0)]
        {
            let found = reader.transfers(account, after, limit).unwrap();
            assert_eq!(found, naive.transfers_of(account, after, limit), "{after} {limit}");
        }
    }
    for account in accounts {
        check_placed(reader, &naive, batches, *account);
    }
    let ids: Vec<IntentId> = naive.intents.keys().copied().collect();
    assert_eq!(reader.intents(&ids).unwrap(), naive.intents);
    for id in ids.iter().take(20) {
        assert_eq!(reader.intent(*id).unwrap().as_ref(), naive.intents.get(id));
    }
    assert_eq!(reader.intent(IntentId([1; 16])).unwrap(), None);
    for batch in 0..=batches.len() as u64 + 1 {
        let found = reader.settled_in(batch).unwrap();
        let expected = naive.settled.get(&batch).cloned().unwrap_or_default();
        let expected: Vec<IntentRow> =
            expected.iter().map(|intent| naive.intents[intent].clone()).collect();
        assert_eq!(found, expected, "batch {batch}");
    }
    for key in naive.keys.keys() {
        assert_eq!(reader.idempotency(*key).unwrap(), naive.key(*key));
    }
    assert_eq!(reader.idempotency(Digest([9; 32])).unwrap(), None);
}

fn batches(seed: u64, count: u64, accounts: usize) -> (Vec<Batch>, Vec<AccountId>) {
    let mut ledger = Ledger::new(seed, accounts);
    ledger.keyed_per_cent = 30;
    let mut random = Random(seed ^ 1);
    let batches = (0..count).map(|_| {
        let ms = if random.below(10) == 0 { random.below(DAY_MS / 2) } else { random.below(3000) };
        let resolve = usize::try_from(random.below(6)).unwrap();
        let place = usize::try_from(random.below(6)).unwrap();
        ledger.batch(ms, resolve, place)
    });
    (batches.collect(), ledger.accounts)
}

/// The tables' own rows, all of them.
fn dump(folder: &Folder) -> Vec<String> {
    let connection = rusqlite::Connection::open(folder.path().join("read.db")).unwrap();
    let mut rows = Vec::new();
    for table in ["mark", "sequences", "history", "intents", "idempotency"] {
        let mut select = connection.prepare(&format!("SELECT * FROM {table}")).unwrap();
        let columns = select.column_count();
        let mut found = select.query([]).unwrap();
        while let Some(row) = found.next().unwrap() {
            let values: Vec<String> =
                (0..columns).map(|i| format!("{:?}", row.get_ref(i).unwrap())).collect();
            rows.push(format!("{table} {}", values.join(" ")));
        }
    }
    rows
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn answers_are_those_of_the_log(
        seed in any::<u64>(), count in 1..150_u64, accounts in 1..12_usize,
        steps in prop::collection::vec(1..40_usize, 1..30), restart in any::<bool>(),
    ) {
        let (batches, mut accounts) = batches(seed, count, accounts);
        let encoded: Vec<Encoded> = batches.iter().map(encode_batch).collect();
        let folder = Folder::new();
        let mut log = SqliteLog::open(folder.path()).unwrap();
        log.append(&encoded).unwrap();
        let mut tables = ReadTables::open(folder.path()).unwrap();
        let mut done = 0;
        for step in steps {
            let end = (done + step).min(encoded.len());
            // Some of what is in already comes again.
            tables.project(&encoded[done.saturating_sub(3)..end]).unwrap();
            done = end;
            if restart {
                drop(tables);
                tables = ReadTables::open(folder.path()).unwrap();
            }
        }
        tables.catch_up(&log).unwrap();
        prop_assert_eq!(tables.applied(), count);
        let reader = Reader::open(folder.path()).unwrap();
        accounts.extend(batches.iter().flat_map(|batch| &batch.facts).find_map(owner));
        check(&reader, &batches, &accounts, &mut Random(seed));

        let incremental = dump(&folder);
        drop((reader, tables));
        ReadTables::discard(folder.path()).unwrap();
        let mut tables = ReadTables::open(folder.path()).unwrap();
        prop_assert_eq!(tables.applied(), 0);
        tables.catch_up(&log).unwrap();
        prop_assert_eq!(dump(&folder), incremental);

        // Pruning takes nothing that still binds, a bounded number at a time.
        while tables.prune(5).unwrap() > 0 {}
        check(&Reader::open(folder.path()).unwrap(), &batches, &accounts, &mut Random(seed));
    }
}

/// The account that a worker's pay goes to.
fn owner(fact: &Fact) -> Option<AccountId> {
    let Fact::HoldResolved { transfers, .. } = fact else { return None };
    transfers.iter().find_map(|transfer| match (transfer.kind, transfer.to) {
        (TransferKind::Capture, Purse::Available(account)) => Some(account),
        _ => None,
    })
}

#[test]
fn pruning_leaves_less_than_two_days_of_keys() {
    let folder = Folder::new();
    let mut ledger = Ledger::new(5, 3);
    ledger.keyed_per_cent = 100;
    let mut log = SqliteLog::open(folder.path()).unwrap();
    let mut tables = ReadTables::open(folder.path()).unwrap();
    for _ in 0..100 {
        let batch = encode_batch(&ledger.batch(60 * 60 * 1000, 5, 5));
        log.append(std::slice::from_ref(&batch)).unwrap();
        tables.project(&[batch]).unwrap();
    }
    assert_eq!(tables.prune(7).unwrap(), 7, "bounded");
    while tables.prune(50).unwrap() > 0 {}
    let kept = dump(&folder).iter().filter(|row| row.starts_with("idempotency")).count();
    assert!((24 * 5..=31 * 5).contains(&kept), "{kept} keys of 24 to 30 hours are kept");
}

#[test]
fn a_gap_is_refused_and_changes_nothing() {
    let folder = Folder::new();
    let (batches, _) = batches(3, 10, 2);
    let encoded: Vec<Encoded> = batches.iter().map(encode_batch).collect();
    let mut tables = ReadTables::open(folder.path()).unwrap();
    tables.project(&encoded[..4]).unwrap();
    for wrong in [&encoded[5..7], &[encoded[4].clone(), encoded[6].clone()]] {
        let error = tables.project(wrong).unwrap_err();
        assert!(matches!(error, StoreError::OutOfOrder { expected: 5 | 6, .. }), "{error}");
        assert_eq!(tables.applied(), 4);
    }
    let mut broken = encoded[4].clone();
    broken.bytes.truncate(9);
    assert!(matches!(tables.project(&[broken]), Err(StoreError::Damaged { batch: 5, .. })));
    tables.project(&encoded).unwrap();
    assert_eq!(tables.applied(), 10);
}

#[test]
fn damaged_older_or_foreign_tables() {
    let folder = Folder::new();
    let (batches, accounts) = batches(4, 30, 3);
    let encoded: Vec<Encoded> = batches.iter().map(encode_batch).collect();
    let mut log = SqliteLog::open(folder.path()).unwrap();
    log.append(&encoded).unwrap();
    let path = folder.path().join("read.db");
    ReadTables::open(folder.path()).unwrap().catch_up(&log).unwrap();

    std::fs::write(&path, vec![0x55; 5000]).unwrap();
    let mut tables = ReadTables::open(folder.path()).unwrap();
    assert_eq!(tables.applied(), 0, "damaged: it begins anew");
    tables.catch_up(&log).unwrap();
    check(&Reader::open(folder.path()).unwrap(), &batches, &accounts, &mut Random(1));
    drop(tables);

    let set = |pragma: &str| {
        rusqlite::Connection::open(&path).unwrap().execute_batch(pragma).unwrap();
    };
    set("PRAGMA user_version = 0");
    assert_eq!(ReadTables::open(folder.path()).unwrap().applied(), 0, "older: it begins anew");
    set("PRAGMA user_version = 9");
    let error = ReadTables::open(folder.path()).unwrap_err();
    assert!(matches!(error, StoreError::Newer { found: 9, .. }), "{error}");
    set("PRAGMA user_version = 1; PRAGMA application_id = 5");
    let error = ReadTables::open(folder.path()).unwrap_err();
    assert!(matches!(error, StoreError::Foreign { .. }), "{error}");
}

#[test]
fn tables_of_another_log_begin_anew() {
    let folder = Folder::new();
    let encode = |seed| {
        let (batches, accounts) = batches(seed, 30, 3);
        (batches.iter().map(encode_batch).collect::<Vec<Encoded>>(), batches, accounts)
    };
    let (first, ..) = encode(10);
    let (second, batches, accounts) = encode(11);
    let mut tables = ReadTables::open(folder.path()).unwrap();
    tables.project(&first).unwrap();
    // A backup was restored: as long as before, or shorter, but another.
    for length in [30, 20] {
        let _ = std::fs::remove_file(folder.path().join("log.db"));
        let mut log = SqliteLog::open(folder.path()).unwrap();
        log.append(&second[..length]).unwrap();
        tables.catch_up(&log).unwrap();
        let reader = Reader::open(folder.path()).unwrap();
        check(&reader, &batches[..length], &accounts, &mut Random(1));
    }
}

#[test]
fn ids_without_time_are_found_as_well() {
    let folder = Folder::new();
    let (mut batches, accounts) = batches(6, 40, 3);
    let random_id = |id: IntentId| {
        let seed = u64::from_be_bytes(id.0[8..].try_into().unwrap());
        IntentId(Random(seed).bytes())
    };
    for fact in batches.iter_mut().flat_map(|batch| &mut batch.facts) {
        if let Fact::HoldPlaced { intent, .. } | Fact::HoldResolved { intent, .. } = fact {
            *intent = random_id(*intent);
        }
    }
    let encoded: Vec<Encoded> = batches.iter().map(encode_batch).collect();
    let mut log = SqliteLog::open(folder.path()).unwrap();
    log.append(&encoded).unwrap();
    ReadTables::open(folder.path()).unwrap().catch_up(&log).unwrap();
    check(&Reader::open(folder.path()).unwrap(), &batches, &accounts, &mut Random(1));
}

#[test]
fn many_threads_ask_while_the_log_grows() {
    let folder = Folder::new();
    let (batches, accounts) = batches(7, 200, 4);
    let encoded: Vec<Encoded> = batches.iter().map(encode_batch).collect();
    let mut log = SqliteLog::open(folder.path()).unwrap();
    let mut tables = ReadTables::open(folder.path()).unwrap();
    let reader = Reader::open(folder.path()).unwrap();
    let whole = Naive::of(&batches);
    std::thread::scope(|scope| {
        for account in &accounts {
            scope.spawn(|| {
                let all = whole.transfers_of(*account, 0, usize::MAX);
                while reader.applied().unwrap() < 200 {
                    let found = reader.transfers(*account, 0, 50).unwrap();
                    assert_eq!(found, all[..found.len()], "a prefix of the truth");
                }
            });
        }
        for step in encoded.chunks(3) {
            log.append(step).unwrap();
            tables.project(step).unwrap();
        }
    });
    check(&reader, &batches, &accounts, &mut Random(1));
}
