//! A worker's pieces of a sound.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::Unreadable;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    #[default]
    Wav,
    Pcm,
    Opus,
    Mp3,
    Aac,
    Flac,
}

#[derive(Deserialize)]
struct Asked {
    #[serde(default)]
    response_format: Option<Format>,
}

impl Format {
    /// The one that was asked for. `None`: readers do not agree which.
    pub(super) fn of(data: &[u8]) -> Option<Self> {
        let asked: Asked = serde_json::from_slice(data).ok()?;
        Some(asked.response_format.unwrap_or_default())
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

/// Of a text of which nothing can be said, such as an emoji. It costs nothing.
fn is_silence(result: &[u8]) -> bool {
    let spoken: Result<Spoken<'_>, _> = serde_json::from_slice(result);
    spoken.is_ok_and(|spoken| {
        spoken.duration_ms == Some(0) && spoken.audio.is_none_or(|audio| audio.is_empty())
    })
}

/// The bytes of one file.
pub struct Sound {
    pub(super) format: Option<Format>,
    pub(super) begun: bool,
}

impl Sound {
    pub fn new(format: Format) -> Self {
        Self { format: Some(format), begun: false }
    }

    /// Something of it came.
    pub fn is_begun(&self) -> bool {
        self.begun
    }

    /// Those of a piece.
    pub fn bytes(&mut self, spoken: &[u8]) -> Result<Vec<u8>, Unreadable> {
        const NONE: Unreadable = Unreadable("the worker sent what is no sound");
        let spoken: Spoken<'_> = serde_json::from_slice(spoken).map_err(|_| NONE)?;
        let bytes = STANDARD.decode(spoken.audio.ok_or(NONE)?.as_bytes()).map_err(|_| NONE)?;
        if !self.begun && !bytes.is_empty() {
            if self.format.is_some_and(|format| !format.begins(&bytes)) {
                let other = "the worker sent another kind of sound than was asked for";
                return Err(Unreadable(other));
            }
            self.begun = true;
        }
        Ok(bytes)
    }

    /// All of it, of a worker without pieces.
    pub fn whole(&mut self, result: Option<&[u8]>) -> Result<Vec<u8>, Unreadable> {
        const NONE: Unreadable = Unreadable("the worker sent no sound");
        let result = result.ok_or(NONE)?;
        if is_silence(result) {
            return Ok(Vec::new());
        }
        let bytes = self.bytes(result)?;
        if bytes.is_empty() { Err(NONE) } else { Ok(bytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_are_of_the_format_that_was_asked_for() {
        let piece = |bytes: &[u8]| format!(r#"{{"audio":"{}"}}"#, STANDARD.encode(bytes));
        let wav = piece(b"RIFF\xff\xff\xff\xffWAVEfmt ");
        let first = |format, piece: &str| Sound::new(format).bytes(piece.as_bytes());
        assert_eq!(&first(Format::Wav, &wav).unwrap()[..4], b"RIFF");
        assert_eq!(first(Format::Wav, &piece(b"RI")).unwrap(), b"RI");
        assert!(first(Format::Pcm, &wav).is_ok());
        for format in [Format::Opus, Format::Mp3, Format::Aac, Format::Flac] {
            assert!(first(format, &wav).is_err(), "{format:?}");
        }
        let mut sound = Sound::new(Format::Wav);
        assert!(sound.bytes(piece(b"").as_bytes()).unwrap().is_empty());
        sound.bytes(wav.as_bytes()).unwrap();
        assert_eq!(sound.bytes(piece(b"more").as_bytes()).unwrap(), b"more");
        for wrong in ["{}", "7", r#"{"audio":"*"}"#, r#"{"audio":7}"#, ""] {
            assert!(sound.bytes(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn nothing_to_say_is_an_empty_file_and_no_failure() {
        let whole = |format, result: &str| Sound::new(format).whole(Some(result.as_bytes()));
        for format in [Format::Pcm, Format::Wav] {
            let silent = r#"{"response_format":"x","duration_ms":0,"segments":[]}"#;
            assert_eq!(whole(format, silent), Ok(Vec::new()));
            assert_eq!(whole(format, r#"{"duration_ms":0,"audio":""}"#), Ok(Vec::new()));
            assert!(whole(format, r#"{"duration_ms":9,"audio":""}"#).is_err());
            assert!(whole(format, r#"{"duration_ms":9}"#).is_err());
        }
    }
}
