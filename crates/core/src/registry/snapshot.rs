//! The registry's section of a snapshot, and how earlier versions of it become today's.

use std::collections::{BTreeMap, BTreeSet};

use mtor_types::Time;
use mtor_types::id::{AccountId, KeyHash, WorkerId};
use mtor_types::standing::KindName;
use serde::Deserialize;

use super::{Earned, Enrolled, Enrolments};
use crate::snapshot::{RecoverError, Section, parse, unknown_version};

/// Version 1, also the form of a snapshot without sections: proven as a whole and by payers. Frozen.
#[derive(Deserialize)]
pub(crate) struct EnrolmentsV1 {
    tokens: BTreeMap<KeyHash, TokenV1>,
    workers: BTreeMap<WorkerId, EnrolledV1>,
}

/// A token that waited to be used: void today. Frozen.
#[derive(Deserialize)]
struct TokenV1 {
    _owner: AccountId,
    _expires: Time,
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

/// Version 2: standing by kind; tokens stood in a table. Frozen.
#[derive(Deserialize)]
pub(crate) struct EnrolmentsV2 {
    #[serde(rename = "tokens")]
    _tokens: BTreeMap<KeyHash, TokenV1>,
    workers: BTreeMap<WorkerId, EnrolledV2>,
    day: u64,
    days: u32,
}

#[derive(Deserialize)]
struct EnrolledV2 {
    owner: AccountId,
    name: String,
    token: KeyHash,
    own: bool,
    banned: bool,
    served: bool,
    seen: u32,
    earned: BTreeMap<KindName, Earned>,
}

impl From<EnrolmentsV1> for EnrolmentsV2 {
    fn from(old: EnrolmentsV1) -> Self {
        let enrolled = |(worker, old): (WorkerId, EnrolledV1)| {
            let EnrolledV1 { owner, name, token, own, banned, proven } = old;
            let (served, seen, earned) = (proven && !own, 0, BTreeMap::new());
            (worker, EnrolledV2 { owner, name, token, own, banned, served, seen, earned })
        };
        let (_tokens, (day, days)) = (old.tokens, (0, 0));
        Self { _tokens, workers: old.workers.into_iter().map(enrolled).collect(), day, days }
    }
}

impl From<EnrolmentsV2> for Enrolments {
    fn from(old: EnrolmentsV2) -> Self {
        let enrolled = |(worker, old): (WorkerId, EnrolledV2)| {
            let EnrolledV2 { owner, name, token, own, banned, served, seen, earned } = old;
            let token_expires = Time::default();
            let enrolled =
                Enrolled { owner, name, token, token_expires, own, banned, served, seen, earned };
            (worker, enrolled)
        };
        let workers = old.workers.into_iter().map(enrolled).collect();
        // The accountant says at each start who is banned.
        let (void, banned) = (BTreeMap::new(), BTreeSet::new());
        Self { workers, void, banned, day: old.day, days: old.days }
    }
}

impl From<EnrolmentsV1> for Enrolments {
    fn from(old: EnrolmentsV1) -> Self {
        EnrolmentsV2::from(old).into()
    }
}

impl Section for Enrolments {
    type Written<'a> = Self;
    const NAME: &'static str = "registry";
    const ID: u8 = 4;
    const VERSION: u8 = 3;

    fn read(version: u8, bytes: &[u8]) -> Result<Self, RecoverError> {
        match version {
            1 => parse::<EnrolmentsV1>(bytes).map(Self::from),
            2 => parse::<EnrolmentsV2>(bytes).map(Self::from),
            3 => parse(bytes),
            found => Err(unknown_version::<Self>(found)),
        }
    }
}
