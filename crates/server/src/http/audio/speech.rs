//! A worker's pieces of a sound, as the bytes of one file or as events.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use mtor_types::Code;
use serde::Deserialize;
use serde_json::json;

use super::Writer;
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

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Format {
    #[default]
    Wav,
    Pcm,
    Opus,
    Mp3,
    Aac,
    Flac,
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

impl Format {
    pub(super) fn media(self) -> &'static str {
        match self {
            Self::Wav => "audio/wav",
            Self::Pcm => "audio/pcm",
            Self::Opus => "audio/ogg",
            Self::Mp3 => "audio/mpeg",
            Self::Aac => "audio/aac",
            Self::Flac => "audio/flac",
        }
    }

    /// Whether a file of it may begin so.
    fn begins(self, bytes: &[u8]) -> bool {
        let at = |from: usize, mark: &[u8]| {
            let there = bytes.get(from..bytes.len().min(from + mark.len())).unwrap_or_default();
            mark.starts_with(there)
        };
        match self {
            Self::Wav => at(0, b"RIFF") && at(8, b"WAVE"),
            Self::Pcm => true,
            Self::Opus => at(0, b"OggS"),
            Self::Mp3 => at(0, b"ID3") || at(0, &[0xff]),
            Self::Aac => at(0, &[0xff]) || at(4, b"ftyp"),
            Self::Flac => at(0, b"fLaC"),
        }
    }
}

/// A piece, or a result.
#[derive(Deserialize)]
struct Spoken<'a> {
    #[serde(borrow, default)]
    audio: Option<std::borrow::Cow<'a, str>>,
    /// Of a result alone.
    #[serde(default)]
    duration_ms: Option<u64>,
}

/// Of a text of which nothing can be said, such as an emoji, a file without a header is empty.
fn is_silence(result: &[u8]) -> bool {
    let spoken: Result<Spoken<'_>, _> = serde_json::from_slice(result);
    spoken.is_ok_and(|spoken| {
        spoken.duration_ms == Some(0) && spoken.audio.is_none_or(|audio| audio.is_empty())
    })
}

/// The bytes of one file.
pub(super) struct Sound {
    format: Format,
    begun: bool,
}

impl Sound {
    pub(super) fn new(format: Format) -> Self {
        Self { format, begun: false }
    }

    fn bytes(&mut self, spoken: &[u8]) -> Result<Bytes, ApiError> {
        let none = || failed("the worker sent what is no sound");
        let spoken: Spoken<'_> = serde_json::from_slice(spoken).map_err(|_| none())?;
        let bytes = STANDARD.decode(spoken.audio.ok_or_else(none)?.as_bytes());
        let bytes = bytes.map_err(|_| none())?;
        if !self.begun && !bytes.is_empty() {
            if !self.format.begins(&bytes) {
                return Err(failed("the worker sent another kind of sound than was asked for"));
            }
            self.begun = true;
        }
        Ok(bytes.into())
    }

    /// What a worker without pieces gives at the end.
    fn whole(&mut self, result: &[u8]) -> Result<Bytes, ApiError> {
        if self.format == Format::Pcm && is_silence(result) {
            return Ok(Bytes::new());
        }
        let bytes = self.bytes(result)?;
        if bytes.is_empty() { Err(failed("the worker sent no sound")) } else { Ok(bytes) }
    }
}

fn failed(message: &str) -> ApiError {
    ApiError::new(Code::WorkerFailed, message)
}

impl Writer for Sound {
    fn piece(&mut self, piece: &[u8]) -> Result<Bytes, ApiError> {
        self.bytes(piece)
    }

    fn end(&mut self, ended: &Ended) -> Result<Bytes, ApiError> {
        if self.begun {
            return Ok(Bytes::new());
        }
        let result = ended.result.as_ref().ok_or_else(|| failed("the worker sent no sound"))?;
        self.whole(result)
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

    #[test]
    fn the_first_bytes_are_of_the_format_that_was_asked_for() {
        let piece = |bytes: &[u8]| format!(r#"{{"audio":"{}"}}"#, STANDARD.encode(bytes));
        let wav = piece(b"RIFF\xff\xff\xff\xffWAVEfmt ");
        let first = |format, piece: &str| Sound::new(format).piece(piece.as_bytes());
        assert_eq!(&first(Format::Wav, &wav).unwrap()[..4], b"RIFF");
        assert_eq!(&first(Format::Wav, &piece(b"RI")).unwrap()[..], b"RI");
        assert!(first(Format::Pcm, &wav).is_ok());
        for format in [Format::Opus, Format::Mp3, Format::Aac, Format::Flac] {
            assert_eq!(first(format, &wav).unwrap_err().code, Code::WorkerFailed, "{format:?}");
        }
        let mut sound = Sound::new(Format::Wav);
        assert!(sound.piece(piece(b"").as_bytes()).unwrap().is_empty());
        sound.piece(wav.as_bytes()).unwrap();
        assert_eq!(&sound.piece(piece(b"more").as_bytes()).unwrap()[..], b"more");
        for wrong in ["{}", "7", r#"{"audio":"*"}"#, r#"{"audio":7}"#, ""] {
            assert!(sound.piece(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn nothing_to_say_is_an_empty_file_and_no_failure() {
        let whole = |format, result: &str| Sound::new(format).whole(result.as_bytes());
        let silent = r#"{"response_format":"pcm","duration_ms":0,"segments":[]}"#;
        assert_eq!(whole(Format::Pcm, silent), Ok(Bytes::new()));
        assert_eq!(whole(Format::Pcm, r#"{"duration_ms":0,"audio":""}"#), Ok(Bytes::new()));
        // Others have a head at least.
        assert!(whole(Format::Wav, silent).is_err());
        assert!(whole(Format::Pcm, r#"{"duration_ms":9,"audio":""}"#).is_err());
        assert!(whole(Format::Pcm, r#"{"duration_ms":9}"#).is_err());
    }
}
