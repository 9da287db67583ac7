//! One intent as the router sees it.

use std::sync::Arc;

use mtor_types::fact::Asset;
use mtor_types::intent::{Class, IntentMeta};
use mtor_types::message::ServedBy;
use mtor_types::{Attempt, Fence, Price, SessionId, Time, WorkerId};

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
    /// Its worker is lost; the edge was asked what it had delivered.
    Lost(ServedBy),
}

/// A grant of the intent to one slot until a moment.
#[derive(Clone, Debug)]
pub(super) struct Lease {
    pub(super) worker: WorkerId,
    pub(super) session: SessionId,
    pub(super) offer: OfferNo,
    pub(super) attempt: Attempt,
    pub(super) fence: Fence,
    pub(super) price: Price,
    pub(super) until: Time,
    pub(super) taken: Taken,
}

/// What an attempt has taken of its flow's share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    pub(super) since: Time,
    /// Slot-milliseconds charged at dispatch.
    pub(super) estimate: u64,
    /// `None` if an earlier boot charged its dispatch: the lease was adopted.
    pub(super) charge: Option<Charge>,
}

#[derive(Debug)]
pub(super) struct Job {
    pub(super) meta: Arc<IntentMeta>,
    pub(super) asset: Asset,
    pub(super) pool: PoolId,
    pub(super) deadline: Time,
    pub(super) place: Place,
    pub(super) attempts: u32,
    /// Workers that failed it: another one each time.
    pub(super) tried: Vec<WorkerId>,
    pub(super) timer: Option<Time>,
}

impl Job {
    pub(super) fn new(meta: Arc<IntentMeta>, asset: Asset, pool: PoolId, now: Time) -> Self {
        let deadline = now.after_ms(meta.remaining_ms);
        let (place, attempts, tried) = (Place::Queued, 0, Vec::new());
        Self { meta, asset, pool, deadline, place, attempts, tried, timer: None }
    }

    /// The realm's own flows stand under one realm key; foreign ones will have their realm's.
    pub(super) fn flow(&self) -> FlowPath {
        let mut account = [0; 16];
        for (to, from) in account.iter_mut().zip(self.meta.account.0) {
            *to = from;
        }
        let class = match self.meta.class {
            Class::Interactive => safe_queue::Class::Interactive,
            Class::Batch => safe_queue::Class::Batch,
        };
        FlowPath { realm: FlowKey([0; 16]), account: FlowKey(account), class }
    }
}
