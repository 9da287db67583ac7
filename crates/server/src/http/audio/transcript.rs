//! What was heard, in the shapes that OpenAI's clients ask for.

use bytes::Bytes;
use mtor_sound::captions::{Captions, Cue, Writing};
use mtor_sound::limits::LENGTH_MS_MAX;
use serde::Serialize;
use serde_json::json;

use super::Writer;
use super::form::Shape;
use crate::answers::transcript::{Segment, Whole};
use crate::api_error::ApiError;
use crate::http::openai::{completed, line};
use crate::streams::Ended;

/// What came so far.
#[derive(Default)]
pub(super) struct Heard(Vec<Segment>);

/// All that was heard.
pub(super) struct Transcript {
    text: String,
    segments: Vec<Segment>,
    language: Option<String>,
    duration_ms: u64,
    /// As it was paid.
    metered_ms: u64,
}

impl Heard {
    pub(super) fn piece(&mut self, piece: &[u8]) -> Result<(), ApiError> {
        self.0.push(Segment::read(piece)?);
        Ok(())
    }

    /// The result; pieces are what it is without one.
    pub(super) fn whole(self, ended: &Ended) -> Result<Transcript, ApiError> {
        let metered_ms = ended.end.usage.units;
        let Some(result) = completed(ended)? else {
            let text = joined(&self.0);
            let (language, duration_ms) = (None, metered_ms);
            return Ok(Transcript { text, segments: self.0, language, duration_ms, metered_ms });
        };
        let Whole { text, segments, language, duration_ms } = Whole::read(result)?;
        let duration_ms = duration_ms.unwrap_or(metered_ms).min(LENGTH_MS_MAX);
        Ok(Transcript { text, segments, language, duration_ms, metered_ms })
    }
}

fn joined(segments: &[Segment]) -> String {
    segments.iter().map(|segment| &*segment.text).collect::<Vec<_>>().join(" ")
}

fn cue(Segment { start_ms, end_ms, text }: &Segment) -> Cue<'_> {
    Cue { start_ms: *start_ms, end_ms: *end_ms, text }
}

#[derive(Serialize)]
struct Json<'a> {
    text: &'a str,
    usage: Usage,
}

/// The whole seconds that were paid for.
#[derive(Serialize)]
struct Usage {
    #[serde(rename = "type")]
    kind: &'static str,
    seconds: u64,
}

impl Usage {
    fn of(metered_ms: u64) -> Self {
        Self { kind: "duration", seconds: metered_ms.div_ceil(1000) }
    }
}

#[derive(Serialize)]
struct Verbose<'a> {
    task: &'static str,
    language: Option<&'a str>,
    duration: f64,
    text: &'a str,
    segments: Vec<VerboseSegment<'a>>,
    usage: Usage,
}

/// What no worker says is null.
#[derive(Serialize)]
struct VerboseSegment<'a> {
    id: usize,
    seek: u64,
    start: f64,
    end: f64,
    text: &'a str,
    tokens: [u32; 0],
    temperature: f64,
    avg_logprob: Option<f64>,
    compression_ratio: Option<f64>,
    no_speech_prob: Option<f64>,
}

impl<'a> VerboseSegment<'a> {
    fn of(id: usize, Segment { start_ms, end_ms, text }: &'a Segment) -> Self {
        Self {
            id,
            seek: 0,
            start: seconds(*start_ms),
            end: seconds(*end_ms),
            text,
            tokens: [],
            temperature: 0.0,
            avg_logprob: None,
            compression_ratio: None,
            no_speech_prob: None,
        }
    }
}

impl Transcript {
    pub(super) fn written(&self, shape: Shape) -> String {
        match shape {
            Shape::Json => {
                let json = Json { text: &self.text, usage: Usage::of(self.metered_ms) };
                serde_json::to_string(&json).unwrap_or_default()
            }
            Shape::Text => format!("{}\n", self.text),
            Shape::Srt => self.captions(Captions::Srt),
            Shape::Vtt => self.captions(Captions::Vtt),
            Shape::Verbose => serde_json::to_string(&self.verbose()).unwrap_or_default(),
        }
    }

