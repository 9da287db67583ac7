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
use std::time::Instant;

use anyhow::Context as _;
use mtor_sound::{RATE, Samples};
use ort::environment::Environment;
use serde_json::{Value, json};

use crate::files::TranscribeFiles;
use crate::inbox::Inbox;
use crate::protocol::{Assign, Key, Offer, Outbox, Refusal, Usage};
use crate::service::{self, Stopped};
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

struct Job {
    request: TranscribeRequest,
    stream: bool,
    deadline: Option<Instant>,
}

pub struct Transcribe {
    inbox: Arc<Inbox<Job>>,
}

/// One slot.
struct Worker {
    moonshine: Moonshine,
    detector: Detector,
    inbox: Arc<Inbox<Job>>,
    outbox: Arc<Outbox>,
}

impl From<anyhow::Error> for Stopped {
    fn from(error: anyhow::Error) -> Self {
        Self::Refused(Refusal::backend(format!("onnxruntime failed: {error}; try again"), true))
    }
}

/// What is loaded and not yet at work.
pub struct Ready {
    transcribe: Transcribe,
    workers: Vec<Worker>,
}

impl Ready {
    /// # Errors
    /// A file that is not the right one; a model that does not answer.
    pub fn load(
        environment: &Environment,
        files: &TranscribeFiles,
        threads: usize,
        outbox: &Arc<Outbox>,
    ) -> anyhow::Result<Self> {
        let vocabulary = std::fs::read(&files.tokens).context("the vocabulary cannot be read")?;
        let tokens = Tokens::read(&vocabulary).context("the vocabulary is another file")?;
        let tokens = Arc::new(tokens);
        let inbox = Arc::new(Inbox::new(WAITING_MAX));
        let mut workers = Vec::new();
        for _ in 0..SLOTS {
            let tokens = Arc::clone(&tokens);
            let mut worker = Worker {
                moonshine: Moonshine::load(environment, files, threads / SLOTS, tokens)?,
                detector: Detector::load(environment, files)?,
                inbox: Arc::clone(&inbox),
                outbox: Arc::clone(outbox),
            };
            worker.answer_one().context("the model that hears does not answer")?;
            workers.push(worker);
        }
        Ok(Self { transcribe: Transcribe { inbox }, workers })
    }

    /// What is said in a WAV, to see whether it is understood.
    ///
    /// # Errors
    /// A sound that is none, or a model that fails.
    pub fn hear_one(&mut self, wav: Vec<u8>) -> anyhow::Result<String> {
        let worker = self.workers.first_mut().context("there is no slot")?;
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
    pub fn start(self) -> anyhow::Result<(Transcribe, Vec<JoinHandle<()>>)> {
        let mut handles = Vec::new();
        for mut worker in self.workers {
            let thread = std::thread::Builder::new().name("transcribe".into());
            handles.push(thread.spawn(move || worker.run())?);
        }
        Ok((self.transcribe, handles))
    }
}

impl Transcribe {
    pub fn offer(&self) -> Offer {
        Offer { intent: "transcribe", model: MODEL, slots: SLOTS, context: None }
    }

    pub fn revoke(&self, key: &Key) {
        self.inbox.revoke(key);
    }

    pub fn close(&self) {
        self.inbox.close();
    }

    pub fn assign(&self, assign: &Assign) -> Result<(), Refusal> {
        let request = request::parse(&assign.body()?)?;
        let deadline = service::deadline(assign);
        let job = Job { request, stream: assign.stream, deadline };
        service::queue(&self.inbox, assign.key(), job, SLOTS)
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

    fn run(&mut self) {
        let (inbox, outbox) = (Arc::clone(&self.inbox), Arc::clone(&self.outbox));
        service::run(&inbox, &outbox, |key, job| self.serve(key, job));
    }

    fn serve(&mut self, key: &Key, job: &Job) -> Result<(Usage, Value), Stopped> {
        let TranscribeRequest { sound, kind, length_ms } = &job.request;
        let fault = |fault| Stopped::Refused(Refusal::bad_request(format!("audio: {fault}")));
        let mut samples = Samples::open(Arc::clone(sound), *kind).map_err(fault)?;
        let mut writer = Writer {
            moonshine: &mut self.moonshine,
            inbox: &self.inbox,
            outbox: &self.outbox,
            key,
            job,
            segments: Vec::new(),
        };
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
    inbox: &'a Inbox<Job>,
    outbox: &'a Outbox,
    key: &'a Key,
    job: &'a Job,
    segments: Vec<Value>,
}

impl Writer<'_> {
    /// Whether it is still wanted.
    fn look_up(&self) -> Result<(), Stopped> {
        if self.inbox.is_revoked(self.key) || self.inbox.is_closed() {
            return Err(Stopped::Revoked);
        }
        if self.job.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            let text = "deadline passed before the sound's end; send a shorter one";
            return Err(Stopped::Refused(Refusal::backend(text, false)));
        }
        Ok(())
    }

    fn write(&mut self, utterance: &Utterance) -> Result<(), Stopped> {
        let (inbox, key, deadline) = (self.inbox, self.key, self.job.deadline);
        let is_over = || {
            inbox.is_revoked(key)
                || inbox.is_closed()
                || deadline.is_some_and(|deadline| deadline <= Instant::now())
        };
        let Some(text) = self.moonshine.hear(&utterance.samples, is_over)? else {
            // It says which of the two it was.
            self.look_up()?;
            return Err(Stopped::Revoked);
        };
        if text.is_empty() {
            return Ok(());
        }
        // The last window may reach beyond the sound.
        let ms = |samples: usize| {
            (samples as u64 * 1000 / u64::from(RATE)).min(self.job.request.length_ms)
        };
        let (start, end) = (ms(utterance.from), ms(utterance.from + utterance.samples.len()));
        let segment = json!({"start_ms": start, "end_ms": end, "text": text});
        if self.job.stream {
            let seq = self.segments.len() as u64;
            self.outbox.chunk(self.key, seq, end, &segment);
        }
        self.segments.push(segment);
        Ok(())
    }
}
