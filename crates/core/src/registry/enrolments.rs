//! The durable state of the registry, and how facts change it.

use std::collections::BTreeMap;

use mtor_types::Time;
use mtor_types::fact::Fact;
use mtor_types::id::{AccountId, KeyHash, WorkerId};
use serde::{Deserialize, Serialize};

use super::Registry;

/// An enrolment token that waits to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    pub owner: AccountId,
    pub expires: Time,
}

/// A worker that may open sessions, unless it is banned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolled {
    pub owner: AccountId,
    pub name: String,
    /// The token that enrolled it: the same request again is told yes again.
    pub token: KeyHash,
    /// Owned by the realm's own account.
    pub own: bool,
    pub banned: bool,
    /// Past probation, or exempt.
    pub proven: bool,
}

/// Everything of the registry that outlives a restart: the fold of its facts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolments {
    pub(super) tokens: BTreeMap<KeyHash, Token>,
    pub(super) workers: BTreeMap<WorkerId, Enrolled>,
}

impl Registry {
    /// The only way the enrolments change. Facts of other services change nothing.
    pub fn apply(&mut self, _at: Time, fact: &Fact) {
        match fact {
            Fact::TokenIssued { token, owner, expires } => {
                let issued = Token { owner: *owner, expires: *expires };
                self.enrolments.tokens.insert(*token, issued);
            }
            Fact::WorkerEnrolled { worker, owner, name, token, own } => {
                self.enrolments.tokens.remove(token);
                // Enrolled again by the same owner: its standing stays.
                let (banned, proven) = (self.enrolments.workers.get(worker))
                    .map_or((false, *own), |before| (before.banned, before.proven));
                let (owner, name, token, own) = (*owner, name.clone(), *token, *own);
                let enrolled = Enrolled { owner, name, token, own, banned, proven };
                self.enrolments.workers.insert(*worker, enrolled);
            }
            Fact::WorkerBanned { worker, banned } => {
                if let Some(enrolled) = self.enrolments.workers.get_mut(worker) {
                    enrolled.banned = *banned;
                }
            }
            Fact::WorkerRemoved { worker } => {
                self.enrolments.workers.remove(worker);
            }
            Fact::WorkerServed { worker, passed } => {
                if let Some(enrolled) = self.enrolments.workers.get_mut(worker) {
                    enrolled.proven = *passed || enrolled.own;
                }
            }
            Fact::TokensExpired { tokens } => {
                for token in tokens {
                    self.enrolments.tokens.remove(token);
                }
            }
            Fact::NodeStarted { .. }
            | Fact::MessageSent { .. }
            | Fact::MessageAcknowledged { .. }
            | Fact::MessageTaken { .. }
            | Fact::LedgerOpened { .. }
            | Fact::AccountOpened { .. }
            | Fact::KeyAdded { .. }
            | Fact::KeyRevoked { .. }
            | Fact::AccountBanned { .. }
            | Fact::GrantPaid { .. }
            | Fact::HoldPlaced { .. }
            | Fact::HoldResolved { .. }
            | Fact::IntentOpenedV1 { .. }
            | Fact::IntentOpened { .. }
            | Fact::IntentEnded { .. } => {}
        }
    }
}
