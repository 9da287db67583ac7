//! What a transcription is asked with; what cannot be served is refused by name.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mtor_sound::{Fault, Kind, length_ms};
use serde_json::Value;

use crate::protocol::Refusal;

/// The one language that these weights know.
pub const LANGUAGE: &str = "en";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TranscribeRequest {
    pub sound: Arc<[u8]>,
    pub kind: Kind,
    /// By its packets, as the edge counts it.
    pub length_ms: u64,
}

fn bad<T>(message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::bad_request(message))
}

fn refusal(fault: &Fault) -> Refusal {
    Refusal::bad_request(format!("audio: {fault}"))
}

pub fn parse(body: &Value) -> Result<TranscribeRequest, Refusal> {
    if !body.is_object() {
        return bad("data is not an object; send one with audio");
    }
    match body.get("language") {
        None | Some(Value::Null) => {}
        Some(language) if language.as_str() == Some(LANGUAGE) => {}
        Some(_) => {
            return Err(Refusal::unsupported(format!(
                "language must be {LANGUAGE} or absent; this model knows no other"
            )));
        }
    }
    let Some(audio) = body.get("audio").and_then(Value::as_str) else {
        return bad("audio must be a string: the sound in base64");
    };
    let Ok(sound) = STANDARD.decode(audio) else {
        return bad("audio is not base64 (with padding, without line ends)");
    };
    let kind = match body.get("format") {
        None | Some(Value::Null) => Kind::of(&sound).map_err(|fault| refusal(&fault))?,
        Some(format) => match format.as_str().and_then(Kind::named) {
            Some(kind) => kind,
            None => {
                let names = Kind::ALL.map(Kind::name).join(", ");
                return bad(format!("format must be one of {names}, or absent"));
            }
        },
    };
    let sound: Arc<[u8]> = sound.into();
    let length_ms = length_ms(Arc::clone(&sound), kind).map_err(|fault| refusal(&fault))?;
    Ok(TranscribeRequest { sound, kind, length_ms })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_sound_is_read_with_and_without_its_format() {
        let audio = STANDARD.encode(vec![0; 3_200]);
        let asked = parse(&json!({"audio": audio, "format": "pcm16", "language": "en"})).unwrap();
        assert_eq!((asked.kind, asked.length_ms), (Kind::Pcm16, 100));
        let refused = parse(&json!({"audio": audio})).unwrap_err();
        assert!(refused.message.contains("pcm16"), "{}", refused.message);
    }

    #[test]
    fn refusals_name_the_field() {
        for (body, named) in [
            (json!([]), "data"),
            (json!({}), "audio"),
            (json!({"audio": 1}), "audio"),
            (json!({"audio": ""}), "audio: the sound is empty"),
            (json!({"audio": "not base64"}), "audio is not base64"),
            (json!({"audio": "AAAA", "format": "midi"}), "format must be one of pcm16, wav"),
            (json!({"audio": "AAAA", "format": "wav"}), "audio: the sound is of no kind"),
            (json!({"audio": "AAAA", "format": "pcm16", "language": "de"}), "language must be en"),
        ] {
            let refusal = parse(&body).unwrap_err();
            assert!(refusal.message.contains(named), "{}", refusal.message);
        }
    }
}
