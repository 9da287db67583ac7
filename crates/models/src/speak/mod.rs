//! `speak` on onnxruntime: Kokoro-82M says what espeak-ng has made phonemes of; or Debian's `flite` on
//! a machine that is too slow for it.
//!
//! Invariants: a text is said part by part, and a part is sent as soon as it is said; the bytes of
//! all parts are one file; units are the milliseconds of the sound so far. What cannot be said, such
//! as an emoji, is left out; if nothing is left the sound is empty.

mod espeak;
mod flite;
mod kokoro;
mod phonemes;
pub mod request;
mod sound;
mod text;
pub mod voices;

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::ValueEnum;
use ort::environment::Environment;
use serde_json::{Value, json};

use crate::files::{self, SpeakFiles};
use crate::protocol::{Assign, Key, Offer, Outbox, Refusal, Usage};
use crate::service;
use crate::slots::{Asked, Slots, Stopped};
use espeak::Espeak;
use kokoro::Kokoro;
use request::SpeakRequest;
use sound::{Encoder, RATE};
use text::{English, Part, Pause};
use voices::Speaker as Who;

/// Requests that wait for a slot; beyond it they are refused with `retry`.
pub const WAITING_MAX: usize = 8;
/// Requests served at once, each on a session and a thread of its own.
pub const SLOTS: usize = 1;
/// Bytes of a sound that is sent as a whole: in base64, with its texts, it fits a frame of the worker
/// protocol (16 MiB).
const WHOLE_BYTES_MAX: u64 = 12_400_000;
/// Bytes of the sound of one piece: what is said in one go at a quarter of the speed may be more, and
/// then goes out as more than one.
const PIECE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of a sound that is sent in pieces: in base64, with its texts, the realm keeps it whole for who
/// reads it again (64 MiB).
const STREAM_BYTES_MAX: u64 = 48_000_000;
/// A token is about so long at the ordinary speed; with a fifth less a text is refused before it is
/// said only if there is no doubt.
const TOKEN_MS_MIN: f64 = 50.0;

pub struct Speak {
    who: Who,
    slots: Slots<SpeakRequest>,
}

/// One slot.
struct Worker {
    voice: Voice,
}

/// What is loaded and not yet at work.
pub struct Ready(Vec<Worker>);

impl Ready {
    /// # Errors
    /// A file that is not the right one.
    pub fn load(
        environment: &Environment,
        files: &SpeakFiles,
        threads: usize,
    ) -> anyhow::Result<Self> {
        let espeak = Espeak::load(&files.espeak, &files.espeak_data)?;
        let mut workers = Vec::new();
        for _ in 0..SLOTS {
            let kokoro = Kokoro::load(environment, files, threads / SLOTS)?;
            let voice = Voice::Kokoro { kokoro, espeak, folder: files.voices.clone() };
            workers.push(Worker { voice });
        }
        Ok(Self(workers))
    }

    /// A sentence as a WAV, to see whether somebody understands it. Says, too, who speaks from now on:
    /// where Kokoro takes longer than its sound it is flite, if that is there.
    ///
    /// # Errors
    /// A voice that says nothing, or does not stop.
    pub fn say_one(&mut self, sentence: &str, wish: Wish) -> anyhow::Result<Vec<u8>> {
        let voice = &mut self.0.first_mut().context("there is no slot")?.voice;
        let mut kokoro = || {
            let begin = Instant::now();
            let said = voice.say(sentence, voices::DEFAULT, 1.0, &|| false)?;
            Ok((said.context("it was stopped")?, begin.elapsed()))
        };
        let flite = || {
            let said = flite::say(sentence, Who::Flite.default_voice(), 1.0, &|| false)?;
            said.context("it was stopped")
        };
        let Choice { who, samples, told } = choose(wish, &mut kokoro, flite)?;
        told.iter().for_each(|told| service::complain(told));
        if who == Who::Flite {
            // Kokoro's memory goes with it.
            self.0.iter_mut().for_each(|worker| worker.voice = Voice::Flite);
        }
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
    pub fn start(self, outbox: &Arc<Outbox>) -> anyhow::Result<(Speak, Vec<JoinHandle<()>>)> {
        let who = self.0.first().context("there is no slot")?.voice.who();
        let slots = Slots::new(SLOTS, WAITING_MAX);
        let mut handles = Vec::new();
        for mut worker in self.0 {
            handles.push(slots.start("speak", outbox, move |asked| worker.serve(asked))?);
        }
        Ok((Speak { who, slots }, handles))
    }
}

/// Who is to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Wish {
    /// kokoro-82m, or flite where kokoro-82m is slower than speech.
    Auto,
    #[value(name = "kokoro-82m")]
    Kokoro,
    Flite,
}

