//! The leases a worker is known to hold, for while a long frame of its own keeps it from saying so,
//! and how long nothing has come of each.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mtor_core::limits;
use mtor_types::worker::LeaseClaim;
use mtor_types::{Attempt, IntentId};

/// What the worker named in its last renewal, and what was given to it since the one before: that
/// may have crossed the renewal on its way.
#[derive(Debug, Default)]
pub(super) struct Held {
    leases: BTreeMap<(IntentId, Attempt), Lease>,
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    since: Since,
    /// Nothing came of it for so long.
    quiet: Duration,
    /// May be; none once it was said that it was longer, and of what was not given in this session.
    allowed: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Since {
    /// No renewal came since.
    Now,
    Renewal,
}

impl Held {
    /// Beyond the bound a lease is not remembered: it is then renewed by the worker's word alone.
    pub(super) fn assigned(&mut self, intent: IntentId, attempt: Attempt, silence: Duration) {
        if self.leases.len() < limits::LEASES_PER_MESSAGE_MAX {
            let (since, quiet, allowed) = (Since::Now, Duration::ZERO, Some(silence));
            self.leases.insert((intent, attempt), Lease { since, quiet, allowed });
        }
    }

    pub(super) fn ended(&mut self, intent: IntentId, attempt: Attempt) {
        self.leases.remove(&(intent, attempt));
    }

    /// The worker's own word. Not longer than a message may be.
    pub(super) fn renewed(&mut self, said: &[LeaseClaim]) {
        let said = said.iter().map(|claim| (claim.intent, claim.attempt));
        let named: BTreeSet<(IntentId, Attempt)> = said.collect();
        self.leases.retain(|key, lease| {
            let since = std::mem::replace(&mut lease.since, Since::Renewal);
            since == Since::Now || named.contains(key)
        });
        for key in named {
            if self.leases.len() < limits::LEASES_PER_MESSAGE_MAX {
                let (since, quiet, allowed) = (Since::Renewal, Duration::ZERO, None);
                self.leases.entry(key).or_insert(Lease { since, quiet, allowed });
            }
        }
    }

    /// So much time has passed, in which something came of those that `gave`. Of which nothing has
    /// come for longer than it may: told once an attempt.
    pub(super) fn silent(
        &mut self,
        passed: Duration,
        mut gave: impl FnMut(IntentId, Attempt) -> bool,
    ) -> Vec<LeaseClaim> {
        let mut silent = Vec::new();
        for (&(intent, attempt), lease) in &mut self.leases {
            let quiet = lease.quiet.saturating_add(passed);
            lease.quiet = if gave(intent, attempt) { Duration::ZERO } else { quiet };
            if lease.allowed.take_if(|allowed| lease.quiet >= *allowed).is_some() {
                silent.push(LeaseClaim { intent, attempt });
            }
        }
        silent
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
        let give = |held: &mut Held, n| {
            held.assigned(lease(n).intent, lease(n).attempt, Duration::ZERO);
        };
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
    fn an_attempt_of_which_nothing_comes_is_told_once() {
        let mut held = Held::default();
        let second = Duration::from_secs(1);
        let lease = |n: u8| LeaseClaim { intent: IntentId([n; 16]), attempt: Attempt(n.into()) };
        for n in [1, 2, 3] {
            held.assigned(lease(n).intent, lease(n).attempt, second * 3);
        }
        // What is not of this session is never told.
        held.renewed(&[lease(1), lease(2), lease(3), lease(4)]);
        let gave = |intent: IntentId, _: Attempt| intent == lease(2).intent;
        assert_eq!(held.silent(second * 2, gave), []);
        held.ended(lease(3).intent, lease(3).attempt);
        assert_eq!(held.silent(second, gave), [lease(1)]);
        assert_eq!(held.silent(second * 3, gave), [], "no second time");
        assert_eq!(held.silent(second * 3, |_, _| false), [lease(2)]);
        // Its worker goes on with it in another session: it begins anew.
        held.assigned(lease(1).intent, lease(1).attempt, second * 3);
        assert_eq!(held.silent(second * 2, |_, _| false), []);
        assert_eq!(held.silent(second, |_, _| false), [lease(1)]);
    }

    #[test]
    fn it_is_never_longer_than_a_message() {
        let mut held = Held::default();
        let most = u64::try_from(limits::LEASES_PER_MESSAGE_MAX).unwrap();
        let intent = IntentId([1; 16]);
        for attempt in 0..most * 2 {
            held.assigned(intent, Attempt(attempt), Duration::ZERO);
        }
        let said: Vec<_> =
            (most..most * 2).map(|n| LeaseClaim { intent, attempt: Attempt(n) }).collect();
        held.renewed(&said);
        assert_eq!(held.claims().len(), limits::LEASES_PER_MESSAGE_MAX);
    }
}
