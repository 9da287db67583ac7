//! Facts: what a service decided, in the past tense. The durable state of a realm is the fold of
//! its facts, for ever; so variants are only ever added at the end, and never changed.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::amount::Amount;
use crate::id::{AccountId, IntentId, KeyHash, NodeId, RealmId, TransferId, WorkerId};
use crate::intent::{Idempotency, IntentMeta, IntentMetaV1, Meta, Outcome, Usage};
use crate::standing::{KindName, Proof};
use crate::time::Time;

/// One append to the log: everything a node decided in one go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// Dense, from 1.
    pub number: u64,
    pub at: Time,
    pub facts: Vec<Fact>,
}

/// The money of a realm. Names and decimals stand in [`Fact::LedgerOpened`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Asset {
    /// Given by the realm: spendable, never withdrawable.
    #[serde(rename = "grant")]
    Grant,
    /// The token: machine symbol `9000`.
    #[serde(rename = "9000")]
    Token,
}

impl Asset {
    pub const ALL: [Self; 2] = [Self::Grant, Self::Token];

    pub const fn symbol(self) -> &'static str {
        match self {
            Self::Grant => "grant",
            Self::Token => "9000",
        }
    }
}

impl fmt::Display for Asset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.symbol())
    }
}

/// One side of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Purse {
    /// What an account may spend: a liability of the realm, never below zero.
    Available(AccountId),
    /// What an account has reserved: a liability of the realm, never below zero.
    Held(AccountId),
    /// The realm's own share: a liability, never below zero.
    RealmFee,
    /// Where grants come from: carries the other side, never above zero.
    GrantIssue,
    /// What stands on a chain: carries the other side, never above zero.
    ChainBridge,
}

/// Why money moved. The names are those of `GET /v1/account/transfers`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransferKind {
    Grant,
    Hold,
    Capture,
    Fee,
    Void,
    Expire,
    Deposit,
    Withdraw,
}

/// One movement of money, above zero: debited from one purse, credited to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    /// Dense, from 1: the leaf's place in the public log.
    pub sequence: u64,
    pub id: TransferId,
    pub kind: TransferKind,
    pub from: Purse,
    pub to: Purse,
    pub asset: Asset,
    pub amount: Amount,
    /// Of what resolves a hold: the hold's transfer.
    pub hold: Option<TransferId>,
}

/// Who an account belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccountKind {
    /// Made by anybody, without sign-up.
    Guest,
    /// The realm's own: owns the embedded worker and receives the fee.
    Realm,
}

/// A client's network prefix, hashed with a daily salt so that the log names no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NetworkKey(pub [u8; 16]);

impl fmt::Display for NetworkKey {
    /// In lower-case hexadecimal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What was decided. Each variant names the service that applies it in its comment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fact {
    /// Node: a boot began; its epoch was synced before its first effect.
    NodeStarted { epoch: u32 },
    /// Node: a message for another node stands in the outbox. `bytes` is an encoded message.
    MessageSent { to: NodeId, number: u64, bytes: Vec<u8> },
    /// Node: the receiver has everything up to `number`.
    MessageAcknowledged { by: NodeId, number: u64 },
    /// Node: message `number` of that sender was taken.
    MessageTaken { from: NodeId, number: u64 },

    /// Accountant, always the first of a ledger.
    LedgerOpened { realm: RealmId, assets: Vec<(Asset, u8)>, owner: AccountId },
    /// Accountant. `name_secret` opens the account's name in the public log.
    AccountOpened { account: AccountId, kind: AccountKind, name_secret: [u8; 32] },
    /// Accountant.
    KeyAdded { account: AccountId, key: KeyHash },
    /// Accountant.
    KeyRevoked { key: KeyHash },
    /// Accountant.
    AccountBanned { account: AccountId, banned: bool },
    /// Accountant, of the first releases: a grant was paid out to an account that was opened; counts
    /// against its day and its one network.
    GrantPaid { transfer: Transfer, network: NetworkKey, day: u64, salt: [u8; 16] },
    /// Accountant: funds are reserved. `transfer` is `None` for a hold of zero.
    HoldPlaced {
        intent: IntentId,
        account: AccountId,
        asset: Asset,
        amount: Amount,
        /// The edge and boot whose end voids this hold, for an ephemeral intent.
        edge: Option<(NodeId, u32)>,
        /// The backstop: later than every other timer of the intent.
        expires: Time,
        transfer: Option<Transfer>,
        idempotency: Option<Idempotency>,
        salt: [u8; 16],
    },
    /// Accountant: the one terminal decision of an intent.
    HoldResolved {
        intent: IntentId,
        outcome: Outcome,
        usage: Usage,
        worker: Option<WorkerId>,
        transfers: Vec<Transfer>,
        salt: [u8; 16],
    },

