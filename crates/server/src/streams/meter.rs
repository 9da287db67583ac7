//! What the edge counts itself, so that no worker's claim is billed unchecked.
//!
//! Billed = min(worker's count, bound so far, what the ceiling buys). The bound so far grows with
//! the content that was really sent (see [`super::content`]): before the first of it the bound is
//! nothing. For a stream that may be cut it is the input and the bytes of content, up to the output
//! limit; for everything else it is the whole bound, known at admission, or less where a manifest
//! says how many units a byte of content may stand for.
//!
//! An answer that holds nothing is none, unless nothing is claimed for it: a model may have nothing
//! to say. One that is longer than its bound could be is not taken.

use mtor_types::intent::Usage;
use mtor_types::mutant;

use super::entry::ChunkError;

/// Content that is never too much: a short answer may have long words.
const BYTES_FREE: u64 = 1_024;

/// The edge's upper bounds for one intent (see [`crate::admission::Ask::bounds`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub units_max: u64,
    pub input_units: u64,
    /// Of all answers.
    pub output_max: u64,
    pub answers: u64,
    pub may_be_cut: bool,
    pub yields: Yield,
}

/// How units and bytes of content belong together; what is absent is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Yield {
    pub units_per_byte: Option<u64>,
    pub bytes_per_unit: Option<u64>,
}

impl Bounds {
    /// Of an intent that never ran here.
    pub const NONE: Self = Self {
        units_max: 0,
        input_units: 0,
        output_max: 0,
        answers: 1,
        may_be_cut: false,
        yields: Yield { units_per_byte: None, bytes_per_unit: None },
    };
}

/// What a piece or a result holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// As it reads; a run of white space is one.
    pub bytes: u64,
    pub begins_white: bool,
    pub ends_white: bool,
    /// Something of what was asked for.
    pub counts: bool,
    /// Not even something beside it, such as the name of a role.
    pub is_hollow: bool,
}

impl Content {
    /// So many bytes of content.
    pub const fn plain(bytes: u64) -> Self {
        let counts = bytes > 0;
        Self { bytes, begins_white: false, ends_white: false, counts, is_hollow: !counts }
    }
}

/// The state after a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metered {
    pub units: u64,
    /// What the ceiling buys is used up: forward nothing more, complete with `Reason::Ceiling`.
    pub exhausted: bool,
}

/// The meter of one attempt.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meter {
    bounds: Bounds,
    limit: u64,
    /// Content of the pieces, and of the result. An answer that is said twice is one: where there are
    /// pieces they are it, since who reads pieces may read nothing else.
    sent: u64,
    whole: u64,
    /// The pieces so far end with white space.
    white: bool,
    /// Something of what was asked for came, or at least something.
    counts: bool,
    came: bool,
    count: u64,
    /// The parts of the worker's last word, informative only.
    claim: Option<Usage>,
}

impl Meter {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            limit: u64::MAX,
            sent: 0,
            whole: 0,
            white: false,
            counts: false,
            came: false,
            count: 0,
            claim: None,
        }
    }

    /// A new attempt counts from nothing.
    pub(super) fn begin(&mut self, limit: u64) {
        *self = Self { limit, ..Self::new(self.bounds) };
    }

    /// What one answer may have of `limit` units.
    pub(super) fn output_each(&self, limit: u64) -> Option<u64> {
        let Bounds { output_max, answers, .. } = self.bounds;
        (output_max > 0).then(|| (output_max.min(limit) / answers.max(1)).max(1))
    }

    pub(super) fn set_limit(&mut self, limit: u64) {
        self.limit = limit;
    }

    /// One more piece, and the worker's count with it. A count that falls is not believed. A piece
    /// that makes the answer longer than it may be changes nothing.
    pub(super) fn piece(&mut self, content: Content, count: u64) -> Result<Metered, ChunkError> {
        let Content { bytes, begins_white, ends_white, counts, is_hollow } = content;
        let run = bytes > 0 && self.sent > 0 && (self.white || begins_white);
        let sent = self.sent.saturating_add(bytes).saturating_add(u64::from(run));
        self.check_length(sent)?;
        self.sent = sent;
        self.white = if bytes > 0 { ends_white } else { self.white || ends_white };
        self.counts |= counts;
        self.came |= !is_hollow;
        self.count = self.count.max(count);
        Ok(self.now())
    }

    /// The worker's last word. It may be below its running count, never above the bound. One that
    /// is no answer changes nothing.
    pub(super) fn complete(
        &mut self,
        result: Option<Content>,
        claim: Usage,
    ) -> Result<(), ChunkError> {
        let result = result.unwrap_or(Content { is_hollow: true, ..Content::default() });
        self.check_length(result.bytes)?;
        let came = self.came || !result.is_hollow;
        let nothing = !(self.counts || result.counts) && (claim.units > 0 || !came);
        if nothing && !mutant!("nothing-is-an-answer") {
            return Err(ChunkError::Nothing);
        }
        self.whole = result.bytes;
        self.counts |= result.counts;
        self.count = claim.units;
        self.claim = Some(claim);
        Ok(())
    }

    pub(super) fn content_in_pieces(&self) -> u64 {
        self.sent
    }

    /// Whether the pieces hold any of the answer.
    pub(super) fn is_in_pieces(&self) -> bool {
        self.sent > 0
    }

    pub(super) fn now(&self) -> Metered {
        let units = self.count.min(self.bound()).min(self.limit);
        Metered { units, exhausted: self.bounds.may_be_cut && units >= self.limit }
    }

    pub(super) fn usage(&self) -> Usage {
        let units = self.now().units;
        // A running count has no parts; zeros say "not known".
        let claim = self.claim.unwrap_or_default();
        let input = claim.input.min(units);
        Usage { units, input, output: claim.output.min(units - input) }
    }

    fn check_length(&self, bytes: u64) -> Result<(), ChunkError> {
        let Bounds { units_max, output_max, may_be_cut, yields, .. } = self.bounds;
        let Some(each) = yields.bytes_per_unit else { return Ok(()) };
        let units = if may_be_cut { output_max.min(self.limit) } else { units_max };
        let most = units.saturating_mul(each).saturating_add(BYTES_FREE);
        if bytes > most { Err(ChunkError::Beyond { most }) } else { Ok(()) }
    }

    fn bound(&self) -> u64 {
        let Bounds { units_max, input_units, output_max, may_be_cut, yields, .. } = self.bounds;
        let sent = if self.sent > 0 { self.sent } else { self.whole };
        if !self.counts || (may_be_cut && sent == 0) {
            return 0;
        }
        let units = if may_be_cut {
            input_units.saturating_add(sent.min(output_max))
        } else {
            yields.units_per_byte.map_or(u64::MAX, |units| sent.saturating_mul(units))
        };
        units.min(units_max)
    }
}

#[cfg(test)]
#[path = "meter/tests.rs"]
mod tests;
