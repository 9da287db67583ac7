//! One intent as the router sees it.

use std::sync::Arc;

use mtor_types::fact::{Asset, NetworkKey};
use mtor_types::intent::{Branch, Class, IntentMeta};
use mtor_types::message::ServedBy;
use mtor_types::mutant;
use mtor_types::standing::{KindName, Mark, Worked};
use mtor_types::{AccountId, Attempt, Code, Fence, Price, SessionId, Time, WorkerId};

use super::safe_queue::{self, Charge, FlowKey, FlowPath, PoolId};
use super::workers::OfferNo;

/// Where an intent is.
#[derive(Debug)]
pub(super) enum Place {
    Queued,
    /// After a restart: a worker may still run it.
    Adoptable {
        until: Time,
    },
    Running(Lease),
    /// It failed, and waits for a worker that has not tried it.
    Retrying {
        order: u64,
        /// Nobody was there for it at the last look.
        unserved: bool,
    },
    /// It was lost more than once, and is queued again in a while; or it may not begin anew, and
    /// waits for its own worker.
    Paused,
    /// Its worker is lost; the edge was asked what it had delivered.
    Lost(ServedBy),
}

impl Place {
    /// Whether it waits for any slot that it may have.
    pub(super) fn waits(&self) -> bool {
        match self {
            Self::Queued | Self::Retrying { .. } => true,
            Self::Adoptable { .. } | Self::Running(_) | Self::Paused | Self::Lost(_) => false,
        }
    }
}

/// Who may go on with an intent that waits, because nobody has begun it anew since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    Nobody,
    /// It came back after a restart, and any attempt of it may still run.
    Anybody,
    /// Its last attempt was lost, and may come back with its worker.
    Lost(Loss),
}

/// An attempt whose lease ran out, or whose session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Loss {
    pub(super) worker: WorkerId,
    pub(super) attempt: Attempt,
    /// Pieces of it were delivered: the client is told before another attempt begins.
    pub(super) delivered: bool,
    /// The session in which its worker claims it, while the edge is still asked what it delivered.
    pub(super) claimed: Option<SessionId>,
}

/// A grant of the intent to one slot until a moment.
#[derive(Clone, Debug)]
pub(super) struct Lease {
    pub(super) meta: Arc<IntentMeta>,
    pub(super) worker: WorkerId,
    pub(super) session: SessionId,
    pub(super) offer: OfferNo,
    pub(super) attempt: Attempt,
    pub(super) fence: Fence,
    pub(super) price: Price,
    /// For its worker's owner.
    pub(super) own: bool,
    pub(super) until: Time,
    pub(super) taken: Taken,
}

impl Lease {
    /// What it says of its worker. An account that is a branch of its own is named by its own key:
    /// two of them are two.
    pub(super) fn worked(&self, kind: KindName, mark: Mark) -> Worked {
        let intent = self.meta.id;
        let branch = match self.meta.worker {
            // The realm's own test intents.
            Some(_) => Branch::Account,
            None if mutant!("own-branches-are-one") => self.meta.branch,
            None => Branch::Network(NetworkKey(branch_of(&self.meta))),
        };
        Worked { worker: self.worker, kind, intent, attempt: self.attempt, branch, mark }
    }
}

/// What an attempt has taken of its flow's share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    pub(super) since: Time,
    /// Slot-milliseconds charged at dispatch.
    pub(super) estimate: u64,
    /// `None` for its worker's owner, and if an earlier boot charged its dispatch.
    pub(super) charge: Option<Charge>,
}

/// Whose fault it is that an intent failed.
#[derive(Debug)]
pub(super) enum Blame {
    /// It has not failed, or at its owner's worker only.
    Nobody,
    One(Failure),
    /// Two workers failed it: it is not theirs.
    Excused,
}

/// An attempt that failed where others may do better.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) worker: WorkerId,
    pub(super) owner: AccountId,
    pub(super) kind: KindName,
    pub(super) attempt: Attempt,
    /// The worker said that the intent is at fault, and is not believed yet: its registry does not
    /// know.
    pub(super) doubted: bool,
}

#[derive(Debug)]
pub(super) struct Job {
    pub(super) meta: Arc<IntentMeta>,
    pub(super) asset: Asset,
    pub(super) pool: PoolId,
    pub(super) deadline: Time,
    /// When it was queued and what wait it was told, until that wait is over; none if it came back.
    pub(super) told: Option<(Time, u64)>,
    pub(super) place: Place,
    pub(super) held: Held,
    /// Dispatches, adoptions included.
    pub(super) attempts: u32,
    /// Attempts whose worker or session was lost. They are nobody's fault.
    pub(super) losses: u32,
    /// The attempt of which nothing came for too long, as its worker's standing was told.
    pub(super) silent: Option<Attempt>,
    /// Why it failed last.
    pub(super) failed: Option<Code>,
    /// Workers that failed it: another one each time.
    pub(super) tried: Vec<WorkerId>,
    pub(super) blame: Blame,
    pub(super) timer: Option<Time>,
}

impl Job {
    pub(super) fn new(meta: Arc<IntentMeta>, asset: Asset, pool: PoolId, now: Time) -> Self {
        let deadline = now.after_ms(meta.remaining_ms);
        let (place, attempts, losses) = (Place::Queued, 0, 0);
        let held = Held::Nobody;
        let (failed, tried, timer, told) = (None, Vec::new(), None, None);
        let (blame, silent) = (Blame::Nobody, None);
        Self {
            meta,
            asset,
            pool,
            deadline,
            told,
            place,
            held,
            attempts,
            losses,
            silent,
            failed,
            tried,
            blame,
            timer,
        }
    }
}

fn account_key(meta: &IntentMeta) -> [u8; 16] {
    meta.account.0.first_chunk().copied().unwrap_or_default()
}

fn branch_of(meta: &IntentMeta) -> [u8; 16] {
    match meta.branch {
        Branch::Account => account_key(meta),
        Branch::Network(network) => network.0,
    }
}

pub(super) fn flow_of(meta: &IntentMeta) -> FlowPath {
    let (branch, account) = (branch_of(meta), account_key(meta));
    let class = match meta.class {
        Class::Interactive => safe_queue::Class::Interactive,
        Class::Batch => safe_queue::Class::Batch,
    };
    FlowPath { branch: FlowKey(branch), account: FlowKey(account), class }
}
