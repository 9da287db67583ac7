//! `transcribe`: a sound to a backend, its words back.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use mtor_sound::Kind;
use mtor_types::intent::Usage;
use mtor_types::text::is_plain;
use mtor_types::worker::FailCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::form::Form;
use super::{Ask, Audio, Intent, Named, raw};
use crate::executors::openai::BROKE_OFF;
use crate::executors::{Job, Output};
use crate::http_client::{BodyError, read_body};
use crate::leases::End;
use crate::limits;

#[derive(Deserialize)]
struct Data {
    audio: String,
    #[serde(default)]
    format: Option<String>,
    #[serde(default)]
    language: Option<String>,
}

/// What is sent of a question.
pub(super) struct Question<'a> {
    pub(super) model: Option<&'a str>,
    pub(super) language: Option<&'a str>,
    pub(super) verbose: bool,
    pub(super) sound: &'a [u8],
    pub(super) kind: Kind,
}

/// What a backend answers. What it says of times and language may be anything.
#[derive(Deserialize)]
struct Answer {
    text: String,
    #[serde(default)]
    language: Value,
    #[serde(default)]
    segments: Value,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Segment {
    start_ms: u64,
    end_ms: u64,
    text: String,
}

/// An answer as it is given on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Heard {
    pub(super) text: String,
    language: Option<String>,
    segments: Vec<Segment>,
}

impl Question<'_> {
    pub(super) fn ask(&self) -> Result<Ask, End> {
        let mut form = Form::new().ok_or_else(|| End::backend("no randomness"))?;
        for (name, value) in [("model", self.model), ("language", self.language)] {
            value.into_iter().for_each(|value| form.field(name, value));
        }
        form.field("response_format", if self.verbose { "verbose_json" } else { "json" });
        let (name, kind) = match self.kind {
            Kind::Pcm16 | Kind::Wav => ("sound.wav", "audio/wav"),
            Kind::Flac => ("sound.flac", "audio/flac"),
            Kind::Mp3 => ("sound.mp3", "audio/mpeg"),
            Kind::Mp4 => ("sound.mp4", "audio/mp4"),
            Kind::Ogg => ("sound.ogg", "audio/ogg"),
            Kind::Webm => ("sound.webm", "audio/webm"),
        };
        if self.kind == Kind::Pcm16 {
            form.file(name, kind, &wav(self.sound));
        } else {
            form.file(name, kind, self.sound);
        }
        let (kind, body) = form.done();
        Ok(Ask { path: "/v1/audio/transcriptions", kind, body })
    }
}

/// Samples of `pcm16` in a file that says so.
fn wav(samples: &[u8]) -> Vec<u8> {
    let bytes = u32::try_from(samples.len()).unwrap_or(u32::MAX);
    let mut wav = mtor_sound::wav::head(mtor_sound::RATE, Some(bytes)).to_vec();
    wav.extend(samples);
    wav
}

impl Heard {
    /// Reads an answer about a sound of that length; `None` if it is none.
    pub(super) fn read(body: &[u8], length_ms: u64) -> Option<Self> {
        let Answer { text, language, segments } = serde_json::from_slice(body).ok()?;
        let text = text.trim().to_owned();
        let language = language
            .as_str()
            .filter(|name| (1..=limits::NAME_BYTES_MAX).contains(&name.len()) && is_plain(name));
        let timed = segments.as_array().filter(|all| all.len() <= limits::SEGMENTS_MAX);
        let timed: Option<Vec<_>> =
            timed.and_then(|all| all.iter().map(|one| segment(one, length_ms)).collect());
        let whole = || Segment { start_ms: 0, end_ms: length_ms, text: text.clone() };
        let mut segments = timed.unwrap_or_default();
        segments.retain(|segment| !segment.text.is_empty());
        if segments.is_empty() && !text.is_empty() {
            segments.push(whole());
        }
        Some(Self { text, language: language.map(str::to_owned), segments })
    }
}

/// One with times that can be, within its sound.
fn segment(value: &Value, length_ms: u64) -> Option<Segment> {
    let time = |name: &str| {
        let seconds = value.get(name)?.as_f64().filter(|time| time.is_finite() && *time >= 0.0)?;
        // Saturates.
        Some(((seconds * 1000.0).round() as u64).min(length_ms))
    };
    let (start_ms, end_ms) = (time("start")?, time("end")?);
    let text = value.get("text")?.as_str()?.trim().to_owned();
    Some(Segment { start_ms, end_ms: end_ms.max(start_ms), text })
}

