//! `mtor transcribe`: what is said in a recording, as it is heard.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, ValueEnum};
use mtor_client::{EventKind, Intent};
use mtor_sound::captions::{Captions, Cue, Writing, one_line};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::follow::{Shown, follow};
use super::realm::{RealmArgument, explain};
use super::work::Terms;
use super::{Context, block_on, input};
use crate::failure::Failure;

#[derive(Args)]
pub(crate) struct Arguments {
    /// The recording: WAV, FLAC, MP3, AAC in MP4, Opus in WebM or Ogg; - for standard input. At
    /// most 10 MB and 30 minutes
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// What the recording is, if its bytes do not say it: pcm16 (bare samples, 16,000 a second, one
    /// channel)
    #[arg(long, value_name = "KIND", value_parser = input::said)]
    format: Option<String>,
    /// What language is spoken
    #[arg(long, value_name = "LANGUAGE", value_parser = input::said)]
    language: Option<String>,
    /// Text alone, or subtitles with times
    #[arg(long = "as", value_enum, default_value_t, value_name = "FORM")]
    form: Form,
    #[command(flatten)]
    realm: RealmArgument,
    #[command(flatten)]
    terms: Terms,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Form {
    #[default]
    Text,
    Srt,
    Vtt,
}

/// What a realm takes of a recording.
const SOUND_BYTES_MAX: u64 = 10_000_000;

pub(crate) fn run(arguments: Arguments, context: &Context) -> Result<(), Failure> {
    let sound = input::bytes(&arguments.file, "FILE", SOUND_BYTES_MAX)?;
    block_on(Box::pin(transcribe(&arguments, &sound, context)))
        .map_err(|failure| explain(failure, context))
}

async fn transcribe(arguments: &Arguments, sound: &[u8], context: &Context) -> Result<(), Failure> {
    let client = arguments.realm.ensured(context).await?;
    let mut data = json!({"audio": STANDARD.encode(sound)});
    let said = [
        ("format", &arguments.format),
        ("language", &arguments.language),
        ("model", &arguments.terms.model),
    ];
    for (name, value) in said {
        if let Some(value) = value {
            data[name] = value.as_str().into();
        }
    }
    let data = serde_json::value::to_raw_value(&data).map_err(|error| Failure::caused(&error))?;
    let mut intent = Intent::new("transcribe", data);
    arguments.terms.apply(&mut intent);
    intent.stream = Some(true);
    let mut signals = context.interrupts.take()?;
    let stream = client.submit_streaming(&intent)?;
    let mut shown = Shown::heard(context.out, Transcript::new(arguments.form));
    let ended = follow(&client, stream, &mut shown, &mut signals).await?;
    if matches!(ended.end, Some(EventKind::Completed(_))) && shown.is_silent() {
        context.out.note(format_args!("nobody speaks in {}", name_of(&arguments.file)));
    }
    ended.result(context.out)
}

fn name_of(file: &Path) -> String {
    if file.as_os_str() == input::STDIN {
        "standard input".to_owned()
    } else {
        file.display().to_string()
    }
}

/// A stretch of speech.
#[derive(Deserialize)]
struct Segment {
    #[serde(default)]
    start_ms: u64,
    #[serde(default)]
    end_ms: u64,
    text: String,
}

#[derive(Deserialize)]
struct Heard {
    segments: Vec<Segment>,
}

/// Writes down what comes, stretch by stretch.
#[derive(Debug)]
pub(crate) struct Transcript {
    /// `None` is text alone.
    captions: Option<Writing>,
    is_silent: bool,
}

impl Transcript {
    fn new(form: Form) -> Self {
        let captions = match form {
            Form::Text => None,
            Form::Srt => Some(Captions::Srt),
            Form::Vtt => Some(Captions::Vtt),
        };
        Self { captions: captions.map(Writing::new), is_silent: true }
    }

    /// Nobody has spoken so far.
    pub(crate) fn is_silent(&self) -> bool {
        self.is_silent
    }

    /// What a piece adds to it.
    pub(crate) fn piece(&mut self, piece: &RawValue) -> Option<String> {
        let segment: Segment = serde_json::from_str(piece.get()).ok()?;
        Some(self.write(&segment))
    }

    /// The whole, where no piece came.
    pub(crate) fn whole(&mut self, result: &RawValue) -> Option<String> {
        let heard: Heard = serde_json::from_str(result.get()).ok()?;
        let cues: String = heard.segments.iter().map(|segment| self.write(segment)).collect();
        Some(cues + self.captions.map_or("", |captions| captions.end()))
    }

    fn write(&mut self, segment: &Segment) -> String {
        let Segment { start_ms, end_ms, text } = segment;
        self.is_silent = false;
        match &mut self.captions {
            None => format!("{}\n", one_line(text)),
            Some(captions) => captions.cue(Cue { start_ms: *start_ms, end_ms: *end_ms, text }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(value: &serde_json::Value) -> Box<RawValue> {
        serde_json::value::to_raw_value(value).unwrap()
    }

    #[test]
    fn stretches_are_lines_or_numbered_captions() {
        let first = raw(&json!({"start_ms": 80, "end_ms": 1_900, "text": "One\n\ntwo."}));
        let second = raw(&json!({"start_ms": 2_000, "end_ms": 3_000, "text": "Three."}));
        let write = |form| {
            let mut transcript = Transcript::new(form);
            let pieces = [transcript.piece(&first), transcript.piece(&second)];
            pieces.map(Option::unwrap).concat()
        };
        assert_eq!(write(Form::Text), "One two.\nThree.\n");
        let srt = write(Form::Srt);
        assert!(srt.starts_with("1\n00:00:00,080") && srt.contains("\n\n2\n00:00:02,000"), "{srt}");
        let vtt = write(Form::Vtt);
        assert!(vtt.starts_with("WEBVTT\n\n00:00:00.080"), "{vtt}");
        assert_eq!(vtt.matches("WEBVTT").count(), 1);
    }

    #[test]
    fn a_whole_is_written_as_its_pieces_are() {
        let result = raw(&json!({"text": "One. Two.", "segments": [
            {"start_ms": 0, "end_ms": 1, "text": "One."}, {"start_ms": 1, "end_ms": 2, "text": "Two."},
        ]}));
        let mut transcript = Transcript::new(Form::Text);
        assert_eq!(transcript.whole(&result).unwrap(), "One.\nTwo.\n");
        assert!(transcript.piece(&raw(&json!({"no": "speech"}))).is_none());
    }
}
