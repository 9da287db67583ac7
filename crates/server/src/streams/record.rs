//! Entries as bytes, for the spill file. Nothing outlives its process there, so the form has no version.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use mtor_core::router::TrustClass;
use mtor_types::fact::Asset;
use mtor_types::intent::End;
use mtor_types::{AccountId, Amount, Attempt, WorkerId};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::entries::{Admission, Block};
use super::entry::{Ended, Entry, Server};
use super::spill::Place;

/// An intent that is over, in one record: all of it, or what is not in records of its own.
#[derive(Serialize, Deserialize)]
pub(super) struct Whole<'a> {
    #[serde(borrow)]
    pub(super) model: Option<&'a str>,
    pub(super) admission: Option<Admission>,
    pub(super) given_up: Option<Attempt>,
    pub(super) blocks: Vec<Block>,
    pub(super) restarts: Vec<(usize, Attempt)>,
    pub(super) result: Option<Place>,
    #[serde(borrow)]
    pub(super) tail: Vec<Word<'a>>,
}

#[derive(Serialize, Deserialize)]
pub(super) enum Word<'a> {
    Started {
        attempt: Attempt,
        worker: WorkerId,
        owner: AccountId,
        class: Class,
    },
    Chunk {
        attempt: Attempt,
        seq: u64,
        #[serde(borrow)]
        piece: Raw<'a>,
    },
    Restarted {
        attempt: Attempt,
    },
    End {
        end: End,
        #[serde(borrow)]
        message: Option<&'a str>,
        #[serde(borrow)]
        result: Option<Raw<'a>>,
    },
    Settled(#[serde(borrow)] Raw<'a>),
    /// Of an attempt that was given up.
    Void,
    Accepted {
        asset: Asset,
        hold: Amount,
    },
    Queued {
        position: u64,
        wait_ms: u64,
    },
}

#[derive(Serialize, Deserialize)]
pub(super) enum Class {
    Own,
    Proven,
    Probation,
}

/// Bytes as bytes, not one by one.
pub(super) struct Raw<'a>(&'a [u8]);

impl Serialize for Raw<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Raw<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Borrowed;
        impl<'de> Visitor<'de> for Borrowed {
            type Value = Raw<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }
            fn visit_borrowed_bytes<E: Error>(self, bytes: &'de [u8]) -> Result<Raw<'de>, E> {
                Ok(Raw(bytes))
            }
        }
        deserializer.deserialize_bytes(Borrowed)
    }
}

impl<'a> Word<'a> {
    pub(super) fn of(entry: Option<&'a Entry>) -> Self {
        let Some(entry) = entry else { return Self::Void };
        match entry {
            Entry::Accepted { asset, hold } => Self::Accepted { asset: *asset, hold: *hold },
            Entry::Queued { position, wait_ms } => {
                Self::Queued { position: *position, wait_ms: *wait_ms }
            }
            Entry::Started { attempt, by: Server { worker, owner, class } } => {
                let class = match class {
                    TrustClass::Own => Class::Own,
                    TrustClass::Proven => Class::Proven,
                    TrustClass::Probation => Class::Probation,
                };
                Self::Started { attempt: *attempt, worker: *worker, owner: *owner, class }
            }
            Entry::Chunk { attempt, seq, piece } => {
                Self::Chunk { attempt: *attempt, seq: *seq, piece: Raw(piece) }
            }
            Entry::Restarted { attempt } => Self::Restarted { attempt: *attempt },
            Entry::End(ended) => {
                let (message, result) = (ended.message.as_deref(), ended.result.as_deref());
                Self::End { end: ended.end.clone(), message, result: result.map(Raw) }
            }
            Entry::Settled(receipt) => Self::Settled(Raw(receipt)),
        }
    }

    /// Its bytes stay those of the `record` that it was read of.
    pub(super) fn entry(self, record: &Bytes) -> Option<Entry> {
        let bytes = |raw: Raw<'_>| record.slice_ref(raw.0);
        Some(match self {
            Self::Void => return None,
            Self::Accepted { asset, hold } => Entry::Accepted { asset, hold },
            Self::Queued { position, wait_ms } => Entry::Queued { position, wait_ms },
            Self::Started { attempt, worker, owner, class } => {
                let class = match class {
                    Class::Own => TrustClass::Own,
                    Class::Proven => TrustClass::Proven,
                    Class::Probation => TrustClass::Probation,
                };
                Entry::Started { attempt, by: Server { worker, owner, class } }
            }
            Self::Chunk { attempt, seq, piece } => {
                Entry::Chunk { attempt, seq, piece: bytes(piece) }
            }
            Self::Restarted { attempt } => Entry::Restarted { attempt },
            Self::End { end, message, result } => {
                let (message, result) = (message.map(str::to_owned), result.map(bytes));
                Entry::End(Arc::new(Ended { end, message, result }))
            }
            Self::Settled(receipt) => Entry::Settled(bytes(receipt)),
        })
    }
}
