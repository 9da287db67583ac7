//! What is to be said, and how; what cannot be served is refused by name.

use serde_json::Value;

use super::sound::Format;
use super::voices::Speaker;
use crate::protocol::Refusal;

/// Characters of a text, as OpenAI has it and the realm's manifest.
const INPUT_MAX: usize = 4_096;
const SPEED_MIN: f64 = 0.25;
const SPEED_MAX: f64 = 4.0;
const FIELDS: [&str; 9] = [
    "input",
    "voice",
    "speed",
    "response_format",
    "model",
    "stream",
    "language",
    "instructions",
    "stream_format",
];

#[derive(Debug, Clone, PartialEq)]
pub(super) struct SpeakRequest {
    pub(super) input: String,
    pub(super) voice: &'static str,
    pub(super) speed: f32,
    pub(super) format: Format,
}

fn bad<T>(message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::bad_request(message))
}

fn unsupported<T>(message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::unsupported(message))
}

pub(super) fn parse(body: &Value, speaker: Speaker) -> Result<SpeakRequest, Refusal> {
    let Some(fields) = body.as_object() else {
        return bad("data is not an object; send one with input");
    };
    if let Some(strange) = fields.keys().find(|field| !FIELDS.contains(&field.as_str())) {
        let name: String = strange.chars().filter(|c| c.is_ascii_graphic()).take(64).collect();
        let known = FIELDS.join(", ");
        return unsupported(format!("{name} is no field of speak; leave it out: it has {known}"));
    }
    let field = |name: &str| body.get(name).filter(|value| !value.is_null());
    let Some(input) = field("input").and_then(Value::as_str) else {
        return bad("input must be a string: what is to be said");
    };
    if input.trim().is_empty() {
        return bad("input is empty; send what is to be said");
    }
    let characters = input.chars().count();
    if characters > INPUT_MAX {
        return bad(format!(
            "input has {characters} characters, at most {INPUT_MAX} are said at once; split it"
        ));
    }
    let voice = voice(field("voice"), speaker)?;
    language(field("language"), voice)?;
    let speed = match field("speed").map(Value::as_f64) {
        None => 1.0,
        Some(Some(speed)) if (SPEED_MIN..=SPEED_MAX).contains(&speed) => speed as f32,
        Some(_) => return bad(format!("speed must be a number from {SPEED_MIN} to {SPEED_MAX}")),
    };
    if field("instructions").is_some_and(|told| told.as_str() != Some("")) {
        return unsupported("instructions: this model takes none; leave them out");
    }
    match field("stream_format").map(Value::as_str) {
        None | Some(Some("audio" | "sse")) => {}
        Some(_) => return bad("stream_format must be audio or sse"),
    }
    let format = match field("response_format") {
        None => Format::Wav,
        Some(name) => match name.as_str().and_then(Format::named) {
            Some(format) => format,
            None => return unsupported("response_format must be wav, pcm or opus, or absent"),
        },
    };
    Ok(SpeakRequest { input: input.to_owned(), voice, speed, format })
}

fn voice(named: Option<&Value>, speaker: Speaker) -> Result<&'static str, Refusal> {
    match named.map(|name| name.as_str().and_then(|name| speaker.named(name))) {
        None => Ok(speaker.default_voice()),
        Some(Some(voice)) => Ok(voice),
        Some(None) => unsupported(format!(
            "voice must be one of {}, which {} has",
            speaker.voices().join(", "),
            speaker.model()
        )),
    }
}

/// English alone, and each voice one of the two.
fn language(asked: Option<&Value>, voice: &str) -> Result<(), Refusal> {
    let own = if voice.starts_with('b') { "en-gb" } else { "en-us" };
    let Some(asked) = asked else { return Ok(()) };
    let asked = asked.as_str().unwrap_or_default().to_ascii_lowercase().replace('_', "-");
    if asked == "en" || asked == own {
        return Ok(());
    }
    unsupported(format!("language must be en or {own}, the language of {voice}, or absent"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(body: &Value) -> Result<SpeakRequest, Refusal> {
        super::parse(body, Speaker::Kokoro)
    }

    #[test]
    fn voices_are_those_of_the_model_that_speaks() {
        let flite =
            |voice: Value| super::parse(&json!({"input": "Hello", "voice": voice}), Speaker::Flite);
        assert_eq!(flite(Value::Null).unwrap().voice, "slt");
        assert_eq!(flite(json!("kal16")).unwrap().voice, "kal16");
        let told = flite(json!("af_heart")).unwrap_err().message;
        assert_eq!(told, "voice must be one of slt, rms, awb, kal16, which flite has");
    }

    #[test]
    fn what_is_absent_has_its_default() {
        let plain = parse(&json!({"input": "Hello"})).unwrap();
        let named = parse(&json!({
            "input": "Hello", "voice": "heart", "speed": 1, "response_format": "wav",
            "language": "en-US", "model": "kokoro-82m", "stream": true, "instructions": null,
            "stream_format": "audio",
        }));
        assert_eq!(plain, named.unwrap());
        let british = json!({"input": "x", "voice": "bm_fable", "language": "en-GB", "speed": 4});
        assert_eq!(parse(&british).unwrap().voice, "bm_fable");
    }

    #[test]
    fn refusals_name_the_field_and_the_remedy() {
        let with = |field: &str, value: Value| {
            let mut body = json!({"input": "Hello"});
            body[field] = value;
            body
        };
        for (body, named) in [
            (json!([]), "data is not an object"),
            (json!({}), "input must be a string"),
            (with("input", json!(" \n")), "input is empty"),
            (with("input", json!("x".repeat(4_097))), "input has 4097 characters"),
            (with("voice", json!("marin")), "voice must be one of af_alloy, af_aoede"),
            (with("voice", json!(7)), "voice must be one of"),
            (with("speed", json!(0.2)), "speed must be a number from 0.25 to 4"),
            (with("speed", json!("fast")), "speed must be"),
            (with("response_format", json!("mp3")), "response_format must be wav, pcm or opus"),
            (with("language", json!("de")), "language must be en or en-us"),
            (
                with("language", json!("en-gb")),
                "language must be en or en-us, the language of af_heart",
            ),
            (with("instructions", json!("whisper")), "instructions: this model takes none"),
            (with("stream_format", json!("json")), "stream_format must be"),
            (with("pitch", json!(2)), "pitch is no field of speak"),
        ] {
            let refusal = parse(&body).unwrap_err();
            assert!(refusal.message.contains(named), "{}", refusal.message);
        }
    }
}
