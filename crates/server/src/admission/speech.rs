//! How long a text may take to say: what speaking it may cost at most.

use mtor_types::Code;

use super::scan::Scan;
use crate::api_error::ApiError;

/// As OpenAI's: characters of one text.
const CHARACTERS_MAX: usize = 4_096;
/// What a character may take at the ordinary speed. A letter takes a thirtieth of it; a digit, a sign or
/// a letter that is spelled becomes words, and the slowest voice takes 1.9 s for one. The built-in
/// model's tests hold its sounds against it.
const CHARACTER_MS: u64 = 2_000;
/// As OpenAI's, in thousandths.
const SPEEDS: std::ops::RangeInclusive<f64> = 250.0..=4_000.0;

pub(super) const INPUT: &str = "a text of 1 to 4096 characters";
pub(super) const SPEED: &str = "a number from 0.25 to 4";

/// Whole milliseconds, rounded up.
pub(super) fn length_ms_max(text: &str, scan: &Scan) -> Result<u64, ApiError> {
    let input = scan.input.clone().and_then(|place| text.get(place));
    let input = input.ok_or_else(|| ApiError::missing_field("input", INPUT))?;
    let input: String =
        serde_json::from_str(input).map_err(|_no_text| ApiError::invalid_field("input", INPUT))?;
    let characters = input.chars().count();
    if input.trim().is_empty() {
        return Err(ApiError::invalid_field("input", INPUT));
    }
    if characters > CHARACTERS_MAX {
        let told = format!("field `input`: {characters} characters, expected {INPUT}");
        return Err(ApiError::new(Code::InvalidField, told).with_field("input"));
    }
    let most = (characters as u64).saturating_mul(CHARACTER_MS).saturating_mul(1000);
    Ok(most.div_ceil(per_mille(text, scan)?))
}

fn per_mille(text: &str, scan: &Scan) -> Result<u64, ApiError> {
    let Some(place) = scan.speed.clone().and_then(|place| text.get(place)) else {
        return Ok(1000);
    };
    let speed = place.parse::<f64>().map(|speed| (speed * 1000.0).floor());
    match speed {
        // Within bounds far below the largest whole number.
        Ok(speed) if SPEEDS.contains(&speed) => Ok(speed as u64),
        _ => Err(ApiError::invalid_field("speed", SPEED)),
    }
}
