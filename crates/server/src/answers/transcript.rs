//! A worker's words for what it heard.

use mtor_sound::limits::LENGTH_MS_MAX;
use serde::Deserialize;

use super::Unreadable;

const NONE: Unreadable = Unreadable("the worker's answer is no transcript");

/// A stretch of speech: a piece, or an item of a result.
#[derive(Clone, Debug, Deserialize)]
pub struct Segment {
    pub start_ms: u64,
    pub end_ms: u64,
    pub text: String,
}

impl Segment {
    pub fn read(piece: &[u8]) -> Result<Self, Unreadable> {
        let segment: Self = serde_json::from_slice(piece).map_err(|_| NONE)?;
        Ok(segment.mended())
    }

    /// Within the longest sound, with an end that is not before its beginning.
    pub fn mended(self) -> Self {
        let start_ms = self.start_ms.min(LENGTH_MS_MAX);
        let end_ms = self.end_ms.clamp(start_ms, LENGTH_MS_MAX);
        Self { start_ms, end_ms, ..self }
    }
}

/// A result.
#[derive(Deserialize)]
pub struct Whole {
    pub text: String,
    pub segments: Vec<Segment>,
    #[serde(default)]
    pub language: Option<String>,
    #[serde(default)]
    pub duration_ms: Option<u64>,
}

impl Whole {
    pub fn read(result: &[u8]) -> Result<Self, Unreadable> {
        let whole: Self = serde_json::from_slice(result).map_err(|_| NONE)?;
        let segments = whole.segments.into_iter().map(Segment::mended).collect();
        Ok(Self { segments, ..whole })
    }
}
