//! What an answer must be for our own routes to write it: judged as it comes from its worker, before
//! anything of it is paid, and read by the same code where it is written for a client.
//!
//! A manifest says where content stands. That its bytes are a sound of the kind that was asked for, or
//! its items stretches of speech, no pointer can say. Absent on purpose: whether an answer is right.

pub mod speech;
pub mod transcript;

use crate::streams::ChunkError;
use speech::{Format, Sound};
use transcript::{Segment, Whole};

/// The intents whose answers a route reads.
pub const SPEAK: &str = "speak";
pub const TRANSCRIBE: &str = "transcribe";

/// Why an answer cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable(pub &'static str);

impl From<Unreadable> for ChunkError {
    fn from(Unreadable(why): Unreadable) -> Self {
        Self::Unreadable(why)
    }
}

/// How the answers to one request are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Without a format where it cannot be told which one was asked for.
    Speech(Option<Format>),
    Transcript,
}

impl Reading {
    /// Of a request, unless its answer goes to its client as it is.
    pub fn of(name: &str, data: &[u8]) -> Option<Self> {
        match name {
            SPEAK => Some(Self::Speech(Format::of(data))),
            TRANSCRIBE => Some(Self::Transcript),
            _ => None,
        }
    }

    /// `begun`: a piece before it held something.
    pub fn piece(self, piece: &str, begun: bool) -> Result<(), Unreadable> {
        match self {
            Self::Speech(format) => Sound { format, begun }.bytes(piece.as_bytes()).map(drop),
            Self::Transcript => Segment::read(piece.as_bytes()).map(drop),
        }
    }

    /// `begun`: pieces hold some of the answer.
    pub fn result(self, result: Option<&str>, begun: bool) -> Result<(), Unreadable> {
        // After pieces a `null` says that they are all there is.
        let result = result.filter(|result| *result != "null").map(str::as_bytes);
        match self {
            Self::Speech(_) if begun => Ok(()),
            Self::Speech(format) => Sound { format, begun }.whole(result).map(drop),
            Self::Transcript => result.map(Whole::read).transpose().map(drop),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_route_cannot_write_is_no_answer() {
        let wav = r#"{"audio":"UklGRg=="}"#;
        let speech = Reading::of(SPEAK, br#"{"input":"x"}"#).unwrap();
        assert_eq!(speech, Reading::Speech(Some(Format::Wav)));
        assert_eq!(speech.piece(wav, false), Ok(()));
        assert_eq!(speech.piece(r#"{"audio":"T2dnUw=="}"#, true), Ok(()), "after the first");
        for wrong in [r#"{"audio":"T2dnUw=="}"#, r#"{"audio":"*"}"#, "{}", "7"] {
            assert!(speech.piece(wrong, false).is_err(), "{wrong}");
            assert!(speech.result(Some(wrong), false).is_err(), "{wrong}");
        }
        assert!(speech.result(None, false).is_err(), "no sound at all");
        assert_eq!(speech.result(Some(wav), false), Ok(()));
        // All of it came in pieces, whatever is said at the end.
        for result in [None, Some("null"), Some(r#"{"duration_ms":9}"#)] {
            assert_eq!(speech.result(result, true), Ok(()));
        }
        let heard = Reading::of(TRANSCRIBE, b"{}").unwrap();
        let segment = r#"{"start_ms":0,"end_ms":9,"text":"Hello."}"#;
        assert_eq!(heard.piece(segment, false), Ok(()));
        assert!(heard.piece(r#"{"start_ms":-1,"end_ms":9,"text":"Hello."}"#, false).is_err());
        let whole = format!(r#"{{"text":"Hello.","segments":[{segment}]}}"#);
        for (result, is_one) in [(&*whole, true), ("null", true), (r#"{"text":"Hello."}"#, false)] {
            assert_eq!(heard.result(Some(result), true).is_ok(), is_one, "{result}");
        }
        assert_eq!(heard.result(None, true), Ok(()), "its pieces are it");
        // What no route reads is not judged here.
        assert_eq!(Reading::of("chat", b"{}"), None);
    }

    #[test]
    fn a_format_that_cannot_be_told_is_not_judged() {
        let twice = br#"{"response_format":"wav","response_format":"mp3"}"#;
        let speech = Reading::of(SPEAK, twice).unwrap();
        assert_eq!(speech, Reading::Speech(None));
        assert_eq!(speech.piece(r#"{"audio":"T2dnUw=="}"#, false), Ok(()));
        assert!(speech.piece(r#"{"audio":"*"}"#, false).is_err());
    }
}
