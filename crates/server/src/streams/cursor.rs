//! A reader's place in a buffer.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use mtor_types::Attempt;

use serde::{Deserialize, Serialize};

use super::entries::Opened;
use super::entry::Entry;
use super::stream::{Fetched, Found, IntentStream};
use crate::api_error::ApiError;

/// The id of an event in a stream, as `attempt.seq`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LastEventId {
    pub attempt: Attempt,
    pub seq: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected `attempt.seq`, two whole numbers")]
pub struct ParseLastEventIdError;

impl fmt::Display for LastEventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.attempt, self.seq)
    }
}

impl FromStr for LastEventId {
    type Err = ParseLastEventIdError;

    fn from_str(text: &str) -> Result<Self, ParseLastEventIdError> {
        // `parse` alone would take a sign.
        if text.len() > 41 || !text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
            return Err(ParseLastEventIdError);
        }
        let (attempt, seq) = text.split_once('.').ok_or(ParseLastEventIdError)?;
        let number = |text: &str| text.parse().map_err(|_| ParseLastEventIdError);
        Ok(Self { attempt: Attempt(number(attempt)?), seq: number(seq)? })
    }
}

/// What is there for a reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    Entry(Entry),
    /// Nothing yet; more will come.
    Pending,
    /// Nothing more will come.
    Over,
}

/// One reader. Dropping it is all there is to unsubscribing.
pub struct Cursor {
    stream: Arc<IntentStream>,
    at: usize,
    /// The last piece that the reader has.
    seen: Option<LastEventId>,
    /// What was read from disk last: the next entries stand there, too.
    opened: Option<Opened>,
}

impl Cursor {
    pub(super) fn new(stream: Arc<IntentStream>, at: usize, seen: Option<LastEventId>) -> Self {
        stream.reader_came();
        Self { stream, at, seen, opened: None }
    }

    pub(super) fn go_to(&mut self, at: usize) {
        self.at = at;
    }

    pub fn stream(&self) -> &Arc<IntentStream> {
        &self.stream
    }

    /// The next entry; waits for it. `None` when nothing more will come. Safe to cancel: an entry
    /// is either given or still there.
    pub async fn next(&mut self) -> Result<Option<Entry>, ApiError> {
        loop {
            match self.try_next()? {
                Next::Entry(entry) => return Ok(Some(entry)),
                Next::Over => return Ok(None),
                Next::Pending => {}
            }
            let stream = Arc::clone(&self.stream);
            // Made before the second look: it hears of every change from here on.
            let changed = stream.changed();
            match self.try_next()? {
                Next::Entry(entry) => return Ok(Some(entry)),
                Next::Over => return Ok(None),
                Next::Pending => changed.await,
            }
        }
    }

    /// The next entry, if it is there.
    pub fn try_next(&mut self) -> Result<Next, ApiError> {
        loop {
            let entry = match self.stream.find(self.at, self.opened.as_ref()) {
                Found::Entry(entry) => entry,
                Found::Away(away) => match self.stream.fetch(away) {
                    Ok(Fetched::Entry(entry)) => entry,
                    Ok(Fetched::Block(opened)) => {
                        self.opened = Some(opened);
                        continue;
                    }
                    Err(_) => return Err(ApiError::internal()),
                },
                Found::Void => {
                    self.at += 1;
                    continue;
                }
                Found::NothingYet => {
                    // It may wait here for long.
                    self.opened = None;
                    return Ok(Next::Pending);
                }
                Found::Over => return Ok(Next::Over),
            };
            if let Some(entry) = self.pass(entry) {
                return Ok(Next::Entry(entry));
            }
        }
    }

    /// What the reader gets for `entry`: nothing if it has it already; a `Restarted` first if it
    /// still stands in an older attempt. That happens although every restart has its own entry,
    /// because a restarted edge has forgotten them.
    fn pass(&mut self, entry: Entry) -> Option<Entry> {
        match (&entry, self.seen) {
            (Entry::Chunk { attempt, seq, .. }, seen) => {
                let this = LastEventId { attempt: *attempt, seq: *seq };
                if let Some(seen) = seen.filter(|seen| seen.attempt < *attempt) {
                    self.seen = None;
                    return Some(Entry::Restarted { attempt: seen.attempt });
                }
                self.at += 1;
                if seen.is_some_and(|seen| seen >= this) {
                    return None;
                }
                self.seen = Some(this);
            }
            (Entry::Restarted { attempt }, seen) => {
                self.at += 1;
                if seen.is_some_and(|seen| seen.attempt <= *attempt) {
                    self.seen = None;
                }
            }
            _ => self.at += 1,
        }
        Some(entry)
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        self.stream.reader_went();
    }
}
