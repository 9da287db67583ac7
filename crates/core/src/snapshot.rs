//! What a snapshot of a node's durable state is made of: sections, one a service, each with its own
//! version, so that one service's state can change without another's.
//!
//! ```text
//! format (1 byte)   then for each section:   id (1)   version (1)   length (8, little-endian)   postcard
//! ```
//!
//! A section of an earlier version is read as the type it was and then turned into today's, by a
//! chain in the folder of its service; the log is never folded anew for it, since a log may be cut
//! behind a snapshot. What is newer than this program is refused by name.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The first byte of a snapshot. Format 1 was one blob without sections.
pub const FORMAT: u8 = 2;

const LENGTH_BYTES: usize = 8;

/// Why a state cannot be recovered.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    #[error("the snapshot is empty")]
    Empty,
    #[error("the snapshot is not what its version says")]
    Snapshot(#[source] postcard::Error),
    #[error(
        "the snapshot has format {0}, this program reads up to {FORMAT}: start the realm with the \
         version that wrote it, or with a newer one"
    )]
    Format(u8),
    #[error(
        "the snapshot's section `{name}` has version {found}, this program reads up to {known}: \
         start the realm with the version that wrote it, or with a newer one"
    )]
    Version { name: &'static str, found: u8, known: u8 },
    #[error(
        "the snapshot has a section {0} that this program does not know: start the realm with the \
         version that wrote it, or with a newer one"
    )]
    Unknown(u8),
    #[error("the snapshot has no section `{0}`")]
    Missing(&'static str),
    #[error("the snapshot has section {0} twice")]
    Twice(u8),
    #[error("the snapshot is cut short")]
    Short,
    #[error("the snapshot is {0} bytes longer than its state")]
    LeftOver(usize),
    #[error("batch {found} follows batch {last} in the log")]
    Gap { last: u64, found: u64 },
    #[error("batch {batch} of the log does not fit the ledger before it: {what}")]
    Misfit { batch: u64, what: String },
}

/// The durable state of one service as a snapshot holds it.
pub(crate) trait Section: Sized {
    /// What is written of it: itself by reference, or something that gives the same bytes.
    type Written<'a>: Serialize;
    const NAME: &'static str;
    /// Never used for another.
    const ID: u8;
    /// Raised whenever the bytes change.
    const VERSION: u8;

    /// From the bytes of any version up to [`Section::VERSION`].
    fn read(version: u8, bytes: &[u8]) -> Result<Self, RecoverError>;
}

pub(crate) fn unknown_version<S: Section>(found: u8) -> RecoverError {
    RecoverError::Version { name: S::NAME, found, known: S::VERSION }
}

/// One value, and nothing behind it.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, RecoverError> {
    let (value, rest) = postcard::take_from_bytes(bytes).map_err(RecoverError::Snapshot)?;
    if rest.is_empty() { Ok(value) } else { Err(RecoverError::LeftOver(rest.len())) }
}

/// Writes sections one behind the other into one buffer: the state itself is not copied.
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn begin() -> Self {
        Self(vec![FORMAT])
    }

    pub(crate) fn section<S: Section>(self, state: &S::Written<'_>) -> Result<Self, RecoverError> {
        let Self(mut out) = self;
        out.extend([S::ID, S::VERSION]);
        let at = out.len();
        out.extend([0; LENGTH_BYTES]);
        let from = out.len();
        let mut out = postcard::to_extend(state, out).map_err(RecoverError::Snapshot)?;
        let length = u64::try_from(out.len().saturating_sub(from)).unwrap_or(u64::MAX);
        if let Some(place) = out.get_mut(at..from) {
            place.copy_from_slice(&length.to_le_bytes());
        }
        Ok(Self(out))
    }

    pub(crate) fn end(self) -> Vec<u8> {
        self.0
    }
}

/// The sections of a snapshot that nobody has read yet, by id.
pub(crate) struct Sections<'a>(BTreeMap<u8, (u8, &'a [u8])>);

impl<'a> Sections<'a> {
    pub(crate) fn read(mut bytes: &'a [u8]) -> Result<Self, RecoverError> {
        let mut found = BTreeMap::new();
        while !bytes.is_empty() {
            let (head, rest) = bytes.split_at_checked(2).ok_or(RecoverError::Short)?;
            let (length, rest) =
                rest.split_first_chunk::<LENGTH_BYTES>().ok_or(RecoverError::Short)?;
            let length =
                usize::try_from(u64::from_le_bytes(*length)).map_err(|_| RecoverError::Short)?;
            let (body, rest) = rest.split_at_checked(length).ok_or(RecoverError::Short)?;
            let &[id, version] = head else { return Err(RecoverError::Short) };
            if found.insert(id, (version, body)).is_some() {
                return Err(RecoverError::Twice(id));
            }
            bytes = rest;
        }
        Ok(Self(found))
    }

    pub(crate) fn take<S: Section>(&mut self) -> Result<S, RecoverError> {
        let (version, bytes) = self.0.remove(&S::ID).ok_or(RecoverError::Missing(S::NAME))?;
        S::read(version, bytes)
    }

    /// Nothing may be left: what is passed over would be lost with the next snapshot.
    pub(crate) fn end(self) -> Result<(), RecoverError> {
        self.0.first_key_value().map_or(Ok(()), |(id, _)| Err(RecoverError::Unknown(*id)))
    }
}
