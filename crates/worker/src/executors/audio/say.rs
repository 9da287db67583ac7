//! `speak`: a text to a backend, its sound back as it comes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use http::{Response, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use mtor_sound::Kind;
use mtor_types::intent::Usage;
use mtor_types::worker::FailCode;
use serde::Deserialize;
use serde_json::json;

use super::count::{Count, Format, NoSound};
use super::{Ask, Audio, Intent, Named, raw};
use crate::executors::openai::{BROKE_OFF, Fields};
use crate::executors::{Job, Output};
use crate::leases::End;
use crate::limits;

/// What has to be known of a body.
#[derive(Deserialize)]
struct Data {
    input: String,
    #[serde(default)]
    voice: Option<serde_json::Value>,
    #[serde(default)]
    response_format: Option<String>,
}

/// A body as the backend gets it, and what was found in it.
struct Made {
    body: Bytes,
    input: String,
    voice: Option<String>,
    name: String,
    format: Format,
}

/// The backend's body: the client's, each value as it was written, but for
/// - `model`, which is the backend's own name;
/// - `response_format`: `wav` where it is absent, since backends differ in what that means;
/// - `voice`: where it is absent the one that the worker's own question was answered with;
/// - `stream` and `stream_format`, which are the realm's: what comes back is the sound.
fn make(data: &str, model: Option<&str>, voice: Option<&str>) -> Result<Made, End> {
    let expected = |_| End::bad_request("data: expected the data of `speak`");
    let Data { input, voice: asked, response_format } =
        serde_json::from_str(data).map_err(expected)?;
    let mut fields: Fields<'_> = serde_json::from_str(data).map_err(expected)?;
    let text = |text: &str| serde_json::to_string(text).map_err(expected);
    let name = response_format.unwrap_or_else(|| "wav".into());
    let format = match name.as_str() {
        "wav" => Format::Wav,
        "pcm" => Format::Pcm,
        "opus" => Format::Packed(Kind::Ogg),
        "mp3" => Format::Packed(Kind::Mp3),
        "flac" => Format::Packed(Kind::Flac),
        _ => {
            let message =
                "field `response_format`: this worker counts wav, pcm, opus, mp3 and flac";
            return Err(End::fail(FailCode::Unsupported, message, true));
        }
    };
    fields.set("response_format", &text(&name)?);
    if let Some(model) = model {
        fields.set("model", &text(model)?);
    }
    let asked = asked.filter(|asked| !asked.is_null());
    if let (None, Some(voice)) = (&asked, voice) {
        fields.set("voice", &text(voice)?);
    }
    fields.remove("stream");
    fields.remove("stream_format");
    let body = fields.text().map_err(expected)?.into();
    let voice = match &asked {
        Some(asked) => asked.as_str().map(str::to_owned),
        None => voice.map(str::to_owned),
    };
    Ok(Made { body, input, voice, name, format })
}

/// Sound on its way to the realm.
struct Spoken<'a> {
    output: &'a Output,
    stream: bool,
    count: Count,
    /// The most milliseconds that are paid.
    limit: Option<u64>,
    /// What the first piece says: a backend does not tell which words are where.
    text: &'a str,
    /// Sent in pieces, or kept for the whole.
    waiting: BytesMut,
    told_ms: u64,
}

impl Spoken<'_> {
    async fn take(&mut self, more: &[u8]) -> Result<(), End> {
        self.count.take(more).map_err(no_sound)?;
        let patience = self.limit.unwrap_or(mtor_sound::limits::LENGTH_MS_MAX);
        if self.count.ms() > patience.saturating_mul(2).saturating_add(limits::SILENCE_MS_MAX) {
            return Err(End::fail(FailCode::Backend, "the backend's sound has no end", false));
        }
        self.waiting.extend_from_slice(more);
        if !self.stream {
            if self.waiting.len() > limits::SOUND_BYTES_MAX {
                let message = "field `response_format`: the whole sound is too large for one \
                               answer: ask for opus, or for pieces with `stream`";
                return Err(End::fail(FailCode::Unsupported, message, false));
            }
            return Ok(());
        }
        while self.waiting.len() >= limits::SOUND_PIECE_BYTES_MIN && self.count.is_begun() {
            // Whole samples of 16 bits, for who plays each piece by itself.
            let some = self.waiting.len().min(limits::SOUND_PIECE_BYTES_MAX) & !1;
            let piece = self.waiting.split_to(some);
            self.piece(&piece, self.count.ms()).await?;
        }
        Ok(())
    }

    async fn piece(&mut self, bytes: &[u8], end_ms: u64) -> Result<(), End> {
        let start_ms = self.told_ms.min(end_ms);
        let text = std::mem::take(&mut self.text);
        let audio = STANDARD.encode(bytes);
        let piece = json!({"audio": audio, "start_ms": start_ms, "end_ms": end_ms, "text": text});
        self.told_ms = end_ms;
        let units = end_ms.min(self.limit.unwrap_or(end_ms));
        self.output.piece(raw(&piece)?, units).await.map_err(End::from)
    }
}

