//! The leases a worker is known to hold, for while a long frame of its own keeps it from saying so.

use std::collections::BTreeMap;

use mtor_core::limits;
use mtor_types::worker::LeaseClaim;
use mtor_types::{Attempt, IntentId};

/// What the worker named in its last renewal, and what was given to it since the one before: that
/// may have crossed the renewal on its way.
#[derive(Debug, Default)]
pub(super) struct Held {
    leases: BTreeMap<(IntentId, Attempt), Since>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Since {
    /// No renewal came since.
    Now,
    Renewal,
}

impl Held {
    /// Beyond the bound a lease is not remembered: it is then renewed by the worker's word alone.
    pub(super) fn assigned(&mut self, intent: IntentId, attempt: Attempt) {
        if self.leases.len() < limits::LEASES_PER_MESSAGE_MAX {
            self.leases.insert((intent, attempt), Since::Now);
        }
    }

    pub(super) fn ended(&mut self, intent: IntentId, attempt: Attempt) {
        self.leases.remove(&(intent, attempt));
    }

    /// The worker's own word. Not longer than a message may be.
    pub(super) fn renewed(&mut self, said: &[LeaseClaim]) {
        self.leases.retain(|_, since| std::mem::replace(since, Since::Renewal) == Since::Now);
        let room = limits::LEASES_PER_MESSAGE_MAX.saturating_sub(self.leases.len());
        let said = said.iter().take(room).map(|claim| (claim.intent, claim.attempt));
        self.leases.extend(said.map(|key| (key, Since::Renewal)));
    }

    pub(super) fn claims(&self) -> Vec<LeaseClaim> {
        let claim = |&(intent, attempt): &(IntentId, Attempt)| LeaseClaim { intent, attempt };
        self.leases.keys().map(claim).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_held_from_its_assignment_until_a_renewal_that_could_name_it_does_not() {
        let mut held = Held::default();
        let lease = |n: u8| LeaseClaim { intent: IntentId([n; 16]), attempt: Attempt(n.into()) };
        let give = |held: &mut Held, n| held.assigned(lease(n).intent, lease(n).attempt);
        give(&mut held, 1);
        give(&mut held, 2);
        // 2 was on its way when this was said.
        held.renewed(&[lease(1)]);
        assert_eq!(held.claims(), [lease(1), lease(2)]);
        give(&mut held, 3);
        held.renewed(&[lease(1)]);
        assert_eq!(held.claims(), [lease(1), lease(3)]);
        held.ended(lease(1).intent, lease(1).attempt);
        held.renewed(&[lease(3), lease(4)]);
        assert_eq!(held.claims(), [lease(3), lease(4)]);
    }

    #[test]
    fn it_is_never_longer_than_a_message() {
        let mut held = Held::default();
        let most = u64::try_from(limits::LEASES_PER_MESSAGE_MAX).unwrap();
        let intent = IntentId([1; 16]);
        for attempt in 0..most * 2 {
            held.assigned(intent, Attempt(attempt));
        }
        let said: Vec<_> =
            (most..most * 2).map(|n| LeaseClaim { intent, attempt: Attempt(n) }).collect();
        held.renewed(&said);
        assert_eq!(held.claims().len(), limits::LEASES_PER_MESSAGE_MAX);
    }
}
