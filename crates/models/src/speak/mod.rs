//! `speak` on onnxruntime: Kokoro-82M says what espeak-ng has made phonemes of.
//!
//! Invariants: a text is said part by part, and a part is sent as soon as it is said; the bytes of
//! all parts are one file; units are the milliseconds of the sound so far. What cannot be said, such
//! as an emoji, is left out; if nothing is left the sound is empty.

mod espeak;
mod kokoro;
mod phonemes;
pub mod request;
mod sound;
mod text;
pub mod voices;

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ort::environment::Environment;
use serde_json::{Value, json};

use crate::files::{self, SpeakFiles};
use crate::inbox::Inbox;
use crate::protocol::{Assign, Key, Offer, Outbox, Refusal, Usage};
use crate::service::{self, Stopped};
use espeak::Espeak;
use kokoro::Kokoro;
use request::SpeakRequest;
use sound::{Encoder, RATE};
use text::{English, Part, Pause};

pub const MODEL: &str = "kokoro-82m";
/// Requests that wait for a slot; beyond it they are refused with `retry`.
pub const WAITING_MAX: usize = 8;
/// Requests served at once, each on a session and a thread of its own.
pub const SLOTS: usize = 1;
/// Bytes of a sound that is sent as a whole: in base64, with its texts, it fits a frame of the worker
/// protocol (16 MiB).
const WHOLE_BYTES_MAX: u64 = 12_400_000;
/// A token is about so long at the ordinary speed; with a fifth less a text is refused before it is
/// said only if there is no doubt.
const TOKEN_MS_MIN: f64 = 50.0;

struct Job {
    request: SpeakRequest,
    stream: bool,
    deadline: Option<Instant>,
}

pub struct Speak {
    inbox: Arc<Inbox<Job>>,
}

/// One slot.
struct Worker {
    voice: Voice,
    inbox: Arc<Inbox<Job>>,
    outbox: Arc<Outbox>,
}

/// What is loaded and not yet at work.
pub struct Ready {
    speak: Speak,
    workers: Vec<Worker>,
}

impl Ready {
    /// # Errors
    /// A file that is not the right one.
    pub fn load(
        environment: &Environment,
        files: &SpeakFiles,
        threads: usize,
        outbox: &Arc<Outbox>,
    ) -> anyhow::Result<Self> {
        let espeak = Espeak::load(&files.espeak, &files.espeak_data)?;
        let inbox = Arc::new(Inbox::new(WAITING_MAX));
        let mut workers = Vec::new();
        for _ in 0..SLOTS {
            let kokoro = Kokoro::load(environment, files, threads / SLOTS)?;
            let voice = Voice { kokoro, espeak, folder: files.voices.clone() };
            let (inbox, outbox) = (Arc::clone(&inbox), Arc::clone(outbox));
            workers.push(Worker { voice, inbox, outbox });
        }
        Ok(Self { speak: Speak { inbox }, workers })
    }

    /// A sentence as a WAV, to see whether somebody understands it.
    ///
    /// # Errors
    /// A voice that says nothing, or does not stop.
    pub fn say_one(&mut self, sentence: &str) -> anyhow::Result<Vec<u8>> {
        let worker = self.workers.first_mut().context("there is no slot")?;
        let samples = worker.voice.say(sentence, voices::DEFAULT, 1.0, &|| false)?;
        let samples = samples.context("it was stopped")?;
        // A character takes some 70 ms to say.
        let per_character =
            samples.len() as u64 * 1000 / u64::from(RATE) / sentence.len().max(1) as u64;
        ensure!(
            (20..400).contains(&per_character),
            "a sentence takes {per_character} ms a character"
        );
        let mut encoder = Encoder::new(sound::Format::Wav)?;
        let mut wav = encoder.more(&samples)?;
        sound::complete(sound::Format::Wav, &mut wav);
        Ok(wav)
    }

    /// Starts the threads, which end when this is closed.
    ///
    /// # Errors
    /// A thread that the system does not give.
    pub fn start(self) -> anyhow::Result<(Speak, Vec<JoinHandle<()>>)> {
        let mut handles = Vec::new();
        for mut worker in self.workers {
            let thread = std::thread::Builder::new().name("speak".into());
            handles.push(thread.spawn(move || worker.run())?);
        }
        Ok((self.speak, handles))
    }
}