struct Choice {
    who: Who,
    samples: Vec<f32>,
    /// For the operator.
    told: Option<String>,
}

/// Who speaks, by a sentence that Kokoro says at most twice: the better time counts, for the first of a
/// program is slower.
fn choose(
    wish: Wish,
    kokoro: &mut dyn FnMut() -> anyhow::Result<(Vec<f32>, Duration)>,
    flite: impl FnOnce() -> anyhow::Result<Vec<f32>>,
) -> anyhow::Result<Choice> {
    if wish == Wish::Flite {
        return Ok(Choice { who: Who::Flite, samples: flite()?, told: None });
    }
    let (samples, mut took) = kokoro()?;
    let sound = Duration::from_secs_f64(samples.len() as f64 / f64::from(RATE));
    if wish == Wish::Kokoro || took <= sound {
        return Ok(Choice { who: Who::Kokoro, samples, told: None });
    }
    took = took.min(kokoro()?.1);
    if took <= sound {
        return Ok(Choice { who: Who::Kokoro, samples, told: None });
    }
    let slow =
        format!("kokoro-82m is slower than speech here: {took:.1?} for {sound:.1?} of sound");
    Ok(match flite() {
        Ok(samples) => {
            Choice { who: Who::Flite, samples, told: Some(format!("{slow}; flite speaks")) }
        }
        Err(error) => {
            let told = format!(
                "{slow}; it speaks all the same, and flite would if it were installed ({error:#})"
            );
            Choice { who: Who::Kokoro, samples, told: Some(told) }
        }
    })
}

impl Speak {
    pub fn model(&self) -> &'static str {
        self.who.model()
    }

    pub fn offer(&self) -> Offer {
        self.slots.offer("speak", self.model(), None)
    }

    pub fn revoke(&self, key: &Key) {
        self.slots.revoke(key);
    }

    pub fn close(&self) {
        self.slots.close();
    }

    pub fn assign(&self, assign: &Assign) -> Result<(), Refusal> {
        self.slots.assign(assign, request::parse(&assign.body()?, self.who)?)
    }
}

/// From words to samples.
enum Voice {
    Kokoro { kokoro: Kokoro, espeak: Espeak, folder: PathBuf },
    Flite,
}

fn phonemes_of(espeak: Espeak, spoken: &str, english: English) -> anyhow::Result<String> {
    let mut said = String::new();
    let mut rest = spoken;
    while !rest.is_empty() {
        let end = rest.find(|c: char| ".,!?;:…".contains(c)).unwrap_or(rest.len());
        let (words, left) = rest.split_at(end);
        said += &phonemes::translate(&espeak.phonemes(words, english)?, english);
        let mark = left.chars().next();
        said.extend(mark);
        rest = &left[mark.map_or(0, char::len_utf8)..];
        if rest.starts_with(' ') {
            said.push(' ');
        }
    }
    Ok(said)
}

impl Voice {
    fn who(&self) -> Who {
        match self {
            Self::Kokoro { .. } => Who::Kokoro,
            Self::Flite => Who::Flite,
        }
    }

    /// `None` if it was told to stop.
    fn say(
        &mut self,
        spoken: &str,
        voice: &str,
        speed: f32,
        is_over: &(impl Fn() -> bool + Sync),
    ) -> anyhow::Result<Option<Vec<f32>>> {
        let (kokoro, espeak, folder) = match self {
            Self::Kokoro { kokoro, espeak, folder } => (kokoro, *espeak, folder),
            Self::Flite => return flite::say(spoken, voice, speed, is_over),
        };
        let file = std::fs::read(folder.join(files::voice(voice)));
        let file = file.with_context(|| format!("the voice {voice} cannot be read"))?;
        let said = phonemes_of(espeak, spoken, voices::english(voice))?;
        let mut samples = Vec::new();
        for run in phonemes::runs(&said) {
            let tokens = phonemes::tokens(run);
            if tokens.is_empty() {
                continue;
            }
            let style = voices::style(&file, tokens.len()).context("the voice is another file")?;
            let Some(more) = kokoro.say(&tokens, style, speed, is_over)? else {
                return Ok(None);
            };
            samples.extend(more);
        }
        Ok(Some(samples))
    }
}

impl Worker {
    fn serve(&mut self, asked: Asked<'_, SpeakRequest>) -> Result<(Usage, Value), Stopped> {
        let request = asked.request();
        let parts = text::parts(&request.input, voices::english(request.voice));
        self.check_length(&parts, request, asked.streams())?;
        let mut speaker = Speaker::new(&mut self.voice, asked)?;
        for (at, part) in parts.iter().enumerate() {
            let is_last = at + 1 == parts.len();
            speaker.say(part, is_last)?;
        }
        speaker.end()
    }

