//! One open intent as the Event Processor sees it.

use std::sync::Arc;

use mtor_types::Time;
use mtor_types::intent::{EndRequest, IntentMeta, Why};

use crate::limits;

/// How far it has come around the ring.
#[derive(Clone, Debug)]
pub(super) enum Phase {
    /// On its way to the router.
    Opening,
    /// The router has it.
    Admitted,
    /// The edge was asked to stop.
    Stopping(Why),
    /// The edge has stopped; the resolution is awaited.
    Ending(EndRequest),
}

#[derive(Debug)]
pub(super) struct Open {
    pub(super) meta: Arc<IntentMeta>,
    pub(super) deadline: Time,
    pub(super) phase: Phase,
    /// The client was, or is about to be, told that it is accepted.
    pub(super) admitted: bool,
    /// When anything was last sent or heard about it.
    pub(super) heard: Time,
    pub(super) timer: Option<Time>,
}

impl Open {
    pub(super) fn new(meta: Arc<IntentMeta>, deadline: Time, now: Time) -> Self {
        Self { meta, deadline, phase: Phase::Opening, admitted: false, heard: now, timer: None }
    }

    /// The intent as it is to be sent now: with the time that is left now.
    pub(super) fn meta_now(&self, now: Time) -> Arc<IntentMeta> {
        let remaining_ms = self.deadline.since_ms(now);
        if remaining_ms == self.meta.remaining_ms {
            return Arc::clone(&self.meta);
        }
        Arc::new(IntentMeta { remaining_ms, ..(*self.meta).clone() })
    }

    /// When its last message is sent again.
    pub(super) fn repeat_at(&self) -> Time {
        self.heard.after_ms(match self.phase {
            Phase::Stopping(_) => limits::STOP_REPEAT_MS,
            Phase::Opening | Phase::Admitted | Phase::Ending(_) => limits::STALL_MS,
        })
    }

    /// Whether its deadline or a cancellation can still end it. Also after a completion: the router
    /// may have given up the attempt that it speaks of, and then it ends nothing.
    pub(super) fn may_be_stopped(&self) -> bool {
        match &self.phase {
            Phase::Opening | Phase::Admitted => true,
            Phase::Stopping(_) => false,
            Phase::Ending(request) => matches!(request.why, Why::Completed(_)),
        }
    }

    /// When anything is due.
    pub(super) fn wake_at(&self) -> Time {
        let repeat_at = self.repeat_at();
        if self.may_be_stopped() { repeat_at.min(self.deadline) } else { repeat_at }
    }
}
