//! A worker's pieces of a sound, as the bytes of one file or as events.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use super::Writer;
use crate::answers::speech::{Format, Sound};
use crate::api_error::ApiError;
use crate::http::openai::line;
use crate::streams::Ended;

/// What the route itself has to know of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) format: Format,
    /// Server-sent events in place of the bytes.
    pub(super) events: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StreamFormat {
    Audio,
    Sse,
}

#[derive(Deserialize)]
struct Fields {
    #[serde(default)]
    response_format: Option<Format>,
    #[serde(default)]
    stream_format: Option<StreamFormat>,
}

impl Wish {
    /// Of a body that need not be good: the rest of it is checked where all data is.
    pub(super) fn of(data: &[u8]) -> Result<Self, ApiError> {
        let mut reader = serde_json::Deserializer::from_slice(data);
        let fields: Result<Fields, _> = serde_path_to_error::deserialize(&mut reader);
        let usual = Self { format: Format::default(), events: false };
        let error = match fields {
            Ok(Fields { response_format, stream_format }) => {
                let format = response_format.unwrap_or_default();
                return Ok(Self { format, events: stream_format == Some(StreamFormat::Sse) });
            }
            Err(error) => error,
        };
        // What stands twice has no path.
        let (path, twice) = (error.path().to_string(), error.inner().to_string());
        for (field, expected) in [
            ("response_format", "wav, pcm, opus, mp3, aac or flac, once"),
            ("stream_format", "audio or sse, once"),
        ] {
            if path == field || twice.starts_with(&format!("duplicate field `{field}`")) {
                return Err(ApiError::invalid_field(field, expected));
            }
        }
        Ok(usual)
    }
}

pub(super) fn media(format: Format) -> &'static str {
    match format {
        Format::Wav => "audio/wav",
        Format::Pcm => "audio/pcm",
        Format::Opus => "audio/ogg",
        Format::Mp3 => "audio/mpeg",
        Format::Aac => "audio/aac",
        Format::Flac => "audio/flac",
    }
}

impl Writer for Sound {
    fn piece(&mut self, piece: &[u8]) -> Result<Bytes, ApiError> {
        Ok(self.bytes(piece)?.into())
    }

    fn end(&mut self, ended: &Ended) -> Result<Bytes, ApiError> {
        if self.is_begun() {
            return Ok(Bytes::new());
        }
        Ok(self.whole(ended.result.as_deref())?.into())
    }

    fn broken(&self, _: &ApiError) -> Option<Bytes> {
        None
    }
}

/// The same as events.
pub(super) struct SoundEvents {
    sound: Sound,
}

impl SoundEvents {
    pub(super) fn new(sound: Sound) -> Self {
        Self { sound }
    }
}

fn delta(bytes: &[u8]) -> Bytes {
    if bytes.is_empty() {
        return Bytes::new();
    }
    let audio = STANDARD.encode(bytes);
    line(json!({"type": "speech.audio.delta", "audio": audio}).to_string().as_bytes())
}

impl Writer for SoundEvents {
    fn piece(&mut self, piece: &[u8]) -> Result<Bytes, ApiError> {
        self.sound.piece(piece).map(|bytes| delta(&bytes))
    }

    fn end(&mut self, ended: &Ended) -> Result<Bytes, ApiError> {
        let last = delta(&self.sound.end(ended)?);
        let seconds = ended.end.usage.units.div_ceil(1000);
        let usage = json!({"type": "duration", "seconds": seconds});
        let done = json!({"type": "speech.audio.done", "usage": usage}).to_string();
        Ok([last, line(done.as_bytes())].concat().into())
    }

    fn broken(&self, error: &ApiError) -> Option<Bytes> {
        Some(line(error.to_openai_json().as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_is_read_and_what_is_none_is_named() {
        let wish = |text: &str| Wish::of(text.as_bytes());
        let usual = Wish { format: Format::Wav, events: false };
        assert_eq!(wish(r#"{"input":"x"}"#), Ok(usual));
        assert_eq!(wish(r#"{"response_format":null,"stream_format":"audio"}"#), Ok(usual));
        let sse = wish(r#"{"stream_format":"sse","response_format":"opus","x":[{}]}"#);
        assert_eq!(sse, Ok(Wish { format: Format::Opus, events: true }));
        for (text, field) in [
            (r#"{"response_format":"mp4"}"#, "response_format"),
            (r#"{"response_format":7}"#, "response_format"),
            (r#"{"response_format":"wav","response_format":"pcm"}"#, "response_format"),
            (r#"{"stream_format":"ndjson"}"#, "stream_format"),
        ] {
            let error = wish(text).unwrap_err();
            assert_eq!(error.field.as_deref(), Some(field), "{text}: {error}");
        }
        // Refused by what checks all data.
        for text in ["", "{", "[]", "7"] {
            assert_eq!(wish(text), Ok(usual), "{text}");
        }
    }
}
