//! How long a sound is: what its transcription may cost.
//!
//! The edge counts the packets and decodes none of them: half an hour takes it some milliseconds.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mtor_sound::{Fault, Kind};
use mtor_types::Code;

use super::scan::Scan;
use crate::api_error::ApiError;

/// Whole milliseconds, rounded up.
pub(super) fn length_ms(text: &str, scan: &Scan) -> Result<u64, ApiError> {
    let expected = "a sound in base64, with padding and without line ends";
    let place = scan.audio.clone().and_then(|place| text.get(place));
    let place = place.ok_or_else(|| ApiError::missing_field("audio", expected))?;
    let invalid = || ApiError::invalid_field("audio", expected);
    // What needs no unescaping is not copied.
    let unquoted = place.get(1..place.len() - 1).filter(|inner| !inner.contains('\\'));
    let sound = match unquoted {
        Some(inner) => STANDARD.decode(inner),
        None => STANDARD.decode(serde_json::from_str::<String>(place).map_err(|_| invalid())?),
    };
    let sound: Arc<[u8]> = sound.map_err(|_not_base64| invalid())?.into();
    let kind = match &scan.format {
        None => Kind::of(&sound).map_err(|fault| refused(&fault))?,
        Some(name) => Kind::named(name).ok_or_else(|| {
            let names = Kind::ALL.map(Kind::name).join(", ");
            ApiError::invalid_field("format", &format!("one of {names}, or nothing"))
        })?,
    };
    mtor_sound::length_ms(sound, kind).map_err(|fault| refused(&fault))
}

fn refused(fault: &Fault) -> ApiError {
    ApiError::new(Code::InvalidField, format!("field `audio`: {fault}")).with_field("audio")
}
