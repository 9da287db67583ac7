//! The registry's section of a snapshot, and how earlier versions of it become today's.

use std::collections::BTreeMap;

use mtor_types::id::{AccountId, KeyHash, WorkerId};
use serde::Deserialize;

use super::{Enrolled, Enrolments, Token};
use crate::snapshot::{RecoverError, Section, parse, unknown_version};

/// Version 1, also the form of a snapshot without sections: proven as a whole and by payers. Frozen.
#[derive(Deserialize)]
pub(crate) struct EnrolmentsV1 {
    tokens: BTreeMap<KeyHash, Token>,
    workers: BTreeMap<WorkerId, EnrolledV1>,
}

#[derive(Deserialize)]
struct EnrolledV1 {
    owner: AccountId,
    name: String,
    token: KeyHash,
    own: bool,
    banned: bool,
    proven: bool,
}

impl From<EnrolmentsV1> for Enrolments {
    fn from(old: EnrolmentsV1) -> Self {
        let enrolled = |(worker, old): (WorkerId, EnrolledV1)| {
            let EnrolledV1 { owner, name, token, own, banned, proven } = old;
            let (served, seen, earned) = (proven && !own, 0, BTreeMap::new());
            (worker, Enrolled { owner, name, token, own, banned, served, seen, earned })
        };
        let (tokens, (day, days)) = (old.tokens, (0, 0));
        Self { tokens, workers: old.workers.into_iter().map(enrolled).collect(), day, days }
    }
}

impl Section for Enrolments {
    type Written<'a> = Self;
    const NAME: &'static str = "registry";
    const ID: u8 = 4;
    const VERSION: u8 = 2;

    fn read(version: u8, bytes: &[u8]) -> Result<Self, RecoverError> {
        match version {
            1 => parse::<EnrolmentsV1>(bytes).map(Self::from),
            2 => parse(bytes),
            found => Err(unknown_version::<Self>(found)),
        }
    }
}