    /// What would not fit is refused before it is said, if that is sure.
    fn check_length(
        &self,
        parts: &[Part],
        request: &SpeakRequest,
        streams: bool,
    ) -> Result<(), Stopped> {
        let Voice::Kokoro { espeak, .. } = self.voice else { return Ok(()) };
        let mut tokens = 0;
        for part in parts {
            let said = phonemes_of(espeak, &part.spoken, voices::english(request.voice))?;
            tokens += phonemes::tokens(&said).len();
        }
        let ms = tokens as f64 * TOKEN_MS_MIN / f64::from(request.speed);
        check_bytes(request.format.bytes(ms as u64), streams)
    }
}

fn check_bytes(bytes: u64, stream: bool) -> Result<(), Stopped> {
    let told = match stream {
        true if bytes > STREAM_BYTES_MAX => format!(
            "input: its sound is longer than the {STREAM_BYTES_MAX} bytes that are sent in pieces; \
             send response_format opus, a higher speed or a shorter text"
        ),
        false if bytes > WHOLE_BYTES_MAX => format!(
            "input: its sound is longer than the {WHOLE_BYTES_MAX} bytes that are sent as a whole; \
             send stream true, or response_format opus"
        ),
        true | false => return Ok(()),
    };
    Err(Refusal::bad_request(told).into())
}

/// Says part by part.
struct Speaker<'a> {
    voice: &'a mut Voice,
    asked: Asked<'a, SpeakRequest>,
    encoder: Encoder,
    /// What is not sent in pieces.
    whole: Vec<u8>,
    /// Of the sound until now, and of pieces.
    bytes: u64,
    pieces: u64,
    samples: u64,
    segments: Vec<Value>,
    /// The last piece: it is sent with the file's end.
    held: Option<(Vec<u8>, Value)>,
}

impl<'a> Speaker<'a> {
    fn new(voice: &'a mut Voice, asked: Asked<'a, SpeakRequest>) -> anyhow::Result<Self> {
        Ok(Self {
            voice,
            asked,
            encoder: Encoder::new(asked.request().format)?,
            whole: Vec::new(),
            bytes: 0,
            pieces: 0,
            samples: 0,
            segments: Vec::new(),
            held: None,
        })
    }

    fn look_up(&self) -> Result<(), Stopped> {
        self.asked.look_up(|| "before the text's end; send a shorter one".to_owned())
    }

    fn ms(&self) -> u64 {
        self.samples * 1000 / u64::from(RATE)
    }