    /// Event Processor, of the first releases: as [`Fact::IntentOpened`].
    IntentOpenedV1 { meta: Box<IntentMetaV1>, asset: Asset, deadline: Time },
    /// Event Processor: a durable intent is over.
    IntentEnded { intent: IntentId },

    /// Worker Registry, of the first releases, as the next one and `TokensExpired`: a one-time enrolment
    /// token, by hash. Those are void today.
    TokenIssued { token: KeyHash, owner: AccountId, expires: Time },
    /// Worker Registry: a worker is enrolled.
    WorkerEnrolled { worker: WorkerId, owner: AccountId, name: String, token: KeyHash, own: bool },
    /// Worker Registry.
    WorkerBanned { worker: WorkerId, banned: bool },
    /// Worker Registry.
    WorkerRemoved { worker: WorkerId },
    /// Worker Registry, of the first releases: enough good results for any payers. Proves nothing
    /// today, since payers may be its owner's friends.
    WorkerServed { worker: WorkerId, passed: bool },
    /// Worker Registry: tokens past their time, by hash.
    TokensExpired { tokens: Vec<KeyHash> },

    /// Event Processor: the router has taken a durable intent.
    IntentOpened { meta: Meta, asset: Asset, deadline: Time },

    /// Worker Registry: so many slots of a kind are used for others from now on.
    SlotsEarned { worker: WorkerId, kind: KindName, slots: u32 },
    /// Worker Registry: as that, after too many failures.
    WorkerEjected { worker: WorkerId, kind: KindName, slots: u32 },
    /// Worker Registry: an answer to one of the realm's own test intents, looked at.
    CanaryJudged { worker: WorkerId, kind: KindName, right: bool },
    /// Worker Registry.
    WorkerProven { worker: WorkerId, kind: KindName, proof: Proof, until: Option<Time> },
    /// Worker Registry.
    ProofLapsed { worker: WorkerId, kind: KindName },
    /// Worker Registry: the realm runs on that day, UTC.
    DayBegan { day: u64 },
    /// Worker Registry: for the first time on that day.
    WorkerSeen { worker: WorkerId },
    /// Worker Registry: an ejection was for what is nobody's failure by now; what it took is given back.
    EjectionTakenBack {
        worker: WorkerId,
        kind: KindName,
        slots: u32,
        /// By what it is proven, until when, and how often it was ejected since.
        proven: Option<(Proof, Option<Time>, u32)>,
    },

    /// Accountant: an account was opened on that day, from these networks, each of which lies in the one
    /// before it.
    AccountCounted { day: u64, networks: Vec<NetworkKey> },
    /// Accountant: a grant was paid out, once an account and day; counts against its day and these
    /// networks, each of which lies in the one before it.
    GrantGiven { transfer: Transfer, day: u64, networks: Vec<NetworkKey>, salt: [u8; 16] },
    /// Accountant: codes that open an account with a grant from anywhere, by hash.
    InvitesIssued { invites: Vec<KeyHash> },
    /// Accountant: an account was opened by it.
    InviteUsed { invite: KeyHash },
    /// Accountant: those that were not used.
    InvitesWithdrawn,
    /// Accountant: the sysop's word on an account; `None`: nothing of its own.
    AccountLimited { account: AccountId, limits: AccountLimits },
    /// Worker Registry: a worker is enrolled, and the token used up that was good until then.
    WorkerEnrolledBy {
        worker: WorkerId,
        owner: AccountId,
        name: String,
        token: KeyHash,
        expires: Time,
        own: bool,
    },
    /// Worker Registry: nothing of that owner's works here, or it does again.
    OwnerBanned { owner: AccountId, banned: bool },
}

/// What the sysop has said of an account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountLimits {
    /// Its own weight among the branches of the queue, where one network's is 1.
    pub weight: Option<u16>,
    /// Intents that it may have open at once.
    pub intents: Option<u32>,
}

impl AccountLimits {
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl Fact {
    /// The durable intent that this opened, in whichever form it was recorded.
    pub fn opened(&self) -> Option<(Arc<IntentMeta>, Asset, Time)> {
        #[expect(clippy::wildcard_enum_match_arm, reason = "no other fact opens an intent")]
        match self {
            Self::IntentOpenedV1 { meta, asset, deadline } => {
                Some((Meta::from(meta.clone()).current(), *asset, *deadline))
            }
            Self::IntentOpened { meta, asset, deadline } => {
                Some((meta.current(), *asset, *deadline))
            }
            _ => None,
        }
    }
}
