//! One turn of a service: where it puts what it decided.

use std::collections::VecDeque;

use mtor_types::Time;
use mtor_types::fact::Fact;
use mtor_types::message::{Envelope, Message, Service};

use crate::effect::{Effect, When};

/// Time and epoch in; facts, messages and effects out. A service applies a fact to itself before
/// it records it, so that the next command of the same batch sees it.
#[derive(Debug, Default)]
pub struct Turn {
    pub now: Time,
    /// This node's boot.
    pub epoch: u32,
    pub facts: Vec<Fact>,
    pub messages: VecDeque<Envelope>,
    pub effects: VecDeque<(When, Effect)>,
}

impl Turn {
    pub fn record(&mut self, fact: Fact) {
        self.facts.push(fact);
    }

    pub fn send(&mut self, to: Service, message: Message) {
        self.messages.push_back(Envelope { to, message });
    }

    pub fn now(&mut self, effect: Effect) {
        self.effects.push_back((When::Now, effect));
    }

    pub fn durable(&mut self, effect: Effect) {
        self.effects.push_back((When::Durable, effect));
    }
}
