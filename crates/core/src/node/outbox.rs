//! Messages to other nodes: kept as facts until acknowledged, taken in order exactly once. The
//! fabric between may lose, repeat and reorder them.

use std::collections::VecDeque;
use std::sync::Arc;

use mtor_types::fact::Fact;
use mtor_types::message::{Envelope, Message, Service};
use mtor_types::rejection::Rejection;
use mtor_types::{NodeId, Time};
use serde::{Deserialize, Serialize};

use super::Node;
use crate::effect::Effect;
use crate::limits;

/// What waits for one receiver's acknowledgement.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Outbox {
    /// The number of the first message in `waiting`, less one.
    acknowledged: u64,
    waiting: VecDeque<Arc<[u8]>>,
    /// Soft: when the oldest is sent again.
    #[serde(skip)]
    repeat_at: Option<Time>,
}

impl Outbox {
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= limits::OUTBOX_MAX
    }

    pub(super) fn next_timeout(&self) -> Option<Time> {
        if self.waiting.is_empty() { None } else { self.repeat_at }
    }

    fn last(&self) -> u64 {
        let waiting = u64::try_from(self.waiting.len()).unwrap_or(u64::MAX);
        self.acknowledged.saturating_add(waiting)
    }

    fn push(&mut self, bytes: &[u8]) {
        self.waiting.push_back(bytes.into());
    }

    /// Drops what the receiver has.
    fn acknowledge(&mut self, number: u64) {
        while self.acknowledged < number && self.waiting.pop_front().is_some() {
            self.acknowledged = self.acknowledged.saturating_add(1);
        }
    }
}

impl Node {
    /// Puts a message for another node into the outbox.
    pub(super) fn post(&mut self, to_node: NodeId, to: Service, message: Message) {
        let envelope = Envelope { to, message };
        // Every message type is serializable into memory; there is no I/O to fail.
        let Ok(bytes) = postcard::to_stdvec(&envelope) else { return };
        let number = self.outboxes.entry(to_node).or_default().last().saturating_add(1);
        let shared: Arc<[u8]> = bytes.as_slice().into();
        self.record(Fact::MessageSent { to: to_node, number, bytes });
        if let Some(outbox) = self.outboxes.get_mut(&to_node)
            && outbox.repeat_at.is_none()
        {
            outbox.repeat_at = Some(self.turn.now.after_ms(limits::OUTBOX_REPEAT_MS));
        }
        self.turn.durable(Effect::Send { to: to_node, number, bytes: shared });
    }

    /// Takes message `number` of another node if it is the next, and with it what came early;
    /// anything older was taken before and is acknowledged again.
    pub(super) fn take(
        &mut self,
        from: NodeId,
        number: u64,
        bytes: &[u8],
    ) -> Result<(), Rejection> {
        let expected = self.expected(from);
        if number > expected {
            self.keep_early(from, number, bytes);
            return Err(Rejection::MessageGap { expected });
        }
        if number == expected {
            self.take_next(from, bytes)?;
            while let Some(bytes) = self.early_of(from) {
                // What cannot be read is refused when it comes again by itself.
                if self.take_next(from, &bytes).is_err() {
                    break;
                }
            }
        }
        let number = self.expected(from).saturating_sub(1);
        self.turn.durable(Effect::Acknowledge { to: from, number });
        Ok(())
    }

    fn take_next(&mut self, from: NodeId, bytes: &[u8]) -> Result<(), Rejection> {
        if bytes.len() > limits::MESSAGE_BYTES_MAX {
            return Err(Rejection::MessageUnreadable);
        }
        let Envelope { to, message } =
            postcard::from_bytes(bytes).map_err(|_| Rejection::MessageUnreadable)?;
        let number = self.expected(from);
        self.record(Fact::MessageTaken { from, number });
        self.turn.messages.push_back(Envelope { to, message: message.current() });
        Ok(())
    }

    fn expected(&self, from: NodeId) -> u64 {
        self.marks.get(&from).copied().unwrap_or_default().saturating_add(1)
    }

    /// Remembers what overtook its predecessors, so that a fabric which reorders costs no
    /// repetition: without this every overtaking message waits for [`limits::OUTBOX_REPEAT_MS`].
    fn keep_early(&mut self, from: NodeId, number: u64, bytes: &[u8]) {
        let near = number.saturating_sub(self.expected(from)) < EARLY_MAX;
        if near && bytes.len() <= EARLY_BYTES_MAX {
            self.early.entry(from).or_default().entry(number).or_insert_with(|| bytes.into());
        }
    }

    /// The next message of a sender, if it came early. What was taken since is forgotten.
    fn early_of(&mut self, from: NodeId) -> Option<Arc<[u8]>> {
        let expected = self.expected(from);
        let early = self.early.get_mut(&from)?;
        while let Some(first) = early.first_entry() {
            if *first.key() > expected {
                return None;
            }
            let (number, bytes) = first.remove_entry();
            if number == expected {
                return Some(bytes);
            }
        }
        None
    }

    pub(super) fn acknowledged(&mut self, by: NodeId, number: u64) {
        let news = self
            .outboxes
            .get(&by)
            .is_some_and(|outbox| number > outbox.acknowledged && number <= outbox.last());
        if news {
            self.record(Fact::MessageAcknowledged { by, number });
        }
    }

    /// Sends again what was not acknowledged in time.
    pub(super) fn resend(&mut self) {
        let now = self.turn.now;
        for (to, outbox) in &mut self.outboxes {
            self.steps.one();
            if outbox.waiting.is_empty() {
                outbox.repeat_at = None;
                continue;
            }
            if outbox.repeat_at.is_some_and(|at| at > now) {
                continue;
            }
            outbox.repeat_at = Some(now.after_ms(limits::OUTBOX_REPEAT_MS));
            let first = outbox.acknowledged.saturating_add(1);
            for (number, bytes) in (first..).zip(outbox.waiting.iter().take(RESENT_MAX)) {
                self.steps.one();
                self.turn.durable(Effect::Send { to: *to, number, bytes: Arc::clone(bytes) });
            }
        }
    }

    pub(super) fn apply_to_outboxes(&mut self, fact: &Fact) {
        #[expect(clippy::wildcard_enum_match_arm, reason = "every other fact is a service's")]
        match fact {
            Fact::NodeStarted { epoch } => self.turn.epoch = *epoch,
            Fact::MessageSent { to, number: _, bytes } => {
                self.outboxes.entry(*to).or_default().push(bytes);
            }
            Fact::MessageAcknowledged { by, number } => {
                self.outboxes.entry(*by).or_default().acknowledge(*number);
            }
            Fact::MessageTaken { from, number } => {
                self.marks.insert(*from, *number);
            }
            _ => {}
        }
    }
}

/// Messages sent again in one go: the receiver takes them in order, so a long tail is useless.
const RESENT_MAX: usize = 256;
/// How far ahead of its turn a message is kept: as far as the sender sends again in one go.
const EARLY_MAX: u64 = 256;
/// A larger one is not kept; it comes again.
const EARLY_BYTES_MAX: usize = 16 * 1024;
