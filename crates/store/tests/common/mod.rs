//! What the store's tests and benches share: a folder that goes away, and made-up batches.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of this")]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use mtor_types::fact::{Asset, Batch, Fact, Purse, Transfer, TransferKind};
use mtor_types::intent::{Idempotency, Outcome, Reason, Usage};
use mtor_types::{AccountId, Amount, Digest, IntentId, Time, TransferId, WorkerId};

/// A folder of a test, removed with it.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        Self::under(&std::env::temp_dir())
    }

    pub fn under(parent: &Path) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("mtor-store-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A small random number generator (splitmix64): the same numbers for the same seed.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.next().to_le_bytes()[0])
    }
}

/// A hold that is open.
#[derive(Clone, Copy)]
struct Open {
    intent: IntentId,
    account: AccountId,
    hold: Option<TransferId>,
    amount: u64,
}

/// A realm's accountant as far as the store can tell: batches that place holds and resolve them.
pub struct Ledger {
    pub random: Random,
    pub accounts: Vec<AccountId>,
    /// Of a hundred intents so many carry an idempotency key.
    pub keyed_per_cent: u64,
    worker: WorkerId,
    owner: AccountId,
    number: u64,
    now: u64,
    sequence: u64,
    open: Vec<Open>,
}

impl Ledger {
    pub fn new(seed: u64, accounts: usize) -> Self {
        let mut random = Random(seed);
        let accounts = (0..accounts).map(|_| AccountId(random.bytes())).collect();
        let (worker, owner) = (WorkerId(random.bytes()), AccountId(random.bytes()));
        let now = 1_760_000_000_000;
        let keyed_per_cent = 0;
        let (number, sequence, open) = (0, 0, Vec::new());
        Self { random, accounts, keyed_per_cent, worker, owner, number, now, sequence, open }
    }

    /// A batch `ms` after the one before that resolves `resolve` of the open holds, those that
    /// are open longest first, and places `place` new ones.
    pub fn batch(&mut self, ms: u64, resolve: usize, place: usize) -> Batch {
        self.number += 1;
        self.now += ms;
        let over: Vec<Open> = self.open.drain(..resolve.min(self.open.len())).collect();
        let mut facts: Vec<Fact> = over.into_iter().map(|open| self.resolve(open)).collect();
        facts.extend((0..place).map(|_| self.place()));
        Batch { number: self.number, at: Time(self.now), facts }
    }

    pub fn open(&self) -> usize {
        self.open.len()
    }

    fn place(&mut self) -> Fact {
        let intent = IntentId(self.uuid_v7());
        let picked = usize::try_from(self.random.below(self.accounts.len() as u64)).unwrap();
        let account = self.accounts[picked];
        let amount = self.random.below(5) * 1000;
        let hold = (amount > 0).then_some(TransferId(intent.0));
        self.open.push(Open { intent, account, hold, amount });
        let (from, to) = (Purse::Available(account), Purse::Held(account));
        let transfer =
            hold.map(|id| self.transfer(id, TransferKind::Hold, (from, to), amount, None));
        let keyed = self.random.below(100) < self.keyed_per_cent;
        let idempotency =
            keyed.then(|| Idempotency { key: Digest(self.random.bytes()), body: Digest([1; 32]) });
        Fact::HoldPlaced {
            intent,
            account,
            asset: Asset::Grant,
            amount: Amount::from_u64(amount),
            edge: None,
            expires: Time(self.now + 60_000),
            transfer,
            idempotency,
            salt: self.random.bytes(),
        }
    }

    fn resolve(&mut self, open: Open) -> Fact {
        let cost = self.random.below(open.amount + 1);
        let fee = cost / 10;
        let held = Purse::Held(open.account);
        let parts = [
            (TransferKind::Capture, Purse::Available(self.owner), cost - fee),
            (TransferKind::Fee, Purse::RealmFee, fee),
            (TransferKind::Void, Purse::Available(open.account), open.amount - cost),
        ];
        let mut transfers = Vec::new();
        for (kind, to, amount) in parts {
            if amount > 0 {
                let id = TransferId(self.random.bytes());
                transfers.push(self.transfer(id, kind, (held, to), amount, open.hold));
            }
        }
        let refused = cost == 0 && self.random.below(2) == 0;
        Fact::HoldResolved {
            intent: open.intent,
            outcome: if refused { Outcome::Refused } else { Outcome::Completed(Reason::Done) },
            usage: Usage { units: cost, input: 1, output: 2 },
            worker: (cost > 0).then_some(self.worker),
            transfers,
            salt: self.random.bytes(),
        }
    }

    fn transfer(
        &mut self,
        id: TransferId,
        kind: TransferKind,
        (from, to): (Purse, Purse),
        amount: u64,
        hold: Option<TransferId>,
    ) -> Transfer {
        self.sequence += 1;
        let (asset, amount) = (Asset::Grant, Amount::from_u64(amount));
        Transfer { sequence: self.sequence, id, kind, from, to, asset, amount, hold }
    }

    fn uuid_v7(&mut self) -> [u8; 16] {
        let mut id: [u8; 16] = self.random.bytes();
        id[..6].copy_from_slice(&self.now.to_be_bytes()[2..]);
        id[6] = 0x70 | (id[6] & 0x0f);
        id[8] = 0x80 | (id[8] & 0x3f);
        id
    }
}