impl Speak {
    pub fn offer(&self) -> Offer {
        Offer { intent: "speak", model: MODEL, slots: SLOTS, context: None }
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

/// From words to samples.
struct Voice {
    kokoro: Kokoro,
    espeak: Espeak,
    folder: PathBuf,
}

impl Voice {
    fn phonemes(&self, spoken: &str, english: English) -> anyhow::Result<String> {
        let mut said = String::new();
        let mut rest = spoken;
        while !rest.is_empty() {
            let end = rest.find(|c: char| ".,!?;:…".contains(c)).unwrap_or(rest.len());
            let (words, left) = rest.split_at(end);
            said += &phonemes::translate(&self.espeak.phonemes(words, english)?, english);
            let mark = left.chars().next();
            said.extend(mark);
            rest = &left[mark.map_or(0, char::len_utf8)..];
            if rest.starts_with(' ') {
                said.push(' ');
            }
        }
        Ok(said)
    }

    /// `None` if it was told to stop.
    fn say(
        &mut self,
        spoken: &str,
        voice: &str,
        speed: f32,
        is_over: &(impl Fn() -> bool + Sync),
    ) -> anyhow::Result<Option<Vec<f32>>> {
        let file = std::fs::read(self.folder.join(files::voice(voice)));
        let file = file.with_context(|| format!("the voice {voice} cannot be read"))?;
        let said = self.phonemes(spoken, voices::english(voice))?;
        let mut samples = Vec::new();
        for run in phonemes::runs(&said) {
            let tokens = phonemes::tokens(run);
            if tokens.is_empty() {
                continue;
            }
            let style = voices::style(&file, tokens.len()).context("the voice is another file")?;
            let Some(more) = self.kokoro.say(&tokens, style, speed, is_over)? else {
                return Ok(None);
            };
            samples.extend(more);
        }
        Ok(Some(samples))
    }
}

impl Worker {
    fn run(&mut self) {
        let (inbox, outbox) = (Arc::clone(&self.inbox), Arc::clone(&self.outbox));
        service::run(&inbox, &outbox, |key, job| self.serve(key, job));
    }

    fn serve(&mut self, key: &Key, job: &Job) -> Result<(Usage, Value), Stopped> {
        let request = &job.request;
        let parts = text::parts(&request.input, voices::english(request.voice));
        if !job.stream {
            self.check_length(&parts, request)?;
        }
        let mut speaker = Speaker::new(self, key, job)?;
        for (at, part) in parts.iter().enumerate() {
            let is_last = at + 1 == parts.len();
            speaker.say(part, is_last)?;
        }
        speaker.end()
    }

    /// What would not fit is refused before it is said, if that is sure.
    fn check_length(&self, parts: &[Part], request: &SpeakRequest) -> Result<(), Stopped> {
        let mut tokens = 0;
        for part in parts {
            let said = self.voice.phonemes(&part.spoken, voices::english(request.voice))?;
            tokens += phonemes::tokens(&said).len();
        }
        let ms = tokens as f64 * TOKEN_MS_MIN / f64::from(request.speed);
        if request.format.bytes(ms as u64) > WHOLE_BYTES_MAX {
            Err(too_long().into())
        } else {
            Ok(())
        }
    }
}

fn too_long() -> Refusal {
    Refusal::bad_request(format!(
        "input: its sound is longer than the {WHOLE_BYTES_MAX} bytes that are sent as a whole; send \
         stream true, or response_format opus"
    ))
}

/// Says part by part.
struct Speaker<'a> {
    voice: &'a mut Voice,
    inbox: &'a Inbox<Job>,
    outbox: &'a Outbox,
    key: &'a Key,
    job: &'a Job,
    encoder: Encoder,
    /// What is not sent in pieces.
    whole: Vec<u8>,
    samples: u64,
    segments: Vec<Value>,
    /// The last piece: it is sent with the file's end.
    held: Option<(Vec<u8>, Value)>,
}

impl<'a> Speaker<'a> {
    fn new(worker: &'a mut Worker, key: &'a Key, job: &'a Job) -> anyhow::Result<Self> {
        Ok(Self {
            voice: &mut worker.voice,
            inbox: &worker.inbox,
            outbox: &worker.outbox,
            key,
            job,
            encoder: Encoder::new(job.request.format)?,
            whole: Vec::new(),
            samples: 0,
            segments: Vec::new(),
            held: None,
        })
    }