    fn captions(&self, captions: Captions) -> String {
        let mut writing = Writing::new(captions);
        let cues = self.segments.iter().map(|segment| writing.cue(cue(segment)));
        cues.collect::<String>() + writing.end()
    }

    fn verbose(&self) -> Verbose<'_> {
        Verbose {
            task: "transcribe",
            language: self.language.as_deref(),
            duration: seconds(self.duration_ms),
            text: &self.text,
            segments: self
                .segments
                .iter()
                .enumerate()
                .map(|(id, segment)| VerboseSegment::of(id, segment))
                .collect(),
            usage: Usage::of(self.metered_ms),
        }
    }
}

/// At most half an hour's milliseconds: exact.
fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

/// A transcript as it is heard. All deltas one after the other are the text of its end.
#[derive(Default)]
pub(super) struct TextEvents {
    text: String,
}

impl TextEvents {
    fn delta(&mut self, more: &str) -> Bytes {
        if more.is_empty() {
            return Bytes::new();
        }
        let space = if self.text.is_empty() { "" } else { " " };
        let delta = format!("{space}{more}");
        self.text.push_str(&delta);
        event(&json!({"type": "transcript.text.delta", "delta": delta}))
    }
}

impl Writer for TextEvents {
    fn piece(&mut self, piece: &[u8]) -> Result<Bytes, ApiError> {
        Ok(self.delta(&Segment::read(piece)?.text))
    }

    fn end(&mut self, ended: &Ended) -> Result<Bytes, ApiError> {
        // Of a worker that has no pieces.
        let whole = Heard::default().whole(ended)?;
        let first = if self.text.is_empty() { self.delta(&whole.text) } else { Bytes::new() };
        let usage = Usage::of(whole.metered_ms);
        let done =
            event(&json!({"type": "transcript.text.done", "text": self.text, "usage": usage}));
        Ok([first, done].concat().into())
    }

    fn broken(&self, error: &ApiError) -> Option<Bytes> {
        Some(line(error.to_openai_json().as_bytes()))
    }
}

fn event(event: &serde_json::Value) -> Bytes {
    line(event.to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transcript(text: &str) -> Transcript {
        let segment = |start_ms, end_ms, text: &str| {
            Segment { start_ms, end_ms, text: text.to_owned() }.mended()
        };
        Transcript {
            text: text.to_owned(),
            segments: vec![
                segment(180, 1_900, text),
                segment(u64::MAX, 5, "1\n\n00:00:00,000 --> 00:00:01,000\n<b>Quiet & still."),
            ],
            language: Some("en".into()),
            duration_ms: 2_400,
            metered_ms: 2_001,
        }
    }

    #[test]
    fn every_shape_is_written() {
        let heard = transcript("The \"harbor\" is quiet.");
        let json = r#"{"text":"The \"harbor\" is quiet.","usage":{"type":"duration","seconds":3}}"#;
        assert_eq!(heard.written(Shape::Json), json);
        assert_eq!(heard.written(Shape::Text), "The \"harbor\" is quiet.\n");
        let verbose: serde_json::Value =
            serde_json::from_str(&heard.written(Shape::Verbose)).unwrap();
        assert_eq!((&verbose["duration"], &verbose["language"]), (&json!(2.4), &json!("en")));
        let first = &verbose["segments"][0];
        assert_eq!((&first["start"], &first["end"]), (&json!(0.18), &json!(1.9)));
        assert_eq!(first["no_speech_prob"], json!(null));
    }

    #[test]
    fn no_words_make_a_caption_that_was_not_said() {
        let heard = transcript("Hello.");
        let srt = heard.written(Shape::Srt);
        let expected = "1\n00:00:00,180 --> 00:00:01,900\nHello.\n\n2\n00:30:00,000 --> 00:30:00,000\n\
                        1 00:00:00,000 → 00:00:01,000 <b>Quiet & still.\n\n";
        assert_eq!(srt, expected);
        let vtt = heard.written(Shape::Vtt);
        assert!(vtt.starts_with("WEBVTT\n\n00:00:00.180 --> 00:00:01.900\nHello.\n\n"), "{vtt}");
        assert!(vtt.ends_with("→ 00:00:01,000 &lt;b>Quiet &amp; still.\n\n"), "{vtt}");
    }
}