    fn say(&mut self, part: &Part, is_last: bool) -> Result<(), Stopped> {
        self.look_up()?;
        let asked = self.asked;
        let SpeakRequest { voice, speed, .. } = *asked.request();
        let is_over = || asked.is_over();
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
        self.bytes += bytes.len() as u64;
        check_bytes(self.bytes, asked.streams())?;
        let segment = json!({"start_ms": start, "end_ms": end, "text": part.text});
        self.segments.push(segment.clone());
        if asked.streams() {
            self.send(bytes, segment, is_last);
        } else {
            self.whole.extend(bytes);
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

    fn piece(&mut self, bytes: &[u8], segment: Value) {
        for piece in cut(bytes, segment) {
            self.asked.chunk(self.pieces, self.ms(), &piece);
            self.pieces += 1;
        }
    }

    fn end(mut self) -> Result<(Usage, Value), Stopped> {
        let request = self.asked.request();
        let rest = std::mem::replace(&mut self.encoder, Encoder::Pcm).end()?;
        let mut result = json!({
            "response_format": request.format.name(), "rate": RATE, "voice": request.voice,
            "duration_ms": self.ms(), "segments": self.segments,
        });
        if self.asked.streams() {
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

/// A segment with its sound, as pieces that fit a frame: the words stand in the first.
fn cut(bytes: &[u8], mut segment: Value) -> impl Iterator<Item = Value> {
    bytes.chunks(PIECE_BYTES_MAX).map(move |bytes| {
        let mut piece = segment.clone();
        piece["audio"] = STANDARD.encode(bytes).into();
        segment["start_ms"] = segment["end_ms"].clone();
        segment["text"] = "".into();
        piece
    })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::tests::models_dir;

    #[test]
    fn no_character_becomes_more_phonemes_than_it_is_held_for() {
        let files = files::speak(&models_dir()).expect("models missing: run `make models`");
        let espeak = Espeak::load(&files.espeak, &files.espeak_data).unwrap();
        for unit in [
            "7",
            "777777777777777 ",
            "7\u{b0}C ",
            "W",
            "WW ",
            "w w ",
            "\u{b1}",
            "\u{221a}",
            "\u{be}",
            "\u{f7}",
            ">",
            "<= ",
            "\u{db} ",
            "\u{42f}\u{6f22}",
            "\u{6f22}a",
            "\u{1200}",
            "\u{1200}a",
            "\u{1200}\u{3002}",
            "\u{3c5}",
            "7m\u{b2} ",
            "5GB ",
            "w.w.",
            "wxwxwx",
            "a@w ",
            "TL;DR ",
            "PhD ",
            "7:77 ",
            "1/7/77 ",
            "#7 ",
            "x7 ",
        ] {
            for repeat in [1, 2, 30] {
                let text = unit.repeat(repeat);
                let characters = text.chars().count();
                for english in [English::American, English::British] {
                    let parts = text::parts(&text, english);
                    let tokens: usize = parts
                        .iter()
                        .map(|part| phonemes_of(espeak, &part.spoken, english).unwrap())
                        .map(|said| phonemes::tokens(&said).len())
                        .sum();
                    // At the 100 ms that one takes at most on the average it is within the realm's
                    // two seconds a character.
                    assert!(tokens <= 18 * characters, "{unit:?} x {repeat}: {tokens} tokens");
                }
            }
        }
    }

    #[test]
    fn every_piece_of_a_part_at_the_lowest_speed_is_far_below_a_frame() {
        let bytes: Vec<u8> = (0..3 * PIECE_BYTES_MAX + 5).map(|at| (at % 251) as u8).collect();
        let segment = json!({"start_ms": 7, "end_ms": 9, "text": "777"});
        let pieces: Vec<Value> = cut(&bytes, segment).collect();
        assert_eq!(pieces.len(), 4);
        assert!(pieces.iter().all(|piece| piece.to_string().len() < 8 * 1024 * 1024));
        let sound = |piece: &Value| STANDARD.decode(piece["audio"].as_str().unwrap()).unwrap();
        assert_eq!(pieces.iter().flat_map(sound).collect::<Vec<u8>>(), bytes);
        let place = |piece: &Value| (piece["start_ms"].clone(), piece["text"].clone());
        assert_eq!(place(&pieces[0]), (json!(7), json!("777")));
        assert_eq!(place(&pieces[3]), (json!(9), json!("")));
        assert_eq!(cut(&[], json!({})).count(), 0);
    }

    #[test]
    fn what_cannot_be_read_again_is_refused_and_the_remedy_named() {
        let told = |bytes, stream| match check_bytes(bytes, stream) {
            Ok(()) => String::new(),
            Err(Stopped::Refused(refusal)) => refusal.message,
            Err(Stopped::Revoked) => "revoked".to_owned(),
        };
        assert_eq!(told(WHOLE_BYTES_MAX, false), "");
        assert!(told(WHOLE_BYTES_MAX + 1, false).contains("send stream true"));
        assert_eq!(told(STREAM_BYTES_MAX, true), "");
        assert!(told(STREAM_BYTES_MAX + 1, true).contains("opus, a higher speed"));
    }

    /// Kokoro at these times for a second of sound, and flite, if it is there.
    fn chosen(wish: Wish, times: &[u64], is_there: bool) -> (Who, usize, Option<String>) {
        let mut times = times.iter();
        let mut kokoro = || {
            let ms = *times.next().context("it was not to speak")?;
            Ok((vec![0.5; RATE as usize], Duration::from_millis(ms)))
        };
        let flite = || if is_there { Ok(vec![0.5; 7]) } else { anyhow::bail!("no such program") };
        let choice = choose(wish, &mut kokoro, flite).unwrap();
        (choice.who, choice.samples.len(), choice.told)
    }

    #[test]
    fn flite_speaks_where_kokoro_is_slower_than_speech_at_its_best() {
        let second = RATE as usize;
        for (wish, times, is_there, expected) in [
            (Wish::Auto, &[900][..], true, (Who::Kokoro, second, "")),
            (Wish::Auto, &[1_000], false, (Who::Kokoro, second, "")),
            (Wish::Auto, &[3_000, 800], true, (Who::Kokoro, second, "")),
            (Wish::Auto, &[3_000, 1_200], true, (Who::Flite, 7, "1.2s for 1.0s of sound; flite")),
            (Wish::Auto, &[1_500, 2_000], false, (Who::Kokoro, second, "(no such program)")),
            (Wish::Kokoro, &[9_000], true, (Who::Kokoro, second, "")),
            (Wish::Flite, &[], true, (Who::Flite, 7, "")),
        ] {
            let (who, samples, told) = chosen(wish, times, is_there);
            assert_eq!((who, samples), (expected.0, expected.1), "{wish:?} {times:?}");
            assert_eq!(told.is_none(), expected.2.is_empty(), "{told:?}");
            assert!(told.unwrap_or_default().contains(expected.2));
        }
    }
}