impl Audio {
    pub(super) async fn hear(&self, job: Job, output: &Output) -> Result<End, End> {
        let expected = |_| End::bad_request("data: expected the data of `transcribe`");
        let Named { model } = serde_json::from_str(job.data.get()).map_err(expected)?;
        let data: Data = serde_json::from_str(job.data.get()).map_err(expected)?;
        let model = self.model(model.as_deref(), &job);
        let wrong = |what: String| End::bad_request(format!("field `audio`: {what}"));
        let sound = STANDARD.decode(&data.audio).map_err(|_| wrong("not base64".into()))?;
        let kind = match &data.format {
            None => Kind::of(&sound).map_err(|fault| wrong(fault.to_string()))?,
            Some(name) => {
                let expected = || End::bad_request("field `format`: not a kind of sound");
                Kind::named(name).ok_or_else(expected)?
            }
        };
        let length_ms = mtor_sound::length_ms(sound.clone().into(), kind);
        let length_ms = length_ms.map_err(|fault| wrong(fault.to_string()))?;
        let manner = self.manner(Intent::Transcribe, model.as_deref().unwrap_or_default());
        let question = Question {
            model: model.as_deref(),
            language: data.language.as_deref(),
            verbose: manner.verbose,
            sound: &sound,
            kind,
        };
        let ask = question.ask()?;
        drop((job.data, data.audio));
        let answer = self.ask(ask).await?;
        let body = read_body(answer.into_body(), limits::TRANSCRIPT_BYTES_MAX).await;
        let body = body.map_err(|error| match error {
            BodyError::TooLarge => {
                End::fail(FailCode::Backend, "the backend's answer is above 4 MiB", false)
            }
            BodyError::Lost => End::backend(BROKE_OFF),
        })?;
        let Heard { text, language, segments } = Heard::read(&body, length_ms)
            .ok_or_else(|| End::backend("the backend's answer is no transcript"))?;
        let units = length_ms.min(job.limit.unwrap_or(length_ms));
        if job.stream {
            for segment in &segments {
                output.piece(raw(&json!(segment))?, segment.end_ms.min(units)).await?;
            }
        }
        let (language, heard) = (language.or(data.language), text.len() as u64);
        let mut result = json!({"text": text, "duration_ms": length_ms, "segments": segments});
        if let Some(language) = language {
            result["language"] = language.into();
        }
        let usage = Usage { units, input: units, output: heard };
        Ok(End::Complete { usage, result: Some(raw(&result)?) })
    }
}

/// Whether another way of asking may do.
pub(super) fn is_refused(status: StatusCode) -> bool {
    matches!(status.as_u16(), 400 | 404 | 415 | 422)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Option<Heard> {
        Heard::read(body.as_bytes(), 2_000)
    }

    fn segment(start_ms: u64, end_ms: u64, text: &str) -> Segment {
        Segment { start_ms, end_ms, text: text.into() }
    }

    #[test]
    fn an_answer_is_read_and_its_times_stay_within_the_sound() {
        let heard = read(
            r#"{"text":" One. Two. ","language":"english","duration":9e9,"segments":[
                {"start":0.1,"end":0.9,"text":" One. "},{"start":1,"end":1e300,"text":"Two."},
                {"start":1.5,"end":0,"text":"Back."},{"start":3,"end":4,"text":" "}]}"#,
        );
        let segments = vec![
            segment(100, 900, "One."),
            segment(1_000, 2_000, "Two."),
            segment(1_500, 1_500, "Back."),
        ];
        let language = Some("english".into());
        assert_eq!(heard, Some(Heard { text: "One. Two.".into(), language, segments }));
        let silent = read(r#"{"text":"  ","segments":[]}"#).unwrap();
        assert_eq!((silent.text.as_str(), silent.segments), ("", vec![]));
    }

    #[test]
    fn without_times_that_can_be_all_of_it_is_one_stretch() {
        let many = format!("[{}7]", "7,".repeat(limits::SEGMENTS_MAX));
        for segments in [
            "null",
            "7",
            r#"[{"start":-1,"end":2,"text":"One."}]"#,
            r#"[{"start":0,"end":null,"text":"One."}]"#,
            r#"[{"start":0,"end":1}]"#,
            &many,
        ] {
            let heard = read(&format!(r#"{{"text":"One.","segments":{segments},"language":7}}"#));
            assert_eq!(heard.unwrap().segments, [segment(0, 2_000, "One.")], "{segments}");
        }
        for none in ["", "[]", "{}", r#"{"text":7}"#, r#"{"text":"x","segments":[NaN]}"#, "One."] {
            assert_eq!(read(none), None, "{none}");
        }
    }

    #[test]
    fn bare_samples_are_sent_in_a_file() {
        let file = wav(&[1, 2, 3, 4]);
        assert_eq!(mtor_sound::length_ms(wav(&[0; 32_000]).into(), Kind::Wav), Ok(1_000));
        assert!(
            file.starts_with(b"RIFF\x28\0\0\0WAVE")
                && file.ends_with(b"\x04\0\0\0\x01\x02\x03\x04")
        );
    }
}
