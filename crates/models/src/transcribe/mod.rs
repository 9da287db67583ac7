//! `transcribe` on onnxruntime: Silero's detector finds who speaks, Moonshine tiny-en writes it down.
//!
//! Invariants: a sound is read and cut while it is decoded, and one utterance is held at a time;
//! silence gives an empty text; units are the milliseconds of the whole sound, as its packets count
//! them, however much of it was speech.

mod moonshine;
pub mod request;
mod tokens;
mod utterances;

use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::Context as _;
use mtor_sound::{RATE, Samples};
use ort::environment::Environment;
use serde_json::{Value, json};

use crate::files::TranscribeFiles;
use crate::protocol::{Assign, Key, Offer, Outbox, Refusal, Usage};
use crate::slots::{Asked, Slots, Stopped};
use moonshine::Moonshine;
use request::{LANGUAGE, TranscribeRequest};
use tokens::Tokens;
use utterances::{Cutter, Detector, Utterance};

pub const MODEL: &str = "moonshine-tiny-en";
/// Requests that wait for a slot; beyond it they are refused with `retry`. Each may hold ten
/// megabytes.
pub const WAITING_MAX: usize = 8;
/// Requests served at once, each on sessions and a thread of its own.
pub const SLOTS: usize = 1;

pub struct Transcribe {
    slots: Slots<TranscribeRequest>,
}

/// One slot.
struct Worker {
    moonshine: Moonshine,
    detector: Detector,
}

/// What is loaded and not yet at work.
pub struct Ready(Vec<Worker>);

impl Ready {
    /// # Errors
    /// A file that is not the right one; a model that does not answer.
    pub fn load(
        environment: &Environment,
        files: &TranscribeFiles,
        threads: usize,
    ) -> anyhow::Result<Self> {
        let vocabulary = std::fs::read(&files.tokens).context("the vocabulary cannot be read")?;
        let tokens = Tokens::read(&vocabulary).context("the vocabulary is another file")?;
        let tokens = Arc::new(tokens);
        let mut workers = Vec::new();
        for _ in 0..SLOTS {
            let tokens = Arc::clone(&tokens);
            let mut worker = Worker {
                moonshine: Moonshine::load(environment, files, threads / SLOTS, tokens)?,
                detector: Detector::load(environment, files)?,
            };
            worker.answer_one().context("the model that hears does not answer")?;
            workers.push(worker);
        }
        Ok(Self(workers))
    }

    /// What is said in a WAV, to see whether it is understood.
    ///
    /// # Errors
    /// A sound that is none, or a model that fails.
    pub fn hear_one(&mut self, wav: Vec<u8>) -> anyhow::Result<String> {
        let worker = self.0.first_mut().context("there is no slot")?;
        let mut samples = Samples::open(wav.into(), mtor_sound::Kind::Wav)?;
        let mut all = Vec::new();
        while let Some(more) = samples.read()? {
            all.extend(more);
        }
        let heard = worker.moonshine.hear(&all, || false)?;
        heard.context("it was stopped")
    }

    /// Starts the threads, which end when this is closed.
    ///
    /// # Errors
    /// A thread that the system does not give.
    pub fn start(self, outbox: &Arc<Outbox>) -> anyhow::Result<(Transcribe, Vec<JoinHandle<()>>)> {
        let slots = Slots::new(SLOTS, WAITING_MAX);
        let mut handles = Vec::new();
        for mut worker in self.0 {
            handles.push(slots.start("transcribe", outbox, move |asked| worker.serve(asked))?);
        }
        Ok((Transcribe { slots }, handles))
    }
}

impl Transcribe {
    pub fn offer(&self) -> Offer {
        self.slots.offer("transcribe", MODEL, None)
    }

    pub fn revoke(&self, key: &Key) {
        self.slots.revoke(key);
    }

    pub fn close(&self) {
        self.slots.close();
    }

    pub fn assign(&self, assign: &Assign) -> Result<(), Refusal> {
        self.slots.assign(assign, request::parse(&assign.body()?)?)
    }
}

impl Worker {
    /// A second of silence: no speech is found, and the model gives its end all the same.
    fn answer_one(&mut self) -> anyhow::Result<()> {
        let silence = vec![0.0; RATE as usize];
        let mut cutter = Cutter::new(&mut self.detector);
        let heard = cutter.more(&silence)?;
        anyhow::ensure!(heard.is_empty(), "the detector hears speech in silence");
        self.moonshine.hear(&silence, || false).map(drop)
    }

    fn serve(&mut self, asked: Asked<'_, TranscribeRequest>) -> Result<(Usage, Value), Stopped> {
        let TranscribeRequest { sound, kind, length_ms } = asked.request();
        let fault = |fault| Stopped::Refused(Refusal::bad_request(format!("audio: {fault}")));
        let mut samples = Samples::open(Arc::clone(sound), *kind).map_err(fault)?;
        let mut writer = Writer { moonshine: &mut self.moonshine, asked, segments: Vec::new() };
        let mut cutter = Cutter::new(&mut self.detector);
        while let Some(more) = samples.read().map_err(fault)? {
            writer.look_up()?;
            for utterance in cutter.more(&more)? {
                writer.write(&utterance)?;
            }
        }
        if let Some(last) = cutter.rest()? {
            writer.write(&last)?;
        }
        let texts = writer.segments.iter().filter_map(|segment| segment["text"].as_str());
        let text = texts.collect::<Vec<_>>().join(" ");
        let output = text.len() as u64;
        let result = json!({
            "text": text, "language": LANGUAGE, "duration_ms": length_ms,
            "segments": writer.segments,
        });
        Ok((Usage { units: *length_ms, input: *length_ms, output }, result))
    }
}

/// Writes down utterance by utterance.
struct Writer<'a> {
    moonshine: &'a mut Moonshine,
    asked: Asked<'a, TranscribeRequest>,
    segments: Vec<Value>,
}

impl Writer<'_> {
    fn look_up(&self) -> Result<(), Stopped> {
        self.asked.look_up(|| "before the sound's end; send a shorter one".to_owned())
    }

    fn write(&mut self, utterance: &Utterance) -> Result<(), Stopped> {
        let asked = self.asked;
        let Some(text) = self.moonshine.hear(&utterance.samples, || asked.is_over())? else {
            // It says which of the two it was.
            self.look_up()?;
            return Err(Stopped::Revoked);
        };
        if text.is_empty() {
            return Ok(());
        }
        // The last window may reach beyond the sound.
        let ms = |samples: usize| {
            (samples as u64 * 1000 / u64::from(RATE)).min(asked.request().length_ms)
        };
        let (start, end) = (ms(utterance.from), ms(utterance.from + utterance.samples.len()));
        let segment = json!({"start_ms": start, "end_ms": end, "text": text});
        if asked.streams() {
            let seq = self.segments.len() as u64;
            asked.chunk(seq, end, &segment);
        }
        self.segments.push(segment);
        Ok(())
    }
}
