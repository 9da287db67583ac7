//! What the shell asks of a node. Ids, randomness and remaining times come in with the command.

use mtor_types::amount::Amount;
use mtor_types::fact::{AccountKind, AccountLimits, Asset, NetworkKey};
use mtor_types::id::{AccountId, Digest, IntentId, KeyHash, NodeId, RealmId, SessionId, WorkerId};
use mtor_types::intent::{EndRequest, IntentMeta, Why};
use mtor_types::message::Slots;
use mtor_types::standing::KindName;
use mtor_types::worker::LeaseClaim;

pub use crate::registry::Token;
use crate::share::{Holder, Rank};

/// An outside command. Unless its comment says otherwise, `Ok(())` means: decided, and to be
/// answered once the facts of the batch are synced.
#[derive(Clone, Debug)]
pub enum Command {
    /// Event Processor. Answered by [`crate::Effect::Admitted`], `Joined` or `Refused`.
    /// `rank`: how the account stands, for its share.
    Submit { meta: Box<IntentMeta>, prior: Option<Prior>, rank: Rank },
    /// Event Processor: work on an intent stopped at the edge. Answered by the end, if any.
    End(EndRequest),
    /// Event Processor: a client or the sysop wants it stopped. Leads to [`crate::Effect::Stop`].
    Stop { intent: IntentId, why: Why },

    /// Accountant: once in a realm's life, before anything else.
    OpenLedger { realm: RealmId, decimals: u8, owner: AccountId, name_secret: [u8; 32] },
    /// Accountant: an account, its first key, and, for a guest, its grant if there is one to give.
    OpenAccount(OpenAccount),
    /// Accountant: a guest's account is filled up to the grant, once a day.
    FillUp { account: AccountId, networks: Vec<NetworkKey>, salt: [u8; 16] },
    /// Accountant: codes that open an account with a grant from anywhere, by hash.
    IssueInvites { invites: Vec<KeyHash> },
    /// Accountant: those that were not used.
    WithdrawInvites,
    /// Accountant: the sysop's word on an account, the whole of it.
    LimitAccount { account: AccountId, limits: AccountLimits },
    /// Accountant: what the realm's own test intents may cost today is granted to its account, once a
    /// day.
    FundCanaries { amount: Amount, salt: [u8; 16] },
    /// Accountant.
    AddKey { account: AccountId, key: KeyHash },
    /// Accountant.
    RevokeKey { account: AccountId, key: KeyHash },
    /// Accountant.
    BanAccount { account: AccountId, banned: bool },

    /// Worker Registry: the edge has checked the token and the worker's proof of its key. `holder`: for
    /// whose share of the places it counts, its owner's.
    Enrol { token: Token, worker: WorkerId, name: String, holder: Holder },
    /// Worker Registry.
    RemoveWorker { worker: WorkerId },
    /// Worker Registry.
    BanWorker { worker: WorkerId, banned: bool },
    /// Worker Registry: the sysop says that a worker does a kind well, or no longer says so.
    Vouch { worker: WorkerId, kind: KindName, vouched: bool },
    /// Worker Registry: an answer to one of the realm's own test intents was looked at.
    JudgeCanary { worker: WorkerId, kind: KindName, right: bool },
    /// Worker Registry: a session opened, or its offers changed. The edge has checked the key and
    /// the tokens of the leases. `owner`, `own` and `proven` are filled in by the registry.
    Attach(Slots),
    /// Worker Registry: a sign of life.
    Heard { worker: WorkerId, session: SessionId },
    /// Worker Registry: a sign of life, and these leases go on. Of the `silent` ones neither piece nor
    /// end has come for as long as [`crate::effect::Assignment::silence_ms`] says: told once an attempt.
    Renew { worker: WorkerId, session: SessionId, leases: Vec<LeaseClaim>, silent: Vec<LeaseClaim> },
    /// Worker Registry: the connection closed.
    Detach { worker: WorkerId, session: SessionId },

    /// Node: message `number` from another node. Answered by `Ok` once synced: acknowledge then.
    Deliver { from: NodeId, number: u64, bytes: Vec<u8> },
    /// Node: another node has everything up to `number`.
    Acknowledged { by: NodeId, number: u64 },
}

#[derive(Clone, Debug)]
pub struct OpenAccount {
    pub account: AccountId,
    pub kind: AccountKind,
    pub key: KeyHash,
    pub name_secret: [u8; 32],
    /// From where, for the shares of the day; each lies in the one before it.
    pub networks: Vec<NetworkKey>,
    /// A code of the sysop's, hashed.
    pub invite: Option<KeyHash>,
    /// Of the grant's leaf.
    pub salt: [u8; 16],
}

/// What the edge found about an idempotency key in the read tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prior {
    pub intent: IntentId,
    pub body: Digest,
}

/// What a realm gives its guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrantPolicy {
    pub asset: Asset,
    pub amount: Amount,
    /// Paid out in one UTC day at most.
    pub daily_total: Amount,
    /// Grants of the innermost network of a client in one UTC day.
    pub daily_per_network: u32,
}