    fn is_over(inbox: &Inbox<Job>, key: &Key, deadline: Option<Instant>) -> bool {
        inbox.is_revoked(key)
            || inbox.is_closed()
            || deadline.is_some_and(|deadline| deadline <= Instant::now())
    }

    /// Whether it is still wanted.
    fn look_up(&self) -> Result<(), Stopped> {
        if self.inbox.is_revoked(self.key) || self.inbox.is_closed() {
            return Err(Stopped::Revoked);
        }
        if self.job.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            let text = "deadline passed before the text's end; send a shorter one";
            return Err(Refusal::backend(text, false).into());
        }
        Ok(())
    }

    fn ms(&self) -> u64 {
        self.samples * 1000 / u64::from(RATE)
    }

    fn say(&mut self, part: &Part, is_last: bool) -> Result<(), Stopped> {
        self.look_up()?;
        let SpeakRequest { voice, speed, .. } = self.job.request;
        let (inbox, key, deadline) = (self.inbox, self.key, self.job.deadline);
        let is_over = || Self::is_over(inbox, key, deadline);
        let Some(mut samples) = self.voice.say(&part.spoken, voice, speed, &is_over)? else {
            // It says which of the two it was.
            self.look_up()?;
            return Err(Stopped::Revoked);
        };
        if samples.is_empty() {
            return Ok(());
        }
        let start = self.ms();
        self.samples += samples.len() as u64;
        let end = self.ms();
        if !is_last {
            let silence = pause(part.pause, speed);
            samples.resize(samples.len() + silence, 0.0);
            self.samples += silence as u64;
        }
        let bytes = self.encoder.more(&samples)?;
        let segment = json!({"start_ms": start, "end_ms": end, "text": part.text});
        self.segments.push(segment.clone());
        if self.job.stream {
            self.send(bytes, segment, is_last);
        } else {
            self.whole.extend(bytes);
            if self.whole.len() as u64 > WHOLE_BYTES_MAX {
                return Err(too_long().into());
            }
        }
        Ok(())
    }

    /// The piece before goes out: only the last is kept, for the end of the file belongs to it.
    fn send(&mut self, bytes: Vec<u8>, segment: Value, is_last: bool) {
        if is_last {
            self.held = Some((bytes, segment));
        } else {
            self.piece(&bytes, segment);
        }
    }

    fn piece(&self, bytes: &[u8], mut segment: Value) {
        segment["audio"] = STANDARD.encode(bytes).into();
        let seq = self.segments.len() as u64 - 1;
        self.outbox.chunk(self.key, seq, self.ms(), &segment);
    }

    fn end(mut self) -> Result<(Usage, Value), Stopped> {
        let request = &self.job.request;
        let rest = std::mem::replace(&mut self.encoder, Encoder::Pcm).end()?;
        let mut result = json!({
            "response_format": request.format.name(), "rate": RATE, "voice": request.voice,
            "duration_ms": self.ms(), "segments": self.segments,
        });
        if self.job.stream {
            if let Some((mut bytes, segment)) = self.held.take() {
                bytes.extend(rest);
                self.piece(&bytes, segment);
            } else if !rest.is_empty() {
                let segment = json!({"start_ms": self.ms(), "end_ms": self.ms(), "text": ""});
                self.segments.push(segment.clone());
                self.piece(&rest, segment);
            }
        } else {
            self.whole.extend(rest);
            sound::complete(request.format, &mut self.whole);
            result["audio"] = STANDARD.encode(&self.whole).into();
        }
        let input = request.input.len() as u64;
        Ok((Usage { units: self.ms(), input, output: self.ms() }, result))
    }
}

/// Samples of silence behind a part.
fn pause(pause: Pause, speed: f32) -> usize {
    let ms = match pause {
        Pause::Short => 120.0,
        Pause::Sentence => 220.0,
        Pause::Paragraph => 400.0,
    };
    // A fraction of a second, at a quarter of the speed.
    (ms / speed * RATE as f32 / 1000.0) as usize
}