fn no_sound(NoSound(message): NoSound) -> End {
    End::backend(message)
}

/// Some say what went wrong with a good status.
fn check_kind(answer: &Response<Incoming>) -> Result<(), End> {
    let kind = answer.headers().get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let is_text = ["application/json", "text/"].iter().any(|text| kind.starts_with(text));
    if is_text { Err(End::backend("the backend's answer is no sound")) } else { Ok(()) }
}

impl Audio {
    pub(super) async fn say(&self, job: Job, output: &Output) -> Result<End, End> {
        let expected = |_| End::bad_request("data: expected the data of `speak`");
        let Named { model } = serde_json::from_str(job.data.get()).map_err(expected)?;
        let model = self.model(model.as_deref(), &job);
        let manner = self.manner(Intent::Speak, model.as_deref().unwrap_or_default());
        let Made { body, input, voice, name, format } =
            make(job.data.get(), model.as_deref(), manner.voice)?;
        let ask = Ask { path: "/v1/audio/speech", kind: "application/json".into(), body };
        let answer = self.ask(ask).await?;
        check_kind(&answer)?;
        let mut spoken = Spoken {
            output,
            stream: job.stream,
            count: Count::new(format),
            limit: job.limit,
            text: &input,
            waiting: BytesMut::new(),
            told_ms: 0,
        };
        let mut body = answer.into_body();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| End::backend(BROKE_OFF))?;
            if let Ok(data) = frame.into_data() {
                spoken.take(&data).await?;
            }
        }
        let rest = std::mem::take(&mut spoken.waiting);
        // Looked at before the last of it is sent.
        let rate = spoken.count.rate();
        let count = std::mem::replace(&mut spoken.count, Count::new(Format::Pcm));
        let ms = count.end().map_err(no_sound)?;
        let segment = json!({"start_ms": 0, "end_ms": ms, "text": input});
        let mut result = json!({"response_format": name, "duration_ms": ms, "segments": [segment]});
        if let Some(rate) = rate {
            result["rate"] = rate.into();
        }
        if let Some(voice) = voice {
            result["voice"] = voice.into();
        }
        if !job.stream {
            result["audio"] = STANDARD.encode(&rest).into();
        } else if !rest.is_empty() {
            spoken.piece(&rest, ms).await?;
        }
        let units = ms.min(job.limit.unwrap_or(ms));
        let usage = Usage { units, input: 0, output: units };
        Ok(End::Complete { usage, result: Some(raw(&result)?) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(data: &str, model: Option<&str>, voice: Option<&str>) -> String {
        String::from_utf8(make(data, model, voice).unwrap().body.into()).unwrap()
    }

    #[test]
    fn only_what_must_be_is_changed() {
        let data = r#"{"input":"h\u00e9","speed":1.0e0,"voice":{"id":"v"},"x":[1.50,  2],"response_format":"mp3"}"#;
        assert_eq!(body(data, None, Some("alloy")), data);
        assert_eq!(
            body(
                r#"{"model":"mouth","input":"x","stream":true,"stream_format":"sse"}"#,
                Some("tts-1"),
                None
            ),
            r#"{"model":"tts-1","input":"x","response_format":"wav"}"#
        );
        assert_eq!(
            body(r#"{"input":"x","voice":null}"#, Some("tts-1"), Some("alloy")),
            r#"{"input":"x","voice":"alloy","response_format":"wav","model":"tts-1"}"#
        );
        let refused = |data: &str| make(data, None, None).err().unwrap();
        let End::Fail { code, message, .. } = refused(r#"{"input":"x","response_format":"aac"}"#)
        else {
            panic!("not refused")
        };
        assert!(
            code == FailCode::Unsupported && message.contains("`response_format`"),
            "{message}"
        );
        for wrong in ["[]", "{}", r#"{"input":7}"#] {
            assert!(
                matches!(refused(wrong), End::Fail { code: FailCode::BadRequest, .. }),
                "{wrong}"
            );
        }
    }
}
