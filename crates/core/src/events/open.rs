//! One open intent as the Event Processor sees it.

use std::sync::Arc;

use mtor_types::Time;
use mtor_types::intent::{EndRequest, IntentMeta, Why};
use mtor_types::message::{Message, Service};

use crate::limits;
use crate::share::Part;
use crate::turn::Turn;

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
    /// Something of it may reach the router behind its end: it was sent there more than once, or its
    /// end before it was known to be there.
    pub(super) crossing: bool,
    /// Its whole way is on this node, where no message is lost and nobody restarts alone.
    pub(super) together: bool,
    /// When anything was last sent or heard about it.
    pub(super) heard: Time,
    pub(super) timer: Option<Time>,
    /// Its place among the open ones; `None` only once it is over.
    pub(super) part: Option<Part>,
}

impl Open {
    pub(super) fn new(
        meta: Arc<IntentMeta>,
        deadline: Time,
        now: Time,
        together: bool,
        part: Part,
    ) -> Self {
        let (phase, admitted, crossing, timer) = (Phase::Opening, false, false, None);
        let part = Some(part);
        Self { meta, deadline, phase, admitted, crossing, together, heard: now, timer, part }
    }

    /// Takes it around the ring again.
    pub(super) fn resume(&mut self, turn: &mut Turn) {
        self.crossing = true;
        turn.send(Service::Accountant, Message::Resume(self.meta_now(turn.now).into()));
    }

    /// The intent as it is to be sent now: with the time that is left now.
    fn meta_now(&self, now: Time) -> Arc<IntentMeta> {
        let remaining_ms = self.deadline.since_ms(now);
        if remaining_ms == self.meta.remaining_ms {
            return Arc::clone(&self.meta);
        }
        Arc::new(IntentMeta { remaining_ms, ..(*self.meta).clone() })
    }

    /// When its last message is sent again. The one that opens it never is: that one, and the
    /// answer to it, stand in outboxes until they are taken; and a second one that came after the
    /// accountant has forgotten how the intent ended would place a second hold.
    pub(super) fn repeat_at(&self) -> Time {
        match self.phase {
            Phase::Opening => self.deadline,
            Phase::Admitted if self.together => self.deadline,
            Phase::Stopping(_) => self.heard.after_ms(limits::STOP_REPEAT_MS),
            Phase::Admitted | Phase::Ending(_) => self.heard.after_ms(limits::STALL_MS),
        }
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
