//! The realm's own test intents: given straight to a free slot of the worker that is tried, or refused.
//! They wait for nothing, are tried once, and take nothing of any flow's turn.

use std::sync::Arc;

use mtor_types::fact::Asset;
use mtor_types::intent::IntentMeta;
use mtor_types::message::{Message, Service};
use mtor_types::{Attempt, Rejection, WorkerId};

use super::Router;
use super::job::{Job, Place, Taken};
use super::safe_queue::PoolId;
use super::workers::Choice;
use crate::effect::Effect;
use crate::turn::Turn;

impl Router {
    pub(super) fn try_out(
        &mut self,
        turn: &mut Turn,
        meta: Arc<IntentMeta>,
        asset: Asset,
        pool: PoolId,
        worker: WorkerId,
    ) {
        let (intent, hold) = (meta.id, meta.ceiling);
        let known = self.workers.get(worker);
        let Some(offer) = known.and_then(|known| known.find(pool.kind(), &meta, Choice::Free))
        else {
            self.kinds.drop_if_idle(pool.kind());
            return Self::refuse(turn, intent, Rejection::NoWorker);
        };
        let mut job = Job::new(meta, asset, pool, turn.now);
        (job.place, job.attempts) = (Place::Paused, 1);
        let estimate = self.estimate(&job);
        self.insert(job);
        let (position, wait_ms) = (0, 0);
        turn.send(Service::Events, Message::Taken { intent, asset, hold, position, wait_ms });
        let attempt = Attempt(self.next_number());
        let taken = Taken { since: turn.now, estimate, charge: None };
        if let Some(assignment) = self.lease(turn, worker, offer, intent, attempt, taken) {
            turn.now(Effect::Assign(assignment));
        }
    }
}
