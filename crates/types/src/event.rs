//! CloudEvents 1.0 in structured JSON: the only thing that crosses a realm's boundary.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub const SPEC_VERSION: &str = "1.0";

/// An event on its way in: attributes borrowed, data untouched. Attributes that MTOR gives no
/// meaning to are accepted, as CloudEvents demands, and dropped.
#[derive(Debug, Deserialize)]
pub struct EventIn<'a> {
    #[serde(borrow)]
    pub specversion: Cow<'a, str>,
    #[serde(borrow)]
    pub id: Cow<'a, str>,
    #[serde(borrow)]
    pub source: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    pub kind: Cow<'a, str>,
    #[serde(borrow, default)]
    pub data: Option<&'a RawValue>,
}

/// An event on its way out.
#[derive(Debug, Serialize)]
pub struct EventOut<'a, D> {
    pub specversion: &'static str,
    pub id: Cow<'a, str>,
    pub source: &'a str,
    #[serde(rename = "type")]
    pub kind: &'a str,
    /// The id of the event that led to this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub causationid: Option<&'a str>,
    pub data: D,
}

impl<'a, D: Serialize> EventOut<'a, D> {
    pub fn new(id: impl Into<Cow<'a, str>>, source: &'a str, kind: &'a str, data: D) -> Self {
        Self { specversion: SPEC_VERSION, id: id.into(), source, kind, causationid: None, data }
    }
}

/// Why text is not an event.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    #[error("not an event")]
    Json(#[source] serde_json::Error),
    #[error("field `specversion`: this realm speaks \"1.0\"")]
    SpecVersion,
    #[error("field `id`: 1 to 128 bytes")]
    Id,
    #[error("field `data` is missing")]
    NoData,
    #[error("field `data` of {kind}")]
    Data { kind: String, source: serde_json::Error },
}

impl<'a> EventIn<'a> {
    /// Reads one event.
    pub fn parse(text: &'a str) -> Result<Self, EventError> {
        let event: Self = serde_json::from_str(text).map_err(EventError::Json)?;
        if event.specversion != SPEC_VERSION {
            return Err(EventError::SpecVersion);
        }
        if event.id.is_empty() || event.id.len() > 128 {
            return Err(EventError::Id);
        }
        Ok(event)
    }

    /// Reads its data as `D`.
    pub fn data<D: Deserialize<'a>>(&self) -> Result<D, EventError> {
        let data = self.data.ok_or(EventError::NoData)?;
        serde_json::from_str(data.get())
            .map_err(|source| EventError::Data { kind: self.kind.to_string(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker;

    #[test]
    fn a_chunk_passes_through_untouched() {
        let piece = r#"{"b":1,  "a":[2,3]}"#;
        let text = format!(
            r#"{{"specversion":"1.0","id":"7","source":"/w","type":"{}","extra":true,"data":{{"intent":"01010101-0101-0101-0101-010101010101","attempt":9,"seq":0,"count":1,"piece":{piece}}}}}"#,
            worker::CHUNK
        );
        let event = EventIn::parse(&text).unwrap();
        let chunk: worker::Chunk<'_> = event.data().unwrap();
        assert_eq!(chunk.piece.get(), piece);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let text = r#"{"specversion":"0.3","id":"1","source":"/","type":"t"}"#;
        assert!(matches!(EventIn::parse(text), Err(EventError::SpecVersion)));
        let text = r#"{"specversion":"1.0","id":"","source":"/","type":"t"}"#;
        assert!(matches!(EventIn::parse(text), Err(EventError::Id)));
        assert!(matches!(EventIn::parse("{"), Err(EventError::Json(_))));
    }
}
