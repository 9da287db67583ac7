//! A question of the worker's own, before it offers a model: a sentence that must be understood, or
//! a word that must be heard. What comes back is looked at and forgotten.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use mtor_sound::{Kind, Samples};
use serde_json::json;
use tokio::time::timeout;

use super::hear::{Heard, Question, is_refused};
use super::{Ask, Audio, Intent, Manner};
use crate::http_client::{answer_to, status_of};
use crate::limits;

/// "It was the worst of times", by a synthetic voice: of models/tests/exec/data/spoken.ogg.
const SENTENCE: &[u8] = include_bytes!("sentence.wav");
const SENTENCE_MS: u64 = 2_000;
/// One of these is in it, whoever has heard it.
const WORDS: [&str; 2] = ["worst", "times"];
const TEXT: &str = "Hello, how are you?";
/// None, for servers that have one of their own; OpenAI's; Kokoro's.
const VOICES: [Option<&str>; 3] = [None, Some("alloy"), Some("af_heart")];
/// How loud the loudest sample of a word is at least: a hundredth.
const LOUD: f32 = 0.01;
const SPOKEN_MS: std::ops::RangeInclusive<u64> = 200..=30_000;

impl Audio {
    /// How the model wants to be asked; the error says why it is not to be offered.
    pub(super) async fn probe(
        &self,
        intent: Intent,
        id: &str,
        patience: Duration,
    ) -> Result<Manner, String> {
        let late = || format!("no answer within {} s", patience.as_secs());
        let asked = async {
            match intent {
                Intent::Transcribe => self.probe_hearing(id).await,
                Intent::Speak => self.probe_speech(id).await,
            }
        };
        timeout(patience, asked).await.map_err(|_| late())?
    }

    async fn probe_hearing(&self, id: &str) -> Result<Manner, String> {
        for verbose in [true, false] {
            let (model, kind) = (Some(id), Kind::Wav);
            let question = Question { model, language: Some("en"), verbose, sound: SENTENCE, kind };
            let ask = question.ask().map_err(|_| "no randomness".to_owned())?;
            let (status, body) = self.post(ask).await?;
            if is_refused(status) && verbose {
                continue;
            }
            status_of(status)?;
            let heard = Heard::read(&body, SENTENCE_MS).ok_or("its answer is no transcript")?;
            let text = heard.text.to_lowercase();
            return if WORDS.iter().any(|word| text.contains(word)) {
                Ok(Manner { verbose, voice: None })
            } else {
                Err("it does not understand a sentence".into())
            };
        }
        Err("it refuses a sound".into())
    }

    async fn probe_speech(&self, id: &str) -> Result<Manner, String> {
        for voice in VOICES {
            let mut body = json!({"model": id, "input": TEXT, "response_format": "wav"});
            if let Some(voice) = voice {
                body["voice"] = voice.into();
            }
            let (kind, body) = ("application/json".to_owned(), body.to_string().into());
            let (status, body) = self.post(Ask { path: "/v1/audio/speech", kind, body }).await?;
            if is_refused(status) && Some(&voice) != VOICES.last() {
                continue;
            }
            status_of(status)?;
            return check_sound(&body).map(|()| Manner { verbose: false, voice });
        }
        Err("it refuses a text".into())
    }

    async fn post(&self, ask: Ask) -> Result<(StatusCode, Bytes), String> {
        let request = self.request(Some(ask));
        let request = request.map_err(|_| "its address or key is wrong".to_owned())?;
        answer_to(&self.client, request, limits::PROBE_SOUND_BYTES_MAX).await
    }
}

/// WAV of a length that a word has, and not silent.
fn check_sound(body: &[u8]) -> Result<(), String> {
    let other = || "its answer is no WAV".to_owned();
    let length_ms = mtor_sound::length_ms(body.into(), Kind::Wav).map_err(|_| other())?;
    if !SPOKEN_MS.contains(&length_ms) {
        return Err(format!("it takes {length_ms} ms for a word"));
    }
    let mut samples = Samples::open(body.into(), Kind::Wav).map_err(|_| other())?;
    while let Some(some) = samples.read().map_err(|_| other())? {
        if some.iter().any(|sample| sample.abs() >= LOUD) {
            return Ok(());
        }
    }
    Err("it is silent".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sentence_is_a_sound_and_itself_no_word_that_is_silent() {
        let length_ms = mtor_sound::length_ms(SENTENCE.into(), Kind::Wav).unwrap();
        assert!(length_ms <= SENTENCE_MS, "{length_ms}");
        assert_eq!(check_sound(SENTENCE), Ok(()));
        let (head, samples) = SENTENCE.split_at(44);
        let silent = [head, &vec![0; samples.len()]].concat();
        assert_eq!(check_sound(&silent), Err("it is silent".into()));
        for wrong in [&b""[..], b"{}", head, &SENTENCE[..200]] {
            assert!(check_sound(wrong).is_err(), "{}", wrong.len());
        }
    }
}
